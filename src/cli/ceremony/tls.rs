//! `chancery ceremony rotate-tls-key` and `finish-tls-key`: another key for the box's own certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{
    Context, Failure, beside, confirm, discard, failure, hand_over, heir, open_tokens, print, tell,
};
use crate::ceremony::plan::KeyFile;
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
}

pub(super) fn rotate(arguments: &RotateTlsKey, context: &Context) -> Result<(), Failure> {
    let rotation = read(&arguments.file)?;
    confirm(arguments.yes, &rotation.effect())?;
    let config = context.load()?;
    let heir = heir(&config)?;
    let (place, tokens) = open_tokens(&rotation.document.tokens, &arguments.file, &config)?;
    discard(arguments.discard_unfinished, &place, &tokens)?;
    let outcome = tls::rotate(&rotation, &tokens, &place).map_err(failure)?;
    hand_over(&config, heir)?;
    tell(&outcome, context)?;
    if context.json {
        return Ok(());
    }
    print(
        "\nRestart the issuer: it makes a certificate for the new key and serves the former until it has it. Then use finish-tls-key.",
    )
}

pub(super) fn finish(arguments: &FinishTlsKey, context: &Context) -> Result<(), Failure> {
    let rotation = read(&arguments.file)?;
    let removed = if arguments.remove { ", and be destroyed for good" } else { "" };
    confirm(arguments.yes, &format!("the former TLS key would be noted as done with{removed}"))?;
    let config = context.load()?;
    let heir = heir(&config)?;
    let served = served(&config);
    let (place, tokens) = open_tokens(&rotation.document.tokens, &arguments.file, &config)?;
    let outcome = tls::finish(&rotation, &tokens, &place, served.as_deref(), arguments.remove)
        .map_err(failure)?;
    hand_over(&config, heir)?;
    tell(&outcome, context)?;
    if context.json {
        return Ok(());
    }
    print("\nRestart the issuer, which then asks the token for the former key no more.")
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
