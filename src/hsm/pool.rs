//! Threads that own sessions: one session each, handles cached per login, a bounded queue weighted
//! by class, a watchdog for calls that never return, and the recovery machine.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Class, OnSigned, SignError, Signer};
use crate::pki::key::PublicKey;

/// The `[token]` table, and the content of `hsm/token/*.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Path of the PKCS#11 module.
    pub module: std::path::PathBuf,
    /// Threads, each with a session of its own.
    #[serde(default = "one")]
    pub threads: usize,
    /// Signatures waiting at most, over all classes.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// A PKCS#11 call that takes longer is taken for hung: the process aborts.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u64,
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

/// Which key, and the public key it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPin {
    pub name: String,
    pub uri: crate::pki::uri::Pkcs11Uri,
    pub spki: Vec<u8>,
}

/// One token's signers.
pub struct Pool {
    _private: (),
}

/// A key of the pool.
#[derive(Clone)]
pub struct Key {
    _private: (),
}

impl Pool {
    /// Starts the threads; does not wait for the token (its absence is a state, not an error).
    pub fn start(
        settings: Settings,
        keys: Vec<KeyPin>,
        pin: Pin,
        clock: Arc<dyn crate::env::Clock>,
        health: super::health::Observer,
    ) -> Result<Self, String> {
        todo!()
    }
    pub fn key(&self, name: &str) -> Option<Key> {
        todo!()
    }
    pub fn health(&self) -> super::health::TokenHealth {
        todo!()
    }
    /// Waits until the keys are ready or `deadline` has passed.
    pub fn wait_ready(&self, deadline: Duration) -> super::health::TokenHealth {
        todo!()
    }
}

impl Key {
    /// Queues a signature; `then` is called exactly once.
    pub fn submit(&self, class: Class, message: Vec<u8>, then: OnSigned) {
        todo!()
    }
    /// A blocking signer of one class.
    pub fn signer(&self, class: Class) -> Arc<dyn Signer> {
        todo!()
    }
    pub fn public_key(&self) -> &PublicKey {
        todo!()
    }
}

/// The user PIN. Redacted in `Debug`, zeroed on drop.
pub struct Pin(pub secrecy::SecretString);
