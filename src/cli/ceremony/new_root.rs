//! `chancery ceremony add-root` and `finish-root`: another root.

use std::path::PathBuf;

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{
    Context, Failure, Opening, failure, hand_over, heir, issuer, place, print, read_with_key,
    tell_next,
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
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

#[derive(Clone, Debug, Args)]
pub struct FinishRoot {
    /// The ceremony file of the root that took over.
    file: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

pub(super) fn add(arguments: &AddRoot, context: &Context) -> Result<(), Failure> {
    let new = read_with_key(&arguments.file, |document: &Document| &document.key, NewRoot::new)?;
    arguments.rehearsal.confirm(arguments.yes, &new.effect())?;
    let tokens = &new.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let policy = issuer::policy(&scene.config)?;
    let opening = Opening {
        file: &arguments.file,
        tokens: &new.document.tokens,
        discard: arguments.discard_unfinished,
    };
    let outcome =
        opening.held(&scene, |tokens, place| new_root::add(&new, tokens, place, &policy))?;
    tell_next(
        &outcome,
        context,
        "Restart both processes, then bring the new root to the devices; see the manual for the order and the dates.",
    )
}

pub(super) fn finish(arguments: &FinishRoot, context: &Context) -> Result<(), Failure> {
    let new = read_with_key(&arguments.file, |document: &Document| &document.key, NewRoot::new)?;
    arguments.rehearsal.confirm(
        arguments.yes,
        "the root before this one would be noted as done with; a device that has only that one trusts nothing of this box any more",
    )?;
    let tokens = &new.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let heir = heir(&scene.config)?;
    directories::prepare(&scene.config.paths, None, None)?;
    let place = place(&scene);
    let done = new_root::finish(&new, &place).map_err(failure)?;
    hand_over(&scene.config, heir)?;
    print(&done)
}
