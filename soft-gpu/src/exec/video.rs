//! The video instructions: arithmetic on bytes and halves of words, alone (`vadd`) and several at a time (`vadd4`).
//!
//! What is selected of which operand is one number, so that a handful of functions serves all the forms.

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Act {
    Add,
    Subtract,
    Difference,
    Minimum,
    Maximum,
    ShiftLeft,
    ShiftRight,
    Average,
    Compare,
    MultiplyAdd,
}

const ACTS: [Act; 10] = [
    Act::Add,
    Act::Subtract,
    Act::Difference,
    Act::Minimum,
    Act::Maximum,
    Act::ShiftLeft,
    Act::ShiftRight,
    Act::Average,
    Act::Compare,
    Act::MultiplyAdd,
];

/// What becomes of the result of a scalar form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Then {
    Keep,
    /// Operations with the third source.
    Add,
    Minimum,
    Maximum,
    /// Into a byte (first of four) or a half of the third source.
    Byte,
    Half,
}

const THENS: [Then; 6] = [
    Then::Keep,
    Then::Add,
    Then::Minimum,
    Then::Maximum,
    Then::Byte,
    Then::Half,
];

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Video {
    pub(crate) act: Act,
    /// Whether the result is signed (of `vmad`: the sum), and each source.
    pub(crate) signed: [bool; 3],
    /// Selectors of a scalar form's sources: 0 to 3 a byte, 4 and 5 a half, 6 all; of a packed form's both sources, the
    /// lanes are in `lanes`.
    pub(crate) select: [u8; 2],
    /// Whether the sources, and the third one, are negated (`vmad`); with both bits it adds one.
    pub(crate) negate: u8,
    pub(crate) saturate: bool,
    /// Whether shift amounts wrap.
    pub(crate) wrap: bool,
    pub(crate) then: Then,
    /// The selected byte or half of the destination; the shift of `vmad` (0, 7, 15); the comparison's number.
    pub(crate) place: u8,
    pub(crate) comparison: u8,
}

impl Video {
    /// As a number.
    pub(crate) fn encode(self) -> u64 {
        let flags = self
            .signed
            .iter()
            .enumerate()
            .fold(0, |all, (bit, &flag)| all | u8::from(flag) << bit)
            | u8::from(self.saturate) << 3
            | u8::from(self.wrap) << 4;
        u64::from_le_bytes([
            self.act as u8,
            flags,
            self.select[0],
            self.select[1],
            self.negate,
            self.then as u8,
            self.place,
            self.comparison,
        ])
    }

    fn decode(bits: u64) -> Video {
        let [act, flags, first, second, negate, then, place, comparison] = bits.to_le_bytes();
        let flag = |bit: u8| flags >> bit & 1 != 0;
        Video {
            act: ACTS[usize::from(act) % ACTS.len()],
            signed: [flag(0), flag(1), flag(2)],
            select: [first, second],
            negate,
            saturate: flag(3),
            wrap: flag(4),
            then: THENS[usize::from(then) % THENS.len()],
            place,
            comparison,
        }
    }

    /// The result before it is clamped.
    fn compute(self, a: i128, b: i128, c: i128) -> i128 {
        let amount = if self.wrap { b & 31 } else { b.clamp(0, 32) };
        match self.act {
            Act::Add => a + b,
            Act::Subtract => a - b,
            Act::Difference => (a - b).abs(),
            Act::Minimum => a.min(b),
            Act::Maximum => a.max(b),
            Act::ShiftLeft => a << amount,
            Act::ShiftRight => a >> amount,
            Act::Average => {
                // Away from zero for negative sums, as for positive ones.
                let sum = a + b;
                (sum + i128::from(sum >= 0)) >> 1
            }
            Act::Compare => i128::from(match self.comparison {
                0 => a == b,
                1 => a != b,
                2 => a < b,
                3 => a <= b,
                4 => a > b,
                _ => a >= b,
            }),
            Act::MultiplyAdd => {
                let (product, addend) = match self.negate {
                    1 => (-(a * b), c),
                    2 => (a * b, -c),
                    3 => (a * b, c + 1),
                    _ => (a * b, c),
                };
                (product + addend) >> self.place
            }
        }
    }
}

/// Part `select` of `word`: a byte, a half or all of it.
fn select(word: u32, select: u8, signed: bool) -> i128 {
    match (select, signed) {
        (0..=3, false) => i128::from((word >> (8 * select)) as u8),
        (0..=3, true) => i128::from((word >> (8 * select)) as i8),
        (4 | 5, false) => i128::from((word >> (16 * (select - 4))) as u16),
        (4 | 5, true) => i128::from((word >> (16 * (select - 4))) as i16),
        (_, false) => i128::from(word),
        (_, true) => i128::from(word as i32),
    }
}

/// `value` within the range of a number of `bits` bits.
fn clamp(value: i128, bits: u32, signed: bool) -> i128 {
    if signed {
        value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        value.clamp(0, (1 << bits) - 1)
    }
}

/// A scalar form.
pub(crate) fn scalar(a: u32, b: u32, c: u32, form: u64) -> u32 {
    let form = Video::decode(form);
    let [signed, a_signed, b_signed] = form.signed;
    let third = if signed {
        i128::from(c as i32)
    } else {
        i128::from(c)
    };
    let mut value = form.compute(
        select(a, form.select[0], a_signed),
        select(b, form.select[1], b_signed),
        third,
    );
    if form.saturate {
        let bits = match form.then {
            Then::Byte => 8,
            Then::Half => 16,
            _ => 32,
        };
        value = clamp(value, bits, signed);
    }
    let word = value as u32;
    let again = if signed {
        i128::from(word as i32)
    } else {
        i128::from(word)
    };
    match form.then {
        Then::Keep => word,
        Then::Add => word.wrapping_add(c),
        Then::Minimum => again.min(third) as u32,
        Then::Maximum => again.max(third) as u32,
        Then::Byte => {
            let shift = 8 * u32::from(form.place & 3);
            c & !(0xff << shift) | (word & 0xff) << shift
        }
        Then::Half => {
            let shift = 16 * u32::from(form.place & 1);
            c & !(0xffff << shift) | (word & 0xffff) << shift
        }
    }
}

/// A packed form on `N` lanes, whose result's lanes that `mask` has go into `c`, or are added to it. `choice` has for each
/// lane which of the eight bytes (four halves) of the sources it takes, in four bits.
pub(crate) fn packed<const N: u32>(a: u32, b: u32, c: u32, form: u64, choice: u64) -> u32 {
    let form = Video::decode(form);
    let [signed, a_signed, b_signed] = form.signed;
    let bits = 32 / N;
    let both = u64::from(b) << 32 | u64::from(a);
    let lane = |which: u64, signed: bool| {
        let unused = 64 - bits;
        let raised = both >> (which as u32 * bits) << unused;
        if signed {
            i128::from(raised as i64 >> unused)
        } else {
            i128::from(raised >> unused)
        }
    };
    let mask = (choice >> 32) as u32;
    let (mut result, mut sum) = (c, 0u32);
    for index in 0..N {
        if mask >> index & 1 == 0 {
            continue;
        }
        let first = choice >> (4 * index) & 7;
        let second = choice >> (16 + 4 * index) & 7;
        let mut value = form.compute(lane(first, a_signed), lane(second, b_signed), 0);
        if form.saturate {
            value = clamp(value, bits, signed);
        }
        sum = sum.wrapping_add(value as u32);
        let ones = (1u64 << bits) as u32 - 1;
        result = result & !(ones << (bits * index)) | (value as u32 & ones) << (bits * index);
    }
    if form.then == Then::Add {
        c.wrapping_add(sum)
    } else {
        result
    }
}
