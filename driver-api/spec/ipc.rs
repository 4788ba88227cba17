//! Sharing between processes.

unsafe extern "C" {
    #[row(458, refused = "not served yet", since = 4010)]
    fn cuIpcCloseMemHandle(dptr: CUdeviceptr) -> CUresult;

    #[row(459, refused = "not served yet", since = 4010)]
    fn cuIpcGetEventHandle(handle: *mut CUipcEventHandle, event: CUevent) -> CUresult;

    #[row(460, refused = "not served yet", since = 4010)]
    fn cuIpcGetMemHandle(handle: *mut CUipcMemHandle, dptr: CUdeviceptr) -> CUresult;

    #[row(461, refused = "not served yet", since = 4010)]
    fn cuIpcOpenEventHandle(event: *mut CUevent, handle: CUipcEventHandle) -> CUresult;

    #[row(462, refused = "not served yet", since = 4010)]
    fn cuIpcOpenMemHandle(
        pdptr: *mut CUdeviceptr,
        handle: CUipcMemHandle,
        flags: c_uint,
    ) -> CUresult;

    #[row(463, refused = "not served yet", since = 11000)]
    fn cuIpcOpenMemHandle_v2(
        pdptr: *mut CUdeviceptr,
        handle: CUipcMemHandle,
        flags: c_uint,
    ) -> CUresult;
}
