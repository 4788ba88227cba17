//! Events that processes share, in graphs: recorded where their node comes, and counted once for a launch.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local, a static or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::c_void;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use driver_api::abi::{CUcontext, CUevent, CUgraph, CUgraphExec, CUgraphNode, CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod device;

use device::context;

/// Interprocess, without timing.
const SHARED: u32 = 4 | 2;
const PATIENCE: Duration = Duration::from_secs(20);

fn event() -> CUevent {
    let mut event = CUevent(0);
    ok!(cuEventCreate(&mut event, SHARED));
    event
}

fn stream() -> CUstream {
    let mut stream = CUstream(0);
    ok!(cuStreamCreate(&mut stream, 1));
    stream
}

/// A stream that is held, and the word that lets it go.
fn held() -> (CUstream, u64) {
    let (stream, gate) = (stream(), device::allocate(4));
    ok!(cuMemsetD32_v2(gate, 0, 1));
    // Not the context: another stream may be held.
    ok!(cuStreamSynchronize(CUstream(0)));
    ok!(cuStreamWaitValue32_v2(stream, gate, 1, 1));
    (stream, gate)
}

fn let_go(gate: u64) {
    ok!(cuMemsetD32_v2(gate, 1, 1));
}

/// A graph of nodes in a row.
struct Row {
    graph: CUgraph,
    last: Option<CUgraphNode>,
}

impl Row {
    fn new() -> Self {
        let mut graph = CUgraph(0);
        ok!(cuGraphCreate(&mut graph, 0));
        Self { graph, last: None }
    }

    fn add(
        mut self,
        add: impl FnOnce(*mut CUgraphNode, CUgraph, *const CUgraphNode, usize) -> CUresult,
    ) -> Self {
        let mut node = CUgraphNode(0);
        let before = self.last.as_ref().map_or(null(), |last| &raw const *last);
        let count = usize::from(self.last.is_some());
        let added = add(&mut node, self.graph, before, count);
        assert_eq!(added, CUresult::SUCCESS);
        self.last = Some(node);
        self
    }

    fn record(self, event: CUevent) -> Self {
        self.add(|node, graph, before, count| {
            cu!(cuGraphAddEventRecordNode(node, graph, before, count, event))
        })
    }

    fn wait(self, event: CUevent) -> Self {
        self.add(|node, graph, before, count| {
            cu!(cuGraphAddEventWaitNode(node, graph, before, count, event))
        })
    }

    fn call(self, function: extern "C" fn(*mut c_void)) -> Self {
        let call = [(function as *const ()).addr(), 0];
        self.add(|node, graph, before, count| {
            let call = call.as_ptr().cast();
            cu!(cuGraphAddHostNode(node, graph, before, count, call))
        })
    }

    fn instantiated(self) -> CUgraphExec {
        let mut exec = CUgraphExec(0);
        ok!(cuGraphInstantiateWithFlags(&mut exec, self.graph, 0));
        exec
    }
}

fn is_in_time(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() && start.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    is_so()
}

fn has_reached(event: CUevent) -> bool {
    cu!(cuEventQuery(event)) == CUresult::SUCCESS
}

fn is_idle(stream: CUstream) -> bool {
    cu!(cuStreamQuery(stream)) == CUresult::SUCCESS
}

#[test]
fn an_event_is_recorded_where_its_node_comes() {
    static MAY_END: AtomicBool = AtomicBool::new(false);
    extern "C" fn until_it_may_end(_: *mut c_void) {
        is_in_time(|| MAY_END.load(SeqCst));
    }
    context();
    let event = event();
    let exec = Row::new()
        .record(event)
        .call(until_it_may_end)
        .instantiated();
    let (stream, gate) = held();
    ok!(cuGraphLaunch(exec, stream));
    assert!(!has_reached(event), "a record from the launch on");
    let_go(gate);
    assert!(is_in_time(|| has_reached(event)));
    assert!(!is_idle(stream), "the graph goes on");
    MAY_END.store(true, SeqCst);
    ok!(cuStreamSynchronize(stream));
}

#[test]
fn a_graph_waits_for_the_record_before_its_launch() {
    context();
    let event = event();
    let exec = Row::new().wait(event).instantiated();
    let (first, gate) = held();
    ok!(cuEventRecord(event, first));
    let stream = stream();
    ok!(cuGraphLaunch(exec, stream));
    // A later one is not waited for.
    let (second, never) = held();
    ok!(cuEventRecord(event, second));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!is_idle(stream));
    let_go(gate);
    assert!(is_in_time(|| is_idle(stream)));
    assert!(!has_reached(event));
    let_go(never);
    ok!(cuCtxSynchronize());
}

#[test]
fn a_launch_counts_one_record_of_an_event_and_waits_for_none_of_its_own() {
    let context = context();
    let event = event();
    // More than may be open at a time.
    let row = (0..600).fold(Row::new(), |row, _| row.record(event));
    let exec = row.wait(event).record(event).instantiated();
    let (told, ended) = mpsc::channel();
    std::thread::spawn(move || {
        ok!(cuCtxSetCurrent(context));
        let stream = stream();
        ok!(cuGraphLaunch(exec, stream));
        ok!(cuStreamSynchronize(stream));
        told.send(()).expect("it is waited for");
    });
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(()));
    assert!(has_reached(event));
    // As another process sees it that waits for the last.
    let (stream, gate) = held();
    ok!(cuGraphLaunch(exec, stream));
    assert!(!has_reached(event));
    let_go(gate);
    assert!(is_in_time(|| has_reached(event)));
}

#[test]
fn a_capture_does_not_wait_for_a_record_outside() {
    let _: CUcontext = context();
    let (event, never, captured) = (event(), event(), stream());
    ok!(cuEventRecord(event, stream()));
    ok!(cuStreamBeginCapture_v2(captured, 2));
    ok!(cuStreamWaitEvent(captured, never, 0));
    let refused = cu!(cuStreamWaitEvent(captured, event, 0));
    assert_eq!(refused, CUresult::STREAM_CAPTURE_ISOLATION);
}
