//! Unmodified Python clients from PyPI: directly on the software GPU and at a distance, with the same lines on standard output.
//!
//! Each compares what it computes with numpy, or with PyTorch on the processor; its lines carry the bits, so that the two ways are compared as well.
//! Needs `scripts/clients`, which downloads several gigabytes, and `scripts/toolchain`: `scripts/test` runs tinygrad and the array libraries, `scripts/test clients` all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Server, Transport, Way, repository, run};

/// A set of packages that run both ways, and the clients that use it.
const CLIENTS: [(&str, &[&str]); 2] = [
    (
        "arrays",
        &[
            "numba_kernels",
            "numba_linker",
            "cupy_arrays",
            "cupy_textures",
            "cupy_ipc",
            "cuda_python",
        ],
    ),
    (
        "torch",
        &["torch_runtime", "triton_kernels", "torch_compiled"],
    ),
];

/// What the clients need: CuPy's kernels as PTX, and compiled kernels kept where the two ways share them.
fn command(way: &Way, set: &str, client: &str) -> Command {
    let python = repository()
        .join("target/venvs")
        .join(set)
        .join("bin/python");
    let cache = |name: &str| -> PathBuf { repository().join("target/venvs/caches").join(name) };
    let mut command = command_of(way, &python, client);
    command
        .env("CUPY_COMPILE_WITH_PTX", "1")
        .env("CUPY_CACHE_DIR", cache("cupy"))
        .env("TRITON_CACHE_DIR", cache("triton"))
        .env("TORCHINDUCTOR_CACHE_DIR", cache("inductor"))
        .env("PYTHONWARNINGS", "ignore")
        // Kernels that the check of a real GPU has as well.
        .env("PYTHONPATH", repository().join("tests/gpu-check/clients"));
    command
}

/// A client, by an interpreter that has what it needs.
fn command_of(way: &Way, python: &Path, client: &str) -> Command {
    assert!(
        python.exists(),
        "run scripts/toolchain, or scripts/clients: no {}",
        python.display()
    );
    let mut command = way.command(python);
    command.arg(
        repository()
            .join("tests/clients")
            .join(format!("{client}.py")),
    );
    command
}

/// Runs the client directly, where what it gives the device must all be executable, also what it does not call; then at a distance.
fn computes_the_same(client: &str, server: &Server, command: &dyn Fn(&Way) -> Command) {
    let mut decoded = command(&Way::Direct);
    decoded.env("GPURUN_SOFT_DECODE", "all");
    let direct = run(decoded);
    direct.assert_passed(&format!("{client} directly"));
    assert_all_decoded(client, &direct.stderr);
    for way in [Way::LibraryPath, Way::Gpurun] {
        let way = way(server.address.clone());
        let distant = run(command(&way));
        distant.assert_passed(&format!("{client} ({way:?})"));
        assert_eq!(direct.stdout, distant.stdout, "{client} ({way:?})");
    }
}

fn assert_all_decoded(client: &str, log: &str) {
    let told = log.lines().filter(|line| line.contains("a module of "));
    let modules = told.clone().count();
    assert!(modules > 0, "{client} has loaded no module");
    let wrong: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("cannot execute: "))
        .collect();
    assert!(wrong.is_empty(), "{client}: {wrong:#?}");
    assert!(told.clone().all(|line| line.contains("of which 0 cannot")));
    println!("{client}: {modules} modules");
}

fn all_of(set: &str) {
    let server = Server::start(Transport::Tcp);
    let (_, clients) = CLIENTS
        .iter()
        .find(|(name, _)| *name == set)
        .expect("a set");
    for client in *clients {
        let command = |way: &Way| command(way, set, client);
        computes_the_same(client, &server, &command);
    }
}

#[test]
#[ignore = "needs scripts/clients"]
fn array_libraries() {
    all_of("arrays");
}

#[test]
#[ignore = "needs scripts/clients"]
fn pytorch_and_triton() {
    all_of("torch");
}

/// What a command sets a variable of its environment to.
fn value_of(command: &Command, variable: &str) -> Option<PathBuf> {
    let (_, value) = command.get_envs().find(|(name, _)| *name == variable)?;
    value.map(PathBuf::from)
}

/// tinygrad's kernels as NVRTC compiles them, and as it writes them itself; compiled anew in each run.
#[test]
#[ignore = "needs scripts/toolchain"]
fn tinygrad() {
    let server = Server::start(Transport::Tcp);
    let toolkit = repository().join("target/tools/cuda/nvidia/cu13");
    let compiler = toolkit.join("lib");
    for renderer in ["CUDA", "CUDA:PTX"] {
        let command = |way: &Way| {
            let python = repository().join("target/tools/python/bin/python");
            let mut command = command_of(way, &python, "tinygrad_kernels");
            // NVRTC's own parts are looked for there.
            let driver = value_of(&command, "LD_LIBRARY_PATH");
            let folders = driver.into_iter().chain([compiler.clone()]);
            let folders = std::env::join_paths(folders).expect("folders without colons");
            command
                .env("LD_LIBRARY_PATH", folders)
                .env("DEV", renderer)
                .env("CUDA_PATH", &toolkit)
                .env("NVRTC_PATH", &compiler)
                .env("CACHELEVEL", "0")
                .env("PARALLEL", "0");
            command
        };
        computes_the_same("tinygrad_kernels", &server, &command);
    }
}

/// JAX needs NVML, which the software GPU has not, so it runs at a distance only; and a device node, which `with-device-node` pretends. On the software GPU
/// it needs line information, for the PTX in its cubins, and no tuning, whose timer polls the program's memory from the device.
#[test]
#[ignore = "needs scripts/clients, and root"]
fn jax() {
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root, "a mount namespace with a device node needs root");
    let server = Server::start(Transport::Tcp);
    let wrapper = repository().join("tests/clients/with-device-node");
    let python = repository().join("target/venvs/jax/bin/python");
    assert!(python.exists(), "run scripts/clients");
    for way in [Way::LibraryPath, Way::Gpurun] {
        let way = way(server.address.clone());
        let mut command = way.command(&wrapper);
        command
            .arg(&python)
            .arg(repository().join("tests/clients/jax_arrays.py"))
            .env("JAX_PLATFORMS", "cuda,cpu")
            .env(
                "XLA_FLAGS",
                "--xla_gpu_generate_line_info=true --xla_gpu_autotune_level=0",
            );
        run(command).assert_passed(&format!("jax_arrays ({way:?})"));
    }
}
