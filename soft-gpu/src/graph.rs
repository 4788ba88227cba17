//! Graphs: operations of streams with an order of their own, made once and launched again and again.
//!
//! ```text
//! Graph: nodes and edges ──instantiate──▶ Exec: steps in an order ──launch──▶ one operation of a stream, which does them all
//! ```
//!
//! A node holds an [`Operation`], the same value that a stream is given; a captured stream makes nodes of what it
//! would have posted ([`crate::capture`]). A launch takes the steps as they are: what is changed later concerns later launches.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod conditional;
mod events;
mod exec;
mod memory;
mod node;
mod object;
mod user;

use core::ffi::{c_char, c_uint, c_ulonglong};
use std::ffi::CStr;
use std::fmt::Write;
use std::sync::Arc;

use driver_api::abi::{CUgraph, CUgraphEdgeData, CUgraphNode, CUresult};

pub(crate) use conditional::*;
pub(crate) use exec::*;
pub(crate) use memory::*;
pub(crate) use node::*;
pub(crate) use object::{Exec, Graph, Nested, NodeEntry};
pub(crate) use user::*;

use crate::context::current;
use crate::entry::{answer, done};
use crate::state::driver;
use crate::stream::Operation;
use object::{edges, graph_of};

/// Most nodes or edges that one call names.
const MAX_LIST: usize = 1 << 24;

/// The graph of a handle.
fn find(graph: CUgraph) -> Result<Arc<Graph>, CUresult> {
    driver()?.graphs.get(graph.0)
}

/// Handles of the caller's.
///
/// # Safety
///
/// `nodes` has `count` handles.
pub(crate) unsafe fn handles_at(
    nodes: *const CUgraphNode,
    count: usize,
) -> Result<Vec<usize>, CUresult> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if nodes.is_null() || count > MAX_LIST {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract.
    let at = |index| unsafe { nodes.add(index).read_unaligned() };
    Ok((0..count).map(|index| at(index).0).collect())
}

/// Tells a list of handles: into the caller's arrays as far as they have room, or only how many there are.
///
/// # Safety
///
/// `count` is null or a number; each of `arrays` is null or has room for as many handles as it says.
unsafe fn answer_handles<const N: usize>(
    arrays: [*mut CUgraphNode; N],
    count: *mut usize,
    found: Result<Vec<[usize; N]>, CUresult>,
) -> CUresult {
    let found = match found {
        Ok(found) if !count.is_null() => found,
        Ok(_) => return CUresult::INVALID_VALUE,
        Err(error) => return error,
    };
    // SAFETY: by contract, and not null.
    let room = unsafe { count.read_unaligned() };
    if arrays.iter().all(|array| array.is_null()) {
        // SAFETY: as above.
        return unsafe { answer(count, Ok(found.len())) };
    }
    let zeros = std::iter::repeat([0; N]);
    for (index, row) in found.iter().copied().chain(zeros).take(room).enumerate() {
        for (array, handle) in arrays.into_iter().zip(row) {
            if !array.is_null() {
                // SAFETY: by contract, the array has room for it.
                unsafe { array.add(index).write_unaligned(CUgraphNode(handle)) };
            }
        }
    }
    // SAFETY: as above.
    unsafe { answer(count, Ok(found.len().min(room))) }
}

/// Where edge data go: nowhere if the call asks only how many edges there are.
fn told(data: *mut CUgraphEdgeData, asks_for_edges: bool) -> *mut CUgraphEdgeData {
    if asks_for_edges {
        data
    } else {
        core::ptr::null_mut()
    }
}

/// Says of the edges that were told, if any were, that they are plain ones.
///
/// # Safety
///
/// `data` is null or has room for `count` structures, of which a success leaves a number.
unsafe fn and_plain_edges(
    result: CUresult,
    data: *mut CUgraphEdgeData,
    count: *const usize,
) -> CUresult {
    if result == CUresult::SUCCESS && !data.is_null() {
        // SAFETY: by contract; an edge's data are eight bytes.
        unsafe { core::ptr::write_bytes(data.cast::<u64>(), 0, count.read_unaligned()) };
    }
    result
}

/// Whether `count` edges are plain ones, which is all that there is here.
///
/// # Safety
///
/// `data` is null or has `count` structures.
unsafe fn check_edges(data: *const CUgraphEdgeData, count: usize) -> Result<(), CUresult> {
    if data.is_null() {
        return Ok(());
    }
    // SAFETY: by contract; an edge's data are eight bytes. Programmatic ports mean an earlier start, which need not be.
    let at = |index| unsafe { data.cast::<[u8; 8]>().add(index).read_unaligned() };
    let known = (0..count.min(MAX_LIST)).all(|index| at(index)[1] == 0 && at(index)[2] <= 1);
    known.then_some(()).ok_or(CUresult::INVALID_VALUE)
}

pub(crate) unsafe fn cuGraphCreate(graph: *mut CUgraph, flags: c_uint) -> CUresult {
    if graph.is_null() || flags != 0 {
        return CUresult::INVALID_VALUE;
    }
    let make = || Graph::new()?.register().map(CUgraph);
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph, make()) }
}

pub(crate) unsafe fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    let destroy = || {
        // A node's own goes with the node.
        if find(graph)?.is_nested() {
            return Err(CUresult::INVALID_VALUE);
        }
        driver()?.graphs.remove(graph.0).map(drop)
    };
    done(destroy())
}

pub(crate) unsafe fn cuGraphClone(graph_clone: *mut CUgraph, original_graph: CUgraph) -> CUresult {
    if graph_clone.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let copy = || find(original_graph)?.duplicate()?.register().map(CUgraph);
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph_clone, copy()) }
}

pub(crate) unsafe fn cuGraphNodeFindInClone(
    node: *mut CUgraphNode,
    original_node: CUgraphNode,
    cloned_graph: CUgraph,
) -> CUresult {
    let found = || Ok(CUgraphNode(find(cloned_graph)?.clone_of(original_node.0)?));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(node, found()) }
}

pub(crate) unsafe fn cuGraphGetId(graph: CUgraph, graph_id: *mut c_uint) -> CUresult {
    let id = find(graph).map(|graph| graph.id as c_uint);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(graph_id, id) }
}

pub(crate) unsafe fn cuGraphGetNodes(
    graph: CUgraph,
    nodes: *mut CUgraphNode,
    num_nodes: *mut usize,
) -> CUresult {
    let found = find(graph).map(|graph| graph.nodes().into_keys().map(|node| [node]).collect());
    // SAFETY: the caller passes an array and its size.
    unsafe { answer_handles([nodes], num_nodes, found) }
}

pub(crate) unsafe fn cuGraphGetRootNodes(
    graph: CUgraph,
    root_nodes: *mut CUgraphNode,
    num_root_nodes: *mut usize,
) -> CUresult {
    let found = find(graph).map(|graph| {
        let nodes = graph.nodes().into_iter();
        let roots = nodes.filter(|(_, node)| node.dependencies.is_empty());
        roots.map(|(handle, _)| [handle]).collect()
    });
    // SAFETY: the caller passes an array and its size.
    unsafe { answer_handles([root_nodes], num_root_nodes, found) }
}

pub(crate) unsafe fn cuGraphGetEdges(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    num_edges: *mut usize,
) -> CUresult {
    let all = |graph: Arc<Graph>| edges(&graph.nodes()).into_iter();
    let found = find(graph).map(|graph| all(graph).map(|(from, to)| [from, to]).collect());
    // SAFETY: the caller passes arrays and their size.
    unsafe { answer_handles([from, to], num_edges, found) }
}

pub(crate) unsafe fn cuGraphGetEdges_v2(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    edge_data: *mut CUgraphEdgeData,
    num_edges: *mut usize,
) -> CUresult {
    // SAFETY: the caller passes arrays and their size.
    unsafe {
        let data = told(edge_data, !from.is_null() || !to.is_null());
        and_plain_edges(cuGraphGetEdges(graph, from, to, num_edges), data, num_edges)
    }
}

/// # Safety
///
/// Both arrays have `count` handles.
unsafe fn connect(
    graph: CUgraph,
    (from, to): (*const CUgraphNode, *const CUgraphNode),
    count: usize,
    add: bool,
) -> Result<(), CUresult> {
    let graph = find(graph)?;
    // SAFETY: by contract.
    let (from, to) = unsafe { (handles_at(from, count)?, handles_at(to, count)?) };
    let edges: Vec<(usize, usize)> = from.into_iter().zip(to).collect();
    graph.connect(&edges, add)
}

pub(crate) unsafe fn cuGraphAddDependencies(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    done(unsafe { connect(graph, (from, to), num_dependencies, true) })
}

pub(crate) unsafe fn cuGraphAddDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    done(unsafe {
        check_edges(edge_data, num_dependencies)
            .and_then(|()| connect(graph, (from, to), num_dependencies, true))
    })
}

pub(crate) unsafe fn cuGraphRemoveDependencies(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    done(unsafe { connect(graph, (from, to), num_dependencies, false) })
}

pub(crate) unsafe fn cuGraphRemoveDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    done(unsafe {
        check_edges(edge_data, num_dependencies)
            .and_then(|()| connect(graph, (from, to), num_dependencies, false))
    })
}

pub(crate) unsafe fn cuGraphNodeGetDependencies(
    node: CUgraphNode,
    dependencies: *mut CUgraphNode,
    num_dependencies: *mut usize,
) -> CUresult {
    let found = || {
        let node = graph_of(node.0)?.node(node.0)?;
        Ok(node.dependencies.into_iter().map(|node| [node]).collect())
    };
    // SAFETY: the caller passes an array and its size.
    unsafe { answer_handles([dependencies], num_dependencies, found()) }
}

pub(crate) unsafe fn cuGraphNodeGetDependencies_v2(
    node: CUgraphNode,
    dependencies: *mut CUgraphNode,
    edge_data: *mut CUgraphEdgeData,
    num_dependencies: *mut usize,
) -> CUresult {
    // SAFETY: the caller passes arrays and their size.
    unsafe {
        let data = told(edge_data, !dependencies.is_null());
        and_plain_edges(
            cuGraphNodeGetDependencies(node, dependencies, num_dependencies),
            data,
            num_dependencies,
        )
    }
}

pub(crate) unsafe fn cuGraphNodeGetDependentNodes(
    node: CUgraphNode,
    dependent_nodes: *mut CUgraphNode,
    num_dependent_nodes: *mut usize,
) -> CUresult {
    let found = || {
        let edges = edges(&graph_of(node.0)?.nodes());
        let behind = edges.into_iter().filter(|(from, _)| *from == node.0);
        Ok(behind.map(|(_, to)| [to]).collect())
    };
    // SAFETY: the caller passes an array and its size.
    unsafe { answer_handles([dependent_nodes], num_dependent_nodes, found()) }
}

pub(crate) unsafe fn cuGraphNodeGetDependentNodes_v2(
    node: CUgraphNode,
    dependent_nodes: *mut CUgraphNode,
    edge_data: *mut CUgraphEdgeData,
    num_dependent_nodes: *mut usize,
) -> CUresult {
    // SAFETY: the caller passes arrays and their size.
    unsafe {
        let data = told(edge_data, !dependent_nodes.is_null());
        and_plain_edges(
            cuGraphNodeGetDependentNodes(node, dependent_nodes, num_dependent_nodes),
            data,
            num_dependent_nodes,
        )
    }
}

pub(crate) unsafe fn cuGraphNodeGetContainingGraph(
    node: CUgraphNode,
    graph: *mut CUgraph,
) -> CUresult {
    let found = graph_of(node.0).map(|graph| CUgraph(graph.handle));
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph, found) }
}

pub(crate) unsafe fn cuGraphNodeGetLocalId(node: CUgraphNode, node_id: *mut c_uint) -> CUresult {
    let found = || {
        let nodes = graph_of(node.0)?.nodes();
        Ok(nodes.range(..node.0).count() as c_uint)
    };
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(node_id, found()) }
}

pub(crate) unsafe fn cuGraphNodeGetToolsId(
    node: CUgraphNode,
    node_id: *mut c_ulonglong,
) -> CUresult {
    let found = graph_of(node.0).map(|_| node.0 as c_ulonglong);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(node_id, found) }
}

/// What `dot` writes on a node: the name of a kernel, and its shape for who asks for it.
fn label(operation: &Operation, flags: c_uint) -> String {
    const KINDS: [&str; 12] = [
        "kernel",
        "memcpy",
        "memset",
        "host",
        "graph",
        "empty",
        "wait event",
        "record event",
        "signal",
        "wait for signal",
        "allocate",
        "free",
    ];
    /// `CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE` and `…_KERNEL_NODE_PARAMS`.
    const WITH_SHAPE: c_uint = 1 | 4;
    /// `CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE` and `…_CONDITIONAL_NODE_PARAMS`.
    const WITH_CONDITION: c_uint = 1 | 1 << 15;
    let kernel = match operation {
        Operation::Kernel(kernel) => kernel,
        Operation::Conditional(conditional) if flags & WITH_CONDITION != 0 => {
            return conditional.label();
        }
        Operation::Conditional(_) => return "conditional".to_owned(),
        _ => {
            let kind = KINDS.get(operation.kind() as usize);
            return (*kind.unwrap_or(&"memory operations")).to_owned();
        }
    };
    let (name, shape) = (&kernel.function.name, kernel.shape);
    if flags & WITH_SHAPE == 0 {
        return name.clone();
    }
    let (grid, block) = (shape.grid, shape.block);
    format!(
        "{name}\\ngrid {grid:?}\\nblock {block:?}\\nshared {}",
        shape.shared
    )
}

/// The graph in the language of `dot`.
fn dot(graph: &Graph, flags: c_uint) -> String {
    let nodes = graph.nodes();
    let mut text = String::from("digraph {\n");
    for (handle, node) in &nodes {
        let label = label(&node.operation, flags);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  n{handle:x} [label=\"{label}\"];");
    }
    for (from, to) in edges(&nodes) {
        let _ = writeln!(text, "  n{from:x} -> n{to:x};");
    }
    text + "}\n"
}

pub(crate) unsafe fn cuGraphDebugDotPrint(
    graph: CUgraph,
    path: *const c_char,
    flags: c_uint,
) -> CUresult {
    let print = || {
        let graph = find(graph)?;
        if path.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the caller passes a C string.
        let path = unsafe { CStr::from_ptr(path) }.to_str();
        let path = path.map_err(|_| CUresult::INVALID_VALUE)?;
        std::fs::write(path, dot(&graph, flags)).map_err(|_| CUresult::OPERATING_SYSTEM)
    };
    done(print())
}

/// Needs a context, as every call that makes a node does.
fn in_context<T>(make: impl FnOnce() -> Result<T, CUresult>) -> Result<T, CUresult> {
    current()?;
    make()
}
