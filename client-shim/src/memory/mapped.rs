//! Memory that the program and the device share: pinned memory that the device reaches, and managed memory.
//!
//! *What:* such memory is twice there, here and in the worker at the same address, and is kept alike where CUDA says that one side sees what the other
//! has written. Both sides find what has changed by [comparing](driver_api::mirror).
//!
//! ```text
//! before work is posted:             compare ──▶ changes, posted before it
//! when a wait has ended:             asked   ◀── what the device has changed
//! while work runs, mapped, ≤ 64 KiB: both, again and again, by a thread of ours: kernels poll flags, and the program polls theirs
//! ```
//!
//! *When it becomes so:* pinned memory when the program asks for its device pointer, or names it in a kernel's parameters, a copy within the device, a
//! fill or a stream memory operation; managed memory when it is made ([`managed`](super::managed)). A program without any pays one atomic read for each
//! call.
//!
//! *Rules:* changes are compared and posted under one lock, so that the wire has them in the order of the comparisons; answers to pulls are taken in one
//! after the other ([`Mapped::pulling`]). Managed memory may not be touched by the program while the device works (`CONCURRENT_MANAGED_ACCESS` is 0),
//! so it is compared after a wait has ended, until a kernel has been put. Where the address is taken in the worker, memory is not mapped, and the call that needs it is refused.
//!
//! # Safety
//! The ranges are pinned or managed: the program keeps them readable and writable until it gives them back, which takes them out first;
//! what of it is only registered is looked for before each comparison.
#![expect(unsafe_code, reason = "compares and writes the program's memory")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_api::abi::CUresult;
use driver_api::mirror::{CHANGE_BYTES, Change, Mirror};
use driver_api::wire::reply;
use driver_api::wire::request::{GpurunHostMap, GpurunHostPull, GpurunHostPush, GpurunHostUnmap};
use protocol::limits::MAX_INLINE_COPY_BYTES;
use rustix::mm::{MsyncFlags, msync};
use zerocopy::{FromBytes, IntoBytes};

use super::host::{self, Pinned};
use crate::link::{sleep_while, wake_all};
use crate::log;
use crate::module::Owner;
use crate::process;
use crate::session::{self, Session, malformed};
use crate::stream;
use crate::thread;

/// What is kept alike while work runs.
const SMALL_BYTES: usize = 64 * 1024;
/// Changes in one call.
const MAX_CHANGES: usize = MAX_INLINE_COPY_BYTES / size_of::<Change>();
const PAGE: usize = 4096;
/// How often small ranges are compared: at first, and from [`SOON`] after the last change or launch on.
const OFTEN: Duration = Duration::from_micros(50);
const SELDOM: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_millis(50);
/// How often an idle thread looks whether the connection is still there.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// What a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Pinned memory: both sides may write it at any time. What is registered is the program's own, which it may unmap without a word.
    Pinned { is_registered: bool },
    /// Managed memory of this context; variables go with their module or library.
    Managed { context: u32, owner: Option<Owner> },
}

#[derive(Debug)]
struct Shared {
    mirror: Mirror,
    kind: Kind,
}

impl Shared {
    fn is_small(&self) -> bool {
        matches!(self.kind, Kind::Pinned { .. }) && self.mirror.bytes() <= SMALL_BYTES
    }

    /// Whether the program still has it. A program that frees registered memory at this very moment, in another thread, is not helped.
    fn is_there(&self) -> bool {
        let Kind::Pinned {
            is_registered: true,
        } = self.kind
        else {
            return true;
        };
        let first_page = self.mirror.start() - self.mirror.start() % PAGE;
        let end = (self.mirror.start() + self.mirror.bytes()).next_multiple_of(PAGE);
        let pages = std::ptr::without_provenance_mut(first_page);
        // SAFETY: it writes nothing back at once, and tells where nothing is mapped.
        unsafe { msync(pages, end - first_page, MsyncFlags::ASYNC) }.is_ok()
    }
}

/// Which ranges a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that are kept alike while work runs.
    Small,
}

/// The ranges of a session, by address.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    any: AtomicBool,
    ranges: Mutex<BTreeMap<usize, Shared>>,
    /// Held from the question to the worker until its answer is taken in.
    pulling: Mutex<()>,
    /// The device may have changed something that has not been pulled.
    is_stale: AtomicBool,
    /// Counts the times from which on the program may change managed memory.
    free_to_write: AtomicU64,
    /// That count as it was when what the program had changed was sent for good: before a kernel, which forbids the program to touch it.
    sent: AtomicU64,
    /// Managed memory was attached to the host or to one stream: the program may touch it while other work runs.
    is_attached: AtomicBool,
    has_thread: AtomicBool,
    /// Counts work; the thread sleeps on it.
    work: AtomicU32,
}

impl Mapped {
    fn ranges(&self) -> MutexGuard<'_, BTreeMap<usize, Shared>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is any.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Whether the device reaches all of this by its address here.
    pub(crate) fn holds(&self, address: u64, length: u64) -> bool {
        let (Ok(start), Ok(length)) = (usize::try_from(address), usize::try_from(length)) else {
            return false;
        };
        let is_inside = |(first, shared): (&usize, &Shared)| {
            let (offset, bytes) = (start - first, shared.mirror.bytes());
            offset < bytes && length <= bytes - offset
        };
        self.is_any()
            && self
                .ranges()
                .range(..=start)
                .next_back()
                .is_some_and(is_inside)
    }

    fn insert(&self, mirror: Mirror, kind: Kind) {
        let mut ranges = self.ranges();
        ranges.insert(mirror.start(), Shared { mirror, kind });
        self.free_to_write.fetch_add(1, SeqCst);
        self.is_stale.store(true, SeqCst);
        self.any.store(true, SeqCst);
    }

    /// Takes a range out; an answer to a pull that is on its way is waited for.
    fn take(&self, start: usize) -> Option<Shared> {
        let _pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranges = self.ranges();
        let gone = ranges.remove(&start);
        self.any.store(!ranges.is_empty(), SeqCst);
        gone
    }

    /// Makes pinned memory reachable for the device, if it is not yet.
    pub(crate) fn map(&self, session: &Session, pinned: &Pinned) -> Result<(), CUresult> {
        if self.holds(pinned.start as u64, pinned.size as u64) {
            return Ok(());
        }
        let memory = &session.objects.memory;
        host::wait_for_landings(session, &memory.host.landing_in(pinned.start, pinned.size))?;
        // Whole changes, as the worker finds them: what else is in the first and in the last is the program's too, on the same page.
        let start = pinned.start - pinned.start % CHANGE_BYTES;
        let end = (pinned.start + pinned.size).next_multiple_of(CHANGE_BYTES);
        let first_page = start - start % PAGE;
        let pages = end.next_multiple_of(PAGE) - first_page;
        let mirror = Mirror::new(start, end - start)?;
        let (_, context) = session::current()?;
        let request = GpurunHostMap::new(first_page as u64, pages as u64);
        session
            .ask_in(context.id, &request, &[])
            .inspect_err(|error| {
                log::warning!(
                    "pinned memory at {first_page:#x} cannot be mapped for the device: {error}"
                );
            })?;
        let is_registered = pinned.is_registered();
        self.insert(mirror, Kind::Pinned { is_registered });
        self.need_thread();
        self.push(session, Which::All).map(drop)
    }

    /// Ends it, once nothing that runs may use it any more; the bytes are what the device left.
    pub(crate) fn unmap(&self, session: &Session, address: usize) -> Result<(), CUresult> {
        let start = address - address % CHANGE_BYTES;
        if !self.is_any() || !self.ranges().contains_key(&start) {
            return Ok(());
        }
        let (_, context) = session::current()?;
        stream::synchronise_context(session, &context)?;
        self.take(start);
        let request = GpurunHostUnmap::new((start - start % PAGE) as u64);
        session.ask_in(context.id, &request, &[]).map(drop)
    }

    /// Managed memory of a context, which the worker manages too: readable and writable here until [`Mapped::forget_managed`].
    pub(super) fn add_managed(
        &self,
        start: usize,
        bytes: usize,
        context: u32,
        owner: Option<Owner>,
    ) -> Result<(), CUresult> {
        let mirror = Mirror::new(start, bytes)?;
        self.insert(mirror, Kind::Managed { context, owner });
        Ok(())
    }

    /// Managed memory is the host's or one stream's from now on.
    pub(crate) fn attach(&self) {
        self.is_attached.store(true, SeqCst);
    }

    /// A module or a library has gone, and its variables.
    pub(crate) fn forget_owner(&self, gone: Owner) {
        if self.is_any() {
            self.forget_if(
                |kind| matches!(kind, Kind::Managed { owner: Some(owner), .. } if owner == gone),
            );
        }
    }

    /// Managed memory is given back.
    pub(super) fn forget_managed(
        &self,
        session: &Session,
        start: usize,
        context: u32,
    ) -> Result<(), CUresult> {
        match self.take(start) {
            Some(_) => {
                let request = GpurunHostUnmap::new(start as u64);
                session.ask_in(context, &request, &[]).map(drop)
            }
            None => Ok(()),
        }
    }

    /// A context has ended, and its managed memory, of which this is what was allocated.
    pub(super) fn forget_context(&self, gone: u32) -> Vec<Range<u64>> {
        self.forget_if(|kind| matches!(kind, Kind::Managed { context, .. } if context == gone))
    }

    fn forget_if(&self, is_gone: impl Fn(Kind) -> bool) -> Vec<Range<u64>> {
        let _pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranges = self.ranges();
        let gone = ranges.extract_if(.., |_, shared| is_gone(shared.kind));
        let allocated = gone.filter_map(|(start, shared)| match shared.kind {
            Kind::Managed { owner: None, .. } => {
                Some(start as u64..(start + shared.mirror.bytes()) as u64)
            }
            _ => None,
        });
        let allocated = allocated.collect();
        self.any.store(!ranges.is_empty(), SeqCst);
        allocated
    }

    /// Before work is posted: it sees what the program has written.
    #[inline]
    pub(crate) fn before_work(&self, session: &Session) -> Result<(), CUresult> {
        match self.is_any() {
            true => self.push(session, Which::All).map(drop),
            false => Ok(()),
        }
    }

    /// After work was posted.
    #[inline]
    pub(crate) fn after_work(&self) {
        if self.is_any() {
            self.is_stale.store(true, SeqCst);
            self.work.fetch_add(1, SeqCst);
            wake_all(&self.work);
        }
    }

    /// After a wait: the program sees what the device has written.
    #[inline]
    pub(crate) fn after_wait(&self, session: &Session) -> Result<(), CUresult> {
        match self.is_any() {
            true => self.catch_up(session),
            false => Ok(()),
        }
    }

    fn catch_up(&self, session: &Session) -> Result<(), CUresult> {
        self.free_to_write.fetch_add(1, SeqCst);
        // Who finds that another thread pulls waits until that has been taken in.
        let pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_stale.swap(false, SeqCst) {
            return Ok(());
        }
        if stream::is_any_busy(session) {
            self.is_stale.store(true, SeqCst);
        }
        self.pull_holding(&pulling, session, Which::All)
            .map(drop)
            .inspect_err(|_| self.is_stale.store(true, SeqCst))
    }

    /// Whether the program may have changed managed memory since a kernel was put.
    fn may_be_written(&self) -> bool {
        self.free_to_write.load(SeqCst) != self.sent.load(SeqCst)
    }

    /// Puts a kernel, or a graph of some, by `post`: from then on the program may not touch managed memory, which need not be compared until a wait
    /// has ended. Copies, fills and events alone forbid it nothing.
    pub(crate) fn with_kernel<T>(
        &self,
        post: impl FnOnce() -> Result<T, CUresult>,
    ) -> Result<T, CUresult> {
        if !self.is_any() {
            return post();
        }
        let seen = self.free_to_write.load(SeqCst);
        let posted = post()?;
        self.sent.fetch_max(seen, SeqCst);
        Ok(posted)
    }

    /// Posts what the program has changed; says whether there was anything.
    fn push(&self, session: &Session, which: Which) -> Result<bool, CUresult> {
        let may_be_written = which == Which::All && self.may_be_written();
        let is_attached = which == Which::All && self.is_attached.load(SeqCst);
        let with_managed = may_be_written || is_attached;
        let mut changes = Vec::new();
        let mut is_changed = false;
        let mut ranges = self.ranges();
        forget_gone(&mut ranges);
        for shared in ranges.values_mut() {
            let (is_wanted, context) = match shared.kind {
                Kind::Pinned { .. } => (which == Which::All || shared.is_small(), 0),
                Kind::Managed { context, .. } => (with_managed, context),
            };
            let mut from = is_wanted.then_some(0);
            while let Some(first) = from {
                // SAFETY: pinned or managed memory, in the table as long as the program has it.
                from = unsafe { shared.mirror.collect(first, MAX_CHANGES, &mut changes) };
                if changes.is_empty() {
                    continue;
                }
                is_changed = true;
                session.post_in(context, |_| GpurunHostPush::new(), changes.as_bytes())?;
                changes.clear();
            }
        }
        Ok(is_changed)
    }

    fn pull(&self, session: &Session, which: Which) -> Result<bool, CUresult> {
        let pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        self.pull_holding(&pulling, session, which)
    }

    /// Takes in what the device has changed; says whether there was anything.
    fn pull_holding(
        &self,
        _pulling: &MutexGuard<'_, ()>,
        session: &Session,
        which: Which,
    ) -> Result<bool, CUresult> {
        let largest = match which {
            Which::All => 0,
            // The worker counts whole pages.
            Which::Small => (SMALL_BYTES + PAGE) as u64,
        };
        let context = match which {
            Which::All => self.context_to_ask_in(),
            Which::Small => 0,
        };
        let mut is_changed = false;
        loop {
            let answer =
                session.ask_reply(context, &GpurunHostPull::new(largest), &[], || Ok(()))?;
            let (head, changes) = reply::GpurunHostPull::read_from_prefix(&answer.body)
                .map_err(|_| malformed::<GpurunHostPull>())?;
            let changes =
                <[Change]>::ref_from_bytes(changes).map_err(|_| malformed::<GpurunHostPull>())?;
            is_changed |= !changes.is_empty();
            self.take_in(changes);
            if head.more() == 0 {
                return Ok(is_changed);
            }
        }
    }

    fn take_in(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let mut ranges = self.ranges();
        forget_gone(&mut ranges);
        for change in changes {
            let address = usize::try_from(change.address.get()).unwrap_or(0);
            let range = ranges.range_mut(..=address).next_back();
            // What is in no range any more has nobody who would see it.
            if let Some((_, shared)) = range {
                // SAFETY: pinned or managed memory, in the table as long as the program has it.
                unsafe { shared.mirror.apply(change) };
            }
        }
    }

    /// Managed memory is copied from a device, which needs a context: the thread's, or one that has such memory.
    fn context_to_ask_in(&self) -> u32 {
        match thread::current() {
            0 => {
                let ranges = self.ranges();
                let mut contexts = ranges.values().filter_map(|shared| match shared.kind {
                    Kind::Managed { context, .. } => Some(context),
                    Kind::Pinned { .. } => None,
                });
                contexts.next().unwrap_or(0)
            }
            context => context,
        }
    }

    /// Starts the thread that keeps small ranges alike, if there are such and it is not there.
    fn need_thread(&self) {
        let has_small = self.ranges().values().any(Shared::is_small);
        let Ok(session) = session::get() else {
            return;
        };
        if !has_small || self.has_thread.swap(true, SeqCst) {
            return;
        }
        let body = move || session.objects.memory.mapped.keep_alike(session);
        let lost = || log::error!("internal error in the thread of mapped memory");
        if let Err(error) = process::spawn("mapped", body, lost) {
            log::error!("cannot start a thread: {error}: flags in mapped memory are not polled");
        }
    }

    /// Compares small ranges again and again while work may be running, and once more when it is done, until the connection ends.
    fn keep_alike(&self, session: &Session) {
        let mut last_news = Instant::now();
        let (mut seen, mut owes_last) = (0, false);
        while !session.link.is_lost() {
            let now = self.work.load(SeqCst);
            if now != seen {
                (seen, last_news) = (now, Instant::now());
            }
            let has_small = self.is_any() && self.ranges().values().any(Shared::is_small);
            let alike = match has_small && self.is_working(session) {
                true => {
                    owes_last = true;
                    self.make_alike(session)
                }
                false if has_small && std::mem::take(&mut owes_last) => {
                    self.pull(session, Which::Small)
                }
                false => {
                    sleep_while(&self.work, now, LOOK_AROUND);
                    continue;
                }
            };
            match alike {
                Ok(true) => last_news = Instant::now(),
                Ok(false) => {}
                // Every call of the program tells why.
                Err(_) => return self.has_thread.store(false, SeqCst),
            }
            let is_soon = last_news.elapsed() < SOON;
            std::thread::sleep(if is_soon { OFTEN } else { SELDOM });
        }
    }

    /// Whether something is under way; what is, is marked, so that its end is told.
    fn is_working(&self, session: &Session) -> bool {
        let marked = stream::mark_all(session).and_then(|()| Ok(session.link.flush()?));
        marked.is_ok() && stream::is_any_busy(session)
    }

    fn make_alike(&self, session: &Session) -> Result<bool, CUresult> {
        let is_pushed = self.push(session, Which::Small)?;
        Ok(is_pushed | self.pull(session, Which::Small)?)
    }
}

/// Takes out what the program has unmapped without giving it back.
fn forget_gone(ranges: &mut BTreeMap<usize, Shared>) {
    ranges.retain(|start, shared| {
        let is_there = shared.is_there();
        if !is_there {
            log::warning!("registered memory at {start:#x} was unmapped and not unregistered: the device's view of it is kept alike no more");
        }
        is_there
    });
}

impl super::Memory {
    /// Checks that the device reaches a range: memory of the device, or pinned memory, which is mapped now.
    pub(crate) fn reach(
        &self,
        session: &Session,
        address: u64,
        length: u64,
    ) -> Result<(), CUresult> {
        if self.find(address).is_some() {
            return self.check(address, length).map(drop);
        }
        if self.mapped.holds(address, length) {
            return Ok(());
        }
        let range = (usize::try_from(address).ok()).zip(usize::try_from(length).ok());
        let pinned = range.and_then(|(start, length)| self.host.find(start, length));
        self.mapped
            .map(session, &pinned.ok_or(CUresult::INVALID_VALUE)?)
    }

    /// Maps the pinned memory that a kernel's parameters name.
    ///
    /// Cost: nothing without pinned memory; else a look-up for each word that is an address of it.
    pub(crate) fn map_named(&self, session: &Session, parameters: &[u8]) {
        let bounds = self.host.bounds();
        if bounds.is_empty() {
            return;
        }
        for word in parameters.chunks_exact(size_of::<usize>()) {
            let address = usize::from_le_bytes(word.try_into().unwrap_or_default());
            if bounds.contains(&address)
                && let Some(pinned) = self.host.find(address, 1)
            {
                // Where it cannot be mapped the log says so, and the kernel's access is the device's to judge.
                let _ = self.mapped.map(session, &pinned);
            }
        }
    }
}
