//! What a ceremony file says, parsed and checked: which keys on which tokens, which certificates, which names
//! and URLs for good. Reading the files is `config`'s part.

mod naming;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use naming::{PinEntry, TokenEntry};

use super::CeremonyError;
use crate::pki::authority::Authority;
use crate::pki::key::{KeyKind, SignatureAlgorithm};
use crate::pki::rehearse::CaTemplate;

/// `hsm/key/*.toml`: one key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyFile {
    /// `root`, `issuing`, `log`, `tls` or `witness`.
    pub name: String,
    /// CKA_LABEL of both halves; as `uri`, `pkcs11:object=LABEL`.
    #[serde(alias = "uri", deserialize_with = "naming::label_or_uri")]
    pub label: String,
    pub kind: Kind,
    /// What an RSA key signs with: `pkcs1-sha256` (as if absent), `pkcs1-sha384`, `pss-sha256` or `pss-sha384`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The role of the token it is made on: a table below `[tokens]`.
    pub token: String,
}

impl KeyFile {
    /// What the key shall sign with, if that can be; refused in words of the file.
    pub fn algorithm(&self) -> Result<SignatureAlgorithm, CeremonyError> {
        let kind = KeyKind::from(self.kind);
        let rsa = matches!(kind, KeyKind::Rsa(_));
        let tls = self.name == "tls";
        match self.signature.as_deref() {
            Some(name) if rsa => SignatureAlgorithm::choice(name).ok_or_else(|| {
                let known = SignatureAlgorithm::CHOICES.map(|(name, _)| name).join(", ");
                refusal(&format!("key {:?}: signature {name:?} is none of {known}", self.name))
            }),
            Some(_) => bad(&format!(
                "key {:?}: signature is for RSA keys; one of this kind signs in one way only",
                self.name
            )),
            None if rsa && tls => Ok(TLS_RSA),
            None => Ok(kind.usual_algorithm()),
        }
    }

    /// Refuses what the use of this key does not allow.
    pub(super) fn check(&self) -> Result<(), CeremonyError> {
        let algorithm = self.algorithm()?;
        let kind = KeyKind::from(self.kind);
        match self.name.as_str() {
            "log" if !matches!(self.kind, Kind::Ed25519 | Kind::EcP256) => {
                bad("the log key is neither ed25519 nor ec-p256: signed notes know no others")
            }
            "witness" if self.kind != Kind::Ed25519 => {
                bad("the witness key is not ed25519: a cosignature/v1 knows nothing else")
            }
            "tls" if matches!(kind, KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87) => bad(
                "the TLS key is of ML-DSA, which the TLS of few devices speaks, and they enrol through it; the issuing key may be",
            ),
            "tls" if matches!(kind, KeyKind::Rsa(_)) && algorithm != TLS_RSA => bad(
                "the TLS key signs handshakes, where TLS 1.3 takes RSA as pss-sha256 alone; leave its signature out",
            ),
            _ => Ok(()),
        }
    }
}

/// What an RSA key signs handshakes with.
const TLS_RSA: SignatureAlgorithm = SignatureAlgorithm::RsaPssSha256;

/// A kind of key that a ceremony makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Kind {
    #[serde(rename = "ec-p256")]
    EcP256,
    #[serde(rename = "ec-p384")]
    EcP384,
    #[serde(rename = "ed25519")]
    Ed25519,
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
    #[serde(rename = "ml-dsa-65")]
    MlDsa65,
    #[serde(rename = "ml-dsa-87")]
    MlDsa87,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::EcP256 => Self::EcP256,
            Kind::EcP384 => Self::EcP384,
            Kind::Ed25519 => Self::Ed25519,
            Kind::Rsa3072 => Self::Rsa(3072),
            Kind::Rsa4096 => Self::Rsa(4096),
            Kind::Rsa2048 => Self::Rsa(2048),
            Kind::MlDsa44 => Self::MlDsa44,
            Kind::MlDsa65 => Self::MlDsa65,
            Kind::MlDsa87 => Self::MlDsa87,
        }
    }
}

/// `hsm/ceremony/*.toml`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    pub name: String,
    pub description: String,
    /// Key files, relative to this one.
    pub keys: Vec<PathBuf>,
    /// By role.
    pub tokens: BTreeMap<String, TokenEntry>,
    /// Where the log's keys are made.
    #[serde(default)]
    pub log: Option<LogEntry>,
    /// Where the witness's key is made.
    #[serde(default)]
    pub witness: Option<WitnessEntry>,
    /// Empty where no certificate is made.
    #[serde(default)]
    pub urls: Urls,
    /// Lifetime of the root's CRL, signed here beforehand.
    #[serde(default)]
    pub root_crl_days: Option<u32>,
    #[serde(default)]
    pub root: Option<CaTemplate>,
    #[serde(default)]
    pub issuing: Option<CaTemplate>,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogEntry {
    /// A schema-less URL, unique in the world, for good.
    pub origin: String,
}

/// This box as a witness.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WitnessEntry {
    /// A schema-less URL, unique in the world, for good.
    pub name: String,
}

/// What certificates say about where to look; for good. The last part of each is the file below `public/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Urls {
    /// The issuing certificate, DER.
    pub aia: String,
    /// The issuing CA's CRL, DER.
    pub crl: String,
    /// The root's CRL, DER.
    pub root_crl: String,
}

impl Urls {
    /// What the first certificates of a box say.
    pub(super) fn of(authority: &Authority) -> Self {
        Self {
            aia: authority.aia_url.clone(),
            crl: authority.crl_url.clone(),
            root_crl: authority.root_crl_url.clone(),
        }
    }
}

/// Which keys the ceremony makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Whole,
    /// The root alone, on a box that is never online.
    Root,
    /// All but the root: exports a request and imports its certificate.
    Online,
    /// The witness's key alone, for a box that has its CA.
    Witness,
}

/// A ceremony that can be held.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub document: Document,
    pub keys: Vec<KeyFile>,
    pub scope: Scope,
}

impl Plan {
    /// Checks everything that can be checked without a token.
    pub fn new(document: Document, keys: Vec<KeyFile>) -> Result<Self, CeremonyError> {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        let scope = match sorted.as_slice() {
            ["issuing", "log", "root", "tls"] => Scope::Whole,
            ["root"] => Scope::Root,
            ["issuing", "log", "tls"] => Scope::Online,
            ["witness"] => Scope::Witness,
            _ => {
                return bad(&format!(
                    "keys are {}; a ceremony makes root, issuing, log and tls, or root alone, or all but root, or witness alone",
                    names.join(", ")
                ));
            }
        };
        for key in &keys {
            if !document.tokens.contains_key(&key.token) {
                return bad(&format!(
                    "key {:?} is for token {:?}, which [tokens] lacks",
                    key.name, key.token
                ));
            }
            key.check()?;
            check_label(key)?;
        }
        for (n, key) in keys.iter().enumerate() {
            if keys[..n].iter().any(|other| other.label == key.label) {
                return bad(&format!("two keys have the label {:?}", key.label));
            }
        }
        if scope == Scope::Witness {
            return Self::witness(document, keys);
        }
        if document.witness.is_some() {
            return bad(
                "[witness] belongs where the witness key is made, which no other ceremony does",
            );
        }
        check_urls(&document.urls)?;
        let (has_root, has_online) = (scope != Scope::Online, scope != Scope::Root);
        if has_root && (document.root.is_none() || document.issuing.is_none()) {
            return bad(
                "[root] or [issuing] is missing: whoever holds the root key decides both certificates",
            );
        }
        if has_root && !matches!(document.root_crl_days, Some(1..=36_600)) {
            return bad("root-crl-days is missing or not 1 to 36600");
        }
        if !has_root && (document.root.is_some() || document.issuing.is_some()) {
            return bad("[root] and [issuing] belong into the file of the root's ceremony");
        }
        if let Some(issuing) = &document.issuing {
            if issuing.path_length != Some(0) {
                return bad("issuing.path-length is not 0");
            }
            if issuing.permitted_names.is_empty() && issuing.permitted_networks.is_empty() {
                return bad("the issuing certificate permits no name at all");
            }
        }
        match &document.log {
            Some(log) if has_online && is_schemaless(&log.origin) => {}
            Some(_) if has_online => {
                return bad("log.origin is not a schema-less URL like ca.lan/log");
            }
            None if has_online => return bad("[log] is missing"),
            Some(_) => return bad("[log] belongs where the log key is made"),
            None => {}
        }
        Ok(Self { document, keys, scope })
    }

    fn witness(document: Document, keys: Vec<KeyFile>) -> Result<Self, CeremonyError> {
        let made = document.root.is_some() || document.issuing.is_some() || document.log.is_some();
        if made || document.urls != Urls::default() || document.root_crl_days.is_some() {
            return bad("a ceremony for a witness's key makes nothing else");
        }
        match &document.witness {
            Some(witness) if is_schemaless(&witness.name) => {}
            _ => return bad("witness.name is not a schema-less URL like ca.lan/witness"),
        }
        Ok(Self { document, keys, scope: Scope::Witness })
    }

    /// The log's origin; empty where no log is made.
    pub fn origin(&self) -> &str {
        self.document.log.as_ref().map_or("", |log| log.origin.as_str())
    }

    /// Whether a log is begun.
    pub fn log_is_made(&self) -> bool {
        matches!(self.scope, Scope::Whole | Scope::Online)
    }

    /// What it would do, for people.
    pub fn effect(&self) -> String {
        let mut text = format!("ceremony {:?} would make", self.document.name);
        for (n, key) in self.keys.iter().enumerate() {
            let token = self.document.tokens.get(&key.token).map_or("", |t| t.label.as_str());
            let kind = serde_json::to_value(key.kind).unwrap_or_default();
            let comma = if n == 0 { " " } else { ", " };
            let signature = key.signature.as_ref().map_or(String::new(), |s| format!(", {s}"));
            text.push_str(&format!(
                "{comma}key {:?} ({}{signature}) on token {token:?}",
                key.label,
                kind.as_str().unwrap_or_default()
            ));
        }
        for template in [&self.document.root, &self.document.issuing].into_iter().flatten() {
            text.push_str(&format!(
                "; certificate {:?} for {} days",
                template.common_name, template.lifetime_days
            ));
        }
        if !self.origin().is_empty() {
            text.push_str(&format!("; the log {}", self.origin()));
        }
        if let Some(witness) = &self.document.witness {
            text.push_str(&format!("; the witness {}", witness.name));
        }
        text
    }
}

/// PKCS#11 has no such limit; tokens do.
pub(super) fn check_label(key: &KeyFile) -> Result<(), CeremonyError> {
    if key.label.is_empty() || key.label.len() > 32 || !key.label.is_ascii() {
        return bad(&format!("the label of key {:?} is not 1 to 32 ASCII characters", key.name));
    }
    Ok(())
}

fn is_schemaless(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'+';
    !name.is_empty() && name.len() <= 255 && !name.contains("://") && name.bytes().all(plain)
}

/// Certificates carry these URLs for good, so each must be one that the web process will answer: a name
/// it serves, with the extension it takes the media type from, and a file of its own.
fn check_urls(urls: &Urls) -> Result<(), CeremonyError> {
    const CERTIFICATE: &[&str] = &["cer", "crt", "der"];
    const CRL: &[&str] = &["crl"];
    let mut files: Vec<PathBuf> = OWN_FILES.iter().map(PathBuf::from).collect();
    for (what, url, extensions) in [
        ("urls.aia", &urls.aia, CERTIFICATE),
        ("urls.crl", &urls.crl, CRL),
        ("urls.root-crl", &urls.root_crl, CRL),
    ] {
        let file = check_url(what, url, extensions)?;
        if files.contains(&file) {
            return bad(&format!("{what} = {url:?} names a file that is published already"));
        }
        files.push(file);
    }
    Ok(())
}

/// One of them: the file that answers at it.
pub(super) fn check_url(
    what: &str,
    url: &str,
    extensions: &[&str],
) -> Result<PathBuf, CeremonyError> {
    let Some(file) = published_as(url) else {
        return bad(&format!(
            "{what} = {url:?} is not http://HOST[:PORT]/FILE with at most four plain parts; certificates name plain http, because fetching them must not need them"
        ));
    };
    let extension = file.extension().and_then(|extension| extension.to_str());
    if !extension.is_some_and(|extension| extensions.contains(&extension)) {
        return bad(&format!(
            "{what} = {url:?} does not end in .{}; no other name is served for it",
            extensions.join(" or .")
        ));
    }
    Ok(file)
}

/// Whether a root or an issuing CA can be called so: its files and its key are.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain)
}

/// What the issuer publishes beside the files of the URLs.
const OWN_FILES: &[&str] = &["root.pem", "root.der", "issuing.pem", "chain.pem"];

/// The file below `public/` that answers at this URL; `None` if the URL is not of the one form allowed.
pub fn published_as(url: &str) -> Option<PathBuf> {
    let (authority, path) = url.strip_prefix("http://")?.split_once('/')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let host = |b: u8| plain(b) || matches!(b, b':' | b'[' | b']');
    let good = !authority.is_empty()
        && authority.bytes().all(host)
        && url.len() <= 256
        && path.len() <= 128
        && path.split('/').count() <= 4
        && path
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain));
    good.then(|| PathBuf::from(path))
}

fn bad<T>(why: &str) -> Result<T, CeremonyError> {
    Err(refusal(why))
}

fn refusal(why: &str) -> CeremonyError {
    CeremonyError::Refused(format!("CHY-CEREMONY-FILE: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyFile {
        KeyFile {
            name: name.into(),
            label: format!("chancery-{name}"),
            kind: Kind::EcP256,
            signature: None,
            token: "online".into(),
        }
    }

    fn template(path_length: Option<u8>) -> CaTemplate {
        CaTemplate {
            common_name: "Test".into(),
            organization: None,
            lifetime_days: 10,
            path_length,
            permitted_names: vec!["test".into()],
            permitted_networks: Vec::new(),
        }
    }

    fn document() -> Document {
        let token = TokenEntry::labelled("t");
        Document {
            name: "test".into(),
            description: String::new(),
            keys: Vec::new(),
            tokens: BTreeMap::from([("online".to_owned(), token)]),
            log: Some(LogEntry { origin: "ca.test/log".into() }),
            witness: None,
            urls: Urls {
                aia: "http://ca.test/issuing.cer".into(),
                crl: "http://ca.test/crl/issuing.crl".into(),
                root_crl: "http://ca.test/crl/root.crl".into(),
            },
            root_crl_days: Some(10),
            root: Some(template(None)),
            issuing: Some(template(Some(0))),
        }
    }

    fn all() -> Vec<KeyFile> {
        ["root", "issuing", "log", "tls"].map(key).to_vec()
    }

    #[test]
    fn the_scope_follows_from_the_keys() {
        assert_eq!(Plan::new(document(), all()).unwrap().scope, Scope::Whole);
        let root = Document { log: None, ..document() };
        assert_eq!(Plan::new(root, vec![key("root")]).unwrap().scope, Scope::Root);
        let online = Document { root: None, issuing: None, root_crl_days: None, ..document() };
        assert_eq!(Plan::new(online, all().split_off(1)).unwrap().scope, Scope::Online);
    }

    #[test]
    fn a_witness_key_is_made_by_itself() {
        let mut witness = key("witness");
        witness.kind = Kind::Ed25519;
        let named = |name: &str| Document {
            witness: Some(WitnessEntry { name: name.into() }),
            log: None,
            urls: Urls::default(),
            root_crl_days: None,
            root: None,
            issuing: None,
            ..document()
        };
        let plan = Plan::new(named("ca.test/witness"), vec![witness.clone()]).unwrap();
        assert_eq!((plan.scope, plan.log_is_made()), (Scope::Witness, false));
        assert!(plan.effect().contains("ca.test/witness"), "{}", plan.effect());
        for (document, keys) in [
            (named("https://ca.test"), vec![witness.clone()]),
            (named("ca test"), vec![witness.clone()]),
            (named("ca.test/witness"), vec![key("witness")]),
            (Document { witness: None, ..named("x") }, vec![witness.clone()]),
            (Document { log: document().log, ..named("ca.test/witness") }, vec![witness.clone()]),
            (Document { urls: document().urls, ..named("ca.test/witness") }, vec![witness.clone()]),
            (Document { witness: named("ca.test/w").witness, ..document() }, all()),
            (named("ca.test/witness"), [all(), vec![witness.clone()]].concat()),
        ] {
            assert!(Plan::new(document, keys).is_err());
        }
    }

    #[test]
    fn a_key_signs_as_its_use_allows() {
        let held = |name: &str, kind: Kind, signature: Option<&str>| {
            let mut keys = all();
            let key = keys.iter_mut().find(|key| key.name == name).unwrap();
            (key.kind, key.signature) = (kind, signature.map(str::to_owned));
            let told = key.algorithm().ok();
            Plan::new(document(), keys).map(|_| told.unwrap())
        };
        use SignatureAlgorithm as S;
        for (name, kind, signature, algorithm) in [
            ("issuing", Kind::Rsa2048, None, S::RsaSha256),
            ("issuing", Kind::Rsa3072, Some("pkcs1-sha384"), S::RsaSha384),
            ("root", Kind::Rsa4096, Some("pss-sha384"), S::RsaPssSha384),
            ("issuing", Kind::Rsa3072, Some("pss-sha256"), S::RsaPssSha256),
            ("root", Kind::EcP384, None, S::EcdsaSha384),
            ("issuing", Kind::Ed25519, None, S::Ed25519),
            ("root", Kind::MlDsa87, None, S::MlDsa87),
            ("issuing", Kind::MlDsa44, None, S::MlDsa44),
            // What a handshake takes.
            ("tls", Kind::Rsa2048, None, S::RsaPssSha256),
            ("tls", Kind::Rsa2048, Some("pss-sha256"), S::RsaPssSha256),
            ("log", Kind::Ed25519, None, S::Ed25519),
        ] {
            assert_eq!(held(name, kind, signature), Ok(algorithm), "{name} {kind:?}");
        }
        for (name, kind, signature) in [
            ("issuing", Kind::EcP256, Some("pss-sha256")),
            ("issuing", Kind::MlDsa65, Some("pkcs1-sha256")),
            ("issuing", Kind::Rsa3072, Some("pss")),
            ("tls", Kind::Rsa2048, Some("pkcs1-sha256")),
            ("tls", Kind::Rsa2048, Some("pss-sha384")),
            ("tls", Kind::MlDsa44, None),
            ("log", Kind::MlDsa44, None),
            ("log", Kind::Rsa3072, None),
            ("log", Kind::EcP384, None),
        ] {
            let why = held(name, kind, signature).unwrap_err().to_string();
            assert!(why.starts_with("CHY-CEREMONY-FILE"), "{why}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_before_any_token_is_touched() {
        let refused = |document: Document, keys: Vec<KeyFile>| {
            let error = Plan::new(document, keys).unwrap_err().to_string();
            assert!(error.starts_with("CHY-CEREMONY-FILE"), "{error}");
        };
        refused(document(), vec![key("issuing")]);
        refused(document(), [all(), vec![key("root")]].concat());
        refused(Document { log: None, ..document() }, all());
        refused(Document { root: None, ..document() }, all());
        refused(Document { root_crl_days: None, ..document() }, all());
        refused(Document { tokens: BTreeMap::new(), ..document() }, all());
        refused(Document { issuing: Some(template(None)), ..document() }, all());
        let mut open = template(Some(0));
        open.permitted_names.clear();
        refused(Document { issuing: Some(open), ..document() }, all());
        let mut twice = all();
        twice[1].label = twice[0].label.clone();
        refused(document(), twice);
        for url in [
            "https://ca.test/x",
            "http://ca.test",
            "http:///x",
            "http://ca.test/../x",
            "http://ca.test/a b",
        ] {
            let urls = Urls { crl: url.into(), ..document().urls };
            refused(Document { urls, ..document() }, all());
        }
        // What web does not serve, or would serve as something else.
        for (aia, crl) in [
            ("http://ca.test/issuing", "http://ca.test/issuing.crl"),
            ("http://ca.test/issuing.pem", "http://ca.test/issuing.crl"),
            ("http://ca.test/issuing.CER", "http://ca.test/issuing.crl"),
            ("http://ca.test/issuing.cer", "http://ca.test/issuing.der"),
            ("http://ca.test/issuing.cer", "http://ca.test/crl"),
            ("http://ca.test/issuing.cer", "http://ca.test/a/b/c/d/issuing.crl"),
            ("http://ca.test/root.der", "http://ca.test/issuing.crl"),
            // The root's CRL, at another host.
            ("http://ca.test/issuing.cer", "http://crl.test/crl/root.crl"),
        ] {
            let urls = Urls { aia: aia.into(), crl: crl.into(), ..document().urls };
            refused(Document { urls, ..document() }, all());
        }
        for origin in ["", "https://ca.test/log", "a b", "a+b"] {
            refused(
                Document { log: Some(LogEntry { origin: origin.into() }), ..document() },
                all(),
            );
        }
    }

    #[test]
    fn a_url_names_its_file() {
        assert_eq!(published_as("http://ca.lan/crl/root.crl"), Some("crl/root.crl".into()));
        assert_eq!(published_as("http://[::1]:8080/issuing.cer"), Some("issuing.cer".into()));
    }
}
