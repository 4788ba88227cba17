//! Pinned memory of a context: slots that streams write their progress to, and buffers that copies go through.
//!
//! *Rules:* the memory belongs to its context and goes with it; a buffer has one owner at a time, the pool, a thread that fills or
//! sends it, or a point of a stream, and goes back to the pool when that owner drops it. Up to [`PREFERRED_BUFFERS`] are made
//! as they are needed; beyond, one waits for a buffer to come back, and only where none does in [`PATIENCE`] (a stream that is
//! held) are more made, up to [`MAX_BUFFERS`].
//!
//! # Safety
//! Addresses come from `cuMemHostAlloc` with the length that is used; a slot is read with volatile reads, that of a gate also
//! written, while its context lives; a buffer's bytes are touched by its one owner, and the device's part is ordered by the stream's point.
#![expect(
    unsafe_code,
    reason = "memory that a driver allocates and a device writes"
)]

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use driver_api::Driver;
use driver_api::abi::CUdeviceptr;
use driver_api::result::CUresult;
use protocol::limits::BULK_CHUNK_BYTES;
use protocol::transport::{FrameReceiver, TransportError};

use super::end::{End, lock};
use crate::driver::cuda;

/// Bytes of a staging buffer.
pub(crate) const BUFFER_BYTES: usize = BULK_CHUNK_BYTES;

/// Buffers of a context that are made without waiting.
pub(crate) const PREFERRED_BUFFERS: usize = 64;

/// Most buffers of a context.
pub(crate) const MAX_BUFFERS: usize = 4096;

/// How long one waits for a buffer to come back before another is made.
const PATIENCE: Duration = Duration::from_millis(10);

/// Bytes of a page of slots.
const PAGE_BYTES: usize = 4096;

/// `CU_MEMHOSTALLOC_PORTABLE`: every context may use it.
const PORTABLE: u32 = 1;

/// `CU_MEMHOSTALLOC_DEVICEMAP`: the device can write it.
const DEVICE_MAP: u32 = 2;

/// Eight bytes that a stream writes its progress to.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    host: *const u64,
    /// Its address on the device.
    pub(crate) device: CUdeviceptr,
}

// SAFETY: a slot is an address; reading it is safe on any thread while its context lives.
unsafe impl Send for Slot {}

impl Slot {
    /// What the stream wrote last.
    pub(crate) fn read(self) -> u64 {
        // SAFETY: the page lives as long as its context, and a stream forgets its slot before the context goes.
        let value = unsafe { std::ptr::read_volatile(self.host) };
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        value
    }

    /// Writes the lower 32 bits, for a stream that waits for them.
    pub(crate) fn write_low(self, value: u32) {
        // SAFETY: as in `read`; aligned, and nobody else writes the slot of a gate.
        let word = unsafe { AtomicU32::from_ptr(self.host.cast_mut().cast()) };
        word.store(value, Ordering::Release);
    }

    /// What the stream wrote last, if it writes 32 bits.
    pub(crate) fn read_low(self) -> u32 {
        // SAFETY: as in `read`.
        let value = unsafe { std::ptr::read_volatile(self.host.cast::<u32>()) };
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        value
    }
}

/// Pinned memory of this length in the current context.
fn allocate(driver: &Driver, bytes: usize, flags: u32) -> Result<*mut u8, CUresult> {
    let mut address: *mut c_void = std::ptr::null_mut();
    cuda!(driver, cuMemHostAlloc(&mut address, bytes, flags))?;
    if address.is_null() {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    Ok(address.cast())
}

/// The free slots of a context.
#[derive(Default)]
pub(crate) struct Slots {
    free: Mutex<Vec<Slot>>,
}

impl Slots {
    /// A slot, in a new page if there is none; the context is current.
    pub(crate) fn take(&self, driver: &Driver) -> Result<Slot, CUresult> {
        if let Some(slot) = lock(&self.free).pop() {
            return Ok(slot);
        }
        let host = allocate(driver, PAGE_BYTES, PORTABLE | DEVICE_MAP)?;
        // SAFETY: the allocation has this length and nobody else knows of it.
        unsafe { host.write_bytes(0, PAGE_BYTES) };
        let mut device = 0;
        cuda!(
            driver,
            cuMemHostGetDevicePointer_v2(&mut device, host.cast(), 0)
        )?;
        let slot = |index: usize| Slot {
            host: host.wrapping_add(index * 8).cast::<u64>().cast_const(),
            device: device + index as u64 * 8,
        };
        lock(&self.free).extend((1..PAGE_BYTES / 8).rev().map(slot));
        Ok(slot(0))
    }

    /// Gives back a slot that no pending point writes.
    pub(crate) fn put_back(&self, slot: Slot) {
        lock(&self.free).push(slot);
    }
}

/// The staging buffers of a context.
pub(crate) struct Staging {
    state: Mutex<Buffers>,
    changed: Condvar,
    end: Arc<End>,
}

#[derive(Default)]
struct Buffers {
    free: Vec<Address>,
    made: usize,
    /// One has waited in vain since a buffer came back.
    is_held_up: bool,
    is_closed: bool,
}

struct Address(*mut u8);

// SAFETY: an address of memory that has one owner at a time.
unsafe impl Send for Address {}

impl Staging {
    pub(crate) fn new(end: Arc<End>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(Buffers::default()),
            changed: Condvar::new(),
            end,
        })
    }

    /// A buffer; the context is current.
    ///
    /// # Errors
    /// No memory can be pinned, or the session or the context ends.
    pub(crate) fn take(self: &Arc<Self>, driver: &Driver) -> Result<StagingBuffer, CUresult> {
        let mut state = lock(&self.state);
        loop {
            if state.is_closed || self.end.is_over() {
                return Err(CUresult::CONTEXT_IS_DESTROYED);
            }
            if let Some(address) = state.free.pop() {
                return Ok(self.buffer(address));
            }
            if state.made < PREFERRED_BUFFERS || (state.is_held_up && state.made < MAX_BUFFERS) {
                state.made += 1;
                drop(state);
                match allocate(driver, BUFFER_BYTES, PORTABLE) {
                    Ok(address) => return Ok(self.buffer(Address(address))),
                    Err(error) => {
                        lock(&self.state).made -= 1;
                        return Err(error);
                    }
                }
            }
            let waited = self.changed.wait_timeout(state, PATIENCE);
            let (next, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            state = next;
            if timeout.timed_out() && state.free.is_empty() {
                state.is_held_up = true;
            }
        }
    }

    fn buffer(self: &Arc<Self>, address: Address) -> StagingBuffer {
        StagingBuffer {
            address,
            home: Arc::clone(self),
        }
    }

    /// The context is going, and the memory with it.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.free.clear();
        self.changed.notify_all();
    }
}

/// A pinned buffer of [`BUFFER_BYTES`] with one owner.
pub(crate) struct StagingBuffer {
    address: Address,
    home: Arc<Staging>,
}

impl StagingBuffer {
    /// For the driver, and for filling it.
    pub(crate) fn address(&self) -> *mut u8 {
        self.address.0
    }

    /// Whether the context is ending whose memory it is.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.home.state).is_closed
    }

    /// Reads the next bytes of a frame's payload into the buffer.
    ///
    /// # Errors
    /// The connection is over.
    pub(crate) fn receive(
        &mut self,
        receiver: &mut dyn FrameReceiver,
        length: usize,
    ) -> Result<(), TransportError> {
        let length = length.min(BUFFER_BYTES);
        // SAFETY: the allocation has `BUFFER_BYTES`; it has been taken from the pool and nothing was issued with it.
        unsafe { receiver.read_payload_raw(self.address.0, length) }
    }

    /// The first bytes, which the device has written: only a reached point has such a buffer, so that no copy into it is pending.
    pub(crate) fn landed(&self, length: usize) -> &[u8] {
        // SAFETY: the allocation has `BUFFER_BYTES`, and its context lives: a context that goes loses its points first, and lost
        // points are not read. Its one owner is the point's action, so nobody writes it now.
        unsafe { std::slice::from_raw_parts(self.address.0, length.min(BUFFER_BYTES)) }
    }
}

impl Drop for StagingBuffer {
    fn drop(&mut self) {
        let mut state = lock(&self.home.state);
        if !state.is_closed {
            state.free.push(Address(self.address.0));
            state.is_held_up = false;
            self.home.changed.notify_one();
        }
    }
}
