//! Arrays and mipmapped arrays.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// An array of the driver's in the current context, by the client's number; a mipmapped one if `levels` is not 0.
    #[row(70, private, asked, custom = worker, blocks = device)]
    fn gpurunArrayCreate(
        array: u32,
        levels: u32,
        size: [u64; 3],
        format: u32,
        channels: u32,
        flags: u32,
    ) -> CUresult;

    /// Its end, once everything posted before to its context has completed.
    #[row(71, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunArrayDestroy(array: u32) -> CUresult;

    #[row(
        376,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuArray3DCreate(
        #[creates] handle: *mut CUarray,
        #[input] allocate_array: *const CUDA_ARRAY3D_DESCRIPTOR_v1,
    ) -> CUresult;

    #[row(377, asked, via = gpurunArrayCreate, blocks = device, since = 3020, test = "surface_array")]
    fn cuArray3DCreate_v2(
        #[creates] handle: *mut CUarray,
        #[input] allocate_array: *const CUDA_ARRAY3D_DESCRIPTOR,
    ) -> CUresult;

    #[row(
        378,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuArray3DGetDescriptor(
        #[out] array_descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR_v1,
        array: CUarray,
    ) -> CUresult;

    #[row(379, local, blocks = never, since = 3020, test = "surface_array")]
    fn cuArray3DGetDescriptor_v2(
        #[out] array_descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR,
        array: CUarray,
    ) -> CUresult;

    #[row(
        380,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuArrayCreate(
        #[creates] handle: *mut CUarray,
        #[input] allocate_array: *const CUDA_ARRAY_DESCRIPTOR_v1,
    ) -> CUresult;

    #[row(381, asked, via = gpurunArrayCreate, blocks = device, since = 3020, test = "surface_array")]
    fn cuArrayCreate_v2(
        #[creates] handle: *mut CUarray,
        #[input] allocate_array: *const CUDA_ARRAY_DESCRIPTOR,
    ) -> CUresult;

    #[row(382, asked, via = gpurunArrayDestroy, blocks = unbounded, since = 2000, test = "surface_array")]
    fn cuArrayDestroy(#[destroys] array: CUarray) -> CUresult;

    #[row(
        383,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuArrayGetDescriptor(
        #[out] array_descriptor: *mut CUDA_ARRAY_DESCRIPTOR_v1,
        array: CUarray,
    ) -> CUresult;

    #[row(384, local, blocks = never, since = 3020, test = "surface_array")]
    fn cuArrayGetDescriptor_v2(
        #[out] array_descriptor: *mut CUDA_ARRAY_DESCRIPTOR,
        array: CUarray,
    ) -> CUresult;

    #[row(385, local, blocks = never, since = 11060, test = "surface_array")]
    fn cuArrayGetMemoryRequirements(
        #[out] memory_requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
        array: CUarray,
        device: CUdevice,
    ) -> CUresult;

    #[row(386, local, blocks = never, since = 11020, test = "surface_array")]
    fn cuArrayGetPlane(
        #[out] plane_array: *mut CUarray,
        array: CUarray,
        plane_idx: c_uint,
    ) -> CUresult;

    #[row(387, local, blocks = never, since = 11010, test = "surface_array")]
    fn cuArrayGetSparseProperties(
        #[out] sparse_properties: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
        array: CUarray,
    ) -> CUresult;

    #[row(388, asked, via = gpurunArrayCreate, blocks = device, since = 5000, test = "surface_array")]
    fn cuMipmappedArrayCreate(
        #[creates] handle: *mut CUmipmappedArray,
        #[input] mipmapped_array_desc: *const CUDA_ARRAY3D_DESCRIPTOR,
        num_mipmap_levels: c_uint,
    ) -> CUresult;

    #[row(389, asked, via = gpurunArrayDestroy, blocks = unbounded, since = 5000, test = "surface_array")]
    fn cuMipmappedArrayDestroy(#[destroys] mipmapped_array: CUmipmappedArray) -> CUresult;

    #[row(390, local, blocks = never, since = 5000, test = "surface_array")]
    fn cuMipmappedArrayGetLevel(
        #[out] level_array: *mut CUarray,
        mipmapped_array: CUmipmappedArray,
        level: c_uint,
    ) -> CUresult;

    #[row(391, local, blocks = never, since = 11060, test = "surface_array")]
    fn cuMipmappedArrayGetMemoryRequirements(
        #[out] memory_requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
        mipmap: CUmipmappedArray,
        device: CUdevice,
    ) -> CUresult;

    #[row(392, local, blocks = never, since = 11010, test = "surface_array")]
    fn cuMipmappedArrayGetSparseProperties(
        #[out] sparse_properties: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
        mipmap: CUmipmappedArray,
    ) -> CUresult;
}
