//! Challenges (RFC 8555 section 8): what was offered, what the client answered, what was observed.

use serde::{Deserialize, Serialize};

use super::jws::Thumbprint;
use super::problem::Problem;
use crate::id::{ChallengeId, Timestamp};

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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Response {
    pub at: Timestamp,
    /// token "." thumbprint, computed when the response arrived: key rollover must not change it.
    pub key_authorization: String,
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

/// How often and how long a challenge is retried before it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryRule {
    pub attempts: u32,
    pub first: std::time::Duration,
    pub longest: std::time::Duration,
}

impl Challenge {
    pub fn status(&self) -> ChallengeStatus {
        todo!()
    }
    /// Records the client's response; idempotent once made.
    pub fn respond(&mut self, thumbprint: Thumbprint, now: Timestamp) {
        todo!()
    }
    /// Records an attempt's failure: the next attempt's instant, or `None` if that was the last and it is now invalid.
    pub fn failed(
        &mut self,
        problem: Problem,
        rule: RetryRule,
        now: Timestamp,
    ) -> Option<Timestamp> {
        todo!()
    }
    /// Records success.
    pub fn succeeded(&mut self, now: Timestamp) {
        todo!()
    }
    /// When the next attempt is due, if it is processing.
    pub fn next_attempt(&self, rule: RetryRule) -> Option<Timestamp> {
        todo!()
    }
    pub fn to_json(&self, url: &str) -> String {
        todo!()
    }
}
