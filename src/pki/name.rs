//! What a certificate can name: DNS names and IP addresses, parsed once and canonical ever after.

use std::fmt;
use std::net::IpAddr;

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

/// A DNS name: lower-case A-labels, no trailing dot, at most 253 octets, labels of 1..=63 LDH
/// octets, every `xn--` label valid IDNA2008 and canonical; at least one label. May carry one
/// leading `*.` label (RFC 8555 section 7.1.3), and then has at least one label besides.
/// Something that reads as an IPv4 address is refused.
///
/// Deserializing parses again: a name that came over a socket or from a disk is as canonical as
/// one that came from a client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DnsName(String);

/// An ACME identifier (RFC 8555 section 9.7.7, RFC 8738), canonical.
///
/// Order of variants is stored by postcard: append only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
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
    /// A name in Unicode: certificates and ACME carry A-labels (RFC 8555 section 7.1.4).
    Unicode,
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
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(NameError::Length);
        }
        if !text.is_ascii() {
            return Err(NameError::Unicode);
        }
        let name = text.to_ascii_lowercase();
        let base = name.strip_prefix("*.").unwrap_or(&name);
        if base.contains('*') {
            return Err(NameError::Wildcard);
        }
        if base.parse::<IpAddr>().is_ok() || base.starts_with('[') {
            return Err(NameError::Address);
        }
        base.split('.').try_for_each(check_label)?;
        // A name whose last label is a number is an IPv4 address to every URL parser (WHATWG URL
        // section 3.5), whatever it was meant to be.
        let last = base.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::Address);
        }
        Ok(Self(name))
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

    /// Whether this is `suffix` or below it, judged label by label. A wildcard is within what its
    /// base is within; the `*.` of a suffix does not count.
    pub fn is_within(&self, suffix: &Self) -> bool {
        self.base()
            .strip_suffix(suffix.base())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameError;

    /// Only what `parse` would have left as it is.
    fn try_from(text: String) -> Result<Self, NameError> {
        let name = Self::parse(&text)?;
        if name.0 == text { Ok(name) } else { Err(NameError::Character) }
    }
}

impl Identifier {
    /// Parses `{"type": kind, "value": value}`. An IP must be in canonical text form (RFC 8738 section 3).
    pub fn parse(kind: &str, value: &str) -> Result<Self, NameError> {
        match kind {
            "dns" => DnsName::parse(value).map(Self::Dns),
            "ip" => {
                let address: IpAddr = value.parse().map_err(|_| NameError::Address)?;
                if address.to_string() != value {
                    return Err(NameError::Address);
                }
                Self::address(address)
            }
            _ => Err(NameError::UnsupportedType),
        }
    }

    /// The identifier of an address; an IPv4-mapped one is refused, since it is two names for one host.
    pub fn address(address: IpAddr) -> Result<Self, NameError> {
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(NameError::Address),
            _ => Ok(Self::Ip(address)),
        }
    }

    /// `dns` or `ip`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Ip(_) => "ip",
        }
    }

    /// The text of `value`.
    pub fn value(&self) -> String {
        match self {
            Self::Dns(name) => name.as_str().to_owned(),
            Self::Ip(address) => address.to_string(),
        }
    }

    /// Whether it is a wildcard DNS name.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.is_wildcard())
    }

    /// The identifier an authorization is for: without `*.`.
    pub fn base(&self) -> Self {
        match self {
            Self::Dns(name) => Self::Dns(DnsName(name.base().to_owned())),
            Self::Ip(address) => Self::Ip(*address),
        }
    }
}

impl Identifier {
    /// A DNS name, then every name above it, the nearest first; of an address, nothing. Without `*.`.
    pub fn and_above(&self) -> Vec<Self> {
        let Self::Dns(name) = self else { return Vec::new() };
        // What is cut from a name at a dot is a name.
        std::iter::successors(Some(name.base()), |name| {
            name.split_once('.').map(|(_, above)| above)
        })
        .map(|name| Self::Dns(DnsName(name.to_owned())))
        .collect()
    }
}

impl fmt::Display for Identifier {
    /// The value alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "the name or one of its labels is empty or too long",
            Self::Character => "the name holds a character or hyphen that may not stand there",
            Self::Idna => "a label beginning with xn-- is not a canonical IDNA label",
            Self::Unicode => {
                "the name is in Unicode; write each of its labels as an A-label, beginning with xn-- (RFC 8555 \
                 section 7.1.4, RFC 5890)"
            }
            Self::Wildcard => "an asterisk may only be the whole leftmost label before a name",
            Self::Address => {
                "an address where a name is due, or the reverse: an address needs identifier type \"ip\" and its \
                 canonical text (RFC 8738)"
            }
            Self::UnsupportedType => "the identifier type is not supported",
        })
    }
}

impl std::error::Error for NameError {}

/// An identifier as it is read, before the checks of [`Identifier`]. Same shape, so same bytes.
#[derive(Deserialize)]
enum Unchecked {
    Dns(DnsName),
    Ip(IpAddr),
}

impl TryFrom<Unchecked> for Identifier {
    type Error = NameError;

    fn try_from(read: Unchecked) -> Result<Self, NameError> {
        match read {
            Unchecked::Dns(name) => Ok(Self::Dns(name)),
            Unchecked::Ip(address) => Self::address(address),
        }
    }
}

/// Checks one lower-case label.
fn check_label(label: &str) -> Result<(), NameError> {
    if label.is_empty() || label.len() > MAX_LABEL {
        return Err(NameError::Length);
    }
    if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(NameError::Character);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Character);
    }
    if label.starts_with("xn--") {
        return check_a_label(label);
    }
    // RFC 5890 section 2.3.1: hyphens third and fourth are reserved for prefixes like xn--.
    if label.get(2..4) == Some("--") { Err(NameError::Character) } else { Ok(()) }
}

/// Checks that an `xn--` label decodes to an IDNA2008 U-label and encodes back to itself.
fn check_a_label(label: &str) -> Result<(), NameError> {
    let uts46 = Uts46::new();
    let (unicode, decoded) =
        uts46.to_unicode(label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    if decoded.is_err() || unicode.is_ascii() || !unicode.chars().all(is_letter_digit_or_mark) {
        return Err(NameError::Idna);
    }
    match uts46.to_ascii(unicode.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
    {
        Ok(again) if again == label => Ok(()),
        _ => Err(NameError::Idna),
    }
}

/// The rule of IDNA2008 that UTS 46 leaves out: RFC 5892 admits letters, digits and marks, not
/// symbols such as emoji, and a few exceptions that need context, which UTS 46 has checked.
fn is_letter_digit_or_mark(c: char) -> bool {
    use GeneralCategory as G;
    const EXCEPTIONS: [char; 12] = [
        '-', '\u{b7}', '\u{375}', '\u{5f3}', '\u{5f4}', '\u{6fd}', '\u{6fe}', '\u{f0b}',
        '\u{200c}', '\u{200d}', '\u{3007}', '\u{30fb}',
    ];
    matches!(
        CodePointMapData::<G>::new().get(c),
        G::LowercaseLetter
            | G::UppercaseLetter
            | G::OtherLetter
            | G::ModifierLetter
            | G::DecimalNumber
            | G::NonspacingMark
            | G::SpacingMark
    ) || EXCEPTIONS.contains(&c)
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    #[test]
    fn the_names_above_a_name() {
        let above = |kind, name| -> Vec<String> {
            let names = Identifier::parse(kind, name).unwrap().and_above();
            names.iter().map(Identifier::value).collect()
        };
        assert_eq!(above("dns", "*.x.a.lan"), ["x.a.lan", "a.lan", "lan"]);
        assert_eq!(above("dns", "lan"), ["lan"]);
        assert_eq!(above("ip", "10.0.0.1"), [""; 0]);
    }

    #[test]
    fn names_are_folded_and_kept() {
        for (text, canonical) in [
            ("printer", "printer"),
            ("Printer.LAN", "printer.lan"),
            ("*.lan", "*.lan"),
            ("a-b.home.arpa", "a-b.home.arpa"),
            ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
            ("XN--BCHER-KVA.lan", "xn--bcher-kva.lan"),
            ("xn--wgv71a119e.lan", "xn--wgv71a119e.lan"),
        ] {
            assert_eq!(DnsName::parse(text).as_ref().map(DnsName::as_str), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_for_its_reason() {
        let long_label = format!("{}.lan", "a".repeat(64));
        let long_name = format!("{}lan", "abcdefghi.".repeat(26));
        for (text, why) in [
            ("", NameError::Length),
            (".", NameError::Length),
            ("lan.", NameError::Length),
            (".lan", NameError::Length),
            ("a..lan", NameError::Length),
            (long_label.as_str(), NameError::Length),
            (long_name.as_str(), NameError::Length),
            ("a_b.lan", NameError::Character),
            ("a b.lan", NameError::Character),
            ("a\0.lan", NameError::Character),
            ("-a.lan", NameError::Character),
            ("a-.lan", NameError::Character),
            ("ab--c.lan", NameError::Character),
            ("bücher.lan", NameError::Unicode),
            ("user@host.lan", NameError::Character),
            ("*", NameError::Wildcard),
            ("*.*.lan", NameError::Wildcard),
            ("a*.lan", NameError::Wildcard),
            ("a.*.lan", NameError::Wildcard),
            ("*.", NameError::Length),
            ("10.0.0.1", NameError::Address),
            ("*.10.0.0.1", NameError::Address),
            ("fe80::1", NameError::Address),
            ("[::1]", NameError::Address),
            ("host.0x7f", NameError::Address),
            ("0x", NameError::Address),
            ("2130706433", NameError::Address),
            // Not punycode; a label that ends in a hyphen; an emoji.
            ("xn--a.lan", NameError::Idna),
            ("xn--abc-.lan", NameError::Character),
            ("xn--ls8h.lan", NameError::Idna),
        ] {
            assert_eq!(DnsName::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn addresses_have_one_spelling() {
        for text in ["10.0.0.1", "2001:db8::1", "::", "fd00::1:0:0:1"] {
            assert_eq!(Identifier::parse("ip", text).map(|i| i.value()).as_deref(), Ok(text));
        }
        for text in [
            "010.0.0.1",
            "10.1",
            "2001:DB8::1",
            "2001:db8:0::1",
            "::ffff:10.0.0.1",
            "::ffff:a00:1",
            "[::1]",
            "fe80::1%eth0",
            "printer.lan",
            "",
        ] {
            assert_eq!(Identifier::parse("ip", text), Err(NameError::Address), "{text}");
        }
        assert_eq!(Identifier::parse("dns", "10.0.0.1"), Err(NameError::Address));
        assert_eq!(Identifier::parse("DNS", "a.lan"), Err(NameError::UnsupportedType));
    }

    #[test]
    fn a_wildcard_is_authorized_by_its_base() {
        let wild = Identifier::parse("dns", "*.a.lan").unwrap();
        assert!(wild.is_wildcard());
        assert_eq!(wild.base(), Identifier::parse("dns", "a.lan").unwrap());
        assert!(!wild.base().is_wildcard());
    }

    #[test]
    fn suffixes_match_whole_labels() {
        assert!(name("a.lan").is_within(&name("lan")));
        assert!(name("lan").is_within(&name("lan")));
        assert!(name("*.lan").is_within(&name("lan")));
        assert!(!name("plan").is_within(&name("lan")));
        assert!(!name("a.plan").is_within(&name("lan")));
        assert!(!name("lan").is_within(&name("a.lan")));
    }

    #[test]
    fn deserializing_checks_again() {
        let good = Identifier::parse("dns", "a.lan").unwrap();
        let bytes = postcard::to_stdvec(&good).unwrap();
        // The stored form: variant index, then the text with its length.
        assert_eq!(bytes, b"\x00\x05a.lan");
        assert_eq!(postcard::from_bytes::<Identifier>(&bytes), Ok(good));
        for bytes in [&b"\x00\x05A.lan"[..], b"\x00\x05a..an", b"\x00\x01*"] {
            assert!(postcard::from_bytes::<Identifier>(bytes).is_err());
        }
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let bytes = postcard::to_stdvec(&(1u8, mapped)).unwrap();
        assert!(postcard::from_bytes::<Identifier>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(text in "\\PC{0,80}") {
            if let Ok(parsed) = DnsName::parse(&text) {
                prop_assert_eq!(DnsName::parse(parsed.as_str()), Ok(parsed.clone()));
                prop_assert!(parsed.as_str().is_ascii());
            }
        }

        #[test]
        fn a_name_is_within_exactly_the_suffixes_its_labels_end_with(
            labels in proptest::collection::vec("[a-z][a-z0-9]{0,3}", 1..5),
            suffix in proptest::collection::vec("[a-z][a-z0-9]{0,3}", 1..3),
            cut in 0usize..5,
        ) {
            let whole = name(&labels.join("."));
            prop_assert_eq!(whole.is_within(&name(&suffix.join("."))), labels.ends_with(&suffix));
            let tail = &labels[cut.min(labels.len() - 1)..];
            prop_assert!(whole.is_within(&name(&tail.join("."))));
        }

        #[test]
        fn every_address_but_a_mapped_one_round_trips(octets: [u8; 16]) {
            let address = IpAddr::from(octets);
            let parsed = Identifier::parse("ip", &address.to_string());
            match parsed {
                Ok(identifier) => prop_assert_eq!(identifier, Identifier::Ip(address)),
                Err(_) => prop_assert!(matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())),
            }
        }
    }
}
