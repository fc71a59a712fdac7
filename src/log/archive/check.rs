//! An archive against its manifest.

use std::path::{Path, PathBuf};

use super::copy::stream;
use super::{Archived, Manifest, broken};
use crate::env::Disk;
use crate::id::LeafIndex;
use crate::log::record::Record;
use crate::log::recover::OpenError;
use crate::log::segment;
use crate::tlog::tree::{Hash, TreeHead};

/// What an archive says of itself, and what of that is not so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    pub origin: String,
    pub segments: usize,
    /// The tree over all its records, as the manifest states it.
    pub head: TreeHead,
    /// The checkpoint's note, and the proof that its tree continues this one. Nobody has verified either.
    pub checkpoint: Option<(PathBuf, Vec<Hash>)>,
    /// The records about the log's own keys between its end and the checkpoint.
    pub later_keys: Vec<(LeafIndex, Record)>,
    /// What is wrong with files, in the order of the log.
    pub findings: Vec<String>,
}

/// Holds every file of the archive in `dir` against its manifest; `None` if the directory is no archive.
/// Says which file is damaged; whether the records are the log's is for the tree and the checkpoint.
pub fn check(disk: &dyn Disk, dir: &Path) -> Result<Option<Checked>, OpenError> {
    let Some(manifest) = Manifest::read(disk, dir)? else { return Ok(None) };
    let mut findings: Vec<String> =
        manifest.segments.iter().filter_map(|archived| segment(disk, dir, archived)).collect();
    for name in disk.list(dir).map_err(|error| broken(dir, &error))? {
        let is_segment = segment::parse_file_name(&name).is_some();
        if is_segment && manifest.segments.iter().all(|archived| archived.file != name) {
            findings.push(format!("{name}: the manifest does not name it"));
        }
    }
    let checkpoint = manifest.checkpoint.as_ref().map(|covered| dir.join(&covered.file));
    if checkpoint.is_none() {
        findings.push("the last run was stopped: `chancery log archive` finishes it".into());
    }
    Ok(Some(Checked {
        segments: manifest.segments.len(),
        head: manifest.head(),
        checkpoint: checkpoint.zip(manifest.consistency()),
        later_keys: manifest.later_keys(),
        findings,
        origin: manifest.origin,
    }))
}

/// What is wrong with one file.
fn segment(disk: &dyn Disk, dir: &Path, archived: &Archived) -> Option<String> {
    let path = dir.join(&archived.file);
    let read = disk.open_read(&path).and_then(|file| {
        if file.len()? != archived.octets {
            return Ok(None);
        }
        stream(&*file, archived.octets, &mut |_, _| Ok(())).map(Some)
    });
    match read {
        Ok(Some(sha256)) if sha256 == archived.sha256.0 => None,
        Ok(Some(_)) => Some(format!("{}: it is not what was archived", archived.file)),
        Ok(None) => Some(format!("{}: it has another length than was archived", archived.file)),
        Err(error) => Some(format!("{}: {error}", archived.file)),
    }
}
