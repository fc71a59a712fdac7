//! Being a witness of other logs (C2SP tlog-witness, tlog-cosignature): verifies itself that a log has only grown
//! since it was cosigned last, makes that durable, and only then has the token sign.
//!
//! The web process hands over what another box sent, verbatim, and is believed nothing: neither the log's
//! signature nor the proof. What was cosigned last is a file for each log, replaced before anything is signed; a
//! crash between the two leaves a state without its signature, which the log gets by asking again. A state that
//! cannot be read is no state of zero: nothing is signed for that log until an operator has looked.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, NotNow, count, lock};
use super::signing::{SignQueue, WITNESS_KEY};
use crate::hsm::Class;
use crate::id::Timestamp;
use crate::ipc::Reply;
use crate::ipc::message::{Answer, Refusal};
use crate::ipc::witness::{Cosigned, Watch};
use crate::tlog::note::{Note, NoteSignature, VerifierKey};
use crate::tlog::tree::TreeHead;
use crate::tlog::witness::{AddCheckpoint, Refused, origin_hash};

use self::state::Latest;

mod state;

/// The key that cosigns, on the token, and its name.
#[derive(Clone)]
pub struct CosignerKey {
    verifier: VerifierKey,
    key: Arc<dyn SignQueue>,
}

impl CosignerKey {
    /// `name` is the witness's name, fixed by the ceremony that made the key.
    pub fn new(name: &str, key: Arc<dyn SignQueue>) -> Result<Self, String> {
        let verifier = VerifierKey::cosigner(name, key.public_key().spki()).map_err(|e| {
            format!("CHY-CA-BROKEN: name {name:?} and witness key make no cosigner's key: {e}; restore ca/authority.json from the ceremony's backup")
        })?;
        Ok(Self { verifier, key })
    }

    /// Its SubjectPublicKeyInfo.
    pub(super) fn spki(&self) -> Vec<u8> {
        self.verifier.spki().to_vec()
    }

    /// As others are told of it.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }
}

pub(super) struct Cosigner {
    core: Arc<Core>,
    /// `None`: this box has no key to cosign with.
    key: Option<CosignerKey>,
    logs: Vec<Arc<Watched>>,
}

/// One log that this box is a witness of.
struct Watched {
    origin: String,
    /// Every key it may sign with.
    keys: Vec<VerifierKey>,
    /// What was cosigned last.
    file: PathBuf,
    /// Two checkpoints that exclude each other, should the log ever sign such.
    fork: PathBuf,
    /// The same for everyone, with the cosignature.
    public: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    latest: Latest,
    /// The newest signature line, what it covers, and when it was made by the monotonic clock.
    line: Option<(String, NoteSignature, Duration)>,
    /// Wrong at this moment; empty: nothing.
    problem: String,
}

impl Cosigner {
    /// `watched`: every key of every log; logs are told apart by the keys' names.
    pub(super) fn new(
        core: Arc<Core>,
        key: Option<CosignerKey>,
        watched: &[VerifierKey],
    ) -> Result<Self, String> {
        let mut logs: Vec<Watched> = Vec::new();
        for key in watched {
            match logs.iter_mut().find(|log| log.origin == key.name()) {
                Some(log) => log.keys.push(key.clone()),
                None => logs.push(Watched::new(&core, key)),
            }
        }
        if key.is_none() && !logs.is_empty() {
            return Err("CHY-WITNESS-KEY: [issuer] watched-logs names logs to cosign, and this box has no witness key; hold the ceremony of hsm/ceremony/witness.toml".into());
        }
        if !logs.is_empty() {
            let dir = core.dir.join("witness");
            state::prepare(&*core.disk, &dir).map_err(|error| {
                format!(
                    "CHY-STATE-DIR: {}: {error}; see that it belongs to the issuer's user",
                    dir.display()
                )
            })?;
        }
        for log in &logs {
            log.load(&core);
        }
        Ok(Self { core, key, logs: logs.into_iter().map(Arc::new).collect() })
    }

    /// Judges a request and answers, sooner or later.
    pub(super) fn cosign(&self, body: &[u8], reply: Reply) {
        let answer = |cosigned| Ok(Answer::Cosigned(cosigned));
        let Some(key) = self.key.as_ref().filter(|_| !self.logs.is_empty()) else {
            return reply(answer(Cosigned::Unknown));
        };
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(why) => {
                tracing::debug!(%why, "a request to this box as a witness");
                return reply(answer(Cosigned::Malformed));
            }
        };
        let found = self.logs.iter().find(|log| log.origin == request.checkpoint.origin);
        let Some(log) = found else {
            tracing::info!(origin = %request.checkpoint.origin, "asked to cosign a log that is not watched");
            return reply(answer(Cosigned::Unknown));
        };
        let signed = match log.admit(&self.core, &request) {
            Ok(Admitted::Sign(signed)) => signed,
            Ok(Admitted::Again(line)) => {
                return reply(answer(Cosigned::Lines(format!("{line}\n"))));
            }
            Ok(Admitted::Refused(refused)) => {
                count(&self.core.counters.not_cosigned);
                return reply(answer(refused.into()));
            }
            Err(why) => return reply(Err(why.into())),
        };
        let (core, log, key_then) = (Arc::clone(&self.core), Arc::clone(log), key.clone());
        let head = request.checkpoint.head;
        let message = key.verifier.message(signed.note.text.as_bytes(), &head, signed.at);
        let then = Box::new(move |result: Result<Vec<u8>, _>| match result {
            Ok(signature) => {
                reply(log.signed(&core, &key_then.verifier, &head, signed, &signature))
            }
            // The state stands; the log asks again from there.
            Err(error) => reply(Err(core.unsigned(error).into())),
        });
        key.key.submit(Class::Cosignature, message, then);
    }

    /// For the health.
    pub(super) fn watches(&self) -> Vec<Watch> {
        self.logs.iter().map(|log| log.watch()).collect()
    }

    /// What an operator should know, as code and message.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        for log in &self.logs {
            let seen = lock(&log.seen);
            if let Latest::Unknown(why) = &seen.latest {
                problems.push(("CHY-WITNESS-STATE", why.clone()));
            }
            if !seen.problem.is_empty() {
                problems.push(("CHY-WATCHED-FORK", seen.problem.clone()));
            }
        }
        problems
    }
}

/// What becomes of a request whose log is known.
enum Admitted {
    /// Durable: it may be signed.
    Sign(Signing),
    /// This very text was cosigned a moment ago.
    Again(NoteSignature),
    Refused(Refused),
}

/// What is to be signed.
struct Signing {
    /// The checkpoint with the log's lines that verified.
    note: Note,
    at: Timestamp,
}

impl Watched {
    fn new(core: &Core, key: &VerifierKey) -> Self {
        let hash = origin_hash(key.name());
        let dir = core.dir.join("witness");
        Self {
            origin: key.name().to_owned(),
            keys: vec![key.clone()],
            file: dir.join(&hash),
            fork: dir.join(format!("{hash}.fork")),
            public: core.public.join("witness").join(hash).join("checkpoint"),
            seen: Mutex::new(Seen { latest: Latest::Never, line: None, problem: String::new() }),
        }
    }

    /// Reads what an earlier process cosigned last.
    fn load(&self, core: &Core) {
        let mut seen = lock(&self.seen);
        seen.latest = Latest::read(&*core.disk, &self.file);
        if let Latest::Unknown(why) = &seen.latest {
            tracing::error!(origin = %self.origin, "CHY-WITNESS-STATE: {why}");
        }
        // Also one that cannot be read was written for a reason.
        let fork = core.disk.read(&self.fork, 1);
        if !matches!(&fork, Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            seen.problem = self.forked();
        }
    }

    fn forked(&self) -> String {
        format!(
            "the log {} signed two checkpoints that exclude each other; both are in {}: its operator must know, and no certificate that only the later one proves is to be trusted",
            self.origin,
            self.fork.display()
        )
    }

    /// Verifies, and makes durable what will be signed. Of two requests at once one finds the other's state.
    fn admit(&self, core: &Core, request: &AddCheckpoint) -> Result<Admitted, NotNow> {
        let lines = match request.signed_by(&self.keys) {
            Ok(lines) => lines,
            Err(refused) => return Ok(Admitted::Refused(refused)),
        };
        let at = core.now()?;
        core.token_signs(WITNESS_KEY)?;
        let monotonic = core.rule.clock().monotonic();
        let mut seen = lock(&self.seen);
        if let Latest::Unread = seen.latest {
            seen.latest = Latest::read(&*core.disk, &self.file);
        }
        let latest = match &seen.latest {
            Latest::Known { head, .. } => Some(*head),
            Latest::Never => None,
            Latest::Unread | Latest::Unknown(_) => return Err(NotNow::Wait(BLIND)),
        };
        if let Err(refused) = request.continues(latest.as_ref()) {
            self.refused(core, &mut seen, request, lines, refused, latest.as_ref());
            return Ok(Admitted::Refused(refused));
        }
        let note = Note { text: request.note.text.clone(), signatures: lines };
        let head = request.checkpoint.head;
        if latest == Some(head) {
            // Who repeats what anyone can read costs the token nothing.
            let fresh = seen.line.as_ref().filter(|(text, _, made)| {
                *text == note.text && monotonic.saturating_sub(*made) < FRESH
            });
            if let Some((_, line, _)) = fresh {
                return Ok(Admitted::Again(line.clone()));
            }
            return Ok(Admitted::Sign(Signing { note, at }));
        }
        // Whatever becomes of the write: what this process knew is no longer what is on disk.
        seen.latest = Latest::Unread;
        match state::write(&*core.disk, &self.file, &note) {
            Ok(()) => seen.latest = Latest::Known { head, note: note.clone() },
            Err(error) if crate::env::disk::is_full(&error) => {
                tracing::error!(%error, file = %self.file.display(), "CHY-DISK-FULL: nothing is cosigned while its state cannot be kept");
                return Err(NotNow::Wait(BLIND));
            }
            Err(error) => {
                core.halt(&format!(
                    "CHY-WITNESS-STATE: {}: {error}; what was cosigned last is unknown until the issuer has read it again",
                    self.file.display()
                ));
                return Err(NotNow::Wait(BLIND));
            }
        }
        Ok(Admitted::Sign(Signing { note, at }))
    }

    /// Keeps the evidence where there is some: two trees of one size under signatures of one log. A proof that
    /// does not verify is none: anyone can send one with an honest checkpoint.
    fn refused(
        &self,
        core: &Core,
        seen: &mut Seen,
        request: &AddCheckpoint,
        lines: Vec<NoteSignature>,
        refused: Refused,
        latest: Option<&TreeHead>,
    ) {
        let head = &request.checkpoint.head;
        tracing::warn!(origin = %self.origin, size = head.size, ?refused, "not cosigned");
        let same_size = latest.is_some_and(|latest| latest.size == head.size && latest != head);
        let Latest::Known { note: known, .. } = &seen.latest else { return };
        if !same_size || !seen.problem.is_empty() {
            return;
        }
        let signed = Note { text: request.note.text.clone(), signatures: lines };
        let both = format!("{known}\n{signed}");
        if let Err(error) = core.disk.replace(&self.fork, both.as_bytes(), true) {
            tracing::error!(%error, file = %self.fork.display(), "the evidence of a fork cannot be kept");
        }
        seen.problem = self.forked();
        tracing::error!("CHY-WATCHED-FORK: {}", seen.problem);
    }

    /// The token has signed: the line is verified, remembered, published and answered.
    fn signed(
        &self,
        core: &Core,
        key: &VerifierKey,
        head: &TreeHead,
        signing: Signing,
        signature: &[u8],
    ) -> Result<Answer, Refusal> {
        let Signing { mut note, at } = signing;
        let octets = key.signature_octets(signature, at);
        if !key.verify(note.text.as_bytes(), head, &octets) {
            tracing::error!(
                "CHY-WITNESS-KEY: the witness key made a signature that does not verify; check the token"
            );
            return Err(Refusal::Retry(30_000));
        }
        let line = NoteSignature { name: key.name().to_owned(), id: key.id(), octets };
        let mut seen = lock(&self.seen);
        // A later request may have come between: what is published never goes back.
        if matches!(&seen.latest, Latest::Known { head: latest, .. } if latest == head) {
            let made = core.rule.clock().monotonic();
            seen.line = Some((note.text.clone(), line.clone(), made));
            note.signatures.push(line.clone());
            let parent = self.public.parent().unwrap_or(&core.public);
            let put = core
                .disk
                .create_public_dir(parent)
                .and_then(|()| core.disk.replace(&self.public, note.to_string().as_bytes(), false));
            if let Err(error) = put {
                tracing::warn!(%error, file = %self.public.display(), "what was cosigned cannot be published");
            }
        }
        drop(seen);
        core.counters.cosigned.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(origin = %self.origin, size = head.size, "cosigned");
        Ok(Answer::Cosigned(Cosigned::Lines(format!("{line}\n"))))
    }

    fn watch(&self) -> Watch {
        let seen = lock(&self.seen);
        let size = match &seen.latest {
            Latest::Known { head, .. } => head.size,
            _ => 0,
        };
        let problem = match &seen.latest {
            Latest::Unknown(why) => why.clone(),
            _ => seen.problem.clone(),
        };
        let at = seen.line.as_ref().and_then(|(_, line, _)| stated(line)).unwrap_or_default();
        Watch { name: self.origin.clone(), size, at, problem }
    }
}

/// The instant in a line that this process made itself.
fn stated(line: &NoteSignature) -> Option<Timestamp> {
    let seconds = line.octets.first_chunk::<8>()?;
    Some(Timestamp::from_unix_seconds(u64::from_be_bytes(*seconds)))
}

impl From<Refused> for Cosigned {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed => Self::Malformed,
            Refused::Unsigned => Self::Unsigned,
            Refused::Conflict(size) => Self::Conflict(size),
            Refused::Inconsistent => Self::Inconsistent,
        }
    }
}

/// A text that was cosigned so recently is answered with the same line.
const FRESH: Duration = Duration::from_secs(60);
/// Until the state can be read or kept again.
const BLIND: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
