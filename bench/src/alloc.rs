//! `bench alloc`: allocating device memory and freeing it again.

use netperf::driver::Gpu;

use crate::client::{Round, Work, time_each};
use crate::plan::Case;

/// The cases.
pub(crate) fn cases(is_quick: bool) -> Vec<Case> {
    let count = if is_quick { 20 } else { 500 };
    let sizes = [
        ("4 KiB", 4 << 10),
        ("512 KiB", 512 << 10),
        ("16 MiB", 16 << 20),
    ];
    sizes
        .map(|(name, bytes)| {
            Case::new(
                &format!("alloc + free, {name}"),
                Work::Alloc { bytes, count },
            )
        })
        .into()
}

/// One round.
///
/// # Errors
/// The driver's.
pub(crate) fn measure(gpu: &Gpu, bytes: usize, count: usize) -> Result<Round, String> {
    time_each(count, || gpu.free(gpu.allocate(bytes)?))
}
