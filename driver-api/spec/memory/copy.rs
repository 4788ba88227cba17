//! Copies between host, devices and arrays.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
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

    /// A part of a copy to the device that the worker's card reads out of the program's memory: `length` bytes at `source`, open by `key` until this
    /// is answered, which belong `offset` bytes behind the beginning. The parts of a thread's copy come in order; its first says where `whole` bytes
    /// go, and takes the copy's place in the stream. A part of no bytes ends the copy before its end. The answer of the part that ends it comes when
    /// the device has it all, and says how long that took since the stream had reached the copy. NOT_SUPPORTED: these bytes do not go so, and the
    /// copy is over.
    #[row(49, private, asked, custom = worker, blocks = device)]
    fn gpurunReadToDevice(
        #[out] nanoseconds: *mut u64,
        destination: CUdeviceptr,
        whole: u64,
        offset: u64,
        length: u64,
        source: u64,
        key: u32,
        stream: CUstream,
    ) -> CUresult;

    /// A copy of a box to or from an array. The rest: a [`Volume`](crate::volume::Volume), then the bytes of the source if they travel, row by row.
    #[row(72, private, posted, custom = worker, blocks = device)]
    fn gpurunCopyVolume(stream: CUstream, #[rest] volume_and_bytes: &[u8]) -> CUresult;

    /// The same, as the bulk transfer `transfer` when the stream has reached the copy, before the next completion of that stream is pushed.
    #[row(74, private, posted, custom = worker, blocks = device)]
    fn gpurunFetchVolume(stream: CUstream, transfer: u64, #[rest] volume: &[u8]) -> CUresult;
    /// Host memory of the worker that the device reaches, at this address of whole pages. Both sides hold zeros then.
    #[row(85, private, asked, custom = worker, blocks = device)]
    fn gpurunHostMap(address: u64, size: u64) -> CUresult;

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
}
