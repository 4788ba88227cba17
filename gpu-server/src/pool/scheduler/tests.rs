//! The pool with made-up events and any clock.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::hello::DeviceKind;

use super::*;
use crate::pool::{Device, Limits, Packing, Portion, Refusal, ServerFacts};

const GIB: u64 = 1 << 30;

fn moment(seconds: u64) -> Moment {
    Moment(seconds * 1000)
}

fn device(ordinal: u32, gibibytes: u64) -> Device {
    Device {
        ordinal,
        uuid: [u8::try_from(ordinal).unwrap_or(0); 16],
        name: format!("GPU {gibibytes}"),
        total_memory: gibibytes * GIB,
        usable_memory: gibibytes * GIB,
        least_slice: GIB / 2,
    }
}

fn capacity(devices: &[u64]) -> Capacity {
    let devices = (0..).zip(devices);
    Capacity {
        server: ServerFacts {
            hostname: "gpu1".to_owned(),
            has_rdma: false,
            driver_version: 13000,
            driver_release: "580.82.07".to_owned(),
            kind: DeviceKind::Software,
        },
        devices: devices
            .map(|(ordinal, size)| device(ordinal, *size))
            .collect(),
    }
}

fn pool(devices: &[u64]) -> Scheduler {
    Scheduler::new(capacity(devices), Policy::default(), moment(0))
}

fn caller(tenant: &str) -> Caller {
    Caller::unlimited(tenant.parse().expect("a tenant"), false)
}

fn need(count: u32, memory: Portion) -> Need {
    Need {
        count,
        memory,
        compute: None,
        filters: Vec::new(),
        kind: None,
    }
}

fn part(hundredths: u64) -> Portion {
    Portion::Fraction(Compute::from_millionths(hundredths * 10_000))
}

fn ask(tenant: &str, need: Need) -> Ask {
    Ask {
        lease: LeaseId::random().expect("random numbers"),
        caller: caller(tenant),
        need,
        holder: Holder::default(),
        keeping: Keeping::Attached,
        time: None,
        waits: true,
    }
}

/// The leases that these decisions grant, by request.
fn granted(decisions: &[Decision]) -> BTreeMap<RequestId, Lease> {
    let grant = |decision: &Decision| match decision {
        Decision::Granted { request, lease } => Some((*request, (**lease).clone())),
        _ => None,
    };
    decisions.iter().filter_map(grant).collect()
}

fn refusal(decisions: &[Decision]) -> Option<&Refusal> {
    decisions.iter().find_map(|decision| match decision {
        Decision::Refused { refusal, .. } => Some(refusal),
        _ => None,
    })
}

fn take(pool: &mut Scheduler, tenant: &str, need: Need, now: u64) -> Lease {
    let (id, decisions) = pool.request(ask(tenant, need), moment(now));
    granted(&decisions).remove(&id).expect("it fits")
}

fn give(pool: &mut Scheduler, lease: &Lease, now: u64) -> Vec<Decision> {
    let caller = caller(lease.tenant.as_str());
    let ended = pool.release(&lease.id, &caller, moment(now));
    ended.expect("its own lease")
}

#[test]
fn forty_small_slices_are_on_one_device_at_once() {
    let mut pool = pool(&[40]);
    for number in 0..40 {
        let mut small = need(1, Portion::Bytes(GIB));
        small.compute = Some(Compute::from_millionths(25_000));
        take(&mut pool, "a", small, number);
    }
    let free = pool.free();
    assert_eq!((free[0].memory, free[0].compute), (0, Compute::NONE));
    let (_, decisions) = pool.request(ask("a", need(1, Portion::Bytes(GIB))), moment(50));
    assert!(granted(&decisions).is_empty());
}

#[test]
fn equal_parts_fit_and_one_more_waits() {
    let mut pool = pool(&[16]);
    let leases: Vec<Lease> = (0..3)
        .map(|_| take(&mut pool, "a", need(1, part(33)), 0))
        .collect();
    let (fourth, decisions) = pool.request(ask("b", need(1, part(33))), moment(1));
    match &decisions[..] {
        [Decision::Queued { request, place }] => {
            assert_eq!((*request, place.position, place.length), (fourth, 1, 1));
            assert!(place.reason.contains("1 device"), "{}", place.reason);
        }
        other => panic!("{other:?}"),
    }
    let decisions = give(&mut pool, &leases[0], 2);
    assert!(granted(&decisions).contains_key(&fourth));
}

#[test]
fn a_tenant_is_served_in_its_order_and_tenants_in_turn() {
    let mut pool = pool(&[16]);
    let whole = || need(1, Portion::Whole);
    let mut running = take(&mut pool, "a", whole(), 0);
    let ids: Vec<RequestId> = ["a", "a", "b", "b"]
        .into_iter()
        .map(|tenant| pool.request(ask(tenant, whole()), moment(1)).0)
        .collect();
    let mut order = Vec::new();
    for round in 0..4 {
        let grants = granted(&give(&mut pool, &running, 100 * (round + 1)));
        assert_eq!(grants.len(), 1);
        for (id, lease) in grants {
            order.push(id);
            running = lease;
        }
    }
    // `a` has used the device for a while, so `b` is first; then they alternate.
    assert_eq!(order, [ids[2], ids[0], ids[3], ids[1]]);
}

#[test]
fn what_can_never_be_is_refused_with_a_reason() {
    let mut pool = pool(&[16, 16]);
    let mut why = |need| {
        let (_, decisions) = pool.request(ask("a", need), moment(0));
        refusal(&decisions).expect("a refusal").to_string()
    };
    assert_eq!(
        why(need(3, Portion::Whole)),
        "no server has 3 devices; largest: gpu1 with 2"
    );
    let small = why(need(1, Portion::Bytes(GIB / 4)));
    assert!(small.contains("the least that works"), "{small}");
    let large = why(need(1, Portion::Bytes(17 * GIB)));
    assert!(large.contains("more than any device can give"), "{large}");
    let mut filtered = need(1, Portion::Whole);
    filtered.filters = vec!["device.phy-memory>=32GiB".parse().expect("a filter")];
    assert!(why(filtered).contains("no server has a device with"));
    let of_other_kind = Need {
        kind: Some(DeviceKind::Nvidia),
        ..need(1, Portion::Whole)
    };
    assert_eq!(
        why(of_other_kind),
        "no server has a device with --device gpu; gpu1 has none"
    );
}

#[test]
fn who_will_not_wait_is_told_what_would_fit() {
    let mut pool = pool(&[16]);
    take(&mut pool, "a", need(1, part(60)), 0);
    let impatient = Ask {
        waits: false,
        ..ask("b", need(1, part(50)))
    };
    let (_, decisions) = pool.request(impatient, moment(1));
    match refusal(&decisions) {
        Some(Refusal::Busy { fits_now, .. }) => assert_eq!(fits_now, "-n 1 -p 0.4"),
        other => panic!("{other:?}"),
    }
    assert!(pool.waiting().is_empty());
}

#[test]
fn packing_keeps_whole_devices_whole_and_spreading_does_not() {
    let devices = |packing| {
        let policy = Policy {
            packing,
            ..Policy::default()
        };
        let mut pool = Scheduler::new(capacity(&[16, 16]), policy, moment(0));
        let one = take(&mut pool, "a", need(1, part(25)), 0);
        let other = take(&mut pool, "b", need(1, part(25)), 0);
        (one.slices[0].ordinal, other.slices[0].ordinal)
    };
    let (one, other) = devices(Packing::Pack);
    assert_eq!(one, other);
    let (one, other) = devices(Packing::Spread);
    assert_ne!(one, other);
}

#[test]
fn a_tenant_at_its_limit_keeps_nobody_waiting() {
    let mut pool = pool(&[16]);
    let limited = |need| {
        let mut ask = ask("a", need);
        ask.caller.limits = Limits {
            leases: Some(1),
            ..Limits::default()
        };
        ask
    };
    let (first, decisions) = pool.request(limited(need(1, part(25))), moment(0));
    let first = granted(&decisions).remove(&first).expect("it fits");
    let (second, decisions) = pool.request(limited(need(1, part(25))), moment(1));
    assert!(granted(&decisions).is_empty());
    take(&mut pool, "b", need(1, part(25)), 2);
    assert!(granted(&give(&mut pool, &first, 3)).contains_key(&second));
}

#[test]
fn somebody_elses_lease_is_nobody_elses() {
    let mut pool = pool(&[16]);
    let lease = take(&mut pool, "a", need(1, part(50)), 0);
    let forbidden = LeaseError::Forbidden(lease.id.clone());
    assert_eq!(
        pool.release(&lease.id, &caller("b"), moment(1)),
        Err(forbidden.clone())
    );
    assert_eq!(pool.begin_session(&lease.id, &caller("b")), Err(forbidden));
    let operator = Caller::unlimited("root".parse().expect("a tenant"), true);
    let ended = pool
        .release(&lease.id, &operator, moment(2))
        .expect("ended");
    assert!(matches!(
        ended[0],
        Decision::Ended {
            end: LeaseEnd::Revoked,
            ..
        }
    ));
}

#[test]
fn slices_are_free_when_the_last_session_has_ended() {
    let mut pool = pool(&[16]);
    let lease = take(&mut pool, "a", need(1, Portion::Whole), 0);
    let begun = pool
        .begin_session(&lease.id, &caller("a"))
        .map(|lease| lease.sessions);
    assert_eq!(begun, Ok(1));
    let (next, _) = pool.request(ask("b", need(1, Portion::Whole)), moment(1));
    assert!(
        granted(&give(&mut pool, &lease, 2)).is_empty(),
        "its worker is still there"
    );
    let decisions = pool.end_session(&lease.id, moment(3));
    assert!(granted(&decisions).contains_key(&next));
}

#[test]
fn a_lease_without_a_holder_has_a_grace() {
    let mut pool = pool(&[16]);
    let lease = take(&mut pool, "a", need(1, Portion::Whole), 0);
    pool.let_go(&lease.id, moment(10));
    assert!(pool.expire(moment(39)).is_empty());
    let ended = pool.expire(moment(41));
    assert!(matches!(
        &ended[0],
        Decision::Ended {
            end: LeaseEnd::Abandoned,
            ..
        }
    ));
    let lease = take(&mut pool, "a", need(1, Portion::Whole), 50);
    pool.let_go(&lease.id, moment(60));
    assert!(pool.hold(&lease.id, &caller("a")).is_ok());
    assert!(pool.expire(moment(500)).is_empty());
}

#[test]
fn time_and_idleness_end_a_lease_after_a_warning() {
    let policy = Policy {
        longest_lease: Some(Duration::from_secs(3600)),
        idle_limit: Some(Duration::from_secs(600)),
        ..Policy::default()
    };
    let mut pool = Scheduler::new(capacity(&[16]), policy, moment(0));
    let idle = take(&mut pool, "a", need(1, part(50)), 0);
    let busy = take(&mut pool, "b", need(1, part(50)), 0);
    let (mut warned, mut ended) = (Vec::new(), Vec::new());
    let mut now = 0;
    while let Some(next) = pool.next_moment()
        && now < 4000
    {
        now = (next.0 / 1000).max(now + 1).min(now + 300);
        pool.used(&busy.id, moment(now));
        for decision in pool.expire(moment(now)) {
            match decision {
                Decision::Warned { lease, .. } => warned.push((lease, now)),
                Decision::Ended { lease, end, .. } => ended.push((lease.id.clone(), end, now)),
                _ => {}
            }
        }
    }
    assert_eq!(ended.len(), 2);
    assert_eq!((&ended[0].0, ended[0].1), (&idle.id, LeaseEnd::Idle));
    assert!((600..=900).contains(&ended[0].2), "{ended:?}");
    assert_eq!((&ended[1].0, ended[1].1), (&busy.id, LeaseEnd::Expired));
    for (lease, _, end) in &ended {
        assert!(warned.iter().any(|(other, at)| other == lease && at < end));
    }
}

#[test]
fn a_drain_gives_nothing_and_can_be_undone() {
    let mut pool = pool(&[16]);
    let lease = take(&mut pool, "a", need(1, part(50)), 0);
    let (waits, _) = pool.request(ask("b", need(1, Portion::Whole)), moment(1));
    let decisions = pool.drain(Drain { end: None }, moment(2));
    assert!(decisions.iter().any(|decision| matches!(
        decision,
        Decision::Refused { request, refusal: Refusal::Draining } if *request == waits
    )));
    let (_, decisions) = pool.request(ask("c", need(1, part(10))), moment(3));
    assert_eq!(refusal(&decisions), Some(&Refusal::Draining));
    assert!(pool.lease(&lease.id).is_some(), "it goes on");
    pool.undo_drain(moment(4));
    take(&mut pool, "c", need(1, part(10)), 5);
    let end = Some(moment(60));
    pool.drain(Drain { end }, moment(6));
    assert_eq!(pool.expire(moment(61)).len(), 2);
}

#[test]
fn stored_leases_are_taken_back_and_keep_their_slices() {
    let mut before = pool(&[16]);
    let lease = take(&mut before, "a", need(1, Portion::Whole), 0);
    let stored: Vec<Lease> = before.leases().cloned().collect();
    let mut after = pool(&[16]);
    after.restore(stored.clone(), None, moment(100));
    assert!(after.resume_session(&lease.id).is_ok());
    let (next, decisions) = after.request(ask("b", need(1, part(10))), moment(101));
    assert!(granted(&decisions).is_empty());
    give(&mut after, &lease, 110);
    assert!(granted(&after.end_session(&lease.id, moment(140))).contains_key(&next));
    // Its device is gone: it ends, and says so.
    let mut smaller = pool(&[]);
    let decisions = smaller.restore(stored, None, moment(100));
    assert!(
        matches!(&decisions[0], Decision::Ended { message, .. } if message == "its device is gone")
    );
}

/// What happens to a pool.
#[derive(Debug, Clone)]
enum Event {
    Ask {
        tenant: u8,
        count: u32,
        hundredths: u64,
    },
    Release(usize),
    Withdraw(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_u8..4, 1_u32..3, 5_u64..=100)
            .prop_map(|(tenant, count, hundredths)| Event::Ask { tenant, count, hundredths }),
        2 => any::<usize>().prop_map(Event::Release),
        1 => any::<usize>().prop_map(Event::Withdraw),
    ]
}

/// Nothing is given twice.
fn check_room(pool: &Scheduler) {
    for device in &pool.capacity().devices {
        let slices = pool.leases().flat_map(|lease| &lease.slices);
        let of_device = slices.filter(|slice| slice.uuid == device.uuid);
        let (memory, compute) = of_device.fold((0, Compute::NONE), |(memory, compute), slice| {
            (memory + slice.memory, compute + slice.compute)
        });
        assert!(memory <= device.usable_memory && compute <= Compute::WHOLE);
    }
    for lease in pool.leases() {
        let mut devices: Vec<_> = lease.slices.iter().map(|slice| slice.uuid).collect();
        devices.sort_unstable();
        devices.dedup();
        assert_eq!(devices.len(), lease.slices.len(), "distinct devices");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens: nothing is given twice, a tenant is served in its own order, and when everything is released everybody who
    /// waits is served.
    #[test]
    fn any_history(events in prop::collection::vec(event(), 1..60)) {
        let mut pool = pool(&[16, 24, 16]);
        let mut now = 0;
        let mut tenants: BTreeMap<RequestId, String> = BTreeMap::new();
        let mut served: BTreeMap<String, Vec<RequestId>> = BTreeMap::new();
        for event in events {
            now += 7;
            let decisions = match event {
                Event::Ask { tenant, count, hundredths } => {
                    let tenant = format!("t{tenant}");
                    let (id, decisions) = pool.request(ask(&tenant, need(count, part(hundredths))), moment(now));
                    tenants.insert(id, tenant);
                    decisions
                }
                Event::Release(which) => {
                    let all: Vec<Lease> = pool.leases().cloned().collect();
                    if all.is_empty() { continue; }
                    give(&mut pool, &all[which % all.len()], now)
                }
                Event::Withdraw(which) => {
                    if pool.waiting().is_empty() { continue; }
                    let id = pool.waiting()[which % pool.waiting().len()].id;
                    pool.withdraw(id, moment(now));
                    // Once more is no harm.
                    pool.withdraw(id, moment(now))
                }
            };
            for id in granted(&decisions).into_keys() {
                served.entry(tenants[&id].clone()).or_default().push(id);
            }
            check_room(&pool);
        }
        for _ in 0..500 {
            let all: Vec<Lease> = pool.leases().cloned().collect();
            if all.is_empty() { break; }
            now += 100;
            let decisions = give(&mut pool, &all[0], now);
            for id in granted(&decisions).into_keys() {
                served.entry(tenants[&id].clone()).or_default().push(id);
            }
            check_room(&pool);
        }
        prop_assert!(pool.waiting().is_empty(), "somebody starves");
        for ids in served.values() {
            prop_assert!(ids.is_sorted(), "a tenant was overtaken by itself");
        }
    }

    /// Filling never delays the head: with it, the first that waits is granted no later than without it, whichever leases end.
    #[test]
    fn filling_never_delays_the_head(
        held in prop::collection::vec(5_u64..=60, 1..6),
        head in 30_u64..=100,
        behind in prop::collection::vec(5_u64..=60, 1..6),
        ends in prop::collection::vec(any::<usize>(), 8),
    ) {
        let run = |fills: bool| {
            let mut pool = pool(&[16, 16]);
            pool.fills = fills;
            let mut old = Vec::new();
            for part_of in &held {
                let (id, decisions) = pool.request(ask("old", need(1, part(*part_of))), moment(0));
                old.extend(granted(&decisions).remove(&id));
                pool.withdraw(id, moment(0));
            }
            let (head, decisions) = pool.request(ask("head", need(1, part(head))), moment(1));
            if granted(&decisions).contains_key(&head) {
                return Some(0);
            }
            for (number, part_of) in behind.iter().enumerate() {
                pool.request(ask(&format!("b{number}"), need(1, part(*part_of))), moment(2));
            }
            for (step, which) in ends.iter().enumerate() {
                if old.is_empty() { return None; }
                let lease = old.remove(which % old.len());
                let decisions = give(&mut pool, &lease, 10 + step as u64);
                if granted(&decisions).contains_key(&head) {
                    return Some(step + 1);
                }
            }
            None
        };
        let (with, without) = (run(true), run(false));
        prop_assert_eq!(with, without);
    }
}
