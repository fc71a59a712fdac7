//! `chancery log rebuild-index`: everything that follows from the log, made anew.

use std::io::Write;
use std::sync::Arc;

use super::{Stop, read_tbs};
use crate::app::directories;
use crate::cli::ceremony::heir;
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::env::system::SystemDisk;
use crate::log::index::{self, Published};
use crate::tlog::tile::DIRECTORY;

/// The issuer must be stopped: the lock says so.
pub(super) fn run(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let progress = Progress::new("read");
    let mut step = |p| progress.step(p);
    let public = config.paths.public();
    let published = Published { public: &public, entries: config.log.entries };
    let rebuilt = index::rebuild(
        Arc::new(SystemDisk),
        &config.paths.log(),
        read_tbs,
        Some(published),
        &mut step,
    );
    progress.end();
    let rebuilt = rebuilt?;
    // What root made is the issuer's to use.
    if let Some(owner) = heir(config).map_err(Stop::Failed)? {
        for path in [config.paths.log(), public.join(DIRECTORY)] {
            directories::hand_over(&path, owner).map_err(Stop::Failed)?;
        }
    }
    if json {
        let value = serde_json::json!({"records": rebuilt.records, "octets": rebuilt.octets});
        writeln!(out, "{value:#}")?;
    } else {
        writeln!(
            out,
            "the index of {} records has {} octets; the tiles are written anew. Start the issuer again",
            rebuilt.records, rebuilt.octets
        )?;
    }
    Ok(())
}
