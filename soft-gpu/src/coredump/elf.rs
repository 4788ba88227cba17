//! The file of a dump: an ELF file of sections, whose table stands behind them.

use std::io::{self, Write};

use driver_api::coredump::{DumpFile, HEADER_BYTES};
use zerocopy::{Immutable, IntoBytes};

use super::tables::kind;

/// `EM_CUDA`.
const MACHINE: u16 = 190;
/// `ELFOSABI_CUDA`.
const ABI: u8 = 0x33;
const ABI_VERSION: u8 = 7;
/// `ET_CORE`.
const CORE: u16 = 4;
const SECTION_BYTES: u64 = 64;
const ALIGNMENT: u64 = 8;
/// How much of memory is copied at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Where that is zero there is a hole in the file.
const HOLE_BYTES: usize = 4096;

/// What a section holds.
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// Memory of the device: address and size.
    Memory(u64, u64),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Memory(_, size) => *size,
        }
    }
}

struct Section {
    name: u32,
    kind: u32,
    address: u64,
    link: u32,
    info: u32,
    entry_bytes: u64,
    content: Content,
}

/// What a section belongs to: the section of its table, and the row in it.
pub(super) type Parent = (u32, u32);

/// The sections of a file.
pub(super) struct Sections {
    sections: Vec<Section>,
    names: Vec<u8>,
    strings: Vec<u8>,
}

impl Sections {
    pub(super) fn new() -> Self {
        Self {
            sections: Vec::new(),
            names: vec![0],
            strings: vec![0],
        }
    }

    /// The place of a text in the table of strings.
    pub(super) fn string(&mut self, text: &str) -> u64 {
        append(&mut self.strings, text)
    }

    fn add(
        &mut self,
        name: &str,
        kind: u32,
        parent: Parent,
        (address, entry_bytes): (u64, u64),
        content: Content,
    ) -> u32 {
        let name = append(&mut self.names, name) as u32;
        let (link, info) = parent;
        self.sections.push(Section {
            name,
            kind,
            address,
            link,
            info,
            entry_bytes,
            content,
        });
        // The first one of a file is none.
        self.sections.len() as u32
    }

    /// A table; its number.
    pub(super) fn table<T: IntoBytes + Immutable>(
        &mut self,
        name: &str,
        kind: u32,
        parent: Parent,
        rows: &[T],
    ) -> u32 {
        let bytes = Content::Bytes(rows.as_bytes().to_vec());
        self.add(name, kind, parent, (0, size_of::<T>() as u64), bytes)
    }

    /// Bytes that have an address, or 0.
    pub(super) fn bytes(
        &mut self,
        name: &str,
        kind: u32,
        parent: Parent,
        address: u64,
        bytes: &[u8],
    ) {
        let content = Content::Bytes(bytes.to_vec());
        self.add(name, kind, parent, (address, 1), content);
    }

    /// Memory of the device.
    pub(super) fn memory(&mut self, name: &str, kind: u32, address: u64, size: u64) {
        let content = Content::Memory(address, size);
        self.add(name, kind, (0, 0), (address, 1), content);
    }

    /// Writes them; `read` copies memory, and says whether it was there.
    pub(super) fn write(
        mut self,
        file: &mut DumpFile,
        read: impl Fn(u64, &mut [u8]) -> bool,
    ) -> io::Result<()> {
        let strings = Content::Bytes(std::mem::take(&mut self.strings));
        self.add(".strtab", kind::STRINGS, (0, 0), (0, 0), strings);
        // Its own name is in it.
        let name = append(&mut self.names, ".shstrtab") as u32;
        self.sections.push(Section {
            name,
            kind: kind::STRINGS,
            address: 0,
            link: 0,
            info: 0,
            entry_bytes: 0,
            content: Content::Bytes(std::mem::take(&mut self.names)),
        });
        let mut offsets = Vec::with_capacity(self.sections.len());
        let mut end = HEADER_BYTES as u64;
        for section in &self.sections {
            offsets.push(end);
            end = (end + section.content.len()).next_multiple_of(ALIGNMENT);
        }
        let count = self.sections.len() + 1;
        let Ok(count) = u16::try_from(count) else {
            return Err(io::Error::other(format!("{count} sections are too many")));
        };
        file.write_all(&header(end, count))?;
        for section in &self.sections {
            match &section.content {
                Content::Bytes(bytes) => file.write_all(bytes)?,
                Content::Memory(address, size) => copy(file, *address, *size, &read)?,
            }
            let size = section.content.len();
            file.zeros(size.next_multiple_of(ALIGNMENT) - size)?;
        }
        file.zeros(SECTION_BYTES)?;
        for (section, offset) in self.sections.iter().zip(offsets) {
            let mut row = Vec::with_capacity(SECTION_BYTES as usize);
            row.extend_from_slice(&section.name.to_le_bytes());
            row.extend_from_slice(&section.kind.to_le_bytes());
            for word in [0, section.address, offset, section.content.len()] {
                row.extend_from_slice(&word.to_le_bytes());
            }
            row.extend_from_slice(&section.link.to_le_bytes());
            row.extend_from_slice(&section.info.to_le_bytes());
            for word in [ALIGNMENT, section.entry_bytes] {
                row.extend_from_slice(&word.to_le_bytes());
            }
            file.write_all(&row)?;
        }
        Ok(())
    }
}

fn append(table: &mut Vec<u8>, text: &str) -> u64 {
    let place = table.len() as u64;
    table.extend_from_slice(text.as_bytes());
    table.push(0);
    place
}

/// The header of a file whose table of so many sections stands at `table`.
fn header(table: u64, count: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF");
    // 64 bits, little endian, the version.
    put(4, &[2, 1, 1, ABI, ABI_VERSION]);
    put(16, &CORE.to_le_bytes());
    put(18, &MACHINE.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(40, &table.to_le_bytes());
    put(52, &(HEADER_BYTES as u16).to_le_bytes());
    put(58, &(SECTION_BYTES as u16).to_le_bytes());
    put(60, &count.to_le_bytes());
    put(62, &(count - 1).to_le_bytes());
    header
}

/// Copies memory into the file, with holes for pages of zeros. What has gone meanwhile is zeros.
fn copy(
    file: &mut DumpFile,
    address: u64,
    size: u64,
    read: impl Fn(u64, &mut [u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES.min(size as usize)];
    let mut done = 0;
    while done < size {
        let count = (size - done).min(PIECE_BYTES as u64);
        let piece = &mut buffer[..count as usize];
        if !read(address + done, piece) {
            piece.fill(0);
        }
        for page in piece.chunks(HOLE_BYTES) {
            match page.iter().all(|byte| *byte == 0) {
                true => file.zeros(page.len() as u64)?,
                false => file.write_all(page)?,
            }
        }
        done += count;
    }
    Ok(())
}
