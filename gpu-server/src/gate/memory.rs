//! A gate's memory: what all workers of a device map.
//!
//! *Rules:* everything is an atomic number that any process may write, so nothing read from it is trusted to be in range; what belongs
//! together is changed under the [lock]. The file is sealed, so that nobody can shorten it under another's mapping.
//!
//! # Safety
//! The mapping is as long as [`Layout`] (checked when it is made; sealed since), lives as long as [`Memory`], and `Layout` consists of
//! atomics only, for which any bytes are valid.
#![expect(
    unsafe_code,
    reason = "memory shared with other processes, and record locks"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::thread::futex;

use super::lock::{self, Guard};
use super::turns::{Changed, Lease, Turns};
use super::{GateError, Place, Share, short};

/// The most leases on one device.
pub const MAX_PLACES: usize = 128;

/// The most workers on one device.
pub const MAX_SEATS: usize = 512;

/// Changes with the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"gpugate2");

/// What concerns all.
#[repr(C, align(64))]
pub(super) struct Header {
    magic: AtomicU64,
    pub(super) lock: AtomicU32,
    /// The place of who has the turn, plus 1; 0: nobody.
    pub(super) holder: AtomicU32,
    /// How many seats wait for the turn.
    pub(super) waiting: AtomicU32,
    /// How many leases have workers.
    pub(super) leases: AtomicU32,
    /// How many workers there are.
    pub(super) workers: AtomicU32,
    /// How often the lock was taken.
    pub(super) takings: AtomicU32,
    began: AtomicU64,
    touched: AtomicU64,
    /// Places and seats from these on were never taken.
    places: AtomicU32,
    seats: AtomicU32,
}

/// A lease.
#[repr(C, align(64))]
pub(super) struct PlaceMemory {
    /// Odd while it is taken.
    pub(super) generation: AtomicU32,
    parts: AtomicU32,
    pub(super) is_capped: AtomicU32,
    /// Changes, and is waited on, when a worker of the lease should ask again.
    pub(super) news: AtomicU32,
    pub(super) used_ns: AtomicU64,
    virtual_time: AtomicU64,
    pub(super) charged_until: AtomicU64,
    not_before: AtomicU64,
    idle_since: AtomicU64,
    last_gap: AtomicU64,
    /// Of workers that have left, and of the place's beginning.
    pub(super) last_active_ms: AtomicU64,
}

/// A worker. It writes all but the first two words without the lock; under it, whoever charges takes what is uncharged, and who finds it gone
/// clears all.
#[repr(C, align(64))]
pub(super) struct SeatMemory {
    /// The place of its lease plus 1; 0: nobody sits here.
    place: AtomicU32,
    /// How many of its threads want to launch.
    waits: AtomicU32,
    pub(super) running_since: AtomicU64,
    /// Device time that it has used and nobody has charged yet.
    pub(super) uncharged_ns: AtomicU64,
    pub(super) last_active_ms: AtomicU64,
}

#[repr(C)]
struct Layout {
    header: Header,
    places: [PlaceMemory; MAX_PLACES],
    seats: [SeatMemory; MAX_SEATS],
}

const _: () = assert!(size_of::<Header>() == 64);
const _: () = assert!(size_of::<PlaceMemory>() == 128);
const _: () = assert!(size_of::<SeatMemory>() == 64);
const _: () = assert!(MAX_SEATS < lock::KEEPER);

/// The mapping and its file.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    map: MmapRaw,
    /// The seats of this process: it does not see its own record locks.
    mine: Mutex<Vec<usize>>,
    /// Comes before the lock that all processes share.
    pub(super) own: Mutex<()>,
}

impl Memory {
    pub(super) fn create() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("gpurun-gate", flags)?);
        file.set_len(size_of::<Layout>() as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let memory = Self::map(file)?;
        memory.header().magic.store(MAGIC, Ordering::Release);
        Ok(memory)
    }

    pub(super) fn open(descriptor: OwnedFd) -> Result<Self, GateError> {
        let file = File::from(descriptor);
        let is_long_enough = file.metadata()?.len() == size_of::<Layout>() as u64;
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if !is_long_enough || !seals.contains(SealFlags::SHRINK) {
            return Err(GateError::NotAGate);
        }
        let memory = Self::map(file)?;
        if memory.header().magic.load(Ordering::Acquire) != MAGIC {
            return Err(GateError::NotAGate);
        }
        Ok(memory)
    }

    fn map(file: File) -> io::Result<Self> {
        let map = MmapOptions::new().len(size_of::<Layout>()).map_raw(&file)?;
        Ok(Self {
            file,
            map,
            mine: Mutex::default(),
            own: Mutex::default(),
        })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: by the module's rules; the kernel maps whole pages, so it is aligned.
        unsafe { &*self.map.as_ptr().cast::<Layout>() }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn header(&self) -> &Header {
        &self.layout().header
    }

    /// A place; its index comes from [`Place`], which checks it.
    pub(super) fn place(&self, index: usize) -> &PlaceMemory {
        &self.layout().places[index]
    }

    pub(super) fn seat(&self, number: usize) -> &SeatMemory {
        &self.layout().seats[number]
    }

    fn places(&self) -> &[PlaceMemory] {
        let count = self.header().places.load(Ordering::Relaxed) as usize;
        &self.layout().places[..count.min(MAX_PLACES)]
    }

    fn seats(&self) -> &[SeatMemory] {
        let count = self.header().seats.load(Ordering::Relaxed) as usize;
        &self.layout().seats[..count.min(MAX_SEATS)]
    }

    /// Locks, as a seat or as [`lock::KEEPER`].
    pub(super) fn lock(&self, number: usize) -> Guard<'_> {
        lock::acquire(self, number)
    }

    // Under the lock:

    pub(super) fn take_place(&self, share: Share) -> Option<Place> {
        let all = &self.layout().places;
        let is_free =
            |place: &PlaceMemory| place.generation.load(Ordering::Relaxed).is_multiple_of(2);
        let index = all.iter().position(is_free)?;
        let place = &all[index];
        place.parts.store(share.parts, Ordering::Relaxed);
        place
            .is_capped
            .store(u32::from(share.is_capped), Ordering::Relaxed);
        let numbers = [
            &place.used_ns,
            &place.virtual_time,
            &place.charged_until,
            &place.not_before,
            &place.idle_since,
            &place.last_gap,
        ];
        numbers
            .iter()
            .for_each(|number| number.store(0, Ordering::Relaxed));
        place.last_active_ms.store(wall_ms(), Ordering::Relaxed);
        let generation = place.generation.fetch_add(1, Ordering::Release) + 1;
        let header = self.header();
        header.places.fetch_max(index as u32 + 1, Ordering::Relaxed);
        Some(Place {
            index,
            generation: short(generation),
        })
    }

    /// Whether a place is still the lease's that it was given to.
    pub(super) fn is_current(&self, place: Place) -> bool {
        let generation = self.place(place.index).generation.load(Ordering::Acquire);
        place.is_taken() && short(generation) == place.generation
    }

    pub(super) fn give_place_back(&self, place: Place) {
        let memory = self.place(place.index);
        memory.generation.fetch_add(1, Ordering::Release);
        memory.parts.store(0, Ordering::Relaxed);
        for seat in self.seats_at(place) {
            seat.clear();
        }
        self.count();
    }

    fn seats_at(&self, place: Place) -> impl Iterator<Item = &SeatMemory> {
        let number = place.index as u32 + 1;
        let seats = self.seats().iter();
        seats.filter(move |seat| seat.place.load(Ordering::Relaxed) == number)
    }

    pub(super) fn take_seat(&self, place: Place) -> Option<usize> {
        let is_free = |seat: &SeatMemory| seat.place.load(Ordering::Relaxed) == 0;
        let seats = self.layout().seats.iter().enumerate();
        let (number, seat) = seats
            .filter(|(_, seat)| is_free(seat))
            .find(|(number, _)| !self.is_alive(*number))?;
        self.set_record_lock(number, libc::F_WRLCK).ok()?;
        self.mine().push(number);
        seat.clear();
        seat.last_active_ms.store(wall_ms(), Ordering::Relaxed);
        seat.place.store(place.index as u32 + 1, Ordering::Relaxed);
        let header = self.header();
        header.seats.fetch_max(number as u32 + 1, Ordering::Relaxed);
        self.count();
        Some(number)
    }

    /// A worker leaves: what it has used is charged, what it runs ends.
    pub(super) fn leave_seat(&self, guard: &Guard<'_>, number: usize) {
        self.charge(guard);
        self.vacate(number);
        self.mine().retain(|other| *other != number);
        // It fails for nothing that could be told to anybody, and ends with the process at the latest.
        let _ = self.set_record_lock(number, libc::F_UNLCK);
        self.count();
    }

    /// Clears the seats of workers that have ended.
    pub(super) fn forget_the_dead(&self, guard: &Guard<'_>) {
        let is_dead = |(number, seat): &(usize, &SeatMemory)| {
            seat.place.load(Ordering::Relaxed) != 0 && !self.is_alive(*number)
        };
        let dead: Vec<usize> = self
            .seats()
            .iter()
            .enumerate()
            .filter(is_dead)
            .map(|(number, _)| number)
            .collect();
        if !dead.is_empty() {
            self.charge(guard);
            dead.into_iter().for_each(|number| self.vacate(number));
        }
        self.count();
    }

    fn vacate(&self, number: usize) {
        let seat = self.seat(number);
        let place = (seat.place.load(Ordering::Relaxed) as usize).wrapping_sub(1);
        if let Some(place) = self.places().get(place) {
            let last = seat.last_active_ms.load(Ordering::Relaxed);
            place.last_active_ms.fetch_max(last, Ordering::Relaxed);
        }
        seat.clear();
    }

    /// Charges what was used and what runs.
    pub(super) fn charge(&self, guard: &Guard<'_>) {
        self.change(guard, |turns, now| {
            turns.charge(now);
            Changed::default()
        });
    }

    /// So many threads of a worker want to launch.
    pub(super) fn set_waits(&self, number: usize, waits: u32) {
        self.seat(number).waits.store(waits, Ordering::Relaxed);
        self.count();
    }

    /// What a worker has on the device runs since then; 0: it has nothing there any more.
    pub(super) fn done(
        &self,
        guard: &Guard<'_>,
        place: Place,
        number: usize,
        since: u64,
    ) -> Changed {
        self.change(guard, |turns, now| {
            self.seat(number)
                .running_since
                .store(since, Ordering::Release);
            let first = self.runs_since(place).unwrap_or(0);
            turns.done(place.index, first, now)
        })
    }

    /// Since when a worker of a lease has work on the device.
    fn runs_since(&self, place: Place) -> Option<u64> {
        let since = |seat: &SeatMemory| seat.running_since.load(Ordering::Acquire);
        let seats = self.seats_at(place).map(since);
        seats.filter(|since| *since != 0).min()
    }

    /// When a lease was last active: now, if a worker of it has work on the device or wants to launch.
    pub(super) fn last_active_ms(&self, place: Place) -> u64 {
        let last = self
            .place(place.index)
            .last_active_ms
            .load(Ordering::Relaxed);
        let of_seat = |seat: &SeatMemory| {
            let is_active = seat.running_since.load(Ordering::Relaxed) != 0
                || seat.waits.load(Ordering::Relaxed) != 0;
            match is_active {
                true => wall_ms(),
                false => seat.last_active_ms.load(Ordering::Relaxed),
            }
        };
        self.seats_at(place).map(of_seat).fold(last, u64::max)
    }

    /// Does something to the state. Where the lock was taken from us meanwhile, nothing is written.
    pub(super) fn change(
        &self,
        guard: &Guard<'_>,
        event: impl FnOnce(&mut Turns, u64) -> Changed,
    ) -> Changed {
        let now = now_ns();
        let (mut turns, paid) = self.load(now);
        let changed = event(&mut turns, now);
        if guard.is_held() {
            self.store(&turns, &paid);
        }
        changed
    }

    /// The state, and how much of which seat's uncharged time is charged in it.
    fn load(&self, now: u64) -> (Turns, Vec<(&SeatMemory, u64)>) {
        let header = self.header();
        let mut paid = Vec::new();
        let mut leases: Vec<Lease> = self.places().iter().map(PlaceMemory::load).collect();
        for seat in self.seats() {
            let place = seat.place.load(Ordering::Relaxed) as usize;
            let Some(lease) = place.checked_sub(1).and_then(|place| leases.get_mut(place)) else {
                continue;
            };
            lease.waits |= seat.waits.load(Ordering::Relaxed) != 0;
            let since = seat.running_since.load(Ordering::Acquire);
            if since != 0 && (lease.running_since == 0 || since < lease.running_since) {
                lease.running_since = since;
            }
            let uncharged = seat.uncharged_ns.load(Ordering::Relaxed);
            if uncharged != 0 {
                lease.pay_unshared(uncharged, now);
                paid.push((seat, uncharged));
            }
        }
        let holder = header.holder.load(Ordering::Relaxed) as usize;
        let turns = Turns {
            holder: holder.checked_sub(1).filter(|place| *place < leases.len()),
            leases,
            began: header.began.load(Ordering::Relaxed),
            touched: header.touched.load(Ordering::Relaxed),
            lapsed: Vec::new(),
        };
        (turns, paid)
    }

    fn store(&self, turns: &Turns, paid: &[(&SeatMemory, u64)]) {
        let header = self.header();
        let holder = turns.holder.map_or(0, |place| place as u32 + 1);
        header.holder.store(holder, Ordering::Relaxed);
        header.began.store(turns.began, Ordering::Relaxed);
        header.touched.store(turns.touched, Ordering::Relaxed);
        for (place, lease) in self.places().iter().zip(&turns.leases) {
            place.store(lease);
        }
        for (seat, time) in paid {
            let rest = |uncharged: u64| Some(uncharged.saturating_sub(*time));
            let _ = seat
                .uncharged_ns
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        }
        for seat in self.seats() {
            let place = seat.place.load(Ordering::Relaxed) as usize;
            if turns.lapsed.iter().any(|lapsed| lapsed + 1 == place) {
                seat.waits.store(0, Ordering::Relaxed);
            }
        }
        if !turns.lapsed.is_empty() {
            self.count();
        }
    }

    /// Counts anew who waits and which leases have workers, for those who only read. Who has none has no turn either.
    fn count(&self) {
        let mut present = [false; MAX_PLACES];
        let (mut waiting, mut workers) = (0, 0);
        for seat in self.seats() {
            let place = seat.place.load(Ordering::Relaxed) as usize;
            if let Some(present) = place
                .checked_sub(1)
                .and_then(|place| present.get_mut(place))
            {
                *present = true;
                workers += 1;
                waiting += u32::from(seat.waits.load(Ordering::Relaxed) != 0);
            }
        }
        let leases = present.iter().filter(|present| **present).count() as u32;
        let holder = self.header().holder.load(Ordering::Relaxed) as usize;
        let is_there = |place| present.get(place).is_some_and(|present| *present);
        if !holder.checked_sub(1).is_some_and(is_there) {
            self.header().holder.store(0, Ordering::Relaxed);
        }
        self.header().waiting.store(waiting, Ordering::Relaxed);
        self.header().leases.store(leases, Ordering::Relaxed);
        self.header().workers.store(workers, Ordering::Relaxed);
    }

    // Without the lock:

    /// Wakes who has something to ask again.
    pub(super) fn tell(&self, changed: &Changed) {
        for place in changed.next.into_iter().chain(changed.own) {
            let Some(place) = self.places().get(place) else {
                continue;
            };
            place.news.fetch_add(1, Ordering::Release);
            wake(&place.news, u32::MAX >> 1);
        }
    }

    fn mine(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process that took a seat lives.
    pub(super) fn is_alive(&self, number: usize) -> bool {
        if self.mine().contains(&number) {
            return true;
        }
        let mut request = record(number, libc::F_WRLCK);
        // SAFETY: an open descriptor and a complete request, which the call overwrites with its answer.
        let asked = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLK, &raw mut request) };
        // If the question fails, better believe that it lives.
        asked != 0 || i32::from(request.l_type) != libc::F_UNLCK
    }

    fn set_record_lock(&self, number: usize, kind: libc::c_int) -> io::Result<()> {
        let request = record(number, kind);
        // SAFETY: an open descriptor and a complete request.
        if unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLK, &raw const request) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl PlaceMemory {
    fn load(&self) -> Lease {
        let number = |word: &AtomicU64| word.load(Ordering::Relaxed);
        Lease {
            parts: self.parts.load(Ordering::Relaxed).min(super::WHOLE),
            is_capped: self.is_capped.load(Ordering::Relaxed) != 0,
            waits: false,
            running_since: 0,
            used: number(&self.used_ns),
            virtual_time: number(&self.virtual_time),
            charged_until: number(&self.charged_until),
            not_before: number(&self.not_before),
            idle_since: number(&self.idle_since),
            last_gap: number(&self.last_gap),
        }
    }

    /// Numbers that only grow are never made less: who was stopped in the middle of this may go on much later.
    fn store(&self, lease: &Lease) {
        let grow = |word: &AtomicU64, number| word.fetch_max(number, Ordering::Relaxed);
        grow(&self.used_ns, lease.used);
        grow(&self.virtual_time, lease.virtual_time);
        grow(&self.charged_until, lease.charged_until);
        grow(&self.not_before, lease.not_before);
        let set = |word: &AtomicU64, number| word.store(number, Ordering::Relaxed);
        set(&self.idle_since, lease.idle_since);
        set(&self.last_gap, lease.last_gap);
    }
}

impl SeatMemory {
    fn clear(&self) {
        self.place.store(0, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
        self.running_since.store(0, Ordering::Relaxed);
        self.uncharged_ns.store(0, Ordering::Relaxed);
    }
}

fn record(number: usize, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: number as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

/// The monotonic clock, which is the same for all processes.
pub(super) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Milliseconds since the Unix epoch, to some milliseconds.
pub(super) fn wall_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Sleeps until the word is woken, if it still is what was seen, or until a time of [`now_ns`].
pub(super) fn wait(word: &AtomicU32, seen: u32, until_ns: u64) {
    let left = until_ns.saturating_sub(now_ns());
    if left == 0 {
        return;
    }
    let time = rustix::time::Timespec {
        tv_sec: (left / 1_000_000_000) as i64,
        tv_nsec: (left % 1_000_000_000) as i64,
    };
    // Woken, changed, interrupted or timed out: the caller looks again.
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&time));
}

/// Wakes sleepers of a word.
pub(super) fn wake(word: &AtomicU32, count: u32) {
    // It fails only for a word that is not mapped.
    let _ = futex::wake(word, futex::Flags::empty(), count);
}
