//! `chancery backup take-token`: the operator's word that this box, and no other, has the right to sign.

use std::sync::Arc;

use clap::Args;
use rustix::process::geteuid;

use crate::app::{directories, pin};
use crate::cli::ceremony::{hand_over, heir};
use crate::cli::{Context, Failure, confirm, print};
use crate::config::Config;
use crate::env::system::{SystemDisk, SystemRng};
use crate::env::{Disk, random_16};
use crate::hsm::direct::Direct;
use crate::hsm::epoch::{Epoch, Held};
use crate::hsm::token::TokenName;
use crate::issuer::epoch::{OwnEpoch, Taken, Unrecorded};
use crate::log::record::Actor;
use crate::pki::authority::Authority;

#[derive(Clone, Debug, Args)]
pub(super) struct TakeToken {
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(arguments: &TakeToken, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let authority = crate::app::require_authority(&config)?;
    confirm(
        arguments.yes,
        "the token would sign for this box and for no other that has its keys: be sure that no other runs, and that this box's log is the newest there is",
    )?;
    let path = config.paths.log().join("lock");
    let _guard = SystemDisk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Failure::retry(
            "CHY-LOG-BUSY: the issuer runs; stop the box first, then take the token".into(),
        ),
        _ => Failure::operator(format!("CHY-LOG-IO: {}: {error}", path.display())),
    })?;
    let direct = open(&config, authority)?;
    let ca = crate::issuer::ca_of(authority).map_err(Failure::operator)?;
    let dir = config.paths.issuer();
    // A file that does not read is what may have to be mended.
    let own = OwnEpoch::read(&SystemDisk, &dir).ok().flatten();
    let found = direct.epochs(&ca).map_err(|error| Failure::operator(error.to_string()))?;
    let newest = found.iter().map(|epoch| epoch.number).chain(own.map(|own| own.number)).max();
    let epoch =
        Epoch { number: newest.unwrap_or(0).saturating_add(1), holder: random_16(&SystemRng) };
    let by = Actor::Operator {
        uid: geteuid().as_raw(),
        user: directories::user_name(geteuid().as_raw()),
    };
    let failed = |error: std::io::Error| {
        Failure::failed(format!("CHY-STATE-DIR: {}: {error}", dir.display()))
    };
    // The box's own first: stopped in between, the next start finds the token behind, and raises it.
    OwnEpoch::new(epoch, false).write(&SystemDisk, &dir).map_err(failed)?;
    let held = direct.take_epoch(&ca, epoch).map_err(|error| Failure::failed(error.to_string()))?;
    let held = held == Held::Yes;
    OwnEpoch::new(epoch, held).write(&SystemDisk, &dir).map_err(failed)?;
    let mut left = Unrecorded::read(&SystemDisk, &dir).map_err(failed)?;
    left.version = 1;
    left.epoch = Some(Taken { number: epoch.number, holder: epoch.holder, held, by });
    left.write(&SystemDisk, &dir).map_err(failed)?;
    hand_over(&config, heir(&config)?)?;
    print(&if held {
        format!("the token is this box's: {epoch}; the issuer records it at its next start")
    } else {
        format!("{epoch}; but the token takes no data objects, and keeps no other box from signing")
    })
}

/// The box's own token, for writing.
pub(in crate::cli) fn open(config: &Config, authority: &Authority) -> Result<Arc<Direct>, Failure> {
    let uri = authority.issuing_key.parsed_uri().map_err(|why| {
        Failure::operator(format!("CHY-CA-BROKEN: ca/authority.json: the issuing key: {why}"))
    })?;
    Direct::open(&config.token, &TokenName::of(&uri), &pin::read(&config.pin)?, true)
        .map_err(|error| Failure::operator(error.to_string()))
}
