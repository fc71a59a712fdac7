//! Who may revoke a certificate, and the record that says so (RFC 8555 section 7.6).
//!
//! Three routes, all from a request that its sender signed: the account it was issued to, another account that
//! controls every identifier now, the holder of the certificate's key. And the operator. The second rests on
//! what the web process says was validated, so it is bounded over all accounts together, and names that are bound to a
//! ticket are left out of it: whoever took over the web process can make accounts, but not revoke a plant.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, NotNow, count, lock};
use super::refusals::Refusals;
use super::registry::Registry;
use crate::acme::directory::Resource;
use crate::acme::jws::{Jws, KeyRef, Payload};
use crate::acme::limit::Hourly;
use crate::acme::problem::{Problem, ProblemType};
use crate::acme::revocation::{KEY_COMPROMISE, RevokeCert};
use crate::id::{AccountId, LeafIndex, Serial};
use crate::ipc::message::{Revoke, Validation};
use crate::ipc::{Answer, Refusal, Reply};
use crate::log::Release;
use crate::log::index::{Issuance, TbsFacts};
use crate::log::record::{Actor, IntentV1, Record, Requester, RevokedV1, ValidationV1};
use crate::log::tree::sha256;
use crate::pki::certificate::Certificate;
use crate::pki::key::PublicKey;
use crate::pki::name::Identifier;

/// What the log's index is told of a TBSCertificate.
pub fn read_tbs(tbs: &[u8]) -> Option<TbsFacts> {
    let certificate = Certificate::of_tbs(tbs).ok()?;
    let (not_before, not_after) = certificate.validity();
    Some(TbsFacts {
        names: certificate.identifiers().iter().map(|identifier| identifier.value()).collect(),
        not_before,
        not_after,
        crl: certificate.crl_url().map(str::to_owned),
    })
}

pub(super) struct Revoker {
    core: Arc<Core>,
    registry: Arc<Registry>,
    refusals: Arc<Refusals>,
    /// By account, of its own certificates.
    own: Hourly<AccountId>,
    /// Of others' certificates, over all accounts.
    others: Hourly<()>,
    /// Serials whose record is on its way.
    under_way: Mutex<HashSet<Serial>>,
}

/// What a request says and its sender signed.
struct Signed {
    signer: Signer,
    request: RevokeCert,
    jws_sha256: [u8; 32],
}

enum Signer {
    Account(AccountId),
    /// The holder of this key, whosever it is.
    Key(PublicKey),
}

/// A certificate of this CA, as the log has it.
pub(super) struct Known {
    pub(super) serial: Serial,
    pub(super) leaf: LeafIndex,
    pub(super) intent: IntentV1,
    pub(super) certificate: Certificate,
}

/// On whose word, and what is claimed besides.
struct Word {
    by: Actor,
    validations: Vec<ValidationV1>,
}

impl Revoker {
    pub(super) fn new(core: Arc<Core>, registry: Arc<Registry>, refusals: Arc<Refusals>) -> Self {
        let own = Hourly::new(core.settings.revocations_per_account_per_hour);
        let others = Hourly::new(core.settings.revocations_of_others_per_hour);
        Self { core, registry, refusals, own, others, under_way: Mutex::default() }
    }

    /// Answers `Question::Revoke`. Runs on a worker's thread.
    pub(super) fn revoke(self: &Arc<Self>, question: &Revoke, reply: Reply) {
        let (signer, payload) = match self.verify(&question.jws) {
            Ok(verified) => verified,
            Err(refusal) => return self.refusals.watch(REVOKE, None, reply)(Err(refusal)),
        };
        let account = match signer {
            Signer::Account(account) => Some(account),
            Signer::Key(_) => None,
        };
        let reply = self.refusals.watch(REVOKE, account, reply);
        let signed = match RevokeCert::parse(&payload) {
            Ok(request) => Signed { signer, request, jws_sha256: sha256(&question.jws) },
            Err(problem) => return reply(Err(Refusal::Refused(problem))),
        };
        match self.judge(&signed, &question.validations) {
            Err(refusal) => reply(Err(refusal)),
            Ok((known, word)) => self.record(&known, signed.request.reason, word, |result| {
                reply(result.map(|()| Answer::Revoked));
            }),
        }
    }

    /// Who asks, and the payload: from the signed bytes alone.
    fn verify(&self, body: &[u8]) -> Result<(Signer, Vec<u8>), Refusal> {
        let refused = Refusal::Refused;
        let jws = Jws::parse(body).map_err(|e| refused(e.into()))?;
        if jws.url() != self.core.urls.url(Resource::RevokeCert) {
            return Err(refused(unauthorized("url is not the revokeCert URL of this server")));
        }
        let (signer, payload) = match jws.key() {
            KeyRef::Jwk(jwk) => (Signer::Key(jwk.public_key().clone()), jws.verify(jwk)),
            KeyRef::Kid(kid) => {
                let Some(Resource::Account(account)) = self.core.urls.parse(kid) else {
                    return Err(refused(unauthorized("kid is not an account URL of this server")));
                };
                let Some(key) = self.registry.key(account)? else {
                    return Err(refused(Problem::new(
                        ProblemType::AccountDoesNotExist,
                        "there is no such account",
                    )));
                };
                self.registry.check_active(account)?;
                (Signer::Account(account), jws.verify(&key))
            }
        };
        match payload.map_err(|e| refused(e.into()))? {
            Payload::Json(payload) => Ok((signer, payload)),
            Payload::PostAsGet => Err(refused(Problem::malformed("revokeCert needs a payload"))),
        }
    }

    /// Whether who asks may, and whether there is anything left to do.
    fn judge(&self, signed: &Signed, claimed: &[Validation]) -> Result<(Known, Word), Refusal> {
        let known = self.issued(&signed.request.certificate)?;
        let jws_sha256 = signed.jws_sha256;
        let word = match &signed.signer {
            Signer::Account(account) => self.word_of(*account, &known, claimed, jws_sha256)?,
            Signer::Key(key) if key == known.certificate.public_key() => {
                Word { by: Actor::Key { jws_sha256 }, validations: Vec::new() }
            }
            Signer::Key(_) => {
                return Err(Refusal::Refused(unauthorized(
                    "jwk is not the certificate's key; an account signs with kid",
                )));
            }
        };
        // Only now: whether it is revoked is no stranger's to learn here.
        self.not_yet(known.serial)?;
        self.within_caps(&known, &word)?;
        Ok((known, word))
    }

    /// The certificate, if it is one that this CA issued, byte for byte.
    fn issued(&self, presented: &Certificate) -> Result<Known, Refusal> {
        let known = match presented.serial() {
            Some(serial) => self.known(serial)?,
            None => None,
        };
        known.filter(|known| known.certificate == *presented).ok_or_else(|| {
            Refusal::Refused(
                Problem::malformed("this certificate was not issued here").with_status(404),
            )
        })
    }

    /// The certificate of a serial, if one was issued.
    pub(super) fn known(&self, serial: Serial) -> Result<Option<Known>, NotNow> {
        let core = &self.core;
        let found = core.log.index().by_serial(serial).map_err(|e| core.lost_index(&e))?;
        let Some(Issuance::Issued { intent: leaf, issued, .. }) = found else { return Ok(None) };
        // On its way; or it was released, and the checkpoint that covered it was lost with the machine and is signed anew.
        if core.covered() <= issued.0 {
            return Err(NotNow::Wait(UNCOVERED));
        }
        let intent = core.intent(leaf)?;
        let certificate = core.certificate(&intent, &core.issued(issued)?)?;
        Ok(Some(Known { serial, leaf, intent, certificate }))
    }

    /// The account it was issued to, or one that is said to control every identifier now.
    fn word_of(
        &self,
        account: AccountId,
        known: &Known,
        claimed: &[Validation],
        jws_sha256: [u8; 32],
    ) -> Result<Word, Refusal> {
        let by = Actor::Account { account, jws_sha256 };
        if is_of(&known.intent, account) {
            return Ok(Word { by, validations: Vec::new() });
        }
        let identifiers = known.certificate.identifiers();
        let proof = |identifier: &Identifier| {
            claimed.iter().find(|claim| claim.identifier == identifier.base())
        };
        let proofs: Option<Vec<&Validation>> = identifiers.iter().map(proof).collect();
        match proofs {
            // The box's own certificate is nobody's but the operator's, and a name that a ticket holds is no other
            // account's, whatever is said to be proven.
            Some(proofs)
                if !proofs.is_empty()
                    && known.intent.requester != Requester::Own
                    && self.may_have(account, &identifiers)? =>
            {
                let recorded = |claim: &&Validation| ValidationV1 {
                    identifier: claim.identifier.value(),
                    method: claim.method.name().into(),
                    at: claim.at,
                };
                Ok(Word { by, validations: proofs.iter().map(recorded).collect() })
            }
            _ => Err(Refusal::Refused(unauthorized(
                "this account did not get the certificate and is not authorized for all of its identifiers",
            ))),
        }
    }

    /// Whether tickets let an account have these names.
    fn may_have(&self, account: AccountId, identifiers: &[Identifier]) -> Result<bool, Refusal> {
        let ticket = self.registry.known(account)?.and_then(|known| known.ticket.clone());
        let now = self.core.now()?;
        match self.registry.tickets.permits(ticket.as_deref(), identifiers, None, now) {
            Ok(_) => Ok(true),
            Err(Refusal::Refused(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn not_yet(&self, serial: Serial) -> Result<(), Refusal> {
        let core = &self.core;
        match core.log.index().revocation(serial).map_err(|e| core.lost_index(&e))? {
            None => Ok(()),
            Some(revocation) => Err(Refusal::Refused(Problem::new(
                ProblemType::AlreadyRevoked,
                format!("this certificate was revoked at {}", revocation.at),
            ))),
        }
    }

    fn within_caps(&self, known: &Known, word: &Word) -> Result<(), Refusal> {
        let monotonic = self.core.rule.clock().monotonic();
        let (taken, what) = match &word.by {
            Actor::Account { account, .. } if word.validations.is_empty() => {
                (self.own.take(*account, monotonic), "this account has")
            }
            Actor::Account { .. } => (self.others.take((), monotonic), "accounts have"),
            Actor::Key { .. } | Actor::Operator { .. } => return Ok(()),
        };
        taken.map_err(|wait| {
            tracing::warn!(serial = %known.serial, by = ?word.by, "CHY-REVOCATIONS: more revocations than an hour may have");
            Refusal::Limited(
                Problem::new(
                    ProblemType::RateLimited,
                    format!("{what} revoked all the certificates that may be revoked this way in an hour; the operator can revoke more"),
                ),
                u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            )
        })
    }

    /// Has an operator's word recorded, and waits until it is durable. `Ok(false)`: it was revoked before.
    pub(super) fn revoke_for(
        self: &Arc<Self>,
        known: &Known,
        reason: Option<u8>,
        by: Actor,
    ) -> Result<bool, Refusal> {
        let core = &self.core;
        let before = core.log.index().revocation(known.serial).map_err(|e| core.lost_index(&e))?;
        if before.is_some() {
            return Ok(false);
        }
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.record(known, reason, Word { by, validations: Vec::new() }, move |result| {
            drop(tell.send(result));
        });
        told.recv().unwrap_or(Err(Refusal::Retry(1000)))?;
        Ok(true)
    }

    /// The record, once; `then` is called when it is durable. The CRL is made by whoever tends it.
    fn record(
        self: &Arc<Self>,
        known: &Known,
        reason: Option<u8>,
        word: Word,
        then: impl FnOnce(Result<(), Refusal>) + Send + 'static,
    ) {
        let serial = known.serial;
        let at = match self.core.now() {
            Ok(now) => now,
            Err(why) => return then(Err(why.into())),
        };
        if !lock(&self.under_way).insert(serial) {
            return then(Err(Refusal::Retry(250)));
        }
        // What was recorded meanwhile is in the index before it leaves the set.
        if let Err(refusal) = self.not_yet(serial) {
            lock(&self.under_way).remove(&serial);
            return then(Err(refusal));
        }
        // An account's word alone proves nothing about a key; its holder's and the operator's do.
        let compromised =
            reason == Some(KEY_COMPROMISE) && !matches!(word.by, Actor::Account { .. });
        let record = RevokedV1 {
            at,
            serial,
            intent: known.leaf,
            reason,
            by: word.by,
            validations: word.validations,
            crl: known.certificate.crl_url().map(str::to_owned),
            not_after: known.certificate.validity().1,
            blocked_key: compromised.then(|| known.certificate.public_key().spki_sha256()),
        };
        let by = record.by.clone();
        let revoker = Arc::clone(self);
        self.core.append(Record::RevokedV1(record), Release::Durable, move |result| {
            lock(&revoker.under_way).remove(&serial);
            then(match result {
                Ok(appended) => {
                    count(&revoker.core.counters.revoked);
                    tracing::info!(%serial, leaf = appended.leaf.0, ?reason, ?by, "revoked");
                    Ok(())
                }
                Err(why) => Err(why.into()),
            });
        });
    }
}

/// A checkpoint is signed within a tenth of a second.
const UNCOVERED: Duration = Duration::from_millis(250);

/// What is refused here, as it is counted.
pub(super) const REVOKE: &str = "revoke";

/// Whether an intent was for an account's order.
fn is_of(intent: &IntentV1, account: AccountId) -> bool {
    matches!(intent.requester, Requester::Order { account: of, .. } if of == account)
}

fn unauthorized(why: &str) -> Problem {
    Problem::new(ProblemType::Unauthorized, why)
}
