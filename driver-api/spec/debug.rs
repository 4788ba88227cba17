//! Core dumps and logs of the driver.

unsafe extern "C" {
    #[row(696, refused = "not served yet", since = 13020)]
    fn cuCoredumpDeregisterCompleteCallback(callback: CUcoredumpCallbackHandle) -> CUresult;

    #[row(697, refused = "not served yet", since = 13020)]
    fn cuCoredumpDeregisterStartCallback(callback: CUcoredumpCallbackHandle) -> CUresult;

    #[row(698, refused = "not served yet", since = 12010)]
    fn cuCoredumpGetAttribute(
        get: CUcoredumpSettings,
        value: *mut c_void,
        size: *mut usize,
    ) -> CUresult;

    #[row(699, refused = "not served yet", since = 12010)]
    fn cuCoredumpGetAttributeGlobal(
        get: CUcoredumpSettings,
        value: *mut c_void,
        size: *mut usize,
    ) -> CUresult;

    #[row(700, refused = "not served yet", since = 13020)]
    fn cuCoredumpRegisterCompleteCallback(
        callback: CUcoredumpStatusCallback,
        user_data: *mut c_void,
        callback_out: *mut CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(701, refused = "not served yet", since = 13020)]
    fn cuCoredumpRegisterStartCallback(
        callback: CUcoredumpStatusCallback,
        user_data: *mut c_void,
        callback_out: *mut CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(702, refused = "not served yet", since = 12010)]
    fn cuCoredumpSetAttribute(
        set: CUcoredumpSettings,
        value: *mut c_void,
        size: *mut usize,
    ) -> CUresult;

    #[row(703, refused = "not served yet", since = 12010)]
    fn cuCoredumpSetAttributeGlobal(
        set: CUcoredumpSettings,
        value: *mut c_void,
        size: *mut usize,
    ) -> CUresult;

    #[row(704, refused = "not served yet", since = 12090)]
    fn cuLogsCurrent(iterator: *mut CUlogIterator, flags: c_uint) -> CUresult;

    #[row(705, refused = "not served yet", since = 12090)]
    fn cuLogsDumpToFile(
        iterator: *mut CUlogIterator,
        path_to_file: *const c_char,
        flags: c_uint,
    ) -> CUresult;

    #[row(706, refused = "not served yet", since = 12090)]
    fn cuLogsDumpToMemory(
        iterator: *mut CUlogIterator,
        buffer: *mut c_char,
        size: *mut usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(707, refused = "not served yet", since = 12090)]
    fn cuLogsRegisterCallback(
        callback_func: CUlogsCallback,
        user_data: *mut c_void,
        callback: *mut CUlogsCallbackHandle,
    ) -> CUresult;

    #[row(708, refused = "not served yet", since = 12090)]
    fn cuLogsUnregisterCallback(callback: CUlogsCallbackHandle) -> CUresult;
}
