//! From a call number to its execution: generated from the rows.
//!
//! # Safety
//! Generated calls pass handles of this session's tables and out parameters that are locals of the row's types.
#![expect(unsafe_code, reason = "generated calls of the driver")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "generated code carries no comments: the argument is above"
)]

use driver_api::abi::{CUevent, CUfunction, CUkernel, CUlibrary, CUmodule, CUstream};
use driver_api::result::CUresult;
use driver_api::wire::{decode, decode_with_rest, reply, request};
use driver_api::{Blocks, number};

use super::call::{Call, CallError};

include!(concat!(env!("OUT_DIR"), "/dispatch.rs"));
