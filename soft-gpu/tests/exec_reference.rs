//! Every form of the scalar instructions against what the PTX ISA says of it ([`reference`]), on special and random values,
//! on every path.

mod reference;
mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use reference::{Name, Reference, Want, carries, cut, floats, forms, integers, video, width};
use support::{Argument, Kernel, Run, kernels};

/// Operands of one lane.
type Operands = [u64; 4];

/// The register that holds a type.
fn register(ty: Name) -> &'static str {
    match width(ty) {
        16 => "b16",
        64 => "b64",
        _ => "b32",
    }
}

/// A kernel that executes the form once in each thread.
fn kernel_text(reference: &Reference) -> String {
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out, .param .u32 count)\n{\n\
         .reg .b64 %p<4>;\n.reg .b32 %i<4>;\n.reg .pred %over;\n.reg .b32 %t<4>;\n.reg .b64 %w<4>;\nld.param.u64 %p0, [in];\nld.param.u64 %p1, [out];\n\
         mov.u32 %i0, %tid.x;\nld.param.u32 %i3, [count];\nsetp.ge.u32 %over, %i0, %i3;\n@%over ret;\nmad.wide.u32 %p2, %i0, 32, %p0;\nmad.wide.u32 %p3, %i0, 8, %p1;\n",
    );
    let mut operands = vec!["%d".to_owned()];
    for (index, ty) in reference.sources.iter().enumerate() {
        let offset = index * 8;
        let name = format!("%s{index}");
        if *ty == "pred" {
            text += &format!(
                ".reg .pred {name};\nld.global.b32 %i1, [%p2+{offset}];\nand.b32 %i1, %i1, 1;\nsetp.ne.u32 {name}, %i1, 0;\n"
            );
        } else {
            let register = register(ty);
            text += &format!(
                ".reg .{register} {name};\nld.global.{register} {name}, [%p2+{offset}];\n"
            );
        }
        operands.push(name);
    }
    let operands = operands.join(", ");
    let alone = format!("{} {operands}{};", reference.form, reference.suffix);
    let instructions = reference.text.as_ref().unwrap_or(&alone);
    if reference.destination == "pred" {
        text += &format!(
            ".reg .pred %d;\n{instructions}\nselp.b32 %i2, 1, 0, %d;\nst.global.b32 [%p3], %i2;\n"
        );
    } else {
        let register = register(reference.destination);
        text += &format!(".reg .{register} %d;\n{instructions}\nst.global.{register} [%p3], %d;\n");
    }
    text + "ret;\n}\n"
}

/// A form, decoded for each path.
struct Case {
    reference: Reference,
    kernels: Vec<Kernel>,
}

fn case(reference: Reference) -> Case {
    let kernels = kernels(&kernel_text(&reference), "k");
    Case { reference, kernels }
}

/// Whether `got` is as wanted, of type `ty`.
fn fits(ty: Name, want: Want, got: u64) -> bool {
    match want {
        Want::Open => true,
        Want::Bits(bits) => bits == got,
        Want::Number(bits) => match ty {
            "f16x2" | "bf16x2" => {
                let half = if ty == "f16x2" { "f16" } else { "bf16" };
                let part = |shift: u32| {
                    fits(
                        half,
                        Want::Number(bits >> shift & 0xffff),
                        got >> shift & 0xffff,
                    )
                };
                part(0) && part(16)
            }
            _ => bits == got || is_nan(ty, bits) && is_nan(ty, got),
        },
        Want::Near {
            value,
            absolute,
            relative,
        } => {
            let number = decode(ty, got);
            if value.is_nan() || number.is_nan() {
                return value.is_nan() && number.is_nan();
            }
            // The nearest number of the type may be further than the bound of a result that is none of its numbers.
            let rounding = rounding_of(ty, value);
            number == value
                || (number - value).abs() <= absolute.max(relative * value.abs()) + rounding
                || number.is_infinite()
                    && value.abs() > largest(ty)
                    && (number > 0.0) == (value > 0.0)
        }
    }
}

fn decode(ty: Name, bits: u64) -> f64 {
    match ty {
        "f64" => f64::from_bits(bits),
        "f32" => f64::from(f32::from_bits(bits as u32)),
        _ => reference::Format::of(ty).value(bits),
    }
}

fn is_nan(ty: Name, bits: u64) -> bool {
    matches!(ty, "f16" | "bf16" | "f32" | "f64") && decode(ty, bits).is_nan()
}

fn largest(ty: Name) -> f64 {
    match ty {
        "f16" => 65504.0,
        _ => f64::from(f32::MAX) * 0.99,
    }
}

/// Half a unit in the last place of halves: their errors are given before the result is rounded.
fn rounding_of(ty: Name, value: f64) -> f64 {
    match ty {
        "f16" => value.abs() * 2f64.powi(-11),
        "bf16" => value.abs() * 2f64.powi(-8),
        _ => 0.0,
    }
}

/// Runs a form on every path; what is wrong with it, if anything.
fn check(case: &Case, operands: &[Operands]) -> Result<(), String> {
    let threads = operands.len() as u32;
    for kernel in &case.kernels {
        let mut input = operands.to_vec();
        let mut output = vec![0u64; operands.len()];
        let mut run = Run::new(kernel, 1, threads);
        run.threads = 1;
        let arguments = [
            run.buffer(&mut input),
            run.buffer(&mut output),
            Argument::U32(threads),
        ];
        let reference = &case.reference;
        run.launch(&arguments)
            .map_err(|fault| format!("{}: {fault}", reference.form))?;
        for (operands, got) in operands.iter().zip(output) {
            let want = (reference.compute)(*operands);
            if fits(reference.destination, want, got) {
                continue;
            }
            let sources = reference.sources.iter().zip(operands);
            let given: Vec<u64> = sources.map(|(ty, bits)| cut(ty, *bits)).collect();
            let text = reference.text.as_ref().unwrap_or(&reference.suffix);
            return Err(format!(
                "{} ({text}) of {given:x?} on {:?} is {got:#x}, wanted {want:x?}",
                reference.form, kernel.path
            ));
        }
    }
    Ok(())
}

/// Values at which something happens in one type or another.
const SPECIAL: [u64; 44] = [
    0,
    1,
    2,
    3,
    15,
    16,
    31,
    32,
    33,
    63,
    64,
    65,
    0x7f,
    0x80,
    0xff,
    0x3c00,
    0x3bff,
    0x7bff,
    0x7c00,
    0x7e00,
    0x7fff,
    0x8000,
    0x8001,
    0x03ff,
    0x0400,
    0xfc00,
    0xffff,
    0x3f80_0000,
    0x3f00_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0x7fc0_0000,
    0x007f_ffff,
    0x0080_0000,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0x3ff0_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0x000f_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// A special value, one near it, one of few bits, a single or double of everyday size, or anything.
fn value() -> impl Strategy<Value = u64> {
    let special = proptest::sample::select(&SPECIAL[..]);
    prop_oneof![
        3 => special.clone(),
        1 => (special, -2i64..3).prop_map(|(value, by)| value.wrapping_add_signed(by)),
        1 => (0u32..64).prop_map(|shift| 1 << shift),
        1 => (-1000i32..1000).prop_map(|value| u64::from((value as f32 / 16.0).to_bits())),
        1 => (-1000i32..1000).prop_map(|value| (f64::from(value) / 16.0).to_bits()),
        1 => any::<u16>().prop_map(|half| u64::from(half) << 16 | u64::from(half ^ 0x1234)),
        2 => any::<u64>(),
    ]
}

/// Four operands for each lane; now and then close to each other, so that sums cancel.
fn operands() -> impl Strategy<Value = Vec<Operands>> {
    let lane = (proptest::array::uniform4(value()), 0u8..4, -3i64..4).prop_map(
        |(mut values, alike, by)| {
            if alike == 0 {
                values[1] = values[0].wrapping_add_signed(by) ^ 1 << 31;
                values[2] = values[0].wrapping_add_signed(-by);
            }
            values
        },
    );
    proptest::collection::vec(lane, 128)
}

/// Runs every form on the same operands, many times, and tells all that is wrong.
fn check_all(references: Vec<Reference>, rounds: u32) {
    let cases: Vec<Case> = references.into_iter().map(case).collect();
    let config = ProptestConfig {
        cases: rounds,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&operands(), |operands| {
        let wrong = cases.iter().filter_map(|case| check(case, &operands).err());
        let wrong: Vec<String> = wrong.collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(TestCaseError::fail(wrong.join("\n")))
    });
    // The operands that failed are in the messages already.
    if let Err(TestError::Fail(reason, _)) = result {
        panic!("{reason}");
    }
}

#[test]
fn integers_are_as_the_isa_says() {
    check_all(integers::all(), 32);
}

#[test]
fn carries_are_as_the_isa_says() {
    check_all(carries::all(), 32);
}

#[test]
fn video_instructions_are_as_the_isa_says() {
    check_all(video::all(), 8);
}

#[test]
fn floats_are_as_the_isa_says() {
    check_all(floats::all(), 16);
}

/// The opcodes that the documentation says are executed, of the families whose instructions are one lane's.
fn documented() -> Vec<&'static str> {
    let text = include_str!("../../docs/soft-gpu.md");
    let row = |family: &&str| {
        let start = format!("| {family} | ");
        text.lines().find(|line| line.starts_with(&start))
    };
    let rows = forms::FAMILIES
        .iter()
        .map(|family| row(family).expect("a row"));
    // Names stand between backticks; modifiers begin with a dot.
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let words = quoted.flat_map(str::split_whitespace);
    words.filter(|word| !word.starts_with('.')).collect()
}

#[test]
fn every_form_has_a_reference() {
    let references = [integers::all(), carries::all(), video::all(), floats::all()];
    let references: BTreeSet<String> = references
        .iter()
        .flatten()
        .map(|reference| forms::key(&reference.form))
        .collect();
    let forms: BTreeSet<String> = forms::all().iter().map(|form| forms::key(form)).collect();
    let missing = |form: &&String| !references.contains(*form) && forms::reason(form).is_none();
    let missing: Vec<&String> = forms.iter().filter(missing).collect();
    assert!(
        missing.is_empty(),
        "{} forms have neither a reference nor a reason: {missing:#?}",
        missing.len()
    );
    let unknown: Vec<&String> = references.difference(&forms).collect();
    assert!(unknown.is_empty(), "no line of the table has {unknown:#?}");
    for opcode in documented() {
        // Video instructions of several lanes are documented by their names for one.
        let is_named = |form: &String| {
            let name = form.split('.').next().unwrap_or("");
            name == opcode || name.trim_end_matches(['2', '4']) == opcode
        };
        assert!(
            forms.iter().any(is_named),
            "no line of the table has `{opcode}`"
        );
    }
}
