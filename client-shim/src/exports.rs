//! The exported functions: exactly the driver's names, generated from `driver-api/spec`.
//!
//! # Safety
//! Each function passes its arguments on unchanged, to the area's function of the same name or into a request; the out parameters that
//! it writes itself were checked for null, and are writable by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "functions of a C ABI")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "generated code carries no comments: the argument is the module's"
)]
#![expect(
    unreachable_pub,
    reason = "exported to the dynamic linker, not to Rust"
)]

use core::ffi::*;

use driver_api::abi::*;
use driver_api::wire::request;
use driver_api::{Export, index, per_thread};

/// Marks this library: a server refuses to use it as a driver.
#[unsafe(no_mangle)]
pub static gpurun_shim_mark: u32 = 1;

include!(concat!(env!("OUT_DIR"), "/exports.rs"));
