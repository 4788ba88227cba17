//! Cubins: ELF files with machine code, and what they tell about their kernels.
//!
//! Two things are taken from them. The PTX that a compiler may have left inside (section
//! `.nv_debug_ptx_txt`, with NUL for newline), because the software GPU executes that. And the layout of
//! each kernel's parameters (section `.nv.info.<kernel>`), because `cuLaunchKernel` is told only where they are.

use object::elf::{FileHeader64, PT_LOAD, SHT_NOBITS};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{LittleEndian, ReadRef as _};

use super::{
    ImageError, MAX_IMAGE_BYTES, MAX_KERNEL_PARAMETERS, MAX_PTX_BYTES, bounded, u16_at, u32_at,
};

/// The first bytes of an ELF file.
pub const MAGIC: [u8; 4] = [0x7f, b'E', b'L', b'F'];
/// The size of the header of a 64-bit ELF file.
pub const HEADER_BYTES: usize = 64;

type Header = FileHeader64<LittleEndian>;

/// Where one parameter lies in a kernel's parameter block, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// From the start of the block.
    pub offset: u32,
    /// Its size.
    pub size: u32,
}

/// A kernel and the layout of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The mangled name.
    pub name: String,
    /// In order.
    pub parameters: Vec<Parameter>,
}

fn header(bytes: &[u8]) -> Result<&Header, ImageError> {
    let header: &Header = bytes.read_at(0).map_err(|()| ImageError::Truncated)?;
    if header.is_supported() {
        Ok(header)
    } else {
        Err(ImageError::Malformed("not a 64-bit little-endian ELF file"))
    }
}

/// The end of the section and program header tables, from the file's header alone.
///
/// # Errors
///
/// [`ImageError`] if it is not a 64-bit little-endian ELF file or too large.
pub fn tables_end(bytes: &[u8]) -> Result<usize, ImageError> {
    let header = header(bytes)?;
    let endian = LittleEndian;
    let table = |start: u64, count: u16, entry: u16| {
        let size = u64::from(count) * u64::from(entry);
        if size == 0 {
            Ok(0)
        } else {
            start.checked_add(size).ok_or(ImageError::Truncated)
        }
    };
    let sections = table(
        header.e_shoff(endian),
        header.e_shnum(endian),
        header.e_shentsize(endian),
    )?;
    let segments = table(
        header.e_phoff(endian),
        header.e_phnum(endian),
        header.e_phentsize(endian),
    )?;
    bounded(
        "extent of the ELF file",
        sections.max(segments).max(HEADER_BYTES as u64),
        MAX_IMAGE_BYTES,
    )
}

/// The length of the whole file: the furthest end of a table, a section or a segment.
///
/// # Errors
///
/// [`ImageError`] if the tables are not inside `bytes` or announce too much.
pub fn length(bytes: &[u8]) -> Result<usize, ImageError> {
    let endian = LittleEndian;
    let mut end = tables_end(bytes)? as u64;
    let header = header(bytes)?;
    let malformed = |_| ImageError::Malformed("a table of the ELF file");
    for section in header.section_headers(endian, bytes).map_err(malformed)? {
        if section.sh_type(endian) != SHT_NOBITS {
            let last = section
                .sh_offset(endian)
                .checked_add(section.sh_size(endian));
            end = end.max(last.ok_or(ImageError::Truncated)?);
        }
    }
    for segment in header.program_headers(endian, bytes).map_err(malformed)? {
        if segment.p_type(endian) == PT_LOAD {
            let last = segment
                .p_offset(endian)
                .checked_add(segment.p_filesz(endian));
            end = end.max(last.ok_or(ImageError::Truncated)?);
        }
    }
    bounded("extent of the ELF file", end, MAX_IMAGE_BYTES)
}

/// Every section with its name, those whose name or contents are not inside the file left out.
fn sections(bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, ImageError> {
    let endian = LittleEndian;
    let malformed = |_| ImageError::Malformed("the section table of the ELF file");
    let table = header(bytes)?.sections(endian, bytes).map_err(malformed)?;
    let named = table.iter().filter_map(|section| {
        let name = core::str::from_utf8(table.section_name(endian, section).ok()?).ok()?;
        Some((name, section.data(endian, bytes).ok()?))
    });
    Ok(named.collect())
}

/// The PTX text that the compiler left inside, if it did.
///
/// # Errors
///
/// [`ImageError`] if the file is malformed or the text too long.
pub fn embedded_ptx(bytes: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
    let found = sections(bytes)?
        .into_iter()
        .find(|(name, _)| *name == ".nv_debug_ptx_txt");
    let Some((_, text)) = found else {
        return Ok(None);
    };
    bounded(
        "length of the embedded PTX",
        text.len() as u64,
        MAX_PTX_BYTES,
    )?;
    let lines = text
        .iter()
        .map(|&byte| if byte == 0 { b'\n' } else { byte });
    Ok(Some(lines.collect()))
}

/// Every kernel of the file with the layout of its parameters.
///
/// # Errors
///
/// [`ImageError`] if the file is malformed.
pub fn kernels(bytes: &[u8]) -> Result<Vec<Kernel>, ImageError> {
    let mut kernels = Vec::new();
    for (name, contents) in sections(bytes)? {
        if let Some(kernel) = name.strip_prefix(".nv.info.") {
            kernels.push(Kernel {
                name: kernel.to_owned(),
                parameters: parameters(contents)?,
            });
        }
    }
    Ok(kernels)
}

const FORMAT_HALF: u8 = 3;
const FORMAT_SIZED: u8 = 4;
const EIATTR_MAXREG_COUNT: u8 = 0x1b;
/// What a kernel has that was compiled without a limit.
const UNLIMITED_REGISTERS: u32 = 255;
const EIATTR_KPARAM_INFO: u8 = 0x17;

/// The kernels that were compiled for a limited number of registers, and that number.
///
/// # Errors
///
/// [`ImageError`] if the file is not a sound cubin.
pub fn register_limits(bytes: &[u8]) -> Result<Vec<(String, u32)>, ImageError> {
    let mut limits = Vec::new();
    for (name, info) in sections(bytes)? {
        let Some(kernel) = name.strip_prefix(".nv.info.") else {
            continue;
        };
        for record in records(info) {
            let (format, attribute, value) = record?;
            if (format, attribute) == (FORMAT_HALF, EIATTR_MAXREG_COUNT) {
                let most = u32::from(u16_at(value, 0)?);
                limits.extend((most < UNLIMITED_REGISTERS).then(|| (kernel.to_owned(), most)));
            }
        }
    }
    Ok(limits)
}

/// A record of a `.nv.info.<kernel>` section: its format, its attribute, and its value.
type Record<'b> = (u8, u8, &'b [u8]);

/// The records of a section: a format byte, an attribute byte and, for format 4, a `u16` length and that many bytes; the
/// other formats are four bytes in all, of which the last two are the value.
fn records(info: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ImageError>> {
    let mut rest = info;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_at_checked(4)?;
        let length = match head[0] {
            FORMAT_SIZED => usize::from(u16::from_le_bytes([head[2], head[3]])),
            _ => 0,
        };
        let Some((value, behind)) = behind.split_at_checked(length) else {
            rest = &[];
            return Some(Err(ImageError::Truncated));
        };
        rest = behind;
        let value = if length > 0 { value } else { &head[2..] };
        Some(Ok((head[0], head[1], value)))
    })
}

/// The `EIATTR_KPARAM_INFO` records of one section, by ordinal.
fn parameters(info: &[u8]) -> Result<Vec<Parameter>, ImageError> {
    let mut found: Vec<(u16, Parameter)> = Vec::new();
    for record in records(info) {
        let (format, attribute, value) = record?;
        if format == FORMAT_SIZED && attribute == EIATTR_KPARAM_INFO {
            bounded(
                "number of parameters",
                found.len() as u64,
                MAX_KERNEL_PARAMETERS - 1,
            )?;
            let parameter = Parameter {
                offset: u16_at(value, 6)?.into(),
                size: u32_at(value, 8)? >> 18,
            };
            found.push((u16_at(value, 4)?, parameter));
        }
    }
    found.sort_by_key(|(ordinal, _)| *ordinal);
    let in_order = found
        .iter()
        .enumerate()
        .all(|(index, (ordinal, _))| index == usize::from(*ordinal));
    if !in_order {
        return Err(ImageError::Malformed(
            "the parameters of a kernel are not numbered in order",
        ));
    }
    Ok(found.into_iter().map(|(_, parameter)| parameter).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::{Image, ptx};

    pub(in super::super) const SAMPLE: &[u8] = include_bytes!("testdata/lineinfo_sm80.cubin");

    #[test]
    fn the_whole_file_is_its_extent() {
        assert_eq!(length(SAMPLE), Ok(SAMPLE.len()));
        assert!(
            matches!(Image::parse(SAMPLE), Ok(Image::Elf(found)) if found.len() == SAMPLE.len())
        );
    }

    #[test]
    fn the_layout_of_parameters_is_the_compiler_s() {
        let mut kernels = kernels(SAMPLE).unwrap();
        kernels.sort_by(|a, b| a.name.cmp(&b.name));
        let layout: Vec<_> = kernels
            .iter()
            .map(|kernel| {
                (
                    kernel.name.as_str(),
                    kernel
                        .parameters
                        .iter()
                        .map(|p| (p.offset, p.size))
                        .collect(),
                )
            })
            .collect();
        let expected: Vec<(&str, Vec<(u32, u32)>)> = vec![
            ("none", vec![]),
            ("saxpy", vec![(0, 4), (8, 8), (16, 8), (24, 4)]),
            ("takes", vec![(0, 1), (8, 24), (32, 2), (40, 8)]),
        ];
        assert_eq!(layout, expected);
    }

    #[test]
    fn a_limit_of_registers_is_the_compiler_s() {
        assert_eq!(register_limits(SAMPLE), Ok(Vec::new()));
        // `nvcc -maxrregcount 24` puts 24 where 255 is without it.
        let unlimited = [FORMAT_HALF, EIATTR_MAXREG_COUNT, 255, 0];
        let mut limited = SAMPLE.to_vec();
        let places: Vec<usize> = (0..limited.len() - 3)
            .filter(|&at| limited[at..].starts_with(&unlimited))
            .collect();
        places.iter().for_each(|&at| limited[at + 2] = 24);
        let limits = register_limits(&limited).unwrap();
        assert_eq!(limits.len(), kernels(SAMPLE).unwrap().len());
        assert!(limits.iter().all(|(_, most)| *most == 24));
    }

    #[test]
    fn the_text_that_the_compiler_left_agrees_with_the_machine_code() {
        let text = embedded_ptx(SAMPLE).unwrap().unwrap();
        assert!(text.starts_with(b"\n") || text.starts_with(b"//") || text.starts_with(b"."));
        let mut from_text = ptx::kernels(&text).unwrap();
        let mut from_code = kernels(SAMPLE).unwrap();
        from_text.sort_by(|a, b| a.name.cmp(&b.name));
        from_code.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(from_text, from_code);
    }

    proptest! {
        #[test]
        fn mutated_files_are_survived(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            early: bool,
            cut: prop::sample::Index,
        ) {
            let mut file = SAMPLE.to_vec();
            let reach = if early { HEADER_BYTES } else { file.len() };
            for (index, byte) in changes {
                file[index.index(reach)] = byte;
            }
            for bytes in [&file[..], &file[..cut.index(file.len())]] {
                let _ = (length(bytes), embedded_ptx(bytes), kernels(bytes));
            }
        }

        #[test]
        fn any_record_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parameters(&bytes);
        }
    }
}
