//! The JIT linker.

unsafe extern "C" {
    #[row(218, refused = "not served yet: linking", blocks = unbounded, since = 5050)]
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

    #[row(219, refused = "not served yet: linking", blocks = unbounded, since = 6050)]
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

    #[row(220, refused = "not served yet: linking", blocks = unbounded, since = 5050)]
    fn cuLinkAddFile(
        state: CUlinkState,
        kind: CUjitInputType,
        #[input(text)] path: *const c_char,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(221, refused = "not served yet: linking", blocks = unbounded, since = 6050)]
    fn cuLinkAddFile_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        #[input(text)] path: *const c_char,
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(222, refused = "not served yet: linking", blocks = unbounded, since = 5050)]
    fn cuLinkComplete(
        state: CUlinkState,
        #[out] cubin_out: *mut *mut c_void,
        #[out(nullable)] size_out: *mut usize,
    ) -> CUresult;

    #[row(223, refused = "not served yet: linking", blocks = device, since = 5050)]
    fn cuLinkCreate(
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
        #[creates] state_out: *mut CUlinkState,
    ) -> CUresult;

    #[row(224, refused = "not served yet: linking", blocks = device, since = 6050)]
    fn cuLinkCreate_v2(
        num_options: c_uint,
        #[input(count = num_options)] options: *mut CUjit_option,
        #[inout(count = num_options)] option_values: *mut *mut c_void,
        #[creates] state_out: *mut CUlinkState,
    ) -> CUresult;

    #[row(225, refused = "not served yet: linking", blocks = never, since = 5050)]
    fn cuLinkDestroy(#[destroys] state: CUlinkState) -> CUresult;
}
