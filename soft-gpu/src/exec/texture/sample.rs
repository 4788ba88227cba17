//! The arithmetic of textures: which elements a coordinate means, and what is made of them.
//!
//! As the CUDA programming guide's appendix on texture fetching has it: `x` is element `floor(x)`; filtered, the elements around `x - 0.5` are weighted
//! by fractions of eight bits. Normalised coordinates are multiplied by the size first, those that repeat without the periods that they are away from 0.
//! Colours that an element has not are 0, its alpha 1.

use driver_api::array::format;

use super::descriptor::{Descriptor, Level, NORMALISED, Resource};
use super::{Elements, Form, of_half};

/// The dimensions of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Geometry {
    Line,
    Plane,
    Volume,
    Lines,
    Planes,
    Cube,
    Cubes,
}

impl Geometry {
    pub(super) fn of(code: u8) -> Self {
        use Geometry::*;
        [Line, Plane, Volume, Lines, Planes, Cube, Cubes][usize::from(code.min(6))]
    }

    /// Words of the coordinates that mean something, the layer's among them.
    pub(crate) fn coordinates(self) -> usize {
        match self {
            Self::Line => 1,
            Self::Plane | Self::Lines => 2,
            Self::Volume | Self::Planes | Self::Cube => 3,
            Self::Cubes => 4,
        }
    }

    /// Dimensions that are filtered.
    pub(crate) fn dimensions(self) -> usize {
        match self {
            Self::Line | Self::Lines => 1,
            Self::Plane | Self::Planes | Self::Cube | Self::Cubes => 2,
            Self::Volume => 3,
        }
    }

    /// Whether the first coordinate is a layer's number.
    pub(crate) fn has_layers(self) -> bool {
        matches!(self, Self::Lines | Self::Planes | Self::Cubes)
    }

    /// Parts of a gradient.
    pub(crate) fn gradient(self) -> usize {
        match self.is_cube() {
            true => 3,
            false => self.dimensions(),
        }
    }

    pub(crate) fn is_cube(self) -> bool {
        matches!(self, Self::Cube | Self::Cubes)
    }
}

/// Which level, or which neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Level 0.
    Base,
    /// The level in the word behind the coordinates.
    Level,
    /// The level that the gradients behind the coordinates mean.
    Gradient,
    /// A channel of four neighbours of level 0.
    Gather(u8),
}

impl Mode {
    pub(super) fn code(self) -> (u8, u8) {
        match self {
            Self::Base => (0, 0),
            Self::Level => (1, 0),
            Self::Gradient => (2, 0),
            Self::Gather(component) => (3, component),
        }
    }

    pub(super) fn of(code: u8, component: u8) -> Self {
        match code {
            0 => Self::Base,
            1 => Self::Level,
            2 => Self::Gradient,
            _ => Self::Gather(component),
        }
    }
}

/// `CU_TR_ADDRESS_MODE_*`
mod address {
    pub(super) const WRAP: u32 = 0;
    pub(super) const CLAMP: u32 = 1;
    pub(super) const MIRROR: u32 = 2;
    pub(super) const BORDER: u32 = 3;
}
/// `CU_TR_FILTER_MODE_LINEAR`
const LINEAR: u32 = 1;
/// `CU_TRSF_*`
const AS_INTEGER: u32 = 1;
const SRGB: u32 = 16;

/// The words of one lane.
pub(super) struct Request {
    /// The coordinates, then the level, or the gradients in x and in y.
    words: [u32; 10],
    is_float: bool,
    mode: Mode,
    /// Elements that are added to the coordinates.
    offsets: [i32; 3],
    /// What depths are compared with.
    compared: Option<f32>,
}

impl Request {
    /// A request of such words, in the order of the form.
    pub(super) fn new(form: &Form, mut from: impl Iterator<Item = u32>) -> Self {
        let (geometry, mode) = (form.geometry, form.mode);
        let behind = match mode {
            Mode::Base | Mode::Gather(_) => 0,
            Mode::Level => 1,
            Mode::Gradient => 2 * geometry.gradient(),
        };
        let mut words = [0; 10];
        let own = geometry.coordinates() + behind;
        for (word, value) in words[..own].iter_mut().zip(&mut from) {
            *word = value;
        }
        let mut offsets = [0; 3];
        if form.has_offsets {
            for (offset, value) in offsets[..geometry.dimensions()].iter_mut().zip(&mut from) {
                *offset = value.cast_signed();
            }
        }
        let compared = form.has_compared.then(|| from.next()).flatten();
        Self {
            words,
            is_float: form.is_float,
            mode,
            offsets,
            compared: compared.map(f32::from_bits),
        }
    }
}

/// A fetch from a texture.
pub(super) struct Lookup<'d> {
    pub(super) descriptor: &'d Descriptor,
    pub(super) geometry: Geometry,
    pub(super) request: Request,
}

/// Where in a level: element numbers, or coordinates in elements.
#[derive(Clone, Copy)]
enum Position {
    Numbers([i64; 3]),
    Points([f32; 3]),
}

/// The bits of four channels.
type Colour = [u32; 4];

impl Lookup<'_> {
    /// The colour, or an address where no memory is.
    pub(super) fn look_up(&self, elements: &mut Elements<'_>) -> Result<Colour, u64> {
        let (coordinates, layer) = self.place();
        match self.request.mode {
            Mode::Gather(component) => {
                let level = self.descriptor.level(0);
                let position = self.position(&level, coordinates);
                self.gather(&level, position, layer, component, elements)
            }
            Mode::Base => self.in_level(0, coordinates, layer, elements),
            Mode::Level | Mode::Gradient => {
                let wanted = self.wanted_level();
                self.between_levels(wanted, coordinates, layer, elements)
            }
        }
    }

    /// The coordinates without the layer, and the layer.
    fn place(&self) -> ([u32; 3], i64) {
        let request = &self.request;
        let layers = self.descriptor.level(0).size[2];
        let skipped = usize::from(self.geometry.has_layers());
        let mut coordinates = [0; 3];
        coordinates.copy_from_slice(&request.words[skipped..skipped + 3]);
        let layer = match self.geometry.has_layers() {
            true => i64::from(request.words[0]),
            false => 0,
        };
        if !self.geometry.is_cube() {
            return (coordinates, layer.clamp(0, layers - 1));
        }
        let (face, place) = face_of(self.direction());
        let cube = layer.clamp(0, (layers / 6 - 1).max(0));
        let bits = place.map(f32::to_bits);
        ([bits[0], bits[1], 0], cube * 6 + face)
    }

    /// The level that a request means, as a fraction.
    fn wanted_level(&self) -> f32 {
        let (descriptor, request) = (self.descriptor, &self.request);
        let behind = self.geometry.coordinates();
        let level = match request.mode {
            Mode::Level if request.is_float => f32::from_bits(request.words[behind]),
            Mode::Level => request.words[behind].cast_signed() as f32,
            _ => {
                let parts = self.geometry.gradient();
                let length = |first| self.length(&request.words[first..first + parts]);
                length(behind).max(length(behind + parts)).log2()
            }
        };
        let [least, most] = descriptor.level_clamp;
        let level = (level + descriptor.bias).max(least).min(most.max(least));
        level.clamp(0.0, descriptor.last_level() as f32)
    }

    /// How many elements of level 0 a gradient passes.
    fn length(&self, gradient: &[u32]) -> f32 {
        let size = self.descriptor.level(0).size.map(|size| size as f32);
        let mut parts = [0.0; 3];
        for (part, word) in parts.iter_mut().zip(gradient) {
            *part = f32::from_bits(*word);
        }
        let passed = if self.geometry.is_cube() {
            let [s, t] = gradient_on_face(self.direction(), parts);
            // Faces are square, and the last size is that of all faces.
            [s * size[0], t * size[0], 0.0]
        } else if self.is_normalised() {
            std::array::from_fn(|dimension| parts[dimension] * size[dimension])
        } else {
            parts
        };
        passed.map(|part| part * part).iter().sum::<f32>().sqrt()
    }

    /// The direction in which a cube is looked at.
    fn direction(&self) -> [f32; 3] {
        let skipped = usize::from(self.geometry.has_layers());
        std::array::from_fn(|part| f32::from_bits(self.request.words[skipped + part]))
    }

    fn between_levels(
        &self,
        wanted: f32,
        coordinates: [u32; 3],
        layer: i64,
        elements: &mut Elements<'_>,
    ) -> Result<Colour, u64> {
        if self.descriptor.mipmap_filter != LINEAR || !self.is_float() {
            let nearest = (wanted + 0.5).floor() as u32;
            return self.in_level(nearest, coordinates, layer, elements);
        }
        let lower = wanted.floor();
        let weight = fraction(wanted - lower);
        let mut read = |level: u32| self.in_level(level, coordinates, layer, elements);
        let first = read(lower as u32)?;
        if weight == 0.0 {
            return Ok(first);
        }
        let second = read(lower as u32 + 1)?;
        let mut colour = [0; 4];
        for (result, (one, other)) in colour.iter_mut().zip(first.into_iter().zip(second)) {
            let (one, other) = (f32::from_bits(one), f32::from_bits(other));
            *result = ((1.0 - weight) * one + weight * other).to_bits();
        }
        Ok(colour)
    }

    fn is_normalised(&self) -> bool {
        self.descriptor.flags & NORMALISED != 0 || self.geometry.is_cube()
    }

    /// Whether elements are read as floats.
    fn is_float(&self) -> bool {
        match self.descriptor.format {
            format::F16 | format::F32 => true,
            format::U32 | format::S32 => false,
            _ => self.descriptor.flags & AS_INTEGER == 0,
        }
    }

    fn position(&self, level: &Level, coordinates: [u32; 3]) -> Position {
        let offsets = self.request.offsets;
        if !self.request.is_float && !self.geometry.is_cube() {
            let mut numbers = coordinates.map(|word| i64::from(word.cast_signed()));
            for (number, offset) in numbers.iter_mut().zip(offsets) {
                *number += i64::from(offset);
            }
            return Position::Numbers(numbers);
        }
        let mut points = coordinates.map(f32::from_bits);
        if self.is_normalised() {
            for (dimension, point) in points.iter_mut().enumerate() {
                let mode = self.address_mode(dimension);
                *point = in_first_period(*point, mode) * level.size[dimension] as f32;
            }
        }
        for (point, offset) in points.iter_mut().zip(offsets) {
            *point = countable(*point + offset as f32);
        }
        Position::Points(points)
    }

    /// What is done with coordinates outside.
    fn address_mode(&self, dimension: usize) -> u32 {
        match self.descriptor.address_modes[dimension] {
            _ if self.descriptor.resource == Resource::Linear as u32 => address::BORDER,
            _ if self.geometry.is_cube() => address::CLAMP,
            mode => mode,
        }
    }

    fn in_level(
        &self,
        level: u32,
        coordinates: [u32; 3],
        layer: i64,
        elements: &mut Elements<'_>,
    ) -> Result<Colour, u64> {
        let level = self.descriptor.level(level);
        let position = self.position(&level, coordinates);
        let is_filtered = self.descriptor.filter == LINEAR && self.is_float();
        match position {
            Position::Points(points) if is_filtered => self.filter(&level, points, layer, elements),
            Position::Points(points) => {
                let numbers = points.map(|point| point.floor() as i64);
                self.element(&level, numbers, layer, true, elements)
            }
            Position::Numbers(numbers) => self.element(&level, numbers, layer, false, elements),
        }
    }

    /// The weighted sum of the elements around a point.
    fn filter(
        &self,
        level: &Level,
        points: [f32; 3],
        layer: i64,
        elements: &mut Elements<'_>,
    ) -> Result<Colour, u64> {
        let dimensions = self.geometry.dimensions();
        let firsts = points.map(|point| (point - 0.5).floor());
        let mut sum = [0.0_f32; 4];
        for corner in 0..1_usize << dimensions {
            let (mut weight, mut numbers) = (1.0, firsts.map(|first| first as i64));
            for dimension in 0..dimensions {
                let share = fraction(points[dimension] - 0.5 - firsts[dimension]);
                if corner >> dimension & 1 == 0 {
                    weight *= 1.0 - share;
                } else {
                    weight *= share;
                    numbers[dimension] = numbers[dimension].saturating_add(1);
                }
            }
            // What weighs nothing is not read: it may be infinite.
            if weight == 0.0 {
                continue;
            }
            let colour = self.element(level, numbers, layer, true, elements)?;
            for (sum, channel) in sum.iter_mut().zip(colour) {
                *sum += weight * f32::from_bits(channel);
            }
        }
        Ok(sum.map(f32::to_bits))
    }

    /// A channel of the four elements that would be filtered, counter-clockwise from the lower left.
    fn gather(
        &self,
        level: &Level,
        position: Position,
        layer: i64,
        component: u8,
        elements: &mut Elements<'_>,
    ) -> Result<Colour, u64> {
        let (first, wraps) = match position {
            Position::Points(points) => (points.map(|point| (point - 0.5).floor() as i64), true),
            Position::Numbers(numbers) => (numbers, false),
        };
        let mut colour = [0; 4];
        for (result, [x, y]) in colour.iter_mut().zip([[0, 1], [1, 1], [1, 0], [0, 0]]) {
            let numbers = [first[0].saturating_add(x), first[1].saturating_add(y), 0];
            let element = self.element(level, numbers, layer, wraps, elements)?;
            *result = element[usize::from(component & 3)];
        }
        Ok(colour)
    }

    /// The colour of an element, wherever its numbers are. `wraps`: they come from coordinates, which may be normalised.
    fn element(
        &self,
        level: &Level,
        mut numbers: [i64; 3],
        layer: i64,
        wraps: bool,
        elements: &mut Elements<'_>,
    ) -> Result<Colour, u64> {
        let descriptor = self.descriptor;
        let is_linear = descriptor.resource == Resource::Linear as u32;
        let dimensions = self.geometry.dimensions();
        for (dimension, number) in numbers.iter_mut().enumerate().take(dimensions) {
            let mode = self.address_mode(dimension);
            let size = level.size[dimension];
            let place = addressed(*number, size, mode, wraps && self.is_normalised());
            match place {
                Some(place) => *number = place,
                None if is_linear => return Ok(self.missing([0.0; 4])),
                None => return Ok(self.missing(descriptor.border)),
            }
        }
        let (row, slice) = match dimensions {
            1 => (0, layer),
            2 => (numbers[1], layer),
            _ => (numbers[1], numbers[2]),
        };
        let bytes = descriptor.element_bytes();
        let address = level
            .base
            .wrapping_add((slice as u64).wrapping_mul(level.slice))
            .wrapping_add((row as u64).wrapping_mul(level.row))
            .wrapping_add((numbers[0] as u64).wrapping_mul(bytes));
        Ok(self.shade(self.colour(elements.read(address, bytes as usize)?)))
    }

    /// The colour of what is outside.
    fn missing(&self, border: [f32; 4]) -> Colour {
        self.shade(border.map(f32::to_bits))
    }

    /// A colour, or whether what is compared is at most as deep: one or zero in the first channel, as OpenGL's default has it.
    fn shade(&self, colour: Colour) -> Colour {
        let Some(compared) = self.request.compared else {
            return colour;
        };
        let passes = compared <= f32::from_bits(colour[0]);
        let channel = if passes { 1.0_f32 } else { 0.0 };
        [channel.to_bits(), 0, 0, 1.0_f32.to_bits()]
    }

    /// What an element's bytes mean.
    fn colour(&self, element: [u8; 16]) -> Colour {
        let descriptor = self.descriptor;
        let is_float = self.is_float();
        let one = if is_float { 1.0_f32.to_bits() } else { 1 };
        let mut colour = [0, 0, 0, one];
        let channels = descriptor.channels.min(4) as usize;
        for (index, result) in colour.iter_mut().enumerate().take(channels) {
            let value = channel(&element, index, descriptor.format, is_float);
            let is_srgb = descriptor.flags & SRGB != 0
                && descriptor.format == format::U8
                && is_float
                && index < 3;
            *result = match is_srgb {
                true => linear_of_srgb(f32::from_bits(value)).to_bits(),
                false => value,
            };
        }
        colour
    }
}

/// A channel's bits: of a float, or of the integer.
fn channel(element: &[u8; 16], index: usize, format: u32, is_float: bool) -> u32 {
    let byte = element[index];
    let half = u16::from_le_bytes([element[index * 2], element[index * 2 + 1]]);
    let at = index * 4;
    let word = u32::from_le_bytes([
        element[at],
        element[at + 1],
        element[at + 2],
        element[at + 3],
    ]);
    let signed = |value: i32, most: f32| (value as f32 / most).max(-1.0).to_bits();
    match (format, is_float) {
        (format::U8, true) => (f32::from(byte) / 255.0).to_bits(),
        (format::U8, false) => byte.into(),
        (format::S8, true) => signed(byte.cast_signed().into(), 127.0),
        (format::S8, false) => i32::from(byte.cast_signed()).cast_unsigned(),
        (format::U16, true) => (f32::from(half) / 65535.0).to_bits(),
        (format::U16, false) => half.into(),
        (format::S16, true) => signed(half.cast_signed().into(), 32767.0),
        (format::S16, false) => i32::from(half.cast_signed()).cast_unsigned(),
        (format::F16, _) => of_half(half).to_bits(),
        _ => word,
    }
}

/// A weight in fractions of eight bits; one is one of them.
fn fraction(value: f32) -> f32 {
    (value * 256.0).round() / 256.0
}

fn linear_of_srgb(value: f32) -> f32 {
    match value <= 0.04045 {
        true => value / 12.92,
        false => ((value + 0.055) / 1.055).powf(2.4),
    }
}

/// A normalised coordinate without its whole periods: multiplied by the size it would have no bits left for the place between two elements.
fn in_first_period(coordinate: f32, mode: u32) -> f32 {
    let period = match mode {
        address::WRAP => 1.0,
        address::MIRROR => 2.0,
        _ => return coordinate,
    };
    coordinate - period * (coordinate / period).floor()
}

/// A coordinate in elements that can be counted with: no texture reaches as far as the bounds, and what is no number is 0, as for Direct3D.
fn countable(point: f32) -> f32 {
    const FAR: f32 = (1_u32 << 30) as f32;
    match point.is_nan() {
        true => 0.0,
        false => point.clamp(-FAR, FAR),
    }
}

/// The element that a number means, or nothing where the border is. Only normalised coordinates wrap and mirror; others are clamped then.
fn addressed(number: i64, size: i64, mode: u32, is_normalised: bool) -> Option<i64> {
    match mode {
        address::BORDER => (0..size).contains(&number).then_some(number),
        address::WRAP if is_normalised => Some(number.rem_euclid(size)),
        address::MIRROR if is_normalised => {
            let place = number.rem_euclid(2 * size);
            Some(place.min(2 * size - 1 - place))
        }
        _ => Some(number.clamp(0, size - 1)),
    }
}

/// The face of a cube that a direction meets, and where on it, from 0 to 1.
fn face_of(direction: [f32; 3]) -> (i64, [f32; 2]) {
    let face = face_met(direction);
    let [major, s, t] = turned(face, direction);
    (face, [s, t].map(|part| (part / major + 1.0) / 2.0))
}

/// How fast the place on the face that a direction meets goes, where the direction goes as a gradient says.
fn gradient_on_face(direction: [f32; 3], gradient: [f32; 3]) -> [f32; 2] {
    let face = face_met(direction);
    let ([major, s, t], [away, along_s, along_t]) =
        (turned(face, direction), turned(face, gradient));
    [(s, along_s), (t, along_t)].map(|(part, along)| (along - part / major * away) / major / 2.0)
}

/// The face of a cube that a direction meets: that of its largest part.
fn face_met([x, y, z]: [f32; 3]) -> i64 {
    let (wide, high, deep) = (x.abs(), y.abs(), z.abs());
    let (axis, major) = if wide >= high && wide >= deep {
        (0, x)
    } else if high >= deep {
        (1, y)
    } else {
        (2, z)
    };
    axis * 2 + i64::from(major < 0.0)
}

/// What leads away from the middle to a face, then along the face to the right and down.
fn turned(face: i64, [x, y, z]: [f32; 3]) -> [f32; 3] {
    match face {
        0 => [x, -z, -y],
        1 => [-x, z, -y],
        2 => [y, x, z],
        3 => [-y, x, -z],
        4 => [z, x, -y],
        _ => [-z, -x, -y],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_modes_lead_inside_or_to_the_border() {
        let places = |mode| [-5, -1, 0, 3, 4, 9].map(|number| addressed(number, 4, mode, true));
        assert_eq!(places(address::WRAP), [3, 3, 0, 3, 0, 1].map(Some));
        assert_eq!(places(1), [0, 0, 0, 3, 3, 3].map(Some));
        assert_eq!(places(address::MIRROR), [3, 0, 0, 3, 3, 1].map(Some));
        let border = [None, None, Some(0), Some(3), None, None];
        assert_eq!(places(address::BORDER), border);
        assert_eq!(addressed(9, 4, address::WRAP, false), Some(3));
    }

    #[test]
    fn a_repeated_coordinate_keeps_its_place_in_the_period() {
        let reduced = |mode| [0.125, 512.125, -511.875, f32::MAX].map(|x| in_first_period(x, mode));
        assert_eq!(reduced(address::WRAP), [0.125, 0.125, 0.125, 0.0]);
        assert_eq!(reduced(address::MIRROR), [0.125, 0.125, 0.125, 0.0]);
        assert_eq!(in_first_period(-510.125, address::MIRROR), 1.875);
        assert_eq!(in_first_period(-510.125, address::CLAMP), -510.125);
    }

    #[test]
    fn every_coordinate_can_be_counted_with() {
        assert_eq!(countable(-2.5), -2.5);
        assert_eq!(countable(f32::MAX), countable(f32::INFINITY));
        assert!(countable(f32::NEG_INFINITY).is_finite());
        assert_eq!(countable(f32::NAN), 0.0);
    }

    #[test]
    fn a_direction_meets_the_face_of_its_largest_part() {
        assert_eq!(face_of([2.0, 1.0, -1.0]), (0, [0.75, 0.25]));
        assert_eq!(face_of([-2.0, 1.0, -1.0]), (1, [0.25, 0.25]));
        assert_eq!(face_of([0.0, 4.0, 0.0]), (2, [0.5, 0.5]));
        assert_eq!(face_of([1.0, -4.0, 2.0]), (3, [0.625, 0.25]));
        assert_eq!(face_of([1.0, 0.0, 2.0]).0, 4);
        assert_eq!(face_of([1.0, 0.0, -2.0]), (5, [0.25, 0.5]));
    }

    #[test]
    fn weights_have_eight_bits() {
        assert_eq!(fraction(0.5), 0.5);
        assert_eq!(fraction(0.999), 1.0);
        assert_eq!(fraction(0.001), 0.0);
        assert_eq!(fraction(1.0 / 3.0), 85.0 / 256.0);
    }
}
