//! Shares of compute time, kept by real workers on a software GPU: who gets how much, who waits how long, and what nobody can take.
//!
//! Kernels spin on the device's clock, and use is measured by the gate's, so that the results do not depend on the machine's speed. The
//! driver is named by `GPURUN_TEST_DRIVER`, or found where `scripts/build` puts it.

mod tenant;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use driver_api::wire::request as r;
use gpu_server::gate::Share;
use gpu_server::gate::turns::OVERDUE;
use protocol::limits::CLEAN_UP_LIMIT;
use tenant::{Device, OTHER_STREAM, STREAM, Tenant, parts, together};

const WARM_UP: Duration = Duration::from_millis(500);

/// How far from its share a tenant's use may be.
const CLOSE: f64 = 0.05;

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Lets tenants compete with kernels of these lengths for longer than a time, and looks what is used at its ends.
fn measure<T: Send>(
    tenants: &mut [Tenant],
    time: Duration,
    used: &(impl Fn() -> T + Sync),
    kernel: impl Fn(usize) -> Duration + Sync,
) -> (T, T) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            std::thread::sleep(WARM_UP);
            let before = used();
            std::thread::sleep(time);
            let after = used();
            is_over.store(true, Relaxed);
            (before, after)
        });
        together(tenants, |index, tenant| {
            tenant.flood(kernel(index), || is_over.load(Relaxed));
        });
        measured.join().expect("measured")
    })
}

/// Lets tenants with these shares and kernels compete, and compares what each has used.
fn compete(tenants: &[(f64, u64)], time: Duration) {
    let device = Device::new();
    let start = |(share, _): &(f64, u64)| device.tenant(*share);
    let mut workers: Vec<Tenant> = tenants.iter().map(start).collect();
    let places: Vec<_> = workers.iter().map(Tenant::place).collect();
    let used = || {
        let used = places.iter().map(|place| device.gate.used(*place));
        used.collect::<Vec<_>>()
    };
    let (before, after) = measure(&mut workers, time, &used, |index| {
        milliseconds(tenants[index].1)
    });
    let parts = parts(&before, &after);
    println!("{tenants:?}: {parts:?}");
    for ((share, _), part) in tenants.iter().zip(&parts) {
        assert!((part - share).abs() <= CLOSE, "{parts:?} of {tenants:?}");
    }
    let used: Duration = after.iter().sum::<Duration>() - before.iter().sum::<Duration>();
    assert!(
        used <= time + milliseconds(100),
        "more than there is: {used:?}"
    );
    assert!(used >= time * 8 / 10, "the device was idle: {used:?}");
}

#[test]
fn two_tenants_have_a_quarter_and_three_quarters() {
    compete(&[(0.25, 50), (0.75, 20)], Duration::from_secs(10));
}

#[test]
fn three_tenants_have_their_shares() {
    compete(&[(0.5, 2), (0.3, 30), (0.2, 11)], Duration::from_secs(5));
}

#[test]
fn eight_tenants_have_their_shares() {
    let tenants = [
        (0.3, 20),
        (0.2, 7),
        (0.1, 1),
        (0.1, 10),
        (0.1, 3),
        (0.1, 20),
        (0.05, 5),
        (0.05, 15),
    ];
    compete(&tenants, Duration::from_secs(6));
}

#[test]
fn who_is_alone_has_nearly_all_with_a_gate_and_beside_an_idle_one() {
    let device = Device::new();
    let kernel = milliseconds(40);
    let time = |tenant: &mut Tenant| {
        let begin = Instant::now();
        tenant.run_number(kernel, 15);
        begin.elapsed().as_secs_f64()
    };
    let (mut ungated, mut gated) = (device.ungated(), device.tenant(0.25));
    // By turns, and the best of several, so that what else the machine does cancels out.
    let mut compare = |what: &str| {
        let (mut without, mut with) = (f64::MAX, f64::MAX);
        for _ in 0..3 {
            without = without.min(time(&mut ungated));
            with = with.min(time(&mut gated));
        }
        println!("{what}: {with} s, without a gate {without} s");
        assert!(without / with >= 0.9, "{what}: {with} s, not {without} s");
    };
    compare("alone");
    let mut idle = device.tenant(0.75);
    idle.latency(kernel);
    compare("beside an idle one");
}

#[test]
fn who_stays_takes_what_the_other_leaves() {
    let device = Device::new();
    let time = Duration::from_secs(2);
    let mut tenants = [device.tenant(0.25), device.tenant(0.75)];
    together(&mut tenants, |_, tenant| {
        tenant.run(milliseconds(10), WARM_UP);
    });
    let before = device.used(&tenants)[0];
    tenants[0].run(milliseconds(10), time);
    let used = device.used(&tenants)[0] - before;
    assert!(used >= time * 9 / 10, "{used:?} of {time:?}");
}

#[test]
fn a_ceiling_holds_though_nobody_else_is_there() {
    let device = Device::new();
    let time = Duration::from_secs(4);
    let share = 0.3;
    let mut tenant = device.tenant_with(Share::new(share, true));
    tenant.run(milliseconds(10), WARM_UP);
    let place = tenant.place();
    let (begin, before) = (Instant::now(), device.gate.used(place));
    tenant.run(milliseconds(10), time);
    let used = (device.gate.used(place) - before).as_secs_f64();
    let part = used / begin.elapsed().as_secs_f64();
    println!("{part}");
    assert!((part - share).abs() <= CLOSE, "{part} of {share}");
}

/// The slowest of some launches, with pauses between them: more than their 99th percentile.
fn slowest(tenant: &mut Tenant, kernel: Duration) -> Duration {
    let latencies = (0..40).map(|_| {
        std::thread::sleep(milliseconds(3));
        tenant.latency(kernel)
    });
    latencies.max().unwrap_or_default()
}

#[test]
fn a_small_one_waits_for_one_kernel_of_a_large_one() {
    let device = Device::new();
    // Together a seventh of the time: less than the small one is due.
    let (short, long) = (milliseconds(20), milliseconds(120));
    let mut tenants = [device.tenant(0.25), device.tenant(0.75)];
    // What else the machine does may delay both, so there are three attempts; a wait for two kernels would spoil all of them.
    let attempt = |tenants: &mut [Tenant]| {
        let alone = slowest(&mut tenants[0], short);
        let is_over = AtomicBool::new(false);
        let beside = Mutex::new(Duration::ZERO);
        together(tenants, |index, tenant| {
            if index == 0 {
                *beside.lock().expect("told") = slowest(tenant, short);
                is_over.store(true, Relaxed);
            } else {
                tenant.run_until(long, || is_over.load(Relaxed));
            }
        });
        let beside = beside.into_inner().expect("told");
        println!("{beside:?}, alone {alone:?}");
        beside <= alone * 2 + long
    };
    assert!((0..3).any(|_| attempt(&mut tenants)));
}

#[test]
fn what_a_long_kernel_used_is_paid_back() {
    let device = Device::new();
    let mut tenants = [device.tenant(0.5), device.tenant(0.5)];
    let places = [tenants[0].place(), tenants[1].place()];
    let (long, short) = (milliseconds(200), milliseconds(10));
    let is_over = AtomicBool::new(false);
    let paid = Mutex::new(Duration::ZERO);
    together(&mut tenants, |index, tenant| {
        if index == 1 {
            tenant.run_until(short, || is_over.load(Relaxed));
            return;
        }
        tenant.run(short, WARM_UP);
        let first = tenant.launch(long);
        let second = tenant.launch(short);
        tenant.wait_for(first);
        let before = device.gate.used(places[1]);
        tenant.wait_for(second);
        *paid.lock().expect("told") = device.gate.used(places[1]) - before;
        is_over.store(true, Relaxed);
    });
    let paid = paid.into_inner().expect("told");
    println!("{paid:?}");
    let expected = long - 4 * short..long + 4 * short;
    assert!(expected.contains(&paid), "{paid:?} for {long:?}");
}

#[test]
fn a_hog_is_charged_while_it_runs_and_holds_nobody() {
    let device = Device::new();
    let mut hog = device.tenant(0.5);
    let mut other = device.tenant(0.5);
    let place = hog.place();
    hog.launch(Duration::from_secs(600));
    // It has begun once it is charged.
    let begin = Instant::now();
    while device.gate.used(place) == Duration::ZERO {
        assert!(begin.elapsed() < 5 * WARM_UP);
        std::thread::sleep(milliseconds(1));
    }
    let overdue = Duration::from_nanos(OVERDUE);
    let waited = other.latency(milliseconds(5));
    assert!(waited < 5 * overdue, "{waited:?}");
    assert!(other.run(milliseconds(5), Duration::from_secs(1)) > 10);
    let used = device.gate.used(place);
    assert!(used >= Duration::from_millis(600), "{used:?}");
    // Killed, it is gone.
    hog.kill();
    device.gate.reap();
    let after = device.gate.used(place);
    assert!(other.latency(milliseconds(5)) < overdue);
    assert_eq!(device.gate.used(place), after);
}

#[test]
fn who_comes_while_much_is_queued_does_not_wait_for_all_of_it() {
    let device = Device::new();
    let mut first = device.tenant(0.5);
    let place = first.place();
    let kernel = milliseconds(40);
    let last = (0..60)
        .map(|_| first.launch(kernel))
        .last()
        .expect("a mark");
    let mut second = device.tenant(0.5);
    assert!(first.marked < last);
    let waited = second.latency(milliseconds(5));
    assert!(waited < 5 * Duration::from_nanos(OVERDUE), "{waited:?}");
    first.wait_for(last);
    assert!(device.gate.used(place) >= kernel * 30, "it is charged");
}

#[test]
fn a_kernel_that_waits_for_what_is_posted_later_ends() {
    let device = Device::new();
    let mut tenant = device.tenant(0.5);
    let mut other = device.tenant(0.5);
    other.latency(milliseconds(1));
    let mapped = tenant.ask(&r::GpurunMemoryMap::new(0, 4096), &[]);
    let address = u64::from_le_bytes(mapped.try_into().expect("an address"));
    tenant.post(&r::GpurunFill::new(address, 0, 1, 1, 0, 4, STREAM), &[]);
    tenant.launch_awaiting(address);
    tenant.launch_silently(OTHER_STREAM, milliseconds(1));
    tenant.launch_silently(OTHER_STREAM, milliseconds(1));
    let release = r::GpurunCopyToDevice::new(address, 4, 0, OTHER_STREAM);
    tenant.post(&release, &1_u32.to_le_bytes());
    let mark = tenant.mark(STREAM);
    tenant.wait_for(mark);
    other.latency(milliseconds(1));
}

#[test]
fn work_without_a_mark_ends_and_activity_is_told() {
    let device = Device::new();
    let mut tenant = device.tenant(0.5);
    let place = tenant.place();
    let kernel = milliseconds(50);
    for round in 1..=3_u32 {
        let before = device.gate.last_active(place).expect("a place");
        std::thread::sleep(milliseconds(20));
        tenant.launch_silently(STREAM, kernel);
        // Charged to its end, and then no longer.
        let begin = Instant::now();
        // It counts from when the worker has nothing else to do.
        while device.gate.used(place) < kernel * round * 3 / 4 {
            assert!(begin.elapsed() < 20 * kernel, "it is not charged");
            std::thread::sleep(milliseconds(2));
        }
        let mut used = Duration::ZERO;
        while used != device.gate.used(place) {
            assert!(begin.elapsed() < 100 * kernel, "it never ends");
            used = device.gate.used(place);
            std::thread::sleep(kernel / 5);
        }
        assert!(device.gate.last_active(place).expect("a place") > before);
    }
    // A copy is activity too, and no use.
    let mapped = tenant.ask(&r::GpurunMemoryMap::new(0, 4096), &[]);
    let address = u64::from_le_bytes(mapped.try_into().expect("an address"));
    let used = device.gate.used(place);
    let before = device.gate.last_active(place).expect("a place");
    std::thread::sleep(milliseconds(20));
    tenant.post(&r::GpurunCopyToDevice::new(address, 4, 0, STREAM), &[0; 4]);
    let begin = Instant::now();
    while device.gate.last_active(place).expect("a place") == before {
        assert!(begin.elapsed() < 20 * kernel, "a copy is no activity");
        std::thread::sleep(milliseconds(2));
    }
    assert_eq!(device.gate.used(place), used);
}

#[test]
fn a_fault_leaves_nothing_running() {
    let device = Device::new();
    let mut tenant = device.tenant(0.5);
    let mut other = device.tenant(0.5);
    tenant.launch_broken();
    let mark = tenant.mark(STREAM);
    assert_ne!(tenant.failure(mark), 0);
    other.latency(milliseconds(1));
    let used = device.gate.used(tenant.place());
    std::thread::sleep(milliseconds(50));
    assert_eq!(device.gate.used(tenant.place()), used);
    assert!(other.latency(milliseconds(1)) < Duration::from_nanos(OVERDUE));
}

/// Returns once a tenant waits for its turn: it is active then, though nothing of it runs or ends.
fn waits(device: &Device, tenant: &Tenant) {
    let active = || device.gate.last_active(tenant.place()).expect("a place");
    let begin = active();
    while active() < begin + 50 {
        std::thread::sleep(milliseconds(2));
    }
}

#[test]
fn what_is_destroyed_leaves_nothing_running() {
    let device = Device::new();
    let mut tenant = device.tenant(0.5);
    let mut other = device.tenant(0.5);
    let (place, kernel) = (tenant.place(), milliseconds(30));
    tenant.launch_silently(OTHER_STREAM, kernel);
    tenant.post(&r::GpurunStreamDestroy::new(OTHER_STREAM), &[]);
    tenant.launch_silently(STREAM, kernel);
    tenant.ask(&r::GpurunPrimaryRelease::new(0, 1), &[]);
    other.latency(milliseconds(1));
    let used = device.gate.used(place);
    assert!(used >= kernel, "{used:?}");
    std::thread::sleep(2 * kernel);
    assert_eq!(device.gate.used(place), used);
}

#[test]
fn two_workers_of_a_lease_have_one_share() {
    let device = Device::new();
    let first = device.tenant(0.5);
    let second = device.again(&first);
    let mut tenants = [first, second, device.tenant(0.5)];
    let place = |index: usize| tenants[index].place();
    let places = [place(0), place(2)];
    let used = || places.map(|place| device.gate.used(place));
    let (before, after) = measure(&mut tenants, 4 * WARM_UP, &used, |_| milliseconds(10));
    let parts = parts(&before, &after);
    assert!((parts[0] - 0.5).abs() <= CLOSE, "{parts:?}");
}

#[test]
fn a_client_that_leaves_while_it_waits_is_noticed() {
    let device = Device::new();
    let mut tenant = device.tenant_with(Share::new(0.001, true));
    // It has used a hundred seconds' worth of its share, and waits for the next.
    tenant.latency(milliseconds(100));
    tenant.launch(milliseconds(1));
    tenant.launch(milliseconds(1));
    waits(&device, &tenant);
    tenant.connection.interrupt.shutdown();
    tenant.end(5 * CLEAN_UP_LIMIT);
}

#[test]
fn a_dismissed_lease_s_worker_goes_on() {
    let device = Device::new();
    let mut tenant = device.tenant_with(Share::new(0.001, true));
    tenant.latency(milliseconds(100));
    let mark = tenant.launch(milliseconds(1));
    waits(&device, &tenant);
    device.gate.dismiss(tenant.place());
    tenant.wait_for(mark);
    assert!(tenant.latency(milliseconds(1)) < Duration::from_secs(5));
}
