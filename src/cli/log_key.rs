//! `chancery log-key`: the keys that sign the log's checkpoints, and the end of a cross-over.

use clap::Subcommand;

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::config::Config;
use crate::env::Disk;
use crate::env::system::SystemDisk;
use crate::ipc::admin::{AdminAnswer, AdminQuestion};
use crate::log::note::{MAX_NOTE, Note, VerifierKey};

/// `chancery log-key …`.
#[derive(Clone, Debug, Subcommand)]
pub enum LogKeyCommand {
    /// Every key this log has had, oldest first, and which of them sign the published checkpoint. Give the newest to
    /// whoever verifies the log.
    Show,
    /// Let the former key sign no more, before its time is over: the end of a cross-over.
    Retire {
        /// Do it; without, say what would be done.
        #[arg(long)]
        yes: bool,
    },
}

pub fn run(command: &LogKeyCommand, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    match command {
        LogKeyCommand::Show => show(&config, context.json),
        LogKeyCommand::Retire { yes } => {
            confirm(
                *yes,
                "the former log key would sign no checkpoint any more; whoever knows only that key must have the new one by now",
            )?;
            let mut issuer = Issuer::connect(&config)?;
            match issuer.ask(&AdminQuestion::RetireLogKey)? {
                AdminAnswer::LogKeyRetired(leaf) if context.json => {
                    print_json(&serde_json::json!({ "leaf": leaf.0 }))
                }
                AdminAnswer::LogKeyRetired(leaf) => {
                    print(&format!("retired with leaf {leaf}; the new key signs alone"))
                }
                _ => Err(unexpected()),
            }
        }
    }
}

/// The keys of this box's log, as `ca/authority.json` names them. Nothing else of the command line reads them.
pub(super) struct Known {
    /// Oldest first; never empty.
    keys: Vec<VerifierKey>,
    /// Whether the one before the newest may still sign.
    crossing: bool,
}

impl Known {
    pub(super) fn of(config: &Config) -> Result<Self, Failure> {
        let Some(authority) = &config.authority else {
            return Err(Failure::operator(format!(
                "CHY-CA-ABSENT: no ceremony has been held in {}",
                config.paths.state.display()
            )));
        };
        let keys = authority.log_keys().map(|record| {
            let spki = record.spki_der().map_err(|why| broken(config, &why))?;
            VerifierKey::from_spki(&authority.origin, &spki).map_err(|why| broken(config, &why))
        });
        let crossing = authority.former_log_key().is_some();
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, crossing })
    }

    /// Every one there was, oldest first.
    pub(super) fn all(&self) -> &[VerifierKey] {
        &self.keys
    }

    /// Those that may sign now: the newest, last, and during a cross-over the one before it.
    pub(super) fn current(&self) -> &[VerifierKey] {
        let signing = if self.crossing { 2 } else { 1 };
        &self.keys[self.keys.len().saturating_sub(signing)..]
    }

    pub(super) fn newest(&self) -> &VerifierKey {
        &self.keys[self.keys.len() - 1]
    }

    /// The one before it, while it may still sign.
    pub(super) fn former(&self) -> Option<&VerifierKey> {
        let [former, _newest] = self.current() else { return None };
        Some(former)
    }

    /// Those that signed the published checkpoint; empty where there is none, or none that can be read.
    pub(super) fn signed(&self, config: &Config) -> Vec<&VerifierKey> {
        let path = config.paths.public().join("checkpoint");
        let note = SystemDisk.read(&path, MAX_NOTE as u64).ok();
        let Some(note) = note.and_then(|octets| Note::parse(&octets).ok()) else {
            return Vec::new();
        };
        self.keys.iter().filter(|key| note.by(key).next().is_some()).collect()
    }
}

/// What `ca/authority.json` says of a key makes none.
pub(super) fn broken(config: &Config, why: &dyn std::fmt::Display) -> Failure {
    let path = config.paths.authority();
    Failure::operator(format!(
        "CHY-CA-BROKEN: {}: {why}; restore it from the ceremony's backup",
        path.display()
    ))
}

fn show(config: &Config, json: bool) -> Result<(), Failure> {
    let known = Known::of(config)?;
    let signed = known.signed(config);
    let keys: Vec<(&VerifierKey, bool)> =
        known.all().iter().map(|key| (key, signed.contains(&key))).collect();
    if json {
        let keys: Vec<_> = keys
            .iter()
            .map(|(key, signs)| serde_json::json!({ "vkey": key.to_string(), "signs": signs }))
            .collect();
        return print_json(&keys);
    }
    keys.iter().try_for_each(|(key, signs)| {
        print(&format!("{}  {key}", if *signs { "signs" } else { "     " }))
    })
}
