//! Which names this CA certifies at all, and the name constraints that say so in its own certificate.

use super::certificate::Certificate;
use super::name::Identifier;
use serde::{Deserialize, Serialize};

/// The `[policy]` table. A name is allowed if some allowed entry covers it and no denied one does.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// DNS suffixes; a name equal to one or below it is covered.
    pub allow_names: Vec<String>,
    /// CIDR networks.
    pub allow_networks: Vec<String>,
    pub deny_names: Vec<String>,
    pub deny_networks: Vec<String>,
    /// Whether `*.x` may be asked for.
    pub wildcards: bool,
}

/// The policy, parsed.
#[derive(Clone, Debug)]
pub struct Policy {
    _private: (),
}

/// Why a name is refused; `Display` names the identifier and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotAllowed(Identifier),
    Denied(Identifier, String),
    Wildcard(Identifier),
}

/// A settings entry that does not parse: which list, which entry, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    pub list: &'static str,
    pub entry: String,
    pub why: String,
}

/// An IP network, CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    address: std::net::IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `a.b.c.d/n` or `x::/n`; host bits must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        todo!()
    }
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        todo!()
    }
}

impl Default for Settings {
    /// What a LAN has: `lan`, `internal`, `home.arpa`, `local`, `test`; RFC 1918 and fc00::/7.
    fn default() -> Self {
        todo!()
    }
}

impl Policy {
    pub fn new(settings: &Settings) -> Result<Self, BadEntry> {
        todo!()
    }
    pub fn permits(&self, identifier: &Identifier) -> Result<(), Refusal> {
        todo!()
    }
    /// Fails naming the first allowed entry that the issuing certificate's name constraints do not
    /// wholly cover. A certificate without constraints covers everything.
    pub fn check_within(&self, issuing: &Certificate) -> Result<(), String> {
        todo!()
    }
}
