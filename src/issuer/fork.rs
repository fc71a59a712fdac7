//! Whether this log continues what its key has signed before: a checkpoint that a witness kept is held against the
//! log as it is now.
//!
//! A directory that was put back to an older state looks whole, and so do all checkpoints that were put back with
//! it. What it signs from then on excludes what it signed before, and certificates issued in between are forgotten.
//! Where a checkpoint under the log's own key proves that, no certificate is issued until an operator has acted;
//! revocations and CRLs go on. Nobody else's word is enough for it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::core::{Core, Part};
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::{MAX_NOTE, Note};
use crate::tlog::proof::verify_consistency;
use crate::tlog::tree::{Hash, TreeHead};

/// What a checkpoint under the log's key says of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The log continues it; its size.
    Continues(u64),
    /// It does not, and why; for the operator.
    Fork(String),
}

/// Judges a signed checkpoint. An error means that it proves nothing, one way or the other.
pub(super) fn judge(core: &Core, note: &[u8]) -> Result<Evidence, String> {
    // What a retired key signs proves nothing: whoever has it now may not stop this box with it.
    let theirs = core.log.keys().open_by_any(note).map_err(|why| why.to_string())?.head;
    let size = core.log.head().size;
    if theirs.size > size {
        return Ok(Evidence::Fork(format!(
            "this log's key has signed a tree of {} leaves, and the log has {size}",
            theirs.size
        )));
    }
    // A power cut may have taken the newest checkpoint: the next one covers it again.
    let ours = published(core)
        .filter(|ours| ours.size >= theirs.size)
        .ok_or_else(|| format!("no published checkpoint covers {} leaves yet", theirs.size))?;
    let root = root_at(core, theirs.size, &ours).ok_or_else(|| {
        format!("the root over {} leaves cannot be told from the published tiles", theirs.size)
    })?;
    if root == theirs.root {
        return Ok(Evidence::Continues(theirs.size));
    }
    Ok(Evidence::Fork(format!(
        "this log's key has signed another tree of {} leaves than the log has now",
        theirs.size
    )))
}

/// From now on no certificate is issued, and every start holds the evidence against the log again.
pub(super) fn found(core: &Core, note: &[u8], why: &str) {
    let path = path(core);
    if let Err(error) = core.disk.replace(&path, note, true) {
        tracing::error!(%error, path = %path.display(), "the evidence of the fork cannot be kept");
    }
    declare(core, why);
}

/// Holds the evidence that was kept against the log: at start, and again while it stands. What could not be told while
/// the tiles were written anew, a later look tells.
pub(super) fn recall(core: &Core) {
    let path = path(core);
    let note = match core.disk.read(&path, MAX_NOTE as u64) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return declare(core, &format!("{}: {error}", path.display())),
    };
    match judge(core, &note) {
        Ok(Evidence::Continues(size)) => {
            tracing::warn!(
                size,
                "the log continues what its witness had kept; the evidence of a fork is removed"
            );
            let _ = core.disk.remove(&path);
            core.forked.store(false, Ordering::SeqCst);
            core.problems.clear(Part::Fork);
        }
        Ok(Evidence::Fork(why)) | Err(why) => declare(core, &why),
    }
}

fn declare(core: &Core, why: &str) {
    core.forked.store(true, Ordering::SeqCst);
    let message = format!(
        "{why}: an older state of the log was put back, or its key is used twice; certificates that were issued meanwhile are not known here, and none is issued until the newer log is in place; the evidence is {}",
        path(core).display()
    );
    core.problems.set(Part::Fork, "CHY-WITNESS-FORK", message);
}

fn path(core: &Core) -> PathBuf {
    core.dir.join("fork")
}

/// The tree that the tiles lead to.
fn published(core: &Core) -> Option<TreeHead> {
    let note = Note::parse(core.log.checkpoint().as_bytes()).ok()?;
    Checkpoint::parse_text(&note.text).ok().map(|checkpoint| checkpoint.head)
}

/// The root over the first `size` leaves, proven to be one that `ours` continues: tiles are files, and a
/// damaged one is no fork.
fn root_at(core: &Core, size: u64, ours: &TreeHead) -> Option<Hash> {
    let old = core.log.tree(size).ok()?;
    let proven = if size == ours.size {
        old == *ours
    } else {
        let proof = match size {
            0 => Vec::new(),
            size => core.log.consistency(size, ours.size).ok()??,
        };
        verify_consistency(&old, ours, &proof)
    };
    proven.then_some(old.root)
}
