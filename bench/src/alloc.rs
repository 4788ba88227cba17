//! `bench alloc`: allocating device memory and freeing it again.

use netperf::process::Work;

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
