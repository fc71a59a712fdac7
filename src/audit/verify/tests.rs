//! A sound log, and for each thing that may be wrong a log with just that.

mod checkpoints;
mod crls;
mod size;
mod tiles;

use super::*;
use crate::audit::bench::{Bench, DIR, ORIGIN, account as id, operator, serial};
use crate::env::simulated::SimulatedDisk;
use crate::id::LeafIndex;
use crate::log::record::{
    AccountDeactivatedV1, AccountRegisteredV2, IssuedV1, KeyChangedV1, RecallEndedV1, RecallV1,
    Record, RevokedV1, TicketMintedV1, TicketRevokedV1,
};
use crate::log::segment::file_name;
use crate::tlog::tree::{RightEdge, TreeHead, leaf_hash, sha256};

impl Bench {
    fn evidence(&self) -> Evidence {
        Evidence {
            issuers: vec![self.issuer.clone()],
            origin: Some(ORIGIN.into()),
            log_keys: vec![self.log_spki.clone()],
            checkpoints: vec!["/log/checkpoint".into(), "/log/none".into()],
            ..Evidence::default()
        }
    }

    fn verify(&self, disk: &SimulatedDisk) -> Verdict {
        self.verify_with(disk, &self.evidence())
    }

    fn verify_with(&self, disk: &SimulatedDisk, evidence: &Evidence) -> Verdict {
        verify(Arc::new(disk.clone()), DIR.as_ref(), evidence, Means::default()).unwrap()
    }
}

#[track_caller]
fn found(verdict: &Verdict, expected: &str) {
    assert!(
        verdict.findings.iter().any(|finding| finding.text.contains(expected)),
        "{expected}: {verdict}"
    );
    assert_eq!(verdict.exit_code(), 1);
}

#[test]
fn a_sound_log_is_sound() {
    let bench = Bench::new();
    let records = bench.records();
    let verdict = bench.verify(&bench.disk(&records, 8));
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.exit_code(), 0);
    assert_eq!((verdict.intents, verdict.issued, verdict.abandoned, verdict.open), (2, 1, 1, 0));
    assert_eq!((verdict.covered, verdict.checkpoints, verdict.crls), (8, 1, 2));
    // What is not covered yet, and an intent that waits, are no faults.
    let verdict = bench.verify(&bench.disk(&records[..4], 3));
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!((verdict.open, verdict.covered, verdict.notes.len()), (2, 3, 3));
}

#[test]
fn every_contradiction_is_found() {
    let bench = Bench::new();
    let with = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = bench.records();
        change(&mut records);
        bench.verify(&bench.disk(&records, records.len()))
    };
    let issued = |records: &mut Vec<Record>, change: &dyn Fn(&mut IssuedV1)| {
        if let Record::IssuedV1(issued) = &mut records[4] {
            change(issued);
        }
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<Record>);
    let account = |n: u8, jwk: &str, ticket: Option<&str>| {
        Record::AccountRegisteredV2(AccountRegisteredV2 {
            at: Timestamp(1_800_000_002_000),
            account: id(n),
            jwk: jwk.into(),
            ticket: ticket.map(str::to_owned),
        })
    };
    let change = |n: u8, jwk: &str, former: &str| {
        Record::KeyChangedV1(KeyChangedV1 {
            at: Timestamp(1_800_000_002_000),
            account: id(n),
            jwk: jwk.into(),
            former: sha256(former.as_bytes()),
            jws_sha256: [0; 32],
        })
    };
    let ticket = || {
        Record::TicketMintedV1(TicketMintedV1 {
            at: Timestamp(1_800_000_002_000),
            ticket: "t".into(),
            uses: 1,
            expires: Timestamp(1_900_000_000_000),
            constraints_sha256: [0; 32],
            by: operator(),
        })
    };
    let ticket_end = |at| {
        let (ticket, by) = ("t".to_owned(), operator());
        Record::TicketRevokedV1(TicketRevokedV1 { at: Timestamp(at), ticket, by })
    };
    let late = |mut record: Record| {
        if let Record::AccountRegisteredV2(r) = &mut record {
            r.at = Timestamp(1_800_000_200_000);
        }
        record
    };
    let deactivated = |at| {
        let (account, by) = (id(1), operator());
        Record::AccountDeactivatedV1(AccountDeactivatedV1 { at: Timestamp(at), account, by })
    };
    let recall = || {
        Record::RecallV1(RecallV1 {
            at: Timestamp(1_800_000_002_000),
            profile: None,
            serial: None,
            issued_from: None,
            issued_until: Timestamp(1_800_000_002_000),
            start: Timestamp(1_800_000_002_000),
            end: Timestamp(1_800_000_003_000),
            explanation: None,
            by: operator(),
        })
    };
    let recall_end = |leaf| {
        let (at, by) = (Timestamp(1_800_000_002_000), operator());
        Record::RecallEndedV1(RecallEndedV1 { at, recall: LeafIndex(leaf), by })
    };
    let revoked = |records: &[Record], change: &dyn Fn(&mut RevokedV1)| {
        let Record::IntentV1(intent) = &records[2] else { panic!() };
        let mut revoked = bench.revoked(intent, 2, 1_800_000_002_000);
        change(&mut revoked);
        Record::RevokedV1(revoked)
    };
    let cases: [(&str, Change<'_>); 38] = [
        ("had ended", &|r| {
            r.extend([ticket(), ticket_end(1_800_000_002_000), late(account(2, "2", Some("t")))]);
        }),
        ("never minted", &|r| r.push(ticket_end(1_800_000_002_000))),
        ("was deactivated", &|r| {
            r.push(deactivated(1_799_999_000_000));
            r.push(r[2].clone());
        }),
        ("deactivated 2027-01-15T08:00:02Z already", &|r| {
            r.extend([deactivated(1_800_000_002_000), deactivated(1_800_000_002_000)]);
        }),
        ("was deactivated", &|r| {
            r.extend([deactivated(1_799_999_000_000), change(1, "[]", "{}")]);
        }),
        ("leaf 2 is no recall", &|r| r.push(recall_end(2))),
        ("had ended", &|r| r.extend([recall(), recall_end(8), recall_end(8)])),
        ("but a record before it says", &|r| r.push(deactivated(1_799_999_000_000))),
        ("is revoked, but was revoked before", &|r| {
            r.extend([revoked(r, &|_| {}), revoked(r, &|_| {})]);
        }),
        ("is revoked, but was never issued", &|r| r.insert(4, revoked(r, &|_| {}))),
        ("is revoked, but is abandoned", &|r| {
            r.push(revoked(r, &|r| (r.intent, r.serial) = (LeafIndex(3), serial(4))));
        }),
        ("no intent with serial", &|r| r.push(revoked(r, &|r| r.intent = LeafIndex(1)))),
        ("no intent with serial", &|r| r.push(revoked(r, &|r| r.intent = LeafIndex(99)))),
        ("names another CRL", &|r| r.push(revoked(r, &|r| r.crl = None))),
        ("says another end", &|r| r.push(revoked(r, &|r| r.not_after.0 += 1000))),
        ("is not blocked", &|r| r.push(revoked(r, &|r| r.blocked_key = None))),
        ("not the certificate's", &|r| r.push(revoked(r, &|r| r.blocked_key = Some([0; 32])))),
        ("nobody who may", &|r| r.push(revoked(r, &|r| r.reason = None))),
        ("no intent with serial", &|r| issued(r, &|i| i.intent = LeafIndex(4))),
        ("no intent with serial", &|r| issued(r, &|i| i.intent = LeafIndex(0))),
        ("was registered before", &|r| r.push(account(1, "[]", None))),
        ("the key is account", &|r| r.push(account(2, "{}", None))),
        ("never minted", &|r| r.push(account(2, "[]", Some("t")))),
        ("minted before", &|r| r.extend([ticket(), ticket()])),
        ("used up", &|r| {
            r.extend([ticket(), account(2, "2", Some("t")), account(3, "3", Some("t"))]);
        }),
        ("is not account", &|r| r.push(change(1, "[]", "other"))),
        ("the new key is account", &|r| r.extend([account(2, "2", None), change(1, "2", "{}")])),
        ("never registered", &|r| drop(r.remove(1))),
        ("does not verify", &|r| issued(r, &|i| i.signature = bench.sign(b"other"))),
        ("no intent with serial", &|r| issued(r, &|i| i.intent = LeafIndex(3))),
        ("no intent with serial", &|r| issued(r, &|i| i.serial = serial(99))),
        ("do not make a certificate", &|r| issued(r, &|i| i.algorithm = vec![0x30, 0])),
        ("is issued already", &|r| r.insert(5, r[4].clone())),
        ("used before", &|r| r.push(r[2].clone())),
        ("is abandoned already", &|r| r.push(r[5].clone())),
        ("does not rise", &|r| r.swap(6, 7)),
        ("a second ceremony", &|r| r.push(r[0].clone())),
        ("is no ceremony", &|r| drop(r.remove(0))),
    ];
    for (expected, change) in cases {
        found(&with(change), expected);
    }
    // What is in order, of the same kinds.
    let verdict = with(&|r| {
        r.extend([ticket(), account(2, "2", Some("t")), ticket_end(1_800_000_002_000)]);
        r.extend([revoked(r, &|_| {}), recall(), recall_end(12), change(2, "3", "2")]);
        r.push(deactivated(1_800_000_002_000));
    });
    assert!(verdict.is_sound(), "{verdict}");
}

#[test]
fn altered_octets_and_checkpoints_are_found() {
    let bench = Bench::new();
    let records = bench.records();
    let found = |disk: &SimulatedDisk, expected: &str| found(&bench.verify(disk), expected);
    // A record that is altered together with its checksum: only the checkpoint tells.
    let disk = bench.disk(&records, 8);
    let note = disk.read("/log/checkpoint".as_ref(), 4096).unwrap();
    let mut altered = records.clone();
    if let Record::AccountRegisteredV1(account) = &mut altered[1] {
        account.jwk = "{ }".into();
    }
    let disk = bench.disk(&altered, 8);
    disk.replace("/log/checkpoint".as_ref(), &note, true).unwrap();
    found(&disk, "states another tree");
    // Records missing at the end.
    let disk = bench.disk(&records[..7], 7);
    disk.replace("/log/checkpoint".as_ref(), &note, true).unwrap();
    found(&disk, "over 8 records was signed, but the log has 7");
    // A checkpoint that nobody signed, and none at all.
    let forged = String::from_utf8(note.clone()).unwrap().replacen("\n8\n", "\n7\n", 1);
    disk.replace("/log/checkpoint".as_ref(), forged.as_bytes(), true).unwrap();
    found(&disk, "without a valid signature");
    disk.remove("/log/checkpoint".as_ref()).unwrap();
    found(&disk, "no checkpoint that the log key signed");
    // An octet in the middle.
    let disk = bench.disk(&records, 8);
    let segment = Path::new(DIR).join(file_name(0));
    let file = disk.open(&segment).unwrap();
    file.write_at(280, b"\xff\xff\xff").unwrap();
    found(&disk, "over 8 records was signed, but the log has 1");
    // Another CA's expectations.
    let mut stranger = Bench::new();
    stranger.log_spki[40] ^= 1;
    let verdict = stranger.verify(&bench.disk(&records, 8));
    let texts: Vec<&str> = verdict.findings.iter().map(|f| f.text.as_str()).collect();
    assert!(texts.contains(&"the log key is not the expected one"), "{verdict}");
    assert!(texts.contains(&"the issuing certificate is not the ceremony's"), "{verdict}");
}

#[test]
fn findings_name_leaf_segment_and_octet() {
    let bench = Bench::new();
    let mut records = bench.records();
    records.swap(6, 7);
    let verdict = bench.verify(&bench.disk_of(&[&records[..5], &records[5..]], 8));
    let [finding] = verdict.findings.as_slice() else { panic!("{verdict}") };
    let octet =
        64 + [5, 6].map(|n| 16 + records[n].encode().unwrap().len() as u64).iter().sum::<u64>();
    assert_eq!(finding.leaf, Some(LeafIndex(7)));
    assert_eq!(finding.place, Some(Place { segment: file_name(5), octet }));
    assert!(
        finding.to_string().starts_with(&format!("leaf 7 ({}, octet {octet}): ", file_name(5)))
    );
}

#[test]
fn what_stands_outside_of_frames_is_found() {
    let bench = Bench::new();
    let records = bench.records();
    let parts = [&records[..3], &records[3..5], &records[5..]];
    let disk = bench.disk_of(&parts, 8);
    assert!(bench.verify(&disk).is_sound());
    // Behind the last frame of a segment that is complete.
    let path = Path::new(DIR).join(file_name(3));
    let octets = disk.read(&path, 1 << 20).unwrap();
    let write = |at: u64, octets: &[u8]| disk.open(&path).unwrap().write_at(at, octets).unwrap();
    write(octets.len() as u64 - 1, &[1]);
    found(
        &bench.verify(&disk),
        &format!("{}: there is something at octet {}", file_name(3), octets.len() - 1),
    );
    write(octets.len() as u64 - 1, &[0]);
    // Behind the log's last frame it may be what a crash left: said, and no fault.
    let last = Path::new(DIR).join(file_name(5));
    let end = disk.read(&last, 1 << 20).unwrap().len() as u64;
    disk.open(&last).unwrap().write_at(end - 1, &[1]).unwrap();
    let verdict = bench.verify(&disk);
    assert!(verdict.is_sound(), "{verdict}");
    assert!(verdict.notes.iter().any(|note| note.contains("unfinished write")), "{verdict}");
    // A segment that is away: in the middle, at the beginning, at the end.
    for (missing, expected) in
        [(3, "octet"), (0, "one before it is missing"), (5, "was signed, but the log has 5")]
    {
        let disk = bench.disk_of(&parts, 8);
        disk.remove(&Path::new(DIR).join(file_name(missing))).unwrap();
        found(&bench.verify(&disk), expected);
    }
}

#[test]
fn checkpoints_that_contradict_each_other_are_found() {
    let bench = Bench::new();
    let records = bench.records();
    let disk = bench.disk(&records, 8);
    let mut evidence = bench.evidence();
    let mut keep = |name: &str, head: TreeHead| {
        let path = Path::new("/log").join(name);
        disk.replace(&path, bench.note(head).as_bytes(), true).unwrap();
        evidence.checkpoints.push(path);
    };
    let edge = |n: usize| {
        let mut edge = RightEdge::new();
        records[..n].iter().for_each(|r| edge.push(leaf_hash(&r.encode().unwrap())));
        edge.head()
    };
    keep("nothing", edge(0));
    keep("early", edge(3));
    let verdict = bench.verify_with(&disk, &evidence);
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!((verdict.checkpoints, verdict.covered), (3, 8));
    // Of a log that was another from the fourth record on.
    let mut evidence = bench.evidence();
    let mut keep = |name: &str, head: TreeHead| {
        let path = Path::new("/log").join(name);
        disk.replace(&path, bench.note(head).as_bytes(), true).unwrap();
        evidence.checkpoints.push(path);
    };
    keep("early", edge(3));
    keep("other", TreeHead { size: 6, root: [6; 32] });
    keep("ahead", TreeHead { size: 20, root: [1; 32] });
    keep("split", TreeHead { size: 20, root: [2; 32] });
    let verdict = bench.verify_with(&disk, &evidence);
    found(&verdict, "/log/other: a signed checkpoint over 6 records states another tree");
    found(&verdict, "with one over 3 records it still agrees");
    found(&verdict, "/log/ahead: a checkpoint over 20 records was signed, but the log has 8");
    found(&verdict, "/log/split and /log/ahead: two trees of 20 records were signed");
}
