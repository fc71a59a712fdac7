//! From the merged tree to a `Config`, with the checks that need more than one value.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decode::decode;
use super::tree::{self, Node, Place, Value};
use super::{Config, ConfigError, Paths, PinSource};
use crate::acme::challenge::ChallengeType;
use crate::pki::authority::Authority;
use crate::pki::profile::Profile;

/// The whole of a configuration as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    board: Board,
    #[serde(default)]
    #[expect(dead_code, reason = "judged file by file before the files are merged")]
    fragment: Fragment,
    state: State,
    token: crate::hsm::pool::Settings,
    #[serde(default)]
    process: super::process::Settings,
    #[serde(default)]
    web: crate::web::Settings,
    #[serde(default)]
    issuer: crate::issuer::Settings,
    #[serde(default)]
    log: crate::log::Settings,
    #[serde(default)]
    validation: crate::validate::Settings,
    #[serde(default)]
    policy: crate::pki::policy::Settings,
    #[serde(default)]
    profiles: Vec<PathBuf>,
    default_profile: Option<String>,
}

/// The `[board]` table.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Board {
    /// Whether certificates of this box are relied on. Unless it says no, it is.
    production: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self { production: true }
    }
}

/// The `[fragment]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fragment {
    lab: bool,
}

/// The `[state]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    dir: PathBuf,
    pin: Pin,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pin {
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

    let paths = Paths { state: document.state.dir };
    let authority = read_authority(&paths.authority())?;
    if let Some(authority) = &authority {
        judge.within(&document.policy, authority)?;
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
        token: document.token,
        process: document.process,
        validation: document.validation,
        policy: document.policy,
        profiles,
        default_profile,
        authority,
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
fn resolve_token(reading: &mut tree::Reading) -> Result<(), ConfigError> {
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
    let known = if authority.log_key_rotations.is_empty() { 1 } else { 2 };
    if authority.version != known {
        return Err(broken(&format!("version {} is newer than this program", authority.version)));
    }
    Ok(Some(authority))
}

fn digest(config: &Config) -> Result<[u8; 32], ConfigError> {
    // What becomes of the log key is the issuer's alone: the other process need not begin anew for it.
    let authority = config.authority.as_ref().map(|authority| Authority {
        version: 1,
        log_key_rotations: Vec::new(),
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

fn place(root: &Node, path: &[&str]) -> Place {
    (0..=path.len())
        .rev()
        .find_map(|length| root.at(&path[..length]))
        .map_or_else(|| root.place.clone(), |node| node.place.clone())
}

/// Says no, with the place of the value that is to blame.
struct Judge<'a> {
    root: &'a Node,
}

impl Judge<'_> {
    fn refuse(&self, code: &str, path: &[&str], why: &str) -> ConfigError {
        let key = path.join(".");
        // A default that clashes with another value has no place of its own.
        let origin = if self.root.at(path).is_some() { "" } else { " (not set, the default)" };
        ConfigError(format!("{code}: {}: `{key}`{origin}: {why}", place(self.root, path)))
    }

    fn range<T: PartialOrd + std::fmt::Display>(
        &self,
        path: &[&str],
        value: T,
        low: T,
        high: T,
    ) -> Result<(), ConfigError> {
        if value < low || value > high {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                path,
                &format!("{value} does not lie between {low} and {high}"),
            ));
        }
        Ok(())
    }

    fn document(
        &self,
        document: &Document,
        profiles: &[Profile],
        default_profile: &str,
    ) -> Result<(), ConfigError> {
        if !profiles.iter().any(|profile| profile.name == default_profile) {
            let near = super::nearest(default_profile, profiles.iter().map(|p| p.name.as_str()))
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Err(self.refuse(
                "CHY-CONFIG-PROFILE",
                &["default-profile"],
                &format!("no profile is called `{default_profile}`{near}"),
            ));
        }
        if let Pin::Prompt(false) = document.state.pin {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &["state", "pin", "prompt"],
                "takes only true; for another source write { file = \"PATH\" } or { credential = \"NAME\" }",
            ));
        }
        if let Pin::Credential(name) = &document.state.pin
            && (name.is_empty() || name.contains('/') || name.starts_with('.'))
        {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &["state", "pin", "credential"],
                "takes the name of a systemd credential, without a path",
            ));
        }
        self.numbers(document)?;
        self.web(&document.web)?;
        self.issuer(&document.issuer)?;
        self.validation(&document.validation)?;
        if document.board.production {
            self.production(document)?;
        }
        let policy = crate::pki::policy::Policy::new(&document.policy).map_err(|bad| {
            self.refuse(
                "CHY-CONFIG-POLICY",
                &["policy", bad.list],
                &format!("`{}`: {}", bad.entry, bad.why),
            )
        })?;
        profiles.iter().try_for_each(|profile| {
            policy.check_profile(profile).map_err(|why| {
                let why = format!("profile `{}`: {why}", profile.name);
                self.refuse("CHY-CONFIG-PROFILE", &["profiles"], &why)
            })
        })
    }

    fn numbers(&self, document: &Document) -> Result<(), ConfigError> {
        let Document { web, issuer, log, token, validation, .. } = document;
        self.range(&["web", "connections"], web.connections, 1, 65_536)?;
        self.range(&["web", "connections-per-peer"], web.connections_per_peer, 1, 65_536)?;
        self.range(&["web", "handshakes"], web.handshakes, 1, 4_096)?;
        for (key, seconds) in [
            ("handshake-timeout-seconds", web.handshake_timeout_seconds),
            ("header-timeout-seconds", web.header_timeout_seconds),
            ("body-timeout-seconds", web.body_timeout_seconds),
            ("idle-timeout-seconds", web.idle_timeout_seconds),
        ] {
            self.range(&["web", key], seconds, 1, 3_600)?;
        }
        self.range(&["web", "grace-seconds"], web.grace_seconds, 0, 600)?;
        self.range(&["web", "order-hours"], web.order_hours, 1, 24 * 90)?;
        self.range(&["web", "authorization-hours"], web.authorization_hours, 1, 24 * 398)?;
        self.range(&["web", "retention-days"], web.retention_days, 1, 3_660)?;
        self.range(&["web", "renewal-info-hours"], web.renewal_info_hours, 1, 24)?;
        let limits = &web.limits;
        self.range(&["web", "limits", "name-tree-labels"], limits.name_tree_labels, 0, 10)?;
        self.range(
            &["web", "limits", "admissions-per-second"],
            limits.admissions_per_second,
            0,
            10_000,
        )?;
        self.range(&["web", "limits", "admission-burst"], limits.admission_burst, 1, 100_000)?;
        self.range(
            &["web", "limits", "admission-patience-seconds"],
            limits.admission_patience_seconds,
            0,
            60,
        )?;
        self.range(&["issuer", "tls-days"], issuer.tls_days, 1, 398)?;
        self.range(&["issuer", "crl-hours"], issuer.crl_hours, 2, 24 * 365)?;
        self.range(&["issuer", "clock-jump-hours"], issuer.clock_jump_hours, 1, 24 * 366)?;
        self.range(&["issuer", "crl-shards"], issuer.crl_shards, 1, crate::pki::crl::MAX_SHARDS)?;
        self.range(&["issuer", "witness-seconds"], issuer.witness_seconds, 1, 86_400)?;
        self.range(&["issuer", "workers"], issuer.workers, 1, 64)?;
        self.range(&["issuer", "queue"], issuer.queue, 1, 65_536)?;
        self.range(&["log", "segment-mib"], log.segment_mib, 1, 1_024)?;
        self.range(&["log", "reserve-mib"], log.reserve_mib, 1, 1_024)?;
        self.range(&["log", "queue"], log.queue, 1, 65_536)?;
        self.range(&["token", "threads"], token.threads, 1, 64)?;
        self.range(&["token", "queue"], token.queue, 1, 65_536)?;
        self.range(&["token", "deadline-seconds"], token.deadline_seconds, 1, 600)?;
        self.range(
            &["validation", "connect-timeout-seconds"],
            validation.connect_timeout_seconds,
            1,
            60,
        )?;
        self.range(
            &["validation", "total-timeout-seconds"],
            validation.total_timeout_seconds,
            1,
            300,
        )?;
        self.range(&["validation", "attempts"], validation.attempts, 1, 100)?;
        self.range(&["validation", "retry-seconds"], validation.retry_seconds, 1, 3_600)?;
        self.range(&["validation", "concurrency"], validation.concurrency, 1, 4_096)
    }

    fn web(&self, web: &crate::web::Settings) -> Result<(), ConfigError> {
        let path = ["web", "base-url"];
        let host = web.base_url.strip_prefix("https://");
        let plain =
            |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@' | b'"' | b'<' | b'>');
        if !host.is_some_and(|host| !host.is_empty() && host.bytes().all(plain)) {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &path,
                "takes an https:// URL without query",
            ));
        }
        if web.base_url.ends_with('/') {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &path,
                "takes a URL without a slash at its end",
            ));
        }
        crate::web::witness::check(&web.witnesses).map_err(|why| {
            ConfigError(format!("{why} ({})", place(self.root, &["web", "witnesses"])))
        })
    }

    fn issuer(&self, issuer: &crate::issuer::Settings) -> Result<(), ConfigError> {
        issuer.watched_keys().map(drop).map_err(|why| {
            ConfigError(format!("{why} ({})", place(self.root, &["issuer", "watched-logs"])))
        })
    }

    fn validation(&self, validation: &crate::validate::Settings) -> Result<(), ConfigError> {
        validation
            .check()
            .map_err(|bad| self.refuse("CHY-CONFIG-VALUE", &["validation", bad.key], &bad.why))
    }

    fn production(&self, document: &Document) -> Result<(), ConfigError> {
        if document.validation.allow_loopback {
            return Err(self.refuse(
                "CHY-CONFIG-BOARD",
                &["validation", "allow-loopback"],
                "is for labs, and this is a production board",
            ));
        }
        if document.process.unconfined {
            return Err(self.refuse(
                "CHY-CONFIG-BOARD",
                &["process", "unconfined"],
                "is for labs, and this is a production board",
            ));
        }
        let module = document.token.module.file_name().unwrap_or_default().to_string_lossy();
        if module.to_ascii_lowercase().contains("softhsm") {
            return Err(self.refuse(
                "CHY-CONFIG-SOFTHSM-PRODUCTION",
                &["token", "module"],
                "SoftHSM2 keeps keys in ordinary files; use a real token, or set [board] production = false",
            ));
        }
        Ok(())
    }

    /// The policy allows nothing that the issuing certificate's name constraints forbid.
    fn within(
        &self,
        policy: &crate::pki::policy::Settings,
        authority: &Authority,
    ) -> Result<(), ConfigError> {
        let Some(issuing) = &authority.issuing else { return Ok(()) };
        let issuing = crate::pki::certificate::Certificate::parse_pem(issuing).map_err(|why| {
            ConfigError(format!("CHY-CA-BROKEN: the issuing certificate: {}", why.0))
        })?;
        crate::pki::policy::Policy::new(policy)
            .map_err(|bad| format!("`{}`: {}", bad.entry, bad.why))
            .and_then(|policy| policy.check_within(&issuing))
            .map_err(|why| self.refuse("CHY-CONFIG-POLICY", &["policy"], &why))
    }
}
