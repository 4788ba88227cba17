//! Graphs of the driver's own: the rows of the `graph` area.
//!
//! *What:* the program's graphs are kept by the client. One that only works within a device comes here as a list of nodes
//! ([`driver_api::device_graph`]) and is made into the driver's, so that a launch is one call and branches run beside each other. *Rules:*
//! - The list is believed as little as the calls that it stands for: functions are looked up, addresses and parameters checked as theirs are.
//! - One graph's parts are held at a time, and bounded.
//! - A graph names functions of the driver's: once a module or library that has one of them is unloaded, it cannot be launched.
//! - It ends with its context.
//!
//! Graphs with conditions: [`conditional`].
//!
//! # Safety
//! Handles come from the driver through this module or this session's tables; lists, parameters and attributes are locals, and as long as the counts say; the
//! driver copies them.
#![expect(unsafe_code, reason = "calls the driver")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

mod conditional;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use driver_api::Driver;
use driver_api::abi::{
    CUDA_MEMCPY3D, CUarray, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUkernel,
};
use driver_api::device_graph::{self, CopyBody, Node, kind};
use driver_api::graph_layout::{FillParameters, KernelParameters, KernelParametersInContext};
use driver_api::result::CUresult;
use driver_api::wire::request;
use zerocopy::FromBytes;

use super::call::{Call, CallError};
use super::context::{Context, between};
use super::end::lock;
use super::launch::{attributes, cooperative, split, with_parameters};
use super::memory::fill_extent;
use super::module::Function;
use super::pace;
use super::session::Session;
use super::table::{MAX_GRAPHS, Table};
use crate::driver::cuda;
use conditional::{Conditions, Filling};
pub(crate) use conditional::{
    gpurunConditionMake, gpurunConditionalEnd, gpurunConditionalMake, gpurunConditionsEnd,
};

/// `CU_MEMORYTYPE_DEVICE`.
const DEVICE: u32 = 2;

const MALFORMED: CallError = CallError::Violation("a graph's nodes are malformed");

/// The graphs of a session, and the parts of the one that is coming.
pub(crate) struct Graphs {
    made: Table<Arc<Graph>>,
    parts: Mutex<(u32, Vec<u8>)>,
    conditions: Conditions,
}

/// A graph that can be launched.
pub(crate) struct Graph {
    context: Arc<Context>,
    /// Nothing once it is destroyed.
    exec: Mutex<Option<CUgraphExec>>,
    functions: Vec<Arc<Function>>,
    /// A function is gone.
    is_broken: AtomicBool,
}

impl Default for Graphs {
    fn default() -> Self {
        Self {
            made: Table::new(MAX_GRAPHS),
            parts: Mutex::default(),
            conditions: Conditions::default(),
        }
    }
}

impl Graphs {
    /// Functions have gone: what names one of them is not launched any more.
    pub(crate) fn without(&self, is_gone: impl Fn(&Function) -> bool) {
        for graph in self.made.all() {
            if graph.functions.iter().any(|function| is_gone(function)) {
                graph.is_broken.store(true, Ordering::Release);
            }
        }
    }

    /// Adds a part of a graph's list; the whole list, with the last one.
    fn add(&self, id: u32, part: &[u8], is_last: bool) -> Result<Option<Vec<u8>>, CallError> {
        let mut parts = lock(&self.parts);
        if parts.0 != id {
            *parts = (id, Vec::new());
        }
        if parts.1.len() + part.len() > device_graph::MAX_BYTES {
            parts.1 = Vec::new();
            return Err(CallError::Violation("a graph of too many bytes"));
        }
        parts.1.extend_from_slice(part);
        Ok(is_last.then(|| std::mem::take(&mut parts.1)))
    }
}

/// Ends the graphs of a context that ends; it is current.
pub(crate) fn end_all(session: &Session, serial: u64) {
    for graph in session.graphs.made.all() {
        if graph.context.serial == serial
            && let Err(error) = destroy(session.driver, &graph)
        {
            tracing::warn!("a graph does not end with its context: {error}");
        }
    }
    let is_elsewhere = |graph: &Arc<Graph>| graph.context.serial != serial;
    session.graphs.made.retain(is_elsewhere);
    session.graphs.conditions.end_all(session, serial);
}

fn destroy(driver: &Driver, graph: &Graph) -> Result<(), CUresult> {
    match lock(&graph.exec).take() {
        Some(exec) => cuda!(driver, cuGraphExecDestroy(exec)),
        None => Ok(()),
    }
}

/// Adds a part of a graph, and makes the graph of the last one.
pub(crate) fn gpurunGraphMake(
    call: &mut Call<'_>,
    request: &request::GpurunGraphMake,
    nodes: &[u8],
) -> Result<(), CallError> {
    let (id, graphs) = (request.graph(), &call.session.graphs);
    let Some(list) = graphs.add(id, nodes, request.is_last() != 0)? else {
        return Ok(());
    };
    graphs.made.check_free(id)?;
    let context = Arc::clone(call.context()?);
    let driver = call.driver();
    let (exec, functions) = match request.within() {
        0 => instantiate(call, &context, &list)?,
        within => instantiate_within(call, &context, within, &list)?,
    };
    let graph = Arc::new(Graph {
        context,
        exec: Mutex::new(Some(exec)),
        functions,
        is_broken: AtomicBool::new(false),
    });
    let entered = graphs.made.insert(id, Arc::clone(&graph));
    if entered.is_err() {
        destroy(driver, &graph)?;
    }
    Ok(entered?)
}

/// What can be launched, and the functions that it names.
type Instantiated = (CUgraphExec, Vec<Arc<Function>>);

/// Of a graph that is made for it.
fn instantiate(call: &Call<'_>, context: &Context, list: &[u8]) -> Result<Instantiated, CallError> {
    let (driver, mut graph) = (call.driver(), CUgraph(0));
    cuda!(driver, cuGraphCreate(&mut graph, 0))?;
    let made = Maker::new(call, context, graph).make(list);
    let mut exec = CUgraphExec(0);
    let made = made.and_then(|functions| {
        cuda!(driver, cuGraphInstantiateWithFlags(&mut exec, graph, 0))?;
        Ok(functions)
    });
    let destroyed = cuda!(driver, cuGraphDestroy(graph));
    let functions = made?;
    if let Err(error) = destroyed {
        cuda!(driver, cuGraphExecDestroy(exec))?;
        return Err(error.into());
    }
    Ok((exec, functions))
}

/// Of a graph with conditions, which is filled for it.
fn instantiate_within(
    call: &Call<'_>,
    context: &Context,
    within: u32,
    list: &[u8],
) -> Result<Instantiated, CallError> {
    let driver = call.driver();
    let conditioned = call.session.graphs.conditions.of(call, within)?;
    let mut state = lock(&conditioned.state);
    let graph = state.graph.ok_or(CUresult::INVALID_HANDLE)?;
    let mut filling = Filling::new(&state.nodes);
    let maker = Maker {
        filling: Some(&mut filling),
        ..Maker::new(call, context, graph)
    };
    let made = maker.make(list);
    let mut exec = CUgraphExec(0);
    let made = made.and_then(|functions| {
        filling.check_whole()?;
        cuda!(driver, cuGraphInstantiateWithFlags(&mut exec, graph, 0))?;
        Ok(functions)
    });
    if let Err(error) = filling.empty(driver) {
        // Whatever is left in it would be in all that is made of it.
        tracing::warn!("a graph with conditions cannot be emptied: {error}");
        state.graph = None;
        if made.is_ok() {
            cuda!(driver, cuGraphExecDestroy(exec))?;
        }
        cuda!(driver, cuGraphDestroy(graph))?;
        return Err(error.into());
    }
    Ok((exec, made?))
}

/// Launches a graph.
pub(crate) fn gpurunGraphLaunch(
    call: &mut Call<'_>,
    request: &request::GpurunGraphLaunch,
) -> Result<(), CallError> {
    let graph = call.session.graphs.made.get(request.graph());
    let graph = graph.ok_or(CUresult::INVALID_HANDLE)?;
    let stream = call.stream(request.stream().0)?;
    if graph.is_broken.load(Ordering::Acquire) || call.context()?.serial != graph.context.serial {
        return Err(CUresult::INVALID_HANDLE.into());
    }
    let handle = stream.handle;
    pace::run(call, &stream, |call| match *lock(&graph.exec) {
        Some(exec) => cuda!(call.driver(), cuGraphLaunch(exec, handle)),
        None => Err(CUresult::INVALID_HANDLE),
    })?;
    Ok(())
}

/// The end of a graph.
pub(crate) fn gpurunGraphEnd(
    call: &mut Call<'_>,
    request: &request::GpurunGraphEnd,
) -> Result<(), CallError> {
    // One whose context has ended is gone already.
    if let Some(graph) = call.session.graphs.made.remove(request.graph()) {
        destroy(call.driver(), &graph)?;
    }
    Ok(())
}

/// Makes the nodes of a graph.
struct Maker<'m, 'c, 'n> {
    call: &'m Call<'c>,
    context: &'m Context,
    graph: CUgraph,
    made: Vec<CUgraphNode>,
    functions: Vec<Arc<Function>>,
    /// Of a graph with conditions, what there is of it, and the node and body that this is in.
    filling: Option<&'m mut Filling<'n>>,
    place: (u32, u32),
}

impl<'m, 'c> Maker<'m, 'c, '_> {
    fn new(call: &'m Call<'c>, context: &'m Context, graph: CUgraph) -> Self {
        Self {
            call,
            context,
            graph,
            made: Vec::new(),
            functions: Vec::new(),
            filling: None,
            place: (0, 0),
        }
    }

    fn make(mut self, list: &[u8]) -> Result<Vec<Arc<Function>>, CallError> {
        for node in device_graph::nodes(list) {
            let node = node.map_err(|_| MALFORMED)?;
            let places = node.dependencies();
            let after: Option<Vec<_>> = places.map(|place| self.made.get(place).copied()).collect();
            let handle = self.add(&node, &after.ok_or(MALFORMED)?)?;
            self.made.push(handle);
        }
        Ok(self.functions)
    }

    fn add(&mut self, node: &Node<'_>, after: &[CUgraphNode]) -> Result<CUgraphNode, CallError> {
        let made = match node.kind {
            kind::EMPTY => self.empty(after),
            kind::KERNEL => self.kernel(node.body, after),
            kind::COPY => self.copy(node.body, after),
            kind::FILL => self.fill(node.body, after),
            // There already: it stays when what is added goes.
            kind::CONDITIONAL => return self.conditional(node.body, after),
            _ => Err(MALFORMED),
        }?;
        if let Some(filling) = &mut self.filling {
            filling.add(made);
        }
        Ok(made)
    }

    /// Puts a node with a condition behind others, and fills its bodies.
    fn conditional(
        &mut self,
        body: &[u8],
        after: &[CUgraphNode],
    ) -> Result<CUgraphNode, CallError> {
        let (name, lists) = device_graph::bodies(body).map_err(|_| MALFORMED)?;
        let lists = lists.collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|_| MALFORMED)?;
        let filling = self.filling.as_deref_mut().ok_or(MALFORMED)?;
        let (driver, graph) = (self.call.driver(), self.graph);
        let (node, bodies) = filling.name(driver, graph, self.place, name, after)?;
        if lists.len() != bodies.len() {
            return Err(MALFORMED);
        }
        for (index, (list, body)) in lists.into_iter().zip(bodies).enumerate() {
            // Bodies are as deep in each other as they were made, which is bounded.
            let inside = Maker {
                functions: std::mem::take(&mut self.functions),
                filling: self.filling.as_deref_mut(),
                place: (name, index as u32),
                ..Maker::new(self.call, self.context, *body)
            };
            self.functions = inside.make(list)?;
        }
        Ok(node)
    }

    fn empty(&self, after: &[CUgraphNode]) -> Result<CUgraphNode, CallError> {
        let mut node = CUgraphNode(0);
        cuda!(
            self.call.driver(),
            cuGraphAddEmptyNode(&mut node, self.graph, after.as_ptr(), after.len())
        )?;
        Ok(node)
    }

    fn kernel(&mut self, body: &[u8], after: &[CUgraphNode]) -> Result<CUgraphNode, CallError> {
        let (request, rest) =
            request::GpurunLaunch::ref_from_prefix(body).map_err(|_| MALFORMED)?;
        let functions = &self.call.session.functions;
        let function = functions.get(request.function().0);
        let function = function.ok_or(CUresult::INVALID_HANDLE)?;
        let (bytes, parameters) = split(request.attribute_count() as usize, rest)?;
        let (driver, graph, mut node) = (self.call.driver(), self.graph, CUgraphNode(0));
        with_parameters(&function, parameters, |kernel_params, extra| {
            let plain = KernelParameters {
                function: function.as_function(),
                grid: request.grid(),
                block: request.block(),
                shared_bytes: request.shared_bytes(),
                kernel_params,
                extra,
            };
            match function.as_kernel() {
                None => cuda!(
                    driver,
                    cuGraphAddKernelNode(
                        &mut node,
                        graph,
                        after.as_ptr(),
                        after.len(),
                        (&raw const plain).cast()
                    )
                ),
                Some(CUkernel(kernel)) => {
                    let parameters = KernelParametersInContext {
                        plain: KernelParameters {
                            function: CUfunction(0),
                            ..plain
                        },
                        kernel: CUfunction(kernel),
                        context: self.context.handle(),
                    };
                    cuda!(
                        driver,
                        cuGraphAddKernelNode_v2(
                            &mut node,
                            graph,
                            after.as_ptr(),
                            after.len(),
                            (&raw const parameters).cast()
                        )
                    )
                }
            }
        })?;
        let set = || -> Result<(), CallError> {
            let mut attributes = attributes(bytes)?;
            if request.cooperative() != 0 {
                attributes.push(cooperative());
            }
            for attribute in attributes {
                let value = (&raw const attribute.value).cast();
                cuda!(
                    driver,
                    cuGraphKernelNodeSetAttribute(node, attribute.id, value)
                )?;
            }
            Ok(())
        };
        if let Err(error) = set() {
            // The graph may be one that stays.
            cuda!(driver, cuGraphDestroyNode(node))?;
            return Err(error);
        }
        self.functions.push(function);
        Ok(node)
    }

    fn copy(&self, body: &[u8], after: &[CUgraphNode]) -> Result<CUgraphNode, CallError> {
        let body = CopyBody::read_from_bytes(body).map_err(|_| MALFORMED)?;
        let (width, height, depth) = (body.width.get(), body.height.get(), body.depth.get());
        let memory = &self.call.session.memory;
        for end in [&body.destination, &body.source] {
            let extent = end.extent(width, height, depth);
            memory.check(end.first.get(), extent.ok_or(CUresult::INVALID_VALUE)?)?;
        }
        let (destination, source) = (body.destination.first.get(), body.source.first.get());
        if between(self.call, destination, source)?.is_some() {
            // Without access from one to the other, only a call copies that.
            return Err(CUresult::NOT_SUPPORTED.into());
        }
        let copy = CUDA_MEMCPY3D {
            src_x_in_bytes: 0,
            src_y: 0,
            src_z: 0,
            src_lod: 0,
            src_memory_type: DEVICE,
            src_host: std::ptr::null(),
            src_device: body.source.first.get(),
            src_array: CUarray(0),
            reserved0: std::ptr::null_mut(),
            src_pitch: body.source.row.get() as usize,
            src_height: body.source.rows.get() as usize,
            dst_x_in_bytes: 0,
            dst_y: 0,
            dst_z: 0,
            dst_lod: 0,
            dst_memory_type: DEVICE,
            dst_host: std::ptr::null_mut(),
            dst_device: body.destination.first.get(),
            dst_array: CUarray(0),
            reserved1: std::ptr::null_mut(),
            dst_pitch: body.destination.row.get() as usize,
            dst_height: body.destination.rows.get() as usize,
            width_in_bytes: width as usize,
            height: height as usize,
            depth: depth as usize,
        };
        let mut node = CUgraphNode(0);
        cuda!(
            self.call.driver(),
            cuGraphAddMemcpyNode(
                &mut node,
                self.graph,
                after.as_ptr(),
                after.len(),
                &copy,
                self.context.handle()
            )
        )?;
        Ok(node)
    }

    fn fill(&self, body: &[u8], after: &[CUgraphNode]) -> Result<CUgraphNode, CallError> {
        let request = request::GpurunFill::ref_from_bytes(body).map_err(|_| MALFORMED)?;
        let extent = fill_extent(request).ok_or(CUresult::INVALID_VALUE)?;
        self.call
            .session
            .memory
            .check(request.destination(), extent)?;
        let parameters = FillParameters {
            destination: request.destination(),
            pitch: request.pitch() as usize,
            value: request.value(),
            element_size: request.element_bytes(),
            width: request.width() as usize,
            height: request.height() as usize,
        };
        let mut node = CUgraphNode(0);
        cuda!(
            self.call.driver(),
            cuGraphAddMemsetNode(
                &mut node,
                self.graph,
                after.as_ptr(),
                after.len(),
                (&raw const parameters).cast(),
                self.context.handle()
            )
        )?;
        Ok(node)
    }
}
