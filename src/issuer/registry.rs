//! Which accounts there are, with which keys, and which of them have ended: a view of the log.
//!
//! Whatever changes here comes as the client's own signed request, is verified here, and is a durable record
//! before it is answered. Contacts and agreements are the web process's own. Asked again, everything answers
//! the same: a web process that lost an answer asks again.

mod ending;
mod key_change;
mod standing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::core::{Core, NotNow, count, lock};
use super::tickets::{Reservation, Tickets};
use crate::acme::account::NewAccount;
use crate::acme::directory::Resource;
use crate::acme::jws::{Jwk, Jws, KeyRef, Payload};
use crate::acme::problem::{Problem, ProblemType};
use crate::acme::ticket::Binding;
use crate::env::random_16;
use crate::id::{AccountId, LeafIndex, Timestamp};
use crate::ipc::{Answer, Refusal, Reply};
use crate::log::Release;
use crate::log::record::{AccountRegisteredV2, Record};
use crate::pki::key::PublicKey;

pub(super) struct Registry {
    core: Arc<Core>,
    pub(super) tickets: Arc<Tickets>,
    under_way: Mutex<UnderWay>,
    known: Mutex<Cache>,
}

/// What is on its way into the log. What is not on its way any more is in the index.
#[derive(Default)]
struct UnderWay {
    /// Keys being registered, with all who asked for it.
    registering: HashMap<[u8; 32], Vec<Reply>>,
    /// Accounts that are changing, and the key that they will have.
    changing: HashMap<AccountId, Option<[u8; 32]>>,
}

impl UnderWay {
    /// Whether a key change will give somebody this key.
    fn takes(&self, thumbprint: [u8; 32]) -> bool {
        self.changing.values().any(|key| *key == Some(thumbprint))
    }
}

/// Accounts read from the log lately.
#[derive(Default)]
struct Cache {
    accounts: HashMap<AccountId, Arc<Known>>,
    /// Grows with every key change: what was read before one is not to be remembered after it.
    changes: u64,
}

/// An account as the log has it; whether it has ended is for the index to say.
pub(super) struct Known {
    pub(super) key: Arc<Jwk>,
    /// What it registered with.
    pub(super) ticket: Option<String>,
    pub(super) registered: Timestamp,
    pub(super) key_changed: Option<Timestamp>,
}

/// A newAccount request that is its key's own.
struct Asked {
    key: Jwk,
    request: NewAccount,
}

impl Registry {
    pub(super) fn new(core: Arc<Core>, tickets: Arc<Tickets>) -> Self {
        Self { core, tickets, under_way: Mutex::default(), known: Mutex::default() }
    }

    /// Answers `Question::Register`.
    pub(super) fn register(self: &Arc<Self>, jws: &[u8], reply: Reply) {
        let asked = match self.verify(jws) {
            Ok(asked) => asked,
            Err(refusal) => return reply(Err(refusal)),
        };
        let thumbprint = asked.key.thumbprint().0;
        let only_existing = asked.request.only_return_existing;
        let mut under_way = lock(&self.under_way);
        if let Some(waiting) = under_way.registering.get_mut(&thumbprint) {
            if only_existing {
                // It does not exist yet; whoever registers it now will be told so.
                drop(under_way);
                return reply(Err(does_not_exist()));
            }
            waiting.push(reply);
            return;
        }
        // Under the lock: what is not under way any more is in the index.
        let decided = if under_way.takes(thumbprint) {
            Err(Refusal::Retry(200))
        } else {
            match self.holder(thumbprint) {
                Ok(Some(account)) => self.existing(account).map(Err),
                Ok(None) if only_existing => Err(does_not_exist()),
                Ok(None) => self.admit(&asked).map(Ok),
                Err(refusal) => Err(refusal),
            }
        };
        let (at, reservation) = match decided {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(answer)) => {
                drop(under_way);
                return reply(Ok(answer));
            }
            Err(refusal) => {
                drop(under_way);
                return reply(Err(refusal));
            }
        };
        under_way.registering.insert(thumbprint, vec![reply]);
        drop(under_way);

        let account = AccountId(random_16(&*self.core.rng));
        let jwk = asked.key.canonical_json().to_owned();
        let ticket = reservation.as_ref().map(|reserved| reserved.ticket().to_owned());
        let bound = ticket.is_some();
        let record = AccountRegisteredV2 { at, account, jwk, ticket };
        let registry = Arc::clone(self);
        self.core.append(Record::AccountRegisteredV2(record), Release::Durable, move |result| {
            match &result {
                Ok(appended) => {
                    count(&registry.core.counters.registered);
                    let ticket = reservation.as_ref().map(|reserved| reserved.ticket());
                    tracing::info!(%account, leaf = appended.leaf.0, ticket, "account registered");
                    if let Some(reserved) = reservation {
                        reserved.spent();
                    }
                }
                Err(_) => {
                    registry.core.caps.unregistered();
                    drop(reservation);
                }
            }
            let waiting = lock(&registry.under_way).registering.remove(&thumbprint);
            for (n, reply) in waiting.unwrap_or_default().into_iter().enumerate() {
                reply(match &result {
                    Ok(_) => Ok(Answer::Account { account, existing: n > 0, bound }),
                    Err(why) => Err(why.clone().into()),
                });
            }
        });
    }

    /// The key of a registered account, ended or not.
    pub(super) fn key(&self, account: AccountId) -> Result<Option<Arc<Jwk>>, NotNow> {
        Ok(self.known(account)?.map(|known| Arc::clone(&known.key)))
    }

    /// A registered account, ended or not.
    pub(super) fn known(&self, account: AccountId) -> Result<Option<Arc<Known>>, NotNow> {
        let changes = {
            let cache = lock(&self.known);
            if let Some(known) = cache.accounts.get(&account) {
                return Ok(Some(Arc::clone(known)));
            }
            cache.changes
        };
        let lost = |why: String| self.core.lost_index(&why);
        let index = self.core.log.index();
        let Some(leaf) = index.account(account).map_err(lost)? else {
            return Ok(None);
        };
        let record = self.core.log.read(leaf).map_err(lost)?;
        let (registered, ticket, mut jwk) = match record {
            Record::AccountRegisteredV1(r) if r.account == account => (r.at, None, r.jwk),
            Record::AccountRegisteredV2(r) if r.account == account => (r.at, r.ticket, r.jwk),
            _ => return Err(lost(format!("leaf {leaf} is no registration of {account}"))),
        };
        let mut key_changed = None;
        if let Some(leaf) = index.key_change(account).map_err(lost)? {
            match self.core.log.read(leaf).map_err(lost)? {
                Record::KeyChangedV1(r) if r.account == account => {
                    jwk = r.jwk;
                    key_changed = Some(r.at);
                }
                _ => return Err(lost(format!("leaf {leaf} is no key change of {account}"))),
            }
        }
        let key = Jwk::parse(jwk.as_bytes())
            .map_err(|_| lost(format!("the key of account {account} does not parse")))?;
        let known = Arc::new(Known { key: Arc::new(key), ticket, registered, key_changed });
        let mut cache = lock(&self.known);
        if cache.accounts.len() >= KNOWN {
            cache.accounts.clear();
        }
        if cache.changes == changes {
            cache.accounts.insert(account, Arc::clone(&known));
        }
        Ok(Some(known))
    }

    /// 401 `unauthorized` for an account that has ended (RFC 8555 section 7.3.6).
    pub(super) fn check_active(&self, account: AccountId) -> Result<(), Refusal> {
        let ended = self.core.log.index().deactivated(account);
        match ended.map_err(|why| self.core.lost_index(&why))? {
            None => Ok(()),
            Some(_) => Err(Refusal::Refused(ended_problem())),
        }
    }

    /// Whether a key is or was an account's (RFC 8555 section 11.1: such a key is not certified).
    pub(super) fn is_account_key(&self, key: &PublicKey) -> Result<bool, NotNow> {
        let Some(jwk) = Jwk::from_public_key(key.clone()) else {
            return Ok(false);
        };
        let thumbprint = jwk.thumbprint().0;
        {
            let under_way = lock(&self.under_way);
            if under_way.registering.contains_key(&thumbprint) || under_way.takes(thumbprint) {
                return Ok(true);
            }
        }
        self.was_a_key(thumbprint)
    }

    /// Whether a key was an account's, or is.
    fn was_a_key(&self, thumbprint: [u8; 32]) -> Result<bool, NotNow> {
        let found = self.core.log.index().key_holder(thumbprint);
        Ok(found.map_err(|e| self.core.lost_index(&e))?.is_some())
    }

    /// The account that has a key now.
    fn holder(&self, thumbprint: [u8; 32]) -> Result<Option<AccountId>, Refusal> {
        let found = self.core.log.index().account_by_key(thumbprint);
        Ok(found.map_err(|why| self.core.lost_index(&why))?)
    }

    fn existing(&self, account: AccountId) -> Result<Answer, Refusal> {
        self.check_active(account)?;
        let bound = self.known(account)?.is_some_and(|known| known.ticket.is_some());
        Ok(Answer::Account { account, existing: true, bound })
    }

    /// May there be one account more, and by which ticket?
    fn admit(&self, asked: &Asked) -> Result<(Timestamp, Option<Reservation>), Refusal> {
        let now = self.core.now()?;
        let reservation = match &asked.request.external_account_binding {
            Some(binding) => {
                let binding =
                    Binding::parse(binding.as_bytes()).map_err(|e| Refusal::Refused(e.into()))?;
                let url = self.core.urls.url(Resource::NewAccount);
                // A registration that was kept would spend another use once its key is changed.
                if self.was_a_key(asked.key.thumbprint().0)? {
                    return Err(given_up());
                }
                Some(self.tickets.reserve(&binding, &url, &asked.key, now)?)
            }
            None if self.core.settings.external_account_required => {
                return Err(Refusal::Refused(Problem::new(
                    ProblemType::ExternalAccountRequired,
                    "this server registers accounts by enrolment ticket only; ask its operator for one",
                )));
            }
            None => None,
        };
        self.core.caps.registration(self.core.rule.clock().monotonic())?;
        Ok((now, reservation))
    }

    fn verify(&self, body: &[u8]) -> Result<Asked, Refusal> {
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
        self.foreign_key(jwk)?;
        Ok(Asked { key: (**jwk).clone(), request })
    }

    /// No account has a key of the CA's own, nor one that was compromised.
    fn foreign_key(&self, key: &Jwk) -> Result<(), Refusal> {
        let detail = if self.core.own_keys.iter().any(|own| own == key.public_key().spki()) {
            "this key belongs to the certificate authority"
        } else if self.core.is_compromised(key.public_key())? {
            "this key was revoked as compromised; make another"
        } else {
            return Ok(());
        };
        Err(Refusal::Refused(Problem::new(ProblemType::BadPublicKey, detail)))
    }

    /// A request that an account signed with its present key, for this resource.
    fn signed(
        &self,
        jws: &Jws,
        expected: impl Fn(AccountId) -> Resource,
    ) -> Result<Signed, Refusal> {
        let unauthorized =
            |why: &str| Refusal::Refused(Problem::new(ProblemType::Unauthorized, why));
        let KeyRef::Kid(kid) = jws.key() else {
            return Err(Refusal::Refused(Problem::malformed("this request needs kid, not jwk")));
        };
        let urls = &self.core.urls;
        let Some(Resource::Account(account)) = urls.parse(kid) else {
            return Err(unauthorized("kid is not an account URL of this server"));
        };
        if jws.url() != urls.url(expected(account)) {
            return Err(unauthorized("url is not the URL of this request"));
        }
        let Some(known) = self.known(account)? else {
            return Err(does_not_exist());
        };
        match jws.verify(&known.key).map_err(|e| Refusal::Refused(e.into()))? {
            Payload::Json(payload) => Ok(Signed { account, known, payload }),
            Payload::PostAsGet => {
                Err(Refusal::Refused(Problem::malformed("this request needs a payload")))
            }
        }
    }

    /// Takes the right to change an account; `Retry` while someone has it.
    fn claim(
        self: &Arc<Self>,
        account: AccountId,
        key: Option<[u8; 32]>,
    ) -> Result<Claim, Refusal> {
        let mut under_way = lock(&self.under_way);
        let taken =
            key.is_some_and(|key| under_way.registering.contains_key(&key) || under_way.takes(key));
        if taken || under_way.changing.contains_key(&account) {
            return Err(Refusal::Retry(200));
        }
        under_way.changing.insert(account, key);
        Ok(Claim { registry: Arc::clone(self), account })
    }

    /// The account's key has changed.
    fn forget(&self, account: AccountId) {
        let mut cache = lock(&self.known);
        cache.changes += 1;
        cache.accounts.remove(&account);
    }
}

/// A verified request of an account.
struct Signed {
    account: AccountId,
    known: Arc<Known>,
    payload: Vec<u8>,
}

/// While it lives, nobody else changes the account.
struct Claim {
    registry: Arc<Registry>,
    account: AccountId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.registry.under_way).changing.remove(&self.account);
    }
}

fn does_not_exist() -> Refusal {
    Refusal::Refused(Problem::new(ProblemType::AccountDoesNotExist, "no account has this key"))
}

fn given_up() -> Refusal {
    let detail = "this key was an account's before and was given up; make another";
    Refusal::Refused(Problem::new(ProblemType::BadPublicKey, detail))
}

fn ended_problem() -> Problem {
    Problem::new(ProblemType::Unauthorized, "this account is deactivated").with_status(401)
}

/// Says where in the log it happened.
fn said(what: &str, account: AccountId, leaf: LeafIndex) {
    tracing::info!(%account, leaf = leaf.0, "{what}");
}

/// Accounts kept in memory at most.
const KNOWN: usize = 4096;
