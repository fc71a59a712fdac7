//! The issuer as the web process meets it. Contents:
//!
//! - promise_1: the whole of it with every key in a token
//! - promise_2: the exact bytes survive a crash at the moment the key is asked
//! - promise_3: nothing is answered before a signed checkpoint covers it
//! - promise_4: what a taken-over web process can try at the socket
//! - one order, one certificate: asked twice, at once, after a restart, after a lost signature
//! - registration, clock, CRL, the box's own certificate, a foreign log, a refused PIN

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "issuer/house.rs"]
mod house;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery::acme::challenge::ChallengeType;
use chancery::acme::problem::ProblemType;
use chancery::env::Disk;
use chancery::env::simulated::{CrashMode, SimulatedDisk};
use chancery::hsm::{Class, SignError};
use chancery::id::{LeafIndex, OrderId, Serial, Timestamp};
use chancery::ipc::client::{self, Client};
use chancery::ipc::message::{Answer, Finalize, Question, Validation};
use chancery::ipc::server::{self, Server};
use chancery::ipc::{AskError, Issuer};
use chancery::issuer::clock::Acceptance;
use chancery::issuer::refused_pin::RefusedPin;
use chancery::log::Record;
use chancery::log::checkpoint::Checkpoint;
use chancery::log::index::Issuance;
use chancery::log::note::VerifierKey;
use chancery::log::record::Requester;
use chancery::pki::certificate::Certificate;
use chancery::pki::crl;
use chancery::pki::name::Identifier;

use house::{Account, BASE, Csr, House, LONG, NOW, Served, eventually};

const HOUR: Duration = Duration::from_secs(3600);

fn refused(answer: Result<Answer, AskError>) -> ProblemType {
    match answer {
        Err(AskError::Refused(problem)) => problem.kind,
        other => panic!("not refused: {other:?}"),
    }
}

fn certificate(answer: Result<Answer, AskError>) -> (Certificate, Serial, LeafIndex) {
    match answer {
        Ok(Answer::Certificate { der, serial, leaf, .. }) => {
            (Certificate::parse(&der).unwrap(), serial, leaf)
        }
        other => panic!("no certificate: {other:?}"),
    }
}

#[test]
fn an_order_becomes_a_certificate() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let (leaf, serial, _) =
        certificate(running.finalize(&account, 1, &Csr::names(&["printer.lan", "10.1.2.3"])));
    assert_eq!(leaf.serial(), Some(serial));
    assert!(leaf.verify_issued_by(&house.issuing));
    assert!(!leaf.is_ca());
    let names: Vec<_> = leaf.identifiers().iter().map(|i| i.value()).collect();
    assert_eq!(names, ["printer.lan", "10.1.2.3"]);
    let health = running.health();
    assert!(health.ready, "{:?}", health.problems);
    assert_eq!(health.log_size, running.log.head().size);
}

#[test]
fn asked_twice_it_answers_twice_with_the_same_certificate() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let csr = Csr::names(&["dev.lan"]);
    let first = running.finalize(&account, 1, &csr).unwrap();
    assert_eq!(running.finalize(&account, 1, &csr).unwrap(), first);
    // Another CSR for the same order changes nothing any more.
    assert_eq!(running.finalize(&account, 1, &Csr::names(&["b.lan"])).unwrap(), first);
    drop(running);
    let running = house.start();
    assert_eq!(running.finalize(&account, 1, &csr).unwrap(), first);
    assert_eq!(house.issuing_key.asked(Class::Certificate, &["dev.lan"]), 1);
}

#[test]
fn asked_at_once_by_many_it_signs_once() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let csr = Csr::names(&["dev.lan"]);
    let question = account.finalize(OrderId([9; 16]), &csr);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..16).map(|_| scope.spawn(|| running.ask(question.clone()))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!(answer.as_ref().unwrap(), answers[0].as_ref().unwrap());
    }
    assert_eq!(house.issuing_key.asked(Class::Certificate, &["dev.lan"]), 1);
}

#[test]
fn an_intent_without_a_signature_is_signed_from_its_stored_bytes() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let csr = Csr::names(&["dev.lan"]);
    house.issuing_key.fail_next(SignError::Retry(Duration::from_millis(7)));
    assert_eq!(running.finalize(&account, 1, &csr), Err(AskError::Retry(Duration::from_millis(7))));
    let Some(Issuance::Intended { intent, serial }) =
        running.log.index().by_order(OrderId([1; 16])).unwrap()
    else {
        panic!("no intent");
    };
    drop(running);
    let running = house.start();
    let (leaf, again, _) = certificate(running.finalize(&account, 1, &csr));
    assert_eq!(again, serial);
    let Ok(Record::IntentV1(record)) = running.log.read(intent) else { panic!() };
    assert_eq!(record.tbs, leaf.tbs());
    assert!(running.log.index().open_intents().unwrap().is_empty());
}

#[test]
fn an_intent_that_the_policy_no_longer_permits_is_abandoned_and_revoked() {
    let mut house = House::new();
    let running = house.start();
    let account = running.register();
    let csr = Csr::names(&["dev.lan"]);
    house.issuing_key.fail_next(SignError::Retry(Duration::from_millis(7)));
    running.finalize(&account, 1, &csr).unwrap_err();
    drop(running);
    house.policy.deny_names = vec!["dev.lan".into()];
    let running = house.start();
    eventually(|| running.crl().is_some_and(|crl| crl.revoked.len() == 1));
    let Ok(Some(Issuance::Abandoned { serial, .. })) =
        running.log.index().by_order(OrderId([1; 16]))
    else {
        panic!("not abandoned");
    };
    assert_eq!(running.crl().unwrap().revoked[0].serial, serial);
    assert_eq!(refused(running.finalize(&account, 1, &csr)), ProblemType::ServerInternal);
    assert_eq!(house.issuing_key.asked(Class::Certificate, &["dev.lan"]), 0, "signed after all");
}

#[test]
fn an_intent_of_another_issuer_or_past_its_time_is_abandoned() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let csr = Csr::names(&["dev.lan"]);
    house.issuing_key.fail_next(SignError::Retry(Duration::from_millis(7)));
    running.finalize(&account, 1, &csr).unwrap_err();
    // Asked again while it runs, but too late.
    house.clock.advance(120 * 24 * HOUR);
    assert_eq!(refused(running.finalize(&account, 1, &csr)), ProblemType::ServerInternal);
    assert!(matches!(
        running.log.index().by_order(OrderId([1; 16])),
        Ok(Some(Issuance::Abandoned { .. }))
    ));
}

#[test]
fn promise_2_the_exact_bytes_survive_a_crash_at_the_moment_the_key_is_asked() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    // The machine stops just as the key is asked, and what was not durable is lost.
    let disk = house.disk.clone();
    let crashed = Arc::new(std::sync::Mutex::new(None::<(Vec<u8>, SimulatedDisk)>));
    let seen = Arc::clone(&crashed);
    house.issuing_key.when_asked(move |class, message| {
        if class == Class::Certificate {
            let after = disk.crash(CrashMode::Lost, 1);
            *seen.lock().unwrap() = Some((message.to_vec(), after));
        }
    });
    let _ =
        running.finalize_within(&account, 1, &Csr::names(&["dev.lan"]), Duration::from_millis(300));
    drop(running);
    let (message, after) = crashed.lock().unwrap().take().expect("the key was asked");
    let house = house.on(after);
    let log = house.open_log();
    let open = log.index().open_intents().unwrap();
    assert_eq!(open.len(), 1);
    let Ok(Record::IntentV1(intent)) = log.read(open[0].0) else { panic!("no intent") };
    assert_eq!(intent.tbs, message);
    assert!(matches!(intent.requester, Requester::Order { order: OrderId(o), .. } if o == [1; 16]));
}

#[test]
fn promise_3_nothing_is_answered_before_a_signed_checkpoint_covers_it() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let csr = Csr::names(&["dev.lan"]);
    eventually(|| running.health().crl_next_update > Timestamp(0));
    house.log_key.refuse.store(true, Ordering::SeqCst);
    let early = running.finalize_within(&account, 1, &csr, Duration::from_millis(400));
    assert!(matches!(early, Err(AskError::Retry(_))), "{early:?}");
    // The signature is there and durable, and still it is not shown.
    eventually(|| {
        matches!(running.log.index().by_order(OrderId([1; 16])), Ok(Some(Issuance::Issued { .. })))
    });
    let early = running.finalize_within(&account, 1, &csr, Duration::from_millis(400));
    assert!(matches!(early, Err(AskError::Retry(_))), "{early:?}");
    house.log_key.refuse.store(false, Ordering::SeqCst);
    let (leaf, serial, at) = certificate(running.finalize_eventually(&account, 1, &csr));

    let note = house.disk.read(&house.public.join("checkpoint"), 65536).unwrap();
    let key = VerifierKey::from_spki(&house.authority.origin, house.log_key.spki()).unwrap();
    let checkpoint = Checkpoint::open(&note, &key).unwrap();
    assert!(checkpoint.head.size > at.0);
    let Ok(Record::IssuedV1(issued)) = running.log.read(at) else { panic!("no such leaf") };
    assert_eq!(issued.serial, serial);
    assert_eq!(issued.signature, leaf.signature().1);
}

#[test]
fn promise_4_a_taken_over_web_process_stays_a_petitioner() {
    let house = House::new();
    let running = house.start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("issuer.sock");
    let uids = vec![rustix::process::geteuid().as_raw()];
    let options =
        server::Options { path: path.clone(), mode: 0o600, digest: [0; 32], uids: uids.clone() };
    let _server = Server::start(options, running.running.service()).unwrap();
    let client = Client::start(client::Options { path, digest: [0; 32], uids }).unwrap();
    client.wait_connected(LONG).unwrap();
    let ask = |question| client.ask_blocking(question, LONG);

    let victim = running.register();
    let own = running.register();
    let before = house.issuing_key.count(Class::Certificate);
    let size = running.log.head().size;
    let good = Csr::names(&["dev.lan"]);
    let order = OrderId([1; 16]);
    let altered = |question: Question, change: &dyn Fn(&mut Finalize)| match question {
        Question::Finalize(mut finalize) => {
            change(&mut finalize);
            Question::Finalize(finalize)
        }
        other => other,
    };
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
    for (what, question, kind) in cases {
        assert_eq!(refused(ask(question)), kind, "{what}");
    }
    // The TLS key signs handshakes and nothing else; the issuing key is nowhere to be asked.
    let tbs = house.issuing.tbs().to_vec();
    for message in [tbs, vec![0x30; 130], vec![b' '; 130], vec![0; 5000], Vec::new()] {
        assert_eq!(refused(ask(Question::SignTls { message })), Malformed);
    }
    assert_eq!(house.tls_key.count(Class::Tls), 0);
    assert_eq!(house.issuing_key.count(Class::Certificate), before, "something was signed");
    assert_eq!(running.log.head().size, size, "something was recorded");

    // What the victim's own request can do, it can do once and for the victim alone.
    let (leaf, ..) = certificate(ask(victim.finalize(order, &good)));
    assert_eq!(refused(ask(own.finalize(order, &good))), Unauthorized, "another's order");
    let replay = altered(victim.finalize(order, &good), &|f| f.order = OrderId([3; 16]));
    assert_eq!(refused(ask(replay)), Unauthorized, "a replay for another order");
    assert_eq!(certificate(ask(victim.finalize(order, &good))).0.der(), leaf.der());
    assert_eq!(house.issuing_key.count(Class::Certificate), before + 1);
}

/// The log keeps what is claimed of a certificate's names; it is nobody's notebook.
#[test]
fn claims_about_other_names_are_not_recorded() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let claim = |name: &str| Validation {
        identifier: Identifier::parse("dns", name).unwrap(),
        method: ChallengeType::Http01,
        at: Timestamp(1),
    };
    let Question::Finalize(mut finalize) =
        account.finalize(OrderId([1; 16]), &Csr::names(&["dev.lan"]))
    else {
        panic!("no finalize");
    };
    finalize.validations = vec![claim("dev.lan"); 50];
    finalize.validations.extend((0..2000).map(|n| claim(&format!("{n}.lan"))));
    certificate(running.ask(Question::Finalize(finalize)));
    let found = running.log.index().by_order(OrderId([1; 16])).unwrap();
    let Some(Issuance::Issued { intent, .. }) = found else { panic!("{found:?}") };
    let Ok(Record::IntentV1(intent)) = running.log.read(intent) else { panic!("no intent") };
    let recorded: Vec<&str> = intent.validations.iter().map(|v| v.identifier.as_str()).collect();
    assert_eq!(recorded, ["dev.lan"]);
}

#[test]
fn an_account_is_registered_once() {
    let house = House::new();
    let running = house.start();
    let account = Account::unregistered();
    let register = |only| running.ask(Question::Register { jws: account.new_account(only) });
    assert_eq!(refused(register(true)), ProblemType::AccountDoesNotExist);
    let size = running.log.head().size;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..8).map(|_| scope.spawn(|| register(false))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap().unwrap()).collect()
    });
    let mut ids = Vec::new();
    let mut new = 0;
    for answer in answers {
        let Answer::Account { account, existing } = answer else { panic!() };
        ids.push(account);
        new += usize::from(!existing);
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(new, 1);
    assert_eq!(running.log.head().size, size + 1);
    drop(running);
    let running = house.start();
    let found = running.ask(Question::Register { jws: account.new_account(true) });
    assert_eq!(found, Ok(Answer::Account { account: ids[0], existing: true }));
}

#[test]
fn accounts_and_certificates_are_capped() {
    let mut house = House::new();
    house.settings.registrations_per_hour = 2;
    house.settings.issuance_per_account_per_hour = 1;
    let running = house.start();
    let (a, b) = (running.register(), running.register());
    let third = Account::unregistered();
    let asked = running.ask(Question::Register { jws: third.new_account(false) });
    assert!(
        matches!(&asked, Err(AskError::Limited(problem, after))
            if problem.kind == ProblemType::RateLimited && *after > Duration::from_secs(3000)),
        "{asked:?}"
    );
    let csr = Csr::names(&["dev.lan"]);
    assert!(running.finalize(&a, 1, &csr).is_ok());
    assert_eq!(refused(running.finalize(&a, 2, &csr)), ProblemType::RateLimited);
    assert!(running.finalize(&a, 1, &csr).is_ok(), "an answer again is no issuance");
    assert!(running.finalize(&b, 3, &csr).is_ok());
    house.clock.advance(HOUR);
    assert!(running.finalize(&a, 2, &csr).is_ok());
}

#[test]
fn a_clock_set_back_stops_everything_until_it_is_right() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    house.clock.set_wall(NOW.minus(HOUR));
    let csr = Csr::names(&["dev.lan"]);
    let size = running.log.head().size;
    assert!(matches!(running.finalize(&account, 1, &csr), Err(AskError::Retry(_))));
    let health = running.health();
    assert!(!health.ready);
    assert!(
        health.problems.iter().any(|(code, _)| code == "CHY-CLOCK-BACK"),
        "{:?}",
        health.problems
    );
    assert_eq!(running.log.head().size, size);
    house.clock.set_wall(NOW.plus(Duration::from_secs(1)));
    assert!(running.finalize(&account, 1, &csr).is_ok());
    assert!(running.health().ready);
}

#[test]
fn a_box_switched_off_for_a_month_must_be_told() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    drop(running);
    let later = NOW.plus(30 * 24 * HOUR);
    house.clock.set_wall(later);
    let running = house.start_unready();
    let csr = Csr::names(&["dev.lan"]);
    assert!(matches!(running.finalize(&account, 1, &csr), Err(AskError::Retry(_))));
    eventually(|| running.health().problems.iter().any(|(code, _)| code == "CHY-CLOCK-JUMP"));
    // Accepted for another time: not for this one.
    let acceptance = Acceptance::new(Arc::new(house.disk.clone()), &house.dir);
    acceptance.accept(later.minus(2 * HOUR)).unwrap();
    running.running.nudge();
    assert!(matches!(running.finalize(&account, 1, &csr), Err(AskError::Retry(_))));
    acceptance.accept(later).unwrap();
    running.running.nudge();
    eventually(|| running.health().ready);
    let size = running.log.head().size;
    let accepted = (0..size).any(|leaf| {
        matches!(running.log.read(LeafIndex(leaf)), Ok(Record::ClockAcceptedV1(r)) if r.at == later)
    });
    assert!(accepted, "the decision is not in the log");
    assert!(running.finalize(&account, 1, &csr).is_ok());
}

#[test]
fn the_crl_is_published_and_renewed() {
    let house = House::new();
    let running = house.start();
    eventually(|| running.crl().is_some());
    let first = running.crl().unwrap();
    assert!(first.revoked.is_empty());
    assert!(first.next_update > NOW.plus(167 * HOUR));
    drop(running);
    let running = house.start();
    assert_eq!(running.crl().unwrap(), first, "a restart needs no new CRL");
    // Before half its life, so that the log always holds a recent instant.
    house.clock.advance(13 * HOUR);
    running.running.nudge();
    eventually(|| running.crl().unwrap().number > first.number);
    for (file, expected) in [
        ("root.der", house.root.der()),
        ("issuing.der", house.issuing.der()),
        ("root.pem", house.root.pem().as_bytes()),
    ] {
        assert_eq!(house.disk.read(&house.public.join(file), 65536).unwrap(), expected, "{file}");
    }
}

#[test]
fn the_box_has_a_certificate_of_its_own_and_keeps_it() {
    let mut house = House::new();
    let running = house.start();
    let chain = running.tls_chain();
    assert_eq!(chain.len(), 2);
    assert!(chain[0].verify_issued_by(&chain[1]));
    assert_eq!(chain[0].public_key().spki(), house.tls_key.spki());
    assert_eq!(chain[1].der(), house.issuing.der());
    drop(running);
    let running = house.start();
    assert_eq!(running.tls_chain()[0].der(), chain[0].der(), "a restart needs no new certificate");
    let message = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
    let Ok(Answer::Signature(signature)) =
        running.ask(Question::SignTls { message: message.clone() })
    else {
        panic!("no signature");
    };
    let key = chain[0].public_key();
    assert!(key.verify(key.preferred_algorithm(), &message, &signature));
    // Two thirds of its life later it is renewed while the box runs.
    house.clock.advance(61 * 24 * HOUR);
    running.running.nudge();
    eventually(|| running.tls_chain()[0].der() != chain[0].der());
    drop(running);
    house.settings.tls_names = vec!["other.lan".into()];
    let running = house.start();
    assert_eq!(running.tls_chain()[0].identifiers()[0].value(), "other.lan");
}

#[test]
fn the_box_does_not_name_itself_outside_the_constraints() {
    let mut house = House::new();
    for name in ["ca.example.com", "8.8.8.8", "*.lan", "not a name"] {
        house.settings.tls_names = vec![name.into()];
        let why = house.try_start().err().expect(name);
        assert!(why.starts_with("CHY-TLS-NAMES"), "{why}");
    }
}

#[test]
fn what_does_not_belong_together_does_not_start() {
    let mut house = House::new();
    house.policy.allow_names.push("example.com".into());
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CONFIG-POLICY") && why.contains("example.com"), "{why}");

    let mut house = House::new();
    house.authority.transcript_sha256 = "00".repeat(32);
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-LOG-FOREIGN"), "{why}");

    let mut house = House::new();
    std::mem::swap(&mut house.issuing_key, &mut house.tls_key);
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-KEY-MISMATCH"), "{why}");

    let mut house = House::new();
    house.authority.issuing = None;
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CA-INCOMPLETE"), "{why}");
}

#[test]
fn an_unknown_disk_ends_the_process() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    // The disk fails between the intent and the record of the signature.
    let disk = house.disk.clone();
    house.issuing_key.when_asked(move |class, _| {
        if class == Class::Certificate {
            disk.stop();
        }
    });
    let asked = running.finalize_within(&account, 1, &Csr::names(&["dev.lan"]), LONG);
    assert!(matches!(asked, Err(AskError::Retry(_))), "{asked:?}");
    assert!(house.halted.load(Ordering::SeqCst));
    assert!(!running.health().ready);
}

#[test]
fn a_refused_pin_is_remembered_and_another_tried() {
    let disk = Arc::new(SimulatedDisk::new());
    let dir = std::path::Path::new("/issuer");
    disk.create_dir(dir).unwrap();
    let rng = Arc::new(chancery::env::system::SystemRng);
    let pin = |text: &str| chancery::hsm::pool::Pin(text.to_owned().into());
    let memory = RefusedPin::new(Arc::clone(&disk) as Arc<dyn Disk>, rng, dir);
    assert!(!memory.is_refused(&pin("1234")));
    memory.remember(&pin("1234")).unwrap();
    assert!(memory.is_refused(&pin("1234")));
    assert!(!memory.is_refused(&pin("12345")));
    let stored = disk.read(memory.path(), 1024).unwrap();
    assert!(!stored.windows(4).any(|w| w == b"1234"));
    memory.forget();
    assert!(!memory.is_refused(&pin("1234")));
    disk.replace(memory.path(), b"half", true).unwrap();
    assert!(memory.is_refused(&pin("1234")), "a file that does not parse must not unlock");
}

#[test]
fn promise_1_with_every_key_in_a_token() {
    house::in_a_token("promise_1_with_every_key_in_a_token", |token| {
        let Served { running, issuing, account } = token.serve();
        let (leaf, ..) = certificate(running.finalize(&account, 1, &Csr::names(&["dev.lan"])));
        assert!(leaf.verify_issued_by(&issuing));
        assert_eq!(running.tls_chain()[0].public_key().spki(), token.tls_spki());
        assert!(crl::parse_verified(&running.crl_der().unwrap(), &issuing).is_ok());
        assert!(running.health().ready);
    });
}
