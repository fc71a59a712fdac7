//! The issue-value of RFC 8659 section 4.2: what `issue` and `issuewild` properties of CAA hold, and the
//! TXT records of dns-persist-01. Foreign octets: parsed once, bounded, or refused.

/// An issue-value: an issuer's domain name, or none, and parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueValue {
    /// Lower case. `None` names no issuer and forbids all.
    pub issuer: Option<String>,
    /// Tags as written, with their values, in order; a tag may stand twice here.
    pub parameters: Vec<(String, String)>,
}

/// Why a parameter has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// Not in the syntax of RFC 8659 section 4.2, or longer than any that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnIssueValue;

impl IssueValue {
    /// Parses the whole of `octets`.
    pub fn parse(octets: &[u8]) -> Result<Self, NotAnIssueValue> {
        let text = std::str::from_utf8(octets).map_err(|_| NotAnIssueValue)?;
        if text.len() > MAX {
            return Err(NotAnIssueValue);
        }
        let mut parts = text.split(';').map(|part| part.trim_matches(WSP));
        let issuer = match parts.next() {
            None | Some("") => None,
            Some(name) if is_domain_name(name) => Some(name.to_ascii_lowercase()),
            Some(_) => return Err(NotAnIssueValue),
        };
        let parts: Vec<&str> = parts.collect();
        let mut parameters = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            // A semicolon may end the value; two in a row may not stand in it.
            if part.is_empty() && at + 1 == parts.len() {
                break;
            }
            let (tag, value) = part.split_once('=').ok_or(NotAnIssueValue)?;
            let (tag, value) = (tag.trim_end_matches(WSP), value.trim_start_matches(WSP));
            if !is_label(tag) || !value.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
                return Err(NotAnIssueValue);
            }
            parameters.push((tag.to_owned(), value.to_owned()));
        }
        Ok(Self { issuer, parameters })
    }

    /// The value of a parameter, whose tag is compared without case; `None` if it is not there. One that
    /// stands twice has none (RFC 8657 section 3 and 4: such a property authorizes nobody).
    pub fn parameter(&self, tag: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case(tag));
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(Repeated),
            (found, _) => Ok(found.map(|(_, value)| value.as_str())),
        }
    }
}

/// `label *("." label)`.
fn is_domain_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// `(ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))`, which is also the syntax of a tag.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

const WSP: [char; 2] = [' ', '\t'];
/// Octets. A hashed account URI has two hundred.
const MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<IssueValue> {
        IssueValue::parse(text.as_bytes()).ok()
    }

    #[test]
    fn the_syntax_of_the_rfc() {
        let some = |name: &str, parameters: &[(&str, &str)]| {
            let own = |(tag, value): &(&str, &str)| ((*tag).to_owned(), (*value).to_owned());
            let issuer = (!name.is_empty()).then(|| name.to_owned());
            Some(IssueValue { issuer, parameters: parameters.iter().map(own).collect() })
        };
        for (text, meant) in [
            ("", some("", &[])),
            (";", some("", &[])),
            (" \t;  ", some("", &[])),
            ("CA.example", some("ca.example", &[])),
            ("  ca.example ; ", some("ca.example", &[])),
            ("ca.lan; a=b", some("ca.lan", &[("a", "b")])),
            ("ca.lan;a = b ;c=;", some("ca.lan", &[("a", "b"), ("c", "")])),
            ("; a=x=y", some("", &[("a", "x=y")])),
            ("ca.lan; a=1; A=2", some("ca.lan", &[("a", "1"), ("A", "2")])),
        ] {
            assert_eq!(parse(text), meant, "{text:?}");
        }
        for text in [
            "ca_.lan",
            "-ca.lan",
            "ca..lan",
            "ca.lan.",
            "ca.lan a=b",
            "ca.lan; a",
            "ca.lan; =b",
            "ca.lan; a_=b",
            "ca.lan; a=b c",
            "ca.lan;; a=b",
            "ca.lan; a=\u{e9}",
            "%%%%%",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(IssueValue::parse(b"\xff"), Err(NotAnIssueValue));
        assert_eq!(IssueValue::parse(&[b'a'; MAX + 1]), Err(NotAnIssueValue));
    }

    #[test]
    fn a_repeated_parameter_has_no_value() {
        let value = IssueValue::parse(b"ca.lan; a=1; b=2; A=3").unwrap();
        assert_eq!(value.parameter("B"), Ok(Some("2")));
        assert_eq!(value.parameter("c"), Ok(None));
        assert_eq!(value.parameter("a"), Err(Repeated));
    }

    proptest! {
        #[test]
        fn foreign_octets_never_panic(octets: Vec<u8>, text in "[a-z0-9;=. \t-]{0,40}") {
            let _ = IssueValue::parse(&octets);
            if let Ok(value) = IssueValue::parse(text.as_bytes()) {
                // Written again, it means the same.
                let mut again = value.issuer.clone().unwrap_or_default();
                for (tag, content) in &value.parameters {
                    again.push_str(&format!("; {tag}={content}"));
                }
                prop_assert_eq!(IssueValue::parse(again.as_bytes()), Ok(value));
            }
        }
    }
}
