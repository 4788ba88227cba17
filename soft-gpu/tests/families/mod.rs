//! What the families' references share: kernels of one signature, and what they make of a page of data on each path.

pub(crate) mod asynchronous;
pub(crate) mod atomics;
pub(crate) mod bulk;
pub(crate) mod control;
pub(crate) mod multimem;
pub(crate) mod quad;
pub(crate) mod transfers;
pub(crate) mod warp;

use soft_gpu::exec::{Fault, Path, Program};
use soft_gpu::ptx;

use crate::support::{Argument, Kernel, Run};

/// Words of a page that a kernel gets; the upper half is for it to write.
pub(crate) const PAGE: usize = 1024;
/// Where the upper half begins, in bytes.
pub(crate) const SCRATCH: usize = PAGE * 4;

/// Numbers without a pattern.
pub(crate) fn noise(seed: usize) -> u64 {
    let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed << 7
}

/// A kernel `k` of `body`: its lane's number is `%lane`, the page's address `%in`, and `%out` is that of the results.
/// Constants begin where the page does, parameters are its first words.
pub(crate) fn kernel(body: &str, functions: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.const .align 16 .b8 constants[512];\n{functions}\n\
         .visible .entry k(.param .u64 low, .param .u64 high, .param .u64 in, .param .u64 out)\n{{\n\
         .reg .b32 %lane; .reg .b64 %in, %out;\n\
         mov.u32 %lane, %tid.x;\nld.param.u64 %in, [in];\nld.param.u64 %out, [out];\n{body}\nret;\n}}\n"
    )
}

/// What a block of `threads` makes of `data`, `results` words on each path.
pub(crate) fn outcomes(
    text: &str,
    threads: u32,
    data: &[u64],
    results: usize,
    paths: &[Path],
) -> Vec<(Path, Result<Vec<u64>, Fault>)> {
    // Aligned for every vector.
    let mut page = vec![0u128; PAGE / 2];
    let place = page.as_mut_ptr() as u64;
    let mut outcomes = Vec::new();
    let module = ptx::parse(text).expect("module parses");
    let entry = module.kernel("k").expect("kernel exists");
    for &path in paths {
        let program = Program::decode_for(&module, "k", &|_| Some(place), path);
        let kernel = Kernel {
            program: program.unwrap_or_else(|error| panic!("{error} of {text}")),
            entry: entry.clone(),
            path,
        };
        page.fill(0);
        for (index, word) in data.iter().enumerate() {
            page[index / 2] |= u128::from(*word) << (64 * (index % 2));
        }
        let mut out = vec![0u64; results];
        let mut run = Run::new(&kernel, 1, threads);
        run.threads = 1;
        let word = |index: usize| Argument::U64(data.get(index).copied().unwrap_or(0));
        let arguments = [
            word(0),
            word(1),
            run.buffer(&mut page),
            run.buffer(&mut out),
        ];
        let fault = run.launch(&arguments).err();
        outcomes.push((kernel.path, fault.map_or(Ok(out), Err)));
    }
    outcomes
}

/// As [`outcomes`], of a kernel that must not fault, on each path of the machine.
pub(crate) fn results(
    text: &str,
    threads: u32,
    data: &[u64],
    results: usize,
) -> Vec<(Path, Vec<u64>)> {
    results_on(Path::available(), text, threads, data, results)
}

/// As [`results`], on some paths.
pub(crate) fn results_on(
    paths: &[Path],
    text: &str,
    threads: u32,
    data: &[u64],
    results: usize,
) -> Vec<(Path, Vec<u64>)> {
    let made = outcomes(text, threads, data, results, paths).into_iter();
    made.map(|(path, out)| {
        let out = out.unwrap_or_else(|fault| panic!("{fault} on {path:?} of {text}"));
        (path, out)
    })
    .collect()
}

/// The low `bits` of a word.
pub(crate) fn cut(bits: u32, word: u64) -> u64 {
    if bits == 64 {
        word
    } else {
        word & ((1 << bits) - 1)
    }
}

/// The width of a type, which its name ends with.
pub(crate) fn width(ty: &str) -> u32 {
    match ty {
        "f16x2" | "bf16x2" => 32,
        _ => ty
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .expect("a width"),
    }
}

/// The memory that a form says, "" for generic addresses.
pub(crate) fn space(form: &str) -> &'static str {
    const SPACES: [&str; 10] = [
        "global",
        "const",
        "local",
        "shared",
        "shared::cta",
        "shared::cluster",
        "param",
        "param::entry",
        "param::func",
        "",
    ];
    let is_there = |space: &&&str| space.is_empty() || form.split('.').any(|part| part == **space);
    SPACES
        .iter()
        .find(is_there)
        .expect("the last one is always there")
}

/// Makes `%policy`, which forms with a cache policy have behind their operands.
pub(crate) const POLICY: &str =
    ".reg .b64 %policy; createpolicy.fractional.L2::evict_first.b64 %policy, 1.0;";

/// That operand, where a form has it.
pub(crate) fn policy(form: &str) -> &'static str {
    if form.contains("L2::cache_hint") {
        ", %policy"
    } else {
        ""
    }
}
