//! A reader in another language (`tests/reader/reader.py`), written from docs/records.md alone, reads the log of a real
//! box and says the same of it as the program: every field of every record, every certificate, the checkpoint and its
//! signature by the token.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use base64ct::{Base64, Encoding};
use plant::Plant;
use plant::lab::{Lab, Options, succeed};
use serde_json::Value;

fn stranger(lab: &Lab, certificates: &Path) -> Output {
    lab.stranger().arg("--certificates").arg(certificates).output().unwrap()
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    Base64::decode_vec(&base64).unwrap()
}

#[test]
fn a_stranger_reads_the_log_of_a_real_box() {
    let mut plant = Plant::start(Options::default());
    let mut acme = plant.registered();
    let (lab, runtime) = (&mut plant.lab, &plant.runtime);
    let chain = runtime.block_on(async {
        let chain = acme.order(&["a.reader.test"]).await.unwrap().chain;
        acme.order(&["b.reader.test", "c.reader.test"]).await.unwrap();
        chain
    });
    let first = chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    assert_eq!(runtime.block_on(acme.revoke(&der(first), 4)).unwrap().0, 200);
    lab.stop();
    // Another configuration from here on.
    let file = lab.dir.join("chancery.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("retry-seconds = 1", "retry-seconds = 2")).unwrap();
    lab.serve();
    lab.stop();

    let certificates = lab.dir.join("certificates");
    std::fs::create_dir(&certificates).unwrap();
    let read = stranger(lab, &certificates);
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let theirs = objects(std::str::from_utf8(&read.stdout).unwrap());
    let mut ours = objects(&succeed(lab.chancery().args(["log", "export"])));
    for record in &mut ours {
        record.as_object_mut().unwrap().remove("names");
    }
    assert_eq!(theirs, ours);
    let listed = succeed(lab.chancery().args(["--json", "log", "list", "--kind", "issued,intent"]));
    assert!(objects(&listed).iter().all(|r| r["kind"] == "issued" || r["kind"] == "intent"));

    let pems = succeed(lab.chancery().args(["log", "export", "--format", "pem"]));
    let ours: BTreeSet<Vec<u8>> =
        pems.split_inclusive("-----END CERTIFICATE-----\n").map(der).collect();
    let theirs_der: BTreeSet<Vec<u8>> = std::fs::read_dir(&certificates)
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(theirs_der, ours);
    assert!(ours.contains(&der(first)) && ours.len() == 3, "{} certificates", ours.len());

    // What a box records by itself is all there, starts and configurations first.
    let of = |kind: &str| theirs.iter().filter(|r| r["kind"] == kind).collect::<Vec<_>>();
    for kind in ["ceremony", "account", "intent", "issued", "crl", "revoked"] {
        assert!(!of(kind).is_empty(), "{kind}");
    }
    let (started, configs) = (of("started"), of("config"));
    assert_eq!((started.len(), configs.len()), (2, 2));
    assert_eq!(
        (&started[0]["previous"], &started[1]["previous"]),
        (&"unknown".into(), &"clean".into())
    );
    assert_eq!(configs[1]["changed"], serde_json::json!(["validation.retry-seconds"]));
    assert_eq!(configs[1]["former"], configs[0]["sha256"]);
    assert_eq!(started[1]["config_sha256"], configs[1]["sha256"]);
    assert!(started[1]["program_sha256"].is_string() && started[1]["token"]["model"].is_string());
    let shown = succeed(lab.chancery().args(["config", "show"]));
    let digest = configs[1]["sha256"].as_str().unwrap();
    let policy = configs[1]["parts"].as_array().unwrap().iter().find(|p| p["name"] == "policy");
    let policy = policy.unwrap()["sha256"].as_str().unwrap();
    assert!(shown.contains(digest) && shown.contains(policy), "{digest} {policy}\n{shown}");

    // One bit of one record.
    let segment = lab.dir.join("state/issuer/log/00000000000000000000.seg");
    let mut octets = std::fs::read(&segment).unwrap();
    octets[300] ^= 4;
    std::fs::write(&segment, octets).unwrap();
    assert!(!stranger(lab, &certificates).status.success());
}
