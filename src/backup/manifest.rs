//! What an archive says of itself: its first entry, JSON.

use serde::{Deserialize, Serialize};

use super::{BackupError, tar};
use crate::id::{Timestamp, hex};
use crate::log::segment;
use crate::tlog::tree::{RightEdge, TreeHead};

/// The entry's name.
pub const NAME: &str = "manifest.json";
/// Octets of it at most: a hundred thousand entries have 32 MiB.
pub const MOST: u64 = 64 << 20;
const FORMAT: u32 = 1;

/// The whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    pub format: u32,
    /// Random: what a later archive names as its base.
    pub id: String,
    /// The version of the program that made it.
    pub version: String,
    /// When it was begun, milliseconds since 1970.
    pub made: Timestamp,
    /// The same for people.
    pub made_at: String,
    /// Which CA: SHA-256 over the transcript of its first ceremony, hex.
    pub ca: String,
    /// The log's origin.
    pub origin: String,
    /// The signed checkpoint that the log in it ends with, as its note.
    pub checkpoint: String,
    /// What that covers.
    pub end: LogEnd,
    /// The archive that this one continues; `None`: it has the whole log.
    pub base: Option<Base>,
    /// Ranges of the log's segments, in order, without a gap from the base's end to this one's.
    pub log: Vec<Range>,
    /// Everything else.
    pub files: Vec<File>,
    /// The keys that the token must have.
    pub keys: Vec<Key>,
    /// The box's epoch, see `hsm::epoch`; 0 if it has none.
    pub epoch: u64,
}

/// A place in the log, and the tree up to there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogEnd {
    pub leaves: u64,
    /// Log offset behind the last of them.
    pub offset: u64,
    /// Roots of the complete subtrees, largest first, hex.
    pub edge: Vec<String>,
}

/// Which archive comes before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Base {
    pub id: String,
    pub made_at: String,
    pub leaves: u64,
    pub offset: u64,
}

/// Part of one segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Range {
    /// The segment's file name.
    pub segment: String,
    /// File offset of its first octet.
    pub from: u64,
    pub octets: u64,
    /// Length of the whole file: what is behind the last frame is zeros.
    pub length: u64,
    pub sha256: String,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Where it belongs, below the state directory; `config/…`: beside it.
    pub name: String,
    pub octets: u64,
    pub sha256: String,
}

/// One key, by what is public of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Key {
    /// RFC 7512: token, serial, label, CKA_ID.
    pub uri: String,
    /// SHA-256 over the SubjectPublicKeyInfo, hex.
    pub spki_sha256: String,
}

impl LogEnd {
    pub fn new(offset: u64, edge: &RightEdge) -> Self {
        let hashes = edge.subtrees().map(|(_, hash)| hex(hash)).collect();
        Self { leaves: edge.size(), offset, edge: hashes }
    }

    /// The tree's right edge; `None` if it is none.
    pub fn edge(&self) -> Option<RightEdge> {
        let hashes: Option<Vec<_>> = self.edge.iter().map(|text| unhex_32(text)).collect();
        RightEdge::of(self.leaves, hashes?)
    }

    /// The tree; that of nothing if the edge is none.
    pub fn head(&self) -> TreeHead {
        self.edge().unwrap_or_default().head()
    }
}

impl Range {
    /// The entry's name in the archive.
    pub fn entry(&self) -> String {
        format!("log/{}.{}", self.segment, self.from)
    }
}

impl Manifest {
    pub fn format() -> u32 {
        FORMAT
    }

    /// Reads and checks it as far as it can be without the rest.
    pub fn parse(octets: &[u8]) -> Result<Self, BackupError> {
        let damaged =
            |why: &str| BackupError::Damaged(format!("CHY-BACKUP-DAMAGED: its manifest: {why}"));
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } =
            serde_json::from_slice(octets).map_err(|why| damaged(&why.to_string()))?;
        if format != FORMAT {
            return Err(BackupError::Refuse(format!(
                "CHY-BACKUP-FORMAT: the archive is in format {format}, which this version cannot read; use the version that made it, or a later one"
            )));
        }
        let manifest: Self =
            serde_json::from_slice(octets).map_err(|why| damaged(&why.to_string()))?;
        match manifest.contradiction() {
            Some(why) => Err(damaged(why)),
            None => Ok(manifest),
        }
    }

    /// Every entry behind the manifest, in its order: name, octets, SHA-256 in hex.
    pub fn entries(&self) -> impl Iterator<Item = (String, u64, &str)> {
        let log = self.log.iter().map(|range| (range.entry(), range.octets, range.sha256.as_str()));
        let files =
            self.files.iter().map(|file| (file.name.clone(), file.octets, file.sha256.as_str()));
        log.chain(files)
    }

    /// What of it cannot be.
    fn contradiction(&self) -> Option<&'static str> {
        let is_id = |id: &str| id.len() == 32 && unhex(id).is_some();
        if !is_id(&self.id) || self.base.as_ref().is_some_and(|base| !is_id(&base.id)) {
            return Some("an id is none");
        }
        if unhex_32(&self.ca).is_none() {
            return Some("it names no CA");
        }
        if self.end.edge().is_none() || self.end.leaves == 0 {
            return Some("its tree is none");
        }
        let mut names = std::collections::BTreeSet::new();
        for (name, octets, sha256) in self.entries() {
            if !tar::is_name(&name) || octets > tar::MOST_OCTETS || unhex_32(sha256).is_none() {
                return Some("an entry is none");
            }
            if name == NAME || !names.insert(name) {
                return Some("an entry is there twice");
            }
        }
        if self.files.iter().any(|file| file.name.starts_with("log/")) {
            return Some("a file is where the log is");
        }
        self.log_contradiction()
    }

    fn log_contradiction(&self) -> Option<&'static str> {
        let (mut first, mut offset) =
            self.base.as_ref().map_or((0, 0), |base| (base.leaves, base.offset));
        if self.end.leaves < first || self.end.offset < offset {
            return Some("it ends before its base");
        }
        for (n, range) in self.log.iter().enumerate() {
            let Some(named) = segment::parse_file_name(&range.segment) else {
                return Some("a segment's name is none");
            };
            let end = range.from.checked_add(range.octets);
            if range.octets == 0 || end.is_none_or(|end| end > range.length) {
                return Some("a range is not within its segment");
            }
            // Only the first range may begin within a segment: where the base ended.
            let frames = match range.from {
                0 => range.octets.checked_sub(segment::HEADER),
                from if n == 0 && from > segment::HEADER => Some(range.octets),
                _ => None,
            };
            let Some(frames) = frames else { return Some("a range begins where none can") };
            if (range.from == 0) != (named >= first) {
                return Some("its ranges do not follow each other");
            }
            first = named.max(first);
            offset = match offset.checked_add(frames) {
                Some(offset) => offset,
                None => return Some("its ranges are too long"),
            };
        }
        (offset != self.end.offset).then_some("its ranges do not lead to its end")
    }
}

/// In one spelling only: lower case.
fn unhex(text: &str) -> Option<Vec<u8>> {
    crate::id::unhex(text).filter(|octets| hex(octets) == text)
}

pub(crate) fn unhex_32(text: &str) -> Option<[u8; 32]> {
    unhex(text)?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tlog::tree::leaf_hash;

    pub(crate) fn sample() -> Manifest {
        let mut edge = RightEdge::new();
        (0..5u8).for_each(|n| edge.push(leaf_hash(&[n])));
        Manifest {
            format: FORMAT,
            id: "0".repeat(32),
            version: "0.1.0".into(),
            made: Timestamp(1_795_305_600_000),
            made_at: Timestamp(1_795_305_600_000).to_string(),
            ca: "1".repeat(64),
            origin: "ca.lan/log".into(),
            checkpoint: "ca.lan/log\n5\n".into(),
            end: LogEnd::new(300, &edge),
            base: None,
            log: vec![Range {
                segment: segment::file_name(0),
                from: 0,
                octets: 364,
                length: 1 << 20,
                sha256: "2".repeat(64),
            }],
            files: vec![File {
                name: "ca/authority.json".into(),
                octets: 9,
                sha256: "3".repeat(64),
            }],
            keys: vec![Key { uri: "pkcs11:token=a;id=%01".into(), spki_sha256: "4".repeat(64) }],
            epoch: 1,
        }
    }

    fn parsed(manifest: &Manifest) -> Result<Manifest, BackupError> {
        Manifest::parse(&serde_json::to_vec(manifest).unwrap())
    }

    #[test]
    fn a_manifest_reads_back_and_what_cannot_be_is_refused() {
        assert_eq!(parsed(&sample()), Ok(sample()));
        let spoilt: [&dyn Fn(&mut Manifest); 11] = [
            &|m| m.id = "x".into(),
            &|m| m.ca.clear(),
            &|m| m.end.leaves = 7,
            &|m| m.end.offset += 1,
            &|m| m.log[0].octets = 0,
            &|m| m.log[0].length = 100,
            &|m| m.log[0].from = 70,
            &|m| m.log.clear(),
            &|m| m.files[0].name = "../etc/passwd".into(),
            &|m| m.files.push(m.files[0].clone()),
            &|m| m.files[0].sha256 = "3".repeat(63),
        ];
        for (n, spoil) in spoilt.iter().enumerate() {
            let mut other = sample();
            spoil(&mut other);
            assert!(matches!(parsed(&other), Err(BackupError::Damaged(_))), "{n}");
        }
        let later = Manifest { format: 2, ..sample() };
        assert!(matches!(parsed(&later), Err(BackupError::Refuse(_))));
    }

    #[test]
    fn a_later_archive_begins_where_its_base_ended() {
        let mut later = sample();
        later.base =
            Some(Base { id: "5".repeat(32), made_at: String::new(), leaves: 3, offset: 200 });
        later.log[0].from = 264;
        later.log[0].octets = 100;
        assert_eq!(parsed(&later), Ok(later.clone()));
        later.log[0].octets = 99;
        assert!(parsed(&later).is_err());
        // Nothing happened meanwhile.
        let mut same = sample();
        same.base = Some(Base { leaves: 5, offset: 300, ..later.base.unwrap() });
        same.log.clear();
        assert_eq!(parsed(&same), Ok(same.clone()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(cut: prop::sample::Index, at: prop::sample::Index, octet: u8) {
            let mut text = serde_json::to_vec(&sample()).unwrap();
            let at = at.index(text.len());
            text[at] = octet;
            let _ = Manifest::parse(&text);
            text.truncate(cut.index(text.len()));
            prop_assert!(Manifest::parse(&text).is_err());
        }
    }
}
