//! Certificates from intent to revocation, CRLs, recalls.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// On whose behalf a certificate is made. Order is stored: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Requester {
    /// An ACME order of an account; `jws_sha256` is SHA-256 over the finalize request as it arrived.
    Order { order: OrderId, account: AccountId, jws_sha256: [u8; 32] },
    /// The issuer itself, for its own TLS key.
    Own,
}

/// What is about to be signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IntentV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The serial number in `tbs`.
    pub serial: Serial,
    /// On whose behalf.
    pub requester: Requester,
    /// Name of the certificate profile; one that begins with `_` is the box's own.
    pub profile: String,
    /// SHA-256 over the issuing certificate.
    pub issuer_sha256: [u8; 32],
    /// The DER of the TBSCertificate, as it will be signed.
    #[serde(with = "serde_bytes")]
    pub tbs: Vec<u8>,
    /// What the web process says was proven, one for each authorization. Claimed, not verified here.
    pub validations: Vec<ValidationV1>,
}

/// One claimed validation: who was proven to control what, how and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ValidationV1 {
    /// The identifier's value as ACME writes it: a DNS name or an address.
    pub identifier: String,
    /// The challenge type's registered name, such as `http-01`.
    pub method: String,
    /// When it was proven.
    pub at: Timestamp,
}

/// The other half of a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The leaf of the intent.
    pub intent: LeafIndex,
    /// The intent's serial.
    pub serial: Serial,
    /// The DER of the AlgorithmIdentifier of the signature.
    #[serde(with = "serde_bytes")]
    pub algorithm: Vec<u8>,
    /// The octets of the BIT STRING `signatureValue`.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// The end of an intent that is not signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AbandonedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The leaf of the intent.
    pub intent: LeafIndex,
    /// The intent's serial.
    pub serial: Serial,
    /// Why, for people.
    pub reason: String,
}

/// Who had something done. Order is stored: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Actor {
    /// An account, with its own request; `jws_sha256` is SHA-256 over that as it arrived.
    Account { account: AccountId, jws_sha256: [u8; 32] },
    /// An operator at the issuer's admin socket: the user id as the kernel names the peer, and the login name.
    Operator { uid: u32, user: String },
    /// The holder of the certificate's key, with a request that it signed; `jws_sha256` as above.
    Key { jws_sha256: [u8; 32] },
}

/// A revocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The certificate's serial.
    pub serial: Serial,
    /// The intent of the certificate.
    pub intent: LeafIndex,
    /// CRLReason (RFC 5280 section 5.3.1); `None` if none was given.
    pub reason: Option<u8>,
    /// RFC 8555 section 7.6. Of an account: the one it was issued to, or another.
    pub by: Actor,
    /// Where another account had it revoked: that it controls every identifier now. Claimed, not verified here.
    pub validations: Vec<ValidationV1>,
    /// The URL in the certificate's CRLDistributionPoints, where the entry will stand; `None` if it names none.
    pub crl: Option<String>,
    /// The certificate's notAfter: the entry stays until one CRL past it.
    pub not_after: Timestamp,
    /// SHA-256 over the SubjectPublicKeyInfo if the key is compromised: it is not certified again, and no
    /// account may have it.
    pub blocked_key: Option<[u8; 32]>,
}

/// The one CRL of an issuer, as releases before shards recorded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CrlV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// SHA-256 over the issuing certificate.
    pub issuer_sha256: [u8; 32],
    /// The CRL number (RFC 5280 section 5.2.3).
    pub number: u64,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// How many certificates it lists.
    pub entries: u64,
    /// SHA-256 over the DER of its TBSCertList.
    pub tbs_sha256: [u8; 32],
}

/// One CRL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CrlV2 {
    /// When this was recorded.
    pub at: Timestamp,
    /// SHA-256 over the issuing certificate.
    pub issuer_sha256: [u8; 32],
    /// The URL it is published at: that of the certificates it lists.
    pub crl: String,
    /// The CRL number (RFC 5280 section 5.2.3); rises over all CRLs of an issuer.
    pub number: u64,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// How many certificates it lists.
    pub entries: u64,
    /// SHA-256 over the DER of its TBSCertList.
    pub tbs_sha256: [u8; 32],
}

/// Which certificates: those for which all that is said holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecallV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// Certificates of this profile.
    pub profile: Option<String>,
    /// The certificate with this serial.
    pub serial: Option<Serial>,
    /// Certificates issued at this instant or later.
    pub issued_from: Option<Timestamp>,
    /// At the latest when this was recorded: what replaces them is not recalled itself.
    pub issued_until: Timestamp,
    /// The window that is suggested; `end` is after `start`.
    pub start: Timestamp,
    /// The end of the window.
    pub end: Timestamp,
    /// Where people can read why.
    pub explanation: Option<String>,
    /// Who had it done.
    pub by: Actor,
}

/// The end of a recall.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecallEndedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The leaf of the recall.
    pub recall: LeafIndex,
    /// Who had it done.
    pub by: Actor,
}
