//! Registrations, key changes and deactivations that no client asked for, or not now.

use chancery::acme::problem::ProblemType::{self, *};
use chancery::id::{AccountId, OrderId};
use chancery::ipc::message::{Answer, Question};

use super::Takeover;
use crate::certificate;
use crate::house::{Account, BASE, Csr, House};

fn parse(jws: &[u8]) -> serde_json::Value {
    serde_json::from_slice(jws).unwrap()
}

#[test]
fn promise_4_a_forged_registration_registers_nothing() {
    let takeover = Takeover::of(House::new());
    let (good, other) = (Account::unregistered(), Account::unregistered());
    let mut foreign_key = parse(&good.new_account(false));
    foreign_key["protected"] = parse(&other.new_account(false))["protected"].clone();
    let mut other_payload = parse(&good.new_account(false));
    other_payload["payload"] = parse(&good.new_account(true))["payload"].clone();
    let elsewhere = Account { base: "https://evil.lan".into(), ..good.clone() };
    let finalize = good.finalize_jws(OrderId([1; 16]), &Csr::names(&["dev.lan"]));
    let cases: Vec<(&str, Vec<u8>, ProblemType)> = vec![
        ("a key that did not sign", foreign_key.to_string().into_bytes(), Unauthorized),
        ("a payload that was not signed", other_payload.to_string().into_bytes(), Unauthorized),
        ("for another server", elsewhere.new_account(false), Unauthorized),
        ("a finalize request", finalize, Malformed),
        ("too large", vec![b'{'; 100_000], Malformed),
        ("nothing", Vec::new(), Malformed),
    ];
    for (what, jws, kind) in cases {
        takeover.attempt(what, Question::Register { jws }, kind, None);
    }
    takeover.assert_nothing_came_of_it();
}

#[test]
fn promise_4_a_replayed_registration_is_the_account_it_made() {
    let mut takeover = Takeover::of(House::new());
    let account = Account::unregistered();
    let registration = Question::Register { jws: account.new_account(false) };
    let Ok(Answer::Account { account: id, existing: false, .. }) =
        takeover.ask(registration.clone())
    else {
        panic!("not registered");
    };
    takeover.begin();
    for _ in 0..3 {
        let again = Answer::Account { account: id, existing: true, bound: false };
        assert_eq!(takeover.ask(registration.clone()), Ok(again));
    }
    takeover.assert_nothing_came_of_it();
    // Of an account that has ended it makes no other.
    let ended = Account { id, ..account };
    assert!(matches!(takeover.ask(ended.deactivation()), Ok(Answer::Deactivated(_))));
    takeover.begin();
    takeover.attempt("of an account that has ended", registration, Unauthorized, None);
    takeover.assert_nothing_came_of_it();
}

#[test]
fn promise_4_no_key_is_changed_but_by_both_keys() {
    let mut takeover = Takeover::of(House::new());
    let (victim, own) = (takeover.running.register(), takeover.running.register());
    let new = Account::unregistered();
    takeover.begin();
    let altered = |question: Question, change: &dyn Fn(&mut serde_json::Value)| {
        let Question::ChangeKey { jws } = question else { panic!() };
        let mut jws = parse(&jws);
        change(&mut jws);
        Question::ChangeKey { jws: jws.to_string().into_bytes() }
    };
    let url = format!("{BASE}/acme/key-change");
    let mut elsewhere = victim.clone();
    elsewhere.base = "https://evil.lan".into();
    let cases = [
        (
            "signed by another account's key",
            victim.with_key_of(&own).key_change(&new),
            Unauthorized,
        ),
        ("no account", Account::unregistered().key_change(&new), AccountDoesNotExist),
        ("another server's account", elsewhere.key_change(&new), Unauthorized),
        ("a wrong oldKey", victim.key_change_from(&own.jwk(), &new), Malformed),
        (
            "an altered signature",
            altered(victim.key_change(&new), &|jws| jws["signature"] = "AAAA".into()),
            Unauthorized,
        ),
        (
            "another payload",
            altered(victim.key_change(&new), &|jws| jws["payload"] = "e30".into()),
            Unauthorized,
        ),
        (
            "no inner JWS",
            Question::ChangeKey { jws: victim.post(&url, &serde_json::json!({})) },
            Malformed,
        ),
        (
            "a request for something else",
            Question::ChangeKey {
                jws: victim.finalize_jws(OrderId([1; 16]), &Csr::names(&["a.lan"])),
            },
            Unauthorized,
        ),
        ("a registration", Question::ChangeKey { jws: own.new_account(false) }, Malformed),
        ("nothing", Question::ChangeKey { jws: Vec::new() }, Malformed),
        ("too much", Question::ChangeKey { jws: vec![b'{'; 100_000] }, Malformed),
    ];
    for (what, question, kind) in cases {
        takeover.attempt(what, question, kind, None);
    }
    // A key that somebody has is not taken.
    let taken = takeover.ask(victim.key_change(&own));
    assert_eq!(taken, Ok(Answer::KeyInUse { account: own.id }));
    let same = takeover.ask(victim.key_change(&victim));
    assert_eq!(same, Ok(Answer::KeyInUse { account: victim.id }));
    takeover.assert_nothing_came_of_it();
    certificate(takeover.running.finalize(&victim, 1, &Csr::names(&["dev.lan"])));
}

/// A key that was given up, for it may be known to others, comes back by none of the requests that were kept.
#[test]
fn promise_4_a_former_key_does_not_come_back() {
    let mut takeover = Takeover::of(House::new());
    let victim = takeover.running.register();
    let (second, third) = (Account::unregistered(), Account::unregistered());
    let to_second = victim.key_change(&second);
    assert_eq!(takeover.ask(to_second.clone()), Ok(Answer::KeyChanged));
    let now = victim.with_key_of(&second);
    let to_third = now.key_change(&third);
    assert_eq!(takeover.ask(to_third.clone()), Ok(Answer::KeyChanged));
    let now = victim.with_key_of(&third);
    takeover.begin();
    takeover.attempt("the first change again", to_second, Unauthorized, None);
    // Not even at the account's own word: the first change could then be replayed.
    for former in [&victim, &second] {
        takeover.attempt("back to a former key", now.key_change(former), BadPublicKey, None);
    }
    // The last one changes nothing again.
    assert_eq!(takeover.ask(to_third), Ok(Answer::KeyChanged));
    let former = [&victim, &victim.with_key_of(&second)];
    for former in former {
        let finalize = former.finalize(OrderId([1; 16]), &Csr::names(&["dev.lan"]));
        takeover.attempt("an order by a former key", finalize, Unauthorized, None);
        takeover.attempt("an end by a former key", former.deactivation(), Unauthorized, None);
    }
    takeover.assert_nothing_came_of_it();
    certificate(takeover.running.finalize(&now, 1, &Csr::names(&["dev.lan"])));
}

#[test]
fn promise_4_nobody_ends_another_s_account() {
    let mut takeover = Takeover::of(House::new());
    let (victim, own) = (takeover.running.register(), takeover.running.register());
    takeover.begin();
    let url = |id: AccountId| format!("{BASE}/acme/acct/{id}");
    let deactivated = serde_json::json!({ "status": "deactivated" });
    let Question::Deactivate { jws } = own.deactivation() else { panic!() };
    let mut carried = parse(&jws);
    carried["protected"] = parse(&victim.post(&url(victim.id), &deactivated))["protected"].clone();
    let contact = serde_json::json!({ "contact": [] });
    let cases: Vec<(&str, Vec<u8>, ProblemType)> = vec![
        (
            "one's own key",
            victim.with_key_of(&own).post(&url(victim.id), &deactivated),
            Unauthorized,
        ),
        ("one's own account", own.post(&url(victim.id), &deactivated), Unauthorized),
        ("the victim's header", carried.to_string().into_bytes(), Unauthorized),
        (
            "a request of the victim's for something else",
            victim.post(&url(victim.id), &contact),
            Malformed,
        ),
        (
            "another resource of the victim's",
            victim.post(&format!("{BASE}/acme/new-order"), &deactivated),
            Unauthorized,
        ),
        ("a registration", victim.new_account(false), Malformed),
        ("nothing", Vec::new(), Malformed),
        ("too much", vec![b'{'; 100_000], Malformed),
    ];
    for (what, jws, kind) in cases {
        takeover.attempt(what, Question::Deactivate { jws }, kind, None);
    }
    takeover.assert_nothing_came_of_it();
    certificate(takeover.running.finalize(&victim, 1, &Csr::names(&["dev.lan"])));
}
