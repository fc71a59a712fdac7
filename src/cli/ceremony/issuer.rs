//! `chancery ceremony add-issuer`, `import-issuer` and `finish-issuer`: another issuing CA.

use std::path::{Path, PathBuf};

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{Context, Failure, Opening, carry, print, read_certificate, read_with_key, tell};
use crate::ceremony::succession::{self, Document, Succession};
use crate::config::Config;
use crate::id::hex;
use crate::pki::policy::Policy;

#[derive(Clone, Debug, Args)]
pub struct AddIssuer {
    /// The ceremony file, like hsm/ceremony/issuing-2.toml; with [issuing] where the root key is, without where it is not.
    file: PathBuf,
    /// Where the request goes, if the root is elsewhere; it also stays in ca/NAME.csr.
    #[arg(long, value_name = "FILE", default_value = "issuing.csr")]
    out: PathBuf,
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
pub struct ImportIssuer {
    /// The ceremony file of the request.
    file: PathBuf,
    /// The issuing certificate, PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "withdraw")]
    certificate: Option<PathBuf>,
    /// Give the request up instead, and remove its key.
    #[arg(long, conflicts_with = "certificate")]
    withdraw: bool,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

#[derive(Clone, Debug, Args)]
pub struct FinishIssuer {
    /// The ceremony file of the issuing CA that took over.
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

pub(super) fn add(arguments: &AddIssuer, context: &Context) -> Result<(), Failure> {
    let succession =
        read_with_key(&arguments.file, |document: &Document| &document.key, Succession::new)?;
    arguments.rehearsal.confirm(arguments.yes, &succession.effect())?;
    let tokens = &succession.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let policy = policy(&scene.config)?;
    let outcome = opening(&succession, &arguments.file, arguments.discard_unfinished)
        .held(&scene, |tokens, place| succession::add(&succession, tokens, place, &policy))?;
    carry(&scene, &outcome, &arguments.out)?;
    tell(&outcome, context)?;
    restart(context, outcome.carry.is_none())
}

pub(super) fn import(arguments: &ImportIssuer, context: &Context) -> Result<(), Failure> {
    let succession =
        read_with_key(&arguments.file, |document: &Document| &document.key, Succession::new)?;
    let Document { name, tokens, .. } = &succession.document;
    let Some(path) = &arguments.certificate else {
        arguments.rehearsal.confirm(
            arguments.yes,
            &format!("the request for {name:?} would be given up and its key removed"),
        )?;
        let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
        let done = opening(&succession, &arguments.file, false)
            .held(&scene, |tokens, place| succession::withdraw(&succession, tokens, place))?;
        return print(&done);
    };
    let certificate = read_certificate(path)?;
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the issuing certificate {} (SHA-256 {}) would be {name:?}'s; from the next start of both processes on it issues \
             what the line {:?} issues",
            certificate.subject(),
            hex(&certificate.fingerprint()),
            succession.document.line
        ),
    )?;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let certificate = scene.certificate(certificate)?;
    let policy = policy(&scene.config)?;
    let outcome = opening(&succession, &arguments.file, false).held(&scene, |tokens, place| {
        succession::import(&succession, tokens, place, &policy, &certificate)
    })?;
    tell(&outcome, context)?;
    restart(context, true)
}

pub(super) fn finish(arguments: &FinishIssuer, context: &Context) -> Result<(), Failure> {
    let succession =
        read_with_key(&arguments.file, |document: &Document| &document.key, Succession::new)?;
    let removed =
        if arguments.remove { ", and its key be removed from its token for good" } else { "" };
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the issuing CA before {:?} would be noted as done with{removed}",
            succession.document.name
        ),
    )?;
    let tokens = &succession.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Ends)?;
    let done = opening(&succession, &arguments.file, false).held(&scene, |tokens, place| {
        succession::finish(&succession, tokens, place, arguments.remove)
    })?;
    print(&done)
}

fn restart(context: &Context, counts: bool) -> Result<(), Failure> {
    if context.json || !counts {
        return Ok(());
    }
    print("\nRestart both processes: the issuer then records the new issuing CA, and issues by it.")
}

pub(super) fn policy(config: &Config) -> Result<Policy, Failure> {
    Policy::new(&config.policy).map_err(|bad| {
        Failure::operator(format!("CHY-CONFIG-POLICY: `{}`: {}", bad.entry, bad.why))
    })
}

fn opening<'a>(succession: &'a Succession, file: &'a Path, discard: bool) -> Opening<'a> {
    Opening { file, tokens: &succession.document.tokens, discard }
}
