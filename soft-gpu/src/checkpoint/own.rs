//! This process's own state, and what changes it.
//!
//! ```text
//! Running ──lock──▶ Locking ──idle──▶ Locked ──checkpoint──▶ Checkpointed
//!    ▲                 │ too late       │ ▲                       │
//!    └─────────────────┴─────unlock─────┘ └───────restore─────────┘  (no room: stays)
//! ```

use std::time::{Duration, Instant};

use driver_api::abi::{CUresult, CUuuid};
use driver_api::checkpoint::{CUcheckpointGpuPair, Operation, state};

use super::DOOR;
use crate::config::MAX_DEVICES;
use crate::device;
use crate::log::warn_once;
use crate::state::Driver;
use crate::threads::lock;

/// How often a lock looks whether everything is done: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_micros(50);
const LONGEST_LOOK: Duration = Duration::from_millis(1);

/// What this process is, and what it has given up.
#[derive(Debug, Default)]
pub(crate) enum Suspended {
    #[default]
    Running,
    /// Somebody waits until it is idle. To others it runs.
    Locking,
    Locked,
    /// Bytes that it had of each device of the machine.
    Checkpointed([u64; MAX_DEVICES]),
}

impl Suspended {
    fn number(&self) -> u32 {
        match self {
            Self::Running | Self::Locking => state::RUNNING,
            Self::Locked => state::LOCKED,
            Self::Checkpointed(_) => state::CHECKPOINTED,
        }
    }
}

/// Does what is asked; a lock is given up when `is_given_up` says so.
pub(super) fn perform(
    driver: &Driver,
    operation: &Operation,
    is_given_up: &dyn Fn() -> bool,
) -> Result<(), CUresult> {
    match operation {
        Operation::Lock { timeout_ms } => lock_calls(driver, *timeout_ms, is_given_up),
        Operation::Checkpoint => change(driver, |suspended| match suspended {
            Suspended::Locked => Ok(Suspended::Checkpointed(driver.segment.suspend())),
            _ => Err(CUresult::ILLEGAL_STATE),
        }),
        Operation::Restore { pairs } => change(driver, |suspended| match suspended {
            Suspended::Checkpointed(bytes) => {
                check_pairs(driver, pairs)?;
                driver.segment.resume(bytes)?;
                Ok(Suspended::Locked)
            }
            _ => Err(CUresult::ILLEGAL_STATE),
        }),
        Operation::Unlock => {
            change(driver, |suspended| match suspended {
                Suspended::Locked => Ok(Suspended::Running),
                _ => Err(CUresult::ILLEGAL_STATE),
            })?;
            DOOR.open();
            Ok(())
        }
    }
}

/// Changes the state, and shows it.
fn change(
    driver: &Driver,
    next: impl FnOnce(&Suspended) -> Result<Suspended, CUresult>,
) -> Result<(), CUresult> {
    let mut suspended = lock(&driver.suspended);
    *suspended = next(&suspended)?;
    driver.segment.show_state(suspended.number());
    Ok(())
}

fn lock_calls(
    driver: &Driver,
    timeout_ms: u32,
    is_given_up: &dyn Fn() -> bool,
) -> Result<(), CUresult> {
    let deadline =
        (timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(u64::from(timeout_ms)));
    change(driver, |suspended| match suspended {
        Suspended::Running => Ok(Suspended::Locking),
        _ => Err(CUresult::ILLEGAL_STATE),
    })?;
    if let Err(error) = DOOR.close() {
        warn_once(&format!("calls cannot be stopped: {error}"));
        change(driver, |_| Ok(Suspended::Running))?;
        return Err(CUresult::OPERATING_SYSTEM);
    }
    let mut look = FIRST_LOOK;
    while !(DOOR.is_empty() && is_idle(driver)) {
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_late || is_given_up() {
            // In this order: who sees it run can call it.
            DOOR.open();
            change(driver, |_| Ok(Suspended::Running))?;
            return Err(CUresult::NOT_READY);
        }
        std::thread::sleep(look);
        look = LONGEST_LOOK.min(look * 2);
    }
    change(driver, |_| Ok(Suspended::Locked))
}

/// Whether all that was posted is done. Nobody posts, since the door is closed and nobody inside.
fn is_idle(driver: &Driver) -> bool {
    driver
        .contexts
        .all()
        .iter()
        .all(|context| context.is_idle())
}

/// Whether a process with these contexts can be restored so: every GPU of it has to be named, by what this machine has.
fn check_pairs(driver: &Driver, pairs: &[CUcheckpointGpuPair]) -> Result<(), CUresult> {
    if pairs.is_empty() {
        return Ok(());
    }
    let is_gpu = |uuid: &CUuuid| (0..MAX_DEVICES).any(|number| device::uuid_of(number) == *uuid);
    if !pairs
        .iter()
        .all(|pair| is_gpu(&pair.old) && is_gpu(&pair.new))
    {
        return Err(CUresult::INVALID_VALUE);
    }
    for context in driver.contexts.all() {
        let own = device::uuid(context.device);
        let pair = pairs.iter().find(|pair| pair.old == own);
        let pair = pair.ok_or(CUresult::INVALID_VALUE)?;
        if pair.new != own {
            warn_once(
                "a process is restored onto the devices that it had; gpuPairs with others are not supported",
            );
            return Err(CUresult::NOT_SUPPORTED);
        }
    }
    Ok(())
}
