//! For each lint, certificates that it and no other refuses.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use der::asn1::Any;
use der::{Decode, Encode};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::*;
use crate::pki::constraint::NameConstraints;
use crate::pki::name::Identifier;
use crate::pki::policy::Network;
use crate::pki::profile::{ExtendedUsage, Profile};
use crate::pki::rehearse::{self, CaTemplate, Tbs};
use crate::pki::tlv;

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

/// A leaf and what it was to be.
struct Case {
    profile: Profile,
    identifiers: Vec<Identifier>,
    issuer: Certificate,
    not_before: Option<u64>,
    aia_url: String,
    pieces: Pieces,
}

impl Case {
    fn good(common_name: bool) -> Self {
        let mut case = Self {
            profile: Profile { common_name, ..Profile::server() },
            identifiers: vec![
                Identifier::parse("dns", "nas.lan").unwrap(),
                Identifier::parse("ip", "10.1.2.3").unwrap(),
            ],
            issuer: HOUSE.issuing.clone(),
            not_before: None,
            aia_url: "http://ca.lan/issuing.crt".to_owned(),
            pieces: Pieces { fields: Vec::new(), extensions: Vec::new() },
        };
        let tbs = case.with_leaf(|leaf| rehearse::leaf(leaf).unwrap());
        case.pieces = Pieces::of(tbs.der());
        assert_eq!(case.pieces.der(), tbs.der());
        case
    }

    fn with_leaf<T>(&self, then: impl FnOnce(&Leaf<'_>) -> T) -> T {
        then(&Leaf {
            profile: &self.profile,
            identifiers: &self.identifiers,
            key: &HOUSE.leaf_key.1,
            serial: Serial::from_random([3; 16]),
            now: Timestamp::from_unix_seconds(NOW),
            not_before: self.not_before.map(Timestamp::from_unix_seconds),
            not_after: None,
            issuer: &self.issuer,
            aia_url: &self.aia_url,
            crl_url: "http://ca.lan/issuing.crl",
        })
    }

    fn findings(&self) -> Vec<&'static str> {
        let der = self.pieces.der();
        self.with_leaf(|leaf| {
            let draft = Draft::read(&der, Expected::Leaf(leaf)).unwrap();
            draft.findings().iter().map(|finding| finding.lint).collect()
        })
    }
}

type Change<T> = (&'static str, fn(&mut T));

/// Each by the one lint that refuses it. The leaf has an empty subject.
const LEAF_CHANGES: &[Change<Case>] = &[
    ("version", |case| case.pieces.fields[VERSION] = vec![0xa0, 3, 2, 1, 1]),
    ("serial-number", |case| case.pieces.fields[SERIAL] = vec![2, 1, 0]),
    ("serial-number", |case| {
        case.pieces.fields[SERIAL] = [&[2, 17, 0][..], &[0x83; 16]].concat();
    }),
    ("serial-number", |case| {
        case.pieces.fields[SERIAL] = [&[2, 16][..], &[0x44; 16]].concat();
    }),
    ("signature-algorithm", |case| {
        // ecdsa-with-SHA384 from a P-256 key.
        case.pieces.fields[ALGORITHM] = vec![0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    }),
    ("issuer-name", |case| {
        // The same text under another string type.
        case.pieces.fields[ISSUER] = tlv::sequence(&[
            &attribute(O, 0x0c, "Chancery"),
            &attribute(CN, 0x0c, "Test Issuing 1"),
        ]);
    }),
    ("issuer-is-ca", |case| {
        let mut pieces = Pieces::of(case.issuer.tbs());
        pieces.value(BC, vec![0x30, 0]);
        case.issuer = HOUSE.root_key.sign(&pieces.der());
    }),
    ("issuer-is-ca", |case| {
        let mut pieces = Pieces::of(case.issuer.tbs());
        pieces.value(KU, vec![3, 2, 7, 0x80]);
        case.issuer = HOUSE.root_key.sign(&pieces.der());
    }),
    ("time-encoding", |case| {
        let from = Timestamp::from_unix_seconds(NOW - 3600).to_string();
        let from: String = from.chars().filter(char::is_ascii_digit).collect();
        case.pieces.fields[VALIDITY] = tlv::sequence(&[
            &tlv::element(0x18, &[from.as_bytes(), b"Z"]),
            &tlv::time(Timestamp::from_unix_seconds(NOW - 3601 + 90 * DAY)),
        ]);
    }),
    ("validity-order", |case| case.pieces.dates(NOW - 3600, NOW - 3660)),
    ("validity-order", |case| case.pieces.dates(NOW - 3600, NOW - 1)),
    ("validity-start", |case| case.pieces.dates(NOW - 3601, NOW)),
    ("validity-start", |case| case.pieces.dates(NOW + 1, NOW + DAY)),
    ("validity-start", |case| {
        case.not_before = Some(NOW - DAY);
        case.pieces.dates(NOW - 2 * DAY - 1, NOW);
    }),
    ("validity-lifetime", |case| case.pieces.dates(NOW - 3600, NOW - 3600 + 90 * DAY)),
    ("validity-lifetime", |case| {
        // The order asked to begin later; the profile's lifetime still counts from now.
        case.not_before = Some(NOW + DAY);
        case.pieces.dates(NOW + DAY, NOW + 90 * DAY);
    }),
    ("validity-within-issuer", |case| {
        case.issuer = issuing_but(&issuing_template(&["lan"]), NOW + 1800);
    }),
    ("validity-within-issuer", |case| {
        let template = CaTemplate { lifetime_days: 30, ..issuing_template(&["lan"]) };
        case.issuer = issuing_but(&template, NOW - DAY);
    }),
    ("subject-key", |case| case.pieces.fields[SPKI] = HOUSE.root_key.1.spki().to_vec()),
    ("key-kind", |case| case.profile.keys = vec!["rsa-2048".to_owned(), "ec-p384".to_owned()]),
    ("unique-ids", |case| case.pieces.fields.push(vec![0x81, 2, 0, 7])),
    ("unique-ids", |case| case.pieces.fields.push(vec![0x82, 2, 0, 7])),
    ("canonical-der", |case| {
        // FALSE spelled out, where DER leaves defaults away.
        let (oid, _, value) = case.pieces.extension(SKI);
        let oid_element = tlv::element(0x06, &[oid]);
        *oid = tlv::sequence(&[&oid_element, &[1, 1, 0], &tlv::octet_string(value)]);
    }),
    ("canonical-der", |case| case.pieces.value(KU, vec![3, 2, 0, 0x80])),
    ("canonical-der", |case| case.pieces.value(BC, vec![0x30, 3, 1, 1, 0])),
    ("size", |case| {
        case.aia_url = format!("http://ca.lan/{}", "a".repeat(30_000));
        case.pieces.value(AIA, caissuers(&case.aia_url));
    }),
    ("extensions-known", |case| {
        // The poison of RFC 6962.
        let oid = vec![0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 3];
        case.pieces.extensions.push((oid, true, vec![5, 0]));
    }),
    ("extensions-once", |case| {
        let again = case.pieces.extension(EKU).clone();
        case.pieces.extensions.push(again);
    }),
    ("authority-key-id", |case| case.pieces.remove(AKI)),
    ("authority-key-id", |case| case.pieces.flip(AKI)),
    ("authority-key-id", |case| {
        let id = tlv::element(0x80, &[&HOUSE.root_key.1.key_id()]);
        case.pieces.value(AKI, tlv::sequence(&[&id]));
    }),
    ("authority-key-id", |case| {
        let id = tlv::element(0x80, &[&HOUSE.issuing_key.1.key_id()]);
        let name = tlv::element(0xa4, &[HOUSE.root.subject_der()]);
        let name = tlv::element(0xa1, &[&name]);
        case.pieces.value(AKI, tlv::sequence(&[&id, &name, &[0x82, 1, 1]]));
    }),
    ("subject-key-id", |case| case.pieces.remove(SKI)),
    ("subject-key-id", |case| case.pieces.flip(SKI)),
    ("subject-key-id", |case| case.pieces.value(SKI, tlv::octet_string(&[7; 20]))),
    ("authority-info-access", |case| case.pieces.remove(AIA)),
    ("authority-info-access", |case| case.pieces.flip(AIA)),
    ("authority-info-access", |case| {
        case.pieces.value(AIA, caissuers("http://elsewhere.lan/issuing.crt"));
    }),
    ("authority-info-access", |case| {
        // An OCSP responder beside it.
        let pair = |method: &[u8]| {
            let location = tlv::element(0x86, &[case.aia_url.as_bytes()]);
            tlv::sequence(&[method, &location])
        };
        let ocsp = [6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
        let both = tlv::sequence(&[&pair(&tlv::OID_CA_ISSUERS), &pair(&ocsp)]);
        case.pieces.value(AIA, both);
    }),
    ("crl-distribution-points", |case| case.pieces.remove(CDP)),
    ("crl-distribution-points", |case| case.pieces.flip(CDP)),
    ("crl-distribution-points", |case| {
        let name = tlv::element(0x86, &[b"http://elsewhere.lan/issuing.crl"]);
        let point = tlv::element(0xa0, &[&tlv::element(0xa0, &[&name])]);
        case.pieces.value(CDP, tlv::sequence(&[&tlv::sequence(&[&point])]));
    }),
    ("crl-distribution-points", |case| {
        // The right URL, but for some reasons only.
        let name = tlv::element(0x86, &[b"http://ca.lan/issuing.crl"]);
        let point = tlv::element(0xa0, &[&tlv::element(0xa0, &[&name])]);
        let point = tlv::sequence(&[&point, &[0x81, 2, 6, 0x40]]);
        case.pieces.value(CDP, tlv::sequence(&[&point]));
    }),
    ("plain-http", |case| {
        case.aia_url = "https://ca.lan/issuing.crt".to_owned();
        case.pieces.value(AIA, caissuers(&case.aia_url));
    }),
    ("san-criticality", |case| case.pieces.flip(SAN)),
    ("san-canonical", |case| {
        case.pieces.names(&[(0x82, b"NAS.lan"), (0x87, &[10, 1, 2, 3])]);
    }),
    ("san-names", |case| case.pieces.remove(SAN)),
    ("san-names", |case| case.pieces.names(&[(0x82, b"nas.lan")])),
    ("san-names", |case| case.pieces.names(&[(0x87, &[10, 1, 2, 3]), (0x82, b"nas.lan")])),
    ("san-names", |case| {
        case.pieces.names(&[(0x82, b"nas.lan"), (0x87, &[10, 1, 2, 3]), (0x81, b"a@nas.lan")]);
    }),
    ("san-names", |case| case.pieces.names(&[(0x82, b"nas.lan"), (0x87, &[10, 1, 2])])),
    ("san-count", |case| case.profile.max_names = 1),
    ("san-within-issuer", |case| {
        case.issuer = issuing_but(&issuing_template(&["example.lan"]), NOW - 10 * DAY);
    }),
    ("san-within-issuer", |case| {
        let template = CaTemplate {
            permitted_networks: vec!["192.168.0.0/16".to_owned()],
            ..issuing_template(&["lan"])
        };
        case.issuer = issuing_but(&template, NOW - 10 * DAY);
    }),
    ("wildcard", |case| {
        case.identifiers = vec![Identifier::parse("dns", "*.nas.lan").unwrap()];
        case.pieces.names(&[(0x82, b"*.nas.lan")]);
        case.profile.usages = vec![ExtendedUsage::Client];
        case.pieces.value(EKU, vec![0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2]);
    }),
    ("key-usage", |case| case.pieces.remove(KU)),
    ("key-usage", |case| case.pieces.flip(KU)),
    ("key-usage", |case| case.pieces.value(KU, vec![3, 2, 5, 0xa0])),
    ("key-usage", |case| case.pieces.value(KU, vec![3, 2, 2, 0x84])),
    ("extended-key-usage", |case| case.pieces.remove(EKU)),
    ("extended-key-usage", |case| case.pieces.flip(EKU)),
    ("extended-key-usage", |case| {
        case.pieces.value(EKU, vec![0x30, 6, 6, 4, 0x55, 0x1d, 0x25, 0]);
    }),
    ("basic-constraints", |case| case.pieces.remove(BC)),
    ("basic-constraints", |case| case.pieces.flip(BC)),
    ("basic-constraints", |case| case.pieces.value(BC, vec![0x30, 3, 1, 1, 0xff])),
    ("basic-constraints", |case| case.pieces.value(BC, vec![0x30, 3, 2, 1, 0])),
];

/// As above, for a leaf whose profile puts a CN into the subject.
const NAMED_LEAF_CHANGES: &[Change<Case>] = &[
    ("san-criticality", |case| case.pieces.flip(SAN)),
    ("subject-shape", |case| {
        case.pieces.fields[SUBJECT] =
            tlv::sequence(&[&attribute(CN, 0x13, "nas.lan"), &attribute(O, 0x13, "Anyone")]);
    }),
    ("subject-shape", |case| {
        case.pieces.fields[SUBJECT] = tlv::sequence(&[&attribute(O, 0x13, "Anyone")]);
    }),
    ("subject-shape", |case| case.profile.common_name = false),
    ("subject-shape", |case| {
        case.pieces.fields[SUBJECT] = tlv::sequence(&[&attribute(CN, 0x14, "nas.lan")]);
    }),
    ("common-name-in-san", |case| {
        case.pieces.fields[SUBJECT] = tlv::sequence(&[&attribute(CN, 0x13, "router.lan")]);
    }),
    ("common-name-in-san", |case| {
        case.pieces.fields[SUBJECT] = tlv::sequence(&[&attribute(CN, 0x13, "10.1.2.3")]);
    }),
    ("common-name-length", |case| {
        let long = format!("{}.{}.lan", "a".repeat(40), "b".repeat(40));
        case.identifiers.push(Identifier::parse("dns", &long).unwrap());
        case.pieces.names(&[(0x82, b"nas.lan"), (0x87, &[10, 1, 2, 3]), (0x82, long.as_bytes())]);
        case.pieces.fields[SUBJECT] = tlv::sequence(&[&attribute(CN, 0x13, &long)]);
    }),
];

/// An issuing certificate and what it was to be.
struct CaCase {
    template: CaTemplate,
    pieces: Pieces,
}

impl CaCase {
    fn good() -> Self {
        let template = issuing_template(&["lan", "home.arpa"]);
        let pieces = Pieces::of(HOUSE.issuing.tbs());
        Self { template, pieces }
    }

    fn findings(&self) -> Vec<&'static str> {
        let der = self.pieces.der();
        let house = &*HOUSE;
        let ca = issuing(&house.issuing_key.1, &self.template, &house.root, NOW - 10 * DAY);
        let draft = Draft::read(&der, Expected::Ca(&ca)).unwrap();
        draft.findings().iter().map(|finding| finding.lint).collect()
    }

    fn constrain(&mut self, change: impl FnOnce(&mut NameConstraints)) {
        let (_, _, value) = self.pieces.extension(NC);
        let mut constraints = NameConstraints::from_der(value).unwrap();
        change(&mut constraints);
        *value = constraints.to_der();
    }
}

const CA_CHANGES: &[Change<CaCase>] = &[
    ("version", |case| case.pieces.fields[VERSION] = vec![0xa0, 3, 2, 1, 1]),
    ("serial-number", |case| case.pieces.fields[SERIAL] = vec![2, 1, 0]),
    ("validity-lifetime", |case| case.template.lifetime_days -= 1),
    ("subject-key", |case| case.pieces.fields[SPKI] = HOUSE.root_key.1.spki().to_vec()),
    ("subject-key-id", |case| case.pieces.value(SKI, tlv::octet_string(&[7; 20]))),
    ("authority-key-id", |case| case.pieces.remove(AKI)),
    ("authority-info-access", |case| case.pieces.remove(AIA)),
    ("crl-distribution-points", |case| case.pieces.remove(CDP)),
    ("extensions-known", |case| {
        case.pieces.extensions.push((EKU.to_vec(), false, vec![0x30, 3, 6, 1, 0x2a]));
    }),
    ("ca-subject", |case| {
        case.pieces.fields[SUBJECT] = tlv::sequence(&[&attribute(CN, 0x13, "Test Issuing 1")]);
    }),
    ("ca-subject", |case| {
        let template = &mut case.template;
        template.organization = None;
        template.common_name = "Test Root".to_owned();
        case.pieces.fields[SUBJECT] = HOUSE.root.subject_der().to_vec();
    }),
    ("ca-basic-constraints", |case| case.pieces.remove(BC)),
    ("ca-basic-constraints", |case| case.pieces.flip(BC)),
    ("ca-basic-constraints", |case| case.pieces.value(BC, vec![0x30, 3, 2, 1, 0])),
    ("ca-path-length", |case| case.pieces.value(BC, vec![0x30, 3, 1, 1, 0xff])),
    ("ca-path-length", |case| case.pieces.value(BC, vec![0x30, 6, 1, 1, 0xff, 2, 1, 1])),
    ("ca-key-usage", |case| case.pieces.remove(KU)),
    ("ca-key-usage", |case| case.pieces.flip(KU)),
    ("ca-key-usage", |case| case.pieces.value(KU, vec![3, 2, 1, 0x86])),
    ("ca-name-constraints", |case| case.pieces.remove(NC)),
    ("ca-name-constraints", |case| case.pieces.flip(NC)),
    ("ca-name-constraints", |case| {
        case.constrain(|constraints| constraints.permitted.names.push("com".to_owned()));
    }),
    ("ca-name-constraints", |case| {
        case.constrain(|constraints| {
            constraints.permitted.networks[0] = Network::parse("10.0.0.0/7").unwrap();
        });
    }),
    ("ca-names-closed", |case| case.constrain(|constraints| constraints.excluded.uris.clear())),
    ("ca-names-closed", |case| {
        case.constrain(|constraints| constraints.excluded.networks.clear());
    }),
];

#[test]
fn the_good_ones_pass() {
    assert_eq!(Case::good(false).findings(), [""; 0]);
    assert_eq!(Case::good(true).findings(), [""; 0]);
    assert_eq!(CaCase::good().findings(), [""; 0]);
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
    let all: BTreeSet<&str> = LEAF.iter().chain(CA).map(|lint| lint.name).collect();
    assert_eq!(changed, all);
    assert!(LEAF.iter().chain(CA).all(|lint| !lint.rule.is_empty()));
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
