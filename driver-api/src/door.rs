//! A door that calls go through, and before which they wait while it is closed: by it a process is suspended.
//!
//! *Why here:* the software GPU has one before every call of its driver's, and a worker one before every call of its client's. *Rules:* who closes it sees afterwards whether a
//! call is still inside; a call within a call is one, so a thread has to do with one door only; what touches no device does not come here.
//!
//! *Cost of a call:* two stores to a place of its thread's own, and a load. What orders the first store before the load is a barrier that who closes the door has the kernel put into all threads
//! (`membarrier`); where there is none ([`Door::prepare`]), each call has one of its own, some 20 ns. The same holds for threads beyond the first 256, which share a counter.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier};

/// Threads that have a place of their own.
const PLACES: usize = 256;

#[derive(Debug)]
#[repr(align(64))]
struct Place(AtomicUsize);

const NO_PLACE: usize = usize::MAX;

/// What a thread knows of itself: looked for once to go in and once to leave, since that takes a library a call.
struct Own {
    /// Its place, in every door.
    place: Cell<usize>,
    /// How many calls of it are inside each other.
    depth: Cell<usize>,
}

thread_local! {
    static OWN: Own = const { Own { place: Cell::new(NO_PLACE), depth: Cell::new(0) } };
}

/// Whoever closes a door of this process has the kernel put barriers into all threads. It stays once it is so.
static ARE_BARRIERS_LENT: AtomicBool = AtomicBool::new(false);

/// The door, open at first.
#[derive(Debug)]
pub struct Door {
    /// 1 while the place's thread is inside.
    places: [Place; PLACES],
    /// How many threads without a place are.
    crowd: Place,
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
pub struct Inside<'a> {
    door: &'a Door,
    place: usize,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        let depth = OWN.with(|own| {
            let depth = own.depth.get() - 1;
            own.depth.set(depth);
            depth
        });
        if depth == 0 {
            self.door.note_out(self.place);
        }
    }
}

impl Door {
    /// An open door.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: [const { Place(AtomicUsize::new(0)) }; PLACES],
            crowd: Place(AtomicUsize::new(0)),
            is_closed: AtomicBool::new(false),
            waiting: Mutex::new(()),
            opened: Condvar::new(),
        }
    }

    /// Makes calls cheap, where the kernel can. Before that, and without it, all is right too.
    pub fn prepare(&self) {
        let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited);
        if registered.is_ok() {
            ARE_BARRIERS_LENT.store(true, Ordering::SeqCst);
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
        OWN.with(|own| {
            let (place, depth) = (own.place(), own.depth.get());
            if depth == 0 {
                // First noted, then looked: who has closed it and sees nobody is seen by this look.
                self.note_in(place);
                if self.is_closed.load(Ordering::SeqCst) {
                    self.note_out(place);
                    return None;
                }
            }
            own.depth.set(depth + 1);
            Some(Inside { door: self, place })
        })
    }

    #[inline]
    fn note_in(&self, place: usize) {
        match self.places.get(place) {
            Some(own) => {
                own.0.store(1, Ordering::Relaxed);
                match ARE_BARRIERS_LENT.load(Ordering::Relaxed) {
                    true => compiler_fence(Ordering::SeqCst),
                    false => fence(Ordering::SeqCst),
                }
            }
            None => {
                self.crowd.0.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Whoever sees that nobody is inside sees all that was done there.
    #[inline]
    fn note_out(&self, place: usize) {
        match self.places.get(place) {
            Some(own) => own.0.store(0, Ordering::Release),
            None => {
                self.crowd.0.fetch_sub(1, Ordering::Release);
            }
        }
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
    ///
    /// # Errors
    /// The kernel puts no barriers into threads, though it said that it would; the door stays open.
    pub fn close(&self) -> io::Result<()> {
        self.is_closed.store(true, Ordering::SeqCst);
        if ARE_BARRIERS_LENT.load(Ordering::SeqCst) {
            // Each thread has either noted that it is inside before this, which is seen then, or looks at the door after it.
            membarrier(MembarrierCommand::PrivateExpedited).inspect_err(|_| self.open())?;
        }
        Ok(())
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
        let mut places = self.places.iter().chain([&self.crowd]);
        places.all(|place| place.0.load(Ordering::SeqCst) == 0)
    }

    /// In a child after `fork`, where nobody could open it: touches an atomic only.
    pub fn forget(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }
}

impl Own {
    #[inline]
    fn place(&self) -> usize {
        match self.place.get() {
            NO_PLACE => self.take_place(),
            place => place,
        }
    }

    #[cold]
    fn take_place(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < PLACES).then_some(next + 1)
        });
        let place = taken.unwrap_or(PLACES);
        self.place.set(place);
        place
    }
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
        DOOR.close().expect("closed");
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

    /// However calls and a closing come together, whoever found nobody inside is alone until the door opens: with barriers by the kernel and without, with places and in the crowd.
    #[test]
    fn nobody_comes_in_behind_one_who_found_it_empty() {
        static DOOR: Door = Door::new();
        alone(&DOOR);
        DOOR.prepare();
        alone(&DOOR);
        let place = || OWN.with(Own::place);
        for _ in 0..PLACES {
            std::thread::spawn(place).join().expect("it ends");
        }
        let place = std::thread::spawn(place).join().expect("it ends");
        assert_eq!(place, PLACES, "no more places");
        alone(&DOOR);
    }

    fn alone(door: &'static Door) {
        let (word, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let _inside = door.enter();
                        word.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..50 {
                door.close().expect("closed");
                while !door.is_empty() {
                    std::thread::yield_now();
                }
                let before = word.load(Ordering::Relaxed);
                std::thread::yield_now();
                assert_eq!(word.load(Ordering::Relaxed), before);
                door.open();
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
