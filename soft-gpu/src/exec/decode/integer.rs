//! Integer arithmetic.

use crate::ptx::{Class, Operand, Type};

use super::super::op::Row;
use super::super::rows::{Flag, Handler, binary, doubled, ternary, unary};
use super::form::Form;
use super::function::FunctionDecoder;

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// One handler for the unsigned type of each width.
macro_rules! by_width {
    ($path:expr, $ty:expr, $make:ident, |$($arg:ident),+| $body:expr) => {
        match $ty.bytes() {
            2 => $make($path, |$($arg: u16),+| $body),
            4 => $make($path, |$($arg: u32),+| $body),
            _ => $make($path, |$($arg: u64),+| $body),
        }
    };
}

/// One handler for each signed and unsigned type.
macro_rules! by_sign {
    ($path:expr, $ty:expr, $make:ident, |$($arg:ident),+| $body:expr) => {
        match ($ty.class() == Class::Signed, $ty.bytes()) {
            (false, 2) => $make($path, |$($arg: u16),+| $body),
            (false, 4) => $make($path, |$($arg: u32),+| $body),
            (false, _) => $make($path, |$($arg: u64),+| $body),
            (true, 2) => $make($path, |$($arg: i16),+| $body),
            (true, 4) => $make($path, |$($arg: i32),+| $body),
            (true, _) => $make($path, |$($arg: i64),+| $body),
        }
    };
}

/// Whether `ty` is an integer type that arithmetic has.
pub(super) fn is_integer(ty: Type) -> bool {
    use Type::*;
    matches!(ty, U16 | U32 | U64 | S16 | S32 | S64)
}

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    let Some(last) = form.last_type() else {
        return Ok(false);
    };
    match form.base {
        "add" | "sub" | "addc" | "subc"
            if is_integer(last) || last == Type::B32 || last == Type::B64 =>
        {
            sum(decoder, form, operands)?;
        }
        "mul" | "mad" | "madc" | "mul24" | "mad24" if is_integer(last) => {
            product(decoder, form, operands)?
        }
        "add" | "min" | "max" if matches!(last, Type::U16x2 | Type::S16x2) => {
            pairs(decoder, form, operands)?;
        }
        // `min` and `max` of signed words can stop at zero too.
        "min" | "max" if last == Type::S32 && form.has("relu") => {
            form.take("relu");
            let ty = form.take_type()?;
            let handler = pairwise(decoder, form, ty);
            let rows = sources(decoder, &[ty, ty], operands)?;
            let (d, path) = (decoder.destination(&operands[0], ty)?, decoder.path);
            decoder.apply(handler, d, &rows);
            decoder.apply(unary(path, |a: i32| a.max(0)), d, &[d]);
        }
        "div" | "rem" | "min" | "max" if is_integer(last) => {
            let ty = form.take_type()?;
            let handler = pairwise(decoder, form, ty);
            simple(decoder, handler, ty, &[ty, ty], operands)?;
        }
        "abs" | "neg" if is_integer(last) => {
            let ty = form.take_type()?;
            let path = decoder.path;
            let handler = match (form.base, ty) {
                ("neg", _) => by_width!(path, ty, unary, |a| a.wrapping_neg()),
                (_, Type::S16) => unary(path, |a: i16| a.wrapping_abs()),
                (_, Type::S32) => unary(path, |a: i32| a.wrapping_abs()),
                (_, Type::S64) => unary(path, |a: i64| a.wrapping_abs()),
                _ => return form.refuse(),
            };
            simple(decoder, handler, ty, &[ty], operands)?;
        }
        "sad" if is_integer(last) => {
            let ty = form.take_type()?;
            let handler = sad(decoder, ty);
            simple(decoder, handler, ty, &[ty, ty, ty], operands)?;
        }
        "dp4a" | "dp2a" => dot(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The operands after the destination, which must be as many as `types`.
pub(super) fn sources<'t>(
    decoder: Decoder<'_, 't, '_>,
    types: &[Type],
    operands: &[Operand<'t>],
) -> Result<Vec<Row>, String> {
    if operands.len() != types.len() + 1 {
        return Err(format!(
            "{} operands where {} should be",
            operands.len(),
            types.len() + 1
        ));
    }
    types
        .iter()
        .zip(&operands[1..])
        .map(|(&ty, operand)| decoder.source(operand, ty))
        .collect()
}

/// `d = handler(sources)` with a destination of type `ty`.
pub(super) fn simple<'t>(
    decoder: Decoder<'_, 't, '_>,
    handler: Handler,
    ty: Type,
    types: &[Type],
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let rows = sources(decoder, types, operands)?;
    let d = decoder.destination(&operands[0], ty)?;
    decoder.apply(handler, d, &rows);
    decoder.settle(&operands[0], d, ty)
}

fn pairwise(decoder: Decoder<'_, '_, '_>, form: &Form<'_>, ty: Type) -> Handler {
    let path = decoder.path;
    match form.base {
        "min" => by_sign!(path, ty, binary, |a, b| a.min(b)),
        "max" => by_sign!(path, ty, binary, |a, b| a.max(b)),
        // Division by zero is unspecified; hardware gives all ones, and the dividend as the remainder.
        "div" => by_sign!(path, ty, binary, |a, b| if b == 0 {
            !0
        } else {
            a.wrapping_div(b)
        }),
        _ => by_sign!(path, ty, binary, |a, b| if b == 0 {
            a
        } else {
            a.wrapping_rem(b)
        }),
    }
}

fn sad(decoder: Decoder<'_, '_, '_>, ty: Type) -> Handler {
    let path = decoder.path;
    match ty {
        Type::S16 => ternary(path, |a: i16, b: i16, c: u16| c.wrapping_add(a.abs_diff(b))),
        Type::S32 => ternary(path, |a: i32, b: i32, c: u32| c.wrapping_add(a.abs_diff(b))),
        Type::S64 => ternary(path, |a: i64, b: i64, c: u64| c.wrapping_add(a.abs_diff(b))),
        _ => by_width!(path, ty, ternary, |a, b, c| c.wrapping_add(a.abs_diff(b))),
    }
}

/// `add`, `sub`, `addc`, `subc`, with and without carry out.
fn sum<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let (carry_out, saturate) = (form.take("cc"), form.take("sat"));
    let ty = form.take_type()?;
    let carry_in = form.base.ends_with('c');
    let subtract = form.base.starts_with("sub");
    if carry_out || carry_in {
        if saturate || ty.bytes() < 4 {
            return form.refuse();
        }
        let rows = sources(decoder, &[ty, ty], operands)?;
        let d = decoder.destination(&operands[0], ty)?;
        return carrying(
            decoder,
            ty,
            subtract,
            (carry_in, carry_out),
            d,
            rows[0],
            rows[1],
        );
    }
    let path = decoder.path;
    let handler = match (subtract, saturate, ty) {
        (false, false, _) => by_width!(path, ty, binary, |a, b| a.wrapping_add(b)),
        (true, false, _) => by_width!(path, ty, binary, |a, b| a.wrapping_sub(b)),
        (false, true, Type::S32) => binary(path, |a: i32, b: i32| a.saturating_add(b)),
        (true, true, Type::S32) => binary(path, |a: i32, b: i32| a.saturating_sub(b)),
        _ => return form.refuse(),
    };
    simple(decoder, handler, ty, &[ty, ty], operands)
}

/// `d = a + b + carry`, and the carry out. A difference is a sum with the complement: its carry is set where nothing was borrowed, and one that is
/// not set borrows. So compilers have it, which look at the carry of a difference with `addc` (the division of 128 bits does).
fn carrying(
    decoder: Decoder<'_, '_, '_>,
    ty: Type,
    subtract: bool,
    (carry_in, carry_out): (bool, bool),
    d: Row,
    a: Row,
    b: Row,
) -> Result<(), String> {
    let path = decoder.path;
    let flag = decoder.carry();
    let carry = if carry_in {
        flag
    } else {
        decoder.constant(if subtract { u64::MAX } else { 0 }, false)
    };
    let handler = match (subtract, ty.is_wide()) {
        (false, false) => doubled(path, |a: u32, b: u32, c: Flag| {
            let sum = u64::from(a) + u64::from(b) + u64::from(c.0);
            (sum as u32, Flag(sum >> 32 != 0))
        }),
        (true, false) => doubled(path, |a: u32, b: u32, c: Flag| {
            let sum = u64::from(a) + u64::from(!b) + u64::from(c.0);
            (sum as u32, Flag(sum >> 32 != 0))
        }),
        (false, true) => doubled(path, |a: u64, b: u64, c: Flag| {
            let (sum, first) = a.overflowing_add(b);
            let (sum, second) = sum.overflowing_add(u64::from(c.0));
            (sum, Flag(first | second))
        }),
        (true, true) => doubled(path, |a: u64, b: u64, c: Flag| {
            let (sum, first) = a.overflowing_add(!b);
            let (sum, second) = sum.overflowing_add(u64::from(c.0));
            (sum, Flag(first | second))
        }),
    };
    let out = if carry_out {
        flag
    } else {
        decoder.temporary(false)
    };
    apply_doubled(decoder, handler, d, out, &[a, b, carry]);
    Ok(())
}

/// `(d, second) = handler(sources)`
pub(super) fn apply_doubled(
    decoder: Decoder<'_, '_, '_>,
    handler: Handler,
    d: Row,
    second: Row,
    sources: &[Row],
) {
    let mut op = super::super::op::Op::new(super::super::op::Kind::Straight, handler);
    (op.d, op.a, op.b, op.c) = (d, sources[0], sources[1], sources[2]);
    op.extra[0] = second;
    op.extra_role = super::super::op::Role::Written;
    decoder.emit(op);
}

/// `mul`, `mad` and their kin, low half, high half and wide.
fn product<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let part = form
        .take_one(&["lo", "hi", "wide"])
        .ok_or("product without .lo, .hi or .wide")?;
    let (carry_out, saturate) = (form.take("cc"), form.take("sat"));
    let ty = form.take_type()?;
    let is_24 = form.base.ends_with("24");
    let saturates = form.base.starts_with("mad") && part == 1 && ty == Type::S32 && !carry_out;
    if saturate && !saturates || (is_24 && (part == 2 || ty.bytes() != 4)) {
        return form.refuse();
    }
    let result = if part == 2 { widened(ty)? } else { ty };
    if form.base.starts_with("mul") {
        let handler = multiply(decoder, part, ty, is_24);
        return simple(decoder, handler, result, &[ty, ty], operands);
    }
    if form.base == "madc" || carry_out {
        return carried_product(decoder, form, part, carry_out, ty, operands);
    }
    if let Some(handler) = multiply_add(decoder, part, ty, is_24) {
        return simple(decoder, handler, result, &[ty, ty, result], operands);
    }
    let rows = sources(decoder, &[ty, ty, result], operands)?;
    let d = decoder.destination(&operands[0], result)?;
    let product = decoder.temporary(result.is_wide());
    let handler = multiply(decoder, part, ty, is_24);
    decoder.apply(handler, product, &rows[..2]);
    let path = decoder.path;
    let add = if saturate {
        binary(path, |a: i32, b: i32| a.saturating_add(b))
    } else {
        by_width!(path, result, binary, |a, b| a.wrapping_add(b))
    };
    decoder.apply(add, d, &[product, rows[2]]);
    Ok(())
}

/// `mad.cc` and `madc`: the addition carries.
fn carried_product<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    part: usize,
    carry_out: bool,
    ty: Type,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    if part == 2 || ty.bytes() < 4 {
        return form.refuse();
    }
    let rows = sources(decoder, &[ty, ty, ty], operands)?;
    let d = decoder.destination(&operands[0], ty)?;
    let product = decoder.temporary(ty.is_wide());
    let handler = multiply(decoder, part, ty, false);
    decoder.apply(handler, product, &rows[..2]);
    carrying(
        decoder,
        ty,
        false,
        (form.base == "madc", carry_out),
        d,
        product,
        rows[2],
    )
}

/// The type of twice the width.
fn widened(ty: Type) -> Result<Type, String> {
    Ok(match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        Type::S32 => Type::S64,
        _ => return Err(format!(".wide of {ty:?}")),
    })
}

fn multiply(decoder: Decoder<'_, '_, '_>, part: usize, ty: Type, is_24: bool) -> Handler {
    use Type::*;
    let path = decoder.path;
    match (is_24, part, ty) {
        (true, 0, S32) => binary(path, |a: i32, b: i32| {
            (a << 8 >> 8).wrapping_mul(b << 8 >> 8)
        }),
        (true, 0, _) => binary(path, |a: u32, b: u32| {
            (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff)
        }),
        (true, _, S32) => binary(path, |a: i32, b: i32| {
            ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> 16) as i32
        }),
        (true, ..) => binary(path, |a: u32, b: u32| {
            ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32
        }),
        (_, 0, _) => by_width!(path, ty, binary, |a, b| a.wrapping_mul(b)),
        (_, 1, U16) => binary(path, |a: u16, b: u16| {
            ((u32::from(a) * u32::from(b)) >> 16) as u16
        }),
        (_, 1, S16) => binary(path, |a: i16, b: i16| {
            ((i32::from(a) * i32::from(b)) >> 16) as i16
        }),
        (_, 1, U32) => binary(path, |a: u32, b: u32| {
            ((u64::from(a) * u64::from(b)) >> 32) as u32
        }),
        (_, 1, S32) => binary(path, |a: i32, b: i32| {
            ((i64::from(a) * i64::from(b)) >> 32) as i32
        }),
        (_, 1, S64) => binary(path, |a: i64, b: i64| {
            ((i128::from(a) * i128::from(b)) >> 64) as i64
        }),
        (_, 1, _) => binary(path, |a: u64, b: u64| {
            ((u128::from(a) * u128::from(b)) >> 64) as u64
        }),
        (_, _, U16) => binary(path, |a: u16, b: u16| u32::from(a) * u32::from(b)),
        (_, _, S16) => binary(path, |a: i16, b: i16| i32::from(a) * i32::from(b)),
        (_, _, S32) => binary(path, |a: i32, b: i32| i64::from(a) * i64::from(b)),
        _ => binary(path, |a: u32, b: u32| u64::from(a) * u64::from(b)),
    }
}

/// The common fused forms.
fn multiply_add(
    decoder: Decoder<'_, '_, '_>,
    part: usize,
    ty: Type,
    is_24: bool,
) -> Option<Handler> {
    use Type::*;
    let path = decoder.path;
    Some(match (is_24, part, ty) {
        (false, 0, _) => by_width!(path, ty, ternary, |a, b, c| a
            .wrapping_mul(b)
            .wrapping_add(c)),
        (false, 2, S32) => ternary(path, |a: i32, b: i32, c: i64| {
            (i64::from(a) * i64::from(b)).wrapping_add(c)
        }),
        (false, 2, U32) => ternary(path, |a: u32, b: u32, c: u64| {
            (u64::from(a) * u64::from(b)).wrapping_add(c)
        }),
        _ => return None,
    })
}

/// `dp4a` and `dp2a`
fn dot<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let half = form.take_one(&["lo", "hi"]);
    let (a_type, b_type) = (form.take_type()?, form.take_type()?);
    let path = decoder.path;
    let signed = |ty: Type| ty == Type::S32;
    let result = if signed(a_type) || signed(b_type) {
        Type::S32
    } else {
        Type::U32
    };
    macro_rules! by_signs {
        ($function:ident $(, $first:literal)?) => {
            match (signed(a_type), signed(b_type)) {
                (false, false) => ternary(path, |a: u32, b: u32, c: u32| $function::<false, false>(a, b $(>> $first)?, c)),
                (false, true) => ternary(path, |a: u32, b: u32, c: u32| $function::<false, true>(a, b $(>> $first)?, c)),
                (true, false) => ternary(path, |a: u32, b: u32, c: u32| $function::<true, false>(a, b $(>> $first)?, c)),
                (true, true) => ternary(path, |a: u32, b: u32, c: u32| $function::<true, true>(a, b $(>> $first)?, c)),
            }
        };
    }
    let handler = match (form.base, half) {
        ("dp4a", None) => by_signs!(dot4),
        ("dp2a", Some(0)) => by_signs!(dot2),
        ("dp2a", Some(_)) => by_signs!(dot2, 16),
        _ => return form.refuse(),
    };
    simple(
        decoder,
        handler,
        result,
        &[a_type, b_type, result],
        operands,
    )
}

#[inline(always)]
fn dot4<const A: bool, const B: bool>(a: u32, b: u32, c: u32) -> u32 {
    let byte = |word: u32, index: u32, signed: bool| {
        let byte = (word >> (8 * index)) as u8;
        if signed {
            i32::from(byte as i8)
        } else {
            i32::from(byte)
        }
    };
    (0..4).fold(c, |sum, index| {
        sum.wrapping_add(byte(a, index, A).wrapping_mul(byte(b, index, B)) as u32)
    })
}

/// The halves of `a` by the two low bytes of `b`.
#[inline(always)]
fn dot2<const A: bool, const B: bool>(a: u32, b: u32, c: u32) -> u32 {
    (0..2).fold(c, |sum, index| {
        let (half, byte) = ((a >> (16 * index)) as u16, (b >> (8 * index)) as u8);
        let half = if A {
            i32::from(half as i16)
        } else {
            i32::from(half)
        };
        let byte = if B {
            i32::from(byte as i8)
        } else {
            i32::from(byte)
        };
        sum.wrapping_add(half.wrapping_mul(byte) as u32)
    })
}

/// Applies `function` to both halves of two words.
#[inline(always)]
fn halfwise(a: u32, b: u32, function: impl Fn(u16, u16) -> u16) -> u32 {
    let high = function((a >> 16) as u16, (b >> 16) as u16);
    u32::from(function(a as u16, b as u16)) | u32::from(high) << 16
}

/// `add`, `min` and `max` of packed pairs of 16-bit integers.
fn pairs<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let relu = form.take("relu");
    let ty = form.take_type()?;
    let path = decoder.path;
    let handler = match (form.base, ty, relu) {
        ("add", _, false) => binary(path, |a: u32, b: u32| halfwise(a, b, u16::wrapping_add)),
        ("min", Type::U16x2, false) => binary(path, |a: u32, b: u32| halfwise(a, b, u16::min)),
        ("max", Type::U16x2, false) => binary(path, |a: u32, b: u32| halfwise(a, b, u16::max)),
        ("min", Type::S16x2, false) => binary(path, |a: u32, b: u32| {
            halfwise(a, b, |a, b| (a as i16).min(b as i16) as u16)
        }),
        ("max", Type::S16x2, false) => binary(path, |a: u32, b: u32| {
            halfwise(a, b, |a, b| (a as i16).max(b as i16) as u16)
        }),
        ("min", Type::S16x2, true) => binary(path, |a: u32, b: u32| {
            halfwise(a, b, |a, b| (a as i16).min(b as i16).max(0) as u16)
        }),
        ("max", Type::S16x2, true) => binary(path, |a: u32, b: u32| {
            halfwise(a, b, |a, b| (a as i16).max(b as i16).max(0) as u16)
        }),
        _ => return form.refuse(),
    };
    simple(decoder, handler, ty, &[ty, ty], operands)
}
