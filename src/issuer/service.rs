//! Answers the questions of `ipc`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{Core, count};
use super::cosigner::Cosigner;
use super::crls::Crls;
use super::figures::spread;
use super::formats::Formats;
use super::handshake::is_handshake;
use super::keeper::Keeper;
use super::log_keys::KeyTurn;
use super::own::Own;
use super::pipeline::{FINALIZE, Pipeline};
use super::refusals::Refusals;
use super::registry::Registry;
use super::renewal::{self, Recalls};
use super::revocation::{REVOKE, Revoker};
use super::root_crl::RootCrl;
use super::starts::Starts;
use super::witnesses::Witnesses;
use super::workers::Workers;
use crate::acme::jws::Jws;
use crate::acme::problem::Problem;
use crate::hsm::Class;
use crate::hsm::pool::{Figures, KeyFigures};
use crate::id::{Serial, Timestamp};
use crate::ipc::message::{
    Answer, ClassQueue, Finalize, Health, KeyPace, Permits, Question, Refusal, Revoke, Which,
};
use crate::ipc::witness::Carried;
use crate::ipc::{Reply, Service, Trespass};

/// The issuer at work.
pub(super) struct Desk {
    pub(super) core: Arc<Core>,
    pub(super) registry: Arc<Registry>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) own: Arc<Own>,
    pub(super) crls: Arc<Crls>,
    pub(super) revoker: Arc<Revoker>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) starts: Arc<Starts>,
    pub(super) recalls: Arc<Recalls>,
    pub(super) witnesses: Arc<Witnesses>,
    pub(super) cosigner: Arc<Cosigner>,
    pub(super) keeper: Keeper,
    pub(super) workers: Workers,
    pub(super) root_crls: Arc<[Arc<RootCrl>]>,
    pub(super) key_turn: Arc<KeyTurn>,
    pub(super) formats: Arc<Formats>,
    pub(super) started: Timestamp,
}

impl Service for Desk {
    fn call(&self, question: Question, reply: Reply) {
        if self.core.halted.load(Ordering::SeqCst) && !matches!(question, Question::Health) {
            return reply(Err(Refusal::Retry(5000)));
        }
        let reply = match &question {
            // Knows more of who asks, and has its refusals counted itself.
            Question::Finalize(_) | Question::Revoke(_) => reply,
            other => self.refusals.watch(other.name(), None, reply),
        };
        match question {
            Question::Register { jws } => self.with_request(jws, reply, Registry::register),
            Question::Finalize(finalize) => self.finalize(finalize, reply),
            Question::SignTls { message } => self.sign_tls(None, message, reply),
            Question::SignTlsBy { spki_sha256, message } => {
                self.sign_tls(Some(spki_sha256), message, reply);
            }
            Question::TlsChain => reply(self.own.chain()),
            Question::Revoke(revoke) => self.revoke(revoke, reply),
            Question::Health => reply(Ok(Answer::Health(Box::new(self.health())))),
            Question::ChangeKey { jws } => self.with_request(jws, reply, Registry::change_key),
            Question::Deactivate { jws } => self.with_request(jws, reply, Registry::deactivate),
            Question::Permits(asked) => self.permits(asked, reply),
            Question::Standings(which) => self.standings(which, reply),
            Question::Renewal { serial } => self.renewal(serial, reply),
            Question::Logged { serial } => self.logged(serial, reply),
            Question::Cosign { body } => self.cosign(body, reply),
            Question::Errands(carried) => self.errands(carried, reply),
        }
    }

    fn trespassed(&self, what: Trespass) {
        self.refusals.trespassed(what);
    }
}

impl Desk {
    /// Has a worker judge a request that the registry answers.
    fn with_request(&self, jws: Vec<u8>, reply: Reply, answer: fn(&Arc<Registry>, &[u8], Reply)) {
        if jws.len() > Jws::MAX {
            return reply(Err(Refusal::Refused(Problem::malformed("the request is too large"))));
        }
        if !self.keeper.recovered() {
            return reply(Err(Refusal::Retry(500)));
        }
        let registry = Arc::clone(&self.registry);
        // Full: the reply is dropped with the job, which tells the peer to ask again.
        let _ = self.workers.submit(Box::new(move || answer(&registry, &jws, reply)));
    }

    fn permits(&self, asked: Box<Permits>, reply: Reply) {
        let registry = Arc::clone(&self.registry);
        let _ = self.workers.submit(Box::new(move || reply(registry.permits(&asked))));
    }

    fn standings(&self, which: Which, reply: Reply) {
        let registry = Arc::clone(&self.registry);
        let _ = self.workers.submit(Box::new(move || reply(registry.standings(which))));
    }

    fn finalize(&self, finalize: Box<Finalize>, reply: Reply) {
        if finalize.jws.len() > Jws::MAX {
            let reply = self.refusals.watch(FINALIZE, None, reply);
            return reply(Err(Refusal::Refused(Problem::malformed("the request is too large"))));
        }
        if !self.keeper.recovered() {
            return reply(Err(Refusal::Retry(500)));
        }
        let pipeline = Arc::clone(&self.pipeline);
        let _ = self.workers.submit(Box::new(move || pipeline.finalize(&finalize, reply)));
    }

    fn revoke(&self, revoke: Box<Revoke>, reply: Reply) {
        if revoke.jws.len() > Jws::MAX {
            let reply = self.refusals.watch(REVOKE, None, reply);
            return reply(Err(Refusal::Refused(Problem::malformed("the request is too large"))));
        }
        let (revoker, nudge) = (Arc::clone(&self.revoker), self.keeper.nudger());
        let reply: Reply = Box::new(move |result| {
            // The CRL is made off this path, and at once.
            if result.is_ok() {
                nudge();
            }
            reply(result);
        });
        let _ = self.workers.submit(Box::new(move || revoker.revoke(&revoke, reply)));
    }

    fn renewal(&self, serial: Serial, reply: Reply) {
        let (core, recalls) = (Arc::clone(&self.core), Arc::clone(&self.recalls));
        let _ = self.workers.submit(Box::new(move || {
            let found = renewal::certified(&core, &recalls, serial);
            reply(found.map(|c| Answer::Renewal(c.map(Box::new))).map_err(Refusal::from));
        }));
    }

    fn logged(&self, serial: Serial, reply: Reply) {
        let core = Arc::clone(&self.core);
        let _ = self.workers.submit(Box::new(move || {
            let found = renewal::logged(&core, serial);
            reply(found.map(|l| Answer::Logged(l.map(Box::new))).map_err(Refusal::from));
        }));
    }

    /// A worker verifies; whoever sent it has no account, and is answered when the token has signed.
    fn cosign(&self, body: Vec<u8>, reply: Reply) {
        let cosigner = Arc::clone(&self.cosigner);
        let _ = self.workers.submit(Box::new(move || cosigner.cosign(&body, reply)));
    }

    fn errands(&self, carried: Vec<Carried>, reply: Reply) {
        let witnesses = Arc::clone(&self.witnesses);
        let _ = self.workers.submit(Box::new(move || reply(Ok(witnesses.errands(carried)))));
    }

    /// By the present TLS key, or by the one of two that the certificate names which the web process serves.
    fn sign_tls(&self, by: Option<[u8; 32]>, message: Vec<u8>, reply: Reply) {
        if message.len() > MAX_HANDSHAKE || !is_handshake(&message) {
            tracing::warn!(
                octets = message.len(),
                "CHY-TLS-MESSAGE: the TLS key was asked to sign what no handshake asks it to"
            );
            return reply(Err(Refusal::Refused(Problem::malformed("not a TLS handshake"))));
        }
        let key = match by {
            None => Some(&self.core.tls_key),
            Some(spki_sha256) => self.core.tls_key_of(&spki_sha256),
        };
        let Some(key) = key else {
            // Its certificate is not served any more: whoever asks has to fetch the present one.
            return reply(Err(Refusal::Refused(Problem::malformed("not this box's TLS key"))));
        };
        let stale = by.map(|spki_sha256| !self.own.serves(&spki_sha256));
        let core = Arc::clone(&self.core);
        let then = Box::new(move |result: Result<Vec<u8>, _>| match result {
            Ok(signature) => {
                count(&core.counters.handshakes);
                reply(Ok(match stale {
                    None => Answer::Signature(signature),
                    Some(stale) => Answer::TlsSignature { signature, stale },
                }));
            }
            Err(error) => reply(Err(core.unsigned(error).into())),
        });
        key.submit(Class::Tls, message, then);
    }

    pub(super) fn health(&self) -> Health {
        let core = &self.core;
        // Notices a clock that was set since the last record.
        let clock = core.now();
        let token = (core.token)();
        let mut problems: Vec<(String, String)> = Vec::new();
        let issuing = core.issuers.all().iter().filter(|issuer| core.issuers.is_active(issuer));
        let signs = [super::signing::LOG_KEY, super::signing::TLS_KEY]
            .into_iter()
            .chain(issuing.map(|issuer| issuer.name.as_str()))
            .all(|key| token.signs_with(key));
        let mut stopped = clock.is_err() || !signs || !self.keeper.recovered();
        for (part, code, message) in core.problems.list() {
            stopped |= part.stops_issuance();
            problems.push((code.to_owned(), message));
        }
        if let Some(problem) = token.problem() {
            problems.push(problem);
        }
        if let Some(why) = core.log.halted() {
            stopped = true;
            problems.push(coded(why));
        }
        if core.log.is_full() {
            stopped = true;
            problems.push((
                "CHY-DISK-FULL".into(),
                "the log takes only revocations and CRLs until there is room on its disk".into(),
            ));
        }
        if core.tls_key.is_in_memory() {
            problems.push((
                "CHY-TLS-KEY-IN-MEMORY".into(),
                "as configured, the key of TLS handshakes is in the memory of this process and not on the token".into(),
            ));
        }
        let figures = core.issuers.queue().and_then(|key| key.figures());
        let advice = self.witnesses.problems().into_iter().chain(self.cosigner.problems());
        problems.extend(advice.map(|(code, message)| (code.to_owned(), message)));
        let now = core.rule.clock().now();
        let root_crls = self.root_crls.iter().filter_map(|root_crl| root_crl.problem(now));
        problems.extend(root_crls.map(|(code, message)| (code.to_owned(), message)));
        Health {
            ready: !stopped && !core.halted.load(Ordering::SeqCst),
            problems,
            token: token.to_string(),
            log_size: core.log.head().size,
            checkpoint_size: core.covered(),
            issued: core.counters.issued.load(Ordering::Relaxed),
            crl_next_update: self.crls.next_update(),
            tls_not_after: self.own.not_after(),
            started: self.started,
            counters: core.counters.snapshot().into_iter().chain(token_counts(core)).collect(),
            witnesses: self.witnesses.watches(),
            watched: self.cosigner.watches(),
            keys: figures.iter().flat_map(paces).collect(),
            queues: figures.iter().flat_map(queues).collect(),
            figures: self.figures(&token, figures.as_ref(), clock.is_ok()),
        }
    }
}

/// What the pool has counted of the token's troubles.
fn token_counts(core: &Core) -> Vec<(String, u64)> {
    let Some(figures) = core.issuers.queue().and_then(|key| key.figures()) else {
        return Vec::new();
    };
    let ms = u64::try_from(figures.recovering.as_millis()).unwrap_or(u64::MAX);
    let by_code =
        figures.recovered.iter().map(|(code, count)| (format!("{RECOVERED}{code}"), *count));
    [
        ("token_recoveries".to_owned(), figures.recoveries),
        ("token_recovering_ms".to_owned(), ms),
        ("token_wrong_signatures".to_owned(), figures.wrong),
    ]
    .into_iter()
    .chain(by_code)
    .collect()
}

/// How fast the token signs, by key.
fn paces(figures: &Figures) -> impl Iterator<Item = KeyPace> {
    let pace = |key: &KeyFigures| KeyPace { key: key.name.clone(), took: spread(&key.took) };
    figures.keys.iter().map(pace)
}

/// What waits for the token, by class.
fn queues(figures: &Figures) -> impl Iterator<Item = ClassQueue> {
    figures.classes.iter().map(|class| ClassQueue {
        class: class.class.name().into(),
        signed: class.signed,
        unsigned: class.left,
        waiting: class.waiting as u64,
        waits: spread(&class.waits),
    })
}

/// Splits a message that begins with its code.
fn coded(text: &str) -> (String, String) {
    match text.split_once(": ") {
        Some((code, message)) if code.starts_with("CHY-") => (code.into(), message.into()),
        _ => ("CHY-INTERNAL".into(), text.into()),
    }
}

/// The token's trouble as a line of the health.
trait TokenProblem {
    fn problem(&self) -> Option<(String, String)>;
}

impl TokenProblem for crate::hsm::health::TokenHealth {
    fn problem(&self) -> Option<(String, String)> {
        match self {
            Self::Ready => None,
            Self::Starting => {
                Some(("CHY-TOKEN-RECOVERING".into(), "the token is being brought up".into()))
            }
            Self::Recovering { step, error, .. } => {
                Some(("CHY-TOKEN-RECOVERING".into(), format!("{step}: {error}")))
            }
            Self::Stopped { code, message } | Self::Degraded { code, message, .. } => {
                Some((code.clone(), message.clone()))
            }
            Self::Halted { error } => Some(coded(error)),
        }
    }
}

/// Before the code of the trouble that the token was recovered from.
const RECOVERED: &str = "token_recovered/";
/// No handshake has more to sign.
const MAX_HANDSHAKE: usize = 4096;
