//! Accounts as the operator's tools ask about them: what the issuer knows, which is no contact data.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, Timestamp};
use crate::ipc::message::Ended;

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AccountQuestion {
    /// A page of all accounts, by id.
    List {
        after: Option<AccountId>,
    },
    Show(AccountId),
    /// For ever; its certificates stay.
    Deactivate(AccountId),
}

/// What is answered, in the same order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AccountAnswer {
    /// The last page is empty.
    List(Vec<AccountStatus>),
    Account(Box<AccountStatus>),
    /// When it ended; `before`: it had already.
    Deactivated {
        ended: Ended,
        before: bool,
    },
}

/// An account as the issuer has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountStatus {
    pub account: AccountId,
    pub registered: Timestamp,
    /// Its present key, canonical JSON.
    pub jwk: String,
    /// RFC 7638.
    pub thumbprint: [u8; 32],
    /// When it last changed its key.
    pub key_changed: Option<Timestamp>,
    pub ticket: Option<String>,
    pub ended: Option<Ended>,
}
