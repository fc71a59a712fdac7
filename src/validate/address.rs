//! Which addresses may be dialled: the SSRF rules.
//!
//! A client decides what its name resolves to and where its server redirects, so every address is
//! judged here right before it is dialled.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::settings::{BadSetting, Settings};
use crate::pki::policy::Network;

/// The rules, parsed.
#[derive(Clone, Debug)]
pub struct Rules {
    allow: Vec<Network>,
    deny: Vec<Network>,
    never: Vec<Network>,
    allow_loopback: bool,
}

/// Why an address is not dialled. For the operator's log; clients are told only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Not in `allow-networks`.
    NotAllowed,
    /// In this network of `deny-networks`.
    Denied(Network),
    /// In a network that is never dialled.
    Never(Network),
    /// Loopback, without `allow-loopback`.
    Loopback,
}

impl Rules {
    /// Parses the networks; the error names list and entry.
    pub fn new(settings: &Settings) -> Result<Self, BadSetting> {
        let parse = |key: &'static str, entries: &[String]| {
            let network = |entry: &String| {
                Network::parse(entry).ok_or_else(|| BadSetting {
                    key,
                    why: format!(
                        "has `{entry}`, which is no network; write 192.168.0.0/16 or fd00::/8, \
                         host bits zero"
                    ),
                })
            };
            entries.iter().map(network).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            allow: parse("allow-networks", &settings.allow_networks)?,
            deny: parse("deny-networks", &settings.deny_networks)?,
            never: NEVER.iter().filter_map(|text| Network::parse(text)).collect(),
            allow_loopback: settings.allow_loopback,
        })
    }

    /// Whether `address` may be dialled. `deny-networks` goes before everything.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        let within = |networks: &[Network]| {
            networks.iter().find(|network| contains(network, address)).copied()
        };
        if let Some(network) = within(&self.deny) {
            return Err(Forbidden::Denied(network));
        }
        if is_loopback(address) {
            return if self.allow_loopback { Ok(()) } else { Err(Forbidden::Loopback) };
        }
        if let Some(network) = within(&self.never) {
            return Err(Forbidden::Never(network));
        }
        if within(&self.allow).is_none() {
            return Err(Forbidden::NotAllowed);
        }
        Ok(())
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("not in [validation] allow-networks"),
            Self::Denied(network) => write!(f, "in {network} of [validation] deny-networks"),
            Self::Never(network) => write!(f, "in {network}, which is never dialled"),
            Self::Loopback => f.write_str("loopback, without [validation] allow-loopback"),
        }
    }
}

impl std::error::Error for Forbidden {}

/// As an IPv6 address and, where it wraps an IPv4 one, as that too: a network written either way
/// covers it. `Network::contains` looks through IPv4-mapped addresses only.
fn contains(network: &Network, address: IpAddr) -> bool {
    let literally = match (network.address(), address) {
        (IpAddr::V6(base), IpAddr::V6(v6)) => {
            let host_bits = 128 - u32::from(network.prefix());
            let kept = |v6: Ipv6Addr| v6.to_bits().checked_shr(host_bits).unwrap_or(0);
            kept(base) == kept(v6)
        }
        _ => false,
    };
    literally || network.contains(address)
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        // Not the mapped ::ffff:127.0.0.1: that is in a network which is never dialled.
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST,
    }
}

/// The address of this process's own machine under another name, of nobody, of everybody, of the
/// link, or one that leads through a gateway to an IPv4 address nobody judged.
const NEVER: &[&str] = &[
    // "This network", and 0.0.0.0, which Linux connects to itself (RFC 1122 section 3.2.1.3).
    "0.0.0.0/8",
    // Link-local, with the metadata service of most clouds (RFC 3927).
    "169.254.0.0/16",
    // Multicast, and reserved with the limited broadcast (RFC 5771, RFC 1112 section 4).
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Metadata services of Azure, Oracle and Alibaba outside link-local.
    "168.63.129.16/32",
    "192.0.0.192/32",
    "100.100.100.200/32",
    // Unspecified, and IPv4-compatible (RFC 4291 section 2.5.5.1); ::1 is judged before.
    "::/96",
    // IPv4-mapped, IPv4-translated (RFC 2765), IPv4/IPv6 translation (RFC 6052, RFC 8215), Teredo, 6to4.
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2001::/32",
    "2002::/16",
    // Link-local, the site-local of old, multicast (RFC 4291, RFC 3879).
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    // Metadata services of AWS and Google within unique local addresses.
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use proptest::prelude::*;

    fn rules(change: impl FnOnce(&mut Settings)) -> Rules {
        let mut settings = Settings::default();
        change(&mut settings);
        Rules::new(&settings).unwrap()
    }

    fn wide_open() -> Rules {
        rules(|s| s.allow_networks = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_network_of_the_list_parses() {
        assert_eq!(wide_open().never.len(), NEVER.len());
    }

    #[test]
    fn the_default_allows_private_addresses_alone() {
        let rules = rules(|_| ());
        for address in ["10.0.0.1", "172.31.255.255", "192.168.1.1", "fd12::1"] {
            assert_eq!(rules.check(ip(address)), Ok(()), "{address}");
        }
        for address in ["8.8.8.8", "100.64.0.1", "2001:db8::1", "172.32.0.1"] {
            assert_eq!(rules.check(ip(address)), Err(Forbidden::NotAllowed), "{address}");
        }
    }

    #[test]
    fn allowing_everything_does_not_allow_what_is_never_dialled() {
        let rules = wide_open();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:7f00:1",
            "192.0.0.192",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001:0:1::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert!(matches!(rules.check(ip(address)), Err(Forbidden::Never(_))), "{address}");
        }
        for loopback in ["127.0.0.1", "127.255.255.254", "::1"] {
            assert_eq!(rules.check(ip(loopback)), Err(Forbidden::Loopback), "{loopback}");
        }
        assert_eq!(rules.check(ip("8.8.8.8")), Ok(()));
    }

    #[test]
    fn loopback_is_allowed_when_told_and_only_itself() {
        let rules = rules(|s| s.allow_loopback = true);
        assert_eq!(rules.check(ip("127.0.0.1")), Ok(()));
        assert_eq!(rules.check(ip("::1")), Ok(()));
        assert!(rules.check(ip("::ffff:127.0.0.1")).is_err());
        assert!(rules.check(ip("0.0.0.0")).is_err());
        assert!(rules.check(ip("169.254.1.1")).is_err());
    }

    #[test]
    fn what_is_denied_goes_before_what_is_allowed() {
        let rules = rules(|s| {
            s.deny_networks = vec!["10.0.9.0/24".to_owned(), "127.0.0.53/32".to_owned()];
            s.allow_loopback = true;
        });
        let denied = Network::parse("10.0.9.0/24").unwrap();
        assert_eq!(rules.check(ip("10.0.9.1")), Err(Forbidden::Denied(denied)));
        assert_eq!(rules.check(ip("10.0.8.1")), Ok(()));
        assert!(rules.check(ip("127.0.0.53")).is_err());
        assert_eq!(rules.check(ip("127.0.0.1")), Ok(()));
    }

    #[test]
    fn a_bad_entry_is_named_with_its_list() {
        let bad = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Rules::new(&settings).unwrap_err()
        };
        let BadSetting { key, why } = bad(|s| s.allow_networks = vec!["10.0.0.1/8".to_owned()]);
        assert!(key == "allow-networks" && why.contains("10.0.0.1/8"), "{why}");
        let BadSetting { key, why } = bad(|s| s.deny_networks = vec!["lan".to_owned()]);
        assert!(key == "deny-networks" && why.contains("lan"), "{why}");
    }

    proptest! {
        /// The standard library's own opinion of addresses, as a second author.
        #[test]
        fn no_special_address_is_ever_allowed(octets: [u8; 16], four: bool, low: bool) {
            let address = if four {
                IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
            } else if low {
                // Few random sixteen octets are special: begin with zeros.
                let mut short = [0; 16];
                short[10..].copy_from_slice(&octets[10..]);
                IpAddr::from(short)
            } else {
                IpAddr::from(octets)
            };
            let special = match address {
                IpAddr::V4(v4) => {
                    v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                        || v4.is_broadcast() || v4.is_unspecified()
                }
                IpAddr::V6(v6) => {
                    v6.is_loopback() || v6.is_multicast() || v6.is_unspecified()
                        || v6.is_unicast_link_local() || v6.to_ipv4().is_some()
                }
            };
            if special {
                prop_assert!(wide_open().check(address).is_err());
            }
        }
    }
}
