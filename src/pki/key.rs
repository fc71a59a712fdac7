//! Public keys: parsing, strength, verification. The one place that maps algorithm identifiers
//! to aws-lc-rs.

use serde::{Deserialize, Serialize};

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
}

/// A signature algorithm as X.509 names it. Order is stored by postcard: append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// ecdsa-with-SHA256 (RFC 5758); the signature is a DER Ecdsa-Sig-Value.
    EcdsaSha256,
    /// ecdsa-with-SHA384.
    EcdsaSha384,
    /// ecdsa-with-SHA512.
    EcdsaSha512,
    /// sha256WithRSAEncryption (RFC 8017 PKCS#1 v1.5).
    RsaSha256,
    /// sha384WithRSAEncryption.
    RsaSha384,
    /// sha512WithRSAEncryption.
    RsaSha512,
    /// RSASSA-PSS, SHA-256, MGF1 SHA-256, salt 32 octets.
    RsaPssSha256,
    /// Pure Ed25519 (RFC 8410).
    Ed25519,
}

/// A public key that parsed, with its SubjectPublicKeyInfo as it was given.
/// EC points are on their curve; nothing is said about strength until `check_strength`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
}

/// The bytes are not a SubjectPublicKeyInfo of a supported kind, canonical DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAKey(pub &'static str);

/// Why a well-formed key is too weak to certify or to sign requests with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakKey {
    RsaSize,
    RsaExponent,
    RsaSmallFactor,
    RsaClosePrimes,
    RsaRoca,
    Blocked,
}

impl PublicKey {
    /// Parses DER, with full point validation for EC keys.
    pub fn from_spki(der: &[u8]) -> Result<Self, NotAKey> {
        todo!()
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
        todo!()
    }
    /// SHA-256 over the SPKI: what key files pin and blocklists hold.
    pub fn spki_sha256(&self) -> [u8; 32] {
        todo!()
    }
    /// The key identifier (RFC 7093 section 2 method 1: leftmost 160 bits of SHA-256 over the key bits).
    pub fn key_id(&self) -> [u8; 20] {
        todo!()
    }
    /// Standards section 5: RSA 2048, 3072 or 4096 with e = 65537, no small factor, no close primes, no ROCA.
    pub fn check_strength(&self) -> Result<(), WeakKey> {
        todo!()
    }
    /// Verifies; false on any mismatch, also of algorithm and kind.
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        todo!()
    }
    /// The algorithm this CA uses when a key of this kind signs certificates.
    pub fn preferred_algorithm(&self) -> SignatureAlgorithm {
        todo!()
    }
}

impl SignatureAlgorithm {
    /// The DER AlgorithmIdentifier.
    pub fn identifier_der(self) -> &'static [u8] {
        todo!()
    }
    /// The inverse of `identifier_der`.
    pub fn from_identifier_der(der: &[u8]) -> Option<Self> {
        todo!()
    }
}
