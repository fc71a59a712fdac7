//! Key change and deactivation (RFC 8555 sections 7.3.5 and 7.3.6): verified by the issuer itself, recorded, and
//! the same when asked again.

use chancery::acme::problem::ProblemType::*;
use chancery::hsm::SignError;
use chancery::id::{AccountId, LeafIndex, OrderId};
use chancery::ipc::AskError;
use chancery::ipc::admin::accounts::{AccountAnswer, AccountQuestion};
use chancery::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, Operator};
use chancery::ipc::message::{Answer, Question, Standing, Which};
use chancery::log::Record;
use chancery::log::index::Issuance;
use chancery::log::record::Actor;
use std::time::Duration;

use crate::house::{Account, BASE, Csr, House, Office};
use crate::{certificate, refused};

fn operator() -> Operator {
    Operator { uid: 7, user: "ada".into() }
}

fn admin(running: &Office, question: AccountQuestion) -> Result<AccountAnswer, AdminRefusal> {
    match running.running.admin().answer(&operator(), AdminQuestion::Account(question))? {
        AdminAnswer::Account(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

fn standings(running: &Office, which: Which) -> Vec<Standing> {
    match running.ask(Question::Standings(which)) {
        Ok(Answer::Standings { standings, more: false, .. }) => standings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_changed_and_the_former_one_opens_nothing() {
    let house = House::new();
    let running = house.start();
    let (account, new) = (running.register(), Account::unregistered());
    let change = account.key_change(&new);
    let size = running.log.head().size;
    assert_eq!(running.ask(change.clone()), Ok(Answer::KeyChanged));
    assert_eq!(running.log.head().size, size + 1);
    let Ok(Record::KeyChangedV1(record)) = running.log.read(LeafIndex(size)) else { panic!() };
    assert_eq!(record.account, account.id);

    let renewed = account.with_key_of(&new);
    let csr = Csr::names(&["dev.lan"]);
    assert_eq!(refused(running.finalize(&account, 1, &csr)), Unauthorized);
    certificate(running.finalize(&renewed, 1, &csr));
    // The same request again answers as it did; its sender perhaps never heard.
    assert_eq!(running.ask(change.clone()), Ok(Answer::KeyChanged));
    drop(running);
    let running = house.start();
    assert_eq!(running.ask(change), Ok(Answer::KeyChanged));
    assert_eq!(refused(running.finalize(&account, 2, &csr)), Unauthorized);
    certificate(running.finalize(&renewed, 2, &csr));
    // Neither key may be certified; the former one may register anew, as another account.
    for key in [&account, &new] {
        let csr = Csr::of_account(key, &["dev.lan"]);
        assert_eq!(refused(running.finalize(&renewed, 3, &csr)), BadCsr);
    }
    let anew = running.ask(Question::Register { jws: account.new_account(false) });
    assert!(
        matches!(anew, Ok(Answer::Account { account: id, existing: false, .. }) if id != account.id)
    );
    let told = standings(&running, Which::ChangedFrom(LeafIndex(0)));
    assert_eq!(told.len(), 1);
    assert_eq!(told, standings(&running, Which::One(account.id)));
    assert_eq!((told[0].account, told[0].ended), (account.id, None));
    assert!(told[0].jwk.contains(new.jwk()["x"].as_str().unwrap()));
}

#[test]
fn of_two_key_changes_at_once_one_happens() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let keys: Vec<Account> = (0..8).map(|_| Account::unregistered()).collect();
    let size = running.log.head().size;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            keys.iter().map(|new| scope.spawn(|| running.ask(account.key_change(new)))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let changed = answers.iter().filter(|answer| **answer == Ok(Answer::KeyChanged)).count();
    assert_eq!((changed, running.log.head().size), (1, size + 1), "{answers:?}");
    // Two accounts cannot get one key, and nobody registers it meanwhile.
    let (one, two, new) = (running.register(), running.register(), Account::unregistered());
    let ask = |question: Question| running.ask(question);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let register = Question::Register { jws: new.new_account(false) };
        let asks = [one.key_change(&new), two.key_change(&new), register]
            .map(|question| scope.spawn(move || ask(question)));
        asks.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let made = |answer: &&Result<Answer, AskError>| {
        matches!(answer, Ok(Answer::KeyChanged | Answer::Account { existing: false, .. }))
    };
    assert_eq!(answers.iter().filter(made).count(), 1, "{answers:?}");
}

#[test]
fn key_changes_are_capped() {
    let mut house = House::new();
    house.settings.key_changes_per_account_per_hour = 2;
    let running = house.start();
    let mut account = running.register();
    for n in 0..3 {
        let new = Account::unregistered();
        let answer = running.ask(account.key_change(&new));
        if n < 2 {
            assert_eq!(answer, Ok(Answer::KeyChanged));
            account = account.with_key_of(&new);
        } else {
            assert!(matches!(answer, Err(AskError::Limited(..))), "{answer:?}");
        }
    }
}

/// What the account's former key signed is done to its end, and answered again after a restart.
#[test]
fn an_order_survives_a_key_change() {
    let house = House::new();
    let running = house.start();
    let (account, new) = (running.register(), Account::unregistered());
    let csr = Csr::names(&["dev.lan"]);
    let question = account.finalize(OrderId([1; 16]), &csr);
    house.issuing_key.fail_next(SignError::Retry(Duration::from_millis(7)));
    running.ask(question.clone()).unwrap_err();
    assert_eq!(running.ask(account.key_change(&new)), Ok(Answer::KeyChanged));
    let first = running.ask(question.clone()).unwrap();
    drop(running);
    let running = house.start();
    assert_eq!(running.ask(question).unwrap(), first);
    // But nothing else that it signs, not even for that order.
    let other = account.finalize(OrderId([1; 16]), &Csr::names(&["b.lan"]));
    assert_eq!(refused(running.ask(other)), Unauthorized);
}

#[test]
fn an_account_that_ended_gets_nothing_more() {
    let house = House::new();
    let running = house.start();
    let (account, other) = (running.register(), running.register());
    let csr = Csr::names(&["dev.lan"]);
    let kept = running.finalize(&account, 1, &csr).unwrap();
    house.issuing_key.fail_next(SignError::Retry(Duration::from_millis(7)));
    running.finalize(&account, 2, &csr).unwrap_err();

    // Not by another, and not by a request that says something else.
    let url = format!("{BASE}/acme/acct/{}", account.id);
    let update = account.post(&url, &serde_json::json!({ "contact": [] }));
    assert_eq!(refused(running.ask(Question::Deactivate { jws: update })), Malformed);
    let forged = account.with_key_of(&other).deactivation();
    assert_eq!(refused(running.ask(forged)), Unauthorized);
    let strange = other.post(&url, &serde_json::json!({ "status": "deactivated" }));
    assert_eq!(refused(running.ask(Question::Deactivate { jws: strange })), Unauthorized);

    let ended = running.ask(account.deactivation()).unwrap();
    assert!(matches!(&ended, Answer::Deactivated(ended) if !ended.by_operator));
    let size = running.log.head().size;
    assert_eq!(running.ask(account.deactivation()).unwrap(), ended, "the same again");
    assert_eq!(running.log.head().size, size);
    drop(running);
    let running = house.start();
    assert_eq!(refused(running.finalize(&account, 3, &csr)), Unauthorized);
    let change = account.key_change(&Account::unregistered());
    assert_eq!(refused(running.ask(change)), Unauthorized);
    let again = Question::Register { jws: account.new_account(false) };
    assert_eq!(refused(running.ask(again)), Unauthorized);
    // What was issued stays; what was only intended is given up and its serial revoked.
    assert_eq!(running.finalize(&account, 1, &csr).unwrap(), kept);
    assert_eq!(refused(running.finalize(&account, 2, &csr)), ServerInternal);
    assert!(matches!(
        running.log.index().by_order(OrderId([2; 16])),
        Ok(Some(Issuance::Abandoned { .. }))
    ));
    certificate(running.finalize(&other, 4, &csr));
    assert!(standings(&running, Which::One(account.id))[0].ended.is_some());
}

#[test]
fn an_operator_sees_and_ends_accounts() {
    let house = House::new();
    let running = house.start();
    let accounts: Vec<Account> = (0..3).map(|_| running.register()).collect();
    let mut ids: Vec<AccountId> = accounts.iter().map(|account| account.id).collect();
    ids.sort();
    let Ok(AccountAnswer::List(all)) = admin(&running, AccountQuestion::List { after: None })
    else {
        panic!()
    };
    assert_eq!(all.iter().map(|status| status.account).collect::<Vec<_>>(), ids);
    let after = AccountQuestion::List { after: Some(ids[1]) };
    assert!(matches!(admin(&running, after), Ok(AccountAnswer::List(page)) if page.len() == 1));

    let victim = &accounts[0];
    let Ok(AccountAnswer::Deactivated { ended, before: false }) =
        admin(&running, AccountQuestion::Deactivate(victim.id))
    else {
        panic!()
    };
    assert!(ended.by_operator);
    let leaf = LeafIndex(running.log.head().size - 1);
    let Ok(Record::AccountDeactivatedV1(record)) = running.log.read(leaf) else { panic!() };
    assert_eq!(record.by, Actor::Operator { uid: 7, user: "ada".into() });
    let again = admin(&running, AccountQuestion::Deactivate(victim.id));
    assert_eq!(again, Ok(AccountAnswer::Deactivated { ended, before: true }));
    let Ok(AccountAnswer::Account(status)) = admin(&running, AccountQuestion::Show(victim.id))
    else {
        panic!()
    };
    assert_eq!(status.ended, Some(ended));
    assert_eq!(refused(running.finalize(victim, 1, &Csr::names(&["dev.lan"]))), Unauthorized);
    let unknown = admin(&running, AccountQuestion::Show(AccountId([9; 16])));
    assert!(
        matches!(&unknown, Err(AdminRefusal::Refused(text)) if text.starts_with("CHY-ACCOUNT-UNKNOWN"))
    );
}
