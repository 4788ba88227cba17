//! Gates: whose kernels run on a device, and for how much of its time.
//!
//! *What:* one [`Gate`] for each device, in a memory file that the daemon makes and every worker with a slice of the device maps. The daemon
//! gives each lease a [`Place`] with its [`Share`]; a worker takes a [`Seat`] at the place of its lease, asks before it launches, and
//! tells what its launches have used. Leases take *turns*: while one has the turn, kernels of the others wait in their workers. *Why:* a
//! session is a process of its own, and a driver divides time between processes evenly, whatever they were promised.
//!
//! *Rules:*
//! - The turn goes to the lease with the least *virtual time*: device time used, divided by its share ([`turns`]). What a kernel used beyond
//!   its due is owed afterwards; who was idle gains nothing by it, but is next.
//! - Nobody who has nothing to run keeps the turn, but for a moment ([`turns::LINGER`]) in which a program that launches and waits by turns
//!   usually comes back. A share is a floor under contention; with [`Share::is_capped`] it is a ceiling too.
//! - Kernels are not interrupted. One without an end holds the turn for [`turns::OVERDUE`], a turn that nobody takes up ends after [`turns::CLAIM`].
//!   Then the others launch as well, and the device divides its time as it does without us; what runs is charged while it runs.
//! - A dead worker blocks nobody: it holds a record lock on its seat's byte, which the kernel drops with it. A stopped one blocks nobody
//!   either: neither its turn nor the lock of the memory is waited for without end.
//! - A worker whose lease has lost its place is told so ([`GateError::Dismissed`]) and goes on without a gate; it can change nothing any more.
//!
//! ```text
//! daemon ── admit(share) ─▶ place ── sit ─▶ seat ── wish ── ask ─▶ Go │ wait for a word of one's own (futex), with an end
//!   │ used, last_active, dismiss, reap          ├── begins(now)
//!                                               └── done(since): charged; the turn passes on
//! ```
//!
//! *Cost:* while nobody else is at the gate, nobody asks: to find that out is to read three words, and what is used goes to the seat's
//! own words, which whoever looks next adds up. Else an [`ask`](Wish::ask) is a lock in shared memory and a look at the places and seats.
//!
//! **Of the descriptor:** record locks vanish when a process closes *any* descriptor of their file. A worker must not duplicate and close the
//! gate's; sending it over a socket is fine.

mod lock;
mod memory;
#[cfg(test)]
mod tests;
pub mod turns;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use memory::Memory;
pub use memory::{MAX_PLACES, MAX_SEATS};
use turns::{Answer, Changed};

/// Parts of a whole device that shares are counted in.
pub const WHOLE: u32 = 1_000_000;

/// What part of a device's time a lease has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// In millionths, from 1 to [`WHOLE`].
    pub parts: u32,
    /// Whether it never gets more, even if the others have nothing to run.
    pub is_capped: bool,
}

impl Share {
    /// A fraction above 0 and up to 1; what lies outside is taken for the nearest.
    #[must_use]
    pub fn new(fraction: f64, is_capped: bool) -> Self {
        let parts = (fraction * f64::from(WHOLE)).clamp(1.0, f64::from(WHOLE));
        Self {
            // The clamp has left it between 1 and a million; not a number becomes 0, and then 1.
            parts: (parts as u32).max(1),
            is_capped,
        }
    }
}

/// A lease's place at a gate. As a number it travels to the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    index: usize,
    generation: u32,
}

impl Place {
    /// For the order of a worker.
    #[must_use]
    pub fn to_number(self) -> u32 {
        (self.generation << INDEX_BITS) | self.index as u32
    }

    /// From the order of a worker.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self {
            index: number as usize % MAX_PLACES,
            generation: number >> INDEX_BITS,
        }
    }
}

/// Bits of a place's number that are its index; its generation is above.
const INDEX_BITS: u32 = MAX_PLACES.ilog2();

const _: () = assert!(MAX_PLACES.is_power_of_two());

/// A generation, as far as a place's number has room for it.
fn short(generation: u32) -> u32 {
    generation & (u32::MAX >> INDEX_BITS)
}

/// Why a lease or a worker is not let in.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The file is not a gate, or cannot be used.
    #[error("the gate of a device cannot be used: {0}")]
    Io(#[from] io::Error),
    /// Another release, or another file.
    #[error(
        "the file that was passed as a device's gate is none, or one of another release: end the workers of the older server"
    )]
    NotAGate,
    /// Too many leases or workers.
    #[error("{0} use this device already, which is the most that its gate has room for")]
    Full(&'static str),
    /// The lease has been dismissed.
    #[error("the lease has no place at this gate any more")]
    Dismissed,
}

/// One device's gate.
#[derive(Debug)]
pub struct Gate {
    memory: Memory,
}

impl Gate {
    /// Makes the gate of a device.
    ///
    /// # Errors
    /// The system has no memory, or no descriptor.
    pub fn create() -> Result<Self, GateError> {
        Ok(Self {
            memory: Memory::create()?,
        })
    }

    /// Opens a gate by its descriptor.
    ///
    /// # Errors
    /// It is none, or one of another release.
    pub fn open(descriptor: OwnedFd) -> Result<Self, GateError> {
        Ok(Self {
            memory: Memory::open(descriptor)?,
        })
    }

    /// What is passed to workers.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.file().as_fd()
    }

    /// Gives a lease a place.
    ///
    /// # Errors
    /// There are too many.
    pub fn admit(&self, share: Share) -> Result<Place, GateError> {
        let _guard = self.memory.lock(lock::KEEPER);
        self.memory
            .take_place(share)
            .ok_or(GateError::Full("leases"))
    }

    /// Takes a lease's place back; its workers have ended, or go on without one. What it has used is to be read before.
    pub fn dismiss(&self, place: Place) {
        let mut woken = {
            let guard = self.memory.lock(lock::KEEPER);
            if !self.memory.is_current(place) {
                return;
            }
            self.memory.forget_the_dead(&guard);
            self.memory.give_place_back(place);
            self.memory.change(&guard, |turns, now| turns.settle(now))
        };
        woken.add(place.index);
        self.memory.tell(&woken);
    }

    /// Device time that a lease has used, that of what runs now among it; nothing is known of one that was dismissed.
    #[must_use]
    pub fn used(&self, place: Place) -> Duration {
        self.reap();
        self.charged(place)
    }

    /// The same as it was when the gate was last [reaped](Self::reap), or asked for something.
    #[must_use]
    pub fn charged(&self, place: Place) -> Duration {
        if !self.memory.is_current(place) {
            return Duration::ZERO;
        }
        let used = &self.memory.place(place.index).used_ns;
        Duration::from_nanos(used.load(Ordering::Relaxed))
    }

    /// When a lease last had work submitted or completed, kernel or copy, in milliseconds since the Unix epoch: now, while work of it runs
    /// or waits for its turn. At first, when it was admitted. Nothing is known of one that was dismissed. A worker tells
    /// it when it has nothing else to do: it may be late by half a second.
    #[must_use]
    pub fn last_active(&self, place: Place) -> Option<u64> {
        let is_current = self.memory.is_current(place);
        is_current.then(|| self.memory.last_active_ms(place))
    }

    /// Takes back what dead workers held: to be called when one has ended. Waiting workers do it too, within
    /// [`turns::LOOK`]. What runs is charged up to now.
    pub fn reap(&self) {
        let woken = {
            let guard = self.memory.lock(lock::KEEPER);
            self.memory.forget_the_dead(&guard);
            self.memory.change(&guard, |turns, now| {
                turns.charge(now);
                turns.settle(now)
            })
        };
        self.memory.tell(&woken);
    }

    /// Takes a seat at a lease's place, for a worker.
    ///
    /// # Errors
    /// The lease is gone, or too many workers are there.
    pub fn sit(self: &Arc<Self>, place: Place) -> Result<Seat, GateError> {
        let guard = self.memory.lock(lock::KEEPER);
        if !self.memory.is_current(place) {
            return Err(GateError::Dismissed);
        }
        self.memory.forget_the_dead(&guard);
        let number = self
            .memory
            .take_seat(place)
            .ok_or(GateError::Full("workers"))?;
        Ok(Seat {
            gate: Arc::clone(self),
            place,
            number,
            wishes: AtomicU32::new(0),
            looked_at: AtomicU64::new(memory::now_ns()),
        })
    }
}

impl Place {
    /// Generations of places that are taken are odd.
    fn is_taken(self) -> bool {
        self.generation % 2 == 1
    }
}

/// A worker's seat at its lease's place, until dropped.
#[derive(Debug)]
pub struct Seat {
    gate: Arc<Gate>,
    place: Place,
    number: usize,
    /// How many threads of this process want to launch; changed under the gate's lock.
    wishes: AtomicU32,
    /// When it last looked after dead workers.
    looked_at: AtomicU64,
}

impl Seat {
    /// Nanoseconds of the clock that the gate goes by, which is the same for all processes.
    #[must_use]
    pub fn now(&self) -> u64 {
        memory::now_ns()
    }

    /// Whether other leases have workers at this gate, or this one has a ceiling: then work is launched little by little.
    #[inline]
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let header = self.gate.memory.header();
        header.leases.load(Ordering::Relaxed) > 1
            || self.memory_place().is_capped.load(Ordering::Relaxed) != 0
    }

    /// Whether the lease may launch more of what it is launching, without asking: it has the turn, and nobody waits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let header = self.gate.memory.header();
        header.holder.load(Ordering::Relaxed) == self.place.index as u32 + 1
            && header.waiting.load(Ordering::Relaxed) == 0
            && self.memory_place().is_capped.load(Ordering::Relaxed) == 0
            && self.gate.memory.is_current(self.place)
    }

    /// A thread of the worker is about to want to launch.
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            seat: self,
            is_counted: false,
        }
    }

    /// The word that changes when it is worth asking again.
    #[must_use]
    pub fn news(&self) -> u32 {
        self.memory_place().news.load(Ordering::Acquire)
    }

    /// Waits for news, given the word as it was before asking, until a time of [`Seat::now`] at most. Looks after dead workers now and then.
    pub fn wait(&self, seen: u32, until_ns: u64) {
        let most = self.now() + turns::LOOK;
        memory::wait(&self.memory_place().news, seen, until_ns.min(most));
        let now = self.now();
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(looked_at) >= turns::LOOK {
            self.looked_at.store(now, Ordering::Relaxed);
            self.gate.reap();
        }
    }

    /// The worker, which had nothing on the device, has work there since then.
    pub fn begins(&self, since_ns: u64) {
        let seat = self.memory_seat();
        seat.running_since.store(since_ns, Ordering::Release);
    }

    /// Some of the worker's work is done now: what is left runs since then; 0: nothing is left. It is charged; whoever is next is woken, and
    /// who waits in this lease.
    pub fn done(&self, since_ns: u64, now_ns: u64) {
        if self.is_unwatched() {
            return self.done_unwatched(since_ns, now_ns);
        }
        let woken = {
            let memory = &self.gate.memory;
            let guard = memory.lock(self.number);
            // Whose lease is dismissed has no place to charge.
            let is_current = memory.is_current(self.place);
            is_current.then(|| memory.done(&guard, self.place, self.number, since_ns))
        };
        if let Some(mut woken) = woken {
            woken.add(self.place.index);
            self.gate.memory.tell(&woken);
        }
    }

    /// Whether nobody but this worker is at the gate, and nothing limits it.
    fn is_unwatched(&self) -> bool {
        self.gate.memory.header().workers.load(Ordering::Relaxed) == 1 && !self.is_shared()
    }

    fn done_unwatched(&self, since_ns: u64, now_ns: u64) {
        let seat = self.memory_seat();
        if since_ns != 0 {
            // It goes on: charged at its end, or when somebody looks.
            return;
        }
        let began = seat.running_since.swap(0, Ordering::Relaxed);
        let charged = self.memory_place().charged_until.load(Ordering::Relaxed);
        let time = now_ns.saturating_sub(began.max(charged));
        if began != 0 {
            seat.uncharged_ns.fetch_add(time, Ordering::Relaxed);
        }
    }

    /// Something was submitted, or has completed.
    pub fn is_active(&self) {
        let now = memory::wall_ms();
        let seat = self.memory_seat();
        seat.last_active_ms.store(now, Ordering::Relaxed);
    }

    fn memory_place(&self) -> &memory::PlaceMemory {
        self.gate.memory.place(self.place.index)
    }

    fn memory_seat(&self) -> &memory::SeatMemory {
        self.gate.memory.seat(self.number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let woken = {
            let memory = &self.gate.memory;
            let guard = memory.lock(self.number);
            memory.leave_seat(&guard, self.number);
            memory.change(&guard, |turns, now| turns.settle(now))
        };
        self.gate.memory.tell(&woken);
    }
}

/// One thread's wish to launch, until it is granted or dropped.
#[derive(Debug)]
pub struct Wish<'a> {
    seat: &'a Seat,
    is_counted: bool,
}

impl Wish<'_> {
    /// Asks for the turn once. Where the worker has as much on the device as it may, it only lines up: it is told when some of that is done.
    ///
    /// # Errors
    /// The lease was dismissed: there is nothing to ask for.
    pub fn ask(&mut self, is_full: bool) -> Result<Answer, GateError> {
        let seat = self.seat;
        let memory = &seat.gate.memory;
        let (answer, woken) = {
            let guard = memory.lock(seat.number);
            if !memory.is_current(seat.place) {
                return Err(GateError::Dismissed);
            }
            let mut answer = Answer::Wait(0);
            let changed = memory.change(&guard, |turns, now| {
                let changed;
                (answer, changed) = turns.ask(seat.place.index, is_full, now);
                changed
            });
            self.count(answer != Answer::Go);
            (answer, changed)
        };
        memory.tell(&woken);
        Ok(answer)
    }

    /// Counts it among those that wait, or not; under the lock.
    fn count(&mut self, waits: bool) {
        let wishes = &self.seat.wishes;
        match (self.is_counted, waits) {
            (false, true) => wishes.fetch_add(1, Ordering::Relaxed),
            (true, false) => wishes.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        self.is_counted = waits;
        // Also where it has not changed: a turn that was not taken up has voided all of them.
        let wishes = wishes.load(Ordering::Relaxed);
        self.seat.gate.memory.set_waits(self.seat.number, wishes);
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let memory = &self.seat.gate.memory;
        let woken = {
            let guard = memory.lock(self.seat.number);
            self.count(false);
            memory.change(&guard, |turns, now| turns.settle(now))
        };
        memory.tell(&woken);
    }
}

impl Changed {
    fn add(&mut self, place: usize) {
        self.own = Some(place);
    }
}
