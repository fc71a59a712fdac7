//! Authorizations (RFC 8555 section 7.1.4): facts, and the status computed from them.

mod new_authz;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use new_authz::NewAuthz;

use super::challenge::{Challenge, ChallengeStatus, ChallengeType, RetryRule};
use super::json;
use super::jws::Thumbprint;
use super::problem::{NamedIdentifier, Problem};
use crate::id::{AccountId, AuthzId, ChallengeId, Timestamp};
use crate::pki::name::Identifier;

/// The stored facts of an authorization.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Authorization {
    pub id: AuthzId,
    pub account: AccountId,
    /// Without `*.`.
    pub identifier: Identifier,
    pub wildcard: bool,
    /// Whether it stands for every name below as well (RFC 9444).
    pub subdomains: bool,
    pub created: Timestamp,
    /// When a pending one lapses, and a valid one expires.
    pub expires: Timestamp,
    pub challenges: Vec<Challenge>,
    /// When the server granted it without a challenge (RFC 8555 section 7.1.3: identifiers may be
    /// authorized in other ways).
    pub granted: Option<Timestamp>,
    pub deactivated: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthzStatus {
    Pending,
    Valid,
    Invalid,
    Deactivated,
    Expired,
    Revoked,
}

impl Authorization {
    /// A pending one for an identifier as ordered, `*.` included.
    pub fn new(
        id: AuthzId,
        account: AccountId,
        identifier: &Identifier,
        challenges: Vec<Challenge>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Self {
        Self {
            id,
            account,
            identifier: identifier.base(),
            wildcard: identifier.is_wildcard(),
            subdomains: false,
            created: now,
            expires,
            challenges,
            granted: None,
            deactivated: None,
            revoked: None,
        }
    }

    /// Computed from the facts; never stored. A pending one that lapses is `invalid`: `expired` is what
    /// becomes of valid ones.
    pub fn status(&self, now: Timestamp) -> AuthzStatus {
        let any = |status| self.challenges.iter().any(|c| c.status() == status);
        if self.revoked.is_some() {
            AuthzStatus::Revoked
        } else if self.deactivated.is_some() {
            AuthzStatus::Deactivated
        } else if any(ChallengeStatus::Invalid) {
            AuthzStatus::Invalid
        } else if self.granted.is_some() || any(ChallengeStatus::Valid) {
            if now < self.expires { AuthzStatus::Valid } else { AuthzStatus::Expired }
        } else if now < self.expires {
            AuthzStatus::Pending
        } else {
            AuthzStatus::Invalid
        }
    }

    /// The challenge of this id.
    pub fn challenge(&self, id: ChallengeId) -> Option<&Challenge> {
        self.challenges.iter().find(|c| c.id == id)
    }

    fn challenge_mut(&mut self, id: ChallengeId) -> Option<&mut Challenge> {
        self.challenges.iter_mut().find(|c| c.id == id)
    }

    /// The same for every name below as well (RFC 9444).
    pub fn with_subdomains(self) -> Self {
        Self { subdomains: true, ..self }
    }

    /// Whether it authorizes an identifier as ordered, `*.` included: the one it was made for, or with
    /// `subdomains` one below it, label by label. A wildcard takes an authorization for wildcards.
    pub fn covers(&self, identifier: &Identifier) -> bool {
        if self.wildcard != identifier.is_wildcard() {
            return false;
        }
        match (&self.identifier, identifier) {
            (Identifier::Dns(own), Identifier::Dns(name)) if self.subdomains => name.is_within(own),
            _ => self.identifier == identifier.base(),
        }
    }

    /// How and when control was proven; `None` if it was not, or granted without proof.
    pub fn proof(&self) -> Option<(ChallengeType, Timestamp)> {
        self.challenges.iter().find_map(|c| c.validated().map(|at| (c.kind, at)))
    }

    /// Whether an attempt is due or under way.
    pub fn is_validating(&self) -> bool {
        self.is_open() && self.challenges.iter().any(|c| c.status() == ChallengeStatus::Processing)
    }

    /// Records the client's response to a challenge (RFC 8555 section 7.5.1). A second response asks for
    /// an attempt at once. Returns whether anything changed; `malformed` for a challenge that can no
    /// longer be answered.
    pub fn respond(
        &mut self,
        id: ChallengeId,
        thumbprint: Thumbprint,
        rule: RetryRule,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        let pending = self.status(now) == AuthzStatus::Pending;
        let Some(challenge) = self.challenge_mut(id) else {
            return Err(Problem::malformed("this authorization has no such challenge"));
        };
        match challenge.status() {
            ChallengeStatus::Pending if !pending => {
                Err(Problem::malformed("the authorization of this challenge is no longer pending"))
            }
            ChallengeStatus::Pending => {
                challenge.respond(thumbprint, now);
                Ok(true)
            }
            ChallengeStatus::Processing => Ok(pending && challenge.ask_again(rule, now)),
            ChallengeStatus::Valid | ChallengeStatus::Invalid => Ok(false),
        }
    }

    /// Records that an attempt failed: the next attempt's instant, or `None` if there is none.
    /// Changes nothing once the authorization is no longer pending.
    pub fn failed(
        &mut self,
        id: ChallengeId,
        problem: Problem,
        rule: RetryRule,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.status(now) != AuthzStatus::Pending {
            return None;
        }
        self.challenge_mut(id)?.failed(problem, rule, now)
    }

    /// Records that control was proven; it is valid from now on for `lifetime`. Returns whether anything
    /// changed: nothing does once the authorization is no longer pending.
    pub fn succeeded(&mut self, id: ChallengeId, lifetime: Duration, now: Timestamp) -> bool {
        if self.status(now) != AuthzStatus::Pending {
            return false;
        }
        let Some(challenge) = self.challenge_mut(id) else {
            return false;
        };
        challenge.succeeded(now);
        let proven = challenge.validated().is_some();
        if proven {
            self.expires = now.plus(lifetime);
        }
        proven
    }

    /// When the next attempt of any of its challenges is due, and which.
    pub fn next_attempt(&self, rule: RetryRule) -> Option<(Timestamp, ChallengeId)> {
        if !self.is_open() {
            return None;
        }
        self.challenges
            .iter()
            .filter_map(|c| Some((c.next_attempt(rule)?, c.id)))
            .min_by_key(|(due, _)| *due)
    }

    /// The client gives it up (RFC 8555 section 7.5.2). Returns whether anything changed.
    pub fn deactivate(&mut self, now: Timestamp) -> bool {
        let may = matches!(self.status(now), AuthzStatus::Pending | AuthzStatus::Valid);
        if may {
            self.deactivated = Some(now);
        }
        may
    }

    /// Neither proven, nor failed, nor given up; whether it lapsed is for a clock to say.
    fn is_open(&self) -> bool {
        self.status(Timestamp(0)) == AuthzStatus::Pending
    }

    /// The authorization object; `url` gives each challenge's URL, `issuers` is as for
    /// [`Challenge::to_json`]. Once decided, it shows the challenge
    /// that decided it (RFC 8555 section 7.1.4).
    pub fn to_json(
        &self,
        now: Timestamp,
        url: &dyn Fn(&Challenge) -> String,
        issuers: &[String],
    ) -> String {
        #[derive(Serialize)]
        struct AuthorizationObject<'a, C> {
            identifier: &'a NamedIdentifier,
            status: &'static str,
            expires: String,
            challenges: Vec<C>,
            // Never `false`: the member is absent then.
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            wildcard: bool,
            #[serde(rename = "subdomainAuthAllowed", skip_serializing_if = "std::ops::Not::not")]
            subdomains: bool,
        }

        let decided = [ChallengeStatus::Valid, ChallengeStatus::Invalid]
            .into_iter()
            .find(|status| self.challenges.iter().any(|c| c.status() == *status));
        json::text(&AuthorizationObject {
            identifier: &NamedIdentifier::from(&self.identifier),
            status: self.status(now).name(),
            expires: self.expires.to_string(),
            challenges: self
                .challenges
                .iter()
                .filter(|c| decided.is_none_or(|status| c.status() == status))
                .map(|c| c.object(&url(c), issuers))
                .collect(),
            wildcard: self.wildcard,
            subdomains: self.subdomains,
        })
    }
}

impl AuthzStatus {
    /// The word of RFC 8555.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::problem::ProblemType;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp(1_795_305_599_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const RULE: RetryRule = RetryRule { attempts: 2, first: HOUR, longest: HOUR };
    const FIRST: ChallengeId = ChallengeId([10; 16]);
    const SECOND: ChallengeId = ChallengeId([11; 16]);

    fn authorization(name: &str) -> Authorization {
        let identifier = Identifier::parse("dns", name).unwrap();
        let challenges = vec![
            Challenge::new(FIRST, ChallengeType::Http01, [1; 16]),
            Challenge::new(SECOND, ChallengeType::Dns01, [2; 16]),
        ];
        Authorization::new(
            AuthzId([1; 16]),
            AccountId([2; 16]),
            &identifier,
            challenges,
            NOW,
            NOW.plus(24 * HOUR),
        )
    }

    fn respond(authz: &mut Authorization, id: ChallengeId) -> Result<bool, Problem> {
        authz.respond(id, Thumbprint([3; 32]), RULE, NOW)
    }

    fn problem() -> Problem {
        Problem::new(ProblemType::Connection, "refused")
    }

    #[test]
    fn the_life_of_a_proven_one() {
        let mut authz = authorization("a.lan");
        assert_eq!(authz.status(NOW), AuthzStatus::Pending);
        assert!(!authz.succeeded(FIRST, HOUR, NOW), "nothing was answered");
        assert_eq!(respond(&mut authz, FIRST), Ok(true));
        assert_eq!(respond(&mut authz, FIRST), Ok(false));
        assert_eq!(authz.next_attempt(RULE), Some((NOW, FIRST)));
        assert!(authz.is_validating());
        assert!(authz.succeeded(FIRST, 2 * HOUR, NOW.plus(HOUR)));
        assert!(!authz.is_validating());
        assert_eq!(authz.status(NOW.plus(2 * HOUR)), AuthzStatus::Valid);
        assert_eq!(authz.proof(), Some((ChallengeType::Http01, NOW.plus(HOUR))));
        assert_eq!(authz.status(NOW.plus(3 * HOUR)), AuthzStatus::Expired);
        assert!(respond(&mut authz, SECOND).is_err());
        assert!(authz.deactivate(NOW));
        assert!(!authz.deactivate(NOW));
        assert_eq!(authz.status(NOW), AuthzStatus::Deactivated);
        authz.revoked = Some(NOW);
        assert_eq!(authz.status(NOW), AuthzStatus::Revoked);
    }

    #[test]
    fn one_failed_challenge_is_enough() {
        let mut authz = authorization("a.lan");
        respond(&mut authz, FIRST).unwrap();
        respond(&mut authz, SECOND).unwrap();
        assert_eq!(authz.failed(FIRST, problem(), RULE, NOW), Some(NOW.plus(HOUR)));
        assert_eq!(authz.next_attempt(RULE), Some((NOW, SECOND)));
        assert_eq!(authz.failed(FIRST, problem(), RULE, NOW.plus(HOUR)), None);
        assert_eq!(authz.status(NOW), AuthzStatus::Invalid);
        assert!(!authz.succeeded(SECOND, HOUR, NOW));
        assert_eq!(authz.next_attempt(RULE), None);
        assert_eq!(authz.status(NOW), AuthzStatus::Invalid);
    }

    #[test]
    fn a_pending_one_lapses_and_a_granted_one_needs_no_challenge() {
        let mut authz = authorization("a.lan");
        respond(&mut authz, FIRST).unwrap();
        let late = NOW.plus(24 * HOUR);
        assert_eq!(authz.status(late), AuthzStatus::Invalid);
        assert!(!authz.succeeded(FIRST, HOUR, late));
        assert_eq!(authz.failed(FIRST, problem(), RULE, late), None);
        let granted =
            Authorization { granted: Some(NOW), challenges: Vec::new(), ..authorization("a.lan") };
        assert_eq!(granted.status(NOW), AuthzStatus::Valid);
        assert_eq!(granted.status(late), AuthzStatus::Expired);
        assert_eq!(granted.proof(), None);
    }

    #[test]
    fn an_authorization_object() {
        let url = |c: &Challenge| format!("https://ca/{}", c.kind);
        let mut authz = authorization("*.a.lan");
        let object = |authz: &Authorization| -> Value {
            serde_json::from_str(&authz.to_json(NOW, &url, &[])).unwrap()
        };
        let pending = object(&authz);
        assert_eq!(pending["identifier"], json!({"type": "dns", "value": "a.lan"}));
        assert_eq!(pending["wildcard"], json!(true));
        assert_eq!(pending["status"], "pending");
        assert_eq!(pending["expires"], "2026-11-22T23:59:59Z");
        assert_eq!(pending["challenges"].as_array().map(Vec::len), Some(2));
        assert_eq!(pending["challenges"][0]["url"], "https://ca/http-01");
        assert_eq!(pending.get("subdomainAuthAllowed"), None);
        respond(&mut authz, SECOND).unwrap();
        authz.succeeded(SECOND, HOUR, NOW);
        let valid = object(&authz);
        assert_eq!(valid["status"], "valid");
        assert_eq!(valid["challenges"].as_array().map(Vec::len), Some(1));
        assert_eq!(valid["challenges"][0]["type"], "dns-01");
        assert_eq!(object(&authorization("a.lan")).get("wildcard"), None);
    }

    #[test]
    fn covers_the_identifier_it_was_made_for() {
        let parse = |name| Identifier::parse("dns", name).unwrap();
        assert!(authorization("a.lan").covers(&parse("a.lan")));
        assert!(!authorization("a.lan").covers(&parse("*.a.lan")));
        assert!(!authorization("*.a.lan").covers(&parse("a.lan")));
        assert!(authorization("*.a.lan").covers(&parse("*.a.lan")));
    }

    #[test]
    fn covers_what_is_below_it_where_it_says_so() {
        let zone = authorization("a.lan").with_subdomains();
        let wild = authorization("*.a.lan").with_subdomains();
        let address = Identifier::parse("ip", "10.0.0.1").unwrap();
        for (name, plainly, as_wildcard) in [
            ("a.lan", true, false),
            ("x.a.lan", true, false),
            ("x.y.a.lan", true, false),
            ("ba.lan", false, false),
            ("lan", false, false),
            ("a.lan.b", false, false),
            ("*.a.lan", false, true),
            ("*.x.a.lan", false, true),
            ("*.ba.lan", false, false),
        ] {
            let name = Identifier::parse("dns", name).unwrap();
            assert_eq!(zone.covers(&name), plainly, "{name}");
            assert_eq!(wild.covers(&name), as_wildcard, "{name}");
        }
        assert!(!zone.covers(&address));
        let url = |_: &Challenge| String::new();
        let object: Value = serde_json::from_str(&zone.to_json(NOW, &url, &[])).unwrap();
        assert_eq!(object["subdomainAuthAllowed"], true);
    }

    proptest! {
        /// pending → valid → expired | deactivated, or pending → invalid; never back.
        #[test]
        fn status_never_goes_back(events in proptest::collection::vec((0..6u8, any::<bool>(), 0..40_000u64), 0..30)) {
            let mut authz = authorization("a.lan");
            let mut now = NOW;
            let mut before = AuthzStatus::Pending;
            for (event, which, seconds) in events {
                now = now.plus(Duration::from_secs(seconds));
                let id = if which { FIRST } else { SECOND };
                match event {
                    0 | 1 => { let _ = authz.respond(id, Thumbprint([3; 32]), RULE, now); }
                    2 => { authz.failed(id, problem(), RULE, now); }
                    3 => { authz.succeeded(id, 10 * HOUR, now); }
                    4 if which => { authz.deactivate(now); }
                    _ => {}
                }
                let after = authz.status(now);
                let allowed = before == after || matches!(
                    (before, after),
                    (AuthzStatus::Pending, _)
                        | (AuthzStatus::Valid, AuthzStatus::Expired | AuthzStatus::Deactivated)
                );
                prop_assert!(allowed, "{:?} to {:?}", before, after);
                prop_assert_eq!(authz.proof().is_some(), authz.challenges.iter().any(|c| c.validated().is_some()));
                before = after;
            }
        }
    }
}
