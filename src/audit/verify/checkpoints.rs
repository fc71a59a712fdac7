//! Every checkpoint that is given, against the tree that the stored bytes make, and under every key that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::findings::Findings;
use super::{Cosigned, Evidence};
use crate::env::Disk;
use crate::id::{LeafIndex, Timestamp};
use crate::tlog::checkpoint::{BadCheckpoint, Checkpoint};
use crate::tlog::keys::LogKeys;
use crate::tlog::note::{MAX_NOTE, Note, NoteSignature, VerifierKey};
use crate::tlog::proof::verify_consistency;
use crate::tlog::tree::{RightEdge, TreeHead};

/// How far a witness's clock may be from this log's.
const WITNESS_CLOCK: Duration = Duration::from_secs(24 * 3600);

/// The checkpoints that were given, and how they fared.
pub(super) struct Stated<'a> {
    notes: Vec<Stating>,
    evidence: &'a Evidence,
    /// The greatest size whose root was the log's, and how many there were.
    pub(super) covered: Option<u64>,
    pub(super) verified: u64,
    /// The greatest size that a signed checkpoint states, and where it does.
    pub(super) greatest: Option<u64>,
    by: PathBuf,
    /// The size of the checkpoint that continues an archive.
    pub(super) continued: Option<u64>,
    /// Cosignatures that verified, and what each witness cosigned last.
    pub(super) cosignatures: u64,
    cosigned: BTreeMap<String, (u64, Timestamp)>,
}

struct Stating {
    path: PathBuf,
    octets: Vec<u8>,
    note: Note,
    head: TreeHead,
}

impl<'a> Stated<'a> {
    /// Reads the files; what is no checkpoint at all is a finding.
    pub(super) fn read(disk: &dyn Disk, evidence: &'a Evidence, findings: &Findings) -> Self {
        let mut notes = Vec::new();
        for path in &evidence.checkpoints {
            let octets = match disk.read(path, MAX_NOTE as u64) {
                Ok(octets) => octets,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    findings.find(None, format!("{}: {error}", path.display()));
                    continue;
                }
            };
            let parsed = Note::parse(&octets)
                .map_err(|error| BadCheckpoint::Malformed(error.0))
                .and_then(|note| Ok((Checkpoint::parse_text(&note.text)?.head, note)));
            match parsed {
                Ok((head, note)) => notes.push(Stating { path: path.clone(), octets, note, head }),
                Err(why) => findings.find(None, format!("{}: {why}", path.display())),
            }
        }
        Self {
            notes,
            evidence,
            covered: None,
            verified: 0,
            greatest: None,
            by: PathBuf::new(),
            continued: None,
            cosignatures: 0,
            cosigned: BTreeMap::new(),
        }
    }

    /// The sizes they are about.
    pub(super) fn sizes(&self) -> BTreeSet<u64> {
        self.notes.iter().map(|note| note.head.size).collect()
    }

    /// Those over `head.size` leaves, when the log has as many; the newest of these is of the instant `when`.
    pub(super) fn judge(
        &mut self,
        keys: Option<&LogKeys>,
        head: &TreeHead,
        when: Timestamp,
        findings: &Findings,
    ) {
        let agreed = self.covered;
        let notes = std::mem::take(&mut self.notes);
        for note in notes.iter().filter(|note| note.head.size == head.size) {
            self.judge_cosignatures(note, when, findings);
            if !signed(note, keys, findings) {
                continue;
            }
            if self.greatest < Some(head.size) {
                (self.greatest, self.by) = (Some(head.size), note.path.clone());
            }
            if note.head == *head {
                self.verified += 1;
                self.covered = Some(head.size);
                continue;
            }
            let since = match agreed {
                Some(agreed) => format!("with one over {agreed} records it still agrees"),
                None => "no smaller checkpoint was given that would say since when".to_owned(),
            };
            let text = format!(
                "{}: a signed checkpoint over {} records states another tree than they make; {since}",
                note.path.display(),
                head.size
            );
            findings.find(head.size.checked_sub(1).map(LeafIndex), text);
        }
        self.notes = notes;
    }

    /// Those over nothing, before the log has a record, under the key that its first record names.
    pub(super) fn judge_nothing(&mut self, keys: Option<&LogKeys>, findings: &Findings) {
        self.judge(keys, &RightEdge::new().head(), Timestamp(0), findings);
    }

    /// Those over more than the log has, at its end. One that the evidence's proof leads to from there covers it
    /// whole.
    pub(super) fn judge_beyond(
        &mut self,
        keys: Option<&LogKeys>,
        head: &TreeHead,
        when: Timestamp,
        findings: &Findings,
    ) {
        let size = head.size;
        let later = keys.map(|keys| self.later(keys));
        let notes = std::mem::take(&mut self.notes);
        let mut beyond: Vec<&Stating> = Vec::new();
        for note in notes.iter().filter(|note| note.head.size > size) {
            self.judge_cosignatures(note, when, findings);
            let by_newer = keys.is_some_and(|keys| self.signed_by_newer(note, keys));
            if by_newer || signed(note, later.as_ref(), findings) {
                beyond.push(note);
            }
        }
        let proof = self.evidence.continuation.as_deref();
        for (n, note) in beyond.iter().enumerate() {
            let stated = note.head.size;
            if proof.is_some_and(|proof| verify_consistency(head, &note.head, proof)) {
                self.greatest = self.greatest.max(Some(size));
                (self.covered, self.continued) = (Some(size), Some(stated));
                self.verified += 1;
                continue;
            }
            if self.greatest < Some(stated) {
                (self.greatest, self.by) = (Some(stated), note.path.clone());
            }
            let path = note.path.display();
            findings.find(
                None,
                format!(
                    "{path}: a checkpoint over {stated} records was signed, but the log has {size}"
                ),
            );
            let split =
                |other: &&&Stating| other.head.size == stated && other.head.root != note.head.root;
            if let Some(other) = beyond[..n].iter().find(split) {
                let other = other.path.display();
                findings.find(
                    None,
                    format!("{path} and {other}: two trees of {stated} records were signed"),
                );
            }
        }
        self.notes = notes;
    }

    /// The log's keys with what an archive's manifest says of those behind its end. What cannot be changes nothing.
    pub(super) fn later(&self, keys: &LogKeys) -> LogKeys {
        let mut later = keys.clone();
        for (leaf, record) in &self.evidence.later_keys {
            let _ = record.turn_keys(*leaf, &mut later);
        }
        later
    }

    /// Whether a key that is known from elsewhere, and that these records do not tell of yet, has signed: then they
    /// are older than its rotation.
    fn signed_by_newer(&self, note: &Stating, keys: &LogKeys) -> bool {
        let newer = self.evidence.newer_keys(keys).unwrap_or_default().iter();
        newer
            .filter_map(|spki| VerifierKey::from_spki(keys.origin(), spki).ok())
            .any(|key| Checkpoint::open(&note.octets, &key).is_ok())
    }

    /// Every line by a witness that is known.
    fn judge_cosignatures(&mut self, note: &Stating, when: Timestamp, findings: &Findings) {
        for witness in &self.evidence.witnesses {
            for octets in note.note.by(witness) {
                let (path, name) = (note.path.display(), witness.name());
                let verified = witness.verify(note.note.text.as_bytes(), &note.head, octets);
                let Some(at) = witness.cosigned_at(octets).filter(|_| verified) else {
                    let text = format!("{path}: the cosignature of witness {name} does not verify");
                    findings.find(None, text);
                    continue;
                };
                self.cosignatures += 1;
                let newest = (note.head.size, at);
                let last = self.cosigned.entry(name.to_owned()).or_insert(newest);
                *last = newest.max(*last);
                let early = at.plus(WITNESS_CLOCK) < when;
                if early || self.evidence.now.is_some_and(|now| now.plus(WITNESS_CLOCK) < at) {
                    let than = if early {
                        "more than a day before the newest record that it covers"
                    } else {
                        "more than a day from now"
                    };
                    let text = format!("{path}: witness {name} cosigned it at {at}, {than}");
                    findings.find(None, text);
                }
            }
        }
    }

    /// What each witness cosigned last, by name.
    pub(super) fn cosigned(&self) -> Vec<Cosigned> {
        let named = self.cosigned.iter();
        named
            .map(|(witness, (size, at))| Cosigned {
                witness: witness.clone(),
                size: *size,
                at: *at,
            })
            .collect()
    }

    /// Lines of keys that are neither the log's nor a known witness's.
    pub(super) fn unknown_lines(&self, keys: Option<&LogKeys>) -> u64 {
        let Some(keys) = keys else { return 0 };
        let later = self.later(keys);
        let newer = self.evidence.log_keys.iter();
        let newer: Vec<VerifierKey> =
            newer.filter_map(|spki| VerifierKey::from_spki(keys.origin(), spki).ok()).collect();
        let known: Vec<&VerifierKey> = later
            .terms()
            .iter()
            .map(|term| &term.key)
            .chain(&newer)
            .chain(&self.evidence.witnesses)
            .collect();
        let is_known = |line: &&NoteSignature| {
            known.iter().any(|key| key.name() == line.name && key.id() == line.id)
        };
        let lines = self.notes.iter().flat_map(|note| &note.note.signatures);
        lines.filter(|line| !is_known(line)).count() as u64
    }

    /// At the end: what is published must be the newest.
    pub(super) fn judge_published(&self, published: &Path, findings: &Findings) {
        let note = self.notes.iter().find(|note| note.path == published);
        if let Some(note) = note
            && self.greatest > Some(note.head.size)
        {
            let text = format!(
                "{} is older than {}: {} records, and {}",
                published.display(),
                self.by.display(),
                note.head.size,
                self.greatest.unwrap_or_default()
            );
            findings.find(None, text);
        }
    }
}

/// Whether every key that signs trees of its size has signed it.
fn signed(note: &Stating, keys: Option<&LogKeys>, findings: &Findings) -> bool {
    // Without a key nothing can be said; that there is none was said already.
    let Some(keys) = keys else { return false };
    match keys.open(&note.octets) {
        Ok(_) => true,
        Err(why) => {
            findings.find(None, format!("{}: {why}", note.path.display()));
            false
        }
    }
}
