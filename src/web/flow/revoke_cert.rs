//! revokeCert (RFC 8555 section 7.6): passed on to the issuer as the client's own request, which is all it
//! believes. What is added is what only this process knows: that an account controls every identifier now.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::{Fault, Reply, Signed};
use crate::acme::authz::AuthzStatus;
use crate::acme::jws::Payload;
use crate::acme::problem::Problem;
use crate::acme::revocation::RevokeCert;
use crate::id::{AccountId, Timestamp};
use crate::ipc::message::{Revoke, Validation};
use crate::ipc::{Answer, AskError, Question};
use crate::pki::certificate::Certificate;
use crate::web::Server;

/// How long an answer waits for the issuer.
const PATIENCE: Duration = Duration::from_secs(10);
const AWAY: Duration = Duration::from_secs(5);

/// Signed with an account's key.
pub(super) async fn by_account(server: &Arc<Server>, signed: Signed) -> Result<Reply, Fault> {
    let request = RevokeCert::parse(signed.json()?)?;
    let account = signed.account.id;
    let validations = proofs(server, account, &request.certificate, signed.now).await?;
    ask(server, signed.jws, validations).await
}

/// Signed with the certificate's key.
pub(super) async fn by_key(
    server: &Arc<Server>,
    payload: Payload,
    jws: Bytes,
) -> Result<Reply, Fault> {
    let Payload::Json(payload) = payload else {
        return Err(Problem::malformed("revokeCert needs a payload").into());
    };
    RevokeCert::parse(&payload)?;
    ask(server, jws, Vec::new()).await
}

/// One for each identifier of the certificate, if the account has a valid authorization for every one.
async fn proofs(
    server: &Server,
    account: AccountId,
    certificate: &Certificate,
    now: Timestamp,
) -> Result<Vec<Validation>, Fault> {
    let identifiers = certificate.identifiers();
    let authorizations = server.store.valid_authorizations(account, &identifiers).await?;
    let proof = |identifier: &crate::pki::name::Identifier| {
        let found = authorizations.iter().find(|authorization| {
            authorization.covers(identifier) && authorization.status(now) == AuthzStatus::Valid
        });
        let (method, at) = found?.proof()?;
        Some(Validation { identifier: identifier.base(), method, at })
    };
    Ok(identifiers.iter().map(proof).collect::<Option<_>>().unwrap_or_default())
}

async fn ask(
    server: &Arc<Server>,
    jws: Bytes,
    validations: Vec<Validation>,
) -> Result<Reply, Fault> {
    let question = Question::Revoke(Box::new(Revoke { jws: jws.to_vec(), validations }));
    let answer = tokio::time::timeout(PATIENCE, server.issuer.ask(question)).await;
    match answer.unwrap_or(Err(AskError::Retry(AWAY))) {
        Ok(Answer::Revoked) => Ok(Reply::empty(StatusCode::OK).index()),
        Ok(_) => Err(Fault::Internal),
        Err(error) => Err(error.into()),
    }
}
