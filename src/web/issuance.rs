//! Asks the issuer for the certificates of finalized orders until it has answered.
//!
//! The order's id makes the question idempotent: asked twice, the issuer answers twice with the same
//! certificate. So a lost answer, a restart of either process or a failed commit here cost nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::patience::Pace;
use super::permits::Permits;
use super::{Server, caa};
use crate::acme::order::{Order, Outcome};
use crate::id::OrderId;
use crate::ipc::message::{Finalize, Validation};
use crate::ipc::{Answer, AskError, Question};
use crate::store::{Change, OrderFacts, StoreError};

/// Questions under way at once; more would only wait in the issuer.
const CONCURRENCY: usize = 128;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// Where a limit says how long it lasts: an operator may have raised it meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The orders being asked for.
pub(crate) struct Issuances {
    active: Mutex<HashSet<OrderId>>,
    permits: Arc<Permits>,
    pace: Pace,
}

impl Issuances {
    pub(crate) fn new() -> Self {
        let (active, permits, pace) =
            (Mutex::default(), Permits::new(CONCURRENCY), Pace::default());
        Self { active, permits, pace }
    }

    /// How long until an order that waits now is likely to have its certificate.
    pub(crate) fn expected(&self) -> Duration {
        self.pace.expected(self.waiting())
    }

    fn waiting(&self) -> usize {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An order is asked for by one task at a time.
struct Claim {
    server: Arc<Server>,
    order: OrderId,
}

impl Claim {
    fn take(server: &Arc<Server>, order: OrderId) -> Option<Self> {
        let mut active = server.issuances.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(order).then(|| {
            server.issuances.pace.begun(server.clock.monotonic());
            server.metrics.issuances_active.inc();
            Self { server: server.clone(), order }
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let active = &self.server.issuances.active;
        active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.order);
        let issuances = &self.server.issuances;
        issuances.pace.came(self.server.clock.monotonic(), issuances.waiting());
        self.server.metrics.issuances_active.dec();
    }
}

/// Asks for the certificate of an order whose finalize request is stored. The order with its outcome
/// comes back once it is stored; nobody need wait for it. `None`: it is being asked for already.
pub(crate) fn start(server: &Arc<Server>, facts: OrderFacts) -> Option<oneshot::Receiver<Order>> {
    let claim = Claim::take(server, facts.order.id)?;
    let (done, outcome) = oneshot::channel();
    server.spawn(async move {
        let begun = claim.server.clock.monotonic();
        let settled = settle(&claim.server, facts).await;
        if let Some(order) = settled {
            claim.server.metrics.issuance(claim.server.clock.monotonic().saturating_sub(begun));
            let _ = done.send(order);
        }
    });
    Some(outcome)
}

/// Takes up what an earlier process left unanswered.
pub(crate) async fn resume(server: &Arc<Server>) -> Result<(), StoreError> {
    let left = server.store.processing().await?;
    if !left.is_empty() {
        tracing::info!(orders = left.len(), "asking again for finalized orders");
    }
    for id in left {
        if let Some(facts) = server.store.order(id).await? {
            start(server, facts);
        }
    }
    Ok(())
}

/// Asks and stores until there is an outcome; the order with it.
async fn settle(server: &Arc<Server>, facts: OrderFacts) -> Option<Order> {
    let question = Question::Finalize(Box::new(question(&facts)?));
    let outcome = ask(server, &facts, question).await?;
    let (step, serial) = match &outcome {
        Outcome::Issued { serial, leaf, .. } => {
            tracing::info!(order = %facts.order.id, account = %facts.order.account, %serial, leaf, "certificate issued");
            ("issued", Some(*serial))
        }
        Outcome::Failed { problem, .. } => {
            tracing::warn!(
                order = %facts.order.id,
                account = %facts.order.account,
                problem = problem.kind.urn(),
                detail = problem.detail,
                "the issuer refused"
            );
            ("failed", None)
        }
    };
    let stored = store(server, facts, outcome).await;
    if stored.is_some() {
        server.metrics.order(step);
    } else if let Some(serial) = serial {
        tracing::warn!(%serial, "a certificate was issued for an order that has ended");
    }
    stored
}

/// The client's own request, and what is claimed beside it.
fn question(facts: &OrderFacts) -> Option<Finalize> {
    let order = &facts.order;
    let validations = facts
        .authorizations
        .iter()
        .filter_map(|(authorization, _)| {
            let (method, at) = authorization.proof()?;
            Some(Validation { identifier: authorization.identifier.clone(), method, at })
        })
        .collect();
    Some(Finalize {
        jws: order.finalize.as_ref()?.jws.clone(),
        order: order.id,
        account: order.account,
        profile: order.profile.clone(),
        not_before: order.not_before,
        not_after: order.not_after,
        validations,
    })
}

/// What became of it, however long that takes. `None` only when the issuer answers nonsense.
async fn ask(server: &Arc<Server>, facts: &OrderFacts, question: Question) -> Option<Outcome> {
    let order = facts.order.id;
    let authorizations: Vec<_> = facts.authorizations.iter().map(|(a, _)| a.clone()).collect();
    let mut checked = facts.order.finalize.as_ref().map(|finalize| finalize.at);
    let mut backoff = FIRST_RETRY;
    loop {
        // The issuer may have been away for longer than what CAA said then counts.
        let now = server.clock.now();
        let answer = caa::recheck(server, &facts.order, &authorizations, checked, now).await;
        if let Err(problem) = answer {
            return Some(Outcome::Failed { at: now, problem });
        }
        if checked.is_some_and(|at| now.since(at) > caa::VALID_FOR) {
            checked = Some(now);
        }
        let answer = {
            let _permit = server.issuances.permits.acquire(facts.order.account).await;
            server.issuer.ask(question.clone()).await
        };
        let wait = match answer {
            Ok(Answer::Certificate { der, serial, leaf, at }) => {
                return Some(Outcome::Issued { at, serial, leaf: leaf.0, certificate: der });
            }
            Err(AskError::Refused(problem)) => {
                return Some(Outcome::Failed { at: server.clock.now(), problem });
            }
            // Not this order's fault: it stays `processing`, and has its turn.
            Err(AskError::Limited(_, wait)) => {
                tracing::info!(%order, ?wait, "the issuer has issued all it may; asking again");
                tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
                continue;
            }
            Err(AskError::Retry(wait)) => wait,
            Err(AskError::Broken(why)) => {
                tracing::error!(code = "CHY-IPC-BROKEN", %order, %why, "the issuer does not fit");
                LONGEST_RETRY
            }
            Ok(_) => {
                tracing::error!(code = "CHY-INTERNAL", %order, "another answer than a certificate");
                return None;
            }
        };
        let wait = server.spread.over(wait.clamp(backoff, LONGEST_RETRY));
        tracing::debug!(%order, ?wait, "the issuer is away; asking again");
        tokio::time::sleep(wait).await;
        backoff = (backoff * 2).min(LONGEST_RETRY);
    }
}

/// Stores the outcome, unless the order is gone or has one.
async fn store(server: &Server, mut facts: OrderFacts, outcome: Outcome) -> Option<Order> {
    loop {
        let mut order = facts.order.clone();
        if !order.settle(outcome.clone()) {
            return None;
        }
        match server.store.commit(vec![Change::Order(order.clone(), facts.version)]).await {
            Ok(()) => return Some(order),
            Err(StoreError::Busy) => tokio::time::sleep(FIRST_RETRY).await,
            Err(StoreError::Conflict) => {
                facts = match server.store.order(order.id).await {
                    Ok(Some(facts)) => facts,
                    Ok(None) => return None,
                    Err(StoreError::Halt(why)) => {
                        server.halt(why);
                        return None;
                    }
                    Err(_) => {
                        tokio::time::sleep(FIRST_RETRY).await;
                        continue;
                    }
                };
            }
            Err(StoreError::Halt(why)) => {
                server.halt(why);
                return None;
            }
        }
    }
}
