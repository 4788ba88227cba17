//! Unmodified Python clients from PyPI: directly on the software GPU and at a distance, with the same lines on standard output.
//!
//! Each compares what it computes with numpy, or with PyTorch on the processor; its lines carry the bits, so that the two ways are compared as well.
//! Needs `scripts/clients`, which downloads several gigabytes, and `scripts/toolchain`: `scripts/test` runs tinygrad, the array libraries, the languages, NCCL, XGBoost and CatBoost, `scripts/test clients` all of them.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use protocol::config::DEVICES_VARIABLE;
use tests::{Outcome, Server, Transport, Way, repository, run_within};

/// A set of packages that run both ways, and the clients that use it.
const CLIENTS: [(&str, &[&str]); 5] = [
    (
        "arrays",
        &[
            "numba_kernels",
            "numba_linker",
            "cupy_arrays",
            "cupy_textures",
            "cupy_ipc",
            "cuda_python",
            "cuda_python_graphs",
            "cuda_python_ipc",
            "cuda_python_checkpoint",
        ],
    ),
    (
        "languages",
        &[
            "warp_kernels",
            "taichi_fields",
            "drjit_arrays",
            "halide_pipelines",
        ],
    ),
    ("trees", &["xgboost_trees", "catboost_trees"]),
    ("rapids", &["cudf_frames"]),
    (
        "torch",
        &[
            "torch_runtime",
            "torch_processes",
            "triton_kernels",
            "torch_compiled",
        ],
    ),
];

/// Most time for one client: one that starts several processes with PyTorch in each takes a minute of a quiet machine, and minutes of a busy one.
const CLIENT_LIMIT: Duration = Duration::from_secs(600);

/// What needs no kernel: PyTorch's are machine code alone, which the software GPU refuses.
const WITHOUT_KERNELS: [&str; 6] = [
    "cuda_python_checkpoint",
    "cuda_python_ipc",
    "torch_allocators",
    "torch_devices",
    "torch_processes",
    "torch_runtime",
];

/// PyTorch's ways to memory that are tried directly as well: its own segments, and memory pools.
const WAYS_TO_MEMORY: [&str; 2] = ["expandable_segments:False", "backend:cudaMallocAsync"];
/// Virtual memory. PyTorch asks NVML about the device then, without looking whether there is one, and the software GPU has none.
const WAY_TO_VIRTUAL_MEMORY: &str = "expandable_segments:True";
const WAY_TO_MEMORY_VARIABLE: &str = "PYTORCH_CUDA_ALLOC_CONF";

/// How many software devices a process or a server finds.
const DEVICES_OF_MACHINE: (&str, &str) = ("GPURUN_SOFT_GPUS", "2");

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
        .env("WARP_CACHE_PATH", cache("warp"))
        .env("TI_OFFLINE_CACHE", "0")
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

fn run(command: Command) -> Outcome {
    run_within(command, CLIENT_LIMIT)
}

/// Runs the client directly, where what it gives the device must all be executable, also what it does not call; then at a distance.
fn computes_the_same(client: &str, server: &Server, command: &dyn Fn(&Way) -> Command) {
    let mut decoded = command(&Way::Direct);
    decoded.env("GPURUN_SOFT_DECODE", "all");
    let direct = run(decoded);
    direct.assert_passed(&format!("{client} directly"));
    if !WITHOUT_KERNELS.contains(&client) {
        assert_all_decoded(client, &direct.stderr);
    }
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
    cuda_python_with_a_multicast_object();
}

/// A device of compute capability 9.0: its own clients, and some that know nothing of it, whose kernels are compiled for it.
const HOPPER: [(&str, &[&str]); 2] = [
    (
        "arrays",
        &["hopper_cuda_core", "cupy_arrays", "numba_kernels"],
    ),
    ("torch", &["hopper_triton"]),
];
const HOPPER_DEVICE: (&str, &str) = ("GPURUN_SOFT_CC", "9.0");

fn on_hopper(set: &str) {
    let server = Server::start_with(Transport::Tcp, &[HOPPER_DEVICE]);
    let (_, clients) = HOPPER.iter().find(|(name, _)| *name == set).expect("a set");
    for client in *clients {
        let command = |way: &Way| {
            let mut command = command(way, set, client);
            command.env(HOPPER_DEVICE.0, HOPPER_DEVICE.1);
            command
        };
        computes_the_same(client, &server, &command);
    }
}

#[test]
#[ignore = "needs scripts/clients"]
fn array_libraries_on_hopper() {
    on_hopper("arrays");
}

#[test]
#[ignore = "needs scripts/clients"]
fn triton_on_hopper() {
    on_hopper("torch");
}

/// numba knows nothing of core dumps, and its process ends behind one.
#[test]
#[ignore = "needs scripts/clients"]
fn array_libraries_leave_core_dumps() {
    let python = repository().join("target/venvs/arrays/bin/python");
    assert!(python.exists(), "run scripts/clients arrays");
    let server = Server::start(Transport::Unix);
    let script = "from numba import cuda\nimport numpy as np\n\
                  @cuda.jit(lineinfo=True)\ndef beyond(a, i):\n    a[i] = 1\n\
                  a = cuda.to_device(np.zeros(16, np.float32))\n\
                  beyond[1, 1](a, 1 << 40)\ncuda.synchronize()\nprint('alive')\n";
    for way in [Way::Direct, Way::LibraryPath(server.address.clone())] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("core");
        let mut command = way.command(&python);
        command
            .args(["-c", script])
            .env("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "1")
            .env("CUDA_COREDUMP_FILE", &file);
        let outcome = run(command);
        assert_eq!(outcome.status.signal(), Some(6), "{way:?}: {outcome:?}");
        assert!(!outcome.stdout.contains("alive"));
        let dump = std::fs::read(&file).expect("a dump");
        assert!(dump.starts_with(b"\x7fELF"));
        let text = String::from_utf8_lossy(&dump);
        assert!(text.contains("beyond") && text.contains("illegal address"));
    }
}

#[test]
#[ignore = "needs scripts/clients"]
fn kernel_languages() {
    all_of("languages");
}

#[test]
#[ignore = "needs scripts/clients"]
fn boosted_trees() {
    all_of("trees");
}

#[test]
#[ignore = "needs scripts/clients"]
fn frames() {
    all_of("rapids");
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

#[test]
#[ignore = "needs scripts/clients"]
fn pytorchs_ways_to_memory() {
    let server = Server::start(Transport::Tcp);
    let command = |way: &Way, memory: &str| {
        let mut command = command(way, "torch", "torch_allocators");
        command.env(WAY_TO_MEMORY_VARIABLE, memory);
        command
    };
    for memory in WAYS_TO_MEMORY {
        computes_the_same("torch_allocators", &server, &|way| command(way, memory));
    }
    for way in [Way::LibraryPath, Way::Gpurun] {
        let way = way(server.address.clone());
        let memory = WAY_TO_VIRTUAL_MEMORY;
        run(command(&way, memory)).assert_passed(&format!("torch_allocators ({way:?}, {memory})"));
    }
}

#[test]
#[ignore = "needs scripts/clients"]
fn pytorch_on_two_devices() {
    let server = Server::start_with(Transport::Tcp, &[DEVICES_OF_MACHINE]);
    for memory in WAYS_TO_MEMORY {
        let command = |way: &Way| {
            let mut command = command(way, "torch", "torch_devices");
            let (variable, count) = match way {
                Way::Direct => DEVICES_OF_MACHINE,
                _ => (DEVICES_VARIABLE, "2"),
            };
            command
                .env(variable, count)
                .env(WAY_TO_MEMORY_VARIABLE, memory);
            command
        };
        computes_the_same("torch_devices", &server, &command);
    }
}

/// NCCL needs NVML, which the software GPU has not, so it runs at a distance only: over two devices, by its own binding and by PyTorch.
fn collectives(set: &str, client: &str) {
    let server = Server::start_with(Transport::Tcp, &[DEVICES_OF_MACHINE]);
    let outcome = |way: &Way| {
        let mut command = command(way, set, client);
        command.env(DEVICES_VARIABLE, "2");
        let outcome = run(command);
        outcome.assert_passed(&format!("{client} ({way:?})"));
        outcome.stdout
    };
    let [first, second] =
        [Way::LibraryPath, Way::Gpurun].map(|way| outcome(&way(server.address.clone())));
    assert_eq!(first, second, "{client}");
}

#[test]
#[ignore = "needs scripts/clients"]
fn nccl() {
    collectives("collectives", "nccl_collectives");
}

#[test]
#[ignore = "needs scripts/clients"]
fn pytorch_distributed() {
    collectives("torch", "torch_distributed");
}

/// Two devices whose memory is under one address, each with a process of its own.
#[test]
#[ignore = "needs scripts/clients"]
fn cuda_python_with_a_multicast_object() {
    let machine = [DEVICES_OF_MACHINE, ("GPURUN_SOFT_CC", "9.0")];
    let server = Server::start_with(Transport::Unix, &machine);
    let command = |way: &Way| {
        let mut command = command(way, "arrays", "cuda_python_multicast");
        command.envs(machine).env(DEVICES_VARIABLE, "2");
        command
    };
    computes_the_same("cuda_python_multicast", &server, &command);
}

/// JAX needs NVML, which the software GPU has not, so it runs at a distance only; and a device node, for which only `gpurun` stands in. By `gpurun` nothing is
/// prepared: it asks XLA for the line information by which its cubins carry their PTX.
#[test]
#[ignore = "needs scripts/clients"]
fn jax() {
    let server = Server::start(Transport::Tcp);
    let python = repository().join("target/venvs/jax/bin/python");
    let way = Way::Gpurun(server.address.clone());
    run(command_of(&way, &python, "jax_arrays")).assert_passed(&format!("jax_arrays ({way:?})"));
}
