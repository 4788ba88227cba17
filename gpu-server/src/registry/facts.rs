//! What a daemon has to know of a session that it did not start.
//!
//! *Why sealed:* after a restart only the worker can say what it serves, and its client may have taken it over. So the daemon that starts it
//! writes everything down and seals it with a key of the state directory, which no worker has; a worker can show only what it was given. The files that it
//! was given are known by their numbers, so that it cannot pass others.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use prost::Message;
use protocol::hello::control::{FileIdentity, Registration, SessionFacts};
use protocol::hello::{Identity, WorkerOrder};
use protocol::limits::MAX_DEVICES;

use super::packet::{MAX_PACKET_BYTES, PacketError};
use crate::order::Descriptors;
use crate::pool::{Holder, InvalidName, LeaseId, Moment, Tenant, TokenId};

/// What facts are sealed by: 32 random bytes that only daemons of one state directory have.
pub type Key = [u8; 32];

/// Most letters of what a client says of itself.
const MAX_LETTERS: usize = 256;

/// Why a worker is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It sent something else, or nothing.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Its first message is another one.
    #[error("its first message does not say which session it is")]
    Unexpected,
    /// No daemon with this state has written its facts.
    #[error("its session was not begun by a server with this state directory")]
    Seal,
    /// Facts that are none.
    #[error("the facts of its session: {0}")]
    Facts(String),
    /// It passes other files than it was given.
    #[error("it does not pass the files that it was given")]
    Files,
    /// It is there already.
    #[error("session {0} is registered already")]
    Twice(u64),
    /// It is another one than was started.
    #[error("it says that it is another session")]
    Another,
    /// Another user's.
    #[error("process {process} of user {user} is no worker")]
    Stranger {
        /// Its number.
        process: u32,
        /// Whose it is.
        user: u32,
    },
}

impl From<InvalidName> for RegisterError {
    fn from(error: InvalidName) -> Self {
        Self::Facts(error.to_string())
    }
}

/// A file, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of an open file.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let status = rustix::fs::fstat(file)?;
        Ok(Self {
            device: status.st_dev,
            inode: status.st_ino,
        })
    }
}

impl From<FileId> for FileIdentity {
    fn from(file: FileId) -> Self {
        Self {
            device: file.device,
            inode: file.inode,
        }
    }
}

impl From<FileIdentity> for FileId {
    fn from(file: FileIdentity) -> Self {
        Self {
            device: file.device,
            inode: file.inode,
        }
    }
}

/// What a daemon has to know of a session that it did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The session's number.
    pub session: u64,
    /// Its lease.
    pub lease: Option<LeaseId>,
    /// Whose it is.
    pub tenant: Option<Tenant>,
    /// By which token it was granted.
    pub token: Option<TokenId>,
    /// Who asked for it.
    pub holder: Holder,
    /// What two clients share if a process id means the same to both.
    pub process_namespace: String,
    /// How many devices it has.
    pub devices: u32,
    /// The client's address, for logs.
    pub client: String,
    /// When it was granted.
    pub granted: Moment,
    /// The lease's ledger.
    pub ledger: Option<FileId>,
    /// The gate of each device.
    pub gates: Vec<FileId>,
    /// The worker's place in the lease's ledger and gates.
    pub place: u32,
    /// The lease's place in each device's gate.
    pub gate_places: Vec<u32>,
}

impl Facts {
    /// Of a session that is about to begin.
    ///
    /// # Errors
    /// Its files cannot be looked at, or its order names what is no name.
    pub fn of(
        order: &WorkerOrder,
        descriptors: &Descriptors,
        token: Option<&TokenId>,
        client: &str,
        granted: Moment,
    ) -> io::Result<Self> {
        let hello = order.hello.clone().unwrap_or_default();
        let identity = hello.identity.clone().unwrap_or_default();
        let lease = order.lease.clone().unwrap_or_default();
        let invalid = |error: InvalidName| io::Error::new(io::ErrorKind::InvalidInput, error);
        let gates = descriptors.gates.iter().map(FileId::of);
        Ok(Self {
            session: order.session,
            lease: name(&lease.id).map_err(invalid)?,
            tenant: name(&lease.tenant).map_err(invalid)?,
            token: token.cloned(),
            holder: Holder {
                host: short(&identity.host),
                user: short(&identity.user),
                process: identity.process,
                program: short(&identity.program),
            },
            process_namespace: short(&identity.process_namespace),
            devices: hello.device_count(),
            client: short(client),
            granted,
            ledger: descriptors.ledger.as_ref().map(FileId::of).transpose()?,
            gates: gates.collect::<io::Result<_>>()?,
            place: lease.place,
            gate_places: lease.slices.iter().map(|slice| slice.gate_place).collect(),
        })
    }

    /// Written down and sealed.
    #[must_use]
    pub fn seal(&self, key: &Key) -> Registration {
        let facts = SessionFacts::from(self).encode_to_vec();
        let seal = blake3::keyed_hash(key, &facts);
        Registration {
            facts,
            seal: seal.as_bytes().to_vec(),
        }
    }

    /// What was sealed with this key.
    ///
    /// # Errors
    /// It was not, or is not understood.
    pub fn open(key: &Key, registration: &Registration) -> Result<Self, RegisterError> {
        let seal: Result<[u8; 32], _> = registration.seal.as_slice().try_into();
        let seal = seal.map_err(|_| RegisterError::Seal)?;
        // It compares in a time that tells nothing of where they differ.
        if blake3::keyed_hash(key, &registration.facts) != blake3::Hash::from(seal) {
            return Err(RegisterError::Seal);
        }
        let facts = SessionFacts::decode(registration.facts.as_slice());
        facts
            .map_err(|error| RegisterError::Facts(error.to_string()))?
            .try_into()
    }

    /// Sorts the files that came with a registration, if they are those that were given.
    ///
    /// # Errors
    /// They are not.
    pub fn files(
        &self,
        has_ledger: bool,
        files: Vec<OwnedFd>,
    ) -> Result<Descriptors, RegisterError> {
        let expected = self.ledger.iter().chain(&self.gates);
        let are_those = files.len() == expected.clone().count()
            && files
                .iter()
                .zip(expected)
                .all(|(file, expected)| FileId::of(file).is_ok_and(|file| file == *expected));
        if !are_those || has_ledger != self.ledger.is_some() {
            return Err(RegisterError::Files);
        }
        let mut files = files.into_iter();
        Ok(Descriptors {
            ledger: self.ledger.and_then(|_| files.next()),
            gates: files.collect(),
            control: None,
            listener: None,
        })
    }

    /// Who asked for it, as the hello said.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            process_namespace: self.process_namespace.clone(),
            ..Identity::from(&self.holder)
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(MAX_LETTERS).collect()
}

fn named(name: Option<impl ToString>) -> String {
    name.map_or_else(String::new, |name| name.to_string())
}

fn name<T: std::str::FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some),
    }
}

impl From<&Facts> for SessionFacts {
    fn from(facts: &Facts) -> Self {
        Self {
            session: facts.session,
            lease: named(facts.lease.as_ref()),
            tenant: named(facts.tenant.as_ref()),
            token: named(facts.token.as_ref()),
            identity: Some(facts.identity()),
            devices: facts.devices,
            client: facts.client.clone(),
            granted_unix_ms: facts.granted.0,
            ledger: facts.ledger.map(Into::into),
            gates: facts.gates.iter().copied().map(Into::into).collect(),
            place: facts.place,
            gate_places: facts.gate_places.clone(),
        }
    }
}

impl TryFrom<SessionFacts> for Facts {
    type Error = RegisterError;

    fn try_from(facts: SessionFacts) -> Result<Self, RegisterError> {
        let identity = facts.identity.unwrap_or_default();
        let devices = usize::try_from(facts.devices).unwrap_or(usize::MAX);
        if devices > MAX_DEVICES || facts.gates.len() > MAX_DEVICES {
            return Err(RegisterError::Facts("too many devices".to_owned()));
        }
        Ok(Self {
            session: facts.session,
            lease: name(&facts.lease)?,
            tenant: name(&facts.tenant)?,
            token: name(&facts.token)?,
            holder: Holder::from(&identity),
            process_namespace: identity.process_namespace,
            devices: facts.devices,
            client: facts.client,
            granted: Moment(facts.granted_unix_ms),
            ledger: facts.ledger.map(Into::into),
            gates: facts.gates.into_iter().map(Into::into).collect(),
            place: facts.place,
            gate_places: facts.gate_places,
        })
    }
}

/// The longest facts, with the longest names, fit into a packet beside the rest.
const _: () = assert!(
    5 * 4 * MAX_LETTERS + 3 * 160 + MAX_DEVICES * (32 + 6 + 6) + 1024 < MAX_PACKET_BYTES,
    "a registration fits into a packet"
);
