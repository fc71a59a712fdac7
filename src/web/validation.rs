//! Probes challenges that clients responded to, with retries, until each is valid or invalid.
//!
//! One sleeping task per challenge that is processing; the cost is theirs, not of those stored. Each
//! attempt's result is a durable fact, so a restart goes on where the last process stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::Server;
use crate::acme::authz::{Authorization, AuthzStatus};
use crate::acme::challenge::ChallengeStatus;
use crate::id::{AuthzId, ChallengeId, Timestamp};
use crate::store::{Change, StoreError, Version};
use crate::validate::{Attempt, Observation};

/// A repeated response hastens the next attempt, but not to within this of the last one.
const SOONEST_RETRY: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_millis(100);

type Key = (AuthzId, ChallengeId);

/// The challenges being validated.
pub(crate) struct Validations {
    active: Mutex<HashMap<Key, Arc<Notify>>>,
    permits: Semaphore,
}

impl Validations {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self { active: Mutex::default(), permits: Semaphore::new(concurrency.max(1)) }
    }

    /// The client asks for an attempt now.
    pub(crate) fn hasten(&self, key: Key) {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = active.get(&key) {
            notify.notify_one();
        }
    }
}

/// A challenge is validated by one task at a time.
struct Claim {
    server: Arc<Server>,
    key: Key,
    hastened: Arc<Notify>,
}

impl Claim {
    fn take(server: &Arc<Server>, key: Key) -> Option<Self> {
        let mut active = server.validations.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.contains_key(&key) {
            return None;
        }
        let hastened = Arc::new(Notify::new());
        active.insert(key, hastened.clone());
        server.metrics.validations_active.inc();
        Some(Self { server: server.clone(), key, hastened })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let active = &self.server.validations.active;
        active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.server.metrics.validations_active.dec();
    }
}

/// Begins validating a challenge whose response is stored.
pub(crate) fn start(
    server: &Arc<Server>,
    authorization: Authorization,
    version: Version,
    challenge: ChallengeId,
) {
    if let Some(claim) = Claim::take(server, (authorization.id, challenge)) {
        server.spawn(run(claim, authorization, version));
    }
}

/// Takes up what an earlier process left undecided.
pub(crate) async fn resume(server: &Arc<Server>) -> Result<(), StoreError> {
    let left = server.store.validating().await?;
    if !left.is_empty() {
        tracing::info!(authorizations = left.len(), "validating again");
    }
    for id in left {
        let Some((authorization, version)) = server.store.authorization(id).await? else {
            continue;
        };
        let processing: Vec<ChallengeId> = authorization
            .challenges
            .iter()
            .filter(|challenge| challenge.status() == ChallengeStatus::Processing)
            .map(|challenge| challenge.id)
            .collect();
        for challenge in processing {
            start(server, authorization.clone(), version, challenge);
        }
    }
    Ok(())
}

/// Attempts until the challenge is decided or its authorization no longer pending.
async fn run(claim: Claim, mut authorization: Authorization, mut version: Version) {
    let server = &*claim.server;
    let rule = server.validator.retry_rule();
    loop {
        let now = server.clock.now();
        if authorization.status(now) != AuthzStatus::Pending {
            return;
        }
        let Some(challenge) = authorization.challenge(claim.key.1) else { return };
        let (Some(response), Some(due)) = (&challenge.response, challenge.next_attempt(rule))
        else {
            return;
        };
        let attempt = Attempt {
            kind: challenge.kind,
            identifier: authorization.identifier.clone(),
            token: challenge.token.clone(),
            key_authorization: response.key_authorization.clone(),
        };
        let last = challenge.failures.last().map(|failure| failure.at);
        wait(&claim, due, last).await;
        let observation = {
            let Ok(_permit) = server.validations.permits.acquire().await else { return };
            server.validator.attempt(attempt).await
        };
        match &observation {
            Observation::Matched { from } => {
                server.metrics.validation("matched");
                tracing::info!(authorization = %authorization.id, account = %authorization.account, %from, "challenge matched");
            }
            Observation::Failed(problem) => {
                server.metrics.validation("failed");
                tracing::info!(
                    authorization = %authorization.id,
                    account = %authorization.account,
                    problem = problem.kind.urn(),
                    detail = problem.detail,
                    "validation attempt failed"
                );
            }
        }
        match record(server, claim.key, authorization, version, &observation).await {
            Some(stored) => (authorization, version) = stored,
            None => return,
        }
    }
}

/// Until the attempt is due, or the client asks for it and the last one is long enough ago.
async fn wait(claim: &Claim, due: Timestamp, last: Option<Timestamp>) {
    let clock = &claim.server.clock;
    let Some(last) = last else { return };
    let due = tokio::time::sleep(due.since(clock.now()));
    tokio::pin!(due);
    loop {
        tokio::select! {
            () = &mut due => return,
            () = claim.hastened.notified() => {
                if clock.now().since(last) >= SOONEST_RETRY {
                    return;
                }
            }
        }
    }
}

/// Stores what was observed; the facts after it, or `None` when they are no longer to be changed.
async fn record(
    server: &Server,
    key: Key,
    mut authorization: Authorization,
    mut version: Version,
    observation: &Observation,
) -> Option<(Authorization, Version)> {
    loop {
        let now = server.clock.now();
        if authorization.status(now) != AuthzStatus::Pending {
            return None;
        }
        apply(server, key.1, &mut authorization, observation, now)?;
        let change = Change::Authorization(authorization.clone(), version);
        match server.store.commit(vec![change]).await {
            Ok(()) => return Some((authorization, Version(version.0 + 1))),
            Err(StoreError::Halt(why)) => {
                server.halt(why);
                return None;
            }
            Err(StoreError::Busy) => tokio::time::sleep(BUSY).await,
            Err(StoreError::Conflict) => {}
        }
        (authorization, version) = match server.store.authorization(key.0).await {
            Ok(found) => found?,
            Err(StoreError::Halt(why)) => {
                server.halt(why);
                return None;
            }
            Err(_) => return None,
        };
    }
}

/// Changes the facts; `None` when the challenge is gone or decided already.
fn apply(
    server: &Server,
    id: ChallengeId,
    authorization: &mut Authorization,
    observation: &Observation,
    now: Timestamp,
) -> Option<()> {
    let challenge = authorization.challenges.iter_mut().find(|challenge| challenge.id == id)?;
    if challenge.status() != ChallengeStatus::Processing {
        return None;
    }
    match observation {
        Observation::Matched { .. } => {
            challenge.succeeded(now);
            let lifetime = Duration::from_secs(server.settings.authorization_hours * 3600);
            authorization.expires = now.plus(lifetime);
        }
        Observation::Failed(problem) => {
            let _ = challenge.failed(problem.clone(), server.validator.retry_rule(), now);
        }
    }
    Some(())
}
