//! What a restore leaves in the log: that it goes on from a backup, or that another log goes on for it.

use serde::{Deserialize, Serialize};

use super::{Actor, CeremonyV1};
use crate::id::Timestamp;

/// The box was restored from a backup, and this log goes on: nothing newer of it was known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestoredV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// Records in the backup: those before are from it, those behind were made here.
    pub size: u64,
    /// The root of the tree over them.
    pub root: [u8; 32],
    /// When the backup was made.
    pub made: Timestamp,
    /// SHA-256 over the manifest of the newest archive that was restored.
    pub backup_sha256: [u8; 32],
    /// Who showed that there is no newer checkpoint.
    pub shown: ShownBy,
    /// Who restored.
    pub by: Actor,
}

/// Whose word it is that a backup's checkpoint is the log's newest. Order is stored: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ShownBy {
    /// The operator named its size and its root.
    Operator,
    /// A witness cosigned it then, which it does only with the newest it knows.
    Witness { name: String, cosigned: Timestamp },
}

/// The first leaf of a log that goes on for another, which ends: its box was restored from a backup that may not be the
/// newest. The leaves 1 to `size` − 1 are those of the former log, octet for octet; what they say of log keys counts no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogSucceededV1 {
    /// What the first leaf of a log says. Its origin and log key are this log's, its instant is that of the former log's
    /// first leaf, so that instants rise.
    pub ceremony: CeremonyV1,
    /// When this log was begun.
    pub at: Timestamp,
    /// The former log's origin.
    pub origin: String,
    /// Records of the former log in the backup.
    pub size: u64,
    /// The root of the former log's tree over them.
    pub root: [u8; 32],
    /// The leaf hash of the former log's first leaf: with it and the leaves 1 to `size` − 1 anyone computes that root.
    pub first: [u8; 32],
    /// The checkpoint that states size and root, as its signed note, with the lines of the former log's own keys.
    pub checkpoint: String,
    /// What happened from here on is unknown: when the backup was made.
    pub unknown_from: Timestamp,
    /// Up to here: when this log was begun.
    pub unknown_until: Timestamp,
    /// SHA-256 over the manifest of the newest archive that was restored.
    pub backup_sha256: [u8; 32],
    /// Who restored.
    pub by: Actor,
}

/// From here on the token signs for this box alone, and for no earlier one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochTakenV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The number in the token's epoch object, and in the box's own file.
    pub epoch: u64,
    /// The box, by a random number.
    pub holder: [u8; 16],
    /// Whether the token holds it. If not, it takes no data objects, and fences nobody.
    pub held: bool,
    /// Who had it taken.
    pub by: Actor,
}
