//! The recovery machine: one thread that loads the module, logs in, tries every key, and after trouble
//! climbs: find the keys again · log in · new sessions · finalize and initialize · end the process.
//!
//! It works while all workers stand still. Every step up to `Ready` is the same code at start and after
//! trouble; only how much is thrown away first differs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::quarantine::TRIALS;
use super::watchdog::Watch;
use super::{Epoch, Phase, Pin, PooledKey, QUARANTINED, Shared};
use crate::hsm::SignError;
use crate::hsm::epoch;
use crate::hsm::health::TokenHealth;
use crate::hsm::inspect::{Calls, SIGNS_WRONG, TRIAL, Wanted, inspect};
use crate::hsm::software;
use crate::hsm::token::{Module, ModuleInfo, Remedy, Session, Slot, TokenError, TokenInfo};

/// A token that was well for so long is not flapping.
const CALM: Duration = Duration::from_secs(10);
/// Between looks at whose token it is: how long a box that was left running may go on after a restore elsewhere.
const LOOK: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between looks for a token that is away: somebody plugs it in and waits.
const ABSENT_WAIT: Duration = Duration::from_secs(5);
/// Looks, one after the other, that call an operator.
const CERTAIN: u32 = 3;
/// Between recoveries that succeed, but not for long: a token that loses its sessions every few seconds is
/// used in between.
const FLAPPING_WAIT: Duration = Duration::from_secs(2);
/// Sessions given up without closing before C_Finalize clears them away.
const FORGOTTEN: usize = 32;
/// This thread's place under the watchdog.
const PLACE: usize = 0;

/// The watchdog stands over this thread's calls.
struct Keeping<'a>(&'a Watch);

impl Calls for Keeping<'_> {
    fn call<T>(&self, name: &'static str, body: impl FnOnce() -> T) -> T {
        self.0.call(PLACE, name, body)
    }
}

struct Keeper<'a> {
    shared: &'a Shared,
    pin: &'a Pin,
    force: bool,
    module: Module,
    anchor: Option<(Session, Slot)>,
    epoch: u64,
    sessions: u64,
    forgotten: usize,
    /// The token was given the PIN, and did not take it.
    pin_refused: bool,
}

/// The thread's life.
pub(super) fn run(shared: &Shared, pin: &Pin, refused: bool, force: bool) {
    if refused {
        let why = TokenError::new(
            Remedy::Pin,
            "CHY-PIN-REFUSED",
            "the token refused this PIN before, so it was not tried again; put the right PIN where the configuration says",
        );
        stop(shared, &why);
        return;
    }
    let loaded = shared.watch.call(PLACE, "load the module", || {
        let module = Module::load(&shared.settings.module)?;
        module.initialize()?;
        Ok::<_, TokenError>(module)
    });
    // A module that loads but does not initialize has the usual remedies; one that does not load has none.
    let module = match loaded {
        Ok(module) => module,
        Err(error) if error.remedy == Remedy::Operator => return stop(shared, &error),
        Err(first) => match Module::load(&shared.settings.module) {
            Ok(module) => {
                tracing::warn!(error = %first, "the PKCS#11 module does not initialize");
                module
            }
            Err(error) => return stop(shared, &error),
        },
    };
    Keeper {
        shared,
        pin,
        force,
        module,
        anchor: None,
        epoch: 0,
        sessions: 0,
        forgotten: 0,
        pin_refused: false,
    }
    .keep();
}

impl Keeper<'_> {
    fn keep(&mut self) {
        let mut level = Remedy::NewSession;
        let (mut failures, mut flaps, mut doubts) = (0u32, 0u32, 0u32);
        // What the token is being recovered from: since when, and its code. `None` before it first worked.
        let mut lost: Option<(Duration, &'static str)> = None;
        let mut was_ready = false;
        let mut since = self.shared.clock.now().0;
        loop {
            match self.bring_up(level) {
                Ok((slot, identity)) => {
                    let up = self.shared.clock.monotonic();
                    if let Some((at, code)) = lost.take() {
                        self.shared.counters.recover(code, up.saturating_sub(at));
                    }
                    was_ready = true;
                    (failures, doubts) = (0, 0);
                    let Some(trouble) = self.serve(slot, identity) else { break };
                    since = self.shared.clock.now().0;
                    let now = self.shared.clock.monotonic();
                    lost = Some((now, trouble.code));
                    flaps = if now.saturating_sub(up) > CALM { 0 } else { flaps + 1 };
                    level = remedy_for(&trouble);
                    self.recovering("stop the signers", since, &trouble);
                    // Once is an accident and mended at once; more often is rate-limited.
                    if flaps > 1 && !self.pause(backoff(flaps).min(FLAPPING_WAIT)) {
                        break;
                    }
                }
                Err(error) if error.remedy == Remedy::Pin => {
                    stop(self.shared, &error);
                    // One that was tried and refused is never tried again. Where none was tried, the token's own
                    // flags are looked at until an operator has put them right.
                    doubts += 1;
                    if self.pin_refused || !self.pause(backoff(doubts)) {
                        break;
                    }
                    level = Remedy::Reinitialize;
                }
                Err(error) if error.remedy == Remedy::Operator => {
                    doubts += 1;
                    level = Remedy::Reinitialize;
                    // Nobody is called for what the token says once; then it is looked at ever again, because
                    // nobody is called to restart what has been put right either.
                    if doubts >= CERTAIN {
                        stop(self.shared, &error);
                    }
                    if !self.pause(backoff(doubts)) {
                        break;
                    }
                }
                Err(error) => {
                    // A mild remedy that did not help is followed by the strong one at once.
                    let was_mild = was_ready && level < Remedy::Reinitialize;
                    level = Remedy::Reinitialize;
                    let step =
                        if was_mild { "initialize the module anew" } else { "wait for the token" };
                    self.recovering(step, since, &error);
                    if was_mild {
                        continue;
                    }
                    failures += 1;
                    let absent = matches!(error.code, "CHY-TOKEN-ABSENT" | "CHY-KEY-MISSING");
                    if was_ready && !absent && failures >= self.shared.settings.restart_after {
                        halt(self.shared, &error);
                        break;
                    }
                    let longest = if absent { ABSENT_WAIT } else { LONGEST_WAIT };
                    let wait = backoff(failures).min(longest);
                    self.answer_waiting(&error, wait);
                    if !self.pause(wait) {
                        break;
                    }
                }
            }
        }
        if let Some((session, _)) = self.anchor.take() {
            self.shared.watch.call(PLACE, "C_CloseSession", || session.close());
        }
    }

    /// From wherever the token is to every key tried. Leaves an anchor session behind.
    fn bring_up(&mut self, level: Remedy) -> Result<(Slot, (ModuleInfo, TokenInfo)), TokenError> {
        let watch = &self.shared.watch;
        let hard = level >= Remedy::Reinitialize || self.forgotten > FORGOTTEN;
        if hard {
            // Forgotten, not closed: see Session.
            self.anchor = None;
            self.sessions += 1;
            self.forgotten = 0;
            watch.call(PLACE, "C_Finalize", || self.module.finalize())?;
            watch.call(PLACE, "C_Initialize", || self.module.initialize())?;
        } else if level == Remedy::NewSession {
            self.forgotten +=
                usize::from(self.anchor.take().is_some()) * (self.shared.settings.threads + 1);
            self.sessions += 1;
        }
        if self.anchor.is_none() {
            let (slot, _) =
                watch.call(PLACE, "C_GetSlotList", || self.module.find(&self.shared.token))?;
            let session = watch.call(PLACE, "C_OpenSession", || self.module.open(slot))?;
            self.anchor = Some((session, slot));
        }
        let Some((anchor, slot)) = &self.anchor else {
            return Err(TokenError::new(Remedy::NewSession, "CHY-TOKEN-SESSION", "no session"));
        };
        let token = watch.call(PLACE, "C_GetTokenInfo", || self.module.token_info(*slot))?;
        let module = watch.call(PLACE, "C_GetInfo", || self.module.info())?;
        if self.shared.settings.refuse_software {
            software::refuse(&module, &token)?;
        }
        if !watch.call(PLACE, "C_GetSessionInfo", || anchor.is_logged_in())? {
            token.may_log_in(self.force)?;
            let pin = (!token.pin_pad).then_some(&self.pin.0);
            let login = watch.call(PLACE, "C_Login", || anchor.login(pin));
            self.pin_refused = login.as_ref().is_err_and(|error| error.remedy == Remedy::Pin);
            login?;
        }
        for key in &self.shared.keys {
            self.try_key(anchor, &token, key)?;
        }
        if let Some(fencing) = &self.shared.fencing {
            let write = || watch.call(PLACE, "C_OpenSession", || self.module.open_writing(*slot));
            let held = epoch::keep(anchor, &fencing.fence(), write, &Keeping(watch))?;
            fencing.found(held);
        }
        Ok((*slot, (module, token)))
    }

    /// Looks whether the token is still this box's, while the workers sign.
    fn look(&self) -> Result<(), TokenError> {
        let (Some(fencing), Some((anchor, _))) = (&self.shared.fencing, &self.anchor) else {
            return Ok(());
        };
        let fence = fencing.fence();
        let found = epoch::read(anchor, &fence.ca, &Keeping(&self.shared.watch))?;
        fence.judge(&found).map(drop)
    }

    fn try_key(
        &self,
        anchor: &Session,
        token: &TokenInfo,
        key: &PooledKey,
    ) -> Result<(), TokenError> {
        let wanted = Wanted {
            name: &key.name,
            id: &key.id,
            public: &key.public,
            token,
            quirks: &self.shared.settings.quirks,
        };
        if key.standing.out().is_some() {
            return Ok(());
        }
        let watch = &self.shared.watch;
        let inspected = match inspect(anchor, &wanted, &Keeping(watch)) {
            Err(error) if error.code == SIGNS_WRONG => {
                return Err(self.shared.wrong_signature(key, true));
            }
            other => other?,
        };
        if !key.standing.trials_due() {
            return Ok(());
        }
        let algorithm = key.public.preferred_algorithm();
        for trial in 0..TRIALS {
            // Not one message twice: a token that repeats itself would pass.
            let message = [TRIAL, &self.epoch.to_be_bytes(), &trial.to_be_bytes()].concat();
            let signature = watch
                .call(PLACE, "C_Sign", || anchor.sign(inspected.handle, algorithm, &message))?;
            if !key.public.verify(algorithm, &message, &signature) {
                return Err(self.shared.wrong_signature(key, true));
            }
        }
        if let Some(kept) = key.standing.passed(self.shared.clock.now()) {
            self.shared.offences.keep(&key.name, &kept);
        }
        tracing::warn!(
            key = key.name,
            trials = TRIALS,
            "a key that made a wrong signature passed its trials and is used again"
        );
        Ok(())
    }

    /// Lets the workers work until one reports trouble; `None` at the end of the pool.
    fn serve(&mut self, slot: Slot, identity: (ModuleInfo, TokenInfo)) -> Option<TokenError> {
        self.epoch += 1;
        let out = self.shared.out();
        {
            let mut state = self.shared.lock();
            if matches!(state.phase, Phase::Ended) {
                return None;
            }
            state.phase = Phase::Up(Arc::new(Epoch {
                number: self.epoch,
                sessions: self.sessions,
                module: self.module.clone(),
                slot,
            }));
            state.sitting = 0;
            state.verdict = None;
            state.identity = Some(identity);
        }
        self.shared.set_health(match out {
            None => TokenHealth::Ready,
            Some((keys, why)) => TokenHealth::Degraded {
                code: QUARANTINED.into(),
                message: why.trim_start_matches(QUARANTINED).trim_start_matches(": ").to_owned(),
                keys,
            },
        });
        self.shared.work.notify_all();
        let mut state = self.shared.lock();
        loop {
            if matches!(state.phase, Phase::Ended) {
                return None;
            }
            if state.busy == 0
                && let Some(trouble) = state.trouble.take()
            {
                return Some(trouble);
            }
            let (guard, waited) = self
                .shared
                .control
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if waited.timed_out() && matches!(state.phase, Phase::Up(_)) {
                drop(state);
                let looked = self.look();
                state = self.shared.lock();
                if let (Err(trouble), Phase::Up(_)) = (looked, &state.phase) {
                    state.phase = Phase::Down;
                    state.trouble = Some(trouble);
                }
            }
        }
    }

    fn recovering(&self, step: &str, since: u64, error: &TokenError) {
        self.shared.set_health(TokenHealth::Recovering {
            step: step.to_owned(),
            since,
            error: error.to_string(),
        });
    }

    /// The token is away for longer than a hiccup: nobody is kept waiting.
    fn answer_waiting(&self, error: &TokenError, wait: Duration) {
        let verdict = if error.code == "CHY-KEY-MISSING" {
            SignError::Refuse(error.to_string())
        } else {
            SignError::Retry(wait.max(Duration::from_secs(1)))
        };
        answer_all(self.shared, &verdict);
    }

    /// Waits; false at the end of the pool.
    fn pause(&self, wait: Duration) -> bool {
        let state = self.shared.lock();
        let (state, _) = self
            .shared
            .control
            .wait_timeout_while(state, wait, |s| !matches!(s.phase, Phase::Ended))
            .unwrap_or_else(PoisonError::into_inner);
        !matches!(state.phase, Phase::Ended)
    }
}

/// Where the climb begins for a worker's report.
fn remedy_for(trouble: &TokenError) -> Remedy {
    match trouble.remedy {
        // The keeper's own look at the key decides whether an operator is needed.
        Remedy::Operator | Remedy::Pin => Remedy::FindAgain,
        Remedy::Throttle => Remedy::Reinitialize,
        other => other,
    }
}

/// Doubles from `FIRST_WAIT` to `LONGEST_WAIT`.
fn backoff(times: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1u32 << times.min(16)).min(LONGEST_WAIT)
}

fn stop(shared: &Shared, error: &TokenError) {
    answer_all(shared, &SignError::Refuse(error.to_string()));
    shared.set_health(TokenHealth::Stopped {
        code: error.code.to_owned(),
        message: error.message.clone(),
    });
}

fn halt(shared: &Shared, error: &TokenError) {
    let why = format!("CHY-TOKEN-LOST: the token does not come back in this process: {error}");
    answer_all(shared, &SignError::Halt(why.clone()));
    shared.set_health(TokenHealth::Halted { error: why });
}

/// From now on everything asked is answered so, and so is what waits.
fn answer_all(shared: &Shared, verdict: &SignError) {
    let waiting = {
        let mut state = shared.lock();
        state.verdict = Some(verdict.clone());
        state.queue.drain()
    };
    for job in waiting {
        shared.counters.failed.fetch_add(1, Ordering::Relaxed);
        job.answer(Err(verdict.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_and_stops_growing() {
        assert_eq!(backoff(1), Duration::from_millis(100));
        assert_eq!(backoff(4), Duration::from_millis(800));
        assert_eq!(backoff(16), LONGEST_WAIT);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn a_worker_cannot_make_the_keeper_give_up() {
        for remedy in [Remedy::Operator, Remedy::Pin] {
            let trouble = TokenError::new(remedy, "CHY-KEY-UNUSABLE", "");
            assert_eq!(remedy_for(&trouble), Remedy::FindAgain);
        }
    }
}
