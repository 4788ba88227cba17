//! Streams, waiting, and memory operations in a stream.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// A place in a stream whose completion is to be pushed. `urgent` is 1 if a thread waits for it.
    #[row(10, private, posted, custom = worker, blocks = never)]
    fn gpurunMark(stream: CUstream, urgent: u32, mark: u64) -> CUresult;

    /// A stream named by the client.
    #[row(11, private, asked, custom = worker, blocks = device)]
    fn gpurunStreamCreate(stream: u32, flags: c_uint, priority: c_int) -> CUresult;

    /// The end of a stream; what was posted to it before still completes.
    #[row(12, private, posted, custom = worker, blocks = device)]
    fn gpurunStreamDestroy(stream: CUstream) -> CUresult;

    /// Operations on words of device memory, in their order. After the fixed part: `count` operations as `StreamMemoryOperation` lays
    /// them out. Asked where only the driver knows whether it can do them.
    #[row(13, private, posted, custom = worker, blocks = device)]
    fn gpurunStreamMemory(
        stream: CUstream,
        count: u32,
        #[rest] operations: &[u8],
    ) -> CUresult;

    /// Attributes of a stream, as [`crate::stream_attribute`] numbers the operations; `other` is the stream that attributes are copied from.
    #[row(56, private, asked, custom = worker, blocks = never)]
    fn gpurunStreamAttribute(
        stream: CUstream,
        operation: u32,
        other: CUstream,
        attribute: c_uint,
        value: [u64; 8],
        #[out] told: *mut [u64; 8],
    ) -> CUresult;

    #[row(
        247,
        posted,
        via = gpurunHostFunction,
        blocks = device,
        since = 5000,
        ptsz = 7000,
        test = "surface_stream"
    )]
    fn cuStreamAddCallback(
        stream: CUstream,
        callback: CUstreamCallback,
        #[address] user_data: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(248, local, blocks = device, since = 6000, ptsz = 7000, test = "surface_managed")]
    fn cuStreamAttachMemAsync(
        stream: CUstream,
        dptr: CUdeviceptr,
        length: usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(249, posted, via = gpurunStreamMemory, blocks = device, since = 8000, ptsz = 8000, test = "surface_stream")]
    fn cuStreamBatchMemOp(
        stream: CUstream,
        count: c_uint,
        #[input(count = count)] param_array: *mut CUstreamBatchMemOpParams,
        flags: c_uint,
    ) -> CUresult;

    #[row(250, posted, via = gpurunStreamMemory, blocks = device, since = 11070, ptsz = 11070, test = "surface_stream")]
    fn cuStreamBatchMemOp_v2(
        stream: CUstream,
        count: c_uint,
        #[input(count = count)] param_array: *mut CUstreamBatchMemOpParams,
        flags: c_uint,
    ) -> CUresult;

    #[row(251, asked, via = gpurunStreamAttribute, blocks = never, since = 11000, ptsz = 11000, test = "surface_stream")]
    fn cuStreamCopyAttributes(dst_stream: CUstream, src_stream: CUstream) -> CUresult;

    #[row(
        252,
        asked,
        via = gpurunStreamCreate,
        blocks = device,
        since = 2000,
        test = "surface_stream"
    )]
    fn cuStreamCreate(#[creates] stream: *mut CUstream, flags: c_uint) -> CUresult;

    #[row(
        253,
        asked,
        via = gpurunStreamCreate,
        blocks = device,
        since = 5050,
        test = "surface_stream"
    )]
    fn cuStreamCreateWithPriority(
        #[creates] stream: *mut CUstream,
        flags: c_uint,
        priority: c_int,
    ) -> CUresult;

    #[row(
        254,
        posted,
        via = gpurunStreamDestroy,
        blocks = device,
        since = 2000,
        test = "surface_stream"
    )]
    fn cuStreamDestroy(#[destroys] stream: CUstream) -> CUresult;

    #[row(
        255,
        posted,
        via = gpurunStreamDestroy,
        blocks = device,
        since = 4000,
        test = "surface_stream"
    )]
    fn cuStreamDestroy_v2(#[destroys] stream: CUstream) -> CUresult;

    #[row(256, asked, via = gpurunStreamAttribute, blocks = never, since = 11000, ptsz = 11000, test = "surface_stream")]
    fn cuStreamGetAttribute(
        stream: CUstream,
        attr: CUstreamAttrID,
        #[out] value: *mut CUstreamAttrValue,
    ) -> CUresult;

    #[row(257, local, blocks = never, since = 9020, ptsz = 9020, test = "surface_stream")]
    fn cuStreamGetCtx(stream: CUstream, #[out] pctx: *mut CUcontext) -> CUresult;

    #[row(258, local, blocks = never, since = 12050, ptsz = 12050, test = "surface_stream")]
    fn cuStreamGetCtx_v2(
        stream: CUstream,
        #[out] pctx: *mut CUcontext,
        #[out] green_ctx: *mut CUgreenCtx,
    ) -> CUresult;

    #[row(259, local, blocks = never, since = 12080, ptsz = 12080, test = "surface_stream")]
    fn cuStreamGetDevice(stream: CUstream, #[out] device: *mut CUdevice) -> CUresult;

    #[row(260, local, blocks = never, since = 5050, ptsz = 7000, test = "surface_stream")]
    fn cuStreamGetFlags(stream: CUstream, #[out] flags: *mut c_uint) -> CUresult;

    #[row(261, local, blocks = never, since = 12000, ptsz = 12000, test = "surface_stream")]
    fn cuStreamGetId(stream: CUstream, #[out] stream_id: *mut c_ulonglong) -> CUresult;

    #[row(262, local, blocks = never, since = 5050, ptsz = 7000, test = "surface_stream")]
    fn cuStreamGetPriority(stream: CUstream, #[out] priority: *mut c_int) -> CUresult;

    #[row(263, local, blocks = never, since = 2000, ptsz = 7000, test = "surface_stream")]
    fn cuStreamQuery(stream: CUstream) -> CUresult;

    #[row(264, asked, via = gpurunStreamAttribute, blocks = never, since = 11000, ptsz = 11000, test = "surface_stream")]
    fn cuStreamSetAttribute(
        stream: CUstream,
        attr: CUstreamAttrID,
        #[input] param: *const CUstreamAttrValue,
    ) -> CUresult;

    #[row(
        265,
        asked,
        via = gpurunMark,
        blocks = unbounded,
        since = 2000,
        ptsz = 7000,
        test = "surface_stream"
    )]
    fn cuStreamSynchronize(stream: CUstream) -> CUresult;

    #[row(
        266,
        posted,
        custom = client,
        blocks = never,
        since = 3020,
        ptsz = 7000,
        test = "surface_stream"
    )]
    fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> CUresult;

    #[row(267, posted, via = gpurunStreamMemory, blocks = device, since = 8000, ptsz = 8000, test = "surface_stream")]
    fn cuStreamWaitValue32(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u32,
        flags: c_uint,
    ) -> CUresult;

    #[row(268, posted, via = gpurunStreamMemory, blocks = device, since = 11070, ptsz = 11070, test = "surface_stream")]
    fn cuStreamWaitValue32_v2(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u32,
        flags: c_uint,
    ) -> CUresult;

    #[row(269, posted, via = gpurunStreamMemory, blocks = device, since = 9000, ptsz = 9000, test = "surface_stream")]
    fn cuStreamWaitValue64(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u64,
        flags: c_uint,
    ) -> CUresult;

    #[row(270, posted, via = gpurunStreamMemory, blocks = device, since = 11070, ptsz = 11070, test = "surface_stream")]
    fn cuStreamWaitValue64_v2(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u64,
        flags: c_uint,
    ) -> CUresult;

    #[row(271, posted, via = gpurunStreamMemory, blocks = device, since = 8000, ptsz = 8000, test = "surface_stream")]
    fn cuStreamWriteValue32(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u32,
        flags: c_uint,
    ) -> CUresult;

    #[row(272, posted, via = gpurunStreamMemory, blocks = device, since = 11070, ptsz = 11070, test = "surface_stream")]
    fn cuStreamWriteValue32_v2(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u32,
        flags: c_uint,
    ) -> CUresult;

    #[row(273, posted, via = gpurunStreamMemory, blocks = device, since = 9000, ptsz = 9000, test = "surface_stream")]
    fn cuStreamWriteValue64(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u64,
        flags: c_uint,
    ) -> CUresult;

    #[row(274, posted, via = gpurunStreamMemory, blocks = device, since = 11070, ptsz = 11070, test = "surface_stream")]
    fn cuStreamWriteValue64_v2(
        stream: CUstream,
        addr: CUdeviceptr,
        value: u64,
        flags: c_uint,
    ) -> CUresult;
}
