//! A device of compute capability 9.0: launches in clusters and what is compiled for it, directly and by every way.

use std::process::Command;

use tests::{Server, Transport, Way, program, run};

/// What makes a device of the software GPU one of this kind, and gives it multiprocessors.
const DEVICE: [(&str, &str); 2] = [("GPURUN_SOFT_CC", "9.0"), ("GPURUN_SOFT_THREADS", "4")];

/// Programs of the driver API, and of the runtime with code for this kind of device.
const PROGRAMS: &[(&str, &str)] = &[
    ("driver", "surface_cluster"),
    ("driver", "surface_tensor_map"),
    ("hopper13", "clusters"),
    ("hopper13", "tensor_copies"),
    ("hopper13", "graphs"),
    ("hopper13", "vector_add"),
    ("hopper13", "tiled_matmul"),
];

fn command(way: &Way, (variant, name): (&str, &str)) -> Command {
    let mut command = way.command(&program(variant, name));
    command.envs(DEVICE);
    command
}

fn all_pass(way: &Way) {
    for what in PROGRAMS {
        run(command(way, *what)).assert_passed(&format!("{what:?} ({way:?})"));
    }
}

#[test]
fn directly_on_the_software_gpu() {
    all_pass(&Way::Direct);
}

#[test]
fn by_every_way_over_each_transport() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let server = Server::start_with(transport, &DEVICE);
        for way in [Way::Preload, Way::LibraryPath, Way::Gpurun] {
            all_pass(&way(server.address.clone()));
        }
    }
}

#[test]
fn a_function_that_merely_returns_success_is_noticed() {
    let server = Server::start_with(Transport::Unix, &DEVICE);
    let way = Way::Preload(server.address.clone());
    for function in [
        "cuLaunchKernelEx",
        "cuFuncSetAttribute",
        "cuFuncGetAttribute",
        "cuOccupancyMaxActiveClusters",
        "cuOccupancyMaxPotentialClusterSize",
        "cuGraphKernelNodeSetAttribute",
        "cuGraphKernelNodeGetAttribute",
        "cuGraphKernelNodeCopyAttributes",
    ] {
        let mut command = command(&way, ("driver", "surface_cluster"));
        command.args(["--pretend", function]);
        let outcome = run(command);
        assert!(!outcome.status.success(), "{function}: {outcome:?}");
    }
}

/// With one thread a cluster's blocks still run together, and a device below 9.0 refuses them.
#[test]
fn clusters_need_a_device_that_has_them_and_one_thread() {
    let mut alone = command(&Way::Direct, ("hopper13", "clusters"));
    alone.env("GPURUN_SOFT_THREADS", "1");
    run(alone).assert_passed("clusters by one thread");
    let mut older = command(&Way::Direct, ("driver", "surface_cluster"));
    older.env("GPURUN_SOFT_CC", "8.0");
    assert_eq!(run(older).status.code(), Some(1));
}
