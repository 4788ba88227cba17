//! The send queue: one order for all threads of the program.
//!
//! What: an open batch that threads append to, a wire that batches leave by, and a sender thread that need not be awake. Two locks, always
//! taken in the order wire, batch. The batch's is held for an append. The wire's is held while a batch leaves, and only who holds it
//! takes one: so the order of the appends is the order on the wire.
//!
//! ```text
//!            append                       take, send
//! threads ───────────▶ batch (one lock) ─────────────▶ wire (one lock)
//!    └─ the first after idle sends itself; one of many wakes the sender ─▶ sender: sends until nothing comes, then sleeps
//! ```
//!
//! Rules: what was appended is sent without anybody's further doing: whoever appends while the sender is asleep either sends, or wakes
//! it; the sender falls asleep only under the batch's lock, and only if the batch is empty.
//!
//! Cost of a post while the sender is awake: one lock, the append, one load. Of one that wakes it: a system call more. Of one that sends:
//! both locks and the send.

use crate::sync::{Mutex, MutexGuard, lock};

/// The sender is asleep, or is about to look whether it may sleep.
const ASLEEP: u32 = 0;
/// The sender will look at the batch again.
const AWAKE: u32 = 1;

/// What threads append to.
pub trait Batch {
    /// Whether there is nothing to send.
    fn is_empty(&self) -> bool;
    /// Whether it must leave now.
    fn is_full(&self) -> bool;
    /// Whether the append that was just made is one of many in a short time.
    fn is_one_of_many(&mut self) -> bool;
}

/// A word that one thread sleeps on, as a futex is.
pub trait Sleeper {
    /// Its value.
    fn load(&self) -> u32;
    /// Sets its value.
    fn store(&self, value: u32);
    /// Sleeps while the value is `seen`; may return early.
    fn sleep_while(&self, seen: u32);
    /// Wakes who sleeps.
    fn wake(&self);
}

/// What a post leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing: the sender will send it.
    Left,
    /// Nobody will send it: the caller does.
    Send,
}

/// The queue: `B` is the batch, `W` the wire, `S` what the sender sleeps on.
#[derive(Debug)]
pub struct SendQueue<B, W, S> {
    wire: Mutex<W>,
    batch: Mutex<B>,
    sender: S,
}

impl<B: Batch, W, S: Sleeper> SendQueue<B, W, S> {
    /// A queue whose sender is asleep.
    pub fn new(batch: B, wire: W, sender: S) -> Self {
        sender.store(ASLEEP);
        Self {
            wire: Mutex::new(wire),
            batch: Mutex::new(batch),
            sender,
        }
    }

    /// The batch, to append to; who uses this sends afterwards.
    pub fn batch(&self) -> MutexGuard<'_, B> {
        lock(&self.batch)
    }

    /// The wire. Not with the batch locked.
    pub fn wire(&self) -> MutexGuard<'_, W> {
        lock(&self.wire)
    }

    /// The wire, if nobody has it.
    pub fn try_wire(&self) -> Option<MutexGuard<'_, W>> {
        match self.wire.try_lock() {
            Ok(wire) => Some(wire),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Appends; says who sends.
    ///
    /// # Errors
    /// Those of `append`, which then has appended nothing.
    pub fn post<E>(&self, append: impl FnOnce(&mut B) -> Result<(), E>) -> Result<After, E> {
        let mut batch = lock(&self.batch);
        append(&mut batch)?;
        if batch.is_full() {
            return Ok(After::Send);
        }
        if self.sender.load() == AWAKE {
            return Ok(After::Left);
        }
        if !batch.is_one_of_many() {
            return Ok(After::Send);
        }
        // Under the lock: others need not wake it too.
        self.sender.store(AWAKE);
        drop(batch);
        self.sender.wake();
        Ok(After::Left)
    }

    /// Takes what is queued, if there is anything, and sends it; says whether there was. The wire is this queue's own.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn send_batch<T, E>(
        &self,
        wire: &mut MutexGuard<'_, W>,
        take: impl FnOnce(&mut W, &mut B) -> T,
        send: impl FnOnce(&mut W, T) -> Result<(), E>,
    ) -> Result<bool, E> {
        let taken = {
            let mut batch = lock(&self.batch);
            if batch.is_empty() {
                return Ok(false);
            }
            take(wire, &mut batch)
        };
        send(wire, taken).map(|()| true)
    }

    /// The sender thread's life, once: sends while it is awake and `stays` (which is told whether something was sent, and may rest),
    /// then sleeps until it is woken.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn send_while_awake<E>(
        &self,
        mut send: impl FnMut(&mut MutexGuard<'_, W>) -> Result<bool, E>,
        mut stays: impl FnMut(&S, bool) -> bool,
        is_over: impl Fn() -> bool,
    ) -> Result<(), E> {
        while self.sender.load() == AWAKE && !is_over() {
            let sent = send(&mut self.wire())?;
            if !stays(&self.sender, sent) {
                self.fall_asleep();
            }
        }
        if !is_over() {
            self.sender.sleep_while(ASLEEP);
        }
        Ok(())
    }

    /// Falls asleep unless something was appended meanwhile: decided under the batch's lock, as every append is.
    fn fall_asleep(&self) {
        let batch = lock(&self.batch);
        if batch.is_empty() {
            self.sender.store(ASLEEP);
        }
    }

    /// Wakes the sender, so that it sees that all is over.
    pub fn wake_sender(&self) {
        self.sender.store(AWAKE);
        self.sender.wake();
    }
}
