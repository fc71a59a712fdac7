//! Another key for the log, on the token where the one before it is: made, signed for by both, written down. From its
//! next start on the issuer signs with both; `finish` is for when the former signs no more.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::execute::Outcome;
use super::keys::{make_keys, sign_error};
use super::later::{self, begun, commit, key_of, refused};
use super::plan::{KeyFile, Kind, TokenEntry, Urls, check_label};
use super::state::{Place, Tokens, token};
use super::transcript::{RotationLine, Title, Transcript};
use crate::hsm::Signer;
use crate::hsm::direct::DirectKey;
use crate::id::hex;
use crate::log::keys::statement;
use crate::log::note::{Note, VerifierKey};
use crate::pki::authority::{KeyRecord, LogKeyRotation};

/// `hsm/ceremony/log-key.toml`, as written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    pub name: String,
    pub description: String,
    /// The key file of the new key, relative to this one. Its name is `log`, its label is new.
    pub key: std::path::PathBuf,
    /// For how many days both keys sign.
    pub cross_over_days: u32,
    /// By role: the one of the key file.
    pub tokens: BTreeMap<String, TokenEntry>,
}

/// A rotation that can be held.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    pub document: Document,
    pub key: KeyFile,
}

impl Rotation {
    /// Checks everything that can be checked without a token.
    pub fn new(document: Document, key: KeyFile) -> Result<Self, CeremonyError> {
        let bad = |why: &str| Err(refused(&format!("CHY-CEREMONY-FILE: {why}")));
        if key.name != "log"
            || key.signature.is_some()
            || !matches!(key.kind, Kind::Ed25519 | Kind::EcP256)
        {
            return bad(
                "the key file is not one of a log key: name \"log\", kind ed25519 or ec-p256",
            );
        }
        check_label(&key)?;
        if !document.tokens.contains_key(&key.token) || document.tokens.len() != 1 {
            return bad("[tokens] does not have exactly the token of the key file");
        }
        if document.cross_over_days > LONGEST {
            return bad("cross-over-days is more than 3660");
        }
        Ok(Self { document, key })
    }

    /// What it would do, for people.
    pub fn effect(&self) -> String {
        format!(
            "ceremony {:?} would make key {:?}, which signs the log's checkpoints from the issuer's next start on; \
             the former key signs too for {} days",
            self.document.name, self.key.label, self.document.cross_over_days
        )
    }
}

/// Makes the new key and has both keys sign for it. What makes it count is `authority.json`.
pub fn rotate(
    rotation: &Rotation,
    tokens: &Tokens,
    place: &Place,
) -> Result<Outcome, CeremonyError> {
    let mut authority = begun(place, NO_KEY)?;
    if authority.former_log_key().is_some() {
        return Err(refused(
            "CHY-LOG-KEY-BUSY: the log key was rotated before, and that is not finished: `chancery log-key show` says how far it is",
        ));
    }
    let Document { name, description, .. } = &rotation.document;
    let files = std::slice::from_ref(&rotation.key);
    place.refuse_keys(files, tokens)?;
    let former = key_of("log", authority.newest_log_key(), &rotation.key.token, tokens)?;
    let now = place.clock.now();
    let keys = make_keys(name, files, tokens, place)?;
    let key = keys.get("log")?;
    let verifier = |key: &DirectKey| {
        VerifierKey::from_spki(&authority.origin, key.public_key().spki()).map_err(|why| {
            CeremonyError::Unfinished(format!(
                "CHY-CEREMONY-FILE: the log key cannot sign notes: {why}"
            ))
        })
    };
    let (from, to) = (verifier(&former)?, verifier(key)?);
    let text = statement(&from, &to);
    let sign = |key: &DirectKey, verifier: &VerifierKey| {
        let signature =
            key.sign(text.as_bytes()).map_err(|why| CeremonyError::Unfinished(sign_error(why)))?;
        // As everyone will verify it, for ever.
        if verifier.verify_text(text.as_bytes(), &signature) {
            Ok(Base64::encode_string(&signature))
        } else {
            Err(CeremonyError::Unfinished(
                "CHY-KEY-MISMATCH: a log key's signature does not verify".to_owned(),
            ))
        }
    };
    let (endorsement, possession) = (sign(&former, &from)?, sign(key, &to)?);
    let days = rotation.document.cross_over_days;
    let title = Title {
        ceremony: name,
        description,
        understood: serde_json::to_vec(&(&rotation.document, files)).unwrap_or_default(),
        origin: &authority.origin,
        urls: Urls::of(&authority),
    };
    let mut transcript = Transcript::of(title, tokens, &keys, "rotate-log-key", now);
    transcript.rotation = Some(RotationLine {
        former: from.to_string(),
        key: to.to_string(),
        endorsement: endorsement.clone(),
        possession: possession.clone(),
        cross_over_days: days,
    });
    let sha256 = transcript.store(place)?;
    authority.log_key_rotations.push(LogKeyRotation {
        key: keys.record("log")?,
        endorsement,
        possession,
        cross_over_days: days,
        transcript_sha256: hex(&sha256),
        former_done: false,
    });
    commit(place, &mut authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Notes that the former key is done with, as soon as the published checkpoint is signed by the new one alone; and
/// removes it from its token if `remove`. Says what was done; asked again, it goes on where it was cut short.
pub fn finish(
    rotation: &Rotation,
    tokens: &Tokens,
    place: &Place,
    remove: bool,
) -> Result<String, CeremonyError> {
    let mut authority = begun(place, NO_KEY)?;
    let origin = authority.origin.clone();
    // A log that another goes on for may have ended in the middle of its cross-over.
    let [.., former, key] = &authority.log_keys_ever().cloned().collect::<Vec<_>>()[..] else {
        return Err(refused("CHY-LOG-KEY-ALONE: the log key was never rotated"));
    };
    let (former, key) = (former.clone(), verifier(&origin, key)?);
    let path = place.public.join("checkpoint");
    let note = place
        .disk
        .read(&path, 65_536)
        .map_err(|error| refused(&format!("CHY-STATE-DIR: {}: {error}", path.display())))?;
    let signed = crate::log::checkpoint::Checkpoint::open(&note, &key).is_ok();
    let both = Note::parse(&note).is_ok_and(|note| {
        verifier(&origin, &former).is_ok_and(|former| note.by(&former).next().is_some())
    });
    if !signed || both {
        return Err(refused(
            "CHY-LOG-KEY-BUSY: the former log key still signs; wait for the end of the cross-over, or end it with `chancery log-key retire`",
        ));
    }
    let mut done = Vec::new();
    if let Some(last) = authority.log_key_rotations.last_mut().filter(|last| !last.former_done) {
        last.former_done = true;
        commit(place, &mut authority)?;
        done.push("the former log key is done with; restart the issuer, which then asks the token for it no more");
    }
    if remove {
        let id = former.id().map_err(|why| broken(&why))?;
        token(tokens, &rotation.key.token)?
            .destroy(&id)
            .map_err(|why| refused(&why.to_string()))?;
        done.push("it was removed from its token");
    }
    Ok(if done.is_empty() { "nothing was left to do".to_owned() } else { done.join("; ") })
}

fn broken(why: &str) -> CeremonyError {
    later::broken(&format!("the log key: {why}"))
}

const NO_KEY: &str = "whose log key could be rotated; hold its ceremony first";

fn verifier(origin: &str, record: &KeyRecord) -> Result<VerifierKey, CeremonyError> {
    let spki = record.spki_der().map_err(broken)?;
    VerifierKey::from_spki(origin, &spki).map_err(|why| broken(why.0))
}

/// Ten years.
const LONGEST: u32 = 3660;
