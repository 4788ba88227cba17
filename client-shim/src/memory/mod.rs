//! Device and host memory, copies, fills, pointer attributes.
//!
//! [`windows`] reserves the addresses, [`device`] gives them out as [`places`] says, [`host`] keeps pinned memory, [`mapped`] keeps alike what both sides
//! reach, [`managed`] makes memory that is so from the beginning, [`copy`] moves bytes, [`boxes`] boxes of them, [`volume`] boxes of arrays, [`offered`] large
//! ones that the worker's card reads, [`batch`] many of these, [`peer`] from one context to another, [`fill`] sets bytes, [`mod@pointer`] tells what an address
//! is.

mod batch;
mod boxes;
mod copy;
mod device;
mod fill;
mod host;
mod managed;
mod mapped;
mod offered;
mod peer;
mod places;
mod pointer;
mod volume;
mod windows;

use driver_api::abi::CUresult;

pub(crate) use batch::*;
pub(crate) use boxes::*;
pub(crate) use copy::*;
pub(crate) use device::*;
pub(crate) use fill::*;
pub(crate) use host::*;
pub(crate) use mapped::*;
pub(crate) use offered::Reads;
pub(crate) use peer::*;
pub(crate) use places::{Allocation, GRANULARITY};
pub(crate) use pointer::*;
pub(crate) use windows::{Windows, give_back};

/// An out parameter, if it is not null.
pub(crate) fn out<T>(pointer: *mut T) -> Result<*mut T, CUresult> {
    if pointer.is_null() {
        Err(CUresult::INVALID_VALUE)
    } else {
        Ok(pointer)
    }
}
