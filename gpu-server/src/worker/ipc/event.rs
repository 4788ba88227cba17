//! Events that programs of one lease share.
//!
//! *What:* two numbers in a page of memory that the sessions map: how often the event was recorded, and which record a stream has reached. A record counts the
//! one up, and its stream's point the other; who waits, waits until the second has come to what the first was. *Why not the driver's own:* a
//! worker can connect to nothing, and what a driver needs to share events is its secret.
//!
//! *Rules:* the page is sealed, so that nobody can take it away; what is read there is only compared. Where the session is gone from which an event came,
//! nobody is waited for. A record counts when its call is answered, so it is asked.
//!
//! # Safety
//! The mapping is as long as [`Page`] (checked when it is made; sealed since), lives as long as its event, and `Page` consists of atomics only, for which any
//! bytes are valid.
#![expect(unsafe_code, reason = "memory shared with other processes")]
#![expect(non_snake_case, reason = "rows have the driver's names")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use driver_api::result::CUresult;
use driver_api::wire::{reply, request};
use memmap2::{MmapOptions, MmapRaw};
use rustix::event::Timespec;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::thread::futex;

use super::{Key, MAX_SHARED, halves, is_broken, new_key, new_pipe};
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

/// What the sessions share.
#[repr(C)]
struct Page {
    recorded: AtomicU64,
    reached: AtomicU64,
    /// Counted up with `reached`, and waited on.
    bell: AtomicU32,
}

/// An event of several sessions.
pub(crate) struct SharedEvent {
    file: File,
    map: MmapRaw,
    /// What it is exported by.
    key: Key,
    /// Held, so that the end which goes with it breaks when it is gone; what is borrowed has none.
    _reader: Option<OwnedFd>,
    writer: OwnedFd,
    is_borrowed: bool,
}

impl SharedEvent {
    fn new() -> Result<Self, CUresult> {
        let failed = |_| CUresult::OPERATING_SYSTEM;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("gpurun-event", flags).map_err(failed)?);
        rustix::fs::ftruncate(&file, size_of::<Page>() as u64).map_err(failed)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(failed)?;
        let (reader, writer) = new_pipe()?;
        Self::with(file, (Some(reader), writer))
    }

    /// What another session has lent; its end of the pipe breaks when it is gone.
    fn borrowed(file: OwnedFd, writer: OwnedFd) -> Result<Self, CUresult> {
        let file = File::from(file);
        let length = file.metadata().map(|file| file.len()).unwrap_or(0);
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        if length != size_of::<Page>() as u64 || !seals.contains(SealFlags::SHRINK) {
            return Err(CUresult::INVALID_HANDLE);
        }
        Self::with(file, (None, writer))
    }

    fn with(file: File, (reader, writer): (Option<OwnedFd>, OwnedFd)) -> Result<Self, CUresult> {
        let map = MmapOptions::new().len(size_of::<Page>()).map_raw(&file);
        Ok(Self {
            map: map.map_err(|_| CUresult::MAP_FAILED)?,
            file,
            key: new_key()?,
            is_borrowed: reader.is_none(),
            _reader: reader,
            writer,
        })
    }

    fn page(&self) -> &Page {
        // SAFETY: by the module's rules; the kernel maps whole pages, so it is aligned.
        unsafe { &*self.map.as_ptr().cast::<Page>() }
    }

    /// What goes to another session.
    pub(super) fn lend(&self) -> std::io::Result<registry::Lent> {
        Ok(vec![
            self.file.try_clone()?.into(),
            self.writer.try_clone()?,
        ])
    }

    pub(super) fn is_exported_by(&self, key: &[u8]) -> bool {
        !self.is_borrowed && self.key == key
    }

    fn recorded(&self) -> u64 {
        self.page().recorded.load(SeqCst)
    }

    /// Whether a record has been reached, or nobody can tell any more.
    fn has_reached(&self, record: u64) -> bool {
        self.page().reached.load(SeqCst) >= record || (self.is_borrowed && is_broken(&self.writer))
    }

    fn reach(&self, record: u64) {
        let page = self.page();
        page.reached.fetch_max(record, SeqCst);
        page.bell.fetch_add(1, SeqCst);
        // It fails for no word that is mapped.
        let _ = futex::wake(&page.bell, futex::Flags::empty(), i32::MAX.cast_unsigned());
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
        CREATE => add(session, id, SharedEvent::new()?)?,
        EXPORT => {
            let event = find(session, id)?;
            // What another session has given out is not this one's to give.
            if event.is_borrowed {
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
            let files = lent.and_then(|files| <[OwnedFd; 2]>::try_from(files).ok());
            let [file, writer] = files.ok_or(CUresult::INVALID_HANDLE)?;
            add(session, id, SharedEvent::borrowed(file, writer)?)?;
        }
        QUERY => {
            let event = find(session, id)?;
            is_reached = u32::from(event.has_reached(event.recorded()));
        }
        WAIT => {
            let event = find(session, id)?;
            event.wait(event.recorded(), || session.end.is_over());
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
    let number = event.page().recorded.fetch_add(1, SeqCst) + 1;
    let record = Record { event, number };
    let put = stream.point(call.session, &context, Action::Recorded { _record: record });
    // A record that could not be put is dropped, and so reached.
    put.map_err(|(error, _)| error)
}

fn wait_in_stream(call: &Call<'_>, event: Arc<SharedEvent>, stream: u32) -> Result<(), CUresult> {
    let record = event.recorded();
    if event.has_reached(record) {
        return Ok(());
    }
    let gate = launch::hold(call, stream)?;
    call.session.memory.shared.waits.add(Held {
        event,
        record,
        gate,
    });
    Ok(())
}

/// A stream that waits for an event.
struct Held {
    event: Arc<SharedEvent>,
    record: u64,
    /// What it waits at.
    gate: u32,
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

/// Lets streams go when what they wait for is reached: a thread's life. It polls, since of several events in shared memory only one could be waited for.
pub(crate) fn run(session: &Session) {
    let waits = &session.memory.shared.waits;
    let mut held = lock(&waits.held);
    while !session.end.is_over() {
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
    use super::*;

    #[test]
    fn a_record_is_reached_when_its_stream_has_come_to_it() {
        let event = Arc::new(SharedEvent::new().expect("made"));
        let lent = <[OwnedFd; 2]>::try_from(event.lend().expect("lent")).expect("two");
        let [file, writer] = lent;
        let other = SharedEvent::borrowed(file, writer).expect("opened");
        assert!(other.has_reached(other.recorded()), "never recorded");
        let number = event.page().recorded.fetch_add(1, SeqCst) + 1;
        let record = Record {
            event: Arc::clone(&event),
            number,
        };
        assert!(!other.has_reached(other.recorded()));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| other.wait(1, || false));
            drop(record);
            waiting.join().expect("woken");
        });
        event.page().recorded.fetch_add(1, SeqCst);
        assert!(!other.has_reached(2));
        drop(event);
        assert!(other.has_reached(2), "nobody is left who could reach it");
    }

    #[test]
    fn a_page_that_can_be_taken_away_is_refused() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).expect("a file");
        rustix::fs::ftruncate(&file, size_of::<Page>() as u64).expect("long");
        let (_reader, writer) = new_pipe().expect("a pipe");
        assert!(SharedEvent::borrowed(file, writer).is_err());
    }
}
