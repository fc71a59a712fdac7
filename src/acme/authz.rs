//! Authorizations (RFC 8555 section 7.1.4): facts, and the status computed from them.

use serde::{Deserialize, Serialize};

use super::challenge::Challenge;
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
    pub created: Timestamp,
    /// When a pending one lapses, and a valid one expires.
    pub expires: Timestamp,
    pub challenges: Vec<Challenge>,
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
    pub fn status(&self, now: Timestamp) -> AuthzStatus {
        todo!()
    }
    pub fn challenge(&self, id: ChallengeId) -> Option<&Challenge> {
        self.challenges.iter().find(|c| c.id == id)
    }
    /// The authorization object; `url` gives each challenge's URL.
    pub fn to_json(&self, now: Timestamp, url: &dyn Fn(&Challenge) -> String) -> String {
        todo!()
    }
}
