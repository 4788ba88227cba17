//! Texture and surface references: numbers of the client's, for references of the server's driver.
//!
//! What a reference says is kept here, so that it is told without asking; what the driver begins with is asked once. A change is asked, so that it is in its
//! place among the launches, and kept once the driver has taken it.

use std::cell::Cell;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver_api::abi::{CUresult, CUtexref};
use driver_api::texture::Object as Described;
use driver_api::texture::reference::{Change, Reference as Said, kind};
use driver_api::wire::request::{
    GpurunReferenceBind, GpurunReferenceChange, GpurunReferenceDestroy, GpurunReferenceGet,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::context::Context;
use crate::handles::Handle;
use crate::session::{self, Session, malformed};

/// A texture or surface reference.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) id: u32,
    pub(super) context: u32,
    /// The module that it is of, and its name there.
    of: Option<(u32, CString)>,
    pub(super) is_surface: bool,
    said: Mutex<Said>,
}

impl Reference {
    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds it to what was described, and keeps that: the offset of its address.
    pub(super) fn bind(
        &self,
        session: &Session,
        described: &Described,
        takes_offset: bool,
        keep: impl FnOnce(&mut Said, u64),
    ) -> Result<u64, CUresult> {
        let mut said = self.said();
        let request = GpurunReferenceBind::new(self.id, takes_offset.into());
        let offset = Cell::new(0);
        session.objects.memory.with_patience(session, || {
            let reply = session.ask_in(self.context, &request, described.as_bytes())?;
            offset.set(reply.offset());
            Ok(())
        })?;
        keep(&mut said, offset.get());
        Ok(offset.get())
    }

    /// Changes how it reads.
    pub(super) fn change(&self, session: &Session, change: &Change) -> Result<(), CUresult> {
        let mut said = self.said();
        let mut changed = said.clone();
        changed.apply(change)?;
        let (number, words) = change.wire();
        let request = GpurunReferenceChange::new(self.id, number, words);
        session.ask_in(self.context, &request, &[])?;
        *said = changed;
        Ok(())
    }
}

/// The reference of a handle's id.
pub(super) fn find(
    session: &Session,
    id: Option<u32>,
    is_surface: bool,
) -> Result<Arc<Reference>, CUresult> {
    let reference = id.and_then(|id| session.objects.references.get(id));
    let reference = reference.filter(|reference| reference.is_surface == is_surface);
    reference.ok_or(CUresult::INVALID_VALUE)
}

/// Whether a handle is that of a module's texture reference.
pub(crate) fn is_of_module(session: &Session, reference: CUtexref) -> bool {
    find(session, reference.undress(), false).is_ok_and(|reference| reference.of.is_some())
}

/// Asks for a reference.
fn get(
    session: &Session,
    context: u32,
    kind: u32,
    of: Option<(u32, CString)>,
) -> Result<u32, CUresult> {
    let references = &session.objects.references;
    let (module, name) = match &of {
        Some((module, name)) => (*module, name.clone()),
        None => (0, CString::default()),
    };
    let reference = references.insert_with(|id| Reference {
        id,
        context,
        of,
        is_surface: kind == kind::SURFACE,
        said: Mutex::default(),
    });
    let request = GpurunReferenceGet::new(reference.id, kind, module);
    let told = session
        .ask_reply(context, &request, name.as_bytes(), || Ok(()))
        .and_then(|reply| {
            let told = Described::read_from_bytes(&reply.body);
            told.map_err(|_| malformed::<GpurunReferenceGet>())
        });
    match told {
        Ok(told) => {
            let mut said = reference.said();
            (said.format, said.channels) = (told.format.get(), told.channels.get());
            said.reading = told.texture();
            Ok(reference.id)
        }
        Err(error) => {
            references.remove(reference.id);
            Err(error)
        }
    }
}

/// A reference of a module, the same for the same name.
pub(crate) fn of_module(
    session: &Session,
    (module, context): (u32, u32),
    name: CString,
    is_surface: bool,
) -> Result<u32, CUresult> {
    let of = (module, name);
    // Held while one is asked for, so that nobody is given what the server has not told yet.
    let asked = session.objects.references_asked.lock();
    let _asked = asked.unwrap_or_else(PoisonError::into_inner);
    let is_it = |reference: &Reference| {
        reference.is_surface == is_surface && reference.of.as_ref() == Some(&of)
    };
    if let Some(known) = session.objects.references.select(is_it).first() {
        return Ok(known.id);
    }
    let kind = if is_surface {
        kind::SURFACE
    } else {
        kind::TEXTURE
    };
    get(session, context, kind, Some(of))
}

/// A texture reference of no module.
pub(super) fn create(session: &Session, context: &Context) -> Result<CUtexref, CUresult> {
    get(session, context.id, kind::FREE, None).map(CUtexref::dress)
}

pub(super) fn destroy(reference: CUtexref) -> Result<(), CUresult> {
    let (session, _) = session::current()?;
    let reference = find(session, reference.undress(), false)?;
    if reference.of.is_some() {
        return Err(CUresult::INVALID_VALUE);
    }
    let request = GpurunReferenceDestroy::new(reference.id);
    session.ask_in(reference.context, &request, &[])?;
    session.objects.references.remove(reference.id);
    Ok(())
}

/// A module has ended, and its references with it.
pub(crate) fn forget_module(session: &Session, module: u32) {
    forget(session, |reference| {
        reference.of.as_ref().is_some_and(|of| of.0 == module)
    });
}

/// A context has ended, and its references with it.
pub(super) fn forget_context(session: &Session, context: u32) {
    forget(session, |reference| reference.context == context);
}

fn forget(session: &Session, is_gone: impl Fn(&Reference) -> bool) {
    let references = &session.objects.references;
    for reference in references.select(is_gone) {
        references.remove(reference.id);
    }
}
