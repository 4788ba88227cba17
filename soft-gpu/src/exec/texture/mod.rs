//! Textures and surfaces: `tex`, `tld4`, `txq`, `istypep`, `suld`, `sust`, `sured`, `suq`.
//!
//! The value of a texture or surface object is the address of its [`Descriptor`] in device memory, where the driver has put it. So the executor needs no
//! table; and as a kernel can write there, nothing in a descriptor is believed: a wrong one leads to a wrong colour or to a fault, since every element is
//! compared with the launch's allocations. [`mod@sample`] is the arithmetic of textures, [`mod@surface`] that of surfaces, [`query`] what is told of them; all go
//! lane by lane.
//!
//! # Safety
//!
//! As in [`super::rows`]; memory is touched only where [`Elements`] found it among the allocations.
#![expect(unsafe_code, reason = "device memory is reached by address")]

mod descriptor;
mod query;
mod sample;
mod surface;

pub use descriptor::{Descriptor, FORCE_ELEMENTS, Resource, SAMPLER, SURFACE, TEXTURE};
pub(crate) use query::{Magic, Query, ask, is_type};
pub(crate) use sample::{Geometry, Mode};
pub(crate) use surface::{Access, Act, Bounds, Reduction};

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

    /// Changes a word of four bytes, or of eight, at once.
    pub(crate) fn change(
        &mut self,
        address: u64,
        bytes: usize,
        change: impl Fn(u64) -> u64,
    ) -> Result<(), u64> {
        if !address.is_multiple_of(bytes as u64) || !self.holds(address, bytes) {
            return Err(address);
        }
        let order = Ordering::Relaxed;
        if bytes == 8 {
            // SAFETY: an allocation holds the word, which is aligned; kernels that race use atomic operations here too.
            let word = unsafe { AtomicU64::from_ptr(address as *mut u64) };
            _ = word.fetch_update(order, order, |value| Some(change(value)));
        } else {
            // SAFETY: as above.
            let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
            _ = word.fetch_update(order, order, |value| Some(change(value.into()) as u32));
        }
        Ok(())
    }

    /// The descriptor that a handle means, if it is of such a kind.
    fn descriptor(&mut self, handle: u64, kinds: &[u64]) -> Option<Descriptor> {
        let mut bytes = [0; size_of::<Descriptor>()];
        for (index, piece) in bytes.chunks_exact_mut(16).enumerate() {
            let read = self.read(handle.wrapping_add(index as u64 * 16), 16);
            piece.copy_from_slice(&read.ok()?);
        }
        let descriptor = Descriptor::read_from_bytes(&bytes).ok()?;
        kinds.contains(&descriptor.magic).then_some(descriptor)
    }
}

/// The descriptor of the lane before, which mostly is this lane's too.
struct Known {
    kinds: &'static [u64],
    last: Option<(u64, Descriptor)>,
}

impl Known {
    fn find(&mut self, elements: &mut Elements<'_>, handle: u64) -> Option<Descriptor> {
        match self.last {
            Some((known, descriptor)) if known == handle => Some(descriptor),
            _ => {
                let descriptor = elements.descriptor(handle, self.kinds)?;
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
fn no_object(context: &mut Context<'_>, lane: usize, handle: u64, what: &str) -> Outcome {
    context.detail = format!("{handle:#x} is no {what} object");
    context.fail_in(lane, FaultKind::IllegalAddress, Some(handle))
}

/// What is in the registers of a fetch's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Texels {
    /// Four words.
    Words,
    /// Four halves.
    Halves,
    /// Two pairs of halves.
    Pairs,
}

impl Texels {
    /// How many registers.
    pub(crate) fn registers(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Words | Self::Halves => 4,
        }
    }
}

/// What `tex` and `tld4` do; in [`Op::immediate`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) geometry: Geometry,
    /// Whether coordinates are floats; else they are integers.
    pub(crate) is_float: bool,
    pub(crate) mode: Mode,
    pub(crate) texels: Texels,
    /// What the list reads behind coordinates and level or gradients, in this order.
    pub(crate) has_offsets: bool,
    pub(crate) has_compared: bool,
    pub(crate) has_sampler: bool,
}

impl Form {
    /// As one number.
    pub(crate) fn code(self) -> i64 {
        let (mode, component) = self.mode.code();
        i64::from(self.geometry as u8)
            | i64::from(self.is_float) << 4
            | i64::from(mode) << 5
            | i64::from(component) << 8
            | i64::from(self.texels as u8) << 10
            | i64::from(self.has_offsets) << 12
            | i64::from(self.has_compared) << 13
            | i64::from(self.has_sampler) << 14
    }

    fn of(code: i64) -> Self {
        Self {
            geometry: Geometry::of(code as u8 & 15),
            is_float: code >> 4 & 1 != 0,
            mode: Mode::of(code as u8 >> 5 & 7, (code >> 8) as u8 & 3),
            texels: match code >> 10 & 3 {
                0 => Texels::Words,
                1 => Texels::Halves,
                _ => Texels::Pairs,
            },
            has_offsets: code >> 12 & 1 != 0,
            has_compared: code >> 13 & 1 != 0,
            has_sampler: code >> 14 & 1 != 0,
        }
    }
}

/// `tex` and `tld4`: the list reads the handle, the coordinates, the level or the gradients, and what the form says; it writes the result.
struct Sample;
impl Operation for Sample {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let (list, form) = (list_of(context, op), Form::of(op.immediate));
        let mut elements = Elements::new(context.allocations);
        let known = |kinds: &'static [u64]| Known { kinds, last: None };
        let (mut textures, mut samplers) = (known(&[TEXTURE]), known(&[SAMPLER, TEXTURE]));
        let (narrow, wide) =
            list.reads[1..].split_at(list.reads.len() - 1 - usize::from(form.has_sampler));
        // SAFETY: the decoder gave wide rows for the handles and narrow ones for the rest.
        let (handles, of_samplers, rows) = unsafe {
            let handles: [u64; LANES] = context.load(list.reads[0]);
            let of_samplers: Option<[u64; LANES]> = wide.first().map(|row| context.load(*row));
            let rows: Vec<[u32; LANES]> = narrow.iter().map(|row| context.load(*row)).collect();
            (handles, of_samplers, rows)
        };
        let mut results = [[0_u32; LANES]; 4];
        for lane in (0..LANES).filter(|lane| context.active >> lane & 1 != 0) {
            let Some(mut descriptor) = textures.find(&mut elements, handles[lane]) else {
                return no_object(context, lane, handles[lane], "texture");
            };
            if let Some(handles) = &of_samplers {
                let Some(sampler) = samplers.find(&mut elements, handles[lane]) else {
                    return no_object(context, lane, handles[lane], "sampler");
                };
                descriptor.set_sampler(&sampler);
            }
            let lookup = Lookup {
                descriptor: &descriptor,
                geometry: form.geometry,
                request: Request::new(&form, rows.iter().map(|row| row[lane])),
            };
            match lookup.look_up(&mut elements) {
                Ok(colour) => {
                    for (result, value) in results.iter_mut().zip(colour) {
                        result[lane] = value;
                    }
                }
                Err(address) => {
                    return context.fail_in(lane, FaultKind::IllegalAddress, Some(address));
                }
            }
        }
        for (row, result) in list.writes.iter().zip(packed(results, form.texels)) {
            // SAFETY: the decoder gave narrow rows.
            unsafe { context.store(*row, result) };
        }
        Outcome::Continue
    }
}

/// The words as the registers hold them.
fn packed(words: [[u32; LANES]; 4], texels: Texels) -> [[u32; LANES]; 4] {
    if texels == Texels::Words {
        return words;
    }
    let half = words.map(|row| row.map(|bits| F16::nearest(f32::from_bits(bits))));
    let pair = |low: usize, high: usize| {
        std::array::from_fn(|lane| pack(half[high][lane], half[low][lane]))
    };
    match texels {
        Texels::Pairs => [pair(0, 1), pair(2, 3), [0; LANES], [0; LANES]],
        _ => half.map(|row| row.map(|half| u32::from(half.0))),
    }
}

/// The handler of `tex` and `tld4`.
pub(crate) fn sample() -> Handler {
    rare_handler::<Sample>()
}

/// `suld`, `sust` and `sured`: the list reads the handle, the coordinates, and what is stored or reduced with; it writes what is loaded.
struct Surface;
impl Operation for Surface {
    unsafe fn execute<P: Isa>(context: &mut Context<'_>, op: &Op) -> Outcome {
        let (list, access) = (list_of(context, op), Access::of(op.immediate));
        let mut elements = Elements::new(context.allocations);
        let mut known = Known {
            kinds: &[SURFACE],
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
                return no_object(context, lane, handles[lane], "surface");
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
                    return context.fail_in(lane, fault.0, fault.2);
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
