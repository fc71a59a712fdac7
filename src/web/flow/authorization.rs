//! An authorization (RFC 8555 section 7.5).

use hyper::StatusCode;

use super::{Fault, Reply, Signed, until_committed};
use crate::acme::authz::Authorization;
use crate::acme::challenge::Challenge;
use crate::acme::directory::Resource;
use crate::acme::jws::Payload;
use crate::acme::problem::Problem;
use crate::id::{AuthzId, Timestamp};
use crate::store::{Change, Version};
use crate::web::Server;

/// Reads it with POST-as-GET, or gives it up (RFC 8555 section 7.5.2).
pub(super) async fn answer(server: &Server, signed: Signed, id: AuthzId) -> Result<Reply, Fault> {
    if let Payload::Json(payload) = &signed.payload {
        #[derive(serde::Deserialize)]
        struct Update {
            status: String,
        }
        let update = serde_json::from_slice(payload);
        if !matches!(update, Ok(Update { status }) if status == "deactivated") {
            return Err(Problem::malformed("an authorization can only be deactivated").into());
        }
        return until_committed(async || {
            let (mut authorization, version) = own(server, &signed, id).await?;
            if authorization.deactivate(signed.now) {
                let change = Change::Authorization(authorization.clone(), version);
                server.store.commit(vec![change]).await?;
            }
            Ok(object(server, StatusCode::OK, &authorization, signed.now))
        })
        .await;
    }
    let (authorization, _) = own(server, &signed, id).await?;
    Ok(object(server, StatusCode::OK, &authorization, signed.now))
}

/// The authorization object.
pub(super) fn object(
    server: &Server,
    status: StatusCode,
    authorization: &Authorization,
    now: Timestamp,
) -> Reply {
    let url = |challenge: &Challenge| {
        server.urls.url(Resource::Challenge(authorization.id, challenge.id))
    };
    let issuers = server.validator.issuer_domain_names();
    let reply = Reply::object(status, authorization.to_json(now, &url, issuers));
    match authorization.next_attempt(server.validator.retry_rule()) {
        Some((next, _)) => reply.retry_after(next.since(now)),
        None => reply,
    }
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
