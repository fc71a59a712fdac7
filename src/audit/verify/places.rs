//! Where leaves lie: a log offset for every so many, so that any record can be read again without an index.

use std::sync::{PoisonError, RwLock};

use crate::id::LeafIndex;
use crate::log::reader::{Entry, Reader};

/// Grows while the frames are read; a leaf that was read can be looked up at once.
pub(super) struct Places(RwLock<Sparse>);

struct Sparse {
    /// Leaves from one known place to the next.
    stride: u64,
    offsets: Vec<u64>,
    leaves: u64,
}

/// The most places: one MiB. Twenty million leaves are then 256 apart.
pub(super) const MAX_PLACES: usize = 1 << 17;

impl Default for Places {
    fn default() -> Self {
        Self(RwLock::new(Sparse { stride: 16, offsets: Vec::new(), leaves: 0 }))
    }
}

impl Places {
    /// Leaves come in order, each once.
    pub(super) fn push(&self, leaf: LeafIndex, offset: u64) {
        let mut sparse = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sparse.leaves = leaf.0 + 1;
        if !leaf.0.is_multiple_of(sparse.stride) {
            return;
        }
        sparse.offsets.push(offset);
        if sparse.offsets.len() == MAX_PLACES {
            let mut even = false;
            sparse.offsets.retain(|_| {
                even = !even;
                even
            });
            sparse.stride *= 2;
        }
    }

    /// The record of a leaf that was read before; `None` if there is none or it cannot be read any more.
    pub(super) fn entry(&self, reader: &Reader, leaf: LeafIndex) -> Option<Entry> {
        let (first, offset) = {
            let sparse = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if leaf.0 >= sparse.leaves {
                return None;
            }
            let place = leaf.0 / sparse.stride;
            let offset = sparse.offsets.get(usize::try_from(place).ok()?)?;
            (LeafIndex(place * sparse.stride), *offset)
        };
        let mut entries = reader.entries_at(first, offset);
        let skip = usize::try_from(leaf.0 - first.0).ok()?;
        entries.nth(skip)?.ok().filter(|entry| entry.leaf == leaf)
    }

    /// How many places are kept.
    pub(super) fn kept(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).offsets.len()
    }
}
