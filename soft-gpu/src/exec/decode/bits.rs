//! Logic, shifts, bit fields and bytes; also `mov`-free selection (`selp`).

use crate::ptx::{Class, Operand, Type};

use super::super::rows::{Flag, binary, quaternary, rare_ternary, ternary, unary};
use super::form::Form;
use super::function::FunctionDecoder;
use super::integer::{is_integer, simple, sources};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

fn is_bits(ty: Type) -> bool {
    use Type::*;
    matches!(ty, B16 | B32 | B64)
}

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "and" | "or" | "xor" | "not" | "cnot" => logic(decoder, form, operands)?,
        "shl" | "shr" => shift(decoder, form, operands)?,
        "shf" => funnel(decoder, form, operands)?,
        "popc" | "clz" | "brev" | "bfind" => count(decoder, form, operands)?,
        "bfe" | "bfi" | "bmsk" => field(decoder, form, operands)?,
        "lop3" => lop3(decoder, form, operands)?,
        "prmt" => permute(decoder, form, operands)?,
        "selp" => select(decoder, form, operands)?,
        "szext" => extend(decoder, form, operands)?,
        "fns" => {
            let ty = form.take_type()?;
            if ty != Type::B32 {
                return form.refuse();
            }
            let handler = rare_ternary(decoder.path, |a: u32, b: u32, c: i32| nth_set(a, b, c));
            simple(decoder, handler, ty, &[ty, Type::B32, Type::S32], operands)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn logic<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let ty = form.take_type()?;
    if ty != Type::Pred && !is_bits(ty) {
        return form.refuse();
    }
    // All bits of a predicate's lane are equal, so that it is logic on 32 bits.
    let path = decoder.path;
    let handler = match (form.base, ty.is_wide()) {
        ("and", false) => binary(path, |a: u32, b: u32| a & b),
        ("and", true) => binary(path, |a: u64, b: u64| a & b),
        ("or", false) => binary(path, |a: u32, b: u32| a | b),
        ("or", true) => binary(path, |a: u64, b: u64| a | b),
        ("xor", false) => binary(path, |a: u32, b: u32| a ^ b),
        ("xor", true) => binary(path, |a: u64, b: u64| a ^ b),
        ("not", false) => unary(path, |a: u32| !a),
        ("not", true) => unary(path, |a: u64| !a),
        (_, false) if ty == Type::B16 => unary(path, |a: u16| u16::from(a == 0)),
        (_, false) => unary(path, |a: u32| u32::from(a == 0)),
        (_, true) => unary(path, |a: u64| u64::from(a == 0)),
    };
    let types: &[Type] = if matches!(form.base, "not" | "cnot") {
        &[ty]
    } else {
        &[ty, ty]
    };
    simple(decoder, handler, ty, types, operands)
}

fn shift<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let ty = form.take_type()?;
    if !is_bits(ty) && !is_integer(ty) {
        return form.refuse();
    }
    let path = decoder.path;
    // Amounts beyond the width shift everything out.
    let handler = match (form.base, ty) {
        ("shl", _) => match ty.bytes() {
            2 => binary(path, |a: u16, b: u32| if b < 16 { a << b } else { 0 }),
            4 => binary(path, |a: u32, b: u32| if b < 32 { a << b } else { 0 }),
            _ => binary(path, |a: u64, b: u32| if b < 64 { a << b } else { 0 }),
        },
        (_, Type::S16) => binary(path, |a: i16, b: u32| a >> b.min(15)),
        (_, Type::S32) => binary(path, |a: i32, b: u32| a >> b.min(31)),
        (_, Type::S64) => binary(path, |a: i64, b: u32| a >> b.min(63)),
        _ => match ty.bytes() {
            2 => binary(path, |a: u16, b: u32| if b < 16 { a >> b } else { 0 }),
            4 => binary(path, |a: u32, b: u32| if b < 32 { a >> b } else { 0 }),
            _ => binary(path, |a: u64, b: u32| if b < 64 { a >> b } else { 0 }),
        },
    };
    simple(decoder, handler, ty, &[ty, Type::U32], operands)
}

fn funnel<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let left = form.take_one(&["r", "l"]).ok_or("shf without direction")? == 1;
    let clamp = form
        .take_one(&["wrap", "clamp"])
        .ok_or("shf without mode")?
        == 1;
    let ty = form.take_type()?;
    if ty != Type::B32 {
        return form.refuse();
    }
    let path = decoder.path;
    let handler = match (left, clamp) {
        (true, false) => ternary(path, |a: u32, b: u32, c: u32| {
            (((u64::from(b) << 32 | u64::from(a)) << (c & 31)) >> 32) as u32
        }),
        (true, true) => ternary(path, |a: u32, b: u32, c: u32| {
            (((u64::from(b) << 32 | u64::from(a)) << c.min(32)) >> 32) as u32
        }),
        (false, false) => ternary(path, |a: u32, b: u32, c: u32| {
            ((u64::from(b) << 32 | u64::from(a)) >> (c & 31)) as u32
        }),
        (false, true) => ternary(path, |a: u32, b: u32, c: u32| {
            ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32
        }),
    };
    simple(decoder, handler, ty, &[ty, ty, Type::U32], operands)
}

fn count<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let amount = form.take("shiftamt");
    let ty = form.take_type()?;
    let path = decoder.path;
    let (base, wide) = (form.base, ty.is_wide());
    if ty.bytes() < 4 || (amount && base != "bfind") {
        return form.refuse();
    }
    let handler = match (base, wide, ty.class() == Class::Signed) {
        ("popc", false, _) => unary(path, |a: u32| a.count_ones()),
        ("popc", true, _) => unary(path, |a: u64| a.count_ones()),
        ("clz", false, _) => unary(path, |a: u32| a.leading_zeros()),
        ("clz", true, _) => unary(path, |a: u64| a.leading_zeros()),
        ("brev", false, _) => unary(path, |a: u32| a.reverse_bits()),
        ("brev", true, _) => unary(path, |a: u64| a.reverse_bits()),
        // `bfind` gives -1 where there is no bit; 31 less a number of leading zeros wraps to that.
        (_, false, false) => unary(path, |a: u32| 31u32.wrapping_sub(a.leading_zeros())),
        (_, false, true) => unary(path, |a: i32| {
            31u32.wrapping_sub((a ^ (a >> 31)).leading_zeros())
        }),
        (_, true, false) => unary(path, |a: u64| 63u32.wrapping_sub(a.leading_zeros())),
        (_, true, true) => unary(path, |a: i64| {
            63u32.wrapping_sub((a ^ (a >> 63)).leading_zeros())
        }),
    };
    let result = if base == "brev" { ty } else { Type::U32 };
    if !amount {
        return simple(decoder, handler, result, &[ty], operands);
    }
    let rows = sources(decoder, &[ty], operands)?;
    let d = decoder.destination(&operands[0], result)?;
    let found = decoder.temporary(false);
    decoder.apply(handler, found, &rows);
    let flip = if wide {
        unary(path, |a: u32| {
            if a == u32::MAX {
                a
            } else {
                63u32.wrapping_sub(a)
            }
        })
    } else {
        unary(path, |a: u32| {
            if a == u32::MAX {
                a
            } else {
                31u32.wrapping_sub(a)
            }
        })
    };
    decoder.apply(flip, d, &[found]);
    Ok(())
}

/// The bits of `value` from `position`, `length` of them; sign-extended from the last one where `signed`.
#[inline(always)]
fn extract(value: u64, position: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (position, length) = (position & 255, length & 255);
    let available = bits.saturating_sub(position);
    let extended = if signed {
        ((value << (64 - bits)) as i64 >> (64 - bits)) as u64
    } else {
        value
    };
    if length == 0 {
        return 0;
    }
    // The sign is the field's last bit, or the value's where the field reaches beyond.
    let shifted = if signed {
        (extended as i64 >> position.min(63)) as u64
    } else if position < 64 {
        extended >> position
    } else {
        0
    };
    if length >= available || length >= 64 {
        return shifted;
    }
    let unused = 64 - length;
    if signed {
        ((shifted << unused) as i64 >> unused) as u64
    } else {
        shifted << unused >> unused
    }
}

fn field<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let path = decoder.path;
    if form.base == "bmsk" {
        let wrap = form.take_one(&["clamp", "wrap"]) == Some(1);
        let ty = form.take_type()?;
        if ty != Type::B32 {
            return form.refuse();
        }
        let handler = if wrap {
            binary(path, |a: u32, b: u32| {
                (((1u64 << (b & 31)) - 1) << (a & 31)) as u32
            })
        } else {
            binary(path, |a: u32, b: u32| {
                let ones = (1u64 << b.min(32)) - 1;
                if a < 32 { (ones << a) as u32 } else { 0 }
            })
        };
        return simple(decoder, handler, ty, &[ty, ty], operands);
    }
    let ty = form.take_type()?;
    if form.base == "bfe" {
        let handler = match ty {
            Type::U32 => ternary(path, |a: u32, b: u32, c: u32| {
                extract(u64::from(a), b, c, 32, false) as u32
            }),
            Type::S32 => ternary(path, |a: u32, b: u32, c: u32| {
                extract(u64::from(a), b, c, 32, true) as u32
            }),
            Type::U64 => ternary(path, |a: u64, b: u32, c: u32| extract(a, b, c, 64, false)),
            Type::S64 => ternary(path, |a: u64, b: u32, c: u32| extract(a, b, c, 64, true)),
            _ => return form.refuse(),
        };
        return simple(decoder, handler, ty, &[ty, Type::U32, Type::U32], operands);
    }
    let handler = match ty {
        Type::B32 => quaternary(path, |a: u32, b: u32, c: u32, d: u32| {
            insert(u64::from(a), u64::from(b), c, d, 32) as u32
        }),
        Type::B64 => quaternary(path, |a: u64, b: u64, c: u32, d: u32| {
            insert(a, b, c, d, 64)
        }),
        _ => return form.refuse(),
    };
    simple(
        decoder,
        handler,
        ty,
        &[ty, ty, Type::U32, Type::U32],
        operands,
    )
}

/// `base` with `length` bits from `position` replaced by the low bits of `value`.
#[inline(always)]
fn insert(value: u64, base: u64, position: u32, length: u32, bits: u32) -> u64 {
    let (position, length) = (position & 255, length & 255);
    if position >= bits || length == 0 {
        return base;
    }
    let ones = if length >= 64 {
        u64::MAX
    } else {
        (1 << length) - 1
    };
    let mask = ones << position;
    base & !mask | (value << position) & mask
}

/// Any function of three bits, by its truth table, from the eight products that it may hold; with `.or` and `.and`, also whether a bit is set,
/// joined with a predicate.
fn lop3<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let join = form.take_one(&["or", "and"]);
    let ty = form.take_type()?;
    let (d, holds, table) = match (join, operands) {
        (None, [d, _, _, _, Operand::Integer(table)]) => (d, None, table),
        (Some(join), [Operand::Pair(d, p), _, _, _, Operand::Integer(table), q]) => {
            (&**d, Some((join, p, q)), table)
        }
        _ => return form.refuse(),
    };
    let path = decoder.path;
    let handler = match *table & 0xff {
        0x80 => ternary(path, |a: u32, b: u32, c: u32| a & b & c),
        0xfe => ternary(path, |a: u32, b: u32, c: u32| a | b | c),
        0x96 => ternary(path, |a: u32, b: u32, c: u32| a ^ b ^ c),
        0xca => ternary(path, |a: u32, b: u32, c: u32| a & b | !a & c),
        0xe8 => ternary(path, |a: u32, b: u32, c: u32| a & b | a & c | b & c),
        _ => quaternary(path, |a: u32, b: u32, c: u32, table: u32| {
            let term = |bit: u32| 0u32.wrapping_sub(table >> bit & 1);
            let low = |x: u32, y: u32| !b & (!c & x | c & y);
            let high = |x: u32, y: u32| b & (!c & x | c & y);
            !a & (low(term(0), term(1)) | high(term(2), term(3)))
                | a & (low(term(4), term(5)) | high(term(6), term(7)))
        }),
    };
    let mut rows = sources(decoder, &[ty, ty, ty], &operands[..4])?;
    rows.push(decoder.constant(*table, false));
    let Some((join, p, q)) = holds else {
        let d = decoder.destination(d, ty)?;
        decoder.apply(handler, d, &rows);
        return Ok(());
    };
    // The destinations can be among the sources.
    let (result, other) = (decoder.temporary(false), decoder.predicate(q)?);
    decoder.apply(handler, result, &rows);
    let joined = match join {
        0 => binary(path, |a: u32, q: Flag| Flag(a != 0 || q.0)),
        _ => binary(path, |a: u32, q: Flag| Flag(a != 0 && q.0)),
    };
    let p = decoder.destination(p, Type::Pred)?;
    decoder.apply(joined, p, &[result, other]);
    let d = decoder.destination(d, ty)?;
    decoder.apply(unary(path, |a: u32| a), d, &[result]);
    Ok(())
}

/// Byte `selector & 7` of the eight in `bytes`; with bit 3, its sign in every bit.
#[inline(always)]
fn select_byte(bytes: u64, selector: u32) -> u32 {
    let byte = (bytes >> (8 * (selector & 7))) as u32 & 0xff;
    let sign = 0u32.wrapping_sub(byte >> 7) & 0xff;
    if selector & 8 != 0 { sign } else { byte }
}

/// A word of four bytes, each by its index.
#[inline(always)]
fn each_byte(byte: impl Fn(u32) -> u32) -> u32 {
    (0..4).fold(0, |word, index| word | byte(index) << (8 * index))
}

fn permute<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let mode = form.take_one(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
    let ty = form.take_type()?;
    if ty != Type::B32 {
        return form.refuse();
    }
    let path = decoder.path;
    let handler = match mode {
        None => ternary(path, |a: u32, b: u32, c: u32| {
            let bytes = u64::from(b) << 32 | u64::from(a);
            select_byte(bytes, c)
                | select_byte(bytes, c >> 4) << 8
                | select_byte(bytes, c >> 8) << 16
                | select_byte(bytes, c >> 12) << 24
        }),
        Some(0) => ternary(path, |a: u32, b: u32, c: u32| {
            ((u64::from(b) << 32 | u64::from(a)) >> (8 * (c & 3))) as u32
        }),
        Some(2) => ternary(path, |a: u32, _b: u32, c: u32| {
            (a >> (8 * (c & 3)) & 0xff).wrapping_mul(0x0101_0101)
        }),
        Some(5) => ternary(path, |a: u32, _b: u32, c: u32| {
            (a >> (16 * (c & 1)) & 0xffff).wrapping_mul(0x0001_0001)
        }),
        // Backward from the selected byte; to the left and to the right no further than it.
        Some(1) => ternary(path, |a: u32, b: u32, c: u32| {
            let bytes = u64::from(b) << 32 | u64::from(a);
            each_byte(|index| select_byte(bytes, (c & 3).wrapping_sub(index) & 7))
        }),
        Some(3) => ternary(path, |a: u32, _b: u32, c: u32| {
            each_byte(|index| select_byte(u64::from(a), index.max(c & 3)))
        }),
        Some(_) => ternary(path, |a: u32, _b: u32, c: u32| {
            each_byte(|index| select_byte(u64::from(a), index.min(c & 3)))
        }),
    };
    simple(decoder, handler, ty, &[ty, ty, Type::U32], operands)
}

/// `szext`: the low `b` bits of `a`, extended by zeros or the highest of them.
fn extend<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let mode = form.take_one(&["clamp", "wrap"]);
    let ty = form.take_type()?;
    let path = decoder.path;
    let handler = match (mode, ty) {
        (Some(0), Type::U32) => binary(path, |a: u32, b: u32| {
            extract(u64::from(a), 0, b.min(32), 32, false) as u32
        }),
        (Some(0), Type::S32) => binary(path, |a: u32, b: u32| {
            extract(u64::from(a), 0, b.min(32), 32, true) as u32
        }),
        (Some(1), Type::U32) => binary(path, |a: u32, b: u32| {
            extract(u64::from(a), 0, b & 31, 32, false) as u32
        }),
        (Some(1), Type::S32) => binary(path, |a: u32, b: u32| {
            extract(u64::from(a), 0, b & 31, 32, true) as u32
        }),
        _ => return form.refuse(),
    };
    simple(decoder, handler, ty, &[ty, Type::U32], operands)
}

/// `fns`: the position of the `offset`th set bit from `base`, upward or downward; all ones where there is none.
#[inline(always)]
fn nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    let (step, mut left) = (if offset < 0 { -1 } else { 1 }, offset.unsigned_abs());
    // Offset 0 asks for the base itself.
    if offset == 0 {
        return if base < 32 && mask >> base & 1 != 0 {
            base
        } else {
            u32::MAX
        };
    }
    let mut position = i64::from(base);
    while (0..32).contains(&position) {
        left -= mask >> position & 1;
        if left == 0 {
            return position as u32;
        }
        position += step;
    }
    u32::MAX
}

/// `selp`: by predicate.
fn select<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let ty = form.take_type()?;
    if ty == Type::Pred || ty.bytes() < 2 {
        return form.refuse();
    }
    let path = decoder.path;
    let handler = if ty.is_wide() {
        ternary(path, |a: u64, b: u64, p: Flag| if p.0 { a } else { b })
    } else {
        ternary(path, |a: u32, b: u32, p: Flag| if p.0 { a } else { b })
    };
    simple(decoder, handler, ty, &[ty, ty, Type::Pred], operands)
}
