//! The writer on the simulated disk: what it promises while it lives, and after every way to die.

mod crash;
mod find;
pub(in crate::log) mod keys;
mod published;
mod reach;
mod rebuild;
mod turn;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::open::start;
use super::*;

use crate::env::simulated::{CrashMode, ManualClock, SimulatedDisk};
use crate::id::{AccountId, OrderId, Serial, Timestamp};
use crate::log::checkpoint::Checkpoint;
use crate::log::index::{Issuance, Listed};
use crate::log::keys::statement;
use crate::log::note::{NoteSignError, VerifierKey};
use crate::log::record::*;
use crate::log::recover::OpenError;
use crate::log::segment;
use crate::log::tree::{RightEdge, leaf_hash};
use crate::state::Format;

/// An Ed25519 key in memory that remembers every head it signed.
pub(in crate::log) struct TestSigner {
    pair: Ed25519KeyPair,
    key: VerifierKey,
    pub(in crate::log) signed: Mutex<Vec<TreeHead>>,
    /// Attempts still to be refused with `Retry`.
    away: AtomicUsize,
}

impl TestSigner {
    pub(in crate::log) fn new(origin: &str) -> Arc<Self> {
        Self::of_seed(origin, 7)
    }

    pub(in crate::log) fn of_seed(origin: &str, seed: u8) -> Arc<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        let key = VerifierKey::from_spki(origin, &spki).unwrap();
        Arc::new(Self { pair, key, signed: Mutex::default(), away: AtomicUsize::new(0) })
    }

    /// The records by which this key hands over to `key`, and ends.
    pub(in crate::log) fn hands_over(&self, key: &Self) -> [Record; 2] {
        let text = statement(&self.key, &key.key);
        let (former, to) = (self.key.spki().to_vec(), key.key.spki().to_vec());
        let rotated = Record::LogKeyRotatedV1(LogKeyRotatedV1 {
            at: Timestamp(4_000),
            former: former.clone(),
            key: to,
            endorsement: self.pair.sign(text.as_bytes()).as_ref().to_vec(),
            possession: key.pair.sign(text.as_bytes()).as_ref().to_vec(),
            until: Timestamp(5_000),
            transcript_sha256: [4; 32],
        });
        let retired = LogKeyRetiredV1 { at: Timestamp(4_500), key: former, by: None };
        [rotated, Record::LogKeyRetiredV1(retired)]
    }
}

impl NoteSigner for TestSigner {
    fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }
    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        if self.away.load(Ordering::SeqCst) > 0 {
            self.away.fetch_sub(1, Ordering::SeqCst);
            return Err(NoteSignError::Retry(Duration::from_millis(1)));
        }
        // An Ed25519 key signs the text itself.
        let text = std::str::from_utf8(&message).unwrap();
        lock(&self.signed).push(Checkpoint::parse_text(text).unwrap().head);
        Ok(self.pair.sign(&message).as_ref().to_vec())
    }
}

pub(in crate::log) const ORIGIN: &str = "ca.lan/log";
/// Small enough that a handful of records fills a segment.
const SIZES: Sizes = Sizes { segment: 1024, reserve: 640, queue: 64, index: 4 };

pub(in crate::log) fn ceremony(signer: &TestSigner) -> CeremonyV1 {
    CeremonyV1 {
        at: Timestamp(1_000),
        origin: signer.key.name().into(),
        root_sha256: [1; 32],
        issuing_sha256: [2; 32],
        log_key: signer.key.spki().to_vec(),
        transcript_sha256: [3; 32],
    }
}

pub(in crate::log) fn serial(n: u64) -> Serial {
    let mut octets = [0; 16];
    octets[8..].copy_from_slice(&n.to_be_bytes());
    Serial::from_random(octets)
}

/// An order id for `n`.
pub(in crate::log) fn order(n: u64) -> OrderId {
    OrderId(*serial(n).octets())
}

pub(in crate::log) fn intent(n: u64) -> Record {
    Record::IntentV1(IntentV1 {
        at: Timestamp(2_000 + n),
        serial: serial(n),
        requester: Requester::Order {
            order: order(n),
            account: AccountId([1; 16]),
            jws_sha256: [0; 32],
        },
        profile: "tls-server".into(),
        issuer_sha256: [2; 32],
        tbs: vec![n as u8; 40 + (n as usize * 37) % 90],
        validations: Vec::new(),
    })
}

pub(in crate::log) fn issued(n: u64, intent: LeafIndex) -> Record {
    Record::IssuedV1(IssuedV1 {
        at: Timestamp(3_000 + n),
        intent,
        serial: serial(n),
        algorithm: vec![0x30, 0],
        signature: vec![0x55; 64],
    })
}

fn abandoned(n: u64, intent: LeafIndex) -> Record {
    Record::AbandonedV1(AbandonedV1 {
        at: Timestamp(4_000 + n),
        intent,
        serial: serial(n),
        reason: "test".into(),
    })
}

pub(in crate::log) fn opening(disk: &SimulatedDisk, signer: &Arc<TestSigner>) -> Opening {
    Opening {
        disk: Arc::new(disk.clone()),
        dir: "/state/issuer/log".into(),
        public: "/state/public".into(),
        settings: super::super::Settings::default(),
        format: Format::OWN,
        signers: vec![Arc::clone(signer) as Arc<dyn NoteSigner>],
        clock: Arc::new(ManualClock::new(Timestamp(5_000))),
        read_tbs: |_| None,
        on_halt: Box::new(|_| {}),
    }
}

pub(in crate::log) fn create(disk: &SimulatedDisk, signer: &Arc<TestSigner>) -> Log {
    start(opening(disk, signer), SIZES, Some(ceremony(signer))).unwrap()
}

pub(in crate::log) fn reopen(
    disk: &SimulatedDisk,
    signer: &Arc<TestSigner>,
) -> Result<Log, OpenError> {
    start(opening(disk, signer), SIZES, None)
}

pub(in crate::log) fn published(disk: &SimulatedDisk, signer: &TestSigner) -> Checkpoint {
    let note = disk.read("/state/public/checkpoint".as_ref(), 4096).unwrap();
    Checkpoint::open(&note, &signer.key).unwrap()
}

#[test]
fn records_are_read_back_indexed_and_covered_across_segments_and_restarts() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    let mut leaves = Vec::new();
    for n in 0..40 {
        let leaf = log.append_wait(intent(n), Release::Durable).unwrap().leaf;
        if n % 2 == 0 {
            log.append_wait(issued(n, leaf), Release::Covered).unwrap();
            assert!(published(&disk, &signer).head.size > leaf.0 + 1);
        }
        leaves.push(leaf);
    }
    log.append_wait(abandoned(1, leaves[1]), Release::Durable).unwrap();
    let check = |log: &Log| {
        assert_eq!(log.head().size, 62);
        for n in 0..40 {
            let leaf = leaves[n as usize];
            assert_eq!(log.read(leaf).unwrap(), intent(n));
            let (intent, serial) = (leaf, serial(n));
            let expected = match n {
                1 => Issuance::Abandoned { intent, abandoned: LeafIndex(61), serial },
                n if n % 2 == 0 => {
                    Issuance::Issued { intent, issued: LeafIndex(leaf.0 + 1), serial }
                }
                _ => Issuance::Intended { intent, serial },
            };
            assert_eq!(log.index().by_order(order(n)).unwrap(), Some(expected));
            assert_eq!(log.index().by_serial(serial).unwrap(), Some(expected));
        }
        assert_eq!(log.index().by_order(order(40)).unwrap(), None);
        assert_eq!(
            log.index().listed_nowhere(Timestamp(0)).unwrap(),
            [Listed { serial: serial(1), at: Timestamp(4_001), reason: None }]
        );
        assert_eq!(log.index().open_intents().unwrap().len(), 19);
        assert_eq!(log.index().newest_instant().unwrap(), Timestamp(4_001));
        assert!(log.read(LeafIndex(62)).is_err());
    };
    check(&log);
    let segments = |disk: &SimulatedDisk| {
        let names = disk.list("/state/issuer/log".as_ref()).unwrap();
        names.iter().filter(|name| name.ends_with(".seg")).count()
    };
    assert!(segments(&disk) > 5, "the test should fill several segments");
    let head = log.head();
    drop(log);
    assert_eq!(published(&disk, &signer).head, head, "closing leaves a checkpoint over everything");

    let log = reopen(&disk, &signer).unwrap();
    check(&log);
    drop(log);
    // Without its file, and with a file full of nonsense, the index is what the log says.
    let path = "/state/issuer/log/index.redb".as_ref();
    disk.remove(path).unwrap();
    check(&reopen(&disk, &signer).unwrap());
    let length = disk.open(path).unwrap().len().unwrap();
    disk.open(path).unwrap().write_at(0, &vec![0xa5; length as usize]).unwrap();
    check(&reopen(&disk, &signer).unwrap());
    disk.open(path).unwrap().set_len(100).unwrap();
    let log = reopen(&disk, &signer).unwrap();
    check(&log);
    assert_eq!(log.head(), head);
}

#[test]
fn the_writer_comes_round_unless_something_holds_it() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    let patience = Duration::from_secs(30);
    assert!(log.turns(patience));
    // An answer that blocks does what a disk that hangs does.
    let (held, (reached, is_there)) = (mpsc::channel::<()>(), mpsc::channel());
    let then = move |_| {
        reached.send(()).unwrap();
        let _ = held.1.recv();
    };
    log.append(intent(1), Release::Durable, Box::new(then));
    is_there.recv().unwrap();
    assert!(!log.turns(Duration::from_millis(50)));
    drop(held.0);
    assert!(log.turns(patience));
}

/// A segment loses its writers when the next one holds a durable record; the crash suite tries every
/// moment between.
#[test]
fn complete_segments_are_sealed_and_found_sealed_or_sealed_again_at_start() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    disk.enforce_seals();
    let log = create(&disk, &signer);
    for n in 0..30 {
        log.append_wait(intent(n), Release::Durable).unwrap();
    }
    let closed = |disk: &SimulatedDisk| -> Vec<bool> {
        let dir = std::path::Path::new("/state/issuer/log");
        let names = disk.list(dir).unwrap();
        let segments = names.iter().filter(|name| name.ends_with(".seg"));
        segments.map(|name| disk.open(&dir.join(name)).is_err()).collect()
    };
    let expected = |closed: &[bool]| {
        assert!(closed.len() > 3, "the test should fill several segments");
        closed.iter().enumerate().all(|(n, sealed)| *sealed == (n + 1 < closed.len()))
    };
    assert!(expected(&closed(&disk)), "{:?}", closed(&disk));
    drop(log);
    // Modes that did not reach the disk, or a copy that was restored without them.
    let disk = disk.crash(CrashMode::Lost, 1);
    assert!(closed(&disk).iter().all(|sealed| !sealed));
    drop(reopen(&disk, &signer).unwrap());
    assert!(expected(&closed(&disk)), "{:?}", closed(&disk));
    let log = reopen(&disk, &signer).unwrap();
    log.append_wait(intent(30), Release::Covered).unwrap();
}

#[test]
fn one_writer_and_one_creation() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    disk.create_dir("/state/issuer/log".as_ref()).unwrap();
    let absent = reopen(&disk, &signer).err().unwrap();
    assert!(matches!(&absent, OpenError::Refuse(t) if t.starts_with("CHY-LOG-ABSENT")), "{absent}");
    let log = create(&disk, &signer);
    let busy = reopen(&disk, &signer).err().unwrap();
    assert!(matches!(&busy, OpenError::Retry(t) if t.starts_with("CHY-LOG-BUSY")), "{busy}");
    drop(log);
    let exists = start(opening(&disk, &signer), SIZES, Some(ceremony(&signer))).err().unwrap();
    assert!(matches!(&exists, OpenError::Refuse(t) if t.starts_with("CHY-LOG-EXISTS")), "{exists}");
    let other = TestSigner::new("other.lan/log");
    let foreign = reopen(&disk, &other).err().unwrap();
    assert!(
        matches!(&foreign, OpenError::Refuse(t) if t.starts_with("CHY-LOG-FOREIGN")),
        "{foreign}"
    );
    assert_eq!(reopen(&disk, &signer).unwrap().head().size, 1);
}

#[test]
fn waiters_wait_while_the_key_is_away_and_other_records_go_on() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    signer.away.store(2, Ordering::SeqCst);
    let (sender, receiver) = mpsc::channel();
    log.append(intent(0), Release::Covered, Box::new(move |answer| drop(sender.send(answer))));
    let leaf = log.append_wait(intent(1), Release::Durable).unwrap().leaf;
    assert_eq!(leaf, LeafIndex(2));
    let answer = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(answer, Ok(Appended { leaf: LeafIndex(1) }));
    assert!(published(&disk, &signer).head.size >= 2);
}

#[test]
fn a_head_that_nobody_waits_for_is_signed_with_the_next_or_a_little_later() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    log.append_wait(intent(0), Release::Durable).unwrap();
    log.append_wait(issued(0, LeafIndex(1)), Release::Covered).unwrap();
    let sizes = |signer: &TestSigner| -> Vec<u64> {
        lock(&signer.signed).iter().map(|head| head.size).collect()
    };
    assert!(!sizes(&signer).contains(&2), "an intent alone cost a signature");
    log.append_wait(intent(1), Release::Durable).unwrap();
    let (_never, tick) = mpsc::channel::<()>();
    for _ in 0..200 {
        if published(&disk, &signer).head.size == 4 {
            return;
        }
        assert!(tick.recv_timeout(Duration::from_millis(20)).is_err());
    }
    panic!("never covered: {:?}", sizes(&signer));
}

#[test]
fn a_key_that_stays_away_lets_nothing_out_and_closing_does_not_hang() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    signer.away.store(usize::MAX, Ordering::SeqCst);
    let (sender, receiver) = mpsc::channel();
    log.append(intent(0), Release::Covered, Box::new(move |answer| drop(sender.send(answer))));
    log.append_wait(intent(1), Release::Durable).unwrap();
    assert!(receiver.try_recv().is_err());
    drop(log);
    assert_eq!(receiver.recv().unwrap(), Err(AppendError::Halt));
    // The next process signs what this one could not.
    signer.away.store(0, Ordering::SeqCst);
    drop(reopen(&disk, &signer).unwrap());
    assert_eq!(published(&disk, &signer).head.size, 3);
}

#[test]
fn a_failed_sync_halts_everyone_and_is_told_once() {
    for fault in
        [crate::env::simulated::Fault::SyncFailsKept, crate::env::simulated::Fault::SyncFailsLost]
    {
        let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
        drop(create(&disk, &signer));
        let told = Arc::new(AtomicUsize::new(0));
        let mut opening = opening(&disk, &signer);
        let telling = Arc::clone(&told);
        opening.on_halt = Box::new(move |why| {
            assert!(why.starts_with("CHY-LOG-IO"), "{why}");
            telling.fetch_add(1, Ordering::SeqCst);
        });
        let log = start(opening, SIZES, None).unwrap();
        // The write is the first effect of the next cycle, the sync the second.
        disk.strike(disk.effects() + 1, fault);
        assert_eq!(log.append_wait(intent(0), Release::Durable), Err(AppendError::Halt));
        assert_eq!(log.append_wait(intent(1), Release::Durable), Err(AppendError::Halt));
        assert!(log.halted().is_some());
        drop(log);
        assert_eq!(told.load(Ordering::SeqCst), 1);
        // Only the process died: the page cache still reads well. What is then built on it must be
        // durable, whatever the failed sync did.
        let log = reopen(&disk, &signer).unwrap();
        let size = log.head().size;
        log.append_wait(intent(2), Release::Covered).unwrap();
        let log_after = reopen(&disk.crash(CrashMode::Lost, 1), &signer).unwrap();
        assert!(log_after.head().size > size);
    }
}

#[test]
fn a_full_disk_takes_revocations_until_there_is_room_again() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let clock = Arc::new(ManualClock::new(Timestamp(5_000)));
    let mut opening = opening(&disk, &signer);
    opening.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let log = start(opening, SIZES, Some(ceremony(&signer))).unwrap();
    let first = log.append_wait(intent(0), Release::Durable).unwrap().leaf;
    disk.limit(Some(0));
    let mut ordinary = 1;
    while log.append_wait(intent(ordinary), Release::Durable).is_ok() {
        ordinary += 1;
        assert!(ordinary < 20, "a segment has an end");
    }
    assert_eq!(log.append_wait(intent(99), Release::Durable), Err(AppendError::Retry));
    let mut urgent = 0;
    while log.append_wait(abandoned(0, first), Release::Durable).is_ok() {
        urgent += 1;
        assert!(urgent < 40, "a reserve has an end");
    }
    assert!(urgent >= 6, "the reserve took only {urgent}");
    assert!(log.is_full());
    assert_eq!(log.append_wait(intent(99), Release::Durable), Err(AppendError::Retry));
    let size = log.head().size;
    // A restart on the full disk opens, and is as full.
    drop(log);
    let mut opening = self::opening(&disk, &signer);
    opening.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let log = start(opening, SIZES, None).unwrap();
    assert_eq!((log.head().size, log.is_full()), (size, true));
    assert_eq!(log.append_wait(intent(99), Release::Durable), Err(AppendError::Retry));
    disk.limit(None);
    clock.advance(Duration::from_secs(2));
    log.append_wait(intent(99), Release::Covered).unwrap();
    assert!(!log.is_full());
    // Full for ordinary records alone, and it notices by itself that there is room again.
    disk.limit(Some(0));
    while log.append_wait(intent(ordinary), Release::Durable).is_ok() {}
    assert!(log.is_full());
    disk.limit(None);
    clock.advance(Duration::from_secs(2));
    let waited = (0..200).any(|_| {
        std::thread::park_timeout(Duration::from_millis(50));
        !log.is_full()
    });
    assert!(waited, "nobody looks for room");
}

#[test]
fn records_that_cannot_be_leaves_and_a_full_queue_are_refused() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    let Record::IntentV1(mut large) = intent(0) else { unreachable!() };
    large.tbs = vec![0; 70_000];
    let answer = log.append_wait(Record::IntentV1(large.clone()), Release::Durable);
    assert!(matches!(answer, Err(AppendError::TooLarge(n)) if n > 70_000));
    large.tbs = vec![0; 1_000];
    let answer = log.append_wait(Record::IntentV1(large), Release::Durable);
    assert!(matches!(answer, Err(AppendError::TooLarge(_))), "larger than a segment of this test");

    // The first answer blocks the writer until the queue has overflowed.
    let (go, wait) = mpsc::channel::<()>();
    log.append(intent(1), Release::Durable, Box::new(move |_| wait.recv().unwrap()));
    let (sender, receiver) = mpsc::channel();
    for n in 0..200 {
        let sender = sender.clone();
        log.append(intent(2 + n), Release::Durable, Box::new(move |a| drop(sender.send(a))));
    }
    go.send(()).unwrap();
    drop((sender, log));
    let answers: Vec<_> = receiver.iter().collect();
    assert_eq!(answers.len(), 200);
    let refused = answers.iter().filter(|a| **a == Err(AppendError::Retry)).count();
    assert!((1..=137).contains(&refused), "{refused} of 200 refused by a queue of 64");
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 200 - refused);
}

#[test]
fn an_answer_may_append_and_may_drop_the_last_handle() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    let (sender, receiver) = mpsc::channel();
    let inner = log.clone();
    log.append(
        intent(0),
        Release::Durable,
        Box::new(move |answer| {
            let leaf = answer.unwrap().leaf;
            let last = inner.clone();
            inner.append(
                issued(0, leaf),
                Release::Covered,
                Box::new(move |answer| {
                    drop(last);
                    sender.send(answer.unwrap().leaf).unwrap();
                }),
            );
        }),
    );
    drop(log);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), LeafIndex(2));
}

/// A checkpoint over records that are not there, or over others, halts; damage below it too.
#[test]
fn what_contradicts_a_checkpoint_or_a_durable_offset_halts() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = create(&disk, &signer);
    for n in 0..3 {
        log.append_wait(intent(n), Release::Covered).unwrap();
    }
    drop(log);
    let dir = std::path::Path::new("/state/issuer/log");
    let segment = dir.join(segment::file_name(0));
    let whole = disk.read(&segment, 4096).unwrap();
    let halts = |disk: &SimulatedDisk, code: &str| {
        let error = reopen(disk, &signer).err().unwrap();
        assert!(matches!(&error, OpenError::Halt(text) if text.starts_with(code)), "{error}");
    };
    // The last record is gone: only the checkpoint knows.
    let end = whole.iter().rposition(|octet| *octet != 0).unwrap();
    disk.open(&segment).unwrap().write_at(end as u64, &[whole[end] ^ 1]).unwrap();
    halts(&disk, "CHY-LOG-DAMAGED");
    disk.open(&segment).unwrap().write_at(0, &whole).unwrap();
    drop(reopen(&disk, &signer).unwrap());
    // A record in the middle: the frames behind it state that it was durable. No checkpoint needed.
    for path in
        ["/state/public/checkpoint", "/state/issuer/log/checkpoint", "/state/issuer/log/index.redb"]
    {
        disk.remove(path.as_ref()).unwrap();
    }
    disk.open(&segment).unwrap().write_at(90, &[whole[90] ^ 1]).unwrap();
    halts(&disk, "CHY-LOG-DAMAGED");
    disk.open(&segment).unwrap().write_at(0, &whole).unwrap();
    drop(reopen(&disk, &signer).unwrap());
    // Another history of the same length.
    let other = SimulatedDisk::new();
    let log = create(&other, &signer);
    for n in 0..3 {
        log.append_wait(intent(n + 10), Release::Covered).unwrap();
    }
    drop(log);
    let note = disk.read("/state/public/checkpoint".as_ref(), 4096).unwrap();
    other.replace("/state/public/checkpoint".as_ref(), &note, true).unwrap();
    halts(&other, "CHY-LOG-FORKED");
}
