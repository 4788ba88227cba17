//! Bytes on their way from the worker into the program's memory.
//!
//! A transfer is expected before it is asked for; what arrives must continue it exactly and end within it. Nothing else is ever written.
//! What is withdrawn before it is complete may still be on its way: its bytes are passed over.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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

/// Where arriving bytes go.
#[derive(Debug)]
pub(super) enum Place {
    /// To memory. Until [`Transfers::placed`] the transfer is not withdrawn.
    Memory(Arc<Transfer>, *mut u8),
    /// Nowhere: nobody wants them any more.
    Nowhere,
}

#[derive(Debug, Default)]
pub(super) struct Transfers {
    last: AtomicU64,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    expected: HashMap<u64, Arc<Transfer>>,
    /// Withdrawn before they were complete: as many as copies have failed.
    withdrawn: HashSet<u64>,
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
        let known = Arc::clone(&transfer);
        self.lock().expected.insert(transfer.number, known);
        transfer
    }

    /// No longer expects a transfer. Returns when nothing is written to its memory any more: another thread may be reading bytes
    /// into it, and comes to an end, since the bytes come or the connection is over.
    pub(super) fn withdraw(&self, transfer: &Transfer) {
        let mut numbers = self.lock();
        if numbers.expected.remove(&transfer.number).is_some() {
            numbers.withdrawn.insert(transfer.number);
        }
        drop(numbers);
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

    /// Where the next `length` bytes of a transfer at `offset` go; `None` if they were not asked for.
    pub(super) fn place(&self, number: u64, offset: u64, length: usize) -> Option<Place> {
        // Found and marked under the lock that withdrawing takes first.
        let numbers = self.lock();
        if numbers.withdrawn.contains(&number) {
            return Some(Place::Nowhere);
        }
        let transfer = Arc::clone(numbers.expected.get(&number)?);
        let received = transfer.received.load(SeqCst);
        let fits = offset == received as u64 && length <= transfer.length - received;
        let start = transfer.destination.load(SeqCst) + received;
        if !fits {
            return None;
        }
        transfer.set_arriving(true);
        drop(numbers);
        let start = std::ptr::with_exposed_provenance_mut(start);
        Some(Place::Memory(transfer, start))
    }

    /// Notes that so many bytes of [`Self::place`] are there; nothing if they did not come.
    pub(super) fn placed(&self, transfer: &Transfer, length: Option<usize>) {
        if let Some(length) = length {
            let received = transfer.received.fetch_add(length, SeqCst) + length;
            if received == transfer.length {
                self.lock().expected.remove(&transfer.number);
                transfer.done.store(true, SeqCst);
            }
        }
        transfer.set_arriving(false);
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory that bytes go to.
    fn memory_of(place: Option<Place>) -> (Arc<Transfer>, *mut u8) {
        match place {
            Some(Place::Memory(transfer, place)) => (transfer, place),
            other => panic!("not {other:?}"),
        }
    }

    #[test]
    fn only_what_continues_an_expected_transfer_has_a_place() {
        let transfers = Transfers::default();
        let mut memory = [0u8; 10];
        let transfer = transfers.expect(memory.as_mut_ptr(), 10);
        assert!(transfers.place(transfer.number + 1, 0, 1).is_none());
        assert!(transfers.place(transfer.number, 1, 1).is_none());
        assert!(transfers.place(transfer.number, 0, 11).is_none());
        let (found, place) = memory_of(transfers.place(transfer.number, 0, 4));
        assert_eq!(place, memory.as_mut_ptr());
        transfers.placed(&found, Some(4));
        assert!(!transfer.is_done() && transfers.place(transfer.number, 0, 4).is_none());
        let (found, _) = memory_of(transfers.place(transfer.number, 4, 6));
        transfers.placed(&found, Some(6));
        assert!(transfer.is_done() && transfers.place(transfer.number, 10, 0).is_none());
    }

    #[test]
    fn withdrawing_waits_for_bytes_that_are_arriving() {
        let transfers = Transfers::default();
        let mut memory = [0u8; 10];
        let transfer = transfers.expect(memory.as_mut_ptr(), 10);
        let (found, _) = memory_of(transfers.place(transfer.number, 0, 4));
        std::thread::scope(|scope| {
            let withdrawing = scope.spawn(|| transfers.withdraw(&transfer));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!withdrawing.is_finished(), "they are still arriving");
            transfers.placed(&found, None);
            withdrawing.join().expect("withdrawn");
        });
        assert!(transfer.is_done());
        // What is still on its way goes nowhere, whatever it is.
        let late = transfers.place(transfer.number, 4, 6);
        assert!(matches!(late, Some(Place::Nowhere)));
    }
}
