//! Which pages of this process were ever touched, as the kernel knows it (`/proc/self/pagemap`).
//!
//! A page of private memory of nobody's file that is neither in memory nor swapped out was never written, or was given back: it holds zeros. So a comparison can
//! pass by it where zeros are known: a pool of hundreds of megabytes of which a program uses a few pages costs a few pages, and the kernel's look at its own tables, about
//! 5 µs for each megabyte. Pages that a driver has pinned are all there, and are compared.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a page here, whatever the kernel's own are.
pub(super) const PAGE_BYTES: usize = 4096;
/// What the kernel tells of one page.
const ENTRY_BYTES: usize = size_of::<u64>();
/// In memory, or swapped out.
const TOUCHED: u64 = 1 << 63 | 1 << 62;
/// Pages that are asked for at once.
const MOST: usize = 4096;

/// The kernel's word on the pages of this process; nothing where it is not to be had: then every page counts as touched.
#[derive(Debug)]
pub struct PageMap(Option<File>);

impl PageMap {
    /// Opens it: in a process that is to be confined, before that.
    #[must_use]
    pub fn open() -> Self {
        // Entries are of the kernel's pages.
        let has_small_pages = rustix::param::page_size() == PAGE_BYTES;
        Self(
            has_small_pages
                .then(|| File::open("/proc/self/pagemap").ok())
                .flatten(),
        )
    }

    /// Nothing is known: every page is compared.
    #[must_use]
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// What the kernel knows of pages, from this one on and of at most so many: of how many there are entries now; none where it does not tell.
    pub(super) fn look(&self, first: usize, pages: usize, entries: &mut Vec<u8>) -> Option<usize> {
        let pages = pages.clamp(1, MOST);
        let file = self.0.as_ref()?;
        entries.resize(pages * ENTRY_BYTES, 0);
        let place = (first * ENTRY_BYTES) as u64;
        file.read_exact_at(entries, place).ok().map(|()| pages)
    }
}

/// Whether the page of this entry was touched.
pub(super) fn is_touched(entries: &[u8], page: usize) -> bool {
    let entry = entries.get(page * ENTRY_BYTES..(page + 1) * ENTRY_BYTES);
    let entry = entry.and_then(|entry| <[u8; ENTRY_BYTES]>::try_from(entry).ok());
    entry.is_none_or(|entry| u64::from_ne_bytes(entry) & TOUCHED != 0)
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "maps pages")]
    fn pages_are_told_apart_by_whether_they_were_touched() {
        const PAGES: usize = 8;
        let map = PageMap::open();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at a place of the kernel's choice, written in its bounds, and given back.
        unsafe {
            let memory = mmap_anonymous(
                std::ptr::null_mut(),
                PAGES * PAGE_BYTES,
                protection,
                MapFlags::PRIVATE,
            )
            .expect("memory");
            memory.cast::<u8>().add(3 * PAGE_BYTES).write_volatile(1);
            let mut entries = Vec::new();
            let found = map.look(memory.addr() / PAGE_BYTES, PAGES, &mut entries);
            assert_eq!(found, Some(PAGES), "Linux tells a process of its own pages");
            let touched: Vec<usize> = (0..PAGES)
                .filter(|page| is_touched(&entries, *page))
                .collect();
            assert_eq!(touched, [3]);
            munmap(memory, PAGES * PAGE_BYTES).expect("given back");
        }
    }

    #[test]
    fn without_the_kernels_word_every_page_counts() {
        let mut entries = Vec::new();
        assert_eq!(PageMap::unknown().look(1, 9, &mut entries), None);
        assert!(is_touched(&entries, 0));
    }
}
