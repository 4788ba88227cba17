//! Manners towards the process that we live in: loading, threads without signals, fork, exit.
//!
//! *What:* at load one `fstat`, and three handlers are registered: nothing else happens in a program that never uses CUDA. At the end of the
//! process the session says goodbye, after the program's own exit handlers and static destructors, so that those can still use the
//! device. *Fork:* a child of an initialised driver gets `CUDA_ERROR_NOT_INITIALIZED`, any other begins afresh; it never holds the
//! parent's connection. Handlers of the C library see to that; where a child was made without them (a bare `clone`), a page that the kernel
//! empties in children tells at the first call.
//!
//! # Safety
//! The handlers given to the C library are plain functions that touch atomics, close one descriptor, or run while the process is
//! single-threaded (after `fork`) or still whole (at exit). The page of [`WITNESS`] is mapped once in a process and never unmapped.
#![expect(
    unsafe_code,
    reason = "signal masks, handlers of the C library, a page that children find empty"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU64, Ordering::SeqCst};

use driver_api::abi::CUresult;
use driver_api::private_tables;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::coredump;
use crate::init;
use crate::log;
use crate::session;

/// The driver can be used.
const ALIVE: u8 = 0;
/// This is a child of a process that had initialised the driver.
const FORKED: u8 = 1;
/// The program is ending.
const ENDED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(ALIVE);
/// What the page of [`WITNESS`] holds in the process that mapped it; in a child it is 0.
const MAPPED_HERE: u8 = 1;
/// A page that the kernel empties in children, while there is a session; else null.
static WITNESS: AtomicPtr<AtomicU8> = AtomicPtr::new(std::ptr::null_mut());

/// Our connections get numbers from here on, if the limit allows: programs that close all descriptors and then open their own
/// begin at the lowest, and none of theirs shall get our number.
const FIRST_DESCRIPTOR: u64 = 1000;

/// The connection that a forked child closes: its number, -1 for none, and what it means.
struct Held {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// The socket first, then what a connection by RDMA has beside it.
static HELD: [Held; 8] = [const {
    Held {
        number: AtomicI32::new(-1),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
    }
}; 8];

/// Connections for one question, as many as there may be at a time; more are not closed in children.
static HELD_FOR_NOW: [Held; 8] = [const {
    Held {
        number: AtomicI32::new(NOTHING_HELD),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
    }
}; 8];

const NOTHING_HELD: i32 = -1;
/// A place that is about to hold something.
const ABOUT_TO_HOLD: i32 = -2;

/// A connection for one question: no child holds it.
pub(crate) struct HeldForNow {
    descriptor: OwnedFd,
    place: Option<&'static Held>,
}

impl HeldForNow {
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }
}

impl Drop for HeldForNow {
    fn drop(&mut self) {
        // Forgotten before it is closed: its number may be another's right after.
        if let Some(place) = self.place {
            place.number.store(NOTHING_HELD, SeqCst);
        }
    }
}

/// Remembers a connection for as long as the answer to a question takes.
pub(crate) fn hold_for_now(descriptor: OwnedFd) -> HeldForNow {
    let is_free = |held: &&Held| {
        let claimed = held
            .number
            .compare_exchange(NOTHING_HELD, ABOUT_TO_HOLD, SeqCst, SeqCst);
        claimed.is_ok()
    };
    let place = HELD_FOR_NOW.iter().find(is_free);
    if let Some(place) = place {
        place.note(descriptor.as_fd());
    }
    HeldForNow { descriptor, place }
}

impl Held {
    fn note(&self, descriptor: BorrowedFd<'_>) {
        if let Ok(stat) = rustix::fs::fstat(descriptor) {
            self.device.store(stat.st_dev, SeqCst);
            self.inode.store(stat.st_ino, SeqCst);
            self.number.store(descriptor.as_raw_fd(), SeqCst);
        }
    }

    /// Closes it, unless its number has come to mean something else.
    fn close(&self) {
        let number = self.number.swap(-1, SeqCst);
        if number < 0 {
            return;
        }
        // SAFETY: borrowed for one look; a number that is not open is answered with an error.
        let stat = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) });
        let is_ours = |stat: rustix::fs::Stat| {
            stat.st_dev == self.device.load(SeqCst) && stat.st_ino == self.inode.load(SeqCst)
        };
        if stat.is_ok_and(is_ours) {
            // SAFETY: the session's own descriptor; in this process nobody uses it any more: every call is refused,
            // or begins a session of its own.
            unsafe { libc::close(number) };
        }
    }
}

/// What the dynamic linker calls when the library is loaded and when the process ends.
mod loader {
    #[used]
    #[unsafe(link_section = ".init_array")]
    static AT_LOAD: extern "C" fn() = super::at_load;
    #[used]
    #[unsafe(link_section = ".fini_array")]
    static AT_END: extern "C" fn() = super::at_end;
}

/// What must be there before the first call: no lock, no thread, no file.
pub(crate) extern "C" fn at_load() {
    log::remember_standard_error();
    // The standard library's hook prints to the program's standard error. This is our own copy of that library: the hook of a program
    // that is written in Rust is another.
    if !cfg!(test) {
        // A test runner's panics are its own.
        std::panic::set_hook(Box::new(log::panicked));
    }
    init::offer_private_tables();
    // SAFETY: a plain function of the right type, which stays loaded (`-z nodelete`).
    unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) };
}

/// Sends what is still queued, and says goodbye. As a finaliser of the library it runs after the exit handlers and static
/// destructors of the program.
pub(crate) extern "C" fn at_end() {
    let end = || {
        coredump::at_end();
        session::end();
    };
    if refusal().is_none() && catch_unwind(end).is_ok() {
        STATE.store(ENDED, SeqCst);
    }
}

/// What every function answers if the driver can no longer be used in this process.
pub(crate) fn refusal() -> Option<CUresult> {
    let witness = WITNESS.load(SeqCst);
    // SAFETY: null, or the page, which is never unmapped.
    if unsafe { witness.as_ref() }.is_some_and(|page| page.load(SeqCst) != MAPPED_HERE) {
        in_forked_child();
    }
    match STATE.load(SeqCst) {
        ALIVE => None,
        FORKED => Some(CUresult::NOT_INITIALIZED),
        _ => Some(CUresult::DEINITIALIZED),
    }
}

/// Takes a connection in: moves it to a number where it is in nobody's way, and remembers it for a child that must not hold it.
pub(crate) fn hold(connection: OwnedFd) -> OwnedFd {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let first = limit.map_or(FIRST_DESCRIPTOR, |limit| {
        FIRST_DESCRIPTOR.min(limit.saturating_sub(24))
    });
    let first = RawFd::try_from(first).unwrap_or(0);
    let moved = rustix::io::fcntl_dupfd_cloexec(&connection, first);
    let connection = moved.unwrap_or(connection);
    HELD[0].note(connection.as_fd());
    connection
}

/// Remembers what else a child must not hold.
pub(crate) fn hold_also(descriptors: &[RawFd]) {
    for (held, number) in HELD[1..].iter().zip(descriptors) {
        // SAFETY: the connection that named it has it open.
        held.note(unsafe { BorrowedFd::borrow_raw(*number) });
    }
}

/// A session exists from now on: children have to be told apart.
pub(crate) fn session_began() {
    let flags = MapFlags::PRIVATE;
    // SAFETY: a new mapping at a place of the kernel's choice disturbs nobody's memory.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            size_of::<AtomicU8>(),
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )
    };
    let Ok(page) = page else { return };
    // SAFETY: the page that was just mapped; a kernel that cannot empty it in children says so, and then it is of no use.
    if unsafe { rustix::mm::madvise(page, 1, Advice::LinuxWipeOnFork) }.is_ok() {
        let page: *mut AtomicU8 = page.cast();
        // SAFETY: mapped above, readable and writable, and never unmapped.
        unsafe { &*page }.store(MAPPED_HERE, SeqCst);
        WITNESS.store(page, SeqCst);
    }
}

/// The child shares the socket with its parent: it must neither use nor hold it. Nor may it wait for a lock that another thread of the
/// parent held.
extern "C" fn in_forked_child() {
    WITNESS.store(std::ptr::null_mut(), SeqCst);
    if session::is_initialised() {
        STATE.store(FORKED, SeqCst);
    } else {
        session::forget();
    }
    log::forget();
    coredump::forget();
    private_tables::forget();
    HELD.iter().chain(&HELD_FOR_NOW).for_each(Held::close);
}

/// What the names of our threads begin with.
const NAME: &str = "gpurun-";

/// The thread of a process that sends for this library there: the first of its own.
pub(crate) fn thread_of_link(process: u32) -> Option<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let numbers = tasks.flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let number = task.file_name().to_str()?.parse().ok()?;
        name.starts_with(NAME).then_some(number)
    });
    numbers.min()
}

/// Starts a thread that no signal of the program is ever delivered to. If `body` panics, `after_panic` is called.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    after_panic: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    // SAFETY: a signal set is plain memory, filled by sigfillset before it is used.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are ours; the calling thread's mask is put back below.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let spawned = std::thread::Builder::new()
        .name(format!("{NAME}{name}"))
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                after_panic();
            }
        });
    // SAFETY: the mask that was read above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    spawned.map(drop)
}

/// True if every thread of the program has ended: only ours are left, and the process would never end. Unlike threads of the program,
/// ours must not keep it alive.
pub(crate) fn is_abandoned() -> bool {
    let state_of_main = task_state(std::process::id());
    if state_of_main.is_none_or(|(_, state)| state != ENDED_TASK) {
        return false;
    }
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks.flatten().all(|task| {
        let number = task.file_name().to_str().and_then(|name| name.parse().ok());
        // One that has gone meanwhile is none.
        number
            .and_then(task_state)
            .is_none_or(|(is_ours, state)| is_ours || state == ENDED_TASK)
    })
}

/// The state of a thread that has ended, but whose process has not.
const ENDED_TASK: char = 'Z';

/// Whether a thread is one of ours, and its state.
fn task_state(number: u32) -> Option<(bool, char)> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(") ")?;
    let (_, name) = name.split_once('(')?;
    Some((name.starts_with(NAME), rest.chars().next()?))
}

/// Ends the process as the C library does when its last thread ends.
pub(crate) fn end() -> ! {
    // SAFETY: no thread of the program is left that the exit handlers could disturb.
    unsafe { libc::exit(0) }
}

/// Ends the process as one that has gone wrong.
pub(crate) fn abort() -> ! {
    // SAFETY: it takes nothing and does not return.
    unsafe { libc::abort() }
}

/// Writes what device code printed to the program's own `stdout`, in order with what it prints itself.
pub(crate) fn print(bytes: &[u8]) {
    unsafe extern "C" {
        static stdout: *mut libc::FILE;
    }
    // SAFETY: the C library's stream, which exists as long as the process; the bytes are valid for their length.
    unsafe { libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), stdout) };
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    use driver_api::index;

    use super::*;
    use crate::entry;

    /// Runs one of the tests below that are only run so, in a process of its own: what it writes to standard error, line by line.
    fn lines_of(test: &str) -> Vec<String> {
        let itself = std::env::current_exe().expect("a test runner");
        let test = format!("process::tests::{test}");
        let output = Command::new(itself)
            .args(["--exact", &test, "--ignored", "--nocapture"])
            .stdin(Stdio::null())
            .output()
            .expect("it can be started");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_panic_in_a_call_is_an_error_and_one_line() {
        let lines = lines_of("panics_in_a_call");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("gpurun: internal error in cuCtxSynchronize at ")
                && lines[0].ends_with(": on purpose; please report it"),
            "{lines:?}"
        );
    }

    #[test]
    #[ignore = "run by the test above"]
    fn panics_in_a_call() {
        std::panic::set_hook(Box::new(log::panicked));
        let result = entry::call(index::cuCtxSynchronize, || panic!("on purpose"));
        assert_eq!(result, CUresult::UNKNOWN);
        // The next call is none the worse.
        let result = entry::call(index::cuCtxSynchronize, || CUresult::SUCCESS);
        assert_eq!(result, CUresult::SUCCESS);
    }

    #[test]
    fn a_panic_in_a_thread_of_ours_is_told_and_followed_by_the_end_of_the_session() {
        let lines = lines_of("panics_in_a_thread");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("gpurun: internal error in a thread of the library at "),
            "{lines:?}"
        );
    }

    #[test]
    #[ignore = "run by the test above"]
    fn panics_in_a_thread() {
        std::panic::set_hook(Box::new(log::panicked));
        let (told, heard) = mpsc::channel();
        let after = move || told.send(()).expect("the test waits");
        spawn("test", || panic!("on purpose"), after).expect("a thread");
        heard
            .recv_timeout(Duration::from_secs(60))
            .expect("it is told");
    }
}
