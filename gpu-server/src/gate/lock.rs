//! The lock of a gate's memory: a word, with the number of its owner.
//!
//! *Rules:* it is held for about a microsecond, so who waits for it for [`PATIENCE`] asks whether its owner lives, and takes it from a
//! dead one. What a dead one has left half done is numbers that the next ones correct.

use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::{self, Memory};

/// The owner's number of who has no seat.
pub(super) const KEEPER: usize = 0xFFFF;

/// Looks before one sleeps.
const SPINS: u32 = 100;

/// For how long one sleeps before one asks whether the owner lives.
const PATIENCE: u64 = 50_000_000;

/// After so many of these, an owner without a seat is taken for dead.
const KEEPER_PATIENCE: u32 = 10;

const FREE: u32 = 0;
const WAITED_FOR: u32 = 1 << 31;

/// The lock, until dropped.
pub(super) struct Guard<'a> {
    word: &'a AtomicU32,
    mine: u32,
}

pub(super) fn acquire(memory: &Memory, number: usize) -> Guard<'_> {
    let word = &memory.header().lock;
    let mine = number as u32 + 1;
    let guard = || Guard { word, mine };
    for _ in 0..SPINS {
        if exchange(word, FREE, mine) {
            return guard();
        }
        std::hint::spin_loop();
    }
    let mut rounds = 0;
    loop {
        let now = word.load(Ordering::Relaxed);
        if now == FREE {
            // Others may wait still.
            if exchange(word, FREE, mine | WAITED_FOR) {
                return guard();
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
        let owner = (now & !WAITED_FOR) as usize - 1;
        let is_dead = match owner {
            KEEPER => rounds >= KEEPER_PATIENCE,
            seat => !memory.is_alive(seat),
        };
        if is_dead && exchange(word, now | WAITED_FOR, mine | WAITED_FOR) {
            return guard();
        }
    }
}

fn exchange(word: &AtomicU32, from: u32, to: u32) -> bool {
    word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
        .is_ok()
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let before = self.word.load(Ordering::Relaxed);
        if before & !WAITED_FOR != self.mine {
            // It was taken from us.
            return;
        }
        if self.word.swap(FREE, Ordering::Release) & WAITED_FOR != 0 {
            memory::wake(self.word, 1);
        }
    }
}
