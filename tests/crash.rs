//! A box under load whose processes are killed without warning, many times. Afterwards: every order that was
//! promised (201) is there and comes to an end, every certificate that was downloaded or could have been is in the log
//! byte for byte, every revocation that was answered with 200 is in the log and in the CRL that the certificate names,
//! and the log verifies.
//!
//! SoftHSM2 empties its token.object for a moment at each login, and a kill at that moment destroys the token, whoever
//! logged in. That is no loss of the box's, so the file is then put back from a copy, and counted.
//!
//! `CHANCERY_KILLS` says how often issuer, web process and supervisor are each killed (default: a few). `CHANCERY_SEED` repeats the moments of a run, as far as a scheduler lets moments repeat.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chancery::pki::certificate::Certificate;
use chancery::pki::crl;
use plant::Plant;
use plant::client::{Client, Failure};
use plant::lab::{self, Lab, Options};

/// What one client saw and will ask for again.
struct Witness {
    client: Client,
    /// PEM chains as downloaded, with the order's URL.
    issued: Vec<(String, String)>,
    /// Certificates whose revocation was answered.
    revoked: Vec<Certificate>,
}

#[test]
#[allow(clippy::unwrap_used)]
fn killed_at_any_moment_nothing_released_is_lost() {
    let kills = number("CHANCERY_KILLS").unwrap_or(4);
    let seed = number("CHANCERY_SEED").unwrap_or_else(|| {
        let mut octets = [0; 8];
        aws_lc_rs::rand::fill(&mut octets).unwrap();
        u64::from_le_bytes(octets)
    });
    println!("CHANCERY_SEED={seed} CHANCERY_KILLS={kills}");
    let mut plant = Plant::start(Options::default());
    let runtime = Arc::clone(&plant.runtime);
    let began = lab::now();

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| runtime.spawn(load(plant.client(), number, Arc::clone(&stop))))
        .collect();
    let lab = &mut plant.lab;
    let killed = kill(lab, kills, Moments(seed));
    lab::pause(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let mut witnesses: Vec<Witness> =
        clients.into_iter().map(|client| runtime.block_on(client).unwrap()).collect();
    let took = began.elapsed();

    let mut released: Vec<(String, String)> = Vec::new();
    let mut revoked: Vec<Certificate> = Vec::new();
    let mut created = 0;
    for witness in &mut witnesses {
        revoked.append(&mut witness.revoked);
        for (url, chain) in std::mem::take(&mut witness.issued) {
            let again = runtime.block_on(end(&mut witness.client, &url));
            assert_eq!(again.as_ref(), Some(&chain), "the certificate of {url} changed");
            released.push((url, chain));
        }
        // Those too whose client was cut off: what is valid could be downloaded, so it counts as released.
        for url in witness.client.created.clone() {
            created += 1;
            if released.iter().any(|(other, _)| *other == url) {
                continue;
            }
            let chain = runtime.block_on(end(&mut witness.client, &url));
            released.extend(chain.map(|chain| (url, chain)));
        }
    }
    // Once more from what is on disk alone.
    lab.stop();
    lab.serve();
    for certificate in &revoked {
        wait_listed(lab, certificate);
    }
    lab.stop();
    let recorded = lab::succeed(lab.chancery().args(["log", "list", "--kind", "revoked"]));
    for certificate in &revoked {
        let serial = certificate.serial().unwrap().to_string();
        assert_eq!(recorded.matches(&serial).count(), 1, "{serial}:\n{recorded}");
    }
    let exported = lab::succeed(lab.chancery().args(["log", "export", "--format", "pem"]));
    let logged: BTreeSet<&str> = blocks(&exported).collect();
    for (url, chain) in &released {
        let leaf = blocks(chain).next().unwrap();
        assert!(logged.contains(leaf), "{url}: a downloaded certificate is not in the log");
    }
    println!(
        "{killed}; {created} orders created and found again, {} certificates downloaded and found in \
         the log, {} revocations answered and found in log and CRL; {:.1} s under load",
        released.len(),
        revoked.len(),
        took.as_secs_f64()
    );
    println!("{}", lab::succeed(lab.chancery().args(["log", "verify"])));
    assert!(released.len() as u64 >= kills.max(5), "hardly any load: {}", released.len());
    assert!(revoked.len() as u64 >= kills.min(20), "hardly any revocations: {}", revoked.len());
}

/// Waits until the CRL that the certificate names lists it.
fn wait_listed(lab: &Lab, certificate: &Certificate) {
    let public = lab.dir.join("state/public");
    let issuing = std::fs::read_to_string(public.join("issuing.pem")).unwrap();
    let issuing = Certificate::parse_pem(&issuing).unwrap();
    let url = certificate.crl_url().unwrap();
    let (_, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let serial = certificate.serial().unwrap();
    let began = lab::now();
    loop {
        let listed = std::fs::read(public.join(path)).is_ok_and(|der| {
            let crl = crl::parse_verified(&der, &issuing).unwrap();
            crl.shard.as_deref() == Some(url) && crl.revoked.iter().any(|e| e.serial == serial)
        });
        if listed {
            return;
        }
        let waited = began.elapsed();
        assert!(waited < READY_AGAIN, "{serial} is not in {path}:\n{}", lab.log_tail());
        lab::pause(Duration::from_millis(20));
    }
}

/// Pseudo-random choices that a seed repeats (Knuth's MMIX generator; its high bits are the good ones).
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What was killed, and how long the box was away after each kill.
#[derive(Default)]
struct Killed {
    issuer: usize,
    web: usize,
    serve: usize,
    /// Of either, before it was ready.
    successors: usize,
    /// How often SoftHSM2's token had to be put back.
    tokens: usize,
    away: Vec<Duration>,
}

impl std::fmt::Display for Killed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { issuer, web, serve, successors, tokens, away } = self;
        let mut away = away.clone();
        away.sort();
        let (median, longest) = (away[away.len() / 2], away[away.len() - 1]);
        write!(
            f,
            "killed: issuer {issuer}, web {web}, supervisor {serve} times, a successor while it started {successors} times (SoftHSM2's token put back {tokens} times); ready again after {} ms (median), {} ms \
             (longest)",
            median.as_millis(),
            longest.as_millis()
        )
    }
}

/// Kills issuer, web process and supervisor `kills` times each at moments under load.
fn kill(lab: &mut Lab, kills: u64, mut moments: Moments) -> Killed {
    let mut killed = Killed::default();
    let token = Token::copy(lab);
    for _ in 0..kills {
        for role in ["issuer", "web"] {
            lab::pause(Duration::from_millis(30 + moments.below(220)));
            let began = lab::now();
            let Some(pid) = lab.process(role) else { panic!("no {role}:\n{}", lab.log_tail()) };
            lab::signal(pid, "KILL");
            lab.wait_gone(pid);
            killed.tokens += usize::from(token.put_back());
            *(if role == "issuer" { &mut killed.issuer } else { &mut killed.web }) += 1;
            // Now and then its successor is killed too, while it starts and recovers.
            if moments.below(4) == 0 {
                lab::pause(Duration::from_millis(100 + moments.below(300)));
                if let Some(pid) = lab.process(role) {
                    lab::signal(pid, "KILL");
                    lab.wait_gone(pid);
                    killed.tokens += usize::from(token.put_back());
                    killed.successors += 1;
                }
            }
            lab.wait_ready(READY_AGAIN);
            killed.away.push(began.elapsed());
        }
        lab::pause(Duration::from_millis(30 + moments.below(220)));
        let began = lab::now();
        let orphans = lab.kill_supervisor();
        killed.serve += 1;
        // The next one may start while the orphans still hold ports, store, socket and log; or after.
        let patient = moments.below(2) == 0;
        if !patient {
            lab.spawn();
        }
        for pid in orphans {
            lab.wait_gone(pid);
        }
        if patient {
            lab.spawn();
        }
        lab.wait_ready(READY_AGAIN);
        killed.away.push(began.elapsed());
    }
    killed
}

/// A copy of SoftHSM2's token.object.
struct Token {
    file: PathBuf,
    whole: Vec<u8>,
}

impl Token {
    fn copy(lab: &Lab) -> Self {
        let tokens = std::fs::read_dir(lab.dir.join("token/tokens")).unwrap();
        let file = tokens.map(|entry| entry.unwrap().path().join("token.object")).next().unwrap();
        Self { whole: std::fs::read(&file).unwrap(), file }
    }

    /// Puts the file back if it is cut short. Called while no issuer runs: the next one starts 100 ms later at the
    /// earliest, and finds the token at its next look if it was faster.
    fn put_back(&self) -> bool {
        let cut = std::fs::metadata(&self.file).unwrap().len() < self.whole.len() as u64;
        if cut {
            std::fs::write(&self.file, &self.whole).unwrap();
        }
        cut
    }
}

const READY_AGAIN: Duration = Duration::from_secs(30);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// An order's end: its chain if it is or becomes valid, `None` if its client never asked for a certificate. An
/// order that is being made into a certificate must come to an end.
async fn end(client: &mut Client, url: &str) -> Option<String> {
    let mut last = String::new();
    for _ in 0..100 {
        match client.fetch(url).await {
            Ok(order) if order["status"] == "valid" => {
                match client.download(order["certificate"].as_str().unwrap()).await {
                    Ok(chain) => return Some(chain),
                    Err(failure) => last = format!("{failure:?}"),
                }
            }
            Ok(order) if order["status"] == "pending" || order["status"] == "ready" => return None,
            Ok(order) if order["status"] == "processing" => last = order.to_string(),
            Ok(order) => panic!("{url}: {order}"),
            Err(Failure::Problem { status, body, .. }) if !status.is_server_error() => {
                panic!("an order that was created is not there: {url}: {status}: {body}")
            }
            Err(failure) => last = format!("{failure:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} comes to no end: {last}")
}

/// Orders until told to stop, whatever breaks on the way.
async fn load(mut client: Client, number: usize, stop: Arc<AtomicBool>) -> Witness {
    let (mut issued, mut revoked) = (Vec::new(), Vec::new());
    let mut serial = 0;
    while !stop.load(Ordering::Relaxed) {
        serial += 1;
        let name = format!("d{serial}-{number}.crash.test");
        let step = async {
            if client.account.is_none() {
                client.register().await?;
            }
            client.order(&[&name]).await
        };
        match tokio::time::timeout(Duration::from_secs(15), step).await {
            Ok(Ok(order)) => {
                // Every second certificate is given up at once.
                if serial % 2 == 0 {
                    let leaf = blocks(&order.chain).next().unwrap();
                    let leaf = Certificate::parse_pem(&format!("{leaf}\n")).unwrap();
                    if revoke(&mut client, &leaf, &stop).await {
                        revoked.push(leaf);
                    }
                }
                issued.push((order.order_url, order.chain));
            }
            Ok(Err(Failure::Protocol(why))) => panic!("{name}: {why}"),
            Ok(Err(Failure::Problem { status, body, .. })) if !status.is_server_error() => {
                panic!("{name}: {status}: {body}")
            }
            // Away or restarting, which is what this test is about.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Witness { client, issued, revoked }
}

/// Revokes until it is answered that it is done; gives up when told to stop.
async fn revoke(client: &mut Client, certificate: &Certificate, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let asked = client.revoke(certificate.der(), 4);
        match tokio::time::timeout(Duration::from_secs(15), asked).await {
            Ok(Ok((200, _))) => return true,
            Ok(Err(Failure::Problem { status, body, .. })) if !status.is_server_error() => {
                // It was, and the answer was lost; or the hour's are spent.
                let kind = body["type"].as_str().unwrap_or_default();
                let known = kind.ends_with(":alreadyRevoked") || kind.ends_with(":rateLimited");
                assert!(known, "{status}: {body}");
                return kind.ends_with(":alreadyRevoked");
            }
            Ok(Ok(answer)) => panic!("{answer:?}"),
            Ok(Err(Failure::Protocol(why))) => panic!("{why}"),
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    false
}

/// The PEM certificate blocks of a text.
fn blocks(pem: &str) -> impl Iterator<Item = &str> {
    let mut rest = pem;
    std::iter::from_fn(move || {
        let start = rest.find("-----BEGIN CERTIFICATE-----")?;
        let end = start + rest[start..].find("-----END CERTIFICATE-----")? + 25;
        let block = &rest[start..end];
        rest = &rest[end..];
        Some(block)
    })
}
