//! The address space: which addresses are memory that kernels and copies may access.
//!
//! Rules: regions never overlap. A range is accessible if one region holds all of it, or mappings of
//! `cuMemMap` that follow each other without a gap.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::map::{Mapping, Piece};
use crate::virtual_memory::Object;
use crate::virtual_memory::Physical;

/// What a region is, and what has to go back when it ends.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Cut from a chunk of the heap; its size there.
    Small(u64),
    /// A piece of its own.
    Large(Arc<Piece>),
    /// Managed: cut from a chunk of its heap, its size there; or a piece of its own.
    Managed {
        rounded: u64,
        piece: Option<Arc<Piece>>,
    },
    /// Pinned memory of the host.
    Host {
        flags: u32,
        #[expect(dead_code, reason = "held, so that the memory stays")]
        mapping: Arc<Mapping>,
    },
    /// The program's own memory.
    Registered { flags: u32 },
    /// Another process's, opened by a context of this device.
    Borrowed {
        #[expect(dead_code, reason = "held, so that the memory stays")]
        mapping: Arc<Mapping>,
        opener: usize,
    },
    /// Placed by `cuMemMap`; access for the devices that `cuMemSetAccess` says.
    Mapped {
        physical: Arc<Physical>,
        devices: Devices,
    },
    /// A multicast object, placed by `cuMemMap`: no memory, but what `multimem` may use; access as for memory.
    Multicast {
        object: Arc<Object>,
        devices: Devices,
    },
}

/// A set of devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Devices(u32);

const _: () = assert!(crate::config::MAX_DEVICES <= u32::BITS as usize);

impl Devices {
    pub(crate) fn contains(self, device: usize) -> bool {
        self.0 & (1 << device) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a device or takes it out.
    pub(crate) fn set(&mut self, device: usize, is_in: bool) {
        self.0 = self.0 & !(1 << device) | u32::from(is_in) << device;
    }
}

/// A range of addresses with one story.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) base: u64,
    /// As asked for; nothing beyond is accessible.
    pub(crate) size: u64,
    pub(crate) kind: Kind,
    /// The context it belongs to.
    pub(crate) context: usize,
    pub(crate) device: usize,
    /// The pool that it is of; 0 for none.
    pub(crate) pool: usize,
    /// Never the same twice.
    pub(crate) id: u64,
}

impl Region {
    pub(crate) fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Whether it is memory that `cuMemAlloc` or a pool has made.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Small(_) | Kind::Large(_))
    }

    /// Whether it is of a pool of another process.
    pub(crate) fn is_of_other_pool(&self) -> bool {
        matches!(self.kind, Kind::Borrowed { .. }) && self.pool != 0
    }

    /// Whether it is managed memory.
    pub(crate) fn is_managed(&self) -> bool {
        matches!(self.kind, Kind::Managed { .. })
    }

    /// The bytes that it takes of the device.
    pub(crate) fn taken(&self) -> u64 {
        match &self.kind {
            Kind::Small(rounded) => *rounded,
            Kind::Large(piece) => piece.mapping.size(),
            _ => self.size,
        }
    }

    /// Whether an allocation of `size` bytes would take exactly as many.
    pub(crate) fn fits(&self, size: u64) -> bool {
        let unit = match &self.kind {
            Kind::Small(_) => super::heap::ALIGNMENT,
            _ => super::map::GRANULARITY,
        };
        size.checked_next_multiple_of(unit) == Some(self.taken())
    }

    /// Whether it is the host's memory.
    pub(crate) fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Host { .. } | Kind::Registered { .. })
    }

    fn is_accessible(&self) -> bool {
        match self.kind {
            Kind::Mapped { devices, .. } => !devices.is_empty(),
            Kind::Multicast { .. } => false,
            _ => true,
        }
    }

    /// Whether `cuMemMap` has placed it.
    pub(crate) fn is_placed(&self) -> bool {
        matches!(self.kind, Kind::Mapped { .. } | Kind::Multicast { .. })
    }

    /// Who may access it, where that is `cuMemSetAccess`'s affair.
    pub(crate) fn devices(&self) -> Option<Devices> {
        match self.kind {
            Kind::Mapped { devices, .. } | Kind::Multicast { devices, .. } => Some(devices),
            _ => None,
        }
    }

    /// The same, to change it.
    pub(crate) fn devices_mut(&mut self) -> Option<&mut Devices> {
        match &mut self.kind {
            Kind::Mapped { devices, .. } | Kind::Multicast { devices, .. } => Some(devices),
            _ => None,
        }
    }

    fn is_mapped(&self) -> bool {
        matches!(self.kind, Kind::Mapped { .. })
    }
}

/// All regions, by address.
#[derive(Debug, Default)]
pub(crate) struct Space {
    regions: BTreeMap<u64, Region>,
}

impl Space {
    /// Adds a region, unless it overlaps another.
    pub(crate) fn insert(&mut self, region: Region) -> bool {
        let overlaps = self.overlapping(region.base, region.size).next().is_some();
        if !overlaps {
            self.regions.insert(region.base, region);
        }
        !overlaps
    }

    /// Regions that have an address in the range, in order.
    pub(crate) fn overlapping(&self, base: u64, size: u64) -> impl Iterator<Item = &Region> {
        let end = base.saturating_add(size);
        let first = self
            .regions
            .range(..base)
            .next_back()
            .filter(|(_, region)| region.end() > base)
            .map_or(base, |(first, _)| *first);
        self.regions.range(first..end).map(|(_, region)| region)
    }

    /// The region that holds an address.
    pub(crate) fn find(&self, address: u64) -> Option<&Region> {
        let (_, region) = self.regions.range(..=address).next_back()?;
        (address < region.end()).then_some(region)
    }

    /// The region that begins at an address.
    pub(crate) fn starting_at(&self, base: u64) -> Option<&Region> {
        self.regions.get(&base)
    }

    pub(crate) fn starting_at_mut(&mut self, base: u64) -> Option<&mut Region> {
        self.regions.get_mut(&base)
    }

    pub(crate) fn remove(&mut self, base: u64) -> Option<Region> {
        self.regions.remove(&base)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.values()
    }

    /// Whether a whole range may be accessed.
    pub(crate) fn is_accessible(&self, address: u64, size: u64) -> bool {
        let Some(end) = address.checked_add(size) else {
            return false;
        };
        let mut at = address;
        loop {
            let Some(region) = self.find(at).filter(|region| region.is_accessible()) else {
                return false;
            };
            if region.end() >= end {
                return true;
            }
            if !region.is_mapped() {
                return false;
            }
            at = region.end();
            if !self.find(at).is_some_and(Region::is_mapped) {
                return false;
            }
        }
    }

    /// Every range of regions that are `reached`, with mappings that follow each other joined.
    pub(crate) fn ranges(&self, reached: &impl Fn(&Region) -> bool) -> Vec<std::ops::Range<u64>> {
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        let mut joinable = false;
        for region in self
            .regions
            .values()
            .filter(|region| region.is_accessible() && reached(region))
        {
            match ranges.last_mut() {
                Some(last) if joinable && region.is_mapped() && last.end == region.base => {
                    last.end = region.end();
                }
                _ => ranges.push(region.base..region.end()),
            }
            joinable = region.is_mapped();
        }
        ranges
    }
}
