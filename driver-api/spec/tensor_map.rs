//! Tensor maps: what a tensor in memory looks like, in the form that a device reads.

unsafe extern "C" {
    /// A tensor map, made by the driver of a [`crate::tensor_map::Encoding`].
    #[row(65, private, asked, custom = worker, blocks = never)]
    fn gpurunTensorMapEncode(#[rest] encoding: &[u8], #[out_rest] map: &[u8]) -> CUresult;

    /// The map with another address.
    #[row(66, private, asked, custom = worker, blocks = never)]
    fn gpurunTensorMapReplace(
        address: u64,
        #[rest] map: &[u8],
        #[out_rest] replaced: &[u8],
    ) -> CUresult;

    /// The map with another class of allocation, and the class that it has then.
    #[row(92, private, asked, custom = worker, blocks = never)]
    fn gpurunTensorMapClass(
        class: c_uint,
        #[out] effective: *mut c_uint,
        #[rest] map: &[u8],
        #[out_rest] changed: &[u8],
    ) -> CUresult;

    #[row(601, asked, via = gpurunTensorMapEncode, blocks = never, since = 12000, test = "surface_tensor_map")]
    fn cuTensorMapEncodeIm2col(
        #[out] tensor_map: *mut CUtensorMap,
        tensor_data_type: CUtensorMapDataType,
        tensor_rank: u32,
        #[address] global_address: *mut c_void,
        #[input(count = tensor_rank)] global_dim: *const u64,
        #[input(count = tensor_rank - 1)] global_strides: *const u64,
        #[input(count = tensor_rank - 2)] pixel_box_lower_corner: *const c_int,
        #[input(count = tensor_rank - 2)] pixel_box_upper_corner: *const c_int,
        channels_per_pixel: u32,
        pixels_per_column: u32,
        #[input(count = tensor_rank)] element_strides: *const u32,
        interleave: CUtensorMapInterleave,
        swizzle: CUtensorMapSwizzle,
        l2_promotion: CUtensorMapL2promotion,
        oob_fill: CUtensorMapFloatOOBfill,
    ) -> CUresult;

    #[row(602, asked, via = gpurunTensorMapEncode, blocks = never, since = 12080, test = "surface_tensor_map")]
    fn cuTensorMapEncodeIm2colWide(
        #[out] tensor_map: *mut CUtensorMap,
        tensor_data_type: CUtensorMapDataType,
        tensor_rank: u32,
        #[address] global_address: *mut c_void,
        #[input(count = tensor_rank)] global_dim: *const u64,
        #[input(count = tensor_rank - 1)] global_strides: *const u64,
        pixel_box_lower_corner_width: c_int,
        pixel_box_upper_corner_width: c_int,
        channels_per_pixel: u32,
        pixels_per_column: u32,
        #[input(count = tensor_rank)] element_strides: *const u32,
        interleave: CUtensorMapInterleave,
        mode: CUtensorMapIm2ColWideMode,
        swizzle: CUtensorMapSwizzle,
        l2_promotion: CUtensorMapL2promotion,
        oob_fill: CUtensorMapFloatOOBfill,
    ) -> CUresult;

    #[row(603, asked, via = gpurunTensorMapEncode, blocks = never, since = 12000, test = "surface_tensor_map")]
    fn cuTensorMapEncodeTiled(
        #[out] tensor_map: *mut CUtensorMap,
        tensor_data_type: CUtensorMapDataType,
        tensor_rank: u32,
        #[address] global_address: *mut c_void,
        #[input(count = tensor_rank)] global_dim: *const u64,
        #[input(count = tensor_rank - 1)] global_strides: *const u64,
        #[input(count = tensor_rank)] box_dim: *const u32,
        #[input(count = tensor_rank)] element_strides: *const u32,
        interleave: CUtensorMapInterleave,
        swizzle: CUtensorMapSwizzle,
        l2_promotion: CUtensorMapL2promotion,
        oob_fill: CUtensorMapFloatOOBfill,
    ) -> CUresult;

    #[row(604, asked, via = gpurunTensorMapReplace, blocks = never, since = 12000, test = "surface_tensor_map")]
    fn cuTensorMapReplaceAddress(
        #[inout] tensor_map: *mut CUtensorMap,
        #[address] global_address: *mut c_void,
    ) -> CUresult;

    #[row(605, asked, via = gpurunTensorMapClass, blocks = never, since = 13050, test = "surface_tensor_map")]
    fn cuTensorMapSetAllocationClass(
        #[inout] tensor_map: *mut CUtensorMap,
        alloc_class: CUtensorMapAllocClass,
        #[out(nullable)] out_alloc_class: *mut CUtensorMapAllocClass,
    ) -> CUresult;
}
