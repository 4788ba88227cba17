//! What textures, samplers and surfaces are asked: `txq`, `suq`, `istypep`.
//!
//! # Safety
//!
//! As in [`super`].
#![expect(unsafe_code, reason = "rows are read and written")]

use super::super::op::Op;
use super::super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};
use driver_api::array::format;

use super::descriptor::{Descriptor, FORCE_ELEMENTS, Resource, SAMPLER, SURFACE, TEXTURE};
use super::{Elements, Known, list_of, no_object};

/// What `txq` and `suq` ask; in [`Op::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Query {
    Width,
    Height,
    Depth,
    Layers,
    Levels,
    Samples,
    DataType,
    Order,
    IsLinear,
    IsNormalised,
    ForcesElements,
    FilterMode,
    AddressMode0,
    AddressMode1,
    AddressMode2,
}

const QUERIES: [Query; 15] = [
    Query::Width,
    Query::Height,
    Query::Depth,
    Query::Layers,
    Query::Levels,
    Query::Samples,
    Query::DataType,
    Query::Order,
    Query::IsLinear,
    Query::IsNormalised,
    Query::ForcesElements,
    Query::FilterMode,
    Query::AddressMode0,
    Query::AddressMode1,
    Query::AddressMode2,
];

/// The opaque types; in [`Op::count`] of `istypep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Magic {
    Texture,
    Sampler,
    Surface,
}

impl Descriptor {
    /// The answer to a query.
    fn answer(&self, query: Query, level: u32) -> u32 {
        let shape = self.shape_of(level);
        let is_layered = shape.has_layers();
        let size = match query {
            Query::Width => shape.width,
            Query::Height => shape.height,
            Query::Depth if is_layered => 1,
            Query::Depth => shape.depth,
            Query::Layers if is_layered => shape.depth,
            Query::Layers => 1,
            Query::Levels => u64::from(self.levels),
            Query::Samples => 1,
            Query::DataType => self.data_type().into(),
            Query::Order => self.order().into(),
            Query::IsLinear => u64::from(self.resource != Resource::Array as u32),
            Query::IsNormalised => u64::from(self.flags >> 1 & 1),
            Query::ForcesElements => u64::from(self.flags & FORCE_ELEMENTS != 0),
            Query::FilterMode => self.filter.into(),
            Query::AddressMode0 => self.address_mode(0).into(),
            Query::AddressMode1 => self.address_mode(1).into(),
            Query::AddressMode2 => self.address_mode(2).into(),
        };
        size as u32
    }

    /// The address mode by its place in PTX's list: `wrap mirror clamp_ogl clamp_to_edge clamp_to_border`.
    fn address_mode(&self, dimension: usize) -> u32 {
        match self.address_modes[dimension] {
            0 => 0,
            2 => 1,
            1 => 3,
            _ => 4,
        }
    }

    /// The type of a channel, as the PTX ISA numbers it: with OpenCL's numbers.
    fn data_type(&self) -> u32 {
        let is_normalised = self.magic == TEXTURE && self.flags & 1 == 0;
        match (self.format, is_normalised) {
            (format::S8, true) => 0x10d0,
            (format::S16, true) => 0x10d1,
            (format::U8, true) => 0x10d2,
            (format::U16, true) => 0x10d3,
            (format::S8, false) => 0x10d7,
            (format::S16, false) => 0x10d8,
            (format::S32, _) => 0x10d9,
            (format::U8, false) => 0x10da,
            (format::U16, false) => 0x10db,
            (format::U32, _) => 0x10dc,
            (format::F16, _) => 0x10dd,
            _ => 0x10de,
        }
    }

    /// Which channels there are, numbered likewise.
    fn order(&self) -> u32 {
        match self.channels {
            1 => 0x10b0,
            2 => 0x10b2,
            _ => 0x10b5,
        }
    }
}

/// `txq`, or `suq` where [`Op::immediate`] is not 0: `d = query(a, level b)`.
struct Ask;
impl Operation for Ask {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let list = list_of(context, op);
        let (kinds, what): (&'static [u64], _) = match op.immediate {
            0 => (&[TEXTURE, SAMPLER], "texture or sampler"),
            _ => (&[SURFACE], "surface"),
        };
        let query = QUERIES[usize::from(op.count) % QUERIES.len()];
        let mut elements = Elements::new(context.allocations);
        let mut known = Known { kinds, last: None };
        // SAFETY: the decoder gave a wide row for the handle and a narrow one for the level.
        let (handles, levels) = unsafe {
            let handles: [u64; LANES] = context.load(list.reads[0]);
            let levels: [u32; LANES] = list
                .reads
                .get(1)
                .map_or([0; LANES], |row| context.load(*row));
            (handles, levels)
        };
        let mut results = [0; LANES];
        for lane in (0..LANES).filter(|lane| context.active >> lane & 1 != 0) {
            let Some(descriptor) = known.find(&mut elements, handles[lane]) else {
                return no_object(context, lane, handles[lane], what);
            };
            results[lane] = descriptor.answer(query, levels[lane]);
        }
        // SAFETY: the decoder gave a narrow row.
        unsafe { context.store(list.writes[0], results) };
        Outcome::Continue
    }
}

/// The handler of `txq` and `suq`.
pub(crate) fn ask() -> Handler {
    rare_handler::<Ask>()
}

/// `istypep`: whether the value is an object's of the type in [`Op::count`]; no value is wrong.
struct IsType;
impl Operation for IsType {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let list = list_of(context, op);
        let kind = [TEXTURE, SAMPLER, SURFACE][usize::from(op.count) % 3];
        let mut elements = Elements::new(context.allocations);
        // SAFETY: the decoder gave a wide row for the value.
        let values: [u64; LANES] = unsafe { context.load(list.reads[0]) };
        let is_kind = values.map(|value| match elements.descriptor(value, &[kind]) {
            Some(_) => u32::MAX,
            None => 0,
        });
        // SAFETY: the decoder gave a predicate's row.
        unsafe { context.store(list.writes[0], is_kind) };
        Outcome::Continue
    }
}

/// The handler of `istypep`.
pub(crate) fn is_type() -> Handler {
    rare_handler::<IsType>()
}
