//! Events: places in streams that can be asked, waited for and timed.
//!
//! # Safety
//!
//! The driver's functions write answers through pointers that their caller passed; see [`crate::entry`].

#![expect(unsafe_code, reason = "the driver's C interface")]
#![expect(non_snake_case, reason = "the driver's names")]

mod shared;

use core::ffi::c_uint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use driver_api::abi::{CUevent, CUresult, CUstream};

use crate::capture::{self, Place};
use crate::context::{Context, Fate, current};
use crate::entry::{answer, done};
use crate::shared::Segment;
use crate::state::{Driver, driver};
use crate::stream::{Point, Work, find};
use crate::threads::lock;

pub(crate) use shared::{Open, Shared};

const BLOCKING_SYNC: c_uint = 1;
const DISABLE_TIMING: c_uint = 2;
const INTERPROCESS: c_uint = 4;

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) context: usize,
    fate: Arc<Fate>,
    timed: bool,
    /// What other processes may have of it.
    pub(crate) shared: Option<Arc<Shared>>,
    recorded: Mutex<Option<Record>>,
    /// Recorded in a stream that is captured: the capture, and the nodes before this place.
    captured: Mutex<Option<Place>>,
}

/// The last record of an event.
#[derive(Debug, Clone)]
struct Record {
    point: Point,
    /// When the stream reached it, after [`epoch`].
    nanoseconds: Arc<AtomicU64>,
}

impl Event {
    fn record(&self) -> Option<Record> {
        lock(&self.recorded).clone()
    }

    /// Where in a capture it was recorded last, if it was there.
    pub(crate) fn captured(&self) -> Option<Place> {
        lock(&self.captured).clone()
    }

    fn set_captured(&self, captured: Option<Place>) {
        *lock(&self.captured) = captured;
    }

    /// Posts what notes that its new place is reached.
    fn post_record(
        &self,
        segment: &Segment,
        post: impl FnOnce(Work) -> Point,
    ) -> Result<(), CUresult> {
        self.set_captured(None);
        let nanoseconds = Arc::new(AtomicU64::new(0));
        let reached = Arc::clone(&nanoseconds);
        // Held until the new place is stored, so that two threads recording at once leave the later one.
        let mut recorded = lock(&self.recorded);
        let shared = self.open(segment)?;
        let work = move |_| {
            Self::reach(&reached);
            drop(shared);
            Ok(())
        };
        let point = post(Box::new(work));
        *recorded = Some(Record { point, nanoseconds });
        Ok(())
    }

    /// Counts a record for the processes that share it, if any do.
    pub(crate) fn open(&self, segment: &Segment) -> Result<Option<Open>, CUresult> {
        let is_over = || self.fate.is_over();
        let open = |shared| Open::new(shared, segment, is_over);
        self.shared.as_ref().map(open).transpose()
    }

    /// Notes that a place is reached now.
    pub(crate) fn reach(nanoseconds: &AtomicU64) {
        nanoseconds.store(epoch().elapsed().as_nanos() as u64, Ordering::Release);
    }

    /// A graph was launched that records it: it is over at `point`.
    pub(crate) fn end_record(&self, point: Point, nanoseconds: Arc<AtomicU64>) {
        let mut recorded = lock(&self.recorded);
        *recorded = Some(Record { point, nanoseconds });
        self.set_captured(None);
    }

    /// Whether there is something to wait for, or was.
    pub(crate) fn is_recorded(&self) -> bool {
        let shared = self.shared.as_ref();
        shared.map_or_else(|| self.record().is_some(), |shared| shared.recorded() > 0)
    }

    /// The place that was recorded last, if any.
    pub(crate) fn point(&self) -> Option<Point> {
        self.record().map(|record| record.point)
    }
}

fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn create(flags: c_uint) -> Result<CUevent, CUresult> {
    let (driver, context) = (driver()?, current()?);
    if flags & !(BLOCKING_SYNC | DISABLE_TIMING | INTERPROCESS) != 0
        || flags & (DISABLE_TIMING | INTERPROCESS) == INTERPROCESS
    {
        return Err(CUresult::INVALID_VALUE);
    }
    let shared = match flags & INTERPROCESS {
        0 => None,
        _ => Some(Shared::new(&driver.segment)?),
    };
    epoch();
    Ok(add(driver, &context, flags & DISABLE_TIMING == 0, shared))
}

/// Another process's event, in a context.
pub(crate) fn borrowed(driver: &Driver, context: &Context, shared: Shared) -> CUevent {
    add(driver, context, false, Some(shared))
}

fn add(driver: &Driver, context: &Context, timed: bool, shared: Option<Shared>) -> CUevent {
    let handle = driver.events.reserve();
    let event = Event {
        context: context.handle,
        fate: Arc::clone(&context.fate),
        timed,
        shared: shared.map(Arc::new),
        recorded: Mutex::default(),
        captured: Mutex::default(),
    };
    driver.events.insert(handle, Arc::new(event));
    CUevent(handle)
}

pub(crate) unsafe fn cuEventCreate(event: *mut CUevent, flags: c_uint) -> CUresult {
    if event.is_null() {
        return CUresult::INVALID_VALUE;
    }
    // SAFETY: the caller passes a place for a handle.
    unsafe { answer(event, create(flags)) }
}

pub(crate) unsafe fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    done(
        driver()
            .and_then(|driver| driver.events.remove(event.0))
            .map(drop),
    )
}

fn record(event: CUevent, stream: CUstream, external: bool) -> Result<(), CUresult> {
    let handle = event.0;
    let driver = driver()?;
    let event = driver.events.get(handle)?;
    let (context, stream) = find(stream)?;
    if context.handle != event.context {
        return Err(CUresult::INVALID_HANDLE);
    }
    if let Some(captured) = capture::record(&context, &stream, (&event, handle), external)? {
        if !external {
            event.set_captured(Some(captured));
        }
        return Ok(());
    }
    event.post_record(&driver.segment, |work| {
        context.post_always(&stream, Vec::new(), work)
    })
}

/// Records an event behind all that its context, or a green one (not 0), has been given.
pub(crate) fn record_context(
    context: &Context,
    green: usize,
    event: CUevent,
) -> Result<(), CUresult> {
    let driver = driver()?;
    let event = driver.events.get(event.0)?;
    if context.handle != event.context {
        return Err(CUresult::INVALID_HANDLE);
    }
    capture::forbid_all(context, green)?;
    event.post_record(&driver.segment, |work| {
        context.post_behind_all(&driver.config.hostile, green, work)
    })
}

/// Lets all that a context, or a green one (not 0), is given from now on wait for an event.
pub(crate) fn wait_context(
    context: &Context,
    green: usize,
    event: CUevent,
) -> Result<(), CUresult> {
    let driver = driver()?;
    let event = driver.events.get(event.0)?;
    capture::forbid_all(context, green)?;
    capture::forbid_event(&event)?;
    if let Some(shared) = event.shared.clone() {
        let (record, fate) = (shared.recorded(), Arc::clone(&context.fate));
        let wait = move |_| {
            shared.wait(&driver.segment, record, || fate.is_over());
            Ok(())
        };
        let point = context.post_behind_all(&driver.config.hostile, green, Box::new(wait));
        context.wait_for(green, &point);
    } else if let Some(point) = event.point().filter(|point| !point.is_done()) {
        context.wait_for(green, &point);
    }
    Ok(())
}

pub(crate) unsafe fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult {
    done(record(event, stream, false))
}

pub(crate) unsafe fn cuEventRecordWithFlags(
    event: CUevent,
    stream: CUstream,
    flags: c_uint,
) -> CUresult {
    // 1 asks for an external node of a graph being captured.
    if flags > 1 {
        CUresult::INVALID_VALUE
    } else {
        done(record(event, stream, flags == 1))
    }
}

fn finished(event: CUevent, wait: bool) -> Result<(), CUresult> {
    let driver = driver()?;
    let event = driver.events.get(event.0)?;
    crate::output::status(&event.fate)?;
    if event.captured().is_some() {
        return Err(CUresult::CAPTURED_EVENT);
    }
    capture::guard()?;
    if let Some(shared) = &event.shared {
        let record = shared.recorded();
        if wait {
            shared.wait(&driver.segment, record, || event.fate.is_over());
        }
        event.fate.status()?;
        return match shared.has_reached(&driver.segment, record) {
            true => Ok(()),
            // Torn down while this call waited.
            false if wait => Err(CUresult::CONTEXT_IS_DESTROYED),
            false => Err(CUresult::NOT_READY),
        };
    }
    let Some(point) = event.point() else {
        return Ok(());
    };
    if wait {
        point.wait();
    } else if !point.is_done() {
        return Err(CUresult::NOT_READY);
    }
    crate::output::flush(&event.fate);
    event.fate.status()
}

pub(crate) unsafe fn cuEventQuery(event: CUevent) -> CUresult {
    done(finished(event, false))
}

pub(crate) unsafe fn cuEventSynchronize(event: CUevent) -> CUresult {
    done(finished(event, true).inspect(|()| {
        if let Ok(driver) = driver() {
            crate::pool::synchronised(driver);
        }
    }))
}

fn elapsed(start: CUevent, end: CUevent) -> Result<f32, CUresult> {
    let events = &driver()?.events;
    let (start, end) = (events.get(start.0)?, events.get(end.0)?);
    start.fate.status()?;
    if !start.timed || !end.timed {
        return Err(CUresult::INVALID_HANDLE);
    }
    let (Some(start), Some(end)) = (start.record(), end.record()) else {
        return Err(CUresult::INVALID_HANDLE);
    };
    if !start.point.is_done() || !end.point.is_done() {
        return Err(CUresult::NOT_READY);
    }
    let time = |record: &Record| record.nanoseconds.load(Ordering::Acquire) as f64;
    Ok(((time(&end) - time(&start)) / 1e6) as f32)
}

pub(crate) unsafe fn cuEventElapsedTime(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(milliseconds, elapsed(start, end)) }
}

pub(crate) unsafe fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    // SAFETY: the caller passes a place for a number.
    unsafe { answer(milliseconds, elapsed(start, end)) }
}
