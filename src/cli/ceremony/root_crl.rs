//! `chancery ceremony root-crl` and `import-root-crl`: the root's next CRL.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{
    Context, Failure, Opening, failure, hand_over, heir, place, read, read_certificate, read_plan,
    tell,
};
use crate::app::directories;
use crate::ceremony::root_crl::{self, REASONS, Revocation};
use crate::env::Clock;
use crate::env::system::SystemClock;
use crate::id::Serial;

#[derive(Clone, Debug, Args)]
pub struct RootCrl {
    /// The root's own ceremony file; its root-crl-days says how long the CRL lives.
    file: PathBuf,
    /// Revoke this issuing certificate: its serial number, as OpenSSL prints it.
    #[arg(long, value_name = "SERIAL")]
    revoke: Option<Serial>,
    /// Why, by its name in RFC 5280: keyCompromise, cACompromise, affiliationChanged, superseded,
    /// cessationOfOperation, privilegeWithdrawn or unspecified.
    #[arg(long, value_name = "REASON", requires = "revoke", value_parser = reason)]
    reason: Option<u8>,
    /// The certificate that is revoked, PEM, where this box's transcripts do not name it.
    #[arg(long, value_name = "FILE", requires = "revoke")]
    certificate: Option<PathBuf>,
    /// Where a copy goes that travels to the box that serves.
    #[arg(long, value_name = "FILE", default_value = "root.crl")]
    out: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

#[derive(Clone, Debug, Args)]
pub struct ImportRootCrl {
    /// The CRL that the root signed, DER.
    file: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

pub(super) fn sign(arguments: &RootCrl, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let certificate = arguments.certificate.as_deref().map(read_certificate).transpose()?;
    let mut revocation =
        arguments.revoke.map(|serial| Revocation { serial, reason: arguments.reason, certificate });
    let days = plan.document.root_crl_days.unwrap_or_default();
    let revokes = match &revocation {
        Some(new) => format!(
            ", and for good revoke the issuing certificate {}: devices then refuse every certificate under it",
            new.serial
        ),
        None => String::new(),
    };
    arguments
        .rehearsal
        .confirm(arguments.yes, &format!("the root would sign a CRL for {days} days{revokes}"))?;
    let scene = arguments.rehearsal.scene(context, &plan.document.tokens, Copied::Keys)?;
    if let Some(new) = &mut revocation {
        new.certificate = new.certificate.take().map(|it| scene.certificate(it)).transpose()?;
    }
    let (outcome, der) = Opening::of(&plan, &arguments.file, false)
        .held(&scene, |tokens, place| root_crl::sign(&plan, tokens, place, revocation.as_ref()))?;
    scene.carry(&der, &arguments.out)?;
    tell(&outcome, context)
}

pub(super) fn import(arguments: &ImportRootCrl, context: &Context) -> Result<(), Failure> {
    let der = read(&arguments.file)?;
    let scene = arguments.rehearsal.scene(context, &BTreeMap::new(), Copied::Keys)?;
    let der = scene.crl(der)?;
    let place = place(&scene);
    let list = root_crl::judge(&place, &der, SystemClock::new().now()).map_err(failure)?;
    let own = if root_crl::revokes_own(&place, &list) {
        "; it revokes the issuing certificate of this box, which would issue nothing any more"
    } else {
        ""
    };
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the root's CRL number {}, from {} to {}, with {} revoked certificates, would be published{own}",
            list.number,
            list.this_update,
            list.next_update,
            list.revoked.len()
        ),
    )?;
    let heir = heir(&scene.config)?;
    directories::prepare(&scene.config.paths, None, None)?;
    let outcome = root_crl::import(&place, &der).map_err(failure)?;
    hand_over(&scene.config, heir)?;
    tell(&outcome, context)
}

fn reason(text: &str) -> Result<u8, String> {
    let found = REASONS.iter().find(|(name, _)| *name == text);
    found.map(|(_, code)| *code).ok_or_else(|| {
        let names: Vec<&str> = REASONS.iter().map(|(name, _)| *name).collect();
        format!("no reason to revoke an issuing certificate; it is one of {}", names.join(", "))
    })
}
