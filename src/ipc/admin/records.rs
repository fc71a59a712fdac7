//! `chancery log`: where records are, and what each day had, as the issuer's index knows it.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// What an operator's tools can ask about records. They read them in the log's files themselves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordQuestion {
    /// Where the records about a subject are, from a leaf on.
    About { subject: Subject, from: LeafIndex },
    /// The days between two instants, at most `MOST_DAYS`.
    Days { from: Timestamp, to: Timestamp },
}

/// What records shall be about: all that is given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Subject {
    pub serial: Option<Serial>,
    pub order: Option<OrderId>,
    pub account: Option<AccountId>,
    /// A name or address; `*.` and a suffix for every name below that.
    pub name: Option<String>,
}

/// The answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordAnswer {
    Places(Places),
    /// Ascending.
    Days(Vec<Day>),
}

/// Where records are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Places {
    /// Leaves and log offsets, ascending. `None`: there are so many that reading the log is no worse.
    pub places: Option<Vec<(LeafIndex, u64)>>,
    /// Whether there are more behind the last.
    pub more: bool,
    /// Records that the log had when it was asked.
    pub size: u64,
}

/// A day of the log, by the instants that records state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Day {
    /// Its first instant, in UTC.
    pub at: Timestamp,
    pub first: LeafIndex,
    pub last: LeafIndex,
    pub records: u64,
    pub issued: u64,
    pub abandoned: u64,
    pub revoked: u64,
    /// Accounts that were registered.
    pub accounts: u64,
}

/// Days of one answer.
pub const MOST_DAYS: usize = 1000;
