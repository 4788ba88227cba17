//! Device `printf`: C's format language on arguments packed in memory.

use super::services::View;

/// Widest field and precision that are honoured.
const MAX_FIELD: usize = 4096;

/// The packed arguments of one call: each at the next multiple of its size.
pub(crate) struct Arguments<'v, 'c, 'a> {
    view: &'v View<'c, 'a>,
    position: u64,
}

impl<'v, 'c, 'a> Arguments<'v, 'c, 'a> {
    /// Arguments at generic address `buffer`.
    pub(crate) fn new(view: &'v View<'c, 'a>, buffer: u64) -> Self {
        Arguments {
            view,
            position: buffer,
        }
    }

    /// How many arguments `text` takes: what `printf` returns on a device.
    pub(crate) fn count_in(&self, text: &[u8]) -> u32 {
        let mut count = 0;
        let mut rest = text;
        while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
            let (directive, used) = Directive::parse(&rest[at + 1..]);
            count += u32::from(directive.conversion != b'%')
                + u32::from(directive.width == Size::Argument)
                + u32::from(directive.precision == Size::Argument);
            rest = &rest[at + 1 + used..];
        }
        count
    }

    fn word(&mut self) -> Option<u32> {
        let bytes = self.view.read::<4>(self.position)?;
        self.position += 4;
        Some(u32::from_le_bytes(bytes))
    }

    fn long(&mut self) -> Option<u64> {
        self.position = self.position.checked_next_multiple_of(8)?;
        let bytes = self.view.read::<8>(self.position)?;
        self.position += 8;
        Some(u64::from_le_bytes(bytes))
    }
}

/// A width or precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Absent,
    Number(usize),
    Argument,
}

/// One `%…` of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Directive {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: Size,
    precision: Size,
    long: bool,
    short: u8,
    /// `%` when there is none.
    conversion: u8,
}

impl Directive {
    /// Parses what follows `%`; gives the number of bytes used.
    fn parse(text: &[u8]) -> (Directive, usize) {
        let mut directive = Directive {
            left: false,
            plus: false,
            space: false,
            alternate: false,
            zero: false,
            width: Size::Absent,
            precision: Size::Absent,
            long: false,
            short: 0,
            conversion: b'%',
        };
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'-' => directive.left = true,
                b'+' => directive.plus = true,
                b' ' => directive.space = true,
                b'#' => directive.alternate = true,
                b'0' => directive.zero = true,
                _ => break,
            }
            at += 1;
        }
        directive.width = size(text, &mut at);
        if text.get(at) == Some(&b'.') {
            at += 1;
            directive.precision = size(text, &mut at);
            if directive.precision == Size::Absent {
                directive.precision = Size::Number(0);
            }
        }
        while let Some(&byte) = text.get(at) {
            match byte {
                b'l' | b'j' | b'z' | b't' | b'L' => directive.long = true,
                b'h' => directive.short += 1,
                _ => break,
            }
            at += 1;
        }
        if let Some(&conversion) = text.get(at) {
            directive.conversion = conversion;
            at += 1;
        }
        (directive, at)
    }

    /// Pads `digits` with what precedes them to the field's width.
    fn pad(&self, prefix: &str, digits: &[u8], zero: bool, output: &mut Vec<u8>) {
        let Size::Number(width) = self.width else {
            output.extend_from_slice(prefix.as_bytes());
            output.extend_from_slice(digits);
            return;
        };
        let fill = width.saturating_sub(prefix.len() + digits.len());
        let (before, zeros, after) = match (self.left, zero) {
            (true, _) => (0, 0, fill),
            (false, true) => (0, fill, 0),
            (false, false) => (fill, 0, 0),
        };
        output.resize(output.len() + before, b' ');
        output.extend_from_slice(prefix.as_bytes());
        output.resize(output.len() + zeros, b'0');
        output.extend_from_slice(digits);
        output.resize(output.len() + after, b' ');
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn integer(&self, prefix: &str, mut digits: String, output: &mut Vec<u8>) {
        if let Size::Number(precision) = self.precision {
            if precision == 0 && digits == "0" {
                digits.clear();
            }
            digits.insert_str(0, &"0".repeat(precision.saturating_sub(digits.len())));
        }
        let zero = self.zero && self.precision == Size::Absent;
        self.pad(prefix, digits.as_bytes(), zero, output);
    }

    fn float(&self, value: f64, output: &mut Vec<u8>) {
        let upper = self.conversion.is_ascii_uppercase();
        let sign = self.sign(value.is_sign_negative());
        let magnitude = value.abs();
        let finite = magnitude.is_finite();
        let precision = if let Size::Number(precision) = self.precision {
            precision
        } else {
            6
        };
        let mut text = match self.conversion.to_ascii_lowercase() {
            _ if magnitude.is_nan() => "nan".to_owned(),
            _ if !finite => "inf".to_owned(),
            b'e' => exponent_form(magnitude, precision),
            b'g' => general_form(magnitude, precision, self.alternate),
            b'a' => hexadecimal_form(magnitude),
            _ => format!("{magnitude:.precision$}"),
        };
        if upper {
            text.make_ascii_uppercase();
        }
        self.pad(sign, text.as_bytes(), self.zero && finite, output);
    }
}

fn size(text: &[u8], at: &mut usize) -> Size {
    if text.get(*at) == Some(&b'*') {
        *at += 1;
        return Size::Argument;
    }
    let start = *at;
    let mut number = 0usize;
    while let Some(digit) = text.get(*at).filter(|byte| byte.is_ascii_digit()) {
        number = (number * 10 + usize::from(digit - b'0')).min(MAX_FIELD);
        *at += 1;
    }
    if *at == start {
        Size::Absent
    } else {
        Size::Number(number)
    }
}

fn exponent_form(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn general_form(value: f64, precision: usize, alternate: bool) -> String {
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, digits)| digits.parse().ok())
        .unwrap_or(0);
    let trim = |text: &str| -> String {
        if alternate || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if exponent < -4 || exponent >= precision as i32 {
        let text = exponent_form(value, precision - 1);
        let (mantissa, rest) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{rest}", trim(mantissa));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

fn hexadecimal_form(value: f64) -> String {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    let (lead, exponent) = match (exponent, fraction) {
        (0, 0) => (0, 0),
        (0, _) => (0, -1022),
        _ => (1, exponent - 1023),
    };
    let digits = format!("{fraction:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x{lead}{point}{digits}p{exponent:+}")
}

/// What `text` with `arguments` writes. Arguments that cannot be read end it.
pub(crate) fn format(text: &[u8], arguments: &mut Arguments<'_, '_, '_>) -> Vec<u8> {
    let mut output = Vec::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        output.extend_from_slice(&rest[..at]);
        let (directive, used) = Directive::parse(&rest[at + 1..]);
        if convert(directive, &rest[at..at + 1 + used], arguments, &mut output).is_none() {
            return output;
        }
        rest = &rest[at + 1 + used..];
    }
    output.extend_from_slice(rest);
    output
}

/// Writes one directive; `source` is its text. `None` when an argument is missing.
fn convert(
    mut directive: Directive,
    source: &[u8],
    arguments: &mut Arguments<'_, '_, '_>,
    output: &mut Vec<u8>,
) -> Option<()> {
    resolve_sizes(&mut directive, arguments)?;
    match directive.conversion {
        b'%' => output.push(b'%'),
        b'd' | b'i' => {
            let value = match (directive.long, directive.short) {
                (true, _) => arguments.long()? as i64,
                (false, 0) => i64::from(arguments.word()? as i32),
                (false, 1) => i64::from(arguments.word()? as i16),
                (false, _) => i64::from(arguments.word()? as i8),
            };
            directive.integer(
                directive.sign(value < 0),
                value.unsigned_abs().to_string(),
                output,
            );
        }
        b'u' | b'x' | b'X' | b'o' => unsigned(directive, arguments, output)?,
        b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
            directive.float(f64::from_bits(arguments.long()?), output);
        }
        b'c' => directive.pad("", &[arguments.word()? as u8], false, output),
        b's' => {
            let address = arguments.long()?;
            let text = if address == 0 {
                b"(null)".to_vec()
            } else {
                arguments.view.string(address)?
            };
            let length = if let Size::Number(precision) = directive.precision {
                precision
            } else {
                text.len()
            };
            directive.pad("", &text[..length.min(text.len())], false, output);
        }
        b'p' => {
            let address = arguments.long()?;
            let text = if address == 0 {
                "(nil)".to_owned()
            } else {
                format!("{address:#x}")
            };
            directive.pad("", text.as_bytes(), false, output);
        }
        _ => output.extend_from_slice(source),
    }
    Some(())
}

fn unsigned(
    directive: Directive,
    arguments: &mut Arguments<'_, '_, '_>,
    output: &mut Vec<u8>,
) -> Option<()> {
    let value = match (directive.long, directive.short) {
        (true, _) => arguments.long()?,
        (false, 0) => u64::from(arguments.word()?),
        (false, 1) => u64::from(arguments.word()? as u16),
        (false, _) => u64::from(arguments.word()? as u8),
    };
    let (prefix, digits) = match directive.conversion {
        b'x' => ("0x", format!("{value:x}")),
        b'X' => ("0X", format!("{value:X}")),
        b'o' => ("0", format!("{value:o}")),
        _ => ("", value.to_string()),
    };
    let prefix = if directive.alternate && value != 0 {
        prefix
    } else {
        ""
    };
    directive.integer(prefix, digits, output);
    Some(())
}

/// Takes `*` widths and precisions from the arguments.
fn resolve_sizes(directive: &mut Directive, arguments: &mut Arguments<'_, '_, '_>) -> Option<()> {
    if directive.width == Size::Argument {
        let width = arguments.word()? as i32;
        directive.left |= width < 0;
        directive.width = Size::Number((width.unsigned_abs() as usize).min(MAX_FIELD));
    }
    if directive.precision == Size::Argument {
        let precision = arguments.word()? as i32;
        directive.precision = usize::try_from(precision)
            .map_or(Size::Absent, |number| Size::Number(number.min(MAX_FIELD)));
    }
    Some(())
}
