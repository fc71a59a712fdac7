//! What comes due by itself: the clock, the CRL, the box's own certificate.

use std::sync::Arc;
use std::time::Duration;

use chancery::env::Disk;
use chancery::hsm::health::TokenHealth;
use chancery::id::LeafIndex;
use chancery::ipc::AskError;
use chancery::ipc::message::{Answer, Question};
use chancery::issuer::clock::Acceptance;
use chancery::log::Record;

use crate::HOUR;
use crate::house::{Csr, House, NOW, eventually};

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
fn a_key_that_is_out_is_promised_nothing() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let out = |keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let (code, message) = ("CHY-KEY-QUARANTINED".to_owned(), String::new());
        *house.token.lock().unwrap() = TokenHealth::Degraded { code, message, keys };
    };
    out(&["issuing"]);
    let size = running.log.head().size;
    let csr = Csr::names(&["dev.lan"]);
    let asked = running.finalize(&account, 1, &csr);
    assert!(matches!(asked, Err(AskError::Retry(_))), "{asked:?}");
    // Long past the time for another CRL, which a failing key would never sign, but the log would promise.
    house.clock.advance(13 * HOUR);
    for _ in 0..3 {
        running.running.nudge();
        assert!(!running.health().ready);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(running.log.head().size, size, "a record promises what no key will sign");
    // Another key is another matter.
    out(&["witness"]);
    running.running.nudge();
    assert!(running.finalize(&account, 2, &csr).is_ok());
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
