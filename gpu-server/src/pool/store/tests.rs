//! The store, its thread, and a writer that is killed.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::pool::meter::Meter;
use crate::pool::sample::{ended, granted, lease};
use crate::pool::{LeaseEnd, RequestId};

/// Names the state directory to the writer that is killed.
const DIRECTORY: &str = "GPURUN_TEST_STORE";

fn id(number: u64) -> LeaseId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    LeaseId::from_bytes(bytes)
}

fn lease_of(number: u64) -> Lease {
    lease(id(number), "ann", Moment(number))
}

#[test]
fn what_was_stored_is_there_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut store, stored) = Store::open(directory.path()).expect("a store");
    assert_eq!(stored.leases, []);
    assert_eq!(stored.sessions.next, 1);
    let mut whole = lease_of(1);
    whole.expires = Some(Moment(99));
    whole.ended = Some(LeaseEnd::Drained);
    whole.sessions = 3;
    let totals = Totals {
        leased: u128::MAX,
        used: 1,
        memory: 1 << 90,
        leases: 4,
        sessions: 5,
    };
    let reading = Reading {
        until: Moment(8),
        used_ns: u64::MAX,
    };
    let tenant = Tenant::local();
    let drain = Some(Drain {
        end: Some(Moment(7)),
    });
    let changes = [
        Change::Lease(Box::new(whole.clone())),
        Change::Lease(Box::new(lease_of(2))),
        Change::Drain(drain),
        Change::Usage(tenant.clone(), totals),
        Change::Reading(id(1), reading),
    ];
    store.apply(&changes).expect("written");
    store.apply(&[Change::Forget(id(2))]).expect("written");
    drop(store);
    let (_store, again) = Store::open(directory.path()).expect("a store");
    assert_eq!(again.leases, [whole]);
    assert_eq!(again.drain, drain);
    assert_eq!(again.usage, BTreeMap::from([(tenant, totals)]));
    assert_eq!(again.readings, BTreeMap::from([(id(1), reading)]));
    assert_eq!((again.since, again.key), (stored.since, stored.key));
    assert_eq!(again.sessions.next, 1 + SESSIONS);
    let file = std::fs::metadata(directory.path().join(FILE)).expect("a file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_drain_that_was_undone_is_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut store, _) = Store::open(directory.path()).expect("a store");
    let drain = Drain { end: None };
    store.apply(&[Change::Drain(Some(drain))]).expect("written");
    drop(store);
    let (mut store, stored) = Store::open(directory.path()).expect("a store");
    assert_eq!(stored.drain, Some(drain));
    store.apply(&[Change::Drain(None)]).expect("written");
    drop(store);
    let (_store, stored) = Store::open(directory.path()).expect("a store");
    assert_eq!(stored.drain, None);
}

#[test]
fn decisions_change_what_they_are_about() {
    let kept = Change::Lease(Box::new(lease_of(1)));
    assert_eq!(changes(&granted(lease_of(1))), [kept]);
    assert_eq!(changes(&ended(lease_of(1))), [Change::Forget(id(1))]);
    let mut in_use = lease_of(1);
    in_use.sessions = 1;
    match &changes(&ended(in_use))[..] {
        [Change::Lease(lease)] => assert_eq!(lease.ended, Some(LeaseEnd::Expired)),
        other => panic!("{other:?}"),
    }
    let refused = Decision::Refused {
        request: RequestId(1),
        refusal: crate::pool::Refusal::Draining,
    };
    assert_eq!(changes(&refused), []);
}

#[test]
fn a_second_server_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let _store = Store::open(directory.path()).expect("a store");
    let error = Store::open(directory.path())
        .expect_err("refused")
        .to_string();
    let who = format!("another gpu-server (process {})", std::process::id());
    assert!(error.contains(&who), "{error}");
    assert!(error.contains(&directory.path().display().to_string()));
}

#[test]
fn a_newer_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = Store::open(directory.path()).expect("a store");
    let database = store.database.as_ref().expect("open");
    let transaction = database.begin_write().expect("a transaction");
    put(&transaction, META, "format", &(FORMAT + 1)).expect("written");
    transaction.commit().expect("committed");
    drop(store);
    for _ in 0..2 {
        let error = Store::open(directory.path()).expect_err("refused");
        assert!(matches!(error, StoreError::Newer { found: 2, .. }));
        assert!(
            error
                .to_string()
                .contains("pool.redb was written by a newer")
        );
    }
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(FILE);
    let (mut store, _) = Store::open(directory.path()).expect("a store");
    let leases = (0..50).map(|number| Change::Lease(Box::new(lease_of(number))));
    store.apply(&leases.collect::<Vec<_>>()).expect("written");
    drop(store);
    let good = std::fs::read(&path).expect("a file");
    let name = id(7).to_string();
    let place = good
        .windows(name.len())
        .position(|bytes| bytes == name.as_bytes());
    let mut turned = good.clone();
    turned[place.expect("the lease") + 40] ^= 1;
    let damages: [&[u8]; 6] = [
        b"",
        b"no database",
        &good[..good.len() / 2],
        &good[..4096],
        &turned,
        &vec![0; good.len()],
    ];
    for damaged in damages {
        std::fs::write(&path, damaged).expect("written");
        let error = match Store::open(directory.path()) {
            Ok((_, stored)) => panic!("{} leases of a damaged store", stored.leases.len()),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("pool.redb is damaged"), "{error}");
        assert!(error.contains("move it away"), "{error}");
    }
    std::fs::write(&path, &good).expect("written");
    let (_, stored) = Store::open(directory.path()).expect("the good one");
    assert_eq!(stored.leases.len(), 50);
}

#[test]
fn a_store_that_is_none_of_ours_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Database::create(directory.path().join(FILE)).expect("a database"));
    let error = Store::open(directory.path()).expect_err("refused");
    assert!(error.to_string().contains("no pool's state"), "{error}");
}

#[test]
fn session_numbers_are_stored_long_before_they_are_used() {
    let mut numbers = SessionNumbers::stored(1 + SESSIONS);
    let mut stored = 1 + 2 * SESSIONS;
    for expected in 1 + SESSIONS..1 + 4 * SESSIONS {
        let (number, change) = numbers.take();
        assert_eq!(number, expected);
        if let Some(Change::Sessions(reserved)) = change {
            stored = reserved;
        }
        assert!(number + SESSIONS / 2 <= stored, "{number} of {stored}");
    }
    let mut unstored = SessionNumbers::default();
    assert_eq!(unstored.take(), (1, None));
    assert_eq!(unstored.take(), (2, None));
}

#[test]
fn the_thread_writes_what_was_handed_over_even_if_nobody_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = Store::open(directory.path()).expect("a store");
    let thread = StoreThread::start(store).expect("a thread");
    for number in 0..200 {
        drop(thread.apply(changes(&granted(lease_of(number)))));
    }
    for number in 0..199 {
        drop(thread.apply([Change::Reading(id(number), Reading::default())]));
        drop(thread.apply(changes(&ended(lease_of(number)))));
    }
    thread.apply([]).wait().expect("stored");
    thread.end();
    let (_store, stored) = Store::open(directory.path()).expect("a store");
    assert_eq!(stored.leases, [lease_of(199)]);
    assert_eq!(stored.readings, BTreeMap::new());
}

#[test]
fn a_failed_write_is_told_and_made_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(FILE);
    let aside = directory.path().join("aside");
    let (mut store, _) = Store::open(directory.path()).expect("a store");
    // As after an error of the disk: it is opened again, and cannot be.
    store.database = None;
    std::fs::rename(&path, &aside).expect("moved");
    let thread = StoreThread::start(store).expect("a thread");
    let told = thread.apply(changes(&granted(lease_of(1)))).wait();
    let problem = told.expect_err("not stored").to_string();
    assert!(problem.contains("cannot store"), "{problem}");
    let told = thread.apply([Change::Drain(None)]).wait();
    assert!(told.is_err());
    std::fs::rename(&aside, &path).expect("moved back");
    // What could not be written before is written with it.
    thread.apply([]).wait().expect("stored");
    thread.end();
    let (_store, stored) = Store::open(directory.path()).expect("a store");
    assert_eq!(stored.leases, [lease_of(1)]);
}

/// A process that writes until it is killed.
struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let name = "pool::store::tests::writes_until_it_is_killed";
        command
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("a writer");
        let output = child.stdout.take().expect("its output");
        let lines = BufReader::new(output).lines();
        Self { child, lines }
    }

    /// Kills it; what it said that was stored.
    fn kill(&mut self) -> Vec<String> {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        self.lines.by_ref().map_while(Result::ok).collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "started, and killed, by another test"]
fn writes_until_it_is_killed() {
    let directory = std::env::var_os(DIRECTORY).expect("a directory");
    let (store, stored) = Store::open(Path::new(&directory)).expect("a store");
    let first = stored.usage.values().map(|totals| totals.leases).sum();
    let mut meter = Meter::restore(stored.since, stored.usage, &stored.leases, &stored.readings);
    let thread = StoreThread::start(store).expect("a thread");
    let mut tell = |decision: Decision, number: u64, what: &str| {
        let mut all = changes(&decision);
        all.extend(meter.note(&decision, Moment(number)));
        let acknowledgement = thread.apply(all);
        println!("\n{what}? {number}");
        acknowledgement.wait().expect("stored");
        println!("\n{what} {number}");
    };
    for number in first.. {
        tell(granted(lease_of(number)), number, "granted");
        if number % 3 == 2 {
            tell(ended(lease_of(number - 1)), number - 1, "ended");
        }
    }
}

fn numbers(lines: &[String], what: &str) -> Vec<u64> {
    let numbers = lines.iter().filter_map(|line| {
        let (word, number) = line.split_once(' ')?;
        (word == what).then(|| number.parse().expect("a number"))
    });
    numbers.collect()
}

#[test]
fn a_kill_at_any_time_loses_nothing_that_was_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut there = Vec::new();
    for round in 0_u64..12 {
        let mut writer = Writer::start(directory.path());
        // So many lines, and a part of the time that the next one takes.
        let lines = 2 + 5 * round as usize % 23;
        let mut said = Vec::new();
        for line in writer.lines.by_ref().take(4 * lines) {
            said.push(line.expect("a line"));
        }
        std::thread::sleep(Duration::from_micros(173 * round));
        said.extend(writer.kill());
        let (_store, stored) = Store::open(directory.path()).expect("a store");
        there.extend(numbers(&said, "granted"));
        let ended = numbers(&said, "ended");
        let maybe_ended = numbers(&said, "ended?");
        there.retain(|number| !ended.contains(number));
        let is_stored = |number: &u64| stored.leases.contains(&lease_of(*number));
        let lost = there
            .iter()
            .find(|number| !is_stored(number) && !maybe_ended.contains(number));
        assert_eq!(lost, None, "round {round}: granted, and not there");
        let back = ended.iter().find(|number| is_stored(number));
        assert_eq!(back, None, "round {round}: ended, and there again");
        // A transaction is whole: as many leases were counted as were written.
        let counted: u64 = stored.usage.values().map(|totals| totals.leases).sum();
        let last = stored.leases.iter().map(|lease| lease.granted.0 + 1).max();
        let highest_ended = ended.iter().chain(&maybe_ended).map(|number| number + 1);
        let last = last.into_iter().chain(highest_ended).max().unwrap_or(0);
        assert!(
            counted == last,
            "round {round}: {counted} counted, {last} written"
        );
        there = stored.leases.iter().map(|lease| lease.granted.0).collect();
        let readings: Vec<_> = stored.readings.keys().collect();
        let ids: Vec<_> = stored.leases.iter().map(|lease| &lease.id).collect();
        assert_eq!(readings, ids, "round {round}");
    }
    assert!(!there.is_empty());
}

#[test]
fn a_kill_while_it_is_made_is_no_harm() {
    for round in 0_u64..10 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut writer = Writer::start(directory.path());
        let lock = directory.path().join(LOCK);
        while !lock.exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(400 * round));
        writer.kill();
        let (_store, stored) = Store::open(directory.path()).expect("a store");
        assert!(stored.leases.len() < 1000, "round {round}");
    }
}
