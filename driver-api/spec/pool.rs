//! Stream-ordered allocation and memory pools.

unsafe extern "C" {
    #[row(
        393,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuDeviceGetDefaultMemPool(#[out] pool_out: *mut CUmemoryPool, dev: CUdevice) -> CUresult;

    #[row(
        394,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuDeviceGetMemPool(#[out] pool: *mut CUmemoryPool, dev: CUdevice) -> CUresult;

    #[row(
        395,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) -> CUresult;

    #[row(
        396,
        asked,
        via = gpurunMemoryMap,
        blocks = device,
        since = 11020,
        ptsz = 11020,
        test = "surface_memory"
    )]
    fn cuMemAllocAsync(
        #[creates] dptr: *mut CUdeviceptr,
        bytesize: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        397,
        asked,
        via = gpurunMemoryMap,
        blocks = device,
        since = 11020,
        ptsz = 11020,
        test = "surface_memory"
    )]
    fn cuMemAllocFromPoolAsync(
        #[creates] dptr: *mut CUdeviceptr,
        bytesize: usize,
        pool: CUmemoryPool,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        398,
        posted,
        via = gpurunMark,
        blocks = device,
        since = 11020,
        ptsz = 11020,
        test = "surface_memory"
    )]
    fn cuMemFreeAsync(#[destroys] dptr: CUdeviceptr, stream: CUstream) -> CUresult;

    #[row(
        399,
        local,
        blocks = never,
        since = 13000,
        test = "surface_memory"
    )]
    fn cuMemGetDefaultMemPool(
        #[out] pool_out: *mut CUmemoryPool,
        #[input] location: *mut CUmemLocation,
        kind: CUmemAllocationType,
    ) -> CUresult;

    #[row(
        400,
        local,
        blocks = never,
        since = 13000,
        test = "surface_memory"
    )]
    fn cuMemGetMemPool(
        #[out] pool_out: *mut CUmemoryPool,
        #[input] location: *mut CUmemLocation,
        kind: CUmemAllocationType,
    ) -> CUresult;

    #[row(
        401,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolCreate(
        #[creates] pool: *mut CUmemoryPool,
        #[input] pool_props: *const CUmemPoolProps,
    ) -> CUresult;

    #[row(
        402,
        posted,
        via = gpurunMemoryUnmap,
        blocks = unbounded,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolDestroy(#[destroys] pool: CUmemoryPool) -> CUresult;

    #[row(403, refused = "MEMPOOL_SUPPORTED_HANDLE_TYPES is 0: pools of several processes are not offered", blocks = device, since = 11020)]
    fn cuMemPoolExportPointer(
        #[out] share_data_out: *mut CUmemPoolPtrExportData,
        ptr: CUdeviceptr,
    ) -> CUresult;

    #[row(404, refused = "MEMPOOL_SUPPORTED_HANDLE_TYPES is 0: pools of several processes are not offered", blocks = device, since = 11020)]
    fn cuMemPoolExportToShareableHandle(
        #[out(chosen_by = handle_type)] handle_out: *mut c_void,
        pool: CUmemoryPool,
        handle_type: CUmemAllocationHandleType,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        405,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolGetAccess(
        #[out] flags: *mut CUmemAccess_flags,
        mem_pool: CUmemoryPool,
        #[input] location: *mut CUmemLocation,
    ) -> CUresult;

    #[row(
        406,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolGetAttribute(
        pool: CUmemoryPool,
        attr: CUmemPool_attribute,
        #[out(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(407, refused = "MEMPOOL_SUPPORTED_HANDLE_TYPES is 0: pools of several processes are not offered", blocks = device, since = 11020)]
    fn cuMemPoolImportFromShareableHandle(
        #[creates] pool_out: *mut CUmemoryPool,
        #[input(chosen_by = handle_type)] handle: *mut c_void,
        handle_type: CUmemAllocationHandleType,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(408, refused = "MEMPOOL_SUPPORTED_HANDLE_TYPES is 0: pools of several processes are not offered", blocks = device, since = 11020)]
    fn cuMemPoolImportPointer(
        #[creates] ptr_out: *mut CUdeviceptr,
        pool: CUmemoryPool,
        #[input] share_data: *mut CUmemPoolPtrExportData,
    ) -> CUresult;

    #[row(
        409,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolSetAccess(
        pool: CUmemoryPool,
        #[input(count = count)] map: *const CUmemAccessDesc,
        count: usize,
    ) -> CUresult;

    #[row(
        410,
        local,
        blocks = never,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolSetAttribute(
        pool: CUmemoryPool,
        attr: CUmemPool_attribute,
        #[input(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(
        411,
        posted,
        via = gpurunMemoryUnmap,
        blocks = device,
        since = 11020,
        test = "surface_memory"
    )]
    fn cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize) -> CUresult;

    #[row(
        412,
        local,
        blocks = never,
        since = 13000,
        test = "surface_memory"
    )]
    fn cuMemSetMemPool(
        #[input] location: *mut CUmemLocation,
        kind: CUmemAllocationType,
        pool: CUmemoryPool,
    ) -> CUresult;
}
