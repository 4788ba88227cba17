//! A door that calls go through, and before which they wait while it is closed: by it a process is suspended.
//!
//! *Why here:* the software GPU has one before every call of its driver's, and a worker one before every call of its client's. *Rules:* who closes it sees afterwards whether a
//! call is still inside; a call within a call is one, so a thread has to do with one door only; what touches no device does not come here.
//!
//! *Cost of a call:* two atomic additions, to a line of memory that seldom is another thread's too, and a load.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Calls of many threads are counted at so many places, so that they do not disturb each other.
const PLACES: usize = 64;

#[derive(Debug)]
#[repr(align(64))]
struct Count(AtomicUsize);

const NO_PLACE: usize = usize::MAX;

thread_local! {
    /// Where this thread is counted.
    static PLACE: Cell<usize> = const { Cell::new(NO_PLACE) };
    /// How many calls of this thread are inside each other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The door, open at first.
#[derive(Debug)]
pub struct Door {
    inside: [Count; PLACES],
    is_closed: AtomicBool,
    /// Who waits before the door waits with this.
    waiting: Mutex<()>,
    opened: Condvar,
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

/// A call that is inside, until dropped.
#[must_use = "dropping it leaves"]
#[derive(Debug)]
pub struct Inside<'a>(&'a Count);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            // Whoever sees that nobody is inside sees all that was done there.
            self.0.0.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Door {
    /// An open door.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            inside: [const { Count(AtomicUsize::new(0)) }; PLACES],
            is_closed: AtomicBool::new(false),
            waiting: Mutex::new(()),
            opened: Condvar::new(),
        }
    }

    /// Goes in, once it is open.
    pub fn enter(&self) -> Inside<'_> {
        loop {
            match self.try_enter() {
                Some(inside) => return inside,
                None => self.wait(Duration::MAX),
            }
        }
    }

    /// Goes in if it is open.
    #[inline]
    pub fn try_enter(&self) -> Option<Inside<'_>> {
        let count = &self.inside[place()];
        let depth = DEPTH.get();
        if depth == 0 {
            // First counted, then looked: who has closed it and sees no count is seen by this look.
            count.0.fetch_add(1, Ordering::SeqCst);
            if self.is_closed.load(Ordering::SeqCst) {
                count.0.fetch_sub(1, Ordering::Release);
                return None;
            }
        }
        DEPTH.set(depth + 1);
        Some(Inside(count))
    }

    /// Waits until it is open, for so long at most.
    #[cold]
    pub fn wait(&self, longest: Duration) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_closed = |(): &mut ()| self.is_closed.load(Ordering::SeqCst);
        // Open or not: who waits looks again.
        drop(self.opened.wait_timeout_while(waiting, longest, is_closed));
    }

    /// Lets nobody in from now on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(false, Ordering::SeqCst);
        drop(waiting);
        self.opened.notify_all();
    }

    /// Whether nobody is inside. Once it is closed that stays so.
    pub fn is_empty(&self) -> bool {
        let mut counts = self.inside.iter();
        counts.all(|count| count.0.load(Ordering::SeqCst) == 0)
    }

    /// In a child after `fork`, where nobody could open it: touches an atomic only.
    pub fn forget(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }
}

fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if PLACE.get() == NO_PLACE {
        PLACE.set(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
    }
    PLACE.get()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_is_inside_is_seen_and_who_comes_waits() {
        const MOMENT: Duration = Duration::from_millis(50);
        static DOOR: Door = Door::new();
        let outer = DOOR.enter();
        let inner = DOOR.enter();
        DOOR.close();
        assert!(!DOOR.is_empty());
        // Somebody who is inside may call on.
        drop(DOOR.enter());
        drop(inner);
        assert!(!DOOR.is_empty());
        drop(outer);
        assert!(DOOR.is_empty());
        assert!(DOOR.try_enter().is_none());
        DOOR.wait(MOMENT);
        let (told, heard) = mpsc::channel();
        let comer = std::thread::spawn(move || {
            let inside = DOOR.enter();
            told.send(()).expect("the test waits");
            drop(inside);
        });
        assert!(heard.recv_timeout(MOMENT).is_err(), "it waits");
        DOOR.open();
        assert!(heard.recv_timeout(Duration::from_secs(30)).is_ok());
        comer.join().expect("it ends");
        assert!(DOOR.is_empty());
        assert!(DOOR.try_enter().is_some());
    }

    /// However calls and a closing come together, whoever found nobody inside is alone until the door opens.
    #[test]
    fn nobody_comes_in_behind_one_who_found_it_empty() {
        static DOOR: Door = Door::new();
        static WORD: AtomicUsize = AtomicUsize::new(0);
        static IS_OVER: AtomicBool = AtomicBool::new(false);
        let calls = || {
            while !IS_OVER.load(Ordering::Relaxed) {
                let _inside = DOOR.enter();
                WORD.fetch_add(1, Ordering::Relaxed);
            }
        };
        let callers: Vec<_> = (0..3).map(|_| std::thread::spawn(calls)).collect();
        for _ in 0..200 {
            DOOR.close();
            while !DOOR.is_empty() {
                std::thread::yield_now();
            }
            let before = WORD.load(Ordering::Relaxed);
            std::thread::yield_now();
            assert_eq!(WORD.load(Ordering::Relaxed), before);
            DOOR.open();
        }
        IS_OVER.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().expect("it ends");
        }
    }
}
