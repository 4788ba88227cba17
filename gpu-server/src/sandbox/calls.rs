//! The system calls that a worker is refused once it is ready: seccomp, on every thread at once.
//!
//! *Why a list of what is refused:* which calls NVIDIA's driver makes is not ours to know, and changes with its releases; one that a list of allowed
//! calls forgot would fail a program in the middle of its work. *What is on it:* what leads out of the process (new programs and processes,
//! other processes' memory, limits and signals, sockets), what only an administrator needs, what the kernel's past holes were in, and what Landlock
//! does not cover (System V memory, changing who owns a file). *Rules:* what is refused fails with EPERM, and the worker lives; `clone3`,
//! whose flags a filter cannot read, is answered as if there were none, and the C library takes `clone`; a call by another calling convention (32 bits, x32)
//! gets nowhere.
//!
//! *Cost:* since Linux 5.11 the kernel knows which calls pass whatever their arguments are, and runs the filter for none of them.
//!
//! # Safety
//! The filter lives until the kernel has copied it; the call takes a number, flags and that pointer.
#![expect(
    unsafe_code,
    reason = "installs a filter, for which there is no safe call"
)]

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use super::LayerError;

/// What is refused whatever its arguments are, on every machine.
const REFUSED: &[c_long] = &[
    // Other programs. (Other processes: see `rules`.)
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes' memory, descriptors, and what they are.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_tkill,
    // Memory and messages that have no path: anybody of the same user would find them.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Files by number, whose they are, who may do what with them, and how long they are. (`ftruncate` is for who has opened one to write.)
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_truncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Other views of the machine.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Other users.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    // Ways into the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_personality,
    libc::SYS_vhangup,
    // What an administrator does.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_nfsservctl,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
];

/// What only this machine has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_kexec_file_load,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];

/// What only this machine has.
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// `fchmodat2`, `setxattrat`, `removexattrat`: the same on every machine.
const REFUSED_NEW: [c_long; 3] = [452, 463, 466];

/// Flags of `clone` that make another view of the machine.
const NEW_VIEWS: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    // CLONE_NEWTIME, within the exit signal's bits.
    0x80,
];

/// `ioctl`: puts a byte into a terminal's input, or makes signals go to another process.
const CONTROLS: [u64; 4] = [
    libc::TIOCSTI,
    // TIOCLINUX
    0x541C,
    // FIOSETOWN
    0x8901,
    // SIOCSPGRP
    0x8902,
];

/// `prctl`: outliving the daemon, being seen, being traced, another layout of memory.
const PROCESS_CONTROLS: [libc::c_int; 4] = [
    libc::PR_SET_PDEATHSIG,
    libc::PR_SET_DUMPABLE,
    libc::PR_SET_PTRACER,
    libc::PR_SET_MM,
];

/// `fcntl`: makes signals go to another process. The last is F_SETOWN_EX.
const DESCRIPTOR_CONTROLS: [libc::c_int; 2] = [libc::F_SETOWN, 15];

/// The bits of a socket's type that are no flags.
const SOCKET_TYPES: u64 = 0xF;

/// Sockets that send to a place without being connected. A raw unix socket is one of datagrams.
const CONNECTIONLESS: [libc::c_int; 4] = [
    libc::SOCK_DGRAM,
    libc::SOCK_RAW,
    libc::SOCK_RDM,
    // SOCK_PACKET
    10,
];

/// The calls that send, and which argument has the flags.
const SENDS: [(c_long, u8); 3] = [
    (libc::SYS_sendmsg, 2),
    (libc::SYS_sendto, 3),
    (libc::SYS_sendmmsg, 3),
];

/// Numbers of calls above are another calling convention's.
#[cfg(target_arch = "x86_64")]
const FIRST_OF_X32: u32 = 0x4000_0000;

/// `MSG_FASTOPEN`: connects with what is sent.
const FAST_OPEN: u32 = libc::MSG_FASTOPEN.cast_unsigned();

/// What the kernel calls this machine: `AUDIT_ARCH_X86_64` and so on. (seccompiler knows no others.)
const MACHINE_HERE: u32 = if cfg!(target_arch = "x86_64") {
    0xC000_003E
} else if cfg!(target_arch = "aarch64") {
    0xC000_00B7
} else {
    0xC000_00F3
};

/// Lays the filter on every thread. With `may_connect`, unix sockets may still be connected.
pub(super) fn refuse(may_connect: bool) -> Result<(), LayerError> {
    let program = program(std::process::id(), may_connect)?;
    install(&program)
}

/// Whether the kernel can filter calls.
pub(super) fn is_there() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the operation reads the action, a live number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    result == 0
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// One argument of a call, and what makes it refused.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, LayerError> {
    // The kernel takes these as 32 bits: what is above does not count, so it must not count here.
    let width = SeccompCmpArgLen::Dword;
    Ok(SeccompCondition::new(argument, width, operator, value)?)
}

/// A rule of one condition.
fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, LayerError> {
    Ok(SeccompRule::new(vec![condition(
        argument, operator, value,
    )?])?)
}

fn when_equal(
    argument: u8,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>, LayerError> {
    let values = values.into_iter();
    values
        .map(|value| when(argument, SeccompCmpOp::Eq, value))
        .collect()
}

/// What is refused to the process of this number.
fn rules(process: u32, may_connect: bool) -> Result<Rules, LayerError> {
    use SeccompCmpOp::{MaskedEq, Ne};
    let always = REFUSED.iter().chain(REFUSED_HERE).chain(&REFUSED_NEW);
    let mut rules: Rules = always.map(|call| (*call, Vec::new())).collect();
    if !may_connect {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    let number = |value: libc::c_int| u64::from(value.cast_unsigned());
    let process = u64::from(process);
    // Sockets of this machine, and none that sends without being connected.
    let unix = number(libc::AF_UNIX);
    let of_type = |kind| when(1, MaskedEq(SOCKET_TYPES), number(kind));
    let connectionless = || CONNECTIONLESS.into_iter().map(of_type);
    let pairs: Vec<SeccompRule> = connectionless().collect::<Result<_, _>>()?;
    let mut sockets = pairs.clone();
    sockets.push(when(0, Ne, unix)?);
    rules.insert(libc::SYS_socket, sockets);
    rules.insert(libc::SYS_socketpair, pairs);
    // Threads only: a process would outlive this one.
    let thread = number(libc::CLONE_THREAD);
    let mut clone = vec![when(0, MaskedEq(thread), 0)?];
    for flag in NEW_VIEWS.map(number) {
        clone.push(when(0, MaskedEq(flag), flag)?);
    }
    rules.insert(libc::SYS_clone, clone);
    for call in [
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
    ] {
        rules.insert(call, vec![when(0, Ne, process)?]);
    }
    let others = vec![condition(0, Ne, 0)?, condition(0, Ne, process)?];
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(others)?]);
    let numbers = PROCESS_CONTROLS.map(number);
    rules.insert(libc::SYS_prctl, when_equal(0, numbers)?);
    let numbers = DESCRIPTOR_CONTROLS.map(number);
    rules.insert(libc::SYS_fcntl, when_equal(1, numbers)?);
    rules.insert(libc::SYS_ioctl, when_equal(1, CONTROLS)?);
    Ok(rules)
}

/// The filter.
fn program(process: u32, may_connect: bool) -> Result<BpfProgram, LayerError> {
    let machine = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(
        rules(process, may_connect)?,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        machine,
    )?;
    let mut program = beginning();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// What the crate cannot say: calls of another convention, `clone3`, which is to be not there, and sending.
///
/// Sending connects as well, with `MSG_FASTOPEN`: the client's own socket, once it is disconnected, and to anywhere. It is looked at here and first, since
/// every frame is sent: these few instructions are all that the filter costs a session.
fn beginning() -> BpfProgram {
    const NUMBER: u32 = 0;
    const MACHINE: u32 = 4;
    const ARGUMENTS: u32 = 16;
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let answer = |error: libc::c_int| {
        let value = libc::SECCOMP_RET_ERRNO | error.cast_unsigned();
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
    };
    let jump = libc::BPF_JMP | libc::BPF_K;
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut program = vec![instruction(load, 0, 0, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    program.extend([
        instruction(jump | libc::BPF_JGE, 0, 1, FIRST_OF_X32),
        answer(libc::EPERM),
    ]);
    let clone3 = libc::SYS_clone3 as u32;
    program.extend([
        instruction(jump | libc::BPF_JEQ, 0, 1, clone3),
        answer(libc::ENOSYS),
    ]);
    for (call, flags) in SENDS {
        // The argument's lower half; which half comes first is the machine's.
        let half = if cfg!(target_endian = "big") { 4 } else { 0 };
        let place = ARGUMENTS + 8 * u32::from(flags) + half;
        program.extend([
            instruction(jump | libc::BPF_JEQ, 0, 7, call as u32),
            // Another machine's call of this number is another call: the whole filter looks at it.
            instruction(load, 0, 0, MACHINE),
            instruction(jump | libc::BPF_JEQ, 0, 4, MACHINE_HERE),
            instruction(load, 0, 0, place),
            instruction(jump | libc::BPF_JSET, 1, 0, FAST_OPEN),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
            answer(libc::EPERM),
            instruction(load, 0, 0, NUMBER),
        ]);
    }
    program
}

fn install(program: &BpfProgram) -> Result<(), LayerError> {
    /// What the kernel is given.
    #[repr(C)]
    struct Program {
        length: libc::c_ushort,
        instructions: *const sock_filter,
    }
    let given = Program {
        length: program.len() as libc::c_ushort,
        instructions: program.as_ptr(),
    };
    // A worker runs no code of the client's on the processor that could look at its own memory by speculation, so that is not slowed down.
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the program and its instructions live across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const given,
        )
    };
    match result {
        0 => Ok(()),
        -1 => {
            let source = io::Error::last_os_error();
            match source.raw_os_error() {
                Some(libc::ENOSYS | libc::EINVAL) => Err(LayerError::Absent("seccomp")),
                _ => Err(LayerError::io("seccomp")(source)),
            }
        }
        thread => Err(LayerError::Thread(thread)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers to a call: as the kernel would run it.
    fn run(program: &[sock_filter], machine: u32, call: c_long, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((call as u32).to_ne_bytes());
        data.extend(machine.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        arguments
            .iter()
            .for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut place, mut accumulator) = (0, 0_u32);
        loop {
            let instruction = &program[place];
            let (code, operand) = (u32::from(instruction.code), instruction.k);
            let jump = |is_true: bool| {
                usize::from(if is_true {
                    instruction.jt
                } else {
                    instruction.jf
                })
            };
            place += 1;
            match code & 0x07 {
                libc::BPF_LD => {
                    let at = operand as usize;
                    let bytes = data[at..at + 4].try_into().expect("4 bytes");
                    accumulator = u32::from_ne_bytes(bytes);
                }
                libc::BPF_ALU => accumulator &= operand,
                libc::BPF_RET => return operand,
                libc::BPF_JMP => {
                    place += match code & 0xF0 {
                        libc::BPF_JA => operand as usize,
                        libc::BPF_JEQ => jump(accumulator == operand),
                        libc::BPF_JGT => jump(accumulator > operand),
                        libc::BPF_JGE => jump(accumulator >= operand),
                        libc::BPF_JSET => jump(accumulator & operand != 0),
                        other => panic!("{other:#x}"),
                    };
                }
                other => panic!("{other:#x}"),
            }
        }
    }

    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    fn answers(may_connect: bool) -> impl Fn(c_long, &[u64]) -> u32 {
        let program = program(7, may_connect).expect("a filter");
        assert!(program.len() < 4096, "{}", program.len());
        move |call, given| {
            let mut arguments = [0; 6];
            arguments[..given.len()].copy_from_slice(given);
            run(&program, MACHINE_HERE, call, arguments)
        }
    }

    #[test]
    fn what_a_session_needs_passes() {
        let answer = answers(false);
        for call in [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_futex,
            libc::SYS_sendmsg,
            libc::SYS_memfd_create,
            libc::SYS_sched_setaffinity,
            libc::SYS_exit_group,
        ] {
            assert_eq!(answer(call, &[]), ALLOWED, "{call}");
        }
        let thread = 0x3d_0f00;
        assert_eq!(answer(libc::SYS_clone, &[thread]), ALLOWED);
        // A stream, closed on execution.
        assert_eq!(answer(libc::SYS_socket, &[1, 0x8_0001]), ALLOWED);
        assert_eq!(answer(libc::SYS_tgkill, &[7, 9, 6]), ALLOWED, "abort");
        assert_eq!(answer(libc::SYS_prlimit64, &[0]), ALLOWED);
        assert_eq!(answer(libc::SYS_prctl, &[15]), ALLOWED, "a thread's name");
        assert_eq!(answer(libc::SYS_ioctl, &[3, 0xC020_462A]), ALLOWED);
        assert_eq!(answer(libc::SYS_fcntl, &[3, 3]), ALLOWED);
    }

    #[test]
    fn what_leads_out_is_refused() {
        let answer = answers(false);
        for call in [
            libc::SYS_execve,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_io_uring_setup,
            libc::SYS_connect,
            libc::SYS_mount,
            libc::SYS_shmget,
        ] {
            assert_eq!(answer(call, &[]), REFUSED, "{call}");
        }
        // A process, and what only pretends to be a thread.
        assert_eq!(answer(libc::SYS_clone, &[0x11]), REFUSED);
        assert_eq!(answer(libc::SYS_clone, &[0x3d_0f00 | 0x1000_0000]), REFUSED);
        assert_eq!(answer(libc::SYS_clone3, &[]), libc::SECCOMP_RET_ERRNO | 38);
        // Internet, netlink, and a family in bits that the kernel does not look at.
        for family in [2, 10, 16, 1 << 32 | 2] {
            assert_eq!(answer(libc::SYS_socket, &[family, 1]), REFUSED, "{family}");
        }
        for kind in [2, 3, 4, 10] {
            let kind = 0x8_0000 | kind;
            assert_eq!(answer(libc::SYS_socket, &[1, kind]), REFUSED, "{kind:#x}");
            assert_eq!(answer(libc::SYS_socketpair, &[1, kind]), REFUSED);
        }
        for call in [libc::SYS_truncate, libc::SYS_fchmod, 452, 463, 466] {
            assert_eq!(answer(call, &[]), REFUSED, "{call}");
        }
        assert_eq!(answer(libc::SYS_kill, &[8, 9]), REFUSED);
        assert_eq!(answer(libc::SYS_kill, &[u64::MAX, 9]), REFUSED, "everybody");
        assert_eq!(answer(libc::SYS_prlimit64, &[8]), REFUSED);
        assert_eq!(answer(libc::SYS_prctl, &[1, 0]), REFUSED);
        assert_eq!(answer(libc::SYS_ioctl, &[2, libc::TIOCSTI]), REFUSED);
        let high = 0xFF00_0000_0000_0000;
        assert_eq!(answer(libc::SYS_ioctl, &[2, high | libc::TIOCSTI]), REFUSED);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(answer(0x4000_0000 | libc::SYS_ptrace, &[]), REFUSED);
    }

    #[test]
    fn what_is_sent_connects_nothing() {
        let answer = answers(false);
        let fast_open = u64::from(FAST_OPEN);
        for (call, flags) in SENDS {
            let mut arguments = [u64::MAX; 6];
            arguments[usize::from(flags)] = 0x4000;
            assert_eq!(answer(call, &arguments), ALLOWED, "{call}");
            arguments[usize::from(flags)] = 0x4000 | fast_open;
            assert_eq!(answer(call, &arguments), REFUSED, "{call}");
            arguments[usize::from(flags)] = fast_open << 32;
            assert_eq!(answer(call, &arguments), ALLOWED, "not looked at: {call}");
        }
        // The number of another machine's call, which may be anything.
        let program = program(7, false).expect("a filter");
        for (call, _) in SENDS {
            let result = run(&program, 0x4000_0003, call, [0; 6]);
            assert_eq!(result, libc::SECCOMP_RET_KILL_PROCESS, "{call}");
        }
    }

    #[test]
    fn who_uses_the_multi_process_service_may_connect() {
        let answer = answers(true);
        assert_eq!(answer(libc::SYS_connect, &[]), ALLOWED);
        assert_eq!(answer(libc::SYS_socket, &[2]), REFUSED);
    }

    #[test]
    fn this_kernel_is_asked() {
        // Every kernel that these tests run on has it.
        assert!(is_there());
    }
}
