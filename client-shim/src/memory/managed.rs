//! Managed memory: device memory in a window, and pages of this process at the same addresses.
//!
//! Small allocations share chunks, as those of device memory do. A chunk, or the range of a large allocation, is opened here: pages lie over the reserved
//! addresses, and are kept [alike](super::mapped) with the device's memory. A chunk of managed memory stays until its context ends. Variables that are managed
//! lie where the server's driver has put them: the same addresses must be free here.
//!
//! # Safety
//! Pages are put over addresses of our own windows alone, or where nothing is; they are closed when the table of shared memory knows them no more.
#![expect(unsafe_code, reason = "maps memory")]

use std::collections::BTreeSet;
use std::ops::Range;

use driver_api::abi::CUresult;
use driver_api::wire::request::GpurunManage;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::device::{GRANULARITY, Kind, MOST_SMALL, Memory};
use crate::context::Context;
use crate::log;
use crate::module::Owner;
use crate::session::Session;

const PAGE: usize = 4096;

/// Puts zeroed pages at addresses, or takes them away again and leaves the addresses reserved; over what is there if it is ours.
fn put(range: &Range<u64>, protection: ProtFlags, over: MapFlags) -> Result<(), CUresult> {
    let (start, size) = (range.start as usize, (range.end - range.start) as usize);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | over;
    let wanted = std::ptr::without_provenance_mut(start);
    // SAFETY: the range is ours, or NOREPLACE leaves what there is untouched.
    let mapped = unsafe { mmap_anonymous(wanted, size, protection, flags) };
    let mapped = mapped.map_err(|_| CUresult::OUT_OF_MEMORY)?;
    if mapped.addr() == start {
        let _ = mapped.expose_provenance();
        return Ok(());
    }
    // A kernel before 4.17 takes the address as a hint.
    // SAFETY: just mapped, known to nobody.
    let _ = unsafe { munmap(mapped, size) };
    Err(CUresult::OUT_OF_MEMORY)
}

fn open(range: &Range<u64>) -> Result<(), CUresult> {
    put(range, ProtFlags::READ | ProtFlags::WRITE, MapFlags::FIXED)
}

pub(super) fn close(range: &Range<u64>) {
    // It fails for want of kernel memory alone: then the pages stay.
    let _ = put(range, ProtFlags::empty(), MapFlags::FIXED);
}

impl Memory {
    /// Managed memory of a context.
    pub(crate) fn allocate_managed(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        if size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if !self.has_windows() {
            log::warn_once(
                "cuMemAllocManaged",
                format_args!(
                    "cuMemAllocManaged: the server's driver has no virtual memory management"
                ),
            );
            return Err(CUresult::NOT_SUPPORTED);
        }
        self.trying_again(session, || {
            if size <= MOST_SMALL {
                return self.allocate_small(session, context, size, true);
            }
            let mapped = size
                .checked_next_multiple_of(GRANULARITY)
                .ok_or(CUresult::OUT_OF_MEMORY)?;
            let start = self.map_managed(session, context, mapped)?;
            self.note(start, size, context.id, Kind::Managed { mapped });
            Ok(start)
        })
    }

    /// Takes a range of a window, with memory of the device and pages of this process, both of zeros.
    pub(super) fn map_managed(
        &self,
        session: &Session,
        context: &Context,
        size: u64,
    ) -> Result<u64, CUresult> {
        let start = self.map(session, context, size)?;
        let range = start..start + size;
        let request = GpurunManage::new(start, size, 1);
        let shared = open(&range)
            .and_then(|()| session.ask_in(context.id, &request, &[]))
            .and_then(|_| {
                self.mapped
                    .add_managed(start as usize, size as usize, context.id, None)
            });
        if let Err(error) = shared {
            close(&range);
            self.unmap_range(session, context.id, range)?;
            return Err(error);
        }
        Ok(start)
    }

    /// Before a range with managed memory is unmapped.
    pub(super) fn unmanage(
        &self,
        session: &Session,
        context: u32,
        range: &Range<u64>,
    ) -> Result<(), CUresult> {
        self.mapped
            .forget_managed(session, range.start as usize, context)?;
        close(range);
        Ok(())
    }

    /// A managed variable, in memory at `range` that the server's driver has placed.
    pub(crate) fn note_managed_variable(
        &self,
        session: &Session,
        context: u32,
        owner: Owner,
        range: &Range<u64>,
    ) -> Result<(), CUresult> {
        let length = range.end - range.start;
        if self.mapped.holds(range.start, length) {
            return Ok(());
        }
        self.open_pages(range).inspect_err(|_| {
            log::warning!(
                "a managed variable is at {:#x}, where this process has something else",
                range.start
            );
        })?;
        let request = GpurunManage::new(range.start, length, 0);
        session.ask_in(context, &request, &[])?;
        let words = (length as usize).next_multiple_of(size_of::<u64>());
        self.mapped
            .add_managed(range.start as usize, words, context, Some(owner))?;
        self.mapped.after_wait(session)
    }

    /// Puts pages where managed variables are. Others may lie on the same pages.
    fn open_pages(&self, range: &Range<u64>) -> Result<(), CUresult> {
        let start = usize::try_from(range.start).map_err(|_| CUresult::INVALID_VALUE)?;
        let end = usize::try_from(range.end).map_err(|_| CUresult::INVALID_VALUE)?;
        if start < PAGE || end > isize::MAX as usize {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut pages = self.variable_pages();
        for page in (start - start % PAGE..end).step_by(PAGE) {
            if pages.contains(&page) {
                continue;
            }
            let range = page as u64..(page + PAGE) as u64;
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            put(&range, protection, MapFlags::FIXED_NOREPLACE)
                .map_err(|_| CUresult::NOT_SUPPORTED)?;
            pages.insert(page);
        }
        // What an earlier variable has left.
        let first = std::ptr::with_exposed_provenance_mut::<u8>(start);
        // SAFETY: pages of ours, which only variables of modules that are gone were in.
        unsafe { first.write_bytes(0, (end - start).next_multiple_of(size_of::<u64>())) };
        Ok(())
    }
}

/// Pages that were put where managed variables are. They stay, since other variables may come there.
pub(super) type Pages = BTreeSet<usize>;
