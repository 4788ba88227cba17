//! Occupancy calculations.

unsafe extern "C" {
    #[row(240, asked, blocks = device, since = 10020)]
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        #[out] dynamic_smem_size: *mut usize,
        func: CUfunction,
        num_blocks: c_int,
        block_size: c_int,
    ) -> CUresult;

    #[row(241, asked, blocks = device, since = 6050)]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        #[out] num_blocks: *mut c_int,
        func: CUfunction,
        block_size: c_int,
        dynamic_s_mem_size: usize,
    ) -> CUresult;

    #[row(242, asked, blocks = device, since = 7000)]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        #[out] num_blocks: *mut c_int,
        func: CUfunction,
        block_size: c_int,
        dynamic_s_mem_size: usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(243, refused = "not served yet", since = 11070)]
    fn cuOccupancyMaxActiveClusters(
        num_clusters: *mut c_int,
        func: CUfunction,
        config: *const CUlaunchConfig,
    ) -> CUresult;

    #[row(244, local, since = 6050)]
    fn cuOccupancyMaxPotentialBlockSize(
        min_grid_size: *mut c_int,
        block_size: *mut c_int,
        func: CUfunction,
        block_size_to_dynamic_s_mem_size: CUoccupancyB2DSize,
        dynamic_s_mem_size: usize,
        block_size_limit: c_int,
    ) -> CUresult;

    #[row(245, local, since = 7000)]
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        min_grid_size: *mut c_int,
        block_size: *mut c_int,
        func: CUfunction,
        block_size_to_dynamic_s_mem_size: CUoccupancyB2DSize,
        dynamic_s_mem_size: usize,
        block_size_limit: c_int,
        flags: c_uint,
    ) -> CUresult;

    #[row(246, refused = "not served yet", since = 11070)]
    fn cuOccupancyMaxPotentialClusterSize(
        cluster_size: *mut c_int,
        func: CUfunction,
        config: *const CUlaunchConfig,
    ) -> CUresult;
}
