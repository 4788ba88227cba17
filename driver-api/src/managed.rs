//! What is said of managed memory: advice, prefetches, and what is answered of them.
//!
//! *What:* [`Advised`] remembers, for ranges of addresses, what a program has advised and where it has prefetched last. *Why here:* the software GPU and the
//! client library both answer for managed memory; neither moves pages for it. *Rules:* pure; who calls has checked that a range is managed memory. Ranges are
//! split where they begin to differ, and are forgotten with their memory. The rules about values and devices are those of `cuMemAdvise`,
//! `cuMemPrefetchAsync` and `cuMemRangeGetAttribute` in the CUDA driver API's reference.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::abi::CUstream;
use crate::result::CUresult;

/// `CU_MEM_ATTACH_GLOBAL`, `CU_MEM_ATTACH_HOST` and `CU_MEM_ATTACH_SINGLE`.
pub const ATTACH_GLOBAL: u32 = 1;
/// See [`ATTACH_GLOBAL`].
pub const ATTACH_HOST: u32 = 2;
/// See [`ATTACH_GLOBAL`].
pub const ATTACH_SINGLE: u32 = 4;

/// `CU_DEVICE_CPU` and `CU_DEVICE_INVALID`.
const CPU: i32 = -1;
const NO_DEVICE: i32 = -2;

/// `CU_MEM_LOCATION_TYPE_*`.
mod location {
    pub(super) const NONE: u32 = 0;
    pub(super) const DEVICE: u32 = 1;
    pub(super) const HOST: u32 = 2;
}

/// How `cuStreamAttachMemAsync` may attach.
///
/// # Errors
/// Not exactly one of the three ways; or to the default stream alone, which means all streams.
pub fn check_attachment(flags: u32, stream: CUstream) -> Result<(), CUresult> {
    match flags {
        ATTACH_GLOBAL | ATTACH_HOST => Ok(()),
        ATTACH_SINGLE if stream != CUstream(0) => Ok(()),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// Where memory is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The host's memory.
    Host,
    /// A device's.
    Device(i32),
}

/// The devices that managed memory may be at.
#[derive(Debug, Clone, Copy)]
pub struct Devices {
    /// How many there are.
    pub count: i32,
    /// `CONCURRENT_MANAGED_ACCESS`: without it nothing is placed.
    pub are_concurrent: bool,
}

impl Devices {
    /// A device of the older functions, where the host is a number too.
    ///
    /// # Errors
    /// There is no such device.
    pub fn place_of_device(self, device: i32) -> Result<Place, CUresult> {
        match device {
            CPU => Ok(Place::Host),
            device if (0..self.count).contains(&device) => Ok(Place::Device(device)),
            _ => Err(CUresult::INVALID_DEVICE),
        }
    }

    /// A location of the newer functions.
    ///
    /// # Errors
    /// There is no such device, or it is a node of the host's memory.
    pub fn place(self, kind: u32, id: i32) -> Result<Place, CUresult> {
        match kind {
            location::HOST => Ok(Place::Host),
            location::DEVICE if (0..self.count).contains(&id) => Ok(Place::Device(id)),
            location::DEVICE => Err(CUresult::INVALID_DEVICE),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Whether memory can be placed there ahead of its use.
    ///
    /// # Errors
    /// The device cannot share managed memory with the host.
    pub fn check(self, place: Place) -> Result<Place, CUresult> {
        match place {
            Place::Device(_) if !self.are_concurrent => Err(CUresult::INVALID_DEVICE),
            place => Ok(place),
        }
    }
}

/// `CU_MEM_ADVISE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Mostly read, or not.
    ReadMostly(bool),
    /// Where it should be.
    Preferred(Option<Place>),
    /// Who accesses it, or does not any more.
    AccessedBy(Place, bool),
}

impl Advice {
    /// Advice as a program gives it. `place` is looked at only where the advice has one.
    ///
    /// # Errors
    /// No such advice, or not for that place.
    pub fn new(
        advice: u32,
        place: Result<Place, CUresult>,
        devices: Devices,
    ) -> Result<Self, CUresult> {
        Ok(match advice {
            1 => Self::ReadMostly(true),
            2 => Self::ReadMostly(false),
            3 => Self::Preferred(Some(devices.check(place?)?)),
            4 => Self::Preferred(None),
            5 => Self::AccessedBy(devices.check(place?)?, true),
            6 => Self::AccessedBy(devices.check(place?)?, false),
            _ => return Err(CUresult::INVALID_VALUE),
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    is_read_mostly: bool,
    preferred: Option<Place>,
    accessed_by: BTreeSet<Place>,
    prefetched: Option<Place>,
}

/// What was advised of ranges, by their first address.
#[derive(Debug, Default)]
pub struct Advised {
    segments: BTreeMap<u64, (u64, State)>,
}

impl Advised {
    /// Takes advice about a range.
    pub fn advise(&mut self, range: Range<u64>, advice: Advice) {
        self.change(range, |state| match advice {
            Advice::ReadMostly(is_so) => state.is_read_mostly = is_so,
            Advice::Preferred(place) => state.preferred = place,
            Advice::AccessedBy(place, true) => drop(state.accessed_by.insert(place)),
            Advice::AccessedBy(place, false) => drop(state.accessed_by.remove(&place)),
        });
    }

    /// A range was prefetched.
    pub fn prefetched(&mut self, range: Range<u64>, place: Place) {
        self.change(range, |state| state.prefetched = Some(place));
    }

    /// The memory is gone.
    pub fn forget(&mut self, range: Range<u64>) {
        self.split(range.start);
        self.split(range.end);
        let gone: Vec<u64> = self
            .segments
            .range(range)
            .map(|(start, _)| *start)
            .collect();
        for start in gone {
            self.segments.remove(&start);
        }
    }

    /// Lets a segment end and another begin at an address inside of one.
    fn split(&mut self, at: u64) {
        let inside = self.segments.range_mut(..at).next_back();
        if let Some((_, (end, state))) = inside.filter(|(_, (end, _))| *end > at) {
            let rest = (std::mem::replace(end, at), state.clone());
            self.segments.insert(at, rest);
        }
    }

    fn change(&mut self, range: Range<u64>, change: impl Fn(&mut State)) {
        self.split(range.start);
        self.split(range.end);
        let mut at = range.start;
        while at < range.end {
            let next = self.segments.range(at..range.end).next();
            let next = next.map_or(range.end, |(start, _)| *start);
            if next > at {
                self.segments.insert(at, (next, State::default()));
            }
            if let Some((end, state)) = self.segments.get_mut(&at) {
                change(state);
                at = *end;
            }
        }
    }

    /// The states in a range, with that of what nothing was said of.
    fn states(&self, range: &Range<u64>) -> Vec<State> {
        let mut states = Vec::new();
        let mut at = range.start;
        let before = self.segments.range(..range.start).next_back();
        let inside = self.segments.range(range.clone());
        for (start, (end, state)) in before.into_iter().chain(inside) {
            if *end <= range.start {
                continue;
            }
            if *start > at {
                states.push(State::default());
            }
            states.push(state.clone());
            at = *end;
        }
        if at < range.end {
            states.push(State::default());
        }
        states
    }

    /// `cuMemRangeGetAttribute`: the words of the answer, of which there are as many as the program has room for.
    ///
    /// # Errors
    /// No such attribute, or no room of the attribute's size.
    pub fn attribute(
        &self,
        range: &Range<u64>,
        attribute: u32,
        bytes: usize,
    ) -> Result<Vec<i32>, CUresult> {
        const ACCESSED_BY: u32 = 3;
        let words = bytes / size_of::<i32>();
        let fits = match attribute {
            ACCESSED_BY => words > 0 && bytes.is_multiple_of(size_of::<i32>()),
            _ => bytes == size_of::<i32>(),
        };
        if !fits {
            return Err(CUresult::INVALID_VALUE);
        }
        let states = self.states(range);
        let preferred = common(states.iter().map(|state| state.preferred));
        let prefetched = common(states.iter().map(|state| state.prefetched));
        Ok(match attribute {
            1 => vec![states.iter().all(|state| state.is_read_mostly).into()],
            2 => vec![number(preferred)],
            ACCESSED_BY => {
                let by_all = |place: &&Place| {
                    let mut states = states.iter();
                    states.all(|state| state.accessed_by.contains(place))
                };
                let first = states.first().map(|state| &state.accessed_by);
                let places = first.into_iter().flatten().filter(by_all);
                let mut answer: Vec<i32> = places.map(|place| number(Some(*place))).collect();
                answer.resize(words, NO_DEVICE);
                answer
            }
            4 => vec![number(prefetched)],
            5 => vec![kind(preferred) as i32],
            6 => vec![id(preferred)],
            7 => vec![kind(prefetched) as i32],
            8 => vec![id(prefetched)],
            _ => return Err(CUresult::INVALID_VALUE),
        })
    }
}

/// The place that all have, if they have the same.
fn common(mut places: impl Iterator<Item = Option<Place>>) -> Option<Place> {
    let first = places.next()??;
    places.all(|place| place == Some(first)).then_some(first)
}

fn number(place: Option<Place>) -> i32 {
    match place {
        Some(Place::Host) => CPU,
        Some(Place::Device(device)) => device,
        None => NO_DEVICE,
    }
}

fn kind(place: Option<Place>) -> u32 {
    match place {
        Some(Place::Host) => location::HOST,
        Some(Place::Device(_)) => location::DEVICE,
        None => location::NONE,
    }
}

fn id(place: Option<Place>) -> i32 {
    match place {
        Some(Place::Device(device)) => device,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: Devices = Devices {
        count: 2,
        are_concurrent: true,
    };

    fn word(advised: &Advised, range: Range<u64>, attribute: u32) -> i32 {
        advised.attribute(&range, attribute, 4).expect("known")[0]
    }

    #[test]
    fn a_range_has_what_all_of_it_has() {
        let mut advised = Advised::default();
        advised.advise(100..200, Advice::ReadMostly(true));
        advised.advise(150..300, Advice::Preferred(Some(Place::Device(1))));
        assert_eq!(word(&advised, 100..200, 1), 1);
        assert_eq!(word(&advised, 99..200, 1), 0);
        assert_eq!(word(&advised, 100..201, 1), 0);
        assert_eq!(word(&advised, 150..300, 2), 1);
        assert_eq!(word(&advised, 149..300, 2), NO_DEVICE);
        advised.advise(180..190, Advice::ReadMostly(false));
        assert_eq!(word(&advised, 100..180, 1), 1);
        assert_eq!(word(&advised, 100..200, 1), 0);
        advised.forget(0..170);
        assert_eq!(word(&advised, 160..180, 1), 0);
        assert_eq!(word(&advised, 170..180, 1), 1);
    }

    #[test]
    fn who_accesses_it_is_a_list() {
        let mut advised = Advised::default();
        advised.advise(0..10, Advice::AccessedBy(Place::Device(1), true));
        advised.advise(0..10, Advice::AccessedBy(Place::Host, true));
        advised.advise(5..10, Advice::AccessedBy(Place::Device(0), true));
        let list = |range| advised.attribute(&range, 3, 12).expect("known");
        assert_eq!(list(0..10), [CPU, 1, NO_DEVICE]);
        assert_eq!(list(5..10), [CPU, 0, 1]);
        assert!(advised.attribute(&(0..10), 3, 6).is_err());
        assert!(advised.attribute(&(0..10), 9, 4).is_err());
        assert!(advised.attribute(&(0..10), 1, 8).is_err());
    }

    #[test]
    fn devices_that_share_nothing_are_not_advised() {
        let apart = Devices {
            are_concurrent: false,
            ..DEVICES
        };
        let at = |devices: Devices, advice, device| {
            Advice::new(advice, devices.place_of_device(device), devices)
        };
        assert!(at(DEVICES, 3, 1).is_ok() && at(DEVICES, 5, CPU).is_ok());
        assert_eq!(at(apart, 3, 1), Err(CUresult::INVALID_DEVICE));
        assert!(at(apart, 3, CPU).is_ok());
        assert_eq!(at(apart, 1, 77), Ok(Advice::ReadMostly(true)));
        assert_eq!(at(DEVICES, 3, 2), Err(CUresult::INVALID_DEVICE));
        assert_eq!(at(DEVICES, 7, 0), Err(CUresult::INVALID_VALUE));
        assert_eq!(DEVICES.place(location::HOST, 9), Ok(Place::Host));
        assert_eq!(DEVICES.place(4, 0), Err(CUresult::INVALID_VALUE));
    }
}
