//! Which default stream a call means.
//!
//! The exported twins with the suffixes `_ptds` and `_ptsz` are the same functions with one difference: where the caller names no
//! stream, or stream 0, they mean the thread's own default stream. The twin runs its function inside [`run`]; whoever needs the
//! stream asks [`effective`].

use core::cell::Cell;

use crate::abi::CUstream;

/// `CU_STREAM_LEGACY`.
pub const LEGACY: CUstream = CUstream(1);
/// `CU_STREAM_PER_THREAD`.
pub const PER_THREAD: CUstream = CUstream(2);

thread_local! {
    // No destructor: it may be used while the thread ends.
    static IN_TWIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` as the per-thread twin of a function.
pub fn run<T>(body: impl FnOnce() -> T) -> T {
    let before = IN_TWIN.replace(true);
    let result = body();
    IN_TWIN.set(before);
    result
}

/// The stream that the caller means by `stream`: 0 becomes the per-thread stream inside a twin; the handle of the legacy stream becomes 0.
#[must_use]
pub fn effective(stream: CUstream) -> CUstream {
    match stream.0 {
        0 if IN_TWIN.get() => PER_THREAD,
        1 => CUstream(0),
        _ => stream,
    }
}
