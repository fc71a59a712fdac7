//! The name constraints of a certificate (RFC 5280 section 4.2.1.10), as far as DNS names and
//! addresses go.

use std::net::IpAddr;

use der::Decode;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::name::GeneralName;

use super::Network;
use crate::pki::name::DnsName;

/// What is permitted and excluded. `None` in a permitted list means that kind is not restricted.
#[derive(Debug)]
pub(super) struct Constraints {
    permitted_names: Option<Vec<Suffix>>,
    permitted_networks: Option<Vec<Network>>,
    excluded_names: Vec<Suffix>,
    excluded_networks: Vec<Network>,
}

/// The base of a dNSName subtree.
#[derive(Debug, PartialEq, Eq)]
enum Suffix {
    /// The empty name: every name.
    All,
    /// A name and all below it.
    Within(DnsName),
    /// Written with a leading dot, which RFC 5280 does not define for dNSName: what is below the
    /// name, but not the name itself, as OpenSSL reads it.
    Below(DnsName),
}

impl Constraints {
    /// Reads them; `None` if the certificate has none. A subtree that cannot be judged is an error,
    /// since nobody can tell what it leaves open.
    pub(super) fn of_certificate(der: &[u8]) -> Result<Option<Self>, String> {
        const BROKEN: &str = "the issuing certificate's extensions do not parse";
        let certificate = x509_cert::Certificate::from_der(der).map_err(|_| BROKEN.to_owned())?;
        let found = certificate
            .tbs_certificate()
            .get_extension::<NameConstraints>()
            .map_err(|_| BROKEN.to_owned())?;
        found.map(|(_critical, constraints)| Self::read(&constraints)).transpose()
    }

    fn read(constraints: &NameConstraints) -> Result<Self, String> {
        let mut read = Self {
            permitted_names: None,
            permitted_networks: None,
            excluded_names: Vec::new(),
            excluded_networks: Vec::new(),
        };
        for subtree in constraints.permitted_subtrees.iter().flatten() {
            check_bounds(subtree.minimum, subtree.maximum)?;
            match &subtree.base {
                GeneralName::DnsName(name) => {
                    read.permitted_names.get_or_insert_default().push(suffix(name.as_str())?);
                }
                GeneralName::IpAddress(octets) => {
                    let network = network(octets.as_bytes())?;
                    read.permitted_networks.get_or_insert_default().push(network);
                }
                _ => {}
            }
        }
        for subtree in constraints.excluded_subtrees.iter().flatten() {
            check_bounds(subtree.minimum, subtree.maximum)?;
            match &subtree.base {
                GeneralName::DnsName(name) => read.excluded_names.push(suffix(name.as_str())?),
                GeneralName::IpAddress(octets) => {
                    read.excluded_networks.push(network(octets.as_bytes())?);
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether `name` and all below it are permitted.
    pub(super) fn permit_names_below(&self, name: &DnsName) -> bool {
        self.permitted_names
            .as_ref()
            .is_none_or(|permitted| permitted.iter().any(|suffix| suffix.covers(name)))
    }

    /// The first excluded subtree that takes something from `name` which `denied` leaves to it.
    pub(super) fn excludes_from_names(&self, name: &DnsName, denied: &[DnsName]) -> Option<String> {
        let takes = |excluded: &&Suffix| match excluded {
            Suffix::All => true,
            Suffix::Within(base) | Suffix::Below(base) => {
                name.is_within(base)
                    || (base.is_within(name) && !denied.iter().any(|denied| base.is_within(denied)))
            }
        };
        self.excluded_names.iter().find(takes).map(|excluded| match excluded {
            Suffix::All => "every name".to_owned(),
            Suffix::Within(base) | Suffix::Below(base) => base.to_string(),
        })
    }

    /// Whether every address of `network` is permitted. IPv4 and IPv6 are one kind of name here:
    /// permitting only networks of the one leaves none of the other.
    pub(super) fn permit_network(&self, network: &Network) -> bool {
        self.permitted_networks
            .as_ref()
            .is_none_or(|permitted| permitted.iter().any(|subtree| subtree.covers(network)))
    }

    /// As [`Self::excludes_from_names`], for a network.
    pub(super) fn excludes_from_network(
        &self,
        network: &Network,
        denied: &[Network],
    ) -> Option<String> {
        let takes = |excluded: &&Network| {
            excluded.covers(network)
                || (network.covers(excluded)
                    && !denied.iter().any(|denied| denied.covers(excluded)))
        };
        self.excluded_networks.iter().find(takes).map(ToString::to_string)
    }
}

impl Suffix {
    fn covers(&self, name: &DnsName) -> bool {
        match self {
            Self::All => true,
            Self::Within(base) => name.is_within(base),
            Self::Below(base) => name != base && name.is_within(base),
        }
    }
}

/// RFC 5280 fixes minimum to 0 and leaves maximum out.
fn check_bounds(minimum: u32, maximum: Option<u32>) -> Result<(), String> {
    if minimum == 0 && maximum.is_none() {
        return Ok(());
    }
    Err("a subtree of the issuing certificate's name constraints has a minimum or maximum"
        .to_owned())
}

fn suffix(text: &str) -> Result<Suffix, String> {
    let parse = |text: &str| {
        DnsName::parse(text).map_err(|e| {
            format!("the issuing certificate's name constraints have the DNS name `{text}`: {e}")
        })
    };
    match text.strip_prefix('.') {
        Some(rest) => parse(rest).map(Suffix::Below),
        None if text.is_empty() => Ok(Suffix::All),
        None => parse(text).map(Suffix::Within),
    }
}

/// An address and a mask of as many octets, the mask's ones all in front.
fn network(octets: &[u8]) -> Result<Network, String> {
    let bad = || "the issuing certificate's name constraints have a malformed network".to_owned();
    let (address, mask): (IpAddr, u128) = match octets.len() {
        8 => {
            let address: [u8; 4] = octets[..4].try_into().map_err(|_| bad())?;
            let mask: [u8; 4] = octets[4..].try_into().map_err(|_| bad())?;
            (address.into(), u128::from(u32::from_be_bytes(mask)) << 96)
        }
        32 => {
            let address: [u8; 16] = octets[..16].try_into().map_err(|_| bad())?;
            let mask: [u8; 16] = octets[16..].try_into().map_err(|_| bad())?;
            (address.into(), u128::from_be_bytes(mask))
        }
        _ => return Err(bad()),
    };
    let ones = mask.leading_ones();
    if ones != mask.count_ones() {
        return Err(bad());
    }
    Network::new(address, u8::try_from(ones).map_err(|_| bad())?).ok_or_else(bad)
}

#[cfg(test)]
impl Constraints {
    /// From the DER of the extension's value.
    pub(super) fn from_value(value: &NameConstraints) -> Result<Self, String> {
        let der = der::Encode::to_der(value).map_err(|e| e.to_string())?;
        Self::read(&NameConstraints::from_der(&der).map_err(|e| e.to_string())?)
    }
}
