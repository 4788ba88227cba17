//! A dump from the worker into a file of this machine.
//!
//! *Rules:* no more is written than the worker said there is; every wait is for an answer, which a lost connection ends, and for a dump that grows: one that does not for a while is given up.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use driver_api::abi::CUresult;
use driver_api::coredump::{DumpFile, state};
use driver_api::wire::reply;
use driver_api::wire::request::{GpurunCoredumpRead, GpurunCoredumpStand};
use protocol::limits::MAX_REPLY_BYTES;
use zerocopy::FromBytes;

use crate::session::{Session, malformed};

/// What is asked for at once.
const PIECE_BYTES: u32 = (MAX_REPLY_BYTES / 2) as u32;

/// How long a driver may take to begin a dump after it has told of the fault.
const BEGINNING: Duration = Duration::from_secs(3);

/// How long a dump that is being written may stay as it is.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Why there is no file.
#[derive(Debug)]
pub(super) enum FetchError {
    Server(CUresult),
    TooLarge,
    Stuck(u64),
    Short,
    File(io::Error),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(CUresult::DEVICE_UNAVAILABLE) => {
                f.write_str("the connection to the server is lost")
            }
            Self::Server(error) => write!(f, "the server: {error}"),
            Self::TooLarge => f.write_str(
                "it became larger than the server allows; CUDA_COREDUMP_GENERATION_FLAGS=skip_global_memory leaves most of it out",
            ),
            Self::Stuck(size) => write!(
                f,
                "the server's driver has stopped writing it at {size} bytes"
            ),
            Self::Short => f.write_str("the server sent less than it said"),
            Self::File(error) => write!(f, "{error}"),
        }
    }
}

impl From<CUresult> for FetchError {
    fn from(error: CUresult) -> Self {
        Self::Server(error)
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

fn stand(session: &Session, context: u32) -> Result<(u32, u64), CUresult> {
    let reply = session.ask_in(0, &GpurunCoredumpStand::new(context), &[])?;
    Ok((reply.state(), reply.size()))
}

/// Whether there is a dump of a context that has faulted. If that cannot be known, there was to be one.
pub(super) fn has_begun(session: &Session, context: u32) -> bool {
    let end = Instant::now() + BEGINNING;
    loop {
        match stand(session, context) {
            Ok((state::NONE, _)) if Instant::now() >= end => return false,
            Ok((state::NONE, _)) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// The bytes of a dump, once all are there.
fn wait(session: &Session, context: u32) -> Result<u64, FetchError> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        match stand(session, context)? {
            (state::COMPLETE, size) => return Ok(size),
            (state::TOO_LARGE, _) => return Err(FetchError::TooLarge),
            (_, size) if size != before => (before, since) = (size, Instant::now()),
            (_, size) if since.elapsed() > STANDSTILL => return Err(FetchError::Stuck(size)),
            _ => {}
        }
    }
}

/// Writes a context's dump to a file.
pub(super) fn write(
    session: &Session,
    context: u32,
    path: &Path,
    is_compressed: bool,
) -> Result<(), FetchError> {
    let size = wait(session, context)?;
    let mut file = DumpFile::create(path, is_compressed)?;
    let mut done = 0;
    while done < size {
        let length = u64::from(PIECE_BYTES).min(size - done) as u32;
        let request = GpurunCoredumpRead::new(context, length, done);
        let answer = session.ask_reply(0, &request, &[], || Ok(()))?;
        let (head, bytes) = reply::GpurunCoredumpRead::read_from_prefix(&answer.body)
            .map_err(|_| malformed::<GpurunCoredumpRead>())?;
        let count = head.count().min(length);
        let zeros = (count as usize).checked_sub(bytes.len());
        let zeros = zeros.filter(|_| count > 0).ok_or(FetchError::Short)?;
        file.write_all(bytes)?;
        file.zeros(zeros as u64)?;
        done += u64::from(count);
    }
    file.finish()?;
    // Behind its end: the worker lets go of it. It does so anyway when the context ends.
    let _ = session.ask_reply(
        0,
        &GpurunCoredumpRead::new(context, 1, size),
        &[],
        || Ok(()),
    );
    Ok(())
}
