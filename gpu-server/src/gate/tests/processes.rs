//! A gate among processes: what becomes of the others when one is killed, or stopped, wherever it is.
//!
//! *How:* a child is this test binary again, with the gate's descriptor and its part of the play; it says when it has come so far.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal};

use super::super::turns::LOOK;
use super::*;

const PART: &str = "GPURUN_TEST_GATE_PART";
const GATE: i32 = 3;

/// A process with a seat.
struct Player {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Player {
    /// Starts one; it has come as far as its part wants.
    fn start(gate: &Gate, place: Place, part: &str) -> Self {
        let descriptor = gate.descriptor().as_fd().try_clone_to_owned().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "gate::tests::processes::player"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(PART, format!("{part} {}", place.to_number()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .fd_mappings(vec![FdMapping {
                parent_fd: descriptor,
                child_fd: GATE,
            }])
            .unwrap()
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut player = Self { child, lines };
        player.hears("ready");
        player
    }

    fn hears(&mut self, what: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.trim_end().ends_with(what) {
                return;
            }
            line.clear();
        }
        panic!("it ended before it was {what}");
    }

    /// Lets it go on.
    fn tell(&mut self) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(b"\n").unwrap();
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side.
#[test]
#[ignore = "played in a process of its own by the other tests of this module"]
fn player() {
    let part = std::env::var(PART).expect("a part");
    let (part, place) = part.split_once(' ').expect("a part and a place");
    let descriptor = crate::inherited::take(GATE).expect("the gate");
    let gate = Arc::new(Gate::open(descriptor).expect("a gate"));
    let seat = gate
        .sit(Place::from_number(place.parse().expect("a number")))
        .expect("a seat");
    let mut line = String::new();
    match part {
        "runs" => {
            assert_eq!(seat.wish().ask(false).unwrap(), Answer::Go);
            seat.begins(seat.now());
            println!("ready");
            std::io::stdin().read_line(&mut line).expect("a word");
        }
        "locks" => {
            let guard = gate.memory.lock(seat.number);
            println!("ready");
            std::io::stdin().read_line(&mut line).expect("a word");
            // What it does with a lock that it has lost reaches nobody.
            assert!(!guard.is_held());
            gate.memory.change(&guard, |turns, _| {
                turns
                    .leases
                    .iter_mut()
                    .for_each(|lease| lease.used = u64::MAX);
                Changed::default()
            });
            drop(guard);
            println!("undeceived");
            std::io::stdin().read_line(&mut line).expect("a word");
        }
        "waits" => {
            let mut wish = seat.wish();
            assert!(matches!(wish.ask(false).unwrap(), Answer::Wait(_)));
            println!("ready");
            std::io::stdin().read_line(&mut line).expect("a word");
        }
        _ => panic!("no such part"),
    }
}

fn gate_for_two() -> (Arc<Gate>, [Place; 2]) {
    let gate = Arc::new(Gate::create().unwrap());
    let places = [0.5, 0.5].map(|part| gate.admit(Share::new(part, false)).unwrap());
    (gate, places)
}

#[test]
fn a_killed_holder_s_turn_and_seat_are_free() {
    let (gate, places) = gate_for_two();
    let mut player = Player::start(&gate, places[0], "runs");
    let seat = gate.sit(places[1]).unwrap();
    assert!(seat.is_shared());
    assert!(matches!(seat.wish().ask(false).unwrap(), Answer::Wait(_)));
    player.child.kill().unwrap();
    player.child.wait().unwrap();
    // Nobody tells it: it looks by itself.
    turn(&seat);
    let end = Instant::now() + LIMIT;
    while seat.is_shared() {
        assert!(Instant::now() < end, "the dead worker counts still");
        seat.wait(seat.news(), seat.now() + LOOK);
    }
    assert!(gate.used(places[0]) > Duration::ZERO, "it is charged");
}

#[test]
fn who_tells_of_a_killed_one_frees_its_turn_at_once() {
    let (gate, places) = gate_for_two();
    let mut player = Player::start(&gate, places[0], "runs");
    let seat = gate.sit(places[1]).unwrap();
    let mut wish = seat.wish();
    assert!(matches!(wish.ask(false).unwrap(), Answer::Wait(_)));
    let seen = seat.news();
    player.child.kill().unwrap();
    player.child.wait().unwrap();
    gate.reap();
    assert_ne!(seat.news(), seen);
    assert_eq!(wish.ask(false).unwrap(), Answer::Go);
}

#[test]
fn a_killed_one_that_waited_gets_no_turn() {
    let (gate, places) = gate_for_two();
    let mut holder = Player::start(&gate, places[0], "runs");
    let mut waiting = Player::start(&gate, places[1], "waits");
    waiting.child.kill().unwrap();
    waiting.child.wait().unwrap();
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    gate.reap();
    let seat = gate.sit(places[1]).unwrap();
    assert_eq!(seat.wish().ask(false).unwrap(), Answer::Go);
}

#[test]
fn a_stopped_holder_is_waited_for_until_it_is_overdue() {
    let (gate, places) = gate_for_two();
    let player = Player::start(&gate, places[0], "runs");
    player.signal(Signal::STOP);
    let seat = gate.sit(places[1]).unwrap();
    turn(&seat);
    assert!(seat.is_shared(), "it lives");
    player.signal(Signal::CONT);
}

#[test]
fn a_killed_owner_s_lock_is_taken() {
    let (gate, places) = gate_for_two();
    let mut player = Player::start(&gate, places[0], "locks");
    player.child.kill().unwrap();
    player.child.wait().unwrap();
    let begin = Instant::now();
    let seat = gate.sit(places[1]).unwrap();
    turn(&seat);
    assert!(begin.elapsed() < LIMIT);
}

#[test]
fn a_stopped_owner_s_lock_is_taken_and_it_cannot_harm() {
    let (gate, places) = gate_for_two();
    let mut player = Player::start(&gate, places[0], "locks");
    player.signal(Signal::STOP);
    let begin = Instant::now();
    let seat = gate.sit(places[1]).unwrap();
    turn(&seat);
    assert!(begin.elapsed() < LIMIT);
    let guard = gate.memory.lock(seat.number);
    player.signal(Signal::CONT);
    player.tell();
    player.hears("undeceived");
    assert!(guard.is_held(), "it has let go of another's lock");
    drop(guard);
    assert_eq!(gate.used(places[0]), Duration::ZERO);
    turn(&seat);
}
