//! A record as a row, as JSON and at length: what list, show, export and the audit's report say of it.

use serde::ser::{SerializeMap, Serializer};

use super::fields::{self, Field};
use crate::id::{OrderId, Serial};
use crate::log::reader::Entry;
use crate::log::record::{
    Actor, ConfigChangedV1, PreviousEnd, Record, Requester, ShownBy, StartedV1,
};
use crate::log::tree::leaf_hash;
use crate::pki::certificate::Certificate;

/// What there is to say of an entry, in the order in which it is shown.
pub struct Described {
    fields: Vec<(String, Field)>,
    leaf: u64,
    at: String,
    kind: &'static str,
    serial: Option<Serial>,
    actor: Option<String>,
    /// The last column of a row.
    gist: String,
}

impl Described {
    pub const HEADING: &str =
        "    LEAF  TIME (UTC)            KIND         SERIAL                            WHAT";

    pub fn of(entry: &Entry) -> Self {
        let mut fields: Vec<(String, Field)> = Vec::new();
        let mut put = |key: &str, field: Field| fields.push((key.to_owned(), field));
        put("leaf", Field::Number(entry.leaf.0));
        let shown =
            entry.record.as_ref().map_err(ToString::to_string).and_then(|record| {
                Ok((record, fields::of(record).map_err(|why| why.to_string())?))
            });
        let (kind, about, at, gist) = match shown {
            Err(why) => {
                put("kind", Field::Text("unknown".into()));
                put("bytes", Field::Octets(entry.payload.clone()));
                ("unknown", None, "-".to_owned(), printable(&why))
            }
            Ok((record, (variant, own))) => {
                put("kind", Field::Text(record.kind().into()));
                put("record", Field::Text(variant));
                for (name, field) in own {
                    put(&name, field);
                }
                if let Record::IntentV1(intent) = record {
                    let names = names(&intent.tbs).into_iter().map(Field::Text);
                    put("names", Field::List(names.collect()));
                }
                (record.kind(), serial(record), record.at().to_string(), gist(record))
            }
        };
        put("leaf_hash", Field::Octets(leaf_hash(&entry.payload).to_vec()));
        put("segment", Field::Text(entry.segment.clone()));
        put("octet", Field::Number(entry.octet));
        put("octets", Field::Number(entry.payload.len() as u64));
        let actor = entry.record.as_ref().ok().and_then(by).map(actor);
        Self { fields, leaf: entry.leaf.0, at, kind, serial: about, actor, gist }
    }

    /// One line of a table.
    pub fn row(&self) -> String {
        let serial = self.serial.map_or_else(|| "-".to_owned(), |serial| serial.to_string());
        format!("{:>8}  {:<20}  {:<11}  {serial:<32}  {}", self.leaf, self.at, self.kind, self.gist)
    }

    /// What it says, in a few words.
    pub fn gist(&self) -> &str {
        &self.gist
    }

    /// Who had it done, where the record says so.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// One JSON object on one line.
    pub fn json(&self) -> String {
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let written = serializer.serialize_map(Some(self.fields.len())).and_then(|mut map| {
            for (name, field) in &self.fields {
                map.serialize_entry(name, field)?;
            }
            map.end()
        });
        // Into memory, of names, numbers and texts: nothing can fail.
        drop(written);
        String::from_utf8(line).unwrap_or_default()
    }

    /// One field a line.
    pub fn long(&self) -> String {
        let mut lines = Vec::new();
        for (name, field) in &self.fields {
            field.flatten(name, &mut lines);
        }
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        lines.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
    }
}

/// What an operator wants to know of it at a glance.
fn gist(record: &Record) -> String {
    match record {
        Record::CeremonyV1(r) => printable(&r.origin),
        Record::AccountRegisteredV1(r) => r.account.to_string(),
        Record::AccountRegisteredV2(r) => match &r.ticket {
            Some(ticket) => format!("{} by ticket {}", r.account, printable(ticket)),
            None => r.account.to_string(),
        },
        Record::KeyChangedV1(r) => r.account.to_string(),
        Record::AccountDeactivatedV1(r) => format!("{} by {}", r.account, actor(&r.by)),
        Record::IntentV1(r) => {
            let names = printable(&names(&r.tbs).join(" "));
            match &r.requester {
                Requester::Order { .. } => names,
                Requester::Own => format!("{names} (this box itself)"),
            }
        }
        Record::IssuedV1(r) => format!("intent {}", r.intent),
        Record::AbandonedV1(r) => format!("intent {}: {}", r.intent, printable(&r.reason)),
        Record::CrlV1(r) => {
            format!("number {}, {} entries, until {}", r.number, r.entries, r.next_update)
        }
        Record::CrlV2(r) => format!(
            "{} number {}, {} entries, until {}",
            printable(&r.crl),
            r.number,
            r.entries,
            r.next_update
        ),
        Record::ClockAcceptedV1(r) => format!("floor {}", r.floor),
        Record::TicketMintedV1(r) => {
            let (ticket, by) = (printable(&r.ticket), actor(&r.by));
            format!("{ticket} for {} uses until {} by {by}", r.uses, r.expires)
        }
        Record::TicketRevokedV1(r) => format!("{} by {}", printable(&r.ticket), actor(&r.by)),
        Record::RevokedV1(r) => {
            let reason =
                r.reason.map_or_else(|| "no reason given".into(), |r| format!("reason {r}"));
            format!("intent {}, by {}, {reason}", r.intent, actor(&r.by))
        }
        Record::RecallV1(r) => {
            format!("to be replaced from {} to {}, by {}", r.start, r.end, actor(&r.by))
        }
        Record::RecallEndedV1(r) => format!("recall {} by {}", r.recall, actor(&r.by)),
        Record::LogKeyRotatedV1(r) => {
            format!("another log key; the former signs too until about {}", r.until)
        }
        Record::LogKeyRetiredV1(r) => match &r.by {
            Some(by) => format!("the former log key signs no more, by {}", actor(by)),
            None => "the former log key signs no more: its time was over".into(),
        },
        Record::IssuerAddedV1(r) => {
            let (name, line) = (printable(&r.name), printable(&r.line));
            let after = if r.supersedes.is_some() { "takes over as" } else { "begins" };
            format!("{name} {after} issuing CA of the line {line}")
        }
        Record::RootAddedV1(r) => {
            format!("another root, {}, certified by the one before it", printable(&r.name))
        }
        Record::AuthorityRetiredV1(r) => match &r.by {
            Some(by) => format!("a root or issuing CA is done with, by {}", actor(by)),
            None => "a root or issuing CA is done with: its time was over".into(),
        },
        Record::StartedV1(r) => started(r),
        Record::ConfigChangedV1(r) => config_changed(r),
        Record::CeremonyHeldV1(r) => {
            let by = r.by.as_ref().map(|by| format!(" by {}", actor(by))).unwrap_or_default();
            format!("{} ({}), held {}{by}", printable(&r.act), printable(&r.ceremony), r.held)
        }
        Record::RestoredV1(r) => {
            let shown = match &r.shown {
                ShownBy::Operator => "the operator".to_owned(),
                ShownBy::Witness { name, .. } => format!("the witness {}", printable(name)),
            };
            let (size, made, by) = (r.size, r.made, actor(&r.by));
            format!("from a backup of {made}, {size} records, the newest says {shown}; by {by}")
        }
        Record::LogSucceededV1(r) => format!(
            "{} goes on for {} after {} records; from {} to {} nothing is known; by {}",
            printable(&r.ceremony.origin),
            printable(&r.origin),
            r.size,
            r.unknown_from,
            r.unknown_until,
            actor(&r.by)
        ),
        Record::EpochTakenV1(r) => {
            let held = if r.held { "" } else { ", which the token cannot hold" };
            format!("the token is this box's from epoch {} on{held}; by {}", r.epoch, actor(&r.by))
        }
        Record::FormatRaisedV1(r) => format!(
            "the state is written in format {} from here on, before in {}; version {} was kept by {}",
            r.to,
            r.from,
            printable(&r.version),
            actor(&r.by)
        ),
        Record::RefusedV1(r) => {
            let rows: Vec<String> = r
                .refusals
                .iter()
                .map(|refusal| {
                    let who = refusal.account.map(|a| format!(" by {a}")).unwrap_or_default();
                    printable(&format!(
                        "{} × {} {}{who}",
                        refusal.count, refusal.asked, refusal.why
                    ))
                })
                .collect();
            format!("since {}: {}", r.from, rows.join(", "))
        }
    }
}

fn started(r: &StartedV1) -> String {
    let mut gist = format!("version {}, found {} records", printable(&r.version), r.found);
    if r.previous == PreviousEnd::Unclean {
        gist.push_str(", the process before did not end cleanly");
    }
    if r.torn {
        gist.push_str(", an unfinished write was cut");
    }
    if r.starts > 1 {
        gist.push_str(&format!(", {} starts since the last record of one", r.starts));
    }
    gist
}

fn config_changed(r: &ConfigChangedV1) -> String {
    match &r.changed {
        None => "the configuration is stated; what it was before is not known".into(),
        Some(keys) if r.unlisted > 0 => {
            format!("changed: {} and {} more", printable(&keys.join(" ")), r.unlisted)
        }
        Some(keys) => format!("changed: {}", printable(&keys.join(" "))),
    }
}

/// Who had it done.
fn actor(by: &Actor) -> String {
    match by {
        Actor::Account { account, .. } => format!("account {account}"),
        Actor::Operator { uid, user } => format!("operator {} (uid {uid})", printable(user)),
        Actor::Key { .. } => "the certificate's key".into(),
    }
}

/// Who had a record made, of those that say it.
fn by(record: &Record) -> Option<&Actor> {
    match record {
        Record::AccountDeactivatedV1(r) => Some(&r.by),
        Record::TicketMintedV1(r) => Some(&r.by),
        Record::TicketRevokedV1(r) => Some(&r.by),
        Record::RevokedV1(r) => Some(&r.by),
        Record::RecallV1(r) => Some(&r.by),
        Record::RecallEndedV1(r) => Some(&r.by),
        Record::LogKeyRetiredV1(r) => r.by.as_ref(),
        Record::AuthorityRetiredV1(r) => r.by.as_ref(),
        Record::CeremonyHeldV1(r) => r.by.as_ref(),
        Record::RestoredV1(r) => Some(&r.by),
        Record::LogSucceededV1(r) => Some(&r.by),
        Record::EpochTakenV1(r) => Some(&r.by),
        Record::FormatRaisedV1(r) => Some(&r.by),
        _ => None,
    }
}

/// The serial a record is about.
pub fn serial(record: &Record) -> Option<Serial> {
    match record {
        Record::IntentV1(r) => Some(r.serial),
        Record::IssuedV1(r) => Some(r.serial),
        Record::AbandonedV1(r) => Some(r.serial),
        Record::RevokedV1(r) => Some(r.serial),
        Record::RecallV1(r) => r.serial,
        _ => None,
    }
}

/// The order an intent is for.
pub fn order(record: &Record) -> Option<OrderId> {
    match record {
        Record::IntentV1(r) => match r.requester {
            Requester::Order { order, .. } => Some(order),
            Requester::Own => None,
        },
        _ => None,
    }
}

/// The names in a TBSCertificate.
pub(super) fn names(tbs: &[u8]) -> Vec<String> {
    Certificate::of_tbs(tbs)
        .map(|certificate| certificate.identifiers().iter().map(|i| i.value()).collect())
        .unwrap_or_default()
}

/// For a terminal: control characters could rewrite what stands there.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
