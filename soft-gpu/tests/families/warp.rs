//! What lanes of a warp and warps of a block do together, and where they go on.

use super::{control, kernel, noise, results};

const LANES: usize = 32;

pub(crate) fn check(form: &str) {
    match form.split('.').next().unwrap_or("") {
        "shfl" => shuffle(form),
        "vote" => vote(form),
        "match" => matching(form),
        "redux" => reduction(form),
        "activemask" => active(form),
        "elect" => elected(form),
        "bar" | "barrier" if form.contains("warp") => warp_barrier(form),
        "barrier" if form.contains("barrier.cluster") => cluster_barrier(form),
        "bar" | "barrier" if form.contains("red") => block_reduction(form),
        "bar" | "barrier" => block_barrier(form),
        _ => control::check(form),
    }
}

/// What lanes make of three words each, of several sets of them: `body` reads `%a`, `%b` and `%c` and writes `%d` and `%e`.
fn lanes(
    form: &str,
    declared: &str,
    body: &str,
    sets: &[Vec<[u64; 3]>],
    want: impl Fn(&[[u64; 3]], usize) -> [u64; 2],
) {
    let body = format!(
        ".reg .b64 %from, %to; .reg .b64 %a, %b, %c, %d, %e; {declared}\n\
         mad.wide.u32 %from, %lane, 24, %in; mad.wide.u32 %to, %lane, 16, %out;\n\
         ld.global.b64 %a, [%from]; ld.global.b64 %b, [%from+8]; ld.global.b64 %c, [%from+16];\n{body}\n\
         st.global.b64 [%to], %d; st.global.b64 [%to+8], %e;"
    );
    let text = kernel(&body, "");
    for set in sets {
        for (path, out) in results(&text, 32, set.as_flattened(), 2 * LANES) {
            for lane in 0..LANES {
                let got = &out[lane * 2..][..2];
                assert_eq!(
                    got,
                    want(set, lane),
                    "{form} in lane {lane} on {path:?} of {set:x?}"
                );
            }
        }
    }
}

fn sets(count: usize, word: impl Fn(usize) -> [u64; 3]) -> Vec<Vec<[u64; 3]>> {
    (0..count)
        .map(|set| (0..LANES).map(|lane| word(set * 100 + lane)).collect())
        .collect()
}

fn shuffle(form: &str) {
    let mode = ["up", "down", "bfly", "idx"]
        .into_iter()
        .find(|mode| form.split('.').any(|part| part == *mode));
    let mode = mode.expect("a mode");
    let members = if form.contains("sync") {
        ", 0xffffffff"
    } else {
        ""
    };
    let body = format!(
        "cvt.u32.u64 %x, %a; cvt.u32.u64 %y, %b; cvt.u32.u64 %z, %c;\n{form} %x|%p, %x, %y, %z{members};\n\
         cvt.u64.u32 %d, %x; selp.b64 %e, 1, 0, %p;"
    );
    // Segments of the warp by the upper bits of `c`, the bound within them by the lower ones.
    let sets = sets(12, |seed| {
        let segments = [0, 0x10, 0x18, 0x1e][noise(seed / 100) as usize % 4];
        let bound = if mode == "up" { 0 } else { 31 };
        let bound = if noise(seed).is_multiple_of(4) {
            noise(seed + 7) & 31
        } else {
            bound
        };
        [
            noise(seed) & 0xffff_ffff,
            noise(seed + 50) & 31,
            segments << 8 | bound,
        ]
    });
    lanes(
        form,
        ".reg .b32 %x, %y, %z; .reg .pred %p;",
        &body,
        &sets,
        |set, lane| {
            let (b, bound, segments) = (
                set[lane][1] as i64,
                (set[lane][2] & 31) as i64,
                (set[lane][2] >> 8 & 31) as i64,
            );
            let (lane, first) = (lane as i64, lane as i64 & segments);
            let last = first | bound & !segments;
            let (from, is_valid) = match mode {
                "up" => (lane - b, lane - b >= last),
                "down" => (lane + b, lane + b <= last),
                "bfly" => (lane ^ b, (lane ^ b) <= last),
                _ => (first | b & !segments, (first | b & !segments) <= last),
            };
            let from = if is_valid { from } else { lane };
            [set[from as usize][0], u64::from(is_valid)]
        },
    );
}

/// Predicates: all, none, one, and some.
fn predicates() -> Vec<Vec<[u64; 3]>> {
    sets(6, |seed| {
        let bit = match seed / 100 {
            0 => 0,
            1 => 1,
            2 => u64::from(seed % 100 == 7),
            3 => u64::from(seed % 100 != 30),
            _ => noise(seed) & 1,
        };
        [bit, 0, 0]
    })
}

fn ballot(set: &[[u64; 3]]) -> u64 {
    set.iter()
        .enumerate()
        .map(|(lane, words)| (words[0] & 1) << lane)
        .sum()
}

fn vote(form: &str) {
    let members = if form.contains("sync") {
        ", 0xffffffff"
    } else {
        ""
    };
    let body = match form.contains("ballot") {
        true => format!(
            "setp.ne.u64 %p, %a, 0; {form} %x, %p{members}; cvt.u64.u32 %d, %x; mov.b64 %e, 0;"
        ),
        false => format!(
            "setp.ne.u64 %p, %a, 0; {form} %q, %p{members}; selp.b64 %d, 1, 0, %q; mov.b64 %e, 0;"
        ),
    };
    lanes(
        form,
        ".reg .b32 %x; .reg .pred %p, %q;",
        &body,
        &predicates(),
        |set, _| {
            let ballot = ballot(set);
            let all = u64::from(u32::MAX);
            let vote = match form {
                _ if form.contains("ballot") => ballot,
                _ if form.contains("all") => u64::from(ballot == all),
                _ if form.contains("any") => u64::from(ballot != 0),
                _ => u64::from(ballot == 0 || ballot == all),
            };
            [vote, 0]
        },
    );
}

fn matching(form: &str) {
    let is_wide = form.ends_with("b64");
    let is_all = form.contains("all");
    let (value, load) = if is_wide {
        ("%a", "")
    } else {
        ("%x", "cvt.u32.u64 %x, %a;")
    };
    let body = match is_all {
        true => format!(
            "{load} {form} %y|%p, {value}, 0xffffffff; cvt.u64.u32 %d, %y; selp.b64 %e, 1, 0, %p;"
        ),
        false => {
            format!("{load} {form} %y, {value}, 0xffffffff; cvt.u64.u32 %d, %y; mov.b64 %e, 0;")
        }
    };
    // Few values, that differ in the upper half too; and one only.
    let sets = sets(4, |seed| {
        let word = noise(seed) % 3;
        [if seed < 100 { 5 } else { word << 32 | word & 1 }, 0, 0]
    });
    lanes(
        form,
        ".reg .b32 %x, %y; .reg .pred %p;",
        &body,
        &sets,
        |set, lane| {
            let key = |lane: usize| {
                if is_wide {
                    set[lane][0]
                } else {
                    set[lane][0] & 0xffff_ffff
                }
            };
            let alike: u64 = (0..LANES)
                .map(|other| u64::from(key(other) == key(lane)) << other)
                .sum();
            let all = u64::from(u32::MAX);
            match is_all {
                true if alike == all => [all, 1],
                true => [0, 0],
                false => [alike, 0],
            }
        },
    );
}

fn reduction(form: &str) {
    let body = format!(
        "cvt.u32.u64 %x, %a; {form} %y, %x, 0xffffffff; cvt.u64.u32 %d, %y; mov.b64 %e, 0;"
    );
    let sets = sets(4, |seed| [noise(seed) & 0xffff_ffff, 0, 0]);
    lanes(form, ".reg .b32 %x, %y;", &body, &sets, |set, _| {
        let words = || set.iter().map(|words| words[0] as u32);
        let signed = form.ends_with("s32");
        let has = |name: &str| form.split('.').any(|part| part == name);
        let reduced = match form {
            _ if has("add") => words().fold(0, u32::wrapping_add),
            _ if has("and") => words().fold(u32::MAX, |a, b| a & b),
            _ if has("or") => words().fold(0, |a, b| a | b),
            _ if has("xor") => words().fold(0, |a, b| a ^ b),
            _ if has("min") && signed => words().map(|word| word as i32).min().unwrap_or(0) as u32,
            _ if has("max") && signed => words().map(|word| word as i32).max().unwrap_or(0) as u32,
            _ if has("min") => words().min().unwrap_or(0),
            _ => words().max().unwrap_or(0),
        };
        [reduced.into(), 0]
    });
}

fn active(form: &str) {
    let body = format!(
        "mov.b64 %d, 0; mov.b64 %e, 0; setp.ne.u64 %p, %a, 0; @!%p bra DONE;\n{form} %x; cvt.u64.u32 %d, %x;\nDONE:"
    );
    lanes(
        form,
        ".reg .b32 %x; .reg .pred %p;",
        &body,
        &predicates(),
        |set, lane| [if set[lane][0] != 0 { ballot(set) } else { 0 }, 0],
    );
}

/// One of the lanes, which all of them are told.
fn elected(form: &str) {
    let body = format!(
        ".reg .b32 %x; .reg .pred %p; .reg .b64 %to, %d;\n{form} %x|%p, 0xffffffff; mad.wide.u32 %to, %lane, 16, %out;\n\
         cvt.u64.u32 %d, %x; st.global.b64 [%to], %d; selp.b64 %d, 1, 0, %p; st.global.b64 [%to+8], %d;"
    );
    for (path, out) in results(&kernel(&body, ""), 32, &[], 64) {
        let leader = out[0];
        assert!(leader < 32, "{form} on {path:?}");
        for (lane, words) in out.chunks_exact(2).enumerate() {
            assert_eq!(
                words,
                [leader, u64::from(lane as u64 == leader)],
                "{form} on {path:?}"
            );
        }
    }
}

fn warp_barrier(form: &str) {
    let body = format!(
        ".shared .b32 cells[32]; mov.u32 %t, cells; mad.lo.u32 %t, %lane, 4, %t; cvt.u32.u64 %x, %a; st.shared.b32 [%t], %x;\n\
         {form} 0xffffffff;\nxor.b32 %x, %lane, 9; mov.u32 %t, cells; mad.lo.u32 %t, %x, 4, %t; ld.shared.b32 %x, [%t]; cvt.u64.u32 %d, %x; mov.b64 %e, 0;"
    );
    let sets = sets(2, |seed| [noise(seed) & 0xffff_ffff, 0, 0]);
    lanes(form, ".reg .b32 %t, %x;", &body, &sets, |set, lane| {
        [set[lane ^ 9][0], 0]
    });
}

/// Threads of two warps, of which each writes a word and reads the other's: of the whole block, by a number, and with a count.
fn block_barrier(form: &str) {
    const THREADS: usize = 64;
    for operands in ["0", "3", "5, 64", "%n", "%n, %m"] {
        let is_arrival = form.contains("arrive");
        if is_arrival && !operands.contains(',') {
            continue;
        }
        // Of an arrival the first warp does not wait; the second one does, for both.
        let meeting = match is_arrival {
            true => format!(
                "@%upper bra WAIT;\n{form} {operands};\nbra MET;\nWAIT: bar.sync {operands};\nMET:"
            ),
            false => format!("{form} {operands};"),
        };
        let body = format!(
            ".shared .b32 cells[64]; .reg .b32 %t, %x, %n, %m; .reg .b64 %to; .reg .pred %upper;\n\
             mov.b32 %n, 2; mov.b32 %m, 64; setp.ge.u32 %upper, %lane, 32;\n\
             mov.u32 %t, cells; mad.lo.u32 %t, %lane, 4, %t; mad.lo.u32 %x, %lane, 7, 3; st.shared.b32 [%t], %x;\n\
             {meeting}\nxor.b32 %x, %lane, 32; mov.u32 %t, cells; mad.lo.u32 %t, %x, 4, %t; ld.shared.b32 %x, [%t];\n\
             mad.wide.u32 %to, %lane, 8, %out; st.global.b32 [%to], %x;"
        );
        for (path, out) in results(&kernel(&body, ""), THREADS as u32, &[], THREADS) {
            for thread in if is_arrival { 32..THREADS } else { 0..THREADS } {
                let want = (thread as u64 ^ 32) * 7 + 3;
                assert_eq!(
                    out[thread], want,
                    "{form} {operands} in thread {thread} on {path:?}"
                );
            }
        }
    }
}

/// What a warp stores before its arrival the other one has after its wait, in each of three phases; here of a block that is its own cluster. Clusters of
/// several are in `exec_clusters.rs`.
fn cluster_barrier(form: &str) {
    const THREADS: usize = 64;
    let (arrive, wait) = match form.contains("arrive") {
        true => (form, "barrier.cluster.wait"),
        false => ("barrier.cluster.arrive", form),
    };
    let phase = format!(
        "st.shared.b32 [%own], %x;\n{arrive};\n{wait};\nld.shared.b32 %x, [%other]; mad.lo.u32 %x, %x, 7, 3;\n{arrive};\n{wait};\n"
    );
    let body = format!(
        ".shared .b32 cells[64]; .reg .b32 %own, %other, %x; .reg .b64 %to;\n\
         mov.u32 %own, cells; xor.b32 %x, %lane, 32; mad.lo.u32 %other, %x, 4, %own; mad.lo.u32 %own, %lane, 4, %own; mov.b32 %x, %lane;\n\
         {}mad.wide.u32 %to, %lane, 8, %out; st.global.b32 [%to], %x;",
        phase.repeat(3)
    );
    for (path, out) in results(&kernel(&body, ""), THREADS as u32, &[], THREADS) {
        for (thread, word) in out.into_iter().enumerate() {
            let want = (0..3).fold(thread as u64 ^ 32, |word, _| word * 7 + 3);
            assert_eq!(word, want, "{form} in thread {thread} on {path:?}");
        }
    }
}

fn block_reduction(form: &str) {
    const THREADS: u64 = 64;
    let holds = |case: u64, thread: u64| match case {
        0 => false,
        1 => true,
        _ => thread % case == 1,
    };
    for (case, operands) in [(0, "0"), (1, "1"), (2, "2, 64"), (7, "0"), (5, "%n, %m")] {
        let is_count = form.contains("popc");
        let (result, read) = if is_count {
            ("%x", "cvt.u64.u32 %w, %x;")
        } else {
            ("%q", "selp.b64 %w, 1, 0, %q;")
        };
        let predicate = match case {
            0 => "setp.ne.u32 %p, %lane, %lane;".to_owned(),
            1 => "setp.eq.u32 %p, %lane, %lane;".to_owned(),
            _ => format!("rem.u32 %x, %lane, {case}; setp.eq.u32 %p, %x, 1;"),
        };
        let body = format!(
            ".reg .b32 %x, %n, %m; .reg .b64 %to, %w; .reg .pred %p, %q;\nmov.b32 %n, 4; mov.b32 %m, 64;\n{predicate}\n\
             {form} {result}, {operands}, %p;\n{read} mad.wide.u32 %to, %lane, 8, %out; st.global.b64 [%to], %w;"
        );
        let count = (0..THREADS).filter(|&thread| holds(case, thread)).count() as u64;
        let want = match form {
            _ if is_count => count,
            _ if form.contains("and") => u64::from(count == THREADS),
            _ => u64::from(count > 0),
        };
        for (path, out) in results(&kernel(&body, ""), THREADS as u32, &[], THREADS as usize) {
            assert_eq!(
                out, [want; THREADS as usize],
                "{form} {operands} on {path:?}"
            );
        }
    }
}
