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

    /// A place in a stream where the program's function is called: `mark` is pushed when the stream is there, and the stream goes on when
    /// `gate` is opened.
    #[row(31, private, posted, custom = worker, blocks = device)]
    fn gpurunHostFunction(stream: CUstream, gate: u32, mark: u64) -> CUresult;

    /// The function of that gate has returned. One that is not there any more is nobody's business.
    #[row(32, private, posted, custom = worker, blocks = never)]
    fn gpurunGateOpen(gate: u32) -> CUresult;

    #[row(226, posted, via = gpurunLaunch, blocks = device, since = 2000, test = "surface_module")]
    fn cuLaunch(f: CUfunction) -> CUresult;

    #[row(
        227,
        posted,
        via = gpurunLaunch,
        blocks = device,
        since = 9000,
        ptsz = 9000,
        test = "surface_module"
    )]
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
        #[input(parameters_of = f, nullable)] kernel_params: *mut *mut c_void,
    ) -> CUresult;

    #[row(
        228,
        refused = "COOPERATIVE_MULTI_DEVICE_LAUNCH is 0: no kernel runs on several devices at once",
        blocks = device,
        since = 9000
    )]
    fn cuLaunchCooperativeKernelMultiDevice(
        #[input(count = num_devices)] launch_params_list: *mut CUDA_LAUNCH_PARAMS,
        num_devices: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(229, posted, via = gpurunLaunch, blocks = device, since = 2000, test = "surface_module")]
    fn cuLaunchGrid(f: CUfunction, grid_width: c_int, grid_height: c_int) -> CUresult;

    #[row(230, posted, via = gpurunLaunch, blocks = device, since = 2000, test = "surface_module")]
    fn cuLaunchGridAsync(
        f: CUfunction,
        grid_width: c_int,
        grid_height: c_int,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        231,
        posted,
        via = gpurunHostFunction,
        blocks = device,
        since = 10000,
        ptsz = 10000,
        test = "surface_stream"
    )]
    fn cuLaunchHostFunc(
        stream: CUstream,
        function: CUhostFn,
        #[address] user_data: *mut c_void,
    ) -> CUresult;

    #[row(
        232,
        posted,
        via = gpurunHostFunction,
        blocks = device,
        since = 13010,
        ptsz = 13010,
        test = "surface_stream"
    )]
    fn cuLaunchHostFunc_v2(
        stream: CUstream,
        function: CUhostFn,
        #[address] user_data: *mut c_void,
        sync_mode: c_uint,
    ) -> CUresult;

    #[row(
        233,
        posted,
        via = gpurunLaunch,
        blocks = device,
        since = 4000,
        ptsz = 7000,
        test = "surface_module"
    )]
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
        #[input(parameters_of = f, nullable)] kernel_params: *mut *mut c_void,
        #[input(ended, nullable)] extra: *mut *mut c_void,
    ) -> CUresult;

    #[row(
        234,
        posted,
        via = gpurunLaunch,
        blocks = device,
        since = 11060,
        ptsz = 11060,
        test = "surface_module"
    )]
    fn cuLaunchKernelEx(
        #[input] config: *const CUlaunchConfig,
        f: CUfunction,
        #[input(parameters_of = f, nullable)] kernel_params: *mut *mut c_void,
        #[input(ended, nullable)] extra: *mut *mut c_void,
    ) -> CUresult;

    #[row(235, local, blocks = never, since = 2000, test = "surface_module")]
    fn cuParamSetSize(function: CUfunction, numbytes: c_uint) -> CUresult;

    #[row(236, local, blocks = never, since = 2000, test = "surface_reference")]
    fn cuParamSetTexRef(function: CUfunction, texunit: c_int, tex_ref: CUtexref) -> CUresult;

    #[row(237, local, blocks = never, since = 2000, test = "surface_module")]
    fn cuParamSetf(function: CUfunction, offset: c_int, value: f32) -> CUresult;

    #[row(238, local, blocks = never, since = 2000, test = "surface_module")]
    fn cuParamSeti(function: CUfunction, offset: c_int, value: c_uint) -> CUresult;

    #[row(239, local, blocks = never, since = 2000, test = "surface_module")]
    fn cuParamSetv(
        function: CUfunction,
        offset: c_int,
        #[input(bytes = numbytes)] ptr: *mut c_void,
        numbytes: c_uint,
    ) -> CUresult;
}
