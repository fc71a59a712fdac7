//! `chancery ceremony rotate-log-key` and `finish-log-key`: another key for the log.

use std::path::PathBuf;

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{Context, Failure, Opening, print, read_with_key, tell_next};
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
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
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
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

pub(super) fn rotate(arguments: &RotateLogKey, context: &Context) -> Result<(), Failure> {
    let rotation =
        read_with_key(&arguments.file, |document: &Document| &document.key, Rotation::new)?;
    arguments.rehearsal.confirm(arguments.yes, &rotation.effect())?;
    let tokens = &rotation.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let outcome = Opening { file: &arguments.file, tokens, discard: arguments.discard_unfinished }
        .held(&scene, |tokens, place| rotate::rotate(&rotation, tokens, place))?;
    tell_next(
        &outcome,
        context,
        "Restart the issuer: it then records the new key, and both keys sign. Give the new verifier key to whoever has the former.",
    )
}

pub(super) fn finish(arguments: &FinishLogKey, context: &Context) -> Result<(), Failure> {
    let rotation =
        read_with_key(&arguments.file, |document: &Document| &document.key, Rotation::new)?;
    let removed = if arguments.remove { ", and be removed from its token for good" } else { "" };
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!("the former log key would be noted as done with{removed}"),
    )?;
    let tokens = &rotation.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let done = Opening { file: &arguments.file, tokens, discard: false }
        .held(&scene, |tokens, place| rotate::finish(&rotation, tokens, place, arguments.remove))?;
    print(&done)
}
