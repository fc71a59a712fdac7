//! What the index says of revocations: which certificates are revoked, what each CRL has to list, and which
//! keys are barred.
//!
//! A CRL is known here by the URL that certificates name it by; a row has half of that URL's SHA-256. Its
//! entries stand in the order of the instant up to which they must be listed, so that reading one CRL's
//! costs what it lists and neither what others list nor what has long expired.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::table::text;
use super::{CertificateEntry, Index};
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::record::{AbandonedV1, RevokedV1};
use crate::tlog::tree::{Hash, sha256};

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

/// Which CRL, until when it must list it, what.
type Place = (Url, Timestamp, Serial);

/// The first half of SHA-256 over a CRL's URL; over nothing for certificates that name none.
type Url = [u8; 16];

fn short(url: &str) -> Url {
    let mut half = [0; 16];
    half.copy_from_slice(&sha256(url.as_bytes())[..16]);
    half
}

/// What was applied since the last transaction.
#[derive(Default)]
pub(super) struct Layer {
    revocations: BTreeMap<Serial, Revocation>,
    listed: BTreeMap<Place, Listed>,
    /// The latest notAfter of the certificates that name each CRL.
    crls: BTreeMap<String, Timestamp>,
    blocked: BTreeMap<Hash, LeafIndex>,
}

impl Layer {
    /// A certificate names this CRL.
    pub(super) fn named(&mut self, crl: String, not_after: Timestamp) {
        let end = self.crls.entry(crl).or_default();
        *end = not_after.max(*end);
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
        self.listed.insert((short(crl), not_after.max(listed.at), listed.serial), listed);
    }
}

impl Index {
    /// Whether and why a certificate was revoked.
    pub fn revocation(&self, serial: Serial) -> Result<Option<Revocation>, String> {
        match self.look(|layer| layer.revocations.revocations.get(&serial).copied()) {
            Some(revocation) => Ok(Some(revocation)),
            None => self.with_db(|db| revocation(db, serial)),
        }
    }

    /// What the CRL at this URL has to list: what was revoked or abandoned and had not expired at `since`, the
    /// thisUpdate of the CRL before; and what was revoked since. In no order.
    pub fn listed(&self, crl: &str, since: Timestamp) -> Result<Vec<Listed>, String> {
        let url = short(crl);
        let newer: BTreeMap<_, _> = self.gather(|layer| {
            let own = layer.revocations.listed.range((url, since, lowest())..);
            let own = own.take_while(|(at, _)| at.0 == url);
            own.map(|(_, listed)| (listed.serial, *listed)).collect()
        });
        let mut all = self.with_db(|db| listed(db, url, since))?;
        all.extend(newer);
        Ok(all.into_values().collect())
    }

    /// The same of certificates that name no CRL.
    pub fn listed_nowhere(&self, since: Timestamp) -> Result<Vec<Listed>, String> {
        self.listed("", since)
    }

    /// Every CRL that a certificate ever named, by URL, with the latest notAfter of those certificates.
    pub fn crls(&self) -> Result<BTreeMap<String, Timestamp>, String> {
        let newer: Vec<(String, Timestamp)> = self.gather(|layer| {
            layer.revocations.crls.iter().map(|(url, end)| (url.clone(), *end)).collect()
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
        match self.look(|layer| layer.revocations.blocked.get(spki_sha256).copied()) {
            Some(_) => Ok(true),
            None => self.with_db(|db| is_blocked(db, spki_sha256)),
        }
    }

    /// Changes whenever the CRL at this URL has something more to list; for this process alone.
    pub fn listing_mark(&self, crl: &str) -> u64 {
        self.state().marks.get(crl).copied().unwrap_or_default()
    }

    /// Changes whenever one of the CRLs with such a URL has something more to list; certificates that name none are
    /// at the empty one.
    pub fn listing_marks(&self, of: &dyn Fn(&str) -> bool) -> u64 {
        self.state().marks.iter().filter(|(url, _)| of(url)).map(|(_, mark)| mark).sum()
    }
}

/// All serials begin with the bits 01.
fn lowest() -> Serial {
    Serial::from_random([0; 16])
}

/// By serial; leaf, instant and reason.
type Revoked = (u64, u64, Option<u8>);
const REVOCATIONS: TableDefinition<'_, [u8; 16], Revoked> = TableDefinition::new("revocations");
/// CRL, end of validity and serial.
type ListedKey = (Url, u64, [u8; 16]);
/// The value is instant and reason.
const LISTED: TableDefinition<'_, ListedKey, (u64, Option<u8>)> = TableDefinition::new("listed");
const CRLS: TableDefinition<'_, &str, u64> = TableDefinition::new("crls");
const BLOCKED: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("blocked");

/// An empty database has all of its tables.
pub(super) fn create(tx: &WriteTransaction) -> Result<(), String> {
    write(tx, &Layer::default())
}

/// This room's part of a transaction.
pub(super) fn write(tx: &WriteTransaction, layer: &Layer) -> Result<(), String> {
    let mut table = tx.open_table(REVOCATIONS).map_err(text)?;
    for (serial, r) in &layer.revocations {
        table.insert(*serial.octets(), (r.leaf.0, r.at.0, r.reason)).map_err(text)?;
    }
    let mut table = tx.open_table(LISTED).map_err(text)?;
    for ((crl, until, serial), listed) in &layer.listed {
        let key = (*crl, until.0, *serial.octets());
        table.insert(key, (listed.at.0, listed.reason)).map_err(text)?;
    }
    let mut table = tx.open_table(CRLS).map_err(text)?;
    for (crl, end) in &layer.crls {
        let known = table.get(crl.as_str()).map_err(text)?.map_or(0, |value| value.value());
        if end.0 > known {
            table.insert(crl.as_str(), end.0).map_err(text)?;
        }
    }
    let mut table = tx.open_table(BLOCKED).map_err(text)?;
    for (key, leaf) in &layer.blocked {
        table.insert(*key, leaf.0).map_err(text)?;
    }
    Ok(())
}

fn revocation(db: &Database, serial: Serial) -> Result<Option<Revocation>, String> {
    let table = db.begin_read().map_err(text)?.open_table(REVOCATIONS).map_err(text)?;
    let value = table.get(*serial.octets()).map_err(text)?;
    Ok(value.map(|value| {
        let (leaf, at, reason) = value.value();
        Revocation { leaf: LeafIndex(leaf), at: Timestamp(at), reason }
    }))
}

fn listed(db: &Database, crl: Url, since: Timestamp) -> Result<BTreeMap<Serial, Listed>, String> {
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
