//! Events.

unsafe extern "C" {
    #[row(275, posted, custom = client, blocks = never, since = 2000)]
    fn cuEventCreate(#[creates] event: *mut CUevent, flags: c_uint) -> CUresult;

    #[row(276, posted, via = gpurunEventDestroy, since = 2000)]
    fn cuEventDestroy(event: CUevent) -> CUresult;

    #[row(277, posted, via = gpurunEventDestroy, since = 4000)]
    fn cuEventDestroy_v2(event: CUevent) -> CUresult;

    #[row(278, asked, via = gpurunEventElapsed, since = 2000)]
    fn cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent) -> CUresult;

    #[row(279, asked, via = gpurunEventElapsed, since = 12080)]
    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: CUevent, end: CUevent) -> CUresult;

    #[row(280, local, since = 2000)]
    fn cuEventQuery(event: CUevent) -> CUresult;

    #[row(281, posted, via = gpurunEventRecord, since = 2000, ptsz = 7000)]
    fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult;

    #[row(282, posted, via = gpurunEventRecord, since = 11010, ptsz = 11010)]
    fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: c_uint) -> CUresult;

    #[row(283, local, since = 2000)]
    fn cuEventSynchronize(event: CUevent) -> CUresult;
}
