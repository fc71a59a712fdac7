//! Under HTTP: TLS versions, HTTP/2, limits, timeouts, faults, shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chancery::web::{Listeners, Settings};
use http_body_util::Full;
use hyper::Request;
use rustls::ClientConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::raw::{self, csr, plain};
use crate::support::{Ca, Wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_tls_versions_and_no_other() {
    let ca = Ca::start().await;
    for (version, spoken) in [
        (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3),
        (&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2),
    ] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(raw::trust(&ca))
            .with_no_client_auth();
        let stream = raw::tls_with(&ca, config).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
    }
    // A TLS 1.1 ClientHello is answered with an alert.
    let mut stream = TcpStream::connect(ca.addresses.https[0]).await.unwrap();
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("closed").unwrap();
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
}

/// Before there is any thread, so that a process can confine itself first.
#[test]
fn addresses_are_bound_without_a_runtime() {
    let mut settings =
        Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Settings::default() };
    let listeners = Listeners::bind(&settings).unwrap();
    settings.listen = listeners.addresses().https;
    assert_ne!(settings.listen[0].port(), 0);
    let error = Listeners::bind(&settings).unwrap_err().to_string();
    assert!(error.starts_with("CHY-PORT: cannot listen on 127.0.0.1:"), "{error}");
    assert!(error.contains("[web] listen"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_resume_without_a_signature() {
    let ca = Ca::start().await;
    let config = Arc::new(
        ClientConfig::builder().with_root_certificates(raw::trust(&ca)).with_no_client_auth(),
    );
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut stream = raw::tls_with(&ca, (*config).clone()).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ca\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        kinds.push(stream.get_ref().1.handshake_kind());
        // The second one must need nothing from the issuer.
        ca.issuer.away.store(true, Ordering::SeqCst);
    }
    assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_spoken_when_offered() {
    let ca = Ca::start().await;
    let mut sender = raw::http2(&ca).await;
    for _ in 0..3 {
        let request = Request::builder()
            .uri(ca.url("/acme/directory"))
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), hyper::Version::HTTP_2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_idle_clients_are_let_go() {
    let mut wish = Wish::new();
    wish.settings.handshake_timeout_seconds = 1;
    wish.settings.header_timeout_seconds = 1;
    wish.settings.idle_timeout_seconds = 1;
    let ca = Ca::with(wish).await;
    let gone = async |mut stream: TcpStream, sent: &[u8]| {
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        tokio::time::timeout(Duration::from_secs(6), read).await.is_ok()
    };
    let (https, http) = (ca.addresses.https[0], ca.addresses.http[0]);
    let half_hello = gone(TcpStream::connect(https).await.unwrap(), &[0x16, 3, 1]);
    let half_header = gone(TcpStream::connect(http).await.unwrap(), b"GET / HTTP/1.1\r\nHo");
    let silent = gone(TcpStream::connect(http).await.unwrap(), b"");
    let idle = gone(TcpStream::connect(http).await.unwrap(), b"GET / HTTP/1.1\r\nHost: ca\r\n\r\n");
    let all = tokio::join!(half_hello, half_header, silent, idle);
    assert_eq!(all, (true, true, true, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_bounded() {
    let ca = Ca::start().await;
    let mut stream = TcpStream::connect(ca.addresses.http[0]).await.unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: ca\r\nX: ").await;
    let _ = stream.write_all(&vec![b'x'; 64 * 1024]).await;
    let mut answer = vec![0; 32];
    let read = stream.read(&mut answer).await.unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait() {
    let mut wish = Wish::new();
    wish.settings.connections = 2;
    let ca = Ca::with(wish).await;
    let (first, second) = (ca.client().await, ca.client().await);
    let third = tokio::time::timeout(Duration::from_millis(400), ca.client()).await;
    assert!(third.is_err(), "a third connection was served beside two");
    // Another door has permits of its own.
    assert_eq!(plain(ca.addresses.http[0], "/", &[]).await.status, 200);
    drop(first);
    let mut third = tokio::time::timeout(Duration::from_secs(5), ca.client()).await.unwrap();
    assert_eq!(third.get("/acme/directory").await.status, 200);
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_so_many_connections() {
    let mut wish = Wish::new();
    wish.settings.connections_per_peer = 2;
    let ca = Ca::with(wish).await;
    let (first, mut second) = (ca.client().await, ca.client().await);
    let mut third = TcpStream::connect(ca.addresses.https[0]).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), third.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "not closed: {read:?}");
    assert_eq!(second.get("/acme/directory").await.status, 200);
    assert_eq!(plain(ca.addresses.http[0], "/", &[]).await.status, 200, "another door");
    drop(first);
    // The place is free once the server has seen the end of it.
    for attempt in 0.. {
        let stream = raw::tls(&ca, &[]).await;
        if stream.is_ok() {
            break;
        }
        assert!(attempt < 50, "no place became free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_waits_for_the_issuer() {
    let wish = Wish::new();
    wish.issuer.away.store(true, Ordering::SeqCst);
    let ca = Ca::with(wish).await;
    // What needs no key works meanwhile.
    assert_eq!(plain(ca.addresses.http[0], "/healthz", &[]).await.status, 200);
    assert_eq!(plain(ca.addresses.http[0], "/root.pem", &[]).await.status, 200);
    let issuer = ca.issuer.clone();
    let back = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        issuer.away.store(false, Ordering::SeqCst);
    });
    let mut client = ca.client().await;
    assert!(back.is_finished(), "no certificate could be served before");
    assert_eq!(client.get("/acme/directory").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bug_is_one_request_s_problem() {
    let ca = Ca::start().await;
    ca.issuer.panics.store(true, Ordering::SeqCst);
    let mut client = ca.client().await;
    let answer = client.register().await;
    assert_eq!((answer.status, answer.problem().as_str()), (500, "serverInternal"));
    assert!(!answer.text().contains("told to"), "what happened inside is not shown");
    // The same connection lives on.
    ca.issuer.panics.store(false, Ordering::SeqCst);
    let _ = client.get("/acme/directory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_answers_what_is_under_way() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let mut idle = ca.client().await;
    idle.get("/acme/directory").await;
    let url = client.new_order_url();
    let header = client.header(&url).await;
    let payload = json!({ "identifiers": [{ "type": "dns", "value": "a.test" }] }).to_string();
    let jws = client.key.sign(&header, &payload).to_string();
    // Half of the body is sent, the server told to stop, then the rest.
    let mut stream = raw::tls(&ca, &[b"http/1.1"]).await.unwrap();
    let (half, rest) = jws.as_bytes().split_at(jws.len() / 2);
    let head = format!(
        "POST /acme/new-order HTTP/1.1\r\nHost: ca\r\nContent-Type: application/jose+json\r\n\
         Content-Length: {}\r\n\r\n",
        jws.len()
    );
    stream.write_all(&[head.as_bytes(), half].concat()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = ca.addresses.https[0];
    let stopping = tokio::spawn(ca.web.shutdown());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished());
    assert!(TcpStream::connect(address).await.is_err(), "nothing is accepted any more");
    stream.write_all(rest).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 201 "), "{}", String::from_utf8_lossy(&answer));
    tokio::time::timeout(Duration::from_secs(3), stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once() {
    let ca = Arc::new(Ca::start().await);
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let ca = ca.clone();
            tokio::spawn(async move {
                let mut client = ca.registered().await;
                let name = format!("host-{n}.test");
                let (_, order) = client.ready(&ca, &[&format!("dns:{name}")]).await;
                let finalize = order["finalize"].as_str().unwrap();
                let done = client.post(finalize, &json!({ "csr": csr(&[&name]) })).await;
                assert_eq!(done.json()["status"], "valid", "{done:?}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
