//! The index of a log that nobody writes at present, for the operator's tools.

use std::path::Path;
use std::sync::Arc;

use super::{Index, ReadTbs, Subject};
use crate::env::{Disk, DiskLock};
use crate::id::LeafIndex;
use crate::log::recover;
use crate::log::shelf::Shelf;

/// Held, it keeps an issuer from starting: it is not for long.
pub struct Stopped {
    index: Index,
    /// Records from here on it does not know.
    reached: LeafIndex,
    _lock: Box<dyn DiskLock>,
}

/// Where the records about a subject are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// Leaves and log offsets, ascending.
    pub places: Vec<(LeafIndex, u64)>,
    /// From here on every record has to be looked at.
    pub then: LeafIndex,
}

impl Stopped {
    /// `None` if there is no index that can be used: somebody writes the log, the directory cannot be written, the
    /// file is missing, or of another log or version. Then reading the whole log says the same.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, read_tbs: ReadTbs) -> Option<Self> {
        let lock = disk.lock(&dir.join("lock")).ok()?;
        let segments = recover::segments(&*disk, dir, None).ok()?;
        let origin = segments.first()?.header.origin;
        let named = segments.into_iter().map(|s| (s.header.base, s.name)).collect();
        let shelf = Arc::new(Shelf::new(disk, dir.to_owned(), named));
        let index = Index::open_existing(shelf, origin, read_tbs).ok()?;
        let reached = LeafIndex(index.points().ok()?.last()?.edge.size());
        // The log may have been put back to an older state.
        index.payload(LeafIndex(reached.0.checked_sub(1)?)).ok()?;
        Some(Self { index, reached, _lock: lock })
    }

    /// `None`: read the whole log.
    pub fn about(&self, subject: &Subject) -> Result<Option<Located>, String> {
        let Some(leaves) = self.index.about(subject)? else { return Ok(None) };
        Ok(Some(Located { places: self.index.places(leaves)?, then: self.reached }))
    }
}
