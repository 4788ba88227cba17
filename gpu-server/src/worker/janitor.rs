//! Gives memory back on a thread of its own, because unmapping and freeing may wait for the device.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use driver_api::result::CUresult;
use driver_api::wire::TICKET_STREAM;

use super::context::Context;
use super::ipc;
use super::memory::Mapping;
use super::session::Session;

/// How long it waits for work before it looks whether the session is over.
const PARK: Duration = Duration::from_secs(1);

/// Memory to give back.
pub(crate) struct Job {
    /// The context it was mapped in.
    pub(crate) context: Arc<Context>,
    /// What to give back.
    pub(crate) mapping: Mapping,
    /// What to tell the client then.
    pub(crate) ticket: u64,
}

/// Hands a job to the janitor.
pub(crate) fn hand_over(jobs: &Sender<Job>, job: Job) {
    // It fails only while the process ends.
    let _ = jobs.send(job);
}

/// The janitor's thread.
pub(crate) fn run(session: &Session, jobs: &Receiver<Job>) {
    while !session.end.is_over() {
        let job = match jobs.recv_timeout(PARK) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                ipc::tend(session.driver, &session.memory);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Once the driver has it back, it may place another allocation there at any time; while it is being unmapped, nobody else
        // may map there.
        if job.mapping.is_placed_by_driver() {
            session.memory.forget(&job.mapping);
        }
        let result = job.mapping.give_back_leaving(session, &job.context);
        if !job.mapping.is_placed_by_driver() {
            session.memory.forget(&job.mapping);
        }
        if let Err(error) = result
            && job.context.is_alive()
        {
            tracing::warn!(address = job.mapping.address, %error, "giving memory back failed");
        }
        ipc::tend(session.driver, &session.memory);
        let result = result.err().filter(|_| job.context.is_alive());
        let result = result.unwrap_or(CUresult::SUCCESS);
        session.outbox.completion(TICKET_STREAM, result, job.ticket);
        session.outbox.flush();
    }
}
