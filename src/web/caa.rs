//! CAA, asked again before issuance: what a record said at the validation counts for eight hours.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Server;
use crate::acme::authz::Authorization;
use crate::acme::directory::Resource;
use crate::acme::problem::{Problem, Subproblem};
use crate::id::Timestamp;
use crate::validate::CaaQuestion;

/// How long an answer may be relied on (the CA/Browser Forum's number; RFC 8659 leaves it to the CA).
pub(crate) const VALID_FOR: Duration = Duration::from_secs(8 * 3600);

/// Asks for each authorization that was not checked within [`VALID_FOR`]. `before` is an instant at which this
/// was done already, if it was. The problem is `caa`, with a part for each name at fault.
pub(crate) async fn recheck(
    server: &Arc<Server>,
    authorizations: &[Authorization],
    before: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Problem> {
    let mut questions = JoinSet::new();
    for authorization in authorizations {
        let proof = authorization.proof();
        let stale = |at: Timestamp, then: Timestamp| then.since(at) > VALID_FOR;
        let checked = match (proof, before) {
            (Some((_, at)), Some(before)) if stale(at, before) => Some(before),
            (Some((_, at)), _) => Some(at),
            (None, before) => before,
        };
        if checked.is_some_and(|at| !stale(at, now)) {
            continue;
        }
        let question = CaaQuestion {
            identifier: authorization.identifier.clone(),
            wildcard: authorization.wildcard,
            account_url: server.urls.url(Resource::Account(authorization.account)),
            method: proof.map(|(method, _)| method),
        };
        let validator = server.validator.clone();
        questions.spawn(async move {
            let answer = validator.check_caa(&question).await;
            answer.map_err(|why| Subproblem::of(why.kind, why.detail, &question.identifier))
        });
    }
    let answers = questions.join_all().await;
    let refused: Vec<Subproblem> = answers.into_iter().filter_map(Result::err).collect();
    if refused.is_empty() { Ok(()) } else { Err(Problem::compound(refused)) }
}
