//! The log's own key is rotated: who signs what, at every size, after every way to die.

use super::*;
use crate::env::simulated::Fault;
use crate::log::keys::LogKeys;
use crate::log::note::Note;

fn pair() -> (Arc<TestSigner>, Arc<TestSigner>) {
    (TestSigner::of_seed(ORIGIN, 7), TestSigner::of_seed(ORIGIN, 8))
}

fn rotated(former: &TestSigner, key: &TestSigner) -> Record {
    let [rotated, _] = former.hands_over(key);
    rotated
}

fn retired(key: &TestSigner) -> Record {
    let [_, retired] = key.hands_over(key);
    retired
}

pub(in crate::log) fn open_with(
    disk: &SimulatedDisk,
    signers: &[&Arc<TestSigner>],
) -> Result<Log, OpenError> {
    let signers = signers.iter().map(|s| Arc::clone(s) as Arc<dyn NoteSigner>).collect();
    start(Opening { signers, ..opening(disk, &TestSigner::new(ORIGIN)) }, SIZES, None)
}

/// Ids of the keys that signed the published checkpoint, which the log's own keys open.
fn signed_by(disk: &SimulatedDisk, keys: &LogKeys) -> (u64, Vec<[u8; 4]>) {
    let note = disk.read("/state/public/checkpoint".as_ref(), 4096).unwrap();
    let size = keys.open(&note).unwrap().head.size;
    (size, Note::parse(&note).unwrap().signatures.iter().map(|s| s.id).collect())
}

#[test]
fn both_keys_sign_from_the_leaf_that_rotates_to_the_leaf_that_retires() {
    let (disk, (a, b)) = (SimulatedDisk::new(), pair());
    drop(create(&disk, &a));
    let log = open_with(&disk, &[&b, &a]).unwrap();
    log.append_wait(intent(1), Release::Covered).unwrap();
    assert_eq!(signed_by(&disk, &log.keys()), (2, vec![a.key.id()]));
    let leaf = log.append_wait(rotated(&a, &b), Release::Covered).unwrap().leaf;
    assert_eq!(leaf, LeafIndex(2));
    assert_eq!(signed_by(&disk, &log.keys()), (3, vec![a.key.id(), b.key.id()]));
    log.append_wait(intent(2), Release::Covered).unwrap();
    drop(log);
    // During the cross-over neither key alone will do, and a third is not the log's.
    let c = TestSigner::of_seed(ORIGIN, 9);
    for too_few in [vec![&a], vec![&b], vec![&a, &c]] {
        let error = open_with(&disk, &too_few).err().unwrap();
        assert!(error.to_string().starts_with("CHY-LOG-KEY"), "{error}");
    }
    let log = open_with(&disk, &[&b, &a]).unwrap();
    assert_eq!(signed_by(&disk, &log.keys()).1.len(), 2);
    // What cannot be is a leaf that changes nothing.
    log.append_wait(retired(&b), Release::Covered).unwrap();
    assert_eq!(signed_by(&disk, &log.keys()).1.len(), 2);
    log.append_wait(retired(&a), Release::Covered).unwrap();
    assert_eq!(signed_by(&disk, &log.keys()).1, vec![b.key.id()]);
    drop(log);
    // The former key is never needed again.
    let signatures = lock(&a.signed).len();
    let log = open_with(&disk, &[&b]).unwrap();
    log.append_wait(intent(3), Release::Covered).unwrap();
    assert_eq!(log.keys().terms().len(), 2);
    assert_eq!(signed_by(&disk, &log.keys()), (log.head().size, vec![b.key.id()]));
    drop(log);
    assert!(open_with(&disk, &[&a]).is_err());
    assert_eq!(lock(&a.signed).len(), signatures);
}

#[test]
fn what_the_former_key_alone_signs_after_its_retirement_counts_for_nothing() {
    let (disk, (a, b)) = (SimulatedDisk::new(), pair());
    drop(create(&disk, &a));
    let log = open_with(&disk, &[&b, &a]).unwrap();
    log.append_wait(rotated(&a, &b), Release::Covered).unwrap();
    log.append_wait(retired(&a), Release::Covered).unwrap();
    let keys = log.keys();
    drop(log);
    // A thief of the former key tells of more records than there are.
    let forged = Checkpoint::new(ORIGIN, TreeHead { size: 900, root: [9; 32] });
    let octets = a.pair.sign(forged.text().as_bytes()).as_ref().to_vec();
    let note = forged.signed(&a.key, octets).to_string();
    assert!(keys.open(note.as_bytes()).is_err());
    disk.replace("/state/public/checkpoint".as_ref(), note.as_bytes(), true).unwrap();
    let log = open_with(&disk, &[&b]).unwrap();
    log.append_wait(intent(1), Release::Covered).unwrap();
    assert_eq!(signed_by(&disk, &keys), (log.head().size, vec![b.key.id()]));
}

/// Waits for the record to be covered, but not for a machine that has stopped.
fn covered(disk: &SimulatedDisk, log: &Log, record: Record) -> Option<Appended> {
    let (sender, receiver) = mpsc::channel();
    log.append(record, Release::Covered, Box::new(move |answer| drop(sender.send(answer))));
    loop {
        match receiver.recv_timeout(Duration::from_millis(2)) {
            Ok(answer) => return answer.ok(),
            Err(mpsc::RecvTimeoutError::Timeout) if !disk.is_stopped() => {}
            Err(_) => return None,
        }
    }
}

/// What the issuer does at each start, whatever was done before: rotate, work, retire, work.
fn live(disk: &SimulatedDisk, a: &Arc<TestSigner>, b: &Arc<TestSigner>, n: u64) -> Option<Log> {
    let log = open_with(disk, &[b, a]).ok()?;
    if log.keys().terms().len() == 1 {
        covered(disk, &log, rotated(a, b))?;
    }
    covered(disk, &log, intent(n))?;
    if log.keys().former().is_some() {
        covered(disk, &log, retired(a))?;
    }
    covered(disk, &log, intent(n + 1))?;
    Some(log)
}

#[test]
fn stopped_after_every_effect_of_a_rotation() {
    for mode in [CrashMode::Lost, CrashMode::Torn, CrashMode::Reordered] {
        let mut at = 0;
        loop {
            let (disk, (a, b)) = (SimulatedDisk::new(), pair());
            drop(create(&disk, &a));
            disk.strike(disk.effects() + at, Fault::Stop);
            let done = live(&disk, &a, &b, 1).is_some();
            let disk = disk.crash(mode, at + 7);
            let log = live(&disk, &a, &b, 10).unwrap_or_else(|| panic!("{mode:?} at {at}"));
            let keys = log.keys();
            assert_eq!(keys.terms().len(), 2, "{mode:?} at {at}");
            assert_eq!(signed_by(&disk, &keys).1, vec![b.key.id()], "{mode:?} at {at}");
            drop(log);
            // Each key signed only trees whose size is its own, whoever died in between.
            for (signer, other) in [(&a, &b), (&b, &a)] {
                for head in lock(&signer.signed).iter() {
                    let own = keys.of(head.size).any(|key| *key == signer.key);
                    assert!(own, "{mode:?} at {at}: {} {}", head.size, other.key);
                }
            }
            assert!(open_with(&disk, &[&b]).is_ok(), "{mode:?} at {at}");
            if done {
                break;
            }
            at += 1;
        }
        assert!(at > 10, "{at}");
    }
}
