//! Two boxes in one building watch each other (C2SP tlog-witness, tlog-cosignature). Contents:
//!
//! - each cosigns the other's checkpoints; status, doctor, metrics and the published files say so
//! - a witness answers strangers as the specification says
//! - a backup that was put back is caught, issues nothing, and goes on when the newer log is back
//! - a restore asks the witness: the newest backup goes on under the log's origin, an older one begins another log
//!
//! Real boxes with real tokens; nothing but their own HTTP between them, plain one way and over TLS the other.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use chancery::tlog::checkpoint::Checkpoint;
use chancery::tlog::note::{Note, VerifierKey};
use chancery::tlog::witness::origin_hash;

use lab::{Lab, Options, done, eventually, faketime, get, now, pause, succeed};

/// A box with its CA and its witness's key.
struct House {
    lab: Lab,
    log: VerifierKey,
    witness: VerifierKey,
    _dir: tempfile::TempDir,
}

impl House {
    fn build(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let origin = Some(format!("{name}.test/log"));
        let lab =
            Lab::prepare(dir.path(), &Options { http_port: 5002, origin, ..Options::default() });
        lab.hold("witness", "ca.lan/witness", &format!("{name}.test/witness"));
        let told = succeed(lab.chancery().args(["witness", "key", "--json"]));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let key = |what: &str| told[what].as_str().unwrap().parse::<VerifierKey>().unwrap();
        Self { log: key("log"), witness: key("witness"), lab, _dir: dir }
    }

    /// Watches `other`'s log and is watched by it; brings it its checkpoints over TLS, under `other`'s own root, or
    /// plainly.
    fn befriend(&self, other: &Self, tls: bool) {
        let path = self.lab.dir.join("chancery.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let watch = format!("witness-seconds = 1\nwatched-logs = [\"{}\"]\ntls-names", other.log);
        let config = config.replace("tls-names", &watch);
        let mut witness = format!("\n[[web.witnesses]]\nvkey = \"{}\"\n", other.witness);
        if tls {
            let roots = self.lab.dir.join("other-root.pem");
            let root = succeed(other.lab.chancery().args(["root", "--pem"]));
            std::fs::write(&roots, root).unwrap();
            let (port, roots) = (other.lab.acme.port(), roots.display());
            witness +=
                &format!("url = \"https://localhost:{port}/witness\"\nroots = \"{roots}\"\n");
        } else {
            witness += &format!("url = \"http://{}/witness\"\n", other.lab.http);
        }
        std::fs::write(&path, config + &witness).unwrap();
    }

    fn checkpoint(&self) -> u64 {
        let note = std::fs::read(self.lab.dir.join("state/public/checkpoint")).unwrap();
        Checkpoint::open(&note, &self.log).unwrap().head.size
    }

    /// The newest checkpoint of this box that `witness` cosigned, as a reader finds it: its size, every signature
    /// of both verified.
    fn cosigned(&self, witness: &VerifierKey) -> Option<u64> {
        let note = body(&get(self.lab.http, "/checkpoint.witnessed")?)?;
        let checkpoint = Checkpoint::open(note.as_bytes(), &self.log).unwrap();
        let parsed = Note::parse(note.as_bytes()).unwrap();
        let octets = parsed.by(witness).next()?;
        assert!(witness.verify(parsed.text.as_bytes(), &checkpoint.head, octets), "{note}");
        Some(checkpoint.head.size)
    }

    /// Waits until `witness` has cosigned a tree of at least `size` leaves.
    fn await_cosigned(&self, witness: &VerifierKey, size: u64) {
        wait(&self.lab, "no cosignature", || self.cosigned(witness).is_some_and(|n| n >= size));
    }

    fn doctor(&self) -> String {
        let output = self.lab.chancery().args(["doctor", "--no-login"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn verify(&self, checkpoint: &Path) -> bool {
        let mut command = self.lab.chancery();
        command.args(["log", "verify", "--checkpoint"]).arg(checkpoint);
        command.output().unwrap().status.success()
    }
}

fn wait(lab: &Lab, what: &str, mut done: impl FnMut() -> bool) {
    let began = now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(40), "{what}:\n{}", lab.log_tail());
        pause(Duration::from_millis(50));
    }
}

fn body(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

fn post(server: SocketAddr, path: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn copy(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

#[test]
fn two_boxes_watch_each_other_and_a_backup_put_back_is_caught() {
    let (mut a, mut b) = (House::build("a"), House::build("b"));
    a.befriend(&b, false);
    b.befriend(&a, true);
    a.lab.serve();
    b.lab.serve();

    // Each cosigns the other.
    a.await_cosigned(&b.witness, 1);
    b.await_cosigned(&a.witness, 1);
    let kept = get(b.lab.http, &format!("/witness/{}/checkpoint", origin_hash("a.test/log")));
    let kept = body(&kept.unwrap()).unwrap();
    Checkpoint::open(kept.as_bytes(), &a.log).unwrap();
    assert_eq!(Note::parse(kept.as_bytes()).unwrap().by(&b.witness).count(), 1, "{kept}");
    let status = succeed(a.lab.chancery().arg("status"));
    assert!(
        status.contains("witness b.test/witness: ") && status.contains(" records cosigned "),
        "{status}"
    );
    assert!(status.contains("watches b.test/log: "), "{status}");
    let doctor = a.doctor();
    assert!(doctor.contains("ok    witness        b.test/witness cosigned "), "{doctor}");
    assert!(doctor.contains("ok    watches        b.test/log: "), "{doctor}");
    let metrics = get(a.lab.http, "/metrics").unwrap();
    let line = "chancery_witness_cosigned_leaves{witness=\"b.test/witness\"} ";
    let leaves = metrics.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    assert!(leaves.trim().parse::<f64>().unwrap() >= 1.0, "{metrics}");

    // What is published of it is verified with the log.
    let verify = |lab: &Lab| lab.chancery().args(["log", "verify"]).output().unwrap();
    let told = verify(&a.lab);
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && text.contains("witness b.test/witness cosigned "), "{text}");

    // What the specification has a witness answer to whoever asks.
    let add = |body: &str| post(b.lab.http, "/witness/add-checkpoint", body);
    let (status, head, size) = add(&format!("old 0\n\n{kept}"));
    assert_eq!(status, 409, "{head}");
    assert!(head.contains("content-type: text/x.tlog.size"), "{head}");
    let size: u64 = size.strip_suffix('\n').unwrap().parse().unwrap();
    // Who asks again for what was just cosigned costs the token nothing. It is that as soon as the log rests.
    eventually(&a.lab, "the newest checkpoint cosigned again", || {
        let newest = body(&get(a.lab.http, "/checkpoint").unwrap()).unwrap();
        let covered = newest.lines().nth(1).unwrap();
        let (status, _, line) = add(&format!("old {covered}\n\n{newest}"));
        let again = status == 200;
        assert!(again || status == 409, "{status}: {line}");
        assert_eq!(again, line.starts_with("\u{2014} b.test/witness ") && line.ends_with('\n'));
        again
    });
    assert_eq!(
        add(&format!("old {size}\n\n{}", kept.replace("a.test/log\n", "c.test/log\n"))).0,
        404
    );
    let next = format!("\n{}\n", u64::MAX);
    let forged = kept.replacen(&format!("\n{}\n", kept.lines().nth(1).unwrap()), &next, 1);
    assert_eq!(add(&format!("old {size}\n\n{forged}")).0, 403);
    assert_eq!(add("old 1\n").0, 400);
    assert_eq!(add(&format!("old 999999999\n\n{kept}")).0, 400);
    let alone = post(b.lab.http, "/witness/add-checkpoint", &"x".repeat(200_000));
    assert_eq!(alone.0, 413);

    // A backup, and life after it: each start is a record, so two of them make it longer than the other life.
    a.lab.stop();
    let (state, backup, newer) =
        (a.lab.dir.join("state"), a.lab.dir.join("backup"), a.lab.dir.join("newer"));
    copy(&state, &backup);
    let before = a.checkpoint();
    a.lab.serve();
    a.await_cosigned(&b.witness, before + 1);
    a.lab.stop();
    a.lab.serve();
    a.await_cosigned(&b.witness, before + 2);
    a.lab.stop();
    let witnessed = state.join("public/checkpoint.witnessed");
    let whole = std::fs::read(&witnessed).unwrap();
    let mut forged = Note::parse(&whole).unwrap();
    forged.signatures.last_mut().unwrap().octets[20] ^= 1;
    std::fs::write(&witnessed, forged.to_string()).unwrap();
    let told = verify(&a.lab);
    let text = String::from_utf8_lossy(&told.stdout);
    let forged = "checkpoint.witnessed: the cosignature of witness b.test/witness does not verify";
    assert!(!told.status.success() && text.contains(forged), "{text}");
    std::fs::write(&witnessed, whole).unwrap();
    std::fs::rename(&state, &newer).unwrap();
    let evidence = a.lab.dir.join("kept-by-b");
    let kept = get(b.lab.http, &format!("/witness/{}/checkpoint", origin_hash("a.test/log")));
    std::fs::write(&evidence, body(&kept.unwrap()).unwrap()).unwrap();

    // The backup looks whole to itself. To who asked B it does not, and to B neither.
    copy(&backup, &state);
    assert!(succeed(a.lab.chancery().args(["log", "verify"])).contains("sound"));
    assert!(!a.verify(&evidence), "a rolled-back directory was taken for the log that B cosigned");
    a.lab.spawn();
    let fork = state.join("issuer/fork");
    wait(&a.lab, "the fork is not found", || fork.exists());
    let http = a.lab.http;
    let not_ready = || get(http, "/readyz").unwrap_or_default();
    wait(&a.lab, "the box says nothing", || not_ready().contains("CHY-WITNESS-FORK"));
    assert!(not_ready().starts_with("HTTP/1.1 503"), "{}", not_ready());
    assert!(a.doctor().contains("FAIL  witness        CHY-WITNESS-FORK"), "{}", a.doctor());
    let size = b.cosigned_of("a.test/log", &a.log);
    assert!(size >= before + 2, "B cosigned the fork");
    // No restart talks it out of it.
    a.lab.stop();
    a.lab.spawn();
    wait(&a.lab, "the box forgot", || not_ready().contains("CHY-WITNESS-FORK"));
    a.lab.stop();

    // The newer log is found and put back: the evidence is refuted and the box goes on.
    copy(&fork, &newer.join("issuer/fork"));
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&newer, &state).unwrap();
    assert!(a.verify(&evidence));
    a.lab.serve();
    a.await_cosigned(&b.witness, before + 3);
    assert!(!fork.exists());
}

/// As `age-keygen` writes them.
const RECIPIENT: &str = "age1qykh3afkrn3k0pvaptw793dtvudpvfzf2kd5ed23q8ur99vng59sq4klhf";
const IDENTITY: &str = "AGE-SECRET-KEY-1F487Q8LUZZ58J9X4YAKSVU4GT7XSN4A36SM4NYG2VGLQFAESJ2NQUV3P8Y";

#[test]
fn a_restore_asks_the_witness_which_backup_is_the_newest() {
    let (mut a, mut b) = (House::build("a"), House::build("b"));
    a.befriend(&b, false);
    b.befriend(&a, true);
    a.lab.serve();
    b.lab.serve();
    std::fs::write(a.lab.dir.join("identity"), IDENTITY).unwrap();

    let old = a.back_up("old.age");
    let size = a.checkpoint();
    // A start is a record.
    a.lab.stop();
    a.lab.serve();
    a.await_cosigned(&b.witness, size + 1);
    a.lab.stop();
    // What was published last, the witness may not have seen yet.
    a.lab.serve();
    let newest = a.at_rest(&b.witness);
    let new = a.back_up("new.age");
    assert_eq!(a.checkpoint(), newest, "the box wrote meanwhile");
    let kept = || {
        let path = format!("/witness/{}/checkpoint", origin_hash("a.test/log"));
        body(&get(b.lab.http, &path).unwrap()).unwrap()
    };
    let cosigned = a.lab.dir.join("cosigned");
    std::fs::write(&cosigned, kept()).unwrap();
    // The disk is gone in an instant: no last words.
    a.lab.kill_supervisor().into_iter().for_each(|pid| a.lab.wait_gone(pid));
    let state = a.lab.dir.join("state");
    std::fs::rename(&state, a.lab.dir.join("destroyed")).unwrap();
    let size = b.cosigned_of("a.test/log", &a.log);
    assert_eq!(size, newest, "the witness has seen something newer than the backup");

    // Of the older archive it says how much is missing, whatever else is brought for it.
    let told = done(a.restore(&old, &[]));
    let missing = format!("the witness b.test/witness knows of {newest} records, the archive has ");
    assert!(told.contains(&missing) && told.contains("a.test/log/r2 goes on for it"), "{told}");
    let cosigned = cosigned.to_str().unwrap();
    let told = done(a.restore(&old, &["--cosigned", cosigned]));
    assert!(told.contains("and not the archive's checkpoint"), "{told}");
    assert!(told.contains("a.test/log/r2 goes on for it"), "{told}");
    // Asking moved nothing.
    assert_eq!(b.cosigned_of("a.test/log", &a.log), newest);

    // Of the newest one it says so: by itself, or in a file that was fetched within the hour.
    let goes_on = "the log a.test/log goes on behind these records";
    let told = done(a.restore(&new, &[]));
    assert!(told.contains("b.test/witness: this is the newest checkpoint it knows"), "{told}");
    assert!(told.contains(goes_on), "{told}");
    b.lab.stop();
    let told = done(a.restore(&new, &[]));
    assert!(told.contains("no witness answered") && !told.contains(goes_on), "{told}");
    let told = done(a.restore(&new, &["--cosigned", cosigned]));
    assert!(told.contains(goes_on), "{told}");
    let mut forged = Note::parse(&std::fs::read(cosigned).unwrap()).unwrap();
    forged.signatures.last_mut().unwrap().octets[20] ^= 1;
    let file = a.lab.dir.join("forged");
    std::fs::write(&file, forged.to_string()).unwrap();
    let told = done(a.restore(&new, &["--cosigned", file.to_str().unwrap()]));
    assert!(
        told.contains("no configured witness cosigned it") && !told.contains(goes_on),
        "{told}"
    );
    match faketime() {
        Some(library) => {
            let mut later = a.restoring(&new, &["--cosigned", cosigned]);
            later.env("LD_PRELOAD", library).env("FAKETIME", "+2h");
            let told = done(later.output().unwrap());
            assert!(told.contains("more than an hour ago") && !told.contains(goes_on), "{told}");
        }
        None => assert!(std::env::var_os("CI").is_none(), "CI has Debian's faketime"),
    }
    b.lab.serve();
    done(a.restore(&new, &["--yes"]));
    a.lab.serve();
    a.await_cosigned(&b.witness, newest + 1);
    let restored = succeed(a.lab.chancery().args(["log", "list", "--kind", "restored"]));
    assert!(restored.contains("b.test/witness"), "{restored}");
    assert!(!state.join("issuer/fork").exists());
    assert!(succeed(a.lab.chancery().args(["log", "verify"])).contains("sound"));

    // And the older one begins another log; that of the witness stays as it was.
    a.lab.stop();
    std::fs::remove_dir_all(&state).unwrap();
    let newest = b.cosigned_of("a.test/log", &a.log);
    done(a.restore(&old, &["--yes"]));
    a.lab.serve();
    let published = std::fs::read_to_string(state.join("public/checkpoint")).unwrap();
    assert!(published.starts_with("a.test/log/r2\n"), "{published}");
    let begun = succeed(a.lab.chancery().args(["log", "list", "--kind", "log-begun"]));
    assert!(begun.contains("a.test/log"), "{begun}");
    assert!(succeed(a.lab.chancery().args(["log", "verify"])).contains("sound"));
    assert_eq!(b.cosigned_of("a.test/log", &a.log), newest);
}

impl House {
    fn back_up(&self, name: &str) -> PathBuf {
        let path = self.lab.dir.join(name);
        let mut command = self.lab.chancery();
        succeed(command.args(["backup", "--recipient", RECIPIENT, "--to"]).arg(&path));
        path
    }

    fn restoring(&self, archive: &Path, more: &[&str]) -> Command {
        let mut command = self.lab.chancery();
        command.arg("restore").arg(archive).args(["--identity", "identity"]).args(more);
        command
    }

    fn restore(&self, archive: &Path, more: &[&str]) -> Output {
        self.restoring(archive, more).output().unwrap()
    }

    /// Waits until `witness` has cosigned all that this box has published, and that stays so for a while.
    fn at_rest(&self, witness: &VerifierKey) -> u64 {
        let mut size = 0;
        wait(&self.lab, "it never rests", || {
            let before = std::mem::replace(&mut size, self.checkpoint());
            if before != size || self.cosigned(witness) != Some(size) {
                return false;
            }
            pause(Duration::from_millis(1500));
            self.checkpoint() == size
        });
        size
    }

    /// The size of what this box cosigned last of another log.
    fn cosigned_of(&self, origin: &str, log: &VerifierKey) -> u64 {
        let path = format!("/witness/{}/checkpoint", origin_hash(origin));
        let note = body(&get(self.lab.http, &path).unwrap()).unwrap();
        Checkpoint::open(note.as_bytes(), log).unwrap().head.size
    }
}
