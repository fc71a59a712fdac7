//! Real clients against a whole box: keys in SoftHSM2, two processes, DNS, http-01 on loopback. What they
//! get is judged by OpenSSL, and the keys by OpenSC's pkcs11-tool.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/client.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod client;
#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod lab;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Lab, Options, get, succeed};

/// A box that looks for challenges at a port that is free now.
fn start(dir: &Path) -> (Lab, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lab = Lab::start_in(dir, Options { http_port: port, ..Options::default() });
    save_public(&lab);
    (lab, port)
}

/// What anyone can fetch over plain HTTP, as files for OpenSSL.
fn save_public(lab: &Lab) {
    let pem = body(lab, "/root.pem");
    std::fs::write(lab.dir.join("root.pem"), pem).unwrap();
}

fn body(lab: &Lab, path: &str) -> String {
    let answer = get(lab.http, path).unwrap_or_else(|| panic!("GET {path} has no answer"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "GET {path}: {head}");
    body.to_owned()
}

/// Leaf and issuing certificate under the root, with the CRLs that the certificates name.
fn verify(lab: &Lab, chain: &Path, san: &str) {
    let text = succeed(
        Command::new("openssl")
            .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
            .arg(chain),
    );
    assert!(text.contains(san), "{san} is not in:\n{text}");
    let mut crls = Vec::new();
    for (place, of) in [("leaf", chain.to_owned()), ("issuing", second(chain))] {
        let text = succeed(
            Command::new("openssl")
                .args(["x509", "-noout", "-ext", "crlDistributionPoints", "-in"])
                .arg(&of),
        );
        let url = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("URI:"))
            .unwrap_or_else(|| panic!("the {place} certificate names no CRL:\n{text}"));
        let path = &url["http://".len()..];
        let path = &path[path.find('/').unwrap()..];
        let der = lab.dir.join(format!("{place}.crl"));
        succeed(
            Command::new("curl")
                .args(["-fsS", "-o"])
                .arg(&der)
                .arg(format!("http://{}{path}", lab.http)),
        );
        let pem = der.with_extension("crl.pem");
        succeed(
            Command::new("openssl")
                .args(["crl", "-inform", "der", "-in"])
                .arg(&der)
                .arg("-out")
                .arg(&pem),
        );
        crls.push(pem);
    }
    let mut command = Command::new("openssl");
    command
        .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile"])
        .arg(lab.dir.join("root.pem"));
    for crl in crls {
        command.arg("-CRLfile").arg(crl);
    }
    succeed(command.arg("-untrusted").arg(second(chain)).arg(chain));
}

/// The second certificate of a chain, in a file beside it.
fn second(chain: &Path) -> PathBuf {
    let pem = std::fs::read_to_string(chain).unwrap();
    let at = pem.match_indices("-----BEGIN CERTIFICATE-----").nth(1).expect("a chain of two").0;
    let file = chain.with_extension("issuing.pem");
    std::fs::write(&file, &pem[at..]).unwrap();
    file
}

fn certbot(lab: &Lab, port: u16, name: &[&str]) -> PathBuf {
    let newest = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/certbot/bin/certbot");
    assert!(newest.exists(), "{} is not there: run tests/clients/tools.sh", newest.display());
    let dir = lab.dir.join("certbot");
    let mut command = Command::new(newest);
    command
        .args([
            "certonly",
            "--non-interactive",
            "--agree-tos",
            "-m",
            "admin@lab.test",
            "--standalone",
        ])
        .args(["--http-01-address", "127.0.0.1", "--http-01-port", &port.to_string()])
        .args(["--server", &format!("https://localhost:{}/acme/directory", lab.acme.port())])
        .args(["--cert-name", "device"])
        .args(name)
        .arg("--config-dir")
        .arg(&dir)
        .arg("--work-dir")
        .arg(&dir)
        .arg("--logs-dir")
        .arg(&dir)
        .env("REQUESTS_CA_BUNDLE", lab.dir.join("root.pem"));
    succeed(&mut command);
    dir.join("live/device/fullchain.pem")
}

#[test]
fn certbot_enrols_a_name_and_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let (lab, port) = start(dir.path());
    let chain = certbot(&lab, port, &["-d", "certbot.test"]);
    verify(&lab, &chain, "DNS:certbot.test");
    std::fs::remove_dir_all(lab.dir.join("certbot")).unwrap();
    let chain =
        certbot(&lab, port, &["--preferred-profile", "server", "--ip-address", "127.0.0.1"]);
    verify(&lab, &chain, "IP Address:127.0.0.1");
}

/// Debian's lego asks for an address with `{"type": "dns", "value": "127.0.0.1"}`. RFC 8738 section 3 says
/// `ip`, so the order is refused, and the client's user must be able to read why.
#[test]
fn lego_enrols_a_name_and_reads_why_an_address_as_a_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (lab, port) = start(dir.path());
    let lego = |name: &str| {
        let mut command = Command::new("lego");
        command
            .args(["--server", &format!("https://localhost:{}/acme/directory", lab.acme.port())])
            .args(["--accept-tos", "--email", "admin@lab.test", "--domains", name, "--path"])
            .arg(lab.dir.join("lego"))
            .args(["--http", "--http.port", &format!("127.0.0.1:{port}"), "run"])
            .env("LEGO_CA_CERTIFICATES", lab.dir.join("root.pem"));
        command
    };
    succeed(&mut lego("lego.test"));
    verify(&lab, &lab.dir.join("lego/certificates/lego.test.crt"), "DNS:lego.test");

    let refused = lego("127.0.0.1").output().unwrap();
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("400 :: POST"), "{text}");
    assert!(text.contains("urn:ietf:params:acme:error:malformed"), "{text}");
    assert!(text.contains(r#"an address needs identifier type "ip""#), "{text}");
}

#[test]
fn instant_acme_enrols_a_name_and_an_address() {
    use instant_acme::{
        Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, RetryPolicy,
    };
    let dir = tempfile::tempdir().unwrap();
    let (lab, port) = start(dir.path());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let chains = runtime.block_on(async {
        let responder = client::Responder::start(port).await.unwrap();
        let (account, _) = Account::builder_with_root(lab.dir.join("root.pem"))
            .unwrap()
            .create(
                &NewAccount {
                    contact: &[],
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                },
                format!("https://localhost:{}/acme/directory", lab.acme.port()),
                None,
            )
            .await
            .unwrap();
        let mut chains = Vec::new();
        for identifier in
            [Identifier::Dns("instant.test".into()), Identifier::Ip([127, 0, 0, 1].into())]
        {
            let mut order = account.new_order(&NewOrder::new(&[identifier])).await.unwrap();
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization.unwrap();
                assert_eq!(authorization.status, AuthorizationStatus::Pending);
                let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
                let text = challenge.key_authorization().as_str().to_owned();
                responder.put(&challenge.token.clone(), text);
                challenge.set_ready().await.unwrap();
            }
            order.poll_ready(&RetryPolicy::default()).await.unwrap();
            order.finalize().await.unwrap();
            chains.push(order.poll_certificate(&RetryPolicy::default()).await.unwrap());
        }
        chains
    });
    for (chain, san) in chains.iter().zip(["DNS:instant.test", "IP Address:127.0.0.1"]) {
        let file = lab.dir.join("instant.pem");
        std::fs::write(&file, chain).unwrap();
        verify(&lab, &file, san);
    }
}

/// The box's own HTTPS, as OpenSSL sees it: by name, by address (which no client sends as SNI), in both
/// versions, and always with a certificate that holds under the root.
#[test]
fn tls_verifies_with_and_without_a_server_name_in_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(dir.path(), Options::default());
    save_public(&lab);
    let connect = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &lab.acme.to_string(), "-verify_return_error"])
            .args(["-x509_strict", "-CAfile"])
            .arg(lab.dir.join("root.pem"))
            .args(arguments)
            .stdin(std::process::Stdio::null());
        command
    };
    let by_name = ["-servername", "localhost", "-verify_hostname", "localhost"];
    let by_address = ["-noservername", "-verify_ip", "127.0.0.1"];
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for whom in [&by_name[..], &by_address[..]] {
            let text = succeed(connect(whom).arg(option));
            assert!(text.contains("Verify return code: 0 (ok)"), "{version} {whom:?}: {text}");
            assert!(text.contains(&format!("New, {version}, Cipher is ")), "{whom:?}: {text}");
            assert_eq!(text.matches(" s:").count(), 2, "leaf and issuing: {version}: {text}");
        }
    }
    // A name that the certificate does not carry is no reason to hang up: the client judges, and this one says no.
    let wrong = connect(&["-servername", "elsewhere.test", "-verify_hostname", "elsewhere.test"]);
    let wrong = { wrong }.output().unwrap();
    let text = String::from_utf8_lossy(&wrong.stderr);
    assert!(!wrong.status.success() && text.contains("hostname mismatch"), "{text}");
    let old = connect(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).output().unwrap();
    let text = String::from_utf8_lossy(&old.stderr);
    assert!(!old.status.success() && text.contains("SSL alert number"), "{text}");
}

/// Promise 1 as a stranger's tool sees it.
#[test]
fn promise_1_every_key_is_sensitive_never_extractable_local() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::prepare(dir.path(), &Options::default());
    let pin = std::fs::read_to_string(lab.dir.join("token/pin")).unwrap();
    let module = succeed(Command::new("sh").args(["-c", "ls /usr/lib/softhsm/libsofthsm2.so"]));
    let text = succeed(
        Command::new("pkcs11-tool")
            .args(["--module", module.trim(), "--login", "--pin", pin.trim()])
            .args(["--list-objects", "--type", "privkey"])
            .env("SOFTHSM2_CONF", lab.dir.join("token/softhsm2.conf")),
    );
    let keys = text.matches("Private Key Object").count();
    assert!(keys >= 4, "root, issuing, log and TLS key, but:\n{text}");
    assert_eq!(
        text.matches("Access:     sensitive, always sensitive, never extractable, local").count(),
        keys,
        "{text}"
    );
}
