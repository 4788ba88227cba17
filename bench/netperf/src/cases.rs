//! What `gpurun netperf` measures.

use crate::call::Kind;
use crate::copy::Copies;
use crate::launch::Launches;
use crate::process::Work;

/// One thing to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// For people.
    pub name: String,
    /// What each session does.
    pub work: Work,
    /// How many sessions do it at the same time.
    pub sessions: usize,
    /// Bytes that an operation moves, for the bandwidth; 0 where that is not the question.
    pub bytes: usize,
    /// To the device, or from it, where bytes are moved.
    pub to_device: bool,
    /// Whether the program's memory is pinned.
    pub is_pinned: bool,
}

impl Case {
    fn new(name: &str, work: Work) -> Self {
        Self {
            name: name.to_owned(),
            work,
            sessions: 1,
            bytes: 0,
            to_device: false,
            is_pinned: false,
        }
    }
}

/// Sizes of copies, their names, and how often each is done in a round.
const SIZES: [(&str, usize, usize); 6] = [
    ("4 KiB", 4 << 10, 200),
    ("64 KiB", 64 << 10, 100),
    ("1 MiB", 1 << 20, 20),
    ("16 MiB", 16 << 20, 4),
    ("256 MiB", 256 << 20, 1),
    ("1 GiB", 1 << 30, 1),
];

/// The size that several sessions copy.
const SHARED: usize = 1 << 20;

/// The cases: copies up to `most` bytes, and those of several sessions.
#[must_use]
pub fn cases(is_quick: bool, most: usize, sessions: usize) -> Vec<Case> {
    let count = if is_quick { 20 } else { 1000 };
    let read = |name: &str, bytes| {
        let copies = Copies::new(bytes, false, false, count);
        Case::new(name, Work::Copy(copies))
    };
    let ask = Work::Call {
        kind: Kind::Ask,
        count,
    };
    let synchronise = Work::Call {
        kind: Kind::Synchronise,
        count,
    };
    let launches = Work::Launch(Launches::sustained(4, count * 20));
    let mut cases = vec![
        Case::new("asked call", ask),
        Case::new("launch + synchronise", synchronise),
        read("read 4 B", 4),
        read("read 1 KiB", 1 << 10),
        read("read 16 KiB", 16 << 10),
        Case::new("launches, in a row", launches),
    ];
    for (name, bytes, count) in SIZES.into_iter().filter(|size| size.1 <= most) {
        for (to_device, is_pinned) in [(true, false), (true, true), (false, false), (false, true)] {
            let direction = if to_device { "to" } else { "from" };
            let kind = if is_pinned { "pinned" } else { "pageable" };
            let count = if is_quick { 1 } else { count };
            let copies = Copies::new(bytes, to_device, is_pinned, count);
            let case = Case {
                bytes,
                to_device,
                is_pinned,
                ..Case::new(
                    &format!("{direction} device, {kind}, {name}"),
                    Work::Copy(copies),
                )
            };
            cases.push(case);
        }
    }
    if sessions > 1 {
        let shared = |case: &&Case| case.bytes == SHARED;
        let shared = cases.iter().filter(shared).map(|case| Case {
            name: format!("{}, {sessions} sessions", case.name),
            sessions,
            ..case.clone()
        });
        let shared: Vec<Case> = shared.collect();
        cases.extend(shared);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_end_where_they_are_told_to() {
        let cases = cases(true, 16 << 20, 3);
        let largest = cases.iter().map(|case| case.bytes).max();
        assert_eq!(largest, Some(16 << 20));
        let shared = cases.iter().filter(|case| case.sessions == 3);
        assert_eq!(shared.count(), 4);
        let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(
            super::cases(true, 1 << 30, 1)
                .iter()
                .all(|case| case.sessions == 1)
        );
    }
}
