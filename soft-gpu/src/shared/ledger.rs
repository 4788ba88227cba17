//! Who has taken how much of a device's memory.
//!
//! A process adds to its own entry under the segment's lock, after comparing the sum with the capacity, so two processes never
//! get the last bytes both. It takes away without the lock. Entries of the dead are swept when
//! somebody would otherwise be refused, or asks how much is free.

use std::sync::atomic::Ordering;

use driver_api::abi::CUresult;

use super::{LEDGER_BYTE, MAX_PROCESSES, Segment};
use crate::config::MAX_DEVICES;
use crate::threads::lock;

impl Segment {
    /// Takes memory of a device, or says that there is not enough.
    pub(crate) fn charge(&self, device: usize, bytes: u64) -> Result<(), CUresult> {
        let device = self.numbers[device];
        self.locked(|| {
            let fits = |used: u64| {
                used.checked_add(bytes)
                    .is_some_and(|sum| sum <= self.memory_bytes())
            };
            if !fits(self.used(device)) {
                self.sweep();
            }
            if !fits(self.used(device)) {
                return Err(CUresult::OUT_OF_MEMORY);
            }
            let own = &self.place(self.place).used_bytes[device];
            own.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Gives memory back.
    pub(crate) fn refund(&self, device: usize, bytes: u64) {
        let device = self.numbers[device];
        let own = &self.place(self.place).used_bytes[device];
        own.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives back all that this process has taken, of every device of the machine; how much that was.
    pub(crate) fn suspend(&self) -> [u64; MAX_DEVICES] {
        let own = &self.place(self.place).used_bytes;
        std::array::from_fn(|device| own[device].swap(0, Ordering::Relaxed))
    }

    /// Takes all of that again, or nothing.
    pub(crate) fn resume(&self, bytes: &[u64; MAX_DEVICES]) -> Result<(), CUresult> {
        self.locked(|| {
            let fits = |device: usize| {
                let sum = self.used(device).checked_add(bytes[device]);
                sum.is_some_and(|sum| sum <= self.memory_bytes())
            };
            if !(0..MAX_DEVICES).all(fits) {
                self.sweep();
            }
            if !(0..MAX_DEVICES).all(fits) {
                return Err(CUresult::OUT_OF_MEMORY);
            }
            let own = &self.place(self.place).used_bytes;
            for (own, bytes) in own.iter().zip(bytes) {
                own.fetch_add(*bytes, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    /// Bytes that this process has taken.
    pub(crate) fn own_bytes(&self, device: usize) -> u64 {
        let device = self.numbers[device];
        self.place(self.place).used_bytes[device].load(Ordering::Relaxed)
    }

    /// Bytes that nobody has taken.
    pub(crate) fn free_bytes(&self, device: usize) -> u64 {
        let device = self.numbers[device];
        let used = self.locked(|| {
            self.sweep();
            Ok(self.used(device))
        });
        self.memory_bytes().saturating_sub(used.unwrap_or(0))
    }

    fn used(&self, device: usize) -> u64 {
        let used = |place| self.place(place).used_bytes[device].load(Ordering::Relaxed);
        (0..MAX_PROCESSES).map(used).fold(0, u64::saturating_add)
    }

    /// Forgets what processes had taken that are gone.
    fn sweep(&self) {
        for place in 0..MAX_PROCESSES {
            let entry = self.place(place);
            if entry.process.load(Ordering::Relaxed) != 0 && !self.is_alive(place) {
                entry.clear(0);
            }
        }
    }

    fn locked<T>(&self, body: impl FnOnce() -> Result<T, CUresult>) -> Result<T, CUresult> {
        let _threads = lock(&self.threads);
        self.lock(LEDGER_BYTE, libc::F_WRLCK, true)
            .map_err(|_| CUresult::OPERATING_SYSTEM)?;
        let result = body();
        // Unlocking a record that is held cannot fail.
        let _ = self.lock(LEDGER_BYTE, libc::F_UNLCK, false);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_is_given_once() {
        let name = format!("gpurun-test-ledger-{}", std::process::id());
        let segment = Segment::attach(&name, 100).unwrap();
        assert_eq!(segment.charge(0, 60), Ok(()));
        assert_eq!(segment.charge(0, 41), Err(CUresult::OUT_OF_MEMORY));
        assert_eq!(segment.charge(1, 100), Ok(()));
        assert_eq!(segment.charge(0, 40), Ok(()));
        assert_eq!(segment.free_bytes(0), 0);
        assert_eq!((segment.own_bytes(0), segment.own_bytes(1)), (100, 100));
        segment.refund(0, 60);
        assert_eq!(segment.free_bytes(0), 60);
        assert_eq!(segment.charge(0, u64::MAX), Err(CUresult::OUT_OF_MEMORY));
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    }

    #[test]
    fn who_is_suspended_has_nothing_and_takes_all_again_or_nothing() {
        let name = format!("gpurun-test-suspended-{}", std::process::id());
        let segment = Segment::attach(&name, 100).unwrap();
        assert_eq!(segment.charge(0, 60), Ok(()));
        assert_eq!(segment.charge(1, 30), Ok(()));
        let bytes = segment.suspend();
        assert_eq!((segment.own_bytes(0), segment.own_bytes(1)), (0, 0));
        assert_eq!(segment.charge(1, 71), Ok(()));
        assert_eq!(segment.resume(&bytes), Err(CUresult::OUT_OF_MEMORY));
        assert_eq!(segment.own_bytes(0), 0, "nothing, if not all");
        segment.refund(1, 71);
        assert_eq!(segment.resume(&bytes), Ok(()));
        assert_eq!((segment.own_bytes(0), segment.own_bytes(1)), (60, 30));
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    }

    #[test]
    fn what_a_device_is_called_changes_nothing() {
        let name = format!("gpurun-test-shown-{}", std::process::id());
        let segment = Segment::attach(&name, 100).unwrap().showing(&[1, 0]);
        assert_eq!(segment.charge(0, 60), Ok(()));
        assert_eq!((segment.own_bytes(0), segment.own_bytes(1)), (60, 0));
        assert_eq!((segment.free_bytes(0), segment.free_bytes(1)), (40, 100));
        assert_eq!(
            segment.place(segment.place).used_bytes[1].load(Ordering::Relaxed),
            60
        );
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    }

    #[test]
    fn the_dead_are_swept() {
        let name = format!("gpurun-test-dead-{}", std::process::id());
        let segment = Segment::attach(&name, 100).unwrap();
        let other = segment.place(7);
        other.process.store(1, Ordering::Relaxed);
        other.used_bytes[0].store(90, Ordering::Relaxed);
        assert_eq!(segment.charge(0, 100), Ok(()));
        std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    }
}
