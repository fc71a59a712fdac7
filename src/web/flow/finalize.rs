//! finalize (RFC 8555 section 7.4). The request itself is stored first: that fact is `processing`, and
//! whatever happens after it the issuer is asked until it has answered.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use super::order::{authorizations, object, own};
use super::{Fault, Reply, Signed, until_committed};
use crate::acme::jws::{Jwk, Jws, Payload};
use crate::acme::order::{FinalizeDecision, Order};
use crate::acme::problem::{Problem, ProblemType};
use crate::id::OrderId;
use crate::pki::csr::Csr;
use crate::store::{Change, OrderFacts, Version};
use crate::web::{Server, caa, issuance};

/// How long an answer waits for the issuer before it says `processing`.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asked again after it was accepted, it answers with the order as it is: a retry after a lost answer.
/// Asked for another key it refuses, or the client would pair that key with another's certificate.
pub(super) async fn answer(
    server: &Arc<Server>,
    signed: Signed,
    id: OrderId,
) -> Result<Reply, Fault> {
    let csr = Order::parse_finalize(signed.json()?)?;
    let decided = until_committed(async || {
        let mut facts = own(server, &signed, id).await?;
        let authorizations = authorizations(&facts);
        match facts.order.finalize(&authorizations, &csr, signed.now)? {
            FinalizeDecision::AlreadyProcessing if repeats(&facts.order, &csr) => {
                return Ok((facts, false));
            }
            FinalizeDecision::AlreadyProcessing => {
                let detail = "this order was finalized with another CSR";
                return Err(Problem::new(ProblemType::OrderNotReady, detail).into());
            }
            FinalizeDecision::Accept => {}
        }
        check_key(server, &facts.order, &csr).await?;
        caa::recheck(server, &facts.order, &authorizations, None, signed.now).await?;
        facts.order.accept(signed.jws.to_vec(), signed.now);
        // One commit: what it rests on is still as it was judged, or this is decided again.
        let held = facts.authorizations.iter().map(|(a, version)| Change::Holds(a.id, *version));
        let mut changes = vec![Change::Order(facts.order.clone(), facts.version)];
        changes.extend(held);
        server.store.commit(changes).await?;
        facts.version = Version(facts.version.0 + 1);
        Ok((facts, true))
    })
    .await?;
    let (mut facts, accepted) = decided;
    if accepted {
        server.metrics.order("finalized");
        facts = issued(server, facts).await;
    }
    // Read again: the certificate may have become valid after the request began.
    let now = server.clock.now();
    Ok(object(server, StatusCode::OK, &facts.order, &authorizations(&facts), now))
}

/// Has the issuer asked, and waits a little for what it says.
async fn issued(server: &Arc<Server>, facts: OrderFacts) -> OrderFacts {
    let Some(outcome) = issuance::start(server, facts.clone()) else { return facts };
    match tokio::time::timeout(PATIENCE, outcome).await {
        Ok(Ok(order)) => OrderFacts { order, ..facts },
        _ => facts,
    }
}

/// Whether the order was finalized with this key and these names.
fn repeats(order: &Order, csr: &Csr) -> bool {
    let accepted = order.finalize.as_ref().and_then(|accepted| {
        // Verified when it was accepted, under a key that the account may have changed since.
        match Jws::parse(&accepted.jws).ok()?.verified_before() {
            Payload::Json(payload) => Order::parse_finalize(payload).ok(),
            Payload::PostAsGet => None,
        }
    });
    accepted.as_ref() == Some(csr)
}

/// The key must be one the profile certifies, and no account's: whoever has that could sign requests with
/// it (RFC 8555 section 11.1). The issuer asks again, but its refusal ends the order; this leaves it ready.
async fn check_key(server: &Server, order: &Order, csr: &Csr) -> Result<(), Fault> {
    let refuse = |detail: &str| Err(Problem::new(ProblemType::BadCsr, detail).into());
    if let Some(jwk) = Jwk::from_public_key(csr.key().clone())
        && server.store.account_by_key(jwk.thumbprint()).await?.is_some()
    {
        return refuse("the CSR's key is an account's key");
    }
    match server.profiles.iter().find(|profile| profile.name == order.profile) {
        None => Err(Problem::new(ProblemType::InvalidProfile, "the profile was withdrawn").into()),
        Some(profile) if !profile.accepts(csr.key().kind()) => {
            refuse("the profile does not certify keys of this kind")
        }
        Some(_) => Ok(()),
    }
}
