//! What becomes of a key whose signature did not verify.
//!
//! At the first one nothing signs with it until the module was initialized anew, the key was found and
//! compared with its pin again, and [`TRIALS`] signatures over messages that never were before verified one after
//! another: a flipped bit on a wire or in a memory is no reason to stop a CA for the night. At the second within
//! [`Settings::quarantine_hours`](super::Settings) the key stays out, over restarts, until an operator lifts it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::id::Timestamp;

/// A wrong signature that a token made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The key's name.
    pub key: String,
    pub at: Timestamp,
}

/// Remembers wrong signatures beyond the process, which ends more easily than a token is mended.
pub trait Offences: Send + Sync {
    /// Those that count now.
    fn past(&self) -> Vec<Offence>;
    /// Keeps these instead, of one key. Called before the key is used again.
    fn keep(&self, key: &str, offences: &[Timestamp]);
    /// What an operator does to give a key another chance.
    fn lift(&self) -> String;
}

/// Nobody remembers: what a process knows ends with it.
pub(super) struct Forgetful;

impl Offences for Forgetful {
    fn past(&self) -> Vec<Offence> {
        Vec::new()
    }
    fn keep(&self, _: &str, _: &[Timestamp]) {}
    fn lift(&self) -> String {
        "restart".into()
    }
}

/// Good signatures in a row that return a key to service.
pub(super) const TRIALS: u32 = 16;

/// How one key stands.
pub(super) struct Standing {
    period: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    offences: Vec<Timestamp>,
    trials_due: bool,
    /// Why it is out, with the code.
    out: Option<String>,
}

impl Inner {
    fn forget(&mut self, now: Timestamp, period: Duration) {
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.offences.retain(|at| now.0.saturating_sub(at.0) < period);
    }
}

/// What follows from a wrong signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Trials, then service.
    Trials,
    /// Out until an operator acts.
    Out,
}

impl Standing {
    /// Takes up where an earlier process left it. With no period nothing keeps a key out, whatever was counted before.
    pub(super) fn new(period: Duration, past: Vec<Timestamp>, out: impl Fn(u64) -> String) -> Self {
        let is_out = period > Duration::ZERO && past.len() >= ALLOWED;
        let inner = Inner {
            trials_due: !past.is_empty(),
            out: is_out.then(|| out(past.len() as u64)),
            offences: past,
        };
        Self { period, inner: Mutex::new(inner) }
    }

    /// Why it does not sign until an operator acts.
    pub(super) fn out(&self) -> Option<String> {
        self.lock().out.clone()
    }

    /// Whether it must show that it signs rightly before it is used.
    pub(super) fn trials_due(&self) -> bool {
        self.lock().trials_due
    }

    /// It has shown it. What is over by now counts no more; those that still do, where there were others.
    pub(super) fn passed(&self, now: Timestamp) -> Option<Vec<Timestamp>> {
        let mut inner = self.lock();
        inner.trials_due = false;
        let before = inner.offences.len();
        inner.forget(now, self.period);
        (inner.offences.len() < before).then(|| inner.offences.clone())
    }

    /// Counts a wrong signature. Workers that found one each of the same trouble count once: as long as trials are
    /// due only a trial's own failure counts, which `of_a_trial` says.
    pub(super) fn wrong(
        &self,
        now: Timestamp,
        of_a_trial: bool,
        out: impl Fn(u64) -> String,
    ) -> (Verdict, Vec<Timestamp>) {
        let mut inner = self.lock();
        if !inner.trials_due || of_a_trial {
            if inner.out.is_none() {
                inner.forget(now, self.period);
            }
            inner.offences.push(now);
            // With no period nothing counts that is over.
            if self.period > Duration::ZERO && inner.offences.len() >= ALLOWED {
                let count = inner.offences.len() as u64;
                inner.out = Some(out(count));
            }
        }
        inner.trials_due = true;
        let verdict = if inner.out.is_some() { Verdict::Out } else { Verdict::Trials };
        (verdict, inner.offences.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many wrong signatures within the period keep a key out.
const ALLOWED: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const HOUR: u64 = 3_600_000;

    fn out(count: u64) -> String {
        format!("{count} wrong")
    }

    #[test]
    fn one_is_forgiven_after_trials_and_a_second_within_the_period_is_not() {
        let standing = Standing::new(DAY, Vec::new(), out);
        assert!(!standing.trials_due());
        assert_eq!(standing.wrong(Timestamp(0), false, out).0, Verdict::Trials);
        assert!(standing.trials_due() && standing.out().is_none());
        assert_eq!(standing.passed(Timestamp(1)), None, "it counts for the rest of the day");
        assert!(!standing.trials_due());
        // The day after, the first is forgotten.
        assert_eq!(standing.wrong(Timestamp(25 * HOUR), false, out).0, Verdict::Trials);
        standing.passed(Timestamp(25 * HOUR));
        let (verdict, kept) = standing.wrong(Timestamp(30 * HOUR), false, out);
        assert_eq!((verdict, kept.len()), (Verdict::Out, 2));
        assert_eq!(standing.out().as_deref(), Some("2 wrong"));
        // For good, however long it lasts, and in the next process too.
        assert_eq!(standing.wrong(Timestamp(90 * HOUR), true, out).0, Verdict::Out);
        assert!(Standing::new(DAY, kept, out).out().is_some());
    }

    #[test]
    fn a_trouble_that_several_threads_find_counts_once_and_a_failed_trial_counts() {
        let standing = Standing::new(DAY, Vec::new(), out);
        for _ in 0..3 {
            assert_eq!(standing.wrong(Timestamp(0), false, out).0, Verdict::Trials);
        }
        assert_eq!(standing.wrong(Timestamp(1), true, out).0, Verdict::Out);
    }

    #[test]
    fn what_an_earlier_process_saw_asks_for_trials() {
        let standing = Standing::new(DAY, vec![Timestamp(5)], out);
        assert!(standing.trials_due() && standing.out().is_none());
    }

    #[test]
    fn an_offence_that_is_over_costs_trials_once_and_not_at_each_start() {
        let standing = Standing::new(DAY, vec![Timestamp(5)], out);
        assert!(standing.trials_due());
        let kept = standing.passed(Timestamp(48 * HOUR)).expect("what is over is forgotten");
        assert!(!Standing::new(DAY, kept, out).trials_due());
    }

    #[test]
    fn without_a_period_each_is_forgiven_after_trials() {
        let standing = Standing::new(Duration::ZERO, Vec::new(), out);
        for n in 0..5 {
            assert_eq!(standing.wrong(Timestamp(n), false, out).0, Verdict::Trials);
            assert_eq!(standing.passed(Timestamp(n)), Some(Vec::new()));
        }
        // What kept it out under another setting, too.
        let standing = Standing::new(Duration::ZERO, vec![Timestamp(1), Timestamp(2)], out);
        assert!(standing.trials_due() && standing.out().is_none());
        assert_eq!(standing.passed(Timestamp(3)), Some(Vec::new()));
    }
}
