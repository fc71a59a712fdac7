//! Accounts, their keys and the tickets they came by, as far as the log alone can be asked about them.

use std::collections::HashMap;

use super::SETTLING;
use crate::id::{AccountId, Timestamp};
use crate::log::record::{KeyChangedV1, TicketMintedV1};
use crate::log::tree::{Hash, sha256};

/// What was read so far. Each method takes the next record and says what is wrong with it.
#[derive(Default)]
pub(super) struct Accounts {
    accounts: HashMap<AccountId, Account>,
    holders: HashMap<Hash, AccountId>,
    tickets: HashMap<String, Ticket>,
}

struct Account {
    /// The thumbprint of the present key.
    key: Hash,
    ended: Option<Timestamp>,
}

struct Ticket {
    uses_left: u32,
    /// When it expires, or was revoked.
    ends: Timestamp,
}

impl Accounts {
    pub(super) fn registered(
        &mut self,
        at: Timestamp,
        account: AccountId,
        jwk: &str,
        ticket: Option<&str>,
    ) -> Result<(), String> {
        let key = sha256(jwk.as_bytes());
        let known = self.accounts.insert(account, Account { key, ended: None }).is_some();
        let holder = self.holders.insert(key, account);
        if let Some(name) = ticket {
            match self.tickets.get_mut(name) {
                None => return Err(format!("ticket {name:?} was never minted")),
                Some(ticket) if ticket.uses_left == 0 => {
                    return Err(format!("ticket {name:?} was used up already"));
                }
                Some(ticket) => {
                    ticket.uses_left -= 1;
                    if at > ticket.ends.plus(SETTLING) {
                        return Err(format!("ticket {name:?} had ended {}", ticket.ends));
                    }
                }
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
        self.active(change.account, change.at)?;
        let account = self.accounts.get_mut(&change.account);
        let before = account.map(|account| std::mem::replace(&mut account.key, key));
        self.holders.remove(&change.former);
        let holder = self.holders.insert(key, change.account);
        match (before, holder) {
            (before, _) if before != Some(change.former) => {
                Err(format!("the key that is replaced is not account {}'s", change.account))
            }
            (_, Some(other)) => Err(format!("the new key is account {other}'s")),
            (_, None) => Ok(()),
        }
    }

    pub(super) fn deactivated(&mut self, at: Timestamp, account: AccountId) -> Result<(), String> {
        match self.accounts.get_mut(&account) {
            None => Err(never(account)),
            Some(Account { ended: Some(before), .. }) => {
                Err(format!("account {account} was deactivated {before} already"))
            }
            Some(known) => {
                known.ended = Some(at);
                Ok(())
            }
        }
    }

    /// An account that asks for something has registered and was not deactivated.
    pub(super) fn active(&self, account: AccountId, at: Timestamp) -> Result<(), String> {
        match self.accounts.get(&account) {
            None => Err(never(account)),
            Some(Account { ended: Some(ended), .. }) if at > ended.plus(SETTLING) => {
                Err(format!("account {account} was deactivated {ended}"))
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) fn minted(&mut self, minted: &TicketMintedV1) -> Result<(), String> {
        let ticket = Ticket { uses_left: minted.uses, ends: minted.expires };
        match self.tickets.insert(minted.ticket.clone(), ticket) {
            None => Ok(()),
            Some(_) => Err(format!("ticket {:?} was minted before", minted.ticket)),
        }
    }

    pub(super) fn ticket_revoked(&mut self, at: Timestamp, name: &str) -> Result<(), String> {
        match self.tickets.get_mut(name) {
            None => Err(format!("ticket {name:?} was never minted")),
            Some(ticket) => {
                ticket.ends = ticket.ends.min(at);
                Ok(())
            }
        }
    }

    /// Accounts and tickets.
    pub(super) fn kept(&self) -> usize {
        self.accounts.len() + self.tickets.len()
    }
}

fn never(account: AccountId) -> String {
    format!("account {account} never registered")
}
