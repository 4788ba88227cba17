//! A client for tests: sends calls as the shim would, and sorts what comes back.

use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driver_api::Driver;
use driver_api::result::CUresult;
use driver_api::wire::Request;
use protocol::frame::{
    CallFlags, CallRecord, Completions, FrameHeader, FrameKind, RecordBuffer, Replies,
};
use protocol::hello::Window;
use protocol::transport::memory::{Card, Faults, pair};
use protocol::transport::{Connection, FrameReceiver, FrameSender, Interrupt, Lender};

use super::super::accounts::Accounts;
use super::super::gpu_memory::Reach;
use super::super::memory::Memory;
use super::super::output::Output;
use super::super::pace::Pacer;
use super::super::session::{Devices, Session};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came from the worker, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Got {
    Reply(u64, u32, Vec<u8>),
    Completion(u32, u32, u64),
    Bulk(u64, u64, Vec<u8>),
    Fault(u64, u64, String),
    Goodbye(String),
    Closed,
}

pub(super) struct Client {
    pub(super) session: Arc<Session>,
    pub(super) lender: Lender,
    sender: Box<dyn FrameSender>,
    receiver: Box<dyn FrameReceiver>,
    _interrupt: Interrupt,
    sequence: u64,
    calls: u64,
    pub(super) acknowledged: u64,
    pub(super) thread: u32,
    pub(super) context: u32,
    arrived: Vec<Got>,
    pub(super) replies: HashMap<u64, (u32, Vec<u8>)>,
}

impl Client {
    pub(super) fn new(driver: &'static Driver, windows: Vec<Window>) -> Self {
        Self::with_faults(driver, windows, &Faults::default())
    }

    pub(super) fn with_faults(
        driver: &'static Driver,
        windows: Vec<Window>,
        faults: &Faults,
    ) -> Self {
        let devices = Devices {
            count: 1,
            ..Devices::default()
        };
        Self::on(driver, windows, faults, devices, None)
    }

    /// A client whose worker has a card for device memory; `is_always`: and uses it without a question.
    pub(super) fn with_card(
        driver: &'static Driver,
        windows: Vec<Window>,
        card: Card,
        is_always: bool,
    ) -> Self {
        let faults = Faults {
            card,
            ..Faults::default()
        };
        let devices = Devices {
            count: 1,
            ..Devices::default()
        };
        let reach = Some((Reach::PeerMemory, is_always));
        Self::on(driver, windows, &faults, devices, reach)
    }

    /// A client of a device with a gate.
    pub(super) fn with_pacer(
        driver: &'static Driver,
        windows: Vec<Window>,
        pacer: Arc<Pacer>,
    ) -> Self {
        let devices = Devices {
            count: 1,
            pacers: vec![pacer],
            ..Devices::default()
        };
        Self::on(driver, windows, &Faults::default(), devices, None)
    }

    fn on(
        driver: &'static Driver,
        windows: Vec<Window>,
        faults: &Faults,
        devices: Devices,
        reach: Option<(Reach, bool)>,
    ) -> Self {
        let (ours, theirs) = pair(faults);
        let memory = Memory::new(0, windows, Accounts::default());
        let output = Output::untouched();
        let session = super::super::start(driver, devices, theirs, memory, output, reach);
        let Connection {
            sender,
            receiver,
            interrupt,
            lender,
            ..
        } = ours;
        Self {
            session: session.expect("threads"),
            lender,
            sender,
            receiver,
            _interrupt: interrupt,
            sequence: 0,
            calls: 0,
            acknowledged: 0,
            thread: 1,
            context: 0,
            arrived: Vec::new(),
            replies: HashMap::new(),
        }
    }

    pub(super) fn frame(&mut self, mut header: FrameHeader, bytes: &[u8]) {
        self.sequence += 1;
        header.sequence = self.sequence;
        // A worker that has ended takes nothing more, which the test sees by what it receives.
        let _ = self.sender.send(&header, &[IoSlice::new(bytes)]);
    }

    fn call<R: Request>(&mut self, flags: CallFlags, request: &R, rest: &[u8]) -> u64 {
        let mut records = RecordBuffer::new();
        let record = CallRecord {
            number: R::NUMBER,
            flags,
            length: 0,
            thread: self.thread,
            context: self.context,
        };
        records
            .push_parts(&record, &[request.as_bytes(), rest])
            .expect("fits");
        self.frame(FrameHeader::new(FrameKind::Calls), records.as_bytes());
        self.calls += 1;
        self.calls
    }

    pub(super) fn post<R: Request>(&mut self, request: &R, rest: &[u8]) {
        self.call(CallFlags::NONE, request, rest);
    }

    /// Sends an asked call without waiting.
    pub(super) fn begin<R: Request>(&mut self, request: &R, rest: &[u8]) -> u64 {
        self.call(CallFlags::ASKED, request, rest)
    }

    /// Sends an asked call and waits.
    pub(super) fn ask<R: Request>(
        &mut self,
        request: &R,
        rest: &[u8],
    ) -> Result<Vec<u8>, CUresult> {
        let call = self.begin(request, rest);
        self.answer(call)
    }

    /// Waits for the reply of a call.
    pub(super) fn answer(&mut self, call: u64) -> Result<Vec<u8>, CUresult> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some((result, body)) = self.replies.remove(&call) {
                return match result {
                    0 => Ok(body),
                    error => Err(CUresult(error)),
                };
            }
            assert!(Instant::now() < end, "no reply to call {call}");
            assert!(
                self.receive(PATIENCE),
                "no reply to call {call}: {:?}",
                self.arrived
            );
        }
    }

    /// Sends a transfer's bytes in frames.
    pub(super) fn bulk(&mut self, transfer: u64, bytes: &[u8], chunk: usize) {
        let mut offset = 0;
        for part in bytes.chunks(chunk) {
            self.frame(FrameHeader::bulk(transfer, offset), part);
            offset += part.len() as u64;
        }
    }

    /// Takes one frame, if one comes in time.
    pub(super) fn receive(&mut self, timeout: Duration) -> bool {
        if self.arrived.last() == Some(&Got::Closed) {
            return false;
        }
        let header = match self.next_header(timeout) {
            Ok(Some(header)) => header,
            Ok(None) => return false,
            Err(_) => {
                self.arrived.push(Got::Closed);
                return true;
            }
        };
        let mut bytes = vec![0; header.length as usize];
        if self.receiver.read_payload(&mut bytes).is_err() {
            self.arrived.push(Got::Closed);
            return true;
        }
        self.acknowledged = self.acknowledged.max(header.acknowledged);
        self.sort(&header, bytes);
        true
    }

    fn next_header(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<FrameHeader>, protocol::transport::TransportError> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(header) = self.receiver.poll_header()? {
                return Ok(Some(header));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.receiver.wait(Some(left))? {
                return Ok(None);
            }
        }
    }

    fn sort(&mut self, header: &FrameHeader, bytes: Vec<u8>) {
        match header.kind {
            FrameKind::Replies => {
                for item in Replies::new(&bytes) {
                    let (record, body) = item.expect("a reply");
                    self.arrived
                        .push(Got::Reply(record.call, record.result, body.to_vec()));
                    self.replies
                        .insert(record.call, (record.result, body.to_vec()));
                }
            }
            FrameKind::Completions => {
                for item in Completions::new(&bytes) {
                    let (record, _) = item.expect("a completion");
                    self.arrived
                        .push(Got::Completion(record.stream, record.result, record.mark));
                }
            }
            FrameKind::Bulk => {
                self.arrived
                    .push(Got::Bulk(header.argument, header.offset, bytes));
            }
            FrameKind::Fault => self.arrived.push(Got::Fault(
                header.argument,
                header.offset,
                String::from_utf8_lossy(&bytes).into_owned(),
            )),
            FrameKind::Goodbye => self
                .arrived
                .push(Got::Goodbye(String::from_utf8_lossy(&bytes).into_owned())),
            FrameKind::Heartbeat => {}
            FrameKind::Calls | FrameKind::Output => panic!("a {:?} frame", header.kind),
        }
    }

    /// Waits until something that is looked for has come, and takes all that came until then.
    pub(super) fn until(&mut self, is_it: impl Fn(&Got) -> bool) -> Vec<Got> {
        let end = Instant::now() + PATIENCE;
        while !self.arrived.iter().any(&is_it) {
            assert!(Instant::now() < end, "waited in vain: {:?}", self.arrived);
            self.receive(Duration::from_millis(100));
        }
        std::mem::take(&mut self.arrived)
    }

    /// Whether nothing that is looked for comes for a moment.
    pub(super) fn not_within(&mut self, moment: Duration, is_it: impl Fn(&Got) -> bool) -> bool {
        let end = Instant::now() + moment;
        while Instant::now() < end {
            self.receive(Duration::from_millis(5));
        }
        !self.arrived.iter().any(is_it)
    }
}
