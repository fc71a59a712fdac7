//! Challenges (RFC 8555 section 8): what was offered, what the client answered, what was observed.

pub mod alpn;
pub mod dns;
pub mod persist;

use std::fmt;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use super::json;
use super::jws::Thumbprint;
use super::problem::{Document, Problem, Subproblem};
use crate::id::{ChallengeId, Timestamp};
use crate::pki::name::Identifier;

/// Order is stored by postcard: append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum ChallengeType {
    Http01,
    Dns01,
    TlsAlpn01,
    DnsAccount01,
    DnsPersist01,
    DeviceAttest01,
}

/// The stored facts of a challenge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Challenge {
    pub id: ChallengeId,
    pub kind: ChallengeType,
    /// Base64url of at least 128 random bits.
    pub token: String,
    pub response: Option<Response>,
    /// Every failed attempt so far, oldest first, bounded.
    pub failures: Vec<Failure>,
    pub outcome: Option<Outcome>,
}

/// The client said it is ready.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub at: Timestamp,
    /// token "." thumbprint, computed when the response arrived: key rollover must not change it.
    pub key_authorization: String,
    /// When the client last asked for another attempt at once (RFC 8555 section 8.2).
    pub again: Option<Timestamp>,
}

/// One failed attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub at: Timestamp,
    pub problem: Problem,
}

/// How it ended. Order is stored by postcard: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Valid { at: Timestamp },
    Invalid { at: Timestamp, problem: Problem },
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChallengeStatus {
    Pending,
    Processing,
    Valid,
    Invalid,
}

/// How often and how long a challenge is retried before it fails: the waits double from `first` to
/// `longest`. However large `attempts`, there are at most `RetryRule::MAX_ATTEMPTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryRule {
    pub attempts: u32,
    pub first: Duration,
    pub longest: Duration,
}

impl ChallengeType {
    /// Every type, in the order they are stored.
    pub const ALL: [Self; 6] = [
        Self::Http01,
        Self::Dns01,
        Self::TlsAlpn01,
        Self::DnsAccount01,
        Self::DnsPersist01,
        Self::DeviceAttest01,
    ];

    /// The registered name (RFC 8555 section 9.7.8).
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::DnsAccount01 => "dns-account-01",
            Self::DnsPersist01 => "dns-persist-01",
            Self::DeviceAttest01 => "device-attest-01",
        }
    }

    /// Every type this server can validate, in the order in which they are offered.
    pub const VALIDATED: [Self; 5] =
        [Self::Http01, Self::Dns01, Self::TlsAlpn01, Self::DnsAccount01, Self::DnsPersist01];

    /// The validated type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::VALIDATED.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can prove control of the identifier as ordered, `*.` included.
    pub fn proves(self, identifier: &Identifier) -> bool {
        match self {
            Self::Http01 | Self::TlsAlpn01 => !identifier.is_wildcard(),
            // RFC 8738 section 7: not for addresses.
            Self::Dns01 | Self::DnsAccount01 | Self::DnsPersist01 => {
                matches!(identifier, Identifier::Dns(_))
            }
            // Its identifier types come with it.
            Self::DeviceAttest01 => false,
        }
    }
}

impl ChallengeType {
    /// Whether it can prove control of every name below the identifier too (RFC 9444): what is answered by
    /// one host says nothing of the others, what stands in a zone does.
    pub fn proves_subdomains(self) -> bool {
        matches!(self, Self::Dns01 | Self::DnsAccount01 | Self::DnsPersist01)
    }
}

impl fmt::Display for ChallengeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ChallengeStatus {
    /// The word of RFC 8555.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl RetryRule {
    /// What bounds the list of failures.
    pub const MAX_ATTEMPTS: u32 = 32;

    fn allows_another(self, failed: usize) -> bool {
        u32::try_from(failed).is_ok_and(|failed| failed < self.attempts.min(Self::MAX_ATTEMPTS))
    }

    /// The wait after so many failures, of which there is at least one.
    fn wait(self, failed: usize) -> Duration {
        let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        let factor = 2u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

impl Challenge {
    /// One that was just offered; the token is made of 128 random bits.
    pub fn new(id: ChallengeId, kind: ChallengeType, token: [u8; 16]) -> Self {
        Self {
            id,
            kind,
            token: Base64UrlUnpadded::encode_string(&token),
            response: None,
            failures: Vec::new(),
            outcome: None,
        }
    }

    /// Computed from the facts; never stored.
    pub fn status(&self) -> ChallengeStatus {
        match (&self.outcome, &self.response) {
            (Some(Outcome::Valid { .. }), _) => ChallengeStatus::Valid,
            (Some(Outcome::Invalid { .. }), _) => ChallengeStatus::Invalid,
            (None, Some(_)) => ChallengeStatus::Processing,
            (None, None) => ChallengeStatus::Pending,
        }
    }

    /// Records the client's response; idempotent once made.
    pub fn respond(&mut self, thumbprint: Thumbprint, now: Timestamp) {
        if self.status() == ChallengeStatus::Pending {
            self.response = Some(Response {
                at: now,
                key_authorization: format!("{}.{thumbprint}", self.token),
                again: None,
            });
        }
    }

    /// The client asks for an attempt at once. Granted if it is processing and the last attempt failed
    /// at least `rule.first` ago; returns whether anything changed.
    pub fn ask_again(&mut self, rule: RetryRule, now: Timestamp) -> bool {
        let due = self.next_attempt(rule);
        let rested =
            self.failures.last().is_some_and(|failure| now.since(failure.at) >= rule.first);
        match (&mut self.response, due) {
            (Some(response), Some(due)) if rested && now < due => {
                response.again = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Records an attempt's failure: the next attempt's instant, or `None` if that was the last and it is
    /// now invalid, or was not processing.
    pub fn failed(
        &mut self,
        problem: Problem,
        rule: RetryRule,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.status() != ChallengeStatus::Processing {
            return None;
        }
        self.failures.push(Failure { at: now, problem: problem.clone() });
        if !rule.allows_another(self.failures.len()) {
            self.outcome = Some(Outcome::Invalid { at: now, problem });
        }
        self.next_attempt(rule)
    }

    /// Records success, if it is processing.
    pub fn succeeded(&mut self, now: Timestamp) {
        if self.status() == ChallengeStatus::Processing {
            self.outcome = Some(Outcome::Valid { at: now });
        }
    }

    /// When the next attempt is due, if it is processing.
    pub fn next_attempt(&self, rule: RetryRule) -> Option<Timestamp> {
        if self.status() != ChallengeStatus::Processing {
            return None;
        }
        let response = self.response.as_ref()?;
        let Some(last) = self.failures.last() else {
            return Some(response.at);
        };
        let due = last.at.plus(rule.wait(self.failures.len()));
        let asked = response.again.filter(|again| *again > last.at);
        Some(asked.map_or(due, |again| again.min(due)))
    }

    /// When it was proven.
    pub fn validated(&self) -> Option<Timestamp> {
        match self.outcome {
            Some(Outcome::Valid { at }) => Some(at),
            _ => None,
        }
    }

    /// The challenge object at this URL. `issuers` are the names this server goes by in records of
    /// dns-persist-01.
    pub fn to_json(&self, url: &str, issuers: &[String]) -> String {
        json::text(&self.object(url, issuers))
    }

    /// The same as a member of an authorization. While attempts go on, `error` already tells of those
    /// that failed (RFC 8555 section 8.2).
    pub(super) fn object<'a>(
        &'a self,
        url: &str,
        issuers: &'a [String],
    ) -> impl Serialize + use<'a> {
        let persists = self.kind == ChallengeType::DnsPersist01;
        ChallengeObject {
            r#type: self.kind.name(),
            url: url.to_owned(),
            status: self.status().name(),
            token: (!persists).then_some(self.token.as_str()),
            issuer_domain_names: persists.then_some(issuers),
            validated: self.validated().map(|at| at.to_string()),
            error: self.error().map(ProblemDocument),
        }
    }

    /// What the client is told went wrong: the last problem, with every failure as a part of it when
    /// there were several.
    pub(super) fn error(&self) -> Option<Problem> {
        if self.status() == ChallengeStatus::Valid {
            return None;
        }
        let mut problem = match (&self.outcome, self.failures.last()) {
            (Some(Outcome::Invalid { problem, .. }), _) => problem.clone(),
            (_, Some(failure)) => failure.problem.clone(),
            _ => return None,
        };
        if self.failures.len() > 1 && problem.subproblems.is_empty() {
            problem.subproblems = self
                .failures
                .iter()
                .map(|failure| Subproblem {
                    kind: failure.problem.kind,
                    detail: format!("{}: {}", failure.at, failure.problem.detail),
                    identifier: None,
                })
                .collect();
        }
        Some(problem)
    }
}

impl fmt::Debug for Response {
    /// Without the key authorization: a log line with it would answer the challenge.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("at", &self.at)
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct ChallengeObject<'a> {
    r#type: &'static str,
    url: String,
    status: &'static str,
    /// A record that stays is made of no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(rename = "issuerDomainNames", skip_serializing_if = "Option::is_none")]
    issuer_domain_names: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemDocument>,
}

/// An owned problem in its JSON form.
#[derive(Debug)]
pub(super) struct ProblemDocument(pub(super) Problem);

impl Serialize for ProblemDocument {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let document: Document<'_> = self.0.document();
        document.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::problem::ProblemType;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp(1_795_305_599_000);
    const RULE: RetryRule =
        RetryRule { attempts: 4, first: Duration::from_secs(5), longest: Duration::from_secs(8) };

    fn challenge() -> Challenge {
        Challenge::new(ChallengeId([1; 16]), ChallengeType::Http01, [2; 16])
    }

    fn problem(detail: &str) -> Problem {
        Problem::new(ProblemType::Connection, detail)
    }

    fn object(challenge: &Challenge) -> Value {
        serde_json::from_str(&challenge.to_json("https://ca/c", &["ca.lan".to_owned()])).unwrap()
    }

    #[test]
    fn the_key_authorization_is_fixed_by_the_first_response() {
        let mut challenge = challenge();
        challenge.respond(Thumbprint([3; 32]), NOW);
        let first = challenge.response.clone();
        let thumbprint = Thumbprint([3; 32]).to_string();
        assert_eq!(
            first.as_ref().map(|r| r.key_authorization.as_str()),
            Some(format!("AgICAgICAgICAgICAgICAg.{thumbprint}").as_str())
        );
        challenge.respond(Thumbprint([4; 32]), NOW.plus(RULE.first));
        assert_eq!(challenge.response, first);
        assert!(!format!("{challenge:?}").contains(&thumbprint));
    }

    #[test]
    fn attempts_back_off_and_end() {
        let mut challenge = challenge();
        assert_eq!(challenge.next_attempt(RULE), None);
        assert_eq!(challenge.failed(problem("early"), RULE, NOW), None);
        assert_eq!(challenge.status(), ChallengeStatus::Pending);
        challenge.respond(Thumbprint([3; 32]), NOW);
        assert_eq!(challenge.next_attempt(RULE), Some(NOW));
        let mut at = NOW;
        for wait in [5, 8, 8] {
            let next = challenge.failed(problem("refused"), RULE, at);
            assert_eq!(next, Some(at.plus(Duration::from_secs(wait))));
            assert_eq!(object(&challenge)["status"], "processing");
            at = next.unwrap();
        }
        assert_eq!(challenge.failed(problem("the last"), RULE, at), None);
        assert_eq!(challenge.status(), ChallengeStatus::Invalid);
        let error = &object(&challenge)["error"];
        assert_eq!(error["type"], ProblemType::Connection.urn());
        assert_eq!(error["detail"], "the last");
        assert_eq!(error["subproblems"].as_array().map(Vec::len), Some(4));
        // What ended stays ended.
        challenge.succeeded(at);
        assert_eq!(challenge.failed(problem("more"), RULE, at), None);
        assert_eq!((challenge.status(), challenge.failures.len()), (ChallengeStatus::Invalid, 4));
    }

    #[test]
    fn a_client_may_ask_again_but_not_hammer() {
        let mut challenge = challenge();
        challenge.respond(Thumbprint([3; 32]), NOW);
        assert!(!challenge.ask_again(RULE, NOW), "the first attempt is due already");
        challenge.failed(problem("1"), RULE, NOW);
        challenge.failed(problem("2"), RULE, NOW);
        assert!(!challenge.ask_again(RULE, NOW.plus(Duration::from_secs(4))));
        let then = NOW.plus(Duration::from_secs(6));
        assert!(challenge.ask_again(RULE, then));
        assert_eq!(challenge.next_attempt(RULE), Some(then));
        assert!(!challenge.ask_again(RULE, then));
        let next = challenge.failed(problem("3"), RULE, then);
        assert_eq!(next, Some(then.plus(Duration::from_secs(8))));
    }

    #[test]
    fn a_challenge_object() {
        let mut challenge = challenge();
        let mut expected = json!({
            "type": "http-01",
            "url": "https://ca/c",
            "status": "pending",
            "token": "AgICAgICAgICAgICAgICAg",
        });
        assert_eq!(object(&challenge), expected);
        challenge.respond(Thumbprint([3; 32]), NOW);
        challenge.failed(problem("refused"), RULE, NOW);
        expected["status"] = "processing".into();
        expected["error"] = json!({
            "type": ProblemType::Connection.urn(),
            "detail": "refused",
            "status": 400,
        });
        assert_eq!(object(&challenge), expected);
        challenge.succeeded(NOW);
        expected["status"] = "valid".into();
        expected["validated"] = "2026-11-21T23:59:59Z".into();
        expected.as_object_mut().unwrap().remove("error");
        assert_eq!(object(&challenge), expected);
    }

    #[test]
    fn a_challenge_that_persists_has_issuers_instead_of_a_token() {
        let challenge = Challenge::new(ChallengeId([1; 16]), ChallengeType::DnsPersist01, [2; 16]);
        let expected = json!({
            "type": "dns-persist-01",
            "url": "https://ca/c",
            "status": "pending",
            "issuerDomainNames": ["ca.lan"],
        });
        assert_eq!(object(&challenge), expected);
    }

    #[test]
    fn types_are_known_by_their_names() {
        for kind in ChallengeType::VALIDATED {
            assert_eq!(ChallengeType::parse(kind.name()), Some(kind));
        }
        for name in ["", "HTTP-01", "device-attest-01"] {
            assert_eq!(ChallengeType::parse(name), None);
        }
    }

    #[test]
    fn what_proves_what() {
        let dns = Identifier::parse("dns", "a.lan").unwrap();
        let wildcard = Identifier::parse("dns", "*.a.lan").unwrap();
        let ip = Identifier::parse("ip", "10.0.0.1").unwrap();
        for (kind, proves) in [
            (ChallengeType::Http01, [true, false, true]),
            (ChallengeType::TlsAlpn01, [true, false, true]),
            (ChallengeType::Dns01, [true, true, false]),
            (ChallengeType::DnsAccount01, [true, true, false]),
            (ChallengeType::DnsPersist01, [true, true, false]),
            (ChallengeType::DeviceAttest01, [false, false, false]),
        ] {
            assert_eq!([&dns, &wildcard, &ip].map(|id| kind.proves(id)), proves, "{kind}");
        }
    }

    proptest! {
        /// Whatever happens in whatever order, the status never goes back, and the list is bounded.
        #[test]
        fn status_never_goes_back(attempts in any::<u32>(), events in proptest::collection::vec((0..4u8, 0..20u64), 0..60)) {
            let rule = RetryRule { attempts, ..RULE };
            let mut challenge = challenge();
            let mut now = NOW;
            let mut rank = 0;
            for (event, seconds) in events {
                now = now.plus(Duration::from_secs(seconds));
                match event {
                    0 => challenge.respond(Thumbprint([3; 32]), now),
                    1 => { challenge.failed(problem("no"), rule, now); }
                    2 => { challenge.ask_again(rule, now); }
                    _ => if seconds == 0 { challenge.succeeded(now) },
                }
                let next = match challenge.status() {
                    ChallengeStatus::Pending => 0,
                    ChallengeStatus::Processing => 1,
                    ChallengeStatus::Valid => 2,
                    ChallengeStatus::Invalid => 3,
                };
                prop_assert!(next >= rank);
                prop_assert!(rank < 2 || next == rank);
                rank = next;
                prop_assert!(challenge.failures.len() <= RetryRule::MAX_ATTEMPTS as usize);
                prop_assert_eq!(challenge.next_attempt(rule).is_some(), rank == 1);
            }
        }
    }
}
