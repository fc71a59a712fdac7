//! Validation against hostile peers, over real sockets: servers that redirect in circles, trickle, never end or show
//! the wrong certificate, names that point elsewhere at second sight, and dnsmasq with chains and floods. Each attempt
//! ends in time, dials nothing forbidden, and says nothing in its problem that the client did not say first.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dns01;
mod http01;
#[path = "../support/tls_alpn.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod tls_alpn;
mod tls_alpn01;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chancery::acme::challenge::{ChallengeType, dns};
use chancery::acme::jws::Thumbprint;
use chancery::acme::problem::{Problem, ProblemType};
use chancery::env::simulated::SimulatedResolver;
use chancery::env::system::{Resolving, SystemDialer, SystemResolver, ZoneServers};
use chancery::env::{BoxFuture, Resolver};
use chancery::id::{AccountId, Timestamp};
use chancery::pki::name::Identifier;
use chancery::validate::{Asker, Attempt, Observation, Settings, Validator};
use tls_alpn::{ACME_IDENTIFIER, ACME_TLS, Answer, acme_identifier, certified, san};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

const KEY_AUTHORIZATION: &str = "token.thumbprint";
/// Of the whole attempt, in these tests.
const LIMIT: Duration = Duration::from_secs(2);
/// An address of loopback that plays the network nobody may reach, and what is served there.
const FORBIDDEN: &str = "127.0.66.1";
const SECRET: &str = "secret-of-the-hsm-network";

fn settings() -> Settings {
    Settings {
        allow_loopback: true,
        deny_networks: vec!["127.0.66.0/24".to_owned()],
        redirect_ports: Vec::new(),
        connect_timeout_seconds: 1,
        total_timeout_seconds: LIMIT.as_secs(),
        ..Settings::default()
    }
}

fn attempt(kind: ChallengeType, identifier: (&str, &str)) -> Attempt {
    let identifier = Identifier::parse(identifier.0, identifier.1).unwrap();
    Attempt {
        kind,
        identifier: identifier.base(),
        wildcard: identifier.is_wildcard(),
        subdomains: false,
        token: "token".to_owned(),
        key_authorization: KEY_AUTHORIZATION.to_owned(),
        asker: Asker {
            id: AccountId([7; 16]),
            url: "https://ca.test/acme/acct/7".to_owned(),
            thumbprints: vec![Thumbprint([1; 32])],
            hash_prefix: "https://ca.test/acme/account-hash/".to_owned(),
        },
        now: Timestamp(1_795_305_599_000),
    }
}

/// A resolver that gives `a.test` these addresses, one list after another.
fn pointing(answers: &[&[&str]]) -> Arc<SimulatedResolver> {
    let resolver = SimulatedResolver::new();
    for addresses in answers {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        resolver.answer("a.test", Ok(addresses));
    }
    Arc::new(resolver)
}

fn validator(settings: Settings, resolver: Arc<dyn Resolver>) -> Validator {
    Validator::new(settings, resolver, Arc::new(SystemDialer)).unwrap()
}

/// Attempts, and holds every attempt to what holds for all: it ends in time, and its problem says nothing of
/// what was read or of where else a name led.
async fn observe(validator: &Validator, attempt: Attempt) -> Observation {
    let begun = Instant::now();
    let observed = validator.attempt(attempt).await;
    assert!(begun.elapsed() < LIMIT + Duration::from_secs(2), "{:?}", begun.elapsed());
    if let Observation::Failed(problem) = &observed {
        let said = problem.to_json();
        for leak in [SECRET, FORBIDDEN, "127.0.66", KEY_AUTHORIZATION, "thumbprint"] {
            assert!(!said.contains(leak), "{leak} is in {said}");
        }
    }
    observed
}

fn failed(observation: Observation) -> Problem {
    match observation {
        Observation::Failed(problem) => problem,
        Observation::Matched { from, .. } => panic!("matched from {from:?}"),
    }
}

/// A TCP server at a free port of `host`; `behave` has each connection, and a count of them is kept.
async fn serve<F>(host: &str, behave: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(behave(stream));
        }
    });
    (address, count)
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
