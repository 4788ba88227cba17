//! `bench fabric`: the road over each transport, beside what the fabric itself can do in the same run.
//!
//! What: asked calls and reads by size, launches, copies in both directions, pageable and pinned, by one session and by several; over
//! unix, TCP, RDMA where there is a device, and TCP over an emulated link where one is asked for ([`link`](crate::link)). Floors: bare sockets
//! for the sockets, perftest for RDMA ([`perftest`](crate::perftest)). All rounds of all subjects are interleaved.
//! A figure of a virtual machine's software device says how much the road adds to its fabric, not how fast a card is.

use netperf::call::Kind;
use netperf::copy::Copies;
use netperf::launch::Launches;
use netperf::process::Work;

use crate::floor::Floor;
use crate::perftest::Perftest;
use crate::plan::Case;

/// Sessions of the cases with several.
const SESSIONS: usize = 4;

/// Sizes of copies, their names, and how often each is done in a round.
const SIZES: [(&str, usize, usize); 6] = [
    ("4 KiB", 4 << 10, 100),
    ("64 KiB", 64 << 10, 50),
    ("1 MiB", 1 << 20, 10),
    ("16 MiB", 16 << 20, 2),
    ("256 MiB", 256 << 20, 1),
    ("1 GiB", 1 << 30, 1),
];

/// The cases, with copies up to `most` bytes.
pub(crate) fn cases(is_quick: bool, most: usize) -> Vec<Case> {
    let count = if is_quick { 10 } else { 500 };
    let mut cases = calls(count);
    for (name, bytes, count) in SIZES {
        if bytes <= most {
            cases.extend(copies(name, bytes, if is_quick { 1 } else { count }));
        }
    }
    let mut several = cases
        .iter()
        .filter(|case| case.name.ends_with("pageable, 1 MiB"))
        .cloned()
        .collect::<Vec<_>>();
    for case in &mut several {
        case.name = format!("{}, {SESSIONS} sessions", case.name);
        case.sessions = SESSIONS;
        (case.floor, case.perftest) = (None, None);
    }
    cases.extend(several);
    cases
}

fn calls(count: usize) -> Vec<Case> {
    let call = |name: &str, kind| Case::new(name, Work::Call { kind, count });
    let mut ask = call("ask", Kind::Ask);
    ask.floor = Some(Floor::PingPong {
        count,
        spins: false,
    });
    ask.perftest = Some(Perftest::SendLatency {
        bytes: 64,
        count: count * 2,
    });
    let read = |name: &str, bytes| {
        let mut case = Case::new(
            &format!("read {name}"),
            Work::Copy(Copies::new(bytes, false, false, count)),
        );
        case.perftest = Some(Perftest::SendLatency {
            bytes,
            count: count * 2,
        });
        case
    };
    let launch = Case::new(
        "launches, sustained",
        Work::Launch(Launches::sustained(4, count * 20)),
    );
    vec![
        ask,
        read("4 B", 4),
        read("1 KiB", 1 << 10),
        read("4 KiB", 4 << 10),
        launch,
    ]
}

fn copies(name: &str, bytes: usize, count: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for to_device in [true, false] {
        for pinned in [false, true] {
            let direction = if to_device { "to" } else { "from" };
            let kind = if pinned { "pinned" } else { "pageable" };
            let mut case = Case::new(
                &format!("{direction} device, {kind}, {name}"),
                Work::Copy(Copies::new(bytes, to_device, pinned, count)),
            );
            case.bytes = bytes;
            if !pinned {
                case.floor = Some(Floor::Stream {
                    bytes,
                    there: to_device,
                    count,
                });
                let piece = bytes.min(1 << 20);
                // Larger copies travel in pieces of 1 MiB.
                let count = (bytes / piece * count).clamp(10, 100);
                case.perftest = Some(match to_device {
                    true => Perftest::WriteBandwidth {
                        bytes: piece,
                        count,
                    },
                    false => Perftest::ReadBandwidth {
                        bytes: piece,
                        count,
                    },
                });
            }
            cases.push(case);
        }
    }
    cases
}
