//! PKCS#11 URIs (RFC 7512): how ceremony files, key files, records and messages name a token or a key.

use std::fmt;
use std::path::PathBuf;

#[cfg(test)]
mod tests;

/// A parsed URI. An attribute that is absent matches everything, one that is there must be equal, octet for octet, to
/// what module, slot, token or object say (section 2.5); an empty value matches only emptiness.
///
/// Attributes that RFC 7512 does not define are refused, in the query too: one that this program does not know cannot
/// be compared, and would seem to narrow what it does not.
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
    pub library_manufacturer: Option<String>,
    pub library_description: Option<String>,
    /// Major and minor.
    pub library_version: Option<(u8, u8)>,
    pub slot_manufacturer: Option<String>,
    pub slot_description: Option<String>,
    /// The slot's number. It changes with what is plugged in, and never names a token alone.
    pub slot_id: Option<u64>,
    /// Query attribute `module-name`: the file name of the module without `lib` and suffix.
    pub module_name: Option<String>,
    /// Query attribute `module-path`.
    pub module_path: Option<String>,
    /// Query attribute `pin-source`: where the PIN is, never what it is.
    pub pin_source: Option<String>,
}

/// Why a text is no URI that can be used. Says what is wrong and repeats no value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriError {
    /// It holds a PIN. Whoever wrote it down should change the PIN.
    PinValue,
    /// It is malformed, or means nothing here.
    Bad(String),
}

impl UriError {
    /// The operator's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PinValue => "CHY-URI-PIN-VALUE",
            Self::Bad(_) => "CHY-URI",
        }
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinValue => f.write_str(
                "`pin-value` puts the PIN where everybody reads it; use `pin-source` or the pin settings, and change the PIN",
            ),
            Self::Bad(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for UriError {}

fn bad<T>(why: impl Into<String>) -> Result<T, UriError> {
    Err(UriError::Bad(why.into()))
}

impl Pkcs11Uri {
    /// Parses `pkcs11:path?query` (section 2.3).
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > MAX {
            return bad(format!("a PKCS#11 URI has at most {MAX} octets"));
        }
        // Before anything that could fail on its value, and wherever it stands: after a `&` where a `?` belongs it would
        // be a part of the label.
        if text.to_ascii_lowercase().contains("pin-value=") {
            return Err(UriError::PinValue);
        }
        let rest = match text.split_at_checked(SCHEME.len()) {
            // Schemes know no case (RFC 3986 section 3.1); everything after it does.
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return bad("a PKCS#11 URI begins with `pkcs11:`"),
        };
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

    /// Parses a URI that names a token: by label, serial, manufacturer or model, and by no object.
    pub fn parse_token(text: &str) -> Result<Self, UriError> {
        let uri = Self::parse(text)?;
        uri.check_names_token()?;
        if uri.object.is_some() || uri.id.is_some() || uri.object_type.is_some() {
            return bad("`object`, `type` and `id` name a key, where a token is to be named");
        }
        Ok(uri)
    }

    /// Whether it says enough to know a token again.
    pub fn check_names_token(&self) -> Result<(), UriError> {
        let told = [&self.token, &self.serial, &self.manufacturer, &self.model];
        if told.iter().any(|value| value.is_some()) {
            return Ok(());
        }
        if self.slot_id.is_some() {
            return bad(
                "`slot-id` alone names no token: slots are numbered anew with what is plugged in; say `token` or `serial`",
            );
        }
        bad("names no token: say `token` (its label) or `serial`")
    }

    /// The file that `pin-source` names. What else it may be (a command, a URI of another scheme) is refused: this box
    /// reads PINs from files, credentials and the terminal.
    pub fn pin_file(&self) -> Result<Option<PathBuf>, UriError> {
        let Some(source) = &self.pin_source else { return Ok(None) };
        if source.starts_with('|') {
            return bad(
                "`pin-source` is a command, and this box runs none to get a PIN; name a file",
            );
        }
        // RFC 8089: `file:/PATH`, `file:///PATH`, `file://localhost/PATH`. It is a URI within a URI.
        let path = match source.split_at_checked(5) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file:") => {
                let local = match rest.strip_prefix("//") {
                    Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                    None => rest,
                };
                let octets = decode(local, FILE_EXTRA)
                    .map_err(|why| UriError::Bad(format!("`pin-source`: {why}")))?;
                String::from_utf8(octets)
                    .map_err(|_| UriError::Bad("`pin-source` is not UTF-8".into()))?
            }
            _ => source.clone(),
        };
        if !path.starts_with('/') || path.contains('\0') {
            return bad("`pin-source` takes the absolute path of a file, or `file:` and that path");
        }
        Ok(Some(PathBuf::from(path)))
    }

    /// Whether `module-path` and `module-name` allow the module at this path.
    pub fn allows_module(&self, path: &std::path::Path) -> bool {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = file.split_once(".so").map_or(&*file, |(stem, _)| stem);
        let named = |want: &String| want == stem || Some(want.as_str()) == stem.strip_prefix("lib");
        self.module_path.as_ref().is_none_or(|want| std::path::Path::new(want) == path)
            && self.module_name.as_ref().is_none_or(named)
    }

    fn take(&mut self, attribute: &str, extra: &str, in_query: bool) -> Result<(), UriError> {
        let Some((name, value)) = attribute.split_once('=') else {
            return bad("an attribute of a PKCS#11 URI has no `=`");
        };
        let octets = decode(value, extra).map_err(|why| UriError::Bad(format!("`{name}`: {why}")));
        let once = |is_first: bool| match is_first {
            true => Ok(()),
            false => bad(format!("`{name}` stands twice")),
        };
        match (name, in_query) {
            ("id", false) => return once(self.id.replace(octets?).is_none()),
            ("slot-id", false) => {
                let number = decimal(&octets?)
                    .ok_or_else(|| UriError::Bad("`slot-id` is no decimal number".into()))?;
                return once(self.slot_id.replace(number).is_none());
            }
            ("library-version", false) => {
                let version = version(&octets?).ok_or_else(|| {
                    UriError::Bad("`library-version` is not MAJOR or MAJOR.MINOR".into())
                })?;
                return once(self.library_version.replace(version).is_none());
            }
            _ => {}
        }
        let field = match (name, in_query) {
            ("type", false) => &mut self.object_type,
            ("token", false) => &mut self.token,
            ("serial", false) => &mut self.serial,
            ("manufacturer", false) => &mut self.manufacturer,
            ("model", false) => &mut self.model,
            ("object", false) => &mut self.object,
            ("library-manufacturer", false) => &mut self.library_manufacturer,
            ("library-description", false) => &mut self.library_description,
            ("slot-manufacturer", false) => &mut self.slot_manufacturer,
            ("slot-description", false) => &mut self.slot_description,
            ("module-name", true) => &mut self.module_name,
            ("module-path", true) => &mut self.module_path,
            ("pin-source", true) => &mut self.pin_source,
            _ => return Err(misplaced(name, in_query)),
        };
        let text = String::from_utf8(octets?)
            .map_err(|_| UriError::Bad(format!("`{name}` is not UTF-8")))?;
        if name == "type" && !TYPES.contains(&text.as_str()) {
            return bad(format!("`type` takes one of {}", TYPES.join(", ")));
        }
        once(field.replace(text).is_none())
    }
}

/// An attribute that may not stand where it does. Its name is repeated only if it is one of RFC 7512.
fn misplaced(name: &str, in_query: bool) -> UriError {
    let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
    let why = match (known(PATH_NAMES), known(QUERY_NAMES), in_query) {
        (Some(name), _, _) => format!("`{name}` belongs before the `?`"),
        (_, Some(name), _) => format!("`{name}` belongs after a `?`"),
        (None, None, false) => {
            "holds an attribute before the `?` that RFC 7512 does not define, which this program cannot compare".into()
        }
        (None, None, true) => {
            "holds an attribute after the `?` that RFC 7512 does not define, which means nothing here".into()
        }
    };
    UriError::Bad(why)
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
            ("library-manufacturer", &self.library_manufacturer),
            ("library-description", &self.library_description),
            ("slot-manufacturer", &self.slot_manufacturer),
            ("slot-description", &self.slot_description),
            ("object", &self.object),
            ("type", &self.object_type),
        ] {
            if let Some(value) = value {
                write!(f, "{separator}{name}=")?;
                encode(f, value, PATH_EXTRA)?;
                separator = ";";
            }
        }
        if let Some((major, minor)) = self.library_version {
            write!(f, "{separator}library-version={major}.{minor}")?;
            separator = ";";
        }
        if let Some(number) = self.slot_id {
            write!(f, "{separator}slot-id={number}")?;
            separator = ";";
        }
        if let Some(id) = &self.id {
            write!(f, "{separator}id=")?;
            id.iter().try_for_each(|octet| write!(f, "%{octet:02X}"))?;
        }
        separator = "?";
        for (name, value) in [
            ("module-name", &self.module_name),
            ("module-path", &self.module_path),
            ("pin-source", &self.pin_source),
        ] {
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
        // A `=` may stand unencoded, but then a value could read like an attribute.
        if is_plain(octet, extra) && octet != b'=' {
            write!(f, "{}", char::from(octet))
        } else {
            write!(f, "%{octet:02X}")
        }
    })
}

/// Digits and nothing else: `str::parse` would take a sign.
fn decimal(octets: &[u8]) -> Option<u64> {
    let digits = octets.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(octets).ok().filter(|_| digits)?.parse().ok()
}

/// Without a minor version it is 0 (section 2.3).
fn version(octets: &[u8]) -> Option<(u8, u8)> {
    let mut parts = octets.split(|octet| *octet == b'.').map(decimal);
    let major = parts.next()??;
    let minor = match parts.next() {
        None => 0,
        Some(minor) => minor?,
    };
    let whole = parts.next().is_none();
    whole.then_some((u8::try_from(major).ok()?, u8::try_from(minor).ok()?))
}

const SCHEME: &str = "pkcs11:";
const MAX: usize = 2048;
const TYPES: [&str; 5] = ["private", "public", "cert", "secret-key", "data"];
const PATH_NAMES: &[&str] = &[
    "token",
    "manufacturer",
    "serial",
    "model",
    "library-manufacturer",
    "library-description",
    "library-version",
    "slot-manufacturer",
    "slot-description",
    "slot-id",
    "object",
    "type",
    "id",
];
const QUERY_NAMES: &[&str] = &["module-name", "module-path", "pin-source"];
/// What may stand unencoded in a value besides the unreserved characters (RFC 7512 section 2.3).
const PATH_EXTRA: &str = ":[]@!$'()*+,=&";
const QUERY_EXTRA: &str = ":[]@!$'()*+,=/?|";
/// In the path of a `file:` URI (RFC 3986 section 3.3).
const FILE_EXTRA: &str = "/!$&'()*+,;=:@";
