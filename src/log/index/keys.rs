//! Sorted sets of short keys that lead to intents: by serial, order, end of validity, account and name.
//!
//! A key has no value, and of what it stands for only so much as tells most of them apart: eight octets
//! of a serial, of an order's or an account's id, of the digest of a name. It ends in the leaf of an
//! intent. Whoever follows it reads that intent in the log and compares: the log knows the rest, and a
//! row costs 10 to 18 octets, however long names and URLs are. Setting a key twice is the same as once.

use std::collections::BTreeSet;
use std::fmt;

use redb::{Database, ReadableDatabase, Table, TableDefinition, WriteTransaction};

use super::table::text;
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::tlog::tree::sha256;

/// What a key begins with where it is about one thing.
pub(super) type Short = [u8; 8];

/// The sets. What a key of each is made of, big-endian: the short form of a thing in 8 octets, an end of
/// validity in seconds in 5, a leaf in 5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Set {
    /// Serial, leaf.
    Serials,
    /// Order, leaf.
    Orders,
    /// End, leaf.
    Ends,
    /// Account, end, leaf.
    Accounts,
    /// Name, end, leaf.
    Names,
}

/// Octets of the widest key.
const WIDEST: usize = 18;

/// One key; zeros behind what its set has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    set: Set,
    octets: [u8; WIDEST],
}

/// What stands in a key behind the thing it is about. `end` is in seconds, 0 where the set has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Row {
    pub(super) end: u64,
    pub(super) leaf: u64,
}

impl Row {
    pub(super) const FIRST: Self = Self { end: 0, leaf: 0 };
    pub(super) const LAST: Self = Self { end: MOST, leaf: MOST };

    /// The first row whose certificate ends at `from` or later.
    pub(super) fn ending(from: Timestamp) -> Self {
        Self { end: from.0.div_ceil(1000).min(MOST), leaf: 0 }
    }

    /// The row behind this one.
    pub(super) fn next(self) -> Self {
        if self.leaf < MOST {
            Self { leaf: self.leaf + 1, ..self }
        } else {
            Self { end: self.end.saturating_add(1).min(MOST), leaf: 0 }
        }
    }

    pub(super) fn leaf(self) -> LeafIndex {
        LeafIndex(self.leaf)
    }
}

/// The greatest number in 5 octets: an end 30,000 years away, more leaves than any log has.
const MOST: u64 = (1 << 40) - 1;

pub(super) fn of_serial(serial: Serial) -> Short {
    tail(serial.octets())
}

pub(super) fn of_order(order: OrderId) -> Short {
    tail(&order.0)
}

pub(super) fn of_account(account: AccountId) -> Short {
    tail(&account.0)
}

/// `name` in lower case.
pub(super) fn of_name(name: &str) -> Short {
    let [a, b, c, d, e, f, g, h, ..] = sha256(name.as_bytes());
    [a, b, c, d, e, f, g, h]
}

/// All of these are random.
fn tail(octets: &[u8; 16]) -> Short {
    let [.., a, b, c, d, e, f, g, h] = *octets;
    [a, b, c, d, e, f, g, h]
}

impl Key {
    /// `short` is left out where the set has none.
    pub(super) fn new(set: Set, short: Short, row: Row) -> Self {
        let mut octets = [0; WIDEST];
        let mut at = 0;
        let mut push = |bytes: &[u8]| {
            octets[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if set != Set::Ends {
            push(&short);
        }
        if matches!(set, Set::Ends | Set::Accounts | Set::Names) {
            push(&row.end.min(MOST).to_be_bytes()[3..]);
        }
        push(&row.leaf.min(MOST).to_be_bytes()[3..]);
        Self { set, octets }
    }

    fn row(&self) -> Row {
        let number = |at: usize| {
            let mut octets = [0; 8];
            octets[3..].copy_from_slice(&self.octets[at..at + 5]);
            u64::from_be_bytes(octets)
        };
        match self.set {
            Set::Serials | Set::Orders => Row { end: 0, leaf: number(8) },
            Set::Ends => Row { end: number(0), leaf: number(5) },
            Set::Accounts | Set::Names => Row { end: number(8), leaf: number(13) },
        }
    }

    fn octets<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        octets.copy_from_slice(&self.octets[..N]);
        octets
    }

    fn from_octets(set: Set, key: &[u8]) -> Self {
        let mut octets = [0; WIDEST];
        octets[..key.len()].copy_from_slice(key);
        Self { set, octets }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.set, self.row())
    }
}

/// Rows of one thing from `first` on, ascending; at most `limit`.
pub(super) fn recent(
    keys: &BTreeSet<Key>,
    set: Set,
    short: Short,
    first: Row,
    limit: usize,
) -> Vec<Row> {
    let (low, high) = (Key::new(set, short, first), Key::new(set, short, Row::LAST));
    keys.range(low..=high).take(limit).map(Key::row).collect()
}

const SERIALS: TableDefinition<'_, [u8; 13], ()> = TableDefinition::new("serials");
const ORDERS: TableDefinition<'_, [u8; 13], ()> = TableDefinition::new("orders");
const ENDS: TableDefinition<'_, [u8; 10], ()> = TableDefinition::new("ends");
const ACCOUNTS: TableDefinition<'_, [u8; 18], ()> = TableDefinition::new("of-accounts");
const NAMES: TableDefinition<'_, [u8; 18], ()> = TableDefinition::new("of-names");

/// An empty database has all of its tables.
pub(super) fn create(tx: &WriteTransaction) -> Result<(), String> {
    write(tx, &BTreeSet::new())
}

/// This room's part of a transaction. Sorted, so that keys of one page meet there.
pub(super) fn write(tx: &WriteTransaction, keys: &BTreeSet<Key>) -> Result<(), String> {
    let mut serials = tx.open_table(SERIALS).map_err(text)?;
    let mut orders = tx.open_table(ORDERS).map_err(text)?;
    let mut ends = tx.open_table(ENDS).map_err(text)?;
    let mut accounts = tx.open_table(ACCOUNTS).map_err(text)?;
    let mut names = tx.open_table(NAMES).map_err(text)?;
    for key in keys {
        match key.set {
            Set::Serials => insert(&mut serials, key)?,
            Set::Orders => insert(&mut orders, key)?,
            Set::Ends => insert(&mut ends, key)?,
            Set::Accounts => insert(&mut accounts, key)?,
            Set::Names => insert(&mut names, key)?,
        }
    }
    Ok(())
}

fn insert<const N: usize>(table: &mut Table<'_, [u8; N], ()>, key: &Key) -> Result<(), String> {
    table.insert(key.octets(), ()).map(drop).map_err(text)
}

/// What the file has of `recent`.
pub(super) fn stored(
    db: &Database,
    set: Set,
    short: Short,
    first: Row,
    limit: usize,
) -> Result<Vec<Row>, String> {
    let (low, high) = (Key::new(set, short, first), Key::new(set, short, Row::LAST));
    match set {
        Set::Serials => range(db, SERIALS, low, high, limit),
        Set::Orders => range(db, ORDERS, low, high, limit),
        Set::Ends => range(db, ENDS, low, high, limit),
        Set::Accounts => range(db, ACCOUNTS, low, high, limit),
        Set::Names => range(db, NAMES, low, high, limit),
    }
}

fn range<const N: usize>(
    db: &Database,
    definition: TableDefinition<'static, [u8; N], ()>,
    low: Key,
    high: Key,
    limit: usize,
) -> Result<Vec<Row>, String> {
    let table = db.begin_read().map_err(text)?.open_table(definition).map_err(text)?;
    let range = table.range(low.octets::<N>()..=high.octets::<N>()).map_err(text)?;
    let row = |entry: redb::Result<(redb::AccessGuard<'_, [u8; N]>, _)>| {
        Ok(Key::from_octets(low.set, &entry.map_err(text)?.0.value()).row())
    };
    range.take(limit).map(row).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETS: [Set; 5] = [Set::Serials, Set::Orders, Set::Ends, Set::Accounts, Set::Names];

    proptest! {
        #[test]
        fn keys_sort_as_what_they_say_and_read_back(
            a in (0..=MOST, 0..=MOST),
            b in (0..=MOST, 0..=MOST),
            short: Short,
        ) {
            let (a, b) = (Row { end: a.0, leaf: a.1 }, Row { end: b.0, leaf: b.1 });
            for set in SETS {
                let (key, other) = (Key::new(set, short, a), Key::new(set, short, b));
                let ends = !matches!(set, Set::Serials | Set::Orders);
                prop_assert_eq!(key.row(), Row { end: if ends { a.end } else { 0 }, ..a });
                prop_assert_eq!(key.cmp(&other), key.row().cmp(&other.row()));
                let stored = match set {
                    Set::Serials | Set::Orders => Key::from_octets(set, &key.octets::<13>()),
                    Set::Ends => Key::from_octets(set, &key.octets::<10>()),
                    Set::Accounts | Set::Names => Key::from_octets(set, &key.octets::<18>()),
                };
                prop_assert_eq!(stored, key);
                prop_assert!(a.next() > a || a == Row::LAST);
            }
        }
    }

    #[test]
    fn an_end_within_a_second_begins_with_the_next() {
        assert_eq!(Row::ending(Timestamp(5_000)).end, 5);
        assert_eq!(Row::ending(Timestamp(5_001)).end, 6);
        assert_eq!(Row::ending(Timestamp(u64::MAX)).end, MOST);
    }
}
