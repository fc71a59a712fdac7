//! Which names this CA certifies at all, and the name constraints that say so in its own certificate.

mod network;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::constraint::NameConstraints;
use super::name::{DnsName, Identifier};
use super::profile::Profile;

pub use network::Network;

/// The `[policy]` table. A name is allowed if some allowed entry covers it and no denied one does.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// DNS suffixes; a name equal to one or below it is covered.
    pub allow_names: Vec<String>,
    /// CIDR networks.
    pub allow_networks: Vec<String>,
    /// DNS suffixes that are refused although an allowed one covers them.
    pub deny_names: Vec<String>,
    /// CIDR networks that are refused although an allowed one covers them.
    pub deny_networks: Vec<String>,
    /// Whether `*.x` may be asked for.
    pub wildcards: bool,
    /// Whether proof of a name by DNS counts for the names below it (RFC 9444).
    pub subdomains: bool,
}

/// The policy, parsed.
#[derive(Clone, Debug)]
pub struct Policy {
    allow_names: Vec<DnsName>,
    allow_networks: Vec<Network>,
    deny_names: Vec<DnsName>,
    deny_networks: Vec<Network>,
    wildcards: bool,
    subdomains: bool,
}

/// Why a name is refused; `Display` names the identifier and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No allowed entry covers it.
    NotAllowed(Identifier),
    /// This denied entry covers it, or a name that the wildcard would match.
    Denied(Identifier, String),
    /// Wildcards are not issued.
    Wildcard(Identifier),
}

/// A settings entry that does not parse: which list, which entry, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// The key in `[policy]`.
    pub list: &'static str,
    /// The entry as written.
    pub entry: String,
    /// What is wrong with it.
    pub why: String,
}

impl Default for Settings {
    /// What a LAN has: `lan`, `internal`, `home.arpa`, `local`, `test`; RFC 1918 and fc00::/7.
    /// No wildcards: one certificate for a whole LAN is what this CA exists to make needless.
    fn default() -> Self {
        let own = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect();
        Self {
            allow_names: own(&["lan", "internal", "home.arpa", "local", "test"]),
            allow_networks: own(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]),
            deny_names: Vec::new(),
            deny_networks: Vec::new(),
            wildcards: false,
            subdomains: false,
        }
    }
}

impl Policy {
    /// Parses every entry; the first bad one is the error.
    pub fn new(settings: &Settings) -> Result<Self, BadEntry> {
        Ok(Self {
            allow_names: names("allow-names", &settings.allow_names)?,
            allow_networks: networks("allow-networks", &settings.allow_networks)?,
            deny_names: names("deny-names", &settings.deny_names)?,
            deny_networks: networks("deny-networks", &settings.deny_networks)?,
            wildcards: settings.wildcards,
            subdomains: settings.subdomains,
        })
    }

    /// Whether proof of a name counts for the names below it (RFC 9444).
    pub fn subdomains(&self) -> bool {
        self.subdomains
    }

    /// Whether a certificate may name `identifier`.
    pub fn permits(&self, identifier: &Identifier) -> Result<(), Refusal> {
        match identifier {
            Identifier::Dns(name) => self.permits_name(name, identifier),
            Identifier::Ip(address) => {
                let covers = |network: &&Network| network.contains(*address);
                if let Some(denied) = self.deny_networks.iter().find(covers) {
                    return Err(Refusal::Denied(identifier.clone(), denied.to_string()));
                }
                if !self.allow_networks.iter().any(|network| network.contains(*address)) {
                    return Err(Refusal::NotAllowed(identifier.clone()));
                }
                Ok(())
            }
        }
    }

    /// Whether a profile's own suffixes and networks lie within what is allowed; the text names the key.
    pub fn check_profile(&self, profile: &Profile) -> Result<(), String> {
        let outside =
            |name: &&DnsName| !self.allow_names.iter().any(|allowed| name.is_within(allowed));
        if let Some(name) = profile.allow_names.iter().find(outside) {
            return Err(format!("allow-names: `{name}` is not within [policy] allow-names"));
        }
        let outside = |network: &&Network| !self.allow_networks.iter().any(|a| a.covers(network));
        if let Some(network) = profile.allow_networks.iter().find(outside) {
            return Err(format!(
                "allow-networks: `{network}` is not within [policy] allow-networks"
            ));
        }
        Ok(())
    }

    /// The name tree that an identifier belongs to: the allowed entry that covers it, with `labels` labels below
    /// it. `None` for an address, and for a name that is not covered.
    pub fn tree(&self, identifier: &Identifier, labels: usize) -> Option<String> {
        let Identifier::Dns(name) = identifier else {
            return None;
        };
        let covering = self.allow_names.iter().filter(|suffix| name.is_within(suffix));
        let suffix = covering.max_by_key(|suffix| suffix.as_str().len())?;
        let base = name.base();
        let below = base.len().checked_sub(suffix.as_str().len())?;
        // Each label below the entry ends with a dot.
        let dots: Vec<usize> = base[..below].match_indices('.').map(|(at, _)| at).collect();
        let start = match dots.len().checked_sub(labels + 1) {
            Some(index) => dots.get(index)? + 1,
            None => 0,
        };
        Some(base[start..].to_owned())
    }

    /// Fails naming the first allowed entry that the issuing certificate's name constraints do not
    /// wholly cover. A certificate without constraints covers everything.
    ///
    /// An excluded subtree inside an allowed entry is fine where a denied entry covers it.
    pub fn check_within(&self, issuing: &Certificate) -> Result<(), String> {
        issuing.name_constraints().map_or(Ok(()), |c| self.check_within_constraints(c))
    }

    fn check_within_constraints(&self, constraints: &NameConstraints) -> Result<(), String> {
        for name in &self.allow_names {
            if !constraints.permits_below(name) {
                return Err(format!(
                    "allow-names has `{name}`, which is not within a permitted subtree of the \
                     issuing certificate's name constraints"
                ));
            }
            if let Some(excluded) = constraints.excluded_below(name, &self.deny_names) {
                return Err(format!(
                    "allow-names has `{name}`, from which the issuing certificate's name \
                     constraints exclude `{excluded}`; deny-names does not"
                ));
            }
        }
        for network in &self.allow_networks {
            if !constraints.permits_network(network) {
                return Err(format!(
                    "allow-networks has `{network}`, which is not within a permitted subtree of \
                     the issuing certificate's name constraints"
                ));
            }
            if let Some(excluded) = constraints.excluded_within(network, &self.deny_networks) {
                return Err(format!(
                    "allow-networks has `{network}`, from which the issuing certificate's name \
                     constraints exclude `{excluded}`; deny-networks does not"
                ));
            }
        }
        Ok(())
    }

    fn permits_name(&self, name: &DnsName, identifier: &Identifier) -> Result<(), Refusal> {
        if name.is_wildcard() && !self.wildcards {
            return Err(Refusal::Wildcard(identifier.clone()));
        }
        // `*.x` stands for every name one label below x, so it must not reach over a denied one.
        let reaches = |denied: &DnsName| {
            name.is_wildcard()
                && denied.as_str().split_once('.').is_some_and(|(_, parent)| parent == name.base())
        };
        let denied =
            self.deny_names.iter().find(|denied| name.is_within(denied) || reaches(denied));
        if let Some(denied) = denied {
            return Err(Refusal::Denied(identifier.clone(), denied.to_string()));
        }
        if !self.allow_names.iter().any(|suffix| name.is_within(suffix)) {
            return Err(Refusal::NotAllowed(identifier.clone()));
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed(name) => {
                write!(f, "{name} is outside the names this CA issues certificates for")
            }
            Self::Denied(name, rule) => {
                write!(f, "{name} is refused: this CA issues no certificates for {rule}")
            }
            Self::Wildcard(name) => {
                write!(f, "{name} is refused: this CA issues no wildcard certificates")
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has `{}`: {}", self.list, self.entry, self.why)
    }
}

impl std::error::Error for BadEntry {}

fn names(list: &'static str, entries: &[String]) -> Result<Vec<DnsName>, BadEntry> {
    let parse = |entry: &String| {
        let bad = |why: String| BadEntry { list, entry: entry.clone(), why };
        let name = DnsName::parse(entry)
            .map_err(|e| bad(format!("{e}; write a suffix such as lan or home.arpa")))?;
        if name.is_wildcard() {
            return Err(bad(format!("write {}; names below it are covered", name.base())));
        }
        Ok(name)
    };
    entries.iter().map(parse).collect()
}

fn networks(list: &'static str, entries: &[String]) -> Result<Vec<Network>, BadEntry> {
    let parse = |entry: &String| {
        Network::parse(entry).ok_or_else(|| BadEntry {
            list,
            entry: entry.clone(),
            why: "not a network; write 192.168.0.0/16 or fd00::/8, host bits zero".to_owned(),
        })
    };
    entries.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
