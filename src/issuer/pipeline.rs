//! Rehearse, intend, sign, verify, record, release: one certificate, in the order of the design.
//!
//! Everything that decides is taken from what the account signed: the account from `kid`, the order
//! from `url`, names and key from the CSR in the payload. No thread waits for disk or token: each step
//! hands the next to whoever finishes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::core::{Core, NotNow, count, lock};
use super::issuers::Issuer;
use super::refusals::Refusals;
use super::registry::Registry;
use crate::acme::directory::Resource;
use crate::acme::jws::{Jws, KeyRef, Payload};
use crate::acme::order::Order;
use crate::acme::problem::{Problem, ProblemType, Subproblem};
use crate::env::random_16;
use crate::hsm::{Class, Request};
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::ipc::message::{Finalize, Validation};
use crate::ipc::{Answer, Refusal, Reply};
use crate::log::Release;
use crate::log::index::Issuance;
use crate::log::record::{AbandonedV1, IntentV1, IssuedV1, Record, Requester, ValidationV1};
use crate::log::tree::sha256;
use crate::pki::certificate::Certificate;
use crate::pki::csr::Csr;
use crate::pki::name::Identifier;
use crate::pki::profile::Profile;
use crate::pki::rehearse::{self, Leaf, RehearsalError, Tbs};

pub(super) struct Pipeline {
    core: Arc<Core>,
    registry: Arc<Registry>,
    refusals: Arc<Refusals>,
    under_way: Mutex<HashMap<OrderId, UnderWay>>,
}

/// An order being worked on, and everyone who asked for it.
struct UnderWay {
    account: AccountId,
    waiting: Vec<Reply>,
}

/// What a finalize request says and its account signed.
struct Signed {
    account: AccountId,
    order: OrderId,
    csr: Csr,
    jws_sha256: [u8; 32],
}

/// What a finalize request comes to.
struct Rehearsed<'a> {
    profile: &'a Profile,
    issuer: Arc<Issuer>,
    tbs: Tbs,
    now: Timestamp,
}

/// The right to work on an order. While it lives nobody else has it; dropped without an answer, it tells
/// everyone to ask again.
struct Claim {
    pipeline: Arc<Pipeline>,
    order: OrderId,
    account: AccountId,
    open: bool,
}

impl Claim {
    fn answer(mut self, result: Result<Answer, Refusal>) {
        self.close(result);
    }

    fn close(&mut self, result: Result<Answer, Refusal>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let counters = &self.pipeline.core.counters;
        match &result {
            Ok(_) => {}
            Err(Refusal::Retry(_)) => count(&counters.retried),
            // Counted where they are watched.
            Err(Refusal::Refused(_) | Refusal::Limited(..)) => {}
        }
        let entry = lock(&self.pipeline.under_way).remove(&self.order);
        for reply in entry.map(|e| e.waiting).unwrap_or_default() {
            reply(result.clone());
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.close(Err(Refusal::Retry(1000)));
    }
}

impl Pipeline {
    pub(super) fn new(core: Arc<Core>, registry: Arc<Registry>, refusals: Arc<Refusals>) -> Self {
        Self { core, registry, refusals, under_way: Mutex::new(HashMap::new()) }
    }

    /// Answers `Question::Finalize`. Runs on a worker's thread.
    pub(super) fn finalize(self: &Arc<Self>, finalize: &Finalize, reply: Reply) {
        let (account, order, payload) = match self.verify(finalize) {
            Ok(verified) => verified,
            Err(refusal) => return self.refusals.watch(FINALIZE, None, reply)(Err(refusal)),
        };
        let reply = self.refusals.watch(FINALIZE, Some(account), reply);
        let signed = match Order::parse_finalize(&payload) {
            Ok(csr) => Signed { account, order, csr, jws_sha256: sha256(&finalize.jws) },
            Err(problem) => return reply(Err(Refusal::Refused(problem))),
        };
        let Some(claim) = self.claim(&signed, reply) else {
            return;
        };
        let before = self.core.log.index().by_order(signed.order);
        let result = match before {
            Err(why) => Err(self.core.lost_index(&why).into()),
            Ok(None) => return self.issue(finalize, &signed, claim),
            Ok(Some(Issuance::Issued { intent, issued, serial })) => {
                self.again(&signed, intent, issued, serial)
            }
            Ok(Some(Issuance::Intended { intent, serial })) => {
                match self.reopen(&signed, intent, serial) {
                    Ok((issuer, record)) => {
                        return self.sign(issuer, intent, serial, record.tbs, claim);
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Ok(Some(Issuance::Abandoned { intent, .. })) => {
                self.owned(&signed, intent).and_then(|_| Err(abandoned()))
            }
        };
        claim.answer(result);
    }

    /// Whose request this is, for which order, and its payload: from the signed bytes alone.
    fn verify(&self, finalize: &Finalize) -> Result<(AccountId, OrderId, Vec<u8>), Refusal> {
        let jws = Jws::parse(&finalize.jws).map_err(|e| Refusal::Refused(e.into()))?;
        let urls = &self.core.urls;
        let unauthorized =
            |why: &str| Refusal::Refused(Problem::new(ProblemType::Unauthorized, why));
        let KeyRef::Kid(kid) = jws.key() else {
            return Err(Refusal::Refused(Problem::malformed("finalize needs kid, not jwk")));
        };
        let Some(Resource::Account(account)) = urls.parse(kid) else {
            return Err(unauthorized("kid is not an account URL of this server"));
        };
        let Some(Resource::Finalize(order)) = urls.parse(jws.url()) else {
            return Err(unauthorized("url is not the finalize URL of an order"));
        };
        if (order, account) != (finalize.order, finalize.account) {
            tracing::warn!(%order, %account, "a finalize request was passed on for another order or account");
            return Err(unauthorized("the request is for another order"));
        }
        let Some(key) = self.registry.key(account)? else {
            return Err(Refusal::Refused(Problem::new(
                ProblemType::AccountDoesNotExist,
                "there is no such account",
            )));
        };
        let jws_sha256 = sha256(&finalize.jws);
        let payload = match jws.verify(&key) {
            Ok(payload) => payload,
            // The account's key has changed since.
            Err(_) if self.was_intended(order, account, jws_sha256)? => {
                jws.verified_before().clone()
            }
            Err(why) => return Err(Refusal::Refused(why.into())),
        };
        let Payload::Json(payload) = payload else {
            return Err(Refusal::Refused(Problem::malformed("finalize needs a payload")));
        };
        Ok((account, order, payload))
    }

    /// Whether an intent was made of this very request.
    fn was_intended(
        &self,
        order: OrderId,
        account: AccountId,
        jws_sha256: [u8; 32],
    ) -> Result<bool, Refusal> {
        let issuance = self.core.log.index().by_order(order);
        let intent = match issuance.map_err(|why| self.core.lost_index(&why))? {
            None => return Ok(false),
            Some(
                Issuance::Intended { intent, .. }
                | Issuance::Issued { intent, .. }
                | Issuance::Abandoned { intent, .. },
            ) => self.core.intent(intent)?,
        };
        Ok(intent.requester == Requester::Order { order, account, jws_sha256 })
    }

    /// Takes the order, or queues behind whoever has it. `None` when the reply found its place.
    fn claim(self: &Arc<Self>, signed: &Signed, reply: Reply) -> Option<Claim> {
        let mut under_way = lock(&self.under_way);
        let full = under_way.len() >= self.core.settings.queue;
        let turned_away = match under_way.get_mut(&signed.order) {
            Some(entry) if entry.account == signed.account => {
                entry.waiting.push(reply);
                return None;
            }
            Some(_) => Refusal::Refused(foreign()),
            None if full => self.core.busy(Class::Certificate).into(),
            None => {
                let entry = UnderWay { account: signed.account, waiting: vec![reply] };
                under_way.insert(signed.order, entry);
                let pipeline = Arc::clone(self);
                let (order, account) = (signed.order, signed.account);
                return Some(Claim { pipeline, order, account, open: true });
            }
        };
        drop(under_way);
        reply(Err(turned_away));
        None
    }

    /// The first time: judge, rehearse, intend.
    fn issue(self: &Arc<Self>, finalize: &Finalize, signed: &Signed, claim: Claim) {
        let Rehearsed { profile, issuer, tbs, now } = match self.rehearse(finalize, signed) {
            Ok(rehearsed) => rehearsed,
            Err(refusal) => return claim.answer(Err(refusal)),
        };
        let serial = tbs.serial();
        let (order, account) = (signed.order, signed.account);
        tracing::info!(
            %order, %account, %serial, profile = profile.name, issuer = issuer.name,
            validations = finalize.validations.len(),
            "intending"
        );
        let intent = IntentV1 {
            at: now,
            serial,
            requester: Requester::Order { order, account, jws_sha256: signed.jws_sha256 },
            profile: profile.name.clone(),
            issuer_sha256: issuer.sha256,
            tbs: tbs.der().to_vec(),
            validations: claims(finalize, &signed.csr),
        };
        let pipeline = Arc::clone(self);
        let tbs = tbs.der().to_vec();
        self.core.append(Record::IntentV1(intent), Release::Durable, move |result| match result {
            Ok(appended) => pipeline.sign(issuer, appended.leaf, serial, tbs, claim),
            Err(why) => claim.answer(Err(why.into())),
        });
    }

    fn rehearse(&self, finalize: &Finalize, signed: &Signed) -> Result<Rehearsed<'_>, Refusal> {
        let core = &self.core;
        let refused = |kind, why: &str| Refusal::Refused(Problem::new(kind, why));
        let profile =
            core.profiles.iter().find(|profile| profile.name == finalize.profile).ok_or_else(
                || refused(ProblemType::InvalidProfile, "there is no such profile any more"),
            )?;
        let csr = &signed.csr;
        if csr.identifiers().is_empty() {
            return Err(refused(ProblemType::BadCsr, "the CSR names nothing"));
        }
        if csr.identifiers().len() > profile.max_names {
            return Err(refused(ProblemType::BadCsr, "the CSR names more than the profile allows"));
        }
        if !profile.accepts(csr.key().kind()) {
            return Err(refused(
                ProblemType::BadCsr,
                "the profile does not accept this kind of key",
            ));
        }
        if core.own_keys.iter().any(|own| own == csr.key().spki())
            || self.registry.is_account_key(csr.key())?
        {
            return Err(refused(
                ProblemType::BadCsr,
                "this key is known for another purpose; make a key for the certificate alone",
            ));
        }
        self.registry.check_active(signed.account)?;
        if core.is_compromised(csr.key())? {
            return Err(refused(
                ProblemType::BadCsr,
                "this key was revoked as compromised; make another",
            ));
        }
        self.within(profile, csr)?;
        let now = core.now()?;
        let ticket = self.registry.known(signed.account)?.and_then(|known| known.ticket.clone());
        let tickets = &self.registry.tickets;
        tickets.permits(ticket.as_deref(), csr.identifiers(), Some(&profile.name), now)?;
        proven(profile, finalize, csr)?;
        let issuer = core.issuing(&profile.issuer)?;
        if core.is_forked() {
            return Err(Refusal::Retry(60_000));
        }
        core.caps.issuance(signed.account, core.rule.clock().monotonic())?;
        let identifiers: Vec<_> = csr.identifiers().iter().cloned().collect();
        let serial = Serial::from_random(random_16(&*core.rng));
        let leaf = Leaf {
            profile,
            identifiers: &identifiers,
            key: csr.key(),
            serial,
            now,
            not_before: finalize.not_before,
            not_after: finalize.not_after,
            issuer: &issuer.certificate,
            aia_url: &issuer.aia_url,
            crl_url: &core.crl_of(issuer, serial),
        };
        match rehearse::leaf(&leaf) {
            Ok(tbs) => Ok(Rehearsed { profile, issuer: Arc::clone(issuer), tbs, now }),
            Err(RehearsalError::Profile(why)) => Err(refused(ProblemType::BadCsr, &why)),
            // The dates were the order's: refused where they cannot be met, never altered (RFC 8555
            // section 7.4).
            Err(RehearsalError::Validity(why))
                if finalize.not_before.is_some() || finalize.not_after.is_some() =>
            {
                Err(refused(ProblemType::Malformed, &format!("{why}; place a new order")))
            }
            Err(RehearsalError::Validity(why)) => {
                tracing::error!(order = %signed.order, "CHY-VALIDITY: a certificate cannot be made: {why}");
                Err(refused(
                    ProblemType::ServerInternal,
                    "no certificate of this lifetime can be issued at present",
                ))
            }
            Err(RehearsalError::Lint(findings)) => {
                tracing::error!(order = %signed.order, ?findings, "CHY-LINT: a certificate was rehearsed that the lints refuse; please report it");
                Err(NotNow::Never.into())
            }
            Err(RehearsalError::Encoding(why)) => {
                tracing::error!(order = %signed.order, "CHY-LINT: a certificate cannot be written: {why}; please report it");
                Err(NotNow::Never.into())
            }
        }
    }

    /// Policy and profile permit every name.
    fn within(&self, profile: &Profile, csr: &Csr) -> Result<(), Refusal> {
        let refusal = |identifier: &Identifier| {
            let policy = self.core.policy.permits(identifier).err().map(|why| why.to_string());
            policy.or_else(|| profile.permits(identifier).err().map(|why| why.to_string()))
        };
        let rejected = |identifier: &Identifier| {
            refusal(identifier)
                .map(|why| Subproblem::of(ProblemType::RejectedIdentifier, why, identifier))
        };
        let parts: Vec<Subproblem> = csr.identifiers().iter().filter_map(rejected).collect();
        if parts.is_empty() { Ok(()) } else { Err(Refusal::Refused(Problem::compound(parts))) }
    }

    /// The intent is durable: the token may be asked. Whether somebody waits does not count: the order is `processing`
    /// and asks until it is answered, so that this signature is never in vain.
    fn sign(
        self: &Arc<Self>,
        issuer: Arc<Issuer>,
        intent: LeafIndex,
        serial: Serial,
        tbs: Vec<u8>,
        claim: Claim,
    ) {
        let key = match self.core.key_of(&issuer) {
            Ok(key) => key,
            Err(why) => return claim.answer(Err(why.into())),
        };
        let pipeline = Arc::clone(self);
        let request = Request::new(Class::Certificate, tbs.clone()).party(claim.account.0);
        let then = Box::new(move |result| match result {
            Ok(signature) => pipeline.record(&issuer, intent, serial, &tbs, signature, claim),
            Err(error) => claim.answer(Err(pipeline.core.unsigned(error).into())),
        });
        key.request(request, then);
    }

    /// The signature is there: verify, record, and release once a checkpoint covers it.
    fn record(
        self: &Arc<Self>,
        issuer: &Issuer,
        intent: LeafIndex,
        serial: Serial,
        tbs: &[u8],
        signature: Vec<u8>,
        claim: Claim,
    ) {
        let Some(certificate) = issuer.assemble(tbs, &signature) else {
            tracing::error!(order = %claim.order, %serial, "CHY-SIGNATURE: the token's signature does not verify under the issuing certificate; it was thrown away");
            return claim.answer(Err(Refusal::Retry(5000)));
        };
        // The record must not be older than the newest: the clock is read again.
        let at = match self.core.now() {
            Ok(at) => at,
            Err(why) => return claim.answer(Err(why.into())),
        };
        let algorithm = issuer.algorithm().identifier_der().to_vec();
        let record = Record::IssuedV1(IssuedV1 { at, intent, serial, algorithm, signature });
        let pipeline = Arc::clone(self);
        self.core.append(record, Release::Covered, move |result| match result {
            Ok(appended) => {
                count(&pipeline.core.counters.issued);
                tracing::info!(order = %claim.order, %serial, leaf = appended.leaf.0, "issued");
                claim.answer(Ok(answer(&certificate, serial, appended.leaf, at)));
            }
            Err(why) => claim.answer(Err(why.into())),
        });
    }

    /// The order has its certificate: the same again, if it may be shown already.
    fn again(
        &self,
        signed: &Signed,
        intent: LeafIndex,
        issued: LeafIndex,
        serial: Serial,
    ) -> Result<Answer, Refusal> {
        let intent = self.owned(signed, intent)?;
        if self.core.covered() <= issued.0 {
            return Err(Refusal::Retry(250));
        }
        let issued_record = self.core.issued(issued)?;
        let certificate = self.core.certificate(&intent, &issued_record)?;
        count(&self.core.counters.answered_again);
        tracing::info!(order = %signed.order, %serial, leaf = issued.0, "answered again");
        Ok(answer(&certificate, serial, issued, issued_record.at))
    }

    /// The order has an intent that was never signed, or whose signature was lost: the same bytes may be
    /// signed again, if they still may be signed at all.
    fn reopen(
        &self,
        signed: &Signed,
        leaf: LeafIndex,
        serial: Serial,
    ) -> Result<(Arc<Issuer>, IntentV1), Refusal> {
        let intent = self.owned(signed, leaf)?;
        let now = self.core.now()?;
        let reason = match self.core.still_permits(&intent, now) {
            Err(reason) => reason,
            Ok(issuer) => {
                tracing::info!(order = %signed.order, %serial, leaf = leaf.0, "signing again from the intent");
                return Ok((issuer, intent));
            }
        };
        tracing::warn!(order = %signed.order, %serial, reason, "abandoned");
        let record = AbandonedV1 { at: now, intent: leaf, serial, reason };
        self.core.append_wait(Record::AbandonedV1(record), Release::Durable)?;
        count(&self.core.counters.abandoned);
        Err(abandoned())
    }

    /// The intent at `leaf`, if it was made for this account.
    fn owned(&self, signed: &Signed, leaf: LeafIndex) -> Result<IntentV1, Refusal> {
        let intent = self.core.intent(leaf)?;
        match intent.requester {
            Requester::Order { order, account, .. }
                if (order, account) == (signed.order, signed.account) =>
            {
                Ok(intent)
            }
            _ => Err(Refusal::Refused(foreign())),
        }
    }
}

/// What it is called in records.
pub(super) const FINALIZE: &str = "finalize";

fn answer(certificate: &Certificate, serial: Serial, leaf: LeafIndex, at: Timestamp) -> Answer {
    Answer::Certificate { der: certificate.der().to_vec(), serial, leaf, at }
}

/// One answer for another's order and for none, so that it tells nothing.
fn foreign() -> Problem {
    Problem::new(ProblemType::Unauthorized, "this order does not belong to this account")
}

fn abandoned() -> Refusal {
    Refusal::Refused(Problem::new(
        ProblemType::ServerInternal,
        "this order can no longer be completed; place a new order",
    ))
}

/// Where the profile says how names are to be proven: nothing else is claimed, and something for every name.
/// A claim is no proof, but it stands in the log, and a wrong one is an open lie there.
fn proven(profile: &Profile, finalize: &Finalize, csr: &Csr) -> Result<(), Refusal> {
    let accepted = |claim: &&Validation| profile.accepts_challenge(claim.method.name());
    let unproven = |identifier: &&Identifier| {
        let mut claims = finalize.validations.iter().filter(accepted);
        !claims.any(|claim| is_for(&claim.identifier, identifier))
    };
    let parts: Vec<Subproblem> = csr
        .identifiers()
        .iter()
        .filter(|_| !profile.challenges.is_empty())
        .filter(unproven)
        .map(|identifier| {
            let why = format!("{identifier} was not proven as profile {} demands", profile.name);
            Subproblem::of(ProblemType::Unauthorized, why, identifier)
        })
        .collect();
    if parts.is_empty() { Ok(()) } else { Err(Refusal::Refused(Problem::compound(parts))) }
}

/// Whether what was proven is the name, or a name above it (RFC 9444).
fn is_for(proven: &Identifier, identifier: &Identifier) -> bool {
    match (proven, identifier) {
        (Identifier::Dns(proven), Identifier::Dns(name)) => name.is_within(proven),
        _ => proven == identifier,
    }
}

/// What is claimed of the names in question: the first claim for each name, each claim once. So there are no more
/// claims than names: the log is no notebook for whoever took over the web process.
fn claims(finalize: &Finalize, csr: &Csr) -> Vec<ValidationV1> {
    let mut claims = Vec::new();
    for identifier in csr.identifiers() {
        let proof = finalize.validations.iter().find(|claim| is_for(&claim.identifier, identifier));
        if let Some(claim) = proof.map(recorded)
            && !claims.contains(&claim)
        {
            claims.push(claim);
        }
    }
    claims
}

/// A claimed validation as the log keeps it.
fn recorded(claim: &Validation) -> ValidationV1 {
    ValidationV1 {
        identifier: claim.identifier.value(),
        method: claim.method.name().into(),
        at: claim.at,
    }
}
