//! Registers of 128 bits, which are two rows, and transfers of 256 bits, which are four.
//!
//! They do nothing but move: `mov`, `ld`, `st`, and `atom` of 128 bits. A lane's 128 bits in memory are one access where the order says so, 256 are not:
//! the ISA promises it for each element only.

use crate::ptx::{Class, Operand, Space, Type};

use super::super::memory::{Target, Transfer, Width, transfer};
use super::super::op::{Kind, Op, OperandList, Role, Row};
use super::super::quad::exchange;
use super::super::rows::{binary, nothing, unary};
use super::convert::copy;
use super::form::Form;
use super::function::FunctionDecoder;
use super::memory::{begin, emit_vector, is_hint, take_space, target, without_policy};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    let is_quad = form.has("b128");
    let is_vector = form.has("v8")
        || form.has("v4") && ["b64", "u64", "s64", "f64"].iter().any(|ty| form.has(ty));
    match form.base {
        "mov" if is_quad => transport(decoder, form, operands)?,
        "ld" if is_quad || is_vector => load(decoder, form, operands)?,
        "st" if is_quad || is_vector => store(decoder, form, operands)?,
        "atom" if is_quad => atomic(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn transport<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take_type()?;
    match operands {
        [d, Operand::Vector(parts)] if parts.len() == 2 => {
            let d = decoder.halves(d)?;
            for (part, d) in parts.iter().zip(d) {
                let source = decoder.source(part, Type::B64)?;
                copy(decoder, true, d, source);
            }
        }
        [Operand::Vector(parts), source] if parts.len() == 2 => {
            let source = decoder.halves(source)?;
            for (part, source) in parts.iter().zip(source) {
                let d = decoder.destination(part, Type::B64)?;
                copy(decoder, true, d, source);
            }
        }
        [d, source] => {
            let (d, source) = (decoder.halves(d)?, decoder.halves(source)?);
            for (d, source) in d.into_iter().zip(source) {
                copy(decoder, true, d, source);
            }
        }
        _ => return form.refuse(),
    }
    Ok(())
}

/// What is transferred: the halves of a register, or a vector's elements.
enum Elements<'o, 't> {
    Halves(&'o Operand<'t>),
    Doubles(&'o [Operand<'t>], Type),
    /// Eight words, two to a row.
    Words(&'o [Operand<'t>], Type),
}

impl<'o, 't> Elements<'o, 't> {
    fn take(form: &mut Form<'t>, operand: &'o Operand<'t>) -> Result<Self, String> {
        let vector = form.take_one(&["v4", "v8"]);
        let ty = form.take_type()?;
        match (vector, operand) {
            (None, single) => Ok(Self::Halves(single)),
            (Some(0), Operand::Vector(parts)) if parts.len() == 4 => Ok(Self::Doubles(parts, ty)),
            (Some(1), Operand::Vector(parts)) if parts.len() == 8 => Ok(Self::Words(parts, ty)),
            _ => form.refuse(),
        }
    }
}

fn load<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let (awaited, space, [destination, source]) = begin(form, operands)?;
    let elements = Elements::take(form, destination)?;
    let mut address = decoder.address(source)?;
    let target = target(decoder, space, &mut address)?;
    let kind = match awaited {
        true => Transfer::LoadStrongVector,
        false => Transfer::LoadVector,
    };
    let rows: Vec<Row> = match &elements {
        Elements::Halves(operand) => decoder.halves(operand)?.to_vec(),
        Elements::Doubles(parts, ty) => parts
            .iter()
            .map(|part| decoder.destination(part, *ty))
            .collect::<Result<_, _>>()?,
        Elements::Words(..) => (0..4).map(|_| decoder.temporary(true)).collect(),
    };
    let handler = transfer(decoder.path, target, kind, Width::B64);
    emit_vector(decoder, handler, &address, (&rows, Role::Written));
    if let Elements::Words(parts, ty) = elements {
        unpack(decoder, parts, ty, &rows)?;
    }
    if awaited && target == Target::Device {
        decoder.emit_always(Op::new(Kind::Yield, nothing));
    }
    Ok(())
}

/// The words of rows of 64 bits, into their registers.
fn unpack<'t>(
    decoder: Decoder<'_, 't, '_>,
    parts: &[Operand<'t>],
    ty: Type,
    rows: &[Row],
) -> Result<(), String> {
    let path = decoder.path;
    for (index, part) in parts.iter().enumerate() {
        let half = match index % 2 {
            0 => unary(path, |a: u64| a as u32),
            _ => unary(path, |a: u64| (a >> 32) as u32),
        };
        let d = decoder.destination(part, ty)?;
        decoder.apply(half, d, &[rows[index / 2]]);
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
    let elements = Elements::take(form, source)?;
    let mut address = decoder.address(destination)?;
    let target = target(decoder, space, &mut address)?;
    let kind = match strong {
        true => Transfer::StoreStrongVector,
        false => Transfer::StoreVector,
    };
    let rows: Vec<Row> = match elements {
        Elements::Halves(operand) => decoder.halves(operand)?.to_vec(),
        Elements::Doubles(parts, ty) => parts
            .iter()
            .map(|part| decoder.source(part, ty))
            .collect::<Result<_, _>>()?,
        Elements::Words(parts, ty) => parts
            .chunks(2)
            .map(|pair| {
                let pair = [decoder.source(&pair[0], ty)?, decoder.source(&pair[1], ty)?];
                let (row, path) = (decoder.temporary(true), decoder.path);
                let pack = binary(path, |a: u32, b: u32| u64::from(a) | u64::from(b) << 32);
                decoder.apply(pack, row, &pair);
                Ok(row)
            })
            .collect::<Result<_, String>>()?,
    };
    let handler = transfer(decoder.path, target, kind, Width::B64);
    emit_vector(decoder, handler, &address, (&rows, Role::Read));
    Ok(())
}

/// `atom.exch` and `atom.cas`.
fn atomic<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take_all(is_hint);
    let space = take_space(form);
    let compares = form.take_one(&["exch", "cas"]) == Some(1);
    form.take_type()?;
    let operands = without_policy(form, operands);
    let wanted = 3 + usize::from(compares);
    if operands.len() != wanted || !matches!(space, Space::Global | Space::Shared | Space::Generic)
    {
        return form.refuse();
    }
    let mut address = decoder.address(&operands[1])?;
    let target = target(decoder, space, &mut address)?;
    let Some(handler) = exchange(target, compares) else {
        return form.refuse();
    };
    let mut list = OperandList::default();
    for operand in &operands[2..] {
        list.reads.extend(decoder.halves(operand)?);
    }
    list.writes.extend(decoder.halves(&operands[0])?);
    let mut op = Op::new(Kind::Straight, handler);
    (op.a, op.immediate) = (address.base, address.offset);
    op.extra_role = Role::List;
    op.link = decoder.list(list);
    decoder.emit(op);
    Ok(())
}

/// Whether a type is what a register of 128 bits has.
pub(super) fn is_quad(ty: Type) -> bool {
    ty.bytes() == 16 && ty.class() == Class::Bits
}
