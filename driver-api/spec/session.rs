//! What travels on the wire and has no name in the driver: the rows that several functions are `via`.
//!
//! Handles are the client's ids here too. A row of this file is `private`: it is neither exported nor found by
//! `cuGetProcAddress`. Numbers below 100 are theirs.

unsafe extern "C" {
    /// The primary context of a device gets the id `context`; `flags` are set before it is made.
    #[row(1, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunPrimaryRetain(device: CUdevice, context: u32, flags: c_uint) -> CUresult;

    /// The last release by the client: the worker lets go of the primary context.
    #[row(2, private, posted, custom = worker, blocks = unbounded)]
    fn gpurunPrimaryRelease(device: CUdevice, context: u32) -> CUresult;

    /// Everything in the primary context is destroyed, whoever holds it.
    #[row(3, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunPrimaryReset(device: CUdevice, context: u32) -> CUresult;

    /// A context of its own, made on a device.
    #[row(4, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunContextCreate(device: CUdevice, context: u32, flags: c_uint) -> CUresult;

    /// The end of a created context and of everything in it.
    #[row(5, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunContextDestroy(context: u32) -> CUresult;

    /// A place in a stream whose completion is to be pushed. `urgent` is 1 if a thread waits for it.
    #[row(10, private, posted, custom = worker, blocks = never)]
    fn gpurunMark(stream: CUstream, urgent: u32, mark: u64) -> CUresult;

    /// A stream named by the client.
    #[row(11, private, asked, custom = worker, blocks = device)]
    fn gpurunStreamCreate(stream: u32, flags: c_uint, priority: c_int) -> CUresult;

    /// The end of a stream; what was posted to it before still completes.
    #[row(12, private, posted, custom = worker, blocks = device)]
    fn gpurunStreamDestroy(stream: CUstream) -> CUresult;

    /// Records an event and marks the place.
    #[row(15, private, posted, custom = worker, blocks = never)]
    fn gpurunEventRecord(event: CUevent, stream: CUstream, flags: c_uint, mark: u64) -> CUresult;

    /// Milliseconds between two completed events.
    #[row(16, private, asked, custom = worker, blocks = device)]
    fn gpurunEventElapsed(#[out] milliseconds: *mut f32, start: CUevent, end: CUevent) -> CUresult;

    /// The end of an event.
    #[row(17, private, posted, custom = worker, blocks = never)]
    fn gpurunEventDestroy(event: CUevent) -> CUresult;

    /// A module image of `length` bytes, inline (`transfer` = 0) or as the bulk transfer `transfer`.
    #[row(20, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunModuleLoad(
        module: u32,
        hash: [u8; 32],
        length: u64,
        transfer: u64,
        #[rest] image: &[u8],
    ) -> CUresult;

    /// The same for a library, which belongs to no context.
    #[row(21, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunLibraryLoad(
        library: u32,
        hash: [u8; 32],
        length: u64,
        transfer: u64,
        #[rest] image: &[u8],
    ) -> CUresult;

    /// A function of a module by name. The reply tells its parameters: `u32` offset and `u32` size of each.
    #[row(22, private, asked, custom = worker, blocks = device)]
    fn gpurunFunctionGet(
        module: CUmodule,
        function: u32,
        #[rest] name: &[u8],
        #[out_rest] parameters: &[u8],
    ) -> CUresult;

    /// A kernel of a library by name, with the same reply.
    #[row(23, private, asked, custom = worker, blocks = device)]
    fn gpurunKernelGet(
        library: CUlibrary,
        kernel: u32,
        #[rest] name: &[u8],
        #[out_rest] parameters: &[u8],
    ) -> CUresult;

    /// The function that a kernel is in the current context.
    #[row(24, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunKernelFunction(kernel: CUkernel, function: u32) -> CUresult;

    /// A variable of a module by name.
    #[row(25, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunModuleGlobal(
        #[out] address: *mut u64,
        #[out] size: *mut u64,
        module: CUmodule,
        #[rest] name: &[u8],
    ) -> CUresult;

    /// A variable of a library in the current context by name.
    #[row(26, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunLibraryGlobal(
        #[out] address: *mut u64,
        #[out] size: *mut u64,
        library: CUlibrary,
        #[rest] name: &[u8],
    ) -> CUresult;

    /// A launch. `cooperative` is 0 or 1. After the fixed part: `attribute_count` launch attributes of 72 bytes each, as in
    /// `CUlaunchAttribute` and only those that hold no handle, then the packed parameters.
    #[row(30, private, posted, custom = worker, blocks = device)]
    fn gpurunLaunch(
        function: CUfunction,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: c_uint,
        stream: CUstream,
        cooperative: u32,
        attribute_count: u32,
        #[rest] attributes_and_parameters: &[u8],
    ) -> CUresult;

    /// Physical memory at an address of a window (`address` != 0), or memory where the driver places it (0).
    #[row(40, private, asked, custom = worker, blocks = device)]
    fn gpurunMemoryMap(#[out] mapped: *mut u64, address: u64, size: u64) -> CUresult;

    /// Gives such memory back once everything posted before, on every stream of the context, has completed; then
    /// `ticket` is pushed as a completion of stream id 0xFFFF_FFFF: the address may be used again.
    #[row(41, private, posted, custom = worker, blocks = unbounded)]
    fn gpurunMemoryUnmap(address: u64, size: u64, ticket: u64) -> CUresult;

    /// Bytes to the device: inline (`transfer` = 0) or as the bulk transfer `transfer`.
    #[row(42, private, posted, custom = worker, blocks = device)]
    fn gpurunCopyToDevice(
        destination: CUdeviceptr,
        length: u64,
        transfer: u64,
        stream: CUstream,
        #[rest] bytes: &[u8],
    ) -> CUresult;

    /// Bytes of the device, complete with the reply: inline in it (`transfer` = 0), or before it as the bulk transfer `transfer`.
    #[row(43, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunCopyFromDevice(
        source: CUdeviceptr,
        length: u64,
        transfer: u64,
        stream: CUstream,
        #[out_rest] bytes: &[u8],
    ) -> CUresult;

    /// Bytes of the device, delivered as the bulk transfer `transfer` when the stream has reached the copy, before the next completion
    /// of that stream is pushed.
    #[row(44, private, posted, custom = worker, blocks = device)]
    fn gpurunFetchFromDevice(
        source: CUdeviceptr,
        length: u64,
        transfer: u64,
        stream: CUstream,
    ) -> CUresult;

    /// From device memory to device memory.
    #[row(45, private, posted, custom = worker, blocks = device)]
    fn gpurunCopyOnDevice(
        destination: CUdeviceptr,
        source: CUdeviceptr,
        length: u64,
        stream: CUstream,
    ) -> CUresult;

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
}
