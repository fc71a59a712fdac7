//! `chancery clock`: judge the clock against the log, or accept it.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use super::{Context, Failure, confirm, print, print_json};
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::{SystemClock, SystemDisk};
use crate::id::{LeafIndex, Timestamp};
use crate::issuer::clock::Acceptance;
use crate::log::Record;
use crate::log::reader::Reader;

/// `chancery clock …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ClockCommand {
    /// The clock, the newest record of the log, and whether the issuer would sign.
    Show,
    /// Say that the clock is right though it is far ahead of the newest record. The issuer takes note within a
    /// minute, running or at its next start, and records it in the log.
    Accept {
        /// Do it; without, say what would be done.
        #[arg(long)]
        yes: bool,
    },
}

pub fn run(command: &ClockCommand, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let reading = read(&config)?;
    match command {
        ClockCommand::Show => show(&reading, context),
        ClockCommand::Accept { yes } => accept(&reading, *yes, &config, context),
    }
}

/// The times that matter, and what they mean.
pub(super) struct Reading {
    pub(super) now: Timestamp,
    pub(super) newest: Timestamp,
    pub(super) built: Timestamp,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Plausible,
    Behind,
    Ahead,
}

impl Reading {
    fn new(now: Timestamp, newest: Timestamp, built: Timestamp, jump: Duration) -> Self {
        let verdict = if now < newest.max(built) {
            Verdict::Behind
        } else if newest > Timestamp(0) && now > newest.plus(jump) {
            Verdict::Ahead
        } else {
            Verdict::Plausible
        };
        Self { now, newest, built, verdict }
    }

    /// For the operator; begins with a code unless all is well.
    pub(super) fn text(&self) -> String {
        let Self { now, newest, built, .. } = self;
        match self.verdict {
            Verdict::Plausible => format!("{now}, newest record {newest}"),
            Verdict::Behind => format!(
                "CHY-CLOCK-BACK: the clock shows {now}, but the newest record says {newest} and this program was built \
                 {built}; set the clock"
            ),
            Verdict::Ahead => format!(
                "CHY-CLOCK-JUMP: the clock shows {now}, far ahead of the newest record, {newest}; if it is right, run \
                 chancery clock accept"
            ),
        }
    }
}

/// Reads the clock and the log.
pub(super) fn read(config: &Config) -> Result<Reading, Failure> {
    let newest = newest(config)?;
    let jump = Duration::from_secs(u64::from(config.issuer.clock_jump_hours) * 3600);
    Ok(Reading::new(SystemClock::new().now(), newest, crate::issuer::build_date(), jump))
}

/// The newest instant the last records state; the epoch where there is no log yet.
fn newest(config: &Config) -> Result<Timestamp, Failure> {
    let dir = config.paths.log();
    if !dir.exists() {
        return Ok(Timestamp(0));
    }
    let last = Reader::open(Arc::new(SystemDisk), &dir)
        .and_then(|reader| Ok(reader.last(LeafIndex(0), NEWEST, &|_| true)?.0));
    let last = last.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(last
        .iter()
        .filter_map(|entry| entry.record.as_ref().ok())
        .map(Record::at)
        .max()
        .unwrap_or_default())
}

/// Records are nearly in the order of their instants.
const NEWEST: usize = 256;

fn show(reading: &Reading, context: &Context) -> Result<(), Failure> {
    if context.json {
        return print_json(&serde_json::json!({
            "now": reading.now.to_string(),
            "newest_record": reading.newest.to_string(),
            "built": reading.built.to_string(),
            "verdict": format!("{:?}", reading.verdict).to_lowercase(),
        }));
    }
    print(&format!("clock          {}", reading.now))?;
    print(&format!("newest record  {}", reading.newest))?;
    print(&format!("program built  {}", reading.built))?;
    match reading.verdict {
        Verdict::Plausible => print("plausible: the issuer signs"),
        Verdict::Behind | Verdict::Ahead => Err(Failure::failed(reading.text())),
    }
}

fn accept(reading: &Reading, yes: bool, config: &Config, context: &Context) -> Result<(), Failure> {
    let Reading { now, newest, .. } = reading;
    match reading.verdict {
        Verdict::Plausible => {
            return Err(Failure::failed(format!(
                "CHY-CLOCK-ACCEPT-NEEDLESS: the clock shows {now} and the newest record says {newest}: nothing needs to \
                 be accepted"
            )));
        }
        // A log must never run backwards: only the clock can be put right.
        Verdict::Behind => return Err(Failure::operator(reading.text())),
        Verdict::Ahead => {}
    }
    confirm(
        yes,
        &format!(
            "the newest record says {newest} and the clock shows {now}; this would accept the clock, record that in the \
             log, and sign from then on with no earlier time"
        ),
    )?;
    Acceptance::new(Arc::new(SystemDisk), &config.paths.issuer()).accept(*now).map_err(
        |error| {
            Failure::operator(format!(
                "CHY-STATE-DIR: {}: {error}; run this as the issuer's user",
                config.paths.issuer().display()
            ))
        },
    )?;
    if context.json {
        return print_json(&serde_json::json!({"accepted": now.to_string()}));
    }
    print(&format!("accepted: {now}; the issuer records it within a minute, or at its next start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_the_issuers() {
        let day = Duration::from_secs(86_400);
        let newest = Timestamp(1_900_000_000_000);
        let built = Timestamp(1_800_000_000_000);
        let verdict = |now| Reading::new(now, newest, built, day).verdict;
        assert_eq!(verdict(newest), Verdict::Plausible);
        assert_eq!(verdict(newest.plus(day)), Verdict::Plausible);
        assert_eq!(verdict(newest.plus(day * 2)), Verdict::Ahead);
        assert_eq!(verdict(newest.minus(day)), Verdict::Behind);
        assert_eq!(Reading::new(newest, Timestamp(0), built, day).verdict, Verdict::Plausible);
    }
}
