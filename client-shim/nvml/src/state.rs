//! What is known between `nvmlInit` and `nvmlShutdown`, and for how long.
//!
//! Who the devices are does not change: it is fetched by the first `nvmlInit` and kept, also beyond the last `nvmlShutdown`, because a
//! thread may still read it; an equal list takes no new memory. How they are used is fetched when somebody asks and the last answer is
//! older than [`VALIDITY`], so that a hundred questions of a monitor make one connection; that the server does not answer is kept for
//! [`VALIDITY_OF_FAILURE`], so that a hundred questions do not wait a hundred times.
//!
//! *Rules:* no lock is held while anybody is asked, and none is ever waited for: who does not get the cache after a few attempts goes without it.
//! So a child forked while another thread had it is only slower, until the next generation's slot; see [`crate::fork`].
//!
//! # Safety
//! A list is made by `Box`, published by an atomic pointer, and never freed.
#![expect(unsafe_code, reason = "a published pointer is followed")]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use protocol::address::Address;
use protocol::connect::ConnectError;
use protocol::hello::{Accepted, DeviceSnapshot, DeviceUsage, HelloError, RefusalCode};

use crate::answer::be_quiet;
use crate::layout::{
    DRIVER_NOT_LOADED, GPU_IS_LOST, INVALID_ARGUMENT, Return, TIMEOUT, UNINITIALIZED,
};
use crate::{fork, link};

/// How long an answer about usage is as good as new.
const VALIDITY: Duration = Duration::from_millis(100);
/// How long it is believed that the server does not answer.
const VALIDITY_OF_FAILURE: Duration = Duration::from_secs(2);

/// Handles of devices are their numbers plus this: never null.
const FIRST_HANDLE: usize = 0x6E76_6D00;

/// A list of devices and where it is from.
#[derive(PartialEq)]
struct Known {
    address: Address,
    accepted: Accepted,
}

/// `nvmlInit`s without their `nvmlShutdown`.
static USERS: AtomicU32 = AtomicU32::new(0);
static KNOWN: AtomicPtr<Known> = AtomicPtr::new(null_mut());

fn known() -> Option<&'static Known> {
    // SAFETY: null, or a list that is never freed.
    unsafe { KNOWN.load(Ordering::Acquire).as_ref() }
}

/// `nvmlInit`: the first fetches the list.
pub(crate) fn init() -> Result<(), Return> {
    if fork::watch() {
        be_quiet();
    }
    let one_more = |users: u32| (users > 0).then(|| users.saturating_add(1));
    if USERS
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
        .is_ok()
    {
        return Ok(());
    }
    let (address, accepted) = link::devices().ok_or(DRIVER_NOT_LOADED)?;
    let fetched = Known { address, accepted };
    if known() != Some(&fetched) {
        KNOWN.store(Box::into_raw(Box::new(fetched)), Ordering::Release);
    }
    USERS.fetch_add(1, Ordering::AcqRel);
    Ok(())
}

/// `nvmlShutdown`.
pub(crate) fn shut_down() -> Result<(), Return> {
    let one_less = |users: u32| users.checked_sub(1);
    let result = USERS.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
    result.map(drop).map_err(|_| UNINITIALIZED)
}

fn current() -> Result<&'static Known, Return> {
    if USERS.load(Ordering::Acquire) == 0 {
        return Err(UNINITIALIZED);
    }
    known().ok_or(UNINITIALIZED)
}

/// Who the devices are, and of which server.
pub(crate) fn server() -> Result<&'static Accepted, Return> {
    Ok(&current()?.accepted)
}

/// The handle of a device.
pub(crate) const fn handle(index: usize) -> usize {
    FIRST_HANDLE + index
}

/// The device of a handle, and its number.
pub(crate) fn device(handle: usize) -> Result<(usize, &'static DeviceSnapshot), Return> {
    let devices = &server()?.devices;
    let index = handle.checked_sub(FIRST_HANDLE).ok_or(INVALID_ARGUMENT)?;
    Ok((index, devices.get(index).ok_or(INVALID_ARGUMENT)?))
}

/// How a device is used, as of a moment ago.
pub(crate) fn usage_of(handle: usize) -> Result<(Arc<Accepted>, usize), Return> {
    let (index, device) = device(handle)?;
    let server = usage()?;
    match server.devices.get(index) {
        Some(seen) if seen.uuid == device.uuid => Ok((server, index)),
        // The server has begun anew with other devices.
        _ => Err(GPU_IS_LOST),
    }
}

/// Runs `body` on how a device is used.
pub(crate) fn with_usage<T>(
    handle: usize,
    body: impl FnOnce(&DeviceSnapshot, &DeviceUsage) -> Result<T, Return>,
) -> Result<T, Return> {
    let (server, index) = usage_of(handle)?;
    let device = &server.devices[index];
    body(device, device.usage.as_ref().ok_or(TIMEOUT)?)
}

type Answer = Result<Arc<Accepted>, Return>;

/// The last answer about usage, and until when it is good.
type Cached = Option<(Instant, Answer)>;

/// One for each of the latest generations of forks.
static CACHE: [Mutex<Cached>; 8] = [const { Mutex::new(None) }; 8];

/// The cache, unless it cannot be had at once.
fn cache() -> Option<MutexGuard<'static, Cached>> {
    /// It is held for a moment only, by anybody who is still there.
    const ATTEMPTS: usize = 100;
    let slot = &CACHE[fork::generation() % CACHE.len()];
    (0..ATTEMPTS).find_map(|_| {
        let guard = slot.try_lock().ok();
        if guard.is_none() {
            std::thread::yield_now();
        }
        guard
    })
}

/// How all devices are used.
pub(crate) fn usage() -> Answer {
    let known = current()?;
    if let Some(cached) = cache()
        && let Some((until, answer)) = &*cached
        && Instant::now() < *until
    {
        return answer.clone();
    }
    let answer = link::usage(&known.address)
        .map(Arc::new)
        .map_err(|error| code_of(&error));
    let validity = if answer.is_ok() {
        VALIDITY
    } else {
        VALIDITY_OF_FAILURE
    };
    if let Some(mut cached) = cache() {
        *cached = Some((Instant::now() + validity, answer.clone()));
    }
    answer
}

fn code_of(error: &ConnectError) -> Return {
    match error {
        ConnectError::Hello {
            source: HelloError::TimedOut,
            ..
        }
        | ConnectError::Refused {
            code: RefusalCode::Busy,
            ..
        } => TIMEOUT,
        _ => GPU_IS_LOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_init() {
        assert_eq!(server().err(), Some(UNINITIALIZED));
        assert_eq!(usage().err(), Some(UNINITIALIZED));
        assert_eq!(device(handle(0)).err(), Some(UNINITIALIZED));
        assert_eq!(shut_down(), Err(UNINITIALIZED));
    }
}
