//! `multimem`: a kernel for each operation, type and vector, with all forms that differ in order and scope one after the other, each at places of its own. What three devices
//! have there is read together, or looked at afterwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use soft_gpu::exec::{FaultKind, Path, Program, Team};
use soft_gpu::ptx;

use super::atomics::{after, operands};
use super::{cut, width};
use crate::support::{Argument, Kernel, Run};

const LANES: usize = 32;
const COPIES: usize = 3;
/// Bytes of the longest vector.
const VECTOR: usize = 16;
/// Addresses at which nothing is: those of the team.
const TEAM: u64 = 0x5000_0000_0000;
const OPERATIONS: [&str; 6] = ["add", "min", "max", "and", "or", "xor"];

/// The opcode's second word, operation, whether sums are singles, elements, type.
type Group = (String, &'static str, bool, usize, String);

fn group(form: &str) -> Group {
    let parts: Vec<&str> = form.split('.').collect();
    let operation = OPERATIONS.into_iter().find(|name| parts.contains(name));
    let count = parts
        .iter()
        .find_map(|part| part.strip_prefix('v')?.parse().ok());
    (
        parts[1].to_owned(),
        operation.unwrap_or(""),
        parts.contains(&"acc::f32"),
        count.unwrap_or(1),
        parts[parts.len() - 1].to_owned(),
    )
}

/// What a copy has in an element of a lane's vector.
fn had(ty: &str, copy: usize, lane: usize, element: usize) -> u64 {
    operands(ty, lane * 8 + element)[copy]
}

/// What a lane stores or adds.
fn given(ty: &str, lane: usize, element: usize) -> u64 {
    operands(ty, 1000 + lane * 8 + element)[0]
}

pub(crate) fn check(forms: &[String]) {
    let mut groups: BTreeMap<Group, Vec<&String>> = BTreeMap::new();
    for form in forms {
        groups.entry(group(form)).or_default().push(form);
    }
    for (group, forms) in groups {
        check_group(&group, &forms);
    }
}

fn text(body: &str) -> String {
    format!(
        ".version 8.1\n.target sm_90\n.address_size 64\n\
         .visible .entry k(.param .u64 team, .param .u64 in, .param .u64 out)\n{{\n\
         .reg .b32 %lane; .reg .b64 %at, %in, %out;\nmov.u32 %lane, %tid.x;\n\
         ld.param.u64 %at, [team]; mad.wide.u32 %at, %lane, {VECTOR}, %at;\n\
         ld.param.u64 %in, [in]; mad.wide.u32 %in, %lane, {VECTOR}, %in;\n\
         ld.param.u64 %out, [out]; mad.wide.u32 %out, %lane, {VECTOR}, %out;\n{body}\nret;\n}}\n"
    )
}

/// Launches a kernel for each path, with copies that begin as `copy` says, and gives the path, the copies and what came out.
fn outcomes(
    text: &str,
    places: usize,
    copy: impl Fn(usize, &mut [u8]),
    input: &mut [u128],
    mut seen: impl FnMut(Path, Option<FaultKind>, &[Vec<u8>], &[u8]),
) {
    let module = ptx::parse(text).expect("module parses");
    let entry = module.kernel("k").expect("kernel exists");
    for &path in Path::available() {
        let program = Program::decode_for(&module, "k", &|_| None, path);
        let kernel = Kernel {
            program: program.unwrap_or_else(|error| panic!("{error} of {text}")),
            entry: entry.clone(),
            path,
        };
        let mut copies: Vec<Vec<u128>> = vec![vec![0; places * LANES]; COPIES];
        for (number, words) in copies.iter_mut().enumerate() {
            copy(
                number,
                zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice()),
            );
        }
        let mut out = vec![0u128; places * LANES];
        let mut run = Run::new(&kernel, 1, LANES as u32);
        run.threads = 1;
        let bytes = (places * LANES * VECTOR) as u64;
        run.teams.push(Team {
            range: TEAM..TEAM + bytes,
            copies: copies
                .iter_mut()
                .map(|words| words.as_mut_ptr() as u64)
                .collect(),
            held: Vec::new(),
        });
        let arguments = [Argument::U64(TEAM), run.buffer(input), run.buffer(&mut out)];
        let fault = run.launch(&arguments).err().map(|fault| fault.kind);
        let bytes = |words: &Vec<u128>| zerocopy::IntoBytes::as_bytes(words.as_slice()).to_vec();
        let copies: Vec<Vec<u8>> = copies.iter().map(bytes).collect();
        seen(path, fault, &copies, &bytes(&out));
    }
}

fn word(bytes: &[u8], ty: &str, place: usize, element: usize) -> u64 {
    let size = width(ty) as usize / 8;
    let start = place * VECTOR + element * size;
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[start..start + size]);
    u64::from_le_bytes(word)
}

fn put(bytes: &mut [u8], ty: &str, place: usize, element: usize, value: u64) {
    let size = width(ty) as usize / 8;
    let start = place * VECTOR + element * size;
    bytes[start..start + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

fn check_group((what, operation, _, count, ty): &Group, forms: &[&String]) {
    let (bits, size) = (width(ty), width(ty) as usize / 8);
    let names: Vec<String> = (0..*count).map(|element| format!("%e{element}")).collect();
    let vector = match count {
        1 => names[0].clone(),
        _ => format!("{{{}}}", names.join(", ")),
    };
    let mut body = format!(".reg .b{bits} %e<8>;\n");
    if what != "ld_reduce" {
        for (element, name) in names.iter().enumerate() {
            writeln!(body, "ld.global.b{bits} {name}, [%in+{}];", element * size).unwrap();
        }
    }
    for (number, form) in forms.iter().enumerate() {
        let at = number * LANES * VECTOR;
        if what != "ld_reduce" {
            writeln!(body, "{form} [%at+{at}], {vector};").unwrap();
            continue;
        }
        writeln!(body, "{form} {vector}, [%at+{at}];").unwrap();
        for (element, name) in names.iter().enumerate() {
            writeln!(
                body,
                "st.global.b{bits} [%out+{}], {name};",
                at + element * size
            )
            .unwrap();
        }
    }
    let mut input = vec![0u128; LANES];
    let bytes = zerocopy::IntoBytes::as_mut_bytes(input.as_mut_slice());
    for (lane, element) in each(*count) {
        put(bytes, ty, lane, element, given(ty, lane, element));
    }
    let fill = |copy: usize, bytes: &mut [u8]| {
        for number in 0..forms.len() {
            for (lane, element) in each(*count) {
                put(
                    bytes,
                    ty,
                    number * LANES + lane,
                    element,
                    had(ty, copy, lane, element),
                );
            }
        }
    };
    outcomes(
        &text(&body),
        forms.len(),
        fill,
        &mut input,
        |path, fault, copies, out| {
            assert_eq!(fault, None, "{} on {path:?}", forms[0]);
            for (number, form) in forms.iter().enumerate() {
                for (lane, element) in each(*count) {
                    let place = number * LANES + lane;
                    let before: Vec<u64> = (0..COPIES)
                        .map(|copy| had(ty, copy, lane, element))
                        .collect();
                    let value = given(ty, lane, element);
                    let wanted = before.iter().map(|old| match what.as_str() {
                        "ld_reduce" => *old,
                        "st" => cut(bits, value),
                        _ => after(operation, ty, [*old, value, 0]),
                    });
                    for (copy, wanted) in wanted.enumerate() {
                        let got = word(&copies[copy], ty, place, element);
                        assert_eq!(
                            got, wanted,
                            "{form} in copy {copy} of lane {lane} on {path:?}"
                        );
                    }
                    if what == "ld_reduce" {
                        let join = |all: u64, next: &u64| after(operation, ty, [all, *next, 0]);
                        let wanted = before[1..].iter().fold(before[0], join);
                        let got = word(out, ty, place, element);
                        assert_eq!(got, wanted, "{form} of {before:x?} on {path:?}");
                    }
                }
            }
        },
    );
}

fn each(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..LANES).flat_map(move |lane| (0..count).map(move |element| (lane, element)))
}

/// 2048 and twice 1: halves lose the ones each time, singles only if their sum is lost. In a bfloat16 that is so at 256.
pub(crate) fn check_precision() {
    for (form, ty, big, one, apart, together) in [
        ("f16x2", "f16", 0x6800, 0x3c00, 0x6800, 0x6801),
        ("bf16x2", "bf16", 0x4380, 0x3f80, 0x4380, 0x4381),
    ] {
        let body = format!(
            ".reg .b32 %e<2>;\nmultimem.ld_reduce.relaxed.sys.global.add.{form} %e0, [%at];\n\
             multimem.ld_reduce.relaxed.sys.global.add.acc::f32.{form} %e1, [%at];\n\
             st.global.v2.b32 [%out], {{%e0, %e1}};"
        );
        let fill = |copy: usize, bytes: &mut [u8]| {
            for lane in 0..LANES {
                for element in 0..2 {
                    put(bytes, ty, lane, element, if copy == 0 { big } else { one });
                }
            }
        };
        outcomes(
            &text(&body),
            1,
            fill,
            &mut [0; LANES],
            |path, fault, _, out| {
                assert_eq!(fault, None);
                for (element, wanted) in [apart, apart, together, together].into_iter().enumerate()
                {
                    assert_eq!(word(out, ty, 7, element), wanted, "{form} on {path:?}");
                }
            },
        );
    }
}

/// Nothing but `multimem` takes addresses of a team, and that no others.
pub(crate) fn check_faults() {
    use FaultKind::{IllegalAddress, Misaligned};
    for (body, wanted) in [
        ("ld.global.u32 %lane, [%at];", IllegalAddress),
        ("st.global.u32 [%at], %lane;", IllegalAddress),
        ("red.global.add.u32 [%at], %lane;", IllegalAddress),
        ("multimem.st.global.u32 [%out], %lane;", IllegalAddress),
        ("multimem.st.global.u32 [%at+512], %lane;", IllegalAddress),
        (
            "multimem.red.global.add.u32 [%at+-512], %lane;",
            IllegalAddress,
        ),
        ("multimem.st.global.u32 [%at+2], %lane;", Misaligned),
        (
            "multimem.ld_reduce.global.add.v2.f32 {%lane, %lane}, [%at+4];",
            Misaligned,
        ),
    ] {
        outcomes(
            &text(body),
            1,
            |_, _| {},
            &mut [0; LANES],
            |path, fault, copies, _| {
                assert_eq!(fault, Some(wanted), "{body} on {path:?}");
                assert!(copies.iter().flatten().all(|byte| *byte == 0));
            },
        );
    }
}
