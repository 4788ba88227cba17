//! Handles: numbers given to the program, looked up and never dereferenced.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use driver_api::abi::CUresult;

/// Far from every address that a program could confuse with it, and non-zero in both halves.
const BASE: usize = 0x0000_6770_0000_0000;
const KIND_SHIFT: u32 = 32;
const STEP: usize = 16;

/// What a handle names. The number is part of the handle, so that one of another kind is never found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Context = 1,
    Stream,
    Event,
    Module,
    Function,
    Library,
    Kernel,
    Memory,
    Link,
    Pool,
    Graph,
    GraphNode,
    GraphExec,
    UserObject,
    Array,
    MipmappedArray,
    Green,
    /// A context that is a green one.
    GreenContext,
    Descriptor,
    Reference,
    Multicast,
}

/// All objects of one kind.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    kind: Kind,
    next: AtomicUsize,
    objects: RwLock<HashMap<usize, Arc<T>>>,
}

impl<T> Registry<T> {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            next: AtomicUsize::new(1),
            objects: RwLock::default(),
        }
    }

    /// A handle that no object has or had.
    pub(crate) fn reserve(&self) -> usize {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        BASE + ((self.kind as usize) << KIND_SHIFT) + number * STEP
    }

    /// Whether a handle is one of these, there or gone.
    pub(crate) fn owns(&self, handle: usize) -> bool {
        handle >> KIND_SHIFT == (BASE >> KIND_SHIFT) + self.kind as usize
    }

    pub(crate) fn insert(&self, handle: usize, object: Arc<T>) {
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(handle, object);
    }

    pub(crate) fn get(&self, handle: usize) -> Result<Arc<T>, CUresult> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects
            .get(&handle)
            .cloned()
            .ok_or(CUresult::INVALID_HANDLE)
    }

    pub(crate) fn remove(&self, handle: usize) -> Result<Arc<T>, CUresult> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.remove(&handle).ok_or(CUresult::INVALID_HANDLE)
    }

    /// Every object, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.values().cloned().collect()
    }

    /// Removes what `chosen` picks, and returns it.
    pub(crate) fn remove_if(&self, chosen: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let handles: Vec<usize> = objects
            .iter()
            .filter(|(_, object)| chosen(object))
            .map(|(handle, _)| *handle)
            .collect();
        handles
            .iter()
            .filter_map(|handle| objects.remove(handle))
            .collect()
    }
}
