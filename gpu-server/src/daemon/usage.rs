//! How the devices are used at this moment, for clients that ask.
//!
//! What: [`Usage`] keeps a monitor process ([`crate::monitor`]), asks it at most every [`VALIDITY`], and [`describe`] adds what it says to the
//! list of devices. Rules: nobody waits longer than [`USAGE_TIMEOUT`] for it, a monitor that is late or gone is ended and begun anew after a
//! pause, and then the list goes out without usage; the monitor is started by the first who asks.
//!
//! Whose processes a client hears of: those of sessions whose programs have process ids that mean something to it, that is, whose
//! namespace of process ids is its own. A number of another machine would name a stranger on this one.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::hello::{
    self, Accepted, DeviceSnapshot, DeviceUsage, HelloError, ProbeReport, ProcessUsage, UsageReport,
};
use protocol::limits::{MAX_USAGE_PROCESSES, USAGE_TIMEOUT};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::devices::{self, Devices};
use super::handshake;
use crate::monitor;

/// How long a report is as good as new.
const VALIDITY: Duration = Duration::from_millis(100);

/// After a failure, how long no monitor is started.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Most questions that wait at a time; whoever comes then is answered without usage.
const MAX_WAITING: usize = 64;

type Report = Option<Arc<UsageReport>>;

/// Who knows how the devices are used.
pub(super) struct Usage {
    questions: mpsc::Sender<oneshot::Sender<Report>>,
}

impl Usage {
    /// Inside the runtime's context.
    pub(super) fn of(devices: Arc<Devices>) -> Self {
        let (questions, incoming) = mpsc::channel(MAX_WAITING);
        tokio::spawn(answer_all(devices, incoming));
        Self { questions }
    }

    /// Asks. The answer comes in time, or says that there is none.
    pub(super) fn ask(&self) -> impl Future<Output = Report> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let is_asked = self.questions.try_send(sender).is_ok();
        async move {
            if is_asked {
                receiver.await.unwrap_or_default()
            } else {
                None
            }
        }
    }
}

/// Answers until nobody can ask any more.
async fn answer_all(devices: Arc<Devices>, mut questions: mpsc::Receiver<oneshot::Sender<Report>>) {
    let mut monitor = None;
    let mut known: Report = None;
    let mut good_until: Option<Instant> = None;
    while let Some(question) = questions.recv().await {
        if good_until.is_none_or(|end| Instant::now() >= end) {
            let result = timeout(USAGE_TIMEOUT, ask(&mut monitor, &devices)).await;
            let result = result.unwrap_or(Err(HelloError::TimedOut));
            let validity = match &result {
                Ok(_) => VALIDITY,
                Err(error) => {
                    tracing::warn!("the devices' usage is not known: the monitor failed: {error}");
                    monitor = None;
                    PAUSE_AFTER_FAILURE
                }
            };
            known = result.ok().map(Arc::new);
            good_until = Some(Instant::now() + validity);
        }
        // Who asked may be gone by now.
        let _ = question.send(known.clone());
    }
}

async fn ask(monitor: &mut Option<Monitor>, devices: &Devices) -> Result<UsageReport, HelloError> {
    let monitor = match monitor {
        Some(monitor) => monitor,
        None => monitor.insert(Monitor::start(devices).await?),
    };
    monitor.input.write_all(&[monitor::ASK]).await?;
    handshake::read_from(&mut monitor.output).await
}

/// A monitor process, killed with the value.
struct Monitor {
    input: ChildStdin,
    output: ChildStdout,
    _process: Child,
}

impl Monitor {
    async fn start(devices: &Devices) -> Result<Self, HelloError> {
        let mut process = Command::new("/proc/self/exe")
            .arg0("gpu-server")
            .arg("monitor")
            .args(["--device-kind", devices::name(devices.kind)])
            .args(["--daemon", &std::process::id().to_string()])
            .arg("--driver")
            .arg(&devices.driver)
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal's interrupt reaches it only through us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (Some(mut input), Some(output)) = (input, output) else {
            return Err(HelloError::Closed);
        };
        input.write_all(&hello::encode(&watched(devices))?).await?;
        tracing::debug!(process = process.id(), "monitor started");
        Ok(Self {
            input,
            output,
            _process: process,
        })
    }
}

/// What the monitor is told of the devices: who they are.
fn watched(devices: &Devices) -> ProbeReport {
    let named = |device: &DeviceSnapshot| DeviceSnapshot {
        attributes: Default::default(),
        ..device.clone()
    };
    ProbeReport {
        driver_version: devices.report.driver_version,
        devices: devices.report.devices.iter().map(named).collect(),
        ..ProbeReport::default()
    }
}

/// The program of a session, as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Its process id.
    pub(super) process: u32,
    /// Where that number means something.
    pub(super) namespace: String,
    /// The numbers of its devices.
    pub(super) devices: Vec<u32>,
    /// The process that serves it, once there is one.
    pub(super) worker: Option<u32>,
}

/// Adds to a list of devices how each is used, for a client of this namespace, and takes the attributes away.
pub(super) fn describe(
    accepted: &mut Accepted,
    report: Option<&UsageReport>,
    programs: &[Program],
    namespace: &str,
) {
    let mut room = MAX_USAGE_PROCESSES;
    for device in &mut accepted.devices {
        device.attributes.clear();
        device.usage = report
            .and_then(|report| report.devices.get(device.ordinal as usize))
            .map(|usage| {
                let mut processes = processes(device.ordinal, usage, programs, namespace);
                processes.truncate(room);
                room -= processes.len();
                DeviceUsage {
                    processes,
                    ..usage.clone()
                }
            });
    }
    if let (Some(server), Some(report)) = (&mut accepted.server, report) {
        server.driver_release.clone_from(&report.driver_release);
    }
}

/// The programs of this namespace on a device, with the memory that their workers have there.
fn processes(
    device: u32,
    usage: &DeviceUsage,
    programs: &[Program],
    namespace: &str,
) -> Vec<ProcessUsage> {
    let memory_of = |worker: u32| {
        let seen = usage.processes.iter().find(|seen| seen.process == worker);
        seen.and_then(|seen| seen.memory)
    };
    programs
        .iter()
        .filter(|program| program.devices.contains(&device))
        .filter(|program| !namespace.is_empty() && program.namespace == namespace)
        .map(|program| ProcessUsage {
            process: program.process,
            memory: program.worker.and_then(memory_of),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::hello::{Reading, ServerInfo};

    fn program(process: u32, namespace: &str, devices: &[u32]) -> Program {
        Program {
            process,
            namespace: namespace.to_owned(),
            devices: devices.to_vec(),
            worker: Some(process + 1000),
        }
    }

    fn usage() -> DeviceUsage {
        let memory = |process, memory| ProcessUsage { process, memory };
        DeviceUsage {
            free_memory: Some(9),
            readings: [(Reading::Temperature.into(), 41)].into(),
            processes: vec![
                memory(1001, Some(5)),
                memory(1002, None),
                memory(77, Some(3)),
            ],
            serial: "S".to_owned(),
            links: Vec::new(),
        }
    }

    fn described(namespace: &str, report: Option<&UsageReport>) -> Accepted {
        let mut accepted = Accepted {
            server: Some(ServerInfo::default()),
            devices: [0, 1]
                .map(|ordinal| DeviceSnapshot {
                    ordinal,
                    attributes: [(1, 1)].into(),
                    ..DeviceSnapshot::default()
                })
                .to_vec(),
            ..Accepted::default()
        };
        let programs = [
            program(1, "here", &[0, 1]),
            program(2, "here", &[0]),
            program(3, "there", &[0, 1]),
        ];
        describe(&mut accepted, report, &programs, namespace);
        accepted
    }

    #[test]
    fn a_client_hears_of_processes_of_its_own_namespace() {
        let report = UsageReport {
            driver_release: "580.1".to_owned(),
            devices: vec![usage(), usage()],
        };
        let heard = |namespace: &str, device: usize| {
            let accepted = described(namespace, Some(&report));
            let usage = accepted.devices[device].usage.clone().expect("usage");
            let told = |seen: &ProcessUsage| (seen.process, seen.memory);
            usage.processes.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(heard("here", 0), [(1, Some(5)), (2, None)]);
        assert_eq!(heard("here", 1), [(1, Some(5))]);
        assert_eq!(heard("there", 0), [(3, None)]);
        assert_eq!(heard("", 0), []);
        let accepted = described("here", Some(&report));
        assert_eq!(accepted.server.expect("a server").driver_release, "580.1");
        let device = &accepted.devices[0];
        assert!(device.attributes.is_empty());
        let usage = device.usage.as_ref().expect("usage");
        assert_eq!((usage.free_memory, usage.serial.as_str()), (Some(9), "S"));
        assert_eq!(usage.reading(Reading::Temperature), Some(41));
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let accepted = described("here", None);
        assert_eq!(accepted.devices[0].usage, None);
        assert!(accepted.devices[0].attributes.is_empty());
        let short = UsageReport {
            devices: vec![usage()],
            ..UsageReport::default()
        };
        let accepted = described("here", Some(&short));
        assert!(accepted.devices[0].usage.is_some() && accepted.devices[1].usage.is_none());
    }
}
