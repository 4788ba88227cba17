//! Textures and surfaces: `tex`, `tld4`, `txq`, `suld`, `sust`, `sured`, `suq`.
//!
//! The value of a texture or surface object is the address of its [`Descriptor`] in device memory, where the driver has put it. So the executor needs no
//! table; and as a kernel can write there, nothing in a descriptor is believed: a wrong one leads to a wrong colour or to a fault, since every element is
//! compared with the launch's allocations. [`mod@sample`] is the arithmetic of textures, [`mod@surface`] that of surfaces; both go lane by lane.
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`Elements`] found it among the allocations.
#![expect(unsafe_code, reason = "device memory is reached by address")]

mod descriptor;
mod sample;
mod surface;

pub use descriptor::{Descriptor, Resource, SURFACE, TEXTURE};
pub(crate) use sample::{Geometry, Mode};
pub(crate) use surface::{Access, Act, Bounds, Reduction};

use zerocopy::FromBytes;

use super::fault::FaultKind;
use super::half::{F16, Half, pack};
use super::op::{Op, OperandList};
use super::rows::{Context, Handler, Isa, LANES, Operation, Outcome, rare_handler};
use super::{Allocations, half};
use sample::{Lookup, Request};

/// Elements in device memory, each read or written where an allocation holds all of it.
pub(crate) struct Elements<'a> {
    allocations: &'a Allocations,
    /// The allocation that was met last.
    last: (u64, u64),
}

impl<'a> Elements<'a> {
    fn new(allocations: &'a Allocations) -> Self {
        Self {
            allocations,
            last: (0, 0),
        }
    }

    /// Whether `bytes` bytes at `address` may be touched.
    fn holds(&mut self, address: u64, bytes: usize) -> bool {
        let Some(end) = address.checked_add(bytes as u64) else {
            return false;
        };
        if address >= self.last.0 && end <= self.last.1 {
            return true;
        }
        match self.allocations.find(address, end) {
            Some(range) => {
                self.last = range;
                true
            }
            None => false,
        }
    }

    /// Up to sixteen bytes, or the address where they are not.
    pub(crate) fn read(&mut self, address: u64, bytes: usize) -> Result<[u8; 16], u64> {
        let mut element = [0; 16];
        let bytes = bytes.min(element.len());
        if !self.holds(address, bytes) {
            return Err(address);
        }
        // SAFETY: an allocation holds them.
        unsafe {
            std::ptr::copy_nonoverlapping(address as *const u8, element.as_mut_ptr(), bytes);
        }
        Ok(element)
    }

    /// Writes up to sixteen bytes.
    pub(crate) fn write(&mut self, address: u64, element: &[u8]) -> Result<(), u64> {
        if !self.holds(address, element.len()) {
            return Err(address);
        }
        // SAFETY: an allocation holds them.
        unsafe {
            std::ptr::copy_nonoverlapping(element.as_ptr(), address as *mut u8, element.len());
        }
        Ok(())
    }

    /// Changes a word at once.
    pub(crate) fn change(&mut self, address: u64, change: impl Fn(u32) -> u32) -> Result<u32, u64> {
        if !address.is_multiple_of(4) || !self.holds(address, 4) {
            return Err(address);
        }
        // SAFETY: an allocation holds the word, which is aligned; kernels that race use atomic operations here too.
        let word = unsafe { std::sync::atomic::AtomicU32::from_ptr(address as *mut u32) };
        let order = std::sync::atomic::Ordering::Relaxed;
        let changed = word.fetch_update(order, order, |value| Some(change(value)));
        Ok(changed.unwrap_or_else(|value| value))
    }

    /// The descriptor that a handle means.
    fn descriptor(&mut self, handle: u64, magic: u64) -> Option<Descriptor> {
        let mut bytes = [0; size_of::<Descriptor>()];
        for (index, piece) in bytes.chunks_exact_mut(16).enumerate() {
            let read = self.read(handle.wrapping_add(index as u64 * 16), 16);
            piece.copy_from_slice(&read.ok()?);
        }
        let descriptor = Descriptor::read_from_bytes(&bytes).ok()?;
        (descriptor.magic == magic).then_some(descriptor)
    }
}

/// The descriptor of the lane before, which mostly is this lane's too.
struct Known {
    magic: u64,
    last: Option<(u64, Descriptor)>,
}

impl Known {
    fn find(&mut self, elements: &mut Elements<'_>, handle: u64) -> Option<Descriptor> {
        match self.last {
            Some((known, descriptor)) if known == handle => Some(descriptor),
            _ => {
                let descriptor = elements.descriptor(handle, self.magic)?;
                self.last = Some((handle, descriptor));
                Some(descriptor)
            }
        }
    }
}

fn list_of<'p>(context: &Context<'p>, op: &Op) -> &'p OperandList {
    let program = context.program;
    &program.code.lists[op.link as usize]
}

/// A handle that is no object's.
fn no_object(context: &mut Context<'_>, handle: u64, what: &str) -> Outcome {
    context.detail = format!("{handle:#x} is no {what} object");
    context.fail(FaultKind::IllegalAddress, Some(handle))
}

/// What `tex` and `tld4` do; in [`Op::immediate`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) geometry: Geometry,
    /// Whether coordinates are floats; else they are integers.
    pub(crate) is_float: bool,
    pub(crate) mode: Mode,
    /// Whether the result is two pairs of halves.
    pub(crate) is_half: bool,
}

impl Form {
    /// As one number.
    pub(crate) fn code(self) -> i64 {
        let (mode, component) = self.mode.code();
        i64::from(self.geometry as u8)
            | i64::from(self.is_float) << 4
            | i64::from(mode) << 5
            | i64::from(component) << 8
            | i64::from(self.is_half) << 10
    }

    fn of(code: i64) -> Self {
        Self {
            geometry: Geometry::of(code as u8 & 15),
            is_float: code >> 4 & 1 != 0,
            mode: Mode::of(code as u8 >> 5 & 7, (code >> 8) as u8 & 3),
            is_half: code >> 10 & 1 != 0,
        }
    }
}

/// `tex` and `tld4`: the list reads the handle, the coordinates, and the level or the gradients; it writes the result.
struct Sample;
impl Operation for Sample {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let (list, form) = (list_of(context, op), Form::of(op.immediate));
        let mut elements = Elements::new(context.allocations);
        let mut known = Known {
            magic: TEXTURE,
            last: None,
        };
        // SAFETY: the decoder gave a wide row for the handle and narrow ones for the rest.
        let (handles, rows) = unsafe {
            let handles: [u64; LANES] = context.load(list.reads[0]);
            let rows: Vec<[u32; LANES]> = list.reads[1..]
                .iter()
                .map(|row| context.load(*row))
                .collect();
            (handles, rows)
        };
        let mut results = [[0_u32; LANES]; 4];
        for lane in (0..LANES).filter(|lane| context.active >> lane & 1 != 0) {
            let Some(descriptor) = known.find(&mut elements, handles[lane]) else {
                return no_object(context, handles[lane], "texture");
            };
            let mut words = [0; 10];
            for (word, row) in words.iter_mut().zip(&rows) {
                *word = row[lane];
            }
            let lookup = Lookup {
                descriptor: &descriptor,
                geometry: form.geometry,
            };
            let request = Request {
                words,
                is_float: form.is_float,
                mode: form.mode,
            };
            match lookup.look_up(&request, &mut elements) {
                Ok(colour) => {
                    for (result, value) in results.iter_mut().zip(colour) {
                        result[lane] = value;
                    }
                }
                Err(address) => {
                    return context.fail(FaultKind::IllegalAddress, Some(address));
                }
            }
        }
        if form.is_half {
            let half = results.map(|row| row.map(|bits| F16::nearest(f32::from_bits(bits))));
            results[0] = std::array::from_fn(|lane| pack(half[1][lane], half[0][lane]));
            results[1] = std::array::from_fn(|lane| pack(half[3][lane], half[2][lane]));
        }
        for (row, result) in list.writes.iter().zip(results) {
            // SAFETY: the decoder gave narrow rows.
            unsafe { context.store(*row, result) };
        }
        Outcome::Continue
    }
}

/// The handler of `tex` and `tld4`.
pub(crate) fn sample() -> Handler {
    rare_handler::<Sample>()
}

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
    IsNormalised,
    FilterMode,
    AddressMode0,
    AddressMode1,
    AddressMode2,
}

const QUERIES: [Query; 11] = [
    Query::Width,
    Query::Height,
    Query::Depth,
    Query::Layers,
    Query::Levels,
    Query::Samples,
    Query::IsNormalised,
    Query::FilterMode,
    Query::AddressMode0,
    Query::AddressMode1,
    Query::AddressMode2,
];

/// `txq`, or `suq` where [`Op::immediate`] is not 0: `d = query(a, level b)`.
struct Ask;
impl Operation for Ask {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let list = list_of(context, op);
        let (magic, what) = match op.immediate {
            0 => (TEXTURE, "texture"),
            _ => (SURFACE, "surface"),
        };
        let query = QUERIES[usize::from(op.count) % QUERIES.len()];
        let mut elements = Elements::new(context.allocations);
        let mut known = Known { magic, last: None };
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
                return no_object(context, handles[lane], what);
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

/// `suld`, `sust` and `sured`: the list reads the handle, the coordinates, and what is stored or reduced with; it writes what is loaded.
struct Surface;
impl Operation for Surface {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let (list, access) = (list_of(context, op), Access::of(op.immediate));
        let mut elements = Elements::new(context.allocations);
        let mut known = Known {
            magic: SURFACE,
            last: None,
        };
        let (coordinates, values) = list.reads[1..].split_at(access.geometry.coordinates());
        // SAFETY: the decoder gave a wide row for the handle, narrow ones for the coordinates, and such as the elements need for values.
        let (handles, places, stored) = unsafe {
            let handles: [u64; LANES] = context.load(list.reads[0]);
            let places: Vec<[i32; LANES]> =
                coordinates.iter().map(|row| context.load(*row)).collect();
            let stored: Vec<[u64; LANES]> = values
                .iter()
                .map(|row| match access.bytes {
                    8 => context.load::<u64>(*row),
                    _ => context.load::<u32>(*row).map(u64::from),
                })
                .collect();
            (handles, places, stored)
        };
        let mut loaded = [[0_u64; LANES]; 4];
        for lane in (0..LANES).filter(|lane| context.active >> lane & 1 != 0) {
            let Some(descriptor) = known.find(&mut elements, handles[lane]) else {
                return no_object(context, handles[lane], "surface");
            };
            let mut place = [0; 4];
            for (word, row) in place.iter_mut().zip(&places) {
                *word = row[lane];
            }
            let mut values = [0; 4];
            for (value, row) in values.iter_mut().zip(&stored) {
                *value = row[lane];
            }
            match access.perform(&descriptor, place, values, &mut elements) {
                Ok(values) => {
                    for (row, value) in loaded.iter_mut().zip(values) {
                        row[lane] = value;
                    }
                }
                Err(fault) => {
                    fault.1.clone_into(&mut context.detail);
                    return context.fail(fault.0, fault.2);
                }
            }
        }
        for (row, values) in list.writes.iter().zip(loaded) {
            // SAFETY: the decoder gave such rows as the elements need.
            unsafe {
                match access.bytes {
                    8 => context.store(*row, values),
                    _ => context.store(*row, values.map(|value| value as u32)),
                }
            }
        }
        Outcome::Continue
    }
}

/// The handler of `suld`, `sust` and `sured`.
pub(crate) fn surface() -> Handler {
    rare_handler::<Surface>()
}

/// Half precision as a float.
fn of_half(bits: u16) -> f32 {
    half::F16(bits).to_f32()
}
