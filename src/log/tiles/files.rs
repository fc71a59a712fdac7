//! The files of the published tree, and how they grow.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::env::{Disk, DiskFile};
use crate::tlog::tile::{
    self, BUNDLES, ENTRIES, HASH, LEVELS, Tile, TiledTree, WIDTH, hashes, push_entry, read_bundle,
    split_hashes,
};
use crate::tlog::tree::{Hash, RightEdge, leaf_hash};

/// Where the files are.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    /// Behind each name.
    pub(super) suffix: &'static str,
}

/// The tree's files from its first leaf to its last, as far as it was pushed.
pub(super) struct Files {
    place: Place,
    levels: Vec<Level>,
    bundles: Option<Bundles>,
    /// A name may not be durable.
    names: bool,
}

struct Level {
    file: Grown,
    /// The hashes of the last tile, if it is partial.
    tail: RightEdge,
}

struct Bundles {
    entries: Grown,
    starts: Grown,
    count: u64,
}

/// A file that is only appended to.
struct Grown {
    name: String,
    file: Option<Arc<dyn DiskFile>>,
    /// Octets that were written.
    end: u64,
    unwritten: Vec<u8>,
    unsynced: bool,
}

/// What has to be synced.
pub(super) struct Unsynced {
    files: Vec<Arc<dyn DiskFile>>,
    names: bool,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{}", self.suffix))
    }

    /// The hashes of a tile.
    pub(super) fn read(&self, tile: &Tile) -> io::Result<Vec<Hash>> {
        let file = self.disk.open_read(&self.path(&tile.level.to_string()))?;
        let (start, length) = tile.octets();
        let mut octets = vec![0; length];
        if file.read_at(start, &mut octets)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(split_hashes(&octets))
    }
}

impl Files {
    /// Of the empty tree.
    pub(super) fn empty(place: &Place, entries: bool) -> Self {
        let bundles = entries.then(|| Bundles {
            entries: Grown::new(ENTRIES, None, 0),
            starts: Grown::new(BUNDLES, None, 0),
            count: 0,
        });
        Self { place: place.clone(), levels: Vec::new(), bundles, names: true }
    }

    /// The files that are there, if they lead to this tree; what they have beyond it does not count.
    pub(super) fn resume(
        place: &Place,
        edge: &RightEdge,
        entries: bool,
    ) -> io::Result<Option<Self>> {
        match Self::read(place, edge, entries) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            found => found,
        }
    }

    fn read(place: &Place, edge: &RightEdge, entries: bool) -> io::Result<Option<Self>> {
        let size = edge.size();
        let mut files = Self::empty(place, entries);
        let mut tree = TiledTree::new(|tile: &Tile| place.read(tile), size);
        if tree.head()? != edge.head() {
            return Ok(None);
        }
        for level in (0..LEVELS).take_while(|level| hashes(*level, size) > 0) {
            let count = hashes(level, size);
            let name = level.to_string();
            let file = Some(place.disk.open(&place.path(&name))?.into());
            let mut tail = RightEdge::new();
            let last = count / u64::from(WIDTH);
            if !count.is_multiple_of(u64::from(WIDTH))
                && let Some(tile) = Tile::of(level, last, size)
            {
                place.read(&tile)?.into_iter().for_each(|hash| tail.push(hash));
            }
            files.levels.push(Level { file: Grown::new(&name, file, count * HASH), tail });
        }
        let (Some(bundles), Some(last)) = (&mut files.bundles, size.checked_sub(1)) else {
            return Ok(Some(files));
        };
        // The last bundle says where the entries end.
        let number = last / u64::from(WIDTH);
        let starts = place.disk.open(&place.path(BUNDLES))?;
        let mut start = [0; 8];
        if starts.read_at(number * 8, &mut start)? < start.len() {
            return Ok(None);
        }
        let start = u64::from_be_bytes(start);
        let entries = place.disk.open(&place.path(ENTRIES))?;
        let width = Tile::width_in(0, number, size);
        let bundle = read_bundle(width, start, |at, buffer| entries.read_at(at, buffer))?;
        let tile = Tile { level: 0, index: number, width };
        let leaves = tile::entries(&bundle).unwrap_or_default();
        if !leaves.into_iter().map(leaf_hash).eq(place.read(&tile)?) {
            return Ok(None);
        }
        let end = start + bundle.len() as u64;
        *bundles = Bundles {
            entries: Grown::new(ENTRIES, Some(entries.into()), end),
            starts: Grown::new(BUNDLES, Some(starts.into()), (number + 1) * 8),
            count: size,
        };
        Ok(Some(files))
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Appends a leaf, and its entry where entries are published. In memory only.
    pub(super) fn push(&mut self, hash: Hash, entry: Option<&[u8]>) {
        let mut hash = hash;
        for level in 0.. {
            if self.levels.len() == level {
                let file = Grown::new(&level.to_string(), None, 0);
                self.levels.push(Level { file, tail: RightEdge::new() });
            }
            let Level { file, tail } = &mut self.levels[level];
            file.unwritten.extend_from_slice(&hash);
            tail.push(hash);
            if tail.size() < u64::from(WIDTH) {
                break;
            }
            // A full tile is a hash of the next level.
            hash = std::mem::take(tail).head().root;
        }
        if let (Some(bundles), Some(entry)) = (&mut self.bundles, entry) {
            if bundles.count.is_multiple_of(u64::from(WIDTH)) {
                let start = bundles.entries.end + bundles.entries.unwritten.len() as u64;
                bundles.starts.unwritten.extend_from_slice(&start.to_be_bytes());
            }
            // The log takes no longer records.
            push_entry(&mut bundles.entries.unwritten, entry);
            bundles.count += 1;
        }
    }

    /// Octets that are not written yet.
    pub(super) fn pending(&self) -> usize {
        self.grown().map(|file| file.unwritten.len()).sum()
    }

    /// Writes what was pushed.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Self { place, levels, bundles, names } = self;
        for file in grown(levels, bundles) {
            file.write(place, names)?;
        }
        Ok(())
    }

    /// Cuts each file where the tree ends, and removes what is no part of it.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        for file in grown(&mut self.levels, &mut self.bundles) {
            if let Some(open) = &file.file
                && file.unwritten.is_empty()
                && open.len()? > file.end
            {
                open.set_len(file.end)?;
                file.unsynced = true;
            }
        }
        for name in self.place.disk.list(&self.place.dir)? {
            if !self.grown().any(|file| file.name == name) {
                self.place.disk.remove(&self.place.dir.join(name))?;
                self.names = true;
            }
        }
        Ok(())
    }

    /// What has to be synced to make all that was written durable; asked again, only what is written later.
    pub(super) fn unsynced(&mut self) -> Unsynced {
        let unsynced = grown(&mut self.levels, &mut self.bundles)
            .filter_map(|file| std::mem::take(&mut file.unsynced).then(|| file.file.clone())?);
        Unsynced { files: unsynced.collect(), names: std::mem::take(&mut self.names) }
    }

    /// Files that were made under other names, and are durable, get their own.
    pub(super) fn take_names(&mut self) -> io::Result<()> {
        let proper = Place { suffix: "", ..self.place.clone() };
        for file in self.grown().filter(|file| file.file.is_some()) {
            self.place.disk.rename(&self.place.path(&file.name), &proper.path(&file.name))?;
        }
        self.place = proper;
        self.place.disk.sync_dir(&self.place.dir)
    }

    fn grown(&self) -> impl Iterator<Item = &Grown> {
        let bundles = self.bundles.iter().flat_map(|b| [&b.entries, &b.starts]);
        self.levels.iter().map(|level| &level.file).chain(bundles)
    }
}

fn grown<'a>(
    levels: &'a mut [Level],
    bundles: &'a mut Option<Bundles>,
) -> impl Iterator<Item = &'a mut Grown> {
    let bundles = bundles.iter_mut().flat_map(|b| [&mut b.entries, &mut b.starts]);
    levels.iter_mut().map(|level| &mut level.file).chain(bundles)
}

impl Grown {
    fn new(name: &str, file: Option<Arc<dyn DiskFile>>, end: u64) -> Self {
        Self { name: name.to_owned(), file, end, unwritten: Vec::new(), unsynced: false }
    }

    fn write(&mut self, place: &Place, names: &mut bool) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => {
                let path = place.path(&self.name);
                *names = true;
                let file = match place.disk.open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        // Readable by all, as `create` makes no file.
                        place.disk.replace(&path, b"", false)?;
                        place.disk.open(&path)?
                    }
                    opened => opened?,
                };
                self.file.insert(file.into())
            }
        };
        file.write_at(self.end, &self.unwritten)?;
        self.end += self.unwritten.len() as u64;
        self.unwritten.clear();
        self.unsynced = true;
        Ok(())
    }
}

impl Unsynced {
    /// Makes it durable. After an error nothing is known of the files.
    pub(super) fn sync(self, place: &Place) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())?;
        if self.names { place.disk.sync_dir(&place.dir) } else { Ok(()) }
    }
}
