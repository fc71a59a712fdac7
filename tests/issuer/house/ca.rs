//! A ceremony in small.

use std::sync::Arc;

use chancery::id::{Serial, Timestamp};
use chancery::log::record::CeremonyV1;
use chancery::pki::authority::{Authority, KeyRecord};
use chancery::pki::certificate::Certificate;
use chancery::pki::key::PublicKey;
use chancery::pki::rehearse::{self, Ca, CaTemplate};

use super::key::SoftKey;
use super::{ORIGIN, TRANSCRIPT};

/// Root and issuing certificate; the root's key is in this process.
pub(super) fn certificates(
    issuing_key: &PublicKey,
    now: Timestamp,
) -> (Certificate, Certificate, Arc<SoftKey>) {
    let root_key = SoftKey::new();
    let template = CaTemplate {
        common_name: "Test Root".into(),
        organization: None,
        lifetime_days: 3650,
        path_length: None,
        permitted_names: Vec::new(),
        permitted_networks: Vec::new(),
    };
    let ca = Ca {
        template: &template,
        key: &root_key.public,
        serial: Serial::from_random([1; 16]),
        now,
        issuer: None,
        aia_url: None,
        crl_url: None,
    };
    let root = seal(&ca, &root_key);
    let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
    let template = CaTemplate {
        common_name: "Test Issuing".into(),
        organization: None,
        lifetime_days: 1825,
        path_length: Some(0),
        permitted_names: texts(&["lan", "internal", "home.arpa", "local", "test"]),
        permitted_networks: texts(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]),
    };
    let ca = Ca {
        template: &template,
        key: issuing_key,
        serial: Serial::from_random([2; 16]),
        issuer: Some(&root),
        aia_url: Some("http://ca.lan/root.der"),
        crl_url: Some("http://ca.lan/root.crl"),
        ..ca
    };
    let issuing = seal(&ca, &root_key);
    (root, issuing, root_key)
}

pub(super) fn seal(ca: &Ca<'_>, key: &SoftKey) -> Certificate {
    let tbs = rehearse::ca(ca).unwrap();
    let algorithm = key.public.preferred_algorithm();
    Certificate::assemble(tbs.der(), algorithm, &key.sign(tbs.der())).unwrap()
}

pub(super) fn authority(
    root: &Certificate,
    issuing: &Certificate,
    keys: [KeyRecord; 3],
) -> Authority {
    let [issuing_key, log_key, tls_key] = keys;
    Authority {
        version: 1,
        origin: ORIGIN.into(),
        aia_url: "http://ca.lan/issuing.der".into(),
        crl_url: "http://ca.lan/issuing.crl".into(),
        root_crl_url: "http://ca.lan/root.crl".into(),
        root: root.pem(),
        issuing: Some(issuing.pem()),
        root_key: None,
        issuing_key,
        log_key,
        tls_key,
        log_key_rotations: Vec::new(),
        further_issuers: Vec::new(),
        further_roots: Vec::new(),
        done: Vec::new(),
        former_tls: None,
        older_tls: Vec::new(),
        former_logs: Vec::new(),
        transcript_sha256: "03".repeat(32),
        witness: None,
    }
}

pub(super) fn ceremony(
    root: &Certificate,
    issuing: &Certificate,
    log_key: &[u8],
    at: Timestamp,
) -> CeremonyV1 {
    CeremonyV1 {
        at,
        origin: ORIGIN.into(),
        root_sha256: root.fingerprint(),
        issuing_sha256: issuing.fingerprint(),
        log_key: log_key.to_vec(),
        transcript_sha256: TRANSCRIPT,
    }
}
