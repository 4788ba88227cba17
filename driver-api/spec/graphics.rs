//! OpenGL, EGL and VDPAU interoperation.

unsafe extern "C" {
    #[row(
        650,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamConsumerAcquireFrame(
        conn: *mut CUeglStreamConnection,
        cuda_resource: *mut CUgraphicsResource,
        stream: *mut CUstream,
        timeout: c_uint,
    ) -> CUresult;

    #[row(
        651,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamConsumerConnect(
        conn: *mut CUeglStreamConnection,
        stream: *mut c_void,
    ) -> CUresult;

    #[row(
        652,
        refused = "graphics interoperation needs a display device on this machine",
        since = 8000
    )]
    fn cuEGLStreamConsumerConnectWithFlags(
        conn: *mut CUeglStreamConnection,
        stream: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        653,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamConsumerDisconnect(conn: *mut CUeglStreamConnection) -> CUresult;

    #[row(
        654,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamConsumerReleaseFrame(
        conn: *mut CUeglStreamConnection,
        cuda_resource: CUgraphicsResource,
        stream: *mut CUstream,
    ) -> CUresult;

    #[row(
        655,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamProducerConnect(
        conn: *mut CUeglStreamConnection,
        stream: *mut c_void,
        width: c_int,
        height: c_int,
    ) -> CUresult;

    #[row(
        656,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamProducerDisconnect(conn: *mut CUeglStreamConnection) -> CUresult;

    #[row(
        657,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamProducerPresentFrame(
        conn: *mut CUeglStreamConnection,
        eglframe: CUeglFrame,
        stream: *mut CUstream,
    ) -> CUresult;

    #[row(
        658,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuEGLStreamProducerReturnFrame(
        conn: *mut CUeglStreamConnection,
        eglframe: *mut CUeglFrame,
        stream: *mut CUstream,
    ) -> CUresult;

    #[row(
        659,
        refused = "graphics interoperation needs a display device on this machine",
        since = 9000
    )]
    fn cuEventCreateFromEGLSync(
        event: *mut CUevent,
        egl_sync: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        660,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2000
    )]
    fn cuGLCtxCreate(ctx: *mut CUcontext, flags: c_uint, device: CUdevice) -> CUresult;

    #[row(
        661,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3020
    )]
    fn cuGLCtxCreate_v2(ctx: *mut CUcontext, flags: c_uint, device: CUdevice) -> CUresult;

    #[row(
        662,
        refused = "graphics interoperation needs a display device on this machine",
        since = 4010
    )]
    fn cuGLGetDevices(
        cuda_device_count_out: *mut c_uint,
        cuda_devices: *mut CUdevice,
        cuda_device_count: c_uint,
        device_list: CUGLDeviceList,
    ) -> CUresult;

    #[row(
        663,
        refused = "graphics interoperation needs a display device on this machine",
        since = 6050
    )]
    fn cuGLGetDevices_v2(
        cuda_device_count_out: *mut c_uint,
        cuda_devices: *mut CUdevice,
        cuda_device_count: c_uint,
        device_list: CUGLDeviceList,
    ) -> CUresult;

    #[row(
        664,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2000
    )]
    fn cuGLInit() -> CUresult;

    #[row(
        665,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2000
    )]
    fn cuGLMapBufferObject(
        dptr: *mut CUdeviceptr_v1,
        size: *mut c_uint,
        buffer: c_uint,
    ) -> CUresult;

    #[row(
        666,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2030
    )]
    fn cuGLMapBufferObjectAsync(
        dptr: *mut CUdeviceptr_v1,
        size: *mut c_uint,
        buffer: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        667,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3020,
        ptsz = 7000
    )]
    fn cuGLMapBufferObjectAsync_v2(
        dptr: *mut CUdeviceptr,
        size: *mut usize,
        buffer: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        668,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3020,
        ptds = 7000
    )]
    fn cuGLMapBufferObject_v2(dptr: *mut CUdeviceptr, size: *mut usize, buffer: c_uint)
    -> CUresult;

    #[row(
        669,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2000
    )]
    fn cuGLRegisterBufferObject(buffer: c_uint) -> CUresult;

    #[row(
        670,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2030
    )]
    fn cuGLSetBufferObjectMapFlags(buffer: c_uint, flags: c_uint) -> CUresult;

    #[row(
        671,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2000
    )]
    fn cuGLUnmapBufferObject(buffer: c_uint) -> CUresult;

    #[row(
        672,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2030
    )]
    fn cuGLUnmapBufferObjectAsync(buffer: c_uint, stream: CUstream) -> CUresult;

    #[row(
        673,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2000
    )]
    fn cuGLUnregisterBufferObject(buffer: c_uint) -> CUresult;

    #[row(
        674,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuGraphicsEGLRegisterImage(
        cuda_resource: *mut CUgraphicsResource,
        image: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        675,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000
    )]
    fn cuGraphicsGLRegisterBuffer(
        cuda_resource: *mut CUgraphicsResource,
        buffer: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        676,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000
    )]
    fn cuGraphicsGLRegisterImage(
        cuda_resource: *mut CUgraphicsResource,
        image: c_uint,
        target: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        677,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000,
        ptsz = 7000
    )]
    fn cuGraphicsMapResources(
        count: c_uint,
        resources: *mut CUgraphicsResource,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        678,
        refused = "graphics interoperation needs a display device on this machine",
        since = 7000
    )]
    fn cuGraphicsResourceGetMappedEglFrame(
        egl_frame: *mut CUeglFrame,
        resource: CUgraphicsResource,
        index: c_uint,
        mip_level: c_uint,
    ) -> CUresult;

    #[row(
        679,
        refused = "graphics interoperation needs a display device on this machine",
        since = 5000
    )]
    fn cuGraphicsResourceGetMappedMipmappedArray(
        mipmapped_array: *mut CUmipmappedArray,
        resource: CUgraphicsResource,
    ) -> CUresult;

    #[row(
        680,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000
    )]
    fn cuGraphicsResourceGetMappedPointer(
        dev_ptr: *mut CUdeviceptr_v1,
        size: *mut c_uint,
        resource: CUgraphicsResource,
    ) -> CUresult;

    #[row(
        681,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3020
    )]
    fn cuGraphicsResourceGetMappedPointer_v2(
        dev_ptr: *mut CUdeviceptr,
        size: *mut usize,
        resource: CUgraphicsResource,
    ) -> CUresult;

    #[row(
        682,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000
    )]
    fn cuGraphicsResourceSetMapFlags(resource: CUgraphicsResource, flags: c_uint) -> CUresult;

    #[row(
        683,
        refused = "graphics interoperation needs a display device on this machine",
        since = 6050
    )]
    fn cuGraphicsResourceSetMapFlags_v2(resource: CUgraphicsResource, flags: c_uint) -> CUresult;

    #[row(
        684,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000
    )]
    fn cuGraphicsSubResourceGetMappedArray(
        array: *mut CUarray,
        resource: CUgraphicsResource,
        array_index: c_uint,
        mip_level: c_uint,
    ) -> CUresult;

    #[row(
        685,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000,
        ptsz = 7000
    )]
    fn cuGraphicsUnmapResources(
        count: c_uint,
        resources: *mut CUgraphicsResource,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        686,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3000
    )]
    fn cuGraphicsUnregisterResource(resource: CUgraphicsResource) -> CUresult;

    #[row(
        687,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3010
    )]
    fn cuGraphicsVDPAURegisterOutputSurface(
        cuda_resource: *mut CUgraphicsResource,
        vdp_surface: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        688,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3010
    )]
    fn cuGraphicsVDPAURegisterVideoSurface(
        cuda_resource: *mut CUgraphicsResource,
        vdp_surface: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        689,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3010
    )]
    fn cuVDPAUCtxCreate(
        ctx: *mut CUcontext,
        flags: c_uint,
        device: CUdevice,
        vdp_device: c_uint,
        vdp_get_proc_address: *mut VdpGetProcAddress,
    ) -> CUresult;

    #[row(
        690,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3020
    )]
    fn cuVDPAUCtxCreate_v2(
        ctx: *mut CUcontext,
        flags: c_uint,
        device: CUdevice,
        vdp_device: c_uint,
        vdp_get_proc_address: *mut VdpGetProcAddress,
    ) -> CUresult;

    #[row(
        691,
        refused = "graphics interoperation needs a display device on this machine",
        since = 3010
    )]
    fn cuVDPAUGetDevice(
        device: *mut CUdevice,
        vdp_device: c_uint,
        vdp_get_proc_address: *mut VdpGetProcAddress,
    ) -> CUresult;

    #[row(
        692,
        refused = "graphics interoperation needs a display device on this machine",
        since = 2020
    )]
    fn cuWGLGetDevice(device: *mut CUdevice, gpu: *mut c_void) -> CUresult;
}
