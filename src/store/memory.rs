//! Facts in plain maps behind a mutex: for tests, and for a look at what the embedded store has to do.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, HELD, OrderFacts, Store, StoreError, Version, ready};
use crate::acme::Identifier;
use crate::acme::account::Account;
use crate::acme::authz::{Authorization, AuthzStatus};
use crate::acme::jws::Thumbprint;
use crate::acme::name_set::NameSet;
use crate::acme::order::{Order, Replaced};
use crate::env::BoxFuture;
use crate::id::{AccountId, AuthzId, OrderId, Serial, Timestamp};

/// Forgets everything when dropped.
#[derive(Debug, Default)]
pub struct Memory {
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    accounts: HashMap<AccountId, (Account, Version)>,
    orders: HashMap<OrderId, (Order, Version)>,
    authorizations: HashMap<AuthzId, (Authorization, Version)>,
    replaced: HashMap<Serial, (Replaced, Version)>,
    /// When these names were last certified.
    held: HashMap<NameSet, Timestamp>,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn account(
        &self,
        id: AccountId,
    ) -> BoxFuture<'_, Result<Option<(Account, Version)>, StoreError>> {
        ready(Ok(self.facts().accounts.get(&id).cloned()))
    }

    fn account_by_key(
        &self,
        key: Thumbprint,
    ) -> BoxFuture<'_, Result<Option<(Account, Version)>, StoreError>> {
        let facts = self.facts();
        ready(Ok(facts.accounts.values().find(|(a, _)| a.key.thumbprint() == key).cloned()))
    }

    fn order(&self, id: OrderId) -> BoxFuture<'_, Result<Option<OrderFacts>, StoreError>> {
        let facts = self.facts();
        let found = facts.orders.get(&id).map(|(order, version)| OrderFacts {
            order: order.clone(),
            version: *version,
            authorizations: order
                .authorizations
                .iter()
                .filter_map(|id| facts.authorizations.get(id).cloned())
                .collect(),
        });
        ready(Ok(found))
    }

    fn authorization(
        &self,
        id: AuthzId,
    ) -> BoxFuture<'_, Result<Option<(Authorization, Version)>, StoreError>> {
        ready(Ok(self.facts().authorizations.get(&id).cloned()))
    }

    fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>> {
        let facts = self.facts();
        let place = |order: &Order| (order.created, order.id);
        let after = after.and_then(|id| facts.orders.get(&id)).map(|(order, _)| place(order));
        let mut places: Vec<_> = facts
            .orders
            .values()
            .filter(|(order, _)| order.account == account)
            .map(|(order, _)| place(order))
            .filter(|place| after.is_none_or(|after| *place > after))
            .collect();
        places.sort_unstable();
        ready(Ok(places.into_iter().take(limit).map(|(_, id)| id).collect()))
    }

    fn valid_authorizations<'a>(
        &'a self,
        account: AccountId,
        identifiers: &'a [Identifier],
    ) -> BoxFuture<'a, Result<Vec<Authorization>, StoreError>> {
        let facts = self.facts();
        let mut found: Vec<Authorization> = Vec::new();
        for identifier in identifiers {
            let mut covering: Vec<&Authorization> = facts
                .authorizations
                .values()
                .map(|(authz, _)| authz)
                .filter(|authz| authz.account == account && authz.covers(identifier))
                .filter(|authz| authz.status(Timestamp(0)) == AuthzStatus::Valid)
                .collect();
            let made_for =
                |authz: &Authorization| (authz.subdomains, Reverse(authz.identifier.value().len()));
            covering.sort_by_key(|authz| (made_for(authz), Reverse(authz.expires)));
            covering.dedup_by_key(|authz| made_for(authz));
            for authz in covering {
                if !found.contains(authz) {
                    found.push(authz.clone());
                }
            }
        }
        ready(Ok(found))
    }

    fn pending_authorization<'a>(
        &'a self,
        account: AccountId,
        identifier: &'a Identifier,
        subdomains: bool,
    ) -> BoxFuture<'a, Result<Option<Authorization>, StoreError>> {
        let facts = self.facts();
        let found = facts
            .authorizations
            .values()
            .map(|(authz, _)| authz)
            .filter(|authz| authz.account == account && authz.subdomains == subdomains)
            .filter(|authz| {
                (authz.wildcard, &authz.identifier)
                    == (identifier.is_wildcard(), &identifier.base())
            })
            .filter(|authz| authz.status(Timestamp(0)) == AuthzStatus::Pending)
            .max_by_key(|authz| authz.expires);
        ready(Ok(found.cloned()))
    }

    fn replaced(
        &self,
        serial: Serial,
    ) -> BoxFuture<'_, Result<Option<(Replaced, Version)>, StoreError>> {
        ready(Ok(self.facts().replaced.get(&serial).cloned()))
    }

    fn processing(&self) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>> {
        let facts = self.facts();
        let found = facts.orders.values().filter(|(order, _)| order.is_processing());
        ready(Ok(found.map(|(order, _)| order.id).collect()))
    }

    fn validating(&self) -> BoxFuture<'_, Result<Vec<AuthzId>, StoreError>> {
        let facts = self.facts();
        let found = facts.authorizations.values().filter(|(authz, _)| authz.is_validating());
        ready(Ok(found.map(|(authz, _)| authz.id).collect()))
    }

    fn held(&self, names: NameSet) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        ready(Ok(self.facts().held.get(&names).copied()))
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.facts().commit(changes))
    }

    fn sweep(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        ready(Ok(self.facts().sweep(before, limit)))
    }
}

impl Facts {
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut named = HashSet::new();
        let mut keys = HashSet::new();
        for change in &changes {
            let (name, found, expected) = match change {
                Change::Account(account, expected) => {
                    let key = account.key.thumbprint();
                    let taken = |(other, _): &(Account, Version)| {
                        other.id != account.id && other.key.thumbprint() == key
                    };
                    if !keys.insert(key) || self.accounts.values().any(taken) {
                        return Err(StoreError::Conflict);
                    }
                    let found = self.accounts.get(&account.id).map(|(_, version)| *version);
                    (('a', account.id.0), found, *expected)
                }
                Change::Order(order, expected) => {
                    let found = self.orders.get(&order.id).map(|(_, version)| *version);
                    (('o', order.id.0), found, *expected)
                }
                Change::Authorization(authz, expected) => {
                    let found = self.authorizations.get(&authz.id).map(|(_, version)| *version);
                    (('z', authz.id.0), found, *expected)
                }
                Change::Holds(authz, expected) => {
                    let found = self.authorizations.get(authz).map(|(_, version)| *version);
                    (('z', authz.0), found, *expected)
                }
                Change::Replaced(replaced, expected) => {
                    let found = self.replaced.get(&replaced.serial).map(|(_, version)| *version);
                    (('r', *replaced.serial.octets()), found, *expected)
                }
            };
            if !named.insert(name) || found.unwrap_or(Version::ABSENT) != expected {
                return Err(StoreError::Conflict);
            }
        }
        for change in changes {
            let next = |version: Version| Version(version.0 + 1);
            match change {
                Change::Account(account, version) => {
                    self.accounts.insert(account.id, (account, next(version)));
                }
                Change::Order(order, version) => {
                    if let Some(issued) = order.issued() {
                        self.held.insert(NameSet::of(&order.identifiers), issued);
                    }
                    self.orders.insert(order.id, (order, next(version)));
                }
                Change::Authorization(authz, version) => {
                    self.authorizations.insert(authz.id, (authz, next(version)));
                }
                Change::Holds(..) => {}
                Change::Replaced(replaced, version) => {
                    self.replaced.insert(replaced.serial, (replaced, next(version)));
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self, before: Timestamp, limit: usize) -> usize {
        let mut ended: Vec<_> = self
            .orders
            .values()
            .filter_map(|(order, _)| Some((order.ends()?, order.id)))
            .filter(|(ends, _)| *ends < before)
            .collect();
        ended.sort_unstable();
        ended.truncate(limit);
        let mut named = Vec::new();
        for (_, id) in &ended {
            named.extend(self.orders.remove(id).into_iter().flat_map(|(o, _)| o.authorizations));
        }
        let mut lone: Vec<_> = self
            .authorizations
            .values()
            .map(|(authz, _)| (authz.expires, authz.id))
            .filter(|(expires, id)| {
                *expires < before
                    && !self.orders.values().any(|(order, _)| order.authorizations.contains(id))
            })
            .collect();
        lone.sort_unstable();
        let (with_order, mut alone): (Vec<_>, Vec<_>) =
            lone.into_iter().partition(|(_, id)| named.contains(id));
        alone.truncate(limit - ended.len());
        for (_, id) in with_order.iter().chain(&alone) {
            self.authorizations.remove(id);
        }
        self.held.retain(|_, issued| issued.plus(HELD) >= before);
        let mut over: Vec<_> = self
            .replaced
            .values()
            .map(|(replaced, _)| (replaced.until, replaced.serial))
            .filter(|(until, _)| *until < before)
            .collect();
        over.sort_unstable();
        over.truncate(limit - ended.len() - alone.len());
        for (_, serial) in &over {
            self.replaced.remove(serial);
        }
        ended.len() + alone.len() + over.len()
    }
}

#[cfg(test)]
mod tests {
    super::super::contract::tests!(super::super::contract::Fixture {
        store: Box::new(super::Memory::new()),
        dir: None,
    });
}
