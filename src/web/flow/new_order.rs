//! newOrder (RFC 8555 section 7.4). What cannot be met exactly is refused, never altered.

use std::time::Duration;

use hyper::StatusCode;

use super::{Fault, Reply, Signed, order, permit};
use crate::acme::authz::Authorization;
use crate::acme::order::{NewOrder, Placed, Terms};
use crate::acme::problem::{Problem, ProblemType};
use crate::env::random_16;
use crate::store::{Change, Version};
use crate::web::Server;

pub(super) async fn answer(server: &Server, signed: Signed) -> Result<Reply, Fault> {
    let asked = NewOrder::parse(signed.json()?)?;
    permit::check_terms(server, &signed.account)?;
    server.orders.take(signed.account.id, server.clock.monotonic()).map_err(|wait| {
        let detail = "this account has placed all the orders it may in an hour";
        Fault::Limited(Problem::new(ProblemType::RateLimited, detail), wait)
    })?;
    let (names, profile) = (&asked.identifiers, asked.profile.as_deref());
    let profile = permit::check_tickets(server, signed.account.id, names, profile).await?;
    let reusable = server.store.valid_authorizations(signed.account.id, &asked.identifiers).await?;
    let Placed { order, made } = place(server, asked, profile.as_deref(), &signed, &reusable)?;
    tracing::Span::current().record("order", tracing::field::display(order.id));

    let mut authorizations = reusable;
    authorizations.extend(made.iter().cloned());
    let reply = order::object(server, StatusCode::CREATED, &order, &authorizations, signed.now);
    let mut changes = vec![Change::Order(order, Version::ABSENT)];
    changes.extend(made.into_iter().map(|authz| Change::Authorization(authz, Version::ABSENT)));
    server.store.commit(changes).await?;
    server.metrics.order("created");
    Ok(reply)
}

fn place(
    server: &Server,
    asked: NewOrder,
    profile: Option<&str>,
    signed: &Signed,
    reusable: &[Authorization],
) -> Result<Placed, Problem> {
    let terms = Terms {
        profiles: &server.profiles,
        // An account's ticket may say another one.
        default_profile: profile.unwrap_or(&server.default_profile),
        challenges: server.validator.offered(),
        // The issuer asks the same policy again; refused here, a name costs nobody a probe.
        permits: &|name| server.policy.permits(name).map_err(|refusal| refusal.to_string()),
        subdomains: server.policy.subdomains(),
        lifetime: Duration::from_secs(server.settings.order_hours * 3600),
        issuer_ends: server.issuing.validity().1,
    };
    let mut random = || random_16(&*server.rng);
    asked.place(signed.account.id, &terms, reusable, &mut random, signed.now)
}
