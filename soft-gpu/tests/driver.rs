//! The driver through its own exports, in one process: what no CUDA runtime stands between.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use driver_api::abi::{
    CUevent, CUfunction, CUgraphicsResource, CUlinkState, CUmemAccessDesc, CUmemAllocationProp,
    CUmemLocation, CUmemoryPool, CUmodule, CUresult, CUstream,
};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
mod device;

use device::{allocate, context, load, read};

const MIB: usize = 1 << 20;
const GRANULARITY: usize = 2 * MIB;
const DEVICE_MEMORY: usize = 256 * MIB;

/// Stores its second parameter where the first points to.
const STORE: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 at, .param .u32 value)
{
    .reg .b64 %a; .reg .b32 %v;
    ld.param.u64 %a, [at];
    ld.param.u32 %v, [value];
    st.global.u32 [%a], %v;
    ret;
}
";

fn launch(function: CUfunction, at: u64, value: u32, stream: CUstream) -> CUresult {
    let (mut at, mut value) = (at, value);
    let mut parameters = [(&raw mut at).cast::<c_void>(), (&raw mut value).cast()];
    cu!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        stream,
        parameters.as_mut_ptr(),
        null_mut()
    ))
}

/// Allocates `bytes` on the device and stores the address; or waits for all blocks of the grid.
const DEVICE_CODE: &str = "
.version 7.0
.target sm_75
.address_size 64
.extern .func (.param .b64 r) malloc(.param .b64 size);
.visible .entry k(.param .u64 at, .param .u32 bytes)
{
    .reg .b64 %a, %p; .reg .b32 %v;
    ld.param.u64 %a, [at];
    ld.param.u32 %v, [bytes];
    cvt.u64.u32 %p, %v;
    { .param .b64 s; .param .b64 r;
      st.param.b64 [s], %p;
      call (r), malloc, (s);
      ld.param.b64 %p, [r]; }
    st.global.u64 [%a], %p;
    ret;
}
.visible .entry meet(.param .u64 at)
{
    .reg .b64 %a; .reg .b32 %v, %n; .reg .pred %p;
    ld.param.u64 %a, [at];
    mov.u32 %n, %nctaid.x;
    atom.global.add.u32 %v, [%a], 1;
again:
    ld.acquire.gpu.global.u32 %v, [%a];
    setp.lt.u32 %p, %v, %n;
    @%p bra again;
    ret;
}
";

#[test]
fn the_heap_of_kernels_has_the_size_of_its_limit() {
    const HEAP_SIZE: u32 = 2;
    context();
    let (_, function) = load(DEVICE_CODE);
    let at = allocate(8);
    ok!(cuCtxSetLimit(HEAP_SIZE, 4 * MIB));
    let pointer = |bytes: usize| {
        assert_eq!(
            launch(function, at, bytes as u32, CUstream(0)),
            CUresult::SUCCESS
        );
        let mut pointer = 0u64;
        ok!(cuMemcpyDtoH_v2((&raw mut pointer).cast(), at, 8));
        pointer
    };
    assert_eq!(pointer(4 * MIB + 16), 0);
    let first = pointer(3 * MIB);
    assert!(first != 0 && first % 16 == 0);
    assert_eq!(pointer(MIB + 16), 0, "what is left is less");
    assert!(pointer(MIB - 16) != 0);
    // The heap is there: its size stays.
    assert_eq!(
        cu!(cuCtxSetLimit(HEAP_SIZE, 8 * MIB)),
        CUresult::INVALID_VALUE
    );
}

#[test]
fn a_cooperative_launch_has_as_many_blocks_as_occupancy_promises() {
    context();
    let (module, _) = load(DEVICE_CODE);
    let mut function = CUfunction(0);
    ok!(cuModuleGetFunction(&mut function, module, c"meet".as_ptr()));
    let (mut each, mut count, mut served) = (0, 0, 0);
    ok!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
        &mut each, function, 64, 0
    ));
    ok!(cuDeviceGetAttribute(&mut count, 16, 0));
    ok!(cuDeviceGetAttribute(&mut served, 95, 0));
    assert_eq!(served, 1);
    let most = (each * count) as u32;
    let mut at = allocate(4);
    let mut parameters = [(&raw mut at).cast::<c_void>()];
    let mut meet = |blocks: u32| {
        ok!(cuMemsetD32_v2(at, 0, 1));
        let launched = cu!(cuLaunchCooperativeKernel(
            function,
            blocks,
            1,
            1,
            64,
            1,
            1,
            0,
            CUstream(0),
            parameters.as_mut_ptr()
        ));
        ok!(cuCtxSynchronize());
        launched
    };
    assert_eq!(meet(most), CUresult::SUCCESS);
    assert_eq!(read(at), most * 64);
    assert_eq!(meet(most + 1), CUresult::COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_eq!(meet(u32::MAX / 2), CUresult::COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_eq!(meet(1), CUresult::SUCCESS);
}

#[test]
fn a_stream_waits_for_a_value_that_another_thread_writes() {
    let context = context();
    let (word, target) = (allocate(4), allocate(4));
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    ok!(cuMemsetD32_v2(word, 0, 1));
    ok!(cuMemsetD32_v2(target, 0, 1));
    ok!(cuCtxSynchronize());
    ok!(cuStreamWaitValue32_v2(stream, word, 7, 1));
    let (_, function) = load(STORE);
    assert_eq!(launch(function, target, 9, stream), CUresult::SUCCESS);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(cu!(cuStreamQuery(stream)), CUresult::NOT_READY);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ok!(cuCtxSetCurrent(context));
            let mut other = CUstream(0);
            ok!(cuStreamCreate(&mut other, 1));
            ok!(cuStreamWriteValue32_v2(other, word, 7, 0));
            ok!(cuStreamDestroy_v2(other));
        });
    });
    ok!(cuStreamSynchronize(stream));
    assert_eq!(read(target), 9);
    ok!(cuCtxDestroy_v2(context));
}

#[test]
fn the_legacy_stream_is_a_barrier() {
    let context = context();
    let (gate, target) = (allocate(4), allocate(4));
    ok!(cuMemsetD32_v2(gate, 0, 1));
    ok!(cuCtxSynchronize());
    let (mut blocking, mut free) = (CUstream(0), CUstream(0));
    ok!(cuStreamCreate(&mut blocking, 0));
    ok!(cuStreamCreate(&mut free, 1));
    ok!(cuStreamWaitValue32_v2(blocking, gate, 1, 1));
    // Waits for the blocking stream; what the other does is nobody's business.
    ok!(cuMemsetD32Async(target, 5, 1, CUstream(0)));
    assert_eq!(cu!(cuStreamQuery(CUstream(0))), CUresult::NOT_READY);
    ok!(cuStreamWriteValue32_v2(free, gate, 1, 0));
    ok!(cuStreamSynchronize(CUstream(0)));
    assert_eq!(read(target), 5);
    ok!(cuCtxDestroy_v2(context));
}

#[test]
fn memory_is_counted_to_the_last_chunk() {
    let context = context();
    let (mut free, mut total, mut address) = (0, 0, 0);
    ok!(cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!(total, DEVICE_MEMORY);
    assert_eq!(
        cu!(cuMemAlloc_v2(&mut address, DEVICE_MEMORY + 1)),
        CUresult::OUT_OF_MEMORY
    );
    assert_eq!(cu!(cuMemAlloc_v2(&mut address, 0)), CUresult::INVALID_VALUE);
    let large = allocate(64 * MIB);
    assert_eq!(
        cu!(cuMemAlloc_v2(&mut address, DEVICE_MEMORY - 32 * MIB)),
        CUresult::OUT_OF_MEMORY
    );
    assert_eq!(cu!(cuMemFree_v2(large + 4)), CUresult::INVALID_VALUE);
    ok!(cuMemFree_v2(large));
    assert_eq!(cu!(cuMemFree_v2(large)), CUresult::INVALID_VALUE);
    assert_eq!(cu!(cuMemsetD8_v2(large, 0, 1)), CUresult::INVALID_VALUE);
    ok!(cuCtxDestroy_v2(context));
}

#[test]
fn physical_memory_appears_where_it_is_mapped() {
    let context = context();
    let here = CUmemLocation { kind: 1, id: 0 };
    let properties = CUmemAllocationProp {
        kind: 1,
        location: here,
        ..CUmemAllocationProp::default()
    };
    let hint = 0x6000_0000_0000u64;
    let (mut address, mut handle) = (0, 0);
    ok!(cuMemAddressReserve(
        &mut address,
        4 * GRANULARITY,
        0,
        hint,
        0
    ));
    assert_eq!(address, hint);
    // Two handles, side by side: copies cross from one to the other.
    for part in 0..2 {
        let place = address + (part * GRANULARITY) as u64;
        ok!(cuMemCreate(&mut handle, GRANULARITY, &properties, 0));
        ok!(cuMemMap(place, GRANULARITY, 0, handle, 0));
        ok!(cuMemRelease(handle));
        assert_eq!(cu!(cuMemsetD8_v2(place, 1, 1)), CUresult::INVALID_VALUE);
    }
    let access = CUmemAccessDesc {
        location: here,
        flags: 3,
    };
    ok!(cuMemSetAccess(address, 2 * GRANULARITY, &access, 1));
    ok!(cuMemsetD8_v2(address, 0x11, 2 * GRANULARITY));
    assert_eq!(
        cu!(cuMemsetD8_v2(address, 0, 2 * GRANULARITY + 1)),
        CUresult::INVALID_VALUE
    );
    assert_eq!(read(address + GRANULARITY as u64 - 2), 0x1111_1111);
    assert_eq!(
        cu!(cuMemAddressFree(address, 4 * GRANULARITY)),
        CUresult::INVALID_VALUE
    );
    ok!(cuMemUnmap(address, 2 * GRANULARITY));
    assert_eq!(cu!(cuMemsetD8_v2(address, 0, 1)), CUresult::INVALID_VALUE);
    ok!(cuMemAddressFree(address, 4 * GRANULARITY));
    ok!(cuCtxDestroy_v2(context));
}

#[test]
fn a_fault_stays_with_its_context() {
    let faulty = context();
    let (_, function) = load(STORE);
    assert_eq!(launch(function, 0x10000, 1, CUstream(0)), CUresult::SUCCESS);
    assert_eq!(cu!(cuCtxSynchronize()), CUresult::ILLEGAL_ADDRESS);
    let mut address = 0;
    assert_eq!(
        cu!(cuMemAlloc_v2(&mut address, 16)),
        CUresult::ILLEGAL_ADDRESS
    );
    assert_eq!(
        launch(function, 0x10000, 1, CUstream(0)),
        CUresult::ILLEGAL_ADDRESS
    );
    ok!(cuCtxDestroy_v2(faulty));
    let healthy = context();
    let at = allocate(8);
    let (_, function) = load(STORE);
    assert_eq!(launch(function, at, 3, CUstream(0)), CUresult::SUCCESS);
    assert_eq!(read(at), 3);
    assert_eq!(launch(function, at + 2, 3, CUstream(0)), CUresult::SUCCESS);
    assert_eq!(cu!(cuCtxSynchronize()), CUresult::MISALIGNED_ADDRESS);
    ok!(cuCtxDestroy_v2(healthy));
}

#[test]
fn wrong_calls_are_answered_and_forgotten() {
    let context = context();
    let at = allocate(4);
    let (module, function) = load(STORE);
    let mut found = CUfunction(0);
    let mut event = CUevent(0);
    for (answer, expected) in [
        (
            cu!(cuModuleGetFunction(&mut found, module, c"no".as_ptr())),
            CUresult::NOT_FOUND,
        ),
        (
            cu!(cuModuleGetFunction(&mut found, CUmodule(1), c"k".as_ptr())),
            CUresult::INVALID_HANDLE,
        ),
        (
            cu!(cuStreamSynchronize(CUstream(12345))),
            CUresult::INVALID_HANDLE,
        ),
        (
            cu!(cuStreamSynchronize(CUstream(module.0))),
            CUresult::INVALID_HANDLE,
        ),
        (
            cu!(cuEventSynchronize(CUevent(0))),
            CUresult::INVALID_HANDLE,
        ),
        (
            cu!(cuEventCreate(&mut event, 0x1000)),
            CUresult::INVALID_VALUE,
        ),
        (
            cu!(cuMemcpyDtoH_v2(null_mut(), at, 4)),
            CUresult::INVALID_VALUE,
        ),
        (cu!(cuMemcpyHtoD_v2(at, null(), 4)), CUresult::INVALID_VALUE),
        (
            cu!(cuMemcpyDtoD_v2(at, at, 1 << 40)),
            CUresult::INVALID_VALUE,
        ),
        (
            cu!(cuLaunchKernel(
                function,
                1,
                1,
                1,
                2048,
                1,
                1,
                0,
                CUstream(0),
                null_mut(),
                null_mut()
            )),
            CUresult::INVALID_VALUE,
        ),
        (
            cu!(cuModuleLoadData(&mut CUmodule(0), c"\x01".as_ptr().cast())),
            CUresult::INVALID_IMAGE,
        ),
        (
            cu!(cuModuleLoadData(&mut CUmodule(0), c"what?".as_ptr().cast())),
            CUresult::INVALID_PTX,
        ),
        (
            cu!(cuArrayCreate_v2(null_mut(), null())),
            CUresult::INVALID_VALUE,
        ),
        (
            cu!(cuGraphicsUnregisterResource(CUgraphicsResource(0))),
            CUresult::NOT_SUPPORTED,
        ),
    ] {
        assert_eq!(answer, expected);
    }
    assert_eq!(launch(function, at, 1, CUstream(0)), CUresult::SUCCESS);
    assert_eq!(read(at), 1);
    ok!(cuCtxDestroy_v2(context));
    assert_eq!(cu!(cuCtxSynchronize()), CUresult::INVALID_CONTEXT);
}

/// What NVIDIA's assembler makes of such operands, too.
#[test]
fn an_index_counts_elements() {
    context();
    let (_, function) = load(include_str!("../kernels/elements.ptx"));
    let at = allocate(40);
    assert_eq!(launch(function, at, 2, CUstream(0)), CUresult::SUCCESS);
    let words: Vec<u32> = (0..9).map(|word| read(at + 4 * word)).collect();
    assert_eq!(words, [102, 0, 104, 0, 112, 2, 102, 0, 2]);
}

#[test]
fn events_measure_what_lies_between_them() {
    let context = context();
    let (mut start, mut end) = (CUevent(0), CUevent(0));
    ok!(cuEventCreate(&mut start, 0));
    ok!(cuEventCreate(&mut end, 0));
    let word = allocate(4);
    ok!(cuMemsetD32_v2(word, 0, 1));
    ok!(cuCtxSynchronize());
    let mut side = CUstream(0);
    ok!(cuStreamCreate(&mut side, 1));
    ok!(cuEventRecord(start, CUstream(0)));
    ok!(cuStreamWaitValue32_v2(CUstream(0), word, 1, 0));
    ok!(cuEventRecord(end, CUstream(0)));
    let mut milliseconds = 0.0;
    assert_eq!(
        cu!(cuEventElapsedTime(&mut milliseconds, start, end)),
        CUresult::NOT_READY
    );
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(30));
    ok!(cuStreamWriteValue32_v2(side, word, 1, 0));
    ok!(cuEventSynchronize(end));
    ok!(cuEventElapsedTime(&mut milliseconds, start, end));
    assert!(
        milliseconds >= 25.0
            && f64::from(milliseconds) < began.elapsed().as_secs_f64() * 1e3 + 25.0
    );
    ok!(cuCtxDestroy_v2(context));
}

/// Memory of the device that is taken, in bytes.
fn taken() -> usize {
    let (mut free, mut total) = (0, 0);
    ok!(cuMemGetInfo_v2(&mut free, &mut total));
    total - free
}

fn pool_number(pool: CUmemoryPool, attribute: u32) -> u64 {
    let mut value = 0u64;
    ok!(cuMemPoolGetAttribute(
        pool,
        attribute,
        (&raw mut value).cast()
    ));
    value
}

const RELEASE_THRESHOLD: u32 = 4;
const RESERVED: u32 = 5;
const USED: u32 = 7;
const USED_HIGH: u32 = 8;

#[test]
fn memory_is_freed_where_the_stream_is() {
    context();
    let (mut pool, mut current) = (CUmemoryPool(0), CUmemoryPool(0));
    ok!(cuDeviceGetDefaultMemPool(&mut pool, 0));
    ok!(cuDeviceGetMemPool(&mut current, 0));
    assert_eq!(pool, current);
    let before = taken();
    let (mut word, mut memory) = (allocate(4), 0);
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    ok!(cuMemsetD32_v2(word, 0, 1));
    ok!(cuMemAllocAsync(&mut memory, 5 * MIB, stream));
    // The free is behind a wait: until then the memory can be used.
    ok!(cuStreamWaitValue32_v2(stream, word, 1, 1));
    ok!(cuMemFreeAsync(memory, stream));
    assert_eq!(
        cu!(cuMemFreeAsync(memory, stream)),
        CUresult::INVALID_VALUE,
        "twice"
    );
    ok!(cuMemsetD8_v2(memory, 7, 5 * MIB));
    assert_eq!(pool_number(pool, USED), 0, "as of the call");
    assert_eq!(
        pool_number(pool, RESERVED),
        6 * MIB as u64,
        "until it is done"
    );
    ok!(cuMemsetD32_v2(word, 1, 1));
    ok!(cuStreamSynchronize(stream));
    assert_eq!(pool_number(pool, USED_HIGH), 6 * MIB as u64);
    assert_eq!(pool_number(pool, RESERVED), 0, "given back");
    assert_eq!(cu!(cuMemsetD8_v2(memory, 7, 1)), CUresult::INVALID_VALUE);
    ok!(cuMemFree_v2(word));
    word = 0;
    assert_eq!((word, taken()), (0, before));
}

#[test]
fn a_pool_holds_what_its_threshold_says_and_uses_it_again() {
    context();
    let location = CUmemLocation { kind: 1, id: 0 };
    let mut properties = [0u64; 11];
    (properties[0], properties[1]) = (1, u64::from(location.kind));
    let mut pool = CUmemoryPool(0);
    ok!(cuMemPoolCreate(&mut pool, properties.as_ptr().cast()));
    let mut threshold = 64 * MIB as u64;
    ok!(cuMemPoolSetAttribute(
        pool,
        RELEASE_THRESHOLD,
        (&raw mut threshold).cast()
    ));
    let stream = CUstream(0);
    let mut first = 0;
    ok!(cuMemAllocFromPoolAsync(&mut first, 8 * MIB, pool, stream));
    ok!(cuMemFreeAsync(first, stream));
    ok!(cuCtxSynchronize());
    assert_eq!(pool_number(pool, RESERVED), 8 * MIB as u64);
    let mut second = 0;
    ok!(cuMemAllocFromPoolAsync(&mut second, 8 * MIB, pool, stream));
    assert_eq!(first, second);
    ok!(cuMemFree_v2(second));
    assert_eq!(pool_number(pool, USED), 0);
    ok!(cuMemAllocFromPoolAsync(&mut first, 100, pool, stream));
    ok!(cuMemFreeAsync(first, stream));
    ok!(cuCtxSynchronize());
    ok!(cuMemPoolTrimTo(pool, 0));
    assert_eq!(pool_number(pool, RESERVED), 0);
    ok!(cuDeviceSetMemPool(0, pool));
    ok!(cuMemAllocAsync(&mut first, MIB, stream));
    assert_eq!(pool_number(pool, USED), MIB as u64);
    let mut flags = 0;
    let mut place = location;
    ok!(cuMemPoolGetAccess(&mut flags, pool, &mut place));
    assert_eq!(flags, 3);
    ok!(cuMemPoolDestroy(pool));
    assert_eq!(cu!(cuMemPoolDestroy(pool)), CUresult::INVALID_HANDLE);
    ok!(cuMemFreeAsync(first, stream));
    let mut current = CUmemoryPool(0);
    ok!(cuDeviceGetMemPool(&mut current, 0));
    assert!(current != pool);
    assert_eq!(cu!(cuMemPoolDestroy(current)), CUresult::NOT_PERMITTED);
}

#[test]
fn allocations_wait_for_frees_that_are_on_their_way() {
    context();
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    let mut memory = 0;
    for _ in 0..8 {
        ok!(cuMemAllocAsync(&mut memory, 100 * MIB, stream));
        ok!(cuMemsetD8Async(memory, 1, 100 * MIB, stream));
        ok!(cuMemFreeAsync(memory, stream));
    }
    let more = cu!(cuMemAllocAsync(&mut memory, DEVICE_MEMORY + MIB, stream));
    assert_eq!(more, CUresult::OUT_OF_MEMORY);
    ok!(cuStreamSynchronize(stream));
}

/// A pool of the device that keeps what it once had, of at most `most` bytes.
fn keeping_pool(most: usize) -> CUmemoryPool {
    let mut properties = [0u64; 11];
    // Pinned memory of a device.
    (properties[0], properties[1], properties[3]) = (1, 1, most as u64);
    let mut pool = CUmemoryPool(0);
    ok!(cuMemPoolCreate(&mut pool, properties.as_ptr().cast()));
    let mut threshold = u64::MAX;
    ok!(cuMemPoolSetAttribute(
        pool,
        RELEASE_THRESHOLD,
        (&raw mut threshold).cast()
    ));
    pool
}

#[test]
fn what_is_freed_is_reserved_all_the_while() {
    context();
    let pool = keeping_pool(0);
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    for _ in 0..2000 {
        let mut memory = 0;
        ok!(cuMemAllocFromPoolAsync(&mut memory, MIB, pool, stream));
        ok!(cuMemFreeAsync(memory, stream));
        while cu!(cuStreamQuery(stream)) == CUresult::NOT_READY {
            assert_eq!(pool_number(pool, RESERVED), MIB as u64);
        }
        assert_eq!(pool_number(pool, USED), 0);
    }
    ok!(cuMemPoolDestroy(pool));
    ok!(cuStreamDestroy_v2(stream));
}

/// A stream that does nothing until a word is 1, and the word.
fn blocked() -> (CUstream, u64) {
    let (word, mut stream) = (allocate(4), CUstream(0));
    ok!(cuMemsetD32_v2(word, 0, 1));
    ok!(cuCtxSynchronize());
    ok!(cuStreamCreate(&mut stream, 1));
    ok!(cuStreamWaitValue32_v2(stream, word, 1, 1));
    (stream, word)
}

/// Makes a pool hold `bytes`.
fn hold(pool: CUmemoryPool, bytes: usize) {
    let mut memory = 0;
    let stream = CUstream(0);
    ok!(cuMemAllocFromPoolAsync(&mut memory, bytes, pool, stream));
    ok!(cuMemFreeAsync(memory, stream));
    ok!(cuCtxSynchronize());
    assert_eq!(pool_number(pool, RESERVED), bytes as u64);
}

#[test]
fn what_cannot_bring_memory_is_not_waited_for() {
    context();
    let pool = keeping_pool(0);
    // Both would wait for ever.
    let (stream, word) = blocked();
    let mut memory = 0;
    for bytes in [DEVICE_MEMORY - MIB, DEVICE_MEMORY + MIB] {
        let more = cu!(cuMemAllocFromPoolAsync(&mut memory, bytes, pool, stream));
        assert_eq!(more, CUresult::OUT_OF_MEMORY);
    }
    ok!(cuMemPoolTrimTo(pool, 0));
    ok!(cuMemsetD32_v2(word, 1, 1));
    ok!(cuStreamSynchronize(stream));
}

#[test]
fn every_allocation_finds_what_pools_hold() {
    const MOST: usize = DEVICE_MEMORY / 4 * 3;
    context();
    let pool = keeping_pool(0);
    hold(pool, MOST);
    ok!(cuMemFree_v2(allocate(MOST)));
    hold(pool, MOST);
    let properties = CUmemAllocationProp {
        kind: 1,
        location: CUmemLocation { kind: 1, id: 0 },
        ..CUmemAllocationProp::default()
    };
    let mut handle = 0;
    ok!(cuMemCreate(&mut handle, MOST, &properties, 0));
    ok!(cuMemRelease(handle));
    // A pool's own bound is one of what is used, not of what it holds.
    let bounded = keeping_pool(8 * MIB);
    hold(bounded, 6 * MIB);
    let mut memory = 0;
    ok!(cuMemAllocFromPoolAsync(
        &mut memory,
        4 * MIB,
        bounded,
        CUstream(0)
    ));
    let more = cu!(cuMemAllocFromPoolAsync(
        &mut memory,
        6 * MIB,
        bounded,
        CUstream(0)
    ));
    assert_eq!(more, CUresult::OUT_OF_MEMORY);
}

#[test]
fn what_a_stream_will_free_is_not_freed_before_it() {
    context();
    let (stream, word) = blocked();
    let mut memory = 0;
    ok!(cuMemAllocAsync(&mut memory, 4 * MIB, stream));
    ok!(cuMemFreeAsync(memory, stream));
    assert_eq!(cu!(cuMemFree_v2(memory)), CUresult::INVALID_VALUE);
    ok!(cuMemsetD32_v2(word, 1, 1));
    ok!(cuStreamSynchronize(stream));
    // The address is another allocation's now, which nobody has freed.
    let again = allocate(4 * MIB);
    assert_eq!(again, memory);
    ok!(cuMemFreeAsync(again, stream));
    ok!(cuStreamSynchronize(stream));
}

/// Kinds of what is linked.
const PTX: u32 = 1;
const LIBRARY: u32 = 4;

/// Loads what two texts, or a text and an archive, give when they are linked.
fn linked(texts: [(u32, &str); 2]) -> CUmodule {
    let mut state = CUlinkState(0);
    ok!(cuLinkCreate_v2(0, null_mut(), null_mut(), &mut state));
    for (kind, text) in texts {
        ok!(cuLinkAddData_v2(
            state,
            kind,
            text.as_ptr().cast_mut().cast(),
            text.len(),
            null(),
            0,
            null_mut(),
            null_mut()
        ));
    }
    let (mut image, mut size, mut module) = (null_mut(), 0, CUmodule(0));
    ok!(cuLinkComplete(state, &mut image, &mut size));
    ok!(cuModuleLoadData(&mut module, image));
    ok!(cuLinkDestroy(state));
    module
}

#[test]
fn linked_texts_keep_what_is_their_own() {
    // One line each; both have a string and a function of the same name, and one function that may be defined twice.
    let text = |entry: &str, value: u32| {
        format!(
            ".version 7.0 .target sm_75 .address_size 64 .global .b32 $str = {value}; \
             .func (.param .b32 r) own() {{ .reg .b32 %r; ld.global.u32 %r, [$str]; st.param.b32 [r], %r; ret; }} \
             .weak .func (.param .b32 r) both() {{ .reg .b32 %r; mov.u32 %r, 5; st.param.b32 [r], %r; ret; }} \
             .visible .entry {entry}(.param .u64 at) {{ .reg .b64 %a; .reg .b32 %v, %w; ld.param.u64 %a, [at]; \
             {{ .param .b32 x; call (x), own, (); ld.param.b32 %v, [x]; }} \
             {{ .param .b32 y; call (y), both, (); ld.param.b32 %w, [y]; }} \
             add.u32 %v, %v, %w; st.global.u32 [%a], %v; ret; }}"
        )
    };
    context();
    let module = linked([(PTX, &text("first", 10)), (PTX, &text("second", 20))]);
    let mut at = allocate(4);
    for (name, expected) in [(c"first", 15), (c"second", 25)] {
        let mut function = CUfunction(0);
        ok!(cuModuleGetFunction(&mut function, module, name.as_ptr()));
        let mut parameters = [(&raw mut at).cast::<c_void>()];
        let launched = cu!(cuLaunchKernel(
            function,
            1,
            1,
            1,
            1,
            1,
            1,
            0,
            CUstream(0),
            parameters.as_mut_ptr(),
            null_mut()
        ));
        assert_eq!((launched, read(at)), (CUresult::SUCCESS, expected));
    }
}

#[test]
fn a_caller_may_want_a_result_that_its_callee_has_not() {
    let header = ".version 7.0 .target sm_75 .address_size 64";
    let caller = format!(
        "{header} .extern .func (.param .b32 r) put(.param .b64 at); \
         .visible .entry call_it(.param .u64 at) {{ .reg .b64 %a; ld.param.u64 %a, [at]; \
         {{ .param .b64 x; .param .b32 y; st.param.b64 [x], %a; call (y), put, (x); }} ret; }}"
    );
    let callee = format!(
        "{header} .visible .func put(.param .b64 at) {{ .reg .b64 %a; ld.param.u64 %a, [at]; st.u32 [%a], 7; ret; }}"
    );
    context();
    let module = linked([(PTX, &caller), (PTX, &callee)]);
    let (mut at, mut function) = (allocate(4), CUfunction(0));
    ok!(cuModuleGetFunction(
        &mut function,
        module,
        c"call_it".as_ptr()
    ));
    let mut parameters = [(&raw mut at).cast::<c_void>()];
    ok!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        CUstream(0),
        parameters.as_mut_ptr(),
        null_mut()
    ));
    assert_eq!(read(at), 7);
}

/// The barrier of the device runtime, which is an archive of machine code: each block of two rows adds to a sum of its round, and then finds it whole.
#[test]
fn the_device_runtime_has_a_barrier_of_the_grid() {
    let kernel = ".version 7.0 .target sm_70 .address_size 64
        .extern .func (.param .b64 h) cudaCGGetIntrinsicHandle(.param .b32 scope);
        .extern .func (.param .b32 s) cudaCGSynchronize(.param .b64 h, .param .b32 flags);
        .visible .entry rounds(.param .u64 sums) {
            .reg .b64 %sums, %grid; .reg .b32 %round, %found, %blocks, %y, %status; .reg .pred %p;
            ld.param.u64 %sums, [sums];
            mov.u32 %blocks, %nctaid.x; mov.u32 %y, %nctaid.y; mul.lo.u32 %blocks, %blocks, %y;
            { .param .b32 scope; .param .b64 h; st.param.b32 [scope], 1;
              call (h), cudaCGGetIntrinsicHandle, (scope); ld.param.b64 %grid, [h]; }
            mov.u32 %round, 0;
        next:
            atom.global.add.u32 %found, [%sums], 1;
            { .param .b64 h; .param .b32 f; .param .b32 s; st.param.b64 [h], %grid; st.param.b32 [f], 0;
              call (s), cudaCGSynchronize, (h, f); ld.param.b32 %status, [s]; }
            setp.ne.u32 %p, %status, 0;
            @%p bra refused;
            ld.volatile.global.u32 %found, [%sums];
            setp.ne.u32 %p, %found, 64;
            @%p trap;
            add.u64 %sums, %sums, 4;
            add.u32 %round, %round, 1;
            setp.lt.u32 %p, %round, 5;
            @%p bra next;
            ret;
        refused:
            st.global.u32 [%sums+16], 99;
            ret;
        }";
    let name = "cuda_device_runtime.o/\n";
    let archive = format!("!<arch>\n{:<48}{:<10}`\n{name} ", "//", name.len());
    context();
    let module = linked([(PTX, kernel), (LIBRARY, &archive)]);
    let (mut at, mut function) = (allocate(20), CUfunction(0));
    ok!(cuMemsetD32_v2(at, 0, 5));
    ok!(cuModuleGetFunction(
        &mut function,
        module,
        c"rounds".as_ptr()
    ));
    let mut parameters = [(&raw mut at).cast::<c_void>()];
    ok!(cuLaunchCooperativeKernel(
        function,
        1,
        2,
        1,
        8,
        4,
        1,
        0,
        CUstream(0),
        parameters.as_mut_ptr()
    ));
    assert_eq!(read(at + 16), 64);
    // Launched otherwise there is no grid to be synchronised.
    ok!(cuMemsetD32_v2(at, 0, 5));
    let launched = cu!(cuLaunchKernel(
        function,
        1,
        2,
        1,
        8,
        4,
        1,
        0,
        CUstream(0),
        parameters.as_mut_ptr(),
        null_mut()
    ));
    assert_eq!((launched, read(at + 16)), (CUresult::SUCCESS, 99));
}
