//! A whole issuer for a test: a CA made for it, a log on a simulated disk, keys in this process that count
//! and can fail; or the same with every key in a SoftHSM2 token.

mod ca;
mod client;
mod further;
mod key;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use chancery::env::simulated::{ManualClock, SimulatedDisk};
use chancery::env::system::{SystemDisk, SystemRng};
use chancery::env::{Clock, Disk};
use chancery::hsm::health::TokenHealth;
use chancery::id::{OrderId, Timestamp};
use chancery::ipc::local::Local;
use chancery::ipc::message::{Answer, Health, Question};
use chancery::ipc::{AskError, Issuer};
use chancery::issuer::{
    self, CheckpointKey, Configuration, CosignerKey, Parts, Program, Running, SignQueue,
};
use chancery::log::{Log, OpenError, Opening};
use chancery::pki::authority::{Authority, LogKeyRotation};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::{self, Crl};
use chancery::pki::name::DnsName;
use chancery::pki::policy;
use chancery::pki::profile::Profile;
use chancery::tlog::keys::statement;
use chancery::tlog::note::{NoteSigner, VerifierKey};

use ca::{authority, ceremony, certificates};
pub(crate) use client::{Account, Csr};
pub(crate) use key::SoftKey;
pub(crate) use token::{Served, in_a_token};

pub(crate) const BASE: &str = "https://ca.lan";
pub(crate) const NOW: Timestamp = Timestamp(1_795_305_600_000);
pub(crate) const LONG: Duration = Duration::from_secs(20);
pub(crate) const ORIGIN: &str = "ca.lan/log";
const TRANSCRIPT: [u8; 32] = [3; 32];

fn sha256_of(settings: &serde_json::Value) -> [u8; 32] {
    let text = settings.to_string();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().unwrap()
}

fn settings() -> issuer::Settings {
    issuer::Settings {
        tls_names: vec!["ca.lan".into(), "10.0.0.1".into()],
        ..issuer::Settings::default()
    }
}

pub(crate) fn profiles() -> Vec<Profile> {
    vec![
        Profile { name: "server".into(), ..Profile::server() },
        Profile {
            name: "printer".into(),
            allow_names: vec![DnsName::parse("print.lan").unwrap()],
            challenges: vec!["dns-01".into()],
            ..Profile::server()
        },
    ]
}

/// Everything an issuer is made of, before it is started; it can be started again.
pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    /// When its ceremony was held.
    made: Timestamp,
    pub(crate) base_url: String,
    pub(crate) disk: SimulatedDisk,
    /// On this machine's disk instead.
    real: bool,
    pub(crate) dir: PathBuf,
    pub(crate) public: PathBuf,
    pub(crate) ca: PathBuf,
    pub(crate) settings: issuer::Settings,
    /// What the box is configured with, as far as it is recorded.
    pub(crate) configuration: serde_json::Value,
    pub(crate) policy: policy::Settings,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) authority: Authority,
    pub(crate) root: Certificate,
    pub(crate) root_key: Arc<SoftKey>,
    pub(crate) issuing: Certificate,
    pub(crate) issuing_key: Arc<SoftKey>,
    /// Those of issuing CAs that were added, by name.
    pub(crate) further_keys: BTreeMap<String, Arc<SoftKey>>,
    pub(crate) log_key: Arc<SoftKey>,
    /// The one before it, while it may have to sign.
    former_log_key: Option<Arc<SoftKey>>,
    pub(crate) tls_key: Arc<SoftKey>,
    pub(crate) halted: Arc<AtomicBool>,
    /// What the token says of itself.
    pub(crate) token: Arc<Mutex<TokenHealth>>,
    pub(crate) witnesses: Vec<VerifierKey>,
    pub(crate) cosigner: Option<CosignerKey>,
}

impl House {
    /// A CA whose ceremony was just held.
    pub(crate) fn new() -> Self {
        Self::made_at(NOW)
    }

    /// The same at another time, for who compares with this machine's clock.
    pub(crate) fn made_at(now: Timestamp) -> Self {
        Self::with(SoftKey::new(), now)
    }

    /// A CA with this issuing key, in a directory of this machine.
    pub(crate) fn issuing_with(issuing_key: Arc<SoftKey>, dir: &std::path::Path) -> Self {
        let ca = dir.join("ca");
        let (dir, public) = (dir.join("issuer"), dir.join("public"));
        let house = Self { real: true, dir, public, ca, ..Self::with(issuing_key, NOW) };
        house.hold_ceremony();
        house
    }

    fn with(issuing_key: Arc<SoftKey>, now: Timestamp) -> Self {
        let (log_key, tls_key) = (SoftKey::new(), SoftKey::new());
        let (root, issuing, root_key) = certificates(&issuing_key.public, now);
        let keys = [issuing_key.record(), log_key.record(), tls_key.record()];
        let house = Self {
            clock: Arc::new(ManualClock::new(now)),
            made: now,
            base_url: BASE.into(),
            disk: SimulatedDisk::new(),
            real: false,
            dir: "/issuer".into(),
            public: "/public".into(),
            ca: "/ca".into(),
            settings: settings(),
            configuration: serde_json::json!({"issuer": {"crl-shards": 8}}),
            policy: policy::Settings::default(),
            profiles: profiles(),
            authority: authority(&root, &issuing, keys),
            root,
            root_key,
            issuing,
            issuing_key,
            further_keys: BTreeMap::new(),
            log_key,
            former_log_key: None,
            tls_key,
            halted: Arc::new(AtomicBool::new(false)),
            token: Arc::new(Mutex::new(TokenHealth::Ready)),
            witnesses: Vec::new(),
            cosigner: None,
        };
        house.hold_ceremony();
        house
    }

    /// A CA in a directory of this machine: for much data, which the simulated disk is slow with.
    pub(crate) fn in_dir(dir: &std::path::Path) -> Self {
        Self::issuing_with(SoftKey::new(), dir)
    }

    fn hold_ceremony(&self) {
        self.any_disk().create_dir(&self.dir).unwrap();
        let record = ceremony(&self.root, &self.issuing, self.log_key.spki(), self.made);
        drop(Log::create(self.opening(), record).unwrap());
    }

    /// What a ceremony for another log key leaves; the issuer's next start records it.
    pub(crate) fn rotate_log_key(&mut self, cross_over_days: u32) {
        let key = SoftKey::new();
        let named = |key: &SoftKey| VerifierKey::from_spki(ORIGIN, key.spki()).unwrap();
        let text = statement(&named(&self.log_key), &named(&key));
        let signed = |key: &SoftKey| Base64::encode_string(&key.sign(text.as_bytes()));
        self.authority.log_key_rotations.push(LogKeyRotation {
            key: key.record(),
            endorsement: signed(&self.log_key),
            possession: signed(&key),
            cross_over_days,
            transcript_sha256: "04".repeat(32),
            former_done: false,
        });
        self.authority.version = self.authority.least_version();
        self.former_log_key = Some(std::mem::replace(&mut self.log_key, key));
    }

    fn any_disk(&self) -> Arc<dyn Disk> {
        if self.real { Arc::new(SystemDisk) } else { Arc::new(self.disk.clone()) }
    }

    /// The same CA on another disk.
    pub(crate) fn on(self, disk: SimulatedDisk) -> Self {
        Self { disk, ..self }
    }

    fn opening(&self) -> Opening {
        let keys = [&self.log_key].into_iter().chain(&self.former_log_key);
        let signer = |key: &Arc<SoftKey>| {
            let key = CheckpointKey::new(ORIGIN, Arc::clone(key) as Arc<dyn SignQueue>).unwrap();
            Arc::new(key) as Arc<dyn NoteSigner>
        };
        Opening {
            disk: self.any_disk(),
            dir: self.dir.join("log"),
            public: self.public.clone(),
            settings: chancery::log::Settings { segment_mib: 1, ..Default::default() },
            format: chancery::state::Format::OWN,
            signers: keys.map(signer).collect(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            read_tbs: issuer::read_tbs,
            on_halt: Box::new(|_| {}),
        }
    }

    /// The log, as soon as whoever had it has let it go.
    pub(crate) fn open_log(&self) -> Log {
        let mut log = None;
        eventually(|| match Log::open(self.opening()) {
            Ok(opened) => {
                log = Some(opened);
                true
            }
            Err(OpenError::Retry(_)) => false,
            Err(other) => panic!("{other:?}"),
        });
        log.unwrap()
    }

    pub(crate) fn try_start(&self) -> Result<Office, String> {
        let log = self.open_log();
        let halted = Arc::clone(&self.halted);
        let token = Arc::clone(&self.token);
        let running = issuer::start(Parts {
            settings: self.settings.clone(),
            policy: self.policy.clone(),
            profiles: self.profiles.clone(),
            authority: self.authority.clone(),
            base_url: self.base_url.clone(),
            root_crl: None,
            issuing_keys: self.issuing_keys(),
            transcripts: None,
            former_tls_key: None,
            tls_key: Arc::clone(&self.tls_key) as Arc<dyn SignQueue>,
            token: Arc::new(move || token.lock().unwrap().clone()),
            identity: Arc::new(|| None),
            program: Program { version: "0.0.0", digest: || None },
            configuration: Configuration::of(sha256_of(&self.configuration), &self.configuration),
            log: log.clone(),
            witnesses: self.witnesses.clone(),
            cosigner: self.cosigner.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SystemRng),
            disk: self.any_disk(),
            dir: self.dir.clone(),
            public: self.public.clone(),
            ca: self.ca.clone(),
            build_date: self.made.minus(Duration::from_secs(86_400)),
            on_halt: Arc::new(move |_| halted.store(true, Ordering::SeqCst)),
        })?;
        let disk = self.any_disk();
        Ok(Office::new(running, log, disk, self.public.clone(), self.issuing.clone()))
    }

    /// The keys of the issuing CAs, by name.
    fn issuing_keys(&self) -> BTreeMap<String, Arc<dyn SignQueue>> {
        let first = ("issuing".to_owned(), Arc::clone(&self.issuing_key));
        let all = std::iter::once(first).chain(self.further_keys.clone());
        all.map(|(name, key)| (name, key as Arc<dyn SignQueue>)).collect()
    }

    /// As the operator does after a long time without a record.
    pub(crate) fn accept_clock(&self) {
        let acceptance = issuer::clock::Acceptance::new(Arc::new(self.disk.clone()), &self.dir);
        acceptance.accept(self.clock.now()).unwrap();
    }

    pub(crate) fn start_unready(&self) -> Office {
        self.try_start().unwrap()
    }

    /// Waits until everything that comes due at a start is done.
    pub(crate) fn start(&self) -> Office {
        let office = self.start_unready();
        office.wait_ready();
        office
    }
}

/// A running issuer and one who asks it.
pub(crate) struct Office {
    local: Local,
    pub(crate) running: Running,
    pub(crate) log: Log,
    disk: Arc<dyn Disk>,
    public: PathBuf,
    issuing: Certificate,
}

impl Office {
    fn new(
        running: Running,
        log: Log,
        disk: Arc<dyn Disk>,
        public: PathBuf,
        issuing: Certificate,
    ) -> Self {
        Self { local: Local::new(running.service()), running, log, disk, public, issuing }
    }

    fn wait_ready(&self) {
        let done = |health: &Health| {
            health.ready && health.tls_not_after.0 > 0 && health.crl_next_update.0 > 0
        };
        let mut health = self.health();
        for _ in 0..2000 {
            if done(&health) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
            health = self.health();
        }
        panic!("not ready: {health:#?}");
    }

    pub(crate) fn ask(&self, question: Question) -> Result<Answer, AskError> {
        self.local.ask_blocking(question, LONG)
    }

    pub(crate) fn ask_within(
        &self,
        question: Question,
        deadline: Duration,
    ) -> Result<Answer, AskError> {
        self.local.ask_blocking(question, deadline)
    }

    pub(crate) fn health(&self) -> Health {
        match self.ask(Question::Health) {
            Ok(Answer::Health(health)) => *health,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn register(&self) -> Account {
        let account = Account::unregistered();
        match self.ask(Question::Register { jws: account.new_account(false) }) {
            Ok(Answer::Account { account: id, existing: false, .. }) => Account { id, ..account },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn finalize(
        &self,
        account: &Account,
        order: u8,
        csr: &Csr,
    ) -> Result<Answer, AskError> {
        self.finalize_within(account, order, csr, LONG)
    }

    pub(crate) fn finalize_within(
        &self,
        account: &Account,
        order: u8,
        csr: &Csr,
        deadline: Duration,
    ) -> Result<Answer, AskError> {
        self.local.ask_blocking(account.finalize(OrderId([order; 16]), csr), deadline)
    }

    /// Asks again while told to.
    pub(crate) fn finalize_eventually(
        &self,
        account: &Account,
        order: u8,
        csr: &Csr,
    ) -> Result<Answer, AskError> {
        let mut answer = self.finalize(account, order, csr);
        eventually(|| {
            if matches!(answer, Err(AskError::Retry(_))) {
                answer = self.finalize(account, order, csr);
            }
            !matches!(answer, Err(AskError::Retry(_)))
        });
        answer
    }

    pub(crate) fn tls_chain(&self) -> Vec<Certificate> {
        match self.ask(Question::TlsChain) {
            Ok(Answer::TlsChain { chain, .. }) => {
                chain.iter().map(|der| Certificate::parse(der).unwrap()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn crl_der(&self) -> Option<Vec<u8>> {
        self.disk.read(&self.public.join("issuing.crl"), 1 << 20).ok()
    }

    /// A published file.
    pub(crate) fn public(&self, name: &str) -> Option<Vec<u8>> {
        self.disk.read(&self.public.join(name), 1 << 24).ok()
    }

    /// What a certificate's own CRL says, verified and found to be the one it names.
    pub(crate) fn crl_of(&self, certificate: &Certificate) -> Option<Crl> {
        let url = certificate.crl_url().unwrap();
        let der = self.public(url.strip_prefix("http://ca.lan/").unwrap())?;
        let crl = crl::parse_verified(&der, &self.issuing).unwrap();
        assert_eq!(crl.shard.as_deref(), Some(url));
        Some(crl)
    }

    /// The published CRL, verified.
    pub(crate) fn crl(&self) -> Option<Crl> {
        Some(crl::parse_verified(&self.crl_der()?, &self.issuing).unwrap())
    }
}

/// Waits for something that another thread does.
pub(crate) fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("it never happened");
}
