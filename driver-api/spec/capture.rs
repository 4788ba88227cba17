//! Stream capture.

unsafe extern "C" {
    #[row(464, local, blocks = never, since = 10000, ptsz = 10000, test = "surface_graph")]
    fn cuStreamBeginCapture(stream: CUstream) -> CUresult;

    #[row(465, refused = "graphics interoperation needs a display device on this machine", blocks = never, since = 13010, ptsz = 13010)]
    fn cuStreamBeginCaptureToCig(
        stream: CUstream,
        #[input] stream_cig_capture_params: *mut CUstreamCigCaptureParams,
    ) -> CUresult;

    #[row(466, local, blocks = never, since = 12030, ptsz = 12030, test = "surface_graph")]
    fn cuStreamBeginCaptureToGraph(
        stream: CUstream,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] dependency_data: *const CUgraphEdgeData,
        num_dependencies: usize,
        mode: CUstreamCaptureMode,
    ) -> CUresult;

    #[row(467, local, blocks = never, since = 10010, ptsz = 10010, test = "surface_graph")]
    fn cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode) -> CUresult;

    #[row(468, refused = "a graph is not compared with what is captured: it is captured anew", blocks = never, since = 13030, ptsz = 13030)]
    fn cuStreamBeginRecaptureToGraph(
        stream: CUstream,
        mode: CUstreamCaptureMode,
        graph: CUgraph,
        callback_func: CUgraphRecaptureCallback,
        #[address] user_data: *mut c_void,
    ) -> CUresult;

    #[row(469, local, blocks = never, since = 10000, ptsz = 10000, test = "surface_graph")]
    fn cuStreamEndCapture(stream: CUstream, #[creates] graph: *mut CUgraph) -> CUresult;

    #[row(470, refused = "graphics interoperation needs a display device on this machine", blocks = never, since = 13010, ptsz = 13010)]
    fn cuStreamEndCaptureToCig(stream: CUstream) -> CUresult;

    #[row(471, local, blocks = never, since = 10010, ptsz = 10010, test = "surface_graph")]
    fn cuStreamGetCaptureInfo(
        stream: CUstream,
        #[out] capture_status_out: *mut CUstreamCaptureStatus,
        #[out(nullable)] id_out: *mut u64,
    ) -> CUresult;

    #[row(472, local, blocks = never, since = 11030, ptsz = 11030, test = "surface_graph")]
    fn cuStreamGetCaptureInfo_v2(
        stream: CUstream,
        #[out] capture_status_out: *mut CUstreamCaptureStatus,
        #[out(nullable)] id_out: *mut u64,
        #[out(nullable)] graph_out: *mut CUgraph,
        #[out(nullable)] dependencies_out: *mut *const CUgraphNode,
        #[out(nullable)] num_dependencies_out: *mut usize,
    ) -> CUresult;

    #[row(473, local, blocks = never, since = 12030, ptsz = 12030, test = "surface_graph")]
    fn cuStreamGetCaptureInfo_v3(
        stream: CUstream,
        #[out] capture_status_out: *mut CUstreamCaptureStatus,
        #[out(nullable)] id_out: *mut u64,
        #[out(nullable)] graph_out: *mut CUgraph,
        #[out(nullable)] dependencies_out: *mut *const CUgraphNode,
        #[out(nullable)] edge_data_out: *mut *const CUgraphEdgeData,
        #[out(nullable)] num_dependencies_out: *mut usize,
    ) -> CUresult;

    #[row(474, local, blocks = never, since = 10000, ptsz = 10000, test = "surface_graph")]
    fn cuStreamIsCapturing(
        stream: CUstream,
        #[out] capture_status: *mut CUstreamCaptureStatus,
    ) -> CUresult;

    #[row(475, local, blocks = never, since = 11030, ptsz = 11030, test = "surface_graph")]
    fn cuStreamUpdateCaptureDependencies(
        stream: CUstream,
        #[input(count = num_dependencies)] dependencies: *mut CUgraphNode,
        num_dependencies: usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(476, local, blocks = never, since = 12030, ptsz = 12030, test = "surface_graph")]
    fn cuStreamUpdateCaptureDependencies_v2(
        stream: CUstream,
        #[input(count = num_dependencies)] dependencies: *mut CUgraphNode,
        #[input(count = num_dependencies, nullable)] dependency_data: *const CUgraphEdgeData,
        num_dependencies: usize,
        flags: c_uint,
    ) -> CUresult;

    #[row(477, local, blocks = never, since = 10010, test = "surface_graph")]
    fn cuThreadExchangeStreamCaptureMode(#[inout] mode: *mut CUstreamCaptureMode) -> CUresult;
}
