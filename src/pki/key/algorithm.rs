//! Signature algorithms: as X.509 writes them, as aws-lc-rs verifies them, as key files name them.

use std::fmt;

use aws_lc_rs::signature::{self as aws, VerificationAlgorithm};
use serde::{Deserialize, Serialize};

use super::KeyKind;

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
    /// RSASSA-PSS, SHA-384, MGF1 SHA-384, salt 48 octets.
    RsaPssSha384,
    /// Pure ML-DSA-44 with an empty context (RFC 9881); so the two below.
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// ML-DSA-87.
    MlDsa87,
}

impl SignatureAlgorithm {
    /// Every algorithm, in the stored order.
    pub const ALL: [Self; 12] = [
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::RsaPssSha256,
        Self::Ed25519,
        Self::RsaPssSha384,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// What an RSA key may be told to sign with, as key files and `ca/authority.json` spell it. Keys of every
    /// other kind have no choice.
    pub const CHOICES: [(&'static str, Self); 4] = [
        ("pkcs1-sha256", Self::RsaSha256),
        ("pkcs1-sha384", Self::RsaSha384),
        ("pss-sha256", Self::RsaPssSha256),
        ("pss-sha384", Self::RsaPssSha384),
    ];

    /// The choice of this name.
    pub fn choice(name: &str) -> Option<Self> {
        Self::CHOICES.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm)
    }

    /// Its name, if it is one of the choices.
    pub fn choice_name(self) -> Option<&'static str> {
        Self::CHOICES.into_iter().find(|(_, algorithm)| *algorithm == self).map(|(name, _)| name)
    }

    /// The DER AlgorithmIdentifier.
    pub fn identifier_der(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => ECDSA_SHA256,
            Self::EcdsaSha384 => ECDSA_SHA384,
            Self::EcdsaSha512 => ECDSA_SHA512,
            Self::RsaSha256 => RSA_SHA256,
            Self::RsaSha384 => RSA_SHA384,
            Self::RsaSha512 => RSA_SHA512,
            Self::RsaPssSha256 => RSA_PSS_SHA256,
            Self::Ed25519 => ED25519,
            Self::RsaPssSha384 => RSA_PSS_SHA384,
            Self::MlDsa44 => ML_DSA_44,
            Self::MlDsa65 => ML_DSA_65,
            Self::MlDsa87 => ML_DSA_87,
        }
    }

    /// The inverse of `identifier_der`.
    ///
    /// Of RSASSA-PSS the spelling without the NULLs of the hash parameters is known too
    /// (RFC 4055 section 2.1: both must be accepted).
    pub fn from_identifier_der(der: &[u8]) -> Option<Self> {
        match der {
            RSA_PSS_SHA256_WITHOUT_NULLS => return Some(Self::RsaPssSha256),
            RSA_PSS_SHA384_WITHOUT_NULLS => return Some(Self::RsaPssSha384),
            _ => {}
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.identifier_der() == der)
    }
}

impl fmt::Display for SignatureAlgorithm {
    /// As the standards call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaSha256 => "ecdsa-with-SHA256",
            Self::EcdsaSha384 => "ecdsa-with-SHA384",
            Self::EcdsaSha512 => "ecdsa-with-SHA512",
            Self::RsaSha256 => "sha256WithRSAEncryption",
            Self::RsaSha384 => "sha384WithRSAEncryption",
            Self::RsaSha512 => "sha512WithRSAEncryption",
            Self::RsaPssSha256 => "RSASSA-PSS with SHA-256",
            Self::Ed25519 => "Ed25519",
            Self::RsaPssSha384 => "RSASSA-PSS with SHA-384",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
        })
    }
}

/// What aws-lc-rs calls an algorithm under a key of this kind; none where they do not fit.
pub(super) fn verification(
    kind: KeyKind,
    algorithm: SignatureAlgorithm,
) -> Option<&'static dyn VerificationAlgorithm> {
    use SignatureAlgorithm as S;
    Some(match (kind, algorithm) {
        (KeyKind::EcP256, S::EcdsaSha256) => &aws::ECDSA_P256_SHA256_ASN1,
        (KeyKind::EcP256, S::EcdsaSha384) => &aws::ECDSA_P256_SHA384_ASN1,
        (KeyKind::EcP256, S::EcdsaSha512) => &aws::ECDSA_P256_SHA512_ASN1,
        (KeyKind::EcP384, S::EcdsaSha256) => &aws::ECDSA_P384_SHA256_ASN1,
        (KeyKind::EcP384, S::EcdsaSha384) => &aws::ECDSA_P384_SHA384_ASN1,
        (KeyKind::EcP384, S::EcdsaSha512) => &aws::ECDSA_P384_SHA512_ASN1,
        (KeyKind::EcP521, S::EcdsaSha256) => &aws::ECDSA_P521_SHA256_ASN1,
        (KeyKind::EcP521, S::EcdsaSha384) => &aws::ECDSA_P521_SHA384_ASN1,
        (KeyKind::EcP521, S::EcdsaSha512) => &aws::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Rsa(_), S::RsaSha256) => &aws::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa(_), S::RsaSha384) => &aws::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa(_), S::RsaSha512) => &aws::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Rsa(_), S::RsaPssSha256) => &aws::RSA_PSS_2048_8192_SHA256,
        (KeyKind::Rsa(_), S::RsaPssSha384) => &aws::RSA_PSS_2048_8192_SHA384,
        (KeyKind::Ed25519, S::Ed25519) => &aws::ED25519,
        (KeyKind::MlDsa44, S::MlDsa44) => &aws::ML_DSA_44,
        (KeyKind::MlDsa65, S::MlDsa65) => &aws::ML_DSA_65,
        (KeyKind::MlDsa87, S::MlDsa87) => &aws::ML_DSA_87,
        (KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 | KeyKind::Rsa(_), _)
        | (KeyKind::Ed25519 | KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87, _) => {
            return None;
        }
    })
}

const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ECDSA_SHA512: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
pub(super) const RSA_SHA256: &[u8] =
    &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
const RSA_SHA384: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0];
const RSA_SHA512: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0];
pub(super) const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
#[rustfmt::skip]
pub(super) const RSA_PSS_SHA256: &[u8] = &[
    0x30, 0x41, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10, 0x30, 0x34,
    0xa0, 0x0f, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0,
    0xa1, 0x1c, 0x30, 0x1a, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8,
    0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0,
    0xa2, 3, 2, 1, 32,
];
#[rustfmt::skip]
pub(super) const RSA_PSS_SHA256_WITHOUT_NULLS: &[u8] = &[
    0x30, 0x3d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10, 0x30, 0x30,
    0xa0, 0x0d, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1,
    0xa1, 0x1a, 0x30, 0x18, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8,
    0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1,
    0xa2, 3, 2, 1, 32,
];
#[rustfmt::skip]
const RSA_PSS_SHA384: &[u8] = &[
    0x30, 0x41, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10, 0x30, 0x34,
    0xa0, 0x0f, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0,
    0xa1, 0x1c, 0x30, 0x1a, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8,
    0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0,
    0xa2, 3, 2, 1, 48,
];
#[rustfmt::skip]
const RSA_PSS_SHA384_WITHOUT_NULLS: &[u8] = &[
    0x30, 0x3d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10, 0x30, 0x30,
    0xa0, 0x0d, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2,
    0xa1, 0x1a, 0x30, 0x18, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8,
    0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2,
    0xa2, 3, 2, 1, 48,
];
/// id-ml-dsa-44 2.16.840.1.101.3.4.3.17, parameters absent (RFC 9881 section 2).
const ML_DSA_44: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17];
const ML_DSA_65: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18];
const ML_DSA_87: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 19];
