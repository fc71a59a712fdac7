//! The courier, to witnesses that speak http, and to such that speak https under a CA that the operator names.

use std::net::Ipv4Addr;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::env::simulated::SimulatedResolver;
use crate::env::system::SystemDialer;

/// A CA in a building, and its certificate in a file.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A TLS server's, for these names.
    fn server(&self, names: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A witness that takes one visit and gives `answer`; its port, and what was asked.
async fn witness(tls: TlsAcceptor, answer: String) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not trust the server ends here.
        let Ok(mut stream) = tls.accept(stream).await else { return String::new() };
        let mut asked = Vec::new();
        let mut piece = [0; 1024];
        while !asked.ends_with(b"the body\n") && !asked.starts_with(b"GET ") {
            match stream.read(&mut piece).await {
                Ok(read) if read > 0 => asked.extend_from_slice(&piece[..read]),
                _ => break,
            }
        }
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        String::from_utf8(asked).unwrap()
    });
    (port, asked)
}

fn answered(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Who is visited at this host and port, trusted by the certificates in `roots`.
fn target(host: &str, port: u16, roots: &str) -> Result<Target, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roots.pem");
    std::fs::write(&file, roots).unwrap();
    let url = format!("https://{host}:{port}/witness");
    Target::new(&Settings { vkey: String::new(), url, roots: Some(file) })
}

async fn visited(target: &Target, what: ErrandKind) -> Result<Outcome, String> {
    let resolver = SimulatedResolver::new();
    resolver.answer("w.lan", Ok(vec![Ipv4Addr::LOCALHOST.into()]));
    visit(target, &resolver, &SystemDialer, what).await
}

fn add() -> ErrandKind {
    ErrandKind::AddCheckpoint(b"the body\n".to_vec())
}

#[tokio::test]
async fn an_https_witness_is_visited_under_the_ca_that_the_operator_names() {
    let ca = Ca::new();
    for host in ["w.lan", "127.0.0.1"] {
        let (port, asked) = witness(ca.server(&[host]), answered("200 OK", "a line\n")).await;
        let target = target(host, port, &ca.pem).unwrap();
        assert_eq!(visited(&target, add()).await, Ok(Outcome::Body(b"a line\n".to_vec())));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /witness/add-checkpoint HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {host}:{port}\r\n")), "{asked}");
    }
    let (port, _) = witness(ca.server(&["w.lan"]), answered("409 Conflict", "17\n")).await;
    let there = target("w.lan", port, &ca.pem).unwrap();
    assert_eq!(visited(&there, add()).await, Ok(Outcome::Conflict(17)));
    let (port, asked) = witness(ca.server(&["w.lan"]), answered("200 OK", "a note")).await;
    // Among others in one file, as systems have them.
    let there = target("w.lan", port, &format!("{}{}", Ca::new().pem, ca.pem)).unwrap();
    let latest = ErrandKind::Latest("00ff/checkpoint".into());
    assert_eq!(visited(&there, latest).await, Ok(Outcome::Body(b"a note".to_vec())));
    assert!(asked.await.unwrap().starts_with("GET /witness/00ff/checkpoint HTTP/1.1\r\n"));
}

#[tokio::test]
async fn nothing_is_said_to_who_is_not_the_witness() {
    let ca = Ca::new();
    for (what, server, roots) in [
        ("another CA's certificate", Ca::new().server(&["w.lan"]), &ca.pem),
        ("another host's certificate", ca.server(&["other.lan"]), &ca.pem),
    ] {
        let (port, asked) = witness(server, answered("200 OK", "a line\n")).await;
        let target = target("w.lan", port, roots).unwrap();
        let outcome = visited(&target, add()).await;
        assert!(outcome.as_ref().is_err_and(|why| why.starts_with("TLS: ")), "{what}: {outcome:?}");
        assert_eq!(asked.await.unwrap(), "", "{what}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let ca = Ca::new();
    let long = "x".repeat(MAX_ANSWER + 1);
    let (port, _) = witness(ca.server(&["w.lan"]), answered("200 OK", &long)).await;
    let target = target("w.lan", port, &ca.pem).unwrap();
    assert!(visited(&target, add()).await.is_err());
}

#[test]
fn a_file_without_a_certificate_is_said_at_start() {
    for roots in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let why = target("w.lan", 443, roots).err().unwrap();
        assert!(why.starts_with("CHY-WITNESS-ROOTS: "), "{why}");
        assert!(why.contains("roots.pem") && why.contains("w.lan"), "{why}");
    }
    let roots = Some("/nonexistent/roots.pem".into());
    let settings = Settings { vkey: String::new(), url: "https://w.lan".into(), roots };
    assert!(Target::new(&settings).err().unwrap().starts_with("CHY-WITNESS-ROOTS: "));
    // Over plain http nobody's certificate is read.
    assert!(Target::new(&Settings { url: "http://w.lan".into(), ..settings }).is_ok());
}

#[test]
fn a_url_is_taken_apart() {
    let place = Place::parse("http://b.lan:8080/witness").unwrap();
    assert_eq!((place.tls, place.port, place.prefix.as_str()), (false, 8080, "/witness"));
    assert_eq!((place.host.as_str(), place.authority.as_str()), ("b.lan", "b.lan:8080"));
    let place = Place::parse("https://[fd00::1]").unwrap();
    assert_eq!((place.tls, place.port, place.prefix.as_str()), (true, 443, ""));
    assert_eq!((place.host.as_str(), place.authority.as_str()), ("fd00::1", "[fd00::1]"));
    for bad in [
        "b.lan",
        "ftp://b.lan",
        "http://",
        "http://b.lan/",
        "http://b.lan/x/",
        "http://b.lan/?x",
        "http://a@b.lan",
        "http://b.lan/#x",
        "http://b lan",
    ] {
        assert!(Place::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn entries_are_checked() {
    let log = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let entry =
        |vkey: &str, url: &str| Settings { vkey: vkey.into(), url: url.into(), roots: None };
    let error = check(&[entry(log, "http://b.lan")]).unwrap_err();
    assert!(error.starts_with("CHY-WITNESS-VKEY: "), "{error}");
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(&[7; 32]);
    let witness = VerifierKey::cosigner("b.lan/witness", &spki).unwrap().to_string();
    let witness = witness.as_str();
    let error = check(&[entry(witness, "b.lan")]).unwrap_err();
    assert!(error.starts_with("CHY-CONFIG-VALUE: "), "{error}");
    check(&[entry(witness, "https://b.lan")]).unwrap();
    assert!(check(&[entry(witness, "https://b.lan"), entry(witness, "https://c.lan")]).is_err());
}
