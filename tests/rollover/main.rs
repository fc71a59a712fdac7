//! Another issuing CA and another root, years after the ceremony: a real box with SoftHSM2, each root on a token of its
//! own, devices that order before, between and after, and OpenSSL, which has only one of the roots. `elsewhere`: the
//! roots are on boxes of their own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../support/plant.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod plant;

mod elsewhere;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use plant::Plant;
use plant::lab::{
    Options, chancery, crash_issuer, done, eventually, faketime, get, refused, succeed,
};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn openssl(dir: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).current_dir(dir).output().unwrap()
}

/// A shipped ceremony file as the lab's names, URLs and lifetimes want it.
fn shipped(name: &str) -> String {
    let text = std::fs::read_to_string(format!("{REPOSITORY}/hsm/ceremony/{name}.toml"));
    text.unwrap()
        .replace("../key/", &format!("{REPOSITORY}/hsm/key/"))
        .replace("http://ca.lan/", "http://localhost:8080/")
        .replace("\"ONLINE-TOKEN\"", "\"chancery\"")
        .replace("pin = { prompt = true }", "")
        .replace("\"test\"]", "\"test\", \"localhost\"]")
        .replace("[\"10.0.0.0/8\"", "[\"127.0.0.0/8\", \"::1/128\", \"10.0.0.0/8\"")
        .replace("lifetime-days = 7300", "lifetime-days = 3000")
        .replace("lifetime-days = 3285", "lifetime-days = 1400")
        .replace("lifetime-days = 3650", "lifetime-days = 1500")
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A box, and one device.
struct Scene {
    plant: Plant,
    /// Where chains and shipped files lie.
    dir: PathBuf,
    /// How far the box's clock is ahead.
    days: u64,
}

impl Scene {
    /// The lab's ceremony, with the root key on a token of its own.
    fn new() -> Self {
        let mut plant = Plant::without_ceremony(Options::default());
        let mut sandbox = Command::new(format!("{REPOSITORY}/hsm/sandbox.sh"));
        succeed(sandbox.arg(plant.lab.dir.join("token")).args(["ROOT-1", "ROOT-2"]));
        let root = |label: &str| format!("[tokens.root]\nlabel = \"{label}\"\n");
        plant.lab.hold("lab", &root("chancery"), &root("ROOT-1"));
        plant.lab.serve();
        Self::of(plant)
    }

    /// A box that serves.
    fn of(plant: Plant) -> Self {
        let dir = plant.lab.dir.join("chains");
        std::fs::create_dir(&dir).unwrap();
        for file in ["root.pem", "issuing.pem"] {
            std::fs::copy(plant.lab.dir.join("state/public").join(file), dir.join(file)).unwrap();
        }
        Self { plant, dir, days: 0 }
    }

    /// A new device orders; every chain that it is offered, as files `NAME-0.pem` and so on: leaf alone, and behind it.
    fn order(&self, name: &str) -> Vec<String> {
        let mut client = self.plant.registered();
        self.plant.runtime.block_on(async {
            let issued = client.order(&[&format!("{name}.test")]).await.unwrap();
            let order = client.fetch(&issued.order_url).await.unwrap();
            let url = order["certificate"].as_str().unwrap().to_owned();
            let mut chains = vec![issued.chain];
            while let Ok(text) = client.download(&format!("{url}/{}", chains.len())).await {
                chains.push(text);
            }
            for (n, chain) in chains.iter().enumerate() {
                let end = "-----END CERTIFICATE-----\n";
                let (leaf, behind) = chain.split_once(end).unwrap();
                std::fs::write(self.dir.join(format!("{name}.pem")), format!("{leaf}{end}"))
                    .unwrap();
                std::fs::write(self.dir.join(format!("{name}-{n}.pem")), behind).unwrap();
            }
            chains
        })
    }

    /// Whether OpenSSL, which trusts this root alone, finds its way with what stands behind the leaf.
    fn verifies(&self, root: &str, chain: &str, leaf: &str) -> bool {
        let days = format!("+{} days", self.days);
        let at = succeed(Command::new("date").args(["+%s", "-d", &days]));
        let verify = ["verify", "-x509_strict", "-attime", at.trim(), "-CAfile", root];
        openssl(&self.dir, &[&verify[..], &["-untrusted", chain, leaf]].concat()).status.success()
    }

    fn fetch(&self, file: &str) {
        let from = self.plant.lab.dir.join("state/public").join(file);
        std::fs::copy(&from, self.dir.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// A shipped ceremony file, for the lab, its root key on this token.
    fn ceremony(&self, name: &str, root: &str) -> String {
        let text = shipped(name)
            .replace("LAN Root\"", "Chancery Lab Root\"")
            .replace("# [tokens.former]", "[tokens.former]")
            .replace("# label = \"FORMER-ROOT-TOKEN\"", "label = \"ROOT-1\"")
            .replace("\"ROOT-TOKEN\"", &format!("\"{root}\""));
        write(&self.dir, name, &text)
    }

    /// The box is found so many days later, with a clock that is right.
    fn time_passes(&mut self, library: &Path, days: u64) {
        let lab = &mut self.plant.lab;
        lab.stop();
        lab.environment.extend([
            ("LD_PRELOAD", library.to_owned()),
            ("FAKETIME", format!("+{days}d").into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]);
        self.days = days;
        lab.spawn();
        eventually(lab, "it waits for a person", || {
            get(lab.http, "/readyz").is_some_and(|told| told.contains("CHY-CLOCK-JUMP"))
        });
        done(chancery(lab, &["clock", "accept", "--yes"]));
        lab.wait_ready(std::time::Duration::from_secs(60));
    }

    fn restart(&mut self) {
        self.plant.lab.stop();
        self.plant.lab.serve();
    }

    fn revoke(&self, leaf: &str) {
        let serial = done(openssl(&self.dir, &["x509", "-in", leaf, "-noout", "-serial"]));
        let serial = serial.trim().strip_prefix("serial=").unwrap().to_lowercase();
        done(chancery(&self.plant.lab, &["cert", "revoke", &serial, "--yes"]));
    }

    /// Waits for the shard that a certificate names to list it, verified under this issuing certificate.
    fn is_listed(&self, leaf: &str, issuing: &str) {
        let told = done(openssl(&self.dir, &["x509", "-in", leaf, "-noout", "-text"]));
        let url = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("URI:http://localhost:8080/crl/"));
        let file = self.plant.lab.dir.join("state/public/crl").join(url.unwrap());
        let serial = done(openssl(&self.dir, &["x509", "-in", leaf, "-noout", "-serial"]));
        let serial = serial.trim().strip_prefix("serial=").unwrap().to_owned();
        let file = file.to_str().unwrap();
        eventually(&self.plant.lab, "the shard lists it", || {
            let output = openssl(
                &self.dir,
                &["crl", "-inform", "DER", "-in", file, "-CAfile", issuing, "-text"],
            );
            let said = String::from_utf8_lossy(&output.stderr).contains("verify OK");
            said && String::from_utf8_lossy(&output.stdout).contains(&serial)
        });
    }
}

#[test]
fn an_issuing_ca_takes_over_from_another() {
    let mut scene = Scene::new();
    scene.order("before");
    assert!(scene.verifies("root.pem", "before-0.pem", "before.pem"));
    let file = scene.ceremony("issuing-2", "ROOT-1");
    let add = |scene: &Scene, more: &[&str]| {
        chancery(&scene.plant.lab, &[&["ceremony", "add-issuer", &file][..], more].concat())
    };
    refused(&add(&scene, &[]), "CHY-CONFIRM");

    // Killed at the commit: the new authority.json is longer than the old, and than everything before it.
    let authority = scene.plant.lab.dir.join("state/ca/authority.json");
    let old = std::fs::read(&authority).unwrap();
    let killed = scene
        .plant
        .lab
        .chancery_under("prlimit", &[&format!("--fsize={}", old.len())])
        .args(["ceremony", "add-issuer", &file, "--yes"])
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(25), "no SIGXFSZ: {killed:?}");
    assert_eq!(std::fs::read(&authority).unwrap(), old);
    refused(&add(&scene, &["--yes"]), "CHY-CEREMONY-UNFINISHED");
    crash_issuer(&scene.plant.lab);
    let told = done(add(&scene, &["--yes", "--discard-unfinished"]));
    assert!(told.contains("takes over    from issuing") && told.contains("Restart both"), "{told}");
    refused(&add(&scene, &["--yes"]), "CHY-CEREMONY-DONE");

    // Made, and not yet in force: both processes know nothing of it.
    scene.order("between");
    assert!(scene.verifies("root.pem", "issuing.pem", "between.pem"));
    scene.restart();
    scene.fetch("issuing-2.pem");
    scene.fetch("issuing-2-chain.pem");
    let chains = scene.order("after");
    assert_eq!(chains.len(), 2, "without the root and with it");
    assert!(scene.verifies("root.pem", "issuing-2.pem", "after.pem"));
    assert!(!scene.verifies("root.pem", "issuing.pem", "after.pem"));
    assert!(scene.verifies("root.pem", "after-0.pem", "after.pem"));
    assert!(scene.verifies("root.pem", "before-0.pem", "before.pem"), "the old one stands");
    crash_issuer(&scene.plant.lab);
    scene.order("later");
    assert!(scene.verifies("root.pem", "issuing-2.pem", "later.pem"));

    scene.revoke("before.pem");
    scene.revoke("after.pem");
    scene.is_listed("before.pem", "issuing.pem");
    scene.is_listed("after.pem", "issuing-2.pem");
    let finish = chancery(&scene.plant.lab, &["ceremony", "finish-issuer", &file, "--yes"]);
    refused(&finish, "CHY-ISSUER-SUPERSEDED");
    let listed = done(chancery(&scene.plant.lab, &["log", "list", "--kind", "issuer"]));
    assert_eq!(listed.matches("issuing-2 takes over").count(), 1, "{listed}");
    done(chancery(&scene.plant.lab, &["log", "verify"]));

    // ca/ as it was before the ceremony does not fit this log any more.
    scene.plant.lab.stop();
    let newest = std::fs::read(&authority).unwrap();
    std::fs::write(&authority, &old).unwrap();
    scene.plant.lab.spawn();
    eventually(&scene.plant.lab, "the start is refused", || {
        scene.plant.lab.log_tail().contains("CHY-CA-LOG:")
    });
    scene.plant.lab.stop();
    std::fs::write(&authority, &newest).unwrap();
}

#[test]
fn a_root_takes_over_from_another() {
    let mut scene = Scene::new();
    scene.order("before");
    let (root, issuer) =
        (scene.ceremony("root-2", "ROOT-2"), scene.ceremony("issuing-2", "ROOT-2"));
    let told = done(chancery(&scene.plant.lab, &["ceremony", "add-root", &root, "--yes"]));
    assert!(told.contains("CERTIFICATE root-2 by root"), "{told}");
    scene.restart();
    for file in ["root-2.pem", "root-2-by-root.pem", "root-by-root-2.pem"] {
        scene.fetch(file);
    }
    // A device that has only the new root finds its way to what the old one's issuing CA issues.
    let chains = scene.order("between");
    assert_eq!(chains.len(), 3);
    assert!(scene.verifies("root.pem", "between-0.pem", "between.pem"));
    assert!(!scene.verifies("root-2.pem", "between-0.pem", "between.pem"));
    assert!(scene.verifies("root-2.pem", "between-2.pem", "between.pem"));

    // Whose CRL ends, of two, is said by name.
    let told = done(chancery(&scene.plant.lab, &["status"]));
    for root in ["root", "root-2"] {
        assert!(told.contains(&format!("root's CRL  {root}, number ")), "{root}: {told}");
    }
    let told = chancery(&scene.plant.lab, &["doctor", "--no-login"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("root CRL ") && told.contains("root-2 CRL "), "{told}");

    done(chancery(&scene.plant.lab, &["ceremony", "add-issuer", &issuer, "--yes"]));
    scene.restart();
    let chains = scene.order("after");
    assert_eq!(chains.len(), 3);
    assert!(
        scene.verifies("root.pem", "after-0.pem", "after.pem"),
        "the usual one is for old devices"
    );
    assert!(scene.verifies("root-2.pem", "after-0.pem", "after.pem"), "and for new ones");
    assert!(
        scene.verifies("root-2.pem", "after-1.pem", "after.pem"),
        "without the cross-certificate"
    );
    assert!(!scene.verifies("root.pem", "after-1.pem", "after.pem"));
    let finish = chancery(&scene.plant.lab, &["ceremony", "finish-root", &root, "--yes"]);
    refused(&finish, "CHY-ROOT-BUSY");
    eventually(&scene.plant.lab, "both roots' CRLs are recorded", || {
        let told = done(chancery(&scene.plant.lab, &["log", "list", "--kind", "crl"]));
        told.contains("/crl/root.crl ") && told.contains("/crl/root-2.crl ")
    });
    let listed = done(chancery(&scene.plant.lab, &["log", "list", "--kind", "root,issuer"]));
    assert!(
        listed.contains("another root, root-2") && listed.contains("issuing-2 takes over"),
        "{listed}"
    );
    done(chancery(&scene.plant.lab, &["log", "verify"]));

    // The last certificate of the former issuing CA ends, and a CRL later its key goes; then the former root.
    let Some(library) = faketime() else {
        assert!(std::env::var_os("CI").is_none(), "CI has Debian's faketime");
        return eprintln!("left out: the end of the former root; faketime is not installed");
    };
    let finish = |scene: &Scene, what: &str, more: &[&str]| {
        chancery(&scene.plant.lab, &[&["ceremony", what][..], more, &["--yes"]].concat())
    };
    let early = finish(&scene, "finish-issuer", &[&issuer, "--remove"]);
    refused(&early, "CHY-ISSUER-SUPERSEDED");
    let ends = |scene: &Scene| {
        let told = done(chancery(&scene.plant.lab, &["log", "list", "--kind", "authority-end"]));
        told.matches("its time was over").count()
    };
    scene.time_passes(&library, 120);
    eventually(&scene.plant.lab, "the log retires the issuing CA", || ends(&scene) == 1);
    refused(&finish(&scene, "finish-root", &[&root]), "CHY-ROOT-BUSY");
    let told = done(finish(&scene, "finish-issuer", &[&issuer, "--remove"]));
    assert!(told.contains("\"issuing\" is done with") && told.contains("removed"), "{told}");
    scene.restart();
    let told = done(finish(&scene, "finish-root", &[&root]));
    assert!(told.contains("\"root\" is done with"), "{told}");
    scene.restart();
    eventually(&scene.plant.lab, "and the root", || ends(&scene) == 2);

    // Chains lead to the new root alone.
    let chains = scene.order("late");
    assert_eq!(chains.len(), 2, "without the root and with it");
    for n in ["late-0.pem", "late-1.pem"] {
        assert!(scene.verifies("root-2.pem", n, "late.pem"), "{n}");
        assert!(!scene.verifies("root.pem", n, "late.pem"), "{n}");
    }
    let told = done(chancery(&scene.plant.lab, &["ceremony", "check-token"]));
    assert_eq!(told.matches("ok  ").count(), 4, "issuing-2, root-2, log and TLS key: {told}");
    assert_eq!(done(finish(&scene, "finish-root", &[&root])).trim(), "nothing was left to do");
    done(chancery(&scene.plant.lab, &["log", "verify"]));
}
