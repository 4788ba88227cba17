//! Whose a graph's memory is: what the client and the software GPU both decide when a graph is launched or its memory freed.
//!
//! *Rules:* a launch claims what it allocates and does not free, in the order of the calls. What is claimed is the program's until it is freed, and cannot be
//! allocated again before, unless the graph frees on launch. Allocations have names that are never given twice while they are there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::result::CUresult;

/// The allocations that there are, by name, with those that are claimed.
#[derive(Debug)]
pub struct Claims<A> {
    known: HashMap<u64, Option<Arc<A>>>,
}

impl<A> Default for Claims<A> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
        }
    }
}

/// What a launch allocates and frees.
#[derive(Debug)]
pub struct Launch<A> {
    allocated: HashMap<u64, Arc<A>>,
    freed: HashSet<u64>,
}

impl<A> Default for Launch<A> {
    fn default() -> Self {
        Self {
            allocated: HashMap::new(),
            freed: HashSet::new(),
        }
    }
}

impl<A> Launch<A> {
    /// It allocates this.
    pub fn allocates(&mut self, name: u64, allocation: &Arc<A>) {
        self.allocated.insert(name, Arc::clone(allocation));
    }

    /// It frees what has this name.
    pub fn frees(&mut self, name: u64) {
        self.freed.insert(name);
    }

    /// Whether it does neither.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allocated.is_empty() && self.freed.is_empty()
    }
}

impl<A> Claims<A> {
    /// There is another allocation, which nobody has claimed.
    pub fn add(&mut self, name: u64) {
        self.known.insert(name, None);
    }

    /// An allocation has gone.
    pub fn remove(&mut self, name: u64) {
        self.known.remove(&name);
    }

    /// Whether an allocation is of a graph.
    #[must_use]
    pub fn knows(&self, name: u64) -> bool {
        self.known.contains_key(&name)
    }

    /// Takes the program's claim, which ends when it is dropped: outside whatever guards this, since the allocation may end with it.
    ///
    /// # Errors
    /// It is not the program's now.
    pub fn unclaim(&mut self, name: u64) -> Result<Arc<A>, CUresult> {
        let claim = self.known.get_mut(&name).and_then(Option::take);
        claim.ok_or(CUresult::INVALID_VALUE)
    }

    /// Takes all that these names stand for out, with their claims, which end outside whatever guards this.
    pub fn forget(&mut self, is_gone: impl Fn(&u64) -> bool) -> Vec<Arc<A>> {
        let gone = self.known.extract_if(|name, _| is_gone(name));
        gone.filter_map(|(_, claim)| claim).collect()
    }

    /// Before a launch: whether it may be.
    ///
    /// # Errors
    /// It allocates what is claimed, and does not free first; or frees what nobody has claimed.
    pub fn check(&self, launch: &Launch<A>, frees_first: bool) -> Result<(), CUresult> {
        let Launch { allocated, freed } = launch;
        let is_claimed = |name: &u64| self.known.get(name).is_some_and(Option::is_some);
        let again = allocated.keys().any(is_claimed) && !frees_first;
        let mut elsewhere = freed.iter().filter(|name| !allocated.contains_key(name));
        match again || !elsewhere.all(is_claimed) {
            true => Err(CUresult::INVALID_VALUE),
            false => Ok(()),
        }
    }

    /// Of a launch that was checked, and is one now: claims what it allocates and leaves, and takes the claims that end behind it.
    #[must_use]
    pub fn launched(&mut self, launch: Launch<A>) -> Vec<Arc<A>> {
        let Launch { allocated, freed } = launch;
        let known = &mut self.known;
        let claim = |(name, allocation)| known.insert(name, Some(allocation)).flatten();
        let mut ended: Vec<_> = allocated.into_iter().filter_map(claim).collect();
        ended.extend(freed.iter().filter_map(|name| known.get_mut(name)?.take()));
        ended
    }
}

/// Bytes of a device.
#[derive(Debug, Default, Clone, Copy)]
pub struct Bytes {
    now: u64,
    most: u64,
}

impl Bytes {
    /// More.
    pub fn add(&mut self, bytes: u64) {
        self.now += bytes;
        self.most = self.most.max(self.now);
    }

    /// Less.
    pub fn take(&mut self, bytes: u64) {
        self.now = self.now.saturating_sub(bytes);
    }

    /// `CU_GRAPH_MEM_ATTR_*`: used now and at most, reserved now and at most. What is used is all that is reserved.
    ///
    /// # Errors
    /// There is no such attribute.
    pub fn attribute(&self, attribute: u32) -> Result<u64, CUresult> {
        match attribute {
            0 | 2 => Ok(self.now),
            1 | 3 => Ok(self.most),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Begins a high-water mark anew, which is all that can be set.
    ///
    /// # Errors
    /// It is no high-water mark, or another value.
    pub fn set_attribute(&mut self, attribute: u32, value: u64) -> Result<(), CUresult> {
        match (attribute, value) {
            (1 | 3, 0) => {
                self.most = self.now;
                Ok(())
            }
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}
