//! What a certificate can name: DNS names and IP addresses, parsed once and canonical ever after.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A DNS name: lower-case A-labels, no trailing dot, at most 253 octets, labels of 1..=63 LDH
/// octets, every `xn--` label valid IDNA2008 and canonical; at least one label. May carry one
/// leading `*.` label (RFC 8555 section 7.1.3), and then has at least one label besides.
/// Something that reads as an IPv4 address is refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DnsName(String);

/// An ACME identifier (RFC 8555 section 9.7.7, RFC 8738), canonical.
///
/// Order of variants is stored by postcard: append only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Identifier {
    /// Type `dns`.
    Dns(DnsName),
    /// Type `ip`; never an IPv4-mapped IPv6 address.
    Ip(IpAddr),
}

/// Why a text is not a name we could certify. `Display` is fit for a problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Empty, too long, or a label is.
    Length,
    /// A character or a hyphen where none may stand; upper case is folded, not refused.
    Character,
    /// An `xn--` label that is not canonical IDNA2008.
    Idna,
    /// `*` elsewhere than as the whole leftmost label, or alone.
    Wildcard,
    /// An address where a DNS name was due, or the reverse; or not in canonical text (RFC 5952).
    Address,
    /// The identifier type is not one we issue for.
    UnsupportedType,
}

impl DnsName {
    /// Parses and canonicalises.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        todo!()
    }
    /// The canonical text, `*.` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether it begins with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
    /// The name without a leading `*.`: what is authorized (RFC 8555 section 7.1.4).
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }
    /// Whether this is `suffix` or below it, judged label by label.
    pub fn is_within(&self, suffix: &Self) -> bool {
        todo!()
    }
}

impl Identifier {
    /// Parses `{"type": kind, "value": value}`. An IP must be in canonical text form (RFC 8738 section 3).
    pub fn parse(kind: &str, value: &str) -> Result<Self, NameError> {
        todo!()
    }
    /// `dns` or `ip`.
    pub fn kind(&self) -> &'static str {
        todo!()
    }
    /// The text of `value`.
    pub fn value(&self) -> String {
        todo!()
    }
    /// Whether it is a wildcard DNS name.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.is_wildcard())
    }
    /// The identifier an authorization is for: without `*.`.
    pub fn base(&self) -> Self {
        todo!()
    }
}
