//! Who computes on a device: programs of this machine that the server serves, by their own process ids.
//!
//! Programs whose process ids mean nothing here (of another machine, another container) are not told; the daemon
//! leaves them out. Nobody draws on a device at a distance, and how the server shares its devices is its own affair, so the lists of graphics and
//! MPS processes are empty.
#![expect(unsafe_code, reason = "functions of a C ABI")]

use core::ffi::c_uint;

use protocol::hello::ProcessUsage;

use crate::answer::{get, guarded, put, put_all};
use crate::layout::{INSUFFICIENT_SIZE, NO_BYTES, NO_NUMBER, ProcessInfoV1, ProcessInfoV2, Return};
use crate::state::{self, with_usage};

impl From<&ProcessUsage> for ProcessInfoV1 {
    fn from(seen: &ProcessUsage) -> Self {
        Self {
            process: seen.process,
            used_memory: seen.memory.unwrap_or(NO_BYTES),
        }
    }
}

impl From<&ProcessUsage> for ProcessInfoV2 {
    fn from(seen: &ProcessUsage) -> Self {
        Self {
            process: seen.process,
            used_memory: seen.memory.unwrap_or(NO_BYTES),
            gpu_instance: NO_NUMBER,
            compute_instance: NO_NUMBER,
        }
    }
}

/// Writes the list if it fits into `*count` structures, and in any case how many there are.
fn put_list<T: Copy>(list: &[T], count: *mut c_uint, infos: *mut T) -> Result<(), Return> {
    let room = get(count)?;
    put(count, c_uint::try_from(list.len()).unwrap_or(c_uint::MAX))?;
    if list.len() > room as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    put_all(infos, list)
}

fn computing<T: Copy + for<'a> From<&'a ProcessUsage>>(
    device: usize,
    count: *mut c_uint,
    infos: *mut T,
) -> Return {
    guarded(|| {
        with_usage(device, |_, usage| {
            let list: Vec<T> = usage.processes.iter().map(T::from).collect();
            put_list(&list, count, infos)
        })
    })
}

fn nobody(device: usize, count: *mut c_uint) -> Return {
    guarded(|| {
        state::device(device)?;
        put(count, 0)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetComputeRunningProcesses(
    device: usize,
    count: *mut c_uint,
    infos: *mut ProcessInfoV1,
) -> Return {
    computing(device, count, infos)
}

macro_rules! with_instances {
    ($($computing:ident $graphics:ident $mps:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $computing(
            device: usize,
            count: *mut c_uint,
            infos: *mut ProcessInfoV2,
        ) -> Return {
            computing(device, count, infos)
        }

        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $graphics(
            device: usize,
            count: *mut c_uint,
            _infos: *mut ProcessInfoV2,
        ) -> Return {
            nobody(device, count)
        }

        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $mps(
            device: usize,
            count: *mut c_uint,
            _infos: *mut ProcessInfoV2,
        ) -> Return {
            nobody(device, count)
        }
    )*};
}

with_instances! {
    nvmlDeviceGetComputeRunningProcesses_v2 nvmlDeviceGetGraphicsRunningProcesses_v2 nvmlDeviceGetMPSComputeRunningProcesses_v2
    nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetMPSComputeRunningProcesses_v3
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetGraphicsRunningProcesses(
    device: usize,
    count: *mut c_uint,
    _infos: *mut ProcessInfoV1,
) -> Return {
    nobody(device, count)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses(
    device: usize,
    count: *mut c_uint,
    _infos: *mut ProcessInfoV1,
) -> Return {
    nobody(device, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::INVALID_ARGUMENT;

    #[test]
    fn a_list_that_does_not_fit_says_its_length() {
        let seen = |process, memory| ProcessUsage { process, memory };
        let list = [
            ProcessInfoV2::from(&seen(1, Some(5))),
            ProcessInfoV2::from(&seen(2, None)),
        ];
        let mut count = 0;
        assert_eq!(
            put_list(&list, &mut count, std::ptr::null_mut()),
            Err(INSUFFICIENT_SIZE)
        );
        assert_eq!(count, 2);
        let mut room = [ProcessInfoV2::from(&seen(9, None)); 3];
        count = 3;
        assert_eq!(put_list(&list, &mut count, room.as_mut_ptr()), Ok(()));
        assert_eq!(count, 2);
        assert_eq!((room[0].process, room[0].used_memory), (1, 5));
        assert_eq!(
            (room[1].used_memory, room[1].gpu_instance),
            (NO_BYTES, NO_NUMBER)
        );
        assert_eq!(room[2].process, 9, "what is beyond stays as it was");
        assert_eq!(
            put_list(&list, &mut count, std::ptr::null_mut()),
            Err(INVALID_ARGUMENT)
        );
        count = 0;
        assert_eq!(
            put_list::<ProcessInfoV2>(&[], &mut count, std::ptr::null_mut()),
            Ok(())
        );
    }
}
