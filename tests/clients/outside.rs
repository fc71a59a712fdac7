//! The box as other tools of a stranger see it: its TLS by OpenSSL, its keys by OpenSC's pkcs11-tool.

use std::process::Command;

use super::judge::save_root;
use super::lab::{Lab, Options, succeed};

/// The box's own HTTPS, as OpenSSL sees it: by name, by address (which no client sends as SNI), in both
/// versions, and always with a certificate that holds under the root.
#[test]
fn tls_verifies_with_and_without_a_server_name_in_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(dir.path(), Options::default());
    save_root(&lab);
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
    let text = succeed(
        Command::new("pkcs11-tool")
            .arg("--module")
            .arg(crate::lab::softhsm())
            .args(["--login", "--pin", pin.trim()])
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
