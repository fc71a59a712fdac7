//! When clients are told to come back: as soon as there is likely to be something for them, and not all at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Spreads those who are told the same: up to half as long again, and a second at least.
#[derive(Default)]
pub(crate) struct Spread(AtomicU32);

impl Spread {
    /// Whole seconds, as the header Retry-After has them; none sooner than `wait`.
    pub(crate) fn seconds(&self, wait: Duration) -> u64 {
        let least = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        // Multiples of the golden ratio lie evenly, however many are told.
        let share = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        let places = (least / 2 + 2).min(MOST_PLACES);
        least + ((u64::from(share) * places) >> 32)
    }

    /// The same for who can wait in fractions of a second.
    pub(crate) fn over(&self, wait: Duration) -> Duration {
        let share = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        wait + wait.mul_f64(f64::from(share) / f64::from(u32::MAX) / 2.0)
    }
}

/// How fast certificates come while some are waited for, as measured.
#[derive(Default)]
pub(crate) struct Pace(Mutex<Measured>);

#[derive(Default)]
struct Measured {
    /// The mean time between two, newer ones counting more.
    interval: Option<Duration>,
    /// When one came last, or was first waited for; `None` while nobody waits.
    since: Option<Duration>,
}

impl Pace {
    /// Somebody waits, by the monotonic clock.
    pub(crate) fn begun(&self, now: Duration) {
        self.measured().since.get_or_insert(now);
    }

    /// One came, and so many are still waited for.
    pub(crate) fn came(&self, now: Duration, waiting: usize) {
        let mut measured = self.measured();
        if let Some(since) = measured.since {
            let took = now.saturating_sub(since);
            measured.interval = Some(measured.interval.map_or(took, |mean| (mean * 7 + took) / 8));
        }
        measured.since = (waiting > 0).then_some(now);
    }

    /// When the last of so many is likely to have come.
    pub(crate) fn expected(&self, waiting: usize) -> Duration {
        let interval = self.measured().interval.unwrap_or_default();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        interval.saturating_mul(waiting).clamp(SOONEST, LATEST)
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody is spread over more than ten minutes.
const MOST_PLACES: u64 = 600;
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_fleet_that_is_told_the_same_does_not_come_back_as_one() {
        let spread = Spread::default();
        let mut told = BTreeMap::new();
        for _ in 0..1000 {
            *told.entry(spread.seconds(Duration::from_secs(20))).or_insert(0) += 1;
        }
        assert_eq!((*told.keys().next().unwrap(), *told.keys().last().unwrap()), (20, 31));
        assert!(told.values().all(|many| (75..95).contains(many)), "{told:?}");
        assert!((0..9).all(|_| (1..=2).contains(&spread.seconds(Duration::ZERO))));
        let wait = Duration::from_secs(4);
        assert!((0..9).map(|_| spread.over(wait)).all(|w| (wait..=wait * 3 / 2).contains(&w)));
    }

    #[test]
    fn what_is_expected_follows_what_was_measured() {
        let pace = Pace::default();
        assert_eq!(pace.expected(100), SOONEST, "nothing is known yet");
        let ms = Duration::from_millis;
        pace.begun(ms(1000));
        for n in 1..=50 {
            pace.came(ms(1000 + 70 * n), 10);
        }
        assert_eq!(pace.expected(100), ms(7000));
        // A pause in which nobody waits is no measure.
        pace.came(ms(4570), 0);
        pace.begun(ms(900_000));
        pace.came(ms(900_070), 0);
        assert_eq!(pace.expected(100), ms(7000));
        assert_eq!(pace.expected(100_000), LATEST);
    }
}
