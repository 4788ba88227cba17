//! Profiler control.

unsafe extern "C" {
    #[row(693, refused = "not served yet", since = 4000)]
    fn cuProfilerInitialize(
        config_file: *const c_char,
        output_file: *const c_char,
        output_mode: CUoutput_mode,
    ) -> CUresult;

    #[row(694, local, since = 4000)]
    fn cuProfilerStart() -> CUresult;

    #[row(695, local, since = 4000)]
    fn cuProfilerStop() -> CUresult;
}
