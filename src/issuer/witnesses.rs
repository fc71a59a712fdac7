//! The witnesses of this log: what the web process shall carry to them, and what of their answers is worth
//! something.
//!
//! The web process is a courier: it posts a body that was made here and hands back what came. A cosignature counts
//! when it verifies under the key that the operator configured, and a claim that this log was forked when it comes
//! with a checkpoint that this log's own key signed. Nothing here is waited for by anyone: certificates are
//! released when the log's own checkpoint covers them.
//!
//! Witnesses are visited in rounds. A round is about one checkpoint; at its end what was collected is published
//! beside that checkpoint, so that readers find it with all its cosignatures or not at all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, Part, lock};
use super::fork::{self, Evidence};
use crate::id::Timestamp;
use crate::ipc::message::Answer;
use crate::ipc::witness::{Carried, Errand, ErrandKind, Outcome, Watch};
use crate::tlog::checkpoint::{Checkpoint, WITNESSED};
use crate::tlog::note::{Note, NoteSignature, VerifierKey};
use crate::tlog::tree::{Hash, TreeHead};
use crate::tlog::witness::{self, AddCheckpoint};

pub(super) struct Witnesses {
    core: Arc<Core>,
    keys: Vec<VerifierKey>,
    /// The newest checkpoint that was cosigned, with its cosignatures.
    file: PathBuf,
    /// The least time between two rounds.
    every: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    round: Option<Round>,
    /// When the last round began, by the monotonic clock.
    began: Option<Duration>,
    seen: Vec<Seen>,
}

/// What is known of one witness.
#[derive(Clone, Default)]
struct Seen {
    /// What it cosigned last, or says it did.
    size: u64,
    /// The size of what it verifiably cosigned last, and when.
    cosigned: Option<(u64, Timestamp)>,
    /// The same by the monotonic clock.
    heard: Option<Duration>,
    failures: u32,
    /// Not to be visited before, by the monotonic clock.
    due: Duration,
    code: &'static str,
    problem: String,
}

/// One checkpoint on its way to every witness that is due.
struct Round {
    note: Note,
    /// What the note says.
    checkpoint: Checkpoint,
    steps: Vec<Step>,
    lines: BTreeMap<usize, NoteSignature>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Not visited in this round, or done.
    Rest,
    /// To be asked for its cosignature, so many times more.
    Add {
        left: u8,
    },
    /// Was asked, or is being asked.
    Adding {
        left: u8,
    },
    /// To be asked for the newest checkpoint that it knows; it said that its log has so many leaves.
    Look {
        left: u8,
    },
    Looking {
        left: u8,
    },
}

impl Witnesses {
    pub(super) fn new(core: Arc<Core>, keys: Vec<VerifierKey>) -> Self {
        let state = State { seen: vec![Seen::default(); keys.len()], ..State::default() };
        Self {
            file: core.public.join(WITNESSED),
            every: Duration::from_secs(core.settings.witness_seconds.into()),
            core,
            keys,
            state: Mutex::new(state),
        }
    }

    /// Takes in what was carried, and says what to carry now. A courier that has carried nothing has just begun, or
    /// begins anew: what another one was sent for is forgotten.
    pub(super) fn errands(&self, carried: Vec<Carried>) -> Answer {
        let now = self.core.rule.clock().monotonic();
        let mut state = lock(&self.state);
        if carried.is_empty() {
            state.round = None;
        }
        for Carried { witness, outcome } in carried {
            self.heard(&mut state, usize::from(witness), outcome, now);
        }
        if state.round.is_none() {
            self.begin(&mut state, now);
        }
        let errands = self.next(&mut state, now);
        if errands.is_empty()
            && let Some(round) = state.round.take()
        {
            self.publish(&round);
        }
        let again = u32::try_from(self.every.min(POLL).as_millis()).unwrap_or(1000);
        Answer::Errands { errands, again }
    }

    /// Begins a round with whoever is due, if there is anything to say.
    fn begin(&self, state: &mut State, now: Duration) {
        if state.began.is_some_and(|began| now < began + self.every) || self.core.is_forked() {
            return;
        }
        let checkpoint = self.core.log.checkpoint();
        let Ok(note) = Note::parse(checkpoint.as_bytes()) else { return };
        let Ok(checkpoint) = Checkpoint::parse_text(&note.text) else { return };
        let steps: Vec<Step> = state
            .seen
            .iter()
            .map(|seen| {
                let new = seen.cosigned.is_none_or(|(size, _)| size != checkpoint.head.size);
                let old = seen.heard.is_none_or(|heard| now > heard + REFRESH);
                let due = now >= seen.due && (new || old);
                if due { Step::Add { left: ATTEMPTS } } else { Step::Rest }
            })
            .collect();
        if steps.iter().all(|step| *step == Step::Rest) {
            return;
        }
        state.began = Some(now);
        state.round = Some(Round { note, checkpoint, steps, lines: BTreeMap::new() });
    }

    /// What each witness of the round is to be brought now.
    fn next(&self, state: &mut State, now: Duration) -> Vec<Errand> {
        let Some(round) = &mut state.round else { return Vec::new() };
        let mut errands = Vec::new();
        for (n, step) in round.steps.iter_mut().enumerate() {
            let what = match *step {
                Step::Add { left } => {
                    let old = state.seen[n].size;
                    let Some(proof) = self.proof(old, &round.checkpoint.head) else {
                        state.seen[n].failed(
                            now,
                            "CHY-WITNESS-PROOF",
                            format!("no consistency proof from {old} leaves to {} can be made of the published tiles", round.checkpoint.head.size),
                        );
                        *step = Step::Rest;
                        continue;
                    };
                    *step = Step::Adding { left };
                    let (note, checkpoint) = (round.note.clone(), round.checkpoint.clone());
                    let body = AddCheckpoint { old, proof, note, checkpoint }.to_string();
                    ErrandKind::AddCheckpoint(body.into_bytes())
                }
                Step::Look { left } => {
                    *step = Step::Looking { left };
                    let hash = witness::origin_hash(&self.core.origin);
                    ErrandKind::Latest(format!("{hash}/checkpoint"))
                }
                Step::Rest | Step::Adding { .. } | Step::Looking { .. } => continue,
            };
            errands.push(Errand { witness: u16::try_from(n).unwrap_or(u16::MAX), what });
        }
        errands
    }

    /// The proof that `head` continues the tree of `old` leaves; empty where none is needed.
    fn proof(&self, old: u64, head: &TreeHead) -> Option<Vec<Hash>> {
        if old == 0 || old == head.size {
            return Some(Vec::new());
        }
        self.core.log.consistency(old, head.size).ok()?
    }

    fn heard(&self, state: &mut State, n: usize, outcome: Outcome, now: Duration) {
        let State { round: Some(round), seen, .. } = state else { return };
        let (Some(step), Some(seen)) = (round.steps.get_mut(n), seen.get_mut(n)) else { return };
        let was = std::mem::replace(step, Step::Rest);
        match (was, outcome) {
            (Step::Adding { .. }, Outcome::Body(body)) => {
                match cosignature(&self.keys[n], &round.note, &round.checkpoint.head, &body) {
                    Some((line, at)) => {
                        round.lines.insert(n, line);
                        seen.well(now, round.checkpoint.head.size, at);
                    }
                    None => seen.failed(now, "CHY-WITNESS-REFUSES", "it answers without a cosignature by the key that is configured for it; compare its vkey".into()),
                }
            }
            (Step::Adding { left }, Outcome::Conflict(size)) => {
                // The size it says is where to go on from, and if that is no size of this log, a claim to look into.
                *step = if size > round.checkpoint.head.size {
                    Step::Look { left }
                } else if left > 1 {
                    seen.size = size;
                    Step::Add { left: left - 1 }
                } else {
                    seen.failed(now, "CHY-WITNESS-REFUSES", format!("it answers 409 with {size} leaves, again and again; does another box send it checkpoints of this log?"));
                    Step::Rest
                };
            }
            (Step::Adding { left }, Outcome::Status(422)) => *step = Step::Look { left },
            (Step::Looking { left }, Outcome::Body(note)) => match fork::judge(&self.core, &note) {
                Ok(Evidence::Fork(why)) => {
                    fork::found(&self.core, &note, &why);
                    seen.failed(now, "CHY-WITNESS-FORK", why);
                }
                Ok(Evidence::Continues(size)) if left > 1 && size <= round.checkpoint.head.size => {
                    seen.size = size;
                    *step = Step::Add { left: left - 1 };
                }
                Ok(Evidence::Continues(size)) => seen.failed(now, "CHY-WITNESS-REFUSES", format!("it refuses this log's checkpoint as inconsistent, and what it shows, {size} leaves, is consistent")),
                Err(why) => seen.failed(now, "CHY-WITNESS-REFUSES", format!("it says that this log is not the one it knows, and shows no checkpoint that proves it: {why}")),
            },
            (Step::Looking { .. }, Outcome::Status(status)) => seen.failed(now, "CHY-WITNESS-REFUSES", format!("it says that this log is not the one it knows, and shows no checkpoint that proves it: HTTP status {status}")),
            (Step::Adding { .. } | Step::Looking { .. }, Outcome::Unreachable(why)) => {
                seen.failed(now, "CHY-WITNESS-AWAY", why);
            }
            (Step::Adding { .. }, Outcome::Status(status)) => {
                let why = match status {
                    403 => "it does not accept the log's signature (403); give it this log's vkey",
                    404 => "it does not know this log (404); have it configured there, by origin and vkey, and look at the URL",
                    429 | 503 => "it is busy",
                    _ => "it does not cosign",
                };
                seen.failed(now, "CHY-WITNESS-REFUSES", format!("{why}: HTTP status {status}"));
            }
            (Step::Looking { .. }, Outcome::Conflict(_)) => {
                seen.failed(now, "CHY-WITNESS-REFUSES", "it answers what was not asked".into());
            }
            // Nobody asked.
            (Step::Rest | Step::Add { .. } | Step::Look { .. }, _) => *step = was,
        }
    }

    /// Puts the checkpoint with the cosignatures of this round where everyone finds it.
    fn publish(&self, round: &Round) {
        if round.lines.is_empty() {
            return;
        }
        let mut note = round.note.clone();
        note.signatures.extend(round.lines.values().cloned());
        match self.core.disk.replace(&self.file, note.to_string().as_bytes(), false) {
            Ok(()) => self.core.problems.clear(Part::Cosigned),
            Err(error) => self.core.problems.set(
                Part::Cosigned,
                "CHY-PUBLIC",
                format!("cannot write {}: {error}; see that the directory belongs to the issuer's user and has room", self.file.display()),
            ),
        }
        self.core.counters.cosignatures.fetch_add(round.lines.len() as u64, Ordering::Relaxed);
        tracing::debug!(
            size = round.checkpoint.head.size,
            witnesses = round.lines.len(),
            "cosigned by witnesses"
        );
    }

    /// For the health.
    pub(super) fn watches(&self) -> Vec<Watch> {
        let state = lock(&self.state);
        let watch = |(key, seen): (&VerifierKey, &Seen)| {
            let (size, at) = seen.cosigned.unwrap_or_default();
            Watch { name: key.name().to_owned(), size, at, problem: seen.problem.clone() }
        };
        self.keys.iter().zip(&state.seen).map(watch).collect()
    }

    /// What an operator should know: of each witness that has failed more than now and then.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let state = lock(&self.state);
        let failing = |(key, seen): (&VerifierKey, &Seen)| {
            // The fork is the log's own problem, and said as such.
            let said = seen.failures >= PATIENCE && seen.code != "CHY-WITNESS-FORK";
            said.then(|| (seen.code, format!("witness {}: {}", key.name(), seen.problem)))
        };
        self.keys.iter().zip(&state.seen).filter_map(failing).collect()
    }
}

impl Seen {
    fn well(&mut self, now: Duration, size: u64, at: Timestamp) {
        if !self.problem.is_empty() {
            tracing::info!("{} is over", self.code);
        }
        *self = Self { size, cosigned: Some((size, at)), heard: Some(now), ..Self::default() };
    }

    fn failed(&mut self, now: Duration, code: &'static str, problem: String) {
        if self.code != code {
            tracing::warn!("{code}: {problem}");
        }
        let wait = LEAST_WAIT * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.due = now + wait.min(MOST_WAIT);
        (self.code, self.problem) = (code, problem);
    }
}

/// The line by this key in a witness's answer that covers the note, and its instant.
fn cosignature(
    key: &VerifierKey,
    note: &Note,
    head: &TreeHead,
    body: &[u8],
) -> Option<(NoteSignature, Timestamp)> {
    witness::parse_lines(body).into_iter().find_map(|line| {
        let ours = line.name == key.name() && line.id == key.id();
        let at = key.cosigned_at(&line.octets)?;
        (ours && key.verify(note.text.as_bytes(), head, &line.octets)).then_some((line, at))
    })
}

/// How often one witness is asked within a round.
const ATTEMPTS: u8 = 3;
/// A tree that does not grow is cosigned again after so long, to show that it is still the newest.
const REFRESH: Duration = Duration::from_secs(3600);
/// Between two visits of a witness that failed: twice as long each time.
const LEAST_WAIT: Duration = Duration::from_secs(5);
const MOST_WAIT: Duration = Duration::from_secs(600);
/// Failures in a row that an operator is not told of in the health.
const PATIENCE: u32 = 2;
/// How soon the web process asks again at most.
const POLL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
