//! Where each leaf lies in the log, what became of each intent, what each day had, and how many certificates end on it.
//!
//! Sixty-four leaves share a row: the offset of the first, the octets from each to the next, and which
//! leaves settle the intents among them. That is some eight octets for a certificate, and rows are
//! written in the order of the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::table::text;
use crate::id::{LeafIndex, Timestamp};
use crate::log::record::Record;

/// What settled an intent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Issued(LeafIndex),
    Abandoned(LeafIndex),
}

/// A day of the log, by the instants that records state, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Day {
    /// The first and the last leaf of that day.
    pub first: LeafIndex,
    pub last: LeafIndex,
    pub records: u64,
    /// Of these, by kind.
    pub issued: u64,
    pub abandoned: u64,
    pub revoked: u64,
    /// Accounts that were registered.
    pub accounts: u64,
}

/// Milliseconds of a day.
pub const DAY: u64 = 86_400_000;

/// Days since 1970-01-01.
pub(super) fn day_of(at: Timestamp) -> u64 {
    at.0 / DAY
}

/// What was applied since the last transaction.
#[derive(Default)]
pub(super) struct Layer {
    /// Log offsets by leaf.
    offsets: BTreeMap<u64, u64>,
    /// By intent.
    fates: BTreeMap<u64, Fate>,
    days: BTreeMap<u64, Day>,
    /// How many more certificates end on a day, by its number.
    ends: BTreeMap<u64, i64>,
}

impl Layer {
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn offset(&self, leaf: LeafIndex) -> Option<u64> {
        self.offsets.get(&leaf.0).copied()
    }

    pub(super) fn fate(&self, intent: LeafIndex) -> Option<Fate> {
        self.fates.get(&intent.0).copied()
    }

    pub(super) fn days(&self, days: RangeInclusive<u64>) -> impl Iterator<Item = (u64, Day)> {
        self.days.range(days).map(|(day, counts)| (*day, *counts))
    }

    pub(super) fn ends(&self, days: RangeInclusive<u64>) -> impl Iterator<Item = (u64, i64)> {
        self.ends.range(days).map(|(day, more)| (*day, *more))
    }

    /// So many certificates more end at this instant, or fewer. Not to be told twice.
    pub(super) fn ending(&mut self, at: Timestamp, more: i64) {
        *self.ends.entry(day_of(at)).or_default() += more;
    }

    /// `again`: the day has counted it already.
    pub(super) fn apply(&mut self, leaf: LeafIndex, offset: u64, record: &Record, again: bool) {
        self.offsets.insert(leaf.0, offset);
        match record {
            Record::IssuedV1(r) => drop(self.fates.insert(r.intent.0, Fate::Issued(leaf))),
            Record::AbandonedV1(r) => drop(self.fates.insert(r.intent.0, Fate::Abandoned(leaf))),
            _ => {}
        }
        if again {
            return;
        }
        let day = self.days.entry(day_of(record.at())).or_insert_with(|| Day::beginning(leaf));
        day.count(leaf, record);
    }
}

impl Day {
    /// A day before its first record is counted.
    pub fn beginning(first: LeafIndex) -> Self {
        let last = first;
        Self { first, last, records: 0, issued: 0, abandoned: 0, revoked: 0, accounts: 0 }
    }

    /// Counts its next record.
    pub fn count(&mut self, leaf: LeafIndex, record: &Record) {
        self.last = leaf;
        self.records += 1;
        match record {
            Record::IssuedV1(_) => self.issued += 1,
            Record::AbandonedV1(_) => self.abandoned += 1,
            Record::RevokedV1(_) => self.revoked += 1,
            Record::AccountRegisteredV1(_) | Record::AccountRegisteredV2(_) => self.accounts += 1,
            _ => {}
        }
    }

    /// Of two parts of the log, each counted once.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            records: self.records + other.records,
            issued: self.issued + other.issued,
            abandoned: self.abandoned + other.abandoned,
            revoked: self.revoked + other.revoked,
            accounts: self.accounts + other.accounts,
        }
    }
}

/// Leaves of a row.
const ROW: u64 = 64;

/// Stored: a change takes a new format of the index.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Row {
    /// Log offset of the first leaf.
    first: u64,
    /// From each leaf to the next.
    steps: Vec<u32>,
    /// Slot of the intent, whether it was issued, and how far behind it the record is that says so.
    fates: Vec<(u8, bool, u64)>,
}

impl Row {
    fn offset(&self, slot: u64) -> Option<u64> {
        let steps = self.steps.get(..slot as usize)?;
        Some(steps.iter().fold(self.first, |offset, step| offset + u64::from(*step)))
    }

    /// Places a leaf behind those before it, or where it is already.
    fn place(&mut self, slot: u64, offset: u64) -> Result<(), String> {
        let Some(before) = slot.checked_sub(1) else {
            self.first = offset;
            return Ok(());
        };
        let step = self.offset(before).and_then(|before| offset.checked_sub(before));
        let step = step.and_then(|step| u32::try_from(step).ok());
        let step = step.ok_or_else(|| format!("no leaf ends where the one at {offset} begins"))?;
        match self.steps.get_mut(before as usize) {
            Some(known) => *known = step,
            None => self.steps.push(step),
        }
        Ok(())
    }

    fn fate(&self, intent: LeafIndex) -> Option<Fate> {
        let slot = (intent.0 % ROW) as u8;
        let (_, issued, behind) = self.fates.iter().find(|(known, _, _)| *known == slot)?;
        let leaf = LeafIndex(intent.0.checked_add(*behind)?);
        Some(if *issued { Fate::Issued(leaf) } else { Fate::Abandoned(leaf) })
    }

    fn settle(&mut self, intent: u64, fate: Fate) {
        let slot = (intent % ROW) as u8;
        let (issued, leaf) = match fate {
            Fate::Issued(leaf) => (true, leaf),
            Fate::Abandoned(leaf) => (false, leaf),
        };
        let settled = (slot, issued, leaf.0.saturating_sub(intent));
        match self.fates.iter_mut().find(|(known, _, _)| *known == slot) {
            Some(known) => *known = settled,
            None => self.fates.push(settled),
        }
    }
}

const LEAVES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("leaves");
const DAYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("days");
const ENDS: TableDefinition<'_, u64, u64> = TableDefinition::new("ends-by-day");

/// An empty database has all of its tables.
pub(super) fn create(tx: &WriteTransaction) -> Result<(), String> {
    tx.open_table(LEAVES).map_err(text)?;
    tx.open_table(DAYS).map_err(text)?;
    tx.open_table(ENDS).map_err(text)?;
    Ok(())
}

/// This room's part of a transaction. `again`: the file has counted these days, because a transaction that
/// seemed to fail did not.
pub(super) fn write(tx: &WriteTransaction, layer: &Layer, again: bool) -> Result<(), String> {
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    let mut table = tx.open_table(LEAVES).map_err(text)?;
    let leaves = layer.offsets.keys().chain(layer.fates.keys());
    for number in leaves.map(|leaf| leaf / ROW) {
        if let Entry::Vacant(vacant) = rows.entry(number) {
            let stored = table.get(number).map_err(text)?;
            let row = stored.map(|row| postcard::from_bytes(row.value()).map_err(text));
            vacant.insert(row.transpose()?.unwrap_or_default());
        }
    }
    for (leaf, offset) in &layer.offsets {
        rows.entry(leaf / ROW).or_default().place(leaf % ROW, *offset)?;
    }
    for (intent, fate) in &layer.fates {
        rows.entry(intent / ROW).or_default().settle(*intent, *fate);
    }
    for (number, row) in rows {
        let value = postcard::to_stdvec(&row).map_err(text)?;
        table.insert(number, value.as_slice()).map_err(text)?;
    }
    if again {
        return Ok(());
    }
    let mut table = tx.open_table(DAYS).map_err(text)?;
    for (number, day) in &layer.days {
        let stored = table.get(number).map_err(text)?;
        let stored: Option<Result<Day, _>> = stored.map(|day| postcard::from_bytes(day.value()));
        let sum = match stored {
            Some(stored) => stored.map_err(text)?.plus(*day),
            None => *day,
        };
        let value = postcard::to_stdvec(&sum).map_err(text)?;
        table.insert(number, value.as_slice()).map_err(text)?;
    }
    let mut table = tx.open_table(ENDS).map_err(text)?;
    for (number, more) in &layer.ends {
        let stored = table.get(number).map_err(text)?.map_or(0, |ends| ends.value());
        table.insert(number, stored.saturating_add_signed(*more)).map_err(text)?;
    }
    Ok(())
}

fn row(db: &Database, leaf: LeafIndex) -> Result<Option<Row>, String> {
    let table = db.begin_read().map_err(text)?.open_table(LEAVES).map_err(text)?;
    let row = table.get(leaf.0 / ROW).map_err(text)?;
    row.map(|row| postcard::from_bytes(row.value()).map_err(text)).transpose()
}

pub(super) fn offset(db: &Database, leaf: LeafIndex) -> Result<Option<u64>, String> {
    Ok(row(db, leaf)?.and_then(|row| row.offset(leaf.0 % ROW)))
}

pub(super) fn fate(db: &Database, intent: LeafIndex) -> Result<Option<Fate>, String> {
    Ok(row(db, intent)?.and_then(|row| row.fate(intent)))
}

pub(super) fn days(db: &Database, days: RangeInclusive<u64>) -> Result<BTreeMap<u64, Day>, String> {
    let table = db.begin_read().map_err(text)?.open_table(DAYS).map_err(text)?;
    let range = table.range(days).map_err(text)?;
    range
        .map(|entry| {
            let (number, day) = entry.map_err(text)?;
            Ok((number.value(), postcard::from_bytes(day.value()).map_err(text)?))
        })
        .collect()
}

pub(super) fn ends(db: &Database, days: RangeInclusive<u64>) -> Result<BTreeMap<u64, u64>, String> {
    let table = db.begin_read().map_err(text)?.open_table(ENDS).map_err(text)?;
    let range = table.range(days).map_err(text)?;
    range
        .map(|entry| {
            let (number, ends) = entry.map_err(text)?;
            Ok((number.value(), ends.value()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_finds_its_leaves_and_their_fates_and_takes_them_twice() {
        let mut row = Row::default();
        for _ in 0..2 {
            for slot in 0..ROW {
                row.place(slot, 1_000 + slot * slot * 7).unwrap();
            }
            row.settle(128, Fate::Issued(LeafIndex(129)));
            row.settle(130, Fate::Abandoned(LeafIndex(9_000)));
        }
        assert_eq!((row.steps.len(), row.fates.len()), (63, 2));
        for slot in 0..ROW {
            assert_eq!(row.offset(slot), Some(1_000 + slot * slot * 7));
        }
        assert_eq!(row.fate(LeafIndex(128)), Some(Fate::Issued(LeafIndex(129))));
        assert_eq!(row.fate(LeafIndex(130)), Some(Fate::Abandoned(LeafIndex(9_000))));
        assert_eq!(row.fate(LeafIndex(129)), None);
        // A leaf whose neighbour is missing, or lies behind it, has no place.
        assert!(Row::default().place(2, 5).is_err());
        assert!(row.place(3, 0).is_err());
    }
}
