//! Accounts, their keys, and the tickets that let them in.

use serde::{Deserialize, Serialize};

use super::Actor;
use crate::id::{AccountId, Timestamp};

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
