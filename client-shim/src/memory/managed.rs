//! Managed memory: device memory in a window, and pages of this process at the same addresses.
//!
//! Small allocations share chunks, as those of device memory do. A chunk, or the range of a large allocation, is opened here: pages lie over the reserved
//! addresses, and are kept [alike](super::mapped) with the device's memory. A chunk of managed memory stays until its context ends. Variables that are managed
//! lie where the server's driver has put them: the same addresses must be free here, or pages of an earlier variable.
//!
//! # Safety
//! Pages are put over addresses of our own windows alone, or where nothing is; they are closed when the table of shared memory knows them no more.
#![expect(unsafe_code, reason = "maps memory")]

use std::collections::BTreeSet;
use std::ops::Range;

use driver_api::abi::CUresult;
use driver_api::mirror::Mirror;
use driver_api::wire::request::GpurunManage;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::device::{MOST_SMALL, Memory};
use super::places::{GRANULARITY, Kind};
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
        // Asked for in vain, the range would be given back and asked for again.
        self.mapped.check_room(size)?;
        let start = self.map(session, context, size)?;
        let range = start..start + size;
        let request = GpurunManage::new(start, size, 1);
        let shared = Mirror::new(start as usize, size as usize).and_then(|mirror| {
            open(&range)?;
            session.ask_in(context.id, &request, &[])?;
            Ok(mirror)
        });
        match shared {
            Ok(mirror) => {
                self.mapped.add_managed(mirror, context.id);
                Ok(start)
            }
            Err(error) => {
                close(&range);
                self.unmap_range(session, context.id, range)?;
                Err(error)
            }
        }
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

    /// A managed variable, in memory at `range` that the server's driver has placed. Of two threads that look it up first, the second finds it as the first has
    /// left it.
    pub(crate) fn note_managed_variable(
        &self,
        session: &Session,
        context: u32,
        owner: Owner,
        range: &Range<u64>,
    ) -> Result<(), CUresult> {
        let mut pages = self.variable_pages();
        let length = range.end - range.start;
        if self.mapped.holds(range.start, length) {
            return Ok(());
        }
        open_pages(&mut pages, range).inspect_err(|_| {
            log::warning!(
                "a managed variable is at {:#x}, where this process has something else",
                range.start
            );
        })?;
        let request = GpurunManage::new(range.start, length, 0);
        let variable = range.start as usize..range.end as usize;
        self.mapped.add_variable(&variable, context, owner, || {
            session.ask_in(context, &request, &[]).map(drop)
        })?;
        self.mapped.after_wait(session)
    }
}

/// Pages that were put where managed variables are. They stay, since other variables may come there. Held while a variable is noted.
pub(super) type Pages = BTreeSet<usize>;

/// Puts pages where a managed variable is, zeroed there. Others may lie on the same pages.
fn open_pages(pages: &mut Pages, range: &Range<u64>) -> Result<(), CUresult> {
    let start = usize::try_from(range.start).map_err(|_| CUresult::INVALID_VALUE)?;
    let end = usize::try_from(range.end).map_err(|_| CUresult::INVALID_VALUE)?;
    if start < PAGE || end > isize::MAX as usize - PAGE {
        return Err(CUresult::INVALID_VALUE);
    }
    let old = runs(pages, start..end, true);
    for run in runs(pages, start..end, false) {
        let range = run.start as u64..run.end as u64;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        put(&range, protection, MapFlags::FIXED_NOREPLACE).map_err(|_| CUresult::NOT_SUPPORTED)?;
        pages.extend(run.step_by(PAGE));
    }
    for run in old {
        let (first, last) = (run.start.max(start), run.end.min(end));
        let left = std::ptr::with_exposed_provenance_mut::<u8>(first);
        // What an earlier variable has left.
        // SAFETY: pages of ours, which only variables of modules that are gone were in.
        unsafe { left.write_bytes(0, last - first) };
    }
    Ok(())
}

/// The pages that a range touches, as runs: those that were put there, or those that were not.
fn runs(pages: &Pages, range: Range<usize>, were_put: bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for page in (range.start - range.start % PAGE..range.end).step_by(PAGE) {
        if pages.contains(&page) != were_put {
            continue;
        }
        match runs.last_mut().filter(|run| run.end == page) {
            Some(run) => run.end += PAGE,
            None => runs.push(page..page + PAGE),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_put_in_runs_around_those_that_are_there() {
        let pages = Pages::from([3 * PAGE, 4 * PAGE]);
        let range = PAGE + 8..7 * PAGE + 8;
        let missing = [PAGE..3 * PAGE, 5 * PAGE..8 * PAGE];
        assert_eq!(runs(&pages, range.clone(), false), missing);
        let there = 3 * PAGE..5 * PAGE;
        assert_eq!(runs(&pages, range, true), std::slice::from_ref(&there));
    }

    #[test]
    fn a_variable_on_old_pages_is_zeroed_and_its_neighbours_stay() {
        const PLACE: usize = 0x4f00_0000_0000;
        let mut pages = Pages::new();
        open_pages(&mut pages, &(PLACE as u64..(PLACE + 3 * PAGE) as u64)).expect("free");
        assert_eq!(pages.len(), 3);
        let byte = |offset: usize| std::ptr::with_exposed_provenance_mut::<u8>(PLACE + offset);
        for offset in [PAGE - 1, PAGE, PAGE + 3, PAGE + 4] {
            // SAFETY: on the pages that were put there.
            unsafe { byte(offset).write_volatile(7) };
        }
        let variable = (PLACE + PAGE) as u64..(PLACE + PAGE + 4) as u64;
        open_pages(&mut pages, &variable).expect("ours");
        // SAFETY: on the pages that were put there.
        let read = |offset| unsafe { byte(offset).read_volatile() };
        let left = [PAGE - 1, PAGE, PAGE + 3, PAGE + 4].map(read);
        assert_eq!(left, [7, 0, 0, 7]);
        let beyond = (PLACE + 2 * PAGE) as u64..(PLACE + 4 * PAGE) as u64;
        open_pages(&mut pages, &beyond).expect("one is there, one is put");
        assert_eq!(pages.len(), 4);
    }
}
