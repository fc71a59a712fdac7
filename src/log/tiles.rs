//! The published form of the tree (C2SP tlog-tiles), grown beside the log; `tlog::tile` says what its files are.
//!
//! All of it is derived. Hashes are written before a checkpoint that covers them is published, and made durable
//! before the index states a point that lies behind them: replay from that point writes again what a crash lost or
//! tore, and nothing else need be written again. So a checkpoint costs one small write, and no sync.
//!
//! Where the files do not lead to the tree at the point (a new directory, a restored backup, entries that shall be
//! published only now), they are written anew from the log's beginning while the log is in use. Until then there are
//! none: whoever serves them holds each against the checkpoint first, and says that they are away.

mod files;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::index::Point;
use super::recover::{self, OpenError};
use super::segment::FRAME_HEADER;
use super::tree::{Hash, RightEdge, leaf_hash};
use crate::env::Disk;
use crate::tlog::tile::{DIRECTORY, Tile, TiledTree, Tiles};

use files::{Files, Place};

/// The files that grow with the log.
pub(super) struct Published {
    place: Place,
    /// Whether entries are published too.
    entries: bool,
    /// Leaves that the writer has made durable: hash and, for entries, octets.
    incoming: Mutex<Vec<(Hash, Option<Vec<u8>>)>>,
    state: Mutex<State>,
    /// A sync failed: nothing more is written.
    failed: OnceLock<String>,
}

enum State {
    Growing(Box<Files>),
    /// The files are written anew; so many leaves are in the tree meanwhile.
    Behind(u64),
}

impl Published {
    /// Files below `public`; nothing is written before `begin`.
    pub(super) fn new(disk: Arc<dyn Disk>, public: &Path, entries: bool) -> io::Result<Self> {
        let dir = public.join(DIRECTORY);
        if disk.list(&dir).is_err() {
            disk.create_public_dir(&dir)?;
            disk.sync_dir(public)?;
        }
        Ok(Self {
            place: Place { disk, dir, suffix: "" },
            entries,
            incoming: Mutex::default(),
            state: Mutex::new(State::Behind(0)),
            failed: OnceLock::new(),
        })
    }

    /// From here on the leaves behind `edge` are pushed. What the files have beyond it is written again.
    pub(super) fn begin(&self, edge: &RightEdge) {
        let files = match Files::resume(&self.place, edge, self.entries) {
            Ok(Some(files)) => Some(files),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, dir = %self.place.dir.display(), "the log's tiles cannot be read");
                None
            }
        };
        lock(&self.incoming).clear();
        *lock(&self.state) = match files {
            Some(files) => State::Growing(Box::new(files)),
            None => State::Behind(edge.size()),
        };
    }

    /// The next leaf, durable in the log. Only takes note of it.
    pub(super) fn push(&self, hash: Hash, entry: &[u8]) {
        let entry = self.entries.then(|| entry.to_vec());
        lock(&self.incoming).push((hash, entry));
    }

    /// Writes what was pushed. After an error it is tried again the next time.
    pub(super) fn write(&self) -> io::Result<()> {
        if let Some(why) = self.failed.get() {
            return Err(io::Error::other(why.clone()));
        }
        self.drain(&mut lock(&self.state))
    }

    /// Cuts off what older files have beyond the tree.
    pub(super) fn cut(&self) -> io::Result<()> {
        match &mut *lock(&self.state) {
            State::Growing(files) => files.cut(),
            State::Behind(_) => Ok(()),
        }
    }

    /// Makes everything durable that was pushed before. While the files are written anew there is nothing to do.
    pub(super) fn settle(&self) -> Result<(), String> {
        self.write().map_err(|error| error.to_string())?;
        let unsynced = match &mut *lock(&self.state) {
            State::Growing(files) => files.unsynced(),
            State::Behind(_) => return Ok(()),
        };
        // Not under the lock: the writer and the checkpoints go on.
        unsynced.sync(&self.place).map_err(|error| {
            let why = format!(
                "CHY-LOG-IO: making the log's tiles durable failed in {}: {error}; what is on the disk is \
                 unknown. The process ends, and they are written again at the next start; check the disk",
                self.place.dir.display()
            );
            self.failed.get_or_init(|| why).clone()
        })
    }

    /// Why a sync failed, if one did: the operator's text. The process must end.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Whether the files must be written anew.
    pub(super) fn is_behind(&self) -> bool {
        matches!(*lock(&self.state), State::Behind(_))
    }

    /// The tree over the first `size` leaves, of which a checkpoint has been published.
    pub(super) fn tree(&self, size: u64) -> TiledTree<impl Tiles> {
        TiledTree::new(|tile: &Tile| self.place.read(tile), size)
    }

    /// Writes the files anew from the log in `log`, until they have everything that was pushed. `Ok(false)`: `go_on`
    /// said no.
    pub(super) fn rewrite(&self, log: &Path, go_on: &dyn Fn() -> bool) -> Result<bool, String> {
        let mut rebuild =
            Rebuild::begin_in(&self.place, self.entries).map_err(|e| e.to_string())?;
        let mut reached = Point::default();
        loop {
            let target = self.pushed(&lock(&self.state));
            if !rebuild.follow(log, &mut reached, target, go_on)? {
                return Ok(false);
            }
            rebuild.settle().map_err(|e| e.to_string())?;
            // What has come meanwhile is little: the rest is done while nobody can push more.
            let mut state = lock(&self.state);
            let target = self.pushed(&state);
            if target - reached.edge.size() > LITTLE {
                continue;
            }
            if !rebuild.follow(log, &mut reached, target, go_on)? {
                return Ok(false);
            }
            let mut files = rebuild.finish().map_err(|e| e.to_string())?;
            let State::Behind(drained) = *state else { return Ok(true) };
            let mut incoming = lock(&self.incoming);
            let read = usize::try_from(target - drained).unwrap_or(usize::MAX);
            for (hash, entry) in incoming.drain(..).skip(read) {
                files.push(hash, entry.as_deref());
            }
            *state = State::Growing(Box::new(files));
            return Ok(true);
        }
    }

    /// Leaves pushed so far, while the files are written anew.
    fn pushed(&self, state: &State) -> u64 {
        let State::Behind(size) = state else { return 0 };
        size + lock(&self.incoming).len() as u64
    }

    fn drain(&self, state: &mut State) -> io::Result<()> {
        let incoming = std::mem::take(&mut *lock(&self.incoming));
        match state {
            State::Behind(size) => *size += incoming.len() as u64,
            State::Growing(files) => {
                for (hash, entry) in incoming {
                    files.push(hash, entry.as_deref());
                }
                files.write()?;
            }
        }
        Ok(())
    }
}

/// The files written anew from the log's beginning, beside the old ones, whose place they take at the end.
pub struct Rebuild(Files);

impl Rebuild {
    /// Removes what there is below `public`. The caller holds the log's lock.
    pub fn begin(disk: Arc<dyn Disk>, public: &Path, entries: bool) -> io::Result<Self> {
        let place = Published::new(disk, public, entries)?.place;
        Self::begin_in(&place, entries)
    }

    fn begin_in(place: &Place, entries: bool) -> io::Result<Self> {
        for name in place.disk.list(&place.dir)? {
            place.disk.remove(&place.dir.join(name))?;
        }
        place.disk.sync_dir(&place.dir)?;
        let place = Place { suffix: NEW, ..place.clone() };
        Ok(Self(Files::empty(&place, entries)))
    }

    /// The next record's stored octets.
    pub fn push(&mut self, entry: &[u8]) -> io::Result<()> {
        self.0.push(leaf_hash(entry), Some(entry));
        if self.0.pending() > PIECE { self.0.write() } else { Ok(()) }
    }

    /// Makes the new files durable and gives them their names.
    pub fn close(self) -> io::Result<()> {
        self.finish().map(drop)
    }

    fn finish(mut self) -> io::Result<Files> {
        self.settle()?;
        self.0.take_names()?;
        Ok(self.0)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.0.write()?;
        let place = self.0.place().clone();
        self.0.unsynced().sync(&place)
    }

    /// Pushes the records from `reached` to the one before leaf `target`. `Ok(false)`: `go_on` said no.
    fn follow(
        &mut self,
        log: &Path,
        reached: &mut Point,
        target: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool, String> {
        if reached.edge.size() >= target {
            return Ok(true);
        }
        let disk = Arc::clone(&self.0.place().disk);
        let segments = recover::segments(&*disk, log, None).map_err(|e| e.to_string())?;
        let (mut failed, mut stopped) = (None, false);
        let from = std::mem::take(reached);
        let walked =
            recover::walk(&*disk, log, &segments, from, &mut |leaf, offset, payload, edge| {
                failed = self.push(payload).err();
                stopped = leaf.0.is_multiple_of(1024) && !go_on();
                if leaf.0 + 1 < target && failed.is_none() && !stopped {
                    return Ok(());
                }
                let offset = offset + (FRAME_HEADER + payload.len()) as u64;
                *reached = Point { offset, edge: edge.clone() };
                // Further on the writer may be at work.
                Err(OpenError::Retry(String::new()))
            });
        match (failed, walked) {
            (Some(error), _) => Err(error.to_string()),
            _ if reached.edge.size() == target => Ok(true),
            _ if stopped => Ok(false),
            (None, Ok(_)) => Err("the log ends before its tree does".into()),
            (None, Err(error)) => Err(error.to_string()),
        }
    }
}

/// New files have this behind their names until they are complete and durable.
const NEW: &str = ".new";
/// Leaves that are read while the checkpoints wait.
const LITTLE: u64 = 4096;
/// Octets that are gathered before they are written.
const PIECE: usize = 1 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
