//! What the two processes say to each other about witnesses (C2SP tlog-witness): those of this log, to which the
//! web process carries what the issuer made, and this box as a witness of others. Only what is signed in it is
//! believed.

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// Witnesses that one log may have.
pub const MOST: usize = 16;

/// Octets that are read of what one witness answers: three ML-DSA-44 lines with room. Those of `MOST` fit a frame.
pub const MAX_ANSWER: usize = 12 * 1024;
const _: () = assert!(MOST * (MAX_ANSWER + 16) < super::message::MAX_FRAME);

/// Something to bring to a witness, given by its place in `[[web.witnesses]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Errand {
    pub witness: u16,
    pub what: ErrandKind,
}

/// What is brought, or fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ErrandKind {
    /// POST this body to `add-checkpoint`.
    AddCheckpoint(#[serde(with = "serde_bytes")] Vec<u8>),
    /// GET this path below the witness's prefix: the newest checkpoint of this log that it knows.
    Latest(String),
}

/// How an errand came out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Carried {
    pub witness: u16,
    pub outcome: Outcome,
}

/// What a witness answered, if it did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// 200 and its body, at most `MAX_ANSWER` octets of it.
    Body(#[serde(with = "serde_bytes")] Vec<u8>),
    /// 409: what it cosigned last has so many leaves.
    Conflict(u64),
    /// Another status.
    Status(u16),
    /// No answer; why, for the operator.
    Unreachable(String),
}

/// The answer of a witness.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cosigned {
    /// Signature lines, each with its line feed.
    Lines(String),
    /// 400.
    Malformed,
    /// 403: no signature of the log, or a wrong one.
    Unsigned,
    /// 404: of no log that this box watches.
    Unknown,
    /// 409: what was cosigned last has so many leaves.
    Conflict(u64),
    /// 422.
    Inconsistent,
}

/// What a witness cosigned last; in `Health::watched`, what this box did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Watch {
    /// The witness's name; of a watched log, its origin.
    pub name: String,
    /// Leaves of the tree that was cosigned last. 0: none that this process knows of.
    pub size: u64,
    /// When this process heard of it, or made it; 0: not yet.
    pub at: Timestamp,
    /// What is wrong now, for the operator; empty: nothing.
    pub problem: String,
}
