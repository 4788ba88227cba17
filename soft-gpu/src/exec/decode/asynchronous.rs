//! `cp.async`, `mbarrier`, and cache policies; what else is asynchronous is in [`bulk`].

use crate::ptx::{Operand, Space, Type};

use super::super::asynchronous::copy;
use super::super::mbarrier::{Act, barrier, pending_count};
use super::super::memory::Target;
use super::super::op::{Kind, Op, Row};
use super::super::rows::ternary;
use super::bulk;
use super::form::Form;
use super::function::FunctionDecoder;
use super::integer::simple;
use super::matrix::with_offset;
use super::memory::{is_hint, take_space, target, without_policy};

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "st" | "red" if form.has("async") => bulk::remote(decoder, form, operands)?,
        "cp" if form.has("bulk") => bulk::decode(decoder, form, operands)?,
        "cp" => {
            if !form.take("async") {
                return form.refuse();
            }
            if form.take("mbarrier") {
                return completion(decoder, form, operands).map(|()| true);
            }
            // Copies are done at once.
            match form.take_one(&["commit_group", "wait_group", "wait_all"]) {
                Some(_) => {}
                None => transfer(decoder, form, operands)?,
            }
        }
        "mbarrier" => barriers(decoder, form, operands)?,
        "createpolicy" => {
            let [d, ..] = operands else {
                return form.refuse();
            };
            form.take_all(|_| true);
            let row = decoder.constant(0, true);
            let d = decoder.destination(d, Type::B64)?;
            super::convert::copy(decoder, true, d, row);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `cp.async.ca` and `cp.async.cg`
fn transfer<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let to = form.take_one(&["shared", "shared::cta"]);
    let from = form.take("global");
    form.take_all(is_hint);
    let operands = without_policy(form, operands);
    let [destination, source, Operand::Integer(size), rest @ ..] = operands else {
        return form.refuse();
    };
    let known = matches!(size, 4 | 8 | 16) && (!form.has("cg") || *size == 16);
    if to.is_none() || !from || !known || rest.len() > 1 {
        return form.refuse();
    }
    let mut destination = decoder.address(destination)?;
    let target = target(decoder, Space::Shared, &mut destination)?;
    let source = decoder.address(source)?;
    let Some(handler) = copy(decoder.path, target).filter(|_| source.wide) else {
        return form.refuse();
    };
    let (Ok(to), Ok(from)) = (
        i32::try_from(destination.offset),
        i32::try_from(source.offset),
    ) else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Straight, handler);
    (op.a, op.b) = (destination.base, source.base);
    op.immediate = i64::from(to as u32) | i64::from(from) << 32;
    op.count = *size as u8;
    op.link = decoder.cache_slot();
    if let [some] = rest {
        op.c = copied_bytes(decoder, some, *size)?;
    }
    decoder.emit(op);
    Ok(())
}

/// The row of how many bytes are copied: the operand itself, or all or nothing by a predicate that says to ignore the
/// source.
fn copied_bytes<'t>(
    decoder: Decoder<'_, 't, '_>,
    operand: &Operand<'t>,
    size: u64,
) -> Result<Row, String> {
    let is_predicate = match operand {
        Operand::Name(name) => decoder
            .names
            .register(name)
            .is_some_and(|register| register.ty == Type::Pred),
        Operand::Not(_) => true,
        _ => false,
    };
    if !is_predicate {
        return decoder.source(operand, Type::U32);
    }
    let ignored = decoder.predicate(operand)?;
    let (all, nothing) = (decoder.constant(size, false), decoder.constant(0, false));
    let (row, path) = (decoder.temporary(false), decoder.path);
    let choose = ternary(path, |p: u32, a: u32, b: u32| p & a | !p & b);
    decoder.apply(choose, row, &[ignored, nothing, all]);
    Ok(row)
}

/// `cp.async.mbarrier.arrive`: all copies being done, an arrival; one that is expected in addition changes nothing.
fn completion<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let (arrive, alone) = (form.take("arrive"), !form.take("noinc"));
    let space = take_space(form);
    let [memory] = operands else {
        return form.refuse();
    };
    if !arrive || !form.take("b64") {
        return form.refuse();
    }
    if alone {
        return Ok(());
    }
    let mut address = decoder.address(memory)?;
    let target = target(decoder, space, &mut address)?;
    let one = decoder.constant(1, false);
    let op = act(
        form,
        Act::Arrive,
        (target, address.base, address.offset),
        one,
    )?;
    decoder.emit(op);
    Ok(())
}

/// The operation of `act` on the barrier at an address.
fn act(
    form: &Form<'_>,
    act: Act,
    (target, base, offset): (Target, Row, i64),
    operand: Row,
) -> Result<Op, String> {
    let Some(handler) = barrier(target) else {
        return form.refuse();
    };
    let polls = matches!(act, Act::Test | Act::TestParity);
    let kind = if polls { Kind::Poll } else { Kind::Straight };
    let mut op = Op::new(kind, handler);
    (op.a, op.immediate, op.b) = (base, offset, operand);
    op.count = act as u8;
    Ok(op)
}

/// `mbarrier`
fn barriers<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    const NAMES: [&str; 8] = [
        "init",
        "inval",
        "arrive",
        "arrive_drop",
        "test_wait",
        "try_wait",
        "pending_count",
        "complete_tx",
    ];
    let expects = form.take("expect_tx");
    let name = form.take_one(&NAMES);
    form.take_all(|part| is_hint(part) || part == "noComplete");
    let parity = form.take("parity");
    let space = take_space(form);
    if !form.take("b64") {
        return form.refuse();
    }
    let Some(name) = name.filter(|name| *name != 7) else {
        let act = if expects { Act::Expect } else { Act::Complete };
        return transactions(decoder, form, (act, space), operands);
    };
    if name == 6 {
        let handler = pending_count(decoder.path);
        return simple(decoder, handler, Type::U32, &[Type::B64], operands);
    }
    let returns = name >= 2;
    let (d, memory, rest) = match operands {
        [memory, rest @ ..] if !returns => (None, memory, rest),
        [d, memory, rest @ ..] if returns => (Some(d), memory, rest),
        _ => return form.refuse(),
    };
    let (what, operand) = match (name, parity, rest) {
        (0, false, [count]) => (Act::Initialise, decoder.source(count, Type::U32)?),
        (1, false, []) => (Act::Invalidate, super::super::op::NONE),
        (2 | 3, false, [bytes]) if expects => {
            let act = match name {
                2 => Act::ExpectAndArrive,
                _ => Act::ExpectAndArriveAndDrop,
            };
            (act, decoder.source(bytes, Type::U32)?)
        }
        (2 | 3, false, [] | [_]) if !expects => {
            let count = match rest {
                [count] => decoder.source(count, Type::U32)?,
                _ => decoder.constant(1, false),
            };
            let drops = name == 3;
            (
                if drops {
                    Act::ArriveAndDrop
                } else {
                    Act::Arrive
                },
                count,
            )
        }
        (4 | 5, false, [state] | [state, _]) => (Act::Test, decoder.source(state, Type::B64)?),
        (4 | 5, true, [phase] | [phase, _]) => (Act::TestParity, decoder.source(phase, Type::U32)?),
        _ => return form.refuse(),
    };
    let mut address = decoder.address(memory)?;
    let target = target(decoder, space, &mut address)?;
    let base = with_offset(decoder, address);
    let mut op = act(form, what, (target, base, 0), operand)?;
    if let Some(d) = d {
        let ty = if name >= 4 { Type::Pred } else { Type::B64 };
        op.d = decoder.destination(d, ty)?;
    }
    decoder.emit(op);
    Ok(())
}

/// `mbarrier.expect_tx` and `mbarrier.complete_tx`
fn transactions<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    (what, space): (Act, Space),
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let [memory, bytes] = operands else {
        return form.refuse();
    };
    let bytes = decoder.source(bytes, Type::U32)?;
    let mut address = decoder.address(memory)?;
    let target = target(decoder, space, &mut address)?;
    let base = with_offset(decoder, address);
    let op = act(form, what, (target, base, 0), bytes)?;
    decoder.emit(op);
    Ok(())
}
