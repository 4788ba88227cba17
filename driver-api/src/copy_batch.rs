//! Batches of copies, as programs hand them over: read and checked whole, before anything is copied.
//!
//! *Why here:* the client and the software GPU read the same arrays and tell the same number of the copy that is wrong; what a copy is, each says by itself.
//!
//! # Safety
//! Arrays are read where the program says, as many elements as it says.
#![expect(unsafe_code, reason = "arrays of a C ABI")]

use core::ffi::c_ulonglong;

use crate::abi::{CUDA_MEMCPY3D, CUDA_MEMCPY3D_BATCH_OP, CUdeviceptr, CUmemcpyAttributes};
use crate::copy_layout::{SourceOrder, attributes_of_batch};
use crate::result::CUresult;

/// Most elements of an array.
const MAX_ELEMENTS: usize = 1 << 24;

/// Why a batch is refused, and the number of the copy that is wrong; `usize::MAX` where it is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub CUresult, pub usize);

impl From<CUresult> for Refused {
    fn from(error: CUresult) -> Self {
        Self(error, usize::MAX)
    }
}

/// The elements of an array.
///
/// # Errors
/// `INVALID_VALUE` if it is null, empty, or longer than anything that is meant.
///
/// # Safety
/// `elements` is null or has `count` elements.
pub unsafe fn elements<T: Copy>(elements: *const T, count: usize) -> Result<Vec<T>, CUresult> {
    if elements.is_null() || count == 0 || count > MAX_ELEMENTS {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let element = |index| unsafe { elements.add(index).read_unaligned() };
    Ok((0..count).map(element).collect())
}

/// The arrays of a batch of copies in a row.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// Where to, of each copy.
    pub destinations: *const CUdeviceptr,
    /// Where from, of each copy.
    pub sources: *const CUdeviceptr,
    /// Bytes, of each copy.
    pub sizes: *const usize,
    /// Copies.
    pub count: usize,
    /// Attributes of runs of copies.
    pub attributes: *const CUmemcpyAttributes,
    /// The first copy of each run.
    pub first: *const usize,
    /// Runs.
    pub attribute_count: usize,
}

impl Lines {
    /// What `describe` makes of each copy's destination, source and size, and when its source may be read.
    ///
    /// # Errors
    /// The arrays, or a copy.
    ///
    /// # Safety
    /// The arrays have as many elements as it says, or are null.
    pub unsafe fn copies<C>(
        &self,
        describe: impl Fn(CUdeviceptr, CUdeviceptr, usize) -> Result<C, CUresult>,
    ) -> Result<Vec<(C, SourceOrder)>, Refused> {
        // SAFETY: the caller's promise.
        let (destinations, sources, sizes, attributes, first) = unsafe {
            (
                elements(self.destinations, self.count)?,
                elements(self.sources, self.count)?,
                elements(self.sizes, self.count)?,
                elements(self.attributes, self.attribute_count)?,
                elements(self.first, self.attribute_count)?,
            )
        };
        let each = attributes_of_batch(self.count, &attributes, &first)?;
        let lines = destinations.into_iter().zip(sources).zip(sizes).zip(each);
        let ordered = |(index, (((to, from), size), attributes)): (usize, _)| {
            let order = CUmemcpyAttributes::order(attributes);
            let described = order.and_then(|order| Ok((describe(to, from, size)?, order)));
            described.map_err(|error| Refused(error, index))
        };
        lines.enumerate().map(ordered).collect()
    }
}

/// What `describe` makes of each box of a batch, and when its source may be read.
///
/// # Errors
/// Flags, the array, or a copy.
///
/// # Safety
/// `operations` is null or has `count` elements.
pub unsafe fn boxes<C>(
    operations: *const CUDA_MEMCPY3D_BATCH_OP,
    count: usize,
    flags: c_ulonglong,
    describe: impl Fn(CUDA_MEMCPY3D) -> Result<C, CUresult>,
) -> Result<Vec<(C, SourceOrder)>, Refused> {
    if flags != 0 {
        return Err(CUresult::INVALID_VALUE.into());
    }
    // SAFETY: the caller's promise.
    let operations = unsafe { elements(operations, count) }?;
    let ordered = |(index, operation): (usize, CUDA_MEMCPY3D_BATCH_OP)| {
        let plain = operation.plain();
        let described = plain.and_then(|(copy, order)| Ok((describe(copy)?, order)));
        described.map_err(|error| Refused(error, index))
    };
    operations.into_iter().enumerate().map(ordered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_not_believed_to_be_endless() {
        let one = [7u64];
        // SAFETY: what is refused is not read; one element is there.
        unsafe {
            assert_eq!(elements(one.as_ptr(), 1), Ok(vec![7]));
            for count in [0, MAX_ELEMENTS + 1, usize::MAX] {
                let refused = elements(one.as_ptr(), count);
                assert_eq!(refused, Err(CUresult::INVALID_VALUE), "{count}");
            }
            assert!(elements(core::ptr::null::<u64>(), 1).is_err());
        }
    }
}
