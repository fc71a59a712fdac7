//! What witnesses have cosigned of this log, and this box of others.

use std::time::Duration;

use super::Report;
use crate::cli::witness;
use crate::config::Config;
use crate::env::system::{SystemClock, SystemDisk};
use crate::env::{Clock, Disk};
use crate::id::Timestamp;
use crate::tlog::checkpoint::{Checkpoint, WITNESSED};
use crate::tlog::note::{MAX_NOTE, Note, VerifierKey};
use crate::tlog::witness::origin_hash;

pub(super) fn examine(config: &Config, report: &mut Report<'_>) {
    let fork = config.paths.issuer().join("fork");
    if fork.exists() {
        report.fail(
            "witness",
            format!(
                "CHY-WITNESS-FORK: {} is a checkpoint under this log's key that the log did not continue when it was last compared",
                fork.display()
            ),
        );
    }
    let now = SystemClock::new().now();
    let cosigned = read(config, WITNESSED);
    for witness in &config.web.witnesses {
        // What does not parse was refused with the configuration.
        let Ok(key) = witness.key() else { continue };
        judge(&key, cosigned.as_ref(), now, report);
    }
    watched(config, now, report);
}

/// One witness of this log: what is published of its cosignatures, verified.
fn judge(
    key: &VerifierKey,
    cosigned: Option<&(Note, Checkpoint)>,
    now: Timestamp,
    report: &mut Report<'_>,
) {
    let newest = cosigned.and_then(|(note, checkpoint)| {
        let head = &checkpoint.head;
        let verified = |octets: &&[u8]| key.verify(note.text.as_bytes(), head, octets);
        let at = note.by(key).find(verified).and_then(|octets| key.cosigned_at(octets))?;
        Some((head.size, at))
    });
    let name = key.name();
    match newest {
        None => report.warn(
            "witness",
            format!("CHY-WITNESS-AWAY: {name} has not cosigned the checkpoint that is published; `chancery status` says why, if the box runs"),
        ),
        Some((size, at)) if now.since(at) > OLD => report.warn(
            "witness",
            format!("CHY-WITNESS-AWAY: {name} cosigned last at {at}, {size} records"),
        ),
        Some((size, at)) => report.ok("witness", format!("{name} cosigned {size} records at {at}")),
    }
}

/// The logs that this box watches.
fn watched(config: &Config, now: Timestamp, report: &mut Report<'_>) {
    let Ok(keys) = config.issuer.watched_keys() else { return };
    let has_key = config.authority.as_ref().is_some_and(|authority| authority.witness.is_some());
    if !keys.is_empty() && !has_key {
        return report.fail(
            "watches",
            "CHY-WITNESS-KEY: [issuer] watched-logs names logs, and this box has no key to cosign them with",
        );
    }
    let own = witness::own(config).ok().flatten();
    for (n, key) in keys.iter().enumerate() {
        // A log may be there with two keys.
        if keys[..n].iter().any(|other| other.name() == key.name()) {
            continue;
        }
        let origin = key.name();
        let found = read(config, &format!("witness/{}/checkpoint", origin_hash(origin)));
        let stated = found.as_ref().zip(own.as_ref()).and_then(|((note, checkpoint), own)| {
            let at = note.by(own).find_map(|octets| own.cosigned_at(octets))?;
            Some((checkpoint.head.size, at))
        });
        match stated {
            Some((size, at)) if now.since(at) <= OLD => {
                report.ok("watches", format!("{origin}: {size} records cosigned at {at}"));
            }
            Some((size, at)) => report.warn(
                "watches",
                format!("CHY-WATCHED-SILENT: {origin} was cosigned last at {at}, {size} records"),
            ),
            None => report
                .warn("watches", format!("CHY-WATCHED-SILENT: {origin} was never cosigned here")),
        }
    }
}

fn read(config: &Config, name: &str) -> Option<(Note, Checkpoint)> {
    let bytes = SystemDisk.read(&config.paths.public().join(name), MAX_NOTE as u64).ok()?;
    let note = Note::parse(&bytes).ok()?;
    let checkpoint = Checkpoint::parse_text(&note.text).ok()?;
    Some((note, checkpoint))
}

/// A witness is visited at least once an hour.
const OLD: Duration = Duration::from_secs(2 * 3600);
