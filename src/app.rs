//! Builds each part once; owns start-up, reload and shutdown.

pub mod attempts;
pub mod confine;
pub mod directories;
mod failure;
pub mod issuer;
pub mod logging;
mod notify;
pub mod ownership;
pub mod pin;
mod signals;
pub mod snapshot;
pub mod supervisor;
pub mod web;

pub use failure::Failure;

/// What each of the two processes does first.
fn begin(name: &std::ffi::CStr) -> Result<(), Failure> {
    // For `ps` and the journal alone; nothing depends on it.
    let _ = rustix::thread::set_name(name);
    supervisor::die_with_supervisor()
}

/// Fails where a ceremony has ended this CA, or is about to.
pub fn refuse_retired(config: &crate::config::Config) -> Result<(), Failure> {
    let ca = config.paths.ca();
    if ca.join("retired.json").exists() {
        return Err(Failure::operator(format!(
            "CHY-CA-RETIRED: {} says that this CA was retired; its keys are destroyed and it issues nothing any more",
            ca.join("retired.json").display()
        )));
    }
    if ca.join("retiring.json").exists() {
        return Err(Failure::operator(format!(
            "CHY-CA-RETIRING: {} says that the CA is being retired; finish it: chancery ceremony retire FILE",
            ca.join("retiring.json").display()
        )));
    }
    Ok(())
}

/// Fails while a restore is unfinished: what is there is not yet a box.
pub fn refuse_half_restored(config: &crate::config::Config) -> Result<(), Failure> {
    let restoring = config.paths.restoring();
    if restoring.exists() {
        return Err(Failure::operator(format!(
            "CHY-RESTORE-UNFINISHED: {} is there: a restore was stopped midway. Run `chancery restore` again with the same archives: it goes on",
            restoring.display()
        )));
    }
    Ok(())
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
