//! Root and issuing certificates, also under a foreign root.

use std::fs;
use std::process::Command;
use std::time::Duration;

use chancery::id::Serial;
use chancery::pki::certificate::Certificate;
use chancery::pki::profile::Profile;
use chancery::pki::rehearse::{self, Ca, CaTemplate, Leaf, RehearsalError};

use crate::chain::{Chain, DAY, Key, NOW, at, identifier, issuing_template};

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
