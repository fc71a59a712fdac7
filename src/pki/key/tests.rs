use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64ct::{Base64, Encoding};
use proptest::prelude::*;

use super::algorithm::{ED25519, RSA_PSS_SHA256, RSA_PSS_SHA256_WITHOUT_NULLS, RSA_SHA256};
use super::*;
use crate::pki::tlv;

fn key(der: &[u8]) -> PublicKey {
    PublicKey::from_spki(der).unwrap()
}

/// RFC 9500 section 2.3, testECCP384.
const RFC_9500_P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEWwkBuIUjKW65GdUP+hqcs3S8TUCVhigr\
    /soRsdla27VHNK9XC/grcijPImvPTCXdvP47GjrTlDDv92Ph1o0uFR2Rcgt3lbWN\
    prNGOWE6j7m1qNpIxnRxF/mRnoQk837I";

/// A well-formed key that is blocked.
pub(crate) fn published_key() -> Vec<u8> {
    Base64::decode_vec(RFC_9500_P384).unwrap()
}

#[test]
fn a_published_key_is_blocked() {
    let key = key(&published_key());
    assert_eq!(key.kind(), KeyKind::EcP384);
    assert_eq!(key.check_strength(), Err(WeakKey::Blocked));
}

#[test]
fn ecdsa_verifies_with_every_sha_2_and_nothing_else() {
    let pair = EcdsaKeyPair::generate(&aws::ECDSA_P521_SHA384_ASN1_SIGNING).unwrap();
    let key = key(pair.public_key().as_der().unwrap().as_ref());
    assert_eq!(key.kind(), KeyKind::EcP521);
    assert_eq!(key.key_bits(), pair.public_key().as_ref());
    assert_eq!(key.check_strength(), Ok(()));
    let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
    for algorithm in SignatureAlgorithm::ALL {
        assert_eq!(
            key.verify(algorithm, b"message", signature.as_ref()),
            algorithm == SignatureAlgorithm::EcdsaSha384,
            "{algorithm:?}"
        );
    }
    assert!(!key.verify(SignatureAlgorithm::EcdsaSha384, b"massage", signature.as_ref()));
}

#[test]
fn every_curve_signs_with_its_preferred_algorithm() {
    for (signing, kind) in [
        (&aws::ECDSA_P256_SHA256_ASN1_SIGNING, KeyKind::EcP256),
        (&aws::ECDSA_P384_SHA384_ASN1_SIGNING, KeyKind::EcP384),
        (&aws::ECDSA_P521_SHA512_ASN1_SIGNING, KeyKind::EcP521),
    ] {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let key = key(pair.public_key().as_der().unwrap().as_ref());
        assert_eq!(key.kind(), kind);
        let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
        assert!(key.verify(key.preferred_algorithm(), b"message", signature.as_ref()));
    }
}

#[test]
fn rsa_verifies_pkcs1_and_pss() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key = key(pair.public_key().as_der().unwrap().as_ref());
    assert_eq!(key.kind(), KeyKind::Rsa(2048));
    assert_eq!(key.check_strength(), Ok(()));
    for (encoding, algorithm) in [
        (&aws::RSA_PKCS1_SHA256, SignatureAlgorithm::RsaSha256),
        (&aws::RSA_PKCS1_SHA384, SignatureAlgorithm::RsaSha384),
        (&aws::RSA_PKCS1_SHA512, SignatureAlgorithm::RsaSha512),
        (&aws::RSA_PSS_SHA256, SignatureAlgorithm::RsaPssSha256),
        (&aws::RSA_PSS_SHA384, SignatureAlgorithm::RsaPssSha384),
    ] {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), b"message", &mut signature).unwrap();
        for tried in SignatureAlgorithm::ALL {
            assert_eq!(key.verify(tried, b"message", &signature), tried == algorithm);
        }
    }
}

#[test]
fn ed25519_verifies() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let key = key(pair.public_key().as_der().unwrap().as_ref());
    assert_eq!(key.kind(), KeyKind::Ed25519);
    let signature = pair.sign(b"message");
    for tried in SignatureAlgorithm::ALL {
        let fits = tried == SignatureAlgorithm::Ed25519;
        assert_eq!(key.verify(tried, b"message", signature.as_ref()), fits);
    }
}

#[test]
fn rfc_8032_test_1_verifies() {
    let spki = [
        &[0x30, 0x2a][..],
        ED25519,
        &[3, 0x21, 0],
        &hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
    ]
    .concat();
    let signature = hex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    assert!(key(&spki).verify(SignatureAlgorithm::Ed25519, b"", &signature));
}

#[test]
fn ed25519_points_of_small_order_or_without_canonical_form_are_refused() {
    let prefix = [&[0x30, 0x2a][..], ED25519, &[3, 0x21, 0]].concat();
    let prime = {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (0xed, 0x7f);
        y
    };
    for y in ED25519_SMALL_ORDER_Y.into_iter().chain([prime]) {
        for sign in [0, 0x80] {
            let mut y = y;
            y[31] |= sign;
            assert!(PublicKey::from_spki(&[&prefix[..], &y].concat()).is_err(), "{y:x?}");
        }
    }
    // What they would let anybody do: R = the identity, S = 0 verifies under the identity.
    let forged = [&ED25519_SMALL_ORDER_Y[0][..], &[0; 32]].concat();
    let identity = UnparsedPublicKey::new(&aws::ED25519, ED25519_SMALL_ORDER_Y[0]);
    assert!(identity.verify(b"anything", &forged).is_ok());
}

#[test]
fn a_point_off_its_curve_is_refused() {
    let pair = EcdsaKeyPair::generate(&aws::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let mut bent = der.as_ref().to_vec();
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(PublicKey::from_spki(&bent), Err(NotAKey("the EC point is not on its curve")));
    // The same point compressed is another spelling of the same key, and so refused.
    let bits = pair.public_key().as_ref();
    let sign = 2 + (bits[64] & 1);
    let mut compressed = der.as_ref()[..der.as_ref().len() - 65].to_vec();
    compressed[1] -= 32;
    let at = compressed.len() - 2;
    compressed[at] -= 32;
    compressed.push(sign);
    compressed.extend_from_slice(&bits[1..33]);
    assert_eq!(PublicKey::from_spki(&compressed), Err(NotAKey("the EC point is not uncompressed")));
}

#[test]
fn a_key_has_one_encoding() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.public_key().as_der().unwrap().as_ref().to_vec();
    // Without the NULL of the parameters.
    let at = der.windows(2).position(|pair| pair == [5, 0]).unwrap();
    let mut bare = der.clone();
    bare.drain(at..at + 2);
    bare[5] -= 2;
    let length = u16::from_be_bytes([bare[2], bare[3]]) - 2;
    bare[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(PublicKey::from_spki(&bare), Err(NotAKey("the RSA key's parameters are not NULL")));
    // Followed by something.
    assert!(PublicKey::from_spki(&[&der[..], &[0]].concat()).is_err());
    // In a length of more octets than it needs.
    let long = [&[0x30, 0x83, 0][..], &der[2..]].concat();
    assert!(PublicKey::from_spki(&long).is_err());
}

#[test]
fn an_ml_dsa_key_is_bare_octets_of_its_length() {
    for (oid, kind, octets) in [
        (17, KeyKind::MlDsa44, 1312_usize),
        (18, KeyKind::MlDsa65, 1952),
        (19, KeyKind::MlDsa87, 2592),
    ] {
        let info = |parameters: &[u8], octets: usize| {
            let identifier = [&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, oid][..], parameters];
            let identifier = tlv::sequence(&identifier);
            tlv::sequence(&[&identifier, &tlv::bit_string(&vec![7; octets])])
        };
        let key = key(&info(&[], octets));
        assert_eq!((key.kind(), key.key_bits().len()), (kind, octets));
        assert_eq!(key.check_strength(), Ok(()));
        for wrong in [octets - 1, octets + 1, octets + 4] {
            assert!(PublicKey::from_spki(&info(&[], wrong)).is_err());
        }
        assert_eq!(
            PublicKey::from_spki(&info(&tlv::NULL, octets)),
            Err(NotAKey("the ML-DSA key has parameters"))
        );
    }
}

#[test]
fn only_rsa_keys_have_a_choice_and_it_makes_no_other_key() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let plain = key(pair.public_key().as_der().unwrap().as_ref());
    assert_eq!(plain.preferred_algorithm(), SignatureAlgorithm::RsaSha256);
    for (name, algorithm) in SignatureAlgorithm::CHOICES {
        assert_eq!(SignatureAlgorithm::choice(name), Some(algorithm));
        assert_eq!(algorithm.choice_name(), Some(name));
        let told = plain.clone().signing_with(algorithm).unwrap();
        assert_eq!(told.preferred_algorithm(), algorithm);
        assert_eq!(told, plain);
        let ec = EcdsaKeyPair::generate(&aws::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let ec = key(ec.public_key().as_der().unwrap().as_ref());
        assert!(ec.signing_with(algorithm).is_none());
    }
}

#[test]
fn algorithm_identifiers_are_distinct_der_and_invert() {
    for algorithm in SignatureAlgorithm::ALL {
        let der = algorithm.identifier_der();
        assert_eq!(SignatureAlgorithm::from_identifier_der(der), Some(algorithm));
        let parsed = spki::AlgorithmIdentifierRef::from_der(der).unwrap();
        let name = const_oid::db::DB.by_oid(&parsed.oid).unwrap();
        let expected = match algorithm {
            SignatureAlgorithm::EcdsaSha256 => "ecdsa-with-SHA256",
            SignatureAlgorithm::EcdsaSha384 => "ecdsa-with-SHA384",
            SignatureAlgorithm::EcdsaSha512 => "ecdsa-with-SHA512",
            SignatureAlgorithm::RsaSha256 => "sha256WithRSAEncryption",
            SignatureAlgorithm::RsaSha384 => "sha384WithRSAEncryption",
            SignatureAlgorithm::RsaSha512 => "sha512WithRSAEncryption",
            SignatureAlgorithm::RsaPssSha256 | SignatureAlgorithm::RsaPssSha384 => "id-RSASSA-PSS",
            SignatureAlgorithm::MlDsa44 => "id-ml-dsa-44",
            SignatureAlgorithm::MlDsa65 => "id-ml-dsa-65",
            SignatureAlgorithm::MlDsa87 => "id-ml-dsa-87",
            SignatureAlgorithm::Ed25519 => "id-Ed25519",
        };
        assert_eq!(name, expected);
    }
    for der in [RSA_PSS_SHA256, RSA_PSS_SHA256_WITHOUT_NULLS] {
        spki::AlgorithmIdentifierRef::from_der(der).unwrap();
        assert_eq!(
            SignatureAlgorithm::from_identifier_der(der),
            Some(SignatureAlgorithm::RsaPssSha256)
        );
    }
    assert_eq!(SignatureAlgorithm::from_identifier_der(&RSA_SHA256[..13]), None);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PublicKey::from_spki(&bytes);
    }

    #[test]
    fn a_changed_octet_makes_another_key_or_none(at in 0usize..91, change in 1u8..) {
        let mut der = Base64::decode_vec(
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==",
        ).unwrap();
        let known = key(&der);
        der[at] ^= change;
        if let Ok(other) = PublicKey::from_spki(&der) {
            prop_assert_ne!(other.key_id(), known.key_id());
        }
    }
}
