//! An issuing CA takes over from another: whose certificates, whose CRLs, whose open intents, and the end.

use std::time::Duration;

use chancery::env::Clock;
use chancery::hsm::{Class, SignError};
use chancery::id::Serial;
use chancery::ipc::admin::certificate::CertificateQuestion;
use chancery::ipc::admin::{AdminQuestion, Operator};
use chancery::log::Record;
use chancery::pki::certificate::Certificate;
use chancery::pki::crl::{self, Crl};

use crate::house::{Csr, House, Office, eventually};
use crate::{HOUR, certificate};

/// A published CRL that verifies under this issuing certificate.
fn crl_at(office: &Office, file: &str, issuing: &Certificate) -> Option<Crl> {
    crl::parse_verified(&office.public(file)?, issuing).ok()
}

fn revoke(office: &Office, serial: Serial) {
    let operator = Operator { uid: 1000, user: "ops".into() };
    let question = CertificateQuestion::Revoke { serial, reason: None };
    office.running.admin().answer(&operator, AdminQuestion::Certificate(question)).unwrap();
}

#[test]
fn the_newest_of_a_line_issues_and_the_one_before_answers_for_its_own() {
    let mut house = House::new();
    let running = house.start();
    let account = running.register();
    let (old, old_serial, _) = certificate(running.finalize(&account, 1, &Csr::names(&["a.lan"])));
    // One that is intended, and cannot be signed before the process ends.
    house.issuing_key.fail_next(SignError::Retry(Duration::from_secs(1)));
    let open = Csr::names(&["open.lan"]);
    running.finalize(&account, 2, &open).unwrap_err();
    drop(running);

    let (second, second_key) = house.add_issuer("issuing-2", "issuing");
    let running = house.start();
    let (new, new_serial, _) = certificate(running.finalize(&account, 3, &Csr::names(&["b.lan"])));
    assert!(new.verify_issued_by(&second), "new certificates are the new one's");
    assert!(new.crl_url().unwrap().starts_with("http://ca.lan/issuing-2-8/"));
    let (finished, ..) = certificate(running.finalize_eventually(&account, 2, &open));
    assert!(finished.verify_issued_by(&house.issuing), "an open intent is finished under its own");
    let (again, ..) = certificate(running.finalize(&account, 1, &Csr::names(&["a.lan"])));
    assert_eq!(again, old);
    // The box's own certificate lives on, and its chain is that of its issuer.
    assert!(running.tls_chain()[0].verify_issued_by(&running.tls_chain()[1]));
    assert_eq!(running.tls_chain()[1], house.issuing);
    assert_eq!(running.public("issuing.pem"), Some(house.issuing.pem().into_bytes()));
    assert_eq!(running.public("issuing-2.cer"), Some(second.der().to_vec()));
    assert!(running.public("issuing-2-chain.pem").is_some());

    // Each lists its own and nothing else, in its shard and in its complete CRL.
    revoke(&running, old_serial);
    revoke(&running, new_serial);
    let lists = |crl: Option<Crl>| -> Vec<Serial> {
        crl.map(|crl| crl.revoked.iter().map(|entry| entry.serial).collect()).unwrap_or_default()
    };
    let file = |certificate: &Certificate| {
        certificate.crl_url().unwrap().strip_prefix("http://ca.lan/").unwrap().to_owned()
    };
    eventually(|| lists(crl_at(&running, &file(&old), &house.issuing)) == [old_serial]);
    eventually(|| lists(crl_at(&running, &file(&new), &second)) == [new_serial]);
    house.clock.advance(HOUR);
    running.running.nudge();
    eventually(|| lists(crl_at(&running, "issuing.crl", &house.issuing)) == [old_serial]);
    eventually(|| lists(crl_at(&running, "issuing-2.crl", &second)) == [new_serial]);
    assert_eq!(house.issuing_key.count(Class::Certificate), 3, "its own and two of orders");

    // What the log says of it, once.
    drop(running);
    let running = house.start();
    let leaves = running.log.index().authorities().unwrap();
    assert_eq!(leaves.len(), 1);
    match running.log.read(leaves[0]).unwrap() {
        Record::IssuerAddedV1(added) => {
            assert_eq!((added.name.as_str(), added.line.as_str()), ("issuing-2", "issuing"));
            assert_eq!(added.certificate, second.der());
            assert_eq!(added.supersedes, Some(house.issuing.fingerprint()));
            assert_eq!(added.root_sha256, house.root.fingerprint());
        }
        other => panic!("{other:?}"),
    }
    assert!(second_key.count(Class::Certificate) > 0);
    drop(running);

    // ca/ as it was before does not fit this log any more.
    house.authority.further_issuers.clear();
    house.authority.version = 1;
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CA-LOG: "), "{why}");
}

#[test]
fn a_superseded_issuing_ca_ends_one_crl_after_its_last_certificate() {
    let mut house = House::new();
    let running = house.start();
    let account = running.register();
    let (old, ..) = certificate(running.finalize(&account, 1, &Csr::names(&["a.lan"])));
    drop(running);
    let (second, _) = house.add_issuer("issuing-2", "issuing");
    let running = house.start();
    let retired = |running: &Office| running.log.index().authorities().unwrap().len() == 2;
    let until = old.validity().1.plus(Duration::from_secs(168 * 3600));
    while house.clock.now() < until {
        assert!(!retired(&running), "{}", house.clock.now());
        house.clock.advance(12 * HOUR);
        running.running.nudge();
        let now = house.clock.now();
        eventually(|| {
            crl_at(&running, "issuing.crl", &house.issuing).is_some_and(|crl| crl.next_update > now)
        });
    }
    running.running.nudge();
    eventually(|| retired(&running));
    let count = house.issuing_key.count(Class::Crl);
    house.clock.advance(12 * HOUR);
    running.running.nudge();
    eventually(|| {
        crl_at(&running, "issuing-2.crl", &second)
            .is_some_and(|crl| crl.this_update.plus(HOUR) > house.clock.now())
    });
    assert_eq!(house.issuing_key.count(Class::Crl), count, "it signs nothing any more");
    assert!(running.public("issuing.crl").is_some(), "its last CRL stays");
    drop(running);

    // Its key may go: the file says so, and the log agrees.
    house.authority.done.push("issuing".into());
    house.authority.version = 3;
    let running = house.start();
    assert!(running.health().ready, "{:?}", running.health().problems);
    let (new, ..) = certificate(running.finalize(&account, 2, &Csr::names(&["b.lan"])));
    assert!(new.verify_issued_by(&second));
}

#[test]
fn two_lines_issue_beside_each_other_and_a_missing_leaf_is_no_end() {
    let mut house = House::new();
    drop(house.start());
    let (other, _) = house.add_issuer("second-line", "second-line");
    let running = house.start();
    let account = running.register();
    let (usual, ..) = certificate(running.finalize(&account, 1, &Csr::names(&["a.lan"])));
    assert!(usual.verify_issued_by(&house.issuing), "no profile names the other line");
    assert!(crl_at(&running, "second-line.crl", &other).is_some());
    drop(running);
    // Done with, says the file; the log does not.
    house.authority.done.push("issuing".into());
    let why = house.try_start().err().unwrap();
    assert!(why.starts_with("CHY-CA-LOG: ") && why.contains("has not retired"), "{why}");
}
