//! The segments of one log, and what stands at any offset of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use super::segment::{HEADER, read_frame};
use crate::env::Disk;

/// Which segment begins where. The writer adds to it, everyone reads.
pub(super) struct Shelf {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// (base, file name), ascending.
    segments: RwLock<Vec<(u64, String)>>,
}

impl Shelf {
    /// `segments` are (base, file name), ascending.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segments: Vec<(u64, String)>) -> Self {
        Self { disk, dir, segments: RwLock::new(segments) }
    }

    /// A segment behind all others.
    pub(super) fn push(&self, base: u64, name: String) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push((base, name));
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Reads the stored bytes of the record whose frame begins at this log offset.
    pub(super) fn payload(&self, offset: u64) -> Result<Vec<u8>, String> {
        let (base, name) = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            let after = segments.partition_point(|(base, _)| *base <= offset);
            after.checked_sub(1).and_then(|n| segments.get(n)).cloned()
        }
        .ok_or_else(|| format!("no segment holds offset {offset}"))?;
        let path = self.dir.join(&name);
        let at = HEADER + (offset - base);
        let failed = |why: &dyn fmt::Display| format!("{} at octet {at}: {why}", path.display());
        let file = self.disk.open_read(&path).map_err(|e| failed(&e))?;
        read_frame(&*file, at).map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }
}
