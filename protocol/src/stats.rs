//! What a run counted: a small file that the launcher makes and the program's processes map.
//!
//! What: the layout, [`MappedStats`] for the side that counts, and its [`Report`]. Why a file: the program may
//! end by a signal or by `_exit`, and may consist of several processes; counts in a shared mapping outlive
//! them all. Rules: everything is a relaxed atomic, so counting costs one instruction and nobody ever waits;
//! every process of a run uses the same release, so a slot means the same function in all of them.
//!
//! # Safety
//! The mapping is made once over a file of exactly the layout's size, is shared, consists of nothing but
//! atomics, and lives as long as its owner.
#![expect(
    unsafe_code,
    reason = "a shared mapping seen as a structure of atomics"
)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags};

use crate::hello::DeviceKind;

/// Slots for functions; a function's slot is a small number that every process of a run agrees on.
pub const SLOTS: usize = 1024;

/// Most bytes of a function's name.
pub const NAME_BYTES: usize = 56;

const MAGIC: u64 = u64::from_le_bytes(*b"GPURUNST");
const VERSION: u64 = 1;

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// In the program's own process.
    Local,
    /// Sent without waiting for a reply.
    Posted,
    /// Sent, and a reply awaited.
    Asked,
}

/// Text of up to `8 × WORDS` bytes, ended by a zero byte if shorter.
#[repr(C)]
struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Text<WORDS> {
    fn set(&self, text: &str) {
        let text = &text.as_bytes()[..text.floor_char_boundary(8 * WORDS)];
        let mut chunks = text.chunks(8);
        for word in &self.0 {
            let mut bytes = [0; 8];
            let chunk = chunks.next().unwrap_or_default();
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), Relaxed);
        }
    }

    fn get(&self) -> String {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[repr(C)]
struct Slot {
    name: Text<{ NAME_BYTES / 8 }>,
    local: AtomicU64,
    posted: AtomicU64,
    asked: AtomicU64,
    waited_ns: AtomicU64,
}

#[repr(C)]
struct Layout {
    magic: AtomicU64,
    version: AtomicU64,
    device_kind: AtomicU64,
    device: Text<16>,
    transport: Text<8>,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    waited_ns: AtomicU64,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Slot>() == 88);
const _: () = assert!(size_of::<Layout>() == 240 + SLOTS * size_of::<Slot>());

/// The counts of a run, mapped.
#[derive(Debug)]
pub struct MappedStats {
    layout: NonNull<Layout>,
}

// SAFETY: the mapping consists of atomics only and belongs to no thread.
unsafe impl Send for MappedStats {}
// SAFETY: as above.
unsafe impl Sync for MappedStats {}

impl MappedStats {
    /// Makes an empty file of counts of this one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn create(file: &File) -> io::Result<Self> {
        file.set_len(0)?;
        file.set_len(size_of::<Layout>() as u64)?;
        let stats = Self::map(file)?;
        stats.layout().magic.store(MAGIC, Relaxed);
        stats.layout().version.store(VERSION, Relaxed);
        Ok(stats)
    }

    /// Maps the file of counts at `path`.
    ///
    /// # Errors
    /// The operating system's; `InvalidData` if it is no such file, or another release's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != size_of::<Layout>() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let stats = Self::map(&file)?;
        let layout = stats.layout();
        if layout.magic.load(Relaxed) != MAGIC || layout.version.load(Relaxed) != VERSION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(stats)
    }

    fn map(file: &File) -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice disturbs nobody's memory.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<Layout>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let layout = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { layout })
    }

    fn layout(&self) -> &Layout {
        // SAFETY: the mapping has the layout's size, is page-aligned, holds only atomics (any bytes are
        // values of them), and stays until we are dropped.
        unsafe { self.layout.as_ref() }
    }

    /// Names a slot; slots beyond the last are ignored.
    pub fn name(&self, slot: usize, name: &str) {
        if let Some(slot) = self.layout().slots.get(slot) {
            slot.name.set(name);
        }
    }

    /// Counts one call.
    #[inline]
    pub fn count(&self, slot: usize, answered: Answered) {
        if let Some(slot) = self.layout().slots.get(slot) {
            let counter = match answered {
                Answered::Local => &slot.local,
                Answered::Posted => &slot.posted,
                Answered::Asked => &slot.asked,
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Adds time that a call waited for the server.
    #[inline]
    pub fn waited(&self, slot: usize, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.layout().waited_ns.fetch_add(ns, Relaxed);
        if let Some(slot) = self.layout().slots.get(slot) {
            slot.waited_ns.fetch_add(ns, Relaxed);
        }
    }

    /// Adds bytes that went to the server.
    #[inline]
    pub fn sent(&self, bytes: u64) {
        self.layout().sent_bytes.fetch_add(bytes, Relaxed);
    }

    /// Adds bytes that came from the server.
    #[inline]
    pub fn received(&self, bytes: u64) {
        self.layout().received_bytes.fetch_add(bytes, Relaxed);
    }

    /// Says what the calls went to.
    pub fn set_device(&self, name: &str, kind: DeviceKind) {
        self.layout().device.set(name);
        let kind = u64::try_from(i32::from(kind)).unwrap_or(0);
        self.layout().device_kind.store(kind, Relaxed);
    }

    /// Says how they went there.
    pub fn set_transport(&self, transport: &str) {
        self.layout().transport.set(transport);
    }

    /// What was counted so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let layout = self.layout();
        let kind = i32::try_from(layout.device_kind.load(Relaxed)).unwrap_or(0);
        Report {
            device: layout.device.get(),
            device_kind: DeviceKind::try_from(kind).unwrap_or_default(),
            transport: layout.transport.get(),
            sent_bytes: layout.sent_bytes.load(Relaxed),
            received_bytes: layout.received_bytes.load(Relaxed),
            waited: Duration::from_nanos(layout.waited_ns.load(Relaxed)),
            functions: layout.slots.iter().filter_map(Slot::report).collect(),
        }
    }
}

impl Slot {
    fn report(&self) -> Option<FunctionReport> {
        let report = FunctionReport {
            name: self.name.get(),
            local: self.local.load(Relaxed),
            posted: self.posted.load(Relaxed),
            asked: self.asked.load(Relaxed),
            waited: Duration::from_nanos(self.waited_ns.load(Relaxed)),
        };
        (report.calls() > 0).then_some(report)
    }
}

impl Drop for MappedStats {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and nobody can hold a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.layout.as_ptr().cast(), size_of::<Layout>()) };
    }
}

/// What a run counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The device's name; empty if the program never asked for one.
    pub device: String,
    /// What the device is made of.
    pub device_kind: DeviceKind,
    /// The transport's name.
    pub transport: String,
    /// Bytes to the server.
    pub sent_bytes: u64,
    /// Bytes from the server.
    pub received_bytes: u64,
    /// Time waited for the server, added over all threads.
    pub waited: Duration,
    /// The functions that were called.
    pub functions: Vec<FunctionReport>,
}

/// What a run counted of one function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionReport {
    /// Its name.
    pub name: String,
    /// Calls answered in the program's own process.
    pub local: u64,
    /// Calls sent without waiting.
    pub posted: u64,
    /// Calls whose reply was awaited.
    pub asked: u64,
    /// Time waited.
    pub waited: Duration,
}

impl FunctionReport {
    /// All calls of the function.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.local
            .saturating_add(self.posted)
            .saturating_add(self.asked)
    }
}

impl Report {
    /// All calls: local, posted, asked.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.functions.iter().fold((0, 0, 0), |sum, function| {
            (
                sum.0.saturating_add(function.local),
                sum.1.saturating_add(function.posted),
                sum.2.saturating_add(function.asked),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any process of the run can write to the file.
    #[test]
    fn counts_beyond_all_numbers_do_not_overflow() {
        let most = FunctionReport {
            local: u64::MAX,
            posted: u64::MAX,
            asked: u64::MAX,
            ..FunctionReport::default()
        };
        let report = Report {
            functions: vec![most.clone(), most],
            ..Report::default()
        };
        assert_eq!(report.totals(), (u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn counts_of_several_mappings_add_up() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let launcher = MappedStats::create(file.as_file()).expect("mapped");
        assert_eq!(launcher.report(), Report::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let program = MappedStats::open(file.path()).expect("mapped");
                    program.name(3, "cuLaunchKernel");
                    program.name(SLOTS, "beyond");
                    for _ in 0..1000 {
                        program.count(3, Answered::Posted);
                        program.count(7, Answered::Local);
                        program.count(SLOTS, Answered::Asked);
                    }
                    program.count(3, Answered::Asked);
                    program.waited(3, Duration::from_micros(5));
                    program.sent(10);
                    program.received(1);
                    program.set_device(&"é".repeat(70), DeviceKind::Software);
                    program.set_transport("tcp");
                });
            }
        });
        let report = launcher.report();
        assert_eq!(report.totals(), (4000, 4000, 4));
        assert_eq!(report.functions[0].name, "cuLaunchKernel");
        assert_eq!(report.functions[0].waited, Duration::from_micros(20));
        assert_eq!((report.sent_bytes, report.received_bytes), (40, 4));
        assert_eq!(report.device, "é".repeat(64));
        assert_eq!(report.device_kind, DeviceKind::Software);
        assert_eq!(report.transport, "tcp");
    }

    #[test]
    fn other_files_are_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(MappedStats::open(file.path()).is_err());
        file.as_file()
            .set_len(size_of::<Layout>() as u64)
            .expect("longer");
        let error = MappedStats::open(file.path()).expect_err("no magic");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
