//! CA keys beyond ECDSA: RSASSA-PSS (RFC 4055) and ML-DSA (RFC 9881).

use aws_lc_rs::signature::{
    KeyPair as _, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair,
};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl;
use chancery::pki::csr::Csr;
use chancery::pki::key::{KeyKind, PublicKey, SignatureAlgorithm};
use chancery::pki::profile::Profile;
use rcgen::SigningKey as _;
use webpki::KeyUsage;

use crate::chain::{Chain, Key, issuing_template};

#[test]
fn pss_signs_certificates_and_crls_with_exact_parameters() {
    for (algorithm, salt) in [
        (SignatureAlgorithm::RsaPssSha256, "Salt Length: 0x20"),
        (SignatureAlgorithm::RsaPssSha384, "Salt Length: 0x30"),
    ] {
        let chain = Chain::of(Key::pss(algorithm), Key::pss(algorithm), &issuing_template());
        let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
        let leaf = chain.issue(&Profile::server(), &["nas.lan", "10.1.2.3"], &key.public);
        assert_eq!(leaf.signature().0, algorithm);
        assert!(
            leaf.verify_issued_by(&chain.issuing) && chain.issuing.verify_issued_by(&chain.root)
        );
        let crl = chain.issuing_crl(&[]);
        assert!(crl::parse_verified(&crl, &chain.issuing).is_ok());
        assert_eq!(chain.openssl(&leaf.pem(), &crl), Ok(()), "{algorithm:?}");
        assert_eq!(
            chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl),
            Ok(()),
            "{algorithm:?}"
        );
        let text = chain.text(&leaf);
        // The key itself stays rsaEncryption, which every device knows.
        assert!(text.contains("Signature Algorithm: rsassaPss") && text.contains(salt), "{text}");
        assert!(chain.text(&chain.issuing).contains("Public Key Algorithm: rsaEncryption"));
        // The other padding, by the same key over the same octets, is none: neither may pass for the other.
        let (pkcs1, issuing) = (SignatureAlgorithm::RsaSha256, &chain.issuing_key);
        let padded = issuing.pair.sign(leaf.tbs()).unwrap();
        assert!(issuing.public.verify(pkcs1, leaf.tbs(), &padded));
        assert!(!issuing.public.verify(algorithm, leaf.tbs(), &padded));
        assert!(!issuing.public.verify(pkcs1, leaf.tbs(), leaf.signature().1));
        let passed_off = Certificate::assemble(leaf.tbs(), algorithm, &padded).unwrap();
        assert!(!passed_off.verify_issued_by(&chain.issuing));
    }
}

#[test]
fn ml_dsa_chains_stand_before_another_judge() {
    for (algorithm, kind, signature) in [
        (&rcgen::PKCS_ML_DSA_44, KeyKind::MlDsa44, 2420),
        (&rcgen::PKCS_ML_DSA_65, KeyKind::MlDsa65, 3309),
        (&rcgen::PKCS_ML_DSA_87, KeyKind::MlDsa87, 4627),
    ] {
        let chain = Chain::new(algorithm, &issuing_template());
        assert_eq!(chain.issuing.public_key().kind(), kind);
        let crl = chain.issuing_crl(&[]);
        assert!(crl::parse_verified(&crl, &chain.issuing).is_ok());
        // Devices with classical keys, and one with a key of this kind.
        for key in [Key::new(&rcgen::PKCS_ECDSA_P256_SHA256), Key::new(algorithm)] {
            let profile = Profile {
                keys: vec!["ec-p256".to_owned(), ml_dsa_name(kind).to_owned()],
                ..Profile::server()
            };
            let leaf = chain.issue(&profile, &["nas.lan", "10.1.2.3"], &key.public);
            assert!(leaf.verify_issued_by(&chain.issuing));
            assert_eq!(leaf.signature().1.len(), signature);
            assert_eq!(chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl), Ok(()), "{kind:?}");
            let mut broken = leaf.der().to_vec();
            *broken.last_mut().unwrap() ^= 1;
            let broken = Certificate::parse(&broken).unwrap();
            assert!(!broken.verify_issued_by(&chain.issuing));
        }
    }
}

#[test]
fn a_classical_root_may_certify_an_ml_dsa_issuer() {
    let (root, issuing) =
        (Key::new(&rcgen::PKCS_ECDSA_P384_SHA384), Key::new(&rcgen::PKCS_ML_DSA_65));
    let chain = Chain::of(root, issuing, &issuing_template());
    let key = Key::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = chain.issue(&Profile::server(), &["nas.lan"], &key.public);
    let crl = chain.issuing_crl(&[]);
    assert_eq!(chain.webpki(leaf.der(), KeyUsage::server_auth(), &crl), Ok(()));
}

#[test]
fn a_device_may_ask_with_an_ml_dsa_key() {
    for algorithm in [&rcgen::PKCS_ML_DSA_44, &rcgen::PKCS_ML_DSA_65, &rcgen::PKCS_ML_DSA_87] {
        let key = Key::new(algorithm);
        let mut params = rcgen::CertificateParams::new(vec!["nas.lan".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key.pair).unwrap();
        let csr = Csr::parse(request.der()).unwrap();
        assert_eq!(csr.key().spki(), key.public.spki());
        let mut forged = request.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(Csr::parse(&forged).is_err());
        // Unless a profile names such keys, none has them.
        assert!(!Profile::server().accepts(key.public.kind()));
    }
}

/// RFC 9881 appendix C: self-signed certificates of keys that FIPS 204 derives from the seed 00 01 … 1f.
#[test]
fn the_examples_of_rfc_9881_verify() {
    let seed: Vec<u8> = (0..32).collect();
    for (pem, signing, kind, algorithm) in [
        (
            include_str!("../golden/rfc9881/ml-dsa-44.pem"),
            &ML_DSA_44_SIGNING,
            KeyKind::MlDsa44,
            SignatureAlgorithm::MlDsa44,
        ),
        (
            include_str!("../golden/rfc9881/ml-dsa-65.pem"),
            &ML_DSA_65_SIGNING,
            KeyKind::MlDsa65,
            SignatureAlgorithm::MlDsa65,
        ),
        (
            include_str!("../golden/rfc9881/ml-dsa-87.pem"),
            &ML_DSA_87_SIGNING,
            KeyKind::MlDsa87,
            SignatureAlgorithm::MlDsa87,
        ),
    ] {
        let certificate = Certificate::parse_pem(pem).unwrap();
        assert_eq!(certificate.public_key().kind(), kind);
        assert_eq!(certificate.signature().0, algorithm);
        assert!(certificate.is_ca() && certificate.verify_issued_by(&certificate));
        let pair = PqdsaKeyPair::from_seed(signing, &seed).unwrap();
        assert_eq!(certificate.public_key().key_bits(), pair.public_key().as_ref());
        // Another key of the same length verifies nothing.
        let mut spki = certificate.public_key().spki().to_vec();
        *spki.last_mut().unwrap() ^= 1;
        let other = PublicKey::from_spki(&spki).unwrap();
        assert!(!other.verify(algorithm, certificate.tbs(), certificate.signature().1));
    }
}

fn ml_dsa_name(kind: KeyKind) -> &'static str {
    Profile::KEYS.iter().find(|(_, known)| *known == kind).map(|(name, _)| *name).unwrap()
}
