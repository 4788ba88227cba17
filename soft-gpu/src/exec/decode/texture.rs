//! Textures and surfaces.
//!
//! An object is named by its value in a register, or by a module's variable, which holds that value.

use crate::ptx::{Operand, Type};

use super::super::op::{Kind, Op, OperandList, Role, Row};
use super::super::rows::Handler;
use super::super::texture::{
    Access, Act, Bounds, Form as Fetch, Geometry, Mode, Query, Reduction, ask, sample, surface,
};
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
        "tex" => fetch(decoder, form, operands)?,
        "tld4" => gather(decoder, form, operands)?,
        "txq" | "suq" => query(decoder, form, operands)?,
        "suld" | "sust" | "sured" => access(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn take_geometry(form: &mut Form<'_>) -> Option<Geometry> {
    use Geometry::*;
    let names = ["1d", "2d", "3d", "a1d", "a2d", "cube", "acube"];
    let all = [Line, Plane, Volume, Lines, Planes, Cube, Cubes];
    form.take_one(&names).map(|index| all[index])
}

/// The row of an object's value.
fn handle<'t>(decoder: Decoder<'_, 't, '_>, operand: &Operand<'t>) -> Result<Row, String> {
    decoder.source(operand, Type::B64)
}

/// The object and the coordinates of `[object, {x, y}]`, as rows.
fn place<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    operand: &Operand<'t>,
    geometry: Geometry,
    ty: Type,
) -> Result<Vec<Row>, String> {
    let Operand::Place(parts) = operand else {
        return form.refuse();
    };
    let [object, coordinates] = parts.as_slice() else {
        return form.refuse();
    };
    let coordinates = vector(coordinates);
    let count = geometry.coordinates();
    if coordinates.len() < count || coordinates.len() > 4 {
        return form.refuse();
    }
    let mut rows = vec![handle(decoder, object)?];
    for (index, coordinate) in coordinates[..count].iter().enumerate() {
        let is_layer = index == 0 && geometry.has_layers();
        let ty = if is_layer { Type::B32 } else { ty };
        rows.push(decoder.source(coordinate, ty)?);
    }
    Ok(rows)
}

/// The parts of a vector; one operand is a vector of one.
fn vector<'o, 't>(operand: &'o Operand<'t>) -> &'o [Operand<'t>] {
    match operand {
        Operand::Vector(parts) => parts,
        single => std::slice::from_ref(single),
    }
}

/// Adds an operation whose rows are in a list, and settles its results.
fn emit<'t>(
    decoder: Decoder<'_, 't, '_>,
    (handler, immediate, count): (Handler, i64, u8),
    reads: Vec<Row>,
    results: &[Operand<'t>],
    ty: Type,
) -> Result<(), String> {
    let writes: Vec<Row> = results
        .iter()
        .map(|result| decoder.destination(result, ty))
        .collect::<Result<_, _>>()?;
    let link = decoder.list(OperandList {
        reads,
        writes: writes.clone(),
    });
    let mut op = Op::new(Kind::Straight, handler);
    (op.immediate, op.count, op.link) = (immediate, count, link);
    op.extra_role = Role::List;
    decoder.emit(op);
    for (result, row) in results.iter().zip(writes) {
        decoder.settle(result, row, ty)?;
    }
    Ok(())
}

/// The result's type, and whether it is pairs of halves.
fn take_result(form: &mut Form<'_>) -> Result<(Type, bool), String> {
    let is_pairs = form.take("v2");
    if !is_pairs {
        form.take("v4");
    }
    match (form.take_type()?, is_pairs) {
        (Type::F16x2, true) => Ok((Type::B32, true)),
        (Type::U32 | Type::S32 | Type::F32, false) => Ok((Type::B32, false)),
        _ => form.refuse(),
    }
}

/// Whether coordinates are floats.
fn take_coordinates(form: &mut Form<'_>) -> Result<bool, String> {
    match form.take_type()? {
        Type::F32 => Ok(true),
        Type::S32 => Ok(false),
        _ => form.refuse(),
    }
}

/// `tex.geometry.v4.type.type {…}, [object, {…}]`, with a level or gradients behind.
fn fetch<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let mode = match form.take_one(&["base", "level", "grad"]) {
        Some(1) => Mode::Level,
        Some(2) => Mode::Gradient,
        _ => Mode::Base,
    };
    let Some(geometry) = take_geometry(form) else {
        return form.refuse();
    };
    let (ty, is_half) = take_result(form)?;
    let is_float = take_coordinates(form)?;
    let coordinates = if is_float { Type::F32 } else { Type::S32 };
    let [results, from, behind @ ..] = operands else {
        return form.refuse();
    };
    if !is_float && (geometry.is_cube() || mode == Mode::Gradient) {
        return form.refuse();
    }
    let mut reads = place(decoder, form, from, geometry, coordinates)?;
    let parts = match geometry.is_cube() {
        true => 3,
        false => geometry.dimensions(),
    };
    match (mode, behind) {
        (Mode::Level, [level]) => reads.push(decoder.source(level, coordinates)?),
        (Mode::Gradient, [in_x, in_y]) => {
            for gradient in [in_x, in_y] {
                let gradient = vector(gradient);
                if gradient.len() < parts {
                    return form.refuse();
                }
                for part in &gradient[..parts] {
                    reads.push(decoder.source(part, Type::F32)?);
                }
            }
        }
        (Mode::Base, []) => {}
        _ => return form.refuse(),
    }
    let fetch = Fetch {
        geometry,
        is_float,
        mode,
        is_half,
    };
    let results = vector(results);
    if results.len() != if is_half { 2 } else { 4 } {
        return form.refuse();
    }
    emit(decoder, (sample(), fetch.code(), 1), reads, results, ty)
}

/// `tld4.channel.2d.v4.type.f32 {…}, [object, {…}]`
fn gather<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let Some(component) = form.take_one(&["r", "g", "b", "a"]) else {
        return form.refuse();
    };
    let geometry = take_geometry(form).filter(|geometry| geometry.dimensions() == 2);
    let Some(geometry) = geometry else {
        return form.refuse();
    };
    let (ty, is_half) = take_result(form)?;
    let is_float = take_coordinates(form)?;
    let [results, from] = operands else {
        return form.refuse();
    };
    let results = vector(results);
    if !is_float || is_half || results.len() != 4 {
        return form.refuse();
    }
    let reads = place(decoder, form, from, geometry, Type::F32)?;
    let fetch = Fetch {
        geometry,
        is_float,
        mode: Mode::Gather(component as u8),
        is_half,
    };
    emit(decoder, (sample(), fetch.code(), 1), reads, results, ty)
}

/// `txq.query.b32 d, [object]`, and `suq`.
fn query<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    use Query::*;
    let has_level = form.take("level");
    let names = [
        ("width", Width),
        ("height", Height),
        ("depth", Depth),
        ("array_size", Layers),
        ("num_mipmap_levels", Levels),
        ("num_samples", Samples),
        ("normalized_coords", IsNormalised),
        ("filter_mode", FilterMode),
        ("addr_mode_0", AddressMode0),
        ("addr_mode_1", AddressMode1),
        ("addr_mode_2", AddressMode2),
    ];
    let found = names.into_iter().find(|(name, _)| form.take(name));
    let Some((_, query)) = found else {
        return form.refuse();
    };
    let is_surface = form.base == "suq";
    let of_surfaces = matches!(query, Width | Height | Depth | Layers);
    if form.take_type()? != Type::B32 || (is_surface && (has_level || !of_surfaces)) {
        return form.refuse();
    }
    let [result, from, levels @ ..] = operands else {
        return form.refuse();
    };
    let Operand::Address(object, 0) = from else {
        return form.refuse();
    };
    if levels.len() != usize::from(has_level) {
        return form.refuse();
    }
    let mut reads = vec![handle(decoder, object)?];
    for level in levels {
        reads.push(decoder.source(level, Type::B32)?);
    }
    let what = (ask(), i64::from(is_surface), query as u8);
    emit(
        decoder,
        what,
        reads,
        std::slice::from_ref(result),
        Type::B32,
    )
}

/// `suld.b`, `sust.b`, `sured.b`.
fn access<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    form.take_all(|part| matches!(part, "ca" | "cg" | "cs" | "cv" | "wb" | "wt"));
    if !form.take("b") {
        return form.refuse();
    }
    let operation = form.take_one(&["add", "min", "max", "and", "or"]);
    let geometry = take_geometry(form).filter(|geometry| !geometry.is_cube());
    let Some(geometry) = geometry else {
        return form.refuse();
    };
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
        ("suld", [results, from]) if operation.is_none() => (Act::Load, from, results),
        ("sust", [from, values]) if operation.is_none() => (Act::Store, from, values),
        ("sured", [from, value]) if count == 1 => {
            let Some(reduction) = operation.and_then(|name| reduction(name, ty)) else {
                return form.refuse();
            };
            (Act::Reduce(reduction), from, value)
        }
        _ => return form.refuse(),
    };
    let values = vector(values);
    let is_plain = matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64);
    let fits = bytes * count <= 16 && values.len() == usize::from(count);
    if !fits || (!is_plain && !matches!(act, Act::Reduce(_))) {
        return form.refuse();
    }
    let mut reads = place(decoder, form, from, geometry, Type::S32)?;
    let access = Access {
        geometry,
        bounds,
        act,
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

fn reduction(name: usize, ty: Type) -> Option<Reduction> {
    Some(match (name, ty) {
        (0, Type::U32 | Type::S32) => Reduction::Add,
        (1, Type::U32) => Reduction::Min,
        (1, Type::S32) => Reduction::MinSigned,
        (2, Type::U32) => Reduction::Max,
        (2, Type::S32) => Reduction::MaxSigned,
        (3, Type::B32) => Reduction::And,
        (4, Type::B32) => Reduction::Or,
        _ => return None,
    })
}
