//! From archives to a box: staged below one directory, then moved into place, each step so that it can be done again.
//!
//! ```text
//! restoring/files/…     what the archives hold, read and digested; nothing counts yet
//! restoring/decided     what was found out and decided: from here on a run that was stopped only goes on
//! restoring/…           gone: the box is restored
//! ```
//!
//! `ca/authority.json` is moved last: without it nothing starts, and while `restoring/` is there nothing starts either.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::make::log_error;
use super::manifest::{Manifest, Range};
use super::open::{Opened, Take};
use super::{BackupError, failed};
use crate::env::{Disk, DiskFile};
use crate::id::Timestamp;
use crate::log::carry::carry;
use crate::log::record::{Actor, LogSucceededV1, Record, ShownBy};

/// What counts from the moment it is on the disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    pub version: u32,
    /// When, and by whom.
    pub at: Timestamp,
    pub by: Actor,
    /// SHA-256 over the newest archive's manifest.
    pub backup_sha256: [u8; 32],
    pub made: Timestamp,
    pub size: u64,
    pub root: [u8; 32],
    /// The checkpoint that the log in the archive ends with, as its note.
    pub checkpoint: String,
    pub way: Way,
    /// The epoch that the token gets.
    pub epoch: u64,
    pub holder: [u8; 16],
}

/// How the log goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Way {
    /// It does: nothing newer of it is known.
    Continues(ShownBy),
    /// Another does, with this first record; `sealed` is the directory below `issuer/` that keeps it.
    Succeeded { first: Box<LogSucceededV1>, sealed: String },
}

/// Puts what archives hold below a directory. The chain is given oldest first; of files the newest archive counts.
pub struct Stage<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    /// Archives still to come, the present one included.
    left: usize,
    opened: Vec<Opened>,
    ranges: Vec<Range>,
    file: Option<(PathBuf, Box<dyn DiskFile>, u64)>,
    made: BTreeSet<PathBuf>,
}

impl<'a> Stage<'a> {
    pub fn new(disk: &'a dyn Disk, dir: &Path, archives: usize) -> Self {
        let (dir, made) = (dir.to_owned(), BTreeSet::new());
        Self { disk, dir, left: archives, opened: Vec::new(), ranges: Vec::new(), file: None, made }
    }

    /// All archives were read: makes the names durable, and gives the newest manifest.
    pub fn finish(mut self) -> Result<Opened, BackupError> {
        for dir in &self.made {
            self.disk.sync_dir(dir).map_err(|e| failed(dir, &e))?;
        }
        self.opened.pop().ok_or_else(|| BackupError::Refuse("CHY-INTERNAL: no archive".into()))
    }

    fn directory(&mut self, path: &Path) -> Result<(), BackupError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        self.disk.create_dir(parent).map_err(|e| failed(parent, &e))?;
        for dir in parent.ancestors().take_while(|dir| dir.starts_with(&self.dir)) {
            self.made.insert(dir.to_owned());
        }
        Ok(())
    }
}

impl Take for Stage<'_> {
    fn manifest(&mut self, opened: &Opened) -> Result<(), BackupError> {
        follows(self.opened.last().map(|before| &before.manifest), &opened.manifest)?;
        self.ranges.clone_from(&opened.manifest.log);
        self.opened.push(opened.clone());
        self.left = self.left.saturating_sub(1);
        Ok(())
    }

    fn begin(&mut self, name: &str) -> Result<(), BackupError> {
        let range = self.ranges.iter().find(|range| range.entry() == name).cloned();
        let (path, at, length) = match range {
            Some(range) => {
                let path = self.dir.join("issuer/log").join(&range.segment);
                (path, range.from, range.length)
            }
            // Of an older archive only the log counts.
            None if self.left > 0 => return Ok(()),
            None => (self.dir.join(name), 0, 0),
        };
        self.directory(&path)?;
        let file = if at == 0 { self.disk.create(&path, length) } else { self.disk.open(&path) };
        self.file = Some((path.clone(), file.map_err(|e| failed(&path, &e))?, at));
        Ok(())
    }

    fn octets(&mut self, octets: &[u8]) -> Result<(), BackupError> {
        let Some((path, file, at)) = &mut self.file else { return Ok(()) };
        file.write_at(*at, octets).map_err(|e| failed(path, &e))?;
        *at += octets.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<(), BackupError> {
        match self.file.take() {
            Some((path, file, _)) => file.sync_data().map_err(|e| failed(&path, &e)),
            None => Ok(()),
        }
    }
}

/// Whether an archive comes right after the one before it in a chain.
pub(super) fn follows(before: Option<&Manifest>, next: &Manifest) -> Result<(), BackupError> {
    let refuse = |why: String| Err(BackupError::Refuse(format!("CHY-BACKUP-CHAIN: {why}")));
    match (before, &next.base) {
        (None, None) => Ok(()),
        (None, Some(base)) => refuse(format!(
            "the archive of {} continues one of {} (id {}); name that first, and those before it up to a full one",
            next.made_at, base.made_at, base.id
        )),
        (Some(_), None) => refuse(format!(
            "the archive of {} is a full one; name it first, or alone",
            next.made_at
        )),
        (Some(before), Some(base)) => {
            let end = &before.end;
            if base.id != before.id
                || (base.leaves, base.offset) != (end.leaves, end.offset)
                || (&next.ca, &next.origin) != (&before.ca, &before.origin)
            {
                return refuse(format!(
                    "the archive of {} continues the one of {} (id {}), not that of {} (id {})",
                    next.made_at, base.made_at, base.id, before.made_at, before.id
                ));
            }
            Ok(())
        }
    }
}

/// Below `restoring/`.
pub struct Staged<'a> {
    pub disk: &'a dyn Disk,
    /// The box's state directory.
    pub state: &'a Path,
    /// `restoring/`.
    pub dir: &'a Path,
}

impl Staged<'_> {
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    fn decided_path(&self) -> PathBuf {
        self.dir.join("decided")
    }

    /// What was decided by a run that was stopped.
    pub fn decided(&self) -> Result<Option<Decided>, BackupError> {
        let path = self.decided_path();
        match self.disk.read(&path, 1 << 20) {
            Ok(octets) => serde_json::from_slice(&octets).map(Some).map_err(|why| {
                BackupError::Damaged(format!(
                    "CHY-RESTORE-UNFINISHED: {}: {why}; remove the directory above it and restore anew",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// From here on it counts.
    pub fn decide(&self, decided: &Decided) -> Result<(), BackupError> {
        let octets = serde_json::to_vec(decided)
            .map_err(|why| BackupError::Refuse(format!("CHY-INTERNAL: {why}")))?;
        let path = self.decided_path();
        self.disk.replace(&path, &octets, true).map_err(|e| failed(&path, &e))
    }

    /// Begins the next log, and keeps the one that was restored, complete and unwritable, below `sealed`.
    pub fn succeed(
        &self,
        first: &LogSucceededV1,
        sealed: &str,
        segment_octets: u64,
    ) -> Result<(), BackupError> {
        let issuer = self.files().join("issuer");
        let (log, next, kept) = (issuer.join("log"), issuer.join("log-next"), issuer.join(sealed));
        let broken = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| failed(&path, &error)
        };
        if !self.is_there(&kept) {
            self.empty(&next)?;
            self.disk.create_dir(&next).map_err(broken(&next))?;
            let record = Record::LogSucceededV1(first.clone());
            carry(self.disk, &log, &record, &next, segment_octets).map_err(log_error)?;
            self.disk.sync_dir(&issuer).map_err(broken(&issuer))?;
            for name in self.disk.list(&log).map_err(broken(&log))? {
                let path = log.join(&name);
                self.disk.seal(&path).map_err(broken(&path))?;
            }
            let parent = kept.parent().unwrap_or(&issuer);
            self.disk.create_dir(parent).map_err(broken(parent))?;
            self.disk.rename(&log, &kept).map_err(broken(&log))?;
            self.disk.sync_dir(parent).map_err(broken(parent))?;
        }
        if self.is_there(&next) {
            self.disk.rename(&next, &log).map_err(broken(&next))?;
        }
        self.disk.sync_dir(&issuer).map_err(broken(&issuer))
    }

    /// A file below `files/`, durably.
    pub fn put(&self, name: &str, octets: &[u8]) -> Result<(), BackupError> {
        let path = self.files().join(name);
        self.disk.replace(&path, octets, true).map_err(|e| failed(&path, &e))
    }

    /// Moves everything into place, `last` at the very end.
    pub fn install(&self, last: &str) -> Result<(), BackupError> {
        let files = self.files();
        for part in ["issuer", "web", "public", "ca"] {
            let from = files.join(part);
            if !self.is_there(&from) {
                continue;
            }
            for name in self.disk.list(&from).map_err(|e| failed(&from, &e))? {
                if format!("{part}/{name}") != last {
                    self.move_over(part, &name)?;
                }
            }
        }
        let config = files.join("config");
        if self.is_there(&config) {
            let to = self.state.join("restored-config");
            self.disk.rename(&config, &to).map_err(|e| failed(&to, &e))?;
        }
        if let Some((part, name)) = last.split_once('/')
            && self.is_there(&files.join(last))
        {
            self.move_over(part, name)?;
        }
        self.disk.sync_dir(self.state).map_err(|e| failed(self.state, &e))
    }

    fn move_over(&self, part: &str, name: &str) -> Result<(), BackupError> {
        let (from, dir) = (self.files().join(part).join(name), self.state.join(part));
        let made = if matches!(part, "ca" | "public") {
            self.disk.create_public_dir(&dir)
        } else {
            self.disk.create_dir(&dir)
        };
        let to = dir.join(name);
        made.and_then(|()| self.disk.rename(&from, &to))
            .and_then(|()| self.disk.sync_dir(&dir))
            .map_err(|e| failed(&to, &e))
    }

    fn is_there(&self, path: &Path) -> bool {
        // A directory lists, a file opens.
        self.disk.list(path).is_ok() || self.disk.open_read(path).is_ok()
    }

    /// Removes what a stopped run left in a directory of plain files.
    fn empty(&self, dir: &Path) -> Result<(), BackupError> {
        for name in self.disk.list(dir).unwrap_or_default() {
            let path = dir.join(name);
            self.disk.remove(&path).map_err(|e| failed(&path, &e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::sample;
    use crate::backup::manifest::{Base, LogEnd};

    fn later(of: &Manifest) -> Manifest {
        let LogEnd { leaves, offset, .. } = of.end;
        Manifest {
            id: "6".repeat(32),
            base: Some(Base { id: of.id.clone(), made_at: of.made_at.clone(), leaves, offset }),
            log: Vec::new(),
            ..of.clone()
        }
    }

    #[test]
    fn a_chain_has_no_gap_and_begins_with_a_full_one() {
        let full = sample();
        let second = later(&full);
        assert_eq!(follows(None, &full), Ok(()));
        assert_eq!(follows(Some(&full), &second), Ok(()));
        for (before, next) in [
            (None, second.clone()),
            (Some(&full), full.clone()),
            (Some(&second), second.clone()),
            (Some(&full), Manifest { origin: "other/log".into(), ..second.clone() }),
            (Some(&full), Manifest { ca: "9".repeat(64), ..second.clone() }),
        ] {
            let error = follows(before, &next).unwrap_err();
            assert!(error.to_string().starts_with("CHY-BACKUP-CHAIN: "), "{error}");
        }
    }
}
