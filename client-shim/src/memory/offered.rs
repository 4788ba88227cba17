//! Large synchronous copies to the device whose bytes the worker's card reads where they are.
//!
//! *What:* the program's memory is offered to that card in parts, two at a time: each is registered, its key told in a call, and closed again when the call is
//! answered, so what is open is a part of a copy that a thread of the program is in. While one part is read the next is registered. *Rules:* only memory that
//! may be lent is offered, and the device's has to be one allocation of `cuMemAlloc`. What cannot be registered, or read, is sent by way of the server's host
//! memory, from the first byte on that has not arrived. The call waits for its end anyway, so its stream may wait for whatever the program's other threads do.
//! What is cheaper is [measured](Choice), unless the server's operator knows: the time until the worker has what was sent, and what the worker says of the time
//! since the stream had reached the copy, with the registration before it.
//!
//! # Safety
//! Memory is offered for no longer than the call that reads it, by whose contract it stays.
#![expect(unsafe_code, reason = "the program's memory is read where it is")]

use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driver_api::abi::CUresult;
use driver_api::wire::request::GpurunReadToDevice;
use protocol::choice::Choice;
use protocol::limits::{BULK_CHUNK_BYTES, MAX_READS, READ_BYTES};
use protocol::transport::{Lender, Offer, RemoteMemory};

use super::Copy;
use crate::link::Asked;

/// What the worker puts into a stream for such a copy: a point, a gate, and a point behind it.
const OPERATIONS: u64 = 3;

/// How the worker's card reads the program's memory.
pub(crate) struct Reads {
    lender: Lender,
    /// Without a question.
    is_always: bool,
    choice: Mutex<Choice>,
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reads")
            .field("is_always", &self.is_always)
            .finish_non_exhaustive()
    }
}

impl Reads {
    /// By this connection, if its worker reads.
    pub(crate) fn new(lender: &Lender, is_always: bool) -> Option<Self> {
        lender.has_reads().then(|| Self {
            lender: lender.clone(),
            is_always,
            choice: Mutex::default(),
        })
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next copy is offered.
    fn are_chosen(&self) -> bool {
        let mut choice = self.choice();
        match self.is_always {
            true => !choice.rests(),
            false => choice.takes_other(),
        }
    }
}

/// A copy whose parts are offered.
struct Offering<'a> {
    copy: &'a Copy<'a>,
    reads: &'a Reads,
    destination: u64,
    source: *const u8,
    length: usize,
    /// Bytes that have been offered.
    offered: usize,
    /// Nothing more will be.
    is_closed: bool,
    under_way: VecDeque<Part>,
}

/// A part that is being read.
struct Part {
    asked: Asked,
    /// Bytes of the copy up to its end.
    end: usize,
    /// Open until the answer; nothing in what only ends the copy.
    offer: Option<Offer>,
}

impl Copy<'_> {
    /// Sends a large copy that its call waits for, by the cheaper way. True if the device has it all; else the worker has it, as after [`Copy::send`].
    ///
    /// # Safety
    /// As [`Copy::to_device`].
    pub(super) unsafe fn send_now(
        &self,
        destination: u64,
        source: *const u8,
        length: usize,
    ) -> Result<bool, CUresult> {
        let Some(reads) = self.reads_for(destination, length) else {
            // SAFETY: the caller's promise.
            return unsafe { self.send(destination, source, length) }.map(|()| false);
        };
        if !reads.are_chosen() {
            let begun = Instant::now();
            // SAFETY: the caller's promise.
            unsafe { self.send(destination, source, length) }?;
            reads.choice().went_plain(length, begun.elapsed());
            return Ok(false);
        }
        // SAFETY: the caller's promise.
        let read = unsafe { self.offer(reads, destination, source, length) }?;
        if read == length {
            return Ok(true);
        }
        // SAFETY: the rest of what the caller vouches for.
        unsafe { self.send(destination + read as u64, source.add(read), length - read) }?;
        Ok(false)
    }

    /// How a copy could be read, if it is such a one.
    fn reads_for(&self, destination: u64, length: usize) -> Option<&Reads> {
        let reads = self.session.reads.as_ref()?;
        if length <= BULK_CHUNK_BYTES {
            return None;
        }
        let allocation = self.session.objects.memory.find(destination)?;
        let end = allocation.start + allocation.size;
        let is_whole = allocation.is_plain()
            && allocation.context == self.stream.context
            && length as u64 <= end - destination;
        is_whole.then_some(reads)
    }

    /// Offers a copy to the worker's card; how many of its bytes were read.
    ///
    /// # Safety
    /// As [`Copy::to_device`].
    unsafe fn offer(
        &self,
        reads: &Reads,
        destination: u64,
        source: *const u8,
        length: usize,
    ) -> Result<usize, CUresult> {
        let mut offering = Offering {
            copy: self,
            reads,
            destination,
            source,
            length,
            offered: 0,
            is_closed: false,
            under_way: VecDeque::new(),
        };
        let begun = Instant::now();
        // SAFETY: the caller's promise; all offers end with this function.
        let Some(first) = (unsafe { offering.register() }) else {
            return Ok(0);
        };
        let prepared = begun.elapsed();
        self.stream.admit(self.session, OPERATIONS)?;
        self.session
            .objects
            .memory
            .mapped
            .before_work(self.session)?;
        let before = self.stream.last_work();
        offering.ask(Some(first))?;
        // SAFETY: as above.
        let (read, outcome) = unsafe { offering.run() }?;
        let sent = &self.session.link.sent_bytes;
        sent.fetch_add(read as u64, SeqCst);
        match outcome {
            Ok(nanoseconds) if read == length => {
                let time = prepared + Duration::from_nanos(nanoseconds);
                reads.choice().went_other(length, time);
                self.stream.has_done(before);
                // A call that was posted before may have failed: that is told before the answer.
                self.stream.fault.check()?;
                self.session
                    .objects
                    .memory
                    .mapped
                    .after_wait(self.session)?;
            }
            // Memory that cannot be offered says nothing of other memory.
            Ok(_) => {}
            Err(CUresult::NOT_SUPPORTED) => reads.choice().other_failed(),
            Err(code) => return Err(code),
        }
        Ok(read)
    }
}

impl Offering<'_> {
    /// Offers the next part.
    ///
    /// # Safety
    /// The copy's memory is readable until the offer is dropped.
    unsafe fn register(&self) -> Option<Offer> {
        let length = READ_BYTES.min(self.length - self.offered);
        // SAFETY: inside of the copy's memory, for which the caller vouches.
        unsafe {
            self.reads
                .lender
                .offer(self.source.add(self.offered), length)
        }
    }

    /// Asks for a part to be read; without one, the copy ends before its end.
    fn ask(&mut self, offer: Option<Offer>) -> Result<(), CUresult> {
        let nothing = RemoteMemory {
            address: 0,
            length: 0,
            key: 0,
        };
        let memory = offer.as_ref().map_or(nothing, Offer::memory);
        let request = GpurunReadToDevice::new(
            self.destination,
            self.length as u64,
            self.offered as u64,
            memory.length as u64,
            memory.address,
            memory.key,
            self.copy.stream.wire_id(),
        );
        let session = self.copy.session;
        let asked = session.begin_ask(self.copy.stream.context, &request)?;
        self.offered += memory.length;
        self.is_closed = offer.is_none() || self.offered == self.length;
        self.under_way.push_back(Part {
            asked,
            end: self.offered,
            offer,
        });
        Ok(())
    }

    /// Offers what is left and waits for all of it: how many bytes were read, one after the other from the first on, and the last answer, or the first that says no.
    ///
    /// # Safety
    /// As [`Offering::register`], until this returns.
    unsafe fn run(mut self) -> Result<(usize, Result<u64, CUresult>), CUresult> {
        let (mut read, mut outcome) = (0, Ok(0));
        loop {
            while outcome.is_ok() && !self.is_closed && self.under_way.len() < MAX_READS {
                // SAFETY: the caller's promise; it is dropped below, or with this.
                let offer = unsafe { self.register() };
                self.ask(offer)?;
            }
            let Some(part) = self.under_way.pop_front() else {
                return Ok((read, outcome));
            };
            let session = self.copy.session;
            match session.finish_ask::<GpurunReadToDevice>(part.asked) {
                Ok(reply) if outcome.is_ok() => {
                    (read, outcome) = (part.end, Ok(reply.nanoseconds()));
                }
                Ok(_) => {}
                Err(code) => outcome = outcome.and(Err(code)),
            }
            drop(part.offer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use driver_api::wire::{Request, decode, reply};
    use protocol::frame::{Calls, FrameHeader, FrameKind, RecordBuffer, ReplyRecord};
    use protocol::transport::memory::{Card, Faults, pair};
    use protocol::transport::{Connection, DeviceMemory, Reached, TransportError};
    use zerocopy::IntoBytes;

    use super::*;
    use crate::link::Link;
    use crate::objects::{Objects, Pushed};
    use crate::session::Session;
    use crate::stream::Stream;

    const LENGTH: usize = 2 * READ_BYTES + 4321;

    /// A worker that reads what is offered, and says this instead from a place of the copy on.
    struct Worker {
        connection: Connection,
        refuses: (u64, CUresult),
        device: Vec<u8>,
        calls: u64,
    }

    impl Worker {
        /// Serves until the client is gone; what its device holds then.
        fn serve(mut self) -> Vec<u8> {
            while let Ok(calls) = self.receive() {
                for item in Calls::new(&calls) {
                    let (record, body) = item.expect("a call");
                    self.calls += 1;
                    assert_eq!(record.number, GpurunReadToDevice::NUMBER);
                    let request = decode(body).expect("its request");
                    let result = self.read(&request);
                    self.answer(result);
                }
            }
            self.device
        }

        fn receive(&mut self) -> Result<Vec<u8>, TransportError> {
            let receiver = &mut self.connection.receiver;
            loop {
                let Some(header) = receiver.poll_header()? else {
                    receiver.wait(Some(Duration::from_secs(1)))?;
                    continue;
                };
                let mut payload = vec![0; header.length as usize];
                receiver.read_payload(&mut payload)?;
                if header.kind == FrameKind::Calls {
                    return Ok(payload);
                }
            }
        }

        fn read(&mut self, request: &GpurunReadToDevice) -> CUresult {
            let (offset, length) = (request.offset(), request.length() as usize);
            assert_eq!(request.whole(), LENGTH as u64);
            if offset >= self.refuses.0 {
                return self.refuses.1;
            }
            let place = &mut self.device[offset as usize..][..length];
            let memory = DeviceMemory {
                address: place.as_mut_ptr().expose_provenance() as u64,
                length,
                reached: Reached::ByAddress,
            };
            let from = RemoteMemory {
                address: request.source(),
                length,
                key: request.key(),
            };
            // SAFETY: the place is borrowed for longer than the read.
            let read = unsafe { self.connection.lender.read(&memory, from) }.expect("begun");
            read.outcome().expect("at once").expect("it is offered");
            CUresult::SUCCESS
        }

        fn answer(&mut self, result: CUresult) {
            let record = ReplyRecord {
                call: self.calls,
                result: result.0,
                length: 0,
            };
            let told = reply::GpurunReadToDevice::new(1000);
            let body = match result.is_success() {
                true => told.as_bytes(),
                false => &[],
            };
            let mut records = RecordBuffer::new();
            records.push_parts(&record, &[body]).expect("fits");
            let header = FrameHeader {
                sequence: self.calls,
                ..FrameHeader::new(FrameKind::Replies)
            };
            let payload = [IoSlice::new(records.as_bytes())];
            // The client may be gone.
            let _ = self.connection.sender.send(&header, &payload);
        }
    }

    fn session(refuses: (u64, CUresult)) -> (Session, JoinHandle<Vec<u8>>) {
        let card = Card {
            takes: 100,
            ..Card::default()
        };
        let (ours, connection) = pair(&Faults {
            card,
            ..Faults::default()
        });
        let reads = Reads::new(&ours.lender, true);
        let objects = Arc::new(Objects::default());
        let link = Link::start(ours, Box::new(Pushed(Arc::clone(&objects)))).expect("threads");
        let worker = Worker {
            connection,
            refuses,
            device: vec![0; LENGTH],
            calls: 0,
        };
        let serving = thread::spawn(move || worker.serve());
        (Session::over(link, reads, objects), serving)
    }

    /// Offers a copy; what is said of it, whether the next would be offered, and what the device holds.
    fn offered(bytes: &[u8], refuses: (u64, CUresult)) -> (Result<usize, CUresult>, bool, Vec<u8>) {
        let (session, serving) = session(refuses);
        let stream = Arc::new(Stream::legacy(1));
        let reads = session.reads.as_ref().expect("a card");
        let copy = Copy::now(&session, &stream);
        // SAFETY: the bytes outlive the call.
        let read = unsafe { copy.offer(reads, 4096, bytes.as_ptr(), bytes.len()) };
        let are_chosen = reads.are_chosen();
        session.link.end();
        (read, are_chosen, serving.join().expect("the worker"))
    }

    fn bytes() -> Vec<u8> {
        (0..LENGTH).map(|place| (place * 31 % 251) as u8).collect()
    }

    #[test]
    fn all_of_a_copy_is_offered_and_closed_again() {
        let bytes = bytes();
        let (read, are_chosen, device) = offered(&bytes, (u64::MAX, CUresult::SUCCESS));
        assert_eq!((read, are_chosen), (Ok(LENGTH), true));
        assert!(device == bytes);
    }

    #[test]
    fn what_is_refused_is_left_to_be_sent_from_its_first_byte_on() {
        let bytes = bytes();
        for parts in 0..3 {
            let refuses = ((parts * READ_BYTES) as u64, CUresult::NOT_SUPPORTED);
            let (read, are_chosen, device) = offered(&bytes, refuses);
            assert_eq!((read, are_chosen), (Ok(parts * READ_BYTES), false));
            let (there, beyond) = device.split_at(parts * READ_BYTES);
            assert!(there == &bytes[..there.len()] && beyond.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn an_error_of_the_device_is_the_copys() {
        for parts in 0..3 {
            let refuses = ((parts * READ_BYTES) as u64, CUresult::ILLEGAL_ADDRESS);
            let (read, ..) = offered(&bytes(), refuses);
            assert_eq!(read, Err(CUresult::ILLEGAL_ADDRESS));
        }
    }
}
