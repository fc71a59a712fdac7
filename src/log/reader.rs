//! Reads a log directory without writing it: for the operator and the auditor.
//!
//! Takes no lock and may run beside the writer: it then sees what was written when it looked, up to the
//! first frame that is not whole.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::index::Point;
use super::record::{NotARecord, Record};
use super::recover::{self, OpenError, Segment, Tail, Visit, absent, damaged, unreadable};
use super::segment::{Frames, HEADER, read_frame};
use crate::env::{Disk, DiskFile};
use crate::id::{LeafIndex, Timestamp};

/// How far the instants of neighbouring records may stand out of order: what waited in a queue, a clock that
/// was set back a little. Nothing is signed below the newest instant of the log.
pub const DISORDER: Duration = Duration::from_secs(3600);

/// A log directory as it was when it was opened.
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: Vec<Segment>,
}

/// One record and where it lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub leaf: LeafIndex,
    /// File name of its segment, and the octet at which its frame begins.
    pub segment: String,
    pub octet: u64,
    /// The stored bytes.
    pub payload: Vec<u8>,
    /// What they say.
    pub record: Result<Record, NotARecord>,
}

impl Reader {
    /// Reads the segments' headers. Refuses a directory without a log.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        if let Err(error) = disk.list(dir) {
            return Err(match error.kind() {
                std::io::ErrorKind::NotFound => absent(dir),
                _ => unreadable(dir, &error),
            });
        }
        let segments = recover::segments(&*disk, dir, None)?;
        if segments.is_empty() {
            return Err(absent(dir));
        }
        Ok(Self { disk, dir: dir.to_owned(), segments })
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The records from `from` on, in order. Ends at the log's end; a bad frame where there should be a
    /// good one is an error, and the end.
    pub fn entries(&self, from: LeafIndex) -> Entries<'_> {
        let first = self.segments.partition_point(|s| s.header.first_leaf <= from.0);
        let segment = first.saturating_sub(1);
        Entries { reader: self, from, segment, start: None, open: None, done: false }
    }

    /// The same from a place that is known: the frame of leaf `leaf` at log offset `offset`.
    pub fn entries_at(&self, leaf: LeafIndex, offset: u64) -> Entries<'_> {
        let first = self.segments.partition_point(|s| s.header.base <= offset);
        let segment = first.saturating_sub(1);
        let start = Some((leaf.0, offset));
        Entries { reader: self, from: leaf, segment, start, open: None, done: false }
    }

    /// The record of `leaf`, which lies at this log offset as the index says.
    pub fn at(&self, leaf: LeafIndex, offset: u64) -> Result<Entry, OpenError> {
        let after = self.segments.partition_point(|s| s.header.base <= offset);
        let segment = &self.segments[after.saturating_sub(1)];
        let octet = HEADER + offset.saturating_sub(segment.header.base);
        let path = self.dir.join(&segment.name);
        let file = self.disk.open_read(&path).map_err(|e| unreadable(&path, &e))?;
        let payload = match read_frame(&*file, octet).map_err(|e| unreadable(&path, &e))? {
            Ok(payload) => payload,
            Err(bad) => return Err(damaged(&path, octet, &bad.to_string())),
        };
        let record = Record::decode(&payload);
        Ok(Entry { leaf, segment: segment.name.clone(), octet, payload, record })
    }

    /// A leaf before which no record says an instant of `at` or later, found by the first records of a few
    /// segments: reading from there costs at most one segment too much, however long the log is.
    pub fn since(&self, at: Timestamp) -> Result<LeafIndex, OpenError> {
        let at = at.minus(DISORDER);
        let (mut low, mut high) = (0, self.segments.len());
        // Everything before `low` begins before `at`, everything from `high` on does not.
        while low < high {
            let middle = low + (high - low) / 2;
            let first = LeafIndex(self.segments[middle].header.first_leaf);
            let begins = match self.entries(first).next().transpose()? {
                Some(Entry { record: Ok(record), .. }) => record.at(),
                // A record of a later version says nothing: it counts as old, so that nothing is missed.
                Some(Entry { record: Err(_), .. }) => Timestamp(0),
                None => Timestamp(u64::MAX),
            };
            if begins < at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let segment = low.saturating_sub(1);
        Ok(LeafIndex(self.segments.get(segment).map_or(0, |s| s.header.first_leaf)))
    }

    /// The last `count` records that `takes` takes, found from the end; none is looked for in segments that end
    /// before `from`. And the leaf behind the log's last.
    pub fn last(
        &self,
        from: LeafIndex,
        count: usize,
        takes: &dyn Fn(&Entry) -> bool,
    ) -> Result<(Vec<Entry>, LeafIndex), OpenError> {
        let mut last = VecDeque::new();
        let mut behind = None;
        for segment in (0..self.segments.len()).rev() {
            let first = self.segments[segment].header.first_leaf;
            let end =
                self.segments.get(segment + 1).map_or(u64::MAX, |next| next.header.first_leaf);
            let mut here: VecDeque<Entry> = VecDeque::new();
            let mut next = first;
            for entry in self.entries(LeafIndex(first)) {
                let entry = entry?;
                if entry.leaf.0 >= end {
                    break;
                }
                next = entry.leaf.0 + 1;
                if takes(&entry) {
                    here.push_back(entry);
                }
                if here.len() + last.len() > count {
                    here.pop_front();
                }
            }
            behind.get_or_insert(LeafIndex(next));
            here.extend(last);
            last = here;
            if last.len() >= count || first <= from.0 {
                break;
            }
        }
        Ok((last.into(), behind.unwrap_or_default()))
    }

    /// An octet range of a segment's file, for who judges what no frame covers.
    pub fn octets(&self, segment: usize, from: u64, buffer: &mut [u8]) -> Result<usize, OpenError> {
        let Some(segment) = self.segments.get(segment) else { return Ok(0) };
        let path = self.dir.join(&segment.name);
        let file = self.disk.open_read(&path).map_err(|e| unreadable(&path, &e))?;
        file.read_at(from, buffer).map_err(|e| unreadable(&path, &e))
    }

    /// Walks everything from the first record, growing the tree.
    pub fn walk(&self, visit: &mut Visit<'_>) -> Result<Tail, OpenError> {
        recover::walk(&*self.disk, &self.dir, &self.segments, Point::default(), visit)
    }
}

/// See `Reader::entries`.
pub struct Entries<'a> {
    reader: &'a Reader,
    from: LeafIndex,
    /// The segment that is read, or comes next.
    segment: usize,
    /// Leaf and log offset of the frame to begin with, if not the segment's first.
    start: Option<(u64, u64)>,
    open: Option<Position>,
    done: bool,
}

struct Position {
    frames: Frames<Box<dyn DiskFile>>,
    leaf: u64,
}

impl Entries<'_> {
    /// Where it stands, for `Reader::entries_at`: the next leaf and its log offset; `None` before the first record was
    /// looked at.
    pub fn reached(&self) -> Option<(LeafIndex, u64)> {
        let position = self.open.as_ref()?;
        let base = self.reader.segments.get(self.segment)?.header.base;
        Some((LeafIndex(position.leaf), base + position.frames.offset().saturating_sub(HEADER)))
    }

    fn advance(&mut self) -> Result<Option<Entry>, OpenError> {
        loop {
            let Some(segment) = self.reader.segments.get(self.segment) else { return Ok(None) };
            let path = self.reader.dir.join(&segment.name);
            if self.open.is_none() {
                let file = self.reader.disk.open_read(&path).map_err(|e| unreadable(&path, &e))?;
                let (leaf, offset) =
                    self.start.take().unwrap_or((segment.header.first_leaf, segment.header.base));
                let ahead = offset.saturating_sub(segment.header.base);
                self.open = Some(Position { frames: Frames::new(file, HEADER + ahead), leaf });
            }
            let Some(position) = &mut self.open else { return Ok(None) };
            let next = self.reader.segments.get(self.segment + 1).map(|next| &next.header);
            let octet = position.frames.offset();
            if next.is_some_and(|next| next.base <= segment.header.base + (octet - HEADER)) {
                self.open = None;
                self.segment += 1;
                continue;
            }
            let payload = match position.frames.advance().map_err(|e| unreadable(&path, &e))? {
                Ok(frame) => frame.payload.to_vec(),
                Err(bad) if next.is_some() => return Err(damaged(&path, octet, &bad.to_string())),
                Err(_) => return Ok(None),
            };
            let leaf = LeafIndex(position.leaf);
            position.leaf += 1;
            if leaf >= self.from {
                let record = Record::decode(&payload);
                return Ok(Some(Entry {
                    leaf,
                    segment: segment.name.clone(),
                    octet,
                    payload,
                    record,
                }));
            }
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let entry = self.advance().transpose();
        self.done = !matches!(entry, Some(Ok(_)));
        entry
    }
}
