//! Core dumps of the GPU: what a program sets, and how a dump comes to its machine.
//!
//! Private rows (below 100, and from 1000 on since those are taken) come first.

unsafe extern "C" {
    /// Kernels of the current context that fault are dumped from now on, with these flags (`CU_COREDUMP_…`) of what is left out, or no longer.
    #[row(6, private, asked, custom = worker, blocks = device)]
    fn gpurunCoredumpSet(enabled: u32, flags: u32) -> CUresult;

    /// How the dump of a context stands, after a moment's wait while it is being written: its bytes so far, and a state
    /// ([`crate::coredump::state`]).
    #[row(7, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunCoredumpStand(
        context: u32,
        #[out] state: *mut u32,
        #[out] size: *mut u64,
    ) -> CUresult;

    /// A piece of a dump that is complete: `length` bytes from `offset` on, or fewer; `count` says how many. Where the reply ends before, the rest of them are zeros.
    /// None are left at the end, and then the worker lets go of the dump.
    #[row(1000, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunCoredumpRead(
        context: u32,
        length: u32,
        offset: u64,
        #[out] count: *mut u32,
        #[out_rest] bytes: &[u8],
    ) -> CUresult;

    #[row(
        696,
        local,
        blocks = unbounded,
        since = 13020,
        test = "surface_coredump"
    )]
    fn cuCoredumpDeregisterCompleteCallback(
        #[destroys] callback: CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        697,
        local,
        blocks = unbounded,
        since = 13020,
        test = "surface_coredump"
    )]
    fn cuCoredumpDeregisterStartCallback(
        #[destroys] callback: CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        698,
        local,
        blocks = never,
        since = 12010,
        test = "surface_coredump"
    )]
    fn cuCoredumpGetAttribute(
        get: CUcoredumpSettings,
        #[out(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

    #[row(
        699,
        local,
        blocks = never,
        since = 12010,
        test = "surface_coredump"
    )]
    fn cuCoredumpGetAttributeGlobal(
        get: CUcoredumpSettings,
        #[out(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

    #[row(
        700,
        local,
        blocks = never,
        since = 13020,
        test = "surface_coredump"
    )]
    fn cuCoredumpRegisterCompleteCallback(
        callback: CUcoredumpStatusCallback,
        #[address] user_data: *mut c_void,
        #[creates(nullable)] callback_out: *mut CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        701,
        local,
        blocks = never,
        since = 13020,
        test = "surface_coredump"
    )]
    fn cuCoredumpRegisterStartCallback(
        callback: CUcoredumpStatusCallback,
        #[address] user_data: *mut c_void,
        #[creates(nullable)] callback_out: *mut CUcoredumpCallbackHandle,
    ) -> CUresult;

    #[row(
        702,
        local,
        blocks = never,
        since = 12010,
        test = "surface_coredump"
    )]
    fn cuCoredumpSetAttribute(
        set: CUcoredumpSettings,
        #[input(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;

    #[row(
        703,
        local,
        blocks = never,
        since = 12010,
        test = "surface_coredump"
    )]
    fn cuCoredumpSetAttributeGlobal(
        set: CUcoredumpSettings,
        #[input(bytes = size, nullable)] value: *mut c_void,
        #[inout] size: *mut usize,
    ) -> CUresult;
}
