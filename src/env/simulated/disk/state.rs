//! What the simulated disk remembers: what a running process sees, what is durable, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{CrashMode, Fault};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_node: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) name_changes: Vec<(PathBuf, NameChange)>,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) effects: u64,
    /// Octets read so far.
    pub(super) read: u64,
    pub(super) fault: Option<(u64, Fault)>,
    pub(super) struck: bool,
    pub(super) stopped: bool,
    pub(super) capacity: Option<u64>,
    /// Whether seals are heeded.
    pub(super) unprivileged: bool,
}

/// A file: what is read now, what is durable, and the changes between.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) now: Content,
    pub(super) durable: Content,
    pub(super) changes: Vec<Change>,
    /// Whether nobody may write it any more.
    pub(super) sealed: bool,
}

/// Octets and a length; past the octets, zeros up to the length. Preallocated files stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) octets: Vec<u8>,
    pub(super) len: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link(u64),
    Unlink,
    /// Atomic: the old name goes as the new one comes.
    Rename(PathBuf, u64),
}

impl State {
    /// Before every read.
    pub(super) fn running(&self) -> io::Result<()> {
        if self.stopped { Err(io::Error::other("the simulated machine stopped")) } else { Ok(()) }
    }

    /// Before every change: `Ok` with the fault that strikes here.
    pub(super) fn effect(&mut self) -> io::Result<Option<Fault>> {
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
    pub(super) fn sync_effect(&mut self) -> io::Result<Option<Fault>> {
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
    pub(super) fn whole_effect(&mut self) -> io::Result<()> {
        if self.effect()? == Some(Fault::Stop) {
            self.stopped = true;
        }
        self.running()
    }

    pub(super) fn room(&self, more: u64) -> io::Result<()> {
        let used: u64 = self.names.values().map(|node| self.nodes[node].now.len).sum();
        match self.capacity {
            Some(capacity) if used.saturating_add(more) > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(dir) if self.dirs.contains(dir) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn change_name(&mut self, path: &Path, change: NameChange) {
        change.apply(path, &mut self.names);
        self.name_changes.push((path.to_owned(), change));
    }

    pub(super) fn change(&mut self, node: u64, change: Change) {
        if let Some(node) = self.nodes.get_mut(&node) {
            change.apply(&mut node.now);
            node.changes.push(change);
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, path: &Path, names: &mut BTreeMap<PathBuf, u64>) {
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
    pub(super) fn apply(&self, content: &mut Content) {
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
    pub(super) fn write(&mut self, offset: u64, octets: &[u8]) {
        let start = offset as usize;
        let end = start + octets.len();
        if self.octets.len() < end {
            // Zeroed by the allocator: `resize` writes octet by octet where nothing is optimised.
            let mut grown = vec![0; end];
            grown[..self.octets.len()].copy_from_slice(&self.octets);
            self.octets = grown;
        }
        self.octets[start..end].copy_from_slice(octets);
        self.len = self.len.max(end as u64);
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
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
    pub(super) fn survivor(&self, mode: CrashMode, chance: &mut Chance) -> Content {
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
pub(super) fn pick<'a, T>(changes: &'a [T], mode: CrashMode, chance: &mut Chance) -> Vec<&'a T> {
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
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
