//! What the operator decides for the log itself: its beginning, its keys, its clock.

use serde::{Deserialize, Serialize};

use super::Actor;
use crate::id::Timestamp;

/// The first leaf of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CeremonyV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The log's name for ever: first line of every checkpoint.
    pub origin: String,
    /// SHA-256 over the DER of the root certificate.
    pub root_sha256: [u8; 32],
    /// SHA-256 over the DER of the issuing certificate; zeros if an offline root signed it after the ceremony.
    pub issuing_sha256: [u8; 32],
    /// SubjectPublicKeyInfo of the log key.
    #[serde(with = "serde_bytes")]
    pub log_key: Vec<u8>,
    /// SHA-256 over the transcript of the ceremony.
    pub transcript_sha256: [u8; 32],
}

/// `chancery clock accept`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockAcceptedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The latest instant the rules would have expected.
    pub floor: Timestamp,
}

/// A checkpoint that covers this leaf is signed by both keys, see `tlog::keys`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogKeyRotatedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// SubjectPublicKeyInfo of the key that signed until here.
    #[serde(with = "serde_bytes")]
    pub former: Vec<u8>,
    /// SubjectPublicKeyInfo of the key that signs from here on.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// What the former key makes of `tlog::keys::statement`: 64 octets of Ed25519, or a DER Ecdsa-Sig-Value.
    #[serde(with = "serde_bytes")]
    pub endorsement: Vec<u8>,
    /// What the new key makes of the same.
    #[serde(with = "serde_bytes")]
    pub possession: Vec<u8>,
    /// When the former key is meant to be retired. A plan: what counts is the leaf that retires it.
    pub until: Timestamp,
    /// SHA-256 over the transcript of the ceremony that made the new key.
    pub transcript_sha256: [u8; 32],
}

/// A checkpoint that covers this leaf is signed by the newer key alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogKeyRetiredV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// SubjectPublicKeyInfo of the key that is retired.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// `None`: its time was over.
    pub by: Option<Actor>,
}

/// A later ceremony. It is held by another process, so what stands here is what its transcript says. After one whose act
/// is `retire` the log has no other record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CeremonyHeldV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// What was done, in the transcript's word: `root-crl`, `rotate-tls-key`, `retire`.
    pub act: String,
    /// The ceremony's name.
    pub ceremony: String,
    /// When it was held, by the clock of the machine that held it.
    pub held: Timestamp,
    /// Who held it: the user of the process, as the transcript names it; `None` where it names none.
    pub by: Option<Actor>,
    /// SHA-256 over the transcript.
    pub transcript_sha256: [u8; 32],
}
