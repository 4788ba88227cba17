//! What a session has on a device: how much, since when, and how much it may.
//!
//! *What:* [`Flight`] counts *pieces* of work (a launch, or several where nobody counts) between their launch and the moment their end is seen. It
//! decides; it calls nothing. *Rules:* no more is let onto a shared device than [`LOAD`] of measured work, or one piece, so that a turn passes
//! soon. Work that makes no progress may wait for something that is posted behind the launch that waits here, so after a
//! while more is let through all the same ([`Flight::rescue`]).

use crate::gate::turns::{OVERDUE, SHORTEST};

/// The work on a shared device, as measured.
const LOAD: u64 = SHORTEST;

/// The most pieces, however short.
const MOST: u32 = 256;

/// A stream's work is followed by a point after a part of what may be on the device, so that the rest goes on while its end is told.
const PARTS: u32 = 4;

/// After so long without progress something is let through that may be what the others wait for. Sooner where a stream was told to wait.
const STUCK: u64 = 4 * OVERDUE;

/// The most that is let through at a time then.
const MOST_RESCUED: u32 = 64;

/// Work on a device. Times are nanoseconds of the gate's clock.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pieces: u32,
    /// Since when the device has had work, or had what is left of it.
    running_since: u64,
    /// From when on the next end is measured.
    measured_from: u64,
    /// When something ended last, or was let through.
    progress_at: u64,
    /// How long a piece takes; 0: unknown.
    piece_ns: u64,
    /// How many more go without asking the gate.
    allowance: u32,
    /// How often there was no progress for too long, in a row.
    rescues: u32,
    /// How many go because there is none.
    rescued: u32,
    /// A stream was told to wait for a value.
    is_held: bool,
}

impl Flight {
    /// How many pieces may be on the device.
    fn most(&self) -> u32 {
        match LOAD.checked_div(self.piece_ns) {
            None => 1,
            Some(most) => u32::try_from(most).unwrap_or(MOST).clamp(1, MOST),
        }
    }

    /// After how many pieces of a stream a point is due.
    pub(super) fn part(&self) -> u32 {
        (self.most() / PARTS).max(1)
    }

    /// Whether there is as much as may be.
    pub(super) fn is_full(&self) -> bool {
        self.pieces >= self.most()
    }

    /// Whether nothing is there.
    pub(super) fn is_idle(&self) -> bool {
        self.pieces == 0
    }

    /// The gate has granted a part.
    pub(super) fn grant(&mut self) {
        self.allowance = self.part();
    }

    /// Whether one more goes without asking, as far as we know; `is_open`: the gate says so.
    pub(super) fn goes_on(&mut self, is_open: impl FnOnce() -> bool) -> bool {
        if self.rescued > 0 {
            self.rescued -= 1;
            return true;
        }
        if self.is_full() || self.is_idle() {
            return false;
        }
        let is_allowed = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        is_allowed || is_open()
    }

    /// Lets something through where nothing has ended for too long. It may be what the rest waits for.
    pub(super) fn rescue(&mut self, now: u64) -> bool {
        let patience = match self.is_held || self.rescues > 0 {
            true => OVERDUE,
            false => STUCK,
        };
        let is_stuck = !self.is_idle() && now.saturating_sub(self.progress_at) >= patience;
        if is_stuck {
            let first = if self.is_held { MOST_RESCUED } else { 1 };
            self.rescued = (first << self.rescues.min(6)).min(MOST_RESCUED) - 1;
            self.rescues += 1;
        }
        is_stuck
    }

    /// A stream was told to wait for a value that may come from whoever comes behind.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// One more piece; since when the device has work, if it had none.
    pub(super) fn add(&mut self, now: u64) -> Option<u64> {
        self.pieces += 1;
        self.progress_at = now;
        if self.pieces > 1 {
            return None;
        }
        self.running_since = now;
        self.measured_from = now;
        Some(now)
    }

    /// Some have ended; since when what is left runs, 0 if nothing is left. More than may be there counts as one piece of work, which was
    /// there before anybody counted.
    pub(super) fn end(&mut self, pieces: u32, is_measured: bool, now: u64) -> u64 {
        let time = now.saturating_sub(self.measured_from);
        if is_measured && pieces > 0 {
            self.measure(time / u64::from(pieces));
        }
        self.pieces = self.pieces.saturating_sub(pieces);
        self.measured_from = now;
        self.progress_at = now;
        self.rescues = 0;
        self.rescued = 0;
        if self.pieces == 0 {
            self.allowance = 0;
            self.is_held = false;
            self.running_since = 0;
        } else if self.pieces <= self.most() {
            self.running_since = now;
        }
        self.running_since
    }

    /// What is longer than was thought counts at once, what is shorter by and by.
    fn measure(&mut self, time: u64) {
        self.piece_ns = match time >= self.piece_ns {
            true => time.max(1),
            false => self.piece_ns - (self.piece_ns - time) / 4,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    /// Pieces of one length, one after the other, as soon as they may; the most that were there.
    fn run(flight: &mut Flight, piece: u64, count: u32, now: &mut u64) -> u32 {
        let mut most = 0;
        for _ in 0..count {
            flight.grant();
            flight.add(*now);
            while !flight.is_full() {
                flight.add(*now);
            }
            most = most.max(flight.pieces);
            while !flight.is_idle() {
                *now += piece;
                flight.end(1, true, *now);
            }
        }
        most
    }

    #[test]
    fn long_pieces_go_one_by_one_and_short_ones_in_numbers() {
        let mut now = 1;
        let mut flight = Flight::default();
        assert_eq!(run(&mut flight, 50 * MILLISECOND, 10, &mut now), 1);
        assert_eq!(flight.part(), 1);
        run(&mut flight, MILLISECOND / 100, 50, &mut now);
        let most = run(&mut flight, MILLISECOND / 100, 1, &mut now);
        assert!((150..=200).contains(&most), "{most}");
        assert_eq!(flight.part(), most / PARTS);
        // A long one is believed at once.
        assert_eq!(run(&mut flight, 50 * MILLISECOND, 1, &mut now), most);
        assert_eq!(run(&mut flight, 50 * MILLISECOND, 1, &mut now), 1);
    }

    #[test]
    fn what_was_there_before_is_one_piece_of_work() {
        let mut flight = Flight::default();
        assert_eq!(flight.add(5), Some(5));
        for _ in 0..3 {
            assert_eq!(flight.add(6), None);
        }
        assert!(flight.is_full());
        assert_eq!(flight.end(1, false, 10), 5);
        assert_eq!(flight.end(1, false, 20), 5);
        assert_eq!(flight.end(1, false, 30), 30);
        assert_eq!(flight.end(1, false, 40), 0);
        assert_eq!(flight.end(1, false, 50), 0);
    }

    #[test]
    fn nothing_is_stuck_for_ever() {
        let mut flight = Flight::default();
        let mut now = 1;
        assert!(!flight.rescue(now + 2 * STUCK), "there is nothing");
        flight.add(now);
        assert!(!flight.rescue(now + STUCK - 1));
        let mut through = 0;
        let mut rounds = 0;
        while through < 100 {
            now += if rounds == 0 { STUCK } else { OVERDUE };
            assert!(flight.rescue(now));
            flight.add(now);
            through += 1;
            while flight.goes_on(|| false) {
                flight.add(now);
                through += 1;
            }
            rounds += 1;
        }
        assert!(rounds <= 7, "{rounds}");
        // Progress ends it.
        flight.end(1, false, now);
        assert!(!flight.rescue(now + OVERDUE));
    }

    #[test]
    fn a_stream_that_waits_is_rescued_soon() {
        let mut flight = Flight::default();
        flight.add(1);
        flight.hold();
        assert!(flight.rescue(1 + OVERDUE));
        let more = (0..1000).take_while(|_| flight.goes_on(|| false)).count();
        assert_eq!(more as u32, MOST_RESCUED - 1);
    }

    #[test]
    fn only_the_first_piece_and_each_part_asks() {
        let mut flight = Flight::default();
        let mut now = 1;
        run(&mut flight, MILLISECOND / 10, 50, &mut now);
        assert!(!flight.goes_on(|| true), "it has to ask for a turn");
        flight.grant();
        flight.add(now);
        let free = (0..100).take_while(|_| flight.goes_on(|| false)).count();
        assert_eq!(free as u32, flight.part());
        assert!(flight.goes_on(|| true));
    }
}
