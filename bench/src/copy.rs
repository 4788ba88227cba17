//! `bench copy`: bytes to the device and back, beside a bare socket's stream of as many bytes in pieces of 1 MiB.

use netperf::copy::Copies;
use netperf::process::Work;

use crate::floor::Floor;
use crate::plan::Case;

/// The cases.
pub(crate) fn cases(is_quick: bool) -> Vec<Case> {
    let sizes = [
        ("4 KiB", 4 << 10, 300),
        ("64 KiB", 64 << 10, 200),
        ("1 MiB", 1 << 20, 40),
        ("16 MiB", 16 << 20, 4),
        ("256 MiB", 256 << 20, 1),
    ];
    let mut cases = Vec::new();
    for (size, bytes, count) in sizes {
        for to_device in [true, false] {
            for pinned in [false, true] {
                let direction = if to_device { "to" } else { "from" };
                let kind = if pinned { "pinned" } else { "pageable" };
                let count = if is_quick { 1 } else { count };
                let mut case = Case::new(
                    &format!("{direction} device, {kind}, {size}"),
                    Work::Copy(Copies::new(bytes, to_device, pinned, count)),
                );
                case.bytes = bytes;
                case.floor = (!pinned).then_some(Floor::Stream {
                    bytes,
                    there: to_device,
                    count,
                });
                cases.push(case);
            }
        }
    }
    cases.retain(|case| !is_quick || case.bytes <= 1 << 20);
    cases
}
