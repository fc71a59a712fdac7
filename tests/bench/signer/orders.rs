//! Whole orders against a token of 70 ms a signature.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::client::{Client, Failure, Responder};
use super::slow::{Signed, Slow};
use super::{Options, milliseconds, now};

const MILLIS: u32 = 70;

#[derive(Default)]
struct Troubles {
    unavailable: AtomicU64,
    connections: AtomicU64,
    /// Anything else: there must be none.
    other: AtomicU64,
}

pub fn print(options: &Options) {
    println!(
        "\ntoken of {MILLIS} ms a signature, one at a time: {:.1}/s",
        1000.0 / f64::from(MILLIS)
    );
    println!(
        "| TLS key | load | clients | certificates/s | checkpoints | handshakes | of what handshakes leave | p50 ms | p99 ms | 503 | connections lost | other |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for tls_key in ["memory", "token"] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let responder = Responder::start(0).await.unwrap();
            let slow = Slow::start(dir.path(), responder.address.port(), MILLIS, tls_key);
            let during = Duration::from_secs_f64((options.seconds * 5.0).clamp(5.0, 60.0));
            for (load, clients, pause) in [("half", 14, 2.0), ("full", 64, 0.0)] {
                let pause = Duration::from_secs_f64(pause);
                row(&slow, &responder, tls_key, load, clients, pause, during).await;
            }
        });
    }
}

/// Each client orders once every `pause`, or as fast as it is served; with the key on the token over a new
/// connection each time.
async fn row(
    slow: &Slow,
    responder: &Responder,
    tls_key: &'static str,
    load: &str,
    clients: u32,
    pause: Duration,
    during: Duration,
) {
    let troubles = Arc::new(Troubles::default());
    let barrier = Arc::new(tokio::sync::Barrier::new(clients as usize + 1));
    let mut tasks = Vec::new();
    for number in 0..clients {
        let (troubles, barrier) = (Arc::clone(&troubles), Arc::clone(&barrier));
        let mut client =
            Client::new(slow.lab.acme, "localhost", "/acme/directory", responder.clone());
        client.poll = Duration::from_millis(200);
        let load = load.to_owned();
        tasks.push(tokio::spawn(async move {
            while let Err(failure) = client.register().await {
                troubles.met(&failure).await;
            }
            barrier.wait().await;
            let begun = now();
            tokio::time::sleep(pause * number / clients).await;
            let (mut times, mut serial) = (Vec::new(), 0u32);
            while begun.elapsed() < during {
                serial += 1;
                if tls_key == "token" {
                    client.forget_connection();
                }
                let name = format!("{load}{serial}-{number}.slow.test");
                let start = now();
                match client.order(&[&name]).await {
                    Ok(_) => times.push(start.elapsed()),
                    Err(failure) => troubles.met(&failure).await,
                }
                tokio::time::sleep(pause.saturating_sub(start.elapsed())).await;
            }
            times
        }));
    }
    barrier.wait().await;
    // What registering left behind is done by then, and the queues are as full as they get.
    tokio::time::sleep(during / 5).await;
    let (start, before) = (now(), slow.signed());
    tokio::time::sleep(during * 3 / 5).await;
    let (elapsed, signed) = (start.elapsed(), slow.signed().since(before));
    let mut times: Vec<Duration> = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let Signed { certificates, checkpoints, handshakes } = signed;
    let room = elapsed.as_secs_f64() * 1000.0 / f64::from(MILLIS) - handshakes as f64;
    println!(
        "| {tls_key} | {load} | {clients} | {:.1} | {checkpoints} | {handshakes} | {:.0} % | {:.0} | {:.0} | {} | {} | {} |",
        certificates as f64 / elapsed.as_secs_f64(),
        certificates as f64 / room * 100.0,
        milliseconds(at(0.5)),
        milliseconds(at(0.99)),
        troubles.unavailable.load(Ordering::Relaxed),
        troubles.connections.load(Ordering::Relaxed),
        troubles.other.load(Ordering::Relaxed),
    );
}

impl Troubles {
    async fn met(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Connection(_) => &self.connections,
            Failure::Problem { status, retry_after: Some(_), .. } if *status == 503 => {
                &self.unavailable
            }
            other => {
                eprintln!("{other:?}");
                &self.other
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
