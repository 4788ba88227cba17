//! What fits no other area.

unsafe extern "C" {
    #[row(
        716,
        refused = "HANDLE_TYPE_FABRIC_SUPPORTED is 0: the program's machine is in no fabric of the device",
        blocks = device,
        since = 13050,
        ptsz = 13050
    )]
    fn cuFabricCpyBatchAsync(
        num_ops: usize,
        #[input(count = num_ops)] op_list: *mut CUDA_FABRIC_COPY_BATCH_OP,
        flags: c_ulonglong,
        stream: CUstream,
    ) -> CUresult;
}
