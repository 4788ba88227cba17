//! `multimem`.

use crate::ptx::{Operand, Space, Type};

use super::super::memory::Target;
use super::super::multimem::{Reduction, reduction, store, sum_in_single};
use super::super::op::{Kind, Op, OperandList, Role};
use super::super::rows::nothing;
use super::form::Form;
use super::function::FunctionDecoder;
use super::memory::{is_hint, take_space, target};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// The longest vector, in bytes.
const MOST_BYTES: u32 = 16;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    if form.base != "multimem" {
        return Ok(false);
    }
    let Some(what) = form.take_one(&["ld_reduce", "st", "red"]) else {
        return form.refuse();
    };
    let (loads, stores) = (what == 0, what == 1);
    let awaited = loads && (form.has("relaxed") || form.has("acquire"));
    form.take_all(is_hint);
    let space = take_space(form);
    let name = form.take_one(&["add", "min", "max", "and", "or", "xor"]);
    let in_single = form.take("acc::f32");
    let count = form
        .take_one(&["v2", "v4", "v8"])
        .map_or(1, |power| 2 << power);
    let ty = form.take_type()?;
    let (place, registers) = match operands {
        [registers, place] if loads => (place, registers),
        [place, registers] => (place, registers),
        _ => return form.refuse(),
    };
    let parts = match registers {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    let handler = match name.and_then(|name| meaning(name, ty)) {
        None if stores && name.is_none() => store(ty.bytes()),
        Some(meaning) if in_single => sum_in_single(meaning),
        Some(meaning) => reduction(loads, meaning, ty.bytes()),
        None => None,
    };
    let fits = parts.len() == count && (4..=MOST_BYTES).contains(&(ty.bytes() * count as u32));
    let mut address = decoder.address(place)?;
    let is_global = matches!(space, Space::Global | Space::Generic)
        && target(decoder, space, &mut address)? == Target::Device;
    let Some(handler) = handler.filter(|_| fits && is_global) else {
        return form.refuse();
    };
    let mut list = OperandList::default();
    for part in parts {
        match loads {
            true => list.writes.push(decoder.destination(part, ty)?),
            false => list.reads.push(decoder.source(part, ty)?),
        }
    }
    let rows = list.writes.clone();
    let mut op = Op::new(Kind::Straight, handler);
    (op.a, op.immediate) = (address.base, address.offset);
    (op.extra_role, op.link) = (Role::List, decoder.list(list));
    decoder.emit(op);
    for (part, row) in parts.iter().zip(rows) {
        decoder.settle(part, row, ty)?;
    }
    // What is read again and again until somebody else writes it.
    if awaited {
        decoder.emit_always(Op::new(Kind::Yield, nothing));
    }
    Ok(true)
}

fn meaning(name: usize, ty: Type) -> Option<Reduction> {
    use Reduction::*;
    use Type::*;
    Some(match (name, ty) {
        (0, U32 | S32 | U64) => Add,
        (0, F32) => AddSingle,
        (0, F64) => AddDouble,
        (0, F16) => AddHalf,
        (0, Bf16) => AddBrain,
        (0, F16x2) => AddHalves,
        (0, Bf16x2) => AddBrains,
        (1, U32 | U64) => Min,
        (2, U32 | U64) => Max,
        (1, S32 | S64) => MinSigned,
        (2, S32 | S64) => MaxSigned,
        (1, F16) => MinHalf,
        (2, F16) => MaxHalf,
        (1, Bf16) => MinBrain,
        (2, Bf16) => MaxBrain,
        (1, F16x2) => MinHalves,
        (2, F16x2) => MaxHalves,
        (1, Bf16x2) => MinBrains,
        (2, Bf16x2) => MaxBrains,
        (3, B32 | B64) => And,
        (4, B32 | B64) => Or,
        (5, B32 | B64) => Xor,
        _ => return None,
    })
}
