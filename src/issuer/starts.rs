//! What the log says of every start of the issuer: which program, which configuration, which token, and how
//! the process before it ended.
//!
//! A file in the issuer's own directory remembers between processes what the log cannot say: whether the last
//! one ended as it should, how many starts have no record yet, and digests of the configuration's values, so
//! that a change can be told by its keys. Lost, it costs that much and nothing else.
//!
//! A box that starts again every few seconds must not fill its disk with it: there are at most six such
//! records an hour, and the next one says for how many starts it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::core::{Core, NotNow, Part, lock};
use crate::hsm::token::{ModuleInfo, TokenInfo};
use crate::id::{LeafIndex, Timestamp, hex};
use crate::log::Release;
use crate::log::record::{ConfigChangedV1, ConfigPartV1, PreviousEnd, Record, StartedV1, TokenV1};
use crate::log::tree::{Hash, sha256};

/// Asks which module and token these are; `None` while none has answered.
pub type TokenIdentity = Arc<dyn Fn() -> Option<(ModuleInfo, TokenInfo)> + Send + Sync>;

/// The program that runs.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub version: &'static str,
    /// SHA-256 over its file; asked once, off the way to being ready.
    pub digest: fn() -> Option<[u8; 32]>,
}

/// The configuration in force, by digests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    sha256: Hash,
    parts: Vec<ConfigPartV1>,
    /// A short digest of each value by its key, such as `issuer.crl-shards`.
    keys: BTreeMap<String, String>,
}

impl Configuration {
    /// From the digest that both processes compare, and the effective settings as JSON.
    pub fn of(sha256: [u8; 32], settings: &Value) -> Self {
        let mut this = Self { sha256, parts: Vec::new(), keys: BTreeMap::new() };
        for (name, value) in settings.as_object().into_iter().flatten() {
            match value.as_array().filter(|_| name == "profiles") {
                Some(profiles) => {
                    for profile in profiles {
                        let own = profile.get("name").and_then(Value::as_str).unwrap_or_default();
                        this.part(&format!("{name}.{own}"), profile);
                    }
                }
                None => this.part(name, value),
            }
        }
        this
    }

    /// The digests of its tables and profiles, as the log states them.
    pub fn parts(&self) -> &[ConfigPartV1] {
        &self.parts
    }

    fn part(&mut self, name: &str, value: &Value) {
        self.leaves(name, value);
        if self.parts.len() < MOST_PARTS {
            let sha256 = sha256(value.to_string().as_bytes());
            self.parts.push(ConfigPartV1 { name: short(name), sha256 });
        }
    }

    fn leaves(&mut self, path: &str, value: &Value) {
        match value.as_object() {
            Some(table) => {
                table.iter().for_each(|(key, value)| self.leaves(&format!("{path}.{key}"), value));
            }
            None => {
                let digest = sha256(value.to_string().as_bytes());
                self.keys.insert(short(path), hex(&digest[..8]));
            }
        }
    }
}

/// A name as the log takes it.
fn short(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MOST_CHARACTERS).collect()
}

pub(super) struct Starts {
    core: Arc<Core>,
    program: Program,
    built: Timestamp,
    identity: TokenIdentity,
    configuration: Configuration,
    previous: PreviousEnd,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    memory: Memory,
    configured: bool,
    recorded: bool,
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    version: u32,
    /// Whether a process is at work, or ended without saying so.
    running: bool,
    /// Starts without a record, the present one included.
    starts: u32,
    /// When the newest records were made.
    recorded: Vec<Timestamp>,
    configured: Option<Configured>,
}

/// What was last recorded of the configuration.
#[derive(Serialize, Deserialize)]
struct Configured {
    leaf: LeafIndex,
    keys: BTreeMap<String, String>,
}

impl Starts {
    /// Remembers that a process runs; from here on an end that is not `end` was not a clean one.
    pub(super) fn begin(
        core: Arc<Core>,
        program: Program,
        built: Timestamp,
        identity: TokenIdentity,
        configuration: Configuration,
    ) -> Result<Self, String> {
        let path = core.dir.join(FILE);
        let read = core.disk.read(&path, MAX_FILE).ok();
        let read = read.and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        let known = read.filter(|memory| memory.version == VERSION);
        let previous = match &known {
            None => PreviousEnd::Unknown,
            Some(memory) if memory.running => PreviousEnd::Unclean,
            Some(_) => PreviousEnd::Clean,
        };
        let mut memory = known.unwrap_or_default();
        memory.version = VERSION;
        memory.running = true;
        memory.starts = memory.starts.saturating_add(1);
        let state = Mutex::new(State { memory, configured: false, recorded: false });
        let this = Self { core, program, built, identity, configuration, previous, path, state };
        this.write(&lock(&this.state).memory).map_err(|error| {
            format!(
                "CHY-STATE-DIR: {}: {error}; the issuer must be able to write its own directory",
                this.path.display()
            )
        })?;
        Ok(this)
    }

    /// Records configuration and start, each once, as soon as the clock is believed and there is room.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let mut state = lock(&self.state);
        if !state.configured {
            self.configure(&mut state.memory)?;
            state.configured = true;
        }
        if !state.recorded {
            state.recorded = self.record(&mut state.memory)?;
        }
        Ok(())
    }

    /// This process ends, and left nothing half done.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.memory.running = false;
        if let Err(error) = self.write(&state.memory) {
            tracing::warn!(%error, path = %self.path.display(), "the next start will take this end for a crash");
        }
    }

    fn configure(&self, memory: &mut Memory) -> Result<(), NotNow> {
        let former = memory.configured.as_ref().and_then(|configured| self.former(configured));
        let Configuration { sha256, parts, keys } = &self.configuration;
        if former == Some(*sha256) {
            return Ok(());
        }
        let before = memory.configured.as_ref().filter(|_| former.is_some());
        let (changed, unlisted) = match before {
            Some(before) => {
                let mut changed = changes(&before.keys, keys);
                let unlisted = changed.len().saturating_sub(MOST_KEYS);
                changed.truncate(MOST_KEYS);
                (Some(changed), u32::try_from(unlisted).unwrap_or(u32::MAX))
            }
            None => (None, 0),
        };
        tracing::warn!(?changed, unlisted, "the configuration is another than the log knows");
        let record = ConfigChangedV1 {
            at: self.core.now()?,
            former,
            sha256: *sha256,
            parts: parts.clone(),
            changed,
            unlisted,
        };
        let done = self.core.append_wait(Record::ConfigChangedV1(record), Release::Durable)?;
        memory.configured = Some(Configured { leaf: done.leaf, keys: keys.clone() });
        self.remember(memory)
    }

    /// The digest that the log states at the leaf which is remembered. A log that was put back to an older
    /// state does not state it.
    fn former(&self, configured: &Configured) -> Option<Hash> {
        match self.core.log.read(configured.leaf) {
            Ok(Record::ConfigChangedV1(record)) => Some(record.sha256),
            _ => None,
        }
    }

    /// Whether the start has its record; without one it is not its turn yet.
    fn record(&self, memory: &mut Memory) -> Result<bool, NotNow> {
        let now = self.core.now()?;
        memory.recorded.retain(|at| now.since(*at).max(at.since(now)) < WITHIN);
        if memory.recorded.len() >= MOST_RECORDS {
            return Ok(false);
        }
        // Counted before it is made: a crash between the two costs a record and never adds one.
        memory.recorded.push(now);
        self.remember(memory)?;
        let found = self.core.log.found();
        let record = StartedV1 {
            at: now,
            version: self.program.version.to_owned(),
            built: self.built,
            program_sha256: (self.program.digest)(),
            config_sha256: self.configuration.sha256,
            token: (self.identity)().map(|(module, token)| described(module, token)),
            previous: self.previous,
            starts: memory.starts,
            found: found.size,
            torn: found.torn,
        };
        self.core.append_wait(Record::StartedV1(record), Release::Durable)?;
        memory.starts = 0;
        self.remember(memory)?;
        Ok(true)
    }

    fn remember(&self, memory: &Memory) -> Result<(), NotNow> {
        let path = self.path.display();
        match self.write(memory) {
            Ok(()) => {
                self.core.problems.clear(Part::Starts);
                Ok(())
            }
            Err(error) => {
                let why = format!("{path}: {error}; make it writable for the issuer");
                self.core.problems.set(Part::Starts, "CHY-STATE-DIR", why);
                Err(NotNow::Wait(Duration::from_secs(5)))
            }
        }
    }

    fn write(&self, memory: &Memory) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(memory).map_err(std::io::Error::other)?;
        self.core.disk.replace(&self.path, &bytes, true)
    }
}

/// The keys whose value is another, was added or is gone.
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    let other = now.iter().filter(|(key, digest)| before.get(*key) != Some(*digest));
    let mut changed: Vec<String> = gone.chain(other.map(|(key, _)| key)).cloned().collect();
    changed.sort();
    changed
}

fn described(module: ModuleInfo, token: TokenInfo) -> TokenV1 {
    TokenV1 {
        label: short(&token.label),
        manufacturer: short(&token.manufacturer),
        model: short(&token.model),
        serial: short(&token.serial),
        firmware: short(&token.firmware),
        module: short(&module.description),
        module_version: short(&module.version),
    }
}

/// In the issuer's own directory.
const FILE: &str = "starts.json";
const VERSION: u32 = 1;
const MAX_FILE: u64 = 1 << 20;
/// Records of starts within `WITHIN` at most.
const MOST_RECORDS: usize = 6;
const WITHIN: Duration = Duration::from_secs(3600);
/// With these a leaf holds the largest record.
const MOST_PARTS: usize = 128;
const MOST_KEYS: usize = 64;
const MOST_CHARACTERS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(shards: u32, days: u32) -> Value {
        json!({
            "default-profile": "device",
            "issuer": {"crl-shards": shards, "tls-names": ["ca.lan"]},
            "profiles": [{"name": "device", "days": days}, {"name": "server", "days": 90}],
        })
    }

    #[test]
    fn changes_are_told_by_their_keys_and_parts_by_digest() {
        let (one, two) = (settings(8, 90), settings(4, 30));
        let (one, two) = (Configuration::of([1; 32], &one), Configuration::of([2; 32], &two));
        assert_eq!(changes(&one.keys, &two.keys), ["issuer.crl-shards", "profiles.device.days"]);
        assert_eq!(changes(&one.keys, &one.keys), Vec::<String>::new());
        let names: Vec<&str> = one.parts().iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["default-profile", "issuer", "profiles.device", "profiles.server"]);
        let same: Vec<bool> = one.parts().iter().zip(two.parts()).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, false, false, true]);
        // As `jq -cSj .issuer | sha256sum` has it.
        assert_eq!(one.parts()[1].sha256, sha256(br#"{"crl-shards":8,"tls-names":["ca.lan"]}"#));
        let gone = Configuration::of([3; 32], &json!({"default-profile": "device"}));
        assert_eq!(changes(&one.keys, &gone.keys).len(), 6);
    }

    #[test]
    fn the_largest_configuration_is_a_leaf() {
        let name = |n: usize| format!("{n:04}{}", "\u{1f512}".repeat(200));
        let settings = |value: u32| {
            let tables: serde_json::Map<String, Value> =
                (0..1000).map(|n| (name(n), json!({name(n): value}))).collect();
            Configuration::of([value as u8; 32], &Value::Object(tables))
        };
        let (one, two) = (settings(1), settings(2));
        let mut changed = changes(&one.keys, &two.keys);
        changed.truncate(MOST_KEYS);
        let record = ConfigChangedV1 {
            at: Timestamp(u64::MAX),
            former: Some(one.sha256),
            sha256: two.sha256,
            parts: two.parts,
            changed: Some(changed),
            unlisted: u32::MAX,
        };
        assert_eq!(record.parts.len(), MOST_PARTS);
        Record::ConfigChangedV1(record).encode().unwrap();
    }
}
