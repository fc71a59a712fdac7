//! The published tiles and entries, against the records: what outsiders read must be the log.
//!
//! They are derived, so nothing is lost with them; but a tile remembers the hash of every leaf, and so names the very
//! record that was altered where a checkpoint only says that one was.

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
        Self { levels, entries, bundles }
    }

    /// The next leaf.
    pub(super) fn leaf(&mut self, leaf: LeafIndex, payload: &[u8], findings: &Findings) {
        if self.levels.is_empty() {
            return;
        }
        let mut hash = leaf_hash(payload);
        for (n, level) in self.levels.iter_mut().enumerate() {
            level.judge(n, leaf, &hash, findings);
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
            && octets != begins.to_be_bytes()
        {
            findings.find(leaf, "tiles/bundles says another octet for the bundle of this entry");
            self.bundles = None;
        }
        // Published later than the log is written: an end is no fault.
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        let same = entries.take(2).map(|octets| octets == length);
        let same = same.and_then(|same| Some(same && entries.take(payload.len())? == payload));
        if same == Some(false) {
            findings
                .find(leaf, "the published entry, in tiles/entries, is another than this record");
        }
        if same != Some(true) {
            self.entries = None;
        }
    }

    /// At the log's end.
    pub(super) fn close(&self, size: u64, findings: &Findings) -> Option<String> {
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
        let tiled = self.levels.first()?.file.length / HASH;
        (tiled < size).then(|| {
            format!("the tiles cover {tiled} of {size} records; the rest is not published yet")
        })
    }
}

impl Level {
    fn judge(&mut self, level: usize, leaf: LeafIndex, hash: &Hash, findings: &Findings) {
        let at = self.count;
        self.count += 1;
        if self.wrong == ENOUGH {
            return;
        }
        if let Some(published) = self.file.take(hash.len())
            && published != hash
        {
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
