//! A stranger's reader (`tests/reader/reader.py`, from docs/records.md alone) says of every record what this
//! program says.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::Value;

use crate::audit::describe::Described;
use crate::env::simulated::ManualClock;
use crate::env::system::SystemDisk;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::note::{NoteSignError, NoteSigner, VerifierKey};
use crate::log::reader::{Entry, Reader};
use crate::log::record::{CeremonyV1, IntentV1, NotARecord, Record, Requester, random, tests};
use crate::log::{Log, Opening, Release, Settings};

const ORIGIN: &str = "ca.lan/log";

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

struct Signer {
    pair: Pair,
    key: VerifierKey,
}

impl Signer {
    fn new(ed25519: bool) -> Arc<Self> {
        let (pair, mut spki, public) = if ed25519 {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
            let public = pair.public_key().as_ref().to_vec();
            (Pair::Ed25519(pair), hex("302a300506032b6570032100"), public)
        } else {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let public = pair.public_key().as_ref().to_vec();
            let spki = hex("3059301306072a8648ce3d020106082a8648ce3d030107034200");
            (Pair::P256(pair), spki, public)
        };
        spki.extend_from_slice(&public);
        Arc::new(Self { pair, key: VerifierKey::from_spki(ORIGIN, &spki).unwrap() })
    }
}

impl NoteSigner for Signer {
    fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }
    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        Ok(match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&message).as_ref().to_vec(),
            Pair::P256(pair) => {
                pair.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec()
            }
        })
    }
}

/// A log of two segments below `dir`, made by the writer, with every sample that can stand there.
fn log_in(dir: &Path, ed25519: bool) {
    let signer = Signer::new(ed25519);
    let ceremony = CeremonyV1 {
        at: Timestamp(1_000),
        origin: ORIGIN.into(),
        root_sha256: [1; 32],
        issuing_sha256: [2; 32],
        log_key: signer.key.spki().to_vec(),
        transcript_sha256: [3; 32],
    };
    let opening = Opening {
        disk: Arc::new(SystemDisk),
        dir: dir.join("log"),
        public: dir.join("public"),
        settings: Settings { segment_mib: 1, reserve_mib: 1, ..Settings::default() },
        format: crate::state::Format::OWN,
        signers: vec![signer],
        clock: Arc::new(ManualClock::new(Timestamp(5_000))),
        read_tbs: |_| None,
        on_halt: Box::new(|why| panic!("{why}")),
    };
    let log = Log::create(opening, ceremony).unwrap();
    let mut intent = LeafIndex(0);
    for (name, record) in tests::samples() {
        let record = match record {
            // The log's own, and keys that are none.
            Record::CeremonyV1(_)
            | Record::LogSucceededV1(_)
            | Record::LogKeyRotatedV1(_)
            | Record::LogKeyRetiredV1(_) => continue,
            Record::IssuedV1(issued) => {
                Record::IssuedV1(crate::log::record::IssuedV1 { intent, ..issued })
            }
            record => record,
        };
        let leaf = log.append_wait(record, Release::Durable).unwrap().leaf;
        if name == "intent-v1-order" {
            intent = leaf;
        }
    }
    for n in 0..20 {
        let large = IntentV1 {
            at: Timestamp(6_000),
            serial: Serial::from_random([n; 16]),
            requester: Requester::Own,
            profile: "_tls".into(),
            issuer_sha256: [2; 32],
            tbs: vec![n; 60_000],
            validations: Vec::new(),
        };
        log.append_wait(Record::IntentV1(large), Release::Covered).unwrap();
    }
}

fn stranger() -> Command {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reader/reader.py");
    let mut command = Command::new("python3");
    command.arg(script);
    command
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What this program says, but for what it reads from a TBS.
fn ours(entry: &Entry) -> Value {
    let mut value: Value = serde_json::from_str(&Described::of(entry).json()).unwrap();
    value.as_object_mut().unwrap().remove("names");
    value
}

#[test]
fn a_stranger_reads_our_log_and_checkpoint() {
    for ed25519 in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        log_in(dir.path(), ed25519);
        let log = dir.path().join("log");
        let checkpoint = dir.path().join("public/checkpoint");
        let read = |checkpoint: &Path| {
            let mut command = stranger();
            command.arg(&log).arg("--signatures").arg("--checkpoint").arg(checkpoint);
            command.output().unwrap()
        };
        let output = read(&checkpoint);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let reader = Reader::open(Arc::new(SystemDisk), &log).unwrap();
        assert_eq!(reader.segments().len(), 2);
        let entries = reader.entries(LeafIndex(0)).map(|entry| ours(&entry.unwrap()));
        assert_eq!(lines(&output), entries.collect::<Vec<_>>());

        // It judges: another size, a signature by nobody, a flipped bit.
        let note = std::fs::read_to_string(&checkpoint).unwrap();
        let size = note.lines().nth(1).unwrap();
        let altered = dir.path().join("altered");
        for other in [note.replacen(size, "3", 1), note.replace(ORIGIN, "other.lan/log")] {
            std::fs::write(&altered, other).unwrap();
            assert!(!read(&altered).status.success());
        }
        let (text, signature) = note.rsplit_once(' ').unwrap();
        let mut octets = signature.as_bytes().to_vec();
        octets[60] = if octets[60] == b'A' { b'B' } else { b'A' };
        std::fs::write(&altered, format!("{text} {}", String::from_utf8(octets).unwrap())).unwrap();
        assert!(!read(&altered).status.success());
        let path = log.join("00000000000000000000.seg");
        let mut octets = std::fs::read(&path).unwrap();
        octets[700] ^= 1;
        std::fs::write(&path, octets).unwrap();
        assert!(!read(&checkpoint).status.success());
    }
}

#[test]
fn a_stranger_reads_any_record_as_we_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut payloads: Vec<Vec<u8>> =
        tests::samples().iter().map(|(_, record)| record.encode().unwrap()).collect();
    payloads.extend((0..600).map(|seed| random::record(seed).encode().unwrap()));
    // A record of a later version, one cut short, one that is followed by something, one in long integers.
    payloads.extend([
        vec![0x7f, 1, 2],
        vec![6, 0],
        vec![6, 0, 0, 0],
        vec![6, 0x80, 0x00, 0x81, 0x00],
    ]);
    let input = dir.path().join("payloads");
    let text: String = payloads
        .iter()
        .map(|payload| {
            payload.iter().map(|octet| format!("{octet:02x}")).collect::<String>() + "\n"
        })
        .collect();
    std::fs::write(&input, text).unwrap();
    let output = stranger().arg("--payloads").stdin(File::open(&input).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = lines(&output);
    assert_eq!(theirs.len(), payloads.len());
    let mut seen = BTreeSet::new();
    for (payload, theirs) in payloads.into_iter().zip(theirs) {
        let record = Record::decode(&payload);
        let mut value = ours(&entry(payload, record));
        for place in ["leaf", "segment", "octet", "octets"] {
            value.as_object_mut().unwrap().remove(place);
        }
        assert_eq!(theirs, value);
        seen.insert(theirs["record"].as_str().map(str::to_owned));
    }
    assert!(seen.contains(&None), "what is no record has to be tried too");
}

#[test]
fn every_kind_can_be_asked_for() {
    for (name, record) in tests::samples() {
        assert!(Record::KINDS.contains(&record.kind()), "{name}");
    }
    let kinds: BTreeSet<_> = tests::samples().iter().map(|(_, record)| record.kind()).collect();
    assert_eq!(kinds.len(), Record::KINDS.len(), "a kind without a record");
}

#[test]
fn a_record_cannot_write_on_the_terminal() {
    let record = Record::AbandonedV1(crate::log::record::AbandonedV1 {
        at: Timestamp(0),
        intent: LeafIndex(0),
        serial: Serial::from_random([0; 16]),
        reason: "\u{1b}[2J\nno".into(),
    });
    let described = Described::of(&entry(record.encode().unwrap(), Ok(record)));
    for text in [described.row(), described.long().replace('\n', "")] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.contains("[2J"), "{text:?}");
    }
}

fn entry(payload: Vec<u8>, record: Result<Record, NotARecord>) -> Entry {
    Entry { leaf: LeafIndex(0), segment: String::new(), octet: 0, payload, record }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
