//! Programs of others read this log and cosign it (C2SP tlog-tiles, tlog-checkpoint, tlog-proof, tlog-witness). Contents:
//!
//! - a reader made of golang.org/x/mod/sumdb, transparency-dev/merkle, formats and tessera's client verifies checkpoint,
//!   tiles, proofs and cosignatures of a whole box
//! - transparency-dev/witness, as it is, cosigns its checkpoints, and refuses a backup that was put back
//!
//! `make strangers` builds the programs and runs this.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64ct::{Base64, Encoding};
use chancery::tlog::note::VerifierKey;

use lab::{Lab, Options, get, now, pause, succeed};

/// transparency-dev/witness with a key of its own, watching one log.
struct Witness {
    address: SocketAddr,
    key: VerifierKey,
    process: Child,
}

impl Witness {
    fn start(dir: &Path, log: &VerifierKey) -> Self {
        let seed = [42; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        let name = "witness.example/w1";
        // Go's form of a private note key: the id is that of the same key of type 1.
        let id = VerifierKey::from_spki(name, &spki).unwrap().id();
        let id = u32::from_be_bytes(id);
        let secret = Base64::encode_string(&[&[1][..], &seed].concat());
        std::fs::write(dir.join("key"), format!("PRIVATE+KEY+{name}+{id:08x}+{secret}")).unwrap();
        let logs = format!(
            "Logs:\n  - Origin: {}\n    URL: http://localhost/\n    PublicKey: {log}\n    Feeder: none\n",
            log.name()
        );
        std::fs::write(dir.join("logs.yaml"), logs).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(tool("omniwitness"))
            .args(["--listen", &address.to_string(), "--metrics_listen", "", "--logtostderr"])
            .arg("--private_key_path")
            .arg(dir.join("key"))
            .arg("--additional_logs")
            .arg(dir.join("logs.yaml"))
            .arg("--db_file")
            .arg(dir.join("witness.db"))
            .stderr(std::fs::File::create(dir.join("witness.log")).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = now();
        while TcpStream::connect(address).is_err() {
            let said = || std::fs::read_to_string(dir.join("witness.log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(20), "no witness:\n{}", said());
            pause(Duration::from_millis(50));
        }
        Self { address, key: VerifierKey::cosigner(name, &spki).unwrap(), process }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(name);
    assert!(path.exists(), "{} is missing: make strangers", path.display());
    path
}

fn cosigned(lab: &Lab) -> Option<u64> {
    let answer = get(lab.http, "/checkpoint.witnessed")?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.lines().nth(1)?.parse().ok()).flatten()
}

fn await_cosigned(lab: &Lab, size: u64) -> u64 {
    let began = now();
    loop {
        if let Some(cosigned) = cosigned(lab).filter(|cosigned| *cosigned >= size) {
            return cosigned;
        }
        assert!(began.elapsed() < Duration::from_secs(40), "not cosigned:\n{}", lab.log_tail());
        pause(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs programs that `make strangers` builds"]
fn strangers_read_the_log_and_cosign_it() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Some("strangers.test/log".to_owned());
    let options = Options { http_port: 5002, origin, ..Options::default() };
    let mut lab = Lab::prepare(dir.path(), &options);
    let told = succeed(lab.chancery().args(["witness", "key", "--json"]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let log: VerifierKey = told["log"].as_str().unwrap().parse().unwrap();
    let witness = Witness::start(dir.path(), &log);
    let config = lab.dir.join("chancery.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("tls-names", "witness-seconds = 1\ntls-names");
    let entry = format!(
        "\n[[web.witnesses]]\nvkey = \"{}\"\nurl = \"http://{}\"\n",
        witness.key, witness.address
    );
    std::fs::write(&config, text + &entry).unwrap();
    lab.serve();
    // A start is a record: by the third the witness has seen a tree grow, and verified how.
    let first = await_cosigned(&lab, 1);
    for more in 1..=2 {
        lab.stop();
        lab.serve();
        await_cosigned(&lab, first + more);
    }

    // The reader, with what a stranger is given: an address and two keys.
    let prefix = format!("http://{}", lab.http);
    let keys = [log.to_string(), witness.key.to_string()];
    let said = succeed(Command::new(tool("reader")).args(["log", &prefix]).args(&keys));
    let number = |what: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(what));
        line.and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{said}"))
    };
    let size = number("checkpoint ");
    assert!(size > first + 1, "{said}");
    assert_eq!((number("inclusion "), number("consistency ")), (size, size - 1), "{said}");
    assert_eq!(number("tiles authenticated, "), size, "{said}");
    assert!(number("cosigned ") > first, "{said}");
    // It can say no.
    let other = VerifierKey::from_spki(log.name(), witness.key.spki()).unwrap().to_string();
    let refused = Command::new(tool("reader")).args(["log", &prefix, &other]).output().unwrap();
    assert!(!refused.status.success());

    // The proof of the box's own certificate.
    let issued = succeed(lab.chancery().args(["log", "list", "--kind", "issued", "--json"]));
    let issued: serde_json::Value = serde_json::from_str(issued.lines().next().unwrap()).unwrap();
    let serial = issued["serial"].as_str().unwrap_or_else(|| panic!("{issued}"));
    let file = lab.dir.join("own.tlog-proof");
    succeed(lab.chancery().args(["log", "prove", serial, "--out"]).arg(&file));
    let said = succeed(Command::new(tool("reader")).arg("proof").arg(&file).arg(&keys[0]));
    assert!(said.starts_with("leaf "), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let forged = text.replacen("index ", "index 1", 1);
    std::fs::write(&file, forged).unwrap();
    let forged = Command::new(tool("reader")).arg("proof").arg(&file).arg(&keys[0]).output();
    assert!(!forged.unwrap().status.success());

    // A backup put back, against a witness that is not ours: it refuses, and we say so.
    lab.stop();
    let (state, backup) = (lab.dir.join("state"), lab.dir.join("backup"));
    succeed(Command::new("cp").arg("-a").arg(&state).arg(&backup));
    let before = cosigned_file(&state);
    lab.serve();
    await_cosigned(&lab, before + 1);
    lab.stop();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&backup, &state).unwrap();
    lab.spawn();
    let began = now();
    loop {
        let health = get(lab.http, "/readyz").unwrap_or_default();
        if ["CHY-WITNESS-REFUSES", "CHY-WITNESS-FORK"].iter().any(|code| health.contains(code)) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(40), "{health}\n{}", lab.log_tail());
        pause(Duration::from_millis(100));
    }
}

fn cosigned_file(state: &Path) -> u64 {
    let note = std::fs::read_to_string(state.join("public/checkpoint.witnessed")).unwrap();
    note.lines().nth(1).unwrap().parse().unwrap()
}
