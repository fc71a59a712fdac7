//! Issuing certificates, good and changed in one place.

use super::*;
use crate::pki::policy::Network;

/// An issuing certificate and what it was to be.
pub(super) struct CaCase {
    template: CaTemplate,
    pieces: Pieces,
}

impl CaCase {
    pub(super) fn good() -> Self {
        let template = issuing_template(&["lan", "home.arpa"]);
        let pieces = Pieces::of(HOUSE.issuing.tbs());
        Self { template, pieces }
    }

    pub(super) fn findings(&self) -> Vec<&'static str> {
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

pub(super) const CA_CHANGES: &[Change<CaCase>] = &[
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
