//! Catches up with the issuer's registry, which is the last word on an account's key and on whether it has
//! ended: after a crash between its record and the commit here, and after an operator ended an account there.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::flow::{Fault, until_committed};
use crate::acme::account::Account;
use crate::acme::authz::AuthzStatus;
use crate::acme::jws::Jwk;
use crate::acme::order::{OrderStatus, Outcome};
use crate::acme::problem::{Problem, ProblemType};
use crate::id::{AccountId, LeafIndex};
use crate::ipc::message::{Ended, Standing, Which};
use crate::ipc::{Answer, Question};
use crate::store::{Change, OrderFacts, StoreError};

/// How soon an account that an operator ended is shut out here; the issuer shuts it out at once.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer waits for the issuer: what hangs there must not hold connections here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Orders looked at by one read.
const PAGE: usize = 100;

/// Follows the issuer's changes, from the first: what is known already changes nothing.
pub(crate) async fn keep(server: &Arc<Server>) {
    let mut from = LeafIndex(0);
    loop {
        match follow(server, from).await {
            Ok((next, true)) => {
                from = next;
                continue;
            }
            Ok((next, false)) => from = next,
            Err(Fault::Store(StoreError::Halt(why))) => return server.halt(why),
            // Away, as it says elsewhere.
            Err(_) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn follow(server: &Arc<Server>, from: LeafIndex) -> Result<(LeafIndex, bool), Fault> {
    let (standings, next, more) = ask(server, Which::ChangedFrom(from)).await?;
    for standing in &standings {
        apply(server, standing).await?;
    }
    Ok((next, more))
}

/// Makes an account here what it is at the issuer, and gives it; `None` if it is not known here.
pub(crate) async fn catch_up(
    server: &Arc<Server>,
    account: AccountId,
) -> Result<Option<Account>, Fault> {
    let (standings, ..) = ask(server, Which::One(account)).await?;
    match standings.first() {
        Some(standing) if standing.account == account => apply(server, standing).await,
        _ => Err(Fault::Internal),
    }
}

/// The account has ended: nothing is asked for in its name any more, and nothing that it asked for goes on. An
/// order that the issuer has is the issuer's to end.
pub(crate) async fn end(
    server: &Arc<Server>,
    id: AccountId,
    ended: Ended,
) -> Result<Option<Account>, Fault> {
    let account = until_committed(async || {
        let Some((mut account, version)) = server.store.account(id).await? else {
            return Ok(None);
        };
        if account.is_active() {
            if ended.by_operator {
                account.revoked = Some(ended.at);
            } else {
                account.deactivated = Some(ended.at);
            }
            server.store.commit(vec![Change::Account(account.clone(), version)]).await?;
            tracing::info!(account = %id, by_operator = ended.by_operator, "account ended");
        }
        Ok(Some(account))
    })
    .await?;
    if account.is_some() {
        cancel_orders(server, id).await?;
    }
    Ok(account)
}

/// Puts the account's new key in place; the one it had is remembered.
pub(crate) async fn change_key(
    server: &Server,
    id: AccountId,
    key: &Jwk,
) -> Result<Option<Account>, Fault> {
    until_committed(async || {
        let Some((mut account, version)) = server.store.account(id).await? else {
            return Ok(None);
        };
        if account.key != *key {
            account.change_key(key.clone());
            server.store.commit(vec![Change::Account(account.clone(), version)]).await?;
        }
        Ok(Some(account))
    })
    .await
}

async fn apply(server: &Arc<Server>, standing: &Standing) -> Result<Option<Account>, Fault> {
    let key = Jwk::parse(standing.jwk.as_bytes()).map_err(|_| Fault::Internal)?;
    let account = change_key(server, standing.account, &key).await?;
    match standing.ended {
        None => Ok(account),
        Some(ended) => end(server, standing.account, ended).await,
    }
}

async fn ask(server: &Server, which: Which) -> Result<(Vec<Standing>, LeafIndex, bool), Fault> {
    let asked = server.issuer.ask(Question::Standings(which));
    match tokio::time::timeout(PATIENCE, asked).await {
        Err(_) => Err(Fault::Retry(EVERY)),
        Ok(Ok(Answer::Standings { standings, next, more })) => Ok((standings, next, more)),
        Ok(Ok(_)) => Err(Fault::Internal),
        Ok(Err(error)) => Err(error.into()),
    }
}

async fn cancel_orders(server: &Server, account: AccountId) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let page = server.store.orders_of(account, after, PAGE).await?;
        for order in &page {
            until_committed(async || {
                let Some(facts) = server.store.order(*order).await? else { return Ok(()) };
                let changes = cancelled(server, facts);
                if changes.is_empty() {
                    return Ok(());
                }
                Ok(server.store.commit(changes).await?)
            })
            .await?;
        }
        after = match page.last() {
            Some(last) if page.len() == PAGE => Some(*last),
            _ => return Ok(()),
        };
    }
}

/// One order's end with that of its authorizations, in one commit; empty when it has ended already or is the
/// issuer's.
fn cancelled(server: &Server, facts: OrderFacts) -> Vec<Change> {
    let now = server.clock.now();
    let OrderFacts { mut order, version, authorizations } = facts;
    let all: Vec<_> = authorizations.iter().map(|(authz, _)| authz.clone()).collect();
    if !matches!(order.status(&all, now), OrderStatus::Pending | OrderStatus::Ready) {
        return Vec::new();
    }
    let problem =
        Problem::new(ProblemType::Unauthorized, "the account of this order was deactivated");
    order.settle(Outcome::Failed { at: now, problem });
    let mut changes = vec![Change::Order(order, version)];
    for (mut authz, version) in authorizations {
        if authz.status(now) == AuthzStatus::Pending && authz.deactivate(now) {
            changes.push(Change::Authorization(authz, version));
        }
    }
    changes
}
