//! What devices and servers must be like: `device.name=*V100*`, `device.phy-memory>=16GiB`.
//!
//! What: a filter is a key, a comparison and a value; here it is read and checked. Why here: the launcher reads what a person
//! types, the server what travels, and both must say the same of the same text. Whether a device passes is decided by the pool.
//! Rules: names compare without regard to case and `*` stands for anything; versions compare by their dotted numbers, as many as
//! the filter says (`=580` holds for 580.82.07); a key has the comparisons that mean something for it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::limits::MAX_FILTER_VALUE_BYTES;
use crate::size;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// The address by which the client reaches the server; only the client knows it.
    ServerAddress,
    /// The server machine's name.
    ServerHostname,
    /// Whether the server can be reached by RDMA.
    ServerHasRdma,
    /// The release of the server's driver, such as 580.82.07.
    ServerDriverVersion,
    /// The newest CUDA that the server's driver knows, such as 13.0.
    ServerCudaVersion,
    /// A device's UUID, or its number on the server.
    DeviceId,
    /// A device's name.
    DeviceName,
    /// A device's whole memory, as its driver reports it.
    DeviceMemory,
}

/// Every key and its name.
const KEYS: [(Key, &str); 8] = [
    (Key::ServerAddress, "server.addr"),
    (Key::ServerHostname, "server.hostname"),
    (Key::ServerHasRdma, "server.has-rdma"),
    (Key::ServerDriverVersion, "server.driver-version"),
    (Key::ServerCudaVersion, "server.cuda-version"),
    (Key::DeviceId, "device.id"),
    (Key::DeviceName, "device.name"),
    (Key::DeviceMemory, "device.phy-memory"),
];

impl Key {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        KEYS.iter()
            .find(|(key, _)| *key == self)
            .map_or("", |(_, name)| name)
    }

    fn has_order(self) -> bool {
        matches!(
            self,
            Self::ServerDriverVersion | Self::ServerCudaVersion | Self::DeviceMemory
        )
    }
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
}

impl Comparison {
    /// As it is typed.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
        }
    }

    /// Whether what is there stands so to what was asked for.
    #[must_use]
    pub const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::AtLeast => order.is_ge(),
            Self::AtMost => order.is_le(),
        }
    }
}

/// Dotted numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(Vec<u32>);

/// Most numbers of a version.
const MAX_VERSION_NUMBERS: usize = 8;

impl Version {
    /// From a driver's number: 12040 is 12.4.
    #[must_use]
    pub fn of_driver(number: i32) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        Self(vec![number / 1000, number % 1000 / 10])
    }

    /// How this version stands to what a filter says, by as many numbers as that has.
    #[must_use]
    pub fn stands_to(&self, asked: &Self) -> Ordering {
        let mine = self.0.iter().copied().chain(std::iter::repeat(0));
        mine.take(asked.0.len()).cmp(asked.0.iter().copied())
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |part: &str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten().ok_or(())
        };
        let numbers: Vec<u32> = text
            .split('.')
            .take(MAX_VERSION_NUMBERS + 1)
            .map(number)
            .collect::<Result<_, _>>()?;
        (numbers.len() <= MAX_VERSION_NUMBERS)
            .then_some(Self(numbers))
            .ok_or(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        out.write_str(&numbers.join("."))
    }
}

/// A name in which `*` stands for anything; case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// From text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a name is so.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.to_lowercase(), name.to_lowercase());
        let mut parts = pattern.split('*');
        let first = parts.next().unwrap_or("");
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(place) = rest.find(part) else {
                return false;
            };
            rest = &rest[place + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// Which device `device.id` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceId {
    /// Its number on the server.
    Ordinal(u32),
    /// Its UUID.
    Uuid([u8; 16]),
}

impl FromStr for DeviceId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Ordinal).map_err(|_| ());
        }
        let text = text
            .strip_prefix("GPU-")
            .or_else(|| text.strip_prefix("gpu-"))
            .unwrap_or(text);
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(());
        }
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self::Uuid(uuid))
    }
}

/// What it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Exactly this text.
    Text(String),
    /// A name.
    Pattern(Pattern),
    /// Yes or no.
    Flag(bool),
    /// A version.
    Version(Version),
    /// Bytes.
    Bytes(u64),
    /// A device.
    Device(DeviceId),
}

/// A checked filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    key: Key,
    comparison: Comparison,
    value: Value,
    text: String,
}

/// Why a filter is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No comparison in it.
    #[error("filter '{0}': write KEY=VALUE, KEY>=VALUE or KEY<=VALUE")]
    NoComparison(String),
    /// A key that does not exist.
    #[error("filter '{0}': no such key. The keys are {keys}", keys = known_keys())]
    UnknownKey(String),
    /// A comparison that means nothing for the key.
    #[error("filter '{}{}…': {} can only be compared with =", .0.name(), .1.symbol(), .0.name())]
    NoOrder(Key, Comparison),
    /// A value that the key cannot have.
    #[error("filter {}: '{value}' is not {expected}", .key.name())]
    Value {
        /// Whose.
        key: Key,
        /// What was said.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value that is too long.
    #[error("filter {}: the value is longer than {MAX_FILTER_VALUE_BYTES} bytes", .0.name())]
    TooLong(Key),
}

fn known_keys() -> String {
    KEYS.map(|(_, name)| name).join(", ")
}

impl Filter {
    /// From its parts, as they travel.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new(key: &str, comparison: Comparison, value: &str) -> Result<Self, FilterError> {
        let (key, value) = (key.trim(), value.trim());
        let known = KEYS
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(key))
            .ok_or_else(|| FilterError::UnknownKey(shortened(key)))?;
        let key = known.0;
        if comparison != Comparison::Equal && !key.has_order() {
            return Err(FilterError::NoOrder(key, comparison));
        }
        if value.len() > MAX_FILTER_VALUE_BYTES {
            return Err(FilterError::TooLong(key));
        }
        let parsed = parse_value(key, value).map_err(|expected| FilterError::Value {
            key,
            value: value.to_owned(),
            expected,
        })?;
        Ok(Self {
            key,
            comparison,
            value: parsed,
            text: value.to_owned(),
        })
    }

    /// What is compared.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// How.
    #[must_use]
    pub const fn comparison(&self) -> Comparison {
        self.comparison
    }

    /// With what.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// With what, as it was written: this travels.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let none = || FilterError::NoComparison(shortened(text));
        let place = text.find(['=', '<', '>']).ok_or_else(none)?;
        let (key, rest) = text.split_at(place);
        let comparisons = [Comparison::Equal, Comparison::AtLeast, Comparison::AtMost];
        let (comparison, value) = comparisons
            .into_iter()
            .find_map(|one| Some((one, rest.strip_prefix(one.symbol())?)))
            .ok_or_else(none)?;
        Self::new(key, comparison, value)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, comparison) = (self.key.name(), self.comparison.symbol());
        write!(out, "{key}{comparison}{}", self.text)
    }
}

fn parse_value(key: Key, text: &str) -> Result<Value, &'static str> {
    if text.is_empty() {
        return Err("a value");
    }
    match key {
        Key::ServerAddress => Ok(Value::Text(text.to_owned())),
        Key::ServerHostname | Key::DeviceName => Ok(Value::Pattern(Pattern::new(text))),
        Key::ServerHasRdma => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" => Ok(Value::Flag(true)),
            "false" | "no" => Ok(Value::Flag(false)),
            _ => Err("true or false"),
        },
        Key::ServerDriverVersion | Key::ServerCudaVersion => text
            .parse()
            .map(Value::Version)
            .map_err(|()| "a version such as 12.4"),
        Key::DeviceId => text
            .parse()
            .map(Value::Device)
            .map_err(|()| "a device's number or UUID"),
        Key::DeviceMemory => size::parse_bytes(text)
            .map(Value::Bytes)
            .map_err(|_| "a size: a number of MiB, or one with a unit, such as 16GiB"),
    }
}

/// A text of a peer as far as it is fit for a message.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn filters_are_read_as_they_are_typed() {
        let one = filter("device.phy-memory>=16GiB");
        assert_eq!(one.key(), Key::DeviceMemory);
        assert_eq!(one.comparison(), Comparison::AtLeast);
        assert_eq!(*one.value(), Value::Bytes(16 << 30));
        assert_eq!(one.to_string(), "device.phy-memory>=16GiB");
        assert_eq!(*filter("server.has-rdma=yes").value(), Value::Flag(true));
        assert_eq!(filter("device.name=A=B").text(), "A=B");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Filter::from_str(text).expect_err(text).to_string();
        assert!(error("device.nam=x").contains("device.phy-memory"));
        assert!(error("device.name").contains("KEY>=VALUE"));
        assert!(error("device.phy-memory>16").contains("KEY>=VALUE"));
        assert!(error("device.name>=x").contains("only be compared with ="));
        assert!(error("device.phy-memory=big").contains("'big' is not a size"));
        assert!(error("server.cuda-version>=new").contains("a version"));
        assert!(error("server.cuda-version>=12..4").contains("a version"));
        assert!(error("device.id=GPU-12").contains("UUID"));
        assert!(error("device.name=").contains("a value"));
    }

    #[test]
    fn versions_compare_by_as_many_numbers_as_are_said() {
        let release: Version = "580.82.07".parse().expect("a version");
        let stands = |asked: &str| release.stands_to(&asked.parse().expect("a version"));
        assert_eq!(stands("580"), Ordering::Equal);
        assert_eq!(stands("580.9"), Ordering::Greater);
        assert_eq!(stands("580.82.7"), Ordering::Equal);
        assert_eq!(stands("580.82.7.1"), Ordering::Less);
        assert_eq!(Version::of_driver(12040).to_string(), "12.4");
    }

    #[test]
    fn patterns_match_whole_names_without_case() {
        let is = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        assert!(is("tesla v100*", "Tesla V100-SXM2-16GB"));
        assert!(is("*V100*16*", "Tesla V100-SXM2-16GB"));
        assert!(!is("v100", "Tesla V100"));
        assert!(!is("a*a", "a"));
        assert!(is("*", ""));
        assert!(!is("ab*ba", "aba"));
        assert!(is("ab**ba", "abba"));
    }

    proptest! {
        #[test]
        fn a_filter_reads_back_what_it_prints(text in "(device|server)[.](name|id|phy-memory|cuda-version|hostname)(=|>=|<=)[ -~]{0,40}") {
            if let Ok(filter) = Filter::from_str(&text) {
                prop_assert_eq!(Filter::from_str(&filter.to_string()), Ok(filter));
            }
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}", name in "\\PC{0,60}") {
            let _ = Filter::from_str(&text);
            let _ = Pattern::new(&text).matches(&name);
        }
    }
}
