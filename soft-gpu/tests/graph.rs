//! Graphs and stream capture, through the driver's own exports.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use driver_api::abi::{
    CUDA_MEMCPY3D, CUcontext, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUresult,
    CUstream, CUuserObject,
};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
mod device;

use device::{allocate, context, load, read};

/// Appends a decimal digit to a number: what has run, and in which order.
const APPEND: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 at, .param .u32 digit)
{
    .reg .b64 %a; .reg .b32 %v, %d;
    ld.param.u64 %a, [at];
    ld.param.u32 %d, [digit];
    ld.global.u32 %v, [%a];
    mad.lo.u32 %v, %v, 10, %d;
    st.global.u32 [%a], %v;
    ret;
}
";

fn append(function: CUfunction, mut at: u64, mut digit: u32, stream: CUstream) -> CUresult {
    let mut parameters = [(&raw mut at).cast::<c_void>(), (&raw mut digit).cast()];
    let parameters = parameters.as_mut_ptr();
    cu!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        stream,
        parameters,
        null_mut()
    ))
}

fn stream() -> CUstream {
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    stream
}

fn event() -> CUevent {
    let mut event = CUevent(0);
    ok!(cuEventCreate(&mut event, 0));
    event
}

/// Makes a word zero, and waits: the streams here do not wait for the legacy one.
fn clear(at: u64) {
    ok!(cuMemsetD32_v2(at, 0, 1));
    ok!(cuCtxSynchronize());
}

fn zeroed() -> u64 {
    let at = allocate(4);
    clear(at);
    at
}

fn instantiate(graph: CUgraph) -> CUgraphExec {
    let mut exec = CUgraphExec(0);
    ok!(cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    exec
}

fn nodes(graph: CUgraph) -> Vec<CUgraphNode> {
    let mut count = 0;
    ok!(cuGraphGetNodes(graph, null_mut(), &mut count));
    let mut nodes = vec![CUgraphNode(0); count];
    ok!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count));
    assert_eq!(count, nodes.len());
    nodes
}

#[test]
fn two_streams_become_a_graph() {
    context();
    let (_, function) = load(APPEND);
    let (at, copy) = (zeroed(), zeroed());
    let (first, second) = (stream(), stream());
    let (fork, join) = (event(), event());
    ok!(cuStreamBeginCapture_v2(first, 0));
    ok!(cuMemsetD32Async(at, 4, 1, first));
    ok!(cuEventRecord(fork, first));
    ok!(cuStreamWaitEvent(second, fork, 0));
    assert_eq!(append(function, at, 1, second), CUresult::SUCCESS);
    ok!(cuEventRecord(join, second));
    ok!(cuStreamWaitEvent(first, join, 0));
    assert_eq!(append(function, at, 2, first), CUresult::SUCCESS);
    ok!(cuMemcpyDtoDAsync_v2(copy, at, 4, first));
    for (stream, expected) in [(first, 1), (second, 1), (stream(), 0)] {
        let mut status = 7;
        ok!(cuStreamIsCapturing(stream, &mut status));
        assert_eq!(status, expected);
    }
    let (mut status, mut id, mut inside) = (0, 0, CUgraph(0));
    let (mut before, mut count) = (null(), 0);
    ok!(cuStreamGetCaptureInfo_v2(
        first,
        &mut status,
        &mut id,
        &mut inside,
        &mut before,
        &mut count
    ));
    assert!(status == 1 && id != 0 && count == 1 && !before.is_null());
    assert_eq!(cu!(cuEventQuery(join)), CUresult::CAPTURED_EVENT);
    let mut graph = CUgraph(0);
    ok!(cuStreamEndCapture(first, &mut graph));
    assert_eq!(graph, inside);
    assert_eq!(read(at), 0, "nothing has run");
    assert_eq!(nodes(graph).len(), 4);
    let mut edges = 0;
    ok!(cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
    assert_eq!(
        edges, 4,
        "a fill, a kernel behind it, one behind both, a copy"
    );
    let exec = instantiate(graph);
    for _ in 0..3 {
        clear(copy);
        ok!(cuGraphLaunch(exec, second));
        ok!(cuStreamSynchronize(second));
        assert_eq!((read(at), read(copy)), (412, 412));
    }
    // Two launches of one graph, in two streams, are not done at the same time.
    for round in 0..20 {
        ok!(cuGraphLaunch(
            exec,
            if round % 2 == 0 { first } else { second }
        ));
    }
    ok!(cuCtxSynchronize());
    assert_eq!(read(copy), 412);
    ok!(cuGraphDestroy(graph));
    ok!(cuGraphLaunch(exec, first));
    ok!(cuStreamSynchronize(first));
    ok!(cuGraphExecDestroy(exec));
}

#[test]
fn what_a_graph_cannot_have_spoils_the_capture() {
    context();
    let (first, second) = (stream(), stream());
    let at = zeroed();
    let other = event();
    let mut graph = CUgraph(7);
    let mut spoilt = |stream: CUstream, call: &mut dyn FnMut() -> CUresult, error: CUresult| {
        ok!(cuStreamBeginCapture_v2(stream, 2));
        ok!(cuMemsetD32Async(at, 1, 1, stream));
        assert_eq!(call(), error);
        assert_eq!(
            cu!(cuMemsetD32Async(at, 1, 1, stream)),
            CUresult::STREAM_CAPTURE_INVALIDATED
        );
        let ended = cu!(cuStreamEndCapture(stream, &mut graph));
        assert_eq!(ended, CUresult::STREAM_CAPTURE_INVALIDATED);
        assert_eq!(graph, CUgraph(0));
    };
    let unsupported = CUresult::STREAM_CAPTURE_UNSUPPORTED;
    spoilt(first, &mut || cu!(cuStreamSynchronize(first)), unsupported);
    spoilt(first, &mut || cu!(cuStreamQuery(first)), unsupported);
    spoilt(first, &mut || cu!(cuCtxSynchronize()), unsupported);
    ok!(cuEventRecord(other, second));
    spoilt(
        first,
        &mut || cu!(cuStreamWaitEvent(first, other, 0)),
        CUresult::STREAM_CAPTURE_ISOLATION,
    );
    let mut blocking = CUstream(0);
    ok!(cuStreamCreate(&mut blocking, 0));
    spoilt(
        blocking,
        &mut || cu!(cuMemsetD32_v2(at, 0, 1)),
        CUresult::STREAM_CAPTURE_IMPLICIT,
    );
    // A stream that does not block has nothing to do with the legacy stream.
    ok!(cuStreamBeginCapture_v2(first, 0));
    ok!(cuMemsetD32_v2(at, 0, 1));
    ok!(cuEventRecord(other, first));
    ok!(cuStreamWaitEvent(second, other, 0));
    ok!(cuMemsetD32Async(at, 1, 1, second));
    assert_eq!(
        cu!(cuStreamEndCapture(first, &mut graph)),
        CUresult::STREAM_CAPTURE_UNJOINED
    );
    ok!(cuStreamBeginCapture_v2(first, 0));
    assert_eq!(
        cu!(cuStreamBeginCapture_v2(first, 0)),
        CUresult::ILLEGAL_STATE
    );
    let elsewhere = std::thread::scope(|scope| {
        let current = CUcontext(context().0);
        let ended = scope.spawn(move || {
            let mut graph = CUgraph(0);
            ok!(cuCtxSetCurrent(current));
            cu!(cuStreamEndCapture(first, &mut graph))
        });
        ended.join().unwrap()
    });
    assert_eq!(elsewhere, CUresult::STREAM_CAPTURE_WRONG_THREAD);
    assert_eq!(
        cu!(cuStreamBeginCapture_v2(CUstream(0), 0)),
        CUresult::STREAM_CAPTURE_UNSUPPORTED
    );
}

/// `CUDA_KERNEL_NODE_PARAMS`.
#[repr(C)]
struct KernelNode {
    function: CUfunction,
    shape: [u32; 7],
    parameters: *mut *mut c_void,
    extra: *mut c_void,
    kernel: usize,
    context: usize,
}

/// What a kernel node that appends a digit is described by.
struct Appending {
    at: u64,
    digit: u32,
    places: [*mut c_void; 2],
    node: KernelNode,
}

impl Appending {
    fn new(function: CUfunction, at: u64, digit: u32) -> Box<Appending> {
        let mut it = Box::new(Appending {
            at,
            digit,
            places: [null_mut(); 2],
            node: KernelNode {
                function,
                shape: [1, 1, 1, 1, 1, 1, 0],
                parameters: null_mut(),
                extra: null_mut(),
                kernel: 0,
                context: 0,
            },
        });
        it.places = [(&raw mut it.at).cast(), (&raw mut it.digit).cast()];
        it.node.parameters = it.places.as_mut_ptr();
        it
    }

    fn add(&self, graph: CUgraph, before: &[CUgraphNode]) -> CUgraphNode {
        let mut node = CUgraphNode(0);
        ok!(cuGraphAddKernelNode_v2(
            &mut node,
            graph,
            before.as_ptr(),
            before.len(),
            (&raw const self.node).cast()
        ));
        node
    }
}

fn empty() -> CUgraph {
    let mut graph = CUgraph(0);
    ok!(cuGraphCreate(&mut graph, 0));
    graph
}

unsafe extern "C" fn count(counter: *mut c_void) {
    // SAFETY: the tests pass a counter.
    unsafe { &*counter.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

fn launch(exec: CUgraphExec, stream: CUstream) {
    ok!(cuGraphLaunch(exec, stream));
    ok!(cuStreamSynchronize(stream));
}

#[test]
fn nodes_run_in_the_order_of_their_edges() {
    context();
    let (_, function) = load(APPEND);
    let at = zeroed();
    let (graph, stream) = (empty(), stream());
    let digit = |digit| Appending::new(function, at, digit);
    // Made in the wrong order, connected afterwards.
    let third = digit(3).add(graph, &[]);
    let first = digit(1).add(graph, &[]);
    let second = digit(2).add(graph, &[first]);
    ok!(cuGraphAddDependencies(graph, &second, &third, 1));
    let mut roots = 0;
    ok!(cuGraphGetRootNodes(graph, null_mut(), &mut roots));
    assert_eq!(roots, 1);
    let exec = instantiate(graph);
    launch(exec, stream);
    assert_eq!(read(at), 123);
    // A launchable graph is changed without the graph, by parameters, by another graph, and by switching nodes off.
    let changed = digit(9);
    ok!(cuGraphExecKernelNodeSetParams_v2(
        exec,
        second,
        (&raw const changed.node).cast()
    ));
    clear(at);
    launch(exec, stream);
    assert_eq!(read(at), 193);
    ok!(cuGraphNodeSetEnabled(exec, third, 0));
    clear(at);
    launch(exec, stream);
    assert_eq!(read(at), 19);
    let mut copy = CUgraph(0);
    ok!(cuGraphClone(&mut copy, graph));
    let mut of_copy = CUgraphNode(0);
    ok!(cuGraphNodeFindInClone(&mut of_copy, first, copy));
    let changed = digit(7);
    ok!(cuGraphKernelNodeSetParams_v2(
        of_copy,
        (&raw const changed.node).cast()
    ));
    let (mut result, mut wrong) = (9, CUgraphNode(0));
    ok!(cuGraphExecUpdate(exec, copy, &mut wrong, &mut result));
    assert_eq!(result, 0);
    ok!(cuGraphNodeSetEnabled(exec, third, 1));
    clear(at);
    launch(exec, stream);
    assert_eq!(read(at), 723);
    ok!(cuGraphDestroyNode(of_copy));
    assert_eq!(
        cu!(cuGraphExecUpdate(exec, copy, &mut wrong, &mut result)),
        CUresult::GRAPH_EXEC_UPDATE_FAILURE
    );
    assert_eq!(result, 2);
    // What is read of a node makes the same node again.
    let mut told = Appending::new(function, 0, 0);
    ok!(cuGraphKernelNodeGetParams_v2(
        second,
        (&raw mut told.node).cast()
    ));
    let again = told.add(graph, &[third]);
    let exec = instantiate(graph);
    clear(at);
    launch(exec, stream);
    assert_eq!(read(at), 1232);
    // A circle cannot be launched.
    ok!(cuGraphAddDependencies(graph, &again, &first, 1));
    let mut exec = CUgraphExec(0);
    assert_eq!(
        cu!(cuGraphInstantiateWithFlags(&mut exec, graph, 0)),
        CUresult::INVALID_VALUE
    );
    assert_eq!(
        cu!(cuGraphAddDependencies(graph, &again, &first, 1)),
        CUresult::INVALID_VALUE
    );
    ok!(cuGraphDestroy(graph));
    assert_eq!(cu!(cuGraphDestroyNode(first)), CUresult::INVALID_HANDLE);
}

#[test]
fn copies_fills_calls_events_and_graphs_are_nodes() {
    context();
    let (_, function) = load(APPEND);
    let at = zeroed();
    let counter = AtomicU32::new(0);
    let mut seen = 0u32;
    let (graph, inner, stream) = (empty(), empty(), stream());
    // `CUDA_MEMSET_NODE_PARAMS`: address, pitch, value and size of an element, width, height.
    let fill = [at, 0, 5 | 4 << 32, 1, 1];
    let mut filled = CUgraphNode(0);
    let nothing = CUcontext(0);
    ok!(cuGraphAddMemsetNode(
        &mut filled,
        graph,
        null(),
        0,
        fill.as_ptr().cast(),
        nothing
    ));
    Appending::new(function, at, 6).add(inner, &[]);
    let mut child = CUgraphNode(0);
    ok!(cuGraphAddChildGraphNode(
        &mut child, graph, &filled, 1, inner
    ));
    // The node has a graph of its own: what becomes of the other one is nothing to it.
    ok!(cuGraphDestroy(inner));
    let mut own = CUgraph(0);
    ok!(cuGraphChildGraphNodeGetGraph(child, &mut own));
    assert_eq!(nodes(own).len(), 1);
    // SAFETY: all zeros are a description of nothing.
    let mut copy: CUDA_MEMCPY3D = unsafe { std::mem::zeroed() };
    (copy.src_memory_type, copy.src_device) = (2, at);
    (copy.dst_memory_type, copy.dst_host) = (1, (&raw mut seen).cast());
    (copy.width_in_bytes, copy.height, copy.depth) = (4, 1, 1);
    let mut copied = CUgraphNode(0);
    ok!(cuGraphAddMemcpyNode(
        &mut copied,
        graph,
        &child,
        1,
        &copy,
        nothing
    ));
    let call = [count as *const () as usize, (&raw const counter) as usize];
    let (mut called, mut recorded, mut last) = (CUgraphNode(0), CUgraphNode(0), CUgraphNode(0));
    ok!(cuGraphAddHostNode(
        &mut called,
        graph,
        &copied,
        1,
        call.as_ptr().cast()
    ));
    let event = event();
    ok!(cuGraphAddEventRecordNode(
        &mut recorded,
        graph,
        &called,
        1,
        event
    ));
    ok!(cuGraphAddEmptyNode(&mut last, graph, &recorded, 1));
    let kinds = nodes(graph).into_iter().map(|node| {
        let mut kind = 99;
        ok!(cuGraphNodeGetType(node, &mut kind));
        kind
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [2, 4, 1, 3, 7, 5]);
    let exec = instantiate(graph);
    for round in 1..4 {
        seen = 0;
        ok!(cuGraphLaunch(exec, stream));
        ok!(cuEventSynchronize(event));
        let counted = counter.load(Ordering::SeqCst);
        // SAFETY: the copy has ended.
        let seen = unsafe { (&raw const seen).read_volatile() };
        assert_eq!((seen, counted), (56, round));
    }
    // A launch in a captured stream is a node.
    let mut outer = CUgraph(0);
    ok!(cuStreamBeginCapture_v2(stream, 0));
    ok!(cuGraphLaunch(exec, stream));
    ok!(cuLaunchHostFunc(
        stream,
        Some(count),
        (&raw const counter).cast_mut().cast()
    ));
    ok!(cuStreamEndCapture(stream, &mut outer));
    launch(instantiate(outer), stream);
    assert_eq!(counter.load(Ordering::SeqCst), 5);
    // Memory that has gone since is the context's end, not the process's.
    ok!(cuMemFree_v2(at));
    ok!(cuGraphLaunch(exec, stream));
    assert_eq!(cu!(cuStreamSynchronize(stream)), CUresult::ILLEGAL_ADDRESS);
}

#[test]
fn objects_live_as_long_as_graphs_need_them() {
    context();
    let ended = AtomicU32::new(0);
    let pointer = (&raw const ended).cast_mut().cast();
    let mut object = CUuserObject(0);
    ok!(cuUserObjectCreate(&mut object, pointer, Some(count), 1, 1));
    let (graph, stream) = (empty(), stream());
    ok!(cuGraphRetainUserObject(graph, object, 1, 1));
    let exec = instantiate(graph);
    ok!(cuGraphDestroy(graph));
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    launch(exec, stream);
    ok!(cuGraphExecDestroy(exec));
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    assert_eq!(
        cu!(cuUserObjectRelease(object, 1)),
        CUresult::INVALID_HANDLE
    );
}

/// The end of a graph that is launched once.
fn outcome(graph: CUgraph) -> CUresult {
    let (exec, stream) = (instantiate(graph), stream());
    ok!(cuGraphLaunch(exec, stream));
    cu!(cuStreamSynchronize(stream))
}

fn captured(stream: CUstream, work: impl FnOnce()) -> CUgraph {
    let mut graph = CUgraph(0);
    ok!(cuStreamBeginCapture_v2(stream, 0));
    work();
    ok!(cuStreamEndCapture(stream, &mut graph));
    graph
}

#[test]
fn memory_that_has_gone_is_not_taken_for_the_program_s_own() {
    const SIZE: usize = 8 << 20;
    // Either end, told by address alone.
    for from_goes in [true, false] {
        context();
        let (from, to, stream) = (allocate(SIZE), allocate(SIZE), stream());
        let graph = captured(stream, || ok!(cuMemcpyAsync(to, from, SIZE, stream)));
        assert_eq!(outcome(graph), CUresult::SUCCESS);
        ok!(cuMemFree_v2(if from_goes { from } else { to }));
        assert_eq!(outcome(graph), CUresult::ILLEGAL_ADDRESS);
    }
    // Pinned memory of the host.
    context();
    let (at, stream) = (allocate(SIZE), stream());
    let mut pinned = null_mut();
    ok!(cuMemAllocHost_v2(&mut pinned, SIZE));
    let graph = captured(stream, || {
        ok!(cuMemcpyDtoHAsync_v2(pinned, at, SIZE, stream));
    });
    assert_eq!(outcome(graph), CUresult::SUCCESS);
    ok!(cuMemFreeHost(pinned));
    assert_eq!(outcome(graph), CUresult::ILLEGAL_ADDRESS);
    // Pageable memory stays the program's promise.
    context();
    let (at, stream) = (zeroed(), self::stream());
    let mut seen = 7u32;
    let graph = captured(stream, || {
        ok!(cuMemcpyDtoHAsync_v2((&raw mut seen).cast(), at, 4, stream));
    });
    assert_eq!(outcome(graph), CUresult::SUCCESS);
    // SAFETY: the copy has ended.
    assert_eq!(unsafe { (&raw const seen).read_volatile() }, 0);
}

fn status(stream: CUstream) -> u32 {
    let mut status = 7;
    ok!(cuStreamIsCapturing(stream, &mut status));
    status
}

/// The graph that a stream's capture makes.
fn in_the_making(stream: CUstream) -> CUgraph {
    let (mut status, mut graph) = (0, CUgraph(0));
    ok!(cuStreamGetCaptureInfo_v2(
        stream,
        &mut status,
        null_mut(),
        &mut graph,
        null_mut(),
        null_mut()
    ));
    graph
}

#[test]
fn a_capture_ends_in_every_context() {
    let first = context();
    let (origin, fork) = (stream(), event());
    let at = zeroed();
    let second = context();
    let (other, there) = (stream(), zeroed());
    let join = |work: &dyn Fn()| {
        ok!(cuCtxSetCurrent(first));
        ok!(cuStreamBeginCapture_v2(origin, 0));
        ok!(cuMemsetD32Async(at, 4, 1, origin));
        ok!(cuEventRecord(fork, origin));
        ok!(cuCtxSetCurrent(second));
        ok!(cuStreamWaitEvent(other, fork, 0));
        work();
        assert_eq!(status(other), 1);
        ok!(cuCtxSetCurrent(first));
    };
    join(&|| ok!(cuMemsetD32Async(there, 5, 1, other)));
    let mut graph = CUgraph(7);
    assert_eq!(
        cu!(cuStreamEndCapture(origin, &mut graph)),
        CUresult::STREAM_CAPTURE_UNJOINED
    );
    join(&|| ());
    ok!(cuStreamEndCapture(origin, &mut graph));
    ok!(cuCtxSetCurrent(second));
    assert_eq!(status(other), 0);
    ok!(cuMemsetD32Async(there, 6, 1, other));
    ok!(cuStreamSynchronize(other));
    assert_eq!(read(there), 6);
    // It ends with its first stream, too, and its graph with it.
    join(&|| ());
    let graph = in_the_making(origin);
    ok!(cuStreamDestroy_v2(origin));
    assert_eq!(
        cu!(cuGraphGetNodes(graph, null_mut(), &mut 0)),
        CUresult::INVALID_HANDLE
    );
    ok!(cuCtxSetCurrent(second));
    assert_eq!(status(other), 0);
    ok!(cuStreamSynchronize(other));
    ok!(cuCtxSynchronize_v2(second));
}

#[test]
fn synchronising_another_way_spoils_a_capture_too() {
    let context = context();
    let stream = stream();
    ok!(cuStreamBeginCapture_v2(stream, 0));
    assert_eq!(
        cu!(cuCtxSynchronize_v2(context)),
        CUresult::STREAM_CAPTURE_UNSUPPORTED
    );
    assert_eq!(status(stream), 2);
}

#[test]
fn an_event_does_not_keep_a_captured_graph() {
    context();
    let ended = AtomicU32::new(0);
    let pointer = (&raw const ended).cast_mut().cast();
    let (stream, event) = (stream(), event());
    let keep = |graph: CUgraph| {
        let mut object = CUuserObject(0);
        ok!(cuUserObjectCreate(&mut object, pointer, Some(count), 1, 1));
        ok!(cuGraphRetainUserObject(graph, object, 1, 1));
    };
    let graph = captured(stream, || {
        keep(in_the_making(stream));
        ok!(cuEventRecord(event, stream));
    });
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    ok!(cuGraphDestroy(graph));
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    assert_eq!(cu!(cuEventQuery(event)), CUresult::CAPTURED_EVENT);
    // A capture that fails leaves no graph.
    ok!(cuStreamBeginCapture_v2(stream, 0));
    keep(in_the_making(stream));
    assert_eq!(
        cu!(cuStreamSynchronize(stream)),
        CUresult::STREAM_CAPTURE_UNSUPPORTED
    );
    let mut graph = CUgraph(0);
    assert_eq!(
        cu!(cuStreamEndCapture(stream, &mut graph)),
        CUresult::STREAM_CAPTURE_INVALIDATED
    );
    assert_eq!(ended.load(Ordering::SeqCst), 2);
}

fn add_child(graph: CUgraph, child: CUgraph) -> Result<CUgraph, CUresult> {
    let (mut node, mut own) = (CUgraphNode(0), CUgraph(0));
    match cu!(cuGraphAddChildGraphNode(&mut node, graph, null(), 0, child)) {
        CUresult::SUCCESS => {
            ok!(cuGraphChildGraphNodeGetGraph(node, &mut own));
            Ok(own)
        }
        error => Err(error),
    }
}

#[test]
fn graphs_in_graphs_have_an_end() {
    context();
    // As deep as it likes: it cannot be launched, but it can be destroyed.
    let (deep, leaf) = (empty(), empty());
    let mut inner = deep;
    for _ in 0..100_000 {
        inner = add_child(inner, leaf).unwrap();
    }
    let mut exec = CUgraphExec(0);
    assert_eq!(
        cu!(cuGraphInstantiateWithFlags(&mut exec, deep, 0)),
        CUresult::INVALID_VALUE
    );
    ok!(cuGraphDestroy(deep));
    assert_eq!(
        cu!(cuGraphGetNodes(inner, null_mut(), &mut 0)),
        CUresult::INVALID_HANDLE
    );
    // Twice as many nodes with each call.
    let wide = empty();
    let mut calls = (0..30).map(|_| add_child(wide, wide).map(drop));
    assert_eq!(
        calls.find(Result::is_err),
        Some(Err(CUresult::OUT_OF_MEMORY))
    );
}

#[test]
fn the_graph_of_a_node_goes_with_it() {
    context();
    let (graph, leaf) = (empty(), empty());
    let own = add_child(graph, leaf).unwrap();
    ok!(cuGraphGetNodes(own, null_mut(), &mut 0));
    ok!(cuGraphDestroyNode(nodes(graph)[0]));
    assert_eq!(
        cu!(cuGraphGetNodes(own, null_mut(), &mut 0)),
        CUresult::INVALID_HANDLE
    );
}

#[test]
fn edges_are_changed_all_or_none() {
    context();
    let graph = empty();
    let mut made = [CUgraphNode(0); 3];
    for node in &mut made {
        ok!(cuGraphAddEmptyNode(node, graph, null(), 0));
    }
    let [a, b, c] = made;
    ok!(cuGraphAddDependencies(graph, &a, &b, 1));
    let (from, to) = ([a, b, a], [c, c, b]);
    assert_eq!(
        cu!(cuGraphAddDependencies(graph, from.as_ptr(), to.as_ptr(), 3)),
        CUresult::INVALID_VALUE,
        "the last one is there already"
    );
    let mut edges = 0;
    ok!(cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
    assert_eq!(edges, 1);
    let (from, to) = ([a, a], [b, c]);
    assert_eq!(
        cu!(cuGraphRemoveDependencies(
            graph,
            from.as_ptr(),
            to.as_ptr(),
            2
        )),
        CUresult::INVALID_VALUE
    );
    ok!(cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges));
    assert_eq!(edges, 1);
}

#[test]
fn parameters_of_a_kernel_leave_its_attributes() {
    const COOPERATIVE: u32 = 2;
    const CLUSTER_DIMENSION: u32 = 4;
    context();
    let (_, function) = load(APPEND);
    let at = zeroed();
    let graph = empty();
    let mut plain = Appending::new(function, at, 1);
    let node = plain.add(graph, &[]);
    let mut value = [0u32; 16];
    let set = |value: &[u32; 16], id: u32| {
        cu!(cuGraphKernelNodeSetAttribute(
            node,
            id,
            value.as_ptr().cast()
        ))
    };
    value[0] = 2;
    assert_eq!(set(&value, CLUSTER_DIMENSION), CUresult::NOT_SUPPORTED);
    assert_eq!(set(&value, 7), CUresult::NOT_SUPPORTED);
    value[0] = 1;
    assert_eq!(set(&value, COOPERATIVE), CUresult::SUCCESS);
    let parameters = |it: &Appending| {
        cu!(cuGraphKernelNodeSetParams_v2(
            node,
            (&raw const it.node).cast()
        ))
    };
    assert_eq!(parameters(&plain), CUresult::SUCCESS);
    value[0] = 7;
    ok!(cuGraphKernelNodeGetAttribute(
        node,
        COOPERATIVE,
        value.as_mut_ptr().cast()
    ));
    assert_eq!(value[0], 1);
    let exec = instantiate(graph);
    // More blocks than can be there at the same time.
    plain.node.shape[0] = 1 << 20;
    assert_eq!(parameters(&plain), CUresult::COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_eq!(
        cu!(cuGraphExecKernelNodeSetParams_v2(
            exec,
            node,
            (&raw const plain.node).cast()
        )),
        CUresult::COOPERATIVE_LAUNCH_TOO_LARGE
    );
    // An update that fails for another reason says so.
    let (mut result, mut wrong) = (9, CUgraphNode(0));
    assert_eq!(
        cu!(cuGraphExecUpdate(exec, CUgraph(1), &mut wrong, &mut result)),
        CUresult::INVALID_HANDLE
    );
    assert_eq!(result, 1);
}
