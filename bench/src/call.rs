//! `bench call`: what a caller waits for.

use serde::{Deserialize, Serialize};

use crate::client::{Round, Work, time_each};
use crate::driver::{Gpu, PARAMETERS};
use crate::launch::parameters;
use crate::plan::Case;

/// Which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// `cuMemGetInfo`: one question, one answer.
    Ask,
    /// A launch and `cuStreamSynchronize`: the worker sees the stream advance and pushes it.
    Synchronise,
    /// `cuMemcpyDtoH` of four bytes: the same, with the bytes.
    Read,
}

/// The cases, each beside a raw round trip of 64 bytes.
pub(crate) fn cases(is_quick: bool) -> Vec<Case> {
    let count = if is_quick { 20 } else { 1500 };
    let case = |name: &str, kind| Case::new(name, Work::Call { kind, count });
    let mut cases = vec![
        case("ask", Kind::Ask),
        case("launch + synchronise", Kind::Synchronise),
        case("read 4 B", Kind::Read),
    ];
    cases[0].floor = Some(Work::PingPong {
        count,
        spins: false,
    });
    let mut spinning = case("ask, both ends spin", Kind::Ask);
    spinning.spins = true;
    spinning.floor = Some(Work::PingPong { count, spins: true });
    cases.push(spinning);
    cases
}

/// One round.
///
/// # Errors
/// The driver's.
pub(crate) fn measure(gpu: &Gpu, kind: Kind, count: usize) -> Result<Round, String> {
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
