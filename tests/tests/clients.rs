//! Unmodified Python clients from PyPI: directly on the software GPU and at a distance, with the same lines on standard output.
//!
//! Each compares what it computes with numpy, or with PyTorch on the processor; its lines carry the bits, so that the two ways are compared as well.
//! Needs `scripts/clients`, which downloads several gigabytes: `scripts/test` runs the array libraries, `scripts/test clients` all of them.

use std::path::PathBuf;
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
    assert!(python.exists(), "run scripts/clients");
    let cache = |name: &str| -> PathBuf { repository().join("target/venvs/caches").join(name) };
    let mut command = way.command(&python);
    command
        .arg(
            repository()
                .join("tests/clients")
                .join(format!("{client}.py")),
        )
        .env("CUPY_COMPILE_WITH_PTX", "1")
        .env("CUPY_CACHE_DIR", cache("cupy"))
        .env("TRITON_CACHE_DIR", cache("triton"))
        .env("TORCHINDUCTOR_CACHE_DIR", cache("inductor"))
        .env("PYTHONWARNINGS", "ignore")
        // Kernels that the check of a real GPU has as well.
        .env("PYTHONPATH", repository().join("tests/gpu-check/clients"));
    command
}

fn computes_the_same(set: &str, client: &str, server: &Server) {
    let direct = run(command(&Way::Direct, set, client));
    direct.assert_passed(&format!("{client} directly"));
    for way in [Way::LibraryPath, Way::Gpurun] {
        let way = way(server.address.clone());
        let distant = run(command(&way, set, client));
        distant.assert_passed(&format!("{client} ({way:?})"));
        assert_eq!(direct.stdout, distant.stdout, "{client} ({way:?})");
    }
}

/// What the client gives the device can be executed, also what it has not called.
fn is_all_executable(set: &str, client: &str) {
    let mut command = command(&Way::Direct, set, client);
    command.env("GPURUN_SOFT_DECODE", "all");
    let outcome = run(command);
    outcome.assert_passed(&format!("{client}, all of it decoded"));
    assert_all_decoded(client, &outcome.stderr);
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
        computes_the_same(set, client, &server);
        is_all_executable(set, client);
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
