//! An end that is made and not yet connected.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::socket::Socket;
use super::super::{Connection, DeviceMemory, Patience, tcp};
use super::endpoint::{INLINE_BYTES, Incoming, Outgoing, RdmaEndpoint, SENDS};
use super::gid::{self, Gid};
use super::loan::Loans;
use super::reading::{READS, Reading};
use super::ring::{MAX_CREDITS, Reader, Writer};
use super::verbs::{Access, Depths, Device, LentMemory, Peer, QueuePair, Region, Remote, Target};
use super::{LEAST_RING_BYTES, RdmaError, Settings};
use crate::hello::{RdmaEnd, RdmaQueuePair};

/// Immediates under way in each direction.
const SLOTS: u32 = 128;

/// An end that waits for its peer.
pub struct Prepared {
    device: Arc<Device>,
    outgoing: QueuePair,
    incoming: QueuePair,
    /// For reads, where the device has them and the peer as well.
    reading: Option<QueuePair>,
    staging: Region,
    ring: Region,
    ring_bytes: u32,
    settings: Settings,
    agreed: Agreed,
}

/// What both ends use.
#[derive(Debug, Default)]
struct Agreed {
    bytes: u64,
    slots: u32,
    target: Target,
}

impl Prepared {
    /// Prepares an end for a connection whose socket has this address here.
    ///
    /// Cost: a device opened, three queue pairs, twice the ring of memory registered: a few milliseconds on a card.
    ///
    /// # Errors
    /// [`RdmaError`]: what is missing.
    pub fn new(local: IpAddr, settings: &Settings) -> Result<Self, RdmaError> {
        let gid = choose(local, settings)?;
        let device = Device::open(&gid)?;
        let outgoing = QueuePair::new(
            &device,
            Depths {
                sends: SENDS,
                receives: 2 * MAX_CREDITS,
                inline_bytes: INLINE_BYTES,
            },
        )?;
        let incoming = QueuePair::new(
            &device,
            Depths {
                sends: 2 * MAX_CREDITS,
                receives: SLOTS,
                inline_bytes: 0,
            },
        )?;
        outgoing.initialise(Remote::Writes)?;
        incoming.initialise(Remote::Writes)?;
        outgoing.post_receives(2 * MAX_CREDITS)?;
        incoming.post_receives(SLOTS)?;
        let reading = match device.reads() {
            0 => None,
            _ => Some(pair_for_reads(&device)?),
        };
        let (ring, staging, ring_bytes) =
            regions(&device, settings.ring_bytes.max(LEAST_RING_BYTES))?;
        Ok(Self {
            device,
            outgoing,
            incoming,
            reading,
            staging,
            ring,
            ring_bytes,
            settings: settings.clone(),
            agreed: Agreed::default(),
        })
    }

    /// Which device and address, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.device.gid().to_string()
    }

    /// Whether the card takes memory of a device: it is registered, and given back.
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
        // SAFETY: the caller's promise; it is given back at once.
        unsafe { LentMemory::of_device(&self.device, memory, Access::Nothing) }.map(drop)
    }

    /// Whether memory that the client offers can be read.
    #[must_use]
    pub fn has_reads(&self) -> bool {
        self.reading.is_some()
    }

    /// Nothing will be read by this connection.
    pub fn give_up_reads(&mut self) {
        self.reading = None;
    }

    /// What the peer has to know.
    #[must_use]
    pub fn end(&self) -> RdmaEnd {
        let numbers = |pair: &QueuePair| {
            Some(RdmaQueuePair {
                number: pair.number(),
                first_packet: pair.first_packet(),
            })
        };
        RdmaEnd {
            gid: self.device.gid().address.octets().to_vec(),
            mtu: self.device.mtu(),
            outgoing: numbers(&self.outgoing),
            incoming: numbers(&self.incoming),
            ring_address: self.ring.address(),
            ring_key: self.ring.remote_key(),
            ring_bytes: self.ring_bytes,
            slots: SLOTS,
            reading: self.reading.as_ref().and_then(numbers),
            reads: self.device.reads().min(READS),
        }
    }

    /// Connects with the peer's end, which was checked with the hello that carried it: from here on the peer's frames arrive.
    ///
    /// # Errors
    /// [`RdmaError`]: a queue pair cannot be connected.
    pub fn connect(&mut self, peer: &RdmaEnd) -> Result<(), RdmaError> {
        let their_gid = peer.gid.as_slice().try_into();
        let gid: [u8; 16] = their_gid.map_err(|_| RdmaError::Violation("its address is none"))?;
        let end = |pair: Option<RdmaQueuePair>| {
            let RdmaQueuePair {
                number,
                first_packet,
            } = pair.unwrap_or_default();
            Peer {
                gid,
                number,
                first_packet,
                mtu: peer.mtu,
                reads: 0,
            }
        };
        let path = &self.settings.path;
        self.outgoing.connect(&end(peer.incoming), path)?;
        self.incoming.connect(&end(peer.outgoing), path)?;
        self.reading = self.reading.take().filter(|_| peer.reading.is_some());
        if let Some(pair) = &self.reading {
            let reads = self.device.reads().min(READS).min(peer.reads);
            let their = Peer {
                reads: u8::try_from(reads).unwrap_or(u8::MAX),
                ..end(peer.reading)
            };
            pair.connect(&their, path)?;
        }
        self.agreed = Agreed {
            bytes: self.ring_bytes.min(peer.ring_bytes).into(),
            slots: SLOTS.min(peer.slots),
            target: Target {
                address: peer.ring_address,
                key: peer.ring_key,
            },
        };
        Ok(())
    }

    /// The connection, once it is connected. The socket becomes its own.
    ///
    /// # Errors
    /// [`RdmaError`]: the socket is none.
    pub fn into_connection(
        self,
        socket: OwnedFd,
        patience: Patience,
    ) -> Result<Connection, RdmaError> {
        let description = format!("rdma by {}", self.describe());
        let Agreed {
            bytes,
            slots,
            target,
        } = self.agreed;
        let outgoing = Outgoing {
            pair: self.outgoing,
            staging: self.staging,
            target,
            writer: Writer::new(bytes, slots),
            loans: Loans::default(),
            unsignalled: 0,
            unsignalled_bytes: 0,
            held: 0,
            spent: 0,
        };
        let incoming = Incoming {
            pair: self.incoming,
            ring: self.ring,
            reader: Reader::new(bytes, slots),
            unsignalled: 0,
            held: 0,
            spent: 0,
        };
        let of_socket = |source| RdmaError::Verbs {
            what: "the socket",
            source,
        };
        tcp::tune(&socket).map_err(of_socket)?;
        let socket = Socket::tcp(socket).map_err(of_socket)?;
        let reading = self.reading.map(Reading::new);
        let endpoint = RdmaEndpoint::new((outgoing, incoming, reading), self.device, socket)
            .map_err(of_socket)?;
        let descriptors = endpoint.descriptors();
        let mut connection = Connection::over(endpoint, patience, description);
        connection.descriptors = descriptors;
        Ok(connection)
    }
}

fn choose(local: IpAddr, settings: &Settings) -> Result<Gid, RdmaError> {
    let gids = gid::all();
    if gids.is_empty() {
        return Err(RdmaError::NoDevice(
            "this machine has no port with a RoCE v2 address (see /sys/class/infiniband)"
                .to_owned(),
        ));
    }
    let chosen = gid::choose(&gids, local, &settings.wanted).cloned();
    chosen.ok_or_else(|| {
        let all: Vec<String> = gids.iter().map(ToString::to_string).collect();
        RdmaError::NoDevice(format!("none has the address {local} of this connection, or is the one that was named; there are {}", all.join(", ")))
    })
}

/// The queue pair of reads. No receive is ever posted, but some devices want room for one.
fn pair_for_reads(device: &Arc<Device>) -> Result<QueuePair, RdmaError> {
    let depths = Depths {
        sends: READS,
        receives: 1,
        inline_bytes: 0,
    };
    let pair = QueuePair::new(device, depths)?;
    pair.initialise(Remote::Reads)?;
    Ok(pair)
}

/// A ring and a staging ring, as large as may be locked: for the peer's writes and for ours.
fn regions(device: &Arc<Device>, most: u32) -> Result<(Region, Region, u32), RdmaError> {
    let mut bytes = most;
    loop {
        let both = Region::new(device, bytes as usize, true)
            .and_then(|ring| Ok((ring, Region::new(device, bytes as usize, false)?)));
        match both {
            Ok((ring, staging)) => return Ok((ring, staging, bytes)),
            Err(_) if bytes > LEAST_RING_BYTES => bytes /= 2,
            Err(error) => return Err(error),
        }
    }
}
