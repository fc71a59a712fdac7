//! Room kept for small files that must be replaced also on a full disk: checkpoint, CRL, remembered PIN.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disk, DiskFile, DiskLock, is_full};

/// A disk whose `replace` has a file to give up when there is no room. The file is made again when there
/// is plenty. Everything else is the disk beneath.
pub struct KeepsRoom {
    disk: Arc<dyn Disk>,
    room: PathBuf,
    octets: u64,
    given_up: AtomicBool,
}

impl KeepsRoom {
    /// Keeps `octets` in the file `room`, whose directory exists, if there is room for it now.
    pub fn new(disk: Arc<dyn Disk>, room: PathBuf, octets: u64) -> Self {
        let this = Self { disk, room, octets, given_up: AtomicBool::new(true) };
        this.make();
        this
    }

    /// Makes the file if it is missing and would not take the last of the disk.
    fn make(&self) {
        // Asked of the disk only while the file is gone: checkpoints are replaced many times a second.
        if !self.given_up.load(Ordering::Relaxed) {
            return;
        }
        let Some(dir) = self.room.parent() else { return };
        let plenty = self.disk.free(dir).is_ok_and(|free| free / 4 >= self.octets);
        let there = self.disk.open_read(&self.room).is_ok()
            || (plenty && self.disk.create(&self.room, self.octets).is_ok());
        self.given_up.store(!there, Ordering::Relaxed);
    }
}

impl Disk for KeepsRoom {
    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        match self.disk.replace(path, bytes, durable) {
            Err(error) if is_full(&error) => {
                self.given_up.store(true, Ordering::Relaxed);
                if self.disk.remove(&self.room).is_ok() {
                    tracing::warn!("CHY-DISK-FULL: the last room is given up for small files");
                }
                // Also without it: the old file's place is free again from the second time on.
                self.disk.replace(path, bytes, durable)
            }
            Ok(()) => {
                self.make();
                Ok(())
            }
            other => other,
        }
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path, length)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open_read(path)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.disk.read(path, limit)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn create_public_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_public_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn seal(&self, path: &Path) -> io::Result<()> {
        self.disk.seal(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        self.disk.free(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::simulated::SimulatedDisk;

    #[test]
    fn a_full_disk_still_replaces_small_files_and_the_room_comes_back() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/box");
        disk.create_dir(dir).unwrap();
        let kept = KeepsRoom::new(Arc::new(disk.clone()), dir.join("room"), 1000);
        assert_eq!(disk.list(dir).unwrap(), ["room"]);
        disk.limit(Some(1000));
        let file = dir.join("checkpoint");
        assert!(is_full(&disk.replace(&file, &[1; 400], false).unwrap_err()));
        for content in 2..6 {
            kept.replace(&file, &[content; 400], false).unwrap();
            assert_eq!(kept.read(&file, 400).unwrap(), [content; 400]);
        }
        assert_eq!(disk.list(dir).unwrap(), ["checkpoint"]);
        disk.limit(None);
        kept.replace(&file, b"more", false).unwrap();
        assert_eq!(disk.list(dir).unwrap(), ["checkpoint", "room"]);
    }

    #[test]
    fn the_contract_holds() {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(crate::env::system::SystemDisk);
        let dir = root.path().join("files");
        disk.create_dir(&dir).unwrap();
        let kept = KeepsRoom::new(disk, root.path().join("room"), 4096);
        crate::env::disk::contract::run(&kept, &dir);
    }
}
