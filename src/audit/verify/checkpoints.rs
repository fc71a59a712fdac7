//! Every checkpoint that is given, against the tree that the stored bytes make.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::findings::Findings;
use crate::env::Disk;
use crate::id::LeafIndex;
use crate::tlog::checkpoint::{BadCheckpoint, Checkpoint};
use crate::tlog::keys::LogKeys;
use crate::tlog::note::{MAX_NOTE, Note};
use crate::tlog::proof::verify_consistency;
use crate::tlog::tree::{Hash, RightEdge, TreeHead};

/// The checkpoints that were given, and how they fared.
pub(super) struct Stated {
    notes: Vec<Stating>,
    /// The greatest size whose root was the log's, and how many there were.
    pub(super) covered: Option<u64>,
    pub(super) verified: u64,
    /// The greatest size that a signed checkpoint states, and where it does.
    pub(super) greatest: Option<u64>,
    by: PathBuf,
    /// The size of the checkpoint that continues an archive.
    pub(super) continued: Option<u64>,
}

struct Stating {
    path: PathBuf,
    octets: Vec<u8>,
    head: TreeHead,
}

impl Stated {
    /// Reads the files; what is no checkpoint at all is a finding.
    pub(super) fn read(disk: &dyn Disk, paths: &[PathBuf], findings: &Findings) -> Self {
        let mut notes = Vec::new();
        for path in paths {
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
                .and_then(|note| Checkpoint::parse_text(&note.text));
            match parsed {
                Ok(checkpoint) => {
                    notes.push(Stating { path: path.clone(), octets, head: checkpoint.head });
                }
                Err(why) => findings.find(None, format!("{}: {why}", path.display())),
            }
        }
        let by = PathBuf::new();
        Self { notes, covered: None, verified: 0, greatest: None, by, continued: None }
    }

    /// The sizes they are about.
    pub(super) fn sizes(&self) -> BTreeSet<u64> {
        self.notes.iter().map(|note| note.head.size).collect()
    }

    /// Those over `head.size` leaves, when the log has as many.
    pub(super) fn judge(&mut self, keys: Option<&LogKeys>, head: &TreeHead, findings: &Findings) {
        let agreed = self.covered;
        for note in self.notes.iter().filter(|note| note.head.size == head.size) {
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
    }

    /// Those over nothing, before the log has a record, under the key that its first record names.
    pub(super) fn judge_nothing(&mut self, keys: Option<&LogKeys>, findings: &Findings) {
        self.judge(keys, &RightEdge::new().head(), findings);
    }

    /// Those over more than the log has, at its end. One that `continuation` leads to from there covers it
    /// whole.
    pub(super) fn judge_beyond(
        &mut self,
        keys: Option<&LogKeys>,
        head: &TreeHead,
        continuation: Option<&[Hash]>,
        findings: &Findings,
    ) {
        let size = head.size;
        let beyond = self.notes.iter().filter(|note| note.head.size > size);
        let beyond: Vec<&Stating> = beyond.filter(|note| signed(note, keys, findings)).collect();
        for (n, note) in beyond.iter().enumerate() {
            let stated = note.head.size;
            if continuation.is_some_and(|proof| verify_consistency(head, &note.head, proof)) {
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
    }
}

impl Stated {
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
