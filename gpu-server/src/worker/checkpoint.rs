//! Checkpoints: the session stands still, gives up its memory, takes it again and goes on, as the daemon says.
//!
//! *What:* the driver does it all to its own process, by `cuCheckpointProcess*` with this worker's number; the worker sees to it that nothing of its own is in the way, and keeps the
//! lease's ledger. *Why here and not by the asker's worker:* a process may suspend itself, so no process has to reach into another, which a worker may not. *Rules:*
//! - Calls of the client wait before a [door](driver_api::door) of the worker's own, which is closed first: so no executor stands still inside the driver with what others need, a turn of the gate
//!   among it.
//! - What the client had posted before a lock is begun before it: it is asked for what it holds idle, and answers behind that.
//! - A lock is tried for a while, and then again for a longer one: between two tries everything goes on for a moment, since what is waited for may need the client, as a stream does that runs a function of
//!   the program's. Who gives up, and whose time is over, leaves the session running.
//! - What a checkpointed session has taken of its lease is given back, and taken again before the driver restores it, or there is none of it: CUDA_ERROR_OUT_OF_MEMORY, and it stays checkpointed.
//! - Orders come on threads of their own: a driver that stands still holds up no other order, nor the daemon.
//!
//! ```text
//! daemon ── CheckpointOrder ──▶ registry's thread ──▶ a thread: door, driver, accounts ── Checkpointed ──▶ daemon
//! ```
//!
//! # Safety
//! The driver's functions get this process's own number, and arguments that live as long as the call.
#![expect(unsafe_code, reason = "calls the driver")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use driver_api::Driver;
use driver_api::abi::{CUcheckpointGpuPair, CUcheckpointLockArgs, CUcheckpointRestoreArgs, CUuuid};
use driver_api::checkpoint::state;
use driver_api::result::CUresult;
use driver_api::wire::RECALL_STREAM;
use protocol::hello::control::CheckpointOrder;
use protocol::hello::{Checkpoint, CheckpointDone, CheckpointOperation, DevicePair};

use super::call::Current;
use super::end::lock;
use super::pace;
use super::session::Session;
use crate::driver::cuda;
use crate::registry::{self, Task};

/// How long a lock is tried at first; each try is twice as long as the one before.
const FIRST_TRY: Duration = Duration::from_millis(100);

/// How long the client has to say that all it has posted is here.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Calls for idle credit above this are this module's: those of the ledger have 32 bits.
const OWN_CALLS: u64 = 1 << 32;

/// How long everything goes on between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// How often a try looks whether the session's work is done.
const LOOK: Duration = Duration::from_micros(200);

/// What the worker knows of its orders.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// Held by who changes the state.
    changing: Mutex<()>,
    /// The last call for idle credit of this module's, and the last that is answered.
    called: AtomicU64,
    answered: AtomicU64,
    /// Of each order that is worked on: whether nobody waits for it any more.
    given_up: Mutex<HashMap<u64, Arc<AtomicBool>>>,
}

impl Checkpoints {
    /// Whether the answer to a call for idle credit is one of this module's.
    pub(super) fn takes_answer(&self, number: u64) -> bool {
        let is_ours = number > OWN_CALLS && number <= self.called.load(Ordering::Acquire);
        if is_ours {
            self.answered.fetch_max(number, Ordering::AcqRel);
        }
        is_ours
    }
}

/// Has the client give back what it holds idle: the answer comes behind all that it has posted before, which is begun then. One that does not answer, since it is stopped, is not waited for
/// for long.
fn hear_all_that_was_posted(session: &Session, end: Instant, is_over: &dyn Fn() -> bool) {
    let checkpoints = &session.checkpoints;
    // Only who changes the state counts.
    let number = checkpoints.called.load(Ordering::Acquire).max(OWN_CALLS) + 1;
    checkpoints.called.store(number, Ordering::Release);
    session
        .outbox
        .completion(RECALL_STREAM, CUresult::SUCCESS, number);
    session.outbox.flush();
    let is_answered = || checkpoints.answered.load(Ordering::Acquire) >= number;
    if wait_until(end, is_over, is_answered).is_err() {
        tracing::debug!("the client has not said that all it had posted is here");
    }
}

/// Does what the daemon wants beside the session's end, on a thread of its own.
pub(super) fn take_up(session: &Arc<Session>, task: Task) {
    match task {
        Task::Lend { request, key } => {
            let shared = Arc::clone(session);
            let lend = move || registry::say_lent(request, shared.memory.shared.lend(&key));
            if let Err(error) = spawn("lend", lend) {
                tracing::warn!(%error, "nothing can be lent");
                registry::say_lent(request, None);
            }
        }
        Task::Checkpoint(order) => begin(session, order),
        Task::GiveUp(request) => {
            if let Some(given_up) = lock(&session.checkpoints.given_up).get(&request) {
                given_up.store(true, Ordering::Release);
            }
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(body).map(drop)
}

fn begin(session: &Arc<Session>, order: CheckpointOrder) {
    let request = order.request;
    let given_up = Arc::new(AtomicBool::new(false));
    lock(&session.checkpoints.given_up).insert(request, Arc::clone(&given_up));
    let mut asked = order.checkpoint.unwrap_or_default();
    let session = Arc::clone(session);
    let forget = Arc::clone(&session);
    let run = move || {
        let done = perform(&session, &mut asked, &given_up);
        lock(&session.checkpoints.given_up).remove(&request);
        registry::say_checkpointed(request, done);
    };
    if let Err(error) = spawn("checkpoint", run) {
        tracing::warn!(%error, "an order cannot be followed");
        lock(&forget.checkpoints.given_up).remove(&request);
        registry::say_checkpointed(request, result(Err(CUresult::OPERATING_SYSTEM)));
    }
}

fn result(result: Result<(), CUresult>) -> CheckpointDone {
    CheckpointDone {
        result: result.err().unwrap_or(CUresult::SUCCESS).0,
        state: state::RUNNING,
    }
}

/// This process, as the driver knows it.
fn own() -> i32 {
    std::process::id().cast_signed()
}

fn perform(session: &Session, asked: &mut Checkpoint, given_up: &AtomicBool) -> CheckpointDone {
    let operation = asked.operation();
    if operation == CheckpointOperation::State {
        let mut state = state::RUNNING;
        let told = cuda!(
            session.driver,
            cuCheckpointProcessGetState(own(), &raw mut state)
        );
        return CheckpointDone {
            state,
            ..result(told)
        };
    }
    // Who asks while another order is followed asks at the wrong moment, whatever comes of that.
    let _changing = match session.checkpoints.changing.try_lock() {
        Ok(changing) => changing,
        Err(TryLockError::Poisoned(changing)) => changing.into_inner(),
        Err(TryLockError::WouldBlock) => return result(Err(CUresult::ILLEGAL_STATE)),
    };
    let done = match operation {
        CheckpointOperation::Lock => lock_session(session, asked.timeout_ms, given_up),
        CheckpointOperation::Checkpoint => checkpoint(session),
        CheckpointOperation::Restore => restore(session, &asked.pairs),
        CheckpointOperation::Unlock => unlock(session),
        CheckpointOperation::State | CheckpointOperation::Unspecified => {
            Err(CUresult::INVALID_VALUE)
        }
    };
    let session = session.memory.shared.session();
    match &done {
        Ok(()) => tracing::info!(session, ?operation, "the session's state has changed"),
        Err(error) => tracing::info!(session, ?operation, %error, "the session's state stays"),
    }
    result(done)
}

fn lock_session(session: &Session, timeout_ms: u32, given_up: &AtomicBool) -> Result<(), CUresult> {
    if state_of(session.driver)? != state::RUNNING {
        return Err(CUresult::ILLEGAL_STATE);
    }
    let timeout = Duration::from_millis(u64::from(timeout_ms));
    let deadline = (timeout_ms > 0).then(|| Instant::now() + timeout);
    let is_over = || given_up.load(Ordering::Acquire) || session.end.is_over();
    let until = |time: Duration| {
        let end = Instant::now() + time;
        deadline.map_or(end, |deadline| deadline.min(end))
    };
    hear_all_that_was_posted(session, until(ANSWER_PATIENCE), &is_over);
    let mut next = FIRST_TRY;
    loop {
        let end = until(next);
        match try_to_lock(session, end, &is_over) {
            Err(CUresult::NOT_READY) => {}
            done => return done,
        }
        if is_over() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(CUresult::NOT_READY);
        }
        std::thread::sleep(PAUSE);
        next = next.saturating_mul(2);
    }
}

/// Tries for a while; without success, everything goes on.
fn try_to_lock(
    session: &Session,
    end: Instant,
    is_over: &dyn Fn() -> bool,
) -> Result<(), CUresult> {
    session.door.close().map_err(|error| {
        tracing::error!(%error, "calls cannot be stopped");
        CUresult::OPERATING_SYSTEM
    })?;
    // What looks at the driver from time to time does not stand still in it with the books.
    session.memory.accounts.hold_looks();
    let done = wait_for_work(session, end, is_over).and_then(|()| {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let mut arguments = CUcheckpointLockArgs {
            timeout_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            ..CUcheckpointLockArgs::default()
        };
        cuda!(
            session.driver,
            cuCheckpointProcessLock(own(), &raw mut arguments)
        )
    });
    if done.is_err() {
        go_on(session);
    }
    done
}

/// Waits until the executors are done, and then until the poller has seen the end of all that they have put into streams: while the session stands still, it has no work at the gates, and nobody of
/// it is in the driver.
fn wait_for_work(
    session: &Session,
    end: Instant,
    is_over: &dyn Fn() -> bool,
) -> Result<(), CUresult> {
    wait_until(end, is_over, || session.door.is_empty())?;
    pace::settle(session, &mut Current::default());
    wait_until(end, is_over, || session.poller.is_idle())
}

fn wait_until(
    end: Instant,
    is_over: &dyn Fn() -> bool,
    is_so: impl Fn() -> bool,
) -> Result<(), CUresult> {
    while !is_so() {
        if Instant::now() >= end || is_over() {
            return Err(CUresult::NOT_READY);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn go_on(session: &Session) {
    session.memory.accounts.look_again();
    session.door.open();
}

fn state_of(driver: &Driver) -> Result<u32, CUresult> {
    let mut state = state::RUNNING;
    cuda!(driver, cuCheckpointProcessGetState(own(), &raw mut state))?;
    Ok(state)
}

fn checkpoint(session: &Session) -> Result<(), CUresult> {
    cuda!(
        session.driver,
        cuCheckpointProcessCheckpoint(own(), std::ptr::null_mut())
    )?;
    session.memory.accounts.suspend();
    Ok(())
}

fn restore(session: &Session, pairs: &[DevicePair]) -> Result<(), CUresult> {
    let uuid = |bytes: &[u8]| -> Result<CUuuid, CUresult> {
        let bytes = bytes.try_into().map_err(|_| CUresult::INVALID_VALUE)?;
        Ok(CUuuid { bytes })
    };
    let pair = |pair: &DevicePair| -> Result<CUcheckpointGpuPair, CUresult> {
        Ok(CUcheckpointGpuPair {
            old: uuid(&pair.old)?,
            new: uuid(&pair.new)?,
        })
    };
    let pairs: Vec<CUcheckpointGpuPair> = pairs.iter().map(pair).collect::<Result<_, _>>()?;
    if state_of(session.driver)? != state::CHECKPOINTED {
        return Err(CUresult::ILLEGAL_STATE);
    }
    // The lease's other devices, and their ledger, are not moved along.
    if pairs.iter().any(|pair| pair.old != pair.new) {
        tracing::warn!("a session is restored onto the devices that it had");
        return Err(CUresult::NOT_SUPPORTED);
    }
    session.memory.accounts.resume()?;
    let mut arguments = CUcheckpointRestoreArgs {
        gpu_pairs: match pairs.is_empty() {
            true => std::ptr::null(),
            false => pairs.as_ptr(),
        },
        gpu_pairs_count: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        padding0: 0,
        custom_storage_info_out: 0,
        reserved: [0; 40],
    };
    let restored = cuda!(
        session.driver,
        cuCheckpointProcessRestore(own(), &raw mut arguments)
    );
    if restored.is_err() {
        session.memory.accounts.suspend();
    }
    restored
}

fn unlock(session: &Session) -> Result<(), CUresult> {
    cuda!(
        session.driver,
        cuCheckpointProcessUnlock(own(), std::ptr::null_mut())
    )?;
    go_on(session);
    Ok(())
}
