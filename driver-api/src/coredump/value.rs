//! How the value of an attribute crosses the C ABI.
//!
//! *Rules:* a place for a value is at least as large as the value; a null place asks for how large it has to be. Of names the NUL at the end may be there or not.
//!
//! # Safety
//! A place is null, or has as many bytes as its size says.
#![expect(unsafe_code, reason = "values of a C ABI")]

use core::ffi::c_void;

use super::Setting;
use crate::result::CUresult;

/// Most bytes of a name, and of its end.
const NAME_BYTES: usize = 1024;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A `bool`.
    Bool(bool),
    /// An `int` of bits.
    Flags(u32),
    /// A name, without its end.
    Text(Vec<u8>),
}

/// The bytes that a place needs for any value of an attribute.
const fn bytes_of(setting: Setting) -> usize {
    match setting {
        Setting::EnableOnException
        | Setting::TriggerHost
        | Setting::Lightweight
        | Setting::EnableUserTrigger => size_of::<bool>(),
        Setting::File | Setting::Pipe => NAME_BYTES,
        Setting::GenerationFlags => size_of::<u32>(),
    }
}

/// The value that a program gives; none if it only asks for its size, which is answered.
///
/// # Safety
/// `size` is null or a place for a size; `value` is null or has as many bytes as that says.
///
/// # Errors
/// INVALID_VALUE: null, too few bytes, no name or too long a one.
pub unsafe fn given(
    setting: Setting,
    value: *const c_void,
    size: *mut usize,
) -> Result<Option<Value>, CUresult> {
    if size.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    let wanted = bytes_of(setting);
    if value.is_null() {
        // SAFETY: not null; the caller's promise.
        unsafe { size.write_unaligned(wanted) };
        return Ok(None);
    }
    // SAFETY: as above.
    let size = unsafe { size.read_unaligned() };
    let is_name = wanted == NAME_BYTES;
    if size < wanted && !is_name {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller's promise; no more than the size is read.
    let bytes = unsafe { core::slice::from_raw_parts(value.cast::<u8>(), size.min(wanted)) };
    if is_name {
        let end = bytes.iter().position(|byte| *byte == 0);
        let name = &bytes[..end.unwrap_or(bytes.len())];
        return match name.len() {
            0 | NAME_BYTES.. => Err(CUresult::INVALID_VALUE),
            _ => Ok(Some(Value::Text(name.to_vec()))),
        };
    }
    Ok(Some(match *bytes {
        [byte] => Value::Bool(byte != 0),
        [a, b, c, d] => Value::Flags(u32::from_le_bytes([a, b, c, d])),
        _ => return Err(CUresult::INVALID_VALUE),
    }))
}

/// Answers a program that asks for a value.
///
/// # Safety
/// As for [`given`].
///
/// # Errors
/// INVALID_VALUE: null, or too few bytes.
pub unsafe fn answer(
    setting: Setting,
    value: *mut c_void,
    size: *mut usize,
    get: impl FnOnce() -> Value,
) -> Result<(), CUresult> {
    if size.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    if value.is_null() {
        // SAFETY: not null; the caller's promise.
        unsafe { size.write_unaligned(bytes_of(setting)) };
        return Ok(());
    }
    let bytes = match get() {
        Value::Bool(is_set) => vec![u8::from(is_set)],
        Value::Flags(bits) => bits.to_le_bytes().to_vec(),
        Value::Text(mut name) => {
            name.push(0);
            name
        }
    };
    // SAFETY: not null; the caller's promise.
    if unsafe { size.read_unaligned() } < bytes.len() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the place was found large enough, and the size is not null.
    unsafe {
        bytes
            .as_ptr()
            .copy_to_nonoverlapping(value.cast(), bytes.len());
        size.write_unaligned(bytes.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(setting: Setting, bytes: &[u8]) -> Result<Option<Value>, CUresult> {
        let mut size = bytes.len();
        // SAFETY: a slice and its length.
        unsafe { given(setting, bytes.as_ptr().cast(), &mut size) }
    }

    #[test]
    fn values_are_as_large_as_their_types() {
        let invalid = Err(CUresult::INVALID_VALUE);
        assert_eq!(
            give(Setting::TriggerHost, &[1]),
            Ok(Some(Value::Bool(true)))
        );
        assert_eq!(give(Setting::TriggerHost, &[]), invalid);
        assert_eq!(give(Setting::GenerationFlags, &[1, 0, 0]), invalid);
        assert_eq!(
            give(Setting::GenerationFlags, &[1, 2, 0, 0]),
            Ok(Some(Value::Flags(0x201)))
        );
        for name in [&b"name\0more"[..], b"name"] {
            let given = give(Setting::File, name);
            assert_eq!(given, Ok(Some(Value::Text(b"name".to_vec()))));
        }
        assert_eq!(give(Setting::File, b"\0"), invalid);
        assert_eq!(give(Setting::File, &[b'x'; 1024]), invalid);
        assert!(give(Setting::File, &[b'x'; 1023]).is_ok());
    }

    #[test]
    fn an_answer_fits_or_is_not_given() {
        let mut place = [0x77_u8; 8];
        let mut ask = |size: usize| {
            let mut asked = size;
            let name = || Value::Text(b"abc".to_vec());
            // SAFETY: the place has more bytes than are said.
            let result =
                unsafe { answer(Setting::File, place.as_mut_ptr().cast(), &mut asked, name) };
            (result, asked, place)
        };
        assert_eq!(ask(3).0, Err(CUresult::INVALID_VALUE));
        let (result, size, place) = ask(4);
        assert_eq!((result, size), (Ok(()), 4));
        assert_eq!(place, *b"abc\0\x77\x77\x77\x77");
    }
}
