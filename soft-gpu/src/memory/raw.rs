//! Bytes at addresses: the copies and fills themselves.
//!
//! # Safety
//!
//! No references are made, since other threads, kernels and processes may access the same memory at the same time, as on a
//! real device; what they see then is as undefined as there.

#![expect(unsafe_code, reason = "memory by address")]

use core::ptr;

/// Copies between addresses that may overlap.
///
/// # Safety
///
/// Both ranges are mapped.
pub(super) unsafe fn copy(destination: u64, source: u64, size: usize) {
    // SAFETY: by contract.
    unsafe { ptr::copy(source as *const u8, destination as *mut u8, size) };
}

/// Fills with a pattern of 1, 2 or 4 bytes; `address` is a multiple of that.
///
/// # Safety
///
/// The range is mapped.
pub(super) unsafe fn fill(address: u64, pattern: u32, width: u32, count: usize) {
    let bytes = pattern.to_le_bytes();
    let uniform = bytes[..width as usize].iter().all(|byte| *byte == bytes[0]);
    // SAFETY: by contract; the alignment is the caller's promise too.
    unsafe {
        match width {
            _ if uniform => {
                ptr::write_bytes(address as *mut u8, bytes[0], count * width as usize);
            }
            2 => (0..count).for_each(|index| {
                (address as *mut u16).add(index).write(pattern as u16);
            }),
            _ => (0..count).for_each(|index| (address as *mut u32).add(index).write(pattern)),
        }
    }
}

/// Reads a word.
///
/// # Safety
///
/// The word is mapped, and its address is a multiple of its size.
pub(super) unsafe fn word(address: u64) -> u32 {
    // SAFETY: by contract.
    unsafe { (address as *const u32).read_volatile() }
}

/// Fills device memory that its caller has just made or is about to give back.
pub(super) fn fill_own(address: u64, size: u64, byte: u8) {
    // SAFETY: the region belongs to the caller alone, and is mapped until it is given back.
    unsafe { ptr::write_bytes(address as *mut u8, byte, size as usize) };
}
