//! Comparisons: `setp`, `set`, `slct`, `testp`.

use crate::ptx::{Class, Operand, Type};

use super::super::half::{self, Bf16, F16, Half};
use super::super::math::flush;
use super::super::op::Row;
use super::super::path::Path;
use super::super::rows::{Flag, Handler, binary, rare_binary, rare_unary, ternary, unary};
use super::form::Form;
use super::function::FunctionDecoder;
use super::integer::{simple, sources};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// The comparisons of PTX.
const OPERATORS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
    "geu", "num", "nan",
];

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "setp" => set_predicate(decoder, form, operands)?,
        "set" => set(decoder, form, operands)?,
        "slct" => select_by_sign(decoder, form, operands)?,
        "testp" => test(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The comparison itself, as a predicate; of pairs, as a mask of halves.
fn comparison(path: Path, operator: &str, ty: Type, ftz: bool) -> Option<Handler> {
    match (ty.class(), ty) {
        (_, Type::F32) if ftz => float(path, operator, |a: f32| f64::from(flush(a))),
        (_, Type::F32) => single(path, operator),
        (_, Type::F64) => float(path, operator, |a: f64| a),
        (_, Type::F16) if ftz => float(path, operator, |a: F16| {
            let is_subnormal = a.0 & 0x7c00 == 0;
            f64::from(if is_subnormal { 0.0 } else { a.to_f32() })
        }),
        (_, Type::F16) => float(path, operator, |a: F16| f64::from(a.to_f32())),
        (_, Type::Bf16) => float(path, operator, |a: Bf16| f64::from(a.to_f32())),
        (_, Type::F16x2) if ftz => pairs::<F16, true>(path, operator),
        (_, Type::F16x2) => pairs::<F16, false>(path, operator),
        (_, Type::Bf16x2) => pairs::<Bf16, false>(path, operator),
        (Class::Float | Class::Predicate, _) => None,
        (Class::Signed, _) => match ty.bytes() {
            2 => integer::<i16>(path, operator),
            4 => integer::<i32>(path, operator),
            8 => integer::<i64>(path, operator),
            _ => None,
        },
        (Class::Unsigned | Class::Bits, _) => match ty.bytes() {
            2 => integer::<u16>(path, operator),
            4 => integer::<u32>(path, operator),
            8 => integer::<u64>(path, operator),
            _ => None,
        },
    }
}

fn integer<T: super::super::rows::Lane + PartialOrd>(
    path: Path,
    operator: &str,
) -> Option<Handler> {
    Some(match operator {
        "eq" => binary(path, |a: T, b: T| Flag(a == b)),
        "ne" => binary(path, |a: T, b: T| Flag(a != b)),
        "lt" | "lo" => binary(path, |a: T, b: T| Flag(a < b)),
        "le" | "ls" => binary(path, |a: T, b: T| Flag(a <= b)),
        "gt" | "hi" => binary(path, |a: T, b: T| Flag(a > b)),
        "ge" | "hs" => binary(path, |a: T, b: T| Flag(a >= b)),
        _ => return None,
    })
}

fn single(path: Path, operator: &str) -> Option<Handler> {
    Some(match operator {
        "eq" => binary(path, |a: f32, b: f32| Flag(a == b)),
        // Of numbers only: NaN is unequal to nothing, unless `neu` asks.
        "ne" => binary(path, |a: f32, b: f32| {
            Flag((a != b) & !(a.is_nan() | b.is_nan()))
        }),
        "lt" => binary(path, |a: f32, b: f32| Flag(a < b)),
        "le" => binary(path, |a: f32, b: f32| Flag(a <= b)),
        "gt" => binary(path, |a: f32, b: f32| Flag(a > b)),
        "ge" => binary(path, |a: f32, b: f32| Flag(a >= b)),
        "neu" => binary(path, |a: f32, b: f32| Flag(a != b)),
        _ => return float(path, operator, |a: f32| f64::from(a)),
    })
}

/// What `$handler` makes of an operator's condition. NaN makes the plain ones false, those with `u` true.
macro_rules! by_operator {
    ($operator:expr, $handler:ident) => {
        match $operator {
            "eq" => $handler!(|a, b| a == b),
            "ne" => $handler!(|a, b| a != b && !unordered(a, b)),
            "lt" => $handler!(|a, b| a < b),
            "le" => $handler!(|a, b| a <= b),
            "gt" => $handler!(|a, b| a > b),
            "ge" => $handler!(|a, b| a >= b),
            "equ" => $handler!(|a, b| a == b || unordered(a, b)),
            "neu" => $handler!(|a, b| a != b),
            "ltu" => $handler!(|a, b| a < b || unordered(a, b)),
            "leu" => $handler!(|a, b| a <= b || unordered(a, b)),
            "gtu" => $handler!(|a, b| a > b || unordered(a, b)),
            "geu" => $handler!(|a, b| a >= b || unordered(a, b)),
            "num" => $handler!(|a, b| !unordered(a, b)),
            "nan" => $handler!(|a, b| unordered(a, b)),
            _ => return None,
        }
    };
}

/// Comparisons of anything that a double holds exactly.
fn float<T: super::super::rows::Lane, F: Fn(T) -> f64 + Copy>(
    path: Path,
    operator: &str,
    widen: F,
) -> Option<Handler> {
    macro_rules! flag {
        (|$a:ident, $b:ident| $holds:expr) => {
            rare_binary(path, move |a: T, b: T| {
                let ($a, $b) = (widen(a), widen(b));
                Flag($holds)
            })
        };
    }
    Some(by_operator!(operator, flag))
}

/// Comparisons of both halves of two words: all ones in a half where it holds.
fn pairs<H: Half, const FTZ: bool>(path: Path, operator: &str) -> Option<Handler> {
    macro_rules! mask {
        (|$a:ident, $b:ident| $holds:expr) => {
            rare_binary(path, |a: u32, b: u32| {
                half::pair(a, b, |a: H, b: H| {
                    let (a, b) = match FTZ {
                        true => (half::flush(a), half::flush(b)),
                        false => (a, b),
                    };
                    let ($a, $b) = (f64::from(a.to_f32()), f64::from(b.to_f32()));
                    H::from_bits(if $holds { u16::MAX } else { 0 })
                })
            })
        };
    }
    Some(by_operator!(operator, mask))
}

#[inline(always)]
fn unordered(a: f64, b: f64) -> bool {
    a.is_nan() || b.is_nan()
}

/// The operator, the boolean that joins it with a further predicate, and the type.
fn parse<'t>(form: &mut Form<'t>) -> Result<(&'static str, Option<usize>, bool), String> {
    let index = form
        .take_one(&OPERATORS)
        .ok_or("comparison without operator")?;
    let join = form.take_one(&["and", "or", "xor"]);
    Ok((OPERATORS[index], join, form.take("ftz")))
}

/// Compares the first two sources, and joins the result with the third.
fn compared<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    (operator, join, ftz): (&str, Option<usize>, bool),
    ty: Type,
    operands: &[Operand<'t>],
    result: Row,
) -> Result<Option<(Row, Row)>, String> {
    let path = decoder.path;
    let Some(handler) = comparison(path, operator, ty, ftz) else {
        return form.refuse();
    };
    let Some(join) = join else {
        let rows = sources(decoder, &[ty, ty], operands)?;
        decoder.apply(handler, result, &rows);
        return Ok(None);
    };
    let rows = sources(decoder, &[ty, ty, Type::Pred], operands)?;
    let plain = decoder.temporary(false);
    decoder.apply(handler, plain, &rows[..2]);
    decoder.apply(joining(path, join, false), result, &[plain, rows[2]]);
    Ok(Some((plain, rows[2])))
}

/// A boolean operation on the comparison, which is negated for the second result of a pair.
fn joining(path: Path, join: usize, negated: bool) -> Handler {
    match (join, negated) {
        (0, false) => binary(path, |a: u32, b: u32| a & b),
        (1, false) => binary(path, |a: u32, b: u32| a | b),
        (_, false) => binary(path, |a: u32, b: u32| a ^ b),
        (0, true) => binary(path, |a: u32, b: u32| !a & b),
        (1, true) => binary(path, |a: u32, b: u32| !a | b),
        (_, true) => binary(path, |a: u32, b: u32| !a ^ b),
    }
}

fn set_predicate<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let parsed = parse(form)?;
    let ty = form.take_type()?;
    if operands.is_empty() {
        return form.refuse();
    }
    let Operand::Pair(first, second) = &operands[0] else {
        if is_pair(ty) {
            return form.refuse();
        }
        let d = decoder.destination(&operands[0], Type::Pred)?;
        compared(decoder, form, parsed, ty, operands, d)?;
        return Ok(());
    };
    // The destinations can be among the sources.
    let result = decoder.temporary(false);
    let joined = compared(decoder, form, parsed, ty, operands, result)?;
    let opposite = decoder.temporary(false);
    let path = decoder.path;
    match (joined, parsed.1) {
        // The results of the lower and the upper half.
        _ if is_pair(ty) => {
            decoder.apply(
                unary(path, |a: u32| Flag(a >> 16 != 0)),
                opposite,
                &[result],
            );
            decoder.apply(
                unary(path, |a: u32| Flag(a & 0xffff != 0)),
                result,
                &[result],
            );
        }
        (Some((plain, other)), Some(join)) => {
            decoder.apply(joining(path, join, true), opposite, &[plain, other])
        }
        _ => decoder.apply(unary(path, |a: u32| !a), opposite, &[result]),
    }
    for (operand, value) in [(first, result), (second, opposite)] {
        let d = decoder.destination(operand, Type::Pred)?;
        decoder.apply(unary(path, |a: u32| a), d, &[value]);
    }
    Ok(())
}

/// `set`: all ones or 1.0 where the comparison holds.
fn set<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let parsed = parse(form)?;
    let (result, ty) = (form.take_type()?, form.take_type()?);
    if operands.is_empty() {
        return form.refuse();
    }
    let path = decoder.path;
    let flag = decoder.temporary(false);
    compared(decoder, form, parsed, ty, operands, flag)?;
    let handler = match result {
        Type::U32 | Type::S32 | Type::U16 | Type::S16 => unary(path, |a: u32| a),
        Type::F16x2 => unary(path, |a: u32| a & 0x3c00_3c00),
        Type::Bf16x2 => unary(path, |a: u32| a & 0x3f80_3f80),
        Type::F32 => unary(path, |a: Flag| if a.0 { 1.0f32 } else { 0.0 }),
        Type::F16 => unary(path, |a: Flag| F16(if a.0 { 0x3c00 } else { 0 })),
        Type::Bf16 => unary(path, |a: Flag| Bf16(if a.0 { 0x3f80 } else { 0 })),
        _ => return form.refuse(),
    };
    let d = decoder.destination(&operands[0], result)?;
    decoder.apply(handler, d, &[flag]);
    Ok(())
}

/// Whether a type is two halves.
fn is_pair(ty: Type) -> bool {
    matches!(ty, Type::F16x2 | Type::Bf16x2)
}

/// `slct`: by the sign of the third source.
fn select_by_sign<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let ftz = form.take("ftz");
    let (ty, by) = (form.take_type()?, form.take_type()?);
    let path = decoder.path;
    let handler = match (ty.is_wide(), by) {
        _ if ty.bytes() < 2 || ty == Type::Pred => return form.refuse(),
        (false, Type::S32) => ternary(path, |a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (true, Type::S32) => ternary(path, |a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (false, Type::F32) if ftz => ternary(
            path,
            |a: u32, b: u32, c: f32| if flush(c) >= 0.0 { a } else { b },
        ),
        (true, Type::F32) if ftz => ternary(
            path,
            |a: u64, b: u64, c: f32| if flush(c) >= 0.0 { a } else { b },
        ),
        (false, Type::F32) => ternary(path, |a: u32, b: u32, c: f32| if c >= 0.0 { a } else { b }),
        (true, Type::F32) => ternary(path, |a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b }),
        _ => return form.refuse(),
    };
    simple(decoder, handler, ty, &[ty, ty, by], operands)
}

fn test<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let kinds = [
        "finite",
        "infinite",
        "number",
        "notanumber",
        "normal",
        "subnormal",
    ];
    let kind = form.take_one(&kinds).ok_or("testp without property")?;
    let ty = form.take_type()?;
    let path = decoder.path;
    macro_rules! property {
        ($type:ty) => {
            match kind {
                0 => rare_unary(path, |a: $type| Flag(a.is_finite())),
                1 => rare_unary(path, |a: $type| Flag(a.is_infinite())),
                2 => rare_unary(path, |a: $type| Flag(!a.is_nan())),
                3 => rare_unary(path, |a: $type| Flag(a.is_nan())),
                // PTX counts zero as normal.
                4 => rare_unary(path, |a: $type| Flag(a.is_normal() || a == 0.0)),
                _ => rare_unary(path, |a: $type| Flag(a.is_subnormal())),
            }
        };
    }
    let handler = match ty {
        Type::F32 => property!(f32),
        Type::F64 => property!(f64),
        _ => return form.refuse(),
    };
    simple(decoder, handler, Type::Pred, &[ty], operands)
}
