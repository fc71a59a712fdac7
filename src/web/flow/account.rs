//! An account and the list of its orders (RFC 8555 sections 7.1.2, 7.1.2.1, 7.3.2 and 7.3.6).

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use super::{Fault, Reply, Signed, new_account, until_committed};
use crate::acme::account::{Account, AccountUpdate};
use crate::acme::directory::Resource;
use crate::acme::jws::Payload;
use crate::acme::order::OrderStatus;
use crate::id::{AccountId, OrderId};
use crate::ipc::{Answer, AskError, Question};
use crate::store::Change;
use crate::web::Server;
use crate::web::flow::order::authorizations;
use crate::web::standing::{self, PATIENCE};

/// Orders on one page of the list.
const PAGE: usize = 50;
const AWAY: Duration = Duration::from_secs(5);

/// Reads the account with POST-as-GET, changes its contacts, agrees to terms that changed, or ends it.
pub(super) async fn answer(
    server: &Arc<Server>,
    signed: Signed,
    id: AccountId,
) -> Result<Reply, Fault> {
    if signed.account.id != id {
        return Err(Fault::missing());
    }
    let Payload::Json(payload) = &signed.payload else {
        return Ok(new_account::object(server, StatusCode::OK, &signed.account));
    };
    let update = AccountUpdate::parse(payload)?;
    if update.deactivate {
        let (task, jws) = (Arc::clone(server), signed.jws.to_vec());
        // Whoever goes away now has ended the account nevertheless.
        let ended = tokio::spawn(async move { deactivate(&task, id, jws).await }).await;
        let account = ended.map_err(|_| Fault::Internal)??;
        return Ok(new_account::object(server, StatusCode::OK, &account));
    }
    let terms = server.settings.terms_of_service.as_deref();
    until_committed(async || {
        let found = server.store.account(id).await?;
        let (before, version) = found.ok_or_else(Fault::missing)?;
        before.check_active()?;
        let mut account = before.clone();
        account.update(update.clone(), terms, signed.now);
        if account != before {
            server.store.commit(vec![Change::Account(account.clone(), version)]).await?;
        }
        Ok(new_account::object(server, StatusCode::OK, &account))
    })
    .await
}

/// Has the issuer end the account, from the client's own request, and ends it here.
async fn deactivate(server: &Arc<Server>, id: AccountId, jws: Vec<u8>) -> Result<Account, Fault> {
    let asked = server.issuer.ask(Question::Deactivate { jws });
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    match answer.unwrap_or(Err(AskError::Retry(AWAY))) {
        Ok(Answer::Deactivated(ended)) => {
            standing::end(server, id, ended).await?.ok_or_else(Fault::missing)
        }
        Ok(_) => Err(Fault::Internal),
        Err(error) => Err(error.into()),
    }
}

/// One page of the account's orders, oldest first; invalid ones are left out.
pub(super) async fn orders(
    server: &Server,
    signed: Signed,
    id: AccountId,
    after: Option<OrderId>,
) -> Result<Reply, Fault> {
    signed.only_get()?;
    if signed.account.id != id {
        return Err(Fault::missing());
    }
    let mut listed = server.store.orders_of(id, after, PAGE + 1).await?;
    let more = listed.len() > PAGE;
    listed.truncate(PAGE);
    let mut urls = Vec::with_capacity(listed.len());
    for order in &listed {
        let Some(facts) = server.store.order(*order).await? else { continue };
        if facts.order.status(&authorizations(&facts), signed.now) != OrderStatus::Invalid {
            urls.push(server.urls.url(Resource::Order(*order)));
        }
    }
    let json = serde_json::json!({ "orders": urls }).to_string();
    let reply = Reply::object(StatusCode::OK, json);
    match listed.last() {
        Some(last) if more => {
            let next = Resource::AccountOrdersAfter(id, *last);
            Ok(reply.link(&server.urls.url(next), "next"))
        }
        _ => Ok(reply),
    }
}
