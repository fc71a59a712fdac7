//! The store's copy for a backup, asked for by a file: whoever may write into the web process's own directory asks, and
//! takes the copy away. No listener, and nothing that a stranger on the network could reach.
//!
//! `chancery backup` writes `snapshot-wanted` with a random number in it; the running web process answers with
//! `snapshot-<number>`. Where none runs, the tool opens the store itself.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::embedded::Embedded;

/// File name of the question.
pub const WANTED: &str = "snapshot-wanted";
const PREFIX: &str = "snapshot-";
/// Between looks.
pub const STEP: Duration = Duration::from_millis(500);

/// Where the answer to a question is.
pub fn answer_path(dir: &Path, number: &str) -> PathBuf {
    dir.join(format!("{PREFIX}{number}"))
}

/// Answers a question if there is one that has no answer yet. Errors go to the log; who asked gives up after a while.
pub fn answer(store: &Embedded, dir: &Path) {
    let Ok(question) = std::fs::read_to_string(dir.join(WANTED)) else { return };
    let number = question.trim();
    if number.len() != 32 || !number.bytes().all(|c| c.is_ascii_hexdigit()) {
        return;
    }
    let path = answer_path(dir, number);
    if path.exists() {
        return;
    }
    match write(store, &path) {
        Ok(rows) => tracing::info!(rows, "the store was copied for a backup"),
        Err(why) => tracing::warn!(%why, "the store cannot be copied for a backup"),
    }
}

/// Removes what a question of a process before left.
pub fn tidy(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name != WANTED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Copies the store into a new file, mode 0600, which has its name when it is whole.
pub fn write(store: &Embedded, path: &Path) -> Result<u64, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let half = path.with_extension("half");
    let _ = std::fs::remove_file(&half);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)
        .map_err(|e| failed(&e))?;
    let mut out = std::io::BufWriter::new(file);
    let rows = store.copy_to(&mut out).map_err(|e| failed(&format!("{e:?}")))?;
    out.flush().map_err(|e| failed(&e))?;
    std::fs::rename(&half, path).map_err(|e| failed(&e))?;
    Ok(rows)
}
