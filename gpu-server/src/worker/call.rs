//! One call being executed: what a handler sees of it.
//!
//! *Rules:* handles come from the session's tables, never from a client; a reply's fixed part and rest are appended to a buffer that the
//! executor reuses; a handler whose answer comes later says so and leaves it to the poller.
//!
//! # Safety
//! `created` undoes with the handle that it was given, which the driver has just made.
#![expect(unsafe_code, reason = "undoes what the driver made")]

use std::sync::Arc;

use driver_api::Driver;
use driver_api::abi::{CUcontext, CUevent, CUfunction, CUkernel, CUlibrary, CUmodule, CUstream};
use driver_api::id::{EventId, FunctionId, LibraryId, ModuleId, StreamId};
use driver_api::result::CUresult;
use driver_api::wire::DecodeError;
use protocol::frame::CallRecord;
use zerocopy::{Immutable, IntoBytes};

use super::context::Context;
use super::event::Event;
use super::module::Function;
use super::session::Session;
use super::stream::Stream;
use super::transfer::Inbound;
use crate::driver::cuda;

/// Why a call was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The driver's answer, or ours in its place.
    #[error("{0}")]
    Driver(#[from] CUresult),
    /// The bytes are not the row's.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A number that no row has.
    #[error("a call of number {0}, which no function has")]
    UnknownNumber(u16),
    /// The client does what the protocol rules out.
    #[error("{0}")]
    Violation(&'static str),
}

/// The context that is current on an executor's thread.
#[derive(Default)]
pub(crate) struct Current {
    context: Option<Arc<Context>>,
}

impl Current {
    /// Makes the client's context current, if another is.
    ///
    /// Cost where it is current already: a comparison.
    pub(crate) fn enter(&mut self, session: &Session, id: u32) -> Result<(), CUresult> {
        if let Some(context) = &self.context
            && context.id == id
            && context.is_alive()
        {
            return Ok(());
        }
        if id == 0 {
            return self.leave(session.driver);
        }
        let context = session.contexts.get(id).ok_or(CUresult::INVALID_CONTEXT)?;
        context.make_current(session.driver)?;
        self.context = Some(context);
        Ok(())
    }

    /// Makes no context current.
    pub(crate) fn leave(&mut self, driver: &Driver) -> Result<(), CUresult> {
        match self.context.take() {
            Some(_) => cuda!(driver, cuCtxSetCurrent(CUcontext(0))),
            None => Ok(()),
        }
    }
}

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) session: &'a Session,
    pub(crate) record: CallRecord,
    /// Its number in wire order.
    pub(crate) number: u64,
    /// Whether it may block: it runs off the ordered path.
    pub(crate) is_on_lane: bool,
    /// The transfer that it names.
    pub(crate) inbound: Option<Arc<Inbound>>,
    pub(crate) current: &'a mut Current,
    pub(crate) body: &'a mut Vec<u8>,
    pub(crate) is_deferred: bool,
}

impl Call<'_> {
    #[inline]
    pub(crate) fn driver(&self) -> &'static Driver {
        self.session.driver
    }

    /// The context that the call names; it is current.
    pub(crate) fn context(&self) -> Result<&Arc<Context>, CUresult> {
        match self.record.context {
            0 => Err(CUresult::INVALID_CONTEXT),
            _ => self
                .current
                .context
                .as_ref()
                .ok_or(CUresult::INVALID_CONTEXT),
        }
    }

    /// The context that was current may be gone.
    pub(crate) fn forget_current(&mut self) {
        // Where it is gone the driver has nothing current either.
        let _ = self.current.leave(self.session.driver);
    }

    /// The driver's handle of a client's id.
    #[inline]
    pub(crate) fn handle<H>(&self, id: impl HandleOf<H>) -> Result<H, CUresult> {
        id.look_up(self)
    }

    /// The client has named what the driver made.
    pub(crate) fn created<H: Created>(&self, id: H::Id, handle: H) -> Result<(), CUresult> {
        handle.store(self, id)
    }

    /// The driver is about to destroy what the client names so.
    pub(crate) fn destroying(&self, id: impl Destroyed) {
        id.let_go(self);
    }

    /// What the client names so is destroyed.
    pub(crate) fn destroyed(&self, id: impl Destroyed) {
        id.forget(self);
    }

    /// The stream that the client names, about to be used; 0 is the context's legacy default stream.
    pub(crate) fn stream(&self, id: u32) -> Result<Arc<Stream>, CUresult> {
        let stream = match id {
            0 => self.context()?.legacy(self.session.driver)?,
            id => self
                .session
                .streams
                .get(id)
                .ok_or(CUresult::INVALID_HANDLE)?,
        };
        stream.touch();
        Ok(stream)
    }

    /// Appends the fixed part of the reply.
    #[inline]
    pub(crate) fn reply<T: IntoBytes + Immutable>(&mut self, reply: &T) {
        self.body.extend_from_slice(reply.as_bytes());
    }

    /// Appends to the rest of the reply.
    pub(crate) fn reply_bytes(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// The reply comes later, from elsewhere.
    pub(crate) fn defer(&mut self) {
        self.is_deferred = true;
    }
}

/// An id that stands for a driver's handle.
pub(crate) trait HandleOf<H> {
    /// The handle.
    fn look_up(self, call: &Call<'_>) -> Result<H, CUresult>;
}

impl HandleOf<CUstream> for StreamId {
    fn look_up(self, call: &Call<'_>) -> Result<CUstream, CUresult> {
        call.stream(self.0).map(|stream| stream.handle)
    }
}

impl HandleOf<CUevent> for EventId {
    fn look_up(self, call: &Call<'_>) -> Result<CUevent, CUresult> {
        let event = call.session.events.get(self.0);
        event
            .map(|event| event.handle)
            .ok_or(CUresult::INVALID_HANDLE)
    }
}

impl HandleOf<CUmodule> for ModuleId {
    fn look_up(self, call: &Call<'_>) -> Result<CUmodule, CUresult> {
        let module = call.session.modules.get(self.0);
        module
            .map(|module| module.handle)
            .ok_or(CUresult::INVALID_HANDLE)
    }
}

impl HandleOf<CUlibrary> for LibraryId {
    fn look_up(self, call: &Call<'_>) -> Result<CUlibrary, CUresult> {
        let library = call.session.libraries.get(self.0);
        library
            .map(|library| library.handle)
            .ok_or(CUresult::INVALID_HANDLE)
    }
}

/// A kernel may stand where a function is asked for.
impl HandleOf<CUfunction> for FunctionId {
    fn look_up(self, call: &Call<'_>) -> Result<CUfunction, CUresult> {
        let function = call.session.functions.get(self.0);
        function
            .map(|function| function.as_function())
            .ok_or(CUresult::INVALID_HANDLE)
    }
}

impl HandleOf<CUkernel> for FunctionId {
    fn look_up(self, call: &Call<'_>) -> Result<CUkernel, CUresult> {
        let function = call.session.functions.get(self.0);
        function
            .and_then(|function| function.as_kernel())
            .ok_or(CUresult::INVALID_HANDLE)
    }
}

/// A handle that a client's id can be given to.
pub(crate) trait Created {
    /// The kind of id.
    type Id;

    /// Puts it into its table, or undoes it.
    fn store(self, call: &Call<'_>, id: Self::Id) -> Result<(), CUresult>;
}

impl Created for CUevent {
    type Id = EventId;

    fn store(self, call: &Call<'_>, id: EventId) -> Result<(), CUresult> {
        let event = Event {
            handle: self,
            context: call.context()?.serial,
        };
        call.session.events.insert(id.0, event).inspect_err(|_| {
            // The id was refused; that is the error to tell.
            let _ = cuda!(call.driver(), cuEventDestroy_v2(self));
        })
    }
}

/// An id whose end ends what depends on it.
pub(crate) trait Destroyed {
    /// Ends what looks at it by itself, before the driver ends it.
    fn let_go(&self, call: &Call<'_>);

    /// Takes it, and what depends on it, out of the tables.
    fn forget(self, call: &Call<'_>);
}

impl Destroyed for ModuleId {
    fn let_go(&self, call: &Call<'_>) {
        let mirrors = &call.session.mirrors;
        mirrors.forget_globals(call.session, self.0, false);
    }

    fn forget(self, call: &Call<'_>) {
        call.session.modules.remove(self.0);
        call.session
            .functions
            .retain(|function| !function.is_of_module(self.0));
        call.session
            .references
            .retain(|reference| reference.module != Some(self.0));
        let is_gone = |function: &Function| function.is_of_module(self.0);
        call.session.graphs.without(is_gone);
        call.session.memory.forget_globals(self.0, false);
        call.session.memory.accounts.settle_all(call.driver());
    }
}

/// The client's ids of the modules that a library has in contexts.
fn modules_of(call: &Call<'_>, library: LibraryId) -> Vec<u32> {
    let modules = &call.session.modules;
    modules.ids(|module| module.library == Some(library.0))
}

impl Destroyed for LibraryId {
    fn let_go(&self, call: &Call<'_>) {
        let mirrors = &call.session.mirrors;
        mirrors.forget_globals(call.session, self.0, true);
        for module in modules_of(call, *self) {
            mirrors.forget_globals(call.session, module, false);
        }
    }

    fn forget(self, call: &Call<'_>) {
        call.session.libraries.remove(self.0);
        let modules = &call.session.modules;
        for module in modules_of(call, self) {
            call.session.memory.forget_globals(module, false);
        }
        modules.retain(|module| module.library != Some(self.0));
        // What its modules had ends too.
        let lives = |module: Option<u32>| module.is_none_or(|module| modules.get(module).is_some());
        call.session
            .functions
            .retain(|function| !function.is_of_library(self.0) && lives(function.module()));
        call.session
            .references
            .retain(|reference| lives(reference.module));
        let is_gone =
            |function: &Function| function.is_of_library(self.0) || !lives(function.module());
        call.session.graphs.without(is_gone);
        call.session.memory.forget_globals(self.0, true);
        call.session.memory.accounts.settle_all(call.driver());
    }
}
