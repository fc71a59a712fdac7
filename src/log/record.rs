//! The records of the log. Versioned variants of one outer enum: append only, never reordered, never
//! edited; a golden file holds the bytes of each. What is hashed is the stored bytes, never a re-encoding.

mod account;
mod authority;
mod ceremony;
mod certificate;
mod format;
mod process;
mod restore;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{LeafIndex, Timestamp};
use crate::state::Format;
use crate::tlog::keys::{BadKeyLeaf, LogKeys, Rotation};

pub use account::{
    AccountDeactivatedV1, AccountRegisteredV1, AccountRegisteredV2, KeyChangedV1, TicketMintedV1,
    TicketRevokedV1,
};
pub use authority::{AuthorityRetiredV1, IssuerAddedV1, RootAddedV1};
pub use ceremony::{CeremonyHeldV1, CeremonyV1, ClockAcceptedV1, LogKeyRetiredV1, LogKeyRotatedV1};
pub use certificate::{
    AbandonedV1, Actor, CrlV1, CrlV2, IntentV1, IssuedV1, RecallEndedV1, RecallV1, Requester,
    RevokedV1, ValidationV1,
};
pub use format::FormatRaisedV1;
pub use process::{
    ConfigChangedV1, ConfigPartV1, PreviousEnd, RefusalV1, RefusedV1, StartedV1, TokenV1,
};
pub use restore::{EpochTakenV1, LogSucceededV1, RestoredV1, ShownBy};

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
    /// Another issuing CA: certificates may be its own from here on.
    IssuerAddedV1(IssuerAddedV1),
    /// Another root.
    RootAddedV1(RootAddedV1),
    /// A root or an issuing CA is done with.
    AuthorityRetiredV1(AuthorityRetiredV1),
    /// A ceremony that was held after the first, by digest of its transcript.
    CeremonyHeldV1(CeremonyHeldV1),
    /// The box was restored from a backup, and this log goes on.
    RestoredV1(RestoredV1),
    /// The first leaf, where this log goes on for another.
    LogSucceededV1(LogSucceededV1),
    /// The token's epoch was raised for this box.
    EpochTakenV1(EpochTakenV1),
    /// The state is written in a newer format from here on.
    FormatRaisedV1(FormatRaisedV1),
}

impl Record {
    /// What `kind` says, in the order of the variants.
    pub const KINDS: [&'static str; 26] = [
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
        "issuer",
        "root",
        "authority-end",
        "restored",
        "log-begun",
        "epoch",
        "format",
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
            Self::IssuerAddedV1(r) => r.at,
            Self::RootAddedV1(r) => r.at,
            Self::AuthorityRetiredV1(r) => r.at,
            Self::CeremonyHeldV1(r) => r.at,
            Self::RestoredV1(r) => r.at,
            // Its own instant is later than those of the leaves behind it.
            Self::LogSucceededV1(r) => r.ceremony.at,
            Self::EpochTakenV1(r) => r.at,
            Self::FormatRaisedV1(r) => r.at,
        }
    }

    /// What a log's first leaf says of its CA; `None` of every other record.
    pub fn first(&self) -> Option<&CeremonyV1> {
        match self {
            Self::CeremonyV1(ceremony) => Some(ceremony),
            Self::LogSucceededV1(succeeded) => Some(&succeeded.ceremony),
            _ => None,
        }
    }

    /// Of a log's first leaf: how many leaves, itself included, stand for those of a log before it. What they say of
    /// log keys was about that one.
    pub fn carried(&self) -> u64 {
        match self {
            Self::LogSucceededV1(succeeded) => succeeded.size,
            _ => 0,
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
            Self::CeremonyV1(_) | Self::CeremonyHeldV1(_) => "ceremony",
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
            Self::IssuerAddedV1(_) => "issuer",
            Self::RootAddedV1(_) => "root",
            Self::AuthorityRetiredV1(_) => "authority-end",
            Self::RestoredV1(_) => "restored",
            Self::LogSucceededV1(_) => "log-begun",
            Self::EpochTakenV1(_) => "epoch",
            Self::FormatRaisedV1(_) => "format",
        }
    }

    /// What it says of the log's own keys, done to `keys`: `false` if nothing. One that cannot be changes nothing.
    pub fn turn_keys(&self, leaf: LeafIndex, keys: &mut LogKeys) -> Result<bool, BadKeyLeaf> {
        match self {
            Self::LogKeyRotatedV1(r) => {
                let LogKeyRotatedV1 { former, key, endorsement, possession, .. } = r;
                keys.rotate(leaf, &Rotation { former, key, endorsement, possession })?;
            }
            Self::LogKeyRetiredV1(r) => keys.retire(leaf, &r.key)?,
            _ => return Ok(false),
        }
        Ok(true)
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
                | Self::AuthorityRetiredV1(_)
                | Self::CeremonyHeldV1(_)
                | Self::RestoredV1(_)
                | Self::EpochTakenV1(_)
                | Self::FormatRaisedV1(_)
        )
    }
}

/// How many kinds of records each format of the state knows: those of format *n* are the first `KNOWN[n - 1]`. A release
/// that adds kinds adds a format.
pub const KNOWN: [u64; Format::OWN.0 as usize] = [28, 29];

/// The first format that knows a stored record; `None` if it is none that this program knows. Asks only for its number, the
/// varint at the front.
pub fn format_of(stored: &[u8]) -> Option<Format> {
    let (number, _) = postcard::take_from_bytes::<u32>(stored).ok()?;
    let format = KNOWN.iter().position(|known| u64::from(number) < *known)? + 1;
    u32::try_from(format).ok().map(Format)
}

/// The act of the ceremony behind whose record the log has no other.
pub const RETIRE: &str = "retire";

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
