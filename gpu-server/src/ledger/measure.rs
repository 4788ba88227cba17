//! How much of a device a process with a context takes: measured, once, while nothing else happens there.
//!
//! What: `gpu-server context --driver PATH --device ORDINAL` makes a primary context and a stream, and tells the device's free memory whenever it is asked
//! ([`main`]); [`context_bytes`] starts one such process, then another, and compares what the first one sees. Why two: without a context a driver tells
//! nothing. Rules: every read has a deadline, and both processes are ended; what else takes memory meanwhile is in the answer, so ask when it is quiet.
//!
//! # Safety
//! Out parameters are locals.
#![expect(unsafe_code, reason = "a handful of driver functions")]

use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use driver_api::abi::{CUcontext, CUstream};
use driver_api::result::CUresult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::driver::cuda;

/// Most time for a driver to make a context.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Most bytes of an answer.
const MOST_DIGITS: usize = 32;

/// Why nothing is measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A process could not be started, or does not answer.
    #[error("cannot measure what a context takes: {0}")]
    Process(#[from] io::Error),
    /// The driver cannot be loaded.
    #[error("cannot measure what a context takes: {0}")]
    Driver(String),
}

impl From<CUresult> for MeasureError {
    fn from(error: CUresult) -> Self {
        Self::Driver(error.to_string())
    }
}

/// A process with a context.
struct Holder {
    child: Child,
    questions: ChildStdin,
    answers: OwnedFd,
}

impl Holder {
    fn start(mut program: Command, driver: &Path, device: u32) -> io::Result<Self> {
        let mut child = program
            .arg("context")
            .arg("--driver")
            .arg(driver)
            .args(["--device", &device.to_string()])
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(questions), Some(answers)) => Ok(Self {
                child,
                questions,
                answers: answers.into(),
            }),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The device's free bytes as this process sees them now.
    fn free(&mut self) -> io::Result<u64> {
        self.questions.write_all(b"\n")?;
        let deadline = Instant::now() + TIME_LIMIT;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < MOST_DIGITS {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::TimedOut)?;
            if poll(
                &mut [PollFd::new(&self.answers, PollFlags::IN)],
                Some(&left),
            )? == 0
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut byte = [0];
            match rustix::io::read(&self.answers, &mut byte)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => line.push(byte[0]),
            }
        }
        let text = String::from_utf8_lossy(&line);
        let number = text.trim().parse();
        number.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, text.into_owned()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // A driver may hang when its process exits normally. That it has ended already is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of a device that a process with a context takes; `program` starts this server's binary, as `/proc/self/exe` does in the daemon.
///
/// # Errors
/// The driver cannot make a context there, or does not answer in time.
pub fn context_bytes(
    program: impl Fn() -> Command,
    driver: &Path,
    device: u32,
) -> Result<u64, MeasureError> {
    let mut first = Holder::start(program(), driver, device)?;
    let before = first.free()?;
    let mut second = Holder::start(program(), driver, device)?;
    second.free()?;
    Ok(before.saturating_sub(first.free()?))
}

/// The process: makes a context, and answers each line of standard input with the device's free bytes, until its end.
///
/// # Errors
/// The driver fails, or nobody reads.
pub fn main(driver: &Path, device: i32) -> Result<(), MeasureError> {
    let driver =
        crate::driver::load(driver).map_err(|error| MeasureError::Driver(error.to_string()))?;
    cuda!(driver, cuInit(0))?;
    let (mut context, mut stream) = (CUcontext(0), CUstream(0));
    cuda!(driver, cuDevicePrimaryCtxRetain(&mut context, device))?;
    cuda!(driver, cuCtxSetCurrent(context))?;
    cuda!(driver, cuStreamCreate(&mut stream, 0))?;
    for line in io::stdin().lock().lines() {
        line?;
        let (mut free, mut total) = (0_usize, 0_usize);
        cuda!(driver, cuMemGetInfo_v2(&mut free, &mut total))?;
        let mut output = io::stdout().lock();
        writeln!(output, "{free}")?;
        output.flush()?;
    }
    Ok(())
}
