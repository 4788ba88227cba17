//! Fatbin containers: one module for several architectures.
//!
//! Layout, little-endian (read from nvcc's output of CUDA 12 and 13):
//!
//! | bytes | container header |
//! |---|---|
//! | 0..4 | magic `50 ED 55 BA` |
//! | 4..6 | version, 1 |
//! | 6..8 | size of this header, 16 |
//! | 8..16 | bytes of entries that follow |
//!
//! | bytes | entry header |
//! |---|---|
//! | 0..2 | kind: 1 PTX, 2 ELF, 8 LTO-IR |
//! | 4..8 | size of this header |
//! | 8..16 | bytes of payload that follow, padding included |
//! | 16..20 | compressed size, 0 if plain |
//! | 28..32 | SM number: 80 for 8.0 |
//! | 40..48 | flags: 0x2000 LZ4, 0x8000 zstd |
//! | 56..64 | plain size, 0 if plain |

use std::borrow::Cow;
use std::io::Read as _;

use super::{
    ComputeCapability, ImageError, MAX_FATBIN_ENTRIES, MAX_IMAGE_BYTES, MAX_PLAIN_ENTRY_BYTES,
    bounded, u16_at, u32_at, u64_at,
};

/// The first bytes of a wrapper: 0x466243b1.
pub const WRAPPER_MAGIC: [u8; 4] = [0xb1, 0x43, 0x62, 0x46];
/// The first bytes of a container.
pub const CONTAINER_MAGIC: [u8; 4] = [0x50, 0xed, 0x55, 0xba];
/// The size of a container's header.
pub const CONTAINER_HEADER_BYTES: usize = 16;
/// The least size of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 64;

const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;

/// The containers behind one image.
#[derive(Debug, Clone)]
pub struct Fatbin<'a> {
    /// The container itself; behind a wrapper of relocatable code, the linked one.
    pub container: Container<'a>,
    /// The containers from which a wrapper of version 2 was linked.
    pub prelinked: Vec<Container<'a>>,
}

/// One container: a header that is checked, and entries that are read as they are walked over.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    bytes: &'a [u8],
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PTX text.
    Ptx,
    /// A cubin.
    Elf,
    /// Intermediate code for link-time optimisation.
    LinkTimeIr,
    /// Something newer.
    Other(u16),
}

/// One entry of a container.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What it holds.
    pub kind: Kind,
    /// The architecture: 80 for 8.0.
    pub sm: u32,
    flags: u64,
    plain_bytes: u64,
    whole: &'a [u8],
    payload: &'a [u8],
}

/// The bytes of a whole container, from its header alone.
///
/// # Errors
///
/// [`ImageError`] if the header is not one, or announces more than [`MAX_IMAGE_BYTES`].
pub fn container_length(header: &[u8]) -> Result<usize, ImageError> {
    if !header.starts_with(&CONTAINER_MAGIC) {
        return Err(ImageError::UnknownFormat);
    }
    if u16_at(header, 4)? != 1 || usize::from(u16_at(header, 6)?) != CONTAINER_HEADER_BYTES {
        return Err(ImageError::Malformed(
            "unknown version of the fatbin container",
        ));
    }
    let entries = bounded("size of the fatbin", u64_at(header, 8)?, MAX_IMAGE_BYTES)?;
    Ok(CONTAINER_HEADER_BYTES + entries)
}

impl<'a> Container<'a> {
    /// The container at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// [`ImageError`] if the header is not one or announces more than there is.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let length = container_length(bytes)?;
        Ok(Self {
            bytes: bytes.get(..length).ok_or(ImageError::Truncated)?,
        })
    }

    /// Header and entries.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entries in order; a malformed one ends the walk with an error.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            rest: &self.bytes[CONTAINER_HEADER_BYTES..],
            seen: 0,
        }
    }

    /// A container with only what a device of this capability can use: the newest machine code that runs
    /// there and the newest PTX that it compiles.
    ///
    /// Both are kept, because a program may force PTX, because machine code for a variant (`sm_90a`) has the
    /// plain number, and because the software GPU executes PTX only.
    ///
    /// # Errors
    ///
    /// [`ImageError`] if an entry is malformed.
    pub fn select_for(&self, device: ComputeCapability) -> Result<Vec<u8>, ImageError> {
        let entries = self.entries().collect::<Result<Vec<_>, _>>()?;
        let newest = |usable: &dyn Fn(&Entry<'_>) -> bool| {
            entries
                .iter()
                .filter(|entry| usable(entry))
                .map(|entry| entry.sm)
                .max()
        };
        let elf = newest(&|entry| entry.kind == Kind::Elf && device.runs_machine_code(entry.sm));
        let ptx = newest(&|entry| entry.kind == Kind::Ptx && device.compiles_ptx(entry.sm));
        let chosen = entries.iter().filter(|entry| match entry.kind {
            Kind::Elf => Some(entry.sm) == elf,
            Kind::Ptx => Some(entry.sm) == ptx,
            Kind::LinkTimeIr | Kind::Other(_) => false,
        });
        Ok(containing(chosen))
    }
}

impl Fatbin<'_> {
    /// A container with all PTX there is and nothing else, whatever its target: for a device without machine code of its own. Where
    /// code was linked, PTX is in the containers from which it was.
    ///
    /// None if there is no PTX.
    ///
    /// # Errors
    ///
    /// [`ImageError`] if an entry is malformed.
    pub fn select_ptx(&self) -> Result<Option<Vec<u8>>, ImageError> {
        let containers = std::iter::once(&self.container).chain(&self.prelinked);
        let entries = containers
            .flat_map(Container::entries)
            .collect::<Result<Vec<_>, _>>()?;
        let ptx = || entries.iter().filter(|entry| entry.kind == Kind::Ptx);
        Ok((ptx().count() > 0).then(|| containing(ptx())))
    }
}

/// A container with these entries.
fn containing<'e, 'a: 'e>(entries: impl Iterator<Item = &'e Entry<'a>>) -> Vec<u8> {
    let mut selected = CONTAINER_MAGIC.to_vec();
    selected.extend_from_slice(&[
        1,
        0,
        CONTAINER_HEADER_BYTES as u8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    entries.for_each(|entry| selected.extend_from_slice(entry.whole));
    let length = (selected.len() - CONTAINER_HEADER_BYTES) as u64;
    selected[8..CONTAINER_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    selected
}

/// Walks over the entries of a container.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    seen: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let found = self.take();
        if found.is_err() {
            self.rest = &[];
        }
        Some(found)
    }
}

impl<'a> Entries<'a> {
    fn take(&mut self) -> Result<Entry<'a>, ImageError> {
        self.seen += 1;
        bounded(
            "number of fatbin entries",
            self.seen as u64,
            MAX_FATBIN_ENTRIES,
        )?;
        let header_bytes = u32_at(self.rest, 4)? as usize;
        if header_bytes < ENTRY_HEADER_BYTES {
            return Err(ImageError::Malformed(
                "a fatbin entry with too small a header",
            ));
        }
        let padded = bounded(
            "size of a fatbin entry",
            u64_at(self.rest, 8)?,
            MAX_IMAGE_BYTES,
        )?;
        let total = header_bytes
            .checked_add(padded)
            .ok_or(ImageError::Truncated)?;
        let whole = self.rest.get(..total).ok_or(ImageError::Truncated)?;
        let entry = Entry::parse(whole, header_bytes)?;
        self.rest = &self.rest[total..];
        Ok(entry)
    }
}

impl<'a> Entry<'a> {
    fn parse(whole: &'a [u8], header_bytes: usize) -> Result<Self, ImageError> {
        let kind = match u16_at(whole, 0)? {
            1 => Kind::Ptx,
            2 => Kind::Elf,
            8 => Kind::LinkTimeIr,
            other => Kind::Other(other),
        };
        let compressed = u32_at(whole, 16)? as usize;
        let padded = &whole[header_bytes..];
        let payload = if compressed == 0 {
            padded
        } else {
            padded.get(..compressed).ok_or(ImageError::Truncated)?
        };
        Ok(Self {
            kind,
            sm: u32_at(whole, 28)?,
            flags: u64_at(whole, 40)?,
            plain_bytes: u64_at(whole, 56)?,
            whole,
            payload,
        })
    }

    /// How many bytes the payload says that it unfolds to.
    pub fn announced_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Whether the payload is compressed.
    pub fn is_compressed(&self) -> bool {
        self.flags & (FLAG_LZ4 | FLAG_ZSTD) != 0
    }

    /// The payload, decompressed if necessary: PTX text without its terminator, or an ELF file.
    ///
    /// # Errors
    ///
    /// [`ImageError`] if it does not decompress to exactly the announced size, or that is beyond
    /// [`MAX_PLAIN_ENTRY_BYTES`].
    pub fn plain(&self) -> Result<Cow<'a, [u8]>, ImageError> {
        let plain = if self.is_compressed() {
            Cow::Owned(self.decompress()?)
        } else {
            Cow::Borrowed(self.payload)
        };
        Ok(if self.kind == Kind::Ptx {
            without_terminator(plain)
        } else {
            plain
        })
    }

    fn decompress(&self) -> Result<Vec<u8>, ImageError> {
        let size = bounded(
            "plain size of a fatbin entry",
            self.plain_bytes,
            MAX_PLAIN_ENTRY_BYTES,
        )?;
        let plain = if self.flags & FLAG_ZSTD != 0 {
            zstd(self.payload, size)?
        } else {
            lz4(self.payload, size)?
        };
        if plain.len() == size {
            Ok(plain)
        } else {
            Err(ImageError::Compression("not of the announced size"))
        }
    }
}

/// LZ4 cannot unfold a byte to more than 255, so a claim beyond that is refused before memory is taken.
fn lz4(payload: &[u8], size: usize) -> Result<Vec<u8>, ImageError> {
    if size / 255 > payload.len() {
        return Err(ImageError::Compression("an impossible ratio"));
    }
    lz4_flex::block::decompress(payload, size).map_err(|_| ImageError::Compression("not LZ4"))
}

/// Read as a stream, so that memory follows what really comes out.
fn zstd(payload: &[u8], size: usize) -> Result<Vec<u8>, ImageError> {
    let invalid = |_| ImageError::Compression("not zstd");
    let decoder = zstd::stream::read::Decoder::with_buffer(payload)
        .map_err(invalid)?
        .single_frame();
    let mut plain = Vec::new();
    decoder
        .take(size as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(invalid)?;
    Ok(plain)
}

fn without_terminator(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let end = text
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(text.len());
    match text {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..end]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(end);
            Cow::Owned(bytes)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const LZ4: &[u8] = include_bytes!("testdata/ptx_lz4.fatbin");
    const MIXED: &[u8] = include_bytes!("testdata/mixed_zstd.fatbin");
    const A100: ComputeCapability = ComputeCapability { major: 8, minor: 0 };

    pub(in super::super) fn sample_container() -> Vec<u8> {
        LZ4.to_vec()
    }

    fn entries(container: &[u8]) -> Vec<(Kind, u32)> {
        let entries = Container::parse(container).unwrap().entries();
        entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.kind, entry.sm))
            .collect()
    }

    #[test]
    fn the_compiler_s_entries_are_found() {
        assert_eq!(entries(LZ4), [(Kind::Ptx, 75)]);
        assert_eq!(
            entries(MIXED),
            [(Kind::Elf, 75), (Kind::Ptx, 80), (Kind::Elf, 80)]
        );
    }

    #[test]
    fn both_compressions_unfold() {
        for (container, target) in [(LZ4, ".target sm_75"), (MIXED, ".target sm_80")] {
            let mut entries = Container::parse(container)
                .unwrap()
                .entries()
                .map(Result::unwrap);
            let ptx = entries.find(|entry| entry.kind == Kind::Ptx).unwrap();
            assert!(ptx.is_compressed());
            let text = String::from_utf8(ptx.plain().unwrap().into_owned()).unwrap();
            assert!(
                text.contains(target) && text.contains(".entry saxpy(") && text.ends_with('\n')
            );
        }
    }

    #[test]
    fn only_what_the_device_can_use_is_selected() {
        let select = |major, minor| {
            let device = ComputeCapability { major, minor };
            entries(&Container::parse(MIXED).unwrap().select_for(device).unwrap())
        };
        assert_eq!(select(8, 0), [(Kind::Ptx, 80), (Kind::Elf, 80)]);
        assert_eq!(select(8, 9), [(Kind::Ptx, 80), (Kind::Elf, 80)]);
        assert_eq!(select(7, 5), [(Kind::Elf, 75)]);
        assert_eq!(select(9, 0), [(Kind::Ptx, 80)]);
        assert_eq!(select(7, 0), []);
    }

    #[test]
    fn ptx_alone_is_selected_whatever_its_target() {
        let sm75 = ComputeCapability { major: 7, minor: 5 };
        let machine_code = Container::parse(MIXED).unwrap().select_for(sm75).unwrap();
        let only_ptx = |container, prelinked: &[&'static [u8]]| {
            let prelinked = prelinked
                .iter()
                .map(|bytes| Container::parse(bytes).unwrap());
            let fatbin = Fatbin {
                container: Container::parse(container).unwrap(),
                prelinked: prelinked.collect(),
            };
            fatbin.select_ptx().unwrap().map(|ptx| entries(&ptx))
        };
        assert_eq!(only_ptx(MIXED, &[]), Some(vec![(Kind::Ptx, 80)]));
        assert_eq!(only_ptx(&machine_code, &[]), None);
        let both = Some(vec![(Kind::Ptx, 75), (Kind::Ptx, 80)]);
        assert_eq!(only_ptx(&machine_code, &[LZ4, MIXED]), both);
    }

    #[test]
    fn a_lie_about_the_plain_size_is_noticed() {
        let mut container = LZ4.to_vec();
        for size in [0u64, 10, 100_000, u64::MAX] {
            container[16 + 56..16 + 64].copy_from_slice(&size.to_le_bytes());
            let entry = Container::parse(&container)
                .unwrap()
                .entries()
                .next()
                .unwrap()
                .unwrap();
            assert!(entry.plain().is_err());
        }
    }

    /// Walks over everything that can be asked of a container.
    fn exercise(bytes: &[u8]) {
        let Ok(container) = Container::parse(bytes) else {
            return;
        };
        let _ = container.select_for(A100);
        let fatbin = Fatbin {
            container,
            prelinked: vec![container],
        };
        let _ = fatbin.select_ptx();
        for entry in container.entries().flatten() {
            let _ = entry.plain();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut container = CONTAINER_MAGIC.to_vec();
            container.extend_from_slice(&[1, 0, 16, 0]);
            container.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            container.extend_from_slice(&bytes);
            exercise(&container);
            exercise(&bytes);
        }

        #[test]
        fn mutated_containers_are_survived(
            mixed: bool,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            early: bool,
            cut: prop::sample::Index,
        ) {
            let mut container = if mixed { MIXED } else { LZ4 }.to_vec();
            let reach = if early { 96 } else { container.len() };
            for (index, byte) in changes {
                container[index.index(reach)] = byte;
            }
            exercise(&container);
            container.truncate(cut.index(container.len()));
            exercise(&container);
        }
    }
}
