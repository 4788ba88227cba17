//! `mov`, `cvt`, and packing.

use crate::ptx::{Class, Operand, Type};

use super::super::half::{self, Bf16, F16, Half};
use super::super::math::{self, flush};
use super::super::op::{Kind, Op, Row};
use super::super::path::Path;
use super::super::rows::{
    Handler, Lane, binary, rare_binary, rare_quaternary, rare_ternary, rare_unary, unary,
};
use super::form::Form;
use super::function::FunctionDecoder;
use super::integer::{simple, sources};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "mov" => transport(decoder, form, operands)?,
        "cvt" => convert(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Adds a copy, which vanishes where the source never changes.
pub(super) fn copy(decoder: Decoder<'_, '_, '_>, wide: bool, d: Row, source: Row) {
    let path = decoder.path;
    let handler = if wide {
        unary(path, |a: u64| a)
    } else {
        unary(path, |a: u32| a)
    };
    let mut op = Op::new(Kind::Copy, handler);
    (op.d, op.a) = (d, source);
    decoder.emit(op);
}

fn transport<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let ty = form.take_type()?;
    let [d, source] = operands else {
        return form.refuse();
    };
    match (d, source) {
        (_, Operand::Vector(parts)) => pack(decoder, form, ty, d, parts),
        (Operand::Vector(parts), _) => unpack(decoder, form, ty, parts, source),
        _ => {
            let row = decoder.source(source, ty)?;
            let d = decoder.destination(d, ty)?;
            copy(decoder, ty.is_wide(), d, row);
            Ok(())
        }
    }
}

/// `mov.b32 %r, {%h0, %h1}` and the like.
fn pack<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    ty: Type,
    d: &Operand<'t>,
    parts: &[Operand<'t>],
) -> Result<(), String> {
    let path = decoder.path;
    let d = decoder.destination(d, ty)?;
    let element = part_type(ty, parts.len())
        .ok_or(())
        .or_else(|()| form.refuse())?;
    let mut rows = Vec::new();
    for part in parts {
        rows.push(decoder.source(part, element)?);
    }
    match (ty.bytes(), parts.len()) {
        (4, 2) => decoder.apply(
            binary(path, |a: u16, b: u16| u32::from(a) | u32::from(b) << 16),
            d,
            &rows,
        ),
        (8, 2) => decoder.apply(
            binary(path, |a: u32, b: u32| u64::from(a) | u64::from(b) << 32),
            d,
            &rows,
        ),
        (4, 4) => decoder.apply(
            rare_quaternary(path, |a: u8, b: u8, c: u8, e: u8| {
                u32::from_le_bytes([a, b, c, e])
            }),
            d,
            &rows,
        ),
        _ => decoder.apply(
            rare_quaternary(path, |a: u16, b: u16, c: u16, e: u16| {
                u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(e) << 48
            }),
            d,
            &rows,
        ),
    }
    Ok(())
}

/// The type of one of `count` parts of `ty`.
fn part_type(ty: Type, count: usize) -> Option<Type> {
    Some(match (ty.bytes(), count) {
        (4, 4) => Type::B8,
        (4, 2) | (8, 4) => Type::B16,
        (8, 2) => Type::B32,
        _ => return None,
    })
}

fn unpack<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    ty: Type,
    parts: &[Operand<'t>],
    source: &Operand<'t>,
) -> Result<(), String> {
    let path = decoder.path;
    let element = part_type(ty, parts.len())
        .ok_or(())
        .or_else(|()| form.refuse())?;
    let row = decoder.source(source, ty)?;
    // The source can be among the destinations.
    let mut values = Vec::new();
    for index in 0..parts.len() as u64 {
        let value = decoder.temporary(false);
        let amount = decoder.constant(index * u64::from(element.bytes()) * 8, false);
        let handler = match (ty.is_wide(), element) {
            (false, Type::B8) => binary(path, |a: u32, b: u32| a >> (b & 31) & 0xff),
            (false, _) => binary(path, |a: u32, b: u32| a >> (b & 31) & 0xffff),
            (true, Type::B16) => binary(path, |a: u64, b: u32| (a >> (b & 63)) as u32 & 0xffff),
            (true, _) => binary(path, |a: u64, b: u32| (a >> (b & 63)) as u32),
        };
        decoder.apply(handler, value, &[row, amount]);
        values.push(value);
    }
    for (part, value) in parts.iter().zip(values) {
        let d = decoder.destination(part, element)?;
        copy(decoder, false, d, value);
        decoder.settle(part, d, element)?;
    }
    Ok(())
}

/// How `cvt` rounds: 0 nearest, 1 to zero, 2 down, 3 up; for floats, or to integers (`i`).
#[derive(Clone, Copy)]
struct Rounding {
    direction: usize,
    to_integer: bool,
}

fn convert<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    if form.take("pack") {
        return pack_saturated(decoder, form, operands);
    }
    let to_integer = form.take_one(&["rni", "rzi", "rmi", "rpi"]);
    let plain = form.take_one(&["rn", "rz", "rm", "rp"]);
    let rna = form.take("rna");
    let rounding = Rounding {
        direction: to_integer.or(plain).unwrap_or(0),
        to_integer: to_integer.is_some(),
    };
    let (ftz, saturate, relu) = (form.take("ftz"), form.take("sat"), form.take("relu"));
    let is_finite = form.take("satfinite");
    let (to, from) = (form.take_type()?, form.take_type()?);
    let path = decoder.path;
    if matches!(to, Type::F16x2 | Type::Bf16x2) {
        let limits = (saturate, relu, is_finite);
        return convert_pair(decoder, form, to, rounding, limits, operands);
    }
    if relu && !(matches!(to, Type::F16 | Type::Bf16) && from == Type::F32) {
        return form.refuse();
    }
    if to == Type::Tf32 {
        if !rna && plain.is_none() || saturate {
            return form.refuse();
        }
        // To ten bits of mantissa.
        let handler = if rna {
            unary(path, |a: u32| {
                if a & 0x7f80_0000 == 0x7f80_0000 {
                    a
                } else {
                    a.wrapping_add(0x1000) & !0x1fff
                }
            })
        } else if plain == Some(0) {
            unary(path, |a: u32| {
                if a & 0x7f80_0000 == 0x7f80_0000 {
                    a
                } else {
                    a.wrapping_add(0x0fff + (a >> 13 & 1)) & !0x1fff
                }
            })
        } else {
            return form.refuse();
        };
        let rows = limited_sources(decoder, to, is_finite, &[Type::F32], operands)?;
        let d = decoder.destination(&operands[0], Type::B32)?;
        decoder.apply(handler, d, &rows);
        return decoder.settle(&operands[0], d, Type::B32);
    }
    if rna {
        return form.refuse();
    }
    let is_float = |ty: Type| ty.class() == Class::Float;
    let handler = match (is_float(from), is_float(to)) {
        (false, false) => between_integers(path, to, from, saturate),
        (false, true) => to_float(path, to, from, rounding),
        (true, false) => to_integer_from(path, to, from, rounding, ftz),
        (true, true) => between_floats(path, to, from, rounding, ftz),
    };
    let Some(handler) = handler else {
        return form.refuse();
    };
    let rows = limited_sources(decoder, to, is_finite, &[from], operands)?;
    let d = decoder.destination(&operands[0], to)?;
    decoder.apply(handler, d, &rows);
    if relu {
        let positive = if to == Type::F16 {
            rare_unary(path, |a: F16| half::relu(a))
        } else {
            rare_unary(path, |a: Bf16| half::relu(a))
        };
        decoder.apply(positive, d, &[d]);
    }
    if saturate && is_float(to) {
        super::float::saturate(decoder, to, d)
            .ok_or(())
            .or_else(|()| form.refuse())?;
    }
    decoder.settle(&operands[0], d, to)
}

/// `cvt.pack.sat`: two integers narrowed into the low bits, before them what the third source has there.
fn pack_saturated<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take("sat");
    let to = form.take_one(&["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"]);
    let from = form.take_type()?;
    let (is_pair, path) = (matches!(to, Some(0 | 1)), decoder.path);
    if from != Type::S32 || is_pair == form.take("b32") {
        return form.refuse();
    }
    if is_pair {
        let handler = match to {
            Some(0) => rare_binary(path, |a: i32, b: i32| packed::<16, false>(a, b, 0)),
            _ => rare_binary(path, |a: i32, b: i32| packed::<16, true>(a, b, 0)),
        };
        return simple(decoder, handler, Type::B32, &[from, from], operands);
    }
    macro_rules! narrowed {
        ($bits:literal, $signed:literal) => {
            rare_ternary(path, |a: i32, b: i32, c: u32| {
                packed::<$bits, $signed>(a, b, c)
            })
        };
    }
    let handler = match to {
        Some(2) => narrowed!(8, false),
        Some(3) => narrowed!(8, true),
        Some(4) => narrowed!(4, false),
        Some(5) => narrowed!(4, true),
        Some(6) => narrowed!(2, false),
        Some(7) => narrowed!(2, true),
        _ => return form.refuse(),
    };
    simple(
        decoder,
        handler,
        Type::B32,
        &[from, from, Type::B32],
        operands,
    )
}

/// `c`, `a` and `b` from the highest bits down, the latter two as saturated integers of `BITS` bits.
#[inline(always)]
fn packed<const BITS: u32, const SIGNED: bool>(a: i32, b: i32, c: u32) -> u32 {
    let narrow = |value: i32| {
        let (low, high) = match SIGNED {
            true => (-(1 << (BITS - 1)), (1 << (BITS - 1)) - 1),
            false => (0, (1 << BITS) - 1),
        };
        value.clamp(low, high) as u32 & ((1 << BITS) - 1)
    };
    c.checked_shl(2 * BITS).unwrap_or(0) | narrow(a) << BITS | narrow(b)
}

/// An integer lane that can stand for any other.
trait Whole: Lane {
    fn widen(self) -> i128;
    fn low(self) -> u64;
    fn from_low(bits: u64) -> Self;
    fn clamp_from(value: i128) -> Self;
}

macro_rules! whole {
    ($($type:ty),*) => { $(
        impl Whole for $type {
            #[inline(always)]
            fn widen(self) -> i128 {
                self as i128
            }
            #[inline(always)]
            fn low(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn from_low(bits: u64) -> $type {
                bits as $type
            }
            #[inline(always)]
            fn clamp_from(value: i128) -> $type {
                value.clamp(<$type>::MIN as i128, <$type>::MAX as i128) as $type
            }
        }
    )* };
}
whole!(u8, i8, u16, i16, u32, i32, u64, i64);

/// Calls `$function::<T>` with the lane type of an integer type.
macro_rules! for_whole {
    ($ty:expr, $function:ident $(::<$other:ty>)? ($($argument:expr),*)) => {
        match ($ty.class() == Class::Signed, $ty.bytes()) {
            (false, 1) => $function::<u8 $(, $other)?>($($argument),*),
            (false, 2) => $function::<u16 $(, $other)?>($($argument),*),
            (false, 4) => $function::<u32 $(, $other)?>($($argument),*),
            (false, 8) => $function::<u64 $(, $other)?>($($argument),*),
            (true, 1) => $function::<i8 $(, $other)?>($($argument),*),
            (true, 2) => $function::<i16 $(, $other)?>($($argument),*),
            (true, 4) => $function::<i32 $(, $other)?>($($argument),*),
            (true, 8) => $function::<i64 $(, $other)?>($($argument),*),
            _ => None,
        }
    };
}

fn between_integers(path: Path, to: Type, from: Type, saturate: bool) -> Option<Handler> {
    if to == Type::Pred || from == Type::Pred {
        return None;
    }
    for_whole!(from, integers_from(path, to, saturate))
}

fn integers_from<F: Whole>(path: Path, to: Type, saturate: bool) -> Option<Handler> {
    for_whole!(to, integers_to::<F>(path, saturate))
}

fn integers_to<T: Whole, F: Whole>(path: Path, saturate: bool) -> Option<Handler> {
    Some(if saturate {
        rare_unary(path, |a: F| T::clamp_from(a.widen()))
    } else {
        unary(path, |a: F| T::from_low(a.low()))
    })
}

fn to_float(path: Path, to: Type, from: Type, rounding: Rounding) -> Option<Handler> {
    if rounding.to_integer {
        return None;
    }
    macro_rules! from_integer {
        ($($variant:ident $type:ty),*) => {
            match (to, from, rounding.direction) {
                $(
                    (Type::F32, Type::$variant, 0) => unary(path, |a: $type| a as f32),
                    (Type::F32, Type::$variant, 1) => rare_unary(path, |a: $type| integer_to_single::<0>(i128::from(a))),
                    (Type::F32, Type::$variant, 2) => rare_unary(path, |a: $type| integer_to_single::<1>(i128::from(a))),
                    (Type::F32, Type::$variant, _) => rare_unary(path, |a: $type| integer_to_single::<2>(i128::from(a))),
                    (Type::F64, Type::$variant, 0) => unary(path, |a: $type| a as f64),
                    (Type::F64, Type::$variant, 1) => rare_unary(path, |a: $type| integer_to_double::<0>(i128::from(a))),
                    (Type::F64, Type::$variant, 2) => rare_unary(path, |a: $type| integer_to_double::<1>(i128::from(a))),
                    (Type::F64, Type::$variant, _) => rare_unary(path, |a: $type| integer_to_double::<2>(i128::from(a))),
                    (Type::F16, Type::$variant, 0) => rare_unary(path, |a: $type| F16::nearest(integer_to_odd(i128::from(a)))),
                    (Type::F16, Type::$variant, 1) => rare_unary(path, |a: $type| half::narrow::<F16, 0>(integer_to_odd(i128::from(a)).into())),
                    (Type::F16, Type::$variant, 2) => rare_unary(path, |a: $type| half::narrow::<F16, 1>(integer_to_odd(i128::from(a)).into())),
                    (Type::F16, Type::$variant, _) => rare_unary(path, |a: $type| half::narrow::<F16, 2>(integer_to_odd(i128::from(a)).into())),
                    (Type::Bf16, Type::$variant, 0) => rare_unary(path, |a: $type| Bf16::nearest(integer_to_odd(i128::from(a)))),
                    (Type::Bf16, Type::$variant, 1) => rare_unary(path, |a: $type| half::narrow::<Bf16, 0>(integer_to_odd(i128::from(a)).into())),
                    (Type::Bf16, Type::$variant, 2) => rare_unary(path, |a: $type| half::narrow::<Bf16, 1>(integer_to_odd(i128::from(a)).into())),
                    (Type::Bf16, Type::$variant, _) => rare_unary(path, |a: $type| half::narrow::<Bf16, 2>(integer_to_odd(i128::from(a)).into())),
                )*
                _ => return None,
            }
        };
    }
    Some(from_integer!(U8 u8, S8 i8, U16 u16, S16 i16, U32 u32, S32 i32, U64 u64, S64 i64))
}

/// Rounds in direction `D` (0 zero, 1 down, 2 up).
#[inline(always)]
fn integer_to_single<const D: u8>(value: i128) -> f32 {
    let nearest = value as f32;
    let back = nearest as i128;
    match D {
        0 if back.abs() > value.abs() => f32::from_bits(nearest.to_bits() - 1),
        1 if back > value => nearest.next_down(),
        2 if back < value => nearest.next_up(),
        _ => nearest,
    }
}

/// [`integer_to_single`] for doubles.
#[inline(always)]
fn integer_to_double<const D: u8>(value: i128) -> f64 {
    let nearest = value as f64;
    let back = nearest as i128;
    match D {
        0 if back.abs() > value.abs() => f64::from_bits(nearest.to_bits() - 1),
        1 if back > value => nearest.next_down(),
        2 if back < value => nearest.next_up(),
        _ => nearest,
    }
}

/// To a single that a rounding to fewer bits cannot tell from the integer.
#[inline(always)]
fn integer_to_odd(value: i128) -> f32 {
    let truncated = integer_to_single::<0>(value);
    if truncated as i128 == value {
        truncated
    } else {
        f32::from_bits(truncated.to_bits() | 1)
    }
}

#[inline(always)]
fn round_single<const R: u8>(value: f32) -> f32 {
    match R {
        0 => value.round_ties_even(),
        1 => value.trunc(),
        2 => value.floor(),
        _ => value.ceil(),
    }
}

#[inline(always)]
fn round_double<const R: u8>(value: f64) -> f64 {
    match R {
        0 => value.round_ties_even(),
        1 => value.trunc(),
        2 => value.floor(),
        _ => value.ceil(),
    }
}

/// Rust's `as` saturates and turns NaN into zero, as PTX does.
fn to_integer_from(
    path: Path,
    to: Type,
    from: Type,
    rounding: Rounding,
    ftz: bool,
) -> Option<Handler> {
    if !rounding.to_integer {
        return None;
    }
    // A flushed subnormal matters only where it would be rounded away from zero.
    let flushed = ftz && from == Type::F32 && rounding.direction >= 2;
    macro_rules! rounded {
        ($make:ident, $source:ty, $type:ty, $round:ident, |$a:ident| $value:expr) => {
            match rounding.direction {
                0 => $make(path, |$a: $source| $round::<0>($value) as $type),
                1 => $make(path, |$a: $source| $round::<1>($value) as $type),
                2 => $make(path, |$a: $source| $round::<2>($value) as $type),
                _ => $make(path, |$a: $source| $round::<3>($value) as $type),
            }
        };
    }
    macro_rules! to_each {
        ($($variant:ident $type:ty),*) => {
            match (from, to, flushed) {
                $(
                    (Type::F32, Type::$variant, false) => rounded!(unary, f32, $type, round_single, |a| a),
                    (Type::F32, Type::$variant, true) => rounded!(rare_unary, f32, $type, round_single, |a| flush(a)),
                    (Type::F64, Type::$variant, _) => rounded!(rare_unary, f64, $type, round_double, |a| a),
                    (Type::F16, Type::$variant, _) => rounded!(rare_unary, F16, $type, round_single, |a| a.to_f32()),
                    (Type::Bf16, Type::$variant, _) => rounded!(rare_unary, Bf16, $type, round_single, |a| a.to_f32()),
                )*
                _ => return None,
            }
        };
    }
    Some(to_each!(U8 u8, S8 i8, U16 u16, S16 i16, U32 u32, S32 i32, U64 u64, S64 i64))
}

fn between_floats(
    path: Path,
    to: Type,
    from: Type,
    rounding: Rounding,
    ftz: bool,
) -> Option<Handler> {
    if rounding.to_integer {
        return whole_floats(path, to, from, rounding.direction, ftz);
    }
    macro_rules! narrowed {
        ($half:ident, $source:ty, |$a:ident| $value:expr) => {
            match rounding.direction {
                0 => rare_unary(path, |$a: $source| {
                    $half::nearest(half::round_to_odd($value))
                }),
                1 => rare_unary(path, |$a: $source| half::narrow::<$half, 0>($value)),
                2 => rare_unary(path, |$a: $source| half::narrow::<$half, 1>($value)),
                _ => rare_unary(path, |$a: $source| half::narrow::<$half, 2>($value)),
            }
        };
    }
    if ftz {
        return Some(match (to, from, rounding.direction) {
            (Type::F32, Type::F32, 0) => unary(path, |a: f32| flush(a)),
            (Type::F64, Type::F32, 0) => unary(path, |a: f32| f64::from(flush(a))),
            (Type::F32, Type::F64, 0) => unary(path, |a: f64| flush(a as f32)),
            (Type::F32, Type::F64, 1) => rare_unary(path, |a: f64| flush(math::narrow::<0>(a))),
            (Type::F32, Type::F64, 2) => rare_unary(path, |a: f64| flush(math::narrow::<1>(a))),
            (Type::F32, Type::F64, _) => rare_unary(path, |a: f64| flush(math::narrow::<2>(a))),
            (Type::F16, Type::F32, 0) => unary(path, |a: f32| F16::nearest(flush(a))),
            (Type::F16, Type::F32, _) => narrowed!(F16, f32, |a| f64::from(flush(a))),
            (Type::Bf16, Type::F32, 0) => unary(path, |a: f32| Bf16::nearest(flush(a))),
            (Type::Bf16, Type::F32, _) => narrowed!(Bf16, f32, |a| f64::from(flush(a))),
            (Type::F32, Type::F16, 0) => unary(path, |a: F16| a.to_f32()),
            (Type::F32, Type::Bf16, 0) => unary(path, |a: Bf16| flush(a.to_f32())),
            _ => return None,
        });
    }
    Some(match (to, from, rounding.direction) {
        (Type::F32, Type::F32, 0) => unary(path, |a: f32| a),
        (Type::F64, Type::F64, 0) => unary(path, |a: f64| a),
        (Type::F16, Type::F16, 0) | (Type::Bf16, Type::Bf16, 0) => unary(path, |a: u16| a),
        (Type::F64, Type::F32, 0) => unary(path, |a: f32| f64::from(a)),
        (Type::F32, Type::F64, 0) => unary(path, |a: f64| a as f32),
        (Type::F32, Type::F64, 1) => rare_unary(path, |a: f64| math::narrow::<0>(a)),
        (Type::F32, Type::F64, 2) => rare_unary(path, |a: f64| math::narrow::<1>(a)),
        (Type::F32, Type::F64, _) => rare_unary(path, |a: f64| math::narrow::<2>(a)),
        (Type::F32, Type::F16, 0) => unary(path, |a: F16| a.to_f32()),
        (Type::F32, Type::Bf16, 0) => unary(path, |a: Bf16| a.to_f32()),
        (Type::F64, Type::F16, 0) => unary(path, |a: F16| f64::from(a.to_f32())),
        (Type::F64, Type::Bf16, 0) => unary(path, |a: Bf16| f64::from(a.to_f32())),
        (Type::F16, Type::F32, 0) => unary(path, |a: f32| F16::nearest(a)),
        (Type::F16, Type::F32, _) => narrowed!(F16, f32, |a| f64::from(a)),
        (Type::Bf16, Type::F32, 0) => unary(path, |a: f32| Bf16::nearest(a)),
        (Type::Bf16, Type::F32, _) => narrowed!(Bf16, f32, |a| f64::from(a)),
        (Type::F16, Type::F64, _) => narrowed!(F16, f64, |a| a),
        (Type::Bf16, Type::F64, _) => narrowed!(Bf16, f64, |a| a),
        (Type::Bf16, Type::F16, 0) => unary(path, |a: F16| Bf16::nearest(a.to_f32())),
        (Type::F16, Type::Bf16, 0) => unary(path, |a: Bf16| F16::nearest(a.to_f32())),
        (Type::Bf16, Type::F16, _) => narrowed!(Bf16, F16, |a| f64::from(a.to_f32())),
        (Type::F16, Type::Bf16, _) => narrowed!(F16, Bf16, |a| f64::from(a.to_f32())),
        _ => return None,
    })
}

/// Rounds to a whole number of the same type.
fn whole_floats(path: Path, to: Type, from: Type, direction: usize, ftz: bool) -> Option<Handler> {
    Some(match (to, from, direction) {
        (Type::F32, Type::F32, 0) => unary(path, |a: f32| a.round_ties_even()),
        (Type::F32, Type::F32, 1) => unary(path, |a: f32| a.trunc()),
        (Type::F32, Type::F32, 2) if ftz => unary(path, |a: f32| flush(a).floor()),
        (Type::F32, Type::F32, 2) => unary(path, |a: f32| a.floor()),
        (Type::F32, Type::F32, _) if ftz => unary(path, |a: f32| flush(a).ceil()),
        (Type::F32, Type::F32, _) => unary(path, |a: f32| a.ceil()),
        (Type::F64, Type::F64, 0) => unary(path, |a: f64| a.round_ties_even()),
        (Type::F64, Type::F64, 1) => unary(path, |a: f64| a.trunc()),
        (Type::F64, Type::F64, 2) => unary(path, |a: f64| a.floor()),
        (Type::F64, Type::F64, _) => unary(path, |a: f64| a.ceil()),
        (Type::F16, Type::F16, 0) => {
            rare_unary(path, |a: F16| F16::nearest(a.to_f32().round_ties_even()))
        }
        (Type::F16, Type::F16, 1) => rare_unary(path, |a: F16| F16::nearest(a.to_f32().trunc())),
        (Type::F16, Type::F16, 2) => rare_unary(path, |a: F16| F16::nearest(a.to_f32().floor())),
        (Type::F16, Type::F16, _) => rare_unary(path, |a: F16| F16::nearest(a.to_f32().ceil())),
        (Type::Bf16, Type::Bf16, 0) => {
            rare_unary(path, |a: Bf16| Bf16::nearest(a.to_f32().round_ties_even()))
        }
        (Type::Bf16, Type::Bf16, 1) => {
            rare_unary(path, |a: Bf16| Bf16::nearest(a.to_f32().trunc()))
        }
        (Type::Bf16, Type::Bf16, 2) => {
            rare_unary(path, |a: Bf16| Bf16::nearest(a.to_f32().floor()))
        }
        (Type::Bf16, Type::Bf16, _) => rare_unary(path, |a: Bf16| Bf16::nearest(a.to_f32().ceil())),
        _ => return None,
    })
}

/// `cvt.rn.f16x2.f32 d, a, b`: `a` in the upper half.
fn convert_pair<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    to: Type,
    rounding: Rounding,
    (saturate, relu, is_finite): (bool, bool, bool),
    operands: &[Operand<'t>],
) -> Result<(), String> {
    if rounding.direction > 1
        || rounding.to_integer
        || operands.len() != 3
        || form.last_type() != Some(Type::F32)
        || saturate && relu
    {
        return form.refuse();
    }
    let path = decoder.path;
    macro_rules! both {
        ($half:ident) => {
            match (rounding.direction, saturate, relu) {
                (0, false, false) => binary(path, |a: f32, b: f32| {
                    half::pack($half::nearest(a), $half::nearest(b))
                }),
                (0, true, _) => rare_binary(path, |a: f32, b: f32| {
                    half::pack($half::nearest(clamp(a)), $half::nearest(clamp(b)))
                }),
                (0, ..) => rare_binary(path, |a: f32, b: f32| {
                    half::pack(half::relu($half::nearest(a)), half::relu($half::nearest(b)))
                }),
                (_, false, false) => rare_binary(path, |a: f32, b: f32| {
                    half::pack(
                        half::narrow::<$half, 0>(a.into()),
                        half::narrow::<$half, 0>(b.into()),
                    )
                }),
                (_, true, _) => rare_binary(path, |a: f32, b: f32| {
                    let narrow = |value: f32| half::narrow::<$half, 0>(clamp(value).into());
                    half::pack(narrow(a), narrow(b))
                }),
                _ => rare_binary(path, |a: f32, b: f32| {
                    let narrow = |value: f32| half::relu(half::narrow::<$half, 0>(value.into()));
                    half::pack(narrow(a), narrow(b))
                }),
            }
        };
    }
    let handler = if to == Type::F16x2 {
        both!(F16)
    } else {
        both!(Bf16)
    };
    let rows = limited_sources(decoder, to, is_finite, &[Type::F32, Type::F32], operands)?;
    let d = decoder.destination(&operands[0], to)?;
    decoder.apply(handler, d, &rows);
    decoder.settle(&operands[0], d, to)
}

/// The sources of a conversion. With `.satfinite`, singles beyond the greatest finite number of the format are that number before they are converted; NaN stays.
fn limited_sources<'t>(
    decoder: Decoder<'_, 't, '_>,
    to: Type,
    is_finite: bool,
    types: &[Type],
    operands: &[Operand<'t>],
) -> Result<Vec<Row>, String> {
    const HALF: f32 = 65_504.0;
    const BRAIN: f32 = f32::from_bits(0x7f7f_0000);
    const TENSOR: f32 = f32::from_bits(0x7f7f_e000);
    let path = decoder.path;
    let mut rows = sources(decoder, types, operands)?;
    for row in rows.iter_mut().filter(|_| is_finite) {
        let handler = match to {
            Type::F16 | Type::F16x2 => rare_unary(path, |a: f32| a.clamp(-HALF, HALF)),
            Type::Tf32 => rare_unary(path, |a: f32| a.clamp(-TENSOR, TENSOR)),
            _ => rare_unary(path, |a: f32| a.clamp(-BRAIN, BRAIN)),
        };
        let finite = decoder.temporary(false);
        decoder.apply(handler, finite, &[*row]);
        *row = finite;
    }
    Ok(rows)
}

/// To [0, 1]; NaN becomes 0.
#[inline(always)]
fn clamp(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}
