//! How a token model is to be used.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hsm::Class;

/// The `[token]` table, and the content of `hsm/token/*.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Path of the PKCS#11 module.
    pub module: PathBuf,
    /// Threads, each with a session of its own; one more session stays open as the anchor of the login.
    #[serde(default = "one")]
    pub threads: usize,
    /// Signatures waiting at most, over all classes; at least 8.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// A PKCS#11 call that takes longer is taken for hung: the process aborts.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u64,
    /// Initializing the module anew this often in a row without success, after it once worked, ends the
    /// process: some modules recover in no other way.
    #[serde(default = "default_restart_after")]
    pub restart_after: u32,
    /// A key that makes a second wrong signature within so many hours stays out until an operator lifts it; 0:
    /// each is forgiven after the trials.
    #[serde(default = "default_quarantine")]
    pub quarantine_hours: u32,
    /// How much of each class waits, and for how long.
    #[serde(default)]
    pub classes: Classes,
    /// Where the key of TLS handshakes is.
    #[serde(default)]
    pub tls_key: TlsKey,
    /// Where this model differs from the standard.
    #[serde(default)]
    pub quirks: Quirks,
    /// Whether a token in software is refused. Written in no file: it follows from `[board] production`.
    #[serde(skip)]
    pub refuse_software: bool,
}

/// Where the key of TLS handshakes is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsKey {
    /// On the token, as the ceremony made it.
    #[default]
    Token,
    /// In the memory of the issuer, another at each start: for tokens too slow to answer handshakes.
    Memory,
}

/// The `[token.classes]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Classes {
    pub certificate: ClassSettings,
    pub checkpoint: ClassSettings,
    pub tls: ClassSettings,
    pub crl: ClassSettings,
    pub cosignature: ClassSettings,
}

/// What a class may have of the queue; what is not said depends on the class.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ClassSettings {
    /// Signatures waiting at most.
    pub queue: Option<usize>,
    /// What has waited so long, or would, is given back.
    pub patience_seconds: Option<u64>,
}

impl Classes {
    fn of(&self, class: Class) -> &ClassSettings {
        match class {
            Class::Certificate => &self.certificate,
            Class::Checkpoint => &self.checkpoint,
            Class::Tls => &self.tls,
            Class::Crl => &self.crl,
            Class::Cosignature => &self.cosignature,
        }
    }

    /// How many of a class may wait in a queue of `limit`.
    pub(super) fn room(&self, class: Class, limit: usize) -> usize {
        self.of(class).queue.unwrap_or(match class {
            Class::Certificate | Class::Checkpoint | Class::Crl => limit,
            Class::Tls => limit / 2,
            Class::Cosignature => limit / 8,
        })
    }

    pub(super) fn patience(&self, class: Class) -> Duration {
        Duration::from_secs(self.of(class).patience_seconds.unwrap_or(match class {
            Class::Certificate => 120,
            Class::Checkpoint | Class::Crl => 60,
            // As long as the web process waits for them.
            Class::Tls | Class::Cosignature => 10,
        }))
    }

    /// The class that could never sign, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        Class::ALL.into_iter().try_for_each(|class| {
            let settings = self.of(class);
            if settings.queue == Some(0) {
                return Err((class.name(), "queue is 0; nothing of this class could wait"));
            }
            if settings.patience_seconds == Some(0) {
                return Err((
                    class.name(),
                    "patience-seconds is 0; nothing of this class could be signed",
                ));
            }
            Ok(())
        })
    }
}

/// Where a token model differs from the standard.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Quirks {
    /// Attributes the model refuses in a key template: `copyable`, `modifiable`, `sign-recover`,
    /// `unwrap`, `derive`, `decrypt`.
    pub omit: Vec<String>,
    /// Ed25519 is named by the PrintableString `edwards25519` instead of its OID.
    pub ed25519_as_name: bool,
    /// The keys are clones made by the maker's own means, so that CKA_LOCAL may be false.
    pub cloned: bool,
}

fn one() -> usize {
    1
}
fn default_queue() -> usize {
    256
}
fn default_deadline() -> u64 {
    20
}
fn default_restart_after() -> u32 {
    10
}

fn default_quarantine() -> u32 {
    24
}

impl Settings {
    /// A module with every default.
    pub fn new(module: PathBuf) -> Self {
        Self {
            module,
            threads: one(),
            queue: default_queue(),
            deadline_seconds: default_deadline(),
            restart_after: default_restart_after(),
            quarantine_hours: default_quarantine(),
            classes: Classes::default(),
            tls_key: TlsKey::default(),
            quirks: Quirks::default(),
            refuse_software: false,
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }

    pub(super) fn quarantine(&self) -> Duration {
        Duration::from_secs(u64::from(self.quarantine_hours) * 3600)
    }
}
