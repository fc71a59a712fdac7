//! The PIN: where it comes from. Read by the issuer, by ceremonies and by `doctor`, never by the web process.

use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::Failure;
use crate::config::PinSource;
use crate::hsm::pool::Pin;

/// Reads the PIN from where the configuration says. Only the issuer and the operator's tools call this.
pub fn read(source: &PinSource) -> Result<Pin, Failure> {
    let pin = match source {
        PinSource::File(path) => read_file(path, OTHERS)?,
        PinSource::Credential(name) => read_file(&credential(name)?, ALL_OTHERS)?,
        PinSource::Prompt => prompt()?,
    };
    Ok(Pin(pin))
}

fn credential(name: &str) -> Result<PathBuf, Failure> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => Ok(Path::new(&directory).join(name)),
        None => Err(Failure::operator(format!(
            "CHY-PIN-FILE: the PIN is the systemd credential `{name}`, but there is no $CREDENTIALS_DIRECTORY; start \
             the issuer from its unit with LoadCredential={name}:PATH; for a ceremony write \
             `pin = {{ prompt = true }}` below [tokens.…] of its file"
        ))),
    }
}

/// Whether a PIN file may be used, without reading it: exists, is a file, and no one else can read it.
pub fn check_file(path: &Path) -> Result<(), String> {
    check(path, OTHERS)
}

/// Group and all others.
const OTHERS: u32 = 0o077;
/// Of a credential, systemd gives its user the right to read by an access control list, which shows as the group's; the
/// directory is closed to all but that user.
const ALL_OTHERS: u32 = 0o007;

fn check(path: &Path, others: u32) -> Result<(), String> {
    let found = std::fs::metadata(path)
        .map_err(|error| format!("CHY-PIN-FILE: {}: {error}", path.display()))?;
    if !found.is_file() {
        return Err(format!("CHY-PIN-FILE: {} is not a file", path.display()));
    }
    if found.mode() & others != 0 {
        return Err(format!(
            "CHY-PIN-FILE: {} has mode {:04o}, so others can read the PIN; chmod 0600 it",
            path.display(),
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

fn read_file(path: &Path, others: u32) -> Result<SecretString, Failure> {
    check(path, others).map_err(Failure::operator)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
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
    fn a_credential_may_show_an_access_control_list_as_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        std::fs::write(&path, "1234\n").unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o440);
        assert!(read_file(&path, ALL_OTHERS).is_ok());
        assert!(read_file(&path, OTHERS).is_err());
        mode(0o444);
        assert!(read_file(&path, ALL_OTHERS).is_err());
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
