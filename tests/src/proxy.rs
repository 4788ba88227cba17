//! A wire that breaks where a test wants it to: between a program and a server it relays frames and counts them, until its plan
//! strikes.
//!
//! *What:* unit 0 of a direction is the preamble with the hello (or its reply), unit n the n-th frame. *Rules:* a plan strikes once, in
//! one connection; everything else passes unchanged; an end of one side is passed on to the other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use protocol::frame::{FrameKind, HEADER_BYTES};
use protocol::hello::{self, Answer, HelloReply, PREAMBLE_BYTES};
use protocol::limits::MAX_FRAME_BYTES;

/// Which way a unit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the program to the server.
    Up,
    /// From the server to the program.
    Down,
}

/// Where in its unit a plan strikes: what was before has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before its first byte.
    Boundary,
    /// Inside its header.
    Header,
    /// In the middle of its payload.
    Payload,
}

/// How a unit is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corruption {
    /// Other bytes stand in its place.
    Garbage,
    /// It claims to be longer than any may be.
    Oversized,
    /// Its kind does not exist.
    UnknownKind,
    /// A bit is set that must not be.
    Flags,
    /// One before it is missing.
    Skipped,
    /// It comes twice.
    Twice,
    /// Its kind belongs to the other direction.
    Foreign,
    /// Bytes of a transfer that nobody asked for stand in its place.
    UnaskedBulk,
    /// It acknowledges what was never sent.
    Acknowledged,
    /// The first record in it claims to be longer than it.
    RecordCut,
}

impl Corruption {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Garbage,
        Self::Oversized,
        Self::UnknownKind,
        Self::Flags,
        Self::Skipped,
        Self::Twice,
        Self::Foreign,
        Self::UnaskedBulk,
        Self::Acknowledged,
        Self::RecordCut,
    ];

    /// What passes instead of a unit.
    #[must_use]
    pub fn apply(self, direction: Direction, unit: &[u8]) -> Vec<u8> {
        const KIND: usize = 4;
        const FLAGS: usize = 5;
        const SEQUENCE: usize = 8;
        const ACKNOWLEDGED: usize = 16;
        let mut bytes = unit.to_vec();
        if bytes.len() < HEADER_BYTES {
            return vec![0xA5; 64];
        }
        match self {
            Self::Garbage => bytes = vec![0xA5; 64],
            Self::Oversized => {
                let length = MAX_FRAME_BYTES as u32 + 1;
                bytes[..4].copy_from_slice(&length.to_le_bytes());
            }
            Self::UnknownKind => bytes[KIND] = 200,
            Self::Flags => bytes[FLAGS] = 1,
            Self::Skipped => bytes[SEQUENCE] = bytes[SEQUENCE].wrapping_add(1),
            Self::Twice if bytes[KIND] != FrameKind::Heartbeat as u8 => {
                bytes.extend_from_slice(unit)
            }
            Self::Foreign => {
                bytes[KIND] = match direction {
                    Direction::Up => FrameKind::Replies as u8,
                    Direction::Down => FrameKind::Calls as u8,
                };
            }
            Self::UnaskedBulk => {
                bytes.truncate(HEADER_BYTES);
                bytes[..4].copy_from_slice(&64_u32.to_le_bytes());
                bytes[KIND] = FrameKind::Bulk as u8;
                bytes[24..32].copy_from_slice(&0xFFFF_FFFF_u64.to_le_bytes());
                bytes.extend([0xA5; 64]);
            }
            Self::Acknowledged => bytes[ACKNOWLEDGED..ACKNOWLEDGED + 8].fill(0x7F),
            // Elsewhere there are bytes of the program's, which nothing checks, or records without a length.
            Self::RecordCut
                if bytes.len() >= HEADER_BYTES + 16
                    && [FrameKind::Calls as u8, FrameKind::Replies as u8]
                        .contains(&bytes[KIND]) =>
            {
                let at = match direction {
                    Direction::Up => HEADER_BYTES + 4,
                    Direction::Down => HEADER_BYTES + 12,
                };
                bytes[at..at + 4].fill(0xFF);
            }
            Self::Twice | Self::RecordCut => bytes[KIND] = 200,
        }
        bytes
    }
}

/// What a plan does to the session whose number it is given.
pub type Deed = Box<dyn FnOnce(u64) + Send>;

/// What happens when a plan strikes.
pub enum Action {
    /// Both sides see the connection reset.
    Reset,
    /// Both sides see its end.
    Close,
    /// The receiver sees its end; the sender sees nothing yet.
    HalfClose,
    /// Nothing passes any more, either way, until [`Proxy::go_on`].
    Stall,
    /// The unit is broken.
    Corrupt(Corruption),
    /// Something is done, and what is left of the unit passes.
    Do(Deed),
}

impl std::fmt::Debug for Action {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reset => formatter.write_str("Reset"),
            Self::Close => formatter.write_str("Close"),
            Self::HalfClose => formatter.write_str("HalfClose"),
            Self::Stall => formatter.write_str("Stall"),
            Self::Corrupt(corruption) => write!(formatter, "Corrupt({corruption:?})"),
            Self::Do(_) => formatter.write_str("Do"),
        }
    }
}

/// When and how the wire breaks.
#[derive(Debug)]
pub struct Plan {
    /// Which way the unit goes.
    pub direction: Direction,
    /// Its number.
    pub unit: u64,
    /// Where in it.
    pub place: Place,
    /// What happens.
    pub action: Action,
}

struct Shared {
    plan: Mutex<Option<Plan>>,
    units: [AtomicU64; 2],
    session: AtomicU64,
    has_struck: AtomicBool,
    is_over: AtomicBool,
    is_stalled: Mutex<bool>,
    goes_on: Condvar,
    sockets: Mutex<Vec<TcpStream>>,
}

/// A proxy in front of one server.
pub struct Proxy {
    /// Where it listens, as a program's setting says it.
    pub address: String,
    shared: Arc<Shared>,
    own: std::net::SocketAddr,
}

impl Proxy {
    /// Starts one in front of the TCP server at `upstream`.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn start(upstream: &str, plan: Option<Plan>) -> Self {
        let upstream = upstream.trim_start_matches("tcp://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            plan: Mutex::new(plan),
            units: [AtomicU64::new(0), AtomicU64::new(0)],
            session: AtomicU64::new(0),
            has_struck: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_stalled: Mutex::new(false),
            goes_on: Condvar::new(),
            sockets: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.is_over.load(SeqCst) {
                    return;
                }
                // A server that is gone is seen by the program as the end of its connection.
                if let Ok(server) = TcpStream::connect(&upstream) {
                    accepting.join(client, server);
                }
            }
        });
        Self {
            address: format!("tcp://{own}"),
            shared,
            own,
        }
    }

    /// How many units have come each way: up, down.
    #[must_use]
    pub fn units(&self) -> [u64; 2] {
        [0, 1].map(|way| self.shared.units[way].load(SeqCst))
    }

    /// The number of the session that was granted last.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.shared.session.load(SeqCst)
    }

    /// Whether the plan has struck.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.shared.has_struck.load(SeqCst)
    }

    /// Ends a stall.
    pub fn go_on(&self) {
        *self.shared.is_stalled.lock().expect("alive") = false;
        self.shared.goes_on.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        self.go_on();
        for socket in self.shared.sockets.lock().expect("alive").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Wakes who accepts.
        let _ = TcpStream::connect(self.own);
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for socket in [&client, &server] {
            let _ = socket.set_nodelay(true);
        }
        let copies = (|| Ok::<_, std::io::Error>([client.try_clone()?, server.try_clone()?]))();
        let Ok([client_too, server_too]) = copies else {
            return;
        };
        let kept = [client.try_clone(), server.try_clone()];
        self.sockets
            .lock()
            .expect("alive")
            .extend(kept.into_iter().flatten());
        for (from, to, direction) in [
            (client, server, Direction::Up),
            (server_too, client_too, Direction::Down),
        ] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let relayed = shared.relay(&from, &to, direction);
                if relayed.is_err() && !shared.is_over.load(SeqCst) {
                    // The end of one side is passed on.
                    let _ = to.shutdown(Shutdown::Write);
                    let _ = from.shutdown(Shutdown::Read);
                }
            });
        }
    }

    /// Passes units on until one side ends, or the plan ends both: then `Ok`.
    fn relay(&self, from: &TcpStream, to: &TcpStream, direction: Direction) -> std::io::Result<()> {
        let way = direction as usize;
        for number in 0.. {
            let unit = read_unit(from, number == 0)?;
            self.units[way].fetch_add(1, SeqCst);
            if number == 0 && direction == Direction::Down {
                self.note_session(&unit);
            }
            self.wait_while_stalled();
            match self.due(direction, number) {
                None => (&*to).write_all(&unit)?,
                Some(plan) => {
                    let is_over = self.strike(plan, (from, to), &unit)?;
                    if is_over {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn note_session(&self, unit: &[u8]) {
        let reply = hello::decode::<HelloReply>(unit.get(PREAMBLE_BYTES..).unwrap_or_default());
        if let Ok(reply) = reply
            && let Some(Answer::Accepted(accepted)) = reply.answer
        {
            self.session.store(accepted.session, SeqCst);
        }
    }

    fn wait_while_stalled(&self) {
        let stalled = self.is_stalled.lock().expect("alive");
        drop(self.goes_on.wait_while(stalled, |stalled| *stalled));
    }

    fn due(&self, direction: Direction, number: u64) -> Option<Plan> {
        let mut plan = self.plan.lock().expect("alive");
        plan.take_if(|plan| plan.direction == direction && plan.unit == number)
    }

    /// Does what the plan says; whether nothing more is to be relayed.
    fn strike(
        &self,
        plan: Plan,
        (from, mut to): (&TcpStream, &TcpStream),
        unit: &[u8],
    ) -> std::io::Result<bool> {
        let header = unit.len().min(HEADER_BYTES);
        let passed = match plan.place {
            Place::Boundary => 0,
            Place::Header => header / 2,
            Place::Payload => (header + (unit.len() - header) / 2).min(unit.len() - 1),
        };
        if let Action::Corrupt(corruption) = plan.action {
            self.has_struck.store(true, SeqCst);
            to.write_all(&corruption.apply(plan.direction, unit))?;
            return Ok(false);
        }
        to.write_all(&unit[..passed])?;
        self.has_struck.store(true, SeqCst);
        match plan.action {
            Action::Reset => {
                self.reset();
                Ok(true)
            }
            Action::Close => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                Ok(true)
            }
            Action::HalfClose => {
                let _ = to.shutdown(Shutdown::Write);
                // What the sender goes on to send is taken and lost.
                std::io::copy(&mut &*from, &mut std::io::sink())?;
                Ok(true)
            }
            Action::Stall => {
                *self.is_stalled.lock().expect("alive") = true;
                self.wait_while_stalled();
                to.write_all(&unit[passed..])?;
                Ok(false)
            }
            Action::Do(deed) => {
                deed(self.session.load(SeqCst));
                to.write_all(&unit[passed..])?;
                Ok(false)
            }
            Action::Corrupt(_) => Ok(false),
        }
    }

    /// Ends every connection so that the kernel sends resets: the last copy of a socket is closed with nothing to linger for.
    fn reset(&self) {
        self.is_over.store(true, SeqCst);
        for socket in self.sockets.lock().expect("alive").drain(..) {
            let _ = rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
            // Wakes whoever reads it, and sends nothing.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

/// One unit: a hello with its preamble, or a frame.
fn read_unit(mut from: &TcpStream, is_hello: bool) -> std::io::Result<Vec<u8>> {
    let (head, length_at) = match is_hello {
        true => (PREAMBLE_BYTES, PREAMBLE_BYTES - 4),
        false => (HEADER_BYTES, 0),
    };
    let mut unit = vec![0; head];
    from.read_exact(&mut unit)?;
    let mut length = [0; 4];
    length.copy_from_slice(&unit[length_at..length_at + 4]);
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    unit.resize(head + length, 0);
    from.read_exact(&mut unit[head..])?;
    Ok(unit)
}
