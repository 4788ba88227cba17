//! Graphs.

unsafe extern "C" {
    /// A graph of the driver's own, of a list of nodes ([`crate::device_graph`]) that comes in parts; made by the last one, in the current context.
    /// One with conditions is made of the graph `within`, which has them; else that is 0.
    #[row(68, private, asked, custom = worker, blocks = device)]
    fn gpurunGraphMake(graph: u32, within: u32, is_last: u32, #[rest] nodes: &[u8]) -> CUresult;

    /// A launch of such a graph.
    #[row(69, private, posted, custom = worker, blocks = device)]
    fn gpurunGraphLaunch(graph: u32, stream: CUstream) -> CUresult;

    /// Its end.
    #[row(59, private, posted, custom = worker, blocks = device)]
    fn gpurunGraphEnd(graph: u32) -> CUresult;

    /// A condition's handle, in the current context; the first one makes the graph `within`. It is made for that, or for a body of the node `node`, if
    /// that is not 0.
    #[row(35, private, asked, custom = worker, blocks = device)]
    fn gpurunConditionMake(
        within: u32,
        node: u32,
        body: u32,
        default_launch_value: c_uint,
        flags: c_uint,
        #[out] handle: *mut u64,
    ) -> CUresult;

    /// A node with a condition, named by the client, in the graph `within` or in a body of the node `around`, if that is not 0.
    #[row(36, private, asked, custom = worker, blocks = device)]
    fn gpurunConditionalMake(
        within: u32,
        around: u32,
        body: u32,
        node: u32,
        handle: u64,
        kind: c_uint,
        size: c_uint,
    ) -> CUresult;

    /// The end of such a node, and of what is in its bodies.
    #[row(37, private, posted, custom = worker, blocks = device)]
    fn gpurunConditionalEnd(within: u32, node: u32) -> CUresult;

    /// The end of a graph that has conditions.
    #[row(38, private, posted, custom = worker, blocks = device)]
    fn gpurunConditionsEnd(within: u32) -> CUresult;

    #[row(478, local, blocks = never, since = 11040, test = "surface_graph")]
    fn cuDeviceGetGraphMemAttribute(
        device: CUdevice,
        attr: CUgraphMem_attribute,
        #[out(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(479, local, blocks = device, since = 11040, test = "surface_graph")]
    fn cuDeviceGraphMemTrim(device: CUdevice) -> CUresult;

    #[row(480, local, blocks = never, since = 11040, test = "surface_graph")]
    fn cuDeviceSetGraphMemAttribute(
        device: CUdevice,
        attr: CUgraphMem_attribute,
        #[input(chosen_by = attr)] value: *mut c_void,
    ) -> CUresult;

    #[row(481, local, blocks = never, since = 11070, test = "surface_graph")]
    fn cuGraphAddBatchMemOpNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(482, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddChildGraphNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        child_graph: CUgraph,
    ) -> CUresult;

    #[row(483, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddDependencies(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(484, local, blocks = never, since = 12030, test = "surface_graph")]
    fn cuGraphAddDependencies_v2(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] edge_data: *const CUgraphEdgeData,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(485, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddEmptyNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(486, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphAddEventRecordNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        event: CUevent,
    ) -> CUresult;

    #[row(487, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphAddEventWaitNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        event: CUevent,
    ) -> CUresult;

    #[row(488, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphAddExternalSemaphoresSignalNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(489, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphAddExternalSemaphoresWaitNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(490, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddHostNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(491, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddKernelNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(492, local, blocks = never, since = 12000, test = "surface_graph")]
    fn cuGraphAddKernelNode_v2(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(493, local, blocks = never, since = 11040, test = "surface_graph")]
    fn cuGraphAddMemAllocNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[inout] node_params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) -> CUresult;

    #[row(494, local, blocks = never, since = 11040, test = "surface_graph")]
    fn cuGraphAddMemFreeNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        dptr: CUdeviceptr,
    ) -> CUresult;

    #[row(495, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddMemcpyNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] copy_params: *const CUDA_MEMCPY3D,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(496, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphAddMemsetNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[input] memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(497, local, blocks = never, since = 12020, test = "surface_graph")]
    fn cuGraphAddNode(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        num_dependencies: usize,
        #[inout] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(498, local, blocks = never, since = 12030, test = "surface_graph")]
    fn cuGraphAddNode_v2(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] dependency_data: *const CUgraphEdgeData,
        num_dependencies: usize,
        #[inout] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(499, local, blocks = never, since = 13040, test = "surface_graph")]
    fn cuGraphAddNode_v3(
        #[creates] graph_node: *mut CUgraphNode,
        graph: CUgraph,
        #[input(count = num_dependencies)] dependencies: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] dependency_data: *const CUgraphEdgeData,
        num_dependencies: usize,
        #[inout] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(500, local, blocks = never, since = 11070, test = "surface_graph")]
    fn cuGraphBatchMemOpNodeGetParams(
        node: CUgraphNode,
        #[out] node_params_out: *mut CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(501, local, blocks = never, since = 11070, test = "surface_graph")]
    fn cuGraphBatchMemOpNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(502, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphChildGraphNodeGetGraph(node: CUgraphNode, #[out] graph: *mut CUgraph) -> CUresult;

    #[row(503, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphClone(#[creates] graph_clone: *mut CUgraph, original_graph: CUgraph) -> CUresult;

    #[row(504, local, blocks = device, since = 12030, test = "surface_conditional")]
    fn cuGraphConditionalHandleCreate(
        #[creates] handle_out: *mut CUgraphConditionalHandle,
        graph: CUgraph,
        ctx: CUcontext,
        default_launch_value: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(505, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphCreate(#[creates] graph: *mut CUgraph, flags: c_uint) -> CUresult;

    #[row(506, local, blocks = never, since = 11030, test = "surface_graph")]
    fn cuGraphDebugDotPrint(
        graph: CUgraph,
        #[input(text)] path: *const c_char,
        flags: c_uint,
    ) -> CUresult;

    #[row(507, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphDestroy(#[destroys] graph: CUgraph) -> CUresult;

    #[row(508, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphDestroyNode(#[destroys] node: CUgraphNode) -> CUresult;

    #[row(509, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphEventRecordNodeGetEvent(
        node: CUgraphNode,
        #[out] event_out: *mut CUevent,
    ) -> CUresult;

    #[row(510, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult;

    #[row(511, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphEventWaitNodeGetEvent(node: CUgraphNode, #[out] event_out: *mut CUevent) -> CUresult;

    #[row(512, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) -> CUresult;

    #[row(513, local, blocks = never, since = 11070, test = "surface_graph")]
    fn cuGraphExecBatchMemOpNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) -> CUresult;

    #[row(514, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphExecChildGraphNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        child_graph: CUgraph,
    ) -> CUresult;

    #[row(515, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphExecDestroy(#[destroys] graph_exec: CUgraphExec) -> CUresult;

    #[row(516, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphExecEventRecordNodeSetEvent(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        event: CUevent,
    ) -> CUresult;

    #[row(517, local, blocks = never, since = 11010, test = "surface_graph")]
    fn cuGraphExecEventWaitNodeSetEvent(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        event: CUevent,
    ) -> CUresult;

    #[row(518, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphExecExternalSemaphoresSignalNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(519, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphExecExternalSemaphoresWaitNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(520, local, blocks = never, since = 12000, test = "surface_graph")]
    fn cuGraphExecGetFlags(graph_exec: CUgraphExec, #[out] flags: *mut u64) -> CUresult;

    #[row(521, local, blocks = never, since = 13010, test = "surface_graph")]
    fn cuGraphExecGetId(graph_exec: CUgraphExec, #[out] graph_id: *mut c_uint) -> CUresult;

    #[row(522, local, blocks = never, since = 10020, test = "surface_graph")]
    fn cuGraphExecHostNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(523, local, blocks = never, since = 10010, test = "surface_graph")]
    fn cuGraphExecKernelNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(524, local, blocks = never, since = 12000, test = "surface_graph")]
    fn cuGraphExecKernelNodeSetParams_v2(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(525, local, blocks = never, since = 10020, test = "surface_graph")]
    fn cuGraphExecMemcpyNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] copy_params: *const CUDA_MEMCPY3D,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(526, local, blocks = never, since = 10020, test = "surface_graph")]
    fn cuGraphExecMemsetNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] memset_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
        ctx: CUcontext,
    ) -> CUresult;

    #[row(527, local, blocks = never, since = 12020, test = "surface_graph")]
    fn cuGraphExecNodeSetParams(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[input] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(528, local, blocks = device, since = 10020, test = "surface_graph")]
    fn cuGraphExecUpdate(
        graph_exec: CUgraphExec,
        graph: CUgraph,
        #[out(nullable)] error_node_out: *mut CUgraphNode,
        #[out] update_result_out: *mut CUgraphExecUpdateResult,
    ) -> CUresult;

    #[row(529, local, blocks = device, since = 12000, test = "surface_graph")]
    fn cuGraphExecUpdate_v2(
        graph_exec: CUgraphExec,
        graph: CUgraph,
        #[out] result_info: *mut CUgraphExecUpdateResultInfo,
    ) -> CUresult;

    #[row(530, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresSignalNodeGetParams(
        node: CUgraphNode,
        #[out] params_out: *mut CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(531, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresSignalNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(532, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresWaitNodeGetParams(
        node: CUgraphNode,
        #[out] params_out: *mut CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(533, refused = "external semaphores are of another process or device, which is not here", blocks = never, since = 11020)]
    fn cuGraphExternalSemaphoresWaitNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_EXT_SEM_WAIT_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(534, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphGetEdges(
        graph: CUgraph,
        #[out(count = num_edges, nullable)] from: *mut CUgraphNode,
        #[out(count = num_edges, nullable)] to: *mut CUgraphNode,
        #[inout] num_edges: *mut usize,
    ) -> CUresult;

    #[row(535, local, blocks = never, since = 12030, test = "surface_graph")]
    fn cuGraphGetEdges_v2(
        graph: CUgraph,
        #[out(count = num_edges, nullable)] from: *mut CUgraphNode,
        #[out(count = num_edges, nullable)] to: *mut CUgraphNode,
        #[out(count = num_edges, nullable)] edge_data: *mut CUgraphEdgeData,
        #[inout] num_edges: *mut usize,
    ) -> CUresult;

    #[row(536, local, blocks = never, since = 13010, test = "surface_graph")]
    fn cuGraphGetId(graph: CUgraph, #[out] graph_id: *mut c_uint) -> CUresult;

    #[row(537, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphGetNodes(
        graph: CUgraph,
        #[out(count = num_nodes, nullable)] nodes: *mut CUgraphNode,
        #[inout] num_nodes: *mut usize,
    ) -> CUresult;

    #[row(538, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphGetRootNodes(
        graph: CUgraph,
        #[out(count = num_root_nodes, nullable)] root_nodes: *mut CUgraphNode,
        #[inout] num_root_nodes: *mut usize,
    ) -> CUresult;

    #[row(539, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphHostNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(540, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphHostNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_HOST_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(541, local, blocks = device, since = 10000, test = "surface_graph")]
    fn cuGraphInstantiate(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        #[out(nullable)] error_node: *mut CUgraphNode,
        #[out(bytes = buffer_size, nullable)] log_buffer: *mut c_char,
        buffer_size: usize,
    ) -> CUresult;

    #[row(542, local, blocks = device, since = 11040, test = "surface_graph")]
    fn cuGraphInstantiateWithFlags(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        flags: c_ulonglong,
    ) -> CUresult;

    #[row(543, local, blocks = device, since = 12000, ptsz = 12000, test = "surface_graph")]
    fn cuGraphInstantiateWithParams(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        #[inout] instantiate_params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    ) -> CUresult;

    #[row(544, local, blocks = device, since = 11000, test = "surface_graph")]
    fn cuGraphInstantiate_v2(
        #[creates] graph_exec: *mut CUgraphExec,
        graph: CUgraph,
        #[out(nullable)] error_node: *mut CUgraphNode,
        #[out(bytes = buffer_size, nullable)] log_buffer: *mut c_char,
        buffer_size: usize,
    ) -> CUresult;

    #[row(545, local, blocks = never, since = 11000, test = "surface_graph")]
    fn cuGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode) -> CUresult;

    #[row(546, local, blocks = never, since = 11000, test = "surface_graph")]
    fn cuGraphKernelNodeGetAttribute(
        node: CUgraphNode,
        attr: CUkernelNodeAttrID,
        #[out] value_out: *mut CUkernelNodeAttrValue,
    ) -> CUresult;

    #[row(547, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphKernelNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(548, local, blocks = never, since = 12000, test = "surface_graph")]
    fn cuGraphKernelNodeGetParams_v2(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(549, local, blocks = never, since = 11000, test = "surface_graph")]
    fn cuGraphKernelNodeSetAttribute(
        node: CUgraphNode,
        attr: CUkernelNodeAttrID,
        #[input] value: *const CUkernelNodeAttrValue,
    ) -> CUresult;

    #[row(550, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphKernelNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(551, local, blocks = never, since = 12000, test = "surface_graph")]
    fn cuGraphKernelNodeSetParams_v2(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_KERNEL_NODE_PARAMS,
    ) -> CUresult;

    #[row(552, posted, via = gpurunLaunch, blocks = device, since = 10000, ptsz = 10000, test = "surface_graph")]
    fn cuGraphLaunch(graph: CUgraphExec, stream: CUstream) -> CUresult;

    #[row(553, local, blocks = never, since = 11040, test = "surface_graph")]
    fn cuGraphMemAllocNodeGetParams(
        node: CUgraphNode,
        #[out] params_out: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) -> CUresult;

    #[row(554, local, blocks = never, since = 11040, test = "surface_graph")]
    fn cuGraphMemFreeNodeGetParams(
        node: CUgraphNode,
        #[out] dptr_out: *mut CUdeviceptr,
    ) -> CUresult;

    #[row(555, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphMemcpyNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_MEMCPY3D,
    ) -> CUresult;

    #[row(556, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphMemcpyNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_MEMCPY3D,
    ) -> CUresult;

    #[row(557, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphMemsetNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUDA_MEMSET_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(558, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphMemsetNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *const CUDA_MEMSET_NODE_PARAMS_v1,
    ) -> CUresult;

    #[row(559, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphNodeFindInClone(
        #[out] node: *mut CUgraphNode,
        original_node: CUgraphNode,
        cloned_graph: CUgraph,
    ) -> CUresult;

    #[row(560, local, blocks = never, since = 13010, test = "surface_graph")]
    fn cuGraphNodeGetContainingGraph(node: CUgraphNode, #[out] graph: *mut CUgraph) -> CUresult;

    #[row(561, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphNodeGetDependencies(
        node: CUgraphNode,
        #[out(count = num_dependencies, nullable)] dependencies: *mut CUgraphNode,
        #[inout] num_dependencies: *mut usize,
    ) -> CUresult;

    #[row(562, local, blocks = never, since = 12030, test = "surface_graph")]
    fn cuGraphNodeGetDependencies_v2(
        node: CUgraphNode,
        #[out(count = num_dependencies, nullable)] dependencies: *mut CUgraphNode,
        #[out(count = num_dependencies, nullable)] edge_data: *mut CUgraphEdgeData,
        #[inout] num_dependencies: *mut usize,
    ) -> CUresult;

    #[row(563, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphNodeGetDependentNodes(
        node: CUgraphNode,
        #[out(count = num_dependent_nodes, nullable)] dependent_nodes: *mut CUgraphNode,
        #[inout] num_dependent_nodes: *mut usize,
    ) -> CUresult;

    #[row(564, local, blocks = never, since = 12030, test = "surface_graph")]
    fn cuGraphNodeGetDependentNodes_v2(
        node: CUgraphNode,
        #[out(count = num_dependent_nodes, nullable)] dependent_nodes: *mut CUgraphNode,
        #[out(count = num_dependent_nodes, nullable)] edge_data: *mut CUgraphEdgeData,
        #[inout] num_dependent_nodes: *mut usize,
    ) -> CUresult;

    #[row(565, local, blocks = never, since = 11060, test = "surface_graph")]
    fn cuGraphNodeGetEnabled(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        #[out] is_enabled: *mut c_uint,
    ) -> CUresult;

    #[row(566, local, blocks = never, since = 13010, test = "surface_graph")]
    fn cuGraphNodeGetLocalId(node: CUgraphNode, #[out] node_id: *mut c_uint) -> CUresult;

    #[row(567, local, blocks = never, since = 13020, test = "surface_graph")]
    fn cuGraphNodeGetParams(
        node: CUgraphNode,
        #[out] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(568, local, blocks = never, since = 13010, test = "surface_graph")]
    fn cuGraphNodeGetToolsId(node: CUgraphNode, #[out] node_id: *mut c_ulonglong) -> CUresult;

    #[row(569, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphNodeGetType(node: CUgraphNode, #[out] kind: *mut CUgraphNodeType) -> CUresult;

    #[row(570, local, blocks = never, since = 11060, test = "surface_graph")]
    fn cuGraphNodeSetEnabled(
        graph_exec: CUgraphExec,
        node: CUgraphNode,
        is_enabled: c_uint,
    ) -> CUresult;

    #[row(571, local, blocks = never, since = 12020, test = "surface_graph")]
    fn cuGraphNodeSetParams(
        node: CUgraphNode,
        #[input] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(572, local, blocks = never, since = 13040, test = "surface_graph")]
    fn cuGraphNodeSetParams_v2(
        node: CUgraphNode,
        #[input] node_params: *mut CUgraphNodeParams,
    ) -> CUresult;

    #[row(573, local, blocks = never, since = 11030, test = "surface_graph")]
    fn cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: c_uint) -> CUresult;

    #[row(574, local, blocks = never, since = 10000, test = "surface_graph")]
    fn cuGraphRemoveDependencies(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(575, local, blocks = never, since = 12030, test = "surface_graph")]
    fn cuGraphRemoveDependencies_v2(
        graph: CUgraph,
        #[input(count = num_dependencies)] from: *const CUgraphNode,
        #[input(count = num_dependencies)] to: *const CUgraphNode,
        #[input(count = num_dependencies, nullable)] edge_data: *const CUgraphEdgeData,
        num_dependencies: usize,
    ) -> CUresult;

    #[row(576, local, blocks = never, since = 11030, test = "surface_graph")]
    fn cuGraphRetainUserObject(
        graph: CUgraph,
        object: CUuserObject,
        count: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(577, local, blocks = device, since = 11010, ptsz = 11010, test = "surface_graph")]
    fn cuGraphUpload(graph: CUgraphExec, stream: CUstream) -> CUresult;

    #[row(578, local, blocks = never, since = 11030, test = "surface_graph")]
    fn cuUserObjectCreate(
        #[creates] object_out: *mut CUuserObject,
        #[address] ptr: *mut c_void,
        destroy: CUhostFn,
        initial_refcount: c_uint,
        flags: c_uint,
    ) -> CUresult;

    #[row(579, local, blocks = never, since = 11030, test = "surface_graph")]
    fn cuUserObjectRelease(object: CUuserObject, count: c_uint) -> CUresult;

    #[row(580, local, blocks = never, since = 11030, test = "surface_graph")]
    fn cuUserObjectRetain(object: CUuserObject, count: c_uint) -> CUresult;
}
