//! What a context is, and the threads' stacks of current ones.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use driver_api::abi::{CUresult, CUstream};
use driver_api::coredump::Settings;
use driver_api::per_thread;

use super::Fate;
use crate::capture;
use crate::coredump;
use crate::exec::Heap;
use crate::green;
use crate::hostile::Hostile;
use crate::state::driver;
use crate::stream::{Operation, Point, Role, Stream, Work};
use crate::threads::lock;

/// The deepest stack of contexts of a thread.
const MAX_STACK: usize = 256;

thread_local! {
    /// No destructor: this library may be called while a thread ends.
    static STACK: RefCell<([usize; MAX_STACK], usize)> = const { RefCell::new(([0; MAX_STACK], 0)) };
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A context: what belongs together, and ends together.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) handle: usize,
    pub(crate) id: u64,
    pub(crate) device: usize,
    pub(crate) is_primary: bool,
    pub(crate) flags: AtomicU32,
    /// How often it is attached to, beside its own life.
    pub(crate) attached: Mutex<u32>,
    pub(crate) cache_config: AtomicU32,
    pub(crate) limits: Mutex<HashMap<u32, usize>>,
    /// Of device-side `malloc`, made when a kernel that calls it is first launched.
    pub(crate) heap: OnceLock<Arc<Heap>>,
    pub(crate) fate: Arc<Fate>,
    /// What is set of core dumps of its kernels.
    pub(crate) coredump: Mutex<Settings>,
    /// The contexts of other devices whose memory its kernels may reach, in order.
    pub(crate) peers: Mutex<Vec<usize>>,
    legacy: Arc<Stream>,
    /// All but the legacy stream.
    streams: Mutex<Vec<Arc<Stream>>>,
    per_thread: Mutex<HashMap<u64, Arc<Stream>>>,
    /// Where all streams meet behind which an event is recorded, of the context (0) and of each green one.
    meetings: Mutex<HashMap<usize, Arc<Stream>>>,
    /// What streams that are made later have to wait for, and of which green context; 0 for all.
    gates: Mutex<Vec<(usize, Point)>>,
}

/// Ids of contexts, streams and buffers: never the same twice.
pub(crate) fn unique_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn thread_number() -> u64 {
    if THREAD.get() == 0 {
        THREAD.set(unique_id());
    }
    THREAD.get()
}

impl Context {
    pub(crate) fn new(
        hostile: &Hostile,
        handle: usize,
        device: usize,
        flags: u32,
        is_primary: bool,
    ) -> Self {
        let fate = Arc::new(Fate::default());
        let id = unique_id();
        let legacy = (1, unique_id());
        let legacy = Stream::new(legacy, Role::Legacy, (0, 0), Arc::clone(&fate), hostile);
        Self {
            handle,
            id,
            device,
            is_primary,
            flags: AtomicU32::new(flags),
            attached: Mutex::new(0),
            cache_config: AtomicU32::new(0),
            limits: Mutex::default(),
            heap: OnceLock::new(),
            fate,
            coredump: Mutex::new(coredump::of_new_context(flags)),
            peers: Mutex::default(),
            legacy: Arc::new(legacy),
            streams: Mutex::default(),
            per_thread: Mutex::default(),
            meetings: Mutex::default(),
            gates: Mutex::default(),
        }
    }

    /// The stream that a handle means in this context.
    pub(crate) fn stream(&self, stream: CUstream) -> Result<Arc<Stream>, CUresult> {
        match per_thread::effective(stream) {
            CUstream(0) => match green::current() {
                Some(green) => green.default_stream(),
                None => Ok(Arc::clone(&self.legacy)),
            },
            // As the driver documents it.
            per_thread::PER_THREAD if green::current().is_some() => Err(CUresult::INVALID_HANDLE),
            per_thread::PER_THREAD => self.thread_s_stream(),
            stream => {
                let stream = driver()?.streams.get(stream.0)?;
                match stream.is_detached() {
                    true => Err(CUresult::STREAM_DETACHED),
                    false => Ok(stream),
                }
            }
        }
    }

    fn thread_s_stream(&self) -> Result<Arc<Stream>, CUresult> {
        let hostile = &driver()?.config.hostile;
        let mut streams = lock(&self.per_thread);
        let stream = streams.entry(thread_number()).or_insert_with(|| {
            let fate = Arc::clone(&self.fate);
            let stream = Stream::new((2, unique_id()), Role::PerThread, (0, 0), fate, hostile);
            let stream = Arc::new(stream);
            self.admit(Arc::clone(&stream));
            stream
        });
        Ok(Arc::clone(stream))
    }

    /// Makes a stream part of the context: it waits for what the context waits for.
    pub(crate) fn admit(&self, stream: Arc<Stream>) {
        let mut streams = lock(&self.streams);
        let mut gates = lock(&self.gates);
        gates.retain(|(_, gate)| !gate.is_done());
        let is_its = |green: usize| green == 0 || green == stream.green;
        let its = gates.iter().filter(|(green, _)| is_its(*green));
        let points: Vec<Point> = its.map(|(_, gate)| gate.clone()).collect();
        drop(gates);
        if !points.is_empty() {
            stream.post(points, Box::new(|_| Ok(())));
        }
        streams.push(stream);
    }

    /// The streams of a green context; of the whole context for 0.
    fn streams_of(&self, green: usize) -> Vec<Arc<Stream>> {
        let streams = lock(&self.streams);
        let its = streams
            .iter()
            .filter(|stream| green == 0 || stream.green == green);
        let legacy = (green == 0).then_some(&self.legacy);
        its.chain(legacy).cloned().collect()
    }

    /// Lets all streams, and those that are made later, wait for a place.
    pub(crate) fn wait_for(&self, green: usize, point: &Point) {
        let mut gates = lock(&self.gates);
        gates.retain(|(_, gate)| !gate.is_done());
        gates.push((green, point.clone()));
        drop(gates);
        for stream in self.streams_of(green) {
            stream.post(vec![point.clone()], Box::new(|_| Ok(())));
        }
    }

    /// Does something behind all that the context, or a green one, has been given.
    pub(crate) fn post_behind_all(&self, hostile: &Hostile, green: usize, work: Work) -> Point {
        const NON_BLOCKING: u32 = 1;
        let known = lock(&self.meetings).get(&green).cloned();
        let meeting = known.unwrap_or_else(|| {
            let (id, fate) = ((0, unique_id()), Arc::clone(&self.fate));
            let stream = Stream::new(id, Role::Created, (NON_BLOCKING, 0), fate, hostile);
            let stream = Arc::new(stream);
            self.admit(Arc::clone(&stream));
            lock(&self.meetings).insert(green, Arc::clone(&stream));
            stream
        });
        let streams = self.streams_of(green);
        let mut points: Vec<Point> = streams.iter().map(Stream::latest).collect();
        points.retain(|point| !point.is_done());
        meeting.post(points, work)
    }

    /// The streams of a green context that are captured.
    pub(crate) fn captured_of(&self, green: usize) -> Vec<Arc<Stream>> {
        let mut streams = self.streams_of(green);
        streams.retain(|stream| capture::is_captured(stream));
        streams
    }

    /// A green context has ended: its streams can only be destroyed.
    pub(crate) fn detach(&self, green: usize) {
        for stream in self.streams_of(green) {
            capture::stream_destroyed(&stream);
            stream.latest().wait();
            stream.detach();
        }
        let meeting = lock(&self.meetings).remove(&green);
        if let Some(stream) = meeting {
            stream.latest().wait();
            self.disown(&stream);
        }
    }

    /// Forgets a stream that the program has destroyed; what it still does, it does.
    pub(crate) fn disown(&self, stream: &Arc<Stream>) {
        let mut streams = lock(&self.streams);
        streams.retain(|known| !Arc::ptr_eq(known, stream));
    }

    /// The unfinished places that an operation in `stream` has to wait for: the legacy stream waits for all blocking ones, and they
    /// for it.
    fn barriers(&self, stream: &Arc<Stream>) -> Vec<Point> {
        let mut points = Vec::new();
        if stream.role == Role::Legacy {
            let streams = lock(&self.streams);
            points.extend(
                streams
                    .iter()
                    .filter(|other| other.is_blocking())
                    .map(Stream::latest),
            );
        } else if stream.is_blocking() {
            points.push(self.legacy.latest());
        }
        points.retain(|point| !point.is_done());
        points
    }

    /// Posts an operation, or makes it a node of the graph that the stream is captured to.
    pub(crate) fn submit(
        &self,
        stream: &Arc<Stream>,
        operation: Operation,
    ) -> Result<(), CUresult> {
        if !capture::add(self, stream, &operation)? {
            self.post(stream, move || operation.perform());
        }
        Ok(())
    }

    /// The streams whose operations are made a graph of.
    pub(crate) fn captured(&self) -> Vec<Arc<Stream>> {
        let streams = lock(&self.streams);
        let captured = streams.iter().filter(|stream| capture::is_captured(stream));
        captured.cloned().collect()
    }

    /// Posts an operation that is skipped if the context has faulted.
    pub(crate) fn post(
        &self,
        stream: &Arc<Stream>,
        work: impl FnOnce() -> Result<(), CUresult> + Send + 'static,
    ) -> Point {
        self.post_always(stream, Vec::new(), unless_failed(work))
    }

    /// Posts an operation that is run in any case, after further points.
    pub(crate) fn post_always(
        &self,
        stream: &Arc<Stream>,
        mut after: Vec<Point>,
        work: Work,
    ) -> Point {
        after.extend(self.barriers(stream));
        stream.post(after, work)
    }

    /// Runs an operation at its place in the stream and waits for it.
    ///
    /// # Errors
    ///
    /// The context's sticky error.
    pub(crate) fn run(
        &self,
        stream: &Arc<Stream>,
        work: impl FnOnce() -> Result<(), CUresult> + Send + 'static,
    ) -> Result<(), CUresult> {
        capture::forbid(self, stream)?;
        stream.run(self.barriers(stream), unless_failed(work));
        crate::output::flush(&self.fate);
        self.fate.status()
    }

    /// The places that have to be reached before a stream is idle.
    pub(crate) fn points_of(&self, stream: &Arc<Stream>) -> Vec<Point> {
        let mut points = self.barriers(stream);
        points.push(stream.latest());
        points
    }

    /// Waits until a stream is idle, and shows what was printed.
    ///
    /// # Errors
    ///
    /// The context's sticky error.
    pub(crate) fn synchronize_stream(&self, stream: &Arc<Stream>) -> Result<(), CUresult> {
        self.points_of(stream).iter().for_each(Point::wait);
        crate::output::flush(&self.fate);
        self.fate.status()
    }

    /// Whether all streams are idle.
    pub(crate) fn is_idle(&self) -> bool {
        let streams = lock(&self.streams);
        let mut latest = streams.iter().map(Stream::latest);
        self.legacy.latest().is_done() && latest.all(|point| point.is_done())
    }

    /// Waits until all streams are idle, and shows what was printed.
    ///
    /// # Errors
    ///
    /// The context's sticky error.
    pub(crate) fn synchronize(&self) -> Result<(), CUresult> {
        self.synchronize_of(0)
    }

    /// The same for the streams of a green context, if it is not 0.
    pub(crate) fn synchronize_of(&self, green: usize) -> Result<(), CUresult> {
        let streams = self.streams_of(green);
        let points: Vec<Point> = streams.iter().map(Stream::latest).collect();
        points.iter().for_each(Point::wait);
        crate::output::flush(&self.fate);
        self.fate.status()
    }
}

fn unless_failed(work: impl FnOnce() -> Result<(), CUresult> + Send + 'static) -> Work {
    Box::new(|status| status.and_then(|()| work()))
}

/// The calling thread's current context, whatever its state; 0 for none.
pub(crate) fn current_handle() -> usize {
    STACK.with_borrow(|(stack, depth)| if *depth == 0 { 0 } else { stack[depth - 1] })
}

/// Replaces the top of the stack; 0 takes it away.
pub(crate) fn set_current(handle: usize) {
    STACK.with_borrow_mut(|(stack, depth)| match (handle, *depth) {
        (0, 0) => {}
        (0, _) => *depth -= 1,
        (_, 0) => {
            stack[0] = handle;
            *depth = 1;
        }
        (_, deep) => stack[deep - 1] = handle,
    });
}

/// Puts a context on the stack.
pub(crate) fn push(handle: usize) -> Result<(), CUresult> {
    STACK.with_borrow_mut(|(stack, depth)| {
        *stack.get_mut(*depth).ok_or(CUresult::OUT_OF_MEMORY)? = handle;
        *depth += 1;
        Ok(())
    })
}

/// Takes the top off the stack.
pub(crate) fn pop() -> Result<usize, CUresult> {
    STACK.with_borrow_mut(|(stack, depth)| {
        *depth = depth.checked_sub(1).ok_or(CUresult::INVALID_CONTEXT)?;
        Ok(stack[*depth])
    })
}

/// The current context, whether or not it has faulted.
pub(crate) fn current_in_any_state() -> Result<Arc<Context>, CUresult> {
    let driver = driver()?;
    match current_handle() {
        0 => Err(CUresult::INVALID_CONTEXT),
        handle => driver
            .contexts
            .get(handle)
            .map_err(|_| CUresult::CONTEXT_IS_DESTROYED),
    }
}

/// The current context, for everything that a faulted one refuses.
pub(crate) fn current() -> Result<Arc<Context>, CUresult> {
    let context = current_in_any_state()?;
    crate::output::status(&context.fate)?;
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_have_passed_is_no_gate_any_more() {
        let hostile = Hostile::default();
        let context = Context::new(&hostile, 1, 0, 0, false);
        let nothing = || Box::new(|_| Ok(()));
        for _ in 0..100 {
            let gate = context.post_behind_all(&hostile, 0, nothing());
            gate.wait();
            context.wait_for(0, &gate);
        }
        assert_eq!(lock(&context.gates).len(), 1, "the last");
        let (released, held) = std::sync::mpsc::channel::<()>();
        let gate = context.post_behind_all(
            &hostile,
            0,
            Box::new(move |_| held.recv().map_err(|_| CUresult::UNKNOWN)),
        );
        context.wait_for(0, &gate);
        let another = context.post_behind_all(&hostile, 7, nothing());
        context.wait_for(7, &another);
        assert_eq!(lock(&context.gates).len(), 2, "one is still waited for");
        released.send(()).expect("it waits");
        gate.wait();
    }
}
