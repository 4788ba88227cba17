//! What another process lends: opened while signals arrive, while somebody does not ask, by a context that ends meanwhile; opened to other devices, and given up.
//!
//! The other process is this one, behind a socket of another name: a lender, which passes questions on, and does something before.
//!
//! # Safety
//!
//! The tests are the callers whose promises the driver's functions rely on: every pointer is to a local or an allocation of the
//! size that is told. A handler of a signal only counts.

#![expect(unsafe_code, reason = "the driver's C interface")]

use std::ffi::{c_int, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use driver_api::abi::{
    CUcontext, CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle, CUmemAccessDesc,
    CUmemLocation, CUmemoryPool, CUresult, CUstream,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use soft_gpu::exports::*;

#[macro_use]
#[path = "support/driver.rs"]
mod device;

const SIZE: usize = 64 << 10;
/// What a pool gives by itself, and would give again.
const WHOLE: usize = 4 << 20;
const LAZILY: u32 = 1;
/// Interprocess, without timing.
const SHARED_EVENT: u32 = 4 | 2;
const DESCRIPTOR: u32 = 1;
const READ_AND_WRITE: u32 = 3;

/// Copies a word.
const COPY: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry k(.param .u64 from, .param .u64 to)
{
    .reg .b32 %value;
    .reg .b64 %at<2>;
    ld.param.u64 %at0, [from];
    ld.param.u64 %at1, [to];
    ld.global.u32 %value, [%at0];
    st.global.u32 [%at1], %value;
    ret;
}
";

type Token = [u8; 16];

/// A context of the first of two devices.
fn context() -> CUcontext {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: no other thread of the tests reads the environment before this has run.
        unsafe { std::env::set_var("GPURUN_SOFT_GPUS", "2") };
        let first = device::context();
        ok!(cuCtxDestroy_v2(first));
    });
    device::context()
}

fn address_of(token: Token) -> SocketAddrUnix {
    let letters = token.map(|byte| format!("{byte:02x}")).concat();
    SocketAddrUnix::new_abstract_name(format!("gpurun-soft-ipc-{letters}").as_bytes()).unwrap()
}

fn socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn connected(token: Token) -> OwnedFd {
    let connection = socket();
    rustix::net::connect(&connection, &address_of(token)).unwrap();
    connection
}

/// What this process's own socket answers.
fn answer(token: Token, question: &[u8]) -> OwnedFd {
    let connection = connected(token);
    rustix::net::send(&connection, question, SendFlags::NOSIGNAL).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 16];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(&connection, &mut parts, &mut ancillary, flags).unwrap();
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    files.flatten().next().expect("it has what is asked for")
}

/// A lender of what this process has: its token.
fn lender(own: Token, before: impl Fn() + Send + 'static) -> Token {
    let mut token = Token::default();
    rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty()).unwrap();
    let listener = socket();
    rustix::net::bind(&listener, &address_of(token)).unwrap();
    rustix::net::listen(&listener, 8).unwrap();
    std::thread::spawn(move || {
        while let Ok(connection) = rustix::net::accept(&listener) {
            let mut question = [0; 16];
            let (length, _) =
                rustix::net::recv(&connection, &mut question, RecvFlags::empty()).unwrap();
            assert_eq!(length, question.len());
            before();
            let file = answer(own, &question);
            let files = [file.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&files));
            let told = [IoSlice::new(&question)];
            // Who has asked may have given up.
            let _ = rustix::net::sendmsg(&connection, &told, &mut ancillary, SendFlags::NOSIGNAL);
        }
    });
    token
}

fn token_in(handle: &[u8]) -> Token {
    handle[..16].try_into().unwrap()
}

/// The handle of memory of this process.
fn handle_of(memory: CUdeviceptr) -> CUipcMemHandle {
    let mut handle = CUipcMemHandle { reserved: [0; 64] };
    ok!(cuIpcGetMemHandle(&mut handle, memory));
    handle
}

/// The same memory, of a lender that does something before it answers.
fn lent(mut handle: CUipcMemHandle, before: impl Fn() + Send + 'static) -> CUipcMemHandle {
    let token = lender(token_in(&handle.reserved), before);
    handle.reserved[..16].copy_from_slice(&token);
    handle
}

fn open(handle: CUipcMemHandle) -> Result<CUdeviceptr, CUresult> {
    let mut address = 0;
    match cu!(cuIpcOpenMemHandle_v2(&mut address, handle, LAZILY)) {
        CUresult::SUCCESS => Ok(address),
        error => Err(error),
    }
}

fn filled(value: u32) -> CUdeviceptr {
    let memory = device::allocate(SIZE);
    ok!(cuMemsetD32_v2(memory, value, SIZE / 4));
    // Other contexts wait for no stream of this one.
    ok!(cuCtxSynchronize());
    memory
}

/// A pool of this process, with an allocation of that; and the pool and what is said of the allocation, as another process has them.
struct Pools {
    own: CUmemoryPool,
    memory: CUdeviceptr,
    imported: CUmemoryPool,
    pointer: [u8; 64],
}

fn pools(before: impl Fn() + Send + 'static) -> Pools {
    // Pinned, exportable by descriptor, on the first device.
    let mut properties = [0u64; 11];
    properties[..2].copy_from_slice(&[1 | u64::from(DESCRIPTOR) << 32, 1]);
    let (mut own, mut imported) = (CUmemoryPool(0), CUmemoryPool(0));
    let (mut memory, mut descriptor): (_, c_int) = (0, -1);
    ok!(cuMemPoolCreate(&mut own, properties.as_ptr().cast()));
    ok!(cuMemAllocFromPoolAsync(
        &mut memory,
        WHOLE,
        own,
        CUstream(0)
    ));
    ok!(cuMemsetD32_v2(memory, 7, WHOLE / 4));
    ok!(cuCtxSynchronize());
    ok!(cuMemPoolExportToShareableHandle(
        (&raw mut descriptor).cast(),
        own,
        DESCRIPTOR,
        0
    ));
    // SAFETY: the call above has made it, and nobody else has it.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut told = [0; 40];
    assert_eq!(rustix::io::pread(&file, &mut told, 0), Ok(told.len()));
    let token = lender(token_in(&told[8..]), before);
    told[8..24].copy_from_slice(&token);
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let theirs = rustix::fs::memfd_create("pool", flags).unwrap();
    assert_eq!(rustix::io::pwrite(&theirs, &told, 0), Ok(told.len()));
    ok!(cuMemPoolImportFromShareableHandle(
        &mut imported,
        theirs.as_raw_fd() as usize as *mut c_void,
        DESCRIPTOR,
        0
    ));
    let mut pointer = [0; 64];
    ok!(cuMemPoolExportPointer((&raw mut pointer).cast(), memory));
    pointer[..16].copy_from_slice(&token);
    Pools {
        own,
        memory,
        imported,
        pointer,
    }
}

impl Pools {
    fn import(&mut self) -> Result<CUdeviceptr, CUresult> {
        let mut address = 0;
        let pointer = (&raw mut self.pointer).cast();
        match cu!(cuMemPoolImportPointer(&mut address, self.imported, pointer)) {
            CUresult::SUCCESS => Ok(address),
            error => Err(error),
        }
    }
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

/// Does something while signals come to this thread whose handler interrupts what it waits for; how many came.
fn among_signals<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = SIGNALS.load(SeqCst);
    let is_done = AtomicBool::new(false);
    // SAFETY: the handler counts, and no call is begun again behind it: no flags. The thread is there as long as its signals are sent.
    let this = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (count as *const ()).addr();
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, null_mut()), 0);
        libc::pthread_self()
    };
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(SeqCst) {
                // SAFETY: as above.
                unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = work();
        is_done.store(true, SeqCst);
        result
    });
    (result, SIGNALS.load(SeqCst) - before)
}

#[test]
fn a_signal_interrupts_no_open() {
    let slowly = || std::thread::sleep(Duration::from_millis(100));
    context();
    let handle = lent(handle_of(filled(3)), slowly);
    let (opened, signals) = among_signals(|| open(handle));
    assert_eq!(device::read(opened.expect("opened")), 3);
    assert!(signals > 1, "{signals}");

    let (mut event, mut own) = (CUevent(0), CUipcEventHandle { reserved: [0; 64] });
    ok!(cuEventCreate(&mut event, SHARED_EVENT));
    ok!(cuIpcGetEventHandle(&mut own, event));
    let token = lender(token_in(&own.reserved), slowly);
    own.reserved[..16].copy_from_slice(&token);
    let (opened, signals) = among_signals(|| cu!(cuIpcOpenEventHandle(&mut event, own)));
    assert_eq!(opened, CUresult::SUCCESS);
    assert!(signals > 1, "{signals}");
}

/// There are programs that look at the handle alone.
#[test]
fn an_event_of_one_process_has_an_empty_handle() {
    context();
    let (mut event, mut own) = (CUevent(0), CUipcEventHandle { reserved: [7; 64] });
    ok!(cuEventCreate(&mut event, 0));
    let refused = cu!(cuIpcGetEventHandle(&mut own, event));
    assert_eq!(refused, CUresult::INVALID_HANDLE);
    assert_eq!(own.reserved, [0; 64]);
}

#[test]
fn who_connects_and_does_not_ask_lets_others_in() {
    context();
    let own = handle_of(filled(4));
    let silent = [(); 2].map(|()| connected(token_in(&own.reserved)));
    let start = Instant::now();
    let opened = open(lent(own, || ()));
    assert_eq!(device::read(opened.expect("opened")), 4);
    // A second for each, and others have five.
    let took = start.elapsed();
    assert!(
        took > Duration::from_secs(1),
        "they were not left: {took:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(silent);
}

#[test]
fn a_context_that_ends_while_it_opens_has_nothing_of_it() {
    static ENDS: Mutex<CUcontext> = Mutex::new(CUcontext(0));
    let keeper = context();
    let end = || {
        let context = std::mem::replace(&mut *ENDS.lock().unwrap(), CUcontext(0));
        if context != CUcontext(0) {
            ok!(cuCtxDestroy_v2(context));
        }
    };
    let handle = lent(handle_of(filled(5)), end);
    let mut pools = pools(end);
    *ENDS.lock().unwrap() = context();
    assert_eq!(open(handle), Err(CUresult::CONTEXT_IS_DESTROYED));
    ok!(cuCtxSetCurrent(keeper));
    assert_eq!(device::read(open(handle).expect("opened")), 5);
    *ENDS.lock().unwrap() = context();
    assert_eq!(pools.import(), Err(CUresult::CONTEXT_IS_DESTROYED));
    ok!(cuCtxSetCurrent(keeper));
    assert_eq!(device::read(pools.import().expect("imported")), 7);
}

#[test]
fn a_handle_is_open_in_one_context_and_a_pointer_of_a_pool_in_several() {
    context();
    let handle = lent(handle_of(filled(6)), || ());
    let mut pools = pools(|| ());
    let first = context();
    let opened = open(handle).expect("opened");
    assert_eq!(open(handle), Ok(opened), "once more");
    let imported = pools.import().expect("imported");
    let second = context();
    assert_eq!(open(handle), Err(CUresult::INVALID_CONTEXT));
    let elsewhere = pools.import().expect("imported");
    assert_ne!(imported, elsewhere);
    assert_eq!([imported, elsewhere].map(device::read), [7, 7]);
    // With its context it is closed.
    ok!(cuCtxDestroy_v2(first));
    ok!(cuCtxSetCurrent(second));
    assert_eq!(device::read(open(handle).expect("opened")), 6);
    assert_eq!(device::read(elsewhere), 7);
}

/// What a kernel of the second device has read; each has a context of its own, since an illegal address ends it.
fn read_by_another_device(address: CUdeviceptr) -> Result<u32, CUresult> {
    let mut context = CUcontext(0);
    ok!(cuCtxCreate_v2(&mut context, 0, 1));
    let (_, function) = device::load(COPY);
    let to = device::allocate(4);
    let mut values = [address, to];
    let [from, to_parameter] = &mut values;
    let mut parameters = [
        (&raw mut *from).cast::<c_void>(),
        (&raw mut *to_parameter).cast(),
    ];
    ok!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        CUstream(0),
        parameters.as_mut_ptr(),
        null_mut()
    ));
    let result = match cu!(cuCtxSynchronize()) {
        CUresult::SUCCESS => Ok(device::read(to)),
        error => Err(error),
    };
    ok!(cuCtxDestroy_v2(context));
    result
}

#[test]
fn grants_of_an_imported_pool_count_for_other_devices() {
    let first = context();
    let mut pools = pools(|| ());
    let imported = pools.import().expect("imported");
    let refused = Err(CUresult::ILLEGAL_ADDRESS);
    assert_eq!(read_by_another_device(imported), refused);
    for (flags, outcome) in [(READ_AND_WRITE, Ok(7)), (0, refused)] {
        let granted = CUmemAccessDesc {
            location: CUmemLocation { kind: 1, id: 1 },
            flags,
        };
        ok!(cuMemPoolSetAccess(pools.imported, &granted, 1));
        assert_eq!(read_by_another_device(imported), outcome);
        assert_eq!(
            read_by_another_device(pools.memory),
            refused,
            "another pool"
        );
    }
    ok!(cuCtxSetCurrent(first));
    ok!(cuMemPoolDestroy(pools.own));
}

#[test]
fn what_is_imported_is_never_handed_out_as_new() {
    context();
    let mut pools = pools(|| ());
    let imported = pools.import().expect("imported");
    ok!(cuMemPoolDestroy(pools.imported));
    ok!(cuMemFreeAsync(imported, CUstream(0)));
    // A call that waits would give back what is held.
    while cu!(cuStreamQuery(CUstream(0))) == CUresult::NOT_READY {
        std::thread::yield_now();
    }
    let mut fresh = 0;
    ok!(cuMemAllocAsync(&mut fresh, WHOLE, CUstream(0)));
    ok!(cuMemsetD32_v2(fresh, 99, WHOLE / 4));
    assert_ne!(fresh, imported);
    assert_eq!(device::read(pools.memory), 7);
}
