//! The order that a worker is started with: one message in a file of memory, and descriptors.
//!
//! What: the daemon writes a [`WorkerOrder`] down and passes descriptors (`pass`); the worker, the same binary, takes them
//! ([`take`]). Why a message and not arguments: it holds keys, which nobody may see in a list of processes, and each part of the server adds its
//! own to it. Rules: the connection and the order have fixed numbers; the numbers of all others stand in the order; everything is taken
//! before a second thread begins.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{OwnedFd, RawFd};

use command_fds::FdMapping;
use prost::Message;
use protocol::hello::{DescriptorOrder, HelloError, HelloMessage, WorkerOrder};
use rustix::fs::MemfdFlags;

use crate::inherited;

/// The worker's descriptor of its client's connection.
const CONNECTION: RawFd = 3;

/// The worker's descriptor of its order.
const ORDER: RawFd = 4;

/// Most bytes of an order: the largest hello, and as much again for the rest.
const MAX_ORDER_BYTES: usize = 2 * protocol::limits::MAX_HELLO_BYTES;

/// Why there is no order to work by.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// A descriptor that is not there.
    #[error("descriptor {number} ({what}): {source}")]
    Descriptor {
        /// Its number.
        number: i64,
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        source: io::Error,
    },
    /// The order cannot be read.
    #[error("the order: {0}")]
    Io(#[from] io::Error),
    /// The order is none.
    #[error("the order: {0}")]
    Malformed(#[from] HelloError),
}

/// What a worker inherits beside its connection and its order; what is not there is not used.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// The lease's ledger.
    pub ledger: Option<OwnedFd>,
    /// The gate of each slice's device.
    pub gates: Vec<OwnedFd>,
    /// The connection to the daemon.
    pub control: Option<OwnedFd>,
    /// Where the next daemon comes to.
    pub listener: Option<OwnedFd>,
}

/// What a worker begins with.
#[derive(Debug)]
pub struct Taken {
    /// The client's connection; the next byte to read is the first after the hello, which is not yet answered.
    pub connection: OwnedFd,
    /// What to do.
    pub order: WorkerOrder,
    /// What it inherits.
    pub descriptors: Descriptors,
}

/// Writes the order down, with the numbers that the descriptors will have, and says how each is to be passed.
///
/// # Errors
/// No file of memory can be made.
pub(crate) fn pass(
    mut order: WorkerOrder,
    connection: OwnedFd,
    descriptors: Descriptors,
) -> io::Result<Vec<FdMapping>> {
    let mut mappings = vec![FdMapping {
        parent_fd: connection,
        child_fd: CONNECTION,
    }];
    let mut next = ORDER;
    let mut number = |parent_fd| {
        next += 1;
        mappings.push(FdMapping {
            parent_fd,
            child_fd: next,
        });
        next.cast_unsigned()
    };
    order.descriptors = Some(DescriptorOrder {
        ledger: descriptors.ledger.map(&mut number),
        gates: descriptors.gates.into_iter().map(&mut number).collect(),
        control: descriptors.control.map(&mut number),
        listener: descriptors.listener.map(&mut number),
    });
    mappings.push(FdMapping {
        parent_fd: written_down(&order)?,
        child_fd: ORDER,
    });
    Ok(mappings)
}

fn written_down(order: &WorkerOrder) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("order", MemfdFlags::CLOEXEC)?);
    file.write_all(&order.encode_to_vec())?;
    file.rewind()?;
    Ok(file.into())
}

/// Takes what the daemon has passed to this process, which has one thread yet. Once.
///
/// # Errors
/// Something is not there, or is no order.
pub fn take() -> Result<Taken, OrderError> {
    let connection = descriptor(CONNECTION.into(), "the connection")?;
    let file = File::from(descriptor(ORDER.into(), "the order")?);
    let mut bytes = Vec::new();
    file.take(MAX_ORDER_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    let order = parse(&bytes)?;
    let numbers = order.descriptors.clone().unwrap_or_default();
    let named = |number: Option<u32>, what| {
        number
            .map(|number| descriptor(number.into(), what))
            .transpose()
    };
    let descriptors = Descriptors {
        ledger: named(numbers.ledger, "the ledger")?,
        gates: numbers
            .gates
            .iter()
            .map(|number| descriptor((*number).into(), "a gate"))
            .collect::<Result<_, _>>()?,
        control: named(numbers.control, "the connection to the daemon")?,
        listener: named(numbers.listener, "where the next daemon comes to")?,
    };
    Ok(Taken {
        connection,
        order,
        descriptors,
    })
}

/// The order of these bytes, checked.
///
/// # Errors
/// Too long, undecodable, or breaking a rule.
pub fn parse(bytes: &[u8]) -> Result<WorkerOrder, HelloError> {
    if bytes.len() > MAX_ORDER_BYTES {
        return Err(HelloError::TooLong {
            length: bytes.len(),
        });
    }
    let order = WorkerOrder::decode(bytes)?;
    match &order.hello {
        Some(hello) => hello.check()?,
        None => return Err(HelloError::Malformed("no hello")),
    }
    Ok(order)
}

fn descriptor(number: i64, what: &'static str) -> Result<OwnedFd, OrderError> {
    RawFd::try_from(number)
        .map_err(|_| io::ErrorKind::InvalidInput.into())
        .and_then(inherited::take)
        .map_err(|source| OrderError::Descriptor {
            number,
            what,
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::hello::{Hello, Intent};

    fn file() -> OwnedFd {
        rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).expect("a file")
    }

    #[test]
    fn descriptors_are_numbered_in_the_order() {
        let order = WorkerOrder {
            hello: Some(Hello::new(Intent::Session)),
            ..WorkerOrder::default()
        };
        let descriptors = Descriptors {
            ledger: Some(file()),
            gates: vec![file(), file()],
            ..Descriptors::default()
        };
        let mut mappings = pass(order, file(), descriptors).expect("passed");
        let numbers: Vec<_> = mappings.iter().map(|mapping| mapping.child_fd).collect();
        assert_eq!(numbers, [CONNECTION, 5, 6, 7, ORDER]);
        let mut bytes = Vec::new();
        let written = mappings.pop().expect("the order").parent_fd;
        File::from(written).read_to_end(&mut bytes).expect("read");
        let order = parse(&bytes).expect("an order");
        let numbers = order.descriptors.expect("numbers");
        assert_eq!((numbers.ledger, numbers.control), (Some(5), None));
        assert_eq!(numbers.gates, [6, 7]);
    }

    #[test]
    fn what_is_no_order_is_refused() {
        assert!(matches!(parse(&[]), Err(HelloError::Malformed(_))));
        assert!(matches!(parse(&[0xFF]), Err(HelloError::Undecodable(_))));
        let long = vec![0; MAX_ORDER_BYTES + 1];
        assert!(matches!(parse(&long), Err(HelloError::TooLong { .. })));
    }
}
