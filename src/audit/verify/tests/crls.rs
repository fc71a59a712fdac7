//! The published CRLs, against what the log says.

use super::*;
use crate::audit::bench::{COMPLETE, NOW, SHARD};
use crate::pki::crl::RevokedEntry;

const SHARD_FILE: &str = "/public/crl/issuing-1/0.crl";
const COMPLETE_FILE: &str = "/public/crl/issuing.crl";
/// When the printer's certificate was revoked, and when the CRLs were made.
const REVOKED: u64 = NOW + 10_000;
const MADE: u64 = NOW + 100_000;

/// What may be otherwise in a log whose CRLs list what they must.
struct Case {
    entries: Vec<RevokedEntry>,
    /// What the records say is listed.
    announced: Vec<RevokedEntry>,
    /// Behind everything.
    more: Vec<Record>,
    shard_file: &'static str,
}

fn case() -> Case {
    let entries = vec![
        RevokedEntry { serial: serial(3), at: Timestamp(REVOKED), reason: Some(1) },
        RevokedEntry { serial: serial(4), at: Timestamp(NOW + 1500), reason: None },
    ];
    Case { announced: entries.clone(), entries, more: Vec::new(), shard_file: SHARD_FILE }
}

fn judge(bench: &Bench, change: impl FnOnce(&mut Case)) -> Verdict {
    let mut case = case();
    change(&mut case);
    let mut records = bench.records();
    let Record::IntentV1(intent) = records[2].clone() else { panic!() };
    records.push(Record::RevokedV1(bench.revoked(&intent, 2, REVOKED)));
    records.push(bench.crl(SHARD, 5, MADE, &case.announced).0);
    records.push(bench.crl(COMPLETE, 6, MADE, &case.announced).0);
    records.extend(case.more);
    let disk = bench.disk(&records, records.len());
    for dir in ["/public", "/public/crl", "/public/crl/issuing-1"] {
        disk.create_dir(dir.as_ref()).unwrap();
    }
    let shard = bench.crl(SHARD, 5, MADE, &case.entries).1;
    let complete = bench.crl(COMPLETE, 6, MADE, &case.entries).1;
    disk.replace(case.shard_file.as_ref(), &shard, true).unwrap();
    disk.replace(COMPLETE_FILE.as_ref(), &complete, true).unwrap();
    let mut evidence = bench.evidence();
    let files =
        [SHARD_FILE, COMPLETE_FILE].iter().filter(|file| disk.open_read(file.as_ref()).is_ok());
    evidence.crls = Some(files.map(PathBuf::from).collect());
    evidence.now = Some(Timestamp(MADE));
    bench.verify_with(&disk, &evidence)
}

#[test]
fn what_the_log_says_is_listed_and_nothing_else() {
    let bench = Bench::new();
    let sound = judge(&bench, |_| {});
    assert!(sound.is_sound(), "{sound}");
    assert_eq!((sound.crl_files, sound.revoked), (2, 1));

    let both = |change: &dyn Fn(&mut Vec<RevokedEntry>)| {
        judge(&bench, |case| {
            change(&mut case.entries);
            case.announced.clone_from(&case.entries);
        })
    };
    for n in [0, 1] {
        let verdict = both(&|entries| {
            entries.remove(n);
        });
        let missing = format!("{SHARD_FILE}: serial {} is not listed", serial(3 + n as u16));
        found(&verdict, &missing);
        found(&verdict, &missing.replace(SHARD_FILE, COMPLETE_FILE));
        let leaf = if n == 0 { 8 } else { 5 };
        assert!(verdict.findings.iter().all(|f| f.leaf == Some(LeafIndex(leaf))), "{verdict}");
    }
    let stranger = RevokedEntry { serial: serial(9), at: Timestamp(NOW), reason: None };
    found(&both(&|entries| entries.push(stranger)), "is listed, but the log does not say so");
    found(&both(&|entries| entries[0].reason = None), "with another date or reason");
    found(&both(&|entries| entries[0].at.0 += 1000), "with another date or reason");
    // Within the second that a CRL cannot say.
    let verdict = both(&|entries| entries[0].at.0 += 999);
    assert!(verdict.is_sound(), "{verdict}");
}

#[test]
fn published_files_are_those_announced() {
    let bench = Bench::new();
    let verdict = judge(&bench, |case| case.entries[0].reason = Some(4));
    found(&verdict, "is not the one announced: another digest");
    let verdict = judge(&bench, |case| case.announced[0].reason = Some(4));
    found(&verdict, "is not the one announced: another digest");
    // An older file than the log's newest, put back long ago.
    let newer = |at| [bench.crl(SHARD, 7, at, &[]).0, bench.crl(COMPLETE, 8, at + 300_000, &[]).0];
    let verdict = judge(&bench, |case| case.more.extend(newer(MADE)));
    found(&verdict, &format!("{SHARD_FILE} is CRL number 5 of leaf 9, but number 7 was made"));
    // Just announced: the file follows.
    let verdict = judge(&bench, |case| case.more.push(bench.crl(SHARD, 7, MADE, &[]).0));
    assert!(verdict.is_sound(), "{verdict}");
    // Announced, not there, and named by a certificate that is valid.
    let later = bench.crl("http://ca.lan/other.crl", 9, MADE + 300_000, &[]).0;
    let verdict = judge(&bench, |case| {
        case.shard_file = "/public/crl/elsewhere.crl";
        case.more.push(later);
    });
    found(&verdict, &format!("the CRL at {SHARD} is not published"));
}

#[test]
fn files_that_are_no_crl_of_this_log_are_found() {
    let bench = Bench::new();
    let records = bench.records();
    let disk = bench.disk(&records, records.len());
    disk.create_dir("/public".as_ref()).unwrap();
    let mut evidence = bench.evidence();
    evidence.crls = Some(vec!["/public/a.crl".into()]);
    let publish = |der: &[u8]| disk.replace("/public/a.crl".as_ref(), der, true).unwrap();
    // The right one of the log, where its URL does not lead.
    publish(&bench.crl(SHARD, 2, NOW + 2000, &[]).1);
    found(&bench.verify_with(&disk, &evidence), "another place than its URL names");
    publish(&bench.crl(SHARD, 3, NOW + 2000, &[]).1);
    found(&bench.verify_with(&disk, &evidence), "the log knows no CRL number 3");
    publish(&Bench::new().crl(SHARD, 2, NOW + 2000, &[]).1);
    found(&bench.verify_with(&disk, &evidence), "/public/a.crl: the signature does not verify");
    publish(b"no CRL");
    found(&bench.verify_with(&disk, &evidence), "/public/a.crl: ");
}
