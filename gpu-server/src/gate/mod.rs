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
//! - Every wait here ends by itself: a kernel without an end holds the turn for [`turns::OVERDUE`], a turn that nobody takes up for
//!   [`turns::CLAIM`]. Then the others launch as well, and the device divides its time as it does without us.
//! - A dead worker blocks nobody: it holds a record lock on its seat's byte, which the kernel drops with it.
//!
//! ```text
//! daemon ── admit(share) ─▶ place ── sit ─▶ seat ── ask ─▶ Go │ wait for a word of one's own (futex), with an end
//!   │ used, dismiss, reap                    └── done(began, ended): charged; the turn passes on
//! ```
//!
//! *Cost:* an [`ask`](Seat::ask) while nobody else waits reads two words; else it is a lock in shared memory and a look at the places. A
//! whole device has no gate.
//!
//! *Not yet:* workers do not ask, so nothing is limited. Before they do: a seat has to notice that its place has been given to another lease; several
//! threads of one worker that wait need a count rather than one flag; a kernel that does not end has to be charged while it runs; and the lock waits
//! without end for an owner that is stopped but alive. What becomes of a worker that is killed is written and not tested.
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
use std::sync::atomic::Ordering;
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

    /// Takes a lease's place back; its workers have ended, or go on without one.
    pub fn dismiss(&self, place: Place) {
        let woken = {
            let _guard = self.memory.lock(lock::KEEPER);
            if !self.memory.give_place_back(place) {
                return;
            }
            self.memory.forget_the_dead();
            self.memory.change(|turns, now| turns.settle(now))
        };
        self.memory.tell(&woken);
    }

    /// Device time that a lease has used; nothing is known of one that was dismissed.
    #[must_use]
    pub fn used(&self, place: Place) -> Duration {
        let used = self.memory.place(place.index);
        if short(used.generation.load(Ordering::Acquire)) != place.generation {
            return Duration::ZERO;
        }
        Duration::from_nanos(used.used_ns.load(Ordering::Relaxed))
    }

    /// Takes back what dead workers held: to be called when one has ended. Waiting workers do it too, within
    /// [`turns::LOOK`].
    pub fn reap(&self) {
        let woken = {
            let _guard = self.memory.lock(lock::KEEPER);
            self.memory.forget_the_dead();
            self.memory.change(|turns, now| turns.settle(now))
        };
        self.memory.tell(&woken);
    }

    /// Takes a seat at a lease's place, for a worker.
    ///
    /// # Errors
    /// The lease is gone, or too many workers are there.
    pub fn sit(self: &Arc<Self>, place: Place) -> Result<Seat, GateError> {
        let _guard = self.memory.lock(lock::KEEPER);
        let generation = &self.memory.place(place.index).generation;
        if short(generation.load(Ordering::Acquire)) != place.generation || !place.is_taken() {
            return Err(GateError::Dismissed);
        }
        self.memory.forget_the_dead();
        let number = self
            .memory
            .take_seat(place)
            .ok_or(GateError::Full("workers"))?;
        Ok(Seat {
            gate: Arc::clone(self),
            place,
            number,
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
}

impl Seat {
    /// Nanoseconds of the clock that the gate goes by, which is the same for all processes.
    #[must_use]
    pub fn now(&self) -> u64 {
        memory::now_ns()
    }

    /// Whether other leases have workers at this gate, or this one has a ceiling: then work is launched little by little.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let header = self.gate.memory.header();
        header.leases.load(Ordering::Relaxed) > 1
            || self.memory_place().is_capped.load(Ordering::Relaxed) != 0
    }

    /// Whether the lease may launch now, without asking: it has the turn, and nobody waits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let header = self.gate.memory.header();
        header.holder.load(Ordering::Relaxed) == self.place.index as u32 + 1
            && header.waiting.load(Ordering::Relaxed) == 0
            && self.memory_place().is_capped.load(Ordering::Relaxed) == 0
    }

    /// Asks for the turn once.
    pub fn ask(&self) -> Answer {
        let (answer, woken) = {
            let _guard = self.gate.memory.lock(self.number);
            self.gate.memory.ask(self.place.index, self.number)
        };
        self.gate.memory.tell(&woken);
        answer
    }

    /// The word that changes when it is worth asking again.
    #[must_use]
    pub fn news(&self) -> u32 {
        self.memory_place().news.load(Ordering::Acquire)
    }

    /// Waits for news, given the word as it was before asking, until a time of [`Seat::now`] at most. Looks after dead workers in between.
    pub fn wait(&self, seen: u32, until_ns: u64) {
        let most = self.now() + turns::LOOK;
        memory::wait(&self.memory_place().news, seen, until_ns.min(most));
        if until_ns > most && self.now() >= most {
            self.gate.reap();
        }
    }

    /// Nobody of this worker wants to launch any more.
    pub fn withdraw(&self) {
        let woken = {
            let _guard = self.gate.memory.lock(self.number);
            self.gate.memory.stop_waiting(self.number);
            self.gate.memory.change(|turns, now| turns.settle(now))
        };
        self.gate.memory.tell(&woken);
    }

    /// The worker has work on the device since then; 0: none.
    pub fn runs_since(&self, since_ns: u64) {
        let seat = self.gate.memory.seat(self.number);
        seat.running_since.store(since_ns, Ordering::Release);
    }

    /// Work that began and ended then is charged to the lease; the worker's own [`runs_since`](Seat::runs_since) is told before. Whoever is
    /// next is woken, and who waits in this lease.
    pub fn done(&self, began_ns: u64, ended_ns: u64) {
        let mut woken = {
            let _guard = self.gate.memory.lock(self.number);
            self.gate
                .memory
                .change(|turns, now| turns.done(self.place.index, began_ns, ended_ns, now))
        };
        woken.add(self.place.index);
        self.gate.memory.tell(&woken);
    }

    fn memory_place(&self) -> &memory::PlaceMemory {
        self.gate.memory.place(self.place.index)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let woken = {
            let _guard = self.gate.memory.lock(self.number);
            self.gate.memory.leave_seat(self.number);
            self.gate.memory.change(|turns, now| turns.settle(now))
        };
        self.gate.memory.tell(&woken);
    }
}

impl Changed {
    fn add(&mut self, place: usize) {
        self.own = Some(place);
    }
}
