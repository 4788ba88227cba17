//! What every test of the launcher needs: an installation, and its gpurun as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

fn succeed(command: &mut Command) {
    assert!(command.status().expect("started").success(), "{command:?}");
}

/// The same file there: large ones are not copied where they need not be.
fn place_file(from: &Path, to: &Path) {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).expect("copied");
    }
}

/// An installation: gpurun, gpu-server, a stand-in for the software GPU, and libraries that do nothing.
pub(crate) fn installation() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| test_scratch::shared(env!("CARGO_TARGET_TMPDIR"), "install", install))
}

fn install(place: &Path) {
    let (bin, guest) = (place.join("bin"), place.join("lib/gpurun/guest"));
    std::fs::create_dir_all(&bin).expect("made");
    std::fs::create_dir_all(&guest).expect("made");
    let gpurun = Path::new(env!("CARGO_BIN_EXE_gpurun"));
    place_file(gpurun, &bin.join("gpurun"));
    place_file(&gpu_server(gpurun), &bin.join("gpu-server"));

    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gpu-server/tests/fixtures");
    let soft_gpu = bin.join("libsoft_gpu.so");
    test_scratch::compile_library(&fixtures.join("fake_driver.rs"), &soft_gpu, &[]);
    let empty = place.join("empty.rs");
    std::fs::write(&empty, "").expect("written");
    test_scratch::compile_library(&empty, &guest.join("libcuda.so.1"), &[]);
    std::fs::copy(guest.join("libcuda.so.1"), guest.join("libnvidia-ml.so.1")).expect("copied");
}

/// The server that belongs to this launcher: it is another package's, and is built if `GPURUN_TEST_SERVER` does not name it.
fn gpu_server(gpurun: &Path) -> PathBuf {
    if let Some(server) = std::env::var_os("GPURUN_TEST_SERVER") {
        return server.into();
    }
    let directory = gpurun.parent().expect("a directory");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "-p",
        "gpu-server",
        "--bin",
        "gpu-server",
    ]);
    cargo
        .arg("--target-dir")
        .arg(directory.parent().expect("a directory"));
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    succeed(&mut cargo);
    directory.join("gpu-server")
}

/// gpurun of the installation, with nothing set that would change what it does.
pub(crate) fn gpurun(words: &[&str]) -> Command {
    let mut command = Command::new(installation().join("bin/gpurun"));
    command.args(words).stdin(Stdio::null());
    for name in [
        "SERVER",
        "TRANSPORT",
        "DEVICE",
        "DEVICES",
        "STATS",
        "STATS_FILE",
        "LOG",
        "LEASE",
        "MEMORY",
        "COMPUTE",
        "TOKEN_FILE",
    ] {
        command.env_remove(format!("GPURUN_{name}"));
    }
    command
        .env("XDG_CONFIG_HOME", "/nowhere")
        .env_remove("LD_PRELOAD");
    command
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("gpurun")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
