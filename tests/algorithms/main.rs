//! Keys of other kinds than the lab's, from the ceremony to a device's certificate: real boxes on SoftHSM2, judged by
//! openssl. What SoftHSM2 lacks (ML-DSA) is refused before a key is made, and made on kryoptic.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/kryoptic.rs"]
#[allow(unreachable_pub, reason = "a module of a test program")]
mod kryoptic;
#[path = "../support/plant.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod plant;
mod post_quantum;

use std::path::PathBuf;
use std::process::Command;

use chancery::pki::authority::Authority;
use chancery::pki::certificate::Certificate;
use plant::Plant;
use plant::lab::{Lab, Options, succeed};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Kind and signature of each key, in the words of key files.
struct Keys {
    root: (&'static str, Option<&'static str>),
    issuing: (&'static str, Option<&'static str>),
    log: &'static str,
    tls: &'static str,
}

/// The lab's ceremony with other keys; its file.
fn ceremony(lab: &Lab, keys: &Keys) -> PathBuf {
    let mut text = std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/lab.toml")).unwrap();
    for (name, kind, signature, token) in [
        ("root", keys.root.0, keys.root.1, "root"),
        ("issuing", keys.issuing.0, keys.issuing.1, "online"),
        ("log", keys.log, None, "online"),
        ("tls", keys.tls, None, "online"),
    ] {
        let signature =
            signature.map_or(String::new(), |signature| format!("signature = \"{signature}\"\n"));
        let file = lab.dir.join(format!("{name}.toml"));
        let label = format!("chancery-{name}");
        let key = format!(
            "name = \"{name}\"\nlabel = \"{label}\"\nkind = \"{kind}\"\n{signature}token = \"{token}\"\n"
        );
        std::fs::write(&file, key).unwrap();
        text = text.replace(&format!("../key/{name}.toml"), file.to_str().unwrap());
    }
    let file = lab.dir.join("other-keys.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn openssl(lab: &Lab, arguments: &[&str]) -> String {
    succeed(Command::new("openssl").args(arguments).current_dir(&lab.dir))
}

/// Holds the ceremony, serves, orders, revokes; openssl verifies what came of it.
fn stands(keys: &Keys, root_says: &str, issuing_says: &str) {
    let mut plant = Plant::without_ceremony(Options::default());
    let file = ceremony(&plant.lab, keys);
    let runtime = std::sync::Arc::clone(&plant.runtime);
    let lab = &mut plant.lab;
    let told = succeed(lab.chancery().args(["ceremony", "run"]).arg(file).arg("--yes"));
    assert!(told.contains(&format!("{}, signs ", keys.issuing.0)), "{told}");
    let authority: Authority =
        serde_json::from_slice(&std::fs::read(lab.dir.join("state/ca/authority.json")).unwrap())
            .unwrap();
    let root_key = authority.root_key.as_ref().unwrap();
    assert_eq!(root_key.signature.as_deref(), keys.root.1.filter(|s| *s != "pkcs1-sha256"));
    lab.serve();

    let mut client = plant.registered();
    let issued = runtime.block_on(client.order(&["nas.test"])).unwrap();
    let lab = &mut plant.lab;
    std::fs::write(lab.dir.join("chain.pem"), &issued.chain).unwrap();
    let leaf = issued.chain.split_inclusive("-----END CERTIFICATE-----").next().unwrap();
    std::fs::write(lab.dir.join("leaf.pem"), leaf).unwrap();
    let leaf = Certificate::parse_pem(leaf).unwrap();
    let crl = leaf.crl_url().unwrap().strip_prefix("http://localhost:8080/").unwrap().to_owned();
    for (path, name) in [(crl.as_str(), "issuing.crl"), ("crl/root.crl", "root.crl")] {
        let path = format!("state/public/{path}");
        openssl(lab, &["crl", "-inform", "DER", "-in", &path, "-out", name]);
    }
    let crls = ["issuing.crl", "root.crl"]
        .map(|name| std::fs::read_to_string(lab.dir.join(name)).unwrap())
        .concat();
    std::fs::write(lab.dir.join("crls.pem"), crls).unwrap();
    openssl(
        lab,
        &[
            "verify",
            "-x509_strict",
            "-crl_check_all",
            "-extended_crl",
            "-CAfile",
            "state/public/root.pem",
            "-CRLfile",
            "crls.pem",
            "-untrusted",
            "chain.pem",
            "leaf.pem",
        ],
    );
    for (file, says) in [("state/public/root.pem", root_says), ("leaf.pem", issuing_says)] {
        let text = openssl(lab, &["x509", "-in", file, "-noout", "-text"]);
        assert!(text.contains(&format!("Signature Algorithm: {says}")), "{says}: {text}");
    }
    // A TLS 1.3 handshake, by another library: with RSA it signs PSS or not at all.
    let address = lab.acme.to_string();
    let handshake = openssl(
        lab,
        &[
            "s_client",
            "-connect",
            &address,
            "-servername",
            "localhost",
            "-tls1_3",
            "-CAfile",
            "state/public/root.pem",
            "-verify_return_error",
        ],
    );
    assert!(handshake.contains("Verify return code: 0"), "{handshake}");

    let (status, _) = runtime.block_on(client.revoke(leaf.der(), 4)).unwrap();
    assert_eq!(status, 200);
    let doctor = succeed(lab.chancery().arg("doctor"));
    assert!(!doctor.contains("CHY-KEY"), "{doctor}");
    lab.stop();
    succeed(lab.chancery().args(["log", "verify"]));
}

#[test]
fn rsa_with_pkcs1() {
    let keys = Keys {
        root: ("rsa-3072", Some("pkcs1-sha384")),
        issuing: ("rsa-2048", None),
        log: "ec-p256",
        tls: "rsa-2048",
    };
    stands(&keys, "sha384WithRSAEncryption", "sha256WithRSAEncryption");
}

#[test]
fn rsa_with_pss() {
    let keys = Keys {
        root: ("rsa-4096", Some("pss-sha384")),
        issuing: ("rsa-3072", Some("pss-sha256")),
        log: "ed25519",
        tls: "ec-p384",
    };
    stands(&keys, "rsassaPss", "rsassaPss");
}

#[test]
fn p384_above_ed25519() {
    let keys = Keys {
        root: ("ec-p384", None),
        issuing: ("ed25519", None),
        log: "ed25519",
        tls: "ed25519",
    };
    stands(&keys, "ecdsa-with-SHA384", "ED25519");
}

#[test]
fn ed25519_above_p384() {
    let keys = Keys {
        root: ("ed25519", None),
        issuing: ("ec-p384", None),
        log: "ed25519",
        tls: "ec-p256",
    };
    stands(&keys, "ED25519", "ecdsa-with-SHA384");
}

#[test]
fn what_the_token_cannot_make_is_refused_before_any_key() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::without_ceremony(directory.path(), &Options::default());
    let keys = Keys {
        root: ("ml-dsa-87", None),
        issuing: ("ml-dsa-65", None),
        log: "ed25519",
        tls: "ec-p256",
    };
    let file = ceremony(&lab, &keys);
    let output = lab.chancery().args(["ceremony", "run"]).arg(&file).arg("--yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.starts_with("CHY-CEREMONY-MECHANISM"), "{said}");
    assert!(said.contains("ml-dsa-key-pair-gen") && said.contains("nothing was changed"), "{said}");
    assert!(!lab.dir.join("state/ca/unfinished.json").exists());
    // So another ceremony can follow on the same token.
    let keys = Keys { root: ("ec-p256", None), issuing: ("ec-p256", None), ..keys };
    succeed(lab.chancery().args(["ceremony", "run"]).arg(ceremony(&lab, &keys)).arg("--yes"));
}
