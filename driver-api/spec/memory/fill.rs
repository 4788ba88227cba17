//! Fills.
//!
//! Private rows (below 100) come first: what several functions are `via`.

unsafe extern "C" {
    /// Fills `height` rows, `pitch` bytes apart, of `width` elements of `element_bytes` (1, 2 or 4) each.
    #[row(46, private, posted, custom = worker, blocks = device)]
    fn gpurunFill(
        destination: CUdeviceptr,
        pitch: u64,
        width: u64,
        height: u64,
        value: u32,
        element_bytes: u32,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        355,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD16(dst_device: CUdeviceptr_v1, us: c_ushort, n: c_uint) -> CUresult;

    #[row(
        356,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD16Async(
        dst_device: CUdeviceptr,
        us: c_ushort,
        n: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        357,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD16_v2(dst_device: CUdeviceptr, us: c_ushort, n: usize) -> CUresult;

    #[row(
        358,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD2D16(
        dst_device: CUdeviceptr_v1,
        dst_pitch: c_uint,
        us: c_ushort,
        width: c_uint,
        height: c_uint,
    ) -> CUresult;

    #[row(
        359,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D16Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        us: c_ushort,
        width: usize,
        height: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        360,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D16_v2(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        us: c_ushort,
        width: usize,
        height: usize,
    ) -> CUresult;

    #[row(
        361,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD2D32(
        dst_device: CUdeviceptr_v1,
        dst_pitch: c_uint,
        ui: c_uint,
        width: c_uint,
        height: c_uint,
    ) -> CUresult;

    #[row(
        362,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D32Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        ui: c_uint,
        width: usize,
        height: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        363,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D32_v2(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        ui: c_uint,
        width: usize,
        height: usize,
    ) -> CUresult;

    #[row(
        364,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD2D8(
        dst_device: CUdeviceptr_v1,
        dst_pitch: c_uint,
        uc: c_uchar,
        width: c_uint,
        height: c_uint,
    ) -> CUresult;

    #[row(
        365,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D8Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        uc: c_uchar,
        width: usize,
        height: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        366,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD2D8_v2(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        uc: c_uchar,
        width: usize,
        height: usize,
    ) -> CUresult;

    #[row(
        367,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD32(dst_device: CUdeviceptr_v1, ui: c_uint, n: c_uint) -> CUresult;

    #[row(
        368,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD32Async(
        dst_device: CUdeviceptr,
        ui: c_uint,
        n: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        369,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD32_v2(dst_device: CUdeviceptr, ui: c_uint, n: usize) -> CUresult;

    #[row(
        370,
        refused = "the 32-bit interface that CUDA 3.2 replaced",
        blocks = device,
        since = 2000
    )]
    fn cuMemsetD8(dst_device: CUdeviceptr_v1, uc: c_uchar, n: c_uint) -> CUresult;

    #[row(
        371,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptsz = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD8Async(
        dst_device: CUdeviceptr,
        uc: c_uchar,
        n: usize,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        372,
        posted,
        via = gpurunFill,
        blocks = device,
        since = 3020,
        ptds = 7000,
        test = "surface_memory"
    )]
    fn cuMemsetD8_v2(dst_device: CUdeviceptr, uc: c_uchar, n: usize) -> CUresult;
}
