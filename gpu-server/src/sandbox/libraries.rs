//! The driver, and the libraries that it would load later, are loaded while everything may still be opened.
//!
//! *Rule:* what is not there is not missed; nothing is initialised.
//!
//! # Safety
//! The libraries lie beside the driver that the operator named, and belong to it; their initialisers are trusted like its own.
#![expect(unsafe_code, reason = "loads libraries")]

use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use protocol::hello::DeviceKind;

/// How the libraries are called that NVIDIA's driver loads when a program brings PTX, or a stack to unwind in it: compilers, mostly.
const LATER: [&str; 4] = [
    "libnvidia-ptxjitcompiler.so",
    "libnvidia-nvvm.so",
    "libnvidia-nvvm70.so",
    "libnvidia-gpucomp.so",
];

/// Loads them for the rest of the process's life. A driver that cannot be loaded is told by who uses it.
pub(super) fn load(driver: &str, kind: DeviceKind) {
    let driver = Path::new(driver);
    if !driver.is_absolute() || !keep(driver) || kind == DeviceKind::Software {
        return;
    }
    let folder = std::fs::canonicalize(driver).unwrap_or_else(|_| driver.to_owned());
    for path in beside(&folder) {
        let is_loaded = keep(&path);
        tracing::debug!(library = %path.display(), is_loaded, "of the driver");
    }
}

/// Loads one library and never unloads it; whether it could be.
fn keep(path: &Path) -> bool {
    // SAFETY: a library of the driver, which the operator names; see above.
    match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(error) => {
            tracing::debug!(library = %path.display(), "not loaded: {error}");
            false
        }
    }
}

/// The driver's further libraries: one of each name, the one that is found by the loader first.
fn beside(driver: &Path) -> Vec<PathBuf> {
    let Some(folder) = driver.parent() else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let found = LATER.iter().filter_map(|wanted| {
        names
            .iter()
            .find(|name| name.strip_prefix(wanted).is_some_and(is_version))
    });
    found.map(|name| folder.join(name)).collect()
}

/// `.1`, `.4`, `.580.82.07`.
fn is_version(text: &str) -> bool {
    text.strip_prefix('.').is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_name_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [
            "libcuda.so.1",
            "libnvidia-ptxjitcompiler.so.580.82.07",
            "libnvidia-ptxjitcompiler.so.1",
            "libnvidia-nvvm.so.4",
            "libnvidia-nvvm.so.4.backup",
            "libnvidia-gpucomp.so",
            "libnvidia-glcore.so.580.82.07",
        ] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let found = beside(&folder.path().join("libcuda.so.1"));
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(
            names,
            ["libnvidia-ptxjitcompiler.so.1", "libnvidia-nvvm.so.4"]
        );
    }
}
