//! A challenge and the client's response to it (RFC 8555 section 7.5.1).

use std::sync::Arc;

use hyper::StatusCode;

use super::authorization::own;
use super::{Fault, Reply, Signed, until_committed};
use crate::acme::challenge::{Challenge, ChallengeStatus};
use crate::acme::directory::Resource;
use crate::acme::jws::Payload;
use crate::acme::problem::Problem;
use crate::id::{AuthzId, ChallengeId};
use crate::web::{Server, validation};

/// POST-as-GET reads; any JSON object is the response, and a second one asks for a retry now. A
/// challenge that is decided, or whose authorization is, stays as it is.
pub(super) async fn answer(
    server: &Arc<Server>,
    signed: Signed,
    authz: AuthzId,
    id: ChallengeId,
) -> Result<Reply, Fault> {
    let Payload::Json(payload) = &signed.payload else {
        let (authorization, _) = own(server, &signed, authz).await?;
        let challenge = authorization.challenge(id).ok_or_else(Fault::missing)?;
        return Ok(object(server, &signed, authz, challenge));
    };
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload)
        .map_err(|_| Problem::malformed("the response is not a JSON object"))?;
    let rule = server.validator.retry_rule();
    until_committed(async || {
        let (mut authorization, version) = own(server, &signed, authz).await?;
        if authorization.challenge(id).is_none() {
            return Err(Fault::missing());
        }
        let thumbprint = signed.account.key.thumbprint();
        if authorization.respond(id, thumbprint, rule, signed.now)? {
            authorization = validation::respond(server, authorization, version, id).await?;
        }
        let challenge = authorization.challenge(id).ok_or_else(Fault::missing)?;
        Ok(object(server, &signed, authz, challenge))
    })
    .await
}

fn object(server: &Server, signed: &Signed, authz: AuthzId, challenge: &Challenge) -> Reply {
    let url = server.urls.url(Resource::Challenge(authz, challenge.id));
    let reply = Reply::object(
        StatusCode::OK,
        challenge.to_json(&url, server.validator.issuer_domain_names()),
    )
    .link(&server.urls.url(Resource::Authz(authz)), "up");
    if challenge.status() != ChallengeStatus::Processing {
        return reply;
    }
    match challenge.next_attempt(server.validator.retry_rule()) {
        Some(next) => reply.retry_after(next.since(signed.now)),
        None => reply,
    }
}
