//! Certificate requests: as they come, and properly signed around whatever the fuzzer made of
//! subject and attributes, which a mere mutation could not get past the signature.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use chancery::pki::csr::Csr;
use chancery::pki::key::SignatureAlgorithm;
use chancery::pki::name::Identifier;

static KEY: LazyLock<(Ed25519KeyPair, Vec<u8>)> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
    (pair, spki)
});

/// True if the octets, or the request signed around them, were let in.
pub(crate) fn judge(data: &[u8]) -> bool {
    let whole = request(data);
    let Some((length, rest)) = data.split_first() else { return whole };
    let (subject, attributes) = rest.split_at(usize::from(*length).min(rest.len()));
    let (pair, spki) = &*KEY;
    let info = tlv(0x30, &[&[2, 1, 0], &tlv(0x30, &[subject]), spki, &tlv(0xa0, &[attributes])]);
    let signature = pair.sign(&info);
    let algorithm = SignatureAlgorithm::Ed25519.identifier_der();
    request(&tlv(0x30, &[&info, algorithm, &tlv(3, &[&[0], signature.as_ref()])])) || whole
}

fn request(der: &[u8]) -> bool {
    let Ok(csr) = Csr::parse(der) else { return false };
    assert!(der.len() <= Csr::MAX_DER);
    csr.key().check_strength().unwrap();
    for identifier in csr.identifiers() {
        // Every name that was let in is canonical.
        let again = Identifier::parse(identifier.kind(), &identifier.value());
        assert_eq!(again.as_ref(), Ok(identifier));
    }
    true
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..=127 => vec![short as u8],
        middle @ 128..=255 => vec![0x81, middle as u8],
        long => vec![0x83, (long >> 16) as u8, (long >> 8) as u8, long as u8],
    };
    // Minimal lengths only: three octets where two would do are no DER.
    let length = match length.as_slice() {
        [0x83, 0, rest @ ..] => [&[0x82], rest].concat(),
        _ => length,
    };
    [vec![tag], length, content].concat()
}
