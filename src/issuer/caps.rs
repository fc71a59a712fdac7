//! How many certificates one account may be issued within an hour. In memory: a restart forgets, and
//! errs on the side of issuing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::core::lock;
use crate::id::AccountId;

pub(super) struct Caps {
    /// 0: no cap.
    per_hour: u32,
    /// Start of the hour (monotonic) and certificates since.
    hours: Mutex<HashMap<AccountId, (Duration, u32)>>,
}

impl Caps {
    pub(super) fn new(per_hour: u32) -> Self {
        Self { per_hour, hours: Mutex::new(HashMap::new()) }
    }

    /// Takes one of the account's, or says how long until there is one.
    pub(super) fn take(&self, account: AccountId, monotonic: Duration) -> Result<(), Duration> {
        if self.per_hour == 0 {
            return Ok(());
        }
        let mut hours = lock(&self.hours);
        if hours.len() >= PRUNE_AT {
            hours.retain(|_, (since, _)| monotonic < *since + HOUR);
        }
        let (since, taken) = hours.entry(account).or_insert((monotonic, 0));
        if monotonic >= *since + HOUR {
            (*since, *taken) = (monotonic, 0);
        }
        if *taken >= self.per_hour {
            return Err(*since + HOUR - monotonic);
        }
        *taken += 1;
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const PRUNE_AT: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_has_its_own_hour() {
        let caps = Caps::new(2);
        let (a, b) = (AccountId([1; 16]), AccountId([2; 16]));
        let at = Duration::from_secs;
        assert_eq!(caps.take(a, at(0)), Ok(()));
        assert_eq!(caps.take(a, at(10)), Ok(()));
        assert_eq!(caps.take(a, at(3000)), Err(at(600)));
        assert_eq!(caps.take(b, at(3000)), Ok(()));
        assert_eq!(caps.take(a, at(3600)), Ok(()));
        assert_eq!(Caps::new(0).take(a, at(0)), Ok(()));
    }
}
