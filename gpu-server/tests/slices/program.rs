//! The programs: this test's own binary, started again with our library in front of it, in a process of its own.
//!
//! # Safety
//! The functions have the driver's C signatures, and are called with places and buffers that live longer than the call.
#![expect(unsafe_code, reason = "calls the driver's C interface")]

use std::ffi::{CString, c_int, c_void};
use std::io::Read;

use libloading::{Library, Symbol};

/// What a program is to do.
pub(crate) const ROLE: &str = "GPURUN_TEST_SLICE_ROLE";

const SUCCESS: c_int = 0;
const OUT_OF_MEMORY: c_int = 2;
const MIB: usize = 1 << 20;

/// The driver with a current context.
struct Cuda(Library);

macro_rules! ok {
    ($cuda:expr, $name:ident: fn($($kind:ty),*), $($argument:expr),*) => {{
        let result = call!($cuda, $name: fn($($kind),*), $($argument),*);
        assert_eq!(result, SUCCESS, stringify!($name));
    }};
}

macro_rules! call {
    ($cuda:expr, $name:ident: fn($($kind:ty),*), $($argument:expr),*) => {{
        // SAFETY: by the module's rules.
        unsafe {
            let function: Symbol<'_, unsafe extern "C" fn($($kind),*) -> c_int> =
                $cuda.0.get(stringify!($name).as_bytes()).expect(stringify!($name));
            function($($argument),*)
        }
    }};
}

impl Cuda {
    fn start() -> Self {
        // SAFETY: our library, which may be loaded anywhere.
        let cuda = Self(unsafe { Library::new("libgpurun_cuda.so") }.expect("our library"));
        ok!(cuda, cuInit: fn(u32), 0);
        let mut context = std::ptr::null_mut();
        ok!(cuda, cuDevicePrimaryCtxRetain: fn(*mut *mut c_void, c_int), &raw mut context, 0);
        ok!(cuda, cuCtxSetCurrent: fn(*mut c_void), context);
        cuda
    }

    fn try_allocate(&self, bytes: usize) -> Result<u64, c_int> {
        let mut address = 0;
        match call!(self, cuMemAlloc_v2: fn(*mut u64, usize), &raw mut address, bytes) {
            SUCCESS => Ok(address),
            error => Err(error),
        }
    }

    fn allocate(&self, bytes: usize) -> u64 {
        self.try_allocate(bytes)
            .unwrap_or_else(|error| panic!("{bytes} bytes were refused: {error}"))
    }

    fn free(&self, address: u64) {
        ok!(self, cuMemFree_v2: fn(u64), address);
    }

    fn fill(&self, address: u64, value: u8, bytes: usize) {
        ok!(self, cuMemsetD8_v2: fn(u64, u8, usize), address, value, bytes);
    }

    fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0x5A_u8; bytes];
        ok!(self, cuMemcpyDtoH_v2: fn(*mut c_void, u64, usize), read.as_mut_ptr().cast(), address, bytes);
        read
    }

    fn memory(&self) -> (usize, usize) {
        let (mut free, mut total) = (0, 0);
        ok!(self, cuMemGetInfo_v2: fn(*mut usize, *mut usize), &raw mut free, &raw mut total);
        (free, total)
    }

    fn device_memory(&self) -> usize {
        let mut total = 0;
        ok!(self, cuDeviceTotalMem_v2: fn(*mut usize, c_int), &raw mut total, 0);
        total
    }

    fn load(&self, text: &str) -> Result<*mut c_void, c_int> {
        let text = CString::new(text).expect("no zero");
        let mut module = std::ptr::null_mut();
        match call!(self, cuModuleLoadData: fn(*mut *mut c_void, *const c_void), &raw mut module, text.as_ptr().cast())
        {
            SUCCESS => Ok(module),
            error => Err(error),
        }
    }

    fn unload(&self, module: *mut c_void) {
        ok!(self, cuModuleUnload: fn(*mut c_void), module);
    }
}

/// Says something to the test, on a line of its own.
fn say(text: &str) {
    eprintln!("SAYS {text}");
}

/// Waits until the test has no more to say.
fn wait() {
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).expect("read");
}

/// Does what the role says; the words after it are numbers.
pub(crate) fn run(role: &str) {
    let mut words = role.split(' ');
    let name = words.next().unwrap_or_default();
    let numbers: Vec<usize> = words.map(|word| word.parse().expect("a number")).collect();
    let cuda = Cuda::start();
    match (name, &numbers[..]) {
        ("races", &[seed, part, rounds]) => race(&cuda, seed as u64, part, rounds),
        ("whole", &[slice, has_spare]) => whole(&cuda, slice, has_spare),
        ("idles", &[bytes]) => {
            leave_idle(&cuda, bytes);
            say("ready");
            wait();
        }
        ("idles_and_blocks", &[bytes]) => {
            leave_idle(&cuda, bytes);
            // Memory of a context waits for the streams of that context only.
            let mut context = std::ptr::null_mut();
            ok!(cuda, cuCtxCreate_v2: fn(*mut *mut c_void, u32, c_int), &raw mut context, 0, 0);
            let held = hold_a_stream(&cuda).0;
            say("ready");
            ok!(cuda, cuStreamSynchronize: fn(*mut c_void), held);
        }
        ("holds", &[bytes]) => {
            let address = cuda.allocate(bytes);
            cuda.fill(address, 0xA5, bytes);
            say("ready");
            wait();
        }
        ("frees", &[bytes]) => free_while_in_use(&cuda, bytes),
        ("zeros", &[bytes]) => {
            let address = cuda.allocate(bytes);
            let read = cuda.read(address, bytes);
            assert!(read.iter().all(|byte| *byte == 0), "another's bytes");
        }
        ("module", &[bytes]) => module(&cuda, bytes),
        _ => panic!("no such role: {role}"),
    }
}

/// Random sizes, small and large; never more than its part at a time. None may be refused.
fn race(cuda: &Cuda, seed: u64, part: usize, rounds: usize) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % below
    };
    let mut has: Vec<(u64, usize)> = Vec::new();
    for round in 0..rounds {
        // What a size takes of the slice at most: its chunks, or a share of one; small ones may leave a spare chunk.
        let bytes = match next(3) {
            0 => 1 + next(64 << 10),
            1 => 1 + next(MIB),
            _ => MIB + 1 + next(part / 3),
        };
        let taken = |bytes: &usize| bytes.next_multiple_of(2 * MIB);
        let held: usize = has.iter().map(|(_, bytes)| taken(bytes)).sum();
        if held + taken(&bytes) <= part {
            let address = cuda.allocate(bytes);
            cuda.fill(address + bytes as u64 - 1, round as u8, 1);
            has.push((address, bytes));
        } else if !has.is_empty() {
            let (address, _) = has.swap_remove(next(has.len()));
            cuda.free(address);
        }
    }
    for (address, _) in has {
        cuda.free(address);
    }
}

/// All of a slice, exactly, and nothing beyond.
fn whole(cuda: &Cuda, slice: usize, held_by_others: usize) {
    assert_eq!(cuda.device_memory(), slice);
    for _ in 0..3 {
        assert_eq!(cuda.memory(), (slice - held_by_others, slice));
        let rest = slice - held_by_others;
        assert_eq!(cuda.try_allocate(rest + 1), Err(OUT_OF_MEMORY));
        assert_eq!(cuda.try_allocate(slice * 2), Err(OUT_OF_MEMORY));
        let large = cuda.allocate(rest / 2);
        let other = cuda.allocate(rest - rest / 2 - 2 * MIB);
        assert_eq!(cuda.memory(), (2 * MIB, slice));
        let small: Vec<u64> = (0..4).map(|_| cuda.allocate(512 << 10)).collect();
        assert_eq!(cuda.memory(), (0, slice));
        assert_eq!(cuda.try_allocate(1), Err(OUT_OF_MEMORY));
        cuda.free(large);
        // Freed a moment ago, and there at once.
        let large = cuda.allocate(rest / 2);
        small.into_iter().for_each(|address| cuda.free(address));
        // What is idle here is given back before this is refused.
        let last = cuda.allocate(2 * MIB);
        [last, large, other]
            .into_iter()
            .for_each(|address| cuda.free(address));
    }
}

/// Has so much in small pieces, and frees them.
fn leave_idle(cuda: &Cuda, bytes: usize) {
    let small: Vec<u64> = (0..bytes / 1024).map(|_| cuda.allocate(1024)).collect();
    small.into_iter().for_each(|address| cuda.free(address));
}

/// A stream that waits until something is written to an address.
fn hold_a_stream(cuda: &Cuda) -> (*mut c_void, u64) {
    let flag = cuda.allocate(4);
    cuda.fill(flag, 0, 4);
    let mut held = std::ptr::null_mut();
    ok!(cuda, cuStreamCreate: fn(*mut *mut c_void, u32), &raw mut held, 1);
    ok!(cuda, cuStreamWaitValue32_v2: fn(*mut c_void, u64, u32, u32), held, flag, 1, 0);
    (held, flag)
}

/// Frees memory that a stream may still use, until the test says that it goes on.
fn free_while_in_use(cuda: &Cuda, bytes: usize) {
    let address = cuda.allocate(bytes);
    let (held, flag) = hold_a_stream(cuda);
    ok!(cuda, cuMemsetD8Async: fn(u64, u8, usize, *mut c_void), address, 7, bytes, held);
    cuda.free(address);
    say("ready");
    wait();
    let mut other = std::ptr::null_mut();
    ok!(cuda, cuStreamCreate: fn(*mut *mut c_void, u32), &raw mut other, 1);
    ok!(cuda, cuStreamWriteValue32_v2: fn(*mut c_void, u64, u32, u32), other, flag, 1, 0);
    ok!(cuda, cuStreamSynchronize: fn(*mut c_void), held);
}

/// A module's variables count, and are refused where they do not fit.
fn module(cuda: &Cuda, bytes: usize) {
    let text = |bytes: usize| {
        format!(
            ".version 7.0\n.target sm_70\n.address_size 64\n.global .align 16 .b8 variable[{bytes}];\n.visible .entry nothing()\n{{\n    ret;\n}}\n"
        )
    };
    let (free, total) = cuda.memory();
    let loaded = cuda.load(&text(bytes)).expect("loaded");
    let (now, _) = cuda.memory();
    assert!(free - now >= bytes, "{} for {bytes}", free - now);
    assert_eq!(cuda.load(&text(total)), Err(OUT_OF_MEMORY));
    assert_eq!(cuda.memory().0, now, "a refused module is given back");
    say("ready");
    wait();
    cuda.unload(loaded);
    assert_eq!(cuda.memory().0, free);
}
