//! The reading thread: checksums, hashes, the tree, and what lies outside of frames.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::mpsc::SyncSender;

use super::places::Places;
use crate::id::LeafIndex;
use crate::log::Progress;
use crate::log::reader::Reader;
use crate::log::recover::OpenError;
use crate::log::segment::{BadFrame, HEADER};
use crate::log::tree::{RightEdge, TreeHead};

/// Batches on their way to the judge at most.
pub(super) const BATCHES: usize = 2;

/// A batch is sent when it has this many octets.
const BATCH: usize = 1 << 18;

/// Some records, in order.
#[derive(Default)]
pub(super) struct Batch {
    octets: Vec<u8>,
    frames: Vec<Framed>,
}

struct Framed {
    leaf: LeafIndex,
    octets: Range<usize>,
    /// The tree after this leaf, where a checkpoint says something of it.
    head: Option<TreeHead>,
}

impl Batch {
    /// Each record's leaf and stored bytes, and the tree after it where that is asked for.
    pub(super) fn records(&self) -> impl Iterator<Item = (LeafIndex, &[u8], Option<&TreeHead>)> {
        self.frames.iter().map(|framed| {
            let octets = self.octets.get(framed.octets.clone()).unwrap_or_default();
            (framed.leaf, octets, framed.head.as_ref())
        })
    }
}

/// The log was read to its end.
pub(super) struct Walked {
    pub(super) head: TreeHead,
    /// Log offset behind the last frame.
    pub(super) end: u64,
    /// What stands where the next frame would: remains of a write that a crash cut off.
    pub(super) torn: Option<BadFrame>,
    /// Sealed segments with something behind their last frame, and where.
    pub(super) dirty: Vec<(String, u64)>,
}

/// It was not.
pub(super) struct Broken {
    /// The tree as far as it goes.
    pub(super) head: TreeHead,
    pub(super) error: OpenError,
}

/// Reads everything and sends it on. Ends early only where the log does.
pub(super) fn walk(
    reader: &Reader,
    sizes: &BTreeSet<u64>,
    places: &Places,
    progress: &(dyn Fn(Progress) + Sync),
    batches: SyncSender<Batch>,
) -> Result<Walked, Broken> {
    let of = reader.segments().iter().map(|segment| segment.octets).sum();
    let mut batch = Batch::default();
    let mut reached = RightEdge::new();
    let walked = reader.walk(&mut |leaf, offset, payload, edge| {
        places.push(leaf, offset);
        let from = batch.octets.len();
        batch.octets.extend_from_slice(payload);
        let head = sizes.contains(&edge.size()).then(|| edge.head());
        batch.frames.push(Framed { leaf, octets: from..batch.octets.len(), head });
        if batch.octets.len() >= BATCH {
            reached.clone_from(edge);
            let full = std::mem::take(&mut batch);
            batch.octets.reserve(BATCH + (1 << 16));
            // The judge ends before this thread only if it panics, and then the whole does.
            let _ = batches.send(full);
            progress(Progress { leaves: edge.size(), octets: offset.min(of), of });
        }
        Ok(())
    });
    let edge_of = |batch: &Batch, mut reached: RightEdge| {
        for (_, payload, _) in batch.records() {
            reached.push(crate::log::tree::leaf_hash(payload));
        }
        reached
    };
    let result = match walked {
        Ok(tail) => {
            progress(Progress { leaves: tail.edge.size(), octets: of, of });
            Ok(Walked {
                head: tail.edge.head(),
                end: tail.end,
                torn: tail.torn,
                dirty: dirty(reader),
            })
        }
        Err(error) => Err(Broken { head: edge_of(&batch, reached).head(), error }),
    };
    let _ = batches.send(batch);
    result
}

/// A sealed segment ends where the next one begins; behind that there are zeros.
fn dirty(reader: &Reader) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let segments = reader.segments();
    for (n, pair) in segments.windows(2).enumerate() {
        let [segment, next] = pair else { continue };
        let mut at = HEADER + (next.header.base - segment.header.base);
        while let Ok(read) = reader.octets(n, at, &mut buffer) {
            if let Some(octet) = buffer[..read].iter().position(|octet| *octet != 0) {
                found.push((segment.name.clone(), at + octet as u64));
                break;
            }
            if read == 0 {
                break;
            }
            at += read as u64;
        }
    }
    found
}
