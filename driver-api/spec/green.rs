//! Green contexts and device resources.

unsafe extern "C" {
    /// A resource of a device, of the current context or of a green context, as [`crate::dev_resource`] lays it out.
    #[row(81, private, asked, custom = worker, blocks = never)]
    fn gpurunDevResource(
        owner: u32,
        id: u32,
        kind: c_uint,
        #[out_rest] resource: &[u8],
    ) -> CUresult;

    /// Splits multiprocessors. `groups` are wanted, or asked for where `is_question` is 1; of at least `least` each, or as the groups that
    /// follow say. The reply has the number of groups, then them (none for a question), the remainder, and the groups as they have become.
    #[row(82, private, asked, custom = worker, blocks = never)]
    fn gpurunResourceSplit(
        input: u32,
        groups: u32,
        is_question: u32,
        flags: c_uint,
        least: c_uint,
        #[out] made: *mut u32,
        #[rest] wanted: &[u8],
        #[out_rest] resources: &[u8],
    ) -> CUresult;

    /// What resources a green context shall have, under an id of the client's.
    #[row(83, private, asked, custom = worker, blocks = never)]
    fn gpurunResourceDescribe(desc: u32, #[rest] resources: &[u8]) -> CUresult;

    /// A green context, of the device of the current context, which is its primary one.
    #[row(84, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunGreenCreate(green: u32, desc: u32, flags: c_uint) -> CUresult;

    /// The end of a green context, whose streams have nothing to do any more.
    #[row(90, private, asked, custom = worker, blocks = unbounded)]
    fn gpurunGreenDestroy(green: u32) -> CUresult;

    /// A stream in a green context, named by the client.
    #[row(91, private, asked, custom = worker, blocks = device)]
    fn gpurunGreenStreamCreate(
        stream: u32,
        green: u32,
        flags: c_uint,
        priority: c_int,
    ) -> CUresult;

    #[row(581, local, blocks = never, since = 12040, test = "surface_green")]
    fn cuCtxFromGreenCtx(#[out] context: *mut CUcontext, ctx: CUgreenCtx) -> CUresult;

    #[row(582, asked, via = gpurunDevResource, blocks = never, since = 12040, test = "surface_green")]
    fn cuCtxGetDevResource(
        ctx: CUcontext,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(583, asked, via = gpurunResourceDescribe, blocks = never, since = 12040, test = "surface_green")]
    fn cuDevResourceGenerateDesc(
        #[creates] desc: *mut CUdevResourceDesc,
        #[input(count = nb_resources)] resources: *mut CUdevResource,
        nb_resources: c_uint,
    ) -> CUresult;

    #[row(584, asked, via = gpurunResourceSplit, blocks = never, since = 13010, test = "surface_green")]
    fn cuDevSmResourceSplit(
        #[out(count = nb_groups, nullable)] result: *mut CUdevResource,
        nb_groups: c_uint,
        #[input] input: *const CUdevResource,
        #[out(nullable)] remainder: *mut CUdevResource,
        flags: c_uint,
        #[inout(count = nb_groups)] group_params: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
    ) -> CUresult;

    #[row(585, asked, via = gpurunResourceSplit, blocks = never, since = 12040, test = "surface_green")]
    fn cuDevSmResourceSplitByCount(
        #[out(count = nb_groups, nullable)] result: *mut CUdevResource,
        #[inout] nb_groups: *mut c_uint,
        #[input] input: *const CUdevResource,
        #[out(nullable)] remaining: *mut CUdevResource,
        use_flags: c_uint,
        min_count: c_uint,
    ) -> CUresult;

    #[row(586, asked, via = gpurunDevResource, blocks = never, since = 12040, test = "surface_green")]
    fn cuDeviceGetDevResource(
        dev: CUdevice,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(587, asked, via = gpurunGreenCreate, blocks = unbounded, since = 12040, test = "surface_green")]
    fn cuGreenCtxCreate(
        #[creates] ctx: *mut CUgreenCtx,
        desc: CUdevResourceDesc,
        dev: CUdevice,
        flags: c_uint,
    ) -> CUresult;

    #[row(588, asked, via = gpurunGreenDestroy, blocks = unbounded, since = 12040, test = "surface_green")]
    fn cuGreenCtxDestroy(#[destroys] ctx: CUgreenCtx) -> CUresult;

    #[row(589, asked, via = gpurunDevResource, blocks = never, since = 12040, test = "surface_green")]
    fn cuGreenCtxGetDevResource(
        ctx: CUgreenCtx,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(590, local, blocks = never, since = 12090, test = "surface_green")]
    fn cuGreenCtxGetId(green_ctx: CUgreenCtx, #[out] green_ctx_id: *mut c_ulonglong) -> CUresult;

    #[row(591, posted, via = gpurunEventRecord, blocks = device, since = 12040, test = "surface_green")]
    fn cuGreenCtxRecordEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult;

    #[row(592, asked, via = gpurunGreenStreamCreate, blocks = device, since = 12050, test = "surface_green")]
    fn cuGreenCtxStreamCreate(
        #[creates] stream: *mut CUstream,
        green_ctx: CUgreenCtx,
        flags: c_uint,
        priority: c_int,
    ) -> CUresult;

    #[row(593, posted, via = gpurunMark, blocks = device, since = 12040, test = "surface_green")]
    fn cuGreenCtxWaitEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult;

    #[row(594, asked, via = gpurunDevResource, blocks = never, since = 13010, ptsz = 13010, test = "surface_green")]
    fn cuStreamGetDevResource(
        stream: CUstream,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(595, local, blocks = never, since = 12040, test = "surface_stream")]
    fn cuStreamGetGreenCtx(stream: CUstream, #[out] ctx: *mut CUgreenCtx) -> CUresult;
}
