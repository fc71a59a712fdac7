//! For each lint, certificates that it and no other refuses.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use der::asn1::Any;
use der::{Decode, Encode};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::*;
use crate::pki::constraint::NameConstraints;
use crate::pki::key::SignatureAlgorithm;
use crate::pki::name::Identifier;
use crate::pki::rehearse::{self, CaTemplate, Tbs};
use crate::pki::tlv;

mod authority;
mod leaf;

use authority::{CA_CHANGES, CaCase};
use leaf::{Case, LEAF_CHANGES, NAMED_LEAF_CHANGES};

const DAY: u64 = 86_400;
const NOW: u64 = 1_800_000_000;

const VERSION: usize = 0;
const SERIAL: usize = 1;
const ALGORITHM: usize = 2;
const ISSUER: usize = 3;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;
const SPKI: usize = 6;

const AKI: &[u8] = &[0x55, 0x1d, 0x23];
const SKI: &[u8] = &[0x55, 0x1d, 0x0e];
const SAN: &[u8] = &[0x55, 0x1d, 0x11];
const KU: &[u8] = &[0x55, 0x1d, 0x0f];
const EKU: &[u8] = &[0x55, 0x1d, 0x25];
const BC: &[u8] = &[0x55, 0x1d, 0x13];
const CDP: &[u8] = &[0x55, 0x1d, 0x1f];
const NC: &[u8] = &[0x55, 0x1d, 0x1e];
const NRA: &[u8] = &[0x55, 0x1d, 0x38];
const AIA: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];

/// A key that signs, in software.
struct Key(KeyPair, PublicKey);

impl Key {
    fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let public = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
        Self(pair, public)
    }

    fn sign(&self, tbs: &[u8]) -> Certificate {
        let signature = self.0.sign(tbs).unwrap();
        Certificate::assemble(tbs, self.1.preferred_algorithm(), &signature).unwrap()
    }
}

struct House {
    root_key: Key,
    root: Certificate,
    issuing_key: Key,
    issuing: Certificate,
    leaf_key: Key,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let (root_key, issuing_key, leaf_key) = (Key::new(), Key::new(), Key::new());
    let root = root_key.sign(rehearse::ca(&root(&root_key.1, &root_template())).unwrap().der());
    let template = issuing_template(&["lan", "home.arpa"]);
    let tbs = rehearse::ca(&issuing(&issuing_key.1, &template, &root, NOW - 10 * DAY)).unwrap();
    let issuing = root_key.sign(tbs.der());
    House { root_key, root, issuing_key, issuing, leaf_key }
});

fn root_template() -> CaTemplate {
    CaTemplate {
        common_name: "Test Root".to_owned(),
        organization: None,
        lifetime_days: 3650,
        path_length: None,
        permitted_names: Vec::new(),
        permitted_networks: Vec::new(),
    }
}

fn issuing_template(names: &[&str]) -> CaTemplate {
    CaTemplate {
        common_name: "Test Issuing 1".to_owned(),
        organization: Some("Chancery".to_owned()),
        lifetime_days: 1825,
        path_length: Some(0),
        permitted_names: names.iter().map(|name| (*name).to_owned()).collect(),
        permitted_networks: vec!["10.0.0.0/8".to_owned()],
    }
}

fn root<'a>(key: &'a PublicKey, template: &'a CaTemplate) -> Ca<'a> {
    Ca {
        template,
        key,
        serial: Serial::from_random([1; 16]),
        now: Timestamp::from_unix_seconds(NOW - 20 * DAY),
        issuer: None,
        aia_url: None,
        crl_url: None,
    }
}

fn issuing<'a>(
    key: &'a PublicKey,
    template: &'a CaTemplate,
    root: &'a Certificate,
    now: u64,
) -> Ca<'a> {
    Ca {
        template,
        key,
        serial: Serial::from_random([2; 16]),
        now: Timestamp::from_unix_seconds(now),
        issuer: Some(root),
        aia_url: Some("http://ca.lan/root.crt"),
        crl_url: Some("http://ca.lan/root.crl"),
    }
}

/// The issuing certificate's name and key under other circumstances.
fn issuing_but(template: &CaTemplate, now: u64) -> Certificate {
    let house = &*HOUSE;
    let tbs = rehearse::ca(&issuing(&house.issuing_key.1, template, &house.root, now)).unwrap();
    house.root_key.sign(tbs.der())
}

/// A TBSCertificate in pieces: seven fields, then what may stand before the extensions.
struct Pieces {
    fields: Vec<Vec<u8>>,
    extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
}

impl Pieces {
    fn of(der: &[u8]) -> Self {
        let mut fields: Vec<Vec<u8>> = Vec::<Any>::from_der(der)
            .unwrap()
            .iter()
            .map(|field| field.to_der().unwrap())
            .collect();
        let extensions = Any::from_der(&fields.pop().unwrap()).unwrap();
        let extensions = Vec::<Extension>::from_der(extensions.value())
            .unwrap()
            .into_iter()
            .map(|extension| {
                let oid = extension.extn_id.as_bytes().to_vec();
                (oid, extension.critical, extension.extn_value.as_bytes().to_vec())
            })
            .collect();
        Self { fields, extensions }
    }

    fn der(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(oid, critical, value)| {
                // An OID tagged already stands for an extension written by the test.
                match oid.first() {
                    Some(0x30) => oid.clone(),
                    _ => tlv::extension(&tlv::element(0x06, &[oid]), *critical, value),
                }
            })
            .collect();
        let mut parts: Vec<&[u8]> = self.fields.iter().map(Vec::as_slice).collect();
        let extensions = tlv::element(0xa3, &[&tlv::sequence(&[&extensions])]);
        parts.push(&extensions);
        tlv::sequence(&parts)
    }

    fn extension(&mut self, oid: &[u8]) -> &mut (Vec<u8>, bool, Vec<u8>) {
        self.extensions.iter_mut().find(|extension| extension.0 == oid).unwrap()
    }

    fn value(&mut self, oid: &[u8], value: Vec<u8>) {
        self.extension(oid).2 = value;
    }

    fn flip(&mut self, oid: &[u8]) {
        let critical = &mut self.extension(oid).1;
        *critical = !*critical;
    }

    fn remove(&mut self, oid: &[u8]) {
        self.extensions.retain(|extension| extension.0 != oid);
    }

    fn dates(&mut self, from: u64, until: u64) {
        let time = |at| tlv::time(Timestamp::from_unix_seconds(at));
        self.fields[VALIDITY] = tlv::sequence(&[&time(from), &time(until)]);
    }

    fn names(&mut self, names: &[(u8, &[u8])]) {
        let names: Vec<u8> =
            names.iter().flat_map(|(tag, name)| tlv::element(*tag, &[name])).collect();
        self.value(SAN, tlv::sequence(&[&names]));
    }
}

fn attribute(oid: &[u8], tag: u8, text: &str) -> Vec<u8> {
    let pair =
        tlv::sequence(&[&tlv::element(0x06, &[oid]), &tlv::element(tag, &[text.as_bytes()])]);
    tlv::element(0x31, &[&pair])
}

const CN: &[u8] = &[0x55, 4, 3];
const O: &[u8] = &[0x55, 4, 10];

fn caissuers(url: &str) -> Vec<u8> {
    let location = tlv::element(0x86, &[url.as_bytes()]);
    tlv::sequence(&[&tlv::sequence(&[&tlv::OID_CA_ISSUERS, &location])])
}

type Change<T> = (&'static str, fn(&mut T));

#[test]
fn the_good_ones_pass() {
    assert_eq!(Case::good(false).findings(), [""; 0]);
    assert_eq!(Case::good(true).findings(), [""; 0]);
    assert_eq!(CaCase::good().findings(), [""; 0]);
    let mut short = Case::never_revoked();
    assert_eq!(short.findings(), [""; 0]);
    assert_eq!(*short.pieces.extension(NRA), (NRA.to_vec(), false, vec![5, 0]));
    assert!(short.pieces.extensions.iter().all(|(oid, ..)| oid != CDP));
}

#[test]
fn each_change_is_refused_by_one_lint_alone() {
    for (i, (lint, change)) in LEAF_CHANGES.iter().enumerate() {
        let mut case = Case::good(false);
        change(&mut case);
        assert_eq!(case.findings(), [*lint], "leaf change {i}");
    }
    for (i, (lint, change)) in NAMED_LEAF_CHANGES.iter().enumerate() {
        let mut case = Case::good(true);
        change(&mut case);
        assert_eq!(case.findings(), [*lint], "named leaf change {i}");
    }
    for (i, (lint, change)) in CA_CHANGES.iter().enumerate() {
        let mut case = CaCase::good();
        change(&mut case);
        assert_eq!(case.findings(), [*lint], "CA change {i}");
    }
}

#[test]
fn every_lint_has_its_certificate() {
    let changed: BTreeSet<&str> = LEAF_CHANGES
        .iter()
        .chain(NAMED_LEAF_CHANGES)
        .map(|(lint, _)| *lint)
        .chain(CA_CHANGES.iter().map(|(lint, _)| *lint))
        .collect();
    let lints = || [SHARED, LEAF, CA].into_iter().flatten();
    let all: BTreeSet<&str> = lints().map(|lint| lint.name).collect();
    assert_eq!(changed, all);
    assert!(lints().all(|lint| !lint.rule.is_empty()));
}

/// What each kind of issuing key must not be said to sign with, though it is nearly that.
#[test]
fn an_algorithm_is_exactly_the_issuing_keys() {
    let house = &*HOUSE;
    let rsa = PublicKey::from_spki(
        &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().subject_public_key_info(),
    )
    .unwrap();
    let ml_dsa = PublicKey::from_spki(
        &KeyPair::generate_for(&rcgen::PKCS_ML_DSA_65).unwrap().subject_public_key_info(),
    )
    .unwrap();
    let pss = |algorithm| rsa.clone().signing_with(algorithm).unwrap();
    for issuer in [
        pss(SignatureAlgorithm::RsaPssSha256),
        pss(SignatureAlgorithm::RsaPssSha384),
        pss(SignatureAlgorithm::RsaSha384),
        ml_dsa,
    ] {
        let template = issuing_template(&["lan"]);
        let due = issuer.preferred_algorithm();
        let tbs = rehearse::ca(&issuing(&issuer, &template, &house.root, NOW - 10 * DAY)).unwrap();
        let certificate = house.root_key.sign(tbs.der()).whose_key_signs_as(&issuer);
        let identifiers = [Identifier::parse("dns", "nas.lan").unwrap()];
        let profile = crate::pki::profile::Profile::server();
        let leaf = Leaf {
            profile: &profile,
            identifiers: &identifiers,
            key: &house.leaf_key.1,
            serial: Serial::from_random([3; 16]),
            now: Timestamp::from_unix_seconds(NOW),
            not_before: None,
            not_after: None,
            issuer: &certificate,
            aia_url: "http://ca.lan/issuing.crt",
            crl_url: "http://ca.lan/issuing.crl",
        };
        let tbs = rehearse::leaf(&leaf).unwrap();
        let good = Pieces::of(tbs.der());
        assert_eq!(good.fields[ALGORITHM], due.identifier_der());
        let mut wrong: Vec<Vec<u8>> = SignatureAlgorithm::ALL
            .into_iter()
            .filter(|other| *other != due)
            .map(|other| other.identifier_der().to_vec())
            .collect();
        // PSS: another salt; ML-DSA: NULL where nothing stands.
        let mut salt = due.identifier_der().to_vec();
        *salt.last_mut().unwrap() ^= 0x10;
        wrong.push(salt);
        let content = Any::from_der(due.identifier_der()).unwrap();
        wrong.push(tlv::sequence(&[content.value(), &tlv::NULL]));
        for identifier in wrong {
            let mut pieces = Pieces::of(tbs.der());
            pieces.fields[ALGORITHM] = identifier;
            let der = pieces.der();
            let Ok(draft) = Draft::read(&der, Expected::Leaf(&leaf)) else { continue };
            let found: Vec<_> = draft.findings().iter().map(|finding| finding.lint).collect();
            assert_eq!(found, ["signature-algorithm"], "{due:?}");
        }
    }
}

#[test]
fn a_root_has_no_authority_key_id_and_no_constraints_unasked() {
    let house = &*HOUSE;
    let template = root_template();
    let ca = root(&house.root_key.1, &template);
    let findings = |pieces: &Pieces| {
        let der = pieces.der();
        let draft = Draft::read(&der, Expected::Ca(&ca)).unwrap();
        draft.findings().iter().map(|finding| finding.lint).collect::<Vec<_>>()
    };
    let mut pieces = Pieces::of(house.root.tbs());
    assert_eq!(findings(&pieces), [""; 0]);
    let id = tlv::element(0x80, &[&house.root_key.1.key_id()]);
    pieces.extensions.push((AKI.to_vec(), false, tlv::sequence(&[&id])));
    assert_eq!(findings(&pieces), ["authority-key-id"]);
    let mut pieces = Pieces::of(house.root.tbs());
    let closing = NameConstraints::closing(vec!["lan".to_owned()], Vec::new());
    pieces.extensions.push((NC.to_vec(), true, closing.to_der()));
    assert_eq!(findings(&pieces), ["ca-name-constraints"]);
}

#[test]
fn what_does_not_parse_reaches_no_lint() {
    let case = Case::good(false);
    let der = case.pieces.der();
    case.with_leaf(|leaf| {
        for cut in 0..der.len() {
            assert!(Draft::read(&der[..cut], Expected::Leaf(leaf)).is_err());
        }
        assert!(Draft::read(&[&der[..], &[0]].concat(), Expected::Leaf(leaf)).is_err());
    });
}

#[test]
fn the_rehearsed_bytes_are_the_judged_bytes() {
    let case = Case::good(true);
    let tbs: Tbs = case.with_leaf(|leaf| rehearse::leaf(leaf).unwrap());
    assert_eq!(tbs.der(), case.pieces.der());
    assert_eq!(tbs.serial(), Serial::from_random([3; 16]));
    assert_eq!(tbs.validity().0, Timestamp::from_unix_seconds(NOW - 3600));
    assert_eq!(tbs.validity().1, Timestamp::from_unix_seconds(NOW - 3601 + 90 * DAY));
}
