//! From the log to the archive.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    Archived, Base64Hash, Covered, HexHash, KeyLeaf, Manifest, broken, checkpoint_name, damaged,
};
use crate::env::{Disk, DiskFile};
use crate::log::Progress;
use crate::log::index::Point;
use crate::log::recover::{self, OpenError, Segment, unreadable};
use crate::log::segment::{Frames, HEADER, Header, origin_hash};
use crate::tlog::checkpoint::{BadCheckpoint, Checkpoint};
use crate::tlog::note::VerifierKey;
use crate::tlog::proof::consistency_path;
use crate::tlog::tree::{Hash, RightEdge, leaf_hash};

/// Segments after which the manifest is written although there are more.
const BETWEEN: usize = 32;
/// Octets read and written at once.
const PIECE: usize = 1 << 18;

/// The log that is archived.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    /// The keys that sign for the log now, the newest first: one, or two during a cross-over. Never empty; their name
    /// is the log's origin.
    pub keys: &'a [VerifierKey],
    /// The newest published checkpoint, as its note.
    pub checkpoint: &'a [u8],
}

impl Source<'_> {
    /// What the checkpoint states, which one of the keys must have signed.
    pub fn stated(&self) -> Result<Checkpoint, BadCheckpoint> {
        let mut opened = Err(BadCheckpoint::Signature);
        for key in self.keys {
            opened = Checkpoint::open(self.checkpoint, key);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Segments copied by this run, and their octets.
    pub copied: usize,
    pub octets: u64,
    /// What the archive holds now.
    pub segments: usize,
    pub leaves: u64,
    /// Leaves that its checkpoint covers.
    pub covered: u64,
}

/// Copies every complete and covered segment that the archive in `to` lacks. Makes the directory;
/// one run at a time. `progress` is called after each segment.
pub fn archive(
    source: Source<'_>,
    to: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, OpenError> {
    let Source { disk, dir, .. } = source;
    let stated = source.stated().map_err(|why| {
        OpenError::Refuse(format!("CHY-ARCHIVE-FOREIGN: the published checkpoint: {why}"))
    })?;
    let origin = origin_hash(&stated.origin);
    let segments = recover::segments(disk, dir, Some(&origin))?;
    disk.create_dir(to).map_err(|error| broken(to, &error))?;
    let _guard = disk.lock(&to.join("lock")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Retry(format!(
            "CHY-ARCHIVE-BUSY: another process archives to {}",
            to.display()
        )),
        _ => broken(to, &error),
    })?;
    tidy(disk, to)?;
    let (known, mut manifest) = match Manifest::read(disk, to)? {
        Some(manifest) => (manifest.segments.len(), manifest),
        None => (0, Manifest::new(&stated.origin)),
    };
    same_log(&manifest, &segments, &stated.origin, to)?;
    let Some(mut edge) = manifest.edge() else {
        return Err(damaged(to, "its right edge is none"));
    };

    // A segment is complete when there is a next one, which says where it ends.
    let complete = segments.windows(2).filter_map(|pair| match pair {
        [segment, next] if next.header.first_leaf <= stated.head.size => {
            Some((segment, next.header))
        }
        _ => None,
    });
    let missing: Vec<(&Segment, Header)> = complete.skip(known).collect();
    let mut done =
        Progress { leaves: 0, octets: 0, of: missing.iter().map(|(s, _)| s.octets).sum() };
    for (n, (segment, next)) in missing.iter().enumerate() {
        let archived = copy(source, segment, next, &mut edge, to)?;
        manifest.segments.push(archived);
        manifest.edge = edge.subtrees().map(|(_, hash)| Base64Hash(*hash)).collect();
        manifest.checkpoint = None;
        if (n + 1) % BETWEEN == 0 {
            write(disk, to, &manifest)?;
        }
        done.octets += segment.octets;
        done.leaves += next.first_leaf - segment.header.first_leaf;
        progress(done);
    }
    let outcome = Outcome {
        copied: missing.len(),
        octets: done.octets,
        segments: manifest.segments.len(),
        leaves: manifest.leaves(),
        covered: stated.head.size,
    };
    if manifest.segments.is_empty() {
        return Ok(outcome);
    }
    cover(source, &segments, edge, &stated, to, &mut manifest)?;
    Ok(outcome)
}

/// Proves that the checkpoint continues what is archived, and writes both down.
fn cover(
    source: Source<'_>,
    segments: &[Segment],
    edge: RightEdge,
    stated: &Checkpoint,
    to: &Path,
    manifest: &mut Manifest,
) -> Result<(), OpenError> {
    let Source { disk, dir, checkpoint, .. } = source;
    let size = stated.head.size;
    let (consistency, keys) = consistency(disk, dir, segments, edge, stated)?;
    let file = checkpoint_name(size);
    let path = to.join(&file);
    disk.replace(&path, checkpoint, true).map_err(|error| broken(&path, &error))?;
    let consistency = consistency.into_iter().map(Base64Hash).collect();
    manifest.checkpoint = Some(Covered { file, size, consistency, keys });
    write(disk, to, manifest)?;
    // The manifest names another one now.
    for name in disk.list(to).map_err(|error| broken(to, &error))? {
        let old = name.strip_prefix("checkpoint-").and_then(|size| size.parse::<u64>().ok());
        if old.is_some_and(|old| old != size) {
            disk.remove(&to.join(&name)).map_err(|error| broken(to, &error))?;
        }
    }
    disk.sync_dir(to).map_err(|error| broken(to, &error))
}

/// The proof from the tree that `edge` closes to the one that is stated, from the records between them, and those of
/// them that are about the log's keys; an error if they do not lead there.
fn consistency(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    edge: RightEdge,
    stated: &Checkpoint,
) -> Result<(Vec<Hash>, Vec<KeyLeaf>), OpenError> {
    let (old, new) = (edge.size(), stated.head.size);
    let mut keys = Vec::new();
    // What lies below `old` is a subtree of the edge; the others grow as the leaves pass by.
    let mut steps: Vec<_> =
        consistency_path(old, new).into_iter().map(|range| (range, RightEdge::new())).collect();
    let mut reached = edge.clone();
    let behind = segments.iter().find(|segment| segment.header.first_leaf == old);
    if let Some(behind) = behind.filter(|_| old < new) {
        let from = Point { offset: behind.header.base, edge: edge.clone() };
        let walked = recover::walk(disk, dir, segments, from, &mut |leaf, _, payload, _| {
            let hash = leaf_hash(payload);
            reached.push(hash);
            keys.extend(KeyLeaf::of(leaf, payload));
            // They do not overlap.
            if let Some((_, step)) = steps.iter_mut().find(|(range, _)| range.contains(&leaf.0)) {
                step.push(hash);
            }
            // Further on the writer may be at work: a frame that is half there is no damage.
            if leaf.0 + 1 < new { Ok(()) } else { Err(OpenError::Retry(String::new())) }
        });
        if reached.size() < new {
            walked?;
        }
    }
    if reached.head() != stated.head {
        return Err(damaged(
            dir,
            &format!(
                "what is archived and the records after it do not make the tree of the checkpoint over {new} \
                 records; run `chancery log verify`, here and with --dir for the archive"
            ),
        ));
    }
    let path = steps
        .into_iter()
        .filter_map(|(range, step)| {
            if range.start >= old {
                return Some(step.head().root);
            }
            edge.subtrees().find(|(known, _)| *known == range).map(|(_, hash)| *hash)
        })
        .collect();
    Ok((path, keys))
}

/// Copies one segment, reads the copy back, and gives it its name.
fn copy(
    source: Source<'_>,
    segment: &Segment,
    next: &Header,
    edge: &mut RightEdge,
    to: &Path,
) -> Result<Archived, OpenError> {
    let Source { disk, dir, .. } = source;
    let (from, path) = (dir.join(&segment.name), to.join(&segment.name));
    let temporary = to.join(format!(".{}.tmp", segment.name));
    let file = disk.open_read(&from).map_err(|error| unreadable(&from, &error))?;
    let copy =
        disk.create(&temporary, segment.octets).map_err(|error| broken(&temporary, &error))?;
    let sha256 = stream(&*file, segment.octets, &mut |at, piece| copy.write_at(at, piece))
        .map_err(|error| broken(&from, &error))?;
    copy.sync_data().map_err(|error| broken(&temporary, &error))?;
    drop(copy);

    let copy = disk.open_read(&temporary).map_err(|error| broken(&temporary, &error))?;
    let again = stream(&*copy, segment.octets, &mut |_, _| Ok(()))
        .map_err(|error| broken(&temporary, &error))?;
    if again != sha256 {
        return Err(damaged(&temporary, "the copy does not read back as it was written"));
    }
    grow(&*copy, &temporary, &segment.header, next, edge)?;
    drop(copy);
    disk.rename(&temporary, &path)
        .and_then(|()| disk.sync_dir(to))
        .map_err(|error| broken(&path, &error))?;
    if let Err(error) = disk.seal(&path) {
        tracing::warn!(%error, path = %path.display(), "an archived segment cannot be sealed");
    }
    Ok(Archived {
        file: segment.name.clone(),
        first_leaf: segment.header.first_leaf,
        leaves: next.first_leaf - segment.header.first_leaf,
        base: segment.header.base,
        octets: segment.octets,
        sha256: HexHash(sha256),
        root: Base64Hash(edge.head().root),
    })
}

/// Adds a complete segment's records to the tree.
fn grow(
    file: &(dyn DiskFile + 'static),
    path: &Path,
    header: &Header,
    next: &Header,
    edge: &mut RightEdge,
) -> Result<(), OpenError> {
    let mut frames = Frames::new(file, HEADER);
    let end = HEADER + (next.base - header.base);
    while frames.offset() < end {
        let at = frames.offset();
        match frames.advance().map_err(|error| broken(path, &error))? {
            Ok(frame) => edge.push(leaf_hash(frame.payload)),
            Err(bad) => return Err(damaged(path, &format!("octet {at}: {bad}"))),
        }
    }
    if frames.offset() != end || edge.size() != next.first_leaf {
        return Err(damaged(path, "it does not hold the records that the next segment says"));
    }
    Ok(())
}

/// Passes a file's `octets` on in pieces and gives their SHA-256.
pub(super) fn stream(
    file: &dyn DiskFile,
    octets: u64,
    each: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<Hash> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < octets {
        let wanted = buffer.len().min(usize::try_from(octets - at).unwrap_or(usize::MAX));
        let read = file.read_at(at, &mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        context.update(&buffer[..read]);
        each(at, &buffer[..read])?;
        at += read as u64;
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Ok(hash)
}

/// The archive must be of this log, and of this history of it.
fn same_log(
    manifest: &Manifest,
    segments: &[Segment],
    origin: &str,
    to: &Path,
) -> Result<(), OpenError> {
    let foreign = |why: String| {
        Err(OpenError::Refuse(format!("CHY-ARCHIVE-FOREIGN: {}: {why}", to.display())))
    };
    if manifest.origin != origin {
        return foreign(format!("it is of the log {}, not of {origin}", manifest.origin));
    }
    for (n, archived) in manifest.segments.iter().enumerate() {
        let next = segments.get(n + 1).map(|next| next.header.first_leaf);
        let is_same = segments.get(n).is_some_and(|segment| {
            segment.name == archived.file
                && segment.header.base == archived.base
                && segment.octets == archived.octets
                && next == Some(archived.first_leaf + archived.leaves)
        });
        if !is_same {
            return foreign(format!(
                "the log has no complete segment {} as it was archived: it was put back to an older state, \
                 or is another; run `chancery log verify`, here and with --dir for the archive",
                archived.file
            ));
        }
    }
    Ok(())
}

/// Removes what a stopped run left half made.
fn tidy(disk: &dyn Disk, to: &Path) -> Result<(), OpenError> {
    let left = |name: &String| name.starts_with('.') && name.ends_with(".tmp");
    let names = disk.list(to).map_err(|error| broken(to, &error))?;
    let paths: Vec<PathBuf> = names.iter().filter(|name| left(name)).map(|n| to.join(n)).collect();
    paths.iter().try_for_each(|path| disk.remove(path).map_err(|error| broken(path, &error)))
}

fn write(disk: &dyn Disk, to: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let path = to.join(super::MANIFEST);
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| damaged(&path, &format!("it cannot be written: {error}")))?;
    text.push(b'\n');
    disk.replace(&path, &text, true).map_err(|error| broken(&path, &error))
}
