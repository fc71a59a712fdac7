//! The system's clocks and its random source.

#![expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::env::{Clock, Rng};
use crate::id::Timestamp;

/// The operating system's wall and monotonic clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    /// A wall clock before 1970 reads as the epoch: the clock floor then refuses to sign.
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The random source of aws-lc-rs, seeded by the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    /// Aborts the process if the source fails: there is no safe way to go on without it.
    fn fill(&self, buffer: &mut [u8]) {
        if aws_lc_rs::rand::fill(buffer).is_err() {
            tracing::error!(
                "CHY-RANDOM-SOURCE: the system's random source failed; the process stops"
            );
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::random_16;

    #[test]
    fn the_wall_clock_is_in_this_century_and_the_monotonic_one_moves_forward() {
        let clock = SystemClock::new();
        assert!(clock.now() > Timestamp::from_unix_seconds(1_700_000_000));
        let earlier = clock.monotonic();
        assert!(clock.monotonic() >= earlier);
    }

    #[test]
    fn random_octets_differ() {
        assert_ne!(random_16(&SystemRng), random_16(&SystemRng));
        assert_ne!(random_16(&SystemRng), [0; 16]);
    }
}
