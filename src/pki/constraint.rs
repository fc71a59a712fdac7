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
use super::policy::Network;
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
    /// dNSName bases: canonical names, or empty for every name; a leading dot, which RFC 5280 does
    /// not define for dNSName, leaves out the name itself, as OpenSSL reads it.
    pub names: Vec<String>,
    /// iPAddress networks.
    pub networks: Vec<Network>,
    /// rfc822Name bases.
    pub mailboxes: Vec<String>,
    /// URI bases: hosts.
    pub uris: Vec<String>,
    /// How many subtrees are of a form this CA neither issues nor writes.
    pub other: usize,
}

impl NameConstraints {
    /// Permits these and leaves no other name of any form a certificate of ours could carry.
    pub fn closing(names: Vec<String>, networks: Vec<Network>) -> Self {
        let mut excluded = Subtrees::default();
        if names.is_empty() {
            excluded.names.push(String::new());
        }
        for everything in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            if !networks.iter().any(|network| network.address().is_ipv4() == everything.is_ipv4()) {
                excluded.networks.extend(Network::new(everything, 0));
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
            Identifier::Dns(name) => {
                // `*.x` stands for the names one label below x.
                let reaches = |base: &str| {
                    name.is_wildcard()
                        && base.split_once('.').is_some_and(|(label, parent)| {
                            !label.is_empty() && parent == name.base()
                        })
                };
                let excluded = &self.excluded.names;
                self.permits_text(name.as_str())
                    && !excluded
                        .iter()
                        .any(|base| name_within(name.as_str(), base) || reaches(base))
            }
            Identifier::Ip(address) => {
                let contains = |networks: &[Network]| networks.iter().any(|n| n.contains(*address));
                (self.permitted.networks.is_empty() || contains(&self.permitted.networks))
                    && !contains(&self.excluded.networks)
            }
        }
    }

    /// Whether this name and every name below it are permitted; what is excluded is another question.
    pub fn permits_below(&self, name: &DnsName) -> bool {
        self.permits_text(name.as_str())
    }

    /// The first excluded base that takes something from this name and those below it which `denied`
    /// leaves to them, in words.
    pub fn excluded_below(&self, name: &DnsName, denied: &[DnsName]) -> Option<&str> {
        let takes = |base: &&str| {
            let whole = base.strip_prefix('.').unwrap_or(base);
            name_within(name.as_str(), whole)
                || (name_within(whole, name.as_str())
                    && !denied.iter().any(|denied| name_within(whole, denied.as_str())))
        };
        let base = self.excluded.names.iter().map(String::as_str).find(takes)?;
        Some(if base.is_empty() { "every name" } else { base })
    }

    /// Whether every address of this network is permitted. IPv4 and IPv6 are one form of name:
    /// permitting only networks of the one leaves none of the other.
    pub fn permits_network(&self, network: &Network) -> bool {
        let permitted = &self.permitted.networks;
        permitted.is_empty() || permitted.iter().any(|base| base.covers(network))
    }

    /// As [`Self::excluded_below`], for a network.
    pub fn excluded_within(&self, network: &Network, denied: &[Network]) -> Option<&Network> {
        self.excluded.networks.iter().find(|base| {
            base.covers(network)
                || (network.covers(base) && !denied.iter().any(|denied| denied.covers(base)))
        })
    }

    fn permits_text(&self, name: &str) -> bool {
        let permitted = &self.permitted.names;
        permitted.is_empty() || permitted.iter().any(|base| name_within(name, base))
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
            let of_family = |network: &&Network| network.address().is_ipv4() == v4;
            if !permitted.networks.iter().any(|network| of_family(&network))
                && !excluded.networks.iter().filter(of_family).any(|network| network.prefix() == 0)
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
        bases.extend(self.networks.iter().map(|network| match network.address() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix())).unwrap_or(0);
                tlv::element(0x87, &[&address.octets(), &mask.to_be_bytes()])
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(network.prefix())).unwrap_or(0);
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
                    let base = base.as_str().to_ascii_lowercase();
                    let name = base.strip_prefix('.').unwrap_or(&base);
                    if !base.is_empty() && parse_suffix(name).as_deref() != Some(name) {
                        return Err(format!("name constraints with the DNS name {base:?}"));
                    }
                    subtrees.names.push(base);
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

/// Address and mask, as name constraints write a network; `None` for a mask with holes, for host
/// bits, for any other length.
fn network_from_octets(octets: &[u8]) -> Option<Network> {
    let (address, mask) = octets.split_at(octets.len() / 2);
    let address: IpAddr = match octets.len() {
        8 => <[u8; 4]>::try_from(address).ok()?.into(),
        32 => <[u8; 16]>::try_from(address).ok()?.into(),
        _ => return None,
    };
    // Left-aligned, so that one rule serves both lengths.
    let mask = mask.iter().rev().fold(0u128, |bits, octet| bits >> 8 | u128::from(*octet) << 120);
    let prefix = u8::try_from(mask.leading_ones()).ok()?;
    if mask.count_ones() != u32::from(prefix) {
        return None;
    }
    Network::new(address, prefix)
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
            vec![network("10.0.0.0/8"), network("192.168.0.0/16")],
        )
    }

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
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
            NameConstraints::closing(Vec::new(), vec![network("fd00::/8")]),
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
        constraints.excluded.networks.push(network("10.9.0.0/16"));
        assert!(!constraints.permits(&dns("secret.lan")));
        assert!(!constraints.permits(&dns("a.secret.lan")));
        assert!(!constraints.permits(&dns("*.lan")));
        assert!(constraints.permits(&dns("lan")));
        assert!(constraints.permits(&dns("public.lan")));
        assert!(!constraints.permits(&ip("10.9.1.1")));
        assert!(constraints.permits(&ip("10.8.1.1")));
        // Two labels below a wildcard is beyond its reach.
        let mut constraints = lan();
        constraints.excluded.names.push("deep.secret.lan".to_owned());
        assert!(constraints.permits(&dns("*.lan")));
        assert!(!constraints.permits(&dns("*.secret.lan")));
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
    fn what_cannot_be_judged_does_not_read() {
        assert!(network_from_octets(&[10, 0, 0, 0, 255, 0, 255, 0]).is_none());
        assert!(network_from_octets(&[10, 0, 0, 1, 255, 0, 0, 0]).is_none());
        assert!(network_from_octets(&[10, 0, 0]).is_none());
        assert_eq!(network_from_octets(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(network("10.0.0.0/8")));
        for odd in ["lan.", "*.lan", "..lan", "a..lan"] {
            let mut constraints = lan();
            constraints.excluded.names.push(odd.to_owned());
            assert!(NameConstraints::from_der(&constraints.to_der()).is_err(), "{odd}");
        }
        // GeneralSubtree with maximum 1.
        let subtree = tlv::sequence(&[&tlv::element(0x82, &[b"lan"]), &[0x81, 1, 1]]);
        let der = tlv::sequence(&[&tlv::element(0xa0, &[&subtree])]);
        assert!(NameConstraints::from_der(&der).is_err());
        assert!(NameConstraints::from_der(&tlv::sequence(&[&[0xa0, 0]])).is_err());
    }
}
