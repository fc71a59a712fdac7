//! The writer thread: rooms for frames, cycles, the reserve.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{AppendError, Appended, Item, Release, Shared, Waiter, lock};
use crate::env::{Disk, DiskFile, disk::is_full};
use crate::id::LeafIndex;
use crate::log::index::Point;
use crate::log::record::Record;
use crate::log::segment::{FRAME_HEADER, HEADER, Header, file_name, push_frame};
use crate::log::tree::{Hash, RightEdge, leaf_hash};

/// Records and octets of one cycle at most; one sync pays for all of them.
const BATCH_RECORDS: usize = 1024;
const BATCH_OCTETS: usize = 1 << 20;
/// With more records than this in memory only, because the index file cannot be written, ordinary ones wait.
const INDEX_BACKLOG: usize = 100_000;
/// How often a full disk is asked for room again.
const RETRY_ROOM: Duration = Duration::from_secs(1);

/// A segment that is being made has this name until its header is durable.
pub(super) const NEW: &str = "segment.new";
/// Preallocated for what withdraws trust.
pub(super) const RESERVE: &str = "reserve";

/// Where the next frame goes. Owned by the writer thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Hash,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) segment: Header,
    /// Length of the present segment's file.
    pub(super) octets: u64,
    /// Log offset of the next frame.
    pub(super) end: u64,
    /// Log offset below which all is durable.
    pub(super) durable: u64,
    pub(super) edge: RightEdge,
    /// Segments before the present one that are not sealed yet.
    pub(super) unsealed: Vec<String>,
    /// When room was last asked for in vain, by the monotonic clock.
    pub(super) refused: Option<Duration>,
}

/// The log halted; the reason is in `Shared::halted`.
#[derive(Debug)]
pub(super) struct Halted;

/// Frames of the present segment that are not written yet.
#[derive(Default)]
struct Unwritten {
    octets: Vec<u8>,
    /// Log offset of the first of them.
    start: u64,
}

/// A record that has its place in this cycle.
struct Placed {
    leaf: LeafIndex,
    offset: u64,
    record: Record,
    payload: Vec<u8>,
    hash: Hash,
    release: Release,
    waiter: Waiter,
}

impl Writer {
    /// Until the queue is closed and empty, or the log halts.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            let done = if batch.is_empty() { self.look_for_room() } else { self.cycle(batch) };
            if done.is_err() {
                return;
            }
        }
        lock(&self.shared.mailbox).closed = true;
        self.shared.posted.notify_all();
    }

    /// What waits, at least one record; none only on a full disk, when it is time to look for room.
    fn next_batch(&self) -> Option<Vec<Item>> {
        let mut queue = lock(&self.shared.queue);
        loop {
            for caller in queue.callers.drain(..) {
                // One that waits no more needs no answer.
                let _ = caller.try_send(());
            }
            if !queue.items.is_empty() {
                break;
            }
            if queue.closed || self.shared.halted.get().is_some() {
                return None;
            }
            if self.shared.is_full() {
                let waited = self.shared.queued.wait_timeout(queue, RETRY_ROOM);
                let (woken, time) = waited.unwrap_or_else(PoisonError::into_inner);
                queue = woken;
                if time.timed_out() && queue.items.is_empty() {
                    return Some(Vec::new());
                }
                continue;
            }
            queue = self.shared.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if self.shared.halted.get().is_some() {
            return None;
        }
        let mut octets = 0;
        let count = queue
            .items
            .iter()
            .take(BATCH_RECORDS)
            .take_while(|item| {
                octets += FRAME_HEADER + item.payload.len();
                octets <= BATCH_OCTETS
            })
            .count();
        Some(queue.items.drain(..count.max(1)).collect())
    }

    /// Write, sync, grow, index, answer, post. Whatever is dropped on the way out answers `Halt`.
    fn cycle(&mut self, batch: Vec<Item>) -> Result<(), Halted> {
        let mut placed: Vec<Placed> = Vec::with_capacity(batch.len());
        let mut unwritten = Unwritten { octets: Vec::new(), start: self.end };
        let mut refused = Vec::new();
        for item in batch {
            let length = (FRAME_HEADER + item.payload.len()) as u64;
            if length > self.shared.sizes.segment.min(self.shared.sizes.reserve) - HEADER {
                item.waiter.answer(Err(AppendError::TooLarge(item.payload.len())));
                continue;
            }
            let leaf = LeafIndex(self.edge.size() + placed.len() as u64);
            if !self.make_room(length, leaf, item.record.is_urgent(), &mut unwritten)? {
                refused.push(item.waiter);
                continue;
            }
            let hash = leaf_hash(&item.payload);
            push_frame(&mut unwritten.octets, self.durable, &item.payload);
            let Item { record, payload, release, waiter } = item;
            placed.push(Placed { leaf, offset: self.end, record, payload, hash, release, waiter });
            self.end += length;
        }
        self.write(&mut unwritten)?;
        self.sync()?;
        self.seal();
        // A refusal is answered after the sync so that an answer that appends again at once cannot
        // keep the writer from its work.
        for waiter in refused {
            waiter.answer(Err(AppendError::Retry));
        }
        if !placed.is_empty() {
            self.release(placed);
        }
        Ok(())
    }

    /// Everything in `placed` is durable: it grows the tree, and then others learn of it.
    fn release(&mut self, placed: Vec<Placed>) {
        let shared = Arc::clone(&self.shared);
        let mut answers = Vec::with_capacity(placed.len());
        let mut records = Vec::with_capacity(placed.len());
        for Placed { leaf, offset, record, payload, hash, release, waiter } in placed {
            self.edge.push(hash);
            shared.tiles.push(hash, &payload);
            // Before the head that covers it can be signed.
            super::keys::turn(&mut lock(&shared.keys), leaf, &record);
            records.push((leaf, offset, record));
            answers.push((leaf, release, waiter));
        }
        shared.index.apply(&records, Point { offset: self.end, edge: self.edge.clone() });
        let head = self.edge.head();
        *lock(&shared.head) = head;
        if shared.index.pending() >= shared.sizes.index {
            shared.index_due.notify_one();
        }
        let mut durable = Vec::new();
        {
            let mut mailbox = lock(&shared.mailbox);
            mailbox.head = Some(head);
            for (leaf, release, waiter) in answers {
                match release {
                    Release::Durable => durable.push((leaf, waiter)),
                    Release::Covered => mailbox.waiters.push((leaf, waiter)),
                }
            }
        }
        shared.posted.notify_all();
        for (leaf, waiter) in durable {
            waiter.answer(Ok(Appended { leaf }));
        }
    }

    /// Makes sure that a frame of `length` octets, which becomes `leaf`, fits behind `end`. `false`: the
    /// disk is full for records of this kind.
    fn make_room(
        &mut self,
        length: u64,
        leaf: LeafIndex,
        urgent: bool,
        unwritten: &mut Unwritten,
    ) -> Result<bool, Halted> {
        let full = self.shared.full.load(Ordering::Relaxed);
        if !urgent && self.shared.index.pending() > INDEX_BACKLOG {
            return Ok(false);
        }
        // Without a reserve, ordinary records wait until there is one again.
        if full && !urgent && !(self.ask_again() && self.make_reserve()?) {
            return Ok(false);
        }
        if HEADER + (self.end - self.segment.base) + length <= self.octets {
            return Ok(true);
        }
        if !urgent && !self.ask_again() {
            return Ok(false);
        }
        // A segment's header states that everything before it is durable.
        self.write(unwritten)?;
        self.sync()?;
        if let Some(file) = self.new_segment_file(self.shared.sizes.segment)? {
            self.begin_segment(file, NEW, leaf)?;
            if self.shared.full.load(Ordering::Relaxed) {
                self.make_reserve()?;
            }
        } else if urgent && !self.shared.full.load(Ordering::Relaxed) {
            let path = self.shared.dir.join(RESERVE);
            match self.shared.disk.open(&path) {
                Ok(file) => self.begin_segment(file, RESERVE, leaf)?,
                Err(error) => {
                    tracing::error!(%error, "the log's reserve cannot be opened");
                    return Ok(false);
                }
            }
            self.shared.full.store(true, Ordering::Relaxed);
            tracing::warn!(%leaf, "the disk is full: the log's reserve is in use");
        } else {
            return Ok(false);
        }
        *unwritten = Unwritten { octets: Vec::new(), start: self.end };
        Ok(true)
    }

    /// Notices that there is room again when no record asks for it.
    fn look_for_room(&mut self) -> Result<(), Halted> {
        let shared = Arc::clone(&self.shared);
        if shared.full.load(Ordering::Relaxed) && !(self.ask_again() && self.make_reserve()?) {
            return Ok(());
        }
        let enough = shared.disk.free(&shared.dir).is_ok_and(|free| free >= shared.sizes.segment);
        if enough && shared.crowded.swap(false, Ordering::Relaxed) {
            self.refused = None;
            tracing::info!("CHY-LOG-FULL is over: there is room for a new segment of the log");
        }
        Ok(())
    }

    /// Whether it is time to look for room again after none was found.
    fn ask_again(&self) -> bool {
        let now = self.shared.clock.monotonic();
        self.refused.is_none_or(|refused| now.saturating_sub(refused) >= RETRY_ROOM)
    }

    /// A preallocated file under the name `NEW`; `None` if the disk has no room for it.
    fn new_segment_file(&mut self, octets: u64) -> Result<Option<Box<dyn DiskFile>>, Halted> {
        let path = self.shared.dir.join(NEW);
        match self.shared.disk.create(&path, octets) {
            Ok(file) => {
                self.refused = None;
                self.shared.crowded.store(false, Ordering::Relaxed);
                Ok(Some(file))
            }
            Err(error) => {
                // Nothing was written that anybody waits for; whatever the reason, it can be tried again.
                self.refused = Some(self.shared.clock.monotonic());
                if is_full(&error) {
                    if !self.shared.crowded.swap(true, Ordering::Relaxed) {
                        tracing::warn!("CHY-LOG-FULL: no room for a new segment of the log");
                    }
                } else {
                    tracing::error!(%error, "CHY-LOG-IO: no new segment of the log can be made");
                    let _ = self.shared.disk.remove(&path);
                }
                Ok(None)
            }
        }
    }

    /// Gives the file named `from` its header, makes that durable, and only then its own name.
    fn begin_segment(
        &mut self,
        file: Box<dyn DiskFile>,
        from: &str,
        leaf: LeafIndex,
    ) -> Result<(), Halted> {
        let shared = Arc::clone(&self.shared);
        let header = Header { first_leaf: leaf.0, base: self.end, origin: self.origin };
        let name = file_name(leaf.0);
        let octets = file
            .write_at(0, &header.encode())
            .and_then(|()| file.sync_data())
            .and_then(|()| shared.disk.rename(&shared.dir.join(from), &shared.dir.join(&name)))
            .and_then(|()| shared.disk.sync_dir(&shared.dir))
            .and_then(|()| file.len())
            .map_err(|error| self.halt("a new segment", &error))?;
        shared.shelf.push(header.base, name);
        self.unsealed.push(file_name(self.segment.first_leaf));
        self.file = file;
        self.segment = header;
        self.octets = octets;
        Ok(())
    }

    /// Takes the right to write from the segments that are complete: from accidents, not from thieves.
    /// A segment is complete when the next one holds a durable record: an empty one is removed at
    /// start, and the one before it then goes on.
    fn seal(&mut self) {
        if self.durable == self.segment.base {
            return;
        }
        for name in self.unsealed.drain(..) {
            seal(&*self.shared.disk, &self.shared.dir, &name);
        }
    }

    /// Preallocates the reserve; `false` if there is no room for it.
    fn make_reserve(&mut self) -> Result<bool, Halted> {
        match make_reserve(&self.shared) {
            Ok(true) => {
                self.refused = None;
                tracing::info!("the log has a reserve again");
                Ok(true)
            }
            Ok(false) => {
                self.refused = Some(self.shared.clock.monotonic());
                Ok(false)
            }
            Err(error) => Err(self.halt("the reserve", &error)),
        }
    }

    fn write(&self, unwritten: &mut Unwritten) -> Result<(), Halted> {
        let octets = std::mem::take(&mut unwritten.octets);
        if octets.is_empty() {
            return Ok(());
        }
        let at = HEADER + (unwritten.start - self.segment.base);
        unwritten.start += octets.len() as u64;
        self.file.write_at(at, &octets).map_err(|error| self.halt("writing", &error))
    }

    fn sync(&mut self) -> Result<(), Halted> {
        if self.durable < self.end {
            let clock = &self.shared.clock;
            let begun = clock.monotonic();
            self.file.sync_data().map_err(|error| self.halt("making records durable", &error))?;
            lock(&self.shared.syncs).observe(clock.monotonic().saturating_sub(begun));
            self.durable = self.end;
            self.shared.octets.store(self.durable, Ordering::Relaxed);
        }
        Ok(())
    }

    fn halt(&self, doing: &str, error: &std::io::Error) -> Halted {
        self.shared.halt(format!(
            "CHY-LOG-IO: {doing} failed in {}: {error}; what is on the disk is unknown. The process \
             ends and the log is read again at the next start; check the disk",
            self.shared.dir.display()
        ));
        Halted
    }
}

/// Seals a segment. That it cannot be done changes nothing of what the log promises.
pub(super) fn seal(disk: &dyn Disk, dir: &Path, name: &str) {
    if let Err(error) = disk.seal(&dir.join(name)) {
        tracing::warn!(%error, segment = name, "a complete segment cannot be sealed");
    }
}

/// Preallocates the reserve if it is missing and notes whether there is one. Errors but a full disk
/// are errors of durability.
pub(super) fn make_reserve(shared: &Shared) -> std::io::Result<bool> {
    let path = shared.dir.join(RESERVE);
    let made = match shared.disk.create(&path, shared.sizes.reserve) {
        Ok(file) => {
            file.sync_data().and_then(|()| shared.disk.sync_dir(&shared.dir)).map(|()| true)?
        }
        Err(error) => {
            if !is_full(&error) {
                tracing::error!(%error, "CHY-LOG-IO: the log's reserve cannot be made");
            }
            false
        }
    };
    shared.full.store(!made, Ordering::Relaxed);
    Ok(made)
}
