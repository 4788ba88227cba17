//! `bench call`: what a caller waits for.

use netperf::call::Kind;
use netperf::process::Work;

use crate::floor::Floor;
use crate::plan::Case;

/// The cases, each beside a raw round trip of 64 bytes.
pub(crate) fn cases(is_quick: bool) -> Vec<Case> {
    let count = if is_quick { 20 } else { 1500 };
    let case = |name: &str, kind| Case::new(name, Work::Call { kind, count });
    let mut cases = vec![
        case("ask", Kind::Ask),
        case("launch + synchronise", Kind::Synchronise),
        case("read 4 B", Kind::Read),
    ];
    cases[0].floor = Some(Floor::PingPong {
        count,
        spins: false,
    });
    let mut spinning = case("ask, both ends spin", Kind::Ask);
    spinning.spins = true;
    spinning.floor = Some(Floor::PingPong { count, spins: true });
    cases.push(spinning);
    cases
}
