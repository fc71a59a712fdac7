//! What the issuer says of certificates for their renewal, and the operator's recalls.

use chancery::acme::renewal::{Certified, Window};
use chancery::id::{LeafIndex, Serial, Timestamp};
use chancery::ipc::admin::recalls::{Recall, RecallAnswer, RecallQuestion};
use chancery::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, Operator};
use chancery::ipc::message::{Answer, Question};
use chancery::log::Record;
use chancery::log::record::Actor;

use crate::house::{Csr, House, NOW, Office};
use crate::{HOUR, certificate};

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
