//! Checkpoint and restore of processes: answered by the library, which asks the server's daemon on a connection of its own.

unsafe extern "C" {
    #[row(
        709,
        refused = "it completes what custom storage began, which is refused: checkpoints go to host memory of the server's driver",
        blocks = unbounded,
        since = 13040
    )]
    fn cuCheckpointOperationComplete(handle: CUcheckpointOperationHandle) -> CUresult;

    #[row(
        710,
        local,
        blocks = unbounded,
        since = 12080,
        test = "surface_checkpoint"
    )]
    fn cuCheckpointProcessCheckpoint(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointCheckpointArgs,
    ) -> CUresult;

    #[row(
        711,
        local,
        blocks = never,
        since = 12080,
        test = "surface_checkpoint"
    )]
    fn cuCheckpointProcessGetRestoreThreadId(pid: c_int, #[out] tid: *mut c_int) -> CUresult;

    #[row(
        712,
        local,
        blocks = never,
        since = 12080,
        test = "surface_checkpoint"
    )]
    fn cuCheckpointProcessGetState(pid: c_int, #[out] state: *mut CUprocessState) -> CUresult;

    #[row(
        713,
        local,
        blocks = unbounded,
        since = 12080,
        test = "surface_checkpoint"
    )]
    fn cuCheckpointProcessLock(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointLockArgs,
    ) -> CUresult;

    #[row(
        714,
        local,
        blocks = unbounded,
        since = 12080,
        test = "surface_checkpoint"
    )]
    fn cuCheckpointProcessRestore(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointRestoreArgs,
    ) -> CUresult;

    #[row(
        715,
        local,
        blocks = unbounded,
        since = 12080,
        test = "surface_checkpoint"
    )]
    fn cuCheckpointProcessUnlock(
        pid: c_int,
        #[inout(nullable)] args: *mut CUcheckpointUnlockArgs,
    ) -> CUresult;
}
