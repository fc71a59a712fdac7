//! How much one account, and all together, may have done within an hour: what bounds the harm of an account
//! that was taken over, and of a web process that was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Settings;
use crate::acme::limit::Hourly;
use crate::acme::problem::{Problem, ProblemType};
use crate::id::AccountId;
use crate::ipc::Refusal;

pub(super) struct Caps {
    issuance: Hourly<AccountId>,
    /// Over all accounts: whoever has many has no more of the token than this.
    issuance_of_all: Hourly<()>,
    key_changes: Hourly<AccountId>,
    /// Over all clients: a flood of accounts would fill the log.
    registrations: Hourly<()>,
    registrations_refused: AtomicU64,
}

impl Caps {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            issuance: Hourly::new(settings.issuance_per_account_per_hour),
            issuance_of_all: Hourly::new(settings.issuance_per_hour),
            key_changes: Hourly::new(settings.key_changes_per_account_per_hour),
            registrations: Hourly::new(settings.registrations_per_hour),
            registrations_refused: AtomicU64::new(0),
        }
    }

    /// One certificate more.
    pub(super) fn issuance(&self, account: AccountId, monotonic: Duration) -> Result<(), Refusal> {
        self.issuance.take(account, monotonic).map_err(|wait| {
            tracing::warn!(%account, "CHY-ACCOUNT-CAP: an account has had all certificates of this hour");
            let minutes = wait.as_secs().div_ceil(60);
            Refusal::Refused(Problem::new(
                ProblemType::RateLimited,
                format!("this account has had all the certificates it may have in an hour; ask again in {minutes} minutes"),
            ))
        })?;
        self.issuance_of_all.take((), monotonic).map_err(|wait| {
            self.issuance.give_back(&account);
            tracing::warn!(%account, "CHY-ISSUANCE-CAP: all certificates of this hour are issued");
            limited("this server has issued all the certificates it may in an hour", wait)
        })
    }

    /// One key change more; each is a record for ever.
    pub(super) fn key_change(
        &self,
        account: AccountId,
        monotonic: Duration,
    ) -> Result<(), Refusal> {
        self.key_changes.take(account, monotonic).map_err(|wait| {
            let detail = "this account has changed its key as often as it may in an hour";
            limited(detail, wait)
        })
    }

    /// One account more.
    pub(super) fn registration(&self, monotonic: Duration) -> Result<(), Refusal> {
        self.registrations.take((), monotonic).map_err(|wait| {
            if self.registrations_refused.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000) {
                tracing::warn!(
                    "CHY-REGISTRATIONS: more accounts than registrations-per-hour allows"
                );
            }
            limited("this server has registered all the accounts it may in an hour", wait)
        })
    }

    /// It was not registered after all.
    pub(super) fn unregistered(&self) {
        self.registrations.give_back(&());
    }
}

fn limited(detail: &str, wait: Duration) -> Refusal {
    let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    Refusal::Limited(Problem::new(ProblemType::RateLimited, detail), wait)
}
