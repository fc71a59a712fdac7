//! Promise 4, attempt by attempt: what a taken-over web process can try at the socket. It speaks the protocol
//! perfectly, has every request that clients ever sent, and lies about everything that no client signed.
//! Each attempt is refused, changes nothing, and stands in the log afterwards.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use chancery::acme::problem::ProblemType;
use chancery::hsm::Class;
use chancery::id::{AccountId, LeafIndex, OrderId};
use chancery::ipc::client::{self, Client};
use chancery::ipc::frame::Hello;
use chancery::ipc::message::{Answer, Finalize, MAX_FRAME, Question};
use chancery::ipc::server::{self, Server};
use chancery::ipc::{AskError, Issuer};
use chancery::log::Record;
use chancery::log::record::{RefusalV1, RefusedV1};

use crate::house::{Account, BASE, Csr, House, LONG, NOW, Office, eventually};
use crate::{HOUR, certificate, refused};

/// An issuer at its socket, and someone else in the web process's place.
struct Takeover {
    client: Client,
    _server: Server,
    running: Office,
    house: House,
    dir: tempfile::TempDir,
    signed: usize,
    records: u64,
}

impl Takeover {
    fn of(house: House) -> Self {
        let running = house.start();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issuer.sock");
        let uids = vec![rustix::process::geteuid().as_raw()];
        let options = server::Options {
            path: path.clone(),
            mode: 0o600,
            digest: [0; 32],
            uids: uids.clone(),
        };
        let server = Server::start(options, running.running.service()).unwrap();
        let client = Client::start(client::Options { path, digest: [0; 32], uids }).unwrap();
        client.wait_connected(LONG).unwrap();
        let mut takeover =
            Self { client, _server: server, running, house, dir, signed: 0, records: 0 };
        takeover.begin();
        takeover
    }

    /// What was signed and recorded until now was rightly so.
    fn begin(&mut self) {
        self.signed = self.house.issuing_key.count(Class::Certificate);
        self.records = self.records_but_refusals();
    }

    fn ask(&self, question: Question) -> Result<Answer, AskError> {
        self.client.ask_blocking(question, LONG)
    }

    /// A connection that says what it likes.
    fn raw(&self, octets: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(self.dir.path().join("issuer.sock")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let _ = stream.write_all(octets);
        stream
    }

    fn refused_records(&self) -> Vec<RefusedV1> {
        self.running.running.record_refusals();
        (0..self.running.log.head().size)
            .filter_map(|leaf| match self.running.log.read(LeafIndex(leaf)) {
                Ok(Record::RefusedV1(refused)) => Some(refused),
                _ => None,
            })
            .collect()
    }

    fn records_but_refusals(&self) -> u64 {
        let refused = self.refused_records().len() as u64;
        self.running.log.head().size - refused
    }

    /// How often this was recorded as refused.
    fn recorded(&self, asked: &str, why: &str, account: Option<AccountId>) -> u64 {
        let same = |r: &&RefusalV1| r.asked == asked && r.why == why && r.account == account;
        let records = self.refused_records();
        records.iter().flat_map(|r| &r.refusals).filter(same).map(|r| r.count).sum()
    }

    fn assert_nothing_came_of_it(&self) {
        let signed = self.house.issuing_key.count(Class::Certificate);
        assert_eq!(signed, self.signed, "something was signed");
        assert_eq!(self.records_but_refusals(), self.records, "something was recorded");
    }
}

fn altered(question: Question, change: &dyn Fn(&mut Finalize)) -> Question {
    match question {
        Question::Finalize(mut finalize) => {
            change(&mut finalize);
            Question::Finalize(finalize)
        }
        other => other,
    }
}

#[test]
fn promise_4_a_taken_over_web_process_stays_a_petitioner() {
    let mut takeover = Takeover::of(House::new());
    let victim = takeover.running.register();
    let own = takeover.running.register();
    takeover.begin();
    let good = Csr::names(&["dev.lan"]);
    let order = OrderId([1; 16]);
    use ProblemType::*;
    let cases: Vec<(&str, Question, ProblemType)> = vec![
        (
            "signed by another key",
            Account { key: own.key.clone(), ..victim.clone() }.finalize(order, &good),
            Unauthorized,
        ),
        (
            "an account that never registered",
            Account::unregistered().finalize(order, &good),
            AccountDoesNotExist,
        ),
        (
            "claimed for another order",
            altered(own.finalize(order, &good), &|f| f.order = OrderId([2; 16])),
            Unauthorized,
        ),
        (
            "claimed for another account",
            altered(own.finalize(order, &good), &|f| f.account = victim.id),
            Unauthorized,
        ),
        (
            "a url that is no finalize URL",
            own.finalize_at(&format!("{BASE}/acme/order/{order}"), order, &good),
            Unauthorized,
        ),
        (
            "a url of another server",
            own.finalize_at(&format!("https://evil.lan/acme/order/{order}/finalize"), order, &good),
            Unauthorized,
        ),
        (
            "a kid of another server",
            Account { base: "https://evil.lan".into(), ..own.clone() }.finalize_at(
                &own.finalize_url(order),
                order,
                &good,
            ),
            Unauthorized,
        ),
        (
            "an altered payload",
            altered(own.finalize(order, &good), &|f| {
                f.jws = own.forged(order, &good, &Csr::names(&["b.lan"]))
            }),
            Unauthorized,
        ),
        (
            "a name outside the policy",
            own.finalize(order, &Csr::names(&["www.example.com"])),
            RejectedIdentifier,
        ),
        (
            "one name of two outside",
            own.finalize(order, &Csr::names(&["dev.lan", "8.8.8.8"])),
            RejectedIdentifier,
        ),
        ("a CA certificate", own.finalize(order, &Csr::ca(&["dev.lan"])), BadCsr),
        ("no name at all", own.finalize(order, &Csr::names(&[])), BadCsr),
        (
            "the account's own key",
            own.finalize(order, &Csr::of_account(&own, &["dev.lan"])),
            BadCsr,
        ),
        (
            "another account's key",
            own.finalize(order, &Csr::of_account(&victim, &["dev.lan"])),
            BadCsr,
        ),
        (
            "a CSR that its key did not sign",
            own.finalize(order, &Csr::spoilt(&["dev.lan"])),
            BadCsr,
        ),
        (
            "a profile that does not exist",
            altered(own.finalize(order, &good), &|f| f.profile = "ca".into()),
            InvalidProfile,
        ),
        (
            "the profile of the box itself",
            altered(own.finalize(order, &good), &|f| f.profile = "chancery:own-tls".into()),
            InvalidProfile,
        ),
        (
            "ten years",
            altered(own.finalize(order, &good), &|f| {
                f.not_after = Some(NOW.plus(3650 * 24 * HOUR))
            }),
            Malformed,
        ),
        (
            "a year ago",
            altered(own.finalize(order, &good), &|f| {
                f.not_before = Some(NOW.minus(365 * 24 * HOUR))
            }),
            Malformed,
        ),
        ("not a JWS", altered(own.finalize(order, &good), &|f| f.jws = b"{}".to_vec()), Malformed),
        (
            "too large",
            altered(own.finalize(order, &good), &|f| f.jws = vec![b'{'; 100_000]),
            Malformed,
        ),
        (
            "a registration as a finalize",
            altered(own.finalize(order, &good), &|f| f.jws = own.new_account(false)),
            Malformed,
        ),
        (
            "a finalize as a registration",
            Question::Register { jws: own.finalize_jws(order, &good) },
            Malformed,
        ),
    ];
    let asked = cases.len() as u64;
    for (what, question, kind) in cases {
        assert_eq!(refused(takeover.ask(question)), kind, "{what}");
    }
    takeover.assert_nothing_came_of_it();
    // All of it stands in the log; whoever's signature did not verify is not accused.
    let records = takeover.refused_records();
    let rows = || records.iter().flat_map(|record| &record.refusals);
    assert_eq!(rows().map(|row| row.count).sum::<u64>(), asked, "{records:?}");
    assert_eq!(takeover.recorded("finalize", "rejectedIdentifier", Some(own.id)), 2);
    assert_eq!(takeover.recorded("register", "malformed", None), 1);
    assert!(rows().all(|row| row.account != Some(victim.id)), "{records:?}");
}

#[test]
fn promise_4_a_stolen_request_serves_nobody_but_who_signed_it() {
    let mut takeover = Takeover::of(House::new());
    let victim = takeover.running.register();
    let own = takeover.running.register();
    let good = Csr::names(&["dev.lan"]);
    let order = OrderId([1; 16]);
    let (leaf, ..) = certificate(takeover.ask(victim.finalize(order, &good)));
    takeover.begin();
    // Replayed for its own order it gives the same certificate again, and for no other any.
    assert_eq!(certificate(takeover.ask(victim.finalize(order, &good))).0.der(), leaf.der());
    let replay = altered(victim.finalize(order, &good), &|f| f.order = OrderId([3; 16]));
    assert_eq!(refused(takeover.ask(replay)), ProblemType::Unauthorized);
    // The order of another, finalized under an account of one's own.
    let taken = refused(takeover.ask(own.finalize(order, &good)));
    assert_eq!(taken, ProblemType::Unauthorized);
    let foreign = refused(takeover.ask(own.finalize(order, &Csr::names(&["own.lan"]))));
    assert_eq!(foreign, ProblemType::Unauthorized);
    // Another CSR of the victim's own, once the order has its certificate: the same, and no second.
    let again = victim.finalize(order, &Csr::names(&["dev.lan"]));
    assert_eq!(certificate(takeover.ask(again)).0.der(), leaf.der());
    takeover.assert_nothing_came_of_it();
    assert_eq!(takeover.recorded("finalize", "unauthorized", None), 1, "the replay");
    assert_eq!(takeover.recorded("finalize", "unauthorized", Some(own.id)), 2);
}

#[test]
fn promise_4_the_tls_key_signs_handshakes_and_nothing_else() {
    let takeover = Takeover::of(House::new());
    let tbs = takeover.house.issuing.tbs().to_vec();
    let messages = [tbs, vec![0x30; 130], vec![b' '; 130], vec![0; 5000], Vec::new()];
    let asked = messages.len() as u64;
    for message in messages {
        let answer = takeover.ask(Question::SignTls { message });
        assert_eq!(refused(answer), ProblemType::Malformed);
    }
    assert_eq!(takeover.house.tls_key.count(Class::Tls), 0);
    takeover.assert_nothing_came_of_it();
    assert_eq!(takeover.recorded("sign-tls", "malformed", None), asked);
}

#[test]
fn promise_4_a_forged_registration_registers_nothing() {
    let takeover = Takeover::of(House::new());
    let (good, other) = (Account::unregistered(), Account::unregistered());
    let parse = |jws: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&jws).unwrap();
    let mut foreign_key = parse(good.new_account(false));
    foreign_key["protected"] = parse(other.new_account(false))["protected"].clone();
    let mut other_payload = parse(good.new_account(false));
    other_payload["payload"] = parse(good.new_account(true))["payload"].clone();
    let elsewhere = Account { base: "https://evil.lan".into(), ..good.clone() };
    let mut cases = vec![
        ("a key that did not sign", foreign_key.to_string().into_bytes()),
        ("a payload that was not signed", other_payload.to_string().into_bytes()),
        ("for another server", elsewhere.new_account(false)),
        ("a finalize request", good.finalize_jws(OrderId([1; 16]), &Csr::names(&["dev.lan"]))),
        ("too large", vec![b'{'; 100_000]),
    ];
    cases.push(("nothing", Vec::new()));
    let asked = cases.len() as u64;
    for (what, jws) in cases {
        let kind = refused(takeover.ask(Question::Register { jws }));
        let known = [ProblemType::Unauthorized, ProblemType::Malformed];
        assert!(known.contains(&kind), "{what}: {kind:?}");
    }
    takeover.assert_nothing_came_of_it();
    let count = |why| takeover.recorded("register", why, None);
    assert_eq!(count("unauthorized") + count("malformed"), asked);
}

#[test]
fn promise_4_frames_that_are_none_cost_their_sender_the_connection() {
    let takeover = Takeover::of(House::new());
    let hello = Hello::new([0; 32]).frame();
    let oversized = (MAX_FRAME as u32 + 1).to_be_bytes();
    let cases: [Vec<u8>; 4] = [
        [&hello[..], &oversized, &[0; 64]].concat(),
        [&hello[..], &u32::MAX.to_be_bytes()].concat(),
        [&hello[..], &[0, 0, 0, 3, 0xff, 0xff, 0xff]].concat(),
        Hello::new([9; 32]).frame(),
    ];
    for octets in &cases {
        let mut stream = takeover.raw(octets);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() <= hello.len(), "it answered");
    }
    eventually(|| takeover.recorded("socket", "frame", None) == cases.len() as u64);
    assert!(matches!(takeover.ask(Question::Health), Ok(Answer::Health(_))));
    takeover.assert_nothing_came_of_it();
}

/// Whoever takes all connections it can leaves room for the process that succeeds it.
#[test]
fn promise_4_one_process_does_not_hold_all_connections() {
    let takeover = Takeover::of(House::new());
    let hello = Hello::new([0; 32]);
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = takeover.raw(&hello.frame());
        let mut theirs = vec![0; hello.frame().len()];
        if stream.read_exact(&mut theirs).is_ok() {
            held.push(stream);
        }
    }
    assert!(held.len() < 4, "{} beside the client's own", held.len());
    eventually(|| takeover.recorded("socket", "connections", None) >= 4);
    assert!(matches!(takeover.ask(Question::Health), Ok(Answer::Health(_))));
}

#[test]
fn promise_4_there_is_no_mass_issuance() {
    let mut house = House::new();
    house.settings.issuance_per_account_per_hour = 2;
    house.settings.issuance_per_hour = 5;
    let takeover = Takeover::of(house);
    let before = takeover.house.issuing_key.count(Class::Certificate);
    let own: Vec<Account> = (0..4).map(|_| takeover.running.register()).collect();
    for (n, account) in own.iter().enumerate() {
        for attempt in 0..3 {
            let order = OrderId([(10 * n + attempt) as u8; 16]);
            let _ = takeover.ask(account.finalize(order, &Csr::names(&["dev.lan"])));
        }
    }
    assert_eq!(takeover.house.issuing_key.count(Class::Certificate) - before, 5);
    let refused: u64 = own
        .iter()
        .map(|account| takeover.recorded("finalize", "rateLimited", Some(account.id)))
        .sum();
    assert_eq!(refused, 7);
}

/// Refusals cannot fill the disk: a bounded number of leaves an hour, each of bounded size.
#[test]
fn promise_4_refusals_without_end_are_a_few_small_leaves() {
    let takeover = Takeover::of(House::new());
    let accounts: Vec<Account> = (0..300).map(|_| takeover.running.register()).collect();
    let outside = Csr::names(&["www.example.com"]);
    let before = takeover.refused_records().len();
    let mut asked = 0;
    for minute in 0..60 {
        for account in accounts.iter().skip(minute).step_by(if minute == 0 { 1 } else { 60 }) {
            let question = account.finalize(OrderId([7; 16]), &outside);
            assert_eq!(refused(takeover.ask(question)), ProblemType::RejectedIdentifier);
            asked += 1;
        }
        takeover.house.clock.advance(Duration::from_secs(60));
        takeover.running.running.nudge();
        // The keeper has looked once it has seen the nudge; a later one finds nothing due.
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let records = takeover.refused_records();
    assert!(records.len() - before <= 8, "{} leaves in an hour", records.len());
    let rows = || records.iter().flat_map(|record| &record.refusals);
    assert_eq!(rows().map(|row| row.count).sum::<u64>(), asked);
    for record in &records {
        assert!(record.refusals.len() <= 260, "{}", record.refusals.len());
        assert!(Record::RefusedV1(record.clone()).encode().unwrap().len() < 32_768);
    }
    assert!(rows().any(|row| row.account.is_none()), "more accounts than rows, and none summed up");
}
