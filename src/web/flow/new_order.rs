//! newOrder (RFC 8555 section 7.4). What cannot be met exactly is refused, never altered.

use std::time::Duration;

use hyper::StatusCode;

use super::renewal::Predecessor;
use super::{Fault, Reply, Signed, order, permit, renewal, until_committed};
use crate::acme::authz::Authorization;
use crate::acme::order::{NewOrder, Placed, Terms};
use crate::acme::problem::Problem;
use crate::env::random_16;
use crate::id::Timestamp;
use crate::store::{Change, Version};
use crate::web::chains::Served;
use crate::web::{Server, limits};

pub(super) async fn answer(server: &Server, signed: Signed) -> Result<Reply, Fault> {
    let asked = NewOrder::parse(signed.json()?)?;
    let account = signed.account.id;
    permit::check_terms(server, &signed.account)?;
    let (names, profile) = (&asked.identifiers, asked.profile.as_deref());
    let profile = permit::check_tickets(server, account, names, profile).await?;
    let predecessor = renewal::predecessor(server, asked.replaces.as_deref()).await?;
    let renews = predecessor.as_ref().is_some_and(Predecessor::is_known);
    limits::order(server, &signed, &asked.identifiers, renews).await?;
    until_committed(async || {
        let reusable = server.store.valid_authorizations(account, &asked.identifiers).await?;
        let Placed { order, made } =
            place(server, asked.clone(), profile.as_deref(), &signed, &reusable)?;
        tracing::Span::current().record("order", tracing::field::display(order.id));
        let mut changes = Vec::with_capacity(2 + made.len());
        if let Some(predecessor) = &predecessor {
            changes.push(predecessor.replace(server, account, &order, signed.now).await?);
        }
        let mut authorizations = reusable;
        authorizations.extend(made.iter().cloned());
        let reply = order::object(server, StatusCode::CREATED, &order, &authorizations, signed.now);
        changes.push(Change::Order(order, Version::ABSENT));
        changes.extend(made.into_iter().map(|authz| Change::Authorization(authz, Version::ABSENT)));
        server.store.commit(changes).await?;
        server.metrics.order("created");
        Ok(reply)
    })
    .await
}

/// What this server gives, to whoever is to judge by it.
pub(super) fn with_terms<T>(
    server: &Server,
    default_profile: &str,
    judge: impl FnOnce(&Terms<'_>) -> T,
) -> T {
    judge(&Terms {
        profiles: &server.profiles,
        default_profile,
        challenges: server.validator.offered(),
        // The issuer asks the same policy again; refused here, a name costs nobody a probe.
        permits: &|name| server.policy.permits(name).map_err(|refusal| refusal.to_string()),
        subdomains: server.policy.subdomains(),
        lifetime: Duration::from_secs(server.settings.order_hours * 3600),
        issuer_ends: &|profile| {
            server.chains.newest(&profile.issuer).map_or_else(Timestamp::default, Served::ends)
        },
    })
}

fn place(
    server: &Server,
    asked: NewOrder,
    profile: Option<&str>,
    signed: &Signed,
    reusable: &[Authorization],
) -> Result<Placed, Problem> {
    let mut random = || random_16(&*server.rng);
    // An account's ticket may say another profile.
    with_terms(server, profile.unwrap_or(&server.default_profile), |terms| {
        asked.place(signed.account.id, terms, reusable, &mut random, signed.now)
    })
}
