//! Witnesses, as a web process meets them that believes nothing and may be taken over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery::env::simulated::{CrashMode, Fault};
use chancery::env::{Clock, Disk};
use chancery::hsm::Class;
use chancery::id::Timestamp;
use chancery::ipc::AskError;
use chancery::ipc::message::{Answer, Question};
use chancery::ipc::witness::{Carried, Cosigned, Errand, ErrandKind, Outcome};
use chancery::issuer::CosignerKey;
use chancery::log::Release;
use chancery::log::record::{ClockAcceptedV1, Record};
use chancery::pki::key::SignatureAlgorithm;
use chancery::tlog::checkpoint::Checkpoint;
use chancery::tlog::note::{Note, NoteSignature, VerifierKey};
use chancery::tlog::proof::{Gathering, consistency_path};
use chancery::tlog::tree::{Hash, RightEdge, TreeHead, leaf_hash};
use chancery::tlog::witness::{AddCheckpoint, origin_hash};

use crate::house::{Csr, House, NOW, ORIGIN, Office, SoftKey};

const OTHER: &str = "other.lan/log";
const NAME: &str = "ca.lan/witness";

/// Another box's log, honest or not.
struct Other {
    key: Arc<SoftKey>,
    leaves: Vec<Hash>,
}

impl Other {
    fn new() -> Self {
        let leaves = (0_u64..40).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        Self { key: SoftKey::of(SignatureAlgorithm::Ed25519), leaves }
    }

    /// The same log with another leaf in place of one.
    fn forked_at(&self, leaf: usize) -> Self {
        let mut leaves = self.leaves.clone();
        leaves[leaf] = leaf_hash(b"another");
        Self { key: Arc::clone(&self.key), leaves }
    }

    fn vkey(&self) -> VerifierKey {
        VerifierKey::from_spki(OTHER, self.key.spki()).unwrap()
    }

    fn head(&self, size: usize) -> TreeHead {
        let mut edge = RightEdge::new();
        self.leaves[..size].iter().for_each(|leaf| edge.push(*leaf));
        edge.head()
    }

    fn request(&self, old: usize, size: usize) -> Vec<u8> {
        let mut proof = Gathering::new(consistency_path(old as u64, size as u64));
        (0..).zip(&self.leaves[..size]).for_each(|(index, leaf)| proof.leaf(index, *leaf));
        let proof = proof.finish().unwrap();
        let checkpoint = Checkpoint::new(OTHER, self.head(size));
        let note = signed(&self.vkey(), &self.key, &checkpoint, NOW);
        AddCheckpoint { old: old as u64, proof, note, checkpoint }.to_string().into_bytes()
    }
}

fn signed(vkey: &VerifierKey, key: &SoftKey, checkpoint: &Checkpoint, at: Timestamp) -> Note {
    let message = vkey.message(checkpoint.text().as_bytes(), &checkpoint.head, at);
    checkpoint.signed(vkey, vkey.signature_octets(&key.sign(&message), at))
}

/// A CA that is a witness of `other`, and its key.
fn witness_of(other: &Other) -> (House, Arc<SoftKey>) {
    let mut house = House::new();
    let key = SoftKey::of(SignatureAlgorithm::Ed25519);
    house.cosigner = Some(CosignerKey::new(NAME, key.clone()).unwrap());
    house.settings.watched_logs = vec![other.vkey().to_string()];
    (house, key)
}

fn cosign(office: &Office, body: Vec<u8>) -> Cosigned {
    match office.ask(Question::Cosign { body }) {
        Ok(Answer::Cosigned(cosigned)) => cosigned,
        other => panic!("{other:?}"),
    }
}

/// The line, verified over what the request was about.
fn line(key: &SoftKey, body: &[u8], cosigned: Cosigned) -> NoteSignature {
    let Cosigned::Lines(lines) = cosigned else { panic!("{cosigned:?}") };
    let vkey = VerifierKey::cosigner(NAME, key.spki()).unwrap();
    let line = NoteSignature::parse(lines.strip_suffix('\n').unwrap()).unwrap();
    let request = AddCheckpoint::parse(body).unwrap();
    let (text, head) = (request.note.text.as_bytes(), &request.checkpoint.head);
    assert!(vkey.verify(text, head, &line.octets), "{lines}");
    assert_eq!((line.name.as_str(), line.id), (NAME, vkey.id()));
    line
}

/// What was cosigned last, as everyone reads it.
fn published(office: &Office) -> Option<u64> {
    let note = office.public(&format!("witness/{}/checkpoint", origin_hash(OTHER)))?;
    let note = Note::parse(&note).unwrap();
    assert_eq!(note.signatures.len(), 2, "the log's signature and the witness's");
    Some(Checkpoint::parse_text(&note.text).unwrap().head.size)
}

#[test]
fn promise_4_a_web_process_gets_no_cosignature_for_what_the_log_did_not_sign_or_did_not_continue() {
    let other = Other::new();
    let (house, key) = witness_of(&other);
    let office = house.start();
    let body = other.request(0, 5);
    line(&key, &body, cosign(&office, body.clone()));
    let made = key.count(Class::Cosignature);
    let forked = other.forked_at(3);
    let stranger =
        Other { key: SoftKey::of(SignatureAlgorithm::Ed25519), leaves: other.leaves.clone() };
    for (what, body, expected) in [
        ("an older tree", other.request(0, 4), Cosigned::Conflict(5)),
        ("an older tree, claimed to follow", other.request(4, 4), Cosigned::Conflict(5)),
        ("the first again", other.request(0, 5), Cosigned::Conflict(5)),
        ("a fork of the same size", forked.request(5, 5), Cosigned::Inconsistent),
        ("a fork that grew", forked.request(5, 9), Cosigned::Inconsistent),
        ("a fork from the start", forked.request(0, 9), Cosigned::Conflict(5)),
        ("a key nobody trusts", stranger.request(5, 9), Cosigned::Unsigned),
        ("nonsense", b"old 5\n".to_vec(), Cosigned::Malformed),
        ("too much", vec![b'a'; 100_000], Cosigned::Malformed),
    ] {
        assert_eq!(cosign(&office, body), expected, "{what}");
    }
    // Its own log it does not cosign either: nobody watches it here.
    let own = office.log.checkpoint();
    let own = format!("old 0\n\n{own}").into_bytes();
    assert_eq!(cosign(&office, own), Cosigned::Unknown);
    assert_eq!(key.count(Class::Cosignature), made, "the key signed something of it");
    assert_eq!(published(&office), Some(5));
    // What does continue is cosigned after all that.
    let body = other.request(5, 33);
    line(&key, &body, cosign(&office, body.clone()));
    assert_eq!(published(&office), Some(33));
    // The fork was shown under the log's own key: that is kept and said, over a restart too.
    let told =
        |office: &Office| office.health().problems.iter().any(|(c, _)| c == "CHY-WATCHED-FORK");
    assert!(told(&office));
    drop(office);
    assert!(told(&house.start()));
}

#[test]
fn repeating_what_anyone_can_read_costs_the_token_nothing() {
    let other = Other::new();
    let (house, key) = witness_of(&other);
    let office = house.start();
    cosign(&office, other.request(0, 5));
    let again = other.request(5, 5);
    let first = line(&key, &again, cosign(&office, again.clone()));
    for _ in 0..20 {
        assert_eq!(line(&key, &again, cosign(&office, again.clone())), first);
    }
    assert_eq!(key.count(Class::Cosignature), 1);
    // A minute later it says anew that this is still the newest.
    house.clock.advance(Duration::from_secs(61));
    let later = line(&key, &again, cosign(&office, again.clone()));
    assert_ne!(later, first);
    assert_eq!(key.count(Class::Cosignature), 2);
}

#[test]
fn a_box_without_the_key_does_not_start_as_a_witness() {
    let other = Other::new();
    let (mut house, _) = witness_of(&other);
    house.cosigner = None;
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-WITNESS-KEY: "), "{why}");
    house.settings.watched_logs.clear();
    assert_eq!(cosign(&house.start(), other.request(0, 5)), Cosigned::Unknown);
}

/// The token is away after the state was made durable: the log asks again from there and gets its signature.
#[test]
fn a_state_without_its_signature_is_gone_on_from() {
    let other = Other::new();
    let (house, key) = witness_of(&other);
    let office = house.start();
    key.refuse.store(true, Ordering::SeqCst);
    let asked = office.ask(Question::Cosign { body: other.request(0, 5) });
    assert!(matches!(asked, Err(AskError::Retry(_))), "{asked:?}");
    key.refuse.store(false, Ordering::SeqCst);
    assert_eq!(cosign(&office, other.request(0, 5)), Cosigned::Conflict(5));
    let body = other.request(5, 5);
    line(&key, &body, cosign(&office, body.clone()));
    assert_eq!(published(&office), Some(5));
}

/// Stopped at every effect of two cosignatures, on a disk that loses, tears and reorders: a cosigned size is never
/// taken back, so no fork of it is signed afterwards.
#[test]
fn no_crash_makes_a_witness_sign_both_sides_of_a_fork() {
    let other = Other::new();
    let forked = other.forked_at(2);
    let (house, key) = witness_of(&other);
    let mut house = Some(house);
    drop(house.as_ref().unwrap().start());
    let pristine = house.as_ref().unwrap().disk.crash(CrashMode::Kept, 0);
    let mut stops = 0;
    for stop in 0..200 {
        let mode = [CrashMode::Lost, CrashMode::Torn, CrashMode::Reordered][stop % 3];
        let running = house.take().unwrap().on(pristine.crash(CrashMode::Kept, 0));
        let office = running.start();
        running.disk.strike(running.disk.effects() + stop as u64, Fault::Stop);
        let mut signed = 0;
        for (old, new) in [(0, 5), (5, 9)] {
            let asked = office.ask(Question::Cosign { body: other.request(old, new) });
            if let Ok(Answer::Cosigned(Cosigned::Lines(_))) = asked {
                signed = new;
            }
        }
        let struck = running.disk.struck();
        let after = running.disk.crash(mode, stop as u64);
        drop(office);
        running.halted.store(false, Ordering::SeqCst);
        let running = running.on(after);
        let office = running.start();
        if signed > 0 {
            let made = key.count(Class::Cosignature);
            for old in [0, signed] {
                let answer = cosign(&office, forked.request(old, 12));
                assert!(!matches!(answer, Cosigned::Lines(_)), "stop {stop}, {mode:?}, {signed}");
            }
            assert_eq!(key.count(Class::Cosignature), made);
        }
        drop(office);
        house = Some(running);
        if !struck {
            break;
        }
        stops += 1;
    }
    assert!(stops >= 6, "only {stops} stops");
}

/// A CA with one witness, and the witness's key.
fn watched() -> (House, Arc<SoftKey>) {
    let mut house = House::new();
    let key = SoftKey::of(SignatureAlgorithm::Ed25519);
    house.witnesses = vec![VerifierKey::cosigner("w.lan/1", key.spki()).unwrap()];
    house.settings.witness_seconds = 1;
    (house, key)
}

fn errands(office: &Office, carried: Vec<Carried>) -> Vec<Errand> {
    match office.ask(Question::Errands(carried)) {
        Ok(Answer::Errands { errands, .. }) => errands,
        other => panic!("{other:?}"),
    }
}

fn carried(outcome: Outcome) -> Vec<Carried> {
    vec![Carried { witness: 0, outcome }]
}

/// The one request that is to be brought.
fn brought(errands: &[Errand]) -> AddCheckpoint {
    match errands {
        [Errand { witness: 0, what: ErrandKind::AddCheckpoint(body) }] => {
            AddCheckpoint::parse(body).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn cosignature(key: &SoftKey, request: &AddCheckpoint, at: Timestamp) -> Vec<u8> {
    let vkey = VerifierKey::cosigner("w.lan/1", key.spki()).unwrap();
    let text = request.note.text.as_bytes();
    let message = vkey.message(text, &request.checkpoint.head, at);
    let octets = vkey.signature_octets(&key.sign(&message), at);
    let line = NoteSignature { name: "w.lan/1".into(), id: vkey.id(), octets };
    format!("{line}\n").into_bytes()
}

fn witnessed(office: &Office) -> Option<Note> {
    office.public("checkpoint.witnessed").map(|note| Note::parse(&note).unwrap())
}

#[test]
fn only_a_verified_cosignature_is_published_and_the_next_proof_starts_from_it() {
    let (house, key) = watched();
    let office = house.start();
    let first = brought(&errands(&office, Vec::new()));
    assert_eq!((first.old, first.proof.len()), (0, 0));
    // Forged: by another key, over another text, of no form.
    let other = SoftKey::of(SignatureAlgorithm::Ed25519);
    let mut elsewhere = first.clone();
    elsewhere.note.text.push_str("more\n");
    for body in [
        cosignature(&other, &first, NOW),
        cosignature(&key, &elsewhere, NOW),
        b"\xff\xfe".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(errands(&office, carried(Outcome::Body(body))), []);
        assert!(witnessed(&office).is_none());
        // A witness that failed is left alone for a while, longer each time.
        assert_eq!(errands(&office, Vec::new()), []);
        house.clock.advance(Duration::from_secs(60));
        brought(&errands(&office, Vec::new()));
    }
    let health = office.health();
    assert!(health.ready, "issuance never waits for a witness");
    assert!(health.problems.iter().any(|(code, _)| code == "CHY-WITNESS-REFUSES"), "{health:?}");
    house.clock.advance(Duration::from_secs(2));
    let request = brought(&errands(&office, Vec::new()));
    let answered = cosignature(&key, &request, house.clock.now());
    assert_eq!(errands(&office, carried(Outcome::Body(answered))), []);
    let note = witnessed(&office).unwrap();
    assert_eq!(note.signatures.len(), request.note.signatures.len() + 1);
    let health = office.health();
    assert!(health.problems.is_empty(), "{:?}", health.problems);
    assert_eq!(
        (health.witnesses[0].size, health.witnesses[0].name.as_str()),
        (request.checkpoint.head.size, "w.lan/1")
    );
    // Nothing new: nothing to say until an hour has passed.
    house.clock.advance(Duration::from_secs(5));
    assert_eq!(errands(&office, Vec::new()), []);
    // The tree grows: a proof from what was cosigned, which the witness's own judge accepts.
    let account = office.register();
    office.finalize(&account, 1, &Csr::names(&["a.lan"])).unwrap();
    let next = brought(&errands(&office, Vec::new()));
    assert_eq!(next.old, request.checkpoint.head.size);
    assert_eq!(next.continues(Some(&request.checkpoint.head)), Ok(()));
}

/// What a witness is brought costs a few tiles, however long the log is.
#[test]
fn a_proof_for_a_witness_is_made_of_tiles_and_not_of_the_log() {
    let (house, _) = watched();
    let office = house.start();
    let record = || Record::ClockAcceptedV1(ClockAcceptedV1 { at: NOW, floor: NOW });
    for _ in 0..150 {
        (0..9).for_each(|_| office.log.append(record(), Release::Durable, Box::new(|_| {})));
        office.log.append_wait(record(), Release::Durable).unwrap();
    }
    office.log.append_wait(record(), Release::Covered).unwrap();
    brought(&errands(&office, Vec::new()));
    let before = house.disk.octets_read();
    let request = brought(&errands(&office, carried(Outcome::Conflict(700))));
    let read = house.disk.octets_read() - before;
    assert_eq!(request.continues(Some(&office.log.tree(700).unwrap())), Ok(()));
    assert!(read < 128 << 10, "{read} octets were read for a proof");
}

/// The evidence of a fork outlives the newer log's return by as long as its tiles take to be written, and no longer.
#[test]
fn a_fork_is_over_when_the_newer_log_is_back_and_its_tiles_are_written() {
    let (house, _) = watched();
    let office = house.start();
    let honest = brought(&errands(&office, Vec::new())).note;
    drop(office);
    house.disk.replace(&house.dir.join("fork"), honest.to_string().as_bytes(), true).unwrap();
    let tiles = house.public.join("tiles");
    for name in house.disk.list(&tiles).unwrap() {
        house.disk.remove(&tiles.join(name)).unwrap();
    }
    let office = house.start();
    assert!(house.disk.read(&house.dir.join("fork"), 4096).is_err(), "the evidence is still there");
    assert!(office.health().problems.is_empty(), "{:?}", office.health().problems);
}

#[test]
fn a_conflict_is_gone_on_from_and_not_for_ever() {
    let (house, _) = watched();
    let office = house.start();
    let first = brought(&errands(&office, Vec::new()));
    let size = first.checkpoint.head.size;
    assert!(size > 2);
    let second = brought(&errands(&office, carried(Outcome::Conflict(2))));
    assert_eq!(second.old, 2);
    assert!(!second.proof.is_empty());
    brought(&errands(&office, carried(Outcome::Conflict(1))));
    assert_eq!(errands(&office, carried(Outcome::Conflict(2))), [], "it would go on for ever");
}

/// A witness, or a web process, that says it knows a longer log: without this log's own signature that is a word.
#[test]
fn promise_4_nobodys_word_stops_issuance_but_the_logs_own_signature_does() {
    let (house, _) = watched();
    let office = house.start();
    let account = office.register();
    let request = brought(&errands(&office, Vec::new()));
    let looks = |errands: &[Errand]| matches!(errands, [Errand { what: ErrandKind::Latest(path), .. }] if *path == format!("{}/checkpoint", origin_hash(ORIGIN)));
    assert!(looks(&errands(&office, carried(Outcome::Conflict(1_000_000)))));
    let head = TreeHead { size: 1_000_000, root: [7; 32] };
    let stranger = SoftKey::new();
    for note in [
        Vec::new(),
        b"no checkpoint".to_vec(),
        log_signed(&stranger, head),
        Note { text: Checkpoint::new(ORIGIN, head).text(), ..request.note.clone() }
            .to_string()
            .into_bytes(),
    ] {
        assert_eq!(errands(&office, carried(Outcome::Body(note))), []);
        assert!(office.health().ready, "{:?}", office.health().problems);
        house.clock.advance(Duration::from_secs(700));
        brought(&errands(&office, Vec::new()));
        assert!(looks(&errands(&office, carried(Outcome::Status(422)))));
    }
    office.finalize_eventually(&account, 1, &Csr::names(&["a.lan"])).unwrap();
    // A true checkpoint of this log is no fork, however late it comes.
    errands(&office, carried(Outcome::Body(request.note.to_string().into_bytes())));
    assert!(office.health().ready);

    for (what, head) in [
        ("longer than the log", head),
        ("another tree of a size it had", TreeHead { root: [7; 32], ..request.checkpoint.head }),
    ] {
        let (mut house, _) = watched();
        house.settings.witness_seconds = 1;
        let office = house.start();
        let account = office.register();
        brought(&errands(&office, Vec::new()));
        assert!(looks(&errands(&office, carried(Outcome::Status(422)))));
        let evidence = log_signed(&house.log_key, head);
        errands(&office, carried(Outcome::Body(evidence.clone())));
        let stopped = |office: &Office| {
            let health = office.health();
            assert!(!health.ready, "{what}");
            assert!(
                health.problems.iter().any(|(code, _)| code == "CHY-WITNESS-FORK"),
                "{what}: {health:?}"
            );
            let refused = office.finalize(&account, 1, &Csr::names(&["a.lan"]));
            assert!(matches!(refused, Err(AskError::Retry(_))), "{what}: {refused:?}");
            assert_eq!(errands(office, Vec::new()), [], "{what}");
        };
        stopped(&office);
        assert_eq!(house.disk.read(&house.dir.join("fork"), 4096).unwrap(), evidence);
        drop(office);
        stopped(&house.start_unready());
    }
}

/// A checkpoint under a P-256 key.
fn log_signed(key: &SoftKey, head: TreeHead) -> Vec<u8> {
    let vkey = VerifierKey::from_spki(ORIGIN, key.spki()).unwrap();
    let checkpoint = Checkpoint::new(ORIGIN, head);
    let message = vkey.message(checkpoint.text().as_bytes(), &head, NOW);
    let octets = vkey.signature_octets(&key.sign(&message), NOW);
    checkpoint.signed(&vkey, octets).to_string().into_bytes()
}
