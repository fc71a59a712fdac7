//! Answers what the operator's tools ask. Every record that comes of it names the operator.

mod accounts;
mod tickets;

use super::core::NotNow;
use super::service::Desk;
use crate::ipc::Trespass;
use crate::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, AdminService, Operator};
use crate::log::record::Actor;

impl AdminService for Desk {
    fn answer(
        &self,
        operator: &Operator,
        question: AdminQuestion,
    ) -> Result<AdminAnswer, AdminRefusal> {
        match question {
            AdminQuestion::Who => Ok(AdminAnswer::Operator(operator.clone())),
            AdminQuestion::Ticket(question) => {
                self.ticket(operator, question).map(AdminAnswer::Ticket)
            }
            AdminQuestion::Account(question) => {
                self.account(operator, question).map(AdminAnswer::Account)
            }
        }
    }

    fn trespassed(&self, what: Trespass) {
        self.refusals.trespassed(what);
    }
}

/// The operator as a record names it.
fn actor(operator: &Operator) -> Actor {
    Actor::Operator { uid: operator.uid, user: operator.user.clone() }
}

/// Why nothing happened, for the operator; what is wrong is in the health.
fn not_now(why: &NotNow) -> AdminRefusal {
    match why {
        NotNow::Never => AdminRefusal::Refused(
            "CHY-INTERNAL: the issuer cannot do this; its log says why".into(),
        ),
        NotNow::Wait(_) | NotNow::Clock(_) => AdminRefusal::Retry(
            "CHY-ISSUER-BUSY: the issuer cannot record this at present; look at `chancery status` and ask again".into(),
        ),
    }
}
