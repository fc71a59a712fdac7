//! One thread for what comes due: the intents of an earlier process, the box's own certificate, the CRL,
//! an operator's acceptance of the clock, the records of this start and of what was refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ceremonies::Ceremonies;
use super::clock::{Acceptance, ClockFault};
use super::core::{Core, NotNow, count, lock};
use super::crls::Crls;
use super::formats::Formats;
use super::log_keys::KeyTurn;
use super::own::Own;
use super::refusals::Refusals;
use super::root_crl::RootCrl;
use super::starts::Starts;
use super::succession::Succession;
use crate::log::Release;
use crate::log::record::{AbandonedV1, ClockAcceptedV1, Record};

pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    core: Arc<Core>,
    starts: Arc<Starts>,
    own: Arc<Own>,
    crls: Arc<Crls>,
    root_crls: Arc<[Arc<RootCrl>]>,
    succession: Arc<Succession>,
    key_turn: Arc<KeyTurn>,
    formats: Arc<Formats>,
    ceremonies: Ceremonies,
    refusals: Arc<Refusals>,
    acceptance: Acceptance,
    recovered: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    nudged: bool,
    stopping: bool,
}

impl Keeper {
    #[expect(clippy::too_many_arguments, reason = "called once, by the one who builds all parts")]
    pub(super) fn start(
        core: Arc<Core>,
        starts: Arc<Starts>,
        own: Arc<Own>,
        crls: Arc<Crls>,
        root_crls: Arc<[Arc<RootCrl>]>,
        succession: Arc<Succession>,
        key_turn: Arc<KeyTurn>,
        formats: Arc<Formats>,
        ceremonies: Ceremonies,
        refusals: Arc<Refusals>,
    ) -> Result<Self, String> {
        let acceptance = Acceptance::new(Arc::clone(&core.disk), &core.dir);
        let shared = Arc::new(Shared {
            core,
            starts,
            own,
            crls,
            root_crls,
            succession,
            key_turn,
            formats,
            ceremonies,
            refusals,
            acceptance,
            recovered: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("issuer-keeper".into())
            .spawn(move || thread.run())
            .map_err(|e| format!("CHY-THREADS: a thread of the issuer cannot start: {e}"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether the intents of earlier processes have been looked at; before that no order is worked on.
    pub(super) fn recovered(&self) -> bool {
        self.shared.recovered.load(Ordering::SeqCst)
    }

    /// Looks at everything now.
    pub(super) fn nudge(&self) {
        self.shared.nudge();
    }

    /// The same, for a callback.
    pub(super) fn nudger(&self) -> impl FnOnce() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.nudge()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn nudge(&self) {
        lock(&self.state).nudged = true;
        self.changed.notify_all();
    }

    fn run(&self) {
        loop {
            let pause = match self.tend() {
                Ok(()) => IDLE,
                Err(NotNow::Wait(after)) => after.clamp(SOONEST, IDLE),
                Err(NotNow::Clock(_)) => CLOCK,
                Err(NotNow::Never) => IDLE,
            };
            // Tiles that are written anew say in a moment whether a log was forked.
            let pause = if self.core.is_forked() { pause.min(FORKED) } else { pause };
            let state = lock(&self.state);
            let (mut state, _) = self
                .changed
                .wait_timeout_while(state, pause, |s| !s.stopping && !s.nudged)
                .unwrap_or_else(PoisonError::into_inner);
            state.nudged = false;
            if state.stopping || self.core.halted.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn tend(&self) -> Result<(), NotNow> {
        self.own.take_up();
        if self.core.is_forked() {
            super::fork::recall(&self.core);
        }
        self.clock()?;
        // What an operator's tool did while no issuer ran comes first.
        super::epoch::record(&self.core)?;
        self.formats.tend()?;
        // Before anything is recorded that this process decides. On a full disk it waits, and what withdraws trust
        // does not wait for it.
        let started = self.starts.tend();
        if !self.recovered.load(Ordering::SeqCst) {
            // Before anything is issued: whose turn it is.
            self.succession.add()?;
            self.recover()?;
            self.recovered.store(true, Ordering::SeqCst);
        }
        // Each is tried, also when the other fails.
        let own = self.own.tend();
        let crl = self.crls.tend();
        let root_crls = self.root_crls.iter().map(|root_crl| root_crl.tend());
        let root_crls = root_crls.fold(Ok(()), Result::and);
        let (keys, ends) = (self.key_turn.tend(), self.succession.retire());
        // After the keys, whose own records name their ceremonies.
        let ceremonies = self.ceremonies.tend();
        let refused = self.refusals.tend();
        own.and(crl).and(root_crls).and(keys).and(ends).and(ceremonies).and(refused).and(started)
    }

    fn clock(&self) -> Result<(), NotNow> {
        match self.core.now() {
            Ok(_) => Ok(()),
            Err(NotNow::Clock(ClockFault::Jump { now, expected }))
                if self.acceptance.covers(now) =>
            {
                let record = ClockAcceptedV1 { at: now, floor: expected };
                self.core.append_wait(Record::ClockAcceptedV1(record), Release::Durable)?;
                self.acceptance.spend();
                tracing::warn!(%now, floor = %expected, "the operator accepted the clock");
                self.core.now().map(drop)
            }
            Err(why) => Err(why),
        }
    }

    /// Intents without a signature: those of orders wait for their order to ask, unless they may not be
    /// signed any more; the box's own are made anew.
    fn recover(&self) -> Result<(), NotNow> {
        let core = &self.core;
        let open = core.log.index().open_intents().map_err(|e| core.lost_index(&e))?;
        for (leaf, serial) in open {
            let intent = core.intent(leaf)?;
            let now = core.now()?;
            let Err(reason) = core.still_permits(&intent, now) else {
                tracing::info!(%serial, leaf = leaf.0, "an intent waits for its order to ask again");
                continue;
            };
            tracing::warn!(%serial, leaf = leaf.0, reason, "abandoned");
            let record = AbandonedV1 { at: now, intent: leaf, serial, reason };
            core.append_wait(Record::AbandonedV1(record), Release::Durable)?;
            count(&core.counters.abandoned);
        }
        Ok(())
    }
}

const IDLE: Duration = Duration::from_secs(30);
const SOONEST: Duration = Duration::from_millis(200);
const FORKED: Duration = Duration::from_secs(2);
/// How soon a clock that was set, or accepted, is noticed.
const CLOCK: Duration = Duration::from_secs(2);
