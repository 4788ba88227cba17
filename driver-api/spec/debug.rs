//! The log of the driver.

unsafe extern "C" {
    #[row(704, local, blocks = never, since = 12090, test = "surface_debug")]
    fn cuLogsCurrent(#[out] iterator: *mut CUlogIterator, flags: c_uint) -> CUresult;

    #[row(705, local, blocks = never, since = 12090, test = "surface_debug")]
    fn cuLogsDumpToFile(
        #[inout(nullable)] iterator: *mut CUlogIterator,
        #[input(text)] path_to_file: *const c_char,
        flags: c_uint,
    ) -> CUresult;

    #[row(706, local, blocks = never, since = 12090, test = "surface_debug")]
    fn cuLogsDumpToMemory(
        #[inout(nullable)] iterator: *mut CUlogIterator,
        #[out(bytes = size)] buffer: *mut c_char,
        #[inout] size: *mut usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(707, local, blocks = never, since = 12090, test = "surface_debug")]
    fn cuLogsRegisterCallback(
        callback_func: CUlogsCallback,
        #[address] user_data: *mut c_void,
        #[creates(nullable)] callback: *mut CUlogsCallbackHandle,
    ) -> CUresult;

    #[row(708, local, blocks = unbounded, since = 12090, test = "surface_debug")]
    fn cuLogsUnregisterCallback(#[destroys] callback: CUlogsCallbackHandle) -> CUresult;
}
