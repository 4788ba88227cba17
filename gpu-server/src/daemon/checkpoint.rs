//! Hellos that ask for the session of a process: to be suspended, or to go on.
//!
//! *Rules:* a process is known by its number, its namespace of numbers and its machine, as both it and the asker have said; that counts only among sessions of the asker's own
//! tenant, by its token, and there of the lease that the hello names, or of the same user. What nobody may know is answered as what is not there. A client that waits is told so from time to
//! time; one that is gone takes its order back.

use std::time::Duration;

use protocol::hello::{
    self, Accepted, Answer, Checkpoint, CheckpointDone, Hello, HelloReply, Identity, RefusalCode,
    Refused, Waiting,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Daemon;
use super::answers::server_info;
use super::handshake::{self, Client};
use crate::pool::{Caller, InvalidName, LeaseId};
use crate::registry::{NotOrdered, Order};

/// How often a client hears that it still waits.
const TELL: Duration = Duration::from_secs(10);

/// `CUDA_ERROR_INVALID_VALUE`, `CUDA_ERROR_NOT_READY`.
const INVALID_VALUE: u32 = 1;
const NOT_READY: u32 = 600;

fn done(result: u32) -> CheckpointDone {
    CheckpointDone {
        result,
        ..CheckpointDone::default()
    }
}

impl Daemon {
    /// Answers with what comes of it.
    pub(super) fn answer_checkpoint(
        &mut self,
        client: Client,
        hello: Hello,
        version: u32,
        caller: &Caller,
    ) {
        let mut accepted = Accepted {
            version,
            server: Some(server_info(&self.devices)),
            ..Accepted::default()
        };
        let asked = hello.checkpoint.clone().unwrap_or_default();
        let order = match self.session_of(&hello, &asked, caller) {
            Ok(Some(session)) => self.workers.checkpoint(session, asked),
            Ok(None) => Err(NotOrdered::Gone),
            Err(refused) => return self.refuse(client, refused),
        };
        match order {
            Ok(order) => drop(tokio::spawn(keep(client, order, accepted))),
            Err(not) => {
                accepted.checkpoint = Some(done(match not {
                    NotOrdered::Gone => INVALID_VALUE,
                    NotOrdered::Busy => NOT_READY,
                }));
                tokio::spawn(handshake::reply(client, accepted.into()));
            }
        }
    }

    /// The session of the process that is meant.
    fn session_of(
        &self,
        hello: &Hello,
        asked: &Checkpoint,
        caller: &Caller,
    ) -> Result<Option<u64>, Refused> {
        let wrong = |error: InvalidName| hello::refusal(RefusalCode::Lease, error.to_string());
        let named: Option<LeaseId> = match hello.lease.as_str() {
            "" => None,
            name => Some(name.parse().map_err(wrong)?),
        };
        let asker = hello.identity.clone().unwrap_or_default();
        let is_meant = |identity: &Identity, lease: &LeaseId| {
            let scheduler = &self.leases.scheduler;
            let is_own = scheduler
                .lease(lease)
                .is_some_and(|lease| lease.belongs_to(caller));
            let is_under = match &named {
                Some(named) => named == lease,
                None => identity.user == asker.user,
            };
            is_own && is_under && is_process(identity, &asker, asked.process)
        };
        Ok(self.workers.last_of(is_meant))
    }
}

/// Whether this is the process of a number, as the asker numbers processes.
fn is_process(identity: &Identity, asker: &Identity, process: u32) -> bool {
    identity.process == process
        && identity.host == asker.host
        && !asker.process_namespace.is_empty()
        && identity.process_namespace == asker.process_namespace
}

/// Keeps a client until it is answered, or gone.
async fn keep(mut client: Client, mut order: Order, mut accepted: Accepted) {
    let mut again = interval_at(Instant::now() + TELL, TELL);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_there = tokio::select! {
            biased;
            answer = order.answer() => {
                accepted.checkpoint = Some(answer.unwrap_or(done(INVALID_VALUE)));
                return handshake::reply(client, accepted.into()).await;
            }
            _ = again.tick() => {
                let waiting = Waiting {
                    position: 1,
                    reason: "the process is not done with what it does".to_owned(),
                };
                let answer = Some(Answer::Waiting(waiting));
                client.tell(HelloReply { answer }).await.is_ok()
            }
            () = client.says_anything() => false,
        };
        if !is_there {
            tracing::info!(client = client.name(), "gone while it waited for a process");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_one_of_the_same_numbers_on_the_same_machine() {
        let asker = Identity {
            host: "h".to_owned(),
            process: 7,
            process_namespace: "boot pid:[1]".to_owned(),
            ..Identity::default()
        };
        let target = Identity {
            process: 9,
            ..asker.clone()
        };
        assert!(is_process(&target, &asker, 9));
        assert!(!is_process(&target, &asker, 7));
        let elsewhere = Identity {
            host: "other".to_owned(),
            ..target.clone()
        };
        assert!(!is_process(&elsewhere, &asker, 9));
        let in_container = Identity {
            process_namespace: "boot pid:[2]".to_owned(),
            ..target.clone()
        };
        assert!(!is_process(&in_container, &asker, 9));
        let unknown = Identity {
            process_namespace: String::new(),
            ..target
        };
        let asker = Identity {
            process_namespace: String::new(),
            ..asker
        };
        assert!(!is_process(&unknown, &asker, 9), "nobody knows");
    }
}
