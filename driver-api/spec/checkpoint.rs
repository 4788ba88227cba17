//! Checkpoint and restore of processes.

unsafe extern "C" {
    #[row(
        709,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = unbounded,
        since = 13040
    )]
    fn cuCheckpointOperationComplete(handle: CUcheckpointOperationHandle) -> CUresult;

    #[row(
        710,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = unbounded,
        since = 12080
    )]
    fn cuCheckpointProcessCheckpoint(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointCheckpointArgs,
    ) -> CUresult;

    #[row(
        711,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = never,
        since = 12080
    )]
    fn cuCheckpointProcessGetRestoreThreadId(pid: c_int, #[out] tid: *mut c_int) -> CUresult;

    #[row(
        712,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = never,
        since = 12080
    )]
    fn cuCheckpointProcessGetState(pid: c_int, #[out] state: *mut CUprocessState) -> CUresult;

    #[row(
        713,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = unbounded,
        since = 12080
    )]
    fn cuCheckpointProcessLock(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointLockArgs,
    ) -> CUresult;

    #[row(
        714,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = unbounded,
        since = 12080
    )]
    fn cuCheckpointProcessRestore(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointRestoreArgs,
    ) -> CUresult;

    #[row(
        715,
        refused = "the memory to be saved is of a server, which keeps no checkpoints",
        blocks = unbounded,
        since = 12080
    )]
    fn cuCheckpointProcessUnlock(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointUnlockArgs,
    ) -> CUresult;
}
