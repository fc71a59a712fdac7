//! What every part of the issuer shares: what the ceremony fixed, the policy, the keys, the log, and the
//! questions each of them asks before it does anything.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Settings;
use super::caps::Caps;
use super::clock::{ClockFault, ClockRule};
use super::issuers::{Issuer, Issuers, RootOf};
use super::signing::SignQueue;
use crate::acme::directory::Urls;
use crate::acme::problem::{Problem, ProblemType};
use crate::env::{Disk, Rng};
use crate::hsm::health::TokenHealth;
use crate::hsm::{Class, SignError};
use crate::id::{Serial, Timestamp};
use crate::ipc::Refusal;
use crate::log::record::{IntentV1, IssuedV1, Record};
use crate::log::writer::AppendError;
use crate::log::{Appended, Log, Release};
use crate::pki::certificate::Certificate;
use crate::pki::cross::{self, Tied};
use crate::pki::key::{PublicKey, SignatureAlgorithm};
use crate::pki::policy::Policy;
use crate::pki::profile::Profile;

/// Asks for the token's state.
pub type TokenProbe = Arc<dyn Fn() -> TokenHealth + Send + Sync>;

/// Called with a message that begins with a code when nothing is known any more of log or token: it
/// must end the process, which recovers at its next start.
pub type OnHalt = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) urls: Urls,
    pub(super) policy: Policy,
    pub(super) profiles: Vec<Profile>,
    pub(super) roots: Vec<RootOf>,
    pub(super) issuers: Issuers,
    pub(super) tls_key: Arc<dyn SignQueue>,
    /// The one before it, while its certificate may be served.
    pub(super) former_tls_key: Option<Arc<dyn SignQueue>>,
    /// SubjectPublicKeyInfos that no certificate may be asked for: the CA's own.
    pub(super) own_keys: Vec<Vec<u8>>,
    pub(super) token: TokenProbe,
    pub(super) log: Log,
    /// The log's name.
    pub(super) origin: String,
    pub(super) rule: ClockRule,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) public: PathBuf,
    pub(super) on_halt: OnHalt,
    pub(super) halted: AtomicBool,
    /// A checkpoint under the log's key excludes the log as it is.
    pub(super) forked: AtomicBool,
    pub(super) counters: Counters,
    pub(super) caps: Caps,
    pub(super) problems: Problems,
}

impl Core {
    /// The TLS key with this public half, the former one included.
    pub(super) fn tls_key_of(&self, spki_sha256: &[u8; 32]) -> Option<&Arc<dyn SignQueue>> {
        let keys = [Some(&self.tls_key), self.former_tls_key.as_ref()];
        keys.into_iter().flatten().find(|key| key.public_key().spki_sha256() == *spki_sha256)
    }

    /// The time, if it may be believed. What it refuses also goes to the health.
    pub(super) fn now(&self) -> Result<Timestamp, NotNow> {
        // Read before the clock: a record made between the two would look like a clock gone back.
        let newest = self.log.index().newest_instant().map_err(|e| self.lost_index(&e))?;
        match self.rule.read(newest) {
            Ok(now) => {
                self.problems.clear(Part::Clock);
                Ok(now)
            }
            Err(fault) => {
                self.problems.set(Part::Clock, fault.code(), fault.to_string());
                Err(NotNow::Clock(fault))
            }
        }
    }

    /// Appends; `then` hears `Err` with a time to wait when the record was not made. Unknown states end
    /// the process here.
    pub(super) fn append(
        self: &Arc<Self>,
        record: Record,
        release: Release,
        then: impl FnOnce(Result<Appended, NotNow>) + Send + 'static,
    ) {
        let core = Arc::clone(self);
        let then = move |result| then(core.appended(result));
        self.log.append(record, release, Box::new(then));
    }

    /// The same, waiting. Not for threads of log or pool.
    pub(super) fn append_wait(&self, record: Record, release: Release) -> Result<Appended, NotNow> {
        self.appended(self.log.append_wait(record, release))
    }

    fn appended(&self, result: Result<Appended, AppendError>) -> Result<Appended, NotNow> {
        match result {
            Ok(appended) => {
                self.problems.clear(Part::Log);
                Ok(appended)
            }
            Err(AppendError::Retry) => {
                // A full disk is the log's own to say, for as long as it lasts.
                if !self.log.is_full() {
                    let what = "the log takes no more records for the moment: it is overloaded, or its index cannot be written";
                    self.problems.set(Part::Log, "CHY-LOG-WAITS", what.into());
                }
                Err(NotNow::Wait(Duration::from_secs(2)))
            }
            Err(AppendError::TooLarge(octets)) => {
                tracing::error!(octets, "a record would be larger than a leaf may be");
                Err(NotNow::Never)
            }
            Err(AppendError::Unknown) => {
                tracing::error!(
                    "a record is of a newer format than the state: it waits until this release is kept"
                );
                Err(NotNow::Never)
            }
            Err(AppendError::Halt) => {
                self.halt("CHY-LOG-UNKNOWN: the disk reported an error while the log was made durable, so its state is unknown; the issuer ends and reads it again");
                Err(NotNow::Wait(Duration::from_secs(5)))
            }
        }
    }

    /// What a failed signature means to whoever waits for it.
    pub(super) fn unsigned(&self, error: SignError) -> NotNow {
        match error {
            SignError::Retry(after) => NotNow::Wait(after),
            SignError::Refuse(why) => {
                tracing::error!("the token does not sign: {why}");
                NotNow::Wait(Duration::from_secs(30))
            }
            SignError::Halt(why) => {
                self.halt(&why);
                NotNow::Wait(Duration::from_secs(5))
            }
        }
    }

    /// Whether the token would sign now with the key of this name; asked before a record promises that it will.
    pub(super) fn token_signs(&self, key: &str) -> Result<(), NotNow> {
        let signs = (self.token)().signs_with(key);
        signs.then_some(()).ok_or(NotNow::Wait(Duration::from_secs(5)))
    }

    /// What waits for the issuing key fills this process: to be asked again when some of it is signed.
    pub(super) fn busy(&self, class: Class) -> NotNow {
        let wait = self.issuers.queue().map_or(Duration::ZERO, |key| key.wait(class));
        NotNow::Wait(wait.clamp(LEAST_BUSY, MOST_BUSY))
    }

    /// Whether it is proven that this log does not continue what its key has signed: then no certificate is issued.
    pub(super) fn is_forked(&self) -> bool {
        self.forked.load(Ordering::SeqCst)
    }

    /// The issuing CA of a line, if it may issue: not after its root has revoked it.
    pub(super) fn issuing(&self, line: &str) -> Result<&Arc<Issuer>, NotNow> {
        let active = self.issuers.active(line).filter(|issuer| !issuer.is_revoked());
        let issuer = active.ok_or(NotNow::Wait(Duration::from_secs(60)))?;
        self.token_signs(&issuer.name).map(|()| issuer)
    }

    /// The key of an issuing CA that was asked before whether it may sign.
    pub(super) fn key_of(&self, issuer: &Issuer) -> Result<Arc<dyn SignQueue>, NotNow> {
        issuer.key().cloned().ok_or(NotNow::Wait(Duration::from_secs(60)))
    }

    pub(super) fn halt(&self, why: &str) {
        self.halted.store(true, Ordering::SeqCst);
        tracing::error!("{why}");
        (self.on_halt)(why);
    }

    /// An index that cannot be read says nothing about an order, and silence would sign twice.
    pub(super) fn lost_index(&self, why: &str) -> NotNow {
        self.problems.set(Part::Index, "CHY-LOG-INDEX", format!(
            "the log's index cannot be read: {why}; stop the issuer, remove index.redb in the log's directory and start it: the index is built anew from the log"
        ));
        NotNow::Wait(Duration::from_secs(5))
    }

    /// The intent at a leaf.
    pub(super) fn intent(&self, leaf: crate::id::LeafIndex) -> Result<IntentV1, NotNow> {
        match self.log.read(leaf) {
            Ok(Record::IntentV1(intent)) => Ok(intent),
            Ok(_) => Err(self.lost_index(&format!("leaf {leaf} is no intent"))),
            Err(why) => Err(self.lost_index(&why)),
        }
    }

    /// The signature at a leaf.
    pub(super) fn issued(&self, leaf: crate::id::LeafIndex) -> Result<IssuedV1, NotNow> {
        match self.log.read(leaf) {
            Ok(Record::IssuedV1(issued)) => Ok(issued),
            Ok(_) => Err(self.lost_index(&format!("leaf {leaf} is no signature"))),
            Err(why) => Err(self.lost_index(&why)),
        }
    }

    /// Whether a key was revoked as compromised: it is neither certified nor an account's ever again.
    pub(super) fn is_compromised(&self, key: &PublicKey) -> Result<bool, NotNow> {
        let sha256 = key.spki_sha256();
        self.log.index().is_blocked(&sha256).map_err(|e| self.lost_index(&e))
    }

    /// The URL that a certificate of this serial names for its CRL.
    pub(super) fn crl_of(&self, issuer: &Issuer, serial: Serial) -> String {
        crate::pki::crl::shard_url(&issuer.crl_url, self.settings.crl_shards, serial)
    }

    /// What stands behind a leaf, but for the root.
    pub(super) fn usual_chain(&self, issuer: &Issuer) -> Vec<Certificate> {
        let tied: Vec<&Tied> = self.roots.iter().map(|root| &root.tied).collect();
        let ways = cross::ways(&issuer.certificate, &tied);
        ways.into_iter().next().unwrap_or_else(|| vec![issuer.certificate.clone()])
    }

    /// The certificate that two records make.
    pub(super) fn certificate(
        &self,
        intent: &IntentV1,
        issued: &IssuedV1,
    ) -> Result<Certificate, NotNow> {
        SignatureAlgorithm::from_identifier_der(&issued.algorithm)
            .and_then(|a| Certificate::assemble(&intent.tbs, a, &issued.signature).ok())
            .ok_or_else(|| self.lost_index("two records of one serial make no certificate"))
    }

    /// Whether policy, validity and issuer still permit an intent's signature, and whose. A superseded issuing CA
    /// finishes what it began. `Err` is for the log.
    pub(super) fn still_permits(
        &self,
        intent: &IntentV1,
        now: Timestamp,
    ) -> Result<Arc<Issuer>, String> {
        let issuer = self.issuers.of(&intent.issuer_sha256);
        let issuer = issuer.ok_or("the issuing certificate is another")?;
        if issuer.key().is_none() {
            return Err("its issuing CA is done with".into());
        }
        if issuer.is_revoked() {
            return Err("its issuing CA was revoked".into());
        }
        let certificate = Certificate::of_tbs(&intent.tbs)
            .map_err(|e| format!("its bytes are no certificate: {e}"))?;
        let (_, not_after) = certificate.validity();
        if now > not_after {
            return Err("its validity is over".into());
        }
        if not_after > issuer.certificate.validity().1 {
            return Err("it would outlive its issuer".into());
        }
        match intent.requester {
            crate::log::record::Requester::Own => Err("it was for this box itself".into()),
            crate::log::record::Requester::Order { account, .. }
                if self.log.index().deactivated(account).is_ok_and(|end| end.is_some()) =>
            {
                Err("its account was deactivated".into())
            }
            crate::log::record::Requester::Order { .. } => {
                let profile = self.profiles.iter().find(|p| p.name == intent.profile);
                let profile = profile.ok_or("its profile was withdrawn")?;
                certificate.identifiers().iter().try_for_each(|identifier| {
                    self.policy.permits(identifier).map_err(|refusal| refusal.to_string())?;
                    profile.permits(identifier).map_err(|refusal| refusal.to_string())
                })?;
                Ok(Arc::clone(issuer))
            }
        }
    }

    /// The size the published checkpoint covers.
    pub(super) fn covered(&self) -> u64 {
        self.log.checkpoint().lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
    }
}

/// Why something did not happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NotNow {
    /// Ask again after so long.
    Wait(Duration),
    /// The clock is not believed; an operator knows from the health.
    Clock(ClockFault),
    /// A bug or an absurd request; asking again will not help.
    Never,
}

impl From<NotNow> for Refusal {
    fn from(why: NotNow) -> Self {
        match why {
            NotNow::Wait(after) => Self::Retry(u32::try_from(after.as_millis()).unwrap_or(60_000)),
            NotNow::Clock(ClockFault::Behind { now, floor }) => {
                let wait = floor.since(now).as_millis().clamp(1000, 60_000);
                Self::Retry(u32::try_from(wait).unwrap_or(60_000))
            }
            NotNow::Clock(ClockFault::Jump { .. }) => Self::Retry(60_000),
            NotNow::Never => Self::Refused(Problem::new(
                ProblemType::ServerInternal,
                "the server cannot make this certificate; its operator can see why",
            )),
        }
    }
}

/// Counts since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) issued: AtomicU64,
    pub(super) answered_again: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) registered: AtomicU64,
    pub(super) abandoned: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) crls: AtomicU64,
    /// Entries read from the index to make CRLs, and octets of them signed: what revocation costs.
    pub(super) crl_rows: AtomicU64,
    pub(super) crl_octets: AtomicU64,
    pub(super) revoked: AtomicU64,
    pub(super) key_changes: AtomicU64,
    pub(super) deactivated: AtomicU64,
    /// Checkpoints of other logs that were cosigned, and such that were not.
    pub(super) cosigned: AtomicU64,
    pub(super) not_cosigned: AtomicU64,
    /// Cosignatures of this log's witnesses.
    pub(super) cosignatures: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self) -> Vec<(String, u64)> {
        [
            ("issued", &self.issued),
            ("answered_again", &self.answered_again),
            ("refused", &self.refused),
            ("retried", &self.retried),
            ("registered", &self.registered),
            ("abandoned", &self.abandoned),
            ("handshakes", &self.handshakes),
            ("crls", &self.crls),
            ("crl_entries", &self.crl_rows),
            ("crl_octets", &self.crl_octets),
            ("revoked", &self.revoked),
            ("key_changes", &self.key_changes),
            ("deactivated", &self.deactivated),
            ("cosigned", &self.cosigned),
            ("not_cosigned", &self.not_cosigned),
            ("cosignatures", &self.cosignatures),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed)))
        .collect()
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What is wrong at this moment, one line per part of the house.
#[derive(Default)]
pub(super) struct Problems {
    lines: Mutex<Vec<(Part, &'static str, String)>>,
}

/// Parts that can be in trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Clock,
    Log,
    Index,
    Crl,
    Tls,
    Public,
    Starts,
    /// The log does not continue what its key has signed.
    Fork,
    /// What witnesses cosigned.
    Cosigned,
    /// The root's CRL that a ceremony left cannot be taken over.
    RootCrl,
    /// The root has revoked the issuing certificate.
    Revoked,
    /// A ceremony's transcript cannot be recorded.
    Transcript,
}

impl Part {
    /// Whether a certificate could not be made while this is wrong.
    pub(super) fn stops_issuance(self) -> bool {
        matches!(self, Self::Clock | Self::Log | Self::Index | Self::Fork | Self::Revoked)
    }
}

impl Problems {
    pub(super) fn set(&self, part: Part, code: &'static str, message: String) {
        let mut lines = self.lines();
        match lines.iter_mut().find(|line| line.0 == part) {
            Some(line) if line.1 == code => line.2 = message,
            other => {
                tracing::error!("{code}: {message}");
                match other {
                    Some(line) => *line = (part, code, message),
                    None => lines.push((part, code, message)),
                }
            }
        }
    }

    pub(super) fn clear(&self, part: Part) {
        let mut lines = self.lines();
        if let Some(at) = lines.iter().position(|line| line.0 == part) {
            let (_, code, _) = lines.remove(at);
            tracing::info!("{code} is over");
        }
    }

    pub(super) fn list(&self) -> Vec<(Part, &'static str, String)> {
        self.lines().clone()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<(Part, &'static str, String)>> {
        lock(&self.lines)
    }
}

const LEAST_BUSY: Duration = Duration::from_millis(500);
const MOST_BUSY: Duration = Duration::from_secs(60);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
