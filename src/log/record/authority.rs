//! Roots and issuing CAs that came after the ceremony.

use serde::{Deserialize, Serialize};

use super::Actor;
use crate::id::Timestamp;

/// An issuing CA that a later ceremony made. The first is the ceremony's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuerAddedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// What this box calls it.
    pub name: String,
    /// The line of issuing CAs that it stands in: of each line only the newest gets intents.
    pub line: String,
    /// The DER of its certificate.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// SHA-256 over the DER of the root certificate that it verifies under.
    pub root_sha256: [u8; 32],
    /// SHA-256 over the certificate of the one that stood in its line before: no intent is its any more.
    pub supersedes: Option<[u8; 32]>,
    /// The URL of its complete CRL; those of its shards begin alike.
    pub crl: String,
    /// SHA-256 over the transcript of the ceremony that made it.
    pub transcript_sha256: [u8; 32],
}

/// A root that a later ceremony made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootAddedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// What this box calls it.
    pub name: String,
    /// The DER of its certificate, signed by itself.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// SHA-256 over the DER of the root certificate before it.
    pub former_sha256: [u8; 32],
    /// The DER of a certificate for its name and key that the root before it signed.
    #[serde(with = "serde_bytes")]
    pub by_former: Vec<u8>,
    /// The DER of a certificate for name and key of the root before it that it signed.
    #[serde(with = "serde_bytes")]
    pub of_former: Vec<u8>,
    /// SHA-256 over the transcript of the ceremony that made it.
    pub transcript_sha256: [u8; 32],
}

/// The end of a root or of an issuing CA: nothing that it signed is valid any more, or is meant to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuthorityRetiredV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// SHA-256 over the DER of its certificate.
    pub certificate_sha256: [u8; 32],
    /// `None`: its time was over.
    pub by: Option<Actor>,
}
