//! Certificates and CRLs as this CA writes them, judged by verifiers that are not ours: the openssl
//! command and rustls-webpki. Also leaves samples in `target/samples` (or `$CHANCERY_SAMPLES`) for the
//! linters of `tests/clients/lint-certificates.sh`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chancery::id::{Serial, Timestamp};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::{self, RevokedEntry};
use chancery::pki::key::PublicKey;
use chancery::pki::name::Identifier;
use chancery::pki::profile::{ExtendedUsage, Profile};
use chancery::pki::rehearse::{self, Ca, CaTemplate, Leaf, RehearsalError};
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage,
    RevocationOptionsBuilder, anchor_from_trusted_cert,
};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

/// A throw-away key in software.
struct Key {
    pair: KeyPair,
    public: PublicKey,
}

impl Key {
    fn new(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let public = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
        Self { pair, public }
    }

    fn certificate(&self, tbs: &[u8]) -> Certificate {
        let signature = self.pair.sign(tbs).unwrap();
        Certificate::assemble(tbs, self.public.preferred_algorithm(), &signature).unwrap()
    }

    fn crl(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(tbs).unwrap();
        crl::assemble(tbs, self.public.preferred_algorithm(), &signature)
    }
}

/// Root and issuing CA with their CRLs.
struct Chain {
    root_key: Key,
    root: Certificate,
    root_crl: Vec<u8>,
    issuing_key: Key,
    issuing: Certificate,
}

fn root_template() -> CaTemplate {
    CaTemplate {
        common_name: "Sample Root".to_owned(),
        organization: Some("Chancery".to_owned()),
        lifetime_days: 7300,
        path_length: None,
        permitted_names: Vec::new(),
        permitted_networks: Vec::new(),
    }
}

fn issuing_template() -> CaTemplate {
    CaTemplate {
        common_name: "Sample Issuing CA 1".to_owned(),
        organization: Some("Chancery".to_owned()),
        lifetime_days: 3650,
        path_length: Some(0),
        permitted_names: ["lan", "home.arpa", "local"].map(str::to_owned).to_vec(),
        permitted_networks: ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"]
            .map(str::to_owned)
            .to_vec(),
    }
}

impl Chain {
    fn new(algorithm: &'static rcgen::SignatureAlgorithm, template: &CaTemplate) -> Self {
        let (root_key, issuing_key) = (Key::new(algorithm), Key::new(algorithm));
        let mut ca = Ca {
            template: &root_template(),
            key: &root_key.public,
            serial: Serial::from_random([1; 16]),
            now: at(NOW - 30 * DAY),
            issuer: None,
            aia_url: None,
            crl_url: None,
        };
        let root = root_key.certificate(rehearse::ca(&ca).unwrap().der());
        ca.template = template;
        ca.key = &issuing_key.public;
        ca.serial = Serial::from_random([2; 16]);
        ca.issuer = Some(&root);
        ca.aia_url = Some("http://ca.lan/root.crt");
        ca.crl_url = Some("http://ca.lan/root.crl");
        let issuing = root_key.certificate(rehearse::ca(&ca).unwrap().der());
        let root_crl = root_key.crl(&crl::tbs(&root, 1, at(NOW - DAY), at(NOW + 90 * DAY), &[]));
        Self { root_key, root, root_crl, issuing_key, issuing }
    }

    fn issue(&self, profile: &Profile, names: &[&str], key: &PublicKey) -> Certificate {
        let identifiers: Vec<Identifier> = names.iter().map(|name| identifier(name)).collect();
        let tbs = rehearse::leaf(&self.leaf(profile, &identifiers, key)).unwrap();
        self.issuing_key.certificate(tbs.der())
    }

    fn leaf<'a>(
        &'a self,
        profile: &'a Profile,
        identifiers: &'a [Identifier],
        key: &'a PublicKey,
    ) -> Leaf<'a> {
        Leaf {
            profile,
            identifiers,
            key,
            serial: Serial::from_random([3; 16]),
            now: at(NOW),
            not_before: None,
            not_after: None,
            issuer: &self.issuing,
            aia_url: "http://ca.lan/issuing.crt",
            crl_url: "http://ca.lan/issuing.crl",
        }
    }

    fn issuing_crl(&self, revoked: &[RevokedEntry]) -> Vec<u8> {
        let tbs = crl::tbs(&self.issuing, 7, at(NOW - DAY), at(NOW + 6 * DAY), revoked);
        self.issuing_key.crl(&tbs)
    }

    /// What `openssl verify -x509_strict -crl_check_all` says: nothing, or its complaint.
    fn openssl(&self, leaf_pem: &str, issuing_crl: &[u8]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: String| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let crls = pem("X509 CRL", &self.root_crl) + &pem("X509 CRL", issuing_crl);
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check_all", "-attime"])
            .arg(NOW.to_string())
            .arg("-CAfile")
            .arg(file("root.pem", self.root.pem()))
            .arg("-untrusted")
            .arg(file("issuing.pem", self.issuing.pem()))
            .arg("-CRLfile")
            .arg(file("crls.pem", crls))
            .arg(file("leaf.pem", leaf_pem.to_owned()))
            .output()
            .expect("the openssl command is installed");
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr))
    }

    /// What rustls-webpki says, revocation of every certificate included.
    fn webpki(
        &self,
        leaf: &[u8],
        usage: KeyUsage,
        issuing_crl: &[u8],
    ) -> Result<(), webpki::Error> {
        let crls = [&self.root_crl[..], issuing_crl].map(|der| {
            CertRevocationList::from(BorrowedCertRevocationList::from_der(der).unwrap())
        });
        let crls: Vec<&CertRevocationList<'_>> = crls.iter().collect();
        let root = CertificateDer::from(self.root.der());
        let issuing = CertificateDer::from(self.issuing.der());
        let leaf = CertificateDer::from(leaf);
        EndEntityCert::try_from(&leaf)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor_from_trusted_cert(&root)?],
                &[issuing],
                UnixTime::since_unix_epoch(Duration::from_secs(NOW)),
                usage,
                Some(RevocationOptionsBuilder::new(&crls).unwrap().build()),
                None,
            )
            .map(|_| ())
    }
}

fn identifier(text: &str) -> Identifier {
    let kind = if text.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
    Identifier::parse(kind, text).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let digits = Base64::encode_string(der);
    let lines: Vec<&str> =
        digits.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn named() -> Profile {
    Profile { common_name: true, ..Profile::server() }
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
fn a_revoked_leaf_is_revoked_for_everyone() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    let entry = |octet, reason| RevokedEntry {
        serial: Serial::from_random([octet; 16]),
        at: at(NOW - 100),
        reason,
    };
    let others = chain.issuing_crl(&[entry(9, Some(1)), entry(8, Some(0))]);
    assert_eq!(chain.openssl(&leaf.pem(), &others), Ok(()));
    let crl = chain.issuing_crl(&[entry(9, Some(1)), entry(3, Some(4)), entry(9, None)]);
    assert!(chain.openssl(&leaf.pem(), &crl).unwrap_err().contains("certificate revoked"));
    assert_eq!(
        chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl),
        Err(webpki::Error::CertRevoked)
    );

    let read = crl::parse_verified(&crl, &chain.issuing).unwrap();
    assert_eq!((read.number, read.this_update), (7, at(NOW - DAY)));
    assert_eq!(read.next_update, at(NOW + 6 * DAY));
    // Sorted, each serial once.
    let serials: Vec<Serial> = read.revoked.iter().map(|entry| entry.serial).collect();
    assert_eq!(serials, [3, 9].map(|octet| Serial::from_random([octet; 16])));
    assert_eq!(read.revoked[0], entry(3, Some(4)));
    let read = crl::parse_verified(&others, &chain.issuing).unwrap();
    assert_eq!(read.revoked[0], entry(8, None), "reason 0 is written as nothing");
}

#[test]
fn a_crl_that_was_touched_is_refused() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let entry = RevokedEntry { serial: Serial::from_random([9; 16]), at: at(NOW), reason: Some(1) };
    let crl = chain.issuing_crl(&[entry]);
    assert!(crl::parse_verified(&crl, &chain.issuing).is_ok());
    assert!(crl::parse_verified(&crl, &chain.root).is_err());
    for i in 0..crl.len() {
        let mut touched = crl.clone();
        touched[i] ^= 1;
        assert!(crl::parse_verified(&touched, &chain.issuing).is_err(), "octet {i}");
        assert!(crl::parse_verified(&crl[..i], &chain.issuing).is_err());
    }
    // An issuer's CRL under the name of another, signed by the right key.
    let tbs = crl::tbs(&chain.root, 1, at(NOW), at(NOW + DAY), &[]);
    let crossed = chain.issuing_key.crl(&tbs);
    assert!(crl::parse_verified(&crossed, &chain.issuing).is_err());
}

#[test]
fn a_certificate_that_was_touched_is_refused() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    for i in 0..leaf.der().len() {
        let mut touched = leaf.der().to_vec();
        touched[i] ^= 1;
        let verifies =
            Certificate::parse(&touched).is_ok_and(|leaf| leaf.verify_issued_by(&chain.issuing));
        assert!(!verifies, "octet {i}");
        assert!(Certificate::parse(&leaf.der()[..i]).is_err());
    }
    assert!(Certificate::parse(&[leaf.der(), &[0]].concat()).is_err());
}

#[test]
fn pem_has_one_block_and_nothing_else() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let text = chain.issuing.pem();
    assert_eq!(text, pem("CERTIFICATE", chain.issuing.der()));
    assert_eq!(Certificate::parse_pem(&text).unwrap(), chain.issuing);
    assert_eq!(
        Certificate::parse_pem(&format!("\n{}\r\n", text.replace('\n', "\r\n"))).unwrap(),
        chain.issuing
    );
    for bad in [
        format!("{text}{text}"),
        format!("subject=x\n{text}"),
        format!("{text}x"),
        text.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        text.replacen('M', "*", 1),
        String::new(),
    ] {
        assert!(Certificate::parse_pem(&bad).is_err(), "{bad}");
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
fn a_ca_stays_within_its_issuer() {
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let under = |issuer: &Certificate, template: &CaTemplate| {
        rehearse::ca(&Ca {
            template,
            key: &key.public,
            serial: Serial::from_random([5; 16]),
            now: at(NOW),
            issuer: Some(issuer),
            aia_url: Some("http://ca.lan/root.crt"),
            crl_url: Some("http://ca.lan/root.crl"),
        })
    };
    let mut template = issuing_template();
    assert!(under(&chain.root, &template).is_ok());
    assert!(matches!(under(&chain.issuing, &template), Err(RehearsalError::Profile(_))));
    template.lifetime_days = 7300;
    assert!(matches!(under(&chain.root, &template), Err(RehearsalError::Validity(_))));
    for change in [
        |template: &mut CaTemplate| template.common_name.clear(),
        |template: &mut CaTemplate| template.common_name = "a".repeat(65),
        |template: &mut CaTemplate| template.organization = Some(" x".to_owned()),
        |template: &mut CaTemplate| template.lifetime_days = 0,
        |template: &mut CaTemplate| template.permitted_names.push(".lan".to_owned()),
        |template: &mut CaTemplate| template.permitted_names.push("*.lan".to_owned()),
        |template: &mut CaTemplate| template.permitted_networks.push("10.0.0.1/8".to_owned()),
    ] {
        let mut template = issuing_template();
        change(&mut template);
        let refused = under(&chain.root, &template);
        assert!(matches!(refused, Err(RehearsalError::Profile(_))), "{template:?}");
    }
    // An issuing CA without permitted entries of a kind may not certify that kind at all.
    template = CaTemplate {
        permitted_names: Vec::new(),
        permitted_networks: Vec::new(),
        ..issuing_template()
    };
    let closed = chain.root_key.certificate(under(&chain.root, &template).unwrap().der());
    let constraints = closed.name_constraints().unwrap();
    assert!(constraints.open_forms().is_empty());
    assert!(!constraints.permits(&identifier("nas.lan")));
    assert!(!constraints.permits(&identifier("10.0.0.1")));
    assert!(!constraints.permits(&identifier("fd00::1")));
    assert!(chain.root.name_constraints().is_none());
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

/// An issuing certificate of another house: its name, in any string type, comes back byte for byte, or
/// it is refused.
#[test]
fn a_foreign_issuers_name_is_kept_or_refused() {
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa};
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let component = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(component, DnValue::Ia5String("lan".try_into().unwrap()));
    params.distinguished_name.push(DnType::OrganizationName, "Jemand GmbH");
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, DnValue::BmpString("Büro".try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let foreign = params.self_signed(&key.pair).unwrap();
    let foreign = Certificate::parse(foreign.der()).unwrap();

    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let (profile, names) = (Profile::server(), [identifier("nas.lan")]);
    let leaf = Leaf { issuer: &foreign, ..chain.leaf(&profile, &names, &key.public) };
    let leaf = key.certificate(rehearse::leaf(&leaf).unwrap().der());
    assert_eq!(leaf.issuer_der(), foreign.subject_der());
    assert_eq!(leaf.authority_key_id(), foreign.subject_key_id());
    assert!(leaf.verify_issued_by(&foreign));

    // Two attributes in one RDN, as openssl makes them of `+`.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-multivalue-rdn", "-subj", "/CN=One+O=Two", "-days", "3650", "-keyout"])
        .arg(dir.path().join("key.pem"))
        .arg("-out")
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let foreign = Certificate::parse_pem(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(foreign.is_ca());
    let now = foreign.validity().0.plus(Duration::from_secs(DAY));
    let leaf = Leaf { issuer: &foreign, now, ..chain.leaf(&profile, &names, &key.public) };
    assert!(matches!(rehearse::leaf(&leaf), Err(RehearsalError::Encoding(_))));
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

#[test]
fn samples_for_the_linters() {
    let dir = match std::env::var_os("CHANCERY_SAMPLES") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("samples"),
    };
    fs::create_dir_all(&dir).unwrap();
    let chain = Chain::new(&rcgen::PKCS_ECDSA_P256_SHA256, &issuing_template());
    let p256 = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let rsa = Key::new(&rcgen::PKCS_RSA_SHA256);
    let narrow = CaTemplate {
        permitted_networks: Vec::new(),
        common_name: "Sample Issuing CA 2".to_owned(),
        ..issuing_template()
    };
    let narrow = Chain::new(&rcgen::PKCS_ECDSA_P384_SHA384, &narrow);
    let client = Profile { usages: vec![ExtendedUsage::Client], ..Profile::server() };
    let names = ["nas.lan", "printer.home.arpa", "192.168.1.7", "fd00::7"];
    let revoked = RevokedEntry {
        serial: Serial::from_random([9; 16]),
        at: at(NOW - 2 * DAY),
        reason: Some(1),
    };
    for (name, certificate) in [
        ("root", chain.root.clone()),
        ("issuing", chain.issuing.clone()),
        ("issuing-names-only", narrow.issuing.clone()),
        ("leaf", chain.issue(&Profile::server(), &names, &p256.public)),
        ("leaf-rsa-named", chain.issue(&named(), &["nas.lan"], &rsa.public)),
        ("leaf-address", chain.issue(&named(), &["10.0.0.9"], &p256.public)),
        ("leaf-client", chain.issue(&client, &["nas.lan"], &p256.public)),
    ] {
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
    }
    for (name, der) in [
        ("root", &chain.root_crl),
        ("issuing", &chain.issuing_crl(&[revoked])),
        ("issuing-empty", &chain.issuing_crl(&[])),
    ] {
        fs::write(dir.join(format!("{name}.crl")), pem("X509 CRL", der)).unwrap();
    }
}
