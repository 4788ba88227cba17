//! Requests and replies: the fixed part of each call, generated from the rows that travel.
//!
//! A request is a structure of little-endian integers without alignment: its bytes are its encoding. What follows it (names, images,
//! data) is the rest of the body.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use crate::generated::{reply, request, visit_requests};

/// The shapes of all calls, one line each: `driver-api/wire.lock`.
pub const LOCK: &str = include_str!("../wire.lock");

/// The hash of [`LOCK`] that both sides compare in the hello.
#[must_use]
pub fn shape_hash() -> [u8; 32] {
    *blake3::hash(LOCK.as_bytes()).as_bytes()
}

/// The stream id of completions whose mark is the ticket of an unmapping.
pub const TICKET_STREAM: u32 = 0xFFFF_FFFF;

/// The stream id of completions that ask the client for what it holds idle; the mark is the call's number.
pub const RECALL_STREAM: u32 = 0xFFFF_FFFE;

/// A request type: what it is a request of, and what answers it.
pub trait Request: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Copy {
    /// The call number.
    const NUMBER: u16;
    /// The place of its row in [`ROWS`](crate::ROWS).
    const ROW: usize;
    /// The fixed part of the reply; [`Empty`] if there is none.
    type Reply: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Copy;
}

/// No bytes at all.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Empty;

/// Sees every request type once.
pub trait RequestVisitor {
    /// One request type.
    fn visit<R: Request + PartialEq + core::fmt::Debug>(&mut self)
    where
        R::Reply: PartialEq + core::fmt::Debug;
}

/// Why the bytes of a call are not what its row says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part.
    #[error("{name}: {got} bytes, its fixed part has {expected}")]
    TooShort {
        /// The row.
        name: &'static str,
        /// The bytes there are.
        got: usize,
        /// The bytes of the fixed part.
        expected: usize,
    },
    /// More bytes than the fixed part, in a row that has nothing else.
    #[error("{name}: {excess} bytes more than its fixed part")]
    TooLong {
        /// The row.
        name: &'static str,
        /// The bytes that are too many.
        excess: usize,
    },
}

/// The request in `body` and the bytes after it.
///
/// # Errors
/// `body` is shorter than the request.
pub fn decode_with_rest<R: Request>(body: &[u8]) -> Result<(R, &[u8]), DecodeError> {
    R::read_from_prefix(body).map_err(|_| DecodeError::TooShort {
        name: crate::ROWS[R::ROW].name,
        got: body.len(),
        expected: size_of::<R>(),
    })
}

/// The request that `body` is.
///
/// # Errors
/// `body` is shorter or longer than the request.
pub fn decode<R: Request>(body: &[u8]) -> Result<R, DecodeError> {
    let (request, rest) = decode_with_rest(body)?;
    match rest.len() {
        0 => Ok(request),
        excess => Err(DecodeError::TooLong {
            name: crate::ROWS[R::ROW].name,
            excess,
        }),
    }
}
