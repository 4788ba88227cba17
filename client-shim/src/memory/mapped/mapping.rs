//! Which pinned memory the device reaches: how it comes to be mapped in the worker, and how that ends.
//!
//! *Whose it is:* pinned memory is mapped in the context that it was pinned in, as that of the driver's goes with it; when a context ends, what was mapped in it
//! is mapped no more, and anew where it is used next. Ranges of the program's own may end and begin within the same 64 bytes: such neighbours share what is mapped, which
//! goes with the last of them.
//!
//! *Rules:* what is given back is first taken out of what is pinned, and who maps looks there while holding [`Mapped::mapping`]: so nothing is mapped twice, nor while
//! it is given back. Nothing is held where work is waited for.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use driver_api::abi::CUresult;
use driver_api::mirror::Mirror;
use driver_api::wire::request::{GpurunHostMap, GpurunHostUnmap};

use super::{Kind, Mapped, PAGE, Shared, Which, whole_changes};
use crate::context::Context;
use crate::log;
use crate::memory::Memory;
use crate::memory::host::{self, Pinned};
use crate::session::{self, Session};
use crate::stream;

impl Mapped {
    pub(super) fn mapping(&self) -> MutexGuard<'_, ()> {
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pinned memory reachable for the device, if it is not yet.
    pub(crate) fn map(&self, session: &Session, pinned: &Pinned) -> Result<(), CUresult> {
        let (start, size) = (pinned.start as u64, pinned.size as u64);
        if self.holds(start, size) {
            return Ok(());
        }
        let host = &session.objects.memory.host;
        host::wait_for_landings(session, &host.landing_in(pinned.start, pinned.size))?;
        let _mapping = self.mapping();
        // Another thread may have mapped it meanwhile, or be giving it back.
        if self.holds(start, size) {
            return Ok(());
        }
        if !host.holds(pinned) {
            return Err(CUresult::INVALID_VALUE);
        }
        self.map_holding(session, pinned)?;
        self.need_thread();
        self.push(session, Which::All)?;
        // Unless the program has unmapped it before.
        match self.holds(start, size) {
            true => Ok(()),
            false => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Asks the worker for pages. The caller holds `mapping`.
    fn map_holding(&self, session: &Session, pinned: &Pinned) -> Result<(), CUresult> {
        let whole = whole_changes(pinned.start, pinned.start + pinned.size);
        let pages = whole.start - whole.start % PAGE;
        let bytes = whole.end.next_multiple_of(PAGE) - pages;
        let mirror = Mirror::new(whole.start, whole.len())?;
        let context = context_to_map_in(session, pinned)?;
        let request = GpurunHostMap::new(pages as u64, bytes as u64);
        session
            .ask_in(context, &request, &[])
            .inspect_err(|error| {
                log::warning!(
                    "pinned memory at {pages:#x} cannot be mapped for the device: {error}"
                );
            })?;
        let kind = Kind::Pinned {
            start: pinned.start,
            pages,
            context,
            is_registered: pinned.is_registered(),
        };
        self.insert(mirror, kind);
        Ok(())
    }

    /// Ends it for a range that nobody finds any more, once nothing that runs may use it; the bytes are what the device left.
    pub(in crate::memory) fn unmap(
        &self,
        session: &Session,
        gone: &Pinned,
    ) -> Result<(), CUresult> {
        let Some(context) = self.context_of(gone) else {
            return Ok(());
        };
        // Nothing is held: what is waited for may wait for what another thread maps.
        let (_, current) = session::current()?;
        stream::synchronise_context(session, &current)?;
        wait_in_other(session, context, &current)?;
        let host = &session.objects.memory.host;
        let Some(pages) = self.let_go(gone, |bytes| host.within(bytes)) else {
            return Ok(());
        };
        let request = GpurunHostUnmap::new(pages as u64);
        let result = match session.ask_in(context, &request, &[]) {
            // It went with its context.
            Err(_) if !is_active(session, context) => Ok(()),
            result => result.map(drop),
        };
        self.has_left(gone, result.is_ok());
        result
    }

    /// The context in which the worker has mapped the memory of a pinned range, if it has. Who is mapping it at this moment is waited for.
    fn context_of(&self, pinned: &Pinned) -> Option<u32> {
        let _mapping = self.mapping();
        if !self.is_any() {
            return None;
        }
        let ranges = self.ranges();
        let (_, shared) = ranges.range(..=pinned.start).next_back()?;
        match shared.kind {
            Kind::Pinned { context, .. } if shared.has(pinned.start, 1) => Some(context),
            _ => None,
        }
    }

    /// What is mapped for a pinned range is its neighbours' from now on, which `within` finds; else it is leaving, and this is where the worker's pages begin. It is
    /// in the table all the while, so that nothing that the device has written to its neighbours is lost.
    pub(super) fn let_go(
        &self,
        gone: &Pinned,
        within: impl FnOnce(Range<usize>) -> Vec<Pinned>,
    ) -> Option<usize> {
        let _mapping = self.mapping();
        let _pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranges = self.ranges();
        let start = whole_changes(gone.start, gone.start).start;
        let shared = ranges.get_mut(&start)?;
        let Kind::Pinned { pages, .. } = shared.kind else {
            return None;
        };
        if !shared.is_for(gone.start) {
            return None;
        }
        let end = start + shared.mirror.bytes();
        let is_kept = !shared.is_gone && shared.hand_over(&within(start..end));
        if !is_kept {
            shared.is_leaving = true;
            return Some(pages);
        }
        if let Some(shared) = ranges.remove(&start) {
            ranges.insert(shared.mirror.start(), shared);
        }
        None
    }

    /// The worker has unmapped what was leaving, or has it still.
    pub(super) fn has_left(&self, gone: &Pinned, is_unmapped: bool) {
        let start = whole_changes(gone.start, gone.start).start;
        let is_it = |shared: &Shared| shared.is_leaving && shared.is_for(gone.start);
        if is_unmapped {
            // What has been mapped there meanwhile is another one.
            self.take_if(start, is_it);
            return;
        }
        let mut ranges = self.ranges();
        if let Some(shared) = ranges.get_mut(&start).filter(|shared| is_it(shared)) {
            shared.is_leaving = false;
        }
    }

    /// A context is about to end: what the device has changed in it of the program's memory is fetched while it can be. What was mapped in it goes with it.
    pub(crate) fn before_end_of(&self, session: &Session, context: &Context) {
        let is_its = |shared: &Shared| matches!(shared.kind, Kind::Pinned { context: its, .. } if its == context.id);
        if !self.is_any() || !self.ranges().values().any(is_its) {
            return;
        }
        if let Err(error) = stream::wait_for_context(session, context) {
            log::info!("mapped memory is as it was before its context failed: {error}");
        }
        let _mapping = self.mapping();
        self.forget_if(
            |kind| matches!(kind, Kind::Pinned { context: its, .. } if its == context.id),
        );
    }
}

/// The context that pinned memory belongs to; the thread's where that has ended or failed.
fn context_to_map_in(session: &Session, pinned: &Pinned) -> Result<u32, CUresult> {
    let own = session.objects.contexts.get(pinned.context);
    match own.filter(|own| own.is_active() && own.fault.check().is_ok()) {
        Some(own) => Ok(own.id),
        None => Ok(session::current()?.1.id),
    }
}

fn is_active(session: &Session, context: u32) -> bool {
    let found = session.objects.contexts.get(context);
    found.is_some_and(|context| context.is_active())
}

/// Waits for what a context has under way, if it is another than this one. One that has ended or failed has nothing.
fn wait_in_other(session: &Session, context: u32, current: &Context) -> Result<(), CUresult> {
    let other = session.objects.contexts.get(context);
    match other.filter(|other| other.id != current.id && other.is_active()) {
        Some(other) if other.fault.check().is_ok() => stream::wait_for_context(session, &other),
        _ => Ok(()),
    }
}

impl Memory {
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
