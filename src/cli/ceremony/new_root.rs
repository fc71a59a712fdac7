//! `chancery ceremony add-root` and `finish-root`: another root.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    Context, Failure, beside, confirm, discard, failure, hand_over, heir, issuer, open_tokens,
    place, print, tell,
};
use crate::app::directories;
use crate::ceremony::CeremonyError;
use crate::ceremony::new_root::{self, Document, NewRoot};
use crate::ceremony::plan::KeyFile;

#[derive(Clone, Debug, Args)]
pub struct AddRoot {
    /// The ceremony file, like hsm/ceremony/root-2.toml.
    file: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    /// First remove the key that an unfinished ceremony of this box named, and only that.
    #[arg(long)]
    discard_unfinished: bool,
}

#[derive(Clone, Debug, Args)]
pub struct FinishRoot {
    /// The ceremony file of the root that took over.
    file: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

pub(super) fn add(arguments: &AddRoot, context: &Context) -> Result<(), Failure> {
    let new = read(&arguments.file)?;
    confirm(arguments.yes, &new.effect())?;
    let config = context.load()?;
    let policy = issuer::policy(&config)?;
    let heir = heir(&config)?;
    let (place, tokens) = open_tokens(&new.document.tokens, &arguments.file, &config)?;
    discard(arguments.discard_unfinished, &place, &tokens)?;
    let outcome = new_root::add(&new, &tokens, &place, &policy).map_err(failure)?;
    hand_over(&config, heir)?;
    tell(&outcome, context)?;
    if context.json {
        return Ok(());
    }
    print(
        "\nRestart both processes, then bring the new root to the devices; see the manual for the order and the dates.",
    )
}

pub(super) fn finish(arguments: &FinishRoot, context: &Context) -> Result<(), Failure> {
    let new = read(&arguments.file)?;
    confirm(
        arguments.yes,
        "the root before this one would be noted as done with; a device that has only that one trusts nothing of this box any more",
    )?;
    let config = context.load()?;
    let heir = heir(&config)?;
    directories::prepare(&config.paths, None, None)?;
    let place = place(&config.paths, config.log.clone());
    let done = new_root::finish(&new, &place).map_err(failure)?;
    hand_over(&config, heir)?;
    print(&done)
}

fn read(file: &Path) -> Result<NewRoot, Failure> {
    let bad = |error: crate::config::ConfigError| Failure::operator(error.to_string());
    let document: Document = crate::config::read(file).map_err(bad)?;
    let key: KeyFile = crate::config::read(&beside(file, &document.key)).map_err(bad)?;
    NewRoot::new(document, key).map_err(|error| match error {
        CeremonyError::Refused(why) | CeremonyError::Unfinished(why) => {
            Failure::operator(format!("{why} ({})", file.display()))
        }
    })
}
