//! What kernels print before they fault is seen by the program, whichever of its calls is the first that is told.
//!
//! # Safety
//!
//! The test is the caller whose promises the driver's functions rely on: every pointer is to a local.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::process::{Command, Stdio};
use std::ptr::null_mut;

use driver_api::abi::{CUevent, CUresult, CUstream};
use soft_gpu::exports::*;

#[macro_use]
#[expect(dead_code, reason = "this test needs no memory")]
#[path = "support/driver.rs"]
mod device;

/// In the environment of the program that prints: the call that is told.
const CHILD: &str = "GPURUN_TEST_PRINTING";
const PRINTED: &str = "before the trap";

/// Prints and traps.
const PRINT_AND_TRAP: &str = "
.version 7.0
.target sm_75
.address_size 64
.extern .func (.param .b32 result) vprintf (.param .b64 format, .param .b64 arguments);
.global .align 1 .b8 text[17] = {98, 101, 102, 111, 114, 101, 32, 116, 104, 101, 32, 116, 114, 97, 112, 10, 0};
.visible .entry k()
{
    .reg .b64 %a;
    .reg .b32 %v;
    mov.u64 %a, text;
    cvta.global.u64 %a, %a;
    {
        .param .b64 format;
        .param .b64 arguments;
        .param .b32 result;
        st.param.b64 [format], %a;
        st.param.b64 [arguments], 0;
        call.uni (result), vprintf, (format, arguments);
        ld.param.b32 %v, [result];
    }
    trap;
}
";

/// A program whose kernel traps, and that then makes one kind of call until it is told so.
fn program(call: &str) {
    device::context();
    let (_, function) = device::load(PRINT_AND_TRAP);
    let stream = CUstream(0);
    let mut event = CUevent(0);
    ok!(cuEventCreate(&mut event, 0));
    ok!(cuEventRecord(event, stream));
    let (extra, none) = (null_mut(), null_mut());
    ok!(cuLaunchKernel(
        function, 1, 1, 1, 1, 1, 1, 0, stream, none, extra
    ));
    let told = || match call {
        "synchronise" => cu!(cuCtxSynchronize()),
        "stream" => cu!(cuStreamQuery(stream)),
        "event" => cu!(cuEventQuery(event)),
        _ => {
            let (mut free, mut total) = (0, 0);
            cu!(cuMemGetInfo_v2(&mut free, &mut total))
        }
    };
    let mut result = told();
    while matches!(result, CUresult::NOT_READY | CUresult::SUCCESS) {
        std::thread::yield_now();
        result = told();
    }
    assert_eq!(result, CUresult::LAUNCH_FAILED);
}

#[test]
fn what_is_printed_before_a_fault_is_seen() {
    if let Ok(call) = std::env::var(CHILD) {
        return program(&call);
    }
    for call in ["synchronise", "stream", "event", "memory"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "what_is_printed_before_a_fault_is_seen",
                "--nocapture",
            ])
            .env(CHILD, call)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{call}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches(PRINTED).count(), 1, "{call}: {text}");
    }
}
