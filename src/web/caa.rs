//! CAA, asked again before issuance: what a record said at the validation counts for eight hours.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Server;
use crate::acme::authz::Authorization;
use crate::acme::directory::Resource;
use crate::acme::order::Order;
use crate::acme::problem::{Problem, Subproblem};
use crate::id::Timestamp;
use crate::validate::CaaQuestion;

/// How long an answer may be relied on (the CA/Browser Forum's number; RFC 8659 leaves it to the CA).
pub(crate) const VALID_FOR: Duration = Duration::from_secs(8 * 3600);

/// Asks for each name of an order that was not asked for within [`VALID_FOR`]: when it was proven, or at `before`, an
/// instant at which this was done already. The problem is `caa`, with a part for each name at fault.
pub(crate) async fn recheck(
    server: &Arc<Server>,
    order: &Order,
    authorizations: &[Authorization],
    before: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Problem> {
    let mut questions = JoinSet::new();
    for identifier in &order.identifiers {
        let authorization = authorizations.iter().find(|authz| authz.covers(identifier));
        let proof = authorization.and_then(Authorization::proof);
        // What was asked when an ancestor was proven (RFC 9444) was asked of the ancestor's records.
        let own = authorization.is_some_and(|authz| authz.identifier == identifier.base());
        let proven = proof.filter(|_| own).map(|(_, at)| at);
        let stale = |at: Timestamp, then: Timestamp| then.since(at) > VALID_FOR;
        let checked = match (proven, before) {
            (Some(at), Some(before)) if stale(at, before) => Some(before),
            (Some(at), _) => Some(at),
            (None, before) => before,
        };
        if checked.is_some_and(|at| !stale(at, now)) {
            continue;
        }
        let question = CaaQuestion {
            identifier: identifier.base(),
            wildcard: identifier.is_wildcard(),
            account_url: server.urls.url(Resource::Account(order.account)),
            method: proof.map(|(method, _)| method),
        };
        let (validator, identifier) = (server.validator.clone(), identifier.clone());
        questions.spawn(async move {
            let answer = validator.check_caa(&question).await;
            answer.map_err(|why| Subproblem::of(why.kind, why.detail, &identifier))
        });
    }
    let answers = questions.join_all().await;
    let refused: Vec<Subproblem> = answers.into_iter().filter_map(Result::err).collect();
    if refused.is_empty() { Ok(()) } else { Err(Problem::compound(refused)) }
}
