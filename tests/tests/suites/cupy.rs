//! CuPy's own tests, of its source package. What is expected to fail is compared by a plugin of pytest, `cupy_plugin.py`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::{Server, Transport, Way, repository, run_within};

use super::{cupy_cache, fetched, own, passed, python};

/// Tests that run in one process.
struct Part<'a> {
    /// Files and folders, in that of CuPy's tests.
    modules: &'a [&'a str],
    /// Which of them, as pytest's `-k` has it.
    chosen: &'a str,
    /// For one test, which may compile hundreds of kernels.
    limit: Duration,
}

/// Those about the device: fewer than so many were run if the selection has lost some.
const CUDA: (Part<'_>, u32) = (
    Part {
        modules: &[
            "cuda_tests/memory_hooks_tests",
            "cuda_tests/test_device.py",
            "cuda_tests/test_driver.py",
            "cuda_tests/test_graph.py",
            "cuda_tests/test_memory.py",
            "cuda_tests/test_memory_hook.py",
            "cuda_tests/test_nvrtc.py",
            "cuda_tests/test_pinned_memory.py",
            "cuda_tests/test_profile.py",
            "cuda_tests/test_runtime.py",
            "cuda_tests/test_stream.py",
        ],
        chosen: "",
        limit: Duration::from_secs(60),
    },
    190,
);

/// Those about kernels that CuPy generates or is given; what compiles or computes for many seconds is left to the whole.
const KERNELS: (Part<'_>, u32) = (
    Part {
        modules: &[
            "core_tests/test_carray.py",
            "core_tests/test_core.py",
            "core_tests/test_cub_reduction.py",
            "core_tests/test_elementwise.py",
            "core_tests/test_function.py",
            "core_tests/test_gufuncs.py",
            "core_tests/test_ndarray_complex_ops.py",
            "core_tests/test_ndarray_indexing.py",
            "core_tests/test_ndarray_math.py",
            "core_tests/test_ndarray_scatter.py",
            "core_tests/test_ndarray_ufunc.py",
            "core_tests/test_raw.py",
            "core_tests/test_reduction.py",
            "core_tests/test_scan.py",
            "core_tests/test_ufunc_methods.py",
            "core_tests/test_userkernel.py",
            "core_tests/fusion_tests/test_kernel_cache.py",
            "core_tests/fusion_tests/test_optimization.py",
            "sorting_tests/test_sort.py",
        ],
        chosen: "not NVCC and not partition and not set_unset and not (reduction and (shape1 or shape3 or shape4 or shape5))",
        limit: Duration::from_secs(120),
    },
    600,
);

/// The folders of which everything runs, a module in a process.
const WHOLE: [&str; 2] = ["core_tests", "sorting_tests"];
const LEAST_OF_WHOLE: u32 = 3400;

/// For the modules that compile thousands of kernels.
const MODULE_LIMIT: Duration = Duration::from_secs(5400);
const TEST_LIMIT: Duration = Duration::from_secs(1800);

fn cupy(way: &Way, part: &Part<'_>) -> Command {
    let mut command = way.command(&python("arrays"));
    let paths = std::env::join_paths([fetched("runner"), own("")]).expect("folders without colons");
    let is_direct = matches!(way, Way::Direct);
    let modules = part.modules.iter();
    command
        .current_dir(fetched("cupy"))
        .args([
            "-m",
            "pytest",
            "-p",
            "cupy_plugin",
            "-p",
            "no:cacheprovider",
        ])
        .args(["-q", "-rfEX", "--tb=short"])
        .arg(format!("--timeout={}", part.limit.as_secs()))
        .args(["-m", "not slow and not multi_gpu", "-k", part.chosen])
        .args(modules.map(|module| format!("tests/cupy_tests/{module}")))
        .env("PYTHONPATH", paths)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GPURUN_SUITE_EXPECTED", own("cupy.expected"))
        .env(
            "GPURUN_SUITE_WAY",
            if is_direct { "direct" } else { "distant" },
        )
        // Tests ask it for its version when they are collected.
        .env("NVCC", nvcc())
        .env("CUPY_COMPILE_WITH_PTX", "1")
        .env("CUPY_CACHE_DIR", cupy_cache());
    command
}

/// The compiler of `scripts/toolchain`.
fn nvcc() -> PathBuf {
    let nvcc = repository().join("target/tools/cuda/nvidia/cu13/bin/nvcc");
    assert!(nvcc.exists(), "run scripts/toolchain");
    nvcc
}

/// Runs a part one way: how many pass.
fn passing(way: &Way, part: &Part<'_>) -> u32 {
    let outcome = run_within(cupy(way, part), MODULE_LIMIT);
    let told = &outcome.stdout;
    // Five: nothing of a module is left.
    let ends_well = outcome.status.success() || outcome.status.code() == Some(5);
    let modules = part.modules;
    assert!(
        ends_well,
        "{modules:?} ({way:?}): {told}\n{}",
        outcome.stderr
    );
    let last = told.lines().last().unwrap_or("");
    println!("{} ({way:?}): {last}", modules.join(" "));
    passed(told)
}

#[test]
#[ignore = "needs scripts/suites"]
fn cupys_own_tests() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::LibraryPath(server.address.clone())] {
        for (part, least_passed) in [CUDA, KERNELS] {
            let passed = passing(&way, &part);
            assert!(passed >= least_passed, "{way:?}: {passed} passed");
        }
    }
}

/// The files of tests in a folder of CuPy's tests, and in those in it.
fn modules_in(folder: &str) -> Vec<String> {
    let tests = fetched("cupy").join("tests/cupy_tests");
    let entries = std::fs::read_dir(tests.join(folder)).expect("a folder of tests");
    let mut modules = Vec::new();
    for entry in entries {
        let name = entry.expect("an entry").file_name();
        let path = Path::new(folder).join(&name);
        let name = name.to_str().expect("a name of ASCII").to_owned();
        let path = path.to_str().expect("a name of ASCII");
        if tests.join(path).is_dir() && !name.starts_with('_') {
            modules.extend(modules_in(path));
        } else if name.starts_with("test_") && name.ends_with(".py") {
            modules.push(path.to_owned());
        }
    }
    modules.sort_unstable();
    modules
}

#[test]
#[ignore = "needs scripts/suites, and hours where nothing is compiled yet"]
fn cupys_core_whole() {
    let server = Server::start(Transport::Unix);
    let ways = [Way::Direct, Way::LibraryPath(server.address.clone())];
    let mut totals = [0; 2];
    for module in WHOLE.into_iter().flat_map(modules_in) {
        let part = Part {
            modules: &[&module],
            chosen: "",
            limit: TEST_LIMIT,
        };
        for (way, total) in ways.iter().zip(&mut totals) {
            *total += passing(way, &part);
        }
    }
    println!("{totals:?} pass");
    assert!(
        totals.iter().all(|passed| *passed >= LEAST_OF_WHOLE),
        "{totals:?}"
    );
}
