//! The pool's rate over the module's.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use chancery::hsm::Class;
use chancery::hsm::pool::{Key, KeyPin, Settings};
use chancery::hsm::token::{Module, TokenName};
use chancery::pki::key::{KeyKind, PublicKey};

use super::token::{LABEL, SOON, Token, sandbox, softhsm};
use super::{Options, RATIOS, now};

/// As long as a TBSCertificate.
const MESSAGE: [u8; 700] = [7; 700];
/// Each figure is the best of so many.
const ROUNDS: u32 = 3;

/// In a process of its own, with a new token.
pub fn run(options: &Options) {
    let dir = tempfile::tempdir().unwrap();
    sandbox(dir.path(), LABEL);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([RATIOS, "--seconds", &options.seconds.to_string()])
        .env("CHANCERY_TEST_TOKEN_DIR", dir.path())
        .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"));
    if let Some(module) = &options.module {
        command.args(["--module", module]);
    }
    assert!(command.status().unwrap().success());
}

pub fn print(options: &Options) {
    let dir = std::path::PathBuf::from(std::env::var_os("CHANCERY_TEST_TOKEN_DIR").unwrap());
    let pin = std::fs::read_to_string(dir.join("pin")).unwrap();
    let module = options.module.as_ref().map_or_else(softhsm, Into::into);
    let token = Token { settings: Settings::new(module), pin, dir };
    let each = Duration::from_secs_f64((options.seconds / 20.0).clamp(0.02, 1.0));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    println!("module {}, signatures a second", token.settings.module.display());
    println!("| key | sessions | module | and verified | pool | pool : module | pool : verified |");
    println!("|---|---|---|---|---|---|---|");
    for (name, kind) in [
        ("P-256", KeyKind::EcP256),
        ("P-384", KeyKind::EcP384),
        ("RSA-2048", KeyKind::Rsa(2048)),
        ("Ed25519", KeyKind::Ed25519),
    ] {
        let pin = token.key(name, kind);
        for sessions in [1, cores, 2 * cores] {
            let (mut bare, mut verified, mut pooled) = (0f64, 0f64, 0f64);
            let settings = Settings { threads: sessions, ..token.settings.clone() };
            let with = Token { settings, pin: token.pin.clone(), dir: token.dir.clone() };
            let pool = with.start(vec![pin.clone()]);
            pool.wait_ready(SOON);
            let key = pool.key(name).unwrap();
            // In turns, so that what else the machine does meets all of them.
            for _ in 0..ROUNDS {
                bare = bare.max(module_rate(&token, &pin, sessions, each, false));
                verified = verified.max(module_rate(&token, &pin, sessions, each, true));
                pooled = pooled.max(pool_rate(&key, sessions, each));
            }
            println!(
                "| {name} | {sessions} | {bare:.0} | {verified:.0} | {pooled:.0} | {:.2} | {:.2} |",
                pooled / bare,
                pooled / verified
            );
        }
    }
}

/// Threads with a session each, that do nothing else. The digest is made here, as in the pool.
fn module_rate(token: &Token, pin: &KeyPin, threads: usize, each: Duration, verify: bool) -> f64 {
    let module = Module::load(&token.settings.module).unwrap();
    module.initialize().unwrap();
    let name = TokenName::labelled(LABEL);
    let (slot, _) = module.find(&name).unwrap();
    let public = PublicKey::from_spki(&pin.spki).unwrap();
    let id = pin.uri.id.clone().unwrap();
    std::thread::scope(|scope| {
        let signers: Vec<_> = (0..threads)
            .map(|_| {
                let (session, public, id) = (module.open(slot).unwrap(), &public, &id);
                scope.spawn(move || {
                    let key = session.find_key(id).unwrap();
                    let algorithm = public.preferred_algorithm();
                    let (start, mut signed) = (now(), 0u32);
                    while start.elapsed() < each {
                        let signature = session.sign(key, algorithm, &MESSAGE).unwrap();
                        assert!(!verify || public.verify(algorithm, &MESSAGE, &signature));
                        signed += 1;
                    }
                    let rate = f64::from(signed) / start.elapsed().as_secs_f64();
                    session.close();
                    rate
                })
            })
            .collect();
        signers.into_iter().map(|signer| signer.join().unwrap()).sum()
    })
}

/// Four requests wait for each session all the time.
fn pool_rate(key: &Key, sessions: usize, each: Duration) -> f64 {
    let load = Arc::new(Load {
        key: key.clone(),
        signed: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let (ended, end) = mpsc::channel();
    let start = now();
    for _ in 0..4 * sessions {
        again(Arc::clone(&load), ended.clone());
    }
    drop(ended);
    std::thread::park_timeout(each);
    while start.elapsed() < each {
        std::thread::park_timeout(each.saturating_sub(start.elapsed()));
    }
    let rate = load.signed.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    load.over.store(true, Ordering::Relaxed);
    // What is under way would be measured with what comes next.
    let _ = end.recv();
    rate
}

struct Load {
    key: Key,
    signed: AtomicU64,
    over: AtomicBool,
}

/// Asks for the next; the last to end drops the last `ended`.
#[expect(clippy::only_used_in_recursion, reason = "its drop is what counts")]
fn again(load: Arc<Load>, ended: mpsc::Sender<()>) {
    if load.over.load(Ordering::Relaxed) {
        return;
    }
    let key = load.key.clone();
    let then = Box::new(move |outcome: Result<Vec<u8>, _>| {
        outcome.unwrap();
        load.signed.fetch_add(1, Ordering::Relaxed);
        again(load, ended);
    });
    key.submit(Class::Certificate, MESSAGE.to_vec(), then);
}
