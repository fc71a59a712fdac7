//! `chancery witness`: what this box and the boxes that watch it must be told of each other. Reads files only.

use base64ct::{Base64, Encoding};
use clap::Subcommand;

use super::{Context, Failure, print, print_json};
use crate::config::Config;
use crate::pki::authority::KeyRecord;
use crate::tlog::note::{NotANoteKey, VerifierKey};

/// `chancery witness …`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum WitnessCommand {
    /// The vkeys of this box: its log's, for its witnesses, and its own as a witness, for the logs that it watches.
    Key,
}

pub fn run(command: &WitnessCommand, context: &Context) -> Result<(), Failure> {
    let WitnessCommand::Key = command;
    let config = context.load()?;
    let authority = crate::app::require_authority(&config)?;
    let of_log = |record: &KeyRecord| {
        vkey(&config, record, |spki| VerifierKey::from_spki(&authority.origin, spki))
    };
    let log = of_log(authority.newest_log_key())?;
    // While both sign, a witness that knows either is content.
    let former = authority.former_log_key().map(of_log).transpose()?;
    let witness = match &authority.witness {
        None => None,
        Some(w) => Some(vkey(&config, &w.key, |spki| VerifierKey::cosigner(&w.name, spki))?),
    };
    if context.json {
        return print_json(&serde_json::json!({
            "log": log.to_string(),
            "former_log": former.map(|key| key.to_string()),
            "witness": witness.map(|key| key.to_string()),
        }));
    }
    print(&format!("log      {log}"))?;
    if let Some(former) = former {
        print(&format!("former   {former}"))?;
    }
    match witness {
        Some(key) => {
            print(&format!("witness  {key}\nprefix   /witness, below any address of this box"))
        }
        None => {
            print("witness  none: hold the ceremony of hsm/ceremony/witness.toml to make its key")
        }
    }
}

/// The vkey of a key that the ceremony fixed.
pub(super) fn vkey(
    config: &Config,
    record: &KeyRecord,
    make: impl FnOnce(&[u8]) -> Result<VerifierKey, NotANoteKey>,
) -> Result<VerifierKey, Failure> {
    let broken = |why: &dyn std::fmt::Display| {
        Failure::operator(format!("CHY-CA-BROKEN: {}: {why}", config.paths.authority().display()))
    };
    let spki = Base64::decode_vec(&record.spki).map_err(|why| broken(&why))?;
    make(&spki).map_err(|why| broken(&why))
}
