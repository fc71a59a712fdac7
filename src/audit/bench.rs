//! Logs for the tests of this room: an issuing CA and a log key in software, records, segments, checkpoint, CRLs.

use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use crate::env::Disk;
use crate::env::simulated::SimulatedDisk;
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::log::record::{
    AbandonedV1, AccountRegisteredV1, Actor, CeremonyV1, CrlV2, IntentV1, IssuedV1, Record,
    Requester, RevokedV1,
};
use crate::log::segment::{FRAME_HEADER, Header, file_name, origin_hash, push_frame};
use crate::pki::certificate::Certificate;
use crate::pki::crl::{self, RevokedEntry};
use crate::pki::key::PublicKey;
use crate::pki::name::Identifier;
use crate::pki::profile::Profile;
use crate::pki::rehearse::{self, Ca, CaTemplate, Leaf};
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::VerifierKey;
use crate::tlog::tree::{RightEdge, TreeHead, leaf_hash, sha256};

pub(super) const ORIGIN: &str = "ca.lan/log";
pub(super) const DIR: &str = "/log";
pub(super) const SHARD: &str = "http://ca.lan/crl/issuing-1/0.crl";
pub(super) const COMPLETE: &str = "http://ca.lan/crl/issuing.crl";
/// When everything happens, about.
pub(super) const NOW: u64 = 1_800_000_000_000;

pub(super) struct Bench {
    key: KeyPair,
    public: PublicKey,
    pub(super) issuer: Certificate,
    leaf: PublicKey,
    log: Ed25519KeyPair,
    pub(super) log_spki: Vec<u8>,
}

pub(super) fn serial(n: u16) -> Serial {
    let [high, low] = n.to_be_bytes();
    let mut octets = [0x5a; 16];
    octets[1..3].copy_from_slice(&[high, low]);
    octets[15] = low;
    Serial::from_random(octets)
}

pub(super) fn account(n: u8) -> AccountId {
    AccountId([n; 16])
}

pub(super) fn operator() -> Actor {
    Actor::Operator { uid: 0, user: "root".into() }
}

impl Bench {
    pub(super) fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_public = public(&root_key);
        let public_key = public(&key);
        let root = template(None);
        let made = |tbs: rehearse::Tbs| {
            let signature = root_key.sign(tbs.der()).unwrap();
            let algorithm = root_public.preferred_algorithm();
            Certificate::assemble(tbs.der(), algorithm, &signature).unwrap()
        };
        let root = made(rehearse::ca(&ca(&root_public, &root, serial(1), None)).unwrap());
        let issuing = template(Some(0));
        let tbs = rehearse::ca(&ca(&public_key, &issuing, serial(2), Some(&root))).unwrap();
        let issuer = made(tbs);
        let log = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut log_spki =
            vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        log_spki.extend_from_slice(log.public_key().as_ref());
        let leaf = public(&KeyPair::generate().unwrap());
        Self { key, public: public_key, issuer, leaf, log, log_spki }
    }

    /// SHA-256 over the SubjectPublicKeyInfo of every leaf.
    pub(super) fn leaf_key(&self) -> [u8; 32] {
        self.leaf.spki_sha256()
    }

    /// Of account 1.
    pub(super) fn intent(&self, n: u16, name: &str) -> IntentV1 {
        let now = Timestamp(NOW);
        let tbs = rehearse::leaf(&Leaf {
            profile: &Profile::server(),
            identifiers: &[Identifier::parse("dns", name).unwrap()],
            key: &self.leaf,
            serial: serial(n),
            now,
            not_before: None,
            not_after: None,
            issuer: &self.issuer,
            aia_url: "http://ca.lan/issuing.der",
            crl_url: SHARD,
        });
        let order = OrderId([1; 16]);
        let requester = Requester::Order { order, account: account(1), jws_sha256: [0; 32] };
        IntentV1 {
            at: now,
            serial: serial(n),
            requester,
            profile: "server".into(),
            issuer_sha256: self.issuer.fingerprint(),
            tbs: tbs.unwrap().der().to_vec(),
            validations: Vec::new(),
        }
    }

    /// The same with another serial: quicker.
    pub(super) fn another(&self, intent: &IntentV1, n: u16) -> IntentV1 {
        let mut other = intent.clone();
        let old = intent.serial.octets();
        let at = other.tbs.windows(16).position(|window| window == old).unwrap();
        other.serial = serial(n);
        other.tbs[at..at + 16].copy_from_slice(other.serial.octets());
        other
    }

    pub(super) fn issued(&self, intent: &IntentV1, leaf: u64) -> IssuedV1 {
        IssuedV1 {
            at: Timestamp(NOW + 1000),
            intent: LeafIndex(leaf),
            serial: intent.serial,
            algorithm: self.public.preferred_algorithm().identifier_der().to_vec(),
            signature: self.sign(&intent.tbs),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }

    pub(super) fn ceremony(&self) -> Record {
        Record::CeremonyV1(CeremonyV1 {
            at: Timestamp(1_700_000_000_000),
            origin: ORIGIN.into(),
            root_sha256: [0; 32],
            issuing_sha256: self.issuer.fingerprint(),
            log_key: self.log_spki.clone(),
            transcript_sha256: [0; 32],
        })
    }

    /// Ceremony, account, two intents of which one is issued and one abandoned, two CRLs.
    pub(super) fn records(&self) -> Vec<Record> {
        let (one, two) = (self.intent(3, "printer.lan"), self.intent(4, "camera.lan"));
        let crl = |number| self.crl(SHARD, number, NOW + 2000, &[]).0;
        vec![
            self.ceremony(),
            Record::AccountRegisteredV1(AccountRegisteredV1 {
                at: Timestamp(1_700_000_000_001),
                account: account(1),
                jwk: "{}".into(),
            }),
            Record::IntentV1(one.clone()),
            Record::IntentV1(two.clone()),
            Record::IssuedV1(self.issued(&one, 2)),
            Record::AbandonedV1(AbandonedV1 {
                at: Timestamp(NOW + 1500),
                intent: LeafIndex(3),
                serial: two.serial,
                reason: "test".into(),
            }),
            crl(1),
            crl(2),
        ]
    }

    /// That the certificate of this intent is revoked for a compromised key, by the operator.
    pub(super) fn revoked(&self, intent: &IntentV1, leaf: u64, at: u64) -> RevokedV1 {
        let certificate = Certificate::of_tbs(&intent.tbs).unwrap();
        RevokedV1 {
            at: Timestamp(at),
            serial: intent.serial,
            intent: LeafIndex(leaf),
            reason: Some(1),
            by: operator(),
            validations: Vec::new(),
            crl: certificate.crl_url().map(str::to_owned),
            not_after: certificate.validity().1,
            blocked_key: Some(self.leaf_key()),
        }
    }

    /// The record of a CRL, and the CRL.
    pub(super) fn crl(
        &self,
        url: &str,
        number: u64,
        at: u64,
        entries: &[RevokedEntry],
    ) -> (Record, Vec<u8>) {
        let this_update = Timestamp::from_unix_seconds(at / 1000);
        let next_update = Timestamp(this_update.0 + 86_400_000);
        let tbs = if url == COMPLETE {
            crl::tbs(&self.issuer, number, this_update, next_update, entries)
        } else {
            crl::shard_tbs(&self.issuer, url, number, this_update, next_update, entries)
        };
        let record = Record::CrlV2(CrlV2 {
            at: Timestamp(at),
            issuer_sha256: self.issuer.fingerprint(),
            crl: url.into(),
            number,
            this_update,
            next_update,
            entries: entries.len() as u64,
            tbs_sha256: sha256(&tbs),
        });
        let signature = self.sign(&tbs);
        (record, crl::assemble(&tbs, self.public.preferred_algorithm(), &signature))
    }

    /// Segments with these records, one for each part, and a checkpoint over the first `covered` of them.
    pub(super) fn disk_of(&self, parts: &[&[Record]], covered: usize) -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.create_dir(DIR.as_ref()).unwrap();
        let mut edge = RightEdge::new();
        let (mut leaves, mut base) = (0, 0);
        for part in parts {
            let header = Header { first_leaf: leaves, base, origin: origin_hash(ORIGIN) };
            let mut octets = header.encode().to_vec();
            for record in *part {
                let payload = record.encode().unwrap();
                push_frame(&mut octets, 0, &payload);
                if leaves < covered as u64 {
                    edge.push(leaf_hash(&payload));
                }
                leaves += 1;
                base += (FRAME_HEADER + payload.len()) as u64;
            }
            octets.resize(octets.len() + 300, 0);
            let name = file_name(header.first_leaf);
            disk.replace(&Path::new(DIR).join(name), &octets, true).unwrap();
        }
        let note = self.note(edge.head());
        disk.replace("/log/checkpoint".as_ref(), note.as_bytes(), true).unwrap();
        disk
    }

    /// The same in one segment.
    pub(super) fn disk(&self, records: &[Record], covered: usize) -> SimulatedDisk {
        self.disk_of(&[records], covered)
    }

    /// A checkpoint that the log key signed.
    pub(super) fn note(&self, head: TreeHead) -> String {
        let key = VerifierKey::from_spki(ORIGIN, &self.log_spki).unwrap();
        let checkpoint = Checkpoint::new(ORIGIN, head);
        let signature = self.log.sign(checkpoint.text().as_bytes()).as_ref().to_vec();
        checkpoint.signed(&key, signature).to_string()
    }
}

fn public(key: &KeyPair) -> PublicKey {
    PublicKey::from_spki(&key.subject_public_key_info()).unwrap()
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
    let now = Timestamp(NOW - 86_400_000);
    Ca { template, key, serial, now, issuer, aia_url: url, crl_url: url }
}
