//! The tables of the index file, and the file itself as redb sees it through the disk seam.
//!
//! Integers are keys as redb orders them; everything else is fixed octets or a postcard value. A change
//! of any of it takes a new `FORMAT`: a file of another format is thrown away and built again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::Path;

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};
use serde::{Deserialize, Serialize};

use super::{Deactivation, Holder, Layer, LoggedCrl, Point, keys, leaves, names, revocations};
use crate::env::{Disk, DiskFile};
use crate::id::{AccountId, LeafIndex, Serial, Timestamp};
use crate::log::tree::Hash;

const FORMAT: u32 = 9;
/// Octets redb may keep in memory.
const CACHE: usize = 2 << 20;
/// Points kept: the newest ones, a few seconds apart under load.
const POINTS_KEPT: usize = 64;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const POINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("points");
const ACCOUNTS: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("accounts");
/// Whose, and whether it is so still.
const KEYS: TableDefinition<'_, [u8; 32], ([u8; 16], bool)> = TableDefinition::new("keys");
const KEY_CHANGES: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("key-changes");
/// When, and whether an operator did it.
const DEACTIVATED: TableDefinition<'_, [u8; 16], (u64, bool)> = TableDefinition::new("deactivated");
const CHANGES: TableDefinition<'_, u64, [u8; 16]> = TableDefinition::new("changes");
const TICKETS: TableDefinition<'_, &str, u64> = TableDefinition::new("tickets");
const TICKET_ENDS: TableDefinition<'_, &str, u64> = TableDefinition::new("ticket-ends");
const TICKET_USES: TableDefinition<'_, (&str, [u8; 16]), ()> = TableDefinition::new("ticket-uses");

/// The small facts that are kept whole, in memory and in one row.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Intents without an end: there are few, and they are asked for at start.
    pub(super) open: BTreeMap<LeafIndex, Serial>,
    pub(super) crl_number: u64,
    /// The newest CRL of each issuer.
    pub(super) crls: BTreeMap<Hash, LoggedCrl>,
    /// The recalls that count.
    pub(super) recalls: BTreeSet<LeafIndex>,
    /// Leaves about the log's own keys.
    pub(super) log_keys: BTreeSet<LeafIndex>,
    /// Leaves about roots and issuing CAs that came after the ceremony.
    pub(super) authorities: BTreeSet<LeafIndex>,
    /// By digest of the transcript.
    pub(super) ceremonies: BTreeMap<Hash, LeafIndex>,
    /// The leaf of a ceremony that retired this CA.
    pub(super) retired: Option<LeafIndex>,
    pub(super) newest: Timestamp,
}

/// Opens an index of this log and format; any other error than success means to begin a new one.
pub(super) fn open(disk: &dyn Disk, path: &Path, origin: &Hash) -> Result<Database, String> {
    let file = disk.open(path).map_err(text)?;
    if file.len().map_err(text)? == 0 {
        return Err("it is empty".into());
    }
    let db = builder().create_with_backend(Backend(file)).map_err(text)?;
    let tx = db.begin_read().map_err(text)?;
    let meta = tx.open_table(META).map_err(text)?;
    let stored = meta.get("log").map_err(text)?.map(|value| value.value().to_vec());
    drop((meta, tx));
    if stored.as_deref() == Some(&identity(origin)) {
        Ok(db)
    } else {
        Err("it is of another log or format".into())
    }
}

/// Removes what is there and makes an empty index.
pub(super) fn create(disk: &dyn Disk, path: &Path, origin: &Hash) -> Result<Database, String> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(text(error)),
        _ => {}
    }
    let file = disk.create(path, 0).map_err(text)?;
    let made = create_in(Backend(file), origin);
    if made.is_err() {
        let _ = disk.remove(path);
    }
    made
}

/// An empty index that is gone with the process.
pub(super) fn create_in_memory(origin: &Hash) -> Result<Database, String> {
    create_in(redb::backends::InMemoryBackend::new(), origin)
}

fn create_in(backend: impl StorageBackend, origin: &Hash) -> Result<Database, String> {
    let db = builder().create_with_backend(backend).map_err(text)?;
    let mut tx = db.begin_write().map_err(text)?;
    tx.set_quick_repair(true);
    tx.open_table(META).map_err(text)?.insert("log", identity(origin).as_slice()).map_err(text)?;
    tx.open_table(POINTS).map_err(text)?;
    tx.open_table(ACCOUNTS).map_err(text)?;
    tx.open_table(KEYS).map_err(text)?;
    tx.open_table(KEY_CHANGES).map_err(text)?;
    tx.open_table(DEACTIVATED).map_err(text)?;
    tx.open_table(CHANGES).map_err(text)?;
    tx.open_table(TICKETS).map_err(text)?;
    tx.open_table(TICKET_ENDS).map_err(text)?;
    tx.open_table(TICKET_USES).map_err(text)?;
    keys::create(&tx)?;
    leaves::create(&tx)?;
    names::create(&tx)?;
    revocations::create(&tx)?;
    tx.commit().map_err(text)?;
    Ok(db)
}

/// One durable transaction.
pub(super) fn write(db: &Database, layer: &Layer, facts: &Facts) -> Result<(), String> {
    let mut tx = db.begin_write().map_err(text)?;
    tx.set_durability(Durability::Immediate).map_err(text)?;
    // After a crash the file opens at once instead of being walked.
    tx.set_quick_repair(true);
    {
        // A transaction that seemed to fail may have been made: days are counted once.
        let reached = {
            let table = tx.open_table(POINTS).map_err(text)?;
            table.last().map_err(text)?.map(|(size, _)| size.value())
        };
        let size = layer.point.as_ref().map_or(0, |point| point.edge.size());
        let again = reached.is_some_and(|reached| size <= reached);
        leaves::write(&tx, &layer.leaves, again)?;
        keys::write(&tx, &layer.keys)?;
        names::write(&tx, &layer.names)?;
        revocations::write(&tx, &layer.revocations)?;
        let mut table = tx.open_table(ACCOUNTS).map_err(text)?;
        for (account, leaf) in &layer.accounts {
            table.insert(account.0, leaf.0).map_err(text)?;
        }
        let mut table = tx.open_table(KEYS).map_err(text)?;
        for (thumbprint, holder) in &layer.holders {
            table.insert(*thumbprint, (holder.account.0, holder.current)).map_err(text)?;
        }
        write_accounts(&tx, layer)?;
        let mut table = tx.open_table(META).map_err(text)?;
        let value = postcard::to_stdvec(facts).map_err(text)?;
        table.insert("facts", value.as_slice()).map_err(text)?;
        if let Some(point) = &layer.point {
            let mut table = tx.open_table(POINTS).map_err(text)?;
            let value = postcard::to_stdvec(point).map_err(text)?;
            table.insert(point.edge.size(), value.as_slice()).map_err(text)?;
            let sizes: Vec<u64> = table
                .iter()
                .map_err(text)?
                .map(|entry| entry.map(|(size, _)| size.value()))
                .collect::<Result<_, _>>()
                .map_err(text)?;
            for size in sizes.iter().rev().skip(POINTS_KEPT) {
                table.remove(size).map_err(text)?;
            }
        }
    }
    tx.commit().map_err(text)
}

/// The part of `write` that is about what became of accounts, and about tickets.
fn write_accounts(tx: &redb::WriteTransaction, layer: &Layer) -> Result<(), String> {
    let mut table = tx.open_table(KEY_CHANGES).map_err(text)?;
    for (account, leaf) in &layer.key_changes {
        table.insert(account.0, leaf.0).map_err(text)?;
    }
    let mut table = tx.open_table(DEACTIVATED).map_err(text)?;
    for (account, end) in &layer.deactivated {
        table.insert(account.0, (end.at.0, end.by_operator)).map_err(text)?;
    }
    let mut table = tx.open_table(CHANGES).map_err(text)?;
    for (leaf, account) in &layer.changes {
        table.insert(leaf, account.0).map_err(text)?;
    }
    let mut table = tx.open_table(TICKETS).map_err(text)?;
    for (ticket, leaf) in &layer.tickets {
        table.insert(ticket.as_str(), leaf.0).map_err(text)?;
    }
    let mut table = tx.open_table(TICKET_ENDS).map_err(text)?;
    for (ticket, at) in &layer.ticket_ends {
        table.insert(ticket.as_str(), at.0).map_err(text)?;
    }
    let mut table = tx.open_table(TICKET_USES).map_err(text)?;
    for (ticket, account) in &layer.ticket_uses {
        table.insert((ticket.as_str(), account.0), ()).map_err(text)?;
    }
    Ok(())
}

pub(super) fn facts(db: &Database) -> Result<Facts, String> {
    let table = db.begin_read().map_err(text)?.open_table(META).map_err(text)?;
    match table.get("facts").map_err(text)? {
        None => Ok(Facts::default()),
        Some(value) => postcard::from_bytes(value.value()).map_err(text),
    }
}

/// Ascending by size; a value that does not read back is left out.
pub(super) fn points(db: &Database) -> Result<Vec<Point>, String> {
    let table = db.begin_read().map_err(text)?.open_table(POINTS).map_err(text)?;
    let mut points = Vec::new();
    for entry in table.iter().map_err(text)? {
        let (size, value) = entry.map_err(text)?;
        match postcard::from_bytes::<Point>(value.value()) {
            Ok(point) if point.edge.is_well_formed() && point.edge.size() == size.value() => {
                points.push(point);
            }
            _ => {}
        }
    }
    Ok(points)
}

pub(super) fn account(db: &Database, account: AccountId) -> Result<Option<LeafIndex>, String> {
    let table = db.begin_read().map_err(text)?.open_table(ACCOUNTS).map_err(text)?;
    Ok(table.get(account.0).map_err(text)?.map(|value| LeafIndex(value.value())))
}

pub(super) fn key(db: &Database, thumbprint: Hash) -> Result<Option<Holder>, String> {
    let table = db.begin_read().map_err(text)?.open_table(KEYS).map_err(text)?;
    Ok(table.get(thumbprint).map_err(text)?.map(|value| {
        let (account, current) = value.value();
        Holder { account: AccountId(account), current }
    }))
}

pub(super) fn key_change(db: &Database, account: AccountId) -> Result<Option<LeafIndex>, String> {
    let table = db.begin_read().map_err(text)?.open_table(KEY_CHANGES).map_err(text)?;
    Ok(table.get(account.0).map_err(text)?.map(|value| LeafIndex(value.value())))
}

pub(super) fn deactivated(
    db: &Database,
    account: AccountId,
) -> Result<Option<Deactivation>, String> {
    let table = db.begin_read().map_err(text)?.open_table(DEACTIVATED).map_err(text)?;
    Ok(table.get(account.0).map_err(text)?.map(|value| {
        let (at, by_operator) = value.value();
        Deactivation { at: Timestamp(at), by_operator }
    }))
}

pub(super) fn accounts(
    db: &Database,
    after: Option<AccountId>,
    limit: usize,
) -> Result<BTreeMap<AccountId, LeafIndex>, String> {
    let table = db.begin_read().map_err(text)?.open_table(ACCOUNTS).map_err(text)?;
    let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.0));
    let range = table.range::<[u8; 16]>((start, Bound::Unbounded)).map_err(text)?;
    range
        .take(limit)
        .map(|entry| {
            let (id, leaf) = entry.map_err(text)?;
            Ok((AccountId(id.value()), LeafIndex(leaf.value())))
        })
        .collect()
}

pub(super) fn changes(
    db: &Database,
    from: LeafIndex,
    limit: usize,
) -> Result<BTreeMap<LeafIndex, AccountId>, String> {
    let table = db.begin_read().map_err(text)?.open_table(CHANGES).map_err(text)?;
    let range = table.range(from.0..).map_err(text)?;
    range
        .take(limit)
        .map(|entry| {
            let (leaf, id) = entry.map_err(text)?;
            Ok((LeafIndex(leaf.value()), AccountId(id.value())))
        })
        .collect()
}

pub(super) fn ticket(db: &Database, ticket: &str) -> Result<Option<LeafIndex>, String> {
    let table = db.begin_read().map_err(text)?.open_table(TICKETS).map_err(text)?;
    Ok(table.get(ticket).map_err(text)?.map(|value| LeafIndex(value.value())))
}

pub(super) fn ticket_end(db: &Database, ticket: &str) -> Result<Option<Timestamp>, String> {
    let table = db.begin_read().map_err(text)?.open_table(TICKET_ENDS).map_err(text)?;
    Ok(table.get(ticket).map_err(text)?.map(|value| Timestamp(value.value())))
}

pub(super) fn ticket_accounts(db: &Database, ticket: &str) -> Result<BTreeSet<AccountId>, String> {
    let table = db.begin_read().map_err(text)?.open_table(TICKET_USES).map_err(text)?;
    let range = table.range((ticket, [0; 16])..=(ticket, [0xff; 16])).map_err(text)?;
    range.map(|entry| Ok(AccountId(entry.map_err(text)?.0.value().1))).collect()
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

fn identity(origin: &Hash) -> Vec<u8> {
    [&FORMAT.to_le_bytes(), origin.as_slice()].concat()
}

pub(super) fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// A file of the disk seam as redb's storage.
struct Backend(Box<dyn DiskFile>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.read_at(offset, out)? == out.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
