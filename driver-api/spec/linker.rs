//! The JIT linker.

unsafe extern "C" {
    #[row(218, refused = "not served yet", since = 5050)]
    fn cuLinkAddData(
        state: CUlinkState,
        kind: CUjitInputType,
        data: *mut c_void,
        size: usize,
        name: *const c_char,
        num_options: c_uint,
        options: *mut CUjit_option,
        option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(219, refused = "not served yet", since = 6050)]
    fn cuLinkAddData_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        data: *mut c_void,
        size: usize,
        name: *const c_char,
        num_options: c_uint,
        options: *mut CUjit_option,
        option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(220, refused = "not served yet", since = 5050)]
    fn cuLinkAddFile(
        state: CUlinkState,
        kind: CUjitInputType,
        path: *const c_char,
        num_options: c_uint,
        options: *mut CUjit_option,
        option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(221, refused = "not served yet", since = 6050)]
    fn cuLinkAddFile_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        path: *const c_char,
        num_options: c_uint,
        options: *mut CUjit_option,
        option_values: *mut *mut c_void,
    ) -> CUresult;

    #[row(222, refused = "not served yet", since = 5050)]
    fn cuLinkComplete(
        state: CUlinkState,
        cubin_out: *mut *mut c_void,
        size_out: *mut usize,
    ) -> CUresult;

    #[row(223, refused = "not served yet", since = 5050)]
    fn cuLinkCreate(
        num_options: c_uint,
        options: *mut CUjit_option,
        option_values: *mut *mut c_void,
        state_out: *mut CUlinkState,
    ) -> CUresult;

    #[row(224, refused = "not served yet", since = 6050)]
    fn cuLinkCreate_v2(
        num_options: c_uint,
        options: *mut CUjit_option,
        option_values: *mut *mut c_void,
        state_out: *mut CUlinkState,
    ) -> CUresult;

    #[row(225, refused = "not served yet", since = 5050)]
    fn cuLinkDestroy(state: CUlinkState) -> CUresult;
}
