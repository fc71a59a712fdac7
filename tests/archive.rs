//! What keeps the log for years: segments sealed, archived to other storage, verified there, read from there. A real
//! box on a real file system.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use chancery::tlog::note::VerifierKey;
use lab::{Lab, Options, segments};

/// Runs to the end: exit code, and everything that was said.
fn run(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

fn json(command: &mut Command) -> serde_json::Value {
    serde_json::from_str(&lab::succeed(command)).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A box whose log has complete segments, and the directory of its log.
fn filled(directory: &Path) -> (Lab, PathBuf) {
    let more = "\n[log]\nsegment-mib = 1\nreserve-mib = 1\n".to_owned();
    let lab = Lab::start_in(directory, Options { more, ..Options::default() });
    let log = lab.dir.join("state/issuer/log");
    lab.fill_segment();
    // What no checkpoint covers yet is not archived.
    let stem = segments(&log).last().unwrap().file_stem().unwrap().to_owned();
    let complete: u64 = stem.to_str().unwrap().parse().unwrap();
    for _ in 0..300 {
        let checkpoint =
            std::fs::read_to_string(lab.dir.join("state/public/checkpoint")).unwrap_or_default();
        let size: u64 = checkpoint.lines().nth(1).map_or(0, |size| size.parse().unwrap());
        if size >= complete {
            return (lab, log);
        }
        lab::pause(std::time::Duration::from_millis(100));
    }
    panic!("no checkpoint covers the {complete} records of complete segments");
}

#[test]
fn complete_segments_are_archived_verified_there_and_read_from_there() {
    let directory = tempfile::tempdir().unwrap();
    let (mut lab, log) = filled(directory.path());
    let cold = lab.dir.join("cold/archive");
    let archive =
        |lab: &Lab| json(lab.chancery().args(["log", "archive", "--json", "--to"]).arg(&cold));
    let verify = |lab: &Lab| run(lab.chancery().args(["log", "verify", "--dir"]).arg(&cold));

    let first = archive(&lab);
    let live = segments(&log);
    assert_eq!(first["copied"], live.len() - 1);
    assert_eq!(archive(&lab)["copied"], 0);
    let (exit, text) = verify(&lab);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("this is an archive") && text.contains("the log is sound"), "{text}");
    let copies = segments(&cold);
    for (copy, of) in copies.iter().zip(&live) {
        assert_eq!((mode(copy), mode(of)), (0o400, 0o400));
        assert!(std::fs::read(copy).unwrap() == std::fs::read(of).unwrap());
    }
    assert_eq!(mode(live.last().unwrap()), 0o600, "the one that is written");
    // Strangers need nothing of ours to see that the copies are whole.
    let text = std::fs::read_to_string(cold.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sums: String = manifest["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{}  {}\n", s["sha256"].as_str().unwrap(), s["file"].as_str().unwrap()))
        .collect();
    std::fs::write(lab.dir.join("SHA256SUMS"), sums).unwrap();
    let mut sha256sum = Command::new("sha256sum");
    lab::succeed(sha256sum.arg("-c").arg(lab.dir.join("SHA256SUMS")).current_dir(&cold));

    // One bit, on the storage where nobody looks for years.
    let whole = std::fs::read(&copies[0]).unwrap();
    let mut changed = whole.clone();
    changed[5_000] ^= 1;
    let rewrite = |octets: &[u8]| {
        std::fs::set_permissions(&copies[0], std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&copies[0], octets).unwrap();
        std::fs::set_permissions(&copies[0], std::fs::Permissions::from_mode(0o400)).unwrap();
    };
    rewrite(&changed);
    let (exit, text) = verify(&lab);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("00000000000000000000.seg: it is not what was archived"), "{text}");
    rewrite(&whole);

    // The log goes on, and so does the archive.
    lab.fill_segment();
    let second = archive(&lab);
    assert!(second["copied"].as_u64().unwrap() >= 1, "{second}");
    assert_eq!(verify(&lab).0, 0);

    // A segment may lie on other storage, if that is there.
    lab.stop();
    let elsewhere = &segments(&log)[0];
    std::fs::remove_file(elsewhere).unwrap();
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 78, "{text}");
    assert!(text.contains("CHY-LOG-DAMAGED"), "a segment is missing: {text}");
    std::os::unix::fs::symlink(&copies[0], elsewhere).unwrap();
    lab.serve();
    lab::succeed(lab.chancery().args(["log", "verify"]));
    let (_, text) = run(lab.chancery().arg("doctor"));
    assert!(text.contains("complete segments, 0 immutable, 1 on other storage"), "{text}");
    lab.stop();
    std::fs::rename(lab.dir.join("cold"), lab.dir.join("unmounted")).unwrap();
    let (exit, text) = run(lab.chancery().arg("issuer"));
    assert_eq!(exit, 75, "{text}");
    assert!(text.contains("CHY-LOG-COLD: "), "{text}");
}

/// An auditor with the log's public key, the CA's public certificates and a disk from the shelf; no box, no
/// configuration, no token.
#[test]
fn an_auditor_needs_the_archive_and_the_key_that_came_by_another_way() {
    let directory = tempfile::tempdir().unwrap();
    let (lab, _) = filled(directory.path());
    let cold = lab.dir.join("cold");
    lab::succeed(lab.chancery().args(["log", "archive", "--to"]).arg(&cold));
    let key = lab::succeed(lab.chancery().args(["log", "key"])).trim().to_owned();
    let ca = lab.dir.join("ca.pem");
    let certificates = ["/root.pem", "/issuing.pem"].map(|path| lab::get(lab.http, path).unwrap());
    std::fs::write(&ca, certificates.concat()).unwrap();
    let state = lab.dir.join("state");
    drop(lab);
    let auditor = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.env("CHANCERY_CONFIG", "/nonexistent/chancery.toml").args(arguments);
        run(command.arg("--dir").arg(&cold))
    };
    let ca = ca.to_str().unwrap();

    let (exit, text) = auditor(&["log", "verify", "--key", &key, "--ca", ca]);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("this is an archive") && text.contains("the log is sound"), "{text}");
    assert!(
        !text.contains("not verified") && !text.contains("taken from the log itself"),
        "{text}"
    );
    let (exit, text) = auditor(&["log", "verify", "--key", &key]);
    assert_eq!(exit, 0, "{text}");
    assert!(
        text.contains("no issuing certificate was given: signatures are not verified"),
        "{text}"
    );
    let (exit, text) = auditor(&["log", "audit", "--key", &key, "--verify", "--format", "csv"]);
    assert_eq!(exit, 0, "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("0,") && line.contains(",ceremony,")),
        "{text}"
    );

    // A copy of a whole box: CRLs and tiles too.
    let mut whole = Command::new(env!("CARGO_BIN_EXE_chancery"));
    whole.env("CHANCERY_CONFIG", "/nonexistent/chancery.toml");
    whole.args(["log", "verify", "--key", &key, "--ca", ca, "--dir"]).arg(state.join("issuer/log"));
    let (exit, text) = run(whole.arg("--public").arg(state.join("public")));
    assert!(exit == 0 && text.contains("; 9 published CRLs compared"), "{exit}: {text}");
    assert!(!text.contains("note: "), "{text}");

    // Somebody else's key, a witness's, no directory; a period that ends before it begins.
    let own: VerifierKey = key.parse().unwrap();
    let spki = [&own.spki()[..12], &[9; 32]].concat();
    let other = VerifierKey::from_spki(own.name(), &spki).unwrap().to_string();
    let (exit, text) = auditor(&["log", "verify", "--key", &other]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("the log key is not the expected one"), "{text}");
    let elsewhere = VerifierKey::from_spki("other.lan/log", own.spki()).unwrap().to_string();
    let (exit, text) = auditor(&["log", "verify", "--key", &elsewhere]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("and not other.lan/log as expected"), "{text}");
    let witness = VerifierKey::cosigner("w.lan", own.spki()).unwrap().to_string();
    let (exit, text) = auditor(&["log", "verify", "--key", &witness]);
    assert!(exit == 78 && text.starts_with("CHY-VKEY: "), "{exit}: {text}");
    let (exit, text) = auditor(&["log", "verify", "--key", &key, "--witness", &key]);
    assert!(exit == 78 && text.starts_with("CHY-VKEY: "), "{exit}: {text}");
    let mut alone = Command::new(env!("CARGO_BIN_EXE_chancery"));
    assert_eq!(run(alone.args(["log", "verify", "--key", &key])).0, 2);
    let swapped = ["log", "audit", "--key", &key, "--since", "2026-12-01", "--until", "2026-11-01"];
    let (exit, text) = auditor(&swapped);
    assert!(exit == 78 && text.starts_with("CHY-USAGE: "), "{exit}: {text}");
}

#[test]
fn segments_are_allocated_private_and_immutable_where_that_can_be_and_have_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let (mut lab, log) = filled(directory.path());
    assert_eq!(mode(&log), 0o700);
    for name in ["reserve", "lock"] {
        assert_eq!(mode(&log.join(name)), 0o600, "{name}");
    }
    for path in segments(&log).iter().chain([&log.join("reserve")]) {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!(found.len(), 1 << 20, "{}", path.display());
        assert!(found.blocks() * 512 >= found.len(), "{} has holes", path.display());
    }
    // The lock is the kernel's: another process finds it held, whatever its socket would say.
    let held = Command::new("flock")
        .args(["--nonblock", "--exclusive"])
        .arg(log.join("lock"))
        .arg("true")
        .status();
    assert_eq!(held.unwrap().code(), Some(1), "nobody holds the log's lock");

    let (exit, text) = run(lab.chancery().args(["log", "seal"]));
    if exit != 0 {
        assert!(text.contains("CHY-LOG-UNSEALED: "), "{text}");
        return eprintln!("left out: no immutable files here: {text}");
    }
    let complete = segments(&log)[0].clone();
    let octets = std::fs::read(&complete).unwrap();
    let refused =
        std::fs::write(&complete, b"other").err().zip(std::fs::remove_file(&complete).err());
    assert_eq!(std::fs::read(&complete).unwrap(), octets);
    // The box does not mind.
    lab.stop();
    lab.serve();
    let (_, text) = run(lab.chancery().arg("doctor"));
    lab.stop();
    lab::succeed(lab.chancery().args(["log", "seal", "--undo"]));
    assert!(refused.is_some(), "an immutable segment was changed");
    assert!(text.contains(" complete segments, 1 immutable"), "{text}");
    std::fs::remove_file(complete).unwrap();
}
