//! A ledger's memory: what all workers of a lease map.
//!
//! *Rules:* everything is an atomic number that any process of the lease may write, so nothing read from it is trusted to be in range. Seats are taken and
//! cleared, and numbers grow, under the [lock](Memory::lock), which is a record lock on a byte of the file; a seat's own process makes its numbers shrink at
//! any time. The file is sealed, so that nobody can shorten it under another's mapping.
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
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use protocol::limits::MAX_DEVICES;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::thread::futex;

use super::LedgerError;

/// The most slices of a lease.
pub const MAX_SLICES: usize = MAX_DEVICES;

/// The most workers of a lease.
pub const MAX_SEATS: usize = 512;

/// Changes with the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"gpuledg1");

/// The byte of the file whose lock guards the ledger; a seat's byte has its number.
const LOCK_BYTE: usize = MAX_SEATS;

/// How long a worker waits for the lock, which is held for a microsecond: whoever has it then is stopped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long who only looks waits for it: the daemon, which no worker may hold up.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_millis(50);

/// So many looks at the lock before one sleeps between two.
const LOOKS: u32 = 20;

/// How long one sleeps between two looks at the lock: short, since nobody queues for it.
const SLEEP: Duration = Duration::from_micros(20);

/// What concerns all.
#[repr(C, align(64))]
struct Header {
    magic: AtomicU64,
    slices: AtomicU32,
    /// Seats from this on were never taken.
    seats: AtomicU32,
    /// Counts calls for idle credit, and is waited on.
    wanted: AtomicU32,
    limits: [AtomicU64; MAX_SLICES],
}

/// What a worker has of one slice.
#[repr(C)]
struct Account {
    /// Bytes taken.
    held: AtomicU64,
    /// Bytes of these that are on their way out.
    leaving: AtomicU64,
}

/// A worker.
#[repr(C, align(64))]
struct SeatMemory {
    is_taken: AtomicU32,
    /// The last call for idle credit that its program has answered.
    answered: AtomicU32,
    session: AtomicU64,
    accounts: [Account; MAX_SLICES],
}

#[repr(C)]
struct Layout {
    header: Header,
    seats: [SeatMemory; MAX_SEATS],
}

const _: () = assert!(size_of::<Header>() == 64 + 8 * MAX_SLICES);
const _: () = assert!(size_of::<SeatMemory>() == 64 + 16 * MAX_SLICES);

/// The mapping and its file.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    map: MmapRaw,
    /// Record locks exclude neither threads of one process from each other, nor are they seen by their own process: the seats of this one.
    mine: Mutex<Vec<usize>>,
}

/// The ledger's lock, until dropped, and the seats of this process.
pub(super) struct Guard<'a> {
    memory: &'a Memory,
    mine: MutexGuard<'a, Vec<usize>>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // To unlock what is locked cannot fail.
        let _ = self.memory.set_record_lock(LOCK_BYTE, libc::F_UNLCK);
    }
}

impl Memory {
    pub(super) fn create(limits: &[u64]) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("gpurun-ledger", flags)?);
        file.set_len(size_of::<Layout>() as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let memory = Self::map(file)?;
        let header = memory.header();
        for (place, limit) in header.limits.iter().zip(limits) {
            place.store(*limit, SeqCst);
        }
        header.slices.store(limits.len() as u32, SeqCst);
        header.magic.store(MAGIC, SeqCst);
        Ok(memory)
    }

    pub(super) fn open(descriptor: OwnedFd) -> Result<Self, LedgerError> {
        let file = File::from(descriptor);
        let is_long_enough = file.metadata()?.len() == size_of::<Layout>() as u64;
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if !is_long_enough || !seals.contains(SealFlags::SHRINK) {
            return Err(LedgerError::NotALedger);
        }
        let memory = Self::map(file)?;
        if memory.header().magic.load(SeqCst) != MAGIC {
            return Err(LedgerError::NotALedger);
        }
        Ok(memory)
    }

    fn map(file: File) -> io::Result<Self> {
        let map = MmapOptions::new().len(size_of::<Layout>()).map_raw(&file)?;
        Ok(Self {
            file,
            map,
            mine: Mutex::default(),
        })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: by the module's rules; the kernel maps whole pages, so it is aligned.
        unsafe { &*self.map.as_ptr().cast::<Layout>() }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn header(&self) -> &Header {
        &self.layout().header
    }

    /// The limits as they were written; nothing if that is no ledger.
    pub(super) fn limits(&self) -> Option<Vec<u64>> {
        let count = self.header().slices.load(SeqCst) as usize;
        let limits = self.header().limits.get(..count)?;
        (count > 0).then(|| limits.iter().map(|limit| limit.load(SeqCst)).collect())
    }

    fn seats(&self) -> &[SeatMemory] {
        let count = self.header().seats.load(SeqCst) as usize;
        &self.layout().seats[..count.min(MAX_SEATS)]
    }

    fn account(&self, seat: usize, slice: usize) -> Option<&Account> {
        self.layout().seats.get(seat)?.accounts.get(slice)
    }

    /// Locks the ledger, unless whoever has it does not go on.
    pub(super) fn lock(&self, patience: Duration) -> io::Result<Guard<'_>> {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let end = Instant::now() + patience;
        let mut looks = 0;
        loop {
            match self.set_record_lock(LOCK_BYTE, libc::F_WRLCK) {
                Ok(()) => return Ok(Guard { memory: self, mine }),
                Err(error) if !is_held(&error) || Instant::now() >= end => return Err(error),
                Err(_) if looks < LOOKS => std::thread::yield_now(),
                Err(_) => std::thread::sleep(SLEEP),
            }
            looks += 1;
        }
    }

    /// Adds up what the workers of these sessions have taken.
    pub(super) fn sum(&self, slice: usize, counts: impl Fn(u64) -> bool) -> u64 {
        let seats = self.seats().iter();
        let taken = seats.filter(|seat| seat.is_taken() && counts(seat.session.load(SeqCst)));
        let held = taken.filter_map(|seat| Some(seat.accounts.get(slice)?.held.load(SeqCst)));
        held.fold(0, u64::saturating_add)
    }

    /// Bytes that other seats are giving back.
    pub(super) fn leaving(&self, slice: usize, except: usize) -> u64 {
        let seats = self.seats().iter().enumerate();
        let others = seats.filter(|(number, seat)| *number != except && seat.is_taken());
        let leaving =
            others.filter_map(|(_, seat)| Some(seat.accounts.get(slice)?.leaving.load(SeqCst)));
        leaving.fold(0, u64::saturating_add)
    }

    pub(super) fn held(&self, seat: usize, slice: usize) -> u64 {
        self.account(seat, slice)
            .map_or(0, |account| account.held.load(SeqCst))
    }

    pub(super) fn add(&self, seat: usize, slice: usize, bytes: u64, _: &Guard<'_>) {
        if let Some(account) = self.account(seat, slice) {
            account.held.fetch_add(bytes, SeqCst);
        }
    }

    pub(super) fn subtract(&self, seat: usize, slice: usize, bytes: u64) {
        if let Some(account) = self.account(seat, slice) {
            shrink(&account.held, bytes);
        }
    }

    pub(super) fn begin_to_leave(&self, seat: usize, slice: usize, bytes: u64) {
        if let Some(account) = self.account(seat, slice) {
            account.leaving.fetch_add(bytes, SeqCst);
        }
    }

    pub(super) fn end_leaving(&self, seat: usize, slice: usize, bytes: u64) {
        if let Some(account) = self.account(seat, slice) {
            shrink(&account.leaving, bytes);
        }
    }

    pub(super) fn take_seat(
        &self,
        session: u64,
        guard: &mut Guard<'_>,
    ) -> io::Result<Option<usize>> {
        let all = self.layout().seats.iter().enumerate();
        let mut free = all.filter(|(number, seat)| {
            !seat.is_taken() && !guard.mine.contains(number) && !self.is_locked(*number)
        });
        let Some((number, seat)) = free.next() else {
            return Ok(None);
        };
        self.set_record_lock(number, libc::F_WRLCK)?;
        guard.mine.push(number);
        seat.clear();
        seat.session.store(session, SeqCst);
        seat.answered.store(self.wanted(), SeqCst);
        seat.is_taken.store(1, SeqCst);
        self.header().seats.fetch_max(number as u32 + 1, SeqCst);
        Ok(Some(number))
    }

    /// Clears a seat of this process, if the lock could be had, and says that nobody sits there.
    pub(super) fn leave_seat(&self, number: usize, guard: Option<Guard<'_>>) {
        if guard.is_some() {
            self.layout().seats[number].clear();
        }
        // It fails for nothing that could be told to anybody, and ends with the process at the latest.
        let _ = self.set_record_lock(number, libc::F_UNLCK);
        match guard {
            Some(mut guard) => guard.mine.retain(|other| *other != number),
            None => {
                let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
                mine.retain(|other| *other != number);
            }
        }
    }

    /// What the kernel does when a seat's process is killed.
    #[cfg(test)]
    pub(super) fn lose_seat(&self, number: usize) {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.retain(|other| *other != number);
        self.set_record_lock(number, libc::F_UNLCK)
            .expect("unlocked");
    }

    /// Clears the seats of workers that have ended.
    pub(super) fn forget_the_dead(&self, guard: &Guard<'_>) {
        for (number, seat) in self.seats().iter().enumerate() {
            if seat.is_taken() && !guard.mine.contains(&number) && !self.is_locked(number) {
                seat.clear();
            }
        }
    }

    pub(super) fn wanted(&self) -> u32 {
        self.header().wanted.load(SeqCst)
    }

    pub(super) fn want(&self) -> u32 {
        let number = self.header().wanted.fetch_add(1, SeqCst).wrapping_add(1);
        // It fails only for a word that is not mapped.
        let _ = futex::wake(&self.header().wanted, futex::Flags::empty(), u32::MAX >> 1);
        number
    }

    /// Sleeps until the word changes, for so long at most.
    pub(super) fn wait_wanted(&self, seen: u32, most: Duration) {
        let time = rustix::time::Timespec {
            tv_sec: most.as_secs() as i64,
            tv_nsec: most.subsec_nanos().into(),
        };
        // Woken, changed, interrupted or timed out: the caller looks again.
        let _ = futex::wait(
            &self.header().wanted,
            futex::Flags::empty(),
            seen,
            Some(&time),
        );
    }

    pub(super) fn answer(&self, seat: usize, number: u32) {
        if let Some(seat) = self.layout().seats.get(seat) {
            // An older answer takes none back; numbers wrap.
            let is_newer = |before: u32| number.wrapping_sub(before) < u32::MAX / 2;
            let _ = seat
                .answered
                .fetch_update(SeqCst, SeqCst, |before| is_newer(before).then_some(number));
        }
    }

    pub(super) fn have_answered(&self, number: u32, except: usize) -> bool {
        let mut seats = self.seats().iter().enumerate();
        seats.all(|(other, seat)| {
            // Numbers wrap: they are compared by distance.
            let ahead = seat.answered.load(SeqCst).wrapping_sub(number);
            other == except || !seat.is_taken() || ahead < u32::MAX / 2
        })
    }

    /// Whether another process has a seat's byte.
    fn is_locked(&self, number: usize) -> bool {
        let mut request = record(number, libc::F_WRLCK);
        // SAFETY: an open descriptor and a complete request, which the call overwrites with its answer.
        let asked = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLK, &raw mut request) };
        // If the question fails, better believe that somebody lives.
        asked != 0 || i32::from(request.l_type) != libc::F_UNLCK
    }

    fn set_record_lock(&self, byte: usize, kind: libc::c_int) -> io::Result<()> {
        let request = record(byte, kind);
        // SAFETY: an open descriptor and a complete request.
        if unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLK, &raw const request) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl SeatMemory {
    fn is_taken(&self) -> bool {
        self.is_taken.load(SeqCst) != 0
    }

    fn clear(&self) {
        self.is_taken.store(0, SeqCst);
        self.session.store(0, SeqCst);
        for account in &self.accounts {
            account.held.store(0, SeqCst);
            account.leaving.store(0, SeqCst);
        }
    }
}

/// Never below 0, whatever others have written there.
fn shrink(number: &AtomicU64, bytes: u64) {
    // It has an answer for every number, so it does not fail.
    let _ = number.fetch_update(SeqCst, SeqCst, |held| Some(held.saturating_sub(bytes)));
}

/// Whether an error of a record lock says that another process has it.
fn is_held(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EACCES | libc::EINTR)
    )
}

fn record(byte: usize, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
