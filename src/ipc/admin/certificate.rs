//! `chancery cert`: questions about certificates, and their answers.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, LeafIndex, Serial, Timestamp};

/// What an operator can ask of certificates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CertificateQuestion {
    /// A page of those that match: by their end; by name first, where all names below a suffix are asked for.
    List(Selection),
    Show(Serial),
    /// `reason` is a CRLReason (RFC 5280 section 5.3.1).
    Revoke {
        serial: Serial,
        reason: Option<u8>,
    },
}

/// Which certificates; all that is given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Selection {
    /// A name or address in it; `*.` and a suffix for every name below that.
    pub name: Option<String>,
    pub account: Option<AccountId>,
    /// Its end is not before this.
    pub from: Timestamp,
    /// Its end is before this.
    pub until: Option<Timestamp>,
    pub revoked: bool,
    /// Where the last page ended.
    pub after: Option<Place>,
}

/// A place in the order of the list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// As the index writes it; empty in lists by the end.
    pub name: String,
    pub end: Timestamp,
    pub intent: LeafIndex,
}

/// A page. The issuer looks at a bounded number of certificates for each, so one may be empty and not the last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    pub lines: Vec<Line>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Place>,
}

/// One certificate in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    pub serial: Serial,
    pub names: Vec<String>,
    /// `None`: this box's own.
    pub account: Option<AccountId>,
    pub profile: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub state: State,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum State {
    /// Intended, not signed yet.
    Open,
    Issued,
    Abandoned,
    Revoked {
        at: Timestamp,
        reason: Option<u8>,
    },
}

impl State {
    /// For people and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Issued => "issued",
            Self::Abandoned => "abandoned",
            Self::Revoked { .. } => "revoked",
        }
    }
}

/// All there is to say of one certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Detail {
    pub line: Line,
    pub intent: LeafIndex,
    /// The URL of the CRL that lists it, once it is revoked.
    pub crl: Option<String>,
    /// The leaf that says that it is revoked.
    pub revoked: Option<LeafIndex>,
    /// DER, once it is issued.
    #[serde(with = "serde_bytes")]
    pub der: Option<Vec<u8>>,
}
