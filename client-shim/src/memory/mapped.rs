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
//! call. How pinned memory comes to be mapped, and how that ends, is in [`mapping`].
//!
//! *Rules:* changes are compared and posted under one lock, so that the wire has them in the order of the comparisons; answers to pulls are taken in one
//! after the other ([`Mapped::pulling`]). Managed memory may not be touched by the program while the device works (`CONCURRENT_MANAGED_ACCESS` is 0),
//! so it is compared after a wait has ended, until a kernel has been put. Where the address is taken in the worker, memory is not mapped, and the call that needs it is refused.
//!
//! # Safety
//! The ranges are pinned or managed: the program keeps them readable and writable until it gives them back, which takes them out first;
//! what of it is only registered is looked for before each comparison, and never looked at again once it was not there.
#![expect(unsafe_code, reason = "compares and writes the program's memory")]

mod mapping;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_api::abi::CUresult;
use driver_api::mirror::{CHANGE_BYTES, Change, Mirror, PageMap, whole_words};
use driver_api::wire::reply;
use driver_api::wire::request::{GpurunHostPull, GpurunHostPush, GpurunHostUnmap};
use protocol::limits::{MAX_INLINE_COPY_BYTES, MAX_MANAGED_BYTES, MAX_SHARED_RANGES};
use rustix::mm::{MsyncFlags, msync};
use zerocopy::{FromBytes, IntoBytes};

use super::host::Pinned;
use crate::link::{sleep_while, wake_all};
use crate::log;
use crate::module::Owner;
use crate::process;
use crate::session::{self, Session, malformed};
use crate::stream;

/// What is kept alike while work runs.
const SMALL_BYTES: usize = 64 * 1024;
/// From here on a look at the kernel's tables costs less than comparing everything.
const LARGE_BYTES: usize = 1 << 20;
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
    /// Pinned memory: both sides may write it at any time.
    Pinned {
        /// Where the program's range begins, for which it was mapped.
        start: usize,
        /// Where the worker's pages begin.
        pages: usize,
        /// In which context the worker has mapped it.
        context: u32,
        /// It is the program's own, which it may unmap without a word.
        is_registered: bool,
    },
    /// Managed memory of this context; variables go with their module or library.
    Managed { context: u32, owner: Option<Owner> },
}

#[derive(Debug)]
struct Shared {
    mirror: Mirror,
    kind: Kind,
    /// The program has unmapped it without giving it back: nobody looks at it any more, but the worker has it until it is unregistered.
    is_gone: bool,
    /// The variables in it, which may begin and end within words. Empty for what is all the program's.
    parts: Vec<Range<usize>>,
    /// The worker is asked to unmap it: nobody sends it anything or finds it any more, but what it has said before is taken in.
    is_leaving: bool,
}

impl Shared {
    fn is_small(&self) -> bool {
        let is_pinned = matches!(self.kind, Kind::Pinned { .. });
        is_pinned && self.is_in_use() && self.mirror.bytes() <= SMALL_BYTES
    }

    /// Whether much of it may never have been touched: it is pages of ours, private to this process.
    fn may_be_idle(&self) -> bool {
        let is_ours = matches!(
            self.kind,
            Kind::Pinned {
                is_registered: false,
                ..
            }
        );
        is_ours && self.is_in_use() && self.mirror.bytes() >= LARGE_BYTES
    }

    /// Finds changes from a word on; where to go on, or none at the end.
    fn collect(
        &mut self,
        from: usize,
        changes: &mut Vec<Change>,
        pages: &PageMap,
    ) -> Option<usize> {
        // SAFETY: pinned or managed memory, in the table as long as the program has it.
        unsafe {
            if !self.may_be_idle() {
                return self.mirror.collect(from, MAX_CHANGES, changes);
            }
            let words = self.mirror.bytes() / size_of::<u64>();
            let next = self
                .mirror
                .collect_touched(from..words, MAX_CHANGES, changes, pages);
            (next < words).then_some(next)
        }
    }

    /// Whether the program and the device both have it.
    fn is_in_use(&self) -> bool {
        !self.is_gone && !self.is_leaving
    }

    /// Notes whether the program still has it. A program that frees registered memory at this very moment, in another thread, is not helped.
    fn look_for(&mut self) {
        let Kind::Pinned {
            is_registered: true,
            ..
        } = self.kind
        else {
            return;
        };
        if self.is_gone {
            return;
        }
        let start = self.mirror.start();
        let first_page = start - start % PAGE;
        let end = (start + self.mirror.bytes()).next_multiple_of(PAGE);
        let pages = std::ptr::without_provenance_mut(first_page);
        // SAFETY: it writes nothing back at once, and tells where nothing is mapped.
        self.is_gone = unsafe { msync(pages, end - first_page, MsyncFlags::ASYNC) }.is_err();
        if self.is_gone {
            log::warning!(
                "registered memory at {start:#x} was unmapped and not unregistered: the device's view of it is kept alike no more"
            );
        }
    }

    /// Whether these bytes are in it.
    fn has(&self, start: usize, length: usize) -> bool {
        let is_in = |part: &Range<usize>| part.contains(&start) && length <= part.end - start;
        match self.parts.is_empty() {
            true => is_in(&self.words()),
            false => self.parts.iter().any(is_in),
        }
    }

    /// What is compared.
    fn words(&self) -> Range<usize> {
        let start = self.mirror.start();
        start..start + self.mirror.bytes()
    }

    /// Whether it was mapped for the pinned range that begins there.
    fn is_for(&self, pinned: usize) -> bool {
        matches!(self.kind, Kind::Pinned { start, .. } if start == pinned)
    }

    /// Is for these neighbours from now on, and no larger than they need.
    fn hand_over(&mut self, neighbours: &[Pinned]) -> bool {
        let (Some(first), Some(last)) = (neighbours.first(), neighbours.last()) else {
            return false;
        };
        let is_narrow = self
            .mirror
            .narrow(whole_changes(first.start, last.start + last.size));
        if is_narrow && let Kind::Pinned { start, .. } = &mut self.kind {
            *start = first.start;
        }
        is_narrow
    }
}

/// These addresses in whole changes, as the worker finds them: what else is in the first and in the last is the program's too, on the same page.
fn whole_changes(start: usize, end: usize) -> Range<usize> {
    start - start % CHANGE_BYTES..end.next_multiple_of(CHANGE_BYTES)
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
    /// Held while something is mapped or unmapped, before all other locks.
    mapping: Mutex<()>,
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
        let is_inside =
            |(_, shared): (&usize, &Shared)| shared.is_in_use() && shared.has(start, length);
        self.is_any()
            && self
                .ranges()
                .range(..=start)
                .next_back()
                .is_some_and(is_inside)
    }

    fn insert(&self, mirror: Mirror, kind: Kind) {
        self.insert_in(&mut self.ranges(), mirror, kind, Vec::new());
    }

    fn insert_in(
        &self,
        ranges: &mut BTreeMap<usize, Shared>,
        mirror: Mirror,
        kind: Kind,
        parts: Vec<Range<usize>>,
    ) {
        let shared = Shared {
            mirror,
            kind,
            is_gone: false,
            parts,
            is_leaving: false,
        };
        ranges.insert(shared.mirror.start(), shared);
        self.free_to_write.fetch_add(1, SeqCst);
        self.is_stale.store(true, SeqCst);
        self.any.store(true, SeqCst);
    }

    /// Takes a range out; an answer to a pull that is on its way is waited for.
    fn take_if(&self, start: usize, is_it: impl Fn(&Shared) -> bool) -> Option<Shared> {
        let _pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranges = self.ranges();
        let gone = match ranges.get(&start).is_some_and(is_it) {
            true => ranges.remove(&start),
            false => None,
        };
        self.any.store(!ranges.is_empty(), SeqCst);
        gone
    }

    /// Whether the worker would manage so many bytes more.
    pub(super) fn check_room(&self, size: u64) -> Result<(), CUresult> {
        let ranges = self.ranges();
        let managed = ranges
            .values()
            .filter(|shared| matches!(shared.kind, Kind::Managed { .. }));
        let bytes: u64 = managed.map(|shared| shared.mirror.bytes() as u64).sum();
        let has_room = bytes
            .checked_add(size)
            .is_some_and(|all| all <= MAX_MANAGED_BYTES);
        match has_room && ranges.len() < MAX_SHARED_RANGES {
            true => Ok(()),
            false => Err(CUresult::OUT_OF_MEMORY),
        }
    }

    /// Managed memory of a context, which the worker manages too: readable and writable here until [`Mapped::forget_managed`]. The mirror is made before the
    /// worker is asked, so that nothing can fail afterwards.
    pub(super) fn add_managed(&self, mirror: Mirror, context: u32) {
        let owner = None;
        self.insert(mirror, Kind::Managed { context, owner });
    }

    /// A managed variable of a context, zeros here, which the worker manages too once it is asked. Variables of one module that meet in a word share a mirror, as
    /// they do in the worker.
    ///
    /// # Errors
    /// Those of `ask`; and where it meets other memory in a word.
    pub(super) fn add_variable(
        &self,
        variable: &Range<usize>,
        context: u32,
        owner: Owner,
        ask: impl FnOnce() -> Result<(), CUresult>,
    ) -> Result<(), CUresult> {
        let owner = Some(owner);
        let kind = Kind::Managed { context, owner };
        // Held so that no answer to a pull brings what is in it before it is in the table.
        let _pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut joined = joined_with(&self.ranges(), variable, kind)?;
        ask()?;
        // Nobody has put anything there meanwhile or taken it out, but what is known may be another.
        let mut ranges = self.ranges();
        let mut parts = vec![variable.clone()];
        for (_, met) in
            ranges.extract_if(joined.start()..joined.start() + joined.bytes(), |_, _| true)
        {
            joined.take_over(&met.mirror);
            parts.extend(met.parts);
        }
        joined.forget(variable.clone());
        self.insert_in(&mut ranges, joined, kind, parts);
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
        let is_managed = |shared: &Shared| matches!(shared.kind, Kind::Managed { .. });
        match self.take_if(start, is_managed) {
            Some(_) => {
                let request = GpurunHostUnmap::new(start as u64);
                session.ask_in(context, &request, &[]).map(drop)
            }
            None => Ok(()),
        }
    }

    /// A context has ended, and what was mapped and managed in it; this is what was allocated of managed memory.
    pub(super) fn forget_context(&self, gone: u32) -> Vec<Range<u64>> {
        let _mapping = self.mapping();
        self.forget_if(|kind| match kind {
            Kind::Pinned { context, .. } | Kind::Managed { context, .. } => context == gone,
        })
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
        look_for_all(&mut ranges);
        // Opened each time: a child of a fork would inherit it, and be told of its parent's pages.
        let pages = match which == Which::All && ranges.values().any(Shared::may_be_idle) {
            true => PageMap::open(),
            false => PageMap::unknown(),
        };
        for shared in ranges.values_mut().filter(|shared| shared.is_in_use()) {
            let (is_wanted, context) = match shared.kind {
                Kind::Pinned { .. } => (which == Which::All || shared.is_small(), 0),
                Kind::Managed { context, .. } => (with_managed, context),
            };
            let mut from = is_wanted.then_some(0);
            while let Some(first) = from {
                from = shared.collect(first, &mut changes, &pages);
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
        let mut is_changed = false;
        loop {
            // In no context: the worker reads each range in its own, whichever is the thread's.
            let answer = session.ask_reply(0, &GpurunHostPull::new(largest), &[], || Ok(()))?;
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
        look_for_all(&mut ranges);
        for change in changes {
            let address = usize::try_from(change.address.get()).unwrap_or(0);
            let range = ranges.range_mut(..=address).next_back();
            // What is in no range any more has nobody who would see it.
            if let Some((_, shared)) = range.filter(|(_, shared)| !shared.is_gone) {
                // SAFETY: pinned or managed memory, in the table as long as the program has it.
                unsafe { shared.mirror.apply(change) };
            }
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

/// A mirror of the words of a variable and of those that it meets there, which are of its kind.
fn joined_with(
    ranges: &BTreeMap<usize, Shared>,
    variable: &Range<usize>,
    kind: Kind,
) -> Result<Mirror, CUresult> {
    let own = whole_words(variable).ok_or(CUresult::INVALID_VALUE)?;
    let mut words = own.clone();
    for (_, met) in ranges.range(..own.end).rev() {
        let others = met.words();
        if others.end <= own.start {
            break;
        }
        if met.kind != kind {
            return Err(CUresult::NOT_SUPPORTED);
        }
        words = words.start.min(others.start)..words.end.max(others.end);
    }
    Mirror::new(words.start, words.len())
}

/// Notes what the program has unmapped without giving it back.
fn look_for_all(ranges: &mut BTreeMap<usize, Shared>) {
    ranges.values_mut().for_each(Shared::look_for);
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::*;

    /// Mirrors are never compared here, but where it is said.
    fn with(ranges: &[(Range<usize>, Kind)]) -> Mapped {
        let mapped = Mapped::default();
        for (range, kind) in ranges {
            let mirror = Mirror::new(range.start, range.len()).expect("whole words");
            mapped.insert(mirror, *kind);
        }
        mapped
    }

    fn pinned_at(start: usize) -> Kind {
        Kind::Pinned {
            start,
            pages: start - start % PAGE,
            context: 1,
            is_registered: true,
        }
    }

    #[test]
    fn only_what_was_mapped_for_a_range_goes_with_it() {
        let context = 1;
        let owner = None;
        let managed = Kind::Managed { context, owner };
        let mapped = with(&[
            (PAGE..2 * PAGE, managed),
            (3 * PAGE..3 * PAGE + 64, pinned_at(3 * PAGE + 8)),
        ]);
        let take = |pinned| {
            mapped.take_if(whole_changes(pinned, pinned).start, |shared| {
                shared.is_for(pinned)
            })
        };
        assert!(take(PAGE).is_none(), "managed memory that was registered");
        assert!(take(3 * PAGE).is_none(), "its neighbour");
        assert!(mapped.holds(3 * PAGE as u64, 64) && mapped.holds(PAGE as u64, 1));
        assert!(take(3 * PAGE + 8).is_some() && take(3 * PAGE + 8).is_none());
        assert!(!mapped.holds(3 * PAGE as u64, 1));
    }

    #[test]
    fn neighbours_keep_what_they_need() {
        let mapped = with(&[(PAGE..PAGE + 256, pinned_at(PAGE))]);
        let gone = Pinned::of_the_program(PAGE, 20);
        let neighbours = [PAGE + 130, PAGE + 180].map(|start| Pinned::of_the_program(start, 20));
        assert_eq!(mapped.let_go(&gone, |_| neighbours.to_vec()), None);
        assert!(mapped.holds(PAGE as u64 + 128, 128) && !mapped.holds(PAGE as u64, 1));
        assert_eq!(mapped.let_go(&gone, |_| panic!("it is not its own")), None);
        let [first, last] = neighbours;
        assert_eq!(mapped.let_go(&first, |_| vec![last]), None);
        let pages = mapped.let_go(&last, |_| Vec::new());
        assert_eq!(pages, Some(PAGE), "the worker's are as they were");
    }

    #[test]
    fn variables_that_share_a_word_share_a_mirror() {
        let mut memory = vec![0_u64; 3];
        let start = memory.as_mut_ptr().expose_provenance();
        let mapped = Mapped::default();
        let owner = Owner::Module(7);
        let add = |offset: usize, size: usize, owner, ask| {
            let variable = start + offset..start + offset + size;
            mapped.add_variable(&variable, 1, owner, || ask)
        };
        let refused = Err(CUresult::OUT_OF_MEMORY);
        assert_eq!(add(12, 4, owner, refused), refused);
        assert!(!mapped.is_any());
        add(12, 4, owner, Ok(())).expect("a half");
        let has = |offset: u64, size| mapped.holds(start as u64 + offset, size);
        assert!(has(12, 4) && !has(8, 4) && !has(12, 8));
        let of_another = add(8, 4, Owner::Module(8), Ok(()));
        assert_eq!(of_another, Err(CUresult::NOT_SUPPORTED));
        add(8, 4, owner, Ok(())).expect("the other half");
        add(0, 3, owner, Ok(())).expect("in the word before");
        assert!(has(8, 4) && has(12, 4) && has(0, 3) && !has(0, 4));
        assert_eq!(mapped.ranges().len(), 2);
        let change = |address: usize, mask: u64| Change {
            address: (address as u64).into(),
            mask: mask.into(),
            bytes: [5; CHANGE_BYTES],
        };
        mapped.take_in(&[change(start, 7), change(start + 8, 0xFF)]);
        let word = |index: usize| {
            let word = std::ptr::with_exposed_provenance::<u64>(start + index * 8);
            // SAFETY: a word of the memory above.
            unsafe { word.read_volatile() }
        };
        assert_eq!(
            [word(0), word(1), word(2)],
            [0x05_0505, 0x0505_0505_0505_0505, 0]
        );
        mapped.forget_owner(owner);
        assert!(!mapped.is_any());
    }

    #[test]
    fn what_is_leaving_is_not_found_and_stays_where_the_worker_has_it() {
        let mapped = with(&[(PAGE..PAGE + 64, pinned_at(PAGE))]);
        let gone = Pinned::of_the_program(PAGE, 20);
        assert_eq!(mapped.let_go(&gone, |_| Vec::new()), Some(PAGE));
        assert!(!mapped.holds(PAGE as u64, 1) && mapped.is_any());
        mapped.has_left(&gone, false);
        assert!(mapped.holds(PAGE as u64, 1));
        assert_eq!(mapped.let_go(&gone, |_| Vec::new()), Some(PAGE));
        // Another thread has pinned and mapped the same addresses before this one knows that they were free.
        let mirror = Mirror::new(PAGE, 64).expect("whole words");
        mapped.insert(mirror, pinned_at(PAGE));
        mapped.has_left(&gone, true);
        assert!(mapped.holds(PAGE as u64, 1));
        assert_eq!(mapped.let_go(&gone, |_| Vec::new()), Some(PAGE));
        mapped.has_left(&gone, true);
        assert!(!mapped.is_any());
    }

    #[test]
    fn what_the_program_has_unmapped_is_not_looked_at_and_stays_known() {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at a place of the kernel's choice.
        let memory =
            unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) };
        let memory = memory.expect("memory");
        let start = memory.expose_provenance();
        let mapped = with(&[(start..start + PAGE, pinned_at(start))]);
        look_for_all(&mut mapped.ranges());
        assert!(mapped.holds(start as u64, 64));
        // SAFETY: mapped above.
        unsafe { munmap(memory, PAGE) }.expect("unmapped");
        look_for_all(&mut mapped.ranges());
        assert!(!mapped.holds(start as u64, 64));
        let shared = mapped
            .take_if(start, |shared| shared.is_for(start))
            .expect("still known");
        assert!(shared.is_gone && !shared.is_small());
    }

    #[test]
    fn what_a_context_had_goes_with_it() {
        let of = |context, owner| Kind::Managed { context, owner };
        let other = Kind::Pinned {
            start: 4 * PAGE,
            pages: 4 * PAGE,
            context: 2,
            is_registered: false,
        };
        let mapped = with(&[
            (PAGE..2 * PAGE, of(1, None)),
            (2 * PAGE..3 * PAGE, of(1, Some(Owner::Module(7)))),
            (3 * PAGE..4 * PAGE, pinned_at(3 * PAGE)),
            (4 * PAGE..5 * PAGE, other),
        ]);
        let allocated = PAGE as u64..2 * PAGE as u64;
        assert_eq!(mapped.forget_context(1), std::slice::from_ref(&allocated));
        let left: Vec<usize> = mapped.ranges().keys().copied().collect();
        assert_eq!(left, [4 * PAGE]);
    }
}
