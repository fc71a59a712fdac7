//! What is kept does not grow with the log; what comes late is found all the same.

use super::*;
use crate::audit::bench::{NOW, SHARD};

/// Ceremony, account, `n` intents, then a signature for each: none is at hand any more when it comes.
fn late(bench: &Bench, n: u16) -> Vec<Record> {
    let intents = intents(bench, n);
    let mut records: Vec<Record> = bench.records().drain(..2).collect();
    records.extend(intents.iter().cloned().map(Record::IntentV1));
    let issued = intents.iter().zip(2..).map(|(intent, leaf)| bench.issued(intent, leaf));
    records.extend(issued.map(Record::IssuedV1));
    records
}

/// The same, each signed at once.
fn soon(bench: &Bench, n: u16) -> Vec<Record> {
    let mut records: Vec<Record> = bench.records().drain(..2).collect();
    for intent in intents(bench, n) {
        let leaf = records.len() as u64;
        let issued = bench.issued(&intent, leaf);
        records.extend([Record::IntentV1(intent), Record::IssuedV1(issued)]);
    }
    records
}

fn intents(bench: &Bench, n: u16) -> Vec<IntentV1> {
    let first = bench.intent(100, "printer.lan");
    (100..100 + n).map(|n| bench.another(&first, n)).collect()
}

fn verify_small(bench: &Bench, records: &[Record], rows: usize) -> Verdict {
    let half = records.len() / 2;
    let disk = bench.disk_of(&[&records[..half], &records[half..]], records.len());
    disk.create_dir("/tmp".as_ref()).unwrap();
    let scratch = disk.create("/tmp/scratch".as_ref(), 0).unwrap();
    let means = Means { rows, scratch: Some(scratch), ..Means::default() };
    verify(Arc::new(disk.clone()), DIR.as_ref(), &bench.evidence(), means).unwrap()
}

#[test]
fn memory_is_bounded_whatever_the_log_holds() {
    const ROWS: usize = 4096;
    const ROW: usize = 128;
    let bench = Bench::new();
    let mut spilled = 0;
    for n in [600, 1800] {
        let verdict = verify_small(&bench, &late(&bench, n), ROWS);
        assert!(verdict.is_sound(), "{verdict}");
        assert_eq!((verdict.intents, verdict.issued, verdict.open), (n.into(), n.into(), 0));
        assert_eq!(verdict.kept.intents, usize::from(n).min(pairs::OPEN_INTENTS));
        assert!(verdict.kept.rows <= ROWS + ROW, "{:?}", verdict.kept);
        assert!(verdict.kept.places <= usize::from(n) * 2 / 16 + 1);
        assert!(verdict.kept.spilled > spilled, "{:?}", verdict.kept);
        spilled = verdict.kept.spilled;
        // As it is in life: one intent at a time, and one row for each certificate.
        let verdict = verify_small(&bench, &soon(&bench, n), ROWS);
        assert!(verdict.is_sound(), "{verdict}");
        assert_eq!(verdict.kept.intents, 1);
        assert!(verdict.kept.rows <= ROWS + ROW);
        assert!(verdict.kept.spilled <= u64::from(n) * 24, "{:?}", verdict.kept);
    }
}

#[test]
fn places_are_bounded_and_lead_to_every_leaf() {
    let places = Places::default();
    for leaf in 0..6 * places::MAX_PLACES as u64 * 16 {
        places.push(LeafIndex(leaf), leaf);
    }
    assert!((places::MAX_PLACES / 2..places::MAX_PLACES).contains(&places.kept()));
    let bench = Bench::new();
    let records = soon(&bench, 40);
    let disk = bench.disk_of(&[&records[..33], &records[33..]], records.len());
    let reader = Reader::open(Arc::new(disk), DIR.as_ref()).unwrap();
    let places = Places::default();
    reader
        .walk(&mut |leaf, offset, _, _| {
            places.push(leaf, offset);
            Ok(())
        })
        .unwrap();
    for (leaf, record) in records.iter().enumerate() {
        let entry = places.entry(&reader, LeafIndex(leaf as u64)).unwrap();
        assert_eq!(entry.record.as_ref(), Ok(record), "{leaf}");
    }
    assert_eq!(places.entry(&reader, LeafIndex(records.len() as u64)), None);
}

#[test]
fn contradictions_far_apart_are_found() {
    let bench = Bench::new();
    let check = |change: &dyn Fn(&mut Vec<Record>), expected: &str| {
        let mut records = late(&bench, 1200);
        change(&mut records);
        for rows in [0, 1 << 20] {
            found(&verify_small(&bench, &records, rows), expected);
        }
    };
    // The first intents are not at hand any more when these come.
    check(&|r| r.push(r[1202].clone()), "the intent at leaf 2 is issued already");
    check(&|r| r.push(r[2].clone()), "was used before, by leaf 2");
    check(
        &|r| {
            let Record::IssuedV1(issued) = &mut r[1202] else { panic!() };
            issued.intent = LeafIndex(3);
        },
        "no intent with serial",
    );
    check(
        &|r| {
            let Record::IssuedV1(issued) = &mut r[1202] else { panic!() };
            issued.signature = bench.sign(b"other");
        },
        "does not verify over the logged TBS",
    );
    let mut records = late(&bench, 1200);
    records.truncate(1300);
    let verdict = verify_small(&bench, &records, 0);
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.open, 1200 - 98);
    let crl = bench.crl(SHARD, 1, NOW + 2000, &[]).0;
    records.push(crl);
    assert_eq!(verify_small(&bench, &records, 0).crls, 1);
}
