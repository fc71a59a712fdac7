//! Accounts, their keys and the tickets they came by, as far as the log alone can be asked about them.

use std::collections::HashMap;

use crate::id::AccountId;
use crate::log::record::{KeyChangedV1, TicketMintedV1};
use crate::log::tree::{Hash, sha256};

/// What was read so far. Each method takes the next record and says what is wrong with it.
#[derive(Default)]
pub(super) struct Accounts {
    /// The thumbprint of each account's present key.
    keys: HashMap<AccountId, Hash>,
    holders: HashMap<Hash, AccountId>,
    /// Uses left.
    tickets: HashMap<String, u32>,
}

impl Accounts {
    pub(super) fn registered(
        &mut self,
        account: AccountId,
        jwk: &str,
        ticket: Option<&str>,
    ) -> Result<(), String> {
        let key = sha256(jwk.as_bytes());
        let known = self.keys.insert(account, key).is_some();
        let holder = self.holders.insert(key, account);
        if let Some(ticket) = ticket {
            match self.tickets.get_mut(ticket) {
                Some(0) => return Err(format!("ticket {ticket:?} was used up already")),
                Some(left) => *left -= 1,
                None => return Err(format!("ticket {ticket:?} was never minted")),
            }
        }
        match holder {
            _ if known => Err(format!("account {account} was registered before")),
            Some(other) => Err(format!("the key is account {other}'s")),
            None => Ok(()),
        }
    }

    pub(super) fn key_changed(&mut self, change: &KeyChangedV1) -> Result<(), String> {
        let key = sha256(change.jwk.as_bytes());
        let before = self.keys.insert(change.account, key);
        self.holders.remove(&change.former);
        let holder = self.holders.insert(key, change.account);
        match (before, holder) {
            (None, _) => Err(format!("account {} never registered", change.account)),
            (Some(before), _) if before != change.former => {
                Err(format!("the key that is replaced is not account {}'s", change.account))
            }
            (Some(_), Some(other)) => Err(format!("the new key is account {other}'s")),
            (Some(_), None) => Ok(()),
        }
    }

    /// An account that is asked for something must have registered.
    pub(super) fn known(&self, account: AccountId) -> Result<(), String> {
        match self.keys.get(&account) {
            Some(_) => Ok(()),
            None => Err(format!("account {account} never registered")),
        }
    }

    pub(super) fn minted(&mut self, ticket: &TicketMintedV1) -> Result<(), String> {
        match self.tickets.insert(ticket.ticket.clone(), ticket.uses) {
            None => Ok(()),
            Some(_) => Err(format!("ticket {:?} was minted before", ticket.ticket)),
        }
    }

    pub(super) fn revoked(&self, ticket: &str) -> Result<(), String> {
        if self.tickets.contains_key(ticket) {
            return Ok(());
        }
        Err(format!("ticket {ticket:?} was never minted"))
    }
}
