//! The wire breaks, or a process is killed, at any frame: the program fails clearly, nothing is leaked, nobody else notices.
//!
//! A hundred seeds decide where and how; a failure names its seed. Each server has a program beside the victim that has to go on.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustix::process::Signal;
use tests::processes::{eventually, exists, signal, worker};
use tests::proxy::{Action, Corruption, Direction, Place, Plan, Proxy};
use tests::random::Random;
use tests::{LIVENESS_LIMIT, Outcome, Server, Transport, Way, finish, program, run, wait};

/// The programs that are struck: copies both ways, events, pinned memory, many threads.
const VICTIMS: [&str; 3] = ["vector_add", "stream_overlap", "multi_thread"];

/// How long a victim may go on after the strike.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Programs run to learn how many units there are to strike at.
fn units_of(server: &Server, name: &str) -> [u64; 2] {
    let proxy = Proxy::start(&server.address, None);
    let way = Way::Preload(proxy.address.clone());
    run(way.command(&program("static13", name))).assert_passed(name);
    proxy.units()
}

fn start(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the program can be started")
}

/// One strike, decided by its seed.
struct Strike {
    seed: u64,
    victim: &'static str,
    direction: Direction,
    unit: u64,
    place: Place,
}

impl Strike {
    fn new(seed: u64, random: &mut Random, units: &[[u64; 2]; VICTIMS.len()]) -> Self {
        let index = random.below(VICTIMS.len() as u64) as usize;
        let direction = random.one_of(&[Direction::Up, Direction::Down]);
        // Not the very last ones: which they are depends on how calls happened to be gathered into frames.
        let most = units[index][direction as usize] * 3 / 4;
        Self {
            seed,
            victim: VICTIMS[index],
            direction,
            unit: random.below(most),
            place: random.one_of(&[Place::Boundary, Place::Header, Place::Payload]),
        }
    }

    fn plan(&self, action: Action) -> Plan {
        Plan {
            direction: self.direction,
            unit: self.unit,
            place: self.place,
            action,
        }
    }

    fn describe(&self, what: &str) -> String {
        format!(
            "seed {}: {what} of {} at {:?} unit {}, {:?}",
            self.seed, self.victim, self.direction, self.unit, self.place
        )
    }
}

/// Runs a victim through a proxy; its outcome, and whether the plan struck.
fn suffer(server: &Server, strike: &Strike, plan: Plan, what: &str) -> (Outcome, bool) {
    let proxy = Proxy::start(&server.address, Some(plan));
    let way = Way::Preload(proxy.address.clone());
    let mut child = start(way.command(&program("static13", strike.victim)));
    let ended: Option<ExitStatus> = wait(&mut child, END_LIMIT);
    if ended.is_none() {
        let _ = child.kill();
    }
    let outcome = finish(child);
    assert!(ended.is_some(), "{what}: it hangs\n{}", outcome.stderr);
    (outcome, proxy.has_struck())
}

/// The victim ended as a program does that checks its calls, and our library told why, once.
fn check_outcome(outcome: &Outcome, has_struck: bool, what: &str) -> bool {
    let told = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("gpurun: "));
    let told: Vec<&str> = told.collect();
    let all = format!(
        "{what}: {}\n{}\n{}",
        outcome.status, outcome.stdout, outcome.stderr
    );
    if outcome.status.success() {
        // Only what it had already heard could not fail any more.
        assert!(outcome.stdout.contains("PASS "), "{all}");
        return false;
    }
    assert!(has_struck, "it failed by itself: {all}");
    assert_eq!(outcome.status.code(), Some(1), "{all}");
    assert!(
        outcome.stdout.contains("FAIL ") && outcome.stdout.contains("cudaError"),
        "{all}"
    );
    assert_eq!(told.len(), 1, "{all}");
    true
}

/// A program that goes on beside the victims, again and again, until told to end.
struct Bystander {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Bystander {
    fn start(server: &Server) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let way = Way::Preload(server.address.clone());
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut runs = 0;
            while !told.load(SeqCst) {
                let mut command = way.command(&program("static13", "long_run"));
                command.args(["1", "16"]);
                run(command).assert_passed("the bystander");
                runs += 1;
            }
            runs
        });
        Self { is_over, thread }
    }

    fn end(self) {
        self.is_over.store(true, SeqCst);
        let runs = self.thread.join().expect("the bystander was undisturbed");
        assert!(runs > 0);
    }
}

/// Nothing is left of the sessions that were struck.
fn check_server(server: &Server, free_before: u64, what: &str) {
    eventually(LIVENESS_LIMIT, what, || server.workers() == 0);
    // The daemon counts a session out a moment after its worker is gone.
    eventually(LIVENESS_LIMIT, &format!("{what}: memory is held"), || {
        server.free_bytes() == free_before
    });
    let left = std::fs::read_dir(server.scratch())
        .expect("its folder")
        .count();
    assert_eq!(left, 0, "{what}: temporary files are left");
    // What its sessions share, and nothing of one of them.
    assert_eq!(server.segments().len(), 1, "{what}: shared memory is left");
}

fn kill_worker(server: &Server) -> Action {
    let daemon = server.id();
    Action::Do(Box::new(move |session| {
        if let Some(worker) = worker(daemon, session) {
            signal(worker, Signal::KILL);
        }
    }))
}

/// How a victim is struck on a server that goes on.
fn action(number: u64, server: &Server, strike: &mut Strike, random: &mut Random) -> Action {
    match number % 5 {
        0 => Action::Reset,
        1 => Action::Close,
        2 => Action::HalfClose,
        3 => {
            // There is a worker once it has answered the hello.
            strike.unit = strike.unit.max(1);
            kill_worker(server)
        }
        _ => {
            strike.unit = strike.unit.max(1);
            Action::Corrupt(random.one_of(&Corruption::ALL))
        }
    }
}

/// Strikes with these seeds on one server, beside a bystander; how many victims failed.
fn strike_all(seeds: std::ops::Range<u64>) -> usize {
    let server = Server::start(Transport::Tcp);
    let free_before = server.free_bytes();
    let units = VICTIMS.map(|name| units_of(&server, name));
    let bystander = Bystander::start(&server);
    let mut failed = 0;
    for seed in seeds {
        let mut random = Random::new(seed);
        let mut strike = Strike::new(seed, &mut random, &units);
        let action = action(seed, &server, &mut strike, &mut random);
        let what = strike.describe(&format!("{action:?}"));
        let (outcome, has_struck) = suffer(&server, &strike, strike.plan(action), &what);
        failed += usize::from(check_outcome(&outcome, has_struck, &what));
        // The bystander's own worker, and one that it may be about to replace.
        eventually(LIVENESS_LIMIT, &what, || server.workers() <= 1);
    }
    bystander.end();
    check_server(&server, free_before, "after all strikes");
    failed
}

/// Kills daemons with these seeds; how many victims failed.
fn kill_daemons(seeds: std::ops::Range<u64>) -> usize {
    let first = Server::start(Transport::Tcp);
    let units = VICTIMS.map(|name| units_of(&first, name));
    drop(first);
    let mut failed = 0;
    for seed in seeds {
        let mut server = Server::start(Transport::Tcp);
        let mut strike = Strike::new(seed, &mut Random::new(seed), &units);
        strike.unit = strike.unit.max(1);
        let what = strike.describe("killing the daemon");
        let daemon = server.id();
        let killed = Arc::new(AtomicUsize::new(0));
        let noted = Arc::clone(&killed);
        let kill = Action::Do(Box::new(move |session| {
            noted.store(worker(daemon, session).unwrap_or(0) as usize, SeqCst);
            signal(daemon, Signal::KILL);
        }));
        let (outcome, has_struck) = suffer(&server, &strike, strike.plan(kill), &what);
        failed += usize::from(check_outcome(&outcome, has_struck, &what));
        server.kill();
        let worker = killed.load(SeqCst) as u32;
        eventually(LIVENESS_LIMIT, &what, || worker == 0 || !exists(worker));
    }
    failed
}

#[test]
fn a_hundred_seeds() {
    let batches = [0..30, 30..60, 60..88];
    let mut threads: Vec<_> = batches
        .into_iter()
        .map(|seeds| std::thread::spawn(move || strike_all(seeds)))
        .collect();
    threads.push(std::thread::spawn(|| kill_daemons(88..100)));
    let failed = threads
        .into_iter()
        .map(|thread| thread.join().expect("a batch"));
    let failed: usize = failed.sum();
    // A wire that breaks after the last word hurts nobody; most are not so lucky.
    assert!(
        failed >= 80,
        "only {failed} of 100 victims noticed anything"
    );
}
