//! OpenGL, EGL and VDPAU interoperation.

unsafe extern "C" {
    #[row(
        650,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamConsumerAcquireFrame(
        #[inout] conn: *mut CUeglStreamConnection,
        #[out] cuda_resource: *mut CUgraphicsResource,
        #[input(nullable)] stream: *mut CUstream,
        timeout: c_uint,
    ) -> CUresult;

    #[row(
        651,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamConsumerConnect(
        #[creates] conn: *mut CUeglStreamConnection,
        #[address] stream: *mut c_void,
    ) -> CUresult;

    #[row(
        652,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 8000
    )]
    fn cuEGLStreamConsumerConnectWithFlags(
        #[creates] conn: *mut CUeglStreamConnection,
        #[address] stream: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        653,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamConsumerDisconnect(#[inout] conn: *mut CUeglStreamConnection) -> CUresult;

    #[row(
        654,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamConsumerReleaseFrame(
        #[inout] conn: *mut CUeglStreamConnection,
        cuda_resource: CUgraphicsResource,
        #[input(nullable)] stream: *mut CUstream,
    ) -> CUresult;

    #[row(
        655,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamProducerConnect(
        #[creates] conn: *mut CUeglStreamConnection,
        #[address] stream: *mut c_void,
        width: c_int,
        height: c_int,
    ) -> CUresult;

    #[row(
        656,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamProducerDisconnect(#[inout] conn: *mut CUeglStreamConnection) -> CUresult;

    #[row(
        657,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamProducerPresentFrame(
        #[inout] conn: *mut CUeglStreamConnection,
        eglframe: CUeglFrame,
        #[input(nullable)] stream: *mut CUstream,
    ) -> CUresult;

    #[row(
        658,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 7000
    )]
    fn cuEGLStreamProducerReturnFrame(
        #[inout] conn: *mut CUeglStreamConnection,
        #[out] eglframe: *mut CUeglFrame,
        #[input(nullable)] stream: *mut CUstream,
    ) -> CUresult;

    #[row(
        659,
        elsewhere,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 9000
    )]
    fn cuEventCreateFromEGLSync(
        #[creates] event: *mut CUevent,
        #[address] egl_sync: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        660,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 2000
    )]
    fn cuGLCtxCreate(#[creates] ctx: *mut CUcontext, flags: c_uint, device: CUdevice) -> CUresult;

    #[row(
        661,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3020
    )]
    fn cuGLCtxCreate_v2(
        #[creates] ctx: *mut CUcontext,
        flags: c_uint,
        device: CUdevice,
    ) -> CUresult;

    #[row(
        662,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 4010
    )]
    fn cuGLGetDevices(
        #[out] cuda_device_count_out: *mut c_uint,
        #[out(count = cuda_device_count)] cuda_devices: *mut CUdevice,
        cuda_device_count: c_uint,
        device_list: CUGLDeviceList,
    ) -> CUresult;

    #[row(
        663,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 6050
    )]
    fn cuGLGetDevices_v2(
        #[out] cuda_device_count_out: *mut c_uint,
        #[out(count = cuda_device_count)] cuda_devices: *mut CUdevice,
        cuda_device_count: c_uint,
        device_list: CUGLDeviceList,
    ) -> CUresult;

    #[row(
        664,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 2000
    )]
    fn cuGLInit() -> CUresult;

    #[row(
        665,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 2000
    )]
    fn cuGLMapBufferObject(
        #[out] dptr: *mut CUdeviceptr_v1,
        #[out] size: *mut c_uint,
        buffer: c_uint,
    ) -> CUresult;

    #[row(
        666,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 2030
    )]
    fn cuGLMapBufferObjectAsync(
        #[out] dptr: *mut CUdeviceptr_v1,
        #[out] size: *mut c_uint,
        buffer: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        667,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3020,
        ptsz = 7000
    )]
    fn cuGLMapBufferObjectAsync_v2(
        #[out] dptr: *mut CUdeviceptr,
        #[out] size: *mut usize,
        buffer: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        668,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3020,
        ptds = 7000
    )]
    fn cuGLMapBufferObject_v2(
        #[out] dptr: *mut CUdeviceptr,
        #[out] size: *mut usize,
        buffer: c_uint,
    ) -> CUresult;

    #[row(
        669,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 2000
    )]
    fn cuGLRegisterBufferObject(buffer: c_uint) -> CUresult;

    #[row(
        670,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 2030
    )]
    fn cuGLSetBufferObjectMapFlags(buffer: c_uint, flags: c_uint) -> CUresult;

    #[row(
        671,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 2000
    )]
    fn cuGLUnmapBufferObject(buffer: c_uint) -> CUresult;

    #[row(
        672,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 2030
    )]
    fn cuGLUnmapBufferObjectAsync(buffer: c_uint, stream: CUstream) -> CUresult;

    #[row(
        673,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 2000
    )]
    fn cuGLUnregisterBufferObject(buffer: c_uint) -> CUresult;

    #[row(
        674,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 7000
    )]
    fn cuGraphicsEGLRegisterImage(
        #[creates] cuda_resource: *mut CUgraphicsResource,
        #[address] image: *mut c_void,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        675,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 3000
    )]
    fn cuGraphicsGLRegisterBuffer(
        #[creates] cuda_resource: *mut CUgraphicsResource,
        buffer: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        676,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 3000
    )]
    fn cuGraphicsGLRegisterImage(
        #[creates] cuda_resource: *mut CUgraphicsResource,
        image: c_uint,
        target: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        677,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3000,
        ptsz = 7000
    )]
    fn cuGraphicsMapResources(
        count: c_uint,
        #[input(count = count)] resources: *mut CUgraphicsResource,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        678,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 7000
    )]
    fn cuGraphicsResourceGetMappedEglFrame(
        #[out] egl_frame: *mut CUeglFrame,
        resource: CUgraphicsResource,
        index: c_uint,
        mip_level: c_uint,
    ) -> CUresult;

    #[row(
        679,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 5000
    )]
    fn cuGraphicsResourceGetMappedMipmappedArray(
        #[out] mipmapped_array: *mut CUmipmappedArray,
        resource: CUgraphicsResource,
    ) -> CUresult;

    #[row(
        680,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 3000
    )]
    fn cuGraphicsResourceGetMappedPointer(
        #[out] dev_ptr: *mut CUdeviceptr_v1,
        #[out] size: *mut c_uint,
        resource: CUgraphicsResource,
    ) -> CUresult;

    #[row(
        681,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 3020
    )]
    fn cuGraphicsResourceGetMappedPointer_v2(
        #[out] dev_ptr: *mut CUdeviceptr,
        #[out] size: *mut usize,
        resource: CUgraphicsResource,
    ) -> CUresult;

    #[row(
        682,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 3000
    )]
    fn cuGraphicsResourceSetMapFlags(resource: CUgraphicsResource, flags: c_uint) -> CUresult;

    #[row(
        683,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 6050
    )]
    fn cuGraphicsResourceSetMapFlags_v2(resource: CUgraphicsResource, flags: c_uint) -> CUresult;

    #[row(
        684,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 3000
    )]
    fn cuGraphicsSubResourceGetMappedArray(
        #[out] array: *mut CUarray,
        resource: CUgraphicsResource,
        array_index: c_uint,
        mip_level: c_uint,
    ) -> CUresult;

    #[row(
        685,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3000,
        ptsz = 7000
    )]
    fn cuGraphicsUnmapResources(
        count: c_uint,
        #[input(count = count)] resources: *mut CUgraphicsResource,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        686,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3000
    )]
    fn cuGraphicsUnregisterResource(#[destroys] resource: CUgraphicsResource) -> CUresult;

    #[row(
        687,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 3010
    )]
    fn cuGraphicsVDPAURegisterOutputSurface(
        #[creates] cuda_resource: *mut CUgraphicsResource,
        vdp_surface: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        688,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = device,
        since = 3010
    )]
    fn cuGraphicsVDPAURegisterVideoSurface(
        #[creates] cuda_resource: *mut CUgraphicsResource,
        vdp_surface: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        689,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3010
    )]
    fn cuVDPAUCtxCreate(
        #[creates] ctx: *mut CUcontext,
        flags: c_uint,
        device: CUdevice,
        vdp_device: c_uint,
        #[address] vdp_get_proc_address: *mut VdpGetProcAddress,
    ) -> CUresult;

    #[row(
        690,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = unbounded,
        since = 3020
    )]
    fn cuVDPAUCtxCreate_v2(
        #[creates] ctx: *mut CUcontext,
        flags: c_uint,
        device: CUdevice,
        vdp_device: c_uint,
        #[address] vdp_get_proc_address: *mut VdpGetProcAddress,
    ) -> CUresult;

    #[row(
        691,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 3010
    )]
    fn cuVDPAUGetDevice(
        #[out] device: *mut CUdevice,
        vdp_device: c_uint,
        #[address] vdp_get_proc_address: *mut VdpGetProcAddress,
    ) -> CUresult;

    #[row(
        692,
        elsewhere,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 2020
    )]
    fn cuWGLGetDevice(#[out] device: *mut CUdevice, gpu: HGPUNV) -> CUresult;

    /// Exported, but in no header: its arguments are not known.
    #[row(
        717,
        unlisted,
        refused = "graphics interoperation needs a display device on this machine",
        blocks = never,
        since = 11000
    )]
    fn cuEGLApiInit() -> CUresult;
}
