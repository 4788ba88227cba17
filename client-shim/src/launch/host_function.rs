//! Functions of the program that a stream calls.
//!
//! ```text
//! program ── mark and gate, one posted call ──▶ stream ── reaches the mark, waits at the gate
//!                                                  │ pushed
//! gpurun-host ◀── reached ─────────────────────────┘
//!      └── calls the function ── opens the gate, posted ──▶ stream goes on
//! ```
//!
//! One thread calls them all, one after the other, in the order of their marks: what a program may count on is the order within a stream. In a function
//! every call of the driver is refused with `CUDA_ERROR_NOT_PERMITTED`. In a context with an error functions are not called; callbacks
//! are, and told the error. No lock is held while one runs.
//!
//! # Safety
//! Functions and their data are the program's, called once each as it says, by the contract of `cuLaunchHostFunc` and `cuStreamAddCallback`.
#![expect(unsafe_code, reason = "calls the program's functions")]
#![expect(non_snake_case, reason = "these are the driver's names")]

use core::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driver_api::abi::{CUhostFn, CUresult, CUstream, CUstreamCallback};
use driver_api::wire::request::{GpurunGateOpen, GpurunHostFunction};

use crate::capture;
use crate::entry::{code, in_host_function};
use crate::graph::Operation;
use crate::link::{Placed, sleep_while, wake_all};
use crate::process;
use crate::session::{self, Session};
use crate::stream::{self, Stream};

/// What the stream has to do for a function beside its mark: to wait at the gate, and to tell that it has passed.
const OPERATIONS: u64 = 2;
/// A task whose mark has not been given yet.
const NO_MARK: u64 = u64::MAX;
/// The last `sync_mode` of `cuLaunchHostFunc_v2`: blocking is 0, spinning 1. How the driver would wait for the function is no matter here.
const LAST_SYNC_MODE: c_uint = 1;

/// The functions that streams are to call, and the thread that calls them.
#[derive(Debug, Default)]
pub(crate) struct HostFunctions {
    tasks: Mutex<Vec<Arc<Task>>>,
    /// Functions of the program that have not returned.
    unfinished: AtomicU32,
    has_thread: Mutex<bool>,
    /// Counts tasks; the thread sleeps on it.
    news: AtomicU32,
    gates: AtomicU32,
}

/// The program's data for a function.
#[derive(Debug, Clone, Copy)]
struct UserData(*mut c_void);

// SAFETY: the program hands it over to whatever thread calls its function; here it is only passed on.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// A function of the program and what it is given: what a stream calls, and what a node of a graph holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostCall {
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    data: UserData,
}

impl HostCall {
    pub(crate) fn new(function: CUhostFn, data: *mut c_void) -> Result<Self, CUresult> {
        let function = function.ok_or(CUresult::INVALID_VALUE)?;
        Ok(Self {
            function,
            data: UserData(data),
        })
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.data.0
    }

    /// Calls it, on this thread.
    pub(crate) fn run(&self) {
        let UserData(data) = self.data;
        // SAFETY: the program gave function and data for this call.
        in_host_function(|| unsafe { (self.function)(data) });
    }

    /// Lets the stream call it.
    pub(crate) fn post(
        &self,
        session: &'static Session,
        stream: &Arc<Stream>,
    ) -> Result<(), CUresult> {
        put(session, stream, Function::Host(*self))
    }
}

enum Function {
    Host(HostCall),
    /// It is told the stream as the program named it, and how the work before it went.
    Callback(
        unsafe extern "C" fn(CUstream, CUresult, *mut c_void),
        CUstream,
        UserData,
    ),
    /// Ours: something that was kept until the stream came here is given up, whatever became of the stream.
    GiveUp(Mutex<Option<Box<dyn Send>>>),
}

impl Function {
    fn is_the_programs(&self) -> bool {
        !matches!(self, Self::GiveUp(_))
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Host(_) => "a function",
            Self::Callback(..) => "a callback",
            Self::GiveUp(_) => "something kept",
        })
    }
}

/// Keeps something until the stream has come here.
pub(crate) fn keep(
    session: &'static Session,
    stream: &Arc<Stream>,
    kept: Box<dyn Send>,
) -> Result<(), CUresult> {
    put(session, stream, Function::GiveUp(Mutex::new(Some(kept))))
}

#[derive(Debug)]
struct Task {
    /// For the count of what has not returned.
    functions: &'static HostFunctions,
    stream: Arc<Stream>,
    mark: AtomicU64,
    gate: u32,
    function: Function,
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.function.is_the_programs() {
            self.functions.unfinished.fetch_sub(1, SeqCst);
        }
    }
}

impl Task {
    fn is_ready(&self) -> bool {
        let mark = self.mark.load(SeqCst);
        mark != NO_MARK && self.stream.has_reached(mark)
    }

    /// Calls the function, then lets the stream go on.
    fn run(&self, session: &Session) {
        let before = self.stream.fault.check();
        let mapped = &session.objects.memory.mapped;
        if self.function.is_the_programs() {
            // It fails where the connection is lost, which every call tells; so does what follows.
            let _ = mapped.after_wait(session);
        }
        match &self.function {
            Function::Host(call) => {
                if before.is_ok() {
                    call.run();
                }
            }
            Function::Callback(callback, handle, UserData(data)) => {
                // SAFETY: the program gave callback and data for this call.
                in_host_function(|| unsafe { callback(*handle, code(before), *data) });
            }
            Function::GiveUp(kept) => {
                drop(kept.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
        let _ = mapped.before_work(session);
        let open = |_: Placed| GpurunGateOpen::new(self.gate);
        // It fails where the connection is lost, which every call tells.
        let _ = session
            .post_in(self.stream.context, open, &[])
            .and_then(|()| Ok(session.link.flush()?));
    }
}

impl HostFunctions {
    fn tasks(&self) -> MutexGuard<'_, Vec<Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a stream is still to call a function of the program, which may write whatever a later copy reads.
    pub(crate) fn are_unfinished(&self) -> bool {
        self.unfinished.load(SeqCst) > 0
    }

    /// Takes a task whose stream has come to it: of a stream's, the first.
    fn take_ready(&self) -> Option<Arc<Task>> {
        let mut tasks = self.tasks();
        let ready = tasks.iter().find(|task| task.is_ready())?;
        let same_stream = tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| Arc::ptr_eq(&task.stream, &ready.stream));
        let (first, _) = same_stream.min_by_key(|(_, task)| task.mark.load(SeqCst))?;
        Some(tasks.remove(first))
    }

    fn has_ready(&self) -> bool {
        self.tasks().iter().any(|task| task.is_ready())
    }

    fn forget(&self, task: &Arc<Task>) {
        self.tasks().retain(|other| !Arc::ptr_eq(other, task));
    }

    /// Starts the thread if there is none yet.
    fn need_thread(&self, session: &'static Session) -> Result<(), CUresult> {
        let mut has_thread = self
            .has_thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*has_thread {
            let lost = || crate::log::error!("internal error in the thread of host functions");
            process::spawn("host", move || run(session), lost)
                .map_err(|_| CUresult::OPERATING_SYSTEM)?;
            *has_thread = true;
        }
        Ok(())
    }
}

/// The thread: calls what is ready, waits for what is not, sleeps while there is nothing.
fn run(session: &'static Session) {
    let functions = &session.objects.host_functions;
    loop {
        let seen = functions.news.load(SeqCst);
        if let Some(task) = functions.take_ready() {
            task.run(session);
        } else if functions.tasks().is_empty() {
            sleep_while(&functions.news, seen, Duration::from_secs(1));
        } else if session.wait_until(|| functions.has_ready()).is_err() {
            return end(session);
        }
        if session.link.is_lost() {
            return end(session);
        }
    }
}

/// The connection is lost: callbacks are told so, functions are not called.
fn end(session: &Session) {
    let left = std::mem::take(&mut *session.objects.host_functions.tasks());
    for task in left {
        task.stream.fault.set(CUresult::DEVICE_UNAVAILABLE);
        task.run(session);
    }
}

/// Puts the call of a function into a stream.
fn put(
    session: &'static Session,
    stream: &Arc<Stream>,
    function: Function,
) -> Result<(), CUresult> {
    let functions = &session.objects.host_functions;
    stream.fault.check()?;
    // A full stream is waited for while nothing is held.
    stream.admit(session, OPERATIONS)?;
    functions.need_thread(session)?;
    if function.is_the_programs() {
        functions.unfinished.fetch_add(1, SeqCst);
    }
    let task = Arc::new(Task {
        functions,
        mark: AtomicU64::new(NO_MARK),
        gate: functions.gates.fetch_add(1, SeqCst),
        function,
        stream: Arc::clone(stream),
    });
    // On the list before it is posted: who hears that the stream is there must find it.
    functions.tasks().push(Arc::clone(&task));
    functions.news.fetch_add(1, SeqCst);
    let place = |placed: Placed| {
        let mark = stream.next_mark_before_work(placed, OPERATIONS);
        task.mark.store(mark, SeqCst);
        GpurunHostFunction::new(stream.wire_id(), task.gate, mark)
    };
    let posted = session.post_in(stream.context, place, &[]);
    match posted {
        Ok(()) => wake_all(&functions.news),
        Err(_) => functions.forget(&task),
    }
    posted
}

/// `cuStreamAddCallback`.
pub(crate) fn add_callback(
    stream: CUstream,
    callback: CUstreamCallback,
    user_data: *mut c_void,
    flags: c_uint,
) -> Result<(), CUresult> {
    let callback = callback
        .filter(|_| flags == 0)
        .ok_or(CUresult::INVALID_VALUE)?;
    let (session, context) = session::current()?;
    // A graph cannot have a callback.
    let own = stream::resolve_in(session, &context, stream)?;
    put(
        session,
        &own,
        Function::Callback(callback, stream, UserData(user_data)),
    )
}

pub(crate) unsafe fn cuLaunchHostFunc(
    stream: CUstream,
    function: CUhostFn,
    user_data: *mut c_void,
) -> CUresult {
    code((|| {
        let call = HostCall::new(function, user_data)?;
        let (session, context) = session::current()?;
        let stream = stream::resolve_any(session, &context, stream)?;
        if capture::is_captured(session, &stream)? {
            return capture::add(&stream, Operation::Host(call));
        }
        call.post(session, &stream)
    })())
}

pub(crate) unsafe fn cuLaunchHostFunc_v2(
    stream: CUstream,
    function: CUhostFn,
    user_data: *mut c_void,
    sync_mode: c_uint,
) -> CUresult {
    if sync_mode > LAST_SYNC_MODE {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the same contract.
    unsafe { cuLaunchHostFunc(stream, function, user_data) }
}
