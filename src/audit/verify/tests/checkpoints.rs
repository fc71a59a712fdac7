//! Checkpoints under more keys than one: witnesses', and those that the log got later.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::audit::bench::NOW;
use crate::log::record::{LogKeyRetiredV1, LogKeyRotatedV1};
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::keys::statement;
use crate::tlog::note::{Note, NoteSignature};

/// A key in software.
struct Soft {
    pair: Ed25519KeyPair,
    spki: Vec<u8>,
}

impl Soft {
    fn of_seed(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        Self { pair, spki }
    }

    fn witness(&self) -> VerifierKey {
        VerifierKey::cosigner("w.lan/witness", &self.spki).unwrap()
    }

    fn log(&self) -> VerifierKey {
        VerifierKey::from_spki(ORIGIN, &self.spki).unwrap()
    }

    /// The line of `key` over the note's text.
    fn line(&self, key: &VerifierKey, note: &Note, at: u64) -> NoteSignature {
        let head = Checkpoint::parse_text(&note.text).unwrap().head;
        let message = key.message(note.text.as_bytes(), &head, Timestamp(at));
        let signature = self.pair.sign(&message);
        let octets = key.signature_octets(signature.as_ref(), Timestamp(at));
        NoteSignature { name: key.name().to_owned(), id: key.id(), octets }
    }
}

fn head(records: &[Record]) -> TreeHead {
    let mut edge = RightEdge::new();
    records.iter().for_each(|record| edge.push(leaf_hash(&record.encode().unwrap())));
    edge.head()
}

#[test]
fn cosignatures_must_verify_and_be_of_their_time() {
    let (bench, witness, stranger) = (Bench::new(), Soft::of_seed(20), Soft::of_seed(21));
    let records = bench.records();
    let disk = bench.disk(&records, records.len());
    let mut evidence = bench.evidence();
    evidence.witnesses = vec![witness.witness()];
    evidence.now = Some(Timestamp(NOW + 3_600_000));
    evidence.checkpoints.push("/witnessed".into());
    let cosigned = |lines: &[(&Soft, u64)]| {
        let mut note = Note::parse(bench.note(head(&records)).as_bytes()).unwrap();
        for (by, at) in lines {
            let line = by.line(&by.witness(), &note, *at);
            note.signatures.push(line);
        }
        note
    };
    let judge = |note: &Note| {
        disk.replace("/witnessed".as_ref(), note.to_string().as_bytes(), true).unwrap();
        bench.verify_with(&disk, &evidence)
    };
    let silent = judge(&cosigned(&[])).to_string();
    assert!(silent.contains("witness w.lan/witness cosigned none of these"), "{silent}");

    let good = cosigned(&[(&stranger, NOW), (&witness, NOW + 5_000)]);
    let verdict = judge(&good);
    assert!(verdict.is_sound(), "{verdict}");
    let seen = Cosigned {
        witness: "w.lan/witness".into(),
        size: records.len() as u64,
        at: Timestamp(NOW + 5_000),
    };
    assert_eq!((verdict.cosigned.as_slice(), verdict.cosignatures), (&[seen][..], 1));
    assert_eq!(verdict.unknown_lines, 1, "{verdict}");
    assert!(verdict.to_string().contains("witness w.lan/witness cosigned 8 records at "));

    for bit in 0..good.signatures[2].octets.len() * 8 {
        let mut other = good.clone();
        other.signatures[2].octets[bit / 8] ^= 1 << (bit % 8);
        found(&judge(&other), "/witnessed: the cosignature of witness w.lan/witness does not");
    }
    // Over another text: a line that was taken from elsewhere.
    let mut moved = cosigned(&[]);
    let other = Note::parse(bench.note(head(&records[..5])).as_bytes()).unwrap();
    moved.signatures.push(witness.line(&witness.witness(), &other, NOW));
    found(&judge(&moved), "does not verify");
    let day = 24 * 3_600_000;
    assert!(judge(&cosigned(&[(&witness, NOW - day + 60_000)])).is_sound());
    found(&judge(&cosigned(&[(&witness, NOW - day)])), "more than a day before the newest record");
    found(&judge(&cosigned(&[(&witness, NOW + 3_601_000 + day)])), "more than a day from now");
}

/// A log of eight records, then the rotation to `to`, then the retirement of its first key.
fn rotated(bench: &Bench, from: &Soft, to: &Soft) -> Vec<Record> {
    let mut records = bench.records();
    let text = statement(&from.log(), &to.log());
    let at = Timestamp(NOW + 3_000);
    records.push(Record::LogKeyRotatedV1(LogKeyRotatedV1 {
        at,
        former: from.spki.clone(),
        key: to.spki.clone(),
        endorsement: from.pair.sign(text.as_bytes()).as_ref().to_vec(),
        possession: to.pair.sign(text.as_bytes()).as_ref().to_vec(),
        until: at,
        transcript_sha256: [4; 32],
    }));
    records.push(Record::LogKeyRetiredV1(LogKeyRetiredV1 { at, key: from.spki.clone(), by: None }));
    records
}

#[test]
fn records_from_before_a_rotation_are_held_against_a_checkpoint_from_after_it() {
    // The bench's log key is of this seed.
    let (bench, from, to) = (Bench::new(), Soft::of_seed(7), Soft::of_seed(8));
    assert_eq!(bench.log_spki, from.spki);
    let records = rotated(&bench, &from, &to);
    let mut note =
        Note { text: Checkpoint::new(ORIGIN, head(&records)).text(), signatures: Vec::new() };
    note.signatures = vec![to.line(&to.log(), &note, NOW)];
    let mut evidence = bench.evidence();
    evidence.checkpoints.push("/newest".into());
    let judge = |records: &[Record], evidence: &Evidence| {
        let disk = bench.disk(records, records.len().min(8));
        disk.replace("/newest".as_ref(), note.to_string().as_bytes(), true).unwrap();
        bench.verify_with(&disk, evidence)
    };
    assert!(judge(&records, &evidence).is_sound());
    // Who has the newest key alone finds it by the rotation, also where that is in the archive's manifest.
    let newest = Evidence { log_keys: vec![to.spki.clone()], ..bench.evidence() };
    assert!(judge(&records, &newest).is_sound());
    found(&judge(&records[..8], &newest), "the log key is not the expected one");
    let stranger = Evidence { log_keys: vec![Soft::of_seed(9).spki], ..bench.evidence() };
    found(&judge(&records, &stranger), "the log key is not the expected one");
    // A copy from before: the key is unknown, or known from elsewhere, or from the archive's manifest.
    found(&judge(&records[..8], &evidence), "without a valid signature by the log's key");
    evidence.log_keys = vec![from.spki.clone(), to.spki.clone()];
    let beyond = "a checkpoint over 10 records was signed, but the log has 8";
    found(&judge(&records[..8], &evidence), beyond);
    assert!(judge(&records, &evidence).is_sound());
    evidence.log_keys = vec![from.spki.clone()];
    let later = |leaf: usize| (LeafIndex(leaf as u64), records[leaf].clone());
    evidence.later_keys = vec![later(8), later(9)];
    let verdict = judge(&records[..8], &evidence);
    found(&verdict, beyond);
    assert_eq!((verdict.findings.len(), verdict.unknown_lines), (1, 0), "{verdict}");
    // A rotation that the former key did not sign for is none.
    let Record::LogKeyRotatedV1(mut forged) = records[8].clone() else { panic!() };
    forged.endorsement = forged.possession.clone();
    evidence.later_keys = vec![(LeafIndex(8), Record::LogKeyRotatedV1(forged)), later(9)];
    found(&judge(&records[..8], &evidence), "without a valid signature by the log's key");
    // The log tells of another key than is known.
    evidence.log_keys = vec![from.spki.clone(), Soft::of_seed(9).spki];
    found(&judge(&records, &evidence), "the log key is not the expected one");
}
