//! A worker for fuzzing: a session in this process whose client sends whatever it is told to, on a driver that touches nothing.
//!
//! *What:* [`serve`] reads a small language of frames and calls, so that inputs get past what an honest client cannot get wrong
//! (headers, numbering) when they want to, and do not when they do not. *Rules:* built only for fuzzing; the driver's functions
//! succeed and look at no address but those that the worker itself got from them.
//!
//! ```text
//! 0 length:u16 payload          a Calls frame
//! 1 number:u16 flags:u8 thread:u8 context:u8 length:u16 body    one call in a frame of its own
//! 2 transfer:u8 offset:u8 length:u16 payload                    a Bulk frame
//! 3 kind:u8 sequence:u8 acknowledged:u8 length:u16 payload      any frame
//! ```
//!
//! # Safety
//! The one write is to slots that `host_alloc` made and never frees.
#![expect(unsafe_code, reason = "functions of the C ABI")]

use std::ffi::c_void;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUevent, CUfunction, CUmodule, CUstream};
use driver_api::result::CUresult;
use protocol::bounded::Reader;
use protocol::frame::{CallFlags, CallRecord, FrameHeader, FrameKind, RecordBuffer};
use protocol::hello::Window;
use protocol::transport::FrameSender;
use protocol::transport::memory::{Faults, pair};
use zerocopy::little_endian::U16;

use super::accounts::Accounts;
use super::end::{Reason, lock};
use super::memory::Memory;
use super::output::Output;
use super::session::{Devices, Session};

/// The window of every session.
pub const WINDOW: Window = Window {
    base: 0x2000_0000_0000,
    size: 1 << 38,
};

/// Sessions whose threads have not all noticed yet that they are over: they look once a second.
const MOST_ENDING: usize = 200;

/// Serves one client that sends what these bytes say.
///
/// # Panics
/// The worker failed otherwise than by ending the session, which is what fuzzing looks for.
pub fn serve(bytes: &[u8]) {
    let (ours, theirs) = pair(&Faults::default());
    let devices = Devices {
        count: 1,
        ..Devices::default()
    };
    let memory = Memory::new(0, vec![WINDOW], Accounts::default());
    let session = super::start(&DRIVER, devices, theirs, memory, Output::untouched(), None);
    let session = session.expect("threads");
    let mut client = Client {
        sender: ours.sender,
        sequence: 0,
    };
    // The session may end before everything is sent, and an input may end anywhere.
    let _ = client.play(bytes);
    client.frame(FrameHeader::new(FrameKind::Goodbye), &[]);
    let reason = session.end.wait();
    assert!(!matches!(reason, Reason::Failed(_)), "{reason}");
    session.end.disconnect();
    settle(&session);
}

/// Bounds how many sessions are ending at the same time.
fn settle(session: &Arc<Session>) {
    static ENDING: Mutex<Vec<Weak<Session>>> = Mutex::new(Vec::new());
    let mut ending = lock(&ENDING);
    ending.push(Arc::downgrade(session));
    loop {
        ending.retain(|session| session.strong_count() > 1);
        if ending.len() < MOST_ENDING {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Client {
    sender: Box<dyn FrameSender>,
    sequence: u64,
}

impl Client {
    fn frame(&mut self, mut header: FrameHeader, payload: &[u8]) {
        self.sequence += 1;
        header.sequence = self.sequence;
        self.send(&header, payload);
    }

    fn send(&mut self, header: &FrameHeader, payload: &[u8]) {
        // A worker that has ended takes nothing more.
        let _ = self.sender.send(header, &[IoSlice::new(payload)]);
    }

    fn play(&mut self, bytes: &[u8]) -> Option<()> {
        let mut reader = Reader::new(bytes);
        while reader.left() > 0 {
            match reader.take::<u8>().ok()? % 4 {
                0 => {
                    let payload = sized(&mut reader)?;
                    self.frame(FrameHeader::new(FrameKind::Calls), payload);
                }
                1 => self.call(&mut reader)?,
                2 => {
                    let [transfer, offset] = reader.take::<[u8; 2]>().ok()?;
                    let payload = sized(&mut reader)?;
                    self.frame(FrameHeader::bulk(transfer.into(), offset.into()), payload);
                }
                _ => {
                    let [kind, sequence, acknowledged] = reader.take::<[u8; 3]>().ok()?;
                    let kind = FrameKind::try_from(kind).ok()?;
                    let header = FrameHeader {
                        sequence: sequence.into(),
                        acknowledged: acknowledged.into(),
                        ..FrameHeader::new(kind)
                    };
                    self.send(&header, sized(&mut reader)?);
                }
            }
        }
        Some(())
    }

    fn call(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let number = reader.take::<U16>().ok()?.get();
        let [flags, thread, context] = reader.take::<[u8; 3]>().ok()?;
        let record = CallRecord {
            number,
            flags: CallFlags::from_bits(flags.into()).ok()?,
            length: 0,
            thread: thread.into(),
            context: context.into(),
        };
        let mut records = RecordBuffer::new();
        records.push_parts(&record, &[sized(reader)?]).ok()?;
        self.frame(FrameHeader::new(FrameKind::Calls), records.as_bytes());
        Some(())
    }
}

/// Bytes with their length before them; as many as there are, if that is less.
fn sized<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::from(reader.take::<U16>().ok()?.get());
    reader.take_bytes(length.min(reader.left())).ok()
}

/// A number that was not given before: a handle, or an address where nothing is.
fn fresh() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0x6000_0000_0000);
    LAST.fetch_add(1 << 21, Ordering::Relaxed)
}

fn give<T>(place: *mut T, value: T) -> CUresult {
    // SAFETY: the worker gives every function a place for its result.
    unsafe { place.write(value) };
    CUresult::SUCCESS
}

extern "C" fn succeed() -> CUresult {
    CUresult::SUCCESS
}

extern "C" fn context(place: *mut CUcontext, _: i32) -> CUresult {
    give(place, CUcontext(fresh() as usize))
}

extern "C" fn context_create(place: *mut CUcontext, _: u32, _: i32) -> CUresult {
    give(place, CUcontext(fresh() as usize))
}

extern "C" fn attribute(place: *mut i32, number: u32, _: i32) -> CUresult {
    // Virtual memory, 64-bit writes by streams.
    give(place, i32::from(matches!(number, 102 | 122)))
}

/// Zeroed memory that stays: its pages are made when they are written.
extern "C" fn host_alloc(place: *mut *mut c_void, bytes: usize, _: u32) -> CUresult {
    let memory = Box::leak(vec![0_u64; bytes.div_ceil(8)].into_boxed_slice());
    give(place, memory.as_mut_ptr().cast())
}

extern "C" fn host_device_pointer(place: *mut u64, host: *mut c_void, _: u32) -> CUresult {
    give(place, host.expose_provenance() as u64)
}

extern "C" fn allocate(place: *mut u64, bytes: usize) -> CUresult {
    match bytes > 1 << 40 {
        true => CUresult::OUT_OF_MEMORY,
        false => give(place, fresh()),
    }
}

extern "C" fn memory_create(place: *mut u64, size: usize, _: *const c_void, _: u64) -> CUresult {
    allocate(place, size)
}

extern "C" fn stream(place: *mut CUstream, _: u32, _: i32) -> CUresult {
    give(place, CUstream(fresh() as usize))
}

extern "C" fn event(place: *mut CUevent, _: u32) -> CUresult {
    give(place, CUevent(fresh() as usize))
}

extern "C" fn module(place: *mut CUmodule, _: *const c_void) -> CUresult {
    give(place, CUmodule(fresh() as usize))
}

extern "C" fn function(place: *mut CUfunction, _: CUmodule, _: *const c_void) -> CUresult {
    give(place, CUfunction(fresh() as usize))
}

extern "C" fn global(
    address: *mut u64,
    bytes: *mut usize,
    _: CUmodule,
    _: *const c_void,
) -> CUresult {
    let found = give(address, fresh());
    match bytes.is_null() {
        true => found,
        false => give(bytes, 64),
    }
}

extern "C" fn parameter(
    _: CUfunction,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> CUresult {
    match [(0, 8), (8, 4)].get(index) {
        Some((at, bytes)) => {
            give(offset, *at);
            give(size, *bytes)
        }
        None => CUresult::INVALID_VALUE,
    }
}

/// The worker's own slots: the stream is always where they say.
extern "C" fn write64(_: CUstream, address: u64, value: u64, _: u32) -> CUresult {
    let slot: *const AtomicU64 = std::ptr::with_exposed_provenance(address as usize);
    // SAFETY: a slot in memory of `host_alloc`, aligned and never freed, which others only read and write atomically or at once.
    unsafe { (*slot).store(value, Ordering::Release) };
    CUresult::SUCCESS
}

static DRIVER: LazyLock<Driver> = LazyLock::new(|| {
    let find = |name: &str| -> Option<*const ()> {
        Some(match name {
            "cuDevicePrimaryCtxRetain" => context as *const (),
            "cuCtxCreate_v2" => context_create as *const (),
            "cuDeviceGetAttribute" => attribute as *const (),
            "cuMemHostAlloc" => host_alloc as *const (),
            "cuMemHostGetDevicePointer_v2" => host_device_pointer as *const (),
            "cuMemAlloc_v2" => allocate as *const (),
            "cuMemCreate" => memory_create as *const (),
            "cuStreamCreateWithPriority" => stream as *const (),
            "cuEventCreate" => event as *const (),
            "cuModuleLoadData" => module as *const (),
            "cuModuleGetFunction" => function as *const (),
            "cuModuleGetGlobal_v2" => global as *const (),
            "cuFuncGetParamInfo" => parameter as *const (),
            "cuStreamWriteValue64_v2" => write64 as *const (),
            "cuCtxSetCurrent"
            | "cuCtxSynchronize"
            | "cuCtxDestroy_v2"
            | "cuDevicePrimaryCtxRelease_v2"
            | "cuDevicePrimaryCtxReset_v2"
            | "cuMemFree_v2"
            | "cuMemMap"
            | "cuMemSetAccess"
            | "cuMemUnmap"
            | "cuMemRelease"
            | "cuStreamDestroy_v2"
            | "cuStreamQuery"
            | "cuStreamSynchronize"
            | "cuStreamWaitEvent"
            | "cuEventRecord"
            | "cuEventQuery"
            | "cuEventDestroy_v2"
            | "cuModuleUnload"
            | "cuMemcpyHtoDAsync_v2"
            | "cuMemcpyDtoHAsync_v2"
            | "cuMemcpyDtoDAsync_v2"
            | "cuMemsetD8Async"
            | "cuMemsetD16Async"
            | "cuMemsetD32Async"
            | "cuLaunchKernel" => succeed as *const (),
            _ => return None,
        })
    };
    // SAFETY: each function takes what the driver's function of that name takes, or looks at none of it.
    unsafe { Driver::load(find) }
});
