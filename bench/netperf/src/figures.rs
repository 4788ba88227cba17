//! What is made of samples.

use crate::round::Round;

/// The figures of some rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Microseconds for an operation: half were faster.
    pub us_p50: f64,
    /// Nine in ten were.
    pub us_p90: f64,
    /// 99 in a hundred were.
    pub us_p99: f64,
    /// CPU time of the calling threads for an operation, in microseconds; the median of the rounds.
    pub caller_cpu_us: f64,
    /// Operations in a second, by the median.
    pub per_second: f64,
    /// Gigabytes (10^9) in a second, by the median; 0 where no bytes are moved.
    pub gigabytes_per_second: f64,
    /// How many samples there are.
    pub samples: usize,
}

impl Figures {
    /// Of rounds whose operations move so many bytes each.
    #[must_use]
    pub fn of(rounds: &[Round], bytes: usize) -> Self {
        let mut samples: Vec<f64> = rounds
            .iter()
            .flat_map(|round| round.samples_ns.iter().copied())
            .collect();
        samples.sort_by(f64::total_cmp);
        let mut cpu: Vec<f64> = rounds.iter().map(|round| round.caller_cpu_ns).collect();
        cpu.sort_by(f64::total_cmp);
        let p50 = percentile(&samples, 50);
        let rate = |amount: f64| if p50 > 0.0 { amount / p50 } else { 0.0 };
        Self {
            us_p50: p50 / 1e3,
            us_p90: percentile(&samples, 90) / 1e3,
            us_p99: percentile(&samples, 99) / 1e3,
            caller_cpu_us: percentile(&cpu, 50) / 1e3,
            per_second: rate(1e9),
            gigabytes_per_second: rate(bytes as f64),
            samples: samples.len(),
        }
    }
}

/// The value that so many in a hundred do not exceed (nearest rank); 0 of none.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Microseconds for people: three digits that matter, more or less; nothing for none.
#[must_use]
pub fn time(us: f64) -> String {
    match us {
        0.0 => String::new(),
        us if us < 10.0 => format!("{us:.3}"),
        us if us < 1000.0 => format!("{us:.1}"),
        us => format!("{us:.0}"),
    }
}

/// Gigabytes a second for people; nothing for none.
#[must_use]
pub fn bandwidth(gigabytes_per_second: f64) -> String {
    match gigabytes_per_second {
        0.0 => String::new(),
        rate => format!("{rate:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&samples, 50), 100.0);
        assert_eq!(percentile(&samples, 99), 198.0);
        assert_eq!(percentile(&samples[..1], 99), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn rounds_are_joined() {
        let round = |samples: &[f64], cpu| Round {
            samples_ns: samples.to_vec(),
            caller_cpu_ns: cpu,
        };
        let rounds = [
            round(&[4000.0, 1000.0], 10.0),
            round(&[2000.0], 30.0),
            round(&[9000.0], 20.0),
        ];
        let figures = Figures::of(&rounds, 4000);
        assert_eq!(
            (figures.us_p50, figures.us_p99, figures.samples),
            (2.0, 9.0, 4)
        );
        assert_eq!(
            (figures.caller_cpu_us, figures.per_second),
            (0.02, 500_000.0)
        );
        assert_eq!(figures.gigabytes_per_second, 2.0);
        assert_eq!(Figures::of(&[], 1).samples, 0);
    }

    #[test]
    fn digits_that_matter() {
        assert_eq!(time(0.0), "");
        assert_eq!(time(0.12345), "0.123");
        assert_eq!(time(123.45), "123.5");
        assert_eq!(time(12_345.6), "12346");
        assert_eq!(bandwidth(1.234), "1.23");
    }
}
