//! Builds each part once; owns start-up, reload and shutdown.

pub mod confine;
pub mod directories;
mod failure;
pub mod issuer;
pub mod logging;
mod notify;
pub mod pin;
mod signals;
pub mod supervisor;
pub mod web;

pub use failure::Failure;

use serde::{Deserialize, Serialize};

/// The `[process]` table: how the processes are run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// User that `serve`, started by root, runs the web process as. Unset: the user it was started by.
    pub web_user: Option<String>,
    /// User that `serve`, started by root, runs the issuer as.
    pub issuer_user: Option<String>,
    /// Lets the web process run on a kernel that cannot confine it. For labs only; refused in a production board.
    pub unconfined: bool,
}

/// What each of the two processes does first.
fn begin(name: &std::ffi::CStr) -> Result<(), Failure> {
    // For `ps` and the journal alone; nothing depends on it.
    let _ = rustix::thread::set_name(name);
    supervisor::die_with_supervisor()
}

/// Fails unless a ceremony has made this box a complete CA.
pub fn require_authority(
    config: &crate::config::Config,
) -> Result<&crate::pki::authority::Authority, Failure> {
    let Some(authority) = &config.authority else {
        return Err(Failure::operator(format!(
            "CHY-CA-ABSENT: there is no {}; no ceremony has been held here. Hold one: chancery ceremony run FILE",
            config.paths.authority().display()
        )));
    };
    if authority.issuing.is_none() {
        return Err(Failure::operator(
            "CHY-CA-INCOMPLETE: the issuing certificate was requested but not imported yet; import it with chancery \
             ceremony import FILE"
                .into(),
        ));
    }
    Ok(authority)
}
