//! The root's CRL. Only a ceremony makes one, with a key that may be on another box: the issuer takes over the file
//! that it leaves in `ca/`, records it and publishes it. The record comes after the signature, because whoever holds
//! the root key signs without this log; what the log says is which CRL this box published, and when it first had it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, NotNow, Part, lock};
use super::issuers::RootOf;
use super::publish::{file_of, put};
use crate::id::{Serial, Timestamp};
use crate::log::Release;
use crate::log::record::{CrlV2, Record};
use crate::pki::certificate::Certificate;
use crate::pki::crl::{self, Crl};

pub(super) struct RootCrl {
    core: Arc<Core>,
    /// Whose, and what this box calls it.
    root: Certificate,
    name: String,
    /// Where ceremonies leave it; `None` where no ceremony keeps it.
    file: Option<PathBuf>,
    /// At which URL it is published, and as which file.
    url: String,
    public: PathBuf,
    taken: Mutex<Option<Taken>>,
    /// Whether what is said of a root's CRL is of this one.
    complains: AtomicBool,
}

struct Taken {
    der: Vec<u8>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl RootCrl {
    /// Refuses a file that is not the root's. A file that is not there is none: a CA of before it was kept. `first` is
    /// where ceremonies leave the CRL of the first root; those of others are beside it, under their names.
    pub(super) fn open(
        core: Arc<Core>,
        root: &RootOf,
        first: Option<&Path>,
    ) -> Result<Self, String> {
        let file = first.map(|first| first.with_file_name(format!("{}.crl", root.name)));
        let public = core.public.join(file_of(&root.crl_url)?);
        let (certificate, url) = (root.tied.certificate.clone(), root.crl_url.clone());
        let this = Self {
            core,
            root: certificate,
            name: root.name.clone(),
            file,
            url,
            public,
            taken: Mutex::default(),
            complains: AtomicBool::new(false),
        };
        match this.read() {
            Ok(Some((der, list))) => {
                this.take(der, &list);
                Ok(this)
            }
            Ok(None) => Ok(this),
            Err(why) => Err(format!(
                "CHY-CA-BROKEN: ca/{}.crl is not the root's: {why}; restore it from the ceremony's backup",
                root.name
            )),
        }
    }

    /// What an operator should know of it: that it ends, or has.
    pub(super) fn problem(&self, now: Timestamp) -> Option<(&'static str, String)> {
        let taken = lock(&self.taken);
        let taken = taken.as_ref()?;
        let ends = taken.next_update;
        let warning = crl::root_crl_warning(taken.this_update, ends);
        let left = days(now, ends);
        (now.plus(warning) > ends).then(|| {
            let name = &self.name;
            ("CHY-ROOT-CRL", format!("the CRL of the root {name:?} ends {ends}, in {left} days, and only a ceremony with the root key makes another; devices that check the whole chain refuse every certificate then"))
        })
    }

    /// When it was made and when it ends; `None` where there is none.
    pub(super) fn dates(&self) -> Option<(Timestamp, Timestamp)> {
        lock(&self.taken).as_ref().map(|taken| (taken.this_update, taken.next_update))
    }

    /// Takes over what a ceremony left.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let core = &self.core;
        let (der, list) = match self.read() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(why) => {
                self.complain("CHY-CA-BROKEN", format!(
                    "{} is not the root's: {why}; the one before it stays published; hold or import it again",
                    self.place()
                ));
                return Ok(());
            }
        };
        let root = self.root.fingerprint();
        let last = core.log.index().last_crl_of(&root).map_err(|e| core.lost_index(&e))?;
        let known = last.is_some_and(|last| last.tbs_sha256 == list.tbs_sha256);
        if let Some(last) = last.filter(|last| !known && last.number >= list.number) {
            self.complain("CHY-ROOT-CRL-OLD", format!(
                "{} has number {}, but this box has published number {}; put the newest CRL of the root back into ca/, or hold another ceremony",
                self.place(), list.number, last.number
            ));
            return Ok(());
        }
        if !known {
            let at = core.now()?;
            let record = CrlV2 {
                at,
                issuer_sha256: root,
                crl: self.url.clone(),
                number: list.number,
                this_update: list.this_update,
                next_update: list.next_update,
                entries: list.revoked.len() as u64,
                tbs_sha256: list.tbs_sha256,
            };
            let leaf = core.append_wait(Record::CrlV2(record), Release::Durable)?.leaf;
            tracing::info!(number = list.number, leaf = leaf.0, next_update = %list.next_update, "the root's CRL was taken over");
        }
        self.take(der.clone(), &list);
        put(core, &self.public, &der)?;
        if self.complains.swap(false, Ordering::SeqCst) {
            core.problems.clear(Part::RootCrl);
        }
        Ok(())
    }

    fn complain(&self, code: &'static str, message: String) {
        self.complains.store(true, Ordering::SeqCst);
        self.core.problems.set(Part::RootCrl, code, message);
    }

    fn place(&self) -> String {
        self.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default()
    }

    fn read(&self) -> Result<Option<(Vec<u8>, Crl)>, String> {
        let Some(path) = &self.file else { return Ok(None) };
        let der = match self.core.disk.read(path, crl::MAX_DER as u64) {
            Ok(der) => der,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let list = crl::parse_verified(&der, &self.root)?;
        if list.shard.is_some() {
            return Err("it is a part of a CRL".into());
        }
        Ok(Some((der, list)))
    }

    /// Remembers it, and has what the root has revoked issue nothing any more: there is no way back.
    fn take(&self, der: Vec<u8>, list: &Crl) {
        let core = &self.core;
        let root = self.root.fingerprint();
        let revoked = |serial: Option<Serial>| {
            serial.is_some_and(|own| list.revoked.iter().any(|entry| entry.serial == own))
        };
        for issuer in core.issuers.all() {
            if issuer.root_sha256 != root || !revoked(issuer.certificate.serial()) {
                continue;
            }
            issuer.revoke();
            // One that was superseded before has nothing left to issue.
            if core.issuers.is_newest(issuer) {
                core.problems.set(Part::Revoked, "CHY-CA-REVOKED",
                    "the root has revoked this issuing certificate; nothing is issued any more, CRLs are; hold a ceremony for another issuing CA".into());
            }
        }
        let mut taken = lock(&self.taken);
        if taken.as_ref().is_none_or(|taken| taken.der != der) {
            let (this_update, next_update) = (list.this_update, list.next_update);
            *taken = Some(Taken { der, this_update, next_update });
        }
    }
}

/// Whole days from `now` to `ends`, negative once it is over.
fn days(now: Timestamp, ends: Timestamp) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_secs() / 86_400).unwrap_or(i64::MAX);
    if ends >= now { whole(ends.since(now)) } else { -whole(now.since(ends)) }
}
