//! tls-alpn-01 (RFC 8737, RFC 8738).

use super::*;

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
