//! A session whose frames travel by RDMA: tried where it can be, required where the user says so.
//!
//! Rules: which way the frames go is always told ([`Session::way`]), and why not by RDMA where that was wished for; who requires it gets it
//! or an error, never another transport.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::secure::{self, Hold, Line};
use super::{ConnectError, Session, Told};
use crate::address::Address;
use crate::config::TransportChoice;
use crate::credentials::Credential;
use crate::hello::{Accepted, Hello};
use crate::limits::HELLO_REPLY_TIMEOUT;
use crate::transport::rdma::{self, Prepared, RdmaError, Settings};
use crate::transport::{Connection, DeviceMemory, Patience};

/// What a client does about RDMA for one session.
pub enum Attempt {
    /// Frames travel on the socket; why, if that needs saying.
    Without(Option<String>),
    /// Our end is ready.
    With(Box<Prepared>),
}

impl Attempt {
    /// Prepares what the user's choice allows on this connection.
    ///
    /// Where the choice is left to us, RDMA is taken to another machine only: on this one a socket is faster than a card's loop. Nor is it taken
    /// where the session would be encrypted otherwise.
    ///
    /// # Errors
    /// [`ConnectError::NoRdma`]: it is required, and something is missing.
    pub fn new(
        address: &Address,
        socket: &OwnedFd,
        choice: TransportChoice,
        (settings, credential): (&Settings, &Credential),
    ) -> Result<Self, ConnectError> {
        let is_required = choice == TransportChoice::Rdma;
        let is_tcp = matches!(address, Address::Tcp { .. });
        if !is_tcp || !(is_required || choice == TransportChoice::Auto) {
            return Ok(Self::Without(None));
        }
        let failed = |error: RdmaError| no_rdma(address, &error);
        let local = local_address(socket).map_err(failed)?;
        if !is_required && (local.to_canonical().is_loopback() || !rdma::is_present()) {
            return Ok(Self::Without(None));
        }
        if !is_required && credential.authority.is_some() {
            let reason = "it would not be encrypted; GPURUN_TRANSPORT=rdma accepts that";
            return Ok(Self::Without(Some(reason.to_owned())));
        }
        match Prepared::new(local, settings) {
            Ok(prepared) => Ok(Self::With(Box::new(prepared))),
            Err(error) if is_required => Err(failed(error)),
            Err(error) => Ok(Self::Without(Some(error.to_string()))),
        }
    }
}

fn no_rdma(address: &Address, reason: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::NoRdma {
        address: address.clone(),
        reason: reason.to_string(),
    }
}

fn local_address(socket: &impl AsFd) -> Result<IpAddr, RdmaError> {
    let failed = |source| RdmaError::Verbs {
        what: "the socket's address",
        source,
    };
    let local = rustix::net::getsockname(socket).map_err(|error| failed(error.into()))?;
    let local = std::net::SocketAddr::try_from(local).map_err(|error| failed(error.into()))?;
    Ok(local.ip())
}

/// How a session is begun beside what is asked for.
pub struct Approach<'a> {
    /// What there is for the server.
    pub credential: &'a Credential,
    /// What is done with each socket.
    pub hold: Hold<'a>,
    /// What is done when the client hears that it waits for a lease.
    pub told: Told<'a>,
    /// What the user's choice allows.
    pub attempt: Attempt,
    /// The user's choice.
    pub choice: TransportChoice,
}

/// [`begin_session`](super::begin_session) with a credential, and with what was prepared.
///
/// # Errors
/// No proper answer, a refusal, a server that cannot be believed; [`ConnectError::NoRdma`] if it is required and the server has none, or the two
/// ends cannot be connected.
pub fn begin_session(
    address: &Address,
    socket: OwnedFd,
    hello: &Hello,
    patience: Patience,
    approach: Approach<'_>,
) -> Result<Session, ConnectError> {
    let Approach {
        credential,
        hold,
        told,
        ..
    } = approach;
    let is_required = approach.choice == TransportChoice::Rdma;
    let mut prepared = match approach.attempt {
        Attempt::With(prepared) => prepared,
        Attempt::Without(reason) => {
            let (accepted, line) = secure::greet(address, socket, hello, credential, (hold, told))?;
            let session = super::over_line(address, line, accepted, patience)?;
            return Ok(session.without_rdma(reason));
        }
    };
    let hello = Hello {
        rdma: Some(prepared.end()),
        ..hello.clone()
    };
    let (accepted, line) = secure::greet(address, socket, &hello, credential, (hold, told))?;
    let Some(end) = accepted.rdma.clone() else {
        if is_required {
            return Err(no_rdma(address, &because(&accepted)));
        }
        let reason = because(&accepted);
        let session = super::over_line(address, line, accepted, patience)?;
        return Ok(session.without_rdma(Some(reason)));
    };
    let failed = |error: RdmaError| no_rdma(address, &error);
    prepared.connect(&end).map_err(failed)?;
    // The one byte that says: from here on frames come by RDMA.
    let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
    line.write(&[1], deadline)
        .map_err(|error| no_rdma(address, &error))?;
    let connection = prepared
        .into_connection(line.into_socket(), patience)
        .map_err(failed)?;
    let mut way = format!("{} (not encrypted)", connection.description);
    if !accepted.rdma_gpu_memory.is_empty() {
        way = format!("{way}, {}", accepted.rdma_gpu_memory);
    }
    Ok(Session {
        accepted,
        connection,
        way,
    })
}

fn because(accepted: &Accepted) -> String {
    match accepted.rdma_refusal.as_str() {
        "" => "the server has no RDMA".to_owned(),
        reason => format!("the server: {reason}"),
    }
}

/// The server's end, from a hello that asks for it to the connection.
pub struct ServerEnd {
    prepared: Box<Prepared>,
}

impl ServerEnd {
    /// Prepares and connects the server's end, so that the client's frames can arrive as soon as it has our answer.
    ///
    /// # Errors
    /// [`RdmaError`]: for the answer's `rdma_refusal`.
    pub fn new(hello: &Hello, line: &Line, settings: &Settings) -> Result<Self, RdmaError> {
        let Some(end) = &hello.rdma else {
            return Err(RdmaError::Violation("it did not ask for RDMA"));
        };
        let mut prepared = Prepared::new(local_address(line)?, settings)?;
        prepared.connect(end)?;
        Ok(Self {
            prepared: Box::new(prepared),
        })
    }

    /// Whether the card takes memory of a device.
    ///
    /// # Errors
    /// [`RdmaError`]: why not.
    ///
    /// # Safety
    /// The memory is the device's meanwhile.
    #[expect(
        unsafe_code,
        reason = "the caller vouches for memory that a card reads"
    )]
    pub unsafe fn try_device(&self, memory: &DeviceMemory<'_>) -> Result<(), RdmaError> {
        // SAFETY: the caller's promise.
        unsafe { self.prepared.try_device(memory) }
    }

    /// Nothing that the client offers will be read.
    pub fn give_up_reads(&mut self) {
        self.prepared.give_up_reads();
    }

    /// Whether what the client offers can be read.
    #[must_use]
    pub fn has_reads(&self) -> bool {
        self.prepared.has_reads()
    }

    /// Puts our end into the answer.
    pub fn answer(&self, accepted: &mut Accepted) {
        accepted.rdma = Some(Box::new(self.prepared.end()));
    }

    /// The connection, once the client has said that it is ready.
    ///
    /// # Errors
    /// The client is gone, or says nothing in time.
    pub fn into_connection(self, line: Line, patience: Patience) -> Result<Connection, RdmaError> {
        let deadline = Instant::now() + HELLO_REPLY_TIMEOUT;
        let heard = line.read(&mut [0], deadline);
        heard.map_err(|source| RdmaError::Verbs {
            what: "waiting for the client's end",
            source,
        })?;
        self.prepared.into_connection(line.into_socket(), patience)
    }
}
