//! newOrder (RFC 8555 section 7.4). What cannot be met exactly is refused, never altered.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use hyper::StatusCode;

use super::{Fault, Reply, Signed, order};
use crate::acme::authz::Authorization;
use crate::acme::challenge::{Challenge, ChallengeType};
use crate::acme::order::{NewOrder, Order};
use crate::acme::problem::{Problem, ProblemType, Subproblem};
use crate::env::random_16;
use crate::id::{AuthzId, ChallengeId, OrderId, Timestamp};
use crate::pki::certificate::Certificate;
use crate::pki::name::Identifier;
use crate::pki::policy::Policy;
use crate::pki::profile::Profile;
use crate::store::{Change, Version};
use crate::web::Server;

/// How far ahead of now a certificate may begin.
const LATEST_START: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn answer(server: &Arc<Server>, signed: Signed) -> Result<Reply, Fault> {
    let asked = NewOrder::parse(signed.json()?)?;
    let profile = choose_profile(server, asked.profile.as_deref())?;
    check_names(&server.policy, profile, &asked.identifiers)?;
    check_validity(profile, &server.issuing, &asked, signed.now)?;

    let expires = signed.now.plus(Duration::from_secs(server.settings.order_hours * 3600));
    let authorizations: Vec<Authorization> = asked
        .identifiers
        .iter()
        .map(|identifier| {
            let challenges =
                offered(identifier).iter().map(|kind| challenge(server, *kind)).collect();
            let id = AuthzId(random_16(&*server.rng));
            let account = signed.account.id;
            Authorization::new(id, account, identifier, challenges, signed.now, expires)
        })
        .collect();
    let order = Order {
        id: OrderId(random_16(&*server.rng)),
        account: signed.account.id,
        identifiers: asked.identifiers,
        authorizations: authorizations.iter().map(|authorization| authorization.id).collect(),
        profile: profile.name.clone(),
        not_before: asked.not_before,
        not_after: asked.not_after,
        replaces: asked.replaces,
        created: signed.now,
        expires,
        finalize: None,
        outcome: None,
    };
    tracing::Span::current().record("order", tracing::field::display(order.id));
    let reply = order::object(server, StatusCode::CREATED, &order, &authorizations, signed.now);
    let mut changes = vec![Change::Order(order, Version::ABSENT)];
    changes.extend(
        authorizations
            .into_iter()
            .map(|authorization| Change::Authorization(authorization, Version::ABSENT)),
    );
    server.store.commit(changes).await?;
    server.metrics.order("created");
    Ok(reply)
}

/// draft-ietf-acme-profiles: the one asked for, or the default.
fn choose_profile<'a>(server: &'a Server, name: Option<&str>) -> Result<&'a Profile, Problem> {
    let name = name.unwrap_or(&server.default_profile);
    server.profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
        Problem::new(ProblemType::InvalidProfile, "the directory does not list this profile")
    })
}

/// Refuses early what the issuer would refuse, naming each identifier.
fn check_names(
    policy: &Policy,
    profile: &Profile,
    identifiers: &[Identifier],
) -> Result<(), Problem> {
    if identifiers.len() > profile.max_names {
        let detail = format!("the profile allows at most {} identifiers", profile.max_names);
        return Err(Problem::malformed(detail));
    }
    let refused: Vec<Subproblem> = identifiers
        .iter()
        .filter_map(|identifier| {
            let detail = match policy.permits(identifier) {
                Err(refusal) => refusal.to_string(),
                Ok(()) if offered(identifier).is_empty() => {
                    "no challenge of this server can prove a wildcard".to_owned()
                }
                Ok(()) => return None,
            };
            Some(Subproblem::of(ProblemType::RejectedIdentifier, detail, identifier))
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(Problem::compound(refused)) }
}

/// notBefore and notAfter: within the profile's lifetime and the issuer's, and not in the past.
fn check_validity(
    profile: &Profile,
    issuing: &Certificate,
    asked: &NewOrder,
    now: Timestamp,
) -> Result<(), Problem> {
    if asked.not_before.is_none() && asked.not_after.is_none() {
        return Ok(());
    }
    let backdate = Duration::from_secs(u64::from(profile.backdate_minutes) * 60);
    let earliest = now.minus(backdate);
    let begins = asked.not_before.unwrap_or(earliest);
    if begins < earliest {
        return Err(Problem::malformed(format!("notBefore is earlier than {earliest}")));
    }
    if begins > now.plus(LATEST_START) {
        return Err(Problem::malformed("notBefore is more than a day ahead"));
    }
    let Some(ends) = asked.not_after else { return Ok(()) };
    if ends <= begins || ends <= now {
        return Err(Problem::malformed("notAfter is not after notBefore and now"));
    }
    if ends.since(begins) >= profile.lifetime() {
        let hours = profile.lifetime_hours;
        return Err(Problem::malformed(format!("the profile allows at most {hours} hours")));
    }
    if ends > issuing.validity().1 {
        return Err(Problem::malformed(
            "notAfter is later than the end of the issuing certificate",
        ));
    }
    Ok(())
}

/// The challenges that can prove an identifier: a wildcard cannot be proved over HTTP.
fn offered(identifier: &Identifier) -> &'static [ChallengeType] {
    if identifier.is_wildcard() { &[] } else { &[ChallengeType::Http01] }
}

fn challenge(server: &Server, kind: ChallengeType) -> Challenge {
    let mut token = [0; 32];
    server.rng.fill(&mut token);
    Challenge {
        id: ChallengeId(random_16(&*server.rng)),
        kind,
        token: Base64UrlUnpadded::encode_string(&token),
        response: None,
        failures: Vec::new(),
        outcome: None,
    }
}
