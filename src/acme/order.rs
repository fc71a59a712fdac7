//! Orders (RFC 8555 section 7.1.3): facts, the status computed from them, and what finalize decides.

use serde::{Deserialize, Serialize};

use super::authz::Authorization;
use super::problem::Problem;
use crate::id::{AccountId, AuthzId, OrderId, Serial, Timestamp};
use crate::pki::csr::Csr;
use crate::pki::name::Identifier;

/// The stored facts of an order. The arrays never change after creation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    pub id: OrderId,
    pub account: AccountId,
    pub identifiers: Vec<Identifier>,
    /// In the order of `identifiers`; an authorization may serve several orders.
    pub authorizations: Vec<AuthzId>,
    pub profile: String,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    /// RFC 9773: the certificate this one replaces, as the client named it.
    pub replaces: Option<String>,
    pub created: Timestamp,
    pub expires: Timestamp,
    /// The finalize request, verbatim: its presence is `processing`.
    pub finalize: Option<Finalize>,
    pub outcome: Option<Outcome>,
}

/// A finalize request that was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finalize {
    pub at: Timestamp,
    /// The flattened JWS as it arrived; the issuer verifies it again.
    #[serde(with = "serde_bytes")]
    pub jws: Vec<u8>,
}

/// How it ended. Order is stored by postcard: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Issued {
        at: Timestamp,
        serial: Serial,
        leaf: u64,
        #[serde(with = "serde_bytes")]
        certificate: Vec<u8>,
    },
    Failed {
        at: Timestamp,
        problem: Problem,
    },
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

/// A parsed newOrder payload (RFC 8555 section 7.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewOrder {
    pub identifiers: Vec<Identifier>,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
}

/// What an accepted or refused finalize is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FinalizeDecision {
    /// Store `Finalize` and ask the issuer.
    Accept,
    /// Already finalized: answer with the order as it is.
    AlreadyProcessing,
}

impl NewOrder {
    /// Parses; duplicates are merged, unknown types give `unsupportedIdentifier` subproblems,
    /// bad names `rejectedIdentifier` or `malformed`. At most 100 identifiers.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        todo!()
    }
}

impl Order {
    /// Computed from the facts of the order and of all its authorizations; never stored.
    pub fn status(&self, authorizations: &[Authorization], now: Timestamp) -> OrderStatus {
        todo!()
    }
    /// RFC 8555 section 7.4: `orderNotReady` unless ready; `badCSR` unless the CSR's identifiers
    /// are exactly the order's. Changes nothing.
    pub fn finalize(
        &self,
        authorizations: &[Authorization],
        csr: &Csr,
        now: Timestamp,
    ) -> Result<FinalizeDecision, Problem> {
        todo!()
    }
    /// The order object.
    pub fn to_json(
        &self,
        authorizations: &[Authorization],
        now: Timestamp,
        urls: &super::directory::Urls,
    ) -> String {
        todo!()
    }
    /// Parses a finalize payload `{"csr": base64url(DER)}`.
    pub fn parse_finalize(payload: &[u8]) -> Result<Csr, Problem> {
        todo!()
    }
}
