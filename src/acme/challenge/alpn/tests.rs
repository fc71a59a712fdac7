use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

use super::*;

const KEY_AUTHORIZATION: &str = "token.thumbprint";

fn identifier(kind: &str, value: &str) -> Identifier {
    Identifier::parse(kind, value).unwrap()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn acme_identifier(oid: &[u64], content: Vec<u8>, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

fn due() -> Vec<u8> {
    let mut content = vec![0x04, 0x20];
    content.extend_from_slice(digest(&SHA256, KEY_AUTHORIZATION.as_bytes()).as_ref());
    content
}

const OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 31];

fn certificate(names: Vec<SanType>, extensions: Vec<CustomExtension>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.custom_extensions = extensions;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn judged(names: Vec<SanType>, extensions: Vec<CustomExtension>) -> Result<(), &'static str> {
    AlpnCertificate::parse(&certificate(names, extensions))
        .and_then(|read| read.judge(&identifier("dns", "a.lan"), KEY_AUTHORIZATION))
        .map_err(|Mismatch(why)| why)
}

#[test]
fn the_right_certificate_answers() {
    let right = || vec![acme_identifier(OID, due(), true)];
    assert_eq!(judged(vec![dns("a.lan")], right()), Ok(()));
    assert_eq!(judged(vec![dns("A.LAN")], right()), Ok(()));
    for (address, value) in [("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1")] {
        let der = certificate(vec![SanType::IpAddress(address.parse().unwrap())], right());
        let read = AlpnCertificate::parse(&der).unwrap();
        assert_eq!(read.judge(&identifier("ip", value), KEY_AUTHORIZATION), Ok(()));
        assert!(read.judge(&identifier("dns", "a.lan"), KEY_AUTHORIZATION).is_err());
        assert!(read.judge(&identifier("ip", "10.0.0.2"), KEY_AUTHORIZATION).is_err());
    }
}

#[test]
fn any_other_certificate_does_not() {
    let right = || vec![acme_identifier(OID, due(), true)];
    let ours = || vec![dns("a.lan")];
    for (names, extensions, says) in [
        (vec![dns("a.lan"), dns("b.lan")], right(), "no other"),
        (vec![dns("a.lan"), SanType::IpAddress([10, 0, 0, 1].into())], right(), "no other"),
        (vec![dns("b.lan")], right(), "another name"),
        (vec![], right(), "exactly one subjectAltName"),
        (ours(), vec![], "exactly one acmeIdentifier"),
        (ours(), vec![acme_identifier(OID, due(), false)], "critical"),
        (ours(), vec![acme_identifier(&[1, 3, 6, 1, 5, 5, 7, 1, 30, 1], due(), true)], "old draft"),
        (ours(), vec![acme_identifier(OID, due()[2..].to_vec(), true)], "OCTET STRING"),
        (ours(), vec![acme_identifier(OID, vec![0x04, 0x00], true)], "not the digest"),
    ] {
        let why = judged(names, extensions).unwrap_err();
        assert!(why.contains(says), "{says}: {why}");
    }
    let read = AlpnCertificate::parse(&certificate(ours(), right())).unwrap();
    assert!(read.judge(&identifier("dns", "a.lan"), "token.other").is_err());
}

#[test]
fn what_another_signed_is_not_self_signed() {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "another");
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![dns("a.lan")];
    params.custom_extensions = vec![acme_identifier(OID, due(), true)];
    let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
    let read = AlpnCertificate::parse(&der).unwrap();
    let judged = read.judge(&identifier("dns", "a.lan"), KEY_AUTHORIZATION);
    assert_eq!(judged, Err(Mismatch("it is not self-signed")));
}

#[test]
fn foreign_octets_are_no_certificate() {
    for octets in [&b""[..], b"\x30\x00", &[0x30; MAX_DER + 1]] {
        assert!(AlpnCertificate::parse(octets).is_err());
    }
}

#[test]
fn addresses_are_asked_for_by_their_reverse_names() {
    let name = |kind, value| server_name(&identifier(kind, value));
    assert_eq!(name("dns", "a.lan"), "a.lan");
    assert_eq!(name("ip", "10.0.2.1"), "1.2.0.10.in-addr.arpa");
    assert_eq!(
        name("ip", "2001:db8::1"),
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    );
}
