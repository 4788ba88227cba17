//! The text is what Prometheus reads, stays small, and is given to who asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use protocol::hello::{DeviceKind, DeviceUsage, Reading};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Server;
use super::*;
use crate::pool::sample::lease;
use crate::pool::{
    Ask, Caller, Capacity, Compute, Device, Holder, Keeping, LeaseId, Moment, Need, Policy,
    Portion, ServerFacts,
};

/// A line of the text: a name, labels, a value.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The label set after its opening brace, and what follows its end.
fn labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        assert!(name.chars().all(is_name), "{name}");
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("a quote at its end") {
                (place, '"') => break place,
                (_, '\\') => match letters.next().expect("what is escaped").1 {
                    'n' => value.push('\n'),
                    letter @ ('\\' | '"') => value.push(letter),
                    letter => panic!("\\{letter}"),
                },
                (_, letter) => value.push(letter),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name}");
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return (labels, rest.strip_prefix('}').expect("the end")),
        }
    }
}

/// Reads the text as Prometheus does: each sample belongs to the family whose type was said before it.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let mut family = (String::new(), String::new());
    let mut known = BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert!(known.insert(name.to_owned()), "{name} twice");
            family = (name.to_owned(), kind.to_owned());
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let end = line.find(['{', ' ']).expect("a value");
        let (name, rest) = line.split_at(end);
        let ends: &[&str] = match family.1.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let belongs = ends.iter().any(|end| *name == format!("{}{end}", family.0));
        assert!(belongs, "{name} in {family:?}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest),
            None => (BTreeMap::new(), rest),
        };
        let value = value.trim().parse().expect("a number");
        samples.push(Sample {
            name: name.to_owned(),
            labels,
            value,
        });
    }
    samples
}

fn value(samples: &[Sample], name: &str, label: (&str, &str)) -> f64 {
    let mut found = samples
        .iter()
        .filter(|sample| sample.name == name && sample.label(label.0) == label.1);
    let sample = found.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(found.next().is_none(), "{name} twice");
    sample.value
}

fn scheduler() -> Scheduler {
    let device = |ordinal: u32, name: &str| Device {
        ordinal,
        uuid: [ordinal.to_le_bytes()[0]; 16],
        name: name.to_owned(),
        total_memory: 16 << 30,
        usable_memory: 15 << 30,
        least_slice: 0,
    };
    let server = ServerFacts {
        hostname: "host".to_owned(),
        has_rdma: false,
        driver_version: 13000,
        driver_release: String::new(),
        kind: DeviceKind::Nvidia,
    };
    let devices = vec![device(0, "a \"quoted\\\" name\n"), device(1, "plain")];
    let capacity = Capacity { server, devices };
    Scheduler::new(capacity, Policy::default(), Moment(0))
}

fn ask(tenant: &str, number: u8) -> Ask {
    Ask {
        lease: LeaseId::from_bytes([number; 10]),
        caller: Caller::unlimited(tenant.parse().expect("a tenant"), false),
        need: Need {
            memory: Portion::Fraction(Compute::from_fraction(0.4)),
            ..Need::whole(1)
        },
        holder: Holder::default(),
        keeping: Keeping::Detached,
        time: None,
        waits: true,
    }
}

#[test]
fn the_text_says_how_the_pool_stands() {
    let metrics = Metrics::new(true);
    let mut scheduler = scheduler();
    for number in 0..5 {
        scheduler.request(ask("ann", number), Moment(1));
    }
    metrics.pool(&scheduler);
    metrics.devices(&UsageReport {
        driver_release: String::new(),
        devices: vec![DeviceUsage {
            free_memory: Some(10 << 30),
            readings: [(Reading::GpuUtilization.into(), 25)].into(),
            ..DeviceUsage::default()
        }],
    });
    let samples = parse(&metrics.encode());
    assert_eq!(value(&samples, "gpurun_leases", ("tenant", "ann")), 4.0);
    assert_eq!(value(&samples, "gpurun_queue_length", ("", "")), 1.0);
    let of_first = |name: &str| value(&samples, name, ("device", "0"));
    assert_eq!(of_first("gpurun_device_slices"), 2.0);
    assert!((of_first("gpurun_device_leased_compute_ratio") - 0.8).abs() < 1e-6);
    assert_eq!(
        of_first("gpurun_device_used_memory_bytes"),
        6.0 * 1_073_741_824.0
    );
    assert_eq!(of_first("gpurun_device_utilization_ratio"), 0.25);
    let names: Vec<_> = samples
        .iter()
        .filter(|sample| sample.name == "gpurun_device_info")
        .map(|sample| sample.label("name"))
        .collect();
    assert_eq!(names, ["a \"quoted\\\" name\n", "plain"]);
}

#[test]
fn what_happens_is_counted() {
    let metrics = Metrics::new(false);
    let tenant = "team@site:a.b_c-1";
    let lease = lease(LeaseId::from_bytes([1; 10]), tenant, Moment(0));
    metrics.granted(&lease, Duration::from_secs(20));
    metrics.refused(&Refusal::Draining);
    metrics.ended(LeaseEnd::Idle);
    metrics.hello_refused(RefusalCode::TooSmall);
    metrics.hello(Duration::from_millis(3));
    metrics.session_began(Some(&lease.tenant));
    metrics.session_began(None);
    metrics.session_ended(Ending::Signal);
    let counts = Counts {
        calls: 7,
        bytes_received: 8,
        bytes_sent: 9,
        faults: 0,
    };
    metrics.counts(Some(&lease.tenant), counts);
    metrics.counts(Some(&lease.tenant), counts);
    metrics.not_stored();
    let totals = Totals {
        leased: 2_000_000_000,
        ..Totals::default()
    };
    metrics.usage(&BTreeMap::from([(lease.tenant.clone(), totals)]));
    let samples = parse(&metrics.encode());
    let is = |name: &str, label, expected: f64| {
        assert_eq!(value(&samples, name, label), expected, "{name}");
    };
    is("gpurun_grants_total", ("tenant", tenant), 1.0);
    is("gpurun_refusals_total", ("reason", "draining"), 1.0);
    is("gpurun_lease_ends_total", ("end", "idle"), 1.0);
    is("gpurun_hello_refusals_total", ("reason", "too_small"), 1.0);
    is("gpurun_sessions_begun_total", ("tenant", tenant), 1.0);
    is("gpurun_sessions_begun_total", ("tenant", ""), 1.0);
    is("gpurun_sessions_ended_total", ("how", "signal"), 1.0);
    is("gpurun_calls_total", ("tenant", tenant), 14.0);
    is("gpurun_sent_bytes_total", ("tenant", tenant), 18.0);
    is("gpurun_store_failures_total", ("", ""), 1.0);
    is("gpurun_state_is_stored", ("", ""), 0.0);
    is("gpurun_leased_gpu_seconds_total", ("tenant", tenant), 2.0);
    is("gpurun_queue_wait_seconds_count", ("", ""), 1.0);
    is("gpurun_queue_wait_seconds_bucket", ("le", "10"), 0.0);
    is("gpurun_queue_wait_seconds_bucket", ("le", "30"), 1.0);
    is("gpurun_hello_seconds_bucket", ("le", "0.005"), 1.0);
}

#[test]
fn tenants_do_not_make_it_grow_without_end() {
    let metrics = Metrics::new(false);
    let mut usage = BTreeMap::new();
    for number in 0..3 * MAX_TENANTS {
        let tenant: Tenant = format!("t{number:04}").parse().expect("a tenant");
        metrics.session_began(Some(&tenant));
        let totals = Totals {
            used: 1_000_000_000,
            ..Totals::default()
        };
        usage.insert(tenant, totals);
    }
    metrics.usage(&usage);
    let samples = parse(&metrics.encode());
    for name in [
        "gpurun_sessions_begun_total",
        "gpurun_used_gpu_seconds_total",
    ] {
        let of_it = samples.iter().filter(|sample| sample.name == name);
        assert_eq!(of_it.clone().count(), MAX_TENANTS + 1);
        let sum: f64 = of_it.map(|sample| sample.value).sum();
        assert_eq!(sum, 600.0);
        assert_eq!(value(&samples, name, ("tenant", OTHER)), 400.0);
    }
}

async fn asked(address: SocketAddr, question: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(question.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test]
async fn who_asks_gets_it() {
    let metrics = Metrics::new(true);
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = Server::start(any, metrics).expect("a server");
    let address = server.address();
    let answer = asked(address, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (head, text) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("version=0.0.4"), "{head}");
    assert_eq!(value(&parse(text), "gpurun_state_is_stored", ("", "")), 1.0);
    for (question, status) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "404"),
        ("DELETE /metrics HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
        ("\x16\x03\x01 what?\r\n\r\n", "400"),
    ] {
        let answer = asked(address, question).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // It is refused before it is sent whole, so the rest may fail.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
    assert!(
        Server::start_or_warn(address, Metrics::new(true)).is_none(),
        "it is taken"
    );
}
