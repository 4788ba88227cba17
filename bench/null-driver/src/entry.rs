//! What every exported function does around its body: nothing, so that nothing but the way here is measured.
//!
//! # Safety
//! [`answer`] writes through pointers of a caller of the C ABI, which are null or point to a place for the answer.
#![expect(unsafe_code, reason = "answers are written through C pointers")]

use driver_api::abi::CUresult;

/// Runs the body of a row. No body panics: none indexes, adds beyond a type, or asserts.
#[inline]
pub(crate) fn call(_index: usize, body: impl FnOnce() -> CUresult) -> CUresult {
    body()
}

/// The answer of a row that is not served.
pub(crate) fn unsupported(_index: usize) -> CUresult {
    CUresult::NOT_SUPPORTED
}

/// Writes an answer.
///
/// # Safety
/// `place` is null or a place for a `T`.
pub(crate) unsafe fn answer<T>(place: *mut T, value: T) -> CUresult {
    if place.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: not null, and by contract a place for it.
    unsafe { place.write_unaligned(value) };
    CUresult::SUCCESS
}
