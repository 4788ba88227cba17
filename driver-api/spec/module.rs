//! Modules, libraries, kernels, functions and their attributes.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// A module image of `length` bytes, inline (`transfer` = 0) or as the bulk transfer `transfer`. After the fixed part: `count` options of its
    /// compilation, then what is inline.
    #[row(20, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunModuleLoad(
        module: u32,
        hash: [u8; 32],
        length: u64,
        transfer: u64,
        count: u32,
        #[rest] options_and_image: &[u8],
    ) -> CUresult;

    /// The same for a library, which belongs to no context.
    #[row(21, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunLibraryLoad(
        library: u32,
        hash: [u8; 32],
        length: u64,
        transfer: u64,
        count: u32,
        #[rest] options_and_image: &[u8],
    ) -> CUresult;

    /// A function of a module by name. The reply tells its parameters: `u32` offset and `u32` size of each, if `known` is 1.
    #[row(22, private, asked, custom = worker, blocks = device)]
    fn gpurunFunctionGet(
        #[out] known: *mut u32,
        module: CUmodule,
        function: u32,
        #[rest] name: &[u8],
        #[out_rest] parameters: &[u8],
    ) -> CUresult;

    /// A kernel of a library by name, with the same reply.
    #[row(23, private, asked, custom = worker, blocks = device)]
    fn gpurunKernelGet(
        #[out] known: *mut u32,
        library: CUlibrary,
        kernel: u32,
        #[rest] name: &[u8],
        #[out_rest] parameters: &[u8],
    ) -> CUresult;

    /// The function that a kernel is in the current context.
    #[row(24, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunKernelFunction(kernel: CUkernel, function: u32) -> CUresult;

    /// A variable of a module by name. If it is managed, the memory around it that is: else none.
    #[row(25, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunModuleGlobal(
        #[out] address: *mut u64,
        #[out] size: *mut u64,
        #[out] managed: *mut u64,
        #[out] managed_size: *mut u64,
        module: CUmodule,
        #[rest] name: &[u8],
    ) -> CUresult;

    /// The names of all functions of a module, `count` of them, each with a NUL after it.
    #[row(27, private, asked, custom = worker, blocks = device)]
    fn gpurunModuleNames(
        #[out] count: *mut u32,
        module: CUmodule,
        #[out_rest] names: &[u8],
    ) -> CUresult;

    /// The names of all kernels of a library, in the same way.
    #[row(28, private, asked, custom = worker, blocks = device)]
    fn gpurunLibraryNames(
        #[out] count: *mut u32,
        library: CUlibrary,
        #[out_rest] names: &[u8],
    ) -> CUresult;

    /// A variable of a library in the current context by name, in the same way.
    #[row(26, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunLibraryGlobal(
        #[out] address: *mut u64,
        #[out] size: *mut u64,
        #[out] managed: *mut u64,
        #[out] managed_size: *mut u64,
        library: CUlibrary,
        #[rest] name: &[u8],
    ) -> CUresult;

    #[row(175, asked, custom = client, blocks = device, since = 2020, test = "surface_module")]
    fn cuFuncGetAttribute(
        #[out] pi: *mut c_int,
        attrib: CUfunction_attribute,
        function: CUfunction,
    ) -> CUresult;

    #[row(176, local, blocks = never, since = 11000, test = "surface_module")]
    fn cuFuncGetModule(#[out] module: *mut CUmodule, function: CUfunction) -> CUresult;

    #[row(177, local, blocks = never, since = 12030, test = "surface_module")]
    fn cuFuncGetName(#[out] name: *mut *const c_char, function: CUfunction) -> CUresult;

    #[row(178, local, blocks = never, since = 13020, test = "surface_module")]
    fn cuFuncGetParamCount(func: CUfunction, #[out] param_count: *mut usize) -> CUresult;

    #[row(179, local, blocks = never, since = 12040, test = "surface_module")]
    fn cuFuncGetParamInfo(
        func: CUfunction,
        param_index: usize,
        #[out] param_offset: *mut usize,
        #[out(nullable)] param_size: *mut usize,
    ) -> CUresult;

    #[row(180, local, blocks = never, since = 12040, test = "surface_module")]
    fn cuFuncIsLoaded(#[out] state: *mut CUfunctionLoadingState, function: CUfunction) -> CUresult;

    #[row(181, local, blocks = unbounded, since = 12040, test = "surface_module")]
    fn cuFuncLoad(function: CUfunction) -> CUresult;

    #[row(182, asked, custom = client, blocks = device, since = 9000, test = "surface_module")]
    fn cuFuncSetAttribute(
        function: CUfunction,
        attrib: CUfunction_attribute,
        value: c_int,
    ) -> CUresult;

    #[row(183, local, blocks = never, since = 2000, test = "surface_module")]
    fn cuFuncSetBlockShape(function: CUfunction, x: c_int, y: c_int, z: c_int) -> CUresult;

    #[row(184, posted, custom = client, blocks = never, since = 3000, test = "surface_module")]
    fn cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache) -> CUresult;

    #[row(185, local, blocks = never, since = 4020, test = "surface_module")]
    fn cuFuncSetSharedMemConfig(function: CUfunction, config: CUsharedconfig) -> CUresult;

    #[row(186, local, blocks = never, since = 2000, test = "surface_module")]
    fn cuFuncSetSharedSize(function: CUfunction, bytes: c_uint) -> CUresult;

    #[row(187, asked, custom = client, blocks = device, since = 12000, test = "surface_module")]
    fn cuKernelGetAttribute(
        #[out] pi: *mut c_int,
        attrib: CUfunction_attribute,
        kernel: CUkernel,
        dev: CUdevice,
    ) -> CUresult;

    #[row(
        188,
        asked,
        via = gpurunKernelFunction,
        blocks = unbounded,
        since = 12000,
        test = "surface_module"
    )]
    fn cuKernelGetFunction(#[out] func: *mut CUfunction, kernel: CUkernel) -> CUresult;

    #[row(189, local, blocks = never, since = 12050, test = "surface_module")]
    fn cuKernelGetLibrary(#[out] lib: *mut CUlibrary, kernel: CUkernel) -> CUresult;

    #[row(190, local, blocks = never, since = 12030, test = "surface_module")]
    fn cuKernelGetName(#[out] name: *mut *const c_char, function: CUkernel) -> CUresult;

    #[row(191, local, blocks = never, since = 13020, test = "surface_module")]
    fn cuKernelGetParamCount(kernel: CUkernel, #[out] param_count: *mut usize) -> CUresult;

    #[row(192, local, blocks = never, since = 12040, test = "surface_module")]
    fn cuKernelGetParamInfo(
        kernel: CUkernel,
        param_index: usize,
        #[out] param_offset: *mut usize,
        #[out(nullable)] param_size: *mut usize,
    ) -> CUresult;

    #[row(193, asked, custom = client, blocks = device, since = 12000, test = "surface_module")]
    fn cuKernelSetAttribute(
        attrib: CUfunction_attribute,
        val: c_int,
        kernel: CUkernel,
        dev: CUdevice,
    ) -> CUresult;

    #[row(194, local, blocks = never, since = 12000, test = "surface_module")]
    fn cuKernelSetCacheConfig(kernel: CUkernel, config: CUfunc_cache, dev: CUdevice) -> CUresult;

    #[row(
        195,
        asked,
        via = gpurunLibraryNames,
        blocks = device,
        since = 12040,
        test = "surface_module"
    )]
    fn cuLibraryEnumerateKernels(
        #[out(count = num_kernels)] kernels: *mut CUkernel,
        num_kernels: c_uint,
        lib: CUlibrary,
    ) -> CUresult;

    #[row(
        196,
        asked,
        via = gpurunLibraryGlobal,
        blocks = unbounded,
        since = 12000,
        test = "surface_module"
    )]
    fn cuLibraryGetGlobal(
        #[out(nullable)] dptr: *mut CUdeviceptr,
        #[out(nullable)] bytes: *mut usize,
        library: CUlibrary,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(
        197,
        asked,
        via = gpurunKernelGet,
        blocks = unbounded,
        since = 12000,
        test = "surface_module"
    )]
    fn cuLibraryGetKernel(
        #[out] kernel: *mut CUkernel,
        library: CUlibrary,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(
        198,
        asked,
        via = gpurunLibraryNames,
        blocks = device,
        since = 12040,
        test = "surface_module"
    )]
    fn cuLibraryGetKernelCount(#[out] count: *mut c_uint, lib: CUlibrary) -> CUresult;

    #[row(
        199,
        asked,
        via = gpurunLibraryGlobal,
        blocks = unbounded,
        since = 12000,
        test = "surface_managed"
    )]
    fn cuLibraryGetManaged(
        #[out(nullable)] dptr: *mut CUdeviceptr,
        #[out(nullable)] bytes: *mut usize,
        library: CUlibrary,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(200, asked, custom = both, blocks = unbounded, since = 12000, test = "surface_module")]
    fn cuLibraryGetModule(#[creates] module: *mut CUmodule, library: CUlibrary) -> CUresult;

    #[row(201, local, blocks = unbounded, since = 12000, test = "surface_module")]
    fn cuLibraryGetUnifiedFunction(
        #[out] fptr: *mut *mut c_void,
        library: CUlibrary,
        #[input(text)] symbol: *const c_char,
    ) -> CUresult;

    #[row(
        202,
        asked,
        via = gpurunLibraryLoad,
        blocks = unbounded,
        since = 12000,
        test = "surface_module"
    )]
    fn cuLibraryLoadData(
        #[creates] library: *mut CUlibrary,
        #[input(ended)] code: *const c_void,
        #[input(count = num_jit_options)] jit_options: *mut CUjit_option,
        #[inout(count = num_jit_options)] jit_options_values: *mut *mut c_void,
        num_jit_options: c_uint,
        #[input(count = num_library_options)] library_options: *mut CUlibraryOption,
        #[inout(count = num_library_options)] library_option_values: *mut *mut c_void,
        num_library_options: c_uint,
    ) -> CUresult;

    #[row(
        203,
        asked,
        via = gpurunLibraryLoad,
        blocks = unbounded,
        since = 12000,
        test = "surface_module"
    )]
    fn cuLibraryLoadFromFile(
        #[creates] library: *mut CUlibrary,
        #[input(text)] file_name: *const c_char,
        #[input(count = num_jit_options)] jit_options: *mut CUjit_option,
        #[inout(count = num_jit_options)] jit_options_values: *mut *mut c_void,
        num_jit_options: c_uint,
        #[input(count = num_library_options)] library_options: *mut CUlibraryOption,
        #[inout(count = num_library_options)] library_option_values: *mut *mut c_void,
        num_library_options: c_uint,
    ) -> CUresult;

    #[row(204, asked, custom = client, blocks = unbounded, since = 12000, test = "surface_module")]
    fn cuLibraryUnload(#[destroys] library: CUlibrary) -> CUresult;

    #[row(
        205,
        asked,
        via = gpurunModuleNames,
        blocks = device,
        since = 12040,
        test = "surface_module"
    )]
    fn cuModuleEnumerateFunctions(
        #[out(count = num_functions)] functions: *mut CUfunction,
        num_functions: c_uint,
        module: CUmodule,
    ) -> CUresult;

    #[row(
        206,
        asked,
        via = gpurunFunctionGet,
        blocks = unbounded,
        since = 2000,
        test = "surface_module"
    )]
    fn cuModuleGetFunction(
        #[out] function: *mut CUfunction,
        module: CUmodule,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(
        207,
        asked,
        via = gpurunModuleNames,
        blocks = device,
        since = 12040,
        test = "surface_module"
    )]
    fn cuModuleGetFunctionCount(#[out] count: *mut c_uint, module: CUmodule) -> CUresult;

    #[row(
        208,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = unbounded,
        since = 2000
    )]
    fn cuModuleGetGlobal(
        #[out(nullable)] dptr: *mut CUdeviceptr_v1,
        #[out(nullable)] bytes: *mut c_uint,
        module: CUmodule,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(
        209,
        asked,
        via = gpurunModuleGlobal,
        blocks = unbounded,
        since = 3020,
        test = "surface_module"
    )]
    fn cuModuleGetGlobal_v2(
        #[out(nullable)] dptr: *mut CUdeviceptr,
        #[out(nullable)] bytes: *mut usize,
        module: CUmodule,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(210, local, blocks = never, since = 11070, test = "surface_module")]
    fn cuModuleGetLoadingMode(#[out] mode: *mut CUmoduleLoadingMode) -> CUresult;

    #[row(211, asked, via = gpurunReferenceGet, blocks = device, since = 3000, test = "surface_reference")]
    fn cuModuleGetSurfRef(
        #[out] surf_ref: *mut CUsurfref,
        module: CUmodule,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(212, asked, via = gpurunReferenceGet, blocks = device, since = 2000, test = "surface_reference")]
    fn cuModuleGetTexRef(
        #[out] tex_ref: *mut CUtexref,
        module: CUmodule,
        #[input(text)] name: *const c_char,
    ) -> CUresult;

    #[row(
        213,
        asked,
        via = gpurunModuleLoad,
        blocks = unbounded,
        since = 2000,
        test = "surface_module"
    )]
    fn cuModuleLoad(
        #[creates] module: *mut CUmodule,
        #[input(text)] fname: *const c_char,
    ) -> CUresult;

    #[row(
        214,
        asked,
        via = gpurunModuleLoad,
        blocks = unbounded,
        since = 2000,
        test = "surface_module"
    )]
    fn cuModuleLoadData(
        #[creates] module: *mut CUmodule,
        #[input(ended)] image: *const c_void,
    ) -> CUresult;

    #[row(
        215,
        asked,
        via = gpurunModuleLoad,
        blocks = unbounded,
        since = 2010,
        test = "surface_module"
    )]
    fn cuModuleLoadDataEx(
        #[creates] module: *mut CUmodule,
        #[input(ended)] image: *const c_void,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(
        216,
        asked,
        via = gpurunModuleLoad,
        blocks = unbounded,
        since = 2000,
        test = "surface_module"
    )]
    fn cuModuleLoadFatBinary(
        #[creates] module: *mut CUmodule,
        #[input(ended)] fat_cubin: *const c_void,
    ) -> CUresult;

    #[row(217, asked, custom = client, blocks = unbounded, since = 2000, test = "surface_module")]
    fn cuModuleUnload(#[destroys] module: CUmodule) -> CUresult;
}
