//! Surfaces: bytes at places of an array, and elements in its format.

use crate::ptx::{Operand, Type};

use super::super::texture::{Access, Act, Bounds, Reduction, surface};
use super::form::Form;
use super::function::FunctionDecoder;
use super::texture::{emit, place, take_geometry, vector};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// `suld.b`, `sust.b`, `sured.b`, and `sust.p`, `sured.p`.
pub(super) fn access<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take_all(|part| matches!(part, "ca" | "cg" | "cs" | "cv" | "wb" | "wt"));
    let Some(is_formatted) = form.take_one(&["b", "p"]).map(|index| index == 1) else {
        return form.refuse();
    };
    let operation = form.take_one(&["add", "min", "max", "and", "or"]);
    let geometry = take_geometry(form)?;
    if geometry.is_cube() {
        return form.refuse();
    }
    let count: u8 = match form.take_one(&["v2", "v4"]) {
        Some(0) => 2,
        Some(_) => 4,
        None => 1,
    };
    let bounds = match form.take_one(&["trap", "clamp", "zero"]) {
        Some(1) => Bounds::Clamp,
        Some(2) => Bounds::Zero,
        _ => Bounds::Trap,
    };
    let ty = form.take_type()?;
    let bytes = ty.bytes() as u8;
    let (act, from, values) = match (form.base, operands) {
        ("suld", [results, from]) if operation.is_none() && !is_formatted => {
            (Act::Load, from, results)
        }
        ("sust", [from, values]) if operation.is_none() => (Act::Store, from, values),
        ("sured", [from, value]) if count == 1 && !geometry.has_layers() => {
            let reduction = operation.and_then(|name| reduction(name, ty, is_formatted));
            let Some(reduction) = reduction else {
                return form.refuse();
            };
            (Act::Reduce(reduction), from, value)
        }
        _ => return form.refuse(),
    };
    let values = vector(values);
    let is_plain = match (act, is_formatted) {
        (Act::Reduce(_), _) => true,
        (_, true) => ty == Type::B32,
        (_, false) => matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64),
    };
    let fits = bytes * count <= 16 && values.len() == usize::from(count);
    if !fits || !is_plain {
        return form.refuse();
    }
    let (mut reads, None) = place(decoder, form, from, geometry, Type::S32)? else {
        return form.refuse();
    };
    let access = Access {
        geometry,
        bounds,
        act,
        is_formatted,
        bytes,
        count,
    };
    let what = (surface(), access.code(), 1);
    if act == Act::Load {
        return emit(decoder, what, reads, values, ty);
    }
    for value in values {
        reads.push(decoder.source(value, ty)?);
    }
    emit(decoder, what, reads, &[], ty)
}

/// What a reduction does. A formatted one of `.b32` or `.b64` takes its sign from the surface.
fn reduction(name: usize, ty: Type, is_formatted: bool) -> Option<Reduction> {
    use Type::{B32, B64, S32, S64, U32, U64};
    Some(match (name, ty, is_formatted) {
        (0, U32 | S32 | U64, false) | (0, B32 | B64, true) => Reduction::Add,
        (1, U32 | U64, false) | (1, B32 | B64, true) => Reduction::Min,
        (1, S32 | S64, false) => Reduction::MinSigned,
        (2, U32 | U64, false) | (2, B32 | B64, true) => Reduction::Max,
        (2, S32 | S64, false) => Reduction::MaxSigned,
        (3, B32, _) => Reduction::And,
        (4, B32, _) => Reduction::Or,
        _ => return None,
    })
}
