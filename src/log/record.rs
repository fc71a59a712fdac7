//! The records of the log. Versioned variants of one outer enum: append only, never reordered, never
//! edited; a golden file holds the bytes of each. What is hashed is the stored bytes, never a re-encoding.

use std::fmt;

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
    /// An account key the issuer accepted, and the ticket use that it spent. No contact data.
    AccountRegisteredV2(AccountRegisteredV2),
    /// An account has another key from here on (RFC 8555 section 7.3.5).
    KeyChangedV1(KeyChangedV1),
    /// An account may ask for nothing more, ever.
    AccountDeactivatedV1(AccountDeactivatedV1),
    /// An enrolment ticket, by digest of what it is good for; its secret is nowhere in the log.
    TicketMintedV1(TicketMintedV1),
    /// A ticket registers nobody any more; who registered with it stays.
    TicketRevokedV1(TicketRevokedV1),
    /// A certificate that shall be trusted no more. Durable before its CRL is signed.
    RevokedV1(RevokedV1),
    /// The CRL at one URL that is about to be signed, by digest of its TBSCertList.
    CrlV2(CrlV2),
    /// What was asked for and refused within an interval, counted.
    RefusedV1(RefusedV1),
    /// The operator wants certificates replaced within a window (RFC 9773).
    RecallV1(RecallV1),
    /// A recall counts no more.
    RecallEndedV1(RecallEndedV1),
    /// The log has another key from here on; the former signs with it until it is retired.
    LogKeyRotatedV1(LogKeyRotatedV1),
    /// A former log key signs no more.
    LogKeyRetiredV1(LogKeyRetiredV1),
    /// The issuer began to work.
    StartedV1(StartedV1),
    /// The configuration in force is another, or is stated for the first time.
    ConfigChangedV1(ConfigChangedV1),
}

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

/// An account as releases before tickets recorded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRegisteredV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The account's id, chosen by the issuer.
    pub account: AccountId,
    /// Canonical JWK (RFC 7638 member order).
    pub jwk: String,
}

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

/// `chancery clock accept`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockAcceptedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The latest instant the rules would have expected.
    pub floor: Timestamp,
}

/// An account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRegisteredV2 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The account's id, chosen by the issuer.
    pub account: AccountId,
    /// Canonical JWK (RFC 7638 member order).
    pub jwk: String,
    /// The ticket this registration spent a use of: the count of these records is the count of uses.
    pub ticket: Option<String>,
}

/// A key change; the request was signed by both keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyChangedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// Whose key.
    pub account: AccountId,
    /// The new key, as in a registration.
    pub jwk: String,
    /// RFC 7638 thumbprint of the key it replaces.
    pub former: [u8; 32],
    /// SHA-256 over the outer request, which the former key signed.
    pub jws_sha256: [u8; 32],
}

/// The end of an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountDeactivatedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// Which account.
    pub account: AccountId,
    /// Who had it done.
    pub by: Actor,
}

/// An enrolment ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketMintedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The `kid` of its external account bindings.
    pub ticket: String,
    /// How many accounts may register with it.
    pub uses: u32,
    /// From when on it registers nobody.
    pub expires: Timestamp,
    /// SHA-256 over the constraints as the issuer's ticket file writes them.
    pub constraints_sha256: [u8; 32],
    /// Who had it done.
    pub by: Actor,
}

/// The end of a ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketRevokedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// Its `kid`.
    pub ticket: String,
    /// Who had it done.
    pub by: Actor,
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

/// Refusals between two instants, aggregated: whoever asks without end cannot fill the disk with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The first refusal that is counted.
    pub from: Timestamp,
    /// The end of the interval.
    pub until: Timestamp,
    /// A row for each kind of refusal.
    pub refusals: Vec<RefusalV1>,
}

/// How often something was refused to somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusalV1 {
    /// The question's name, such as `finalize`; `socket` where the rules of the socket itself were broken.
    pub asked: String,
    /// The type of the problem document, such as `unauthorized`, or what was broken.
    pub why: String,
    /// Who signed what was asked; `None` where no registered account did.
    pub account: Option<AccountId>,
    /// How often.
    pub count: u64,
}

/// A start of the issuer. Quick restarts share one record, so that a crash loop cannot fill the disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The program's version.
    pub version: String,
    /// When the program was built.
    pub built: Timestamp,
    /// SHA-256 over the program's file, where it could be read.
    pub program_sha256: Option<[u8; 32]>,
    /// The configuration in force, as the newest `ConfigChangedV1` states it.
    pub config_sha256: [u8; 32],
    /// `None` if no token had answered yet.
    pub token: Option<TokenV1>,
    /// How the process before it ended.
    pub previous: PreviousEnd,
    /// Starts since the last such record, this one included.
    pub starts: u32,
    /// Records that this start found in the log.
    pub found: u64,
    /// Whether behind them there were the remains of an unfinished write, which this start cut.
    pub torn: bool,
}

/// Token and PKCS#11 module, as they name themselves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenV1 {
    /// The token's label.
    pub label: String,
    /// The token's manufacturer.
    pub manufacturer: String,
    /// The token's model.
    pub model: String,
    /// The token's serial number.
    pub serial: String,
    /// The token's firmware version.
    pub firmware: String,
    /// The module's description.
    pub module: String,
    /// The module's version.
    pub module_version: String,
}

/// How the issuer process before this one ended. Order is stored: append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PreviousEnd {
    /// There was none, or nothing is left that would say.
    Unknown,
    /// It was asked to, and finished what it did.
    Clean,
    /// It was killed, gave up, or lost its power.
    Unclean,
}

/// Digests only: what the settings are stays in the configuration, which has no secret either.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigChangedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The digest in force before; `None` the first time, or where the issuer's memory of it is lost.
    pub former: Option<[u8; 32]>,
    /// As `chancery config show` prints it.
    pub sha256: [u8; 32],
    /// Every table of the configuration and every profile.
    pub parts: Vec<ConfigPartV1>,
    /// The keys whose value is another, at most 64; `None` where what they were is not known.
    pub changed: Option<Vec<String>>,
    /// How many more there are.
    pub unlisted: u32,
}

/// One table of the configuration, such as `policy` or `profiles.device`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigPartV1 {
    /// The table's name; of a profile, `profiles.` and its name.
    pub name: String,
    /// SHA-256 over its JSON: keys sorted, no white space.
    pub sha256: [u8; 32],
}

impl Record {
    /// What `kind` says, in the order of the variants.
    pub const KINDS: [&'static str; 19] = [
        "ceremony",
        "account",
        "intent",
        "issued",
        "abandoned",
        "crl",
        "clock",
        "keychange",
        "deactivated",
        "ticket",
        "ticket-end",
        "revoked",
        "refused",
        "recall",
        "recall-end",
        "log-key",
        "log-key-end",
        "started",
        "config",
    ];

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
            Self::AccountRegisteredV2(r) => r.at,
            Self::KeyChangedV1(r) => r.at,
            Self::AccountDeactivatedV1(r) => r.at,
            Self::TicketMintedV1(r) => r.at,
            Self::TicketRevokedV1(r) => r.at,
            Self::RevokedV1(r) => r.at,
            Self::CrlV2(r) => r.at,
            Self::RefusedV1(r) => r.at,
            Self::RecallV1(r) => r.at,
            Self::RecallEndedV1(r) => r.at,
            Self::LogKeyRotatedV1(r) => r.at,
            Self::LogKeyRetiredV1(r) => r.at,
            Self::StartedV1(r) => r.at,
            Self::ConfigChangedV1(r) => r.at,
        }
    }
    /// The stored bytes. Fails if they would exceed a leaf.
    pub fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        // Serializing these types into a growing vector has no other way to fail than memory.
        let bytes = postcard::to_stdvec(self).map_err(|_| TooLarge(usize::MAX))?;
        if bytes.len() > MAX_LEAF { Err(TooLarge(bytes.len())) } else { Ok(bytes) }
    }
    /// Decodes exactly one record; trailing octets are refused.
    ///
    /// Integers in a longer form than needed are accepted, as postcard does: never hash a re-encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotARecord> {
        if bytes.len() > MAX_LEAF {
            return Err(NotARecord(format!("{} octets are more than a leaf holds", bytes.len())));
        }
        let (record, rest) =
            postcard::take_from_bytes(bytes).map_err(|e| NotARecord(e.to_string()))?;
        if rest.is_empty() {
            Ok(record)
        } else {
            Err(NotARecord(format!("{} octets follow the record", rest.len())))
        }
    }

    /// What is told in one word; one of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CeremonyV1(_) => "ceremony",
            Self::AccountRegisteredV1(_) | Self::AccountRegisteredV2(_) => "account",
            Self::IntentV1(_) => "intent",
            Self::IssuedV1(_) => "issued",
            Self::AbandonedV1(_) => "abandoned",
            Self::CrlV1(_) | Self::CrlV2(_) => "crl",
            Self::ClockAcceptedV1(_) => "clock",
            Self::KeyChangedV1(_) => "keychange",
            Self::AccountDeactivatedV1(_) => "deactivated",
            Self::TicketMintedV1(_) => "ticket",
            Self::TicketRevokedV1(_) => "ticket-end",
            Self::RevokedV1(_) => "revoked",
            Self::RefusedV1(_) => "refused",
            Self::RecallV1(_) => "recall",
            Self::RecallEndedV1(_) => "recall-end",
            Self::LogKeyRotatedV1(_) => "log-key",
            Self::LogKeyRetiredV1(_) => "log-key-end",
            Self::StartedV1(_) => "started",
            Self::ConfigChangedV1(_) => "config",
        }
    }

    /// Whether it may take the reserve when the disk is full: what withdraws trust, and what says so.
    pub fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::AbandonedV1(_)
                | Self::CrlV1(_)
                | Self::AccountDeactivatedV1(_)
                | Self::TicketRevokedV1(_)
                | Self::RevokedV1(_)
                | Self::CrlV2(_)
                | Self::LogKeyRetiredV1(_)
        )
    }
}

/// The most octets a leaf can have: an entry's length in a tile is a uint16 (C2SP tlog-tiles).
pub const MAX_LEAF: usize = 65_535;

/// The encoding exceeds 65,535 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// The octets are not one record of a version known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotARecord(pub String);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets are more than a leaf holds ({MAX_LEAF})", self.0)
    }
}

impl fmt::Display for NotARecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a record this version knows: {}", self.0)
    }
}

impl std::error::Error for TooLarge {}
impl std::error::Error for NotARecord {}

#[cfg(test)]
pub(crate) mod random;
#[cfg(test)]
mod schema;
#[cfg(test)]
pub(crate) mod tests;
