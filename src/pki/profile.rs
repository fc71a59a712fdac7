//! Certificate profiles: what a leaf is allowed to be, from `firmware-config/profile/*.toml`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::key::KeyKind;

/// One profile, as written in its file. Unknown keys are refused by `config`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// The name clients ask for (draft-ietf-acme-profiles).
    pub name: String,
    /// One line for people, shown in the directory.
    pub description: String,
    /// Lifetime of a leaf in hours; notAfter is inclusive: notBefore + lifetime − 1 s.
    pub lifetime_hours: u32,
    /// How far notBefore lies in the past, in minutes, at most 60.
    pub backdate_minutes: u32,
    /// Purposes, each one of `server`, `client`, `code-signing`.
    pub usages: Vec<ExtendedUsage>,
    /// Key kinds accepted: `ec-p256`, `ec-p384`, `ec-p521`, `rsa-2048`, `rsa-3072`, `rsa-4096`, `ed25519`.
    pub keys: Vec<String>,
    /// At most this many identifiers in a certificate.
    pub max_names: usize,
    /// Whether the subject carries the first SAN that fits as CN; else the subject is empty and the SAN critical.
    pub common_name: bool,
}

/// An extended key usage purpose. Order is stored: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtendedUsage {
    Server,
    Client,
    CodeSigning,
}

impl Profile {
    /// The built-in default: `server`, 90 days, 60 minutes' backdating, every supported key kind.
    pub fn server() -> Self {
        todo!()
    }
    /// Whether a key of this kind may be certified.
    pub fn accepts(&self, kind: KeyKind) -> bool {
        todo!()
    }
    /// The lifetime.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.lifetime_hours) * 3600)
    }
}
