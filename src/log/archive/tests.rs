use std::sync::Arc;

use super::*;
use crate::env::simulated::{CrashMode, Fault, SimulatedDisk};
use crate::log::index::Point;
use crate::log::note::NoteSigner;
use crate::log::recover;
use crate::log::writer::Release;
use crate::log::writer::tests::keys::open_with;
use crate::log::writer::tests::{ORIGIN, TestSigner, create, intent, reopen};
use crate::tlog::keys::LogKeys;
use crate::tlog::proof::verify_consistency;
use crate::tlog::tree::leaf_hash;

const LOG: &str = "/state/issuer/log";
const TO: &str = "/cold/archive";

/// A log of several segments, closed.
fn log(records: u64) -> (SimulatedDisk, Arc<TestSigner>) {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    disk.enforce_seals();
    let log = create(&disk, &signer);
    for n in 0..records {
        log.append_wait(intent(n), Release::Durable).unwrap();
    }
    (disk, signer)
}

fn more(disk: &SimulatedDisk, signer: &Arc<TestSigner>, from: u64, records: u64) {
    let log = reopen(disk, signer).unwrap();
    for n in from..from + records {
        log.append_wait(intent(n), Release::Durable).unwrap();
    }
}

fn run(disk: &SimulatedDisk, signer: &TestSigner) -> Result<Outcome, OpenError> {
    run_with(disk, &[signer])
}

fn run_with(disk: &SimulatedDisk, signers: &[&TestSigner]) -> Result<Outcome, OpenError> {
    let note = disk
        .read("/state/public/checkpoint".as_ref(), 4096)
        .map_err(|_| OpenError::Retry("the simulated machine stopped".into()))?;
    let keys: Vec<_> = signers.iter().map(|signer| signer.verifier_key().clone()).collect();
    let source = Source { disk, dir: LOG.as_ref(), keys: &keys, checkpoint: &note };
    archive(source, TO.as_ref(), &mut |_| {})
}

/// The archive as a stranger verifies it who has the public key: every file as the manifest says, the tree of
/// the records as the manifest says, and a signed checkpoint that continues it.
fn verified(disk: &SimulatedDisk, signer: &TestSigner) -> Result<u64, String> {
    let checked = check(disk, TO.as_ref()).map_err(|e| e.to_string())?.ok_or("no archive")?;
    if let Some(finding) = checked.findings.first() {
        return Err(finding.clone());
    }
    let segments = recover::segments(disk, TO.as_ref(), None).map_err(|e| e.to_string())?;
    let mut edge = RightEdge::new();
    let mut keys =
        LogKeys::begin(ORIGIN, signer.verifier_key().spki()).map_err(|e| e.to_string())?;
    let mut turn = |leaf, record: &Record| record.turn_keys(leaf, &mut keys).is_ok();
    recover::walk(disk, TO.as_ref(), &segments, Point::default(), &mut |leaf, _, payload, _| {
        edge.push(leaf_hash(payload));
        turn(leaf, &Record::decode(payload).unwrap());
        Ok(())
    })
    .map_err(|e| e.to_string())?;
    if !checked.later_keys.iter().all(|(leaf, record)| turn(*leaf, record)) {
        return Err("the manifest tells of keys that cannot be".into());
    }
    if edge.head() != checked.head {
        return Err("the records do not make the tree".into());
    }
    let (path, proof) = checked.checkpoint.ok_or("no checkpoint")?;
    let note = disk.read(&path, 4096).map_err(|e| e.to_string())?;
    let stated = keys.open(&note).map_err(|e| e.to_string())?;
    if !verify_consistency(&checked.head, &stated.head, &proof) {
        return Err("the checkpoint does not continue it".into());
    }
    Ok(checked.head.size)
}

fn code(result: Result<Outcome, OpenError>) -> String {
    let error = result.expect_err("it should have been refused").to_string();
    error.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn complete_segments_are_copied_once_and_verify_alone_however_far_the_log_goes_on() {
    let (disk, signer) = log(2);
    let outcome = run(&disk, &signer).unwrap();
    assert_eq!((outcome.copied, outcome.segments, outcome.leaves), (0, 0, 0));
    assert_eq!(check(&disk, TO.as_ref()), Ok(None), "nothing is complete, nothing is archived");
    let mut from = 2;
    let mut before = 0;
    for records in [20, 1, 0, 7, 33] {
        more(&disk, &signer, from, records);
        from += records;
        let outcome = run(&disk, &signer).unwrap();
        assert_eq!(verified(&disk, &signer), Ok(outcome.leaves));
        assert_eq!(outcome.segments, before + outcome.copied);
        assert!(outcome.leaves < from + 1 && outcome.covered == from + 1);
        before = outcome.segments;
        let live = recover::segments(&disk, LOG.as_ref(), None).unwrap();
        assert_eq!(live.len(), outcome.segments + 1, "all but the one that is written");
        for segment in &live[..outcome.segments] {
            let of = |dir: &str| disk.read(&Path::new(dir).join(&segment.name), 4096).unwrap();
            assert_eq!(of(LOG), of(TO));
        }
    }
    assert!(before > 6, "the test should fill several segments");
    let files = disk.list(TO.as_ref()).unwrap();
    let checkpoints = files.iter().filter(|name| name.starts_with("checkpoint-")).count();
    assert_eq!((files.len(), checkpoints), (before + 2, 1), "{files:?}");
}

/// Any octet of any file in the archive, and any file left out.
#[test]
fn whatever_is_changed_in_an_archive_is_found() {
    let (disk, signer) = log(30);
    let leaves = run(&disk, &signer).unwrap().leaves;
    let files = disk.list(TO.as_ref()).unwrap();
    for name in files {
        let path = Path::new(TO).join(&name);
        let whole = disk.read(&path, 1 << 20).unwrap();
        for at in (0..whole.len()).step_by(if name.ends_with(".seg") { 61 } else { 7 }) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            disk.replace(&path, &changed, true).unwrap();
            let is_wrong = verified(&disk, &signer).is_err();
            // In the manifest, what only the next run uses may be spelled differently: `base` above all.
            assert!(is_wrong || name == MANIFEST, "{name}, octet {at}");
        }
        disk.remove(&path).unwrap();
        assert!(verified(&disk, &signer).is_err(), "without {name}");
        disk.replace(&path, &whole, true).unwrap();
        assert_eq!(verified(&disk, &signer), Ok(leaves));
    }
}

/// Records exchanged together with everything that the manifest says of them: only the signature finds it.
#[test]
fn a_forged_archive_does_not_lead_to_a_signed_checkpoint() {
    let (disk, signer) = log(30);
    run(&disk, &signer).unwrap();
    let honest = Manifest::read(&disk, TO.as_ref()).unwrap().unwrap();
    let note = disk.read(&Path::new(TO).join(&honest.checkpoint.clone().unwrap().file), 4096);
    let forger = TestSigner::new(ORIGIN);
    let forged = SimulatedDisk::new();
    let log = create(&forged, &forger);
    for n in 0..30 {
        // The same sizes, so the same places.
        log.append_wait(intent(if n == 3 { 93 } else { n }), Release::Durable).unwrap();
    }
    drop(log);
    run(&forged, &forger).unwrap();
    let covered = honest.checkpoint.unwrap();
    forged.replace(&Path::new(TO).join(&covered.file), &note.unwrap(), true).unwrap();
    let mut manifest = Manifest::read(&forged, TO.as_ref()).unwrap().unwrap();
    assert_eq!(manifest.leaves(), honest.segments.iter().map(|s| s.leaves).sum::<u64>());
    for consistency in
        [covered.consistency.clone(), manifest.checkpoint.clone().unwrap().consistency]
    {
        manifest.checkpoint = Some(Covered { consistency, ..covered.clone() });
        let text = serde_json::to_vec(&manifest).unwrap();
        forged.replace(&Path::new(TO).join(MANIFEST), &text, true).unwrap();
        assert_eq!(verified(&forged, &signer), Err("the checkpoint does not continue it".into()));
    }
}

#[test]
fn another_log_an_older_log_a_foreign_checkpoint_and_a_full_disk_are_refused() {
    let (disk, signer) = log(12);
    let young = disk.crash(CrashMode::Kept, 1);
    let disk = disk.crash(CrashMode::Kept, 1);
    more(&disk, &signer, 12, 20);
    // No room: what fits is whole, and the next run goes on.
    disk.limit(Some(used(&disk) + 2_500));
    assert_eq!(code(run(&disk, &signer)), "CHY-ARCHIVE-FULL");
    disk.limit(None);
    let leaves = run(&disk, &signer).unwrap().leaves;
    assert_eq!(verified(&disk, &signer), Ok(leaves));
    let held = disk.lock(&Path::new(TO).join("lock")).unwrap();
    assert_eq!(code(run(&disk, &signer)), "CHY-ARCHIVE-BUSY");
    drop(held);

    // The log is put back to an older state, and goes another way.
    young.create_dir(TO.as_ref()).unwrap();
    for name in disk.list(TO.as_ref()).unwrap().iter().filter(|name| *name != "lock") {
        let octets = disk.read(&Path::new(TO).join(name), 1 << 20).unwrap();
        young.replace(&Path::new(TO).join(name), &octets, true).unwrap();
    }
    assert_eq!(code(run(&young, &signer)), "CHY-ARCHIVE-FOREIGN");
    let log = reopen(&young, &signer).unwrap();
    for n in 0..20 {
        log.append_wait(intent(12 + (n ^ 1)), Release::Durable).unwrap();
    }
    drop(log);
    let refused = code(run(&young, &signer));
    assert!(
        ["CHY-ARCHIVE-FOREIGN", "CHY-ARCHIVE-DAMAGED"].contains(&refused.as_str()),
        "{refused}"
    );

    let other = TestSigner::new("other.lan/log");
    assert_eq!(code(run(&disk, &other)), "CHY-ARCHIVE-FOREIGN");
    let future = br#"{"format":2,"origin":"x","segments":[],"edge":[],"checkpoint":null}"#;
    disk.replace(&Path::new(TO).join(MANIFEST), future, true).unwrap();
    assert_eq!(code(run(&disk, &signer)), "CHY-ARCHIVE-FOREIGN");
}

fn used(disk: &SimulatedDisk) -> u64 {
    let octets = |dir: &str| -> u64 {
        let names = disk.list(dir.as_ref()).unwrap_or_default();
        let paths = names.iter().map(|name| Path::new(dir).join(name));
        paths.map(|path| disk.open_read(&path).map_or(0, |file| file.len().unwrap())).sum()
    };
    octets(LOG) + octets("/state/public") + octets(TO)
}

/// The run is stopped at every effect and under every end of the disk; what is left is an archive of the
/// run before, or one that says it is unfinished, and the next run finishes it.
#[test]
fn stopped_after_every_effect_the_next_run_finishes() {
    let (first, signer) = log(24);
    run(&first, &signer).unwrap();
    more(&first, &signer, 24, 24);
    let mut ends = 0;
    for effect in 0.. {
        let disk = first.crash(CrashMode::Kept, 0);
        disk.strike(disk.effects() + effect, Fault::Stop);
        let stopped = run(&disk, &signer).is_err();
        for (mode, seeds) in [
            (CrashMode::Lost, 1),
            (CrashMode::Kept, 1),
            (CrashMode::Torn, 12),
            (CrashMode::Reordered, 12),
        ] {
            for seed in 0..seeds {
                let after = disk.crash(mode, effect * 100 + seed);
                let context = format!("stopped at {effect}, {mode:?}, seed {seed}");
                // Complete before and after; between, nothing that is stated is untrue.
                if let Ok(Some(checked)) = check(&after, TO.as_ref())
                    && checked.checkpoint.is_some()
                {
                    let named =
                        checked.findings.iter().filter(|f| !f.ends_with("does not name it"));
                    assert_eq!(named.count(), 0, "{context}: {:?}", checked.findings);
                }
                let outcome = run(&after, &signer).unwrap_or_else(|e| panic!("{context}: {e}"));
                assert_eq!(verified(&after, &signer), Ok(outcome.leaves), "{context}");
                ends += 1;
            }
        }
        if !stopped {
            assert!(!disk.struck());
            break;
        }
    }
    println!("{ends} disks judged");
    assert!(ends >= 1_000, "only {ends} disks were judged");
}

/// The log gets another key when the archive has ended, and while it goes on: whoever knows the first key follows.
#[test]
fn an_archive_tells_of_the_keys_that_the_log_got_behind_its_end() {
    let (disk, a) = log(30);
    let [b, c] = [8, 9].map(|seed| TestSigner::of_seed(ORIGIN, seed));
    run(&disk, &a).unwrap();
    let extend = |signers: &[&Arc<TestSigner>], records: &[Record]| {
        let log = open_with(&disk, signers).unwrap();
        for record in records {
            log.append_wait(record.clone(), Release::Covered).unwrap();
        }
    };
    let later = || check(&disk, TO.as_ref()).unwrap().unwrap().later_keys.len();
    let [rotated, retired] = a.hands_over(&b);
    extend(&[&b, &a], &[rotated]);
    // Both sign; who knows either may archive.
    for keys in [&[&*b, &*a][..], &[&*a], &[&*b]] {
        let leaves = run_with(&disk, keys).unwrap().leaves;
        assert_eq!((verified(&disk, &a), later()), (Ok(leaves), 1));
    }
    extend(&[&b, &a], &[retired]);
    assert_eq!(code(run(&disk, &a)), "CHY-ARCHIVE-FOREIGN");
    let leaves = run_with(&disk, &[&*b]).unwrap().leaves;
    assert_eq!((verified(&disk, &a), later()), (Ok(leaves), 2));
    // Without what the manifest says nobody knows who signs.
    let path = Path::new(TO).join(MANIFEST);
    let whole = disk.read(&path, 1 << 20).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    manifest["checkpoint"].as_object_mut().unwrap().remove("keys").unwrap();
    disk.replace(&path, manifest.to_string().as_bytes(), true).unwrap();
    assert!(verified(&disk, &a).is_err_and(|why| why.contains("without a valid signature")));
    // And what it says must be about keys, and of leaves behind its end.
    for (member, value) in [
        ("leaf", serde_json::json!(1)),
        ("leaf", serde_json::json!(u64::MAX)),
        ("record", serde_json::json!("!")),
        ("record", serde_json::json!("AAAA")),
    ] {
        let mut manifest: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        manifest["checkpoint"]["keys"][0][member] = value.clone();
        disk.replace(&path, manifest.to_string().as_bytes(), true).unwrap();
        let refused = Manifest::read(&disk, TO.as_ref()).unwrap_err().to_string();
        assert!(refused.starts_with("CHY-ARCHIVE-DAMAGED"), "{member} {value}: {refused}");
    }
    disk.replace(&path, &whole, true).unwrap();
    // The log goes on, and the rotation is in the archive itself; then once more.
    let intents: Vec<Record> = (30..50).map(intent).collect();
    extend(&[&b], &intents);
    extend(&[&c, &b], &b.hands_over(&c));
    let leaves = run_with(&disk, &[&*c]).unwrap().leaves;
    assert_eq!((verified(&disk, &a), later()), (Ok(leaves), 2));
}

#[test]
fn manifests_that_cannot_be_are_refused() {
    let (disk, signer) = log(30);
    run(&disk, &signer).unwrap();
    let path = Path::new(TO).join(MANIFEST);
    let whole: serde_json::Value =
        serde_json::from_slice(&disk.read(&path, 1 << 20).unwrap()).unwrap();
    type Change = fn(&mut serde_json::Value);
    let changes: [Change; 9] = [
        |m| m["segments"][1]["first-leaf"] = 0.into(),
        |m| m["segments"][1]["leaves"] = u64::MAX.into(),
        |m| m["segments"][1]["leaves"] = 0.into(),
        |m| m["segments"][1]["file"] = "../../etc/passwd".into(),
        |m| m["segments"][1]["sha256"] = "00".into(),
        |m| drop(m["segments"].as_array_mut().unwrap().remove(0)),
        |m| m["edge"] = serde_json::json!([]),
        |m| m["checkpoint"]["file"] = "../checkpoint".into(),
        |m| m["checkpoint"]["size"] = 1.into(),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut manifest = whole.clone();
        change(&mut manifest);
        disk.replace(&path, manifest.to_string().as_bytes(), true).unwrap();
        let error = Manifest::read(&disk, TO.as_ref()).expect_err(&format!("change {n}"));
        assert!(error.to_string().starts_with("CHY-ARCHIVE-DAMAGED"), "{error}");
    }
}
