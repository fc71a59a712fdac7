//! keyChange (RFC 8555 section 7.3.5) as the issuer judges it.

use std::sync::Arc;

use super::{Registry, given_up, said};
use crate::acme::account::KeyChange;
use crate::acme::directory::Resource;
use crate::acme::jws::{Jws, KeyRef};
use crate::id::AccountId;
use crate::ipc::{Answer, Refusal, Reply};
use crate::issuer::core::count;
use crate::log::Release;
use crate::log::record::{KeyChangedV1, Record};
use crate::log::tree::sha256;

impl Registry {
    /// Answers `Question::ChangeKey`. The request that made the last change answers as it did then.
    pub(in crate::issuer) fn change_key(self: &Arc<Self>, body: &[u8], reply: Reply) {
        let decided = self.decide_key_change(body);
        let (record, claim) = match decided {
            Ok(Decided::Change(record, claim)) => (record, claim),
            Ok(Decided::Answer(answer)) => return reply(Ok(answer)),
            Err(refusal) => return reply(Err(refusal)),
        };
        let registry = Arc::clone(self);
        let account = record.account;
        self.core.append(Record::KeyChangedV1(record), Release::Durable, move |result| {
            let answer = match result {
                Ok(appended) => {
                    registry.forget(account);
                    count(&registry.core.counters.key_changes);
                    said("account key changed", account, appended.leaf);
                    Ok(Answer::KeyChanged)
                }
                Err(why) => Err(why.into()),
            };
            drop(claim);
            reply(answer);
        });
    }

    fn decide_key_change(self: &Arc<Self>, body: &[u8]) -> Result<Decided, Refusal> {
        let jws = Jws::parse(body).map_err(|e| Refusal::Refused(e.into()))?;
        let jws_sha256 = sha256(body);
        if let Some(account) = self.core.urls.account_of(&jws)
            && self.last_key_change(account)? == Some(jws_sha256)
        {
            return Ok(Decided::Answer(Answer::KeyChanged));
        }
        let signed = self.signed(&jws, |_| Resource::KeyChange)?;
        self.check_active(signed.account)?;
        let kid = self.core.urls.url(Resource::Account(signed.account));
        let present = &signed.known.key;
        let KeyChange { key } = KeyChange::parse(&signed.payload, jws.url(), &kid, present)
            .map_err(Refusal::Refused)?;
        self.foreign_key(&key)?;
        let thumbprint = key.thumbprint().0;
        let claim = self.claim(signed.account, Some(thumbprint))?;
        // With the claim in hand: what was on its way before it is in the index now.
        if let Some(account) = self.holder(thumbprint)? {
            return Ok(Decided::Answer(Answer::KeyInUse { account }));
        }
        // A key that was given up stays so: else whoever kept the request that once brought it could bring it back.
        if self.was_a_key(thumbprint)? {
            return Err(given_up());
        }
        self.check_active(signed.account)?;
        if self.known(signed.account)?.is_none_or(|now| now.key != signed.known.key) {
            return Err(Refusal::Retry(200));
        }
        let at = self.core.now()?;
        self.core.caps.key_change(signed.account, self.core.rule.clock().monotonic())?;
        let record = KeyChangedV1 {
            at,
            account: signed.account,
            jwk: key.canonical_json().to_owned(),
            former: present.thumbprint().0,
            jws_sha256,
        };
        Ok(Decided::Change(record, claim))
    }

    /// The digest of the request that gave the account its present key.
    fn last_key_change(&self, account: AccountId) -> Result<Option<[u8; 32]>, Refusal> {
        let lost = |why: String| self.core.lost_index(&why);
        let Some(leaf) = self.core.log.index().key_change(account).map_err(lost)? else {
            return Ok(None);
        };
        match self.core.log.read(leaf).map_err(lost)? {
            Record::KeyChangedV1(record) => Ok(Some(record.jws_sha256)),
            _ => Ok(None),
        }
    }
}

enum Decided {
    Change(KeyChangedV1, super::Claim),
    Answer(Answer),
}

/// Whom an unverified request names.
trait Named {
    fn account_of(&self, jws: &Jws) -> Option<AccountId>;
}

impl Named for crate::acme::directory::Urls {
    fn account_of(&self, jws: &Jws) -> Option<AccountId> {
        let KeyRef::Kid(kid) = jws.key() else { return None };
        match self.parse(kid) {
            Some(Resource::Account(account)) => Some(account),
            _ => None,
        }
    }
}
