//! One order, one certificate: asked twice, at once, after a restart, after a lost signature; promises 1 to 3.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery::acme::challenge::ChallengeType;
use chancery::acme::problem::ProblemType;
use chancery::env::Disk;
use chancery::env::simulated::{CrashMode, SimulatedDisk};
use chancery::hsm::{Class, SignError};
use chancery::id::{OrderId, Timestamp};
use chancery::ipc::AskError;
use chancery::ipc::message::{Question, Validation};
use chancery::log::Record;
use chancery::log::checkpoint::Checkpoint;
use chancery::log::index::Issuance;
use chancery::log::note::VerifierKey;
use chancery::log::record::Requester;
use chancery::pki::crl;
use chancery::pki::name::Identifier;

use crate::house::{Csr, House, LONG, Served, eventually, in_a_token};
use crate::{HOUR, certificate, refused};

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
fn promise_1_with_every_key_in_a_token() {
    in_a_token("issuance::promise_1_with_every_key_in_a_token", |token| {
        let Served { running, issuing, account } = token.serve();
        let (leaf, ..) = certificate(running.finalize(&account, 1, &Csr::names(&["dev.lan"])));
        assert!(leaf.verify_issued_by(&issuing));
        assert_eq!(running.tls_chain()[0].public_key().spki(), token.tls_spki());
        assert!(crl::parse_verified(&running.crl_der().unwrap(), &issuing).is_ok());
        assert!(running.health().ready);
    });
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
