//! A sound log, and for each thing that may be wrong a log with just that.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::*;
use crate::env::simulated::SimulatedDisk;
use crate::id::{AccountId, LeafIndex, OrderId, Serial};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::VerifierKey;
use crate::log::record::{
    AbandonedV1, AccountRegisteredV1, AccountRegisteredV2, Actor, CeremonyV1, CrlV1, KeyChangedV1,
    Record, Requester, TicketMintedV1,
};
use crate::log::segment::{Header, file_name, origin_hash, push_frame};
use crate::log::tree::{RightEdge, leaf_hash, sha256};
use crate::pki::key::PublicKey;
use crate::pki::rehearse::{self, Ca, CaTemplate};

const ORIGIN: &str = "ca.lan/log";
const DIR: &str = "/log";

struct Bench {
    key: KeyPair,
    public: PublicKey,
    issuer: Certificate,
    log: Ed25519KeyPair,
    log_spki: Vec<u8>,
}

fn serial(n: u8) -> Serial {
    Serial::from_random([n; 16])
}

impl Bench {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let public = PublicKey::from_spki(&key.subject_public_key_info()).unwrap();
        let template = template(None);
        let tbs = rehearse::ca(&ca(&public, &template, serial(1), None)).unwrap();
        let signature = key.sign(tbs.der()).unwrap();
        let issuer =
            Certificate::assemble(tbs.der(), public.preferred_algorithm(), &signature).unwrap();
        let log = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut log_spki =
            vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        log_spki.extend_from_slice(log.public_key().as_ref());
        Self { key, public, issuer, log, log_spki }
    }

    fn intent(&self, n: u8) -> IntentV1 {
        let template = template(Some(0));
        let tbs =
            rehearse::ca(&ca(&self.public, &template, serial(n), Some(&self.issuer))).unwrap();
        IntentV1 {
            at: Timestamp(1_800_000_000_000),
            serial: serial(n),
            requester: Requester::Order {
                order: OrderId([n; 16]),
                account: AccountId([1; 16]),
                jws_sha256: [0; 32],
            },
            profile: "test".into(),
            issuer_sha256: self.issuer.fingerprint(),
            tbs: tbs.der().to_vec(),
            validations: Vec::new(),
        }
    }

    fn issued(&self, intent: &IntentV1, leaf: u64) -> IssuedV1 {
        IssuedV1 {
            at: Timestamp(1_800_000_001_000),
            intent: LeafIndex(leaf),
            serial: intent.serial,
            algorithm: self.public.preferred_algorithm().identifier_der().to_vec(),
            signature: self.key.sign(&intent.tbs).unwrap(),
        }
    }

    /// Ceremony, account, two intents of which one is issued and one abandoned, two CRLs.
    fn records(&self) -> Vec<Record> {
        let (one, two) = (self.intent(2), self.intent(3));
        let crl = |number| {
            Record::CrlV1(CrlV1 {
                at: Timestamp(1_800_000_002_000),
                issuer_sha256: self.issuer.fingerprint(),
                number,
                this_update: Timestamp(1_800_000_002_000),
                next_update: Timestamp(1_800_000_003_000),
                entries: 1,
                tbs_sha256: [0; 32],
            })
        };
        vec![
            Record::CeremonyV1(CeremonyV1 {
                at: Timestamp(1_700_000_000_000),
                origin: ORIGIN.into(),
                root_sha256: [0; 32],
                issuing_sha256: self.issuer.fingerprint(),
                log_key: self.log_spki.clone(),
                transcript_sha256: [0; 32],
            }),
            Record::AccountRegisteredV1(AccountRegisteredV1 {
                at: Timestamp(1_700_000_000_001),
                account: AccountId([1; 16]),
                jwk: "{}".into(),
            }),
            Record::IntentV1(one.clone()),
            Record::IntentV1(two.clone()),
            Record::IssuedV1(self.issued(&one, 2)),
            Record::AbandonedV1(AbandonedV1 {
                at: Timestamp(1_800_000_001_500),
                intent: LeafIndex(3),
                serial: two.serial,
                reason: "test".into(),
            }),
            crl(1),
            crl(2),
        ]
    }

    /// One segment with these records and a checkpoint over the first `covered` of them.
    fn disk(&self, records: &[Record], covered: usize) -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.create_dir(DIR.as_ref()).unwrap();
        let header = Header { first_leaf: 0, base: 0, origin: origin_hash(ORIGIN) };
        let mut octets = header.encode().to_vec();
        let mut edge = RightEdge::new();
        for (n, record) in records.iter().enumerate() {
            let payload = record.encode().unwrap();
            push_frame(&mut octets, 0, &payload);
            if n < covered {
                edge.push(leaf_hash(&payload));
            }
        }
        octets.resize(octets.len() + 300, 0);
        disk.replace(&Path::new(DIR).join(file_name(0)), &octets, true).unwrap();
        let key = VerifierKey::from_spki(ORIGIN, &self.log_spki).unwrap();
        let checkpoint = Checkpoint::new(ORIGIN, edge.head());
        let signature = self.log.sign(checkpoint.text().as_bytes()).as_ref().to_vec();
        let note = checkpoint.signed(&key, signature).to_string();
        disk.replace("/log/checkpoint".as_ref(), note.as_bytes(), true).unwrap();
        disk
    }

    fn verify(&self, disk: &SimulatedDisk) -> Verdict {
        let evidence = Evidence {
            issuers: vec![self.issuer.clone()],
            origin: Some(ORIGIN.into()),
            log_key: Some(self.log_spki.clone()),
            checkpoints: vec!["/log/checkpoint".into(), "/log/none".into()],
            ..Evidence::default()
        };
        verify(Arc::new(disk.clone()), DIR.as_ref(), &evidence, Means::default()).unwrap()
    }
}

fn template(path_length: Option<u8>) -> CaTemplate {
    CaTemplate {
        common_name: if path_length.is_some() { "Test Issuing" } else { "Test Root" }.into(),
        organization: None,
        lifetime_days: if path_length.is_some() { 365 } else { 3650 },
        path_length,
        permitted_names: path_length.iter().map(|_| "lan".to_owned()).collect(),
        permitted_networks: Vec::new(),
    }
}

fn ca<'a>(
    key: &'a PublicKey,
    template: &'a CaTemplate,
    serial: Serial,
    issuer: Option<&'a Certificate>,
) -> Ca<'a> {
    let url = issuer.map(|_| "http://ca.lan/x");
    let now = Timestamp(1_800_000_000_000);
    Ca { template, key, serial, now, issuer, aia_url: url, crl_url: url }
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
    let account = |id: u8, jwk: &str, ticket: Option<&str>| {
        Record::AccountRegisteredV2(AccountRegisteredV2 {
            at: Timestamp(1_800_000_002_000),
            account: AccountId([id; 16]),
            jwk: jwk.into(),
            ticket: ticket.map(str::to_owned),
        })
    };
    let change = |id: u8, jwk: &str, former: &str| {
        Record::KeyChangedV1(KeyChangedV1 {
            at: Timestamp(1_800_000_002_000),
            account: AccountId([id; 16]),
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
            by: Actor::Operator { uid: 0, user: "root".into() },
        })
    };
    let cases: [(&str, Change<'_>); 18] = [
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
        ("does not verify", &|r| issued(r, &|i| i.signature = bench.key.sign(b"other").unwrap())),
        ("no intent with serial", &|r| issued(r, &|i| i.intent = LeafIndex(3))),
        ("no intent with serial", &|r| issued(r, &|i| i.serial = serial(9))),
        ("do not make a certificate", &|r| issued(r, &|i| i.algorithm = vec![0x30, 0])),
        ("is issued already", &|r| r.insert(5, r[4].clone())),
        ("used before", &|r| r.push(r[2].clone())),
        ("is abandoned already", &|r| r.push(r[5].clone())),
        ("does not rise", &|r| r.swap(6, 7)),
        ("a second ceremony", &|r| r.push(r[0].clone())),
        ("is no ceremony", &|r| drop(r.remove(0))),
    ];
    for (expected, change) in cases {
        let verdict = with(change);
        assert!(
            verdict.findings.iter().any(|finding| finding.text.contains(expected)),
            "{expected}: {verdict}"
        );
        assert_eq!(verdict.exit_code(), 1);
    }
}

#[test]
fn altered_octets_and_checkpoints_are_found() {
    let bench = Bench::new();
    let records = bench.records();
    let found = |disk: &SimulatedDisk, expected: &str| {
        let verdict = bench.verify(disk);
        assert!(
            verdict.findings.iter().any(|finding| finding.text.contains(expected)),
            "{expected}: {verdict}"
        );
    };
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
