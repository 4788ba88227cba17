//! Boxes of tensors, by every form of the device's own table: element by element after the text of the PTX ISA and the driver API, for maps of every rank,
//! element, swizzle and stride, inside a tensor and over its edges, on every path.

mod support;

use driver_api::tensor_map::{Encoding, MAX_RANK, Map};
use soft_gpu::exec::{Fault, FaultKind, encode_tensor_map, syntax};
use support::{Argument, Kernel, Run, kernels};

/// Bytes of the box's place in shared memory, and of the tensor.
const SHARED: usize = 8192;
const TENSOR: usize = 1 << 16;

/// Numbers without a pattern.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % below
    }
}

/// A map, of a tensor whose address is to be filled in, and where a box of it begins.
#[derive(Clone, Copy, Debug)]
struct Case {
    of: Encoding,
    element: usize,
    first: [i32; MAX_RANK],
    /// Where the box begins in shared memory.
    shift: usize,
}

/// Element types by size: an integer and a float, where there is one.
const TYPES: [(usize, [u32; 2]); 4] = [(1, [0, 0]), (2, [1, 6]), (4, [2, 7]), (8, [4, 8])];

fn case(rank: usize, random: &mut Random) -> Case {
    let (element, types) = TYPES[random.next(4) as usize];
    let data_type = types[random.next(2) as usize];
    let swizzle = random.next(4) as u32;
    let mut of = Encoding {
        data_type,
        rank: rank as u32,
        swizzle,
        fill: u32::from(data_type >= 6) * random.next(2) as u32,
        ..Encoding::default()
    };
    let most = if swizzle == 0 { 8 } else { 1 << swizzle };
    let pieces = random.next(most) + 1;
    of.box_dimensions[0] = (pieces * 16 / element as u64) as u32;
    let mut bytes = pieces * 16;
    let mut stride = 0;
    for dimension in 0..rank {
        of.dimensions[dimension] = 1 + random.next(if dimension == 0 { 40 } else { 6 });
        of.element_strides[dimension] = 1 + random.next(2) as u32 * random.next(3) as u32;
        if dimension > 0 {
            let room = SHARED as u64 / 2 / bytes;
            let count = 1 + random.next(room.min(4));
            of.box_dimensions[dimension] =
                (count * u64::from(of.element_strides[dimension])) as u32;
            bytes *= count;
            of.strides[dimension - 1] = stride;
        }
        stride = match dimension {
            0 => (of.dimensions[0] * element as u64).next_multiple_of(16) + 16 * random.next(2),
            _ => stride * of.dimensions[dimension],
        };
    }
    let coordinate = |random: &mut Random, dimension: usize| {
        random.next(of.dimensions[dimension] + 6) as i32 - 3
    };
    let mut first = [0; MAX_RANK];
    for (dimension, place) in first.iter_mut().enumerate().take(rank) {
        *place = coordinate(random, dimension);
    }
    Case {
        of,
        element,
        first,
        shift: 128 * random.next(8) as usize,
    }
}

impl Case {
    /// Calls `visit` with each element of the box: where it is in shared memory, and in the tensor, if it is there.
    fn each(&self, mut visit: impl FnMut(usize, Option<usize>)) {
        let rank = self.of.rank as usize;
        let step = |dimension: usize| match dimension {
            0 => 1,
            _ => self.of.element_strides[dimension] as usize,
        };
        let count = |dimension: usize| {
            (self.of.box_dimensions[dimension] as usize).div_ceil(step(dimension))
        };
        let all: usize = (0..rank).map(count).product();
        for number in 0..all {
            let (mut rest, mut place, mut is_inside) = (number, 0, true);
            for dimension in 0..rank {
                let index = (rest % count(dimension) * step(dimension)) as i64;
                rest /= count(dimension);
                let at = i64::from(self.first[dimension]) + index;
                is_inside &= (0..self.of.dimensions[dimension] as i64).contains(&at);
                let stride = match dimension {
                    0 => self.element as i64,
                    _ => self.of.strides[dimension - 1] as i64,
                };
                place += at * stride;
            }
            let linear = self.shift + number * self.element;
            // Lines of 128 bytes are eight pieces; which are swapped depends on the number of the line.
            let lines = [1, 2, 4, 8][self.of.swizzle as usize];
            let (line, piece) = (linear / 128, linear / 16 % 8);
            let there = line * 128 + (piece ^ (line % lines)) * 16 + linear % 16;
            visit(there, is_inside.then_some(place as usize));
        }
    }

    fn bytes(&self) -> usize {
        let mut bytes = 0;
        self.each(|_, _| bytes += self.element);
        bytes
    }

    /// An element outside the tensor.
    fn fill(&self) -> Vec<u8> {
        let mut fill = vec![0u8; self.element];
        if self.of.fill == 1 {
            fill.fill(0xff);
            fill[self.element - 1] = 0x7f;
        }
        fill
    }
}

/// A kernel that fills shared memory from `out`, runs `instruction` in one thread, waits for it, and stores shared memory to `out`.
fn module(instruction: &str, is_load: bool) -> String {
    let wait = match is_load {
        true => "WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], 0; @!%p bra WAIT;",
        false => "@%first cp.async.bulk.commit_group; @%first cp.async.bulk.wait_group 0;",
    };
    let expect = match is_load {
        true => "@%first mbarrier.arrive.expect_tx.shared::cta.b64 %w, [bar], %bytes;",
        false => "",
    };
    let move_all = |what: &str, label: &str| {
        format!(
            "mov.u32 %i, %tid;\n{label}: shl.b32 %at, %i, 3; cvt.u64.u32 %to, %at; add.u64 %to, %to, %out;\n{what}\n\
             add.u32 %i, %i, 32; setp.lt.u32 %p, %i, {}; @%p bra {label};\nbar.sync 0;\n",
            SHARED / 8
        )
    };
    format!(
        ".version 8.6\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 map, .param .u64 out, .param .u32 shift, .param .u32 bytes, .param .u32 c0, .param .u32 c1, .param .u32 c2, .param .u32 c3, .param .u32 c4)\n{{\n\
         .shared .align 1024 .b8 tile[{SHARED}]; .shared .align 8 .b64 bar;\n\
         .reg .b32 %tid, %i, %at, %box, %bytes, %c<5>; .reg .b64 %map, %out, %to, %w, %policy; .reg .pred %p, %first; .reg .b16 %mask;\n\
         mov.u32 %tid, %tid.x; setp.eq.u32 %first, %tid, 0; ld.param.u64 %map, [map]; ld.param.u64 %out, [out]; ld.param.u32 %bytes, [bytes];\n\
         ld.param.u32 %c0, [c0]; ld.param.u32 %c1, [c1]; ld.param.u32 %c2, [c2]; ld.param.u32 %c3, [c3]; ld.param.u32 %c4, [c4];\n\
         mov.u32 %box, tile; ld.param.u32 %at, [shift]; add.u32 %box, %box, %at; mov.b16 %mask, 1; createpolicy.fractional.L2::evict_first.b64 %policy, 1.0;\n\
         @%first mbarrier.init.shared::cta.b64 [bar], 1;\n\
         {}{expect}\n@%first {instruction}\n{wait}\nbar.sync 0;\n{}ret;\n}}\n",
        move_all("ld.global.b64 %w, [%to]; st.shared.b64 [%at], %w;", "FILL"),
        move_all("ld.shared.b64 %w, [%at]; st.global.b64 [%to], %w;", "SHOW"),
    )
}

/// Coordinates as a form of this rank has them.
fn coordinates(rank: usize) -> String {
    let names: Vec<String> = (0..rank).map(|index| format!("%c{index}")).collect();
    format!("{{{}}}", names.join(", "))
}

/// The instruction of a form, with its operands.
fn instruction(form: &str, rank: usize) -> String {
    let has = |part: &str| form.split('.').any(|other| other == part);
    let place = format!("[%map, {}]", coordinates(rank));
    let hint = if has("L2::cache_hint") {
        ", %policy"
    } else {
        ""
    };
    let mask = if has("multicast::cluster") {
        ", %mask"
    } else {
        ""
    };
    match () {
        () if has("prefetch") => format!("{form} {place}{hint};"),
        () if has("bulk_group") => format!("{form} {place}, [%box]{hint};"),
        () => format!("{form} [%box], {place}, [bar]{mask}{hint};"),
    }
}

/// What a launch makes of a tensor and of what shared memory holds at first: both as they are then.
fn launch(
    kernel: &Kernel,
    case: &Case,
    tensor: &mut [u128],
    shared: &mut [u64],
) -> Result<(), Fault> {
    let of = Encoding {
        address: tensor.as_mut_ptr() as u64,
        ..case.of
    };
    let mut map: [Map; 1] = [encode_tensor_map(&of).unwrap_or_else(|| panic!("{of:?}"))];
    let mut run = Run::new(kernel, 1, 32);
    run.threads = 1;
    let mut arguments = vec![run.buffer(&mut map), run.buffer(shared)];
    run.buffer(tensor);
    let plain = [case.shift as u32, case.bytes() as u32];
    let first = case.first.map(|at| at as u32);
    arguments.extend(plain.iter().chain(&first).map(|word| Argument::U32(*word)));
    run.launch(&arguments).map(drop)
}

fn bytes_of(tensor: &[u128]) -> Vec<u8> {
    tensor.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Memory without a pattern, of numbers that are small and whole whatever their type.
fn filled(case: &Case, random: &mut Random, bytes: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes);
    while all.len() < bytes {
        let small = random.next(60);
        let element = match case.of.data_type {
            6 => [0u64, 0x3c00, 0x4000, 0x4200, 0x4400][small as usize % 5].to_le_bytes(),
            7 => u64::from((small as f32 - 30.0).to_bits()).to_le_bytes(),
            8 => (small as f64 - 30.0).to_bits().to_le_bytes(),
            _ => random
                .next(1 << 31)
                .wrapping_mul(0x1_0001_0003)
                .to_le_bytes(),
        };
        all.extend(&element[..case.element]);
    }
    all
}

/// Runs one case of a form, and checks every byte of the tensor and of shared memory.
fn check(form: &str, kernel: &Kernel, case: &Case, random: &mut Random) {
    let mut tensor: Vec<u128> = vec![0; TENSOR / 16];
    let before = filled(case, random, TENSOR);
    for (word, bytes) in tensor.iter_mut().zip(before.as_chunks::<16>().0) {
        *word = u128::from_le_bytes(*bytes);
    }
    let shared_before = filled(case, random, SHARED);
    let words = shared_before.as_chunks::<8>().0.iter();
    let mut shared: Vec<u64> = words.map(|word| u64::from_le_bytes(*word)).collect();
    launch(kernel, case, &mut tensor, &mut shared)
        .unwrap_or_else(|fault| panic!("{fault} of {form} of {case:?} on {:?}", kernel.path));
    let (mut want, mut want_shared) = (before.clone(), shared_before.clone());
    let is_load = !form.contains("bulk_group");
    case.each(|there, place| {
        let shared = there..there + case.element;
        match place.map(|place| place..place + case.element) {
            _ if form.contains("prefetch") => {}
            Some(place) if is_load => want_shared[shared].copy_from_slice(&before[place]),
            None if is_load => want_shared[shared].copy_from_slice(&case.fill()),
            Some(place) => {
                let come = &shared_before[shared];
                let new = reduced(form, case, &before[place.clone()], come);
                want[place].copy_from_slice(&new);
            }
            None => {}
        }
    });
    let got = bytes_of(&tensor);
    let got_shared: Vec<u8> = shared.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(got == want, "{form} of {case:?}: the tensor");
    assert!(
        got_shared == want_shared,
        "{form} of {case:?}: shared memory"
    );
}

/// An element after what came.
fn reduced(form: &str, case: &Case, old: &[u8], come: &[u8]) -> Vec<u8> {
    let operations = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];
    let operation = form.split('.').find(|part| operations.contains(part));
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let (a, b) = (word(old), word(come));
    let singles = |of: fn(f32, f32) -> f32| {
        u64::from(of(f32::from_bits(a as u32), f32::from_bits(b as u32)).to_bits())
    };
    let new = match (operation, case.of.data_type) {
        (None, _) => b,
        (Some("add"), 7) => singles(|a, b| a + b),
        (Some("add"), 8) => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        (Some("add"), _) => a.wrapping_add(b),
        (Some("min"), _) => a.min(b),
        (Some("max"), _) => a.max(b),
        (Some("inc"), _) => {
            if a >= b {
                0
            } else {
                a + 1
            }
        }
        (Some("dec"), _) => {
            if a == 0 || a > b {
                b
            } else {
                a - 1
            }
        }
        (Some("and"), _) => a & b,
        (Some("or"), _) => a | b,
        (Some(_), _) => a ^ b,
    };
    new.to_le_bytes()[..case.element].to_vec()
}

/// Types of elements that a reduction has, of those that are tried.
fn has_reduction(form: &str, data_type: u32) -> bool {
    let has = |part: &str| form.split('.').any(|other| other == part);
    match () {
        () if !form.starts_with("cp.reduce") => true,
        () if has("add") => matches!(data_type, 2 | 4 | 7 | 8),
        () if has("inc") || has("dec") => data_type == 2,
        () => matches!(data_type, 2 | 4),
    }
}

fn forms() -> Vec<(String, usize)> {
    let all = syntax::forms("memory").into_iter();
    let rank = |form: &String| (1..=5).find(|rank| form.contains(&format!(".{rank}d")));
    let tensors = all.filter(|form| form.contains(".tensor."));
    let found: Vec<_> = tensors
        .map(|form| (rank(&form).expect("a rank"), form))
        .map(|(rank, form)| (form, rank))
        .collect();
    assert!(found.len() > 100, "{}", found.len());
    found
}

#[test]
fn every_form_moves_what_the_isa_says() {
    let mut random = Random(1);
    for (form, rank) in forms() {
        let text = module(&instruction(&form, rank), form.contains("complete_tx"));
        let text = match form.contains("prefetch") {
            true => text.replace("WAIT:", "bra DONE; WAIT:").replace(
                "bar.sync 0;\nmov.u32 %i, %tid;\nSHOW",
                "DONE: bar.sync 0;\nmov.u32 %i, %tid;\nSHOW",
            ),
            false => text,
        };
        for kernel in kernels(&text, "k") {
            for _ in 0..3 {
                let mut tried = case(rank, &mut random);
                while !has_reduction(&form, tried.of.data_type) {
                    tried = case(rank, &mut random);
                }
                check(&form, &kernel, &tried, &mut random);
            }
        }
    }
}

#[test]
fn boxes_of_every_kind() {
    let mut random = Random(2);
    for rank in 1..=5 {
        for form in ["load", "store"] {
            let form = match form {
                "load" => format!(
                    "cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                ),
                _ => format!("cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group"),
            };
            let text = module(&instruction(&form, rank), form.contains("complete_tx"));
            let kernel = &kernels(&text, "k")[0];
            for _ in 0..150 {
                let tried = case(rank, &mut random);
                check(&form, kernel, &tried, &mut random);
            }
        }
    }
}

fn faults(kernel: &Kernel, case: &Case, change: impl Fn(&mut Case, &mut Map), kind: FaultKind) {
    let mut case = *case;
    let (mut tensor, mut shared) = (vec![0u128; TENSOR / 16], vec![0u64; SHARED / 8]);
    let mut map = [0u8; 128];
    change(&mut case, &mut map);
    let of = Encoding {
        address: tensor.as_mut_ptr() as u64,
        ..case.of
    };
    let mut map: [Map; 1] = [encode_tensor_map(&of).unwrap_or(map)];
    let mut run = Run::new(kernel, 1, 32);
    let mut arguments = vec![run.buffer(&mut map), run.buffer(&mut shared)];
    run.buffer(&mut tensor);
    let plain = [case.shift as u32, 0];
    let first = case.first.map(|at| at as u32);
    arguments.extend(plain.iter().chain(&first).map(|word| Argument::U32(*word)));
    let fault = run.launch(&arguments).expect_err("a fault");
    assert_eq!(fault.kind, kind, "{fault} of {case:?}");
}

#[test]
fn what_is_wrong_with_a_map_or_a_place_is_a_fault() {
    let form = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes";
    let kernel = &kernels(&module(&instruction(form, 2), true), "k")[0];
    let good = Case {
        of: Encoding {
            data_type: 2,
            rank: 2,
            dimensions: [16, 8, 1, 1, 1],
            strides: [64, 0, 0, 0],
            box_dimensions: [16, 8, 1, 1, 1],
            element_strides: [1; 5],
            ..Encoding::default()
        },
        element: 4,
        first: [0; 5],
        shift: 0,
    };
    let refused = FaultKind::IllegalInstruction;
    // No map, one of another rank, of columns, interleaved, of packed elements, with a swizzle of later devices.
    faults(kernel, &good, |case, _| case.of.rank = 9, refused);
    faults(
        kernel,
        &good,
        |case, map| (case.of.rank, *map) = (9, [0x7a; 128]),
        refused,
    );
    faults(kernel, &good, |case, _| case.of.rank = 1, refused);
    faults(kernel, &good, |case, _| case.of.kind = 1, refused);
    faults(
        kernel,
        &good,
        |case, _| (case.of.rank, case.of.interleave) = (3, 1),
        refused,
    );
    faults(kernel, &good, |case, _| case.of.data_type = 13, refused);
    faults(kernel, &good, |case, _| case.of.swizzle = 5, refused);
    // A box between two places, beyond shared memory, and a tensor beyond its allocation.
    faults(
        kernel,
        &good,
        |case, _| case.shift = 64,
        FaultKind::Misaligned,
    );
    faults(
        kernel,
        &good,
        |case, _| case.shift = SHARED,
        FaultKind::IllegalAddress,
    );
    faults(
        kernel,
        &good,
        |case, _| (case.of.dimensions[1], case.first[1]) = (1 << 20, 1 << 19),
        FaultKind::IllegalAddress,
    );
}
