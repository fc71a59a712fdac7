//! What was found, in plain words.

use std::fmt;

use super::findings::{Finding, MAX_FINDINGS, Place};
use crate::id::Timestamp;
use crate::log::tree::TreeHead;
use crate::tlog::note::VerifierKey;

/// What was found. `Display` says it in plain words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// What is wrong, at most `MAX_FINDINGS`: what is about no record, then in the order of the log.
    pub findings: Vec<Finding>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// The tree recomputed from the stored bytes.
    pub head: Option<TreeHead>,
    pub origin: String,
    pub accounts: u64,
    pub intents: u64,
    pub issued: u64,
    pub abandoned: u64,
    pub crls: u64,
    pub revoked: u64,
    /// Requests that the issuer recorded as refused.
    pub refused: u64,
    /// Intents with neither signature nor abandonment.
    pub open: u64,
    /// Leaves that a verified checkpoint covers.
    pub covered: u64,
    /// Checkpoints that verified.
    pub checkpoints: u64,
    /// What each witness cosigned last of the checkpoints that were given, by name.
    pub cosigned: Vec<Cosigned>,
    /// Cosignatures of witnesses that verified.
    pub cosignatures: u64,
    /// Signature lines of keys that nobody named: neither the log's nor a witness's.
    pub unknown_lines: u64,
    /// Published CRLs that were compared.
    pub crl_files: u64,
    pub newest: Timestamp,
    pub kept: Kept,
}

/// A witness and what it verifiably cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosigned {
    pub witness: String,
    /// Records.
    pub size: u64,
    /// When, by its own clock.
    pub at: Timestamp,
}

/// What was in memory at once at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Intents of which nothing was said yet.
    pub intents: usize,
    /// Octets of rows by serial, and those that were moved to the scratch file.
    pub rows: usize,
    pub spilled: u64,
    /// Places in the log.
    pub places: usize,
    /// Accounts and tickets.
    pub accounts: usize,
}

impl Verdict {
    /// Of a log that could not be opened.
    pub(super) fn unread(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }

    /// What is worth saying of witnesses.
    pub(super) fn about_witnesses(&self, witnesses: &[VerifierKey]) -> Vec<String> {
        let cosigned = self.cosigned.iter().map(|Cosigned { witness, size, at }| {
            format!("witness {witness} cosigned {size} records at {at}")
        });
        let named = |key: &&VerifierKey| self.cosigned.iter().any(|c| c.witness == key.name());
        let silent = witnesses.iter().filter(|key| !named(key));
        let silent =
            silent.map(|key| format!("witness {} cosigned none of these checkpoints", key.name()));
        let unknown = (self.unknown_lines > 0).then(|| {
            format!("{} signature lines of unknown keys were not verified", self.unknown_lines)
        });
        cosigned.chain(silent).chain(unknown).collect()
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// For a process: 0 sound, 1 not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_sound())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.head.map_or(0, |head| head.size);
        writeln!(f, "log {}: {size} records, newest {}", self.origin, self.newest)?;
        writeln!(
            f,
            "{} accounts, {} intents, {} issued, {} revoked, {} abandoned, {} open, {} CRLs",
            self.accounts,
            self.intents,
            self.issued,
            self.revoked,
            self.abandoned,
            self.open,
            self.crls
        )?;
        writeln!(
            f,
            "{} checkpoints verified; the newest covers {} records; {} published CRLs compared",
            self.checkpoints, self.covered, self.crl_files
        )?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for finding in &self.findings {
            writeln!(f, "WRONG: {finding}")?;
        }
        if self.findings.len() == MAX_FINDINGS {
            writeln!(f, "WRONG: and perhaps more; only the first {MAX_FINDINGS} are listed")?;
        }
        f.write_str(if self.is_sound() {
            "the log is sound"
        } else {
            "CHY-LOG-UNSOUND: the log is not sound; keep it as it is and find out why"
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.leaf, &self.place) {
            (Some(leaf), Some(Place { segment, octet })) => {
                write!(f, "leaf {leaf} ({segment}, octet {octet}): {}", self.text)
            }
            (Some(leaf), None) => write!(f, "leaf {leaf}: {}", self.text),
            (None, _) => f.write_str(&self.text),
        }
    }
}
