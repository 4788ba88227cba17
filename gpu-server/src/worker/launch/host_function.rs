//! Where a stream calls a function of the program: the stream tells that it is there, and waits at a gate until the client has called it.
//!
//! *Rules:* a gate is a slot of pinned memory of the context. The stream waits for a value there that this process writes: no other stream has to get
//! through to the device for that, which may have no queue left. A slot is used again once the stream has passed.
//!
//! # Safety
//! The stream's handle comes from this session's table, the slot from its context, which both outlive what is put into the stream.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use driver_api::Driver;
use driver_api::abi::CUstream;
use driver_api::result::CUresult;
use driver_api::wire::request;

use crate::driver::cuda;
use crate::worker::call::{Call, CallError};
use crate::worker::context::Marking;
use crate::worker::pace;
use crate::worker::point::Action;
use crate::worker::session::Session;
use crate::worker::staging::Slot;
use crate::worker::stream;

/// `CU_STREAM_WAIT_VALUE_GEQ`: by the difference, so it may wrap.
const GREATER_OR_EQUAL: u32 = 0;

/// A gate at which a stream waits.
#[derive(Clone, Copy)]
pub(crate) struct Gate {
    slot: Slot,
    /// What opens it.
    value: u32,
    /// The serial of its context.
    pub(crate) context: u64,
}

fn wait(driver: &Driver, stream: CUstream, slot: Slot, value: u32) -> Result<(), CUresult> {
    match driver.cuStreamWaitValue32_v2 {
        Some(_) => cuda!(
            driver,
            cuStreamWaitValue32_v2(stream, slot.device, value, GREATER_OR_EQUAL)
        ),
        None => cuda!(
            driver,
            cuStreamWaitValue32(stream, slot.device, value, GREATER_OR_EQUAL)
        ),
    }
}

/// A place in a stream where the program's function is called.
pub(crate) fn gpurunHostFunction(
    call: &mut Call<'_>,
    request: &request::GpurunHostFunction,
) -> Result<(), CallError> {
    let (stream_id, id) = (request.stream().0, request.gate());
    let made = make(call, stream_id, id);
    // The client hears of the mark in any case: its thread waits for it.
    stream::mark(call, stream_id, request.mark(), true)?;
    close(call, stream_id, id, made?)?;
    Ok(())
}

/// Puts a gate into its stream.
fn close(call: &Call<'_>, stream: u32, id: u32, gate: Gate) -> Result<(), CUresult> {
    let held = call.stream(stream)?;
    pace::hold(&held);
    put(call, stream, id, gate)
}

/// Puts a gate into its stream, and behind it what gives its slot back.
fn put(call: &Call<'_>, stream: u32, id: u32, gate: Gate) -> Result<(), CUresult> {
    let stream = call.stream(stream)?;
    let context = Arc::clone(call.context()?);
    if let Err(error) = wait(call.driver(), stream.handle, gate.slot, gate.value) {
        call.session.gates.remove(id);
        context.slots.put_back(gate.slot);
        return Err(error);
    }
    let passed = Action::Passed { slot: gate.slot };
    // Where the point cannot be put the context is lost, and the slot with it.
    let put = stream.point(call.session, &context, passed);
    put.map_err(|(error, _)| error)
}

/// Holds a stream at a gate of the worker's own, until it is [opened](open); its number.
pub(crate) fn hold(call: &Call<'_>, stream: u32) -> Result<u32, CUresult> {
    let id = next_id();
    let gate = make(call, stream, id)?;
    close(call, stream, id, gate).map(|()| id)
}

/// A number for a gate of the worker's own.
fn next_id() -> u32 {
    /// Clients count theirs from 1.
    static LAST: AtomicU32 = AtomicU32::new(1 << 31);
    LAST.fetch_add(1, Ordering::Relaxed) | 1 << 31
}

/// Puts an action into a stream, made with the number of the gate at which the stream waits behind it. The gate is opened by whoever takes the action, whatever
/// else the session does, so nobody is let through on its account.
///
/// # Errors
/// The action is not in the stream.
pub(crate) fn hold_behind(
    call: &Call<'_>,
    stream: u32,
    action: impl FnOnce(u32) -> Action,
) -> Result<(), CUresult> {
    let id = next_id();
    let gate = make(call, stream, id)?;
    let context = Arc::clone(call.context()?);
    let point = call
        .stream(stream)?
        .point(call.session, &context, action(id));
    if let Err((error, _)) = point {
        call.session.gates.remove(id);
        context.slots.put_back(gate.slot);
        return Err(error);
    }
    // The action is on its way, and answers for itself. That its stream did not wait is told beside it.
    if let Err(error) = put(call, stream, id, gate) {
        call.session.fault(&context, error, "a gate");
    }
    Ok(())
}

/// Lets the stream go that waits at a gate, if it is there still.
pub(crate) fn open(session: &Session, id: u32) {
    // A context that ends takes its gates out of the table before its memory goes.
    let open = |gate: Gate| gate.slot.write_low(gate.value);
    session.gates.remove_with(id, open);
}

/// A closed gate.
fn make(call: &Call<'_>, stream: u32, id: u32) -> Result<Gate, CUresult> {
    call.session.gates.check_free(id)?;
    let stream = call.stream(stream)?;
    let context = call.context()?;
    // The slot goes back to the stream's context, and is used on its device.
    if stream
        .context()
        .is_none_or(|own| own.serial != context.serial)
    {
        return Err(CUresult::INVALID_HANDLE);
    }
    if context.marking == Marking::Events {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let slot = context.slots.take(call.driver())?;
    let value = slot.read_low().wrapping_add(1);
    let gate = Gate {
        slot,
        value,
        context: context.serial,
    };
    if let Err(error) = call.session.gates.insert(id, gate) {
        context.slots.put_back(slot);
        return Err(error);
    }
    Ok(gate)
}

/// The function of a gate has returned.
pub(crate) fn gpurunGateOpen(
    call: &mut Call<'_>,
    request: &request::GpurunGateOpen,
) -> Result<(), CallError> {
    open(call.session, request.gate());
    Ok(())
}
