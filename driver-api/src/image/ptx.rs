//! PTX text, as far as a launch needs it: the parameters of each `.entry`.
//!
//! Only headers are read; bodies are skipped without being understood, so this works on PTX of any version.

use super::elf::{Kernel, Parameter};
use super::{ImageError, MAX_KERNEL_PARAMETERS, MAX_PARAMETER_BYTES, MAX_PTX_BYTES, bounded};

/// Whether PTX text can begin with this byte.
pub(super) fn may_start_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// Whether this can be PTX at all: starts like text and is not too long.
pub(super) fn check_text(text: &[u8]) -> Result<(), ImageError> {
    if !text.first().copied().is_some_and(may_start_text) {
        return Err(ImageError::UnknownFormat);
    }
    bounded("length of the PTX text", text.len() as u64, MAX_PTX_BYTES)?;
    Ok(())
}

/// The kernels that a PTX text defines or declares, with the layout of their parameters.
///
/// # Errors
///
/// [`ImageError`] if the header of an entry cannot be read.
pub fn kernels(text: &[u8]) -> Result<Vec<Kernel>, ImageError> {
    let mut tokens = Tokens { text, at: 0 };
    let mut kernels = Vec::new();
    while let Some(token) = tokens.next() {
        if token != b".entry" {
            continue;
        }
        let name = tokens
            .next()
            .filter(|name| is_name(name))
            .ok_or(MALFORMED)?;
        let name = String::from_utf8_lossy(name).into_owned();
        let mut ahead = tokens.clone();
        let parameters = if ahead.next() == Some(b"(") {
            tokens = ahead;
            parameter_list(&mut tokens)?
        } else {
            Vec::new()
        };
        kernels.push(Kernel { name, parameters });
    }
    Ok(kernels)
}

const MALFORMED: ImageError = ImageError::Malformed("the header of a PTX entry");

/// Reads up to the closing parenthesis and lays the parameters out one behind the other.
fn parameter_list(tokens: &mut Tokens<'_>) -> Result<Vec<Parameter>, ImageError> {
    let mut parameters = Vec::new();
    let mut end = 0u32;
    loop {
        let mut shape = Shape::default();
        let closed = loop {
            match tokens.next().ok_or(MALFORMED)? {
                b"," => break false,
                b")" => break true,
                token => shape.take(token, tokens)?,
            }
        };
        let Some((size, align)) = shape.finish(closed && parameters.is_empty())? else {
            return Ok(parameters);
        };
        let offset = end.checked_next_multiple_of(align).ok_or(MALFORMED)?;
        end = offset
            .checked_add(size)
            .filter(|&end| end <= MAX_PARAMETER_BYTES)
            .ok_or(MALFORMED)?;
        bounded(
            "number of parameters",
            parameters.len() as u64,
            MAX_KERNEL_PARAMETERS - 1,
        )?;
        parameters.push(Parameter { offset, size });
        if closed {
            return Ok(parameters);
        }
    }
}

/// What has been read of one parameter's declaration.
#[derive(Default)]
struct Shape {
    element: Option<u32>,
    align: Option<u32>,
    count: Option<u32>,
    /// After `.ptr`, an alignment is that of what is pointed to.
    pointer: bool,
    any: bool,
}

impl Shape {
    fn take(&mut self, token: &[u8], tokens: &mut Tokens<'_>) -> Result<(), ImageError> {
        self.any = true;
        match token {
            b".ptr" => self.pointer = true,
            b".align" => {
                let align = number(tokens.next())?;
                if !align.is_power_of_two() || align > 256 {
                    return Err(MALFORMED);
                }
                if !self.pointer {
                    self.align = Some(align);
                }
            }
            b"[" => {
                let length = tokens.next().ok_or(MALFORMED)?;
                if length != b"]" {
                    let length = number(Some(length))?;
                    self.count = Some(
                        self.count
                            .unwrap_or(1)
                            .checked_mul(length)
                            .ok_or(MALFORMED)?,
                    );
                    tokens
                        .next()
                        .filter(|token| token == b"]")
                        .ok_or(MALFORMED)?;
                }
            }
            token => {
                if let Some(size) = type_bytes(token) {
                    self.element = Some(size);
                }
            }
        }
        Ok(())
    }

    /// Size and alignment; none for the empty list `()`.
    fn finish(self, may_be_empty: bool) -> Result<Option<(u32, u32)>, ImageError> {
        if !self.any && may_be_empty {
            return Ok(None);
        }
        let element = self.element.ok_or(MALFORMED)?;
        let size = element
            .checked_mul(self.count.unwrap_or(1))
            .ok_or(MALFORMED)?;
        Ok(Some((size, self.align.unwrap_or(1).max(element))))
    }
}

fn number(token: Option<&[u8]>) -> Result<u32, ImageError> {
    let text = core::str::from_utf8(token.ok_or(MALFORMED)?).map_err(|_| MALFORMED)?;
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| MALFORMED)
}

fn type_bytes(token: &[u8]) -> Option<u32> {
    Some(match token {
        b".b8" | b".u8" | b".s8" => 1,
        b".b16" | b".u16" | b".s16" | b".f16" | b".bf16" => 2,
        b".b32" | b".u32" | b".s32" | b".f32" | b".f16x2" | b".bf16x2" => 4,
        b".b64" | b".u64" | b".s64" | b".f64" | b".texref" | b".samplerref" | b".surfref" => 8,
        b".b128" => 16,
        _ => return None,
    })
}

fn is_name(token: &[u8]) -> bool {
    token
        .first()
        .is_some_and(|&byte| is_word(byte) && byte != b'.' && !byte.is_ascii_digit())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// Words and single punctuation characters, with comments and strings skipped.
#[derive(Clone)]
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        self.skip_blank();
        let start = self.at;
        let first = *self.text.get(start)?;
        self.at += 1;
        if is_word(first) {
            // A dot begins a new word: `.param.u64` is two.
            while self
                .text
                .get(self.at)
                .is_some_and(|&byte| is_word(byte) && byte != b'.')
            {
                self.at += 1;
            }
        } else if first == b'"' {
            self.skip_past(b"\"");
        }
        Some(&self.text[start..self.at])
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with(b"//") {
                self.skip_past(b"\n");
            } else if rest.starts_with(b"/*") {
                self.at += 2;
                self.skip_past(b"*/");
            } else if rest.first().is_some_and(u8::is_ascii_whitespace) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn skip_past(&mut self, end: &[u8]) {
        let rest = &self.text[self.at..];
        let found = rest.windows(end.len()).position(|window| window == end);
        self.at = found.map_or(self.text.len(), |position| self.at + position + end.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &[u8] = include_bytes!("testdata/sample.ptx");

    fn layout(text: &str) -> Vec<(u32, u32)> {
        let kernels = kernels(text.as_bytes()).unwrap();
        kernels[0]
            .parameters
            .iter()
            .map(|p| (p.offset, p.size))
            .collect()
    }

    #[test]
    fn the_compiler_s_entries_are_found() {
        let names: Vec<_> = kernels(SAMPLE)
            .unwrap()
            .into_iter()
            .map(|kernel| kernel.name)
            .collect();
        assert_eq!(names, ["saxpy", "takes", "none"]);
    }

    #[test]
    fn layouts_of_every_kind_of_declaration() {
        assert_eq!(layout(".entry k { ret; }"), []);
        assert_eq!(layout(".visible .entry k() { ret; }"), []);
        assert_eq!(
            layout(".entry k(.param .u8 a, .param .align 8 .b8 b[24], .param .u16 c)"),
            [(0, 1), (8, 24), (32, 2)]
        );
        assert_eq!(
            layout(".entry k(.param.u32 a,.param.u64 .ptr.global.align 1 b)"),
            [(0, 4), (8, 8)]
        );
        assert_eq!(
            layout("// .entry no(\n/* .entry no( */ .entry k(.param .f32 a // x\n)"),
            [(0, 4)]
        );
        assert_eq!(
            layout(".entry k(.param .align 4 .b8 a[0x10][2])"),
            [(0, 32)]
        );
    }

    #[test]
    fn broken_headers_are_errors() {
        for text in [
            ".entry",
            ".entry (",
            ".entry k(",
            ".entry k(.param .u32 a",
            ".entry k(.param .what a)",
            ".entry 9k",
        ] {
            assert!(kernels(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([ (){},\\[\\].a-z0-9/*\"\n]|\\.entry|\\.param|\\.align|\\.u64){0,120}") {
            let _ = kernels(text.as_bytes());
        }

        #[test]
        fn mutated_text_is_survived(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut text = SAMPLE.to_vec();
            for (index, byte) in changes {
                let length = text.len();
                text[index.index(length)] = byte;
            }
            let _ = kernels(&text);
        }
    }
}
