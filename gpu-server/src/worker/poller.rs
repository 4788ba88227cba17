//! Who sees streams advance: one thread, and executors that have nothing else to do.
//!
//! *What:* the poller reads the slots of the streams that have pending points, runs the actions of those that are reached, and from time to
//! time asks the driver whether a context has faulted. An executor that has issued points and waits for its next frame does the
//! reading itself ([`Poller::glance`]), so that a stream that is done at once wakes nobody; before it sleeps, or goes on to other work,
//! it wakes the poller for what is left ([`defer_wakes`]). *Rules:* who looks holds the list of streams, so actions of a stream run in order;
//! an executor runs only what neither waits nor sends much; the poller waits for the device only to flush what device code printed;
//! with nothing pending it is parked.
//!
//! ```text
//! parked ──a point──> spinning ──20 µs──> sleeping elapsed/20, 5..500 µs ──progress──> spinning
//! ```
//!
//! *Cost:* a look at a stream is one lock and one read; an urgent point wakes a sleeping poller once, unless a glance settles it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use driver_api::abi::CUstream;
use driver_api::result::CUresult;

use super::context::Context;
use super::end::lock;
use super::janitor;
use super::output;
use super::point::{Action, Delivery};
use super::session::Session;
use super::stream::Stream;

/// How long it spins after something happened, while a thread waits for a point.
const SPIN: Duration = Duration::from_micros(20);

/// Its shortest sleep.
const SHORTEST_SLEEP: Duration = Duration::from_micros(5);

/// Its longest sleep while points are pending.
const LONGEST_SLEEP: Duration = Duration::from_micros(500);

/// How often it asks for faults while nothing advances.
const HEALTH_INTERVAL: Duration = Duration::from_millis(3);

/// How long it is parked at most before it looks whether the session is over.
const PARK: Duration = Duration::from_secs(1);

/// What the other threads tell the poller.
#[derive(Default)]
pub(crate) struct Poller {
    /// The streams with pending points. Who holds it runs what they have reached.
    watched: Mutex<Vec<Arc<Stream>>>,
    news: Mutex<News>,
    wake: Condvar,
    is_asleep: AtomicBool,
    urgent: AtomicUsize,
    /// How many urgent points there ever were: the poller does not sleep on one that it has not looked for.
    urgent_ever: AtomicU64,
}

#[derive(Default)]
struct News {
    streams: Vec<Arc<Stream>>,
    /// Something happened since the poller looked last.
    is_awaited: bool,
}

impl Poller {
    /// A point of this stream is pending; `is_news` if the poller does not have the stream on its list.
    pub(crate) fn expect(&self, stream: &Arc<Stream>, is_news: bool, is_urgent: bool) {
        if is_urgent {
            self.urgent.fetch_add(1, Ordering::SeqCst);
            self.urgent_ever.fetch_add(1, Ordering::SeqCst);
        }
        if is_news {
            lock(&self.news).streams.push(Arc::clone(stream));
        }
        if is_news || is_urgent {
            match WAKES.get() {
                Wakes::AtOnce => self.wake_if_asleep(),
                Wakes::Deferred | Wakes::Owed => WAKES.set(Wakes::Owed),
            }
        }
    }

    /// Wakes the poller if it sleeps: what [`defer_wakes`] has left undone.
    pub(crate) fn wake_if_asleep(&self) {
        if self.is_asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Looks in the poller's stead, if nobody else does: runs what streams have reached and what neither waits nor sends much. Says
    /// whether something is left for the poller.
    pub(crate) fn glance(&self, session: &Session) -> bool {
        let Ok(mut watched) = self.watched.try_lock() else {
            return true;
        };
        self.take_news(&mut watched);
        let mut has_advanced = false;
        watched.retain(|stream| {
            let Some(context) = stream.context() else {
                return true;
            };
            if output::may_be_printed(session, &context) {
                return true;
            }
            while let Some(action) = stream.next_reached_if(&context, Action::is_brief) {
                has_advanced = true;
                self.expect_no_more(action.is_urgent());
                run_brief(session, stream, action);
            }
            !stream.unwatch()
        });
        if has_advanced {
            session.outbox.flush();
        }
        !watched.is_empty()
    }

    /// As while an action is under way.
    #[cfg(test)]
    pub(crate) fn hold_actions(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Stream>>> {
        lock(&self.watched)
    }

    /// Puts the streams that have come on the list; whether there were any.
    fn take_news(&self, watched: &mut Vec<Arc<Stream>>) -> bool {
        let mut news = lock(&self.news);
        let has_arrived = !news.streams.is_empty();
        watched.append(&mut news.streams);
        has_arrived
    }

    /// Waits until what streams have reached so far is done: an action that is under way is no longer among the points of its stream.
    pub(crate) fn finish_actions(&self) {
        // Whoever takes actions holds it until they are done.
        drop(lock(&self.watched));
    }

    /// Whether nothing is pending.
    pub(crate) fn is_idle(&self) -> bool {
        let watched = lock(&self.watched);
        watched.is_empty() && lock(&self.news).streams.is_empty()
    }

    /// An expected point did not come about.
    pub(crate) fn expect_no_more(&self, is_urgent: bool) {
        if is_urgent {
            self.urgent.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// It did, after all.
    pub(crate) fn expect_again(&self, is_urgent: bool) {
        if is_urgent {
            self.urgent.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Wakes the poller.
    pub(crate) fn wake(&self) {
        lock(&self.news).is_awaited = true;
        self.wake.notify_one();
    }

    /// Sleeps, unless something has come since `urgent_seen` was read.
    fn sleep(&self, longest: Duration, urgent_seen: u64) {
        let mut news = lock(&self.news);
        self.is_asleep.store(true, Ordering::SeqCst);
        let is_urgent = self.urgent_ever.load(Ordering::SeqCst) != urgent_seen;
        if !is_urgent && !news.is_awaited && news.streams.is_empty() {
            let waited = self.wake.wait_timeout(news, longest);
            news = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        self.is_asleep.store(false, Ordering::SeqCst);
        news.is_awaited = false;
    }
}

/// How a thread wakes the poller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wakes {
    AtOnce,
    /// It will look itself, or wake it later.
    Deferred,
    /// It has not, yet.
    Owed,
}

thread_local! {
    static WAKES: Cell<Wakes> = const { Cell::new(Wakes::AtOnce) };
}

/// Does something that may issue points, without waking the poller for them; says whether that is owed. Who gets true glances, and wakes
/// the poller for what is left before it sleeps or does anything long.
pub(crate) fn defer_wakes<T>(body: impl FnOnce() -> T) -> (T, bool) {
    let before = WAKES.replace(Wakes::Deferred);
    let result = body();
    (result, WAKES.replace(before) == Wakes::Owed)
}

/// Runs an action that neither waits nor sends much; of others, nothing is done.
fn run_brief(session: &Session, stream: &Stream, action: Action) {
    match action {
        Action::Complete { mark, .. } => {
            session
                .outbox
                .completion(stream.wire_id, CUresult::SUCCESS, mark);
        }
        Action::Reply {
            call,
            buffer,
            length,
        } => session
            .outbox
            .reply(call, CUresult::SUCCESS, buffer.landed(length)),
        Action::CountDown(quarantine) => {
            if let Some(job) = quarantine.count_down() {
                janitor::hand_over(&session.janitor, job);
            }
        }
        Action::Passed { slot } => {
            if let Some(context) = stream.context() {
                context.slots.put_back(slot);
            }
        }
        Action::Begin(stopwatch) => stopwatch.start(),
        Action::Release { .. }
        | Action::Recorded { .. }
        | Action::Settle
        | Action::Direct(_)
        | Action::Read(_)
        | Action::Deliver(_) => {}
    }
}

/// The poller's thread.
pub(crate) fn run(session: &Session) {
    fine_timers();
    let mut watch = Watch {
        session,
        current: 0,
    };
    let mut since = Instant::now();
    let mut checked = since;
    let mut urgent_seen = 0;
    while !session.end.is_over() {
        let urgent_before = std::mem::replace(
            &mut urgent_seen,
            session.poller.urgent_ever.load(Ordering::SeqCst),
        );
        let (arrived, advanced, is_empty) = {
            let mut streams = lock(&session.poller.watched);
            let arrived = session.poller.take_news(&mut streams) || urgent_seen != urgent_before;
            let advanced = watch.look(&mut streams);
            (arrived, advanced, streams.is_empty())
        };
        if advanced {
            session.outbox.flush();
        }
        let now = Instant::now();
        if arrived || advanced {
            since = now;
            if advanced {
                checked = now;
            }
        } else if is_empty {
            session.poller.sleep(PARK, urgent_seen);
            since = Instant::now();
            checked = since;
        } else if now.duration_since(checked) >= HEALTH_INTERVAL {
            watch.check_health();
            checked = Instant::now();
        } else {
            pause(&session.poller, now.duration_since(since), urgent_seen);
        }
    }
}

fn pause(poller: &Poller, waited: Duration, urgent_seen: u64) {
    if waited < SPIN && poller.urgent.load(Ordering::Relaxed) > 0 {
        std::hint::spin_loop();
    } else {
        let longest = (waited / 20).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        poller.sleep(longest, urgent_seen);
    }
}

/// Sleeps are exact to a microsecond on this thread, where 50 are usual.
fn fine_timers() {
    let nanosecond = std::num::NonZeroU64::MIN;
    let _ = rustix::thread::set_current_timer_slack(Some(nanosecond));
}

/// The poller's own look.
struct Watch<'a> {
    session: &'a Session,
    /// The serial of the context that is current here; 0 for none.
    current: u64,
}

impl Watch<'_> {
    /// Runs what is reached; whether anything was.
    fn look(&mut self, streams: &mut Vec<Arc<Stream>>) -> bool {
        let mut has_advanced = false;
        streams.retain(|stream| {
            has_advanced |= self.look_at(stream);
            !stream.unwatch()
        });
        has_advanced
    }

    fn look_at(&mut self, stream: &Arc<Stream>) -> bool {
        let mut has_advanced = false;
        let Some(context) = stream.context() else {
            return false;
        };
        while let Some(action) = stream.next_reached(self.session.driver) {
            has_advanced = true;
            self.count(&action);
            self.run(stream, &context, action);
        }
        while let Some((result, action)) = stream.next_lost() {
            has_advanced = true;
            self.count(&action);
            self.fail(stream, result, action);
        }
        has_advanced
    }

    fn count(&self, action: &Action) {
        self.session.poller.expect_no_more(action.is_urgent());
    }

    fn run(&mut self, stream: &Stream, context: &Context, action: Action) {
        let flushes = match &action {
            // Also one that nobody waits for: who synchronises with what is known to be done asks no more.
            Action::Complete { .. } | Action::Reply { .. } | Action::Read(_) => true,
            Action::Deliver(delivery) => delivery.answers.is_some(),
            Action::Direct(copy) => copy.is_urgent(),
            _ => false,
        };
        if flushes && output::may_be_printed(self.session, context) {
            // One that waits at a gate is not done before this has gone on.
            let is_held = matches!(action, Action::Direct(_) | Action::Read(_));
            let handle = stream.settled_handle().filter(|_| !is_held);
            self.flush_printed(handle, context);
        }
        match action {
            Action::Deliver(delivery) => deliver(self.session, delivery),
            Action::Direct(copy) => match &self.session.direct {
                Some(direct) => direct.take_up(self.session, copy),
                None => copy.fail(self.session, CUresult::NOT_SUPPORTED),
            },
            Action::Read(copy) => match &self.session.direct {
                Some(direct) => direct.take_up_read(self.session, &copy),
                None => copy.fail(self.session, CUresult::NOT_SUPPORTED),
            },
            brief => run_brief(self.session, stream, brief),
        }
    }

    fn fail(&self, stream: &Stream, result: CUresult, action: Action) {
        let outbox = &self.session.outbox;
        match action {
            Action::Complete { mark, .. } => outbox.completion(stream.wire_id, result, mark),
            Action::Deliver(delivery) => {
                if let Some(flight) = &delivery.flight {
                    flight.land(Err(result));
                }
            }
            Action::Reply { call, .. } => outbox.reply(call, result, &[]),
            Action::Direct(copy) => copy.fail(self.session, result),
            Action::Read(copy) => copy.fail(self.session, result),
            Action::Begin(_)
            | Action::Release { .. }
            | Action::Recorded { .. }
            | Action::Passed { .. }
            | Action::Settle => {}
            Action::CountDown(quarantine) => {
                // The memory is there even if its context is not.
                if let Some(job) = quarantine.count_down() {
                    janitor::hand_over(&self.session.janitor, job);
                }
            }
        }
    }

    /// Every synchronise of a context's stream prints what its device code has printed. The poller must not wait for work behind the point,
    /// which may be held until something happens that the poller itself has to tell: then it is a stream with nothing in it.
    fn flush_printed(&mut self, settled: Option<CUstream>, context: &Context) {
        if self.make_current(context) {
            let driver = self.session.driver;
            let flushed = match settled {
                Some(handle) => output::synchronize(driver, handle),
                None => context
                    .idle_stream(driver)
                    .and_then(|handle| output::synchronize(driver, handle)),
            };
            if let Err(error) = flushed {
                tracing::debug!(%error, "flushing what device code printed");
            }
        }
        self.session.output.drain(&self.session.outbox);
    }

    fn make_current(&mut self, context: &Context) -> bool {
        if self.current == context.serial && context.is_alive() {
            return true;
        }
        let is_current = context.make_current(self.session.driver).is_ok();
        self.current = if is_current { context.serial } else { 0 };
        is_current
    }

    /// Asks the driver once for each context that has something pending.
    fn check_health(&mut self) {
        let mut asked: Vec<u64> = Vec::new();
        let streams = lock(&self.session.poller.watched).clone();
        for stream in streams {
            let Some(context) = stream.context() else {
                continue;
            };
            if asked.contains(&context.serial) || !self.make_current(&context) {
                continue;
            }
            asked.push(context.serial);
            if let Err(error) = stream.health(self.session.driver) {
                self.session.fault(&context, error, "the device");
                context.lose_streams(self.session, error, false);
            }
        }
    }
}

fn deliver(session: &Session, delivery: Delivery) {
    session.outbox.bulk(
        delivery.transfer,
        delivery.offset,
        delivery.buffer,
        delivery.length,
    );
    if let (Some(direct), Some(stopwatch)) = (&session.direct, &delivery.ends) {
        direct.measured(stopwatch);
    }
    if let Some(call) = delivery.answers {
        session.outbox.reply(call, CUresult::SUCCESS, &[]);
    }
    if let Some(flight) = &delivery.flight {
        flight.land(Ok(()));
    }
}
