//! A lane's vector in memory as one access.
//!
//! A GPU moves an aligned vector of up to 16 bytes at once, and programs rely on it where blocks talk to each other: a scan's block publishes its state and its
//! sum as one pair (`st.relaxed.gpu.v2`), and who sees the new state takes the sum for the new one. As two accesses, which a compiler is free to make of a
//! copy of two words, the pair can be half old.
//!
//! 2 to 8 bytes are one atomic access. 16 bytes are one move of a vector register, which processors with AVX do at once where it is aligned (Intel's
//! Software Developer's Manual, volume 3, 9.1.1; AMD's volume 2, 7.3.2), and which a volatile access keeps the compiler from taking apart. Elsewhere they are
//! two halves.
//!
//! # Safety
//!
//! The address is that of a vector that may be accessed, as the callers have checked. One that is not aligned here is of memory that no other thread of the
//! device has: that is one access for nobody else.
#![expect(unsafe_code, reason = "device memory is reached by address")]

use std::mem::transmute_copy;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

#[cfg(target_arch = "x86_64")]
type Sixteen = core::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Sixteen = [u64; 2];

/// Reads a vector.
///
/// # Safety
///
/// See the module.
#[inline(always)]
pub(super) unsafe fn read<T: Copy, const N: usize>(address: u64) -> [T; N] {
    // SAFETY: the caller's promise; each arm's value is of the vector's size, and the address a multiple of it.
    unsafe {
        match size_of::<[T; N]>() {
            size if !address.is_multiple_of(size as u64) => {
                (address as *const [T; N]).read_unaligned()
            }
            2 => transmute_copy(&AtomicU16::from_ptr(address as *mut u16).load(Relaxed)),
            4 => transmute_copy(&AtomicU32::from_ptr(address as *mut u32).load(Relaxed)),
            8 => transmute_copy(&AtomicU64::from_ptr(address as *mut u64).load(Relaxed)),
            16 => transmute_copy(&(address as *const Sixteen).read_volatile()),
            _ => (address as *const [T; N]).read(),
        }
    }
}

/// Writes a vector.
///
/// # Safety
///
/// See the module.
#[inline(always)]
pub(super) unsafe fn write<T: Copy, const N: usize>(address: u64, vector: [T; N]) {
    // SAFETY: as above.
    unsafe {
        match size_of::<[T; N]>() {
            size if !address.is_multiple_of(size as u64) => {
                (address as *mut [T; N]).write_unaligned(vector);
            }
            2 => AtomicU16::from_ptr(address as *mut u16).store(transmute_copy(&vector), Relaxed),
            4 => AtomicU32::from_ptr(address as *mut u32).store(transmute_copy(&vector), Relaxed),
            8 => AtomicU64::from_ptr(address as *mut u64).store(transmute_copy(&vector), Relaxed),
            16 => (address as *mut Sixteen).write_volatile(transmute_copy(&vector)),
            _ => (address as *mut [T; N]).write(vector),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kept<T: Copy + PartialEq + std::fmt::Debug, const N: usize>(vector: [T; N], empty: T) {
        #[repr(align(32))]
        struct Place<V>([V; 3]);
        let mut place = Place([[empty; N]; 3]);
        let address = &raw mut place.0[1] as u64;
        // SAFETY: of this size, and aligned.
        let found = unsafe {
            write(address, vector);
            read::<T, N>(address)
        };
        assert_eq!(found, vector);
        assert_eq!(place.0, [[empty; N], vector, [empty; N]]);
    }

    #[test]
    fn vectors_of_every_size() {
        is_kept([1u8, 2], 0);
        is_kept([1u8, 2, 3, 4], 0);
        is_kept([1i16, -2], 0);
        is_kept([1u16, 2, 3, 4], 0);
        is_kept([1u32, 2], 0);
        is_kept([1u32, 2, 3, 4], 0);
        is_kept([1u64, 2], 0);
    }

    /// Two threads that write different pairs, and one that must see either.
    fn never_half<T: Copy + PartialEq + Send + Sync + 'static>(one: [T; 2], other: [T; 2]) {
        #[repr(align(16))]
        struct Place<V>(V);
        let mut place = Place([one[0]; 2]);
        let address = &raw mut place.0 as u64;
        // SAFETY: of this size, and aligned; it outlives the threads.
        unsafe { write(address, one) };
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for pair in [one, other] {
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Relaxed) {
                        // SAFETY: as above.
                        unsafe { write(address, pair) };
                    }
                });
            }
            for _ in 0..200_000 {
                // SAFETY: as above.
                let found: [T; 2] = unsafe { read(address) };
                assert!(found == one || found == other);
            }
            is_over.store(true, Relaxed);
        });
    }

    #[test]
    fn no_pair_is_half_of_another() {
        never_half([1u32, 10], [2, 20]);
        // Without AVX nobody promises it.
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx") {
            never_half([1u64, 10], [2, 20]);
        }
    }
}
