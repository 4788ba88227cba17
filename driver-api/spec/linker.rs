//! The JIT linker.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// A linker of the driver's in the current context. After the fixed part: `count` options that are values, `u32` and `u64` each.
    #[row(50, private, asked, custom = worker, blocks = device)]
    fn gpurunLinkCreate(link: u32, count: u32, #[rest] options: &[u8]) -> CUresult;

    /// Code of `length` bytes for a linker, inline (`transfer` = 0) or as the bulk transfer `transfer`. After the fixed part: `count`
    /// options, `name_length` bytes of a name, then what is inline.
    #[row(51, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunLinkAdd(
        link: u32,
        kind: u32,
        count: u32,
        name_length: u32,
        length: u64,
        transfer: u64,
        #[rest] options_name_and_code: &[u8],
    ) -> CUresult;

    /// Links. The reply tells how many bytes that gave.
    #[row(52, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunLinkComplete(#[out] size: *mut u64, link: u32) -> CUresult;

    /// A part of what was linked.
    #[row(53, private, asked, custom = worker, blocks = never)]
    fn gpurunLinkRead(link: u32, length: u32, offset: u64, #[out_rest] code: &[u8]) -> CUresult;

    /// What a linker has said so far: `information` bytes of information, the rest is errors.
    #[row(54, private, asked, custom = worker, blocks = never)]
    fn gpurunLinkSaid(#[out] information: *mut u32, link: u32, #[out_rest] said: &[u8]) -> CUresult;

    /// The end of a linker and of what it has linked.
    #[row(55, private, posted, custom = worker, blocks = device)]
    fn gpurunLinkDestroy(link: u32) -> CUresult;

    #[row(218, asked, via = gpurunLinkAdd, blocks = unbounded, since = 5050, test = "surface_module")]
    fn cuLinkAddData(
        state: CUlinkState,
        kind: CUjitInputType,
        #[input(bytes = size)] data: *mut c_void,
        size: usize,
        #[input(text, nullable)] name: *const c_char,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(219, asked, via = gpurunLinkAdd, blocks = unbounded, since = 6050, test = "surface_module")]
    fn cuLinkAddData_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        #[input(bytes = size)] data: *mut c_void,
        size: usize,
        #[input(text, nullable)] name: *const c_char,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(220, asked, via = gpurunLinkAdd, blocks = unbounded, since = 5050, test = "surface_module")]
    fn cuLinkAddFile(
        state: CUlinkState,
        kind: CUjitInputType,
        #[input(text)] path: *const c_char,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(221, asked, via = gpurunLinkAdd, blocks = unbounded, since = 6050, test = "surface_module")]
    fn cuLinkAddFile_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        #[input(text)] path: *const c_char,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(222, asked, via = gpurunLinkComplete, blocks = unbounded, since = 5050, test = "surface_module")]
    fn cuLinkComplete(
        state: CUlinkState,
        #[out] cubin_out: *mut *mut c_void,
        #[out(nullable)] size_out: *mut usize,
    ) -> CUresult;

    #[row(223, asked, via = gpurunLinkCreate, blocks = device, since = 5050, test = "surface_module")]
    fn cuLinkCreate(
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
        #[creates] state_out: *mut CUlinkState,
    ) -> CUresult;

    #[row(224, asked, via = gpurunLinkCreate, blocks = device, since = 6050, test = "surface_module")]
    fn cuLinkCreate_v2(
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
        #[creates] state_out: *mut CUlinkState,
    ) -> CUresult;

    #[row(225, posted, via = gpurunLinkDestroy, blocks = device, since = 5050, test = "surface_module")]
    fn cuLinkDestroy(#[destroys] state: CUlinkState) -> CUresult;
}
