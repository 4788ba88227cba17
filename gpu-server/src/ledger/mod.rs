//! Ledgers: how much memory of its slices a lease has taken.
//!
//! *What:* one [`Ledger`] for each lease, in a memory file that the daemon makes and every worker of the lease maps. A worker takes a [`Seat`]
//! and reserves before it makes memory. *Why:* a lease's programs are processes of their own, and only where memory is made can be
//! seen that what they take together stays inside the slice; a message for each allocation would be too slow.
//!
//! *Rules:*
//! - Reserve, make, [commit](Charge::commit); give back only after the driver has. So the memory that exists is never more than the slice.
//! - What is taken grows under a lock and shrinks without one. Whoever adds it up under the lock sees at least what there is, and at most what
//!   there was when it got the lock: nobody gets what is not there, and nobody is refused what would have fitted throughout.
//! - A dead worker holds nothing: it has a record lock on its seat's byte, which the kernel drops with it, and seats of the dead are cleared before
//!   anyone is refused. The ledger's own lock is a record lock too.
//! - Memory that is given back but still in use by streams is *leaving*: who finds no room is told so and asks again.
//! - Memory that a program holds without using it is *idle credit*: who finds no room calls for it ([`Seat::want`]), every worker of the
//!   lease asks its program, and says when that has answered.
//! - Memory that workers share is charged to the one that has made it, and when that is gone to each that still has it ([`Seat::take_over`]).
//! - Nothing read from the memory is trusted to be in range, and the limits are not read from it after it was opened.
//!
//! ```text
//! daemon ── create ──▶ ledger ◀── sit ── worker: reserve ─▶ make ─▶ commit … leave ─▶ give back ─▶ release
//!   used, used_by, reap                          │ no room
//!                                                └─▶ want ─▶ the others' programs unmap what is idle ─▶ answer
//! ```
//!
//! *Cost:* a reservation is two system calls for the lock and one read for each worker of the lease; to give back is two atomic operations. Together 1.3 µs
//! with sixteen workers there, unoptimised; they stand beside a driver's calls for mapping memory, which take ten times as long and more.
//!
//! **Of the descriptor:** record locks vanish when a process closes *any* descriptor of their file. A worker must not duplicate and close the
//! ledger's; sending it over a socket is fine. One process opens a ledger once.

pub mod measure;
mod memory;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub use memory::{MAX_SEATS, MAX_SLICES};
use memory::{Memory, PATIENCE, SHORT_PATIENCE};
use protocol::hello::DeviceKind;

/// What a context of NVIDIA's driver is taken to need, with its stacks, buffers and modules, where nobody has measured it: a margin, not a measurement.
const NVIDIA_CONTEXT_BYTES: u64 = 640 << 20;

/// What is charged with each context of NVIDIA's driver for what it makes beside by and by, and tells of no process: code of modules, stacks, heaps of
/// device code. A margin, not a bound: what a program makes beyond it is not charged.
const NVIDIA_MARGIN_BYTES: u64 = 128 << 20;

/// What programs allocate in: the smallest allocation takes so much of a slice.
pub const CHUNK_BYTES: u64 = 2 << 20;

/// Bytes of a slice that each context takes: what was [measured](measure::context_bytes) and a margin, or what is assumed for the kind of device. The
/// software GPU's take nothing.
#[must_use]
pub fn context_bytes(kind: DeviceKind, measured: Option<u64>) -> u64 {
    match kind {
        DeviceKind::Nvidia => {
            let measured = measured.map(|bytes| bytes.saturating_add(NVIDIA_MARGIN_BYTES));
            measured.unwrap_or(NVIDIA_CONTEXT_BYTES)
        }
        DeviceKind::Software | DeviceKind::Unspecified => measured.unwrap_or(0),
    }
}

/// Bytes of the least slice in which a program can allocate anything.
#[must_use]
pub fn least_slice_bytes(kind: DeviceKind, measured: Option<u64>) -> u64 {
    context_bytes(kind, measured).saturating_add(CHUNK_BYTES)
}

/// Why there is no ledger, or no seat at one.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be made, mapped or locked.
    #[error("the ledger of a lease's memory cannot be used: {0}")]
    Io(#[from] io::Error),
    /// Another release, or another file.
    #[error(
        "the file that was passed as a lease's ledger is none, or one of another release: end the workers of the older server"
    )]
    NotALedger,
    /// No slice, or too many.
    #[error("a lease has from 1 to {MAX_SLICES} slices, not {0}")]
    Slices(usize),
    /// Too many workers.
    #[error(
        "{MAX_SEATS} sessions of this lease run already, which is the most that its ledger has room for"
    )]
    Full,
}

/// Why nothing is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not fit.
    #[error("the lease's slice has no room")]
    NoRoom,
    /// It does not fit now; so many bytes are on their way out.
    #[error("the lease's slice has no room, but {0} bytes are leaving")]
    Leaving(u64),
    /// It would not fit if the slice were empty.
    #[error("the lease's slice is smaller than that")]
    TooLarge,
    /// The ledger's lock cannot be had: whoever has it does not go on.
    #[error("the lease's ledger is held up")]
    HeldUp,
}

/// The ledger of a lease.
#[derive(Debug)]
pub struct Ledger {
    memory: Memory,
    limits: Vec<u64>,
}

impl Ledger {
    /// Makes the ledger of a lease: a limit in bytes for each slice.
    ///
    /// # Errors
    /// No slice or too many, or the system has no memory or no descriptor.
    pub fn create(limits_bytes: &[u64]) -> Result<Self, LedgerError> {
        if limits_bytes.is_empty() || limits_bytes.len() > MAX_SLICES {
            return Err(LedgerError::Slices(limits_bytes.len()));
        }
        Ok(Self {
            memory: Memory::create(limits_bytes)?,
            limits: limits_bytes.to_vec(),
        })
    }

    /// Opens a ledger by its descriptor.
    ///
    /// # Errors
    /// It is none, or one of another release.
    pub fn open(descriptor: OwnedFd) -> Result<Self, LedgerError> {
        let memory = Memory::open(descriptor)?;
        let limits = memory.limits().ok_or(LedgerError::NotALedger)?;
        Ok(Self { memory, limits })
    }

    /// What is passed to workers.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.file().as_fd()
    }

    /// How many slices there are.
    #[must_use]
    pub fn slices(&self) -> usize {
        self.limits.len()
    }

    /// Bytes of a slice; 0 where there is none.
    #[must_use]
    pub fn limit(&self, slice: usize) -> u64 {
        self.limits.get(slice).copied().unwrap_or(0)
    }

    /// Bytes of a slice that are taken now, at most: what is given back meanwhile may be in it.
    #[must_use]
    pub fn used(&self, slice: usize) -> u64 {
        // Without the lock, what one takes and what another gives back meanwhile may both be counted. Two sums that agree saw neither, but for
        // two changes that cancel out; that spares whoever asks for the free memory two system calls.
        let sum = || self.memory.sum(slice, |_| true);
        let used = sum();
        if sum() == used {
            return used;
        }
        let _guard = self.memory.lock(SHORT_PATIENCE);
        sum()
    }

    /// Bytes of a slice that a session's worker has taken.
    #[must_use]
    pub fn used_by(&self, session: u64, slice: usize) -> u64 {
        self.memory.sum(slice, |other| other == session)
    }

    /// Gives back what dead workers held: to be called when one has ended. Who would be refused does it too.
    pub fn reap(&self) {
        match self.memory.lock(SHORT_PATIENCE) {
            Ok(guard) => self.memory.forget_the_dead(&guard),
            Err(error) => tracing::warn!(%error, "a lease's ledger is held up"),
        }
    }

    /// Takes a seat, for the worker of a session.
    ///
    /// # Errors
    /// Too many workers are there, or the ledger cannot be locked.
    pub fn sit(self: &Arc<Self>, session: u64) -> Result<Seat, LedgerError> {
        let mut guard = self.memory.lock(PATIENCE)?;
        self.memory.forget_the_dead(&guard);
        let number = self
            .memory
            .take_seat(session, &mut guard)?
            .ok_or(LedgerError::Full)?;
        Ok(Seat {
            ledger: Arc::clone(self),
            number,
        })
    }

    /// How often idle credit has been called for.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.memory.wanted()
    }

    /// Waits until idle credit is called for, if it has not been since `seen`, for so long at most.
    pub fn wait_wanted(&self, seen: u32, most: Duration) {
        self.memory.wait_wanted(seen, most);
    }
}

/// A worker's seat, until dropped; then it holds nothing any more.
#[derive(Debug)]
pub struct Seat {
    ledger: Arc<Ledger>,
    number: usize,
}

impl Seat {
    /// The ledger that it is at.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Takes bytes of a slice, to be committed when they are made; dropping the charge gives them back.
    ///
    /// # Errors
    /// There is no room, after the dead were cleared.
    pub fn reserve(&self, slice: usize, bytes: u64) -> Result<Charge<'_>, Refusal> {
        let limit = self.ledger.limit(slice);
        if bytes > limit {
            return Err(Refusal::TooLarge);
        }
        let memory = &self.ledger.memory;
        let guard = memory.lock(PATIENCE).map_err(|_| Refusal::HeldUp)?;
        let fits = || memory.sum(slice, |_| true) <= limit - bytes;
        if !fits() {
            memory.forget_the_dead(&guard);
            // Read before the sum: what has left since then is not in the sum.
            let leaving = memory.leaving(slice, self.number);
            if !fits() {
                return Err(match leaving {
                    0 => Refusal::NoRoom,
                    leaving => Refusal::Leaving(leaving),
                });
            }
        }
        memory.add(self.number, slice, bytes, &guard);
        Ok(Charge {
            seat: self,
            slice,
            bytes,
        })
    }

    /// Takes bytes that are there already, since another worker has shared them and is gone, whether they fit or not: until they do, nobody gets any.
    /// False if the ledger is held up.
    #[must_use]
    pub fn take_over(&self, slice: usize, bytes: u64) -> bool {
        let memory = &self.ledger.memory;
        let Ok(guard) = memory.lock(PATIENCE) else {
            return false;
        };
        memory.add(self.number, slice, bytes, &guard);
        true
    }

    /// Bytes that were committed are on their way out.
    pub fn leave(&self, slice: usize, bytes: u64) {
        self.ledger.memory.begin_to_leave(self.number, slice, bytes);
    }

    /// Bytes that were on their way out are given back.
    pub fn left(&self, slice: usize, bytes: u64) {
        // In this order: who sees that nothing is leaving must see that it has left.
        self.ledger.memory.subtract(self.number, slice, bytes);
        self.ledger.memory.end_leaving(self.number, slice, bytes);
    }

    /// Bytes that were on their way out could not be given back.
    pub fn stays(&self, slice: usize, bytes: u64) {
        self.ledger.memory.end_leaving(self.number, slice, bytes);
    }

    /// Bytes that were committed are given back.
    pub fn release(&self, slice: usize, bytes: u64) {
        self.ledger.memory.subtract(self.number, slice, bytes);
    }

    /// Bytes of a slice that this worker holds.
    #[must_use]
    pub fn held(&self, slice: usize) -> u64 {
        self.ledger.memory.held(self.number, slice)
    }

    /// As if its process were killed.
    #[cfg(test)]
    fn die(self) {
        self.ledger.memory.lose_seat(self.number);
        std::mem::forget(self);
    }

    /// Calls for idle credit; the number is to be compared with the others' answers.
    pub fn want(&self) -> u32 {
        self.ledger.memory.want()
    }

    /// This worker's program has answered every call up to this number: what it held idle is leaving, or gone.
    pub fn answer(&self, number: u32) {
        self.ledger.memory.answer(self.number, number);
    }

    /// Whether the programs of all other workers have answered a call.
    #[must_use]
    pub fn have_answered(&self, number: u32) -> bool {
        self.ledger.memory.have_answered(number, self.number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // If the lock cannot be had, whoever needs room clears the seat: its record lock is gone.
        let guard = self.ledger.memory.lock(PATIENCE);
        self.ledger.memory.leave_seat(self.number, guard.ok());
    }
}

/// Bytes that are taken for something that is being made.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Charge<'a> {
    seat: &'a Seat,
    slice: usize,
    bytes: u64,
}

impl Charge<'_> {
    /// It has been made: from now on [`Seat::release`] gives the bytes back.
    pub fn commit(self) {
        std::mem::forget(self);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.seat.release(self.slice, self.bytes);
    }
}
