//! Raises the format that the state is written in, when somebody says that there is no going back to an older release.
//!
//! The file comes first: from then on an older release refuses the state before it can meet anything that it does not know.
//! Then the log takes records of the new format, and the first of them says so. A crash between leaves a file that names no
//! leaf; the keeper then makes the record.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::core::{Core, NotNow, lock};
use crate::id::LeafIndex;
use crate::log::Release;
use crate::log::record::{Actor, FormatRaisedV1, Record};
use crate::state::{Format, Raised, Written};

pub(super) struct Formats {
    core: Arc<Core>,
    ca: PathBuf,
    version: &'static str,
    written: Mutex<Written>,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    pub(super) from: Format,
    pub(super) to: Format,
    /// `None` if it was so before.
    pub(super) leaf: Option<LeafIndex>,
}

/// Why it was not done, or not to its end.
#[derive(Debug)]
pub(super) enum NotKept {
    NotNow(NotNow),
    /// `format.json` cannot be written, for the operator.
    File(String),
}

impl Formats {
    /// The text of an error begins with a code.
    pub(super) fn open(
        core: Arc<Core>,
        ca: PathBuf,
        version: &'static str,
    ) -> Result<Self, String> {
        let written = Mutex::new(Written::read(&*core.disk, &ca)?);
        Ok(Self { core, ca, version, written })
    }

    /// There is no going back from this program.
    pub(super) fn keep(&self, uid: u32, user: &str) -> Result<Kept, NotKept> {
        let mut written = lock(&self.written);
        let format = written.format;
        if format < Format::OWN {
            let raised = Raised { from: format, uid, user: user.to_owned(), leaf: None };
            self.write(&mut written, Written { format: Format::OWN, raised: Some(raised) })?;
        }
        let made = self.record(&mut written)?;
        let (from, leaf) = made.map_or((format, None), |(from, leaf)| (from, Some(leaf)));
        Ok(Kept { from, to: written.format, leaf })
    }

    /// Records a raise that the log does not know yet.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        match self.record(&mut lock(&self.written)) {
            Ok(_) => Ok(()),
            Err(NotKept::NotNow(why)) => Err(why),
            Err(NotKept::File(why)) => {
                tracing::error!("{why}");
                Err(NotNow::Wait(AGAIN))
            }
        }
    }

    /// Makes the record if there is one to make. A crash behind it makes another, which says the same.
    fn record(&self, written: &mut Written) -> Result<Option<(Format, LeafIndex)>, NotKept> {
        let Some(raised) = written.raised.clone().filter(|raised| raised.leaf.is_none()) else {
            return Ok(None);
        };
        self.core.log.raise(written.format);
        let record = FormatRaisedV1 {
            at: self.core.now().map_err(NotKept::NotNow)?,
            from: raised.from.0,
            to: written.format.0,
            version: self.version.to_owned(),
            by: Actor::Operator { uid: raised.uid, user: raised.user.clone() },
        };
        let done = self.core.append_wait(Record::FormatRaisedV1(record), Release::Durable);
        let leaf = done.map_err(NotKept::NotNow)?.leaf;
        tracing::warn!(%leaf, from = %raised.from, to = %written.format, "the state is written in a newer format; there is no going back");
        let (format, from) = (written.format, raised.from);
        let raised = Raised { leaf: Some(leaf), ..raised };
        self.write(written, Written { format, raised: Some(raised) })?;
        Ok(Some((from, leaf)))
    }

    fn write(&self, written: &mut Written, now: Written) -> Result<(), NotKept> {
        now.write(&*self.core.disk, &self.ca).map_err(|error| {
            NotKept::File(format!(
                "CHY-STATE-DIR: {}: {error}; make it writable for the issuer, and ask again",
                crate::state::file(&self.ca).display()
            ))
        })?;
        *written = now;
        Ok(())
    }
}

const AGAIN: std::time::Duration = std::time::Duration::from_secs(30);
