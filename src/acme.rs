//! PURE. RFC 8555 as facts and decisions: what a request says, what a resource's status is at an
//! instant, and what a request would change. Time and randomness arrive as values; nothing here
//! waits, stores or talks.
//!
//! Stored types are postcard: append variants and never reorder them. The store keeps every fact
//! inside a versioned outer enum, so a new field is a new version there.

pub mod account;
pub mod admission;
pub mod authz;
pub mod challenge;
pub mod directory;
pub mod issue_value;
mod json;
pub mod jws;
pub mod limit;
pub mod name_set;
pub mod nonce;
pub mod order;
pub mod problem;
pub mod renewal;
pub mod revocation;
pub mod rfc3339;
pub mod ticket;

/// RFC 8555's word, though the name is X.509's to parse.
pub use crate::pki::name::Identifier;
