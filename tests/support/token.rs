//! A token for a test alone: SoftHSM2, made by `hsm/sandbox.sh`, in a process of its own.
//!
//! SoftHSM2 reads SOFTHSM2_CONF at C_Initialize, once per process, and a test must not change its own
//! environment. Each test therefore starts this binary again for itself alone, with the variable set.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chancery::env::system::SystemClock;
use chancery::hsm::health::TokenHealth;
use chancery::hsm::pool::{Access, KeyPin, Pin, Pool, Settings};
use chancery::hsm::token::{Generate, Module, Session, TokenName};
use chancery::hsm::{Class, SignError};
use chancery::pki::key::KeyKind;
use chancery::pki::uri::Pkcs11Uri;

include!("softhsm.rs");

pub const LABEL: &str = "chancery";
pub const SOON: Duration = Duration::from_secs(20);

/// A token in a process of its own.
pub struct Token {
    pub settings: Settings,
    pub pin: String,
    pub dir: PathBuf,
}

/// Runs `body` in a new process whose SOFTHSM2_CONF names a new token.
pub fn alone(test: &str, body: impl FnOnce(&Token)) {
    const HERE: &str = "CHANCERY_TEST_TOKEN_DIR";
    if let Some(dir) = std::env::var_os(HERE) {
        let dir = PathBuf::from(dir);
        let pin = std::fs::read_to_string(dir.join("pin")).unwrap();
        let settings = Settings { threads: 2, ..Settings::new(softhsm()) };
        return body(&Token { settings, pin, dir });
    }
    let dir = tempfile::tempdir().unwrap();
    sandbox(dir.path(), LABEL);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(HERE, dir.path())
        .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn sandbox(dir: &Path, label: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hsm/sandbox.sh");
    assert!(Command::new(script).arg(dir).arg(label).output().unwrap().status.success());
}

pub fn uri(id: &[u8]) -> Pkcs11Uri {
    Pkcs11Uri { token: Some(LABEL.into()), id: Some(id.to_vec()), ..Pkcs11Uri::default() }
}

impl Token {
    /// A session of our own, logged in, that can write.
    pub fn session(&self) -> (Module, Session) {
        let module = Module::load(&self.settings.module).unwrap();
        module.initialize().unwrap();
        let name = TokenName::labelled(LABEL);
        let (slot, _) = module.find(&name).unwrap();
        let session = module.open_writing(slot).unwrap();
        session.login(Some(&self.pin.clone().into())).unwrap();
        (module, session)
    }

    /// Generates a key and pins it.
    pub fn key(&self, name: &str, kind: KeyKind) -> KeyPin {
        let (_, session) = self.session();
        let pin = generate(&session, name, kind);
        session.close();
        pin
    }

    pub fn start(&self, keys: Vec<KeyPin>) -> Pool {
        self.start_with(keys, Pin(self.pin.clone().into()).into())
    }

    pub fn start_with(&self, keys: Vec<KeyPin>, access: Access) -> Pool {
        let clock = Arc::new(SystemClock::new());
        Pool::start(self.settings.clone(), keys, access, clock, Box::new(|_| {})).unwrap()
    }

    /// CKF_USER_PIN_COUNT_LOW: a wrong PIN came after the last right one.
    pub fn wrong_pin_seen(&self) -> bool {
        let module = Module::load(&self.settings.module).unwrap();
        module.initialize().unwrap();
        let name = TokenName::labelled(LABEL);
        module.find(&name).unwrap().1.pin_count_low
    }
}

pub fn generate(session: &Session, name: &str, kind: KeyKind) -> KeyPin {
    let what =
        Generate { kind, label: name, id: name.as_bytes(), omit: &[], ed25519_as_name: false };
    let (_, public) = session.generate(&what).unwrap();
    KeyPin {
        name: name.into(),
        uri: uri(name.as_bytes()),
        spki: public.spki().to_vec(),
        algorithm: None,
    }
}

pub fn sign(pool: &Pool, key: &str) -> Result<(), SignError> {
    let signer = pool.key(key).unwrap().signer(Class::Certificate);
    let message = b"what is signed";
    let signature = signer.sign(message)?;
    let public = signer.public_key();
    assert!(public.verify(public.preferred_algorithm(), message, &signature));
    Ok(())
}

/// Signs again while the pool says that this helps.
pub fn sign_eventually(pool: &Pool, key: &str) {
    for _ in 0..50 {
        match sign(pool, key) {
            Ok(()) => return,
            Err(SignError::Retry(_)) => {
                pool.wait_ready(Duration::from_millis(500));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never recovered: {}", pool.health());
}

pub fn stopped_code(pool: &Pool) -> String {
    match pool.wait_ready(SOON) {
        TokenHealth::Stopped { code, .. } => code,
        other => panic!("{other}"),
    }
}
