//! Name constraints (RFC 5280 section 4.2.1.10): written here, read back by x509-cert, and asked
//! whether they let a name, a suffix or a network through.
//!
//! Each form of name is constrained apart: a list that speaks of dNSName alone leaves addresses,
//! mailboxes and URIs free. `NameConstraints::closing` leaves no form free:
//!
//! - dNSName and iPAddress (v4 and v6) without a permitted entry are excluded by the entry that
//!   covers everything: the empty name, `0.0.0.0/0`, `::/0`.
//! - rfc822Name and URI have no such entry that every verifier reads alike (OpenSSL takes the empty
//!   string for "no host", Go for "every host"). So one name is permitted, which closes the form for
//!   all others, and the same name is excluded. Whatever a verifier thinks a base matches, nothing
//!   passes both.
//!
//! directoryName stays free: leaf subjects are empty or repeat a dNSName, the lints see to that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use der::Decode;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use super::name::{DnsName, Identifier};
use super::tlv;

/// A base that names nothing: RFC 2606 keeps `invalid` empty.
const NOWHERE: &str = "none.invalid";

/// Permitted and excluded subtrees.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NameConstraints {
    pub permitted: Subtrees,
    pub excluded: Subtrees,
}

/// Subtrees of one side, by form, in the order they were written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subtrees {
    /// dNSName bases as written; the empty one covers every name.
    pub names: Vec<String>,
    /// iPAddress networks: address and prefix length.
    pub networks: Vec<(IpAddr, u8)>,
    /// rfc822Name bases.
    pub mailboxes: Vec<String>,
    /// URI bases: hosts.
    pub uris: Vec<String>,
    /// How many subtrees are of a form this CA neither issues nor writes.
    pub other: usize,
}

impl NameConstraints {
    /// Permits these and leaves no other name of any form a certificate of ours could carry.
    pub fn closing(names: Vec<String>, networks: Vec<(IpAddr, u8)>) -> Self {
        let mut excluded = Subtrees::default();
        if names.is_empty() {
            excluded.names.push(String::new());
        }
        for everything in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            if !networks.iter().any(|(network, _)| network.is_ipv4() == everything.is_ipv4()) {
                excluded.networks.push((everything, 0));
            }
        }
        excluded.mailboxes.push(NOWHERE.to_owned());
        excluded.uris.push(NOWHERE.to_owned());
        let permitted = Subtrees {
            names,
            networks,
            mailboxes: vec![NOWHERE.to_owned()],
            uris: vec![NOWHERE.to_owned()],
            other: 0,
        };
        Self { permitted, excluded }
    }

    /// The extension's value.
    pub fn to_der(&self) -> Vec<u8> {
        let side = |tag: u8, subtrees: &Subtrees| match subtrees.to_der() {
            empty if empty.is_empty() => Vec::new(),
            content => tlv::element(tag, &[&content]),
        };
        tlv::sequence(&[&side(0xa0, &self.permitted), &side(0xa1, &self.excluded)])
    }

    /// Reads the extension's value. Refuses minimum and maximum (RFC 5280 allows neither),
    /// masks with holes and addresses outside their mask.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        use x509_cert::ext::pkix::NameConstraints as Parsed;
        let parsed = Parsed::from_der(der).map_err(|e| format!("name constraints: {e}"))?;
        let side = |trees: Option<Vec<GeneralSubtree>>| match trees {
            None => Ok(Subtrees::default()),
            Some(trees) if trees.is_empty() => Err("empty list of subtrees".to_owned()),
            Some(trees) => Subtrees::from_parsed(&trees),
        };
        Ok(Self {
            permitted: side(parsed.permitted_subtrees)?,
            excluded: side(parsed.excluded_subtrees)?,
        })
    }

    /// Whether a certificate below may carry this identifier. A wildcard passes when every name it
    /// stands for does.
    pub fn permits(&self, identifier: &Identifier) -> bool {
        match identifier {
            Identifier::Dns(name) if name.is_wildcard() => self.covers_name(name.base()),
            Identifier::Dns(name) => {
                self.permitted_name(name.as_str())
                    && !self.excluded.names.iter().any(|base| name_within(name.as_str(), base))
            }
            Identifier::Ip(address) => self.covers_network(*address, full_length(*address)),
        }
    }

    /// Whether this name and every name below it may be certified.
    pub fn covers_name(&self, suffix: &str) -> bool {
        self.permitted_name(suffix)
            && !self.excluded.names.iter().any(|base| {
                name_within(suffix, base) || name_within(base.trim_start_matches('.'), suffix)
            })
    }

    fn permitted_name(&self, name: &str) -> bool {
        let permitted = &self.permitted.names;
        permitted.is_empty() || permitted.iter().any(|base| name_within(name, base))
    }

    /// Whether every address of this network may be certified.
    pub fn covers_network(&self, address: IpAddr, prefix: u8) -> bool {
        let network = (address, prefix);
        let permitted = &self.permitted.networks;
        (permitted.is_empty() || permitted.iter().any(|base| network_within(network, *base)))
            && !self
                .excluded
                .networks
                .iter()
                .any(|base| network_within(network, *base) || network_within(*base, network))
    }

    /// The forms of name that are neither limited to permitted entries nor excluded as a whole.
    pub fn open_forms(&self) -> Vec<&'static str> {
        let (permitted, excluded) = (&self.permitted, &self.excluded);
        let mut open = Vec::new();
        if permitted.names.is_empty() && !excluded.names.iter().any(String::is_empty) {
            open.push("dNSName");
        }
        for (form, v4) in [("iPAddress v4", true), ("iPAddress v6", false)] {
            // RFC 5280 has one form for both; verifiers differ in whether a permitted network of
            // one family limits the other, so each is asked for by itself.
            if !permitted.networks.iter().any(|(network, _)| network.is_ipv4() == v4)
                && !excluded
                    .networks
                    .iter()
                    .any(|(network, prefix)| network.is_ipv4() == v4 && *prefix == 0)
            {
                open.push(form);
            }
        }
        for (form, permitted, excluded) in [
            ("rfc822Name", &permitted.mailboxes, &excluded.mailboxes),
            ("uniformResourceIdentifier", &permitted.uris, &excluded.uris),
        ] {
            if permitted.is_empty() || permitted.iter().any(|base| !excluded.contains(base)) {
                open.push(form);
            }
        }
        open
    }
}

impl Subtrees {
    /// The GeneralSubtree elements, one after another.
    fn to_der(&self) -> Vec<u8> {
        let mut bases = Vec::new();
        bases.extend(self.mailboxes.iter().map(|base| tlv::element(0x81, &[base.as_bytes()])));
        bases.extend(self.names.iter().map(|base| tlv::element(0x82, &[base.as_bytes()])));
        bases.extend(self.uris.iter().map(|base| tlv::element(0x86, &[base.as_bytes()])));
        bases.extend(self.networks.iter().map(|(address, prefix)| match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                tlv::element(0x87, &[&address.octets(), &mask.to_be_bytes()])
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
                tlv::element(0x87, &[&address.octets(), &mask.to_be_bytes()])
            }
        }));
        bases.iter().flat_map(|base| tlv::sequence(&[base])).collect()
    }

    fn from_parsed(trees: &[GeneralSubtree]) -> Result<Self, String> {
        let mut subtrees = Self::default();
        for tree in trees {
            if tree.minimum != 0 || tree.maximum.is_some() {
                return Err("a subtree with minimum or maximum".to_owned());
            }
            match &tree.base {
                GeneralName::DnsName(base) => {
                    subtrees.names.push(base.as_str().to_ascii_lowercase());
                }
                GeneralName::Rfc822Name(base) => subtrees.mailboxes.push(base.as_str().to_owned()),
                GeneralName::UniformResourceIdentifier(base) => {
                    subtrees.uris.push(base.as_str().to_owned());
                }
                GeneralName::IpAddress(octets) => subtrees.networks.push(
                    network_from_octets(octets.as_bytes())
                        .ok_or("an iPAddress that is no network")?,
                ),
                _ => subtrees.other += 1,
            }
        }
        Ok(subtrees)
    }
}

/// Whether `name` is `base` or below it. A base with a leading dot, which RFC 5280 does not know
/// for dNSName, means strictly below.
fn name_within(name: &str, base: &str) -> bool {
    match name.strip_suffix(base) {
        Some("") => !base.starts_with('.'),
        Some(rest) => base.is_empty() || base.starts_with('.') || rest.ends_with('.'),
        None => false,
    }
}

fn network_within(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    let bits = |address: IpAddr, prefix: u8| match address {
        IpAddr::V4(a) => u128::from(a.to_bits().checked_shr(32 - u32::from(prefix)).unwrap_or(0)),
        IpAddr::V6(a) => a.to_bits().checked_shr(128 - u32::from(prefix)).unwrap_or(0),
    };
    inner.0.is_ipv4() == outer.0.is_ipv4()
        && inner.1 >= outer.1
        && bits(inner.0, outer.1) == bits(outer.0, outer.1)
}

fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Address and mask, as name constraints write a network; `None` for a mask with holes, for host
/// bits, for any other length.
fn network_from_octets(octets: &[u8]) -> Option<(IpAddr, u8)> {
    if let Ok(octets) = <[u8; 8]>::try_from(octets) {
        let both = u64::from_be_bytes(octets);
        let (address, mask) = ((both >> 32) as u32, both as u32);
        let regular = mask.leading_ones() + mask.trailing_zeros() == 32 && address & !mask == 0;
        return regular
            .then_some((IpAddr::V4(Ipv4Addr::from_bits(address)), mask.leading_ones() as u8));
    }
    let octets = <[u8; 32]>::try_from(octets).ok()?;
    let (address, mask) = octets.split_at(16);
    let address = u128::from_be_bytes(address.try_into().ok()?);
    let mask = u128::from_be_bytes(mask.try_into().ok()?);
    let regular = mask.leading_ones() + mask.trailing_zeros() == 128 && address & !mask == 0;
    regular.then_some((IpAddr::V6(Ipv6Addr::from_bits(address)), mask.leading_ones() as u8))
}

/// Reads `address/prefix` with no host bits set.
pub(super) fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let zero = if address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let length = full_length(address);
    let host_bits_clear = match address {
        IpAddr::V4(a) => a.to_bits().checked_shl(prefix.into()).unwrap_or(0) == 0,
        IpAddr::V6(a) => a.to_bits().checked_shl(prefix.into()).unwrap_or(0) == 0,
    };
    (prefix <= length && host_bits_clear && (prefix > 0 || address == zero))
        .then_some((address, prefix))
}

/// A permitted dNSName base: a canonical name without wildcard and without leading dot.
pub(super) fn parse_suffix(text: &str) -> Option<String> {
    let name = DnsName::parse(text).ok()?;
    (!name.is_wildcard()).then(|| name.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan() -> NameConstraints {
        NameConstraints::closing(
            vec!["lan".to_owned(), "home.arpa".to_owned()],
            vec![parse_network("10.0.0.0/8").unwrap(), parse_network("192.168.0.0/16").unwrap()],
        )
    }

    fn dns(text: &str) -> Identifier {
        Identifier::parse("dns", text).unwrap()
    }

    fn ip(text: &str) -> Identifier {
        Identifier::parse("ip", text).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        for constraints in [
            lan(),
            NameConstraints::closing(Vec::new(), Vec::new()),
            NameConstraints::closing(Vec::new(), vec![parse_network("fd00::/8").unwrap()]),
        ] {
            assert_eq!(NameConstraints::from_der(&constraints.to_der()), Ok(constraints.clone()));
            assert!(constraints.open_forms().is_empty(), "{constraints:?}");
        }
    }

    #[test]
    fn names_pass_label_by_label() {
        for (name, passes) in [
            ("lan", true),
            ("nas.lan", true),
            ("*.nas.lan", true),
            ("*.lan", true),
            ("wlan", false),
            ("nas.wlan", false),
            ("home.arpa", true),
            ("arpa", false),
            ("lan.example", false),
        ] {
            assert_eq!(lan().permits(&dns(name)), passes, "{name}");
        }
        for (address, passes) in
            [("10.255.0.1", true), ("192.168.4.4", true), ("11.0.0.1", false), ("fd00::1", false)]
        {
            assert_eq!(lan().permits(&ip(address)), passes, "{address}");
        }
    }

    #[test]
    fn exclusions_win_also_below_a_wildcard() {
        let mut constraints = lan();
        constraints.excluded.names.push("secret.lan".to_owned());
        constraints.excluded.networks.push(parse_network("10.9.0.0/16").unwrap());
        assert!(!constraints.permits(&dns("secret.lan")));
        assert!(!constraints.permits(&dns("a.secret.lan")));
        assert!(!constraints.permits(&dns("*.lan")));
        assert!(constraints.permits(&dns("public.lan")));
        assert!(!constraints.covers_name("lan"));
        assert!(constraints.permits(&dns("lan")));
        assert!(!constraints.permits(&ip("10.9.1.1")));
        assert!(!constraints.covers_network("10.0.0.0".parse().unwrap(), 8));
        assert!(constraints.covers_network("10.8.0.0".parse().unwrap(), 16));
    }

    #[test]
    fn each_form_left_open_is_named() {
        let open = NameConstraints::default().open_forms();
        assert_eq!(
            open,
            ["dNSName", "iPAddress v4", "iPAddress v6", "rfc822Name", "uniformResourceIdentifier"]
        );
        let mut constraints = lan();
        constraints.excluded.networks.clear();
        assert_eq!(constraints.open_forms(), ["iPAddress v6"]);
        let mut constraints = lan();
        constraints.excluded.uris.clear();
        assert_eq!(constraints.open_forms(), ["uniformResourceIdentifier"]);
    }

    #[test]
    fn networks_have_one_spelling() {
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "::/129", "fd00::1/8", "1.0.0.0/0"] {
            assert_eq!(parse_network(bad), None, "{bad}");
        }
        for good in ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/8", "::1/128"] {
            assert!(parse_network(good).is_some(), "{good}");
        }
        assert!(network_from_octets(&[10, 0, 0, 0, 255, 0, 255, 0]).is_none());
        assert!(network_from_octets(&[10, 0, 0, 1, 255, 0, 0, 0]).is_none());
        assert!(network_from_octets(&[10, 0, 0]).is_none());
    }
}
