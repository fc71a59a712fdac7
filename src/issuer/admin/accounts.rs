//! The operator's questions about accounts.

use std::sync::mpsc;

use super::{actor, not_now};
use crate::id::AccountId;
use crate::ipc::Refusal;
use crate::ipc::admin::accounts::{AccountAnswer, AccountQuestion};
use crate::ipc::admin::{AdminRefusal, Operator};
use crate::issuer::core::NotNow;
use crate::issuer::service::Desk;

impl Desk {
    pub(super) fn account(
        &self,
        operator: &Operator,
        question: AccountQuestion,
    ) -> Result<AccountAnswer, AdminRefusal> {
        let registry = &self.registry;
        match question {
            AccountQuestion::List { after } => {
                registry.list(after).map(AccountAnswer::List).map_err(refused)
            }
            AccountQuestion::Show(account) => match registry.status(account).map_err(refused)? {
                Some(status) => Ok(AccountAnswer::Account(Box::new(status))),
                None => Err(unknown(account)),
            },
            AccountQuestion::Deactivate(account) => {
                registry.status(account).map_err(refused)?.ok_or_else(|| unknown(account))?;
                let (sender, receiver) = mpsc::channel();
                registry.end(account, actor(operator), move |result| drop(sender.send(result)));
                match receiver.recv() {
                    Ok(Ok((ended, before))) => {
                        tracing::info!(%account, %operator, before, "the operator deactivated it");
                        Ok(AccountAnswer::Deactivated { ended, before })
                    }
                    Ok(Err(refusal)) => Err(refused(refusal)),
                    // The log is closing.
                    Err(_) => Err(not_now(&NotNow::Wait(std::time::Duration::ZERO))),
                }
            }
        }
    }
}

fn unknown(account: AccountId) -> AdminRefusal {
    AdminRefusal::Refused(format!(
        "CHY-ACCOUNT-UNKNOWN: there is no account {account}; `chancery account list` shows all"
    ))
}

/// What a client would have been told, to an operator.
fn refused(refusal: Refusal) -> AdminRefusal {
    match refusal {
        Refusal::Retry(_) | Refusal::Limited(..) => {
            not_now(&NotNow::Wait(std::time::Duration::ZERO))
        }
        Refusal::Refused(_) => not_now(&NotNow::Never),
    }
}
