//! A program that leases for itself and waits: its connection while it does.
//!
//! Why a task of its own: the connection has to be told where it stands, and it may end at any time. Rules: a client that says
//! anything before it is answered breaks the protocol and loses its place; one that takes nothing is gone soon; what is granted to
//! one that has just gone is given back.

use std::time::Duration;

use protocol::hello::{HelloReply, Refused, Waiting};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::handshake::{self, Client};
use super::{Event, Granted};
use crate::pool::{Place, RequestId};

/// How often a client hears that it still waits: so it can tell a server that is gone from one that is busy.
const TELL: Duration = Duration::from_secs(10);

/// What the daemon says to a client that waits.
pub(super) enum Word {
    /// Where it stands.
    Place(Place),
    /// Its session begins.
    Granted(Box<Granted>),
    /// It gets nothing.
    Refused(Refused),
}

/// Keeps a client until it is answered, or gone.
pub(super) async fn keep(
    mut client: Client,
    request: RequestId,
    mut words: mpsc::UnboundedReceiver<Word>,
    events: mpsc::Sender<Event>,
) {
    let mut again = interval_at(Instant::now() + TELL, TELL);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut place = None;
    loop {
        let is_there = tokio::select! {
            biased;
            word = words.recv() => match word {
                Some(Word::Place(told)) => {
                    let told = place.insert(told);
                    tell(&mut client, told).await
                }
                Some(Word::Granted(granted)) => {
                    // It fails only when the daemon is ending.
                    let _ = events.send(Event::Granted(client, granted)).await;
                    return;
                }
                Some(Word::Refused(refused)) => return handshake::reply(client, refused.into()).await,
                // The daemon is ending.
                None => return,
            },
            _ = again.tick() => match &place {
                Some(told) => tell(&mut client, told).await,
                None => true,
            },
            () = client.says_anything() => false,
        };
        if !is_there {
            tracing::info!(client = client.name(), %request, "gone while it waited");
            break;
        }
    }
    // It may have been granted meanwhile.
    words.close();
    while let Some(word) = words.recv().await {
        if let Word::Granted(granted) = word {
            let _ = events.send(Event::NobodyCame(granted)).await;
        }
    }
    let _ = events.send(Event::Withdrawn(request)).await;
}

/// Tells a client where it stands; whether it took it.
async fn tell(client: &mut Client, place: &Place) -> bool {
    let waiting = Waiting {
        position: place.position,
        reason: place.reason.clone(),
    };
    let answer = Some(protocol::hello::Answer::Waiting(waiting));
    client.tell(HelloReply { answer }).await.is_ok()
}
