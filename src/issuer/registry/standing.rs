//! What the registry tells: the web process, so that it catches up with what it missed; and the operator.

use super::{Registry, does_not_exist};
use crate::id::{AccountId, LeafIndex};
use crate::ipc::admin::accounts::AccountStatus;
use crate::ipc::message::{Permits, STANDINGS, Standing, Which};
use crate::ipc::{Answer, Refusal};

impl Registry {
    /// Answers `Question::Standings`.
    pub(in crate::issuer) fn standings(&self, which: Which) -> Result<Answer, Refusal> {
        let from = match which {
            Which::ChangedFrom(from) => from,
            Which::One(account) => {
                let standing = self.standing(account)?.ok_or_else(does_not_exist)?;
                let next = LeafIndex(0);
                return Ok(Answer::Standings { standings: vec![standing], next, more: false });
            }
        };
        let changed = self.core.log.index().account_changes(from, STANDINGS);
        let changed = changed.map_err(|why| self.core.lost_index(&why))?;
        let more = changed.len() == STANDINGS;
        let next = changed.last().map_or(from, |(leaf, _)| LeafIndex(leaf.0 + 1));
        let mut accounts: Vec<AccountId> = changed.into_iter().map(|(_, id)| id).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let mut standings = Vec::with_capacity(accounts.len());
        for account in accounts {
            standings.extend(self.standing(account)?);
        }
        Ok(Answer::Standings { standings, next, more })
    }

    /// Answers `Question::Permits`.
    pub(in crate::issuer) fn permits(&self, asked: &Permits) -> Result<Answer, Refusal> {
        let known = self.known(asked.account)?.ok_or_else(does_not_exist)?;
        self.check_active(asked.account)?;
        let now = self.core.rule.clock().now();
        let own = known.ticket.as_deref();
        let profile = asked.profile.as_deref();
        let profile = self.tickets.permits(own, &asked.identifiers, profile, now)?;
        Ok(Answer::Permitted { profile })
    }

    fn standing(&self, account: AccountId) -> Result<Option<Standing>, Refusal> {
        let Some(known) = self.known(account)? else { return Ok(None) };
        let jwk = known.key.canonical_json().to_owned();
        Ok(Some(Standing { account, jwk, ended: self.ended(account)? }))
    }

    /// A page of all accounts for the operator, by id.
    pub(in crate::issuer) fn list(
        &self,
        after: Option<AccountId>,
    ) -> Result<Vec<AccountStatus>, Refusal> {
        let page = self.core.log.index().accounts(after, STANDINGS);
        let page = page.map_err(|why| self.core.lost_index(&why))?;
        let mut listed = Vec::with_capacity(page.len());
        for (account, _) in page {
            listed.extend(self.status(account)?);
        }
        Ok(listed)
    }

    /// One account for the operator.
    pub(in crate::issuer) fn status(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountStatus>, Refusal> {
        let Some(known) = self.known(account)? else { return Ok(None) };
        Ok(Some(AccountStatus {
            account,
            registered: known.registered,
            jwk: known.key.canonical_json().to_owned(),
            thumbprint: known.key.thumbprint().0,
            key_changed: known.key_changed,
            ticket: known.ticket.clone(),
            ended: self.ended(account)?,
        }))
    }
}
