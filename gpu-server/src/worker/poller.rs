//! The one thread that sees streams advance.
//!
//! *What:* it reads the slots of the streams that have pending points, runs the actions of those that are reached, and from time to
//! time asks the driver whether a context has faulted. *Rules:* actions of a stream run in order; it waits for the device only to
//! flush what device code printed; with nothing pending it is parked.
//!
//! ```text
//! parked ──a point──> spinning ──20 µs──> sleeping elapsed/20, 5..500 µs ──progress──> spinning
//! ```
//!
//! *Cost:* a look at a stream is one lock and one read; an urgent point wakes a sleeping poller once.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

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
        if (is_news || is_urgent) && self.is_asleep.load(Ordering::SeqCst) {
            self.wake();
        }
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

/// The poller's thread.
pub(crate) fn run(session: &Session) {
    fine_timers();
    let mut watch = Watch {
        session,
        streams: Vec::new(),
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
        let arrived = watch.take_news() || urgent_seen != urgent_before;
        let advanced = watch.look();
        if advanced {
            session.outbox.flush();
        }
        let now = Instant::now();
        if arrived || advanced {
            since = now;
            if advanced {
                checked = now;
            }
        } else if watch.streams.is_empty() {
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

/// The streams with pending points.
struct Watch<'a> {
    session: &'a Session,
    streams: Vec<Arc<Stream>>,
    /// The serial of the context that is current here; 0 for none.
    current: u64,
}

impl Watch<'_> {
    fn take_news(&mut self) -> bool {
        let mut news = lock(&self.session.poller.news);
        let has_arrived = !news.streams.is_empty();
        self.streams.append(&mut news.streams);
        has_arrived
    }

    /// Runs what is reached; whether anything was.
    fn look(&mut self) -> bool {
        let mut has_advanced = false;
        let mut index = 0;
        while let Some(stream) = self.streams.get(index).cloned() {
            has_advanced |= self.look_at(&stream);
            if stream.unwatch() {
                self.streams.swap_remove(index);
            } else {
                index += 1;
            }
        }
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
            self.fail(stream, &context, result, action);
        }
        has_advanced
    }

    fn count(&self, action: &Action) {
        self.session.poller.expect_no_more(action.is_urgent());
    }

    /// Whether device code that prints can have run in a context.
    fn may_print(&self, context: &Context) -> bool {
        context.prints.load(Ordering::Relaxed) || self.session.output.is_expected_from_libraries()
    }

    fn run(&mut self, stream: &Stream, context: &Context, action: Action) {
        let outbox = &self.session.outbox;
        match action {
            Action::Complete { mark, is_urgent } => {
                if is_urgent && self.may_print(context) {
                    self.flush_printed(stream, context);
                }
                outbox.completion(stream.wire_id, CUresult::SUCCESS, mark);
            }
            Action::Deliver(delivery) => deliver(self.session, delivery),
            Action::Reply {
                call,
                buffer,
                length,
            } => outbox.reply(call, CUresult::SUCCESS, buffer.landed(length)),
            Action::Release { .. } | Action::Settle => {}
            Action::CountDown(quarantine) => {
                if let Some(job) = quarantine.count_down() {
                    janitor::hand_over(&self.session.janitor, job);
                }
            }
        }
    }

    fn fail(&self, stream: &Stream, context: &Context, result: CUresult, action: Action) {
        let outbox = &self.session.outbox;
        match action {
            Action::Complete { mark, .. } => outbox.completion(stream.wire_id, result, mark),
            Action::Deliver(delivery) => {
                if let Some(flight) = &delivery.flight {
                    flight.land(Err(result));
                }
            }
            Action::Reply { call, .. } => outbox.reply(call, result, &[]),
            Action::Release { .. } | Action::Settle => {}
            Action::CountDown(quarantine) => match quarantine.count_down() {
                Some(job) if context.is_alive() => {
                    janitor::hand_over(&self.session.janitor, job);
                }
                Some(job) => {
                    outbox.completion(janitor::TICKET_STREAM, CUresult::SUCCESS, job.ticket)
                }
                None => {}
            },
        }
    }

    fn flush_printed(&mut self, stream: &Stream, context: &Context) {
        if self.make_current(context)
            && let Err(error) = output::synchronize(self.session.driver, stream.live_handle())
        {
            tracing::debug!(%error, "flushing what device code printed");
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
        for stream in self.streams.clone() {
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
    let bytes = delivery.buffer.landed(delivery.length);
    session
        .outbox
        .bulk(delivery.transfer, delivery.offset, bytes);
    if let Some(call) = delivery.answers {
        session.outbox.reply(call, CUresult::SUCCESS, &[]);
    }
    if let Some(flight) = &delivery.flight {
        flight.land(Ok(()));
    }
}
