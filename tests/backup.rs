//! The drill: issue, back up, destroy, restore with the same token, go on issuing. And what must not happen: a box that
//! goes on signing when another took its place, a log that goes on although something newer of it is known.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod plant;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery::backup::age::Identity;
use chancery::pki::certificate::Certificate;
use plant::Plant;
use plant::lab::{self, Lab, Options, done, refused, succeed};

/// As `age-keygen` writes them.
const IDENTITY: &str = "AGE-SECRET-KEY-1F487Q8LUZZ58J9X4YAKSVU4GT7XSN4A36SM4NYG2VGLQFAESJ2NQUV3P8Y";
const OTHER: &str = "AGE-SECRET-KEY-1V2MP3JNXMFNMSE997TJEHYL66GWEJECHRH3CJVULPYHX7MEL2Y6QFPUVQL";

struct Drill {
    plant: Plant,
    archives: PathBuf,
    identity: PathBuf,
}

impl Drill {
    fn start(more: &str) -> Self {
        let recipient = IDENTITY.parse::<Identity>().unwrap().recipient();
        let more = format!("\n[backup]\nrecipients = [\"{recipient}\"]\n{more}");
        let plant = Plant::start(Options { more, ..Options::default() });
        let archives = plant.lab.dir.join("archives");
        std::fs::create_dir(&archives).unwrap();
        let identity = plant.lab.dir.join("identity");
        std::fs::write(&identity, format!("# for tests\n{IDENTITY}\n")).unwrap();
        Self { plant, archives, identity }
    }

    fn lab(&self) -> &Lab {
        &self.plant.lab
    }

    fn state(&self) -> PathBuf {
        self.lab().dir.join("state")
    }

    /// Makes an archive, and says where it is.
    fn back_up(&self, more: &[&str]) -> PathBuf {
        let mut command = self.lab().chancery();
        command.args(["backup", "--json", "--to"]).arg(&self.archives).args(more);
        let told: serde_json::Value = serde_json::from_str(&succeed(&mut command)).unwrap();
        PathBuf::from(told["file"].as_str().unwrap())
    }

    fn restoring(&self, archives: &[&Path], more: &[&str]) -> Command {
        let mut command = self.lab().chancery();
        command.arg("restore").args(archives).arg("--identity").arg(&self.identity).args(more);
        command
    }

    fn restore(&self, archives: &[&Path], more: &[&str]) -> Output {
        self.restoring(archives, more).output().unwrap()
    }

    /// The disk is gone; what was on it is kept under another name.
    fn destroy(&mut self, kept: &str) {
        self.plant.lab.stop();
        std::fs::rename(self.state(), self.lab().dir.join(kept)).unwrap();
    }

    /// `--newest` for the checkpoint of a state directory.
    fn newest(state: &Path) -> String {
        let note = std::fs::read_to_string(state.join("public/checkpoint")).unwrap();
        let mut lines = note.lines().skip(1);
        format!("{}:{}", lines.next().unwrap(), lines.next().unwrap())
    }

    fn verify(&self) -> String {
        succeed(self.lab().chancery().args(["log", "verify"]))
    }

    fn listed(&self, kind: &str) -> Vec<serde_json::Value> {
        let text = succeed(self.lab().chancery().args(["log", "list", "--json", "--kind", kind]));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn crl_number(&self) -> u64 {
        self.listed("crl").iter().map(|crl| crl["number"].as_u64().unwrap()).max().unwrap()
    }
}

fn serial(certificate: &Certificate) -> String {
    certificate.serial().unwrap().to_string()
}

#[test]
fn the_drill_a_box_is_destroyed_and_its_log_goes_on() {
    let mut drill = Drill::start("");
    let mut device = drill.plant.registered();
    let first = drill.plant.enrol(&mut device, &["one.test"]);
    let bad = drill.plant.enrol(&mut device, &["bad.test"]);
    done(lab::chancery(drill.lab(), &["cert", "revoke", &serial(&bad), "--yes"]));
    let full = drill.back_up(&[]);
    assert_eq!(std::fs::metadata(&full).unwrap().mode() & 0o777, 0o600);
    let kept = drill.plant.enrol(&mut device, &["two.test"]);
    // The box goes down in order, and its last records are in the archive.
    drill.plant.lab.stop();
    let last = drill.back_up(&["--incremental"]);
    let number = drill.crl_number();
    let newest = Drill::newest(&drill.state());
    let state = drill.state();
    // Neither key nor PIN nor what opens the admin socket.
    let pin = std::fs::read_to_string(drill.lab().dir.join("token/pin")).unwrap();
    let whole = std::fs::read(&full).unwrap();
    assert!(whole.len() > std::fs::metadata(&last).unwrap().len() as usize);
    let status = std::fs::read_to_string(state.join("public/last-backup.json")).unwrap();
    assert!(status.contains("\"incremental\":true"), "{status}");

    // Archives are whole, in their order, and for those who may read them.
    let check = |files: &[&Path]| {
        let mut command = drill.lab().chancery();
        command.args(["backup", "check"]).args(files).arg("--identity").arg(&drill.identity);
        command.output().unwrap()
    };
    assert!(done(check(&[&full, &last])).starts_with("whole: "));
    refused(&check(&[&last, &full]), "CHY-BACKUP-CHAIN: ");
    let other = drill.lab().dir.join("other");
    std::fs::write(&other, OTHER).unwrap();
    let mut stranger = drill.lab().chancery();
    stranger.args(["backup", "check", "--identity"]).arg(&other).arg(&full);
    refused(&stranger.output().unwrap(), "CHY-BACKUP-IDENTITY: ");
    let mut octets = whole.clone();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    let changed = drill.archives.join("changed.age");
    std::fs::write(&changed, octets).unwrap();
    refused(&check(&[&changed]), "CHY-BACKUP-DAMAGED: ");
    let again = lab::chancery(drill.lab(), &["backup", "--to", full.to_str().unwrap()]);
    refused(&again, "CHY-BACKUP-EXISTS: ");

    // Without this program: age opens it, and tar looks inside.
    let plain = drill.lab().dir.join("plain.tar");
    succeed(
        Command::new("age")
            .arg("-d")
            .arg("-i")
            .arg(&drill.identity)
            .arg("-o")
            .args([&plain, &full]),
    );
    let inside = succeed(Command::new("tar").arg("-tf").arg(&plain));
    for name in ["manifest.json", "ca/authority.json", "web/store.facts", "config/effective.toml"] {
        assert!(inside.lines().any(|line| line == name), "{name} is not in it:\n{inside}");
    }
    let octets = std::fs::read(&plain).unwrap();
    assert!(!contains(&octets, pin.trim().as_bytes()), "the PIN is in the archive");
    assert!(!inside.contains("admin") && !inside.contains("token"), "{inside}");

    // Onto what is there nothing is restored.
    let archives = [full.as_path(), last.as_path()];
    refused(&drill.restore(&archives, &["--yes"]), "CHY-RESTORE-NOT-EMPTY: ");
    drill.destroy("destroyed");
    refused(&drill.restore(&[&last], &["--yes"]), "CHY-BACKUP-CHAIN: ");
    let wrong = drill.restore(
        &archives,
        &["--newest", "9:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "--yes"],
    );
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("CHY-RESTORE-NOT-NEWEST: "),
        "{wrong:?}"
    );
    let text = done(drill.restore(&archives, &["--newest", &newest]));
    assert!(text.contains("nothing was changed"), "{text}");
    assert!(!state.join("ca/authority.json").exists() && !state.join("restoring").exists());

    // Stopped at every rename, and run again: each time it goes on, and nothing starts before it is done.
    let mut stopped = 0;
    let text = loop {
        let (ended, text) =
            killed_at_a_rename(&drill, &archives, &["--newest", &newest, "--yes"], stopped + 1);
        if ended {
            break text;
        }
        stopped += 1;
        assert!(stopped < 60, "it never ends: {text}");
        if state.join("restoring/decided").exists() {
            refused(&lab::chancery(drill.lab(), &["issuer"]), "CHY-RESTORE-UNFINISHED: ");
        }
    };
    assert!(stopped >= 5, "only {stopped} renames were cut: {text}");
    assert!(text.contains("restored: start the box"), "{text}");
    assert!(state.join("restored-config/effective.toml").exists());

    drill.plant.lab.serve();
    lab::eventually(drill.lab(), "the restore is recorded", || drill.listed("epoch").len() == 1);
    let restored = drill.listed("restored");
    assert_eq!(restored.len(), 1);
    assert_eq!(restored[0]["size"].to_string(), newest.split(':').next().unwrap());
    // The device has its account and its key, its renewal window, and its next certificate.
    let renewed = drill.plant.enrol(&mut device, &["one.test"]);
    assert_ne!(renewed.serial(), first.serial());
    let window = drill.plant.runtime.block_on(device.get(&renewal_info(&kept)));
    assert!(window.unwrap()["suggestedWindow"]["start"].is_string());
    assert!(drill.crl_number() > number, "a CRL's number went back");
    assert!(drill.verify().contains("restored from a backup"));
    succeed(&mut drill.lab().stranger());
    // Revocations are still in force.
    for name in ["ca/authority.json", "public/checkpoint"] {
        assert_eq!(std::fs::metadata(state.join(name)).unwrap().mode() & 0o777, 0o644, "{name}");
    }
    assert_eq!(std::fs::metadata(state.join("web/store.redb")).unwrap().mode() & 0o077, 0);
    let shown = done(lab::chancery(drill.lab(), &["cert", "show", &serial(&bad)]));
    assert!(shown.contains("revoked"), "{shown}");

    // The box that was thought destroyed comes back, and must not sign: the token says so.
    drill.plant.lab.stop();
    std::fs::rename(&state, drill.lab().dir.join("restored")).unwrap();
    std::fs::rename(drill.lab().dir.join("destroyed"), &state).unwrap();
    refused_in(&lab::chancery(drill.lab(), &["issuer"]), "CHY-EPOCH-FENCED: ");
    // And the one that has the token still has it.
    std::fs::rename(&state, drill.lab().dir.join("destroyed")).unwrap();
    std::fs::rename(drill.lab().dir.join("restored"), &state).unwrap();
    drill.plant.lab.serve();
    drill.verify();
}

#[test]
fn an_old_backup_begins_another_log_and_stops_the_box_that_lives() {
    let mut drill = Drill::start("");
    let mut device = drill.plant.registered();
    drill.plant.enrol(&mut device, &["one.test"]);
    // Both log keys sign: the log ends in the middle of its cross-over.
    let rotation = drill.lab().ceremony_file("log-key");
    let rotation = rotation.to_str().unwrap();
    done(lab::chancery(drill.lab(), &["ceremony", "rotate-log-key", rotation, "--yes"]));
    lab::crash_issuer(drill.lab());
    lab::eventually(drill.lab(), "both keys sign", || {
        let told = done(lab::chancery(drill.lab(), &["log-key", "show"]));
        told.matches("signs").count() == 2
    });
    let old = drill.back_up(&[]);
    let unknown = drill.plant.enrol(&mut device, &["two.test"]);
    let before = std::fs::read_to_string(drill.state().join("public/checkpoint")).unwrap();

    // Restored beside the box that lives, on the same token.
    let twin = drill.lab().dir.join("twin");
    let config = std::fs::read_to_string(drill.lab().dir.join("chancery.toml")).unwrap();
    let state = drill.state();
    let other = config.replace(state.to_str().unwrap(), twin.to_str().unwrap());
    assert_ne!(config, other);
    let path = drill.lab().dir.join("twin.toml");
    std::fs::write(&path, other).unwrap();
    let mut restore = drill.restoring(&[&old], &["--yes"]);
    let text = succeed(restore.env("CHANCERY_CONFIG", &path));
    assert!(text.contains("nobody shows") && text.contains("localhost/chancery-lab/r2"), "{text}");

    // The box that lives notices without a restart, and signs no more.
    lab::eventually(drill.lab(), "the box that lives is fenced", || {
        drill.lab().log_tail().contains("CHY-EPOCH-FENCED")
    });
    let records = std::fs::read_to_string(drill.state().join("public/checkpoint")).unwrap();
    let order = device.order(&["three.test"]);
    let patience = std::time::Duration::from_secs(5);
    let issued =
        drill.plant.runtime.block_on(async { tokio::time::timeout(patience, order).await });
    assert!(!matches!(issued, Ok(Ok(_))), "the fenced box issued");
    let now = std::fs::read_to_string(drill.state().join("public/checkpoint")).unwrap();
    assert_eq!(now, records, "the fenced box signed a checkpoint");
    drill.destroy("lived");

    // The other goes on: another log, the same leaves, the devices' accounts.
    std::fs::rename(&twin, &state).unwrap();
    drill.plant.lab.serve();
    lab::eventually(drill.lab(), "the token's owner is recorded", || {
        drill.listed("epoch").len() == 1
    });
    let begun = drill.listed("log-begun");
    assert_eq!(begun.len(), 1);
    assert_eq!(
        (begun[0]["leaf"].as_u64(), begun[0]["origin"].as_str()),
        (Some(0), Some("localhost/chancery-lab"))
    );
    drill.plant.enrol(&mut device, &["one.test"]);
    let verdict = drill.verify();
    assert!(verdict.contains("this log goes on for localhost/chancery-lab"), "{verdict}");
    succeed(&mut drill.lab().stranger());
    let shown = lab::chancery(drill.lab(), &["cert", "show", &serial(&unknown)]);
    assert!(!shown.status.success(), "it cannot know of that certificate");

    // Its ceremonies are as good as they were, though their transcripts were signed for the log that ended; and the key
    // that its cross-over had not parted from is not forgotten: it can be taken off the token.
    let transcripts: Vec<PathBuf> = std::fs::read_dir(state.join("ca"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("transcript-"))
        .filter(|path| path.extension().unwrap() == "json")
        .collect();
    assert_eq!(transcripts.len(), 2, "{transcripts:?}");
    for path in &transcripts {
        let path = path.to_str().unwrap();
        let told = done(lab::chancery(drill.lab(), &["ceremony", "check-transcript", path]));
        let signer = "signed by  localhost/chancery-lab+";
        assert!(told.contains(signer) && told.contains("by the published checkpoint"), "{told}");
    }
    let finish = ["ceremony", "finish-log-key", rotation, "--remove", "--rehearse"];
    assert!(done(lab::chancery(drill.lab(), &finish)).contains("removed"));

    // The log that ended is kept, whole, under its own name and key.
    let sealed: Vec<PathBuf> = std::fs::read_dir(state.join("issuer/sealed"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(sealed.len(), 1);
    let kept = std::fs::read_to_string(sealed[0].join("checkpoint")).unwrap();
    assert!(before.starts_with(kept.lines().next().unwrap()));
    let mut reader = Command::new("python3");
    reader.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reader/reader.py"));
    succeed(reader.arg(&sealed[0]).arg("--signatures"));
    for path in lab::segments(&sealed[0]) {
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o400);
    }

    // The operator may decide otherwise, on a box that does not run.
    drill.plant.lab.stop();
    refused_in(&lab::chancery(drill.lab(), &["backup", "take-token"]), "CHY-CONFIRM: ");
    std::fs::rename(&state, drill.lab().dir.join("twin")).unwrap();
    std::fs::rename(drill.lab().dir.join("lived"), &state).unwrap();
    done(lab::chancery(drill.lab(), &["backup", "take-token", "--yes"]));
    drill.plant.lab.serve();
    lab::eventually(drill.lab(), "the token's owner is recorded", || {
        drill.listed("epoch").len() == 1
    });
    drill.verify();
}

#[test]
fn a_token_with_other_keys_is_refused() {
    let mut drill = Drill::start("");
    let archive = drill.back_up(&[]);
    drill.destroy("destroyed");
    let token = drill.lab().dir.join("token");
    std::fs::rename(&token, drill.lab().dir.join("right")).unwrap();
    succeed(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hsm/sandbox.sh")).arg(&token));
    refused_in(&drill.restore(&[&archive], &["--yes"]), "CHY-RESTORE-TOKEN: ");
    assert!(
        !drill.state().join("restoring").exists()
            && !drill.state().join("ca/authority.json").exists()
    );
}

/// The web process must be able to make its store where it is.
#[test]
fn a_box_that_never_served_is_left_as_it_is() {
    let plant = Plant::prepare(Options::default());
    let recipient = IDENTITY.parse::<Identity>().unwrap().recipient().to_string();
    done(lab::chancery(&plant.lab, &["backup", "--to", "x.age", "--recipient", &recipient]));
    let web = std::fs::read_dir(plant.lab.dir.join("state/web")).unwrap();
    assert_eq!(web.count(), 0, "something was left there");
}

/// RFC 9773 section 4.1.
fn renewal_info(certificate: &Certificate) -> String {
    use base64ct::{Base64UrlUnpadded as Base64, Encoding};
    let key_id = certificate.authority_key_id().unwrap();
    let serial = Base64::encode_string(certificate.serial().unwrap().octets());
    format!("https://localhost/acme/renewal-info/{}.{serial}", Base64::encode_string(key_id))
}

/// What it says on standard error has the code at the beginning of a line, or behind what was logged.
fn refused_in(output: &Output, code: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(code), "not {code}: {text}");
}

fn contains(octets: &[u8], what: &[u8]) -> bool {
    octets.windows(what.len()).any(|window| window == what)
}

/// Restores under strace, which kills the program at its nth rename. Whether it ended, and what it said.
fn killed_at_a_rename(
    drill: &Drill,
    archives: &[&Path],
    more: &[&str],
    n: usize,
) -> (bool, String) {
    let inject = format!("inject=/^rename:signal=KILL:when={n}");
    let mut command =
        drill.lab().chancery_under("strace", &["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
    command.arg("restore").args(archives).arg("--identity").arg(&drill.identity).args(more);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
