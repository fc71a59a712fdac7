//! What the issuer's user must reach besides its state: the PIN's file, and a token kept in files (SoftHSM2).
//! A ceremony held by root gives them to it; `doctor` says what is still out of its reach, with the command.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Failure;
use super::directories::{Owner, hand_over};
use crate::config::{Config, PinSource};

/// The files that the issuer opens by path, apart from the state directory and the module.
pub fn needed(config: &Config) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let PinSource::File(path) = &config.pin {
        found.push(path.clone());
    }
    if let Some(conf) = softhsm_conf(config) {
        found.extend(std::fs::read_to_string(&conf).ok().and_then(|text| token_dir(&text)));
        found.push(conf);
    }
    found.retain(|path| path.exists());
    found
}

/// Gives PIN and token files that are root's own to the issuer's user. Returns what it gave.
pub fn give(config: &Config, owner: Owner) -> Result<Vec<PathBuf>, Failure> {
    let mut given = Vec::new();
    for path in needed(config) {
        // The system-wide token directory of a distribution holds other people's tokens too.
        let own = std::env::var_os(SOFTHSM2_CONF).is_some() || !path.is_dir();
        let of_root = std::fs::symlink_metadata(&path)
            .is_ok_and(|found| found.uid() == 0 && !found.is_symlink());
        if own && of_root && out_of_reach(&path, owner).is_some() {
            hand_over(&path, owner)?;
            given.push(path);
        }
    }
    Ok(given)
}

/// The first of `path` and the directories above it that `owner` may not enter or read, by the permission bits.
pub fn out_of_reach(path: &Path, owner: Owner) -> Option<PathBuf> {
    if owner.uid == 0 {
        return None;
    }
    let above = path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev();
    let steps = above.map(|dir| (dir, SEARCH)).chain([(path, READ)]);
    steps
        .filter(|(step, _)| !step.as_os_str().is_empty())
        .find(|(step, wanted)| {
            std::fs::metadata(step).is_ok_and(|found| {
                // A token's directory is written to as well.
                let wanted = if *wanted == READ && found.is_dir() { 0o7 } else { *wanted };
                let shift = match (found.uid() == owner.uid, found.gid() == owner.gid) {
                    (true, _) => 6,
                    (false, true) => 3,
                    (false, false) => 0,
                };
                (found.mode() >> shift) & wanted != wanted
            })
        })
        .map(|(step, _)| step.to_owned())
}

const SEARCH: u32 = 0o1;
const READ: u32 = 0o4;
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

fn softhsm_conf(config: &Config) -> Option<PathBuf> {
    let module = config.token.module.to_string_lossy().to_ascii_lowercase();
    module.contains("softhsm").then(|| {
        std::env::var_os(SOFTHSM2_CONF)
            .map_or_else(|| PathBuf::from("/etc/softhsm/softhsm2.conf"), PathBuf::from)
    })
}

/// `directories.tokendir` of a softhsm2.conf.
fn token_dir(conf: &str) -> Option<PathBuf> {
    conf.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "directories.tokendir").then(|| PathBuf::from(value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_closed_step_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("token");
        std::fs::create_dir(&inner).unwrap();
        let pin = inner.join("pin");
        std::fs::write(&pin, "1234").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let found = std::fs::metadata(&pin).unwrap();
        let own = Owner { uid: found.uid().max(1), gid: found.gid() };
        let stranger = Owner { uid: 54_321, gid: 54_321 };
        mode(directory.path(), 0o755);
        mode(&inner, 0o711);
        mode(&pin, 0o604);
        assert_eq!(out_of_reach(&pin, stranger), None);
        mode(&pin, 0o600);
        assert_eq!(out_of_reach(&pin, stranger), Some(pin.clone()));
        assert_eq!(out_of_reach(&inner, stranger), Some(inner.clone()), "it is written to");
        mode(&inner, 0o700);
        assert_eq!(out_of_reach(&pin, stranger), Some(inner.clone()));
        assert_eq!(out_of_reach(&pin, Owner { uid: 0, gid: 0 }), None);
        if found.uid() == own.uid {
            assert_eq!(out_of_reach(&pin, own), None);
        }
    }

    #[test]
    fn the_token_directory_is_read_from_its_conf() {
        let conf = "# tokens\nobjectstore.backend = file\ndirectories.tokendir = /x/tokens\n";
        assert_eq!(token_dir(conf), Some(PathBuf::from("/x/tokens")));
        assert_eq!(token_dir("objectstore.backend = file\n"), None);
    }
}
