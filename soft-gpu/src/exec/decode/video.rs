//! The video instructions.

use crate::ptx::{Operand, Type};

use super::super::rows::rare_quaternary;
use super::super::video::{Act, Then, Video, packed, scalar};
use super::form::Form;
use super::function::FunctionDecoder;

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// The names, and what they compute.
const NAMES: [(&str, Act); 10] = [
    ("vadd", Act::Add),
    ("vsub", Act::Subtract),
    ("vabsdiff", Act::Difference),
    ("vmin", Act::Minimum),
    ("vmax", Act::Maximum),
    ("vshl", Act::ShiftLeft),
    ("vshr", Act::ShiftRight),
    ("vavrg", Act::Average),
    ("vset", Act::Compare),
    ("vmad", Act::MultiplyAdd),
];

/// Selectors of scalar sources, in the order of their numbers.
const SELECTORS: [&str; 6] = ["b0", "b1", "b2", "b3", "h0", "h1"];

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    let name = form.base.trim_end_matches(['2', '4']);
    let Some(&(_, act)) = NAMES.iter().find(|(known, _)| *known == name) else {
        return Ok(false);
    };
    let lanes = match &form.base[name.len()..] {
        "" => 1,
        "2" => 2,
        "4" => 4,
        _ => return Ok(false),
    };
    let is_shift = matches!(act, Act::ShiftLeft | Act::ShiftRight);
    let exists = match act {
        Act::ShiftLeft | Act::ShiftRight | Act::MultiplyAdd => lanes == 1,
        Act::Average => lanes > 1,
        _ => true,
    };
    if !exists {
        return Ok(false);
    }
    let types = take_types(form, act)?;
    let mut video = Video {
        act,
        signed: types.map(|ty| ty == Type::S32),
        select: [6, 6],
        negate: 0,
        saturate: form.take("sat"),
        wrap: false,
        then: Then::Keep,
        place: 0,
        comparison: 0,
    };
    if is_shift {
        let Some(mode) = form.take_one(&["clamp", "wrap"]) else {
            return form.refuse();
        };
        video.wrap = mode == 1;
    }
    if act == Act::Compare {
        let names = ["eq", "ne", "lt", "le", "gt", "ge"];
        video.comparison = form.take_one(&names).ok_or("vset without comparison")? as u8;
    }
    if lanes == 1 {
        one(decoder, form, video, operands)?;
    } else {
        several(decoder, form, video, lanes, operands)?;
    }
    Ok(true)
}

/// The types of the result and the sources; a comparison has only the latter.
fn take_types(form: &mut Form<'_>, act: Act) -> Result<[Type; 3], String> {
    let result = if act == Act::Compare {
        Type::U32
    } else {
        form.take_type()?
    };
    let types = [result, form.take_type()?, form.take_type()?];
    if types.iter().all(|ty| matches!(ty, Type::U32 | Type::S32)) {
        Ok(types)
    } else {
        form.refuse()
    }
}

/// An operand, its selector (`%r1.b0`), and whether it is negated.
fn selected<'t>(operand: &Operand<'t>) -> Option<(Operand<'t>, Option<&'t str>, bool)> {
    match operand {
        Operand::Name(name) => match name.rsplit_once('.') {
            Some((register, selector)) => Some((Operand::Name(register), Some(selector), false)),
            None => Some((Operand::Name(name), None, false)),
        },
        Operand::Integer(value) => Some((Operand::Integer(*value), None, false)),
        Operand::Negative(inner) => {
            let (inner, selector, negated) = selected(inner)?;
            Some((inner, selector, !negated))
        }
        _ => None,
    }
}

fn one<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    mut video: Video,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let [destination, sources @ ..] = operands else {
        return form.refuse();
    };
    let mut rows = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let Some((operand, selector, negated)) = selected(source) else {
            return form.refuse();
        };
        match (selector, video.select.get_mut(index)) {
            (Some(selector), Some(place)) => {
                let known = SELECTORS.iter().position(|name| *name == selector);
                *place = known.ok_or("unknown selector")? as u8;
            }
            (Some(_), None) => return form.refuse(),
            (None, _) => {}
        }
        if negated {
            // A product is negated by either factor; a third source by itself.
            video.negate ^= if index == 2 { 2 } else { 1 };
        }
        rows.push(decoder.source(&operand, Type::U32)?);
    }
    let Some((register, selector, false)) = selected(destination) else {
        return form.refuse();
    };
    if video.act == Act::MultiplyAdd {
        multiply_add(form, &mut video)?;
    } else if video.negate != 0 {
        return form.refuse();
    }
    video.then = match form.take_one(&["add", "min", "max"]) {
        Some(index) => [Then::Add, Then::Minimum, Then::Maximum][index],
        None => Then::Keep,
    };
    if let Some(selector) = selector {
        let known = SELECTORS.iter().position(|name| *name == selector);
        let place = known.ok_or("unknown selector")? as u8;
        if video.then != Then::Keep || video.act == Act::MultiplyAdd {
            return form.refuse();
        }
        (video.then, video.place) = if place < 4 {
            (Then::Byte, place)
        } else {
            (Then::Half, place - 4)
        };
    }
    let third = video.then != Then::Keep || video.act == Act::MultiplyAdd;
    if rows.len() != 2 + usize::from(third) {
        return form.refuse();
    }
    if !third {
        rows.push(decoder.constant(0, false));
    }
    let code = decoder.constant(video.encode(), true);
    rows.push(code);
    let d = decoder.destination(&register, Type::U32)?;
    let handler = rare_quaternary(decoder.path, scalar);
    decoder.apply(handler, d, &rows);
    Ok(())
}

/// The rest of `vmad`, whose sum has a sign where a source has one, or where the product or the third source is negated.
fn multiply_add(form: &mut Form<'_>, video: &mut Video) -> Result<(), String> {
    video.place = match form.take_one(&["shr7", "shr15"]) {
        Some(0) => 7,
        Some(_) => 15,
        None => 0,
    };
    if form.take("po") {
        if video.negate != 0 {
            return form.refuse();
        }
        video.negate = 3;
    } else if video.negate == 3 {
        return form.refuse();
    }
    // Not the type of the result says whether the sum has a sign.
    let [result, a, b] = &mut video.signed;
    *result = *a || *b || matches!(video.negate, 1 | 2);
    Ok(())
}

/// The lanes of a packed source's selector: `.b7654` from the highest.
fn lanes_of(selector: Option<&str>, lanes: u32, default: u64) -> Option<u64> {
    let Some(selector) = selector else {
        return Some(default);
    };
    let digits = selector.strip_prefix(if lanes == 4 { 'b' } else { 'h' })?;
    if digits.len() != lanes as usize {
        return None;
    }
    digits.chars().try_fold(0, |all, digit| {
        let digit = u64::from(digit.to_digit(10)?);
        (digit < 2 * u64::from(lanes)).then_some(all << 4 | digit)
    })
}

/// The lanes of a packed destination's mask: `.b321` and the like.
fn mask_of(selector: Option<&str>, lanes: u32) -> Option<u64> {
    let Some(selector) = selector else {
        return Some((1 << lanes) - 1);
    };
    let digits = selector.strip_prefix(if lanes == 4 { 'b' } else { 'h' })?;
    digits.chars().try_fold(0, |all, digit| {
        let digit = digit.to_digit(10)?;
        (digit < lanes).then_some(all | 1 << digit)
    })
}

fn several<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    mut video: Video,
    lanes: u32,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let [destination, a, b, c] = operands else {
        return form.refuse();
    };
    if form.take("add") {
        video.then = Then::Add;
    }
    let default = [0x3210u64, 0x10][usize::from(lanes == 2)];
    let above = [0x4444u64, 0x22][usize::from(lanes == 2)];
    let (Some((register, mask, false)), Some((a, first, false)), Some((b, second, false))) =
        (selected(destination), selected(a), selected(b))
    else {
        return form.refuse();
    };
    let (Some(mask), Some(first), Some(second)) = (
        mask_of(mask, lanes),
        lanes_of(first, lanes, default),
        lanes_of(second, lanes, default + above),
    ) else {
        return form.refuse();
    };
    let rows = [
        decoder.source(&a, Type::U32)?,
        decoder.source(&b, Type::U32)?,
        decoder.source(c, Type::U32)?,
        decoder.constant(video.encode(), true),
    ];
    let choice = decoder.constant(mask << 32 | second << 16 | first, true);
    let d = decoder.destination(&register, Type::U32)?;
    // A handler takes four rows; the fifth goes with the first two, packed into one.
    let both = decoder.temporary(true);
    let path = decoder.path;
    let pack = super::super::rows::binary(path, |a: u32, b: u32| u64::from(b) << 32 | u64::from(a));
    decoder.apply(pack, both, &rows[..2]);
    let handler = if lanes == 4 {
        packed_handler::<4>(path)
    } else {
        packed_handler::<2>(path)
    };
    decoder.apply(handler, d, &[both, rows[2], rows[3], choice]);
    Ok(())
}

fn packed_handler<const N: u32>(path: super::super::path::Path) -> super::super::rows::Handler {
    fn lanes<const N: u32>(both: u64, c: u32, form: u64, choice: u64) -> u32 {
        packed::<N>(both as u32, (both >> 32) as u32, c, form, choice)
    }
    rare_quaternary(path, lanes::<N>)
}
