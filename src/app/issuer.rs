//! The issuer process: its parts, built once.

use super::Failure;
use crate::config::Config;

/// Runs until SIGTERM.
pub fn run(_config: Config) -> Result<(), Failure> {
    Err(Failure::failed("CHY-INTERNAL: the issuer is not wired yet".into()))
}
