//! Validation against hostile peers, over real sockets: servers that redirect in circles, trickle, never end or show
//! the wrong certificate, names that point elsewhere at second sight, and dnsmasq with chains and floods. Each attempt
//! ends in time, dials nothing forbidden, and says nothing in its problem that the client did not say first.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/tls_alpn.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod tls_alpn;

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

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An HTTP server that answers each head with what `respond` makes of it.
async fn http<F>(host: &str, respond: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(&str) -> Vec<u8> + Send + Sync + 'static,
{
    let respond = Arc::new(respond);
    serve(host, move |mut stream| {
        let respond = respond.clone();
        Box::pin(async move {
            let head = read_head(&mut stream).await;
            let _ = stream.write_all(&respond(&head)).await;
            let _ = stream.shutdown().await;
        })
    })
    .await
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// What http-01 makes of a server for `a.test`.
async fn http_01(server: SocketAddr, change: impl FnOnce(&mut Settings)) -> Observation {
    let mut settings = Settings { http_port: server.port(), ..settings() };
    change(&mut settings);
    let host = server.ip().to_string();
    let validator = validator(settings, pointing(&[&[host.as_str()]]));
    observe(&validator, attempt(ChallengeType::Http01, ("dns", "a.test"))).await
}

#[tokio::test]
async fn an_honest_server_is_believed_by_name_and_by_address_of_both_families() {
    for (host, identifier) in [
        ("127.0.0.1", ("dns", "a.test")),
        ("127.0.0.1", ("ip", "127.0.0.1")),
        ("::1", ("ip", "::1")),
    ] {
        let (server, _) = http(host, |head| {
            let host =
                head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
            let right = head.starts_with("GET /.well-known/acme-challenge/token ")
                && (host.starts_with("a.test:")
                    || host.starts_with("127.0.0.1:")
                    || host.starts_with("[::1]:"));
            ok(if right { KEY_AUTHORIZATION } else { "wrong" })
        })
        .await;
        let settings = Settings { http_port: server.port(), ..settings() };
        let validator = validator(settings, pointing(&[&["127.0.0.1"]]));
        let observed = observe(&validator, attempt(ChallengeType::Http01, identifier)).await;
        assert_eq!(
            observed,
            Observation::Matched { from: Some(host.parse().unwrap()), until: None }
        );
    }
}

#[tokio::test]
async fn redirects_in_circles_end() {
    let (server, count) = http("127.0.0.1", |_| redirect("/again")).await;
    let problem = failed(http_01(server, |_| ()).await);
    assert_eq!(problem.kind, ProblemType::IncorrectResponse);
    assert!(problem.detail.contains("more than 10 redirects"), "{}", problem.detail);
    assert_eq!(count.load(Ordering::SeqCst), 11);
}

#[tokio::test]
async fn redirects_reach_no_forbidden_network_however_it_is_spelt() {
    let (secret, dialled) = http(FORBIDDEN, |_| ok(SECRET)).await;
    let port = secret.port();
    for host in [
        FORBIDDEN.to_owned(),
        "a.test".to_owned(),
        format!("[::ffff:{FORBIDDEN}]"),
        format!("[64:ff9b::{FORBIDDEN}]"),
        "0.0.0.0".to_owned(),
        "[::]".to_owned(),
        "169.254.169.254".to_owned(),
        "2130722305".to_owned(),
        "0x7f004201".to_owned(),
        "127.66.1".to_owned(),
        format!("user@{FORBIDDEN}"),
    ] {
        let (server, _) =
            http("127.0.0.1", move |_| redirect(&format!("http://{host}:{port}/x"))).await;
        let mut settings = Settings { http_port: server.port(), ..settings() };
        settings.redirect_ports = vec![port];
        // The second time it is asked, the name itself leads to the forbidden network.
        let validator = validator(settings, pointing(&[&["127.0.0.1"], &[FORBIDDEN]]));
        let observed = observe(&validator, attempt(ChallengeType::Http01, ("dns", "a.test"))).await;
        failed(observed);
    }
    assert_eq!(dialled.load(Ordering::SeqCst), 0, "nothing of this reached the network");
}

#[tokio::test]
async fn redirects_reach_no_port_that_is_not_listed() {
    let (other, dialled) = http("127.0.0.1", |_| ok(KEY_AUTHORIZATION)).await;
    let to = format!("http://127.0.0.1:{}/", other.port());
    let (server, _) = http("127.0.0.1", move |_| redirect(&to)).await;
    let problem = failed(http_01(server, |_| ()).await);
    assert_eq!(problem.kind, ProblemType::Unauthorized);
    assert_eq!(dialled.load(Ordering::SeqCst), 0);
    // Listed, it may be the place where all challenges are answered.
    let observed = http_01(server, |s| s.redirect_ports = vec![other.port()]).await;
    assert!(matches!(observed, Observation::Matched { .. }), "{observed:?}");
}

/// A name that is harmless when it is judged and forbidden when it is dialled gains nothing: what was judged is dialled.
#[tokio::test]
async fn a_name_is_asked_once_and_the_address_that_was_judged_is_dialled() {
    let (_, dialled) = http(FORBIDDEN, |_| ok(SECRET)).await;
    let (server, _) = http("127.0.0.1", |_| ok(KEY_AUTHORIZATION)).await;
    let settings = Settings { http_port: server.port(), ..settings() };
    let resolver = pointing(&[&["127.0.0.1"], &[FORBIDDEN]]);
    let validator = validator(settings, resolver.clone());
    let first = observe(&validator, attempt(ChallengeType::Http01, ("dns", "a.test"))).await;
    assert!(matches!(first, Observation::Matched { .. }), "{first:?}");
    assert_eq!(resolver.asked(), ["a.test"]);
    // Rebound, it is judged anew and not dialled.
    let second = observe(&validator, attempt(ChallengeType::Http01, ("dns", "a.test"))).await;
    assert_eq!(failed(second).kind, ProblemType::RejectedIdentifier);
    assert_eq!(dialled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn bodies_that_never_end_are_cut() {
    for chunked in [false, true] {
        let (server, _) = serve("127.0.0.1", move |mut stream| {
            Box::pin(async move {
                read_head(&mut stream).await;
                let head: &[u8] = if chunked {
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\n\r\n"
                };
                let _ = stream.write_all(head).await;
                let piece: &[u8] = if chunked { b"8\r\nxxxxxxxx\r\n" } else { b"xxxxxxxx" };
                while stream.write_all(piece).await.is_ok() {}
            })
        })
        .await;
        let problem = failed(http_01(server, |_| ()).await);
        assert_eq!(problem.kind, ProblemType::IncorrectResponse);
        assert!(problem.detail.contains("longer than any key authorization"), "{}", problem.detail);
    }
}

#[tokio::test]
async fn heads_that_never_end_are_cut() {
    let (server, _) = serve("127.0.0.1", |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream.write_all(b"x-more: of the same, and more\r\n").await.is_ok() {}
        })
    })
    .await;
    assert_eq!(failed(http_01(server, |_| ()).await).kind, ProblemType::IncorrectResponse);
}

#[tokio::test]
async fn servers_that_trickle_or_say_nothing_run_out_of_time() {
    for talks in [true, false] {
        let (server, _) = serve("127.0.0.1", move |mut stream| {
            Box::pin(async move {
                read_head(&mut stream).await;
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n";
                while talks && stream.write_all(head).await.is_ok() {
                    for octet in KEY_AUTHORIZATION.as_bytes() {
                        sleep(Duration::from_millis(200)).await;
                        let _ = stream.write_all(&[*octet]).await;
                    }
                }
                sleep(Duration::from_secs(60)).await;
            })
        })
        .await;
        let problem = failed(http_01(server, |_| ()).await);
        assert_eq!(problem.kind, ProblemType::Connection);
        assert!(problem.detail.contains("within 2 seconds"), "{}", problem.detail);
    }
}

/// Nothing is ever expanded: a bomb is a few octets that are not the key authorization.
#[tokio::test]
async fn compressed_bodies_stay_compressed() {
    let (server, _) = http("127.0.0.1", |head| {
        assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
        let body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n";
        [head.as_bytes(), body].concat()
    })
    .await;
    assert_eq!(failed(http_01(server, |_| ()).await).kind, ProblemType::IncorrectResponse);
}

#[tokio::test]
async fn what_a_server_says_is_not_repeated() {
    for response in [
        ok(SECRET),
        redirect(&format!("gopher://{SECRET}/")),
        format!("HTTP/1.1 500 {SECRET}\r\nX-Secret: {SECRET}\r\n\r\n{SECRET}").into_bytes(),
        format!("{SECRET}\r\n\r\n").into_bytes(),
        Vec::new(),
    ] {
        let (server, _) = http("127.0.0.1", move |_| response.clone()).await;
        failed(http_01(server, |_| ()).await);
    }
}

/// One account whose devices hang leaves room for another's.
#[tokio::test]
async fn an_account_that_hangs_does_not_starve_another() {
    let (silent, _) =
        serve("127.0.0.1", |_stream| Box::pin(async { sleep(Duration::from_secs(60)).await }))
            .await;
    let settings = Settings { http_port: silent.port(), concurrency: 2, ..settings() };
    let resolver = pointing(&[&["127.0.0.1"]]);
    resolver
        .answer_txt("_acme-challenge.b.test", Ok(vec![dns::txt_value(KEY_AUTHORIZATION).into()]));
    let validator = Arc::new(validator(settings, resolver));
    for _ in 0..20 {
        let validator = validator.clone();
        tokio::spawn(async move {
            validator.attempt(attempt(ChallengeType::Http01, ("dns", "a.test"))).await
        });
    }
    tokio::task::yield_now().await;
    let mut other = attempt(ChallengeType::Dns01, ("dns", "b.test"));
    other.asker.id = AccountId([8; 16]);
    let begun = Instant::now();
    let observed = observe(&validator, other).await;
    assert!(matches!(observed, Observation::Matched { .. }), "{observed:?}");
    assert!(begun.elapsed() < LIMIT / 2, "it waited for nobody");
}

async fn tls_alpn_01(server: SocketAddr, identifier: (&str, &str)) -> Observation {
    let settings = Settings { tls_port: server.port(), ..settings() };
    let host = server.ip().to_string();
    let validator = validator(settings, pointing(&[&[host.as_str()]]));
    observe(&validator, attempt(ChallengeType::TlsAlpn01, identifier)).await
}

#[tokio::test]
async fn certificates_of_every_usual_key_answer_in_both_versions_of_tls() {
    let keys = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = tls_alpn::Server::start("127.0.0.1", &[ACME_TLS], &[version]).await;
        for algorithm in keys {
            let right = Answer { algorithm, ..Answer::to("a.test", KEY_AUTHORIZATION) };
            server.show(right.certified());
            let observed = tls_alpn_01(server.address, ("dns", "a.test")).await;
            assert!(
                matches!(observed, Observation::Matched { .. }),
                "{version:?} {algorithm:?} {observed:?}"
            );
        }
    }
    let six = tls_alpn::Server::start("::1", &[ACME_TLS], rustls::ALL_VERSIONS).await;
    six.show(Answer::to("::1", KEY_AUTHORIZATION).certified());
    let observed = tls_alpn_01(six.address, ("ip", "::1")).await;
    assert!(matches!(observed, Observation::Matched { .. }), "{observed:?}");
    let zeros = "0.".repeat(31);
    assert_eq!(six.asked(), [format!("1.{zeros}ip6.arpa")]);
}

#[tokio::test]
async fn certificates_that_are_no_answer_are_refused() {
    let server = tls_alpn::Server::start("127.0.0.1", &[ACME_TLS], rustls::ALL_VERSIONS).await;
    let right = || Answer::to("a.test", KEY_AUTHORIZATION);
    let with = |oid: &[u64], authorization: &str, critical| {
        vec![acme_identifier(oid, authorization, critical)]
    };
    let wrong = [
        Answer { names: vec![san("a.test"), san("b.test")], ..right() },
        Answer { names: vec![san("a.test"), san("127.0.0.1")], ..right() },
        Answer { names: vec![san("b.test")], ..right() },
        Answer { names: vec![san("*.test")], ..right() },
        Answer { names: vec![], ..right() },
        Answer { extensions: vec![], ..right() },
        Answer { extensions: with(ACME_IDENTIFIER, "token.other", true), ..right() },
        Answer { extensions: with(ACME_IDENTIFIER, KEY_AUTHORIZATION, false), ..right() },
        Answer {
            extensions: with(&[1, 3, 6, 1, 5, 5, 7, 1, 30, 1], KEY_AUTHORIZATION, true),
            ..right()
        },
    ];
    for answer in wrong {
        server.show(answer.certified());
        let problem = failed(tls_alpn_01(server.address, ("dns", "a.test")).await);
        assert_eq!(problem.kind, ProblemType::IncorrectResponse, "{}", problem.detail);
    }
    // Signed with another key than its own: names say self-signed, the signature does not.
    let (own, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = right().names;
    params.custom_extensions = right().extensions;
    let issuer = rcgen::Issuer::from_params(&params, &other);
    let der = params.signed_by(&own, &issuer).unwrap().der().to_vec();
    server.show(certified(der.clone(), &own));
    let problem = failed(tls_alpn_01(server.address, ("dns", "a.test")).await);
    assert!(problem.detail.contains("self-signed"), "{}", problem.detail);
    // And the handshake must be that key's.
    server.show(certified(der, &other));
    let problem = failed(tls_alpn_01(server.address, ("dns", "a.test")).await);
    assert_eq!(problem.kind, ProblemType::Tls, "{}", problem.detail);
}

#[tokio::test]
async fn servers_that_speak_something_else_are_refused() {
    for protocols in [&[][..], &[b"h2".as_slice(), b"http/1.1"]] {
        let server = tls_alpn::Server::start("127.0.0.1", protocols, rustls::ALL_VERSIONS).await;
        server.show(Answer::to("a.test", KEY_AUTHORIZATION).certified());
        let problem = failed(tls_alpn_01(server.address, ("dns", "a.test")).await);
        assert_eq!(problem.kind, ProblemType::Tls);
        assert!(problem.detail.contains("acme-tls/1"), "{}", problem.detail);
    }
    let (plain, _) = serve("127.0.0.1", |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(SECRET.as_bytes()).await;
        })
    })
    .await;
    assert_eq!(failed(tls_alpn_01(plain, ("dns", "a.test")).await).kind, ProblemType::Tls);
    let (silent, _) =
        serve("127.0.0.1", |_stream| Box::pin(async { sleep(Duration::from_secs(60)).await }))
            .await;
    let problem = failed(tls_alpn_01(silent, ("dns", "a.test")).await);
    assert!(matches!(problem.kind, ProblemType::Tls | ProblemType::Connection), "{problem:?}");
}

/// OpenSSL, whose authors never saw this code, serves the challenge.
#[tokio::test]
async fn openssl_answers() {
    let dir = tempfile::tempdir().unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY_AUTHORIZATION.as_bytes());
    let hash: String = hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    let run = |arguments: &[&str]| {
        let output =
            Command::new("openssl").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "1",
        "-subj",
        "/CN=a.test",
        "-addext",
        "subjectAltName=DNS:a.test",
        "-addext",
        &format!("1.3.6.1.5.5.7.1.31=critical,DER:0420{hash}"),
    ]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Command::new("openssl")
        .args(["s_server", "-quiet", "-alpn", "acme-tls/1", "-cert", "cert.pem", "-key", "key.pem"])
        .args(["-accept", &port.to_string()])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Running(server);
    for _ in 0..100 {
        if TcpStream::connect(port).await.is_ok() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let observed = tls_alpn_01(port, ("dns", "a.test")).await;
    assert!(matches!(observed, Observation::Matched { .. }), "{observed:?}");
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// dnsmasq with these options, and a resolver that asks it for everything.
async fn dnsmasq(options: &[String]) -> (Running, Arc<SystemResolver>) {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--local=/test/"])
        .args(["--user=", "--group=", "--txt-record=ready.test,yes"])
        .arg(format!("--port={port}"))
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("dnsmasq (images/packages.sh test installs it): {error}"));
    let server = Running(server);
    let zone = ZoneServers {
        zone: ".".to_owned(),
        servers: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        tcp: false,
    };
    let resolver = SystemResolver::new(&Resolving {
        zones: vec![zone],
        timeout: Duration::from_millis(900),
        ..Resolving::default()
    })
    .unwrap();
    for _ in 0..100 {
        if resolver.txt("ready.test").await.is_ok() {
            return (server, Arc::new(resolver));
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("dnsmasq does not answer");
}

async fn dns_01(resolver: Arc<SystemResolver>, name: &str) -> Observation {
    let validator = validator(settings(), resolver);
    observe(&validator, attempt(ChallengeType::Dns01, ("dns", name))).await
}

#[tokio::test]
async fn dnsmasq_s_records_are_read_as_they_stand() {
    let due = dns::txt_value(KEY_AUTHORIZATION);
    let (front, back) = due.split_at(20);
    let (_server, resolver) = dnsmasq(&[
        format!("--txt-record=_acme-challenge.one.test,{due}"),
        // Of several one is enough; one may be in pieces.
        format!("--txt-record=_acme-challenge.two.test,{SECRET}"),
        format!("--txt-record=_acme-challenge.two.test,{front},{back}"),
        "--txt-record=_acme-challenge.wrong.test,internal".to_owned(),
        "--txt-record=elsewhere.test,".to_owned() + &due,
        "--cname=_acme-challenge.alias.test,elsewhere.test".to_owned(),
        "--address=/empty.test/127.0.0.9".to_owned(),
    ])
    .await;
    for name in ["one.test", "two.test", "*.one.test", "alias.test"] {
        let observed = dns_01(resolver.clone(), name).await;
        assert!(matches!(observed, Observation::Matched { from: None, .. }), "{name} {observed:?}");
    }
    let problem = failed(dns_01(resolver.clone(), "wrong.test").await);
    assert_eq!(problem.kind, ProblemType::IncorrectResponse);
    assert!(problem.detail.contains("_acme-challenge.wrong.test"), "{}", problem.detail);
    for name in ["none.test", "empty.test"] {
        let problem = failed(dns_01(resolver.clone(), name).await);
        assert_eq!(problem.kind, ProblemType::Dns);
        assert!(problem.detail.contains(&format!("_acme-challenge.{name}")), "{}", problem.detail);
    }
}

#[tokio::test]
async fn long_chains_and_floods_of_records_are_refused() {
    let due = dns::txt_value(KEY_AUTHORIZATION);
    let mut options: Vec<String> =
        (0..400).map(|n| format!("--txt-record=_acme-challenge.flood.test,{SECRET}-{n}")).collect();
    options.push(format!("--txt-record=_acme-challenge.flood.test,{due}"));
    options.push(format!("--txt-record=end.test,{due}"));
    // Twelve names, each an alias of the next.
    options.push("--cname=_acme-challenge.chain.test,c1.test".to_owned());
    options.extend((1..11).map(|n| format!("--cname=c{n}.test,c{}.test", n + 1)));
    options.push("--cname=c11.test,end.test".to_owned());
    let (_server, resolver) = dnsmasq(&options).await;
    let problem = failed(dns_01(resolver.clone(), "flood.test").await);
    assert_eq!(problem.kind, ProblemType::Dns);
    assert!(problem.detail.contains("more records than"), "{}", problem.detail);
    let problem = failed(dns_01(resolver, "chain.test").await);
    assert_eq!(problem.kind, ProblemType::Dns);
    assert!(problem.detail.contains("alias (CNAME) of too many"), "{}", problem.detail);
}

#[tokio::test]
async fn caa_is_read_from_a_real_server() {
    let property = |name: &str, flags: u8, tag: &str, value: &str| {
        let data = [&[flags, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat();
        let data: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("--dns-rr={name},257,{data}")
    };
    let due = dns::txt_value(KEY_AUTHORIZATION);
    let (_server, resolver) = dnsmasq(&[
        format!("--txt-record=_acme-challenge.a.mine.test,{due}"),
        format!("--txt-record=_acme-challenge.a.other.test,{due}"),
        format!("--txt-record=_acme-challenge.a.odd.test,{due}"),
        property("mine.test", 0, "issue", "ca.test; validationmethods=dns-01"),
        property("other.test", 0, "issue", "ca.other.example"),
        property("odd.test", 128, "future", "x"),
    ])
    .await;
    let settings = Settings {
        caa_zones: vec![".".to_owned()],
        caa_identities: vec!["ca.test".to_owned()],
        ..settings()
    };
    let validator = validator(settings, resolver);
    let ask =
        async |name: &str| observe(&validator, attempt(ChallengeType::Dns01, ("dns", name))).await;
    let mine = ask("a.mine.test").await;
    assert!(matches!(mine, Observation::Matched { .. }), "{mine:?}");
    for (name, says) in [("a.other.test", "do not permit"), ("a.odd.test", "critical property")] {
        let problem = failed(ask(name).await);
        assert_eq!(problem.kind, ProblemType::Caa);
        assert!(problem.detail.contains(says), "{}", problem.detail);
    }
}

/// A server that is silent costs an attempt, not more.
#[tokio::test]
async fn a_dns_server_that_says_nothing_runs_out_of_time() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let zone = ZoneServers {
        zone: ".".to_owned(),
        servers: vec![silent.local_addr().unwrap()],
        tcp: false,
    };
    let timeout = Duration::from_millis(300);
    let resolving = Resolving { zones: vec![zone], timeout, ..Resolving::default() };
    let resolver = Arc::new(SystemResolver::new(&resolving).unwrap());
    let problem = failed(dns_01(resolver, "a.test").await);
    assert!(matches!(problem.kind, ProblemType::Dns | ProblemType::Connection), "{problem:?}");
}
