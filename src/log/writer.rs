//! The one writer: cycles of append, one `sync_data`, growth, checkpoint, release.
//!
//! Three threads. The *writer* takes what is queued, writes it, makes it durable with one sync, grows
//! the tree, applies the index and answers those who wait for durability; it never waits for a key.
//! The *checkpoint* thread always signs the newest durable head, publishes it, and answers those
//! whose record it covers, while the writer is already in its next cycle. The *index* thread moves
//! the index into its file. No cycle waits for more records: batches form because a cycle takes time.

mod cycle;
mod keys;
mod open;
mod publish;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::index::Index;
use super::keys::LogKeys;
use super::note::NoteSigner;
use super::record::{Record, format_of};
use super::shelf::Shelf;
use super::tiles::Published;
use super::tree::{Hash, TreeHead};
use crate::env::{Clock, Disk, DiskLock, Spread};
use crate::id::{LeafIndex, Timestamp};
use crate::state::Format;

pub use open::Opening;

/// A handle on the writer thread. Cheap to clone. Dropping the last one stops the writer after what
/// was queued.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

/// When `append` answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The record is durable and indexed.
    Durable,
    /// It is also covered by a signed checkpoint that is published.
    Covered,
}

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub leaf: LeafIndex,
}

/// What an opening found in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Records.
    pub size: u64,
    /// Whether behind them lay the remains of an unfinished write, which were cut.
    pub torn: bool,
}

/// How large a log is, and how it has fared in this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Octets of its durable frames.
    pub octets: u64,
    /// Files that it lies in; the last has free room.
    pub segments: u64,
    /// Whether what withdraws trust has room of its own on a full disk.
    pub reserve: bool,
    /// What making records durable took.
    pub syncs: Spread,
    /// When this process signed its newest checkpoint; `None` before the first.
    pub checkpointed: Option<Timestamp>,
    /// Octets of the index's file, 0 where there is none.
    pub index: u64,
    /// Octets free on the log's disk; `None` where it cannot be asked.
    pub free: Option<u64>,
}

/// Why a record was not appended, or whether it was is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Nothing was written: the disk is full but for the reserve, or the queue is. Try later.
    Retry,
    /// The record cannot be a leaf.
    TooLarge(usize),
    /// The state is written in a format that does not know such a record, and nobody has raised it.
    Unknown,
    /// The state of the disk is unknown, or the log closes; the process must end and recover.
    Halt,
}

/// Called once, on a thread of the log, or on the caller's if nothing was queued; must not block, and
/// must not wait for the log.
pub type OnAppended = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

impl Log {
    /// Queues a record; `then` is called when the release point is reached. Records queued by one
    /// thread become leaves in that order.
    pub fn append(&self, record: Record, release: Release, then: OnAppended) {
        let waiter = Waiter::new(then);
        match record.encode() {
            Ok(payload) if !self.knows(&payload) => waiter.answer(Err(AppendError::Unknown)),
            Ok(payload) => self.handle.shared.queue(Item { record, payload, release, waiter }),
            Err(too_large) => waiter.answer(Err(AppendError::TooLarge(too_large.0))),
        }
    }

    /// `append`, waiting for the answer. Not for the log's own threads.
    pub fn append_wait(&self, record: Record, release: Release) -> Result<Appended, AppendError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let then = Box::new(move |answer| drop(sender.send(answer)));
        self.append(record, release, then);
        receiver.recv().unwrap_or(Err(AppendError::Halt))
    }

    /// Takes records of this format too from here on; of those before it already does.
    pub fn raise(&self, format: Format) {
        self.handle.shared.format.fetch_max(format.0, Ordering::SeqCst);
    }

    fn knows(&self, payload: &[u8]) -> bool {
        let own = self.handle.shared.format.load(Ordering::SeqCst);
        format_of(payload).is_some_and(|format| format.0 <= own)
    }

    /// The newest durable head.
    pub fn head(&self) -> TreeHead {
        *lock(&self.handle.shared.head)
    }

    /// What it was opened with.
    pub fn found(&self) -> Found {
        self.handle.shared.found
    }

    /// The newest signed checkpoint, as published; empty before the first.
    pub fn checkpoint(&self) -> Arc<str> {
        lock(&self.handle.shared.checkpoint).clone()
    }

    /// The proof that a leaf is in the tree of a published checkpoint of this size; `None` if it is not (C2SP
    /// tlog-tiles). The text says why the tiles cannot be read.
    pub fn inclusion(&self, leaf: LeafIndex, size: u64) -> Result<Option<Vec<Hash>>, String> {
        let mut tree = self.handle.shared.tiles.tree(size);
        tree.inclusion(leaf.0).map_err(|e| format!("the log's tiles cannot be read: {e}"))
    }

    /// The proof that the tree of a published checkpoint of size `new` continues that of size `old`; `None` if it is
    /// not smaller. The text says why the tiles cannot be read.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, String> {
        let mut tree = self.handle.shared.tiles.tree(new);
        tree.consistency(old).map_err(|e| format!("the log's tiles cannot be read: {e}"))
    }

    /// The head of the tree over the first `size` records. The text says why the tiles cannot be read.
    pub fn tree(&self, size: u64) -> Result<TreeHead, String> {
        let mut tree = self.handle.shared.tiles.tree(size);
        tree.head().map_err(|e| format!("the log's tiles cannot be read: {e}"))
    }

    /// Whether the published tiles reach the checkpoint; else they are being written anew.
    pub fn has_tiles(&self) -> bool {
        !self.handle.shared.tiles.is_behind()
    }

    /// Which keys sign for this log, as far as its durable records say.
    pub fn keys(&self) -> LogKeys {
        lock(&self.handle.shared.keys).clone()
    }

    /// The derived index.
    pub fn index(&self) -> &Index {
        &self.handle.shared.index
    }

    /// Reads one durable record back.
    pub fn read(&self, leaf: LeafIndex) -> Result<Record, String> {
        self.handle.shared.read(leaf)
    }

    /// The stored octets of one durable record.
    pub fn entry(&self, leaf: LeafIndex) -> Result<Vec<u8>, String> {
        self.handle.shared.entry(leaf)
    }

    /// Whether only revocations and CRLs are taken, because the disk is full.
    pub fn is_full(&self) -> bool {
        self.handle.shared.is_full()
    }

    /// How large it is, and how it has fared. Asks the disk.
    pub fn figures(&self) -> Figures {
        let shared = &self.handle.shared;
        let (disk, dir) = (&shared.disk, &shared.dir);
        let index = disk.open_read(&dir.join(super::index::FILE)).and_then(|file| file.len());
        Figures {
            octets: shared.octets.load(Ordering::Relaxed),
            segments: shared.shelf.len(),
            reserve: !shared.full.load(Ordering::Relaxed),
            syncs: *lock(&shared.syncs),
            checkpointed: *lock(&shared.checkpointed),
            index: index.unwrap_or(0),
            free: disk.free(dir).ok(),
        }
    }

    /// Whether the thread that writes comes round within `patience`: not while it waits for a disk that does not answer.
    pub fn turns(&self, patience: Duration) -> bool {
        let (sender, receiver) = mpsc::sync_channel(1);
        lock(&self.handle.shared.queue).callers.push(sender);
        self.handle.shared.queued.notify_one();
        receiver.recv_timeout(patience).is_ok()
    }

    /// Why the log halted, if it did: the operator's text.
    pub fn halted(&self) -> Option<&str> {
        self.handle.shared.halted.get().map(String::as_str)
    }
}

/// The last clone's drop closes the queue and waits for the threads.
struct Handle {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads and the handles share.
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Where the checkpoint is published.
    public: PathBuf,
    /// The number of the newest format of which records are taken.
    format: AtomicU32,
    signers: Vec<Arc<dyn NoteSigner>>,
    /// Which of them sign what; as far as the head that is signed next.
    keys: Mutex<LogKeys>,
    clock: Arc<dyn Clock>,
    on_halt: Box<dyn Fn(&str) + Send + Sync>,
    sizes: Sizes,
    found: Found,
    index: Index,
    tiles: Published,
    queue: Mutex<Queue>,
    queued: Condvar,
    head: Mutex<TreeHead>,
    checkpoint: Mutex<Arc<str>>,
    mailbox: Mutex<Mailbox>,
    posted: Condvar,
    /// Whether the index thread should end.
    index_closed: Mutex<bool>,
    index_due: Condvar,
    shelf: Arc<Shelf>,
    /// Octets of durable frames.
    octets: AtomicU64,
    syncs: Mutex<Spread>,
    /// When the newest checkpoint was signed.
    checkpointed: Mutex<Option<Timestamp>>,
    /// The reserve is in use or missing.
    full: AtomicBool,
    /// There was no room for the next segment.
    crowded: AtomicBool,
    halted: OnceLock<String>,
    /// Whether `on_halt` was called.
    told: AtomicBool,
    /// Held until the last thread has ended.
    _lock: Box<dyn DiskLock>,
}

/// How large things are; from `Settings`, and smaller in tests.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Octets of a segment, and of the reserve.
    segment: u64,
    reserve: u64,
    /// Records waiting at most.
    queue: usize,
    /// Records in memory at which the index moves into its file without waiting for its time.
    index: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Who waits for the writer to come round.
    callers: Vec<mpsc::SyncSender<()>>,
    closed: bool,
}

/// A record on its way.
struct Item {
    record: Record,
    payload: Vec<u8>,
    release: Release,
    waiter: Waiter,
}

/// What the checkpoint thread has to do.
#[derive(Default)]
struct Mailbox {
    head: Option<TreeHead>,
    waiters: Vec<(LeafIndex, Waiter)>,
    closed: bool,
}

/// Someone who waits for one answer. Dropped without one, it answers `Halt`: nobody waits for ever.
struct Waiter(Option<OnAppended>);

impl Waiter {
    fn new(then: OnAppended) -> Self {
        Self(Some(then))
    }

    fn answer(mut self, answer: Result<Appended, AppendError>) {
        if let Some(then) = self.0.take() {
            then(answer);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(AppendError::Halt));
        }
    }
}

impl Shared {
    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed) || self.crowded.load(Ordering::Relaxed)
    }

    fn queue(&self, item: Item) {
        let refusal = {
            let mut queue = lock(&self.queue);
            if queue.closed || self.halted.get().is_some() {
                Some((item, AppendError::Halt))
            } else if queue.items.len() >= self.sizes.queue && !item.record.is_urgent() {
                Some((item, AppendError::Retry))
            } else {
                queue.items.push_back(item);
                None
            }
        };
        // Answered without the lock: the answer may append again.
        match refusal {
            None => self.queued.notify_one(),
            Some((item, why)) => item.waiter.answer(Err(why)),
        }
    }

    fn read(&self, leaf: LeafIndex) -> Result<Record, String> {
        Record::decode(&self.entry(leaf)?).map_err(|e| format!("leaf {leaf}: {e}"))
    }

    fn entry(&self, leaf: LeafIndex) -> Result<Vec<u8>, String> {
        let size = lock(&self.head).size;
        if leaf.0 >= size {
            return Err(format!("the log has {size} records, leaf {leaf} is none of them"));
        }
        self.index.payload(leaf)
    }

    /// From here on nothing is appended or signed; those who wait are answered as their threads end.
    fn halt(&self, why: String) {
        tracing::error!(reason = %why, "the log halts");
        if self.halted.set(why).is_ok() {
            self.queued.notify_all();
            self.posted.notify_all();
            self.index_due.notify_all();
        }
    }

    /// Runs a thread of the log; if it halts or panics, all halt and the owner is told once.
    fn run(self: Arc<Self>, body: impl FnOnce(&Arc<Self>)) {
        if catch_unwind(AssertUnwindSafe(|| body(&self))).is_err() {
            self.halt(
                "CHY-LOG-PANIC: a thread of the log ended unexpectedly; restart, and report it"
                    .into(),
            );
        }
        if let Some(why) = self.halted.get() {
            // Taken first: no answer is given under a lock.
            let items = std::mem::take(&mut lock(&self.queue).items);
            let waiters = std::mem::take(&mut lock(&self.mailbox).waiters);
            drop((items, waiters));
            if !self.told.swap(true, Ordering::Relaxed) {
                (self.on_halt)(why);
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.queued.notify_all();
        let own = std::thread::current().id();
        // The last handle may be dropped by an answer, on a thread that the others wait for.
        if self.threads.iter().all(|thread| thread.thread().id() != own) {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(in crate::log) mod tests;
