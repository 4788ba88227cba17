//! Sizes of memory as people write them: `16GiB`, `512MiB`, `1.5G`, and a bare number of MiB.
//!
//! Rules: units are powers of 1024 and may lack `iB` or `B`; case does not matter; a size is whole bytes, and not 0.

use std::fmt;

/// Bytes of a MiB: the unit of a bare number.
pub const MIB: u64 = 1024 * 1024;

/// Units, and how many bytes each is.
const UNITS: [(&str, u64); 4] = [
    ("k", 1024),
    ("m", MIB),
    ("g", 1024 * MIB),
    ("t", 1024 * 1024 * MIB),
];

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: write a number of MiB, or one with a unit, such as 512MiB or 16GiB")]
pub struct SizeError(String);

/// The bytes that a text says.
///
/// # Errors
/// It is no number above 0 with a known unit, or too large.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    bytes(text.trim()).ok_or_else(|| SizeError(text.to_owned()))
}

fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit_bytes(unit.trim_start())?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 6 {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(part.len()).ok()?);
    let part: u64 = part.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let bytes = u128::from(whole) * u128::from(unit)
        + u128::from(part) * u128::from(unit) / u128::from(scale);
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

fn unit_bytes(unit: &str) -> Option<u64> {
    if unit.is_empty() {
        return Some(MIB);
    }
    let unit = unit.to_ascii_lowercase();
    let letter = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    UNITS
        .iter()
        .find(|(name, _)| *name == letter)
        .map(|(_, bytes)| *bytes)
}

/// Bytes for people: in the largest unit that leaves at least one of it, with at most one decimal.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let place = UNITS.iter().rposition(|(_, unit)| self.0 >= *unit);
        let Some(place) = place else {
            return write!(out, "{} B", self.0);
        };
        let unit = UNITS[place].1;
        let (whole, tenth) = (self.0 / unit, self.0 % unit * 10 / unit);
        match tenth {
            0 => write!(out, "{whole} {}", NAMES[place]),
            _ => write!(out, "{whole}.{tenth} {}", NAMES[place]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("512", 512 * MIB),
            ("512MiB", 512 * MIB),
            ("1.5g", 1536 * MIB),
            ("16 GB", 16 * 1024 * MIB),
            ("4k", 4096),
            ("1TiB", 1024 * 1024 * MIB),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "0",
            "GiB",
            "1e3",
            "-1",
            "1.",
            ".5",
            "1.1.1",
            "5 cats",
            "99999999TiB",
            "5ib",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_told_in_a_fitting_unit() {
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(Bytes(16 * 1024 * MIB).to_string(), "16 GiB");
        assert_eq!(Bytes(1536 * MIB).to_string(), "1.5 GiB");
    }
}
