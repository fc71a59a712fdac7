//! A log that the real issuer wrote, its keys in SoftHSM2, and everything that may be done to it: each is found and
//! named. The records, checkpoints, tiles and CRLs are the box's own, octet for octet; only the log is cut into three
//! segments, so that there is one to remove from the middle.
//!
//! `CHANCERY_EVERY_BIT=1` flips every bit of the log and its checkpoint instead of some.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64ct::{Base64, Encoding};
use chancery::audit::verify::{Evidence, Means, Verdict, verify};
use chancery::env::Disk;
use chancery::env::simulated::SimulatedDisk;
use chancery::id::LeafIndex;
use chancery::log::record::Record;
use chancery::log::segment::{FRAME_HEADER, HEADER, Header, file_name, parse_frame, push_frame};
use chancery::pki::certificate::Certificate;
use chancery::tlog::checkpoint::Checkpoint;
use chancery::tlog::note::{Note, NoteSignature, VerifierKey};
use chancery::tlog::tree::{RightEdge, leaf_hash};
use plant::Plant;
use plant::lab::{Options, succeed};

/// What a box left behind.
struct Real {
    origin: [u8; 32],
    /// Stated durable offset and payload of each record.
    records: Vec<(u64, Vec<u8>)>,
    /// The checkpoint when it stopped, and one from the middle of its life.
    checkpoint: Vec<u8>,
    earlier: Vec<u8>,
    /// Below `public/`: tiles and CRLs.
    published: Vec<(PathBuf, Vec<u8>)>,
    name: String,
    spki: Vec<u8>,
    issuing: String,
    /// What the program said of it, before anything was done.
    said: String,
    report: String,
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let mut plant = Plant::start(Options::default());
    let state = plant.lab.dir.join("state");
    let mut acme = plant.registered();
    let first = plant.enrol(&mut acme, &["first.tampered.test"]);
    let earlier = std::fs::read(state.join("public/checkpoint")).unwrap();
    let second = plant.enrol(&mut acme, &["second.tampered.test"]);
    assert_eq!(plant.runtime.block_on(acme.revoke(first.der(), 4)).unwrap().0, 200);
    let serial = second.serial().unwrap().to_string();
    let revoke = ["cert", "revoke", serial.as_str(), "--reason", "key-compromise", "--yes"];
    succeed(plant.lab.chancery().args(revoke));
    plant.enrol(&mut acme, &["third.tampered.test"]);
    let lab = &mut plant.lab;
    lab.stop();
    let said = succeed(lab.chancery().args(["log", "verify"]));
    let audit = ["log", "audit", "--verify", "--proofs", "--format", "html"];
    let report = succeed(lab.chancery().args(audit));

    let segment = std::fs::read(state.join("issuer/log").join(file_name(0))).unwrap();
    let origin = Header::parse(&segment).unwrap().origin;
    let mut records = Vec::new();
    let mut rest = &segment[HEADER as usize..];
    while let Ok(frame) = parse_frame(rest) {
        records.push((frame.durable, frame.payload.to_vec()));
        rest = &rest[frame.octets()..];
    }
    let mut published = Vec::new();
    files(&state.join("public"), Path::new(""), &mut published);
    let authority = std::fs::read(state.join("ca/authority.json")).unwrap();
    let authority: serde_json::Value = serde_json::from_slice(&authority).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    Real {
        origin,
        records,
        checkpoint: std::fs::read(state.join("public/checkpoint")).unwrap(),
        earlier,
        published,
        name: text(&authority["origin"]),
        spki: Base64::decode_vec(&text(&authority["log_key"]["spki"])).unwrap(),
        issuing: text(&authority["issuing"]),
        said,
        report,
    }
});

/// Tiles and the issuing certificate's CRLs.
fn files(public: &Path, below: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(public.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files(public, &path, found);
        } else if path.starts_with("tiles")
            || (path.extension().is_some_and(|end| end == "crl") && !path.ends_with("root.crl"))
        {
            found.push((path.clone(), std::fs::read(public.join(path)).unwrap()));
        }
    }
}

impl Real {
    /// The first leaf of each segment.
    fn cuts(&self) -> [usize; 3] {
        [0, self.records.len() / 3, self.records.len() * 2 / 3]
    }

    /// The box's log in three segments, its checkpoint beside it and in `public/`, and what else is public.
    fn disk(&self) -> SimulatedDisk {
        let disk = self.disk_of(&self.records, &self.checkpoint);
        for (path, octets) in &self.published {
            let path = Path::new("/public").join(path);
            disk.create_dir(path.parent().unwrap()).unwrap();
            disk.replace(&path, octets, true).unwrap();
        }
        disk
    }

    fn disk_of(&self, records: &[(u64, Vec<u8>)], checkpoint: &[u8]) -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        for dir in ["/log", "/public"] {
            disk.create_dir(dir.as_ref()).unwrap();
        }
        self.write_log(&disk, records);
        for file in ["/log/checkpoint", "/public/checkpoint"] {
            disk.replace(file.as_ref(), checkpoint, true).unwrap();
        }
        disk
    }

    /// Segments of these records, every checksum right.
    fn write_log(&self, disk: &SimulatedDisk, records: &[(u64, Vec<u8>)]) {
        for name in disk.list("/log".as_ref()).unwrap() {
            if name.ends_with(".seg") {
                disk.remove(&Path::new("/log").join(name)).unwrap();
            }
        }
        let mut base = 0;
        let [_, second, third] = self.cuts().map(|cut| cut.min(records.len()));
        let cuts = [0..second, second..third, third..records.len()];
        for part in cuts.into_iter().filter(|part| !part.is_empty()) {
            let first_leaf = part.start as u64;
            let mut octets = Header { first_leaf, base, origin: self.origin }.encode().to_vec();
            for (durable, payload) in &records[part] {
                push_frame(&mut octets, *durable, payload);
            }
            base += octets.len() as u64 - HEADER;
            octets.resize(octets.len() + 100, 0);
            disk.replace(&Path::new("/log").join(file_name(first_leaf)), &octets, true).unwrap();
        }
    }

    /// What the box knows of itself, and the files that are there.
    fn evidence(&self, disk: &SimulatedDisk) -> Evidence {
        let crls = self.published.iter().map(|(path, _)| Path::new("/public").join(path));
        let is_there = |path: &PathBuf| disk.open_read(path).is_ok();
        Evidence {
            issuers: vec![Certificate::parse_pem(&self.issuing).unwrap()],
            origin: Some(self.name.clone()),
            log_keys: vec![self.spki.clone()],
            checkpoints: vec![
                "/log/checkpoint".into(),
                "/kept".into(),
                "/public/checkpoint".into(),
            ],
            published: Some("/public/checkpoint".into()),
            crls: Some(crls.filter(|p| p.extension().is_some()).filter(is_there).collect()),
            tiles: Some("/public/tiles".into()),
            ..Evidence::default()
        }
    }

    fn verify(&self, disk: &SimulatedDisk) -> Verdict {
        let evidence = self.evidence(disk);
        verify(Arc::new(disk.clone()), "/log".as_ref(), &evidence, Means::default()).unwrap()
    }

    /// The same without what only outsiders have.
    fn verify_bare(&self, disk: &SimulatedDisk) -> Verdict {
        let mut evidence = self.evidence(disk);
        (evidence.crls, evidence.tiles) = (None, None);
        verify(Arc::new(disk.clone()), "/log".as_ref(), &evidence, Means::default()).unwrap()
    }

    /// The same records, nothing claimed to have been durable: what a forger would write.
    fn forged(&self) -> Vec<(u64, Vec<u8>)> {
        self.records.iter().map(|(_, payload)| (0, payload.clone())).collect()
    }
}

#[track_caller]
fn found(verdict: &Verdict, expected: &str) {
    let said = verdict.to_string();
    assert!(!verdict.is_sound() && said.contains(expected), "{expected}: {said}");
}

fn flip(disk: &SimulatedDisk, path: &Path, bit: u64) {
    let file = disk.open(path).unwrap();
    let mut octet = [0];
    file.read_at(bit / 8, &mut octet).unwrap();
    file.write_at(bit / 8, &[octet[0] ^ (1 << (bit % 8))]).unwrap();
}

/// All of them, or every so many.
fn bits(octets: u64, step: usize) -> impl Iterator<Item = u64> {
    let every = std::env::var_os("CHANCERY_EVERY_BIT").is_some();
    (0..octets * 8).step_by(if every { 1 } else { step })
}

#[test]
fn what_the_box_left_is_sound() {
    let real = &*REAL;
    assert!(real.said.contains("the log is sound"), "{}", real.said);
    for kind in ["ceremony", "account", "intent", "issued", "revoked", "crl", "started", "config"] {
        let is = |payload: &[u8]| Record::decode(payload).unwrap().kind() == kind;
        assert!(real.records.iter().any(|(_, payload)| is(payload)), "{kind}");
    }
    let verdict = real.verify(&real.disk());
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!(verdict.head.unwrap().size, real.records.len() as u64);
    assert_eq!((verdict.covered, verdict.checkpoints), (real.records.len() as u64, 2));
    assert_eq!((verdict.revoked, verdict.open), (2, 0));
    assert!(verdict.crl_files > 1 && verdict.issued >= 4, "{verdict}");
    // And the printable report of the same box.
    assert!(real.report.starts_with("<!DOCTYPE html>") && real.report.contains("the log is sound"));
    for name in ["first", "second", "third"] {
        assert!(real.report.contains(&format!("<td class=\"t\">{name}.tampered.test</td>")));
    }
    assert!(real.report.contains(".tlog-proof</td>"), "{}", real.report);
    assert!(real.report.contains("(uid "), "the operator is named");
}

#[test]
fn one_flipped_bit_anywhere_in_the_log_is_found_and_named() {
    let real = &*REAL;
    let disk = real.disk();
    for (n, cut) in real.cuts().into_iter().enumerate() {
        let name = file_name(cut as u64);
        let path = Path::new("/log").join(&name);
        let length = disk.open_read(&path).unwrap().len().unwrap();
        let last = real.cuts().get(n + 1).copied().unwrap_or(real.records.len());
        // Where each frame begins, and its leaf.
        let mut begins = HEADER;
        let mut places = vec![(0, cut), (HEADER, cut)];
        for (leaf, (_, payload)) in real.records.iter().enumerate().take(last).skip(cut) {
            places.push((begins, leaf));
            begins += (FRAME_HEADER + payload.len()) as u64;
        }
        // 61 and 8 have no common divisor: every bit of an octet gets its turn.
        for bit in bits(length, 61) {
            flip(&disk, &path, bit);
            let verdict = real.verify_bare(&disk);
            let said = verdict.to_string();
            let octet = bit / 8;
            if octet >= begins && n == 2 {
                // Behind the last record of all: what a crash may leave. Said, no fault.
                assert!(
                    said.contains(&format!("{name}: at octet {begins}, after the last record")),
                    "{said}"
                );
            } else {
                assert!(!verdict.is_sound(), "bit {bit} of {name}: {said}");
                assert!(said.contains(&name), "bit {bit} of {name}: {said}");
                if (HEADER..begins).contains(&octet) {
                    let (begins, leaf) = *places.iter().rfind(|(at, _)| *at <= octet).unwrap();
                    assert!(said.contains(&format!("octet {begins}")), "bit {bit}: {said}");
                    assert!(said.contains(&format!("leaf {leaf}")), "bit {bit}: {said}");
                }
            }
            flip(&disk, &path, bit);
        }
    }
    assert!(real.verify(&disk).is_sound());
}

#[test]
fn one_flipped_bit_in_a_checkpoint_a_tile_or_a_crl_is_found_and_named() {
    let real = &*REAL;
    let disk = real.disk();
    let length = real.checkpoint.len() as u64;
    for bit in bits(length, 3) {
        flip(&disk, "/public/checkpoint".as_ref(), bit);
        let verdict = real.verify_bare(&disk);
        found(&verdict, "/public/checkpoint: ");
        flip(&disk, "/public/checkpoint".as_ref(), bit);
    }
    for (path, octets) in &real.published {
        let path = Path::new("/public").join(path);
        for bit in bits(octets.len() as u64, 2311) {
            flip(&disk, &path, bit);
            let verdict = real.verify(&disk);
            let name = path.file_name().unwrap().to_str().unwrap();
            let named = verdict.findings.iter().any(|f| f.leaf.is_some() || f.text.contains(name));
            assert!(!verdict.is_sound() && named, "bit {bit} of {}: {verdict}", path.display());
            flip(&disk, &path, bit);
        }
    }
    assert!(real.verify(&disk).is_sound());
}

#[test]
fn a_removed_record_is_found_and_the_tiles_name_it() {
    let real = &*REAL;
    for leaf in 0..real.records.len() {
        let mut records = real.forged();
        records.remove(leaf);
        let disk = real.disk();
        real.write_log(&disk, &records);
        let expected =
            if leaf == 0 { "no ceremony" } else { "records was signed, but the log has" };
        found(&real.verify_bare(&disk), expected);
        let verdict = real.verify(&disk);
        let named = |text: &str| {
            verdict.findings.iter().any(|f| {
                f.text.contains(text) && f.leaf.is_none_or(|found| found == LeafIndex(leaf as u64))
            })
        };
        let last = leaf + 1 == real.records.len();
        assert!(
            named(if last { "tiles/0 has" } else { "another hash for this record" }),
            "{verdict}"
        );
    }
}

#[test]
fn two_swapped_records_are_found_and_the_tiles_name_them() {
    let real = &*REAL;
    let count = real.records.len();
    let neighbours = (1..count).map(|leaf| (leaf - 1, leaf));
    for (one, other) in neighbours.chain([(0, count - 1), (2, count / 2), (count / 3, count - 2)]) {
        let mut records = real.forged();
        records.swap(one, other);
        let disk = real.disk();
        real.write_log(&disk, &records);
        assert!(!real.verify_bare(&disk).is_sound(), "{one} {other}");
        let verdict = real.verify(&disk);
        for leaf in [one, other] {
            let leaf = Some(LeafIndex(leaf as u64));
            let here = |f: &&chancery::audit::verify::Finding| {
                f.leaf == leaf && f.text.contains("another hash for this record")
            };
            let finding = verdict.findings.iter().find(here);
            assert!(finding.is_some_and(|f| f.place.is_some()), "{one} {other}: {verdict}");
        }
    }
}

#[test]
fn a_removed_segment_is_found() {
    let real = &*REAL;
    let [first, second, third] = real.cuts().map(|cut| file_name(cut as u64));
    for (missing, named) in [(&first, &second), (&second, &first), (&third, &second)] {
        let disk = real.disk();
        disk.remove(&Path::new("/log").join(missing)).unwrap();
        let verdict = real.verify(&disk);
        assert!(!verdict.is_sound());
        let said = verdict.to_string();
        let beyond = "records was signed, but the log has";
        assert!(said.contains(named.as_str()) || said.contains(beyond), "{missing}: {said}");
    }
}

/// Another Ed25519 key, its SubjectPublicKeyInfo, and what it signs of a tree.
fn forger() -> (Ed25519KeyPair, Vec<u8>) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(pair.public_key().as_ref());
    (pair, spki)
}

fn signed_by_forger(name: &str, records: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let (pair, spki) = forger();
    let mut edge = RightEdge::new();
    records.iter().for_each(|(_, payload)| edge.push(leaf_hash(payload)));
    let checkpoint = Checkpoint::new(name, edge.head());
    let octets = pair.sign(checkpoint.text().as_bytes()).as_ref().to_vec();
    let key = VerifierKey::from_spki(name, &spki).unwrap();
    checkpoint.signed(&key, octets).to_string().into_bytes()
}

#[test]
fn a_replaced_checkpoint_is_found() {
    let real = &*REAL;
    // By somebody else's key, over a log that lacks its last record and is consistent in itself.
    let mut records = real.forged();
    records.pop();
    let disk = real.disk_of(&records, &signed_by_forger(&real.name, &records));
    let verdict = real.verify(&disk);
    found(&verdict, "/public/checkpoint: a checkpoint without a valid signature by the log's key");
    found(&verdict, "there is no checkpoint that the log key signed");
    // An older one of its own: in public alone, where the one beside the log is newer.
    let disk = real.disk();
    disk.replace("/public/checkpoint".as_ref(), &real.earlier, true).unwrap();
    found(&real.verify(&disk), "/public/checkpoint is older than /log/checkpoint");
    // In both places: what is not covered is said; and who kept one finds it.
    disk.replace("/log/checkpoint".as_ref(), &real.earlier, true).unwrap();
    let verdict = real.verify(&disk);
    assert!(verdict.to_string().contains("records are not covered by a checkpoint yet"));
    disk.replace("/kept".as_ref(), &real.checkpoint, true).unwrap();
    found(&real.verify(&disk), "/public/checkpoint is older than /kept");
}

/// A witness's cosignature line is as good as its signature, in the file where the box publishes it.
#[test]
fn a_forged_cosignature_is_found_and_its_witness_named() {
    let real = &*REAL;
    let (pair, spki) = forger();
    let witness = VerifierKey::cosigner("w.lan/witness", &spki).unwrap();
    let disk = real.disk();
    let mut evidence = real.evidence(&disk);
    evidence.witnesses = vec![witness.clone()];
    evidence.checkpoints.push("/public/checkpoint.witnessed".into());
    let mut note = Note::parse(&real.checkpoint).unwrap();
    let head = Checkpoint::parse_text(&note.text).unwrap().head;
    let now = real.verify(&disk).newest;
    let message = witness.message(note.text.as_bytes(), &head, now);
    let octets = witness.signature_octets(pair.sign(&message).as_ref(), now);
    note.signatures.push(NoteSignature { name: witness.name().into(), id: witness.id(), octets });
    let judge = |note: &Note| {
        let path = Path::new("/public/checkpoint.witnessed");
        disk.replace(path, note.to_string().as_bytes(), true).unwrap();
        verify(Arc::new(disk.clone()), "/log".as_ref(), &evidence, Means::default()).unwrap()
    };
    let verdict = judge(&note);
    assert!(verdict.is_sound(), "{verdict}");
    assert_eq!((verdict.cosignatures, verdict.cosigned[0].size), (1, head.size));
    let octets = note.signatures.last().unwrap().octets.len() as u64;
    for bit in bits(octets, 5) {
        let mut forged = note.clone();
        forged.signatures.last_mut().unwrap().octets[(bit / 8) as usize] ^= 1 << (bit % 8);
        let expected = "checkpoint.witnessed: the cosignature of witness w.lan/witness does not";
        found(&judge(&forged), expected);
    }
}

#[test]
fn a_log_signed_anew_with_other_content_is_found() {
    let real = &*REAL;
    let (_, spki) = forger();
    let mut records = real.forged();
    let Record::CeremonyV1(mut ceremony) = Record::decode(&records[0].1).unwrap() else {
        panic!("the first record is the ceremony's");
    };
    ceremony.log_key = spki;
    records[0].1 = Record::CeremonyV1(ceremony).encode().unwrap();
    let revoked =
        |(_, payload): &(u64, Vec<u8>)| matches!(Record::decode(payload), Ok(Record::RevokedV1(_)));
    let removed = records.iter().rposition(revoked).unwrap();
    records.remove(removed);
    let disk = real.disk_of(&records, &signed_by_forger(&real.name, &records));
    found(&real.verify(&disk), "the log key is not the expected one");
    // Who believes what the log says of itself, and kept a checkpoint.
    disk.replace("/kept".as_ref(), &real.checkpoint, true).unwrap();
    let mut evidence = real.evidence(&disk);
    evidence.log_keys.clear();
    let verdict = verify(Arc::new(disk), "/log".as_ref(), &evidence, Means::default()).unwrap();
    found(&verdict, "/kept: a checkpoint without a valid signature by the log's key");
}

#[test]
fn a_rolled_back_directory_is_found_by_who_kept_a_checkpoint() {
    let real = &*REAL;
    let text = String::from_utf8(real.earlier.clone()).unwrap();
    let size: usize = text.lines().nth(1).unwrap().parse().unwrap();
    let disk = real.disk_of(&real.records[..size], &real.earlier);
    // In itself it is what it was then.
    let verdict = real.verify(&disk);
    assert!(verdict.is_sound(), "{verdict}");
    disk.replace("/kept".as_ref(), &real.checkpoint, true).unwrap();
    let (now, then) = (real.records.len(), size);
    let expected =
        format!("/kept: a checkpoint over {now} records was signed, but the log has {then}");
    found(&real.verify(&disk), &expected);
}
