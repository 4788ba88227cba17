//! Initialisation, versions, error texts, and the ways a client finds functions.

unsafe extern "C" {
    #[row(100, local, blocks = never, since = 2020, test = "surface_context")]
    fn cuDriverGetVersion(#[out] driver_version: *mut c_int) -> CUresult;

    #[row(101, local, blocks = never, since = 6000, test = "surface_context")]
    fn cuGetErrorName(error: CUresult, #[out] str: *mut *const c_char) -> CUresult;

    #[row(102, local, blocks = never, since = 6000, test = "surface_context")]
    fn cuGetErrorString(error: CUresult, #[out] str: *mut *const c_char) -> CUresult;

    #[row(103, local, blocks = never, since = 3000, test = "surface_context")]
    fn cuGetExportTable(
        #[out] export_table: *mut *const c_void,
        #[input] export_table_id: *const CUuuid,
    ) -> CUresult;

    #[row(104, local, blocks = never, since = 11030, test = "surface_context")]
    fn cuGetProcAddress(
        #[input(text)] symbol: *const c_char,
        #[out] pfn: *mut *mut c_void,
        driver_version: c_int,
        flags: u64,
    ) -> CUresult;

    #[row(105, local, blocks = never, since = 12000, test = "surface_context")]
    fn cuGetProcAddress_v2(
        #[input(text)] symbol: *const c_char,
        #[out] pfn: *mut *mut c_void,
        driver_version: c_int,
        flags: u64,
        #[out(nullable)] symbol_found: *mut CUdriverProcAddressQueryResult,
    ) -> CUresult;

    #[row(106, local, blocks = device, since = 2000, test = "surface_context")]
    fn cuInit(flags: c_uint) -> CUresult;
}
