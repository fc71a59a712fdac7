//! `chancery ceremony add-root` and `finish-root`: another root.

use std::path::PathBuf;

use clap::Args;

use super::{
    Context, Failure, Opening, confirm, failure, hand_over, heir, issuer, place, print,
    read_with_key, tell_next,
};
use crate::app::directories;
use crate::ceremony::new_root::{self, Document, NewRoot};

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
    let new = read_with_key(&arguments.file, |document: &Document| &document.key, NewRoot::new)?;
    confirm(arguments.yes, &new.effect())?;
    let config = context.load()?;
    let policy = issuer::policy(&config)?;
    let opening = Opening {
        file: &arguments.file,
        tokens: &new.document.tokens,
        discard: arguments.discard_unfinished,
    };
    let outcome =
        opening.held(&config, |tokens, place| new_root::add(&new, tokens, place, &policy))?;
    tell_next(
        &outcome,
        context,
        "Restart both processes, then bring the new root to the devices; see the manual for the order and the dates.",
    )
}

pub(super) fn finish(arguments: &FinishRoot, context: &Context) -> Result<(), Failure> {
    let new = read_with_key(&arguments.file, |document: &Document| &document.key, NewRoot::new)?;
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
