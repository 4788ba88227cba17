//! Which lane holds which element of a fragment.

use super::super::rows::LANES;
use super::Shape;

/// Line and column of part `part` of a lane's register.
pub(super) type Place = (usize, usize);

/// Where the elements of the fragments are.
pub(super) trait Layout {
    /// In A.
    fn a(shape: Shape, register: usize, lane: usize, part: usize) -> Place;
    /// In B.
    fn b(shape: Shape, register: usize, lane: usize, part: usize) -> Place;
    /// In C and D, of which a register holds `per_register` elements.
    fn c(shape: Shape, per_register: usize, register: usize, lane: usize, part: usize) -> Place;
}

/// The fragments of `mma`: eight lines of A (columns of B) over groups of four lanes, registers of sixteen lines
/// alternating between the upper and the lower eight.
pub(super) struct Mma;

impl Layout for Mma {
    #[inline(always)]
    fn a(shape: Shape, register: usize, lane: usize, part: usize) -> Place {
        let per_register = shape.a.per_register();
        let (below, right) = if shape.m == 16 {
            (register % 2, register / 2)
        } else {
            (0, register)
        };
        let column = right * 4 * per_register + lane % 4 * per_register + part;
        (lane / 4 + 8 * below, column)
    }

    #[inline(always)]
    fn b(shape: Shape, register: usize, lane: usize, part: usize) -> Place {
        let per_register = shape.b.per_register();
        let line = register * 4 * per_register + lane % 4 * per_register + part;
        (line, lane / 4)
    }

    #[inline(always)]
    fn c(_: Shape, per_register: usize, register: usize, lane: usize, part: usize) -> Place {
        let element = register * per_register + part;
        (lane / 4 + 8 * (element / 2), lane % 4 * 2 + element % 2)
    }
}

/// The fragments of `wmma`: elements in the order of lines, those of B in the order of columns, so that a register
/// holds what is summed. Registers beyond the last element begin anew.
pub(super) struct Wmma;

impl Wmma {
    #[inline(always)]
    fn place(
        [lines, columns]: [usize; 2],
        per_register: usize,
        register: usize,
        lane: usize,
        part: usize,
    ) -> Place {
        let index = (register * LANES + lane) * per_register + part;
        // Powers of two, all of them; divisions are slow.
        (
            index >> columns.trailing_zeros() & (lines - 1),
            index & (columns - 1),
        )
    }
}

impl Layout for Wmma {
    #[inline(always)]
    fn a(shape: Shape, register: usize, lane: usize, part: usize) -> Place {
        let per_register = shape.a.per_register();
        Wmma::place([shape.m, shape.k], per_register, register, lane, part)
    }

    #[inline(always)]
    fn b(shape: Shape, register: usize, lane: usize, part: usize) -> Place {
        let per_register = shape.b.per_register();
        let (column, line) = Wmma::place([shape.n, shape.k], per_register, register, lane, part);
        (line, column)
    }

    #[inline(always)]
    fn c(shape: Shape, per_register: usize, register: usize, lane: usize, part: usize) -> Place {
        Wmma::place([shape.m, shape.n], per_register, register, lane, part)
    }
}

/// The quarter of the warp that a lane belongs to in `mma.m8n8k4` of halves, and the first of the lines (of A) or columns
/// (of B) that it holds.
#[inline(always)]
pub(super) fn quarter(lane: usize) -> (usize, usize) {
    (lane % 16 / 4, lane / 16 * 4)
}

/// Where element `element` of a lane's singles is in the eight by eight result of its quarter.
#[inline(always)]
pub(super) fn quarter_single(lane: usize, element: usize) -> Place {
    let (_, first) = quarter(lane);
    let line = first + (lane & 1) + (element & 2);
    let column = (element & 4) + (lane & 2) + (element & 1);
    (line, column)
}

/// The same of its halves.
#[inline(always)]
pub(super) fn quarter_half(lane: usize, element: usize) -> Place {
    let (_, first) = quarter(lane);
    (first + lane % 4, element)
}
