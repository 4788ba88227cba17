//! Turns in simulated time, and a gate in this process.

use proptest::prelude::*;

use super::turns::{Answer, CLAIM, Lease, OVERDUE, Turns};
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
    Runs { since: u64, until: u64 },
}

#[derive(Debug, Default)]
struct Outcome {
    used: Vec<u64>,
    longest_wait: Vec<u64>,
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
        ..Outcome::default()
    };
    let mut now = STEP;
    while now < time {
        for (place, tenant) in tenants.iter().enumerate() {
            match doing[place] {
                Doing::Runs { since, until } if now >= until => {
                    turns.leases[place].running_since = 0;
                    turns.done(place, since, until, now);
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
            if matches!(doing[place], Doing::Asks) && turns.ask(place, now).0 == Answer::Go {
                turns.leases[place].running_since = now;
                let waited = &mut outcome.longest_wait[place];
                *waited = (*waited).max(now - asked_at[place]);
                doing[place] = Doing::Runs {
                    since: now,
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
    assert!(outcome.used[1] > time / 2, "{outcome:?}");
}

#[test]
fn debt_is_paid_before_others_are_passed_over() {
    let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
    assert_eq!(turns.ask(0, 1).0, Answer::Go);
    turns.leases[0].running_since = 1;
    assert!(matches!(turns.ask(1, 2).0, Answer::Wait(_)));
    let mut now = 100 * MILLISECOND;
    turns.leases[0].running_since = 0;
    assert_eq!(turns.done(0, 1, now, now).next, Some(1));
    // It owes a hundred milliseconds: so long the other one goes on.
    let mut kernels = 0;
    while turns.ask(1, now).0 == Answer::Go {
        turns.leases[1].running_since = now;
        assert!(matches!(turns.ask(0, now).0, Answer::Wait(_)));
        let began = now;
        now += 10 * MILLISECOND;
        turns.leases[1].running_since = 0;
        turns.leases[1].waits = true;
        turns.done(1, began, now, now);
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
    assert_eq!(turns.ask(0, now).0, Answer::Go);
    now += MILLISECOND;
    turns.ask(1, now);
    assert_eq!(turns.leases[1].virtual_time, 1_000 * MILLISECOND);
}

#[test]
fn a_turn_that_is_not_taken_up_passes_on() {
    let mut turns = turns(&[tenant(0.5, 0, 0), tenant(0.5, 0, 0)]);
    turns.leases[0].waits = true;
    turns.settle(1);
    assert_eq!(turns.holder, Some(0));
    assert_eq!(turns.ask(1, 2).0, Answer::Wait(1 + CLAIM));
    assert_eq!(turns.ask(1, 1 + CLAIM).0, Answer::Go);
    assert_eq!(turns.lapsed, [0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

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
                    if turns.ask(place, now).0 == Answer::Go && event == 1 {
                        turns.leases[place].running_since = now;
                    }
                }
                2 => {
                    let began = std::mem::take(&mut turns.leases[place].running_since);
                    if began != 0 {
                        turns.done(place, began, now, now);
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
        while let (Answer::Wait(until), _) = turns.ask(2, now) {
            prop_assert!(until > now, "a wait without end");
            now = until;
            tries += 1;
            prop_assert!(tries < 20);
        }
    }
}

#[test]
fn a_gate_counts_what_is_used() {
    let gate = Arc::new(Gate::create().unwrap());
    let place = gate.admit(Share::new(0.5, false)).unwrap();
    assert_eq!(Place::from_number(place.to_number()), place);
    let seat = gate.sit(place).unwrap();
    assert!(!seat.is_open());
    assert_eq!(seat.ask(), Answer::Go);
    assert!(seat.is_open() && !seat.is_shared());
    let now = seat.now();
    seat.runs_since(now);
    seat.runs_since(0);
    seat.done(now, now + 1_000);
    seat.done(now, now + 3_000);
    assert_eq!(gate.used(place), Duration::from_nanos(3_000));
    gate.dismiss(place);
    assert_eq!(gate.used(place), Duration::ZERO);
    assert!(matches!(gate.sit(place), Err(GateError::Dismissed)));
}

#[test]
fn a_waiting_one_is_woken_when_the_turn_passes() {
    let gate = Arc::new(Gate::create().unwrap());
    let seats: Vec<Seat> = [0.5, 0.5]
        .map(|part| {
            gate.sit(gate.admit(Share::new(part, false)).unwrap())
                .unwrap()
        })
        .into();
    assert_eq!(seats[0].ask(), Answer::Go);
    assert!(seats[0].is_shared());
    let began = seats[0].now();
    seats[0].runs_since(began);
    let seen = seats[1].news();
    assert!(matches!(seats[1].ask(), Answer::Wait(_)));
    assert!(!seats[0].is_open());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = seats[1].now() + 60_000 * MILLISECOND;
            while seats[1].news() == seen && seats[1].now() < end {
                seats[1].wait(seen, end);
            }
        });
        seats[0].runs_since(0);
        seats[0].done(began, seats[0].now());
    });
    assert_ne!(seats[1].news(), seen);
    assert_eq!(seats[1].ask(), Answer::Go);
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
