//! Devices and their attributes: answered from the snapshot of the hello.

unsafe extern "C" {
    #[row(
        107,
        asked,
        via = gpurunPeerAttribute,
        blocks = never,
        since = 4000,
        test = "surface_context"
    )]
    fn cuDeviceCanAccessPeer(
        #[out] can_access_peer: *mut c_int,
        dev: CUdevice,
        peer_dev: CUdevice,
    ) -> CUresult;

    #[row(108, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuDeviceComputeCapability(
        #[out] major: *mut c_int,
        #[out] minor: *mut c_int,
        dev: CUdevice,
    ) -> CUresult;

    #[row(109, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuDeviceGet(#[out] device: *mut CUdevice, ordinal: c_int) -> CUresult;

    #[row(110, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuDeviceGetAttribute(
        #[out] pi: *mut c_int,
        attrib: CUdevice_attribute,
        dev: CUdevice,
    ) -> CUresult;

    #[row(111, local, blocks = never, since = 4010, test = "surface_context")]
    fn cuDeviceGetByPCIBusId(
        #[out] dev: *mut CUdevice,
        #[input(text)] pci_bus_id: *const c_char,
    ) -> CUresult;

    #[row(
        112,
        refused = "HANDLE_TYPE_FABRIC_SUPPORTED is 0: the program's machine is in no fabric of the device",
        blocks = never,
        since = 13040
    )]
    fn cuDeviceGetCliqueCount(#[out] count: *mut usize, dev: CUdevice) -> CUresult;

    #[row(
        113,
        refused = "HANDLE_TYPE_FABRIC_SUPPORTED is 0: the program's machine is in no fabric of the device",
        blocks = never,
        since = 13040
    )]
    fn cuDeviceGetCliqueInfo(
        #[out(count = count)] clique_info: *mut CUcliqueInfo,
        #[inout] count: *mut usize,
        dev: CUdevice,
    ) -> CUresult;

    #[row(114, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuDeviceGetCount(#[out] count: *mut c_int) -> CUresult;

    #[row(115, local, blocks = never, since = 11040, test = "surface_context")]
    fn cuDeviceGetExecAffinitySupport(
        #[out] pi: *mut c_int,
        kind: CUexecAffinityType,
        dev: CUdevice,
    ) -> CUresult;

    #[row(
        116,
        refused = "HANDLE_TYPE_FABRIC_SUPPORTED is 0: the program's machine is in no fabric of the device",
        blocks = never,
        since = 13040
    )]
    fn cuDeviceGetFabricClusterUuid(#[out] uuid: *mut CUuuid, dev: CUdevice) -> CUresult;

    #[row(117, local, blocks = never, since = 13000, test = "surface_context")]
    fn cuDeviceGetHostAtomicCapabilities(
        #[out(count = count)] capabilities: *mut c_uint,
        #[input(count = count)] operations: *const CUatomicOperation,
        count: c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(
        118,
        refused = "a handle of the operating system that has the GPU",
        blocks = never,
        since = 10000
    )]
    fn cuDeviceGetLuid(
        #[out(count = 8)] luid: *mut c_char,
        #[out] device_node_mask: *mut c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(119, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuDeviceGetName(
        #[out(bytes = len)] name: *mut c_char,
        len: c_int,
        dev: CUdevice,
    ) -> CUresult;

    #[row(
        120,
        refused = "a handle of the operating system that has the GPU",
        blocks = never,
        since = 10020
    )]
    fn cuDeviceGetNvSciSyncAttributes(
        #[address] nv_sci_sync_attr_list: *mut c_void,
        dev: CUdevice,
        flags: c_int,
    ) -> CUresult;

    #[row(
        121,
        asked,
        via = gpurunPeerAtomic,
        blocks = never,
        since = 13000,
        test = "surface_peer"
    )]
    fn cuDeviceGetP2PAtomicCapabilities(
        #[out(count = count)] capabilities: *mut c_uint,
        #[input(count = count)] operations: *const CUatomicOperation,
        count: c_uint,
        src_device: CUdevice,
        dst_device: CUdevice,
    ) -> CUresult;

    #[row(
        122,
        asked,
        via = gpurunPeerAttribute,
        blocks = never,
        since = 8000,
        test = "surface_context"
    )]
    fn cuDeviceGetP2PAttribute(
        #[out] value: *mut c_int,
        attrib: CUdevice_P2PAttribute,
        src_device: CUdevice,
        dst_device: CUdevice,
    ) -> CUresult;

    #[row(123, local, blocks = never, since = 4010, test = "surface_context")]
    fn cuDeviceGetPCIBusId(
        #[out(bytes = len)] pci_bus_id: *mut c_char,
        len: c_int,
        dev: CUdevice,
    ) -> CUresult;

    #[row(124, local, blocks = never, since = 2000, test = "surface_context")]
    fn cuDeviceGetProperties(#[out] prop: *mut CUdevprop, dev: CUdevice) -> CUresult;

    #[row(125, asked, custom = client, blocks = never, since = 11010, test = "surface_texture")]
    fn cuDeviceGetTexture1DLinearMaxWidth(
        #[out] max_width_in_elements: *mut usize,
        format: CUarray_format,
        argument2: c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(126, local, blocks = never, since = 9020, test = "surface_context")]
    fn cuDeviceGetUuid(#[out] uuid: *mut CUuuid, dev: CUdevice) -> CUresult;

    #[row(127, local, blocks = never, since = 11040, test = "surface_context")]
    fn cuDeviceGetUuid_v2(#[out] uuid: *mut CUuuid, dev: CUdevice) -> CUresult;

    #[row(
        128,
        refused = "the one notification is of a budget that the process has exceeded: a lease has none, its memory is full instead",
        blocks = never,
        since = 12040
    )]
    fn cuDeviceRegisterAsyncNotification(
        device: CUdevice,
        callback_func: CUasyncCallback,
        #[address] user_data: *mut c_void,
        #[creates] callback: *mut CUasyncCallbackHandle,
    ) -> CUresult;

    #[row(
        129,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuDeviceTotalMem(#[out] bytes: *mut c_uint, dev: CUdevice) -> CUresult;

    #[row(130, local, blocks = never, since = 3020, test = "surface_context")]
    fn cuDeviceTotalMem_v2(#[out] bytes: *mut usize, dev: CUdevice) -> CUresult;

    #[row(
        131,
        refused = "the one notification is of a budget that the process has exceeded: a lease has none, its memory is full instead",
        blocks = unbounded,
        since = 12040
    )]
    fn cuDeviceUnregisterAsyncNotification(
        device: CUdevice,
        #[destroys] callback: CUasyncCallbackHandle,
    ) -> CUresult;
}
