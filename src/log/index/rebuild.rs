//! The index built again from the log alone, beside the one that is there, and put in its place when it is whole.

use std::path::Path;
use std::sync::Arc;

use super::{FILE, Index, Point, ReadTbs, table};
use crate::env::Disk;
use crate::id::LeafIndex;
use crate::log::Progress;
use crate::log::record::Record;
use crate::log::recover::{self, OpenError, Segment, Tail, absent, busy, unreadable};
use crate::log::segment::FRAME_HEADER;
use crate::log::shelf::Shelf;
use crate::log::tiles;
use crate::log::tree::RightEdge;

/// An index that is being built has this name.
pub(in crate::log) const NEW: &str = "index.new";

/// Applied together.
const BATCH: usize = 4096;
/// Records in memory at most before they move into the file: so many that a page of the file gets several keys
/// at once, however large it is.
const PENDING: usize = 65_536;

/// Where the tiles are that are written anew too.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub public: &'a Path,
    /// Whether entries are published.
    pub entries: bool,
}

/// What was built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rebuilt {
    pub records: u64,
    /// Length of the new file.
    pub octets: u64,
}

/// Builds the index of the log in `dir` again, which nobody may write meanwhile, and the tiles if it is told where
/// they are. `progress` is called every few thousand records. Until it is whole, and after any error, the old index
/// stays as it is; tiles that are missing then are written by the next start.
pub fn rebuild(
    disk: Arc<dyn Disk>,
    dir: &Path,
    read_tbs: ReadTbs,
    published: Option<Published<'_>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Rebuilt, OpenError> {
    match disk.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(absent(dir)),
        listed => drop(listed.map_err(|e| unreadable(dir, &e))?),
    }
    let _guard = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => busy(dir),
        _ => unreadable(dir, &error),
    })?;
    let segments = recover::segments(&*disk, dir, None)?;
    let Some(first) = segments.first() else { return Err(absent(dir)) };
    let origin = first.header.origin;
    let named = segments.iter().map(|s| (s.header.base, s.name.clone())).collect();
    let shelf = Arc::new(Shelf::new(Arc::clone(&disk), dir.to_owned(), named));
    let path = dir.join(NEW);
    let failed = |why: String| broken(dir, &why);
    let db = table::create(&*disk, &path, &origin).map_err(failed)?;
    let index = Index::over(db, shelf, path.clone(), origin, read_tbs).map_err(failed)?;
    let tiles = published.map(|Published { public, entries }| {
        tiles::Rebuild::begin(Arc::clone(&disk), public, entries)
            .map_err(|e| broken(public, &e.to_string()))
    });
    let built =
        tiles.transpose().and_then(|tiles| fill(&*disk, dir, &segments, &index, tiles, progress));
    // The file is complete only when it is closed.
    drop(index);
    let put = built.and_then(|records| {
        let octets = disk.open_read(&path).and_then(|file| file.len());
        disk.rename(&path, &dir.join(FILE))
            .and_then(|()| disk.sync_dir(dir))
            .and(octets)
            .map(|octets| Rebuilt { records, octets })
            .map_err(|e| broken(dir, &e.to_string()))
    });
    if put.is_err() {
        let _ = disk.remove(&path);
    }
    put
}

fn fill(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    index: &Index,
    mut tiles: Option<tiles::Rebuild>,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, OpenError> {
    let unwritten = |error: std::io::Error| broken(dir, &format!("the tiles: {error}"));
    let of = end_of(segments);
    let mut filling = Filling::new(index, &|| Ok(()));
    let start = Point::default();
    let tail = recover::walk(disk, dir, segments, start, &mut |leaf, offset, payload, edge| {
        let record = Record::decode(payload).map_err(|why| recover::later(dir, leaf, &why))?;
        if leaf.0 % BATCH as u64 == 0 {
            progress(Progress { leaves: leaf.0, octets: offset, of });
        }
        if let Some(tiles) = &mut tiles {
            tiles.push(payload).map_err(unwritten)?;
        }
        let taken = filling.take(leaf, offset, payload.len(), record, edge);
        taken.map_err(|why| broken(dir, &why))
    })?;
    let records = tail.edge.size();
    progress(Progress { leaves: records, octets: tail.end, of });
    filling.finish(&tail);
    index.flush_after(&|| Ok(())).map_err(|why| broken(dir, &why))?;
    tiles.map_or(Ok(()), tiles::Rebuild::close).map_err(unwritten)?;
    Ok(records)
}

/// The greatest log offset that the segments have room for.
pub(in crate::log) fn end_of(segments: &[Segment]) -> u64 {
    segments.last().map_or(0, |last| last.header.base + last.octets)
}

/// Records on their way into an index, a few thousand at once.
pub(in crate::log) struct Filling<'a> {
    index: &'a Index,
    before: &'a dyn Fn() -> Result<(), String>,
    batch: Vec<(LeafIndex, u64, Record)>,
}

impl<'a> Filling<'a> {
    /// `before` as for `Index::flush_after`.
    pub(in crate::log) fn new(
        index: &'a Index,
        before: &'a dyn Fn() -> Result<(), String>,
    ) -> Self {
        Self { index, before, batch: Vec::new() }
    }

    /// `octets` are the payload's, `edge` is behind the record. An error is the file's; the record is in memory.
    pub(in crate::log) fn take(
        &mut self,
        leaf: LeafIndex,
        offset: u64,
        octets: usize,
        record: Record,
        edge: &RightEdge,
    ) -> Result<(), String> {
        self.batch.push((leaf, offset, record));
        if self.batch.len() < BATCH {
            return Ok(());
        }
        let offset = offset + (FRAME_HEADER + octets) as u64;
        self.index.apply(&self.batch, Point { offset, edge: edge.clone() });
        self.batch.clear();
        if self.index.pending() < PENDING { Ok(()) } else { self.index.flush_after(self.before) }
    }

    /// The rest stays in memory until the next flush.
    pub(in crate::log) fn finish(self, tail: &Tail) {
        self.index.apply(&self.batch, Point { offset: tail.end, edge: tail.edge.clone() });
    }
}

fn broken(dir: &Path, why: &str) -> OpenError {
    OpenError::Retry(format!(
        "CHY-LOG-INDEX: no new index can be made in {}: {why}; the one that is there stays as it is. \
         Free some space or correct the rights of the directory",
        dir.display()
    ))
}
