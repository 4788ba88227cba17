//! Addresses and spaces: `cvta`, `isspacep`, and the blocks of a cluster (`mapa`, `getctarank`).

use crate::ptx::{Operand, Space, Type};

use super::super::cluster::{mapped, rank_of};
use super::super::program::{Fixed, Special};
use super::super::rows::{Flag, binary, rare_binary, unary};
use super::super::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES};
use super::convert::copy;
use super::form::Form;
use super::function::FunctionDecoder;
use super::integer::{simple, sources};

/// Bytes that parameters can have at most, and below all addresses: what is less is a place among them, as a name in 32 bits stands for.
const MOST_PARAMS: u64 = 1 << 16;

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    match form.base {
        "cvta" => change_space(decoder, form, operands)?,
        "isspacep" => is_in_space(decoder, form, operands)?,
        "mapa" => map_to_block(decoder, form, operands)?,
        "getctarank" => block_of(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The start of a space's window of generic addresses.
fn window(space: Space) -> u64 {
    match space {
        Space::Shared | Space::Cluster => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        _ => 0,
    }
}

fn take_space(form: &mut Form<'_>) -> Result<Space, String> {
    let names = [
        "global",
        "const",
        "shared",
        "local",
        "param",
        "shared::cta",
        "shared::cluster",
        "param::entry",
    ];
    match form.take_one(&names) {
        Some(index) => Space::from_name(names[index]).ok_or_else(|| "unknown space".to_owned()),
        None => form.refuse(),
    }
}

/// `cvta`: between an address in a space and a generic one.
fn change_space<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let to = form.take("to");
    let space = take_space(form)?;
    let ty = form.take_type()?;
    if ty != Type::U64 {
        return form.refuse();
    }
    let start = window(space);
    let rows = sources(decoder, &[ty], operands)?;
    let d = decoder.destination(&operands[0], ty)?;
    if space == Space::Param && !to {
        let base = decoder.fixed(Fixed::ParamAddress(0), true);
        let generic = rare_binary(decoder.path, |a: u64, base: u64| match a < MOST_PARAMS {
            true => base + a,
            false => a,
        });
        decoder.apply(generic, d, &[rows[0], base]);
        return Ok(());
    }
    if start == 0 {
        copy(decoder, true, d, rows[0]);
        return Ok(());
    }
    let path = decoder.path;
    let addend = if to { start.wrapping_neg() } else { start };
    let constant = decoder.constant(addend, true);
    decoder.apply(
        binary(path, |a: u64, b: u64| a.wrapping_add(b)),
        d,
        &[rows[0], constant],
    );
    Ok(())
}
fn is_in_space<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let space = take_space(form)?;
    let path = decoder.path;
    let handler = match space {
        // Of the block itself, also where its rank says so.
        Space::Shared => {
            let [d, address] = operands else {
                return form.refuse();
            };
            let address = decoder.source(address, Type::U64)?;
            let own = decoder.fixed(Fixed::Special(Special::ClusterRank), true);
            let d = decoder.destination(d, Type::Pred)?;
            let is_own = binary(path, |a: u64, own: u64| {
                let place = a.wrapping_sub(SHARED_WINDOW);
                let is_own = rank_of(place).is_none_or(|rank| u64::from(rank) == own);
                Flag(place < WINDOW_BYTES && is_own)
            });
            decoder.apply(is_own, d, &[address, own]);
            return Ok(());
        }
        Space::Cluster => unary(path, |a: u64| {
            Flag(a.wrapping_sub(SHARED_WINDOW) < WINDOW_BYTES)
        }),
        Space::Local => unary(path, |a: u64| {
            Flag(a.wrapping_sub(LOCAL_WINDOW) < WINDOW_BYTES)
        }),
        Space::Global => unary(path, |a: u64| {
            Flag(
                a.wrapping_sub(SHARED_WINDOW) >= WINDOW_BYTES
                    && a.wrapping_sub(LOCAL_WINDOW) >= WINDOW_BYTES,
            )
        }),
        _ => return form.refuse(),
    };
    simple(decoder, handler, Type::Pred, &[Type::U64], operands)
}

/// `mapa`: the same place in the shared memory of the block of a rank. Without a space, of generic addresses.
fn map_to_block<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let is_generic = !form.take("shared::cluster");
    let ty = form.take_type()?;
    let path = decoder.path;
    let (d, source, rank) = match operands {
        [d, source, rank] => (d, source, rank),
        _ => return form.refuse(),
    };
    let rows = [
        decoder.source(source, ty)?,
        decoder.source(rank, Type::U32)?,
    ];
    let row = decoder.destination(d, ty)?;
    let map = match (is_generic, ty) {
        (true, Type::U64) => rare_binary(path, |a: u64, rank: u32| SHARED_WINDOW + mapped(a, rank)),
        (false, Type::U64) => rare_binary(path, |a: u64, rank: u32| mapped(a, rank)),
        (false, Type::U32) => rare_binary(path, |a: u32, rank: u32| mapped(a.into(), rank) as u32),
        _ => return form.refuse(),
    };
    decoder.apply(map, row, &rows);
    decoder.settle(d, row, ty)
}

/// `getctarank`: the rank of the block that an address is of.
fn block_of<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let is_generic = !form.take("shared::cluster");
    let ty = form.take_type()?;
    let [d, address] = operands else {
        return form.refuse();
    };
    let address = decoder.source(address, ty)?;
    let own = decoder.fixed(Fixed::Special(Special::ClusterRank), false);
    let row = decoder.destination(d, Type::U32)?;
    let path = decoder.path;
    let rank = match ty {
        Type::U64 => rare_binary(path, |a: u64, own: u32| rank_of(a).unwrap_or(own)),
        Type::U32 if !is_generic => {
            rare_binary(path, |a: u32, own: u32| rank_of(a.into()).unwrap_or(own))
        }
        _ => return form.refuse(),
    };
    decoder.apply(rank, row, &[address, own]);
    decoder.settle(d, row, Type::U32)
}
