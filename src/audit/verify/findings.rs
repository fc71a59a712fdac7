//! What must not be, collected from all threads.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::places::Places;
use crate::id::LeafIndex;
use crate::log::reader::Reader;

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// `None` if it is not about one record.
    pub leaf: Option<LeafIndex>,
    /// Where that record lies.
    pub place: Option<Place>,
    pub text: String,
}

/// A frame's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// File name of the segment.
    pub segment: String,
    /// Where in that file the frame begins.
    pub octet: u64,
}

/// The most findings that are kept: those about no record, then the first of the log.
pub const MAX_FINDINGS: usize = 1000;

/// Collects findings; sorted, each text once for a leaf.
#[derive(Default)]
pub(super) struct Findings(Mutex<BTreeSet<(Option<LeafIndex>, String)>>);

impl Findings {
    pub(super) fn find(&self, leaf: impl Into<Option<LeafIndex>>, text: impl Into<String>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert((leaf.into(), text.into()));
        if found.len() > MAX_FINDINGS {
            found.pop_last();
        }
    }

    /// In the order of the log, with places where the log could be opened.
    pub(super) fn into_found(self, log: Option<(&Reader, &Places)>) -> Vec<Finding> {
        let found = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let place = |leaf: LeafIndex| {
            let (reader, places) = log?;
            let entry = places.entry(reader, leaf)?;
            Some(Place { segment: entry.segment, octet: entry.octet })
        };
        let finding = |(leaf, text): (Option<LeafIndex>, String)| Finding {
            leaf,
            place: leaf.and_then(place),
            text,
        };
        found.into_iter().map(finding).collect()
    }
}
