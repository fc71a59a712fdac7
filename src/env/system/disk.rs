//! The file system of the operating system, behind [`Disk`](crate::env::Disk).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::IFlags;
use rustix::io::Errno;

use crate::env::disk::{Disk, DiskFile, DiskLock};

/// The real disk. Files it creates are private to the user, see each method.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        match allocate(&file, length) {
            Ok(()) => Ok(Box::new(SystemFile(file))),
            Err(error) => {
                // It was not there before and has no content: nobody can miss it.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SystemFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SystemFile(File::open(path)?)))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One octet more than allowed tells a file that is too long from one that just fits.
        File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let temporary = temporary_name(path)?;
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)
            .and_then(|file| file.write_all_at(bytes, 0).and_then(|()| file.sync_data()))
            .and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        match path.parent() {
            Some(dir) if durable => self.sync_dir(dir),
            _ => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is no UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn create_public_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn seal(&self, path: &Path) -> io::Result<()> {
        let Some(file) = itself(path)? else { return Ok(()) };
        if file.metadata()?.permissions().mode() & 0o7777 == SEALED {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(SEALED))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(SystemLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Mode of a file that is complete.
const SEALED: u32 = 0o400;

/// How a complete file is kept from change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// Not at all, or by its mode alone.
    ByMode(u32),
    /// By the file system's immutable attribute: nobody writes, renames or removes it, root neither.
    Immutable,
    /// The name is a symbolic link to this.
    Elsewhere(PathBuf),
}

impl SystemDisk {
    /// How the file is kept from change.
    pub fn kept(&self, path: &Path) -> io::Result<Kept> {
        let Some(file) = itself(path)? else { return fs::read_link(path).map(Kept::Elsewhere) };
        // Not every file system has attributes, and one without them keeps nothing.
        let flags = rustix::fs::ioctl_getflags(&file).unwrap_or(IFlags::empty());
        Ok(if flags.contains(IFlags::IMMUTABLE) {
            Kept::Immutable
        } else {
            Kept::ByMode(file.metadata()?.permissions().mode() & 0o7777)
        })
    }

    /// Sets or takes the immutable attribute (`FS_IOC_SETFLAGS`). It takes CAP_LINUX_IMMUTABLE, which
    /// root has and the issuer has not, and a file system that knows it: ext4, xfs, btrfs, f2fs.
    pub fn set_immutable(&self, path: &Path, immutable: bool) -> io::Result<()> {
        let file = itself(path)?.ok_or(io::ErrorKind::InvalidInput)?;
        let mut flags = rustix::fs::ioctl_getflags(&file)?;
        flags.set(IFlags::IMMUTABLE, immutable);
        Ok(rustix::fs::ioctl_setflags(&file, flags)?)
    }
}

/// The file of this name and nothing that a link leads to, which root may not want to change: `None` for a link.
fn itself(path: &Path) -> io::Result<Option<File>> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl DiskFile for SystemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.0.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

/// The lock goes with the open file.
#[derive(Debug)]
struct SystemLock {
    _file: File,
}

impl DiskLock for SystemLock {}

/// Reserves the blocks, then writes zeros over them: a later write into blocks that were only
/// reserved would change the file's metadata again, and make its `sync_data` dearer.
fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length) {
        // Not every file system knows it; there the zeros themselves find out whether there is room.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; length.min(1 << 18) as usize];
    let mut offset = 0;
    while offset < length {
        let part = zeros.len().min((length - offset) as usize);
        file.write_all_at(&zeros[..part], offset)?;
        offset += part as u64;
    }
    Ok(())
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id())))
}

fn too_large() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_holds() {
        let dir = tempfile::tempdir().unwrap();
        crate::env::disk::contract::run(&SystemDisk, dir.path());
    }

    #[test]
    fn modes_are_as_promised_and_blocks_are_allocated() {
        let root = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = root.path().join("private/log");
        SystemDisk.create_dir(&dir).unwrap();
        assert_eq!((mode(&dir), mode(&root.path().join("private"))), (0o700, 0o700));
        SystemDisk.create(&dir.join("file"), 100_000).unwrap();
        assert_eq!(mode(&dir.join("file")), 0o600);
        let blocks =
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(dir.join("file")).unwrap());
        assert!(blocks * 512 >= 100_000);
        let _lock = SystemDisk.lock(&dir.join("lock")).unwrap();
        assert_eq!(mode(&dir.join("lock")), 0o600);
    }

    #[test]
    fn a_sealed_file_has_no_writer_and_a_link_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (here, there) = (root.path().join("here"), root.path().join("there"));
        SystemDisk.create(&there, 5).unwrap().write_at(0, b"bytes").unwrap();
        std::os::unix::fs::symlink(&there, &here).unwrap();
        assert_eq!(SystemDisk.kept(&there).unwrap(), Kept::ByMode(0o600));
        assert_eq!(SystemDisk.kept(&here).unwrap(), Kept::Elsewhere(there.clone()));
        // What a link leads to is not this directory's to seal.
        SystemDisk.seal(&here).unwrap();
        assert_eq!(SystemDisk.kept(&there).unwrap(), Kept::ByMode(0o600));
        SystemDisk.seal(&there).unwrap();
        assert_eq!(SystemDisk.kept(&there).unwrap(), Kept::ByMode(0o400));
        assert_eq!(SystemDisk.read(&here, 5).unwrap(), b"bytes");
    }

    #[test]
    fn an_immutable_file_outlives_even_root() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        SystemDisk.create(&path, 5).unwrap();
        if let Err(error) = SystemDisk.set_immutable(&path, true) {
            eprintln!("left out: no immutable files here: {error}");
            return;
        }
        assert_eq!(SystemDisk.kept(&path).unwrap(), Kept::Immutable);
        let refused = [
            SystemDisk.remove(&path).err(),
            SystemDisk.rename(&path, &root.path().join("other")).err(),
            SystemDisk.open(&path).err(),
            SystemDisk.replace(&path, b"other", false).err(),
        ];
        SystemDisk.set_immutable(&path, false).unwrap();
        for error in refused {
            assert_eq!(error.unwrap().kind(), io::ErrorKind::PermissionDenied);
        }
        SystemDisk.remove(&path).unwrap();
    }
}
