//! The contract, run beside a token that `token.sh` brought up: each step and each kind of key in a process of its
//! own, because some modules keep what a step did to them, and some crash.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use chancery::env::system::SystemClock;
use chancery::hsm::direct::Direct;
use chancery::hsm::health::TokenHealth;
use chancery::hsm::pool::{KeyPin, Pin, Pool, Settings};
use chancery::hsm::token::{Generate, Module, Session, TokenName};
use chancery::hsm::{Class, SignError};
use chancery::pki::authority::Authority;
use chancery::pki::key::{KeyKind, PublicKey, SignatureAlgorithm};
use chancery::pki::uri::Pkcs11Uri;
use serde::{Deserialize, Serialize};

use super::lab::{now, pause};
use super::models::{Model, Row, Step};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// Which part a process runs; absent in the one that starts them.
const PART: &str = "CHANCERY_TOKEN_PART";
/// How long signatures are counted, in milliseconds.
pub const SPAN: &str = "CHANCERY_TOKEN_SPAN";
/// No part takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Works,
    /// Signatures a second by one thread and by two.
    Signs(f64, f64),
    /// The loss changed nothing until the module was initialized anew; then the pool waited and recovered.
    GoesOn,
    /// What was done did not reach the pool, which signed on.
    Untouched,
    /// The token does not list the mechanism.
    Absent,
    /// The program said no, in these words.
    Refused(String),
    /// Not by this program's intention.
    Failed(String),
}

/// Outcomes by the titles of steps and rows, and what the module says it is.
pub type Outcomes = Vec<(String, Outcome)>;

/// Runs every part and leaves the outcomes in DIR/outcomes.json; in a part's own process, runs that part.
pub fn inside(model: &Model) {
    let dir = PathBuf::from(std::env::var_os("CHANCERY_TOKEN_DIR").unwrap());
    let token = Token::new(model, &dir);
    if let Some(part) = std::env::var_os(PART) {
        let part = part.into_string().unwrap();
        let outcomes = match Step::ALL.into_iter().find(|step| step.title() == part) {
            Some(step) => vec![(part, token.step(step))],
            None => token.kind(&part),
        };
        std::fs::write(dir.join("part.json"), serde_json::to_string(&outcomes).unwrap()).unwrap();
        return;
    }
    let mut all: Outcomes = Vec::new();
    for part in Step::ALL.map(Step::title).into_iter().chain(Row::kinds()) {
        let begun = now();
        let outcomes = in_a_process(&dir, part);
        eprintln!("{}: {part}: {outcomes:?} ({} ms)", model.name, begun.elapsed().as_millis());
        all.extend(outcomes);
    }
    std::fs::write(dir.join("outcomes.json"), serde_json::to_string(&all).unwrap()).unwrap();
}

fn in_a_process(dir: &Path, part: &str) -> Outcomes {
    let _ = std::fs::remove_file(dir.join("part.json"));
    let log = dir.join("part.log");
    let file = std::fs::File::create(&log).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(PART, part)
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let begun = now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return vec![(part.to_owned(), Outcome::Failed("it hangs".into()))];
        }
        pause(Duration::from_millis(5));
    }
    match std::fs::read_to_string(dir.join("part.json")) {
        Ok(json) => serde_json::from_str(&json).unwrap(),
        Err(_) => {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            vec![(part.to_owned(), Outcome::Failed(said))]
        }
    }
}

struct Token<'a> {
    model: &'a Model,
    dir: &'a Path,
    settings: Settings,
    label: String,
    pin: String,
}

impl<'a> Token<'a> {
    fn new(model: &'a Model, dir: &'a Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let settings = chancery::config::read(&dir.join("settings.toml")).unwrap();
        Self { model, dir, settings, label: read("label"), pin: read("pin") }
    }

    /// Whether the program can speak to it at all.
    fn opens(&self) -> Result<(), String> {
        let open = || {
            let module = Module::load(&self.settings.module)?;
            module.initialize()?;
            let name = TokenName::labelled(&self.label);
            let session = module.open(module.find(&name)?.0)?;
            session.login(Some(&self.pin.clone().into()))?;
            // A login would outlive the session.
            session.logout()?;
            session.close();
            module.finalize()
        };
        open().map_err(|error| error.to_string())
    }

    fn step(&self, step: Step) -> Outcome {
        if let Err(error) = self.opens() {
            return Outcome::Refused(error);
        }
        match step {
            Step::Ceremony => self.ceremony(),
            Step::Sign => self.sign(),
            Step::Parallel => self.parallel(),
            Step::Logout => self.behind_our_back(|token| {
                let (_, session) = token.session();
                session.logout().unwrap();
            }),
            Step::Sessions => self.behind_our_back(|token| {
                let module = token.module();
                module.finalize().unwrap();
                module.initialize().unwrap();
            }),
            Step::Finalized => self.behind_our_back(|token| token.module().finalize().unwrap()),
            Step::Lost => self.lost(),
            Step::Restart => self.restart(),
            Step::WrongPin => self.wrong_pin(),
        }
    }

    /// Root, issuing, log and TLS key by the program itself, whose judgement of the attributes counts.
    fn ceremony(&self) -> Outcome {
        let at = self.dir.display();
        let write = |name: &str, text: String| std::fs::write(self.dir.join(name), text).unwrap();
        write(
            "chancery.toml",
            format!(
                "inherit = [\"{REPOSITORY}/firmware-config/board/lab.toml\"]\ntoken = \"{at}/settings.toml\"\n\n\
                 [state]\ndir = \"{at}/state\"\npin = {{ file = \"{at}/pin\" }}\n"
            ),
        );
        let log_key = match self.model.log_key {
            "ed25519" => format!("{REPOSITORY}/hsm/key/log.toml"),
            kind => {
                let shipped =
                    std::fs::read_to_string(format!("{REPOSITORY}/hsm/key/log.toml")).unwrap();
                write("log.toml", shipped.replace("ed25519", kind));
                format!("{at}/log.toml")
            }
        };
        let ceremony =
            std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/lab.toml")).unwrap();
        let ceremony = ceremony
            .replace("\"../key/log.toml\"", &format!("\"{log_key}\""))
            .replace("\"../key/", &format!("\"{REPOSITORY}/hsm/key/"))
            .replace("label = \"chancery\"", &format!("label = \"{}\"", self.label));
        write("ceremony.toml", ceremony);
        let output = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["ceremony", "run", "ceremony.toml", "--yes"])
            .env("CHANCERY_CONFIG", self.dir.join("chancery.toml"))
            .current_dir(self.dir)
            .output()
            .unwrap();
        if output.status.success() {
            assert_eq!(self.pins().len(), 4);
            Outcome::Works
        } else {
            Outcome::Refused(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn sign(&self) -> Outcome {
        let pool = self.ready();
        for pin in self.pins() {
            sign(&pool, &pin.name).unwrap();
        }
        let (module, token) = pool.identity().unwrap();
        assert_eq!(token.label, self.label);
        let told = serde_json::to_string(&(module, token)).unwrap();
        std::fs::write(self.dir.join("identity.json"), told).unwrap();
        Outcome::Works
    }

    /// Sixty questions of four threads and every class, no more than four of a thread waiting; each is answered once
    /// and by what was asked.
    fn parallel(&self) -> Outcome {
        let pool = self.ready();
        let names: Vec<String> = self.pins().into_iter().map(|pin| pin.name).collect();
        std::thread::scope(|scope| {
            for thread in 0u8..4 {
                let (pool, names) = (&pool, &names);
                scope.spawn(move || {
                    let (told, answers) = mpsc::channel();
                    let classes = [Class::Certificate, Class::Checkpoint, Class::Tls, Class::Crl];
                    let mut seen = Vec::new();
                    for n in 0u8..15 {
                        let key = pool.key(&names[usize::from(n) % names.len()]).unwrap();
                        let (told, public) = (told.clone(), key.public_key().clone());
                        let then = Box::new(move |outcome: Result<Vec<u8>, SignError>| {
                            let signature = outcome.unwrap();
                            let algorithm = public.preferred_algorithm();
                            assert!(public.verify(algorithm, &[thread, n], &signature));
                            told.send(n).unwrap();
                        });
                        key.submit(classes[usize::from(n) % 4], vec![thread, n], then);
                        if n >= 4 {
                            seen.push(answers.recv().unwrap());
                        }
                    }
                    drop(told);
                    seen.extend(answers);
                    seen.sort_unstable();
                    assert_eq!(seen, Vec::from_iter(0..15));
                });
            }
        });
        Outcome::Works
    }

    /// Something happens to the module three times; each time the pool signs again without help.
    fn behind_our_back(&self, harm: impl Fn(&Self)) -> Outcome {
        let pool = self.ready();
        let name = self.pins()[0].name.clone();
        for n in 1..=3 {
            sign(&pool, &name).unwrap_or_else(|_| sign_eventually(&pool, &name));
            harm(self);
            sign_eventually(&pool, &name);
            if pool.figures().recoveries < n {
                assert_eq!(n, 1, "the harm was none for once");
                return Outcome::Untouched;
            }
        }
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        Outcome::Works
    }

    /// The token goes away and comes back.
    fn lost(&self) -> Outcome {
        let pool = self.ready();
        let name = self.pins()[0].name.clone();
        sign(&pool, &name).unwrap();
        self.script("lose");
        let begun = now();
        let mut noticed = false;
        while !noticed && begun.elapsed() < Duration::from_secs(2) {
            noticed = sign(&pool, &name).is_err();
        }
        // It lives on in the process, perhaps until that initializes anew.
        let missed = noticed || {
            self.module().finalize().unwrap();
            sign(&pool, &name).is_err()
        };
        self.script("back");
        sign_eventually(&pool, &name);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        match (noticed, missed) {
            (true, _) => Outcome::Works,
            (false, true) => Outcome::GoesOn,
            (false, false) => Outcome::Untouched,
        }
    }

    /// Another process finds the same keys, and takes no other for them.
    fn restart(&self) -> Outcome {
        let pool = self.ready();
        let pins = self.pins();
        for pin in &pins {
            assert_eq!(pool.key(&pin.name).unwrap().public_key().spki(), pin.spki);
            sign(&pool, &pin.name).unwrap();
        }
        drop(pool);
        let other = self.generate("other", self.model.fallback);
        let swapped = KeyPin { spki: other.spki, ..pins[0].clone() };
        let pool = self.pool(vec![swapped], &self.pin);
        match pool.wait_ready(SOON) {
            TokenHealth::Stopped { code, .. } if code == "CHY-KEY-MISMATCH" => {}
            other => panic!("a key that is not the pinned one: {other}"),
        }
        drop(pool);
        let direct = self.direct();
        direct.destroy(b"other").unwrap();
        assert!(!direct.holds("other").unwrap(), "the key outlived its removal");
        Outcome::Works
    }

    /// A wrong PIN is refused in plain words, the right one works afterwards.
    fn wrong_pin(&self) -> Outcome {
        let pool = self.pool(self.pins(), "00000000");
        match pool.wait_ready(SOON) {
            TokenHealth::Stopped { code, .. } if code == "CHY-PIN-REFUSED" => {}
            other => return Outcome::Failed(other.to_string()),
        }
        drop(pool);
        let pool = self.ready();
        sign(&pool, &self.pins()[0].name).unwrap();
        Outcome::Works
    }

    /// Generates a key of this kind and counts what each of its algorithms signs.
    fn kind(&self, title: &str) -> Outcomes {
        let rows: Vec<Row> = Row::ALL.into_iter().filter(|row| row.kind_title() == title).collect();
        if let Err(error) = self.opens() {
            let refused = |row: &Row| (row.title().to_owned(), Outcome::Refused(error.clone()));
            return rows.iter().map(refused).collect();
        }
        let (module, session) = self.session();
        let name = TokenName::labelled(&self.label);
        let (slot, _) = module.find(&name).unwrap();
        let offered = module.mechanisms(slot).unwrap();
        let lacks =
            |row: &Row| row.mechanisms().into_iter().any(|wanted| !offered.contains(&wanted));
        if rows.iter().all(lacks) {
            return rows.iter().map(|row| (row.title().to_owned(), Outcome::Absent)).collect();
        }
        let id = title.as_bytes();
        let what = Generate {
            kind: rows[0].kind(),
            label: title,
            id,
            omit: &self.settings.quirks.omit,
            ed25519_as_name: self.settings.quirks.ed25519_as_name,
        };
        let public = match session.generate(&what) {
            Ok((_, public)) => public,
            Err(error) => {
                let refused =
                    |row: &Row| (row.title().to_owned(), Outcome::Refused(error.to_string()));
                return rows.iter().map(refused).collect();
            }
        };
        let outcomes = rows
            .iter()
            .map(|row| {
                let outcome = if lacks(row) {
                    Outcome::Absent
                } else {
                    let one = self.rate(&module, id, &public, row.algorithm(), 1);
                    let two = self.rate(&module, id, &public, row.algorithm(), 2);
                    match (one, two) {
                        (Ok(one), Ok(two)) => Outcome::Signs(one, two),
                        (Err(error), _) | (_, Err(error)) => Outcome::Refused(error),
                    }
                };
                (row.title().to_owned(), outcome)
            })
            .collect();
        session.destroy(id).unwrap();
        outcomes
    }

    fn rate(
        &self,
        module: &Module,
        id: &[u8],
        public: &PublicKey,
        algorithm: SignatureAlgorithm,
        threads: usize,
    ) -> Result<f64, String> {
        let name = TokenName::labelled(&self.label);
        let (slot, _) = module.find(&name).map_err(|error| error.to_string())?;
        let span = std::env::var(SPAN).ok().and_then(|span| span.parse().ok()).unwrap_or(200);
        let count = |n: usize| {
            let session = module.open(slot).map_err(|error| error.to_string())?;
            let key = session.find_key(id).map_err(|error| error.to_string())?;
            // As long as a TBSCertificate is.
            let message = [u8::try_from(n).unwrap_or_default(); 600];
            let begun = now();
            let mut signed = 0.0;
            let mut signature = Vec::new();
            while begun.elapsed() < Duration::from_millis(span) {
                signature =
                    session.sign(key, algorithm, &message).map_err(|error| error.to_string())?;
                signed += 1.0;
            }
            let rate = signed / begun.elapsed().as_secs_f64();
            if !public.verify(algorithm, &message, &signature) {
                return Err("the signature does not verify".to_owned());
            }
            session.close();
            Ok(rate)
        };
        std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|n| scope.spawn(move || count(n))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    }

    fn module(&self) -> Module {
        let module = Module::load(&self.settings.module).unwrap();
        module.initialize().unwrap();
        module
    }

    /// A session of our own, logged in, that can write.
    fn session(&self) -> (Module, Session) {
        let module = self.module();
        let name = TokenName::labelled(&self.label);
        let (slot, _) = module.find(&name).unwrap();
        let session = module.open_writing(slot).unwrap();
        session.login(Some(&self.pin.clone().into())).unwrap();
        (module, session)
    }

    fn direct(&self) -> Arc<Direct> {
        let name = TokenName::labelled(&self.label);
        Direct::open(&self.settings, &name, &Pin(self.pin.clone().into()), true).unwrap()
    }

    /// A key by hand, judged by nobody.
    fn generate(&self, name: &str, kind: KeyKind) -> KeyPin {
        let (_, session) = self.session();
        let id = name.as_bytes();
        let quirks = &self.settings.quirks;
        let what = Generate {
            kind,
            label: name,
            id,
            omit: &quirks.omit,
            ed25519_as_name: quirks.ed25519_as_name,
        };
        let (_, public) = session.generate(&what).unwrap();
        session.close();
        let uri = Pkcs11Uri {
            token: Some(self.label.clone()),
            id: Some(id.to_vec()),
            ..Pkcs11Uri::default()
        };
        KeyPin { name: name.into(), uri, spki: public.spki().to_vec(), algorithm: None }
    }

    /// The keys of the ceremony; where it was refused, one made by hand.
    fn pins(&self) -> Vec<KeyPin> {
        let pinned = |name: &str, uri: &str, spki: &str| KeyPin {
            name: name.to_owned(),
            uri: Pkcs11Uri::parse(uri).unwrap(),
            spki: <base64ct::Base64 as base64ct::Encoding>::decode_vec(spki).unwrap(),
            algorithm: None,
        };
        if let Ok(json) = std::fs::read(self.dir.join("state/ca/authority.json")) {
            let authority: Authority = serde_json::from_slice(&json).unwrap();
            let root = authority.root_key.unwrap();
            let keys = [
                ("issuing", &authority.issuing_key),
                ("log", &authority.log_key),
                ("tls", &authority.tls_key),
                ("root", &root),
            ];
            return keys.map(|(name, key)| pinned(name, &key.uri, &key.spki)).into();
        }
        let kept = self.dir.join("pin.json");
        if let Ok(json) = std::fs::read(&kept) {
            let (uri, spki): (String, String) = serde_json::from_slice(&json).unwrap();
            return vec![pinned("single", &uri, &spki)];
        }
        let pin = self.generate("single", self.model.fallback);
        let spki = <base64ct::Base64 as base64ct::Encoding>::encode_string(&pin.spki);
        std::fs::write(kept, serde_json::to_string(&(pin.uri.to_string(), spki)).unwrap()).unwrap();
        vec![pin]
    }

    fn pool(&self, pins: Vec<KeyPin>, pin: &str) -> Pool {
        let clock = Arc::new(SystemClock::new());
        let pin = Pin(pin.to_owned().into());
        Pool::start(self.settings.clone(), pins, pin, clock, Box::new(|_| {})).unwrap()
    }

    fn ready(&self) -> Pool {
        let pool = self.pool(self.pins(), &self.pin);
        assert_eq!(pool.wait_ready(SOON), TokenHealth::Ready);
        pool
    }

    fn script(&self, verb: &str) {
        let script = format!("{REPOSITORY}/tests/tokens/token.sh");
        super::lab::succeed(Command::new(script).args([self.model.name, verb]));
    }
}

fn sign(pool: &Pool, key: &str) -> Result<(), SignError> {
    let signer = pool.key(key).unwrap().signer(Class::Certificate);
    let message = b"what is signed";
    let signature = signer.sign(message)?;
    let public = signer.public_key();
    assert!(public.verify(public.preferred_algorithm(), message, &signature));
    Ok(())
}

/// Signs again while the pool says that this helps.
fn sign_eventually(pool: &Pool, key: &str) {
    let begun = now();
    while begun.elapsed() < SOON {
        match sign(pool, key) {
            Ok(()) => return,
            Err(SignError::Retry(_)) => {
                pool.wait_ready(Duration::from_millis(500));
            }
            // The pool still answers by what it last knew.
            Err(SignError::Refuse(why)) if why.starts_with("CHY-KEY-MISSING") => {
                pause(Duration::from_millis(100));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never recovered: {}", pool.health());
}
