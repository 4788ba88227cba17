//! What an image holds and where it comes from, in words: for whoever has to be told that a device cannot run it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::fatbin::{Entry, Kind};
use super::{Image, elf, ptx};

/// The most kernels that are named.
const MAX_NAMES: usize = 2;
/// The most characters of such a name: those of templates have hundreds.
const MAX_NAME_CHARACTERS: usize = 64;

/// Its kinds of code with their architectures, and some of its kernels: `machine code for sm_75, sm_80 (kernels _Z3addPf, …)`.
#[must_use]
pub fn describe(image: &Image<'_>) -> String {
    let (code, names) = match image {
        Image::Ptx(text) => ("PTX".to_owned(), kernels(Kind::Ptx, text)),
        Image::Elf(bytes) => ("a cubin".to_owned(), kernels(Kind::Elf, bytes)),
        Image::Fatbin(fatbin) => {
            let containers = std::iter::once(&fatbin.container).chain(&fatbin.prelinked);
            let entries: Vec<Entry<'_>> = containers
                .flat_map(|container| container.entries().map_while(Result::ok))
                .collect();
            (architectures(&entries), kernels_of(&entries))
        }
    };
    match names.as_slice() {
        [] => code,
        [name] => format!("{code} (kernel {})", shortened(name)),
        names => {
            let shown: Vec<String> = names
                .iter()
                .take(MAX_NAMES)
                .map(|name| shortened(name))
                .collect();
            let shown = shown.join(", ");
            let more = if names.len() > MAX_NAMES { ", …" } else { "" };
            format!("{code} (kernels {shown}{more})")
        }
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME_CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The file from which the memory at an address was mapped: for an image that the compiler put into a program or library.
#[must_use]
pub fn origin(address: usize) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| mapped(line, address))
}

/// The path in a line of the kernel's list of mappings, if the address is in it: `from-to rwxp offset device inode   /path`.
fn mapped(line: &str, address: usize) -> Option<PathBuf> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let from = usize::from_str_radix(from, 16).ok()?;
    let to = usize::from_str_radix(to, 16).ok()?;
    let path = rest.find('/').and_then(|start| rest.get(start..))?;
    (from..to).contains(&address).then(|| PathBuf::from(path))
}

fn architectures(entries: &[Entry<'_>]) -> String {
    let of = |kind: Kind, prefix: &str| {
        let found: BTreeSet<u32> = entries
            .iter()
            .filter(|entry| entry.kind == kind)
            .map(|entry| entry.sm)
            .collect();
        let found: Vec<String> = found.iter().map(|sm| format!("{prefix}{sm}")).collect();
        found.join(", ")
    };
    let parts: Vec<String> = [
        ("machine code for ", of(Kind::Elf, "sm_")),
        ("PTX for ", of(Kind::Ptx, "compute_")),
        ("LTO-IR for ", of(Kind::LinkTimeIr, "lto_")),
    ]
    .into_iter()
    .filter(|(_, found)| !found.is_empty())
    .map(|(what, found)| format!("{what}{found}"))
    .collect();
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(" and ")
    }
}

/// The kernels of the first entry that tells any: all entries hold the same.
fn kernels_of(entries: &[Entry<'_>]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| Some(kernels(entry.kind, &entry.plain().ok()?)))
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

fn kernels(kind: Kind, plain: &[u8]) -> Vec<String> {
    match kind {
        Kind::Elf => elf::kernels(plain)
            .unwrap_or_default()
            .into_iter()
            .map(|kernel| kernel.name)
            .collect(),
        Kind::Ptx => ptx::kernels(plain)
            .unwrap_or_default()
            .into_iter()
            .map(|kernel| kernel.name)
            .collect(),
        Kind::LinkTimeIr | Kind::Other(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatbin_tells_its_architectures_and_kernels() {
        let mixed = include_bytes!("testdata/mixed_zstd.fatbin");
        let text = describe(&Image::parse(mixed).unwrap());
        assert_eq!(
            text,
            "machine code for sm_75, sm_80 and PTX for compute_80 (kernels none, takes, …)"
        );
    }

    #[test]
    fn ptx_tells_some_of_many_kernels() {
        let text = ".version 8.0\n.target sm_80\n.entry a() { ret; }\n.entry b() { ret; }\n.entry c() { ret; }\n";
        let text = describe(&Image::parse(text.as_bytes()).unwrap());
        assert_eq!(text, "PTX (kernels a, b, …)");
    }

    #[test]
    fn broken_entries_are_survived() {
        let mut mixed = include_bytes!("testdata/mixed_zstd.fatbin").to_vec();
        for byte in &mut mixed[100..200] {
            *byte = 0xff;
        }
        assert!(!describe(&Image::parse(&mixed).unwrap()).is_empty());
    }

    #[test]
    fn an_address_in_this_program_leads_to_its_file() {
        static SOMETHING: [u8; 4] = [1, 2, 3, 4];
        let here = std::env::current_exe().unwrap();
        assert_eq!(origin(SOMETHING.as_ptr().addr()), Some(here));
        let heap = Box::new(7u8);
        assert_eq!(origin(std::ptr::from_ref(&*heap).addr()), None);
        assert_eq!(origin(0), None);
    }
}
