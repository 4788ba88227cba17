//! Occupancy of clusters: the rows of the `occupancy` area that need a launch's attributes. The others are generated.
#![expect(non_snake_case, reason = "rows have the driver's names")]

use driver_api::wire::{reply, request};

use super::call::{Call, CallError};
use super::launch;

/// How many clusters a device holds, or how large they can be.
pub(crate) fn gpurunClusters(
    call: &mut Call<'_>,
    request: &request::GpurunClusters,
    attributes: &[u8],
) -> Result<(), CallError> {
    let number = launch::clusters(call, request, attributes)?;
    call.reply(&reply::GpurunClusters::new(number));
    Ok(())
}
