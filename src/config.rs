//! The only reader of TOML: `firmware-config/*.toml` by `inherit`, unknown keys refused with line and
//! nearest name. Rooms declare their `Settings`; this room imports and fills them.
//!
//! No secret is ever read here: a configuration that holds one is refused. What a value may be is said in `keys.md`, of
//! which `firmware-config/README.md` is made; a test holds that page and the `Settings` together.

mod decode;
mod effective;
mod judge;
pub mod keys;
mod nearest;
mod origin;
pub mod process;
mod tree;

use std::path::{Path, PathBuf};

use crate::pki::authority::Authority;
use crate::pki::profile::Profile;
use crate::state::Written;

pub use nearest::nearest;
pub use origin::Origins;

/// Everything the box is told, checked as far as it can be without a token.
#[derive(Clone, Debug)]
pub struct Config {
    pub paths: Paths,
    pub pin: PinSource,
    pub web: crate::web::Settings,
    pub issuer: crate::issuer::Settings,
    pub log: crate::log::Settings,
    pub backup: crate::backup::Settings,
    pub token: crate::hsm::pool::Settings,
    pub process: process::Settings,
    pub validation: crate::validate::Settings,
    pub policy: crate::pki::policy::Settings,
    pub profiles: Vec<Profile>,
    /// Profile used when an order names none.
    pub default_profile: String,
    /// What the ceremony fixed; `None` before the first ceremony.
    pub authority: Option<Authority>,
    /// In which format the state is written.
    pub written: Written,
    /// Every file that was read, in order.
    pub files: Vec<PathBuf>,
    /// Whether this is a production board: lab and dev fragments are refused in it.
    pub production: bool,
    /// SHA-256 over the effective configuration: both processes must have read the same.
    pub digest: [u8; 32],
}

/// Where things are; all below the state directory unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub state: PathBuf,
}

impl Paths {
    /// Cross-certificates that the operator put there, in PEM.
    pub fn cross(&self) -> PathBuf {
        self.ca().join("cross")
    }
    /// What the ceremony fixed, read by both processes.
    pub fn authority(&self) -> PathBuf {
        self.ca().join("authority.json")
    }
    /// The root's CRL, as ceremonies leave it.
    pub fn root_crl(&self) -> PathBuf {
        self.ca().join("root.crl")
    }
    /// What the ceremony fixed: `authority.json`, transcripts. Readable by both processes.
    pub fn ca(&self) -> PathBuf {
        self.state.join("ca")
    }
    /// The issuer's alone: log, index, refused PIN.
    pub fn issuer(&self) -> PathBuf {
        self.state.join("issuer")
    }
    pub fn log(&self) -> PathBuf {
        self.issuer().join("log")
    }
    /// The web process's alone: `store.redb`.
    pub fn web(&self) -> PathBuf {
        self.state.join("web")
    }
    /// The issuer's directory for its operator: socket and key, mode 0700.
    pub fn admin(&self) -> PathBuf {
        self.issuer().join("admin")
    }
    /// Where the operator's tools ask.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin().join("socket")
    }
    /// What opens that socket; new at every start of the issuer.
    pub fn admin_key(&self) -> PathBuf {
        self.admin().join("key")
    }
    /// Written by the issuer, read by the web process and by anyone.
    pub fn public(&self) -> PathBuf {
        self.state.join("public")
    }
    /// What a restore has not finished: while it is there, nothing starts.
    pub fn restoring(&self) -> PathBuf {
        self.state.join("restoring")
    }
    /// The socket between the two.
    pub fn socket(&self) -> PathBuf {
        self.state.join("run/issuer.sock")
    }
}

/// Where the issuer, and only the issuer, gets the PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// A file, mode 0600 or stricter.
    File(PathBuf),
    /// A systemd credential of this name below $CREDENTIALS_DIRECTORY.
    Credential(String),
    /// Asked for on the terminal at start.
    Prompt,
}

/// What is wrong with the configuration; begins with its code, names file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Reads a configuration file with all it inherits, the token, the profiles, and `ca/authority.json` if it is
/// there, and checks all of it against each other.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    effective::load(file)
}

/// Any other TOML file of the box (a key, a ceremony): `inherit` honoured, unknown keys refused with line and
/// nearest name, secrets refused.
pub fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let reading = tree::read(file)?;
    effective::refuse_secrets(&reading.root)?;
    decode::decode(&reading.root)
}

/// A certificate profile's file, checked.
pub fn read_profile(file: &Path) -> Result<Profile, ConfigError> {
    effective::read_profile(file)
}

/// Checks a configuration file or a fragment of one: what is there must be right, and `Ok(true)` says that
/// nothing is missing either.
pub fn check(file: &Path) -> Result<bool, ConfigError> {
    effective::check(file)
}

/// One text as a whole configuration, as far as it can be judged without touching a file: for fuzzing.
pub fn parse_str(text: &str) -> Result<(), ConfigError> {
    effective::judge(text)
}

impl Config {
    /// The effective settings as TOML, for people.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(&effective::Effective::of(self)).map_err(|error| {
            ConfigError(format!("CHY-INTERNAL: the configuration cannot be written: {error}"))
        })
    }

    /// The effective settings as JSON.
    pub fn to_json(&self) -> Result<serde_json::Value, ConfigError> {
        serde_json::to_value(effective::Effective::of(self)).map_err(|error| {
            ConfigError(format!("CHY-INTERNAL: the configuration cannot be written: {error}"))
        })
    }
}

#[cfg(test)]
mod tests;
