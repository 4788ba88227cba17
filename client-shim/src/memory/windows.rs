//! Address windows: ranges that are reserved in this process and, at the same addresses, by the worker.
//!
//! The client picks device addresses inside them, so that allocating needs no answer about where; and nothing else of this process
//! can ever lie there, so that an address is either the host's or the device's.
//!
//! # Safety
//! Mappings are made where nothing is (`MAP_FIXED_NOREPLACE`), never accessed, and unmapped only while nobody knows of them.
#![expect(unsafe_code, reason = "reserves address space")]

use std::ops::Range;

use protocol::hello::Window;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Where windows are proposed: far from where Linux puts programs, libraries and heaps, below 2^47.
const CANDIDATES: [u64; 4] = [
    0x2000_0000_0000,
    0x3000_0000_0000,
    0x1000_0000_0000,
    0x0800_0000_0000,
];
/// How large: 1 TiB, more than any server's devices hold.
const SIZE: u64 = 1 << 40;
/// How large if that much cannot be reserved.
const SMALLER_SIZE: u64 = 1 << 38;

/// Reserved windows, until it is known which of them the worker has too.
#[derive(Debug)]
pub(crate) struct Windows(Vec<Range<u64>>);

impl Windows {
    /// Reserves what can be reserved.
    pub(crate) fn reserve() -> Self {
        let reserve = |base: &u64| {
            [SIZE, SMALLER_SIZE]
                .into_iter()
                .map(|size| *base..*base + size)
                .find(map)
        };
        Self(CANDIDATES.iter().filter_map(reserve).collect())
    }

    /// For the hello.
    pub(crate) fn proposed(&self) -> Vec<Window> {
        let window = |range: &Range<u64>| Window {
            base: range.start,
            size: range.end - range.start,
        };
        self.0.iter().map(window).collect()
    }

    /// Keeps those that the worker has, gives the others back.
    pub(crate) fn keep(self, granted: &[Window]) -> Vec<Range<u64>> {
        let is_granted = |range: &Range<u64>| {
            granted
                .iter()
                .any(|window| window.base == range.start && window.size == range.end - range.start)
        };
        let (kept, other): (Vec<_>, Vec<_>) = self.0.into_iter().partition(is_granted);
        give_back(&other);
        kept
    }
}

/// Gives windows back that nobody knows of: the worker has not got them, or this is a child that begins afresh.
pub(crate) fn give_back(windows: &[Range<u64>]) {
    windows.iter().for_each(unmap);
}

fn map(range: &Range<u64>) -> bool {
    let Ok(start) = usize::try_from(range.start) else {
        return false;
    };
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: nothing that exists is touched; PROT_NONE: nothing can be accessed.
    let mapped = unsafe {
        mmap_anonymous(
            std::ptr::without_provenance_mut(start),
            (range.end - range.start) as usize,
            ProtFlags::empty(),
            flags,
        )
    };
    match mapped {
        Ok(address) if address.addr() == start => true,
        Ok(address) => {
            // A kernel before 4.17 takes the address as a hint.
            // SAFETY: just mapped, known to nobody.
            let _ = unsafe { munmap(address, (range.end - range.start) as usize) };
            false
        }
        Err(_) => false,
    }
}

fn unmap(range: &Range<u64>) {
    let start = std::ptr::without_provenance_mut(range.start as usize);
    // SAFETY: mapped by `map`, and nothing was ever put there.
    let _ = unsafe { munmap(start, (range.end - range.start) as usize) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_can_be_reserved_again() {
        let windows = Windows::reserve();
        let proposed = windows.proposed();
        assert!(!proposed.is_empty());
        let again = Windows::reserve();
        assert!(again.proposed().is_empty());
        let kept = windows.keep(&proposed[..1]);
        assert_eq!(kept.len(), 1);
        assert_eq!(Windows::reserve().keep(&[]).len(), 0);
        unmap(&kept[0]);
    }
}
