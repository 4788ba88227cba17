//! The session of this process with its worker: begun at the first call whose answer depends on the server, and never freed.
//!
//! ```text
//! (nothing) ──first need──▶ connected ──cuInit──▶ initialised ──exit──▶ ended
//!     └──────── fails: the reason is logged once, every later need gets the same code
//! ```

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use driver_api::abi::CUresult;
use driver_api::fresh::Fresh;
use driver_api::wire::{self, Request};
use protocol::address::Address;
use protocol::config::{
    COMPUTE_VARIABLE, DEVICES_VARIABLE, LEASE_VARIABLE, MEMORY_VARIABLE, STATS_FILE_VARIABLE,
    Settings, Sources, Texts, device_request, variable,
};
use protocol::connect::rdma::{Approach, Attempt};
use protocol::connect::{self, ConnectError};
use protocol::credentials::Credentials;
use protocol::hello::{
    Accepted, DRIVER_VARIABLES, DeviceKind, Hello, Intent, RefusalCode, Waiting,
};
use protocol::stats::{Answered, MappedStats};
use protocol::transport::Patience;
use zerocopy::FromBytes;

use crate::context::{self, Context};
use crate::device::Device;
use crate::entry;
use crate::link::{Asked, Call, Link, Lost, Placed, Reply};
use crate::log;
use crate::memory::{Reads, Windows, give_back};
use crate::objects::{Objects, Pushed};
use crate::process;
use crate::stream::{Stream, USUAL_DEPTH};
use crate::thread;

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: Arc<Link>,
    /// How the worker's card reads the program's memory, if it does.
    pub(crate) reads: Option<Reads>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) devices: Vec<Device>,
    pub(crate) driver_version: i32,
    windows: Vec<Range<u64>>,
    /// The server was seen to run nothing but PTX: see [`crate::module`].
    pub(crate) executes_ptx_only: AtomicBool,
    /// Operations that a stream takes before a call of the driver may block.
    pub(crate) queue_depth: u64,
    initialised: AtomicBool,
}

static SESSION: AtomicPtr<Session> = AtomicPtr::new(std::ptr::null_mut());

/// Held while a session begins; why none began.
static BEGINNING: Fresh<Mutex<Option<CUresult>>> = Fresh::new();

/// The session, begun if there is none yet; `cuInit` need not have been called.
pub(crate) fn connected() -> Result<&'static Session, CUresult> {
    if let Some(session) = existing() {
        return Ok(session);
    }
    if let Some(refusal) = process::refusal() {
        return Err(refusal);
    }
    let mut failed = BEGINNING
        .get()
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = existing() {
        return Ok(session);
    }
    if let Some(code) = *failed {
        return Err(code);
    }
    match begin() {
        Ok(session) => {
            let session: &'static Session = Box::leak(Box::new(session));
            SESSION.store(std::ptr::from_ref(session).cast_mut(), SeqCst);
            Ok(session)
        }
        Err(code) => {
            *failed = Some(code);
            Err(code)
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the session is leaked on purpose and found by address"
)]
fn existing() -> Option<&'static Session> {
    // SAFETY: null, or the address of a session that is never freed and only shared.
    unsafe { SESSION.load(SeqCst).as_ref() }
}

/// The session of an initialised driver.
pub(crate) fn get() -> Result<&'static Session, CUresult> {
    match existing() {
        Some(session) if session.initialised.load(SeqCst) => Ok(session),
        _ => Err(CUresult::NOT_INITIALIZED),
    }
}

/// `cuInit`.
pub(crate) fn initialise() -> Result<(), CUresult> {
    let session = connected()?;
    session.initialised.store(true, SeqCst);
    Ok(())
}

/// True if the driver was initialised; for a child after `fork`.
pub(crate) fn is_initialised() -> bool {
    existing().is_some_and(|session| session.initialised.load(SeqCst))
}

/// A child after `fork` begins afresh.
pub(crate) fn forget() {
    BEGINNING.renew();
    if let Some(session) = existing() {
        // Nothing was allocated without `cuInit`; the child's own session needs the room.
        give_back(&session.windows);
    }
    SESSION.store(std::ptr::null_mut(), SeqCst);
}

/// The program ends.
pub(crate) fn end() {
    if let Some(session) = existing() {
        session.link.end();
        count_bytes(session);
    }
}

/// The counts of this run, if wanted.
pub(crate) fn stats() -> Option<&'static MappedStats> {
    static STATS: OnceLock<Option<MappedStats>> = OnceLock::new();
    let open = || {
        let path = variable(STATS_FILE_VARIABLE)?;
        let stats = MappedStats::open(path.as_ref()).ok()?;
        for (slot, row) in driver_api::ROWS
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.private)
        {
            stats.name(slot, row.name);
        }
        Some(stats)
    };
    STATS.get_or_init(open).as_ref()
}

/// Brings the totals of the link into the counts.
fn count_bytes(session: &Session) {
    if let Some(stats) = stats() {
        stats.sent(session.link.sent_bytes.swap(0, SeqCst));
        stats.received(session.link.received_bytes.swap(0, SeqCst));
    }
}

/// Connects to the first server that is there.
fn begin() -> Result<Session, CUresult> {
    let (address, accepted, connection, windows) = open().map_err(|failure| {
        log::error!("{}", failure.text);
        failure.code
    })?;
    let objects = Arc::new(Objects::default());
    let windows = windows.keep(&accepted.windows);
    objects.memory.use_windows(windows.clone());
    let reads = Reads::new(&connection.lender, accepted.rdma_reads_always);
    let link =
        Link::start(connection, Box::new(Pushed(Arc::clone(&objects)))).map_err(|error| {
            log::error!("cannot start a thread: {error}");
            CUresult::OPERATING_SYSTEM
        })?;
    process::session_began();
    let server = accepted.server.unwrap_or_default();
    let devices: Vec<Device> = accepted.devices.into_iter().map(Device::new).collect();
    for (ordinal, _) in devices.iter().enumerate() {
        objects
            .contexts
            .insert_with(|id| Context::primary(id, ordinal));
    }
    note_session(&address, server.device_kind(), &devices);
    let depths = devices.iter().filter_map(Device::queue_depth);
    Ok(Session {
        queue_depth: depths.min().unwrap_or(USUAL_DEPTH),
        link,
        reads,
        objects,
        devices,
        driver_version: server.driver_version,
        windows,
        executes_ptx_only: AtomicBool::new(false),
        initialised: AtomicBool::new(false),
    })
}

fn note_session(address: &protocol::address::Address, kind: DeviceKind, devices: &[Device]) {
    log::info!("session with {address}: {} device(s)", devices.len());
    if let Some(stats) = stats() {
        let name = devices.first().map_or("", |device| device.name());
        stats.set_device(name, kind);
        stats.set_transport(address.transport());
    }
}

/// Why no session began, or no answer came: what the program gets, and what the user reads.
pub(crate) struct Failure {
    pub(crate) code: CUresult,
    pub(crate) text: String,
    /// What a server has refused it for, if one has.
    pub(crate) refused: Option<RefusalCode>,
}

impl Failure {
    fn new(code: CUresult, text: impl ToString) -> Self {
        Self {
            code,
            text: text.to_string(),
            refused: None,
        }
    }

    fn no_server() -> Self {
        let text = "no server configured: set GPURUN_SERVER, or start the program with gpurun";
        Self::new(CUresult::NO_DEVICE, text)
    }

    fn no_transport(settings: &Settings) -> Self {
        let text = format!(
            "GPURUN_TRANSPORT={} allows none of the configured servers",
            settings.transport.name()
        );
        Self::new(CUresult::SYSTEM_NOT_READY, text)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let refused = match &error {
            ConnectError::Refused { code, .. } => Some(*code),
            _ => None,
        };
        Self {
            refused,
            ..Self::new(code_of(&error), error)
        }
    }
}

/// Asks the daemon of the first server that is there, on a connection of its own: `ask` has the socket until it ends. There may be no session.
pub(crate) fn ask_daemon<T>(
    mut ask: impl FnMut(&Address, &OwnedFd) -> Result<T, ConnectError>,
) -> Result<T, Failure> {
    let settings = settings()?;
    let (addresses, _) = settings.servers.clone().ok_or_else(Failure::no_server)?;
    let addresses: Vec<_> = addresses
        .into_iter()
        .filter(|address| settings.transport.allows(address))
        .collect();
    let asked = connect::first_of(&addresses, |address| {
        let socket = process::hold_for_now(connect::connect(address)?);
        ask(address, socket.descriptor())
    });
    Ok(asked.ok_or_else(|| Failure::no_transport(&settings))??)
}

type Opened = (
    protocol::address::Address,
    Accepted,
    protocol::transport::Connection,
    Windows,
);

fn open() -> Result<Opened, Failure> {
    let settings = settings()?;
    let Some((addresses, _)) = settings.servers.clone() else {
        return Err(Failure::no_server());
    };
    let addresses: Vec<_> = addresses
        .into_iter()
        .filter(|address| settings.transport.allows(address))
        .collect();
    let windows = Windows::reserve();
    let hello = hello(&windows)?;
    let patience = Patience {
        grace: settings.silence_grace,
        told: Arc::new(|notice| log::warning!("the server: {notice}")),
        ..Patience::default()
    };
    let credentials = Credentials::of_this_process()
        .map_err(|error| Failure::new(CUresult::SYSTEM_NOT_READY, error))?;
    let choice = settings.transport;
    let mut told = Told::default();
    let opened = connect::first_of(&addresses, |address| {
        let socket = process::hold(connect::connect(address)?);
        let credential = credentials.for_server(address);
        let approach = Approach {
            attempt: Attempt::new(address, &socket, choice, (&settings.rdma, &credential))?,
            choice,
            credential: &credential,
            hold: &process::hold,
            told: &mut |waiting| told.hear(waiting),
        };
        let session =
            connect::rdma::begin_session(address, socket, &hello, patience.clone(), approach)?;
        process::hold_also(&session.connection.descriptors);
        log::info!("frames travel by {}", session.way);
        Ok((address.clone(), session))
    });
    match opened {
        Some(Ok((address, session))) => {
            Ok((address, session.accepted, session.connection, windows))
        }
        Some(Err(error)) => Err(error.into()),
        None => Err(Failure::no_transport(&settings)),
    }
}

/// What was said of the queue in which this process waits for a lease.
#[derive(Default)]
struct Told {
    place: Option<(u32, String)>,
}

impl Told {
    /// Says where we stand, whenever it changes; the first time to everybody.
    fn hear(&mut self, waiting: &Waiting) {
        let place = (waiting.position, waiting.reason.clone());
        let is_first = self.place.is_none();
        if self.place.as_ref() != Some(&place) {
            let text = format!(
                "waiting for a lease, place {} in the queue: {}",
                waiting.position, waiting.reason
            );
            match is_first {
                true => log::warning!("{text}"),
                false => log::info!("{text}"),
            }
            self.place = Some(place);
        }
    }
}

fn code_of(error: &ConnectError) -> CUresult {
    match error {
        ConnectError::Refused {
            code: RefusalCode::NoDevice,
            ..
        } => CUresult::NO_DEVICE,
        ConnectError::Version { .. }
        | ConnectError::Refused {
            code: RefusalCode::Version,
            ..
        } => CUresult::SYSTEM_DRIVER_MISMATCH,
        _ => CUresult::SYSTEM_NOT_READY,
    }
}

fn settings() -> Result<Settings, Failure> {
    Sources::of_this_process(Texts::default())
        .and_then(|sources| protocol::config::resolve(&sources))
        .map_err(|error| Failure::new(CUresult::SYSTEM_NOT_READY, error))
}

/// What a variable says, if it says anything.
fn said(name: &str) -> Option<String> {
    variable(name)
        .and_then(|text| text.into_string().ok())
        .filter(|text| !text.is_empty())
}

/// The lease that this program runs under; empty: none.
pub(crate) fn lease() -> String {
    said(LEASE_VARIABLE).unwrap_or_default()
}

fn hello(windows: &Windows) -> Result<Hello, Failure> {
    let devices = device_request(
        said(DEVICES_VARIABLE),
        said(MEMORY_VARIABLE),
        said(COMPUTE_VARIABLE),
    );
    let devices = devices.map_err(|error| Failure::new(CUresult::SYSTEM_NOT_READY, error))?;
    Ok(Hello {
        shape_hash: wire::shape_hash().to_vec(),
        devices: Some(devices),
        lease: lease(),
        waits: true,
        windows: windows.proposed(),
        environment: environment(),
        ..Hello::new(Intent::Session)
    })
}

fn environment() -> std::collections::BTreeMap<String, String> {
    let value = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok()?));
    DRIVER_VARIABLES.iter().filter_map(value).collect()
}

/// Posts a call of generated code in the current context.
pub(crate) fn post<R: Request>(request: &R) -> Result<(), CUresult> {
    let (session, context) = current()?;
    session.post_in(context.id, |_| *request, &[])
}

/// Asks a call of generated code in the current context.
pub(crate) fn ask<R: Request>(request: &R) -> Result<R::Reply, CUresult> {
    let (session, context) = current()?;
    session.ask_in(context.id, request, &[])
}

/// The session and the calling thread's current context.
pub(crate) fn current() -> Result<(&'static Session, Arc<Context>), CUresult> {
    let session = get()?;
    let context = match thread::current() {
        0 => return Err(CUresult::INVALID_CONTEXT),
        id => context::named(session, id).ok_or(CUresult::CONTEXT_IS_DESTROYED)?,
    };
    if !context.is_active() {
        return Err(CUresult::CONTEXT_IS_DESTROYED);
    }
    context.fault.check()?;
    Ok((session, context))
}

/// A call of the calling thread.
fn call_of<R: Request>(context: u32) -> Call {
    Call {
        number: R::NUMBER,
        thread: thread::number(),
        context,
    }
}

impl Session {
    /// A session over a link, without a device.
    #[cfg(test)]
    pub(crate) fn over(link: Arc<Link>, reads: Option<Reads>, objects: Arc<Objects>) -> Self {
        Self {
            link,
            reads,
            objects,
            devices: Vec::new(),
            driver_version: 0,
            windows: Vec::new(),
            executes_ptx_only: AtomicBool::new(false),
            queue_depth: USUAL_DEPTH,
            initialised: AtomicBool::new(true),
        }
    }

    /// Posts a request.
    pub(crate) fn post_in<R: Request>(
        &self,
        context: u32,
        place: impl FnOnce(Placed) -> R,
        rest: &[u8],
    ) -> Result<(), CUresult> {
        self.post_if(context, |placed| Some(place(placed)), rest)
    }

    /// Posts a request, if there is one once its place in the order is known.
    pub(crate) fn post_if<R: Request>(
        &self,
        context: u32,
        place: impl FnOnce(Placed) -> Option<R>,
        rest: &[u8],
    ) -> Result<(), CUresult> {
        entry::answered(Answered::Posted);
        self.link.post(thread::number(), context, rest, place)?;
        Ok(())
    }

    /// Posts work for a stream: a later wait for the stream waits for it.
    pub(crate) fn post_work<R: Request>(
        &self,
        stream: &Stream,
        request: &R,
        rest: &[u8],
    ) -> Result<(), CUresult> {
        self.post_operations(stream, 1, request, rest)
    }

    /// [`Session::post_work`] where the work is several operations of the driver. Waits while the stream is full.
    pub(crate) fn post_operations<R: Request>(
        &self,
        stream: &Stream,
        operations: u64,
        request: &R,
        rest: &[u8],
    ) -> Result<(), CUresult> {
        stream.fault.check()?;
        stream.admit(self, operations)?;
        self.objects.memory.mapped.before_work(self)?;
        let mut is_open = false;
        let place = |placed: Placed| {
            is_open = stream.takes_more();
            is_open.then(|| {
                stream.put(placed, operations);
                *request
            })
        };
        self.post_if(stream.context, place, rest)?;
        self.objects.memory.mapped.after_work();
        match is_open {
            true => Ok(()),
            false => Err(CUresult::INVALID_HANDLE),
        }
    }

    /// Asks a request whose reply is its fixed part and nothing else.
    pub(crate) fn ask_in<R: Request>(
        &self,
        context: u32,
        request: &R,
        rest: &[u8],
    ) -> Result<R::Reply, CUresult> {
        let reply = self.ask_reply(context, request, rest, || Ok(()))?;
        R::Reply::read_from_bytes(&reply.body).map_err(|_| malformed::<R>())
    }

    /// Asks a request; the reply's body is the caller's to read. `then` sends what belongs to the call.
    pub(crate) fn ask_reply<R: Request>(
        &self,
        context: u32,
        request: &R,
        rest: &[u8],
        then: impl FnOnce() -> Result<(), Lost>,
    ) -> Result<Reply, CUresult> {
        self.ask_placed(context, request, rest, |_| (), then)
    }

    /// Asks for work in a stream: a later wait for the stream waits for it.
    pub(crate) fn ask_work<R: Request>(
        &self,
        stream: &Stream,
        request: &R,
        rest: &[u8],
    ) -> Result<(), CUresult> {
        stream.fault.check()?;
        stream.admit(self, 1)?;
        self.objects.memory.mapped.before_work(self)?;
        let placed = |placed: Placed| stream.put(placed, 1);
        self.ask_placed(stream.context, request, rest, placed, || Ok(()))?;
        self.objects.memory.mapped.after_work();
        Ok(())
    }

    fn ask_placed<R: Request>(
        &self,
        context: u32,
        request: &R,
        rest: &[u8],
        placed: impl FnOnce(Placed),
        then: impl FnOnce() -> Result<(), Lost>,
    ) -> Result<Reply, CUresult> {
        entry::answered(Answered::Asked);
        let call = call_of::<R>(context);
        let since = entry::waits();
        let reply = self
            .link
            .ask(call, &[request.as_bytes(), rest], placed, then)?;
        entry::waited(since);
        reply.result.ok()?;
        Ok(reply)
    }

    /// Asks a request whose answer is [waited for](Session::finish_ask) later.
    pub(crate) fn begin_ask<R: Request>(
        &self,
        context: u32,
        request: &R,
    ) -> Result<Asked, CUresult> {
        entry::answered(Answered::Asked);
        let call = call_of::<R>(context);
        Ok(self.link.begin_ask(call, &[request.as_bytes()], |_| ())?)
    }

    /// Waits for the reply of a request, which is its fixed part and nothing else.
    pub(crate) fn finish_ask<R: Request>(&self, asked: Asked) -> Result<R::Reply, CUresult> {
        let since = entry::waits();
        let reply = self.link.finish_ask(asked)?;
        entry::waited(since);
        reply.result.ok()?;
        R::Reply::read_from_bytes(&reply.body).map_err(|_| malformed::<R>())
    }

    /// Sends what is queued, and waits until `done`.
    pub(crate) fn wait_until(&self, done: impl FnMut() -> bool) -> Result<(), CUresult> {
        entry::answered(Answered::Asked);
        let since = entry::waits();
        self.link.flush()?;
        self.link.wait_until(done)?;
        entry::waited(since);
        Ok(())
    }

    /// The device of a number.
    pub(crate) fn device(&self, ordinal: i32) -> Result<&Device, CUresult> {
        let device = usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| self.devices.get(ordinal));
        device.ok_or(CUresult::INVALID_DEVICE)
    }
}

/// A reply whose body is not what its row says: the server is not ours.
pub(crate) fn malformed<R: Request>() -> CUresult {
    log::error!(
        "the server's reply to {} is malformed",
        driver_api::ROWS[R::ROW].name
    );
    CUresult::UNKNOWN
}
