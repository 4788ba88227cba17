//! Reads of the client's memory by the worker's card, straight into memory of a device.
//!
//! What: a queue pair of its own in each connection, by which nothing else travels. The client *offers* a part of the program's memory: it is registered, and
//! its key opens exactly that part until the offer is withdrawn. The worker registers as much of a device's memory and has its card read the one into the
//! other. Rules: a read that fails (a wrong key, a place that is not offered, a peer that is gone) ends this queue pair and nothing else: frames go on, and
//! whoever reads goes another way. Memory is given back by ending its registration, behind which no card touches it, whatever became of the read. Of a program
//! only such memory is offered as [may be lent](super::loan::is_anonymous).

use super::super::RemoteMemory;
use super::RdmaError;
use super::loan::MOST;
use super::verbs::{Completion, LentMemory, QueuePair, Target};

/// Most reads under way, as the queue pair is made for them.
pub(super) const READS: u32 = 16;

/// The queue pair, and what is registered for it.
pub(super) struct Reading {
    pair: QueuePair,
    reads: Vec<Read>,
    offers: Vec<Offer>,
    given: u64,
    /// Why the pair is of no use any more.
    failure: Option<String>,
}

struct Read {
    number: u64,
    memory: LentMemory,
    is_done: bool,
}

struct Offer {
    number: u64,
    memory: LentMemory,
}

impl Reading {
    /// Over a pair that is connected.
    pub(super) fn new(pair: QueuePair) -> Self {
        Self {
            pair,
            reads: Vec::new(),
            offers: Vec::new(),
            given: 0,
            failure: None,
        }
    }

    pub(super) fn pair(&self) -> &QueuePair {
        &self.pair
    }

    /// Notes memory that was registered for the peer; the offer's number, and what the peer has to know. Nothing if too much is offered already.
    pub(super) fn offer(&mut self, memory: LentMemory) -> Option<(u64, RemoteMemory)> {
        if self.offers.len() >= MOST {
            return None;
        }
        self.given += 1;
        let number = self.given;
        let told = memory.told();
        self.offers.push(Offer { number, memory });
        Some((number, told))
    }

    /// Forgets an offer, whose registration is the caller's then: giving it back takes its time.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<LentMemory> {
        let place = self
            .offers
            .iter()
            .position(|offer| offer.number == number)?;
        Some(self.offers.swap_remove(place).memory)
    }

    /// Begins to read what the peer offers into memory of a device, all of which it fills; the read's number.
    pub(super) fn begin(
        &mut self,
        memory: LentMemory,
        from: RemoteMemory,
    ) -> Result<u64, RdmaError> {
        self.check()?;
        if self.reads.len() >= READS as usize {
            return Err(RdmaError::TooMuchLent);
        }
        let length = memory.length() as u64;
        let destination = memory.part(0, length);
        let destination = destination.ok_or(RdmaError::Misuse("memory that is not lent"))?;
        if from.length != memory.length() {
            return Err(RdmaError::Misuse("a read into memory of another size"));
        }
        self.given += 1;
        let number = self.given;
        let target = Target {
            address: from.address,
            key: from.key,
        };
        self.pair.read_into(destination, length, target, number)?;
        self.reads.push(Read {
            number,
            memory,
            is_done: false,
        });
        Ok(number)
    }

    /// How a read ended, if it has.
    pub(super) fn outcome(&mut self, number: u64) -> Option<Result<(), RdmaError>> {
        self.progress();
        let read = self.reads.iter().find(|read| read.number == number);
        match read {
            Some(read) if read.is_done => Some(Ok(())),
            Some(_) => self.check().err().map(Err),
            None => Some(Err(RdmaError::Misuse("a read that was not begun"))),
        }
    }

    /// Forgets a read, whose registration is the caller's then.
    pub(super) fn end(&mut self, number: u64) -> Option<LentMemory> {
        let place = self.reads.iter().position(|read| read.number == number)?;
        Some(self.reads.swap_remove(place).memory)
    }

    /// Takes in what has been done. Reads are done in the order in which they were begun; behind one that failed, none is done.
    fn progress(&mut self) {
        let Self {
            pair,
            reads,
            failure,
            ..
        } = self;
        let mut note = |completion| {
            if let Completion::Sent(number) = completion
                && let Some(read) = reads.iter_mut().find(|read| read.number == number)
            {
                read.is_done = true;
            }
            Ok(())
        };
        while failure.is_none() {
            match pair.completions().poll(&mut note) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => *failure = Some(error.to_string()),
            }
        }
    }

    fn check(&self) -> Result<(), RdmaError> {
        match &self.failure {
            Some(failure) => Err(RdmaError::Reading(failure.clone())),
            None => Ok(()),
        }
    }
}
