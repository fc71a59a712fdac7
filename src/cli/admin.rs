//! The running issuer as the operator's subcommands reach it.

use rustix::process::geteuid;

use super::Failure;
use crate::app::directories;
use crate::config::Config;
use crate::ipc::admin::client::{AdminError, Client};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};

/// A connection to the issuer's admin socket.
pub(super) struct Issuer {
    client: Client,
}

impl Issuer {
    /// Fails with what to do: start it, or be another user.
    pub(super) fn connect(config: &Config) -> Result<Self, Failure> {
        let uids = match &config.process.issuer_user {
            Some(user) => vec![directories::owner(user)?.uid],
            // Root may ask an issuer that another user started.
            None if geteuid().is_root() => vec![0, owner_of(config)],
            None => vec![geteuid().as_raw()],
        };
        let paths = &config.paths;
        let client =
            Client::connect(&paths.admin_socket(), &paths.admin_key(), &uids).map_err(failure)?;
        Ok(Self { client })
    }

    pub(super) fn ask(&mut self, question: &AdminQuestion) -> Result<AdminAnswer, Failure> {
        self.client.ask(question).map_err(failure)
    }
}

/// An answer of another kind than was asked for.
pub(super) fn unexpected() -> Failure {
    Failure::failed("CHY-INTERNAL: the issuer answered something else; please report it".into())
}

/// Whose directory the issuer's is.
fn owner_of(config: &Config) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(config.paths.issuer()).map_or(0, |metadata| metadata.uid())
}

fn failure(error: AdminError) -> Failure {
    match error {
        AdminError::Retry(text) => Failure::retry(text),
        AdminError::Refused(text) => Failure::failed(text),
    }
}
