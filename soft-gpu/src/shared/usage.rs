//! How a device is used, for a process that does not use it: the export [`gpurun_soft_gpu_usage`].
//!
//! It maps the segment for reading, takes no place in it, and lets it go again. It refuses a process that has initialised the driver:
//! closing the file would give back that process's own record locks, by which the others know that it lives.
//!
//! # Safety
//!
//! The export writes to a place that its caller made; its contract is [`soft_usage::Function`]'s. The mapping is
//! read through atomics and unmapped before its view is gone.

#![expect(unsafe_code, reason = "a C function, and a mapping for reading")]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use driver_api::abi::CUresult;
use driver_api::soft_usage::{self, ProcessUsage, Usage};
use rustix::mm::{MapFlags, ProtFlags};

use super::{Layout, MAGIC, MAX_PROCESSES, busy, record};
use crate::config::{Config, MAX_DEVICES};

const _: () = assert!(MAX_PROCESSES == soft_usage::MAX_PROCESSES);

/// Tells how a device is used; the device is the one that the environment names, as for `cuInit`.
///
/// # Safety
///
/// `usage` is null or a place for a [`Usage`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gpurun_soft_gpu_usage(device: u32, usage: *mut Usage) -> CUresult {
    if usage.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null, and by contract a structure whose first word is set.
    let size = unsafe { usage.cast::<u64>().read_unaligned() };
    if size != Usage::EMPTY.size || device as usize >= MAX_DEVICES {
        return CUresult::INVALID_VALUE;
    }
    if crate::state::driver().is_ok() {
        return CUresult::NOT_PERMITTED;
    }
    let look = || look(device as usize);
    match catch_unwind(AssertUnwindSafe(look)).unwrap_or(Err(CUresult::UNKNOWN)) {
        Ok(seen) => {
            // SAFETY: not null, and by contract a place for it.
            unsafe { usage.write_unaligned(seen) };
            CUresult::SUCCESS
        }
        Err(code) => code,
    }
}

fn look(device: usize) -> Result<Usage, CUresult> {
    let config = Config::from_environment();
    match View::open(&config.segment) {
        Ok(view) if view.is_ours() => Ok(view.usage(device)),
        // Nobody has used the device yet.
        Ok(_) => Ok(unused(config.memory_bytes)),
        Err(error) if error == rustix::io::Errno::NOENT => Ok(unused(config.memory_bytes)),
        Err(_) => Err(CUresult::OPERATING_SYSTEM),
    }
}

fn unused(memory_bytes: u64) -> Usage {
    Usage {
        memory_bytes,
        ..Usage::EMPTY
    }
}

/// A segment seen from outside.
pub(super) struct View {
    file: File,
    layout: NonNull<Layout>,
}

impl View {
    pub(super) fn open(name: &str) -> rustix::io::Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(format!("/dev/shm/{name}"), flags, Mode::empty())?;
        // A file that is shorter is of no use, and touching what it lacks would be an end by a signal.
        if rustix::fs::fstat(&file)?.st_size != size_of::<Layout>() as i64 {
            return Err(rustix::io::Errno::NOENT);
        }
        // SAFETY: a fresh mapping at a place of the kernel's choice.
        let mapped = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<Layout>(),
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let layout = NonNull::new(mapped.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self {
            file: file.into(),
            layout,
        })
    }

    pub(super) fn layout(&self) -> &Layout {
        // SAFETY: mapped for as long as we live, of this size, and consisting of atomics that are only loaded.
        unsafe { self.layout.as_ref() }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.layout().header.magic.load(Ordering::Acquire) == MAGIC
    }

    fn usage(&self, device: usize) -> Usage {
        let (header, places) = (&self.layout().header, &self.layout().places);
        let mut usage = unused(header.memory_bytes.load(Ordering::Relaxed));
        let mut running = Vec::new();
        let alive = (0..MAX_PROCESSES).filter(|place| self.is_alive(*place));
        for (entry, place) in alive.map(|place| &places[place]).enumerate() {
            let used_bytes = place.used_bytes[device].load(Ordering::Relaxed);
            let since = place.busy_since_us[device].load(Ordering::Relaxed);
            usage.used_bytes = usage.used_bytes.saturating_add(used_bytes);
            running.extend(Some(since).filter(|since| *since != 0));
            usage.processes[entry] = ProcessUsage {
                process: place.process.load(Ordering::Relaxed),
                reserved: 0,
                used_bytes,
            };
            usage.process_count += 1;
        }
        usage.busy_percent =
            busy::percent(&header.busy[device], running.into_iter(), busy::now_us());
        usage
    }

    /// Whether the process of a place lives: whether its byte is locked.
    pub(super) fn is_alive(&self, place: usize) -> bool {
        // A lock for reading, since that is how the file is open; the living hold locks for writing.
        let mut request = record(1 + place, 1, libc::F_RDLCK);
        // SAFETY: an open descriptor and a complete request, which the call overwrites with its answer.
        let asked = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLK, &raw mut request) };
        asked == 0 && i32::from(request.l_type) != libc::F_UNLCK
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and nobody can hold a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.layout.as_ptr().cast(), size_of::<Layout>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_nobody_uses_is_free_and_idle() {
        let mut usage = Usage::EMPTY;
        // SAFETY: a live structure.
        let result = unsafe { gpurun_soft_gpu_usage(15, &mut usage) };
        assert_eq!(result, CUresult::SUCCESS);
        assert!(usage.memory_bytes >= usage.used_bytes && usage.memory_bytes > 0);
    }

    #[test]
    fn another_release_s_structure_is_refused() {
        let mut usage = Usage {
            size: 8,
            ..Usage::EMPTY
        };
        // SAFETY: live structures, or null.
        unsafe {
            assert_eq!(
                gpurun_soft_gpu_usage(0, &mut usage),
                CUresult::INVALID_VALUE
            );
            assert_eq!(
                gpurun_soft_gpu_usage(0, std::ptr::null_mut()),
                CUresult::INVALID_VALUE
            );
            let mut usage = Usage::EMPTY;
            assert_eq!(
                gpurun_soft_gpu_usage(99, &mut usage),
                CUresult::INVALID_VALUE
            );
        }
    }

    #[test]
    fn a_process_is_counted_while_it_lives() {
        let name = format!("gpurun-test-usage-{}", std::process::id());
        // A child lives in the segment, since a process does not see its own locks.
        let (mut told, mut tell) = std::io::pipe().unwrap();
        // SAFETY: the child makes a segment, tells and waits, and never returns to the tests.
        let child = unsafe { libc::fork() };
        if child == 0 {
            use std::io::Write as _;
            let alive = super::super::Segment::attach(&name, 100).is_ok_and(|segment| {
                let charged = segment.charge(1, 60).is_ok();
                let _kernel = segment.turn(1);
                std::thread::sleep(std::time::Duration::from_millis(5));
                charged && tell.write_all(b"!").is_ok() && {
                    // Until the parent ends it.
                    std::thread::sleep(std::time::Duration::from_secs(60));
                    true
                }
            });
            // SAFETY: ends the child only.
            unsafe { libc::_exit(i32::from(!alive)) };
        }
        drop(tell);
        std::io::Read::read_exact(&mut told, &mut [0]).unwrap();
        let used = View::open(&name).unwrap().usage(1);
        let other = View::open(&name).unwrap().usage(0);
        // SAFETY: the child is ours, and not yet waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        let after = View::open(&name).unwrap().usage(1);
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
        assert_eq!((used.memory_bytes, used.used_bytes), (100, 60));
        assert_eq!(used.processes()[0].process, child.cast_unsigned());
        assert!(used.busy_percent > 0, "a kernel that has not ended counts");
        assert_eq!((other.used_bytes, other.busy_percent), (0, 0));
        assert_eq!((after.used_bytes, after.process_count), (0, 0));
    }
}
