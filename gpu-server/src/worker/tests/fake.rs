//! A driver made of a few functions in this process, for tests.
//!
//! *What:* device memory is host memory; a stream executes at once, or queues while a test holds it; three kernels: `store` writes a
//! number, `pair` wants two parameters, `fault` breaks its context. An image `hold N` blocks its load until the test
//! releases N; a read of an address that a test holds waits likewise. *Rule:* state is global, as a driver's is; tests differ by the handles they get.
//!
//! # Safety
//! Addresses are of allocations made here and never freed, or of windows mapped here; the worker under test vouches for the rest.
#![expect(unsafe_code, reason = "functions of the C ABI over raw memory")]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "a test's driver: the argument is above"
)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{CStr, c_char, c_void};
use std::os::fd::IntoRawFd;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUevent, CUfunction, CUgraph, CUmodule, CUstream};
use driver_api::graph_layout::{AnyParameters, ConditionalParameters};
use driver_api::result::CUresult;

use crate::worker::end::lock;

/// The device whose memory can be exported.
pub(super) const EXPORTING_DEVICE: i32 = 1;

/// Where windows of tests may be.
pub(super) const WINDOWS: u64 = 0x7100_0000_0000;

/// Words of a module's variables.
const MODULE_WORDS: usize = 64;

enum Op {
    Copy(usize, usize, usize),
    CopyOwned(usize, Vec<u8>),
    Fill(usize, u8, usize),
    Write64(usize, u64),
    Write32(usize, u32),
    /// Waits until the word is at least this.
    Wait32(usize, u32),
    Record(usize),
    Fault,
}

#[derive(Default)]
struct Stream {
    is_held: bool,
    ops: VecDeque<Op>,
}

#[derive(Default)]
struct State {
    next: usize,
    /// By context and handle.
    streams: HashMap<(usize, usize), Stream>,
    faulted: HashMap<usize, CUresult>,
    host: Vec<(usize, usize)>,
    done_events: HashSet<usize>,
    functions: HashMap<usize, &'static str>,
    /// Where the variables of a module are.
    modules: HashMap<usize, usize>,
    released: HashSet<u32>,
    unmapped: Vec<u64>,
    registered: HashSet<usize>,
    /// Device memory that cannot be copied from, and what a copy says.
    unreadable: HashMap<u64, CUresult>,
    held_reads: HashSet<u64>,
    /// Those at which a copy waits.
    waiting_reads: HashSet<u64>,
    /// Where access was given, as often as it was.
    accesses: Vec<u64>,
    /// How often what cards have written was flushed.
    flushes: usize,
    /// Contexts from whose memory no access is taken away.
    kept_peers: HashSet<usize>,
    /// What happened to multicast objects, and what was given back between.
    of_multicasts: Vec<(&'static str, u64)>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
static RELEASED: Condvar = Condvar::new();

thread_local! {
    static CURRENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl State {
    fn handle(&mut self) -> usize {
        self.next += 1;
        0x1000 + self.next * 16
    }

    fn put(&mut self, stream: CUstream, op: Op) -> CUresult {
        let context = CURRENT.get();
        if let Some(fault) = self.faulted.get(&context) {
            return *fault;
        }
        self.streams
            .entry((context, stream.0))
            .or_default()
            .ops
            .push_back(op);
        self.advance(context, stream.0);
        CUresult::SUCCESS
    }

    fn advance(&mut self, context: usize, stream: usize) {
        loop {
            let entry = self.streams.entry((context, stream)).or_default();
            if entry.is_held || self.faulted.contains_key(&context) {
                return;
            }
            if entry.ops.front().is_some_and(is_waiting) {
                return;
            }
            let Some(op) = entry.ops.pop_front() else {
                return;
            };
            self.execute(context, op);
        }
    }

    fn execute(&mut self, context: usize, op: Op) {
        unsafe {
            match op {
                Op::Copy(to, from, length) => {
                    std::ptr::copy(from as *const u8, to as *mut u8, length);
                }
                Op::CopyOwned(to, bytes) => {
                    std::ptr::copy(bytes.as_ptr(), to as *mut u8, bytes.len());
                }
                Op::Fill(to, value, length) => std::ptr::write_bytes(to as *mut u8, value, length),
                Op::Write64(to, value) => std::ptr::write_volatile(to as *mut u64, value),
                Op::Write32(to, value) => std::ptr::write_volatile(to as *mut u32, value),
                Op::Wait32(..) => {}
                Op::Record(event) => {
                    self.done_events.insert(event);
                }
                Op::Fault => {
                    self.faulted.insert(context, CUresult::ILLEGAL_ADDRESS);
                }
            }
        }
    }
}

/// Whether a stream does not come further: the word is not what it waits for.
fn is_waiting(op: &Op) -> bool {
    let Op::Wait32(address, value) = op else {
        return false;
    };
    let word = std::ptr::with_exposed_provenance::<u32>(*address);
    unsafe { word.read_volatile() }.wrapping_sub(*value) as i32 <= -1
}

/// Holds every stream that the driver made last, until [`resume`].
pub(super) fn hold(context: usize, stream: usize) {
    let mut state = lock(&STATE);
    state.streams.entry((context, stream)).or_default().is_held = true;
}

/// Lets a held stream go on.
pub(super) fn resume(context: usize, stream: usize) {
    let mut state = lock(&STATE);
    state.streams.entry((context, stream)).or_default().is_held = false;
    state.advance(context, stream);
}

/// Lets the load of image `hold N` go on.
pub(super) fn release(number: u32) {
    lock(&STATE).released.insert(number);
    RELEASED.notify_all();
}

/// Whether this address was unmapped or freed.
pub(super) fn flushes() -> usize {
    lock(&STATE).flushes
}

pub(super) fn is_unmapped(address: u64) -> bool {
    lock(&STATE).unmapped.contains(&address)
}

/// How often access to what is mapped at an address was given.
pub(super) fn accesses(address: u64) -> usize {
    let state = lock(&STATE);
    let there = state.accesses.iter().filter(|given| **given == address);
    there.count()
}

/// Access to a context's memory is not taken away any more, or again.
pub(super) fn keep_peer(context: usize, keeps: bool) {
    let mut state = lock(&STATE);
    match keeps {
        true => state.kept_peers.insert(context),
        false => state.kept_peers.remove(&context),
    };
}

unsafe extern "C" fn disable_peer(peer: CUcontext) -> CUresult {
    match lock(&STATE).kept_peers.contains(&peer.0) {
        true => CUresult::UNKNOWN,
        false => CUresult::SUCCESS,
    }
}

/// The bytes of a word of device memory.
pub(super) fn bytes(address: u64) -> [u8; 8] {
    let word = std::ptr::with_exposed_provenance::<u64>(address as usize);
    unsafe { word.read_volatile() }.to_le_bytes()
}

/// Writes a byte of device memory, as a kernel does.
pub(super) fn set(address: u64, value: u8) {
    let byte = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    unsafe { byte.write_volatile(value) };
}

/// What copies from this device memory say from now on; nothing: they succeed.
pub(super) fn refuse_reads(address: u64, refusal: Option<CUresult>) {
    let mut state = lock(&STATE);
    match refusal {
        Some(refusal) => state.unreadable.insert(address, refusal),
        None => state.unreadable.remove(&address),
    };
}

/// Copies from this device memory wait, until [`release_reads`].
pub(super) fn hold_reads(address: u64) {
    lock(&STATE).held_reads.insert(address);
}

/// Waits until a copy waits there.
pub(super) fn wait_for_read(address: u64) {
    let mut state = lock(&STATE);
    while !state.waiting_reads.contains(&address) {
        state = wait(state);
    }
}

/// Lets copies from this device memory go on.
pub(super) fn release_reads(address: u64) {
    lock(&STATE).held_reads.remove(&address);
    RELEASED.notify_all();
}

fn wait(state: MutexGuard<'_, State>) -> MutexGuard<'_, State> {
    let waited = RELEASED.wait(state);
    waited.unwrap_or_else(std::sync::PoisonError::into_inner)
}

unsafe extern "C" fn host_register(host: *mut c_void, _: usize, _: u32) -> CUresult {
    match lock(&STATE).registered.insert(host.addr()) {
        true => CUresult::SUCCESS,
        false => CUresult::HOST_MEMORY_ALREADY_REGISTERED,
    }
}

/// A context that has failed lets go of nothing until its end.
unsafe extern "C" fn host_unregister(host: *mut c_void) -> CUresult {
    let mut state = lock(&STATE);
    let fault = state.faulted.get(&CURRENT.get()).copied();
    state.registered.remove(&host.addr());
    fault.unwrap_or_default()
}

unsafe extern "C" fn set_current(context: CUcontext) -> CUresult {
    CURRENT.set(context.0);
    CUresult::SUCCESS
}

unsafe extern "C" fn primary_retain(context: *mut CUcontext, _: i32) -> CUresult {
    // Each retain is a context of its own here, so that tests do not meet.
    let handle = lock(&STATE).handle();
    unsafe { *context = CUcontext(handle) };
    CUresult::SUCCESS
}

unsafe extern "C" fn primary_release(_: i32) -> CUresult {
    CUresult::SUCCESS
}

unsafe extern "C" fn synchronize_context() -> CUresult {
    CUresult::SUCCESS
}

/// The second device exports dma-bufs, the first does not.
unsafe extern "C" fn attribute(value: *mut i32, number: u32, device: i32) -> CUresult {
    let has = matches!(number, 102 | 117 | 122) || number == 124 && device == EXPORTING_DEVICE;
    unsafe { *value = i32::from(has) };
    CUresult::SUCCESS
}

/// What cards have written is flushed.
unsafe extern "C" fn flush(target: u32, scope: u32) -> CUresult {
    match (target, scope) {
        (0, 100) => {
            lock(&STATE).flushes += 1;
            CUresult::SUCCESS
        }
        _ => CUresult::INVALID_VALUE,
    }
}

unsafe extern "C" fn export(place: *mut c_void, _: u64, bytes: usize, _: u32, _: u64) -> CUresult {
    let file = rustix::fs::memfd_create("exported", rustix::fs::MemfdFlags::CLOEXEC);
    let file = file.expect("a memory file");
    rustix::fs::ftruncate(&file, bytes as u64).expect("its length");
    unsafe { place.cast::<i32>().write(file.into_raw_fd()) };
    CUresult::SUCCESS
}

unsafe extern "C" fn host_alloc(address: *mut *mut c_void, bytes: usize, _: u32) -> CUresult {
    let memory = Box::leak(vec![0_u64; bytes.div_ceil(8)].into_boxed_slice());
    lock(&STATE).host.push((memory.as_ptr() as usize, bytes));
    unsafe { *address = memory.as_mut_ptr().cast() };
    CUresult::SUCCESS
}

unsafe extern "C" fn host_device_pointer(device: *mut u64, host: *mut c_void, _: u32) -> CUresult {
    unsafe { *device = host as u64 };
    CUresult::SUCCESS
}

unsafe extern "C" fn alloc(address: *mut u64, bytes: usize) -> CUresult {
    if bytes > 1 << 40 {
        return CUresult::OUT_OF_MEMORY;
    }
    let memory = Box::leak(vec![0_u64; bytes.div_ceil(8)].into_boxed_slice());
    unsafe { *address = memory.as_ptr() as u64 };
    CUresult::SUCCESS
}

unsafe extern "C" fn free(address: u64) -> CUresult {
    lock(&STATE).unmapped.push(address);
    CUresult::SUCCESS
}

unsafe extern "C" fn create(
    handle: *mut u64,
    size: usize,
    _: *const driver_api::abi::CUmemAllocationProp,
    _: u64,
) -> CUresult {
    if size > 1 << 30 {
        return CUresult::OUT_OF_MEMORY;
    }
    unsafe { *handle = lock(&STATE).handle() as u64 };
    CUresult::SUCCESS
}

unsafe extern "C" fn map(address: u64, size: usize, _: usize, _: u64, _: u64) -> CUresult {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let mapped = unsafe { libc::mmap(address as *mut c_void, size, access, flags, -1, 0) };
    if mapped as u64 == address {
        CUresult::SUCCESS
    } else {
        CUresult::MAP_FAILED
    }
}

unsafe extern "C" fn set_access(
    address: u64,
    _: usize,
    _: *const driver_api::abi::CUmemAccessDesc,
    _: usize,
) -> CUresult {
    lock(&STATE).accesses.push(address);
    CUresult::SUCCESS
}

unsafe extern "C" fn unmap(address: u64, _: usize) -> CUresult {
    let mut state = lock(&STATE);
    state.unmapped.push(address);
    state.of_multicasts.push(("unmapped", address));
    CUresult::SUCCESS
}

unsafe extern "C" fn release_handle(handle: u64) -> CUresult {
    lock(&STATE).of_multicasts.push(("released", handle));
    CUresult::SUCCESS
}

/// What happened to multicast objects, and what was given back, of these handles and addresses.
pub(super) fn of_multicasts(about: &[u64]) -> Vec<&'static str> {
    let state = lock(&STATE);
    let is_it = |(_, of): &&(&'static str, u64)| about.contains(of);
    let happened = state.of_multicasts.iter().filter(is_it);
    happened.map(|(what, _)| *what).collect()
}

unsafe extern "C" fn multicast_create(
    handle: *mut u64,
    _: *const driver_api::abi::CUmulticastObjectProp,
) -> CUresult {
    unsafe { *handle = lock(&STATE).handle() as u64 };
    CUresult::SUCCESS
}

unsafe extern "C" fn multicast_add(_: u64, _: i32) -> CUresult {
    CUresult::SUCCESS
}

unsafe extern "C" fn multicast_bind(
    object: u64,
    _: usize,
    _: u64,
    _: usize,
    _: usize,
    _: u64,
) -> CUresult {
    lock(&STATE).of_multicasts.push(("bound", object));
    CUresult::SUCCESS
}

unsafe extern "C" fn multicast_bind_address(
    object: u64,
    _: usize,
    _: u64,
    _: usize,
    _: u64,
) -> CUresult {
    lock(&STATE).of_multicasts.push(("bound", object));
    CUresult::SUCCESS
}

unsafe extern "C" fn multicast_unbind(object: u64, _: i32, _: usize, _: usize) -> CUresult {
    lock(&STATE).of_multicasts.push(("unbound", object));
    CUresult::SUCCESS
}

unsafe extern "C" fn stream_create(stream: *mut CUstream, _: u32, _: i32) -> CUresult {
    unsafe { *stream = CUstream(lock(&STATE).handle()) };
    CUresult::SUCCESS
}

unsafe extern "C" fn plain_stream_create(stream: *mut CUstream, flags: u32) -> CUresult {
    unsafe { stream_create(stream, flags, 0) }
}

/// A stream that nobody holds has done everything.
unsafe extern "C" fn stream_synchronize(_: CUstream) -> CUresult {
    let state = lock(&STATE);
    let fault = state.faulted.get(&CURRENT.get());
    fault.copied().unwrap_or_default()
}

unsafe extern "C" fn stream_destroy(_: CUstream) -> CUresult {
    CUresult::SUCCESS
}

/// Streams that wait look again whenever one is asked for.
unsafe extern "C" fn stream_query(_: CUstream) -> CUresult {
    let mut state = lock(&STATE);
    let all: Vec<(usize, usize)> = state.streams.keys().copied().collect();
    for (context, stream) in all {
        state.advance(context, stream);
    }
    let fault = state.faulted.get(&CURRENT.get());
    fault.copied().unwrap_or(CUresult::NOT_READY)
}

unsafe extern "C" fn write64(stream: CUstream, address: u64, value: u64, _: u32) -> CUresult {
    lock(&STATE).put(stream, Op::Write64(address as usize, value))
}

unsafe extern "C" fn write32(stream: CUstream, address: u64, value: u32, _: u32) -> CUresult {
    lock(&STATE).put(stream, Op::Write32(address as usize, value))
}

unsafe extern "C" fn wait32(stream: CUstream, address: u64, value: u32, _: u32) -> CUresult {
    lock(&STATE).put(stream, Op::Wait32(address as usize, value))
}

unsafe extern "C" fn copy_to(
    to: u64,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    let mut state = lock(&STATE);
    let from = from as usize;
    let is_pinned = state
        .host
        .iter()
        .any(|(start, length)| (*start..start + length).contains(&from));
    if is_pinned {
        return state.put(stream, Op::Copy(to as usize, from, bytes));
    }
    let owned = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) }.to_vec();
    state.put(stream, Op::CopyOwned(to as usize, owned))
}

unsafe extern "C" fn copy_from(
    to: *mut c_void,
    from: u64,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    let mut state = lock(&STATE);
    if state.held_reads.contains(&from) {
        state.waiting_reads.insert(from);
        RELEASED.notify_all();
        while state.held_reads.contains(&from) {
            state = wait(state);
        }
        state.waiting_reads.remove(&from);
    }
    if let Some(refusal) = state.unreadable.get(&from) {
        return *refusal;
    }
    state.put(stream, Op::Copy(to as usize, from as usize, bytes))
}

unsafe extern "C" fn copy_on(to: u64, from: u64, bytes: usize, stream: CUstream) -> CUresult {
    lock(&STATE).put(stream, Op::Copy(to as usize, from as usize, bytes))
}

unsafe extern "C" fn fill8(to: u64, value: u8, count: usize, stream: CUstream) -> CUresult {
    lock(&STATE).put(stream, Op::Fill(to as usize, value, count))
}

unsafe extern "C" fn event_create(event: *mut CUevent, _: u32) -> CUresult {
    unsafe { *event = CUevent(lock(&STATE).handle()) };
    CUresult::SUCCESS
}

unsafe extern "C" fn event_record(event: CUevent, stream: CUstream) -> CUresult {
    let mut state = lock(&STATE);
    state.done_events.remove(&event.0);
    state.put(stream, Op::Record(event.0))
}

unsafe extern "C" fn event_query(event: CUevent) -> CUresult {
    if lock(&STATE).done_events.contains(&event.0) {
        CUresult::SUCCESS
    } else {
        CUresult::NOT_READY
    }
}

unsafe extern "C" fn event_destroy(_: CUevent) -> CUresult {
    CUresult::SUCCESS
}

unsafe extern "C" fn module_load(module: *mut CUmodule, image: *const c_void) -> CUresult {
    let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy();
    let held = text.split("hold ").nth(1).and_then(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    let mut state = lock(&STATE);
    while let Some(number) = held
        && !state.released.contains(&number)
    {
        state = wait(state);
    }
    unsafe { *module = CUmodule(state.handle()) };
    CUresult::SUCCESS
}

unsafe extern "C" fn get_function(
    function: *mut CUfunction,
    _: CUmodule,
    name: *const c_char,
) -> CUresult {
    let name = unsafe { CStr::from_ptr(name) };
    let Some(known) = ["store", "pair", "fault"]
        .into_iter()
        .find(|known| name.to_bytes() == known.as_bytes())
    else {
        return CUresult::NOT_FOUND;
    };
    let mut state = lock(&STATE);
    let handle = state.handle();
    state.functions.insert(handle, known);
    unsafe { *function = CUfunction(handle) };
    CUresult::SUCCESS
}

/// A variable whose name is its offset in memory of its module, and its size.
unsafe extern "C" fn get_global(
    address: *mut u64,
    size: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
    let numbers = name.split(' ').map_while(|number| number.parse().ok());
    let [offset, bytes] = numbers.collect::<Vec<usize>>()[..] else {
        return CUresult::NOT_FOUND;
    };
    let mut state = lock(&STATE);
    let block = || Box::leak(Box::new([0_u64; MODULE_WORDS])).as_ptr().addr();
    let block = *state.modules.entry(module.0).or_insert_with(block);
    unsafe {
        *address = (block + offset) as u64;
        *size = bytes;
    }
    CUresult::SUCCESS
}

unsafe extern "C" fn parameter_info(
    _: CUfunction,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> CUresult {
    let Some((at, bytes)) = [(0, 8), (8, 4)].get(index).copied() else {
        return CUresult::INVALID_VALUE;
    };
    unsafe {
        *offset = at;
        *size = bytes;
    }
    CUresult::SUCCESS
}

unsafe extern "C" fn launch(
    function: CUfunction,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    stream: CUstream,
    parameters: *mut *mut c_void,
    _: *mut *mut c_void,
) -> CUresult {
    let mut state = lock(&STATE);
    match state.functions.get(&function.0).copied() {
        Some("fault") => state.put(stream, Op::Fault),
        Some(_) => {
            let (address, value) = unsafe {
                let address = (*parameters).cast::<u64>().read_unaligned();
                (address, (*parameters.add(1)).cast::<u32>().read_unaligned())
            };
            state.put(stream, Op::Write32(address as usize, value))
        }
        None => CUresult::INVALID_HANDLE,
    }
}

/// A handle of a graph, an executable one or a node, where the first argument says; the others do not matter.
unsafe extern "C" fn graph_handle(place: *mut usize) -> CUresult {
    unsafe { place.write(lock(&STATE).handle()) };
    CUresult::SUCCESS
}

/// A node of a graph with a condition, which has as many bodies as its parameters say.
unsafe extern "C" fn conditional_node(
    node: *mut usize,
    _graph: usize,
    _dependencies: *const usize,
    _data: *const u64,
    _count: usize,
    parameters: *mut AnyParameters,
) -> CUresult {
    let mut state = lock(&STATE);
    unsafe {
        node.write(state.handle());
        let of_kind = (*parameters).of_kind.as_mut_ptr();
        let conditional = of_kind.cast::<ConditionalParameters>();
        let bodies = (0..(*conditional).size).map(|_| CUgraph(state.handle()));
        (*conditional).bodies = Box::leak(bodies.collect::<Box<[CUgraph]>>()).as_ptr();
    }
    CUresult::SUCCESS
}

extern "C" fn succeed() -> CUresult {
    CUresult::SUCCESS
}

/// The driver's table; without 64-bit writes, streams record events.
pub(in crate::worker) fn driver(writes: bool) -> &'static Driver {
    let find = move |name: &str| -> Option<*const ()> {
        Some(match name {
            "cuCtxSetCurrent" => set_current as *const (),
            "cuDevicePrimaryCtxRetain" => primary_retain as *const (),
            "cuDevicePrimaryCtxRelease_v2" => primary_release as *const (),
            "cuCtxSynchronize" => synchronize_context as *const (),
            "cuDeviceGetAttribute" => attribute as *const (),
            "cuMemHostAlloc" => host_alloc as *const (),
            "cuMemHostGetDevicePointer_v2" => host_device_pointer as *const (),
            "cuMemGetHandleForAddressRange" => export as *const (),
            "cuFlushGPUDirectRDMAWrites" => flush as *const (),
            "cuMemAlloc_v2" => alloc as *const (),
            "cuMemFree_v2" => free as *const (),
            "cuMemCreate" => create as *const (),
            "cuMemMap" => map as *const (),
            "cuMemSetAccess" => set_access as *const (),
            "cuMemUnmap" => unmap as *const (),
            "cuMemRelease" => release_handle as *const (),
            "cuMulticastCreate" => multicast_create as *const (),
            "cuMulticastAddDevice" => multicast_add as *const (),
            "cuMulticastBindMem" => multicast_bind as *const (),
            "cuMulticastBindAddr" => multicast_bind_address as *const (),
            "cuMulticastUnbind" => multicast_unbind as *const (),
            "cuStreamCreateWithPriority" => stream_create as *const (),
            "cuStreamCreate" => plain_stream_create as *const (),
            "cuStreamSynchronize" => stream_synchronize as *const (),
            "cuMemHostRegister_v2" => host_register as *const (),
            "cuMemHostUnregister" => host_unregister as *const (),
            "cuStreamDestroy_v2" => stream_destroy as *const (),
            "cuStreamQuery" => stream_query as *const (),
            "cuStreamWriteValue64_v2" if writes => write64 as *const (),
            "cuStreamWriteValue32_v2" if writes => write32 as *const (),
            "cuStreamWaitValue32_v2" if writes => wait32 as *const (),
            "cuMemcpyHtoDAsync_v2" => copy_to as *const (),
            "cuMemcpyDtoHAsync_v2" => copy_from as *const (),
            "cuMemcpyDtoDAsync_v2" => copy_on as *const (),
            "cuMemsetD8Async" => fill8 as *const (),
            "cuEventCreate" => event_create as *const (),
            "cuEventRecord" => event_record as *const (),
            "cuEventQuery" => event_query as *const (),
            "cuEventDestroy_v2" => event_destroy as *const (),
            "cuModuleLoadData" => module_load as *const (),
            "cuModuleGetFunction" => get_function as *const (),
            "cuModuleGetGlobal_v2" => get_global as *const (),
            "cuFuncGetParamInfo" => parameter_info as *const (),
            "cuLaunchKernel" => launch as *const (),
            // An old driver has none.
            "cuGraphConditionalHandleCreate" if !writes => return None,
            "cuGraphCreate"
            | "cuGraphAddEmptyNode"
            | "cuGraphAddKernelNode"
            | "cuGraphAddMemcpyNode"
            | "cuGraphAddMemsetNode"
            | "cuGraphConditionalHandleCreate"
            | "cuGraphInstantiateWithFlags" => graph_handle as *const (),
            "cuGraphAddNode_v2" => conditional_node as *const (),
            "cuCtxDisablePeerAccess" => disable_peer as *const (),
            "cuCtxEnablePeerAccess"
            | "cuGraphDestroy"
            | "cuGraphDestroyNode"
            | "cuGraphAddDependencies"
            | "cuGraphRemoveDependencies"
            | "cuGraphExecDestroy"
            | "cuGraphLaunch"
            | "cuModuleUnload" => succeed as *const (),
            _ => return None,
        })
    };
    Box::leak(Box::new(unsafe { Driver::load(find) }))
}
