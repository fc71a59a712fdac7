//! What a client got, judged by OpenSSL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::lab::{Lab, get, now, pause, succeed};

/// What anyone can fetch over plain HTTP.
pub fn body(lab: &Lab, path: &str) -> String {
    let answer = get(lab.http, path).unwrap_or_else(|| panic!("GET {path} has no answer"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "GET {path}: {head}");
    body.to_owned()
}

/// The root as a file for OpenSSL and for clients.
pub fn save_root(lab: &Lab) {
    std::fs::write(lab.dir.join("root.pem"), body(lab, "/root.pem")).unwrap();
}

/// Leaf and issuing certificate hold under the root, strictly, with the CRLs that they name, and the leaf is for
/// exactly this SAN, written as OpenSSL does: `DNS:a.test`, `IP Address:127.0.0.1`. Returns the leaf's serial.
pub fn verify(lab: &Lab, chain: &Path, san: &str) -> String {
    let text = extension(chain, "subjectAltName");
    let names: Vec<&str> = text.lines().skip(1).flat_map(|line| line.trim().split(", ")).collect();
    assert_eq!(names, [san], "in {}", chain.display());
    let verdict = judged(lab, chain);
    assert!(verdict.contains(": OK"), "{verdict}");
    serial(chain)
}

/// The CRL that the leaf names lists it, within 20 seconds, and OpenSSL refuses the leaf for it.
pub fn revoked(lab: &Lab, chain: &Path) {
    let began = now();
    loop {
        let verdict = judged(lab, chain);
        if verdict.contains("certificate revoked") {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "not in the CRL: {verdict}");
        pause(Duration::from_millis(100));
    }
}

/// The serial number of the first certificate of a file.
pub fn serial(chain: &Path) -> String {
    let text =
        succeed(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(chain));
    text.trim().trim_start_matches("serial=").to_owned()
}

/// What `openssl verify` says of a chain, with the CRLs that the certificates name.
fn judged(lab: &Lab, chain: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let issuing = second(chain, dir.path());
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-crl_check_all", "-CAfile"]);
    command.arg(lab.dir.join("root.pem"));
    for (place, of) in [("leaf", chain), ("issuing", &issuing)] {
        command.arg("-CRLfile").arg(crl(lab, of, &dir.path().join(place)));
    }
    let output = command.arg("-untrusted").arg(&issuing).arg(chain).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Fetches the CRL that a certificate names; the lab's URLs name port 8080 for good, the box listens elsewhere.
fn crl(lab: &Lab, certificate: &Path, file: &Path) -> PathBuf {
    let text = extension(certificate, "crlDistributionPoints");
    let url = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("URI:http://"))
        .unwrap_or_else(|| panic!("{} names no CRL:\n{text}", certificate.display()));
    let path = &url[url.find('/').unwrap()..];
    let (der, pem) = (file.with_extension("crl"), file.with_extension("pem"));
    let url = format!("http://{}{path}", lab.http);
    succeed(Command::new("curl").args(["-fsS", "-o"]).arg(&der).arg(url));
    let mut convert = Command::new("openssl");
    convert.args(["crl", "-inform", "der", "-in"]).arg(&der).arg("-out").arg(&pem);
    succeed(&mut convert);
    pem
}

pub fn extension(certificate: &Path, name: &str) -> String {
    let mut command = Command::new("openssl");
    succeed(command.args(["x509", "-noout", "-ext", name, "-in"]).arg(certificate))
}

/// The second certificate of a chain, in a file of its own.
fn second(chain: &Path, dir: &Path) -> PathBuf {
    let pem = std::fs::read_to_string(chain)
        .unwrap_or_else(|error| panic!("{}: {error}", chain.display()));
    let at = pem.match_indices("-----BEGIN CERTIFICATE-----").nth(1).expect("a chain of two").0;
    let file = dir.join("second.pem");
    std::fs::write(&file, &pem[at..]).unwrap();
    file
}
