//! The log's own key, as a ceremony rotates it: the leaf that names the new key, and the leaf that retires the
//! former one, by date or by the operator's word. Who signs what in between, `log` knows by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64, Encoding};

use super::core::{Core, NotNow, lock};
use super::issuers::digest;
use super::signing::LOG_KEY;
use crate::id::{LeafIndex, Timestamp};
use crate::log::Release;
use crate::log::keys::{LogKeys, Rotation};
use crate::log::record::{Actor, LogKeyRetiredV1, LogKeyRotatedV1, Record};
use crate::pki::authority::Authority;

pub(super) struct KeyTurn {
    core: Arc<Core>,
    /// What `ca/authority.json` says of the newest rotation, if the log did not say it yet at the start.
    pending: Option<Pending>,
    /// One leaf about keys at a time.
    turning: Mutex<()>,
}

struct Pending {
    former: Vec<u8>,
    key: Vec<u8>,
    endorsement: Vec<u8>,
    possession: Vec<u8>,
    cross_over: Duration,
    transcript_sha256: [u8; 32],
}

/// Why an operator's word was not heeded.
pub(super) enum NotRetired {
    NotNow(NotNow),
    /// One key signs; there is no former one.
    Nothing,
}

impl KeyTurn {
    /// Refuses where the log's records and `ca/authority.json` name other keys.
    pub(super) fn new(core: Arc<Core>, authority: &Authority) -> Result<Self, String> {
        let disagree = |why: &str| {
            format!(
                "CHY-LOG-KEY: {why}; restore ca/authority.json as the newest ceremony of this log left it"
            )
        };
        let broken = || disagree("what ca/authority.json says of a log key is not base64");
        let keys = core.log.keys();
        let mut fixed = Vec::new();
        for record in authority.log_keys() {
            fixed.push(record.spki_der().map_err(|_| broken())?);
        }
        let logged = keys.terms().len();
        if keys.terms().iter().map(|term| term.key.spki()).ne(fixed.iter().take(logged)) {
            return Err(disagree("the log's records name other log keys than ca/authority.json"));
        }
        let open = keys.former().is_some();
        let pending = match (&fixed[logged..], authority.log_key_rotations.last()) {
            ([], Some(rotation)) if rotation.former_done && open => {
                return Err(disagree(
                    "ca/authority.json says that the former log key is done with, but the log has not retired it",
                ));
            }
            ([], _) => None,
            ([key], Some(rotation)) if !open && !rotation.former_done => {
                let pending = Pending {
                    former: fixed[logged - 1].clone(),
                    key: key.clone(),
                    endorsement: Base64::decode_vec(&rotation.endorsement).map_err(|_| broken())?,
                    possession: Base64::decode_vec(&rotation.possession).map_err(|_| broken())?,
                    cross_over: DAY * rotation.cross_over_days,
                    transcript_sha256: digest(&rotation.transcript_sha256)
                        .ok_or_else(|| disagree("a rotation's transcript has no SHA-256"))?,
                };
                // Tried on a copy: a leaf that nobody heeds would stay in the log for ever.
                pending
                    .rotate(&mut keys.clone(), LeafIndex(core.log.head().size))
                    .map_err(|why| disagree(&why))?;
                Some(pending)
            }
            _ => return Err(disagree("ca/authority.json is ahead of the log's own keys")),
        };
        Ok(Self { core, pending, turning: Mutex::new(()) })
    }

    /// Rotates when a ceremony made a new key, retires the former when its time is over.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let core = &self.core;
        let _one = lock(&self.turning);
        let keys = core.log.keys();
        let newest = keys.current().spki();
        if let Some(pending) = self.pending.as_ref().filter(|pending| pending.former == newest) {
            core.token_signs(LOG_KEY)?;
            let at = core.now()?;
            let record = pending.record(at);
            let leaf = core.append_wait(Record::LogKeyRotatedV1(record), Release::Durable)?.leaf;
            tracing::warn!(%leaf, "the log has another key; the former signs too for a while");
            return Ok(());
        }
        let (Some(former), Some(until)) = (keys.former(), self.until(&keys)?) else {
            return Ok(());
        };
        let at = core.now()?;
        if at >= until {
            self.append_retirement(at, former.spki(), None)?;
        }
        Ok(())
    }

    /// Retires the former key now.
    pub(super) fn retire(&self, by: Actor) -> Result<LeafIndex, NotRetired> {
        let _one = lock(&self.turning);
        let keys = self.core.log.keys();
        let former = keys.former().ok_or(NotRetired::Nothing)?;
        let at = self.core.now().map_err(NotRetired::NotNow)?;
        self.append_retirement(at, former.spki(), Some(by)).map_err(NotRetired::NotNow)
    }

    fn append_retirement(
        &self,
        at: Timestamp,
        key: &[u8],
        by: Option<Actor>,
    ) -> Result<LeafIndex, NotNow> {
        let record = Record::LogKeyRetiredV1(LogKeyRetiredV1 { at, key: key.to_vec(), by });
        let leaf = self.core.append_wait(record, Release::Durable)?.leaf;
        tracing::warn!(%leaf, "the former log key signs no more");
        Ok(leaf)
    }

    /// Until when both shall sign, as the newest rotation's leaf says.
    fn until(&self, keys: &LogKeys) -> Result<Option<Timestamp>, NotNow> {
        let Some(leaf) = keys.terms().last().and_then(|term| term.begins.checked_sub(1)) else {
            return Ok(None);
        };
        match self.core.log.read(LeafIndex(leaf)) {
            Ok(Record::LogKeyRotatedV1(rotated)) => Ok(Some(rotated.until)),
            Ok(_) => Err(self.core.lost_index(&format!("leaf {leaf} rotates no log key"))),
            Err(why) => Err(self.core.lost_index(&why)),
        }
    }
}

impl Pending {
    fn rotate(&self, keys: &mut LogKeys, leaf: LeafIndex) -> Result<(), String> {
        let Self { former, key, endorsement, possession, .. } = self;
        keys.rotate(leaf, &Rotation { former, key, endorsement, possession })
            .map_err(|why| why.to_string())
    }

    fn record(&self, at: Timestamp) -> LogKeyRotatedV1 {
        LogKeyRotatedV1 {
            at,
            former: self.former.clone(),
            key: self.key.clone(),
            endorsement: self.endorsement.clone(),
            possession: self.possession.clone(),
            until: at.plus(self.cross_over),
            transcript_sha256: self.transcript_sha256,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
