//! `chancery ceremony rotate-log-key` and `finish-log-key`: another key for the log.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    Context, Failure, beside, confirm, discard, failure, hand_over, heir, open_tokens, print, tell,
};
use crate::ceremony::plan::KeyFile;
use crate::ceremony::rotate::{self, Document, Rotation};

#[derive(Clone, Debug, Args)]
pub struct RotateLogKey {
    /// The ceremony file, like hsm/ceremony/log-key.toml.
    file: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    /// First remove the key that an unfinished ceremony of this box named, and only that.
    #[arg(long)]
    discard_unfinished: bool,
}

#[derive(Clone, Debug, Args)]
pub struct FinishLogKey {
    /// The ceremony file of the rotation.
    file: PathBuf,
    /// Also remove the former key from its token, for good.
    #[arg(long)]
    remove: bool,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

pub(super) fn rotate(arguments: &RotateLogKey, context: &Context) -> Result<(), Failure> {
    let rotation = read(&arguments.file)?;
    confirm(arguments.yes, &rotation.effect())?;
    let config = context.load()?;
    let heir = heir(&config)?;
    let (place, tokens) = open_tokens(&rotation.document.tokens, &arguments.file, &config)?;
    discard(arguments.discard_unfinished, &place, &tokens)?;
    let outcome = rotate::rotate(&rotation, &tokens, &place).map_err(failure)?;
    hand_over(&config, heir)?;
    tell(&outcome, context)?;
    if context.json {
        return Ok(());
    }
    print(
        "\nRestart the issuer: it then records the new key, and both keys sign. Give the new verifier key to whoever has the former.",
    )
}

pub(super) fn finish(arguments: &FinishLogKey, context: &Context) -> Result<(), Failure> {
    let rotation = read(&arguments.file)?;
    let removed = if arguments.remove { ", and be removed from its token for good" } else { "" };
    confirm(arguments.yes, &format!("the former log key would be noted as done with{removed}"))?;
    let config = context.load()?;
    let heir = heir(&config)?;
    let (place, tokens) = open_tokens(&rotation.document.tokens, &arguments.file, &config)?;
    let done = rotate::finish(&rotation, &tokens, &place, arguments.remove).map_err(failure)?;
    hand_over(&config, heir)?;
    print(&done)
}

fn read(file: &Path) -> Result<Rotation, Failure> {
    let bad = |error: crate::config::ConfigError| Failure::operator(error.to_string());
    let document: Document = crate::config::read(file).map_err(bad)?;
    let key: KeyFile = crate::config::read(&beside(file, &document.key)).map_err(bad)?;
    Rotation::new(document, key).map_err(|error| match error {
        crate::ceremony::CeremonyError::Refused(why)
        | crate::ceremony::CeremonyError::Unfinished(why) => {
            Failure::operator(format!("{why} ({})", file.display()))
        }
    })
}
