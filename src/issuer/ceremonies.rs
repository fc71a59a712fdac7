//! Later ceremonies. They are held by another process, which leaves a transcript in `ca/`: the issuer signs it with the
//! log key and records it by its digest. The transcript of the first ceremony is in the log's first record, signed then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;

use super::core::{Core, NotNow, Part, lock};
use crate::acme::rfc3339;
use crate::log::Release;
use crate::log::note::{NoteSignError, NoteSigner};
use crate::log::record::{Actor, CeremonyHeldV1, Record};
use crate::tlog::transcript;
use crate::tlog::tree::sha256;

/// Where ceremonies leave their transcripts, and the key that signs them.
pub struct Transcripts {
    /// `ca/`.
    pub dir: PathBuf,
    /// The newest log key.
    pub signer: Arc<dyn NoteSigner>,
}

pub(super) struct Ceremonies {
    core: Arc<Core>,
    transcripts: Option<Transcripts>,
    /// Names of files that need nothing any more.
    done: Mutex<BTreeSet<String>>,
}

/// What is read of a transcript; the rest is for people.
#[derive(Deserialize)]
struct Told {
    act: String,
    ceremony: String,
    at: String,
    #[serde(default)]
    held_by: Option<User>,
    #[serde(default)]
    rehearsal: bool,
}

#[derive(Deserialize)]
struct User {
    uid: u32,
    user: String,
}

impl Ceremonies {
    pub(super) fn new(core: Arc<Core>, transcripts: Option<Transcripts>) -> Self {
        Self { core, transcripts, done: Mutex::default() }
    }

    /// Signs and records what is there and is not yet.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        let Some(Transcripts { dir, .. }) = &self.transcripts else { return Ok(()) };
        let names = self.core.disk.list(dir).unwrap_or_default();
        // Its keys may be discarded again, and its transcript with them.
        if names.iter().any(|name| name == "unfinished.json") {
            return Ok(());
        }
        let mut said = None;
        for name in names.into_iter().filter(|name| transcript::is_file(name)) {
            if lock(&self.done).contains(&name) {
                continue;
            }
            match self.take(&dir.join(&name))? {
                Ok(()) => drop(lock(&self.done).insert(name)),
                Err(why) => said = Some(format!("ca/{name}: {why}")),
            }
        }
        match said {
            Some(why) => self.core.problems.set(Part::Transcript, "CHY-TRANSCRIPT", format!(
                "a transcript in ca/ cannot be signed and recorded: {why}; restore it as its ceremony left it, or take it out of ca/"
            )),
            None => self.core.problems.clear(Part::Transcript),
        }
        Ok(())
    }

    /// The inner error is for an operator, and holds up nothing else.
    fn take(&self, path: &Path) -> Result<Result<(), String>, NotNow> {
        let Some(Transcripts { signer, .. }) = &self.transcripts else { return Ok(Ok(())) };
        let core = &self.core;
        let octets = match core.disk.read(path, MOST) {
            Ok(octets) => octets,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let told: Told = match serde_json::from_slice(&octets) {
            Ok(told) => told,
            Err(why) => return Ok(Err(format!("it does not parse: {why}"))),
        };
        let Some(held) = rfc3339::parse(&told.at) else {
            return Ok(Err("its instant is none".into()));
        };
        if told.rehearsal {
            return Ok(Err("it is of a rehearsal".into()));
        }
        if [&told.act, &told.ceremony].iter().any(|text| text.len() > 255)
            || told.act.chars().any(char::is_control)
        {
            return Ok(Err("its names are too long, or no names".into()));
        }
        let digest = sha256(&octets);
        let note = path.with_extension("note");
        let is_signed = core.disk.read(&note, MOST).is_ok();
        if !is_signed {
            let text = transcript::statement(&core.origin, &told.act, &told.at, &digest);
            let signature = signer.sign(text.clone().into_bytes()).map_err(|why| match why {
                NoteSignError::Retry(after) => NotNow::Wait(after),
                NoteSignError::Halt(why) => {
                    core.halt(&why);
                    NotNow::Wait(Duration::from_secs(5))
                }
            })?;
            let signed = transcript::signed(&text, signer.verifier_key(), signature);
            if let Err(error) = core.disk.replace(&note, signed.as_bytes(), true) {
                return Ok(Err(format!("its signature cannot be written: {error}")));
            }
        }
        let known = core.log.index().ceremony(&digest).map_err(|e| core.lost_index(&e))?;
        if known.is_none() {
            let by = told.held_by.map(|by| Actor::Operator { uid: by.uid, user: by.user });
            let (act, ceremony) = (told.act, told.ceremony);
            let at = core.now()?;
            let record = CeremonyHeldV1 { at, act, ceremony, held, by, transcript_sha256: digest };
            let leaf = core.append_wait(Record::CeremonyHeldV1(record), Release::Durable)?.leaf;
            tracing::info!(leaf = leaf.0, transcript = %path.display(), "a ceremony was recorded");
        }
        Ok(Ok(()))
    }
}

/// Octets of a transcript at most: some dozen keys and certificates.
const MOST: u64 = 1 << 20;
