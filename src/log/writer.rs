//! The one writer: cycles of append, one `sync_data`, growth, checkpoint, release.

use super::record::Record;
use super::tree::TreeHead;
use crate::id::LeafIndex;

/// A handle on the writer thread. Cheap to clone. Dropping the last one stops the writer after what
/// was queued.
#[derive(Clone)]
pub struct Log {
    _private: (),
}

/// When `append` answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The record is durable and indexed.
    Durable,
    /// It is also covered by a signed checkpoint that is published.
    Covered,
}

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub leaf: LeafIndex,
}

/// Why a record was not appended, or whether it was is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Nothing was written: the disk is full but for the reserve, or the queue is. Try later.
    Retry,
    /// The record cannot be a leaf.
    TooLarge(usize),
    /// The state of the disk is unknown; the process must end and recover.
    Halt,
}

/// Called once, on a thread of the log; must not block.
pub type OnAppended = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

impl Log {
    /// Queues a record; `then` is called when the release point is reached.
    pub fn append(&self, record: Record, release: Release, then: OnAppended) {
        todo!()
    }
    /// `append`, waiting for the answer. Not for the log's own threads.
    pub fn append_wait(&self, record: Record, release: Release) -> Result<Appended, AppendError> {
        todo!()
    }
    /// The newest durable head.
    pub fn head(&self) -> TreeHead {
        todo!()
    }
    /// The newest signed checkpoint, as published.
    pub fn checkpoint(&self) -> std::sync::Arc<str> {
        todo!()
    }
    /// The derived index.
    pub fn index(&self) -> &super::index::Index {
        todo!()
    }
    /// Reads one durable record back.
    pub fn read(&self, leaf: LeafIndex) -> Result<Record, String> {
        todo!()
    }
}
