//! The writer is stopped after every single effect, under every way a disk can treat what was not
//! synced, and started again.
//!
//! What must hold, whatever was lost: a record whose append was answered is at its leaf with its
//! bytes; a record answered `Covered` is covered by a head that was signed; all heads that were ever
//! signed, before and after, are heads of one tree; the published tiles are those of the published
//! checkpoint; and the log opens again. A failed sync halts.

use super::*;
use crate::env::simulated::Fault;
use crate::log::index::Point;
use crate::log::recover;

/// What was answered before the machine stopped.
#[derive(Default)]
struct Answered {
    durable: Vec<(LeafIndex, Record)>,
    covered: Vec<LeafIndex>,
}

/// Orders in batches of three: intents at once, then each one's signature, as the issuer does it.
/// Ends by itself, or at the first sign of death.
fn work(disk: &SimulatedDisk, log: &Log, from: u64, orders: u64, answered: &mut Answered) {
    for batch in (from..from + orders).step_by(3) {
        let (sender, receiver) = mpsc::channel();
        for n in batch..batch + 3 {
            let sender = sender.clone();
            log.append(
                intent(n),
                Release::Durable,
                Box::new(move |answer| drop(sender.send((n, answer)))),
            );
        }
        drop(sender);
        let (covered, signatures) = mpsc::channel();
        for (n, answer) in answers(disk, &receiver) {
            let Ok(Appended { leaf }) = answer else { return };
            answered.durable.push((leaf, intent(n)));
            let covered = covered.clone();
            log.append(
                issued(n, leaf),
                Release::Covered,
                Box::new(move |answer| drop(covered.send((issued(n, leaf), answer)))),
            );
        }
        drop(covered);
        for (record, answer) in answers(disk, &signatures) {
            let Ok(Appended { leaf }) = answer else { return };
            answered.durable.push((leaf, record));
            answered.covered.push(leaf);
        }
    }
}

/// What arrives until all have been answered or the machine has stopped.
fn answers<T>(disk: &SimulatedDisk, receiver: &mpsc::Receiver<T>) -> impl Iterator<Item = T> {
    std::iter::from_fn(|| {
        loop {
            match receiver.recv_timeout(Duration::from_millis(2)) {
                Ok(answer) => return Some(answer),
                Err(mpsc::RecvTimeoutError::Timeout) if !disk.is_stopped() => {}
                Err(_) => return None,
            }
        }
    })
}

/// The whole life of a small box: a ceremony, some orders, a restart, more orders.
fn life(disk: &SimulatedDisk, signer: &Arc<TestSigner>, answered: &mut Answered) {
    match start(opening(disk, signer), SIZES, Some(ceremony(signer))) {
        Ok(log) => {
            answered.durable.push((LeafIndex(0), Record::CeremonyV1(ceremony(signer))));
            work(disk, &log, 0, 6, answered);
        }
        Err(_) => return,
    }
    if let Ok(log) = reopen(disk, signer) {
        work(disk, &log, 6, 6, answered);
    }
}

/// A box whose next records fill a tile, with entries published: some orders, a restart, more orders.
fn later_life(disk: &SimulatedDisk, signer: &Arc<TestSigner>, answered: &mut Answered) {
    for from in [300, 303] {
        match open_wide(disk, signer) {
            Ok(log) => work(disk, &log, from, 3, answered),
            Err(_) => return,
        }
    }
}

type Open = fn(&SimulatedDisk, &Arc<TestSigner>) -> Result<Log, OpenError>;

fn open_wide(disk: &SimulatedDisk, signer: &Arc<TestSigner>) -> Result<Log, OpenError> {
    published::wide(disk, signer, true)
}

/// Opens what the crash left and holds it against what was answered and signed.
fn judge(
    disk: &SimulatedDisk,
    signer: &Arc<TestSigner>,
    answered: &Answered,
    open: Open,
    context: &str,
) {
    // As an operator would: a ceremony that was cut short before its record was durable is held again.
    let log = match open(disk, signer) {
        Ok(log) => log,
        Err(OpenError::Refuse(text)) if answered.durable.is_empty() => {
            assert!(text.starts_with("CHY-LOG-ABSENT"), "{context}: {text}");
            start(opening(disk, signer), SIZES, Some(ceremony(signer)))
                .unwrap_or_else(|e| panic!("{context}: {e}"))
        }
        Err(error) => panic!("{context}: {error}"),
    };
    for (leaf, record) in &answered.durable {
        let read = log.read(*leaf).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(&read, record, "{context}: leaf {leaf}");
    }
    for (leaf, record) in &answered.durable {
        if let Record::IntentV1(r) = record {
            let found = log.index().by_serial(r.serial).unwrap();
            let (Issuance::Intended { intent, .. }
            | Issuance::Issued { intent, .. }
            | Issuance::Abandoned { intent, .. }) = found.unwrap_or_else(|| panic!("{context}"));
            assert_eq!(intent, *leaf, "{context}");
        }
    }
    // It is alive: the next order comes out covered.
    let mut after = Answered::default();
    work(disk, &log, 1_000, 3, &mut after);
    assert_eq!(after.covered.len(), 3, "{context}: {:?}", log.halted());
    drop(log);
    published::check(disk, signer, context);

    // Every head ever signed is a head of the final tree.
    let dir = std::path::Path::new("/state/issuer/log");
    let segments = recover::segments(disk, dir, None).unwrap();
    let mut heads = vec![RightEdge::new().head()];
    let mut bytes = Vec::new();
    let tail = recover::walk(disk, dir, &segments, Point::default(), &mut |_, _, payload, edge| {
        bytes.push(leaf_hash(payload));
        heads.push(edge.head());
        Ok(())
    })
    .unwrap();
    assert_eq!(tail.torn, None, "{context}");
    let signed = lock(&signer.signed);
    for head in signed.iter() {
        assert_eq!(
            heads.get(head.size as usize),
            Some(head),
            "{context}: inconsistent heads signed"
        );
    }
    let greatest = signed.iter().map(|head| head.size).max().unwrap();
    for leaf in &answered.covered {
        assert!(leaf.0 < greatest, "{context}: leaf {leaf} was released uncovered");
    }
    for (leaf, record) in &answered.durable {
        assert_eq!(bytes[leaf.0 as usize], leaf_hash(&record.encode().unwrap()), "{context}");
    }
}

fn effects_of_a_life() -> u64 {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let mut answered = Answered::default();
    life(&disk, &signer, &mut answered);
    assert_eq!(answered.covered.len(), 12, "an undisturbed life completes");
    judge(&disk, &signer, &answered, reopen, "undisturbed");
    disk.effects()
}

/// Lives with the fault at every effect in turn. At least `least` disks must have been judged.
fn run(fault: Fault, seeds: u64, least: usize) {
    // How many effects a life has depends a little on how the threads meet: go somewhat beyond.
    let effects = effects_of_a_life() + 20;
    let share = |first: u64| {
        let lives = (first..effects).step_by(SHARES);
        lives.map(|effect| disturb(fault, effect, seeds)).collect::<Vec<_>>()
    };
    let lives: Vec<Disturbed> = std::thread::scope(|scope| {
        let shares: Vec<_> =
            (0..SHARES as u64).map(|first| scope.spawn(move || share(first))).collect();
        shares.into_iter().flat_map(|share| share.join().unwrap()).collect()
    });
    let short = lives.iter().filter(|life| life.cut_short).count();
    let judged: usize = lives.iter().map(|life| life.judged).sum();
    println!("{fault:?}: {effects} effects, {short} lives cut short, {judged} disks judged");
    assert!(short > 20, "only {short} of {effects} lives were cut short");
    assert!(judged >= least, "only {judged} disks were judged");
}

/// What became of one life.
#[derive(Clone, Copy, Default)]
struct Disturbed {
    cut_short: bool,
    /// Disks that its end left, opened and judged.
    judged: usize,
}

/// Threads that share the lives: each waits for its own writer most of the time.
const SHARES: usize = 4;

/// One life with the fault at this effect, and every end it can have.
fn disturb(fault: Fault, effect: u64, seeds: u64) -> Disturbed {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    disk.enforce_seals();
    disk.strike(effect, fault);
    let mut answered = Answered::default();
    life(&disk, &signer, &mut answered);
    if !disk.struck() {
        // A fault of syncs at an effect that is none, or past the end of this life.
        return Disturbed::default();
    }
    let mut judged = 0;
    for mode in [CrashMode::Lost, CrashMode::Kept, CrashMode::Torn, CrashMode::Reordered] {
        let seeds = if matches!(mode, CrashMode::Lost | CrashMode::Kept) { 1 } else { seeds };
        for seed in 0..seeds {
            let after = disk.crash(mode, effect * 1_000 + seed);
            // Each end of the world starts from the same signatures.
            let later = TestSigner::new(ORIGIN);
            lock(&later.signed).extend(lock(&signer.signed).iter());
            let context = format!("{fault:?} at {effect}, {mode:?}, seed {seed}");
            judge(&after, &later, &answered, reopen, &context);
            judged += 1;
        }
    }
    Disturbed { cut_short: answered.covered.len() < 12, judged }
}

#[test]
fn stopped_after_every_effect() {
    run(Fault::Stop, 6, 2_500);
}

#[test]
fn a_sync_that_was_persisted_but_reported_lost() {
    run(Fault::SyncFailsKept, 2, 250);
}

#[test]
fn a_sync_that_failed_and_lost() {
    run(Fault::SyncFailsLost, 2, 250);
}

/// Tiles that are full, the level above them, and entries.
#[test]
fn stopped_after_every_effect_where_a_tile_ends() {
    let (filled, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = open_wide(&filled, &signer).unwrap();
    published::fill(&log, 0, 250);
    drop(log);
    let begin = || {
        let signer = TestSigner::new(ORIGIN);
        (filled.crash(CrashMode::Kept, 0), signer)
    };
    let (disk, signer) = begin();
    let mut answered = Answered::default();
    later_life(&disk, &signer, &mut answered);
    assert_eq!(answered.covered.len(), 6, "an undisturbed life completes");
    judge(&disk, &signer, &answered, open_wide, "undisturbed");
    let effects = disk.effects() + 10;
    let disturb = |effect: u64| {
        let (disk, signer) = begin();
        disk.strike(effect, Fault::Stop);
        let mut answered = Answered::default();
        later_life(&disk, &signer, &mut answered);
        if !disk.struck() {
            return false;
        }
        for mode in [CrashMode::Lost, CrashMode::Kept, CrashMode::Torn, CrashMode::Reordered] {
            let after = disk.crash(mode, effect);
            let later = TestSigner::new(ORIGIN);
            lock(&later.signed).extend(lock(&signer.signed).iter());
            judge(&after, &later, &answered, open_wide, &format!("stop at {effect}, {mode:?}"));
        }
        true
    };
    let share = |first: u64| (first..effects).step_by(SHARES).filter(|e| disturb(*e)).count();
    let stopped: usize = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..SHARES as u64)
            .map(|first| {
                scope.spawn({
                    let share = &share;
                    move || share(first)
                })
            })
            .collect();
        shares.into_iter().map(|share| share.join().unwrap()).sum()
    });
    assert!(stopped > 20, "only {stopped} of {effects} lives were disturbed");
}
