//! A disk that loses, tears and reorders what was not synced.
//!
//! It keeps two states: what a running process sees, and what is durable with the list of changes
//! not yet synced. [`SimulatedDisk::crash`] makes the disk that the next boot finds: the durable
//! state and, as the mode says, some of the changes. Every call that changes something is an
//! *effect* and is counted; a [`Fault`] strikes at a chosen one.

mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::state::{Chance, Change, NameChange, Node, State, pick};
use crate::env::disk::{Disk, DiskFile, DiskLock};

/// A disk in memory. Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// What of the changes not yet synced survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashMode {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// The oldest changes, the last of these torn at any octet.
    Torn,
    /// Any of the changes in any order, each write in any pieces.
    Reordered,
}

/// What goes wrong at an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The process stops: this effect and everything after it fails, reads too. A write in progress
    /// may reach the disk.
    Stop,
    /// If the effect is a sync, it fails although everything reached the disk.
    SyncFailsKept,
    /// If the effect is a sync, it fails, and what it should have made durable never will be.
    SyncFailsLost,
}

impl SimulatedDisk {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Effects so far.
    pub fn effects(&self) -> u64 {
        self.state().effects
    }

    /// Octets read so far: what something costs that changes nothing.
    pub fn octets_read(&self) -> u64 {
        self.state().read
    }

    /// Lets `fault` strike at the effect with this number, counted from 0.
    pub fn strike(&self, effect: u64, fault: Fault) {
        self.state().fault = Some((effect, fault));
    }

    /// Whether the fault did anything.
    pub fn struck(&self) -> bool {
        self.state().struck
    }

    /// Whether the machine has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// From here on sealed files are closed to writers, as they are to all users but root. Stricter than
    /// a real disk, to handles from before, too.
    pub fn enforce_seals(&self) {
        self.state().unprivileged = true;
    }

    /// Limits the sum of all files' lengths; `None` lifts the limit.
    pub fn limit(&self, octets: Option<u64>) {
        self.state().capacity = octets;
    }

    /// Stops now, as `Fault::Stop` does.
    pub fn stop(&self) {
        self.state().stopped = true;
    }

    /// The disk that is found after the machine stopped now; `seed` decides what is left to chance.
    /// This disk stays as it is, except that it stops.
    pub fn crash(&self, mode: CrashMode, seed: u64) -> Self {
        let mut state = self.state();
        state.stopped = true;
        let mut chance = Chance(seed);
        let mut durable_names = state.durable_names.clone();
        for (path, change) in pick(&state.name_changes, mode, &mut chance) {
            change.apply(path, &mut durable_names);
        }
        let mut after = State {
            dirs: state.dirs.clone(),
            next_node: state.next_node,
            capacity: state.capacity,
            unprivileged: state.unprivileged,
            ..State::default()
        };
        for node in durable_names.values() {
            let content = state.nodes[node].survivor(mode, &mut chance);
            let sealed = state.nodes[node].sealed
                && match mode {
                    CrashMode::Lost => false,
                    CrashMode::Kept => true,
                    CrashMode::Torn | CrashMode::Reordered => chance.below(2) == 0,
                };
            after.nodes.insert(
                *node,
                Node { now: content.clone(), durable: content, changes: Vec::new(), sealed },
            );
        }
        after.names.clone_from(&durable_names);
        after.durable_names = durable_names;
        Self { state: Arc::new(Mutex::new(after)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, node: u64, writable: bool) -> Box<dyn DiskFile> {
        Box::new(SimulatedFile { disk: self.clone(), node, writable })
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.whole_effect()?;
        state.parent_exists(path)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.room(length)?;
        let node = state.next_node;
        state.next_node += 1;
        state.nodes.insert(node, Node::default());
        state.change(node, Change::Length(length));
        state.change_name(path, NameChange::Link(node));
        Ok(self.file(node, true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.running()?;
        let node = state.node(path)?;
        if state.unprivileged && state.nodes[&node].sealed {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(self.file(node, true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.running()?;
        Ok(self.file(state.node(path)?, false))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open_read(path)?;
        let length = file.len()?;
        if length > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = vec![0; length as usize];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        if self.state().names.contains_key(&temporary) {
            self.remove(&temporary)?;
        }
        let file = self.create(&temporary, 0)?;
        self.state().room(bytes.len() as u64)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(dir) if durable => self.sync_dir(dir),
            _ => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.running()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> =
            files.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // Directories are durable at once: no caller leans on the opposite.
        let mut state = self.state();
        state.whole_effect()?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create_public_dir(&self, dir: &Path) -> io::Result<()> {
        self.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_effect()?;
        let node = state.node(from)?;
        state.change_name(to, NameChange::Rename(from.to_owned(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_effect()?;
        state.node(path)?;
        state.change_name(path, NameChange::Unlink);
        Ok(())
    }

    /// Whether a mode is durable is for the crash to decide.
    fn seal(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_effect()?;
        let node = state.node(path)?;
        if let Some(node) = state.nodes.get_mut(&node) {
            node.sealed = true;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.sync_effect()?;
        if fault == Some(Fault::Stop) {
            state.stopped = true;
            return state.running();
        }
        let changes = std::mem::take(&mut state.name_changes);
        for (path, change) in changes {
            if path.parent() != Some(dir) {
                state.name_changes.push((path, change));
            } else if fault != Some(Fault::SyncFailsLost) {
                change.apply(&path, &mut state.durable_names);
            }
        }
        fault.map_or(Ok(()), |_| Err(io::Error::other("the simulated sync failed")))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.state();
        state.running()?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock { disk: self.clone(), path: path.to_owned() }))
    }

    fn free(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.running()?;
        let used: u64 = state.names.values().map(|node| state.nodes[node].now.len).sum();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used)))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    node: u64,
    writable: bool,
}

impl SimulatedFile {
    fn may_write(&self) -> io::Result<()> {
        let state = self.disk.state();
        let sealed = state.unprivileged && state.nodes[&self.node].sealed;
        if self.writable && !sealed { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.running()?;
        let read = state.nodes[&self.node].now.read(offset, buffer);
        state.read += read as u64;
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.may_write()?;
        let mut state = self.disk.state();
        let stop = state.effect()? == Some(Fault::Stop);
        let grows = (offset + bytes.len() as u64).saturating_sub(state.nodes[&self.node].now.len);
        if grows > 0 {
            state.room(grows)?;
        }
        // Also when the machine stops here: the crash decides how much of it arrived.
        state.change(self.node, Change::Write(offset, bytes.to_vec()));
        state.stopped = stop;
        state.running()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.sync_effect()?;
        if fault == Some(Fault::Stop) {
            state.stopped = true;
            return state.running();
        }
        if let Some(node) = state.nodes.get_mut(&self.node) {
            let changes = std::mem::take(&mut node.changes);
            // What a failed sync loses stays readable until the machine stops, as in a page cache
            // whose pages were marked clean.
            if fault != Some(Fault::SyncFailsLost) {
                changes.iter().for_each(|change| change.apply(&mut node.durable));
            }
        }
        fault.map_or(Ok(()), |_| Err(io::Error::other("the simulated sync failed")))
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.running()?;
        Ok(state.nodes[&self.node].now.len)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.may_write()?;
        let mut state = self.disk.state();
        state.whole_effect()?;
        state.room(length.saturating_sub(state.nodes[&self.node].now.len))?;
        state.change(self.node, Change::Length(length));
        Ok(())
    }
}

struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}
