//! The CRLs: which there must be, when each is due, and how one is made: record, signature, file.
//!
//! Certificates name a *shard*, so a revocation costs one small CRL whatever else was revoked. Beside the
//! shards there is the complete CRL, for software that is given one file and for certificates that name it; it
//! follows the shards within [`COMPLETE_PAUSE`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, NotNow, Part, count, lock};
use super::issuers::Issuer;
use super::publish::{file_of, put};
use super::signing::request_and_wait;
use crate::hsm::{Class, Request};
use crate::id::{Serial, Timestamp};
use crate::log::Release;
use crate::log::index::{Issuance, Listed};
use crate::log::record::{CrlV2, Record};
use crate::log::tree::sha256;
use crate::pki::crl::{self, RevokedEntry};

pub(super) struct Crls {
    core: Arc<Core>,
    published: Mutex<BTreeMap<String, Published>>,
}

/// What is in place of a CRL.
#[derive(Clone, Copy)]
struct Published {
    this_update: Timestamp,
    next_update: Timestamp,
    /// The index's mark when its entries were read.
    mark: u64,
}

/// How urgent a CRL is, the most urgent least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// It lacks an entry.
    Changed,
    /// Some certificate names it and there is none.
    Absent,
    /// Half of its life is over.
    Old,
}

impl Crls {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, published: Mutex::default() }
    }

    /// When the first of the published CRLs ends; the epoch while one is missing that must be there.
    pub(super) fn next_update(&self) -> Timestamp {
        let published = lock(&self.published);
        let must = self.current().iter().all(|url| published.contains_key(url));
        let first = published.values().map(|p| p.next_update).min();
        first.filter(|_| must).unwrap_or_default()
    }

    /// Of one issuing CA: when the oldest of its CRLs was made, when the first of them ends, and how many there are.
    pub(super) fn of_issuer(&self, issuer: &Issuer) -> (Timestamp, Timestamp, u64) {
        let published = lock(&self.published);
        let must = self.current();
        let mut must = must.iter().filter(|url| issuer.has_crl(url));
        let whole = must.all(|url| published.contains_key(url));
        let own = published.iter().filter(|(url, _)| issuer.has_crl(url)).map(|(_, crl)| crl);
        let made = own.clone().map(|crl| crl.this_update).min().filter(|_| whole);
        let ends = own.clone().map(|crl| crl.next_update).min().filter(|_| whole);
        (made.unwrap_or_default(), ends.unwrap_or_default(), own.count() as u64)
    }

    /// Puts in place every CRL that is due. Waits for log and token.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let made = self.make_due();
        match (&made, self.core.rule.clock().now()) {
            (Ok(()), _) => self.core.problems.clear(Part::Crl),
            (Err(_), now) if now > self.next_update().minus(self.life() / 4) => {
                let until = self.next_update();
                self.core.problems.set(Part::Crl, "CHY-CRL-STALE", format!(
                    "a CRL ends {until} and no new one can be signed; devices that check it will refuse its certificates then; see the other problems"
                ));
            }
            (Err(_), _) => {}
        }
        made
    }

    fn make_due(&self) -> Result<(), NotNow> {
        let now = self.core.now()?;
        let wanted = self.wanted(now)?;
        for url in &wanted {
            self.take_up(url)?;
        }
        self.retire(&wanted);
        loop {
            // Looked at again after each: what is revoked while CRLs are renewed does not wait for them.
            let now = self.core.now()?;
            let due = wanted.iter().filter_map(|url| Some((self.due(url, now)?, url))).min();
            match due {
                Some((_, url)) => self.make(url, now)?,
                None => return Ok(()),
            }
        }
    }

    /// Of each issuing CA that has begun and is not done with: the complete one and the shards of the present number.
    /// Of one that issues no more, shards are made as long as certificates name them.
    fn current(&self) -> Vec<String> {
        let (issuers, shards) = (&self.core.issuers, self.core.settings.crl_shards);
        let signing =
            issuers.all().iter().filter(|issuer| issuer.is_added() && issuer.key().is_some());
        signing
            .flat_map(|issuer| {
                let shards = crl::shard_urls(&issuer.crl_url, shards);
                let shards = shards.take_while(|_| issuers.is_active(issuer));
                std::iter::once(issuer.crl_url.clone()).chain(shards)
            })
            .collect()
    }

    /// Whose CRL is at a URL, and whether it is the complete one.
    fn of(&self, url: &str) -> Option<(&Arc<Issuer>, bool)> {
        let issuer = self.core.issuers.of_crl(url)?;
        Some((issuer, url == issuer.crl_url))
    }

    /// Those, and what certificates name that were made under another number: until one CRL past the last of
    /// these certificates.
    fn wanted(&self, now: Timestamp) -> Result<Vec<String>, NotNow> {
        let named = self.core.log.index().crls().map_err(|e| self.core.lost_index(&e))?;
        let published = lock(&self.published);
        let mut wanted = self.current();
        for (url, end) in named {
            let since = published.get(&url).map_or(now, |p| p.this_update);
            let signs = self.of(&url).is_some_and(|(issuer, _)| issuer.key().is_some());
            if end >= since && signs && !wanted.contains(&url) && file_of(&url).is_ok() {
                wanted.push(url);
            }
        }
        Ok(wanted)
    }

    /// Forgets, and takes out of the public directory, what no valid certificate names any more.
    fn retire(&self, wanted: &[String]) {
        let mut published = lock(&self.published);
        published.retain(|url, _| {
            let keep = wanted.contains(url);
            // The last complete one of an issuing CA that is done with stays for whoever looks back.
            if !keep && self.of(url).is_none_or(|(_, complete)| !complete) {
                tracing::info!(crl = url, "no valid certificate names this CRL any more");
                let _ = self.core.disk.remove(&self.file(url));
            }
            keep
        });
    }

    fn due(&self, url: &str, now: Timestamp) -> Option<Due> {
        let Some(published) = lock(&self.published).get(url).copied() else {
            return Some(Due::Absent);
        };
        let age = now.since(published.this_update);
        let changed = self.mark(url) != published.mark;
        let complete = self.of(url).is_some_and(|(_, complete)| complete);
        // Certificates of before there were shards name the complete one, and cannot wait.
        let waits =
            complete && age < COMPLETE_PAUSE && self.core.log.index().listing_mark(url) == 0;
        if changed && !waits {
            return Some(Due::Changed);
        }
        let renew = if complete { (self.life() / 2).min(self.jump()) } else { self.life() / 2 };
        (now < published.this_update || age >= renew).then_some(Due::Old)
    }

    fn mark(&self, url: &str) -> u64 {
        let index = self.core.log.index();
        match self.of(url) {
            Some((issuer, true)) => {
                index.listing_marks(&|other| other.is_empty() || issuer.has_crl(other))
            }
            _ => index.listing_mark(url),
        }
    }

    fn life(&self) -> Duration {
        Duration::from_secs(u64::from(self.core.settings.crl_hours.max(1)) * 3600)
    }

    /// So that the log always holds a recent instant, one CRL is made in half of what the clock may jump.
    fn jump(&self) -> Duration {
        Duration::from_secs(u64::from(self.core.settings.clock_jump_hours.max(1)) * 3600) / 2
    }

    fn file(&self, url: &str) -> PathBuf {
        // Only URLs that passed `file_of` get here.
        self.core.public.join(file_of(url).unwrap_or_default())
    }

    /// What is listed at `url`, but for what has expired and stood in the CRL of `since`.
    fn listed(&self, url: &str, since: Timestamp) -> Result<Vec<Listed>, NotNow> {
        let index = self.core.log.index();
        let lost = |why: String| self.core.lost_index(&why);
        let mut listed = index.listed(url, since).map_err(lost)?;
        if let Some((issuer, true)) = self.of(url) {
            for other in index.crls().map_err(lost)?.into_keys() {
                if other != url && issuer.has_crl(&other) {
                    listed.extend(index.listed(&other, since).map_err(lost)?);
                }
            }
            for unnamed in index.listed_nowhere(since).map_err(lost)? {
                if self.is_of(issuer, unnamed.serial)? {
                    listed.push(unnamed);
                }
            }
        }
        self.core
            .counters
            .crl_rows
            .fetch_add(listed.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(listed)
    }

    /// Whether a certificate that names no CRL is this one's. Of one that is not known any more, the first takes it.
    fn is_of(&self, issuer: &Issuer, serial: Serial) -> Result<bool, NotNow> {
        let issuers = &self.core.issuers;
        let [first, _, ..] = issuers.all() else { return Ok(true) };
        let found =
            self.core.log.index().by_serial(serial).map_err(|e| self.core.lost_index(&e))?;
        let of = match found {
            None => None,
            Some(
                Issuance::Intended { intent, .. }
                | Issuance::Issued { intent, .. }
                | Issuance::Abandoned { intent, .. },
            ) => issuers.of(&self.core.intent(intent)?.issuer_sha256),
        };
        Ok(of.unwrap_or(first).sha256 == issuer.sha256)
    }

    /// Takes up the CRL that an earlier process left, if it is this issuer's and lists all it has to.
    fn take_up(&self, url: &str) -> Result<(), NotNow> {
        let Some((issuer, complete)) = self.of(url) else { return Ok(()) };
        if lock(&self.published).contains_key(url) {
            return Ok(());
        }
        let mark = self.mark(url);
        let Ok(der) = self.core.disk.read(&self.file(url), crl::MAX_DER as u64) else {
            return Ok(());
        };
        let Ok(found) = crl::parse_verified(&der, &issuer.certificate) else { return Ok(()) };
        let shard = (!complete).then_some(url);
        let serials: std::collections::BTreeSet<Serial> =
            found.revoked.iter().map(|entry| entry.serial).collect();
        let listed = self.listed(url, found.this_update)?;
        if found.shard.as_deref() == shard && listed.iter().all(|l| serials.contains(&l.serial)) {
            let crl::Crl { this_update, next_update, .. } = found;
            lock(&self.published)
                .insert(url.to_owned(), Published { this_update, next_update, mark });
        }
        Ok(())
    }

    fn make(&self, url: &str, now: Timestamp) -> Result<(), NotNow> {
        let core = &self.core;
        let Some((issuer, complete)) = self.of(url) else { return Ok(()) };
        let key = core.key_of(issuer)?;
        core.token_signs(&issuer.name)?;
        let mark = self.mark(url);
        let present = lock(&self.published).get(url).copied();
        let before = present.map_or(Timestamp(0), |p| p.this_update);
        let valid_until = present.map(|p| p.next_update);
        // Strictly rising over all CRLs, also across a log restored from a backup: time is in it.
        let last = core.log.index().last_crl_number().map_err(|e| core.lost_index(&e))?;
        let number = last.saturating_add(1).max(now.0);
        // Whole seconds, as the CRL will say.
        let this_update = Timestamp::from_unix_seconds(now.unix_seconds());
        let next_update = this_update.plus(self.life()).min(issuer.certificate.validity().1);
        let entries: Vec<RevokedEntry> = self
            .listed(url, before)?
            .into_iter()
            .map(|Listed { serial, at, reason }| RevokedEntry { serial, at, reason })
            .collect();
        let tbs = if complete {
            crl::tbs(&issuer.certificate, number, this_update, next_update, &entries)
        } else {
            crl::shard_tbs(&issuer.certificate, url, number, this_update, next_update, &entries)
        };
        core.counters.crl_octets.fetch_add(tbs.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let record = CrlV2 {
            at: now,
            issuer_sha256: issuer.sha256,
            crl: url.to_owned(),
            number,
            this_update,
            next_update,
            entries: entries.len() as u64,
            tbs_sha256: sha256(&tbs),
        };
        let leaf = core.append_wait(Record::CrlV2(record), Release::Durable)?.leaf;
        // The longer the present one is good for, the longer certificates may go first.
        let left = valid_until.map_or(Duration::ZERO, |until| until.since(now));
        let request = Request::new(Class::Crl, tbs.clone()).overtaking_after(left / 2);
        let signature = request_and_wait(&*key, request, DEADLINE).map_err(|e| core.unsigned(e))?;
        let der = crl::assemble(&tbs, issuer.algorithm(), &signature);
        if let Err(why) = crl::parse_verified(&der, &issuer.certificate) {
            tracing::error!("CHY-SIGNATURE: a CRL was thrown away: {why}");
            return Err(NotNow::Wait(Duration::from_secs(5)));
        }
        put(core, &self.file(url), &der)?;
        count(&core.counters.crls);
        tracing::info!(crl = url, number, leaf = leaf.0, entries = entries.len(), %next_update, "CRL published");
        lock(&self.published).insert(url.to_owned(), Published { this_update, next_update, mark });
        Ok(())
    }
}

/// How old the complete CRL must be to be made again for what the shards say already: its cost grows with
/// all that is revoked.
pub(super) const COMPLETE_PAUSE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(60);
