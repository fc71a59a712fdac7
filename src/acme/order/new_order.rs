//! newOrder (RFC 8555 section 7.4): what is asked for, and the order and authorizations it makes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Order;
use super::terms::{Proof, Terms};
use crate::acme::authz::{Authorization, AuthzStatus};
use crate::acme::challenge::ChallengeType;
use crate::acme::json::{self, Object};
use crate::acme::problem::{NamedIdentifier, Problem, ProblemType, Subproblem};
use crate::acme::rfc3339;
use crate::id::{AccountId, AuthzId, OrderId, Timestamp};
use crate::pki::name::{DnsName, Identifier, NameError};
use crate::pki::profile::Profile;
use crate::pki::rehearse::MAX_ASKED_BACKDATE;

/// A parsed newOrder payload (RFC 8555 section 7.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewOrder {
    pub identifiers: Vec<Identifier>,
    /// The name above an identifier that the client would rather prove (RFC 9444 section 4.3).
    pub ancestors: BTreeMap<Identifier, DnsName>,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
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
        let mut ancestors = BTreeMap::new();
        let mut refused = Vec::new();
        for Object(asked) in members.identifiers {
            let Asked { kind, value, ancestor_domain } = asked;
            let named = NamedIdentifier { kind, value };
            let identifier = match parse_named(&named) {
                Ok(identifier) => identifier,
                Err(part) => {
                    refused.push(part);
                    continue;
                }
            };
            match ancestor_domain.map(|text| ancestor_of(&identifier, &text)).transpose() {
                Ok(None) => {}
                Ok(Some(ancestor)) => {
                    ancestors.entry(identifier.clone()).or_insert(ancestor);
                }
                Err(why) => {
                    refused.push(Subproblem::of(ProblemType::Malformed, why, &identifier));
                    continue;
                }
            }
            if !identifiers.contains(&identifier) {
                identifiers.push(identifier);
            }
        }
        if !refused.is_empty() {
            return Err(Problem::compound(refused));
        }
        Ok(Self {
            identifiers,
            ancestors,
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
        // While its dates can be met: an order that is ready can be finalized.
        if let Some(until) = self.not_after {
            expires = expires.min(until);
        }
        if let Some(from) = self.not_before {
            expires = expires.min(from.plus(MAX_ASKED_BACKDATE));
        }
        for identifier in &self.identifiers {
            let serves = |authz: &Authorization| {
                authz.covers(identifier)
                    && (terms.subdomains || authz.identifier == identifier.base())
            };
            let reused = reusable.iter().find(|authz| {
                authz.account == account
                    && serves(authz)
                    && authz.status(now) == AuthzStatus::Valid
                    && authz.expires > now.plus(REUSE_MARGIN)
                    && authz.proof().is_none_or(|(kind, _)| profile.accepts_challenge(kind.name()))
            });
            let permitted = terms.judge(identifier, Some(profile));
            let authz = match (permitted, reused) {
                (Err(why), _) => Err(why),
                (Ok(()), Some(authz)) => {
                    expires = expires.min(authz.expires);
                    Ok(authz.id)
                }
                (Ok(()), None) => match made.iter().find(|authz| serves(authz)) {
                    Some(authz) => Ok(authz.id),
                    None => self.proof_of(identifier, terms, profile).map(|proof| {
                        let authz = proof.authorization(account, terms.lifetime, random, now);
                        made.push(authz);
                        made[made.len() - 1].id
                    }),
                },
            };
            match authz {
                Ok(authz) if authorizations.contains(&authz) => {}
                Ok(authz) => authorizations.push(authz),
                Err(why) => {
                    let kind = ProblemType::RejectedIdentifier;
                    refused.push(Subproblem::of(kind, why, identifier));
                }
            }
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

    /// What has to be proven for an identifier: the ancestor that the client named where proof of that
    /// counts and can be had, else the identifier itself.
    fn proof_of(
        &self,
        identifier: &Identifier,
        terms: &Terms<'_>,
        profile: &Profile,
    ) -> Result<Proof, String> {
        let accepted = |kind: &ChallengeType| profile.accepts_challenge(kind.name());
        let above = self.ancestors.get(identifier).and_then(|name| {
            let above = match identifier.is_wildcard() {
                true => DnsName::parse(&format!("*.{name}")).ok()?,
                false => name.clone(),
            };
            terms.proof_of_zone(&Identifier::Dns(above), &accepted).ok()
        });
        above.map_or_else(|| terms.proof_of_name(identifier, &accepted), Ok)
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
        // notAfter is the last second that counts; who begins later does not end later for it.
        if ends.since(begins.min(now)) >= profile.lifetime() {
            return refused("notAfter is later than the profile's lifetime allows");
        }
        if ends > (terms.issuer_ends)(profile) {
            return refused("notAfter is later than the end of the issuing certificate");
        }
        Ok(())
    }
}

/// `auto-renewal` and `delegation` are known so that they can be refused; others are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    identifiers: Vec<Object<Asked>>,
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

/// One identifier of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(rename = "type")]
    kind: String,
    value: String,
    #[serde(default)]
    ancestor_domain: Option<String>,
}

/// How far ahead of now a certificate may begin.
const LATEST_START: Duration = Duration::from_secs(24 * 3600);

/// A valid authorization that expires sooner is not reused: the order would hardly outlive its answer.
const REUSE_MARGIN: Duration = Duration::from_secs(3600);

/// The identifier, or what is wrong with it.
pub(in crate::acme) fn parse_named(named: &NamedIdentifier) -> Result<Identifier, Subproblem> {
    Identifier::parse(&named.kind, &named.value).map_err(|why| Subproblem {
        kind: match why {
            NameError::UnsupportedType => ProblemType::UnsupportedIdentifier,
            _ => ProblemType::Malformed,
        },
        detail: why.to_string(),
        identifier: Some(shortened(named)),
    })
}

/// RFC 9444 section 4.3: a name that the identifier is below.
fn ancestor_of(identifier: &Identifier, text: &str) -> Result<DnsName, String> {
    let Identifier::Dns(name) = identifier else {
        return Err("an address has no ancestorDomain".to_owned());
    };
    match DnsName::parse(text) {
        Ok(above) if above.is_wildcard() => Err("ancestorDomain is a wildcard".to_owned()),
        Ok(above) if name.is_within(&above) => Ok(above),
        Ok(_) => Err("it is not below its ancestorDomain".to_owned()),
        Err(why) => Err(format!("ancestorDomain: {why}")),
    }
}

/// Go's zero time, which step and other clients in Go send where they mean nothing, is taken as absent: no
/// certificate begins or ends in the year 1.
const GO_ZERO: &str = "0001-01-01T00:00:00Z";

fn instant(text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    text.filter(|text| *text != GO_ZERO)
        .map(|text| {
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
fn shortened(named: &NamedIdentifier) -> NamedIdentifier {
    let cut = |text: &str| match text.char_indices().nth(MAX_ECHO) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    };
    NamedIdentifier { kind: cut(&named.kind), value: cut(&named.value) }
}

/// Longer than any name, in characters.
const MAX_ECHO: usize = 256;
