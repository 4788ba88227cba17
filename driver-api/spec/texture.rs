//! Texture and surface references and objects.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// A texture or surface object in the current context, by the client's number; its value is the driver's own, which kernels get. The rest: an
    /// [`Object`](crate::texture::Object).
    #[row(75, private, asked, custom = worker, blocks = device)]
    fn gpurunTextureCreate(texture: u32, #[rest] object: &[u8], #[out] value: *mut u64)
    -> CUresult;

    /// Its end.
    #[row(76, private, asked, custom = worker, blocks = device)]
    fn gpurunTextureDestroy(texture: u32) -> CUresult;

    /// A texture or surface reference in the current context, by the client's number: of a module by its name, or of none. The kind is one of
    /// [`kind`](crate::texture::reference::kind); what it says of its own is told as an [`Object`](crate::texture::Object).
    #[row(77, private, asked, custom = worker, blocks = device)]
    fn gpurunReferenceGet(
        reference: u32,
        kind: u32,
        module: u32,
        #[rest] name: &[u8],
        #[out_rest] told: &[u8],
    ) -> CUresult;

    /// The end of a reference of no module.
    #[row(78, private, asked, custom = worker, blocks = device)]
    fn gpurunReferenceDestroy(reference: u32) -> CUresult;

    /// Binds a reference to what an [`Object`](crate::texture::Object) names; a line's width is in bytes. The offset is that of an address that is not aligned as
    /// textures are, which is an error unless `takes_offset` is 1.
    #[row(79, private, asked, custom = worker, blocks = device)]
    fn gpurunReferenceBind(
        reference: u32,
        takes_offset: u32,
        #[rest] object: &[u8],
        #[out] offset: *mut u64,
    ) -> CUresult;

    /// Another [`Change`](crate::texture::reference::Change) of a texture reference.
    #[row(80, private, asked, custom = worker, blocks = device)]
    fn gpurunReferenceChange(reference: u32, change: u32, words: [u32; 4]) -> CUresult;

    #[row(596, asked, via = gpurunTextureCreate, blocks = device, since = 5000, test = "surface_texture")]
    fn cuSurfObjectCreate(
        #[creates] surf_object: *mut CUsurfObject,
        #[input] res_desc: *const CUDA_RESOURCE_DESC,
    ) -> CUresult;

    #[row(597, asked, via = gpurunTextureDestroy, blocks = device, since = 5000, test = "surface_texture")]
    fn cuSurfObjectDestroy(#[destroys] surf_object: CUsurfObject) -> CUresult;

    #[row(598, local, blocks = never, since = 5000, test = "surface_texture")]
    fn cuSurfObjectGetResourceDesc(
        #[out] res_desc: *mut CUDA_RESOURCE_DESC,
        surf_object: CUsurfObject,
    ) -> CUresult;

    #[row(599, local, blocks = never, since = 3000, test = "surface_reference")]
    fn cuSurfRefGetArray(#[out] array: *mut CUarray, surf_ref: CUsurfref) -> CUresult;

    #[row(600, asked, via = gpurunReferenceBind, blocks = device, since = 3000, test = "surface_reference")]
    fn cuSurfRefSetArray(surf_ref: CUsurfref, array: CUarray, flags: c_uint) -> CUresult;

    #[row(606, asked, via = gpurunTextureCreate, blocks = device, since = 5000, test = "surface_texture")]
    fn cuTexObjectCreate(
        #[creates] tex_object: *mut CUtexObject,
        #[input] res_desc: *const CUDA_RESOURCE_DESC,
        #[input] tex_desc: *const CUDA_TEXTURE_DESC,
        #[input(nullable)] res_view_desc: *const CUDA_RESOURCE_VIEW_DESC,
    ) -> CUresult;

    #[row(607, asked, via = gpurunTextureDestroy, blocks = device, since = 5000, test = "surface_texture")]
    fn cuTexObjectDestroy(#[destroys] tex_object: CUtexObject) -> CUresult;

    #[row(608, local, blocks = never, since = 5000, test = "surface_texture")]
    fn cuTexObjectGetResourceDesc(
        #[out] res_desc: *mut CUDA_RESOURCE_DESC,
        tex_object: CUtexObject,
    ) -> CUresult;

    #[row(609, local, blocks = never, since = 5000, test = "surface_texture")]
    fn cuTexObjectGetResourceViewDesc(
        #[out] res_view_desc: *mut CUDA_RESOURCE_VIEW_DESC,
        tex_object: CUtexObject,
    ) -> CUresult;

    #[row(610, local, blocks = never, since = 5000, test = "surface_texture")]
    fn cuTexObjectGetTextureDesc(
        #[out] tex_desc: *mut CUDA_TEXTURE_DESC,
        tex_object: CUtexObject,
    ) -> CUresult;

    #[row(611, asked, via = gpurunReferenceGet, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefCreate(#[creates] tex_ref: *mut CUtexref) -> CUresult;

    #[row(612, asked, via = gpurunReferenceDestroy, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefDestroy(#[destroys] tex_ref: CUtexref) -> CUresult;

    #[row(
        613,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuTexRefGetAddress(#[out] pdptr: *mut CUdeviceptr_v1, tex_ref: CUtexref) -> CUresult;

    #[row(614, local, blocks = never, since = 2000, test = "surface_reference")]
    fn cuTexRefGetAddressMode(
        #[out] pam: *mut CUaddress_mode,
        tex_ref: CUtexref,
        dim: c_int,
    ) -> CUresult;

    #[row(615, local, blocks = never, since = 3020, test = "surface_reference")]
    fn cuTexRefGetAddress_v2(#[out] pdptr: *mut CUdeviceptr, tex_ref: CUtexref) -> CUresult;

    #[row(616, local, blocks = never, since = 2000, test = "surface_reference")]
    fn cuTexRefGetArray(#[out] array: *mut CUarray, tex_ref: CUtexref) -> CUresult;

    #[row(617, local, blocks = never, since = 8000, test = "surface_reference")]
    fn cuTexRefGetBorderColor(
        #[out(count = 4)] border_color: *mut f32,
        tex_ref: CUtexref,
    ) -> CUresult;

    #[row(618, local, blocks = never, since = 2000, test = "surface_reference")]
    fn cuTexRefGetFilterMode(#[out] pfm: *mut CUfilter_mode, tex_ref: CUtexref) -> CUresult;

    #[row(619, local, blocks = never, since = 2000, test = "surface_reference")]
    fn cuTexRefGetFlags(#[out] flags: *mut c_uint, tex_ref: CUtexref) -> CUresult;

    #[row(620, local, blocks = never, since = 2000, test = "surface_reference")]
    fn cuTexRefGetFormat(
        #[out] format: *mut CUarray_format,
        #[out] num_channels: *mut c_int,
        tex_ref: CUtexref,
    ) -> CUresult;

    #[row(621, local, blocks = never, since = 5000, test = "surface_reference")]
    fn cuTexRefGetMaxAnisotropy(#[out] pmax_aniso: *mut c_int, tex_ref: CUtexref) -> CUresult;

    #[row(622, local, blocks = never, since = 5000, test = "surface_reference")]
    fn cuTexRefGetMipmapFilterMode(#[out] pfm: *mut CUfilter_mode, tex_ref: CUtexref) -> CUresult;

    #[row(623, local, blocks = never, since = 5000, test = "surface_reference")]
    fn cuTexRefGetMipmapLevelBias(#[out] pbias: *mut f32, tex_ref: CUtexref) -> CUresult;

    #[row(624, local, blocks = never, since = 5000, test = "surface_reference")]
    fn cuTexRefGetMipmapLevelClamp(
        #[out] pmin_mipmap_level_clamp: *mut f32,
        #[out] pmax_mipmap_level_clamp: *mut f32,
        tex_ref: CUtexref,
    ) -> CUresult;

    #[row(625, local, blocks = never, since = 5000, test = "surface_reference")]
    fn cuTexRefGetMipmappedArray(
        #[out] mipmapped_array: *mut CUmipmappedArray,
        tex_ref: CUtexref,
    ) -> CUresult;

    #[row(
        626,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2000
    )]
    fn cuTexRefSetAddress(
        #[out(nullable)] byte_offset: *mut c_uint,
        tex_ref: CUtexref,
        dptr: CUdeviceptr_v1,
        bytes: c_uint,
    ) -> CUresult;

    #[row(
        627,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = never,
        since = 2020
    )]
    fn cuTexRefSetAddress2D(
        tex_ref: CUtexref,
        #[input] desc: *const CUDA_ARRAY_DESCRIPTOR_v1,
        dptr: CUdeviceptr_v1,
        pitch: c_uint,
    ) -> CUresult;

    #[row(628, asked, via = gpurunReferenceBind, blocks = device, since = 3020, test = "surface_reference")]
    fn cuTexRefSetAddress2D_v2(
        tex_ref: CUtexref,
        #[input] desc: *const CUDA_ARRAY_DESCRIPTOR,
        dptr: CUdeviceptr,
        pitch: usize,
    ) -> CUresult;

    #[row(629, asked, via = gpurunReferenceBind, blocks = device, since = 4010, test = "surface_reference")]
    fn cuTexRefSetAddress2D_v3(
        tex_ref: CUtexref,
        #[input] desc: *const CUDA_ARRAY_DESCRIPTOR,
        dptr: CUdeviceptr,
        pitch: usize,
    ) -> CUresult;

    #[row(630, asked, via = gpurunReferenceChange, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefSetAddressMode(tex_ref: CUtexref, dim: c_int, am: CUaddress_mode) -> CUresult;

    #[row(631, asked, via = gpurunReferenceBind, blocks = device, since = 3020, test = "surface_reference")]
    fn cuTexRefSetAddress_v2(
        #[out(nullable)] byte_offset: *mut usize,
        tex_ref: CUtexref,
        dptr: CUdeviceptr,
        bytes: usize,
    ) -> CUresult;

    #[row(632, asked, via = gpurunReferenceBind, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefSetArray(tex_ref: CUtexref, array: CUarray, flags: c_uint) -> CUresult;

    #[row(633, asked, via = gpurunReferenceChange, blocks = device, since = 8000, test = "surface_reference")]
    fn cuTexRefSetBorderColor(
        tex_ref: CUtexref,
        #[input(count = 4)] border_color: *mut f32,
    ) -> CUresult;

    #[row(634, asked, via = gpurunReferenceChange, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefSetFilterMode(tex_ref: CUtexref, fm: CUfilter_mode) -> CUresult;

    #[row(635, asked, via = gpurunReferenceChange, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefSetFlags(tex_ref: CUtexref, flags: c_uint) -> CUresult;

    #[row(636, asked, via = gpurunReferenceChange, blocks = device, since = 2000, test = "surface_reference")]
    fn cuTexRefSetFormat(
        tex_ref: CUtexref,
        fmt: CUarray_format,
        num_packed_components: c_int,
    ) -> CUresult;

    #[row(637, asked, via = gpurunReferenceChange, blocks = device, since = 5000, test = "surface_reference")]
    fn cuTexRefSetMaxAnisotropy(tex_ref: CUtexref, max_aniso: c_uint) -> CUresult;

    #[row(638, asked, via = gpurunReferenceChange, blocks = device, since = 5000, test = "surface_reference")]
    fn cuTexRefSetMipmapFilterMode(tex_ref: CUtexref, fm: CUfilter_mode) -> CUresult;

    #[row(639, asked, via = gpurunReferenceChange, blocks = device, since = 5000, test = "surface_reference")]
    fn cuTexRefSetMipmapLevelBias(tex_ref: CUtexref, bias: f32) -> CUresult;

    #[row(640, asked, via = gpurunReferenceChange, blocks = device, since = 5000, test = "surface_reference")]
    fn cuTexRefSetMipmapLevelClamp(
        tex_ref: CUtexref,
        min_mipmap_level_clamp: f32,
        max_mipmap_level_clamp: f32,
    ) -> CUresult;

    #[row(641, asked, via = gpurunReferenceBind, blocks = device, since = 5000, test = "surface_reference")]
    fn cuTexRefSetMipmappedArray(
        tex_ref: CUtexref,
        mipmapped_array: CUmipmappedArray,
        flags: c_uint,
    ) -> CUresult;
}
