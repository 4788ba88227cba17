//! The pace of launches: a session on a device that others share waits for its turn at the [gate](crate::gate), and tells what it has used.
//!
//! *What:* a [`Pacer`] for each device that has a gate; a [`Meter`] in each stream. Work goes through [`run`]: where the device is shared, it
//! waits for room and for the turn, is counted, and is followed by a point; the end of the point is the end of the work. Alone, nothing
//! waits: the points that exist anyway tell when the device became busy and idle, and where a stream has none behind its last work, the
//! executor puts one when it has had nothing to do for a moment ([`rest`]). *Rules:*
//! - A launch waits under the order token, since calls of other threads may depend on it: a program's order is kept whatever the turns. One that
//!   waits on a lane holds the token's holder too ([`let_lanes_pass`]). What ends the wait does not come from behind it: turns of others end by themselves. Where it does come from behind, a kernel of this session that waits
//!   for a value that is posted later, [`Flight::rescue`] ends the wait.
//! - Whoever waits looks for the end of the session, and for the end of the connection, which nobody reads meanwhile.
//! - The seat never says that work runs once none does: a lost stream, a lost context and the end of the session take theirs with them.
//! - Copies are not paced, they only count as activity; copies within the device and fills are work from [`LARGE_BYTES`] on. The launch of
//!   a graph is one piece of work, however long.
//!
//! ```text
//! launch ── alone ──────────────────────────────▶ driver      point ──▶ poller ──▶ Meter::ended ──▶ seat.done
//!    └───── shared ── room? ── turn? ─▶ counted ─▶ driver ─▶ (a point after each part)
//! ```
//!
//! *Cost of a launch:* on a device without a gate, one comparison. Alone: four more reads of words that seldom change. Alone, a mark costs about
//! 0.1 µs more for the clock and a lock.

mod flight;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver_api::result::CUresult;
use protocol::hello::{LeaseOrder, RefusalCode, Refused, refusal};

use super::call::{Call, Current};
use super::end::{Reason, lock};
use super::point::Action;
use super::session::Session;
use super::stream::Stream;
use crate::gate::turns::Answer;
use crate::gate::{Gate, GateError, Place, Seat};
use flight::Flight;

/// From so many bytes on, a copy within the device and a fill are work like a launch.
pub(crate) const LARGE_BYTES: u64 = 1 << 20;

/// How long an executor has had nothing to do before it puts points behind work that nobody waits for, on a device that nobody else uses.
const CALM: Duration = Duration::from_millis(2);

/// How often the token's holder looks whether a launch still waits on a lane.
const LANE_LOOK: Duration = Duration::from_micros(200);

/// How long one waits before one looks for the end of the session.
const LOOK: u64 = 50_000_000;

/// A device's pace.
#[derive(Debug)]
pub(crate) struct Pacer {
    seat: Seat,
    flight: Mutex<Flight>,
    /// How many streams have work behind their last point.
    open: AtomicU32,
    /// Something was put into a stream since that was told last.
    is_touched: AtomicBool,
    /// The lease has lost its place.
    is_dismissed: AtomicBool,
}

/// Takes this worker's seats: one for each slice of the lease, in order; none where no gates were passed.
///
/// # Errors
/// A gate cannot be used, or the lease has no place there.
pub(crate) fn take_seats(
    lease: Option<&LeaseOrder>,
    gates: Vec<OwnedFd>,
) -> Result<Vec<Arc<Pacer>>, Refused> {
    let slices = lease.map_or(&[][..], |lease| &lease.slices);
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    if gates.len() != slices.len() {
        let message = format!("{} gates for {} devices", gates.len(), slices.len());
        return Err(refusal(RefusalCode::Internal, message));
    }
    if !are_different(&gates) {
        // Record locks, by which a gate knows the living, are a process's and not a mapping's.
        let message = "one device's gate for two devices".to_owned();
        return Err(refusal(RefusalCode::Internal, message));
    }
    let sit = |(gate, place)| Pacer::sit(gate, Place::from_number(place)).map(Arc::new);
    let places = slices.iter().map(|slice| slice.gate_place);
    let pacers: Result<_, GateError> = gates.into_iter().zip(places).map(sit).collect();
    pacers.map_err(|error| refusal(RefusalCode::Internal, error.to_string()))
}

/// Whether no file is there twice.
fn are_different(files: &[OwnedFd]) -> bool {
    let number = |file: &OwnedFd| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    let mut numbers: Vec<_> = files.iter().filter_map(|file| number(file).ok()).collect();
    numbers.sort_unstable();
    numbers.windows(2).all(|pair| pair[0] != pair[1])
}

/// Does work on a device, in its turn.
///
/// # Errors
/// The work's; the session is over.
#[inline]
pub(crate) fn run(
    call: &mut Call<'_>,
    stream: &Arc<Stream>,
    work: impl FnOnce(&Call<'_>) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    match stream.meter.pacer() {
        None => work(call),
        Some(pacer) if !pacer.is_shared() => {
            work(call)?;
            stream.meter.add_uncounted();
            Ok(())
        }
        Some(pacer) => run_shared(call, stream, &Arc::clone(pacer), work),
    }
}

fn run_shared(
    call: &mut Call<'_>,
    stream: &Arc<Stream>,
    pacer: &Arc<Pacer>,
    work: impl FnOnce(&Call<'_>) -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    let _on_lane = OnLane::of(call);
    pacer.admit(call)?;
    if let Err(error) = work(call) {
        pacer.ended(1, false);
        return Err(error);
    }
    let part = lock(&pacer.flight).part();
    if stream.meter.add_counted() >= part {
        put_point(call.session, stream);
    }
    Ok(())
}

/// Waits until no launch waits on a lane: what comes behind it on the wire comes behind it on the device.
#[inline]
pub(crate) fn let_lanes_pass(session: &Session) {
    let waiting = &session.devices.waiting_on_lanes;
    while waiting.load(Ordering::Acquire) > 0 && !session.end.is_over() {
        std::thread::sleep(LANE_LOOK);
    }
}

/// A launch that may wait on a lane, until dropped.
struct OnLane<'a>(&'a AtomicUsize);

impl<'a> OnLane<'a> {
    fn of(call: &Call<'a>) -> Option<Self> {
        let waiting = &call.session.devices.waiting_on_lanes;
        call.is_on_lane.then(|| {
            waiting.fetch_add(1, Ordering::AcqRel);
            Self(waiting)
        })
    }
}

impl Drop for OnLane<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How long an executor that has nothing to do waits before it [rests](rest); nothing if it need not.
pub(crate) fn time_to_rest(session: &Session) -> Option<Duration> {
    let mut time = None;
    for pacer in &session.devices.pacers {
        if pacer.is_touched.swap(false, Ordering::Relaxed) {
            pacer.seat.is_active();
        }
        if pacer.open.load(Ordering::Acquire) > 0 {
            let own = if pacer.is_shared() {
                Duration::ZERO
            } else {
                CALM
            };
            time = Some(time.map_or(own, |time: Duration| time.min(own)));
        }
    }
    time
}

/// An executor or a lane has nothing more to do for now: work is followed by a point. The context that is current may be another afterwards.
pub(crate) fn rest(session: &Session, current: &mut Current) {
    // Who closes the door does it itself.
    if let Some(_inside) = session.door.try_enter() {
        settle(session, current);
    }
}

/// All work is followed by a point, whatever comes. The context that is current may be another afterwards.
pub(crate) fn settle(session: &Session, current: &mut Current) {
    for pacer in &session.devices.pacers {
        if pacer.open.load(Ordering::Acquire) > 0 {
            close(session, current, pacer);
        }
    }
}

/// A stream is told to wait for a value, which may come from whoever comes behind.
pub(crate) fn hold(stream: &Stream) {
    if let Some(pacer) = stream.meter.pacer() {
        lock(&pacer.flight).hold();
    }
}

/// Puts a point behind each stream's last work.
fn close(session: &Session, current: &mut Current, pacer: &Arc<Pacer>) {
    let is_its = |other: Option<&Arc<Pacer>>| other.is_some_and(|other| Arc::ptr_eq(other, pacer));
    for context in session.contexts.all() {
        if !is_its(context.pacer.as_ref()) {
            continue;
        }
        let streams = context.all_streams();
        for stream in streams.iter().filter(|stream| stream.meter.is_open()) {
            if current.enter(session, context.id).is_ok() {
                put_point(session, stream);
            }
        }
    }
}

/// Puts a point into a stream, whose context is current.
fn put_point(session: &Session, stream: &Arc<Stream>) {
    let Some(context) = stream.context() else {
        return;
    };
    if let Err((error, _)) = stream.point(session, &context, Action::Settle) {
        // The stream is lost, and its work with it; who waits in it is told.
        tracing::debug!(%error, "no point behind work");
        stream.meter.lose(0);
    }
}

impl Pacer {
    fn sit(gate: OwnedFd, place: Place) -> Result<Self, GateError> {
        Arc::new(Gate::open(gate)?).sit(place).map(Self::new)
    }

    pub(crate) fn new(seat: Seat) -> Self {
        Self {
            seat,
            flight: Mutex::default(),
            open: AtomicU32::new(0),
            is_touched: AtomicBool::new(false),
            is_dismissed: AtomicBool::new(false),
        }
    }

    #[inline]
    fn is_shared(&self) -> bool {
        self.seat.is_shared() && !self.is_dismissed.load(Ordering::Relaxed)
    }

    #[inline]
    fn touch(&self) {
        if !self.is_touched.load(Ordering::Relaxed) {
            self.is_touched.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until a piece of work may be launched, and counts it.
    fn admit(self: &Arc<Self>, call: &mut Call<'_>) -> Result<(), CUresult> {
        let mut wish = None;
        loop {
            let seen = self.seat.news();
            let is_full = {
                let mut flight = lock(&self.flight);
                let goes_on = flight.goes_on(|| self.seat.is_open());
                if goes_on || flight.rescue(self.seat.now()) {
                    self.add(&mut flight);
                    return Ok(());
                }
                flight.is_full()
            };
            let wish = wish.get_or_insert_with(|| self.seat.wish());
            match wish.ask(is_full) {
                Ok(Answer::Go) => {
                    let mut flight = lock(&self.flight);
                    flight.grant();
                    self.add(&mut flight);
                    return Ok(());
                }
                Ok(Answer::Wait(until)) => self.wait(call, seen, until)?,
                Err(error) => {
                    tracing::info!("goes on without a gate: {error}");
                    self.is_dismissed.store(true, Ordering::Relaxed);
                    self.add(&mut lock(&self.flight));
                    return Ok(());
                }
            }
        }
    }

    /// Waits for news of the gate, or for a moment.
    fn wait(self: &Arc<Self>, call: &mut Call<'_>, seen: u32, until: u64) -> Result<(), CUresult> {
        let session = call.session;
        if session.end.is_over() {
            return Err(CUresult::DEINITIALIZED);
        }
        if session.end.is_hung_up() {
            let gone = "it has hung up while its launches waited for their turn";
            session.end.finish(Reason::Lost(gone.to_owned()));
            return Err(CUresult::DEINITIALIZED);
        }
        // Our own work ends when it is seen to end: by a point, and by a poller that is awake.
        close(session, call.current, self);
        call.current.enter(session, call.record.context)?;
        session.poller.wake_if_asleep();
        self.seat.wait(seen, until.min(self.seat.now() + LOOK));
        Ok(())
    }

    /// One more piece of work is about to be on the device, or is.
    fn add(&self, flight: &mut Flight) {
        if let Some(since) = flight.add(self.seat.now()) {
            self.seat.begins(since);
        }
    }

    /// Pieces of work are done, or lost.
    fn ended(&self, pieces: u32, is_measured: bool) {
        if pieces == 0 {
            return;
        }
        let mut flight = lock(&self.flight);
        let is_measured = is_measured && self.is_shared();
        let now = self.seat.now();
        let since = flight.end(pieces, is_measured, now);
        // Under the lock, so that it cannot meet the next piece's beginning.
        self.seat.done(since, now);
        self.touch();
    }
}

/// A stream's work since its last point.
#[derive(Debug)]
pub(crate) struct Meter {
    pacer: Option<Arc<Pacer>>,
    /// Pieces that the pacer has counted.
    counted: AtomicU32,
    /// Whether there is work that nobody has counted.
    is_uncounted: AtomicBool,
}

impl Meter {
    pub(crate) fn new(pacer: Option<Arc<Pacer>>) -> Self {
        Self {
            pacer,
            counted: AtomicU32::new(0),
            is_uncounted: AtomicBool::new(false),
        }
    }

    #[inline]
    fn pacer(&self) -> Option<&Arc<Pacer>> {
        self.pacer.as_ref()
    }

    /// Something is about to be put into the stream.
    #[inline]
    pub(crate) fn touch(&self) {
        if let Some(pacer) = &self.pacer {
            pacer.touch();
        }
    }

    #[inline]
    fn add_uncounted(&self) {
        if !self.is_uncounted.load(Ordering::Relaxed)
            && !self.is_uncounted.swap(true, Ordering::AcqRel)
        {
            self.count_open(1);
        }
    }

    fn add_counted(&self) -> u32 {
        let before = self.counted.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            self.count_open(1);
        }
        before + 1
    }

    /// So many more are open; wraps for fewer.
    fn count_open(&self, number: u32) {
        if let Some(pacer) = &self.pacer {
            pacer.open.fetch_add(number, Ordering::AcqRel);
        }
    }

    /// Takes what no point is behind: the counted pieces, and whether there are others.
    fn take_open(&self) -> (u32, bool) {
        let counted = self.counted.swap(0, Ordering::AcqRel);
        let is_uncounted = self.is_uncounted.swap(false, Ordering::AcqRel);
        let taken = u32::from(counted > 0) + u32::from(is_uncounted);
        self.count_open(taken.wrapping_neg());
        (counted, is_uncounted)
    }

    /// Whether no point is behind the last work.
    fn is_open(&self) -> bool {
        self.counted.load(Ordering::Acquire) > 0 || self.is_uncounted.load(Ordering::Acquire)
    }

    /// A point is about to be put behind all of it: so many pieces end with the point.
    pub(crate) fn cover(&self) -> u32 {
        let Some(pacer) = &self.pacer else {
            return 0;
        };
        if !self.is_open() {
            return 0;
        }
        let (counted, is_uncounted) = self.take_open();
        if is_uncounted {
            pacer.add(&mut lock(&pacer.flight));
        }
        counted + u32::from(is_uncounted)
    }

    /// The stream has come to a point behind so many pieces.
    pub(crate) fn ended(&self, pieces: u32) {
        if let Some(pacer) = &self.pacer {
            pacer.ended(pieces, true);
        }
    }

    /// The stream is lost with so many pieces before its points, and with what is behind them.
    pub(crate) fn lose(&self, pieces: u32) {
        if let Some(pacer) = &self.pacer {
            let (counted, _) = self.take_open();
            pacer.ended(pieces + counted, false);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.lose(0);
    }
}

#[cfg(test)]
mod tests {
    use protocol::hello::SliceOrder;

    use super::*;
    use crate::gate::Share;

    fn lease(places: &[Place]) -> LeaseOrder {
        let slice = |place: &Place| SliceOrder {
            gate_place: place.to_number(),
            ..SliceOrder::default()
        };
        LeaseOrder {
            slices: places.iter().map(slice).collect(),
            ..LeaseOrder::default()
        }
    }

    /// A gate with a place. In this process no seat is taken while its descriptors are closed.
    fn gate() -> (Gate, Place) {
        let gate = Gate::create().expect("a gate");
        let place = gate.admit(Share::new(0.5, false)).expect("a place");
        (gate, place)
    }

    fn passed(gate: &Gate) -> OwnedFd {
        gate.descriptor().try_clone_to_owned().expect("a copy")
    }

    #[test]
    fn a_worker_sits_at_the_gate_of_each_slice() {
        let (one, two) = (gate(), gate());
        let lease = lease(&[one.1, two.1]);
        let gates = vec![passed(&one.0), passed(&two.0)];
        let pacers = take_seats(Some(&lease), gates).expect("seats");
        assert_eq!(pacers.len(), 2);
        assert!(!pacers[0].is_shared());
        assert!(take_seats(Some(&lease), Vec::new()).is_ok_and(|none| none.is_empty()));
        assert!(take_seats(None, Vec::new()).is_ok_and(|none| none.is_empty()));
    }

    #[test]
    fn gates_that_do_not_fit_are_refused() {
        let (one, two) = (gate(), gate());
        let both = lease(&[one.1, two.1]);
        let refused = |lease: &LeaseOrder, gates: Vec<OwnedFd>| {
            let refused = take_seats(Some(lease), gates).expect_err("refused");
            refused.message
        };
        assert!(refused(&both, vec![passed(&one.0)]).contains("1 gates for 2"));
        let twice = vec![passed(&one.0), passed(&one.0)];
        assert!(refused(&both, twice).contains("two devices"));
        let file = tempfile::tempfile().expect("a file").into();
        assert!(refused(&lease(&[one.1]), vec![file]).contains("is none"));
        one.0.dismiss(one.1);
        let refused = refused(&lease(&[one.1]), vec![passed(&one.0)]);
        assert!(refused.contains("no place"), "{refused}");
        let unset = SliceOrder::default();
        assert!(matches!(
            Pacer::sit(passed(&two.0), Place::from_number(unset.gate_place)),
            Err(GateError::Dismissed)
        ));
    }
}
