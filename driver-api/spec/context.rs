//! Contexts: primary and created, the stack of each thread, limits, flags.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// The primary context of a device gets the id `context`; `flags` are set before it is made.
    #[row(1, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunPrimaryRetain(device: CUdevice, context: u32, flags: c_uint) -> CUresult;

    /// The last release by the client: the worker lets go of the primary context.
    #[row(2, private, posted, custom = worker, blocks = unbounded)]
    fn gpurunPrimaryRelease(device: CUdevice, context: u32) -> CUresult;

    /// Everything in the primary context is destroyed, whoever holds it.
    #[row(3, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunPrimaryReset(device: CUdevice, context: u32) -> CUresult;

    /// A context of its own, made on a device.
    #[row(4, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunContextCreate(device: CUdevice, context: u32, flags: c_uint) -> CUresult;

    /// The end of a created context and of everything in it.
    #[row(5, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunContextDestroy(context: u32) -> CUresult;

    /// What a device can do with a peer's memory: an attribute as the driver numbers them, 0 for whether it can reach it at all.
    #[row(93, private, asked, custom = worker, blocks = never)]
    fn gpurunPeerAttribute(
        device: CUdevice,
        peer: CUdevice,
        attribute: c_uint,
        #[out] value: *mut c_int,
    ) -> CUresult;

    /// Kernels of the current context may reach the memory of the context `peer`, or no longer.
    #[row(94, private, asked, custom = worker, blocks = device)]
    fn gpurunPeerAccess(peer: u32, enabled: c_uint) -> CUresult;

    /// Kernels of the device `peer` may reach the memory of all contexts of `device`, or no longer: what access to a memory pool becomes.
    #[row(48, private, asked, custom = worker, blocks = device)]
    fn gpurunPoolAccess(device: CUdevice, peer: CUdevice, enabled: c_uint) -> CUresult;

    /// What the link between two devices does of an atomic operation by itself.
    #[row(57, private, asked, custom = worker, blocks = never)]
    fn gpurunPeerAtomic(
        device: CUdevice,
        peer: CUdevice,
        operation: c_uint,
        #[out] capability: *mut c_uint,
    ) -> CUresult;

    /// What the current context is limited to of its device.
    #[row(58, private, asked, custom = worker, blocks = never)]
    fn gpurunExecAffinity(kind: c_uint, #[out] count: *mut c_uint) -> CUresult;

    #[row(132, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuCtxAttach(#[out] pctx: *mut CUcontext, flags: c_uint) -> CUresult;

    #[row(
        133,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuCtxCreate(#[creates] pctx: *mut CUcontext, flags: c_uint, dev: CUdevice) -> CUresult;

    #[row(
        134,
        asked,
        via = gpurunContextCreate,
        blocks = unbounded,
        since = 3020,
        test = "surface_context"
    )]
    fn cuCtxCreate_v2(#[creates] pctx: *mut CUcontext, flags: c_uint, dev: CUdevice) -> CUresult;

    #[row(
        135,
        asked,
        via = gpurunContextCreate,
        blocks = unbounded,
        since = 11040,
        test = "surface_context"
    )]
    fn cuCtxCreate_v3(
        #[creates] pctx: *mut CUcontext,
        #[input(count = num_params)] params_array: *mut CUexecAffinityParam,
        num_params: c_int,
        flags: c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(
        136,
        asked,
        via = gpurunContextCreate,
        blocks = unbounded,
        since = 12050,
        test = "surface_context"
    )]
    fn cuCtxCreate_v4(
        #[creates] pctx: *mut CUcontext,
        #[input(nullable)] ctx_create_params: *mut CUctxCreateParams,
        flags: c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(
        137,
        asked,
        via = gpurunContextDestroy,
        blocks = unbounded,
        since = 2000,
        test = "surface_context"
    )]
    fn cuCtxDestroy(#[destroys] ctx: CUcontext) -> CUresult;

    #[row(
        138,
        asked,
        via = gpurunContextDestroy,
        blocks = unbounded,
        since = 4000,
        test = "surface_context"
    )]
    fn cuCtxDestroy_v2(#[destroys] ctx: CUcontext) -> CUresult;

    #[row(
        139,
        asked,
        via = gpurunContextDestroy,
        blocks = unbounded,
        since = 2000,
        test = "surface_context"
    )]
    fn cuCtxDetach(#[destroys] ctx: CUcontext) -> CUresult;

    #[row(
        140,
        asked,
        via = gpurunPeerAccess,
        blocks = device,
        since = 4000,
        test = "surface_peer"
    )]
    fn cuCtxDisablePeerAccess(peer_context: CUcontext) -> CUresult;

    #[row(
        141,
        asked,
        via = gpurunPeerAccess,
        blocks = device,
        since = 4000,
        test = "surface_peer"
    )]
    fn cuCtxEnablePeerAccess(peer_context: CUcontext, flags: c_uint) -> CUresult;

    #[row(142, local, blocks = never, since = 3020, test = "surface_context")]
    fn cuCtxGetApiVersion(ctx: CUcontext, #[out] version: *mut c_uint) -> CUresult;

    #[row(143, local, blocks = never, since = 3020, test = "surface_context")]
    fn cuCtxGetCacheConfig(#[out] pconfig: *mut CUfunc_cache) -> CUresult;

    #[row(144, local, blocks = never, since = 4000, test = "surface_context")]
    fn cuCtxGetCurrent(#[out] pctx: *mut CUcontext) -> CUresult;

    #[row(145, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuCtxGetDevice(#[out] device: *mut CUdevice) -> CUresult;

    #[row(146, local, blocks = never, since = 13000, test = "surface_context")]
    fn cuCtxGetDevice_v2(#[out] device: *mut CUdevice, ctx: CUcontext) -> CUresult;

    #[row(
        147,
        asked,
        via = gpurunExecAffinity,
        blocks = never,
        since = 11040,
        test = "surface_context"
    )]
    fn cuCtxGetExecAffinity(
        #[out] exec_affinity: *mut CUexecAffinityParam,
        kind: CUexecAffinityType,
    ) -> CUresult;

    #[row(148, local, blocks = never, since = 7000, test = "surface_context")]
    fn cuCtxGetFlags(#[out] flags: *mut c_uint) -> CUresult;

    #[row(149, local, blocks = never, since = 12000, test = "surface_context")]
    fn cuCtxGetId(ctx: CUcontext, #[out] ctx_id: *mut c_ulonglong) -> CUresult;

    #[row(150, asked, blocks = never, since = 3010, test = "surface_context")]
    fn cuCtxGetLimit(#[out] pvalue: *mut usize, limit: CUlimit) -> CUresult;

    #[row(151, local, blocks = never, since = 4020, test = "surface_context")]
    fn cuCtxGetSharedMemConfig(#[out] config: *mut CUsharedconfig) -> CUresult;

    #[row(152, local, blocks = never, since = 5050, test = "surface_context")]
    fn cuCtxGetStreamPriorityRange(
        #[out(nullable)] least_priority: *mut c_int,
        #[out(nullable)] greatest_priority: *mut c_int,
    ) -> CUresult;

    #[row(153, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuCtxPopCurrent(#[out(nullable)] pctx: *mut CUcontext) -> CUresult;

    #[row(154, local, blocks = never, since = 4000, test = "surface_context")]
    fn cuCtxPopCurrent_v2(#[out(nullable)] pctx: *mut CUcontext) -> CUresult;

    #[row(155, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuCtxPushCurrent(ctx: CUcontext) -> CUresult;

    #[row(156, local, blocks = never, since = 4000, test = "surface_context")]
    fn cuCtxPushCurrent_v2(ctx: CUcontext) -> CUresult;

    #[row(157, posted, via = gpurunEventRecord, blocks = device, since = 12050, test = "surface_context")]
    fn cuCtxRecordEvent(ctx: CUcontext, event: CUevent) -> CUresult;

    #[row(158, posted, blocks = never, since = 11000, test = "surface_context")]
    fn cuCtxResetPersistingL2Cache() -> CUresult;

    #[row(159, local, blocks = never, since = 3020, test = "surface_context")]
    fn cuCtxSetCacheConfig(config: CUfunc_cache) -> CUresult;

    #[row(160, local, blocks = never, since = 4000, test = "surface_context")]
    fn cuCtxSetCurrent(ctx: CUcontext) -> CUresult;

    #[row(161, local, blocks = never, since = 12010, test = "surface_context")]
    fn cuCtxSetFlags(flags: c_uint) -> CUresult;

    #[row(162, asked, blocks = device, since = 3010, test = "surface_context")]
    fn cuCtxSetLimit(limit: CUlimit, value: usize) -> CUresult;

    #[row(163, local, blocks = never, since = 4020, test = "surface_context")]
    fn cuCtxSetSharedMemConfig(config: CUsharedconfig) -> CUresult;

    #[row(164, asked, via = gpurunMark, blocks = unbounded, since = 2000, test = "surface_context")]
    fn cuCtxSynchronize() -> CUresult;

    #[row(
        165,
        asked,
        via = gpurunMark,
        blocks = unbounded,
        since = 13000,
        test = "surface_context"
    )]
    fn cuCtxSynchronize_v2(ctx: CUcontext) -> CUresult;

    #[row(166, posted, via = gpurunMark, blocks = device, since = 12050, test = "surface_context")]
    fn cuCtxWaitEvent(ctx: CUcontext, event: CUevent) -> CUresult;

    #[row(167, local, blocks = never, since = 7000, test = "surface_context")]
    fn cuDevicePrimaryCtxGetState(
        dev: CUdevice,
        #[out] flags: *mut c_uint,
        #[out] active: *mut c_int,
    ) -> CUresult;

    #[row(
        168,
        posted,
        via = gpurunPrimaryRelease,
        blocks = unbounded,
        since = 7000,
        test = "surface_context"
    )]
    fn cuDevicePrimaryCtxRelease(dev: CUdevice) -> CUresult;

    #[row(
        169,
        posted,
        via = gpurunPrimaryRelease,
        blocks = unbounded,
        since = 11000,
        test = "surface_context"
    )]
    fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> CUresult;

    #[row(
        170,
        asked,
        via = gpurunPrimaryReset,
        blocks = unbounded,
        since = 7000,
        test = "surface_context"
    )]
    fn cuDevicePrimaryCtxReset(dev: CUdevice) -> CUresult;

    #[row(
        171,
        asked,
        via = gpurunPrimaryReset,
        blocks = unbounded,
        since = 11000,
        test = "surface_context"
    )]
    fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> CUresult;

    #[row(
        172,
        asked,
        via = gpurunPrimaryRetain,
        blocks = unbounded,
        since = 7000,
        test = "surface_context"
    )]
    fn cuDevicePrimaryCtxRetain(#[out] pctx: *mut CUcontext, dev: CUdevice) -> CUresult;

    #[row(173, local, blocks = never, since = 7000, test = "surface_context")]
    fn cuDevicePrimaryCtxSetFlags(dev: CUdevice, flags: c_uint) -> CUresult;

    #[row(174, local, blocks = never, since = 11000, test = "surface_context")]
    fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint) -> CUresult;
}
