//! How a ceremony file names tokens, PINs and labels: in keys of its own, or by an RFC 7512 URI.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::hsm::token::TokenName;
use crate::pki::uri::{Pkcs11Uri, UriError};

/// A token by role: `label` and perhaps `serial`, or `uri`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Written", rename_all = "kebab-case")]
pub struct TokenEntry {
    /// Empty where a URI names it by something else.
    pub label: String,
    pub serial: Option<String>,
    /// A file like `hsm/token/*.toml`, relative to this one; else the box's own `[token]`.
    pub settings: Option<PathBuf>,
    /// Where its PIN is; else where the box's own is. `pin-source` of the URI says the same.
    pub pin: Option<PinEntry>,
    /// As written.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing)]
    names: Pkcs11Uri,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    label: Option<String>,
    serial: Option<String>,
    uri: Option<String>,
    settings: Option<PathBuf>,
    pin: Option<PinEntry>,
}

/// Where a PIN is: `{ file = "PATH" }`, `{ credential = "NAME" }` or `{ prompt = true }`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinEntry {
    File(PathBuf),
    Credential(String),
    Prompt(bool),
}

impl TryFrom<Written> for TokenEntry {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { label, serial, uri, settings, mut pin } = written;
        let Some(uri) = uri else {
            let label = label.ok_or("the key `label` or `uri` is missing")?;
            let names = Pkcs11Uri {
                token: Some(label.clone()),
                serial: serial.clone(),
                ..Pkcs11Uri::default()
            };
            return Ok(Self { label, serial, settings, pin, uri: None, names });
        };
        if label.is_some() || serial.is_some() {
            return Err(
                "`uri` says label and serial; `label` and `serial` have no place beside it".into(),
            );
        }
        let coded = |why: UriError| format!("{}: {why}", why.code());
        let names = Pkcs11Uri::parse_token(&uri).map_err(coded)?;
        if let Some(file) = names.pin_file().map_err(coded)?
            && pin.replace(PinEntry::File(file)).is_some()
        {
            return Err("`pin` and the `pin-source` of `uri` both say where the PIN is".into());
        }
        let label = names.token.clone().unwrap_or_default();
        let serial = names.serial.clone();
        Ok(Self { label, serial, settings, pin, uri: Some(uri), names })
    }
}

impl TokenEntry {
    /// The box's own token of this label.
    pub fn labelled(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            serial: None,
            settings: None,
            pin: None,
            uri: None,
            names: Pkcs11Uri { token: Some(label.to_owned()), ..Pkcs11Uri::default() },
        }
    }

    /// How the token is found.
    pub fn token_name(&self) -> TokenName {
        TokenName::of(&self.names)
    }

    /// The module it is reached by: that of its settings, unless `module-path` names another.
    pub fn module(&self, settings: &Path) -> Result<PathBuf, String> {
        let module = self.names.module_path.as_ref().map_or(settings, Path::new);
        if self.names.allows_module(module) {
            return Ok(module.to_owned());
        }
        Err(format!(
            "CHY-URI: token {}: `module-name` is not the name of {}; name the module's path, or its settings",
            self.token_name(),
            module.display()
        ))
    }
}

/// A label, or a URI that says it: `pkcs11:object=LABEL`, perhaps with `type=private`.
pub(super) fn label_or_uri<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if !text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:")) {
        return Ok(text);
    }
    let refuse = |code: &str, why: &str| serde::de::Error::custom(format!("{code}: {why}"));
    let uri = Pkcs11Uri::parse(&text).map_err(|why| refuse(why.code(), &why.to_string()))?;
    let Pkcs11Uri { object: label, object_type, .. } = uri.clone();
    let else_said = Pkcs11Uri { object: None, object_type: None, ..uri };
    match label {
        Some(label)
            if else_said == Pkcs11Uri::default()
                && object_type.is_none_or(|kind| kind == "private") =>
        {
            Ok(label)
        }
        _ => Err(refuse(
            "CHY-URI",
            "a key that is still to be made is named by `object` alone (and `type=private`): its id is chosen in the ceremony, its token named by role",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Result<TokenEntry, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn label_and_uri_say_the_same() {
        let plain = entry(r#"{"label": "my token", "serial": "01"}"#).unwrap();
        let uri = entry(r#"{"uri": "pkcs11:token=my%20token;serial=01"}"#).unwrap();
        assert_eq!(plain.token_name(), uri.token_name());
        assert_eq!((uri.label.as_str(), uri.serial.as_deref()), ("my token", Some("01")));
        // What was written is what the transcript's digest is over.
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            r#"{"label":"my token","serial":"01","settings":null,"pin":null}"#
        );
        assert!(serde_json::to_string(&uri).unwrap().contains("pkcs11:token=my%20token"));
    }

    #[test]
    fn a_pin_source_is_a_pin() {
        let uri = entry(r#"{"uri": "pkcs11:serial=1?pin-source=file:/etc/pin"}"#).unwrap();
        assert_eq!(uri.pin, Some(PinEntry::File("/etc/pin".into())));
        for (json, code) in [
            (r#"{"uri": "pkcs11:serial=1?pin-value=1234"}"#, "CHY-URI-PIN-VALUE"),
            (r#"{"uri": "pkcs11:serial=1?pin-source=|/bin/pin"}"#, "CHY-URI"),
            (r#"{"uri": "pkcs11:slot-id=1"}"#, "CHY-URI"),
            (r#"{"uri": "pkcs11:token=a;id=%01"}"#, "CHY-URI"),
            (r#"{"uri": "pkcs11:serial=1?pin-source=/p", "pin": {"prompt": true}}"#, "both say"),
            (r#"{"uri": "pkcs11:serial=1", "label": "a"}"#, "no place beside"),
            (r#"{"serial": "1"}"#, "`label` or `uri`"),
            (r#"{"label": "a", "slot": 1}"#, "unknown field"),
        ] {
            let error = entry(json).unwrap_err();
            assert!(error.contains(code) && !error.contains("1234"), "{json}: {error}");
        }
    }

    #[test]
    fn a_module_is_taken_from_the_uri_or_compared_with_it() {
        let box_own = Path::new("/usr/lib/libone.so");
        let module = |uri: &str| {
            entry(&format!(r#"{{"uri": "pkcs11:serial=1{uri}"}}"#)).unwrap().module(box_own)
        };
        assert_eq!(module(""), Ok(box_own.to_owned()));
        assert_eq!(module("?module-name=one"), Ok(box_own.to_owned()));
        assert_eq!(module("?module-path=/opt/two.so"), Ok("/opt/two.so".into()));
        assert!(module("?module-name=two").unwrap_err().starts_with("CHY-URI: "));
    }

    #[test]
    fn a_label_may_be_said_by_a_uri() {
        #[derive(Debug, Deserialize)]
        struct Key {
            #[serde(alias = "uri", deserialize_with = "label_or_uri")]
            label: String,
        }
        let label = |json: &str| {
            serde_json::from_str::<Key>(json).map(|key| key.label).map_err(|e| e.to_string())
        };
        assert_eq!(label(r#"{"label": "chancery-log"}"#).as_deref(), Ok("chancery-log"));
        let uri = r#"{"uri": "pkcs11:object=chancery%2Dlog;type=private"}"#;
        assert_eq!(label(uri).as_deref(), Ok("chancery-log"));
        for bad in [
            r#"{"uri": "pkcs11:token=a;object=b"}"#,
            r#"{"uri": "pkcs11:object=b;id=%01"}"#,
            r#"{"uri": "pkcs11:object=b;type=public"}"#,
            r#"{"uri": "pkcs11:type=private"}"#,
        ] {
            assert!(label(bad).unwrap_err().contains("CHY-URI: "), "{bad}");
        }
    }
}
