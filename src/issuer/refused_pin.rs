//! Remembers on disk that the token refused a PIN, so that no restart tries the same one again and
//! locks the token. A changed PIN is tried.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use secrecy::ExposeSecret;

use crate::env::{Disk, Rng, random_16};
use crate::hsm::pool::Pin;

/// The file `pin-refused` in the issuer's own directory: a salt and a slow hash of the refused PIN.
/// The PIN in it is a wrong one, and still not to be had from it cheaply.
pub struct RefusedPin {
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    path: PathBuf,
}

impl RefusedPin {
    /// `dir` is the issuer's own directory.
    pub fn new(disk: Arc<dyn Disk>, rng: Arc<dyn Rng>, dir: &Path) -> Self {
        Self { disk, rng, path: dir.join("pin-refused") }
    }

    /// Whether this very PIN was refused. A file that does not parse counts for every PIN: better an
    /// operator who must remove it than a token that is locked.
    pub fn is_refused(&self, pin: &Pin) -> bool {
        match self.disk.read(&self.path, FILE as u64) {
            Ok(bytes) => match bytes.split_first_chunk::<SALT>() {
                Some((salt, hash)) if hash.len() == HASH => pbkdf2::verify(
                    PBKDF2_HMAC_SHA256,
                    ROUNDS,
                    salt,
                    pin.0.expose_secret().as_bytes(),
                    hash,
                )
                .is_ok(),
                _ => true,
            },
            Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Called when the token refused it.
    pub fn remember(&self, pin: &Pin) -> std::io::Result<()> {
        let salt = random_16(&*self.rng);
        let mut file = salt.to_vec();
        file.resize(FILE, 0);
        let secret = pin.0.expose_secret().as_bytes();
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ROUNDS, &salt, secret, &mut file[SALT..]);
        self.disk.replace(&self.path, &file, true)
    }

    /// Called when a PIN was accepted.
    pub fn forget(&self) {
        let _ = self.disk.remove(&self.path);
    }

    /// For the operator's message.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

const SALT: usize = 16;
const HASH: usize = 32;
const FILE: usize = SALT + HASH;
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
