//! Bytes on their way from the worker into the program's memory.
//!
//! A transfer is expected before it is asked for; what arrives must continue it exactly and end within it. Nothing else is ever written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// One expected transfer.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Its number on the wire.
    pub(crate) number: u64,
    destination: AtomicUsize,
    length: usize,
    received: AtomicUsize,
    done: AtomicBool,
    /// Bytes are being read into the program's memory now.
    arriving: Mutex<bool>,
    arrived: Condvar,
}

impl Transfer {
    /// True if all bytes have arrived, or none will.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(SeqCst)
    }

    fn set_arriving(&self, is_arriving: bool) {
        *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) = is_arriving;
        if !is_arriving {
            self.arrived.notify_all();
        }
    }

    /// True if the transfer writes into this range of memory.
    pub(crate) fn overlaps(&self, start: usize, length: usize) -> bool {
        let own = self.destination.load(SeqCst);
        start < own + self.length && own < start + length
    }
}

#[derive(Debug, Default)]
pub(super) struct Transfers {
    last: AtomicU64,
    expected: Mutex<HashMap<u64, Arc<Transfer>>>,
}

impl Transfers {
    pub(super) fn number(&self) -> u64 {
        self.last.fetch_add(1, SeqCst) + 1
    }

    pub(super) fn expect(&self, destination: *mut u8, length: usize) -> Arc<Transfer> {
        let transfer = Arc::new(Transfer {
            number: self.number(),
            destination: AtomicUsize::new(destination.addr()),
            length,
            received: AtomicUsize::new(0),
            done: AtomicBool::new(length == 0),
            arriving: Mutex::new(false),
            arrived: Condvar::new(),
        });
        destination.expose_provenance();
        self.lock().insert(transfer.number, Arc::clone(&transfer));
        transfer
    }

    /// No longer expects a transfer. Returns when nothing is written to its memory any more: another thread may be reading bytes
    /// into it, and comes to an end, since the bytes come or the connection is over.
    pub(super) fn withdraw(&self, transfer: &Transfer) {
        self.lock().remove(&transfer.number);
        let mut arriving = transfer
            .arriving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while *arriving {
            let waited = transfer.arrived.wait(arriving);
            arriving = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(arriving);
        transfer.done.store(true, SeqCst);
    }

    /// Where the next `length` bytes of a transfer at `offset` go; `None` if they were not asked for. Until [`Self::placed`] the
    /// transfer is not withdrawn.
    pub(super) fn place(
        &self,
        number: u64,
        offset: u64,
        length: usize,
    ) -> Option<(Arc<Transfer>, *mut u8)> {
        // Found and marked under the lock that withdrawing takes first.
        let expected = self.lock();
        let transfer = Arc::clone(expected.get(&number)?);
        let received = transfer.received.load(SeqCst);
        let fits = offset == received as u64 && length <= transfer.length - received;
        let start = transfer.destination.load(SeqCst) + received;
        if !fits {
            return None;
        }
        transfer.set_arriving(true);
        drop(expected);
        Some((transfer, std::ptr::with_exposed_provenance_mut(start)))
    }

    /// Notes that so many bytes of [`Self::place`] are there; nothing if they did not come.
    pub(super) fn placed(&self, transfer: &Transfer, length: Option<usize>) {
        if let Some(length) = length {
            let received = transfer.received.fetch_add(length, SeqCst) + length;
            if received == transfer.length {
                self.lock().remove(&transfer.number);
                transfer.done.store(true, SeqCst);
            }
        }
        transfer.set_arriving(false);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Transfer>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_continues_an_expected_transfer_has_a_place() {
        let transfers = Transfers::default();
        let mut memory = [0u8; 10];
        let transfer = transfers.expect(memory.as_mut_ptr(), 10);
        assert!(transfers.place(transfer.number + 1, 0, 1).is_none());
        assert!(transfers.place(transfer.number, 1, 1).is_none());
        assert!(transfers.place(transfer.number, 0, 11).is_none());
        let (found, place) = transfers.place(transfer.number, 0, 4).expect("expected");
        assert_eq!(place, memory.as_mut_ptr());
        transfers.placed(&found, Some(4));
        assert!(!transfer.is_done() && transfers.place(transfer.number, 0, 4).is_none());
        let (found, _) = transfers.place(transfer.number, 4, 6).expect("the rest");
        transfers.placed(&found, Some(6));
        assert!(transfer.is_done() && transfers.place(transfer.number, 10, 0).is_none());
    }

    #[test]
    fn withdrawing_waits_for_bytes_that_are_arriving() {
        let transfers = Transfers::default();
        let mut memory = [0u8; 10];
        let transfer = transfers.expect(memory.as_mut_ptr(), 10);
        let (found, _) = transfers.place(transfer.number, 0, 4).expect("expected");
        std::thread::scope(|scope| {
            let withdrawing = scope.spawn(|| transfers.withdraw(&transfer));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!withdrawing.is_finished(), "they are still arriving");
            transfers.placed(&found, None);
            withdrawing.join().expect("withdrawn");
        });
        assert!(transfer.is_done() && transfers.place(transfer.number, 0, 4).is_none());
    }
}
