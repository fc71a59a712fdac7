//! IP networks in CIDR notation (RFC 4632, RFC 4291 section 2.3).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An IP network, CIDR. Serialized as its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `a.b.c.d/n` or `x::/n`; host bits must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        // `u8::from_str` would take a sign and leading zeros.
        if !prefix.bytes().all(|b| b.is_ascii_digit())
            || (prefix.len() > 1 && prefix.starts_with('0'))
        {
            return None;
        }
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    /// `None` if the prefix is longer than the address or a host bit is set.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let network = Self { address, prefix };
        (u32::from(prefix) <= bits(address) && network.masked(address) == value(address))
            .then_some(network)
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies within. An IPv4-mapped IPv6 address is judged as the IPv4 address
    /// it leads to, so that a mapped spelling escapes no denied network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == value(self.address)
    }

    /// Whether every address of `other` lies within.
    pub fn covers(&self, other: &Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.prefix <= other.prefix
            && self.masked(other.address) == value(self.address)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        let host_bits = bits(address).saturating_sub(u32::from(self.prefix));
        let value = value(address);
        // A shift by all 128 bits is no shift.
        value.checked_shr(host_bits).map_or(0, |kept| kept << host_bits)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("not a network in CIDR notation")
    }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn texts_that_are_no_network_are_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0/8",
            "fd00::/129",
            "fd00::1/64",
            "::/-1",
            "lan/8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn edges_are_inside_and_their_neighbours_are_not() {
        let contains = |net: &str, address: &str| network(net).contains(address.parse().unwrap());
        assert!(contains("172.16.0.0/12", "172.31.255.255"));
        assert!(!contains("172.16.0.0/12", "172.32.0.0"));
        assert!(!contains("172.16.0.0/12", "172.15.255.255"));
        assert!(contains("fc00::/7", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert!(!contains("fc00::/7", "fe00::"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(contains("::/0", "ffff::"));
        assert!(!contains("::/0", "1.2.3.4"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("10.0.0.1/32", "10.0.0.1"));
        assert!(!contains("10.0.0.1/32", "10.0.0.2"));
        assert!(contains("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(!contains("::/0", "::ffff:127.0.0.1"));
    }

    proptest! {
        #[test]
        fn a_network_covers_what_it_contains(
            octets: [u8; 16], four: bool, short in 0u8..=128, more in 0u8..=128, host: [u8; 16],
        ) {
            let width = if four { 32 } else { 128 };
            let (short, long) = (short % (width + 1), (short.saturating_add(more)) % (width + 1));
            let (short, long) = (short.min(long), short.max(long));
            let cut = |value: u128, prefix: u8| {
                let free = 128 - u32::from(prefix);
                value.checked_shr(free).map_or(0, |kept| kept << free)
            };
            let make = |value: u128| if four {
                IpAddr::from(std::net::Ipv4Addr::from_bits((value >> 96) as u32))
            } else {
                IpAddr::from(std::net::Ipv6Addr::from_bits(value))
            };
            let base = u128::from_be_bytes(octets);
            let outer = Network::new(make(cut(base, short)), short).unwrap();
            let inner = Network::new(make(cut(base, long)), long).unwrap();
            prop_assert!(outer.covers(&inner));
            prop_assert_eq!(inner.covers(&outer), short == long);
            prop_assert_eq!(Network::parse(&inner.to_string()), Some(inner));
            let noise = u128::from_be_bytes(host).checked_shl(u32::from(long)).map_or(0, |v| v >> long);
            let inside = make(cut(base, long) | noise);
            // A generated ::ffff:0:0/96 address is an IPv4 one to `contains`.
            if inside.to_canonical() == inside {
                prop_assert!(inner.contains(inside) && outer.contains(inside));
            }
        }
    }
}
