//! Promise 4, attempt by attempt: what a taken-over web process can try at the socket. It speaks the protocol
//! perfectly, has every request that clients ever sent, and lies about everything that no client signed.
//! Each attempt is refused, changes nothing, and stands in the log afterwards.
//!
//! - here:         certificates, the TLS key, the socket itself
//! - `accounts`:   registrations, key changes, deactivations
//! - `revocation`: of single certificates, and of a plant
//! - `tickets`:    theft of tickets, and of the names bound to them

mod accounts;
mod revocation;
mod tickets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use chancery::acme::challenge::ChallengeType;
use chancery::acme::problem::ProblemType;
use chancery::hsm::Class;
use chancery::id::{AccountId, LeafIndex, OrderId, Timestamp};
use chancery::ipc::client::{self, Client};
use chancery::ipc::frame::Hello;
use chancery::ipc::message::{Answer, Finalize, MAX_FRAME, Question, Validation};
use chancery::ipc::server::{self, Server};
use chancery::ipc::{AskError, Issuer};
use chancery::log::Record;
use chancery::log::record::{RefusalV1, RefusedV1};
use chancery::pki::name::Identifier;

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
    deeds: u64,
    /// How often each kind of refusal was attempted.
    attempts: RefCell<BTreeMap<Refused, u64>>,
}

/// What was asked, why not, and by whom.
type Refused = (&'static str, &'static str, Option<AccountId>);

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
        let mut takeover = Self {
            client,
            _server: server,
            running,
            house,
            dir,
            signed: 0,
            deeds: 0,
            attempts: RefCell::default(),
        };
        takeover.begin();
        takeover
    }

    /// What was signed and recorded until now was rightly so.
    fn begin(&mut self) {
        self.signed = self.house.issuing_key.count(Class::Certificate);
        self.deeds = self.deeds();
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

    /// Records of what was done for somebody: neither refusals nor CRLs, which follow by themselves.
    fn deeds(&self) -> u64 {
        let done = |leaf: &u64| match self.running.log.read(LeafIndex(*leaf)) {
            Ok(record) => !matches!(record, Record::RefusedV1(_) | Record::CrlV2(_)),
            Err(why) => panic!("{why}"),
        };
        (0..self.running.log.head().size).filter(done).count() as u64
    }

    /// How often this was recorded as refused.
    fn recorded(&self, asked: &str, why: &str, account: Option<AccountId>) -> u64 {
        let same = |r: &&RefusalV1| r.asked == asked && r.why == why && r.account == account;
        let records = self.refused_records();
        records.iter().flat_map(|r| &r.refusals).filter(same).map(|r| r.count).sum()
    }

    /// Is refused, and stands in the log as what it was: `who` is the account whose signature verified.
    fn attempt(
        &self,
        what: &str,
        question: Question,
        kind: ProblemType,
        who: Option<AccountId>,
    ) -> AskError {
        let asked = question.name();
        let why = kind.urn().rsplit(':').next().unwrap();
        let refusal = self.ask(question).expect_err(what);
        match &refusal {
            AskError::Refused(problem) | AskError::Limited(problem, _) => {
                assert_eq!(problem.kind, kind, "{what}: {problem:?}");
            }
            other => panic!("{what}: not refused: {other:?}"),
        }
        let mut attempts = self.attempts.borrow_mut();
        let count = attempts.entry((asked, why, who)).or_insert(0);
        *count += 1;
        // The issuer may be recording it by itself just now.
        let mut recorded = 0;
        for _ in 0..500 {
            recorded = self.recorded(asked, why, who);
            if recorded == *count {
                return refusal;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("{what}: recorded {recorded} times, not {count}: {:?}", self.refused_records());
    }

    fn assert_nothing_came_of_it(&self) {
        let signed = self.house.issuing_key.count(Class::Certificate);
        assert_eq!(signed, self.signed, "something was signed");
        assert_eq!(self.deeds(), self.deeds, "something was recorded");
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
    let nobody = None;
    let me = Some(own.id);
    let cases: Vec<(&str, Question, ProblemType, Option<AccountId>)> = vec![
        (
            "signed by another key",
            Account { key: own.key.clone(), ..victim.clone() }.finalize(order, &good),
            Unauthorized,
            nobody,
        ),
        (
            "an account that never registered",
            Account::unregistered().finalize(order, &good),
            AccountDoesNotExist,
            nobody,
        ),
        (
            "claimed for another order",
            altered(own.finalize(order, &good), &|f| f.order = OrderId([2; 16])),
            Unauthorized,
            nobody,
        ),
        (
            "claimed for another account",
            altered(own.finalize(order, &good), &|f| f.account = victim.id),
            Unauthorized,
            nobody,
        ),
        (
            "a url that is no finalize URL",
            own.finalize_at(&format!("{BASE}/acme/order/{order}"), order, &good),
            Unauthorized,
            nobody,
        ),
        (
            "a url of another server",
            own.finalize_at(&format!("https://evil.lan/acme/order/{order}/finalize"), order, &good),
            Unauthorized,
            nobody,
        ),
        (
            "a kid of another server",
            Account { base: "https://evil.lan".into(), ..own.clone() }.finalize_at(
                &own.finalize_url(order),
                order,
                &good,
            ),
            Unauthorized,
            nobody,
        ),
        (
            "an altered payload",
            altered(own.finalize(order, &good), &|f| {
                f.jws = own.forged(order, &good, &Csr::names(&["b.lan"]))
            }),
            Unauthorized,
            nobody,
        ),
        (
            "a name outside the policy",
            own.finalize(order, &Csr::names(&["www.example.com"])),
            RejectedIdentifier,
            me,
        ),
        (
            "one name of two outside",
            own.finalize(order, &Csr::names(&["dev.lan", "8.8.8.8"])),
            RejectedIdentifier,
            me,
        ),
        ("a CA certificate", own.finalize(order, &Csr::ca(&["dev.lan"])), BadCsr, me),
        ("no name at all", own.finalize(order, &Csr::names(&[])), BadCsr, me),
        (
            "the account's own key",
            own.finalize(order, &Csr::of_account(&own, &["dev.lan"])),
            BadCsr,
            me,
        ),
        (
            "another account's key",
            own.finalize(order, &Csr::of_account(&victim, &["dev.lan"])),
            BadCsr,
            me,
        ),
        (
            "a CSR that its key did not sign",
            own.finalize(order, &Csr::spoilt(&["dev.lan"])),
            BadCsr,
            me,
        ),
        (
            "a profile that does not exist",
            altered(own.finalize(order, &good), &|f| f.profile = "ca".into()),
            InvalidProfile,
            me,
        ),
        (
            "the profile of the box itself",
            altered(own.finalize(order, &good), &|f| f.profile = "chancery:own-tls".into()),
            InvalidProfile,
            me,
        ),
        (
            "ten years",
            altered(own.finalize(order, &good), &|f| {
                f.not_after = Some(NOW.plus(3650 * 24 * HOUR))
            }),
            Malformed,
            me,
        ),
        (
            "a year ago",
            altered(own.finalize(order, &good), &|f| {
                f.not_before = Some(NOW.minus(365 * 24 * HOUR))
            }),
            Malformed,
            me,
        ),
        (
            "not a JWS",
            altered(own.finalize(order, &good), &|f| f.jws = b"{}".to_vec()),
            Malformed,
            nobody,
        ),
        (
            "too large",
            altered(own.finalize(order, &good), &|f| f.jws = vec![b'{'; 100_000]),
            Malformed,
            nobody,
        ),
        (
            "a registration as a finalize",
            altered(own.finalize(order, &good), &|f| f.jws = own.new_account(false)),
            Malformed,
            nobody,
        ),
        (
            "a finalize as a registration",
            Question::Register { jws: own.finalize_jws(order, &good) },
            Malformed,
            nobody,
        ),
    ];
    let asked = cases.len() as u64;
    for (what, question, kind, who) in cases {
        takeover.attempt(what, question, kind, who);
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
    takeover.attempt("for another order", replay, ProblemType::Unauthorized, None);
    // The order of another, finalized under an account of one's own.
    for (what, csr) in [("its CSR", &good), ("a CSR of one's own", &Csr::names(&["own.lan"]))] {
        let taken = own.finalize(order, csr);
        takeover.attempt(what, taken, ProblemType::Unauthorized, Some(own.id));
    }
    // Another CSR of the victim's own, once the order has its certificate: the same, and no second.
    let again = victim.finalize(order, &Csr::names(&["dev.lan"]));
    assert_eq!(certificate(takeover.ask(again)).0.der(), leaf.der());
    takeover.assert_nothing_came_of_it();
}

#[test]
fn promise_4_the_tls_key_signs_handshakes_and_nothing_else() {
    let takeover = Takeover::of(House::new());
    let tbs = takeover.house.issuing.tbs().to_vec();
    let messages = [tbs, vec![0x30; 130], vec![b' '; 130], vec![0; 5000], Vec::new()];
    for message in messages {
        let what = format!("{} octets", message.len());
        takeover.attempt(&what, Question::SignTls { message }, ProblemType::Malformed, None);
    }
    assert_eq!(takeover.house.tls_key.count(Class::Tls), 0);
    takeover.assert_nothing_came_of_it();
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

/// A finalize question with what the web process may claim besides.
fn claiming(account: &Account, order: u8, csr: &Csr, claims: &[(&str, ChallengeType)]) -> Question {
    let Question::Finalize(mut finalize) = account.finalize(OrderId([order; 16]), csr) else {
        panic!("no finalize");
    };
    finalize.profile = "printer".into();
    finalize.validations = claims
        .iter()
        .map(|(name, method)| Validation {
            identifier: Identifier::parse("dns", name).unwrap(),
            method: *method,
            at: NOW,
        })
        .collect();
    Question::Finalize(finalize)
}

#[test]
fn promise_4_names_and_proofs_of_a_profile_are_the_issuer_s_to_judge() {
    let mut takeover = Takeover::of(House::new());
    let account = takeover.running.register();
    takeover.begin();
    let good = Csr::names(&["x.print.lan"]);
    let dns = ChallengeType::Dns01;
    let foreign = Csr::names(&["a.lan"]);
    let asked = claiming(&account, 1, &foreign, &[("a.lan", dns)]);
    let me = Some(account.id);
    takeover.attempt("a name of another profile", asked, ProblemType::RejectedIdentifier, me);
    for (order, claims) in [
        (2, &[][..]),
        (3, &[("x.print.lan", ChallengeType::Http01)][..]),
        (4, &[("y.print.lan", dns)][..]),
    ] {
        let asked = claiming(&account, order, &good, claims);
        takeover.attempt(&format!("{claims:?}"), asked, ProblemType::Unauthorized, me);
    }
    takeover.assert_nothing_came_of_it();
    // Of the name itself, and of one above it (RFC 9444).
    for (order, above) in [(5, "x.print.lan"), (6, "print.lan")] {
        let (leaf, ..) =
            certificate(takeover.ask(claiming(&account, order, &good, &[(above, dns)])));
        assert_eq!(leaf.identifiers()[0].value(), "x.print.lan");
    }
    // Dates are met exactly.
    let Question::Finalize(mut finalize) = claiming(&account, 7, &good, &[("print.lan", dns)])
    else {
        panic!("no finalize");
    };
    let whole = Timestamp::from_unix_seconds(NOW.unix_seconds());
    let (from, until) = (whole.minus(Duration::from_secs(60)), whole.plus(5 * HOUR));
    (finalize.not_before, finalize.not_after) = (Some(from), Some(until));
    let (leaf, ..) = certificate(takeover.ask(Question::Finalize(finalize)));
    assert_eq!(leaf.validity(), (from, until));
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
