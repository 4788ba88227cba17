//! Textures: fetches, and the questions that textures, samplers and surfaces are asked.
//!
//! An object is named by its value in a register, or by a module's or a kernel's variable of an opaque type.

use crate::ptx::{Operand, Type};

use super::super::op::{Kind, Op, OperandList, Role, Row};
use super::super::program::Fixed;
use super::super::rows::{Handler, unary};
use super::super::texture::{
    Form as Fetch, Geometry, Magic, Mode, Query, Texels, ask, is_type, sample,
};
use super::form::Form;
use super::function::FunctionDecoder;
use super::names::Binding;
use super::surface;

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
        "istypep" => ask_type(decoder, form, operands)?,
        "suld" | "sust" | "sured" => surface::access(decoder, form, operands)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The geometry; multisampled ones are refused by name.
pub(super) fn take_geometry(form: &mut Form<'_>) -> Result<Geometry, String> {
    use Geometry::*;
    if form.has("2dms") || form.has("a2dms") {
        let reason = "no CUDA driver makes multisampled arrays";
        return form.refuse_since(reason);
    }
    let names = ["1d", "2d", "3d", "a1d", "a2d", "cube", "acube"];
    let all = [Line, Plane, Volume, Lines, Planes, Cube, Cubes];
    match form.take_one(&names) {
        Some(index) => Ok(all[index]),
        None => form.refuse(),
    }
}

/// The row of an object's value. A kernel's parameter of an opaque type holds it.
fn handle<'t>(decoder: Decoder<'_, 't, '_>, operand: &Operand<'t>) -> Result<Row, String> {
    if let Operand::Name(name) = operand
        && let Some(Binding::KernelParam(offset)) = decoder.names.find(name)
    {
        let value = Fixed::Param {
            offset,
            bytes: 8,
            signed: false,
        };
        return Ok(decoder.fixed(value, true));
    }
    decoder.source(operand, Type::B64)
}

/// The object and the coordinates of `[object, {x, y}]`, as rows, and the sampler of `[object, sampler, {x, y}]`.
pub(super) fn place<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    operand: &Operand<'t>,
    geometry: Geometry,
    ty: Type,
) -> Result<(Vec<Row>, Option<Row>), String> {
    let Operand::Place(parts) = operand else {
        return form.refuse();
    };
    let (object, sampler, coordinates) = match parts.as_slice() {
        [object, coordinates] => (object, None, coordinates),
        [object, sampler, coordinates] => (object, Some(sampler), coordinates),
        _ => return form.refuse(),
    };
    if sampler.is_some() && !decoder.linker.module.has_samplers {
        return form.refuse_since("a module without `texmode_independent` has no samplers");
    }
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
    let sampler = sampler
        .map(|sampler| handle(decoder, sampler))
        .transpose()?;
    Ok((rows, sampler))
}

/// The parts of a vector; one operand is a vector of one.
pub(super) fn vector<'o, 't>(operand: &'o Operand<'t>) -> &'o [Operand<'t>] {
    match operand {
        Operand::Vector(parts) => parts,
        single => std::slice::from_ref(single),
    }
}

/// Adds an operation whose rows are in a list, and settles its results.
pub(super) fn emit<'t>(
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

/// The type of a result's registers, and what is in them.
fn take_result(form: &mut Form<'_>) -> Result<(Type, Texels), String> {
    let is_pairs = form.take("v2");
    if !is_pairs && !form.take("v4") {
        return form.refuse();
    }
    match (form.take_type()?, is_pairs) {
        (Type::F16x2, true) => Ok((Type::B32, Texels::Pairs)),
        (Type::F16, false) => Ok((Type::F16, Texels::Halves)),
        (Type::U32 | Type::S32 | Type::F32, false) => Ok((Type::B32, Texels::Words)),
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

/// A fetch's results, `{…}` or `{…}|p`: the parts, and the predicate.
fn results<'o, 't>(operand: &'o Operand<'t>) -> (&'o [Operand<'t>], Option<&'o Operand<'t>>) {
    match operand {
        Operand::Pair(results, resident) => (vector(results), Some(resident)),
        results => (vector(results), None),
    }
}

/// What stands behind a fetch's place: `{, {offsets}} {, compared}`. Adds the rows, offsets first, and says which there are.
fn behind<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    operands: &[Operand<'t>],
    fetch: &mut Fetch,
    reads: &mut Vec<Row>,
) -> Result<(), String> {
    let (offsets, compared) = match operands {
        [offsets @ Operand::Vector(_), compared @ ..] => (Some(offsets), compared),
        compared => (None, compared),
    };
    if let Some(offsets) = offsets {
        let (offsets, count) = (vector(offsets), fetch.geometry.dimensions());
        if fetch.geometry.is_cube() || offsets.len() < count || offsets.len() > 4 {
            return form.refuse();
        }
        for offset in &offsets[..count] {
            reads.push(decoder.source(offset, Type::S32)?);
        }
        fetch.has_offsets = true;
    }
    match compared {
        [] => Ok(()),
        [compared] if fetch.is_float && fetch.geometry != Geometry::Volume => {
            reads.push(decoder.source(compared, Type::F32)?);
            fetch.has_compared = true;
            Ok(())
        }
        _ => form.refuse(),
    }
}

/// Adds a fetch. All data is resident, which the predicate says.
fn emit_fetch<'t>(
    decoder: Decoder<'_, 't, '_>,
    fetch: Fetch,
    reads: Vec<Row>,
    (parts, resident): (&[Operand<'t>], Option<&Operand<'t>>),
    ty: Type,
) -> Result<(), String> {
    emit(decoder, (sample(), fetch.code(), 1), reads, parts, ty)?;
    if let Some(resident) = resident {
        let row = decoder.destination(resident, Type::Pred)?;
        let yes = decoder.constant(u64::MAX, false);
        let copy = unary(decoder.path, |a: u32| a);
        decoder.apply(copy, row, &[yes]);
    }
    Ok(())
}

/// `tex.geometry.v4.type.type {…}, [object, {…}]`, with a level or gradients behind, then offsets, then what depths are compared with.
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
    let geometry = take_geometry(form)?;
    let (ty, texels) = take_result(form)?;
    let is_float = take_coordinates(form)?;
    let coordinates = if is_float { Type::F32 } else { Type::S32 };
    let [to, from, others @ ..] = operands else {
        return form.refuse();
    };
    if !is_float && (geometry.is_cube() || mode == Mode::Gradient) {
        return form.refuse();
    }
    let (mut reads, sampler) = place(decoder, form, from, geometry, coordinates)?;
    let others = match (mode, others) {
        (Mode::Level, [level, others @ ..]) => {
            reads.push(decoder.source(level, coordinates)?);
            others
        }
        (Mode::Gradient, [in_x, in_y, others @ ..]) => {
            gradients(decoder, form, geometry, [in_x, in_y], &mut reads)?;
            others
        }
        (Mode::Base, others) => others,
        _ => return form.refuse(),
    };
    let mut fetch = Fetch {
        geometry,
        is_float,
        mode,
        texels,
        has_offsets: false,
        has_compared: false,
        has_sampler: sampler.is_some(),
    };
    behind(decoder, form, others, &mut fetch, &mut reads)?;
    reads.extend(sampler);
    let to = results(to);
    if to.0.len() != texels.registers() {
        return form.refuse();
    }
    emit_fetch(decoder, fetch, reads, to, ty)
}

/// Adds the rows of gradients in x and in y.
fn gradients<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    geometry: Geometry,
    gradients: [&Operand<'t>; 2],
    reads: &mut Vec<Row>,
) -> Result<(), String> {
    let parts = geometry.gradient();
    for gradient in gradients.map(vector) {
        if gradient.len() < parts {
            return form.refuse();
        }
        for part in &gradient[..parts] {
            reads.push(decoder.source(part, Type::F32)?);
        }
    }
    Ok(())
}

/// `tld4.channel.2d.v4.type.f32 {…}, [object, {…}]`, with offsets behind, and what depths are compared with.
fn gather<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let Some(component) = form.take_one(&["r", "g", "b", "a"]) else {
        return form.refuse();
    };
    let geometry = take_geometry(form)?;
    let (ty, texels) = take_result(form)?;
    let is_float = take_coordinates(form)?;
    let [to, from, others @ ..] = operands else {
        return form.refuse();
    };
    let to = results(to);
    let is_one =
        geometry.dimensions() == 2 && is_float && texels == Texels::Words && to.0.len() == 4;
    if !is_one {
        return form.refuse();
    }
    let (mut reads, sampler) = place(decoder, form, from, geometry, Type::F32)?;
    let mut fetch = Fetch {
        geometry,
        is_float,
        mode: Mode::Gather(component as u8),
        texels,
        has_offsets: false,
        has_compared: false,
        has_sampler: sampler.is_some(),
    };
    behind(decoder, form, others, &mut fetch, &mut reads)?;
    reads.extend(sampler);
    emit_fetch(decoder, fetch, reads, to, ty)
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
        ("channel_data_type", DataType),
        ("channel_order", Order),
        ("memory_layout", IsLinear),
        ("num_mipmap_levels", Levels),
        ("num_samples", Samples),
        ("normalized_coords", IsNormalised),
        ("force_unnormalized_coords", ForcesElements),
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
    let is_known = match is_surface {
        true => matches!(
            query,
            Width | Height | Depth | Layers | DataType | Order | IsLinear
        ),
        false => query != IsLinear,
    };
    let has_levels = matches!(query, Width | Height | Depth);
    if form.take_type()? != Type::B32 || !is_known || (has_level && (is_surface || !has_levels)) {
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

/// `istypep.type p, a`: whether `a` is the value of an object of that type.
fn ask_type<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let Some(kind) = form.take_one(&["texref", "samplerref", "surfref"]) else {
        return form.refuse();
    };
    let magic = [Magic::Texture, Magic::Sampler, Magic::Surface][kind];
    let [result, value] = operands else {
        return form.refuse();
    };
    let reads = vec![handle(decoder, value)?];
    let writes = vec![decoder.destination(result, Type::Pred)?];
    let mut op = Op::new(Kind::Straight, is_type());
    op.link = decoder.list(OperandList { reads, writes });
    (op.count, op.extra_role) = (magic as u8, Role::List);
    decoder.emit(op);
    Ok(())
}
