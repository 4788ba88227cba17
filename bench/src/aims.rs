//! What a run should reach on two virtual cores of about 2.5 GHz: compared by `--check`, never by a test.

use crate::host::Subject;
use crate::place::Placement;
use crate::plan::Benchmark;
use crate::report::Row;

/// A bound of a case's median.
enum Limit {
    /// At most so many microseconds.
    Microseconds(f64),
    /// At least so many in a second.
    PerSecond(f64),
    /// At least this share of the same case's bandwidth on the bare socket.
    ShareOfFloor(f64),
    /// At most so many times the case's time on the bare socket.
    TimesFloor(f64),
    /// At least this share of the same case's bandwidth by perftest.
    ShareOfPerftest(f64),
    /// At most so many times perftest's round trip.
    TimesPerftest(f64),
    /// At most so many microseconds, or, where the bare socket takes longer already, so many times its time.
    MicrosecondsOrTimesFloor(f64, f64),
}

struct Aim {
    benchmark: Benchmark,
    case: &'static str,
    cores: Placement,
    limit: Limit,
}

const AIMS: [Aim; 12] = [
    aim(
        Benchmark::Launch,
        "burst, 4 parameters",
        Placement::Two,
        Limit::Microseconds(0.5),
    ),
    aim(
        Benchmark::Launch,
        "sustained, 4 parameters, 1 threads",
        Placement::Two,
        Limit::PerSecond(1e6),
    ),
    aim(
        Benchmark::Launch,
        "sustained, 4 parameters, 4 threads",
        Placement::Two,
        Limit::PerSecond(1e6),
    ),
    aim(
        Benchmark::Call,
        "ask",
        Placement::One,
        Limit::MicrosecondsOrTimesFloor(10.0, 1.3),
    ),
    aim(
        Benchmark::Call,
        "ask, both ends spin",
        Placement::Two,
        Limit::TimesFloor(2.0),
    ),
    aim(
        Benchmark::Copy,
        "to device, pageable, 256 MiB",
        Placement::Two,
        Limit::ShareOfFloor(0.7),
    ),
    aim(
        Benchmark::Copy,
        "from device, pageable, 256 MiB",
        Placement::Two,
        Limit::ShareOfFloor(0.7),
    ),
    aim(
        Benchmark::Startup,
        "start, cuInit, end",
        Placement::Two,
        Limit::Microseconds(5000.0),
    ),
    aim(
        Benchmark::Alloc,
        "alloc + free, 4 KiB",
        Placement::Two,
        Limit::Microseconds(2.0),
    ),
    aim(
        Benchmark::Fabric,
        "ask",
        Placement::Two,
        Limit::TimesPerftest(1.5),
    ),
    aim(
        Benchmark::Fabric,
        "to device, pageable, 16 MiB",
        Placement::Two,
        Limit::ShareOfPerftest(0.9),
    ),
    aim(
        Benchmark::Fabric,
        "from device, pageable, 16 MiB",
        Placement::Two,
        Limit::ShareOfPerftest(0.9),
    ),
];

const fn aim(benchmark: Benchmark, case: &'static str, cores: Placement, limit: Limit) -> Aim {
    Aim {
        benchmark,
        case,
        cores,
        limit,
    }
}

/// What aims of a benchmark compare, and with what.
fn pairs(benchmark: Benchmark) -> &'static [(Subject, Subject)] {
    match benchmark {
        Benchmark::Fabric => &[(Subject::Rdma, Subject::Perftest)],
        _ => &[
            (Subject::Unix, Subject::RawUnix),
            (Subject::Tcp, Subject::RawTcp),
        ],
    }
}

/// Whether an aim names this case.
pub(crate) fn is_named(benchmark: Benchmark, case: &str) -> bool {
    AIMS.iter()
        .any(|aim| aim.benchmark == benchmark && aim.case == case)
}

/// Whether an aim compares this subject, or compares with it.
pub(crate) fn compares(benchmark: Benchmark, subject: Subject) -> bool {
    pairs(benchmark)
        .iter()
        .any(|(one, other)| *one == subject || *other == subject)
}

/// The aims of these benchmarks that a run has missed, or has not measured, in words.
pub(crate) fn misses(rows: &[Row], benchmarks: &[Benchmark]) -> Vec<String> {
    AIMS.iter()
        .filter(|aim| benchmarks.contains(&aim.benchmark))
        .flat_map(|aim| {
            pairs(aim.benchmark)
                .iter()
                .filter_map(|(subject, floor)| miss(rows, aim, *subject, *floor))
        })
        .collect()
}

fn miss(rows: &[Row], aim: &Aim, subject: Subject, floor: Subject) -> Option<String> {
    let find = |subject: Subject| {
        rows.iter().find(|row| {
            row.benchmark == aim.benchmark.name()
                && row.case == aim.case
                && row.cores == aim.cores
                && row.subject == subject
        })
    };
    let of_floor = || find(floor);
    let name = format!(
        "{}: {}, {}, {} core(s)",
        aim.benchmark.name(),
        aim.case,
        subject.name(),
        aim.cores.name()
    );
    let Some(row) = find(subject) else {
        return Some(format!("{name}: not measured"));
    };
    let (is_met, text) = match aim.limit {
        Limit::Microseconds(most) => (
            row.us_p50 <= most,
            format!("{:.2} µs, aim {most} µs", row.us_p50),
        ),
        Limit::PerSecond(least) => (
            row.per_second >= least,
            format!("{:.0} a second, aim {least}", row.per_second),
        ),
        Limit::ShareOfFloor(least) | Limit::ShareOfPerftest(least) => {
            let floor = of_floor().map_or(f64::INFINITY, |floor| floor.gigabytes_per_second);
            let share = row.gigabytes_per_second / floor;
            let text = format!(
                "{:.0} % of {floor:.2} GB/s, aim {:.0} %",
                share * 100.0,
                least * 100.0
            );
            (share >= least, text)
        }
        Limit::MicrosecondsOrTimesFloor(most, times) => {
            let floor = of_floor().map_or(0.0, |floor| floor.us_p50);
            let most = most.max(floor * times);
            (
                row.us_p50 <= most,
                format!("{:.1} µs, aim {most:.1} µs", row.us_p50),
            )
        }
        Limit::TimesFloor(most) | Limit::TimesPerftest(most) => {
            let floor = of_floor().map_or(0.0, |floor| floor.us_p50);
            let times = row.us_p50 / floor;
            (
                times <= most,
                format!(
                    "{:.1} µs, {times:.1} times the floor, aim {most}",
                    row.us_p50
                ),
            )
        }
    };
    (!is_met).then(|| format!("{name}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netperf::round::Round;

    fn row(subject: Subject, us: f64) -> Row {
        let rounds = [Round {
            samples_ns: vec![us * 1e3],
            caller_cpu_ns: 0.0,
        }];
        let bytes = 256 << 20;
        let case = "to device, pageable, 256 MiB";
        Row::new(
            Benchmark::Copy,
            case,
            subject,
            Placement::Two,
            bytes,
            &rounds,
        )
    }

    #[test]
    fn a_share_of_the_floor_is_of_the_same_transport() {
        let mut rows = vec![
            row(Subject::Unix, 140.0),
            row(Subject::RawUnix, 100.0),
            row(Subject::Tcp, 200.0),
            row(Subject::RawTcp, 100.0),
        ];
        let found = misses(&rows, &[Benchmark::Copy]);
        assert!(
            found[0].contains("tcp") && found[0].contains("50 %"),
            "{found:?}"
        );
        // The other direction was not measured.
        assert_eq!(
            found
                .iter()
                .filter(|text| text.contains("not measured"))
                .count(),
            2
        );
        rows[2] = row(Subject::Tcp, 140.0);
        assert_eq!(misses(&rows, &[Benchmark::Copy]).len(), 2);
        assert_eq!(misses(&[], &[]).len(), 0);
    }
}
