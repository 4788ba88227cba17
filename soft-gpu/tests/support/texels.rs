//! What a texture's fetches give, in double precision, and the image that they are tried on: an element has two singles.

use soft_gpu::exec::{Descriptor, Resource};

pub(crate) const WIDTH: usize = 13;
pub(crate) const HEIGHT: usize = 7;
const F32: u32 = 0x20;

pub(crate) fn image() -> Vec<f32> {
    (0..WIDTH * HEIGHT * 2)
        .map(|i| ((i * 37 + 11) % 101) as f32 / 8.0)
        .collect()
}

pub(crate) fn descriptor(magic: u64, image: &[f32]) -> Descriptor {
    Descriptor {
        base: image.as_ptr() as u64,
        size: [WIDTH as u64, HEIGHT as u64, 0],
        format: F32,
        channels: 2,
        ..Descriptor::new(magic, Resource::Array)
    }
}

/// The element that a number means: none for the border.
fn reference_place(number: f64, size: usize, mode: u32, normalised: bool) -> Option<usize> {
    let size = size as f64;
    let folded = match mode {
        3 if number < 0.0 || number >= size => return None,
        0 if normalised => number - size * (number / size).floor(),
        2 if normalised => {
            let place = number - 2.0 * size * (number / (2.0 * size)).floor();
            if place < size {
                place
            } else {
                2.0 * size - 1.0 - place
            }
        }
        _ => number.clamp(0.0, size - 1.0),
    };
    Some(folded as usize)
}

/// One lookup in the plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) point: [f32; 2],
    /// Elements that are added.
    pub(crate) offset: [i32; 2],
    /// What the first channel is compared with.
    pub(crate) compared: Option<f32>,
}

impl Asked {
    pub(crate) fn at(point: [f32; 2]) -> Self {
        Self {
            point,
            offset: [0, 0],
            compared: None,
        }
    }

    /// The point in elements.
    fn scaled(&self, how: &Descriptor) -> [f64; 2] {
        let normalised = how.flags & 2 != 0;
        let scaled = |index: usize, size: usize| {
            let value = self.point[index];
            let value = match normalised {
                true => f64::from(value * size as f32),
                false => f64::from(value),
            };
            value + f64::from(self.offset[index])
        };
        [scaled(0, WIDTH), scaled(1, HEIGHT)]
    }

    /// The element in a column and a row, or how the comparison with it ends.
    fn element(&self, how: &Descriptor, image: &[f32], column: f64, row: f64) -> [f64; 2] {
        let normalised = how.flags & 2 != 0;
        let column = reference_place(column, WIDTH, how.address_modes[0], normalised);
        let row = reference_place(row, HEIGHT, how.address_modes[1], normalised);
        let element = match (column, row) {
            (Some(column), Some(row)) => {
                let at = (row * WIDTH + column) * 2;
                [f64::from(image[at]), f64::from(image[at + 1])]
            }
            _ => [f64::from(how.border[0]), f64::from(how.border[1])],
        };
        match self.compared {
            Some(compared) if f64::from(compared) <= element[0] => [1.0, 0.0],
            Some(_) => [0.0; 2],
            None => element,
        }
    }
}

/// The two channels of a filtered or unfiltered lookup.
pub(crate) fn reference(how: &Descriptor, image: &[f32], asked: Asked) -> [f64; 2] {
    let points = asked.scaled(how);
    if how.filter == 0 {
        return asked.element(how, image, points[0].floor(), points[1].floor());
    }
    let firsts = points.map(|point| (point - 0.5).floor());
    let share = |d: usize| ((points[d] - 0.5 - firsts[d]) * 256.0).round() / 256.0;
    let mut sum = [0.0; 2];
    for (right, below) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let weight = |part: u8, share: f64| if part == 1 { share } else { 1.0 - share };
        let weight = weight(right, share(0)) * weight(below, share(1));
        let (column, row) = (firsts[0] + f64::from(right), firsts[1] + f64::from(below));
        let colour = asked.element(how, image, column, row);
        for (sum, colour) in sum.iter_mut().zip(colour) {
            *sum += weight * colour;
        }
    }
    sum
}
