//! Where records are, for the operator's tools, which read the log's files themselves.

use super::later;
use crate::id::{LeafIndex, Timestamp};
use crate::ipc::admin::AdminRefusal;
use crate::ipc::admin::records::{self, MOST_DAYS, Places, RecordAnswer, RecordQuestion};
use crate::issuer::service::Desk;
use crate::log::index::{self, DAY, NamePattern, Subject};

/// Places of one answer: it stays well within a frame.
const MOST: usize = 4000;

impl Desk {
    pub(super) fn records(&self, question: RecordQuestion) -> Result<RecordAnswer, AdminRefusal> {
        match question {
            RecordQuestion::About { subject, from } => {
                self.about(subject, from).map(RecordAnswer::Places)
            }
            RecordQuestion::Days { from, to } => self.days(from, to).map(RecordAnswer::Days),
        }
    }

    fn about(&self, subject: records::Subject, from: LeafIndex) -> Result<Places, AdminRefusal> {
        let records::Subject { serial, order, account, name } = subject;
        let name = name.as_deref().map(NamePattern::new);
        let subject = Subject { serial, order, account, name };
        let lost = |why: String| later(self.core.lost_index(&why));
        // Read before the index: what comes meanwhile is read twice, never not at all.
        let size = self.core.log.head().size;
        let index = self.core.log.index();
        let Some(mut leaves) = index.about(&subject).map_err(lost)? else {
            return Ok(Places { places: None, more: false, size });
        };
        let mut own = leaves.split_off(&from);
        let more = own.len() > MOST;
        if let Some(over) = own.iter().nth(MOST).copied() {
            own.split_off(&over);
        }
        let places = index.places(own).map_err(lost)?;
        Ok(Places { places: Some(places), more, size })
    }

    fn days(&self, from: Timestamp, to: Timestamp) -> Result<Vec<records::Day>, AdminRefusal> {
        let days = self.core.log.index().days(from, to);
        let days = days.map_err(|why| later(self.core.lost_index(&why)))?;
        Ok(days.into_iter().take(MOST_DAYS).map(day_of_log).collect())
    }
}

/// A day as the index counts it, by its number since 1970-01-01, as an operator is told of it.
pub fn day_of_log((number, day): (u64, index::Day)) -> records::Day {
    records::Day {
        at: Timestamp(number.saturating_mul(DAY)),
        first: day.first,
        last: day.last,
        records: day.records,
        issued: day.issued,
        abandoned: day.abandoned,
        revoked: day.revoked,
        accounts: day.accounts,
    }
}
