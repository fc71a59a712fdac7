//! Recalls: certificates that the operator wants replaced within a window (RFC 9773).

use serde::{Deserialize, Serialize};

use crate::id::{LeafIndex, Serial, Timestamp};

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecallQuestion {
    Start(Box<Recall>),
    List,
    /// The recall at this leaf of the log.
    End(LeafIndex),
}

/// What is answered, in the same order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecallAnswer {
    Started(LeafIndex),
    List(Vec<(LeafIndex, Recall)>),
    Ended,
}

/// Which certificates, and when. All that is said must hold for a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recall {
    pub profile: Option<String>,
    pub serial: Option<Serial>,
    pub issued_from: Option<Timestamp>,
    /// `None`, or later than now: now.
    pub issued_until: Option<Timestamp>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// An http or https URL.
    pub explanation: Option<String>,
}
