//! An account and the list of its orders (RFC 8555 sections 7.1.2 and 7.1.2.1).

use hyper::StatusCode;

use super::{Fault, Reply, Signed, new_account};
use crate::acme::directory::Resource;
use crate::acme::jws::Payload;
use crate::acme::order::OrderStatus;
use crate::acme::problem::Problem;
use crate::id::{AccountId, OrderId};
use crate::web::Server;
use crate::web::flow::order::authorizations;

/// Orders on one page of the list.
const PAGE: usize = 50;

/// POST-as-GET. Changes of contacts, keys and status are refused and said to be, never ignored.
pub(super) fn answer(server: &Server, signed: Signed, id: AccountId) -> Result<Reply, Fault> {
    if signed.account.id != id {
        return Err(Fault::missing());
    }
    if let Payload::Json(payload) = &signed.payload {
        let asked: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload)
            .map_err(|_| Problem::malformed("the payload is not a JSON object"))?;
        if asked.contains_key("contact") || asked.contains_key("status") {
            return Err(Problem::malformed("this server does not change accounts yet").into());
        }
    }
    Ok(new_account::object(server, StatusCode::OK, &signed.account))
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
