//! What all processes on one device share: a named segment in `/dev/shm`.
//!
//! It holds the [ledger] of memory, the [scheduler]'s turn and the times in which kernels ran ([busy]). Each process has a *place* in it, which says as well how it can be
//! [suspended](suspension); [usage] tells it all to who has none.
//!
//! Nobody cleans up after a process that was killed, so the kernel has to: a process holds a POSIX record lock on one byte of
//! the file for as long as it lives, and the ledger's own lock is one too. Both vanish with their owner,
//! across PID namespaces and PID reuse. What a place says counts only while its byte is locked.
//!
//! # Safety
//!
//! The mapping is of a file that stays open and is never shortened, as long as the process lives. It is
//! accessed through atomics only, since other processes write to it.

#![expect(
    unsafe_code,
    reason = "a mapping shared with other processes, and record locks"
)]

mod busy;
mod ledger;
mod scheduler;
mod suspension;
mod usage;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use driver_api::soft_usage::SEGMENT_FOLDER;
use rustix::mm::{MapFlags, ProtFlags};

use crate::config::MAX_DEVICES;
use crate::log::warn;

pub(crate) use suspension::{Suspension, suspension_of};

/// The most processes that can use one device at a time.
pub(crate) const MAX_PROCESSES: usize = 512;

/// Bits of the number by which members know each other.
pub(crate) const MEMBER_BITS: u32 = driver_api::event_records::WHO_BITS;

/// Changes with the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"gpurun03");

#[repr(C)]
struct Header {
    magic: AtomicU64,
    /// Memory of each device.
    memory_bytes: AtomicU64,
    /// See [`scheduler`].
    turn: AtomicU64,
    waiting: AtomicU64,
    busy: [busy::Ring; MAX_DEVICES],
}

/// What one process has taken.
#[repr(C)]
struct Place {
    /// For people: who it is.
    process: AtomicU32,
    /// How many have had it.
    tenancy: AtomicU32,
    used_bytes: [AtomicU64; MAX_DEVICES],
    /// Since when it runs kernels; 0: it runs none. See [`busy`].
    busy_since_us: [AtomicU64; MAX_DEVICES],
    suspension: suspension::Shown,
}

#[repr(C)]
struct Layout {
    header: Header,
    places: [Place; MAX_PROCESSES],
}

const _: () = assert!(size_of::<Header>() == 32 + 64 * MAX_DEVICES);
const _: () = assert!(size_of::<Place>() == 8 + 16 * MAX_DEVICES + 24);

/// Why there is no segment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error("cannot open {path}: {source}")]
    Open {
        path: String,
        source: std::io::Error,
    },
    #[error("cannot map {path}: {source}")]
    Map {
        path: String,
        source: rustix::io::Errno,
    },
    #[error("cannot lock {path}: {source}")]
    Lock {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} is used by {MAX_PROCESSES} processes already")]
    Full { path: String },
}

/// This process's place in the segment.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    layout: NonNull<Layout>,
    place: usize,
    /// The numbers of the devices by the ordinals that this process knows them by.
    numbers: [usize; MAX_DEVICES],
    /// Record locks do not exclude threads of one process from each other.
    threads: Mutex<()>,
    turn: scheduler::Own,
    busy: busy::Own,
}

// SAFETY: the layout behind the pointer consists of atomics and is never unmapped.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// The byte whose lock guards the ledger; byte 1 + n belongs to place n.
const LEDGER_BYTE: usize = 0;

impl Segment {
    /// Opens the segment, made anew if nobody lives in it, and takes a place.
    pub(crate) fn attach(name: &str, memory_bytes: u64) -> Result<Self, SegmentError> {
        let path = format!("{SEGMENT_FOLDER}/{name}");
        let (file, layout) = open(&path)?;
        let mut segment = Self {
            file,
            layout,
            place: 0,
            numbers: std::array::from_fn(|device| device),
            threads: Mutex::new(()),
            turn: scheduler::Own::default(),
            busy: busy::Own::default(),
        };
        let lock_error = |source| SegmentError::Lock {
            path: path.clone(),
            source,
        };
        segment
            .lock(LEDGER_BYTE, libc::F_WRLCK, true)
            .map_err(lock_error)?;
        if !segment.anyone_alive() || segment.header().magic.load(Ordering::Relaxed) != MAGIC {
            segment.initialise(memory_bytes);
        }
        let place =
            (0..MAX_PROCESSES).find(|place| segment.lock(1 + place, libc::F_WRLCK, false).is_ok());
        if let Some(place) = place {
            segment.place = place;
            segment.place(place).clear(std::process::id());
            segment.place(place).tenancy.fetch_add(1, Ordering::Relaxed);
        }
        segment
            .lock(LEDGER_BYTE, libc::F_UNLCK, false)
            .map_err(lock_error)?;
        if segment.memory_bytes() != memory_bytes {
            warn(&format!(
                "the device {name} is in use with {} bytes of memory; the setting of {memory_bytes} is not taken",
                segment.memory_bytes()
            ));
        }
        place.map(|_| segment).ok_or(SegmentError::Full { path })
    }

    /// The same for a process that sees these devices, in this order.
    pub(crate) fn showing(mut self, visible: &[usize]) -> Self {
        for (number, seen) in self.numbers.iter_mut().zip(visible) {
            *number = *seen;
        }
        self
    }

    /// Memory of each device, as the first process of the segment set it.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.header().memory_bytes.load(Ordering::Relaxed)
    }

    /// Tells this process from all others of the segment: the place's number, and above it who has had it, in [`MEMBER_BITS`].
    pub(crate) fn member(&self) -> u32 {
        self.member_at(self.place)
    }

    fn member_at(&self, place: usize) -> u32 {
        let tenancy = self.place(place).tenancy.load(Ordering::Relaxed);
        (tenancy.wrapping_mul(MAX_PROCESSES as u32) | place as u32) & ((1 << MEMBER_BITS) - 1)
    }

    /// Whether the process lives that [`Self::member`] has named so.
    pub(crate) fn has_member(&self, member: u32) -> bool {
        let place = member as usize % MAX_PROCESSES;
        self.member_at(place) == member && self.is_alive(place)
    }

    /// Tells this segment from others.
    pub(crate) fn number(&self) -> std::io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        self.file.metadata().map(|file| file.ino())
    }

    fn layout(&self) -> &Layout {
        // SAFETY: mapped for ever, of this size, and consisting of atomics.
        unsafe { self.layout.as_ref() }
    }

    fn header(&self) -> &Header {
        &self.layout().header
    }

    fn place(&self, place: usize) -> &Place {
        &self.layout().places[place]
    }

    fn initialise(&self, memory_bytes: u64) {
        let header = self.header();
        header.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        header.turn.store(0, Ordering::Relaxed);
        header.waiting.store(0, Ordering::Relaxed);
        header.busy.iter().for_each(busy::Ring::clear);
        self.layout().places.iter().for_each(|place| place.clear(0));
        header.magic.store(MAGIC, Ordering::Release);
    }

    fn anyone_alive(&self) -> bool {
        self.locked_by_others(1, MAX_PROCESSES)
    }

    /// Whether the process of another place lives.
    fn is_alive(&self, place: usize) -> bool {
        place == self.place || self.locked_by_others(1 + place, 1)
    }

    /// Locks or unlocks a byte of the file for this process.
    fn lock(&self, byte: usize, kind: libc::c_int, wait: bool) -> std::io::Result<()> {
        let request = record(byte, 1, kind);
        let command = if wait { libc::F_SETLKW } else { libc::F_SETLK };
        loop {
            // SAFETY: an open descriptor and a complete request.
            if unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw const request) } == 0 {
                return Ok(());
            }
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn locked_by_others(&self, byte: usize, count: usize) -> bool {
        let mut request = record(byte, count, libc::F_WRLCK);
        // SAFETY: an open descriptor and a complete request, which the call overwrites with its answer.
        let asked = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLK, &raw mut request) };
        // If the question fails, better keep what may be in use.
        asked != 0 || i32::from(request.l_type) != libc::F_UNLCK
    }
}

impl Place {
    fn clear(&self, process: u32) {
        self.process.store(process, Ordering::Relaxed);
        self.suspension.clear();
        self.used_bytes
            .iter()
            .chain(&self.busy_since_us)
            .for_each(|number| number.store(0, Ordering::Relaxed));
    }
}

fn record(byte: usize, count: usize, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: count as libc::off_t,
        l_pid: 0,
    }
}

fn open(path: &str) -> Result<(File, NonNull<Layout>), SegmentError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| SegmentError::Open {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    file.set_len(size_of::<Layout>() as u64).map_err(failed)?;
    // SAFETY: a fresh shared mapping at a place of the kernel's choice.
    let mapped = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            size_of::<Layout>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &file,
            0,
        )
    };
    let mapped = mapped.map_err(|source| SegmentError::Map {
        path: path.to_owned(),
        source,
    })?;
    let layout = NonNull::new(mapped.cast()).ok_or(SegmentError::Map {
        path: path.to_owned(),
        source: rustix::io::Errno::NOMEM,
    })?;
    Ok((file, layout))
}
