//! Initialisation, versions, error texts, and the ways a client finds functions.

unsafe extern "C" {
    #[row(100, local, since = 2020)]
    fn cuDriverGetVersion(driver_version: *mut c_int) -> CUresult;

    #[row(101, local, since = 6000)]
    fn cuGetErrorName(error: CUresult, str: *mut *const c_char) -> CUresult;

    #[row(102, local, since = 6000)]
    fn cuGetErrorString(error: CUresult, str: *mut *const c_char) -> CUresult;

    #[row(103, local, since = 3000)]
    fn cuGetExportTable(
        export_table: *mut *const c_void,
        export_table_id: *const CUuuid,
    ) -> CUresult;

    #[row(104, local, since = 11030)]
    fn cuGetProcAddress(
        symbol: *const c_char,
        pfn: *mut *mut c_void,
        driver_version: c_int,
        flags: u64,
    ) -> CUresult;

    #[row(105, local, since = 12000)]
    fn cuGetProcAddress_v2(
        symbol: *const c_char,
        pfn: *mut *mut c_void,
        driver_version: c_int,
        flags: u64,
        symbol_found: *mut CUdriverProcAddressQueryResult,
    ) -> CUresult;

    #[row(106, local, since = 2000)]
    fn cuInit(flags: c_uint) -> CUresult;
}
