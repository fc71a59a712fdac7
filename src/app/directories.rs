//! The state directory: who owns which part of it, and with which mode.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::Failure;
use crate::config::Paths;

/// A user and group by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Makes what is missing. Modes of what exists are left as the operator set them, but for the issuer's own
/// directory, which no one else may read. With owners, which only root can give, ownership is set too.
pub fn prepare(paths: &Paths, issuer: Option<Owner>, web: Option<Owner>) -> Result<(), Failure> {
    make(&paths.state, 0o755, issuer)?;
    make(&paths.ca(), 0o755, issuer)?;
    make(&paths.issuer(), 0o700, issuer)?;
    make(&paths.public(), 0o755, issuer)?;
    let run = paths.socket();
    if let Some(run) = run.parent() {
        // The web process's group may enter, to reach the socket.
        make(
            run,
            0o750,
            issuer.map(|owner| Owner { gid: web.map_or(owner.gid, |web| web.gid), ..owner }),
        )?;
    }
    make(&paths.web(), 0o700, web)?;
    close(&paths.issuer())
}

/// What the issuer alone makes for itself.
pub fn prepare_issuer(paths: &Paths) -> Result<(), Failure> {
    for (path, mode) in [(paths.issuer(), 0o700), (paths.admin(), 0o700), (paths.public(), 0o755)] {
        make(&path, mode, None)?;
    }
    if let Some(run) = paths.socket().parent() {
        make(run, 0o750, None)?;
    }
    close(&paths.issuer())?;
    close(&paths.admin())
}

/// What the web process alone makes for itself.
pub fn prepare_web(paths: &Paths) -> Result<(), Failure> {
    make(&paths.web(), 0o700, None)
}

/// Gives a directory and all below it to an owner: what root made in a ceremony is the issuer's.
pub fn hand_over(path: &Path, owner: Owner) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::operator(format!("CHY-STATE-DIR: {}: {error}", path.display()))
    };
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
    if std::fs::symlink_metadata(path).map_err(failed)?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            hand_over(&entry.map_err(failed)?.path(), owner)?;
        }
    }
    Ok(())
}

fn make(path: &Path, mode: u32, owner: Option<Owner>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::operator(format!("CHY-STATE-DIR: {}: {error}", path.display()))
    };
    let new = !path.exists();
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    if new {
        // The umask has had its say in `create`.
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    }
    match owner {
        Some(Owner { uid, gid }) => chown(path, Some(uid), Some(gid)).map_err(failed),
        None => Ok(()),
    }
}

fn close(path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::operator(format!("CHY-STATE-DIR: {}: {error}", path.display()))
    };
    let mode = std::fs::metadata(path).map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700)).map_err(failed)?;
    }
    Ok(())
}

/// The user of this name, from /etc/passwd: no name service is asked, for none is there on an appliance.
pub fn owner(name: &str) -> Result<Owner, Failure> {
    let text = std::fs::read_to_string("/etc/passwd")
        .map_err(|error| Failure::operator(format!("CHY-OS: /etc/passwd: {error}")))?;
    find_owner(&text, name).ok_or_else(|| {
        Failure::operator(format!(
            "CHY-CONFIG-VALUE: [process] names the user `{name}`, but /etc/passwd does not; `useradd --system {name}` \
             makes it"
        ))
    })
}

/// The name of a user in /etc/passwd; the number where it has none.
pub fn user_name(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_name(&text, uid).unwrap_or_else(|| uid.to_string())
}

fn find_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (rest.split(':').nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn find_owner(passwd: &str, name: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some(Owner { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuers_directory_is_closed_even_if_it_was_open() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { state: directory.path().join("state") };
        std::fs::create_dir_all(paths.issuer()).unwrap();
        std::fs::set_permissions(paths.issuer(), Permissions::from_mode(0o755)).unwrap();
        prepare(&paths, None, None).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&paths.issuer()), 0o700);
        assert_eq!(mode(&paths.web()), 0o700);
        assert_eq!(mode(&paths.public()), 0o755);
        assert_eq!(mode(paths.socket().parent().unwrap()), 0o750);
        prepare(&paths, None, None).unwrap();
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:202::/:/bin/false\nbroken:x\n";
        assert_eq!(find_owner(passwd, "web"), Some(Owner { uid: 101, gid: 202 }));
        assert_eq!(find_owner(passwd, "we"), None);
        assert_eq!(find_owner(passwd, "broken"), None);
        assert_eq!(find_name(passwd, 101).as_deref(), Some("web"));
        assert_eq!(find_name(passwd, 102), None);
    }
}
