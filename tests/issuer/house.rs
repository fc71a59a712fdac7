//! A whole issuer for a test: a CA made for it, a log on a simulated disk, keys in this process that count
//! and can fail; or the same with every key in a SoftHSM2 token.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use base64ct::{Base64, Base64UrlUnpadded, Encoding};

use chancery::acme::directory::{Resource, Urls};
use chancery::env::simulated::ManualClock;
use chancery::env::simulated::SimulatedDisk;
use chancery::env::system::SystemDisk;
use chancery::env::system::{SystemClock, SystemRng};
use chancery::env::{Clock, Disk, random_16};
use chancery::hsm::health::TokenHealth;
use chancery::hsm::pool::{Pin, Settings as TokenSettings};
use chancery::hsm::token::{Generate, Module, TokenName};
use chancery::hsm::{Class, OnSigned, SignError};
use chancery::id::{AccountId, OrderId, Serial, Timestamp};
use chancery::ipc::local::Local;
use chancery::ipc::message::{Answer, Finalize, Health, Question};
use chancery::ipc::{AskError, Issuer};
use chancery::issuer::signing::{ISSUING_KEY, LOG_KEY, TLS_KEY};
use chancery::issuer::{self, CheckpointKey, Parts, Running, SignQueue};
use chancery::log::record::CeremonyV1;
use chancery::log::{Log, OpenError, Opening};
use chancery::pki::authority::{Authority, KeyRecord};
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::{self, Crl};
use chancery::pki::key::{KeyKind, PublicKey};
use chancery::pki::policy;
use chancery::pki::profile::Profile;
use chancery::pki::rehearse::{self, Ca, CaTemplate};
use chancery::pki::uri::Pkcs11Uri;

pub(crate) const BASE: &str = "https://ca.lan";
pub(crate) const NOW: Timestamp = Timestamp(1_795_305_600_000);
pub(crate) const LONG: Duration = Duration::from_secs(20);
const ORIGIN: &str = "ca.lan/log";
const TRANSCRIPT: [u8; 32] = [3; 32];

/// A P-256 key in this process.
pub(crate) struct SoftKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    asked: Mutex<Vec<(Class, Vec<u8>)>>,
    fail: Mutex<Option<SignError>>,
    hook: Mutex<Option<Hook>>,
    /// Every signature is refused for now.
    pub(crate) refuse: AtomicBool,
}

type Hook = Box<dyn Fn(Class, &[u8]) + Send>;

impl SoftKey {
    pub(crate) fn new() -> Arc<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public = PublicKey::from_spki(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        Arc::new(Self {
            pair,
            public,
            asked: Mutex::default(),
            fail: Mutex::default(),
            hook: Mutex::default(),
            refuse: AtomicBool::new(false),
        })
    }

    pub(crate) fn spki(&self) -> &[u8] {
        self.public.spki()
    }

    /// The next certificate is not signed.
    pub(crate) fn fail_next(&self, error: SignError) {
        *self.fail.lock().unwrap() = Some(error);
    }

    /// Called whenever the key is asked, before it signs.
    pub(crate) fn when_asked(&self, hook: impl Fn(Class, &[u8]) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        self.asked.lock().unwrap().iter().filter(|(c, _)| *c == class).count()
    }

    /// How often a message was signed that holds all these texts.
    pub(crate) fn asked(&self, class: Class, texts: &[&str]) -> usize {
        let holds = |m: &[u8], t: &str| m.windows(t.len()).any(|w| w == t.as_bytes());
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(c, m)| *c == class && texts.iter().all(|t| holds(m, t))).count()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn record(&self) -> KeyRecord {
        KeyRecord {
            uri: "pkcs11:token=none;id=%01".into(),
            spki: Base64::encode_string(self.spki()),
        }
    }
}

impl SignQueue for SoftKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn submit(&self, class: Class, message: Vec<u8>, then: OnSigned) {
        if self.refuse.load(Ordering::SeqCst) {
            return then(Err(SignError::Retry(Duration::from_millis(20))));
        }
        if let Some(hook) = &*self.hook.lock().unwrap() {
            hook(class, &message);
        }
        if class == Class::Certificate {
            let failure = self.fail.lock().unwrap().take();
            if let Some(error) = failure {
                return then(Err(error));
            }
        }
        let signature = self.sign(&message);
        self.asked.lock().unwrap().push((class, message));
        then(Ok(signature));
    }
}

/// Root and issuing certificate; the root's key is in this process.
fn certificates(issuing_key: &PublicKey, now: Timestamp) -> (Certificate, Certificate) {
    let root_key = SoftKey::new();
    let template = CaTemplate {
        common_name: "Test Root".into(),
        organization: None,
        lifetime_days: 3650,
        path_length: None,
        permitted_names: Vec::new(),
        permitted_networks: Vec::new(),
    };
    let ca = Ca {
        template: &template,
        key: &root_key.public,
        serial: Serial::from_random([1; 16]),
        now,
        issuer: None,
        aia_url: None,
        crl_url: None,
    };
    let root = seal(&ca, &root_key);
    let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
    let template = CaTemplate {
        common_name: "Test Issuing".into(),
        organization: None,
        lifetime_days: 1825,
        path_length: Some(0),
        permitted_names: texts(&["lan", "internal", "home.arpa", "local", "test"]),
        permitted_networks: texts(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]),
    };
    let ca = Ca {
        template: &template,
        key: issuing_key,
        serial: Serial::from_random([2; 16]),
        issuer: Some(&root),
        aia_url: Some("http://ca.lan/root.der"),
        crl_url: Some("http://ca.lan/root.crl"),
        ..ca
    };
    let issuing = seal(&ca, &root_key);
    (root, issuing)
}

fn seal(ca: &Ca<'_>, key: &SoftKey) -> Certificate {
    let tbs = rehearse::ca(ca).unwrap();
    let algorithm = key.public.preferred_algorithm();
    Certificate::assemble(tbs.der(), algorithm, &key.sign(tbs.der())).unwrap()
}

fn authority(root: &Certificate, issuing: &Certificate, keys: [KeyRecord; 3]) -> Authority {
    let [issuing_key, log_key, tls_key] = keys;
    Authority {
        version: 1,
        origin: ORIGIN.into(),
        aia_url: "http://ca.lan/issuing.der".into(),
        crl_url: "http://ca.lan/issuing.crl".into(),
        root_crl_url: "http://ca.lan/root.crl".into(),
        root: root.pem(),
        issuing: Some(issuing.pem()),
        root_key: None,
        issuing_key,
        log_key,
        tls_key,
        transcript_sha256: "03".repeat(32),
    }
}

fn ceremony(
    root: &Certificate,
    issuing: &Certificate,
    log_key: &[u8],
    at: Timestamp,
) -> CeremonyV1 {
    CeremonyV1 {
        at,
        origin: ORIGIN.into(),
        root_sha256: root.fingerprint(),
        issuing_sha256: issuing.fingerprint(),
        log_key: log_key.to_vec(),
        transcript_sha256: TRANSCRIPT,
    }
}

fn settings() -> issuer::Settings {
    issuer::Settings {
        tls_names: vec!["ca.lan".into(), "10.0.0.1".into()],
        ..issuer::Settings::default()
    }
}

fn profiles() -> Vec<Profile> {
    vec![Profile { name: "server".into(), ..Profile::server() }]
}

/// Everything an issuer is made of, before it is started; it can be started again.
pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) dir: PathBuf,
    pub(crate) public: PathBuf,
    pub(crate) settings: issuer::Settings,
    pub(crate) policy: policy::Settings,
    pub(crate) authority: Authority,
    pub(crate) root: Certificate,
    pub(crate) issuing: Certificate,
    pub(crate) issuing_key: Arc<SoftKey>,
    pub(crate) log_key: Arc<SoftKey>,
    pub(crate) tls_key: Arc<SoftKey>,
    pub(crate) halted: Arc<AtomicBool>,
}

impl House {
    /// A CA whose ceremony was just held.
    pub(crate) fn new() -> Self {
        let (issuing_key, log_key, tls_key) = (SoftKey::new(), SoftKey::new(), SoftKey::new());
        let (root, issuing) = certificates(&issuing_key.public, NOW);
        let keys = [issuing_key.record(), log_key.record(), tls_key.record()];
        let house = Self {
            clock: Arc::new(ManualClock::new(NOW)),
            disk: SimulatedDisk::new(),
            dir: "/issuer".into(),
            public: "/public".into(),
            settings: settings(),
            policy: policy::Settings::default(),
            authority: authority(&root, &issuing, keys),
            root,
            issuing,
            issuing_key,
            log_key,
            tls_key,
            halted: Arc::new(AtomicBool::new(false)),
        };
        house.disk.create_dir(&house.dir).unwrap();
        let record = ceremony(&house.root, &house.issuing, house.log_key.spki(), NOW);
        drop(Log::create(house.opening(), record).unwrap());
        house
    }

    /// The same CA on another disk.
    pub(crate) fn on(self, disk: SimulatedDisk) -> Self {
        Self { disk, ..self }
    }

    fn opening(&self) -> Opening {
        let key = Arc::clone(&self.log_key) as Arc<dyn SignQueue>;
        Opening {
            disk: Arc::new(self.disk.clone()),
            dir: self.dir.join("log"),
            public: self.public.clone(),
            settings: chancery::log::Settings { segment_mib: 1, ..Default::default() },
            signer: Arc::new(CheckpointKey::new(ORIGIN, key).unwrap()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
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
        let running = issuer::start(Parts {
            settings: self.settings.clone(),
            policy: self.policy.clone(),
            profiles: profiles(),
            authority: self.authority.clone(),
            base_url: BASE.into(),
            root_crl: None,
            issuing_key: Arc::clone(&self.issuing_key) as Arc<dyn SignQueue>,
            tls_key: Arc::clone(&self.tls_key) as Arc<dyn SignQueue>,
            token: Arc::new(|| TokenHealth::Ready),
            log: log.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SystemRng),
            disk: Arc::new(self.disk.clone()),
            dir: self.dir.clone(),
            public: self.public.clone(),
            build_date: NOW.minus(Duration::from_secs(86_400)),
            on_halt: Arc::new(move |_| halted.store(true, Ordering::SeqCst)),
        })?;
        let disk = Arc::new(self.disk.clone());
        Ok(Office::new(running, log, disk, self.public.clone(), self.issuing.clone()))
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

    pub(crate) fn health(&self) -> Health {
        match self.ask(Question::Health) {
            Ok(Answer::Health(health)) => *health,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn register(&self) -> Account {
        let account = Account::unregistered();
        match self.ask(Question::Register { jws: account.new_account(false) }) {
            Ok(Answer::Account { account: id, existing: false }) => Account { id, ..account },
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

    /// The published CRL, verified.
    pub(crate) fn crl(&self) -> Option<Crl> {
        Some(crl::parse_verified(&self.crl_der()?, &self.issuing).unwrap())
    }
}

/// An ACME account as its client has it.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) key: Arc<Vec<u8>>,
    pub(crate) base: String,
}

impl Account {
    pub(crate) fn unregistered() -> Self {
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let id = AccountId(random_16(&SystemRng));
        Self { id, key: Arc::new(key.as_ref().to_vec()), base: BASE.into() }
    }

    /// A newAccount request.
    pub(crate) fn new_account(&self, only_return_existing: bool) -> Vec<u8> {
        let pair = self.pair();
        let point = pair.public_key().as_ref();
        let jwk = serde_json::json!({
            "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]),
        });
        let url = urls().url(Resource::NewAccount);
        let header = serde_json::json!({ "alg": "ES256", "jwk": jwk, "nonce": "AAAA", "url": url });
        let payload = serde_json::json!({ "onlyReturnExisting": only_return_existing });
        self.jws(&header, &payload)
    }

    pub(crate) fn finalize_url(&self, order: OrderId) -> String {
        urls().url(Resource::Finalize(order))
    }

    pub(crate) fn finalize(&self, order: OrderId, csr: &Csr) -> Question {
        self.finalize_at(&self.finalize_url(order), order, csr)
    }

    /// Signed for a url of the caller's choice.
    pub(crate) fn finalize_at(&self, url: &str, order: OrderId, csr: &Csr) -> Question {
        Question::Finalize(Box::new(Finalize {
            jws: self.signed(url, csr),
            order,
            account: self.id,
            profile: "server".into(),
            not_before: None,
            not_after: None,
            validations: Vec::new(),
        }))
    }

    pub(crate) fn finalize_jws(&self, order: OrderId, csr: &Csr) -> Vec<u8> {
        self.signed(&self.finalize_url(order), csr)
    }

    /// Signed over one CSR, carrying another.
    pub(crate) fn forged(&self, order: OrderId, signed: &Csr, carried: &Csr) -> Vec<u8> {
        let parse = |jws: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&jws).unwrap();
        let mut jws = parse(self.finalize_jws(order, signed));
        jws["payload"] = parse(self.finalize_jws(order, carried))["payload"].clone();
        jws.to_string().into_bytes()
    }

    fn signed(&self, url: &str, csr: &Csr) -> Vec<u8> {
        let kid = format!("{}{}", self.base, Resource::Account(self.id));
        let header = serde_json::json!({ "alg": "ES256", "kid": kid, "nonce": "AAAA", "url": url });
        self.jws(&header, &serde_json::json!({ "csr": b64(&csr.0) }))
    }

    fn jws(&self, header: &serde_json::Value, payload: &serde_json::Value) -> Vec<u8> {
        let (protected, payload) = (b64(header.to_string()), b64(payload.to_string()));
        let signed = format!("{protected}.{payload}");
        let signature = self.pair().sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        serde_json::json!({
            "protected": protected, "payload": payload, "signature": b64(signature.as_ref()),
        })
        .to_string()
        .into_bytes()
    }

    fn pair(&self) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key).unwrap()
    }
}

/// A PKCS#10 request, DER.
pub(crate) struct Csr(Vec<u8>);

impl Csr {
    pub(crate) fn names(names: &[&str]) -> Self {
        Self::made(names, &rcgen::KeyPair::generate().unwrap(), Vec::new())
    }

    /// Asks for CA:true.
    pub(crate) fn ca(names: &[&str]) -> Self {
        let constraints = vec![0x30, 0x03, 0x01, 0x01, 0xff];
        let extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], constraints);
        Self::made(names, &rcgen::KeyPair::generate().unwrap(), vec![extension])
    }

    /// For the key that signs the account's requests.
    pub(crate) fn of_account(account: &Account, names: &[&str]) -> Self {
        Self::made(names, &rcgen::KeyPair::try_from(account.key.as_slice()).unwrap(), Vec::new())
    }

    /// Its self-signature does not verify.
    pub(crate) fn spoilt(names: &[&str]) -> Self {
        let mut csr = Self::names(names);
        *csr.0.last_mut().unwrap() ^= 1;
        csr
    }

    fn made(names: &[&str], key: &rcgen::KeyPair, more: Vec<rcgen::CustomExtension>) -> Self {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.custom_extensions = more;
        Self(params.serialize_request(key).unwrap().der().to_vec())
    }
}

fn urls() -> Urls {
    Urls::new(BASE).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
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

/// A SoftHSM2 token in a process of its own.
pub(crate) struct Token {
    dir: PathBuf,
    pin: String,
    tls: std::cell::RefCell<Vec<u8>>,
}

/// An issuer whose keys are in a token, and an account.
pub(crate) struct Served {
    pub(crate) running: Office,
    pub(crate) issuing: Certificate,
    pub(crate) account: Account,
}

/// SoftHSM2 reads SOFTHSM2_CONF once per process: runs `body` in a new one that has it set.
pub(crate) fn in_a_token(test: &str, body: impl FnOnce(&Token)) {
    const HERE: &str = "CHANCERY_TEST_TOKEN_DIR";
    if let Some(dir) = std::env::var_os(HERE) {
        let dir = PathBuf::from(dir);
        let pin = std::fs::read_to_string(dir.join("pin")).unwrap();
        return body(&Token { dir, pin, tls: Default::default() });
    }
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hsm/sandbox.sh");
    assert!(
        Command::new(script).arg(dir.path()).arg("chancery").output().unwrap().status.success()
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(HERE, dir.path())
        .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

impl Token {
    pub(crate) fn tls_spki(&self) -> Vec<u8> {
        self.tls.borrow().clone()
    }

    /// Generates the keys, holds a ceremony in small, starts an issuer with a pool.
    pub(crate) fn serve(&self) -> Served {
        let module =
            ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
                .map(PathBuf::from)
                .into_iter()
                .find(|path| path.is_file())
                .expect("SoftHSM2 is installed (apt install softhsm2)");
        let [issuing, log, tls] = self.generate(&module);
        *self.tls.borrow_mut() = tls.1.spki().to_vec();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let now = clock.now();
        let (root, certificate) = certificates(&issuing.1, now);
        let authority = authority(&root, &certificate, [issuing.0, log.0, tls.0]);
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let (dir, public) = (self.dir.join("issuer"), self.dir.join("public"));
        disk.create_dir(&dir).unwrap();
        let pin = Pin(self.pin.clone().into());
        let rng = Arc::new(SystemRng);
        let pool = issuer::start_pool(
            TokenSettings::new(module),
            &authority,
            pin,
            Arc::clone(&clock),
            Arc::clone(&rng) as _,
            Arc::clone(&disk),
            &dir,
            |_| {},
        )
        .unwrap();
        assert!(pool.wait_ready(LONG).signs(), "{}", pool.health());
        let key = |name| Arc::new(pool.key(name).unwrap()) as Arc<dyn SignQueue>;
        let record = ceremony(&root, &certificate, log.1.spki(), now);
        let opening = Opening {
            disk: Arc::clone(&disk),
            dir: dir.join("log"),
            public: public.clone(),
            settings: chancery::log::Settings { segment_mib: 1, ..Default::default() },
            signer: Arc::new(CheckpointKey::new(ORIGIN, key(LOG_KEY)).unwrap()),
            clock: Arc::clone(&clock),
            on_halt: Box::new(|why| panic!("{why}")),
        };
        let log = Log::create(opening, record).unwrap();
        let (issuing_key, tls_key) = (key(ISSUING_KEY), key(TLS_KEY));
        let running = issuer::start(Parts {
            settings: settings(),
            policy: policy::Settings::default(),
            profiles: profiles(),
            authority,
            base_url: BASE.into(),
            root_crl: None,
            issuing_key,
            tls_key,
            token: Arc::new(move || pool.health()),
            log: log.clone(),
            clock,
            rng,
            disk: Arc::clone(&disk),
            dir,
            public: public.clone(),
            build_date: issuer::build_date(),
            on_halt: Arc::new(|why| panic!("{why}")),
        })
        .unwrap();
        let running = Office::new(running, log, disk, public, certificate.clone());
        running.wait_ready();
        let account = running.register();
        Served { running, issuing: certificate, account }
    }

    fn generate(&self, module: &Path) -> [(KeyRecord, PublicKey); 3] {
        let module = Module::load(module).unwrap();
        module.initialize().unwrap();
        let name = TokenName { label: Some("chancery".into()), serial: None };
        let (slot, _) = module.find(&name).unwrap();
        let session = module.open_writing(slot).unwrap();
        session.login(Some(&self.pin.clone().into())).unwrap();
        let keys = [ISSUING_KEY, LOG_KEY, TLS_KEY].map(|label| {
            let id = label.as_bytes();
            let what =
                Generate { kind: KeyKind::EcP256, label, id, omit: &[], ed25519_as_name: false };
            let (_, public) = session.generate(&what).unwrap();
            let uri = Pkcs11Uri {
                token: Some("chancery".into()),
                id: Some(id.to_vec()),
                ..Pkcs11Uri::default()
            };
            let spki = Base64::encode_string(public.spki());
            (KeyRecord { uri: uri.to_string(), spki }, public)
        });
        session.close();
        keys
    }
}
