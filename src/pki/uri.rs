//! PKCS#11 URIs (RFC 7512): how configuration and key files name a token or a key.

use std::fmt;

/// A parsed URI. `pin-value` is refused: secrets do not belong in names.
///
/// Attributes that say nothing about a token or key this program looks for (slots, library versions,
/// vendor attributes) are refused too, rather than silently not compared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pkcs11Uri {
    /// CKA_LABEL of the token.
    pub token: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    /// CKA_LABEL of the object.
    pub object: Option<String>,
    /// CKA_ID of the object.
    pub id: Option<Vec<u8>>,
    /// `private`, `public`, `cert`, `secret-key` or `data`.
    pub object_type: Option<String>,
    /// Query attribute `module-path`.
    pub module_path: Option<String>,
    /// Query attribute `pin-source`: where the PIN is, never what it is.
    pub pin_source: Option<String>,
}

impl Pkcs11Uri {
    /// Parses `pkcs11:path?query`. The error says what is wrong and repeats no value.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX {
            return Err(format!("a PKCS#11 URI has at most {MAX} octets"));
        }
        let rest = text.strip_prefix("pkcs11:").ok_or("a PKCS#11 URI begins with `pkcs11:`")?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, query),
            None => (rest, ""),
        };
        let mut uri = Self::default();
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            uri.take(attribute, PATH_EXTRA, false)?;
        }
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            uri.take(attribute, QUERY_EXTRA, true)?;
        }
        Ok(uri)
    }

    fn take(&mut self, attribute: &str, extra: &str, in_query: bool) -> Result<(), String> {
        let (name, value) =
            attribute.split_once('=').ok_or("an attribute of a PKCS#11 URI has no `=`")?;
        let octets = decode(value, extra).map_err(|why| format!("`{name}`: {why}"))?;
        let text = |octets: Vec<u8>| {
            String::from_utf8(octets).map_err(|_| format!("`{name}` is not UTF-8"))
        };
        let twice = || format!("`{name}` stands twice");
        let field = match (name, in_query) {
            ("id", false) => {
                if self.id.replace(octets).is_some() {
                    return Err(twice());
                }
                return Ok(());
            }
            ("type", false) => {
                if !TYPES.iter().any(|known| known.as_bytes() == octets) {
                    return Err(format!("`type` takes one of {}", TYPES.join(", ")));
                }
                &mut self.object_type
            }
            ("token", false) => &mut self.token,
            ("serial", false) => &mut self.serial,
            ("manufacturer", false) => &mut self.manufacturer,
            ("model", false) => &mut self.model,
            ("object", false) => &mut self.object,
            ("module-path", true) => &mut self.module_path,
            ("pin-source", true) => &mut self.pin_source,
            ("pin-value", _) => {
                return Err(
                    "`pin-value` puts a secret where everybody reads it; use `pin-source` \
                            or the pin settings"
                        .to_owned(),
                );
            }
            _ => return Err("holds an attribute this program does not compare".to_owned()),
        };
        if field.replace(text(octets)?).is_some() {
            return Err(twice());
        }
        Ok(())
    }
}

impl fmt::Display for Pkcs11Uri {
    /// One spelling per value: attributes in a fixed order, `id` wholly percent-encoded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pkcs11:")?;
        let mut separator = "";
        for (name, value) in [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("model", &self.model),
            ("object", &self.object),
            ("type", &self.object_type),
        ] {
            if let Some(value) = value {
                write!(f, "{separator}{name}=")?;
                encode(f, value, PATH_EXTRA)?;
                separator = ";";
            }
        }
        if let Some(id) = &self.id {
            write!(f, "{separator}id=")?;
            id.iter().try_for_each(|octet| write!(f, "%{octet:02X}"))?;
        }
        separator = "?";
        for (name, value) in [("module-path", &self.module_path), ("pin-source", &self.pin_source)]
        {
            if let Some(value) = value {
                write!(f, "{separator}{name}=")?;
                encode(f, value, QUERY_EXTRA)?;
                separator = "&";
            }
        }
        Ok(())
    }
}

fn is_plain(octet: u8, extra: &str) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) || extra.as_bytes().contains(&octet)
}

fn decode(value: &str, extra: &str) -> Result<Vec<u8>, &'static str> {
    let mut octets = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let mut digit = || {
                rest.next()
                    .and_then(|b| char::from(b).to_digit(16))
                    .and_then(|digit| u8::try_from(digit).ok())
                    .ok_or("`%` is not followed by two hexadecimal digits")
            };
            octets.push(digit()? << 4 | digit()?);
        } else if is_plain(octet, extra) {
            octets.push(octet);
        } else {
            return Err("a character that must be written as %XX");
        }
    }
    Ok(octets)
}

fn encode(f: &mut fmt::Formatter<'_>, value: &str, extra: &str) -> fmt::Result {
    value.bytes().try_for_each(|octet| {
        if is_plain(octet, extra) {
            write!(f, "{}", char::from(octet))
        } else {
            write!(f, "%{octet:02X}")
        }
    })
}

const MAX: usize = 2048;
const TYPES: [&str; 5] = ["private", "public", "cert", "secret-key", "data"];
/// What may stand unencoded in a value besides the unreserved characters (RFC 7512 section 2.3).
const PATH_EXTRA: &str = ":[]@!$'()*+,=&";
const QUERY_EXTRA: &str = ":[]@!$'()*+,=/?|";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_are_found() {
        let uri = Pkcs11Uri::parse(
            "pkcs11:token=The%20Software%20PKCS%2311;serial=0A1B;object=my-key;type=private;id=%69%95%3E%5C%F4\
             ?module-path=/usr/lib/libsofthsm2.so&pin-source=file:/etc/pin",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11"));
        assert_eq!(uri.serial.as_deref(), Some("0A1B"));
        assert_eq!(uri.object.as_deref(), Some("my-key"));
        assert_eq!(uri.object_type.as_deref(), Some("private"));
        assert_eq!(uri.id.as_deref(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4][..]));
        assert_eq!(uri.module_path.as_deref(), Some("/usr/lib/libsofthsm2.so"));
        assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/pin"));
        assert_eq!(Pkcs11Uri::parse("pkcs11:"), Ok(Pkcs11Uri::default()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "token=a",
            "PKCS11:token=a",
            "pkcs11:token",
            "pkcs11:token=a;token=b",
            "pkcs11:id=%01;id=%02",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:token=%FF",
            "pkcs11:token=a b",
            "pkcs11:token=a/b",
            "pkcs11:type=key",
            "pkcs11:slot-id=1",
            "pkcs11:x-vendor=1",
            "pkcs11:pin-source=a",
            "pkcs11:?token=a",
        ] {
            assert!(Pkcs11Uri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pin_is_refused_and_not_repeated() {
        let error = Pkcs11Uri::parse("pkcs11:token=a?pin-value=s3cret").unwrap_err();
        assert!(error.contains("pin-value") && !error.contains("s3cret"));
        let error = Pkcs11Uri::parse("pkcs11:token=a?pin-source=s3 cret").unwrap_err();
        assert!(!error.contains("cret"));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            token in proptest::option::of("\\PC{0,12}"),
            object in proptest::option::of("\\PC{0,12}"),
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8)),
            pin_source in proptest::option::of("\\PC{0,12}"),
        ) {
            let uri = Pkcs11Uri { token, object, id, pin_source, ..Pkcs11Uri::default() };
            prop_assert_eq!(Pkcs11Uri::parse(&uri.to_string()), Ok(uri));
        }

        #[test]
        fn foreign_text_never_panics(text in "pkcs11:\\PC{0,60}") {
            if let Ok(uri) = Pkcs11Uri::parse(&text) {
                prop_assert_eq!(Pkcs11Uri::parse(&uri.to_string()), Ok(uri));
            }
        }
    }
}
