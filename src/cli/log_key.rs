//! `chancery log-key`: the keys that sign the log's checkpoints, and the end of a cross-over.

use base64ct::{Base64, Encoding};
use clap::Subcommand;

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::config::Config;
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

fn show(config: &Config, json: bool) -> Result<(), Failure> {
    let authority = crate::app::require_authority(config)?;
    let broken = |why: &str| {
        Failure::operator(format!(
            "CHY-CA-BROKEN: {}: a log key: {why}",
            config.paths.authority().display()
        ))
    };
    let path = config.paths.public().join("checkpoint");
    // Absent or unreadable: then nobody signs, as far as can be told.
    let note = std::fs::read(path).ok().filter(|octets| octets.len() <= MAX_NOTE);
    let note = note.and_then(|octets| Note::parse(&octets).ok());
    let mut keys = Vec::new();
    for record in authority.log_keys() {
        let spki = Base64::decode_vec(&record.spki).map_err(|_| broken("not base64"))?;
        let key = VerifierKey::from_spki(&authority.origin, &spki).map_err(|why| broken(why.0))?;
        let signs = note.as_ref().is_some_and(|note| note.by(&key).next().is_some());
        keys.push((key, signs));
    }
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
