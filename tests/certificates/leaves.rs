//! Leaves: keys, subjects, names, purposes, dates.

use std::sync::LazyLock;
use std::time::Duration;

use chancery::id::Serial;
use chancery::pki::crl;
use chancery::pki::name::Identifier;
use chancery::pki::profile::{ExtendedUsage, Profile};
use chancery::pki::rehearse::{self, Ca, CaTemplate, Leaf, RehearsalError};
use proptest::prelude::*;
use webpki::KeyUsage;

use crate::chain::{
    Chain, DAY, Key, NOW, at, identifier, issuing_template, named, pem, root_template,
    shipped_profiles,
};

/// Each shipped profile, as strangers see it: OpenSSL by purpose, rustls-webpki by usage, and what it says of
/// revocation.
#[test]
fn every_shipped_profile_is_accepted_for_what_it_is_and_nothing_else() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let crl = chain.issuing_crl(&[]);
    let profiles = shipped_profiles();
    let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names, ["client", "codesign", "device", "post-quantum", "server", "short-lived"]);
    for profile in &profiles {
        let leaf = chain.issue(profile, &["nas.lan"], &key.public);
        let name = &profile.name;
        // What is never revoked names no CRL, so those who insist on one are not asked.
        let checked = if profile.no_rev_avail { Ok(()) } else { chain.openssl(&leaf.pem(), &crl) };
        assert_eq!(checked, Ok(()), "{name}");
        for (usage, purpose, eku) in [
            (ExtendedUsage::Server, "sslserver", Some(KeyUsage::server_auth())),
            (ExtendedUsage::Client, "sslclient", Some(KeyUsage::client_auth())),
            (ExtendedUsage::CodeSigning, "codesign", None),
        ] {
            let due = profile.usages.contains(&usage);
            if let Some(eku) = eku {
                assert_eq!(chain.webpki(leaf.der(), eku, &crl).is_ok(), due, "{name}: {purpose}");
            }
            assert_eq!(chain.has_purpose(&leaf, usage), due, "{name}: {purpose}");
        }
        let (from, until) = leaf.validity();
        assert_eq!(until.since(from) + Duration::from_secs(1), profile.lifetime(), "{name}");
        let text = chain.text(&leaf);
        assert_eq!(
            text.contains("CRL Distribution Points"),
            !profile.no_rev_avail,
            "{name}: {text}"
        );
        assert_eq!(
            (text.contains("2.5.29.56") || text.contains("No Revocation Available")),
            profile.no_rev_avail,
            "{name}: {text}"
        );
        assert_eq!(text.contains("CN = nas.lan"), profile.common_name, "{name}: {text}");
    }
}

#[test]
fn every_kind_of_key_signs_and_is_certified() {
    let leaf_keys = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ED25519,
    ]
    .map(Key::new);
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
    ] {
        let chain = Chain::new(algorithm, &issuing_template());
        let crl = chain.issuing_crl(&[]);
        assert!(chain.root.verify_issued_by(&chain.root));
        assert!(chain.issuing.verify_issued_by(&chain.root));
        assert!(!chain.root.verify_issued_by(&chain.issuing));
        for key in &leaf_keys {
            let leaf = chain.issue(&Profile::server(), &["nas.lan", "10.1.2.3"], &key.public);
            assert!(leaf.verify_issued_by(&chain.issuing));
            assert!(!leaf.verify_issued_by(&chain.root));
            assert_eq!(chain.openssl(&leaf.pem(), &crl), Ok(()), "{algorithm:?}");
            assert_eq!(chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl), Ok(()));
        }
    }
}

#[test]
fn an_rsa_issuer_signs_with_sha_256() {
    let chain = Chain::new(&rcgen::PKCS_RSA_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    assert_eq!(chain.openssl(&leaf.pem(), &chain.issuing_crl(&[])), Ok(()));
}

#[test]
fn every_form_of_subject_and_name_verifies() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let crl = chain.issuing_crl(&[]);
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let long = format!("{0}.{0}.lan", "a".repeat(50));
    for (profile, names, subject) in [
        (Profile::server(), vec!["nas.lan"], ""),
        (Profile::server(), vec!["10.1.2.3"], ""),
        (Profile::server(), vec!["fd00::7", "192.168.0.1"], ""),
        (Profile::server(), vec!["*.nas.lan", "nas.lan"], ""),
        (named(), vec!["nas.lan"], "CN=nas.lan"),
        (named(), vec!["10.1.2.3", "nas.lan"], "CN=nas.lan"),
        // An address in the CN would be judged as a DNS name under the constraints.
        (named(), vec!["10.1.2.3"], ""),
        (named(), vec![&long, "b.lan"], "CN=b.lan"),
        (named(), vec![&long], ""),
        (named(), vec!["*.nas.lan"], "CN=\\*.nas.lan"),
    ] {
        let leaf = chain.issue(&profile, &names, &key.public);
        assert_eq!(leaf.subject().replace('\\', ""), subject.replace('\\', ""), "{names:?}");
        assert_eq!(chain.openssl(&leaf.pem(), &crl), Ok(()), "{names:?}");
        assert_eq!(chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl), Ok(()), "{names:?}");
        let due: Vec<Identifier> = names.iter().map(|name| identifier(name)).collect();
        assert_eq!(leaf.identifiers(), due);
    }
}

#[test]
fn purposes_are_kept_apart() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let crl = chain.issuing_crl(&[]);
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let profile = Profile { usages: vec![ExtendedUsage::Client], ..Profile::server() };
    let leaf = chain.issue(&profile, &["nas.lan"], &key.public);
    assert_eq!(chain.webpki(leaf.der(), KeyUsage::client_auth(), &crl), Ok(()));
    assert!(chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl).is_err());
}

/// A leaf that the issuing key signed without asking any of our rules.
fn rogue(chain: &Chain, names: Vec<rcgen::SanType>) -> rcgen::Certificate {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, Issuer, KeyIdMethod};
    let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = DistinguishedName::new();
    issuer.distinguished_name.push(DnType::OrganizationName, printable("Chancery"));
    issuer.distinguished_name.push(DnType::CommonName, printable("Sample Issuing CA 1"));
    issuer.key_identifier_method =
        KeyIdMethod::PreSpecified(chain.issuing.subject_key_id().unwrap().to_vec());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.use_authority_key_identifier_extension = true;
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    params.signed_by(&key.pair, &Issuer::from_params(&issuer, &chain.issuing_key.pair)).unwrap()
}

#[test]
fn the_issuing_certificate_leaves_no_form_of_name_open() {
    use rcgen::SanType::{DnsName, IpAddress, Rfc822Name, URI};
    let text = |text: &str| text.try_into().unwrap();
    let address = |text: &str| IpAddress(text.parse().unwrap());
    let narrow = |names: &[&str], networks: &[&str]| CaTemplate {
        permitted_names: names.iter().map(|name| (*name).to_owned()).collect(),
        permitted_networks: networks.iter().map(|name| (*name).to_owned()).collect(),
        ..issuing_template()
    };
    let everything = || {
        vec![
            DnsName(text("example.com")),
            DnsName(text("wlan")),
            address("8.8.8.8"),
            address("2001:db8::1"),
            Rfc822Name(text("root@nas.lan")),
            Rfc822Name(text("root@example.com")),
            URI(text("https://nas.lan/")),
            URI(text("spiffe://example.com/x")),
        ]
    };
    for (template, allowed, mut refused) in [
        (issuing_template(), DnsName(text("nas.lan")), everything()),
        (narrow(&["lan"], &[]), DnsName(text("nas.lan")), everything()),
        (narrow(&[], &["10.0.0.0/8"]), address("10.1.2.3"), everything()),
        (narrow(&[], &["fd00::/8"]), address("fd00::1"), everything()),
    ] {
        let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &template);
        let crl = chain.issuing_crl(&[]);
        if template.permitted_names.is_empty() {
            refused.push(DnsName(text("nas.lan")));
        }
        if !template.permitted_networks.contains(&"10.0.0.0/8".to_owned()) {
            refused.push(address("10.1.2.3"));
        }
        let good = rogue(&chain, vec![allowed.clone()]);
        assert_eq!(chain.openssl(&pem("CERTIFICATE", good.der()), &crl), Ok(()));
        assert_eq!(chain.webpki(good.der(), KeyUsage::server_auth(), &crl), Ok(()));
        for name in refused {
            let bad = rogue(&chain, vec![allowed.clone(), name.clone()]);
            let complaint = chain.openssl(&pem("CERTIFICATE", bad.der()), &crl).unwrap_err();
            assert!(complaint.contains("subtree violation"), "{name:?}: {complaint}");
            assert_eq!(
                chain.webpki(bad.der(), KeyUsage::server_auth(), &crl),
                Err(webpki::Error::NameConstraintViolation),
                "{name:?}"
            );
        }
    }
}

#[test]
fn a_leaf_stays_within_its_issuer() {
    let template = CaTemplate { lifetime_days: 60, ..issuing_template() };
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &template);
    let (from, until) = chain.issuing.validity();
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (profile, names) = (Profile::server(), [identifier("nas.lan")]);
    let base = chain.leaf(&profile, &names, &key.public);
    let refused = |leaf: &Leaf<'_>| match rehearse::leaf(leaf) {
        Err(RehearsalError::Validity(why)) => why,
        other => panic!("{other:?}"),
    };
    let second = Duration::from_secs(1);

    // 90 days do not fit; what is left of the issuer does.
    assert_eq!(rehearse::leaf(&base).unwrap().validity(), (at(NOW - 3600), until));
    let late = until.minus(rehearse::LEAST_REMAINING);
    assert_eq!(rehearse::leaf(&Leaf { now: late, ..base.clone() }).unwrap().validity().1, until);
    assert!(refused(&Leaf { now: late.plus(second), ..base.clone() }).contains("too little"));
    assert!(refused(&Leaf { now: until.plus(second), ..base.clone() }).contains("issuer is valid"));
    // Not backdated beyond the issuer's beginning, and nothing before it.
    let early = Leaf { now: from.plus(second * 5), ..base.clone() };
    assert_eq!(rehearse::leaf(&early).unwrap().validity().0, from);
    refused(&Leaf { now: from.minus(second), ..base.clone() });

    // Dates that the order names are kept or refused.
    let asked = Leaf { not_after: Some(at(NOW + DAY)), ..base.clone() };
    assert_eq!(rehearse::leaf(&asked).unwrap().validity(), (at(NOW - 3600), at(NOW + DAY)));
    let asked = Leaf { not_before: Some(at(NOW + DAY)), ..base.clone() };
    assert_eq!(rehearse::leaf(&asked).unwrap().validity().0, at(NOW + DAY));
    let asked = Leaf { not_before: Some(at(NOW - 7200)), ..base.clone() };
    assert_eq!(rehearse::leaf(&asked).unwrap().validity().0, at(NOW - 7200));
    for (not_before, not_after) in [
        (None, Some(until.plus(second))),
        (None, Some(at(NOW - 1))),
        (Some(at(NOW - 2 * DAY - 1)), None),
        (Some(from.minus(second)), None),
        (Some(at(NOW + DAY)), Some(at(NOW + DAY - 1))),
        (Some(until.plus(second)), None),
    ] {
        refused(&Leaf { not_before, not_after, ..base.clone() });
    }

    // A full lifetime from now takes the place of backdating.
    let profile = Profile { lifetime_hours: 48, ..Profile::server() };
    let base = chain.leaf(&profile, &names, &key.public);
    let asked = Leaf { not_after: Some(at(NOW + 2 * DAY - 1)), ..base.clone() };
    assert_eq!(rehearse::leaf(&asked).unwrap().validity(), (at(NOW), at(NOW + 2 * DAY - 1)));
    refused(&Leaf { not_after: Some(at(NOW + 2 * DAY)), ..base.clone() });
    assert_eq!(
        rehearse::leaf(&base).unwrap().validity(),
        (at(NOW - 3600), at(NOW - 3600 + 2 * DAY - 1))
    );
    // One that begins later ends no later than one that begins now.
    let later = Leaf { not_before: Some(at(NOW + DAY)), ..base.clone() };
    assert_eq!(rehearse::leaf(&later).unwrap().validity(), (at(NOW + DAY), at(NOW + 2 * DAY - 1)));
    refused(&Leaf { not_after: Some(at(NOW + 2 * DAY)), ..later.clone() });
}

#[test]
fn a_request_outside_the_profile_is_refused_before_it_is_written() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let refused = |profile: Profile, names: &[&str]| {
        let names: Vec<Identifier> = names.iter().map(|name| identifier(name)).collect();
        match rehearse::leaf(&chain.leaf(&profile, &names, &key.public)) {
            Err(RehearsalError::Profile(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let server = Profile::server;
    assert!(refused(server(), &[]).contains("0 names"));
    assert!(refused(Profile { max_names: 1, ..server() }, &["a.lan", "b.lan"]).contains("2 names"));
    assert!(refused(server(), &["a.lan", "b.lan", "a.lan"]).contains("a.lan is named twice"));
    let rsa = Profile { keys: vec!["rsa-2048".to_owned()], ..server() };
    assert!(refused(rsa, &["a.lan"]).contains("EcP256"));
    let client = Profile { usages: vec![ExtendedUsage::Client], ..server() };
    assert!(refused(client, &["*.a.lan"]).contains("wildcard"));
    assert!(refused(Profile { backdate_minutes: 61, ..server() }, &["a.lan"]).contains("backdate"));
}

#[test]
fn dates_beyond_2049_and_names_beyond_ascii_verify() {
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let template = CaTemplate {
        common_name: "Kanzlei Zürich — Wurzel".to_owned(),
        lifetime_days: 36_500,
        ..root_template()
    };
    let ca = Ca {
        template: &template,
        key: &key.public,
        serial: Serial::from_random([1; 16]),
        now: at(NOW - 30 * DAY),
        issuer: None,
        aia_url: None,
        crl_url: None,
    };
    let root = key.certificate(rehearse::ca(&ca).unwrap().der());
    assert!(root.validity().1 > at(2_524_608_000), "the root ends in 2050 or later");
    assert!(root.subject().contains("Zürich"));
    let mut chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let issuing = Ca {
        template: &CaTemplate { lifetime_days: 20_000, ..issuing_template() },
        key: &chain.issuing_key.public,
        serial: Serial::from_random([2; 16]),
        issuer: Some(&root),
        aia_url: Some("http://ca.lan/root.crt"),
        crl_url: Some("http://ca.lan/root.crl"),
        ..ca.clone()
    };
    chain.issuing = key.certificate(rehearse::ca(&issuing).unwrap().der());
    chain.root_crl = key.crl(&crl::tbs(&root, 1, at(NOW - DAY), at(3_000_000_000), &[]));
    chain.root = root;
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    assert_eq!(chain.openssl(&leaf.pem(), &chain.issuing_crl(&[])), Ok(()));
    let read = crl::parse_verified(&chain.root_crl, &chain.root).unwrap();
    assert_eq!(read.next_update, at(3_000_000_000));
}

proptest! {
    /// Whatever the moment and the names, a leaf lies within its issuer, lasts no longer than its
    /// profile says and holds exactly the names that were asked for, or there is none.
    #[test]
    fn leaves_keep_to_issuer_profile_and_request(
        days in 0u64..3700,
        second in 0u64..DAY,
        hours in 1u32..5000,
        backdate in 0u32..=60,
        common_name: bool,
        names in proptest::collection::btree_set("[a-z][a-z0-9]{0,61}(\\.[a-z]{1,9}){0,2}\\.lan", 1..5),
        address: Option<[u8; 3]>,
    ) {
        static CHAIN: LazyLock<(Chain, Key)> = LazyLock::new(|| {
            let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
            (Chain::new(algorithm, &issuing_template()), Key::new(algorithm))
        });
        let (chain, key) = &*CHAIN;
        let profile = Profile {
            lifetime_hours: hours,
            backdate_minutes: backdate,
            common_name,
            ..Profile::server()
        };
        let mut asked: Vec<Identifier> = names.iter().map(|name| identifier(name)).collect();
        asked.extend(address.map(|[a, b, c]| identifier(&format!("10.{a}.{b}.{c}"))));
        let now = at(NOW - 31 * DAY + days * DAY + second);
        let leaf = Leaf { now, ..chain.leaf(&profile, &asked, &key.public) };
        let (from, until) = chain.issuing.validity();
        match rehearse::leaf(&leaf) {
            Ok(tbs) => {
                let certificate = chain.issuing_key.certificate(tbs.der());
                prop_assert_eq!(certificate.tbs(), tbs.der());
                prop_assert_eq!(certificate.identifiers(), asked);
                prop_assert!(certificate.verify_issued_by(&chain.issuing));
                let (not_before, not_after) = certificate.validity();
                prop_assert_eq!((not_before, not_after), tbs.validity());
                prop_assert!(from <= not_before && not_before <= now);
                prop_assert!(now <= not_after && not_after <= until);
                prop_assert!(now.since(not_before) <= Duration::from_secs(u64::from(backdate) * 60));
                prop_assert!(not_after.since(not_before) < profile.lifetime());
            }
            Err(RehearsalError::Validity(_)) => {
                let too_late = now.plus(rehearse::LEAST_REMAINING.min(profile.lifetime() / 2)) > until;
                prop_assert!(now < from || too_late);
            }
            // The one sum of values that no profile may have.
            Err(RehearsalError::Profile(why)) => {
                prop_assert!(why.starts_with("backdate-minutes") && hours == 1 && backdate == 60);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
