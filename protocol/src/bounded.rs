//! A reader over bytes that came from somewhere else.
//!
//! What: [`Reader`] hands out typed values, slices and the rest, in order, and says by a typed error
//! when there are not enough bytes, or some are left over. Rule: no input makes it panic, and nothing is
//! copied but the fixed-layout values.

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Why bytes could not be read as what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Fewer bytes are left than were asked for.
    #[error("{wanted} bytes wanted where {left} are left")]
    TooShort {
        /// How many were asked for.
        wanted: usize,
        /// How many there were.
        left: usize,
    },
    /// Bytes are left where there should be none.
    #[error("{left} bytes left over")]
    LeftOver {
        /// How many.
        left: usize,
    },
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotText,
}

/// Reads fixed-layout values and slices from bytes, never beyond their end.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Takes one fixed-layout value, wherever it is aligned.
    ///
    /// # Errors
    /// [`ReadError::TooShort`].
    #[inline]
    pub fn take<T: FromBytes>(&mut self) -> Result<T, ReadError> {
        let wanted = size_of::<T>();
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| self.too_short(wanted))?;
        self.rest = rest;
        Ok(value)
    }

    /// Borrows one fixed-layout value that needs no alignment.
    ///
    /// # Errors
    /// [`ReadError::TooShort`].
    #[inline]
    pub fn borrow<T>(&mut self) -> Result<&'a T, ReadError>
    where
        T: FromBytes + KnownLayout + Immutable + zerocopy::Unaligned,
    {
        let wanted = size_of::<T>();
        let (value, rest) = T::ref_from_prefix(self.rest).map_err(|_| self.too_short(wanted))?;
        self.rest = rest;
        Ok(value)
    }

    /// Takes the next `count` bytes.
    ///
    /// # Errors
    /// [`ReadError::TooShort`].
    #[inline]
    pub fn take_bytes(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.too_short(count))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes the next `count` bytes as text.
    ///
    /// # Errors
    /// [`ReadError::TooShort`], [`ReadError::NotText`].
    pub fn take_text(&mut self, count: usize) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.take_bytes(count)?).map_err(|_| ReadError::NotText)
    }

    /// Passes over the next `count` bytes without looking at them.
    ///
    /// # Errors
    /// [`ReadError::TooShort`].
    #[inline]
    pub fn skip(&mut self, count: usize) -> Result<(), ReadError> {
        self.take_bytes(count).map(|_| ())
    }

    /// All that is left; nothing is left afterwards.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// How many bytes are left.
    #[must_use]
    #[inline]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`ReadError::LeftOver`] if bytes are left.
    #[inline]
    pub fn finish(self) -> Result<(), ReadError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(ReadError::LeftOver { left }),
        }
    }

    #[cold]
    fn too_short(&self, wanted: usize) -> ReadError {
        ReadError::TooShort {
            wanted,
            left: self.rest.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::little_endian::{U32, U64};

    #[test]
    fn takes_in_order_and_finishes() {
        let bytes = [1, 0, 0, 0, b'h', b'i', 9, 8];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.take::<U32>().map(U32::get), Ok(1));
        assert_eq!(reader.take_text(2), Ok("hi"));
        assert_eq!(
            reader.clone().finish(),
            Err(ReadError::LeftOver { left: 2 })
        );
        assert_eq!(reader.rest(), [9, 8]);
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_failed_read_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(
            reader.take::<U64>().map(U64::get),
            Err(ReadError::TooShort { wanted: 8, left: 3 })
        );
        assert_eq!(
            reader.take_bytes(usize::MAX),
            Err(ReadError::TooShort {
                wanted: usize::MAX,
                left: 3
            })
        );
        assert_eq!(reader.rest(), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, steps: Vec<(u8, usize)>) {
            let mut reader = Reader::new(&bytes);
            for (what, count) in steps {
                let before = reader.left();
                let taken = match what % 4 {
                    0 => reader.take::<U64>().is_ok(),
                    1 => reader.borrow::<U32>().is_ok(),
                    2 => reader.take_bytes(count % 64).is_ok(),
                    _ => reader.take_text(count).is_ok(),
                };
                prop_assert!(reader.left() <= before);
                prop_assert!(taken || reader.left() == before || what % 4 == 3);
            }
        }
    }
}
