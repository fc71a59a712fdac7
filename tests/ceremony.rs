//! Ceremonies on real tokens, through the program itself. Contents:
//!
//! - promise_1: after the lab ceremony pkcs11-tool sees every key sensitive, never extractable, local
//! - the chain stands before openssl; everything the certificates name is published
//! - held twice: refused, and nothing changed
//! - cut short: refused, discarded on request, held again
//! - a witness's key for a box that has its CA; cut short, what was there before stays
//! - the root elsewhere: export, sign, import; and what does not belong together is refused
//! - the root's next CRL made elsewhere: taken in if it follows, refused otherwise
//! - two tokens; rehearsals of every ceremony, that leave no trace
//!
//! Each box has its own SOFTHSM2_CONF, given to the program it starts.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery::pki::authority::Authority;

include!("support/softhsm.rs");

const CHANCERY: &str = env!("CARGO_BIN_EXE_chancery");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A directory with a token and a configuration.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(labels: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(format!("{REPOSITORY}/hsm/sandbox.sh"))
            .arg(dir.path().join("token"))
            .args(labels)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let at = dir.path().display();
        let config = format!(
            "inherit = [\"{REPOSITORY}/firmware-config/board/lab.toml\"]\n\n[state]\ndir = \"{at}/state\"\n\
             pin = {{ file = \"{at}/token/pin\" }}\n\n\
             [policy]\nallow-names = [\"lan\", \"test\"]\nallow-networks = [\"10.0.0.0/8\"]\n"
        );
        std::fs::write(dir.path().join("chancery.toml"), config).unwrap();
        Self { dir }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("SOFTHSM2_CONF", self.path("token/softhsm2.conf"))
            .env("CHANCERY_CONFIG", self.path("chancery.toml"))
            .current_dir(self.dir.path());
        command
    }

    fn ceremony(&self, verb: &str, file: &Path, more: &[&str]) -> Output {
        self.command(CHANCERY).args(["ceremony", verb]).arg(file).args(more).output().unwrap()
    }

    /// Rehearses it, and looks for traces: in the state, beside it, on the token.
    fn rehearsed(&self, verb: &str, file: &Path, more: &[&str]) -> String {
        let beside = || std::fs::read_dir(self.dir.path()).unwrap().count();
        let before = (self.files(), self.objects("chancery"), beside());
        let told = done(&self.ceremony(verb, file, &[more, &["--rehearse"]].concat()));
        assert!(told.starts_with("REHEARSAL"), "{verb}: {told}");
        assert_eq!((self.files(), self.objects("chancery"), beside()), before, "{verb}");
        told
    }

    /// A shipped ceremony file, for a box whose keys the lab's ceremony made.
    fn for_lab(&self, name: &str) -> PathBuf {
        let text = std::fs::read_to_string(shipped(name)).unwrap();
        let text = text
            .replace("../key/", &format!("{REPOSITORY}/hsm/key/"))
            .replace("LAN Root\"", "Chancery Lab Root\"")
            .replace("\"ROOT-TOKEN\"", "\"chancery\"")
            .replace("\"ONLINE-TOKEN\"", "\"chancery\"")
            .replace("pin = { prompt = true }", "")
            .replace("lifetime-days = 7300", "lifetime-days = 3000")
            .replace("lifetime-days = 3650", "lifetime-days = 1500")
            .replace("lifetime-days = 3285", "lifetime-days = 1400");
        let file = self.path(&format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    fn lab(&self, more: &[&str]) -> Output {
        self.ceremony("run", &shipped("lab"), more)
    }

    fn authority(&self) -> Authority {
        let bytes = std::fs::read(self.path("state/ca/authority.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// What the token holds, as pkcs11-tool tells it.
    fn objects(&self, label: &str) -> String {
        let output = self
            .command("pkcs11-tool")
            .arg("--module")
            .arg(softhsm())
            .args(["--token-label", label, "--login", "--list-objects", "--pin"])
            .arg(std::fs::read_to_string(self.path("token/pin")).unwrap())
            .output()
            .expect("pkcs11-tool is installed (apt install opensc)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every file below the state directory and its content.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![self.path("state")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.exists() {
                let content = std::fs::read(&path).unwrap();
                found.push((path, content));
            }
        }
        found.sort();
        found
    }
}

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(format!("{REPOSITORY}/hsm/ceremony/{name}.toml"))
}

fn done(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output, code: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was not refused");
    assert!(err.starts_with(code), "expected {code}, said: {err}");
}

fn openssl(args: &[&str], dir: &Path) -> String {
    let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {err}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Verifies the issuing certificate with the root and its CRL, as strictly as openssl can.
fn chain_stands(place: &Place) {
    let authority = place.authority();
    let public = place.path("state/public");
    openssl(&["x509", "-inform", "DER", "-in", "issuing.cer", "-out", "../issuing.pem"], &public);
    let issuing = std::fs::read_to_string(place.path("state/issuing.pem")).unwrap();
    assert_eq!(Some(issuing), authority.issuing);
    assert_eq!(std::fs::read_to_string(public.join("root.pem")).unwrap(), authority.root);
    openssl(&["crl", "-inform", "DER", "-in", "crl/root.crl", "-out", "../root.crl.pem"], &public);
    openssl(
        &[
            "verify",
            "-x509_strict",
            "-crl_check",
            "-CAfile",
            "public/root.pem",
            "-CRLfile",
            "root.crl.pem",
            "issuing.pem",
        ],
        &place.path("state"),
    );
    let text = openssl(&["x509", "-in", "issuing.pem", "-noout", "-text"], &place.path("state"));
    for wanted in ["CA:TRUE, pathlen:0", "X509v3 Name Constraints: critical", "DNS:home.arpa"] {
        assert!(text.contains(wanted), "{wanted} is missing in {text}");
    }
}

#[test]
fn promise_1_the_lab_ceremony_makes_keys_that_never_leave_the_token() {
    let place = Place::new(&[]);
    refused(&place.lab(&[]), "CHY-CONFIRM");
    assert!(place.files().is_empty());
    let told = done(&place.lab(&["--yes"]));
    for wanted in
        ["KEY root", "KEY issuing", "KEY log", "KEY tls", "never-extractable", "fingerprint"]
    {
        assert!(told.contains(wanted), "{wanted} is missing in {told}");
    }
    let objects = place.objects("chancery");
    let private: Vec<&str> = objects.split("Private Key Object").skip(1).collect();
    assert_eq!(private.len(), 4, "{objects}");
    for key in private {
        let access = key.lines().find(|line| line.contains("Access:")).unwrap_or_default();
        for wanted in ["sensitive", "always sensitive", "never extractable", "local"] {
            assert!(access.contains(wanted), "{wanted} is missing in {key}");
        }
        let usage = key.lines().find(|line| line.contains("Usage:")).unwrap_or_default();
        assert_eq!(usage.trim(), "Usage:      sign", "{key}");
    }
    chain_stands(&place);

    let authority = place.authority();
    let checkpoint = std::fs::read_to_string(place.path("state/public/checkpoint")).unwrap();
    assert!(checkpoint.starts_with(&format!("{}\n1\n", authority.origin)), "{checkpoint}");
    assert!(!place.path("state/ca/unfinished.json").exists());
    let transcript = place
        .files()
        .into_iter()
        .find(|(path, _)| {
            path.to_string_lossy().ends_with(".json")
                && path.to_string_lossy().contains("transcript")
        })
        .unwrap();
    let sum = openssl(&["dgst", "-sha256", "-r", transcript.0.to_str().unwrap()], place.dir.path());
    assert!(sum.starts_with(&authority.transcript_sha256), "{sum}");
    let pin = std::fs::read_to_string(place.path("token/pin")).unwrap();
    assert!(!String::from_utf8_lossy(&transcript.1).contains(&pin));

    let root = done(&place.command(CHANCERY).args(["root", "certbot"]).output().unwrap());
    let fingerprint = openssl(
        &["x509", "-in", "state/public/root.pem", "-noout", "-fingerprint", "-sha256"],
        place.dir.path(),
    );
    let fingerprint = fingerprint.trim().split_once('=').unwrap().1.to_owned();
    assert!(root.contains(&fingerprint) && told.contains(&fingerprint), "{root}");
    assert!(root.contains("REQUESTS_CA_BUNDLE") && !root.contains("LEGO"), "{root}");
}

#[test]
fn held_twice_it_is_refused_and_changes_nothing() {
    let place = Place::new(&[]);
    done(&place.lab(&["--yes"]));
    let (files, objects) = (place.files(), place.objects("chancery"));
    refused(&place.lab(&["--yes"]), "CHY-CEREMONY-KEYS-EXIST");
    refused(&place.lab(&["--yes", "--discard-unfinished"]), "CHY-CEREMONY-KEYS-EXIST");
    assert_eq!(place.files(), files);
    assert_eq!(place.objects("chancery"), objects);
    // The state alone is gone: the keys on the token still forbid a second CA with their names.
    std::fs::remove_dir_all(place.path("state")).unwrap();
    refused(&place.lab(&["--yes"]), "CHY-CEREMONY-KEYS-EXIST");
    assert_eq!(place.objects("chancery"), objects);
}

#[test]
fn a_ceremony_cut_short_is_refused_and_discarded_on_request_only() {
    let place = Place::new(&[]);
    // A directory in the way of the root's CRL: keys and log are made, publishing fails.
    std::fs::create_dir_all(place.path("state/public/crl/root.crl")).unwrap();
    let cut = place.lab(&["--yes"]);
    refused(&cut, "CHY-STATE-DIR");
    assert!(String::from_utf8_lossy(&cut.stderr).contains("--discard-unfinished"));
    assert!(!place.path("state/ca/authority.json").exists());
    let objects = place.objects("chancery");
    assert_eq!(objects.matches("Private Key Object").count(), 4);
    refused(&place.lab(&["--yes"]), "CHY-CEREMONY-UNFINISHED");
    assert_eq!(place.objects("chancery"), objects);

    std::fs::remove_dir(place.path("state/public/crl/root.crl")).unwrap();
    done(&place.lab(&["--yes", "--discard-unfinished"]));
    assert_eq!(place.objects("chancery").matches("Private Key Object").count(), 4);
    assert_ne!(place.objects("chancery"), objects);
    chain_stands(&place);
}

#[test]
fn a_box_that_has_its_ca_becomes_a_witness() {
    let place = Place::new(&[]);
    let witness = |more: &[&str]| place.ceremony("run", &shipped("witness"), more);
    refused(&witness(&["--yes"]), "CHY-CA-ABSENT");
    assert!(!place.objects("chancery").contains("chancery-witness"));
    done(&place.lab(&["--yes"]));
    let before = place.authority();
    let log = |place: &Place| {
        let files = place.files().into_iter();
        files.filter(|(path, _)| path.starts_with(place.path("state/issuer"))).collect::<Vec<_>>()
    };
    let log_before = log(&place);

    let told = done(&witness(&["--yes"]));
    assert!(told.contains("witness key   ca.lan/witness+"), "{told}");
    let after = place.authority();
    let made = after.witness.clone().unwrap();
    assert_eq!(made.name, "ca.lan/witness");
    assert_eq!(Authority { witness: None, ..after }, before);
    assert_eq!(log(&place), log_before);
    let objects = place.objects("chancery");
    assert_eq!(objects.matches("Private Key Object").count(), 5, "{objects}");
    refused(&witness(&["--yes"]), "CHY-CEREMONY-KEYS-EXIST");

    // As if it had stopped before the commit: only what it made is removed, and neither CA nor log is touched.
    std::fs::write(place.path("state/ca/authority.json"), serde_json::to_vec(&before).unwrap())
        .unwrap();
    let id = made.key.uri.split("id=").nth(1).unwrap().split([';', '?']).next().unwrap();
    let id: String = id.split('%').collect::<String>().to_ascii_lowercase();
    let unfinished = serde_json::json!({
        "ceremony": "witness", "began": "2026-11-22T00:00:00Z",
        "keys": [{ "name": "witness", "label": "chancery-witness", "token": "online", "id": id }]
    });
    std::fs::write(place.path("state/ca/unfinished.json"), unfinished.to_string()).unwrap();
    refused(&witness(&["--yes"]), "CHY-CEREMONY-UNFINISHED");
    done(&witness(&["--yes", "--discard-unfinished"]));
    assert_eq!(place.objects("chancery").matches("Private Key Object").count(), 5);
    assert_ne!(place.authority().witness.unwrap().key, made.key);
    assert_eq!(log(&place), log_before);
    // After the commit there is nothing to discard.
    std::fs::write(place.path("state/ca/unfinished.json"), {
        let key = place.authority().witness.unwrap().key;
        let id = key.uri.split("id=").nth(1).unwrap().split([';', '?']).next().unwrap().to_owned();
        let id: String = id.split('%').collect::<String>().to_ascii_lowercase();
        let mut unfinished = unfinished;
        unfinished["keys"][0]["id"] = id.into();
        unfinished.to_string()
    })
    .unwrap();
    refused(&witness(&["--yes", "--discard-unfinished"]), "CHY-CEREMONY-KEYS-EXIST");
    assert_eq!(place.objects("chancery").matches("Private Key Object").count(), 5);
}

#[test]
fn the_root_may_live_on_another_box() {
    let (offline, online) = (Place::new(&[]), Place::new(&[]));
    let (root_file, online_file) = (shipped("root-offline"), shipped("issuing-online"));
    let root_pem = offline.path("state/public/root.pem");
    let root_crl = offline.path("state/public/crl/root.crl");
    let csr = online.path("issuing.csr");
    let issuing = offline.path("issuing.pem");
    let [root_pem, root_crl, csr, issuing] =
        [&root_pem, &root_crl, &csr, &issuing].map(|path| path.to_str().unwrap().to_owned());

    refused(&online.ceremony("run", &online_file, &["--yes"]), "CHY-CEREMONY-FILE");
    done(&offline.ceremony("run", &root_file, &["--yes"]));
    assert_eq!(offline.objects("chancery").matches("Private Key Object").count(), 1);
    assert!(!offline.path("state/ca/authority.json").exists());

    online.rehearsed("export-request", &online_file, &["--root", &root_pem]);
    done(&online.ceremony("export-request", &online_file, &["--root", &root_pem, "--yes"]));
    assert_eq!(online.objects("chancery").matches("Private Key Object").count(), 3);
    openssl(&["req", "-in", "issuing.csr", "-noout", "-verify"], online.dir.path());
    assert!(online.authority().issuing.is_none());

    refused(
        &offline.ceremony("sign-request", &root_file, &["--request", &root_pem, "--yes"]),
        "CHY-CEREMONY-REQUEST",
    );
    offline.rehearsed("sign-request", &root_file, &["--request", &csr]);
    done(&offline.ceremony("sign-request", &root_file, &["--request", &csr, "--yes"]));

    let import = |certificate: &str, crl: &str| {
        let more = ["--certificate", certificate, "--root-crl", crl, "--yes"];
        online.ceremony("import", &online_file, &more)
    };
    // The root itself is no certificate for this box's key.
    refused(&import(&root_pem, &root_crl), "CHY-CEREMONY-IMPORT");
    refused(&import(&issuing, &issuing), "CHY-CEREMONY-IMPORT");
    let strange = Place::new(&[]);
    done(&strange.ceremony("run", &root_file, &["--yes"]));
    let other_crl = strange.path("state/public/crl/root.crl");
    refused(&import(&issuing, other_crl.to_str().unwrap()), "CHY-CEREMONY-IMPORT");
    assert!(online.authority().issuing.is_none());

    online.rehearsed("import", &online_file, &["--certificate", &issuing, "--root-crl", &root_crl]);
    let other = ["--certificate", &root_pem, "--root-crl", &root_crl, "--rehearse"];
    refused(&online.ceremony("import", &online_file, &other), "CHY-CEREMONY-IMPORT");
    done(&import(&issuing, &root_crl));
    chain_stands(&online);
    assert!(online.authority().root_key.is_none());
    refused(&import(&issuing, &root_crl), "CHY-CEREMONY-DONE");
}

#[test]
fn another_issuing_ca_may_be_certified_by_a_root_on_another_box() {
    let (offline, online) = (Place::new(&[]), Place::new(&[]));
    let (root_file, online_file) = (shipped("root-offline"), shipped("issuing-online"));
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let root_pem = text(offline.path("state/public/root.pem"));
    let root_crl = text(offline.path("state/public/crl/root.crl"));
    done(&offline.ceremony("run", &root_file, &["--yes"]));
    done(&online.ceremony("export-request", &online_file, &["--root", &root_pem, "--yes"]));
    let csr = text(online.path("issuing.csr"));
    done(&offline.ceremony("sign-request", &root_file, &["--request", &csr, "--yes"]));
    let issuing = text(offline.path("issuing.pem"));
    let import = ["--certificate", &issuing, "--root-crl", &root_crl, "--yes"];
    done(&online.ceremony("import", &online_file, &import));

    // The second: its own file without the root, and the root's file with another name.
    let shipped_text = |name| std::fs::read_to_string(shipped(name)).unwrap();
    let second = shipped_text("issuing-2").replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
    let (head, rest) = second.split_once("\n[tokens.root]\n").unwrap();
    let urls = rest.split_once("\n[urls]\n").unwrap().1.split_once("\n[issuing]\n").unwrap().0;
    let second = format!("{head}\n[urls]\n{urls}")
        .replace("ONLINE-TOKEN", "chancery")
        .replace("pin = { prompt = true }", "");
    let file = online.path("issuing-2.toml");
    std::fs::write(&file, second).unwrap();
    let again = shipped_text("root-offline")
        .replace("../key/", &format!("{REPOSITORY}/hsm/key/"))
        .replace("LAN Issuing CA 1", "LAN Issuing CA 2");
    let root_again = offline.path("root-again.toml");
    std::fs::write(&root_again, again).unwrap();

    let before = online.authority();
    done(&online.ceremony("add-issuer", &file, &["--out", "second.csr", "--yes"]));
    openssl(&["req", "-in", "second.csr", "-noout", "-verify"], online.dir.path());
    refused(&online.ceremony("add-issuer", &file, &["--yes"]), "CHY-ISSUER-REQUESTED");
    // Given up, it is as if it had never been asked for.
    let withdraw = ["--withdraw", "--yes"];
    done(&online.ceremony("import-issuer", &file, &withdraw));
    assert_eq!(online.authority(), before);
    refused(&online.ceremony("import-issuer", &file, &withdraw), "CHY-CEREMONY-IMPORT");
    assert_eq!(online.objects("chancery").matches("Private Key Object").count(), 3);

    done(&online.ceremony("add-issuer", &file, &["--out", "second.csr", "--yes"]));
    let csr = text(online.path("second.csr"));
    let sign = |file: &Path, out: &str| {
        done(&offline.ceremony("sign-request", file, &["--request", &csr, "--out", out, "--yes"]));
        text(offline.path(out))
    };
    let import = |certificate: &str| {
        online.ceremony("import-issuer", &file, &["--certificate", certificate, "--yes"])
    };
    // Another key's, and one with the name of the first.
    refused(&import(&issuing), "CHY-CEREMONY-IMPORT");
    refused(&import(&sign(&root_file, "same-name.pem")), "CHY-CEREMONY-FILE");
    let signed = sign(&root_again, "second.pem");
    online.rehearsed("import-issuer", &file, &["--certificate", &signed]);
    online.rehearsed("import-issuer", &file, &["--withdraw"]);
    done(&import(&signed));
    let authority = online.authority();
    assert_eq!((authority.version, authority.further_issuers.len()), (3, 1));
    assert_eq!(authority.newest_of("issuing").unwrap().name, "issuing-2");
    refused(&import(&issuing), "CHY-CEREMONY-IMPORT");
}

#[test]
fn the_next_crl_of_a_root_elsewhere_is_taken_in_only_if_it_follows() {
    let (offline, online) = (Place::new(&[]), Place::new(&[]));
    let (root_file, online_file) = (shipped("root-offline"), shipped("issuing-online"));
    let path = |place: &Place, below: &str| place.path(below).to_str().unwrap().to_owned();
    let first = path(&offline, "state/public/crl/root.crl");
    done(&offline.ceremony("run", &root_file, &["--yes"]));
    let root_pem = path(&offline, "state/public/root.pem");
    done(&online.ceremony("export-request", &online_file, &["--root", &root_pem, "--yes"]));
    let csr = path(&online, "issuing.csr");
    done(&offline.ceremony("sign-request", &root_file, &["--request", &csr, "--yes"]));
    let issuing = path(&offline, "issuing.pem");
    let more = ["--certificate", &issuing, "--root-crl", &first, "--yes"];
    done(&online.ceremony("import", &online_file, &more));
    std::fs::copy(&first, offline.path("first.crl")).unwrap();

    let take = |file: &Path| online.ceremony("import-root-crl", file, &["--yes"]);
    // The root key is not here, and what is here already does not follow itself.
    refused(&online.ceremony("root-crl", &online_file, &["--yes"]), "CHY-CEREMONY-FILE");
    refused(&online.ceremony("root-crl", &root_file, &["--yes"]), "CHY-CA-ABSENT");
    refused(&take(&offline.path("first.crl")), "CHY-CEREMONY-IMPORT");
    offline.rehearsed("root-crl", &root_file, &["--out", "second.crl"]);
    done(&offline.ceremony("root-crl", &root_file, &["--out", "second.crl", "--yes"]));
    let serial = openssl(&["x509", "-in", &issuing, "-noout", "-serial"], offline.dir.path());
    let serial = serial.trim().trim_start_matches("serial=").to_owned();
    let more = ["--out", "third.crl", "--revoke", &serial, "--reason", "superseded", "--yes"];
    let told = done(&offline.ceremony("root-crl", &root_file, &more));
    assert!(told.contains("revokes"), "{told}");

    let strange = Place::new(&[]);
    done(&strange.ceremony("run", &root_file, &["--yes"]));
    done(&strange.ceremony("root-crl", &root_file, &["--out", "strange.crl", "--yes"]));
    refused(&take(&strange.path("strange.crl")), "CHY-CEREMONY-IMPORT");
    let mut torn = std::fs::read(offline.path("second.crl")).unwrap();
    let last = torn.len() - 1;
    torn[last] ^= 1;
    std::fs::write(offline.path("torn.crl"), torn).unwrap();
    refused(&take(&offline.path("torn.crl")), "CHY-CEREMONY-IMPORT");
    let published = std::fs::read(online.path("state/public/crl/root.crl")).unwrap();
    assert_eq!(published, std::fs::read(offline.path("first.crl")).unwrap());

    online.rehearsed("import-root-crl", &offline.path("second.crl"), &[]);
    refused(
        &online.ceremony("import-root-crl", &offline.path("first.crl"), &["--rehearse"]),
        "CHY-CEREMONY-IMPORT",
    );
    done(&take(&offline.path("second.crl")));
    chain_stands(&online);
    let said = online.ceremony("import-root-crl", &offline.path("third.crl"), &[]);
    refused(&said, "CHY-CONFIRM");
    assert!(String::from_utf8_lossy(&said.stderr).contains("would issue nothing"), "{said:?}");
    done(&take(&offline.path("third.crl")));
    let third = std::fs::read(offline.path("third.crl")).unwrap();
    for below in ["state/public/crl/root.crl", "state/ca/root.crl"] {
        assert_eq!(std::fs::read(online.path(below)).unwrap(), third);
    }
    // Back to one that revokes nothing: never.
    refused(&take(&offline.path("second.crl")), "CHY-CEREMONY-IMPORT");
}

#[test]
fn a_tls_key_that_was_left_on_the_token_is_not_forgotten() {
    let place = Place::new(&[]);
    let text = std::fs::read_to_string(shipped("lab")).unwrap();
    let text = text.replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
    let file = place.path("lab.toml");
    std::fs::write(&file, text.replace("Lab Issuing CA", "Lab, Issuing CA")).unwrap();
    done(&place.ceremony("run", &file, &["--yes"]));
    let rotate = |label: &str| {
        let key = std::fs::read_to_string(format!("{REPOSITORY}/hsm/key/tls-2.toml")).unwrap();
        std::fs::write(place.path("tls.toml"), key.replace("chancery-tls-2", label)).unwrap();
        let text = std::fs::read_to_string(shipped("tls-key")).unwrap();
        let text = text.replace("../key/tls-2.toml", "tls.toml");
        std::fs::write(place.path("tls-key.toml"), text.replace("tls-key-2", label)).unwrap();
        done(&place.ceremony("rotate-tls-key", &place.path("tls-key.toml"), &["--yes"]));
    };
    rotate("second");
    // As finish-tls-key without --remove leaves it, which a box that serves can hold.
    let path = place.path("state/ca/authority.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"done\": false", "\"done\": true")).unwrap();
    rotate("third");
    let check = |more: &[&str]| {
        place.command(CHANCERY).args(["ceremony", "check-token"]).args(more).output().unwrap()
    };
    let told = done(&check(&[]));
    assert!(told.contains("second") && told.contains("third"), "{told}");
    assert!(!told.contains("chancery-tls"), "one that is done with may be gone: {told}");
    // Nor is an issuing CA looked for that is done with.
    let text = std::fs::read_to_string(&path).unwrap();
    let over = text.replacen('{', "{\"done\": [\"issuing\"],", 1);
    std::fs::write(&path, over).unwrap();
    let told = done(&check(&[]));
    assert!(!told.contains("chancery-issuing") && told.contains("chancery-root"), "{told}");
    std::fs::write(&path, text).unwrap();
    assert_eq!(check(&["--token", "pkcs11:token=chancery;object=third"]).status.code(), Some(2));
    let file = shipped("retire");
    let told = done(&place.ceremony("retire", &file, &["--yes", "Chancery Lab, Issuing CA"]));
    for label in ["chancery-tls", "second", "third"] {
        assert!(told.contains(&format!("DESTROYED {label}\n")), "{label}: {told}");
    }
    assert!(!place.objects("chancery").contains("Private Key Object"));
}

#[test]
fn root_and_issuing_key_may_sit_on_two_tokens() {
    let place = Place::new(&["ROOT-TOKEN", "ONLINE-TOKEN"]);
    let text = std::fs::read_to_string(shipped("root-and-issuing-two-tokens")).unwrap();
    let pin = format!("pin = {{ file = \"{}\" }}", place.path("token/pin").display());
    let text = text
        .replace("pin = { prompt = true }", &pin)
        .replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
    let file = place.path("two.toml");
    std::fs::write(&file, text).unwrap();
    done(&place.ceremony("run", &file, &["--yes"]));
    assert_eq!(place.objects("ROOT-TOKEN").matches("Private Key Object").count(), 1);
    assert_eq!(place.objects("ONLINE-TOKEN").matches("Private Key Object").count(), 3);
    chain_stands(&place);
}

#[test]
fn a_rehearsal_leaves_no_trace() {
    let place = Place::new(&[]);
    let objects = place.objects("chancery");
    let told = done(&place.lab(&["--rehearse"]));
    assert!(told.starts_with("REHEARSAL") && told.contains("CERTIFICATE issuing"), "{told}");
    assert!(told.contains("REHEARSAL on throw-away tokens: it counts for nothing"), "{told}");
    assert!(place.files().is_empty());
    assert_eq!(place.objects("chancery"), objects);
    for name in ["root-offline", "root-and-issuing-two-tokens"] {
        done(&place.ceremony("run", &shipped(name), &["--rehearse"]));
    }
}

#[test]
fn every_ceremony_is_rehearsed_on_a_copy_with_other_keys_and_leaves_no_trace() {
    let place = Place::new(&[]);
    refused(&place.ceremony("run", &shipped("witness"), &["--rehearse"]), "CHY-CA-ABSENT");
    done(&place.lab(&["--yes"]));
    let [issuer, root] = ["issuing-2", "root-2"].map(|name| place.for_lab(name));
    let [witness, log_key, tls_key, retire] =
        ["witness", "log-key", "tls-key", "retire"].map(shipped);
    for (verb, file) in [
        ("run", &witness),
        ("rotate-log-key", &log_key),
        ("rotate-tls-key", &tls_key),
        ("add-issuer", &issuer),
        ("root-crl", &shipped("lab")),
        ("retire", &retire),
    ] {
        place.rehearsed(verb, file, &[]);
    }
    let told = place.rehearsed("add-root", &root, &[]);
    let certificate = |told: &str, what: &str| {
        let at = told.find(&format!("CERTIFICATE {what}\n")).unwrap();
        told[at..].split("\n\n").next().unwrap().to_owned()
    };
    // The same name and the same serial number; another key.
    let told_key = certificate(&told, "root");
    let subject = "CN=Chancery Lab Root";
    assert!(told_key.contains(subject), "{told_key}");
    let public = place.path("state/public");
    let serial = openssl(&["x509", "-in", "root.pem", "-noout", "-serial"], &public);
    let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
    assert!(told_key.to_lowercase().contains(&serial), "{told_key}");
    let print = openssl(&["x509", "-in", "root.pem", "-noout", "-fingerprint", "-sha256"], &public);
    let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert!(!told_key.to_lowercase().contains(&print), "{told_key}");

    // What is refused is refused in the rehearsal too.
    let refusals = [
        ("finish-log-key", &log_key, "CHY-LOG-KEY-ALONE"),
        ("finish-tls-key", &tls_key, "CHY-TLS-KEY-ALONE"),
        ("finish-issuer", &issuer, "CHY-ISSUER-FIRST"),
        ("finish-root", &root, "CHY-ROOT-FIRST"),
    ];
    for (verb, file, code) in refusals {
        refused(&place.ceremony(verb, file, &["--rehearse"]), code);
    }
    for (verb, file) in [
        ("add-root", &root),
        ("add-issuer", &issuer),
        ("rotate-log-key", &log_key),
        ("rotate-tls-key", &tls_key),
    ] {
        done(&place.ceremony(verb, file, &["--yes"]));
    }
    for (verb, file, code) in [
        ("finish-log-key", &log_key, "CHY-LOG-KEY-BUSY"),
        ("finish-tls-key", &tls_key, "CHY-TLS-KEY-BUSY"),
        ("finish-issuer", &issuer, "CHY-ISSUER-SUPERSEDED"),
        ("finish-root", &root, "CHY-ROOT-BUSY"),
        ("rotate-log-key", &log_key, "CHY-LOG-KEY-BUSY"),
    ] {
        let output = place.ceremony(verb, file, &["--rehearse"]);
        assert!(!output.status.success(), "{verb} was not refused: {output:?}");
        refused(&output, code);
    }
    // With all that such a box has by now: two roots that certify each other, two issuing CAs, two log keys.
    place.rehearsed("run", &witness, &[]);
    let told = place.rehearsed("retire", &retire, &[]);
    for label in ["root", "root-2", "issuing", "issuing-2", "log", "log-2", "tls", "tls-2"] {
        assert!(told.contains(&format!("DESTROYED chancery-{label}\n")), "{label}: {told}");
    }
    let check = place.command(CHANCERY).args(["ceremony", "check-token"]).output().unwrap();
    assert_eq!(done(&check).lines().filter(|line| line.starts_with("ok ")).count(), 8);
}

#[test]
fn what_is_wrong_is_told_once_and_clearly() {
    let place = Place::new(&[]);
    let text = std::fs::read_to_string(shipped("lab")).unwrap();
    let text = text.replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
    let file = place.path("bad.toml");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        place.ceremony("run", &file, &["--yes"])
    };
    refused(
        &run(&text.replace("label = \"chancery\"", "label = \"elsewhere\"")),
        "CHY-TOKEN-ABSENT",
    );
    refused(&run(&text.replace("http://", "https://")), "CHY-CEREMONY-FILE");
    refused(&run(&text.replace("root-crl-days", "root-crl-dais")), "CHY-CONFIG");
    refused(&run(&text.replace("\"10.0.0.0/8\"", "\"10.0.0.1/8\"")), "CHY-CEREMONY-FILE");
    for verb in ["root-2", "issuing-2"] {
        let text = std::fs::read_to_string(shipped(verb)).unwrap();
        let text = text.replace("../key/", &format!("{REPOSITORY}/hsm/key/"));
        std::fs::write(&file, text.replace(&format!("name = \"{verb}\""), "name = \"tls\""))
            .unwrap();
        let ceremony = if verb == "root-2" { "add-root" } else { "add-issuer" };
        refused(&place.ceremony(ceremony, &file, &[]), "CHY-CEREMONY-FILE");
    }
    std::fs::write(place.path("token/pin"), "00000000").unwrap();
    refused(&run(&text), "CHY-PIN-REFUSED");
    assert!(!place.path("state/ca/unfinished.json").exists());
}
