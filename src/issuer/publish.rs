//! Files for everyone: chain, root, and where CRLs go. Immutable or replaced atomically, at the paths that the URLs in
//! certificates name. (The log publishes its checkpoint itself.)

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::core::{Core, NotNow, Part};
pub(super) use crate::pki::crl::file_of;

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

/// Publishes what does not change between ceremonies: root and issuing certificate.
pub(super) fn publish_chain(core: &Core, places: &Places) -> Result<(), String> {
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
    put(&places.issuing, core.issuing.der())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_urls_have_two_places() {
        assert!(Places::new("http://a/x", "http://b/x", "http://c/y").is_err());
    }
}
