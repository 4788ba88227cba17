//! Profiler control.

unsafe extern "C" {
    #[row(693, refused = "the profiler that CUDA 11 removed", blocks = never, since = 4000)]
    fn cuProfilerInitialize(
        #[input(text)] config_file: *const c_char,
        #[input(text)] output_file: *const c_char,
        output_mode: CUoutput_mode,
    ) -> CUresult;

    #[row(694, local, blocks = never, since = 4000, test = "surface_context")]
    fn cuProfilerStart() -> CUresult;

    #[row(695, local, blocks = never, since = 4000, test = "surface_context")]
    fn cuProfilerStop() -> CUresult;
}
