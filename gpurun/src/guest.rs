//! Our libraries, and the environment that puts them in front of a program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::exit::{Failure, INTERNAL};

/// The directory of our libraries under the drivers' names, from our executable's directory: built, then installed.
const DIRECTORIES: &[&str] = &["guest", "../lib/gpurun/guest"];

/// What a program loads.
const LIBRARIES: &[&str] = &["libcuda.so.1", "libnvidia-ml.so.1"];

/// The directory that our executable is in.
pub(crate) fn executable_directory() -> Result<PathBuf, Failure> {
    let executable = std::env::current_exe()
        .map_err(|error| Failure::internal("cannot find gpurun's own executable", error))?;
    Ok(executable.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Finds the directory of our libraries.
pub(crate) fn find(executable_directory: &Path) -> Result<PathBuf, Failure> {
    let is_complete =
        |directory: &PathBuf| LIBRARIES.iter().all(|name| directory.join(name).exists());
    let directory = DIRECTORIES
        .iter()
        .map(|directory| executable_directory.join(directory))
        .find(is_complete)
        .and_then(|directory| directory.canonicalize().ok())
        .ok_or_else(|| not_found(executable_directory))?;
    // LD_PRELOAD separates by both and has no way to quote either.
    if directory
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b": ".contains(byte))
    {
        let message = format!(
            "gpurun's libraries are in '{}': the loader cannot preload from a path with a space or a colon",
            directory.display()
        );
        return Err(Failure::new(INTERNAL, message));
    }
    Ok(directory)
}

fn not_found(executable_directory: &Path) -> Failure {
    let places: Vec<String> = DIRECTORIES
        .iter()
        .map(|directory| executable_directory.join(directory).display().to_string())
        .collect();
    let message = format!(
        "cannot find {} in {}: build them with scripts/build, or install gpurun whole",
        LIBRARIES.join(" and "),
        places.join(" or ")
    );
    Failure::new(INTERNAL, message)
}

/// `LD_PRELOAD` with our libraries, each once: the driver first, NVML behind others, since it stands before functions of the C library, as those may.
pub(crate) fn preload(directory: &Path, present: Option<&OsStr>) -> OsString {
    let ours: Vec<PathBuf> = LIBRARIES.iter().map(|name| directory.join(name)).collect();
    let present = present.unwrap_or_default().as_bytes();
    let others = present
        .split(|byte| b": ".contains(byte))
        .map(OsStr::from_bytes)
        .filter(|entry| !entry.is_empty() && ours.iter().all(|path| path.as_os_str() != *entry));
    let (driver, nvml) = ours.split_at(1);
    let driver = driver.iter().map(|path| path.as_os_str());
    let nvml = nvml.iter().map(|path| path.as_os_str());
    joined(driver.chain(others).chain(nvml))
}

/// `LD_LIBRARY_PATH` with our directory first, once.
pub(crate) fn library_path(directory: &Path, present: Option<&OsStr>) -> OsString {
    let directory = directory.as_os_str();
    let Some(present) = present.filter(|present| !present.is_empty()) else {
        return directory.to_owned();
    };
    // An empty entry stands for the current directory, so it stays.
    let others = present
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(OsStr::from_bytes)
        .filter(|entry| *entry != directory);
    joined(std::iter::once(directory).chain(others))
}

fn joined<'a>(entries: impl Iterator<Item = &'a OsStr>) -> OsString {
    let entries: Vec<&OsStr> = entries.collect();
    entries.join(OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_libraries_come_once_around_others() {
        let directory = Path::new("/g");
        let ours = "/g/libcuda.so.1:/g/libnvidia-ml.so.1";
        assert_eq!(preload(directory, None), ours);
        let with_others = preload(directory, Some(OsStr::new("/a.so /b.so:/c.so")));
        let expected = "/g/libcuda.so.1:/a.so:/b.so:/c.so:/g/libnvidia-ml.so.1";
        assert_eq!(with_others, expected);
        assert_eq!(
            preload(directory, Some(&with_others)),
            with_others,
            "nested"
        );
    }

    #[test]
    fn our_directory_comes_first_and_once() {
        let directory = Path::new("/g");
        assert_eq!(library_path(directory, None), "/g");
        assert_eq!(library_path(directory, Some(OsStr::new(""))), "/g");
        let with_others = library_path(directory, Some(OsStr::new("/a::/b")));
        assert_eq!(with_others, "/g:/a::/b");
        assert_eq!(
            library_path(directory, Some(&with_others)),
            with_others,
            "nested"
        );
    }

    #[test]
    fn built_and_installed_places() {
        let root = tempfile::tempdir().expect("a directory");
        let binaries = root.path().join("bin");
        std::fs::create_dir(&binaries).expect("made");
        let message = find(&binaries).expect_err("nothing").to_string();
        assert!(message.contains("scripts/build"), "{message}");
        let fill = |directory: &Path| {
            std::fs::create_dir_all(directory).expect("made");
            for name in LIBRARIES {
                std::fs::write(directory.join(name), "").expect("written");
            }
        };
        let installed = root.path().join("lib/gpurun/guest");
        fill(&installed);
        let same = |found: PathBuf, expected: &Path| {
            assert_eq!(found, expected.canonicalize().expect("there"));
        };
        same(find(&binaries).expect("installed"), &installed);
        fill(&binaries.join("guest"));
        same(find(&binaries).expect("built"), &binaries.join("guest"));
    }
}
