//! What a ticket is good for: the profile and the names of the accounts that register with it.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::acme::json;
use crate::pki::name::{DnsName, Identifier};
use crate::pki::policy::Network;

/// An account of the ticket may have these names and no others; where none is listed, what the policy allows.
/// Its stored form is its JSON, members in this order: the log holds that by digest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// The one profile its accounts get; `None`: any.
    pub profile: Option<String>,
    /// Exact names, never wildcards.
    pub names: Vec<DnsName>,
    /// A name equal to one of these or below it.
    pub suffixes: Vec<DnsName>,
    pub networks: Vec<Network>,
    /// Whether all of these are bound to the ticket: no other account can have them.
    pub exclusive: bool,
}

/// A constraint that makes no sense; `Display` is for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadConstraint(pub String);

impl Constraints {
    /// Names, suffixes and networks of one ticket at most.
    pub const MAX: usize = 100;

    /// Parses what an operator wrote. An address among `names` is the network of it alone.
    pub fn parse<'a>(
        names: impl IntoIterator<Item = &'a str>,
        suffixes: impl IntoIterator<Item = &'a str>,
        networks: impl IntoIterator<Item = &'a str>,
        profile: Option<&str>,
        shared: bool,
    ) -> Result<Self, BadConstraint> {
        let mut made = Self { profile: profile.map(str::to_owned), ..Self::default() };
        for text in names {
            match text.parse::<IpAddr>() {
                Ok(address) => made.networks.extend(host(address)),
                Err(_) => made.names.push(plain(text)?),
            }
        }
        for text in suffixes {
            made.suffixes.push(plain(text)?);
        }
        for text in networks {
            made.networks.push(Network::parse(text).ok_or_else(|| {
                BadConstraint(format!(
                    "{text:?} is not a network; write 192.168.0.0/16 or fd00::/8, host bits zero"
                ))
            })?);
        }
        made.exclusive = !shared && made.limits_names();
        if made.names.len() + made.suffixes.len() + made.networks.len() > Self::MAX {
            return Err(BadConstraint(format!(
                "more than {} names, suffixes and networks",
                Self::MAX
            )));
        }
        Ok(made)
    }

    /// Whether it says anything about names.
    pub fn limits_names(&self) -> bool {
        !(self.names.is_empty() && self.suffixes.is_empty() && self.networks.is_empty())
    }

    /// Whether an account of the ticket may have this name, as far as the ticket says. A wildcard needs a suffix.
    pub fn permits(&self, identifier: &Identifier) -> bool {
        if !self.limits_names() {
            return true;
        }
        match identifier {
            Identifier::Dns(name) => {
                self.names.contains(name) || self.suffixes.iter().any(|s| name.is_within(s))
            }
            Identifier::Ip(address) => self.networks.iter().any(|n| n.contains(*address)),
        }
    }

    /// SHA-256 over its stored form.
    pub fn sha256(&self) -> [u8; 32] {
        let mut sum = [0; 32];
        let text = json::text(self);
        sum.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        sum
    }
}

impl fmt::Display for Constraints {
    /// For a table: `profile names .suffixes networks`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.profile.iter().map(|p| format!("profile={p}")).collect();
        parts.extend(self.names.iter().map(DnsName::to_string));
        parts.extend(self.suffixes.iter().map(|suffix| format!(".{suffix}")));
        parts.extend(self.networks.iter().map(Network::to_string));
        if self.limits_names() && !self.exclusive {
            parts.push("(shared)".into());
        }
        if parts.is_empty() {
            parts.push("any name".into());
        }
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for BadConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadConstraint {}

/// The network of one address.
pub(super) fn host(address: IpAddr) -> Option<Network> {
    Network::new(address, if address.is_ipv4() { 32 } else { 128 })
}

fn plain(text: &str) -> Result<DnsName, BadConstraint> {
    let name =
        DnsName::parse(text).map_err(|why| BadConstraint(format!("{text:?} is no name: {why}")))?;
    if name.is_wildcard() {
        return Err(BadConstraint(format!(
            "{text:?}: a ticket is bound to names and suffixes; below the suffix {} wildcards are allowed where the \
             policy allows them",
            name.base()
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Identifier {
        Identifier::parse("dns", name).unwrap()
    }

    #[test]
    fn what_a_ticket_permits() {
        let none: [&str; 0] = [];
        let bound =
            Constraints::parse(["a.lan", "10.0.0.7"], ["line1.lan"], ["10.2.0.0/16"], None, false)
                .unwrap();
        assert!(bound.exclusive);
        for (name, permitted) in [
            ("a.lan", true),
            ("b.lan", false),
            ("x.a.lan", false),
            ("line1.lan", true),
            ("cam.line1.lan", true),
            ("*.line1.lan", true),
            ("xline1.lan", false),
            ("*.lan", false),
        ] {
            assert_eq!(bound.permits(&dns(name)), permitted, "{name}");
        }
        for (address, permitted) in [("10.0.0.7", true), ("10.0.0.8", false), ("10.2.9.9", true)] {
            assert_eq!(bound.permits(&Identifier::parse("ip", address).unwrap()), permitted);
        }
        let free = Constraints::parse(none, none, none, Some("device"), false).unwrap();
        assert!(!free.exclusive && free.permits(&dns("b.lan")));
        let shared = Constraints::parse(["a.lan"], none, none, None, true).unwrap();
        assert!(!shared.exclusive);
        assert_eq!(
            (shared.to_string(), free.to_string()),
            ("a.lan (shared)".into(), "profile=device".into())
        );
        assert_eq!(Constraints::default().to_string(), "any name");
        for (names, networks) in
            [(["*.lan"], none.as_slice()), (["a b"], &[]), (["a"], &["10.0.0.1/8"])]
        {
            assert!(
                Constraints::parse(names, none, networks.iter().copied(), None, false).is_err()
            );
        }
        let many: Vec<String> = (0..101).map(|n| format!("d{n}.lan")).collect();
        let many = many.iter().map(String::as_str);
        assert!(Constraints::parse(many, none, none, None, false).is_err());
    }

    /// The log holds this digest for ever.
    #[test]
    fn golden_stored_form() {
        let bound =
            Constraints::parse(["a.lan"], ["l.lan"], ["10.2.0.0/16"], Some("device"), false)
                .unwrap();
        let text = r#"{"profile":"device","names":["a.lan"],"suffixes":["l.lan"],"networks":["10.2.0.0/16"],"exclusive":true}"#;
        assert_eq!(json::text(&bound), text);
        assert_eq!(serde_json::from_str::<Constraints>(text).unwrap(), bound);
        let sum = digest::digest(&digest::SHA256, text.as_bytes());
        assert_eq!(bound.sha256().as_slice(), sum.as_ref());
        assert_eq!(bound.to_string(), "profile=device a.lan .l.lan 10.2.0.0/16");
    }
}
