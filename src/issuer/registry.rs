//! Which account keys the issuer accepted: a view of the log.
//!
//! An account exists here when its registration is durable. What else the web process knows of it
//! (contacts, agreement, deactivation) is the web process's own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::core::{Core, NotNow, count, lock};
use crate::acme::account::NewAccount;
use crate::acme::directory::Resource;
use crate::acme::jws::{Jwk, Jws, KeyRef, Payload};
use crate::acme::limit::Hourly;
use crate::acme::problem::{Problem, ProblemType};
use crate::env::random_16;
use crate::id::AccountId;
use crate::ipc::{Answer, Refusal, Reply};
use crate::log::Release;
use crate::log::record::{AccountRegisteredV1, Record};
use crate::pki::key::PublicKey;

pub(super) struct Registry {
    core: Arc<Core>,
    /// Keys whose registration is on its way, with all who asked for it.
    under_way: Mutex<HashMap<[u8; 32], Vec<Reply>>>,
    /// Keys read from the log lately.
    known: Mutex<HashMap<AccountId, Arc<Jwk>>>,
    /// Over all clients: a flood of accounts would fill the log.
    rate: Hourly<()>,
    refused_by_rate: AtomicU64,
}

impl Registry {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let rate = Hourly::new(core.settings.registrations_per_hour);
        Self {
            core,
            under_way: Mutex::new(HashMap::new()),
            known: Mutex::new(HashMap::new()),
            rate,
            refused_by_rate: AtomicU64::new(0),
        }
    }

    /// Answers `Question::Register`.
    pub(super) fn register(self: &Arc<Self>, jws: &[u8], reply: Reply) {
        let key = match self.verify(jws) {
            Ok(verified) => verified,
            Err(refusal) => return reply(Err(refusal)),
        };
        let (jwk, only_existing) = key;
        let thumbprint = jwk.thumbprint().0;
        let mut under_way = lock(&self.under_way);
        if let Some(waiting) = under_way.get_mut(&thumbprint) {
            if only_existing {
                // It does not exist yet; whoever registers it now will be told so.
                drop(under_way);
                return reply(Err(does_not_exist()));
            }
            waiting.push(reply);
            return;
        }
        // Under the lock: what is not under way any more is in the index.
        match self.core.log.index().account_by_key(thumbprint) {
            Err(why) => {
                drop(under_way);
                return reply(Err(self.core.lost_index(&why).into()));
            }
            Ok(Some(account)) => {
                drop(under_way);
                return reply(Ok(Answer::Account { account, existing: true }));
            }
            Ok(None) => {}
        }
        if only_existing {
            drop(under_way);
            return reply(Err(does_not_exist()));
        }
        let now = self.core.now().map_err(Refusal::from);
        let at = match now.and_then(|now| self.within_rate().map(|()| now)) {
            Ok(now) => now,
            Err(refusal) => {
                drop(under_way);
                return reply(Err(refusal));
            }
        };
        under_way.insert(thumbprint, vec![reply]);
        drop(under_way);

        let account = AccountId(random_16(&*self.core.rng));
        let jwk = jwk.canonical_json().to_owned();
        let record = Record::AccountRegisteredV1(AccountRegisteredV1 { at, account, jwk });
        let registry = Arc::clone(self);
        self.core.append(record, Release::Durable, move |result| {
            let waiting = lock(&registry.under_way).remove(&thumbprint).unwrap_or_default();
            match result {
                Ok(appended) => {
                    count(&registry.core.counters.registered);
                    tracing::info!(%account, leaf = appended.leaf.0, "account registered");
                    for (n, reply) in waiting.into_iter().enumerate() {
                        reply(Ok(Answer::Account { account, existing: n > 0 }));
                    }
                }
                Err(why) => {
                    registry.rate.give_back(&());
                    for reply in waiting {
                        reply(Err(why.clone().into()));
                    }
                }
            }
        });
    }

    /// The key of a registered account.
    pub(super) fn key(&self, account: AccountId) -> Result<Option<Arc<Jwk>>, NotNow> {
        if let Some(key) = lock(&self.known).get(&account) {
            return Ok(Some(Arc::clone(key)));
        }
        let index = self.core.log.index();
        let Some(leaf) = index.account(account).map_err(|e| self.core.lost_index(&e))? else {
            return Ok(None);
        };
        let record = self.core.log.read(leaf).map_err(|e| self.core.lost_index(&e))?;
        let key = match record {
            Record::AccountRegisteredV1(r) if r.account == account => Jwk::parse(r.jwk.as_bytes()),
            _ => {
                return Err(self
                    .core
                    .lost_index(&format!("leaf {leaf} is no registration of {account}")));
            }
        };
        let key = Arc::new(key.map_err(|_| {
            self.core.lost_index(&format!("the account key at leaf {leaf} does not parse"))
        })?);
        let mut known = lock(&self.known);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(account, Arc::clone(&key));
        Ok(Some(key))
    }

    /// Whether a key belongs to an account (RFC 8555 section 11.1: such a key is not certified).
    pub(super) fn is_account_key(&self, key: &PublicKey) -> Result<bool, NotNow> {
        let Some(jwk) = Jwk::from_public_key(key.clone()) else {
            return Ok(false);
        };
        let thumbprint = jwk.thumbprint().0;
        if lock(&self.under_way).contains_key(&thumbprint) {
            return Ok(true);
        }
        let found = self.core.log.index().account_by_key(thumbprint);
        Ok(found.map_err(|e| self.core.lost_index(&e))?.is_some())
    }

    fn verify(&self, body: &[u8]) -> Result<(Jwk, bool), Refusal> {
        let refused = |problem| Refusal::Refused(problem);
        let jws = Jws::parse(body).map_err(|e| refused(e.into()))?;
        let KeyRef::Jwk(jwk) = jws.key() else {
            return Err(refused(Problem::malformed("newAccount needs jwk, not kid")));
        };
        if jws.url() != self.core.urls.url(Resource::NewAccount) {
            return Err(refused(Problem::new(
                ProblemType::Unauthorized,
                "url is not the newAccount URL of this server",
            )));
        }
        let payload = match jws.verify(jwk).map_err(|e| refused(e.into()))? {
            Payload::Json(payload) => payload,
            Payload::PostAsGet => {
                return Err(refused(Problem::malformed("newAccount needs a payload")));
            }
        };
        let request = NewAccount::parse(&payload).map_err(refused)?;
        if self.core.own_keys.iter().any(|own| own == jwk.public_key().spki()) {
            return Err(refused(Problem::new(
                ProblemType::BadPublicKey,
                "this key belongs to the certificate authority",
            )));
        }
        Ok(((**jwk).clone(), request.only_return_existing))
    }

    fn within_rate(&self) -> Result<(), Refusal> {
        let Err(wait) = self.rate.take((), self.core.rule.clock().monotonic()) else {
            return Ok(());
        };
        if self.refused_by_rate.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000) {
            tracing::warn!(
                limit = self.core.settings.registrations_per_hour,
                "CHY-REGISTRATIONS: more accounts than registrations-per-hour allows"
            );
        }
        Err(Refusal::Limited(
            Problem::new(
                ProblemType::RateLimited,
                "this server has registered all the accounts it may in an hour",
            ),
            u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        ))
    }
}

fn does_not_exist() -> Refusal {
    Refusal::Refused(Problem::new(ProblemType::AccountDoesNotExist, "no account has this key"))
}

/// Account keys kept in memory at most.
const KNOWN: usize = 4096;
