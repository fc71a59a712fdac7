//! Enrolment tickets as the operator's tools ask about them.

use serde::{Deserialize, Serialize};

use crate::acme::ticket::{Constraints, Secret};
use crate::id::Timestamp;

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TicketQuestion {
    /// Mints all of these or none; `dry` only says whether it could.
    Mint {
        tickets: Vec<NewTicket>,
        dry: bool,
    },
    /// A page of all tickets, by id.
    List {
        after: Option<String>,
    },
    Revoke {
        ticket: String,
    },
}

/// What is answered, in the same order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TicketAnswer {
    Minted(Vec<MintedTicket>),
    /// The last page is empty.
    List(Vec<TicketStatus>),
    /// Whether it was in force.
    Revoked(bool),
}

/// A ticket to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewTicket {
    pub constraints: Constraints,
    pub uses: u32,
    pub expires: Timestamp,
    /// The operator's, such as a device's serial number.
    pub note: String,
}

/// What a client needs: `--eab-kid` and `--eab-hmac-key`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MintedTicket {
    pub ticket: String,
    pub secret: Secret,
}

/// A ticket as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketStatus {
    pub ticket: String,
    pub uses: u32,
    pub used: u32,
    pub minted: Timestamp,
    pub expires: Timestamp,
    pub revoked: bool,
    pub note: String,
    pub constraints: Constraints,
}
