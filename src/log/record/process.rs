//! The issuer as a process: its starts, its configuration, what it refused.

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, Timestamp};

/// Refusals between two instants, aggregated: whoever asks without end cannot fill the disk with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The first refusal that is counted.
    pub from: Timestamp,
    /// The end of the interval.
    pub until: Timestamp,
    /// A row for each kind of refusal.
    pub refusals: Vec<RefusalV1>,
}

/// How often something was refused to somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusalV1 {
    /// The question's name, such as `finalize`; `socket` where the rules of the socket itself were broken.
    pub asked: String,
    /// The type of the problem document, such as `unauthorized`, or what was broken.
    pub why: String,
    /// Who signed what was asked; `None` where no registered account did.
    pub account: Option<AccountId>,
    /// How often.
    pub count: u64,
}

/// A start of the issuer. Quick restarts share one record, so that a crash loop cannot fill the disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The program's version.
    pub version: String,
    /// When the program was built.
    pub built: Timestamp,
    /// SHA-256 over the program's file, where it could be read.
    pub program_sha256: Option<[u8; 32]>,
    /// The configuration in force, as the newest `ConfigChangedV1` states it.
    pub config_sha256: [u8; 32],
    /// `None` if no token had answered yet.
    pub token: Option<TokenV1>,
    /// How the process before it ended.
    pub previous: PreviousEnd,
    /// Starts since the last such record, this one included.
    pub starts: u32,
    /// Records that this start found in the log.
    pub found: u64,
    /// Whether behind them there were the remains of an unfinished write, which this start cut.
    pub torn: bool,
}

/// Token and PKCS#11 module, as they name themselves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenV1 {
    /// The token's label.
    pub label: String,
    /// The token's manufacturer.
    pub manufacturer: String,
    /// The token's model.
    pub model: String,
    /// The token's serial number.
    pub serial: String,
    /// The token's firmware version.
    pub firmware: String,
    /// The module's description.
    pub module: String,
    /// The module's version.
    pub module_version: String,
}

/// How the issuer process before this one ended. Order is stored: append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PreviousEnd {
    /// There was none, or nothing is left that would say.
    Unknown,
    /// It was asked to, and finished what it did.
    Clean,
    /// It was killed, gave up, or lost its power.
    Unclean,
}

/// Digests only: what the settings are stays in the configuration, which has no secret either.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigChangedV1 {
    /// When this was recorded.
    pub at: Timestamp,
    /// The digest in force before; `None` the first time, or where the issuer's memory of it is lost.
    pub former: Option<[u8; 32]>,
    /// As `chancery config show` prints it.
    pub sha256: [u8; 32],
    /// Every table of the configuration and every profile.
    pub parts: Vec<ConfigPartV1>,
    /// The keys whose value is another, at most 64; `None` where what they were is not known.
    pub changed: Option<Vec<String>>,
    /// How many more there are.
    pub unlisted: u32,
}

/// One table of the configuration, such as `policy` or `profiles.device`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigPartV1 {
    /// The table's name; of a profile, `profiles.` and its name.
    pub name: String,
    /// SHA-256 over its JSON: keys sorted, no white space.
    pub sha256: [u8; 32],
}
