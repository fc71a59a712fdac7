//! `chancery ceremony sign-cross` and `import-root`: another root where the root keys are on other boxes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{
    Context, Failure, Opening, carry, failure, hand_over, heir, issuer, place, read,
    read_certificate, read_with_key, tell, tell_next,
};
use crate::app::directories;
use crate::ceremony::cross::{self, Carried};
use crate::ceremony::new_root::{Document, NewRoot};
use crate::id::hex;

#[derive(Clone, Debug, Args)]
pub struct SignCross {
    /// The ceremony file, like hsm/ceremony/root-2.toml: the same on both roots' boxes, but for the tokens.
    file: PathBuf,
    /// The other root's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Where the cross-certificate goes.
    #[arg(long, value_name = "FILE", default_value = "cross.pem")]
    out: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

#[derive(Clone, Debug, Args)]
pub struct ImportRoot {
    /// The ceremony file by which the cross-certificates were signed.
    file: PathBuf,
    /// The new root's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The new root, certified by the former: PEM, from the former's box.
    #[arg(long, value_name = "FILE")]
    by_former: PathBuf,
    /// The former root, certified by the new one: PEM, from the new one's box.
    #[arg(long, value_name = "FILE")]
    of_former: PathBuf,
    /// The new root's CRL, DER.
    #[arg(long, value_name = "FILE")]
    root_crl: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

pub(super) fn sign(arguments: &SignCross, context: &Context) -> Result<(), Failure> {
    let new = read_with_key(&arguments.file, |document: &Document| &document.key, NewRoot::new)?;
    let other = read_certificate(&arguments.root)?;
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the root of this box would vouch for {} days for the root {} (SHA-256 {})",
            new.document.cross.lifetime_days,
            other.subject(),
            hex(&other.fingerprint())
        ),
    )?;
    let tokens = &new.document.tokens;
    let scene = arguments.rehearsal.scene(context, tokens, Copied::Keys)?;
    let opening = Opening { file: &arguments.file, tokens, discard: false };
    let outcome = opening.held(&scene, |tokens, place| cross::sign(&new, tokens, place, &other))?;
    carry(&scene, &outcome, &arguments.out)?;
    tell(&outcome, context)
}

pub(super) fn import(arguments: &ImportRoot, context: &Context) -> Result<(), Failure> {
    let new = read_with_key(&arguments.file, |document: &Document| &document.key, NewRoot::new)?;
    let carried = Carried {
        root: read_certificate(&arguments.root)?,
        by_former: read_certificate(&arguments.by_former)?,
        of_former: read_certificate(&arguments.of_former)?,
        crl: read(&arguments.root_crl)?,
    };
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the root {} (SHA-256 {}) would be {:?}'s and the newest of this box; what is issued by now stays as it is",
            carried.root.subject(),
            hex(&carried.root.fingerprint()),
            new.document.name
        ),
    )?;
    let mut scene = arguments.rehearsal.scene(context, &BTreeMap::new(), Copied::Keys)?;
    let carried = Carried {
        root: scene.root(carried.root)?,
        by_former: scene.certificate(carried.by_former)?,
        of_former: scene.certificate(carried.of_former)?,
        crl: scene.crl(carried.crl)?,
    };
    let policy = issuer::policy(&scene.config)?;
    let heir = heir(&scene.config)?;
    directories::prepare(&scene.config.paths, None, None)?;
    let place = place(&scene);
    let outcome = cross::import(&new, &place, &policy, &carried).map_err(failure)?;
    hand_over(&scene.config, heir)?;
    tell_next(
        &outcome,
        context,
        "Restart both processes, then bring the new root to the devices; see the manual for the order and the dates.",
    )
}
