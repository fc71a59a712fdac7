//! A token that takes its time for each signature. Contents:
//!
//! - under load the token makes certificates, and few checkpoints over many of them
//! - with the TLS key on the token handshakes have their share; nothing fails but with 503 and Retry-After
//! - what nobody waits for costs no signature

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/client.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod client;
#[path = "support/faulty.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod faulty;
#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;
#[path = "support/slow.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod slow;
#[path = "support/token.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod token;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use chancery::hsm::pool::Settings;
use chancery::hsm::{Class, Request, SignError};
use chancery::pki::key::KeyKind;
use client::{Client, Failure, Responder};
use faulty::Faulty;
use slow::{Signed, Slow};

/// So many clients at once order so often each, and no connection fails; the signatures that took, and the box in `dir`.
fn load(
    dir: &tempfile::TempDir,
    millis: u32,
    tls_key: &str,
    clients: usize,
    orders: usize,
) -> (Signed, Slow) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let responder = Responder::start(0).await.unwrap();
        let slow = Slow::start(dir.path(), responder.address.port(), millis, tls_key);
        let tasks: Vec<_> = (0..clients)
            .map(|number| {
                let server = slow.lab.acme;
                let mut client =
                    Client::new(server, "localhost", "/acme/directory", responder.clone());
                client.poll = Duration::from_millis(50);
                tokio::spawn(async move {
                    while let Err(failure) = client.register().await {
                        later(failure).await;
                    }
                    for order in 0..orders {
                        let name = format!("d{number}-{order}.slow.test");
                        while let Err(failure) = client.order(&[&name]).await {
                            later(failure).await;
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        (slow.signed(), slow)
    })
}

/// What may go wrong under load: 503, and when to come back. A handshake waits its turn and does not fail.
async fn later(failure: Failure) {
    match failure {
        Failure::Connection(why) => panic!("a connection failed: {why}"),
        Failure::Problem { status, body, retry_after } => {
            assert_eq!(status, 503, "{body}");
            assert!(retry_after.is_some(), "no Retry-After: {body}");
        }
        Failure::Protocol(why) => panic!("{why}"),
    }
    // A test's patience, not a client's.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[test]
fn a_slow_token_spends_its_time_on_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (signed, slow) = load(&dir, 60, "memory", 24, 3);
    assert!(signed.certificates >= 72, "{signed:?}");
    assert!(signed.checkpoints * 4 <= signed.certificates, "{signed:?}");
    assert_eq!(signed.handshakes, 0);
    let ready = lab::get(slow.lab.http, "/readyz").unwrap();
    assert!(ready.contains("CHY-TLS-KEY-IN-MEMORY"), "{ready}");
    let metrics = lab::get(slow.lab.http, "/metrics").unwrap();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {metrics}"))
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    let took = |of: &str| {
        value(&format!("chancery_token_signature_duration_seconds_{of}{{key=\"issuing\"}}"))
    };
    // A few signatures are older than the delay.
    assert!(took("count") >= 72.0 && took("sum") >= 72.0 * 0.06);
    assert!(value("chancery_token_signatures_total{class=\"certificate\"}") >= 72.0);
}

#[test]
fn handshakes_on_a_slow_token_have_their_share() {
    let dir = tempfile::tempdir().unwrap();
    let (signed, _slow) = load(&dir, 60, "token", 16, 1);
    assert!(signed.handshakes >= 16 && signed.certificates >= 16, "{signed:?}");
}

#[test]
fn what_nobody_waits_for_costs_no_signature() {
    token::alone("what_nobody_waits_for_costs_no_signature", |token| {
        let faulty = Faulty::around(&token.settings.module, &token.dir);
        let settings =
            Settings { module: faulty.module.clone(), threads: 1, ..token.settings.clone() };
        let token = token::Token { settings, pin: token.pin.clone(), dir: token.dir.clone() };
        let pool = token.start(vec![token.key("issuing", KeyKind::EcP256)]);
        pool.wait_ready(token::SOON);
        faulty.rules("on C_Sign id signed do sleep 100");
        let key = pool.key("issuing").unwrap();
        let (tell, told) = mpsc::channel();
        let ask = |n: u8, request: Request| {
            let tell = tell.clone();
            let then = Box::new(move |outcome: Result<Vec<u8>, SignError>| {
                tell.send((n, outcome.is_ok())).unwrap();
            });
            key.request(request, then);
        };
        let asker = Arc::new(());
        ask(0, Request::new(Class::Tls, vec![1]));
        for n in 1..9 {
            ask(n, Request::new(Class::Tls, vec![2]).wanted_by(&asker));
        }
        drop(asker);
        ask(9, Request::new(Class::Tls, vec![3]));
        let mut answers: Vec<(u8, bool)> = (0..10).map(|_| told.recv().unwrap()).collect();
        answers.sort_unstable();
        let signed = |n: u8| n == 0 || n == 9;
        assert!(answers.into_iter().eq((0..10).map(|n| (n, signed(n)))));
        assert_eq!(faulty.fired("signed"), 2);
        assert_eq!(pool.figures().signed(), 2);
    });
}
