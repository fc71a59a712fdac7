//! An issuer whose keys are in a SoftHSM2 token.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chancery::env::system::{SystemClock, SystemDisk, SystemRng};
use chancery::env::{Clock, Disk};
use chancery::hsm::pool::{Pin, Settings as TokenSettings};
use chancery::hsm::token::{Generate, Module, TokenName};
use chancery::issuer::signing::{LOG_KEY, TLS_KEY};
use chancery::issuer::{self, CheckpointKey, Configuration, Parts, Program, SignQueue};
use chancery::log::{Log, Opening};
use chancery::pki::authority::{Authority, KeyRecord};
use chancery::pki::certificate::Certificate;
use chancery::pki::key::{KeyKind, PublicKey};
use chancery::pki::policy;
use chancery::pki::uri::Pkcs11Uri;

use super::ca::{authority, ceremony, certificates};
use super::client::Account;
use super::{BASE, LONG, ORIGIN, Office, profiles, settings};

include!("../../support/softhsm.rs");

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
        let module = softhsm();
        let [issuing, log, tls] = self.generate(&module);
        *self.tls.borrow_mut() = tls.1.spki().to_vec();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let now = clock.now();
        let (root, certificate, _) = certificates(&issuing.1, now);
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
            format: chancery::state::Format::OWN,
            signers: vec![Arc::new(CheckpointKey::new(ORIGIN, key(LOG_KEY)).unwrap())],
            clock: Arc::clone(&clock),
            read_tbs: issuer::read_tbs,
            on_halt: Box::new(|why| panic!("{why}")),
        };
        let log = Log::create(opening, record).unwrap();
        let (issuing_key, tls_key) = (key(Authority::FIRST_ISSUING), key(TLS_KEY));
        let pool = Arc::new(pool);
        let named = Arc::clone(&pool);
        let running = issuer::start(Parts {
            settings: settings(),
            policy: policy::Settings::default(),
            profiles: profiles(),
            authority,
            base_url: BASE.into(),
            root_crl: None,
            issuing_keys: [(Authority::FIRST_ISSUING.to_owned(), issuing_key)].into(),
            transcripts: None,
            former_tls_key: None,
            tls_key,
            token: Arc::new(move || pool.health()),
            identity: Arc::new(move || named.identity()),
            program: Program { version: "0.0.0", digest: || None },
            configuration: Configuration::of([1; 32], &serde_json::json!({})),
            log: log.clone(),
            witnesses: Vec::new(),
            cosigner: None,
            clock,
            rng,
            disk: Arc::clone(&disk),
            dir: dir.clone(),
            public: public.clone(),
            ca: dir.clone(),
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
        let name = TokenName::labelled("chancery");
        let (slot, _) = module.find(&name).unwrap();
        let session = module.open_writing(slot).unwrap();
        session.login(Some(&self.pin.clone().into())).unwrap();
        let keys = [Authority::FIRST_ISSUING, LOG_KEY, TLS_KEY].map(|label| {
            let id = label.as_bytes();
            let what =
                Generate { kind: KeyKind::EcP256, label, id, omit: &[], ed25519_as_name: false };
            let (_, public) = session.generate(&what).unwrap();
            let uri = Pkcs11Uri {
                token: Some("chancery".into()),
                id: Some(id.to_vec()),
                ..Pkcs11Uri::default()
            };
            (KeyRecord::new(&uri, &public), public)
        });
        session.close();
        keys
    }
}
