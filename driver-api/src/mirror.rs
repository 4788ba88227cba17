//! Memory that two processes hold alike: what changed on one side, found by comparing, and carried out on the other.
//!
//! *What:* a [`Mirror`] is a range of memory and a copy of what both sides are known to hold. [`Mirror::collect`] finds what differs in memory of this
//! process, [`Mirror::compare`] in a copy of a device's memory; [`Mirror::apply`] and [`Mirror::note`] take in what the other side found. *Why here:* the client and the worker do the same. *Why by comparing:* memory that a
//! system call may touch is never protected from writing, so nobody says when it is written.
//!
//! *Rules:* only bytes that changed are written, and only where memory still holds what was known of it: what this side has written meanwhile stays, and is
//! found by the next comparison; whole words and halves of words are
//! written at once, so that a flag is never seen half written; bytes that are found together are written in ascending order.
//!
//! *Cost:* a comparison reads the memory and its copy once, about 10 GB/s, but for [pages that nobody has touched](PageMap); 80 bytes travel for each 64 in which something
//! changed.
//!
//! # Safety
//! Others write the memory at the same time: a device, threads of the program. It is read and written word by word through raw
//! pointers, volatile, and no reference to it is made. That it is mapped is the promise of who calls.
#![expect(unsafe_code, reason = "memory that others write")]

mod page_map;

use std::alloc::{Layout, alloc_zeroed};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zerocopy::{little_endian::U64, transmute};

pub use self::page_map::PageMap;
use self::page_map::{PAGE_BYTES, is_touched};
use crate::result::CUresult;

/// Bytes of a word.
const WORD: usize = size_of::<u64>();
/// Words of one change.
const CHANGE_WORDS: usize = 8;
/// Bytes of one change.
pub const CHANGE_BYTES: usize = CHANGE_WORDS * WORD;

/// What has changed of 64 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Change {
    /// The address of the first byte.
    pub address: U64,
    /// A bit for each byte that has changed, the lowest for the first.
    pub mask: U64,
    /// The bytes as they are now.
    pub bytes: [u8; CHANGE_BYTES],
}

const _: () = assert!(size_of::<Change>() == 80);

/// A range of memory, and what both sides are known to hold there.
#[derive(Debug)]
pub struct Mirror {
    start: usize,
    known: Vec<u64>,
    /// A bit for each page, from that on in which it began: whether anything but zeros was ever known there.
    marks: Vec<u64>,
    first_page: usize,
}

impl Mirror {
    /// A mirror of whole words, in which both sides hold zeros.
    ///
    /// # Errors
    /// `INVALID_VALUE` if the range is empty or not of whole words, `OUT_OF_MEMORY` if there is none for it.
    pub fn new(start: usize, bytes: usize) -> Result<Self, CUresult> {
        let is_whole = bytes > 0 && start > 0 && (start | bytes).is_multiple_of(WORD);
        if !is_whole || start.checked_add(bytes).is_none() {
            return Err(CUresult::INVALID_VALUE);
        }
        let words = bytes / WORD;
        let layout = Layout::array::<u64>(words).map_err(|_| CUresult::OUT_OF_MEMORY)?;
        // Not by a vector of zeros, whose failure would end the program; and zeros that nobody has touched take no memory.
        // SAFETY: there is at least one word; the layout is that of a vector of so many, all of which are zero.
        let known = unsafe {
            let place = alloc_zeroed(layout).cast::<u64>();
            if place.is_null() {
                return Err(CUresult::OUT_OF_MEMORY);
            }
            Vec::from_raw_parts(place, words, words)
        };
        let first_page = start / PAGE_BYTES;
        let pages = (start + bytes).div_ceil(PAGE_BYTES) - first_page;
        Ok(Self {
            start,
            known,
            marks: vec![0; pages.div_ceil(u64::BITS as usize)],
            first_page,
        })
    }

    /// The first address.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.known.len() * WORD
    }

    /// The page of a word's address, counted from the first, as a place and a bit of `marks`.
    fn mark_of(&self, word: usize) -> (usize, u32) {
        let page = (self.start + word * WORD) / PAGE_BYTES - self.first_page;
        (
            page / u64::BITS as usize,
            (page % u64::BITS as usize) as u32,
        )
    }

    /// More than zeros is known from now on of the page of this word.
    fn mark(&mut self, word: usize) {
        let (place, bit) = self.mark_of(word);
        if let Some(marks) = self.marks.get_mut(place) {
            *marks |= 1 << bit;
        }
    }

    /// Of the pages of these words, which are those of a change: it begins in one and may end in the next.
    fn mark_all(&mut self, words: Range<usize>) {
        self.mark(words.start);
        self.mark(words.end - 1);
    }

    fn is_marked(&self, word: usize) -> bool {
        let (place, bit) = self.mark_of(word);
        self.marks
            .get(place)
            .is_none_or(|marks| marks >> bit & 1 == 1)
    }

    /// What is known of these words.
    #[must_use]
    pub fn known(&self, words: Range<usize>) -> &[u64] {
        self.known.get(words).unwrap_or_default()
    }

    /// Knows what another one knows, of the words that are of both.
    pub fn take_over(&mut self, other: &Self) {
        for (word, known) in (other.start..).step_by(WORD).zip(&other.known) {
            let place = word.checked_sub(self.start).map(|offset| offset / WORD);
            if let Some(place) = place.filter(|place| *place < self.known.len()) {
                self.known[place] = *known;
                if *known != 0 {
                    self.mark(place);
                }
            }
        }
    }

    /// Both sides hold zeros in these bytes, whatever was known of them.
    pub fn forget(&mut self, bytes: Range<usize>) {
        let first = self.start;
        for (word, known) in (first..).step_by(WORD).zip(&mut self.known) {
            let is_of = |byte: &usize| bytes.contains(&(word + byte));
            let mask = (0..WORD)
                .filter(is_of)
                .fold(0, |mask, byte| mask | 1 << byte);
            *known &= !bits_of(mask);
        }
    }

    /// Finds at most `most` changes of this process's memory, from the word of this number on; both sides are then known to hold them. Returns
    /// where to go on, or none at the end.
    ///
    /// # Safety
    /// The range is readable memory of this process.
    pub unsafe fn collect(
        &mut self,
        from: usize,
        most: usize,
        found: &mut Vec<Change>,
    ) -> Option<usize> {
        let words = self.known.len();
        // SAFETY: the caller's promise.
        let next = unsafe { self.collect_part(from..words, most, found) };
        (next < words).then_some(next)
    }

    /// [`Mirror::collect`] of some words alone: where to go on, the number of words at the end.
    ///
    /// # Safety
    /// The range is readable memory of this process.
    pub unsafe fn collect_part(
        &mut self,
        part: Range<usize>,
        most: usize,
        found: &mut Vec<Change>,
    ) -> usize {
        let end = found.len() + most;
        let last = part.end.min(self.known.len());
        let mut word = part.start - part.start % CHANGE_WORDS;
        let start = self.start;
        let read = |index: usize| {
            let word = std::ptr::with_exposed_provenance::<u64>(start + index * WORD);
            // SAFETY: a word of the range, by the caller's promise; volatile, as others write it.
            unsafe { word.read_volatile() }
        };
        while word < last && found.len() < end {
            found.extend(self.look(word, read));
            word += CHANGE_WORDS;
        }
        word.min(self.known.len())
    }

    /// [`Mirror::collect_part`], which passes by pages that nobody has touched and of which zeros are known.
    ///
    /// # Safety
    /// The range is readable memory of this process, private to it and of no file.
    pub unsafe fn collect_touched(
        &mut self,
        part: Range<usize>,
        most: usize,
        found: &mut Vec<Change>,
        pages: &PageMap,
    ) -> usize {
        let limit = found.len() + most;
        let last = part.end.min(self.known.len());
        let mut word = part.start - part.start % CHANGE_WORDS;
        let mut entries = Vec::new();
        // Else changes lie across pages.
        let is_even = self.start.is_multiple_of(CHANGE_BYTES);
        while is_even && word < last && found.len() < limit {
            let first = (self.start + word * WORD) / PAGE_BYTES;
            let end = (self.start + last * WORD).div_ceil(PAGE_BYTES);
            let Some(count) = pages.look(first, end - first, &mut entries) else {
                break;
            };
            for page in 0..count {
                let next = ((first + page + 1) * PAGE_BYTES - self.start) / WORD;
                let next = next.min(last);
                if is_touched(&entries, page) || self.is_marked(word) {
                    // SAFETY: the caller's promise.
                    let reached =
                        unsafe { self.collect_part(word..next, limit - found.len(), found) };
                    if reached < next {
                        return reached;
                    }
                }
                word = next;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.collect_part(word..last, limit - found.len(), found) }
    }

    /// Knows only these bytes from now on, which begin at a whole change of its own. False, and nothing is changed, if they are not of it.
    pub fn narrow(&mut self, bytes: Range<usize>) -> bool {
        let offsets = bytes
            .start
            .checked_sub(self.start)
            .zip(bytes.end.checked_sub(self.start));
        let Some((first, end)) = offsets else {
            return false;
        };
        let is_whole = first.is_multiple_of(CHANGE_BYTES) && end.is_multiple_of(WORD);
        if !is_whole || first >= end || end > self.bytes() {
            return false;
        }
        self.known.truncate(end / WORD);
        self.known.drain(..first / WORD);
        self.start = bytes.start;
        true
    }

    /// Finds what has changed in a copy of the words from this one on, a multiple of eight; both sides are then known to hold it.
    pub fn compare(&mut self, first: usize, words: &[u64], found: &mut Vec<Change>) {
        let end = self.known.len().min(first + words.len());
        let read = |index: usize| words.get(index - first).copied().unwrap_or_default();
        for word in (first..end).step_by(CHANGE_WORDS) {
            found.extend(self.look(word, read));
        }
    }

    /// What has changed of the words from this one on.
    fn look(&mut self, first: usize, read: impl Fn(usize) -> u64) -> Option<Change> {
        let last = self.known.len().min(first + CHANGE_WORDS);
        let (mut mask, mut words) = (0, [0; CHANGE_WORDS]);
        for (place, known) in self.known[first..last].iter_mut().enumerate() {
            let now = read(first + place);
            words[place] = now.to_le();
            if now != *known {
                mask |= changed_bytes(now ^ *known) << (place * WORD);
                *known = now;
            }
        }
        if mask == 0 {
            return None;
        }
        self.mark_all(first..last);
        Some(Change {
            address: U64::new((self.start + first * WORD) as u64),
            mask: U64::new(mask),
            bytes: transmute!(words),
        })
    }

    /// Takes in what the other side has found, into this process's memory: but not over bytes that have been written here since both sides last held them
    /// alike, which [`Mirror::collect`] finds. False if it is not of this range.
    ///
    /// # Safety
    /// The range is writable memory of this process.
    pub unsafe fn apply(&mut self, change: &Change) -> bool {
        let Some(first) = self.index_of(change) else {
            return false;
        };
        self.mark_all(first..self.known.len().min(first + CHANGE_WORDS));
        let words: [u64; CHANGE_WORDS] = transmute!(change.bytes);
        let mask = change.mask.get().to_le_bytes();
        let known = self.known[first..].iter_mut();
        for (place, (known, (word, mask))) in known.zip(words.into_iter().zip(mask)).enumerate() {
            if mask != 0 {
                let place = self.start + (first + place) * WORD;
                let now = merged(*known, u64::from_le(word), bits_of(mask));
                // SAFETY: a word of the range, which is writable by the caller's promise.
                unsafe { write(place, *known, now) };
                *known = now;
            }
        }
        true
    }

    /// Both sides are known to hold what the other side has found, once the caller has carried it out. The number of its first word; none if it is
    /// not of this range.
    pub fn note(&mut self, change: &Change) -> Option<usize> {
        let first = self.index_of(change)?;
        self.mark_all(first..self.known.len().min(first + CHANGE_WORDS));
        let words: [u64; CHANGE_WORDS] = transmute!(change.bytes);
        let mask = change.mask.get().to_le_bytes();
        let known = self.known[first..].iter_mut();
        for (known, (word, mask)) in known.zip(words.into_iter().zip(mask)) {
            *known = merged(*known, u64::from_le(word), bits_of(mask));
        }
        Some(first)
    }

    fn index_of(&self, change: &Change) -> Option<usize> {
        let mask = change.mask.get();
        let offset = usize::try_from(change.address.get())
            .ok()?
            .checked_sub(self.start)?;
        let words = (u64::BITS - mask.leading_zeros()).div_ceil(WORD as u32) as usize;
        let first = offset / WORD;
        let is_inside = words > 0 && first.checked_add(words)? <= self.known.len();
        (offset.is_multiple_of(WORD) && is_inside).then_some(first)
    }
}

/// Writes the bytes of a word that differ from what was known of it, where it still holds what was known.
///
/// # Safety
/// The word at this address is writable.
unsafe fn write(address: usize, known: u64, now: u64) {
    let word = std::ptr::with_exposed_provenance_mut::<u64>(address);
    // SAFETY: the caller's promise; words are aligned, and what else reads and writes them does so word by word or in smaller parts.
    let word = unsafe { AtomicU64::from_ptr(word) };
    let wanted = bits_of(changed_bytes(known ^ now) as u8);
    // At once, so that who sees one of the bytes sees all; what is written beside them meanwhile stays.
    let update = |before: u64| {
        let untouched = !bits_of(changed_bytes(before ^ known) as u8);
        let bits = wanted & untouched;
        (bits != 0).then(|| merged(before, now, bits))
    };
    // None of the bytes may be as it was known: then all stay.
    let _ = word.fetch_update(SeqCst, SeqCst, update);
}

/// A word with these bits of another.
const fn merged(word: u64, other: u64, bits: u64) -> u64 {
    word & !bits | other & bits
}

impl Change {
    /// Puts the bytes that have changed over a copy of these 64.
    pub fn put_over(&self, copy: &mut [u8]) {
        let mask = self.mask.get();
        for (index, (place, byte)) in copy.iter_mut().zip(self.bytes).enumerate() {
            if mask >> index & 1 == 1 {
                *place = byte;
            }
        }
    }
}

/// The whole words that these bytes are in.
#[must_use]
pub fn whole_words(bytes: &Range<usize>) -> Option<Range<usize>> {
    let end = bytes.end.checked_next_multiple_of(WORD)?;
    Some(bytes.start - bytes.start % WORD..end)
}

/// A bit for each byte of a word that is not zero.
fn changed_bytes(difference: u64) -> u64 {
    let bytes = difference.to_le_bytes();
    (0..WORD).fold(0, |mask, byte| mask | u64::from(bytes[byte] != 0) << byte)
}

/// All bits of the bytes that a mask names.
fn bits_of(mask: u8) -> u64 {
    let byte = |byte: usize| if mask >> byte & 1 == 1 { 0xFF } else { 0 };
    u64::from_le_bytes(std::array::from_fn(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of so many words, and a mirror of it.
    fn side(words: usize) -> (Vec<u64>, Mirror) {
        let mut memory = vec![0_u64; words];
        let start = memory.as_mut_ptr().expose_provenance();
        let mirror = Mirror::new(start, words * WORD).expect("whole words");
        (memory, mirror)
    }

    fn put(mirror: &Mirror, byte: usize, value: u8) {
        let place = std::ptr::with_exposed_provenance_mut::<u8>(mirror.start() + byte);
        // SAFETY: inside the memory of `side`.
        unsafe { place.write_volatile(value) };
    }

    fn get(mirror: &Mirror, byte: usize) -> u8 {
        let place = std::ptr::with_exposed_provenance::<u8>(mirror.start() + byte);
        // SAFETY: inside the memory of `side`.
        unsafe { place.read_volatile() }
    }

    fn carry(from: &mut Mirror, to: &mut Mirror) -> usize {
        let mut found = Vec::new();
        // SAFETY: memory of `side`, which outlives the mirror in each test.
        assert_eq!(unsafe { from.collect(0, usize::MAX / 2, &mut found) }, None);
        for change in &mut found {
            let offset = change.address.get() - from.start() as u64;
            change.address = U64::new(to.start() as u64 + offset);
            // SAFETY: as above.
            assert!(unsafe { to.apply(change) });
        }
        found.len()
    }

    #[test]
    fn what_changed_is_carried_once_and_what_the_other_side_wrote_stays() {
        let ((_a, mut one), (_b, mut other)) = (side(20), side(20));
        put(&one, 3, 7);
        put(&one, 159, 9);
        put(&other, 4, 5);
        assert_eq!(carry(&mut one, &mut other), 2);
        assert_eq!(
            (get(&other, 3), get(&other, 4), get(&other, 159)),
            (7, 5, 9)
        );
        assert_eq!(carry(&mut one, &mut other), 0);
        assert_eq!(carry(&mut other, &mut one), 1);
        assert_eq!(get(&one, 4), 5);
        assert_eq!(carry(&mut other, &mut one), 0);
    }

    #[test]
    fn every_mask_writes_exactly_its_bytes() {
        for mask in 0..=u8::MAX {
            let (_memory, mirror) = side(1);
            // SAFETY: the word of `side`.
            unsafe { write(mirror.start(), 0, bits_of(mask)) };
            for byte in 0..WORD {
                assert_eq!(get(&mirror, byte) != 0, mask >> byte & 1 == 1, "{mask:x}");
            }
        }
    }

    #[test]
    fn what_was_written_after_the_last_comparison_is_not_overwritten_but_sent() {
        let ((_a, mut host), (_b, mut device)) = (side(9), side(9));
        put(&device, 64, 1);
        assert_eq!(carry(&mut device, &mut host), 1);
        put(&device, 64, 2);
        put(&device, 65, 3);
        // The program resets its flag while the device's change is on its way.
        put(&host, 64, 0);
        assert_eq!(carry(&mut device, &mut host), 1);
        assert_eq!((get(&host, 64), get(&host, 65)), (0, 3));
        assert_eq!(carry(&mut host, &mut device), 1);
        assert_eq!((get(&device, 64), get(&device, 65)), (0, 3));
        assert_eq!(carry(&mut device, &mut host), 0);
    }

    #[test]
    fn what_joins_two_knows_what_they_knew_and_nothing_of_what_is_new() {
        let mut memory = vec![0_u64; 4];
        let start = memory.as_mut_ptr().expose_provenance();
        let mut old = Mirror::new(start + WORD, WORD).expect("a word");
        for byte in 0..WORD {
            put(&old, byte, 7);
        }
        let mut found = Vec::new();
        // SAFETY: a word of the memory above.
        assert_eq!(unsafe { old.collect(0, 9, &mut found) }, None);
        let words = whole_words(&(start + 12..start + 18)).expect("no overflow");
        assert_eq!(words, start + 8..start + 24);
        let mut joined = Mirror::new(words.start, words.len()).expect("whole words");
        joined.take_over(&old);
        joined.forget(start + 12..start + 18);
        assert_eq!(joined.known(0..2), [0x0707_0707, 0]);
        assert_eq!(joined.known(1..3), [0; 0], "not all of it is there");
        let other = Mirror::new(start, WORD).expect("a word");
        joined.take_over(&other);
        assert_eq!(joined.known(0..1), [0x0707_0707]);
    }

    #[test]
    fn a_large_range_is_collected_in_parts() {
        let (_memory, mut mirror) = side(64);
        for byte in (0..512).step_by(8) {
            put(&mirror, byte, 1);
        }
        let mut found = Vec::new();
        // SAFETY: memory of `side`.
        let next = unsafe { mirror.collect(0, 3, &mut found) };
        assert_eq!((next, found.len()), (Some(24), 3));
        // SAFETY: memory of `side`.
        assert_eq!(unsafe { mirror.collect(24, 5, &mut found) }, None);
        assert_eq!(found.len(), 8);
    }

    #[test]
    fn a_part_is_collected_and_nothing_behind_it() {
        let (_memory, mut mirror) = side(20);
        for byte in [0, 64, 159] {
            put(&mirror, byte, 1);
        }
        let mut found = Vec::new();
        // SAFETY: memory of `side`.
        assert_eq!(unsafe { mirror.collect_part(0..8, 9, &mut found) }, 8);
        assert_eq!(found.len(), 1);
        // SAFETY: memory of `side`.
        assert_eq!(unsafe { mirror.collect_part(8..99, 9, &mut found) }, 20);
        assert_eq!(found.len(), 3);
    }

    /// Pages of this process alone: of a dozen, some are written here, and something was known of others.
    #[test]
    fn untouched_pages_are_passed_by_and_nothing_else() {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
        const PAGES: usize = 4100;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        for map in [PageMap::open(), PageMap::unknown()] {
            // SAFETY: new memory at a place of the kernel's choice, written in its bounds, and given back behind the mirrors.
            unsafe {
                let place = std::ptr::null_mut();
                let memory =
                    mmap_anonymous(place, PAGES * PAGE_BYTES, protection, MapFlags::PRIVATE)
                        .expect("memory");
                let start = memory.expose_provenance();
                let mut mirror = Mirror::new(start, PAGES * PAGE_BYTES).expect("whole words");
                let words = PAGES * PAGE_BYTES / WORD;
                let places = |mirror: &mut Mirror, most| {
                    let mut found = Vec::new();
                    let reached = mirror.collect_touched(0..words, most, &mut found, &map);
                    let places: Vec<usize> = found
                        .iter()
                        .map(|change| change.address.get() as usize - start)
                        .collect();
                    (reached, places)
                };
                assert_eq!(places(&mut mirror, 9), (words, vec![]));
                let written = [
                    0,
                    5 * PAGE_BYTES - 1,
                    4097 * PAGE_BYTES + 64,
                    PAGES * PAGE_BYTES - 1,
                ];
                for byte in written {
                    put(&mirror, byte, 1);
                }
                let whole = written.map(|byte| byte - byte % CHANGE_BYTES);
                let (reached, first) = places(&mut mirror, 2);
                assert_eq!(first, whole[..2]);
                assert!((whole[1] / WORD..whole[2] / WORD).contains(&(reached - 1)));
                assert_eq!(places(&mut mirror, 9), (words, whole[2..].to_vec()));
                assert_eq!(places(&mut mirror, 9), (words, vec![]));
                // What is known of a page that was given back is not what is there.
                let change = Change {
                    address: U64::new((start + 9 * PAGE_BYTES) as u64),
                    mask: U64::new(1),
                    bytes: [3; CHANGE_BYTES],
                };
                assert!(mirror.note(&change).is_some());
                assert_eq!(places(&mut mirror, 9), (words, vec![9 * PAGE_BYTES]));
                munmap(memory, PAGES * PAGE_BYTES).expect("given back");
            }
        }
    }

    #[test]
    fn what_is_narrowed_keeps_what_is_known() {
        let (_memory, mut mirror) = side(24);
        let start = mirror.start();
        put(&mirror, 70, 7);
        let mut found = Vec::new();
        // SAFETY: memory of `side`.
        assert_eq!(unsafe { mirror.collect(0, 9, &mut found) }, None);
        for wrong in [
            start + 8..start + 64,
            start + 64..start + 64,
            start + 64..start + 200,
            start - 64..start + 64,
        ] {
            assert!(!mirror.narrow(wrong));
        }
        assert!(mirror.narrow(start + 64..start + 128));
        assert_eq!((mirror.start(), mirror.bytes()), (start + 64, 64));
        put(&mirror, 8, 9);
        found.clear();
        // SAFETY: memory of `side`.
        assert_eq!(unsafe { mirror.collect(0, 9, &mut found) }, None);
        let places: Vec<_> = found.iter().map(|change| change.mask.get()).collect();
        assert_eq!(places, [1 << 8], "byte 70 is known");
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let (_memory, mut mirror) = side(9);
        let start = mirror.start() as u64;
        let change = |address, mask| Change {
            address: U64::new(address),
            mask: U64::new(mask),
            bytes: [1; CHANGE_BYTES],
        };
        for (address, mask) in [
            (start - 8, 1),
            (start + 4, 1),
            (start + 72, 1),
            (start + 64, 1 << 8),
            (start, 0),
            (u64::MAX, 1),
        ] {
            assert_eq!(
                mirror.note(&change(address, mask)),
                None,
                "{address:x} {mask:x}"
            );
        }
        assert_eq!(mirror.note(&change(start + 64, 0xFF)), Some(8));
    }

    #[test]
    fn a_copy_is_compared_as_memory_is() {
        let mut mirror = Mirror::new(4096, 24 * WORD).expect("whole words");
        let mut words = [0_u64; 16];
        words[9] = 0x0100;
        let mut found = Vec::new();
        mirror.compare(8, &words, &mut found);
        let places: Vec<_> = found
            .iter()
            .map(|change| (change.address.get(), change.mask.get()))
            .collect();
        assert_eq!(places, [(4096 + 16 * 8, 1 << 9)]);
        let mut copy = [7_u8; CHANGE_BYTES];
        found[0].put_over(&mut copy);
        assert_eq!((copy[8], copy[9], copy[10]), (7, 1, 7));
        mirror.compare(8, &words, &mut found);
        assert_eq!(found.len(), 1);
    }
}
