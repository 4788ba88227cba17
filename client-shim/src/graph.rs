//! Graphs, in the program's process: a node holds what a stream would be given, and a launch gives it to one.
//!
//! ```text
//! Graph: nodes and edges ──instantiate──▶ Exec: steps in an order ──launch──▶ the calls of the steps, posted to one stream
//!            ▲
//!            └── a captured stream ([`crate::capture`]) makes nodes of what it would have posted
//! ```
//!
//! *Why here and not at the server:* modes and owners of captures belong to threads of the program, copies read and write its memory, host nodes
//! call its functions, and events, marks, the room in a stream and freed memory are counted here. A graph that is launched as calls has all
//! of that from the calls, on every driver, and no call of ours can ever fall into a capture. *What it costs:* a launch travels
//! as one call for each node, and branches that could run at the same time run one after the other; but what works within a device alone becomes a graph of
//! the server's driver ([`device`]), and one with conditions always is ([`conditional`]).
//!
//! *Rules:* a node's parameters are copied when it is made. What is changed in a graph concerns what is instantiated later. A launch is asked
//! where its kernels were never launched in that shape before, and posted from then on.
//!
//! # Safety
//! Structures and arrays are read, and out parameters written, where the program says, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "structures and arrays of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

mod conditional;
mod device;
mod exec;
mod lanes;
mod memory;
mod model;
mod node;
mod operation;
mod steps;
mod user;

use core::ffi::{CStr, c_char, c_uint, c_ulonglong};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use driver_api::abi::{CUgraph, CUgraphEdgeData, CUgraphNode, CUresult};

pub(crate) use conditional::{Conditional, cuGraphConditionalHandleCreate};
pub(crate) use exec::*;
pub(crate) use memory::*;
pub(crate) use model::{Graph, GraphEntry, NodeEntry, destroy, find, node_of};
pub(crate) use node::*;
pub(crate) use operation::{MemoryCall, Operation};
pub(crate) use user::*;

use crate::entry::code;
use crate::memory::out;
use crate::session;
use model::edges_of;

/// Writes an answer where the program wants it.
///
/// # Safety
/// `place` is null or can be written.
pub(crate) unsafe fn answer<T>(place: *mut T, found: Result<T, CUresult>) -> CUresult {
    code(out(place).and_then(|place| {
        // SAFETY: the caller's promise, and not null.
        unsafe { place.write_unaligned(found?) };
        Ok(())
    }))
}

/// [`answer`] where the program may not want it.
///
/// # Safety
/// As [`answer`].
pub(crate) unsafe fn answer_if_asked<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise, and not null.
        unsafe { place.write_unaligned(value) };
    }
}

/// Most nodes or edges that one call names.
const MAX_LIST: usize = 1 << 24;

/// Handles of the caller's.
///
/// # Safety
///
/// `nodes` has `count` handles.
pub(crate) unsafe fn handles_at(
    nodes: *const CUgraphNode,
    count: usize,
) -> Result<Vec<CUgraphNode>, CUresult> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if nodes.is_null() || count > MAX_LIST {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: by contract.
    let at = |index| unsafe { nodes.add(index).read_unaligned() };
    Ok((0..count).map(at).collect())
}

/// Tells a list of handles: into the caller's arrays as far as they have room, or only how many there are.
///
/// # Safety
///
/// `count` is null or a number; each of `arrays` is null or has room for as many handles as it says.
unsafe fn answer_handles<const N: usize>(
    arrays: [*mut CUgraphNode; N],
    count: *mut usize,
    found: Result<Vec<[CUgraphNode; N]>, CUresult>,
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
    let zeros = std::iter::repeat([CUgraphNode(0); N]);
    for (index, row) in found.iter().copied().chain(zeros).take(room).enumerate() {
        for (array, handle) in arrays.into_iter().zip(row) {
            if !array.is_null() {
                // SAFETY: by contract, the array has room for it.
                unsafe { array.add(index).write_unaligned(handle) };
            }
        }
    }
    // SAFETY: as above.
    unsafe { answer(count, Ok(found.len().min(room))) }
}

/// The answer; where it has told edges, also that they are plain ones.
///
/// # Safety
///
/// `data` is null or has room for `*count` structures, and a success has written `count`.
unsafe fn and_plain_edges(
    result: CUresult,
    is_told: bool,
    data: *mut CUgraphEdgeData,
    count: *const usize,
) -> CUresult {
    if result.is_success() && is_told && !data.is_null() {
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
    let make = || Ok(Graph::new(session::get()?).handle());
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph, make()) }
}

pub(crate) unsafe fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    code(destroy(graph))
}

pub(crate) unsafe fn cuGraphClone(graph_clone: *mut CUgraph, original_graph: CUgraph) -> CUresult {
    if graph_clone.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let copy = || {
        let graph = find(original_graph)?;
        Ok(graph.duplicate_whole(session::get()?)?.handle())
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph_clone, copy()) }
}

pub(crate) unsafe fn cuGraphNodeFindInClone(
    node: *mut CUgraphNode,
    original_node: CUgraphNode,
    cloned_graph: CUgraph,
) -> CUresult {
    let found = || {
        let (graph, number) = node_of(original_node)?;
        find(cloned_graph)?.clone_of(&graph, number)
    };
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(node, found()) }
}

pub(crate) unsafe fn cuGraphGetId(graph: CUgraph, graph_id: *mut c_uint) -> CUresult {
    let id = find(graph).map(|graph| graph.unique as c_uint);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(graph_id, id) }
}

pub(crate) unsafe fn cuGraphGetNodes(
    graph: CUgraph,
    nodes: *mut CUgraphNode,
    num_nodes: *mut usize,
) -> CUresult {
    let found = find(graph).map(|graph| {
        let nodes = graph.nodes().into_values();
        nodes.map(|node| [node.handle]).collect()
    });
    // SAFETY: the caller passes an array and its size.
    unsafe { answer_handles([nodes], num_nodes, found) }
}

pub(crate) unsafe fn cuGraphGetRootNodes(
    graph: CUgraph,
    root_nodes: *mut CUgraphNode,
    num_root_nodes: *mut usize,
) -> CUresult {
    let found = find(graph).map(|graph| {
        let nodes = graph.nodes().into_values();
        let roots = nodes.filter(|node| node.dependencies.is_empty());
        roots.map(|node| [node.handle]).collect()
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
    let found = find(graph).map(|graph| {
        let nodes = graph.nodes();
        let handle = |number: u32| {
            nodes
                .get(&number)
                .map_or(CUgraphNode(0), |node| node.handle)
        };
        let edges = edges_of(&nodes);
        edges.map(|(from, to)| [handle(from), handle(to)]).collect()
    });
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
        let result = cuGraphGetEdges(graph, from, to, num_edges);
        let is_told = !(from.is_null() && to.is_null());
        and_plain_edges(result, is_told, edge_data, num_edges)
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
    let number = |handle: CUgraphNode| match node_of(handle) {
        Ok((other, number)) if other.unique == graph.unique => Ok(number),
        _ => Err(CUresult::INVALID_VALUE),
    };
    let edges = from.into_iter().zip(to);
    let edges = edges.map(|(from, to)| Ok((number(from)?, number(to)?)));
    let edges = edges.collect::<Result<Vec<_>, CUresult>>()?;
    graph.connect(&edges, add)
}

pub(crate) unsafe fn cuGraphAddDependencies(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    code(unsafe { connect(graph, (from, to), num_dependencies, true) })
}

pub(crate) unsafe fn cuGraphAddDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    code(unsafe {
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
    code(unsafe { connect(graph, (from, to), num_dependencies, false) })
}

pub(crate) unsafe fn cuGraphRemoveDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    num_dependencies: usize,
) -> CUresult {
    // SAFETY: the caller passes arrays of this size.
    code(unsafe {
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
        let (graph, number) = node_of(node)?;
        let nodes = graph.nodes();
        let node = nodes.get(&number).ok_or(CUresult::INVALID_HANDLE)?;
        let before = node.dependencies.iter().filter_map(|node| nodes.get(node));
        Ok(before.map(|node| [node.handle]).collect())
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
        let result = cuGraphNodeGetDependencies(node, dependencies, num_dependencies);
        and_plain_edges(result, !dependencies.is_null(), edge_data, num_dependencies)
    }
}

pub(crate) unsafe fn cuGraphNodeGetDependentNodes(
    node: CUgraphNode,
    dependent_nodes: *mut CUgraphNode,
    num_dependent_nodes: *mut usize,
) -> CUresult {
    let found = || {
        let (graph, number) = node_of(node)?;
        let nodes = graph.nodes().into_values();
        let behind = nodes.filter(|node| node.dependencies.contains(&number));
        Ok(behind.map(|node| [node.handle]).collect())
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
        let result = cuGraphNodeGetDependentNodes(node, dependent_nodes, num_dependent_nodes);
        and_plain_edges(
            result,
            !dependent_nodes.is_null(),
            edge_data,
            num_dependent_nodes,
        )
    }
}

pub(crate) unsafe fn cuGraphNodeGetContainingGraph(
    node: CUgraphNode,
    graph: *mut CUgraph,
) -> CUresult {
    let found = node_of(node).map(|(graph, _)| graph.handle());
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(graph, found) }
}

pub(crate) unsafe fn cuGraphNodeGetLocalId(node: CUgraphNode, node_id: *mut c_uint) -> CUresult {
    let found = node_of(node).map(|(_, number)| number);
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(node_id, found) }
}

pub(crate) unsafe fn cuGraphNodeGetToolsId(
    node: CUgraphNode,
    node_id: *mut c_ulonglong,
) -> CUresult {
    let found = node_of(node);
    let found = found.map(|(graph, number)| graph.unique << 32 | c_ulonglong::from(number));
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(node_id, found) }
}

/// The graph in the language of `dot`.
fn dot(graph: &Graph, flags: c_uint) -> String {
    let nodes = graph.nodes();
    let mut text = String::from("digraph {\n");
    for (number, node) in &nodes {
        let label = match &node.operation {
            Operation::Kernel(kernel) => kernel.label(flags),
            Operation::Conditional(conditional) => conditional.label(flags),
            other => other.name().to_owned(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  n{number} [label=\"{label}\"];");
    }
    for (from, to) in edges_of(&nodes) {
        let _ = writeln!(text, "  n{from} -> n{to};");
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
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        let path = std::ffi::OsStr::from_bytes(path);
        std::fs::write(path, dot(&graph, flags)).map_err(|_| CUresult::OPERATING_SYSTEM)
    };
    code(print())
}
