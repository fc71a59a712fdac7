//! What the index says of certificates: which there are, whose, for which names, and when they end.
//!
//! The index finds intents; what a certificate is, stands in its intent in the log and is read there.

use std::collections::BTreeSet;

use super::keys::{self, Row, Set, Short};
use super::names::{self, NamePattern};
use super::{Index, Issuance, Layer, leaves::Fate};
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::log::record::{IntentV1, Record, Requester};

/// What is asked of a TBSCertificate. This room knows no X.509: whoever opens the log brings the reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TbsFacts {
    /// Names and addresses of the SAN, as ACME writes them.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The URL in CRLDistributionPoints.
    pub crl: Option<String>,
}

/// Reads a TBSCertificate; a pure function of its bytes.
pub type ReadTbs = fn(&[u8]) -> Option<TbsFacts>;

/// A certificate that was intended, issued or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateEntry {
    pub intent: LeafIndex,
    /// Whose order it was; `None`: the box's own.
    pub account: Option<AccountId>,
    pub profile: String,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The URL of the CRL that would list it.
    pub crl: Option<String>,
}

/// Which certificates, and in which order they come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listing {
    /// By their end.
    All,
    /// An account's, by their end.
    Account(AccountId),
    /// Those of a name by their end; those below a name by name, then by their end.
    Named(NamePattern),
}

/// Where in a listing a certificate stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// In listings by name: its labels reversed.
    pub name: String,
    pub end: Timestamp,
    pub intent: LeafIndex,
}

/// A part of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    pub found: Vec<(Place, Serial, CertificateEntry)>,
    /// Where to go on; `None`: that was all.
    pub next: Option<Place>,
}

impl Layer {
    /// `facts`: what was read in the intent's bytes, if they can be read.
    pub(super) fn intended(&mut self, leaf: LeafIndex, intent: &IntentV1, facts: Option<TbsFacts>) {
        let row = Row { end: 0, leaf: leaf.0 };
        let mut add = |set, short, row| {
            self.keys.insert(keys::Key::new(set, short, row));
        };
        add(Set::Serials, keys::of_serial(intent.serial), row);
        if let Requester::Order { order, .. } = intent.requester {
            add(Set::Orders, keys::of_order(order), row);
        }
        let Some(facts) = facts else { return };
        let row = Row { end: facts.not_after.unix_seconds(), ..row };
        add(Set::Ends, NOTHING, row);
        if let Requester::Order { account, .. } = intent.requester {
            add(Set::Accounts, keys::of_account(account), row);
        }
        for name in facts.names.iter().map(|name| name.to_ascii_lowercase()) {
            add(Set::Names, keys::of_name(&name), row);
            self.names.extend(names::reversed(&name));
        }
        if let Some(crl) = facts.crl {
            self.revocations.named(crl, facts.not_after);
        }
    }
}

/// For the set that is about nothing in particular.
const NOTHING: Short = [0; 8];

impl Index {
    /// The issuance of an order: of its newest intent.
    pub fn by_order(&self, order: OrderId) -> Result<Option<Issuance>, String> {
        let rows = self.rows(Set::Orders, keys::of_order(order), Row::FIRST, usize::MAX)?;
        for row in rows.into_iter().rev() {
            let intent = self.intent(row.leaf())?;
            match intent.requester {
                Requester::Order { order: own, .. } if own == order => {
                    return self.issuance(row.leaf(), intent.serial).map(Some);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The issuance of a serial.
    pub fn by_serial(&self, serial: Serial) -> Result<Option<Issuance>, String> {
        match self.intent_of(serial)? {
            Some((leaf, _)) => self.issuance(leaf, serial).map(Some),
            None => Ok(None),
        }
    }

    /// How far the issuance that began with this leaf has come; the serial is the intent's.
    pub fn issuance(&self, intent: LeafIndex, serial: Serial) -> Result<Issuance, String> {
        Ok(match self.fate(intent)? {
            None => Issuance::Intended { intent, serial },
            Some(Fate::Issued(issued)) => Issuance::Issued { intent, issued, serial },
            Some(Fate::Abandoned(abandoned)) => Issuance::Abandoned { intent, abandoned, serial },
        })
    }

    /// What is known of a serial's certificate.
    pub fn certificate(&self, serial: Serial) -> Result<Option<CertificateEntry>, String> {
        let found = self.intent_of(serial)?;
        Ok(found.and_then(|(leaf, intent)| self.entry(leaf, intent)))
    }

    /// Certificates that end at `from` or later, behind `after`. Looks at `limit` rows at most, so there may be more
    /// although none was found.
    pub fn certificates(
        &self,
        listing: &Listing,
        from: Timestamp,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Part, String> {
        let (set, short) = match listing {
            Listing::All => (Set::Ends, NOTHING),
            Listing::Account(account) => (Set::Accounts, keys::of_account(*account)),
            Listing::Named(NamePattern::Exactly(name)) => (Set::Names, keys::of_name(name)),
            Listing::Named(NamePattern::Below(suffix)) => {
                return self.below(suffix, from, after, limit);
            }
        };
        let first = after.map_or(Row::FIRST, |after| after.row().next()).max(Row::ending(from));
        let rows = self.rows(set, short, first, limit)?;
        let mut part = Part::default();
        for row in &rows {
            let place = Place::of(String::new(), *row);
            let Some((serial, entry)) = self.certificate_at(row.leaf())? else { continue };
            // Another's, whose short form is the same.
            let is_meant = match listing {
                Listing::Account(account) => entry.account == Some(*account),
                Listing::Named(pattern) => entry.names.iter().any(|name| pattern.matches(name)),
                Listing::All => true,
            };
            if is_meant {
                part.found.push((place, serial, entry));
            }
        }
        if rows.len() == limit {
            part.next = rows.last().map(|row| Place::of(String::new(), *row));
        }
        Ok(part)
    }

    /// A certificate with several names below the suffix stands where the first of them does.
    fn below(
        &self,
        suffix: &str,
        from: Timestamp,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Part, String> {
        let beginning = names::beginning(suffix);
        let first = after.map_or(beginning.as_str(), |after| after.name.as_str());
        let newer: BTreeSet<String> = self.gather(|layer| {
            let range = layer.names.range(first.to_owned()..);
            let below = range.take_while(|name| name.starts_with(&beginning));
            below.take(limit).cloned().collect()
        });
        let mut all = self.with_db(|db| names::stored(db, &beginning, first, limit))?;
        all.extend(newer);
        let more_names = all.len() >= limit;
        let mut part = Part::default();
        let mut left = limit;
        let mut last = None;
        for reversed in all.into_iter().take(limit) {
            let Some(name) = names::reversed(&reversed) else { continue };
            let begun = after.filter(|after| after.name == reversed);
            let first = begun.map_or(Row::FIRST, |after| after.row().next()).max(Row::ending(from));
            let rows = self.rows(Set::Names, keys::of_name(&name), first, left)?;
            for row in &rows {
                let Some((serial, entry)) = self.certificate_at(row.leaf())? else { continue };
                let own = entry.names.iter().map(|name| name.to_ascii_lowercase());
                let own = own.filter_map(|name| names::reversed(&name));
                let least = own.filter(|name| name.starts_with(&beginning)).min();
                if least.as_ref() == Some(&reversed) {
                    part.found.push((Place::of(reversed.clone(), *row), serial, entry));
                }
            }
            if let (true, Some(row)) = (rows.len() == left, rows.last()) {
                part.next = Some(Place::of(reversed, *row));
                return Ok(part);
            }
            // An empty name costs too: a part is a bounded piece of work.
            left = left.saturating_sub(rows.len() + 1).max(1);
            last = Some(Place::of(reversed, Row::LAST));
        }
        part.next = last.filter(|_| more_names);
        Ok(part)
    }

    /// The intent with this serial.
    fn intent_of(&self, serial: Serial) -> Result<Option<(LeafIndex, IntentV1)>, String> {
        let rows = self.rows(Set::Serials, keys::of_serial(serial), Row::FIRST, usize::MAX)?;
        for row in rows.into_iter().rev() {
            let intent = self.intent(row.leaf())?;
            if intent.serial == serial {
                return Ok(Some((row.leaf(), intent)));
            }
        }
        Ok(None)
    }

    /// Reads an intent in the log.
    pub(super) fn intent(&self, leaf: LeafIndex) -> Result<IntentV1, String> {
        match self.record(leaf)? {
            Record::IntentV1(intent) => Ok(intent),
            _ => Err(format!("the index takes leaf {leaf} for an intent")),
        }
    }

    fn certificate_at(
        &self,
        leaf: LeafIndex,
    ) -> Result<Option<(Serial, CertificateEntry)>, String> {
        let intent = self.intent(leaf)?;
        let serial = intent.serial;
        Ok(self.entry(leaf, intent).map(|entry| (serial, entry)))
    }

    fn entry(&self, leaf: LeafIndex, intent: IntentV1) -> Option<CertificateEntry> {
        let TbsFacts { names, not_before, not_after, crl } = (self.read_tbs)(&intent.tbs)?;
        let account = match intent.requester {
            Requester::Order { account, .. } => Some(account),
            Requester::Own => None,
        };
        let (intent, profile) = (leaf, intent.profile);
        Some(CertificateEntry { intent, account, profile, names, not_before, not_after, crl })
    }

    /// Rows of one thing from `first` on, ascending; at most `limit`.
    pub(super) fn rows(
        &self,
        set: Set,
        short: Short,
        first: Row,
        limit: usize,
    ) -> Result<Vec<Row>, String> {
        let newer: BTreeSet<Row> =
            self.gather(|layer| keys::recent(&layer.keys, set, short, first, limit));
        let mut all = newer;
        all.extend(self.with_db(|db| keys::stored(db, set, short, first, limit))?);
        Ok(all.into_iter().take(limit).collect())
    }

    fn fate(&self, intent: LeafIndex) -> Result<Option<Fate>, String> {
        match self.look(|layer| layer.leaves.fate(intent)) {
            Some(fate) => Ok(Some(fate)),
            None => self.with_db(|db| super::leaves::fate(db, intent)),
        }
    }
}

impl Place {
    fn of(name: String, row: Row) -> Self {
        Self { name, end: Timestamp::from_unix_seconds(row.end), intent: row.leaf() }
    }

    fn row(&self) -> Row {
        Row { end: self.end.unix_seconds(), leaf: self.intent.0 }
    }
}
