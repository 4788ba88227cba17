//! Virtual memory management and multicast.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// How large the parts of a multicast object are that can be bound.
    #[row(8, private, asked, custom = worker, blocks = device)]
    fn gpurunMulticastGranularity(
        devices: u32,
        size: u64,
        handle_types: u64,
        option: u32,
        #[out] granularity: *mut u64,
    ) -> CUresult;

    /// A multicast object of another session, named by the client as physical memory is.
    #[row(9, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunMulticastImport(
        multicast: u32,
        size: u64,
        lender: u64,
        key_low: u64,
        key_high: u64,
    ) -> CUresult;

    /// A device more in the team of a multicast object.
    #[row(14, private, asked, custom = worker, blocks = device)]
    fn gpurunMulticastAddDevice(multicast: u32, device: CUdevice) -> CUresult;

    /// A multicast object, named by the client as physical memory is; it ends as that does.
    #[row(18, private, asked, custom = worker, blocks = device)]
    fn gpurunMulticastCreate(
        multicast: u32,
        devices: u32,
        size: u64,
        handle_types: u64,
    ) -> CUresult;

    /// Binds a part of a device's memory for it, once the team is complete: of the physical memory with a number, or (`by` = 1) what is mapped at an address.
    #[row(19, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunMulticastBind(
        multicast: u32,
        device: CUdevice,
        offset: u64,
        size: u64,
        by: u32,
        physical: u32,
        start: u64,
    ) -> CUresult;

    /// Ends what was bound so.
    #[row(29, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunMulticastUnbind(
        multicast: u32,
        device: CUdevice,
        offset: u64,
        size: u64,
    ) -> CUresult;

    /// Makes physical memory one that other sessions of the lease may import: by this session's number and a key.
    #[row(33, private, asked, custom = worker, blocks = device)]
    fn gpurunPhysicalExport(
        physical: u32,
        #[out] lender: *mut u64,
        #[out] key_low: *mut u64,
        #[out] key_high: *mut u64,
    ) -> CUresult;

    /// Physical memory that another session has exported, named by the client; it is of this device.
    #[row(34, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunPhysicalImport(
        physical: u32,
        device: CUdevice,
        size: u64,
        lender: u64,
        key_low: u64,
        key_high: u64,
    ) -> CUresult;

    /// Maps a multicast object, all of it, at an address of a window, once the team is complete. Nothing can use it there yet.
    #[row(39, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunMulticastMap(address: u64, size: u64, multicast: u32) -> CUresult;

    /// Physical memory of a device, named by the client.
    #[row(60, private, asked, custom = worker, blocks = device)]
    fn gpurunPhysicalCreate(physical: u32, device: CUdevice, size: u64) -> CUresult;

    /// The end of physical memory to which nothing is mapped.
    #[row(61, private, posted, custom = worker, blocks = device)]
    fn gpurunPhysicalRelease(physical: u32) -> CUresult;

    /// Maps physical memory, all of it, at an address of a window. Nothing can use it there yet.
    #[row(62, private, asked, custom = worker, blocks = device)]
    fn gpurunPhysicalMap(address: u64, size: u64, physical: u32) -> CUresult;

    /// Gives a device access to a mapping, or takes it.
    #[row(63, private, asked, custom = worker, blocks = device)]
    fn gpurunVirtualAccess(address: u64, size: u64, device: CUdevice, flags: u32) -> CUresult;

    /// Ends a mapping.
    #[row(64, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunVirtualUnmap(address: u64, size: u64) -> CUresult;

    #[row(
        413,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointAddDevice(le_id: CUlogicalEndpointId, dev: CUdevice) -> CUresult;

    #[row(
        414,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointBindAddr(
        le_id: CUlogicalEndpointId,
        dev: CUdevice,
        offset: u64,
        #[address] ptr: *mut c_void,
        size: u64,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        415,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointBindMem(
        le_id: CUlogicalEndpointId,
        dev: CUdevice,
        offset: u64,
        mem_handle: CUmemGenericAllocationHandle,
        mem_offset: u64,
        size: u64,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        416,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointCreate(
        le_id: CUlogicalEndpointId,
        #[input] prop: *const CUlogicalEndpointProp,
    ) -> CUresult;

    #[row(
        417,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointDestroy(#[destroys] le_id: CUlogicalEndpointId) -> CUresult;

    #[row(
        418,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointExport(
        #[out(chosen_by = handle_type)] handle: *mut c_void,
        le_id: CUlogicalEndpointId,
        handle_type: CUlogicalEndpointIpcHandleType,
    ) -> CUresult;

    #[row(
        419,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = never,
        since = 13030
    )]
    fn cuLogicalEndpointGetLimits(
        #[out] bind_alignment: *mut u64,
        #[out] max_size: *mut u64,
        #[input] prop: *const CUlogicalEndpointProp,
    ) -> CUresult;

    #[row(
        420,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = never,
        since = 13030
    )]
    fn cuLogicalEndpointIdRelease(le_id: CUlogicalEndpointId, count: u32) -> CUresult;

    #[row(
        421,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = never,
        since = 13030
    )]
    fn cuLogicalEndpointIdReserve(
        #[creates] le_id: *mut CUlogicalEndpointId,
        count: u32,
    ) -> CUresult;

    #[row(
        422,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = device,
        since = 13030
    )]
    fn cuLogicalEndpointImport(
        le_id: CUlogicalEndpointId,
        #[input(chosen_by = handle_type)] handle: *const c_void,
        handle_type: CUlogicalEndpointIpcHandleType,
    ) -> CUresult;

    #[row(
        423,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = never,
        since = 13030
    )]
    fn cuLogicalEndpointQuery(
        le_id: CUlogicalEndpointId,
        count: u32,
        #[out(count = count)] query_status: *mut c_int,
    ) -> CUresult;

    #[row(
        424,
        refused = "LOGICAL_ENDPOINT_UNICAST_SUPPORTED and LOGICAL_ENDPOINT_MULTICAST_SUPPORTED are 0",
        blocks = unbounded,
        since = 13030
    )]
    fn cuLogicalEndpointUnbind(
        le_id: CUlogicalEndpointId,
        dev: CUdevice,
        offset: u64,
        size: u64,
    ) -> CUresult;

    #[row(
        425,
        local,
        blocks = never,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemAddressFree(#[destroys] ptr: CUdeviceptr, size: usize) -> CUresult;

    #[row(
        426,
        local,
        blocks = never,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemAddressReserve(
        #[creates] ptr: *mut CUdeviceptr,
        size: usize,
        alignment: usize,
        addr: CUdeviceptr,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        427,
        asked,
        via = gpurunPhysicalCreate,
        blocks = device,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemCreate(
        #[creates] handle: *mut CUmemGenericAllocationHandle,
        size: usize,
        #[input] prop: *const CUmemAllocationProp,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        428,
        asked,
        via = gpurunPhysicalExport,
        blocks = device,
        since = 10020,
        test = "surface_sharing"
    )]
    fn cuMemExportToShareableHandle(
        #[out(chosen_by = handle_type)] shareable_handle: *mut c_void,
        handle: CUmemGenericAllocationHandle,
        handle_type: CUmemAllocationHandleType,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        429,
        local,
        blocks = never,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemGetAccess(
        #[out] flags: *mut c_ulonglong,
        #[input] location: *const CUmemLocation,
        ptr: CUdeviceptr,
    ) -> CUresult;

    #[row(
        430,
        local,
        blocks = never,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemGetAllocationGranularity(
        #[out] granularity: *mut usize,
        #[input] prop: *const CUmemAllocationProp,
        option: CUmemAllocationGranularity_flags,
    ) -> CUresult;

    #[row(
        431,
        local,
        blocks = never,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemGetAllocationPropertiesFromHandle(
        #[out] prop: *mut CUmemAllocationProp,
        handle: CUmemGenericAllocationHandle,
    ) -> CUresult;

    #[row(
        432,
        refused = "DMA_BUF_SUPPORTED is 0: the GPU's memory is on no bus of the program's machine",
        blocks = never,
        since = 11070
    )]
    fn cuMemGetHandleForAddressRange(
        #[out(chosen_by = handle_type)] handle: *mut c_void,
        dptr: CUdeviceptr,
        size: usize,
        handle_type: CUmemRangeHandleType,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        433,
        asked,
        via = gpurunPhysicalImport,
        blocks = device,
        since = 10020,
        test = "surface_sharing"
    )]
    fn cuMemImportFromShareableHandle(
        #[creates] handle: *mut CUmemGenericAllocationHandle,
        #[input(chosen_by = sh_handle_type)] os_handle: *mut c_void,
        sh_handle_type: CUmemAllocationHandleType,
    ) -> CUresult;

    #[row(
        434,
        asked,
        via = gpurunPhysicalMap,
        blocks = device,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemMap(
        ptr: CUdeviceptr,
        size: usize,
        offset: usize,
        handle: CUmemGenericAllocationHandle,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        435,
        refused = "SPARSE_CUDA_ARRAY_SUPPORTED and DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED are 0: arrays are mapped when they are made",
        blocks = device,
        since = 11010,
        ptsz = 11010
    )]
    fn cuMemMapArrayAsync(
        #[input(count = count)] map_info_list: *mut CUarrayMapInfo,
        count: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        436,
        posted,
        via = gpurunPhysicalRelease,
        blocks = device,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemRelease(#[destroys] handle: CUmemGenericAllocationHandle) -> CUresult;

    #[row(
        437,
        local,
        blocks = never,
        since = 11000,
        test = "surface_memory"
    )]
    fn cuMemRetainAllocationHandle(
        #[out] handle: *mut CUmemGenericAllocationHandle,
        #[address] addr: *mut c_void,
    ) -> CUresult;

    #[row(
        438,
        asked,
        via = gpurunVirtualAccess,
        blocks = device,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemSetAccess(
        ptr: CUdeviceptr,
        size: usize,
        #[input(count = count)] desc: *const CUmemAccessDesc,
        count: usize,
    ) -> CUresult;

    #[row(
        439,
        asked,
        via = gpurunVirtualUnmap,
        blocks = unbounded,
        since = 10020,
        test = "surface_memory"
    )]
    fn cuMemUnmap(ptr: CUdeviceptr, size: usize) -> CUresult;

    #[row(
        440,
        asked,
        via = gpurunMulticastAddDevice,
        blocks = device,
        since = 12010,
        test = "surface_multicast"
    )]
    fn cuMulticastAddDevice(mc_handle: CUmemGenericAllocationHandle, dev: CUdevice) -> CUresult;

    #[row(
        441,
        asked,
        via = gpurunMulticastBind,
        blocks = unbounded,
        since = 12010,
        test = "surface_multicast"
    )]
    fn cuMulticastBindAddr(
        mc_handle: CUmemGenericAllocationHandle,
        mc_offset: usize,
        memptr: CUdeviceptr,
        size: usize,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        442,
        asked,
        via = gpurunMulticastBind,
        blocks = unbounded,
        since = 13010,
        test = "surface_multicast"
    )]
    fn cuMulticastBindAddr_v2(
        mc_handle: CUmemGenericAllocationHandle,
        dev: CUdevice,
        mc_offset: usize,
        memptr: CUdeviceptr,
        size: usize,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        443,
        asked,
        via = gpurunMulticastBind,
        blocks = unbounded,
        since = 12010,
        test = "surface_multicast"
    )]
    fn cuMulticastBindMem(
        mc_handle: CUmemGenericAllocationHandle,
        mc_offset: usize,
        mem_handle: CUmemGenericAllocationHandle,
        mem_offset: usize,
        size: usize,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        444,
        asked,
        via = gpurunMulticastBind,
        blocks = unbounded,
        since = 13010,
        test = "surface_multicast"
    )]
    fn cuMulticastBindMem_v2(
        mc_handle: CUmemGenericAllocationHandle,
        dev: CUdevice,
        mc_offset: usize,
        mem_handle: CUmemGenericAllocationHandle,
        mem_offset: usize,
        size: usize,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(
        445,
        asked,
        via = gpurunMulticastCreate,
        blocks = device,
        since = 12010,
        test = "surface_multicast"
    )]
    fn cuMulticastCreate(
        #[creates] mc_handle: *mut CUmemGenericAllocationHandle,
        #[input] prop: *const CUmulticastObjectProp,
    ) -> CUresult;

    #[row(
        446,
        asked,
        via = gpurunMulticastGranularity,
        blocks = device,
        since = 12010,
        test = "surface_multicast"
    )]
    fn cuMulticastGetGranularity(
        #[out] granularity: *mut usize,
        #[input] prop: *const CUmulticastObjectProp,
        option: CUmulticastGranularity_flags,
    ) -> CUresult;

    #[row(
        447,
        asked,
        via = gpurunMulticastUnbind,
        blocks = unbounded,
        since = 12010,
        test = "surface_multicast"
    )]
    fn cuMulticastUnbind(
        mc_handle: CUmemGenericAllocationHandle,
        dev: CUdevice,
        mc_offset: usize,
        size: usize,
    ) -> CUresult;
}
