//! Loads and stores.

use crate::ptx::{Class, Operand, Space, Type};

use super::super::SHARED_WINDOW;
use super::super::memory::{Target, Transfer, Width, transfer};
use super::super::op::{Kind, Op, Role, Row};
use super::super::program::Fixed;
use super::super::rows::{Handler, nothing, rare_binary};
use super::form::Form;
use super::function::{Address, FunctionDecoder};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Modifiers that say how, not what: order, scope and caching. Every access here is at least as strong.
pub(super) fn is_hint(part: &str) -> bool {
    matches!(
        part,
        "volatile"
            | "relaxed"
            | "acquire"
            | "release"
            | "acq_rel"
            | "weak"
            | "sc"
            | "cta"
            | "cluster"
            | "gpu"
            | "sys"
            | "nc"
            | "ca"
            | "cg"
            | "cs"
            | "lu"
            | "cv"
            | "wb"
            | "wt"
            | "mmio"
            | "unified"
    ) || part.starts_with("L1::")
        || part.starts_with("L2::")
}

/// The operands without the cache policy, which a form with `.L2::cache_hint` has at the end.
pub(super) fn without_policy<'o, 't>(
    form: &Form<'_>,
    operands: &'o [Operand<'t>],
) -> &'o [Operand<'t>] {
    match operands {
        [rest @ .., _] if form.has("L2::cache_hint") => rest,
        all => all,
    }
}

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "ld" | "ldu" => load(decoder, form, operands)?,
        "st" if !form.has("async") => store(decoder, form, operands)?,
        "prefetch" | "prefetchu" | "applypriority" | "discard" => {
            form.take_all(|_| true);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The space that a form says.
pub(super) fn take_space(form: &mut Form<'_>) -> Space {
    const NAMES: [&str; 9] = [
        "global",
        "const",
        "shared",
        "shared::cta",
        "shared::cluster",
        "local",
        "param",
        "param::entry",
        "param::func",
    ];
    form.take_one(&NAMES)
        .and_then(|index| Space::from_name(NAMES[index]))
        .unwrap_or(Space::Generic)
}

/// The memory that an address in `space` reaches, and the address's row.
pub(super) fn target(
    decoder: Decoder<'_, '_, '_>,
    space: Space,
    address: &mut Address,
) -> Result<Target, String> {
    // A variable's name stands for its address in its own space.
    let space = match (space, address.space) {
        (Space::Generic, Some(own @ (Space::Shared | Space::Local))) => own,
        (Space::Param, Some(Space::Local)) => Space::Local,
        (space, _) => space,
    };
    match space {
        Space::Cluster => {
            (address.base, address.wide) = (in_window(decoder, address), true);
            address.offset = 0;
            Ok(Target::Device)
        }
        Space::Shared if address.wide => Ok(Target::Shared),
        Space::Shared => Ok(Target::SharedShort),
        Space::Global | Space::Const | Space::Generic | Space::Param if address.wide => {
            Ok(Target::Device)
        }
        Space::Local => {
            if !address.wide {
                let (wide, path) = (decoder.temporary(true), decoder.path);
                decoder.apply(
                    super::super::rows::unary(path, |a: u32| u64::from(a)),
                    wide,
                    &[address.base],
                );
                (address.base, address.wide) = (wide, true);
            }
            Ok(Target::Local)
        }
        _ => Err("a 32-bit address of global memory".into()),
    }
}

/// The row of the generic address of a place in shared memory, whose blocks it may be of.
pub(super) fn in_window(decoder: Decoder<'_, '_, '_>, address: &Address) -> Row {
    let (generic, path) = (decoder.temporary(true), decoder.path);
    let offset = decoder.constant(address.offset as u64, address.wide);
    let sum = if address.wide {
        rare_binary(path, |a: u64, b: u64| {
            SHARED_WINDOW + (a.wrapping_add(b) & u64::from(u32::MAX))
        })
    } else {
        rare_binary(path, |a: u32, b: u32| {
            SHARED_WINDOW + u64::from(a.wrapping_add(b))
        })
    };
    decoder.apply(sum, generic, &[address.base, offset]);
    generic
}

/// How a type lies in memory.
pub(super) fn width(ty: Type) -> Option<Width> {
    Some(match (ty.class() == Class::Signed, ty.bytes()) {
        _ if ty == Type::Pred => return None,
        (true, 1) => Width::I8,
        (false, 1) => Width::U8,
        (true, 2) => Width::I16,
        (false, 2) => Width::U16,
        (_, 4) => Width::B32,
        (_, 8) => Width::B64,
        _ => return None,
    })
}

/// The operands of a transfer's registers: one, or a vector of two or four.
fn elements<'o, 't>(
    form: &mut Form<'t>,
    operand: &'o Operand<'t>,
) -> Result<&'o [Operand<'t>], String> {
    let count = match form.take_one(&["v2", "v4"]) {
        Some(0) => 2,
        Some(_) => 4,
        None => 1,
    };
    match operand {
        Operand::Vector(parts) if parts.len() == count => Ok(parts),
        single if count == 1 => Ok(std::slice::from_ref(single)),
        _ => form.refuse(),
    }
}

/// Whether other threads may access the same place meanwhile.
fn is_strong(form: &Form<'_>) -> bool {
    ["acquire", "release", "relaxed", "volatile"]
        .iter()
        .any(|order| form.has(order))
}

/// What a load or a store begins with: whether it is strong, the space, and both operands.
pub(super) fn begin<'o, 't>(
    form: &mut Form<'t>,
    operands: &'o [Operand<'t>],
) -> Result<(bool, Space, [&'o Operand<'t>; 2]), String> {
    let strong = is_strong(form);
    form.take_all(is_hint);
    let space = take_space(form);
    match without_policy(form, operands) {
        [destination, source] => Ok((strong, space, [destination, source])),
        _ => form.refuse(),
    }
}

fn load<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    // What is strong is read again and again until somebody else writes it.
    let (awaited, space, [destination, source]) = begin(form, operands)?;
    let parts = elements(form, destination)?;
    let ty = form.take_type()?;
    let Some(width) = width(ty) else {
        return form.refuse();
    };
    if space == Space::Param
        && let Some(offset) = decoder.kernel_param(source)
    {
        return load_param(decoder, ty, offset, parts);
    }
    let mut address = decoder.address(source)?;
    let target = target(decoder, space, &mut address)?;
    let rows: Vec<Row> = parts
        .iter()
        .map(|part| decoder.destination(part, ty))
        .collect::<Result<_, _>>()?;
    let kind = match rows.len() {
        1 => Transfer::Load,
        _ if awaited => Transfer::LoadStrongVector,
        _ => Transfer::LoadVector,
    };
    let handler = transfer(decoder.path, target, kind, width);
    if rows.len() == 1 {
        let mut op = access(decoder, handler, &address);
        op.d = rows[0];
        offer(&mut op, target, ty);
        decoder.emit(op);
    } else {
        emit_vector(decoder, handler, &address, (&rows, Role::Written));
    }
    for (part, row) in parts.iter().zip(rows) {
        decoder.settle(part, row, ty)?;
    }
    if awaited && target == Target::Device {
        decoder.emit_always(Op::new(Kind::Yield, nothing));
    }
    Ok(())
}

/// An operation on memory at an address.
fn access(decoder: Decoder<'_, '_, '_>, handler: Handler, address: &Address) -> Op {
    let mut op = Op::new(Kind::Straight, handler);
    (op.a, op.immediate, op.link) = (address.base, address.offset, decoder.cache_slot());
    op
}

/// Adds the transfer of a vector's rows, two or four, which it reads or writes.
pub(super) fn emit_vector(
    decoder: Decoder<'_, '_, '_>,
    handler: Handler,
    address: &Address,
    (rows, role): (&[Row], Role),
) {
    let mut op = access(decoder, handler, address);
    op.count = rows.len() as u8;
    op.extra[..rows.len()].copy_from_slice(rows);
    op.extra_role = role;
    decoder.emit(op);
}

/// Lets accesses of the same kind and size take over from each other. Local memory is laid out by lanes, so its
/// accesses are never simple.
fn offer(op: &mut Op, target: Target, ty: Type) {
    if target != Target::Local {
        op.set_reusable((target as u32) << 8 | ty.bytes());
    }
}

/// A kernel parameter by name never changes: a copy of a fixed row.
fn load_param<'t>(
    decoder: Decoder<'_, 't, '_>,
    ty: Type,
    offset: u32,
    parts: &[Operand<'t>],
) -> Result<(), String> {
    for (part, before) in parts.iter().zip((0..).step_by(ty.bytes() as usize)) {
        let offset = offset.checked_add(before);
        let value = Fixed::Param {
            offset: offset.ok_or("a load from behind all parameters")?,
            bytes: ty.bytes() as u8,
            signed: ty.class() == Class::Signed,
        };
        let row = decoder.fixed(value, ty.is_wide());
        let d = decoder.destination(part, ty)?;
        super::convert::copy(decoder, ty.is_wide(), d, row);
        decoder.settle(part, d, ty)?;
    }
    Ok(())
}

fn store<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let (strong, space, [destination, source]) = begin(form, operands)?;
    let parts = elements(form, source)?;
    let ty = form.take_type()?;
    let Some(width) = width(ty) else {
        return form.refuse();
    };
    let mut address = decoder.address(destination)?;
    if space == Space::Param && address.space == Some(Space::Param) {
        return Err("a store to a kernel parameter".into());
    }
    let target = target(decoder, space, &mut address)?;
    let rows: Vec<Row> = parts
        .iter()
        .map(|part| decoder.source(part, ty))
        .collect::<Result<_, _>>()?;
    let kind = match rows.len() {
        1 => Transfer::Store,
        _ if strong => Transfer::StoreStrongVector,
        _ => Transfer::StoreVector,
    };
    let handler = transfer(decoder.path, target, kind, width);
    if rows.len() == 1 {
        let mut op = access(decoder, handler, &address);
        op.b = rows[0];
        offer(&mut op, target, ty);
        decoder.emit(op);
    } else {
        emit_vector(decoder, handler, &address, (&rows, Role::Read));
    }
    Ok(())
}
