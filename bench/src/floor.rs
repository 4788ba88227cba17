//! The floors: what bare sockets of the same kind do in the same run.
//!
//! A message asks the peer: a round trip of [`MESSAGE_BYTES`], blocking or spinning at both ends; or a stream of bytes in either
//! direction, in pieces of [`PIECE_BYTES`], that ends with a word back or with the last byte.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::Failure;
use netperf::round::{Round, time_each};
use serde::{Deserialize, Serialize};

/// Bytes of a round trip's message.
const MESSAGE_BYTES: usize = 64;
/// Bytes of a piece of a stream.
const PIECE_BYTES: usize = 1 << 20;

/// What is asked of the peer.
const PING: u64 = 1;
const SPINNING_PING: u64 = 2;
const SINK: u64 = 3;
const SOURCE: u64 = 4;

/// What one round of one case is on a bare socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Floor {
    /// Messages there and back.
    PingPong { count: usize, spins: bool },
    /// Bytes in one direction.
    Stream {
        bytes: usize,
        there: bool,
        count: usize,
    },
}

/// A stream socket of either kind.
trait Socket: Read + Write + Send {
    fn set_spinning(&self, spins: bool) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn set_spinning(&self, spins: bool) -> io::Result<()> {
        self.set_nonblocking(spins)
    }
}

impl Socket for UnixStream {
    fn set_spinning(&self, spins: bool) -> io::Result<()> {
        self.set_nonblocking(spins)
    }
}

/// Reads all of `bytes`, trying again at once where nothing has come: that spins if the socket does not block.
fn read_all(socket: &mut dyn Socket, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_word(socket: &mut dyn Socket) -> io::Result<u64> {
    let mut word = [0; 8];
    read_all(socket, &mut word)?;
    Ok(u64::from_le_bytes(word))
}

/// The peer: prints its two addresses, then serves until it is ended, or bench has ended, however.
///
/// # Errors
/// It cannot listen.
pub(crate) fn serve(unix: &Path) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let unix_listener = UnixListener::bind(unix)?;
    println!("unix:{} tcp:{}", unix.display(), tcp.local_addr()?);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for socket in tcp.incoming().flatten() {
                let _ = socket.set_nodelay(true);
                std::thread::spawn(move || serve_one(socket));
            }
        });
        for socket in unix_listener.incoming().flatten() {
            std::thread::spawn(move || serve_one(socket));
        }
    });
    Ok(())
}

/// Serves a connection to its end.
fn serve_one(mut socket: impl Socket) {
    let mut piece = vec![1; PIECE_BYTES];
    while let Ok(asked) = read_word(&mut socket) {
        let Ok(amount) = read_word(&mut socket) else {
            return;
        };
        if answer(&mut socket, asked, amount, &mut piece).is_err() {
            return;
        }
    }
}

fn answer(socket: &mut dyn Socket, asked: u64, amount: u64, piece: &mut [u8]) -> io::Result<()> {
    match asked {
        PING | SPINNING_PING => {
            socket.set_spinning(asked == SPINNING_PING)?;
            let mut message = [0; MESSAGE_BYTES];
            for _ in 0..amount {
                read_all(socket, &mut message)?;
                socket.write_all(&message)?;
            }
            socket.set_spinning(false)
        }
        SINK => {
            take(socket, amount as usize, piece)?;
            socket.write_all(&[0; 8])
        }
        _ => {
            let mut left = amount as usize;
            while left > 0 {
                let count = left.min(piece.len());
                socket.write_all(&piece[..count])?;
                left -= count;
            }
            Ok(())
        }
    }
}

/// Reads so many bytes over one buffer.
fn take(socket: &mut dyn Socket, mut left: usize, piece: &mut [u8]) -> io::Result<()> {
    while left > 0 {
        let count = left.min(piece.len());
        read_all(socket, &mut piece[..count])?;
        left -= count;
    }
    Ok(())
}

/// The measuring end.
pub(crate) struct Raw {
    socket: Box<dyn Socket>,
    /// Where streams come from and go to: as large as they are, like a program's memory.
    memory: Vec<u8>,
}

impl Raw {
    /// Connects to a peer.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn connect(peer: &str) -> Result<Self, Failure> {
        let socket: Box<dyn Socket> = match peer.split_once(':') {
            Some(("unix", path)) => Box::new(UnixStream::connect(path)?),
            Some(("tcp", address)) => {
                let socket = TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            _ => return Err(format!("no peer: {peer}").into()),
        };
        Ok(Self {
            socket,
            memory: Vec::new(),
        })
    }

    fn ask(&mut self, what: u64, amount: usize) -> io::Result<()> {
        let mut request = [0; 16];
        request[..8].copy_from_slice(&what.to_le_bytes());
        request[8..].copy_from_slice(&(amount as u64).to_le_bytes());
        self.socket.write_all(&request)
    }

    /// One round.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn measure(&mut self, floor: &Floor) -> Result<Round, String> {
        match floor {
            Floor::PingPong { count, spins } => self.ping_pong(*count, *spins),
            Floor::Stream {
                bytes,
                there,
                count,
            } => self.stream(*bytes, *there, *count),
        }
    }

    /// Round trips, one sample each.
    fn ping_pong(&mut self, count: usize, spins: bool) -> Result<Round, String> {
        let run = |raw: &mut Self| {
            raw.ask(if spins { SPINNING_PING } else { PING }, count)?;
            raw.socket.set_spinning(spins)?;
            let mut message = [0; MESSAGE_BYTES];
            let round = time_each(count, || {
                let sent = raw.socket.write_all(&message);
                sent.and_then(|()| read_all(&mut *raw.socket, &mut message))
                    .map_err(|error| error.to_string())
            });
            raw.socket.set_spinning(false)?;
            Ok(round)
        };
        run(self).map_err(|error: io::Error| error.to_string())?
    }

    /// Streams, one sample each.
    fn stream(&mut self, bytes: usize, there: bool, count: usize) -> Result<Round, String> {
        if self.memory.len() < bytes {
            self.memory = vec![1; bytes];
        }
        time_each(count, || {
            self.stream_once(bytes, there)
                .map_err(|error| error.to_string())
        })
    }

    fn stream_once(&mut self, bytes: usize, there: bool) -> io::Result<()> {
        self.ask(if there { SINK } else { SOURCE }, bytes)?;
        for piece in self.memory[..bytes].chunks_mut(PIECE_BYTES) {
            if there {
                self.socket.write_all(piece)?;
            } else {
                read_all(&mut *self.socket, piece)?;
            }
        }
        if there {
            read_word(&mut *self.socket)?;
        }
        Ok(())
    }
}
