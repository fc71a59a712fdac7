//! Files for everyone: CRL, chain, root. Immutable or replaced atomically, at the paths that the URLs in
//! certificates name. (The log publishes its checkpoint itself.)

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest;

use super::core::{Core, NotNow, Part, count, lock};
use super::signing::sign_and_wait;
use crate::hsm::Class;
use crate::id::{Serial, Timestamp};
use crate::log::Release;
use crate::log::record::{CrlV1, Record};
use crate::pki::crl::{self, RevokedEntry};

pub(super) struct Publisher {
    core: Arc<Core>,
    crl_file: PathBuf,
    published: Mutex<Option<Published>>,
}

/// What the CRL in the public directory says.
struct Published {
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: Vec<Serial>,
}

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
        Ok(places)
    }
}

impl Publisher {
    pub(super) fn new(core: Arc<Core>, places: &Places) -> Self {
        let crl_file = core.public.join(&places.crl);
        Self { core, crl_file, published: Mutex::new(None) }
    }

    /// When the published CRL ends; the epoch while there is none.
    pub(super) fn next_update(&self) -> Timestamp {
        lock(&self.published).as_ref().map_or(Timestamp(0), |p| p.next_update)
    }

    /// Puts a new CRL in place when one is due: at half the life of the last, at the latest after half of
    /// what the clock may jump (so that the log always holds a recent instant), and when a serial was
    /// revoked. Waits for log and token.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let now = self.core.now()?;
        let revoked = self.core.log.index().revoked().map_err(|e| self.core.lost_index(&e))?;
        let serials: Vec<Serial> = revoked.iter().map(|(serial, _)| *serial).collect();
        {
            let mut published = lock(&self.published);
            if published.is_none() {
                *published = self.found();
            }
            if published.as_ref().is_some_and(|p| self.suffices(p, &serials, now)) {
                return Ok(());
            }
        }
        let made = self.make(now, &revoked);
        match &made {
            Ok(()) => self.core.problems.clear(Part::Crl),
            Err(_) if now > self.next_update().minus(self.life() / 4) => {
                let until = self.next_update();
                self.core.problems.set(Part::Crl, "CHY-CRL-STALE", format!(
                    "the CRL ends {until} and no new one can be signed; devices that check it will refuse every certificate then; see the other problems"
                ));
            }
            Err(_) => {}
        }
        made
    }

    fn suffices(&self, published: &Published, revoked: &[Serial], now: Timestamp) -> bool {
        now >= published.this_update
            && now < published.this_update.plus(self.interval())
            && published.revoked == revoked
    }

    fn life(&self) -> Duration {
        Duration::from_secs(u64::from(self.core.settings.crl_hours.max(1)) * 3600)
    }

    fn interval(&self) -> Duration {
        let jump =
            Duration::from_secs(u64::from(self.core.settings.clock_jump_hours.max(1)) * 3600);
        (self.life() / 2).min(jump / 2)
    }

    /// The CRL that an earlier process left, if it is this issuer's.
    fn found(&self) -> Option<Published> {
        let der = self.core.disk.read(&self.crl_file, crl::MAX_DER as u64).ok()?;
        let crl = crl::parse_verified(&der, &self.core.issuing).ok()?;
        Some(Published {
            this_update: crl.this_update,
            next_update: crl.next_update,
            revoked: crl.revoked.iter().map(|entry| entry.serial).collect(),
        })
    }

    fn make(&self, now: Timestamp, revoked: &[(Serial, Timestamp)]) -> Result<(), NotNow> {
        let core = &self.core;
        core.token_signs()?;
        // Strictly rising, also across a log restored from a backup: time is in it.
        let last = core.log.index().last_crl_number().map_err(|e| core.lost_index(&e))?;
        let number = last.saturating_add(1).max(now.0);
        // Whole seconds, as the CRL will say.
        let this_update = Timestamp::from_unix_seconds(now.unix_seconds());
        let next_update = this_update.plus(self.life()).min(core.issuing.validity().1);
        let entries: Vec<RevokedEntry> = revoked
            .iter()
            .map(|(serial, at)| RevokedEntry { serial: *serial, at: *at, reason: None })
            .collect();
        let tbs = crl::tbs(&core.issuing, number, this_update, next_update, &entries);
        let mut tbs_sha256 = [0; 32];
        tbs_sha256.copy_from_slice(digest::digest(&digest::SHA256, &tbs).as_ref());
        let record = CrlV1 {
            at: now,
            issuer_sha256: core.issuing_sha256,
            number,
            this_update,
            next_update,
            entries: entries.len() as u64,
            tbs_sha256,
        };
        let leaf = core.append_wait(Record::CrlV1(record), Release::Durable)?.leaf;
        let signature = sign_and_wait(&*core.issuing_key, Class::Crl, tbs.clone(), DEADLINE)
            .map_err(|e| core.unsigned(e))?;
        let algorithm = core.issuing.public_key().preferred_algorithm();
        let der = crl::assemble(&tbs, algorithm, &signature);
        if let Err(why) = crl::parse_verified(&der, &core.issuing) {
            tracing::error!("CHY-SIGNATURE: a CRL was thrown away: {why}");
            return Err(NotNow::Wait(Duration::from_secs(5)));
        }
        put(core, &self.crl_file, &der)?;
        count(&core.counters.crls);
        tracing::info!(number, leaf = leaf.0, entries = entries.len(), %next_update, "CRL published");
        let revoked = revoked.iter().map(|(serial, _)| *serial).collect();
        *lock(&self.published) = Some(Published { this_update, next_update, revoked });
        Ok(())
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
    put(Path::new("chain.pem"), [issuing.as_str(), root.as_str()].concat().as_bytes())?;
    put(&places.issuing, core.issuing.der())?;
    match root_crl {
        Some(der) => put(&places.root_crl, der),
        None => Ok(()),
    }
}

/// Puts `bytes` under `path` unless they are there already.
fn put(core: &Core, path: &Path, bytes: &[u8]) -> Result<(), NotNow> {
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
fn file_of(url: &str) -> Result<PathBuf, String> {
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

const DEADLINE: Duration = Duration::from_secs(60);

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
