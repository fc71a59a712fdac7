//! Tickets on disk: one file for what was minted at once, JSON, mode 0600, replaced whole.
//!
//! Here and nowhere else are the secrets. The log holds that a ticket was minted, and every use of it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::acme::ticket::{Constraints, Secret};
use crate::env::Disk;
use crate::id::Timestamp;

/// One ticket as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Gone once the ticket can register nobody any more; its names may stay bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Secret>,
    pub(super) uses: u32,
    pub(super) minted: Timestamp,
    pub(super) expires: Timestamp,
    /// The operator's, such as a device's serial number.
    pub(super) note: String,
    pub(super) constraints: Constraints,
}

#[derive(Serialize)]
struct Writing<'a> {
    version: u32,
    tickets: &'a [Entry],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    version: u32,
    tickets: Vec<Entry>,
}

/// The directory of ticket files.
pub(super) struct Files<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: PathBuf,
}

impl Files<'_> {
    /// Every file with its name. The text of an error begins with a code.
    pub(super) fn read(&self) -> Result<Vec<(String, Vec<Entry>)>, String> {
        let failed = |path: &Path, why: &dyn std::fmt::Display| {
            format!(
                "CHY-TICKET-FILE: {}: {why}; restore it from a backup, or take it away: its tickets are lost then, and \
                 their accounts get no certificates",
                path.display()
            )
        };
        let names = match self.disk.list(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.dir, &error)),
        };
        let mut all = Vec::new();
        for name in names {
            let path = self.dir.join(&name);
            if !name.ends_with(SUFFIX) {
                // Left behind by a crash in the middle of `write`.
                let _ = self.disk.remove(&path);
                continue;
            }
            let bytes = self.disk.read(&path, MAX_FILE).map_err(|e| failed(&path, &e))?;
            let bytes = Zeroizing::new(bytes);
            let batch: Batch = serde_json::from_slice(&bytes).map_err(|e| failed(&path, &e))?;
            if batch.version != VERSION {
                return Err(failed(&path, &"a newer release wrote it"));
            }
            all.push((name, batch.tickets));
        }
        Ok(all)
    }

    /// Replaces a file, durably; an empty one is removed.
    pub(super) fn write(&self, name: &str, tickets: &[Entry]) -> io::Result<()> {
        let path = self.dir.join(name);
        if tickets.is_empty() {
            self.disk.remove(&path)?;
            return self.disk.sync_dir(&self.dir);
        }
        self.disk.create_dir(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            self.disk.sync_dir(parent)?;
        }
        let bytes = text(&Writing { version: VERSION, tickets })?;
        let new = self.dir.join(format!("{name}.new"));
        match self.disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // `create` makes it 0600 from the start.
        let file = self.disk.create(&new, 0)?;
        file.write_at(0, &bytes)?;
        file.sync_data()?;
        drop(file);
        self.disk.rename(&new, &path)?;
        self.disk.sync_dir(&self.dir)
    }
}

/// The JSON, written to a place that is large enough: one that grows leaves copies of secrets behind.
fn text(writing: &Writing<'_>) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, writing)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, writing)?;
    Ok(bytes)
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0 += part.len();
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file of the tickets that were minted with this one.
pub(super) fn name(first: &str) -> String {
    format!("{first}{SUFFIX}")
}

const SUFFIX: &str = ".json";
const VERSION: u32 = 1;
const MAX_FILE: u64 = 64 << 20;
