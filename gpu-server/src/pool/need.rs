//! What is asked for, checked once.

use control_plane::{Comparison as WireComparison, DeviceNeed};
use protocol::filter::{Comparison, Filter, FilterError};
use protocol::hello::{DeviceKind, DeviceRequest};
use protocol::limits::{MAX_DEVICES, MAX_FILTERS};

use super::Compute;

/// How much of each device's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Portion {
    /// All that is usable.
    Whole,
    /// A part of what is usable: above 0 and below 1.
    Fraction(Compute),
    /// So many bytes.
    Bytes(u64),
}

/// What a lease shall have.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// How many devices: at least 1.
    pub count: u32,
    /// How much of each one's memory.
    pub memory: Portion,
    /// The part of each one's compute time; none: as the memory.
    pub compute: Option<Compute>,
    /// What devices and the server must be like.
    pub filters: Vec<Filter>,
    /// What devices are made of, if it matters.
    pub kind: Option<DeviceKind>,
}

/// Why a need is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeedError {
    /// More than any server can have.
    #[error("{0} devices are more than any server can have ({MAX_DEVICES})")]
    Count(u32),
    /// A memory fraction out of range.
    #[error("a memory fraction must be above 0 and at most 1, not {0}")]
    Memory(String),
    /// Both a fraction and bytes.
    #[error("either a fraction of the memory or its bytes, not both")]
    Both,
    /// A compute fraction out of range.
    #[error("a compute fraction must be above 0 and at most 1, not {0}")]
    Compute(String),
    /// A filter that is none.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A comparison that this server does not know.
    #[error("filter {0}: this server does not know that comparison; it knows =, >= and <=")]
    Comparison(String),
    /// Too many filters.
    #[error("{0} filters are more than the {MAX_FILTERS} that a request may have")]
    Filters(usize),
    /// A kind of device that this server does not know.
    #[error("this server does not know the kind of device that was asked for")]
    Kind,
}

impl Need {
    /// One whole device.
    #[must_use]
    pub const fn whole(count: u32) -> Self {
        Self {
            count,
            memory: Portion::Whole,
            compute: None,
            filters: Vec::new(),
            kind: None,
        }
    }

    fn new(count: u32, fraction: f64, bytes: u64, compute: f64) -> Result<Self, NeedError> {
        let count = count.max(1);
        if usize::try_from(count).map_or(true, |count| count > MAX_DEVICES) {
            return Err(NeedError::Count(count));
        }
        let memory = match (part(fraction).map_err(NeedError::Memory)?, bytes) {
            (None, 0) => Portion::Whole,
            (None, bytes) => Portion::Bytes(bytes),
            (Some(Compute::WHOLE), 0) => Portion::Whole,
            (Some(fraction), 0) => Portion::Fraction(fraction),
            (Some(_), _) => return Err(NeedError::Both),
        };
        Ok(Self {
            count,
            memory,
            compute: part(compute).map_err(NeedError::Compute)?,
            filters: Vec::new(),
            kind: None,
        })
    }
}

/// A fraction as it travels: 0 is not said.
fn part(fraction: f64) -> Result<Option<Compute>, String> {
    if fraction == 0.0 {
        return Ok(None);
    }
    // What is no number is not in the range.
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(fraction.to_string());
    }
    Ok(Some(Compute::from_fraction(fraction)))
}

impl TryFrom<&DeviceNeed> for Need {
    type Error = NeedError;

    fn try_from(need: &DeviceNeed) -> Result<Self, NeedError> {
        let mut checked = Self::new(
            need.count,
            need.memory_fraction,
            need.memory_bytes,
            need.compute_fraction,
        )?;
        if need.filters.len() > MAX_FILTERS {
            return Err(NeedError::Filters(need.filters.len()));
        }
        let filters = need.filters.iter().map(filter);
        checked.filters = filters.collect::<Result<_, _>>()?;
        checked.kind = match DeviceKind::try_from(need.kind).map_err(|_| NeedError::Kind)? {
            DeviceKind::Unspecified => None,
            kind => Some(kind),
        };
        Ok(checked)
    }
}

fn filter(filter: &control_plane::Filter) -> Result<Filter, NeedError> {
    let comparison = match WireComparison::try_from(filter.comparison) {
        Ok(WireComparison::Equal) => Comparison::Equal,
        Ok(WireComparison::AtLeast) => Comparison::AtLeast,
        Ok(WireComparison::AtMost) => Comparison::AtMost,
        Ok(WireComparison::Unspecified) | Err(_) => {
            let key = filter.key.chars().take(40).collect();
            return Err(NeedError::Comparison(key));
        }
    };
    Ok(Filter::new(&filter.key, comparison, &filter.value)?)
}

impl TryFrom<&DeviceRequest> for Need {
    type Error = NeedError;

    fn try_from(request: &DeviceRequest) -> Result<Self, NeedError> {
        Self::new(
            request.count,
            request.memory_fraction,
            request.memory_bytes,
            request.compute_fraction,
        )
    }
}

impl From<&Need> for DeviceNeed {
    fn from(need: &Need) -> Self {
        let (memory_fraction, memory_bytes) = match need.memory {
            Portion::Whole => (0.0, 0),
            Portion::Fraction(fraction) => (fraction.fraction(), 0),
            Portion::Bytes(bytes) => (0.0, bytes),
        };
        Self {
            count: need.count,
            memory_fraction,
            memory_bytes,
            compute_fraction: need.compute.map_or(0.0, Compute::fraction),
            filters: need.filters.iter().map(wire_filter).collect(),
            kind: need.kind.unwrap_or(DeviceKind::Unspecified).into(),
        }
    }
}

fn wire_filter(filter: &Filter) -> control_plane::Filter {
    let comparison = match filter.comparison() {
        Comparison::Equal => WireComparison::Equal,
        Comparison::AtLeast => WireComparison::AtLeast,
        Comparison::AtMost => WireComparison::AtMost,
    };
    control_plane::Filter {
        key: filter.key().name().to_owned(),
        comparison: comparison.into(),
        value: filter.text().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(count: u32, memory_fraction: f64, memory_bytes: u64, compute: f64) -> DeviceNeed {
        DeviceNeed {
            count,
            memory_fraction,
            memory_bytes,
            compute_fraction: compute,
            ..DeviceNeed::default()
        }
    }

    #[test]
    fn nothing_said_is_one_whole_device() {
        assert_eq!(Need::try_from(&DeviceNeed::default()), Ok(Need::whole(1)));
        let one = Need::try_from(&wire(2, 1.0, 0, 0.0)).expect("a need");
        assert_eq!(one, Need::whole(2));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let error = |need: DeviceNeed| Need::try_from(&need).expect_err("a wrong need").to_string();
        assert!(error(wire(1, 1.5, 0, 0.0)).contains("1.5"));
        assert!(error(wire(1, -0.5, 0, 0.0)).contains("memory fraction"));
        assert!(error(wire(1, f64::NAN, 0, 0.0)).contains("NaN"));
        assert!(error(wire(1, 0.5, 1, 0.0)).contains("not both"));
        assert!(error(wire(1, 0.0, 0, f64::INFINITY)).contains("compute fraction"));
        assert!(error(wire(65, 0.0, 0, 0.0)).contains("65 devices"));
        let odd = control_plane::Filter {
            key: "device.name".to_owned(),
            comparison: 9,
            value: "x".to_owned(),
        };
        let filters = vec![odd];
        assert!(
            error(DeviceNeed {
                filters,
                ..wire(1, 0.0, 0, 0.0)
            })
            .contains(">=")
        );
    }

    #[test]
    fn thirds_fit_three_times() {
        let third = Compute::from_fraction(1.0 / 3.0);
        assert!(third + third + third <= Compute::WHOLE);
        assert_eq!(Compute::from_fraction(0.29).millionths(), 290_000);
    }

    proptest! {
        #[test]
        fn a_need_travels_there_and_back(count in 0_u32..80, fraction in 0.0..1.2_f64, bytes in 0_u64..4, compute in 0.0..1.2_f64) {
            if let Ok(need) = Need::try_from(&wire(count, fraction, bytes, compute)) {
                prop_assert_eq!(Need::try_from(&DeviceNeed::from(&need)), Ok(need));
            }
        }
    }
}
