//! newAuthz (RFC 8555 section 7.4.1): an authorization before there is an order.

use hyper::StatusCode;

use super::authorization::object;
use super::{Fault, Reply, Signed, new_order, permit};
use crate::acme::authz::{Authorization, AuthzStatus, NewAuthz};
use crate::acme::directory::Resource;
use crate::env::random_16;
use crate::id::Timestamp;
use crate::store::{Change, Version};
use crate::web::{Server, limits};

/// 201 with a new one, or 200 with the one that the account has already, valid or pending.
pub(super) async fn answer(server: &Server, signed: Signed) -> Result<Reply, Fault> {
    let asked = NewAuthz::parse(signed.json()?)?;
    let (account, now) = (signed.account.id, signed.now);
    permit::check_terms(server, &signed.account)?;
    let name = std::slice::from_ref(&asked.identifier);
    permit::check_tickets(server, account, name, None).await?;
    let mut random = || random_16(&*server.rng);
    let made = new_order::with_terms(server, &server.default_profile, |terms| {
        asked.place(account, terms, &mut random, now)
    })?;
    if let Some(present) = present(server, &made, now).await? {
        return Ok(located(server, StatusCode::OK, &present, now));
    }
    limits::order(server, &signed, name, false).await?;
    server.store.commit(vec![Change::Authorization(made.clone(), Version::ABSENT)]).await?;
    Ok(located(server, StatusCode::CREATED, &made, now))
}

/// What makes a new one needless.
async fn present(
    server: &Server,
    made: &Authorization,
    now: Timestamp,
) -> Result<Option<Authorization>, Fault> {
    let name = std::slice::from_ref(&made.identifier);
    let valid = server.store.valid_authorizations(made.account, name).await?;
    let valid = valid.into_iter().find(|authz| {
        authz.identifier == made.identifier
            && (authz.subdomains || !made.subdomains)
            && authz.status(now) == AuthzStatus::Valid
    });
    if valid.is_some() {
        return Ok(valid);
    }
    let store = &server.store;
    let pending =
        store.pending_authorization(made.account, &made.identifier, made.subdomains).await?;
    Ok(pending.filter(|authz| authz.status(now) == AuthzStatus::Pending))
}

fn located(
    server: &Server,
    status: StatusCode,
    authorization: &Authorization,
    now: Timestamp,
) -> Reply {
    let url = server.urls.url(Resource::Authz(authorization.id));
    object(server, status, authorization, now).location(&url)
}
