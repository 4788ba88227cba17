//! Memory that graphs allocate and free, through the driver's own exports.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ptr::{null, null_mut};

use driver_api::abi::{CUgraph, CUgraphExec, CUgraphNode, CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

use device::{allocate, context, read};

const SIZE: usize = 4 << 20;
const AUTO_FREE: u64 = 1;

fn stream() -> CUstream {
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    stream
}

fn captured(stream: CUstream, work: impl FnOnce()) -> CUgraph {
    let mut graph = CUgraph(0);
    ok!(cuStreamBeginCapture_v2(stream, 0));
    work();
    ok!(cuStreamEndCapture(stream, &mut graph));
    graph
}

fn instantiate(graph: CUgraph, flags: u64) -> CUgraphExec {
    let mut exec = CUgraphExec(0);
    ok!(cuGraphInstantiateWithFlags(&mut exec, graph, flags));
    exec
}

fn nodes(graph: CUgraph) -> Vec<CUgraphNode> {
    let mut count = 16;
    let mut nodes = vec![CUgraphNode(0); count];
    ok!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count));
    nodes.truncate(count);
    nodes
}

/// Bytes of graphs' memory, now or at most.
fn used(attribute: u32) -> u64 {
    let mut bytes = 7u64;
    ok!(cuDeviceGetGraphMemAttribute(
        0,
        attribute,
        (&raw mut bytes).cast()
    ));
    bytes
}

#[test]
fn what_a_graph_allocates_and_frees_is_its_own() {
    context();
    let (stream, seen) = (stream(), allocate(4));
    let mut inside = 0;
    let graph = captured(stream, || {
        ok!(cuMemAllocAsync(&mut inside, SIZE, stream));
        ok!(cuMemsetD32Async(inside, 5, SIZE / 4, stream));
        ok!(cuMemcpyDtoDAsync_v2(seen, inside + 8, 4, stream));
        ok!(cuMemFreeAsync(inside, stream));
    });
    let kinds = nodes(graph).into_iter().map(|node| {
        let mut kind = 99;
        ok!(cuGraphNodeGetType(node, &mut kind));
        kind
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [10, 2, 1, 11]);
    assert_eq!(used(0), SIZE as u64);
    let exec = instantiate(graph, 0);
    for _ in 0..3 {
        ok!(cuMemsetD32_v2(seen, 0, 1));
        ok!(cuCtxSynchronize());
        ok!(cuGraphLaunch(exec, stream));
        ok!(cuStreamSynchronize(stream));
        assert_eq!(read(seen), 5);
    }
    // It is nobody else's to free, and there cannot be two of it.
    assert_eq!(cu!(cuMemFree_v2(inside)), CUresult::INVALID_VALUE);
    assert_eq!(cu!(cuMemFreeAsync(inside, stream)), CUresult::INVALID_VALUE);
    let (mut copy, mut second) = (CUgraph(0), CUgraphExec(0));
    let refused = [
        cu!(cuGraphClone(&mut copy, graph)),
        cu!(cuGraphInstantiateWithFlags(&mut second, graph, 0)),
        cu!(cuGraphDestroyNode(nodes(graph)[1])),
    ];
    assert_eq!(refused, [CUresult::NOT_SUPPORTED; 3]);
    ok!(cuGraphExecDestroy(exec));
    ok!(cuGraphExecDestroy(instantiate(graph, 0)));
    ok!(cuGraphDestroy(graph));
    assert_eq!((used(0), used(1)), (0, SIZE as u64));
    let mut none = 0u64;
    ok!(cuDeviceSetGraphMemAttribute(0, 1, (&raw mut none).cast()));
    assert_eq!(used(1), 0);
    ok!(cuDeviceGraphMemTrim(0));
    assert_eq!(cu!(cuMemsetD8_v2(inside, 0, 1)), CUresult::INVALID_VALUE);
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS`: memory of the device.
fn parameters() -> [u64; 15] {
    let mut parameters = [0; 15];
    (parameters[0], parameters[1], parameters[13]) = (1, 1, SIZE as u64);
    parameters
}

/// A graph that allocates, and fills; the address.
fn allocating() -> (CUgraph, u64) {
    let (mut graph, mut node, mut parameters) = (CUgraph(0), CUgraphNode(0), parameters());
    ok!(cuGraphCreate(&mut graph, 0));
    ok!(cuGraphAddMemAllocNode(
        &mut node,
        graph,
        null(),
        0,
        parameters.as_mut_ptr().cast()
    ));
    let address = parameters[14];
    let mut told = [7u64; 15];
    ok!(cuGraphMemAllocNodeGetParams(node, told.as_mut_ptr().cast()));
    assert_eq!(told, parameters);
    let fill = [address, 0, 9 | 4 << 32, 1, 1];
    ok!(cuGraphAddMemsetNode(
        &mut CUgraphNode(0),
        graph,
        &node,
        1,
        fill.as_ptr().cast(),
        driver_api::abi::CUcontext(0)
    ));
    (graph, address)
}

#[test]
fn what_a_launch_leaves_is_the_program_s_until_it_is_freed() {
    context();
    let stream = stream();
    let (graph, address) = allocating();
    let exec = instantiate(graph, 0);
    let launch = |exec: CUgraphExec| cu!(cuGraphLaunch(exec, stream));
    assert_eq!(launch(exec), CUresult::SUCCESS);
    assert_eq!(launch(exec), CUresult::INVALID_VALUE, "not freed yet");
    ok!(cuStreamSynchronize(stream));
    assert_eq!(read(address), 9);
    ok!(cuMemFreeAsync(address, stream));
    assert_eq!(launch(exec), CUresult::SUCCESS);
    ok!(cuMemFree_v2(address));
    assert_eq!(cu!(cuMemFree_v2(address)), CUresult::INVALID_VALUE);
    // Another graph may free it, each time that it was allocated.
    let freeing = captured(stream, || ok!(cuMemFreeAsync(address, stream)));
    let mut told = 0;
    ok!(cuGraphMemFreeNodeGetParams(nodes(freeing)[0], &mut told));
    assert_eq!(told, address);
    let free = instantiate(freeing, 0);
    assert_eq!(launch(free), CUresult::INVALID_VALUE);
    for _ in 0..3 {
        assert_eq!(launch(exec), CUresult::SUCCESS);
        assert_eq!(launch(free), CUresult::SUCCESS);
    }
    // A launch of it cannot become part of another graph.
    ok!(cuStreamBeginCapture_v2(stream, 0));
    assert_eq!(launch(exec), CUresult::NOT_SUPPORTED);
    ok!(cuStreamEndCapture(stream, &mut CUgraph(0)));
    // Nor can it be in one.
    let (mut outer, mut child, mut inner) = (CUgraph(0), CUgraphNode(0), CUgraph(0));
    let mut nested = CUgraphExec(0);
    ok!(cuGraphCreate(&mut outer, 0));
    assert_eq!(
        cu!(cuGraphAddChildGraphNode(
            &mut child,
            outer,
            null(),
            0,
            graph
        )),
        CUresult::NOT_SUPPORTED
    );
    let empty = captured(stream, || ());
    ok!(cuGraphAddChildGraphNode(
        &mut child,
        outer,
        null(),
        0,
        empty
    ));
    ok!(cuGraphChildGraphNodeGetGraph(child, &mut inner));
    ok!(cuGraphAddMemFreeNode(&mut child, inner, null(), 0, address));
    assert_eq!(
        cu!(cuGraphInstantiateWithFlags(&mut nested, outer, 0)),
        CUresult::NOT_SUPPORTED
    );
    // What was left outlives the graphs.
    assert_eq!(launch(exec), CUresult::SUCCESS);
    ok!(cuStreamSynchronize(stream));
    ok!(cuGraphExecDestroy(exec));
    ok!(cuGraphDestroy(graph));
    assert_eq!((read(address), used(0)), (9, SIZE as u64));
    ok!(cuMemFreeAsync(address, stream));
    ok!(cuStreamSynchronize(stream));
    assert_eq!(used(0), 0);
    assert_eq!(cu!(cuMemsetD8_v2(address, 0, 1)), CUresult::INVALID_VALUE);
    assert_eq!(launch(free), CUresult::INVALID_VALUE);
}

#[test]
fn a_graph_may_free_on_launch() {
    context();
    let stream = stream();
    let (graph, address) = allocating();
    let exec = instantiate(graph, AUTO_FREE);
    for _ in 0..3 {
        ok!(cuGraphLaunch(exec, stream));
    }
    ok!(cuStreamSynchronize(stream));
    assert_eq!(read(address), 9);
    ok!(cuMemFreeAsync(address, stream));
}

#[test]
fn wrong_allocations_are_answered() {
    context();
    let (mut graph, mut node) = (CUgraph(0), CUgraphNode(0));
    ok!(cuGraphCreate(&mut graph, 0));
    let mut add = |change: &dyn Fn(&mut [u64; 15])| {
        let mut parameters = parameters();
        change(&mut parameters);
        cu!(cuGraphAddMemAllocNode(
            &mut node,
            graph,
            null(),
            0,
            parameters.as_mut_ptr().cast()
        ))
    };
    assert_eq!(add(&|it| it[13] = 0), CUresult::INVALID_VALUE);
    assert_eq!(add(&|it| it[13] = 1 << 40), CUresult::OUT_OF_MEMORY);
    assert_eq!(add(&|it| it[0] = 2), CUresult::INVALID_VALUE);
    assert_eq!(add(&|it| it[1] = 1 | 5 << 32), CUresult::NOT_SUPPORTED);
    assert_eq!(
        cu!(cuGraphAddMemAllocNode(
            &mut node,
            graph,
            null(),
            0,
            null_mut()
        )),
        CUresult::INVALID_VALUE
    );
    // Only what a graph has allocated is freed by one.
    let plain = allocate(16);
    assert_eq!(
        cu!(cuGraphAddMemFreeNode(&mut node, graph, null(), 0, plain)),
        CUresult::INVALID_VALUE
    );
    assert_eq!((used(0), nodes(graph).len()), (0, 0));
    // The description of a node of any kind, too.
    let mut any = [0u64; 32];
    any[0] = 10;
    any[2..17].copy_from_slice(&parameters());
    ok!(cuGraphAddNode(
        &mut node,
        graph,
        null(),
        0,
        any.as_mut_ptr().cast()
    ));
    assert!(any[16] != 0 && used(0) == SIZE as u64);
    let mut free = [0u64; 32];
    (free[0], free[2]) = (11, any[16]);
    ok!(cuGraphAddNode(
        &mut CUgraphNode(0),
        graph,
        &node,
        1,
        free.as_mut_ptr().cast()
    ));
    assert_eq!(nodes(graph).len(), 2);
}
