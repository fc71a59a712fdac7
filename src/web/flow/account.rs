//! An account and the list of its orders (RFC 8555 sections 7.1.2 and 7.1.2.1).

use hyper::StatusCode;

use super::{Fault, Reply, Signed, new_account, until_committed};
use crate::acme::account::AccountUpdate;
use crate::acme::directory::Resource;
use crate::acme::jws::Payload;
use crate::acme::order::OrderStatus;
use crate::acme::problem::Problem;
use crate::id::{AccountId, OrderId};
use crate::store::Change;
use crate::web::Server;
use crate::web::flow::order::authorizations;

/// Orders on one page of the list.
const PAGE: usize = 50;

/// Reads the account with POST-as-GET, or changes its contacts. Deactivation is refused and said to be, never
/// ignored: the issuer has to learn of it first.
pub(super) async fn answer(server: &Server, signed: Signed, id: AccountId) -> Result<Reply, Fault> {
    if signed.account.id != id {
        return Err(Fault::missing());
    }
    let Payload::Json(payload) = &signed.payload else {
        return Ok(new_account::object(server, StatusCode::OK, &signed.account));
    };
    let update = AccountUpdate::parse(payload)?;
    if update.deactivate {
        return Err(Problem::malformed("this server does not deactivate accounts yet").into());
    }
    until_committed(async || {
        let found = server.store.account(id).await?;
        let (mut account, version) = found.ok_or_else(Fault::missing)?;
        account.check_active()?;
        if update.contact.as_ref().is_some_and(|contact| *contact != account.contact) {
            account.update(update.clone(), signed.now);
            server.store.commit(vec![Change::Account(account.clone(), version)]).await?;
        }
        Ok(new_account::object(server, StatusCode::OK, &account))
    })
    .await
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
