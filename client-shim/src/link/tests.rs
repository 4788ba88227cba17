//! A link whose server is the test.

use std::io::IoSlice;

use protocol::transport::memory::{Faults, pair};

use super::*;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

struct Ignored;

impl Sink for Ignored {
    fn completed(&self, _: u32, _: u64, _: CUresult) {}

    fn fault(&self, _: u32, _: CUresult, _: &str) {}
}

/// A link, and the server's end of its connection.
fn link() -> (Arc<Link>, Connection) {
    let (ours, theirs) = pair(&Faults::default());
    let link = Link::start(ours, Box::new(Ignored)).expect("threads");
    (link, theirs)
}

fn send(server: &mut Connection, header: FrameHeader, payload: &[u8]) {
    let sent = server.sender.send(&header, &[IoSlice::new(payload)]);
    sent.expect("sent");
}

fn numbered(kind: FrameKind, sequence: u64) -> FrameHeader {
    FrameHeader {
        sequence,
        ..FrameHeader::new(kind)
    }
}

/// Waits until the link is lost; why it is.
fn lost(link: &Link) -> String {
    let end = Instant::now() + PATIENCE;
    let waited = link.wait_until(|| Instant::now() > end);
    assert_eq!(waited, Err(Lost), "it goes on");
    link.reason.wait().clone()
}

#[test]
fn what_a_server_must_not_send_ends_it() {
    let beyond = FrameHeader {
        acknowledged: 1,
        ..FrameHeader::new(FrameKind::Heartbeat)
    };
    let attempts = [
        (numbered(FrameKind::Completions, 2), "out of order"),
        (numbered(FrameKind::Heartbeat, 1), "out of order"),
        (beyond, "received more than was sent"),
        (numbered(FrameKind::Calls, 1), "it sent calls"),
    ];
    for (header, why) in attempts {
        let (link, mut server) = link();
        send(&mut server, header, &[]);
        let reason = lost(&link);
        assert!(reason.contains(why), "{why}: {reason}");
    }
}

#[test]
fn nothing_is_written_beside_the_memory_that_was_asked_for() {
    const ASKED: std::ops::Range<usize> = 100..164;
    // More than was asked for, other bytes than the next, another transfer, and twice.
    let attempts: [&[(u64, u64, usize)]; 4] = [
        &[(1, 0, 65)],
        &[(1, 1, 8)],
        &[(2, 0, 8)],
        &[(1, 0, 64), (1, 0, 64)],
    ];
    for frames in attempts {
        let (link, mut server) = link();
        let mut memory = [7_u8; 300];
        let place = memory[ASKED].as_mut_ptr();
        #[expect(unsafe_code, reason = "as the shim expects bytes")]
        // SAFETY: the memory outlives the transfer, which is withdrawn below.
        let transfer = unsafe { link.expect_transfer(place, ASKED.len()) };
        assert_eq!(transfer.number, 1);
        for (index, (number, offset, length)) in frames.iter().enumerate() {
            let header = FrameHeader {
                sequence: index as u64 + 1,
                ..FrameHeader::bulk(*number, *offset)
            };
            send(&mut server, header, &vec![0; *length]);
        }
        let reason = lost(&link);
        assert!(reason.contains("was not asked for"), "{frames:?}: {reason}");
        link.withdraw_transfer(&transfer);
        let around = memory[..ASKED.start].iter().chain(&memory[ASKED.end..]);
        assert!(around.copied().all(|byte| byte == 7), "{frames:?}");
    }
}

#[test]
fn the_last_words_of_a_server_are_read_though_it_takes_nothing_more() {
    let (link, mut server) = link();
    let reader = link.incoming.try_read().expect("nobody reads");
    let goodbye = numbered(FrameKind::Goodbye, 1);
    send(&mut server, goodbye, b"this program was silent");
    server.interrupt.shutdown();
    drop(reader);
    // Whoever is first, the sender or a reader, says the same.
    assert_eq!(link.outgoing.heartbeat(&link), Err(Lost));
    assert_eq!(lost(&link), "the server ended it: this program was silent");
}
