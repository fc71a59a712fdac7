//! What a witness cosigned last, in a file: the checkpoint with the log's signature, below a digest.
//!
//! ```text
//! chancery witness state v1
//! <SHA-256 over what follows, hexadecimal>
//! <signed checkpoint>
//! ```
//!
//! The digest tells a file that rotted from one that was replaced: such a file is nothing to go on from, and
//! certainly not zero.

use std::io;
use std::path::Path;

use crate::env::Disk;
use crate::id::hex;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::{MAX_NOTE, Note};
use crate::tlog::tree::{TreeHead, sha256};

/// What is known of a log.
pub(super) enum Latest {
    /// To be read again before anything is decided.
    Unread,
    /// It was never cosigned: there is no file.
    Never,
    Known {
        head: TreeHead,
        note: Note,
    },
    /// The file cannot be read; why, for the operator. Nothing is cosigned.
    Unknown(String),
}

impl Latest {
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> Self {
        let unknown = |why: &str| {
            Self::Unknown(format!(
                "{}: {why}; nothing is cosigned for this log until the file is restored, or removed by an operator who knows that this log may then be cosigned from anywhere",
                path.display()
            ))
        };
        match disk.read(path, (MAX_NOTE + 256) as u64) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Never,
            Err(error) => unknown(&error.to_string()),
            Ok(bytes) => match parse(&bytes) {
                Some((head, note)) => Self::Known { head, note },
                None => unknown("it is not as it was written"),
            },
        }
    }
}

/// Makes the directory that the files are in; its name is durable before any of theirs is.
pub(super) fn prepare(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.create_dir(dir)?;
    dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
}

/// Replaces the file, durably. What an error leaves is unknown until it is read.
pub(super) fn write(disk: &dyn Disk, path: &Path, note: &Note) -> io::Result<()> {
    let note = note.to_string();
    disk.replace(path, format!("{FORM}\n{}\n{note}", digest(&note)).as_bytes(), true)
}

fn parse(bytes: &[u8]) -> Option<(TreeHead, Note)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (digest, note) = text.strip_prefix(FORM)?.strip_prefix('\n')?.split_once('\n')?;
    if digest != self::digest(note) {
        return None;
    }
    let note = Note::parse(note.as_bytes()).ok()?;
    let checkpoint = Checkpoint::parse_text(&note.text).ok()?;
    Some((checkpoint.head, note))
}

fn digest(note: &str) -> String {
    hex(&sha256(note.as_bytes()))
}

const FORM: &str = "chancery witness state v1";
