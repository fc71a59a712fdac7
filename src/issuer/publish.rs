//! Files for everyone: chain, root, and where CRLs go. Immutable or replaced atomically, at the paths that the URLs in
//! certificates name. (The log publishes its checkpoint itself.)

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::core::{Core, NotNow, Part};

/// Where the files of a CA go, from the URLs that its certificates carry.
pub(super) struct Places {
    pub(super) issuing: PathBuf,
    pub(super) crl: PathBuf,
    pub(super) root_crl: PathBuf,
}

impl Places {
    pub(super) fn new(aia_url: &str, crl_url: &str, root_crl_url: &str) -> Result<Self, String> {
        let places = Self {
            issuing: file_of(aia_url)?,
            crl: file_of(crl_url)?,
            root_crl: file_of(root_crl_url)?,
        };
        if places.issuing == places.crl
            || places.crl == places.root_crl
            || places.issuing == places.root_crl
        {
            return Err("two of the URLs in the certificates have the same path".into());
        }
        for shard in crate::pki::crl::shard_urls(crl_url, 1) {
            file_of(&shard)?;
        }
        Ok(places)
    }
}

/// Publishes what does not change between ceremonies: root and issuing certificate, and the root's CRL
/// where the ceremony made one.
pub(super) fn publish_chain(
    core: &Core,
    places: &Places,
    root_crl: Option<&[u8]>,
) -> Result<(), String> {
    let put = |name: &Path, bytes: &[u8]| {
        put(core, &core.public.join(name), bytes)
            .map_err(|_| format!("CHY-PUBLIC: cannot write {}; see that the directory exists, belongs to the issuer's user and has room", core.public.join(name).display()))
    };
    let (root, issuing) = (core.root.pem(), core.issuing.pem());
    put(Path::new("root.pem"), root.as_bytes())?;
    put(Path::new("root.der"), core.root.der())?;
    put(Path::new("issuing.pem"), issuing.as_bytes())?;
    put(Path::new("issuing.der"), core.issuing.der())?;
    put(Path::new("chain.pem"), [issuing.as_str(), root.as_str()].concat().as_bytes())?;
    put(&places.issuing, core.issuing.der())?;
    match root_crl {
        Some(der) => put(&places.root_crl, der),
        None => Ok(()),
    }
}

/// Puts `bytes` under `path` unless they are there already.
pub(super) fn put(core: &Core, path: &Path, bytes: &[u8]) -> Result<(), NotNow> {
    if core.disk.read(path, bytes.len() as u64 + 1).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(&core.public);
    let put =
        core.disk.create_public_dir(parent).and_then(|()| core.disk.replace(path, bytes, true));
    match put {
        Ok(()) => {
            core.problems.clear(Part::Public);
            Ok(())
        }
        Err(e) => {
            core.problems.set(Part::Public, "CHY-PUBLIC", format!(
                "cannot write {}: {e}; see that the directory belongs to the issuer's user and has room",
                path.display()
            ));
            Err(NotNow::Wait(Duration::from_secs(5)))
        }
    }
}

/// The path below the public directory that a URL in a certificate names. Plain http, plain segments.
pub(super) fn file_of(url: &str) -> Result<PathBuf, String> {
    let path = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, path)| path)
        .ok_or_else(|| format!("{url:?} is not an http URL with a path"))?;
    let plain = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if path.split('/').count() > 4 || !path.split('/').all(plain) {
        return Err(format!("the path of {url:?} is not made of plain segments"));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_below_the_public_directory_or_nothing() {
        assert_eq!(file_of("http://ca.lan/issuing.der"), Ok("issuing.der".into()));
        assert_eq!(file_of("http://ca.lan:8080/crl/1.crl"), Ok("crl/1.crl".into()));
        for url in [
            "https://ca.lan/a",
            "http://ca.lan",
            "http://ca.lan/",
            "http://ca.lan/../etc/passwd",
            "http://ca.lan/a//b",
            "http://ca.lan/.hidden",
            "http://ca.lan/a?b",
            "http://ca.lan/a%2e",
            "http://ca.lan/a/b/c/d/e",
            "ldap://ca.lan/a",
        ] {
            assert!(file_of(url).is_err(), "{url}");
        }
        assert!(Places::new("http://a/x", "http://b/x", "http://c/y").is_err());
    }
}
