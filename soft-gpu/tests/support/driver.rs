//! What tests of the driver share: a device of their own, and calls that must succeed.
//!
//! # Safety
//!
//! See the tests.

use std::ffi::CString;
use std::sync::Once;

use driver_api::abi::{CUcontext, CUfunction, CUmodule, CUresult};
use soft_gpu::exports::*;

/// Calls the driver; the block is unsafe because every function of a C interface is.
macro_rules! cu {
    ($call:expr) => {{
        // SAFETY: see the module.
        unsafe { $call }
    }};
}

macro_rules! ok {
    ($call:expr) => {
        assert_eq!(cu!($call), CUresult::SUCCESS, "{}", stringify!($call))
    };
}

/// Initialises the driver once, on a device of the test's own, and makes a context for this thread.
pub(crate) fn context() -> CUcontext {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let segment = format!("gpurun-test-driver-{}", std::process::id());
        // SAFETY: no other thread of the tests reads the environment before this has run.
        unsafe {
            std::env::set_var("GPURUN_SOFT_SEGMENT", &segment);
            std::env::set_var("GPURUN_SOFT_MEMORY", "256MiB");
        }
        let mut count = 0;
        assert_eq!(cu!(cuDeviceGetCount(&mut count)), CUresult::NOT_INITIALIZED);
        ok!(cuInit(0));
        std::fs::remove_file(format!("/dev/shm/{segment}")).unwrap();
    });
    let mut context = CUcontext(0);
    ok!(cuCtxCreate_v2(&mut context, 0, 0));
    context
}

/// Device memory.
pub(crate) fn allocate(size: usize) -> u64 {
    let mut address = 0;
    ok!(cuMemAlloc_v2(&mut address, size));
    address
}

/// A module, and its kernel `k`.
pub(crate) fn load(ptx: &str) -> (CUmodule, CUfunction) {
    let text = CString::new(ptx).unwrap();
    let (mut module, mut function) = (CUmodule(0), CUfunction(0));
    ok!(cuModuleLoadData(&mut module, text.as_ptr().cast()));
    ok!(cuModuleGetFunction(&mut function, module, c"k".as_ptr()));
    (module, function)
}

/// A word of device memory.
pub(crate) fn read(at: u64) -> u32 {
    let mut value = 0u32;
    ok!(cuMemcpyDtoH_v2((&raw mut value).cast(), at, 4));
    value
}
