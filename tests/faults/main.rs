//! A box under steady enrolment whose token does everything that tokens do wrong, one fault after the other: no
//! client gets a wrong certificate, every order ends `valid` by itself, nobody restarts anything, no PIN is tried
//! that was refused, and the log verifies.
//!
//! The token is SoftHSM2 behind `tests/faulty-module`. `CHANCERY_FAULTS` says how many faults (default: each kind
//! once; `all`: each variant once), `CHANCERY_SEED` repeats a run's choice, `CHANCERY_FAULTS_TABLE` names a file for
//! the table of docs/figures.md.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/faulty.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod faulty;
#[allow(unreachable_pub, reason = "a module of a test program")]
mod load;
#[allow(unreachable_pub, reason = "a module of a test program")]
mod plan;
#[path = "../support/plant.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod plant;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chancery::pki::certificate::Certificate;
use chancery::pki::crl;
use chancery::tlog::note::VerifierKey;
use faulty::Faulty;
use load::{Load, Neighbour};
use plan::{Fault, Meets};
use plant::Plant;
use plant::client::Client;
use plant::lab::{self, Lab, Options, now, pause, softhsm};

/// A fault that is not over by then is not mended by the box.
const MENDED: Duration = Duration::from_secs(60);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_the_token_does_every_order_ends_valid_and_nobody_restarts_anything() {
    let seed = number("CHANCERY_SEED").unwrap_or_else(|| {
        let mut octets = [0; 8];
        aws_lc_rs::rand::fill(&mut octets).unwrap();
        u64::from_le_bytes(octets)
    });
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::build(dir.path());
    let every = plan::every(house.ids().each_ref().map(String::as_str));
    let count = match std::env::var("CHANCERY_FAULTS").as_deref() {
        Ok("all") => every.len(),
        _ => number("CHANCERY_FAULTS")
            .map_or_else(|| plan::kinds(&every).len(), |count| usize::try_from(count).unwrap()),
    };
    println!("CHANCERY_SEED={seed} CHANCERY_FAULTS={count}");
    let chosen = plan::some(&every, count, seed);

    let runtime = Arc::clone(&house.plant.runtime);
    let load = Arc::new(house.load());
    let devices: Vec<_> =
        (0..3).map(|device| runtime.spawn(load::enrol(Arc::clone(&load), device))).collect();
    let mut recovered: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let quiet = now();
    await_that(&house.plant.lab, "no order was done", || load.first_since(quiet).is_some());
    for (number, fault) in chosen.iter().enumerate() {
        let took = house.strike(&runtime, &load, fault, number);
        println!("{number:>4} {:<40} {:>6} ms", fault.kind, took.as_millis());
        recovered.entry(fault.kind).or_default().push(took);
    }

    load.stop.store(true, Ordering::SeqCst);
    for device in devices {
        runtime.block_on(device).unwrap();
    }
    house.neighbour.stop();
    let done = std::mem::take(&mut *load.done.lock().unwrap());
    let ordinary = ordinary(&done);
    let table = table(&recovered, ordinary);
    println!("{table}");
    if let Some(path) = std::env::var_os("CHANCERY_FAULTS_TABLE") {
        std::fs::write(PathBuf::from(path), &table).unwrap();
    }
    let variants: BTreeSet<(&str, &str)> =
        chosen.iter().map(|fault| (fault.kind, fault.rules.as_str())).collect();
    println!(
        "{} faults, {} of {} variants in {} kinds; {} orders done, all valid; {} revocations; {} answers 503 and {} \
         broken connections waited out; {} cosignatures",
        chosen.len(),
        variants.len(),
        every.len(),
        recovered.len(),
        done.len(),
        load.revoked.lock().unwrap().len(),
        load.put_off.load(Ordering::Relaxed),
        load.broken.load(Ordering::Relaxed),
        house.neighbour.cosigned.load(Ordering::Relaxed),
    );
    house.judge(&load, &done);
}

/// The box, its token, and who watches.
struct House {
    plant: Plant,
    faulty: Faulty,
    neighbour: Asker,
    /// Supervisor and web process; neither may end.
    pids: (u32, Option<u32>),
}

impl House {
    fn build(dir: &std::path::Path) -> Self {
        let dir = dir.canonicalize().unwrap();
        let faulty = Faulty::around(&softhsm(), &dir);
        let neighbour = Neighbour::new();
        // Each wrong signature is forgiven after the trials: here the token makes many on purpose. And the one
        // neighbour asks more often, through hours of faults, than a neighbour may.
        let more = format!(
            "\n[web.limits]\ncosignatures-per-address = 0\n[token]\nmodule = \"{}\"\nthreads = 2\ndeadline-seconds = 2\nquarantine-hours = 0\n",
            faulty.module.display()
        );
        let mut plant = Plant::prepare_in(&dir, Options { more, ..Options::default() });
        let lab = &mut plant.lab;
        lab.hold("witness", "ca.lan/witness", "faults.test/witness");
        let path = lab.dir.join("chancery.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let watched = format!("watched-logs = [\"{}\"]\ntls-names", neighbour.key());
        std::fs::write(&path, config.replace("tls-names", &watched)).unwrap();
        let told = lab::succeed(lab.chancery().args(["witness", "key", "--json"]));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let witness: VerifierKey = told["witness"].as_str().unwrap().parse().unwrap();
        lab.serve();
        let pids = (lab.processes()[0].1, lab.process("web"));
        let neighbour = Asker::start(neighbour, lab.http, witness);
        Self { plant, faulty, neighbour, pids }
    }

    fn load(&self) -> Load {
        let issuing =
            std::fs::read_to_string(self.plant.lab.dir.join("state/public/issuing.pem")).unwrap();
        Load {
            server: self.plant.lab.acme,
            issuing: Certificate::parse_pem(&issuing).unwrap(),
            responder: self.plant.responder.clone(),
            stop: AtomicBool::new(false),
            pause: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            done: Mutex::default(),
            violations: Mutex::default(),
            put_off: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            revoked: Mutex::default(),
        }
    }

    /// The CKA_IDs of issuing and log key, in hexadecimal.
    fn ids(&self) -> [String; 2] {
        let authority =
            std::fs::read_to_string(self.plant.lab.dir.join("state/ca/authority.json")).unwrap();
        let authority: serde_json::Value = serde_json::from_str(&authority).unwrap();
        ["issuing_key", "log_key"].map(|key| {
            let uri = authority[key]["uri"].as_str().unwrap();
            let uri = chancery::pki::uri::Pkcs11Uri::parse(uri).unwrap();
            uri.id.unwrap().iter().map(|octet| format!("{octet:02x}")).collect()
        })
    }

    /// Makes one fault, and waits until the box is well again. How long that took, from the fault, or from when it
    /// was taken away, to the first thing that was begun afterwards and done.
    fn strike(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        load: &Load,
        fault: &Fault,
        number: usize,
    ) -> Duration {
        let id = format!("f{number}");
        let shows = fault.shows.replace("{id}", &id);
        let before = self.faulty.fired(&shows);
        let issuer = self.plant.lab.process("issuer");
        let logins = |faulty: &Faulty| faulty.logins().len();
        if fault.meets == Meets::Crl {
            load.pause.store(true, Ordering::SeqCst);
            self.until(fault, load, || load.under_way.load(Ordering::SeqCst) == 0);
        }
        let mut revoked = None;
        let arm = || self.faulty.rules(&fault.rules.replace("{id}", &id));
        if fault.meets == Meets::Crl {
            revoked = Some(Self::revoke_one(runtime, load, arm));
        } else {
            arm();
        }
        self.until(fault, load, || self.faulty.fired(&shows) > before);
        if fault.lasts > Duration::ZERO {
            let tried = logins(&self.faulty);
            pause(fault.lasts);
            if fault.meets == Meets::NoLogin {
                assert_eq!(logins(&self.faulty), tried, "a PIN was tried against {}", fault.rules);
            }
            self.faulty.rules("");
        }
        let since = now();
        let (mut at, mut from) = (since, since);
        if fault.ends_the_process() {
            // What another thread signs until the process ends is no recovery.
            self.until(fault, load, || {
                let next = self.plant.lab.process("issuer");
                next.is_some() && next != issuer
            });
            from = now();
        }
        match (fault.meets, revoked) {
            (Meets::Cosignatures, _) => self.until(fault, load, || {
                self.neighbour.first_since(from).inspect(|then| at = *then).is_some()
            }),
            (_, Some(leaf)) => {
                self.until(fault, load, || is_listed(&self.plant.lab, &load.issuing, &leaf));
                at = now();
                load.pause.store(false, Ordering::SeqCst);
            }
            _ => self
                .until(fault, load, || load.first_since(from).inspect(|then| at = *then).is_some()),
        }
        let took = at.duration_since(since);
        // What is left of it would be counted as the next one's; and the next one strikes a box that is well.
        self.faulty.rules("");
        let well = now();
        self.until(fault, load, || load.first_since(well).is_some() && self.is_ready());
        assert_eq!(
            (self.plant.lab.processes()[0].1, self.plant.lab.process("web")),
            self.pids,
            "{}",
            self.tail()
        );
        took
    }

    fn is_ready(&self) -> bool {
        lab::get(self.plant.lab.http, "/readyz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Enrols one device by itself, has the fault armed, and revokes its certificate.
    fn revoke_one(runtime: &tokio::runtime::Runtime, load: &Load, arm: impl Fn()) -> Certificate {
        let mut client =
            Client::new(load.server, "localhost", "/acme/directory", load.responder.clone());
        runtime.block_on(async {
            let leaf = load::chase(load, &mut client, "crl.faults.test").await.expect("an order");
            arm();
            load::revoke(load, &mut client, &leaf).await;
            leaf
        })
    }

    fn until(&self, fault: &Fault, load: &Load, mut done: impl FnMut() -> bool) {
        let began = now();
        while !done() {
            let wrong = load.violations.lock().unwrap().clone();
            assert!(wrong.is_empty(), "{wrong:?} after {}:\n{}", fault.rules, self.tail());
            let late = began.elapsed() > MENDED;
            let ready = || lab::get(self.plant.lab.http, "/readyz");
            assert!(!late, "not mended: {}\n{:?}\n{}", fault.rules, ready(), self.tail());
            pause(Duration::from_millis(5));
        }
    }

    fn tail(&self) -> String {
        self.plant.lab.log_tail()
    }

    /// Everything that must hold in the end.
    fn judge(&mut self, load: &Load, done: &[load::Done]) {
        assert_eq!(*load.violations.lock().unwrap(), Vec::<String>::new());
        assert_eq!(*self.neighbour.violations.lock().unwrap(), Vec::<String>::new());
        for answer in self.faulty.logins() {
            assert!(!answer.starts_with("CKR_PIN"), "a PIN was refused: {answer}");
        }
        for leaf in &*load.revoked.lock().unwrap() {
            await_that(&self.plant.lab, "a revocation is in no CRL", || {
                is_listed(&self.plant.lab, &load.issuing, leaf)
            });
        }
        self.plant.lab.stop();
        println!("{}", lab::succeed(self.plant.lab.chancery().args(["log", "verify"])));
        let exported =
            lab::succeed(self.plant.lab.chancery().args(["log", "export", "--format", "pem"]));
        for done in done {
            let pem = done.leaf.pem();
            assert!(
                exported.contains(pem.trim()),
                "a released certificate is not in the log:\n{pem}"
            );
        }
    }
}

/// Asks for cosignatures, ten a second, on a thread of its own.
struct Asker {
    stop: Arc<AtomicBool>,
    /// When requests began that were cosigned, and when they were.
    times: Arc<Mutex<Vec<(Instant, Instant)>>>,
    cosigned: Arc<AtomicUsize>,
    violations: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Asker {
    fn start(mut neighbour: Neighbour, server: std::net::SocketAddr, witness: VerifierKey) -> Self {
        let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (cosigned, violations) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::default()));
        let mut asker = Self { stop, times, cosigned, violations, thread: None };
        let (stop, times) = (Arc::clone(&asker.stop), Arc::clone(&asker.times));
        let (count, wrong) = (Arc::clone(&asker.cosigned), Arc::clone(&asker.violations));
        asker.thread = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let began = now();
                match neighbour.ask(server, &witness) {
                    Ok(true) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        times.lock().unwrap().push((began, now()));
                    }
                    Ok(false) => {}
                    Err(why) => {
                        let mut wrong: std::sync::MutexGuard<'_, Vec<String>> =
                            wrong.lock().unwrap();
                        wrong.push(why);
                    }
                }
                pause(Duration::from_millis(100));
            }
        }));
        asker
    }

    fn first_since(&self, since: Instant) -> Option<Instant> {
        let times = self.times.lock().unwrap();
        times.iter().filter(|(began, _)| *began > since).map(|(_, at)| *at).min()
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn await_that(lab: &Lab, what: &str, mut done: impl FnMut() -> bool) {
    let began = now();
    while !done() {
        assert!(began.elapsed() < MENDED, "{what}:\n{}", lab.log_tail());
        pause(Duration::from_millis(10));
    }
}

/// Whether the CRL that the certificate names lists it.
fn is_listed(lab: &Lab, issuing: &Certificate, leaf: &Certificate) -> bool {
    let url = leaf.crl_url().unwrap();
    let (_, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let serial = leaf.serial().unwrap();
    std::fs::read(lab.dir.join("state/public").join(path)).is_ok_and(|der| {
        let crl = crl::parse_verified(&der, issuing).unwrap();
        crl.revoked.iter().any(|entry| entry.serial == serial)
    })
}

/// How long orders took of which a fault took no notice: the median.
fn ordinary(done: &[load::Done]) -> Duration {
    let mut took: Vec<Duration> = done.iter().map(|done| done.took).collect();
    took.sort();
    took[took.len() / 2]
}

fn table(recovered: &BTreeMap<&str, Vec<Duration>>, ordinary: Duration) -> String {
    let mut text = String::from("| fault | times | median | longest |\n|---|---:|---:|---:|\n");
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    for (kind, times) in recovered {
        let mut times = times.clone();
        times.sort();
        let (middle, longest) = (times.len() / 2, times[times.len() - 1]);
        let median = (times[(times.len() - 1) / 2] + times[middle]) / 2;
        writeln!(text, "| {kind} | {} | {} | {} |", times.len(), ms(median), ms(longest)).unwrap();
    }
    writeln!(text, "| *an order, for comparison* | | {} | |", ms(ordinary)).unwrap();
    text
}
