//! Operations between the lanes of a warp.

use crate::ptx::{Operand, Type};

use super::super::collective::{BUTTERFLY, DOWN, Gather, UP, gathering, shuffle};
use super::super::op::{Kind, Op, Role};
use super::form::Form;
use super::function::FunctionDecoder;

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "shfl" => shuffles(decoder, form, operands)?,
        "vote" => vote(decoder, form, operands)?,
        "match" => matches(decoder, form, operands)?,
        "redux" => reduce(decoder, form, operands)?,
        "activemask" => {
            let ty = form.take_type()?;
            let [d] = operands else { return form.refuse() };
            let mut op = Op::new(Kind::Straight, gathering(decoder.path));
            op.count = Gather::ActiveMask as u8;
            op.d = decoder.destination(d, ty)?;
            decoder.emit(op);
        }
        "elect" => {
            form.take("sync");
            let [Operand::Pair(d, leader), members] = operands else {
                return form.refuse();
            };
            let mut op = Op::new(Kind::Collective, gathering(decoder.path));
            op.count = Gather::Elect as u8;
            op.e = decoder.source(members, Type::B32)?;
            op.d = decoder.destination(d, Type::B32)?;
            op.extra[0] = decoder.destination(leader, Type::Pred)?;
            op.extra_role = Role::Written;
            decoder.emit(op);
        }
        "bar" | "barrier" if form.has("warp") => {
            form.take("warp");
            form.take("sync");
            form.take("aligned");
            let [members] = operands else {
                return form.refuse();
            };
            let mut op = Op::new(Kind::Collective, gathering(decoder.path));
            op.count = Gather::Nothing as u8;
            op.e = decoder.source(members, Type::B32)?;
            decoder.emit(op);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn shuffles<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let sync = form.take("sync");
    let mode = form
        .take_one(&["up", "down", "bfly", "idx"])
        .ok_or("shfl without mode")?;
    let ty = form.take_type()?;
    if ty != Type::B32 || operands.len() != 4 + usize::from(sync) {
        return form.refuse();
    }
    let mut op = Op::new(
        if sync {
            Kind::Collective
        } else {
            Kind::Straight
        },
        shuffle(decoder.path),
    );
    op.count = [UP, DOWN, BUTTERFLY, BUTTERFLY + 1][mode];
    op.a = decoder.source(&operands[1], ty)?;
    op.b = decoder.source(&operands[2], Type::B32)?;
    op.c = decoder.source(&operands[3], Type::B32)?;
    if sync {
        op.e = decoder.source(&operands[4], Type::B32)?;
    }
    let d = match &operands[0] {
        Operand::Pair(d, valid) => {
            op.extra[0] = decoder.destination(valid, Type::Pred)?;
            op.extra_role = Role::Written;
            d
        }
        d => d,
    };
    op.d = decoder.destination(d, ty)?;
    decoder.emit(op);
    Ok(())
}

fn vote<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let sync = form.take("sync");
    let mode = form
        .take_one(&["all", "any", "uni", "ballot"])
        .ok_or("vote without mode")?;
    let ty = form.take_type()?;
    if operands.len() != 2 + usize::from(sync) {
        return form.refuse();
    }
    let mut op = Op::new(
        if sync {
            Kind::Collective
        } else {
            Kind::Straight
        },
        gathering(decoder.path),
    );
    op.count = [Gather::All, Gather::Any, Gather::Uniform, Gather::Ballot][mode] as u8;
    op.a = decoder.predicate(&operands[1])?;
    if sync {
        op.e = decoder.source(&operands[2], Type::B32)?;
    }
    op.d = decoder.destination(&operands[0], ty)?;
    decoder.emit(op);
    Ok(())
}

fn matches<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let all = form.take_one(&["any", "all"]).ok_or("match without mode")? == 1;
    form.take("sync");
    let ty = form.take_type()?;
    let [d, value, members] = operands else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Collective, gathering(decoder.path));
    op.count = match (all, ty.is_wide()) {
        (false, false) => Gather::MatchAny,
        (true, false) => Gather::MatchAll,
        (false, true) => Gather::MatchAnyWide,
        (true, true) => Gather::MatchAllWide,
    } as u8;
    op.a = decoder.source(value, ty)?;
    op.e = decoder.source(members, Type::B32)?;
    let d = match d {
        Operand::Pair(d, holds) if all => {
            op.extra[0] = decoder.destination(holds, Type::Pred)?;
            op.extra_role = Role::Written;
            d
        }
        d => d,
    };
    op.d = decoder.destination(d, Type::B32)?;
    decoder.emit(op);
    Ok(())
}

fn reduce<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take("sync");
    let mode = form
        .take_one(&["add", "min", "max", "and", "or", "xor"])
        .ok_or("redux without operation")?;
    let ty = form.take_type()?;
    let [d, value, members] = operands else {
        return form.refuse();
    };
    let signed = ty == Type::S32;
    let mut op = Op::new(Kind::Collective, gathering(decoder.path));
    op.count = match mode {
        _ if !matches!(ty, Type::U32 | Type::S32 | Type::B32) => return form.refuse(),
        0 => Gather::Add,
        1 if signed => Gather::MinSigned,
        1 => Gather::MinUnsigned,
        2 if signed => Gather::MaxSigned,
        2 => Gather::MaxUnsigned,
        3 => Gather::And,
        4 => Gather::Or,
        _ => Gather::Xor,
    } as u8;
    op.a = decoder.source(value, ty)?;
    op.e = decoder.source(members, Type::B32)?;
    op.d = decoder.destination(d, ty)?;
    decoder.emit(op);
    Ok(())
}
