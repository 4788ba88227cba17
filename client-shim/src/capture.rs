//! Stream capture: what would be posted to a stream becomes a graph.
//!
//! ```text
//! cuStreamBeginCapture ─▶ active ──an event recorded in it is waited for──▶ the other stream belongs to it too
//!                           │ └──something that a graph cannot have──▶ invalid, until it is ended
//!                           └──cuStreamEndCapture in the first stream, all others joined──▶ a graph
//! ```
//!
//! *Here alone:* the server never hears of a capture, so nothing of ours can fall into one, and its modes are those of the program's threads.
//! A stream that is captured knows the nodes that its next one has to wait for. A call that can be a node asks [`is_captured`]; every other
//! one that names a stream is refused by [`forbid`], which is the default of [`stream::resolve_in`]. As long as the process captures nothing,
//! each is one load.
//!
//! *Modes:* calls that could wait for the device behind the program's back ([`forbid_unsafe`]) spoil a capture of their own thread, and one
//! that any thread began in the global mode, as `cuThreadExchangeStreamCaptureMode` tells them apart.
//!
//! # Safety
//! Handles are read, and out parameters written, where the program says, by the contract of the CUDA driver API.
#![expect(unsafe_code, reason = "arrays and out parameters of a C ABI")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::c_uint;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use driver_api::abi::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode,
    CUstreamCaptureStatus,
};

use crate::context::Context;
use crate::entry::code;
use crate::event::Event;
use crate::graph::{self, Graph, Operation, answer, answer_if_asked, handles_at};
use crate::objects::unique;
use crate::session::{self, Session};
use crate::stream::{self, Stream};
use crate::thread;

const NOT_CAPTURING: CUstreamCaptureStatus = 0;
const ACTIVE: CUstreamCaptureStatus = 1;
const INVALIDATED: CUstreamCaptureStatus = 2;
const GLOBAL: CUstreamCaptureMode = 0;
const RELAXED: CUstreamCaptureMode = 2;

/// Captures of the process that have not ended.
static CAPTURES: AtomicUsize = AtomicUsize::new(0);

/// The same ones, for calls that must not be made while one goes on.
static UNENDED: Mutex<Vec<Weak<Capture>>> = Mutex::new(Vec::new());

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(GLOBAL) };
}

/// One capture.
#[derive(Debug)]
pub(crate) struct Capture {
    id: u64,
    graph: Arc<Graph>,
    /// Whether the graph was made for it, and has not been given to the program.
    owns_graph: AtomicBool,
    /// The stream in which it began.
    origin: u64,
    mode: CUstreamCaptureMode,
    thread: u32,
    invalid: AtomicBool,
    ended: AtomicBool,
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

    /// Whether a call that could wait for the device spoils it, from a thread in this mode.
    fn forbids(&self, mode: CUstreamCaptureMode) -> bool {
        let is_own = self.thread == thread::number();
        let is_strict = self.mode != RELAXED && is_own;
        !self.has_ended() && (is_strict || (mode == GLOBAL && self.mode == GLOBAL))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
        if self.owns_graph.load(Ordering::Relaxed) {
            // The program may have destroyed it.
            let _ = graph::destroy(self.graph.handle());
        }
    }
}

/// A stream's place in a capture.
#[derive(Debug)]
pub(crate) struct Captured {
    capture: Arc<Capture>,
    /// The nodes that come before, and as many plain edges, for who asks.
    dependencies: Vec<CUgraphNode>,
    edges: Vec<u64>,
}

impl Captured {
    fn new(capture: Arc<Capture>, dependencies: Vec<CUgraphNode>) -> Self {
        Self {
            capture,
            edges: vec![0; dependencies.len()],
            dependencies,
        }
    }

    fn follow(&mut self, dependencies: Vec<CUgraphNode>) {
        self.edges = vec![0; dependencies.len()];
        self.dependencies = dependencies;
    }

    fn follow_also(&mut self, nodes: Vec<CUgraphNode>) {
        let mut dependencies = std::mem::take(&mut self.dependencies);
        for node in nodes {
            if !dependencies.contains(&node) {
                dependencies.push(node);
            }
        }
        self.follow(dependencies);
    }

    /// Makes a node for the context of the stream that is here.
    fn push(&mut self, context: u32, operation: &Operation) -> Result<(), CUresult> {
        self.capture.check()?;
        let graph = &self.capture.graph;
        let node = graph.add(session::get()?, context, operation, &self.dependencies)?;
        self.follow(vec![node]);
        Ok(())
    }
}

/// Where an event was recorded in a capture. It does not keep the capture.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    capture: Weak<Capture>,
    dependencies: Vec<CUgraphNode>,
}

/// A stream's place in a capture; one whose first stream was destroyed is none.
fn slot(stream: &Stream) -> MutexGuard<'_, Option<Captured>> {
    let mut slot = stream
        .captured
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    slot.take_if(|place| place.capture.has_ended());
    slot
}

fn nothing_is_captured() -> bool {
    CAPTURES.load(Ordering::Relaxed) == 0
}

/// The streams that belong to captures, of one context or of all.
fn captured_streams(session: &Session, context: Option<u32>) -> Vec<Arc<Stream>> {
    session.objects.streams.select(|stream| {
        context.is_none_or(|context| context == stream.context) && slot(stream).is_some()
    })
}

/// The capture that a legacy stream would have to wait for: of a stream that waits for it and it for them.
fn in_the_way_of(session: &Session, legacy: &Stream) -> Option<Arc<Capture>> {
    let captured = captured_streams(session, Some(legacy.context));
    let blocking = captured.iter().find(|stream| stream.is_blocking())?;
    let captured = slot(blocking);
    Some(Arc::clone(&captured.as_ref()?.capture))
}

/// The legacy stream would wait for blocking streams, and captured ones do nothing now.
fn implicit(session: &Session, stream: &Stream) -> Result<(), CUresult> {
    if stream.id != 0 {
        return Ok(());
    }
    match in_the_way_of(session, stream) {
        Some(capture) => Err(capture.spoil(CUresult::STREAM_CAPTURE_IMPLICIT)),
        None => Ok(()),
    }
}

/// Whether a stream's work becomes nodes, by [`add`]. If not, it is to be posted.
///
/// # Errors
/// The legacy stream would have to wait for one that is captured.
pub(crate) fn is_captured(session: &Session, stream: &Stream) -> Result<bool, CUresult> {
    if nothing_is_captured() {
        return Ok(false);
    }
    if slot(stream).is_some() {
        return Ok(true);
    }
    implicit(session, stream).map(|()| false)
}

/// Makes a node of what a captured stream is given.
pub(crate) fn add(stream: &Stream, operation: Operation) -> Result<(), CUresult> {
    let mut slot = slot(stream);
    // Another thread may have ended the capture.
    let captured = slot.as_mut().ok_or(CUresult::STREAM_CAPTURE_INVALIDATED)?;
    captured.push(stream.context, &operation)
}

/// Where a captured stream is, for an event.
pub(crate) fn place_of(stream: &Stream) -> Result<Place, CUresult> {
    let slot = slot(stream);
    let captured = slot.as_ref().ok_or(CUresult::STREAM_CAPTURE_INVALIDATED)?;
    captured.capture.check()?;
    Ok(Place {
        capture: Arc::downgrade(&captured.capture),
        dependencies: captured.dependencies.clone(),
    })
}

/// Before a call that a graph cannot have, or that waits for a stream's work: a captured stream has none.
pub(crate) fn forbid(session: &Session, stream: &Stream) -> Result<(), CUresult> {
    if nothing_is_captured() {
        return Ok(());
    }
    if let Some(captured) = slot(stream).as_ref() {
        let error = CUresult::STREAM_CAPTURE_UNSUPPORTED;
        return Err(captured.capture.spoil(error));
    }
    implicit(session, stream)
}

/// Before a call that waits for all streams of a context: all its captures are spoilt.
pub(crate) fn forbid_all(session: &Session, context: &Context) -> Result<(), CUresult> {
    if nothing_is_captured() {
        return Ok(());
    }
    forbid_streams(session, &captured_streams(session, Some(context.id)))
}

/// Before a call that waits for all of these streams: all their captures are spoilt, whatever the first one answers.
pub(crate) fn forbid_streams(session: &Session, streams: &[Arc<Stream>]) -> Result<(), CUresult> {
    let spoilt: Vec<_> = streams
        .iter()
        .map(|stream| forbid(session, stream))
        .collect();
    spoilt.into_iter().collect()
}

/// Before a call that waits for what an event names, which must not be a place in a capture.
pub(crate) fn forbid_event(event: &Event) -> Result<(), CUresult> {
    let capture = event.captured().and_then(|place| place.capture.upgrade());
    match capture.filter(|capture| !capture.has_ended()) {
        Some(capture) => Err(capture.spoil(CUresult::STREAM_CAPTURE_UNSUPPORTED)),
        None => Ok(()),
    }
}

/// Before a call that could wait for the device, though it names no stream: see the modes above.
pub(crate) fn forbid_unsafe() -> Result<(), CUresult> {
    let mode = MODE.get();
    if nothing_is_captured() || mode == RELAXED {
        return Ok(());
    }
    let captures = UNENDED.lock().unwrap_or_else(PoisonError::into_inner);
    let captures: Vec<_> = captures.iter().filter_map(Weak::upgrade).collect();
    let forbidding = captures.iter().filter(|capture| capture.forbids(mode));
    // All of them are spoilt, whatever the first one answers.
    let errors: Vec<CUresult> = forbidding
        .map(|capture| capture.spoil(CUresult::STREAM_CAPTURE_UNSUPPORTED))
        .collect();
    errors.first().map_or(Ok(()), |error| Err(*error))
}

/// `cuStreamWaitEvent`: whether a capture is all that it is about. `external` makes it a node.
pub(crate) fn wait(
    session: &Session,
    stream: &Stream,
    event: &Arc<Event>,
    external: bool,
) -> Result<bool, CUresult> {
    if nothing_is_captured() {
        return Ok(false);
    }
    let place = event.captured().and_then(|place| {
        let capture = place.capture.upgrade()?;
        (!capture.has_ended()).then_some((capture, place.dependencies))
    });
    let mut slot = slot(stream);
    match (slot.as_mut(), place) {
        (Some(captured), _) if external => {
            captured.push(stream.context, &Operation::Wait(Arc::clone(event)))?;
            Ok(true)
        }
        (Some(captured), Some((capture, dependencies))) => {
            captured.capture.check()?;
            if captured.capture.id != capture.id {
                let error = CUresult::STREAM_CAPTURE_MERGE;
                return Err(captured.capture.spoil(capture.spoil(error)));
            }
            captured.follow_also(dependencies);
            Ok(true)
        }
        (Some(captured), None) if event.is_recorded() => {
            Err(captured.capture.spoil(CUresult::STREAM_CAPTURE_ISOLATION))
        }
        (Some(_), None) => Ok(true),
        (None, Some((capture, dependencies))) => {
            capture.check()?;
            if stream.id == 0 {
                return Err(capture.spoil(CUresult::STREAM_CAPTURE_IMPLICIT));
            }
            *slot = Some(Captured::new(capture, dependencies));
            Ok(true)
        }
        (None, None) => {
            drop(slot);
            implicit(session, stream).map(|()| false)
        }
    }
}

/// A stream is destroyed: a capture that began in it has no end. One that it only joined goes on, with what it did there.
pub(crate) fn forget(stream: &Stream) {
    let gone = slot(stream).take();
    if let Some(captured) = gone
        && captured.capture.origin == stream.unique()
    {
        captured.capture.spoil(CUresult::STREAM_CAPTURE_INVALIDATED);
        captured.capture.end();
    }
}

fn begin(
    stream: CUstream,
    mode: CUstreamCaptureMode,
    graph: Option<Arc<Graph>>,
    dependencies: Vec<CUgraphNode>,
) -> Result<(), CUresult> {
    let session = session::get()?;
    let stream = stream::resolve_for_question(stream)?;
    if mode > RELAXED {
        return Err(CUresult::INVALID_VALUE);
    }
    if stream.id == 0 {
        return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
    }
    if let Some(graph) = &graph {
        graph.numbers(&dependencies)?;
    }
    let mut slot = slot(&stream);
    if slot.is_some() {
        return Err(CUresult::ILLEGAL_STATE);
    }
    CAPTURES.fetch_add(1, Ordering::Relaxed);
    let capture = Arc::new(Capture {
        id: unique(),
        owns_graph: AtomicBool::new(graph.is_none()),
        graph: graph.unwrap_or_else(|| Graph::new(session)),
        origin: stream.unique(),
        mode,
        thread: thread::number(),
        invalid: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    let mut captures = UNENDED.lock().unwrap_or_else(PoisonError::into_inner);
    captures.retain(|capture| capture.strong_count() > 0);
    captures.push(Arc::downgrade(&capture));
    drop(captures);
    *slot = Some(Captured::new(capture, dependencies));
    Ok(())
}

fn end(stream: CUstream) -> Result<CUgraph, CUresult> {
    let session = session::get()?;
    let stream = stream::resolve_for_question(stream)?;
    let (capture, last) = {
        let slot = slot(&stream);
        let captured = slot.as_ref().ok_or(CUresult::ILLEGAL_STATE)?;
        (Arc::clone(&captured.capture), captured.dependencies.clone())
    };
    if capture.origin != stream.unique() {
        return Err(capture.spoil(CUresult::STREAM_CAPTURE_UNMATCHED));
    }
    if capture.mode != RELAXED && capture.thread != thread::number() {
        return Err(capture.spoil(CUresult::STREAM_CAPTURE_WRONG_THREAD));
    }
    let graph = &capture.graph;
    let before = graph.numbers(&last).map(|last| graph.ancestors(&last));
    let mut is_joined = true;
    for other in captured_streams(session, None) {
        let mut slot = slot(&other);
        if let Some(place) = slot.take_if(|place| place.capture.id == capture.id) {
            let (Ok(before), Ok(nodes)) = (&before, graph.numbers(&place.dependencies)) else {
                continue;
            };
            is_joined &= nodes.iter().all(|node| before.contains(node));
        }
    }
    capture.end();
    capture.check()?;
    // A node that it ended with was destroyed.
    before?;
    if !is_joined {
        return Err(CUresult::STREAM_CAPTURE_UNJOINED);
    }
    capture.owns_graph.store(false, Ordering::Relaxed);
    Ok(graph.handle())
}

pub(crate) unsafe fn cuStreamBeginCapture(stream: CUstream) -> CUresult {
    code(begin(stream, GLOBAL, None, Vec::new()))
}

pub(crate) unsafe fn cuStreamBeginCapture_v2(
    stream: CUstream,
    mode: CUstreamCaptureMode,
) -> CUresult {
    code(begin(stream, mode, None, Vec::new()))
}

pub(crate) unsafe fn cuStreamBeginCaptureToGraph(
    stream: CUstream,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    _dependency_data: *const CUgraphEdgeData,
    num_dependencies: usize,
    mode: CUstreamCaptureMode,
) -> CUresult {
    code((|| {
        // SAFETY: the caller passes as many handles.
        let nodes = unsafe { handles_at(dependencies, num_dependencies) }?;
        begin(stream, mode, Some(graph::find(graph)?), nodes)
    })())
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
    if let Err(error) = session::get() {
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

/// What is told about a stream's capture: the nodes before its next one stay where they are until the next call.
struct Information {
    status: CUstreamCaptureStatus,
    id: u64,
    graph: CUgraph,
    nodes: *const CUgraphNode,
    edges: *const CUgraphEdgeData,
    count: usize,
}

fn information(stream: CUstream) -> Result<Information, CUresult> {
    let session = session::get()?;
    let stream = stream::resolve_for_question(stream)?;
    if !nothing_is_captured() && stream.id == 0 && in_the_way_of(session, &stream).is_some() {
        return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
    }
    let slot = slot(&stream);
    Ok(match slot.as_ref() {
        None => Information {
            status: NOT_CAPTURING,
            id: 0,
            graph: CUgraph(0),
            nodes: core::ptr::null(),
            edges: core::ptr::null(),
            count: 0,
        },
        Some(captured) => Information {
            status: captured.capture.status(),
            id: captured.capture.id,
            graph: captured.capture.graph.handle(),
            nodes: captured.dependencies.as_ptr(),
            edges: captured.edges.as_ptr().cast(),
            count: captured.dependencies.len(),
        },
    })
}

pub(crate) unsafe fn cuStreamIsCapturing(
    stream: CUstream,
    capture_status: *mut CUstreamCaptureStatus,
) -> CUresult {
    // SAFETY: the caller passes a place for a status.
    unsafe {
        answer(
            capture_status,
            information(stream).map(|found| found.status),
        )
    }
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
    let found = match information(stream) {
        Ok(found) => found,
        Err(error) => return error,
    };
    // SAFETY: the caller passes places for these values; all but the status may be null.
    unsafe {
        if found.status == ACTIVE {
            answer_if_asked(id_out, found.id);
            answer_if_asked(graph_out, found.graph);
            answer_if_asked(dependencies_out, found.nodes);
            answer_if_asked(edge_data_out, found.edges);
            answer_if_asked(num_dependencies_out, found.count);
        }
        answer(capture_status_out, Ok(found.status))
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
    code((|| {
        let stream = stream::resolve_for_question(stream)?;
        // SAFETY: the caller passes as many handles.
        let nodes = unsafe { handles_at(dependencies, num_dependencies) }?;
        let mut slot = slot(&stream);
        let captured = slot.as_mut().ok_or(CUresult::ILLEGAL_STATE)?;
        captured.capture.check()?;
        captured.capture.graph.numbers(&nodes)?;
        match flags {
            ADD => captured.follow_also(nodes),
            SET => captured.follow(nodes),
            _ => return Err(CUresult::INVALID_VALUE),
        }
        Ok(())
    })())
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
