//! Problem documents (RFC 7807, RFC 8555 section 6.7): the client's half of every refusal.

use serde::{Deserialize, Serialize};

use crate::pki::name::Identifier;

/// The registered error types. Order is stored by postcard (problems live in orders and
/// challenges): append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum ProblemType {
    AccountDoesNotExist,
    AlreadyRevoked,
    BadCsr,
    BadNonce,
    BadPublicKey,
    BadRevocationReason,
    BadSignatureAlgorithm,
    Caa,
    Compound,
    Connection,
    Dns,
    ExternalAccountRequired,
    IncorrectResponse,
    InvalidContact,
    Malformed,
    OrderNotReady,
    RateLimited,
    RejectedIdentifier,
    ServerInternal,
    Tls,
    Unauthorized,
    UnsupportedContact,
    UnsupportedIdentifier,
    UserActionRequired,
    AlreadyReplaced,
    InvalidProfile,
    BadAttestationStatement,
}

/// One problem. `detail` is written for the client and holds nothing internal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    pub kind: ProblemType,
    pub detail: String,
    /// HTTP status when it answers a request.
    pub status: u16,
    pub subproblems: Vec<Subproblem>,
}

/// A problem of one identifier (RFC 8555 section 6.7.1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subproblem {
    pub kind: ProblemType,
    pub detail: String,
    pub identifier: Identifier,
}

impl ProblemType {
    /// `urn:ietf:params:acme:error:…`.
    pub fn urn(self) -> &'static str {
        todo!()
    }
    /// The status RFC 8555 or custom gives it.
    pub fn default_status(self) -> u16 {
        todo!()
    }
}

impl Problem {
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        todo!()
    }
    /// The JSON object; `algorithms` is added for badSignatureAlgorithm.
    pub fn to_json(&self) -> String {
        todo!()
    }
}
