//! The operator's questions about tickets.

use super::{actor, not_now};
use crate::ipc::admin::tickets::{TicketAnswer, TicketQuestion};
use crate::ipc::admin::{AdminRefusal, Operator};
use crate::issuer::service::Desk;
use crate::issuer::tickets::MintError;

impl Desk {
    pub(super) fn ticket(
        &self,
        operator: &Operator,
        question: TicketQuestion,
    ) -> Result<TicketAnswer, AdminRefusal> {
        let tickets = &self.registry.tickets;
        match question {
            TicketQuestion::Mint { tickets: wanted, dry } => {
                let minted = tickets.mint(wanted, dry, &actor(operator))?;
                if !minted.is_empty() {
                    tracing::info!(%operator, count = minted.len(), "tickets minted");
                }
                Ok(TicketAnswer::Minted(minted))
            }
            TicketQuestion::List { after } => {
                let page = tickets.list(after.as_deref(), PAGE).map_err(|why| not_now(&why))?;
                Ok(TicketAnswer::List(page))
            }
            TicketQuestion::Revoke { ticket } => {
                Ok(TicketAnswer::Revoked(tickets.revoke(&ticket, &actor(operator))?))
            }
        }
    }
}

impl From<MintError> for AdminRefusal {
    fn from(error: MintError) -> Self {
        match error {
            MintError::NotNow(why) => not_now(&why),
            MintError::Refused(text) => Self::Refused(text),
        }
    }
}

/// Octets of a page; a frame holds twice as many.
const PAGE: usize = 128 * 1024;
