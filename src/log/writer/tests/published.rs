//! What is published of the tree: complete, of the checkpoint, and of nothing else.

use super::*;
use crate::log::index::Point;
use crate::log::recover;
use crate::log::tiles::{Published, Rebuild};
use crate::tlog::proof::{verify_consistency, verify_inclusion};
use crate::tlog::tile::{Tile, entries, hashes, read_bundle};

const TILES: &str = "/state/public/tiles";

/// Every tile of the published checkpoint's tree leads to its root, and holds the leaves of the log; so do the
/// entries, if there are any.
pub(super) fn check(disk: &SimulatedDisk, signer: &TestSigner, context: &str) {
    let head = published(disk, signer).head;
    let dir = std::path::Path::new("/state/issuer/log");
    let segments = recover::segments(disk, dir, None).unwrap();
    let mut payloads = Vec::new();
    recover::walk(disk, dir, &segments, Point::default(), &mut |_, _, payload, _| {
        payloads.push(payload.to_vec());
        Ok(())
    })
    .unwrap();
    let tiles = Published::new(Arc::new(disk.clone()), "/state/public".as_ref(), false).unwrap();
    let mut tree = tiles.tree(head.size);
    for level in 0..8 {
        for index in 0..hashes(level, head.size).div_ceil(256) {
            let proven =
                tree.proven(level, index, &head).unwrap_or_else(|e| panic!("{context}: {e}"));
            let proven = proven.unwrap_or_else(|| panic!("{context}: tile {level}/{index}"));
            if level == 0 {
                let leaves = payloads.iter().skip(index as usize * 256).map(|p| leaf_hash(p));
                assert!(
                    proven
                        .into_iter()
                        .eq(leaves.take(256).take(head.size as usize - index as usize * 256)),
                    "{context}"
                );
            }
        }
    }
    let Ok(starts) = disk.read(format!("{TILES}/bundles").as_ref(), 1 << 20) else { return };
    let file = disk.open_read(format!("{TILES}/entries").as_ref()).unwrap();
    for (index, start) in starts.as_chunks().0.iter().enumerate() {
        let width = Tile::width_in(0, index as u64, head.size);
        let bundle = read_bundle(width, u64::from_be_bytes(*start), |at, b| file.read_at(at, b));
        let bundle = bundle.unwrap_or_else(|e| panic!("{context}: bundle {index}: {e}"));
        let expected = payloads.iter().skip(index * 256).take(usize::from(width));
        assert!(entries(&bundle).unwrap().into_iter().eq(expected), "{context}: bundle {index}");
    }
}

/// Appends intents from this number on, all at once, and waits until they are covered.
pub(super) fn fill(log: &Log, from: u64, count: u64) {
    let (sender, receiver) = mpsc::channel();
    for n in from..from + count {
        let sender = sender.clone();
        let then = Box::new(move |answer| drop(sender.send(answer)));
        log.append(intent(n), Release::Covered, then);
    }
    drop(sender);
    assert_eq!(receiver.iter().filter(|answer| answer.is_ok()).count() as u64, count);
}

/// With room for everything at once, and with entries or without.
pub(super) fn wide(
    disk: &SimulatedDisk,
    signer: &Arc<TestSigner>,
    entries: bool,
) -> Result<Log, OpenError> {
    let sizes = Sizes { segment: 1 << 16, queue: 1024, ..SIZES };
    let ceremony = disk.list("/state/issuer/log".as_ref()).is_err().then(|| ceremony(signer));
    let mut opening = opening(disk, signer);
    opening.settings.entries = entries;
    start(opening, sizes, ceremony)
}

fn complete(log: &Log) {
    let waited = (0..400).any(|_| {
        let complete = log.has_tiles();
        if !complete {
            std::thread::park_timeout(Duration::from_millis(25));
        }
        complete
    });
    assert!(waited, "the tiles are never complete");
}

#[test]
fn tiles_and_entries_follow_the_log_across_restarts() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let mut heads = Vec::new();
    for (from, count) in [(0, 100), (100, 155), (255, 1), (256, 300), (556, 1)] {
        let log = wide(&disk, &signer, true).unwrap();
        assert!(log.has_tiles());
        fill(&log, from, count);
        check(&disk, &signer, "in use");
        let head = log.head();
        for (old, size) in heads.iter().map(|old: &TreeHead| (old, old.size)) {
            let proof = log.consistency(size, head.size).unwrap().unwrap();
            assert!(verify_consistency(old, &head, &proof));
        }
        for leaf in [0, 1, from + count] {
            let hash = leaf_hash(&log.entry(LeafIndex(leaf)).unwrap());
            let proof = log.inclusion(LeafIndex(leaf), head.size).unwrap().unwrap();
            assert!(verify_inclusion(&hash, leaf, &head, &proof));
        }
        assert_eq!(log.inclusion(LeafIndex(head.size), head.size).unwrap(), None);
        assert_eq!(log.consistency(head.size + 1, head.size).unwrap(), None);
        heads.push(head);
        drop(log);
        check(&disk, &signer, "closed");
    }
    assert_eq!(disk.list(TILES.as_ref()).unwrap(), ["0", "1", "bundles", "entries"]);
}

#[test]
fn what_is_missing_or_damaged_is_written_anew_while_the_log_is_in_use() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = wide(&disk, &signer, false).unwrap();
    fill(&log, 0, 700);
    drop(log);
    drop(wide(&disk, &signer, false).unwrap());
    let damage: [&dyn Fn(); 4] = [
        &|| {
            for name in disk.list(TILES.as_ref()).unwrap() {
                disk.remove(&std::path::Path::new(TILES).join(name)).unwrap();
            }
        },
        &|| disk.remove(format!("{TILES}/1").as_ref()).unwrap(),
        &|| disk.open(format!("{TILES}/0").as_ref()).unwrap().set_len(513 * 32).unwrap(),
        &|| {
            let file = disk.open(format!("{TILES}/0").as_ref()).unwrap();
            file.write_at(600 * 32, &[0; 32]).unwrap();
        },
    ];
    for (n, damage) in damage.into_iter().enumerate() {
        damage();
        let log = wide(&disk, &signer, false).unwrap();
        fill(&log, 700 + 10 * n as u64, 10);
        complete(&log);
        fill(&log, 705 + 10 * n as u64, 5);
        check(&disk, &signer, &format!("damage {n}"));
    }
    // Entries come when they are wanted, and go when they are not.
    let names = || disk.list(TILES.as_ref()).unwrap();
    let log = wide(&disk, &signer, true).unwrap();
    complete(&log);
    assert_eq!(names(), ["0", "1", "bundles", "entries"]);
    check(&disk, &signer, "entries");
    drop(log);
    assert!(wide(&disk, &signer, true).unwrap().has_tiles());
    drop(wide(&disk, &signer, false).unwrap());
    assert_eq!(names(), ["0", "1"]);
    check(&disk, &signer, "no entries");
}

#[test]
fn an_operator_can_have_them_written_anew() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = wide(&disk, &signer, true).unwrap();
    fill(&log, 0, 300);
    let payloads: Vec<_> = (0..301).map(|n| log.entry(LeafIndex(n)).unwrap()).collect();
    drop(log);
    let whole = |name: &str| disk.read(format!("{TILES}/{name}").as_ref(), 1 << 20).unwrap();
    let before = ["0", "1", "entries", "bundles"].map(whole);
    disk.open(format!("{TILES}/0").as_ref()).unwrap().write_at(0, &[0; 4096]).unwrap();
    let mut rebuild =
        Rebuild::begin(Arc::new(disk.clone()), "/state/public".as_ref(), true).unwrap();
    payloads.iter().for_each(|payload| rebuild.push(payload).unwrap());
    rebuild.close().unwrap();
    assert_eq!(["0", "1", "entries", "bundles"].map(whole), before);
    assert!(wide(&disk, &signer, true).unwrap().has_tiles());
}

#[test]
fn no_checkpoint_is_published_whose_tiles_cannot_be_written() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    log.append_wait(intent(0), Release::Covered).unwrap();
    let before = published(&disk, &signer);
    // The level's file is away, so that its next write fails.
    disk.limit(Some(0));
    let (sender, receiver) = mpsc::channel();
    log.append(intent(1), Release::Covered, Box::new(move |answer| drop(sender.send(answer))));
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err());
    assert_eq!(published(&disk, &signer), before);
    disk.limit(None);
    assert!(receiver.recv_timeout(Duration::from_secs(20)).unwrap().is_ok());
    drop(log);
    check(&disk, &signer, "after the disk was full");
}
