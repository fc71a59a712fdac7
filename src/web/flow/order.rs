//! An order (RFC 8555 section 7.1.3).

use hyper::StatusCode;

use super::{Fault, Reply, Signed};
use crate::acme::authz::Authorization;
use crate::acme::directory::Resource;
use crate::acme::order::{Order, OrderStatus};
use crate::id::{OrderId, Timestamp};
use crate::store::OrderFacts;
use crate::web::Server;

pub(super) async fn answer(server: &Server, signed: Signed, id: OrderId) -> Result<Reply, Fault> {
    signed.only_get()?;
    let facts = own(server, &signed, id).await?;
    let authorizations = authorizations(&facts);
    Ok(object(server, StatusCode::OK, &facts.order, &authorizations, signed.now))
}

/// The order, if it is the asker's.
pub(super) async fn own(
    server: &Server,
    signed: &Signed,
    id: OrderId,
) -> Result<OrderFacts, Fault> {
    match server.store.order(id).await? {
        Some(facts) if facts.order.account == signed.account.id => {
            tracing::Span::current().record("order", tracing::field::display(id));
            Ok(facts)
        }
        _ => Err(Fault::missing()),
    }
}

pub(super) fn authorizations(facts: &OrderFacts) -> Vec<Authorization> {
    facts.authorizations.iter().map(|(authorization, _)| authorization.clone()).collect()
}

/// The order object with its URL.
pub(super) fn object(
    server: &Server,
    status: StatusCode,
    order: &Order,
    authorizations: &[Authorization],
    now: Timestamp,
) -> Reply {
    let json = order.to_json(authorizations, now, &server.urls);
    let reply = Reply::object(status, json).location(&server.urls.url(Resource::Order(order.id)));
    match order.status(authorizations, now) {
        // When all that wait now are likely to have theirs.
        OrderStatus::Processing => reply.come_back(server, server.issuances.expected()),
        _ => reply,
    }
}
