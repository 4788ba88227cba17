//! Sharing between processes.

unsafe extern "C" {
    #[row(
        458,
        refused = "not served yet: memory shared between processes",
        blocks = unbounded,
        since = 4010
    )]
    fn cuIpcCloseMemHandle(#[destroys] dptr: CUdeviceptr) -> CUresult;

    #[row(
        459,
        refused = "not served yet: memory shared between processes",
        blocks = never,
        since = 4010
    )]
    fn cuIpcGetEventHandle(#[out] handle: *mut CUipcEventHandle, event: CUevent) -> CUresult;

    #[row(
        460,
        refused = "not served yet: memory shared between processes",
        blocks = never,
        since = 4010
    )]
    fn cuIpcGetMemHandle(#[out] handle: *mut CUipcMemHandle, dptr: CUdeviceptr) -> CUresult;

    #[row(
        461,
        refused = "not served yet: memory shared between processes",
        blocks = device,
        since = 4010
    )]
    fn cuIpcOpenEventHandle(#[creates] event: *mut CUevent, handle: CUipcEventHandle) -> CUresult;

    #[row(
        462,
        refused = "not served yet: memory shared between processes",
        blocks = unbounded,
        since = 4010
    )]
    fn cuIpcOpenMemHandle(
        #[creates] pdptr: *mut CUdeviceptr,
        handle: CUipcMemHandle,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        463,
        refused = "not served yet: memory shared between processes",
        blocks = unbounded,
        since = 11000
    )]
    fn cuIpcOpenMemHandle_v2(
        #[creates] pdptr: *mut CUdeviceptr,
        handle: CUipcMemHandle,
        flags: c_uint,
    ) -> CUresult;
}
