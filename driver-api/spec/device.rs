//! Devices and their attributes: answered from the snapshot of the hello.

unsafe extern "C" {
    #[row(107, local, since = 4000)]
    fn cuDeviceCanAccessPeer(
        can_access_peer: *mut c_int,
        dev: CUdevice,
        peer_dev: CUdevice,
    ) -> CUresult;

    #[row(108, local, since = 2000)]
    fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, dev: CUdevice) -> CUresult;

    #[row(109, local, since = 2000)]
    fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult;

    #[row(110, local, since = 2000)]
    fn cuDeviceGetAttribute(pi: *mut c_int, attrib: CUdevice_attribute, dev: CUdevice) -> CUresult;

    #[row(111, local, since = 4010)]
    fn cuDeviceGetByPCIBusId(dev: *mut CUdevice, pci_bus_id: *const c_char) -> CUresult;

    #[row(112, refused = "not served yet", since = 13040)]
    fn cuDeviceGetCliqueCount(count: *mut usize, dev: CUdevice) -> CUresult;

    #[row(113, refused = "not served yet", since = 13040)]
    fn cuDeviceGetCliqueInfo(
        clique_info: *mut CUcliqueInfo,
        count: *mut usize,
        dev: CUdevice,
    ) -> CUresult;

    #[row(114, local, since = 2000)]
    fn cuDeviceGetCount(count: *mut c_int) -> CUresult;

    #[row(115, local, since = 11040)]
    fn cuDeviceGetExecAffinitySupport(
        pi: *mut c_int,
        kind: CUexecAffinityType,
        dev: CUdevice,
    ) -> CUresult;

    #[row(116, refused = "not served yet", since = 13040)]
    fn cuDeviceGetFabricClusterUuid(uuid: *mut CUuuid, dev: CUdevice) -> CUresult;

    #[row(117, refused = "not served yet", since = 13000)]
    fn cuDeviceGetHostAtomicCapabilities(
        capabilities: *mut c_uint,
        operations: *const CUatomicOperation,
        count: c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(118, refused = "not served yet", since = 10000)]
    fn cuDeviceGetLuid(luid: *mut c_char, device_node_mask: *mut c_uint, dev: CUdevice)
    -> CUresult;

    #[row(119, local, since = 2000)]
    fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: CUdevice) -> CUresult;

    #[row(120, refused = "not served yet", since = 10020)]
    fn cuDeviceGetNvSciSyncAttributes(
        nv_sci_sync_attr_list: *mut c_void,
        dev: CUdevice,
        flags: c_int,
    ) -> CUresult;

    #[row(121, refused = "not served yet", since = 13000)]
    fn cuDeviceGetP2PAtomicCapabilities(
        capabilities: *mut c_uint,
        operations: *const CUatomicOperation,
        count: c_uint,
        src_device: CUdevice,
        dst_device: CUdevice,
    ) -> CUresult;

    #[row(122, local, since = 8000)]
    fn cuDeviceGetP2PAttribute(
        value: *mut c_int,
        attrib: CUdevice_P2PAttribute,
        src_device: CUdevice,
        dst_device: CUdevice,
    ) -> CUresult;

    #[row(123, local, since = 4010)]
    fn cuDeviceGetPCIBusId(pci_bus_id: *mut c_char, len: c_int, dev: CUdevice) -> CUresult;

    #[row(124, local, since = 2000)]
    fn cuDeviceGetProperties(prop: *mut CUdevprop, dev: CUdevice) -> CUresult;

    #[row(125, refused = "not served yet", since = 11010)]
    fn cuDeviceGetTexture1DLinearMaxWidth(
        max_width_in_elements: *mut usize,
        format: CUarray_format,
        argument2: c_uint,
        dev: CUdevice,
    ) -> CUresult;

    #[row(126, local, since = 9020)]
    fn cuDeviceGetUuid(uuid: *mut CUuuid, dev: CUdevice) -> CUresult;

    #[row(127, local, since = 11040)]
    fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) -> CUresult;

    #[row(128, refused = "not served yet", since = 12040)]
    fn cuDeviceRegisterAsyncNotification(
        device: CUdevice,
        callback_func: CUasyncCallback,
        user_data: *mut c_void,
        callback: *mut CUasyncCallbackHandle,
    ) -> CUresult;

    #[row(129, refused = "not served yet", since = 2000)]
    fn cuDeviceTotalMem(bytes: *mut c_uint, dev: CUdevice) -> CUresult;

    #[row(130, local, since = 3020)]
    fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) -> CUresult;

    #[row(131, refused = "not served yet", since = 12040)]
    fn cuDeviceUnregisterAsyncNotification(
        device: CUdevice,
        callback: CUasyncCallbackHandle,
    ) -> CUresult;
}
