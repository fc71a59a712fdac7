//! From a directory to a running log: lock, recover, check against what was signed, start.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use super::cycle::{NEW, RESERVE, Writer, make_reserve, seal};
use super::publish::{self, CHECKPOINT};
use super::{Found, Handle, Log, Mailbox, Queue, Release, Shared, Sizes};
use crate::env::{Clock, Disk, DiskFile};
use crate::id::LeafIndex;
use crate::log::Settings;
use crate::log::checkpoint::{BadCheckpoint, Checkpoint};
use crate::log::index::{self, Filling, Index, Point, ReadTbs, end_of};
use crate::log::keys::LogKeys;
use crate::log::note::{MAX_NOTE, NoteSigner};
use crate::log::record::{CeremonyV1, Record};
use crate::log::recover::{self, OpenError, Segment, Tail, absent, busy, unreadable};
use crate::log::segment::{Frames, HEADER, Header, file_name, origin_hash};
use crate::log::shelf::Shelf;
use crate::log::tiles::Published;
use crate::log::tree::{Hash, RightEdge, TreeHead, leaf_hash};
use crate::state::Format;

/// What a log is opened with.
pub struct Opening {
    pub disk: Arc<dyn Disk>,
    /// The log's own directory: segments, index, lock. Private.
    pub dir: PathBuf,
    /// Where the checkpoint is published. For everyone.
    pub public: PathBuf,
    pub settings: Settings,
    /// No record of a newer one is appended.
    pub format: Format,
    /// The key's signer, and during a cross-over those of both. Every key's name is the log's origin; which of them
    /// signs what, the log's leaves say.
    pub signers: Vec<Arc<dyn NoteSigner>>,
    pub clock: Arc<dyn Clock>,
    /// Reads what the index says of certificates; the same at every opening.
    pub read_tbs: ReadTbs,
    /// Called once, on a thread of the log, when the state of the disk or of the log key is unknown.
    /// Everyone who waits has been answered `Halt`. The process should end: nothing more is appended.
    pub on_halt: Box<dyn Fn(&str) + Send + Sync>,
}

impl Log {
    /// Opens this CA's log, recovers it and starts its threads. Never signs what contradicts a
    /// checkpoint it finds; signs the recovered head at once if it is newer than the published one.
    pub fn open(opening: Opening) -> Result<Self, OpenError> {
        let sizes = Sizes::of(&opening.settings);
        start(opening, sizes, None)
    }

    /// Makes a new log whose first record is the ceremony's, durable when this returns. Refuses if the
    /// directory holds a record; finishes what a creation cut short has begun.
    pub fn create(opening: Opening, ceremony: CeremonyV1) -> Result<Self, OpenError> {
        let sizes = Sizes::of(&opening.settings);
        start(opening, sizes, Some(ceremony))
    }
}

impl Sizes {
    fn of(settings: &Settings) -> Self {
        Self {
            segment: settings.segment_mib.clamp(1, 1024) << 20,
            reserve: settings.reserve_mib.clamp(1, 1024) << 20,
            queue: settings.queue.max(1),
            index: 8192,
        }
    }
}

pub(super) fn start(
    opening: Opening,
    sizes: Sizes,
    ceremony: Option<CeremonyV1>,
) -> Result<Log, OpenError> {
    let Opening { disk, dir, public, settings, format, signers, clock, read_tbs, on_halt } =
        opening;
    let Some(first) = signers.first() else {
        return Err(OpenError::Refuse("CHY-INTERNAL: no key signs for the log".into()));
    };
    let first = first.verifier_key().clone();
    let name = first.name().to_owned();
    let origin = origin_hash(&name);
    if ceremony.is_some() {
        disk.create_dir(&dir).map_err(|e| unreadable(&dir, &e))?;
    } else if let Err(error) = disk.list(&dir) {
        return Err(match error.kind() {
            io::ErrorKind::NotFound => absent(&dir),
            _ => unreadable(&dir, &error),
        });
    }
    if let Some(parent) = public.parent().filter(|_| disk.list(&public).is_err()) {
        disk.create_public_dir(&public)
            .and_then(|()| disk.sync_dir(parent))
            .map_err(|e| unreadable(&public, &e))?;
    }
    let guard = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => busy(&dir),
        _ => unreadable(&dir, &error),
    })?;
    let mut segments = tidy(&*disk, &dir, &origin)?;
    match &ceremony {
        None if segments.is_empty() => return Err(absent(&dir)),
        None => {}
        Some(_) if segments.is_empty() => {
            segments.push(first_segment(&*disk, &dir, &origin, sizes.segment)?);
        }
        Some(_) => {
            let walked =
                recover::walk(&*disk, &dir, &segments, Point::default(), &mut |_, _, _, _| Ok(()))?;
            // A creation cut short may have left part of the first frame.
            if walked.edge.size() > 0 {
                return Err(OpenError::Refuse(format!(
                    "CHY-LOG-EXISTS: {} holds a log already; a ceremony never replaces one",
                    dir.display()
                )));
            }
        }
    }
    let known = known_checkpoints(&*disk, &dir, &public, &signers)?;
    let named = segments.iter().map(|s| (s.header.base, s.name.clone())).collect();
    let shelf = Arc::new(Shelf::new(Arc::clone(&disk), dir.clone(), named));
    let (index, notice) = Index::open(Arc::clone(&shelf), origin, read_tbs)
        .map_err(|why| index_broken(&dir, &why))?;
    if let (Some(why), None) = (notice, &ceremony) {
        tracing::warn!(%why, "the log's index is built again from the log");
    }
    let tiles = Published::new(Arc::clone(&disk), &public, settings.entries)
        .map_err(|e| unreadable(&public, &e))?;
    let derived = Derived { index: &index, tiles: &tiles };
    let tail = replay(&*disk, &dir, &segments, &derived, &known)?;
    let last = segments.last().ok_or_else(|| absent(&dir))?.clone();
    let file = settle(&*disk, &dir, &last, &tail)?;
    if tail.end > last.header.base {
        for segment in segments.iter().filter(|segment| segment.name != last.name) {
            seal(&*disk, &dir, &segment.name);
        }
    }

    let head = tail.edge.head();
    let published = known.get(CheckpointPlace::Public).is_some_and(|c| c.0.head == head);
    let text = known.get(CheckpointPlace::Public).map_or("", |c| c.1.as_str());
    let begun = LogKeys::begin(&name, first.spki())
        .map_err(|why| OpenError::Refuse(format!("CHY-INTERNAL: the log key: {why}")))?;
    let shared = Arc::new(Shared {
        disk,
        dir,
        public,
        format: AtomicU32::new(format.0),
        signers,
        keys: Mutex::new(begun),
        clock,
        on_halt,
        sizes,
        found: Found { size: head.size, torn: tail.torn.is_some() },
        index,
        tiles,
        queue: Mutex::new(Queue::default()),
        queued: Condvar::new(),
        head: Mutex::new(head),
        checkpoint: Mutex::new(text.into()),
        mailbox: Mutex::new(Mailbox {
            head: (!published && head.size > 0).then_some(head),
            ..Mailbox::default()
        }),
        posted: Condvar::new(),
        index_closed: Mutex::new(false),
        index_due: Condvar::new(),
        shelf,
        octets: AtomicU64::new(tail.end),
        syncs: Mutex::default(),
        checkpointed: Mutex::new(None),
        full: AtomicBool::new(false),
        crowded: AtomicBool::new(false),
        halted: OnceLock::new(),
        told: AtomicBool::new(false),
        _lock: guard,
    });
    if shared.disk.open(&shared.dir.join(RESERVE)).is_err()
        && !make_reserve(&shared).map_err(|e| unreadable(&shared.dir, &e))?
    {
        tracing::warn!(
            "CHY-LOG-FULL: no room for the log's reserve; only revocations and CRLs are logged"
        );
    }
    if ceremony.is_none() {
        let keys = super::keys::read(&shared, &name)?;
        *super::lock(&shared.keys) = keys;
    }
    let writer = Writer {
        shared: Arc::clone(&shared),
        origin,
        file,
        segment: last.header,
        octets: last.octets,
        end: tail.end,
        durable: tail.end,
        edge: tail.edge,
        unsealed: Vec::new(),
        refused: None,
    };
    let log = launch(shared, writer)?;
    if let Some(ceremony) = ceremony {
        if ceremony.origin != name {
            return Err(OpenError::Refuse(format!(
                "CHY-LOG-FOREIGN: the ceremony is for the log {}, the log key for {name}",
                ceremony.origin
            )));
        }
        log.append_wait(Record::CeremonyV1(ceremony), Release::Durable).map_err(|e| {
            OpenError::Halt(format!("CHY-LOG-IO: the first record cannot be written: {e:?}"))
        })?;
    }
    tracing::info!(size = log.head().size, origin = %name, "the log is open");
    Ok(log)
}

/// Removes what a stopped process left half made, and reads the segments' headers.
fn tidy(disk: &dyn Disk, dir: &Path, origin: &Hash) -> Result<Vec<Segment>, OpenError> {
    let remove = |name: &str| disk.remove(&dir.join(name)).map_err(|e| unreadable(dir, &e));
    for name in disk.list(dir).map_err(|e| unreadable(dir, &e))? {
        if name == NEW || name == index::NEW || (name.starts_with('.') && name.ends_with(".tmp")) {
            remove(&name)?;
        }
    }
    let mut segments = recover::segments(disk, dir, Some(origin))?;
    // A last segment without a frame: whether its name and header are durable is not known if the
    // process that made it died of a failed sync. Nobody needs it; it is made again.
    if let Some(last) = segments.last() {
        let path = dir.join(&last.name);
        let file = disk.open_read(&path).map_err(|e| unreadable(&path, &e))?;
        if is_zero(&*file, HEADER).map_err(|e| unreadable(&path, &e))? {
            remove(&last.name)?;
            segments.pop();
        }
    }
    disk.sync_dir(dir).map_err(|e| unreadable(dir, &e))?;
    Ok(segments)
}

fn is_zero(file: &dyn DiskFile, from: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let mut at = from;
    loop {
        let read = file.read_at(at, &mut buffer)?;
        if read == 0 {
            return Ok(true);
        }
        if buffer[..read].iter().any(|octet| *octet != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
}

fn first_segment(
    disk: &dyn Disk,
    dir: &Path,
    origin: &Hash,
    octets: u64,
) -> Result<Segment, OpenError> {
    let header = Header { first_leaf: 0, base: 0, origin: *origin };
    let name = file_name(0);
    let made = disk.create(&dir.join(NEW), octets).and_then(|file| {
        file.write_at(0, &header.encode())?;
        file.sync_data()?;
        disk.rename(&dir.join(NEW), &dir.join(&name))?;
        disk.sync_dir(dir)?;
        dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
    });
    match made {
        Ok(()) => Ok(Segment { name, header, octets }),
        Err(error) if crate::env::disk::is_full(&error) => Err(OpenError::Retry(format!(
            "CHY-LOG-FULL: no room for {octets} octets in {}",
            dir.display()
        ))),
        Err(error) => Err(unreadable(dir, &error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum CheckpointPlace {
    Public,
    Beside,
}

/// Checkpoints that the log's key signed, with their note.
struct Known(BTreeMap<CheckpointPlace, (Checkpoint, String)>);

impl Known {
    fn get(&self, place: CheckpointPlace) -> Option<&(Checkpoint, String)> {
        self.0.get(&place)
    }

    fn heads(&self) -> impl Iterator<Item = &TreeHead> {
        self.0.values().map(|(checkpoint, _)| &checkpoint.head)
    }
}

fn known_checkpoints(
    disk: &dyn Disk,
    dir: &Path,
    public: &Path,
    signers: &[Arc<dyn NoteSigner>],
) -> Result<Known, OpenError> {
    let mut known = BTreeMap::new();
    for (place, dir) in [(CheckpointPlace::Public, public), (CheckpointPlace::Beside, dir)] {
        let path = dir.join(CHECKPOINT);
        let note = match disk.read(&path, MAX_NOTE as u64) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let mut opened = Err(BadCheckpoint::Signature);
        for signer in signers {
            opened = Checkpoint::open(&note, signer.verifier_key());
            if opened.is_ok() {
                break;
            }
        }
        match opened {
            Ok(checkpoint) => {
                known.insert(place, (checkpoint, String::from_utf8_lossy(&note).into_owned()));
            }
            Err(BadCheckpoint::Origin(origin)) => {
                return Err(OpenError::Refuse(format!(
                    "CHY-LOG-FOREIGN: {} is a checkpoint of the log {origin}, not of {}; \
                     point the state directory at this CA's files",
                    path.display(),
                    signers.first().map_or("", |signer| signer.verifier_key().name())
                )));
            }
            // It binds nobody: this log did not sign it. It is replaced by the next one.
            Err(why) => tracing::warn!(path = %path.display(), %why, "a checkpoint is not used"),
        }
    }
    Ok(Known(known))
}

/// What the log's records are replayed into.
struct Derived<'a> {
    index: &'a Index,
    tiles: &'a Published,
}

/// Walks the log from a point of the index, or from its beginning, and brings the index up to date. The
/// tree must agree with every known checkpoint. The newest point is never the start: the records of
/// the last seconds are always read again. Older damage is for `audit::verify` to find.
fn replay(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    derived: &Derived<'_>,
    known: &Known,
) -> Result<Tail, OpenError> {
    let index = derived.index;
    let points = index.points().map_err(|why| index_broken(dir, &why))?;
    let reached = points.last().map_or(0, |point| point.edge.size());
    let oldest = known.heads().map(|head| head.size).min().unwrap_or(u64::MAX);
    let older = points.into_iter().rev().skip(1);
    let start = older.into_iter().find(|point| point.edge.size() <= oldest).unwrap_or_default();
    if start.offset > 0 && !leads_to(disk, dir, segments, index, &start) {
        tracing::warn!("the log does not reach where its index begins; the index is built again");
    } else if start.offset > 0 {
        match pass(disk, dir, segments, derived, known, start) {
            Ok(tail) if tail.edge.size() >= reached => return Ok(tail),
            Ok(_) => tracing::warn!("the log's index is ahead of the log and is built again"),
            // Whether log or index is wrong shows when the whole log is read.
            Err(why) => {
                tracing::warn!(%why, "the log and its index disagree; the index is built again")
            }
        }
    }
    if reached > 0 {
        index.clear().map_err(|why| index_broken(dir, &why))?;
    }
    pass(disk, dir, segments, derived, known, Point::default())
}

/// Whether a good frame ends at the point: a log that was put back to an older state has none there.
fn leads_to(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    index: &Index,
    point: &Point,
) -> bool {
    let Some(last) = point.edge.size().checked_sub(1) else { return true };
    let Ok(Some(offset)) = index.offset(LeafIndex(last)) else { return false };
    let after = segments.partition_point(|s| s.header.base <= offset);
    let Some(segment) = after.checked_sub(1).map(|n| &segments[n]) else { return false };
    let Ok(file) = disk.open_read(&dir.join(&segment.name)) else { return false };
    let mut frames = Frames::new(&*file, HEADER + (offset - segment.header.base));
    matches!(frames.advance(), Ok(Ok(frame)) if offset + frame.octets() as u64 == point.offset)
}

/// Records that are read in no time.
const MANY: u64 = 100_000;

fn pass(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    derived: &Derived<'_>,
    known: &Known,
    start: Point,
) -> Result<Tail, OpenError> {
    let Derived { index, tiles } = *derived;
    // Two at most, perhaps of one size.
    let agrees = |edge: &RightEdge| {
        let mut stated = known.heads().filter(|head| head.size == edge.size());
        if stated.all(|head| *head == edge.head()) { Ok(()) } else { Err(forked(dir, edge.size())) }
    };
    agrees(&start.edge)?;
    tiles.begin(&start.edge);
    let settle = || tiles.settle();
    let mut filling = Filling::new(index, &settle);
    let of = end_of(segments);
    // Said at each tenth of a log that is read whole.
    let mut next = if start.offset == 0 { of / 10 } else { u64::MAX };
    let tail = recover::walk(disk, dir, segments, start, &mut |leaf, offset, payload, edge| {
        agrees(edge)?;
        let record = Record::decode(payload).map_err(|why| recover::later(dir, leaf, &why))?;
        if offset >= next && leaf.0 > MANY {
            tracing::info!(%leaf, percent = offset * 100 / of.max(1), "the log is read for its index");
            next = offset + of / 10;
        }
        tiles.push(leaf_hash(payload), payload);
        if leaf.0 % 4096 == 0
            && let Err(error) = tiles.write()
        {
            tracing::warn!(%error, "CHY-LOG-TILES: the log's tiles cannot be written");
        }
        if let Err(error) = filling.take(leaf, offset, payload.len(), record, edge) {
            tracing::warn!(%error, "the log's index cannot be written; it stays in memory");
        }
        Ok(())
    })?;
    filling.finish(&tail);
    if let Err(error) = tiles.write().and_then(|()| tiles.cut()) {
        tracing::warn!(%error, "CHY-LOG-TILES: the log's tiles cannot be written");
    }
    if let Some(why) = tiles.failed() {
        return Err(OpenError::Halt(why.to_owned()));
    }
    match known.heads().map(|head| head.size).max() {
        Some(size) if size > tail.edge.size() => Err(missing(dir, tail.edge.size(), size)),
        _ => Ok(tail),
    }
}

/// Cuts the torn tail and makes sure that what was read is on the disk, not only in its cache.
fn settle(
    disk: &dyn Disk,
    dir: &Path,
    last: &Segment,
    tail: &Tail,
) -> Result<Box<dyn DiskFile>, OpenError> {
    let path = dir.join(&last.name);
    let base = last.header.base;
    let end = HEADER + (tail.end - base);
    let unsure = HEADER + tail.stated.saturating_sub(base).min(tail.end - base);
    if let Some(bad) = &tail.torn {
        tracing::warn!(segment = %last.name, octet = end, why = %bad, "the log's torn tail is cut");
    }
    disk.open(&path)
        .and_then(|file| {
            recover::write_again(&*file, unsure, end)?;
            recover::cut(&*file, end)?;
            Ok(file)
        })
        .map_err(|e| unreadable(&path, &e))
}

fn launch(shared: Arc<Shared>, writer: Writer) -> Result<Log, OpenError> {
    let failed = |error: io::Error| OpenError::Halt(format!("CHY-LOG-IO: no thread: {error}"));
    type Body = Box<dyn FnOnce(&Arc<Shared>) + Send>;
    let spawn = |name: &str, body: Body| {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().name(name.into()).spawn(move || shared.run(body))
    };
    let mut handle = Handle { shared: Arc::clone(&shared), threads: Vec::new() };
    if shared.tiles.is_behind() {
        handle
            .threads
            .push(spawn("log-tiles", Box::new(|shared| publish::tiles(shared))).map_err(failed)?);
    }
    // The writer last: its end is what ends the others.
    handle
        .threads
        .push(spawn("log-index", Box::new(|shared| publish::index(shared))).map_err(failed)?);
    handle.threads.push(spawn("log-checkpoint", Box::new(publish::checkpoints)).map_err(failed)?);
    handle.threads.push(spawn("log-writer", Box::new(|_| writer.run())).map_err(failed)?);
    Ok(Log { handle: Arc::new(handle) })
}

fn missing(dir: &Path, found: u64, signed: u64) -> OpenError {
    OpenError::Halt(format!(
        "CHY-LOG-DAMAGED: the log in {} ends after {found} records, but a checkpoint over {signed} was \
         signed; nothing is signed. Keep the directory as it is, check the disk, and restore the log \
         from a copy",
        dir.display()
    ))
}

fn forked(dir: &Path, size: u64) -> OpenError {
    OpenError::Halt(format!(
        "CHY-LOG-FORKED: the first {size} records of the log in {} are not those that were signed; \
         nothing is signed. Another copy of this log has been written: find it and restore it",
        dir.display()
    ))
}

pub(super) fn index_broken(dir: &Path, why: &str) -> OpenError {
    OpenError::Retry(format!(
        "CHY-LOG-INDEX: the index in {} can neither be opened nor made anew: {why}; \
         free some space or correct the rights of the directory",
        dir.display()
    ))
}
