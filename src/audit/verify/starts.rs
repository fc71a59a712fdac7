//! Starts and configurations, as far as the log alone can be asked about them.

use crate::id::LeafIndex;
use crate::log::record::{ConfigChangedV1, StartedV1};
use crate::log::tree::Hash;

/// What was read so far. Each method takes the next record and says what is wrong with it.
#[derive(Default)]
pub(super) struct Starts {
    /// The newest configuration stated, and the one that it says was before.
    configuration: Option<(Hash, Option<Hash>)>,
}

impl Starts {
    pub(super) fn started(&mut self, leaf: LeafIndex, started: &StartedV1) -> Result<(), String> {
        if self.configuration.is_none_or(|(sha256, _)| sha256 != started.config_sha256) {
            return Err("it started with a configuration that no record states".into());
        }
        if started.found > leaf.0 {
            return Err(format!(
                "it found {} records in the log, but there were {leaf} at most",
                started.found
            ));
        }
        Ok(())
    }

    pub(super) fn config_changed(&mut self, changed: &ConfigChangedV1) -> Result<(), String> {
        let stated = self.configuration.replace((changed.sha256, changed.former));
        // A crash just after the record has it made once more. Without a former one nothing is claimed.
        let repeated = stated == Some((changed.sha256, changed.former));
        let follows = stated.map(|(sha256, _)| sha256) == changed.former;
        if changed.former.is_none() || follows || repeated {
            return Ok(());
        }
        Err("the configuration it replaces is not the one in force".into())
    }
}
