//! newAccount (RFC 8555 section 7.3). The issuer registers the key and chooses the account's id, from
//! the client's own signed request; what is stored here is the account's details.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::{Fault, Reply, until_committed};
use crate::acme::account::{Account, NewAccount};
use crate::acme::directory::Resource;
use crate::acme::jws::{Jwk, Payload};
use crate::acme::problem::{Problem, ProblemType};
use crate::id::{AccountId, Timestamp};
use crate::ipc::{Answer, AskError, Question};
use crate::store::{Change, Version};
use crate::web::Server;
use crate::web::listen::Origin;

/// How long an answer waits for the issuer: what hangs there must not hold connections here.
const PATIENCE: Duration = Duration::from_secs(10);
const AWAY: Duration = Duration::from_secs(5);

pub(super) async fn answer(
    server: &Arc<Server>,
    origin: Origin,
    jwk: &Jwk,
    payload: Payload,
    jws: Bytes,
    now: Timestamp,
) -> Result<Reply, Fault> {
    let Payload::Json(payload) = payload else {
        return Err(Problem::malformed("newAccount needs a payload").into());
    };
    let asked = NewAccount::parse(&payload)?;
    if let Some((account, _)) = server.store.account_by_key(jwk.thumbprint()).await? {
        return existing(server, &account);
    }
    if asked.only_return_existing {
        return Err(Problem::new(
            ProblemType::AccountDoesNotExist,
            "there is no account with this key",
        )
        .into());
    }
    if let Some(terms) = &server.settings.terms_of_service
        && !asked.terms_of_service_agreed
    {
        let problem = Problem::malformed("the terms of service must be agreed to");
        server.metrics.problem(problem.kind);
        return Ok(Reply::problem(&problem).link(terms, "terms-of-service"));
    }
    let id = register(server, origin, jws).await?;
    let account = Account::new(id, jwk.clone(), asked, now);
    tracing::Span::current().record("account", tracing::field::display(id));
    until_committed(async || {
        // Another request with this key may have been faster.
        if let Some((account, _)) = server.store.account_by_key(jwk.thumbprint()).await? {
            return existing(server, &account);
        }
        server.store.commit(vec![Change::Account(account.clone(), Version::ABSENT)]).await?;
        tracing::info!(account = %id, "account registered");
        Ok(object(server, StatusCode::CREATED, &account))
    })
    .await
}

/// Has the issuer register the key, if the peer may have another account in this hour.
async fn register(server: &Server, origin: Origin, jws: Bytes) -> Result<AccountId, Fault> {
    // An IPv4 peer of an IPv6 socket is the same peer.
    let peer = origin.peer.to_canonical();
    server.registrations.take(peer, server.clock.monotonic()).map_err(|wait| {
        let detail = "this address has registered all the accounts it may in an hour";
        Fault::Limited(Problem::new(ProblemType::RateLimited, detail), wait)
    })?;
    let asked = server.issuer.ask(Question::Register { jws: jws.to_vec() });
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    match answer.unwrap_or(Err(AskError::Retry(AWAY))) {
        Ok(Answer::Account { account, .. }) => Ok(account),
        Ok(_) => Err(Fault::Internal),
        Err(error) => {
            server.registrations.give_back(&peer);
            Err(error.into())
        }
    }
}

/// A known key: the account as it is, whatever else was asked (RFC 8555 section 7.3.1).
fn existing(server: &Server, account: &Account) -> Result<Reply, Fault> {
    account.check_active()?;
    Ok(object(server, StatusCode::OK, account))
}

/// The account object with its URL.
pub(super) fn object(server: &Server, status: StatusCode, account: &Account) -> Reply {
    let orders = server.urls.url(Resource::AccountOrders(account.id));
    Reply::object(status, account.to_json(&orders))
        .location(&server.urls.url(Resource::Account(account.id)))
}
