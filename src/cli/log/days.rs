//! `chancery log days`: how much each day had.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;

use super::select::day;
use super::{Stop, reader};
use crate::cli::admin::Issuer;
use crate::config::Config;
use crate::id::Timestamp;
use crate::ipc::admin::records::{Day, MOST_DAYS, RecordAnswer, RecordQuestion};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};
use crate::issuer::day_of_log;
use crate::log::index::{self, DAY};

/// Which days.
#[derive(Debug, Args)]
pub struct Days {
    /// From this day on: 2026-11-22.
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<Timestamp>,
    /// To this day.
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<Timestamp>,
}

pub(super) fn run(
    days: &Days,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let (from, to) = (days.since.unwrap_or_default(), days.until.unwrap_or(Timestamp(u64::MAX)));
    let found = match ask(from, to, config) {
        Some(found) => found,
        None => count(from, to, config)?,
    };
    if json {
        let value: Vec<_> = found
            .iter()
            .map(|day| {
                serde_json::json!({
                    "day": date(day.at), "first": day.first.0, "last": day.last.0,
                    "records": day.records, "issued": day.issued, "abandoned": day.abandoned,
                    "revoked": day.revoked, "accounts": day.accounts,
                })
            })
            .collect();
        writeln!(out, "{:#}", serde_json::Value::from(value))?;
        return Ok(());
    }
    writeln!(out, "DAY         FIRST LEAF   RECORDS    ISSUED   REVOKED  ABANDONED  ACCOUNTS")?;
    for day in found {
        writeln!(
            out,
            "{}  {:>10}  {:>8}  {:>8}  {:>8}  {:>9}  {:>8}",
            date(day.at),
            day.first,
            day.records,
            day.issued,
            day.revoked,
            day.abandoned,
            day.accounts
        )?;
    }
    Ok(())
}

fn date(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// As the running issuer's index counts them.
fn ask(from: Timestamp, to: Timestamp, config: &Config) -> Option<Vec<Day>> {
    let mut issuer = Issuer::connect(config).ok()?;
    let mut all: Vec<Day> = Vec::new();
    let mut from = from;
    loop {
        let question = AdminQuestion::Record(RecordQuestion::Days { from, to });
        let AdminAnswer::Record(RecordAnswer::Days(days)) = issuer.ask(&question).ok()? else {
            return None;
        };
        let full = days.len() == MOST_DAYS;
        all.extend(days);
        match all.last() {
            Some(last) if full => from = Timestamp(last.at.0 + DAY),
            _ => return Some(all),
        }
    }
}

/// The same from the records, where no issuer runs.
fn count(from: Timestamp, to: Timestamp, config: &Config) -> Result<Vec<Day>, Stop> {
    let reader = reader(config)?;
    let mut days: BTreeMap<u64, index::Day> = BTreeMap::new();
    for entry in reader.entries(reader.since(from)?) {
        let entry = entry?;
        let Ok(record) = entry.record else { continue };
        let number = record.at().0 / DAY;
        if (from.0 / DAY..=to.0 / DAY).contains(&number) {
            let day = days.entry(number).or_insert_with(|| index::Day::beginning(entry.leaf));
            day.count(entry.leaf, &record);
        }
    }
    Ok(days.into_iter().map(day_of_log).collect())
}
