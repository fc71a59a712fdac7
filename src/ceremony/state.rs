//! Where a ceremony leaves what it made, and what it leaves when it is cut short.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::plan::{KeyFile, Plan};
use super::transcript::{HeldBy, Transcript};
use crate::env::{Clock, Disk, Rng, random_16};
use crate::hsm::direct::Direct;
use crate::id::{hex, unhex};
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::uri::Pkcs11Uri;
use crate::state::{Format, Written};
use crate::tlog::transcript;

/// The box, as much of it as a ceremony touches.
pub struct Place {
    /// `ca/`: authority, transcripts, the root's own record.
    pub ca: PathBuf,
    /// `public/`.
    pub public: PathBuf,
    /// The log's directory.
    pub log: PathBuf,
    pub log_settings: crate::log::Settings,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub attendance: Attendance,
}

/// Who holds a ceremony, and whether in earnest: for the transcript.
#[derive(Clone, Debug, Default)]
pub struct Attendance {
    pub held_by: Option<HeldBy>,
    pub attended_by: Vec<String>,
    pub rehearsal: bool,
}

/// Open tokens by role.
pub type Tokens = BTreeMap<String, Arc<Direct>>;

/// `ca/unfinished.json`: the keys a ceremony is about to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    pub ceremony: String,
    pub began: String,
    pub keys: Vec<PlannedKey>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedKey {
    pub name: String,
    pub label: String,
    pub token: String,
    /// CKA_ID, hex.
    pub id: String,
}

/// `ca/root.json`, on the box of an offline root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// Version of this format: 1.
    pub version: u32,
    /// PEM.
    pub root: String,
    pub root_key: KeyRecord,
    pub root_crl_url: String,
    pub transcript_sha256: String,
}

impl Place {
    /// Names a CA that is being retired: nothing is issued from then on.
    pub(super) fn retiring_path(&self) -> PathBuf {
        self.ca.join("retiring.json")
    }

    /// Says that a CA was retired.
    pub(super) fn retired_path(&self) -> PathBuf {
        self.ca.join("retired.json")
    }

    pub(super) fn authority_path(&self) -> PathBuf {
        self.ca.join("authority.json")
    }

    pub(super) fn root_path(&self) -> PathBuf {
        self.ca.join("root.json")
    }

    /// The root's CRL, which the issuer publishes again from here: the root key is not at hand every day.
    pub(super) fn root_crl_path(&self) -> PathBuf {
        self.crl_path(Authority::FIRST_ROOT)
    }

    /// The same of the root of this name.
    pub(super) fn crl_path(&self, root: &str) -> PathBuf {
        self.ca.join(format!("{root}.crl"))
    }

    /// In which format this box's state is written.
    pub(super) fn format(&self) -> Result<Format, CeremonyError> {
        let written = Written::read(&*self.disk, &self.ca).map_err(CeremonyError::Refused)?;
        Ok(written.format)
    }

    fn unfinished_path(&self) -> PathBuf {
        self.ca.join("unfinished.json")
    }

    /// Refuses if a ceremony was held here or on these tokens, or was cut short.
    pub(super) fn refuse_if_held(&self, plan: &Plan, tokens: &Tokens) -> Result<(), CeremonyError> {
        let refuse = |why: String| Err(CeremonyError::Refused(why));
        self.refuse_keys(&plan.keys, tokens)?;
        for path in [self.authority_path(), self.root_path()] {
            if self.read_optional(&path)?.is_some() {
                return refuse(format!(
                    "CHY-CEREMONY-DONE: {} exists: this box has its CA already; nothing was changed",
                    path.display()
                ));
            }
        }
        let segments = self.disk.list(&self.log).unwrap_or_default();
        if plan.log_is_made() && !segments.is_empty() {
            return refuse(format!(
                "CHY-CEREMONY-DONE: {} holds a log already; nothing was changed",
                self.log.display()
            ));
        }
        Ok(())
    }

    /// Refuses if a ceremony was cut short here, or a token holds keys of these names.
    pub(super) fn refuse_keys(
        &self,
        keys: &[KeyFile],
        tokens: &Tokens,
    ) -> Result<(), CeremonyError> {
        let refuse = |why: String| Err(CeremonyError::Refused(why));
        if let Some(found) = self.unfinished()? {
            return refuse(format!(
                "CHY-CEREMONY-UNFINISHED: ceremony {:?} of {} stopped midway; {} names the keys it may have made. \
                 --discard-unfinished removes exactly those and begins anew",
                found.ceremony,
                found.began,
                self.unfinished_path().display()
            ));
        }
        for key in keys {
            let token = token(tokens, &key.token)?;
            let lacks = token
                .lacks(key.kind.into(), key.algorithm()?)
                .map_err(|why| CeremonyError::Refused(why.to_string()))?;
            if !lacks.is_empty() {
                return refuse(format!(
                    "CHY-CEREMONY-MECHANISM: token {:?} cannot make key {:?}: it has no {}; nothing was changed. \
                     Choose another kind of key, or another token",
                    token.token.label,
                    key.name,
                    lacks.join(" and no ")
                ));
            }
            if token.holds(&key.label).map_err(|why| CeremonyError::Refused(why.to_string()))? {
                return refuse(format!(
                    "CHY-CEREMONY-KEYS-EXIST: token {:?} holds a key labelled {:?} already; nothing was changed. \
                     A ceremony makes new keys on a token that has none of its names",
                    token.token.label, key.label
                ));
            }
        }
        Ok(())
    }

    /// Writes down, durably, which keys will be made, with their ids.
    pub(super) fn begin(&self, name: &str, keys: &[KeyFile]) -> Result<Unfinished, CeremonyError> {
        let refused = |error: std::io::Error| CeremonyError::Refused(io(&self.ca, &error));
        self.disk.create_dir(&self.ca).map_err(refused)?;
        let keys = keys.iter().map(|key| PlannedKey {
            name: key.name.clone(),
            label: key.label.clone(),
            token: key.token.clone(),
            id: hex(&random_16(&*self.rng)),
        });
        let unfinished = Unfinished {
            ceremony: name.to_owned(),
            began: self.clock.now().to_string(),
            keys: keys.collect(),
        };
        let bytes = serde_json::to_vec_pretty(&unfinished)
            .map_err(|e| CeremonyError::Refused(format!("CHY-INTERNAL: {e}")))?;
        self.disk.replace(&self.unfinished_path(), &bytes, true).map_err(refused)?;
        Ok(unfinished)
    }

    /// The ceremony is over.
    pub(super) fn end(&self) -> Result<(), CeremonyError> {
        let path = self.unfinished_path();
        self.disk
            .remove(&path)
            .and_then(|()| self.disk.sync_dir(&self.ca))
            .map_err(|error| CeremonyError::Unfinished(io(&path, &error)))
    }

    /// What an earlier ceremony left.
    pub fn unfinished(&self) -> Result<Option<Unfinished>, CeremonyError> {
        self.read_json(&self.unfinished_path())
    }

    /// Removes the keys that an unfinished ceremony named and that count for nothing, and the log it may have begun
    /// where there is no CA yet. What `authority.json` or `root.json` names is in use and stays.
    pub fn discard_unfinished(&self, tokens: &Tokens) -> Result<(), CeremonyError> {
        let Some(unfinished) = self.unfinished()? else { return Ok(()) };
        let in_use = self.committed()?;
        self.discard_transcripts(&unfinished, &in_use)?;
        for key in &unfinished.keys {
            let id = unhex(&key.id).ok_or_else(|| broken(&self.unfinished_path(), "an id"))?;
            if in_use.contains(&id) {
                // It was made; only the note about it stayed behind.
                continue;
            }
            token(tokens, &key.token)?
                .destroy(&id)
                .map_err(|why| CeremonyError::Unfinished(why.to_string()))?;
        }
        if !in_use.is_empty() {
            // A CA stood here before; its log is not the unfinished ceremony's.
            return self.end();
        }
        let names = self.disk.list(&self.log).unwrap_or_default();
        let log = names.into_iter().map(|name| self.log.join(name));
        // Signed by a log key that is gone now, over a log that is.
        for path in log.chain([self.public.join("checkpoint")]) {
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CeremonyError::Unfinished(io(&path, &error)));
                }
                _ => {}
            }
        }
        self.end()
    }

    /// Removes the transcripts of keys that count for nothing, so that nobody records them as a ceremony.
    fn discard_transcripts(
        &self,
        unfinished: &Unfinished,
        in_use: &[Vec<u8>],
    ) -> Result<(), CeremonyError> {
        let lost = |octets: &[u8]| {
            let named = unfinished.keys.iter().any(|key| unhex(&key.id).as_deref() == Some(octets));
            named && !in_use.iter().any(|id| id == octets)
        };
        let names = self.disk.list(&self.ca).unwrap_or_default();
        for name in names.iter().filter(|name| transcript::is_file(name)) {
            let path = self.ca.join(name);
            let Some(transcript) = self.read_json::<Transcript>(&path)? else { continue };
            let mut ids =
                transcript.keys.iter().filter_map(|key| Pkcs11Uri::parse(&key.uri).ok()?.id);
            if !ids.any(|id| lost(&id)) {
                continue;
            }
            for extension in ["json", "txt", "note"] {
                let path = path.with_extension(extension);
                match self.disk.remove(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(CeremonyError::Unfinished(io(&path, &error)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The CKA_IDs of the keys that are in use here.
    fn committed(&self) -> Result<Vec<Vec<u8>>, CeremonyError> {
        let root: Option<RootRecord> = self.read_json(&self.root_path())?;
        let mut records: Vec<KeyRecord> = root.map(|root| root.root_key).into_iter().collect();
        if let Some(authority) = self.authority()? {
            records.extend(authority.keys().cloned());
        }
        let id =
            |record: &KeyRecord| record.id().map_err(|why| broken(&self.authority_path(), &why));
        records.iter().map(id).collect()
    }

    /// The authority, if there is one.
    pub(super) fn authority(&self) -> Result<Option<Authority>, CeremonyError> {
        self.read_json(&self.authority_path())
    }

    /// Writes a file below `ca/` or `public/`, durably, with its directory.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CeremonyError> {
        let failed = |error: std::io::Error| CeremonyError::Unfinished(io(path, &error));
        if let Some(parent) = path.parent() {
            let made = if path.starts_with(&self.public) {
                self.disk.create_public_dir(parent)
            } else {
                self.disk.create_dir(parent)
            };
            made.map_err(failed)?;
        }
        self.disk.replace(path, bytes, true).map_err(failed)
    }

    /// Writes a document below `ca/`, durably.
    pub(super) fn write_json(
        &self,
        path: &Path,
        value: &impl Serialize,
    ) -> Result<(), CeremonyError> {
        let mut bytes = serde_json::to_vec_pretty(value)
            .map_err(|e| CeremonyError::Unfinished(format!("CHY-INTERNAL: {e}")))?;
        bytes.push(b'\n');
        self.write(path, &bytes)
    }

    pub(super) fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        path: &Path,
    ) -> Result<Option<T>, CeremonyError> {
        match self.read_optional(path)? {
            None => Ok(None),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|why| broken(path, &why.to_string())),
        }
    }

    fn read_optional(&self, path: &Path) -> Result<Option<Vec<u8>>, CeremonyError> {
        match self.disk.read(path, 1 << 20) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CeremonyError::Refused(io(path, &error))),
        }
    }
}

/// The open token of a role.
pub(super) fn token<'a>(tokens: &'a Tokens, role: &str) -> Result<&'a Arc<Direct>, CeremonyError> {
    tokens.get(role).ok_or_else(|| {
        CeremonyError::Refused(format!("CHY-CEREMONY-FILE: no token is open for role {role:?}"))
    })
}

fn broken(path: &Path, why: &str) -> CeremonyError {
    CeremonyError::Refused(format!("CHY-CA-BROKEN: {}: {why}", path.display()))
}

pub(super) fn io(path: &Path, error: &std::io::Error) -> String {
    format!("CHY-STATE-DIR: {}: {error}", path.display())
}
