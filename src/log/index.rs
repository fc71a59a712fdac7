//! Derived, disposable: where in the log an order, serial or account is. Rebuilt from the log alone.
//!
//! Two layers. What was applied lately is in memory; a thread of the log moves it into a redb file
//! every few seconds, one durable transaction each, together with the *point* it reaches: how many
//! leaves, at which log offset, under which right edge. At start the log is replayed from a point.
//! A transaction that fails (a full disk, say) costs nothing but memory: it is tried again later.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::record::{Record, Requester};
use super::tree::{Hash, RightEdge, sha256};
use crate::env::Disk;
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// The index of one log; reads see every record whose append was answered.
pub struct Index {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    origin: Hash,
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

/// A place in the log from which replay can begin.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// Log offset of the first frame not yet applied.
    pub offset: u64,
    /// Its size is the number of leaves applied.
    pub edge: RightEdge,
}

/// What was applied since the last transaction.
#[derive(Default)]
struct Layer {
    leaves: BTreeMap<u64, u64>,
    orders: BTreeMap<OrderId, Serial>,
    serials: BTreeMap<Serial, Issuance>,
    accounts: BTreeMap<AccountId, LeafIndex>,
    keys: BTreeMap<Hash, AccountId>,
    revoked: BTreeMap<Serial, Timestamp>,
    point: Option<Point>,
}

struct State {
    recent: Layer,
    /// On its way into the file.
    leaving: Option<Arc<Layer>>,
    /// All of them: there are few, and they are asked for at start.
    open: BTreeMap<LeafIndex, Serial>,
    crl_number: u64,
    newest: Timestamp,
}

impl Index {
    /// Opens the file, or begins a new one where it is missing, unreadable or of another log; then the
    /// text says so, and everything must be applied again. Where no file can be made, on a full disk,
    /// the index lives in memory until the next start: what must be revoked can still be found.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        origin: Hash,
    ) -> Result<(Self, Option<String>), String> {
        let (db, notice) = match table::open(&*disk, path, &origin) {
            Ok(db) => (db, None),
            Err(why) => match table::create(&*disk, path, &origin) {
                Ok(db) => (db, Some(why)),
                Err(error) => {
                    let why =
                        format!("{why}; and no new one can be made, it is kept in memory: {error}");
                    (table::create_in_memory(&origin)?, Some(why))
                }
            },
        };
        let stored = table::facts(&db)?;
        let state = State {
            recent: Layer::default(),
            leaving: None,
            open: stored.open,
            crl_number: stored.crl_number,
            newest: stored.newest,
        };
        let index = Self {
            disk,
            path: path.to_owned(),
            origin,
            db: RwLock::new(Some(db)),
            state: Mutex::new(state),
            flushing: Mutex::new(()),
        };
        Ok((index, notice))
    }

    /// Empties the file: everything must be applied again.
    pub(super) fn clear(&self) -> Result<(), String> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        let made = table::create(&*self.disk, &self.path, &self.origin);
        *db = Some(made.or_else(|_| table::create_in_memory(&self.origin))?);
        let mut state = self.state();
        *state = State {
            recent: Layer::default(),
            leaving: None,
            open: BTreeMap::new(),
            crl_number: 0,
            newest: Timestamp(0),
        };
        Ok(())
    }

    /// Where replay can begin, oldest first.
    pub(super) fn points(&self) -> Result<Vec<Point>, String> {
        self.with_db(table::points)
    }

    /// Applies durable records, each with its leaf and log offset, that reach up to `point`. Applying
    /// them twice is the same as once.
    pub(super) fn apply(&self, records: &[(LeafIndex, u64, Record)], point: Point) {
        let mut state = self.state();
        for (leaf, offset, record) in records {
            state.apply(*leaf, *offset, record);
        }
        state.recent.point = Some(point);
    }

    /// Records in memory only.
    pub(super) fn pending(&self) -> usize {
        let state = self.state();
        state.recent.leaves.len() + state.leaving.as_ref().map_or(0, |l| l.leaves.len())
    }

    /// Moves what was applied into the file, durably. After an error everything is as before.
    pub(super) fn flush(&self) -> Result<(), String> {
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
                let facts = table::Facts {
                    open: state.open.clone(),
                    crl_number: state.crl_number,
                    newest: state.newest,
                };
                (state.leaving.clone().unwrap_or_default(), facts)
            };
            let nothing_newer = self.state().recent.point.is_none();
            let written = self.with_db(|db| table::write(db, &layer, &facts));
            if let Err(error) = written {
                // redb refuses everything after an error of its file; a new handle starts afresh.
                let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
                *db = None;
                *db = table::open(&*self.disk, &self.path, &self.origin).ok();
                return Err(error);
            }
            self.state().leaving = None;
            if nothing_newer {
                break;
            }
        }
        Ok(())
    }

    /// The issuance of an order: of its newest intent.
    pub fn by_order(&self, order: OrderId) -> Result<Option<Issuance>, String> {
        let recent = self.look(|layer| layer.orders.get(&order).copied());
        let serial = match recent {
            Some(serial) => Some(serial),
            None => self.with_db(|db| table::order(db, order))?,
        };
        serial.map_or(Ok(None), |serial| self.by_serial(serial))
    }

    /// The issuance of a serial.
    pub fn by_serial(&self, serial: Serial) -> Result<Option<Issuance>, String> {
        match self.look(|layer| layer.serials.get(&serial).copied()) {
            Some(issuance) => Ok(Some(issuance)),
            None => self.with_db(|db| table::serial(db, serial)),
        }
    }

    /// The account's registration leaf.
    pub fn account(&self, account: AccountId) -> Result<Option<LeafIndex>, String> {
        match self.look(|layer| layer.accounts.get(&account).copied()) {
            Some(leaf) => Ok(Some(leaf)),
            None => self.with_db(|db| table::account(db, account)),
        }
    }

    /// The account holding the key with this RFC 7638 thumbprint.
    pub fn account_by_key(&self, thumbprint: [u8; 32]) -> Result<Option<AccountId>, String> {
        match self.look(|layer| layer.keys.get(&thumbprint).copied()) {
            Some(account) => Ok(Some(account)),
            None => self.with_db(|db| table::key(db, thumbprint)),
        }
    }

    /// Every intent with neither Issued nor Abandoned.
    pub fn open_intents(&self) -> Result<Vec<(LeafIndex, Serial)>, String> {
        Ok(self.state().open.iter().map(|(leaf, serial)| (*leaf, *serial)).collect())
    }

    /// Serials to be listed in the CRL (abandoned so far) with the instant of revocation, by serial.
    pub fn revoked(&self) -> Result<Vec<(Serial, Timestamp)>, String> {
        // The layers first: what moves into the file meanwhile is then seen twice, never not at all.
        let mut newer = BTreeMap::new();
        {
            let state = self.state();
            for layer in state.leaving.as_deref().into_iter().chain([&state.recent]) {
                newer.extend(layer.revoked.iter().map(|(s, at)| (*s, *at)));
            }
        }
        let mut all = self.with_db(table::revoked)?;
        all.extend(newer);
        Ok(all.into_iter().collect())
    }

    /// The greatest CRL number logged, 0 if none was.
    pub fn last_crl_number(&self) -> Result<u64, String> {
        Ok(self.state().crl_number)
    }

    /// The newest instant any record states: the clock's floor.
    pub fn newest_instant(&self) -> Result<Timestamp, String> {
        Ok(self.state().newest)
    }

    /// Log offset of a leaf's frame.
    pub(super) fn offset(&self, leaf: LeafIndex) -> Result<Option<u64>, String> {
        match self.look(|layer| layer.leaves.get(&leaf.0).copied()) {
            Some(offset) => Ok(Some(offset)),
            None => self.with_db(|db| table::leaf(db, leaf)),
        }
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
                *db = Some(table::open(&*self.disk, &self.path, &self.origin)?);
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

impl State {
    fn apply(&mut self, leaf: LeafIndex, offset: u64, record: &Record) {
        let Self { recent, open, crl_number, newest, .. } = self;
        recent.leaves.insert(leaf.0, offset);
        *newest = record.at().max(*newest);
        match record {
            Record::CeremonyV1(_) | Record::ClockAcceptedV1(_) => {}
            Record::AccountRegisteredV1(r) => {
                recent.accounts.insert(r.account, leaf);
                recent.keys.insert(sha256(r.jwk.as_bytes()), r.account);
            }
            Record::IntentV1(r) => {
                if let Requester::Order { order, .. } = r.requester {
                    recent.orders.insert(order, r.serial);
                }
                recent
                    .serials
                    .insert(r.serial, Issuance::Intended { intent: leaf, serial: r.serial });
                open.insert(leaf, r.serial);
            }
            Record::IssuedV1(r) => {
                let (intent, serial) = (r.intent, r.serial);
                recent.serials.insert(serial, Issuance::Issued { intent, issued: leaf, serial });
                open.remove(&intent);
            }
            Record::AbandonedV1(r) => {
                let (intent, serial) = (r.intent, r.serial);
                let abandoned = Issuance::Abandoned { intent, abandoned: leaf, serial };
                recent.serials.insert(serial, abandoned);
                recent.revoked.insert(serial, r.at);
                open.remove(&intent);
            }
            Record::CrlV1(r) => *crl_number = r.number.max(*crl_number),
        }
    }
}

/// The file's name in the log's directory.
pub(super) const FILE: &str = "index.redb";
