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
    /// Creates a file of `length` zero octets, really allocated. Fails if the name exists.
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading only; every write on it fails.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The whole content of a file no longer than `limit` octets.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// Puts `bytes` under `path` so that a reader, and a crash, sees the old content or the new:
    /// temporary file in the same directory, `sync_data`, rename, and `sync_dir` if `durable`.
    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()>;
    /// The names in a directory, sorted, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents, mode 0700 unless it exists; durable after `sync_dir` of the parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock that lasts until the value is dropped or the process ends.
    /// Fails with `WouldBlock` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
    /// Octets free for this user on the file system of `path`.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. Positions are explicit; there is no cursor.
pub trait DiskFile: Send + Sync {
    /// Reads until `buffer` is full or the file ends; returns the octets read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, or fails with an unknown part written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes every octet written so far, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The present length.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or zero-extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// Held, it keeps every other process from writing what it guards.
pub trait DiskLock: Send + Sync {}
