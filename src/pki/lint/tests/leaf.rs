//! Leaves, good and changed in one place.

use super::*;
use crate::pki::name::DnsName;
use crate::pki::policy::Network;
use crate::pki::profile::{ExtendedUsage, Profile};

/// A leaf and what it was to be.
pub(super) struct Case {
    profile: Profile,
    identifiers: Vec<Identifier>,
    issuer: Certificate,
    not_before: Option<u64>,
    aia_url: String,
    pub(super) pieces: Pieces,
}

impl Case {
    pub(super) fn good(common_name: bool) -> Self {
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

    /// Short-lived, with names of its profile's own.
    pub(super) fn never_revoked() -> Self {
        let mut case = Self::good(false);
        case.profile.lifetime_hours = 144;
        case.profile.no_rev_avail = true;
        case.profile.allow_names = vec![DnsName::parse("lan").unwrap()];
        case.profile.allow_networks = vec![Network::parse("10.0.0.0/8").unwrap()];
        case.pieces = Pieces::of(case.with_leaf(|leaf| rehearse::leaf(leaf).unwrap()).der());
        case
    }

    pub(super) fn with_leaf<T>(&self, then: impl FnOnce(&Leaf<'_>) -> T) -> T {
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

    pub(super) fn findings(&self) -> Vec<&'static str> {
        let der = self.pieces.der();
        self.with_leaf(|leaf| {
            let draft = Draft::read(&der, Expected::Leaf(leaf)).unwrap();
            draft.findings().iter().map(|finding| finding.lint).collect()
        })
    }
}

/// Each by the one lint that refuses it. The leaf has an empty subject.
pub(super) const LEAF_CHANGES: &[Change<Case>] = &[
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
    ("crl-distribution-points", |case| {
        // A CRL beside the word that there is none.
        case.profile.no_rev_avail = true;
        case.pieces.extensions.push((NRA.to_vec(), false, vec![5, 0]));
    }),
    ("no-rev-avail", |case| case.pieces.extensions.push((NRA.to_vec(), false, vec![5, 0]))),
    ("no-rev-avail", |case| {
        case.profile.no_rev_avail = true;
        case.pieces.remove(CDP);
    }),
    ("no-rev-avail", |case| {
        case.profile.no_rev_avail = true;
        case.pieces.remove(CDP);
        case.pieces.extensions.push((NRA.to_vec(), true, vec![5, 0]));
    }),
    ("no-rev-avail", |case| {
        case.profile.no_rev_avail = true;
        case.pieces.remove(CDP);
        case.pieces.extensions.push((NRA.to_vec(), false, vec![0x30, 0]));
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
    ("san-within-profile", |case| {
        case.profile.allow_names = vec![DnsName::parse("nas.lan").unwrap()];
    }),
    ("san-within-profile", |case| {
        case.profile.allow_names = vec![DnsName::parse("as.lan").unwrap()];
        case.profile.allow_networks = vec![Network::parse("10.1.2.0/24").unwrap()];
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
pub(super) const NAMED_LEAF_CHANGES: &[Change<Case>] = &[
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
