//! Which records: by leaf, kind and day, and what they are about; and how they are found.
//!
//! What they are about is asked of the running issuer, whose index knows it; without one, of the index file;
//! and where that cannot be used, of every record. All three say the same.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Stop, read_tbs};
use crate::acme::rfc3339;
use crate::cli::admin::Issuer;
use crate::config::Config;
use crate::env::system::SystemDisk;
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::ipc::admin::records::{self, Places, RecordAnswer, RecordQuestion};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};
use crate::log::Record;
use crate::log::index::{Located, Matcher, NamePattern, Stopped, Subject};
use crate::log::reader::{DISORDER, Entry, Reader};

/// Which records, of a part of the log.
#[derive(Debug, Default, Args)]
pub struct Selection {
    /// First leaf.
    #[arg(long, default_value_t = 0, value_name = "LEAF")]
    pub(super) from: u64,
    /// Records at most.
    #[arg(long, value_name = "COUNT")]
    pub(super) limit: Option<usize>,
    /// Only records before this day, or instant.
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(super) until: Option<Timestamp>,
    #[command(flatten)]
    pub(super) of: Filter,
}

/// Which records, wherever they are.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only records of this kind; several with commas between.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(Record::KINDS), value_name = "KIND")]
    pub(super) kind: Vec<String>,
    /// Only records of this day and later: 2026-11-22, or an instant, 2026-11-22T06:00:00Z.
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(super) since: Option<Timestamp>,
    /// Only what is about the certificate with this serial.
    #[arg(long, value_name = "SERIAL")]
    pub(super) serial: Option<Serial>,
    /// Only what is about this order's certificate.
    #[arg(long, value_name = "ORDER", allow_hyphen_values = true)]
    pub(super) order: Option<OrderId>,
    /// Only what is about this account and its certificates.
    #[arg(long, value_name = "ACCOUNT", allow_hyphen_values = true)]
    pub(super) account: Option<AccountId>,
    /// Only what is about certificates with this name or address; `*.lan` for every name below lan.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

const SLOWLY: &str = "no index can be asked for this: every record is read";

/// A day in UTC, or an instant.
pub(super) fn day(text: &str) -> Result<Timestamp, String> {
    let midnight = || rfc3339::parse(&format!("{text}T00:00:00Z"));
    rfc3339::parse(text)
        .or_else(midnight)
        .ok_or_else(|| "write a day as 2026-11-22 or an instant as 2026-11-22T06:00:00Z".to_owned())
}

impl Filter {
    /// What it is about.
    pub(super) fn subject(&self) -> Subject {
        Subject {
            serial: self.serial,
            order: self.order,
            account: self.account,
            name: self.name.as_deref().map(NamePattern::new),
        }
    }

    /// Whether it is of the days and kind that are asked for.
    fn takes(&self, entry: &Entry) -> bool {
        let is_kind = |record: &Record| self.kind.iter().any(|kind| kind == record.kind());
        // What cannot be read is shown: nobody knows when it was.
        let at = entry.record.as_ref().ok().map(|record| record.at());
        (self.kind.is_empty() || entry.record.as_ref().is_ok_and(is_kind))
            && self.since.is_none_or(|since| at.is_none_or(|at| at >= since))
    }

    /// Looks at records in their order: what follows an intent names only its serial.
    pub(super) fn picker(&self) -> Picker<'_> {
        Picker { filter: self, matcher: Matcher::new(self.subject(), read_tbs) }
    }

    /// The last `count` records that it takes, what has looked at them, and the leaf behind them.
    pub(super) fn last(
        &self,
        count: usize,
        reader: &Reader,
        config: &Config,
    ) -> Result<(Vec<Entry>, Picker<'_>, LeafIndex), Stop> {
        if self.subject().is_anything() {
            let from = self.since.map_or(Ok(LeafIndex(0)), |since| reader.since(since))?;
            let (last, end) = reader.last(from, count, &|entry| self.takes(entry))?;
            return Ok((last, self.picker(), end));
        }
        let selection = Selection { of: self.clone(), ..Selection::default() };
        let (mut last, mut picker) = (VecDeque::new(), self.picker());
        let end = selection.walk(&mut picker, reader, config, &mut |entry| {
            if last.len() == count {
                last.pop_front();
            }
            if count > 0 {
                last.push_back(entry.clone());
            }
            Ok(())
        })?;
        Ok((last.into(), picker, end))
    }
}

/// A filter, and what it has seen of its subject.
pub(super) struct Picker<'a> {
    filter: &'a Filter,
    matcher: Matcher,
}

impl Picker<'_> {
    /// Whether the next record is taken.
    pub(super) fn takes(&mut self, entry: &Entry) -> bool {
        let is_about = match &entry.record {
            Ok(record) => self.matcher.takes(record),
            Err(_) => self.matcher.takes_anything(),
        };
        is_about && self.filter.takes(entry)
    }
}

impl Selection {
    /// Whether it is of the leaves, days and kind that are asked for.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let at = entry.record.as_ref().ok().map(|record| record.at());
        entry.leaf.0 >= self.from
            && self.until.is_none_or(|until| at.is_none_or(|at| at < until))
            && self.of.takes(entry)
    }

    /// Whether nothing behind this record can be of the days that are asked for.
    fn is_past(&self, entry: &Entry) -> bool {
        let at = entry.record.as_ref().ok().map(|record| record.at());
        match (self.until, at) {
            (Some(until), Some(at)) => at >= until.plus(DISORDER),
            _ => false,
        }
    }

    /// Calls `take` with each record that it takes and that is about its subject, in the order of the log, until
    /// that says no or there are `limit`.
    pub(super) fn each(
        &self,
        reader: &Reader,
        config: &Config,
        take: &mut dyn FnMut(&Entry) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.walk(&mut self.of.picker(), reader, config, take).map(drop)
    }

    /// The same with a picker that can be asked on afterwards; says from which leaf on.
    fn walk(
        &self,
        picker: &mut Picker<'_>,
        reader: &Reader,
        config: &Config,
        take: &mut dyn FnMut(&Entry) -> Result<(), Stop>,
    ) -> Result<LeafIndex, Stop> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let subject = self.of.subject();
        // A subject's records are known by an intent that may lie before the days asked for.
        let mut next = if subject.is_anything() {
            let day = self.of.since.map_or(Ok(LeafIndex(0)), |since| reader.since(since))?;
            day.max(LeafIndex(self.from))
        } else {
            LeafIndex(0)
        };
        let located = if subject.is_anything() { None } else { locate(&subject, config) };
        if located.is_none() && !subject.is_anything() {
            // Without a standard error nobody wonders why it takes long.
            let _ = writeln!(std::io::stderr(), "{SLOWLY}");
        }
        let mut one = |entry: &Entry, left: &mut usize| -> Result<bool, Stop> {
            if picker.takes(entry) && self.takes(entry) {
                if *left == 0 {
                    return Ok(false);
                }
                *left -= 1;
                take(entry)?;
            }
            Ok(*left > 0 && !self.is_past(entry))
        };
        if left == 0 {
            return Ok(next);
        }
        if let Some(Located { places, then }) = located {
            for (leaf, offset) in places {
                next = LeafIndex(leaf.0 + 1);
                if !one(&reader.at(leaf, offset)?, &mut left)? {
                    return Ok(next);
                }
            }
            next = next.max(then);
        }
        for entry in reader.entries(next) {
            let entry = entry?;
            next = LeafIndex(entry.leaf.0 + 1);
            if !one(&entry, &mut left)? {
                break;
            }
        }
        Ok(next)
    }
}

/// Where an index says that the records are; `None` if none can be asked.
pub fn locate(subject: &Subject, config: &Config) -> Option<Located> {
    Finder::open(config)?.about(subject)
}

/// Where the index says that these intents of these serials are, as far as it says anything.
pub(super) fn places(intents: &[(Serial, LeafIndex)], config: &Config) -> BTreeMap<LeafIndex, u64> {
    let mut found = BTreeMap::new();
    if intents.is_empty() {
        return found;
    }
    let Some(mut finder) = Finder::open(config) else { return found };
    for (serial, intent) in intents {
        let subject = Subject { serial: Some(*serial), ..Subject::default() };
        let Some(located) = finder.about(&subject) else { break };
        found.extend(located.places.into_iter().filter(|(leaf, _)| leaf == intent));
    }
    found
}

/// An index that can be asked: of the running issuer, or the file.
enum Finder {
    Running(Issuer),
    Stopped(Box<Stopped>),
}

impl Finder {
    fn open(config: &Config) -> Option<Self> {
        match Stopped::open(Arc::new(SystemDisk), &config.paths.log(), read_tbs) {
            Some(stopped) => Some(Self::Stopped(Box::new(stopped))),
            None => Issuer::connect(config).ok().map(Self::Running),
        }
    }

    fn about(&mut self, subject: &Subject) -> Option<Located> {
        match self {
            Self::Stopped(stopped) => stopped.about(subject).ok().flatten(),
            Self::Running(issuer) => ask(subject, issuer),
        }
    }
}

fn ask(subject: &Subject, issuer: &mut Issuer) -> Option<Located> {
    let Subject { serial, order, account, name } = subject.clone();
    let name = name.map(|pattern| pattern.to_string());
    let subject = records::Subject { serial, order, account, name };
    let mut located: Option<Located> = None;
    let mut from = LeafIndex(0);
    loop {
        let question = RecordQuestion::About { subject: subject.clone(), from };
        let AdminAnswer::Record(RecordAnswer::Places(Places { places, more, size })) =
            issuer.ask(&AdminQuestion::Record(question)).ok()?
        else {
            return None;
        };
        let places = places?;
        let last = places.last().copied();
        // What came after the first question is looked at one by one.
        let located =
            located.get_or_insert_with(|| Located { places: Vec::new(), then: LeafIndex(size) });
        located.places.extend(places);
        match last {
            Some((leaf, _)) if more => from = LeafIndex(leaf.0 + 1),
            _ => return Some(located.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_an_instant_is_one() {
        assert_eq!(day("1970-01-02"), Ok(Timestamp(86_400_000)));
        assert_eq!(day("1970-01-02T00:00:01Z"), Ok(Timestamp(86_401_000)));
        assert!(day("yesterday").is_err());
    }
}
