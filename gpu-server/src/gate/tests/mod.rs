//! Turns in simulated time, a gate in this process, and one among processes that are killed and stopped.

mod processes;

use std::time::Instant;

use proptest::prelude::*;

use super::turns::{Answer, CLAIM, LOOK, Lease, MOST_OWED, OVERDUE, RECENT, Turns};
use super::*;

const MILLISECOND: u64 = 1_000_000;

/// A tenant of the simulation: launches kernels of one length, and thinks after each.
#[derive(Debug, Clone, Copy)]
struct Tenant {
    share: Share,
    kernel: u64,
    think: u64,
}

fn tenant(fraction: f64, kernel: u64, think: u64) -> Tenant {
    Tenant {
        share: Share::new(fraction, false),
        kernel,
        think,
    }
}

/// What a simulated tenant does until then.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Thinks(u64),
    Asks,
    Runs { until: u64 },
}

#[derive(Debug, Default)]
struct Outcome {
    used: Vec<u64>,
    longest_wait: Vec<u64>,
    kernels: Vec<u64>,
    idle: u64,
}

fn turns(tenants: &[Tenant]) -> Turns {
    let leases = tenants.iter().map(|tenant| Lease {
        parts: tenant.share.parts,
        is_capped: tenant.share.is_capped,
        ..Lease::default()
    });
    Turns {
        leases: leases.collect(),
        ..Turns::default()
    }
}

/// Lets them run for a time, by steps of a tenth of a millisecond.
fn simulate(tenants: &[Tenant], time: u64) -> Outcome {
    const STEP: u64 = MILLISECOND / 10;
    let mut turns = turns(tenants);
    let mut doing = vec![Doing::Asks; tenants.len()];
    let mut asked_at = vec![STEP; tenants.len()];
    let mut outcome = Outcome {
        longest_wait: vec![0; tenants.len()],
        kernels: vec![0; tenants.len()],
        ..Outcome::default()
    };
    let mut now = STEP;
    while now < time {
        for (place, tenant) in tenants.iter().enumerate() {
            match doing[place] {
                Doing::Runs { until } if now >= until => {
                    turns.done(place, 0, now);
                    outcome.kernels[place] += 1;
                    doing[place] = Doing::Thinks(now + tenant.think);
                }
                _ => {}
            }
            if matches!(doing[place], Doing::Thinks(until) if now >= until) {
                doing[place] = Doing::Asks;
                asked_at[place] = now;
            }
        }
        for (place, tenant) in tenants.iter().enumerate() {
            if matches!(doing[place], Doing::Asks) && turns.ask(place, false, now).0 == Answer::Go {
                turns.leases[place].running_since = now;
                let waited = &mut outcome.longest_wait[place];
                *waited = (*waited).max(now - asked_at[place]);
                doing[place] = Doing::Runs {
                    until: now + tenant.kernel,
                };
            }
        }
        let running = doing
            .iter()
            .filter(|doing| matches!(doing, Doing::Runs { .. }));
        let running = running.count();
        assert!(running <= 1 || tenants.iter().any(|tenant| tenant.kernel >= OVERDUE));
        outcome.idle += if running == 0 { STEP } else { 0 };
        now += STEP;
    }
    outcome.used = turns.leases.iter().map(|lease| lease.used).collect();
    outcome
}

#[test]
fn time_is_divided_by_shares_whatever_the_kernels() {
    let tenants = [
        tenant(0.25, 50 * MILLISECOND, 0),
        tenant(0.5, 3 * MILLISECOND, 0),
        tenant(0.25, 11 * MILLISECOND, 0),
    ];
    let time = 10_000 * MILLISECOND;
    let outcome = simulate(&tenants, time);
    for (used, tenant) in outcome.used.iter().zip(tenants) {
        let part = *used as f64 / time as f64;
        let due = f64::from(tenant.share.parts) / f64::from(WHOLE);
        assert!((part - due).abs() < 0.02, "{part} of {due}: {outcome:?}");
    }
    assert!(outcome.idle < time / 50, "{outcome:?}");
}

#[test]
fn who_is_alone_has_all() {
    let outcome = simulate(&[tenant(0.1, 5 * MILLISECOND, 0)], 1_000 * MILLISECOND);
    assert!(outcome.idle <= 30 * MILLISECOND, "{outcome:?}");
}

#[test]
fn a_ceiling_holds_for_who_is_alone() {
    let mut capped = tenant(0.25, 20 * MILLISECOND, 0);
    capped.share.is_capped = true;
    let time = 10_000 * MILLISECOND;
    let used = simulate(&[capped], time).used[0];
    assert!(used <= time / 4 + 20 * MILLISECOND, "{used}");
    assert!(used >= time / 4 - 100 * MILLISECOND, "{used}");
}

#[test]
fn what_an_idle_one_leaves_goes_to_the_others() {
    let rare = tenant(0.75, MILLISECOND, 100 * MILLISECOND);
    let busy = tenant(0.25, 5 * MILLISECOND, 0);
    let time = 5_000 * MILLISECOND;
    let outcome = simulate(&[rare, busy], time);
    assert!(outcome.idle < time / 50, "{outcome:?}");
    assert!(outcome.used[1] > time / 100 * 94, "{outcome:?}");
}

#[test]
fn a_rare_one_waits_for_one_kernel_at_most() {
    let rare = tenant(0.1, MILLISECOND, 37 * MILLISECOND);
    let busy = tenant(0.9, 20 * MILLISECOND, 0);
    let outcome = simulate(&[rare, busy], 10_000 * MILLISECOND);
    assert!(outcome.longest_wait[0] <= 21 * MILLISECOND, "{outcome:?}");
}

#[test]
fn an_endless_kernel_does_not_hold_the_others() {
    let endless = tenant(0.5, u64::MAX / 4, 0);
    let other = tenant(0.5, 5 * MILLISECOND, 0);
    let time = 3_000 * MILLISECOND;
    let outcome = simulate(&[endless, other], time);
    assert!(outcome.longest_wait[1] <= OVERDUE + MILLISECOND);
    // While both run, each has half of the device, and is charged that.
    let kernels = (time - OVERDUE) / (5 * MILLISECOND);
    assert!(outcome.kernels[1] > kernels * 9 / 10, "{outcome:?}");
    let charged = outcome.used[0] + outcome.used[1];
    assert!(charged <= time && charged > time * 9 / 10, "{outcome:?}");
    assert!(outcome.used[0] >= outcome.used[1], "{outcome:?}");
}

#[test]
fn debt_is_paid_before_others_are_passed_over() {
    let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
    assert_eq!(turns.ask(0, false, 1).0, Answer::Go);
    turns.leases[0].running_since = 1;
    assert!(matches!(turns.ask(1, false, 2).0, Answer::Wait(_)));
    let mut now = 100 * MILLISECOND;
    assert_eq!(turns.done(0, 0, now).next, Some(1));
    // It owes a hundred milliseconds: so long the other one goes on.
    let mut kernels = 0;
    while turns.ask(1, false, now).0 == Answer::Go {
        turns.leases[1].running_since = now;
        assert!(matches!(turns.ask(0, false, now).0, Answer::Wait(_)));
        now += 10 * MILLISECOND;
        turns.leases[1].waits = true;
        turns.done(1, 0, now);
        kernels += 1;
    }
    assert!((9..=11).contains(&kernels), "{kernels}");
}

#[test]
fn idling_earns_nothing() {
    let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
    turns.leases[0].virtual_time = 1_000 * MILLISECOND;
    let mut now = 1;
    // Alone for a second turn.
    turns.holder = None;
    assert_eq!(turns.ask(0, false, now).0, Answer::Go);
    now += MILLISECOND;
    turns.ask(1, false, now);
    assert_eq!(turns.leases[1].virtual_time, 1_000 * MILLISECOND);
}

#[test]
fn what_was_used_alone_is_not_owed() {
    let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
    let mut now = 1;
    // The first has been alone, unasked, and runs on.
    turns.leases[0].pay_unshared(10_000 * MILLISECOND, now);
    turns.leases[0].running_since = now;
    now += 5 * MILLISECOND;
    assert!(matches!(turns.ask(1, false, now).0, Answer::Wait(_)));
    let first = turns.leases[0].virtual_time;
    assert_eq!(first, 2 * 10_005 * MILLISECOND);
    assert_eq!(turns.leases[1].virtual_time, first);
    // Nor where nobody has used the device lately.
    turns.leases[1].waits = false;
    turns.done(0, 0, now);
    now += 60_000 * MILLISECOND;
    turns.ask(2, false, now);
    assert_eq!(turns.leases[2].virtual_time, turns.leases[0].virtual_time);
}

#[test]
fn a_short_absence_keeps_what_is_owed_and_no_more_than_that() {
    for (gap, behind, kept) in [
        (MILLISECOND, 300, 300),
        (MILLISECOND, 5_000, MOST_OWED / MILLISECOND),
        (2 * RECENT, 300, 0),
    ] {
        let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
        let now = 100_000 * MILLISECOND;
        turns.leases[0].virtual_time = 9_000 * MILLISECOND;
        turns.leases[0].waits = true;
        turns.leases[1].virtual_time = (9_000 - behind) * MILLISECOND;
        turns.leases[1].idle_since = now - gap;
        turns.ask(1, false, now);
        let found = 9_000 * MILLISECOND - turns.leases[1].virtual_time;
        assert_eq!(found, kept * MILLISECOND, "{gap} {behind}");
    }
}

#[test]
fn who_has_enough_on_the_device_lines_up_and_keeps_its_due() {
    let mut turns = turns(&[tenant(0.9, 0, 0), tenant(0.1, 0, 0)]);
    assert_eq!(turns.ask(0, false, 1).0, Answer::Go);
    turns.leases[0].running_since = 1;
    assert!(matches!(turns.ask(0, true, 2).0, Answer::Wait(_)));
    assert!(matches!(turns.ask(1, false, 3).0, Answer::Wait(_)));
    // It has used less than its due, and wants more: it keeps the turn.
    turns.leases[1].virtual_time = 50 * MILLISECOND;
    let now = 20 * MILLISECOND;
    assert_eq!(turns.done(0, 0, now).next, None);
    assert_eq!(turns.ask(0, false, now).0, Answer::Go);
}

#[test]
fn a_turn_that_is_not_taken_up_passes_on() {
    let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
    turns.leases[0].waits = true;
    turns.settle(1);
    assert_eq!(turns.holder, Some(0));
    assert_eq!(turns.ask(1, false, 2).0, Answer::Wait(1 + CLAIM));
    assert_eq!(turns.ask(1, false, 1 + CLAIM).0, Answer::Go);
    assert_eq!(turns.lapsed, [0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the shares and kernels: who always wants gets its due, and the device is never idle while somebody wants it.
    #[test]
    fn everybody_gets_a_due(
        wants in prop::collection::vec((1_u32..20, 1_u64..50), 2..8),
    ) {
        let sum: u32 = wants.iter().map(|(parts, _)| parts).sum();
        let tenants: Vec<Tenant> = wants
            .iter()
            .map(|(parts, kernel)| tenant(f64::from(*parts) / f64::from(sum), kernel * MILLISECOND, 0))
            .collect();
        let time = 20_000 * MILLISECOND;
        let outcome = simulate(&tenants, time);
        for (used, tenant) in outcome.used.iter().zip(&tenants) {
            let part = *used as f64 / time as f64;
            let due = f64::from(tenant.share.parts) / f64::from(WHOLE);
            prop_assert!((part - due).abs() < 0.03, "{} of {}: {:?}", part, due, outcome);
        }
        prop_assert!(outcome.idle < time / 20, "{:?}", outcome);
    }

    /// Any order of events leaves it with a turn for who waits: nobody is forgotten.
    #[test]
    fn nobody_is_forgotten(events in prop::collection::vec((0_usize..4, 0_u8..4, 0_u64..400), 0..200)) {
        let mut turns = turns(&[tenant(0.1, 0, 0); 4]);
        let mut now = 1;
        for (place, event, pause) in events {
            now += pause * MILLISECOND;
            match event {
                0 | 1 => {
                    if turns.ask(place, false, now).0 == Answer::Go && event == 1 {
                        turns.leases[place].running_since = now;
                    }
                }
                2 => {
                    if turns.leases[place].running_since != 0 {
                        turns.done(place, 0, now);
                    }
                }
                _ => turns.leases[place].waits = false,
            }
        }
        for lease in &mut turns.leases {
            lease.waits = false;
        }
        // Whoever asks patiently gets it within the sum of all patience.
        let mut tries = 0;
        while let (Answer::Wait(until), _) = turns.ask(2, false, now) {
            prop_assert!(until > now, "a wait without end");
            now = until;
            tries += 1;
            prop_assert!(tries < 20);
        }
    }
}

/// A gate with seats at as many places.
fn seats(parts: &[f64]) -> (Arc<Gate>, Vec<Place>, Vec<Seat>) {
    let gate = Arc::new(Gate::create().unwrap());
    let admit = |part: &f64| gate.admit(Share::new(*part, false)).unwrap();
    let places: Vec<Place> = parts.iter().map(admit).collect();
    let seats = places.iter().map(|place| gate.sit(*place).unwrap());
    let seats = seats.collect();
    (gate, places, seats)
}

/// How long anything here may take: five times what it should at most.
const LIMIT: Duration = Duration::from_nanos(5 * (LOOK + OVERDUE));

/// Waits for a seat's turn.
fn turn(seat: &Seat) {
    granted(seat, &mut seat.wish());
}

fn granted(seat: &Seat, wish: &mut Wish<'_>) {
    let begin = Instant::now();
    loop {
        let seen = seat.news();
        match wish.ask(false).unwrap() {
            Answer::Go => return,
            Answer::Wait(until) => seat.wait(seen, until),
        }
        assert!(begin.elapsed() < LIMIT, "it never has the turn");
    }
}

#[test]
fn a_gate_counts_what_is_used() {
    let (gate, places, seats) = seats(&[0.5]);
    let (place, seat) = (places[0], &seats[0]);
    assert_eq!(Place::from_number(place.to_number()), place);
    assert!(!seat.is_shared());
    let long = Duration::from_nanos(seat.now() / 4);
    seat.begins(seat.now() - long.as_nanos() as u64);
    let used = gate.used(place);
    assert!(used >= long && used < long * 2, "charged while it runs");
    // What is charged is not charged again.
    seat.done(0, seat.now());
    let later = gate.used(place);
    assert!(later >= used && later < long * 2);
    seat.begins(seat.now());
    seat.done(0, seat.now());
    assert!(gate.used(place) < long * 2);
    gate.dismiss(place);
    assert_eq!(gate.used(place), Duration::ZERO);
    assert_eq!(gate.last_active(place), None);
    assert!(matches!(gate.sit(place), Err(GateError::Dismissed)));
}

#[test]
fn work_that_nobody_else_saw_is_added_up() {
    let (gate, places, mut seats) = seats(&[0.5]);
    let second = 1_000_000_000;
    for _ in 0..3 {
        seats[0].begins(seats[0].now() - second);
        seats[0].done(0, seats[0].now());
    }
    let expected = Duration::from_secs(3)..Duration::from_secs(4);
    assert!(expected.contains(&gate.used(places[0])));
    // Also of a worker that leaves in the middle of its work.
    seats[0].begins(seats[0].now() - second);
    seats.clear();
    let expected = Duration::from_secs(4)..Duration::from_secs(5);
    assert!(expected.contains(&gate.used(places[0])));
}

#[test]
fn a_seat_notices_that_its_place_is_another_lease_s() {
    let (gate, places, seats) = seats(&[0.5, 0.5]);
    let mut wish = seats[0].wish();
    assert_eq!(wish.ask(false).unwrap(), Answer::Go);
    let seen = seats[0].news();
    gate.dismiss(places[0]);
    assert_ne!(seats[0].news(), seen, "who waits is woken");
    let successor = gate.admit(Share::new(0.5, false)).unwrap();
    assert_ne!(successor, places[0]);
    assert_eq!(successor.index, places[0].index);
    assert!(matches!(wish.ask(false), Err(GateError::Dismissed)));
    assert!(!seats[0].is_open());
    // Nothing that it says is charged to the new lease, nor holds the other one.
    seats[0].begins(1);
    seats[0].done(0, seats[0].now());
    seats[0].begins(1);
    assert_eq!(gate.used(successor), Duration::ZERO);
    assert_eq!(seats[1].wish().ask(false).unwrap(), Answer::Go);
    drop(wish);
    let mut seats = seats;
    seats.truncate(0);
    assert!(gate.sit(successor).is_ok());
}

#[test]
fn several_threads_of_a_worker_wait_each_for_itself() {
    let (_gate, _, seats) = seats(&[0.5, 0.5]);
    assert_eq!(seats[0].wish().ask(false).unwrap(), Answer::Go);
    seats[0].begins(seats[0].now());
    let mut wishes = [seats[1].wish(), seats[1].wish()];
    for wish in &mut wishes {
        assert!(matches!(wish.ask(false).unwrap(), Answer::Wait(_)));
    }
    // One of them gives up; the other waits still, so the turn passes.
    let [given_up, mut other] = wishes;
    drop(given_up);
    seats[0].done(0, seats[0].now());
    granted(&seats[1], &mut other);
}

#[test]
fn a_lease_is_active_while_it_runs_or_waits() {
    let (gate, places, seats) = seats(&[0.5, 0.5]);
    let long_ago = |place: Place| {
        let memory = &gate.memory;
        let words = [
            &memory.place(place.index).last_active_ms,
            &memory.seat(place.index).last_active_ms,
        ];
        words
            .iter()
            .for_each(|word| word.store(1, Ordering::Relaxed));
    };
    let begin = memory::wall_ms();
    assert!(gate.last_active(places[0]).unwrap() >= begin - 60_000);
    places.iter().for_each(|place| long_ago(*place));
    assert_eq!(gate.last_active(places[0]), Some(1));
    seats[0].begins(seats[0].now());
    assert!(gate.last_active(places[0]).unwrap() >= begin);
    let mut wish = seats[1].wish();
    assert!(matches!(wish.ask(false).unwrap(), Answer::Wait(_)));
    assert!(gate.last_active(places[1]).unwrap() >= begin);
    drop(wish);
    seats[0].done(0, seats[0].now());
    assert_eq!(gate.last_active(places[0]), Some(1));
    seats[0].is_active();
    assert!(gate.last_active(places[0]).unwrap() >= begin);
    drop(seats);
    assert!(gate.last_active(places[0]).unwrap() >= begin);
    assert_eq!(gate.last_active(places[1]), Some(1));
}

#[test]
fn a_waiting_one_is_woken_when_the_turn_passes() {
    let (_gate, _, seats) = seats(&[0.5, 0.5]);
    assert_eq!(seats[0].wish().ask(false).unwrap(), Answer::Go);
    assert!(seats[0].is_shared());
    seats[0].begins(seats[0].now());
    let seen = seats[1].news();
    let mut wish = seats[1].wish();
    assert!(matches!(wish.ask(false).unwrap(), Answer::Wait(_)));
    assert!(!seats[0].is_open());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = seats[1].now() + 60_000 * MILLISECOND;
            while seats[1].news() == seen && seats[1].now() < end {
                seats[1].wait(seen, end);
            }
        });
        seats[0].done(0, seats[0].now());
    });
    assert_ne!(seats[1].news(), seen);
    assert_eq!(wish.ask(false).unwrap(), Answer::Go);
}

#[test]
fn another_file_is_no_gate() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(Gate::open(file.into()), Err(GateError::NotAGate)));
    let gate = Gate::create().unwrap();
    let again = Gate::open(gate.descriptor().try_clone_to_owned().unwrap()).unwrap();
    let place = gate.admit(Share::new(1.0, false)).unwrap();
    assert_eq!(again.used(place), Duration::ZERO);
    assert!(Arc::new(again).sit(place).is_ok());
}
