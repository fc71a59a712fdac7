//! The records of the log. Versioned variants of one outer enum: append only, never reordered, never
//! edited; a golden file holds the bytes of each. What is hashed is the stored bytes, never a re-encoding.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// One leaf. At most 65,535 octets encoded (C2SP tlog-tiles); what is larger is logged by digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// The first leaf: which CA this log belongs to.
    CeremonyV1(CeremonyV1),
    /// An account key the issuer accepted. No contact data.
    AccountRegisteredV1(AccountRegisteredV1),
    /// The exact TBSCertificate, before any key signs it (promise 2).
    IntentV1(IntentV1),
    /// The signature that was made over an intent's bytes.
    IssuedV1(IssuedV1),
    /// An intent that shall never be signed; its serial counts as revoked.
    AbandonedV1(AbandonedV1),
    /// A CRL that is about to be signed, by digest of its TBSCertList.
    CrlV1(CrlV1),
    /// The operator accepted a clock the rules refused.
    ClockAcceptedV1(ClockAcceptedV1),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CeremonyV1 {
    pub at: Timestamp,
    pub origin: String,
    /// SHA-256 over the DER of root and issuing certificate.
    pub root_sha256: [u8; 32],
    pub issuing_sha256: [u8; 32],
    /// SubjectPublicKeyInfo of the log key.
    #[serde(with = "serde_bytes")]
    pub log_key: Vec<u8>,
    pub transcript_sha256: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRegisteredV1 {
    pub at: Timestamp,
    pub account: AccountId,
    /// Canonical JWK (RFC 7638 member order).
    pub jwk: String,
}

/// On whose behalf a certificate is made. Order is stored: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Requester {
    /// An ACME order; `jws_sha256` is over the finalize request as it arrived.
    Order { order: OrderId, account: AccountId, jws_sha256: [u8; 32] },
    /// The issuer itself, for its own TLS key.
    Own,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IntentV1 {
    pub at: Timestamp,
    pub serial: Serial,
    pub requester: Requester,
    pub profile: String,
    /// SHA-256 over the issuing certificate.
    pub issuer_sha256: [u8; 32],
    #[serde(with = "serde_bytes")]
    pub tbs: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuedV1 {
    pub at: Timestamp,
    pub intent: LeafIndex,
    pub serial: Serial,
    /// The DER AlgorithmIdentifier and the signature: with the intent's TBS, the certificate.
    #[serde(with = "serde_bytes")]
    pub algorithm: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AbandonedV1 {
    pub at: Timestamp,
    pub intent: LeafIndex,
    pub serial: Serial,
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CrlV1 {
    pub at: Timestamp,
    pub issuer_sha256: [u8; 32],
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    pub entries: u64,
    pub tbs_sha256: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockAcceptedV1 {
    pub at: Timestamp,
    pub floor: Timestamp,
}

impl Record {
    /// The instant it says it was made.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::CeremonyV1(r) => r.at,
            Self::AccountRegisteredV1(r) => r.at,
            Self::IntentV1(r) => r.at,
            Self::IssuedV1(r) => r.at,
            Self::AbandonedV1(r) => r.at,
            Self::CrlV1(r) => r.at,
            Self::ClockAcceptedV1(r) => r.at,
        }
    }
    /// The stored bytes. Fails if they would exceed a leaf.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        todo!()
    }
    /// Decodes exactly one record; trailing octets are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotARecord> {
        todo!()
    }
}

/// The encoding exceeds 65,535 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// The octets are not one record of a version known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotARecord(pub String);
