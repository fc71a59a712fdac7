//! `chancery witness`: what this box and the boxes that watch it must be told of each other. Reads files only.

use clap::Subcommand;

use super::log_key::{Known, broken};
use super::{Context, Failure, print, print_json};
use crate::config::Config;
use crate::tlog::note::VerifierKey;

/// `chancery witness …`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum WitnessCommand {
    /// The vkeys of this box: its log's, for its witnesses, and its own as a witness, for the logs that it watches.
    Key,
}

pub fn run(command: &WitnessCommand, context: &Context) -> Result<(), Failure> {
    let WitnessCommand::Key = command;
    let config = context.load()?;
    crate::app::require_authority(&config)?;
    let known = Known::of(&config)?;
    // While both sign, a witness that knows either is content.
    let (log, former) = (known.newest(), known.former());
    let witness = own(&config)?;
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

/// This box's own key as a witness, if a ceremony made one.
pub(super) fn own(config: &Config) -> Result<Option<VerifierKey>, Failure> {
    let record = config.authority.as_ref().and_then(|authority| authority.witness.as_ref());
    let key = record.map(|witness| {
        let spki = witness.key.spki_der().map_err(|why| broken(config, &why))?;
        VerifierKey::cosigner(&witness.name, &spki).map_err(|why| broken(config, &why))
    });
    key.transpose()
}
