//! A thread that owns one session and signs with it. Decides nothing: what fails goes to the keeper.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::queue::{Job, number};
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
    epoch: u64,
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
        epoch: 0,
        sessions: 0,
        sits_out: 0,
    };
    while let Some((job, epoch)) = worker.take() {
        if let Some(why) = shared.keys[job.key].refusal() {
            worker.stand_still();
            job.answer(Err(why));
            continue;
        }
        let outcome = worker.attempt(&job, &epoch);
        worker.settle(job, &epoch, outcome);
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
    fn take(&self) -> Option<(Job, Epoch)> {
        let mut state = self.shared.lock();
        loop {
            match &state.phase {
                Phase::Ended => return None,
                Phase::Up(epoch) if epoch.number != self.sits_out => {
                    let epoch = epoch.clone();
                    if let Some(job) = state.queue.pop() {
                        state.busy += 1;
                        return Some((job, epoch));
                    }
                }
                _ => {}
            }
            state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn attempt(&mut self, job: &Job, epoch: &Epoch) -> Result<Vec<u8>, Failure> {
        if self.epoch != epoch.number {
            self.epoch = epoch.number;
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
            .call(place, "C_Sign", || session.sign(handle, algorithm, &job.message))
            .map_err(Failure::Token)?;
        if key.public.verify(algorithm, &job.message, &signature) {
            Ok(signature)
        } else {
            Err(Failure::Wrong)
        }
    }

    fn settle(&mut self, mut job: Job, epoch: &Epoch, outcome: Result<Vec<u8>, Failure>) {
        let counters = &self.shared.counters;
        let failure = match outcome {
            Ok(signature) => {
                counters.signed[number(job.class)].fetch_add(1, Ordering::Relaxed);
                self.stand_still();
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
            let ours = matches!(&state.phase, Phase::Up(now) if now.number == epoch.number);
            if throttled
                && self.session.is_none()
                && self.shared.settings.threads > 1
                && ours
                && state.busy > 0
            {
                // Others hold sessions: let them do the work of this epoch.
                self.sits_out = epoch.number;
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

    /// Says that this thread is outside the module.
    fn stand_still(&self) {
        let waited_for = {
            let mut state = self.shared.lock();
            state.busy -= 1;
            state.busy == 0 && !matches!(state.phase, Phase::Up(_))
        };
        if waited_for {
            self.shared.control.notify_all();
        }
    }
}
