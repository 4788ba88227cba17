//! What the generator wrote from `spec/`.
//!
//! # Safety
//! The only unsafe code is the cast of a symbol's address to the signature that its row states.
#![expect(
    unsafe_code,
    reason = "symbol addresses become functions of their rows' types"
)]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "generated code carries no comments: the argument is `Driver::load`'s contract"
)]
#![expect(clippy::type_complexity, reason = "signatures of C functions")]
#![expect(
    clippy::new_without_default,
    reason = "a request without fields is still made by new"
)]

use core::ffi::*;

use crate::abi::*;
use crate::table::{Blocks, Disposition, Procedure, Row};
use crate::wire::RequestVisitor;

/// What the request and reply types are made of.
mod wire_prelude {
    pub(super) use zerocopy::little_endian::{F32, I32, U32, U64};
    pub(super) use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

    pub(super) use crate::id::*;
    pub(super) use crate::wire::{Empty, Request};
}

include!(concat!(env!("OUT_DIR"), "/api.rs"));
