//! When the clock may be believed. Below the newest record or the build date nothing is signed and
//! nothing recorded; after an implausible jump forward neither, until an operator accepts it.
//!
//! A running process measures a jump against what its monotonic clock says has passed. A process that
//! starts has only the newest record to go by, so a box that was switched off for longer than the
//! limit must be told that its clock is right: `chancery clock accept`. The CRL is renewed, and so a
//! record made, at least every half limit: a box that was merely idle need not be told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::env::{Clock, Disk};
use crate::id::Timestamp;

/// When this program was built: no honest clock shows less.
pub fn build_date() -> Timestamp {
    let seconds = env!("CHANCERY_BUILD_SECONDS").parse().unwrap_or(0);
    Timestamp::from_unix_seconds(seconds)
}

/// Why the clock is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockFault {
    /// The clock shows less than the floor.
    Behind { now: Timestamp, floor: Timestamp },
    /// The clock shows more than `expected` by more than the limit.
    Jump { now: Timestamp, expected: Timestamp },
}

impl ClockFault {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Behind { .. } => "CHY-CLOCK-BACK",
            Self::Jump { .. } => "CHY-CLOCK-JUMP",
        }
    }
}

impl fmt::Display for ClockFault {
    /// For the operator, without the code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind { now, floor } => write!(
                f,
                "the clock shows {now} but must show {floor} or later (the newest record, or this program's build); nothing is signed until it does; set the clock"
            ),
            Self::Jump { now, expected } => write!(
                f,
                "the clock shows {now}, implausibly later than {expected}; nothing is signed; set the clock, or if it is right run `chancery clock accept`"
            ),
        }
    }
}

/// The rule, with what this process has seen.
pub(super) struct ClockRule {
    clock: Arc<dyn Clock>,
    build: Timestamp,
    jump: Duration,
    /// Wall and monotonic time of the last reading that was believed.
    believed: Mutex<Option<(Timestamp, Duration)>>,
}

impl ClockRule {
    pub(super) fn new(clock: Arc<dyn Clock>, build: Timestamp, jump_hours: u32) -> Self {
        let jump = Duration::from_secs(u64::from(jump_hours) * 3600);
        Self { clock, build, jump, believed: Mutex::new(None) }
    }

    /// No honest clock shows less.
    pub(super) fn build(&self) -> Timestamp {
        self.build
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The time, if it may be believed. `newest` must have been read before this is called: a record
    /// made meanwhile would look like a clock gone back.
    pub(super) fn read(&self, newest: Timestamp) -> Result<Timestamp, ClockFault> {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let floor = newest.max(self.build);
        if now < floor {
            return Err(ClockFault::Behind { now, floor });
        }
        let passed = believed
            .map_or(newest, |(wall, then)| newest.max(wall.plus(monotonic.saturating_sub(then))));
        if now > passed.plus(self.jump) {
            return Err(ClockFault::Jump { now, expected: passed });
        }
        *believed = Some((now, monotonic));
        Ok(now)
    }
}

/// The operator's acceptance of a clock, as a file in the issuer's own directory: whoever may write
/// there may decide it. The issuer records it in the log and removes the file.
pub struct Acceptance {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Acceptance {
    /// `dir` is the issuer's own directory.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join("clock-accepted") }
    }

    /// Says that a clock showing about `now` is right.
    pub fn accept(&self, now: Timestamp) -> std::io::Result<()> {
        self.disk.replace(&self.path, format!("{}\n", now.0).as_bytes(), true)
    }

    /// Whether a clock that shows `now` was accepted: within an hour after the operator looked.
    pub(super) fn covers(&self, now: Timestamp) -> bool {
        let Ok(text) = self.disk.read(&self.path, 64) else {
            return false;
        };
        let at = std::str::from_utf8(&text).ok().and_then(|t| t.trim().parse().ok()).map(Timestamp);
        at.is_some_and(|at| at <= now && now <= at.plus(Duration::from_secs(3600)))
    }

    pub(super) fn spend(&self) {
        let _ = self.disk.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::simulated::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);
    const NEWEST: Timestamp = Timestamp(1_900_000_000_000);

    fn rule(now: Timestamp) -> (Arc<ManualClock>, ClockRule) {
        let clock = Arc::new(ManualClock::new(now));
        let rule = ClockRule::new(Arc::clone(&clock) as _, Timestamp(1_800_000_000_000), 24);
        (clock, rule)
    }

    #[test]
    fn a_clock_gone_back_is_not_believed() {
        let (clock, rule) = rule(NEWEST);
        assert_eq!(rule.read(NEWEST), Ok(NEWEST));
        let back = NEWEST.minus(Duration::from_millis(1));
        clock.set_wall(back);
        assert_eq!(rule.read(NEWEST), Err(ClockFault::Behind { now: back, floor: NEWEST }));
        let built = Timestamp(1_800_000_000_000);
        clock.set_wall(built.minus(HOUR));
        assert!(
            matches!(rule.read(Timestamp(0)), Err(ClockFault::Behind { floor, .. }) if floor == built)
        );
    }

    #[test]
    fn a_start_long_after_the_newest_record_must_be_told() {
        let (clock, rule) = rule(NEWEST.plus(24 * HOUR));
        assert!(rule.read(NEWEST).is_ok());
        let (_, rule_2) = self::rule(NEWEST.plus(25 * HOUR));
        assert!(matches!(rule_2.read(NEWEST), Err(ClockFault::Jump { expected: NEWEST, .. })));
        // The record of the acceptance is the newest from then on.
        assert!(rule_2.read(NEWEST.plus(25 * HOUR)).is_ok());
        drop(clock);
    }

    #[test]
    fn an_idle_process_is_not_a_jump_and_a_jump_while_it_runs_is() {
        let (clock, rule) = rule(NEWEST);
        assert!(rule.read(NEWEST).is_ok());
        clock.advance(30 * 24 * HOUR);
        let now = rule.read(NEWEST).unwrap();
        clock.set_wall(now.plus(25 * HOUR));
        assert!(matches!(rule.read(NEWEST), Err(ClockFault::Jump { .. })));
        // Refused once, it is not believed the second time.
        assert!(matches!(rule.read(NEWEST), Err(ClockFault::Jump { .. })));
        clock.set_wall(now.plus(23 * HOUR));
        assert!(rule.read(NEWEST).is_ok());
    }
}
