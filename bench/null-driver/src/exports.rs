//! The exported functions, generated from the table of the driver API: each row that this library's sources serve calls them, every
//! other answers that it is not supported.
//!
//! # Safety
//! Every function here passes its caller's arguments on unchanged; the functions that are called state what they rely on.
#![expect(unsafe_code, reason = "exported C functions")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "generated: all blocks pass on a caller's arguments, as said above"
)]
#![expect(
    dead_code,
    reason = "nobody looks a function up by its row in a driver without cuGetProcAddress"
)]
use core::ffi::*;

use driver_api::abi::*;
use driver_api::{Export, index, per_thread};

include!(concat!(env!("OUT_DIR"), "/exports.rs"));
