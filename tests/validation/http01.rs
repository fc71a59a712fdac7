//! http-01 (RFC 8555 section 8.3).

use super::*;

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
