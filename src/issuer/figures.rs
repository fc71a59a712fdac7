//! What this process measured and counted, as /metrics shows it. Cheap: asked for at every scrape and every probe.

use super::service::Desk;
use crate::env::Spread;
use crate::env::system::own_process;
use crate::hsm::health::TokenHealth;
use crate::hsm::pool;
use crate::id::Timestamp;
use crate::ipc::figures::{
    self, Authority, ClockFigures, CrlAge, Ending, Figures, LogFigures, Process,
};
use crate::log::index::DAY;

impl Desk {
    /// `token` is its state, `pool` what its pool counted, `believed` whether the clock is.
    pub(super) fn figures(
        &self,
        token: &TokenHealth,
        pool: Option<&pool::Figures>,
        believed: bool,
    ) -> Figures {
        let core = &self.core;
        let now = core.rule.clock().now();
        let floor = core.log.index().newest_instant().unwrap_or_default().max(core.rule.build());
        let keys = pool.iter().flat_map(|pool| &pool.keys);
        Figures {
            authorities: self.authorities(),
            crls: self.crl_ages(),
            log: self.log_figures(),
            token: token.name().into(),
            keys: keys.map(|key| (key.name.clone(), token.signs_with(&key.name))).collect(),
            ending: self.ending(now),
            clock: ClockFigures { now, floor, believed },
            process: process(),
        }
    }

    fn authorities(&self) -> Vec<Authority> {
        let core = &self.core;
        let roots = core.roots.iter().map(|root| Authority {
            name: root.name.clone(),
            is_root: true,
            active: !root.is_retired(),
            not_after: root.tied.certificate.validity().1,
        });
        let issuers = core.issuers.all().iter().map(|issuer| Authority {
            name: issuer.name.clone(),
            is_root: false,
            active: core.issuers.is_active(issuer) && !issuer.is_revoked(),
            not_after: issuer.certificate.validity().1,
        });
        roots.chain(issuers).collect()
    }

    fn crl_ages(&self) -> Vec<CrlAge> {
        let core = &self.core;
        let signing =
            core.issuers.all().iter().filter(|issuer| issuer.is_added() && issuer.key().is_some());
        let issuers = signing.map(|issuer| {
            let (this_update, next_update, count) = self.crls.of_issuer(issuer);
            CrlAge { issuer: issuer.name.clone(), is_root: false, this_update, next_update, count }
        });
        let roots = core.roots.iter().zip(self.root_crls.iter()).filter_map(|(root, crl)| {
            let (this_update, next_update) = crl.dates().filter(|_| !root.is_retired())?;
            Some(CrlAge {
                issuer: root.name.clone(),
                is_root: true,
                this_update,
                next_update,
                count: 1,
            })
        });
        issuers.chain(roots).collect()
    }

    fn log_figures(&self) -> LogFigures {
        let core = &self.core;
        let log = core.log.figures();
        // One that an earlier process signed says no time. It is not older than the newest record it covers.
        let covers_all = core.covered() >= core.log.head().size;
        let newest = || core.log.index().newest_instant().ok().filter(|_| covers_all);
        LogFigures {
            octets: log.octets,
            segments: log.segments,
            reserve: log.reserve,
            syncs: spread(&log.syncs),
            checkpointed: log.checkpointed.or_else(newest).unwrap_or_default(),
            index: log.index,
            free: log.free,
        }
    }

    /// By days of the index's own count, so that a bound is the midnight (UTC) behind it.
    fn ending(&self, now: Timestamp) -> Vec<Ending> {
        let last = WITHIN_DAYS.iter().max().copied().unwrap_or_default();
        let until = Timestamp(now.0.saturating_add(u64::from(last) * DAY));
        let Ok(ends) = self.core.log.index().ends(now, until) else { return Vec::new() };
        let today = now.0 / DAY;
        let within = |days: u32| {
            ends.iter().filter(move |(day, _)| **day <= today + u64::from(days)).map(|(_, n)| n)
        };
        WITHIN_DAYS.map(|days| Ending { days, certificates: within(days).sum() }).to_vec()
    }
}

/// As it travels.
pub(super) fn spread(spread: &Spread) -> figures::Spread {
    let micros = u64::try_from(spread.sum().as_micros()).unwrap_or(u64::MAX);
    figures::Spread { counts: spread.counts().to_vec(), micros }
}

fn process() -> Process {
    let own = own_process();
    Process {
        resident: own.resident,
        cpu_centiseconds: own.cpu_centiseconds,
        threads: own.threads,
        files: own.files,
        most_files: own.most_files,
    }
}

/// Today alone, and so many days more.
const WITHIN_DAYS: [u32; 7] = [0, 1, 7, 14, 30, 90, 365];
