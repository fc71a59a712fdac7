//! Which order replaces a certificate (RFC 9773 section 5).

use serde::{Deserialize, Serialize};

use super::{Order, OrderStatus};
use crate::acme::problem::{Problem, ProblemType};
use crate::acme::renewal::Certified;
use crate::id::{AccountId, OrderId, Serial, Timestamp};

/// The stored fact that an order was placed to replace a certificate. It counts while that order is not
/// invalid, and until the certificate ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replaced {
    /// The certificate's.
    pub serial: Serial,
    pub by: OrderId,
    /// The certificate's end, after which nobody renews it.
    pub until: Timestamp,
}

impl Replaced {
    /// Judges `replaces` of an order that was just placed: the certificate must be the account's own and
    /// share a name with the order. Another's answers like one that does not exist.
    pub fn new(
        serial: Serial,
        certified: Option<&Certified>,
        account: AccountId,
        order: &Order,
    ) -> Result<Self, Problem> {
        let own = certified.filter(|c| c.account == account).ok_or_else(Self::unknown)?;
        if !own.identifiers.iter().any(|identifier| order.identifiers.contains(identifier)) {
            return Err(Problem::malformed(
                "the order and the certificate that it replaces share no identifier",
            ));
        }
        Ok(Self { serial, by: order.id, until: own.not_after })
    }

    /// One answer for another's certificate and for none, so that it tells nothing.
    pub fn unknown() -> Problem {
        Problem::malformed("replaces names no certificate that this account was issued")
    }

    /// `alreadyReplaced` while the order that it names, of this status, stands; `None` for one that is gone.
    pub fn check_free(&self, by: Option<OrderStatus>) -> Result<(), Problem> {
        match by {
            None | Some(OrderStatus::Invalid) => Ok(()),
            Some(_) => Err(Problem::new(
                ProblemType::AlreadyReplaced,
                "another order replaces this certificate already",
            )),
        }
    }
}
