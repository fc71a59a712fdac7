//! Files for everyone: chain, root, and where CRLs go. Immutable or replaced atomically, at the paths that the URLs in
//! certificates name. (The log publishes its checkpoint itself.)

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::core::{Core, NotNow, Part};
use crate::pki::authority::Authority;
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

/// Publishes what does not change, once it is there: the certificates of roots and issuing CAs, each under its name and
/// where the URLs in certificates lead.
pub(super) fn publish_chains(core: &Core) -> Result<(), String> {
    let put = |name: &Path, bytes: &[u8]| {
        put(core, &core.public.join(name), bytes)
            .map_err(|_| format!("CHY-PUBLIC: cannot write {}; see that the directory exists, belongs to the issuer's user and has room", core.public.join(name).display()))
    };
    for root in &core.roots {
        put(Path::new(&format!("{}.pem", root.name)), root.tied.certificate.pem().as_bytes())?;
        put(Path::new(&format!("{}.der", root.name)), root.tied.certificate.der())?;
    }
    for pair in core.roots.windows(2) {
        let [former, root] = pair else { continue };
        if let Some((by_former, of_former)) = &root.tied.ties {
            let (former, root) = (&former.name, &root.name);
            put(Path::new(&format!("{root}-by-{former}.pem")), by_former.pem().as_bytes())?;
            put(Path::new(&format!("{former}-by-{root}.pem")), of_former.pem().as_bytes())?;
        }
    }
    for issuer in core.issuers.all() {
        let (name, certificate) = (&issuer.name, &issuer.certificate);
        let root =
            core.roots.iter().find(|root| certificate.verify_issued_by(&root.tied.certificate));
        let root = root.map(|root| root.tied.certificate.pem()).unwrap_or_default();
        put(Path::new(&format!("{name}.pem")), certificate.pem().as_bytes())?;
        put(Path::new(&format!("{name}.der")), certificate.der())?;
        let chain = if name == Authority::FIRST_ISSUING {
            "chain.pem".to_owned()
        } else {
            format!("{name}-chain.pem")
        };
        put(Path::new(&chain), [certificate.pem(), root].concat().as_bytes())?;
        put(&file_of(&issuer.aia_url)?, certificate.der())?;
    }
    Ok(())
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
