//! Access between contexts: what is known of it follows what the driver does.

use driver_api::result::CUresult;
use driver_api::wire::request as r;

use super::super::memory::CHUNK_BYTES;
use super::{CONTEXT, client, fake, map};

#[test]
fn access_that_the_driver_does_not_take_away_stays() {
    const PEER: u32 = 2;
    let (mut client, base) = client();
    client
        .ask(&r::GpurunPrimaryRetain::new(0, PEER, 0), &[])
        .expect("retained");
    let peer = client.session.contexts.get(PEER).expect("a context");
    let peer = peer.handle().0;
    let map_for_peer = |client: &mut super::Client, place: u64| {
        let address = base + place * CHUNK_BYTES;
        client.context = PEER;
        map(client, address, CHUNK_BYTES);
        client.context = CONTEXT;
        fake::accesses(address)
    };
    assert_eq!(map_for_peer(&mut client, 0), 1, "its own");
    let [enable, disable] = [1, 0].map(|enabled| r::GpurunPeerAccess::new(PEER, enabled));
    client.ask(&enable, &[]).expect("enabled");
    assert_eq!(map_for_peer(&mut client, 1), 2);
    fake::keep_peer(peer, true);
    assert_eq!(client.ask(&disable, &[]), Err(CUresult::UNKNOWN));
    assert_eq!(map_for_peer(&mut client, 2), 2, "what is made later too");
    fake::keep_peer(peer, false);
    client.ask(&disable, &[]).expect("disabled");
    assert_eq!(map_for_peer(&mut client, 3), 1);
}
