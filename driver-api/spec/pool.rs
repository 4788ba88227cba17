//! Stream-ordered allocation and memory pools.

unsafe extern "C" {
    #[row(393, refused = "not served yet: stream-ordered memory", blocks = never, since = 11020)]
    fn cuDeviceGetDefaultMemPool(#[out] pool_out: *mut CUmemoryPool, dev: CUdevice) -> CUresult;

    #[row(394, refused = "not served yet: stream-ordered memory", blocks = never, since = 11020)]
    fn cuDeviceGetMemPool(#[out] pool: *mut CUmemoryPool, dev: CUdevice) -> CUresult;

    #[row(395, refused = "not served yet: stream-ordered memory", blocks = never, since = 11020)]
    fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) -> CUresult;

    #[row(
        396,
        refused = "not served yet: stream-ordered memory",
        blocks = device,
        since = 11020,
        ptsz = 11020
    )]
    fn cuMemAllocAsync(
        #[creates] dptr: *mut CUdeviceptr,
        bytesize: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        397,
        refused = "not served yet: stream-ordered memory",
        blocks = device,
        since = 11020,
        ptsz = 11020
    )]
    fn cuMemAllocFromPoolAsync(
        #[creates] dptr: *mut CUdeviceptr,
        bytesize: usize,
        pool: CUmemoryPool,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        398,
        refused = "not served yet: stream-ordered memory",
        blocks = device,
        since = 11020,
        ptsz = 11020
    )]
    fn cuMemFreeAsync(#[destroys] dptr: CUdeviceptr, stream: CUstream) -> CUresult;

    #[row(399, refused = "not served yet: stream-ordered memory", blocks = never, since = 13000)]
    fn cuMemGetDefaultMemPool(
        #[out] pool_out: *mut CUmemoryPool,
        #[input] location: *mut CUmemLocation,
        kind: CUmemAllocationType,
    ) -> CUresult;

    #[row(400, refused = "not served yet: stream-ordered memory", blocks = never, since = 13000)]
    fn cuMemGetMemPool(
        #[out] pool_out: *mut CUmemoryPool,
        #[input] location: *mut CUmemLocation,
        kind: CUmemAllocationType,
    ) -> CUresult;

    #[row(401, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolCreate(
        #[creates] pool: *mut CUmemoryPool,
        #[input] pool_props: *const CUmemPoolProps,
    ) -> CUresult;

    #[row(
        402,
        refused = "not served yet: stream-ordered memory",
        blocks = unbounded,
        since = 11020
    )]
    fn cuMemPoolDestroy(#[destroys] pool: CUmemoryPool) -> CUresult;

    #[row(403, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolExportPointer(
        #[out] share_data_out: *mut CUmemPoolPtrExportData,
        ptr: CUdeviceptr,
    ) -> CUresult;

    #[row(404, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolExportToShareableHandle(
        #[out(chosen_by = handle_type)] handle_out: *mut c_void,
        pool: CUmemoryPool,
        handle_type: CUmemAllocationHandleType,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(405, refused = "not served yet: stream-ordered memory", blocks = never, since = 11020)]
    fn cuMemPoolGetAccess(
        #[out] flags: *mut CUmemAccess_flags,
        mem_pool: CUmemoryPool,
        #[input] location: *mut CUmemLocation,
    ) -> CUresult;

    #[row(406, refused = "not served yet: stream-ordered memory", blocks = never, since = 11020)]
    fn cuMemPoolGetAttribute(
        pool: CUmemoryPool,
        attr: CUmemPool_attribute,
        #[out(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(407, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolImportFromShareableHandle(
        #[creates] pool_out: *mut CUmemoryPool,
        #[input(chosen_by = handle_type)] handle: *mut c_void,
        handle_type: CUmemAllocationHandleType,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(408, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolImportPointer(
        #[creates] ptr_out: *mut CUdeviceptr,
        pool: CUmemoryPool,
        #[input] share_data: *mut CUmemPoolPtrExportData,
    ) -> CUresult;

    #[row(409, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolSetAccess(
        pool: CUmemoryPool,
        #[input(count = count)] map: *const CUmemAccessDesc,
        count: usize,
    ) -> CUresult;

    #[row(410, refused = "not served yet: stream-ordered memory", blocks = never, since = 11020)]
    fn cuMemPoolSetAttribute(
        pool: CUmemoryPool,
        attr: CUmemPool_attribute,
        #[input(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(411, refused = "not served yet: stream-ordered memory", blocks = device, since = 11020)]
    fn cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize) -> CUresult;

    #[row(412, refused = "not served yet: stream-ordered memory", blocks = never, since = 13000)]
    fn cuMemSetMemPool(
        #[input] location: *mut CUmemLocation,
        kind: CUmemAllocationType,
        pool: CUmemoryPool,
    ) -> CUresult;
}
