//! Any history in one process, and processes that are killed.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 1000;

fn ledger(limits: &[u64]) -> Arc<Ledger> {
    Arc::new(Ledger::create(limits).expect("a ledger"))
}

fn taken(seat: &Seat, slice: usize, bytes: u64) {
    seat.reserve(slice, bytes).expect("room").commit();
}

#[test]
fn the_last_byte_is_given_once() {
    let ledger = ledger(&[LIMIT, 5]);
    let (one, other) = (ledger.sit(1).expect("a seat"), ledger.sit(2).expect("one"));
    taken(&one, 0, 600);
    assert_eq!(other.reserve(0, 401).err(), Some(Refusal::NoRoom));
    taken(&other, 0, 400);
    assert_eq!(one.reserve(0, 1).err(), Some(Refusal::NoRoom));
    assert_eq!(one.reserve(0, 1001).err(), Some(Refusal::TooLarge));
    assert_eq!(one.reserve(0, u64::MAX).err(), Some(Refusal::TooLarge));
    taken(&one, 1, 5);
    assert_eq!((ledger.used(0), ledger.used(1)), (LIMIT, 5));
    assert_eq!((ledger.used_by(1, 0), ledger.used_by(2, 0)), (600, 400));
    assert_eq!(
        (ledger.limit(0), ledger.limit(1), ledger.limit(2)),
        (LIMIT, 5, 0)
    );
    assert_eq!(one.reserve(2, 1).err(), Some(Refusal::TooLarge));
    drop(one);
    assert_eq!((ledger.used(0), ledger.used(1)), (400, 0));
}

#[test]
fn what_leaves_is_told_apart_until_it_has_left() {
    let ledger = ledger(&[LIMIT]);
    let (one, other) = (ledger.sit(1).expect("a seat"), ledger.sit(2).expect("one"));
    taken(&one, 0, LIMIT);
    one.leave(0, 300);
    assert_eq!(other.reserve(0, 1).err(), Some(Refusal::Leaving(300)));
    // One's own is waited for before one asks.
    assert_eq!(one.reserve(0, 1).err(), Some(Refusal::NoRoom));
    one.left(0, 300);
    taken(&other, 0, 300);
    assert_eq!(other.reserve(0, 1).err(), Some(Refusal::NoRoom));
}

#[test]
fn what_is_taken_over_counts_whether_it_fits_or_not() {
    let ledger = ledger(&[LIMIT]);
    let (one, other) = (ledger.sit(1).expect("a seat"), ledger.sit(2).expect("one"));
    taken(&one, 0, 900);
    assert!(other.take_over(0, 300));
    assert_eq!((ledger.used(0), other.held(0)), (1200, 300));
    assert_eq!(one.reserve(0, 1).err(), Some(Refusal::NoRoom));
    one.release(0, 900);
    taken(&one, 0, 700);
    other.release(0, 300);
    assert_eq!(ledger.used(0), 700);
}

#[test]
fn a_charge_that_is_not_committed_is_given_back() {
    let ledger = ledger(&[LIMIT]);
    let seat = ledger.sit(1).expect("a seat");
    let charge = seat.reserve(0, 900).expect("room");
    assert_eq!(ledger.used(0), 900);
    drop(charge);
    assert_eq!(ledger.used(0), 0);
    // More than there is cannot be given back.
    seat.release(0, 5);
    assert_eq!(ledger.used(0), 0);
}

#[test]
fn calls_for_idle_credit_are_answered_by_the_living() {
    let ledger = ledger(&[LIMIT]);
    let (one, other) = (ledger.sit(1).expect("a seat"), ledger.sit(2).expect("one"));
    let call = one.want();
    assert!(!one.have_answered(call));
    other.answer(call);
    assert!(one.have_answered(call));
    let late = ledger.sit(3).expect("a seat");
    assert!(
        one.have_answered(call),
        "who comes later holds nothing idle"
    );
    let call = one.want();
    other.answer(call);
    assert!(!one.have_answered(call));
    late.die();
    ledger.reap();
    assert!(one.have_answered(call));
    ledger.wait_wanted(call.wrapping_sub(1), Duration::from_secs(3600));
}

#[test]
fn what_is_no_ledger_is_refused() {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("a file");
    assert!(matches!(Ledger::open(file), Err(LedgerError::NotALedger)));
    assert!(matches!(Ledger::create(&[]), Err(LedgerError::Slices(0))));
    let many = [1; MAX_SLICES + 1];
    assert!(matches!(Ledger::create(&many), Err(LedgerError::Slices(_))));
}

#[test]
fn there_are_so_many_seats_and_those_of_the_dead_are_taken_again() {
    let ledger = ledger(&[LIMIT]);
    let sit = |session| ledger.sit(session);
    let mut seats: Vec<Seat> = (0..MAX_SEATS as u64).map_while(|n| sit(n).ok()).collect();
    assert_eq!(seats.len(), MAX_SEATS);
    assert!(matches!(sit(0), Err(LedgerError::Full)));
    let dead = seats.pop().expect("one");
    taken(&dead, 0, LIMIT);
    dead.die();
    let seat = sit(7777).expect("the dead one's seat");
    assert_eq!((ledger.used(0), seat.held(0)), (0, 0));
}

/// What a seat does in a history.
#[derive(Debug, Clone, Copy)]
enum Step {
    Take(u64),
    Cancel(u64),
    Leave,
    Left,
    Release,
    Stand,
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..LIMIT + 2).prop_map(Step::Take),
        2 => (0..LIMIT + 2).prop_map(Step::Cancel),
        3 => Just(Step::Leave),
        3 => Just(Step::Left),
        3 => Just(Step::Release),
        1 => Just(Step::Stand),
        1 => Just(Step::Die),
    ]
}

/// A seat and what it has, by the test's own book.
struct Sitter {
    seat: Seat,
    has: Vec<u64>,
    leaving: Vec<u64>,
}

impl Sitter {
    fn held(&self) -> u64 {
        self.has.iter().chain(&self.leaving).sum()
    }
}

proptest! {
    /// Whatever happens, the slice is never exceeded, nobody is refused what fits, and in the end nothing is taken.
    #[test]
    fn any_history_stays_inside_the_slice(steps in prop::collection::vec((0..4_u64, step()), 1..120)) {
        let ledger = ledger(&[LIMIT]);
        let mut sitters: HashMap<u64, Sitter> = HashMap::new();
        let mut dead = 0;
        for (session, step) in steps {
            let alive: u64 = sitters.values().map(Sitter::held).sum();
            let sitter = sitters.entry(session).or_insert_with(|| {
                // Sitting down clears the dead.
                dead = 0;
                Sitter { seat: ledger.sit(session).expect("a seat"), has: Vec::new(), leaving: Vec::new() }
            });
            match step {
                Step::Take(bytes) | Step::Cancel(bytes) => match sitter.seat.reserve(0, bytes) {
                    Ok(charge) => {
                        prop_assert!(alive + bytes <= LIMIT);
                        if alive + dead + bytes > LIMIT {
                            dead = 0;
                        }
                        if let Step::Take(_) = step {
                            charge.commit();
                            sitter.has.push(bytes);
                        }
                    }
                    Err(refusal) => {
                        prop_assert!(alive + bytes > LIMIT, "refused what fits");
                        if refusal != Refusal::TooLarge {
                            dead = 0;
                        }
                    }
                },
                Step::Leave => if let Some(bytes) = sitter.has.pop() {
                    sitter.seat.leave(0, bytes);
                    sitter.leaving.push(bytes);
                },
                Step::Left => if let Some(bytes) = sitter.leaving.pop() {
                    sitter.seat.left(0, bytes);
                },
                Step::Release => if let Some(bytes) = sitter.has.pop() {
                    sitter.seat.release(0, bytes);
                },
                Step::Stand => { sitters.remove(&session); }
                Step::Die => if let Some(sitter) = sitters.remove(&session) {
                    dead += sitter.held();
                    sitter.seat.die();
                },
            }
            let alive: u64 = sitters.values().map(Sitter::held).sum();
            prop_assert!(ledger.used(0) <= LIMIT);
            prop_assert!((alive..=alive + dead).contains(&ledger.used(0)));
            for (session, sitter) in &sitters {
                prop_assert_eq!(sitter.seat.held(0), sitter.held());
                prop_assert!(ledger.used_by(*session, 0) >= sitter.held());
            }
        }
        sitters.clear();
        ledger.reap();
        prop_assert_eq!(ledger.used(0), 0);
    }
}

// Processes: the test's own binary, started again as `a_process_of_a_lease`.

const ROLE: &str = "GPURUN_TEST_LEDGER_ROLE";
const DESCRIPTOR: i32 = 5;
const PROCESSES: u64 = 8;
/// Each may hold so much; together they fit exactly.
const PART: u64 = 1 << 20;
const TIME_LIMIT: Duration = Duration::from_secs(60);

fn start(ledger: &Ledger, role: &str) -> Child {
    let descriptor = ledger.descriptor().try_clone_to_owned().expect("a copy");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args([
            "--exact",
            "ledger::tests::a_process_of_a_lease",
            "--nocapture",
        ])
        .env(ROLE, role)
        .stdout(Stdio::null())
        .fd_mappings(vec![FdMapping {
            parent_fd: descriptor,
            child_fd: DESCRIPTOR,
        }])
        .expect("a descriptor");
    command.spawn().expect("a process")
}

/// What a driver needs for mapping memory, and less than the network does for asking for it.
const MAPPING: Duration = Duration::from_micros(20);

fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Takes and gives back random amounts, at most its part at a time, and ends with nothing; or, as one that is to be killed, goes on for ever.
#[test]
fn a_process_of_a_lease() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let descriptor: OwnedFd = crate::inherited::take(DESCRIPTOR).expect("the ledger");
    let ledger = Arc::new(Ledger::open(descriptor).expect("a ledger"));
    let number = u64::from(std::process::id());
    let seat = ledger.sit(number).expect("a seat");
    let mut random = number;
    seat.reserve(0, 1).expect("it fits").commit();
    let (mut has, mut held) = (vec![1], 1);
    while ledger.wanted() == 0 {
        ledger.wait_wanted(0, TIME_LIMIT);
    }
    let end = Instant::now() + TIME_LIMIT;
    for round in 0.. {
        if role == "ends" && round > 1000 && ledger.wanted() > 1 {
            break;
        }
        spin(MAPPING);
        assert!(Instant::now() < end, "it should have been killed");
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let bytes = (random >> 33) % PART;
        if held + bytes <= PART {
            // What the others have ever had fits beside it: there is no reason to refuse.
            seat.reserve(0, bytes).expect("it fits").commit();
            has.push(bytes);
            held += bytes;
        } else if let Some(bytes) = has.pop() {
            seat.leave(0, bytes);
            seat.left(0, bytes);
            held -= bytes;
        }
    }
}

/// Waits until all have sat down, and lets them begin.
fn begin(ledger: &Arc<Ledger>, processes: &[Child]) {
    let end = Instant::now() + TIME_LIMIT;
    for process in processes {
        while ledger.used_by(process.id().into(), 0) == 0 {
            assert!(Instant::now() < end, "it takes nothing");
        }
    }
    ledger.sit(0).expect("a seat").want();
}

/// Looks until several are seen to hold something at one time, and then until all have ended; the slice must never be exceeded.
fn watch(ledger: &Arc<Ledger>, mut processes: Vec<Child>) {
    let end = Instant::now() + TIME_LIMIT;
    let seat = ledger.sit(0).expect("a seat");
    let mut have_raced = false;
    while !processes.is_empty() {
        assert!(Instant::now() < end, "they do not end");
        let used = ledger.used(0);
        assert!(used <= ledger.limit(0), "{used} of {}", ledger.limit(0));
        if used > PART && !have_raced {
            have_raced = true;
            seat.want();
        }
        processes.retain_mut(|process| match process.try_wait().expect("a status") {
            Some(status) => {
                assert!(status.success(), "{status}: it was refused what fits");
                false
            }
            None => true,
        });
    }
}

#[test]
fn racing_processes_never_exceed_and_are_never_refused_what_fits() {
    let ledger = ledger(&[PROCESSES * PART]);
    let processes: Vec<_> = (0..PROCESSES).map(|_| start(&ledger, "ends")).collect();
    begin(&ledger, &processes);
    watch(&ledger, processes);
    assert_eq!(ledger.used(0), 0);
}

/// Those that are killed hold what the others need: the others get it without anybody's help.
#[test]
fn killed_processes_give_back() {
    let (victims, rest) = (PROCESSES / 2, PROCESSES / 2);
    for _ in 0..3 {
        let ledger = ledger(&[PROCESSES * PART]);
        let mut killed: Vec<Child> = (0..victims).map(|_| start(&ledger, "killed")).collect();
        begin(&ledger, &killed);
        let survivors: Vec<Child> = (0..rest).map(|_| start(&ledger, "ends")).collect();
        for process in &mut killed {
            process.kill().expect("killed");
            process.wait().expect("gone");
        }
        // As many again find room beside the survivors only where the dead have given back.
        let more = (0..victims).map(|_| start(&ledger, "ends"));
        watch(&ledger, survivors.into_iter().chain(more).collect());
        ledger.reap();
        assert_eq!(ledger.used(0), 0);
    }
}
