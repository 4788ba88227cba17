//! Transfers from the client: Bulk frames that belong to a call.
//!
//! *What:* a call that names a transfer opens it when it is read, in wire order, whenever it is executed; the Bulk frames that follow are
//! read where they belong. An image is collected; a copy goes through staging buffers, issued by the reader as
//! they arrive, or by the lane of the call if that runs off the ordered path. *Rules:* frames of a transfer come in order and
//! fill it exactly; anything else breaks the protocol.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use driver_api::result::CUresult;
use protocol::limits::{BULK_CHUNK_BYTES, MAX_TRANSFER_BYTES};

use super::context::Context;
use super::end::lock;
use super::memory;
use super::session::Session;
use super::staging::StagingBuffer;
use super::stream::Stream;

/// Most bytes of a module's image.
pub(crate) const MAX_MODULE_BYTES: u64 = 1 << 30;

/// Most transfers that are open at one time.
pub(crate) const MAX_OPEN_TRANSFERS: usize = 1024;

/// What a transfer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A module's image, collected.
    Image,
    /// A copy to the device.
    Copy,
}

/// One transfer from the client.
pub(crate) struct Inbound {
    pub(crate) length: u64,
    pub(crate) purpose: Purpose,
    /// Of the call that opened it; none for a library, and for an unknown one.
    pub(crate) context: Option<Arc<Context>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    received: u64,
    image: Vec<u8>,
    /// Parts of a copy that nobody has issued yet.
    waiting: VecDeque<Part>,
    target: Option<Target>,
    /// The call has failed: what still comes is thrown away.
    is_refused: bool,
}

/// A part of a copy.
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: usize,
    pub(crate) buffer: StagingBuffer,
}

/// Where the parts of a copy go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) stream: Arc<Stream>,
    pub(crate) destination: u64,
}

/// The open transfers.
#[derive(Default)]
pub(crate) struct Transfers {
    open: Mutex<HashMap<u64, Arc<Inbound>>>,
}

impl Transfers {
    /// Opens a transfer of a call.
    ///
    /// # Errors
    /// What rule the client broke.
    pub(crate) fn open(
        &self,
        id: u64,
        length: u64,
        purpose: Purpose,
        context: Option<Arc<Context>>,
    ) -> Result<Arc<Inbound>, &'static str> {
        let most = match purpose {
            Purpose::Image => MAX_MODULE_BYTES,
            Purpose::Copy => MAX_TRANSFER_BYTES,
        };
        if length == 0 || length > most {
            return Err("a transfer of a length that none may have");
        }
        let mut open = lock(&self.open);
        if open.len() >= MAX_OPEN_TRANSFERS {
            return Err("more open transfers than allowed");
        }
        let inbound = Arc::new(Inbound {
            length,
            purpose,
            context,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        if open.insert(id, Arc::clone(&inbound)).is_some() {
            return Err("a transfer that is open already");
        }
        Ok(inbound)
    }

    /// The transfer that a Bulk frame belongs to, and whether the frame completes it.
    ///
    /// # Errors
    /// What rule the client broke.
    pub(crate) fn accept(
        &self,
        id: u64,
        offset: u64,
        length: u32,
    ) -> Result<(Arc<Inbound>, bool), &'static str> {
        let mut open = lock(&self.open);
        let inbound = open
            .get(&id)
            .cloned()
            .ok_or("bytes of a transfer that is not open")?;
        let is_complete = inbound.count(offset, length)?;
        if is_complete {
            open.remove(&id);
        }
        Ok((inbound, is_complete))
    }
}

impl Inbound {
    fn count(&self, offset: u64, length: u32) -> Result<bool, &'static str> {
        let mut state = lock(&self.state);
        let end = offset.checked_add(u64::from(length));
        match end {
            _ if offset != state.received => Err("bytes of a transfer out of order"),
            _ if length == 0 || length as usize > BULK_CHUNK_BYTES => {
                Err("a part of a transfer of a length that none may have")
            }
            Some(end) if end <= self.length => {
                state.received = end;
                Ok(end == self.length)
            }
            _ => Err("bytes beyond the end of a transfer"),
        }
    }

    /// Whether what comes is thrown away.
    pub(crate) fn is_refused(&self) -> bool {
        lock(&self.state).is_refused
    }

    /// The call has failed: what waits, and what still comes, is thrown away.
    pub(crate) fn refuse(&self) {
        let mut state = lock(&self.state);
        state.is_refused = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    /// Lets `read` append a part to the image.
    pub(crate) fn append<E>(
        &self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut image = std::mem::take(&mut lock(&self.state).image);
        let start = image.len();
        if image.capacity() < start + length {
            // At least doubled, and never beyond what was announced, which the client sends first.
            let whole = usize::try_from(self.length).unwrap_or(usize::MAX);
            let wanted = (start + length).max(start * 2).min(whole + 1);
            image.reserve_exact(wanted.saturating_sub(start));
        }
        image.resize(start + length, 0);
        let result = read(&mut image[start..]);
        let mut state = lock(&self.state);
        state.image = image;
        if state.image.len() as u64 == self.length {
            self.changed.notify_all();
        }
        result
    }

    /// Waits for the whole image.
    pub(crate) fn whole_image(&self, session: &Session) -> Result<Vec<u8>, CUresult> {
        let mut state = lock(&self.state);
        while (state.image.len() as u64) < self.length {
            if session.end.is_over() {
                return Err(CUresult::DEINITIALIZED);
            }
            state = self.wait(state);
        }
        Ok(std::mem::take(&mut state.image))
    }

    fn wait<'a>(
        &self,
        state: std::sync::MutexGuard<'a, State>,
    ) -> std::sync::MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, Duration::from_millis(500));
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// From now on the reader issues the parts as they arrive; what waits is issued at once.
    pub(crate) fn push_to(&self, session: &Session, target: Target) -> Result<(), CUresult> {
        let mut state = lock(&self.state);
        while let Some(part) = state.waiting.pop_front() {
            self.issue(session, &target, part)?;
        }
        state.target = Some(target);
        Ok(())
    }

    /// A part has arrived: it is issued, or waits for who will.
    pub(crate) fn arrived(&self, session: &Session, part: Part) -> Result<(), CUresult> {
        let mut state = lock(&self.state);
        if state.is_refused {
            return Ok(());
        }
        match state.target.clone() {
            Some(target) => self.issue(session, &target, part),
            None => {
                state.waiting.push_back(part);
                self.changed.notify_all();
                Ok(())
            }
        }
    }

    /// The lane of the call issues the parts until the last.
    pub(crate) fn pull(&self, session: &Session, target: &Target) -> Result<(), CUresult> {
        let mut issued = 0;
        while issued < self.length {
            let part = {
                let mut state = lock(&self.state);
                loop {
                    if session.end.is_over() || state.is_refused {
                        return Err(CUresult::DEINITIALIZED);
                    }
                    match state.waiting.pop_front() {
                        Some(part) => break part,
                        None => state = self.wait(state),
                    }
                }
            };
            issued += part.length as u64;
            self.issue(session, target, part)?;
        }
        Ok(())
    }

    fn issue(&self, session: &Session, target: &Target, part: Part) -> Result<(), CUresult> {
        let context = self.context.as_ref().ok_or(CUresult::INVALID_CONTEXT)?;
        memory::issue_part(session, context, target, part)
    }
}
