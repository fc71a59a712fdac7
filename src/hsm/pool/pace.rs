//! How fast the token signs, as measured: what waits is told from it when to come back.

use std::time::Duration;

use crate::env::Spread;

/// A signature of a key that has made none yet, where no other key tells more.
const UNKNOWN: Duration = Duration::from_millis(20);

/// The mean time of a signature with each key, newer ones counting more.
pub(super) struct Pace {
    keys: Vec<Option<Duration>>,
    spreads: Vec<Spread>,
    sessions: u32,
}

impl Pace {
    pub(super) fn new(keys: usize, sessions: usize) -> Self {
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX).max(1);
        Self { keys: vec![None; keys], spreads: vec![Spread::default(); keys], sessions }
    }

    /// A signature took so long, from its turn to its verification.
    pub(super) fn took(&mut self, key: usize, time: Duration) {
        self.spreads[key].observe(time);
        let mean = &mut self.keys[key];
        *mean = Some(mean.map_or(time, |mean| (mean * 7 + time) / 8));
    }

    /// What was measured of a key.
    pub(super) fn measured(&self, key: usize) -> (Option<Duration>, Spread) {
        (self.keys[key], self.spreads[key])
    }

    /// What a signature of this key is expected to take.
    pub(super) fn of(&self, key: usize) -> Duration {
        self.keys[key]
            .unwrap_or_else(|| self.keys.iter().flatten().max().copied().unwrap_or(UNKNOWN))
    }

    /// How long the sessions together need for so much work.
    pub(super) fn shared(&self, work: Duration) -> Duration {
        work / self.sessions
    }
}
