//! Folders that the processes of one test run share.
//!
//! What: a runner may start each test as a process, and a stand-in driver or an installation is the same for all of them; whoever comes
//! first makes it, the others find it. Why not a folder for each process: the same thing would be compiled a hundred times, and nobody would
//! remove it.
//!
//! Rules: a folder belongs to one run, so that nothing of an older build is ever found; it stays while a process of its run holds its
//! lock, which the kernel takes back however that ends; the next run removes it.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The mark of a folder that was made to its end.
const MADE: &str = ".made";

/// The folder `name` of this run under `root`, a package's `CARGO_TARGET_TMPDIR`; filled by `make` if this process is the first.
///
/// # Panics
/// If it cannot be made: no test can go on then.
pub fn shared(root: &str, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    of_run(Path::new(root), name, &run(), make).expect("a folder of this test run")
}

/// Compiles a library of one file that needs nothing but the standard library.
///
/// # Panics
/// If it does not compile.
pub fn compile_library(source: &Path, output: &Path, options: &[&str]) {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--crate-type=cdylib", "-Awarnings"]);
    rustc.args(options).arg("-o").arg(output).arg(source);
    let status = rustc.status().expect("rustc");
    assert!(status.success(), "{rustc:?}");
}

/// What the processes of this run have in common: the runner's word for it, or the process that is all of it.
fn run() -> String {
    std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| format!("process-{}", std::process::id()))
}

fn of_run(root: &Path, name: &str, run: &str, make: impl FnOnce(&Path)) -> io::Result<PathBuf> {
    std::fs::create_dir_all(root)?;
    let prefix = format!("{name}@");
    let folder = root.join(format!("{prefix}{run}"));
    // Shared first: this process may hold it already.
    let mut lock = locked(&lock_of(&folder), File::lock_shared)?;
    if !folder.join(MADE).exists() {
        drop(lock);
        lock = locked(&lock_of(&folder), File::lock)?;
    }
    if !folder.join(MADE).exists() {
        remove_old(root, &prefix, &folder)?;
        // What a process that was killed has begun.
        remove(&folder)?;
        std::fs::create_dir(&folder)?;
        make(&folder);
        File::create(folder.join(MADE))?;
        lock.lock_shared()?;
    }
    // Until the process ends.
    std::mem::forget(lock);
    Ok(folder)
}

fn lock_of(folder: &Path) -> PathBuf {
    folder.with_added_extension("lock")
}

/// The lock; taken again if somebody removed its file meanwhile.
fn locked(path: &Path, take: fn(&File) -> io::Result<()>) -> io::Result<File> {
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        take(&file)?;
        let is_there = std::fs::metadata(path).is_ok_and(|now| {
            file.metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
        });
        if is_there {
            return Ok(file);
        }
    }
}

/// Removes the folders of this name whose runs are over.
fn remove_old(root: &Path, prefix: &str, ours: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        let is_other = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(prefix) && !name.ends_with(".lock"));
        if !is_other || path == ours {
            continue;
        }
        let lock = match File::options().write(true).open(lock_of(&path)) {
            Ok(lock) => lock,
            // Another process removes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => {
                remove(&path)?;
                std::fs::remove_file(lock_of(&path))?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_for_a_run_and_removed_after_it() {
        let root = tempfile::tempdir().expect("a directory");
        let first = of_run(root.path(), "thing", "1", |folder| {
            std::fs::write(folder.join("content"), "1").expect("written");
        });
        let first = first.expect("made");
        let again = of_run(root.path(), "thing", "1", |_| panic!("it is there"));
        assert_eq!(again.expect("found"), first);
        let other = of_run(root.path(), "thing", "2", |_| {}).expect("made");
        assert!(first.exists(), "this process, of run 1, still holds it");
        assert_ne!(first, other);

        let ended = root.path().join("thing@0");
        std::fs::create_dir(&ended).expect("made");
        File::create(lock_of(&ended)).expect("made");
        of_run(root.path(), "thing", "3", |_| {}).expect("made");
        assert!(!ended.exists() && !lock_of(&ended).exists());
    }

    #[test]
    fn what_was_only_begun_is_made_again() {
        let root = tempfile::tempdir().expect("a directory");
        let begun = root.path().join("thing@1");
        std::fs::create_dir(&begun).expect("made");
        std::fs::write(begun.join("half"), "").expect("written");
        let made = of_run(root.path(), "thing", "1", |_| {}).expect("made");
        assert_eq!(made, begun);
        assert!(!begun.join("half").exists());
    }
}
