use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use proptest::prelude::*;

use super::*;

/// Made by OpenSSL 3.0: P-256, SANs printer.lan, 10.0.0.7, fd00::7; CA:false; key usage.
const EC: &[u8] = include_bytes!("../../../tests/golden/csr/ec.der");
/// Made by OpenSSL 3.0: RSA 2048 signed with RSASSA-PSS, SHA-256, salt 32.
const PSS: &[u8] = include_bytes!("../../../tests/golden/csr/pss.der");
/// Made by OpenSSL 3.0: RSA 2048 signed with sha1WithRSAEncryption.
const SHA1: &[u8] = include_bytes!("../../../tests/golden/csr/sha1.der");

const CN: &[u8] = &[6, 3, 0x55, 4, 3];
const EXTENSION_REQUEST: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const MS_REQUEST: &[u8] = &[6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 14];
const SAN: &[u8] = &[6, 3, 0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[6, 3, 0x55, 0x1d, 0x13];
const UNKNOWN: &[u8] = &[6, 3, 0x2a, 3, 4];

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..=127 => vec![short as u8],
        middle @ 128..=255 => vec![0x81, middle as u8],
        long => vec![0x82, (long >> 8) as u8, long as u8],
    };
    [vec![tag], length, content].concat()
}

fn common_name(text: &str) -> Vec<u8> {
    tlv(0x31, &[&tlv(0x30, &[CN, &tlv(12, &[text.as_bytes()])])])
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[oid, &tlv(4, &[value])])
}

fn san(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|(tag, value)| tlv(*tag, &[value])).collect();
    extension(SAN, &tlv(0x30, &[&names]))
}

fn attribute(oid: &[u8], extensions: &[u8]) -> Vec<u8> {
    tlv(0x30, &[oid, &tlv(0x31, &[&tlv(0x30, &[extensions])])])
}

/// A request for `subject` with `attributes`, properly signed.
fn signed(subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let spki = pair.public_key().as_der().unwrap();
    let info =
        tlv(0x30, &[&[2, 1, 0], &tlv(0x30, &[subject]), spki.as_ref(), &tlv(0xa0, &[attributes])]);
    let signature = pair.sign(&SystemRandom::new(), &info).unwrap();
    tlv(
        0x30,
        &[
            &info,
            SignatureAlgorithm::EcdsaSha256.identifier_der(),
            &tlv(3, &[&[0], signature.as_ref()]),
        ],
    )
}

/// A request with this CN (if not empty) and these extensions.
fn request(name: &str, extensions: &[u8]) -> Result<Vec<String>, CsrError> {
    let subject = if name.is_empty() { Vec::new() } else { common_name(name) };
    let attributes =
        if extensions.is_empty() { Vec::new() } else { attribute(EXTENSION_REQUEST, extensions) };
    parsed(&signed(&subject, &attributes))
}

fn parsed(der: &[u8]) -> Result<Vec<String>, CsrError> {
    Ok(Csr::parse(der)?.identifiers().iter().map(Identifier::value).collect())
}

fn names(expected: &[&str]) -> Result<Vec<String>, CsrError> {
    Ok(expected.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn requests_of_openssl_parse() {
    assert_eq!(parsed(EC), names(&["printer.lan", "10.0.0.7", "fd00::7"]));
    assert_eq!(parsed(PSS), names(&["printer.lan", "10.0.0.7"]));
    assert_eq!(parsed(SHA1), Err(CsrError::Signature));
}

#[test]
fn requests_of_rcgen_parse() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.lan".to_owned(), "10.0.0.1".to_owned()]);
    let mut params = params.unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key).unwrap();
    let csr = Csr::parse(request.der()).unwrap();
    assert_eq!(csr.key().kind(), crate::pki::key::KeyKind::Ed25519);
    assert_eq!(parsed(request.der()), names(&["a.lan", "10.0.0.1"]));
}

#[test]
fn the_names_are_the_union_of_san_and_cn() {
    let printer = san(&[(0x82, b"Printer.LAN"), (0x87, &[10, 0, 0, 7])]);
    assert_eq!(request("", &printer), names(&["printer.lan", "10.0.0.7"]));
    assert_eq!(request("PRINTER.lan", &printer), names(&["printer.lan", "10.0.0.7"]));
    assert_eq!(request("10.0.0.7", &printer), names(&["printer.lan", "10.0.0.7"]));
    assert_eq!(request("nas.lan", &printer), Err(CsrError::CommonNameNotInSan));
    assert_eq!(request("10.0.0.8", &printer), Err(CsrError::CommonNameNotInSan));
    assert_eq!(request("My Printer", &printer), Err(CsrError::CommonNameNotInSan));
    assert_eq!(request("nas.lan", &[]), names(&["nas.lan"]));
    assert!(matches!(request("10.0.0.7", &[]), Err(CsrError::Name(_))));
    assert!(matches!(request("My Printer", &[]), Err(CsrError::Name(_))));
    assert_eq!(request("", &[]), names(&[]));
    // The same name twice is one name; a second CN is held to the same rule.
    let twice = san(&[(0x82, b"a.lan"), (0x82, b"A.lan")]);
    assert_eq!(request("", &twice), names(&["a.lan"]));
    let subject = [common_name("a.lan"), common_name("b.lan")].concat();
    assert_eq!(
        parsed(&signed(&subject, &attribute(EXTENSION_REQUEST, &twice))),
        Err(CsrError::CommonNameNotInSan)
    );
}

#[test]
fn names_no_certificate_can_hold_are_refused() {
    for name in [
        (0x81, &b"root@a.lan"[..]),
        (0x86, b"https://a.lan/"),
        (0xa4, &[0x30, 0]),
        (0x88, &[0x2a, 3]),
        (0x82, b"a_b.lan"),
        (0x82, b"a.lan\0.example"),
        (0x82, b""),
        (0x82, b"10.0.0.1"),
        (0x82, b"b\xc3\xbccher.lan"),
        (0x82, b"\xff.lan"),
        (0x87, &[10, 0, 0]),
        (0x87, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]),
    ] {
        let refused = request("", &san(&[(0x82, b"a.lan"), name]));
        assert!(matches!(refused, Err(CsrError::Name(_))), "{name:x?} {refused:?}");
    }
}

#[test]
fn both_names_of_the_extension_request_are_read() {
    let (one, other) = (san(&[(0x82, b"a.lan")]), san(&[(0x82, b"b.lan")]));
    let microsoft = attribute(MS_REQUEST, &other);
    assert_eq!(parsed(&signed(&[], &microsoft)), names(&["b.lan"]));
    let both = [attribute(EXTENSION_REQUEST, &one), microsoft].concat();
    assert_eq!(parsed(&signed(&[], &both)), names(&["a.lan", "b.lan"]));
}

#[test]
fn a_request_for_a_ca_is_refused() {
    let constraints = |value: &[u8]| request("a.lan", &extension(BASIC_CONSTRAINTS, value));
    assert_eq!(constraints(&[0x30, 3, 1, 1, 0xff]), Err(CsrError::AsksForCa));
    assert_eq!(constraints(&[0x30, 6, 1, 1, 0xff, 2, 1, 0]), Err(CsrError::AsksForCa));
    assert_eq!(constraints(&[0x30, 3, 1, 1, 1]), Err(CsrError::AsksForCa));
    assert_eq!(constraints(&[0x30, 3, 2, 1, 0]), Err(CsrError::AsksForCa));
    assert_eq!(constraints(&[0x30, 0]), names(&["a.lan"]));
    assert_eq!(constraints(&[0x30, 3, 1, 1, 0]), names(&["a.lan"]));
    assert!(matches!(constraints(&[0xff]), Err(CsrError::Malformed(_))));
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_repeated_refused() {
    let unknown = extension(UNKNOWN, b"whatever");
    assert_eq!(request("a.lan", &unknown), names(&["a.lan"]));
    let critical = tlv(0x30, &[UNKNOWN, &[1, 1, 0xff], &tlv(4, &[b"x"])]);
    assert_eq!(request("a.lan", &critical), names(&["a.lan"]));
    let twice = [unknown.clone(), unknown.clone()].concat();
    assert_eq!(request("a.lan", &twice), Err(CsrError::Malformed("an extension stands twice")));
    let password = tlv(0x30, &[UNKNOWN, &tlv(0x31, &[&tlv(12, &[b"secret"])])]);
    assert_eq!(parsed(&signed(&common_name("a.lan"), &password)), names(&["a.lan"]));
    assert_eq!(
        parsed(&signed(&[], &[password.clone(), password].concat())),
        Err(CsrError::Malformed("an attribute stands twice"))
    );
}

#[test]
fn any_changed_octet_is_noticed() {
    for at in 0..EC.len() {
        let mut bent = EC.to_vec();
        bent[at] ^= 0x01;
        assert!(Csr::parse(&bent).is_err(), "octet {at}");
    }
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let one = signed(&common_name("a.lan"), &[]);
    let other = signed(&common_name("a.lan"), &[]);
    let read = |der: &'static [u8]| Request::read(der).unwrap();
    let (one, other): (&'static [u8], &'static [u8]) = (one.leak(), other.leak());
    let (one, other) = (read(one), read(other));
    let mixed = tlv(0x30, &[one.info, one.algorithm, &tlv(3, &[&[0], other.signature])]);
    assert_eq!(parsed(&mixed), Err(CsrError::Signature));
    // An RSA algorithm over an EC key.
    let rsa = SignatureAlgorithm::RsaSha256.identifier_der();
    let mixed = tlv(0x30, &[one.info, rsa, &tlv(3, &[&[0], one.signature])]);
    assert_eq!(parsed(&mixed), Err(CsrError::Signature));
}

#[test]
fn size_and_counts_are_bounded() {
    assert_eq!(parsed(&vec![0x30; Csr::MAX_DER + 1]), Err(CsrError::TooLarge));
    let many: Vec<String> = (0..=MAX_NAMES).map(|n| format!("h{n}.lan")).collect();
    let list = |count: usize| {
        let names: Vec<(u8, &[u8])> =
            many[..count].iter().map(|name| (0x82, name.as_bytes())).collect();
        request("", &san(&names))
    };
    assert_eq!(list(MAX_NAMES).map(|names| names.len()), Ok(MAX_NAMES));
    assert_eq!(list(MAX_NAMES + 1), Err(CsrError::TooLarge));
    let extensions = |count: u8| {
        let list: Vec<u8> = (0..count).flat_map(|n| extension(&[6, 3, 0x2a, 3, n], b"x")).collect();
        request("a.lan", &list)
    };
    assert_eq!(extensions(MAX_EXTENSIONS as u8), names(&["a.lan"]));
    assert_eq!(extensions(MAX_EXTENSIONS as u8 + 1), Err(CsrError::TooLarge));
}

#[test]
fn a_weak_key_is_named() {
    let refused = Csr::parse(&{
        // RFC 9500's P-384 key cannot sign here, so strength is judged before the signature.
        let spki = crate::pki::key::published_key();
        let info = tlv(0x30, &[&[2, 1, 0], &tlv(0x30, &[]), &spki, &tlv(0xa0, &[])]);
        let algorithm = SignatureAlgorithm::EcdsaSha384.identifier_der();
        tlv(0x30, &[&info, algorithm, &[3, 1, 0]])
    });
    assert_eq!(refused.unwrap_err(), CsrError::WeakKey(WeakKey::Blocked));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(
        at in 0usize..EC.len(),
        with in proptest::collection::vec(any::<u8>(), 0..6),
        cut in 0usize..EC.len(),
    ) {
        let mut bytes = EC.to_vec();
        bytes.splice(at..(at + with.len()).min(EC.len()), with);
        let _ = Csr::parse(&bytes);
        let _ = Csr::parse(&EC[..cut]);
        let _ = Request::read(&EC[cut..]);
        let mut wanted = Wanted::default();
        let _ = wanted.read_attributes(&bytes[cut.min(bytes.len())..]);
    }
}
