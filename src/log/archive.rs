//! Cold storage: complete segments copied elsewhere, with what it takes to verify them there, alone.
//!
//! ```text
//! DIR/00000000000000000000.seg …   segments from the log's first on, octet for octet, mode 0400
//! DIR/checkpoint-<size>            a signed checkpoint over at least the records that are here
//! DIR/manifest.json                what is here; written last, and durably
//! ```
//!
//! The manifest states place, length and SHA-256 of every segment and the root of the tree after it; the
//! right edge of that tree after the last, from which the next run goes on; and an RFC 6962 consistency
//! proof (section 2.1.2) from that tree to the checkpoint's. So an archive that ends years before its
//! checkpoint is verified with the log's public key and nothing else, and one whose records were exchanged
//! together with its manifest is not. Where the log has got another key in between, the manifest has the records that
//! say so: each new key is signed for by the one before it.
//!
//! Only what a signed checkpoint covers is copied, and never the segment that is being written. Nothing is
//! removed from the log. Stopped at any point, the next run goes on: a segment has its name only after its
//! copy was read back and found to be the same, and what the manifest does not name is copied again.

mod check;
mod copy;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::Record;
use super::recover::OpenError;
use super::segment;
use crate::env::{Disk, disk::is_full};
use crate::id::{LeafIndex, hex};
use crate::tlog::tree::{Hash, RightEdge, TreeHead};

pub use check::{Checked, check};
pub use copy::{Outcome, Source, archive};

/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Octets of a manifest at most: a hundred thousand segments have 32 MiB.
const MAX_MANIFEST: u64 = 64 << 20;
const FORMAT: u32 = 1;

/// What an archive holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    format: u32,
    /// The log's origin.
    pub origin: String,
    /// From the log's first on, without a gap.
    pub segments: Vec<Archived>,
    /// The roots of the complete subtrees of the tree over all records here, largest first.
    edge: Vec<Base64Hash>,
    /// `None` while a run is under way, and after one that was stopped.
    pub checkpoint: Option<Covered>,
}

/// One segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Archived {
    pub file: String,
    pub first_leaf: u64,
    /// Records in it.
    pub leaves: u64,
    /// Log offset of its first frame.
    pub base: u64,
    /// Length of the file.
    pub octets: u64,
    /// Over the file.
    sha256: HexHash,
    /// Root of the tree over all records up to its last.
    root: Base64Hash,
}

/// A checkpoint, and that it continues what is here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Covered {
    pub file: String,
    pub size: u64,
    /// RFC 6962 section 2.1.2; empty if the checkpoint is over just these records.
    consistency: Vec<Base64Hash>,
    /// The records about the log's own keys between the last one here and the checkpoint: without them nobody could
    /// tell who signs it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<KeyLeaf>,
}

/// A record that rotates or retires a log key; its own signatures prove it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct KeyLeaf {
    leaf: u64,
    /// As it is stored, in base64.
    record: String,
}

impl KeyLeaf {
    /// The leaf, if it is about keys.
    fn of(leaf: LeafIndex, payload: &[u8]) -> Option<Self> {
        use base64ct::{Base64, Encoding};
        match Record::decode(payload) {
            Ok(Record::LogKeyRotatedV1(_) | Record::LogKeyRetiredV1(_)) => {
                Some(Self { leaf: leaf.0, record: Base64::encode_string(payload) })
            }
            _ => None,
        }
    }

    fn is_between(&self, from: u64, to: u64) -> bool {
        (from..to).contains(&self.leaf) && self.decode().is_some()
    }

    /// What it holds, if it is about keys.
    fn decode(&self) -> Option<(LeafIndex, Record)> {
        use base64ct::{Base64, Encoding};
        let payload = Base64::decode_vec(&self.record).ok()?;
        let leaf = LeafIndex(self.leaf);
        Self::of(leaf, &payload)?;
        Some((leaf, Record::decode(&payload).ok()?))
    }
}

/// In hexadecimal, as `sha256sum` writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct HexHash(Hash);

/// In base64, as checkpoints and proofs write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Base64Hash(Hash);

impl Manifest {
    fn new(origin: &str) -> Self {
        Self {
            format: FORMAT,
            origin: origin.to_owned(),
            segments: Vec::new(),
            edge: Vec::new(),
            checkpoint: None,
        }
    }

    /// The manifest of an archive; `None` if there is none, so the directory is no archive.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(MANIFEST);
        let bytes = match disk.read(&path, MAX_MANIFEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(&path, &error)),
        };
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&path, &format!("it is no manifest: {error}")))?;
        if manifest.format != FORMAT {
            return Err(OpenError::Refuse(format!(
                "CHY-ARCHIVE-FOREIGN: {} is in format {}, which this version cannot read; use the version \
                 that wrote it",
                path.display(),
                manifest.format
            )));
        }
        match manifest.contradiction() {
            Some(why) => Err(damaged(&path, why)),
            None => Ok(Some(manifest)),
        }
    }

    /// Leaves in all segments.
    pub fn leaves(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.first_leaf + last.leaves)
    }

    /// The tree over all records here, as the manifest states it.
    pub fn head(&self) -> TreeHead {
        self.edge().unwrap_or_default().head()
    }

    /// The proof that the checkpoint's tree continues this one.
    pub fn consistency(&self) -> Option<Vec<Hash>> {
        let covered = self.checkpoint.as_ref()?;
        Some(covered.consistency.iter().map(|hash| hash.0).collect())
    }

    /// The records about the log's own keys that came after those here.
    pub fn later_keys(&self) -> Vec<(LeafIndex, Record)> {
        self.checkpoint
            .iter()
            .flat_map(|covered| &covered.keys)
            .filter_map(KeyLeaf::decode)
            .collect()
    }

    fn edge(&self) -> Option<RightEdge> {
        RightEdge::of(self.leaves(), self.edge.iter().map(|hash| hash.0).collect())
    }

    /// What of it cannot be, whatever the segments hold.
    fn contradiction(&self) -> Option<&'static str> {
        let mut leaves = 0u64;
        for archived in &self.segments {
            let ends = archived.first_leaf.checked_add(archived.leaves);
            match ends {
                Some(ends) if archived.first_leaf == leaves && archived.leaves > 0 => leaves = ends,
                _ => return Some("its segments do not follow each other"),
            }
            if segment::parse_file_name(&archived.file) != Some(archived.first_leaf) {
                return Some("a segment has another name than its first leaf gives it");
            }
        }
        let root = self.segments.last().map(|last| last.root.0);
        match self.edge() {
            Some(edge) if root.is_none_or(|root| root == edge.head().root) => {}
            _ => return Some("its right edge is not that of its last segment"),
        }
        match &self.checkpoint {
            Some(covered) if covered.size < leaves => {
                Some("its checkpoint covers less than it has")
            }
            Some(covered) if covered.file != checkpoint_name(covered.size) => {
                Some("its checkpoint has another name than its size gives it")
            }
            Some(covered)
                if !covered.keys.iter().all(|key| key.is_between(leaves, covered.size)) =>
            {
                Some("what it says of the log's keys behind its end is not about them")
            }
            _ => None,
        }
    }
}

fn checkpoint_name(size: u64) -> String {
    format!("checkpoint-{size}")
}

fn damaged(path: &Path, why: &str) -> OpenError {
    OpenError::Halt(format!("CHY-ARCHIVE-DAMAGED: {}: {why}", path.display()))
}

fn broken(path: &Path, error: &std::io::Error) -> OpenError {
    if is_full(error) {
        return OpenError::Retry(format!(
            "CHY-ARCHIVE-FULL: no room for {}; what was copied before is whole. Make room, or archive to a \
             larger place, and run it again",
            path.display()
        ));
    }
    OpenError::Halt(format!("CHY-ARCHIVE-IO: {}: {error}", path.display()))
}

impl TryFrom<String> for HexHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "no SHA-256 in hexadecimal";
        let digit = |octet: u8| match octet {
            b'0'..=b'9' => Ok(octet - b'0'),
            b'a'..=b'f' => Ok(octet - b'a' + 10),
            _ => Err(wrong),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut hash = [0; 32];
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(wrong);
        }
        for (octet, [high, low]) in hash.iter_mut().zip(pairs) {
            *octet = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(hash))
    }
}

impl From<HexHash> for String {
    fn from(hash: HexHash) -> Self {
        hex(&hash.0)
    }
}

impl TryFrom<String> for Base64Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        use base64ct::{Base64, Encoding};
        let mut hash = [0; 32];
        match Base64::decode(&text, &mut hash) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self(hash)),
            _ => Err("no hash in base64"),
        }
    }
}

impl From<Base64Hash> for String {
    fn from(hash: Base64Hash) -> Self {
        use base64ct::{Base64, Encoding};
        Base64::encode_string(&hash.0)
    }
}

#[cfg(test)]
mod tests;
