//! `atom` and `red`.

use crate::ptx::{Operand, Space, Type};

use super::super::atomic::{Action, handler_of};
use super::super::op::{Kind, Op};
use super::form::Form;
use super::function::FunctionDecoder;
use super::memory::{is_hint, take_space, target, without_policy};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    if !matches!(form.base, "atom" | "red") {
        return Ok(false);
    }
    form.take_all(is_hint);
    let operands = without_policy(form, operands);
    form.take("noftz");
    let space = take_space(form);
    let names = [
        "add", "exch", "cas", "and", "or", "xor", "min", "max", "inc", "dec",
    ];
    let name = form.take_one(&names).ok_or("atomic without operation")?;
    let ty = form.take_type()?;
    let Some(action) = action(name, ty) else {
        return form.refuse();
    };
    let returns = form.base == "atom";
    let first = usize::from(returns);
    let wanted = first + 2 + usize::from(action == Action::CompareAndSwap);
    let spaces = [Space::Global, Space::Shared, Space::Cluster, Space::Generic];
    if operands.len() != wanted || !spaces.contains(&space) {
        return form.refuse();
    }
    let mut address = decoder.address(&operands[first])?;
    let target = target(decoder, space, &mut address)?;
    let handler = handler_of(decoder.path, target, action, ty.bytes());
    let Some(handler) = handler else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Straight, handler);
    (op.a, op.immediate, op.link) = (address.base, address.offset, decoder.cache_slot());
    op.b = decoder.source(&operands[first + 1], ty)?;
    if action == Action::CompareAndSwap {
        op.c = decoder.source(&operands[first + 2], ty)?;
    }
    if returns {
        op.d = decoder.destination(&operands[0], ty)?;
    }
    decoder.emit(op);
    Ok(true)
}

fn action(name: usize, ty: Type) -> Option<Action> {
    use Type::*;
    Some(match (name, ty) {
        (0, U32 | S32 | U64 | S64) => Action::Add,
        (0, F32) => Action::AddSingle,
        (0, F64) => Action::AddDouble,
        (0, F16) => Action::AddHalf,
        (0, Bf16) => Action::AddBrain,
        (0, F16x2) => Action::AddHalves,
        (0, Bf16x2) => Action::AddBrains,
        (1, B32 | B64 | U32 | U64 | S32 | S64 | F32) => Action::Exchange,
        (2, B16 | B32 | B64 | U32 | U64 | S32 | S64) => Action::CompareAndSwap,
        (3, B32 | B64) => Action::And,
        (4, B32 | B64) => Action::Or,
        (5, B32 | B64) => Action::Xor,
        (6, U32 | U64) => Action::Min,
        (7, U32 | U64) => Action::Max,
        (6, S32 | S64) => Action::MinSigned,
        (7, S32 | S64) => Action::MaxSigned,
        (8, U32) => Action::Increment,
        (9, U32) => Action::Decrement,
        _ => return None,
    })
}
