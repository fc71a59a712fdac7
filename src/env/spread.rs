//! How long something took, over and over: counts by duration, for monitoring.

use std::time::Duration;

/// How many durations fell between each two of [`BOUNDS`], and what they add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spread {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

/// Upper bounds in microseconds, each included: from a sync of a fast disk to a token that is asked to do too much.
pub const BOUNDS: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

impl Spread {
    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let micros = took.as_micros();
        let bucket = BOUNDS.partition_point(|bound| u128::from(*bound) < micros);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.sum = self.sum.saturating_add(took);
    }

    /// Those up to each bound and above the one before it; the last are above all bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// What they add up to.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_what_is_below_it_and_nothing_is_lost() {
        let mut spread = Spread::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001, 999_000_000] {
            spread.observe(Duration::from_micros(micros));
        }
        assert_eq!(spread.counts()[..2], [2, 1]);
        assert_eq!(spread.counts()[BOUNDS.len() - 1..], [1, 2]);
        assert_eq!(spread.counts().iter().sum::<u64>(), 6);
        assert_eq!(spread.sum(), Duration::from_micros(1_119_000_202));
        assert!(BOUNDS.is_sorted());
    }
}
