//! Facts in redb, one file: reads on snapshots, one writer thread whose every durable commit answers
//! all requests that waited (group commit).
//!
//! Nothing here decides: a request whose versions do not match fails alone, its neighbours commit. After
//! any error of the file nothing is known of what is on disk: the store halts and says so to everybody.

pub mod copy;
mod fact;
mod index;
mod writer;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use redb::backends::FileBackend;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition};
use tokio::sync::oneshot;

use self::fact::Fact;
use self::index::Standing;
use self::writer::{Request, Writer};
use super::{Change, OrderFacts, Store, StoreError, Version, ready};
use crate::acme::Identifier;
use crate::acme::account::Account;
use crate::acme::authz::Authorization;
use crate::acme::jws::Thumbprint;
use crate::acme::name_set::NameSet;
use crate::acme::order::{Order, Replaced};
use crate::env::{BoxFuture, Disk};
use crate::id::{AccountId, AuthzId, OrderId, Serial, Timestamp};

/// The store of one appliance. Dropped, it finishes what was asked and closes the file.
pub struct Embedded {
    database: Arc<Database>,
    halted: Halted,
    /// `None` only while dropping.
    queue: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Another handle on the database's file, to ask for its length.
    file: File,
    room: Room,
}

/// Whether the disk has room for what one commit may add. redb refuses everything after an error of its
/// file, so a full disk must be noticed before a write, not by it.
#[derive(Clone)]
struct Room {
    disk: Arc<dyn Disk>,
    dir: std::path::PathBuf,
}

impl Room {
    /// A batch of the largest orders, and the pages copied on the way.
    const LEAST: u64 = 4 << 20;

    fn is_there(&self) -> bool {
        // A disk that cannot be asked is for the write to judge.
        self.disk.free(&self.dir).map_or(true, |free| free >= Self::LEAST)
    }
}

/// A fact by its id: its version and its stored form.
type Facts = TableDefinition<'static, &'static [u8; 16], (u64, &'static [u8])>;

const ACCOUNTS: Facts = TableDefinition::new("account");
const ORDERS: Facts = TableDefinition::new("order");
const AUTHORIZATIONS: Facts = TableDefinition::new("authorization");
const REPLACED: Facts = TableDefinition::new("replaced");
/// See `index`.
const INDEX: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("index");

/// Memory for pages, in octets. The kernel caches the file besides.
const CACHE: usize = 2 << 20;

/// Requests that may wait for the writer; one more is told to come back.
const QUEUE: usize = 1024;

/// Why the store stopped, for the operator; set once.
#[derive(Clone, Debug, Default)]
struct Halted(Arc<OnceLock<String>>);

impl Halted {
    fn check(&self) -> Result<(), StoreError> {
        self.0.get().map_or(Ok(()), |why| Err(StoreError::Halt(why.clone())))
    }

    /// Halts, and says why it first did.
    fn set(&self, why: String) -> StoreError {
        tracing::error!(%why, "the store halts");
        StoreError::Halt(self.0.get_or_init(|| why).clone())
    }

    /// A failure of the file.
    fn io(&self, error: impl Into<redb::Error>) -> StoreError {
        self.set(match error.into() {
            redb::Error::Corrupted(what) => corrupt(&what),
            error => format!(
                "CHY-STORE-IO: the store could not be read or written: {error}; check disk and file \
                 system, then start again"
            ),
        })
    }

    /// Bytes that are no fact.
    fn undecodable(&self, what: &str) -> StoreError {
        self.set(corrupt(&format!("{what} does not decode")))
    }
}

fn corrupt(what: &str) -> String {
    format!(
        "CHY-STORE-CORRUPT: the store's file is damaged, or a newer release wrote it: {what}; restore it \
         from a backup, or move it away to begin with an empty one"
    )
}

impl Embedded {
    /// Opens the file at `path`, making it and nothing above it if it is not there. After a crash, or if
    /// the file was changed by another, every page is checked first. `Busy` while another process has it open;
    /// the text of any other error is for the operator.
    pub fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let dir = path.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        let room = Room { disk, dir };
        let failed = |why: &dyn fmt::Display| {
            StoreError::Halt(format!(
                "CHY-STORE: {} cannot be opened: {why}; check its owner and the disk",
                path.display()
            ))
        };
        let fresh = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|why| failed(&why))?;
        let other = file.try_clone().map_err(|why| failed(&why))?;
        let refused = |error: redb::DatabaseError| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Busy,
            redb::DatabaseError::Storage(redb::StorageError::Io(why))
                if why.kind() != std::io::ErrorKind::InvalidData =>
            {
                failed(&why)
            }
            error => StoreError::Halt(corrupt(&format!("{}: {error}", path.display()))),
        };
        let database = FileBackend::new(file)
            .and_then(|backend| {
                Database::builder()
                    .set_cache_size(CACHE)
                    .set_check_integrity_on_open(true)
                    .create_with_backend(backend)
            })
            .map_err(refused)?;
        if fresh {
            room.disk.sync_dir(&room.dir).map_err(|why| failed(&why))?;
        }
        let database = Arc::new(database);
        let halted = Halted::default();
        let (queue, requests) = sync_channel(QUEUE);
        let writer = Writer::new(database.clone(), halted.clone(), requests, room.clone())?;
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|why| failed(&why))?;
        Ok(Self { database, halted, queue: Some(queue), writer: Some(writer), file: other, room })
    }

    fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        self.halted.check()?;
        let transaction = self.database.begin_read().map_err(|e| self.halted.io(e))?;
        Ok(Snapshot { transaction, halted: &self.halted })
    }

    /// Puts a request in the queue and waits for its answer.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        self.halted.check()?;
        let (answer, answered) = oneshot::channel();
        let Some(queue) = &self.queue else {
            return Err(StoreError::Busy);
        };
        match queue.try_send(request(answer)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(self.writer_gone()),
        }
        answered.await.unwrap_or_else(|_| Err(self.writer_gone()))
    }

    fn writer_gone(&self) -> StoreError {
        self.halted.set(
            "CHY-STORE-IO: the store's writer stopped unexpectedly; start again to recover".into(),
        )
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // It panicked, or it ended: either way there is nobody to tell.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("halted", &self.halted).finish_non_exhaustive()
    }
}

/// One state of the file, unmoved by commits.
struct Snapshot<'a> {
    transaction: ReadTransaction,
    halted: &'a Halted,
}

impl Snapshot<'_> {
    fn fact<T: Fact>(
        &self,
        facts: Facts,
        id: [u8; 16],
    ) -> Result<Option<(T, Version)>, StoreError> {
        let table = self.transaction.open_table(facts).map_err(|e| self.halted.io(e))?;
        let Some(found) = table.get(&id).map_err(|e| self.halted.io(e))? else {
            return Ok(None);
        };
        let (version, bytes) = found.value();
        let fact = T::decode(bytes).ok_or_else(|| self.halted.undecodable("a fact"))?;
        Ok(Some((fact, Version(version))))
    }

    fn index(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
        self.transaction.open_table(INDEX).map_err(|e| self.halted.io(e))
    }

    /// The ids at the end of index keys from `start` up to the last that begins with `prefix`.
    fn ids(
        &self,
        prefix: &[u8],
        start: std::ops::Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<[u8; 16]>, StoreError> {
        let index = self.index()?;
        let end = index::end_of(prefix);
        let range = index
            .range::<&[u8]>((start, std::ops::Bound::Excluded(end.as_slice())))
            .map_err(|e| self.halted.io(e))?;
        range
            .take(limit)
            .map(|entry| {
                let (key, _) = entry.map_err(|e| self.halted.io(e))?;
                index::id_of(key.value()).ok_or_else(|| self.halted.undecodable("an index key"))
            })
            .collect()
    }

    fn all_ids(&self, prefix: &[u8], limit: usize) -> Result<Vec<[u8; 16]>, StoreError> {
        self.ids(prefix, std::ops::Bound::Included(prefix), limit)
    }

    fn account_by_key(&self, key: Thumbprint) -> Result<Option<(Account, Version)>, StoreError> {
        let index = self.index()?;
        let found = index.get(index::account_key(key).as_slice()).map_err(|e| self.halted.io(e))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let id =
            index::id_of(found.value()).ok_or_else(|| self.halted.undecodable("an index value"))?;
        self.fact(ACCOUNTS, id)
    }

    fn order(&self, id: OrderId) -> Result<Option<OrderFacts>, StoreError> {
        let Some((order, version)) = self.fact::<Order>(ORDERS, id.0)? else {
            return Ok(None);
        };
        let mut authorizations = Vec::with_capacity(order.authorizations.len());
        for id in &order.authorizations {
            authorizations.extend(self.fact(AUTHORIZATIONS, id.0)?);
        }
        Ok(Some(OrderFacts { order, version, authorizations }))
    }

    fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let prefix = index::orders_of(account);
        let after = match after {
            Some(id) => self.fact::<Order>(ORDERS, id.0)?,
            None => None,
        };
        let after = after.map(|(order, _)| index::order_of(account, order.created, order.id));
        let start = after
            .as_deref()
            .map_or(std::ops::Bound::Included(prefix.as_slice()), std::ops::Bound::Excluded);
        Ok(self.ids(&prefix, start, limit)?.into_iter().map(OrderId).collect())
    }

    fn held(&self, names: NameSet) -> Result<Option<Timestamp>, StoreError> {
        let index = self.index()?;
        let found = index.get(index::held(names).as_slice()).map_err(|e| self.halted.io(e))?;
        found
            .map(|at| {
                index::instant_of(at.value())
                    .ok_or_else(|| self.halted.undecodable("an index value"))
            })
            .transpose()
    }

    fn valid_authorizations(
        &self,
        account: AccountId,
        identifiers: &[Identifier],
    ) -> Result<Vec<Authorization>, StoreError> {
        let mut found: Vec<Authorization> = Vec::new();
        for identifier in identifiers {
            let wildcard = identifier.is_wildcard();
            let base = identifier.base();
            let itself = [(base.clone(), Standing { wildcard, subdomains: false })];
            let above = Standing { wildcard, subdomains: true };
            let zones = base.and_above().into_iter().map(|name| (name, above));
            for (name, standing) in itself.into_iter().chain(zones) {
                let prefix = index::valid_for(account, &name, standing);
                for id in self.all_ids(&prefix, 1)? {
                    let authz = self.fact::<Authorization>(AUTHORIZATIONS, id)?;
                    found.extend(authz.map(|(authz, _)| authz).filter(|a| !found.contains(a)));
                }
            }
        }
        Ok(found)
    }

    fn pending_authorization(
        &self,
        account: AccountId,
        identifier: &Identifier,
        subdomains: bool,
    ) -> Result<Option<Authorization>, StoreError> {
        let standing = Standing { wildcard: identifier.is_wildcard(), subdomains };
        let prefix = index::pending_for(account, &identifier.base(), standing);
        match self.all_ids(&prefix, 1)?.first() {
            Some(id) => Ok(self.fact(AUTHORIZATIONS, *id)?.map(|(authz, _)| authz)),
            None => Ok(None),
        }
    }
}

impl Store for Embedded {
    fn account(
        &self,
        id: AccountId,
    ) -> BoxFuture<'_, Result<Option<(Account, Version)>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.fact(ACCOUNTS, id.0)))
    }

    fn account_by_key(
        &self,
        key: Thumbprint,
    ) -> BoxFuture<'_, Result<Option<(Account, Version)>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.account_by_key(key)))
    }

    fn order(&self, id: OrderId) -> BoxFuture<'_, Result<Option<OrderFacts>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.order(id)))
    }

    fn authorization(
        &self,
        id: AuthzId,
    ) -> BoxFuture<'_, Result<Option<(Authorization, Version)>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.fact(AUTHORIZATIONS, id.0)))
    }

    fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.orders_of(account, after, limit)))
    }

    fn valid_authorizations<'a>(
        &'a self,
        account: AccountId,
        identifiers: &'a [Identifier],
    ) -> BoxFuture<'a, Result<Vec<Authorization>, StoreError>> {
        ready(self.snapshot().and_then(|s| s.valid_authorizations(account, identifiers)))
    }

    fn pending_authorization<'a>(
        &'a self,
        account: AccountId,
        identifier: &'a Identifier,
        subdomains: bool,
    ) -> BoxFuture<'a, Result<Option<Authorization>, StoreError>> {
        let found =
            self.snapshot().and_then(|s| s.pending_authorization(account, identifier, subdomains));
        ready(found)
    }

    fn replaced(
        &self,
        serial: Serial,
    ) -> BoxFuture<'_, Result<Option<(Replaced, Version)>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.fact(REPLACED, *serial.octets())))
    }

    fn processing(&self) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>> {
        let ids = self.snapshot().and_then(|s| s.all_ids(&index::processing(), usize::MAX));
        ready(ids.map(|ids| ids.into_iter().map(OrderId).collect()))
    }

    fn validating(&self) -> BoxFuture<'_, Result<Vec<AuthzId>, StoreError>> {
        let ids = self.snapshot().and_then(|s| s.all_ids(&index::validating(), usize::MAX));
        ready(ids.map(|ids| ids.into_iter().map(AuthzId).collect()))
    }

    fn held(&self, names: NameSet) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        ready(self.snapshot().and_then(|snapshot| snapshot.held(names)))
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        // Encoded by the caller, so that the writer only compares and writes.
        let puts = changes.into_iter().map(writer::Put::new).collect();
        Box::pin(self.ask(|answer| Request::Commit { puts, answer }))
    }

    fn sweep(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(self.ask(move |answer| Request::Sweep { before, limit, answer }))
    }

    fn disk(&self) -> Option<(u64, u64)> {
        let octets = self.file.metadata().ok()?.len();
        Some((octets, self.room.disk.free(&self.room.dir).ok()?))
    }

    fn is_full(&self) -> bool {
        !self.room.is_there()
    }
}

#[cfg(test)]
mod tests;
