//! The PIN: where it comes from, and the memory of one that was refused.
//!
//! Tokens lock after a few wrong PINs, so one that was refused is not tried again by any restart. What is
//! remembered is a slow salted hash, in a file only the issuer can read; who can read that file can read the
//! PIN's own file as well.

use std::io::{BufRead, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::pbkdf2;
use base64ct::{Base64, Encoding};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Failure;
use crate::config::PinSource;
use crate::env::{Disk, Rng, random_16};
use crate::hsm::pool::Pin;

/// Reads the PIN from where the configuration says. Only the issuer and the operator's tools call this.
pub fn read(source: &PinSource) -> Result<Pin, Failure> {
    let pin = match source {
        PinSource::File(path) => read_file(path)?,
        PinSource::Credential(name) => read_file(&credential(name)?)?,
        PinSource::Prompt => prompt()?,
    };
    Ok(Pin(pin))
}

fn credential(name: &str) -> Result<PathBuf, Failure> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => Ok(Path::new(&directory).join(name)),
        None => Err(Failure::operator(format!(
            "CHY-PIN-FILE: the PIN is the systemd credential `{name}`, but there is no $CREDENTIALS_DIRECTORY; start \
             the issuer from its unit with LoadCredential={name}:PATH"
        ))),
    }
}

/// Whether a PIN file may be used, without reading it: exists, is a file, and no one else can read it.
pub fn check_file(path: &Path) -> Result<(), String> {
    let found = std::fs::metadata(path)
        .map_err(|error| format!("CHY-PIN-FILE: {}: {error}", path.display()))?;
    if !found.is_file() {
        return Err(format!("CHY-PIN-FILE: {} is not a file", path.display()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "CHY-PIN-FILE: {} has mode {:04o}, so others can read the PIN; chmod 0600 it",
            path.display(),
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<SecretString, Failure> {
    check_file(path).map_err(Failure::operator)?;
    let text = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::operator(format!("CHY-PIN-FILE: {}: {error}", path.display())))?;
    clean(&text).ok_or_else(|| {
        Failure::operator(format!(
            "CHY-PIN-FILE: {} holds no PIN: one line of 1 to {MAX_PIN} octets of UTF-8 was expected",
            path.display()
        ))
    })
}

/// One line, its end cut off.
fn clean(text: &[u8]) -> Option<SecretString> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let fits = (1..=MAX_PIN).contains(&line.len()) && !line.contains(['\n', '\0']);
    fits.then(|| SecretString::from(line))
}

const MAX_PIN: usize = 255;

/// Asks on the terminal, without echo.
fn prompt() -> Result<SecretString, Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::operator(format!(
            "CHY-PROMPT: the PIN shall be asked for, but there is no terminal: {why}"
        ))
    };
    let mut terminal = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|error| refuse(&error))?;
    let before = tcgetattr(&terminal).map_err(|error| refuse(&error))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| refuse(&error))?;
    let asked = terminal.write_all(b"PIN of the token: ").and_then(|()| {
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_PIN + 2));
        let limit = MAX_PIN as u64 + 2;
        let reader = terminal.try_clone()?;
        std::io::Read::take(&mut std::io::BufReader::new(reader), limit)
            .read_until(b'\n', &mut line)?;
        Ok(line)
    });
    let restored = tcsetattr(&terminal, OptionalActions::Now, &before);
    let line = asked.map_err(|error| refuse(&error))?;
    restored.map_err(|error| refuse(&error))?;
    clean(&line).ok_or_else(|| Failure::operator("CHY-PROMPT: no PIN was given".into()))
}

/// The file that remembers a refused PIN.
pub struct Refused<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    salt: String,
    hash: String,
    message: String,
}

impl<'a> Refused<'a> {
    /// `directory` is the issuer's own.
    pub fn in_directory(disk: &'a dyn Disk, directory: &Path) -> Self {
        Self { disk, path: directory.join("refused-pin.json") }
    }

    /// Fails if this very PIN was refused before. Another PIN is let through; the memory stays until
    /// `forget`, so that going back to the refused one is still noticed.
    pub fn check(&self, pin: &Pin) -> Result<(), Failure> {
        let Ok(bytes) = self.disk.read(&self.path, 4096) else { return Ok(()) };
        // An unreadable memory is no reason to refuse a PIN that may be right, nor to keep it.
        let Ok(remembered) = serde_json::from_slice::<Remembered>(&bytes) else { return Ok(()) };
        let (Ok(salt), Ok(hash)) =
            (Base64::decode_vec(&remembered.salt), Base64::decode_vec(&remembered.hash))
        else {
            return Ok(());
        };
        let same = pbkdf2::verify(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            &salt,
            pin.0.expose_secret().as_bytes(),
            &hash,
        );
        if same.is_err() {
            return Ok(());
        }
        Err(Failure::operator(format!(
            "CHY-PIN-REFUSED: the token refused this PIN before and it is not tried again, so that the token does not \
             lock; correct the PIN, or if it was refused by the wrong token remove {} and start again ({})",
            self.path.display(),
            remembered.message
        )))
    }

    /// Remembers that the token refused this PIN, and what it said.
    pub fn remember(&self, pin: &Pin, message: &str, rng: &dyn Rng) -> std::io::Result<()> {
        let salt = random_16(rng);
        let mut hash = [0u8; 32];
        let secret = pin.0.expose_secret().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, secret, &mut hash);
        let remembered = Remembered {
            salt: Base64::encode_string(&salt),
            hash: Base64::encode_string(&hash),
            message: message.to_owned(),
        };
        let bytes = serde_json::to_vec(&remembered).map_err(std::io::Error::other)?;
        self.disk.replace(&self.path, &bytes, true)
    }

    /// The token took a PIN: nothing is refused any more.
    pub fn forget(&self) {
        let _ = self.disk.remove(&self.path);
    }
}

/// A fraction of a second; only run when a PIN was refused before, or just now.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pin_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        std::fs::write(&path, "1234\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let failure = read(&PinSource::File(path.clone())).unwrap_err();
        assert!(failure.text.contains("0640"), "{}", failure.text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let Ok(pin) = read(&PinSource::File(path)) else { panic!("refused") };
        assert_eq!(pin.0.expose_secret(), "1234");
    }

    #[test]
    fn only_one_line_is_a_pin() {
        assert!(clean(b"").is_none());
        assert!(clean(b"\n").is_none());
        assert!(clean(b"1\n2\n").is_none());
        assert!(clean(&[b'1'; 256]).is_none());
        assert!(clean(b"\xff").is_none());
        assert_eq!(clean(b" 12 \r\n").unwrap().expose_secret(), " 12 ");
    }
}
