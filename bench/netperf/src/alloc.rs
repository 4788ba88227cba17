//! Allocating device memory and freeing it again.

use crate::driver::Gpu;
use crate::round::{Round, time_each};

/// One round.
///
/// # Errors
/// The driver's.
pub fn measure(gpu: &Gpu, bytes: usize, count: usize) -> Result<Round, String> {
    time_each(count, || gpu.free(gpu.allocate(bytes)?))
}
