//! The log's key and the root's CRL, years after the ceremony: real boxes with SoftHSM2, while devices order.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use plant::Plant;
use plant::lab::{self, Lab, Options, chancery, crash_issuer, done, eventually, refused};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Orders one certificate after another until told to stop; failures are tried again.
struct Load {
    stop: Arc<AtomicBool>,
    issued: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(plant: &Plant) -> Self {
        let (stop, issued) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut client = plant.registered();
        let (halt, count) = (Arc::clone(&stop), Arc::clone(&issued));
        let runtime = Arc::clone(&plant.runtime);
        let thread = std::thread::spawn(move || {
            for n in 0.. {
                if halt.load(Ordering::SeqCst) {
                    return;
                }
                let name = format!("device-{n}.test");
                match runtime.block_on(client.order(&[&name])) {
                    Ok(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
                    // The issuer is away for a moment.
                    Err(_) => lab::pause(Duration::from_millis(100)),
                }
            }
        });
        Self { stop, issued, thread: Some(thread) }
    }

    /// Waits until `more` certificates have come since.
    fn goes_on(&self, lab: &Lab, more: usize) {
        let before = self.issued.load(Ordering::SeqCst);
        eventually(lab, "orders go on", || self.issued.load(Ordering::SeqCst) >= before + more);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Which of the log's keys sign the published checkpoint, oldest first.
fn signing(lab: &Lab) -> Vec<bool> {
    let told = done(chancery(lab, &["--json", "log-key", "show"]));
    let keys: serde_json::Value = serde_json::from_str(&told).unwrap();
    keys.as_array().unwrap().iter().map(|key| key["signs"].as_bool().unwrap()).collect()
}

fn sound(lab: &Lab, checkpoints: &[&Path]) -> Output {
    let mut command = lab.chancery();
    command.args(["log", "verify"]);
    for checkpoint in checkpoints {
        command.arg("--checkpoint").arg(checkpoint);
    }
    command.output().unwrap()
}

#[test]
fn the_log_key_is_rotated_while_devices_order() {
    let more = "\n[log]\nsegment-mib = 1\nreserve-mib = 1\n".to_owned();
    let plant = Plant::start(Options { more, ..Options::default() });
    let lab = &plant.lab;
    // What will be archived is from before the rotation.
    lab.fill_segment();
    let load = Load::on(&plant);
    load.goes_on(lab, 2);
    let archived = || {
        done(chancery(lab, &["log", "archive", "--to", "cold"]));
        let told = done(chancery(lab, &["log", "verify", "--dir", "cold"]));
        assert!(told.contains("this is an archive"), "{told}");
    };
    let keys = || done(chancery(lab, &["log", "key"])).lines().count();
    archived();
    let file = lab.ceremony_file("log-key");
    let file = file.to_str().unwrap();
    let rotate =
        |more: &[&str]| chancery(lab, &[&["ceremony", "rotate-log-key", file][..], more].concat());
    let checkpoint = lab.dir.join("state/public/checkpoint");
    let keep = |name: &str| {
        let kept = lab.dir.join(name);
        std::fs::copy(&checkpoint, &kept).unwrap();
        kept
    };

    refused(&rotate(&[]), "CHY-CONFIRM");
    let before = keep("before.txt");
    // Killed at the commit: the new authority.json is longer than the old, and than everything before it.
    let authority = lab.dir.join("state/ca/authority.json");
    let old = std::fs::read(&authority).unwrap();
    let killed = lab
        .chancery_under("prlimit", &[&format!("--fsize={}", old.len())])
        .args(["ceremony", "rotate-log-key", file, "--yes"])
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(25), "no SIGXFSZ: {killed:?}");
    assert_eq!(std::fs::read(&authority).unwrap(), old);
    assert!(lab.dir.join("state/ca/unfinished.json").exists());
    refused(&rotate(&["--yes"]), "CHY-CEREMONY-UNFINISHED");
    crash_issuer(lab);
    assert_eq!(signing(lab), [true]);
    let told = done(rotate(&["--yes", "--discard-unfinished"]));
    assert!(told.contains("taking over") && told.contains("Restart the issuer"), "{told}");
    refused(&rotate(&["--yes"]), "CHY-LOG-KEY-BUSY");
    // Made, and not yet in the log: the running issuer knows nothing of it.
    assert_eq!(signing(lab), [true, false]);
    refused(&chancery(lab, &["log-key", "retire", "--yes"]), "CHY-LOG-KEY-ALONE");

    crash_issuer(lab);
    eventually(lab, "both keys sign", || signing(lab) == [true, true]);
    load.goes_on(lab, 2);
    let during = keep("during.txt");
    archived();
    assert_eq!(keys(), 2);
    crash_issuer(lab);
    load.goes_on(lab, 1);
    assert_eq!(signing(lab), [true, true]);
    let finish = |more: &[&str]| {
        chancery(lab, &[&["ceremony", "finish-log-key", file, "--yes"][..], more].concat())
    };
    refused(&finish(&["--remove"]), "CHY-LOG-KEY-BUSY");

    done(chancery(lab, &["log-key", "retire", "--yes"]));
    eventually(lab, "the new key signs alone", || signing(lab) == [false, true]);
    refused(&chancery(lab, &["log-key", "retire", "--yes"]), "CHY-LOG-KEY-ALONE");
    let told = done(chancery(lab, &["ceremony", "finish-log-key", file, "--remove", "--rehearse"]));
    assert!(told.starts_with("REHEARSAL") && told.contains("removed"), "{told}");
    let told = done(finish(&["--remove"]));
    assert!(told.contains("done with") && told.contains("removed"), "{told}");
    assert!(done(finish(&["--remove"])).contains("removed"), "asked again, it goes on");
    crash_issuer(lab);
    load.goes_on(lab, 2);
    drop(load);
    archived();
    assert_eq!(keys(), 1);

    // Every record, and every checkpoint of all three times.
    let told = done(sound(lab, &[&before, &during]));
    assert!(!told.contains("log key is taken from the log"), "{told}");
    let rotations = done(chancery(lab, &["log", "list", "--kind", "log-key"]));
    assert_eq!(rotations.matches("another log key").count(), 1, "{rotations}");
    // And by a reader in another language, which follows the keys from the first.
    let output =
        lab.stranger().arg("--checkpoint").arg(&before).arg("--checkpoint").arg(&during).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(", 4 checkpoints"), "{said}");
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(theirs.matches("\"LogKeyRotatedV1\"").count(), 1, "{theirs}");
    // With the former key's line alone it is no checkpoint of the cross-over.
    let text = std::fs::read_to_string(&during).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [body @ .., _former, new] = lines.as_slice() else { panic!("{text}") };
    let forged = lab.dir.join("forged.txt");
    std::fs::write(&forged, format!("{}\n{new}\n", body.join("\n"))).unwrap();
    assert!(!sound(lab, &[&forged]).status.success());
    // ca/ as it was before the ceremony does not fit this log any more.
    let pid = lab.process("issuer").unwrap();
    let newest = std::fs::read(&authority).unwrap();
    std::fs::write(&authority, &old).unwrap();
    lab::signal(pid, "KILL");
    eventually(lab, "the start is refused", || lab.log_tail().contains("CHY-LOG-KEY:"));
    std::fs::write(&authority, &newest).unwrap();
}

#[test]
fn another_crl_of_the_root_is_published_and_recorded_and_a_revoked_ca_issues_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(directory.path(), Options::default());
    let public = lab.dir.join("state/public");
    let file = format!("{REPOSITORY}/hsm/ceremony/lab.toml");
    let sign = |more: &[&str]| {
        chancery(&lab, &[&["ceremony", "root-crl", &file, "--out", "out.crl"][..], more].concat())
    };
    let openssl = |arguments: &[&str]| {
        Command::new("openssl").args(arguments).current_dir(&public).output().unwrap()
    };
    let number = || {
        let told = done(openssl(&[
            "crl",
            "-inform",
            "DER",
            "-in",
            "crl/root.crl",
            "-noout",
            "-crlnumber",
        ]));
        u64::from_str_radix(told.trim().trim_start_matches("crlNumber=0x"), 16).unwrap()
    };
    let recorded = || {
        let told = done(chancery(&lab, &["log", "list", "--kind", "crl"]));
        told.lines().filter(|line| line.contains("/crl/root.crl ")).count()
    };
    eventually(&lab, "the ceremony's own is recorded", || recorded() == 1);
    assert_eq!(number(), 1);
    refused(&sign(&[]), "CHY-CONFIRM");
    done(sign(&["--yes"]));
    let second = number();
    assert!(second > 1_700_000_000_000, "{second}");
    assert_eq!(
        std::fs::read(lab.dir.join("out.crl")).unwrap(),
        std::fs::read(public.join("crl/root.crl")).unwrap()
    );
    crash_issuer(&lab);
    eventually(&lab, "the second is recorded", || recorded() == 2);
    let told = done(chancery(&lab, &["status"]));
    assert!(told.contains(&format!("root's CRL  number {second}, until ")), "{told}");
    done(sound(&lab, &[]));

    // An older one put back is not published again.
    let kept = lab.dir.join("state/ca/root.crl");
    let newest = std::fs::read(&kept).unwrap();
    done(sign(&["--yes"]));
    crash_issuer(&lab);
    eventually(&lab, "the third is recorded", || recorded() == 3);
    let third = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, &newest).unwrap();
    crash_issuer(&lab);
    eventually(&lab, "it is said", || {
        lab::get(lab.http, "/readyz").is_some_and(|answer| answer.contains("CHY-ROOT-CRL-OLD"))
    });
    assert_eq!(std::fs::read(public.join("crl/root.crl")).unwrap(), third);
    std::fs::write(&kept, &third).unwrap();

    let serial = done(openssl(&["x509", "-in", "issuing.pem", "-noout", "-serial"]));
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_owned();
    let pem = |name: &str| {
        done(openssl(&["crl", "-inform", "DER", "-in", "crl/root.crl", "-out", name]));
        openssl(&[
            "verify",
            "-x509_strict",
            "-crl_check_all",
            "-CAfile",
            "root.pem",
            "-CRLfile",
            name,
            "issuing.pem",
        ])
    };
    done(pem("../third.pem"));
    let mut wrong = serial.clone().into_bytes();
    wrong[20] = if wrong[20] == b'0' { b'1' } else { b'0' };
    let wrong = String::from_utf8(wrong).unwrap();
    refused(&sign(&["--yes", "--revoke", &wrong]), "CHY-ROOT-REVOKE");
    assert!(!sign(&["--yes", "--revoke", &serial, "--reason", "certificateHold"]).status.success());
    done(sign(&["--yes", "--revoke", &serial, "--reason", "keyCompromise"]));
    let told = pem("../fourth.pem");
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
    assert!(told.contains("certificate revoked"), "{told}");
    let text = done(openssl(&["crl", "-in", "../fourth.pem", "-noout", "-text"]));
    assert!(text.contains("Key Compromise"), "{text}");
    refused(&sign(&["--yes", "--revoke", &serial]), "CHY-ROOT-REVOKED");

    lab::signal(lab.process("issuer").unwrap(), "KILL");
    eventually(&lab, "it is out of business", || {
        lab::get(lab.http, "/readyz").is_some_and(|answer| {
            answer.starts_with("HTTP/1.1 503") && answer.contains("CHY-CA-REVOKED")
        })
    });
    eventually(&lab, "and says so in its log", || recorded() == 4);
    // The next one lists it again.
    done(sign(&["--yes"]));
    let text = done(openssl(&["crl", "-inform", "DER", "-in", "crl/root.crl", "-noout", "-text"]));
    assert!(text.contains(&serial) && text.contains("Key Compromise"), "{text}");
}

/// The TLS key of the certificate that is served, by the digest of its public key.
fn served_key(lab: &Lab) -> String {
    let told = Command::new("sh")
        .args([
            "-c",
            "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -pubkey",
        ])
        .arg(lab.acme.to_string())
        .output()
        .unwrap();
    done(told)
}

#[test]
fn the_tls_key_is_rotated_and_no_handshake_fails() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(directory.path(), Options::default());
    let text = std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/tls-key.toml")).unwrap();
    let file = lab.dir.join("tls-key.toml");
    std::fs::write(&file, text.replace("../key/", &format!("{REPOSITORY}/hsm/key/"))).unwrap();
    let file = file.to_str().unwrap();
    let ceremony =
        |verb: &str, more: &[&str]| chancery(&lab, &[&["ceremony", verb, file][..], more].concat());
    refused(&ceremony("finish-tls-key", &["--yes"]), "CHY-TLS-KEY-ALONE");
    refused(&ceremony("rotate-tls-key", &[]), "CHY-CONFIRM");
    let former = served_key(&lab);

    // Handshakes all the while, each on a connection of its own; while the issuer starts they wait.
    let stop = Arc::new(AtomicBool::new(false));
    let greeted = Arc::new(AtomicUsize::new(0));
    let (halt, count, address) = (Arc::clone(&stop), Arc::clone(&greeted), lab.acme.to_string());
    let greeting = std::thread::spawn(move || {
        while !halt.load(Ordering::SeqCst) {
            let told = Command::new("timeout")
                .args(["30", "openssl", "s_client", "-connect", &address])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            assert!(told.contains("BEGIN CERTIFICATE"), "a handshake failed:\n{told}");
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    // One that waited is over, and the next one: no handshake lasts as long as a rotation.
    let greetings_go_on = || {
        let before = greeted.load(Ordering::SeqCst);
        eventually(&lab, "handshakes go on", || {
            greeting.is_finished() || greeted.load(Ordering::SeqCst) > before + 1
        });
    };
    done(ceremony("rotate-tls-key", &["--yes"]));
    refused(&ceremony("rotate-tls-key", &["--yes"]), "CHY-TLS-KEY-BUSY");
    refused(&ceremony("finish-tls-key", &["--yes", "--remove"]), "CHY-TLS-KEY-BUSY");
    assert_eq!(served_key(&lab), former, "the running issuer knows nothing of it");
    crash_issuer(&lab);
    eventually(&lab, "the new key is served", || served_key(&lab) != former);
    let new = served_key(&lab);
    greetings_go_on();
    crash_issuer(&lab);
    assert_eq!(served_key(&lab), new);
    greetings_go_on();
    let told = done(ceremony("finish-tls-key", &["--remove", "--rehearse"]));
    assert!(told.starts_with("REHEARSAL") && told.contains("DESTROYED chancery-tls\n"), "{told}");
    let told = done(ceremony("finish-tls-key", &["--yes", "--remove"]));
    assert!(told.contains("DESTROYED chancery-tls\n"), "{told}");
    crash_issuer(&lab);
    assert_eq!(served_key(&lab), new);
    greetings_go_on();
    stop.store(true, Ordering::SeqCst);
    greeting.join().unwrap();
    let told = done(ceremony("finish-tls-key", &["--yes", "--remove"]));
    assert!(told.contains("objects       0"), "asked again, it goes on: {told}");
    let token = done(chancery(&lab, &["ceremony", "check-token"]));
    assert_eq!(token.matches("chancery-tls").count(), 1, "{token}");
    eventually(&lab, "both ceremonies are recorded", || {
        let told = done(chancery(&lab, &["log", "list", "--kind", "ceremony"]));
        told.contains("rotate-tls-key") && told.contains("finish-tls-key")
    });
    done(sound(&lab, &[]));
}
