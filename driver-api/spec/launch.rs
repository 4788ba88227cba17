//! Launching kernels and host functions.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// A launch. `cooperative` is 0 or 1. After the fixed part: `attribute_count` launch attributes of 72 bytes each, as in
    /// `CUlaunchAttribute` and only those that hold no handle, then the packed parameters.
    #[row(30, private, posted, custom = worker, blocks = device)]
    fn gpurunLaunch(
        function: CUfunction,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: c_uint,
        stream: CUstream,
        cooperative: u32,
        attribute_count: u32,
        #[rest] attributes_and_parameters: &[u8],
    ) -> CUresult;

    #[row(226, refused = "not served yet", since = 2000)]
    fn cuLaunch(f: CUfunction) -> CUresult;

    #[row(227, posted, via = gpurunLaunch, since = 9000, ptsz = 9000)]
    fn cuLaunchCooperativeKernel(
        f: CUfunction,
        grid_dim_x: c_uint,
        grid_dim_y: c_uint,
        grid_dim_z: c_uint,
        block_dim_x: c_uint,
        block_dim_y: c_uint,
        block_dim_z: c_uint,
        shared_mem_bytes: c_uint,
        stream: CUstream,
        kernel_params: *mut *mut c_void,
    ) -> CUresult;

    #[row(228, refused = "not served yet", since = 9000)]
    fn cuLaunchCooperativeKernelMultiDevice(
        launch_params_list: *mut CUDA_LAUNCH_PARAMS,
        num_devices: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(229, refused = "not served yet", since = 2000)]
    fn cuLaunchGrid(f: CUfunction, grid_width: c_int, grid_height: c_int) -> CUresult;

    #[row(230, refused = "not served yet", since = 2000)]
    fn cuLaunchGridAsync(
        f: CUfunction,
        grid_width: c_int,
        grid_height: c_int,
        stream: CUstream,
    ) -> CUresult;

    #[row(231, refused = "not served yet", since = 10000, ptsz = 10000)]
    fn cuLaunchHostFunc(stream: CUstream, function: CUhostFn, user_data: *mut c_void) -> CUresult;

    #[row(232, refused = "not served yet", since = 13010, ptsz = 13010)]
    fn cuLaunchHostFunc_v2(
        stream: CUstream,
        function: CUhostFn,
        user_data: *mut c_void,
        sync_mode: c_uint,
    ) -> CUresult;

    #[row(233, posted, via = gpurunLaunch, since = 4000, ptsz = 7000)]
    fn cuLaunchKernel(
        f: CUfunction,
        grid_dim_x: c_uint,
        grid_dim_y: c_uint,
        grid_dim_z: c_uint,
        block_dim_x: c_uint,
        block_dim_y: c_uint,
        block_dim_z: c_uint,
        shared_mem_bytes: c_uint,
        stream: CUstream,
        kernel_params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> CUresult;

    #[row(234, posted, via = gpurunLaunch, since = 11060, ptsz = 11060)]
    fn cuLaunchKernelEx(
        config: *const CUlaunchConfig,
        f: CUfunction,
        kernel_params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> CUresult;

    #[row(235, refused = "not served yet", since = 2000)]
    fn cuParamSetSize(function: CUfunction, numbytes: c_uint) -> CUresult;

    #[row(236, refused = "not served yet", since = 2000)]
    fn cuParamSetTexRef(function: CUfunction, texunit: c_int, tex_ref: CUtexref) -> CUresult;

    #[row(237, refused = "not served yet", since = 2000)]
    fn cuParamSetf(function: CUfunction, offset: c_int, value: f32) -> CUresult;

    #[row(238, refused = "not served yet", since = 2000)]
    fn cuParamSeti(function: CUfunction, offset: c_int, value: c_uint) -> CUresult;

    #[row(239, refused = "not served yet", since = 2000)]
    fn cuParamSetv(
        function: CUfunction,
        offset: c_int,
        ptr: *mut c_void,
        numbytes: c_uint,
    ) -> CUresult;
}
