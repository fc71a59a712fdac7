//! Threads that own sessions: one session each, handles cached per login, a bounded queue weighted
//! by class, a watchdog for calls that never return, and the recovery machine.
//!
//! - **Workers** (`settings.threads`) sign and verify. They decide nothing: at the first error they
//!   put the job back, report, and stand still.
//! - The **keeper** is alone in logging in. It brings the token up, tries every key, and after a report
//!   climbs from the mildest remedy to C_Finalize and C_Initialize, with back-off.
//! - The **watchdog** ends the process when a PKCS#11 call does not return: no thread can be stopped
//!   inside a module, but the log makes a new process safe.

mod keeper;
mod pace;
mod quarantine;
mod queue;
mod settings;
mod watchdog;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::SecretString;

use self::pace::Pace;
use self::quarantine::{Forgetful, Standing, Verdict};
use self::queue::{Job, Left, Queue};
use self::watchdog::Watch;
use super::epoch::Fencing;
use super::health::{Observer, TokenHealth};
use super::token::{Module, ModuleInfo, Remedy, Slot, TokenError, TokenInfo, TokenName};
use super::{Class, OnSigned, Request, SignError, Signer};
use crate::pki::key::{PublicKey, SignatureAlgorithm};

pub use self::quarantine::{Offence, Offences};
pub use self::queue::ClassFigures;
pub use self::settings::{ClassSettings, Classes, Quirks, Settings, TlsKey};

/// Which key, and the public key it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPin {
    pub name: String,
    pub uri: crate::pki::uri::Pkcs11Uri,
    pub spki: Vec<u8>,
    /// What it signs with; `None`: the usual of its kind.
    pub algorithm: Option<SignatureAlgorithm>,
}

/// The user PIN. Redacted in `Debug`, zeroed on drop.
#[derive(Clone)]
pub struct Pin(pub SecretString);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// How the keeper logs in, and what the watchdog does.
pub struct Access {
    pub pin: Pin,
    /// This very PIN was refused before: it is not tried, the pool starts as `Stopped`.
    pub refused: bool,
    /// Try the PIN even if a wrong one would lock the token.
    pub force: bool,
    /// Called with the name of the call that hangs; `None` aborts the process.
    pub on_hang: Option<OnHang>,
    /// Remembers wrong signatures; `None`: for as long as the process lives.
    pub offences: Option<Arc<dyn Offences>>,
    /// Whose token it must be; `None`: anybody's.
    pub fencing: Option<Arc<dyn Fencing>>,
}

/// Called on the watchdog's thread; expected not to return control to the hung call.
pub type OnHang = Box<dyn Fn(&str) + Send>;

impl From<Pin> for Access {
    fn from(pin: Pin) -> Self {
        Self { pin, refused: false, force: false, on_hang: None, offences: None, fencing: None }
    }
}

/// One token's signers. Dropping it ends the threads; what waits is answered with `Retry`.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A key of the pool.
#[derive(Clone)]
pub struct Key {
    shared: Arc<Shared>,
    index: usize,
}

/// What was counted and measured since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    pub classes: Vec<ClassFigures>,
    pub keys: Vec<KeyFigures>,
    pub failed: u64,
    /// Times the token was brought up again after trouble.
    pub recoveries: u64,
    /// The same by the code of what was wrong.
    pub recovered: Vec<(&'static str, u64)>,
    /// Time without a token that signs, from the report of trouble to the first signature that could be made again.
    pub recovering: Duration,
    /// Signatures that did not verify, and were thrown away.
    pub wrong: u64,
    pub waiting: usize,
}

/// How fast the token signs with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFigures {
    pub name: String,
    /// The mean time of a signature, newer ones counting more; `None` before the first.
    pub takes: Option<Duration>,
    /// The same of each.
    pub took: crate::env::Spread,
}

impl Figures {
    /// Signatures of all classes.
    pub fn signed(&self) -> u64 {
        self.classes.iter().map(|class| class.signed).sum()
    }
}

impl Pool {
    /// Starts the threads; does not wait for the token (its absence is a state, not an error).
    /// Fails only for settings and pins that can never work; the text begins with a code.
    pub fn start(
        settings: Settings,
        keys: Vec<KeyPin>,
        access: impl Into<Access>,
        clock: Arc<dyn crate::env::Clock>,
        health: Observer,
    ) -> Result<Self, String> {
        let access = access.into();
        let offences = access.offences.unwrap_or_else(|| Arc::new(Forgetful));
        let (token, keys) = pooled(&settings, keys, &*offences)?;
        if !settings.module.is_file() {
            // Say at once what no waiting will mend.
            return Err(Module::load(&settings.module).map_or_else(
                |error| error.to_string(),
                |_| "CHY-MODULE-ABSENT: the PKCS#11 module went away".to_owned(),
            ));
        }
        let workers = settings.threads;
        let shared = Arc::new(Shared {
            watch: Watch::new(settings.deadline(), workers + 1, Arc::clone(&clock)),
            state: Mutex::new(State {
                phase: Phase::Down,
                queue: Queue::new(
                    settings.queue,
                    &settings.classes,
                    Pace::new(keys.len(), workers),
                    keys.len(),
                ),
                health: TokenHealth::Starting,
                trouble: None,
                busy: 0,
                sitting: 0,
                verdict: None,
                identity: None,
            }),
            work: Condvar::new(),
            control: Condvar::new(),
            settled: Condvar::new(),
            settings,
            token,
            keys,
            offences,
            fencing: access.fencing,
            clock,
            observer: health,
            counters: Counters::default(),
        });
        let mut threads = Vec::with_capacity(workers + 2);
        let mut spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name)
                .spawn(body)
                .map(|handle| threads.push(handle))
                .map_err(|e| format!("CHY-THREADS: a thread of the token pool cannot start: {e}"))
        };
        let start = || {
            let (pin, refused, force) = (access.pin, access.refused, access.force);
            let on_hang = access.on_hang.unwrap_or_else(|| Box::new(watchdog::abort));
            let all = Arc::clone(&shared);
            spawn("hsm-watchdog".into(), Box::new(move || all.watch.run(&*on_hang)))?;
            for n in 1..=workers {
                let all = Arc::clone(&shared);
                spawn(format!("hsm-sign-{n}"), Box::new(move || worker::run(&all, n)))?;
            }
            let all = Arc::clone(&shared);
            spawn("hsm-keeper".into(), Box::new(move || keeper::run(&all, &pin, refused, force)))
        };
        let started = start();
        let pool = Self { shared, threads };
        started.map(|()| pool)
    }

    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<Key> {
        let index = self.shared.keys.iter().position(|key| key.name == name)?;
        Some(Key { shared: Arc::clone(&self.shared), index })
    }

    /// The state at this moment.
    pub fn health(&self) -> TokenHealth {
        self.shared.lock().health.clone()
    }

    /// Waits until the keys are ready or `deadline` has passed, or waiting is no use.
    pub fn wait_ready(&self, deadline: Duration) -> TokenHealth {
        let guard = self.shared.lock();
        let hopeful = |s: &mut State| {
            matches!(s.health, TokenHealth::Starting | TokenHealth::Recovering { .. })
        };
        self.shared
            .settled
            .wait_timeout_while(guard, deadline, hopeful)
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .health
            .clone()
    }

    /// Module and token as they were when the token was last brought up.
    pub fn identity(&self) -> Option<(ModuleInfo, TokenInfo)> {
        self.shared.lock().identity.clone()
    }

    /// What was counted and measured.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.shared.lock();
            state.phase = Phase::Ended;
            state.verdict = Some(SignError::Retry(Duration::from_secs(1)));
            state.queue.drain()
        };
        self.shared.wake_all();
        for job in waiting {
            job.answer(Err(SignError::Retry(Duration::from_secs(1))));
        }
        // A call that hangs meanwhile is the watchdog's: it is the last to go. The pool may be dropped
        // by a callback on one of its own threads, which cannot wait for itself.
        let here = std::thread::current().id();
        let mut watchdog = None;
        for (n, thread) in self.threads.drain(..).enumerate() {
            if n == 0 {
                watchdog = Some(thread);
            } else if thread.thread().id() != here {
                let _ = thread.join();
            }
        }
        self.shared.watch.end();
        if let Some(thread) = watchdog {
            let _ = thread.join();
        }
    }
}

impl Key {
    /// Queues a signature of nobody in particular; as `request`.
    pub fn submit(&self, class: Class, message: Vec<u8>, then: OnSigned) {
        self.request(Request::new(class, message), then);
    }

    /// Queues a signature; `then` is called exactly once, here if there is no room or no key will sign.
    pub fn request(&self, request: Request, then: OnSigned) {
        let shared = &*self.shared;
        let now = shared.clock.monotonic();
        let job = Job::new(self.index, request, then, now);
        let mut left = Vec::new();
        let (queued, sitting) = {
            let mut state = shared.lock();
            match shared.keys[self.index].refusal().or_else(|| state.verdict.clone()) {
                Some(why) => left.push(Left(job, why)),
                None => left.extend(state.queue.push(job, now)),
            }
            // What makes room for another leaves, and the other wants a worker.
            let queued = state.queue.len() > 0;
            left.extend(std::iter::from_fn(|| state.queue.take_left()));
            (queued, state.sitting)
        };
        match queued {
            true if sitting == 0 => shared.work.notify_one(),
            // The one that woke might be one that cannot work.
            true => shared.work.notify_all(),
            false => {}
        }
        shared.answer(left);
    }

    /// How long a signature of this class that is asked for now would wait for its turn.
    pub fn wait(&self, class: Class) -> Duration {
        self.shared.lock().queue.wait(class)
    }

    /// What was counted and measured of its pool.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// A blocking signer of one class.
    pub fn signer(&self, class: Class) -> Arc<dyn Signer> {
        Arc::new(Blocking { key: self.clone(), class })
    }

    /// As pinned.
    pub fn public_key(&self) -> &PublicKey {
        &self.shared.keys[self.index].public
    }

    /// The name it was pinned under.
    pub fn name(&self) -> &str {
        &self.shared.keys[self.index].name
    }
}

struct Blocking {
    key: Key,
    class: Class,
}

impl Signer for Blocking {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let then = Box::new(move |outcome| {
            // Nobody waits any more: the signature is dropped, which is harmless.
            let _ = sender.send(outcome);
        });
        let asker = Arc::new(());
        self.key.request(Request::new(self.class, message.to_vec()).wanted_by(&asker), then);
        receiver
            .recv_timeout(self.key.shared.settings.deadline())
            .unwrap_or_else(|_| Err(SignError::Retry(Duration::from_secs(1))))
    }
}

/// What all threads of one pool see.
struct Shared {
    settings: Settings,
    token: TokenName,
    keys: Vec<PooledKey>,
    offences: Arc<dyn Offences>,
    fencing: Option<Arc<dyn Fencing>>,
    clock: Arc<dyn crate::env::Clock>,
    observer: Observer,
    watch: Watch,
    counters: Counters,
    state: Mutex<State>,
    /// For workers: a job, an epoch, or the end.
    work: Condvar,
    /// For the keeper: trouble, the last worker standing still, or the end.
    control: Condvar,
    /// For `wait_ready`.
    settled: Condvar,
}

struct PooledKey {
    name: String,
    id: Vec<u8>,
    public: PublicKey,
    standing: Standing,
}

impl PooledKey {
    fn refusal(&self) -> Option<SignError> {
        self.standing.out().map(SignError::Refuse)
    }
}

#[derive(Default)]
struct Counters {
    failed: AtomicU64,
    recoveries: AtomicU64,
    recovered: Mutex<BTreeMap<&'static str, u64>>,
    recovering_ms: AtomicU64,
    wrong: AtomicU64,
}

impl Counters {
    fn recovered(&self) -> Vec<(&'static str, u64)> {
        let counts = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(code, count)| (*code, *count)).collect()
    }

    /// The token signs again after trouble of this code.
    fn recover(&self, code: &'static str, after: Duration) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        *self.recovered.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() +=
            1;
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.recovering_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

struct State {
    phase: Phase,
    queue: Queue,
    health: TokenHealth,
    /// The first report of this epoch.
    trouble: Option<TokenError>,
    /// Workers that may be inside the module.
    busy: usize,
    /// Workers for which the token has no session in this epoch.
    sitting: usize,
    /// Set while new jobs are answered at once instead of queued.
    verdict: Option<SignError>,
    identity: Option<(ModuleInfo, TokenInfo)>,
}

enum Phase {
    /// Jobs wait; no worker may touch the module.
    Down,
    Up(Arc<Epoch>),
    Ended,
}

/// One stretch of a login during which handles are good.
struct Epoch {
    number: u64,
    /// Sessions opened under another count are not ours any more.
    sessions: u64,
    module: Module,
    slot: Slot,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding the lock cannot leave it half changed: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> Figures {
        let state = self.lock();
        let takes = |(n, key): (usize, &PooledKey)| {
            let (takes, took) = state.queue.pace.measured(n);
            KeyFigures { name: key.name.clone(), takes, took }
        };
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            classes: state.queue.figures().to_vec(),
            keys: self.keys.iter().enumerate().map(takes).collect(),
            failed: read(&counters.failed),
            recoveries: read(&counters.recoveries),
            recovered: counters.recovered(),
            recovering: Duration::from_millis(read(&counters.recovering_ms)),
            wrong: read(&counters.wrong),
            waiting: state.queue.len(),
        }
    }

    /// Tells those who get no signature; never under the lock.
    fn answer(&self, left: impl IntoIterator<Item = Left>) {
        for left in left {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            left.answer();
        }
    }

    fn wake_all(&self) {
        self.work.notify_all();
        self.control.notify_all();
        self.settled.notify_all();
    }

    /// A signature of this key did not verify: it is thrown away, and so is everything that led to it.
    fn wrong_signature(&self, key: &PooledKey, of_a_trial: bool) -> TokenError {
        self.counters.wrong.fetch_add(1, Ordering::Relaxed);
        let lift = self.offences.lift();
        let (verdict, offences) =
            key.standing.wrong(self.clock.now(), of_a_trial, |count| out(&key.name, count, &lift));
        // Before anything is signed with it again.
        self.offences.keep(&key.name, &offences);
        let then = match verdict {
            Verdict::Trials => "it is tried again after the module was initialized anew",
            Verdict::Out => "it is not used any more",
        };
        TokenError::new(
            Remedy::Reinitialize,
            QUARANTINED,
            format!(
                "a signature of key {:?} does not verify and was thrown away; {then}. Suspect the token, its firmware, its connection or the machine's memory",
                key.name
            ),
        )
    }

    /// The names of keys that stay out, with why the first does.
    fn out(&self) -> Option<(Vec<String>, String)> {
        let mut all =
            self.keys.iter().filter_map(|key| Some((key.name.clone(), key.standing.out()?)));
        let (first, why) = all.next()?;
        Some((std::iter::once(first).chain(all.map(|(name, _)| name)).collect(), why))
    }

    /// Changes the state of health and tells the observer, outside the lock.
    fn set_health(&self, health: TokenHealth) {
        {
            let mut state = self.lock();
            if state.health == health {
                return;
            }
            state.health = health.clone();
        }
        self.settled.notify_all();
        match &health {
            TokenHealth::Ready => tracing::info!(token = %self.token, "token ready"),
            TokenHealth::Starting => {}
            worse => tracing::warn!(token = %self.token, health = %worse, "token"),
        }
        (self.observer)(&health);
    }
}

/// Checks settings and pins as far as that needs no token.
fn pooled(
    settings: &Settings,
    pins: Vec<KeyPin>,
    offences: &dyn Offences,
) -> Result<(TokenName, Vec<PooledKey>), String> {
    let (past, lift) = (offences.past(), offences.lift());
    let bad = |why: String| Err(format!("CHY-TOKEN-SETTINGS: {why}"));
    if settings.threads == 0 || settings.threads > 64 {
        return bad(format!("[token] threads is {}; it must be 1 to 64", settings.threads));
    }
    if settings.queue < 8 {
        return bad(format!("[token] queue is {}; it must be at least 8", settings.queue));
    }
    if settings.deadline_seconds == 0 {
        return bad("[token] deadline-seconds is 0; every call would be taken for hung".into());
    }
    if let Err((class, why)) = settings.classes.check() {
        return bad(format!("[token.classes.{class}] {why}"));
    }
    let mut token = None;
    let mut keys = Vec::with_capacity(pins.len());
    for pin in pins {
        if let Err(why) = pin.uri.check_names_token() {
            return bad(format!("the URI of key {:?} {why}", pin.name));
        }
        let name = TokenName::of(&pin.uri);
        if *token.get_or_insert_with(|| name.clone()) != name {
            return bad(format!("key {:?} is on another token than the keys before it", pin.name));
        }
        let Some(id) = pin.uri.id else {
            return bad(format!("the URI of key {:?} has no id", pin.name));
        };
        let public = PublicKey::from_spki(&pin.spki).map_err(|why| {
            format!(
                "CHY-TOKEN-SETTINGS: the pinned public key of {:?} is none: {}",
                pin.name, why.0
            )
        })?;
        let algorithm = pin.algorithm.unwrap_or_else(|| public.kind().usual_algorithm());
        let Some(public) = public.signing_with(algorithm) else {
            return bad(format!(
                "key {:?} is pinned to {algorithm:?}, which such a key cannot make",
                pin.name
            ));
        };
        let of_key = past.iter().filter(|offence| offence.key == pin.name).map(|o| o.at).collect();
        let standing =
            Standing::new(settings.quarantine(), of_key, |count| out(&pin.name, count, &lift));
        keys.push(PooledKey { name: pin.name, id, public, standing });
    }
    match token {
        Some(token) => Ok((token, keys)),
        None => bad("no key is pinned".into()),
    }
}

/// Why a key stays out, for the operator.
fn out(key: &str, count: u64, lift: &str) -> String {
    format!(
        "{QUARANTINED}: {count} signatures of key {key:?} did not verify (all were thrown away), so it is not used any more. Suspect the token, its firmware, its connection or the machine's memory; when that is settled: {lift}"
    )
}

const QUARANTINED: &str = "CHY-KEY-QUARANTINED";
