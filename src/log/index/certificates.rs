//! What the index says of certificates: which there are, when they end, which are revoked, and what each
//! CRL has to list.
//!
//! A CRL is known here by the URL that certificates name it by. Its entries stand in the order of the
//! instant up to which they must be listed, so that reading one CRL's costs what it lists and neither what
//! others list nor what has long expired.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::Index;
use super::table::text;
use crate::id::{AccountId, LeafIndex, Serial, Timestamp};
use crate::log::record::{AbandonedV1, IntentV1, Requester, RevokedV1};
use crate::log::tree::Hash;

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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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

/// That a certificate was revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// The record that says so.
    pub leaf: LeafIndex,
    pub at: Timestamp,
    /// CRLReason, if one was given.
    pub reason: Option<u8>,
}

/// An entry of a CRL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    pub serial: Serial,
    pub at: Timestamp,
    pub reason: Option<u8>,
}

/// The URL of the CRL (empty for none), until when it must list it, what.
type Place = (String, Timestamp, Serial);

/// What was applied since the last transaction.
#[derive(Default)]
pub(super) struct Layer {
    entries: BTreeMap<Serial, CertificateEntry>,
    ends: BTreeSet<(Timestamp, Serial)>,
    revocations: BTreeMap<Serial, Revocation>,
    listed: BTreeMap<Place, Listed>,
    /// The latest notAfter of the certificates that name each CRL.
    crls: BTreeMap<String, Timestamp>,
    blocked: BTreeMap<Hash, LeafIndex>,
}

impl Layer {
    pub(super) fn intended(&mut self, leaf: LeafIndex, intent: &IntentV1, facts: TbsFacts) {
        let TbsFacts { names, not_before, not_after, crl } = facts;
        if let Some(crl) = &crl {
            let end = self.crls.entry(crl.clone()).or_default();
            *end = not_after.max(*end);
        }
        let account = match intent.requester {
            Requester::Order { account, .. } => Some(account),
            Requester::Own => None,
        };
        let profile = intent.profile.clone();
        let entry =
            CertificateEntry { intent: leaf, account, profile, names, not_before, not_after, crl };
        self.ends.insert((not_after, intent.serial));
        self.entries.insert(intent.serial, entry);
    }

    /// The URL of the CRL that has one more to list; empty if there is none.
    pub(super) fn revoked(&mut self, leaf: LeafIndex, r: &RevokedV1) -> String {
        self.revocations.insert(r.serial, Revocation { leaf, at: r.at, reason: r.reason });
        if let Some(key) = r.blocked_key {
            self.blocked.insert(key, leaf);
        }
        let crl = r.crl.clone().unwrap_or_default();
        self.list(&crl, r.not_after, Listed { serial: r.serial, at: r.at, reason: r.reason });
        crl
    }

    /// The same. `entry` is what the index knows of the certificate that shall never be.
    pub(super) fn abandoned(&mut self, r: &AbandonedV1, entry: Option<CertificateEntry>) -> String {
        let (crl, not_after) = match entry {
            Some(entry) => (entry.crl.unwrap_or_default(), entry.not_after),
            None => (String::new(), Timestamp(u64::MAX)),
        };
        self.list(&crl, not_after, Listed { serial: r.serial, at: r.at, reason: None });
        crl
    }

    /// An entry is kept until a CRL made after the certificate's end has listed it (RFC 5280 section 3.3), and
    /// one that was revoked after its end is listed once too.
    fn list(&mut self, crl: &str, not_after: Timestamp, listed: Listed) {
        self.listed.insert((crl.to_owned(), not_after.max(listed.at), listed.serial), listed);
    }
}

impl Index {
    /// What is known of a serial's certificate.
    pub fn certificate(&self, serial: Serial) -> Result<Option<CertificateEntry>, String> {
        match self.look(|layer| layer.certificates.entries.get(&serial).cloned()) {
            Some(entry) => Ok(Some(entry)),
            None => self.with_db(|db| certificate(db, serial)),
        }
    }

    /// Certificates by their end and serial, from `from` on and after `after`; at most `limit`.
    pub fn certificates(
        &self,
        from: Timestamp,
        after: Option<(Timestamp, Serial)>,
        limit: usize,
    ) -> Result<Vec<(Serial, CertificateEntry)>, String> {
        let first = (from, lowest());
        let is_due = |key: &(Timestamp, Serial)| after.is_none_or(|after| *key > after);
        let start = after.map_or(first, |after| after.max(first));
        let newer: BTreeSet<_> = self.gather(|layer| {
            let ends = layer.certificates.ends.range(start..);
            ends.copied().filter(is_due).take(limit).collect()
        });
        // One more than is asked for: the first may be `after` itself.
        let mut keys = self.with_db(|db| ends(db, start, limit.saturating_add(1)))?;
        keys.retain(is_due);
        keys.extend(newer);
        let known = |(_, serial): (Timestamp, Serial)| {
            self.certificate(serial).transpose().map(|entry| Ok((serial, entry?)))
        };
        keys.into_iter().take(limit).filter_map(known).collect()
    }

    /// Whether and why a certificate was revoked.
    pub fn revocation(&self, serial: Serial) -> Result<Option<Revocation>, String> {
        match self.look(|layer| layer.certificates.revocations.get(&serial).copied()) {
            Some(revocation) => Ok(Some(revocation)),
            None => self.with_db(|db| revocation(db, serial)),
        }
    }

    /// What the CRL at this URL has to list: what was revoked or abandoned and had not expired at `since`, the
    /// thisUpdate of the CRL before; and what was revoked since. In no order.
    pub fn listed(&self, crl: &str, since: Timestamp) -> Result<Vec<Listed>, String> {
        let newer: BTreeMap<_, _> = self.gather(|layer| {
            let first = (crl.to_owned(), since, lowest());
            let own = layer.certificates.listed.range(first..).take_while(|(at, _)| at.0 == crl);
            own.map(|(_, listed)| (listed.serial, *listed)).collect()
        });
        let mut all = self.with_db(|db| listed(db, crl, since))?;
        all.extend(newer);
        Ok(all.into_values().collect())
    }

    /// The same over all CRLs, and over certificates that name none.
    pub fn all_listed(&self, since: Timestamp) -> Result<Vec<Listed>, String> {
        let newer: BTreeMap<_, _> = self.gather(|layer| {
            let due = layer.certificates.listed.iter().filter(|(at, _)| at.1 >= since);
            due.map(|(_, listed)| (listed.serial, *listed)).collect()
        });
        let mut all = self.with_db(|db| all_listed(db, since))?;
        all.extend(newer);
        Ok(all.into_values().collect())
    }

    /// Every CRL that a certificate ever named, by URL, with the latest notAfter of those certificates.
    pub fn crls(&self) -> Result<BTreeMap<String, Timestamp>, String> {
        let newer: Vec<(String, Timestamp)> = self.gather(|layer| {
            layer.certificates.crls.iter().map(|(url, end)| (url.clone(), *end)).collect()
        });
        let mut all = self.with_db(crls)?;
        for (url, end) in newer {
            let known = all.entry(url).or_default();
            *known = end.max(*known);
        }
        Ok(all)
    }

    /// Whether a key with this SHA-256 over its SubjectPublicKeyInfo was revoked as compromised.
    pub fn is_blocked(&self, spki_sha256: &[u8; 32]) -> Result<bool, String> {
        match self.look(|layer| layer.certificates.blocked.get(spki_sha256).copied()) {
            Some(_) => Ok(true),
            None => self.with_db(|db| is_blocked(db, spki_sha256)),
        }
    }

    /// Changes whenever the CRL at this URL has something more to list; for this process alone.
    pub fn listing_mark(&self, crl: &str) -> u64 {
        self.state().marks.get(crl).copied().unwrap_or_default()
    }

    /// Changes whenever any CRL has something more to list.
    pub fn all_listing_marks(&self) -> u64 {
        self.state().marks.values().sum()
    }
}

/// All serials begin with the bits 01.
fn lowest() -> Serial {
    Serial::from_random([0; 16])
}

const ENTRIES: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("certificates");
const ENDS: TableDefinition<'_, (u64, [u8; 16]), ()> = TableDefinition::new("ends");
const REVOCATIONS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("revocations");
/// CRL, end of validity and serial.
type ListedKey = (&'static str, u64, [u8; 16]);
/// The value is instant and reason.
const LISTED: TableDefinition<'_, ListedKey, (u64, Option<u8>)> = TableDefinition::new("listed");
const CRLS: TableDefinition<'_, &str, u64> = TableDefinition::new("crls");
const BLOCKED: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("blocked");

/// An empty database has all of its tables.
pub(super) fn create(tx: &WriteTransaction) -> Result<(), String> {
    tx.open_table(ENTRIES).map_err(text)?;
    tx.open_table(ENDS).map_err(text)?;
    tx.open_table(REVOCATIONS).map_err(text)?;
    tx.open_table(LISTED).map_err(text)?;
    tx.open_table(CRLS).map_err(text)?;
    tx.open_table(BLOCKED).map_err(text)?;
    Ok(())
}

/// This room's part of a transaction.
pub(super) fn write(tx: &WriteTransaction, layer: &Layer) -> Result<(), String> {
    let mut table = tx.open_table(ENTRIES).map_err(text)?;
    for (serial, entry) in &layer.entries {
        let value = postcard::to_stdvec(entry).map_err(text)?;
        table.insert(*serial.octets(), value.as_slice()).map_err(text)?;
    }
    let mut table = tx.open_table(ENDS).map_err(text)?;
    for (end, serial) in &layer.ends {
        table.insert((end.0, *serial.octets()), ()).map_err(text)?;
    }
    let mut table = tx.open_table(REVOCATIONS).map_err(text)?;
    for (serial, revocation) in &layer.revocations {
        let value = postcard::to_stdvec(revocation).map_err(text)?;
        table.insert(*serial.octets(), value.as_slice()).map_err(text)?;
    }
    let mut table = tx.open_table(LISTED).map_err(text)?;
    for ((crl, until, serial), listed) in &layer.listed {
        let key = (crl.as_str(), until.0, *serial.octets());
        table.insert(key, (listed.at.0, listed.reason)).map_err(text)?;
    }
    let mut table = tx.open_table(CRLS).map_err(text)?;
    for (crl, end) in &layer.crls {
        let known = table.get(crl.as_str()).map_err(text)?.map_or(0, |value| value.value());
        table.insert(crl.as_str(), end.0.max(known)).map_err(text)?;
    }
    let mut table = tx.open_table(BLOCKED).map_err(text)?;
    for (key, leaf) in &layer.blocked {
        table.insert(*key, leaf.0).map_err(text)?;
    }
    Ok(())
}

fn certificate(db: &Database, serial: Serial) -> Result<Option<CertificateEntry>, String> {
    let table = db.begin_read().map_err(text)?.open_table(ENTRIES).map_err(text)?;
    match table.get(*serial.octets()).map_err(text)? {
        None => Ok(None),
        Some(value) => postcard::from_bytes(value.value()).map(Some).map_err(text),
    }
}

fn ends(
    db: &Database,
    start: (Timestamp, Serial),
    limit: usize,
) -> Result<BTreeSet<(Timestamp, Serial)>, String> {
    let table = db.begin_read().map_err(text)?.open_table(ENDS).map_err(text)?;
    let range = table.range((start.0.0, *start.1.octets())..).map_err(text)?;
    let mut keys = BTreeSet::new();
    for entry in range.take(limit) {
        let (end, serial) = entry.map_err(text)?.0.value();
        keys.extend(Serial::from_octets(&serial).map(|serial| (Timestamp(end), serial)));
    }
    Ok(keys)
}

fn revocation(db: &Database, serial: Serial) -> Result<Option<Revocation>, String> {
    let table = db.begin_read().map_err(text)?.open_table(REVOCATIONS).map_err(text)?;
    match table.get(*serial.octets()).map_err(text)? {
        None => Ok(None),
        Some(value) => postcard::from_bytes(value.value()).map(Some).map_err(text),
    }
}

fn listed(db: &Database, crl: &str, since: Timestamp) -> Result<BTreeMap<Serial, Listed>, String> {
    let table = db.begin_read().map_err(text)?.open_table(LISTED).map_err(text)?;
    let range = (crl, since.0, [0; 16])..=(crl, u64::MAX, [0xff; 16]);
    let mut all = BTreeMap::new();
    for entry in table.range(range).map_err(text)? {
        let (key, value) = entry.map_err(text)?;
        let (_, _, serial) = key.value();
        all.extend(of_row(&serial, value.value()));
    }
    Ok(all)
}

fn all_listed(db: &Database, since: Timestamp) -> Result<BTreeMap<Serial, Listed>, String> {
    let table = db.begin_read().map_err(text)?.open_table(LISTED).map_err(text)?;
    let mut all = BTreeMap::new();
    for entry in table.iter().map_err(text)? {
        let (key, value) = entry.map_err(text)?;
        let (_, until, serial) = key.value();
        if until >= since.0 {
            all.extend(of_row(&serial, value.value()));
        }
    }
    Ok(all)
}

fn of_row(serial: &[u8; 16], (at, reason): (u64, Option<u8>)) -> Option<(Serial, Listed)> {
    let serial = Serial::from_octets(serial)?;
    Some((serial, Listed { serial, at: Timestamp(at), reason }))
}

fn crls(db: &Database) -> Result<BTreeMap<String, Timestamp>, String> {
    let table = db.begin_read().map_err(text)?.open_table(CRLS).map_err(text)?;
    let mut all = BTreeMap::new();
    for entry in table.iter().map_err(text)? {
        let (crl, end) = entry.map_err(text)?;
        all.insert(crl.value().to_owned(), Timestamp(end.value()));
    }
    Ok(all)
}

fn is_blocked(db: &Database, key: &Hash) -> Result<bool, String> {
    let table = db.begin_read().map_err(text)?.open_table(BLOCKED).map_err(text)?;
    Ok(table.get(*key).map_err(text)?.is_some())
}
