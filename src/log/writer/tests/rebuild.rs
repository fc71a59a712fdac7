//! The index built again by the operator: beside the old one, and in its place only when it is whole.

use std::path::Path;

use super::find::{agrees, fill, finding, read_tbs};
use super::*;
use crate::env::simulated::Fault;
use crate::log::Progress;
use crate::log::index::{Published, Rebuilt, rebuild};

const LOG: &str = "/state/issuer/log";
const INDEX: &str = "/state/issuer/log/index.redb";

fn again(disk: &SimulatedDisk, seen: &mut Vec<Progress>) -> Result<Rebuilt, OpenError> {
    let published = Published { public: "/state/public".as_ref(), entries: true };
    let mut step = |progress| seen.push(progress);
    rebuild(Arc::new(disk.clone()), LOG.as_ref(), read_tbs, Some(published), &mut step)
}

/// A log with an index, stopped.
fn stopped(signer: &Arc<TestSigner>, certificates: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let log = start(finding(&disk, signer), SIZES, Some(ceremony(signer))).unwrap();
    fill(&log, 0, certificates);
    drop(log);
    disk
}

#[test]
fn a_new_index_says_what_the_old_one_said() {
    let signer = TestSigner::new(ORIGIN);
    let disk = stopped(&signer, 30);
    // Something else stands there: it is not asked, only replaced.
    disk.open(INDEX.as_ref()).unwrap().write_at(0, &[0xa5; 4096]).unwrap();
    let mut seen = Vec::new();
    let rebuilt = again(&disk, &mut seen).unwrap();
    let first = Progress { leaves: 0, octets: 0, of: seen[0].of };
    let last = *seen.last().unwrap();
    assert_eq!((seen[0], last.leaves), (first, rebuilt.records));
    assert!(last.octets > 5_000 && last.octets <= last.of, "{last:?}");
    assert_eq!(disk.open(INDEX.as_ref()).unwrap().len().unwrap(), rebuilt.octets);
    assert_eq!(disk.list(LOG.as_ref()).unwrap().iter().filter(|n| *n == "index.new").count(), 0);
    // The next start uses it: it is not empty, and not built again.
    let log = start(finding(&disk, &signer), SIZES, None).unwrap();
    assert_eq!(log.head().size, rebuilt.records);
    agrees(&disk, &log, "rebuilt");
}

#[test]
fn nothing_is_rebuilt_beside_a_writer_or_without_a_log() {
    let signer = TestSigner::new(ORIGIN);
    let disk = stopped(&signer, 3);
    let log = start(finding(&disk, &signer), SIZES, None).unwrap();
    let busy = again(&disk, &mut Vec::new()).unwrap_err();
    assert!(matches!(&busy, OpenError::Retry(t) if t.starts_with("CHY-LOG-BUSY")), "{busy}");
    drop(log);
    let absent = again(&SimulatedDisk::new(), &mut Vec::new()).unwrap_err();
    assert!(matches!(&absent, OpenError::Refuse(t) if t.starts_with("CHY-LOG-ABSENT")), "{absent}");
}

#[test]
fn a_full_disk_leaves_the_old_index() {
    let signer = TestSigner::new(ORIGIN);
    let disk = stopped(&signer, 10);
    let before = disk.read(INDEX.as_ref(), 1 << 30).unwrap();
    disk.limit(Some(0));
    let full = again(&disk, &mut Vec::new()).unwrap_err();
    assert!(matches!(&full, OpenError::Retry(t) if t.starts_with("CHY-LOG-INDEX")), "{full}");
    disk.limit(None);
    assert_eq!(disk.read(INDEX.as_ref(), 1 << 30).unwrap(), before);
    assert!(!disk.list(LOG.as_ref()).unwrap().contains(&"index.new".to_owned()));
}

/// Stopped after each of its effects, whatever the disk then has: the log opens and its index is right.
#[test]
fn interrupted_anywhere_the_log_opens_with_a_right_index() {
    let signer = TestSigner::new(ORIGIN);
    let mut interrupted = 0;
    for fault in [Fault::Stop, Fault::SyncFailsKept, Fault::SyncFailsLost] {
        for effect in 0.. {
            let disk = stopped(&signer, 8);
            disk.strike(disk.effects() + effect, fault);
            let done = again(&disk, &mut Vec::new());
            if !disk.struck() {
                assert!(done.is_ok(), "{done:?}");
                if fault == Fault::Stop || effect > 400 {
                    break;
                }
                continue;
            }
            interrupted += 1;
            for mode in [CrashMode::Lost, CrashMode::Kept, CrashMode::Torn, CrashMode::Reordered] {
                let context = format!("{fault:?} at {effect}, {mode:?}");
                let after = disk.crash(mode, effect);
                let log = start(finding(&after, &signer), SIZES, None)
                    .unwrap_or_else(|e| panic!("{context}: {e}"));
                agrees(&after, &log, &context);
                drop(log);
                let names = after.list(LOG.as_ref()).unwrap();
                assert!(!names.contains(&"index.new".to_owned()), "{context}: it is left behind");
                assert!(names.contains(&"index.redb".to_owned()), "{context}");
                let _ = Path::new(INDEX);
            }
        }
    }
    assert!(interrupted > 20, "only {interrupted} rebuilds were interrupted");
}
