//! The box's own epoch: the file that is held against the token's, see `hsm::epoch`; and what a restore left to be
//! recorded in the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::core::{Core, NotNow, lock};
use crate::env::{Disk, Rng, random_16};
use crate::hsm::epoch::{Epoch, Fence, Fencing, Held};
use crate::id::{LeafIndex, Timestamp};
use crate::log::Release;
use crate::log::record::{Actor, EpochTakenV1, Record, RestoredV1, ShownBy};

/// The file `epoch.json` in the issuer's own directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnEpoch {
    version: u32,
    pub number: u64,
    pub holder: [u8; 16],
    /// Whether the token was seen to hold it.
    pub held: bool,
}

/// What an operator's tool did that the log does not say yet: the file `unrecorded.json`, until it does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unrecorded {
    pub version: u32,
    pub restored: Option<Restored>,
    pub epoch: Option<Taken>,
}

/// A restore after which the same log goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    pub size: u64,
    pub root: [u8; 32],
    pub made: Timestamp,
    pub backup_sha256: [u8; 32],
    pub shown: ShownBy,
    pub by: Actor,
}

/// A token that was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    pub number: u64,
    pub holder: [u8; 16],
    pub held: bool,
    pub by: Actor,
}

impl OwnEpoch {
    pub fn new(epoch: Epoch, held: bool) -> Self {
        Self { version: 1, number: epoch.number, holder: epoch.holder, held }
    }

    pub fn epoch(&self) -> Epoch {
        Epoch { number: self.number, holder: self.holder }
    }

    /// Reads it; `None` if there is none. `dir` is the issuer's own directory.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let broken = |why: &dyn std::fmt::Display| {
            format!(
                "CHY-EPOCH-FILE: {}: {why}; it says whose the token is. If this box has the right to sign: chancery backup take-token --yes",
                path.display()
            )
        };
        match disk.read(&path, MOST) {
            Ok(octets) => match serde_json::from_slice::<Self>(&octets) {
                Ok(own) if own.version == 1 => Ok(Some(own)),
                Ok(own) => Err(broken(&format!("version {} is not known here", own.version))),
                Err(why) => Err(broken(&why)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Writes it, durably.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let octets = serde_json::to_vec(self).map_err(io::Error::other)?;
        disk.replace(&dir.join(FILE), &octets, true)
    }
}

impl Unrecorded {
    /// Reads it; the empty one if there is none.
    pub fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        match disk.read(&dir.join(UNRECORDED), MOST) {
            Ok(octets) => serde_json::from_slice(&octets).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it, durably; removes it when it is empty.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let path = dir.join(UNRECORDED);
        if self.restored.is_some() || self.epoch.is_some() {
            let octets = serde_json::to_vec(self).map_err(io::Error::other)?;
            return disk.replace(&path, &octets, true);
        }
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => disk.sync_dir(dir),
        }
    }
}

/// The running issuer's.
pub struct BoxEpoch {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    ca: [u8; 32],
    own: Mutex<OwnEpoch>,
}

impl BoxEpoch {
    /// Reads the file; a box that never had one begins with the first.
    pub fn open(
        disk: Arc<dyn Disk>,
        rng: &dyn Rng,
        dir: &Path,
        ca: [u8; 32],
    ) -> Result<Self, String> {
        let own = match OwnEpoch::read(&*disk, dir)? {
            Some(own) => own,
            None => {
                let own = OwnEpoch::new(Epoch { number: 1, holder: random_16(rng) }, false);
                own.write(&*disk, dir).map_err(|error| {
                    format!("CHY-STATE-DIR: {}: {error}", dir.join(FILE).display())
                })?;
                own
            }
        };
        Ok(Self { disk, dir: dir.to_owned(), ca, own: Mutex::new(own) })
    }
}

impl Fencing for BoxEpoch {
    fn fence(&self) -> Fence {
        let own = lock(&self.own);
        Fence { ca: self.ca, own: own.epoch(), held: own.held }
    }

    fn found(&self, held: Held) {
        let mut own = lock(&self.own);
        match held {
            Held::Yes if !own.held => {
                own.held = true;
                tracing::info!(epoch = own.number, "the token is this box's");
                if let Err(error) = own.write(&*self.disk, &self.dir) {
                    // Then the next look that finds none makes another, as this one did.
                    tracing::warn!(%error, "the box's epoch cannot be written");
                }
            }
            Held::Yes => {}
            Held::Cannot => tracing::warn!(
                "CHY-EPOCH-UNSUPPORTED: the token takes no data objects: after a restore it does not keep this box from signing, only its operator and its witnesses do"
            ),
        }
    }
}

/// Records what a restore left; before anything else that this process decides.
pub(super) fn record(core: &Core) -> Result<(), NotNow> {
    let (disk, dir) = (&*core.disk, &core.dir);
    let lost = |error: io::Error| {
        tracing::warn!(%error, "CHY-STATE-DIR: what a restore left to be recorded cannot be read or written");
        NotNow::Wait(std::time::Duration::from_secs(5))
    };
    let mut left = Unrecorded::read(disk, dir).map_err(lost)?;
    if let Some(restored) = left.restored.take() {
        let Restored { size, root, made, backup_sha256, shown, by } = restored;
        let same = |record: &Record| matches!(record, Record::RestoredV1(r) if r.backup_sha256 == backup_sha256);
        if !is_in(core, size, &same) {
            let at = core.now()?;
            let record = RestoredV1 { at, size, root, made, backup_sha256, shown, by };
            core.append_wait(Record::RestoredV1(record), Release::Durable)?;
        }
        left.write(disk, dir).map_err(lost)?;
    }
    if let Some(Taken { number, holder, held, by }) = left.epoch.take() {
        let same = |record: &Record| matches!(record, Record::EpochTakenV1(r) if r.epoch >= number);
        let from = core.log.head().size.saturating_sub(LOOKED_AT);
        if !is_in(core, from, &same) {
            let at = core.now()?;
            let record = EpochTakenV1 { at, epoch: number, holder, held, by };
            core.append_wait(Record::EpochTakenV1(record), Release::Durable)?;
        }
        left.write(disk, dir).map_err(lost)?;
    }
    Ok(())
}

/// Whether one of the next leaves from `from` on is such: a process that stopped between record and file left it.
fn is_in(core: &Core, from: u64, such: &dyn Fn(&Record) -> bool) -> bool {
    let end = core.log.head().size.min(from.saturating_add(LOOKED_AT));
    (from..end).any(|leaf| core.log.read(LeafIndex(leaf)).is_ok_and(|record| such(&record)))
}

/// In the issuer's own directory.
pub const FILE: &str = "epoch.json";
const UNRECORDED: &str = "unrecorded.json";
const MOST: u64 = 1 << 16;
const LOOKED_AT: u64 = 1024;
