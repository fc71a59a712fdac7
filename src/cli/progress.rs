//! How far a long command has come, on standard error: a bar on a terminal, a line now and then otherwise.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::log;

/// Shows steps of one piece of work; may be told of them from any thread.
pub(super) struct Progress {
    /// What is done, such as `verified`.
    verb: &'static str,
    terminal: bool,
    clock: SystemClock,
    /// When something was shown last.
    shown: Mutex<Option<Duration>>,
}

/// How often a bar moves, and how often there is a line.
const MOVES: Duration = Duration::from_millis(100);
const LINES: Duration = Duration::from_secs(10);

impl Progress {
    pub(super) fn new(verb: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { verb, terminal, clock: SystemClock::new(), shown: Mutex::new(None) }
    }

    pub(super) fn step(&self, step: log::Progress) {
        let log::Progress { leaves, octets: done, of } = step;
        let now = self.clock.monotonic();
        let pause = if self.terminal { MOVES } else { LINES };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // The first line comes after a pause too: what is done by then needs none.
        if now.saturating_sub(shown.unwrap_or_default()) < pause {
            return;
        }
        *shown = Some(now);
        let line = line(self.verb, done, of, leaves, now);
        let mut stderr = std::io::stderr().lock();
        // Without a standard error nobody watches.
        let _ = if self.terminal {
            write!(stderr, "\r{} {line}\x1b[K", bar(done, of)).and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }

    /// Leaves the line to what comes next.
    pub(super) fn end(&self) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if self.terminal && shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(verb: &str, done: u64, of: u64, records: u64, took: Duration) -> String {
    let rate = records as f64 / took.as_secs_f64().max(0.001);
    let left = took.mul_f64(of.saturating_sub(done) as f64 / done.max(1) as f64);
    format!(
        "{:3} %  {records} records {verb}, {rate:.0}/s, {} left",
        percent(done, of),
        duration(left)
    )
}

fn percent(done: u64, of: u64) -> u64 {
    if of == 0 { 100 } else { (u128::from(done.min(of)) * 100 / u128::from(of)) as u64 }
}

fn bar(done: u64, of: u64) -> String {
    let filled = (percent(done, of) * WIDTH / 100) as usize;
    format!("[{}{}]", "#".repeat(filled), " ".repeat(WIDTH as usize - filled))
}

const WIDTH: u64 = 30;

fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_share_rate_and_rest() {
        assert_eq!(
            line("verified", 25, 100, 5000, Duration::from_secs(10)),
            " 25 %  5000 records verified, 500/s, 30 s left"
        );
        assert_eq!(bar(1, 2), format!("[{}{}]", "#".repeat(15), " ".repeat(15)));
        assert_eq!(percent(7, 0), 100);
        assert_eq!(percent(9, 8), 100);
        let shown = [99, 100, 7300].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(shown, ["99 s", "1 min", "2 h 1 min"]);
    }
}
