//! The floor of RDMA: what perftest's programs measure on the same device in the same run.
//!
//! `ib_send_lat` tells half a round trip: here it counts twice. `ib_write_bw` and `ib_read_bw` tell MiB a second: here each is the time of
//! one message of its size.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::transport::rdma::Port;

use crate::Failure;
use netperf::round::Round;

/// How long one program may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Perftest {
    /// A round trip of messages.
    SendLatency { bytes: usize, count: usize },
    /// A stream of writes.
    WriteBandwidth { bytes: usize, count: usize },
    /// A stream of reads.
    ReadBandwidth { bytes: usize, count: usize },
}

impl Perftest {
    fn program(&self) -> &'static str {
        match self {
            Self::SendLatency { .. } => "ib_send_lat",
            Self::WriteBandwidth { .. } => "ib_write_bw",
            Self::ReadBandwidth { .. } => "ib_read_bw",
        }
    }

    fn sizes(&self) -> (usize, usize) {
        match self {
            Self::SendLatency { bytes, count }
            | Self::WriteBandwidth { bytes, count }
            | Self::ReadBandwidth { bytes, count } => (*bytes, *count),
        }
    }

    /// One round: both ends on this machine. A stream's time is that of `moved` bytes.
    ///
    /// # Errors
    /// A program is not installed, fails, or says nothing that is understood.
    pub(crate) fn run(&self, port: &Port, moved: usize) -> Result<Round, Failure> {
        let mut server = self.start(port, &[])?;
        let result = self.run_client(port);
        if result.is_err() {
            // It may have ended as well.
            let _ = server.0.kill();
        }
        let text = result?;
        let sample = self.sample_ns(&text);
        let sample = sample.ok_or_else(|| format!("{} said:\n{text}", self.program()))?;
        let messages = match self {
            Self::SendLatency { .. } => 1.0,
            _ => moved as f64 / self.sizes().0 as f64,
        };
        Ok(Round {
            samples_ns: vec![sample * messages],
            caller_cpu_ns: 0.0,
        })
    }

    /// The client, tried again while the server is not yet listening.
    fn run_client(&self, port: &Port) -> Result<String, Failure> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut client = self.start(port, &["127.0.0.1"])?;
            let mut text = String::new();
            if let Some(output) = &mut client.0.stdout {
                output.read_to_string(&mut text)?;
            }
            if client.0.wait()?.success() {
                return Ok(text);
            }
            if Instant::now() > deadline {
                return Err(format!("{} failed:\n{text}", self.program()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn start(&self, port: &Port, more: &[&str]) -> Result<Running, Failure> {
        let (bytes, count) = self.sizes();
        let mut command = Command::new(self.program());
        command
            .args(["-F", "-d", &port.device])
            .args(["-i", &port.port.to_string(), "-x", &port.index.to_string()])
            .args(["-s", &bytes.to_string(), "-n", &count.max(10).to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let started = command.spawn();
        let started = started.map_err(|error| format!("{} (of perftest): {error}", self.program()));
        Ok(Running(started?))
    }

    /// Nanoseconds of an operation, from what a program printed: the last line that begins with the size.
    fn sample_ns(&self, text: &str) -> Option<f64> {
        let (bytes, _) = self.sizes();
        let is_result = |line: &&str| {
            let first = line.split_whitespace().next();
            first == Some(bytes.to_string().as_str())
        };
        let line = text.lines().rev().find(is_result)?;
        let columns: Vec<f64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        match self {
            // #bytes #iterations t_min t_max t_typical …, in microseconds.
            Self::SendLatency { .. } => Some(columns.get(4)? * 2.0 * 1e3),
            // #bytes #iterations peak average …, in MiB a second.
            _ => Some(bytes as f64 / (columns.get(3)? * f64::from(1 << 20)) * 1e9),
        }
    }
}

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_print_is_understood() {
        let latency = "\
---------------------------------------------------------------------------------------
 #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]
 64      200          9.21           130.63       9.50     \t       10.02       \t3.63   \t\t53.77
---------------------------------------------------------------------------------------
";
        let measured = Perftest::SendLatency {
            bytes: 64,
            count: 200,
        };
        assert_eq!(measured.sample_ns(latency), Some(19_000.0));
        let bandwidth = "\
 #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]
 1048576    20             60.11              50.00                0.000050
";
        let measured = Perftest::WriteBandwidth {
            bytes: 1 << 20,
            count: 20,
        };
        assert_eq!(measured.sample_ns(bandwidth), Some(20_000_000.0));
        assert_eq!(measured.sample_ns("nothing"), None);
    }
}
