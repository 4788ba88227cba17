//! How another process asks for a change: a thread at an abstract socket, from the first `cuInit` on.
//!
//! ```text
//!  asker: the segment's place of the process ── random name ──▶ its socket: one question, one answer
//!         it goes: a lock that is still tried is given up
//! ```
//!
//! *Rules:* both see by the kernel that the other is of their own user, and the asker that it is the process that it means. Who connects and asks nothing is left soon.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driver_api::abi::{CUresult, CUuuid};
use driver_api::checkpoint::{CUcheckpointGpuPair, MAX_PAIRS, Operation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, sockopt};

use super::own;
use crate::ipc::{Token, limit_waiting, named, new_token, socket};
use crate::log::debug;
use crate::shared::{Segment, Suspension};
use crate::state::driver;
use crate::threads::spawn;

const SOCKET_PREFIX: &[u8] = b"gpurun-soft-checkpoint-";

/// Who has connected and does not ask for so long is left.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most who are served at once.
const MAX_ASKERS: usize = 16;

/// Numbers of what is asked.
const LOCK: u32 = 1;
const CHECKPOINT: u32 = 2;
const RESTORE: u32 = 3;
const UNLOCK: u32 = 4;

/// A question's head: what, and the timeout or the number of pairs.
const HEAD_BYTES: usize = 8;
const PAIR_BYTES: usize = 32;
const MAX_QUESTION_BYTES: usize = HEAD_BYTES + MAX_PAIRS * PAIR_BYTES;

fn encode(operation: &Operation) -> Vec<u8> {
    let (what, number) = match operation {
        Operation::Lock { timeout_ms } => (LOCK, *timeout_ms),
        Operation::Checkpoint => (CHECKPOINT, 0),
        Operation::Restore { pairs } => (RESTORE, pairs.len() as u32),
        Operation::Unlock => (UNLOCK, 0),
    };
    let mut bytes = [what.to_le_bytes(), number.to_le_bytes()].concat();
    if let Operation::Restore { pairs } = operation {
        for pair in pairs {
            bytes.extend_from_slice(&pair.old.bytes);
            bytes.extend_from_slice(&pair.new.bytes);
        }
    }
    bytes
}

/// What is asked; nothing if it is no question.
fn decode(bytes: &[u8]) -> Option<Operation> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (pairs, rest) = rest.as_chunks::<PAIR_BYTES>();
    let number = word(4) as usize;
    let has_pairs = word(0) == RESTORE;
    let expected = if has_pairs { number } else { 0 };
    if !rest.is_empty() || pairs.len() != expected || pairs.len() > MAX_PAIRS {
        return None;
    }
    let half = |half: &[u8]| CUuuid {
        bytes: half.try_into().unwrap_or_default(),
    };
    let pair = |pair: &[u8; PAIR_BYTES]| CUcheckpointGpuPair {
        old: half(&pair[..16]),
        new: half(&pair[16..]),
    };
    match word(0) {
        LOCK => Some(Operation::Lock {
            timeout_ms: word(4),
        }),
        CHECKPOINT if number == 0 => Some(Operation::Checkpoint),
        RESTORE => Some(Operation::Restore {
            pairs: pairs.iter().map(pair).collect(),
        }),
        UNLOCK if number == 0 => Some(Operation::Unlock),
        _ => None,
    }
}

/// Begins to answer. Without it, this process can be suspended by nobody but itself.
pub(crate) fn listen(segment: &Segment) {
    if let Err(error) = try_to_listen(segment) {
        debug(&format!("other processes cannot suspend this one: {error}"));
    }
}

fn try_to_listen(segment: &Segment) -> io::Result<()> {
    let token = new_token()?;
    let listener = socket()?;
    rustix::net::bind(&listener, &named(SOCKET_PREFIX, &token)?)?;
    rustix::net::listen(&listener, MAX_ASKERS as i32)?;
    let (told, heard) = std::sync::mpsc::channel();
    spawn("soft-gpu checkpoint", move || {
        // It waits for this, or is gone.
        let _ = told.send(rustix::thread::gettid());
        accept_all(&listener);
    })?;
    let thread = heard.recv().map_err(io::Error::other)?;
    segment.show_service(&token, thread.as_raw_nonzero().get().cast_unsigned());
    Ok(())
}

fn accept_all(listener: &OwnedFd) {
    static ASKERS: AtomicUsize = AtomicUsize::new(0);
    loop {
        let connection = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(_) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        // One too many sees the end of the connection.
        if ASKERS.load(Ordering::Relaxed) >= MAX_ASKERS {
            continue;
        }
        ASKERS.fetch_add(1, Ordering::Relaxed);
        let serve = move || {
            // Who asks for nothing, or goes, gets nothing.
            let _ = serve(&connection);
            ASKERS.fetch_sub(1, Ordering::Relaxed);
        };
        if spawn("soft-gpu checkpoint", serve).is_err() {
            ASKERS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn check_user(connection: &OwnedFd) -> io::Result<i32> {
    let who = sockopt::socket_peercred(connection)?;
    match who.uid == rustix::process::geteuid() {
        true => Ok(who.pid.as_raw_nonzero().get()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

fn serve(connection: &OwnedFd) -> io::Result<()> {
    limit_waiting(connection, PATIENCE)?;
    check_user(connection)?;
    let mut question = [0; MAX_QUESTION_BYTES + 1];
    let (length, _) =
        retry_on_intr(|| rustix::net::recv(connection, &mut question, RecvFlags::empty()))?;
    let operation = question.get(..length).and_then(decode);
    let operation = operation.ok_or(io::ErrorKind::InvalidData)?;
    let driver = driver().map_err(|_| io::ErrorKind::NotFound)?;
    let result = own::perform(driver, &operation, &|| is_hung_up(connection));
    let code = result.err().unwrap_or(CUresult::SUCCESS).0;
    retry_on_intr(|| rustix::net::send(connection, &code.to_le_bytes(), SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Whether the other end is gone.
fn is_hung_up(connection: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(connection, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP;
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().intersects(gone)
}

/// Asks a process for a change, and waits until it is done.
pub(super) fn ask(
    process: u32,
    suspension: &Suspension,
    operation: &Operation,
) -> Result<(), CUresult> {
    let token = suspension.token.ok_or(CUresult::NOT_SUPPORTED)?;
    // Whoever ends while it is asked is no process any more that could be meant.
    let code = converse(process, &token, operation).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => CUresult::NOT_PERMITTED,
        _ => CUresult::INVALID_VALUE,
    })?;
    match code {
        CUresult::SUCCESS => Ok(()),
        code => Err(code),
    }
}

fn converse(process: u32, token: &Token, operation: &Operation) -> io::Result<CUresult> {
    let connection = socket()?;
    let address = named(SOCKET_PREFIX, token)?;
    retry_on_intr(|| rustix::net::connect(&connection, &address))?;
    if check_user(&connection)?.cast_unsigned() != process {
        return Err(io::ErrorKind::NotFound.into());
    }
    let question = encode(operation);
    retry_on_intr(|| rustix::net::send(&connection, &question, SendFlags::NOSIGNAL))?;
    let mut code = [0; 4];
    let (length, _) =
        retry_on_intr(|| rustix::net::recv(&connection, &mut code, RecvFlags::empty()))?;
    match length {
        4 => Ok(CUresult(u32::from_le_bytes(code))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> impl Strategy<Value = Vec<CUcheckpointGpuPair>> {
        let pair = any::<([u8; 16], [u8; 16])>().prop_map(|(old, new)| CUcheckpointGpuPair {
            old: CUuuid { bytes: old },
            new: CUuuid { bytes: new },
        });
        prop::collection::vec(pair, 0..=MAX_PAIRS)
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            any::<u32>().prop_map(|timeout_ms| Operation::Lock { timeout_ms }),
            Just(Operation::Checkpoint),
            pairs().prop_map(|pairs| Operation::Restore { pairs }),
            Just(Operation::Unlock),
        ]
    }

    proptest! {
        #[test]
        fn what_is_asked_is_understood(operation in operation()) {
            prop_assert_eq!(decode(&encode(&operation)), Some(operation));
        }

        #[test]
        fn any_bytes_are_a_question_or_none(bytes in prop::collection::vec(any::<u8>(), 0..MAX_QUESTION_BYTES + 9)) {
            if let Some(operation) = decode(&bytes) {
                prop_assert_eq!(encode(&operation), bytes);
            }
        }
    }
}
