//! Probes challenges that clients responded to, with retries, until each is valid or invalid.
//!
//! One sleeping task per challenge that is processing; the cost is theirs, not of those stored. Each
//! attempt's result is a durable fact, so a restart goes on where the last process stopped.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::Server;
use crate::acme::account::AccountStatus;
use crate::acme::authz::{Authorization, AuthzStatus};
use crate::acme::challenge::{Challenge, ChallengeStatus};
use crate::acme::directory::Resource;
use crate::id::{AccountId, AuthzId, ChallengeId};
use crate::store::{Change, StoreError, Version};
use crate::validate::{Asker, Attempt, Observation};

const BUSY: Duration = Duration::from_millis(100);
/// How long the answer to a response waits for the first attempt: most devices of a LAN answer in less, and
/// then their clients need not ask again.
const PROMPT: Duration = Duration::from_millis(250);

type Key = (AuthzId, ChallengeId);

/// The challenges being validated.
#[derive(Default)]
pub(crate) struct Validations {
    active: Mutex<HashMap<Key, Arc<Notify>>>,
}

/// A challenge is validated by one task at a time.
struct Claim {
    server: Arc<Server>,
    key: Key,
    /// The facts changed under the task: the client asks for an attempt at once.
    changed: Arc<Notify>,
}

impl Claim {
    /// `None` if there is a task already, which then looks at the facts again.
    fn take(server: &Arc<Server>, key: Key) -> Option<Self> {
        let mut active = server.validations.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = active.get(&key) {
            changed.notify_one();
            return None;
        }
        let changed = Arc::new(Notify::new());
        active.insert(key, changed.clone());
        server.metrics.validations_active.inc();
        Some(Self { server: server.clone(), key, changed })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let active = &self.server.validations.active;
        active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.server.metrics.validations_active.dec();
    }
}

/// Validates a challenge whose response is stored, or whose retry was asked for.
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

/// Stores the client's response and attempts at once; the authorization as it is stored afterwards.
///
/// Where the attempt ends within [`PROMPT`], response and result are one commit and the client learns the
/// result with this very answer. Otherwise the response alone is stored, and the attempt goes on. A client
/// that leaves meanwhile changes nothing of this.
pub(crate) async fn respond(
    server: &Arc<Server>,
    authorization: Authorization,
    version: Version,
    challenge: ChallengeId,
) -> Result<Authorization, StoreError> {
    let Some(claim) = Claim::take(server, (authorization.id, challenge)) else {
        server.store.commit(vec![Change::Authorization(authorization.clone(), version)]).await?;
        // Whoever is at it looks at the facts again, now that they say so.
        start(server, authorization.clone(), Version(version.0 + 1), challenge);
        return Ok(authorization);
    };
    let (tell, told) = oneshot::channel();
    server.spawn(open(claim, authorization, version, tell));
    told.await.unwrap_or(Err(StoreError::Busy))
}

/// The first attempt, with the response to store; then the others.
async fn open(
    claim: Claim,
    authorization: Authorization,
    version: Version,
    tell: oneshot::Sender<Result<Authorization, StoreError>>,
) {
    let server = claim.server.clone();
    let (server, (id, challenge)) = (&*server, claim.key);
    let mut attempting = pin!(attempt(server, &authorization, challenge));
    let prompt = tokio::time::timeout(PROMPT, &mut attempting).await;
    let mut changed = authorization.clone();
    if let Ok(Some(observation)) = &prompt {
        apply(server, &mut changed, challenge, observation);
    }
    let stored = server.store.commit(vec![Change::Authorization(changed.clone(), version)]).await;
    let mut facts = match &stored {
        Ok(()) => {
            count(server, &changed, challenge);
            Some((changed.clone(), Version(version.0 + 1)))
        }
        Err(StoreError::Halt(_)) => None,
        // Another response came first, and trusts in whoever has the claim.
        Err(StoreError::Busy | StoreError::Conflict) => load(server, id).await,
    };
    let late = stored.is_ok() && prompt.is_err();
    let _ = tell.send(stored.map(|()| changed));
    if late && let Some((authorization, version)) = facts {
        facts = match attempting.await {
            Some(observation) => {
                record(server, claim.key, authorization, version, &observation).await
            }
            None => None,
        };
    }
    if let Some((authorization, version)) = facts {
        run(claim, authorization, version).await;
    }
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
        let Some(due) = challenge.next_attempt(rule) else { return };
        if due > now {
            let changed = tokio::select! {
                () = tokio::time::sleep(due.since(now)) => false,
                () = claim.changed.notified() => true,
            };
            if changed {
                match load(server, claim.key.0).await {
                    Some(found) => (authorization, version) = found,
                    None => return,
                }
            }
            continue;
        }
        let Some(observation) = attempt(server, &authorization, claim.key.1).await else { return };
        match record(server, claim.key, authorization, version, &observation).await {
            Some(stored) => (authorization, version) = stored,
            None => return,
        }
    }
}

/// One attempt, if one is due; `None` also when the account is no longer valid.
async fn attempt(
    server: &Server,
    authorization: &Authorization,
    challenge: ChallengeId,
) -> Option<Observation> {
    let now = server.clock.now();
    let challenge = authorization.challenge(challenge)?;
    let response = challenge.response.as_ref()?;
    if challenge.next_attempt(server.validator.retry_rule())? > now {
        return None;
    }
    let attempt = Attempt {
        kind: challenge.kind,
        identifier: authorization.identifier.clone(),
        wildcard: authorization.wildcard,
        subdomains: authorization.subdomains,
        token: challenge.token.clone(),
        key_authorization: response.key_authorization.clone(),
        // Asked for at each attempt: a deactivated account proves nothing more.
        asker: asker(server, authorization.account).await?,
        now,
    };
    let observation = server.validator.attempt(attempt).await;
    match &observation {
        Observation::Matched { from, .. } => {
            server.metrics.validation(challenge.kind, true);
            tracing::info!(authorization = %authorization.id, account = %authorization.account, ?from, "challenge matched");
        }
        Observation::Failed(problem) => {
            server.metrics.validation(challenge.kind, false);
            tracing::info!(
                authorization = %authorization.id,
                account = %authorization.account,
                problem = problem.kind.urn(),
                detail = problem.detail,
                "validation attempt failed"
            );
        }
    }
    Some(observation)
}

/// What an observation means for the authorization.
fn apply(
    server: &Server,
    authorization: &mut Authorization,
    challenge: ChallengeId,
    observation: &Observation,
) {
    let now = server.clock.now();
    match observation {
        Observation::Matched { until, .. } => {
            let lifetime = Duration::from_secs(server.settings.authorization_hours * 3600);
            let lifetime = until.map_or(lifetime, |until| lifetime.min(until.since(now)));
            authorization.succeeded(challenge, lifetime, now);
        }
        Observation::Failed(problem) => {
            authorization.failed(challenge, problem.clone(), server.validator.retry_rule(), now);
        }
    }
}

/// A challenge that has become invalid counts for its account and name.
fn count(server: &Server, stored: &Authorization, challenge: ChallengeId) {
    let status = stored.challenge(challenge).map(Challenge::status);
    if status == Some(ChallengeStatus::Invalid) {
        server.limits.failed(stored.account, &stored.identifier, server.clock.monotonic());
    }
}

/// The facts as they are now; `None` when they are gone or cannot be had.
async fn load(server: &Server, authz: AuthzId) -> Option<(Authorization, Version)> {
    loop {
        match server.store.authorization(authz).await {
            Ok(found) => return found,
            Err(StoreError::Halt(why)) => {
                server.halt(why);
                return None;
            }
            Err(StoreError::Busy | StoreError::Conflict) => tokio::time::sleep(BUSY).await,
        }
    }
}

/// The account as attempts need it; `None` unless it is valid now.
async fn asker(server: &Server, id: AccountId) -> Option<Asker> {
    let account = loop {
        match server.store.account(id).await {
            Ok(found) => break found?.0,
            Err(StoreError::Halt(why)) => {
                server.halt(why);
                return None;
            }
            Err(StoreError::Busy | StoreError::Conflict) => tokio::time::sleep(BUSY).await,
        }
    };
    if account.status() != AccountStatus::Valid {
        return None;
    }
    let mut thumbprints = vec![account.key.thumbprint()];
    thumbprints.extend(account.former_keys.iter().rev());
    Some(Asker {
        id,
        url: server.urls.url(Resource::Account(id)),
        thumbprints,
        hash_prefix: server.urls.account_hash_prefix(),
    })
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
        let mut changed = authorization.clone();
        apply(server, &mut changed, key.1, observation);
        if changed == authorization {
            return None;
        }
        match server.store.commit(vec![Change::Authorization(changed.clone(), version)]).await {
            Ok(()) => {
                count(server, &changed, key.1);
                return Some((changed, Version(version.0 + 1)));
            }
            Err(StoreError::Halt(why)) => {
                server.halt(why);
                return None;
            }
            Err(StoreError::Busy) => tokio::time::sleep(BUSY).await,
            Err(StoreError::Conflict) => (authorization, version) = load(server, key.0).await?,
        }
    }
}
