//! Device and host memory, copies, fills, pointer attributes.
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

    /// Bytes to the device: inline (`transfer` = 0) or as the bulk transfer `transfer`.
    #[row(42, private, posted, custom = worker, blocks = device)]
    fn gpurunCopyToDevice(
        destination: CUdeviceptr,
        length: u64,
        transfer: u64,
        stream: CUstream,
        #[rest] bytes: &[u8],
    ) -> CUresult;

    /// Bytes of the device, complete with the reply: inline in it (`transfer` = 0), or before it as the bulk transfer `transfer`.
    #[row(43, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunCopyFromDevice(
        source: CUdeviceptr,
        length: u64,
        transfer: u64,
        stream: CUstream,
        #[out_rest] bytes: &[u8],
    ) -> CUresult;

    /// Bytes of the device, delivered as the bulk transfer `transfer` when the stream has reached the copy, before the next completion
    /// of that stream is pushed.
    #[row(44, private, posted, custom = worker, blocks = device)]
    fn gpurunFetchFromDevice(
        source: CUdeviceptr,
        length: u64,
        transfer: u64,
        stream: CUstream,
    ) -> CUresult;

    /// From device memory to device memory.
    #[row(45, private, posted, custom = worker, blocks = device)]
    fn gpurunCopyOnDevice(
        destination: CUdeviceptr,
        source: CUdeviceptr,
        length: u64,
        stream: CUstream,
    ) -> CUresult;

    /// Fills `height` rows, `pitch` bytes apart, of `width` elements of `element_bytes` (1, 2 or 4) each.
    #[row(46, private, posted, custom = worker, blocks = device)]
    fn gpurunFill(
        destination: CUdeviceptr,
        pitch: u64,
        width: u64,
        height: u64,
        value: u32,
        element_bytes: u32,
        stream: CUstream,
    ) -> CUresult;

    /// Everything that the program holds without using it has been given back, for the call of this number: a completion of stream id
    /// 0xFFFF_FFFE.
    #[row(47, private, posted, custom = worker, blocks = never)]
    fn gpurunIdleGivenBack(number: u64) -> CUresult;

    /// A copy of a box to or from an array. The rest: a [`Volume`](crate::volume::Volume), then the bytes of the source if they travel, row by row.
    #[row(72, private, posted, custom = worker, blocks = device)]
    fn gpurunCopyVolume(stream: CUstream, #[rest] volume_and_bytes: &[u8]) -> CUresult;

    /// The bytes of a box of an array, row by row, in the reply. The rest: a [`Volume`](crate::volume::Volume).
    #[row(73, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunReadVolume(
        stream: CUstream,
        #[rest] volume: &[u8],
        #[out_rest] bytes: &[u8],
    ) -> CUresult;

    /// The same, as the bulk transfer `transfer` when the stream has reached the copy, before the next completion of that stream is pushed.
    #[row(74, private, posted, custom = worker, blocks = device)]
    fn gpurunFetchVolume(stream: CUstream, transfer: u64, #[rest] volume: &[u8]) -> CUresult;
    /// Host memory of the worker that the device reaches, at this address of whole pages. Both sides hold zeros then.
    #[row(85, private, asked, custom = worker, blocks = device)]
    fn gpurunHostMap(address: u64, size: u64) -> CUresult;

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

    #[row(
        307,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 4000,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, byte_count: usize) -> CUresult;

    #[row(
        308,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpy2D(#[input] copy: *const CUDA_MEMCPY2D_v1) -> CUresult;

    #[row(
        309,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpy2DAsync(#[input] copy: *const CUDA_MEMCPY2D_v1, stream: CUstream) -> CUresult;

    #[row(
        310,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpy2DAsync_v2(#[input] copy: *const CUDA_MEMCPY2D, stream: CUstream) -> CUresult;

    #[row(
        311,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpy2DUnaligned(#[input] copy: *const CUDA_MEMCPY2D_v1) -> CUresult;

    #[row(
        312,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpy2DUnaligned_v2(#[input] copy: *const CUDA_MEMCPY2D) -> CUresult;

    #[row(
        313,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpy2D_v2(#[input] copy: *const CUDA_MEMCPY2D) -> CUresult;

    #[row(
        314,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpy3D(#[input] copy: *const CUDA_MEMCPY3D_v1) -> CUresult;

    #[row(
        315,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpy3DAsync(#[input] copy: *const CUDA_MEMCPY3D_v1, stream: CUstream) -> CUresult;

    #[row(
        316,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpy3DAsync_v2(#[input] copy: *const CUDA_MEMCPY3D, stream: CUstream) -> CUresult;

    #[row(
        317,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 12080,
        ptsz = 12080,
        test = "surface_peer"
    )]
    fn cuMemcpy3DBatchAsync(
        num_params: usize,
        #[input(count = num_params)] op_list: *mut CUDA_MEMCPY3D_BATCH_OP,
        #[out(nullable)] fail_idx: *mut usize,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        318,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 13000,
        ptsz = 13000,
        test = "surface_peer"
    )]
    fn cuMemcpy3DBatchAsync_v2(
        num_params: usize,
        #[input(count = num_params)] op_list: *mut CUDA_MEMCPY3D_BATCH_OP,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        319,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 4000,
        ptds = 7000,
        test = "surface_peer"
    )]
    fn cuMemcpy3DPeer(#[input] copy: *const CUDA_MEMCPY3D_PEER) -> CUresult;

    #[row(
        320,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 4000,
        ptsz = 7000,
        test = "surface_peer"
    )]
    fn cuMemcpy3DPeerAsync(#[input] copy: *const CUDA_MEMCPY3D_PEER, stream: CUstream) -> CUresult;

    #[row(
        321,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 13020,
        ptsz = 13020,
        test = "surface_peer"
    )]
    fn cuMemcpy3DWithAttributesAsync(
        #[input] op: *mut CUDA_MEMCPY3D_BATCH_OP,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        322,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpy3D_v2(#[input] copy: *const CUDA_MEMCPY3D) -> CUresult;

    #[row(
        323,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 4000,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyAsync(
        dst: CUdeviceptr,
        src: CUdeviceptr,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        324,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemcpyAtoA(
        dst_array: CUarray,
        dst_offset: c_uint,
        src_array: CUarray,
        src_offset: c_uint,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(325, posted, via = gpurunCopyVolume, blocks = device, since = 3020, ptds = 7000, test = "surface_array")]
    fn cuMemcpyAtoA_v2(
        dst_array: CUarray,
        dst_offset: usize,
        src_array: CUarray,
        src_offset: usize,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        326,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemcpyAtoD(
        dst_device: CUdeviceptr_v1,
        src_array: CUarray,
        src_offset: c_uint,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(327, posted, via = gpurunCopyVolume, blocks = device, since = 3020, ptds = 7000, test = "surface_array")]
    fn cuMemcpyAtoD_v2(
        dst_device: CUdeviceptr,
        src_array: CUarray,
        src_offset: usize,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        328,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpyAtoH(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_array: CUarray,
        src_offset: c_uint,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(
        329,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpyAtoHAsync(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_array: CUarray,
        src_offset: c_uint,
        byte_count: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(330, posted, via = gpurunReadVolume, blocks = unbounded, since = 3020, ptsz = 7000, test = "surface_array")]
    fn cuMemcpyAtoHAsync_v2(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_array: CUarray,
        src_offset: usize,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(331, posted, via = gpurunReadVolume, blocks = unbounded, since = 3020, ptds = 7000, test = "surface_array")]
    fn cuMemcpyAtoH_v2(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_array: CUarray,
        src_offset: usize,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        332,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 12080,
        ptsz = 12080,
        test = "surface_peer"
    )]
    fn cuMemcpyBatchAsync(
        #[input(count = count)] dsts: *mut CUdeviceptr,
        #[input(count = count)] srcs: *mut CUdeviceptr,
        #[input(count = count)] sizes: *mut usize,
        count: usize,
        #[input(count = num_attrs)] attrs: *mut CUmemcpyAttributes,
        #[input(count = num_attrs)] attr_idxs: *mut usize,
        num_attrs: usize,
        #[out(nullable)] fail_idx: *mut usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        333,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 13000,
        ptsz = 13000,
        test = "surface_peer"
    )]
    fn cuMemcpyBatchAsync_v2(
        #[input(count = count)] dsts: *mut CUdeviceptr,
        #[input(count = count)] srcs: *mut CUdeviceptr,
        #[input(count = count)] sizes: *mut usize,
        count: usize,
        #[input(count = num_attrs)] attrs: *mut CUmemcpyAttributes,
        #[input(count = num_attrs)] attr_idxs: *mut usize,
        num_attrs: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        334,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemcpyDtoA(
        dst_array: CUarray,
        dst_offset: c_uint,
        src_device: CUdeviceptr_v1,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(335, posted, via = gpurunCopyVolume, blocks = device, since = 3020, ptds = 7000, test = "surface_array")]
    fn cuMemcpyDtoA_v2(
        dst_array: CUarray,
        dst_offset: usize,
        src_device: CUdeviceptr,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        336,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemcpyDtoD(
        dst_device: CUdeviceptr_v1,
        src_device: CUdeviceptr_v1,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(
        337,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 3000
    )]
    fn cuMemcpyDtoDAsync(
        dst_device: CUdeviceptr_v1,
        src_device: CUdeviceptr_v1,
        byte_count: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        338,
        posted,
        via = gpurunCopyOnDevice,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyDtoDAsync_v2(
        dst_device: CUdeviceptr,
        src_device: CUdeviceptr,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        339,
        posted,
        via = gpurunCopyOnDevice,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyDtoD_v2(
        dst_device: CUdeviceptr,
        src_device: CUdeviceptr,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        340,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpyDtoH(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_device: CUdeviceptr_v1,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(
        341,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpyDtoHAsync(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_device: CUdeviceptr_v1,
        byte_count: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        342,
        posted,
        via = gpurunCopyFromDevice,
        blocks = unbounded,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyDtoHAsync_v2(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_device: CUdeviceptr,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        343,
        asked,
        via = gpurunCopyFromDevice,
        blocks = unbounded,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyDtoH_v2(
        #[out(bytes = byte_count)] dst_host: *mut c_void,
        src_device: CUdeviceptr,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        344,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpyHtoA(
        dst_array: CUarray,
        dst_offset: c_uint,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(
        345,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemcpyHtoAAsync(
        dst_array: CUarray,
        dst_offset: c_uint,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(346, posted, via = gpurunCopyVolume, blocks = device, since = 3020, ptsz = 7000, test = "surface_array")]
    fn cuMemcpyHtoAAsync_v2(
        dst_array: CUarray,
        dst_offset: usize,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(347, posted, via = gpurunCopyVolume, blocks = unbounded, since = 3020, ptds = 7000, test = "surface_array")]
    fn cuMemcpyHtoA_v2(
        dst_array: CUarray,
        dst_offset: usize,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        348,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuMemcpyHtoD(
        dst_device: CUdeviceptr_v1,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: c_uint,
    ) -> CUresult;

    #[row(
        349,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemcpyHtoDAsync(
        dst_device: CUdeviceptr_v1,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        350,
        posted,
        via = gpurunCopyToDevice,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyHtoDAsync_v2(
        dst_device: CUdeviceptr,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        351,
        posted,
        via = gpurunCopyToDevice,
        blocks = unbounded,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemcpyHtoD_v2(
        dst_device: CUdeviceptr,
        #[input(bytes = byte_count)] src_host: *const c_void,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        352,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 4000,
        ptds = 7000,
        test = "surface_peer"
    )]
    fn cuMemcpyPeer(
        dst_device: CUdeviceptr,
        dst_context: CUcontext,
        src_device: CUdeviceptr,
        src_context: CUcontext,
        byte_count: usize,
    ) -> CUresult;

    #[row(
        353,
        posted,
        via = gpurunCopyOnDevice,
        blocks = device,
        since = 4000,
        ptsz = 7000,
        test = "surface_peer"
    )]
    fn cuMemcpyPeerAsync(
        dst_device: CUdeviceptr,
        dst_context: CUcontext,
        src_device: CUdeviceptr,
        src_context: CUcontext,
        byte_count: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        354,
        posted,
        via = gpurunCopyOnDevice,
        blocks = unbounded,
        since = 13020,
        ptsz = 13020,
        test = "surface_peer"
    )]
    fn cuMemcpyWithAttributesAsync(
        dst: CUdeviceptr,
        src: CUdeviceptr,
        size: usize,
        #[input] attr: *mut CUmemcpyAttributes,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        355,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD16(dst_device: CUdeviceptr_v1, us: c_ushort, n: c_uint) -> CUresult;

    #[row(
        356,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD16Async(
        dst_device: CUdeviceptr,
        us: c_ushort,
        n: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        357,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD16_v2(dst_device: CUdeviceptr, us: c_ushort, n: usize) -> CUresult;

    #[row(
        358,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD2D16(
        dst_device: CUdeviceptr_v1,
        dst_pitch: c_uint,
        us: c_ushort,
        width: c_uint,
        height: c_uint,
    ) -> CUresult;

    #[row(
        359,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D16Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        us: c_ushort,
        width: usize,
        height: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        360,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D16_v2(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        us: c_ushort,
        width: usize,
        height: usize,
    ) -> CUresult;

    #[row(
        361,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD2D32(
        dst_device: CUdeviceptr_v1,
        dst_pitch: c_uint,
        ui: c_uint,
        width: c_uint,
        height: c_uint,
    ) -> CUresult;

    #[row(
        362,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D32Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        ui: c_uint,
        width: usize,
        height: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        363,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D32_v2(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        ui: c_uint,
        width: usize,
        height: usize,
    ) -> CUresult;

    #[row(
        364,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD2D8(
        dst_device: CUdeviceptr_v1,
        dst_pitch: c_uint,
        uc: c_uchar,
        width: c_uint,
        height: c_uint,
    ) -> CUresult;

    #[row(
        365,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D8Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        uc: c_uchar,
        width: usize,
        height: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        366,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D8_v2(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        uc: c_uchar,
        width: usize,
        height: usize,
    ) -> CUresult;

    #[row(
        367,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD32(dst_device: CUdeviceptr_v1, ui: c_uint, n: c_uint) -> CUresult;

    #[row(
        368,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD32Async(
        dst_device: CUdeviceptr,
        ui: c_uint,
        n: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        369,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD32_v2(dst_device: CUdeviceptr, ui: c_uint, n: usize) -> CUresult;

    #[row(
        370,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD8(dst_device: CUdeviceptr_v1, uc: c_uchar, n: c_uint) -> CUresult;

    #[row(
        371,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD8Async(
        dst_device: CUdeviceptr,
        uc: c_uchar,
        n: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        372,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD8_v2(dst_device: CUdeviceptr, uc: c_uchar, n: usize) -> CUresult;

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
