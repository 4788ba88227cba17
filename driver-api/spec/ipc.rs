//! Sharing between processes of one lease.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// Makes the mapping that holds an address one that other sessions of the lease may open: by this session's number and a key.
    #[row(95, private, asked, custom = worker, blocks = device)]
    fn gpurunIpcExport(
        address: CUdeviceptr,
        #[out] lender: *mut u64,
        #[out] key_low: *mut u64,
        #[out] key_high: *mut u64,
        #[out] mapped: *mut u64,
        #[out] size: *mut u64,
    ) -> CUresult;

    /// Maps what another session has exported at an address of a window; its memory is of this device.
    #[row(96, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunIpcOpen(
        address: CUdeviceptr,
        size: u64,
        device: CUdevice,
        lender: u64,
        key_low: u64,
        key_high: u64,
    ) -> CUresult;

    /// Unmaps it again.
    #[row(97, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunIpcClose(address: CUdeviceptr, size: u64) -> CUresult;

    /// An event that sessions of the lease share, by the client's number for it. Operations: 0 makes it, 1 exports it, 2 opens another session's, 3 asks
    /// whether what was recorded last is reached, 4 waits for that, 5 ends it.
    #[row(98, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunIpcEvent(
        event: u32,
        operation: u32,
        lender: u64,
        key_low: u64,
        key_high: u64,
        #[out] own: *mut u64,
        #[out] own_low: *mut u64,
        #[out] own_high: *mut u64,
        #[out] is_reached: *mut u32,
    ) -> CUresult;

    /// What a stream does with such an event: 0 records it, 1 waits for what was recorded last.
    #[row(99, private, asked, custom = worker, blocks = device)]
    fn gpurunIpcEventInStream(event: u32, stream: CUstream, operation: u32) -> CUresult;

    #[row(
        458,
        asked,
        via = gpurunIpcClose,
        blocks = unbounded,
        since = 4010,
        test = "surface_ipc"
    )]
    fn cuIpcCloseMemHandle(#[destroys] dptr: CUdeviceptr) -> CUresult;

    #[row(
        459,
        asked,
        via = gpurunIpcEvent,
        blocks = never,
        since = 4010,
        test = "surface_ipc"
    )]
    fn cuIpcGetEventHandle(#[out] handle: *mut CUipcEventHandle, event: CUevent) -> CUresult;

    #[row(
        460,
        asked,
        via = gpurunIpcExport,
        blocks = never,
        since = 4010,
        test = "surface_ipc"
    )]
    fn cuIpcGetMemHandle(#[out] handle: *mut CUipcMemHandle, dptr: CUdeviceptr) -> CUresult;

    #[row(
        461,
        asked,
        via = gpurunIpcEvent,
        blocks = device,
        since = 4010,
        test = "surface_ipc"
    )]
    fn cuIpcOpenEventHandle(#[creates] event: *mut CUevent, handle: CUipcEventHandle) -> CUresult;

    #[row(
        462,
        asked,
        via = gpurunIpcOpen,
        blocks = unbounded,
        since = 4010,
        test = "surface_ipc"
    )]
    fn cuIpcOpenMemHandle(
        #[creates] pdptr: *mut CUdeviceptr,
        handle: CUipcMemHandle,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        463,
        asked,
        via = gpurunIpcOpen,
        blocks = unbounded,
        since = 11000,
        test = "surface_ipc"
    )]
    fn cuIpcOpenMemHandle_v2(
        #[creates] pdptr: *mut CUdeviceptr,
        handle: CUipcMemHandle,
        flags: c_uint,
    ) -> CUresult;
}
