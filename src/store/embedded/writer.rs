//! The one thread that writes: drains the queue, applies each request whose versions match, commits
//! once, answers all.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::oneshot;

use super::fact::Fact;
use super::index::{self, Entries, Indexed};
use super::{ACCOUNTS, AUTHORIZATIONS, Facts, Halted, INDEX, ORDERS, REPLACED, Room};
use crate::acme::account::Account;
use crate::acme::authz::Authorization;
use crate::acme::order::{Order, Replaced};
use crate::id::{AuthzId, Timestamp};
use crate::store::{Change, HELD, StoreError};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Request {
    Commit { puts: Vec<Put>, answer: Answer<()> },
    Sweep { before: Timestamp, limit: usize, answer: Answer<usize> },
}

/// One change, encoded.
pub(super) struct Put {
    kind: Kind,
    id: [u8; 16],
    /// The version it replaces.
    expected: u64,
    /// `None`: the version is compared, and nothing is written.
    fact: Option<Encoded>,
    /// What outlives the fact.
    mark: Option<(index::Key, [u8; 8])>,
}

/// A fact's stored form and its index keys.
struct Encoded {
    bytes: Vec<u8>,
    keys: Entries,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Account,
    Order,
    Authorization,
    Replaced,
}

impl Put {
    pub(super) fn new(change: Change) -> Self {
        fn put<T: Fact + Indexed>(kind: Kind, id: [u8; 16], fact: &T, expected: u64) -> Put {
            let fact = Encoded { bytes: fact.encode(), keys: fact.keys() };
            Put { kind, id, expected, fact: Some(fact), mark: None }
        }

        match change {
            Change::Account(account, version) => {
                put(Kind::Account, account.id.0, &account, version.0)
            }
            Change::Order(order, version) => Self {
                mark: index::mark(&order),
                ..put(Kind::Order, order.id.0, &order, version.0)
            },
            Change::Authorization(authz, version) => {
                put(Kind::Authorization, authz.id.0, &authz, version.0)
            }
            Change::Holds(authz, version) => Self {
                kind: Kind::Authorization,
                id: authz.0,
                expected: version.0,
                fact: None,
                mark: None,
            },
            Change::Replaced(replaced, version) => {
                put(Kind::Replaced, *replaced.serial.octets(), &replaced, version.0)
            }
        }
    }
}

pub(super) struct Writer {
    database: Arc<Database>,
    halted: Halted,
    requests: Receiver<Request>,
    room: Room,
}

/// At most so many requests share a commit: a bound on what one fdatasync may delay.
const BATCH: usize = 256;

/// An answer that waits for the commit.
type Held = Box<dyn FnOnce(Result<(), StoreError>)>;

impl Writer {
    /// Makes the tables, so that readers always find them.
    pub(super) fn new(
        database: Arc<Database>,
        halted: Halted,
        requests: Receiver<Request>,
        room: Room,
    ) -> Result<Self, StoreError> {
        let there = database.begin_read().map_err(|e| halted.io(e))?;
        // The index is made last, so with it all are there but what a later release added; and then a full disk
        // is no hindrance.
        if there.open_table(INDEX).is_err() || there.open_table(REPLACED).is_err() {
            let transaction = database.begin_write().map_err(|e| halted.io(e))?;
            drop(Tables::open(&transaction, &halted)?);
            transaction.commit().map_err(|e| halted.io(e))?;
        }
        Ok(Self { database, halted, requests, room })
    }

    /// Until every sender is gone.
    pub(super) fn run(self) {
        while let Ok(first) = self.requests.recv() {
            let mut batch = vec![first];
            batch.extend(self.requests.try_iter().take(BATCH - 1));
            self.write(batch);
        }
    }

    fn write(&self, batch: Vec<Request>) {
        if !self.room.is_there() {
            for request in batch {
                match request {
                    Request::Commit { answer, .. } => drop(answer.send(Err(StoreError::Busy))),
                    Request::Sweep { answer, .. } => drop(answer.send(Err(StoreError::Busy))),
                }
            }
            return;
        }
        let mut held: Vec<Held> = Vec::with_capacity(batch.len());
        let outcome = self.halted.check().and_then(|()| self.transact(batch, &mut held));
        // Requests that never got as far see their answer dropped, which the asker takes for a halt.
        for answer in held {
            answer(outcome.clone());
        }
    }

    /// Applies a batch in one durable commit. Answers that do not depend on the commit are given at once.
    fn transact(&self, batch: Vec<Request>, held: &mut Vec<Held>) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(|e| self.halted.io(e))?;
        let mut tables = Tables::open(&transaction, &self.halted)?;
        let mut changed = false;
        for request in batch {
            match request {
                Request::Commit { puts, answer } => match tables.apply(&puts) {
                    Ok(()) => {
                        changed |= !puts.is_empty();
                        held.push(Box::new(move |committed| drop(answer.send(committed))));
                    }
                    Err(StoreError::Conflict) => drop(answer.send(Err(StoreError::Conflict))),
                    Err(halt) => {
                        drop(answer.send(Err(halt.clone())));
                        return Err(halt);
                    }
                },
                Request::Sweep { before, limit, answer } => match tables.sweep_all(before, limit) {
                    Ok((swept, forgotten)) => {
                        changed |= swept > 0 || forgotten > 0;
                        held.push(Box::new(move |committed| {
                            drop(answer.send(committed.map(|()| swept)));
                        }));
                    }
                    Err(halt) => {
                        drop(answer.send(Err(halt.clone())));
                        return Err(halt);
                    }
                },
            }
        }
        drop(tables);
        if changed {
            transaction.commit().map_err(|e| self.halted.io(e))
        } else {
            transaction.abort().map_err(|e| self.halted.io(e))
        }
    }
}

/// The tables in one write transaction.
struct Tables<'t> {
    accounts: FactTable<'t>,
    orders: FactTable<'t>,
    authorizations: FactTable<'t>,
    replaced: FactTable<'t>,
    index: Table<'t, &'static [u8], &'static [u8]>,
    halted: &'t Halted,
}

type FactTable<'t> = Table<'t, &'static [u8; 16], (u64, &'static [u8])>;

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction, halted: &'t Halted) -> Result<Self, StoreError> {
        let facts = |facts: Facts| transaction.open_table(facts).map_err(|e| halted.io(e));
        Ok(Self {
            accounts: facts(ACCOUNTS)?,
            orders: facts(ORDERS)?,
            authorizations: facts(AUTHORIZATIONS)?,
            replaced: facts(REPLACED)?,
            index: transaction.open_table(INDEX).map_err(|e| halted.io(e))?,
            halted,
        })
    }

    /// All of a request or nothing of it: every version is compared before anything is written.
    fn apply(&mut self, puts: &[Put]) -> Result<(), StoreError> {
        let mut named = HashSet::with_capacity(puts.len());
        let mut old_keys = Vec::with_capacity(puts.len());
        for put in puts {
            let (version, keys) = self.find(put.kind, put.id)?;
            if version != put.expected || !named.insert((put.kind, put.id)) {
                return Err(StoreError::Conflict);
            }
            old_keys.push(keys);
        }
        self.check_account_keys(puts)?;
        for (put, old_keys) in puts.iter().zip(old_keys) {
            let Some(fact) = &put.fact else { continue };
            for (key, _) in old_keys.iter().filter(|old| !fact.keys.contains(old)) {
                self.index.remove(key.as_slice()).map_err(|e| self.halted.io(e))?;
            }
            for (key, value) in fact.keys.iter().filter(|new| !old_keys.contains(new)) {
                self.index
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(|e| self.halted.io(e))?;
            }
            if let Some((key, issued)) = &put.mark {
                self.index
                    .insert(key.as_slice(), issued.as_slice())
                    .map_err(|e| self.halted.io(e))?;
            }
            let halted = self.halted;
            self.facts(put.kind)
                .insert(&put.id, (put.expected + 1, fact.bytes.as_slice()))
                .map_err(|e| halted.io(e))?;
        }
        Ok(())
    }

    /// No two accounts may have one key.
    fn check_account_keys(&self, puts: &[Put]) -> Result<(), StoreError> {
        let mut claimed = HashSet::new();
        let accounts = puts.iter().filter(|put| put.kind == Kind::Account);
        for fact in accounts.filter_map(|put| put.fact.as_ref()) {
            for (key, id) in &fact.keys {
                let taken = self.index.get(key.as_slice()).map_err(|e| self.halted.io(e))?;
                if !claimed.insert(key) || taken.is_some_and(|other| other.value() != id) {
                    return Err(StoreError::Conflict);
                }
            }
        }
        Ok(())
    }

    fn facts(&mut self, kind: Kind) -> &mut FactTable<'t> {
        match kind {
            Kind::Account => &mut self.accounts,
            Kind::Order => &mut self.orders,
            Kind::Authorization => &mut self.authorizations,
            Kind::Replaced => &mut self.replaced,
        }
    }

    /// The present version, 0 for absent, and the present fact's index keys.
    fn find(&self, kind: Kind, id: [u8; 16]) -> Result<(u64, Entries), StoreError> {
        match kind {
            Kind::Account => self.find_in::<Account>(&self.accounts, id),
            Kind::Order => self.find_in::<Order>(&self.orders, id),
            Kind::Authorization => self.find_in::<Authorization>(&self.authorizations, id),
            Kind::Replaced => self.find_in::<Replaced>(&self.replaced, id),
        }
    }

    fn find_in<T: Fact + Indexed>(
        &self,
        table: &FactTable<'_>,
        id: [u8; 16],
    ) -> Result<(u64, Entries), StoreError> {
        let Some(found) = table.get(&id).map_err(|e| self.halted.io(e))? else {
            return Ok((0, Vec::new()));
        };
        let (version, bytes) = found.value();
        let fact = T::decode(bytes).ok_or_else(|| self.halted.undecodable("a fact"))?;
        Ok((version, fact.keys()))
    }

    /// Forgets a fact and its index keys.
    fn remove<T: Fact + Indexed>(
        &mut self,
        kind: Kind,
        id: [u8; 16],
    ) -> Result<Option<T>, StoreError> {
        let halted = self.halted;
        let removed = self.facts(kind).remove(&id).map_err(|e| halted.io(e))?;
        let Some(fact) = removed.map(|found| T::decode(found.value().1)) else {
            return Ok(None);
        };
        let fact = fact.ok_or_else(|| halted.undecodable("a fact"))?;
        for (key, _) in fact.keys() {
            self.index.remove(key.as_slice()).map_err(|e| halted.io(e))?;
        }
        Ok(Some(fact))
    }

    fn sweep(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let ended = self.ids(&index::order_ends(), &index::order_ends_at(before), limit)?;
        let mut named = Vec::new();
        for id in &ended {
            if let Some(order) = self.remove::<Order>(Kind::Order, *id)? {
                named.extend(order.authorizations);
            }
        }
        for id in named {
            let expired = self.find_authorization(id)?.is_some_and(|a| a.expires < before);
            if expired && !self.is_named(id)? {
                self.remove::<Authorization>(Kind::Authorization, id.0)?;
            }
        }
        let mut swept = ended.len();
        let expired =
            self.ids(&index::authz_expiries(), &index::authz_expires_at(before), usize::MAX)?;
        for id in expired {
            if swept >= limit {
                break;
            }
            if !self.is_named(AuthzId(id))? {
                self.remove::<Authorization>(Kind::Authorization, id)?;
                swept += 1;
            }
        }
        let least = index::replaced_untils();
        let over = self.ids(&least, &index::replaced_until(before), limit.saturating_sub(swept))?;
        for serial in &over {
            self.remove::<Replaced>(Kind::Replaced, *serial)?;
        }
        Ok(swept + over.len())
    }

    /// Sweeps facts, and name sets once no facts are left to sweep; how many of each.
    fn sweep_all(&mut self, before: Timestamp, limit: usize) -> Result<(usize, usize), StoreError> {
        let swept = self.sweep(before, limit)?;
        let forgotten = if swept < limit { self.forget_held(before)? } else { 0 };
        Ok((swept, forgotten))
    }

    fn forget_held(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        let prefix = index::all_held();
        let end = index::end_of(&prefix);
        let halted = self.halted;
        let forgotten = self
            .index
            .extract_from_if::<&[u8], _>(prefix.as_slice()..end.as_slice(), |_, issued| {
                index::instant_of(issued).is_none_or(|issued| issued.plus(HELD) < before)
            })
            .map_err(|e| halted.io(e))?;
        let mut count = 0;
        for entry in forgotten {
            entry.map_err(|e| halted.io(e))?;
            count += 1;
        }
        Ok(count)
    }

    fn find_authorization(&self, id: AuthzId) -> Result<Option<Authorization>, StoreError> {
        let found = self.authorizations.get(&id.0).map_err(|e| self.halted.io(e))?;
        found
            .map(|found| {
                Authorization::decode(found.value().1)
                    .ok_or_else(|| self.halted.undecodable("a fact"))
            })
            .transpose()
    }

    fn is_named(&self, authz: AuthzId) -> Result<bool, StoreError> {
        let prefix = index::named_by(authz);
        Ok(!self.ids(&prefix, &index::end_of(&prefix), 1)?.is_empty())
    }

    /// The ids at the end of index keys in `start..end`.
    fn ids(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<[u8; 16]>, StoreError> {
        let range = self.index.range::<&[u8]>(start..end).map_err(|e| self.halted.io(e))?;
        range
            .take(limit)
            .map(|entry| {
                let (key, _) = entry.map_err(|e| self.halted.io(e))?;
                index::id_of(key.value()).ok_or_else(|| self.halted.undecodable("an index key"))
            })
            .collect()
    }
}
