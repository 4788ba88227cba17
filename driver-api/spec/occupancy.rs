//! Occupancy calculations.

unsafe extern "C" {
    /// What a device holds of clusters of blocks: how many at once, or (`largest` not 0) how large they can be.
    #[row(67, private, asked, custom = worker, blocks = device)]
    fn gpurunClusters(
        #[out] number: *mut c_int,
        function: CUfunction,
        largest: u32,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: c_uint,
        attribute_count: u32,
        #[rest] attributes: &[u8],
    ) -> CUresult;

    #[row(240, asked, blocks = device, since = 10020, test = "surface_module")]
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        #[out] dynamic_smem_size: *mut usize,
        func: CUfunction,
        num_blocks: c_int,
        block_size: c_int,
    ) -> CUresult;

    #[row(241, asked, blocks = device, since = 6050, test = "surface_module")]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        #[out] num_blocks: *mut c_int,
        func: CUfunction,
        block_size: c_int,
        dynamic_s_mem_size: usize,
    ) -> CUresult;

    #[row(242, asked, blocks = device, since = 7000, test = "surface_module")]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        #[out] num_blocks: *mut c_int,
        func: CUfunction,
        block_size: c_int,
        dynamic_s_mem_size: usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(243, asked, via = gpurunClusters, blocks = device, since = 11070, test = "surface_module")]
    fn cuOccupancyMaxActiveClusters(
        #[out] num_clusters: *mut c_int,
        func: CUfunction,
        #[input] config: *const CUlaunchConfig,
    ) -> CUresult;

    #[row(244, local, blocks = device, since = 6050, test = "surface_module")]
    fn cuOccupancyMaxPotentialBlockSize(
        #[out] min_grid_size: *mut c_int,
        #[out] block_size: *mut c_int,
        func: CUfunction,
        block_size_to_dynamic_s_mem_size: CUoccupancyB2DSize,
        dynamic_s_mem_size: usize,
        block_size_limit: c_int,
    ) -> CUresult;

    #[row(245, local, blocks = device, since = 7000, test = "surface_module")]
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        #[out] min_grid_size: *mut c_int,
        #[out] block_size: *mut c_int,
        func: CUfunction,
        block_size_to_dynamic_s_mem_size: CUoccupancyB2DSize,
        dynamic_s_mem_size: usize,
        block_size_limit: c_int,
        flags: c_uint,
    ) -> CUresult;

    #[row(246, asked, via = gpurunClusters, blocks = device, since = 11070, test = "surface_module")]
    fn cuOccupancyMaxPotentialClusterSize(
        #[out] cluster_size: *mut c_int,
        func: CUfunction,
        #[input] config: *const CUlaunchConfig,
    ) -> CUresult;
}
