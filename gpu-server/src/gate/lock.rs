//! The lock of a gate's memory: a word, with the number of its owner and of the taking.
//!
//! *Rules:* it is held for about a microsecond. Who waits for it for [`PATIENCE`] asks whether its owner lives, and takes it from a dead one; from a
//! living one after [`MOST_PATIENCE`] of these, since a process can be stopped at any instruction. It takes it from whomever it finds after [`LONGEST`],
//! however often it changed hands meanwhile. Whose lock was taken notices before it writes
//! ([`Guard::is_held`]) and when it lets go. What somebody has left half done is numbers that the next ones correct. Threads of one process
//! take a lock of their own first, so an owner is never a thread of the process that waits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};

use super::memory::{self, Memory};

/// The owner's number of who has no seat.
pub(super) const KEEPER: usize = 0xFFFE;

/// Looks before one sleeps.
const SPINS: u32 = 100;

/// For how long one sleeps before one asks whether the owner lives.
const PATIENCE: u64 = 50_000_000;

/// After so many of these, the lock is taken from whoever has it.
const MOST_PATIENCE: u32 = 5;

/// After that time it is taken, in nanoseconds: who has waited so long waits for somebody that does not play by these rules.
const LONGEST: u64 = 1_000_000_000;

const FREE: u32 = 0;
const WAITED_FOR: u32 = 1 << 31;
const OWNER_BITS: u32 = 16;
const OWNER_MASK: u32 = (1 << OWNER_BITS) - 1;

const _: () = assert!(KEEPER < OWNER_MASK as usize);

/// The lock, until dropped.
pub(super) struct Guard<'a> {
    word: &'a AtomicU32,
    mine: u32,
    _own: MutexGuard<'a, ()>,
}

pub(super) fn acquire(memory: &Memory, number: usize) -> Guard<'_> {
    let own = memory.own.lock().unwrap_or_else(PoisonError::into_inner);
    let header = memory.header();
    let word = &header.lock;
    // The taking's number tells two takings by one owner apart.
    let taking = header.takings.fetch_add(1, Ordering::Relaxed) << OWNER_BITS & !WAITED_FOR;
    let mine = taking | (number as u32 + 1);
    wait_for(memory, word, mine);
    Guard {
        word,
        mine,
        _own: own,
    }
}

/// Makes the word ours.
fn wait_for(memory: &Memory, word: &AtomicU32, mine: u32) {
    for _ in 0..SPINS {
        if exchange(word, FREE, mine) {
            return;
        }
        std::hint::spin_loop();
    }
    let mut rounds = 0;
    let end = memory::now_ns() + LONGEST;
    loop {
        if memory::now_ns() >= end {
            word.swap(mine | WAITED_FOR, Ordering::Acquire);
            return;
        }
        let now = word.load(Ordering::Relaxed);
        if now == FREE {
            // Others may wait still.
            if exchange(word, FREE, mine | WAITED_FOR) {
                return;
            }
            continue;
        }
        if now & WAITED_FOR == 0 && !exchange(word, now, now | WAITED_FOR) {
            continue;
        }
        memory::wait(word, now | WAITED_FOR, memory::now_ns() + PATIENCE);
        if word.load(Ordering::Relaxed) & !WAITED_FOR != now & !WAITED_FOR {
            rounds = 0;
            continue;
        }
        rounds += 1;
        let owner = (now & OWNER_MASK).wrapping_sub(1) as usize;
        let is_dead = owner < memory::MAX_SEATS && !memory.is_alive(owner);
        if (is_dead || rounds >= MOST_PATIENCE)
            && exchange(word, now | WAITED_FOR, mine | WAITED_FOR)
        {
            return;
        }
    }
}

fn exchange(word: &AtomicU32, from: u32, to: u32) -> bool {
    word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
        .is_ok()
}

impl Guard<'_> {
    /// Whether nobody has taken it from us.
    pub(super) fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) & !WAITED_FOR == self.mine
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let waited_for = self.mine | WAITED_FOR;
        let release = |from| {
            self.word
                .compare_exchange(from, FREE, Ordering::Release, Ordering::Relaxed)
        };
        // Whoever begins to wait in between sets the flag, so the second finds it; where both fail, it was taken from us.
        if release(self.mine).is_err() && release(waited_for).is_ok() {
            memory::wake(self.word, 1);
        }
    }
}
