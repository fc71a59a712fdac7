//! The issuance log: framed postcard records in preallocated segments, an RFC 6962 tree over
//! their stored bytes, and signed checkpoints over what is durable.
//!
//! Order of events, which everything else relies on: a record is written, made durable, becomes a
//! leaf, is covered by a signed checkpoint. `Log::append` answers at the point asked for and never before.

pub mod archive;
pub mod carry;
pub mod index;
pub mod reader;
pub mod record;
pub mod recover;
pub mod segment;
mod shelf;
pub mod tiles;
pub mod writer;

pub use crate::tlog::{checkpoint, keys, note, tree};
pub use record::Record;
pub use recover::OpenError;
pub use writer::{AppendError, Appended, Found, Log, Opening, Release};

use serde::{Deserialize, Serialize};

/// The `[log]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Size of a preallocated segment in MiB.
    pub segment_mib: u64,
    /// Octets kept for revocations and CRLs when the disk is full, in MiB.
    pub reserve_mib: u64,
    /// Records waiting for the writer at most.
    pub queue: usize,
    /// Whether entries are published beside the tiles: so if the web process may show them to anyone. No key of
    /// this table.
    #[serde(skip)]
    pub entries: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_mib: 16, reserve_mib: 4, queue: 1024, entries: false }
    }
}

/// How far something has come that goes through the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    pub leaves: u64,
    /// Octets that are done, and that there are to do; where all is read, free room at the end included.
    pub octets: u64,
    pub of: u64,
}
