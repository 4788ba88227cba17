//! Texture and surface references: what a module's opaque variables are bound to.
//!
//! A launch takes the value that each variable of its kernel has at the call: a [`Slot`] with a descriptor, which is never changed and stays as long as a
//! launch or a graph has it. So what is bound next does not reach what was launched before.

use std::sync::{Arc, Mutex};

use driver_api::abi::CUresult;
use driver_api::texture::flag::NORMALISED;
use driver_api::texture::reference::Reference as Said;

use super::{Slot, describe, of_surface, read_as};
use crate::context::Context;
use crate::exec::{Descriptor, FORCE_ELEMENTS, Resource, SAMPLER};
use crate::ptx::{Opaque, OpaqueKind};
use crate::state::{Driver, driver};
use crate::threads::lock;

/// A texture or surface reference.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) handle: usize,
    pub(crate) context: usize,
    pub(crate) is_surface: bool,
    /// It ends with its module.
    pub(crate) is_of_module: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    said: Said,
    /// The descriptor of all that, once a launch has needed it.
    slot: Option<Arc<Slot>>,
}

/// What a variable says where it is declared.
fn declared(opaque: &Opaque) -> Said {
    let mut said = Said::default();
    said.reading.address_mode = opaque.address_modes;
    said.reading.filter_mode = opaque.is_linear.into();
    said.reading.flags = if opaque.is_normalised { NORMALISED } else { 0 };
    said
}

impl Reference {
    /// A texture reference of no module.
    pub(super) fn new(driver: &Driver, context: &Context) -> Arc<Self> {
        Self::insert(driver, context, None)
    }

    fn insert(driver: &Driver, context: &Context, opaque: Option<&Opaque>) -> Arc<Self> {
        let reference = Arc::new(Self {
            handle: driver.references.reserve(),
            context: context.handle,
            is_surface: opaque.is_some_and(|opaque| opaque.kind == OpaqueKind::Surface),
            is_of_module: opaque.is_some(),
            state: Mutex::new(State {
                said: opaque.map_or_else(Said::default, declared),
                slot: None,
            }),
        });
        driver
            .references
            .insert(reference.handle, Arc::clone(&reference));
        reference
    }

    /// What it says.
    pub(super) fn said(&self) -> Said {
        lock(&self.state).said.clone()
    }

    /// Changes what it says: all or nothing.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut Said) -> Result<(), CUresult>,
    ) -> Result<(), CUresult> {
        let mut state = lock(&self.state);
        let mut said = state.said.clone();
        change(&mut said)?;
        *state = State { said, slot: None };
        Ok(())
    }

    /// The descriptor of what it says; none if it is bound to nothing.
    fn slot(&self, driver: &Driver, context: &Context) -> Result<Option<Arc<Slot>>, CUresult> {
        let mut state = lock(&self.state);
        let Some(bound) = state.said.resource() else {
            return Ok(None);
        };
        if let Some(slot) = &state.slot {
            return Ok(Some(Arc::clone(slot)));
        }
        let descriptor = match self.is_surface {
            true => of_surface(driver, context, bound.words[0] as usize)?,
            false => read_as(describe(driver, context, &bound)?, &state.said.reading),
        };
        let slot = driver.textures.hold(driver, context, &descriptor)?;
        state.slot = Some(Arc::clone(&slot));
        Ok(Some(slot))
    }
}

/// One of a module's opaque variables.
#[derive(Debug)]
pub(crate) enum Variable {
    Reference(Arc<Reference>),
    /// A sampler says what its declaration does.
    Sampler(Arc<Slot>),
}

impl Variable {
    pub(crate) fn new(
        driver: &Driver,
        context: &Context,
        opaque: &Opaque,
    ) -> Result<Self, CUresult> {
        if opaque.kind != OpaqueKind::Sampler {
            return Ok(Self::Reference(Reference::insert(
                driver,
                context,
                Some(opaque),
            )));
        }
        let descriptor = Descriptor {
            flags: if opaque.forces_elements {
                FORCE_ELEMENTS
            } else {
                0
            },
            ..Descriptor::new(SAMPLER, Resource::Array)
        };
        let descriptor = Descriptor {
            address_modes: opaque.address_modes,
            filter: opaque.is_linear.into(),
            mipmap_filter: opaque.is_linear.into(),
            level_clamp: [0.0, f32::MAX],
            ..descriptor
        };
        let slot = driver.textures.hold(driver, context, &descriptor)?;
        Ok(Self::Sampler(slot))
    }

    /// Its value for a launch; none if it is bound to nothing.
    pub(crate) fn slot(
        &self,
        driver: &Driver,
        context: &Context,
    ) -> Result<Option<Arc<Slot>>, CUresult> {
        match self {
            Self::Reference(reference) => reference.slot(driver, context),
            Self::Sampler(slot) => Ok(Some(Arc::clone(slot))),
        }
    }
}

impl Drop for Variable {
    /// A reference ends with its module.
    fn drop(&mut self) {
        if let (Self::Reference(reference), Ok(driver)) = (&*self, driver()) {
            // Or it has ended with its context.
            _ = driver.references.remove(reference.handle);
        }
    }
}
