//! Enrolment tickets: external account binding (RFC 8555 section 7.3.4). Types only where the
//! main path needs them; minting and spending live with the issuer.

use serde::{Deserialize, Serialize};

/// The `kid` of a ticket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TicketId(pub String);
