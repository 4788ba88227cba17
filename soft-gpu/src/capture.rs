//! Stream capture: what is posted to a stream becomes a graph.
//!
//! ```text
//! cuStreamBeginCapture ─▶ active ──an event recorded in it is waited for──▶ the other stream belongs to it too
//!                           │ └──something that a graph cannot have──▶ invalid, until it is ended
//!                           └──cuStreamEndCapture in the first stream, all others joined──▶ a graph
//! ```
//!
//! A captured stream knows the nodes that its next one has to wait for. Each operation asks [`add`] before it is posted; as long as the
//! process captures nothing, that is one load.
//!
//! The calls that CUDA calls potentially unsafe are allowed in every mode, unless the device is hostile ([`guard`]).
//!
//! Rules: only streams keep a capture alive; an event merely knows it. It ends with its first stream, whatever becomes of the others. A
//! graph that was made for a capture and was not handed to the program goes with it.
//!
//! # Safety
//!
//! The driver's functions read and write through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

use core::ffi::c_uint;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::thread::ThreadId;

use driver_api::abi::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode,
    CUstreamCaptureStatus,
};

use crate::context::{Context, unique_id};
use crate::entry::{answer, answer_if_asked, done};
use crate::event::Event;
use crate::graph::{Graph, handles_at};
use crate::state::driver;
use crate::stream::{Operation, Role, Stream, find};
use crate::threads::lock;

const NOT_CAPTURING: CUstreamCaptureStatus = 0;
const ACTIVE: CUstreamCaptureStatus = 1;
const INVALIDATED: CUstreamCaptureStatus = 2;
const GLOBAL: CUstreamCaptureMode = 0;
const RELAXED: CUstreamCaptureMode = 2;

/// Captures of the process that have not ended.
static CAPTURES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(GLOBAL) };
}

/// One capture.
#[derive(Debug)]
pub(crate) struct Capture {
    id: u64,
    graph: Arc<Graph>,
    /// Whether the graph was made for it.
    owns_graph: bool,
    /// The stream in which it began.
    origin: u64,
    mode: CUstreamCaptureMode,
    thread: ThreadId,
    invalid: AtomicBool,
    ended: AtomicBool,
    /// The program has got the graph.
    handed_over: AtomicBool,
}

impl Capture {
    fn status(&self) -> CUstreamCaptureStatus {
        if self.invalid.load(Ordering::Relaxed) {
            INVALIDATED
        } else {
            ACTIVE
        }
    }

    fn check(&self) -> Result<(), CUresult> {
        match self.status() {
            ACTIVE => Ok(()),
            _ => Err(CUresult::STREAM_CAPTURE_INVALIDATED),
        }
    }

    /// It cannot become a graph any more: what the call that spoilt it answers.
    fn spoil(&self, error: CUresult) -> CUresult {
        if self.invalid.swap(true, Ordering::Relaxed) {
            CUresult::STREAM_CAPTURE_INVALIDATED
        } else {
            error
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            CAPTURES.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
        if self.owns_graph
            && !*self.handed_over.get_mut()
            && let Ok(driver) = driver()
        {
            let _ = driver.graphs.remove(self.graph.handle);
        }
    }
}

/// Where a stream is in its capture.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    capture: Arc<Capture>,
    /// The nodes that come before.
    dependencies: Vec<usize>,
    /// As many plain edges, for who asks.
    edges: Vec<u64>,
}

/// A place in a capture that may be over, as an event knows it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    capture: Weak<Capture>,
    dependencies: Vec<usize>,
}

impl Place {
    /// The place, while its capture goes on.
    fn found(self) -> Option<Captured> {
        let capture = self.capture.upgrade()?;
        (!capture.has_ended()).then_some(Captured {
            capture,
            dependencies: self.dependencies,
            edges: Vec::new(),
        })
    }
}

impl Captured {
    fn place(&self) -> Place {
        Place {
            capture: Arc::downgrade(&self.capture),
            dependencies: self.dependencies.clone(),
        }
    }

    fn depend(&mut self, nodes: impl IntoIterator<Item = usize>) {
        for node in nodes {
            if !self.dependencies.contains(&node) {
                self.dependencies.push(node);
            }
        }
    }

    fn push(&mut self, operation: Operation) -> Result<(), CUresult> {
        self.capture.check()?;
        let node = self.capture.graph.add(operation, &self.dependencies)?;
        self.dependencies = vec![node];
        Ok(())
    }
}

/// What a stream is captured to. A capture that has ended is forgotten here.
fn slot(stream: &Stream) -> MutexGuard<'_, Option<Captured>> {
    let mut slot = lock(&stream.captured);
    slot.take_if(|captured| captured.capture.has_ended());
    slot
}

fn nothing_is_captured() -> bool {
    CAPTURES.load(Ordering::Relaxed) == 0
}

/// Whether a stream's operations become nodes.
pub(crate) fn is_captured(stream: &Stream) -> bool {
    !nothing_is_captured() && slot(stream).is_some()
}

/// The legacy stream would wait for blocking streams, and captured ones do nothing now.
fn implicit(context: &Context, stream: &Stream) -> Result<(), CUresult> {
    if stream.role != Role::Legacy {
        return Ok(());
    }
    let captured = context.captured();
    let blocking = captured.iter().find(|other| other.is_blocking());
    match blocking.and_then(|other| slot(other).clone()) {
        Some(captured) => Err(captured.capture.spoil(CUresult::STREAM_CAPTURE_IMPLICIT)),
        None => Ok(()),
    }
}

/// Makes an operation a node, if the stream is captured. False if it is to be posted.
pub(crate) fn add(
    context: &Context,
    stream: &Stream,
    operation: &Operation,
) -> Result<bool, CUresult> {
    if nothing_is_captured() {
        return Ok(false);
    }
    if let Some(captured) = slot(stream).as_mut() {
        captured.push(operation.clone())?;
        return Ok(true);
    }
    implicit(context, stream).map(|()| false)
}

/// Before a call that needs a stream's work to be done: a captured stream has none.
pub(crate) fn forbid(context: &Context, stream: &Stream) -> Result<(), CUresult> {
    if nothing_is_captured() {
        return Ok(());
    }
    if let Some(captured) = slot(stream).as_ref() {
        let error = CUresult::STREAM_CAPTURE_UNSUPPORTED;
        return Err(captured.capture.spoil(error));
    }
    implicit(context, stream)
}

/// Before a call that waits for all streams of a context, or of a green one that is not 0: all their captures are spoilt.
pub(crate) fn forbid_all(context: &Context, green: usize) -> Result<(), CUresult> {
    if nothing_is_captured() {
        return Ok(());
    }
    let streams = context.captured_of(green);
    let spoilt: Vec<_> = streams
        .iter()
        .map(|stream| forbid(context, stream))
        .collect();
    spoilt.into_iter().collect()
}

/// Before a call that waits for what an event names, which must not be a place in a capture.
pub(crate) fn forbid_event(event: &Event) -> Result<(), CUresult> {
    match event.captured().and_then(Place::found) {
        Some(place) => Err(place.capture.spoil(CUresult::STREAM_CAPTURE_UNSUPPORTED)),
        None => Ok(()),
    }
}

/// Before a potentially unsafe call: on a hostile device it spoils the captures that forbid it to this thread.
pub(crate) fn guard() -> Result<(), CUresult> {
    let driver = driver()?;
    if nothing_is_captured() || !driver.config.hostile.guards_captures() || MODE.get() == RELAXED {
        return Ok(());
    }
    let forbids = |capture: &Capture| match capture.mode {
        RELAXED => false,
        _ if capture.thread == std::thread::current().id() => true,
        mode => mode == GLOBAL && MODE.get() == GLOBAL,
    };
    let contexts = driver.contexts.all();
    let mut streams = contexts.iter().flat_map(|context| context.captured());
    let spoilt = streams.find_map(|stream| {
        let captured = slot(&stream).clone()?;
        let error = CUresult::STREAM_CAPTURE_UNSUPPORTED;
        forbids(&captured.capture).then(|| captured.capture.spoil(error))
    });
    spoilt.map_or(Ok(()), Err)
}

/// `cuEventRecord`: where in a capture the event is now, if the stream is captured. `external` makes it a node.
pub(crate) fn record(
    context: &Context,
    stream: &Stream,
    (event, handle): (&Arc<Event>, usize),
    external: bool,
) -> Result<Option<Place>, CUresult> {
    if nothing_is_captured() {
        return Ok(None);
    }
    if let Some(captured) = slot(stream).as_mut() {
        captured.capture.check()?;
        if external {
            captured.push(Operation::Record(Arc::clone(event), handle))?;
        }
        return Ok(Some(captured.place()));
    }
    implicit(context, stream).map(|()| None)
}

/// `cuStreamWaitEvent`: whether a capture is all that it is about.
pub(crate) fn wait(
    context: &Context,
    stream: &Stream,
    (event, handle): (&Arc<Event>, usize),
    external: bool,
) -> Result<bool, CUresult> {
    if nothing_is_captured() {
        return Ok(false);
    }
    let place = event.captured().and_then(Place::found);
    let mut slot = slot(stream);
    match (slot.as_mut(), place) {
        (Some(captured), _) if external => {
            captured.push(Operation::Wait(Arc::clone(event), handle))?;
            Ok(true)
        }
        (Some(captured), Some(place)) => {
            captured.capture.check()?;
            if captured.capture.id != place.capture.id {
                let error = CUresult::STREAM_CAPTURE_MERGE;
                return Err(captured.capture.spoil(place.capture.spoil(error)));
            }
            captured.depend(place.dependencies);
            Ok(true)
        }
        (Some(captured), None) if event.is_recorded() => {
            Err(captured.capture.spoil(CUresult::STREAM_CAPTURE_ISOLATION))
        }
        (Some(_), None) => Ok(true),
        (None, Some(place)) => {
            place.capture.check()?;
            if stream.role == Role::Legacy {
                return Err(place.capture.spoil(CUresult::STREAM_CAPTURE_IMPLICIT));
            }
            *slot = Some(place);
            Ok(true)
        }
        (None, None) => {
            drop(slot);
            implicit(context, stream).map(|()| false)
        }
    }
}

fn begin(
    stream: CUstream,
    mode: CUstreamCaptureMode,
    graph: Option<Arc<Graph>>,
    dependencies: Vec<usize>,
) -> Result<(), CUresult> {
    let (_, stream) = find(stream)?;
    if mode > RELAXED {
        return Err(CUresult::INVALID_VALUE);
    }
    if stream.role == Role::Legacy {
        return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
    }
    let mut slot = slot(&stream);
    if slot.is_some() {
        return Err(CUresult::ILLEGAL_STATE);
    }
    let owns_graph = graph.is_none();
    let graph = graph.map_or_else(Graph::new, Ok)?;
    graph.check_nodes(&dependencies)?;
    if owns_graph {
        graph.register()?;
    }
    CAPTURES.fetch_add(1, Ordering::Relaxed);
    let capture = Arc::new(Capture {
        id: unique_id(),
        graph,
        owns_graph,
        origin: stream.id,
        mode,
        thread: std::thread::current().id(),
        invalid: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        handed_over: AtomicBool::new(false),
    });
    *slot = Some(Captured {
        capture,
        dependencies,
        edges: Vec::new(),
    });
    Ok(())
}

fn end(stream: CUstream) -> Result<CUgraph, CUresult> {
    let (_, stream) = find(stream)?;
    let captured = slot(&stream).clone().ok_or(CUresult::ILLEGAL_STATE)?;
    let capture = &captured.capture;
    if capture.origin != stream.id {
        return Err(capture.spoil(CUresult::STREAM_CAPTURE_UNMATCHED));
    }
    if capture.mode != RELAXED && capture.thread != std::thread::current().id() {
        return Err(capture.spoil(CUresult::STREAM_CAPTURE_WRONG_THREAD));
    }
    let places = leave(capture)?;
    let before = capture.graph.ancestors(&captured.dependencies);
    let mut ends = places.iter().flat_map(|place| &place.dependencies);
    let is_joined = ends.all(|node| before.contains(node));
    capture.check()?;
    if !is_joined {
        return Err(CUresult::STREAM_CAPTURE_UNJOINED);
    }
    capture.handed_over.store(true, Ordering::Relaxed);
    Ok(CUgraph(capture.graph.handle))
}

/// Ends a capture: no stream of any context is in it any more. Where they were.
fn leave(capture: &Capture) -> Result<Vec<Captured>, CUresult> {
    let contexts = driver()?.contexts.all();
    let streams = contexts.iter().flat_map(|context| context.captured());
    let its_own = |captured: &mut Captured| captured.capture.id == capture.id;
    let places = streams
        .filter_map(|stream| slot(&stream).take_if(its_own))
        .collect();
    capture.end();
    Ok(places)
}

/// A stream ends, and with it the capture that began there.
pub(crate) fn stream_destroyed(stream: &Stream) {
    if nothing_is_captured() {
        return;
    }
    let captured = slot(stream).take();
    if let Some(captured) = captured.filter(|captured| captured.capture.origin == stream.id) {
        // Without a driver there are no streams.
        let _ = leave(&captured.capture);
    }
}

pub(crate) unsafe fn cuStreamBeginCapture(stream: CUstream) -> CUresult {
    done(begin(stream, GLOBAL, None, Vec::new()))
}

pub(crate) unsafe fn cuStreamBeginCapture_v2(
    stream: CUstream,
    mode: CUstreamCaptureMode,
) -> CUresult {
    done(begin(stream, mode, None, Vec::new()))
}

pub(crate) unsafe fn cuStreamBeginCaptureToGraph(
    stream: CUstream,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    _dependency_data: *const CUgraphEdgeData,
    num_dependencies: usize,
    mode: CUstreamCaptureMode,
) -> CUresult {
    let begin = || {
        // SAFETY: the caller passes as many handles.
        let nodes = unsafe { handles_at(dependencies, num_dependencies) }?;
        begin(stream, mode, Some(driver()?.graphs.get(graph.0)?), nodes)
    };
    done(begin())
}

pub(crate) unsafe fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph) -> CUresult {
    if graph.is_null() {
        return CUresult::INVALID_VALUE;
    }
    let ended = end(stream);
    // SAFETY: the caller passes a place for a handle; of a capture that failed there is no graph.
    unsafe {
        if ended.is_err() {
            answer_if_asked(graph, CUgraph(0));
        }
        answer(graph, ended)
    }
}

pub(crate) unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) -> CUresult {
    if let Err(error) = driver() {
        return error;
    }
    if mode.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a mode, and a place for the one before.
    unsafe {
        let wanted = mode.read_unaligned();
        if wanted > RELAXED {
            return CUresult::INVALID_VALUE;
        }
        answer(mode, Ok(MODE.replace(wanted)))
    }
}

/// What is told about a stream's capture: status, id, graph, and the nodes before its next one with the edges from them, where they stay until it changes.
type Information = (
    CUstreamCaptureStatus,
    u64,
    CUgraph,
    *const CUgraphNode,
    *const CUgraphEdgeData,
    usize,
);

fn information(stream: CUstream) -> Result<Information, CUresult> {
    const NONE: Information = (
        NOT_CAPTURING,
        0,
        CUgraph(0),
        core::ptr::null(),
        core::ptr::null(),
        0,
    );
    let (context, stream) = find(stream)?;
    if nothing_is_captured() {
        return Ok(NONE);
    }
    if stream.role == Role::Legacy && context.captured().iter().any(|other| other.is_blocking()) {
        return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
    }
    Ok(slot(&stream).as_mut().map_or(NONE, |captured| {
        let Captured {
            capture,
            dependencies,
            edges,
        } = captured;
        let status = capture.status();
        let nodes = dependencies.as_ptr().cast();
        let graph = CUgraph(capture.graph.handle);
        // An edge's data are eight bytes, of a plain one zeros.
        edges.resize(dependencies.len(), 0);
        let edges = edges.as_ptr().cast();
        (status, capture.id, graph, nodes, edges, dependencies.len())
    }))
}

pub(crate) unsafe fn cuStreamIsCapturing(
    stream: CUstream,
    capture_status: *mut CUstreamCaptureStatus,
) -> CUresult {
    // SAFETY: the caller passes a place for a status.
    unsafe { answer(capture_status, information(stream).map(|found| found.0)) }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
) -> CUresult {
    // SAFETY: the caller passes places for a status and an id, the latter may be null.
    unsafe {
        cuStreamGetCaptureInfo_v2(
            stream,
            capture_status_out,
            id_out,
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
        )
    }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    num_dependencies_out: *mut usize,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe {
        cuStreamGetCaptureInfo_v3(
            stream,
            capture_status_out,
            id_out,
            graph_out,
            dependencies_out,
            core::ptr::null_mut(),
            num_dependencies_out,
        )
    }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    edge_data_out: *mut *const CUgraphEdgeData,
    num_dependencies_out: *mut usize,
) -> CUresult {
    let (status, id, graph, nodes, edges, count) = match information(stream) {
        Ok(information) => information,
        Err(error) => return error,
    };
    // SAFETY: the caller passes places for these values; all but the status may be null.
    unsafe {
        answer_if_asked(id_out, id);
        answer_if_asked(graph_out, graph);
        answer_if_asked(dependencies_out, nodes);
        answer_if_asked(edge_data_out, edges);
        answer_if_asked(num_dependencies_out, count);
        answer(capture_status_out, Ok(status))
    }
}

pub(crate) unsafe fn cuStreamUpdateCaptureDependencies(
    stream: CUstream,
    dependencies: *mut CUgraphNode,
    num_dependencies: usize,
    flags: c_uint,
) -> CUresult {
    const ADD: c_uint = 0;
    const SET: c_uint = 1;
    let update = || {
        let (_, stream) = find(stream)?;
        // SAFETY: the caller passes as many handles.
        let nodes = unsafe { handles_at(dependencies, num_dependencies) }?;
        let mut slot = slot(&stream);
        let captured = slot.as_mut().ok_or(CUresult::ILLEGAL_STATE)?;
        captured.capture.check()?;
        captured.capture.graph.check_nodes(&nodes)?;
        match flags {
            ADD => {}
            SET => captured.dependencies.clear(),
            _ => return Err(CUresult::INVALID_VALUE),
        }
        captured.depend(nodes);
        Ok(())
    };
    done(update())
}

pub(crate) unsafe fn cuStreamUpdateCaptureDependencies_v2(
    stream: CUstream,
    dependencies: *mut CUgraphNode,
    _dependency_data: *const CUgraphEdgeData,
    num_dependencies: usize,
    flags: c_uint,
) -> CUresult {
    // SAFETY: the caller's promises are the same.
    unsafe { cuStreamUpdateCaptureDependencies(stream, dependencies, num_dependencies, flags) }
}
