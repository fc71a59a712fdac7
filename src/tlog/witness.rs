//! The witness protocol (C2SP tlog-witness): the body of `add-checkpoint`, and what a witness decides of it.
//!
//! ```text
//! old <size that the witness cosigned last>
//! <base64 of a hash>        (0 to 63 lines: the consistency proof)
//! (empty line)
//! <signed checkpoint>
//! ```

use std::fmt;

use base64ct::{Base64, Encoding};

use super::checkpoint::{BadCheckpoint, Checkpoint};
use super::note::{Note, NoteSignature, VerifierKey};
use super::proof::verify_consistency;
use super::tree::{Hash, RightEdge, TreeHead, sha256};
use crate::id::hex;

/// Proof lines at most; no tree of 64 bits needs more.
pub const MAX_PROOF: usize = 63;

/// Octets of a body at most: a note of the most octets, and a proof.
pub const MAX_BODY: usize = super::note::MAX_NOTE + 4 * 1024;

/// A request to a witness. Nothing of it is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness has cosigned last; 0: none.
    pub old: u64,
    pub proof: Vec<Hash>,
    pub note: Note,
    /// What the note's text states.
    pub checkpoint: Checkpoint,
}

/// The octets are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARequest(pub &'static str);

/// Why a witness does not sign, each with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 400.
    Malformed,
    /// 403: no signature by a trusted key of the log, or one that does not verify.
    Unsigned,
    /// 409: what was cosigned last has this size.
    Conflict(u64),
    /// 422: the checkpoint does not continue what was cosigned last, or nothing shows that it does.
    Inconsistent,
}

impl AddCheckpoint {
    /// Parses; verifies nothing. One spelling only.
    pub fn parse(body: &[u8]) -> Result<Self, NotARequest> {
        if body.len() > MAX_BODY {
            return Err(NotARequest("too long"));
        }
        let text = std::str::from_utf8(body).map_err(|_| NotARequest("not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(NotARequest("no empty line"))?;
        let mut lines = head.split('\n');
        let size = lines.next().and_then(|line| line.strip_prefix("old "));
        let size = size.ok_or(NotARequest("no old size"))?;
        let old = decimal(size).ok_or(NotARequest("the old size is no number"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF {
                return Err(NotARequest("more than 63 proof lines"));
            }
            let mut hash: Hash = [0; 32];
            match Base64::decode(line, &mut hash) {
                Ok(decoded) if decoded.len() == 32 => proof.push(hash),
                _ => return Err(NotARequest("a proof line is no base64 of 32 octets")),
            }
        }
        let note = Note::parse(note.as_bytes()).map_err(|why| NotARequest(why.0))?;
        let checkpoint = Checkpoint::parse_text(&note.text).map_err(|why| match why {
            BadCheckpoint::Malformed(why) => NotARequest(why),
            _ => NotARequest("no checkpoint"),
        })?;
        Ok(Self { old, proof, note, checkpoint })
    }

    /// The signature lines by keys of the log, if there is one and each verifies: every line that names a trusted
    /// key must (C2SP signed-note); lines of others say nothing.
    pub fn signed_by(&self, keys: &[VerifierKey]) -> Result<Vec<NoteSignature>, Refused> {
        let mut verified = Vec::new();
        for line in &self.note.signatures {
            let names = |key: &&VerifierKey| key.name() == line.name && key.id() == line.id;
            let Some(key) = keys.iter().find(names) else { continue };
            if !key.verify(self.note.text.as_bytes(), &self.checkpoint.head, &line.octets) {
                return Err(Refused::Unsigned);
            }
            verified.push(line.clone());
        }
        if verified.is_empty() { Err(Refused::Unsigned) } else { Ok(verified) }
    }

    /// Whether a witness that cosigned `latest` last, if anything, may cosign this, in the order of the
    /// specification. Its signatures are not looked at here.
    pub fn continues(&self, latest: Option<&TreeHead>) -> Result<(), Refused> {
        let new = &self.checkpoint.head;
        if self.old > new.size {
            return Err(Refused::Malformed);
        }
        let nothing = RightEdge::new().head();
        let old = latest.copied().unwrap_or(nothing);
        if self.old != old.size {
            return Err(Refused::Conflict(old.size));
        }
        let continued = if new.size == 0 || old.size == new.size {
            let same = if new.size == 0 { nothing } else { old };
            *new == same && self.proof.is_empty()
        } else if old.size == 0 {
            self.proof.is_empty()
        } else {
            verify_consistency(&old, new, &self.proof)
        };
        if continued { Ok(()) } else { Err(Refused::Inconsistent) }
    }
}

impl fmt::Display for AddCheckpoint {
    /// The body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", Base64::encode_string(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

impl fmt::Display for NotARequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a request to a witness: {}", self.0)
    }
}

impl std::error::Error for NotARequest {}

/// A log's name where a path has to hold it: SHA-256 over the origin, 64 hexadecimal digits.
pub fn origin_hash(origin: &str) -> String {
    hex(&sha256(origin.as_bytes()))
}

/// The body of a 409: a size and a line feed. Space around it is forgiven.
pub fn parse_size(body: &[u8]) -> Option<u64> {
    decimal(std::str::from_utf8(body).ok()?.trim_ascii())
}

/// The lines of a witness's answer that parse; those of keys that nobody trusts are in it too.
pub fn parse_lines(body: &[u8]) -> Vec<NoteSignature> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.lines().take(MAX_LINES).filter_map(|line| NoteSignature::parse(line).ok()).collect()
}

/// Lines of an answer that are read; a witness with more keys is none of ours.
const MAX_LINES: usize = 16;

/// A number in its shortest form.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests;
