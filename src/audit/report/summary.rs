//! The counts of a period.

use std::collections::BTreeMap;

use super::rows::Row;
use crate::id::Timestamp;

/// What is counted. Each map has [`MAX_GROUPS`] keys at most; what comes later is counted under `(others)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Records of each kind; intents are not counted.
    pub kinds: BTreeMap<&'static str, u64>,
    pub days: BTreeMap<String, Tally>,
    pub profiles: BTreeMap<String, Tally>,
    /// `own` for the box itself.
    pub accounts: BTreeMap<String, Tally>,
    /// Requests refused, by what was asked and why.
    pub refusals: BTreeMap<String, u64>,
    /// By URL; the complete one of old logs has none.
    pub crls: BTreeMap<String, Crls>,
    /// All of it.
    pub total: Tally,
}

/// What became of certificates, and what was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub issued: u64,
    pub abandoned: u64,
    pub revoked: u64,
    pub refused: u64,
}

/// The CRLs at one URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crls {
    pub made: u64,
    /// The greatest number.
    pub number: u64,
}

/// Days of ten years fit.
const MAX_GROUPS: usize = 4096;

impl Summary {
    pub(super) fn add(&mut self, row: &Row) {
        *self.kinds.entry(row.kind).or_default() += 1;
        let day = row.at.map(day).unwrap_or_default();
        let count: fn(&mut Tally) = match row.kind {
            "issued" => |tally| tally.issued += 1,
            "abandoned" => |tally| tally.abandoned += 1,
            "revoked" => |tally| tally.revoked += 1,
            _ => {
                self.add_other(row, day);
                return;
            }
        };
        count(&mut self.total);
        count(group(&mut self.days, day));
        count(group(&mut self.profiles, row.profile.clone().unwrap_or_default()));
        let account = row.account.map_or_else(|| "own".to_owned(), |account| account.to_string());
        count(group(&mut self.accounts, account));
    }

    fn add_other(&mut self, row: &Row, day: String) {
        if let Some((url, number)) = &row.crl {
            let crls = group(&mut self.crls, url.clone());
            crls.made += 1;
            crls.number = crls.number.max(*number);
        }
        let refused: u64 =
            row.refusals.iter().map(|(_, _, count)| *count).fold(0, u64::saturating_add);
        if refused == 0 {
            return;
        }
        let add =
            |tally: &mut Tally, count: u64| tally.refused = tally.refused.saturating_add(count);
        add(&mut self.total, refused);
        add(group(&mut self.days, day), refused);
        for (why, account, count) in &row.refusals {
            let refusals = group(&mut self.refusals, why.clone());
            *refusals = refusals.saturating_add(*count);
            if let Some(account) = account {
                add(group(&mut self.accounts, account.to_string()), *count);
            }
        }
    }
}

fn group<T: Default>(groups: &mut BTreeMap<String, T>, key: String) -> &mut T {
    let key = if groups.len() < MAX_GROUPS || groups.contains_key(&key) {
        key
    } else {
        "(others)".to_owned()
    };
    groups.entry(key).or_default()
}

/// The day in UTC.
fn day(at: Timestamp) -> String {
    let mut text = at.to_string();
    text.truncate("2026-11-22".len());
    text
}
