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
use crate::web::listen::Origin;
use crate::web::standing::{self, PATIENCE};
use crate::web::{Server, limits};

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
    if !asked.only_return_existing {
        check_new(server, &asked)?;
    }
    let binding = asked.external_account_binding.clone();
    let registered = register(server, origin, jwk, jws, asked.only_return_existing).await?;
    let id = registered.account;
    let terms = server.settings.terms_of_service.as_deref();
    let mut account = Account::new(id, jwk.clone(), asked, terms, now);
    account.external_account = binding.filter(|_| registered.bound);
    tracing::Span::current().record("account", tracing::field::display(id));
    if registered.existing && server.store.account(id).await?.is_some() {
        // Known here under another key: a change of it did not get this far.
        let account = standing::catch_up(server, id).await?.ok_or_else(Fault::missing)?;
        return existing(server, &account);
    }
    let status = if registered.existing { StatusCode::OK } else { StatusCode::CREATED };
    until_committed(async || {
        // Another request with this key may have been faster.
        if let Some((account, _)) = server.store.account_by_key(jwk.thumbprint()).await? {
            return existing(server, &account);
        }
        server.store.commit(vec![Change::Account(account.clone(), Version::ABSENT)]).await?;
        tracing::info!(account = %id, "account registered");
        Ok(object(server, status, &account))
    })
    .await
}

/// What a key that has no account must bring to get one.
fn check_new(server: &Server, asked: &NewAccount) -> Result<(), Fault> {
    if server.external_account_required && asked.external_account_binding.is_none() {
        return Err(Problem::new(
            ProblemType::ExternalAccountRequired,
            "this server registers accounts by enrolment ticket only; ask its operator for one",
        )
        .into());
    }
    match &server.settings.terms_of_service {
        Some(terms) if !asked.terms_of_service_agreed => Err(Fault::Linked(
            Problem::malformed("the terms of service must be agreed to"),
            terms.clone(),
            "terms-of-service",
        )),
        _ => Ok(()),
    }
}

/// What the issuer says.
struct Registered {
    account: AccountId,
    existing: bool,
    bound: bool,
}

/// Has the issuer register the key, if the peer may have another account in this hour; or asks it for the account
/// that the key has.
async fn register(
    server: &Server,
    origin: Origin,
    jwk: &Jwk,
    jws: Bytes,
    only_existing: bool,
) -> Result<Registered, Fault> {
    if !only_existing {
        let mut key = [0; 16];
        key.copy_from_slice(&jwk.thumbprint().0[..16]);
        limits::registration(server, origin, key).await?;
    }
    let asked = server.issuer.ask(Question::Register { jws: jws.to_vec() });
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    match answer.unwrap_or(Err(AskError::Retry(AWAY))) {
        Ok(Answer::Account { account, existing, bound }) => {
            Ok(Registered { account, existing, bound })
        }
        Ok(_) => Err(Fault::Internal),
        Err(error) => {
            if !only_existing {
                limits::no_registration(server, origin);
            }
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
