//! Green contexts and device resources.

unsafe extern "C" {
    #[row(581, refused = "not served yet", since = 12040)]
    fn cuCtxFromGreenCtx(context: *mut CUcontext, ctx: CUgreenCtx) -> CUresult;

    #[row(582, refused = "not served yet", since = 12040)]
    fn cuCtxGetDevResource(
        ctx: CUcontext,
        result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(583, refused = "not served yet", since = 12040)]
    fn cuDevResourceGenerateDesc(
        desc: *mut CUdevResourceDesc,
        resources: *mut CUdevResource,
        nb_resources: c_uint,
    ) -> CUresult;

    #[row(584, refused = "not served yet", since = 13010)]
    fn cuDevSmResourceSplit(
        result: *mut CUdevResource,
        nb_groups: c_uint,
        input: *const CUdevResource,
        remainder: *mut CUdevResource,
        flags: c_uint,
        group_params: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
    ) -> CUresult;

    #[row(585, refused = "not served yet", since = 12040)]
    fn cuDevSmResourceSplitByCount(
        result: *mut CUdevResource,
        nb_groups: *mut c_uint,
        input: *const CUdevResource,
        remaining: *mut CUdevResource,
        use_flags: c_uint,
        min_count: c_uint,
    ) -> CUresult;

    #[row(586, refused = "not served yet", since = 12040)]
    fn cuDeviceGetDevResource(
        dev: CUdevice,
        result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(587, refused = "not served yet", since = 12040)]
    fn cuGreenCtxCreate(
        ctx: *mut CUgreenCtx,
        desc: CUdevResourceDesc,
        dev: CUdevice,
        flags: c_uint,
    ) -> CUresult;

    #[row(588, refused = "not served yet", since = 12040)]
    fn cuGreenCtxDestroy(ctx: CUgreenCtx) -> CUresult;

    #[row(589, refused = "not served yet", since = 12040)]
    fn cuGreenCtxGetDevResource(
        ctx: CUgreenCtx,
        result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(590, refused = "not served yet", since = 12090)]
    fn cuGreenCtxGetId(green_ctx: CUgreenCtx, green_ctx_id: *mut c_ulonglong) -> CUresult;

    #[row(591, refused = "not served yet", since = 12040)]
    fn cuGreenCtxRecordEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult;

    #[row(592, refused = "not served yet", since = 12050)]
    fn cuGreenCtxStreamCreate(
        stream: *mut CUstream,
        green_ctx: CUgreenCtx,
        flags: c_uint,
        priority: c_int,
    ) -> CUresult;

    #[row(593, refused = "not served yet", since = 12040)]
    fn cuGreenCtxWaitEvent(ctx: CUgreenCtx, event: CUevent) -> CUresult;

    #[row(594, refused = "not served yet", since = 13010, ptsz = 13010)]
    fn cuStreamGetDevResource(
        stream: CUstream,
        result: *mut CUdevResource,
        kind: CUdevResourceType,
    ) -> CUresult;

    #[row(595, refused = "not served yet", since = 12040)]
    fn cuStreamGetGreenCtx(stream: CUstream, ctx: *mut CUgreenCtx) -> CUresult;
}
