//! The end of a CA: its keys are destroyed, and what they were is proven to be gone. The log keys go last, after the
//! record that closes the log and the checkpoint over it.
//!
//! `ca/retiring.json` is written before anything is destroyed; with it nothing is issued any more, and run again the
//! ceremony goes on where it was cut short. `ca/retired.json` says that it is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::keys::Keys;
use super::later::{broken, refused, unchanged};
use super::plan::{TokenEntry, Urls};
use super::settle::LogSigner;
use super::state::{Place, RootRecord, Tokens};
use super::transcript::{GoneLine, RetirementLine, Title, Transcript};
use crate::hsm::direct::{Direct, DirectKey};
use crate::id::{LeafIndex, Timestamp, hex};
use crate::log::index::{Issuance, Listing, ReadTbs};
use crate::log::keys::LogKeys;
use crate::log::note::{NoteSignError, NoteSigner, VerifierKey};
use crate::log::reader::Reader;
use crate::log::record::{Actor, CeremonyHeldV1, RETIRE, Record};
use crate::log::writer::Opening;
use crate::log::{Log, Release};
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::certificate::Certificate;
use crate::pki::key::PublicKey;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::tree::TreeHead;

/// `hsm/ceremony/retire.toml`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    pub name: String,
    pub description: String,
    /// By role: keys on these tokens are destroyed, keys on others stay.
    pub tokens: BTreeMap<String, TokenEntry>,
}

/// `ca/retiring.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Retiring {
    /// Version of this format: 1.
    version: u32,
    ceremony: String,
    /// When it began, in milliseconds since 1970.
    began: Timestamp,
}

/// `ca/retired.json`: what the transcript could not say yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retired {
    /// Version of this format: 1.
    pub version: u32,
    pub ceremony: String,
    /// RFC 3339, when the last key was gone.
    pub at: String,
    pub transcript_sha256: String,
    /// The log's last record; absent where there was no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<LeafIndex>,
    /// The log's last checkpoint, a signed note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The log keys, destroyed after it was signed.
    pub destroyed: Vec<GoneLine>,
}

/// A key that shall go.
struct Doomed {
    label: String,
    id: Vec<u8>,
    uri: String,
    public: PublicKey,
    direct: Arc<Direct>,
}

/// The keys of this box, as a retirement sees them.
struct Fate {
    others: Vec<Doomed>,
    /// Oldest first.
    log: Vec<Doomed>,
    left: Vec<String>,
}

/// What the operator types to have it done: the common name of the issuing certificate, or of the root where there is
/// only that.
pub fn name_of(place: &Place) -> Result<String, CeremonyError> {
    let pem = match (place.authority()?, root_record(place)?) {
        (Some(Authority { issuing: Some(pem), .. }), _) => pem,
        (Some(Authority { root, .. }), _) | (None, Some(RootRecord { root, .. })) => root,
        (None, None) => return Err(nothing(place)),
    };
    let certificate = Certificate::parse_pem(&pem).map_err(|why| broken(&why.0))?;
    Ok(certificate.common_name().map_or_else(|| certificate.subject(), str::to_owned))
}

/// Destroys the keys of this box on these tokens. `although_valid`: certificates that are neither expired nor revoked
/// do not hold it up.
pub fn retire(
    document: &Document,
    tokens: &Tokens,
    place: &Place,
    read_tbs: ReadTbs,
    although_valid: bool,
) -> Result<(Option<Transcript>, Retired), CeremonyError> {
    if let Some(retired) = retired(place)? {
        return Err(refused(&format!(
            "CHY-CA-RETIRED: this CA was retired at {}; nothing is left to do",
            retired.at
        )));
    }
    if place.unfinished()?.is_some() {
        return Err(refused(
            "CHY-CEREMONY-UNFINISHED: another ceremony of this box stopped midway; finish it, or discard its keys, first",
        ));
    }
    let authority = place.authority()?.filter(|authority| authority.issuing.is_some());
    let fate = fate(place, tokens, authority.as_ref())?;
    let begun: Option<Retiring> = place.read_json(&place.retiring_path())?;
    let sealed = match (&authority, &begun) {
        (Some(authority), Some(_)) => sealed(place, authority)?,
        _ => None,
    };
    let mut transcript = None;
    let (sha256, end) = match (sealed, &authority) {
        (Some((sha256, leaf, note)), _) => (sha256, Some((leaf, note))),
        (None, None) => {
            let begun = begin(place, document, begun)?;
            let mut made = destroy_and_write(document, tokens, place, &begun, &fate, None)?;
            let sha256 = made.store(place).map_err(unchanged)?;
            transcript = Some(made);
            (sha256, None)
        }
        (None, Some(authority)) => {
            let log = open(place, authority, &fate, read_tbs)?;
            if log
                .index()
                .retired()
                .map_err(|why| refused(&format!("CHY-LOG-INDEX: {why}")))?
                .is_some()
            {
                // The record was made, and nothing more: its checkpoint is signed now, before this ends.
                drop(log);
                let (sha256, leaf, note) = sealed_again(place, authority)?;
                return finish(document, place, &fate, sha256, Some((leaf, note)))
                    .map(|r| (None, r));
            }
            if begun.is_none() && !although_valid {
                none_is_valid(&log, place.clock.now())?;
            }
            let begun = begin(place, document, begun)?;
            let mut made =
                destroy_and_write(document, tokens, place, &begun, &fate, Some(authority))?;
            let sha256 = made.store(place).map_err(unchanged)?;
            let newest = fate.log.last().ok_or_else(|| refused(NO_LOG_KEY))?;
            made.sign(place, &sha256, &newest.key()?).map_err(unchanged)?;
            let leaf = close(log, place, &made, sha256, begun.began)?;
            transcript = Some(made);
            let (_, _, note) = sealed_again(place, authority)?;
            (sha256, Some((leaf, note)))
        }
    };
    finish(document, place, &fate, sha256, end).map(|retired| (transcript, retired))
}

/// The log keys go, and then it is over.
fn finish(
    document: &Document,
    place: &Place,
    fate: &Fate,
    sha256: [u8; 32],
    end: Option<(LeafIndex, String)>,
) -> Result<Retired, CeremonyError> {
    let mut destroyed = Vec::new();
    for key in &fate.log {
        destroyed.push(key.destroy()?);
    }
    let (leaf, checkpoint) = end.unzip();
    let retired = Retired {
        version: 1,
        ceremony: document.name.clone(),
        at: place.clock.now().to_string(),
        transcript_sha256: hex(&sha256),
        leaf,
        checkpoint,
        destroyed,
    };
    place.write_json(&place.retired_path(), &retired).map_err(unchanged)?;
    let path = place.retiring_path();
    place
        .disk
        .remove(&path)
        .and_then(|()| place.disk.sync_dir(&place.ca))
        .map_err(|error| refused(&format!("CHY-STATE-DIR: {}: {error}", path.display())))?;
    Ok(retired)
}

/// What is left of a CA that was retired.
pub fn retired(place: &Place) -> Result<Option<Retired>, CeremonyError> {
    place.read_json(&place.retired_path())
}

fn begin(
    place: &Place,
    document: &Document,
    begun: Option<Retiring>,
) -> Result<Retiring, CeremonyError> {
    if let Some(begun) = begun {
        return Ok(begun);
    }
    let (ceremony, began) = (document.name.clone(), place.clock.now());
    let begun = Retiring { version: 1, ceremony, began };
    place.write_json(&place.retiring_path(), &begun).map_err(unchanged)?;
    Ok(begun)
}

fn destroy_and_write(
    document: &Document,
    tokens: &Tokens,
    place: &Place,
    begun: &Retiring,
    fate: &Fate,
    authority: Option<&Authority>,
) -> Result<Transcript, CeremonyError> {
    let mut destroyed = Vec::new();
    for key in &fate.others {
        destroyed.push(key.destroy()?);
    }
    let root_crl = root_record(place)?.map(|root| root.root_crl_url).unwrap_or_default();
    let title = Title {
        ceremony: &document.name,
        description: &document.description,
        understood: serde_json::to_vec(document).unwrap_or_default(),
        origin: authority.map_or("", |authority| &authority.origin),
        urls: authority.map_or_else(|| Urls { root_crl, ..Urls::default() }, Urls::of),
    };
    // As of when it began: run again it takes the place of one that was not recorded any more.
    let mut transcript = Transcript::of(title, tokens, &Keys(BTreeMap::new()), RETIRE, begun.began);
    if let Some(authority) = authority {
        transcript.log_key = verifier(authority, authority.newest_log_key())?.to_string();
    }
    transcript.retirement = Some(RetirementLine {
        destroyed,
        last: fate.log.iter().map(|key| key.label.clone()).collect(),
        left: fate.left.clone(),
    });
    Ok(transcript)
}

impl Doomed {
    fn of(record: &KeyRecord, tokens: &Tokens) -> Result<Option<Self>, CeremonyError> {
        let uri = record.parsed_uri().map_err(|why| broken(&why))?;
        let Some(direct) = tokens.values().find(|direct| direct.is_named_by(&uri)) else {
            return Ok(None);
        };
        let id = uri.id.ok_or_else(|| broken("a key's URI has no id"))?;
        let public = record.public_key().map_err(broken)?;
        let (label, direct) = (uri.object.unwrap_or_default(), Arc::clone(direct));
        Ok(Some(Self { label, id, uri: record.uri.clone(), public, direct }))
    }

    fn destroy(&self) -> Result<GoneLine, CeremonyError> {
        tracing::warn!(label = self.label, "destroying");
        let removal = self
            .direct
            .remove(&self.label, &self.id, &self.public)
            .map_err(|why| refused(&format!("{why}\nrun it again: it goes on from here")))?;
        Ok(GoneLine {
            label: self.label.clone(),
            uri: self.uri.clone(),
            objects: removal.objects,
            signature: removal.signature,
            logged_in_again: removal.logged_in_again,
        })
    }

    /// The key as it is now: what was found before another login is stale.
    fn key(&self) -> Result<DirectKey, CeremonyError> {
        let key = self.direct.key(&self.label, &self.id, self.public.clone());
        key.map_err(|why| refused(&why.to_string()))
    }
}

fn fate(
    place: &Place,
    tokens: &Tokens,
    authority: Option<&Authority>,
) -> Result<Fate, CeremonyError> {
    let mut fate = Fate { others: Vec::new(), log: Vec::new(), left: Vec::new() };
    let root = root_record(place)?.map(|root| root.root_key);
    let mut records: Vec<&KeyRecord> = root.iter().collect();
    if let Some(authority) = authority {
        records.extend(authority.keys());
    }
    if records.is_empty() {
        return Err(nothing(place));
    }
    for record in records {
        let is_log = authority.is_some_and(|a| a.log_keys().any(|key| key == record));
        match Doomed::of(record, tokens)? {
            Some(doomed) if is_log => fate.log.push(doomed),
            Some(doomed) => fate.others.push(doomed),
            None if is_log => {
                return Err(refused(&format!(
                    "CHY-CEREMONY-FILE: no token of the file is that of the log key {}; without it the log cannot be closed",
                    record.uri
                )));
            }
            None => fate.left.push(record.uri.clone()),
        }
    }
    if fate.others.is_empty() && fate.log.is_empty() {
        return Err(refused("CHY-CEREMONY-FILE: no key of this box is on a token of the file"));
    }
    Ok(fate)
}

/// The log, locked: no issuer runs.
fn open(
    place: &Place,
    authority: &Authority,
    fate: &Fate,
    read_tbs: ReadTbs,
) -> Result<Log, CeremonyError> {
    let mut signers: Vec<Arc<dyn NoteSigner>> = Vec::new();
    for record in [Some(authority.newest_log_key()), authority.former_log_key()] {
        let Some(record) = record else { continue };
        let key = fate.log.iter().find(|key| key.uri == record.uri);
        let key = key.ok_or_else(|| refused(NO_LOG_KEY))?;
        // Judged at once: it signs the last checkpoint.
        key.key()?;
        signers.push(Arc::new(Fresh {
            verifier: verifier(authority, record)?,
            label: key.label.clone(),
            id: key.id.clone(),
            public: key.public.clone(),
            direct: Arc::clone(&key.direct),
        }));
    }
    Log::open(Opening {
        disk: Arc::clone(&place.disk),
        dir: place.log.clone(),
        public: place.public.clone(),
        settings: place.log_settings.clone(),
        format: place.format()?,
        signers,
        clock: Arc::clone(&place.clock),
        read_tbs,
        on_halt: Box::new(|why| tracing::error!(%why, "the log halted")),
    })
    .map_err(|error| refused(&error.to_string()))
}

fn none_is_valid(log: &Log, now: Timestamp) -> Result<(), CeremonyError> {
    let failed = |why: String| refused(&format!("CHY-LOG-INDEX: {why}"));
    let index = log.index();
    let (mut after, mut valid, mut last) = (None, 0u64, now);
    loop {
        let part = index.certificates(&Listing::All, now, after.as_ref(), 1000).map_err(failed)?;
        for (_, serial, entry) in part.found {
            let issued = index.issuance(entry.intent, serial).map_err(failed)?;
            let counts = entry.account.is_some()
                && matches!(issued, Issuance::Issued { .. })
                && index.revocation(serial).map_err(failed)?.is_none();
            if counts {
                valid += 1;
                last = last.max(entry.not_after);
            }
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    if valid == 0 {
        return Ok(());
    }
    Err(refused(&format!(
        "CHY-RETIRE-VALID: {valid} certificates are neither expired nor revoked, the last until {last}; nobody could revoke them any more, and no CRL would follow. Let them expire or revoke them first (`chancery cert list`), or say --although-valid"
    )))
}

/// The record behind which there is nothing, and the checkpoint over it.
fn close(
    log: Log,
    place: &Place,
    transcript: &Transcript,
    transcript_sha256: [u8; 32],
    held: Timestamp,
) -> Result<LeafIndex, CeremonyError> {
    let by = transcript.held_by.as_ref();
    let record = CeremonyHeldV1 {
        at: place.clock.now().max(held),
        act: RETIRE.to_owned(),
        ceremony: transcript.ceremony.clone(),
        held,
        by: by.map(|by| Actor::Operator { uid: by.uid, user: by.user.clone() }),
        transcript_sha256,
    };
    // Not until a checkpoint covers it: where none can be published, that would be for ever.
    let appended = log.append_wait(Record::CeremonyHeldV1(record), Release::Durable);
    let leaf = appended.map_err(|why| {
        refused(&format!(
            "CHY-LOG-WAITS: the last record was not made ({why:?}); the log keys are still there. Run it again: it goes on from here"
        ))
    })?;
    // Its threads end with it, and the checkpoint is signed by then, or found missing.
    drop(log);
    Ok(leaf.leaf)
}

/// The digest of the transcript, the last leaf and the checkpoint that covers it, if the log was closed.
fn sealed(
    place: &Place,
    authority: &Authority,
) -> Result<Option<([u8; 32], LeafIndex, String)>, CeremonyError> {
    let failed = |why: &dyn std::fmt::Display| refused(&why.to_string());
    let reader = Reader::open(Arc::clone(&place.disk), &place.log).map_err(|e| failed(&e))?;
    let last = reader.last(LeafIndex(0), 1, &|_| true).map_err(|e| failed(&e))?.0.pop();
    let (leaf, sha256) = match last.map(|entry| (entry.leaf, entry.record)) {
        Some((leaf, Ok(Record::CeremonyHeldV1(held)))) if held.act == RETIRE => {
            (leaf, held.transcript_sha256)
        }
        _ => return Ok(None),
    };
    let Ok(note) = place.disk.read(&place.public.join("checkpoint"), 65_536) else {
        return Ok(None);
    };
    // A new log key signs from the leaf on that the issuer records; it may not have come to that.
    let mut covers = false;
    for record in [Some(authority.newest_log_key()), authority.former_log_key()] {
        let Some(record) = record else { continue };
        let stated = Checkpoint::open(&note, &verifier(authority, record)?);
        covers |=
            stated.is_ok_and(|Checkpoint { head: TreeHead { size, .. }, .. }| size == leaf.0 + 1);
    }
    Ok(covers.then(|| (sha256, leaf, String::from_utf8_lossy(&note).into_owned())))
}

fn sealed_again(
    place: &Place,
    authority: &Authority,
) -> Result<([u8; 32], LeafIndex, String), CeremonyError> {
    sealed(place, authority)?.ok_or_else(|| {
        refused(
            "CHY-LOG-WAITS: no checkpoint covers the last record yet; the log keys are still there. Run it again: it goes on from here",
        )
    })
}

fn verifier(authority: &Authority, record: &KeyRecord) -> Result<VerifierKey, CeremonyError> {
    let key = record.public_key().map_err(broken)?;
    LogKeys::begin(&authority.origin, key.spki())
        .map(|keys| keys.current().clone())
        .map_err(|why| broken(why.0))
}

/// Signs with the key as it is found each time: each key that goes ends the handles of the others.
struct Fresh {
    verifier: VerifierKey,
    label: String,
    id: Vec<u8>,
    public: PublicKey,
    direct: Arc<Direct>,
}

impl NoteSigner for Fresh {
    fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        let again = |_| NoteSignError::Retry(std::time::Duration::from_millis(200));
        let key = self.direct.key(&self.label, &self.id, self.public.clone()).map_err(again)?;
        let (verifier, retry) = (self.verifier.clone(), NoteSignError::Retry(RETRY));
        match (LogSigner { key, verifier }).sign(message) {
            Err(NoteSignError::Halt(_)) => Err(retry),
            other => other,
        }
    }
}

fn root_record(place: &Place) -> Result<Option<RootRecord>, CeremonyError> {
    place.read_json(&place.root_path())
}

fn nothing(place: &Place) -> CeremonyError {
    refused(&format!(
        "CHY-CA-ABSENT: {} holds neither a CA nor a root: there is nothing to retire",
        place.ca.display()
    ))
}

const NO_LOG_KEY: &str = "CHY-CEREMONY-FILE: the log key is on no token of the file; without it the log cannot be closed";
const RETRY: std::time::Duration = std::time::Duration::from_millis(200);
