//! `make bench`: whole ACME orders per second, newOrder to download with http-01, against a box
//! with its keys in SoftHSM2, and beside it in the same run Pebble, Caddy's CA, the token's raw rate, and
//! the sum of the cryptography that cannot be avoided.
//!
//! Figures are of this run on this machine: compare them with each other, not with other runs.

#![allow(unreachable_pub, reason = "a program of its own")]

#[path = "../support/client.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod client;
mod crypto;
#[path = "../support/lab.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod lab;
mod machine;
mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Responder};

/// A CA under load.
pub struct Target {
    pub name: &'static str,
    pub server: SocketAddr,
    pub directory_path: &'static str,
    /// Every process of it: role and pid.
    pub processes: Vec<(String, u32)>,
}

/// One row of the table.
struct Row {
    clients: usize,
    orders: usize,
    failures: u64,
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu_per_order: Duration,
    /// The same, process by process.
    cpu_by_process: Vec<(String, Duration)>,
    requests_per_order: f64,
    /// Resident and proportional.
    memory_kib: (u64, u64),
}

struct Options {
    clients: Vec<usize>,
    seconds: u64,
    peers: bool,
}

#[allow(clippy::unwrap_used)]
fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|argument| argument == crypto::RAW) {
        return crypto::raw(arguments.next().unwrap_or_default().as_ref());
    }
    let options = options();
    let state = machine::state_directory();
    machine::print_disk(&state);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let responder = Responder::start(0).await.unwrap();
        let lab = lab::Lab::start_in(
            &state,
            lab::Options { http_port: responder.address.port(), ..lab::Options::default() },
        );
        let target = Target {
            name: "chancery",
            server: lab.acme,
            directory_path: "/acme/directory",
            processes: lab.processes(),
        };
        let unavoidable = crypto::measure(&lab);
        run(&target, &responder, &options).await;
        crypto::print(&unavoidable);
        if options.peers {
            match peer::Pebble::start(&state, responder.address.port(), lab.dns) {
                Ok(pebble) => run(&pebble.target(), &responder, &options).await,
                Err(why) => println!("\npebble: not run: {why}"),
            }
            match peer::Caddy::start(&state).await {
                Ok((caddy, responder)) => run(&caddy.target(), &responder, &options).await,
                Err(why) => println!("\ncaddy: not run: {why}"),
            }
        }
    });
}

/// `--clients 1,4,16,64 --seconds 8 --no-peers`; what cargo itself passes is ignored.
fn options() -> Options {
    let mut options = Options { clients: vec![1, 4, 16, 64], seconds: 8, peers: true };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--clients" => {
                options.clients = value().split(',').filter_map(|n| n.parse().ok()).collect();
            }
            "--seconds" => options.seconds = value().parse().unwrap_or(8),
            "--no-peers" => options.peers = false,
            _ => {}
        }
    }
    options
}

async fn run(target: &Target, responder: &Responder, options: &Options) {
    println!(
        "\n{}: {} processes: {}",
        target.name,
        target.processes.len(),
        target
            .processes
            .iter()
            .map(|(role, pid)| format!("{role} {pid}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    println!(
        "{:>8} {:>8} {:>9} {:>9} {:>9} {:>12} {:>9} {:>8} {:>8} {:>7}",
        "clients",
        "orders",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "CPU ms/cert",
        "requests",
        "RSS MiB",
        "PSS MiB",
        "failed"
    );
    let mut shares = Vec::new();
    for clients in &options.clients {
        let row = measure(target, responder, *clients, Duration::from_secs(options.seconds)).await;
        println!(
            "{:>8} {:>8} {:>9.1} {:>9.2} {:>9.2} {:>12.2} {:>9.1} {:>8.1} {:>8.1} {:>7}",
            row.clients,
            row.orders,
            row.rate,
            milliseconds(row.p50),
            milliseconds(row.p99),
            milliseconds(row.cpu_per_order),
            row.requests_per_order,
            row.memory_kib.0 as f64 / 1024.0,
            row.memory_kib.1 as f64 / 1024.0,
            row.failures
        );
        shares.push(row.cpu_by_process);
    }
    if target.processes.len() > 1 {
        for (clients, share) in options.clients.iter().zip(shares) {
            let share: Vec<String> = share
                .iter()
                .map(|(role, time)| format!("{role} {:.2}", milliseconds(*time)))
                .collect();
            println!("CPU ms/cert at {clients} clients: {}", share.join(", "));
        }
    }
}

/// Runs `clients` at once for `duration` after each has done one order unmeasured. Bounded: a
/// client that does not come back within 30 s of the end counts as failed.
async fn measure(
    target: &Target,
    responder: &Responder,
    clients: usize,
    duration: Duration,
) -> Row {
    let failures = Arc::new(AtomicU64::new(0));
    let ready = Arc::new(tokio::sync::Barrier::new(clients + 1));
    let mut tasks = Vec::new();
    for number in 0..clients {
        let mut client =
            Client::new(target.server, "localhost", target.directory_path, responder.clone());
        let (ready, failures) = (Arc::clone(&ready), Arc::clone(&failures));
        tasks.push(tokio::spawn(async move {
            let warm = async {
                client.register().await?;
                client.order(&[&format!("warm-{number}.bench.test")]).await
            };
            if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(20), warm).await {
                eprintln!("client {number}: warm-up: {error:?}");
            }
            ready.wait().await;
            let began = now();
            let (mut times, mut requests, mut serial) = (Vec::new(), 0, 0u32);
            while began.elapsed() < duration {
                serial += 1;
                let name = format!("d{serial}-{number}.bench.test");
                let start = now();
                let names = [name.as_str()];
                let order = tokio::time::timeout(Duration::from_secs(20), client.order(&names));
                match order.await {
                    Ok(Ok(issued)) => {
                        requests += issued.requests;
                        times.push(start.elapsed());
                    }
                    Ok(Err(error)) => {
                        if failures.fetch_add(1, Ordering::Relaxed) < 3 {
                            eprintln!("client {number}: {error:?}");
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(_) => {
                        failures.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
            (times, requests)
        }));
    }
    ready.wait().await;
    let (began, cpu) = (now(), machine::cpu(&target.processes));
    let each = |(role, pid): &(String, u32)| (role.clone(), machine::cpu(&[(role.clone(), *pid)]));
    let before: Vec<_> = target.processes.iter().map(each).collect();
    let (mut times, mut requests) = (Vec::new(), 0);
    for task in tasks {
        if let Ok((mut of_one, sent)) = task.await {
            times.append(&mut of_one);
            requests += sent;
        }
    }
    let (elapsed, cpu) = (began.elapsed(), machine::cpu(&target.processes).saturating_sub(cpu));
    times.sort_unstable();
    let at = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    };
    let orders = times.len().max(1);
    let cpu_by_process = target
        .processes
        .iter()
        .map(each)
        .zip(before)
        .map(|((role, after), (_, before))| (role, after.saturating_sub(before) / orders as u32))
        .collect();
    Row {
        clients,
        orders: times.len(),
        failures: failures.load(Ordering::Relaxed),
        rate: times.len() as f64 / elapsed.as_secs_f64(),
        p50: at(0.50),
        p99: at(0.99),
        cpu_per_order: cpu / orders as u32,
        cpu_by_process,
        requests_per_order: f64::from(requests) / orders as f64,
        memory_kib: machine::memory_kib(&target.processes),
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}
