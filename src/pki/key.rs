//! Public keys: parsing, strength, verification. The one place that maps algorithm identifiers
//! to aws-lc-rs.

mod algorithm;
mod blocked;
mod rsa;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    self as aws, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm,
};
use const_oid::ObjectIdentifier;
use const_oid::db::{fips204, rfc5912, rfc8410};
use der::{Decode, Encode};
use serde::{Deserialize, Serialize};
use spki::SubjectPublicKeyInfoRef;

pub use algorithm::SignatureAlgorithm;
use algorithm::verification;

/// The kinds of key this CA accepts or holds. Order is stored by postcard: append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum KeyKind {
    /// NIST P-256.
    EcP256,
    /// NIST P-384.
    EcP384,
    /// NIST P-521.
    EcP521,
    /// RSA with a modulus of this many bits.
    Rsa(u16),
    /// RFC 8410.
    Ed25519,
    /// FIPS 204 and RFC 9881, security category 2.
    MlDsa44,
    /// Category 3.
    MlDsa65,
    /// Category 5.
    MlDsa87,
}

/// A public key that parsed, with its SubjectPublicKeyInfo as it was given.
/// EC points are on their curve; nothing is said about strength until `check_strength`.
#[derive(Clone)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
    /// Where in `spki` the key bits begin; they run to its end.
    bits_at: usize,
    /// What its private half signs with, where that is this CA's to say.
    signs_with: SignatureAlgorithm,
}

impl PartialEq for PublicKey {
    /// One SubjectPublicKeyInfo is one key, whatever it signs with.
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

/// The bytes are not a SubjectPublicKeyInfo of a supported kind, canonical DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAKey(pub &'static str);

/// Why a well-formed key is too weak to certify or to sign requests with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakKey {
    /// Neither 2048, 3072 nor 4096 bits.
    RsaSize,
    /// The public exponent is not 65537.
    RsaExponent,
    /// A prime below 752 divides the modulus.
    RsaSmallFactor,
    /// Fermat's method factors the modulus.
    RsaClosePrimes,
    /// The modulus carries the fingerprint of CVE-2017-15361.
    RsaRoca,
    /// The private half is public.
    Blocked,
}

impl PublicKey {
    /// The largest SubjectPublicKeyInfo that is looked at: room for ML-DSA-87, and RSA of 16,384 bits.
    pub const MAX_SPKI: usize = 2700;

    /// Parses DER, with full point validation for EC keys.
    ///
    /// EC points must be uncompressed, RSA parameters NULL, Ed25519 points canonical and not of
    /// small order, ML-DSA keys bare octets without parameters: a key has one encoding here, so that its SHA-256 is its name.
    pub fn from_spki(der: &[u8]) -> Result<Self, NotAKey> {
        if der.len() > Self::MAX_SPKI {
            return Err(NotAKey("the key is too large"));
        }
        let info = SubjectPublicKeyInfoRef::from_der(der)
            .map_err(|_| NotAKey("not a DER SubjectPublicKeyInfo"))?;
        if info.to_der().as_deref() != Ok(der) {
            return Err(NotAKey("not in canonical DER"));
        }
        let bits = info
            .subject_public_key
            .as_bytes()
            .ok_or(NotAKey("the key bits are not whole octets"))?;
        let parameters = info.algorithm.parameters;
        let kind = match info.algorithm.oid {
            rfc5912::ID_EC_PUBLIC_KEY => {
                let curve = parameters
                    .and_then(|any| any.decode_as::<ObjectIdentifier>().ok())
                    .ok_or(NotAKey("the EC key names no curve"))?;
                ec_kind(curve, bits)?
            }
            rfc5912::RSA_ENCRYPTION => {
                if !parameters.is_some_and(|any| any.is_null()) {
                    return Err(NotAKey("the RSA key's parameters are not NULL"));
                }
                KeyKind::Rsa(rsa::Modulus::parse(bits)?.bits())
            }
            rfc8410::ID_ED_25519 => {
                if parameters.is_some() {
                    return Err(NotAKey("the Ed25519 key has parameters"));
                }
                check_ed25519(bits)?;
                KeyKind::Ed25519
            }
            fips204::ID_ML_DSA_44 => ml_dsa_kind(KeyKind::MlDsa44, parameters.is_none(), bits)?,
            fips204::ID_ML_DSA_65 => ml_dsa_kind(KeyKind::MlDsa65, parameters.is_none(), bits)?,
            fips204::ID_ML_DSA_87 => ml_dsa_kind(KeyKind::MlDsa87, parameters.is_none(), bits)?,
            _ => return Err(NotAKey("the key's algorithm is not supported")),
        };
        Ok(Self {
            spki: der.to_vec(),
            kind,
            bits_at: der.len() - bits.len(),
            signs_with: kind.usual_algorithm(),
        })
    }

    /// The same key, whose private half signs with `algorithm`; `None` if such a key cannot.
    ///
    /// An rsaEncryption key may sign PKCS#1 v1.5 or PSS (RFC 4055 section 1.2), which its SubjectPublicKeyInfo
    /// does not say: the ceremony decides.
    pub fn signing_with(mut self, algorithm: SignatureAlgorithm) -> Option<Self> {
        verification(self.kind, algorithm)?;
        self.signs_with = algorithm;
        Some(self)
    }

    /// The DER it was parsed from.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The content of the subjectPublicKey BIT STRING.
    pub fn key_bits(&self) -> &[u8] {
        // `bits_at` was taken from this very vector.
        self.spki.get(self.bits_at..).unwrap_or_default()
    }

    /// SHA-256 over the SPKI: what key files pin and blocklists hold.
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    /// The key identifier (RFC 7093 section 2 method 1: leftmost 160 bits of SHA-256 over the key bits).
    pub fn key_id(&self) -> [u8; 20] {
        let mut id = [0u8; 20];
        id.copy_from_slice(&sha256(self.key_bits())[..20]);
        id
    }

    /// Standards section 5: RSA 2048, 3072 or 4096 with e = 65537, no small factor, no close primes,
    /// no ROCA; and no key of any kind whose private half is published.
    pub fn check_strength(&self) -> Result<(), WeakKey> {
        if blocked::is_blocked(&self.spki_sha256()) {
            return Err(WeakKey::Blocked);
        }
        match self.kind {
            KeyKind::Rsa(_) => rsa::Modulus::parse(self.key_bits())
                .map_err(|_| WeakKey::RsaSize)
                .and_then(|modulus| modulus.check_strength()),
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 | KeyKind::Ed25519 => Ok(()),
            KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => Ok(()),
        }
    }

    /// Verifies; false on any mismatch, also of algorithm and kind.
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        verification(self.kind, algorithm).is_some_and(|verification| {
            UnparsedPublicKey::new(verification, self.key_bits()).verify(message, signature).is_ok()
        })
    }

    /// The algorithm its private half signs with: the usual one of its kind, or what `signing_with` said.
    pub fn preferred_algorithm(&self) -> SignatureAlgorithm {
        self.signs_with
    }
}

impl fmt::Display for KeyKind {
    /// As key files and profiles spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => f.write_str("ec-p256"),
            Self::EcP384 => f.write_str("ec-p384"),
            Self::EcP521 => f.write_str("ec-p521"),
            Self::Rsa(bits) => write!(f, "rsa-{bits}"),
            Self::Ed25519 => f.write_str("ed25519"),
            Self::MlDsa44 => f.write_str("ml-dsa-44"),
            Self::MlDsa65 => f.write_str("ml-dsa-65"),
            Self::MlDsa87 => f.write_str("ml-dsa-87"),
        }
    }
}

impl KeyKind {
    /// What a key of this kind signs with unless it is told otherwise.
    pub fn usual_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::EcP256 => SignatureAlgorithm::EcdsaSha256,
            Self::EcP384 => SignatureAlgorithm::EcdsaSha384,
            Self::EcP521 => SignatureAlgorithm::EcdsaSha512,
            Self::Rsa(_) => SignatureAlgorithm::RsaSha256,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
            Self::MlDsa44 => SignatureAlgorithm::MlDsa44,
            Self::MlDsa65 => SignatureAlgorithm::MlDsa65,
            Self::MlDsa87 => SignatureAlgorithm::MlDsa87,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} ", self.kind)?;
        self.key_id().iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        f.write_str(")")
    }
}

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotAKey {}

impl fmt::Display for WeakKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RsaSize => "RSA keys must have 2048, 3072 or 4096 bits",
            Self::RsaExponent => "RSA keys must have the public exponent 65537",
            Self::RsaSmallFactor => "the RSA modulus has a small factor",
            Self::RsaClosePrimes => "the RSA modulus is the product of two close primes",
            Self::RsaRoca => "the RSA key was made by a generator with a known flaw (ROCA)",
            Self::Blocked => "the private half of this key is public",
        })
    }
}

impl std::error::Error for WeakKey {}

/// The curve of an EC key whose point is uncompressed, on that curve and not at infinity.
fn ec_kind(curve: ObjectIdentifier, bits: &[u8]) -> Result<KeyKind, NotAKey> {
    let (kind, field): (_, usize) = match curve {
        rfc5912::SECP_256_R_1 => (KeyKind::EcP256, 32),
        rfc5912::SECP_384_R_1 => (KeyKind::EcP384, 48),
        rfc5912::SECP_521_R_1 => (KeyKind::EcP521, 66),
        _ => return Err(NotAKey("the EC key's curve is not supported")),
    };
    if bits.first() != Some(&4) || bits.len() != 1 + 2 * field {
        return Err(NotAKey("the EC point is not uncompressed"));
    }
    let algorithm: &'static dyn VerificationAlgorithm = match kind {
        KeyKind::EcP256 => &aws::ECDSA_P256_SHA256_ASN1,
        KeyKind::EcP384 => &aws::ECDSA_P384_SHA384_ASN1,
        _ => &aws::ECDSA_P521_SHA512_ASN1,
    };
    // Parsing checks both coordinates against the field and the point against the curve equation;
    // the cofactor of these curves is one, so nothing else can be wrong with it.
    ParsedPublicKey::new(algorithm, bits)
        .map(|_| kind)
        .map_err(|_| NotAKey("the EC point is not on its curve"))
}

/// Refuses what is no canonical encoding (RFC 8032 section 5.1.3: y below the field prime), and
/// the points of small order, under which signatures over any message can be made up.
fn check_ed25519(bits: &[u8]) -> Result<(), NotAKey> {
    let mut y: [u8; 32] =
        bits.try_into().map_err(|_| NotAKey("the Ed25519 key has a wrong length"))?;
    y[31] &= 0x7f;
    let at_least_prime =
        y[0] >= 0xed && y[1..31].iter().all(|octet| *octet == 0xff) && y[31] == 0x7f;
    if at_least_prime || ED25519_SMALL_ORDER_Y.contains(&y) {
        return Err(NotAKey("the Ed25519 point is not canonical or of small order"));
    }
    ParsedPublicKey::new(&aws::ED25519, bits)
        .map(|_| ())
        .map_err(|_| NotAKey("the Ed25519 point does not parse"))
}

/// RFC 9881 sections 2 and 4: parameters absent, the key as FIPS 204 writes it (`pkEncode`), without any wrapping.
fn ml_dsa_kind(kind: KeyKind, bare: bool, bits: &[u8]) -> Result<KeyKind, NotAKey> {
    if !bare {
        return Err(NotAKey("the ML-DSA key has parameters"));
    }
    let octets = match kind {
        KeyKind::MlDsa44 => 1312,
        KeyKind::MlDsa65 => 1952,
        _ => 2592,
    };
    // Every string of this length is a key: t1 has ten bits for each coefficient, and all values are in range.
    if bits.len() == octets { Ok(kind) } else { Err(NotAKey("the ML-DSA key has a wrong length")) }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0u8; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The y coordinates, little-endian with the sign bit clear, of the eight points whose order
/// divides the cofactor of edwards25519: of order 1, 2, 4 and twice of order 8.
const ED25519_SMALL_ORDER_Y: [[u8; 32]; 5] = [
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    [0; 32],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
];

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::published_key;
