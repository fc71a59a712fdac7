//! Answers what the operator's tools ask. Every record that comes of it names the operator.

mod accounts;
mod certificate;
mod recalls;
mod records;
mod tickets;

use std::sync::atomic::Ordering;

pub use records::day_of_log;

use super::core::NotNow;
use super::formats::NotKept;
use super::log_keys::NotRetired;
use super::service::Desk;
use crate::id::Serial;
use crate::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, AdminService, Operator};
use crate::ipc::{Refusal, Trespass};
use crate::log::record::Actor;

impl AdminService for Desk {
    fn answer(
        &self,
        operator: &Operator,
        question: AdminQuestion,
    ) -> Result<AdminAnswer, AdminRefusal> {
        if self.core.halted.load(Ordering::SeqCst) {
            return Err(AdminRefusal::Retry(BUSY.into()));
        }
        match question {
            AdminQuestion::Who => Ok(AdminAnswer::Operator(operator.clone())),
            AdminQuestion::Ticket(question) => {
                self.ticket(operator, question).map(AdminAnswer::Ticket)
            }
            AdminQuestion::Account(question) => {
                self.account(operator, question).map(AdminAnswer::Account)
            }
            AdminQuestion::Certificate(question) => self.certificates(operator, question),
            AdminQuestion::Record(question) => self.records(question).map(AdminAnswer::Record),
            AdminQuestion::Recall(question) => {
                self.recall(operator, question).map(AdminAnswer::Recall)
            }
            AdminQuestion::KeepRelease => self.keep_release(operator),
            AdminQuestion::RetireLogKey => match self.key_turn.retire(actor(operator)) {
                Ok(leaf) => Ok(AdminAnswer::LogKeyRetired(leaf)),
                Err(NotRetired::NotNow(why)) => Err(not_now(&why)),
                Err(NotRetired::Nothing) => Err(AdminRefusal::Refused(
                    "CHY-LOG-KEY-ALONE: one key signs the log's checkpoints; there is no former one to retire".into(),
                )),
            },
        }
    }

    fn trespassed(&self, what: Trespass) {
        self.refusals.trespassed(what);
    }
}

impl Desk {
    fn keep_release(&self, operator: &Operator) -> Result<AdminAnswer, AdminRefusal> {
        match self.formats.keep(operator.uid, &operator.user) {
            Ok(kept) => {
                Ok(AdminAnswer::ReleaseKept { from: kept.from.0, to: kept.to.0, leaf: kept.leaf })
            }
            Err(NotKept::NotNow(why)) => Err(not_now(&why)),
            Err(NotKept::File(why)) => Err(AdminRefusal::Retry(why)),
        }
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
        NotNow::Wait(_) | NotNow::Clock(_) => AdminRefusal::Retry(BUSY.into()),
    }
}
/// Why something was not done, for the operator.
fn later(why: impl Into<Refusal>) -> AdminRefusal {
    match why.into() {
        Refusal::Retry(_) => AdminRefusal::Retry(BUSY.into()),
        Refusal::Refused(problem) | Refusal::Limited(problem, _) => {
            AdminRefusal::Refused(format!("CHY-ADMIN-REFUSED: {}", problem.detail))
        }
    }
}

fn gone(serial: Serial) -> AdminRefusal {
    AdminRefusal::Refused(format!(
        "CHY-CERT-UNKNOWN: this CA issued no certificate with the serial {serial}; chancery cert list names them"
    ))
}

const BUSY: &str = "CHY-ISSUER-BUSY: the issuer cannot do this at present; look at `chancery status` and ask again";
