//! CAA (RFC 8659) with account and method bindings (RFC 8657), in the zones where it is obeyed.

use super::Validator;
use crate::acme::challenge::ChallengeType;
use crate::acme::issue_value::IssueValue;
use crate::acme::problem::{Problem, ProblemType};
use crate::env::net::{CaaRecord, ResolveError};
use crate::pki::name::Identifier;

/// For what a certificate would be issued, and to whom.
#[derive(Clone, Debug)]
pub struct CaaQuestion {
    /// Without `*.`.
    pub identifier: Identifier,
    pub wildcard: bool,
    pub account_url: String,
    /// How control was proven; `None` if it was granted without proof.
    pub method: Option<ChallengeType>,
}

/// Climbs from the name to its top-level domain; the first records found decide (RFC 8659 section 3). What
/// cannot be looked up forbids: an attacker who suppresses an answer must gain nothing by it.
pub(super) async fn check(validator: &Validator, question: &CaaQuestion) -> Result<(), Problem> {
    let Identifier::Dns(domain) = &question.identifier else { return Ok(()) };
    let obeyed = |zone: &Option<_>| zone.as_ref().is_none_or(|zone| domain.is_within(zone));
    if !validator.caa_zones.iter().any(obeyed) {
        return Ok(());
    }
    let mut at = domain.base();
    loop {
        match validator.resolver.caa(at).await {
            Ok(records) if !records.is_empty() => {
                let identities = &validator.settings.caa_identities;
                return judge(&records, identities, question).map_err(|why| {
                    Problem::new(ProblemType::Caa, format!("the CAA records of {at} {why}"))
                });
            }
            // Multicast DNS has nobody above a host who could say this.
            Ok(_) | Err(ResolveError::NoSuchName | ResolveError::Multicast) => {}
            Err(error) => {
                tracing::info!(name = at, ?error, "CAA cannot be looked up");
                let detail =
                    format!("looking up the CAA records of {at} failed, which forbids issuance");
                return Err(Problem::new(ProblemType::Caa, detail));
            }
        }
        match at.split_once('.') {
            Some((_, parent)) => at = parent,
            None => return Ok(()),
        }
    }
}

/// Whether records that are there let one of `identities` issue. The error continues the sentence "the CAA
/// records of a.lan …".
pub fn judge(
    records: &[CaaRecord],
    identities: &[String],
    question: &CaaQuestion,
) -> Result<(), String> {
    let is = |record: &CaaRecord, tag: &str| record.tag.eq_ignore_ascii_case(tag);
    let unknown = |record: &&CaaRecord| !KNOWN.iter().any(|tag| is(record, tag));
    if records.iter().filter(unknown).any(|record| record.critical) {
        return Err("have a critical property that this server does not know".to_owned());
    }
    let wild = question.wildcard && records.iter().any(|record| is(record, "issuewild"));
    let tag = if wild { "issuewild" } else { "issue" };
    let mut restricting = records.iter().filter(|record| is(record, tag)).peekable();
    if restricting.peek().is_none() {
        return Ok(());
    }
    let mut closest = Miss::Issuer;
    for record in restricting {
        match permits(record, identities, question) {
            Ok(()) => return Ok(()),
            Err(miss) => closest = closest.max(miss),
        }
    }
    Err(match closest {
        Miss::Issuer => format!("do not permit this server ({})", identities.join(", ")),
        Miss::Repeated => {
            "have a parameter twice in the property that names this server".to_owned()
        }
        Miss::Account => {
            format!("permit this server for another account than {}", question.account_url)
        }
        Miss::Method => match question.method {
            Some(method) => format!("permit this server, but not with {method}"),
            None => "permit this server only with a validation, and there was none".to_owned(),
        },
    })
}

/// Why a property does not authorize; the later, the closer it came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    Issuer,
    Repeated,
    Account,
    Method,
}

fn permits(record: &CaaRecord, identities: &[String], question: &CaaQuestion) -> Result<(), Miss> {
    // What is malformed names nobody (RFC 8659 section 4.2).
    let value = IssueValue::parse(&record.value).map_err(|_| Miss::Issuer)?;
    if !value.issuer.as_ref().is_some_and(|issuer| identities.contains(issuer)) {
        return Err(Miss::Issuer);
    }
    let parameter = |tag| value.parameter(tag).map_err(|_| Miss::Repeated);
    let account = parameter("accounturi")?;
    let methods = parameter("validationmethods")?;
    if account.is_some_and(|uri| uri != question.account_url) {
        return Err(Miss::Account);
    }
    if let Some(methods) = methods {
        let method = question.method.ok_or(Miss::Method)?.name();
        if !methods.split(',').any(|listed| listed == method) {
            return Err(Miss::Method);
        }
    }
    Ok(())
}

/// Properties this server knows, those included that say nothing about it.
const KNOWN: [&str; 6] =
    ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"];

#[cfg(test)]
mod tests;
