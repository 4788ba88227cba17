//! Events.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// Records an event and marks the place.
    #[row(15, private, posted, custom = worker, blocks = never)]
    fn gpurunEventRecord(event: CUevent, stream: CUstream, flags: c_uint, mark: u64) -> CUresult;

    /// Milliseconds between two completed events.
    #[row(16, private, asked, custom = worker, blocks = device)]
    fn gpurunEventElapsed(#[out] milliseconds: *mut f32, start: CUevent, end: CUevent) -> CUresult;

    /// The end of an event.
    #[row(17, private, posted, custom = worker, blocks = never)]
    fn gpurunEventDestroy(event: CUevent) -> CUresult;

    #[row(275, posted, custom = client, blocks = never, since = 2000, test = "surface_stream")]
    fn cuEventCreate(#[creates] event: *mut CUevent, flags: c_uint) -> CUresult;

    #[row(
        276,
        posted,
        via = gpurunEventDestroy,
        blocks = never,
        since = 2000,
        test = "surface_stream"
    )]
    fn cuEventDestroy(#[destroys] event: CUevent) -> CUresult;

    #[row(
        277,
        posted,
        via = gpurunEventDestroy,
        blocks = never,
        since = 4000,
        test = "surface_stream"
    )]
    fn cuEventDestroy_v2(#[destroys] event: CUevent) -> CUresult;

    #[row(
        278,
        asked,
        via = gpurunEventElapsed,
        blocks = never,
        since = 2000,
        test = "surface_stream"
    )]
    fn cuEventElapsedTime(#[out] milliseconds: *mut f32, start: CUevent, end: CUevent) -> CUresult;

    #[row(
        279,
        asked,
        via = gpurunEventElapsed,
        blocks = never,
        since = 12080,
        test = "surface_stream"
    )]
    fn cuEventElapsedTime_v2(
        #[out] milliseconds: *mut f32,
        start: CUevent,
        end: CUevent,
    ) -> CUresult;

    #[row(280, local, blocks = never, since = 2000, test = "surface_stream")]
    fn cuEventQuery(event: CUevent) -> CUresult;

    #[row(
        281,
        posted,
        via = gpurunEventRecord,
        blocks = never,
        since = 2000,
        ptsz = 7000,
        test = "surface_stream"
    )]
    fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult;

    #[row(
        282,
        posted,
        via = gpurunEventRecord,
        blocks = never,
        since = 11010,
        ptsz = 11010,
        test = "surface_stream"
    )]
    fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: c_uint) -> CUresult;

    #[row(283, local, blocks = unbounded, since = 2000, test = "surface_stream")]
    fn cuEventSynchronize(event: CUevent) -> CUresult;
}
