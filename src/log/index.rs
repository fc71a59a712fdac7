//! Derived, disposable: where in the log an order, serial, account, name or day is. Rebuilt from the log alone.
//!
//! It holds what finds a record, and of a record little more than its place: what a certificate is, is read
//! in the log. So a certificate costs a hundred octets or so, and the index can say nothing that the log does not.
//!
//! Two layers. What was applied lately is in memory; a thread of the log moves it into a redb file
//! every few seconds, one durable transaction each, together with the *point* it reaches: how many
//! leaves, at which log offset, under which right edge. At start the log is replayed from a point.
//! A transaction that fails (a full disk, say) costs nothing but memory: it is tried again later.

mod certificates;
mod keys;
mod leaves;
mod names;
mod rebuild;
mod revocations;
mod state;
mod stopped;
mod subject;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use certificates::{CertificateEntry, Listing, Part, Place, ReadTbs, TbsFacts};
pub use leaves::{DAY, Day};
pub use names::NamePattern;
pub(super) use rebuild::{Filling, NEW, end_of};
pub use rebuild::{Published, Rebuilt, rebuild};
pub use revocations::{Listed, Revocation};
use serde::{Deserialize, Serialize};
use state::{Layer, State};
pub use stopped::{Located, Stopped};
pub use subject::{Matcher, Subject};

use super::record::Record;
use super::shelf::Shelf;
use super::tree::{Hash, RightEdge};
use crate::id::{AccountId, LeafIndex, Serial, Timestamp};

/// The index of one log; reads see every record whose append was answered.
pub struct Index {
    shelf: Arc<Shelf>,
    path: PathBuf,
    origin: Hash,
    read_tbs: ReadTbs,
    /// `None` after the file failed and could not be opened again.
    db: RwLock<Option<redb::Database>>,
    state: Mutex<State>,
    /// Held while the file is written: one at a time.
    flushing: Mutex<()>,
}

/// How far an issuance has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Issuance {
    /// An intent is durable, nothing else: may be signed again from its stored TBS.
    Intended { intent: LeafIndex, serial: Serial },
    /// Intent and signature are durable.
    Issued { intent: LeafIndex, issued: LeafIndex, serial: Serial },
    /// It shall never be signed; the serial counts as revoked.
    Abandoned { intent: LeafIndex, abandoned: LeafIndex, serial: Serial },
}

/// Whose a key is, or was before a key change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    pub account: AccountId,
    pub current: bool,
}

/// When an account ended, and whether an operator ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deactivation {
    pub at: Timestamp,
    pub by_operator: bool,
}

/// A CRL as it was logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoggedCrl {
    pub number: u64,
    pub tbs_sha256: Hash,
}

/// A place in the log from which replay can begin.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// Log offset of the first frame not yet applied.
    pub offset: u64,
    /// Its size is the number of leaves applied.
    pub edge: RightEdge,
}

impl Index {
    /// Opens the file, or begins a new one where it is missing, unreadable or of another log; then the
    /// text says so, and everything must be applied again. Where no file can be made, on a full disk,
    /// the index lives in memory until the next start: what must be revoked can still be found.
    pub(super) fn open(
        shelf: Arc<Shelf>,
        origin: Hash,
        read_tbs: ReadTbs,
    ) -> Result<(Self, Option<String>), String> {
        let path = shelf.dir.join(FILE);
        let (db, notice) = match table::open(&*shelf.disk, &path, &origin) {
            Ok(db) => (db, None),
            Err(why) => match table::create(&*shelf.disk, &path, &origin) {
                Ok(db) => (db, Some(why)),
                Err(error) => {
                    let why =
                        format!("{why}; and no new one can be made, it is kept in memory: {error}");
                    (table::create_in_memory(&origin)?, Some(why))
                }
            },
        };
        Ok((Self::over(db, shelf, path, origin, read_tbs)?, notice))
    }

    /// Opens the file as it is; fails where there is none, or it must be built again.
    pub(super) fn open_existing(
        shelf: Arc<Shelf>,
        origin: Hash,
        read_tbs: ReadTbs,
    ) -> Result<Self, String> {
        let path = shelf.dir.join(FILE);
        let db = table::open(&*shelf.disk, &path, &origin)?;
        Self::over(db, shelf, path, origin, read_tbs)
    }

    fn over(
        db: redb::Database,
        shelf: Arc<Shelf>,
        path: PathBuf,
        origin: Hash,
        read_tbs: ReadTbs,
    ) -> Result<Self, String> {
        let facts = table::facts(&db)?;
        let counted = table::points(&db)?.last().map_or(0, |point| point.edge.size());
        let state = State { facts, counted, ..State::default() };
        Ok(Self {
            shelf,
            path,
            origin,
            read_tbs,
            db: RwLock::new(Some(db)),
            state: Mutex::new(state),
            flushing: Mutex::new(()),
        })
    }

    /// Empties the file: everything must be applied again.
    pub(super) fn clear(&self) -> Result<(), String> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        let made = table::create(&*self.shelf.disk, &self.path, &self.origin);
        *db = Some(made.or_else(|_| table::create_in_memory(&self.origin))?);
        *self.state() = State::default();
        Ok(())
    }

    /// Where replay can begin, oldest first.
    pub(super) fn points(&self) -> Result<Vec<Point>, String> {
        self.with_db(table::points)
    }

    /// Applies durable records, each with its leaf and log offset, that reach up to `point`. Applying
    /// them twice is the same as once.
    pub(super) fn apply(&self, records: &[(LeafIndex, u64, Record)], point: Point) {
        for (leaf, offset, record) in records {
            // Found before the lock is taken; the intent may be of this batch.
            let known = match record {
                Record::AbandonedV1(r) => self.certificate(r.serial).unwrap_or_default(),
                _ => None,
            };
            let read = match record {
                Record::IntentV1(r) => (self.read_tbs)(&r.tbs),
                _ => None,
            };
            self.state().apply(*leaf, *offset, record, read, known);
        }
        self.state().recent.point = Some(point);
    }

    /// Records in memory only.
    pub(super) fn pending(&self) -> usize {
        let state = self.state();
        state.recent.leaves.len() + state.leaving.as_ref().map_or(0, |layer| layer.leaves.len())
    }

    /// Moves what was applied into the file, durably. After an error everything is as before. `before` makes durable
    /// whatever else has to be when a point says that replay can begin there; everything up to that point was applied
    /// when it is called.
    pub(super) fn flush_after(
        &self,
        before: &dyn Fn() -> Result<(), String>,
    ) -> Result<(), String> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // What an earlier error left behind goes first, then what has come since.
        for _ in 0..2 {
            let (layer, facts) = {
                let mut state = self.state();
                if state.leaving.is_none() {
                    if state.recent.point.is_none() {
                        return Ok(());
                    }
                    state.leaving = Some(Arc::new(std::mem::take(&mut state.recent)));
                }
                (state.leaving.clone().unwrap_or_default(), state.facts.clone())
            };
            let nothing_newer = self.state().recent.point.is_none();
            before()?;
            let written = self.with_db(|db| table::write(db, &layer, &facts));
            if let Err(error) = written {
                // redb refuses everything after an error of its file; a new handle starts afresh.
                let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
                *db = None;
                *db = table::open(&*self.shelf.disk, &self.path, &self.origin).ok();
                return Err(error);
            }
            self.state().leaving = None;
            if nothing_newer {
                break;
            }
        }
        Ok(())
    }

    /// The account's registration leaf.
    pub fn account(&self, account: AccountId) -> Result<Option<LeafIndex>, String> {
        match self.look(|layer| layer.accounts.get(&account).copied()) {
            Some(leaf) => Ok(Some(leaf)),
            None => self.with_db(|db| table::account(db, account)),
        }
    }

    /// The leaf of the account's newest key change, if it ever changed its key.
    pub fn key_change(&self, account: AccountId) -> Result<Option<LeafIndex>, String> {
        match self.look(|layer| layer.key_changes.get(&account).copied()) {
            Some(leaf) => Ok(Some(leaf)),
            None => self.with_db(|db| table::key_change(db, account)),
        }
    }

    /// Whether and when the account was deactivated.
    pub fn deactivated(&self, account: AccountId) -> Result<Option<Deactivation>, String> {
        match self.look(|layer| layer.deactivated.get(&account).copied()) {
            Some(end) => Ok(Some(end)),
            None => self.with_db(|db| table::deactivated(db, account)),
        }
    }

    /// The account holding the key with this RFC 7638 thumbprint.
    pub fn account_by_key(&self, thumbprint: [u8; 32]) -> Result<Option<AccountId>, String> {
        let holder = self.key_holder(thumbprint)?;
        Ok(holder.filter(|holder| holder.current).map(|holder| holder.account))
    }

    /// The account that has the key with this thumbprint, or that had it last.
    pub fn key_holder(&self, thumbprint: [u8; 32]) -> Result<Option<Holder>, String> {
        match self.look(|layer| layer.holders.get(&thumbprint).copied()) {
            Some(holder) => Ok(Some(holder)),
            None => self.with_db(|db| table::key(db, thumbprint)),
        }
    }

    /// Accounts after this one in the order of their ids, with their registrations' leaves; at most `limit`.
    pub fn accounts(
        &self,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, LeafIndex)>, String> {
        let newer: BTreeMap<_, _> = self.gather(|layer| {
            let later = layer.accounts.iter().filter(|(id, _)| after.is_none_or(|a| **id > a));
            later.take(limit).map(|(id, leaf)| (*id, *leaf)).collect::<Vec<_>>()
        });
        let mut all = self.with_db(|db| table::accounts(db, after, limit))?;
        all.extend(newer);
        Ok(all.into_iter().take(limit).collect())
    }

    /// Key changes and deactivations from this leaf on: which leaf, whose; at most `limit`.
    pub fn account_changes(
        &self,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<(LeafIndex, AccountId)>, String> {
        let newer: BTreeMap<_, _> = self.gather(|layer| {
            let later = layer.changes.range(from.0..).take(limit);
            later.map(|(leaf, id)| (LeafIndex(*leaf), *id)).collect::<Vec<_>>()
        });
        let mut all = self.with_db(|db| table::changes(db, from, limit))?;
        all.extend(newer);
        Ok(all.into_iter().take(limit).collect())
    }

    /// The leaf that minted a ticket.
    pub fn ticket(&self, ticket: &str) -> Result<Option<LeafIndex>, String> {
        match self.look(|layer| layer.tickets.get(ticket).copied()) {
            Some(leaf) => Ok(Some(leaf)),
            None => self.with_db(|db| table::ticket(db, ticket)),
        }
    }

    /// When a ticket was revoked.
    pub fn ticket_end(&self, ticket: &str) -> Result<Option<Timestamp>, String> {
        match self.look(|layer| layer.ticket_ends.get(ticket).copied()) {
            Some(at) => Ok(Some(at)),
            None => self.with_db(|db| table::ticket_end(db, ticket)),
        }
    }

    /// The accounts that a ticket registered: each spent one use of it.
    pub fn ticket_accounts(&self, ticket: &str) -> Result<BTreeSet<AccountId>, String> {
        let newer: BTreeSet<_> = self.gather(|layer| {
            let first = (ticket.to_owned(), AccountId([0; 16]));
            let own = layer.ticket_uses.range(first..).take_while(|(id, _)| id == ticket);
            own.map(|(_, account)| *account).collect::<Vec<_>>()
        });
        let mut all = self.with_db(|db| table::ticket_accounts(db, ticket))?;
        all.extend(newer);
        Ok(all)
    }

    /// Every intent with neither Issued nor Abandoned.
    pub fn open_intents(&self) -> Result<Vec<(LeafIndex, Serial)>, String> {
        Ok(self.state().facts.open.iter().map(|(leaf, serial)| (*leaf, *serial)).collect())
    }

    /// The leaves of the recalls that count: few, and all in memory.
    pub fn recalls(&self) -> Result<Vec<LeafIndex>, String> {
        Ok(self.state().facts.recalls.iter().copied().collect())
    }

    /// The greatest CRL number logged, 0 if none was.
    pub fn last_crl_number(&self) -> Result<u64, String> {
        Ok(self.state().facts.crl_number)
    }

    /// The newest CRL logged of the issuer whose certificate has this SHA-256.
    pub fn last_crl_of(&self, issuer_sha256: &[u8; 32]) -> Result<Option<LoggedCrl>, String> {
        Ok(self.state().facts.crls.get(issuer_sha256).copied())
    }

    /// The leaves that rotated or retired a log key, in order.
    pub fn log_keys(&self) -> Result<Vec<LeafIndex>, String> {
        Ok(self.state().facts.log_keys.iter().copied().collect())
    }

    /// The leaves that added or retired a root or an issuing CA, in order.
    pub fn authorities(&self) -> Result<Vec<LeafIndex>, String> {
        Ok(self.state().facts.authorities.iter().copied().collect())
    }

    /// The leaf that has the transcript with this SHA-256.
    pub fn ceremony(&self, transcript_sha256: &[u8; 32]) -> Result<Option<LeafIndex>, String> {
        Ok(self.state().facts.ceremonies.get(transcript_sha256).copied())
    }

    /// The leaf behind which there is nothing any more: this CA was retired.
    pub fn retired(&self) -> Result<Option<LeafIndex>, String> {
        Ok(self.state().facts.retired)
    }

    /// The newest instant any record states: the clock's floor.
    pub fn newest_instant(&self) -> Result<Timestamp, String> {
        Ok(self.state().facts.newest)
    }

    /// Log offset of a leaf's frame.
    pub(super) fn offset(&self, leaf: LeafIndex) -> Result<Option<u64>, String> {
        match self.look(|layer| layer.leaves.offset(leaf)) {
            Some(offset) => Ok(Some(offset)),
            None => self.with_db(|db| leaves::offset(db, leaf)),
        }
    }

    /// Reads the stored bytes of one record that was applied.
    pub(super) fn payload(&self, leaf: LeafIndex) -> Result<Vec<u8>, String> {
        let offset = self.offset(leaf)?;
        let offset = offset.ok_or_else(|| format!("leaf {leaf} is not in the index"))?;
        self.shelf.payload(offset).map_err(|why| format!("leaf {leaf}: {why}"))
    }

    /// Reads one record that was applied.
    pub fn record(&self, leaf: LeafIndex) -> Result<Record, String> {
        Record::decode(&self.payload(leaf)?).map_err(|why| format!("leaf {leaf}: {why}"))
    }

    /// Where these leaves lie: log offsets, for `Reader::at`.
    pub fn places(
        &self,
        leaves: impl IntoIterator<Item = LeafIndex>,
    ) -> Result<Vec<(LeafIndex, u64)>, String> {
        let offset = |leaf| self.offset(leaf).map(|offset| Some((leaf, offset?)));
        leaves.into_iter().filter_map(|leaf| offset(leaf).transpose()).collect()
    }

    /// The days on which records were made, from that of `from` to that of `to`, by their number since 1970-01-01.
    pub fn days(&self, from: Timestamp, to: Timestamp) -> Result<BTreeMap<u64, Day>, String> {
        let days = leaves::day_of(from)..=leaves::day_of(to.max(from));
        // Both or neither: a layer that leaves for the file meanwhile would be counted twice.
        let _still = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.with_db(|db| leaves::days(db, days.clone()))?;
        let newer: Vec<(u64, Day)> = self.gather(|layer| layer.leaves.days(days.clone()).collect());
        for (number, day) in newer {
            let sum = all.get(&number).map_or(day, |known| known.plus(day));
            all.insert(number, sum);
        }
        Ok(all)
    }

    /// How many certificates end on each day, from that of `from` to that of `to`, by its number since 1970-01-01;
    /// days on which none does may be left out. Those that were abandoned or revoked are none.
    pub fn ends(&self, from: Timestamp, to: Timestamp) -> Result<BTreeMap<u64, u64>, String> {
        let days = leaves::day_of(from)..=leaves::day_of(to.max(from));
        // As for `days`.
        let _still = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.with_db(|db| leaves::ends(db, days.clone()))?;
        let newer: Vec<(u64, i64)> = self.gather(|layer| layer.leaves.ends(days.clone()).collect());
        for (number, more) in newer {
            let sum = all.entry(number).or_default();
            *sum = sum.saturating_add_signed(more);
        }
        Ok(all)
    }

    /// What the layers in memory have, the newest last. To be called before the file is read: what moves into
    /// it meanwhile is then seen twice, never not at all.
    fn gather<T, C: Default + Extend<T>>(&self, find: impl Fn(&Layer) -> Vec<T>) -> C {
        let state = self.state();
        let mut all = C::default();
        for layer in state.leaving.as_deref().into_iter().chain([&state.recent]) {
            all.extend(find(layer));
        }
        all
    }

    /// The newest answer of the layers in memory.
    fn look<T>(&self, find: impl Fn(&Layer) -> Option<T>) -> Option<T> {
        let state = self.state();
        find(&state.recent).or_else(|| state.leaving.as_deref().and_then(&find))
    }

    fn with_db<T>(
        &self,
        read: impl FnOnce(&redb::Database) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            drop(guard);
            let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
            if db.is_none() {
                *db = Some(table::open(&*self.shelf.disk, &self.path, &self.origin)?);
            }
            drop(db);
            guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        }
        read(guard.as_ref().ok_or("the index is not open")?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file's name in the log's directory.
pub(in crate::log) const FILE: &str = "index.redb";

#[cfg(test)]
mod tests;
