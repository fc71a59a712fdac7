//! Answers what the operator's tools ask. Every record that comes of it names the operator.

use super::service::Desk;
use crate::ipc::Trespass;
use crate::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, AdminService, Operator};

impl AdminService for Desk {
    fn answer(
        &self,
        operator: &Operator,
        question: AdminQuestion,
    ) -> Result<AdminAnswer, AdminRefusal> {
        match question {
            AdminQuestion::Who => Ok(AdminAnswer::Operator(operator.clone())),
        }
    }

    fn trespassed(&self, what: Trespass) {
        self.refusals.trespassed(what);
    }
}
