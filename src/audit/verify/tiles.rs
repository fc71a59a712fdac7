//! The published tiles and entries, against the records: what outsiders read must be the log.
//!
//! They are derived, so nothing is lost with them; but a tile remembers the hash of every leaf, and so names the very
//! record that was altered where a checkpoint only says that one was.
//!
//! They grow without a sync for each checkpoint, so a power cut can leave holes in them: octets that are zero although
//! there are others behind them. A hole says no more than a file that ends early, and the issuer fills it when it
//! starts.

use std::path::Path;
use std::sync::Arc;

use super::findings::Findings;
use crate::env::{Disk, DiskFile};
use crate::id::LeafIndex;
use crate::tlog::tile::{BUNDLES, ENTRIES, HASH, LEVELS, WIDTH, hashes};
use crate::tlog::tree::{Hash, RightEdge, leaf_hash};

/// The files as long as they were when they were opened.
pub(super) struct Tiled {
    levels: Vec<Level>,
    entries: Option<Forward>,
    bundles: Option<Forward>,
    /// Hashes, entries and places of bundles that are zeros, or end in zeros.
    holes: u64,
}

struct Level {
    file: Forward,
    /// The hashes below the next one of the level above.
    below: RightEdge,
    /// Hashes of this level so far.
    count: u64,
    /// Hashes that differ. After a few all may: a record is missing, or these are another log's tiles.
    wrong: u8,
}

/// A file that is read once, from its beginning.
struct Forward {
    file: Box<dyn DiskFile>,
    length: u64,
    /// Offset of the buffer's first octet, and how many of it were taken.
    start: u64,
    buffer: Vec<u8>,
    taken: usize,
}

/// Differing hashes of a level that are said.
const ENOUGH: u8 = 8;

/// Octets read at once.
const PIECE: usize = 1 << 14;

impl Tiled {
    /// Opens what there is below `dir`.
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: Option<&Path>, findings: &Findings) -> Self {
        let open = |name: &str| {
            let path = dir?.join(name);
            let opened = disk.open_read(&path).and_then(|file| Ok((file.len()?, file)));
            match opened {
                Ok((length, file)) => {
                    Some(Forward { file, length, start: 0, buffer: Vec::new(), taken: 0 })
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    findings.find(None, format!("{}: {error}", path.display()));
                    None
                }
            }
        };
        let (entries, bundles) = (open(ENTRIES), open(BUNDLES));
        let levels = (0..LEVELS).map_while(|level| open(&level.to_string()));
        let levels = levels
            .map(|file| Level { file, below: RightEdge::new(), count: 0, wrong: 0 })
            .collect();
        Self { levels, entries, bundles, holes: 0 }
    }

    /// The next leaf.
    pub(super) fn leaf(&mut self, leaf: LeafIndex, payload: &[u8], findings: &Findings) {
        if self.levels.is_empty() {
            return;
        }
        let mut hash = leaf_hash(payload);
        for (n, level) in self.levels.iter_mut().enumerate() {
            self.holes += u64::from(level.judge(n, leaf, &hash, findings));
            level.below.push(hash);
            if level.below.size() < u64::from(WIDTH) {
                break;
            }
            hash = level.below.head().root;
            level.below = RightEdge::new();
        }
        self.entry(leaf, payload, findings);
    }

    fn entry(&mut self, leaf: LeafIndex, payload: &[u8], findings: &Findings) {
        let Some(entries) = &mut self.entries else { return };
        let begins = entries.start + entries.taken as u64;
        if leaf.0.is_multiple_of(u64::from(WIDTH))
            && let Some(Some(octets)) = self.bundles.as_mut().map(|bundles| bundles.take(8))
        {
            match Octets::of(octets, &begins.to_be_bytes()) {
                Octets::Same => {}
                Octets::Hole => self.holes += 1,
                Octets::Others => {
                    findings.find(
                        leaf,
                        "tiles/bundles says another octet for the bundle of this entry",
                    );
                    self.bundles = None;
                }
            }
        }
        // Published later than the log is written: an end is no fault.
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        let length = entries.take(2).map(|octets| Octets::of(octets, &length));
        let content = entries.take(payload.len()).map(|octets| Octets::of(octets, payload));
        match (length, content) {
            (Some(Octets::Same), Some(Octets::Same)) => {}
            (Some(Octets::Others), _) | (_, Some(Octets::Others)) => {
                findings.find(
                    leaf,
                    "the published entry, in tiles/entries, is another than this record",
                );
                self.entries = None;
            }
            (None, _) | (_, None) => self.entries = None,
            (Some(_), Some(_)) => self.holes += 1,
        }
    }

    /// At the log's end; what is worth knowing and no fault.
    pub(super) fn close(&self, size: u64, findings: &Findings) -> Vec<String> {
        for (n, level) in self.levels.iter().enumerate() {
            let published = level.file.length / HASH;
            let number = u8::try_from(n).unwrap_or(LEVELS);
            if published > hashes(number, size) {
                let text = format!(
                    "tiles/{n} has {published} hashes, but a log of {size} records has {}",
                    hashes(number, size)
                );
                findings.find(None, text);
            }
        }
        let mut notes = Vec::new();
        if self.holes > 0 {
            notes.push(format!(
                "the published tiles have {} holes, as a power cut leaves them; the issuer fills them when it starts",
                self.holes
            ));
        }
        if let Some(tiled) = self.levels.first().map(|level| level.file.length / HASH)
            && tiled < size
        {
            notes.push(format!(
                "the tiles cover {tiled} of {size} records; the rest is not published yet"
            ));
        }
        notes
    }
}

/// What is published, against what it should be.
enum Octets {
    Same,
    /// Every octet that is another is zero.
    Hole,
    Others,
}

impl Octets {
    fn of(published: &[u8], right: &[u8]) -> Self {
        if published == right {
            return Self::Same;
        }
        let hole = published.iter().zip(right).all(|(is, should)| is == should || *is == 0);
        if hole { Self::Hole } else { Self::Others }
    }
}

impl Level {
    /// Whether there is a hole where the hash should be.
    fn judge(&mut self, level: usize, leaf: LeafIndex, hash: &Hash, findings: &Findings) -> bool {
        let at = self.count;
        self.count += 1;
        if self.wrong == ENOUGH {
            return false;
        }
        let Some(published) = self.file.take(hash.len()) else { return false };
        if published.iter().all(|octet| *octet == 0) {
            return true;
        }
        if published != hash {
            let text = if level == 0 {
                "the published tile has another hash for this record: one of them was altered"
                    .to_owned()
            } else {
                format!(
                    "hash {at} of tiles/{level}, which ends with this record, is another in the published tile"
                )
            };
            findings.find(leaf, text);
            self.wrong += 1;
        }
        false
    }
}

impl Forward {
    /// The next octets; `None` if the file ends before.
    fn take(&mut self, octets: usize) -> Option<&[u8]> {
        let end = self.taken + octets;
        if end > self.buffer.len() {
            self.start += self.taken as u64;
            let left = self.length.saturating_sub(self.start);
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(octets.max(PIECE));
            self.buffer.resize(wanted, 0);
            self.taken = 0;
            let read = self.file.read_at(self.start, &mut self.buffer).unwrap_or_default();
            self.buffer.truncate(read);
        }
        let taken = self.taken;
        let piece = self.buffer.get(taken..taken + octets)?;
        self.taken += octets;
        Some(piece)
    }
}
