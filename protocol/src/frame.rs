//! Frames and the records inside them.
//!
//! What: the 40-byte header of every frame, the 16-byte headers of call, reply and completion records,
//! bounded iterators over the records of a payload, and [`RecordBuffer`], which builds such a payload.
//! Rules: what a peer sent is checked here once (kind, flags, reserved bytes, lengths) and is typed
//! afterwards; iterating never panics and never reads beyond the payload; integers are little-endian.
//!
//! ```text
//! frame   | header 40 | payload `length`                                   |
//! payload | record 16 | body `length` | zeros to 8 | record 16 | body | … |
//! ```

use std::iter::FusedIterator;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bounded::Reader;
use crate::limits::{MAX_CALL_BYTES, MAX_FRAME_BYTES, MAX_REPLY_BYTES, MAX_TEXT_BYTES};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 40;

/// Bytes of a record's header.
pub const RECORD_BYTES: usize = 16;

/// Records begin at multiples of this many bytes of the payload.
pub const RECORD_ALIGNMENT: usize = 8;

/// Why bytes are not frames or records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that this version does not know.
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    /// Flags or reserved bytes that are not zero.
    #[error("a frame header with flags or reserved bytes set")]
    ReservedBits,
    /// A frame longer than its kind may be.
    #[error("a {kind:?} frame of {length} bytes, at most {most} are allowed")]
    TooLong {
        /// The frame's kind.
        kind: FrameKind,
        /// The length in its header.
        length: u32,
        /// The greatest length allowed.
        most: usize,
    },
    /// A record that ends beyond its frame.
    #[error("a record of {wanted} bytes where {left} are left in its frame")]
    RecordCut {
        /// Bytes that the record needs.
        wanted: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A record whose body is longer than any may be.
    #[error("a record with a body of {length} bytes, at most {most} are allowed")]
    RecordTooLong {
        /// The length in the record.
        length: u32,
        /// The greatest length allowed.
        most: usize,
    },
    /// Flags of a call that this version does not know.
    #[error("a call with unknown flags {0:#06x}")]
    UnknownCallFlags(u16),
    /// A reply that carries an error and a body.
    #[error("a reply with result {result} and a body of {length} bytes")]
    BodyOfError {
        /// The result.
        result: u32,
        /// The length in the record.
        length: u32,
    },
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// To the worker: call records in wire order.
    Calls = 1,
    /// Both ways: bytes from `offset` on of transfer `argument`.
    Bulk = 2,
    /// To the client: reply records.
    Replies = 3,
    /// To the client: completion records.
    Completions = 4,
    /// To the client: bytes that device code printed.
    Output = 5,
    /// To the client: text; context `argument` is lost with CUresult `offset`.
    Fault = 6,
    /// Both ways: nothing but the acknowledgement.
    Heartbeat = 7,
    /// Both ways: text, maybe empty; a clean end.
    Goodbye = 8,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Calls,
        Self::Bulk,
        Self::Replies,
        Self::Completions,
        Self::Output,
        Self::Fault,
        Self::Heartbeat,
        Self::Goodbye,
    ];

    /// The most payload bytes of a frame of this kind.
    #[must_use]
    pub const fn max_payload_bytes(self) -> usize {
        match self {
            Self::Heartbeat => 0,
            Self::Fault | Self::Goodbye => MAX_TEXT_BYTES,
            Self::Calls | Self::Bulk | Self::Replies | Self::Completions | Self::Output => {
                MAX_FRAME_BYTES
            }
        }
    }
}

impl TryFrom<u8> for FrameKind {
    type Error = FrameError;

    fn try_from(number: u8) -> Result<Self, FrameError> {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as u8 == number)
            .ok_or(FrameError::UnknownKind(number))
    }
}

/// A frame's header as it is on the wire.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct WireHeader {
    length: U32,
    kind: u8,
    flags: u8,
    reserved: U16,
    sequence: U64,
    acknowledged: U64,
    argument: U64,
    offset: U64,
}

const _: () = assert!(size_of::<WireHeader>() == HEADER_BYTES);

/// A frame's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload. A sender sets it from the payload that it is given.
    pub length: u32,
    /// What the frame carries.
    pub kind: FrameKind,
    /// The frame's number in its direction, from 1; 0 for heartbeats.
    pub sequence: u64,
    /// The highest sequence that the frame's sender has received.
    pub acknowledged: u64,
    /// Meaning by kind: Bulk: the transfer; Fault: the context.
    pub argument: u64,
    /// Meaning by kind: Bulk: where in the transfer the payload belongs; Fault: the CUresult.
    pub offset: u64,
}

impl FrameHeader {
    /// A header of this kind with everything else 0.
    #[must_use]
    pub const fn new(kind: FrameKind) -> Self {
        Self {
            length: 0,
            kind,
            sequence: 0,
            acknowledged: 0,
            argument: 0,
            offset: 0,
        }
    }

    /// A header of bytes `offset..` of a transfer.
    #[must_use]
    pub const fn bulk(transfer: u64, offset: u64) -> Self {
        let mut header = Self::new(FrameKind::Bulk);
        header.argument = transfer;
        header.offset = offset;
        header
    }

    /// The form on the wire.
    #[must_use]
    #[inline]
    pub fn to_wire(&self) -> WireHeader {
        WireHeader {
            length: U32::new(self.length),
            kind: self.kind as u8,
            flags: 0,
            reserved: U16::new(0),
            sequence: U64::new(self.sequence),
            acknowledged: U64::new(self.acknowledged),
            argument: U64::new(self.argument),
            offset: U64::new(self.offset),
        }
    }

    /// Checks a header from the wire.
    ///
    /// # Errors
    /// An unknown kind, bits that must be zero, a length beyond the kind's greatest.
    #[inline]
    pub fn from_wire(wire: &WireHeader) -> Result<Self, FrameError> {
        if wire.flags != 0 || wire.reserved.get() != 0 {
            return Err(FrameError::ReservedBits);
        }
        let kind = FrameKind::try_from(wire.kind)?;
        let length = wire.length.get();
        let most = kind.max_payload_bytes();
        if length as usize > most {
            return Err(FrameError::TooLong { kind, length, most });
        }
        Ok(Self {
            length,
            kind,
            sequence: wire.sequence.get(),
            acknowledged: wire.acknowledged.get(),
            argument: wire.argument.get(),
            offset: wire.offset.get(),
        })
    }
}

/// Flags of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CallFlags(u16);

impl CallFlags {
    /// No flag: a posted call.
    pub const NONE: Self = Self(0);
    /// A reply is owed.
    pub const ASKED: Self = Self(1);
    /// The driver may block in this call: it belongs off the ordered path.
    pub const MAY_BLOCK: Self = Self(2);

    const KNOWN: u16 = Self::ASKED.0 | Self::MAY_BLOCK.0;

    /// The flags of this number.
    ///
    /// # Errors
    /// [`FrameError::UnknownCallFlags`].
    #[inline]
    pub const fn from_bits(bits: u16) -> Result<Self, FrameError> {
        if bits & !Self::KNOWN == 0 {
            Ok(Self(bits))
        } else {
            Err(FrameError::UnknownCallFlags(bits))
        }
    }

    /// The number of these flags.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// These flags and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of those are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a reply is owed.
    #[must_use]
    pub const fn is_asked(self) -> bool {
        self.contains(Self::ASKED)
    }

    /// Whether the driver may block in this call.
    #[must_use]
    pub const fn may_block(self) -> bool {
        self.contains(Self::MAY_BLOCK)
    }
}

/// The head of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRecord {
    /// The number of the function's row.
    pub number: u16,
    /// How it is to be executed.
    pub flags: CallFlags,
    /// Bytes of the body. A [`RecordBuffer`] sets it from the body that it is given.
    pub length: u32,
    /// The client's number for its thread.
    pub thread: u32,
    /// The client's id of the context that is current; 0 for none.
    pub context: u32,
}

/// The head of one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyRecord {
    /// Which call it answers, counted from 1 in wire order.
    pub call: u64,
    /// A CUresult.
    pub result: u32,
    /// Bytes of the body. A [`RecordBuffer`] sets it from the body that it is given.
    pub length: u32,
}

/// A mark of a stream that has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletionRecord {
    /// The client's id of the stream.
    pub stream: u32,
    /// 0, or the sticky CUresult.
    pub result: u32,
    /// Everything before this mark of this stream is done.
    pub mark: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireCall {
    number: U16,
    flags: U16,
    length: U32,
    thread: U32,
    context: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireReply {
    call: U64,
    result: U32,
    length: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireCompletion {
    stream: U32,
    result: U32,
    mark: U64,
}

const _: () = assert!(size_of::<WireCall>() == RECORD_BYTES);
const _: () = assert!(size_of::<WireReply>() == RECORD_BYTES);
const _: () = assert!(size_of::<WireCompletion>() == RECORD_BYTES);

/// One kind of record: its form on the wire, and how long its body may be.
pub trait Record: Sized + Copy {
    /// Takes the record's head off a payload, checked.
    ///
    /// # Errors
    /// A head that is cut short or breaks a rule.
    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError>;

    /// The head on the wire, with `body_bytes` as its length.
    fn to_wire(&self, body_bytes: u32) -> [u8; RECORD_BYTES];

    /// How many bytes of body follow.
    fn body_bytes(&self) -> usize;

    /// The most bytes of body that may follow.
    const MAX_BODY_BYTES: usize;
}

fn read_wire<T: FromBytes>(reader: &mut Reader<'_>) -> Result<T, FrameError> {
    let left = reader.left();
    reader.take().map_err(|_| FrameError::RecordCut {
        wanted: RECORD_BYTES,
        left,
    })
}

fn check_body(length: u32, most: usize) -> Result<(), FrameError> {
    if length as usize > most {
        return Err(FrameError::RecordTooLong { length, most });
    }
    Ok(())
}

impl Record for CallRecord {
    const MAX_BODY_BYTES: usize = MAX_CALL_BYTES;

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let wire: WireCall = read_wire(reader)?;
        check_body(wire.length.get(), Self::MAX_BODY_BYTES)?;
        Ok(Self {
            number: wire.number.get(),
            flags: CallFlags::from_bits(wire.flags.get())?,
            length: wire.length.get(),
            thread: wire.thread.get(),
            context: wire.context.get(),
        })
    }

    #[inline]
    fn to_wire(&self, body_bytes: u32) -> [u8; RECORD_BYTES] {
        zerocopy::transmute!(WireCall {
            number: U16::new(self.number),
            flags: U16::new(self.flags.bits()),
            length: U32::new(body_bytes),
            thread: U32::new(self.thread),
            context: U32::new(self.context),
        })
    }

    #[inline]
    fn body_bytes(&self) -> usize {
        self.length as usize
    }
}

impl Record for ReplyRecord {
    const MAX_BODY_BYTES: usize = MAX_REPLY_BYTES;

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let wire: WireReply = read_wire(reader)?;
        let (result, length) = (wire.result.get(), wire.length.get());
        check_body(length, Self::MAX_BODY_BYTES)?;
        if result != 0 && length != 0 {
            return Err(FrameError::BodyOfError { result, length });
        }
        Ok(Self {
            call: wire.call.get(),
            result,
            length,
        })
    }

    #[inline]
    fn to_wire(&self, body_bytes: u32) -> [u8; RECORD_BYTES] {
        zerocopy::transmute!(WireReply {
            call: U64::new(self.call),
            result: U32::new(self.result),
            length: U32::new(body_bytes),
        })
    }

    #[inline]
    fn body_bytes(&self) -> usize {
        self.length as usize
    }
}

impl Record for CompletionRecord {
    const MAX_BODY_BYTES: usize = 0;

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let wire: WireCompletion = read_wire(reader)?;
        Ok(Self {
            stream: wire.stream.get(),
            result: wire.result.get(),
            mark: wire.mark.get(),
        })
    }

    #[inline]
    fn to_wire(&self, _body_bytes: u32) -> [u8; RECORD_BYTES] {
        zerocopy::transmute!(WireCompletion {
            stream: U32::new(self.stream),
            result: U32::new(self.result),
            mark: U64::new(self.mark),
        })
    }

    #[inline]
    fn body_bytes(&self) -> usize {
        0
    }
}

/// The records of one payload, in order. After an error it yields nothing more.
#[derive(Debug, Clone)]
pub struct Records<'a, R> {
    reader: Reader<'a>,
    kind: std::marker::PhantomData<R>,
}

/// The calls of a [`FrameKind::Calls`] payload.
pub type Calls<'a> = Records<'a, CallRecord>;

/// The replies of a [`FrameKind::Replies`] payload.
pub type Replies<'a> = Records<'a, ReplyRecord>;

/// The completions of a [`FrameKind::Completions`] payload; their bodies are empty.
pub type Completions<'a> = Records<'a, CompletionRecord>;

impl<'a, R: Record> Records<'a, R> {
    /// The records of `payload`.
    #[must_use]
    #[inline]
    pub fn new(payload: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(payload),
            kind: std::marker::PhantomData,
        }
    }

    #[inline]
    fn take(&mut self) -> Result<(R, &'a [u8]), FrameError> {
        let record = R::read(&mut self.reader)?;
        let length = record.body_bytes();
        let padded = padded(length);
        let left = self.reader.left();
        let bytes = self
            .reader
            .take_bytes(padded)
            .map_err(|_| FrameError::RecordCut {
                wanted: padded,
                left,
            })?;
        Ok((record, &bytes[..length]))
    }
}

impl<'a, R: Record> Iterator for Records<'a, R> {
    type Item = Result<(R, &'a [u8]), FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.left() == 0 {
            return None;
        }
        let item = self.take();
        if item.is_err() {
            self.reader.rest();
        }
        Some(item)
    }
}

impl<R: Record> FusedIterator for Records<'_, R> {}

/// `length` up to the next record's place. Lengths of records are bounded, so this cannot overflow.
const fn padded(length: usize) -> usize {
    length.next_multiple_of(RECORD_ALIGNMENT)
}

/// A payload of records in the making; cleared, it keeps its memory.
#[derive(Debug, Default, Clone)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    records: usize,
}

/// A record that has no place: its body is too long, or the frame is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record with a body of {body_bytes} bytes does not fit into its frame")]
pub struct DoesNotFit {
    /// Bytes of the body.
    pub body_bytes: usize,
}

impl RecordBuffer {
    /// An empty buffer with no memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            records: 0,
        }
    }

    /// An empty buffer with memory for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            records: 0,
        }
    }

    /// Adds a record whose body `write` appends to the vector it is given (which holds earlier records:
    /// only append). The record's length is set from what was written.
    ///
    /// # Errors
    /// [`DoesNotFit`]; the buffer is then as it was before.
    #[inline]
    pub fn push<R: Record>(
        &mut self,
        record: &R,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), DoesNotFit> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_BYTES]);
        write(&mut self.bytes);
        let body_bytes = self.bytes.len().saturating_sub(start + RECORD_BYTES);
        self.finish(record, start, body_bytes)
    }

    /// Adds a record whose body is these parts, one after the other.
    ///
    /// # Errors
    /// [`DoesNotFit`]; the buffer is then as it was before.
    #[inline]
    pub fn push_parts<R: Record>(&mut self, record: &R, parts: &[&[u8]]) -> Result<(), DoesNotFit> {
        let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
        if body_bytes > R::MAX_BODY_BYTES {
            return Err(DoesNotFit { body_bytes });
        }
        self.push(record, |bytes| {
            for part in parts {
                bytes.extend_from_slice(part);
            }
        })
    }

    /// Adds a call; see [`RecordBuffer::push`].
    ///
    /// # Errors
    /// [`DoesNotFit`].
    #[inline]
    pub fn push_call(
        &mut self,
        call: &CallRecord,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), DoesNotFit> {
        self.push(call, write)
    }

    #[inline]
    fn finish<R: Record>(
        &mut self,
        record: &R,
        start: usize,
        body_bytes: usize,
    ) -> Result<(), DoesNotFit> {
        let end = start + RECORD_BYTES + padded(body_bytes);
        if body_bytes > R::MAX_BODY_BYTES || end > MAX_FRAME_BYTES {
            self.bytes.truncate(start);
            return Err(DoesNotFit { body_bytes });
        }
        let head = record.to_wire(u32::try_from(body_bytes).unwrap_or(u32::MAX));
        if let Some(place) = self.bytes.get_mut(start..start + RECORD_BYTES) {
            place.copy_from_slice(&head);
        }
        self.bytes.resize(end, 0);
        self.records += 1;
        Ok(())
    }

    /// The payload so far.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records there are.
    #[must_use]
    #[inline]
    pub fn records(&self) -> usize {
        self.records
    }

    /// How many bytes the payload has.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no record.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether a record with so long a body still has a place.
    #[must_use]
    #[inline]
    pub fn fits(&self, body_bytes: usize) -> bool {
        body_bytes <= MAX_FRAME_BYTES
            && self.bytes.len() + RECORD_BYTES + padded(body_bytes) <= MAX_FRAME_BYTES
    }

    /// Forgets the records, keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }
}

#[cfg(test)]
mod tests;
