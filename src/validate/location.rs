//! Where a request goes: a URL cut down to what http-01 follows.

use std::net::IpAddr;

use hyper::Uri;

use crate::pki::name::{DnsName, Identifier};

/// A place to look: scheme, host, port and the request target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) tls: bool,
    pub(super) host: Identifier,
    pub(super) port: u16,
    /// Path and query, beginning with a slash.
    pub(super) target: String,
}

impl Location {
    /// The value of the Host header (RFC 9110 section 7.2): the port only where it is not the
    /// scheme's, IPv6 addresses in brackets.
    pub(super) fn authority(&self) -> String {
        let host = match &self.host {
            Identifier::Ip(IpAddr::V6(v6)) => format!("[{v6}]"),
            other => other.value(),
        };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Where a `Location` header leads from here (RFC 9110 section 10.2.2). `None` for anything but
    /// http and https to a plain host: user information, other schemes, hosts that are no name.
    pub(super) fn follow(&self, header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?.trim();
        if text.is_empty() || text.len() > MAX || !text.is_ascii() {
            return None;
        }
        let text = text.split('#').next().unwrap_or_default();
        let scheme = if self.tls { "https" } else { "http" };
        let absolute = if has_scheme(text) {
            text.to_owned()
        } else if text.starts_with("//") {
            format!("{scheme}:{text}")
        } else {
            let target = if text.starts_with('/') {
                text.to_owned()
            } else {
                let path = self.target.split('?').next().unwrap_or_default();
                let directory = path.rfind('/').map_or("/", |end| &path[..=end]);
                match text.starts_with('?') {
                    true => format!("{path}{text}"),
                    false => format!("{directory}{text}"),
                }
            };
            format!("{scheme}://{}{target}", self.authority())
        };
        Self::parse(&absolute)
    }

    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // A colon without a number behind it, or with one too large.
            None if authority
                .as_str()
                .rsplit_once(']')
                .map_or(authority.as_str(), |(_, rest)| rest)
                .contains(':') =>
            {
                return None;
            }
            None => default_port(tls),
        };
        let host = authority.host();
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => Identifier::address(IpAddr::V6(address.parse().ok()?)).ok()?,
            None => match host.parse::<IpAddr>() {
                Ok(address) => Identifier::address(address).ok()?,
                Err(_) => {
                    let name = DnsName::parse(host.strip_suffix('.').unwrap_or(host)).ok()?;
                    if name.is_wildcard() {
                        return None;
                    }
                    Identifier::Dns(name)
                }
            },
        };
        let target = match uri.path_and_query().map(|target| target.as_str()) {
            None | Some("") => "/".to_owned(),
            Some(target) if target.starts_with('/') => target.to_owned(),
            Some(query) => format!("/{query}"),
        };
        Some(Self { tls, host, port, target })
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Whether a reference is absolute (RFC 3986 section 3.1).
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

const MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Location {
        Location {
            tls: false,
            host: Identifier::parse("dns", "a.lan").unwrap(),
            port: 80,
            target: "/.well-known/acme-challenge/token?x=1".to_owned(),
        }
    }

    #[test]
    fn references_resolve() {
        for (header, authority, tls, target) in [
            ("http://b.lan/x?y=z#f", "b.lan", false, "/x?y=z"),
            ("https://b.lan", "b.lan", true, "/"),
            ("HTTPS://B.LAN:443/x", "b.lan", true, "/x"),
            ("http://b.lan:8080/x", "b.lan:8080", false, "/x"),
            ("http://b.lan.:80/x", "b.lan", false, "/x"),
            ("http://b.lan?q", "b.lan", false, "/?q"),
            ("http://[fd00::1]/x", "[fd00::1]", false, "/x"),
            ("http://[fd00:0::1]:81/x", "[fd00::1]:81", false, "/x"),
            ("http://10.0.0.1/x", "10.0.0.1", false, "/x"),
            ("//b.lan/x", "b.lan", false, "/x"),
            ("/x", "a.lan", false, "/x"),
            ("x", "a.lan", false, "/.well-known/acme-challenge/x"),
            ("?z", "a.lan", false, "/.well-known/acme-challenge/token?z"),
            ("/x?u=http://c.lan/", "a.lan", false, "/x?u=http://c.lan/"),
        ] {
            let found = start().follow(header.as_bytes()).unwrap_or_else(|| panic!("{header}"));
            assert_eq!(
                (found.authority().as_str(), found.tls, found.target.as_str()),
                (authority, tls, target),
                "{header}"
            );
        }
        // On a lab's port, what is relative stays on it.
        let lab = Location { port: 5002, ..start() };
        assert_eq!(lab.follow(b"/x").unwrap().authority(), "a.lan:5002");
    }

    #[test]
    fn places_nobody_should_be_led_to_are_refused() {
        for header in [
            "",
            "ftp://b.lan/",
            "file:///etc/passwd",
            "gopher://b.lan/",
            "javascript:alert(1)",
            "http://user@b.lan/",
            "http://user:pw@b.lan/",
            "http://b.lan:99999/",
            "http://b.lan:/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://127.1/",
            "http://[::ffff:10.0.0.1]/",
            "http://[fe80::1%25eth0]/",
            "http://a_b.lan/",
            "http://*.lan/",
            "http:///x",
            "http://b.lan/\u{e9}",
            "/x y",
            "/x\r\nHost: c.lan",
        ] {
            assert_eq!(start().follow(header.as_bytes()), None, "{header}");
        }
        assert_eq!(start().follow(b"\xff"), None);
        assert_eq!(start().follow(format!("/{}", "x".repeat(MAX)).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn foreign_headers_never_panic(header in "(https?:)?(//)?[a-z0-9.:/?#@\\[\\]%-]{0,40}") {
            if let Some(found) = start().follow(header.as_bytes()) {
                prop_assert!(found.target.starts_with('/'));
                prop_assert!(!found.authority().contains('@'));
            }
        }
    }
}
