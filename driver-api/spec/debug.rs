//! Core dumps and logs of the driver.

unsafe extern "C" {
    #[row(
        696,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = unbounded,
        since = 13020
    )]
    fn cuCoredumpDeregisterCompleteCallback(
        #[destroys] callback: CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        697,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = unbounded,
        since = 13020
    )]
    fn cuCoredumpDeregisterStartCallback(
        #[destroys] callback: CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        698,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = never,
        since = 12010
    )]
    fn cuCoredumpGetAttribute(
        get: CUcoredumpSettings,
        #[out(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

    #[row(
        699,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = never,
        since = 12010
    )]
    fn cuCoredumpGetAttributeGlobal(
        get: CUcoredumpSettings,
        #[out(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

    #[row(
        700,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = never,
        since = 13020
    )]
    fn cuCoredumpRegisterCompleteCallback(
        callback: CUcoredumpStatusCallback,
        #[address] user_data: *mut c_void,
        #[creates(nullable)] callback_out: *mut CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        701,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = never,
        since = 13020
    )]
    fn cuCoredumpRegisterStartCallback(
        callback: CUcoredumpStatusCallback,
        #[address] user_data: *mut c_void,
        #[creates(nullable)] callback_out: *mut CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        702,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = never,
        since = 12010
    )]
    fn cuCoredumpSetAttribute(
        set: CUcoredumpSettings,
        #[input(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

    #[row(
        703,
        refused = "a core dump would be of the process that serves this one, and in a file of its machine",
        blocks = never,
        since = 12010
    )]
    fn cuCoredumpSetAttributeGlobal(
        set: CUcoredumpSettings,
        #[input(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

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
