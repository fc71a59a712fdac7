//! `chancery ceremony rotate-tls-key` and `finish-tls-key`: another key for the box's own certificate.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{Context, Failure, Opening, read_with_key, tell_next};
use crate::ceremony::tls::{self, Document, Rotation};
use crate::cli::log::locate;
use crate::config::Config;
use crate::env::system::SystemDisk;
use crate::id::Serial;
use crate::log::index::Subject;
use crate::log::reader::Reader;
use crate::log::record::Record;
use crate::pki::certificate::Certificate;

#[derive(Clone, Debug, Args)]
pub struct RotateTlsKey {
    /// The ceremony file, like hsm/ceremony/tls-key.toml.
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
pub struct FinishTlsKey {
    /// The ceremony file of the rotation.
    file: PathBuf,
    /// Also destroy the former key on its token, for good.
    #[arg(long)]
    remove: bool,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

pub(super) fn rotate(arguments: &RotateTlsKey, context: &Context) -> Result<(), Failure> {
    let rotation =
        read_with_key(&arguments.file, |document: &Document| &document.key, Rotation::new)?;
    arguments.rehearsal.confirm(arguments.yes, &rotation.effect())?;
    let tokens = &rotation.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let outcome = Opening { file: &arguments.file, tokens, discard: arguments.discard_unfinished }
        .held(&scene, |tokens, place| tls::rotate(&rotation, tokens, place))?;
    tell_next(
        &outcome,
        context,
        "Restart the issuer: it makes a certificate for the new key and serves the former until it has it. Then use finish-tls-key.",
    )
}

pub(super) fn finish(arguments: &FinishTlsKey, context: &Context) -> Result<(), Failure> {
    let rotation =
        read_with_key(&arguments.file, |document: &Document| &document.key, Rotation::new)?;
    let removed = if arguments.remove { ", and be destroyed for good" } else { "" };
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!("the former TLS key would be noted as done with{removed}"),
    )?;
    let tokens = &rotation.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let served = served(scene.real()).map(|spki| scene.spki(spki));
    let outcome = Opening { file: &arguments.file, tokens, discard: false }
        .held(&scene, |tokens, place| {
            tls::finish(&rotation, tokens, place, served.as_deref(), arguments.remove)
        })?;
    let next = "Restart the issuer, which then asks the token for the former key no more.";
    tell_next(&outcome, context, next)
}

/// The public key of the certificate that this box has for itself, as its log tells.
fn served(config: &Config) -> Option<Vec<u8>> {
    let noted = std::fs::read_to_string(config.paths.issuer().join("tls-serial")).ok()?;
    let serial: Serial = noted.trim().parse().ok()?;
    let subject = Subject { serial: Some(serial), ..Subject::default() };
    let located = locate(&subject, config)?;
    let reader = Reader::open(Arc::new(SystemDisk), &config.paths.log()).ok()?;
    located.places.iter().find_map(|(leaf, offset)| {
        match reader.at(*leaf, *offset).ok()?.record.ok()? {
            Record::IntentV1(intent) if intent.serial == serial => {
                let certificate = Certificate::of_tbs(&intent.tbs).ok()?;
                Some(certificate.public_key().spki().to_vec())
            }
            _ => None,
        }
    })
}
