//! Revocation with a whole box: from a client's request and from the operator's command to what OpenSSL says,
//! also when the issuer is killed in between.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chancery::pki::certificate::Certificate;
use plant::Plant;
use plant::lab::{Lab, Options, get, now, pause, signal, succeed};

/// What `openssl verify -crl_check_all` says of a certificate with the CRLs that the box serves now.
fn verify(lab: &Lab, certificate: &Certificate) -> String {
    let dir = tempfile::tempdir().unwrap();
    let url = certificate.crl_url().unwrap();
    let (_, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut crls = String::new();
    for path in [path, "crl/root.crl"] {
        let file = lab.dir.join("state/public").join(path);
        let answer = get(lab.http, &format!("/{path}")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        let head = answer.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase();
        assert!(head.contains("content-type: application/pkix-crl"), "{head}");
        // `get` reads text; the octets are those of the file.
        crls += &succeed(Command::new("openssl").args(["crl", "-inform", "DER", "-in"]).arg(file));
    }
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("crls.pem", &crls);
    put("leaf.pem", &certificate.pem());
    for name in ["root.pem", "issuing.pem"] {
        std::fs::copy(lab.dir.join("state/public").join(name), dir.path().join(name)).unwrap();
    }
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile", "root.pem"])
        .args(["-untrusted", "issuing.pem", "-CRLfile", "crls.pem", "leaf.pem"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn wait_revoked(lab: &Lab, certificate: &Certificate) {
    let began = now();
    loop {
        let said = verify(lab, certificate);
        if said.contains("certificate revoked") {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{said}\n{}", lab.log_tail());
        pause(Duration::from_millis(50));
    }
}

#[test]
fn a_revoked_device_is_refused_whoever_revoked_it_and_whatever_was_killed() {
    let plant = Plant::start(Options::default());
    let (lab, runtime) = (&plant.lab, &plant.runtime);
    let mut acme = plant.registered();
    let devices = ["a.revoked.test", "b.revoked.test", "c.revoked.test"]
        .map(|name| plant.enrol(&mut acme, &[name]));
    for device in &devices {
        assert!(verify(lab, device).contains("leaf.pem: OK"));
    }

    // By the account, and once.
    let answer = runtime.block_on(acme.revoke(devices[0].der(), 4)).unwrap();
    assert_eq!(answer, (200, String::new()));
    wait_revoked(lab, &devices[0]);
    let again = format!("{:?}", runtime.block_on(acme.revoke(devices[0].der(), 4)).unwrap_err());
    assert!(again.contains("400") && again.contains("alreadyRevoked"), "{again}");

    // By the operator: told first what would happen.
    let serial = devices[1].serial().unwrap().to_string();
    let cert = |arguments: &[&str]| {
        let mut command = lab.chancery();
        command.arg("cert").args(arguments);
        command
    };
    let output = cert(&["revoke", &serial]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("b.revoked.test"), "{told}");
    assert!(verify(lab, &devices[1]).contains("leaf.pem: OK"));
    let told = succeed(&mut cert(&["revoke", &serial, "--reason", "key-compromise", "--yes"]));
    assert!(told.contains(devices[1].crl_url().unwrap()), "{told}");
    wait_revoked(lab, &devices[1]);
    let output = cert(&["revoke", &serial, "--yes"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("CHY-CERT-REVOKED"));

    let list = |arguments: &[&str]| -> Vec<String> {
        let text = succeed(cert(&["list", "--json"]).args(arguments));
        let lines: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        lines.iter().map(|line| line["names"][0].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(&["--name", "*.revoked.test"]).len(), 3);
    assert_eq!(list(&["--name", "c.revoked.test"]), ["c.revoked.test"]);
    assert_eq!(list(&["--revoked"]).len(), 2);
    assert!(list(&["--days", "1"]).is_empty());
    let shown = succeed(&mut cert(&["show", &serial]));
    assert!(shown.contains("revoked") && shown.contains("keyCompromise"), "{shown}");
    assert_eq!(succeed(&mut cert(&["show", &serial, "--pem"])).trim(), devices[1].pem().trim());
    let record = succeed(lab.chancery().args(["log", "list", "--kind", "revoked"]));
    let user = succeed(Command::new("id").arg("-un"));
    assert!(record.contains(user.trim()), "the operator is named: {record}");

    // The issuer dies as soon as the record is durable.
    let issuer = lab.process("issuer").unwrap();
    let answer = runtime.block_on(acme.revoke(devices[2].der(), 5)).unwrap();
    signal(issuer, "KILL");
    assert_eq!(answer.0, 200);
    lab.wait_gone(issuer);
    wait_revoked(lab, &devices[2]);
    lab.wait_ready(Duration::from_secs(30));
    succeed(lab.chancery().args(["log", "verify"]));
    let complete = lab.dir.join("state/public/crl/issuing.crl");
    assert!(text_of(&complete).matches("Serial Number:").count() >= 3, "made anew at the start");
}

fn text_of(crl: &Path) -> String {
    let began = now();
    loop {
        let text = succeed(
            Command::new("openssl")
                .args(["crl", "-inform", "DER", "-noout", "-text", "-in"])
                .arg(crl),
        );
        if text.matches("Serial Number:").count() >= 3 || began.elapsed() > Duration::from_secs(20)
        {
            return text;
        }
        pause(Duration::from_millis(50));
    }
}
