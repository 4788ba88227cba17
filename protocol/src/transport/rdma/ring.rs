//! The arithmetic of a ring that the peer writes and we read: pure, and the same on both sides.
//!
//! What: positions only grow; where one lies is the position modulo the ring's size. An immediate says how many bytes were written; a
//! credit says how many were read, and how many immediates may come again. Rules: a peer's number is compared with what it may be
//! before it counts; nothing here touches memory.
//!
//! ```text
//! writer:  freed ≤ sent ≤ freed + size         freed = what the reader has read, and the card has done with
//! reader:  read ≤ arrived ≤ read + size
//! ```

/// Bytes of a credit's field for bytes.
const CREDIT_BYTE_BITS: u32 = 24;

/// The largest ring: what a credit can tell at once.
pub(super) const MAX_RING_BYTES: u64 = 1 << (CREDIT_BYTE_BITS - 1);

/// Most immediates under way.
pub(super) const MAX_SLOTS: u32 = (1 << (32 - CREDIT_BYTE_BITS)) - 1;

/// What a reader gives back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) bytes: u64,
    pub(super) slots: u32,
}

impl Credit {
    /// As an immediate.
    pub(super) fn encode(self) -> u32 {
        let bytes = u32::try_from(self.bytes).unwrap_or(0);
        bytes | self.slots << CREDIT_BYTE_BITS
    }

    pub(super) fn decode(immediate: u32) -> Self {
        Self {
            bytes: u64::from(immediate & ((1 << CREDIT_BYTE_BITS) - 1)),
            slots: immediate >> CREDIT_BYTE_BITS,
        }
    }
}

/// The peer said what cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Impossible(pub(super) &'static str);

/// A contiguous part of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The writer's count.
#[derive(Debug)]
pub(super) struct Writer {
    size: u64,
    slots: u32,
    sent: u64,
    /// What the reader has read.
    read: u64,
    /// What the card has done with: its bytes may be overwritten.
    done: u64,
    slots_used: u32,
}

impl Writer {
    /// For a ring of `size` bytes, a power of two up to [`MAX_RING_BYTES`], and `slots` immediates, at most [`MAX_SLOTS`].
    pub(super) fn new(size: u64, slots: u32) -> Self {
        Self {
            size,
            slots,
            sent: 0,
            read: 0,
            done: 0,
            slots_used: 0,
        }
    }

    /// Where up to `wanted` bytes can be written now, in one piece.
    pub(super) fn room(&self, wanted: u64) -> Option<Part> {
        if self.slots_used >= self.slots {
            return None;
        }
        let free = self.size - (self.sent - self.read.min(self.done));
        let offset = self.sent % self.size;
        let length = wanted.min(free).min(self.size - offset);
        (length > 0).then_some(Part { offset, length })
    }

    /// So many bytes were written at the place that [`Writer::room`] told; the position behind them.
    pub(super) fn wrote(&mut self, length: u64) -> u64 {
        self.sent += length;
        self.slots_used += 1;
        self.sent
    }

    /// The card has done with everything before this position.
    pub(super) fn done(&mut self, position: u64) {
        self.done = self.done.max(position.min(self.sent));
    }

    /// Whether the card has done with everything before this position.
    pub(super) fn is_done(&self, position: u64) -> bool {
        self.done >= position
    }

    /// Bytes of the ring.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The position behind everything that was written.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The reader gave something back.
    pub(super) fn credit(&mut self, credit: Credit) -> Result<(), Impossible> {
        if credit.bytes > self.sent - self.read {
            return Err(Impossible("it has read more than was sent"));
        }
        if credit.slots > self.slots_used {
            return Err(Impossible("it gave back more receives than were used"));
        }
        self.read += credit.bytes;
        self.slots_used -= credit.slots;
        Ok(())
    }
}

/// The reader's count.
#[derive(Debug)]
pub(super) struct Reader {
    size: u64,
    slots: u32,
    arrived: u64,
    read: u64,
    owed: Credit,
}

impl Reader {
    pub(super) fn new(size: u64, slots: u32) -> Self {
        Self {
            size,
            slots,
            arrived: 0,
            read: 0,
            owed: Credit::default(),
        }
    }

    /// An immediate says that so many bytes were written; its receive is posted again.
    pub(super) fn arrived(&mut self, bytes: u64) -> Result<(), Impossible> {
        if bytes == 0 || bytes > self.size - (self.arrived - self.read) {
            return Err(Impossible("it says it wrote more than there is room for"));
        }
        self.arrived += bytes;
        self.owed.slots += 1;
        Ok(())
    }

    /// The next bytes, in one piece, at most `wanted`.
    pub(super) fn next(&self, wanted: u64) -> Option<Part> {
        let offset = self.read % self.size;
        let length = wanted.min(self.arrived - self.read).min(self.size - offset);
        (length > 0).then_some(Part { offset, length })
    }

    /// Whether there is something to read.
    pub(super) fn has_more(&self) -> bool {
        self.arrived > self.read
    }

    /// So many bytes were read.
    pub(super) fn took(&mut self, length: u64) {
        let length = length.min(self.arrived - self.read);
        self.read += length;
        self.owed.bytes += length;
    }

    /// Whether there is something to give back now.
    pub(super) fn is_credit_due(&self) -> bool {
        self.owed.bytes >= self.size / 4 || self.owed.slots >= self.slots / 4
    }

    /// What to give back now: only when it is much, so that few credits travel.
    pub(super) fn credit_due(&mut self) -> Option<Credit> {
        self.is_credit_due().then(|| std::mem::take(&mut self.owed))
    }
}

/// Most credits that can be under way: each gives back a quarter of the ring or of the slots, and one more of each may be beginning.
pub(super) const MAX_CREDITS: u32 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_credit_travels_in_an_immediate() {
        for credit in [
            Credit {
                bytes: 0,
                slots: MAX_SLOTS,
            },
            Credit {
                bytes: MAX_RING_BYTES,
                slots: 1,
            },
            Credit {
                bytes: 12_345,
                slots: 67,
            },
        ] {
            assert_eq!(Credit::decode(credit.encode()), credit);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut writer = Writer::new(64, 4);
        writer.wrote(10);
        assert!(
            writer
                .credit(Credit {
                    bytes: 11,
                    slots: 0
                })
                .is_err()
        );
        assert!(writer.credit(Credit { bytes: 0, slots: 2 }).is_err());
        assert!(
            writer
                .credit(Credit {
                    bytes: 10,
                    slots: 1
                })
                .is_ok()
        );
        let mut reader = Reader::new(64, 4);
        assert!(reader.arrived(0).is_err());
        assert!(reader.arrived(65).is_err());
        assert!(reader.arrived(64).is_ok());
        assert!(reader.arrived(1).is_err(), "nothing was read");
    }

    proptest! {
        /// Whatever the sizes, every byte arrives once and in order, nothing is overwritten unread, and neither side gets stuck.
        #[test]
        fn bytes_arrive_in_order(sizes in prop::collection::vec(1_u64..200, 1..200), appetite in 1_u64..90, lag in 0_usize..5) {
            const SIZE: u64 = 128;
            let (mut writer, mut reader) = (Writer::new(SIZE, 8), Reader::new(SIZE, 8));
            let mut memory = [0_u8; SIZE as usize];
            let (mut to_send, mut sent, mut seen) = (sizes.iter().sum::<u64>(), 0_u64, 0_u64);
            let mut credits = std::collections::VecDeque::new();
            let (mut sizes, mut left) = (sizes.into_iter(), 0);
            while to_send > 0 || reader.has_more() {
                if left == 0 {
                    left = sizes.next().unwrap_or(0);
                }
                let room = if left == 0 { None } else { writer.room(left) };
                if let Some(part) = room {
                    for place in part.offset..part.offset + part.length {
                        memory[place as usize] = (sent % 251) as u8;
                        sent += 1;
                    }
                    let position = writer.wrote(part.length);
                    writer.done(position);
                    (left, to_send) = (left - part.length, to_send - part.length);
                    prop_assert!(reader.arrived(part.length).is_ok());
                } else {
                    let mut taken = 0;
                    while let Some(part) = reader.next(appetite - taken) {
                        for place in part.offset..part.offset + part.length {
                            prop_assert_eq!(memory[place as usize], (seen % 251) as u8);
                            seen += 1;
                        }
                        reader.took(part.length);
                        taken += part.length;
                    }
                    credits.extend(reader.credit_due());
                }
                prop_assert!(credits.len() <= MAX_CREDITS as usize);
                // Credits arrive late, but they do arrive when nothing else happens.
                while credits.len() > if reader.has_more() { lag } else { 0 } {
                    prop_assert!(writer.credit(credits.pop_front().expect("one")).is_ok());
                }
            }
            prop_assert_eq!(seen, sent);
        }
    }
}
