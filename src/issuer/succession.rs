//! Issuing CAs and roots that ceremonies made since: added to the log before they are used, retired when nothing that
//! they issued is valid any more.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, NotNow};
use super::issuers::Issuer;
use crate::id::{LeafIndex, Timestamp};
use crate::log::Release;
use crate::log::record::{AuthorityRetiredV1, Record};
use crate::pki::profile::Profile;

pub(super) struct Succession {
    core: Arc<Core>,
}

impl Succession {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Adds what the log does not have yet. Until then no order is worked on, so that no intent of a former issuing CA
    /// follows the leaf of its successor.
    pub(super) fn add(&self) -> Result<(), NotNow> {
        let core = &self.core;
        for pair in core.roots.windows(2) {
            let [former, root] = pair else { continue };
            if root.is_added() {
                continue;
            }
            let Some(record) = root.record(former, core.now()?) else { continue };
            let leaf = core.append_wait(Record::RootAddedV1(record), Release::Durable)?.leaf;
            root.add();
            tracing::warn!(%leaf, name = root.name, "another root");
        }
        for issuer in core.issuers.all().iter().filter(|issuer| !issuer.is_added()) {
            let record = Record::IssuerAddedV1(issuer.record(core.now()?));
            let leaf = core.append_wait(record, Release::Durable)?.leaf;
            issuer.add();
            tracing::warn!(%leaf, name = issuer.name, line = issuer.line, "another issuing CA");
        }
        Ok(())
    }

    /// Retires those of which no valid certificate is left.
    pub(super) fn retire(&self) -> Result<(), NotNow> {
        let core = &self.core;
        for issuer in core.issuers.all() {
            if issuer.is_retired() || !issuer.is_added() || core.issuers.is_newest(issuer) {
                continue;
            }
            let now = core.now()?;
            if self.until(issuer)?.is_some_and(|until| now > until) {
                let certificate_sha256 = issuer.sha256;
                let record = AuthorityRetiredV1 { at: now, certificate_sha256, by: None };
                let record = Record::AuthorityRetiredV1(record);
                let leaf = core.append_wait(record, Release::Durable)?.leaf;
                issuer.retire();
                tracing::warn!(%leaf, name = issuer.name, "an issuing CA is done with: no certificate of it is valid any more");
            }
        }
        // The file says when a root is done with: only people know what devices trust.
        for root in core.roots.iter().filter(|root| root.tied.done && !root.is_retired()) {
            let certificate_sha256 = root.tied.certificate.fingerprint();
            let record = AuthorityRetiredV1 { at: core.now()?, certificate_sha256, by: None };
            let record = Record::AuthorityRetiredV1(record);
            let leaf = core.append_wait(record, Release::Durable)?.leaf;
            root.retire();
            tracing::warn!(%leaf, name = root.name, "a root is done with");
        }
        Ok(())
    }

    /// Until when a superseded issuing CA has CRLs to sign: one past the end of its last certificate. `None` while an
    /// intent of it is open.
    fn until(&self, issuer: &Issuer) -> Result<Option<Timestamp>, NotNow> {
        let (core, index) = (&self.core, self.core.log.index());
        let lost = |why: String| core.lost_index(&why);
        for (leaf, _) in index.open_intents().map_err(lost)? {
            if core.intent(leaf)?.issuer_sha256 == issuer.sha256 {
                return Ok(None);
            }
        }
        let named = index.crls().map_err(lost)?;
        let named = named.iter().filter(|(url, _)| issuer.has_crl(url)).map(|(_, end)| *end).max();
        // What names no CRL lives for days only.
        let unnamed = self.superseded(issuer)?.map(|at| at.plus(UNREVOCABLE));
        let life = Duration::from_secs(u64::from(core.settings.crl_hours.max(1)) * 3600);
        Ok(unnamed.map(|unnamed| unnamed.max(named.unwrap_or_default()).plus(life)))
    }

    /// When the log says that another took over.
    fn superseded(&self, issuer: &Issuer) -> Result<Option<Timestamp>, NotNow> {
        let core = &self.core;
        let leaves = core.log.index().authorities().map_err(|why| core.lost_index(&why))?;
        for leaf in leaves {
            if let Record::IssuerAddedV1(added) = self.read(leaf)?
                && added.supersedes == Some(issuer.sha256)
            {
                return Ok(Some(added.at));
            }
        }
        Ok(None)
    }

    fn read(&self, leaf: LeafIndex) -> Result<Record, NotNow> {
        self.core.log.read(leaf).map_err(|why| self.core.lost_index(&why))
    }
}

const UNREVOCABLE: Duration = Duration::from_secs(Profile::MAX_UNREVOCABLE_HOURS as u64 * 3600);
