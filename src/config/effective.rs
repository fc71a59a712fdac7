//! From the merged tree to a `Config`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decode::decode;
use super::judge::{Judge, place};
use super::tree::{self, Node, Value};
use super::{Config, ConfigError, Paths, PinSource};
use crate::acme::challenge::ChallengeType;
use crate::env::system::SystemDisk;
use crate::pki::authority::Authority;
use crate::pki::profile::Profile;
use crate::pki::uri::{Pkcs11Uri, UriError};
use crate::state::Written;

/// The whole of a configuration as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Document {
    #[serde(default)]
    pub(super) board: Board,
    #[serde(default)]
    #[expect(dead_code, reason = "judged file by file before the files are merged")]
    pub(super) fragment: Fragment,
    pub(super) state: State,
    pub(super) token: crate::hsm::pool::Settings,
    #[serde(default)]
    pub(super) process: super::process::Settings,
    #[serde(default)]
    pub(super) web: crate::web::Settings,
    #[serde(default)]
    pub(super) issuer: crate::issuer::Settings,
    #[serde(default)]
    pub(super) log: crate::log::Settings,
    #[serde(default)]
    pub(super) backup: crate::backup::Settings,
    #[serde(default)]
    pub(super) validation: crate::validate::Settings,
    #[serde(default)]
    pub(super) policy: crate::pki::policy::Settings,
    #[serde(default)]
    pub(super) profiles: Vec<PathBuf>,
    pub(super) default_profile: Option<String>,
}

/// The `[board]` table.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Board {
    /// Whether certificates of this box are relied on. Unless it says no, it is.
    pub(super) production: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self { production: true }
    }
}

/// The `[fragment]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fragment {
    lab: bool,
}

/// The `[state]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) dir: PathBuf,
    pub(super) pin: Pin,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pin {
    File(PathBuf),
    Credential(String),
    Prompt(bool),
}

/// What is in force, as `config show` prints it and as the digest covers it. Scalars before tables, since TOML
/// wants it so.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Effective<'a> {
    default_profile: &'a str,
    board: Board,
    state: EffectiveState<'a>,
    token: &'a crate::hsm::pool::Settings,
    process: &'a super::process::Settings,
    web: &'a crate::web::Settings,
    issuer: &'a crate::issuer::Settings,
    log: &'a crate::log::Settings,
    backup: &'a crate::backup::Settings,
    validation: &'a crate::validate::Settings,
    policy: &'a crate::pki::policy::Settings,
    profiles: &'a [Profile],
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a Authority>,
}

#[derive(Serialize)]
struct EffectiveState<'a> {
    dir: &'a Path,
    pin: std::collections::BTreeMap<&'static str, String>,
}

impl<'a> Effective<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let pin = match &config.pin {
            PinSource::File(path) => ("file", path.display().to_string()),
            PinSource::Credential(name) => ("credential", name.clone()),
            PinSource::Prompt => ("prompt", "true".to_owned()),
        };
        Self {
            default_profile: &config.default_profile,
            board: Board { production: config.production },
            state: EffectiveState { dir: &config.paths.state, pin: [pin].into() },
            token: &config.token,
            process: &config.process,
            web: &config.web,
            issuer: &config.issuer,
            log: &config.log,
            backup: &config.backup,
            validation: &config.validation,
            policy: &config.policy,
            profiles: &config.profiles,
            authority: config.authority.as_ref(),
        }
    }
}

/// The whole way from a file to a checked configuration.
pub(super) fn load(file: &Path) -> Result<Config, ConfigError> {
    let mut reading = tree::read(file)?;
    refuse_secrets(&reading.root)?;
    resolve_token(&mut reading)?;
    resolve_paths(&mut reading.root);
    let document: Document = decode(&reading.root)?;
    let judge = Judge { root: &reading.root };

    if document.board.production
        && let Some(place) = reading.lab.first()
    {
        return Err(ConfigError(format!(
            "CHY-CONFIG-BOARD: {place}: this fragment is for labs, and the board is a production board; remove it \
             from `inherit`, or set [board] production = false"
        )));
    }
    let profiles = read_profiles(&document.profiles, &reading.root)?;
    let default_profile =
        document.default_profile.clone().unwrap_or_else(|| profiles[0].name.clone());
    judge.document(&document, &profiles, &default_profile)?;
    if document.board.production
        && let Ok(behind_links) = document.token.module.canonicalize()
    {
        judge.no_software(&behind_links)?;
    }

    let paths = Paths { state: document.state.dir };
    // Before anything that a newer release may have written.
    let written = Written::read(&SystemDisk, &paths.ca()).map_err(ConfigError)?;
    let authority = read_authority(&paths.authority())?;
    if let Some(authority) = &authority {
        judge.within(&document.policy, &profiles, authority)?;
    }
    // The issuer publishes no entries that nobody may read.
    let entries = !document.web.log_entries_for.is_empty();
    let log = crate::log::Settings { entries, ..document.log };
    let mut config = Config {
        paths,
        pin: match document.state.pin {
            Pin::File(path) => PinSource::File(path),
            Pin::Credential(name) => PinSource::Credential(name),
            Pin::Prompt(_) => PinSource::Prompt,
        },
        web: document.web,
        issuer: document.issuer,
        log,
        backup: document.backup,
        token: crate::hsm::pool::Settings {
            refuse_software: document.board.production,
            ..document.token
        },
        process: document.process,
        validation: document.validation,
        policy: document.policy,
        profiles,
        default_profile,
        authority,
        written,
        files: reading.files.iter().map(|file| file.to_path_buf()).collect(),
        production: document.board.production,
        digest: [0; 32],
    };
    config.digest = digest(&config)?;
    Ok(config)
}

/// Whether a file is a whole configuration (`true`) or a good part of one: the keys that have no default are
/// then taken from elsewhere, and it is not judged as a production board, which it may not become.
pub(super) fn check(file: &Path) -> Result<bool, ConfigError> {
    let reading = tree::read(file)?;
    if reading.root.at(&["state"]).is_some() && reading.root.at(&["token"]).is_some() {
        return load(file).map(|_| true);
    }
    let mut filled = tree::parse(FILLING, &Arc::from(Path::new("(filling)")))?;
    refuse_secrets(&reading.root)?;
    filled.merge(reading.root);
    let profiles: Vec<PathBuf> = match filled.at(&["profiles"]) {
        Some(_) => {
            resolve_paths(&mut filled);
            decode::<Document>(&filled)?.profiles
        }
        None => Vec::new(),
    };
    let profiles = read_profiles(&profiles, &filled)?;
    let document: Document = decode(&filled)?;
    let default = document.default_profile.clone().unwrap_or_else(|| profiles[0].name.clone());
    Judge { root: &filled }.document(&document, &profiles, &default).map(|()| false)
}

const FILLING: &str = "board.production = false
token.module = \"module.so\"
[state]
dir = \"/nowhere\"
pin.prompt = true
";

/// As much of `load` as one text allows.
pub(super) fn judge(text: &str) -> Result<(), ConfigError> {
    let file: Arc<Path> = Arc::from(Path::new("(text)"));
    let mut root = tree::parse(text, &file)?;
    refuse_secrets(&root)?;
    resolve_paths(&mut root);
    let document: Document = decode(&root)?;
    let profiles = [Profile::server()];
    let default = document.default_profile.clone().unwrap_or_else(|| profiles[0].name.clone());
    Judge { root: &root }.document(&document, &profiles, &default)
}

/// Refuses every text or number under a key that names a secret.
pub(super) fn refuse_secrets(node: &Node) -> Result<(), ConfigError> {
    match &node.value {
        Value::Text(text) if holds_pin(text) => Err(ConfigError(format!(
            "{}: {}: {}",
            UriError::PinValue.code(),
            node.place,
            UriError::PinValue
        ))),
        Value::Array(items) => items.iter().try_for_each(refuse_secrets),
        Value::Table(table) => table.iter().try_for_each(|(key, (_, value))| {
            let secret = SECRETS.contains(&key.to_ascii_lowercase().replace('_', "-").as_str());
            if secret && matches!(value.value, Value::Text(_) | Value::Integer(_) | Value::Float(_)) {
                return Err(ConfigError(format!(
                    "CHY-CONFIG-SECRET: {}: `{key}` holds the secret itself, and secrets have no place in a \
                     configuration; write {{ file = \"PATH\" }}, {{ credential = \"NAME\" }} or {{ prompt = true }}, \
                     and change the secret",
                    value.place
                )));
            }
            refuse_secrets(value)
        }),
        _ => Ok(()),
    }
}

/// Whether a text is a PKCS#11 URI with a PIN in it, be it well-formed or not.
fn holds_pin(text: &str) -> bool {
    let text = text.trim_start().to_ascii_lowercase();
    text.starts_with("pkcs11:") && text.contains("pin-value")
}

const SECRETS: &[&str] = &[
    "pin",
    "user-pin",
    "so-pin",
    "pin-value",
    "password",
    "passphrase",
    "secret",
    "hmac-key",
    "private-key",
];

/// `token = "FILE"` stands for the content of that file.
pub(super) fn resolve_token(reading: &mut tree::Reading) -> Result<(), ConfigError> {
    let Some(token) = reading.root.at_mut(&["token"]) else { return Ok(()) };
    let Value::Text(path) = &token.value else { return Ok(()) };
    let mut inner = tree::read(&tree::beside(&token.place.file, path))?;
    refuse_secrets(&inner.root)?;
    reading.files.append(&mut inner.files);
    reading.lab.append(&mut inner.lab);
    *token = inner.root;
    Ok(())
}

fn resolve_paths(root: &mut Node) {
    for path in [["state", "dir"].as_slice(), &["state", "pin", "file"]] {
        if let Some(node) = root.at_mut(path) {
            node.make_absolute();
        }
    }
    if let Some(Node { value: Value::Array(witnesses), .. }) = root.at_mut(&["web", "witnesses"]) {
        let roots = witnesses.iter_mut().filter_map(|witness| witness.at_mut(&["roots"]));
        roots.for_each(Node::make_absolute);
    }
    // A bare name is for the dynamic linker to find.
    if let Some(module) = root.at_mut(&["token", "module"])
        && matches!(&module.value, Value::Text(text) if text.contains('/'))
    {
        module.make_absolute();
    }
    if let Some(Node { value: Value::Array(profiles), .. }) = root.at_mut(&["profiles"]) {
        profiles.iter_mut().for_each(Node::make_absolute);
    }
}

/// The profile files, or the built-in profile where none is named.
fn read_profiles(files: &[PathBuf], root: &Node) -> Result<Vec<Profile>, ConfigError> {
    if files.is_empty() {
        return Ok(vec![Profile::server()]);
    }
    let mut profiles: Vec<Profile> = Vec::with_capacity(files.len());
    for file in files {
        let profile = read_profile(file)?;
        if profiles.iter().any(|other| other.name == profile.name) {
            let place = place(root, &["profiles"]);
            return Err(ConfigError(format!(
                "CHY-CONFIG-PROFILE: {place}: two profiles are named `{}`; the second is {}",
                profile.name,
                file.display()
            )));
        }
        profiles.push(profile);
    }
    Ok(profiles)
}

/// One profile's file, checked.
pub(super) fn read_profile(file: &Path) -> Result<Profile, ConfigError> {
    let profile = super::read(file)?;
    check_profile(&profile)
        .map_err(|why| ConfigError(format!("CHY-CONFIG-PROFILE: {}: {why}", file.display())))?;
    Ok(profile)
}

fn check_profile(profile: &Profile) -> Result<(), String> {
    if profile.name.starts_with('_') {
        return Err("`name`: names that begin with `_` are the box's own".into());
    }
    if let Some(key) =
        profile.keys.iter().find(|key| !Profile::KEYS.iter().any(|(name, _)| name == key))
    {
        let known = Profile::KEYS.iter().map(|(name, _)| *name);
        let hint = super::nearest(key, known.clone()).map_or_else(
            || known.collect::<Vec<_>>().join(", "),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(format!("`keys`: `{key}` is no kind of key; {hint}"));
    }
    let known = ChallengeType::ALL.map(ChallengeType::name);
    if let Some(unknown) = profile.challenges.iter().find(|name| !known.contains(&name.as_str())) {
        let hint = super::nearest(unknown, known)
            .map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(format!("`challenges`: `{unknown}` is no challenge type; {hint}"));
    }
    profile.check()
}

fn read_authority(file: &Path) -> Result<Option<Authority>, ConfigError> {
    let broken = |why: &dyn std::fmt::Display| {
        ConfigError(format!("CHY-CA-BROKEN: {}: {why}", file.display()))
    };
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(&error)),
    };
    let authority: Authority = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
    for key in authority.keys() {
        Pkcs11Uri::parse(&key.uri).map_err(|why| match why {
            UriError::PinValue => ConfigError(format!("{}: {}: {why}", why.code(), file.display())),
            UriError::Bad(_) => broken(&format!("the URI of a key: {why}")),
        })?;
    }
    if authority.version != authority.least_version() {
        return Err(broken(&format!("version {} is newer than this program", authority.version)));
    }
    Ok(Some(authority))
}

fn digest(config: &Config) -> Result<[u8; 32], ConfigError> {
    // What becomes of the log key and of the TLS key is the issuer's alone: the other process need not begin anew for
    // it. There is always a log key, so it stands for both.
    let authority = config.authority.as_ref().map(|authority| Authority {
        version: 1,
        log_key_rotations: Vec::new(),
        tls_key: authority.log_key.clone(),
        former_tls: None,
        older_tls: Vec::new(),
        former_logs: Vec::new(),
        ..authority.clone()
    });
    let of = Effective { authority: authority.as_ref(), ..Effective::of(config) };
    let bytes = serde_json::to_vec(&of).map_err(|error| {
        ConfigError(format!("CHY-INTERNAL: the configuration cannot be digested: {error}"))
    })?;
    let mut sum = [0; 32];
    sum.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref());
    Ok(sum)
}
