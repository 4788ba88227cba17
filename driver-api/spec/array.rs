//! Arrays and mipmapped arrays.

unsafe extern "C" {
    #[row(376, refused = "not served yet", since = 2000)]
    fn cuArray3DCreate(
        handle: *mut CUarray,
        allocate_array: *const CUDA_ARRAY3D_DESCRIPTOR_v1,
    ) -> CUresult;

    #[row(377, refused = "not served yet", since = 3020)]
    fn cuArray3DCreate_v2(
        handle: *mut CUarray,
        allocate_array: *const CUDA_ARRAY3D_DESCRIPTOR,
    ) -> CUresult;

    #[row(378, refused = "not served yet", since = 2000)]
    fn cuArray3DGetDescriptor(
        array_descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR_v1,
        array: CUarray,
    ) -> CUresult;

    #[row(379, refused = "not served yet", since = 3020)]
    fn cuArray3DGetDescriptor_v2(
        array_descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR,
        array: CUarray,
    ) -> CUresult;

    #[row(380, refused = "not served yet", since = 2000)]
    fn cuArrayCreate(
        handle: *mut CUarray,
        allocate_array: *const CUDA_ARRAY_DESCRIPTOR_v1,
    ) -> CUresult;

    #[row(381, refused = "not served yet", since = 3020)]
    fn cuArrayCreate_v2(
        handle: *mut CUarray,
        allocate_array: *const CUDA_ARRAY_DESCRIPTOR,
    ) -> CUresult;

    #[row(382, refused = "not served yet", since = 2000)]
    fn cuArrayDestroy(array: CUarray) -> CUresult;

    #[row(383, refused = "not served yet", since = 2000)]
    fn cuArrayGetDescriptor(
        array_descriptor: *mut CUDA_ARRAY_DESCRIPTOR_v1,
        array: CUarray,
    ) -> CUresult;

    #[row(384, refused = "not served yet", since = 3020)]
    fn cuArrayGetDescriptor_v2(
        array_descriptor: *mut CUDA_ARRAY_DESCRIPTOR,
        array: CUarray,
    ) -> CUresult;

    #[row(385, refused = "not served yet", since = 11060)]
    fn cuArrayGetMemoryRequirements(
        memory_requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
        array: CUarray,
        device: CUdevice,
    ) -> CUresult;

    #[row(386, refused = "not served yet", since = 11020)]
    fn cuArrayGetPlane(plane_array: *mut CUarray, array: CUarray, plane_idx: c_uint) -> CUresult;

    #[row(387, refused = "not served yet", since = 11010)]
    fn cuArrayGetSparseProperties(
        sparse_properties: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
        array: CUarray,
    ) -> CUresult;

    #[row(388, refused = "not served yet", since = 5000)]
    fn cuMipmappedArrayCreate(
        handle: *mut CUmipmappedArray,
        mipmapped_array_desc: *const CUDA_ARRAY3D_DESCRIPTOR,
        num_mipmap_levels: c_uint,
    ) -> CUresult;

    #[row(389, refused = "not served yet", since = 5000)]
    fn cuMipmappedArrayDestroy(mipmapped_array: CUmipmappedArray) -> CUresult;

    #[row(390, refused = "not served yet", since = 5000)]
    fn cuMipmappedArrayGetLevel(
        level_array: *mut CUarray,
        mipmapped_array: CUmipmappedArray,
        level: c_uint,
    ) -> CUresult;

    #[row(391, refused = "not served yet", since = 11060)]
    fn cuMipmappedArrayGetMemoryRequirements(
        memory_requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
        mipmap: CUmipmappedArray,
        device: CUdevice,
    ) -> CUresult;

    #[row(392, refused = "not served yet", since = 11010)]
    fn cuMipmappedArrayGetSparseProperties(
        sparse_properties: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
        mipmap: CUmipmappedArray,
    ) -> CUresult;
}
