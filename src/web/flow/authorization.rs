//! An authorization (RFC 8555 section 7.5).

use hyper::StatusCode;

use super::{Fault, Reply, Signed};
use crate::acme::authz::Authorization;
use crate::acme::challenge::ChallengeStatus;
use crate::acme::directory::Resource;
use crate::id::AuthzId;
use crate::store::Version;
use crate::web::Server;

pub(super) async fn answer(server: &Server, signed: Signed, id: AuthzId) -> Result<Reply, Fault> {
    // Deactivation, the one change a client can make, comes with the flows that follow.
    signed.only_get()?;
    let (authorization, _) = own(server, &signed, id).await?;
    let url = |challenge: &crate::acme::challenge::Challenge| {
        server.urls.url(Resource::Challenge(id, challenge.id))
    };
    let reply = Reply::object(StatusCode::OK, authorization.to_json(signed.now, &url));
    let rule = server.validator.retry_rule();
    let next = authorization
        .challenges
        .iter()
        .filter(|challenge| challenge.status() == ChallengeStatus::Processing)
        .filter_map(|challenge| challenge.next_attempt(rule))
        .min();
    Ok(match next {
        Some(next) => reply.retry_after(next.since(signed.now)),
        None => reply,
    })
}

/// The authorization, if it is the asker's.
pub(super) async fn own(
    server: &Server,
    signed: &Signed,
    id: AuthzId,
) -> Result<(Authorization, Version), Fault> {
    match server.store.authorization(id).await? {
        Some(found) if found.0.account == signed.account.id => Ok(found),
        _ => Err(Fault::missing()),
    }
}
