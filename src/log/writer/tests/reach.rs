//! How much of a log is read: at start, and to find a day. Counted at the disk seam.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::env::{DiskFile, DiskLock};
use crate::log::reader::Reader;

/// Counts the octets that are read of files whose name ends in `.seg`.
#[derive(Clone)]
struct Counting {
    disk: SimulatedDisk,
    octets: Arc<AtomicU64>,
}

struct CountingFile {
    file: Box<dyn DiskFile>,
    octets: Arc<AtomicU64>,
}

impl Counting {
    fn new(disk: &SimulatedDisk) -> Self {
        Self { disk: disk.clone(), octets: Arc::default() }
    }

    fn take(&self) -> u64 {
        self.octets.swap(0, Ordering::SeqCst)
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        if path.extension().is_some_and(|extension| extension == "seg") {
            Box::new(CountingFile { file, octets: Arc::clone(&self.octets) })
        } else {
            file
        }
    }
}

impl Disk for Counting {
    fn create(&self, path: &Path, length: u64) -> std::io::Result<Box<dyn DiskFile>> {
        self.disk.create(path, length)
    }
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.disk.open(path)?))
    }
    fn open_read(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.disk.open_read(path)?))
    }
    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        self.disk.read(path, limit)
    }
    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
        self.disk.replace(path, bytes, durable)
    }
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn create_public_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.disk.create_public_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.disk.remove(path)
    }
    fn seal(&self, path: &Path) -> std::io::Result<()> {
        self.disk.seal(path)
    }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
    fn free(&self, path: &Path) -> std::io::Result<u64> {
        self.disk.free(path)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(offset, buffer)?;
        self.octets.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.file.set_len(length)
    }
}

const LOG: &str = "/state/issuer/log";
const HOUR: u64 = 3_600_000;

/// Intents an hour apart.
fn hourly(n: u64) -> Record {
    let Record::IntentV1(mut record) = intent(n) else { unreachable!() };
    record.at = Timestamp(10 * HOUR + n * HOUR);
    Record::IntentV1(record)
}

fn append(log: &Log, records: std::ops::Range<u64>) {
    for n in records {
        log.append_wait(hourly(n), Release::Durable).unwrap();
    }
}

fn octets_of(disk: &SimulatedDisk) -> u64 {
    let names = disk.list(LOG.as_ref()).unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".seg"));
    segments.map(|name| disk.open(&Path::new(LOG).join(name)).unwrap().len().unwrap()).sum()
}

#[test]
fn an_instant_is_found_without_reading_what_lies_before() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    append(&log, 0..600);
    drop(log);
    let counting = Counting::new(&disk);
    let reader = Reader::open(Arc::new(counting.clone()), LOG.as_ref()).unwrap();
    let whole = octets_of(&disk);
    for hour in [0, 1, 17, 300, 598, 599, 600, 9_999] {
        counting.take();
        let at = Timestamp(10 * HOUR + hour * HOUR);
        let from = reader.since(at).unwrap();
        assert!(counting.take() < whole / 4, "hour {hour}: the log was read to find it");
        // Leaf 0 is the ceremony's: hour n is leaf n + 1.
        assert!(from.0 <= hour.min(600) + 1, "hour {hour}: {from} is too late");
        assert!(from.0 + 30 > hour.min(600), "hour {hour}: {from} is far too early");
        let mut after = reader.entries(from).map(|entry| entry.unwrap().record.unwrap().at());
        assert_eq!(after.any(|found| found >= at), hour < 600, "hour {hour}");
    }
    assert_eq!(reader.since(Timestamp(0)).unwrap(), LeafIndex(0));
}

/// Who follows a log reads what is new, and not its last segment again and again.
#[test]
fn a_log_is_followed_from_where_it_was_left() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    append(&log, 0..100);
    let counting = Counting::new(&disk);
    let reader = || Reader::open(Arc::new(counting.clone()), LOG.as_ref()).unwrap();
    let whole = reader();
    let mut entries = whole.entries(LeafIndex(0));
    assert_eq!(entries.reached(), None);
    assert_eq!(entries.by_ref().count(), 101);
    let mut place = entries.reached().unwrap();
    assert_eq!(place.0, LeafIndex(101));
    for n in 100..160 {
        append(&log, n..n + 1);
        let reader = reader();
        counting.take();
        let mut entries = reader.entries_at(place.0, place.1);
        let new: Vec<_> = entries.by_ref().map(|entry| entry.unwrap().leaf.0).collect();
        assert_eq!(new, [n + 1]);
        place = entries.reached().unwrap();
        // What is left of that segment, most of it zeros, and perhaps the next one.
        assert!(counting.take() <= 2 * SIZES.segment, "leaf {n}");
        // Nothing new is nothing read twice.
        let mut entries = reader.entries_at(place.0, place.1);
        assert!(entries.next().is_none());
        assert_eq!(entries.reached(), Some(place));
    }
}

/// The index is moved into its file every twenty records here; what is behind the last two such points is read.
#[test]
fn a_start_reads_the_same_however_long_the_log_is() {
    let read_at_start = |records: u64| {
        let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
        // Not by itself: how many records there are by then would be left to chance.
        let sizes = Sizes { index: usize::MAX, ..SIZES };
        let log = start(opening(&disk, &signer), sizes, Some(ceremony(&signer))).unwrap();
        for first in (0..records).step_by(20) {
            append(&log, first..first + 20);
            log.index().flush_after(&|| Ok(())).unwrap();
        }
        drop(log);
        let counting = Counting::new(&disk);
        let opening = Opening { disk: Arc::new(counting.clone()), ..opening(&disk, &signer) };
        let log = start(opening, sizes, None).unwrap();
        assert_eq!(log.head().size, records + 1);
        let headers =
            disk.list(LOG.as_ref()).unwrap().iter().filter(|n| n.ends_with(".seg")).count();
        (counting.take(), headers as u64 * segment::HEADER)
    };
    let (short, headers) = read_at_start(60);
    let (long, more_headers) = read_at_start(1_200);
    assert!(short > headers, "nothing was counted");
    // Of each segment its header, of the last ones their frames: a few segments, wherever the points lie.
    let allowed = 8 * SIZES.segment;
    assert!(long - more_headers < short - headers + allowed, "{short} octets became {long}");
    assert!(long < 1_200 * 100, "a start read {long} octets: all of the log");
}
