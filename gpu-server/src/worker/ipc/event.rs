//! Events that programs of one lease share.
//!
//! *What:* memory that the sessions map, with the event's [records](driver_api::event_records) and a bell. A stream's point notes that it has come to its record,
//! and rings. *Why not the driver's own:* a worker can connect to nothing, and what a driver needs to share events is its secret.
//!
//! ```text
//!  lender ── number, by a pipe of its own ──▶ each borrower      the kernel breaks the pipe when either ends:
//!     borrower gone: the lender reaches what it has recorded     lender gone: borrowers wait for nobody
//! ```
//!
//! *Rules:* the memory is sealed, so that nobody can take it away. No record is waited for whose session is gone. A record counts when its call is answered, so it is asked.
//!
//! # Safety
//! The mapping is as long as [`Page`] (checked when it is made; sealed since), lives as long as its event, and `Page` consists of atomics only, for which any
//! bytes are valid.
#![expect(unsafe_code, reason = "memory shared with other processes")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use driver_api::event_records::{Records, WHO_BITS};
use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use memmap2::{MmapOptions, MmapRaw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::futex;

use super::{Key, MAX_SHARED, Shared, halves, is_broken, new_key};
use crate::registry;
use crate::worker::call::{Call, CallError};
use crate::worker::end::lock;
use crate::worker::launch;
use crate::worker::point::Action;
use crate::worker::session::Session;

/// What is done with an event.
const CREATE: u32 = 0;
const EXPORT: u32 = 1;
const OPEN: u32 = 2;
const QUERY: u32 = 3;
const WAIT: u32 = 4;
const DESTROY: u32 = 5;

/// What a stream does with one.
const RECORD: u32 = 0;
const WAIT_IN_STREAM: u32 = 1;

/// How long one waits before one looks whether anybody is left who could ring.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is looked whether a stream can go on.
const POLL: Duration = Duration::from_micros(100);

/// The lender's name among those who record; borrowers are counted.
const LENDER: u32 = 0;
const MAX_BORROWERS: u32 = (1 << WHO_BITS) - 1;

/// What the sessions share.
#[repr(C)]
struct Page {
    records: Records,
    /// Counted up with what is reached, and waited on.
    bell: AtomicU32,
}

/// Who has borrowed an event: the end of the pipe breaks when it is gone.
struct Borrower {
    who: u32,
    pipe: OwnedFd,
}

/// Those of an event, and how many there were.
#[derive(Default)]
struct Borrowers {
    present: Vec<Borrower>,
    count: u32,
}

/// Whose event it is.
enum Side {
    Lender(Mutex<Borrowers>),
    Borrower {
        who: u32,
        /// Breaks when the lender is gone.
        lender: OwnedFd,
    },
}

/// An event of several sessions.
pub(crate) struct SharedEvent {
    file: File,
    map: MmapRaw,
    /// What it is exported by.
    key: Key,
    side: Side,
    /// The serial of the context that it was made or opened in.
    context: u64,
}

impl SharedEvent {
    fn new(context: u64) -> Result<Self, CUresult> {
        let failed = |_| CUresult::OPERATING_SYSTEM;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("gpurun-event", flags).map_err(failed)?);
        rustix::fs::ftruncate(&file, size_of::<Page>() as u64).map_err(failed)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(failed)?;
        Self::with(file, Side::Lender(Mutex::default()), context)
    }

    /// What another session has lent; the pipe says who we are.
    fn borrowed(file: OwnedFd, lender: OwnedFd, context: u64) -> Result<Self, CUresult> {
        let file = File::from(file);
        let length = file.metadata().map(|file| file.len()).unwrap_or(0);
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if length != size_of::<Page>() as u64 || !seals.contains(SealFlags::SHRINK) {
            return Err(CUresult::INVALID_HANDLE);
        }
        let mut who = [0; 4];
        match has_bytes(&lender).then(|| rustix::io::read(&lender, &mut who)) {
            Some(Ok(4)) => {}
            _ => return Err(CUresult::INVALID_HANDLE),
        }
        let who = u32::from_le_bytes(who);
        match (1..=MAX_BORROWERS).contains(&who) {
            true => Self::with(file, Side::Borrower { who, lender }, context),
            false => Err(CUresult::INVALID_HANDLE),
        }
    }

    fn with(file: File, side: Side, context: u64) -> Result<Self, CUresult> {
        let map = MmapOptions::new().len(size_of::<Page>()).map_raw(&file);
        Ok(Self {
            map: map.map_err(|_| CUresult::MAP_FAILED)?,
            file,
            key: new_key()?,
            side,
            context,
        })
    }

    fn page(&self) -> &Page {
        // SAFETY: by the module's rules; the kernel maps whole pages, so it is aligned.
        unsafe { &*self.map.as_ptr().cast::<Page>() }
    }

    fn is_borrowed(&self) -> bool {
        matches!(self.side, Side::Borrower { .. })
    }

    /// What goes to another session.
    pub(super) fn lend(&self) -> std::io::Result<registry::Lent> {
        let Side::Lender(borrowers) = &self.side else {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        };
        let mut borrowers = lock(borrowers);
        let who = borrowers.count + 1;
        if borrowers.present.len() >= MAX_SHARED || who > MAX_BORROWERS {
            return Err(std::io::ErrorKind::QuotaExceeded.into());
        }
        let file = self.file.try_clone()?;
        let (reader, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::write(&pipe, &who.to_le_bytes())?;
        borrowers.count = who;
        borrowers.present.push(Borrower { who, pipe });
        Ok(registry::Lent {
            files: vec![file.into(), reader],
            what: registry::LentMemory::default(),
        })
    }

    pub(super) fn is_exported_by(&self, key: &[u8]) -> bool {
        !self.is_borrowed() && self.key == key
    }

    fn records(&self) -> &Records {
        &self.page().records
    }

    /// One record more, by this session: its number.
    ///
    /// # Errors
    /// `NOT_READY` while too many are open, which may be asked again; `UNKNOWN` once others have written what nobody counts to.
    fn record(&self) -> Result<u64, CUresult> {
        let who = match &self.side {
            Side::Lender(_) => LENDER,
            Side::Borrower { who, .. } => *who,
        };
        self.records()
            .count(who, |before| match self.has_reached(before) {
                true => Ok(()),
                false => Err(CUresult::NOT_READY),
            })
    }

    /// Whether a record has been reached, or nobody can tell any more.
    fn has_reached(&self, record: u64) -> bool {
        if self.records().is_reached(record) {
            return true;
        }
        match &self.side {
            Side::Borrower { lender, .. } => is_broken(lender),
            Side::Lender(_) => {
                self.forget_the_gone();
                self.records().is_reached(record)
            }
        }
    }

    fn reach(&self, record: u64) {
        let page = self.page();
        page.records.reach(record);
        page.bell.fetch_add(1, SeqCst);
        // It fails for no word that is mapped.
        let _ = futex::wake(&page.bell, futex::Flags::empty(), i32::MAX.cast_unsigned());
    }

    /// Reaches what borrowers have recorded that are gone: nobody else will. The lender's part.
    fn forget_the_gone(&self) {
        let Side::Lender(borrowers) = &self.side else {
            return;
        };
        let mut borrowers = lock(borrowers);
        let gone = borrowers
            .present
            .extract_if(.., |borrower| is_broken(&borrower.pipe));
        let gone: Vec<u32> = gone.map(|borrower| borrower.who).collect();
        if gone.is_empty() {
            return;
        }
        for record in self.records().of(|who| gone.contains(&who)) {
            self.reach(record);
        }
    }

    /// Waits until a record has been reached, or nobody waits any more.
    fn wait(&self, record: u64, is_over: impl Fn() -> bool) {
        let look = Timespec::try_from(LOOK).ok();
        loop {
            let bell = self.page().bell.load(SeqCst);
            if self.has_reached(record) || is_over() {
                return;
            }
            // It is woken, late, or has just been rung: then it looks again.
            let _ = futex::wait(
                &self.page().bell,
                futex::Flags::empty(),
                bell,
                look.as_ref(),
            );
        }
    }
}

/// A record whose stream will reach it: dropped when it has, or when it never will.
pub(crate) struct Record {
    event: Arc<SharedEvent>,
    number: u64,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.event.reach(self.number);
    }
}

/// Whether something can be read from a pipe now.
fn has_bytes(pipe: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::IN)
}

fn find(session: &Session, id: u32) -> Result<Arc<SharedEvent>, CUresult> {
    let events = lock(&session.memory.shared.events);
    events.get(&id).cloned().ok_or(CUresult::INVALID_HANDLE)
}

fn add(session: &Session, id: u32, event: SharedEvent) -> Result<(), CUresult> {
    let mut events = lock(&session.memory.shared.events);
    if events.len() >= MAX_SHARED {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    match events.contains_key(&id) {
        true => Err(CUresult::INVALID_VALUE),
        false => {
            events.insert(id, Arc::new(event));
            Ok(())
        }
    }
}

/// Makes an event, exports or opens one, asks it, waits for it, ends it.
pub(crate) fn gpurunIpcEvent(
    call: &mut Call<'_>,
    request: &request::GpurunIpcEvent,
) -> Result<(), CallError> {
    let (session, id) = (call.session, request.event());
    let shared = &session.memory.shared;
    let (mut low, mut high, mut is_reached) = (0, 0, 0);
    match request.operation() {
        CREATE => {
            let context = call.context()?.serial;
            add(session, id, SharedEvent::new(context)?)?;
        }
        EXPORT => {
            let event = find(session, id)?;
            // What another session has given out is not this one's to give.
            if event.is_borrowed() {
                return Err(CUresult::INVALID_HANDLE.into());
            }
            [low, high] = halves(&event.key);
        }
        OPEN => {
            if request.lender() == shared.session {
                return Err(CUresult::INVALID_CONTEXT.into());
            }
            let key = [request.key_low(), request.key_high()].map(u64::to_le_bytes);
            let lent = registry::borrow(request.lender(), key.as_flattened());
            let files = lent.and_then(|lent| <[OwnedFd; 2]>::try_from(lent.files).ok());
            let [file, lender] = files.ok_or(CUresult::INVALID_HANDLE)?;
            let context = call.context()?.serial;
            add(session, id, SharedEvent::borrowed(file, lender, context)?)?;
        }
        QUERY => {
            let event = find(session, id)?;
            is_reached = u32::from(event.has_reached(event.records().recorded()));
        }
        WAIT => {
            let event = find(session, id)?;
            event.wait(event.records().recorded(), || session.end.is_over());
        }
        DESTROY => {
            let event = lock(&shared.events).remove(&id);
            event.ok_or(CUresult::INVALID_HANDLE)?;
        }
        _ => return Err(CallError::Violation("no such operation of an event")),
    }
    let answer = reply::GpurunIpcEvent::new(shared.session, low, high, is_reached);
    call.reply(&answer);
    Ok(())
}

/// Records an event in a stream, or lets the stream wait for it.
pub(crate) fn gpurunIpcEventInStream(
    call: &mut Call<'_>,
    request: &request::GpurunIpcEventInStream,
) -> Result<(), CallError> {
    let event = find(call.session, request.event())?;
    let stream = request.stream().0;
    match request.operation() {
        RECORD => record(call, event, stream)?,
        WAIT_IN_STREAM => wait_in_stream(call, event, stream)?,
        _ => return Err(CallError::Violation("no such operation of an event")),
    }
    Ok(())
}

fn record(call: &Call<'_>, event: Arc<SharedEvent>, stream: u32) -> Result<(), CUresult> {
    let stream = call.stream(stream)?;
    let context = Arc::clone(call.context()?);
    let number = event.record()?;
    let record = Record { event, number };
    let put = stream.point(call.session, &context, Action::Recorded { _record: record });
    // A record that could not be put is dropped, and so reached.
    put.map_err(|(error, _)| error)
}

fn wait_in_stream(call: &Call<'_>, event: Arc<SharedEvent>, stream: u32) -> Result<(), CUresult> {
    let record = event.records().recorded();
    if event.has_reached(record) {
        return Ok(());
    }
    let context = call.context()?.serial;
    let gate = launch::hold(call, stream)?;
    call.session.memory.shared.waits.add(Held {
        event,
        record,
        gate,
        context,
    });
    Ok(())
}

/// A stream that waits for an event.
struct Held {
    event: Arc<SharedEvent>,
    record: u64,
    /// What it waits at.
    gate: u32,
    /// The serial of its context.
    context: u64,
}

/// The streams that wait for events.
#[derive(Default)]
pub(crate) struct Waits {
    held: Mutex<Vec<Held>>,
    came: Condvar,
}

impl Waits {
    fn add(&self, held: Held) {
        lock(&self.held).push(held);
        self.came.notify_one();
    }
}

impl Shared {
    /// A context is gone, and with it its events and what waited in its streams.
    pub(in crate::worker) fn forget_context(&self, serial: u64) {
        lock(&self.events).retain(|_, event| event.context != serial);
        lock(&self.waits.held).retain(|held| held.context != serial);
    }

    /// Looks whether borrowers of this session's events are gone, for those of them that wait for each other.
    fn look_after_events(&self) {
        let events: Vec<_> = lock(&self.events).values().cloned().collect();
        events.iter().for_each(|event| event.forget_the_gone());
    }
}

/// Lets streams go when what they wait for is reached: a thread's life. It polls, since of several events in shared memory only one could be waited for.
pub(crate) fn run(session: &Session) {
    let shared = &session.memory.shared;
    let waits = &shared.waits;
    let mut looked = Instant::now();
    let mut held = lock(&waits.held);
    while !session.end.is_over() {
        if looked.elapsed() >= LOOK {
            drop(held);
            shared.look_after_events();
            looked = Instant::now();
            held = lock(&waits.held);
        }
        let reached = held.extract_if(.., |held| held.event.has_reached(held.record));
        reached.for_each(|held| launch::open(session, held.gate));
        let pause = match held.is_empty() {
            true => LOOK,
            false => POLL,
        };
        let waited = waits.came.wait_timeout(held, pause);
        held = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use driver_api::event_records::MAX_OPEN;

    use super::*;

    fn event() -> Arc<SharedEvent> {
        Arc::new(SharedEvent::new(1).expect("made"))
    }

    fn borrow(event: &SharedEvent) -> SharedEvent {
        let lent = <[OwnedFd; 2]>::try_from(event.lend().expect("lent").files).expect("two");
        let [file, lender] = lent;
        SharedEvent::borrowed(file, lender, 1).expect("opened")
    }

    #[test]
    fn a_record_is_reached_when_its_stream_has_come_to_it() {
        let event = event();
        let other = borrow(&event);
        assert!(
            other.has_reached(other.records().recorded()),
            "never recorded"
        );
        let number = event.record().expect("recorded");
        let record = Record {
            event: Arc::clone(&event),
            number,
        };
        assert!(!other.has_reached(other.records().recorded()));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| other.wait(1, || false));
            drop(record);
            waiting.join().expect("woken");
        });
        assert_eq!(event.record(), Ok(2));
        assert!(!other.has_reached(2));
        drop(event);
        assert!(other.has_reached(2), "nobody is left who could reach it");
    }

    #[test]
    fn what_a_session_has_recorded_that_is_gone_is_not_waited_for() {
        let event = event();
        let (one, other) = (borrow(&event), borrow(&event));
        let [first, second, third] =
            [&one, &other, &one].map(|event| event.record().expect("recorded"));
        drop(one);
        assert!(event.has_reached(first) && event.has_reached(third));
        assert!(other.has_reached(first) && other.has_reached(third));
        assert!(!event.has_reached(second), "its session is there");
        drop(other);
        assert!(event.has_reached(second));
    }

    #[test]
    fn a_later_record_lets_nobody_go_who_waits_for_an_earlier_one() {
        let event = event();
        let other = borrow(&event);
        let [first, second] = [(); 2].map(|()| event.record().expect("recorded"));
        event.reach(second);
        assert!(other.has_reached(second) && !other.has_reached(first));
        event.reach(first);
        assert!(other.has_reached(first));
    }

    #[test]
    fn no_record_takes_the_place_of_one_that_is_open() {
        let event = event();
        for number in 1..MAX_OPEN as u64 {
            assert_eq!(event.record(), Ok(number));
        }
        assert_eq!(event.record(), Ok(MAX_OPEN as u64));
        assert_eq!(event.record(), Err(CUresult::NOT_READY));
        event.reach(1);
        assert_eq!(event.record(), Ok(MAX_OPEN as u64 + 1));
        event.records().spoil();
        assert_eq!(
            event.record(),
            Err(CUresult::UNKNOWN),
            "whatever others have written there"
        );
    }

    /// What another session may lend: a file so long, sealed or not, and what its pipe says.
    fn lent(bytes: usize, seals: SealFlags, said: &[u8]) -> Result<SharedEvent, CUresult> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("test", flags).expect("a file");
        rustix::fs::ftruncate(&file, bytes as u64).expect("long");
        rustix::fs::fcntl_add_seals(&file, seals).expect("sealed");
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        rustix::io::write(&writer, said).expect("written");
        SharedEvent::borrowed(file, reader, 1)
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let (bytes, sealed) = (size_of::<Page>(), SealFlags::SHRINK);
        let who = 1_u32.to_le_bytes();
        assert!(lent(bytes, sealed, &who).is_ok());
        assert!(
            lent(bytes, SealFlags::GROW, &who).is_err(),
            "it can be taken away"
        );
        assert!(lent(bytes - 1, sealed, &who).is_err(), "too short");
        assert!(lent(bytes + 1, sealed, &who).is_err(), "too long");
        for said in [0, MAX_BORROWERS + 1, u32::MAX] {
            let said = said.to_le_bytes();
            assert!(lent(bytes, sealed, &said).is_err(), "who nobody is");
        }
        assert!(lent(bytes, sealed, &who[..3]).is_err(), "half a word");
        assert!(lent(bytes, sealed, &[]).is_err(), "nothing to wait for");
    }

    #[test]
    fn what_is_borrowed_is_not_lent_on() {
        let event = event();
        let other = borrow(&event);
        assert!(event.is_exported_by(&event.key) && !event.is_exported_by(&[0; 16]));
        assert!(!other.is_exported_by(&other.key));
        let refused = other.lend().expect_err("not its own");
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn nobody_gets_the_number_of_one_that_was_there() {
        let event = event();
        drop(borrow(&event));
        event.forget_the_gone();
        let Side::Borrower { who, .. } = borrow(&event).side else {
            panic!("borrowed");
        };
        assert_eq!(who, 2);
        let Side::Lender(borrowers) = &event.side else {
            panic!("lent");
        };
        lock(borrowers).count = MAX_BORROWERS;
        let refused = event.lend().expect_err("no number is left");
        assert_eq!(refused.kind(), std::io::ErrorKind::QuotaExceeded);
    }
}
