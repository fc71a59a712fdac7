//! A disk that loses, tears and reorders what was not synced.
//!
//! It keeps two states: what a running process sees, and what is durable with the list of changes
//! not yet synced. [`SimulatedDisk::crash`] makes the disk that the next boot finds: the durable
//! state and, as the mode says, some of the changes. Every call that changes something is an
//! *effect* and is counted; a [`Fault`] strikes at a chosen one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    name_changes: Vec<(PathBuf, NameChange)>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    effects: u64,
    fault: Option<(u64, Fault)>,
    struck: bool,
    stopped: bool,
    capacity: Option<u64>,
}

/// A file: what is read now, what is durable, and the changes between.
#[derive(Clone, Debug, Default)]
struct Node {
    now: Content,
    durable: Content,
    changes: Vec<Change>,
}

/// Octets and a length; past the octets, zeros up to the length. Preallocated files stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    octets: Vec<u8>,
    len: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(u64),
    Unlink,
    /// Atomic: the old name goes as the new one comes.
    Rename(PathBuf, u64),
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
            ..State::default()
        };
        for node in durable_names.values() {
            let content = state.nodes[node].survivor(mode, &mut chance);
            after.nodes.insert(
                *node,
                Node { now: content.clone(), durable: content, changes: Vec::new() },
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

impl State {
    /// Before every read.
    fn running(&self) -> io::Result<()> {
        if self.stopped { Err(io::Error::other("the simulated machine stopped")) } else { Ok(()) }
    }

    /// Before every change: `Ok` with the fault that strikes here.
    fn effect(&mut self) -> io::Result<Option<Fault>> {
        self.running()?;
        let number = self.effects;
        self.effects += 1;
        match self.fault {
            Some((at, Fault::Stop)) if at == number => {
                self.struck = true;
                Ok(Some(Fault::Stop))
            }
            _ => Ok(None),
        }
    }

    /// Before every sync.
    fn sync_effect(&mut self) -> io::Result<Option<Fault>> {
        let number = self.effects;
        match (self.effect()?, self.fault) {
            (None, Some((at, fault))) if at == number => {
                self.struck = true;
                Ok(Some(fault))
            }
            (fault, _) => Ok(fault),
        }
    }

    /// For effects that are whole or not at all: a stop comes before them.
    fn whole_effect(&mut self) -> io::Result<()> {
        if self.effect()? == Some(Fault::Stop) {
            self.stopped = true;
        }
        self.running()
    }

    fn room(&self, more: u64) -> io::Result<()> {
        let used: u64 = self.names.values().map(|node| self.nodes[node].now.len).sum();
        match self.capacity {
            Some(capacity) if used.saturating_add(more) > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn node(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(dir) if self.dirs.contains(dir) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change_name(&mut self, path: &Path, change: NameChange) {
        change.apply(path, &mut self.names);
        self.name_changes.push((path.to_owned(), change));
    }

    fn change(&mut self, node: u64, change: Change) {
        if let Some(node) = self.nodes.get_mut(&node) {
            change.apply(&mut node.now);
            node.changes.push(change);
        }
    }
}

impl NameChange {
    fn apply(&self, path: &Path, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(node) => {
                names.insert(path.to_owned(), *node);
            }
            Self::Unlink => {
                names.remove(path);
            }
            Self::Rename(from, node) => {
                names.remove(from);
                names.insert(path.to_owned(), *node);
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write(offset, octets) => content.write(*offset, octets),
            Self::Length(len) => {
                content.octets.truncate(usize::try_from(*len).unwrap_or(usize::MAX));
                content.len = *len;
            }
        }
    }
}

impl Content {
    fn write(&mut self, offset: u64, octets: &[u8]) {
        let start = offset as usize;
        let end = start + octets.len();
        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        self.octets[start..end].copy_from_slice(octets);
        self.len = self.len.max(end as u64);
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = (buffer.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        buffer[..count].fill(0);
        if let Some(octets) = self.octets.get(offset as usize..) {
            let known = count.min(octets.len());
            buffer[..known].copy_from_slice(&octets[..known]);
        }
        count
    }
}

impl Node {
    fn survivor(&self, mode: CrashMode, chance: &mut Chance) -> Content {
        let mut content = self.durable.clone();
        let survivors = pick(&self.changes, mode, chance);
        let last = survivors.len().saturating_sub(1);
        for (n, change) in survivors.into_iter().enumerate() {
            match change {
                Change::Write(offset, octets) if mode == CrashMode::Torn && n == last => {
                    let kept = chance.below(octets.len() as u64 + 1) as usize;
                    content.write(*offset, &octets[..kept]);
                }
                Change::Write(offset, octets) if mode == CrashMode::Reordered => {
                    let mut at = 0;
                    while at < octets.len() {
                        let piece = (1 + chance.below(64) as usize).min(octets.len() - at);
                        if chance.below(4) > 0 {
                            content.write(offset + at as u64, &octets[at..at + piece]);
                        }
                        at += piece;
                    }
                }
                change => change.apply(&mut content),
            }
        }
        content
    }
}

/// The changes that survive, in the order in which they apply.
fn pick<'a, T>(changes: &'a [T], mode: CrashMode, chance: &mut Chance) -> Vec<&'a T> {
    match mode {
        CrashMode::Lost => Vec::new(),
        CrashMode::Kept => changes.iter().collect(),
        CrashMode::Torn => {
            let kept = chance.below(changes.len() as u64 + 1) as usize;
            changes[..kept].iter().collect()
        }
        // Applied oldest first: a newer change of the same octets is never undone by an older one,
        // which no disk does; that a newer one arrives without an older one is what is simulated.
        CrashMode::Reordered => changes.iter().filter(|_| chance.below(2) == 0).collect(),
    }
}

/// SplitMix64: small, seeded, good enough to choose what is lost.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
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
        Ok(self.file(state.node(path)?, true))
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
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        state.running()?;
        Ok(state.nodes[&self.node].now.read(offset, buffer))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (SimulatedDisk, &'static Path) {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/d")).unwrap();
        (disk, Path::new("/d/f"))
    }

    #[test]
    fn the_contract_holds() {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/root")).unwrap();
        let lock_files = Path::new("/root");
        crate::env::disk::contract::run(&disk, lock_files);
    }

    #[test]
    fn what_was_not_synced_is_lost_and_a_name_needs_its_directory() {
        let (disk, path) = disk();
        let file = disk.create(path, 4).unwrap();
        file.write_at(0, b"abcd").unwrap();
        file.sync_data().unwrap();
        assert!(disk.crash(CrashMode::Lost, 0).read(path, 9).is_err());

        let (disk, path) = self::disk();
        let file = disk.create(path, 4).unwrap();
        file.write_at(0, b"abcd").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(1, b"XX").unwrap();
        assert_eq!(disk.read(path, 9).unwrap(), b"aXXd");
        assert_eq!(disk.crash(CrashMode::Lost, 0).read(path, 9).unwrap(), b"abcd");
        assert_eq!(disk.crash(CrashMode::Kept, 0).read(path, 9).unwrap(), b"aXXd");
        assert!(disk.read(path, 9).is_err(), "a crashed disk answers no more");
        let torn: BTreeSet<Vec<u8>> =
            (0..64).map(|seed| disk.crash(CrashMode::Torn, seed).read(path, 9).unwrap()).collect();
        assert_eq!(torn.len(), 3, "lost, half and whole: {torn:?}");
    }

    #[test]
    fn later_writes_can_arrive_without_earlier_ones() {
        let (disk, path) = disk();
        let file = disk.create(path, 2).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(0, b"a").unwrap();
        file.write_at(1, b"b").unwrap();
        let seen: BTreeSet<Vec<u8>> = (0..64)
            .map(|seed| disk.crash(CrashMode::Reordered, seed).read(path, 9).unwrap())
            .collect();
        assert!(seen.contains(b"\0b".as_slice()));
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn faults_strike_where_they_are_told() {
        for (fault, expected) in [(Fault::SyncFailsKept, b"ab"), (Fault::SyncFailsLost, b"\0\0")] {
            let (disk, path) = disk();
            let file = disk.create(path, 2).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(0, b"ab").unwrap();
            disk.strike(disk.effects(), fault);
            assert!(file.sync_data().is_err());
            assert_eq!(disk.read(path, 9).unwrap(), b"ab");
            file.sync_data().unwrap();
            assert_eq!(disk.crash(CrashMode::Lost, 0).read(path, 9).unwrap(), expected);
        }
        let (disk, path) = disk();
        disk.strike(disk.effects(), Fault::Stop);
        assert!(disk.create(path, 2).is_err());
        assert!(disk.list(Path::new("/d")).is_err());
    }

    #[test]
    fn a_full_disk_says_so() {
        let (disk, path) = disk();
        disk.limit(Some(10));
        let file = disk.create(path, 8).unwrap();
        let other = disk.create(Path::new("/d/g"), 3).err().unwrap();
        assert!(crate::env::disk::is_full(&other));
        file.write_at(0, &[1; 10]).unwrap();
        assert!(file.write_at(0, &[1; 11]).is_err());
        assert_eq!(disk.free(path).unwrap(), 0);
    }
}
