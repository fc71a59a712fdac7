//! Which records are about something: found through the index, or by looking at every record.

use std::collections::{BTreeSet, HashSet};

use super::keys::{self, Row, Set};
use super::names::NamePattern;
use super::{Index, Issuance, Listing, ReadTbs};
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::log::record::{IntentV1, Record, Requester};

/// What records shall be about. All that is given must hold of a certificate; its intent, signature,
/// abandonment and revocation are about it. An account alone means its own records too.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    pub serial: Option<Serial>,
    pub order: Option<OrderId>,
    pub account: Option<AccountId>,
    pub name: Option<NamePattern>,
}

/// Rows of the index looked at before reading the whole log is no worse.
const MOST_ROWS: usize = 20_000;
/// Looked at in one piece.
const PIECE: usize = 1000;

impl Subject {
    /// Whether it is about nothing in particular.
    pub fn is_anything(&self) -> bool {
        *self == Self::default()
    }

    fn account_alone(&self) -> Option<AccountId> {
        let alone = self.serial.is_none() && self.order.is_none() && self.name.is_none();
        self.account.filter(|_| alone)
    }

    fn means(&self, intent: &IntentV1, read_tbs: ReadTbs) -> bool {
        let (order, account) = match &intent.requester {
            Requester::Order { order, account, .. } => (Some(*order), Some(*account)),
            Requester::Own => (None, None),
        };
        self.serial.is_none_or(|serial| serial == intent.serial)
            && self.order.is_none_or(|wanted| order == Some(wanted))
            && self.account.is_none_or(|wanted| account == Some(wanted))
            && self.name.as_ref().is_none_or(|pattern| {
                read_tbs(&intent.tbs)
                    .is_some_and(|facts| facts.names.iter().any(|name| pattern.matches(name)))
            })
    }
}

/// Looks at records in their order, from the first on: what follows an intent names only its serial.
pub struct Matcher {
    subject: Subject,
    read_tbs: ReadTbs,
    serials: HashSet<Serial>,
}

impl Matcher {
    /// About `subject`.
    pub fn new(subject: Subject, read_tbs: ReadTbs) -> Self {
        Self { subject, read_tbs, serials: HashSet::new() }
    }

    /// Whether it takes every record, also what it cannot read.
    pub fn takes_anything(&self) -> bool {
        self.subject.is_anything()
    }

    /// Whether the record is about it.
    pub fn takes(&mut self, record: &Record) -> bool {
        if self.subject.is_anything() {
            return true;
        }
        match record {
            Record::IntentV1(r) => {
                let means = self.subject.means(r, self.read_tbs);
                if means {
                    self.serials.insert(r.serial);
                }
                means
            }
            Record::IssuedV1(r) => self.serials.contains(&r.serial),
            Record::AbandonedV1(r) => self.serials.contains(&r.serial),
            Record::RevokedV1(r) => self.serials.contains(&r.serial),
            Record::AccountRegisteredV1(r) => self.subject.account_alone() == Some(r.account),
            Record::AccountRegisteredV2(r) => self.subject.account_alone() == Some(r.account),
            Record::KeyChangedV1(r) => self.subject.account_alone() == Some(r.account),
            Record::AccountDeactivatedV1(r) => self.subject.account_alone() == Some(r.account),
            _ => false,
        }
    }
}

impl Index {
    /// The leaves of all records about a subject. `None`: there are so many that reading the log is no
    /// worse, or it is about anything.
    pub fn about(&self, subject: &Subject) -> Result<Option<BTreeSet<LeafIndex>>, String> {
        let Some(intents) = self.candidates(subject)? else { return Ok(None) };
        let mut leaves = BTreeSet::new();
        for leaf in intents {
            let intent = self.intent(leaf)?;
            if !subject.means(&intent, self.read_tbs) {
                continue;
            }
            leaves.insert(leaf);
            match self.issuance(leaf, intent.serial)? {
                Issuance::Intended { .. } => {}
                Issuance::Issued { issued: end, .. }
                | Issuance::Abandoned { abandoned: end, .. } => drop(leaves.insert(end)),
            }
            leaves.extend(self.revocation(intent.serial)?.map(|revocation| revocation.leaf));
        }
        if let Some(account) = subject.account_alone() {
            leaves.extend(self.account(account)?);
            let mut from = LeafIndex(0);
            loop {
                let changes = self.account_changes(from, PIECE)?;
                let own = changes.iter().filter(|(_, changed)| *changed == account);
                leaves.extend(own.map(|(leaf, _)| *leaf));
                match changes.last() {
                    Some((last, _)) if changes.len() == PIECE => from = LeafIndex(last.0 + 1),
                    _ => break,
                }
            }
        }
        Ok(Some(leaves))
    }

    /// Intents that may be meant, by what leads to the fewest.
    fn candidates(&self, subject: &Subject) -> Result<Option<Vec<LeafIndex>>, String> {
        let rows = |set, short| -> Result<Option<Vec<LeafIndex>>, String> {
            let rows = self.rows(set, short, Row::FIRST, MOST_ROWS)?;
            let all = rows.len() < MOST_ROWS;
            Ok(all.then(|| rows.into_iter().map(Row::leaf).collect()))
        };
        if let Some(serial) = subject.serial {
            rows(Set::Serials, keys::of_serial(serial))
        } else if let Some(order) = subject.order {
            rows(Set::Orders, keys::of_order(order))
        } else if let Some(NamePattern::Exactly(name)) = &subject.name {
            rows(Set::Names, keys::of_name(name))
        } else if let Some(pattern) = &subject.name {
            self.listed_intents(&Listing::Named(pattern.clone()))
        } else if let Some(account) = subject.account {
            rows(Set::Accounts, keys::of_account(account))
        } else {
            Ok(None)
        }
    }

    fn listed_intents(&self, listing: &Listing) -> Result<Option<Vec<LeafIndex>>, String> {
        let mut leaves = Vec::new();
        let mut after = None;
        for _ in 0..MOST_ROWS / PIECE {
            let part = self.certificates(listing, Timestamp(0), after.as_ref(), PIECE)?;
            leaves.extend(part.found.into_iter().map(|(place, _, _)| place.intent));
            after = part.next;
            if after.is_none() {
                return Ok(Some(leaves));
            }
        }
        Ok(None)
    }
}
