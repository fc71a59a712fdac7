//! newOrder (RFC 8555 section 7.4): what is asked for, and the order and authorizations it makes.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Order;
use crate::acme::authz::{Authorization, AuthzStatus};
use crate::acme::challenge::{Challenge, ChallengeType};
use crate::acme::json::{self, Object};
use crate::acme::problem::{NamedIdentifier, Problem, ProblemType, Subproblem};
use crate::acme::rfc3339;
use crate::id::{AccountId, AuthzId, ChallengeId, OrderId, Timestamp};
use crate::pki::name::{Identifier, NameError};
use crate::pki::profile::Profile;

/// A parsed newOrder payload (RFC 8555 section 7.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewOrder {
    pub identifiers: Vec<Identifier>,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
}

/// What this server gives an account: everything an order is judged by.
pub struct Terms<'a> {
    /// The profiles that may be asked for.
    pub profiles: &'a [Profile],
    /// The name of the one that is meant when none is asked for.
    pub default_profile: &'a str,
    /// The challenge types that are offered, the preferred one first.
    pub challenges: &'a [ChallengeType],
    /// The name policy: `Err` says, fit for the client, why a name is refused.
    pub permits: &'a dyn Fn(&Identifier) -> Result<(), String>,
    /// How long an order, and an authorization, stays pending.
    pub lifetime: Duration,
    /// The end of the issuing certificate, which no certificate outlives.
    pub issuer_ends: Timestamp,
}

/// An order, and the authorizations that were made for it beside those it reuses. To be stored at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    pub order: Order,
    pub made: Vec<Authorization>,
}

impl NewOrder {
    /// An order has at most this many identifiers.
    pub const MAX_IDENTIFIERS: usize = 100;

    /// Parses; duplicates are merged, unknown types give `unsupportedIdentifier` subproblems,
    /// bad names `malformed` ones. At most 100 identifiers. What could not be met exactly (RFC 8739's
    /// auto-renewal, RFC 9115's delegation) is refused, not ignored.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        let members: Members = json::object(payload)
            .map_err(|_| Problem::malformed("the payload is not a newOrder object"))?;
        if members.auto_renewal.is_some() || members.delegation.is_some() {
            return Err(Problem::malformed("auto-renewal and delegation are not supported"));
        }
        if members.identifiers.is_empty() {
            return Err(Problem::malformed("an order needs at least one identifier"));
        }
        if members.identifiers.len() > Self::MAX_IDENTIFIERS {
            return Err(Problem::malformed("an order has at most 100 identifiers"));
        }
        let mut identifiers = Vec::with_capacity(members.identifiers.len());
        let mut refused = Vec::new();
        for Object(named) in members.identifiers {
            match Identifier::parse(&named.kind, &named.value) {
                Ok(identifier) if identifiers.contains(&identifier) => {}
                Ok(identifier) => identifiers.push(identifier),
                Err(why) => refused.push(Subproblem {
                    kind: match why {
                        NameError::UnsupportedType => ProblemType::UnsupportedIdentifier,
                        _ => ProblemType::Malformed,
                    },
                    detail: why.to_string(),
                    identifier: Some(shortened(named)),
                }),
            }
        }
        if !refused.is_empty() {
            return Err(Problem::compound(refused));
        }
        Ok(Self {
            identifiers,
            not_before: instant(members.not_before.as_deref())?,
            not_after: instant(members.not_after.as_deref())?,
            profile: members.profile,
            replaces: members.replaces.map(cert_id).transpose()?,
        })
    }

    /// Places the order. `reusable` are authorizations that may serve it; those of another account, for
    /// other identifiers, not valid or about to expire are passed over. `random` gives fresh octets for
    /// ids and tokens. Refuses what cannot be met exactly, with a subproblem for each identifier at fault.
    pub fn place(
        self,
        account: AccountId,
        terms: &Terms<'_>,
        reusable: &[Authorization],
        random: &mut dyn FnMut() -> [u8; 16],
        now: Timestamp,
    ) -> Result<Placed, Problem> {
        let profile = self.profile(terms)?;
        self.check_times(profile, terms, now)?;
        if self.identifiers.len() > profile.max_names {
            return Err(Problem::malformed(format!(
                "profile {} has at most {} identifiers in a certificate",
                profile.name, profile.max_names
            )));
        }

        let mut refused = Vec::new();
        let mut authorizations: Vec<AuthzId> = Vec::with_capacity(self.identifiers.len());
        let mut made: Vec<Authorization> = Vec::new();
        let id = OrderId(random());
        let mut expires = now.plus(terms.lifetime);
        for identifier in &self.identifiers {
            let mut refuse = |why: String| {
                refused.push(Subproblem::of(ProblemType::RejectedIdentifier, why, identifier));
            };
            if let Err(why) = (terms.permits)(identifier) {
                refuse(why);
                continue;
            }
            let reused = reusable.iter().find(|authz| {
                authz.account == account
                    && authz.covers(identifier)
                    && authz.status(now) == AuthzStatus::Valid
                    && authz.expires > now.plus(REUSE_MARGIN)
            });
            if let Some(authz) = reused {
                expires = expires.min(authz.expires);
                authorizations.push(authz.id);
                continue;
            }
            let challenges: Vec<Challenge> = terms
                .challenges
                .iter()
                .filter(|kind| kind.proves(identifier))
                .map(|kind| Challenge::new(ChallengeId(random()), *kind, random()))
                .collect();
            if challenges.is_empty() {
                refuse("this server offers no challenge that could prove it".to_owned());
                continue;
            }
            let authz = AuthzId(random());
            let lapses = now.plus(terms.lifetime);
            made.push(Authorization::new(authz, account, identifier, challenges, now, lapses));
            authorizations.push(authz);
        }
        if !refused.is_empty() {
            return Err(Problem::compound(refused));
        }
        let order = Order {
            id,
            account,
            identifiers: self.identifiers,
            authorizations,
            profile: profile.name.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            replaces: self.replaces,
            created: now,
            expires,
            finalize: None,
            outcome: None,
        };
        Ok(Placed { order, made })
    }

    fn profile<'a>(&self, terms: &Terms<'a>) -> Result<&'a Profile, Problem> {
        let name = self.profile.as_deref().unwrap_or(terms.default_profile);
        terms.profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
            let detail = "this server has no such profile; the directory lists those it has";
            Problem::new(ProblemType::InvalidProfile, detail)
        })
    }

    /// RFC 8555 section 7.4: refuse what cannot be met exactly, never alter it.
    fn check_times(
        &self,
        profile: &Profile,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let refused = |why: &str| Err(Problem::malformed(why));
        let whole = |at: &Option<Timestamp>| at.is_none_or(|at| at.0 % 1000 == 0);
        if !whole(&self.not_before) || !whole(&self.not_after) {
            return refused("notBefore and notAfter of a certificate are whole seconds");
        }
        let backdate = Duration::from_secs(u64::from(profile.backdate_minutes) * 60);
        let earliest = now.minus(backdate);
        let begins = self.not_before.unwrap_or(earliest);
        if begins < earliest {
            return refused("notBefore is further in the past than the profile backdates");
        }
        if begins > now.plus(LATEST_START) {
            return refused("notBefore is more than a day ahead");
        }
        let Some(ends) = self.not_after else {
            return Ok(());
        };
        if ends <= begins.max(now) {
            return refused("notAfter is not after notBefore and now");
        }
        // notAfter is the last second that counts.
        if ends.since(begins) >= profile.lifetime() {
            return refused("notAfter is later than the profile's lifetime allows");
        }
        if ends > terms.issuer_ends {
            return refused("notAfter is later than the end of the issuing certificate");
        }
        Ok(())
    }
}

/// `auto-renewal` and `delegation` are known so that they can be refused; others are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    identifiers: Vec<Object<NamedIdentifier>>,
    #[serde(default)]
    not_before: Option<String>,
    #[serde(default)]
    not_after: Option<String>,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    replaces: Option<String>,
    #[serde(default, rename = "auto-renewal")]
    auto_renewal: Option<IgnoredAny>,
    #[serde(default)]
    delegation: Option<IgnoredAny>,
}

/// How far ahead of now a certificate may begin.
const LATEST_START: Duration = Duration::from_secs(24 * 3600);

/// A valid authorization that expires sooner is not reused: the order would hardly outlive its answer.
const REUSE_MARGIN: Duration = Duration::from_secs(3600);

fn instant(text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    text.map(|text| {
        rfc3339::parse(text)
            .ok_or_else(|| Problem::malformed("notBefore and notAfter are RFC 3339 instants"))
    })
    .transpose()
}

/// RFC 9773 section 4.1, of any issuer: two base64url values with a dot between.
fn cert_id(text: String) -> Result<String, Problem> {
    let part = |part: &str| {
        (1..=86).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match text.split_once('.') {
        Some((issuer, serial)) if part(issuer) && part(serial) => Ok(text),
        _ => Err(Problem::malformed("replaces is not the identifier of a certificate")),
    }
}

/// What is sent back of an identifier that is no name.
fn shortened(named: NamedIdentifier) -> NamedIdentifier {
    let cut = |text: String| match text.char_indices().nth(MAX_ECHO) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    };
    NamedIdentifier { kind: cut(named.kind), value: cut(named.value) }
}

/// Longer than any name, in characters.
const MAX_ECHO: usize = 256;
