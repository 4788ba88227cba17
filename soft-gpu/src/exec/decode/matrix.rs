//! `mma`, `wmma`, `ldmatrix`, `movmatrix`.

use crate::ptx::{Operand, Type};

use super::super::matrix::{
    BitProduct, Factor, Family, Fragment, Shape, load_fragment, load_tiles, move_tile, multiply,
    store_fragment,
};
use super::super::memory::Target;
use super::super::op::{Kind, Op, OperandList, Role};
use super::super::rows::{binary, nothing};
use super::form::Form;
use super::function::{Address, FunctionDecoder};
use super::memory::{take_space, target};

/// The version of PTX from which on `wmma` says `.aligned`; before, it meant that.
const ALIGNED_SINCE: (u32, u32) = (6, 3);

type Decoder<'a, 't, 'l> = &'a mut FunctionDecoder<'t, 'l>;

/// Decodes `form` if it belongs here.
pub(super) fn decode<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<bool, String> {
    if !matches!(form.base, "mma" | "wmma" | "ldmatrix" | "movmatrix") {
        return Ok(false);
    }
    form.take("sync");
    if !form.take("aligned") && decoder.linker.module.version >= ALIGNED_SINCE {
        return form.refuse_since("it lacks `.aligned`, as PTX has it since 6.3");
    }
    match form.base {
        "mma" => product(decoder, form, Family::Mma, operands)?,
        "ldmatrix" => tiles(decoder, form, operands)?,
        "movmatrix" => transposed(decoder, form, operands)?,
        _ => match form.take_one(&["mma", "load", "store"]) {
            Some(0) => product(decoder, form, Family::Wmma, operands)?,
            Some(1) => load(decoder, form, operands)?,
            Some(_) => store(decoder, form, operands)?,
            None => return form.refuse(),
        },
    }
    Ok(true)
}

/// `m16n8k8` and the like.
fn take_shape(form: &mut Form<'_>) -> Result<[usize; 3], String> {
    let parse = |part: &str| {
        let (m, rest) = part.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
    };
    match form.take_next(parse) {
        Some(shape) => Ok(shape),
        None => form.refuse(),
    }
}

/// The type of an element: those that registers have, and the narrow ones that only matrices have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Factor(Factor),
    F32,
    S32,
}

fn element(name: &str) -> Option<Element> {
    Some(Element::Factor(match name {
        "f16" => Factor::F16,
        "bf16" => Factor::Bf16,
        "tf32" => Factor::Tf32,
        "f64" => Factor::F64,
        "s8" => Factor::S8,
        "u8" => Factor::U8,
        "s4" => Factor::S4,
        "u4" => Factor::U4,
        "b1" => Factor::B1,
        "f32" => return Some(Element::F32),
        "s32" => return Some(Element::S32),
        _ => return None,
    }))
}

/// What is accumulated for factors, and whether it may be packed halves.
fn result_of(factor: Factor) -> (Element, bool) {
    match factor {
        Factor::F16 => (Element::F32, true),
        Factor::Bf16 | Factor::Tf32 => (Element::F32, false),
        Factor::F64 => (Element::Factor(Factor::F64), false),
        _ => (Element::S32, false),
    }
}

/// Whether `wmma` (else `mma`) has this shape.
fn exists(wmma: bool, [m, n, k]: [usize; 3], factor: Factor) -> bool {
    let shape = (m, n, k);
    if wmma {
        let wide = matches!(shape, (16, 16, 16) | (8, 32, 16) | (32, 8, 16));
        return match factor {
            Factor::F16 | Factor::Bf16 | Factor::S8 | Factor::U8 => wide,
            Factor::Tf32 => shape == (16, 16, 8),
            Factor::F64 => shape == (8, 8, 4),
            Factor::S4 | Factor::U4 => shape == (8, 8, 32),
            Factor::B1 => shape == (8, 8, 128),
        };
    }
    match factor {
        Factor::F16 => matches!(shape, (8, 8, 4) | (16, 8, 8) | (16, 8, 16)),
        Factor::Bf16 => matches!(shape, (16, 8, 8) | (16, 8, 16)),
        Factor::Tf32 => matches!(shape, (16, 8, 4) | (16, 8, 8)),
        Factor::F64 => shape == (8, 8, 4),
        Factor::S8 | Factor::U8 => matches!(shape, (8, 8, 16) | (16, 8, 16) | (16, 8, 32)),
        Factor::S4 | Factor::U4 => matches!(shape, (8, 8, 32) | (16, 8, 32) | (16, 8, 64)),
        Factor::B1 => matches!(shape, (8, 8, 128) | (16, 8, 128) | (16, 8, 256)),
    }
}

/// The types of D, A, B and C in the order in which they are written; `wmma` of halves writes only D and C.
fn take_types(form: &mut Form<'_>) -> Result<[Element; 4], String> {
    let mut types = Vec::new();
    while let Some(ty) = form.take_next(element) {
        types.push(ty);
    }
    let half = Element::Factor(Factor::F16);
    match types[..] {
        [d, c] if form.base == "wmma" => Ok([d, half, half, c]),
        [d, a, b, c] => Ok([d, a, b, c]),
        _ => form.refuse(),
    }
}

/// Two layouts: whether A is by columns, and B by lines.
fn take_layouts(form: &mut Form<'_>) -> Option<[bool; 2]> {
    let layout = |part: &str| match part {
        "row" => Some(true),
        "col" => Some(false),
        _ => None,
    };
    let (a, b) = (form.take_next(layout)?, form.take_next(layout)?);
    Some([!a, b])
}

fn product<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    family: Family,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let wmma = family == Family::Wmma;
    let bit_product = form.take_one(&["xor", "and"]);
    let popc = form.take("popc");
    let saturate = form.take("satfinite");
    form.take("rn");
    let size @ [m, n, k] = take_shape(form)?;
    let Some(layouts) = take_layouts(form) else {
        return form.refuse();
    };
    let [d, a, b, c] = take_types(form)?;
    let (Element::Factor(a), Element::Factor(b)) = (a, b) else {
        return form.refuse();
    };
    let (result, halves) = result_of(a);
    let half = |ty: Element| ty == Element::Factor(Factor::F16) && halves;
    let quarters = !wmma && a == Factor::F16 && size == [8, 8, 4];
    let fits = [
        exists(wmma, size, a),
        a.bits() == b.bits() && result_of(b) == (result, halves) && (a == b || a.bits() < 16),
        [c, d].into_iter().all(|ty| ty == result || half(ty)),
        quarters || wmma || half(c) == half(d),
        quarters || wmma || layouts == [false, false],
        (a == Factor::B1) == popc && popc == bit_product.is_some(),
        !saturate || result == Element::S32,
    ];
    if fits.contains(&false) {
        return form.refuse();
    }
    let shape = Shape {
        family: if quarters { Family::Quarters } else { family },
        m,
        n,
        k,
        a,
        b,
        half_c: half(c),
        half_d: half(d),
        saturate,
        a_by_column: layouts[0],
        b_by_line: layouts[1],
        bit_product: if bit_product == Some(1) {
            BitProduct::And
        } else {
            BitProduct::Xor
        },
    };
    let Some(handler) = multiply(decoder.path, shape) else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Collective, handler);
    op.immediate = shape.encode();
    op.e = decoder.constant(u64::from(u32::MAX), false);
    op.extra_role = Role::List;
    let list = product_operands(decoder, form, shape, operands)?;
    op.link = decoder.list(list);
    decoder.emit(op);
    Ok(())
}

/// The registers of a vector operand, or of a single register.
fn registers<'o, 't>(operand: &'o Operand<'t>) -> &'o [Operand<'t>] {
    match operand {
        Operand::Vector(parts) => parts,
        single => std::slice::from_ref(single),
    }
}

fn product_operands<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &Form<'t>,
    shape: Shape,
    operands: &[Operand<'t>],
) -> Result<OperandList, String> {
    let [d, a, b, c] = operands else {
        return form.refuse();
    };
    let [d, a, b, c] = [d, a, b, c].map(registers);
    if [a.len(), b.len(), c.len(), d.len()] != shape.registers() {
        return form.refuse();
    }
    let ty = register_type(shape);
    let mut list = OperandList::default();
    for operand in a.iter().chain(b).chain(c) {
        list.reads.push(decoder.source(operand, ty)?);
    }
    for operand in d {
        list.writes.push(decoder.destination(operand, ty)?);
    }
    Ok(list)
}

/// The type of the registers of all fragments.
fn register_type(shape: Shape) -> Type {
    if shape.a == Factor::F64 {
        Type::B64
    } else {
        Type::B32
    }
}

/// `ldmatrix`
fn tiles<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let count = form.take_one(&["x1", "x2", "x4"]);
    let transposed = form.take("trans");
    let space = take_space(form);
    let [destination, source] = operands else {
        return form.refuse();
    };
    let parts = registers(destination);
    let (Some(count), true, true) = (count, form.take("m8n8"), form.take("b16")) else {
        return form.refuse();
    };
    if parts.len() != 1 << count {
        return form.refuse();
    }
    let mut address = decoder.address(source)?;
    let target = target(decoder, space, &mut address)?;
    let (Some(handler), Ok(offset)) = (load_tiles(target), i32::try_from(address.offset)) else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Collective, handler);
    op.a = address.base;
    op.e = decoder.constant(u64::from(u32::MAX), false);
    op.immediate = i64::from(offset as u32) | i64::from(transposed) << 32;
    op.count = parts.len() as u8;
    for (row, part) in op.extra.iter_mut().zip(parts) {
        *row = decoder.destination(part, Type::B32)?;
    }
    op.extra_role = Role::Written;
    decoder.emit(op);
    Ok(())
}

/// `movmatrix`
fn transposed<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let [d, a] = operands else {
        return form.refuse();
    };
    if !form.take("m8n8") || !form.take("trans") || !form.take("b16") {
        return form.refuse();
    }
    let mut op = Op::new(Kind::Collective, move_tile(decoder.path));
    op.a = decoder.source(a, Type::B32)?;
    op.d = decoder.destination(d, Type::B32)?;
    op.e = decoder.constant(u64::from(u32::MAX), false);
    decoder.emit(op);
    Ok(())
}

/// The fragment that `wmma.load` or `wmma.store` names, and the stride of a matrix without gaps.
fn fragment(form: &mut Form<'_>) -> Result<(Fragment, usize), String> {
    let matrix = form
        .take_one(&["a", "b", "c", "d"])
        .ok_or("wmma without matrix")?;
    let by_column = match form.take_one(&["row", "col"]) {
        Some(layout) => layout == 1,
        None => return form.refuse(),
    };
    let size @ [m, n, k] = take_shape(form)?;
    let Some(ty) = form.take_next(element) else {
        return form.refuse();
    };
    let half = Element::Factor(Factor::F16);
    // C and D do not say what the factors are; any that accumulates so has the same fragments.
    let a = match (matrix, ty) {
        (0 | 1, Element::Factor(factor)) => factor,
        (2 | 3, ty) if ty == half => Factor::F16,
        (2 | 3, Element::Factor(Factor::F64)) => Factor::F64,
        (2 | 3, Element::F32) if k == 8 => Factor::Tf32,
        (2 | 3, Element::F32) => Factor::F16,
        (2 | 3, Element::S32) if k == 32 => Factor::S4,
        (2 | 3, Element::S32) if k == 128 => Factor::B1,
        (2 | 3, Element::S32) => Factor::S8,
        _ => return form.refuse(),
    };
    // Narrow elements lie packed along what is summed.
    let packed = a.bits() >= 8 || matrix > 1 || by_column == (matrix == 1);
    if !exists(true, size, a) || !packed {
        return form.refuse();
    }
    let shape = Shape {
        family: Family::Wmma,
        m,
        n,
        k,
        a,
        b: a,
        half_c: matrix > 1 && ty == half,
        half_d: matrix > 1 && ty == half,
        saturate: false,
        a_by_column: false,
        b_by_line: false,
        bit_product: BitProduct::Xor,
    };
    let fragment = Fragment {
        shape,
        matrix: matrix.min(2) as u8,
        by_column,
    };
    // Without a stride the matrix is packed.
    let (lines, columns) = [(m, k), (k, n), (m, n)][matrix.min(2)];
    let stride = if by_column { lines } else { columns };
    Ok((fragment, stride))
}

/// Fills in what loads and stores have in common, and gives the fragment and where it lies.
fn transfer<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    memory: &Operand<'t>,
    stride: Option<&Operand<'t>>,
    op: &mut Op,
) -> Result<(Fragment, Target), String> {
    let space = take_space(form);
    let (fragment, packed) = fragment(form)?;
    let mut address = decoder.address(memory)?;
    let target = target(decoder, space, &mut address)?;
    (op.immediate, op.count) = fragment.encode();
    op.a = with_offset(decoder, address);
    op.b = match stride {
        Some(operand) => decoder.source(operand, Type::U32)?,
        None => decoder.constant(packed as u64, false),
    };
    op.extra_role = Role::List;
    Ok((fragment, target))
}

/// The row of the address, its offset added.
pub(super) fn with_offset(decoder: Decoder<'_, '_, '_>, address: Address) -> u32 {
    if address.offset == 0 {
        return address.base;
    }
    let (row, path) = (decoder.temporary(address.wide), decoder.path);
    let offset = decoder.constant(address.offset as u64, address.wide);
    let add = if address.wide {
        binary(path, |a: u64, b: u64| a.wrapping_add(b))
    } else {
        binary(path, |a: u32, b: u32| a.wrapping_add(b))
    };
    decoder.apply(add, row, &[address.base, offset]);
    row
}

/// `wmma.load`
fn load<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let [destination, memory, stride @ ..] = operands else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Straight, nothing);
    let (fragment, target) = transfer(decoder, form, memory, stride.first(), &mut op)?;
    let (parts, ty) = (registers(destination), register_type(fragment.shape));
    let Some(handler) = load_fragment(target) else {
        return form.refuse();
    };
    if stride.len() > 1 || parts.len() != fragment.registers() {
        return form.refuse();
    }
    op.handler = handler;
    let mut list = OperandList::default();
    for part in parts {
        list.writes.push(decoder.destination(part, ty)?);
    }
    op.link = decoder.list(list);
    decoder.emit(op);
    Ok(())
}

/// `wmma.store`
fn store<'t>(
    decoder: Decoder<'_, 't, '_>,
    form: &mut Form<'t>,
    operands: &[Operand<'t>],
) -> Result<(), String> {
    let [memory, source, stride @ ..] = operands else {
        return form.refuse();
    };
    let mut op = Op::new(Kind::Straight, nothing);
    let (fragment, target) = transfer(decoder, form, memory, stride.first(), &mut op)?;
    let (parts, ty) = (registers(source), register_type(fragment.shape));
    let Some(handler) = store_fragment(target) else {
        return form.refuse();
    };
    if stride.len() > 1 || fragment.matrix != 2 || parts.len() != fragment.registers() {
        return form.refuse();
    }
    op.handler = handler;
    let mut list = OperandList::default();
    for part in parts {
        list.reads.push(decoder.source(part, ty)?);
    }
    op.link = decoder.list(list);
    decoder.emit(op);
    Ok(())
}
