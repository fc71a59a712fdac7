//! A thread that owns one session and signs with it. Decides nothing: what fails goes to the keeper.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::queue::{Job, Left, Next};
use super::{Epoch, Phase, Shared};
use crate::hsm::SignError;
use crate::hsm::token::{Handle, Remedy, Session, TokenError};

/// A job under which the token failed is tried so many times in all.
const ATTEMPTS: u32 = 3;

struct Worker<'a> {
    shared: &'a Shared,
    /// This thread's place under the watchdog.
    place: usize,
    session: Option<Session>,
    /// By index of the key.
    handles: Vec<Option<Handle>>,
    /// The epoch that session and handles belong to.
    epoch: Option<Arc<Epoch>>,
    sessions: u64,
    /// An epoch in which the token has no session left for this thread.
    sits_out: u64,
}

/// The thread's life.
pub(super) fn run(shared: &Shared, place: usize) {
    let mut worker = Worker {
        shared,
        place,
        session: None,
        handles: vec![None; shared.keys.len()],
        epoch: None,
        sessions: 0,
        sits_out: 0,
    };
    while let Some((mut job, epoch)) = worker.take() {
        if let Some(why) = shared.keys[job.key].refusal() {
            worker.stand_still(None);
            job.answer(Err(why));
            continue;
        }
        if !job.compose() {
            worker.stand_still(None);
            job.answer(Err(SignError::Retry(Duration::from_secs(1))));
            continue;
        }
        let begun = shared.clock.monotonic();
        let outcome = worker.attempt(&job, &epoch);
        worker.settle(job, epoch.number, outcome, begun);
    }
    if let Some(session) = worker.session.take() {
        shared.watch.call(place, "C_CloseSession", || session.close());
    }
}

enum Failure {
    /// The answer of the token, or its silence.
    Token(TokenError),
    /// It signed, and the signature is wrong.
    Wrong,
}

impl Worker<'_> {
    /// Waits for a job and an epoch to do it in; `None` at the end.
    fn take(&self) -> Option<(Job, Arc<Epoch>)> {
        let mut state = self.shared.lock();
        loop {
            let epoch = match &state.phase {
                Phase::Ended => return None,
                Phase::Up(epoch) if epoch.number != self.sits_out => Some(Arc::clone(epoch)),
                _ => None,
            };
            let mut pause = None;
            if let Some(epoch) = epoch {
                let now = self.shared.clock.monotonic();
                let next = state.queue.pop(now);
                let left: Vec<Left> = std::iter::from_fn(|| state.queue.take_left()).collect();
                let none_left = left.is_empty();
                match next {
                    Next::Sign(job) => {
                        state.busy += 1;
                        drop(state);
                        self.shared.answer(left);
                        return Some((job, epoch));
                    }
                    Next::NotBefore(until) => pause = Some(until.saturating_sub(now)),
                    Next::Idle => {}
                }
                if !none_left {
                    drop(state);
                    self.shared.answer(left);
                    state = self.shared.lock();
                    continue;
                }
            }
            let work = &self.shared.work;
            state = match pause {
                Some(pause) => {
                    work.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
                None => work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn attempt(&mut self, job: &Job, epoch: &Arc<Epoch>) -> Result<Vec<u8>, Failure> {
        if self.epoch.as_ref().is_none_or(|mine| mine.number != epoch.number) {
            self.epoch = Some(Arc::clone(epoch));
            self.handles.fill(None);
            if self.sessions != epoch.sessions {
                // Not closed: its number may be another session's by now.
                self.session = None;
                self.sessions = epoch.sessions;
            }
        }
        let watch = &self.shared.watch;
        let place = self.place;
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(
                watch
                    .call(place, "C_OpenSession", || epoch.module.open(epoch.slot))
                    .map_err(Failure::Token)?,
            ),
        };
        let key = &self.shared.keys[job.key];
        let handle = match self.handles[job.key] {
            Some(handle) => handle,
            None => {
                let found = watch
                    .call(place, "C_FindObjects", || session.find_key(&key.id))
                    .map_err(Failure::Token)?;
                *self.handles[job.key].insert(found)
            }
        };
        let algorithm = key.public.preferred_algorithm();
        let signature = watch
            .call(place, "C_Sign", || session.sign(handle, algorithm, job.octets()))
            .map_err(Failure::Token)?;
        if key.public.verify(algorithm, job.octets(), &signature) {
            Ok(signature)
        } else {
            Err(Failure::Wrong)
        }
    }

    fn settle(
        &mut self,
        mut job: Job,
        epoch: u64,
        outcome: Result<Vec<u8>, Failure>,
        begun: Duration,
    ) {
        let counters = &self.shared.counters;
        let failure = match outcome {
            Ok(signature) => {
                self.stand_still(Some((&job, begun)));
                job.answer(Ok(signature));
                return;
            }
            Err(failure) => failure,
        };
        let error = match failure {
            // The job is put back: the key is tried, and if it passes makes this signature too.
            Failure::Wrong => self.shared.wrong_signature(&self.shared.keys[job.key], false),
            Failure::Token(error) => error,
        };
        tracing::warn!(key = self.shared.keys[job.key].name, %error, "signing failed");
        if error.remedy == Remedy::NewSession
            && let Some(session) = self.session.take()
        {
            // Still ours if it is only stuck in an operation; the call fails if it is gone.
            self.shared.watch.call(self.place, "C_CloseSession", || session.close());
        }
        let throttled = error.remedy == Remedy::Throttle;
        let refused = error.remedy == Remedy::Operator;
        job.attempts += 1;
        let answer = if refused {
            SignError::Refuse(error.to_string())
        } else {
            SignError::Retry(Duration::from_secs(1))
        };
        let back = {
            let mut state = self.shared.lock();
            state.busy -= 1;
            let ours = matches!(&state.phase, Phase::Up(now) if now.number == epoch);
            if throttled
                && self.session.is_none()
                && self.shared.settings.threads > 1
                && ours
                && state.busy > 0
            {
                // Others hold sessions: let them do the work of this epoch.
                self.sits_out = epoch;
                state.sitting += 1;
                tracing::warn!(%error, "the token has no session for this thread; lower [token] threads");
            } else if ours {
                state.phase = Phase::Down;
                state.trouble = Some(error);
            }
            // After the end nobody takes a job from the queue any more.
            let ended = matches!(state.phase, Phase::Ended);
            if ended || refused || job.attempts >= ATTEMPTS {
                Some(job)
            } else {
                state.queue.put_back(job);
                None
            }
        };
        self.shared.control.notify_all();
        self.shared.work.notify_all();
        if let Some(job) = back {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            job.answer(Err(answer));
        }
    }

    /// Says that this thread is outside the module, and which job it has signed since when.
    fn stand_still(&self, signed: Option<(&Job, Duration)>) {
        let now = self.shared.clock.monotonic();
        let waited_for = {
            let mut state = self.shared.lock();
            if let Some((job, begun)) = signed {
                state.queue.signed(job.class, job.key, now.saturating_sub(begun), now);
            }
            state.busy -= 1;
            state.busy == 0 && !matches!(state.phase, Phase::Up(_))
        };
        if waited_for {
            self.shared.control.notify_all();
        }
    }
}
