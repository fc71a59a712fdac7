//! Accounts (RFC 8555 sections 7.1.2 and 7.3).

use serde::{Deserialize, Serialize};

use super::jws::Jwk;
use super::problem::Problem;
use crate::id::{AccountId, Timestamp};

/// The stored facts of an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    pub key: Jwk,
    pub contact: Vec<String>,
    pub terms_agreed: Option<Timestamp>,
    pub created: Timestamp,
    pub deactivated: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
    /// The verified externalAccountBinding, as the client sent it (JSON).
    pub external_account: Option<String>,
}

/// A parsed newAccount payload (RFC 8555 section 7.3). Unknown members are ignored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewAccount {
    pub contact: Vec<String>,
    pub terms_of_service_agreed: bool,
    pub only_return_existing: bool,
    /// The raw JSON of `externalAccountBinding`.
    pub external_account_binding: Option<String>,
}

impl NewAccount {
    /// Parses and checks contacts: `mailto` with one address and no hfields.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        todo!()
    }
}

impl Account {
    pub fn is_active(&self) -> bool {
        self.deactivated.is_none() && self.revoked.is_none()
    }
    /// The account object; `orders` is the URL of its order list.
    pub fn to_json(&self, orders: &str) -> String {
        todo!()
    }
}
