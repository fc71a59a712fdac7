//! What makes a ceremony count, all but `authority.json`: transcript, the log's first record and checkpoint, public
//! files.

use std::sync::Arc;

use super::CeremonyError;
use super::keys::sign_error;
use super::plan::{Plan, published_as};
use super::state::{Place, io};
use super::transcript::Transcript;
use crate::hsm::Signer;
use crate::hsm::direct::DirectKey;
use crate::id::{LeafIndex, Timestamp};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{NoteSignError, NoteSigner, VerifierKey};
use crate::log::record::{CeremonyV1, Record};
use crate::log::writer::Opening;
use crate::log::{Log, recover::OpenError};
use crate::pki::certificate::Certificate;
use crate::pki::key::PublicKey;
use crate::state::{Format, Written};

/// What the log's first record and the public files are about.
pub(super) struct Made<'a> {
    pub(super) root: &'a Certificate,
    pub(super) issuing: &'a Certificate,
    pub(super) root_crl: &'a [u8],
}

impl Made<'_> {
    fn is_of(&self, first: &CeremonyV1, log_key: &PublicKey) -> bool {
        first.root_sha256 == self.root.fingerprint()
            && first.issuing_sha256 == self.issuing.fingerprint()
            && first.log_key == log_key.spki()
    }
}

/// Transcript, log with its first checkpoint, public files: all but the commit.
pub(super) fn settle(
    plan: &Plan,
    place: &Place,
    transcript: &mut Transcript,
    made: &Made<'_>,
    log_key: &DirectKey,
    now: Timestamp,
) -> Result<[u8; 32], CeremonyError> {
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let verifier =
        VerifierKey::from_spki(plan.origin(), log_key.public_key().spki()).map_err(|why| {
            unfinished(format!("CHY-CEREMONY-FILE: the log key cannot sign notes: {}", why.0))
        })?;
    let begun = place.disk.list(&place.log).is_ok_and(|names| !names.is_empty());
    let format = if begun { place.format()? } else { Format::OWN };
    let opening = || Opening {
        disk: Arc::clone(&place.disk),
        dir: place.log.clone(),
        public: place.public.clone(),
        settings: place.log_settings.clone(),
        format,
        signers: vec![Arc::new(LogSigner { key: log_key.clone(), verifier: verifier.clone() })],
        clock: Arc::clone(&place.clock),
        // The issuer replays what it finds, with a reader.
        read_tbs: |_| None,
        on_halt: Box::new(|why| tracing::error!(%why, "the log halted")),
    };
    let failed = |why: OpenError| match why {
        OpenError::Retry(why) | OpenError::Refuse(why) | OpenError::Halt(why) => unfinished(why),
    };
    // An import that was cut short has begun the log already, and signed a checkpoint over it: the same log
    // is then gone on with, never another one in its place.
    let begun = if begun { Log::open(opening()).ok() } else { None };
    let (log, sha256) = match begun {
        Some(log) => {
            let first = log.read(LeafIndex(0)).map_err(unfinished)?;
            let sha256 = match first {
                Record::CeremonyV1(first) if made.is_of(&first, log_key.public_key()) => {
                    first.transcript_sha256
                }
                _ => {
                    return Err(unfinished(format!(
                        "CHY-LOG-EXISTS: {} holds the log of another CA",
                        place.log.display()
                    )));
                }
            };
            (log, sha256)
        }
        None => {
            // Of a log that another release has begun, its format stays.
            Written::NEW
                .write(&*place.disk, &place.ca)
                .map_err(|error| unfinished(io(&place.ca, &error)))?;
            let sha256 = transcript.store(place)?;
            transcript.sign(place, &sha256, log_key)?;
            let first = CeremonyV1 {
                at: now,
                origin: plan.origin().to_owned(),
                root_sha256: made.root.fingerprint(),
                issuing_sha256: made.issuing.fingerprint(),
                log_key: log_key.public_key().spki().to_vec(),
                transcript_sha256: sha256,
            };
            (Log::create(opening(), first).map_err(failed)?, sha256)
        }
    };
    // Its threads end with the value, and what was due is signed and published by then.
    drop(log);
    let checkpoint = place.disk.read(&place.public.join("checkpoint"), 65_536).map_err(|e| {
        unfinished(format!("CHY-STATE-DIR: the first checkpoint was not published: {e}"))
    })?;
    let checkpoint = Checkpoint::open(&checkpoint, &verifier).map_err(|why| {
        unfinished(format!("CHY-INTERNAL: the first checkpoint does not verify: {why:?}"))
    })?;
    if checkpoint.head.size != 1 {
        return Err(unfinished(
            "CHY-INTERNAL: the first checkpoint is not of one record".to_owned(),
        ));
    }
    publish(place, plan, made.root, Some(made.issuing), Some(made.root_crl))?;
    Ok(sha256)
}

/// `root.pem`, and what the URLs name.
pub(super) fn publish(
    place: &Place,
    plan: &Plan,
    root: &Certificate,
    issuing: Option<&Certificate>,
    root_crl: Option<&[u8]>,
) -> Result<(), CeremonyError> {
    let urls = &plan.document.urls;
    if let Some(bytes) = root_crl {
        place.write(&place.root_crl_path(), bytes)?;
    }
    place.write(&place.public.join("root.pem"), root.pem().as_bytes())?;
    let named = [(&urls.aia, issuing.map(Certificate::der)), (&urls.root_crl, root_crl)];
    for (url, bytes) in named {
        if let (Some(file), Some(bytes)) = (published_as(url), bytes) {
            place.write(&place.public.join(file), bytes)?;
        }
    }
    Ok(())
}

/// Signs the log's first checkpoint.
pub(super) struct LogSigner {
    pub(super) key: DirectKey,
    pub(super) verifier: VerifierKey,
}

impl NoteSigner for LogSigner {
    fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        self.key.sign(&message).map_err(|why| NoteSignError::Halt(sign_error(why)))
    }
}
