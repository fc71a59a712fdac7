//! The CRLs that are published, against the records that announced them and the revocations they must list.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::findings::Findings;
use super::ledger::{Due, Ledger, Row, Said};
use super::signatures::MAX_URLS;
use super::{Evidence, SETTLING};
use crate::env::Disk;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::tree::{Hash, sha256};
use crate::pki::crl::{self, RevokedEntry};

/// The files, and what the log says of them.
pub(super) struct Published {
    /// Whether it is known where they are.
    given: bool,
    files: Vec<File>,
    /// The greatest number by issuer, and the last record by URL.
    numbers: HashMap<Hash, u64>,
    latest: HashMap<String, Announced>,
}

/// One CRL file. Its entries are rows of the ledger.
struct File {
    path: PathBuf,
    issuer: Hash,
    shard: Option<String>,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    entries: u64,
    tbs_sha256: Hash,
    /// The record that announced it.
    leaf: Option<LeafIndex>,
}

/// What a record says of a CRL that is about to be signed.
pub(super) struct Announced {
    pub(super) at: Timestamp,
    pub(super) issuer: Hash,
    /// `None` in records of the first version: the complete one.
    pub(super) url: Option<String>,
    pub(super) number: u64,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
    pub(super) entries: u64,
    pub(super) tbs_sha256: Hash,
}

/// A URL in a row.
pub(super) fn url_mark(url: &str) -> u64 {
    mark(&sha256(url.as_bytes()))
}

/// A digest in a row.
pub(super) fn mark(digest: &Hash) -> u64 {
    digest[..8].iter().fold(0, |mark, octet| mark << 8 | u64::from(*octet))
}

impl Published {
    /// Reads the files; what does not verify under an issuing certificate is a finding.
    pub(super) fn read(
        disk: &dyn Disk,
        evidence: &Evidence,
        ledger: &Mutex<Ledger>,
        findings: &Findings,
    ) -> Self {
        let mut files = Vec::new();
        for path in evidence.crls.iter().flatten() {
            let Ok(number) = u16::try_from(files.len()) else { break };
            match read(disk, path, evidence) {
                Ok((file, entries)) => {
                    let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                    for RevokedEntry { serial, at, reason } in entries {
                        let said = Said::Listed { file: number, at, reason };
                        ledger.push(serial, LeafIndex(0), said);
                    }
                    files.push(file);
                }
                Err(why) => findings.find(None, format!("{}: {why}", path.display())),
            }
        }
        let given = evidence.crls.is_some() && !evidence.issuers.is_empty();
        Self { given, files, numbers: HashMap::new(), latest: HashMap::new() }
    }

    /// Whether there is anything to compare with.
    pub(super) fn given(&self) -> bool {
        self.given
    }

    /// Files that were compared.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// The next record that announces a CRL. Numbers rise over all CRLs of an issuer, whichever URL they are for.
    pub(super) fn announced(&mut self, leaf: LeafIndex, record: Announced, findings: &Findings) {
        let number = record.number;
        let room = self.numbers.len() < MAX_URLS;
        match self.numbers.get_mut(&record.issuer) {
            Some(last) if *last >= number => {
                findings.find(leaf, format!("CRL number {number} does not rise"));
            }
            Some(last) => *last = number,
            None if room => drop(self.numbers.insert(record.issuer, number)),
            None => {}
        }
        for file in &mut self.files {
            if file.issuer == record.issuer && file.number == number {
                file.leaf = Some(leaf);
                if let Some(differs) = file.differs(&record) {
                    let path = file.path.display();
                    let text = format!("the CRL in {path} is not the one announced: {differs}");
                    findings.find(leaf, text);
                }
            }
        }
        let url = record.url.clone().unwrap_or_default();
        if self.latest.len() < MAX_URLS || self.latest.contains_key(&url) {
            self.latest.insert(url, record);
        }
    }

    /// At the log's end. `newest` is its last instant, `named` until when certificates name each CRL.
    pub(super) fn close(
        &self,
        newest: Timestamp,
        now: Option<Timestamp>,
        named: &HashMap<String, Timestamp>,
        findings: &Findings,
    ) {
        if !self.given {
            return;
        }
        let mut there = HashSet::new();
        for file in &self.files {
            let path = file.path.display();
            let Some(leaf) = file.leaf else {
                findings.find(None, format!("{path}: the log knows no CRL number {}", file.number));
                continue;
            };
            // A complete CRL does not say its URL; the record with its number does.
            let announced = |(url, latest): &(&String, &Announced)| {
                file.shard.as_ref() == Some(url)
                    || (file.shard.is_none()
                        && latest.issuer == file.issuer
                        && is_at(&file.path, url))
            };
            let Some((url, latest)) = self.latest.iter().find(announced) else { continue };
            there.insert(url.as_str());
            if latest.number > file.number && newest > latest.at.plus(SETTLING) {
                let text = format!(
                    "{path} is CRL number {} of leaf {leaf}, but number {} was made {}",
                    file.number, latest.number, latest.at
                );
                findings.find(None, text);
            }
        }
        for (url, latest) in &self.latest {
            let lives = now.is_none_or(|now| latest.next_update > now);
            let wanted = named.get(url).is_some_and(|end| *end >= latest.this_update);
            let settled = newest > latest.at.plus(SETTLING);
            if lives && wanted && settled && !there.contains(url.as_str()) {
                findings
                    .find(None, format!("the CRL at {url} is not published; certificates name it"));
            }
        }
    }

    /// Holds the entries of one serial against what the log says of it.
    pub(super) fn judge(&self, serial: Serial, rows: &[Row], findings: &Findings) {
        let dues = || {
            rows.iter().filter_map(|row| match &row.said {
                Said::Due(due) => Some((row.leaf, due)),
                _ => None,
            })
        };
        let mut listed_in: Vec<u16> = Vec::new();
        for row in rows {
            let Said::Listed { file: n, at, reason } = &row.said else { continue };
            let Some(file) = self.files.get(usize::from(*n)) else { continue };
            let path = file.path.display();
            if listed_in.contains(n) {
                findings.find(None, format!("{path}: serial {serial} is listed twice"));
            }
            listed_in.push(*n);
            let mut here = dues().filter(|(_, due)| file.is_for(due)).peekable();
            if here.peek().is_none() {
                let text =
                    format!("{path}: serial {serial} is listed, but the log does not say so");
                findings.find(None, text);
            } else if let Some((leaf, _)) = here.next()
                && !dues().any(|(_, due)| file.is_for(due) && says(due, *at, *reason))
            {
                let text = format!("{path}: serial {serial} is listed with another date or reason");
                findings.find(leaf, text);
            }
        }
        for (leaf, due) in dues() {
            for (n, file) in self.files.iter().enumerate() {
                let must = file.is_for(due)
                    && file.leaf.is_some_and(|announced| leaf < announced)
                    && due.at.plus(SETTLING) <= file.this_update
                    && due.until >= file.this_update;
                if must && !listed_in.iter().any(|listed| usize::from(*listed) == n) {
                    let path = file.path.display();
                    findings.find(leaf, format!("{path}: serial {serial} is not listed"));
                }
            }
        }
    }
}

impl File {
    fn is_for(&self, due: &Due) -> bool {
        match &self.shard {
            None => due.issuer.is_none_or(|issuer| issuer == mark(&self.issuer)),
            Some(url) => due.crl == Some(url_mark(url)),
        }
    }

    fn differs(&self, record: &Announced) -> Option<&'static str> {
        if self.tbs_sha256 != record.tbs_sha256 {
            Some("another digest")
        } else if (self.this_update, self.next_update) != (record.this_update, record.next_update) {
            Some("other dates")
        } else if self.entries != record.entries {
            Some("another number of entries")
        } else if self.shard.is_some() && self.shard != record.url {
            Some("another URL")
        } else if record.url.as_deref().is_some_and(|url| !is_at(&self.path, url)) {
            Some("another place than its URL names")
        } else {
            None
        }
    }
}

/// Whether a file lies where a URL leads.
fn is_at(path: &Path, url: &str) -> bool {
    url.is_empty() || crl::file_of(url).is_ok_and(|place| path.ends_with(place))
}

fn says(due: &Due, at: Timestamp, reason: Option<u8>) -> bool {
    let named = |reason: Option<u8>| reason.filter(|code| *code != 0);
    // Dates in CRLs are whole seconds.
    due.at.unix_seconds() == at.unix_seconds() && named(due.reason) == named(reason)
}

fn read(
    disk: &dyn Disk,
    path: &Path,
    evidence: &Evidence,
) -> Result<(File, Vec<RevokedEntry>), String> {
    let der = disk.read(path, crl::MAX_DER as u64).map_err(|error| error.to_string())?;
    let mut why = "there is no issuing certificate to verify it under".to_owned();
    for issuer in &evidence.issuers {
        match crl::parse_verified(&der, issuer) {
            Ok(found) => {
                let file = File {
                    path: path.to_owned(),
                    issuer: issuer.fingerprint(),
                    shard: found.shard,
                    number: found.number,
                    this_update: found.this_update,
                    next_update: found.next_update,
                    entries: found.revoked.len() as u64,
                    tbs_sha256: found.tbs_sha256,
                    leaf: None,
                };
                return Ok((file, found.revoked));
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}
