//! Managed memory, prefetch and advice.

unsafe extern "C" {
    #[row(448, local, blocks = device, since = 8000, test = "surface_managed")]
    fn cuMemAdvise(
        dev_ptr: CUdeviceptr,
        count: usize,
        advice: CUmem_advise,
        device: CUdevice,
    ) -> CUresult;

    #[row(449, local, blocks = device, since = 12020, test = "surface_managed")]
    fn cuMemAdvise_v2(
        dev_ptr: CUdeviceptr,
        count: usize,
        advice: CUmem_advise,
        location: CUmemLocation,
    ) -> CUresult;

    #[row(450, asked, via = gpurunManage, blocks = device, since = 6000, test = "surface_managed")]
    fn cuMemAllocManaged(
        #[creates] dptr: *mut CUdeviceptr,
        bytesize: usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        451,
        refused = "CONCURRENT_MANAGED_ACCESS is 0: managed memory is not prefetched nor discarded",
        blocks = device,
        since = 13000,
        ptsz = 13000
    )]
    fn cuMemDiscardAndPrefetchBatchAsync(
        #[input(count = count)] dptrs: *mut CUdeviceptr,
        #[input(count = count)] sizes: *mut usize,
        count: usize,
        #[input(count = num_prefetch_locs)] prefetch_locs: *mut CUmemLocation,
        #[input(count = num_prefetch_locs)] prefetch_loc_idxs: *mut usize,
        num_prefetch_locs: usize,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        452,
        refused = "CONCURRENT_MANAGED_ACCESS is 0: managed memory is not prefetched nor discarded",
        blocks = device,
        since = 13000,
        ptsz = 13000
    )]
    fn cuMemDiscardBatchAsync(
        #[input(count = count)] dptrs: *mut CUdeviceptr,
        #[input(count = count)] sizes: *mut usize,
        count: usize,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;

    #[row(453, local, blocks = device, since = 8000, ptsz = 8000, test = "surface_managed")]
    fn cuMemPrefetchAsync(
        dev_ptr: CUdeviceptr,
        count: usize,
        dst_device: CUdevice,
        stream: CUstream,
    ) -> CUresult;

    #[row(454, local, blocks = device, since = 12020, ptsz = 12020, test = "surface_managed")]
    fn cuMemPrefetchAsync_v2(
        dev_ptr: CUdeviceptr,
        count: usize,
        location: CUmemLocation,
        flags: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        455,
        refused = "CONCURRENT_MANAGED_ACCESS is 0: managed memory is not prefetched nor discarded",
        blocks = device,
        since = 13000,
        ptsz = 13000
    )]
    fn cuMemPrefetchBatchAsync(
        #[input(count = count)] dptrs: *mut CUdeviceptr,
        #[input(count = count)] sizes: *mut usize,
        count: usize,
        #[input(count = num_prefetch_locs)] prefetch_locs: *mut CUmemLocation,
        #[input(count = num_prefetch_locs)] prefetch_loc_idxs: *mut usize,
        num_prefetch_locs: usize,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;

    #[row(456, local, blocks = never, since = 8000, test = "surface_managed")]
    fn cuMemRangeGetAttribute(
        #[out(bytes = data_size)] data: *mut c_void,
        data_size: usize,
        attribute: CUmem_range_attribute,
        dev_ptr: CUdeviceptr,
        count: usize,
    ) -> CUresult;

    #[row(457, local, blocks = never, since = 8000, test = "surface_managed")]
    fn cuMemRangeGetAttributes(
        #[out(count = num_attributes)] data: *mut *mut c_void,
        #[input(count = num_attributes)] data_sizes: *mut usize,
        #[input(count = num_attributes)] attributes: *mut CUmem_range_attribute,
        num_attributes: usize,
        dev_ptr: CUdeviceptr,
        count: usize,
    ) -> CUresult;
}
