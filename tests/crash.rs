//! A box under load whose processes are killed without warning, many times. Afterwards: every
//! certificate that was downloaded is in the log, every order that was promised (201) is there, and
//! the log verifies. `CHANCERY_KILLS` says how often each process is killed (default: a few).

#[path = "support/client.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod client;
#[path = "support/lab.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod lab;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Client, Failure, Responder};
use lab::{Lab, Options};

/// What one client saw and will ask for again.
struct Witness {
    client: Client,
    /// PEM chains as downloaded, with the order's URL.
    issued: Vec<(String, String)>,
}

#[test]
#[allow(clippy::unwrap_used)]
fn killed_at_any_moment_nothing_released_is_lost() {
    let kills: usize =
        std::env::var("CHANCERY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let dir = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let responder = runtime.block_on(Responder::start(0)).unwrap();
    let options = Options { http_port: responder.address.port(), ..Options::default() };
    let mut lab = Lab::start_in(dir.path(), options);

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let client = Client::new(lab.acme, "localhost", "/acme/directory", responder.clone());
            runtime.spawn(load(client, number, Arc::clone(&stop)))
        })
        .collect();

    let mut seed = 0x5eed_u64;
    for round in 0..kills {
        for role in ["issuer", "web", "serve"] {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            lab::pause(Duration::from_millis(30 + (seed >> 33) % 220));
            if role == "serve" {
                // The supervisor takes its children with it. Once in a while is enough: each costs a start.
                if round % 5 == 0 {
                    lab.kill_all();
                    lab.serve();
                }
                continue;
            }
            if let Some(pid) = lab.process(role) {
                lab::signal(pid, "KILL");
                lab.wait_gone(pid);
            }
            lab.wait_ready(Duration::from_secs(20));
        }
    }
    lab::pause(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let mut witnesses: Vec<Witness> =
        clients.into_iter().map(|client| runtime.block_on(client).unwrap()).collect();

    let issued: usize = witnesses.iter().map(|witness| witness.issued.len()).sum();
    let created: usize = witnesses.iter().map(|witness| witness.client.created.len()).sum();
    println!(
        "{kills} kills per process: {created} orders created, {issued} certificates downloaded"
    );
    assert!(issued >= kills.max(5), "hardly any load: {issued} certificates");

    for witness in &mut witnesses {
        for url in witness.client.created.clone() {
            let order = runtime.block_on(witness.client.fetch(&url));
            assert!(order.is_ok(), "an order that was created is not there: {url}: {order:?}");
        }
        for (url, chain) in &witness.issued {
            let order = runtime.block_on(witness.client.fetch(url)).unwrap();
            assert_eq!(order["status"], "valid", "{order}");
            let certificate = order["certificate"].as_str().unwrap();
            let again = runtime.block_on(witness.client.download(certificate)).unwrap();
            assert_eq!(&again, chain, "the certificate of {url} changed");
        }
    }
    lab.stop();
    let exported = lab::succeed(lab.chancery().args(["log", "export", "--format", "pem"]));
    let logged: BTreeSet<&str> = blocks(&exported).collect();
    for (url, chain) in witnesses.iter().flat_map(|witness| &witness.issued) {
        let leaf = blocks(chain).next().unwrap();
        assert!(logged.contains(leaf), "{url}: a downloaded certificate is not in the log");
    }
    println!("{}", lab::succeed(lab.chancery().args(["log", "verify"])));
}

/// Orders until told to stop, whatever breaks on the way.
async fn load(mut client: Client, number: usize, stop: Arc<AtomicBool>) -> Witness {
    let mut issued = Vec::new();
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
            Ok(Ok(order)) => issued.push((order.order_url, order.chain)),
            Ok(Err(Failure::Protocol(why))) => panic!("{name}: {why}"),
            Ok(Err(Failure::Problem { status, body, .. })) if !status.is_server_error() => {
                panic!("{name}: {status}: {body}")
            }
            // Away or restarting, which is what this test is about.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Witness { client, issued }
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
