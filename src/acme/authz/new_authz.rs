//! newAuthz (RFC 8555 section 7.4.1): an authorization without an order.

use serde::Deserialize;

use super::Authorization;
use crate::acme::json::{self, Object};
use crate::acme::order::{Terms, parse_named};
use crate::acme::problem::{NamedIdentifier, Problem, ProblemType, Subproblem};
use crate::id::{AccountId, Timestamp};
use crate::pki::name::Identifier;

/// A parsed newAuthz payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewAuthz {
    pub identifier: Identifier,
    /// Whether it shall stand for the names below as well (RFC 9444 section 4.2).
    pub subdomains: bool,
}

impl NewAuthz {
    /// Parses. A wildcard is `malformed`: an authorization names it without its asterisk, so nothing could
    /// tell that it was meant.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Members {
            identifier: Object<Asked>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Asked {
            #[serde(rename = "type")]
            kind: String,
            value: String,
            #[serde(default)]
            subdomain_auth_allowed: bool,
        }

        let Members { identifier: Object(asked) } = json::object(payload)
            .map_err(|_| Problem::malformed("the payload is not a newAuthz object"))?;
        let named = NamedIdentifier { kind: asked.kind, value: asked.value };
        let identifier = parse_named(&named).map_err(|part| Problem::compound(vec![part]))?;
        if identifier.is_wildcard() {
            return Err(Problem::malformed("a wildcard cannot be authorized before it is ordered"));
        }
        Ok(Self { identifier, subdomains: asked.subdomain_auth_allowed })
    }

    /// Makes a pending one. `rejectedIdentifier`, 403, for a name that would not be certified. Where proof
    /// does not count for the names below, it is made for the name alone.
    pub fn place(
        &self,
        account: AccountId,
        terms: &Terms<'_>,
        random: &mut dyn FnMut() -> [u8; 16],
        now: Timestamp,
    ) -> Result<Authorization, Problem> {
        let rejected = |why: String| {
            let part = Subproblem::of(ProblemType::RejectedIdentifier, why, &self.identifier);
            Problem::compound(vec![part])
        };
        terms.judge(&self.identifier, None).map_err(rejected)?;
        let every = |_: &_| true;
        let zone = self.subdomains.then(|| terms.proof_of_zone(&self.identifier, &every).ok());
        let proof = match zone.flatten() {
            Some(proof) => proof,
            None => terms.proof_of_name(&self.identifier, &every).map_err(rejected)?,
        };
        Ok(proof.authorization(account, terms.lifetime, random, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::authz::AuthzStatus;
    use crate::acme::challenge::ChallengeType;
    use crate::pki::profile::Profile;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_795_305_599_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const ACCOUNT: AccountId = AccountId([1; 16]);

    fn place(
        payload: &str,
        challenges: &[ChallengeType],
        subdomains: bool,
    ) -> Result<Authorization, Problem> {
        let profiles = [Profile::server()];
        let terms = Terms {
            profiles: &profiles,
            default_profile: "server",
            challenges,
            permits: &|name| match name.value().ends_with("denied.lan") {
                true => Err("not here".into()),
                false => Ok(()),
            },
            subdomains,
            lifetime: 10 * HOUR,
            issuer_ends: &|_| NOW.plus(30 * HOUR),
        };
        let mut next = 0u8;
        let mut random = || {
            next += 1;
            [next; 16]
        };
        NewAuthz::parse(payload.as_bytes())?.place(ACCOUNT, &terms, &mut random, NOW)
    }

    const BOTH: &[ChallengeType] = &[ChallengeType::Http01, ChallengeType::Dns01];

    #[test]
    fn a_pending_authorization_is_made() {
        let payload = r#"{"identifier":{"type":"dns","value":"A.lan","x":1},"y":2}"#;
        let made = place(payload, BOTH, true).unwrap();
        assert_eq!(made.identifier.value(), "a.lan");
        assert_eq!((made.account, made.status(NOW)), (ACCOUNT, AuthzStatus::Pending));
        assert_eq!(made.challenges.len(), 2);
        assert_eq!(made.expires, NOW.plus(10 * HOUR));
        assert!(!made.subdomains && !made.wildcard);
    }

    #[test]
    fn the_names_below_count_where_they_may_and_can_be_proven() {
        let ask = r#"{"identifier":{"type":"dns","value":"a.lan","subdomainAuthAllowed":true}}"#;
        let zone = place(ask, BOTH, true).unwrap();
        assert!(zone.subdomains);
        let kinds: Vec<_> = zone.challenges.iter().map(|challenge| challenge.kind).collect();
        assert_eq!(kinds, [ChallengeType::Dns01], "a web server says nothing of other hosts");
        assert!(!place(ask, BOTH, false).unwrap().subdomains, "not configured");
        assert!(!place(ask, &[ChallengeType::Http01], true).unwrap().subdomains);
        let single = ask.replace("a.lan", "lan");
        assert!(!place(&single, BOTH, true).unwrap().subdomains, "nobody's zone");
        let address =
            r#"{"identifier":{"type":"ip","value":"10.0.0.1","subdomainAuthAllowed":true}}"#;
        assert!(!place(address, BOTH, true).unwrap().subdomains);
    }

    #[test]
    fn what_cannot_be_authorized_is_refused() {
        for (payload, kind) in [
            ("{}", ProblemType::Malformed),
            (r#"{"identifier":["dns","a.lan"]}"#, ProblemType::Malformed),
            (r#"{"identifier":{"type":"dns","value":"*.a.lan"}}"#, ProblemType::Malformed),
            (r#"{"identifier":{"type":"dns","value":"a..lan"}}"#, ProblemType::Malformed),
            (
                r#"{"identifier":{"type":"email","value":"a@b"}}"#,
                ProblemType::UnsupportedIdentifier,
            ),
            (
                r#"{"identifier":{"type":"dns","value":"x.denied.lan"}}"#,
                ProblemType::RejectedIdentifier,
            ),
        ] {
            assert_eq!(place(payload, BOTH, true).unwrap_err().kind, kind, "{payload}");
        }
        let payload = r#"{"identifier":{"type":"ip","value":"10.0.0.1"}}"#;
        let refused = place(payload, &[ChallengeType::Dns01], true).unwrap_err();
        assert_eq!((refused.kind, refused.status), (ProblemType::RejectedIdentifier, 403));
        assert_eq!(refused.subproblems[0].identifier.as_ref().unwrap().value, "10.0.0.1");
    }
}
