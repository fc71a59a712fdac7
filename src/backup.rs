//! Backups: one encrypted archive of what a box needs besides its token, and the way back from it.
//!
//! An archive is a tar file in an age file (<https://age-encryption.org/v1>), so that in an emergency `age -d -i KEY FILE | tar -x`
//! is all it takes to look inside. Its first entry is the manifest, which names every other entry with length and SHA-256.
//! The log is in it as ranges of its segments, octet for octet, up to a signed checkpoint; an incremental archive has
//! what its base has not. Neither a key nor the PIN is in it, only which keys the token must have.
//!
//! Taken while the box works, in this order: the store, the checkpoint, everything else. So whatever the store or a
//! file of the log's says is in the log is in the log of the archive; what the log has besides, it had told nobody, or
//! the processes make good at their next start as after a crash.

pub mod age;
pub mod check;
pub mod make;
pub mod manifest;
pub mod open;
pub mod place;
pub mod tar;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The `[backup]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// age recipients, `age1…`: whoever has the identity of one of them reads the archives.
    pub recipients: Vec<String>,
    /// Where archives go that are given no other place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Why there is no backup, or no restore. Each text begins with its code and is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupError {
    /// Not now; trying again may help.
    Retry(String),
    /// An operator must act, or decide.
    Refuse(String),
    /// What was read is not what it says it is.
    Damaged(String),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Retry(text) | Self::Refuse(text) | Self::Damaged(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for BackupError {}

/// A file that cannot be read or written.
pub(crate) fn failed(path: &std::path::Path, error: &std::io::Error) -> BackupError {
    let path = path.display();
    if crate::env::disk::is_full(error) {
        return BackupError::Retry(format!(
            "CHY-BACKUP-FULL: no room for {path}; nothing was left behind. Make room and run it again"
        ));
    }
    BackupError::Refuse(format!("CHY-BACKUP-IO: {path}: {error}"))
}
