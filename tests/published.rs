//! The log as an outsider reads it from a whole box: tiles, entries and proofs, checked with nothing but the log's
//! public key.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use chancery::audit::proof::{Trust, check};
use chancery::log::record::Record;
use chancery::pki::certificate::Certificate;
use chancery::tlog::checkpoint::Checkpoint;
use chancery::tlog::note::VerifierKey;
use chancery::tlog::proof::{Proof, verify_consistency};
use chancery::tlog::tile::{self, Tile, TilePath, TiledTree, hashes, split_hashes};
use chancery::tlog::tree::{TreeHead, leaf_hash};
use plant::client::Client;
use plant::lab::{Options, now, pause, succeed};
use plant::{Plant, leaf};

/// A box, and an account that gets certificates from it.
struct House {
    plant: Plant,
    acme: Client,
    config: String,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl House {
    /// `readers` may read entries.
    fn start(readers: &str) -> Self {
        let plant = Plant::prepare(Options::default());
        let config = std::fs::read_to_string(plant.lab.dir.join("chancery.toml")).unwrap();
        let mut house = Self { acme: plant.client(), plant, config };
        house.serve(readers);
        house.acme = house.plant.registered();
        house
    }

    fn serve(&mut self, readers: &str) {
        self.plant.lab.stop();
        let config =
            self.config.replace("[web]\n", &format!("[web]\nlog-entries-for = {readers}\n"));
        std::fs::write(self.plant.lab.dir.join("chancery.toml"), config).unwrap();
        self.plant.lab.serve();
    }

    /// A new certificate, and the order it came from.
    fn certificate(&mut self, name: &str) -> (Certificate, serde_json::Value) {
        self.plant.runtime.block_on(async {
            let issued = self.acme.order(&[name]).await.unwrap();
            (leaf(&issued.chain), self.acme.fetch(&issued.order_url).await.unwrap())
        })
    }

    fn get(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.plant.lab.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(octets[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: octets[end + 4..].to_vec() }
    }

    fn key(&self) -> VerifierKey {
        succeed(self.plant.lab.chancery().args(["log", "key"])).trim().parse().unwrap()
    }

    fn checkpoint(&self) -> TreeHead {
        let answer = self.get("/checkpoint");
        assert!(answer.head.contains("content-type: text/plain; charset=utf-8"), "{}", answer.head);
        Checkpoint::open(&answer.body, &self.key()).unwrap().head
    }

    /// A tree read over HTTP.
    fn tree(&self, size: u64) -> TiledTree<impl tile::Tiles> {
        TiledTree::new(
            move |tile: &Tile| {
                let answer = self.get(&format!("/tile/{}", TilePath::Hashes(*tile)));
                assert_eq!(answer.status, 200, "{tile:?}");
                assert!(answer.head.contains("content-type: application/octet-stream"));
                assert_eq!(answer.body.len() % 32, 0);
                Ok(split_hashes(&answer.body))
            },
            size,
        )
    }

    fn tiles(&self, name: &str) -> PathBuf {
        self.plant.lab.dir.join("state/public/tiles").join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.plant.lab.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `chancery log check-proof` as someone runs it who has no box. Its exit code and what it said.
    fn check_proof(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["log", "check-proof"])
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "never {what}");
        pause(Duration::from_millis(50));
    }
}

#[test]
fn an_outsider_reads_the_tree_and_who_may_reads_the_entries() {
    let mut house = House::start("[\"127.0.0.0/8\"]");
    let before = house.checkpoint();
    for name in ["a.tiles.test", "b.tiles.test"] {
        house.certificate(name);
    }
    let head = house.checkpoint();
    let mut tree = house.tree(head.size);
    assert_eq!(tree.head().unwrap(), head, "the tiles make the signed root");
    let proof = tree.consistency(before.size).unwrap().unwrap();
    assert!(before.size > 0 && verify_consistency(&before, &head, &proof));
    drop(tree);

    // The entries are the leaves, and the records of this log.
    let width = Tile::width_in(0, 0, head.size);
    assert!(hashes(0, head.size) < 256, "one partial tile");
    let bundle = house.get(&format!("/tile/entries/000.p/{width}"));
    assert_eq!(bundle.status, 200);
    assert!(bundle.head.contains("cache-control: private, max-age=3600"), "{}", bundle.head);
    let entries = tile::entries(&bundle.body).unwrap();
    let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    assert_eq!(house.get(&format!("/tile/0/000.p/{width}")).body, leaves.concat());
    assert!(matches!(Record::decode(entries[0]), Ok(Record::CeremonyV1(_))));
    let text = String::from_utf8_lossy(&bundle.body).into_owned();
    assert!(text.contains("b.tiles.test"), "entries name hosts: that is why they are asked for");

    for absent in [
        "/tile/0/000".to_owned(),
        format!("/tile/0/000.p/{}", head.size + 1),
        "/tile/0/001.p/1".to_owned(),
        "/tile/1/000.p/1".to_owned(),
        "/tile/entries/000".to_owned(),
        "/tile/entries/001.p/1".to_owned(),
        "/tile/0/0".to_owned(),
        "/tiles/0".to_owned(),
        "/tile/../tiles/0".to_owned(),
    ] {
        let answer = house.get(&absent);
        assert_eq!(answer.status, 404, "{absent}");
    }
    assert!(house.get("/tile/0/001.p/1").head.contains("cache-control: no-store"));

    // Another network, and nobody.
    house.serve("[\"10.0.0.0/8\", \"fd00::/8\"]");
    assert_eq!(house.get("/tile/entries/000.p/1").status, 403);
    assert_eq!(house.get("/tile/0/000.p/1").status, 200);
    house.serve("[]");
    assert_eq!(house.get("/tile/entries/000.p/1").status, 404);
    assert!(!house.tiles("entries").exists() && !house.tiles("bundles").exists());
    assert_eq!(house.get("/tile/0/000.p/1").status, 200);
    // Once they are wanted again, they are all there.
    house.serve("[\"0.0.0.0/0\", \"::/0\"]");
    wait("are the entries back", || house.get("/tile/entries/000.p/1").status == 200);
    let back = house.get(&format!("/tile/entries/000.p/{width}"));
    assert_eq!(back.body, bundle.body);
    assert!(back.head.contains("cache-control: public"), "{}", back.head);
}

#[test]
fn a_certificate_is_proven_with_the_public_key_alone() {
    let mut house = House::start("[]");
    let (certificate, order) = house.certificate("a.proof.test");
    let (other, _) = house.certificate("b.proof.test");
    let serial = certificate.serial().unwrap();
    let member = &order["https://c2sp.org/tlog-proof@v1"];
    let url = member["proof"].as_str().unwrap();
    let path = format!("/proof/{serial}.tlog-proof");
    assert!(url.starts_with("https://") && url.ends_with(&path), "{url}");
    let served = house.get(&path);
    assert_eq!(served.status, 200);
    assert!(served.head.contains("content-type: text/plain; charset=utf-8"), "{}", served.head);
    let served = String::from_utf8(served.body).unwrap();
    let proof = Proof::parse(served.as_bytes()).unwrap();
    assert_eq!(member["index"].as_u64(), Some(proof.index));
    assert!(!served.contains("proof.test"), "it names no host");

    let key = house.key().to_string();
    let file = house.write("a.tlog-proof", &served);
    let pem = house.write("a.pem", &certificate.pem());
    let issuing = house.plant.lab.dir.join("state/public/issuing.pem");
    let issuing = issuing.to_str().unwrap();
    let all = [file.as_str(), "--key", &key, "--certificate", &pem, "--issuer", issuing];
    let (code, said) = house.check_proof(&all);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("the proof holds: leaf ") && said.contains("under its issuer"),
        "{said}"
    );
    let (code, said) = house.check_proof(&[&all[..], &["--json"]].concat());
    let verdict: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &verdict["holds"]), (0, &true.into()));
    assert_eq!(verdict["serial"].as_str(), Some(serial.to_string().as_str()));

    // Another certificate, another issuer, another key, a witness who did not sign: each said as what it is.
    let another = house.write("b.pem", &other.pem());
    let stranger = VerifierKey::from_spki("other.lan/log", house.key().spki()).unwrap().to_string();
    let witness = VerifierKey::cosigner("witness.lan", house.key().spki()).unwrap().to_string();
    for (arguments, flaw) in [
        (vec![&*file, "--key", &key, "--certificate", &another], "the serial differs"),
        (vec![&*file, "--key", &key, "--certificate", &pem, "--issuer", &pem], "not signed by"),
        (vec![&*file, "--key", &stranger], "of another log"),
        (vec![&*file, "--key", &key, "--witness", &witness], "witness.lan has not cosigned"),
    ] {
        let (code, said) = house.check_proof(&arguments);
        assert_eq!(code, 1, "{arguments:?}: {said}");
        assert!(said.starts_with("CHY-PROOF-FLAW") && said.contains(flaw), "{said}");
    }
    // The log's own signature is nobody's cosignature, and a witness's is not the log's.
    for arguments in
        [[&*file, "--key", &key, "--witness", &key], [&*file, "--key", &witness, "--key", &key]]
    {
        let (code, said) = house.check_proof(&arguments);
        assert!(code == 78 && said.starts_with("CHY-VKEY: "), "{code}: {said}");
    }
    let trust = Trust {
        keys: vec![house.key()],
        certificate: Some(certificate.clone()),
        ..Trust::default()
    };
    assert!(check(&proof, &trust).is_ok());
    // Any one bit: it is no proof any more, or it does not hold. The case of the first line's letters and what a
    // base64 character means included.
    for at in 0..served.len() {
        let mut octets = served.clone().into_bytes();
        octets[at] ^= 1 << (at % 7);
        let holds = Proof::parse(&octets).is_ok_and(|proof| check(&proof, &trust).is_ok());
        assert!(!holds, "octet {at} is not covered");
    }

    // The command finds the same path, from the tiles and without them; and the same again after a restart.
    let prove = |house: &House| {
        let text = succeed(house.plant.lab.chancery().args(["log", "prove", &serial.to_string()]));
        Proof::parse(text.as_bytes()).unwrap()
    };
    house.plant.lab.stop();
    let offline = prove(&house);
    assert!(check(&offline, &trust).is_ok());
    std::fs::remove_dir_all(house.tiles("")).unwrap();
    assert_eq!(prove(&house), offline);
    let unknown =
        house.plant.lab.chancery().args(["log", "prove", &"49".repeat(16)]).output().unwrap();
    assert!(String::from_utf8_lossy(&unknown.stderr).starts_with("CHY-LOG-UNKNOWN"));
    house.serve("[]");
    wait("are the tiles back", || house.get(&path).status == 200);
    assert_eq!(house.get(&format!("/proof/{}.tlog-proof", "49".repeat(16))).status, 404);
}

/// A power cut can leave anything in files that were not synced, and the web process is up before the issuer is.
#[test]
fn tiles_that_do_not_lead_to_the_checkpoint_are_not_served_and_are_mended_at_start() {
    let mut house = House::start("[]");
    let (certificate, _) = house.certificate("a.torn.test");
    let size = house.checkpoint().size;
    let proof = format!("/proof/{}.tlog-proof", certificate.serial().unwrap());
    let tile = format!("/tile/0/000.p/{size}");
    let sound = house.get(&tile);
    assert_eq!((sound.status, house.get(&proof).status), (200, 200));
    let path = house.tiles("0");
    let octets = std::fs::read(&path).unwrap();
    for damaged in [
        octets[..octets.len() - 5].to_vec(),
        vec![0; octets.len()],
        octets.iter().rev().copied().collect(),
        Vec::new(),
    ] {
        std::fs::write(&path, damaged).unwrap();
        for path in [&tile, &proof] {
            let answer = house.get(path);
            assert_eq!(answer.status, 503, "{path}");
            assert!(answer.head.contains("retry-after"), "{}", answer.head);
        }
    }
    house.serve("[]");
    wait("are the tiles mended", || house.get(&tile).status == 200);
    assert_eq!(house.get(&tile).body, sound.body);
    wait("is it proven again", || house.get(&proof).status == 200);
}
