//! The disk seam: just the calls whose durability the log depends on.
//!
//! Contract, held by the system's disk and the simulated one alike:
//! - Bytes written are durable only after `sync_data` on the same file returns `Ok`.
//! - A created, renamed or removed name is durable only after `sync_dir` on its directory.
//! - After any error from `sync_data` or `sync_dir` nothing is known of what is durable; the
//!   caller must stop and recover by reading again in a new process. It is never retried.
//! - Writes not yet synced may be lost, torn at any byte, or reach the disk in any order.

use std::io;
use std::path::Path;

/// A file system, as much of it as the log and the published files need. Synchronous by design.
pub trait Disk: Send + Sync {
    /// Creates a file of `length` zero octets, really allocated, mode 0600. Fails if the name exists,
    /// and with `StorageFull` or `QuotaExceeded` if there is no room; then no file is left.
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading only; every write on it fails.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The whole content of a file no longer than `limit` octets.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// Puts `bytes` under `path` so that a reader, and a crash, sees the old content or the new:
    /// temporary file in the same directory, `sync_data`, rename, and `sync_dir` if `durable`.
    /// Mode 0644: the directory says who may read it. Names that begin with a dot and end in
    /// `.tmp` are such temporary files, left behind by a crash.
    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()>;
    /// The names in a directory, sorted, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents, mode 0700 unless it exists; durable after `sync_dir` of the parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The same with mode 0755, for what everyone on this machine may read.
    fn create_public_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file within one directory, replacing what had the name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Takes the right to write it from a file that is complete (mode 0400). Nothing is lost if the
    /// machine stops before that is durable; done twice, or through a symbolic link, it does nothing.
    fn seal(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock that lasts until the value is dropped or the process ends.
    /// Fails with `WouldBlock` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
    /// Octets free for this user on the file system of `path`.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. Positions are explicit; there is no cursor.
#[expect(clippy::len_without_is_empty, reason = "a length to compute with, not a collection")]
pub trait DiskFile: Send + Sync {
    /// Reads until `buffer` is full or the file ends; returns the octets read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, or fails with an unknown part written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes every octet written so far, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The present length.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or zero-extends the file; what is added need not be allocated.
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// Held, it keeps every other process from writing what it guards.
pub trait DiskLock: Send + Sync {}

/// Whether the error says that there is no room, rather than that something broke.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
pub(crate) mod contract {
    //! What both disks must do alike.

    use super::*;

    /// Runs the contract below `root`, an existing empty directory.
    pub(crate) fn run(disk: &dyn Disk, root: &Path) {
        let dir = root.join("a/b");
        disk.create_dir(&dir).unwrap();
        disk.create_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), Vec::<String>::new());

        let path = dir.join("one");
        let file = disk.create(&path, 10).unwrap();
        assert_eq!(disk.create(&path, 10).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(file.len().unwrap(), 10);
        let mut buffer = [9; 16];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 10);
        assert_eq!(buffer[..11], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        file.write_at(8, b"abcd").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(file.len().unwrap(), 12);
        assert_eq!(file.read_at(7, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"\0abcd");
        assert_eq!(file.read_at(12, &mut buffer).unwrap(), 0);
        assert_eq!(file.read_at(99, &mut buffer).unwrap(), 0);
        file.set_len(9).unwrap();
        file.set_len(11).unwrap();
        assert_eq!(disk.read(&path, 11).unwrap(), b"\0\0\0\0\0\0\0\0a\0\0");
        assert_eq!(disk.read(&path, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);

        let reader = disk.open_read(&path).unwrap();
        assert!(reader.write_at(0, b"x").is_err());
        disk.open(&path).unwrap().write_at(0, b"x").unwrap();
        assert_eq!(reader.read_at(0, &mut buffer[..1]).unwrap(), 1);
        assert_eq!(buffer[0], b'x');

        disk.rename(&path, &dir.join("two")).unwrap();
        file.write_at(1, b"y").unwrap();
        assert_eq!(disk.read(&dir.join("two"), 99).unwrap()[..2], *b"xy");
        for missing in [disk.open(&path).err(), disk.open_read(&path).err()] {
            assert_eq!(missing.unwrap().kind(), io::ErrorKind::NotFound);
        }
        assert_eq!(disk.read(&path, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.remove(&path).unwrap_err().kind(), io::ErrorKind::NotFound);

        disk.replace(&dir.join("two"), b"new", true).unwrap();
        disk.replace(&dir.join("three"), b"", false).unwrap();
        assert_eq!(disk.read(&dir.join("two"), 3).unwrap(), b"new");
        assert_eq!(disk.list(&dir).unwrap(), ["three", "two"]);
        disk.remove(&dir.join("three")).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["two"]);
        assert_eq!(disk.list(root).unwrap(), ["a"]);
        assert_eq!(disk.list(&root.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);

        for _ in 0..2 {
            disk.seal(&dir.join("two")).unwrap();
        }
        assert_eq!(disk.read(&dir.join("two"), 3).unwrap(), b"new");
        disk.rename(&dir.join("two"), &dir.join("four")).unwrap();
        disk.rename(&dir.join("four"), &dir.join("two")).unwrap();
        assert_eq!(disk.seal(&dir.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);

        let lock = disk.lock(&dir.join("lock")).unwrap();
        let second = disk.lock(&dir.join("lock"));
        assert_eq!(second.err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        drop(disk.lock(&dir.join("lock")).unwrap());
        assert!(disk.free(root).unwrap() > 0);
    }
}
