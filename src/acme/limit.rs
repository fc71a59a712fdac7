//! Rate limits (RFC 8555 section 6.6): how often whoever it is may do something within an hour.
//!
//! In memory: a restart forgets, and errs on the side of allowing. So does a table that is full; what
//! must hold whoever asks needs a limit under one key besides.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A number of times an hour, for each key of its own. An hour begins with the first of its times.
#[derive(Debug)]
pub struct Hourly<K> {
    most: u32,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    hours: HashMap<K, Hour>,
    /// Hours that are over are looked for when there are so many: each entry is paid for once.
    prune_at: usize,
}

#[derive(Debug)]
struct Hour {
    began: Duration,
    taken: u32,
}

impl<K: Eq + Hash> Hourly<K> {
    /// `most` times an hour; 0: without limit.
    pub fn new(most: u32) -> Self {
        Self { most, table: Mutex::new(Table { hours: HashMap::new(), prune_at: PRUNE_AT }) }
    }

    /// Takes one time, or says how long until there is one. `monotonic` never goes back.
    pub fn take(&self, who: K, monotonic: Duration) -> Result<(), Duration> {
        if self.most == 0 {
            return Ok(());
        }
        let mut table = self.table();
        if table.hours.len() >= table.prune_at {
            table.hours.retain(|_, hour| monotonic < hour.began + HOUR);
            if table.hours.len() >= MOST_KEYS {
                table.hours.clear();
            }
            table.prune_at = (2 * table.hours.len()).clamp(PRUNE_AT, MOST_KEYS);
        }
        let hour = table.hours.entry(who).or_insert(Hour { began: monotonic, taken: 0 });
        if monotonic >= hour.began + HOUR {
            *hour = Hour { began: monotonic, taken: 0 };
        }
        if hour.taken >= self.most {
            return Err((hour.began + HOUR).saturating_sub(monotonic));
        }
        hour.taken += 1;
        Ok(())
    }

    /// How long until there is one time, taking none.
    pub fn look(&self, who: &K, monotonic: Duration) -> Result<(), Duration> {
        if self.most == 0 {
            return Ok(());
        }
        match self.table().hours.get(who) {
            Some(hour) if hour.taken >= self.most && monotonic < hour.began + HOUR => {
                Err((hour.began + HOUR).saturating_sub(monotonic))
            }
            _ => Ok(()),
        }
    }

    /// Takes nothing after all: what was to be done did not happen.
    pub fn give_back(&self, who: &K) {
        if let Some(hour) = self.table().hours.get_mut(who) {
            hour.taken = hour.taken.saturating_sub(1);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const PRUNE_AT: usize = 1 << 10;
/// Keys remembered at most, a few megabytes.
const MOST_KEYS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_has_an_hour_of_its_own() {
        let limit = Hourly::new(2);
        assert_eq!(limit.take('a', at(0)), Ok(()));
        assert_eq!(limit.take('a', at(10)), Ok(()));
        assert_eq!(limit.take('a', at(3000)), Err(at(600)));
        assert_eq!(limit.look(&'a', at(3000)), Err(at(600)));
        assert_eq!(limit.look(&'b', at(3000)), Ok(()));
        assert_eq!(limit.look(&'a', at(3600)), Ok(()));
        assert_eq!(limit.take('b', at(3000)), Ok(()));
        assert_eq!(limit.take('a', at(3600)), Ok(()));
        for second in 0..10 {
            assert_eq!(Hourly::new(0).take('a', at(second)), Ok(()));
        }
    }

    #[test]
    fn what_did_not_happen_does_not_count() {
        let limit = Hourly::new(1);
        limit.give_back(&'a');
        assert_eq!(limit.take('a', at(0)), Ok(()));
        limit.give_back(&'a');
        limit.give_back(&'a');
        assert_eq!(limit.take('a', at(1)), Ok(()));
        assert!(limit.take('a', at(2)).is_err());
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_those_whose_hour_is_over_go_first() {
        let limit = Hourly::new(1);
        for key in 0..3 * MOST_KEYS {
            assert_eq!(limit.take(key, at(0)), Ok(()));
            assert!(limit.table().hours.len() <= MOST_KEYS);
        }
        let limit = Hourly::new(1);
        for key in 0..PRUNE_AT - 1 {
            assert_eq!(limit.take(key, at(0)), Ok(()));
        }
        assert_eq!(limit.take(usize::MAX, at(3599)), Ok(()));
        assert_eq!(limit.take(usize::MAX - 1, at(3600)), Ok(()));
        assert_eq!(limit.table().hours.len(), 2);
        assert!(limit.take(usize::MAX, at(3601)).is_err(), "a running hour was forgotten");
    }
}
