//! Published files, the page for people, and probes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;

use crate::support::Ca;
use crate::support::raw::{http2, plain};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_files_have_their_types() {
    let ca = Ca::start().await;
    let http = ca.addresses.http[0];
    for (name, kind) in [
        ("issuing.crl", "application/pkix-crl"),
        ("issuing.cer", "application/pkix-cert"),
        ("checkpoint", "text/plain; charset=utf-8"),
    ] {
        std::fs::write(ca.public.path().join(name), name).unwrap();
        let answer = plain(http, &format!("/{name}"), &[]).await;
        assert_eq!((answer.status, answer.text()), (200, name));
        assert_eq!(answer.header("content-type"), Some(kind));
        assert!(answer.header("cache-control").is_some());
    }
    let answer = plain(http, "/root.pem", &[]).await;
    assert_eq!(answer.header("content-type"), Some("application/x-pem-file"));
    assert_eq!(answer.text(), ca.issuer.root.pem());
    let mut client = ca.client().await;
    assert_eq!(client.get("/root.pem").await.text(), answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_tells_the_length_and_sends_nothing() {
    let ca = Ca::start().await;
    let mut client = ca.client().await;
    let length = ca.issuer.root.pem().len().to_string();
    let answer = client.request(hyper::Method::HEAD, "/root.pem").await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some(length.as_str())));
    assert!(answer.body.is_empty());
    // The connection is still in step.
    assert_eq!(client.get("/root.pem").await.text(), ca.issuer.root.pem());

    let mut sender = http2(&ca).await;
    for _ in 0..2 {
        let request = hyper::Request::head(ca.url("/root.pem")).body(Default::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-length"], length.as_str());
        assert!(response.collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchanged_files_are_not_sent_again() {
    let ca = Ca::start().await;
    let http = ca.addresses.http[0];
    let first = plain(http, "/root.pem", &[]).await;
    let etag = first.header("etag").unwrap();
    let date = first.header("last-modified").unwrap();
    for headers in [
        &[("if-none-match", etag)][..],
        &[("if-none-match", "\"other\", W/\"x\", *")],
        &[("if-modified-since", date)],
    ] {
        let answer = plain(http, "/root.pem", headers).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{headers:?}");
    }
    for headers in [
        &[("if-none-match", "\"other\""), ("if-modified-since", date)][..],
        &[("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")],
        &[("if-modified-since", "yesterday")],
    ] {
        let answer = plain(http, "/root.pem", headers).await;
        assert_eq!((answer.status, answer.body), (200, first.body.clone()), "{headers:?}");
    }
    // Replaced, it is another version even within the second and with the same length.
    let other = vec![b'x'; first.body.len()];
    std::fs::write(ca.public.path().join("root.pem"), &other).unwrap();
    let answer = plain(http, "/root.pem", &[("if-none-match", etag)]).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &other[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_is_served() {
    let ca = Ca::start().await;
    let http = ca.addresses.http[0];
    std::fs::write(ca.public.path().join("secret.key"), "x").unwrap();
    std::fs::create_dir(ca.public.path().join("dir.pem")).unwrap();
    let outside = ca.public.path().with_extension("pem");
    std::fs::write(&outside, "x").unwrap();
    let name = outside.file_name().unwrap().to_str().unwrap().to_owned();
    for path in [
        "/secret.key".to_owned(),
        "/dir.pem".into(),
        format!("/../{name}"),
        format!("/%2e%2e/{name}"),
        "/absent.pem".into(),
        "/acme/directory".into(),
        "/acme/new-nonce".into(),
    ] {
        let answer = plain(http, &path, &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "malformed"), "{path}");
    }
    std::fs::remove_file(outside).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_whom_to_trust() {
    let ca = Ca::start().await;
    let answer = plain(ca.addresses.http[0], "/", &[]).await;
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let fingerprint: Vec<String> =
        ca.issuer.root.fingerprint().iter().map(|octet| format!("{octet:02X}")).collect();
    assert!(answer.text().contains(&fingerprint.join(":")));
    assert!(answer.text().contains(&ca.url("/acme/directory")));
    assert!(!answer.text().contains("{{"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_tell_the_truth() {
    let ca = Ca::start().await;
    let metrics = ca.addresses.metrics[0];
    // Ready once the chain has been fetched.
    let mut ready = plain(metrics, "/readyz", &[]).await;
    for _ in 0..100 {
        if ready.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        ready = plain(metrics, "/readyz", &[]).await;
    }
    assert_eq!((ready.status, ready.text()), (200, "ready\n"));
    assert_eq!(plain(metrics, "/healthz", &[]).await.text(), "alive\n");
    ca.registered().await;
    let text = plain(metrics, "/metrics", &[]).await;
    for line in [
        "chancery_requests_total{flow=\"new-account\",status=\"201\"} 1",
        "chancery_issuer_up 1.0",
        "chancery_issuer_ready 1.0",
    ] {
        assert!(text.text().contains(line), "{line} in {text:?}");
    }
    ca.issuer.away.store(true, Ordering::SeqCst);
    let away = plain(metrics, "/readyz", &[]).await;
    assert_eq!(away.status, 503);
    assert!(away.text().starts_with("CHY-ISSUER-AWAY: "), "{away:?}");
    assert_eq!(plain(metrics, "/healthz", &[]).await.status, 200);
    let text = plain(metrics, "/metrics", &[]).await;
    assert!(text.text().contains("chancery_issuer_up 0.0"));
    // The metrics listener shows nothing else.
    assert_eq!(plain(metrics, "/root.pem", &[]).await.status, 404);
}
