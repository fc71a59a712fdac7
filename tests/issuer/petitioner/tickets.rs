//! Theft of enrolment tickets, and of the names that are bound to them, by who sees every request that clients send.

use std::time::Duration;

use chancery::acme::problem::ProblemType::{self, *};
use chancery::acme::ticket::Secret;
use chancery::id::OrderId;
use chancery::ipc::admin::tickets::{MintedTicket, NewTicket, TicketAnswer, TicketQuestion};
use chancery::ipc::message::{Answer, Finalize, Question};

use super::{Takeover, altered};
use crate::certificate;
use crate::house::{Account, BASE, Csr, House, NOW};
use crate::revocation::{claims, issue};
use crate::tickets::{admin, list, mint_one, ticket};

const DAY: Duration = Duration::from_secs(86_400);

fn registration(payload: &serde_json::Value, by: &Account) -> Question {
    Question::Register { jws: by.new_account_of(payload) }
}

fn bound(binding: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "externalAccountBinding": binding })
}

fn used(takeover: &Takeover, ticket: &MintedTicket) -> u32 {
    let found = list(&takeover.running).into_iter().find(|status| status.ticket == ticket.ticket);
    found.unwrap().used
}

/// The account of a registration that is accepted.
fn enrolled(takeover: &Takeover, account: Account, ticket: &MintedTicket) -> Account {
    match takeover.ask(Question::Register { jws: account.with_ticket(ticket) }) {
        Ok(Answer::Account { account: id, existing: false, bound: true }) => {
            Account { id, ..account }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn promise_4_a_ticket_is_not_stolen() {
    let mut house = House::new();
    house.settings.external_account_required = true;
    let mut takeover = Takeover::of(house);
    let office = &takeover.running;
    let minted = mint_one(office, ticket(&[], &[], 9));
    let expired = NewTicket { expires: NOW.plus(DAY), ..ticket(&[], &[], 1) };
    let (expired, revoked) = (mint_one(office, expired), mint_one(office, ticket(&[], &[], 1)));
    let revoke = TicketQuestion::Revoke { ticket: revoked.ticket.clone() };
    assert_eq!(admin(office, revoke.clone()), Ok(TicketAnswer::Revoked(true)));
    assert_eq!(admin(office, revoke), Ok(TicketAnswer::Revoked(false)));
    takeover.house.clock.advance(2 * DAY);
    let victim = enrolled(&takeover, Account::unregistered(), &minted);
    takeover.begin();

    let thief = Account::unregistered();
    let (url, own) = (thief.new_account_url(), thief.jwk());
    let guessed = MintedTicket {
        ticket: minted.ticket.clone(),
        secret: Secret::generate(&mut |octets| octets.fill(7)),
    };
    let unknown = MintedTicket { ticket: "t0".into(), secret: minted.secret.clone() };
    let mut altered = thief.binding("HS256", &minted, &url, &own);
    altered["signature"] = "AAAA".into();
    // The binding of the victim, with the thief's key in its place.
    let mut swapped = thief.binding("HS256", &minted, &url, &victim.jwk());
    swapped["payload"] = thief.binding("HS256", &minted, &url, &own)["payload"].clone();
    let order = format!("{BASE}/acme/new-order");
    let cases: Vec<(&str, serde_json::Value, ProblemType)> = vec![
        ("a guessed secret", thief.binding("HS256", &guessed, &url, &own), Unauthorized),
        ("an unknown ticket", thief.binding("HS256", &unknown, &url, &own), Unauthorized),
        (
            "the victim's binding",
            thief.binding("HS256", &minted, &url, &victim.jwk()),
            Unauthorized,
        ),
        ("the same with another key in it", swapped, Unauthorized),
        ("another url", thief.binding("HS256", &minted, &order, &own), Unauthorized),
        ("no MAC", altered, Unauthorized),
        ("alg none", thief.binding("none", &minted, &url, &own), Malformed),
        ("a signature's alg", thief.binding("ES256", &minted, &url, &own), Malformed),
        ("an expired ticket", thief.binding("HS256", &expired, &url, &own), Unauthorized),
        ("a revoked ticket", thief.binding("HS256", &revoked, &url, &own), Unauthorized),
        ("no binding at all", serde_json::Value::Null, ExternalAccountRequired),
        ("a binding that is none", serde_json::json!({}), Malformed),
    ];
    for (what, binding, kind) in cases {
        takeover.attempt(what, registration(&bound(&binding), &thief), kind, None);
    }
    // A whole request of the victim's, under the thief's signature.
    let stolen: serde_json::Value = serde_json::from_slice(&victim.with_ticket(&minted)).unwrap();
    let mut forged: serde_json::Value = serde_json::from_slice(&thief.new_account(false)).unwrap();
    forged["payload"] = stolen["payload"].clone();
    let forged = Question::Register { jws: forged.to_string().into_bytes() };
    takeover.attempt("the victim's payload", forged, Unauthorized, None);
    takeover.assert_nothing_came_of_it();
    assert_eq!(used(&takeover, &minted), 1);
    for alg in ["HS256", "HS384", "HS512"] {
        let account = Account::unregistered();
        let binding = account.binding(alg, &minted, &url, &account.jwk());
        assert!(takeover.ask(registration(&bound(&binding), &account)).is_ok(), "{alg}");
    }
}

/// As many accounts as it has uses, however often the requests are replayed, and whatever became of the accounts.
#[test]
fn promise_4_a_ticket_has_no_more_uses_than_it_has() {
    let mut takeover = Takeover::of(House::new());
    let minted = mint_one(&takeover.running, ticket(&[], &[], 3));
    let (first, second) = (Account::unregistered(), Account::unregistered());
    let kept = Question::Register { jws: first.with_ticket(&minted) };
    let first = enrolled(&takeover, first, &minted);
    takeover.begin();
    for _ in 0..3 {
        let same = Answer::Account { account: first.id, existing: true, bound: true };
        assert_eq!(takeover.ask(kept.clone()), Ok(same));
    }
    takeover.assert_nothing_came_of_it();
    // Its key is changed: the request that brought it must not enrol that key a second time.
    let new = Account::unregistered();
    assert_eq!(takeover.ask(first.key_change(&new)), Ok(Answer::KeyChanged));
    takeover.begin();
    takeover.attempt("the registration of a former key", kept, BadPublicKey, None);
    takeover.assert_nothing_came_of_it();
    assert_eq!(used(&takeover, &minted), 1);
    let first = first.with_key_of(&new);
    let kept = Question::Register { jws: second.with_ticket(&minted) };
    let second = enrolled(&takeover, second, &minted);
    assert!(matches!(takeover.ask(second.deactivation()), Ok(Answer::Deactivated(_))));
    takeover.begin();
    takeover.attempt("the registration of an account that ended", kept, Unauthorized, None);
    let third = enrolled(&takeover, Account::unregistered(), &minted);
    takeover.begin();
    for _ in 0..3 {
        let jws = Account::unregistered().with_ticket(&minted);
        takeover.attempt("one use more", Question::Register { jws }, Unauthorized, None);
    }
    takeover.assert_nothing_came_of_it();
    assert_eq!(used(&takeover, &minted), 3);
    for (order, account) in [(1, &first), (2, &third)] {
        issue(&takeover.running, account, order, &["dev.lan"]);
    }
}

/// Names of a ticket, whatever the web process says was proven.
#[test]
fn promise_4_bound_names_are_not_had_by_claims() {
    let mut house = House::new();
    house.policy.wildcards = true;
    house.policy.subdomains = true;
    let mut takeover = Takeover::of(house);
    let minted = mint_one(&takeover.running, ticket(&["cam1.lan"], &["line1.lan"], 1));
    let device = enrolled(&takeover, Account::unregistered(), &minted);
    let own = takeover.running.register();
    let certified = issue(&takeover.running, &device, 1, &["cam1.lan"]);
    takeover.begin();
    let order = OrderId([7; 16]);
    let claiming = |names: &[&str], by: &Account| {
        // Proof of the name, of what is above it, of everything.
        let proofs: Vec<&str> = names.iter().map(|name| name.trim_start_matches("*.")).collect();
        let all = [&proofs[..], &["lan", "line1.lan"]].concat();
        altered(by.finalize(order, &Csr::names(names)), &|finalize: &mut Finalize| {
            finalize.validations = claims(&all);
        })
    };
    for names in [
        &["cam1.lan"][..],
        &["line1.lan"],
        &["x.line1.lan"],
        &["*.line1.lan"],
        &["*.lan"],
        &["free.lan", "cam1.lan"],
    ] {
        let what = format!("{names:?}");
        takeover.attempt(&what, claiming(names, &own), RejectedIdentifier, Some(own.id));
    }
    // Nor has the device what is not its own.
    for names in [&["cam2.lan"][..], &["*.lan"], &["lan"]] {
        let what = format!("{names:?}");
        takeover.attempt(&what, claiming(names, &device), RejectedIdentifier, Some(device.id));
    }
    // Nor is its certificate revoked by claims.
    let mut revoke = own.revoke(certified.der(), None);
    revoke.validations = claims(&["cam1.lan", "lan"]);
    let revoke = Question::Revoke(Box::new(revoke));
    takeover.attempt("a revocation by claims", revoke, Unauthorized, Some(own.id));
    takeover.assert_nothing_came_of_it();
    certificate(takeover.ask(claiming(&["x.line1.lan"], &device)));
    certificate(takeover.running.finalize(&own, 8, &Csr::names(&["free.lan"])));
}
