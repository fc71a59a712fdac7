//! Names as they are asked for, and every name that a certificate ever had.
//!
//! A name stands once, with its labels reversed: `lan.printer`. So all names below a suffix are neighbours,
//! and their certificates are found by each name's digest.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::table::text;

/// Which names are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamePattern {
    /// This name or address; also a wildcard, as it stands in a certificate.
    Exactly(String),
    /// Every name below this one, wildcards too.
    Below(String),
}

impl NamePattern {
    /// `*.` and a suffix means every name below; case does not matter.
    pub fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(suffix) => Self::Below(suffix.to_owned()),
            None => Self::Exactly(text),
        }
    }

    /// Whether it means this name of a certificate.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exactly(wanted) => name.eq_ignore_ascii_case(wanted),
            Self::Below(suffix) => {
                let name = reversed(&name.to_ascii_lowercase());
                name.is_some_and(|name| name.starts_with(&beginning(suffix)))
            }
        }
    }
}

impl fmt::Display for NamePattern {
    /// As `new` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// The labels in reverse. `None` for an address: nothing lies below it. Its own inverse.
pub(super) fn reversed(name: &str) -> Option<String> {
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    Some(name.rsplit('.').collect::<Vec<_>>().join("."))
}

/// What the reversed names below `suffix` begin with.
pub(super) fn beginning(suffix: &str) -> String {
    format!("{}.", suffix.rsplit('.').collect::<Vec<_>>().join("."))
}

const NAMES: TableDefinition<'_, &str, ()> = TableDefinition::new("names");

/// An empty database has all of its tables.
pub(super) fn create(tx: &WriteTransaction) -> Result<(), String> {
    tx.open_table(NAMES).map(drop).map_err(text)
}

/// This room's part of a transaction; the names are reversed. Most were there before, and cost no write.
pub(super) fn write(tx: &WriteTransaction, names: &BTreeSet<String>) -> Result<(), String> {
    let mut table = tx.open_table(NAMES).map_err(text)?;
    for name in names {
        if table.get(name.as_str()).map_err(text)?.is_none() {
            table.insert(name.as_str(), ()).map_err(text)?;
        }
    }
    Ok(())
}

/// Reversed names from `first` on that begin with `beginning`; at most `limit`.
pub(super) fn stored(
    db: &Database,
    beginning: &str,
    first: &str,
    limit: usize,
) -> Result<BTreeSet<String>, String> {
    let table = db.begin_read().map_err(text)?.open_table(NAMES).map_err(text)?;
    let mut names = BTreeSet::new();
    for entry in table.range(first..).map_err(text)?.take(limit) {
        let name = entry.map_err(text)?.0.value().to_owned();
        if !name.starts_with(beginning) {
            break;
        }
        names.insert(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_an_operator_means() {
        let below = NamePattern::new("*.Example.lan");
        for name in ["a.example.lan", "*.example.lan", "b.a.EXAMPLE.lan"] {
            assert!(below.matches(name), "{name}");
        }
        for name in ["example.lan", "a.anexample.lan", "example.lan.test", "lan"] {
            assert!(!below.matches(name), "{name}");
        }
        assert!(NamePattern::new("Printer.lan").matches("printer.lan"));
        assert!(!NamePattern::new("printer.lan").matches("a.printer.lan"));
        assert!(NamePattern::new("10.0.0.1").matches("10.0.0.1"));
        assert!(!NamePattern::new("*.0.1").matches("10.0.0.1"), "an address has no labels");
        assert_eq!(reversed("a.b.lan").as_deref(), Some("lan.b.a"));
        assert_eq!(reversed("fd00::1"), None);
    }
}
