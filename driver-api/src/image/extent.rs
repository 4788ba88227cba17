//! Where an image behind a bare pointer ends.
//!
//! # Safety
//!
//! This is the one place that reads memory of which only the start is known. It trusts what the driver itself
//! trusts: that the pointer given to `cuModuleLoadData` is the start of a complete image. It reads headers
//! first, and no byte beyond what the headers read so far announce.

#![expect(
    unsafe_code,
    reason = "an image is handed over as a pointer without a length"
)]

use core::ffi::c_void;
use core::slice;

use super::{
    Container, Fatbin, Image, ImageError, MAX_CHAINED_CONTAINERS, MAX_IMAGE_BYTES, MAX_PTX_BYTES,
    bounded, elf, fatbin, ptx,
};

/// The image that starts at `pointer`, with its end found from its own headers.
///
/// # Safety
///
/// `pointer` is null or the start of a complete module image, as `cuModuleLoadData` demands; the image stays
/// in place and unchanged for `'a`.
///
/// # Errors
///
/// [`ImageError`] if what lies there is not a known format or exceeds a stated maximum.
pub unsafe fn extent<'a>(pointer: *const c_void) -> Result<Image<'a>, ImageError> {
    let start = pointer.cast::<u8>();
    if start.is_null() {
        return Err(ImageError::Null);
    }
    // SAFETY: by this function's contract, all three reads are inside the image: each looks one byte further
    // only while the bytes before it match its magic.
    let (is_wrapper, is_container, is_elf) = unsafe {
        (
            starts_with(start, &fatbin::WRAPPER_MAGIC),
            starts_with(start, &fatbin::CONTAINER_MAGIC),
            starts_with(start, &elf::MAGIC),
        )
    };
    // SAFETY: the magic says which format it is, and the contract that it is complete.
    unsafe {
        if is_wrapper {
            wrapper(start).map(Image::Fatbin)
        } else if is_container {
            let container = container(start)?;
            Ok(Image::Fatbin(Fatbin {
                container,
                prelinked: Vec::new(),
            }))
        } else if is_elf {
            elf_file(start).map(Image::Elf)
        } else {
            text(start).map(Image::Ptx)
        }
    }
}

/// # Safety
///
/// The bytes from `start` up to the first that differs from `magic` are readable.
unsafe fn starts_with(start: *const u8, magic: &[u8]) -> bool {
    // SAFETY: `all` stops at the first difference, so nothing beyond it is read.
    magic
        .iter()
        .enumerate()
        .all(|(index, &byte)| unsafe { start.add(index).read() } == byte)
}

/// The layout of `__fatBinC_Wrapper_t`, as nvcc emits it.
#[repr(C)]
struct Wrapper {
    magic: u32,
    version: u32,
    container: *const u8,
    prelinked: *const *const u8,
}

/// # Safety
///
/// `start` is a fatbin wrapper.
unsafe fn wrapper<'a>(start: *const u8) -> Result<Fatbin<'a>, ImageError> {
    // SAFETY: a wrapper is this struct; alignment is not relied upon.
    let wrapper = unsafe { start.cast::<Wrapper>().read_unaligned() };
    debug_assert_eq!(wrapper.magic.to_le_bytes(), fatbin::WRAPPER_MAGIC);
    if wrapper.container.is_null() {
        return Err(ImageError::Malformed("the wrapper points nowhere"));
    }
    // SAFETY: the wrapper's pointer is a container, or nothing in it can be used anyway.
    let first = unsafe { container(wrapper.container)? };
    let mut prelinked = Vec::new();
    match wrapper.version {
        1 => {}
        2 if wrapper.prelinked.is_null() => {}
        2 => loop {
            // SAFETY: version 2 says that the last field is an array of pointers that ends with a null.
            let next = unsafe { wrapper.prelinked.add(prelinked.len()).read_unaligned() };
            if next.is_null() {
                break;
            }
            bounded(
                "number of chained fatbins",
                prelinked.len() as u64,
                MAX_CHAINED_CONTAINERS - 1,
            )?;
            // SAFETY: each pointer before the null is a container.
            prelinked.push(unsafe { container(next)? });
        },
        _ => {
            return Err(ImageError::Malformed(
                "unknown version of the fatbin wrapper",
            ));
        }
    }
    Ok(Fatbin {
        container: first,
        prelinked,
    })
}

/// # Safety
///
/// `start` is a fatbin container.
unsafe fn container<'a>(start: *const u8) -> Result<Container<'a>, ImageError> {
    // SAFETY: as above; the magic is checked before the rest of the header is read.
    if !unsafe { starts_with(start, &fatbin::CONTAINER_MAGIC) } {
        return Err(ImageError::Malformed(
            "the wrapper does not point to a fatbin",
        ));
    }
    // SAFETY: a container begins with a header of this size.
    let header = unsafe { slice::from_raw_parts(start, fatbin::CONTAINER_HEADER_BYTES) };
    let length = fatbin::container_length(header)?;
    // SAFETY: the header states this length.
    Container::parse(unsafe { slice::from_raw_parts(start, length) })
}

/// # Safety
///
/// `start` is an ELF file.
unsafe fn elf_file<'a>(start: *const u8) -> Result<&'a [u8], ImageError> {
    // SAFETY: an ELF file begins with a header of this size.
    let header = unsafe { slice::from_raw_parts(start, elf::HEADER_BYTES) };
    let tables = elf::tables_end(header)?;
    // SAFETY: the header says that its two tables lie within these bytes.
    let with_tables = unsafe { slice::from_raw_parts(start, tables) };
    let length = elf::length(with_tables)?;
    // SAFETY: the tables say that their contents lie within these bytes.
    Ok(unsafe { slice::from_raw_parts(start, length) })
}

/// # Safety
///
/// `start` is NUL-terminated.
unsafe fn text<'a>(start: *const u8) -> Result<&'a [u8], ImageError> {
    // SAFETY: the first byte exists, even if it is the terminator.
    if !ptx::may_start_text(unsafe { start.read() }) {
        return Err(ImageError::UnknownFormat);
    }
    // SAFETY: `strnlen` stops at the terminator.
    let length = unsafe { length_of_text(start, MAX_PTX_BYTES.min(MAX_IMAGE_BYTES)) }?;
    // SAFETY: the terminator is at `length`, so all before it is readable.
    let text = unsafe { slice::from_raw_parts(start, length) };
    ptx::check_text(text)?;
    Ok(text)
}

/// # Safety
///
/// `start` is NUL-terminated.
unsafe fn length_of_text(start: *const u8, maximum: usize) -> Result<usize, ImageError> {
    // SAFETY: the C string is complete by contract; `CStr` finds its end at the C library's speed.
    let length = unsafe { core::ffi::CStr::from_ptr(start.cast()) }.count_bytes();
    bounded("length of the PTX text", length as u64, maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_refused() {
        // SAFETY: null is allowed.
        let error = unsafe { extent(core::ptr::null()) }.unwrap_err();
        assert_eq!(error, ImageError::Null);
    }

    #[test]
    fn text_ends_at_its_terminator() {
        let text = b".version 8.0\n\0garbage";
        // SAFETY: `text` has a terminator.
        let image = unsafe { extent(text.as_ptr().cast()) }.unwrap();
        assert!(matches!(image, Image::Ptx(found) if found == b".version 8.0\n"));
    }

    #[test]
    fn an_empty_string_is_no_image() {
        // SAFETY: one terminator.
        let error = unsafe { extent(c"".as_ptr().cast()) }.unwrap_err();
        assert_eq!(error, ImageError::UnknownFormat);
    }

    #[test]
    fn wrappers_of_both_versions() {
        let container = fatbin::tests::sample_container();
        let chained = [container.as_ptr(), core::ptr::null()];
        for (version, count) in [(1, 0), (2, 1)] {
            let wrapper = Wrapper {
                magic: 0x4662_43b1,
                version,
                container: container.as_ptr(),
                prelinked: chained.as_ptr(),
            };
            // SAFETY: a complete wrapper with complete containers.
            let image = unsafe { extent((&raw const wrapper).cast()) }.unwrap();
            let Image::Fatbin(found) = image else {
                panic!("a wrapper is a fatbin")
            };
            assert_eq!(found.container.bytes(), &container[..]);
            assert_eq!(found.prelinked.len(), count);
        }
    }

    #[test]
    fn an_elf_file_ends_after_its_last_table() {
        let mut cubin = elf::tests::SAMPLE.to_vec();
        let length = cubin.len();
        cubin.extend_from_slice(&[0xaa; 64]);
        // SAFETY: a complete ELF file.
        let image = unsafe { extent(cubin.as_ptr().cast()) }.unwrap();
        assert!(matches!(image, Image::Elf(found) if found.len() == length));
    }
}
