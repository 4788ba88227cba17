//! Device and host memory, pointer attributes. Copies and fills have files of their own.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// Physical memory at an address of a window (`address` != 0), or memory where the driver places it (0). NOT_READY: not now, but memory is on its way
    /// out; to be asked again soon.
    #[row(40, private, asked, custom = worker, blocks = device)]
    fn gpurunMemoryMap(#[out] mapped: *mut u64, address: u64, size: u64) -> CUresult;

    /// Gives such memory back once everything posted before, on every stream of the context, has completed; then
    /// `ticket` is pushed as a completion of stream id 0xFFFF_FFFF: the address may be used again.
    #[row(41, private, posted, custom = worker, blocks = unbounded)]
    fn gpurunMemoryUnmap(address: u64, size: u64, ticket: u64) -> CUresult;

    /// Everything that the program holds without using it has been given back, for the call of this number: a completion of stream id
    /// 0xFFFF_FFFE.
    #[row(47, private, posted, custom = worker, blocks = never)]
    fn gpurunIdleGivenBack(number: u64) -> CUresult;

    /// The bytes of a box of an array, row by row, in the reply. The rest: a [`Volume`](crate::volume::Volume).
    #[row(73, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunReadVolume(
        stream: CUstream,
        #[rest] volume: &[u8],
        #[out_rest] bytes: &[u8],
    ) -> CUresult;

    /// What the program has changed of mapped or managed memory: a list of changes. The device sees what is mapped at once, whatever its streams do.
    #[row(86, private, posted, custom = worker, blocks = device)]
    fn gpurunHostPush(#[rest] changes: &[u8]) -> CUresult;

    /// What the device has changed: a list of changes, only of mapped memory no larger than `largest` if that is not 0; `more` if it is to be asked
    /// again for the rest.
    #[row(87, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunHostPull(#[out] more: *mut u32, largest: u64, #[out_rest] changes: &[u8]) -> CUresult;

    /// Gives mapped memory back, or tells no more of what the device changes in managed memory.
    #[row(88, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunHostUnmap(address: u64) -> CUresult;

    /// Device memory of the session becomes managed: what changes in it is told. It is filled with zeros first if it is fresh, and both sides hold
    /// zeros; else the next pull tells what it holds.
    #[row(89, private, asked, custom = worker, blocks = device)]
    fn gpurunManage(address: u64, size: u64, is_fresh: u32) -> CUresult;

    #[row(
        284,
        refused = "GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS is 0: no device of the program's machine writes to the GPU's memory",
        blocks = device,
        since = 11030
    )]
    fn cuFlushGPUDirectRDMAWrites(
        target: CUflushGPUDirectRDMAWritesTarget,
        scope: CUflushGPUDirectRDMAWritesScope,
    ) -> CUresult;

    #[row(
        285,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemAlloc(#[creates] dptr: *mut CUdeviceptr_v1, bytesize: c_uint) -> CUresult;

    #[row(
        286,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemAllocHost(#[creates] pp: *mut *mut c_void, bytesize: c_uint) -> CUresult;

    #[row(287, local, blocks = device, since = 3020, test = "surface_memory")]
    fn cuMemAllocHost_v2(#[creates] pp: *mut *mut c_void, bytesize: usize) -> CUresult;

    #[row(
        288,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemAllocPitch(
        #[creates] dptr: *mut CUdeviceptr_v1,
        #[out] pitch: *mut c_uint,
        width_in_bytes: c_uint,
        height: c_uint,
        element_size_bytes: c_uint,
    ) -> CUresult;

    #[row(
        289,
        asked,
        via = gpurunMemoryMap,
        blocks = device,
        since = 3020,
        test = "surface_memory"
    )]
    fn cuMemAllocPitch_v2(
        #[creates] dptr: *mut CUdeviceptr,
        #[out] pitch: *mut usize,
        width_in_bytes: usize,
        height: usize,
        element_size_bytes: c_uint,
    ) -> CUresult;

    #[row(
        290,
        asked,
        via = gpurunMemoryMap,
        blocks = device,
        since = 3020,
        test = "surface_memory"
    )]
    fn cuMemAlloc_v2(#[creates] dptr: *mut CUdeviceptr, bytesize: usize) -> CUresult;

    #[row(
        291,
        refused = "MEM_DECOMPRESS_ALGORITHM_MASK is 0: no decompression engine is offered",
        blocks = device,
        since = 12060,
        ptsz = 12060
    )]
    fn cuMemBatchDecompressAsync(
        #[input(count = count)] params_array: *mut CUmemDecompressParams,
        count: usize,
        flags: c_uint,
        #[out(nullable)] error_index: *mut usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        292,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemFree(#[destroys] dptr: CUdeviceptr_v1) -> CUresult;

    #[row(293, local, blocks = unbounded, since = 2000, test = "surface_memory")]
    fn cuMemFreeHost(#[destroys] p: *mut c_void) -> CUresult;

    #[row(
        294,
        posted,
        via = gpurunMemoryUnmap,
        blocks = unbounded,
        since = 3020,
        test = "surface_memory"
    )]
    fn cuMemFree_v2(#[destroys] dptr: CUdeviceptr) -> CUresult;

    #[row(
        295,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuMemGetAddressRange(
        #[out(nullable)] pbase: *mut CUdeviceptr_v1,
        #[out(nullable)] psize: *mut c_uint,
        dptr: CUdeviceptr_v1,
    ) -> CUresult;

    #[row(296, local, blocks = never, since = 3020, test = "surface_memory")]
    fn cuMemGetAddressRange_v2(
        #[out(nullable)] pbase: *mut CUdeviceptr,
        #[out(nullable)] psize: *mut usize,
        dptr: CUdeviceptr,
    ) -> CUresult;

    #[row(
        297,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuMemGetInfo(#[out] free: *mut c_uint, #[out] total: *mut c_uint) -> CUresult;

    #[row(298, asked, custom = both, blocks = never, since = 3020, test = "surface_memory")]
    fn cuMemGetInfo_v2(#[out] free: *mut usize, #[out] total: *mut usize) -> CUresult;

    #[row(299, refused = "CONCURRENT_MANAGED_ACCESS is 0, for which the driver documents this answer", blocks = never, since = 13040)]
    fn cuMemGetLocationInfo(
        ptr: CUdeviceptr,
        size: usize,
        summary_granularity: usize,
        sampling_granularity: usize,
        #[out] location_out: *mut CUmemLocation,
    ) -> CUresult;

    #[row(300, local, blocks = device, since = 2020, test = "surface_memory")]
    fn cuMemHostAlloc(#[creates] pp: *mut *mut c_void, bytesize: usize, flags: c_uint) -> CUresult;

    #[row(
        301,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2020
    )]
    fn cuMemHostGetDevicePointer(
        #[out] pdptr: *mut CUdeviceptr_v1,
        #[address] p: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        302,
        asked,
        via = gpurunHostMap,
        blocks = device,
        since = 3020,
        test = "surface_host"
    )]
    fn cuMemHostGetDevicePointer_v2(
        #[out] pdptr: *mut CUdeviceptr,
        #[address] p: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(303, local, blocks = never, since = 2030, test = "surface_memory")]
    fn cuMemHostGetFlags(#[out] flags: *mut c_uint, #[address] p: *mut c_void) -> CUresult;

    #[row(304, local, blocks = device, since = 4000, test = "surface_host")]
    fn cuMemHostRegister(#[address] p: *mut c_void, bytesize: usize, flags: c_uint) -> CUresult;

    #[row(305, local, blocks = device, since = 6050, test = "surface_memory")]
    fn cuMemHostRegister_v2(#[address] p: *mut c_void, bytesize: usize, flags: c_uint) -> CUresult;

    #[row(306, local, blocks = unbounded, since = 4000, test = "surface_memory")]
    fn cuMemHostUnregister(#[address] p: *mut c_void) -> CUresult;

    #[row(373, local, blocks = never, since = 4000, test = "surface_memory")]
    fn cuPointerGetAttribute(
        #[out(chosen_by = attribute)] data: *mut c_void,
        attribute: CUpointer_attribute,
        ptr: CUdeviceptr,
    ) -> CUresult;

    #[row(374, local, blocks = never, since = 7000, test = "surface_memory")]
    fn cuPointerGetAttributes(
        num_attributes: c_uint,
        #[input(count = num_attributes)] attributes: *mut CUpointer_attribute,
        #[out(count = num_attributes)] data: *mut *mut c_void,
        ptr: CUdeviceptr,
    ) -> CUresult;

    #[row(375, local, blocks = never, since = 6000, test = "surface_memory")]
    fn cuPointerSetAttribute(
        #[input(chosen_by = attribute)] value: *const c_void,
        attribute: CUpointer_attribute,
        ptr: CUdeviceptr,
    ) -> CUresult;

    /// Exported, but in no header: its arguments are not known.
    #[row(
        718,
        unlisted,
        refused = "no header declares its arguments",
        blocks = never,
        since = 11000
    )]
    fn cuMemGetAttribute() -> CUresult;

    /// Exported, but in no header: its arguments are not known.
    #[row(
        719,
        unlisted,
        refused = "no header declares its arguments",
        blocks = never,
        since = 11000
    )]
    fn cuMemGetAttribute_v2() -> CUresult;
}
