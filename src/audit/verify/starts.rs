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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Timestamp;
    use crate::log::record::PreviousEnd;

    fn started(config: u8, found: u64) -> StartedV1 {
        StartedV1 {
            at: Timestamp(0),
            version: String::new(),
            built: Timestamp(0),
            program_sha256: None,
            config_sha256: [config; 32],
            token: None,
            previous: PreviousEnd::Unknown,
            starts: 1,
            found,
            torn: false,
        }
    }

    fn changed(former: Option<u8>, sha256: u8) -> ConfigChangedV1 {
        ConfigChangedV1 {
            at: Timestamp(0),
            former: former.map(|octet| [octet; 32]),
            sha256: [sha256; 32],
            parts: Vec::new(),
            changed: None,
            unlisted: 0,
        }
    }

    #[test]
    fn a_start_names_the_configuration_that_was_stated_last() {
        let mut starts = Starts::default();
        let leaf = LeafIndex(9);
        assert!(starts.started(leaf, &started(1, 9)).is_err(), "nothing was stated");
        starts.config_changed(&changed(None, 1)).unwrap();
        starts.started(leaf, &started(1, 9)).unwrap();
        assert!(starts.started(leaf, &started(2, 9)).is_err());
        assert!(starts.started(leaf, &started(1, 10)).is_err(), "it found what was not there yet");
    }

    #[test]
    fn a_change_is_from_the_configuration_in_force() {
        let mut starts = Starts::default();
        assert!(starts.config_changed(&changed(Some(1), 2)).is_err(), "nothing was in force");
        let mut starts = Starts::default();
        for (former, sha256) in [(None, 1), (Some(1), 2), (Some(1), 2), (Some(2), 3), (None, 4)] {
            starts.config_changed(&changed(former, sha256)).unwrap();
        }
        assert!(starts.config_changed(&changed(Some(1), 5)).is_err());
    }
}
