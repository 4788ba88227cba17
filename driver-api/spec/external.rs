//! External memory and semaphores.

unsafe extern "C" {
    #[row(
        642,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = unbounded,
        since = 10000
    )]
    fn cuDestroyExternalMemory(#[destroys] ext_mem: CUexternalMemory) -> CUresult;

    #[row(
        643,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = unbounded,
        since = 10000
    )]
    fn cuDestroyExternalSemaphore(#[destroys] ext_sem: CUexternalSemaphore) -> CUresult;

    #[row(
        644,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = device,
        since = 10000
    )]
    fn cuExternalMemoryGetMappedBuffer(
        #[creates] dev_ptr: *mut CUdeviceptr,
        ext_mem: CUexternalMemory,
        #[input] buffer_desc: *const CUDA_EXTERNAL_MEMORY_BUFFER_DESC,
    ) -> CUresult;

    #[row(
        645,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = device,
        since = 10000
    )]
    fn cuExternalMemoryGetMappedMipmappedArray(
        #[creates] mipmap: *mut CUmipmappedArray,
        ext_mem: CUexternalMemory,
        #[input] mipmap_desc: *const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC,
    ) -> CUresult;

    #[row(
        646,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = device,
        since = 10000
    )]
    fn cuImportExternalMemory(
        #[creates] ext_mem_out: *mut CUexternalMemory,
        #[input] mem_handle_desc: *const CUDA_EXTERNAL_MEMORY_HANDLE_DESC,
    ) -> CUresult;

    #[row(
        647,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = device,
        since = 10000
    )]
    fn cuImportExternalSemaphore(
        #[creates] ext_sem_out: *mut CUexternalSemaphore,
        #[input] sem_handle_desc: *const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC,
    ) -> CUresult;

    #[row(
        648,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = device,
        since = 10000,
        ptsz = 10000
    )]
    fn cuSignalExternalSemaphoresAsync(
        #[input(count = num_ext_sems)] ext_sem_array: *const CUexternalSemaphore,
        #[input(count = num_ext_sems)] params_array: *const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS,
        num_ext_sems: c_uint,
        stream: CUstream,
    ) -> CUresult;

    #[row(
        649,
        refused = "external memory and semaphores belong to graphics interfaces of this machine",
        blocks = device,
        since = 10000,
        ptsz = 10000
    )]
    fn cuWaitExternalSemaphoresAsync(
        #[input(count = num_ext_sems)] ext_sem_array: *const CUexternalSemaphore,
        #[input(count = num_ext_sems)] params_array: *const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS,
        num_ext_sems: c_uint,
        stream: CUstream,
    ) -> CUresult;
}
