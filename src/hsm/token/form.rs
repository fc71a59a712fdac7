//! Between the forms of PKCS#11 and those of X.509: curve parameters, points, moduli to
//! SubjectPublicKeyInfo; raw ECDSA signatures to DER. Pure; the octets come from a token and may be anything.

use const_oid::db::fips204;
use der::asn1::{BitStringRef, ObjectIdentifier, UintRef};
use der::{Encode, Sequence};

use crate::pki::key::KeyKind;

/// What the token gave has no such meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood(pub &'static str);

/// CKA_EC_PARAMS for generating a key of this kind; `None` where no curve is.
pub fn ec_params(kind: KeyKind, ed25519_as_name: bool) -> Option<Vec<u8>> {
    let octets: &[u8] = match kind {
        KeyKind::EcP256 => P256,
        KeyKind::EcP384 => P384,
        KeyKind::EcP521 => P521,
        KeyKind::Ed25519 if ed25519_as_name => ED25519_NAME,
        KeyKind::Ed25519 => ED25519,
        KeyKind::Rsa(_) | KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => return None,
    };
    Some(octets.to_vec())
}

/// The kind of an EC or Edwards key by its CKA_EC_PARAMS: the curve's OID, or for Ed25519 on older
/// tokens the PrintableString `edwards25519`.
pub fn ec_kind(params: &[u8]) -> Result<KeyKind, NotUnderstood> {
    [(P256, KeyKind::EcP256), (P384, KeyKind::EcP384), (P521, KeyKind::EcP521)]
        .into_iter()
        .chain([(ED25519, KeyKind::Ed25519), (ED25519_NAME, KeyKind::Ed25519)])
        .find(|(known, _)| *known == params)
        .map(|(_, kind)| kind)
        .ok_or(NotUnderstood("CKA_EC_PARAMS names no curve known here"))
}

/// The SubjectPublicKeyInfo of an EC or Edwards key. CKA_EC_POINT is a DER OCTET STRING around the
/// point, or on some tokens the bare point; which it is follows from its length.
pub fn ec_spki(params: &[u8], point: &[u8]) -> Result<Vec<u8>, NotUnderstood> {
    let kind = ec_kind(params)?;
    let length = match kind {
        KeyKind::EcP256 => 65,
        KeyKind::EcP384 => 97,
        KeyKind::EcP521 => 133,
        KeyKind::Ed25519 => 32,
        KeyKind::Rsa(_) | KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => {
            return Err(NotUnderstood("no curve"));
        }
    };
    let bare = if point.len() == length {
        point
    } else {
        let header: Vec<u8> = match u8::try_from(length) {
            Ok(short) if short < 0x80 => vec![0x04, short],
            Ok(long) => vec![0x04, 0x81, long],
            Err(_) => return Err(NotUnderstood("no curve has such points")),
        };
        match point.strip_prefix(header.as_slice()) {
            Some(bare) if bare.len() == length => bare,
            _ => return Err(NotUnderstood("CKA_EC_POINT is no point of its curve")),
        }
    };
    let algorithm = match kind {
        KeyKind::Ed25519 => Algorithm { oid: OID_ED25519, curve: None },
        KeyKind::EcP256 => Algorithm { oid: OID_EC, curve: Some(OID_P256) },
        KeyKind::EcP384 => Algorithm { oid: OID_EC, curve: Some(OID_P384) },
        _ => Algorithm { oid: OID_EC, curve: Some(OID_P521) },
    };
    let key = BitStringRef::from_bytes(bare).map_err(|_| NotUnderstood("point too long"))?;
    Spki { algorithm, key }.to_der().map_err(|_| NotUnderstood("point too long"))
}

/// The SubjectPublicKeyInfo of an RSA key from CKA_MODULUS and CKA_PUBLIC_EXPONENT.
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Result<Vec<u8>, NotUnderstood> {
    let bad = |_| NotUnderstood("CKA_MODULUS or CKA_PUBLIC_EXPONENT is no number");
    let key = RsaPublicKey {
        modulus: UintRef::new(modulus).map_err(bad)?,
        exponent: UintRef::new(exponent).map_err(bad)?,
    }
    .to_der()
    .map_err(bad)?;
    let key = BitStringRef::from_bytes(&key).map_err(bad)?;
    RsaSpki { algorithm: RsaAlgorithm { oid: OID_RSA, null: der::asn1::Null }, key }
        .to_der()
        .map_err(bad)
}

/// The SubjectPublicKeyInfo of an ML-DSA key from CKA_PARAMETER_SET, as `kind`, and CKA_VALUE: the octets of FIPS 204
/// as they are (RFC 9881 section 4), which some modules wrap into an OCTET STRING as they do with points.
pub fn ml_dsa_spki(kind: KeyKind, value: &[u8]) -> Result<Vec<u8>, NotUnderstood> {
    let (oid, length) = match kind {
        KeyKind::MlDsa44 => (fips204::ID_ML_DSA_44, 1312_u16),
        KeyKind::MlDsa65 => (fips204::ID_ML_DSA_65, 1952),
        KeyKind::MlDsa87 => (fips204::ID_ML_DSA_87, 2592),
        _ => return Err(NotUnderstood("no ML-DSA")),
    };
    let [high, low] = length.to_be_bytes();
    let bare = match value.strip_prefix(&[0x04, 0x82, high, low]) {
        Some(bare) if bare.len() == usize::from(length) => bare,
        _ if value.len() == usize::from(length) => value,
        _ => return Err(NotUnderstood("CKA_VALUE is no ML-DSA key of its parameter set")),
    };
    let key = BitStringRef::from_bytes(bare).map_err(|_| NotUnderstood("key too long"))?;
    Spki { algorithm: Algorithm { oid, curve: None }, key }
        .to_der()
        .map_err(|_| NotUnderstood("key too long"))
}

/// A raw `r ‖ s` as PKCS#11 gives it, as the DER Ecdsa-Sig-Value of X.509 (RFC 3279 section 2.2.3).
pub fn ecdsa_der(raw: &[u8]) -> Result<Vec<u8>, NotUnderstood> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) || raw.len() > 2 * 66 {
        return Err(NotUnderstood("the signature is not two numbers of one length"));
    }
    let bad = |_| NotUnderstood("the signature is not two numbers");
    let (r, s) = raw.split_at(raw.len() / 2);
    EcdsaSigValue { r: UintRef::new(r).map_err(bad)?, s: UintRef::new(s).map_err(bad)? }
        .to_der()
        .map_err(bad)
}

#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

#[derive(Sequence)]
struct Algorithm {
    oid: ObjectIdentifier,
    #[asn1(optional = "true")]
    curve: Option<ObjectIdentifier>,
}

#[derive(Sequence)]
struct Spki<'a> {
    algorithm: Algorithm,
    key: BitStringRef<'a>,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

#[derive(Sequence)]
struct RsaAlgorithm {
    oid: ObjectIdentifier,
    null: der::asn1::Null,
}

#[derive(Sequence)]
struct RsaSpki<'a> {
    algorithm: RsaAlgorithm,
    key: BitStringRef<'a>,
}

const OID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const OID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const OID_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const OID_P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const OID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_unwrapped_once_or_not_at_all() {
        // The first coordinate octet 0x41 makes the bare point look like an OCTET STRING's header.
        let mut bare = vec![0x04, 0x41];
        bare.extend([7; 63]);
        let mut wrapped = vec![0x04, 0x41];
        wrapped.extend(&bare);
        let spki = ec_spki(P256, &bare).unwrap();
        assert_eq!(ec_spki(P256, &wrapped).unwrap(), spki);
        assert!(spki.ends_with(&bare));
        assert!(ec_spki(P256, &bare[1..]).is_err());
        assert!(ec_spki(P384, &bare).is_err());
    }

    #[test]
    fn long_points_have_long_headers() {
        let mut wrapped = vec![0x04, 0x81, 133, 0x04];
        wrapped.extend([1; 132]);
        assert!(ec_spki(P521, &wrapped).is_ok());
    }

    #[test]
    fn ed25519_is_known_by_oid_and_by_name() {
        let key = [9u8; 32];
        assert_eq!(ec_spki(ED25519, &key), ec_spki(ED25519_NAME, &key));
        let spki = ec_spki(ED25519, &key).unwrap();
        assert_eq!(spki.len(), 44);
        assert_eq!(&spki[..12], &[0x30, 0x2a, 0x30, 0x05, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0]);
    }

    #[test]
    fn an_ml_dsa_key_is_taken_bare_or_wrapped_once() {
        for (kind, length) in
            [(KeyKind::MlDsa44, 1312_u16), (KeyKind::MlDsa65, 1952), (KeyKind::MlDsa87, 2592)]
        {
            let [high, low] = length.to_be_bytes();
            // Begins like the header of an OCTET STRING, and is none.
            let mut bare = vec![0x04, 0x82, high, low];
            bare.resize(usize::from(length), 7);
            let wrapped = [&[0x04, 0x82, high, low][..], &bare].concat();
            let spki = ml_dsa_spki(kind, &bare).unwrap();
            assert_eq!(ml_dsa_spki(kind, &wrapped).unwrap(), spki);
            assert_eq!(crate::pki::key::PublicKey::from_spki(&spki).unwrap().kind(), kind);
            assert!(ml_dsa_spki(kind, &bare[1..]).is_err());
            assert!(ml_dsa_spki(KeyKind::EcP256, &bare).is_err());
        }
    }

    #[test]
    fn ecdsa_numbers_are_minimal_and_positive() {
        let mut raw = [0u8; 64];
        raw[31] = 1;
        raw[32] = 0x80;
        let der = ecdsa_der(&raw).unwrap();
        assert_eq!(&der[..5], &[0x30, 38, 2, 1, 1]);
        assert_eq!(&der[5..9], &[2, 33, 0, 0x80]);
        assert!(ecdsa_der(&raw[..63]).is_err());
        assert!(ecdsa_der(&[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn foreign_octets_never_panic(params: Vec<u8>, point: Vec<u8>, raw: Vec<u8>) {
            let _ = ec_spki(&params, &point);
            let _ = ec_spki(P256, &point);
            let _ = rsa_spki(&params, &point);
            let _ = ecdsa_der(&raw);
            let _ = ml_dsa_spki(KeyKind::MlDsa44, &raw);
        }
    }
}
