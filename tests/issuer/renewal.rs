//! What the issuer says of certificates for their renewal, the operator's recalls, and promise 4 for profiles.

use std::time::Duration;

use chancery::acme::challenge::ChallengeType;
use chancery::acme::problem::ProblemType;
use chancery::acme::renewal::{Certified, Window};
use chancery::id::{LeafIndex, OrderId, Serial, Timestamp};
use chancery::ipc::admin::recalls::{Recall, RecallAnswer, RecallQuestion};
use chancery::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, Operator};
use chancery::ipc::message::{Answer, Question, Validation};
use chancery::log::Record;
use chancery::log::record::Actor;
use chancery::pki::name::Identifier;

use crate::house::{Account, Csr, House, NOW, Office};
use crate::{HOUR, certificate, refused};

fn certified(office: &Office, serial: Serial) -> Option<Certified> {
    match office.ask(Question::Renewal { serial }) {
        Ok(Answer::Renewal(found)) => found.map(|certified| *certified),
        other => panic!("{other:?}"),
    }
}

fn recall(office: &Office, question: RecallQuestion) -> Result<RecallAnswer, AdminRefusal> {
    let operator = Operator { uid: 1000, user: "ops".into() };
    match office.running.admin().answer(&operator, AdminQuestion::Recall(question))? {
        AdminAnswer::Recall(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

fn start(office: &Office, plan: Recall) -> LeafIndex {
    match recall(office, RecallQuestion::Start(Box::new(plan))).unwrap() {
        RecallAnswer::Started(leaf) => leaf,
        other => panic!("{other:?}"),
    }
}

fn plan() -> Recall {
    Recall {
        profile: None,
        serial: None,
        issued_from: None,
        issued_until: None,
        start: NOW.minus(HOUR),
        end: NOW,
        explanation: Some("https://ca.lan/why".into()),
    }
}

#[test]
fn the_issuer_knows_what_it_issued_for_orders_and_tells_nothing_else() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let (leaf, serial, _) =
        certificate(running.finalize(&account, 1, &Csr::names(&["a.lan", "10.1.2.3"])));
    let found = certified(&running, serial).unwrap();
    assert_eq!(found.account, account.id);
    assert_eq!(found.identifiers, leaf.identifiers());
    assert_eq!((found.not_before, found.not_after), leaf.validity());
    assert_eq!((found.revoked, found.recall), (None, None));
    assert_eq!(certified(&running, Serial::from_random([1; 16])), None);
    let own = running.tls_chain()[0].serial().unwrap();
    assert_eq!(certified(&running, own), None, "the box's own is nobody's to renew");
}

#[test]
fn a_recall_means_what_it_says_and_nothing_issued_after_it() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let issue =
        |order, name: &str| certificate(running.finalize(&account, order, &Csr::names(&[name]))).1;
    let (first, second) = (issue(1, "a.lan"), issue(2, "b.lan"));
    let window = |serial| certified(&running, serial).unwrap().recall;
    let only = start(&running, Recall { serial: Some(first), ..plan() });
    let due = Window { start: NOW.minus(HOUR), end: NOW, explanation: plan().explanation };
    assert_eq!((window(first), window(second)), (Some(due.clone()), None));
    for none in [
        Recall { profile: Some("device".into()), ..plan() },
        Recall { issued_from: Some(Timestamp(u64::MAX)), ..plan() },
        Recall { issued_until: Some(Timestamp(1)), ..plan() },
    ] {
        start(&running, none);
        assert_eq!(window(second), None);
    }
    let sooner = Recall { profile: Some("server".into()), start: NOW.minus(3 * HOUR), ..plan() };
    let all = start(&running, sooner);
    assert_eq!(window(second).unwrap().start, NOW.minus(3 * HOUR));
    assert_eq!(window(first).unwrap().start, NOW.minus(3 * HOUR), "the earliest counts");
    let replacement = issue(3, "a.lan");
    assert_eq!(window(replacement), None, "what replaces is not recalled");

    let RecallAnswer::List(listed) = recall(&running, RecallQuestion::List).unwrap() else {
        panic!("no list");
    };
    assert_eq!(listed.len(), 5);
    assert_eq!((listed[0].0, listed[0].1.serial), (only, Some(first)));
    assert!(matches!(recall(&running, RecallQuestion::End(all)), Ok(RecallAnswer::Ended)));
    assert_eq!((window(first), window(second)), (Some(due), None));
    let again = recall(&running, RecallQuestion::End(all));
    assert!(matches!(again, Err(AdminRefusal::Refused(why)) if why.starts_with("CHY-RECALL: ")));
    match running.log.read(all).unwrap() {
        Record::RecallV1(record) => {
            assert_eq!(record.by, Actor::Operator { uid: 1000, user: "ops".into() });
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_recall_outlasts_the_process_and_makes_sense() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let (_, serial, _) = certificate(running.finalize(&account, 1, &Csr::names(&["a.lan"])));
    start(&running, plan());
    for (nonsense, word) in [
        (Recall { end: NOW.minus(HOUR), ..plan() }, "window"),
        (Recall { explanation: Some("javascript:1".into()), ..plan() }, "URL"),
        (Recall { explanation: Some("https://a b".into()), ..plan() }, "URL"),
    ] {
        match recall(&running, RecallQuestion::Start(Box::new(nonsense))) {
            Err(AdminRefusal::Refused(why)) => {
                assert!(why.starts_with("CHY-RECALL: ") && why.contains(word), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    drop(running);
    let running = house.start();
    assert!(certified(&running, serial).unwrap().recall.is_some());
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
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let good = Csr::names(&["x.print.lan"]);
    let dns = ChallengeType::Dns01;
    let foreign = Csr::names(&["a.lan"]);
    let asked = running.ask(claiming(&account, 1, &foreign, &[("a.lan", dns)]));
    assert_eq!(refused(asked), ProblemType::RejectedIdentifier);
    for (order, claims) in [
        (2, &[][..]),
        (3, &[("x.print.lan", ChallengeType::Http01)][..]),
        (4, &[("y.print.lan", dns)][..]),
    ] {
        let asked = running.ask(claiming(&account, order, &good, claims));
        assert_eq!(refused(asked), ProblemType::Unauthorized, "{claims:?}");
    }
    // Of the name itself, and of one above it (RFC 9444).
    for (order, above) in [(5, "x.print.lan"), (6, "print.lan")] {
        let (leaf, ..) =
            certificate(running.ask(claiming(&account, order, &good, &[(above, dns)])));
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
    let (leaf, ..) = certificate(running.ask(Question::Finalize(finalize)));
    assert_eq!(leaf.validity(), (from, until));
}
