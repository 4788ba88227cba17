//! CuPy's own tests, of its source package. What is expected to fail is compared by a plugin of pytest, `cupy_plugin.py`.

use std::process::Command;

use tests::{Server, Transport, Way, run};

use super::{cupy_cache, fetched, own, passed, python};

/// What of CuPy's tests is run, in their folder.
const CUPY: [&str; 11] = [
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
];

/// Fewer than these were run: the selection has lost some.
const LEAST_PASSED: u32 = 190;

fn cupy(way: &Way) -> Command {
    let mut command = way.command(&python());
    let paths = std::env::join_paths([fetched("runner"), own("")]).expect("folders without colons");
    let is_direct = matches!(way, Way::Direct);
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
        .args(["-q", "-rfEX", "--tb=short", "--timeout=60"])
        .args(["-m", "not slow and not multi_gpu"])
        .args(CUPY.map(|tests| format!("tests/cupy_tests/{tests}")))
        .env("PYTHONPATH", paths)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GPURUN_SUITE_EXPECTED", own("cupy.expected"))
        .env(
            "GPURUN_SUITE_WAY",
            if is_direct { "direct" } else { "distant" },
        )
        .env("CUPY_COMPILE_WITH_PTX", "1")
        .env("CUPY_CACHE_DIR", cupy_cache());
    command
}

#[test]
#[ignore = "needs scripts/suites"]
fn cupys_own_tests() {
    let server = Server::start(Transport::Tcp);
    for way in [Way::Direct, Way::LibraryPath(server.address.clone())] {
        let outcome = run(cupy(&way));
        let told = &outcome.stdout;
        assert!(
            outcome.status.success(),
            "{way:?}: {told}\n{}",
            outcome.stderr
        );
        assert!(passed(told) >= LEAST_PASSED, "{way:?}: {told}");
        println!("{way:?}: {}", told.lines().last().unwrap_or(""));
    }
}
