//! What a ceremony leaves, checked later; and the end of a CA. Contents:
//!
//! - a transcript is signed and in the log, an altered one is neither; a token and its copy carry the box's keys
//! - a CA is retired by name alone, not while it serves, not over certificates that are valid; then nothing is left
//! - the power fails at every step of a retirement: run again it goes on, and the log closes once

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod plant;
#[path = "support/token.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod token;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chancery::ceremony::plan::{Document, KeyFile, Plan};
use chancery::ceremony::{Attendance, Place, Tokens, execute, retire};
use chancery::env::system::{SystemClock, SystemDisk, SystemRng};
use chancery::env::{Disk, DiskFile, DiskLock};
use chancery::hsm::direct::Direct;
use chancery::hsm::pool::Pin;
use chancery::hsm::token::TokenName;
use chancery::log::reader::Reader;
use chancery::log::record::{RETIRE, Record};
use plant::Plant;
use plant::lab::{Lab, Options, chancery, done, eventually, refused, signal};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn transcript(lab: &Lab, act: &str) -> PathBuf {
    let names = std::fs::read_dir(lab.dir.join("state/ca")).unwrap();
    let mut found = names.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(&format!("transcript-{act}-")) && name.ends_with(".json")
    });
    found.next().unwrap()
}

#[test]
fn transcripts_are_signed_and_recorded_and_a_token_and_its_copy_carry_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let mut lab = Lab::prepare(directory.path(), &Options::default());
    let check =
        |path: &Path| chancery(&lab, &["ceremony", "check-transcript", path.to_str().unwrap()]);
    // The first is signed by the log key that it made.
    let first = transcript(&lab, "run");
    let told = done(check(&first));
    assert!(told.contains("leaf 0") && told.contains("by the published checkpoint"), "{told}");
    assert!(told.contains("(uid "), "{told}");
    // A later one is held while nothing runs, and recorded by the issuer that comes.
    let file = format!("{REPOSITORY}/hsm/ceremony/lab.toml");
    done(chancery(&lab, &["ceremony", "root-crl", &file, "--out", "out.crl", "--yes"]));
    let second = transcript(&lab, "root-crl");
    refused(&check(&second), "CHY-TRANSCRIPT-UNKNOWN");
    done(chancery(&lab, &["ceremony", "check-token"]));
    lab.serve();
    let check =
        |path: &Path| chancery(&lab, &["ceremony", "check-transcript", path.to_str().unwrap()]);
    eventually(&lab, "it is recorded", || check(&second).status.success());
    let told = done(check(&second));
    assert!(told.contains("root-crl (lab), held") && told.contains("operator "), "{told}");
    let listed = || done(chancery(&lab, &["log", "list", "--kind", "ceremony"]));
    assert_eq!(listed().matches("root-crl").count(), 1, "{}", listed());
    let pid = lab.process("issuer").unwrap();
    signal(pid, "KILL");
    lab.wait_gone(pid);
    lab.wait_ready(Duration::from_secs(60));
    assert_eq!(listed().matches("root-crl").count(), 1, "{}", listed());
    // Altered, or with another's signature, it is not that ceremony's.
    let copy = lab.dir.join("copy.json");
    let text = std::fs::read_to_string(&second).unwrap();
    std::fs::write(&copy, &text).unwrap();
    refused(&check(&copy), "CHY-TRANSCRIPT-UNSIGNED");
    std::fs::copy(first.with_extension("note"), copy.with_extension("note")).unwrap();
    refused(&check(&copy), "CHY-TRANSCRIPT-UNSIGNED");
    std::fs::copy(second.with_extension("note"), copy.with_extension("note")).unwrap();
    done(check(&copy));
    std::fs::write(&copy, text.replace("\"uid\": ", "\"uid\": 1")).unwrap();
    refused(&check(&copy), "CHY-TRANSCRIPT-UNKNOWN");
    done(chancery(&lab, &["log", "verify"]));

    // The token while it serves, a copy of it, and one that is another.
    let told = done(chancery(&lab, &["ceremony", "check-token"]));
    assert_eq!(told.lines().filter(|line| line.starts_with("ok")).count(), 4, "{told}");
    let spare = lab.dir.join("spare");
    let sandbox = |label: &str| {
        let mut command = Command::new(format!("{REPOSITORY}/hsm/sandbox.sh"));
        assert!(command.arg(&spare).arg(label).output().unwrap().status.success());
    };
    sandbox("chancery");
    let elsewhere = |more: &[&str]| {
        let mut command = lab.chancery();
        command.env("SOFTHSM2_CONF", spare.join("softhsm2.conf"));
        command.args(["ceremony", "check-token", "--pin-file"]).arg(spare.join("pin"));
        command.args(more).output().unwrap()
    };
    let named = ["--token", "pkcs11:token=chancery"];
    refused(&elsewhere(&named), "CHY-TOKEN-KEYS");
    std::fs::remove_dir_all(spare.join("tokens")).unwrap();
    let copied =
        Command::new("cp").arg("-r").arg(lab.dir.join("token/tokens")).arg(&spare).status();
    assert!(copied.unwrap().success());
    std::fs::copy(lab.dir.join("token/pin"), spare.join("pin")).unwrap();
    assert_eq!(done(elsewhere(&named)).matches("ok  ").count(), 4);
}

#[test]
fn a_ca_is_retired_by_its_name_and_nothing_of_it_signs_again() {
    let mut plant = Plant::start(Options::default());
    let mut client = plant.registered();
    plant.enrol(&mut client, &["device.test"]);
    let lab = &mut plant.lab;
    let file = format!("{REPOSITORY}/hsm/ceremony/retire.toml");
    let retire = |lab: &Lab, more: &[&str]| {
        chancery(lab, &[&["ceremony", "retire", &file][..], more].concat())
    };
    refused(&retire(lab, &[]), "CHY-CONFIRM");
    refused(&retire(lab, &["--yes", "Another CA"]), "CHY-CONFIRM");
    let told = String::from_utf8(retire(lab, &[]).stderr).unwrap();
    let name = told.split('"').nth(1).unwrap().to_owned();
    refused(&retire(lab, &["--yes", &name]), "CHY-LOG-BUSY");
    lab.stop();
    refused(&retire(lab, &["--yes", &name]), "CHY-RETIRE-VALID");
    done(chancery(lab, &["ceremony", "check-token"]));
    let told = done(retire(lab, &["--yes", &name, "--although-valid", "--attended-by", "Ada"]));
    assert_eq!(told.matches("DESTROYED").count(), 4, "{told}");
    assert!(told.contains("THE LOG IS CLOSED") && told.contains("attended  Ada"), "{told}");
    refused(&retire(lab, &["--yes", &name]), "CHY-CA-RETIRED");
    refused(&chancery(lab, &["ceremony", "check-token"]), "CHY-TOKEN-KEYS");
    refused(&chancery(lab, &["issuer"]), "CHY-CA-RETIRED");
    let path = transcript(lab, "retire");
    let told = done(chancery(lab, &["ceremony", "check-transcript", path.to_str().unwrap()]));
    assert!(told.contains("by the published checkpoint"), "{told}");
    done(chancery(lab, &["log", "verify"]));
    let objects = Command::new("pkcs11-tool")
        .env("SOFTHSM2_CONF", lab.dir.join("token/softhsm2.conf"))
        .args(["--module", token::softhsm().to_str().unwrap(), "--token-label", "chancery"])
        .args(["--login", "--list-objects", "--pin"])
        .arg(std::fs::read_to_string(lab.dir.join("token/pin")).unwrap())
        .output()
        .unwrap();
    let objects = done(objects);
    assert!(!objects.contains("Key Object"), "{objects}");
}

/// A disk whose power fails after so many calls that change it.
struct Dying {
    left: Arc<AtomicI64>,
}

impl Dying {
    fn alive(&self) -> io::Result<()> {
        alive(&self.left)
    }

    fn file(&self, inner: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(DyingFile { inner: inner?, left: Arc::clone(&self.left) }))
    }
}

fn alive(left: &AtomicI64) -> io::Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::Error::other("no power")) }
}

struct DyingFile {
    inner: Box<dyn DiskFile>,
    left: Arc<AtomicI64>,
}

impl DiskFile for DyingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.set_len(length)
    }
}

impl Disk for Dying {
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        self.file(SystemDisk.create(path, length))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.file(SystemDisk.open(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        SystemDisk.open_read(path)
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        SystemDisk.read(path, limit)
    }
    fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.alive()?;
        SystemDisk.replace(path, bytes, durable)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir(dir)
    }
    fn create_public_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_public_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?;
        SystemDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive()?;
        SystemDisk.remove(path)
    }
    fn seal(&self, path: &Path) -> io::Result<()> {
        SystemDisk.seal(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.alive()?;
        SystemDisk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        SystemDisk.lock(path)
    }
    fn free(&self, path: &Path) -> io::Result<u64> {
        SystemDisk.free(path)
    }
}

fn place(dir: &Path, disk: Arc<dyn Disk>) -> Place {
    Place {
        ca: dir.join("ca"),
        public: dir.join("public"),
        log: dir.join("log"),
        log_settings: chancery::log::Settings {
            segment_mib: 1,
            reserve_mib: 1,
            ..Default::default()
        },
        disk,
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SystemRng),
        attendance: Attendance::default(),
    }
}

#[test]
fn a_retirement_that_loses_power_at_any_step_goes_on() {
    token::alone("a_retirement_that_loses_power_at_any_step_goes_on", |token| {
        let lab = PathBuf::from(format!("{REPOSITORY}/hsm/ceremony/lab.toml"));
        let document: Document = chancery::config::read(&lab).unwrap();
        let beside = lab.parent().unwrap();
        let keys =
            document.keys.iter().map(|key| chancery::config::read(&beside.join(key)).unwrap());
        let keys: Vec<KeyFile> = keys.collect();
        let plan = Plan::new(document, keys).unwrap();
        let name = TokenName::labelled(token::LABEL);
        let pin = Pin(token.pin.clone().into());
        let direct = Direct::open(&token.settings, &name, &pin, true).unwrap();
        let tokens: Tokens =
            plan.document.tokens.keys().map(|role| (role.clone(), Arc::clone(&direct))).collect();
        let sound = place(&token.dir, Arc::new(SystemDisk));
        for dir in [&sound.ca, &sound.public, &sound.log] {
            std::fs::create_dir_all(dir).unwrap();
        }
        execute::run(&plan, &tokens, &sound).unwrap();
        let file = PathBuf::from(format!("{REPOSITORY}/hsm/ceremony/retire.toml"));
        let document: retire::Document = chancery::config::read(&file).unwrap();
        let (mut failures, mut retired) = (0, None);
        for calls in 0..400 {
            let disk = Arc::new(Dying { left: Arc::new(AtomicI64::new(calls)) });
            match retire::retire(&document, &tokens, &place(&token.dir, disk), |_| None, true) {
                Ok((_, end)) => {
                    retired = Some(end);
                    break;
                }
                Err(_) => failures += 1,
            }
        }
        let retired = retired.expect("it never came to an end");
        assert!(failures > 5, "the power hardly failed: {failures}");
        let reader = Reader::open(Arc::new(SystemDisk), &sound.log).unwrap();
        let entries: Vec<_> =
            reader.entries(chancery::id::LeafIndex(0)).map(Result::unwrap).collect();
        let ends = entries.iter().filter(
            |entry| matches!(&entry.record, Ok(Record::CeremonyHeldV1(held)) if held.act == RETIRE),
        );
        assert_eq!(ends.count(), 1, "the log was closed more than once");
        assert_eq!(retired.leaf, Some(entries.last().unwrap().leaf), "something follows the end");
        let Ok(Record::CeremonyHeldV1(held)) = &entries.last().unwrap().record else { panic!() };
        let hex: String = held.transcript_sha256.iter().map(|o| format!("{o:02x}")).collect();
        assert_eq!(hex, retired.transcript_sha256);
        assert!(retired.checkpoint.is_some());
        assert!(retire::retired(&sound).unwrap().is_some());
        for label in ["chancery-root", "chancery-issuing", "chancery-log", "chancery-tls"] {
            assert!(!direct.holds(label).unwrap(), "{label}");
        }
    });
}
