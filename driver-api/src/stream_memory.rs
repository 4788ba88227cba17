//! Operations of a stream on words of device memory: waiting for a value, writing one.
//!
//! *What:* the one form in which `cuStreamWaitValue`, `cuStreamWriteValue` and `cuStreamBatchMemOp` travel, and what of them can be checked without
//! a device. *Why here:* the client checks before it posts, and the server does not believe it. *Rule:* an operation or a flag that
//! nobody knows is refused, never passed on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zerocopy::{little_endian::U32, little_endian::U64};

use crate::abi::CUstreamBatchMemOpParams;
use crate::result::CUresult;

/// The most operations of one call: what drivers take.
pub const MAX_OPERATIONS: usize = 256;

/// `CUstreamBatchMemOpType`.
pub mod kind {
    /// Wait for a word of 32 bits.
    pub const WAIT_32: u32 = 1;
    /// Write a word of 32 bits.
    pub const WRITE_32: u32 = 2;
    /// Make remote writes visible.
    pub const FLUSH_REMOTE_WRITES: u32 = 3;
    /// Wait for a word of 64 bits.
    pub const WAIT_64: u32 = 4;
    /// Write a word of 64 bits.
    pub const WRITE_64: u32 = 5;
    /// Order what is before and after.
    pub const BARRIER: u32 = 6;
}

/// `CU_STREAM_WAIT_VALUE_NOR`: the last of the four conditions GEQ, EQ, AND, NOR.
const NOR: u32 = 3;
/// `CU_STREAM_WAIT_VALUE_FLUSH`, beside a condition.
const FLUSH: u32 = 1 << 30;
/// `CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER`, and `CU_STREAM_MEMORY_BARRIER_TYPE_GPU`.
const LAST_FLAG: u32 = 1;

/// One operation, as it travels.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct StreamMemoryOperation {
    /// One of [`kind`].
    pub kind: U32,
    /// A condition, or what the kind knows.
    pub flags: U32,
    /// The word's; 0 where the kind has none.
    pub address: U64,
    /// What is waited for, or written.
    pub value: U64,
}

const _: () = assert!(size_of::<StreamMemoryOperation>() == 24);
const _: () = assert!(size_of::<CUstreamBatchMemOpParams>() == 48);

impl StreamMemoryOperation {
    /// An operation on a word.
    #[must_use]
    pub fn new(kind: u32, address: u64, value: u64, flags: u32) -> Self {
        Self {
            kind: kind.into(),
            flags: flags.into(),
            address: address.into(),
            value: value.into(),
        }
    }

    /// Reads one element of the driver's array.
    #[must_use]
    pub fn from_parameters(parameters: &CUstreamBatchMemOpParams) -> Self {
        let [first, address, value, flags, ..] = parameters.words;
        let operation = first as u32;
        match operation {
            kind::FLUSH_REMOTE_WRITES | kind::BARRIER => {
                Self::new(operation, 0, 0, (first >> 32) as u32)
            }
            kind::WAIT_32 | kind::WRITE_32 => {
                Self::new(operation, address, u64::from(value as u32), flags as u32)
            }
            _ => Self::new(operation, address, value, flags as u32),
        }
    }

    /// The element of the driver's array that says the same.
    #[must_use]
    pub fn to_parameters(&self) -> CUstreamBatchMemOpParams {
        let mut words = [0; 6];
        let (operation, flags) = (u64::from(self.kind.get()), u64::from(self.flags.get()));
        if self.word_bytes() == 0 {
            words[0] = operation | flags << 32;
        } else {
            words[..4].copy_from_slice(&[operation, self.address.get(), self.value.get(), flags]);
        }
        CUstreamBatchMemOpParams { words }
    }

    /// Bytes of the word that it touches; 0 if it touches none.
    #[must_use]
    pub fn word_bytes(&self) -> u64 {
        match self.kind.get() {
            kind::WAIT_32 | kind::WRITE_32 => 4,
            kind::WAIT_64 | kind::WRITE_64 => 8,
            _ => 0,
        }
    }

    fn is_wait(&self) -> bool {
        matches!(self.kind.get(), kind::WAIT_32 | kind::WAIT_64)
    }

    /// Whether it waits until no bit of the word's complement is left, which not every device can.
    #[must_use]
    pub fn waits_for_nor(&self) -> bool {
        self.is_wait() && self.flags.get() & !FLUSH == NOR
    }

    /// Whether it flushes remote writes, which only the driver knows whether it can.
    #[must_use]
    pub fn flushes(&self) -> bool {
        self.kind.get() == kind::FLUSH_REMOTE_WRITES
            || (self.is_wait() && self.flags.get() & FLUSH != 0)
    }

    /// Checks everything but the memory.
    ///
    /// # Errors
    /// An operation or a flag that is not known, or a word that is not aligned.
    pub fn check(&self) -> Result<(), CUresult> {
        let flags = self.flags.get();
        let known = match self.kind.get() {
            kind::WAIT_32 | kind::WAIT_64 => flags & !FLUSH <= NOR,
            kind::WRITE_32 | kind::WRITE_64 | kind::BARRIER => flags <= LAST_FLAG,
            kind::FLUSH_REMOTE_WRITES => flags == 0,
            _ => false,
        };
        let aligned =
            self.word_bytes() == 0 || self.address.get().is_multiple_of(self.word_bytes());
        if known && aligned {
            Ok(())
        } else {
            Err(CUresult::INVALID_VALUE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let ok = |kind, address, flags| StreamMemoryOperation::new(kind, address, 1, flags).check();
        for condition in 0..=NOR {
            assert_eq!(ok(kind::WAIT_32, 4, condition), Ok(()));
            assert_eq!(ok(kind::WAIT_64, 8, condition | FLUSH), Ok(()));
        }
        assert_eq!(ok(kind::WRITE_32, 4, 1), Ok(()));
        let wrong = [
            (kind::WAIT_32, 4, 4),
            (kind::WAIT_32, 2, 0),
            (kind::WAIT_64, 4, 0),
            (kind::WRITE_64, 8, 2),
            (kind::WRITE_32, 4, FLUSH),
            (kind::FLUSH_REMOTE_WRITES, 0, 1),
            (kind::BARRIER, 0, 2),
            (0, 4, 0),
            (7, 4, 0),
            (8, 4, 0),
        ];
        for (kind, address, flags) in wrong {
            assert_eq!(
                ok(kind, address, flags),
                Err(CUresult::INVALID_VALUE),
                "{kind} {flags}"
            );
        }
    }

    #[test]
    fn an_element_of_the_array_survives_the_journey() {
        for words in [
            [1, 0x1000, 7, 1 | u64::from(FLUSH), 0, 0],
            [5, 0x1008, u64::MAX, 1, 0, 0],
            [3, 0, 0, 0, 0, 0],
            [6 | 1 << 32, 0, 0, 0, 0, 0],
        ] {
            let operation =
                StreamMemoryOperation::from_parameters(&CUstreamBatchMemOpParams { words });
            assert_eq!(operation.to_parameters().words, words);
            let bytes = operation.as_bytes();
            assert_eq!(StreamMemoryOperation::read_from_bytes(bytes), Ok(operation));
        }
    }

    #[test]
    fn a_narrow_value_has_no_upper_half() {
        let words = [1, 4, 0xdead_beef_0000_0001, 0, 0, 0];
        let operation = StreamMemoryOperation::from_parameters(&CUstreamBatchMemOpParams { words });
        assert_eq!(operation.value.get(), 1);
    }
}
