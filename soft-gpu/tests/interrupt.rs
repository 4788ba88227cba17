//! Ctrl-C on a program whose kernel never ends: what it had of the device is free again within two seconds.
//!
//! # Safety
//!
//! The test is the caller whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::c_void;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use driver_api::abi::{CUcontext, CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[expect(dead_code, reason = "this test makes its device itself")]
#[path = "support/driver.rs"]
mod device;

const MIB: usize = 1 << 20;
const TAKEN: usize = 100 * MIB;
const PATIENCE: Duration = Duration::from_secs(2);
/// In the environment of the program that is interrupted.
const CHILD: &str = "GPURUN_TEST_INTERRUPTED";
const READY: &str = "the kernel runs";

/// Says that it runs, and goes on for ever.
const ENDLESS: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 at)
{
    .reg .b64 %a;
    ld.param.u64 %a, [at];
    st.volatile.global.u32 [%a], 1;
again:
    bra again;
}
";

fn free() -> usize {
    let (mut free, mut total) = (0, 0);
    ok!(cuMemGetInfo_v2(&mut free, &mut total));
    free
}

/// The program that is interrupted.
fn child() {
    let mut taken = 0;
    ok!(cuMemAlloc_v2(&mut taken, TAKEN));
    let (_, function) = device::load(ENDLESS);
    let mut word = 0u32;
    ok!(cuMemHostRegister_v2((&raw mut word).cast(), 4, 0));
    let mut at = (&raw mut word) as u64;
    let mut parameters = [(&raw mut at).cast::<c_void>()];
    ok!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        32,
        1,
        1,
        0,
        CUstream(0),
        parameters.as_mut_ptr(),
        null_mut()
    ));
    // SAFETY: the word is a local of this function.
    while unsafe { (&raw const word).read_volatile() } == 0 {
        std::thread::yield_now();
    }
    println!("{READY}");
    ok!(cuCtxSynchronize());
}

fn wait(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn an_interrupt_frees_the_device() {
    let is_child = std::env::var_os(CHILD).is_some();
    let segment = format!("gpurun-test-interrupt-{}", std::process::id());
    if !is_child {
        // SAFETY: no other thread of this test reads the environment.
        unsafe {
            std::env::set_var("GPURUN_SOFT_SEGMENT", &segment);
            std::env::set_var("GPURUN_SOFT_MEMORY", "256MiB");
        }
    }
    ok!(cuInit(0));
    let mut context = CUcontext(0);
    ok!(cuCtxCreate_v2(&mut context, 0, 0));
    if is_child {
        return child();
    }
    let before = free();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_interrupt_frees_the_device", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(other.stdout.take().unwrap());
    let ready = output.lines().map_while(Result::ok);
    assert!({ ready }.any(|line| line.contains(READY)));
    assert!(free() <= before - TAKEN);
    // SAFETY: the process is this test's child, which was not waited for.
    assert_eq!(unsafe { libc::kill(other.id() as i32, libc::SIGINT) }, 0);
    let start = Instant::now();
    assert!(wait(&mut other), "it goes on");
    while free() != before && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(free(), before);
    // The next program's kernels run.
    let at = device::allocate(4);
    ok!(cuMemsetD32_v2(at, 7, 1));
    assert_eq!(device::read(at), 7);
    std::fs::remove_file(format!("/dev/shm/{segment}")).unwrap();
    assert!(start.elapsed() < PATIENCE);
}
