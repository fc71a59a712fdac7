//! What the issuer measured and counted, for monitoring: part of its health. Nothing secret, and nothing of devices.

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// What /metrics shows of the issuer beside what `Health` says for everyone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Roots and issuing CAs, as ceremonies made them.
    pub authorities: Vec<Authority>,
    /// Of each of them the CRL that needs a new one first.
    pub crls: Vec<CrlAge>,
    pub log: LogFigures,
    /// The token's state in one word: `starting`, `ready`, `recovering`, `stopped`, `degraded` or `halted`.
    pub token: String,
    /// Names of keys, and whether each signs.
    pub keys: Vec<(String, bool)>,
    /// Certificates by the days until they end.
    pub ending: Vec<Ending>,
    pub clock: ClockFigures,
    pub process: Process,
}

/// A root or an issuing CA.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Authority {
    /// As its key is called.
    pub name: String,
    pub is_root: bool,
    /// Whether new certificates depend on it: of an issuing CA that it issues, of a root that it is not retired.
    pub active: bool,
    pub not_after: Timestamp,
}

/// The CRLs of one issuer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CrlAge {
    pub issuer: String,
    pub is_root: bool,
    /// Of the one that was made first, and of the one that ends first; 0 while one is missing that must be there.
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    /// How many there are.
    pub count: u64,
}

/// The log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogFigures {
    /// Octets of durable frames, and the files they lie in.
    pub octets: u64,
    pub segments: u64,
    /// Whether revocations and CRLs have room of their own on a full disk.
    pub reserve: bool,
    /// What making records durable took.
    pub syncs: Spread,
    /// When the newest checkpoint was signed, or later; 0 while it does not cover the log's last start.
    pub checkpointed: Timestamp,
    /// Octets of the index.
    pub index: u64,
    /// Octets free on the log's disk.
    pub free: Option<u64>,
}

/// How long something took: counts by duration as `env::spread` has them, and the sum.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    pub counts: Vec<u64>,
    pub micros: u64,
}

/// Certificates that end within so many days, today's included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ending {
    pub days: u32,
    pub certificates: u64,
}

/// What the issuer makes of the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClockFigures {
    pub now: Timestamp,
    /// Below this nothing is signed.
    pub floor: Timestamp,
    pub believed: bool,
}

/// What a process uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// Octets of memory.
    pub resident: u64,
    /// Processor time in hundredths of a second.
    pub cpu_centiseconds: u64,
    pub threads: u64,
    /// Open file descriptors, and how many there may be.
    pub files: u64,
    pub most_files: u64,
}
