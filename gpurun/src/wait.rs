//! Waiting for the program: its signals and its status are passed on.
//!
//! What: the signals that concern us are blocked before the program starts (it starts with none blocked), and then
//! taken one by one. The kernel gives a terminal's signals to the whole group, so the program has its own copy of them and
//! they are dropped here, but for the hang-up, which it gives to the leader of the session alone; what a process sent to us is forwarded. Where
//! the terminal stops the program, we stop too, so that whoever started us notices.
//!
//! # Safety
//! The signal sets are plain values; the waiting fills a plain structure; no handler is installed; between fork and exec only calls that are safe
//! there are made.
#![expect(unsafe_code, reason = "signal sets, dispositions and sigwaitinfo")]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// What is forwarded, if a process sent it.
const FORWARDED: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Whether who started us ignores the ends of its children, and so its programs do, too.
static IGNORES_CHILDREN: AtomicBool = AtomicBool::new(false);

/// From now on the ends of our children are told to us, whatever we were started with; before any is started.
pub(crate) fn hear_of_children() {
    // SAFETY: it installs no handler.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    IGNORES_CHILDREN.store(before == libc::SIG_IGN, Ordering::Relaxed);
}

/// The program hears of its children as we did.
pub(crate) fn hear_as_before(command: &mut Command) {
    if !IGNORES_CHILDREN.load(Ordering::Relaxed) {
        return;
    }
    let restore = || {
        // SAFETY: it installs no handler, and is allowed after fork.
        match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } {
            libc::SIG_ERR => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(restore) };
}

/// Keeps signals away from a thread that helps us: they are the waiting thread's.
pub(crate) fn block_in_this_thread() {
    let mut all = empty_set();
    // SAFETY: the set is valid.
    unsafe { libc::sigfillset(&mut all) };
    // SAFETY: the set is valid, and nothing is asked back. It cannot fail with this argument.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut()) };
}

/// The signals that we take while a program runs.
pub(crate) struct Signals {
    taken: libc::sigset_t,
    /// What was blocked before, and is in the program.
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks them, from before the program starts.
    pub(crate) fn block() -> io::Result<Self> {
        let (mut taken, mut before) = (empty_set(), empty_set());
        for signal in FORWARDED.into_iter().chain([libc::SIGCHLD]) {
            // SAFETY: the set is valid and so is the number.
            unsafe { libc::sigaddset(&mut taken, signal) };
        }
        // SAFETY: both sets are valid.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &taken, &mut before) } {
            0 => Ok(Self { taken, before }),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Starts the program, with nothing blocked but what was before. Whoever kills us means the program: it ends with us, as if we had become it.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let before = self.before;
        let launcher = rustix::process::getpid();
        let restore = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(launcher) {
                // We were killed just before.
                return Err(io::ErrorKind::Interrupted.into());
            }
            // SAFETY: the set is a valid copy; nothing is asked back; the call is allowed after fork.
            match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) }
            {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        };
        // SAFETY: between fork and exec the closure makes three system calls and allocates nothing.
        unsafe { command.pre_exec(restore) };
        command.spawn()
    }

    /// The next signal, and whether the kernel itself sent it.
    fn next(&self) -> io::Result<(libc::c_int, bool)> {
        // SAFETY: a structure of plain numbers.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both are valid.
        match unsafe { libc::sigwaitinfo(&self.taken, &mut information) } {
            -1 => Err(io::Error::last_os_error()),
            signal => Ok((signal, information.si_code > 0)),
        }
    }

    /// Waits for the program's end, forwarding meanwhile.
    pub(crate) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let process = Pid::from_child(child);
        while !has_ended(process)? {
            match self.next() {
                Ok((signal, is_from_kernel)) if is_for_program(signal, is_from_kernel) => {
                    forward(process, signal);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            stop_like(process)?;
        }
        child.wait()
    }
}

/// Looked at, not reaped: the program's number stays its own while we may forward.
fn has_ended(process: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(rustix::process::waitid(WaitId::Pid(process), options)?.is_some())
}

/// Stops where the terminal has stopped the program, until somebody lets us go on. Who has stopped it by SIGSTOP means it alone.
fn stop_like(process: Pid) -> io::Result<()> {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    let stopped = match rustix::process::waitid(WaitId::Pid(process), options) {
        Ok(stopped) => stopped.and_then(|status| status.stopping_signal()),
        // It has ended in between.
        Err(rustix::io::Errno::CHILD) => None,
        Err(error) => return Err(error.into()),
    };
    if stopped.is_some_and(|signal| signal != libc::SIGSTOP) {
        rustix::process::kill_process(rustix::process::getpid(), Signal::STOP)?;
    }
    Ok(())
}

fn is_for_program(signal: libc::c_int, is_from_kernel: bool) -> bool {
    let is_hang_up_of_leader = || {
        let session = rustix::process::getsid(None);
        signal == libc::SIGHUP && session == Ok(rustix::process::getpid())
    };
    FORWARDED.contains(&signal) && (!is_from_kernel || is_hang_up_of_leader())
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call makes the set valid.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: made valid above.
    unsafe { set.assume_init() }
}

fn forward(process: Pid, signal: libc::c_int) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        // It fails only where the program has just ended, and that is noticed next.
        let _ = rustix::process::kill_process(process, signal);
    }
}

/// The program's end as our own exit status: its code, or 128 and the signal's number.
pub(crate) fn exit_status(status: ExitStatus) -> u8 {
    let number = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(crate::exit::INTERNAL),
    };
    u8::try_from(number & 0xFF).unwrap_or(crate::exit::INTERNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_as_in_a_shell() {
        assert_eq!(exit_status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_status(ExitStatus::from_raw(libc::SIGSEGV)), 139);
    }
}
