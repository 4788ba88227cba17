//! What a caller waits for.

use serde::{Deserialize, Serialize};

use crate::driver::{Gpu, PARAMETERS};
use crate::launch::parameters;
use crate::round::{Round, time_each};

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `cuMemGetInfo`: one question, one answer.
    Ask,
    /// A launch and `cuStreamSynchronize`: the worker sees the stream advance and pushes it.
    Synchronise,
    /// `cuMemcpyDtoH` of four bytes: the same, with the bytes.
    Read,
}

/// One round.
///
/// # Errors
/// The driver's.
pub fn measure(gpu: &Gpu, kind: Kind, count: usize) -> Result<Round, String> {
    match kind {
        Kind::Ask => time_each(count, || gpu.ask()),
        Kind::Synchronise => {
            let stream = gpu.stream()?;
            let mut values = [0; PARAMETERS[1]];
            let mut pointers = parameters(&mut values);
            let round = time_each(count, || {
                gpu.launch(stream, &mut pointers)?;
                gpu.synchronise(stream)
            });
            gpu.destroy(stream)?;
            round
        }
        Kind::Read => {
            let address = gpu.allocate(4096)?;
            let mut word = [0; 4];
            let round = time_each(count, || gpu.copy_from(address, &mut word));
            gpu.free(address)?;
            round
        }
    }
}
