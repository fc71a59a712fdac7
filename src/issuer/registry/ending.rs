//! Deactivation (RFC 8555 section 7.3.6): by the account's own request, or by an operator.

use std::sync::Arc;

use super::{Registry, said};
use crate::acme::account::AccountUpdate;
use crate::acme::directory::Resource;
use crate::acme::jws::Jws;
use crate::acme::problem::Problem;
use crate::id::AccountId;
use crate::ipc::message::Ended;
use crate::ipc::{Answer, Refusal, Reply};
use crate::issuer::core::count;
use crate::log::Release;
use crate::log::record::{AccountDeactivatedV1, Actor, Record};
use crate::log::tree::sha256;

impl Registry {
    /// Answers `Question::Deactivate`. An account that has ended already answers with when.
    pub(in crate::issuer) fn deactivate(self: &Arc<Self>, body: &[u8], reply: Reply) {
        match self.verify_end(body) {
            Ok((account, by)) => self.end(account, by, move |result| {
                reply(result.map(|(ended, _)| Answer::Deactivated(ended)));
            }),
            Err(refusal) => reply(Err(refusal)),
        }
    }

    /// Ends an account; `then` hears when it ended, and whether it had before.
    pub(in crate::issuer) fn end(
        self: &Arc<Self>,
        account: AccountId,
        by: Actor,
        then: impl FnOnce(Result<(Ended, bool), Refusal>) + Send + 'static,
    ) {
        let claimed = self.claim(account, None).and_then(|claim| match self.ended(account)? {
            Some(ended) => Ok(Err(ended)),
            None => Ok(Ok((self.core.now()?, claim))),
        });
        let (at, claim) = match claimed {
            Ok(Ok(free)) => free,
            Ok(Err(ended)) => return then(Ok((ended, true))),
            Err(refusal) => return then(Err(refusal)),
        };
        let by_operator = matches!(by, Actor::Operator { .. });
        let record = Record::AccountDeactivatedV1(AccountDeactivatedV1 { at, account, by });
        let registry = Arc::clone(self);
        self.core.append(record, Release::Durable, move |result| {
            let answer = match result {
                Ok(appended) => {
                    count(&registry.core.counters.deactivated);
                    said("account deactivated", account, appended.leaf);
                    Ok((Ended { at, by_operator }, false))
                }
                Err(why) => Err(why.into()),
            };
            drop(claim);
            then(answer);
        });
    }

    /// When an account ended.
    pub(in crate::issuer) fn ended(&self, account: AccountId) -> Result<Option<Ended>, Refusal> {
        let ended = self.core.log.index().deactivated(account);
        let ended = ended.map_err(|why| self.core.lost_index(&why))?;
        Ok(ended.map(|end| Ended { at: end.at, by_operator: end.by_operator }))
    }

    fn verify_end(&self, body: &[u8]) -> Result<(AccountId, Actor), Refusal> {
        let jws = Jws::parse(body).map_err(|e| Refusal::Refused(e.into()))?;
        let signed = self.signed(&jws, Resource::Account)?;
        let update = AccountUpdate::parse(&signed.payload).map_err(Refusal::Refused)?;
        if !update.deactivate {
            let why = "this is no request to be deactivated";
            return Err(Refusal::Refused(Problem::malformed(why)));
        }
        let account = signed.account;
        Ok((account, Actor::Account { account, jws_sha256: sha256(body) }))
    }
}
