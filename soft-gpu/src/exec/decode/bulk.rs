//! `cp.async.bulk`, `cp.reduce.async.bulk`, `st.async`, `red.async`.
//!
//! All addresses are made generic: who moves bytes between spaces finds both ends the same way.

use crate::ptx::{Operand, Space, Type};

use super::super::atomic::Action;
use super::super::bulk::{Effect, bulk, remote as remote_handler};
use super::super::op::{Kind, NONE, Op, OperandList, Role, Row};
use super::super::tensor::{Way, tensor};
use super::form::Form;
use super::function::FunctionDecoder;
use super::matrix::with_offset;
use super::memory::{in_window, is_hint, without_policy};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// How a form says that the end of what it does is told.
const BY_BARRIER: &str = "mbarrier::complete_tx::bytes";
const BY_GROUP: &str = "bulk_group";

/// The row of the generic address that an operand means in `space`.
pub(super) fn generic<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    space: Space,
    operand: &Operand<'t>,
) -> Result<Row, String> {
    let address = decoder.address(operand)?;
    let is_shared = matches!(space, Space::Shared | Space::Cluster)
        // A variable's name stands for its address in its own space.
        || space == Space::Generic && address.space == Some(Space::Shared);
    if is_shared {
        return Ok(in_window(decoder, &address));
    }
    match address.wide {
        true => Ok(with_offset(decoder, address)),
        false => form.refuse(),
    }
}

/// Decodes `cp.async.bulk` and `cp.reduce.async.bulk`.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take("async");
    form.take("bulk");
    if form.take("tensor") {
        return tensor_copy(decoder, form, operands);
    }
    let reduces = form.take("reduce");
    // Copies are done at once, and what is fetched ahead is where it was.
    if form.take_one(&["commit_group", "wait_group"]).is_some() {
        form.take("read");
        return Ok(());
    }
    if form.take("prefetch") {
        form.take_all(|_| true);
        return Ok(());
    }
    let operands = without_policy(form, operands);
    form.take("L2::cache_hint");
    let by_barrier = form.take(BY_BARRIER);
    let (to, from) = match (by_barrier, form.take(BY_GROUP)) {
        (true, false) if form.take("global") => {
            form.take_one(&["shared::cluster", "shared::cta"]);
            (Space::Cluster, Space::Global)
        }
        (true, false) => {
            form.take_all(|part| matches!(part, "shared::cluster" | "shared::cta"));
            (Space::Cluster, Space::Shared)
        }
        (false, true) => {
            form.take_all(|part| matches!(part, "global" | "shared::cta"));
            (Space::Global, Space::Shared)
        }
        _ => return form.refuse(),
    };
    let is_multicast = form.take("multicast::cluster");
    let effect = if reduces { change(form)? } else { Effect::Copy };
    let (ends, rest) = match operands {
        [destination, source, size, rest @ ..] => ((destination, source, size), rest),
        _ => return form.refuse(),
    };
    let (barrier, rest) = match rest {
        [barrier, rest @ ..] if by_barrier => (Some(barrier), rest),
        rest if !by_barrier => (None, rest),
        _ => return form.refuse(),
    };
    let mut op = Op::new(Kind::Straight, bulk());
    op.a = generic(decoder, form, to, ends.0)?;
    op.b = generic(decoder, form, from, ends.1)?;
    op.c = decoder.source(ends.2, Type::U32)?;
    op.immediate = effect.encode();
    if let Some(barrier) = barrier {
        op.e = generic(decoder, form, Space::Cluster, barrier)?;
    }
    op.extra[0] = mask(decoder, form, is_multicast, rest)?;
    op.extra_role = Role::Read;
    decoder.emit(op);
    Ok(())
}

/// Decodes `cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`.
fn tensor_copy<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    const DIMENSIONS: [&str; 5] = ["1d", "2d", "3d", "4d", "5d"];
    const REDUCTIONS: [&str; 8] = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];
    // What is fetched ahead is where it was.
    if form.take("prefetch") {
        form.take_all(|_| true);
        return Ok(());
    }
    let operands = without_policy(form, operands);
    let rank = form.take_one(&DIMENSIONS).map_or(0, |index| index + 1);
    let is_multicast = form.take("multicast::cluster");
    let (by_barrier, by_group) = (form.take(BY_BARRIER), form.take(BY_GROUP));
    let reduction = match form.take("reduce") {
        true => form.take_one(&REDUCTIONS),
        false => None,
    };
    form.take_all(|part| {
        let spaces = ["global", "shared::cta", "shared::cluster"];
        matches!(part, "tile" | "L2::cache_hint") || spaces.contains(&part)
    });
    let (there, place, barrier, rest) = match operands {
        [there, Operand::Place(place), barrier, rest @ ..] if by_barrier => {
            (there, place, Some(barrier), rest)
        }
        [Operand::Place(place), there, rest @ ..] if by_group => (there, place, None, rest),
        _ => return form.refuse(),
    };
    let [map, Operand::Vector(coordinates)] = place.as_slice() else {
        return form.refuse();
    };
    if coordinates.len() != rank {
        return form.refuse();
    }
    let coordinates = coordinates.iter();
    let coordinates = coordinates.map(|operand| decoder.source(operand, Type::S32));
    let reads: Vec<Row> = coordinates.collect::<Result<_, _>>()?;
    let mut op = Op::new(Kind::Straight, tensor());
    let way = match (by_barrier, reduction) {
        (true, _) => Way::Load,
        (false, None) => Way::Store,
        (false, Some(number)) => {
            op.immediate = number as i64;
            Way::Reduce
        }
    };
    op.count = way as u8;
    op.a = generic(decoder, form, Space::Cluster, there)?;
    op.b = decoder.source(map, Type::U64)?;
    if let Some(barrier) = barrier {
        op.e = generic(decoder, form, Space::Cluster, barrier)?;
    }
    op.c = mask(decoder, form, is_multicast, rest)?;
    op.link = decoder.list(OperandList {
        reads,
        writes: Vec::new(),
    });
    op.extra_role = Role::List;
    decoder.emit(op);
    Ok(())
}

/// The row of the mask of blocks, where a form has one behind its other operands.
pub(super) fn mask<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    is_multicast: bool,
    rest: &[Operand<'t>],
) -> Result<Row, String> {
    match (is_multicast, rest) {
        (true, [mask]) => decoder.source(mask, Type::U16),
        (false, []) => Ok(NONE),
        _ => form.refuse(),
    }
}

/// What a reduction does to the words at its destination.
fn change(form: &mut Form<'_>) -> Result<Effect, String> {
    const NAMES: [&str; 8] = ["add", "and", "or", "xor", "min", "max", "inc", "dec"];
    let name = form.take_one(&NAMES);
    form.take("noftz");
    let ty = form.take_type()?;
    match name.and_then(|name| action(NAMES[name], ty)) {
        Some(action) => Ok(Effect::Change(action, ty.bytes() as u8)),
        None => form.refuse(),
    }
}

/// What a reduction's name means for words of a type.
pub(super) fn action(name: &str, ty: Type) -> Option<Action> {
    use Type::*;
    Some(match (name, ty) {
        ("add", U32 | S32 | U64 | S64 | U8 | U16) => Action::Add,
        ("add", F32) => Action::AddSingle,
        ("add", F64) => Action::AddDouble,
        ("add", F16) => Action::AddHalf,
        ("add", Bf16) => Action::AddBrain,
        ("and", _) => Action::And,
        ("or", _) => Action::Or,
        ("xor", _) => Action::Xor,
        ("min", U32 | U64) => Action::Min,
        ("max", U32 | U64) => Action::Max,
        ("min", S32 | S64) => Action::MinSigned,
        ("max", S32 | S64) => Action::MaxSigned,
        ("min", F16) => Action::MinHalf,
        ("max", F16) => Action::MaxHalf,
        ("min", Bf16) => Action::MinBrain,
        ("max", Bf16) => Action::MaxBrain,
        ("inc", U32) => Action::Increment,
        ("dec", U32) => Action::Decrement,
        _ => return None,
    })
}

/// Decodes `st.async` and `red.async`.
pub(super) fn remote<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let stores = form.base == "st";
    form.take("async");
    form.take(BY_BARRIER);
    form.take_all(is_hint);
    let space = match form.take("shared::cluster") {
        true => Space::Cluster,
        false => Space::Generic,
    };
    let count = match form.take_one(&["v2", "v4"]) {
        Some(0) => 2,
        Some(_) => 4,
        None => 1,
    };
    let (ty, effect) = if stores {
        (form.take_type()?, Effect::Copy)
    } else {
        let effect = change(form)?;
        (form.last_type().unwrap_or(Type::U32), effect)
    };
    let [destination, value, barrier] = operands else {
        return form.refuse();
    };
    let parts = match value {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if parts.len() != count {
        return form.refuse();
    }
    let mut op = Op::new(Kind::Straight, remote_handler(ty.is_wide()));
    for (place, part) in op.extra.iter_mut().zip(parts) {
        *place = decoder.source(part, ty)?;
    }
    (op.extra_role, op.count) = (Role::Read, count as u8);
    op.a = generic(decoder, form, space, destination)?;
    op.e = generic(decoder, form, space, barrier)?;
    op.immediate = effect.encode();
    decoder.emit(op);
    Ok(())
}
