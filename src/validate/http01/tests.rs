use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::acme::challenge::ChallengeType;
use crate::env::net::ResolveError;
use crate::env::simulated::{SimulatedDialer, SimulatedResolver};
use crate::env::system::{Resolving, SystemDialer, SystemResolver, ZoneServers};
use crate::validate::tests::attempt;
use crate::validate::{Observation, Settings};

const KEY_AUTHORIZATION: &str = "token.thumbprint";

/// A validator on a network of its own.
struct World {
    resolver: Arc<SimulatedResolver>,
    dialer: Arc<SimulatedDialer>,
    validator: Validator,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let (resolver, dialer) =
            (Arc::<SimulatedResolver>::default(), Arc::<SimulatedDialer>::default());
        let validator = Validator::new(settings, resolver.clone(), dialer.clone()).unwrap();
        Self { resolver, dialer, validator }
    }

    fn name(&self, name: &str, addresses: &[&str]) -> &Self {
        self.resolver.answer(name, Ok(addresses.iter().map(|a| a.parse().unwrap()).collect()));
        self
    }

    fn serve(&self, address: &str, response: impl Into<Vec<u8>>) -> &Self {
        let response = response.into();
        self.dialer.listen_http(address.parse().unwrap(), move |_| response.clone());
        self
    }

    async fn look(&self) -> Observation {
        self.look_for("dns", "a.lan").await
    }

    async fn look_for(&self, kind: &str, value: &str) -> Observation {
        self.validator.attempt(attempt(ChallengeType::Http01, (kind, value))).await
    }

    fn dialled(&self) -> Vec<String> {
        self.dialer.dialled().iter().map(SocketAddr::to_string).collect()
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

fn matched(from: &str) -> Observation {
    Observation::Matched { from: Some(from.parse().unwrap()), until: None }
}

fn failure(observation: Observation) -> (ProblemType, String) {
    match observation {
        Observation::Failed(problem) => (problem.kind, problem.detail),
        Observation::Matched { from, .. } => panic!("matched from {from:?}"),
    }
}

#[tokio::test]
async fn the_right_content_matches() {
    for body in [KEY_AUTHORIZATION.to_owned(), format!("{KEY_AUTHORIZATION} \r\n\t\n")] {
        let world = World::new();
        world.name("a.lan", &["10.0.0.1"]).serve("10.0.0.1:80", ok(&body));
        assert_eq!(world.look().await, matched("10.0.0.1"));
    }
}

#[tokio::test]
async fn the_request_is_what_the_rfc_says() {
    let world = World::with(|s| s.http_port = 5002);
    world.name("a.lan", &["fd00::1"]);
    world.dialer.listen_http("[fd00::1]:5002".parse().unwrap(), |head| {
        let lower = head.to_ascii_lowercase();
        let right = head.starts_with("GET /.well-known/acme-challenge/token HTTP/1.1\r\n")
            && (lower.contains("\r\nhost: a.lan:5002\r\n")
                || lower.contains("\r\nhost: [fd00::1]:5002\r\n"))
            && lower.contains("\r\naccept-encoding: identity\r\n");
        ok(if right { KEY_AUTHORIZATION } else { "wrong" }).into_bytes()
    });
    assert_eq!(world.look().await, matched("fd00::1"));
    assert_eq!(world.look_for("ip", "fd00::1").await, matched("fd00::1"));
    // An address is not asked of DNS.
    assert_eq!(world.resolver.asked(), ["a.lan"]);
}

#[tokio::test]
async fn wrong_content_is_not_repeated() {
    for response in [
        ok("secret-of-another-host"),
        ok(""),
        ok(&format!(" {KEY_AUTHORIZATION}")),
        ok(&format!("{KEY_AUTHORIZATION}x")),
        ok(&KEY_AUTHORIZATION[..5]),
        "HTTP/1.1 404 secret-of-another-host\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "secret-of-another-host\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000)),
    ] {
        let world = World::new();
        world.name("a.lan", &["10.0.0.1"]).serve("10.0.0.1:80", response.clone());
        let (kind, detail) = failure(world.look().await);
        assert_eq!(kind, ProblemType::IncorrectResponse, "{response} {detail}");
        assert!(!detail.contains("secret") && !detail.contains("thumbprint"), "{detail}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let world = World::new();
    world.name("a.lan", &["10.0.0.1"]);
    world.dialer.listen("10.0.0.1:80".parse().unwrap(), |mut stream| {
        Box::pin(async move {
            let mut head = [0; 64];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 512]).await.is_ok() {}
        })
    });
    let (kind, detail) = failure(world.look().await);
    assert_eq!(kind, ProblemType::IncorrectResponse);
    assert!(detail.contains("longer"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_given_up_after_the_total_timeout() {
    let world = World::with(|s| s.total_timeout_seconds = 7);
    world.name("a.lan", &["10.0.0.1"]);
    world.dialer.listen("10.0.0.1:80".parse().unwrap(), |mut stream| {
        Box::pin(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    });
    let start = tokio::time::Instant::now();
    let (kind, detail) = failure(world.look().await);
    assert_eq!(kind, ProblemType::Connection);
    assert!(detail.contains("7 seconds"), "{detail}");
    assert_eq!(start.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn ipv6_is_tried_first_and_ipv4_after() {
    let world = World::new();
    world.name("a.lan", &["10.0.0.1", "fd00::1"]).serve("10.0.0.1:80", ok(KEY_AUTHORIZATION));
    assert_eq!(world.look().await, matched("10.0.0.1"));
    assert_eq!(world.dialled(), ["[fd00::1]:80", "10.0.0.1:80"]);
    // Silence costs the time of one connection, not the attempt.
    world.dialer.silent("[fd00::1]:80".parse().unwrap());
    let start = tokio::time::Instant::now();
    assert_eq!(world.look().await, matched("10.0.0.1"));
    assert_eq!(start.elapsed().as_secs(), 3);
    // Where IPv6 answers, wrongly or rightly, IPv4 is not asked.
    world.serve("[fd00::1]:80", ok("wrong"));
    assert_eq!(failure(world.look().await).0, ProblemType::IncorrectResponse);
}

#[tokio::test]
async fn a_host_of_many_addresses_is_not_dialled_at_all_of_them() {
    let world = World::new();
    world.name("a.lan", &["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "fd00::3"]);
    let (kind, detail) = failure(world.look().await);
    assert_eq!(kind, ProblemType::Connection);
    assert!(detail.contains("a.lan at 10.0.0.2 port 80") && detail.contains("refused"), "{detail}");
    let dialled = ["[fd00::1]:80", "[fd00::2]:80", "10.0.0.1:80", "10.0.0.2:80"];
    assert_eq!(world.dialled(), dialled);
}

#[tokio::test]
async fn forbidden_addresses_are_never_dialled_nor_told() {
    for address in ["127.0.0.1", "::1", "169.254.169.254", "8.8.8.8", "::ffff:10.0.0.1", "0.0.0.0"]
    {
        let world = World::new();
        world.name("a.lan", &[address]);
        let (kind, detail) = failure(world.look().await);
        assert_eq!(kind, ProblemType::RejectedIdentifier, "{address}");
        assert!(!detail.contains(address) && detail.contains("a.lan"), "{detail}");
        assert!(world.dialled().is_empty(), "{address}");
    }
    // Among others they are passed over.
    let world = World::new();
    world.name("a.lan", &["::1", "10.0.0.1"]).serve("10.0.0.1:80", ok(KEY_AUTHORIZATION));
    assert_eq!(world.look().await, matched("10.0.0.1"));
    assert_eq!(world.dialled(), ["10.0.0.1:80"]);
    // An address asked for by itself is judged alike.
    let (kind, _) = failure(world.look_for("ip", "127.0.0.1").await);
    assert_eq!(kind, ProblemType::RejectedIdentifier);
}

#[tokio::test]
async fn a_name_is_looked_up_once_per_hop_and_the_vetted_address_is_dialled() {
    let world = World::new();
    // The first answer is harmless, every later one is not: a look-up between vetting and dialling
    // would show in what is dialled.
    world.name("a.lan", &["10.0.0.1"]).name("a.lan", &["127.0.0.1"]);
    world.serve("10.0.0.1:80", ok(KEY_AUTHORIZATION)).serve("127.0.0.1:80", ok(KEY_AUTHORIZATION));
    assert_eq!(world.look().await, matched("10.0.0.1"));
    assert_eq!(world.resolver.asked(), ["a.lan"]);
    // And a redirect to the same name is vetted again.
    let world = World::new();
    world.name("a.lan", &["10.0.0.1"]).name("a.lan", &["127.0.0.1"]);
    world.serve("10.0.0.1:80", redirect("/again")).serve("127.0.0.1:80", ok(KEY_AUTHORIZATION));
    assert_eq!(failure(world.look().await).0, ProblemType::Unauthorized);
    assert_eq!(world.dialled(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn redirects_are_followed_to_where_they_may_lead() {
    let world = World::with(|s| s.redirect_ports = vec![80, 443, 8080]);
    world.name("a.lan", &["10.0.0.1"]).name("b.lan", &["10.0.0.2"]);
    world.serve("10.0.0.1:80", redirect("http://b.lan:8080/x"));
    world.dialer.listen_http("10.0.0.2:8080".parse().unwrap(), |head| {
        let right = head.starts_with("GET /x HTTP/1.1\r\n")
            && head.to_ascii_lowercase().contains("\r\nhost: b.lan:8080\r\n");
        ok(if right { KEY_AUTHORIZATION } else { "wrong" }).into_bytes()
    });
    assert_eq!(world.look().await, matched("10.0.0.2"));
}

#[tokio::test]
async fn redirects_to_forbidden_places_are_refused_without_naming_them() {
    for (target, kind) in [
        ("http://127.0.0.1/", ProblemType::Unauthorized),
        ("http://[::1]/", ProblemType::Unauthorized),
        ("http://169.254.169.254/latest/meta-data", ProblemType::Unauthorized),
        ("http://secret.lan/", ProblemType::Unauthorized),
        ("http://10.0.0.2:22/", ProblemType::Unauthorized),
        ("http://10.0.0.2:8443/", ProblemType::Unauthorized),
        ("http://nowhere.lan/", ProblemType::Dns),
        ("http://10.0.0.9/", ProblemType::Connection),
        ("ftp://10.0.0.2/", ProblemType::IncorrectResponse),
        ("http://user@10.0.0.2/", ProblemType::IncorrectResponse),
        ("http://2130706433/", ProblemType::IncorrectResponse),
    ] {
        let world = World::new();
        world.name("a.lan", &["10.0.0.1"]).name("secret.lan", &["127.0.0.1"]);
        world.serve("10.0.0.1:80", redirect(target));
        for trap in
            ["127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "10.0.0.2:22", "10.0.0.2:8443"]
        {
            world.serve(trap, ok(KEY_AUTHORIZATION));
        }
        let (found, detail) = failure(world.look().await);
        assert_eq!(found, kind, "{target} {detail}");
        for part in ["secret", "nowhere", "127.0", "169.254", "10.0.0.2", "10.0.0.9", "meta"] {
            assert!(!detail.contains(part), "{target} {detail}");
        }
        let reached = world.dialled();
        assert!(reached.iter().all(|a| a == "10.0.0.1:80" || a == "10.0.0.9:80"), "{reached:?}");
    }
    // A redirect without a Location leads nowhere.
    let world = World::new();
    world.name("a.lan", &["10.0.0.1"]);
    world.serve("10.0.0.1:80", "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(failure(world.look().await).0, ProblemType::IncorrectResponse);
}

/// What a redirect leads to may be a host that the client has no way to: it learns nothing of it but that
/// the answer was wrong. Of its own host it is told what was wrong.
#[tokio::test]
async fn of_another_host_only_that_it_was_wrong_is_told() {
    let mut told = Vec::new();
    for response in [
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ok("an intranet page"),
        ok(&"long".repeat(10_000)),
    ] {
        let world = World::new();
        world.name("a.lan", &["10.0.0.1"]).name("b.lan", &["10.0.0.2"]);
        world.serve("10.0.0.1:80", redirect("http://b.lan/x")).serve("10.0.0.2:80", response);
        told.push(failure(world.look().await));
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    assert!(!told[0].1.contains("b.lan"), "{told:?}");
}

#[tokio::test]
async fn ten_redirects_are_followed_and_the_eleventh_is_not() {
    for (redirects, fine) in [(MOST_REDIRECTS, true), (MOST_REDIRECTS + 1, false)] {
        let world = World::new();
        world.name("a.lan", &["10.0.0.1"]);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        world.dialer.listen_http("10.0.0.1:80".parse().unwrap(), move |_| {
            if count.fetch_add(1, Ordering::SeqCst) < redirects {
                redirect("/again").into_bytes()
            } else {
                ok(KEY_AUTHORIZATION).into_bytes()
            }
        });
        let observation = world.look().await;
        assert_eq!(observation == matched("10.0.0.1"), fine, "{observation:?}");
        assert_eq!(asked.load(Ordering::SeqCst), MOST_REDIRECTS + 1);
    }
}

#[tokio::test]
async fn names_that_do_not_resolve_are_dns_problems() {
    let world = World::new();
    assert_eq!(failure(world.look().await).0, ProblemType::Dns);
    world.name("empty.lan", &[]);
    assert_eq!(failure(world.look_for("dns", "empty.lan").await).0, ProblemType::Dns);
    world.resolver.answer("slow.lan", Err(ResolveError::Timeout));
    assert_eq!(failure(world.look_for("dns", "slow.lan").await).0, ProblemType::Dns);
    world.resolver.answer("bad.lan", Err(ResolveError::Failed("192.168.7.53 refused".to_owned())));
    let (kind, detail) = failure(world.look_for("dns", "bad.lan").await);
    assert_eq!(kind, ProblemType::Dns);
    assert!(!detail.contains("192.168"), "{detail}");
}

#[tokio::test]
async fn a_wildcard_cannot_be_proven() {
    let world = World::new();
    assert_eq!(failure(world.look_for("dns", "*.lan").await).0, ProblemType::Unauthorized);
    assert!(world.resolver.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_for_one_another() {
    let world = Arc::new(World::with(|s| s.concurrency = 1));
    world.name("a.lan", &["10.0.0.1"]).name("b.lan", &["10.0.0.2"]);
    world.dialer.silent("10.0.0.1:80".parse().unwrap());
    world.serve("10.0.0.2:80", ok(KEY_AUTHORIZATION));
    let first = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.look().await }
    });
    tokio::task::yield_now().await;
    let start = tokio::time::Instant::now();
    assert_eq!(world.look_for("dns", "b.lan").await, matched("10.0.0.2"));
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(failure(first.await.unwrap()).0, ProblemType::Connection);
}

#[tokio::test]
async fn https_is_followed_whatever_the_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let private = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let world = World::new();
    world.name("a.lan", &["10.0.0.1"]);
    world.serve("10.0.0.1:80", redirect("https://a.lan/secure"));
    world.dialer.listen("10.0.0.1:443".parse().unwrap(), move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(octet) = stream.read_u8().await else { return };
                head.push(octet);
            }
            assert!(head.starts_with(b"GET /secure HTTP/1.1\r\n"));
            let _ = stream.write_all(ok(KEY_AUTHORIZATION).as_bytes()).await;
            let _ = stream.shutdown().await;
        })
    });
    assert_eq!(world.look().await, matched("10.0.0.1"));
    // Something that does not speak TLS.
    world.dialer.listen("10.0.0.1:443".parse().unwrap(), |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        })
    });
    assert_eq!(failure(world.look().await).0, ProblemType::Tls);
}

#[tokio::test]
async fn it_works_over_real_sockets() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(ok(KEY_AUTHORIZATION).as_bytes()).await;
        }
    });
    let mut settings = Settings { http_port: port, ..Settings::default() };
    let server = "127.0.0.1:9".parse().unwrap();
    let zone = ZoneServers { zone: ".".to_owned(), servers: vec![server], tcp: false };
    let zones = Resolving { zones: vec![zone], ..Resolving::default() };
    for allow_loopback in [true, false] {
        settings.allow_loopback = allow_loopback;
        let resolver = SystemResolver::new(&zones).unwrap();
        let validator =
            Validator::new(settings.clone(), Arc::new(resolver), Arc::new(SystemDialer)).unwrap();
        let observation =
            validator.attempt(attempt(ChallengeType::Http01, ("ip", "127.0.0.1"))).await;
        assert_eq!(observation == matched("127.0.0.1"), allow_loopback, "{observation:?}");
    }
}
