//! `chancery log archive` and `chancery log seal`: what keeps complete segments, elsewhere and here.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Failure, Stop};
use crate::cli::log_key::Known;
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::env::Disk;
use crate::env::system::{Kept, SystemDisk};
use crate::log::archive::{self, Source};
use crate::log::note::MAX_NOTE;
use crate::log::recover::{self, Segment};

/// Where to archive.
#[derive(Debug, Args)]
pub struct Archive {
    /// A directory on other storage; made if it does not exist. Run again, only what is new is copied.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Whether to seal.
#[derive(Debug, Args)]
pub struct Seal {
    /// Take the attribute away again, before the directory is moved or removed.
    #[arg(long)]
    undo: bool,
}

pub(super) fn archive(
    arguments: &Archive,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let (known, note) = (known(config)?, published(config)?);
    let dir = config.paths.log();
    let source = Source { disk: &SystemDisk, dir: &dir, keys: known.current(), checkpoint: &note };
    let shown = Progress::new("copied");
    let outcome = archive::archive(source, &arguments.to, &mut |p| shown.step(p));
    shown.end();
    let outcome = outcome?;
    let place = arguments.to.display();
    if json {
        let value = serde_json::json!({
            "copied": outcome.copied, "octets": outcome.octets, "segments": outcome.segments,
            "records": outcome.leaves, "covered": outcome.covered,
        });
        writeln!(out, "{value:#}")?;
    } else if outcome.segments == 0 {
        writeln!(out, "no segment is complete yet: nothing to archive")?;
    } else {
        writeln!(
            out,
            "{} segments copied; {place} holds {} with the first {} records, proven by a checkpoint over {}\n\
             verify it there: chancery log verify --dir {place}",
            outcome.copied, outcome.segments, outcome.leaves, outcome.covered
        )?;
    }
    Ok(())
}

pub(super) fn seal(
    arguments: &Seal,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let dir = config.paths.log();
    let (mut changed, mut refused) = (0, None);
    for segment in complete(config)? {
        let path = dir.join(&segment.name);
        let failed = |error: io::Error| {
            Stop::Failed(Failure::failed(format!("CHY-LOG-IO: {}: {error}", path.display())))
        };
        let kept = SystemDisk.kept(&path).map_err(failed)?;
        let wanted = match kept {
            Kept::Elsewhere(_) => continue,
            Kept::Immutable => arguments.undo,
            Kept::ByMode(_) => !arguments.undo,
        };
        if !wanted {
            continue;
        }
        if !arguments.undo {
            SystemDisk.seal(&path).map_err(failed)?;
        }
        match SystemDisk.set_immutable(&path, !arguments.undo) {
            Ok(()) => changed += 1,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    if let Some(error) = refused {
        return Err(Stop::Failed(Failure::failed(format!(
            "CHY-LOG-UNSEALED: the segments in {} have mode 0400, but no immutable attribute: {error}. It \
             takes root, and ext4, xfs, btrfs or f2fs",
            dir.display()
        ))));
    }
    if json {
        writeln!(out, "{}", serde_json::json!({"changed": changed, "immutable": !arguments.undo}))?;
    } else {
        let what = if arguments.undo { "may be changed again" } else { "made immutable" };
        writeln!(out, "{changed} segments {what}")?;
    }
    Ok(())
}

/// The segments that are complete for good: the next one holds a record that a checkpoint covers.
pub(in crate::cli) fn complete(config: &Config) -> Result<Vec<Segment>, Stop> {
    let (known, note) = (known(config)?, published(config)?);
    let dir = config.paths.log();
    let source = Source { disk: &SystemDisk, dir: &dir, keys: known.current(), checkpoint: &note };
    let stated = source.stated().map_err(|why| {
        let path = config.paths.public().join("checkpoint");
        Stop::Failed(Failure::failed(format!("CHY-LOG-UNSOUND: {}: {why}", path.display())))
    })?;
    let mut segments = recover::segments(&SystemDisk, &dir, None)?;
    let ends: Vec<u64> = segments.iter().skip(1).map(|next| next.header.first_leaf).collect();
    segments.truncate(ends.partition_point(|end| *end < stated.head.size));
    Ok(segments)
}

/// The newest checkpoint that the issuer published.
fn published(config: &Config) -> Result<Vec<u8>, Stop> {
    let path = config.paths.public().join("checkpoint");
    SystemDisk.read(&path, MAX_NOTE as u64).map_err(|error| {
        Stop::Failed(Failure::failed(format!(
            "CHY-LOG-IO: {}: {error}; the issuer publishes a checkpoint when it runs",
            path.display()
        )))
    })
}

pub(super) fn known(config: &Config) -> Result<Known, Stop> {
    Known::of(config).map_err(Stop::Failed)
}
