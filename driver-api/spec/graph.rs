//! Graphs.

unsafe extern "C" {
    #[row(478, refused = "not served yet: graphs", blocks = never, since = 11040)]
    fn cuDeviceGetGraphMemAttribute(
        device: CUdevice,
        attr: CUgraphMem_attribute,
        #[out(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(479, refused = "not served yet: graphs", blocks = device, since = 11040)]
    fn cuDeviceGraphMemTrim(device: CUdevice) -> CUresult;

    #[row(480, refused = "not served yet: graphs", blocks = never, since = 11040)]
    fn cuDeviceSetGraphMemAttribute(
        device: CUdevice,
        attr: CUgraphMem_attribute,
        #[input(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(481, refused = "not served yet: graphs", blocks = never, since = 11070)]
    fn cuGraphAddBatchMemOpNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(482, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddChildGraphNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        child_graph: CUgraph,
    ) -> CUresult;

    #[row(483, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddDependencies(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(484, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphAddDependencies_v2(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] edge_data: *const CUgraphEdgeData,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(485, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddEmptyNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(486, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphAddEventRecordNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        event: CUevent,
    ) -> CUresult;

    #[row(487, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphAddEventWaitNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        event: CUevent,
    ) -> CUresult;

    #[row(488, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphAddExternalSemaphoresSignalNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(489, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphAddExternalSemaphoresWaitNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(490, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddHostNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(491, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddKernelNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(492, refused = "not served yet: graphs", blocks = never, since = 12000)]
    fn cuGraphAddKernelNode_v2(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(493, refused = "not served yet: graphs", blocks = never, since = 11040)]
    fn cuGraphAddMemAllocNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[inout] node_params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) -> CUresult;

    #[row(494, refused = "not served yet: graphs", blocks = never, since = 11040)]
    fn cuGraphAddMemFreeNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        dptr: CUdeviceptr,
    ) -> CUresult;

    #[row(495, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddMemcpyNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] copy_params: *const CUDA_MEMCPY3D,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(496, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphAddMemsetNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(497, refused = "not served yet: graphs", blocks = never, since = 12020)]
    fn cuGraphAddNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[inout] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(498, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphAddNode_v2(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] dependency_data: *const CUgraphEdgeData,
        num_dependencies: usize,
        #[inout] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(499, refused = "not served yet: graphs", blocks = never, since = 13040)]
    fn cuGraphAddNode_v3(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] dependency_data: *const CUgraphEdgeData,
        num_dependencies: usize,
        #[inout] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(500, refused = "not served yet: graphs", blocks = never, since = 11070)]
    fn cuGraphBatchMemOpNodeGetParams(
        node: CUgraphNode,
        #[out] node_params_out: *mut CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(501, refused = "not served yet: graphs", blocks = never, since = 11070)]
    fn cuGraphBatchMemOpNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(502, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphChildGraphNodeGetGraph(node: CUgraphNode, #[out] graph: *mut CUgraph) -> CUresult;

    #[row(503, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphClone(#[creates] graph_clone: *mut CUgraph, original_graph: CUgraph) -> CUresult;

    #[row(504, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphConditionalHandleCreate(
        #[creates] handle_out: *mut CUgraphConditionalHandle,
        graph: CUgraph,
        ctx: CUcontext,
        default_launch_value: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(505, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphCreate(#[creates] graph: *mut CUgraph, flags: c_uint) -> CUresult;

    #[row(506, refused = "not served yet: graphs", blocks = never, since = 11030)]
    fn cuGraphDebugDotPrint(
        graph: CUgraph,
        #[input(text)] path: *const c_char,
        flags: c_uint,
    ) -> CUresult;

    #[row(507, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphDestroy(#[destroys] graph: CUgraph) -> CUresult;

    #[row(508, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphDestroyNode(#[destroys] node: CUgraphNode) -> CUresult;

    #[row(509, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphEventRecordNodeGetEvent(
        node: CUgraphNode,
        #[out] event_out: *mut CUevent,
    ) -> CUresult;

    #[row(510, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult;

    #[row(511, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphEventWaitNodeGetEvent(node: CUgraphNode, #[out] event_out: *mut CUevent) -> CUresult;

    #[row(512, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult;

    #[row(513, refused = "not served yet: graphs", blocks = never, since = 11070)]
    fn cuGraphExecBatchMemOpNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(514, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphExecChildGraphNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        child_graph: CUgraph,
    ) -> CUresult;

    #[row(515, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphExecDestroy(#[destroys] graph_exec: CUgraphExec) -> CUresult;

    #[row(516, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphExecEventRecordNodeSetEvent(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        event: CUevent,
    ) -> CUresult;

    #[row(517, refused = "not served yet: graphs", blocks = never, since = 11010)]
    fn cuGraphExecEventWaitNodeSetEvent(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        event: CUevent,
    ) -> CUresult;

    #[row(518, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphExecExternalSemaphoresSignalNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(519, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphExecExternalSemaphoresWaitNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(520, refused = "not served yet: graphs", blocks = never, since = 12000)]
    fn cuGraphExecGetFlags(graph_exec: CUgraphExec, #[out] flags: *mut u64) -> CUresult;

    #[row(521, refused = "not served yet: graphs", blocks = never, since = 13010)]
    fn cuGraphExecGetId(graph_exec: CUgraphExec, #[out] graph_id: *mut c_uint) -> CUresult;

    #[row(522, refused = "not served yet: graphs", blocks = never, since = 10020)]
    fn cuGraphExecHostNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(523, refused = "not served yet: graphs", blocks = never, since = 10010)]
    fn cuGraphExecKernelNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(524, refused = "not served yet: graphs", blocks = never, since = 12000)]
    fn cuGraphExecKernelNodeSetParams_v2(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(525, refused = "not served yet: graphs", blocks = never, since = 10020)]
    fn cuGraphExecMemcpyNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] copy_params: *const CUDA_MEMCPY3D,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(526, refused = "not served yet: graphs", blocks = never, since = 10020)]
    fn cuGraphExecMemsetNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(527, refused = "not served yet: graphs", blocks = never, since = 12020)]
    fn cuGraphExecNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(528, refused = "not served yet: graphs", blocks = device, since = 10020)]
    fn cuGraphExecUpdate(
        graph_exec: CUgraphExec,
        graph: CUgraph,
        #[out(nullable)] error_node_out: *mut CUgraphNode,
        #[out] update_result_out: *mut CUgraphExecUpdateResult,
    ) -> CUresult;

    #[row(529, refused = "not served yet: graphs", blocks = device, since = 12000)]
    fn cuGraphExecUpdate_v2(
        graph_exec: CUgraphExec,
        graph: CUgraph,
        #[out] result_info: *mut CUgraphExecUpdateResultInfo,
    ) -> CUresult;

    #[row(530, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresSignalNodeGetParams(
        node: CUgraphNode,
        #[out] params_out: *mut CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(531, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresSignalNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(532, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresWaitNodeGetParams(
        node: CUgraphNode,
        #[out] params_out: *mut CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(533, refused = "not served yet: graphs", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresWaitNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(534, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphGetEdges(
        graph: CUgraph,
        #[out(count = num_edges, nullable)] from: *mut CUgraphNode,
        #[out(count = num_edges, nullable)] to: *mut CUgraphNode,
        #[inout] num_edges: *mut usize,
    ) -> CUresult;

    #[row(535, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphGetEdges_v2(
        graph: CUgraph,
        #[out(count = num_edges, nullable)] from: *mut CUgraphNode,
        #[out(count = num_edges, nullable)] to: *mut CUgraphNode,
        #[out(count = num_edges, nullable)] edge_data: *mut CUgraphEdgeData,
        #[inout] num_edges: *mut usize,
    ) -> CUresult;

    #[row(536, refused = "not served yet: graphs", blocks = never, since = 13010)]
    fn cuGraphGetId(graph: CUgraph, #[out] graph_id: *mut c_uint) -> CUresult;

    #[row(537, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphGetNodes(
        graph: CUgraph,
        #[out(count = num_nodes, nullable)] nodes: *mut CUgraphNode,
        #[inout] num_nodes: *mut usize,
    ) -> CUresult;

    #[row(538, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphGetRootNodes(
        graph: CUgraph,
        #[out(count = num_root_nodes, nullable)] root_nodes: *mut CUgraphNode,
        #[inout] num_root_nodes: *mut usize,
    ) -> CUresult;

    #[row(539, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphHostNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(540, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphHostNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(541, refused = "not served yet: graphs", blocks = device, since = 10000)]
    fn cuGraphInstantiate(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        #[out(nullable)] error_node: *mut CUgraphNode,
        #[out(bytes = buffer_size, nullable)] log_buffer: *mut c_char,
        buffer_size: usize,
    ) -> CUresult;

    #[row(542, refused = "not served yet: graphs", blocks = device, since = 11040)]
    fn cuGraphInstantiateWithFlags(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(543, refused = "not served yet: graphs", blocks = device, since = 12000, ptsz = 12000)]
    fn cuGraphInstantiateWithParams(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        #[inout] instantiate_params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    ) -> CUresult;

    #[row(544, refused = "not served yet: graphs", blocks = device, since = 11000)]
    fn cuGraphInstantiate_v2(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        #[out(nullable)] error_node: *mut CUgraphNode,
        #[out(bytes = buffer_size, nullable)] log_buffer: *mut c_char,
        buffer_size: usize,
    ) -> CUresult;

    #[row(545, refused = "not served yet: graphs", blocks = never, since = 11000)]
    fn cuGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode) -> CUresult;

    #[row(546, refused = "not served yet: graphs", blocks = never, since = 11000)]
    fn cuGraphKernelNodeGetAttribute(
        node: CUgraphNode,
        attr: CUkernelNodeAttrID,
        #[out] value_out: *mut CUkernelNodeAttrValue,
    ) -> CUresult;

    #[row(547, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphKernelNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(548, refused = "not served yet: graphs", blocks = never, since = 12000)]
    fn cuGraphKernelNodeGetParams_v2(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(549, refused = "not served yet: graphs", blocks = never, since = 11000)]
    fn cuGraphKernelNodeSetAttribute(
        node: CUgraphNode,
        attr: CUkernelNodeAttrID,
        #[input] value: *const CUkernelNodeAttrValue,
    ) -> CUresult;

    #[row(550, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphKernelNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(551, refused = "not served yet: graphs", blocks = never, since = 12000)]
    fn cuGraphKernelNodeSetParams_v2(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(552, refused = "not served yet: graphs", blocks = device, since = 10000, ptsz = 10000)]
    fn cuGraphLaunch(graph: CUgraphExec, stream: CUstream) -> CUresult;

    #[row(553, refused = "not served yet: graphs", blocks = never, since = 11040)]
    fn cuGraphMemAllocNodeGetParams(
        node: CUgraphNode,
        #[out] params_out: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) -> CUresult;

    #[row(554, refused = "not served yet: graphs", blocks = never, since = 11040)]
    fn cuGraphMemFreeNodeGetParams(
        node: CUgraphNode,
        #[out] dptr_out: *mut CUdeviceptr,
    ) -> CUresult;

    #[row(555, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphMemcpyNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_MEMCPY3D,
    ) -> CUresult;

    #[row(556, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphMemcpyNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_MEMCPY3D,
    ) -> CUresult;

    #[row(557, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphMemsetNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_MEMSET_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(558, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphMemsetNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(559, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphNodeFindInClone(
        #[out] node: *mut CUgraphNode,
        original_node: CUgraphNode,
        cloned_graph: CUgraph,
    ) -> CUresult;

    #[row(560, refused = "not served yet: graphs", blocks = never, since = 13010)]
    fn cuGraphNodeGetContainingGraph(node: CUgraphNode, #[out] graph: *mut CUgraph) -> CUresult;

    #[row(561, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphNodeGetDependencies(
        node: CUgraphNode,
        #[out(count = num_dependencies, nullable)] dependencies: *mut CUgraphNode,
        #[inout] num_dependencies: *mut usize,
    ) -> CUresult;

    #[row(562, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphNodeGetDependencies_v2(
        node: CUgraphNode,
        #[out(count = num_dependencies, nullable)] dependencies: *mut CUgraphNode,
        #[out(count = num_dependencies, nullable)] edge_data: *mut CUgraphEdgeData,
        #[inout] num_dependencies: *mut usize,
    ) -> CUresult;

    #[row(563, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphNodeGetDependentNodes(
        node: CUgraphNode,
        #[out(count = num_dependent_nodes, nullable)] dependent_nodes: *mut CUgraphNode,
        #[inout] num_dependent_nodes: *mut usize,
    ) -> CUresult;

    #[row(564, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphNodeGetDependentNodes_v2(
        node: CUgraphNode,
        #[out(count = num_dependent_nodes, nullable)] dependent_nodes: *mut CUgraphNode,
        #[out(count = num_dependent_nodes, nullable)] edge_data: *mut CUgraphEdgeData,
        #[inout] num_dependent_nodes: *mut usize,
    ) -> CUresult;

    #[row(565, refused = "not served yet: graphs", blocks = never, since = 11060)]
    fn cuGraphNodeGetEnabled(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[out] is_enabled: *mut c_uint,
    ) -> CUresult;

    #[row(566, refused = "not served yet: graphs", blocks = never, since = 13010)]
    fn cuGraphNodeGetLocalId(node: CUgraphNode, #[out] node_id: *mut c_uint) -> CUresult;

    #[row(567, refused = "not served yet: graphs", blocks = never, since = 13020)]
    fn cuGraphNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(568, refused = "not served yet: graphs", blocks = never, since = 13010)]
    fn cuGraphNodeGetToolsId(node: CUgraphNode, #[out] node_id: *mut c_ulonglong) -> CUresult;

    #[row(569, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphNodeGetType(node: CUgraphNode, #[out] kind: *mut CUgraphNodeType) -> CUresult;

    #[row(570, refused = "not served yet: graphs", blocks = never, since = 11060)]
    fn cuGraphNodeSetEnabled(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        is_enabled: c_uint,
    ) -> CUresult;

    #[row(571, refused = "not served yet: graphs", blocks = never, since = 12020)]
    fn cuGraphNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(572, refused = "not served yet: graphs", blocks = never, since = 13040)]
    fn cuGraphNodeSetParams_v2(
        node: CUgraphNode,
        #[input] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(573, refused = "not served yet: graphs", blocks = never, since = 11030)]
    fn cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: c_uint) -> CUresult;

    #[row(574, refused = "not served yet: graphs", blocks = never, since = 10000)]
    fn cuGraphRemoveDependencies(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(575, refused = "not served yet: graphs", blocks = never, since = 12030)]
    fn cuGraphRemoveDependencies_v2(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] edge_data: *const CUgraphEdgeData,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(576, refused = "not served yet: graphs", blocks = never, since = 11030)]
    fn cuGraphRetainUserObject(
        graph: CUgraph,
        object: CUuserObject,
        count: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(577, refused = "not served yet: graphs", blocks = device, since = 11010, ptsz = 11010)]
    fn cuGraphUpload(graph: CUgraphExec, stream: CUstream) -> CUresult;

    #[row(578, refused = "not served yet: graphs", blocks = never, since = 11030)]
    fn cuUserObjectCreate(
        #[creates] object_out: *mut CUuserObject,
        #[address] ptr: *mut c_void,
        destroy: CUhostFn,
        initial_refcount: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(579, refused = "not served yet: graphs", blocks = never, since = 11030)]
    fn cuUserObjectRelease(object: CUuserObject, count: c_uint) -> CUresult;

    #[row(580, refused = "not served yet: graphs", blocks = never, since = 11030)]
    fn cuUserObjectRetain(object: CUuserObject, count: c_uint) -> CUresult;
}
