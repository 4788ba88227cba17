//! Green contexts and device resources.

unsafe extern "C" {
    #[row(581, refused = "not served yet: partitions of a device", blocks = never, since = 12040)]
    fn cuCtxFromGreenCtx(#[out] context: *mut CUcontext, ctx: CUgreenCtx) -> CUresult;

    #[row(582, refused = "not served yet: partitions of a device", blocks = never, since = 12040)]
    fn cuCtxGetDevResource(
        ctx: CUcontext,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(583, refused = "not served yet: partitions of a device", blocks = never, since = 12040)]
    fn cuDevResourceGenerateDesc(
        #[creates] desc: *mut CUdevResourceDesc,
        #[input(count = nb_resources)] resources: *mut CUdevResource,
        nb_resources: c_uint,
    ) -> CUresult;

    #[row(584, refused = "not served yet: partitions of a device", blocks = never, since = 13010)]
    fn cuDevSmResourceSplit(
        #[out(count = nb_groups, nullable)] result: *mut CUdevResource,
        nb_groups: c_uint,
        #[input] input: *const CUdevResource,
        #[out(nullable)] remainder: *mut CUdevResource,
        flags: c_uint,
        #[inout(count = nb_groups)] group_params: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
    ) -> CUresult;

    #[row(585, refused = "not served yet: partitions of a device", blocks = never, since = 12040)]
    fn cuDevSmResourceSplitByCount(
        #[out(count = nb_groups, nullable)] result: *mut CUdevResource,
        #[inout] nb_groups: *mut c_uint,
        #[input] input: *const CUdevResource,
        #[out(nullable)] remaining: *mut CUdevResource,
        use_flags: c_uint,
        min_count: c_uint,
    ) -> CUresult;

    #[row(586, refused = "not served yet: partitions of a device", blocks = never, since = 12040)]
    fn cuDeviceGetDevResource(
        dev: CUdevice,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(
        587,
        refused = "not served yet: partitions of a device",
        blocks = unbounded,
        since = 12040
    )]
    fn cuGreenCtxCreate(
        #[creates] ctx: *mut CUgreenCtx,
        desc: CUdevResourceDesc,
        dev: CUdevice,
        flags: c_uint,
    ) -> CUresult;

    #[row(
        588,
        refused = "not served yet: partitions of a device",
        blocks = unbounded,
        since = 12040
    )]
    fn cuGreenCtxDestroy(#[destroys] ctx: CUgreenCtx) -> CUresult;

    #[row(589, refused = "not served yet: partitions of a device", blocks = never, since = 12040)]
    fn cuGreenCtxGetDevResource(
        ctx: CUgreenCtx,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(590, refused = "not served yet: partitions of a device", blocks = never, since = 12090)]
    fn cuGreenCtxGetId(green_ctx: CUgreenCtx, #[out] green_ctx_id: *mut c_ulonglong) -> CUresult;

    #[row(591, refused = "not served yet: partitions of a device", blocks = device, since = 12040)]
    fn cuGreenCtxRecordEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult;

    #[row(592, refused = "not served yet: partitions of a device", blocks = device, since = 12050)]
    fn cuGreenCtxStreamCreate(
        #[creates] stream: *mut CUstream,
        green_ctx: CUgreenCtx,
        flags: c_uint,
        priority: c_int,
    ) -> CUresult;

    #[row(593, refused = "not served yet: partitions of a device", blocks = device, since = 12040)]
    fn cuGreenCtxWaitEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult;

    #[row(
        594,
        refused = "not served yet: partitions of a device",
        blocks = never,
        since = 13010,
        ptsz = 13010
    )]
    fn cuStreamGetDevResource(
        stream: CUstream,
        #[out] result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(595, local, blocks = never, since = 12040, test = "surface_stream")]
    fn cuStreamGetGreenCtx(stream: CUstream, #[out] ctx: *mut CUgreenCtx) -> CUresult;
}
