//! The questions and answers. Both processes are one binary of one version, and the hello frame proves it;
//! still variants are only appended.

use serde::{Deserialize, Serialize};

use super::figures::{Figures, Spread};
use super::witness::{Carried, Cosigned, Errand, Watch};
use crate::acme::problem::Problem;
use crate::acme::renewal::Certified;
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// The protocol version in the hello frame.
pub const VERSION: u16 = 1;

/// Standings in one answer at most: a JWK has less than 1 KiB.
pub const STANDINGS: usize = 128;

/// No frame is longer, in octets.
pub const MAX_FRAME: usize = 256 * 1024;

/// What the web process can ask.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Question {
    /// A newAccount request, verbatim. The issuer verifies it and registers the key.
    Register {
        #[serde(with = "serde_bytes")]
        jws: Vec<u8>,
    },
    /// A finalize request, verbatim, for the order its signed url names.
    Finalize(Box<Finalize>),
    /// A TLS handshake signature by the TLS key (never another), over at most 4 KiB.
    SignTls {
        #[serde(with = "serde_bytes")]
        message: Vec<u8>,
    },
    /// The TLS certificate chain the issuer made for its own key.
    TlsChain,
    /// Health, for /readyz, metrics and status.
    Health,
    /// A revokeCert request, verbatim. By an account's kid or by the certificate's key.
    Revoke(Box<Revoke>),
    /// A keyChange request, verbatim, that the account's present key signed.
    ChangeKey {
        #[serde(with = "serde_bytes")]
        jws: Vec<u8>,
    },
    /// An account's request to be deactivated, verbatim.
    Deactivate {
        #[serde(with = "serde_bytes")]
        jws: Vec<u8>,
    },
    /// Whether tickets let an account have these names. Advice, so that an order is refused before anything is
    /// validated: the issuer asks itself again when it counts.
    Permits(Box<Permits>),
    /// The issuer's word on accounts whose key or status changed, so that the web process catches up.
    Standings(Which),
    /// What is known of a certificate that was issued for an order, for its renewal.
    Renewal { serial: Serial },
    /// The log's entry that holds the signature of a certificate.
    Logged { serial: Serial },
    /// Another log's request to this box as its witness (C2SP tlog-witness add-checkpoint): the body, verbatim.
    Cosign {
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// What the web process has carried to this log's witnesses; answered with what it shall carry now.
    Errands(Vec<Carried>),
    /// The same as `SignTls`, by that TLS key of the box whose certificate is served.
    SignTlsBy {
        /// SHA-256 over its SubjectPublicKeyInfo.
        spki_sha256: [u8; 32],
        #[serde(with = "serde_bytes")]
        message: Vec<u8>,
    },
}

/// What accompanies a revokeCert request. Only `jws` is evidence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revoke {
    #[serde(with = "serde_bytes")]
    pub jws: Vec<u8>,
    /// For an account that did not get the certificate: one for each of its identifiers, without `*.`. Claimed.
    pub validations: Vec<Validation>,
}

/// What an account wants to order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Permits {
    pub account: AccountId,
    pub identifiers: Vec<crate::pki::name::Identifier>,
    /// As ordered; `None`: the default.
    pub profile: Option<String>,
}

/// Which accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Which {
    /// Those that changed in the log from this leaf on; an answer holds a page of them.
    ChangedFrom(LeafIndex),
    One(AccountId),
}

/// What the issuer's registry says of an account now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standing {
    pub account: AccountId,
    /// Its present key, canonical JSON.
    pub jwk: String,
    pub ended: Option<Ended>,
}

/// When an account was deactivated, and whether an operator did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    pub at: Timestamp,
    pub by_operator: bool,
}

impl Question {
    /// One word for it, in records and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Finalize(_) => "finalize",
            Self::SignTls { .. } => "sign-tls",
            Self::TlsChain => "tls-chain",
            Self::Health => "health",
            Self::Revoke(_) => "revoke",
            Self::ChangeKey { .. } => "change-key",
            Self::Deactivate { .. } => "deactivate",
            Self::Permits(_) => "permits",
            Self::Standings(_) => "standings",
            Self::Renewal { .. } => "renewal",
            Self::Logged { .. } => "logged",
            Self::Cosign { .. } => "cosign",
            Self::Errands(_) => "errands",
            Self::SignTlsBy { .. } => "sign-tls",
        }
    }
}

/// What accompanies a finalize request. Only `jws` is evidence; the rest is claimed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finalize {
    #[serde(with = "serde_bytes")]
    pub jws: Vec<u8>,
    pub order: OrderId,
    pub account: AccountId,
    pub profile: String,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    /// What was validated, how and when: recorded, not believed.
    pub validations: Vec<Validation>,
}

/// One claimed validation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Validation {
    pub identifier: crate::pki::name::Identifier,
    pub method: crate::acme::challenge::ChallengeType,
    pub at: Timestamp,
}

/// What the issuer answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Registered, or found: `existing` says which. `bound`: by a ticket whose binding verified.
    Account {
        account: AccountId,
        existing: bool,
        bound: bool,
    },
    /// A certificate, durable in the log and covered by a checkpoint.
    Certificate {
        #[serde(with = "serde_bytes")]
        der: Vec<u8>,
        serial: Serial,
        leaf: LeafIndex,
        at: Timestamp,
    },
    /// X.509-form signature.
    Signature(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Leaf first, DER.
    TlsChain {
        chain: Vec<serde_bytes::ByteBuf>,
        not_after: Timestamp,
    },
    Health(Box<Health>),
    /// The revocation is durable in the log; the CRL follows.
    Revoked,
    /// The account has the new key, now or since it was asked before.
    KeyChanged,
    /// The new key is this account's, and stays so.
    KeyInUse {
        account: AccountId,
    },
    Deactivated(Ended),
    /// Nothing is bound to others. The profile is the one its ticket says, if it says one.
    Permitted {
        profile: Option<String>,
    },
    /// `next` is where to go on; the page was the last unless `more`.
    Standings {
        standings: Vec<Standing>,
        next: LeafIndex,
        more: bool,
    },
    /// `None`: no order was issued a certificate of this serial.
    Renewal(Option<Box<Certified>>),
    /// `None`: no certificate of this serial was issued.
    Logged(Option<Box<Logged>>),
    /// As a witness.
    Cosigned(Cosigned),
    /// All at once; with none, ask again after so many milliseconds.
    Errands {
        errands: Vec<Errand>,
        again: u32,
    },
    /// X.509-form signature. `stale`: there is another TLS certificate, for another key, to be fetched.
    TlsSignature {
        #[serde(with = "serde_bytes")]
        signature: Vec<u8>,
        stale: bool,
    },
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Logged {
    pub leaf: LeafIndex,
    /// Its stored octets, of which the leaf hash is made.
    #[serde(with = "serde_bytes")]
    pub entry: Vec<u8>,
}

/// The issuer's state, for people and probes. Nothing secret.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// Whether a finalize would be attempted now.
    pub ready: bool,
    /// One line per thing that is wrong: (code, message).
    pub problems: Vec<(String, String)>,
    /// The token's state in words.
    pub token: String,
    pub log_size: u64,
    pub checkpoint_size: u64,
    pub issued: u64,
    pub crl_next_update: Timestamp,
    pub tls_not_after: Timestamp,
    pub started: Timestamp,
    /// Counts since the start, for /metrics: (name, value), names in snake_case without prefix.
    pub counters: Vec<(String, u64)>,
    /// The witnesses of this log, in the order of the configuration.
    pub witnesses: Vec<Watch>,
    /// The logs that this box is a witness of.
    pub watched: Vec<Watch>,
    /// How fast the token signs.
    pub keys: Vec<KeyPace>,
    /// What waits for the token.
    pub queues: Vec<ClassQueue>,
    /// For monitoring.
    pub figures: Figures,
}

/// How fast the token signs with one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyPace {
    pub key: String,
    /// What signatures took with their verification.
    pub took: Spread,
}

/// Signatures of one class.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClassQueue {
    pub class: String,
    pub signed: u64,
    /// Refused for want of room, out of patience, or not waited for any more.
    pub unsigned: u64,
    pub waiting: u64,
    /// How long each waited for its turn.
    pub waits: Spread,
}

/// Why the issuer did not do it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// Ask again after so many milliseconds.
    Retry(u32),
    /// Never; fit for the client.
    Refused(Problem),
    /// Too often: not for so many milliseconds; fit for the client.
    Limited(Problem, u32),
}
