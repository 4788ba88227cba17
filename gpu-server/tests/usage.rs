//! How devices are used, with a stand-in for NVIDIA's management library beside a stand-in driver: what the monitor reads of it, what the
//! daemon tells, and what becomes of a library that fails, crashes or hangs.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use protocol::address::Address;
use protocol::connect;
use protocol::hello::{
    self, Accepted, DeviceSnapshot, DeviceUsage, Hello, Intent, NvLink, PciPlace, ProbeReport,
    Reading, UsageReport,
};
use protocol::limits::{CONNECT_TIMEOUT, USAGE_TIMEOUT};

/// The stand-in driver, with the stand-in library beside it; compiled once.
fn driver() -> PathBuf {
    let folder = test_scratch::shared(env!("CARGO_TARGET_TMPDIR"), "nvml", |folder| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        for (source, output) in [
            ("fake_driver.rs", "libcuda.so.1"),
            ("fake_nvml.rs", "libnvidia-ml.so.1"),
        ] {
            test_scratch::compile_library(&sources.join(source), &folder.join(output), &[]);
        }
    });
    folder.join("libcuda.so.1")
}

fn server(word: &str, fails: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-server"));
    command
        .arg(word)
        .arg("--driver")
        .arg(driver())
        .env("FAKE_NVML", fails)
        .env_remove("GPURUN_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn device(uuid: u8) -> DeviceSnapshot {
    DeviceSnapshot {
        name: "Fake".to_owned(),
        uuid: vec![uuid; hello::UUID_BYTES],
        ..DeviceSnapshot::default()
    }
}

fn check_devices(devices: &[DeviceUsage]) {
    let [first, second] = devices else {
        panic!("{devices:?}");
    };
    let expected = [
        (Reading::PowerUsage, 70_001),
        (Reading::EnforcedPowerLimit, 300_001),
        (Reading::PerformanceState, 1),
        (Reading::PcieGeneration, 4),
        (Reading::Temperature, 41),
        (Reading::ClockGraphics, 1000),
        (Reading::ClockVideo, 1003),
        (Reading::MaxClockMemory, 2002),
        (Reading::EncoderUtilization, 12),
        (Reading::EncoderPeriod, 167_000),
        (Reading::GpuUtilization, 97),
        (Reading::MemoryUtilization, 55),
        (Reading::EccCorrectedVolatile, 1 << 40),
        (Reading::EccCorrectedAggregate, (1 << 40) + 1),
        (Reading::EccUncorrectedAggregate, (1 << 40) + 11),
        (Reading::PciDevice, 0x2330_10DE),
        (Reading::PciSubsystem, 0x16C1_10DE),
    ];
    for (reading, value) in expected {
        assert_eq!(first.reading(reading), Some(value), "{reading:?}");
    }
    for reading in [Reading::FanSpeed, Reading::MigMode, Reading::TotalEnergy] {
        assert_eq!(
            first.reading(reading),
            None,
            "{reading:?}: the library has no such function"
        );
    }
    assert_eq!(first.free_memory, Some(11 << 30));
    assert_eq!(first.serial, "1650000000000");
    let link = |number, active, version, device: Option<u32>| NvLink {
        number,
        active,
        version,
        capabilities: 0b101,
        remote_type: None,
        remote: device.map(|device| PciPlace {
            domain: 1,
            bus: 0x1B,
            device,
            id: 0x22A3_10DE,
        }),
    };
    let links = [
        link(0, true, Some(7), Some(0)),
        link(1, true, None, Some(1)),
        link(2, false, Some(7), None),
    ];
    assert_eq!(first.links, links);
    assert!(second.links.is_empty());
    assert_eq!(second.reading(Reading::Temperature), None, "refused");
    assert_eq!(second.reading(Reading::PowerUsage), Some(70_002));
}

#[test]
fn the_monitor_reads_what_the_library_says() {
    let mut command = server("monitor", "");
    command
        .args(["--device-kind", "nvidia", "--daemon"])
        .arg(std::process::id().to_string());
    let mut monitor = Running(command.spawn().expect("gpu-server"));
    let mut input = monitor.0.stdin.take().expect("piped");
    let mut output = monitor.0.stdout.take().expect("piped");
    let watched = ProbeReport {
        devices: vec![device(1), device(2)],
        ..ProbeReport::default()
    };
    input
        .write_all(&hello::encode(&watched).expect("well-formed"))
        .expect("it reads");
    for _ in 0..2 {
        input
            .write_all(&[gpu_server::monitor::ASK])
            .expect("it reads");
        let report: UsageReport = hello::read(&mut output).expect("a report");
        assert_eq!(report.driver_release, "580.82.07");
        check_devices(&report.devices);
        let processes = &report.devices[0].processes;
        let seen: Vec<_> = processes
            .iter()
            .map(|seen| (seen.process, seen.memory))
            .collect();
        assert_eq!(seen, [(4242, Some(5 << 30)), (77, None)]);
    }
    drop(input);
    assert!(
        monitor.0.wait().expect("its status").success(),
        "it ends with its input"
    );
}

/// A daemon on the stand-ins, and where it listens.
fn daemon(fails: &str) -> (Running, Address) {
    let mut command = server("serve", fails);
    command.args(["--listen", "tcp://127.0.0.1:0"]);
    let mut daemon = Running(command.spawn().expect("gpu-server"));
    let output = daemon.0.stdout.take().expect("piped");
    let line = BufReader::new(output)
        .lines()
        .next()
        .expect("a line")
        .expect("text");
    let address = line.strip_prefix("listening on ").expect("an address");
    (daemon, address.parse().expect("an address"))
}

fn ask(address: &Address) -> Accepted {
    let socket = connect::connect(address).expect("it listens");
    let hello = Hello {
        with_usage: true,
        ..Hello::new(Intent::Snapshot)
    };
    connect::say_hello(address, &socket, &hello).expect("an answer")
}

#[test]
fn the_daemon_tells_whoever_asks() {
    let (_daemon, address) = daemon("");
    for _ in 0..3 {
        let accepted = ask(&address);
        let usage: Vec<_> = accepted
            .devices
            .iter()
            .filter_map(|device| device.usage.clone())
            .collect();
        check_devices(&usage);
        assert!(
            usage[0].processes.is_empty(),
            "processes of the server are nobody's business"
        );
        assert_eq!(
            accepted.server.expect("a server").driver_release,
            "580.82.07"
        );
    }
    let plain = connect::fetch_snapshot(&address).expect("an answer");
    assert!(
        plain
            .devices
            .iter()
            .all(|device| device.usage.is_none() && !device.attributes.is_empty())
    );
}

#[test]
fn a_library_that_fails_costs_the_usage_and_nothing_else() {
    for fails in ["init", "crash", "hang"] {
        let (_daemon, address) = daemon(fails);
        let begun = Instant::now();
        for _ in 0..4 {
            let accepted = ask(&address);
            assert_eq!(accepted.devices.len(), 2, "{fails}");
            assert!(
                accepted.devices.iter().all(|device| device.usage.is_none()),
                "{fails}"
            );
        }
        // Who waits, waits once: the failure is remembered.
        assert!(begun.elapsed() < USAGE_TIMEOUT + CONNECT_TIMEOUT, "{fails}");
        assert!(connect::fetch_snapshot(&address).is_ok(), "{fails}");
    }
}
